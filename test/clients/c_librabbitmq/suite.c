/*
 * suite: what a C program does with librabbitmq, and the amqp-* command-line tools.
 *
 * Each case opens its own connections, names its own queues and exchanges, and fails by a jump
 * out of expect(); the runner then closes whatever the case had opened. Every wait is bounded by
 * WAIT_S. Queues are exclusive where one connection is enough, so that they go with it.
 */
#define _GNU_SOURCE /* asprintf, memmem, open_memstream */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

#define WAIT_S      10  /* no single wait is longer */
#define SUITE_S     120 /* the whole program ends by then, whatever happens */
#define FRAME_MAX   131072
#define PAYLOAD_MAX (FRAME_MAX - 8) /* what is left of a body frame beside its header and end */

typedef amqp_connection_state_t conn_t;

static const char *host, *port, *url;

/* ---- the harness ---- */

static jmp_buf failed;
static char why[1024];
static conn_t opened[8];
static size_t opened_count;

static _Noreturn void
fail(int line, const char *format, ...)
{
    va_list ap;
    int n = snprintf(why, sizeof(why), "line %d: ", line);

    va_start(ap, format);
    vsnprintf(why + n, sizeof(why) - (size_t)n, format, ap);
    va_end(ap);
    longjmp(failed, 1);
}

#define expect(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail(__LINE__, __VA_ARGS__);                                                           \
    } while (0)

/* A name no other case, suite or run uses; valid to the end of the program. */
static const char *
unique(const char *stem)
{
    static unsigned serial;
    char *name;

    if (asprintf(&name, "c.%s.%d.%u", stem, (int)getpid(), ++serial) < 0)
        abort();
    return name;
}

static amqp_bytes_t
b(const char *text)
{
    return amqp_cstring_bytes(text);
}

static bool
same_bytes(amqp_bytes_t x, amqp_bytes_t y)
{
    return x.len == y.len && memcmp(x.bytes, y.bytes, x.len) == 0;
}

/* ---- connections and channels ---- */

static conn_t
dial(void)
{
    conn_t c = amqp_new_connection();
    struct timeval limit = {WAIT_S, 0};
    amqp_socket_t *socket = amqp_tcp_socket_new(c);

    opened[opened_count++] = c;
    amqp_set_rpc_timeout(c, &limit);
    amqp_set_handshake_timeout(c, &limit);
    expect(socket != NULL && amqp_socket_open(socket, host, atoi(port)) == AMQP_STATUS_OK,
           "cannot connect to %s:%s", host, port);
    return c;
}

static amqp_rpc_reply_t
login(conn_t c, const char *vhost, const char *password, int heartbeat)
{
    return amqp_login(c, vhost, 0, FRAME_MAX, heartbeat, AMQP_SASL_METHOD_PLAIN, "guest", password);
}

static void
expect_ok_at(int line, amqp_rpc_reply_t r)
{
    const char *text = "server exception";

    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        text = amqp_error_string2(r.library_error);
    else if (r.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
        fail(line, "channel closed: %.*s",
             (int)((amqp_channel_close_t *)r.reply.decoded)->reply_text.len,
             (char *)((amqp_channel_close_t *)r.reply.decoded)->reply_text.bytes);
    fail(line, "call failed: %s", text);
}
#define expect_ok(c) expect_ok_at(__LINE__, amqp_get_rpc_reply(c))

/* A logged-in connection with channel 1 open, which says that it understands basic.cancel. */
static conn_t
connection(void)
{
    amqp_table_entry_t ability = {
        .key = b("consumer_cancel_notify"),
        .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1},
    };
    amqp_table_entry_t abilities = {
        .key = b("capabilities"),
        .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {1, &ability}},
    };
    amqp_table_t client = {1, &abilities};
    conn_t c = dial();

    expect_ok_at(__LINE__, amqp_login_with_properties(c, "/", 0, FRAME_MAX, 0, &client,
                                                      AMQP_SASL_METHOD_PLAIN, "guest", "guest"));
    amqp_channel_open(c, 1);
    expect_ok(c);
    return c;
}

static void
expect_closing(int line, const amqp_method_t *m, int code, const char *words)
{
    uint16_t got;
    amqp_bytes_t text;

    if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
        got = ((amqp_channel_close_t *)m->decoded)->reply_code;
        text = ((amqp_channel_close_t *)m->decoded)->reply_text;
    } else if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        got = ((amqp_connection_close_t *)m->decoded)->reply_code;
        text = ((amqp_connection_close_t *)m->decoded)->reply_text;
    } else {
        fail(line, "expected a close, got %s", amqp_method_name(m->id));
    }
    if (got != code || memmem(text.bytes, text.len, words, strlen(words)) == NULL)
        fail(line, "expected %d '%s', got %d '%.*s'", code, words, got, (int)text.len,
             (char *)text.bytes);
}

