/*
 * channel_deliver: deliveries on their way out.
 *
 * A delivery command that finds its consumer gets a delivery tag and is written into the
 * connection's output. When the channel has its global prefetch full, or the output holds more
 * than its mark, the consumer is stopped at its queue. On the same worker that takes effect before
 * the queue can send another; from another worker some more may be under way: for the output they
 * are taken (a consumer's window bounds them), under the global prefetch they go back to their
 * place, and so does everything behind them, until the consumer goes on with a new epoch.
 */
#include "amqp_priv.h"

#include "lepus/wire/octets.h"

/* --- stop and go ----------------------------------------------------------------------- */

static void
send_flow(struct channel_consumer *cc, bool go)
{
    struct channel *ch = cc->channel;
    struct cmd_flow cmd = {
        .head.kind = CMD_flow,
        .queue = cc->queue.id,
        .consumer = cc->id,
        .go = go,
        .epoch = cc->epoch,
    };

    post_send(ch->conn->amqp->post, channel_queue_worker(ch, &cc->queue), &cmd.head);
}

void
consumer_stop(struct channel_consumer *cc, enum stop_reason why)
{
    bool was_stopped = cc->stopped != 0;

    cc->stopped |= (uint8_t)why;
    if (!was_stopped)
        send_flow(cc, false);
}

void
consumer_go(struct channel_consumer *cc, enum stop_reason why)
{
    if ((cc->stopped & why) == 0)
        return;
    cc->stopped &= (uint8_t)~why;
    if (cc->stopped != 0)
        return;
    if (cc->refusing) {
        cc->refusing = false;
        cc->epoch++;
    }
    send_flow(cc, true);
}

bool
channel_is_at_global_limit(const struct channel *ch)
{
    return ch->prefetch_global != 0 && ch->unacked_global >= ch->prefetch_global;
}

void
channel_global_changed(struct channel *ch)
{
    for (struct map_node *at = NULL; (at = map_next(&ch->consumers, at)) != NULL;) {
        struct channel_consumer *cc = container_of(at, struct channel_consumer, by_tag);

        if (cc->no_ack || cc->queue.id == 0)
            continue;
        if (channel_is_at_global_limit(ch))
            consumer_stop(cc, STOP_GLOBAL);
        else
            consumer_go(cc, STOP_GLOBAL); /* may deliver, and be at the limit again */
    }
}

static void
park(struct channel_consumer *cc)
{
    if (list_is_linked(&cc->parked) || cc->queue.id == 0)
        return;
    list_append(&cc->channel->conn->parked, &cc->parked);
    consumer_stop(cc, STOP_OUTPUT);
}

void
conn_unpark(struct conn *c)
{
    struct list *first;

    while (!transport_is_full(c->transport) && (first = list_take_first(&c->parked)) != NULL)
        consumer_go(container_of(first, struct channel_consumer, parked), STOP_OUTPUT);
}

/* --- credit to other workers ----------------------------------------------------------- */

static void
owe_credit(struct channel_consumer *cc, const struct content *content)
{
    struct amqp *amqp = cc->channel->conn->amqp;

    cc->credit_due += delivery_cost_bytes(content);
    if (list_is_linked(&cc->crediting))
        return;
    list_append(&amqp->crediting, &cc->crediting);
    worker_schedule(amqp->worker, WORKER_GATHER, &amqp->credits);
}

void
amqp_send_credits(void *arg)
{
    struct amqp *amqp = arg;
    struct list *first;

    while ((first = list_take_first(&amqp->crediting)) != NULL) {
        struct channel_consumer *cc = container_of(first, struct channel_consumer, crediting);
        struct cmd_credit cmd = {
            .head.kind = CMD_credit,
            .queue = cc->queue.id,
            .consumer = cc->id,
            .bytes = cc->credit_due,
        };

        cc->credit_due = 0;
        post_send(amqp->post, channel_queue_worker(cc->channel, &cc->queue), &cmd.head);
    }
}

/* --- writing --------------------------------------------------------------------------- */

static uint8_t *
put_octets(uint8_t *to, struct view v)
{
    if (v.len > 0)
        memcpy(to, v.at, v.len);
    return to + v.len;
}

static uint8_t *
put_shortstr(uint8_t *to, struct view v)
{
    *to++ = (uint8_t)v.len;
    return put_octets(to, v);
}

enum { HEADER_FIXED = 12 }; /* class, weight, body size */

static size_t
header_frame_size(const struct content *content)
{
    return FRAME_OVERHEAD + HEADER_FIXED + content->properties.len;
}

static uint8_t *
put_header_frame(uint8_t *to, uint16_t channel, const struct content *content)
{
    to = frame_put_head(to, FRAME_HEADER, channel,
                        (uint32_t)(HEADER_FIXED + content->properties.len));
    to = be_put_u16(to, 60);
    to = be_put_u16(to, 0);
    to = be_put_u64(to, content->body.len);
    to = put_octets(to, content->properties);
    *to++ = FRAME_END;
    return to;
}

