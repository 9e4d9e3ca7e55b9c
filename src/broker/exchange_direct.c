/*
 * exchange_direct: a binding matches when its key is the message's.
 *
 * The index is a hash table of keys; the bindings of one key hang from its place in a list. The
 * place borrows its key from one of them.
 */
#include "exchange_priv.h"

#include <assert.h>

struct place {
    struct map_node node;
    struct list bindings; /* never empty */
};

static void
init(struct exchange *exchange)
{
    struct map *keys = mem_new(struct map);

    map_init(keys);
    exchange->index = keys;
}

static void
fini(struct exchange *exchange)
{
    map_fini(exchange->index);
    free(exchange->index);
    exchange->index = NULL;
}

static struct place *
find(const struct exchange *exchange, struct view key)
{
    struct map_node *node = map_find(exchange->index, key);

    return node != NULL ? container_of(node, struct place, node) : NULL;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct place *place = find(exchange, binding_key(binding));

    if (place == NULL) {
        place = mem_new(struct place);
        list_init(&place->bindings);
        map_add(exchange->index, &place->node, binding_key(binding));
    }
    list_append(&place->bindings, &binding->peers);
    binding->place = place;
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    struct place *place = binding->place;

    list_remove(&binding->peers);
    if (list_is_empty(&place->bindings)) {
        map_remove(exchange->index, &place->node);
        free(place);
        return;
    }
    /* Equal octets, so the hash stays. */
    place->node.key = binding_key(container_of(place->bindings.next, struct binding, peers));
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    struct place *place = find(exchange, key);

    if (place == NULL)
        return;
    list_each (at, &place->bindings)
        route_to(router, container_of(at, struct binding, peers));
}

static size_t
check(const struct exchange *exchange)
{
    size_t n = 0;

    for (struct map_node *at = NULL; (at = map_next(exchange->index, at)) != NULL;) {
        struct place *place = container_of(at, struct place, node);
        bool key_is_alive = false;

        list_each (b, &place->bindings) {
            struct binding *binding = container_of(b, struct binding, peers);

            assert(binding->place == place && binding->source == exchange);
            assert(view_equal(binding_key(binding), place->node.key));
            key_is_alive |= binding_key(binding).at == place->node.key.at;
            n++;
        }
        assert(key_is_alive);
    }
    return n;
}

const struct exchange_type exchange_direct = {
    .name = "direct",
    .by_key = true,
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
