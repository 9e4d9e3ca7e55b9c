/*
 * fuzz_connection: a whole connection, from the protocol header to its end, in a broker of two
 * workers that lives in this process.
 *
 * The first octet of an input chooses: even, the rest is what a peer sends, octet for octet; odd,
 * the handshake and two channels are opened for it, and the rest is a script of frames whose heads
 * and ends are made right, so that the methods behind them are reached:
 *
 *     0 channel method n payload[n]    a method frame, method by its row
 *     1 channel size n payload[n]      a content header: class 60, that body size, properties
 *     2 channel n payload[n]           a body frame
 *     3 n octets[n]                    as they are
 *
 * Whatever comes, the connection ends when its peer has gone, within END_MS, and nothing of it is
 * left. Every RENEW inputs the broker is made anew, since queues may stay behind.
 */
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/amqp/amqp.h"
#include "lepus/auth/password.h"
#include "lepus/base/buf.h"
#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "lepus/broker/home.h"
#include "lepus/wire/cursor.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"

enum { WORKERS = 2, RENEW = 1000, END_MS = 8000, SCRIPT_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static struct broker {
    struct topology *topology;
    struct worker_set *workers;
    struct post posts[WORKERS];
    struct home *homes[WORKERS];
    struct amqp *amqps[WORKERS];
    unsigned inputs;
} broker;

static struct amqp_settings settings = {
    .anonymous_user = "",
    .product = "RabbitMQ",
    .version = "3.13.7",
    .cluster_name = "fuzz",
    .lepus_version = "0",
    .frame_max = 131072,
    .initial_frame_max = 65536,
    .channel_max = 2047,
    .handshake_timeout_ms = 10000,
    .max_message_size = 1 << 20,
};

/* With guest, who may do everything. */
static struct auth *
make_auth(const struct vhost *vhost)
{
    struct err err;
    struct auth *auth = auth_open(NULL, &err);
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user guest = {.name = VIEW_LIT("guest"),
                                  .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256)};
    struct metadata_permission all = {guest.name, vhost_id(vhost), VIEW_LIT(".*"), VIEW_LIT(".*"),
                                      VIEW_LIT(".*")};

    if (!password_make(PASSWORD_SHA256, VIEW_LIT("guest"), hash))
        abort();
    guest.password_hash = view_str(hash);
    if (!auth_put_user(auth, &guest, NULL, &err) || !auth_put_permission(auth, &all, NULL, &err))
        abort();
    auth_configure(auth, &(struct auth_settings){.failure_window_ms = 1});
    return auth;
}

static void
start_broker(void)
{
    struct err err;

    log_set(LOG_ERROR, LOG_TEXT);
    broker.inputs = 0;
    broker.topology = topology_new(4, WORKERS);
    settings.auth = make_auth(topology_find_vhost(broker.topology, VIEW_LIT("/")));
    broker.workers = worker_set_new(WORKERS, &err);
    for (unsigned i = 0; i < WORKERS; i++) {
        post_init(&broker.posts[i], worker_set_get(broker.workers, i));
        broker.homes[i] = home_new(&broker.posts[i], broker.topology, NULL, NULL, NULL, NULL);
        broker.amqps[i] = amqp_new(&broker.posts[i], broker.topology, &settings);
    }
    if (!worker_set_start(broker.workers, &err))
        abort();
}

static void
stop_broker(void)
{
    worker_set_stop(broker.workers);
    for (unsigned i = 0; i < WORKERS; i++) {
        amqp_free(broker.amqps[i]);
        home_free(broker.homes[i]);
    }
    worker_set_free(broker.workers);
    auth_free(settings.auth);
    topology_free(broker.topology);
}

/* --- what the peer sends ----------------------------------------------------------------- */

static void
put_frame(struct buf *to, uint8_t type, uint8_t channel, struct view payload)
{
    uint8_t head[FRAME_HEAD_SIZE];

    frame_put_head(head, type, channel, (uint32_t)payload.len);
    buf_append(to, head, sizeof(head));
    buf_append(to, payload.at, payload.len);
    buf_u8(to, FRAME_END);
}

static void
put_handshake(struct buf *to)
{
    buf_append(to, "AMQP\0\0\x09\x01", 8);
    method_write(to, 0, METHOD_connection_start_ok,
                 &(struct connection_start_ok){.mechanism = VIEW_LIT("PLAIN"),
                                               .response = VIEW_LIT("\0guest\0guest"),
                                               .locale = VIEW_LIT("en_US")});
    method_write(to, 0, METHOD_connection_tune_ok,
                 &(struct connection_tune_ok){.channel_max = 2047, .frame_max = 4096});
    method_write(to, 0, METHOD_connection_open,
                 &(struct connection_open){.virtual_host = VIEW_LIT("/")});
    for (uint16_t channel = 1; channel <= 2; channel++)
        method_write(to, channel, METHOD_channel_open, &(struct channel_open){0});
}