/* Body frames of at most frame_max octets each; large ones by reference. */
static void
write_body(struct conn *c, uint16_t channel, const struct content *content)
{
    size_t most = c->frame_max != 0 ? c->frame_max - FRAME_OVERHEAD : UINT32_MAX;

    for (size_t from = 0; from < content->body.len;) {
        size_t n = content->body.len - from < most ? content->body.len - from : most;
        uint8_t head[FRAME_HEAD_SIZE], end = FRAME_END;

        frame_put_head(head, FRAME_BODY, channel, (uint32_t)n);
        transport_put(c->transport, head, sizeof(head));
        if (content->blob != NULL)
            transport_put_blob(c->transport, content->blob, from, n);
        else
            transport_put(c->transport, content->body.at + from, n);
        transport_put(c->transport, &end, 1);
        from += n;
    }
}

void
conn_send_content(struct conn *c, uint16_t channel, enum method method, const void *args,
                  const struct content *content)
{
    uint8_t *to;

    if (c->state == CONN_CLOSED)
        return;
    conn_send(c, channel, method, args);
    to = transport_reserve(c->transport, header_frame_size(content));
    put_header_frame(to, channel, content);
    transport_commit(c->transport, header_frame_size(content));
    write_body(c, channel, content);
}

/* Method, header and, if it is inline and fits one frame, body: in one reservation. */
void
channel_write_delivery(struct channel_consumer *cc, uint64_t tag, bool redelivered,
                       const struct content *content)
{
    struct channel *ch = cc->channel;
    struct conn *c = ch->conn;
    size_t method =
        4u + 1 + cc->tag_len + 8 + 1 + 1 + content->exchange.len + 1 + content->routing_key.len;
    size_t size = FRAME_OVERHEAD + method + header_frame_size(content);
    bool has_body_here = content->body.len > 0 && content->blob == NULL &&
                         (c->frame_max == 0 || content->body.len + FRAME_OVERHEAD <= c->frame_max);
    uint8_t *to;

    if (has_body_here)
        size += FRAME_OVERHEAD + content->body.len;
    to = transport_reserve(c->transport, size);
    to = frame_put_head(to, FRAME_METHOD, ch->number, (uint32_t)method);
    to = be_put_u16(to, 60);
    to = be_put_u16(to, 60);
    to = put_shortstr(to, view_of(cc->tag, cc->tag_len));
    to = be_put_u64(to, tag);
    to = be_put_u8(to, redelivered);
    to = put_shortstr(to, content->exchange);
    to = put_shortstr(to, content->routing_key);
    *to++ = FRAME_END;
    to = put_header_frame(to, ch->number, content);
    if (has_body_here) {
        to = frame_put_head(to, FRAME_BODY, ch->number, (uint32_t)content->body.len);
        to = put_octets(to, content->body);
        *to++ = FRAME_END;
    }
    transport_commit(c->transport, size);
    if (!has_body_here && content->body.len > 0)
        write_body(c, ch->number, content);
}

/* --- delivering ------------------------------------------------------------------------ */

/* Whether the channel may hold one more unsettled delivery for the consumer. Once one is refused,
 * so are those behind it, until the consumer goes on with a new epoch. */
static bool
may_take(struct channel_consumer *cc, const struct cmd_deliver *cmd)
{
    if (cc->no_ack)
        return true;
    if (cmd->epoch != cc->epoch)
        return false; /* sent before the last one that was refused went back */
    if (channel_is_at_global_limit(cc->channel)) {
        cc->refusing = true;
        consumer_stop(cc, STOP_GLOBAL);
    }
    return !cc->refusing; /* below the limit again, it is stopped for another reason still */
}

void
channel_on_deliver(void *arg, const struct command *command)
{
    const struct cmd_deliver *cmd = (const void *)command;
    struct amqp *amqp = arg;
    struct channel_consumer *cc = idmap_find(&amqp->consumers, cmd->consumer);
    struct channel *ch;
    uint64_t tag;

    if (cc == NULL || !may_take(cc, cmd)) {
        if (cc != NULL && cc->is_remote)
            owe_credit(cc, &cmd->content);
        channel_unsent(amqp, cmd->queue, cmd->shard, cmd->seq);
        return;
    }
    ch = cc->channel;
    if (!cc->no_ack)
        unacked_push(ch, ch->last_tag + 1, cmd->queue, cmd->shard, cmd->seq, true);
    tag = ++ch->last_tag;
    channel_write_delivery(cc, tag, cmd->redelivered, &cmd->content);
    if (cc->is_remote)
        owe_credit(cc, &cmd->content);
    if (!cc->no_ack && channel_is_at_global_limit(ch))
        channel_global_changed(ch);
    if (transport_is_full(ch->conn->transport))
        park(cc);
}
