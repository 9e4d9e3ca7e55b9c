/* channel_consume: a consumer's life on its channel: consume, cancel, and the queue's own end. */
#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/base/random.h"
#include "lepus/wire/table.h"

enum { REMOTE_WINDOW_BYTES = 256 * 1024 }; /* of deliveries under way from another worker */

static struct channel_consumer *
find_consumer(const struct channel *ch, struct view tag)
{
    struct map_node *node = map_find(&ch->consumers, tag);

    return node == NULL ? NULL : container_of(node, struct channel_consumer, by_tag);
}

static struct channel_consumer *
consumer_new(struct channel *ch, struct view tag)
{
    struct channel_consumer *cc = mem_alloc_zero(sizeof(*cc) + tag.len);

    cc->channel = ch;
    cc->id = amqp_next_id(ch->conn->amqp);
    cc->tag_len = (uint8_t)tag.len;
    memcpy(cc->tag, tag.at, tag.len);
    map_add(&ch->consumers, &cc->by_tag, view_of(cc->tag, tag.len));
    idmap_add(&ch->conn->amqp->consumers, cc->id, cc);
    return cc;
}

void
consumer_free(struct channel_consumer *cc)
{
    struct channel *ch = cc->channel;

    if (list_is_linked(&cc->parked))
        list_remove(&cc->parked);
    if (list_is_linked(&cc->crediting))
        list_remove(&cc->crediting);
    if (ch->direct == cc)
        ch->direct = NULL;
    if (ch->wait_consumer == cc)
        ch->wait_consumer = NULL;
    map_remove(&ch->consumers, &cc->by_tag);
    idmap_remove(&ch->conn->amqp->consumers, cc->id);
    free(cc);
}

/* --- consume --------------------------------------------------------------------------- */

static bool
choose_tag(struct channel *ch, struct view wanted, char *made, struct view *out, struct err *err)
{
    *out = wanted;
    if (wanted.len == 0) {
        random_name("amq.ctag-", made);
        *out = view_str(made);
    } else if (find_consumer(ch, wanted) != NULL) {
        return err_set(err, NOT_ALLOWED, "attempt to reuse consumer tag '" VIEW_FMT "'",
                       VIEW_ARG(wanted));
    }
    return true;
}

static bool
consume_direct(struct channel *ch, const struct basic_consume *m, struct view tag, struct err *err)
{
    if (ch->direct != NULL)
        return err_set(err, PRECONDITION_FAILED, "reply consumer already set");
    if (!m->no_ack)
        return err_set(err, PRECONDITION_FAILED, "reply consumer cannot acknowledge");
    ch->direct = consumer_new(ch, tag);
    ch->direct->no_ack = true;
    ch->direct_secret = random_u64();
    if (!m->nowait)
        channel_send(ch, METHOD_basic_consume_ok, &(struct basic_consume_ok){.consumer_tag = tag});
    return true;
}

static bool
may_have_one_more(const struct channel *ch, struct err *err)
{
    uint32_t max =
        limits_settings(topology_limits(ch->conn->amqp->topology))->consumers_per_channel;

    return max == 0 || ch->consumers.count < max ||
           err_set(err, NOT_ALLOWED, "reached maximum (%u) of consumers per channel", max);
}

static bool
read_priority(struct channel *ch, struct view arguments, struct view queue, int32_t *out,
              struct err *err)
{
    struct field field;

    *out = 0;
    if (!table_find(arguments, VIEW_LIT("x-priority"), &field))
        return true;
    if (!field_is_integer(&field))
        return err_set(err, PRECONDITION_FAILED,
                       "invalid arg 'x-priority' for queue '" VIEW_FMT
                       "' in vhost '%s': \"expected integer, got %s\"",
                       VIEW_ARG(queue), vhost_name(ch->conn->vhost), field_type_name(field.type));
    *out = field.integer > INT32_MAX   ? INT32_MAX
           : field.integer < INT32_MIN ? INT32_MIN
                                       : (int32_t)field.integer;
    return true;
}

