/* channel_exchange: the exchange class: the topology does it, we answer. */
#include "amqp_priv.h"

static bool
ok_unless(struct channel *ch, bool nowait, enum method method)
{
    if (!nowait)
        channel_send(ch, method, NULL);
    return true;
}

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

    if (m->passive ? !topology_check_exchange(ch->conn->vhost, m->exchange, err)
                   : !topology_declare_exchange(ch->conn->vhost, &spec, err))
        return false;
    return ok_unless(ch, m->nowait, METHOD_exchange_declare_ok);
}

bool
channel_handle_exchange_delete(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct exchange_delete *m = &args->exchange_delete;

    if (!topology_delete_exchange(ch->conn->vhost, m->exchange, m->if_unused, err))
        return false;
    return ok_unless(ch, m->nowait, METHOD_exchange_delete_ok);
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

    if (!topology_bind(ch->conn->vhost, &spec, ch->conn->id, err))
        return false;
    return ok_unless(ch, args->exchange_bind.nowait, METHOD_exchange_bind_ok);
}

bool
channel_handle_exchange_unbind(struct channel *ch, const union method_args *args, struct err *err)
{
    struct binding_spec spec = binding_of((const struct exchange_bind *)&args->exchange_unbind);

    if (!topology_unbind(ch->conn->vhost, &spec, ch->conn->id, err))
        return false;
    return ok_unless(ch, args->exchange_unbind.nowait, METHOD_exchange_unbind_ok);
}
