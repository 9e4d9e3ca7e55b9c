/*
 * router: where a message goes.
 *
 * The exchanges on the way are asked one after another; the list of those seen is also the line
 * of those to be asked, so each is asked once and cycles end. An exchange whose bindings match
 * nothing passes on to its alternate exchange. (A binding to another exchange counts as a match
 * even when nothing comes of it there: RabbitMQ's rule.)
 *
 * What is collected under the read lock may name a queue more than once; it is put in order
 * after the lock is left.
 */
#include "exchange_priv.h"

#include <assert.h>

enum { SEEN_FEW = sizeof(((struct router *)NULL)->few) / sizeof(struct exchange *) };

void
route_init(struct route *route)
{
    *route = (struct route){0};
}

void
route_fini(struct route *route)
{
    free(route->targets);
    *route = (struct route){0};
}

static void
add_target(struct route *route, const struct queue_ref *queue)
{
    if (route->count == route->size) {
        size_t size = route->size > 0 ? 2 * route->size : 4;

        route->targets = mem_resize(route->targets, size * sizeof(struct queue_ref));
        route->size = size;
    }
    route->targets[route->count++] = *queue;
}

/* --- the exchanges on the way -------------------------------------------------------------- */

static bool
was_seen(const struct router *router, const struct exchange *exchange)
{
    if (router->n_seen > SEEN_FEW)
        return idmap_find(&router->seen_ids, exchange->id) != NULL;
    for (size_t i = 0; i < router->n_seen; i++)
        if (router->seen[i] == exchange)
            return true;
    return false;
}

static void
grow_seen(struct router *router)
{
    bool is_first = router->seen == router->few;
    size_t size = 2 * router->size;

    router->seen = mem_resize(is_first ? NULL : router->seen, size * sizeof(struct exchange *));
    router->size = size;
    if (!is_first)
        return;
    memcpy(router->seen, router->few, sizeof(router->few));
    for (size_t i = 0; i < router->n_seen; i++)
        idmap_add(&router->seen_ids, router->seen[i]->id, (void *)(uintptr_t)1);
}

static void
see(struct router *router, const struct exchange *exchange)
{
    if (was_seen(router, exchange))
        return;
    if (router->n_seen == router->size)
        grow_seen(router);
    if (router->n_seen >= SEEN_FEW)
        idmap_add(&router->seen_ids, exchange->id, (void *)(uintptr_t)1);
    router->seen[router->n_seen++] = exchange;
}

static void
router_init(struct router *router, struct route *out, struct view properties)
{
    router->out = out;
    router->properties = properties;
    router->seen = router->few;
    router->n_seen = 0;
    router->size = SEEN_FEW;
    idmap_init(&router->seen_ids);
    router->out_of = NULL;
    router->n_matched = 0;
    router->n_visited = 0;
    out->count = 0;
    out->is_for_one = false;
    out->n_own = 0;
}

static void
router_fini(struct router *router)
{
    if (router->seen != router->few)
        free(router->seen);
    idmap_fini(&router->seen_ids);
}

void
route_to(struct router *router, const struct binding *binding)
{
    router->n_matched++;
    if (binding->to_exchange)
        see(router, binding->to_a.exchange);
    else
        add_target(router->out, &binding->to_a.queue->ref);
}

void
route_to_queue(struct router *router, const struct queue_ref *queue)
{
    router->n_matched++;
    add_target(router->out, queue);
}

/* --- asking -------------------------------------------------------------------------------- */

/* The first key and those of CC and BCC. */
struct keys {
    struct view first;
    const struct view *more;
    size_t n_more;
};

/* Every queue is bound to the default exchange by its name: the directory is that exchange. */
static void
ask_directory(const struct vhost *vhost, struct view key, struct router *router)
{
    const struct queue_entry *queue = vhost_find_queue(vhost, key);

    if (queue == NULL)
        return;
    route_to_queue(router, &queue->ref);
}

static void
ask_for_key(const struct exchange *exchange, struct view key, struct router *router)
{
    if (exchange == exchange->vhost->nameless)
        ask_directory(exchange->vhost, key, router);
    else
        exchange->acts_as->route(exchange, key, router);
}

static void
ask(const struct exchange *exchange, const struct keys *keys, struct router *router)
{
    size_t matched = router->n_matched;

    router->n_visited++;
    if (exchange->type->divert != NULL && exchange != router->out_of &&
        exchange->type->divert(exchange, router)) {
        router->out->n_own++;
        return;
    }
    ask_for_key(exchange, keys->first, router);
    for (size_t i = 0; exchange->acts_as->by_key && i < keys->n_more; i++)
        ask_for_key(exchange, keys->more[i], router);
    if (router->n_matched > matched || !exchange->has_alternate)
        return;
    exchange = vhost_find_exchange(exchange->vhost, exchange->alternate);
    if (exchange != NULL)
        see(router, exchange);
}

/* --- each once, in order ------------------------------------------------------------------- */

static void
drop_repeated_few(struct route *route)
{
    size_t kept = 0;

    for (size_t i = 0; i < route->count; i++) {
        size_t j = 0;

        while (j < kept && route->targets[j].id != route->targets[i].id)
            j++;
        if (j == kept)
            route->targets[kept++] = route->targets[i];
    }
    route->count = kept;
}

