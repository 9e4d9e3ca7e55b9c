/* exchange_fanout: every binding matches. The source's list of bindings is all it needs. */
#include "exchange_priv.h"

static void
init(struct exchange *exchange)
{
    exchange->index = NULL;
}

static void
fini(struct exchange *exchange)
{
    (void)exchange;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    (void)exchange;
    (void)binding;
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    (void)exchange;
    (void)binding;
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    (void)key;
    list_each (at, &exchange->from)
        route_to(router, container_of(at, struct binding, from));
}

static size_t
check(const struct exchange *exchange)
{
    size_t n = 0;

    list_each (at, &exchange->from)
        n++;
    return n;
}

const struct exchange_type exchange_fanout = {
    .name = "fanout",
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
