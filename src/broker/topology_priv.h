/*
 * topology_priv: what the topology's files know of each other.
 *
 * topology.c makes and frees it, exchange.c and directory.c own the exchanges' and queues'
 * entries, binding.c the bindings, router.c reads them all. The exchange types (exchange_priv.h)
 * keep one index each and know nothing of names, locks or errors.
 *
 * A change is made under the write lock and ends with topology_changed; a look is made under the
 * read lock. Functions of this header want the lock held, as their comments say.
 */
#ifndef BROKER_TOPOLOGY_PRIV_H
#define BROKER_TOPOLOGY_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "lepus/base/list.h"
#include "lepus/base/map.h"
#include "lepus/broker/topology.h"

struct exchange;

struct topology {
    pthread_rwlock_t lock;
    unsigned shards, workers;
    struct map vhosts;
    uint32_t last_vhost;
    uint64_t last_id;    /* of queues and exchanges alike: never reused */
    struct idmap queues; /* of all vhosts, by id */
    struct topology_counts counts;
};

struct vhost {
    struct map_node node; /* of topology.vhosts */
    struct topology *topology;
    uint32_t id;
    _Atomic uint64_t version;
    struct map exchanges, queues; /* by name */
    struct map bindings;          /* by what makes two bindings the same one: see binding.c */
    struct exchange *nameless;    /* the default exchange */
    char name[];
};

struct queue_entry {
    struct map_node node; /* of vhost.queues */
    struct queue_ref ref;
    struct vhost *vhost;
    uint64_t owner;         /* the connection of an exclusive queue, else 0 */
    struct list bound;      /* bindings to it */
    uint32_t arguments_len; /* they stand behind the name and its NUL */
    uint8_t name_len;
    bool durable, auto_delete;
    char name[];
};

static inline struct view
queue_entry_name(const struct queue_entry *queue)
{
    return view_of(queue->name, queue->name_len);
}

static inline struct view
queue_entry_arguments(const struct queue_entry *queue)
{
    return view_of(queue->name + queue->name_len + 1, queue->arguments_len);
}

void topology_read_lock(struct topology *topology);
void topology_write_lock(struct topology *topology);
void topology_unlock(struct topology *topology);

/* Write lock held: whatever was remembered of the vhost's routes is void from now on. */
void topology_changed(struct vhost *vhost);

/* Names lose CR and LF, as RabbitMQ does it. `room` may be pointed to by the answer. */
enum { NAME_MAX_LEN = 255 };
struct view name_clean(struct view name, char room[NAME_MAX_LEN]);

/* Whether it begins with "amq.". */
bool name_is_reserved(struct view name);

/* Read lock held; NULL when there is none. */
struct exchange *vhost_find_exchange(const struct vhost *vhost, struct view name);
struct queue_entry *vhost_find_queue(const struct vhost *vhost, struct view name);

/* Write lock held: "" and amq.*, which nobody may declare. */
void vhost_make_predeclared(struct vhost *vhost);

/* False with 405 when it is another connection's exclusive queue. */
bool queue_entry_may_use(const struct queue_entry *queue, uint64_t connection, struct err *err);

bool err_default_exchange(struct err *err); /* 403 */
bool err_no_exchange(struct err *err, const struct vhost *vhost, struct view name);
bool err_no_queue(struct err *err, const struct vhost *vhost, struct view name);

#endif