/* The last call on the channel was refused with code; answers the close and reopens the channel. */
static void
expect_channel_refusal(int line, conn_t c, amqp_channel_t channel, int code, const char *words)
{
    amqp_rpc_reply_t r = amqp_get_rpc_reply(c);
    amqp_channel_close_ok_t ok = {0};

    if (r.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION)
        fail(line, "expected %d, but the call gave reply type %d", code, (int)r.reply_type);
    if (r.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
        fail(line, "expected channel.close %d, got %s", code, amqp_method_name(r.reply.id));
    expect_closing(line, &r.reply, code, words);
    amqp_send_method(c, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    amqp_channel_open(c, channel);
    expect_ok_at(line, amqp_get_rpc_reply(c));
}
#define expect_refused(c, channel, code, words)                                                    \
    expect_channel_refusal(__LINE__, c, channel, code, words)

/* Waits for the given method; content frames must not stand before it. */
static amqp_method_t
wait_method(int line, conn_t c, amqp_channel_t channel, amqp_method_number_t id)
{
    amqp_frame_t f;
    struct timeval limit = {WAIT_S, 0};
    int status = amqp_simple_wait_frame_noblock(c, &f, &limit);

    if (status != AMQP_STATUS_OK)
        fail(line, "waiting for %s: %s", amqp_method_name(id), amqp_error_string2(status));
    if (f.frame_type != AMQP_FRAME_METHOD || f.channel != channel || f.payload.method.id != id)
        fail(line, "expected %s on channel %d, got frame type %d, method %s, channel %d",
             amqp_method_name(id), channel, f.frame_type,
             f.frame_type == AMQP_FRAME_METHOD ? amqp_method_name(f.payload.method.id) : "-",
             f.channel);
    return f.payload.method;
}

/* ---- queues, exchanges, messages ---- */

static uint32_t
declare_with(conn_t c, const char *queue, bool passive, bool durable, bool exclusive)
{
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c, 1, b(queue), passive, durable, exclusive, false, amqp_empty_table);

    return ok == NULL ? 0 : ok->message_count;
}

/* An exclusive queue of this connection, empty. */
static const char *
queue(conn_t c, const char *stem)
{
    const char *name = unique(stem);

    declare_with(c, name, false, false, true);
    expect_ok(c);
    return name;
}

/* An auto-delete exchange, bound to nothing yet. */
static const char *
exchange(conn_t c, const char *type)
{
    const char *name = unique(type);

    amqp_exchange_declare(c, 1, b(name), b(type), 0, 0, 1, 0, amqp_empty_table);
    expect_ok(c);
    return name;
}

static void
bind_queue(conn_t c, const char *queue, const char *exchange, const char *key,
           amqp_table_t arguments)
{
    amqp_queue_bind(c, 1, b(queue), b(exchange), b(key), arguments);
    expect_ok(c);
}

static void
publish_full(conn_t c, amqp_channel_t channel, const char *exchange, const char *key,
             bool mandatory, const amqp_basic_properties_t *props, amqp_bytes_t body)
{
    int status = amqp_basic_publish(c, channel, b(exchange), b(key), mandatory, 0, props, body);

    expect(status == AMQP_STATUS_OK, "publish: %s", amqp_error_string2(status));
}

static void
publish(conn_t c, const char *exchange, const char *key, const char *body)
{
    publish_full(c, 1, exchange, key, false, NULL, b(body));
}

static void
consume(conn_t c, amqp_channel_t channel, const char *queue, const char *tag, bool no_ack)
{
    amqp_basic_consume(c, channel, b(queue), b(tag), 0, no_ack, 0, amqp_empty_table);
    expect_ok(c);
}

/* The next delivery; the caller destroys the envelope. */
static amqp_envelope_t
delivery_at(int line, conn_t c)
{
    amqp_envelope_t e;
    struct timeval limit = {WAIT_S, 0};
    amqp_rpc_reply_t r = amqp_consume_message(c, &e, &limit, 0);

    if (r.reply_type != AMQP_RESPONSE_NORMAL)
        fail(line, "no delivery: %s", amqp_error_string2(r.library_error));
    return e;
}

/* Expects the next delivery to carry this body; returns its delivery tag. */
static uint64_t
expect_delivery_at(int line, conn_t c, const char *body, bool redelivered)
{
    amqp_envelope_t e = delivery_at(line, c);
    uint64_t tag = e.delivery_tag;

    if (!same_bytes(e.message.body, b(body)) || (bool)e.redelivered != redelivered)
        fail(line, "expected '%s' (redelivered %d), got '%.*s' (%d)", body, redelivered,
             (int)e.message.body.len, (char *)e.message.body.bytes, e.redelivered);
    amqp_destroy_envelope(&e);
    return tag;
}
#define expect_delivery(c, body, redelivered) expect_delivery_at(__LINE__, c, body, redelivered)

/* False when the queue is empty, else the message, which the caller destroys. */
static bool
get(conn_t c, const char *queue, bool no_ack, amqp_message_t *out_message, uint64_t *out_tag,
    uint32_t *out_left)
{
    amqp_rpc_reply_t r = amqp_basic_get(c, 1, b(queue), no_ack);
    const amqp_basic_get_ok_t *ok = r.reply.decoded;

    expect_ok_at(__LINE__, r);
    if (r.reply.id == AMQP_BASIC_GET_EMPTY_METHOD)
        return false;
    if (out_tag != NULL)
        *out_tag = ok->delivery_tag;
    if (out_left != NULL)
        *out_left = ok->message_count;
    expect_ok_at(__LINE__, amqp_read_message(c, 1, out_message, 0));
    return true;
}

static void
expect_get_at(int line, conn_t c, const char *queue, const char *body)
{
    amqp_message_t m;

    if (!get(c, queue, true, &m, NULL, NULL))
        fail(line, "'%s' is empty, expected '%s'", queue, body);
    if (!same_bytes(m.body, b(body)))
        fail(line, "expected '%s', got '%.*s'", body, (int)m.body.len, (char *)m.body.bytes);
    amqp_destroy_message(&m);
}
#define expect_get(c, queue, body) expect_get_at(__LINE__, c, queue, body)

static void
expect_empty_at(int line, conn_t c, const char *queue)
{
    amqp_message_t m;

    if (get(c, queue, true, &m, NULL, NULL))
        fail(line, "'%s' is not empty, it held '%.*s'", queue, (int)m.body.len,
             (char *)m.body.bytes);
}
#define expect_empty(c, queue) expect_empty_at(__LINE__, c, queue)

/* ---- cases: connection ---- */

static void
connect_negotiates(void)
{
    conn_t c = dial();
    const amqp_table_t *props;
    bool has_product = false;

    expect_ok_at(__LINE__, login(c, "/", "guest", 7));
    expect(amqp_get_heartbeat(c) == 7, "heartbeat is %d", amqp_get_heartbeat(c));
    expect(amqp_get_frame_max(c) == FRAME_MAX, "frame_max is %d", amqp_get_frame_max(c));
    expect(amqp_get_channel_max(c) >= 200, "channel_max is %d", amqp_get_channel_max(c));
    props = amqp_get_server_properties(c);
    for (int i = 0; i < props->num_entries; i++)
        has_product |= same_bytes(props->entries[i].key, b("product"));
    expect(has_product, "server properties name no product");
    expect_ok_at(__LINE__, amqp_connection_close(c, AMQP_REPLY_SUCCESS));
}

static void
wrong_password(void)
{
    amqp_rpc_reply_t r = login(dial(), "/", "wrong", 0);

    expect(r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION, "reply type %d: %s", (int)r.reply_type,
           amqp_error_string2(r.library_error));
    expect_closing(__LINE__, &r.reply, 403, "ACCESS_REFUSED - Login was refused");
}

static void
unknown_vhost(void)
{
    amqp_rpc_reply_t r = login(dial(), "nowhere", "guest", 0);

    expect(r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION, "reply type %d", (int)r.reply_type);
    expect_closing(__LINE__, &r.reply, 530, "NOT_ALLOWED - vhost nowhere not found");
}

static void
cut_and_reconnect(void)
{
    conn_t c = connection();
    const char *q = unique("cut");
    struct timeval limit = {WAIT_S, 0};
    amqp_envelope_t e;
    amqp_rpc_reply_t r;

    declare_with(c, q, false, true, false);
    expect_ok(c);
    publish(c, "", q, "held");
    consume(c, 1, q, "t", false);
    expect_delivery(c, "held", false);
    shutdown(amqp_get_sockfd(c), SHUT_RDWR);
    r = amqp_consume_message(c, &e, &limit, 0);
    expect(r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
               r.library_error == AMQP_STATUS_CONNECTION_CLOSED,
           "a cut socket gave %s", amqp_error_string2(r.library_error));

    c = connection();
    consume(c, 1, q, "t", false);
    amqp_basic_ack(c, 1, expect_delivery(c, "held", true), 0);
    amqp_queue_delete(c, 1, b(q), 0, 0);
    expect_ok(c);
}

static void
many_channels(void)
{
    conn_t c = connection();
    const char *q = queue(c, "channels");
    char text[16];

    for (amqp_channel_t n = 2; n <= 200; n++) {
        amqp_channel_open(c, n);
        expect_ok(c);
    }
    for (amqp_channel_t n = 1; n <= 200; n++) {
        snprintf(text, sizeof(text), "%d", n);
        publish_full(c, n, "", q, false, NULL, b(text));
        amqp_queue_declare(c, n, b(q), 1, 0, 0, 0, amqp_empty_table);
        expect_ok(c);
    }
    for (amqp_channel_t n = 1; n <= 200; n++) {
        snprintf(text, sizeof(text), "%d", n);
        expect_get(c, q, text);
    }
    for (amqp_channel_t n = 2; n <= 200; n++)
        expect_ok_at(__LINE__, amqp_channel_close(c, n, AMQP_REPLY_SUCCESS));
    expect_empty(c, q);
}

/* ---- cases: refusals ---- */

static void
passive_missing(void)
{
    conn_t c = connection();
    const char *q = unique("missing");
    char words[128];

    declare_with(c, q, true, false, false);
    snprintf(words, sizeof(words), "NOT_FOUND - no queue '%s' in vhost '/'", q);
    expect_refused(c, 1, 404, words);
    amqp_exchange_declare(c, 1, b(q), b("direct"), 1, 0, 0, 0, amqp_empty_table);
    snprintf(words, sizeof(words), "NOT_FOUND - no exchange '%s' in vhost '/'", q);
    expect_refused(c, 1, 404, words);
    queue(c, "after");
}

static void
redeclare_mismatch(void)
{
    conn_t c = connection();
    const char *q = unique("mismatch"), *x = unique("mismatch");

    declare_with(c, q, false, false, false);
    expect_ok(c);
    declare_with(c, q, false, true, false);
    expect_refused(c, 1, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue");
    amqp_exchange_declare(c, 1, b(x), b("direct"), 0, 0, 0, 0, amqp_empty_table);
    expect_ok(c);
    amqp_exchange_declare(c, 1, b(x), b("fanout"), 0, 0, 0, 0, amqp_empty_table);
    expect_refused(c, 1, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange");
    amqp_queue_delete(c, 1, b(q), 0, 0);
    expect_ok(c);
    amqp_exchange_delete(c, 1, b(x), 0);
    expect_ok(c);
}

static void
exclusive_elsewhere(void)
{
    conn_t owner = connection(), other = connection();
    const char *q = queue(owner, "exclusive");

    declare_with(other, q, true, false, true);
    expect_refused(other, 1, 405, "RESOURCE_LOCKED - cannot obtain exclusive access");
    amqp_basic_consume(other, 1, b(q), b(""), 0, 1, 0, amqp_empty_table);
    expect_refused(other, 1, 405, "RESOURCE_LOCKED");
}

static void
double_ack(void)
{
    conn_t c = connection();
    const char *q = queue(c, "double");
    uint64_t tag;
    amqp_method_t m;

    publish(c, "", q, "once");
    consume(c, 1, q, "", false);
    tag = expect_delivery(c, "once", false);
    amqp_basic_ack(c, 1, tag, 0);
    amqp_basic_ack(c, 1, tag, 0);
    m = wait_method(__LINE__, c, 1, AMQP_CHANNEL_CLOSE_METHOD);
    expect_closing(__LINE__, &m, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

static void
publish_nowhere(void)
{
    conn_t c = connection();
    const char *x = unique("nowhere");
    amqp_method_t m;

    publish(c, x, "", "lost");
    m = wait_method(__LINE__, c, 1, AMQP_CHANNEL_CLOSE_METHOD);
    expect_closing(__LINE__, &m, 404, "NOT_FOUND - no exchange");
    amqp_channel_open(c, 2);
    expect_ok(c);
}

/* ---- cases: publishing ---- */

static void
confirms(void)
{
    enum { COUNT = 5000 };
    conn_t c = connection();
    const char *q = queue(c, "confirms");
    uint64_t confirmed = 0;

    amqp_confirm_select(c, 1);
    expect_ok(c);
    for (int i = 0; i < COUNT; i++)
        publish(c, "", q, "a message to be confirmed");
    /* Acks come in any order; tags stand for one message, or all up to it under multiple. */
    static bool seen[COUNT + 1];
    memset(seen, 0, sizeof(seen));
    while (confirmed < COUNT) {
        amqp_method_t m = wait_method(__LINE__, c, 1, AMQP_BASIC_ACK_METHOD);
        const amqp_basic_ack_t *ack = m.decoded;

        expect(ack->delivery_tag >= 1 && ack->delivery_tag <= COUNT, "confirm of tag %llu",
               (unsigned long long)ack->delivery_tag);
        for (uint64_t t = ack->multiple ? 1 : ack->delivery_tag; t <= ack->delivery_tag; t++) {
            confirmed += !seen[t];
            seen[t] = true;
        }
        amqp_maybe_release_buffers(c);
    }
    expect(declare_with(c, q, true, false, true) == COUNT, "not all are in the queue");
}

static void
mandatory_returns(void)
{
    conn_t c = connection();
    amqp_method_t m;
    const amqp_basic_return_t *ret;
    amqp_message_t message;
    const char *key = unique("unroutable");

    amqp_confirm_select(c, 1);
    expect_ok(c);
    publish_full(c, 1, "amq.direct", key, true, NULL, b("come back"));
    m = wait_method(__LINE__, c, 1, AMQP_BASIC_RETURN_METHOD);
    ret = m.decoded;
    expect(ret->reply_code == 312 && same_bytes(ret->reply_text, b("NO_ROUTE")) &&
               same_bytes(ret->exchange, b("amq.direct")) && same_bytes(ret->routing_key, b(key)),
           "returned with %d '%.*s'", ret->reply_code, (int)ret->reply_text.len,
           (char *)ret->reply_text.bytes);
    expect_ok_at(__LINE__, amqp_read_message(c, 1, &message, 0));
    expect(same_bytes(message.body, b("come back")), "another body came back");
    amqp_destroy_message(&message);
    wait_method(__LINE__, c, 1, AMQP_BASIC_ACK_METHOD); /* the confirm comes after the return */
}

static void
body_sizes(void)
{
    conn_t c = connection();
    const char *q = queue(c, "sizes");
    size_t sizes[64] = {
        0, 1, 4096, 2 * PAYLOAD_MAX - 1, 2 * PAYLOAD_MAX, 2 * PAYLOAD_MAX + 1, 1 << 20, 8 << 20};
    size_t count = 8;

    for (size_t n = PAYLOAD_MAX - 8; n <= PAYLOAD_MAX + 8; n++)
        sizes[count++] = n;
    for (size_t i = 0; i < count; i++) {
        amqp_bytes_t body = amqp_bytes_malloc(sizes[i] == 0 ? 1 : sizes[i]);
        amqp_message_t m;

        body.len = sizes[i];
        for (size_t at = 0; at < body.len; at++)
            ((unsigned char *)body.bytes)[at] = (unsigned char)(at * 31 + at / 251 + i);
        publish_full(c, 1, "", q, false, NULL, body);
        expect(get(c, q, true, &m, NULL, NULL), "%zu bytes did not arrive", sizes[i]);
        expect(same_bytes(m.body, body), "%zu bytes came back as %zu, or changed", sizes[i],
               m.body.len);
        amqp_destroy_message(&m);
        amqp_bytes_free(body);
        amqp_maybe_release_buffers(c);
    }
}

/* Writes a table as text, one letter for each type, so that a difference can be read. */
static void
describe(FILE *out, const amqp_field_value_t *v)
{
    fputc(v->kind, out);
    switch (v->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        fprintf(out, "%d", v->value.boolean);
        break;
    case AMQP_FIELD_KIND_I8:
        fprintf(out, "%d", v->value.i8);
        break;
    case AMQP_FIELD_KIND_U8:
        fprintf(out, "%u", v->value.u8);
        break;
    case AMQP_FIELD_KIND_I16:
        fprintf(out, "%d", v->value.i16);
        break;
    case AMQP_FIELD_KIND_U16:
        fprintf(out, "%u", v->value.u16);
        break;
    case AMQP_FIELD_KIND_I32:
        fprintf(out, "%d", v->value.i32);
        break;
    case AMQP_FIELD_KIND_U32:
        fprintf(out, "%u", v->value.u32);
        break;
    case AMQP_FIELD_KIND_I64:
        fprintf(out, "%lld", (long long)v->value.i64);
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        fprintf(out, "%llu", (unsigned long long)v->value.u64);
        break;
    case AMQP_FIELD_KIND_F32:
        fprintf(out, "%a", (double)v->value.f32);
        break;
    case AMQP_FIELD_KIND_F64:
        fprintf(out, "%a", v->value.f64);
        break;
    case AMQP_FIELD_KIND_DECIMAL:
        fprintf(out, "%u/%u", v->value.decimal.value, v->value.decimal.decimals);
        break;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        fprintf(out, "'%.*s'", (int)v->value.bytes.len, (char *)v->value.bytes.bytes);
        break;
    case AMQP_FIELD_KIND_ARRAY:
        for (int i = 0; i < v->value.array.num_entries; i++)
            describe(out, &v->value.array.entries[i]);
        fputc(']', out);
        break;
    case AMQP_FIELD_KIND_TABLE:
        for (int i = 0; i < v->value.table.num_entries; i++) {
            const amqp_table_entry_t *e = &v->value.table.entries[i];

            fprintf(out, " %.*s=", (int)e->key.len, (char *)e->key.bytes);
            describe(out, &e->value);
        }
        fputc('}', out);
        break;
    }
}

static const char *
described(amqp_table_t table)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = table};

    describe(out, &v);
    fclose(out);
    return text;
}

/* clang-format off */
#define VALUE(KIND, member, ...) {.kind = AMQP_FIELD_KIND_##KIND, .value.member = __VA_ARGS__}
#define TEXT(s)                  {.len = sizeof(s) - 1, .bytes = (void *)(s)}
#define ENTRY(name, ...)         {.key = TEXT(name), .value = __VA_ARGS__}
/* clang-format on */

static amqp_field_value_t array_values[] = {
    VALUE(I32, i32, 1),
    VALUE(UTF8, bytes, TEXT("two")),
    VALUE(BOOLEAN, boolean, 1),
};
static amqp_table_entry_t inner_entries[] = {
    ENTRY("deep", VALUE(UTF8, bytes, TEXT("down"))),
    ENTRY("list", VALUE(ARRAY, array, {3, array_values})),
};
static amqp_table_entry_t header_entries[] = {
    ENTRY("bool", VALUE(BOOLEAN, boolean, 1)),
    ENTRY("no", VALUE(BOOLEAN, boolean, 0)),
    ENTRY("i8", VALUE(I8, i8, -8)),
    ENTRY("u8", VALUE(U8, u8, 200)),
    ENTRY("i16", VALUE(I16, i16, -30000)),
    ENTRY("u16", VALUE(U16, u16, 60000)),
    ENTRY("i32", VALUE(I32, i32, -2000000000)),
    ENTRY("u32", VALUE(U32, u32, 4000000000u)),
    ENTRY("i64", VALUE(I64, i64, -9000000000000000000)),
    ENTRY("f32", VALUE(F32, f32, 1.5f)),
    ENTRY("f64", VALUE(F64, f64, -2.25e300)),
    ENTRY("decimal", VALUE(DECIMAL, decimal, {2, 12345})),
    ENTRY("text", VALUE(UTF8, bytes, TEXT("gr\xc3\xbc\xc3\x9f"))),
    ENTRY("empty", VALUE(UTF8, bytes, {0, NULL})),
    ENTRY("bytes", VALUE(BYTES, bytes, TEXT("\x01\xff\xfe"))),
    ENTRY("time", VALUE(TIMESTAMP, u64, 1700000000)),
    ENTRY("void", {.kind = AMQP_FIELD_KIND_VOID}),
    ENTRY("array", VALUE(ARRAY, array, {3, array_values})),
    ENTRY("table", VALUE(TABLE, table, {2, inner_entries})),
};

static void
properties_survive(void)
{
    conn_t c = connection();
    const char *q = queue(c, "properties");
    amqp_table_t headers = {sizeof(header_entries) / sizeof(header_entries[0]), header_entries};
    amqp_basic_properties_t sent = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                  AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                  AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_USER_ID_FLAG |
                  AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_CLUSTER_ID_FLAG,
        .content_type = TEXT("application/json"),
        .content_encoding = TEXT("gzip"),
        .headers = headers,
        .delivery_mode = 2,
        .priority = 5,
        .correlation_id = TEXT("c-1"),
        .reply_to = TEXT("answers"),
        .message_id = TEXT("m-1"),
        .timestamp = 1700000000,
        .type = TEXT("order"),
        .user_id = TEXT("guest"),
        .app_id = TEXT("suite"),
        .cluster_id = TEXT("c"),
    };
    amqp_message_t m;
    const amqp_basic_properties_t *back = &m.properties;

    publish_full(c, 1, "", q, false, &sent, b("x"));
    expect(get(c, q, true, &m, NULL, NULL), "nothing arrived");
    expect(back->_flags == sent._flags, "flags %x came back as %x", sent._flags, back->_flags);
    expect(strcmp(described(headers), described(back->headers)) == 0, "sent\n%s\ngot\n%s",
           described(headers), described(back->headers));
    expect(same_bytes(back->content_type, sent.content_type) &&
               same_bytes(back->content_encoding, sent.content_encoding) &&
               same_bytes(back->correlation_id, sent.correlation_id) &&
               same_bytes(back->reply_to, sent.reply_to) &&
               same_bytes(back->message_id, sent.message_id) && same_bytes(back->type, sent.type) &&
               same_bytes(back->user_id, sent.user_id) && same_bytes(back->app_id, sent.app_id) &&
               same_bytes(back->cluster_id, sent.cluster_id) && back->delivery_mode == 2 &&
               back->priority == 5 && back->timestamp == 1700000000,
           "a property changed");
}

static void
transactions(void)
{
    conn_t c = connection();
    const char *q = queue(c, "tx");
    amqp_message_t m;
    uint64_t tag;

    amqp_tx_select(c, 1);
    expect_ok(c);
    publish(c, "", q, "rolled back");
    amqp_tx_rollback(c, 1);
    expect_ok(c);
    publish(c, "", q, "committed");
    expect_empty(c, q);
    amqp_tx_commit(c, 1);
    expect_ok(c);

    expect(get(c, q, false, &m, &tag, NULL), "the commit brought nothing");
    expect(same_bytes(m.body, b("committed")), "got '%.*s'", (int)m.body.len, (char *)m.body.bytes);
    amqp_destroy_message(&m);
    amqp_basic_ack(c, 1, tag, 0);
    amqp_tx_rollback(c, 1); /* the ack is undone, the message still ours */
    expect_ok(c);
    amqp_basic_ack(c, 1, tag, 0);
    amqp_tx_commit(c, 1);
    expect_ok(c);
    expect_empty(c, q);
}

/* ---- cases: consuming ---- */

static void
consume_and_ack(void)
{
    conn_t c = connection();
    const char *q = queue(c, "work");

    publish(c, "", q, "one");
    publish(c, "", q, "two");
    publish(c, "", q, "three");
    consume(c, 1, q, "tag-1", false);
    amqp_basic_ack(c, 1, expect_delivery(c, "one", false), 0);
    expect_delivery(c, "two", false);
    amqp_basic_ack(c, 1, expect_delivery(c, "three", false), 1); /* "two" as well */
    amqp_basic_cancel(c, 1, b("tag-1"));
    expect_ok(c);
    expect(declare_with(c, q, true, false, true) == 0, "acked messages are still there");
    amqp_basic_recover(c, 1, 1);
    expect_ok(c);
    expect_empty(c, q);
}

static void
reject_and_requeue(void)
{
    conn_t c = connection();
    const char *q = queue(c, "requeue");
    uint64_t last;

    publish(c, "", q, "a");
    publish(c, "", q, "b");
    publish(c, "", q, "c");
    publish(c, "", q, "d");
    consume(c, 1, q, "t", false);
    amqp_basic_reject(c, 1, expect_delivery(c, "a", false), 0); /* dropped */
    expect_delivery(c, "b", false);
    expect_delivery(c, "c", false);
    last = expect_delivery(c, "d", false);
    amqp_basic_cancel(c, 1, b("t"));
    expect_ok(c);
    amqp_basic_nack(c, 1, last, 1, 1); /* b, c and d go back */
    consume(c, 1, q, "t2", false);
    expect_delivery(c, "b", true);
    expect_delivery(c, "c", true);
    amqp_basic_reject(c, 1, expect_delivery(c, "d", true), 1);
    expect_delivery(c, "d", true);
}

static void
prefetch(void)
{
    conn_t c = connection();
    const char *q = queue(c, "prefetch");
    char text[8];
    uint64_t tag = 0;

    for (int i = 0; i < 6; i++) {
        snprintf(text, sizeof(text), "%d", i);
        publish(c, "", q, text);
    }
    amqp_basic_qos(c, 1, 0, 3, 0);
    expect_ok(c);
    consume(c, 1, q, "t", false);
    expect_delivery(c, "0", false);
    expect_delivery(c, "1", false);
    tag = expect_delivery(c, "2", false);
    /* Had more been on its way, the queue would not still hold three. */
    expect(declare_with(c, q, true, false, true) == 3, "the prefetch of 3 is not kept");
    amqp_basic_ack(c, 1, tag, 1);
    expect_delivery(c, "3", false);
    expect_delivery(c, "4", false);
    expect_delivery(c, "5", false);
}

static void
basic_get(void)
{
    conn_t c = connection();
    const char *q = queue(c, "get");
    amqp_message_t m;
    uint32_t left = 99;
    uint64_t tag = 0;

    expect_empty(c, q);
    publish(c, "", q, "first");
    publish(c, "", q, "second");
    expect(get(c, q, false, &m, &tag, &left), "the queue is empty");
    expect(left == 1 && tag == 1 && same_bytes(m.body, b("first")), "tag %llu, %u left",
           (unsigned long long)tag, left);
    amqp_destroy_message(&m);
    amqp_basic_ack(c, 1, tag, 0);
    expect_get(c, q, "second");
    expect_empty(c, q);
}

static void
consumer_cancelled(void)
{
    conn_t c = connection();
    const char *q = queue(c, "cancel");
    amqp_method_t m;

    amqp_channel_open(c, 2);
    expect_ok(c);
    consume(c, 2, q, "watcher", true);
    amqp_queue_delete(c, 1, b(q), 0, 0);
    expect_ok(c);
    m = wait_method(__LINE__, c, 2, AMQP_BASIC_CANCEL_METHOD);
    expect(same_bytes(((amqp_basic_cancel_t *)m.decoded)->consumer_tag, b("watcher")),
           "another consumer was cancelled");
}

static void
request_reply(void)
{
    conn_t server = connection(), client = connection();
    const char *requests = queue(server, "rpc"), *answers = queue(client, "answers");
    amqp_basic_properties_t props = {._flags =
                                         AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG,
                                     .correlation_id = TEXT("42"),
                                     .reply_to = b(answers)};
    amqp_envelope_t e;
    char *to;

    for (int direct = 0; direct < 2; direct++) {
        if (direct) {
            answers = "amq.rabbitmq.reply-to";
            props.reply_to = b(answers);
        }
        consume(client, 1, answers, "", true);
        publish_full(client, 1, "", requests, false, &props, b("question"));
        if (!direct)
            consume(server, 1, requests, "", true);
        e = delivery_at(__LINE__, server);
        to = strndup(e.message.properties.reply_to.bytes, e.message.properties.reply_to.len);
        expect(!direct || strncmp(to, "amq.rabbitmq.reply-to.", 22) == 0,
               "the reply-to was not made routable: '%s'", to);
        publish_full(server, 1, "", to, false, &e.message.properties, b("answer"));
        amqp_destroy_envelope(&e);
        free(to);
        e = delivery_at(__LINE__, client);
        expect(same_bytes(e.message.properties.correlation_id, b("42")) &&
                   same_bytes(e.message.body, b("answer")),
               "the answer is another's");
        amqp_destroy_envelope(&e);
    }
}

/* ---- cases: routing ---- */

static void
topic_table(void)
{
    static const struct {
        const char *pattern, *key;
        bool matches;
    } rows[] = {
        {"*.orange.*", "quick.orange.rabbit", true},
        {"*.orange.*", "quick.orange", false},
        {"*.orange.*", "quick.orange.new.rabbit", false},
        {"lazy.#", "lazy", true},
        {"lazy.#", "lazy.brown.fox", true},
        {"lazy.#", "lazybones", false},
        {"#", "", true},
        {"#", "any.thing", true},
        {"*", "", false}, /* an empty key has no word */
        {"*", "one", true},
        {"*", "one.two", false},
        {"#.end", "end", true},
        {"#.end", "a.b.end", true},
        {"#.end", "end.a", false},
        {"a.#.b", "a.b", true},
        {"a.#.b", "a.x.y.b", true},
        {"a.#.b", "a.x.y", false},
        {"#.#", "x", true},
        {"*.#", "x", true},
        {"a.*.#.c", "a.c", false},
        {"a.*.#.c", "a.b.c", true},
        {"exact.key", "exact.key", true},
        {"exact.key", "exact.kez", false},
        {"a..b", "a..b", true},
        {"a.*.b", "a..b", true},
    };
    conn_t c = connection();
    const char *x = exchange(c, "topic"), *keeper = queue(c, "keeper");

    bind_queue(c, keeper, x, "keeps.the.exchange", amqp_empty_table); /* which is auto-delete */
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *q = queue(c, "topic");
        amqp_message_t m;
        bool came;

        bind_queue(c, q, x, rows[i].pattern, amqp_empty_table);
        publish(c, x, rows[i].key, rows[i].key);
        came = get(c, q, true, &m, NULL, NULL);
        expect(came == rows[i].matches, "'%s' %s '%s'", rows[i].pattern,
               came ? "matched" : "did not match", rows[i].key);
        amqp_queue_delete(c, 1, b(q), 0, 0);
        expect_ok(c);
    }
}

static void
headers_exchange(void)
{
    amqp_table_entry_t all[] = {
        ENTRY("x-match", VALUE(UTF8, bytes, TEXT("all"))),
        ENTRY("format", VALUE(UTF8, bytes, TEXT("pdf"))),
        ENTRY("pages", VALUE(I32, i32, 3)),
    };
    amqp_table_entry_t any[] = {
        ENTRY("x-match", VALUE(UTF8, bytes, TEXT("any"))),
        ENTRY("format", VALUE(UTF8, bytes, TEXT("pdf"))),
        ENTRY("pages", VALUE(I32, i32, 3)),
    };
    conn_t c = connection();
    const char *x = exchange(c, "headers"), *q_all = queue(c, "all"), *q_any = queue(c, "any");
    amqp_basic_properties_t props = {._flags = AMQP_BASIC_HEADERS_FLAG};

    bind_queue(c, q_all, x, "", (amqp_table_t){3, all});
    bind_queue(c, q_any, x, "", (amqp_table_t){3, any});
    props.headers = (amqp_table_t){2, all + 1};
    publish_full(c, 1, x, "", false, &props, b("both"));
    props.headers = (amqp_table_t){1, all + 1};
    publish_full(c, 1, x, "", false, &props, b("format only"));
    publish_full(c, 1, x, "", false, NULL, b("no headers"));
    expect_get(c, q_all, "both");
    expect_empty(c, q_all);
    expect_get(c, q_any, "both");
    expect_get(c, q_any, "format only");
    expect_empty(c, q_any);
}

static void
fanout_and_direct(void)
{
    conn_t c = connection();
    const char *fan = exchange(c, "fanout"), *direct = exchange(c, "direct");
    const char *q[3] = {queue(c, "f"), queue(c, "f"), queue(c, "f")};

    for (int i = 0; i < 3; i++) {
        bind_queue(c, q[i], fan, "ignored", amqp_empty_table);
        bind_queue(c, q[i], direct, i == 0 ? "info" : "error", amqp_empty_table);
    }
    publish(c, fan, "whatever", "to all");
    publish(c, direct, "error", "to two");
    publish(c, direct, "debug", "to none");
    for (int i = 0; i < 3; i++) {
        expect_get(c, q[i], "to all");
        if (i > 0)
            expect_get(c, q[i], "to two");
        expect_empty(c, q[i]);
    }
    amqp_queue_unbind(c, 1, b(q[1]), b(direct), b("error"), amqp_empty_table);
    expect_ok(c);
    publish(c, direct, "error", "to one");
    expect_empty(c, q[1]);
    expect_get(c, q[2], "to one");
}

static void
exchange_to_exchange(void)
{
    conn_t c = connection();
    const char *in = exchange(c, "topic"), *out = exchange(c, "fanout"), *q = queue(c, "e2e");

    bind_queue(c, q, out, "", amqp_empty_table);
    amqp_exchange_bind(c, 1, b(out), b(in), b("log.*"), amqp_empty_table);
    expect_ok(c);
    publish(c, in, "log.warn", "through");
    publish(c, in, "other", "not through");
    expect_get(c, q, "through");
    expect_empty(c, q);
    amqp_exchange_unbind(c, 1, b(out), b(in), b("log.*"), amqp_empty_table);
    expect_ok(c);
}

static void
purge_and_delete(void)
{
    conn_t c = connection();
    const char *q = queue(c, "counts");
    amqp_queue_purge_ok_t *purged;
    amqp_queue_delete_ok_t *deleted;

    for (int i = 0; i < 5; i++)
        publish(c, "", q, "x");
    purged = amqp_queue_purge(c, 1, b(q));
    expect_ok(c);
    expect(purged->message_count == 5, "%u purged", purged->message_count);
    publish(c, "", q, "x");
    amqp_queue_delete(c, 1, b(q), 0, 1);
    expect_refused(c, 1, 406, "PRECONDITION_FAILED - queue");
    deleted = amqp_queue_delete(c, 1, b(q), 0, 0);
    expect_ok(c);
    expect(deleted->message_count == 1, "%u deleted", deleted->message_count);
    deleted = amqp_queue_delete(c, 1, b(q), 0, 0); /* deleting what is not there is no error */
    expect_ok(c);
    expect(deleted->message_count == 0, "a missing queue held %u", deleted->message_count);
}

/* ---- cases: the command-line tools ---- */

/* Runs a tool with its connection options; returns the exit status and what it wrote. */
static int
tool(char *out, size_t room, const char *format, ...)
{
    char line[2048], args[1024];
    size_t n;
    va_list ap;
    FILE *f;
    int status;

    va_start(ap, format);
    vsnprintf(args, sizeof(args), format, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "exec timeout %d amqp-%s 2>&1", WAIT_S, args);
    f = popen(line, "r");
    expect(f != NULL, "cannot start '%s'", line);
    n = fread(out, 1, room - 1, f);
    out[n] = '\0';
    status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void
tools_send_and_fetch(void)
{
    const char *q = unique("tools");
    char out[512];
    int status;

    status = tool(out, sizeof(out), "declare-queue --url='%s' -d -q %s", url, q);
    expect(status == 0 && strstr(out, q) != NULL, "declare-queue: %d %s", status, out);
    for (int i = 1; i <= 3; i++) {
        status =
            tool(out, sizeof(out),
                 "publish --url='%s' -p -r %s -C text/plain -H 'k: v' -b 'body %d'", url, q, i);
        expect(status == 0, "publish: %d %s", status, out);
    }
    status = tool(out, sizeof(out), "get --url='%s' -q %s", url, q);
    expect(status == 0 && strcmp(out, "body 1") == 0, "get: %d '%s'", status, out);
    status = tool(out, sizeof(out), "consume --url='%s' -q %s -c 2 cat", url, q);
    expect(status == 0 && strcmp(out, "body 2body 3") == 0, "consume: %d '%s'", status, out);
    status = tool(out, sizeof(out), "get --url='%s' -q %s", url, q);
    expect(status == 2 && out[0] == '\0', "get of an empty queue: %d '%s'", status, out);
    status = tool(out, sizeof(out), "delete-queue --url='%s' -q %s", url, q);
    expect(status == 0 && strcmp(out, "0\n") == 0, "delete-queue: %d '%s'", status, out);
}

static void
tools_report_errors(void)
{
    char out[512];
    int status = tool(out, sizeof(out), "get --url='%s' -q %s", url, unique("absent"));

    expect(status == 1 && strstr(out, "404") != NULL, "get from a missing queue: %d '%s'", status,
           out);
    status =
        tool(out, sizeof(out), "publish -s %s --port=%s --password=wrong -r q -b x", host, port);
    expect(status == 1 && strstr(out, "403") != NULL, "wrong password: %d '%s'", status, out);
}

/* clang-format off */
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"connecting negotiates heartbeat, frame_max and channel_max",      connect_negotiates},
    {"a wrong password is refused with 403",                            wrong_password},
    {"an unknown vhost is refused with 530",                            unknown_vhost},
    {"passive declare of what is missing: 404, then a new channel",     passive_missing},
    {"redeclaring with other arguments: 406",                           redeclare_mismatch},
    {"an exclusive queue is locked for another connection: 405",        exclusive_elsewhere},
    {"a second ack of one tag: 406 unknown delivery tag",               double_ack},
    {"publishing to a missing exchange: 404",                           publish_nowhere},
    {"5000 published messages are all confirmed",                       confirms},
    {"a mandatory message without a route is returned, then confirmed", mandatory_returns},
    {"bodies of 0 B to 8 MiB and around frame_max come back whole",     body_sizes},
    {"properties and headers of every type come back unchanged",        properties_survive},
    {"transactions commit and roll back publishes and acks",            transactions},
    {"consume, ack one, ack multiple",                                  consume_and_ack},
    {"reject drops; nack and reject requeue in the original order",     reject_and_requeue},
    {"prefetch holds back until an ack",                                prefetch},
    {"basic.get counts what is left; get of an empty queue",            basic_get},
    {"a consumer is told that its queue was deleted",                   consumer_cancelled},
    {"request and reply over a reply queue and over direct reply-to",   request_reply},
    {"topic patterns match as in the table",                            topic_table},
    {"headers exchange: x-match all and any",                           headers_exchange},
    {"fanout and direct route to several queues; unbind stops it",      fanout_and_direct},
    {"an exchange bound to an exchange passes messages on",             exchange_to_exchange},
    {"purge and delete count; delete if-empty refuses",                 purge_and_delete},
    {"200 channels on one connection publish and close",                many_channels},
    {"a cut socket is noticed; reconnecting gets the unacked back",     cut_and_reconnect},
    {"amqp-* tools declare, publish, get, consume and delete",          tools_send_and_fetch},
    {"amqp-* tools report 404 and 403",                                 tools_report_errors},
};
/* clang-format on */