static bool
read_timeout(struct channel *ch, struct view arguments, struct view queue, struct cmd_consume *cmd,
             struct err *err)
{
    struct field field;

    if (!table_find(arguments, VIEW_LIT("x-consumer-timeout"), &field))
        return true;
    cmd->has_timeout = true;
    cmd->timeout_ms = (uint64_t)field.integer;
    if (!field_is_integer(&field))
        return err_set(err, PRECONDITION_FAILED,
                       "invalid arg 'x-consumer-timeout' for queue '" VIEW_FMT
                       "' in vhost '%s': \"expected integer, got %s\"",
                       VIEW_ARG(queue), vhost_name(ch->conn->vhost), field_type_name(field.type));
    if (field.integer < 0 || field.integer > CONSUMER_TIMEOUT_MAX_MS)
        return err_set(
            err, PRECONDITION_FAILED,
            "invalid arg 'x-consumer-timeout' for queue '" VIEW_FMT "' in vhost '%s': {%s,%lld}",
            VIEW_ARG(queue), vhost_name(ch->conn->vhost),
            field.integer < 0 ? "value_negative" : "value_too_large", (long long)field.integer);
    return true;
}

bool
channel_handle_basic_consume(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_consume *m = &args->basic_consume;
    struct amqp *amqp = ch->conn->amqp;
    struct cmd_consume cmd = {.head.kind = CMD_consume, .channel = ch->id};
    struct queue_found found = {0};
    struct channel_consumer *cc;
    struct view name, tag;
    char made[64];

    if (!may_have_one_more(ch, err))
        return false;
    if (!choose_tag(ch, m->consumer_tag, made, &tag, err))
        return false;
    if (view_equal(m->queue, VIEW_LIT(DIRECT_NAME)))
        return consume_direct(ch, m, tag, err);
    if (!channel_queue_name(ch, m->queue, &name, err) ||
        !access_queue(ch->conn, AUTH_READ, name, err) ||
        !read_priority(ch, m->arguments, name, &cmd.priority, err) ||
        !read_timeout(ch, m->arguments, name, &cmd, err))
        return false;
    if (!topology_find_queue(ch->conn->vhost, name, ch->conn->id, &found, err))
        return channel_refused(ch, &found, err);
    cmd.exclusive = m->exclusive;
    if (found.type == QUEUE_STREAM && !stream_check_consume(ch, m, name, &cmd, err))
        return false;

    cc = consumer_new(ch, tag);
    cc->queue = found.ref;
    cc->no_ack = m->no_ack;
    cc->is_remote = channel_queue_worker(ch, &found.ref) != amqp->post->index;
    if (!cc->no_ack && channel_is_at_global_limit(ch))
        cc->stopped = STOP_GLOBAL;
    channel_wait(ch, WAIT_CONSUME, m->nowait);
    ch->wait_name = view_dup(name);
    ch->wait_consumer = cc;

    cmd.queue = found.ref.id;
    cmd.consumer = cc->id;
    cmd.no_ack = m->no_ack;
    cmd.stopped = cc->stopped != 0;
    cmd.prefetch = ch->prefetch;
    cmd.window_bytes = cc->is_remote ? REMOTE_WINDOW_BYTES : 0;
    post_send(amqp->post, channel_queue_worker(ch, &found.ref), &cmd.head);
    return true;
}

