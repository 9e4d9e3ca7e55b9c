/* channel_basic: what is small in the channel, access and basic classes: flow, qos, get, recover.
 */
#include "amqp_priv.h"

bool
channel_handle_channel_flow(struct channel *ch, const union method_args *args, struct err *err)
{
    if (!args->channel_flow.active)
        return err_set(err, NOT_IMPLEMENTED, "active=false");
    channel_send(ch, METHOD_channel_flow_ok, &(struct channel_flow_ok){.active = true});
    return true;
}

/* Gone from 0-9-1, still sent by old clients: RabbitMQ answers with ticket 1. */
bool
channel_handle_access_request(struct channel *ch, const union method_args *args, struct err *err)
{
    (void)args;
    (void)err;
    channel_send(ch, METHOD_access_request_ok, &(struct access_request_ok){.reserved_1 = 1});
    return true;
}

/* RabbitMQ's meaning of global: false is each consumer to come, true is the channel as a whole. */
bool
channel_handle_basic_qos(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_qos *m = &args->basic_qos;

    if (m->prefetch_size != 0)
        return err_set(err, NOT_IMPLEMENTED, "prefetch_size!=0 (%u)", m->prefetch_size);
    if (m->global)
        ch->prefetch_global = m->prefetch_count;
    else
        ch->prefetch = m->prefetch_count;
    channel_send(ch, METHOD_basic_qos_ok, NULL);
    if (m->global)
        channel_global_changed(ch);
    return true;
}

/* --- get ------------------------------------------------------------------------------- */

bool
channel_handle_basic_get(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_get *m = &args->basic_get;
    struct queue_found found = {0};
    struct cmd_get cmd = {.head.kind = CMD_get, .channel = ch->id, .no_ack = m->no_ack};
    struct view name;

    if (!channel_queue_name(ch, m->queue, &name, err) ||
        !access_queue(ch->conn, AUTH_READ, name, err))
        return false;
    if (!topology_find_queue(ch->conn->vhost, name, ch->conn->id, &found, err))
        return channel_refused(ch, &found, err);
    if (found.type == QUEUE_STREAM)
        return stream_err(ch, name, "basic.get", err);
    channel_wait(ch, WAIT_GET, false);
    ch->wait_name = view_dup(name);
    ch->wait_no_ack = m->no_ack;
    cmd.queue = found.ref.id;
    post_send(ch->conn->amqp->post, channel_queue_worker(ch, &found.ref), &cmd.head);
    return true;
}

void
channel_on_got(void *arg, const struct command *command)
{
    const struct cmd_got *cmd = (const void *)command;
    struct amqp *amqp = arg;
    struct channel *ch = channel_of_id(amqp, cmd->channel);
    struct basic_get_ok ok = {
        .redelivered = cmd->redelivered,
        .exchange = cmd->content.exchange,
        .routing_key = cmd->content.routing_key,
        .message_count = cmd->messages,
    };

    if (ch == NULL || ch->state != CHANNEL_WAITING || ch->wait != WAIT_GET) {
        channel_unsent(amqp, cmd->queue, cmd->shard, cmd->seq);
        return;
    }
    ok.delivery_tag = ++ch->last_tag;
    if (!ch->wait_no_ack)
        unacked_push(ch, ok.delivery_tag, cmd->queue, cmd->shard, cmd->seq, false);
    conn_send_content(ch->conn, ch->number, METHOD_basic_get_ok, &ok, &cmd->content);
    channel_wait_done(ch);
}

void
channel_finish_get(struct channel *ch, const struct cmd_reply *reply)
{
    struct err err;

    if (reply->answer == ANSWER_EMPTY) {
        channel_send(ch, METHOD_basic_get_empty, &(struct basic_get_empty){0});
        channel_wait_done(ch);
        return;
    }
    err_set(&err, NOT_FOUND, "no queue '%s' in vhost '%s'", ch->wait_name,
            vhost_name(ch->conn->vhost));
    channel_wait_fail(ch, METHOD_basic_get, &err);
}

/* --- recover --------------------------------------------------------------------------- */

bool
channel_handle_basic_recover_async(struct channel *ch, const union method_args *args,
                                   struct err *err)
{
    if (!args->basic_recover_async.requeue)
        return err_set(err, NOT_IMPLEMENTED, "requeue=false");
    channel_requeue_all(ch, SETTLE_RETURN);
    return true;
}

bool
channel_handle_basic_recover(struct channel *ch, const union method_args *args, struct err *err)
{
    if (!args->basic_recover.requeue)
        return err_set(err, NOT_IMPLEMENTED, "requeue=false");
    channel_send(ch, METHOD_basic_recover_ok, NULL);
    channel_requeue_all(ch, SETTLE_RETURN);
    return true;
}
