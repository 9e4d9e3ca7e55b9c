/* channel_exchange: the exchange class: the topology does it, we answer when it is safe. */
#include "amqp_priv.h"

bool
channel_handle_exchange_declare(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct exchange_declare *m = &args->exchange_declare;
    struct exchange_spec spec = {
        .name = m->exchange,
        .type = m->type,
        .durable = m->durable,
        .auto_delete = m->auto_delete,
        .internal = m->internal,
        .arguments = m->arguments,
    };
    uint64_t ticket;

    if (!m->passive && !access_declare_exchange(ch->conn, m->exchange, m->arguments, err))
        return false;
    if (m->passive ? !topology_check_exchange(ch->conn->vhost, m->exchange, &ticket, err)
                   : !topology_declare_exchange(ch->conn->vhost, &spec, &ticket, err))
        return false;
    channel_answer(ch, ticket, m->nowait, METHOD_exchange_declare_ok, NULL);
    return true;
}

/* What nobody may delete is refused by the topology, with its reason. */
static bool
may_delete(const struct conn *c, struct view name, struct err *err)
{
    return name.len == 0 || view_has_prefix(name, VIEW_LIT("amq.")) ||
           access_exchange(c, AUTH_CONFIGURE, name, err);
}

bool
channel_handle_exchange_delete(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct exchange_delete *m = &args->exchange_delete;
    uint64_t ticket;

    if (!may_delete(ch->conn, m->exchange, err) ||
        !topology_delete_exchange(ch->conn->vhost, m->exchange, m->if_unused, &ticket, err))
        return false;
    channel_answer(ch, ticket, m->nowait, METHOD_exchange_delete_ok, NULL);
    return true;
}

static struct binding_spec
binding_of(const struct exchange_bind *m)
{
    return (struct binding_spec){
        .kind = BINDING_TO_EXCHANGE,
        .source = m->source,
        .destination = m->destination,
        .routing_key = m->routing_key,
        .arguments = m->arguments,
    };
}

bool
channel_handle_exchange_bind(struct channel *ch, const union method_args *args, struct err *err)
{
    struct binding_spec spec = binding_of(&args->exchange_bind);
    uint64_t ticket;

    if (!access_bind(ch->conn, &spec, err) ||
        !topology_bind(ch->conn->vhost, &spec, ch->conn->id, &ticket, err))
        return false;
    channel_answer(ch, ticket, args->exchange_bind.nowait, METHOD_exchange_bind_ok, NULL);
    return true;
}

bool
channel_handle_exchange_unbind(struct channel *ch, const union method_args *args, struct err *err)
{
    struct binding_spec spec = binding_of((const struct exchange_bind *)&args->exchange_unbind);
    uint64_t ticket;

    if (!access_bind(ch->conn, &spec, err) ||
        !topology_unbind(ch->conn->vhost, &spec, ch->conn->id, &ticket, err))
        return false;
    channel_answer(ch, ticket, args->exchange_unbind.nowait, METHOD_exchange_unbind_ok, NULL);
    return true;
}
