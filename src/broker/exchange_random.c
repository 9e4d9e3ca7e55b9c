/*
 * exchange_random: x-random: each message goes to one of the destinations, drawn anew each time,
 * whatever its routing key and the bindings' keys are [RabbitMQ: rabbitmq_random_exchange]. Two
 * bindings to a destination are one.
 *
 * All workers draw from one sequence, under the read lock: the place in it is atomic.
 */
#include "members_priv.h"

#include "lepus/base/random.h"

struct index {
    struct members *members;
    _Atomic uint64_t place;
};

static void
init(struct exchange *exchange)
{
    struct index *index = mem_new(struct index);

    index->members = members_new(NULL);
    atomic_init(&index->place, random_u64());
    exchange->index = index;
}

static void
fini(struct exchange *exchange)
{
    struct index *index = exchange->index;

    members_free(index->members);
    free(index);
    exchange->index = NULL;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct index *index = exchange->index;

    members_add(index->members, binding);
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    struct index *index = exchange->index;

    members_remove(index->members, binding);
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    struct index *index = exchange->index;
    uint64_t place;

    (void)key;
    if (index->members->n == 0)
        return;
    router->out->is_for_one = true;
    place = atomic_fetch_add_explicit(&index->place, UINT64_C(0x9E3779B97F4A7C15),
                                      memory_order_relaxed);
    route_to(router, member_binding(index->members->at[hash_mix(place) % index->members->n]));
}

static size_t
check(const struct exchange *exchange)
{
    const struct index *index = exchange->index;

    return members_check(index->members);
}

const struct exchange_type exchange_random = {
    .name = "x-random",
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