static bool
passes(void (*run)(void))
{
    volatile bool ok = false; /* survives the jump */

    opened_count = 0;
    if (setjmp(failed) == 0) {
        run();
        ok = true;
    }
    for (size_t i = 0; i < opened_count; i++)
        amqp_destroy_connection(opened[i]); /* closes the socket if the case left it open */
    return ok;
}

static void
diagnose(void)
{
    for (char *line = strtok(why, "\n"); line != NULL; line = strtok(NULL, "\n"))
        printf("# %s\n", line);
}

int
main(void)
{
    size_t count = sizeof(cases) / sizeof(cases[0]), bad = 0;

    host = getenv("LEPUS_HOST");
    port = getenv("LEPUS_PORT");
    url = getenv("LEPUS_URL");
    if (host == NULL || port == NULL || url == NULL) {
        printf("Bail out! LEPUS_HOST, LEPUS_PORT and LEPUS_URL say where the broker is\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(SUITE_S);
    for (size_t i = 0; i < count; i++) {
        bool ok = passes(cases[i].run);

        printf("%s %zu - %s\n", ok ? "ok" : "not ok", i + 1, cases[i].name);
        if (!ok) {
            diagnose();
            bad++;
        }
    }
    printf("1..%zu\n", count);
    return bad > 0;
}
