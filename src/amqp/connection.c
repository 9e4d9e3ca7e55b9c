/*
 * connection: a peer's socket, from its protocol header to its end.
 *
 *   AWAIT_HEADER -> AWAIT_START_OK -> AWAIT_LOGIN -> AWAIT_TUNE_OK -> AWAIT_OPEN -> OPEN
 *        |              `------------------+-----------------------------'       |
 *        |                                 v                                     v
 *        `-> FINISHING <------------ AWAIT_CLOSE_OK <----------------------------'
 *                `-----> CLOSED <-------'
 *
 *   AWAIT_LOGIN is left out where nothing has to be waited for.
 *
 *   AWAIT_HEADER on     conn_start, when the header is ours
 *   the handshake on    connection_start.c
 *   to AWAIT_CLOSE_OK   conn_fail, conn_force_close: close is sent
 *   to FINISHING        finish: a wrong header was answered, close-ok sent or received, or a
 *                       login was refused and the socket closes after a delay
 *   to CLOSED           conn_close, from any state
 *
 * Happy path: on_bytes cuts frames from the input where it stands and hands each to its channel
 * (channel_handle_frame) or, on channel 0, to handle_connection_frame. What can fail: a bad frame
 * or a hard error is answered with connection.close, and nothing is believed any more but close
 * and close-ok, for CLOSE_OK_MS; a dead socket closes at once. Either way conn_close ends every
 * channel and takes the connection's exclusive queues out of the topology before anybody can see
 * that it is closed.
 */
#include <assert.h>
#include <unistd.h>

#include "amqp_priv.h"

#include "lepus/base/mem.h"

enum {
    FRAMES_PER_TURN = 8192,
    CLOSE_OK_MS = 10000,
    COMPLAIN_MS = 60 * 1000,
    OUTPUT_HOLD = 4 * TRANSPORT_FULL, /* what a peer may leave unread before it is read no more */
};

static const char *const state_names[] = {
#define S(name, meaning) #name,
    CONN_STATES(S)
#undef S
};

#define TO(state) (1u << CONN_##state)
static const unsigned edges[CONN_STATE_COUNT] = {
    [CONN_AWAIT_HEADER] = TO(AWAIT_START_OK) | TO(FINISHING) | TO(AWAIT_CLOSE_OK) | TO(CLOSED),
    [CONN_AWAIT_START_OK] =
        TO(AWAIT_LOGIN) | TO(AWAIT_TUNE_OK) | TO(AWAIT_CLOSE_OK) | TO(FINISHING) | TO(CLOSED),
    [CONN_AWAIT_LOGIN] = TO(AWAIT_TUNE_OK) | TO(AWAIT_CLOSE_OK) | TO(FINISHING) | TO(CLOSED),
    [CONN_AWAIT_TUNE_OK] = TO(AWAIT_OPEN) | TO(AWAIT_CLOSE_OK) | TO(FINISHING) | TO(CLOSED),
    [CONN_AWAIT_OPEN] = TO(OPEN) | TO(AWAIT_CLOSE_OK) | TO(FINISHING) | TO(CLOSED),
    [CONN_OPEN] = TO(AWAIT_CLOSE_OK) | TO(FINISHING) | TO(CLOSED),
    [CONN_AWAIT_CLOSE_OK] = TO(FINISHING) | TO(CLOSED),
    [CONN_FINISHING] = TO(CLOSED),
};
#undef TO

struct log_context
conn_log(const struct conn *c)
{
    return (struct log_context){
        .connection = transport_peer(c->transport),
        .vhost = c->vhost != NULL ? vhost_name(c->vhost) : NULL,
        .user = c->user,
    };
}

/* It is open, or gone. */
static void
leave_pending(struct conn *c)
{
    if (!list_is_linked(&c->in_pending))
        return;
    list_remove(&c->in_pending);
    c->amqp->n_pending--;
}

