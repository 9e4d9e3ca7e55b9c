/*
 * topology: which vhosts, exchanges, queues and bindings there are, and where a publish goes.
 *
 * Shared by all workers and read-mostly: one read-write lock guards the whole of it, taken inside
 * these functions and nowhere else. The hot path does not come here: each worker keeps a route
 * cache (route_cache.h) whose entries are stamped with vhost_version(), and a hit takes no lock.
 * That is why one lock for all vhosts is enough.
 *
 * Nothing here hands out a pointer to an exchange or a queue: callers get numbers. Ids are never
 * reused. A queue's messages and consumers live with its home shard (queue.h); its entry here is
 * the truth about whether it exists. Home and connections meet like this:
 *
 *   - a declare makes the entry; the home makes its queue at the first command for that id that
 *     finds the entry (topology_queue_describe);
 *   - whoever removes the entry (topology_queue_remove: exactly one caller gets true) tells the
 * home; a command that still comes for the id finds neither queue nor entry and is dropped.
 *
 * So every later command of every connection sees what a function here did, as soon as it returned.
 *
 * What is durable (vhosts; durable exchanges and queues; bindings between two of these) is also
 * written to the metadata (store/metadata.h), within the lock, so that the order of its changes is
 * the order of what was true. That it is *safe* comes later: functions that change or find
 * something tell a ticket, and whoever answers -ok waits until the metadata has committed it.
 * Ticket 0: nothing to wait for. A topology without metadata keeps nothing, and every ticket is 0.
 *
 * Exchanges of some types (x-delayed-message, x-message-deduplication) have a queue of their own:
 * its id is the exchange's, it has no name and no binding, is not counted, and lives and dies with
 * the exchange. Routes may lead there; its home is told of its end by the topology
 * (topology_on_queue_gone), since many things may take an exchange away.
 *
 * Names: CR and LF are stripped from new names, as RabbitMQ does. Error texts are RabbitMQ's.
 */
#ifndef LEPUS_BROKER_TOPOLOGY_H
#define LEPUS_BROKER_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/broker/limits.h"
#include "lepus/store/metadata.h"

struct queue_ref;
struct topology;
struct vhost; /* lives as long as the topology, even when it is deleted */

/* shards: how many homes queues are spread over; shard s is on worker s % workers. Creates the
 * vhost "/" with its predeclared exchanges. */
struct topology *topology_new(unsigned shards, unsigned workers);

/* With everything that the metadata has; the vhost "/" when it never had any. Borrows the metadata,
 * whose writer does not run yet, and commits to it. NULL: a row that cannot be, or the disk. */
struct topology *topology_open(unsigned shards, unsigned workers, struct metadata *metadata,
                               struct err *err);
void topology_free(struct topology *topology);

unsigned topology_worker_of(const struct topology *topology, uint32_t shard);

/* The broker's; the topology heeds those of queues and bindings itself. */
struct limits *topology_limits(const struct topology *topology);

/* The ticket of the last change of all: what waits for it waits for whatever had been changed by
 * then, as who finds that a thing is gone already. */
uint64_t topology_last_ticket(struct topology *topology);

/* Before many things are made at once: ids for `vhosts` and `others` more, which otherwise are
 * asked for in portions, on the way, and run out when they go faster than a disk writes. Waits for
 * the disk where that is needed: not for a worker. Before the start all that waits is committed. */
bool topology_reserve_ids(struct topology *topology, size_t vhosts, size_t others, struct err *err);

/* --- vhosts ---------------------------------------------------------------------------- */

/* NULL when there is none of that name. */
struct vhost *topology_find_vhost(struct topology *topology, struct view name);

/* The same by its number. */
struct vhost *topology_find_vhost_of_id(struct topology *topology, uint32_t id);

/* Makes it, with its predeclared exchanges, or changes what its row says besides the name. The
 * row's id is ours to choose. 406: a name that cannot be. out_ticket, here and below, may be
 * NULL. */
bool topology_put_vhost(struct topology *topology, const struct metadata_vhost *row,
                        uint64_t *out_ticket, struct err *err);

/* Out of the topology with everything in it. The queues' homes are to be told (as after
 * topology_queue_remove), and the vhost's connections to be closed: declares there are refused with
 * 320 from now on. *out_queues is the caller's to free. 404 when there is none. */
