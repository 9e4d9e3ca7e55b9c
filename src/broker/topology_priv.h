/*
 * topology_priv: what the topology's files know of each other.
 *
 * topology.c makes and frees it, durable.c writes it down and reads it back, exchange.c and
 * directory.c own the exchanges' and queues' entries, binding.c the bindings, router.c reads them
 * all. The exchange types (exchange_priv.h) keep one index each and know nothing of names, locks or
 * errors.
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

struct binding;
struct exchange;
struct policy_spec;

struct topology {
    pthread_rwlock_t lock;
    unsigned shards, workers;
    struct map vhosts;
    struct list former_vhosts; /* deleted ones: connections may still point there */
    uint32_t last_vhost;
    uint64_t last_id;                  /* of queues and exchanges alike: never reused */
    struct idmap queues;               /* of all vhosts, by id */
    struct idmap exchanges_with_queue; /* likewise: those that have one of their own */
    topology_queue_gone_fn *queue_gone;
    void *queue_gone_arg;
    struct topology_counts counts;
    struct limits *limits;

    bool merges_policies;
    struct {
        void (*changed)(void *arg, struct vhost *vhost);
        void *arg;
    } policies; /* who listens */

    struct metadata *metadata; /* NULL: nothing is durable */
    uint64_t last_ticket;
    struct {                  /* ids that were never given out by an earlier process */
        uint64_t safe, asked; /* up to here; up to there, when the ticket is safe */
        uint64_t ticket;
    } ids;
};

struct vhost {
    struct map_node node; /* of topology.vhosts */
    struct topology *topology;
    uint32_t id;
    _Atomic uint64_t version;
    bool is_deleted;
    struct list former;           /* of topology.former_vhosts */
    struct map exchanges, queues; /* by name */
    struct map bindings;          /* by what makes two bindings the same one: see binding.c */
    struct exchange *nameless;    /* the default exchange */
    struct list policies;         /* highest priority first */
    const char *default_type;     /* of new queues, or NULL: classic */
    char name[];
};

struct queue_entry {
    struct map_node node; /* of vhost.queues */
    struct queue_ref ref;
    struct vhost *vhost;
    uint64_t owner;         /* the connection of an exclusive queue, else 0 */
    uint64_t ticket;        /* what made a durable one; 0: it was read at the start */
    struct list bound;      /* bindings to it */
    uint32_t arguments_len; /* they stand behind the name and its NUL */
    uint8_t name_len;
    bool durable, auto_delete;
    enum queue_type type;
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

/* Write lock held: makes it, empty. */
struct vhost *vhost_make(struct topology *topology, uint32_t id, struct view name);

/* Write lock held. A type that there is not is none. */
void vhost_set_default_type(struct vhost *vhost, struct view type);

/* Write lock held: those of "" and amq.*, which nobody may declare, that are not there yet. */
void vhost_make_predeclared(struct vhost *vhost);
enum { PREDECLARED_MAX = 16 };

/* Write lock held: 320 when the vhost was deleted. */
bool vhost_may_declare(struct vhost *vhost, struct err *err);

/* --- durable.c: with the write lock held ------------------------------------------------- */

/* Whether n more ids can be given out; 541 while the metadata cannot be written. */
bool durable_has_ids(struct topology *topology, unsigned n, struct err *err);

/* topology.c: without any vhost. */
struct topology *topology_make(unsigned shards, unsigned workers, struct metadata *metadata);

void durable_add_vhost(struct topology *topology, const struct metadata_vhost *row);
void durable_remove_vhost(struct topology *topology, uint32_t id);

/* Each gives the ticket of the change; 0 when the thing is not durable. */
uint64_t durable_add_exchange(const struct exchange *exchange);
uint64_t durable_remove_exchange(const struct exchange *exchange);
uint64_t durable_add_queue(const struct queue_entry *queue);
uint64_t durable_remove_queue(const struct queue_entry *queue);
uint64_t durable_add_binding(const struct binding *binding);
uint64_t durable_remove_binding(const struct binding *binding);
uint64_t durable_add_policy(struct vhost *vhost, const struct policy_spec *spec);
uint64_t durable_remove_policy(struct vhost *vhost, bool is_operator, struct view name);

/* What a removal has to wait for, that began when topology.last_ticket was `before`: it may take
 * durable things with it, whether what it removes is durable or not. */
static inline uint64_t
ticket_since(const struct topology *topology, uint64_t before)
{
    return topology->last_ticket != before ? topology->last_ticket : 0;
}

/* As they were written down; views are borrowed for the call. False: it cannot be. */
bool exchange_restore(struct vhost *vhost, const struct metadata_exchange *row,
                      struct exchange **out, struct err *err);
bool queue_entry_restore(struct vhost *vhost, const struct metadata_queue *row, struct err *err);
bool binding_restore(const struct binding *ends, const struct metadata_binding *row,
                     struct err *err);

/* Write lock held: what policies say of the vhost's exchanges may have changed. */
void exchanges_take_policies(struct vhost *vhost);

/* Write lock held: takes the queue out of the topology, its id's place included. */
void queue_entry_remove(struct queue_entry *queue);

static inline void
tell_ticket(uint64_t *out, uint64_t ticket)
{
    if (out != NULL)
        *out = ticket;
}

/* False with 405 when it is another connection's exclusive queue. */
bool queue_entry_may_use(const struct queue_entry *queue, uint64_t connection, struct err *err);

bool err_default_exchange(struct err *err); /* 403 */
bool err_no_exchange(struct err *err, const struct vhost *vhost, struct view name);
bool err_no_queue(struct err *err, const struct vhost *vhost, struct view name);

#endif
