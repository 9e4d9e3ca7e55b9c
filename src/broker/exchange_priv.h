/*
 * exchange_priv: exchanges, their bindings, and what an exchange type is.
 *
 * A binding is one block of memory that stands in four places at once: in its vhost by
 * identity, in its source's list, in its destination's list, and in the index of its source's
 * type. binding_remove takes it out of all four and is the only function that does.
 *
 * An exchange type keeps the index and answers "who gets this key?" by calling route_to for
 * each binding that matches. It may name a destination more than once.
 */
#ifndef BROKER_EXCHANGE_PRIV_H
#define BROKER_EXCHANGE_PRIV_H

#include "topology_priv.h"

struct binding;
struct router;

struct exchange_type {
    const char *name;
    const char *argument; /* one that two declares must agree on, or NULL */
    bool by_key;          /* false: route is called once, whatever the number of keys */

    /* The arguments of a new exchange, the key and the arguments of a new binding: 406. NULL: any
     * will do. */
    bool (*check_declare)(struct view arguments, struct err *err);
    bool (*check_key)(struct view key, struct err *err);
    bool (*check_arguments)(struct view arguments, struct err *err);

    /* Types that do something before another type routes: that other type, by checked arguments;
     * and whether the message at hand goes elsewhere. The exchange has a queue of its own, and of
     * the functions below the other type's are called. NULL, both: an ordinary type. */
    const struct exchange_type *(*acts_as)(struct view arguments);
    bool (*divert)(const struct exchange *exchange, struct router *router);
    bool passes_on; /* what is in its own queue leaves at once */

    /* The index: exchange.index is the type's. */
    void (*init)(struct exchange *exchange);
    void (*fini)(struct exchange *exchange); /* with no binding left */
    void (*bind)(struct exchange *exchange, struct binding *binding);
    void (*unbind)(struct exchange *exchange, struct binding *binding);
    void (*route)(const struct exchange *exchange, struct view key, struct router *router);

    /* Tests: asserts what it can of the index, and counts the bindings in it. */
    size_t (*check)(const struct exchange *exchange);
};

extern const struct exchange_type exchange_direct, exchange_fanout, exchange_topic,
    exchange_headers, exchange_consistent_hash, exchange_modulus_hash, exchange_random,
    exchange_delayed, exchange_deduplicating;

/* NULL when there is no such type. */
const struct exchange_type *exchange_type_find(struct view name);

struct exchange {
    struct map_node node; /* of vhost.exchanges */
    uint64_t id;
    struct vhost *vhost;
    const struct exchange_type *type;    /* as it was declared */
    const struct exchange_type *acts_as; /* whose index it has: mostly the same */
    void *index;
    struct list from, to;  /* bindings from it, bindings to it */
    size_t n_from;         /* bindings from it */
    struct list condemned; /* while its deletion waits: see exchange_remove */
    bool durable, auto_delete, internal, predeclared;
    bool has_alternate;
    struct view alternate;  /* in the arguments, or in policy_alternate */
    char *policy_alternate; /* owned; NULL: the arguments have one, or there is none */
    uint32_t arguments_len; /* they stand behind the name and its NUL */
    uint8_t name_len;
    uint64_t ticket; /* what made a durable one; 0: it was read at the start */
    char name[];
};

static inline struct view
exchange_name(const struct exchange *exchange)
{
    return view_of(exchange->name, exchange->name_len);
}

static inline struct view
exchange_arguments(const struct exchange *exchange)
{
    return view_of(exchange->name + exchange->name_len + 1, exchange->arguments_len);
}

/* Whether it has a queue of its own (topology.h). */
static inline bool
exchange_has_queue(const struct exchange *exchange)
{
    return exchange->type->acts_as != NULL;
}

static inline struct queue_ref
exchange_queue(const struct exchange *exchange)
{
    return (struct queue_ref){exchange->id,
                              (uint32_t)(exchange->id % exchange->vhost->topology->shards)};
}

/* Write lock held: unbinds and frees it, and whichever auto-delete exchanges that leaves without a
 * binding from them. */
void exchange_remove(struct exchange *exchange);

struct binding {
    struct map_node node; /* of vhost.bindings; its key is the identity below */
    struct list from, to; /* the source's list, the destination's list */
    struct list peers;    /* the type's: those of the same place in its index */
    struct exchange *source;
    union {
        struct queue_entry *queue;
        struct exchange *exchange;
    } to_a;
    void *place;            /* the type's: where in its index it stands */
    uint64_t ticket;        /* what made a durable one; 0: it was read at the start */
    uint32_t arguments_len; /* sorted by name */
    uint8_t key_len;
    bool to_exchange;
    uint8_t detail; /* the type's: what it read from the arguments */
    uint8_t identity[];
};

/* In front of the key in the identity: the ids of source and destination, the key's length. */
enum { IDENTITY_HEAD = 2 * sizeof(uint64_t) + 1 };

static inline struct view
binding_key(const struct binding *binding)
{
    return view_of(binding->identity + IDENTITY_HEAD, binding->key_len);
}

static inline struct view
binding_arguments(const struct binding *binding)
{
    return view_of(binding->identity + IDENTITY_HEAD + binding->key_len, binding->arguments_len);
}

/* Durable are those between two that are. */
static inline bool
binding_is_durable(const struct binding *binding)
{
    return binding->source->durable &&
           (binding->to_exchange ? binding->to_a.exchange->durable : binding->to_a.queue->durable);
}

/* Write lock held: takes it out of all places and frees it. When its source is an auto-delete
 * exchange that has no binding left, that one is appended to `condemned`. */
void binding_remove(struct binding *binding, struct list *condemned);

/* Write lock held: removes the condemned exchanges, and those they condemn. */
void exchanges_execute(struct list *condemned);

/* --- routing (router.c) ------------------------------------------------------------------ */

/* A route under way. The exchanges seen are also the line of those still to be asked. */
struct router {
    struct route *out;
    struct view properties; /* the message's, checked */
    const struct exchange **seen;
    size_t n_seen, size;
    struct idmap seen_ids;         /* only once there are many */
    const struct exchange *out_of; /* the message comes out of its own queue; or NULL */
    size_t n_matched;              /* bindings that matched, ever */
    size_t n_visited; /* exchanges and places of an index looked at: what tests count */
    const struct exchange *few[16];
};

/* This binding matches. */
void route_to(struct router *router, const struct binding *binding);

/* The same of a binding to this queue. */
void route_to_queue(struct router *router, const struct queue_ref *queue);

#endif