bool topology_delete_vhost(struct topology *topology, struct view name, uint32_t *out_id,
                           struct queue_ref **out_queues, size_t *out_n, uint64_t *out_ticket,
                           struct err *err);

const char *vhost_name(const struct vhost *vhost); /* NUL-terminated */
uint32_t vhost_id(const struct vhost *vhost);

/* Grows with every change that can change a route in the vhost. Starts at 1. */
uint64_t vhost_version(const struct vhost *vhost);

/* Whatever was remembered of routes in any vhost, and with it of who may use them, is void from now
 * on. */
void topology_outdate_routes(struct topology *topology);

/* A new name, as declares take it: without CR and LF. Names have up to 255 octets; `room` may be
 * pointed to by the answer. */
struct view topology_clean_name(struct view name, char room[255]);

/* --- exchanges ------------------------------------------------------------------------- */

struct exchange_spec {
    struct view name;
    struct view type; /* direct, fanout, topic, headers, x-consistent-hash, ... */
    bool durable, auto_delete, internal;
    struct view arguments; /* a checked table; alternate-exchange is read from it */
};

/* Declares, or finds an equivalent one. 403 for "" and for new amq.* names, 406 for an unknown
 * type or an inequivalent one (the first differing property named, in RabbitMQ's order). */
bool topology_declare_exchange(struct vhost *vhost, const struct exchange_spec *spec,
                               uint64_t *out_ticket, struct err *err);

/* Passive declare: 404 when missing, 403 for "". */
bool topology_check_exchange(struct vhost *vhost, struct view name, uint64_t *out_ticket,
                             struct err *err);

/* Whether there is one of that name, and of that type. */
bool topology_exchange_has_type(struct vhost *vhost, struct view name, struct view type);

/* Missing is fine. 403 for the default and amq.*, 406 "in use" with if_unused. */
bool topology_delete_exchange(struct vhost *vhost, struct view name, bool if_unused,
                              uint64_t *out_ticket, struct err *err);

/* --- queues ---------------------------------------------------------------------------- */

enum queue_type { QUEUE_CLASSIC, QUEUE_QUORUM, QUEUE_STREAM };

/* Where a queue is. */
struct queue_ref {
    uint64_t id; /* 0: none */
    uint32_t shard;
};

struct queue_spec {
    struct view name; /* "": named by the server, amq.gen-... */
    bool durable, auto_delete, exclusive;
    bool may_be_reserved; /* amq.* is fine: an import brings back what a server once named */
    bool is_generated;    /* who declares it asked for "", and this is the name that it gets */
    bool is_typed; /* without x-queue-type it is a classic one, whatever the vhost's default */
    struct view arguments; /* a checked table */
};

enum queue_declare_result { QUEUE_FAILED, QUEUE_CREATED, QUEUE_FOUND };

/* What a declare or a lookup found. */
struct queue_found {
    struct queue_ref ref;
    char name[256];  /* as it is now called, NUL-terminated */
    size_t name_len; /* a name may hold NULs of its own */
    uint64_t owner;  /* of an exclusive queue: also filled when it failed with 405 */
    bool durable;
    enum queue_type type;
    uint64_t ticket; /* of a durable one: what made it */
};

/*
 * Declares for the connection `connection` (an id that is never reused) on worker `worker`, or
 * finds an equivalent queue. Exclusive queues get a shard of that worker when there is one, others
 * one by their name's hash. 403 reserved name; 405 another connection's exclusive queue, or the
 * exclusive flag differs; 406 inequivalent or invalid arguments, or as many queues as may be.
 */
enum queue_declare_result topology_declare_queue(struct vhost *vhost, const struct queue_spec *spec,
                                                 uint64_t connection, unsigned worker,
                                                 struct queue_found *out, struct err *err);

/* By name, for passive declare, consume, get, purge, delete, bind: 404; 405 when it is another
 * connection's exclusive queue. */
bool topology_find_queue(struct vhost *vhost, struct view name, uint64_t connection,
                         struct queue_found *out, struct err *err);

/* Everything a home needs to make its queue. The copies are the caller's: see _fini. */
struct queue_description {
    struct queue_ref ref;
    struct vhost *vhost;
    char *name; /* NUL-terminated */
    size_t name_len;
    bool durable, auto_delete, exclusive;
    enum queue_type type;
    uint64_t owner;
    uint8_t *arguments; /* a checked table's octets */
    size_t arguments_len;
    uint8_t *policy; /* what policies say of it (policy.h), likewise */
    size_t policy_len;
    uint64_t ticket; /* of a durable one: until that is safe, no message in it is */
    bool delays;     /* an exchange's own queue (delay.h): name and arguments are the exchange's */
    bool passes_on;  /* likewise: of one that deduplicates */
};

