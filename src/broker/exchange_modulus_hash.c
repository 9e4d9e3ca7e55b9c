/*
 * exchange_modulus_hash: x-modulus-hash: each message goes to the destination whose number is the
 * hash of its routing key, modulo how many there are. Destinations are numbered in order of their
 * names; what a binding's key and arguments say does not matter, and two bindings to a destination
 * are one [RabbitMQ: rabbitmq_sharding].
 */
#include "members_priv.h"

static void
init(struct exchange *exchange)
{
    exchange->index = members_new(NULL);
}

static void
fini(struct exchange *exchange)
{
    members_free(exchange->index);
    exchange->index = NULL;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    members_add(exchange->index, binding);
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    members_remove(exchange->index, binding);
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    const struct members *members = exchange->index;

    if (members->n > 0)
        route_to(router, member_binding(members->at[stable_hash(key, 0) % members->n]));
}

static size_t
check(const struct exchange *exchange)
{
    return members_check(exchange->index);
}

const struct exchange_type exchange_modulus_hash = {
    .name = "x-modulus-hash",
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
