#include "session.h"

#include <inttypes.h>
#include <stdarg.h>

#include "lepus/base/mem.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/table.h"

enum {
    OUT_MAX = 256 * 1024 * 1024,
    WRITE_BUDGET = 512 * 1024, /* octets a turn, so that reading has its turn too */
    READ_BUDGET = 16,          /* reads a turn, while TLS has more */
    STAMP_SIZE = 8,
    IDS_SIZE = 4, /* class and method */
};

#define IDS(class_id, method_id) ((uint32_t)(class_id) << 16 | (method_id))

/* Life */

struct session *
session_new(struct loop *loop, enum session_kind kind)
{
    struct session *s = mem_new(struct session);

    s->loop = loop;
    s->kind = kind;
    s->link.fd = -1;
    buf_init(&s->out, OUT_MAX);
    loop_add_session(loop, kind, s);
    return s;
}

void
session_free(struct session *s)
{
    if (s->readable != NULL)
        event_free(s->readable);
    if (s->writable != NULL)
        event_free(s->writable);
    link_close(&s->link);
    for (unsigned i = 0; i < s->n_channels; i++)
        s->channels[i]->ops->free(s->channels[i]);
    free(s->channels);
    free(s->tail);
    buf_fini(&s->out);
    free(s);
}

void
session_add_channel(struct session *s, struct channel *channel)
{
    s->channels = mem_resize(s->channels, (s->n_channels + 1) * sizeof(channel));
    s->channels[s->n_channels++] = channel;
    channel->session = s;
    channel->id = (uint16_t)s->n_channels;
}

static bool
is_handshaking(const struct session *s)
{
    return s->state != SESSION_CLOSED && s->state < SESSION_OPEN;
}

static void
drop(struct session *s)
{
    bool was_handshaking = is_handshaking(s);

    if (s->readable != NULL)
        event_free(s->readable);
    if (s->writable != NULL)
        event_free(s->writable);
    s->readable = s->writable = NULL;
    s->awaits_writable = s->is_blocked = false;
    link_close(&s->link);
    buf_clear(&s->out);
    s->out_sent = s->tail_len = s->skip = 0;
    s->chunk = view_of(NULL, 0);
    s->state = SESSION_CLOSED;
    for (unsigned i = 0; i < s->n_channels; i++)
        s->channels[i]->content = CONTENT_NONE;
    if (was_handshaking)
        loop_handshake_over(s->loop, s->kind);
}

void
session_fail(struct session *s, const char *format, ...)
{
    char text[300];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    crew_fail(s->loop->crew, "%s", text);
    drop(s);
}

/* It is CLOSED the way it was meant to be. */
static void
finish(struct session *s)
{
    drop(s);
    if (s->kind == CHURNER && s->channels[0]->ops->closed != NULL)
        s->channels[0]->ops->closed(s->channels[0]);
    else
        crew_done(s->loop->crew);
}

/* Writing */

void
session_send(struct channel *channel, enum method method, const void *args)
{
    method_write(&channel->session->out, channel->id, method, args);
}

static void
send_on_zero(struct session *s, enum method method, const void *args)
{
    method_write(&s->out, 0, method, args);
}

static void
await_writable(struct session *s, bool awaits)
{
    if (awaits == s->awaits_writable)
        return;
    s->awaits_writable = awaits;
    if (awaits)
        event_add(s->writable, NULL);
    else
        event_del(s->writable);
}

/* The next of the channels, in turn, that has something to publish. */
static bool
draw_chunk(struct session *s)
{
    if (s->state != SESSION_OPEN || s->is_blocked)
        return false;
    for (unsigned i = 0; i < s->n_channels; i++) {
        struct channel *channel = s->channels[s->next_source];

        s->next_source = (s->next_source + 1) % s->n_channels;
        if (channel->ops->next_chunk != NULL && channel->ops->next_chunk(channel, &s->chunk))
            return true;
    }
    return false;
}

/* A chunk that was begun is completed before methods are sent: it may stand within a frame. */
static struct view
next_to_write(struct session *s)
{
    if (s->chunk.len > 0)
        return s->chunk;
    if (s->out.len > s->out_sent)
        return view_of(s->out.at + s->out_sent, s->out.len - s->out_sent);
    buf_clear(&s->out);
    s->out_sent = 0;
    if (draw_chunk(s))
        return s->chunk;
    /* A producer that has nothing more to send may have said so. */
    return view_of(s->out.at, s->out.len);
}