bool topology_queue_describe(struct topology *topology, uint64_t id, struct queue_description *out);
void queue_description_fini(struct queue_description *description);

/* Under the read lock: each must not come back here. */
void topology_each_durable_queue(struct topology *topology, void (*each)(void *arg, uint64_t id),
                                 void *arg);

/* The same for all queues of one vhost. */
void topology_each_queue(struct vhost *vhost,
                         void (*each)(void *arg, const struct queue_ref *queue), void *arg);

/* An exchange went, and its own queue with it. Called under the write lock: must not come back. */
typedef void topology_queue_gone_fn(void *arg, struct queue_ref queue);

/* Before the workers start. */
void topology_on_queue_gone(struct topology *topology, topology_queue_gone_fn *gone, void *arg);

/* Removes the entry and all bindings to it, and the auto-delete exchanges that this leaves
 * unbound. True for the one caller that removed it. */
bool topology_queue_remove(struct topology *topology, uint64_t id);

/* --- bindings -------------------------------------------------------------------------- */

enum binding_kind { BINDING_TO_QUEUE, BINDING_TO_EXCHANGE };

struct binding_spec {
    enum binding_kind kind;
    struct view source, destination, routing_key;
    struct view arguments; /* a checked table */
    bool is_told_in_json;  /* so one that is there is the same when JSON tells it alike */
};

/* Idempotent both ways: to bind what is bound, or to unbind what is not, is fine. 403 when the
 * default exchange takes part, 404 when source or destination of a new binding is missing, 405 for
 * another connection's exclusive queue, 406 bad arguments, or as many bindings as may be. Two
 * bindings that differ in key or arguments alone are two. */
bool topology_bind(struct vhost *vhost, const struct binding_spec *spec, uint64_t connection,
                   uint64_t *out_ticket, struct err *err);
bool topology_unbind(struct vhost *vhost, const struct binding_spec *spec, uint64_t connection,
                     uint64_t *out_ticket, struct err *err);

/* --- routing --------------------------------------------------------------------------- */

/* The queues a message goes to, each once, ordered by the worker of their shard. */
struct route {
    struct queue_ref *targets;
    size_t count, size;
    uint32_t n_own;  /* of the targets: exchanges' own queues */
    bool is_for_one; /* message: its properties, or dice, had a say. Not to be cached */
};

void route_init(struct route *route);
void route_fini(struct route *route);

/*
 * Follows the bindings from `exchange` for the first key and all `more` (CC, BCC), through
 * exchange-to-exchange bindings and alternate exchanges, cycles cut. `properties` are
 * checked ones, maybe empty. The earlier contents of *out are replaced; no target is not an error.
 * 404 no exchange; 403 it is internal.
 */
bool topology_route(struct vhost *vhost, struct view exchange, struct view routing_key,
                    const struct view *more, size_t n_more, struct view properties,
                    struct route *out, struct err *err);

/* The same for a dead letter, which may go to an internal exchange, too. */
bool topology_route_dead(struct vhost *vhost, struct view exchange, struct view routing_key,
                         const struct view *more, size_t n_more, struct view properties,
                         struct route *out, struct err *err);

/* The same from an exchange that has a queue of its own, for a message out of that queue. False: it
 * is gone. */
bool topology_route_own(struct topology *topology, uint64_t exchange, struct view routing_key,
                        const struct view *more, size_t n_more, struct view properties,
                        struct route *out);

/* --- looking --------------------------------------------------------------------------- */

struct topology_counts {
    size_t exchanges, queues, bindings; /* default-exchange bindings are not counted */
};

void topology_count(struct topology *topology, struct topology_counts *out);

/* Tests: topology_route that also counts what was looked at: exchanges, nodes of a trie once a
 * word, bindings of a headers exchange. out_visited may be NULL. */
bool topology_route_visiting(struct vhost *vhost, struct view exchange, struct view routing_key,
                             const struct view *more, size_t n_more, struct view properties,
                             struct route *out, size_t *out_visited, struct err *err);

/* Tests: recounts every index against every other; aborts when something is wrong. */
void topology_check(struct topology *topology);

#endif
