/*
 * channel: one conversation on a connection.
 *
 *        .--- channel_wait ---.
 *   OPEN                       WAITING
 *    |  `- channel_wait_done -'  |
 *    +---------------------------+--> AWAIT_CLOSE_OK (conn_fail) --> CLOSED (channel_close)
 *
 * A channel handles its methods strictly one after the other. When one needs a queue's answer
 * (counts, a consumer's place, a message) the channel is WAITING: frames that come for it are kept,
 * up to DEFERRED_HOLD octets, and handled after the answer; the other channels of the connection go
 * on. When the queue is on the same worker, the answer comes before the question's call returns and
 * nothing ever waits.
 *
 * Definitions (exchange and queue, declare to delete) have one freedom more: while the -ok of one
 * waits for its commit, further ones are handled, and their answers wait behind it
 * (channel_owed.c). Anything else waits, in WAIT_SAFE, until nothing is owed.
 */
#include <assert.h>

#include "amqp_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "lepus/wire/cursor.h"

enum {
    DEFERRED_HOLD = 256 * 1024, /* a channel that keeps more stops its connection's reading */
    DEFERRED_MAX = 1 << 30,
    OWNER_WAIT_MS = 1000,
    OWNER_RETRY_MS = 20,
};

/* While the owner of an exclusive queue is ending: the method to run again, and the answer if
 * it takes too long. */
struct owner_wait {
    struct buf method;
    struct err refusal;
    uint64_t until_ms;
    struct worker_timer timer;
};

#define TO(state) (1u << CHANNEL_##state)
static const unsigned edges[CHANNEL_STATE_COUNT] = {
    [CHANNEL_OPEN] = TO(WAITING) | TO(AWAIT_CLOSE_OK) | TO(CLOSED),
    [CHANNEL_WAITING] = TO(OPEN) | TO(AWAIT_CLOSE_OK) | TO(CLOSED),
    [CHANNEL_AWAIT_CLOSE_OK] = TO(CLOSED),
};
#undef TO

void
channel_enter(struct channel *ch, enum channel_state state)
{
    assert(edges[ch->state] & 1u << state);
    ch->state = (uint8_t)state;
}

void
channel_send(struct channel *ch, enum method method, const void *args)
{
    conn_send(ch->conn, ch->number, method, args);
}

struct channel *
channel_of_id(struct amqp *amqp, uint64_t id)
{
    return idmap_find(&amqp->channels, id);
}

unsigned
channel_queue_worker(const struct channel *ch, const struct queue_ref *ref)
{
    return topology_worker_of(ch->conn->amqp->topology, ref->shard);
}

/* --- waiting --------------------------------------------------------------------------- */

void
channel_wait(struct channel *ch, enum channel_wait wait, bool nowait)
{
    channel_enter(ch, CHANNEL_WAITING);
    ch->wait = (uint8_t)wait;
    ch->wait_nowait = nowait;
}

void
channel_wait_done(struct channel *ch)
{
    ch->wait = WAIT_NOTHING;
    free(ch->wait_name);
    ch->wait_name = NULL;
    ch->wait_consumer = NULL;
    if (ch->state != CHANNEL_WAITING)
        return;
    channel_enter(ch, CHANNEL_OPEN);
    if (ch->deferred.len > 0)
        worker_schedule(ch->conn->amqp->worker, WORKER_AGAIN, &ch->resume);
}

void
channel_wait_fail(struct channel *ch, enum method method, struct err *err)
{
    err->class_id = method_rows[method].class_id;
    err->method_id = method_rows[method].method_id;
    channel_wait_done(ch);
    conn_fail(ch->conn, ch, err);
}

static bool
defer(struct channel *ch, const struct frame *f, struct err *err)
{
    buf_append(&ch->deferred, f->payload.at - FRAME_HEAD_SIZE, f->payload.len + FRAME_OVERHEAD);
    if (ch->deferred.bad)
        return err_set(err, RESOURCE_ERROR, "channel %u: no memory to keep frames", ch->number);
    if (ch->deferred.len > DEFERRED_HOLD)
        conn_pause(ch->conn, PAUSE_DEFERRED);
    return true;
}

/* Handles the kept frames, until one has to wait again: the rest stays kept. */
static void
on_resume(void *arg)
{
    struct channel *ch = arg;
    struct conn *c = ch->conn;
    struct buf kept = ch->deferred;
    size_t used = 0;

    buf_init(&ch->deferred, DEFERRED_MAX);
    while (used < kept.len && ch->state != CHANNEL_WAITING && ch->state != CHANNEL_CLOSED) {
        struct err err = {0};
        struct frame f;
        size_t size;

        if (frame_next(view_of(kept.at + used, kept.len - used), 0, &f, &size, &err) != FRAME_READY)
            break; /* cannot be: it was whole when it was kept */
        if (channel_must_wait(ch, &f)) {
            channel_wait(ch, WAIT_SAFE, false);
            break;
        }
        used += size;
        c->rest = view_of(kept.at + used, kept.len - used);
        c->rest_used = 0;
        if (!channel_handle_frame(ch, &f, &err))
            conn_fail(c, ch, &err);
        used += c->rest_used;
        c->rest = view_of(NULL, 0);
    }
    if (ch->state == CHANNEL_CLOSED || used == kept.len) {
        buf_fini(&kept);
    } else {
        memmove(kept.at, kept.at + used, kept.len - used);
        kept.len -= used;
        ch->deferred = kept;
    }
    if (ch->deferred.len <= DEFERRED_HOLD)
        conn_unpause(c, PAUSE_DEFERRED);
}