static void
wrote(struct session *s, size_t n)
{
    if (s->chunk.len > 0)
        s->chunk = view_of(s->chunk.at + n, s->chunk.len - n);
    else
        s->out_sent += n;
}

void
session_flush(struct session *s)
{
    size_t budget = WRITE_BUDGET;

    if (s->state == SESSION_CLOSED || s->state == SESSION_CONNECTING)
        return;
    for (;;) {
        struct view next = next_to_write(s);
        ssize_t n;

        if (s->out.bad) {
            session_fail(s, "too much to send is waiting for the broker to read");
            return;
        }
        if (next.len == 0) {
            await_writable(s, false);
            return;
        }
        if (budget == 0)
            break;
        n = link_write(&s->link, next.at, next.len);
        if (n == LINK_GONE) {
            /* The reason may be waiting to be read: connection.close before the reset. */
            await_writable(s, false);
            if (s->state == SESSION_CLOSING)
                finish(s);
            else
                event_active(s->readable, EV_READ, 0);
            return;
        }
        if (n == LINK_AGAIN)
            break;
        wrote(s, (size_t)n);
        s->written_ns = s->loop->now_ns;
        budget = (size_t)n < budget ? budget - (size_t)n : 0;
    }
    await_writable(s, true);
}

/* Methods on channel 0 */

static void
write_client_properties(struct buf *to)
{
    static const char *const capabilities[] = {
        "publisher_confirms",         "basic.nack",
        "consumer_cancel_notify",     "connection.blocked",
        "exchange_exchange_bindings", "authentication_failure_close"};
    size_t begun;

    table_put_longstr(to, VIEW_LIT("product"), VIEW_LIT("lepus-perf"));
    table_put_longstr(to, VIEW_LIT("version"), VIEW_LIT(LEPUS_VERSION));
    begun = table_begin_table(to, VIEW_LIT("capabilities"));
    for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
        table_put_bool(to, view_str(capabilities[i]), true);
    table_end(to, begun);
}

static void
answer_start(struct session *s)
{
    const struct url *url = &s->loop->crew->options->url;
    struct buf properties, response;

    buf_init(&properties, 4096);
    buf_init(&response, 4096);
    write_client_properties(&properties);
    buf_u8(&response, 0);
    buf_append(&response, url->user, strlen(url->user));
    buf_u8(&response, 0);
    buf_append(&response, url->password, strlen(url->password));
    send_on_zero(s, METHOD_connection_start_ok,
                 &(struct connection_start_ok){.client_properties = buf_view(&properties),
                                               .mechanism = VIEW_LIT("PLAIN"),
                                               .response = buf_view(&response),
                                               .locale = VIEW_LIT("en_US")});
    buf_fini(&properties);
    buf_fini(&response);
    s->state = SESSION_AWAIT_TUNE;
}