static void
put_method(struct buf *to, struct cursor *script)
{
    uint8_t channel = rd_u8(script) % 4;
    const struct method_row *row = &method_rows[rd_u8(script) % METHOD_COUNT];
    struct view arguments = rd_view(script, rd_u8(script));
    struct buf payload;

    buf_init(&payload, SCRIPT_MAX);
    buf_u16(&payload, row->class_id);
    buf_u16(&payload, row->method_id);
    buf_append(&payload, arguments.at, arguments.len);
    put_frame(to, FRAME_METHOD, channel, buf_view(&payload));
    buf_fini(&payload);
}

static void
put_header(struct buf *to, struct cursor *script)
{
    uint8_t channel = rd_u8(script) % 4;
    uint8_t body_size = rd_u8(script);
    struct view properties = rd_view(script, rd_u8(script));
    struct buf payload;

    buf_init(&payload, SCRIPT_MAX);
    buf_u16(&payload, 60);
    buf_u16(&payload, 0);
    buf_u64(&payload, body_size);
    if (properties.len < 2)
        buf_u16(&payload, 0);
    else
        buf_append(&payload, properties.at, properties.len);
    put_frame(to, FRAME_HEADER, channel, buf_view(&payload));
    buf_fini(&payload);
}

static void
put_script(struct buf *to, struct cursor *script)
{
    uint8_t channel;

    while (script->left > 0) {
        switch (rd_u8(script) % 4) {
        case 0:
            put_method(to, script);
            break;
        case 1:
            put_header(to, script);
            break;
        case 2:
            channel = rd_u8(script) % 4;
            put_frame(to, FRAME_BODY, channel, rd_view(script, rd_u8(script)));
            break;
        default: {
            struct view raw = rd_view(script, rd_u8(script));

            buf_append(to, raw.at, raw.len);
        }
        }
    }
}

/* --- the peer ---------------------------------------------------------------------------- */

static unsigned
count_connections(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < WORKERS; i++)
        n += amqp_connection_count(broker.amqps[i]);
    return n;
}

/* Sends everything, drops what comes, and reads on to the broker's end. */
static void
be_peer(int fd, struct view octets)
{
    uint64_t until = clock_now_ms() + END_MS;
    uint8_t drop[4096];
    bool is_open = true;

    while (is_open) {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (octets.len > 0 ? POLLOUT : 0))};
        int ready = poll(&wait, 1, END_MS);
        ssize_t n;

        if (ready == 0 || clock_now_ms() > until)
            abort(); /* the broker neither reads nor ends it */
        if (ready < 0)
            continue; /* the fuzzer's own alarm */
        if (wait.revents & POLLOUT) {
            n = send(fd, octets.at, octets.len, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n > 0)
                octets = view_of(octets.at + n, octets.len - (size_t)n);
            else
                octets.len = 0;
            if (octets.len == 0)
                shutdown(fd, SHUT_WR);
        }
        if (wait.revents & (POLLIN | POLLHUP | POLLERR)) {
            n = recv(fd, drop, sizeof(drop), MSG_DONTWAIT);
            is_open = n > 0 || (n < 0 && (wait.revents & (POLLHUP | POLLERR)) == 0);
        }
    }
    close(fd);
    while (count_connections() > 0) {
        if (clock_now_ms() > until)
            abort(); /* something of it is left */
        poll(NULL, 0, 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct cmd_adopt adopt = {.head.kind = CMD_adopt};
    struct cursor script = cursor_of(view_of(at, size));
    struct buf octets;
    int pair[2];

    if (size < 2)
        return 0;
    if (broker.workers == NULL) {
        start_broker();
    } else if (++broker.inputs % RENEW == 0) {
        stop_broker();
        start_broker();
    }
    buf_init(&octets, SCRIPT_MAX);
    if (rd_u8(&script) % 2 == 0) {
        buf_append(&octets, script.at, script.left);
    } else {
        put_handshake(&octets);
        put_script(&octets, &script);
    }
    if (octets.len > 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        adopt.fd = pair[0];
        limits_take_socket(topology_limits(broker.topology));
        /* both workers get connections, and queues that are at home on the other */
        post_from_outside(worker_set_get(broker.workers, at[0] / 2 % WORKERS), &adopt.head);
        while (count_connections() == 0)
            poll(NULL, 0, 0);
        be_peer(pair[1], buf_view(&octets));
    }
    buf_fini(&octets);
    return 0;
}