void
channel_on_reply(void *arg, const struct command *command)
{
    const struct cmd_reply *cmd = (const void *)command;
    struct channel *ch = channel_of_id(arg, cmd->channel);

    if (ch == NULL || ch->state != CHANNEL_WAITING)
        return;
    switch ((enum channel_wait)ch->wait) {
    case WAIT_DECLARE:
    case WAIT_DIRECT_PROBE:
        channel_finish_declare(ch, cmd);
        break;
    case WAIT_PURGE:
        channel_finish_purge(ch, cmd);
        break;
    case WAIT_DELETE:
        channel_finish_delete(ch, cmd);
        break;
    case WAIT_CONSUME:
        channel_finish_consume(ch, cmd);
        break;
    case WAIT_CANCEL:
        channel_finish_cancel(ch);
        break;
    case WAIT_GET:
        channel_finish_get(ch, cmd);
        break;
    case WAIT_NOTHING:
    case WAIT_COMMIT:
    case WAIT_OWNER:
    case WAIT_SAFE:
        break;
    }
}

/* --- an exclusive queue whose owner is ending ------------------------------------------ */

static void
owner_wait_free(struct channel *ch)
{
    if (ch->owner_wait == NULL)
        return;
    worker_timer_cancel(&ch->owner_wait->timer);
    buf_fini(&ch->owner_wait->method);
    free(ch->owner_wait);
    ch->owner_wait = NULL;
}

/* Runs the refused method again. It may be refused again, and wait again. */
static void
on_owner_timer(void *arg)
{
    struct channel *ch = arg;
    struct owner_wait *wait = ch->owner_wait;
    struct frame f = {
        .type = FRAME_METHOD, .channel = ch->number, .payload = buf_view(&wait->method)};
    struct err err = {0};

    channel_wait_done(ch);
    ch->conn->method = f.payload;
    if (!channel_dispatch(ch, &f, &err))
        conn_fail(ch->conn, ch, &err);
    if (ch->state != CHANNEL_WAITING || ch->wait != WAIT_OWNER)
        owner_wait_free(ch);
}

static struct owner_wait *
owner_wait_new(struct channel *ch)
{
    struct owner_wait *wait = mem_new(struct owner_wait);

    buf_init(&wait->method, DEFERRED_MAX);
    buf_append(&wait->method, ch->conn->method.at, ch->conn->method.len);
    wait->until_ms = worker_now_ms(ch->conn->amqp->worker) + OWNER_WAIT_MS;
    wait->timer = (struct worker_timer){.fire = on_owner_timer, .arg = ch};
    return wait;
}

bool
channel_refused(struct channel *ch, const struct queue_found *found, struct err *err)
{
    struct amqp *amqp = ch->conn->amqp;
    struct cmd_probe probe = {
        .head.kind = CMD_probe, .connection = found->owner, .channel = ch->id};

    if (err->code != RESOURCE_LOCKED || found->owner == 0 || found->owner == ch->conn->id)
        return false;
    if (ch->owner_wait == NULL)
        ch->owner_wait = owner_wait_new(ch);
    else if (worker_now_ms(amqp->worker) >= ch->owner_wait->until_ms)
        return false;
    ch->owner_wait->refusal = *err;
    channel_wait(ch, WAIT_OWNER, false);
    post_send(amqp->post, id_worker(found->owner), &probe.head);
    return true;
}

void
channel_on_probed(void *arg, const struct command *command)
{
    const struct cmd_probed *cmd = (const void *)command;
    struct amqp *amqp = arg;
    struct channel *ch = channel_of_id(amqp, cmd->channel);

    if (ch == NULL || ch->state != CHANNEL_WAITING || ch->wait != WAIT_OWNER)
        return;
    if (cmd->alive) {
        struct err refusal = ch->owner_wait->refusal;

        channel_wait_done(ch);
        conn_fail(ch->conn, ch, &refusal);
        return;
    }
    worker_timer_set(amqp->worker, &ch->owner_wait->timer, OWNER_RETRY_MS);
}

/* --- frames ---------------------------------------------------------------------------- */

enum method
channel_method_of(const struct frame *f)
{
    struct cursor r = cursor_of(f->payload);
    uint16_t class_id = rd_u16(&r), method_id = rd_u16(&r);

    return f->type == FRAME_METHOD && !r.bad ? method_find(class_id, method_id) : METHOD_UNKNOWN;
}

static void
handle_close(struct channel *ch)
{
    struct conn *c = ch->conn;
    uint16_t number = ch->number;

    channel_close(ch);
    conn_send(c, number, METHOD_channel_close_ok, NULL);
}