/* The lesser of two limits, of which 0 is none. */
static uint64_t
lesser(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void
answer_tune(struct session *s, const struct connection_tune *tune)
{
    const struct options *o = s->loop->crew->options;
    uint64_t heartbeat = o->heartbeat_s == 0 ? 0 : lesser(o->heartbeat_s, tune->heartbeat);

    if (tune->channel_max != 0 && tune->channel_max < s->n_channels) {
        session_fail(s, "the broker allows %u channels on a connection, not %u",
                     (unsigned)tune->channel_max, s->n_channels);
        return;
    }
    s->frame_max = lesser(o->frame_max, tune->frame_max);
    s->heartbeat_ns = heartbeat * 1000000000;
    send_on_zero(s, METHOD_connection_tune_ok,
                 &(struct connection_tune_ok){.channel_max = tune->channel_max,
                                              .frame_max = (uint32_t)s->frame_max,
                                              .heartbeat = (uint16_t)heartbeat});
    send_on_zero(s, METHOD_connection_open,
                 &(struct connection_open){.virtual_host = view_str(o->url.vhost)});
    s->state = SESSION_AWAIT_OPEN_OK;
}

static void
open_channels(struct session *s)
{
    s->state = SESSION_OPEN;
    for (unsigned i = 0; i < s->n_channels; i++)
        session_send(s->channels[i], METHOD_channel_open, &(struct channel_open){0});
    loop_handshake_over(s->loop, s->kind);
}

static void
on_connection_method(struct session *s, enum method method, const union method_args *args)
{
    if (method == METHOD_connection_start && s->state == SESSION_AWAIT_START)
        answer_start(s);
    else if (method == METHOD_connection_tune && s->state == SESSION_AWAIT_TUNE)
        answer_tune(s, &args->connection_tune);
    else if (method == METHOD_connection_open_ok && s->state == SESSION_AWAIT_OPEN_OK)
        open_channels(s);
    else if (method == METHOD_connection_blocked) {
        s->is_blocked = true;
        TALLY_ADD(&s->loop->tally, blocked, 1);
    } else if (method == METHOD_connection_unblocked)
        s->is_blocked = false;
    else if (method == METHOD_connection_close)
        session_fail(s, "the broker closed the connection: %u " VIEW_FMT,
                     (unsigned)args->connection_close.reply_code,
                     VIEW_ARG(args->connection_close.reply_text));
    else
        session_fail(s, "the broker sent %s on channel 0, out of turn", method_rows[method].name);
}

/* Methods on other channels */

static void
on_channel_method(struct channel *channel, enum method method, const union method_args *args)
{
    struct session *s = channel->session;

    if (method == METHOD_channel_open_ok)
        channel->ops->opened(channel);
    else if (method == METHOD_channel_close)
        session_fail(s, "the broker closed channel %u: %u " VIEW_FMT, (unsigned)channel->id,
                     (unsigned)args->channel_close.reply_code,
                     VIEW_ARG(args->channel_close.reply_text));
    else if (method == METHOD_basic_cancel)
        session_fail(s, "the broker cancelled consumer '" VIEW_FMT "' of channel %u",
                     VIEW_ARG(args->basic_cancel.consumer_tag), (unsigned)channel->id);
    else if (method == METHOD_channel_flow)
        session_send(channel, METHOD_channel_flow_ok,
                     &(struct channel_flow_ok){.active = args->channel_flow.active});
    else if (method == METHOD_basic_return) {
        TALLY_ADD(&s->loop->tally, returned, 1);
        channel->content = CONTENT_OTHER;
    } else if (channel->ops->method != NULL)
        channel->ops->method(channel, method, args);
}

/* The answer to ours, which is all that counts while CLOSING. The broker's own close may have
 * crossed it: nothing more will come either way. */
static void
on_method_while_closing(struct session *s, enum method method)
{
    if (method == METHOD_connection_close_ok || method == METHOD_connection_close)
        finish(s);
}

static void
on_method(struct session *s, uint16_t id, struct view payload)
{
    union method_args args;
    struct err err = {0};
    enum method method = payload.len < IDS_SIZE
                             ? METHOD_UNKNOWN
                             : method_find(be_u16(payload.at), be_u16(payload.at + 2));

    if (s->state == SESSION_CLOSING) {
        on_method_while_closing(s, method);
        return;
    }
    if (method == METHOD_UNKNOWN) {
        session_fail(s, "the broker sent a method that there is not");
        return;
    }
    if (!method_decode(method, view_of(payload.at + IDS_SIZE, payload.len - IDS_SIZE), &args,
                       &err)) {
        session_fail(s, "the broker sent a bad frame: %s", err.text);
        return;
    }
    if (id == 0)
        on_connection_method(s, method, &args);
    else if (id <= s->n_channels)
        on_channel_method(s->channels[id - 1], method, &args);
    else
        session_fail(s, "the broker sent %s on channel %u", method_rows[method].name, (unsigned)id);
}

/* Scanning: what comes by the million */

/* Of basic.deliver: the tag stands behind the consumer's. */
static bool
scan_deliver(struct channel *channel, const uint8_t *arguments, size_t len)
{
    size_t at = 1 + (size_t)arguments[0];

    if (len < at + 9)
        return false;
    channel->tag = be_u64(arguments + at);
    channel->redelivered = (arguments[at + 8] & 1) != 0;
    channel->content = CONTENT_DELIVERY;
    channel->has_stamp = false;
    return true;
}

static void
content_complete(struct channel *channel)
{
    enum content content = channel->content;

    channel->content = CONTENT_NONE;
    if (content == CONTENT_DELIVERY && channel->ops->delivered != NULL)
        channel->ops->delivered(channel);
}

static bool
scan_header(struct channel *channel, const uint8_t *payload, size_t len)
{
    if (len < CONTENT_HEADER_HEAD_SIZE || channel->content == CONTENT_NONE)
        return false;
    channel->size = channel->left = be_u64(payload + 4);
    if (channel->left == 0)
        content_complete(channel);
    return true;
}

/* `len` is the frame's; of its payload at least the smaller of it and STAMP_SIZE is there. */
static bool
scan_body(struct channel *channel, const uint8_t *payload, size_t len)
{
    if (len > channel->left || channel->content == CONTENT_NONE)
        return false;
    if (channel->left == channel->size && len >= STAMP_SIZE) {
        channel->stamp = be_u64(payload);
        channel->has_stamp = true;
    }
    channel->left -= len;
    if (channel->left == 0)
        content_complete(channel);
    return true;
}

/* The three frames of a delivery, and confirms. False: look at it more closely. */
static bool
scan_frame(struct channel *channel, uint8_t type, const uint8_t *payload, size_t len)
{
    uint32_t ids;

    if (type == FRAME_BODY)
        return scan_body(channel, payload, len);
    if (type == FRAME_HEADER)
        return scan_header(channel, payload, len);
    if (type != FRAME_METHOD || len < IDS_SIZE + 9)
        return false;
    ids = be_u32(payload);
    if (ids == IDS(60, 60))
        return scan_deliver(channel, payload + IDS_SIZE, len - IDS_SIZE);
    if ((ids == IDS(60, 80) || ids == IDS(60, 120)) && channel->ops->settled != NULL) {
        channel->ops->settled(channel, be_u64(payload + IDS_SIZE), (payload[IDS_SIZE + 8] & 1) != 0,
                              ids == IDS(60, 80));
        return true;
    }
    return false;
}

static void
on_frame(struct session *s, uint8_t type, uint16_t id, const uint8_t *payload, size_t len)
{
    bool is_fast = s->state == SESSION_OPEN && id != 0 && id <= s->n_channels;

    if (is_fast && scan_frame(s->channels[id - 1], type, payload, len))
        return;
    if (type == FRAME_METHOD)
        on_method(s, id, view_of(payload, len));
    else if (type != FRAME_HEARTBEAT && s->state != SESSION_CLOSING && s->state != SESSION_CLOSED)
        session_fail(s, "the broker sent a frame of type %u that nobody waits for", type);
}

/* Passes over what is left of a body frame. */
static size_t
skip(struct session *s, const uint8_t *at, size_t len)
{
    size_t n = len < s->skip ? len : s->skip;

    s->skip -= n;
    if (s->skip == 0 && at[n - 1] != FRAME_END)
        session_fail(s, "the broker sent a frame that does not end with 0xCE");
    return n;
}

/* Octets done with, from the front; what is left is an incomplete frame. */
static size_t
scan(struct session *s, const uint8_t *at, size_t len)
{
    size_t done = s->skip > 0 && len > 0 ? skip(s, at, len) : 0;

    while (s->state != SESSION_CLOSED && len - done >= FRAME_HEAD_SIZE) {
        const uint8_t *head = at + done;
        size_t left = len - done, size = be_u32(head + 3), whole = size + FRAME_OVERHEAD;

        if (left >= whole) {
            if (head[whole - 1] != FRAME_END) {
                session_fail(s, "the broker sent a frame that does not end with 0xCE");
                break;
            }
            on_frame(s, head[0], be_u16(head + 1), head + FRAME_HEAD_SIZE, size);
            done += whole;
        } else if (head[0] == FRAME_BODY && left >= FRAME_HEAD_SIZE + STAMP_SIZE) {
            on_frame(s, FRAME_BODY, be_u16(head + 1), head + FRAME_HEAD_SIZE, size);
            s->skip = whole - left;
            done = len;
        } else if (whole > s->loop->tail_max) {
            session_fail(s, "the broker sent a frame of %zu octets", whole);
            break;
        } else
            break;
    }
    return s->state == SESSION_CLOSED ? len : done;
}

static void
keep_tail(struct session *s, const uint8_t *at, size_t len)
{
    if (len > 0) {
        s->tail = mem_resize(s->tail, len);
        memcpy(s->tail, at, len);
    }
    s->tail_len = len;
}

/* One read; false when there was nothing, or the session is over. */
static bool
read_some(struct session *s)
{
    struct loop *loop = s->loop;
    uint8_t *at = loop->input + loop->tail_max - s->tail_len;
    size_t len = s->tail_len, done;
    ssize_t n = link_read(&s->link, loop->input + loop->tail_max, INPUT_SIZE);

    if (n == LINK_AGAIN)
        return false;
    if (n == LINK_GONE) {
        if (s->state == SESSION_CLOSING)
            finish(s);
        else
            session_fail(s, "%s%s", s->link.error,
                         s->state == SESSION_AWAIT_TUNE ? " (wrong user or password?)" : "");
        return false;
    }
    if (len > 0)
        memcpy(at, s->tail, len);
    len += (size_t)n;
    s->read_ns = loop->now_ns = crew_now_ns(loop->crew);
    done = scan(s, at, len);
    loop_end_turn(loop);
    keep_tail(s, at + done, len - done);
    return s->state != SESSION_CLOSED;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    int budget = READ_BUDGET;

    (void)fd;
    (void)what;
    while (read_some(s) && link_has_buffered(&s->link) && --budget > 0)
        continue;
    if (budget == 0 && s->state != SESSION_CLOSED)
        event_active(s->readable, EV_READ, 0);
    session_flush(s);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;

    (void)fd;
    (void)what;
    s->loop->now_ns = crew_now_ns(s->loop->crew);
    session_flush(s);
}

/* Opening and closing */

static void
watch(struct session *s, event_callback_fn on_read, event_callback_fn on_write)
{
    s->readable = event_new(s->loop->base, s->link.fd, EV_READ | EV_PERSIST, on_read, s);
    s->writable = event_new(s->loop->base, s->link.fd, EV_WRITE | EV_PERSIST, on_write, s);
    event_priority_set(s->readable, LOOP_READS);
    event_priority_set(s->writable, LOOP_WRITES);
}

static void
on_established(struct session *s)
{
    static const uint8_t header[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

    event_free(s->readable);
    event_free(s->writable);
    watch(s, on_readable, on_writable);
    event_add(s->readable, NULL);
    s->awaits_writable = false;
    s->state = SESSION_AWAIT_START;
    s->read_ns = s->written_ns = s->loop->now_ns = crew_now_ns(s->loop->crew);
    buf_append(&s->out, header, sizeof(header));
    session_flush(s);
    /* TLS may hold the broker's first octets already: a client that reads ahead. */
    if (link_has_buffered(&s->link))
        event_active(s->readable, EV_READ, 0);
}

static void
on_connecting(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;

    (void)fd;
    switch (link_establish(&s->link)) {
    case LINK_PENDING:
        /* Writable it is at once; from then on TLS waits for the peer. */
        if ((what & EV_WRITE) != 0)
            event_del(s->writable);
        break;
    case LINK_READY:
        on_established(s);
        break;
    case LINK_FAILED:
        session_fail(s, "%s", s->link.error);
        break;
    }
}

void
session_open(struct session *s)
{
    s->state = SESSION_CONNECTING;
    if (!link_open(&s->link, &s->loop->crew->peer)) {
        session_fail(s, "%s", s->link.error);
        return;
    }
    watch(s, on_connecting, on_connecting);
    event_add(s->readable, NULL);
    event_add(s->writable, NULL);
}

void
session_start(struct session *s)
{
    if (s->state != SESSION_OPEN && s->kind != CHURNER)
        return;
    for (unsigned i = 0; i < s->n_channels; i++)
        if (s->channels[i]->ops->start != NULL)
            s->channels[i]->ops->start(s->channels[i]);
    session_flush(s);
}

void
session_close(struct session *s)
{
    if (s->state == SESSION_CLOSING)
        return;
    if (s->state != SESSION_OPEN) {
        drop(s);
        crew_done(s->loop->crew);
        return;
    }
    for (unsigned i = 0; i < s->n_channels; i++)
        if (s->channels[i]->ops->closing != NULL)
            s->channels[i]->ops->closing(s->channels[i]);
    send_on_zero(s, METHOD_connection_close,
                 &(struct connection_close){.reply_code = 200, .reply_text = VIEW_LIT("done")});
    s->state = SESSION_CLOSING;
    session_flush(s);
}

void
session_heartbeat(struct session *s)
{
    uint64_t now = s->loop->now_ns;

    if (s->state != SESSION_OPEN || s->heartbeat_ns == 0)
        return;
    if (now > s->read_ns + 2 * s->heartbeat_ns) {
        session_fail(s, "the broker has been silent for two heartbeats");
        return;
    }
    if (now >= s->written_ns + s->heartbeat_ns / 2 && s->out.len == s->out_sent) {
        static const uint8_t heartbeat[] = {FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END};

        buf_append(&s->out, heartbeat, sizeof(heartbeat));
        session_flush(s);
    }
}