static void
drop_repeated_many(struct route *route)
{
    size_t size = 64, kept = 0;
    uint64_t *ids; /* a hash table: 0 is free */

    while (size < 2 * route->count)
        size *= 2;
    ids = mem_alloc_zero(size * sizeof(uint64_t));
    for (size_t i = 0; i < route->count; i++) {
        size_t slot = idmap_slot(route->targets[i].id, size - 1);

        while (ids[slot] != 0 && ids[slot] != route->targets[i].id)
            slot = (slot + 1) & (size - 1);
        if (ids[slot] == 0) {
            ids[slot] = route->targets[i].id;
            route->targets[kept++] = route->targets[i];
        }
    }
    free(ids);
    route->count = kept;
}

static bool
is_in_order(const struct topology *topology, const struct route *route)
{
    for (size_t i = 1; i < route->count; i++)
        if (topology_worker_of(topology, route->targets[i - 1].shard) >
            topology_worker_of(topology, route->targets[i].shard))
            return false;
    return true;
}

/* A counting sort by worker. */
static void
order_by_worker(const struct topology *topology, struct route *route)
{
    struct queue_ref *sorted;
    size_t *starts, start = 0;

    if (is_in_order(topology, route))
        return;
    starts = mem_alloc_zero(topology->workers * sizeof(size_t));
    sorted = mem_alloc(route->count * sizeof(struct queue_ref));
    for (size_t i = 0; i < route->count; i++)
        starts[topology_worker_of(topology, route->targets[i].shard)]++;
    for (unsigned worker = 0; worker < topology->workers; worker++) {
        size_t n = starts[worker];

        starts[worker] = start;
        start += n;
    }
    for (size_t i = 0; i < route->count; i++)
        sorted[starts[topology_worker_of(topology, route->targets[i].shard)]++] = route->targets[i];
    free(starts);
    free(route->targets);
    route->targets = sorted;
    route->size = route->count;
}

static void
put_in_order(const struct topology *topology, struct route *route)
{
    if (route->count <= 1)
        return;
    if (route->count <= 16)
        drop_repeated_few(route);
    else
        drop_repeated_many(route);
    order_by_worker(topology, route);
}

/* --- the whole ----------------------------------------------------------------------------- */

static void
follow(const struct exchange *exchange, const struct keys *keys, struct router *router)
{
    see(router, exchange);
    for (size_t i = 0; i < router->n_seen; i++)
        ask(router->seen[i], keys, router);
}

static bool
route_locked(struct vhost *vhost, struct view name, bool may_be_internal, const struct keys *keys,
             struct router *router, struct err *err)
{
    const struct exchange *exchange =
        name.len == 0 ? vhost->nameless : vhost_find_exchange(vhost, name);

    if (exchange == NULL)
        return err_no_exchange(err, vhost, name);
    if (exchange->internal && !may_be_internal)
        return err_set(err, ACCESS_REFUSED,
                       "cannot publish to internal exchange '" VIEW_FMT "' in vhost '%s'",
                       VIEW_ARG(name), vhost->name);
    follow(exchange, keys, router);
    return true;
}

static bool
route(struct vhost *vhost, struct view exchange, bool may_be_internal, const struct keys *keys,
      struct view properties, struct route *out, size_t *out_visited, struct err *err)
{
    struct router router;
    bool ok;

    router_init(&router, out, properties);
    topology_read_lock(vhost->topology);
    ok = route_locked(vhost, exchange, may_be_internal, keys, &router, err);
    topology_unlock(vhost->topology);
    if (ok)
        put_in_order(vhost->topology, out);
    if (out_visited != NULL)
        *out_visited = router.n_visited;
    router_fini(&router);
    return ok;
}

bool
topology_route_visiting(struct vhost *vhost, struct view exchange, struct view routing_key,
                        const struct view *more, size_t n_more, struct view properties,
                        struct route *out, size_t *out_visited, struct err *err)
{
    struct keys keys = {routing_key, more, n_more};

    return route(vhost, exchange, false, &keys, properties, out, out_visited, err);
}

bool
topology_route(struct vhost *vhost, struct view exchange, struct view routing_key,
               const struct view *more, size_t n_more, struct view properties, struct route *out,
               struct err *err)
{
    return topology_route_visiting(vhost, exchange, routing_key, more, n_more, properties, out,
                                   NULL, err);
}

bool
topology_route_dead(struct vhost *vhost, struct view exchange, struct view routing_key,
                    const struct view *more, size_t n_more, struct view properties,
                    struct route *out, struct err *err)
{
    struct keys keys = {routing_key, more, n_more};

    return route(vhost, exchange, true, &keys, properties, out, NULL, err);
}

bool
topology_route_own(struct topology *topology, uint64_t exchange, struct view routing_key,
                   const struct view *more, size_t n_more, struct view properties,
                   struct route *out)
{
    struct keys keys = {routing_key, more, n_more};
    const struct exchange *found;
    struct router router;

    router_init(&router, out, properties);
    topology_read_lock(topology);
    found = idmap_find(&topology->exchanges_with_queue, exchange);
    router.out_of = found;
    if (found != NULL)
        follow(found, &keys, &router);
    topology_unlock(topology);
    put_in_order(topology, out);
    router_fini(&router);
    return found != NULL;
}