/* Close was sent: only what ends the channel is heard [0-9-1 §1.5.2.5]. */
static bool
handle_while_closing(struct channel *ch, const struct frame *f)
{
    enum method method = channel_method_of(f);

    if (method == METHOD_channel_close_ok)
        channel_close(ch);
    else if (method == METHOD_channel_close)
        channel_send(ch, METHOD_channel_close_ok, NULL);
    return true;
}

static bool
handle_method(struct channel *ch, const struct frame *f, struct err *err)
{
    if (channel_method_of(f) == METHOD_channel_close) {
        handle_close(ch);
        return true;
    }
    ch->conn->method = f->payload;
    return channel_dispatch(ch, f, err);
}

bool
channel_handle_frame(struct channel *ch, const struct frame *f, struct err *err)
{
    if (__builtin_expect(ch->state != CHANNEL_OPEN || ch->deferred.len > 0 || channel_owes(ch),
                         0)) {
        if (ch->state == CHANNEL_AWAIT_CLOSE_OK)
            return handle_while_closing(ch, f);
        if (ch->state != CHANNEL_OPEN || ch->deferred.len > 0)
            return defer(ch, f, err);
        if (channel_must_wait(ch, f)) {
            channel_wait(ch, WAIT_SAFE, false);
            return defer(ch, f, err);
        }
    }
    if (ch->in.state != CONTENT_NONE)
        return channel_content_frame(ch, f, err);
    if (f->type != FRAME_METHOD)
        return err_set(err, UNEXPECTED_FRAME,
                       "expected method frame, got non method frame instead");
    return handle_method(ch, f, err);
}

bool
channel_handle_first(struct conn *c, const struct frame *f, struct err *err)
{
    union method_args args;
    enum method method;

    if (f->type != FRAME_METHOD)
        return err_set(err, UNEXPECTED_FRAME,
                       "expected method frame, got non method frame instead");
    if (!channel_decode(f, METHOD_ON_NONZERO, &method, &args, err))
        return false;
    if (method != METHOD_channel_open)
        return err_set(err, CHANNEL_ERROR, "expected 'channel.open'");
    if (c->channel_max != 0 && c->channels.count >= c->channel_max)
        return err_set(
            err, NOT_ALLOWED,
            "number of channels opened (%zu) has reached the negotiated channel_max (%u)",
            c->channels.count, c->channel_max);
    if (c->channel_max != 0 && f->channel > c->channel_max)
        return err_set(err, NOT_ALLOWED,
                       "channel number %u is above the negotiated channel_max (%u)", f->channel,
                       c->channel_max);
    if (!limits_open_channel(topology_limits(c->amqp->topology), &c->place, err))
        return false;
    channel_open(c, f->channel);
    conn_send(c, f->channel, METHOD_channel_open_ok, &(struct channel_open_ok){0});
    return true;
}

/* --- life ------------------------------------------------------------------------------ */

struct channel *
channel_open(struct conn *c, uint16_t number)
{
    struct channel *ch = mem_new(struct channel);

    ch->conn = c;
    ch->number = number;
    ch->id = amqp_next_id(c->amqp);
    ch->state = CHANNEL_OPEN;
    ch->resume = (struct worker_task){.run = on_resume, .arg = ch};
    ch->gather = (struct worker_task){.run = confirms_gather, .arg = ch};
    ch->confirms.first = ch->confirms.next = 1;
    buf_init(&ch->deferred, DEFERRED_MAX);
    buf_init(&ch->owed.entries, SIZE_MAX / 2);
    map_init(&ch->consumers);
    idmap_init(&ch->late);
    idmap_add(&c->channels, number, ch);
    idmap_add(&c->amqp->channels, ch->id, ch);
    return ch;
}

static void
reap(void *what)
{
    struct channel *ch = what;

    free(ch->unacked);
    idmap_fini(&ch->late);
    free(ch->last_queue);
    free(ch);
}

void
channel_end_affairs(struct channel *ch)
{
    worker_task_cancel(&ch->resume);
    worker_task_cancel(&ch->gather);
    channel_cancel_all(ch);
    channel_requeue_all(ch, SETTLE_REQUEUE);
    tx_drop(ch);
    confirms_fini(&ch->confirms);
    content_in_reset(&ch->in);
    owner_wait_free(ch);
    channel_forget_owed(ch);
    free(ch->wait_name);
    ch->wait_name = NULL;
    ch->wait = WAIT_NOTHING;
    buf_fini(&ch->deferred);
    conn_unpause(ch->conn, PAUSE_DEFERRED);
    idmap_remove(&ch->conn->amqp->channels, ch->id);
}

void
channel_close(struct channel *ch)
{
    struct conn *c = ch->conn;

    channel_end_affairs(ch);
    if (c->last_channel == ch)
        c->last_channel = NULL;
    idmap_remove(&c->channels, ch->number);
    channel_enter(ch, CHANNEL_CLOSED);
    limits_close_channel(topology_limits(c->amqp->topology), &c->place);
    worker_reap(c->amqp->worker, reap, ch);
}