void
conn_enter(struct conn *c, enum conn_state state)
{
    struct log_context log = conn_log(c);

    assert(edges[c->state] & 1u << state);
    log_debug(&log, "%s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
    if (state == CONN_OPEN || state == CONN_CLOSED)
        leave_pending(c);
}

/* --- reading or not -------------------------------------------------------------------- */

static bool
is_reading(const struct conn *c)
{
    return c->paused == 0 && c->state != CONN_FINISHING && c->state != CONN_CLOSED;
}

void
conn_pause(struct conn *c, enum conn_pause why)
{
    if (c->paused == 0)
        transport_pause(c->transport);
    c->paused |= why;
}

void
conn_unpause(struct conn *c, enum conn_pause why)
{
    if ((c->paused & why) == 0 || c->state == CONN_CLOSED)
        return;
    c->paused &= ~(unsigned)why;
    if (c->paused == 0)
        transport_resume(c->transport);
}

static void
on_clear(void *arg)
{
    conn_unpause(arg, PAUSE_CONGESTED);
}

/* Whoever causes more than drains is read no more, for a while. */
static void
hold_back(struct conn *c)
{
    if (worker_is_congested(c->amqp->worker)) {
        conn_pause(c, PAUSE_CONGESTED);
        worker_when_clear(c->amqp->worker, &c->clear);
    }
    if (transport_pending(c->transport) > OUTPUT_HOLD)
        conn_pause(c, PAUSE_OUTPUT);
}

void
conn_block_publisher(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    conn_pause(c, PAUSE_BLOCKED);
    if (c->told_blocked || !c->can.connection_blocked)
        return;
    c->told_blocked = true;
    conn_send(c, 0, METHOD_connection_blocked,
              &(struct connection_blocked){.reason = view_str(c->amqp->blocked)});
}

void
conn_unblock_publisher(struct conn *c)
{
    if (c->state == CONN_OPEN && c->told_blocked)
        conn_send(c, 0, METHOD_connection_unblocked, NULL);
    c->told_blocked = false;
    conn_unpause(c, PAUSE_BLOCKED);
}

/* --- sending --------------------------------------------------------------------------- */

void
conn_send(struct conn *c, uint16_t channel, enum method method, const void *args)
{
    struct buf *scratch = &c->amqp->scratch;

    if (c->state == CONN_CLOSED)
        return;
    buf_clear(scratch);
    method_write(scratch, channel, method, args);
    transport_put(c->transport, scratch->at, scratch->len);
}

/* --- ending ---------------------------------------------------------------------------- */

static void
reap(void *what)
{
    struct conn *c = what;

    free(c->exclusive);
    free(c->user);
    access_free(c->access);
    free(c);
}

/* Out of the topology at once, so that no other connection finds them; then their home is told. */
static void
drop_exclusive_queues(struct conn *c)
{
    for (size_t i = 0; i < c->n_exclusive; i++) {
        struct cmd_ask ask = {
            .head.kind = CMD_ask,
            .queue = c->exclusive[i].id,
            .question = QUEUE_DELETE,
            .removed = true,
        };

        if (topology_queue_remove(c->amqp->topology, ask.queue))
            post_send(c->amqp->post, topology_worker_of(c->amqp->topology, c->exclusive[i].shard),
                      &ask.head);
    }
    c->n_exclusive = 0;
}

/* What is removed may bring another to its place, and shrinking the map all to new ones; from the
 * front each time it would take ten thousands of channels seconds. */
static void
close_channels(struct conn *c)
{
    size_t at = 0;

    while (c->channels.count > 0) {
        struct channel *ch = idmap_next(&c->channels, &at);

        if (ch != NULL)
            channel_close(ch);
        at = ch != NULL ? at - 1 : 0;
    }
}

/* Everything that others can see of the connection ends here; only its socket may live on. */
static void
end_affairs(struct conn *c)
{
    close_channels(c);
    drop_exclusive_queues(c);
    limits_leave(topology_limits(c->amqp->topology), &c->place);
}

void
conn_close(struct conn *c, const char *why)
{
    struct log_context log = conn_log(c);

    if (c->state == CONN_CLOSED)
        return;
    end_affairs(c);
    if (c->state == CONN_OPEN || c->state == CONN_AWAIT_OPEN)
        log_warn(&log, "closed without a close method: %s", why);
    else if (c->state != CONN_AWAIT_HEADER || transport_has_failed_tls(c->transport) ||
             transport_has_bad_proxy(c->transport))
        log_info(&log, "closed: %s", why);
    conn_enter(c, CONN_CLOSED);
    list_remove(&c->in_all);
    idmap_remove(&c->amqp->connections, c->id);
    atomic_fetch_sub_explicit(&c->amqp->n_connections, 1, memory_order_relaxed);
    limits_give_socket(topology_limits(c->amqp->topology));
    worker_task_cancel(&c->clear);
    transport_close(c->transport);
    worker_reap(c->amqp->worker, reap, c);
}

/* What waits goes out, then the socket closes; in_ms bounds it. */
static void
finish(struct conn *c, uint64_t in_ms)
{
    end_affairs(c);
    conn_enter(c, CONN_FINISHING);
    conn_pause(c, PAUSE_ENDING);
    c->deadline_ms = worker_now_ms(c->amqp->worker) + in_ms;
    transport_finish(c->transport);
}

static void
send_close(struct conn *c, const struct err *err)
{
    char text[300];
    struct connection_close close = {
        .reply_code = err->code,
        .class_id = err->class_id,
        .method_id = err->method_id,
    };

    snprintf(text, sizeof(text), "%s - %s", reply_code_name(err->code), err->text);
    close.reply_text = view_str(text);
    if (close.reply_text.len > 255)
        close.reply_text.len = 255;
    end_affairs(c);
    conn_send(c, 0, METHOD_connection_close, &close);
    c->paused &= PAUSE_ENDING;
    conn_enter(c, CONN_AWAIT_CLOSE_OK);
    c->deadline_ms = worker_now_ms(c->amqp->worker) + CLOSE_OK_MS;
    transport_resume(c->transport);
}

static void
fail_channel(struct conn *c, struct channel *ch, const struct err *err)
{
    char text[300];
    struct channel_close close = {
        .reply_code = err->code,
        .class_id = err->class_id,
        .method_id = err->method_id,
    };
    struct log_context log = conn_log(c);

    log.channel = ch->number;
    log_warn(&log, "reply=%u text=\"%s\", closing channel", err->code, err->text);
    snprintf(text, sizeof(text), "%s - %s", reply_code_name(err->code), err->text);
    close.reply_text = view_str(text);
    if (close.reply_text.len > 255)
        close.reply_text.len = 255;
    channel_end_affairs(ch);
    conn_send(c, ch->number, METHOD_channel_close, &close);
    channel_enter(ch, CHANNEL_AWAIT_CLOSE_OK);
}

void
conn_fail(struct conn *c, struct channel *ch, const struct err *err)
{
    struct log_context log = conn_log(c);

    if (c->state == CONN_CLOSED || c->state == CONN_FINISHING)
        return;
    if (ch != NULL && ch->state == CHANNEL_OPEN && channel_owes(ch)) {
        channel_fail_later(ch, err);
        return;
    }
    if (ch != NULL && !reply_code_is_hard(err->code)) {
        if (ch->state != CHANNEL_CLOSED && ch->state != CHANNEL_AWAIT_CLOSE_OK)
            fail_channel(c, ch, err);
        return;
    }
    log_warn(&log, "reply=%u text=\"%s\", closing connection", err->code, err->text);
    if (c->state == CONN_AWAIT_CLOSE_OK) /* it had its close already */
        finish(c, CLOSE_OK_MS);
    else
        send_close(c, err);
}

void
conn_force_close(struct conn *c, const char *text)
{
    struct err err = {0};

    if (c->state == CONN_AWAIT_HEADER) {
        conn_close(c, text);
        return;
    }
    if (c->state == CONN_AWAIT_CLOSE_OK || c->state == CONN_FINISHING)
        return;
    err_set(&err, CONNECTION_FORCED, "%s", text);
    conn_fail(c, NULL, &err);
}

void
conn_close_after(struct conn *c, uint64_t ms)
{
    conn_enter(c, CONN_FINISHING);
    c->deadline_ms = worker_now_ms(c->amqp->worker) + ms;
}

/* --- frames on channel 0 --------------------------------------------------------------- */

static bool
handle_close(struct conn *c, const struct connection_close *args)
{
    struct log_context log = conn_log(c);

    if (args->reply_code != 200 && args->reply_code != 0)
        log_info(&log, "the client closes: %u " VIEW_FMT, args->reply_code,
                 VIEW_ARG(args->reply_text));
    end_affairs(c);
    conn_send(c, 0, METHOD_connection_close_ok, NULL);
    finish(c, CLOSE_OK_MS);
    return true;
}

/* The rows' rules hold already; here it is about the connection's state. */
static bool
handle_method(struct conn *c, enum method method, const union method_args *args, struct err *err)
{
    if (method == METHOD_connection_close && c->state != CONN_FINISHING)
        return handle_close(c, &args->connection_close);
    switch (c->state) {
    case CONN_AWAIT_START_OK:
        if (method == METHOD_connection_start_ok)
            return conn_handle_start_ok(c, &args->connection_start_ok, err);
        break;
    case CONN_AWAIT_TUNE_OK:
        if (method == METHOD_connection_tune_ok)
            return conn_handle_tune_ok(c, &args->connection_tune_ok, err);
        break;
    case CONN_AWAIT_OPEN:
        if (method == METHOD_connection_open)
            return conn_handle_open(c, &args->connection_open, err);
        break;
    case CONN_OPEN:
        if (method == METHOD_connection_update_secret) {
            /* the secret of a password login never expires: nothing to renew */
            conn_send(c, 0, METHOD_connection_update_secret_ok, NULL);
            return true;
        }
        return err_set(err, CHANNEL_ERROR, "unexpected method in connection state running");
    case CONN_AWAIT_CLOSE_OK:
        if (method == METHOD_connection_close_ok)
            finish(c, CLOSE_OK_MS);
        return true;
    case CONN_FINISHING:
    case CONN_CLOSED:
        return true;
    case CONN_AWAIT_HEADER:
    case CONN_AWAIT_LOGIN:
    case CONN_STATE_COUNT:
        break;
    }
    return err_set(err, COMMAND_INVALID, "%s is not expected now", method_rows[method].name);
}

static bool
handle_connection_frame(struct conn *c, const struct frame *f, struct err *err)
{
    union method_args args;
    enum method method;

    if (f->type != FRAME_METHOD) {
        if (c->state == CONN_AWAIT_CLOSE_OK)
            return true;
        return err_set(err, UNEXPECTED_FRAME, "content frame on channel 0");
    }
    if (!channel_decode(f, METHOD_ON_ZERO, &method, &args, err))
        return c->state == CONN_AWAIT_CLOSE_OK;
    return handle_method(c, method, &args, err); /* class and method stand in *err already */
}

/* --- frames ---------------------------------------------------------------------------- */

static bool
handle_frame(struct conn *c, const struct frame *f, struct channel **out_channel, struct err *err)
{
    struct channel *ch;

    *out_channel = NULL;
    if (f->type == FRAME_HEARTBEAT)
        return f->channel == 0 ||
               err_set(err, UNEXPECTED_FRAME, "heartbeat on channel %u", f->channel);
    if (f->channel == 0)
        return handle_connection_frame(c, f, err);
    if (c->state != CONN_OPEN)
        return c->state == CONN_AWAIT_CLOSE_OK || c->state == CONN_FINISHING ||
               err_set(err, UNEXPECTED_FRAME, "channel %u before connection.open", f->channel);
    ch = c->last_channel;
    if (ch == NULL || ch->number != f->channel) {
        ch = idmap_find(&c->channels, f->channel);
        if (ch == NULL)
            return channel_handle_first(c, f, err);
        c->last_channel = ch;
    }
    *out_channel = ch;
    return channel_handle_frame(ch, f, err);
}

/* [0-9-1 §4.2.2]. 0-9 clients greet with 1 1 0 9 and are understood, as by RabbitMQ. */
static size_t
handle_header(struct conn *c, struct view input, size_t *out_want)
{
    static const uint8_t ours[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    static const uint8_t older[8] = {'A', 'M', 'Q', 'P', 1, 1, 0, 9};
    struct log_context log = conn_log(c);

    if (input.len < sizeof(ours) &&
        (memcmp(input.at, ours, input.len) == 0 || memcmp(input.at, older, input.len) == 0)) {
        *out_want = sizeof(ours);
        return 0;
    }
    if (input.len >= sizeof(ours) && (memcmp(input.at, ours, sizeof(ours)) == 0 ||
                                      memcmp(input.at, older, sizeof(older)) == 0)) {
        conn_start(c);
        return sizeof(ours);
    }
    log_info(&log, "greets in another protocol%s",
             view_has_prefix(input, VIEW_LIT("GET ")) ? " (HTTP)"
             : input.at[0] == 0x16                    ? " (TLS)"
                                                      : "");
    transport_put(c->transport, ours, sizeof(ours));
    finish(c, CLOSE_OK_MS);
    return input.len;
}

static size_t
take_frames(struct conn *c, struct view input, size_t *out_want)
{
    size_t used = 0;
    int budget = FRAMES_PER_TURN;

    c->ahead = NULL;
    if (c->state == CONN_AWAIT_HEADER)
        used = handle_header(c, input, out_want);
    if (c->state == CONN_AWAIT_HEADER)
        return used;
    while (is_reading(c)) {
        struct frame f;
        struct channel *ch = NULL;
        struct err err; /* its text is left alone: this runs for every frame */
        size_t size;

        err.code = err.class_id = err.method_id = 0;
        if (--budget == 0) {
            transport_again(c->transport); /* more is buffered; others have their turn */
            return used;
        }
        switch (
            frame_next(view_of(input.at + used, input.len - used), c->frame_max, &f, &size, &err)) {
        case FRAME_PARTIAL:
            *out_want = size;
            return used;
        case FRAME_BAD:
            conn_fail(c, NULL, &err);
            conn_pause(c, PAUSE_ENDING); /* no frame can be found any more: close-ok neither */
            if (c->state == CONN_AWAIT_CLOSE_OK)
                finish(c, CLOSE_OK_MS);
            return input.len;
        case FRAME_READY:
            used += size;
            c->rest = view_of(input.at + used, input.len - used);
            c->rest_used = 0;
            if (!handle_frame(c, &f, &ch, &err))
                conn_fail(c, ch, &err);
            used += c->rest_used;
            c->rest = view_of(NULL, 0);
            hold_back(c);
            break;
        }
    }
    return c->state == CONN_CLOSED || c->state == CONN_FINISHING ? input.len : used;
}

/* Who publishes to a queue that is behind reads less a turn, so that its consumers have more of
 * them. */
static size_t
on_bytes(void *arg, struct view input, size_t *out_want)
{
    struct conn *c = arg;
    const struct post *post = c->amqp->post;
    uint64_t behind = post->behind;
    size_t used = take_frames(c, input, out_want);

    if (c->state != CONN_CLOSED)
        transport_slow(c->transport, post->behind != behind);
    return used;
}

static void
on_drained(void *arg)
{
    struct conn *c = arg;

    conn_unpause(c, PAUSE_OUTPUT);
    conn_unpark(c);
}

static void
on_gone(void *arg, const char *why)
{
    conn_close(arg, why);
}

/* --- time ------------------------------------------------------------------------------ */

/* [0-9-1 §4.2.7]: we send at half the interval; a peer from which nothing came for two whole ones
 * is dead. One that an alarm keeps us from reading may not be blamed. */
static void
tick_heartbeat(struct conn *c, uint64_t now)
{
    uint64_t interval = (uint64_t)c->heartbeat_s * 1000;

    if (interval == 0 || c->state != CONN_OPEN)
        return;
    if (now - transport_last_out_ms(c->transport) >= interval / 2 &&
        transport_pending(c->transport) == 0) {
        static const uint8_t beat[FRAME_OVERHEAD] = {FRAME_HEARTBEAT, [7] = FRAME_END};

        transport_put(c->transport, beat, sizeof(beat));
    }
    if (c->paused == 0 && now - transport_last_in_ms(c->transport) > 2 * interval)
        conn_close(c, "missed heartbeats from client");
}

/* As with RabbitMQ a user that is deleted is logged out. */
static void
force_off(struct conn *c)
{
    char text[320];

    snprintf(text, sizeof(text), "user '%s' was deleted", c->user);
    conn_force_close(c, text);
}

void
conn_tick(struct conn *c)
{
    uint64_t now = worker_now_ms(c->amqp->worker);

    if (c->deadline_ms != 0 && now >= c->deadline_ms)
        conn_close(c, c->state == CONN_FINISHING        ? "done"
                      : c->state == CONN_AWAIT_CLOSE_OK ? "no close-ok in time"
                                                        : "handshake not finished in time");
    else if ((c->paused & PAUSE_BLOCKED) != 0 && transport_is_dying(c->transport))
        conn_close(c, "the peer went while it was blocked"); /* unread, it would never be noticed */
    else if (c->user != NULL && !access_has_user(c))
        force_off(c);
    else
        tick_heartbeat(c, now);
}

/* --- life ------------------------------------------------------------------------------ */

static struct transport *
make_transport(struct conn *c, int fd, bool is_tls)
{
    static const struct transport_ops ops = {
        .bytes = on_bytes, .drained = on_drained, .gone = on_gone};
    struct tls_context *context;
    struct transport *transport;

    if (!is_tls)
        return transport_new(c->amqp->worker, fd, &ops, c);
    context = tls_shelf_get(c->amqp->settings->tls);
    transport = transport_new_tls(c->amqp->worker, fd, context, &ops, c);
    tls_context_unref(&context);
    return transport;
}

/* The oldest goes: who is served comes through in no time, however many others dawdle. */
static void
make_room_among_pending(struct amqp *amqp)
{
    uint32_t max = limits_settings(topology_limits(amqp->topology))->pending_handshakes;
    uint64_t now = worker_now_ms(amqp->worker);

    if (max == 0 || amqp->n_pending < max)
        return;
    if (now >= amqp->tell_of_pending_at_ms) {
        amqp->tell_of_pending_at_ms = now + COMPLAIN_MS;
        log_warn(NULL, "%u sockets without an open connection: the oldest make room for new ones",
                 max);
    }
    conn_close(container_of(amqp->pending.next, struct conn, in_pending),
               "too many handshakes at once");
}

void
conn_adopt(struct amqp *amqp, int fd, bool is_tls)
{
    struct conn *c;

    if (amqp->stopping) {
        close(fd);
        limits_give_socket(topology_limits(amqp->topology));
        return;
    }
    make_room_among_pending(amqp);
    c = mem_new(struct conn);
    c->amqp = amqp;
    c->state = CONN_AWAIT_HEADER;
    c->id = amqp_next_id(amqp);
    c->frame_max = amqp->settings->initial_frame_max;
    c->deadline_ms = worker_now_ms(amqp->worker) + amqp->settings->handshake_timeout_ms;
    c->clear = (struct worker_task){.run = on_clear, .arg = c};
    idmap_init(&c->channels);
    list_init(&c->parked);
    list_append(&amqp->all, &c->in_all);
    list_append(&amqp->pending, &c->in_pending);
    amqp->n_pending++;
    idmap_add(&amqp->connections, c->id, c);
    atomic_fetch_add_explicit(&amqp->n_connections, 1, memory_order_relaxed);
    c->transport = make_transport(c, fd, is_tls);
    if (amqp->settings->proxied)
        transport_await_proxy(c->transport);
}