void
channel_finish_consume(struct channel *ch, const struct cmd_reply *reply)
{
    struct channel_consumer *cc = ch->wait_consumer;
    struct err err;

    if (reply->answer == ANSWER_OK) {
        if (!ch->wait_nowait && cc != NULL)
            channel_send(ch, METHOD_basic_consume_ok,
                         &(struct basic_consume_ok){.consumer_tag = view_of(cc->tag, cc->tag_len)});
        channel_wait_done(ch);
        return;
    }
    if (cc != NULL)
        consumer_free(cc);
    if (reply->answer == ANSWER_EXCLUSIVE)
        err_set(&err, ACCESS_REFUSED, "queue '%s' in vhost '%s' in exclusive use", ch->wait_name,
                vhost_name(ch->conn->vhost));
    else if (reply->answer == ANSWER_FULL)
        err_set(&err, RESOURCE_ERROR, "queue '%s' in vhost '%s' has too many consumers",
                ch->wait_name, vhost_name(ch->conn->vhost));
    else
        err_set(&err, NOT_FOUND, "no queue '%s' in vhost '%s'", ch->wait_name,
                vhost_name(ch->conn->vhost));
    channel_wait_fail(ch, METHOD_basic_consume, &err);
}

/* --- cancel ---------------------------------------------------------------------------- */

static void
detach(struct channel_consumer *cc, uint64_t answer_to, bool channel_ends)
{
    struct channel *ch = cc->channel;
    struct cmd_cancel cmd = {
        .head.kind = CMD_cancel,
        .queue = cc->queue.id,
        .channel = answer_to,
        .consumer = cc->id,
        .channel_ends = channel_ends,
    };

    post_send(ch->conn->amqp->post, channel_queue_worker(ch, &cc->queue), &cmd.head);
}

static void
cancel_ok(struct channel *ch, bool nowait, struct view tag)
{
    if (!nowait)
        channel_send(ch, METHOD_basic_cancel_ok, &(struct basic_cancel_ok){.consumer_tag = tag});
}

bool
channel_handle_basic_cancel(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_cancel *m = &args->basic_cancel;
    struct channel_consumer *cc = find_consumer(ch, m->consumer_tag);

    (void)err;
    if (cc == NULL || cc->queue.id == 0) { /* one that is not there is cancelled too */
        if (cc != NULL)
            consumer_free(cc);
        cancel_ok(ch, m->nowait, m->consumer_tag);
        return true;
    }
    channel_wait(ch, WAIT_CANCEL, m->nowait);
    ch->wait_name = view_dup(m->consumer_tag);
    ch->wait_consumer = cc;
    detach(cc, ch->id, false); /* what was delivered before its answer still reaches the consumer */
    return true;
}

void
channel_finish_cancel(struct channel *ch)
{
    if (ch->wait_consumer != NULL)
        consumer_free(ch->wait_consumer);
    cancel_ok(ch, ch->wait_nowait, view_str(ch->wait_name));
    channel_wait_done(ch);
}

/* The client's answer to our cancel: nothing waits for it. */
bool
channel_handle_basic_cancel_ok(struct channel *ch, const union method_args *args, struct err *err)
{
    (void)ch;
    (void)args;
    (void)err;
    return true;
}

void
channel_on_cancelled(void *arg, const struct command *command)
{
    const struct cmd_cancelled *cmd = (const void *)command;
    struct amqp *amqp = arg;
    struct channel_consumer *cc = idmap_find(&amqp->consumers, cmd->consumer);
    struct channel *ch;

    if (cc == NULL)
        return;
    ch = cc->channel;
    if (ch->conn->can.consumer_cancel_notify && ch->wait_consumer != cc)
        channel_send(
            ch, METHOD_basic_cancel,
            &(struct basic_cancel){.consumer_tag = view_of(cc->tag, cc->tag_len), .nowait = true});
    consumer_free(cc);
}

void
channel_cancel_all(struct channel *ch)
{
    struct map_cursor cursor = {0};
    struct map_node *node;

    while ((node = map_any(&ch->consumers, &cursor)) != NULL) {
        struct channel_consumer *cc = container_of(node, struct channel_consumer, by_tag);

        if (cc->queue.id != 0)
            detach(cc, 0, true);
        consumer_free(cc);
    }
}
