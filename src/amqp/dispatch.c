/* dispatch: from a method frame to its handler, by the rules of the method's row. */
#include "amqp_priv.h"

#include "lepus/wire/cursor.h"

static handler_fn *const handlers[METHOD_COUNT] = {
#define H(name) [METHOD_##name] = channel_handle_##name,
    CHANNEL_HANDLERS(H)
#undef H
};

bool
channel_decode(const struct frame *f, enum method_channel on, enum method *out_method,
               union method_args *out_args, struct err *err)
{
    struct cursor r = cursor_of(f->payload);
    uint16_t class_id = rd_u16(&r), method_id = rd_u16(&r);
    const struct method_row *row;

    *out_method = METHOD_UNKNOWN;
    if (r.bad)
        return err_set(err, SYNTAX_ERROR, "method frame of %zu octets", f->payload.len);
    *out_method = method_find(class_id, method_id);
    err->class_id = class_id;
    err->method_id = method_id;
    if (*out_method == METHOD_UNKNOWN)
        return err_set(err, NOT_IMPLEMENTED, "unknown method %u of class %u", method_id, class_id);
    row = &method_rows[*out_method];
    if (row->channel != on)
        return err_set(err, on == METHOD_ON_ZERO ? COMMAND_INVALID : CHANNEL_ERROR,
                       "%s on channel %u", row->name, f->channel);
    if (row->sender == METHOD_BY_SERVER)
        return err_set(err, COMMAND_INVALID, "unimplemented method");
    return method_decode(*out_method, view_of(r.at, r.left), out_args, err);
}

bool
channel_dispatch(struct channel *ch, const struct frame *f, struct err *err)
{
    union method_args args;
    enum method method;

    if (!channel_decode(f, METHOD_ON_NONZERO, &method, &args, err))
        return false;
    if (method == METHOD_channel_open)
        return err_set(err, CHANNEL_ERROR, "second 'channel.open' seen");
    if (handlers[method] == NULL) /* an answer to what was never asked */
        return err_set(err, COMMAND_INVALID, "unimplemented method");
    return handlers[method](ch, &args, err);
}
