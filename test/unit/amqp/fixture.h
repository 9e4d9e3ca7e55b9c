/*
 * fixture: one connection with one open channel on a running worker, spoken to from both ends.
 *
 * The main thread is the client, at the other end of a socket pair, and the test is the home: it
 * hears the commands that a queue would, and says what a queue would say. So everything between
 * the octets and the commands is real, and each test decides what comes when.
 *
 * fixture_do runs a function on the worker's thread and returns when the turn has come to its
 * end, with everything that was sent in `came`: a heartbeat frame, which nobody else sends here,
 * marks where that ends. What runs on the worker checks with assert, since cmocka's own assertions
 * jump and may do so on the main thread only.
 */
#ifndef TEST_AMQP_FIXTURE_H
#define TEST_AMQP_FIXTURE_H

#include "unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "amqp_priv.h"

#include "lepus/auth/password.h"

enum { DEADLINE_S = 60, CAME_MAX = 1 << 26, HEARD_MAX = 1 << 24, QUEUES = 3 };

/* One settled delivery, as a home hears of it. */
struct heard_settle {
    uint64_t queue, seq, channel;
    enum settle_how how;
};

struct heard_publish {
    uint64_t channel, confirm, first_target;
    size_t targets;
    char body[32];
};

struct fixture {
    struct topology *topology;
    struct auth *auth;
    struct worker_set *workers;
    struct worker *worker;
    struct post post;
    struct amqp *amqp;
    struct conn *conn;          /* the worker's, as the next */
    struct channel *channel;    /* number 1 */
    struct queue_ref q[QUEUES]; /* named q0, q1, ... */

    int peer;
    struct buf came; /* frames */
    size_t looked;   /* how much of it fixture_next has seen */
    struct buf said;

    struct worker_call call;
    struct worker_task marker;
    void (*run)(struct fixture *f, void *arg);
    void *arg;
    sem_t done;

    struct buf settles, publishes; /* heard_settle, heard_publish */
    unsigned settle_commands;
};

static struct amqp_settings fixture_settings = {
    .anonymous_user = "",
    .product = "RabbitMQ",
    .version = "3.13.7",
    .cluster_name = "test",
    .lepus_version = "0",
    .frame_max = 131072,
    .initial_frame_max = 65536,
    .channel_max = 2047,
    .handshake_timeout_ms = 60000,
    .max_message_size = 1 << 26,
};

/* --- the home ---------------------------------------------------------------------------- */

static void
home_hear_settle(void *arg, const struct command *command)
{
    const struct cmd_settle *cmd = (const void *)command;
    struct fixture *f = arg;
    struct seq_range range;

    assert(cmd->ranges.len > 0 && cmd->ranges.len % sizeof(range) == 0);
    f->settle_commands++;
    for (size_t at = 0; at < cmd->ranges.len; at += sizeof(range)) {
        memcpy(&range, cmd->ranges.at + at, sizeof(range));
        assert(range.first <= range.last);
        for (uint64_t seq = range.first; seq <= range.last; seq++)
            buf_append(&f->settles, &(struct heard_settle){cmd->queue, seq, cmd->channel, cmd->how},
                       sizeof(struct heard_settle));
    }
}

static void
home_hear_publish(void *arg, const struct command *command)
{
    const struct cmd_publish *cmd = (const void *)command;
    struct fixture *f = arg;
    struct queue_ref first;
    struct heard_publish heard = {
        .channel = cmd->channel,
        .confirm = cmd->confirm,
        .targets = cmd->targets.len / sizeof(struct queue_ref),
    };

    assert(heard.targets > 0 && cmd->content.body.len < sizeof(heard.body));
    memcpy(&first, cmd->targets.at, sizeof(first));
    heard.first_target = first.id;
    if (cmd->content.body.len > 0)
        memcpy(heard.body, cmd->content.body.at, cmd->content.body.len);
    buf_append(&f->publishes, &heard, sizeof(heard));
}

static void
home_hear_consume(void *arg, const struct command *command)
{
    const struct cmd_consume *cmd = (const void *)command;
    struct fixture *f = arg;
    struct cmd_reply reply = {.head.kind = CMD_reply, .channel = cmd->channel, .answer = ANSWER_OK};

    post_send(&f->post, 0, &reply.head);
}

static void
home_hear_nothing(void *arg, const struct command *command)
{
    (void)arg;
    (void)command;
}

static inline size_t
n_settles(const struct fixture *f)
{
    return f->settles.len / sizeof(struct heard_settle);
}

static inline const struct heard_settle *
settle_at(const struct fixture *f, size_t i)
{
    assert_true(i < n_settles(f));
    return &((const struct heard_settle *)(const void *)f->settles.at)[i];
}

static inline size_t
n_publishes(const struct fixture *f)
{
    return f->publishes.len / sizeof(struct heard_publish);
}

static inline const struct heard_publish *
publish_at(const struct fixture *f, size_t i)
{
    assert_true(i < n_publishes(f));
    return &((const struct heard_publish *)(const void *)f->publishes.at)[i];
}

/* --- the client -------------------------------------------------------------------------- */

struct seen {
    struct frame frame;
    enum method method; /* METHOD_UNKNOWN: a frame of another type */
    union method_args args;
};

/* Octets of a frame from where it was not looked at yet; false when it is not whole. */
static inline bool
fixture_next(struct fixture *f, struct seen *out)
{
    struct view rest = view_of(f->came.at + f->looked, f->came.len - f->looked);
    struct view payload;
    struct err err = {0};
    size_t size;

    if (frame_next(rest, 0, &out->frame, &size, &err) != FRAME_READY)
        return false;
    f->looked += size;
    out->method = METHOD_UNKNOWN;
    payload = out->frame.payload;
    if (out->frame.type != FRAME_METHOD)
        return true;
    assert_true(payload.len >= 4);
    out->method = method_find(be_u16(payload.at), be_u16(payload.at + 2));
    assert_int_not_equal(out->method, METHOD_UNKNOWN);
    assert_true(
        method_decode(out->method, view_of(payload.at + 4, payload.len - 4), &out->args, &err));
    return true;
}

/* More octets from the broker; false at its end. */
static inline bool
fixture_read(struct fixture *f)
{
    uint8_t octets[65536];
    ssize_t n;

    do
        n = recv(f->peer, octets, sizeof(octets), 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        if (n < 0 && errno != ECONNRESET)
            fail_msg("nothing came for %d s", DEADLINE_S);
        return false;
    }
    buf_append(&f->came, octets, (size_t)n);
    assert_false(f->came.bad);
    return true;
}

/* The next frame that the broker sends. */
static inline struct seen
fixture_hear(struct fixture *f)
{
    struct seen seen;

    while (!fixture_next(f, &seen))
        if (!fixture_read(f))
            fail_msg("the broker has closed the connection");
    return seen;
}

#define assert_hears(f, which)                                                                     \
    do {                                                                                           \
        struct seen seen_ = fixture_hear(f);                                                       \
        assert_string_equal(seen_.method == METHOD_UNKNOWN ? "content"                             \
                                                           : method_rows[seen_.method].name,       \
                            method_rows[METHOD_##which].name);                                     \
    } while (0)

/* Gathers a method for the broker; fixture_send sends what was gathered. */
#define say(f, channel, name, ...)                                                                 \
    method_write(&(f)->said, channel, METHOD_##name, &(struct name){__VA_ARGS__})
#define say_bare(f, channel, name) method_write(&(f)->said, channel, METHOD_##name, NULL)

static inline void
fixture_send(struct fixture *f)
{
    assert_int_equal(send(f->peer, f->said.at, f->said.len, MSG_NOSIGNAL), f->said.len);
    buf_clear(&f->said);
}

/* Sends what was gathered and returns when the broker has handled it: whatever state a channel is
 * in, a new secret is answered behind everything that stands before it. What came meanwhile waits
 * in `came`, and the answer is not among it. */
static inline void
fixture_exchange(struct fixture *f)
{
    struct seen seen;
    size_t begun = f->looked, before;

    say(f, 0, connection_update_secret, .new_secret = VIEW_LIT("guest"));
    fixture_send(f);
    do {
        before = f->looked;
        seen = fixture_hear(f);
    } while (seen.method != METHOD_connection_update_secret_ok);
    memmove(f->came.at + before, f->came.at + f->looked, f->came.len - f->looked);
    f->came.len -= f->looked - before;
    f->looked = begun;
}

/* Nothing more has come. */
static inline void
assert_silence(struct fixture *f)
{
    struct seen seen;

    if (fixture_next(f, &seen))
        fail_msg("unexpected %s",
                 seen.method == METHOD_UNKNOWN ? "content" : method_rows[seen.method].name);
}

/* --- on the worker ----------------------------------------------------------------------- */

static void
fixture_on_call(struct worker_call *call)
{
    struct fixture *f = container_of(call, struct fixture, call);

    f->run(f, f->arg);
    worker_schedule(f->worker, WORKER_FLUSH, &f->marker); /* behind what is gathered */
}

static void
fixture_mark(void *arg)
{
    static const uint8_t beat[FRAME_OVERHEAD] = {FRAME_HEARTBEAT, [7] = FRAME_END};
    struct fixture *f = arg;

    transport_put(f->conn->transport, beat, sizeof(beat));
    sem_post(&f->done);
}

/* Not after the connection was closed. */
static inline void
fixture_do(struct fixture *f, void (*run)(struct fixture *f, void *arg), void *arg)
{
    struct timespec until;
    struct seen seen;
    size_t before;
    int rc;

    buf_clear(&f->came);
    f->looked = 0;
    f->run = run;
    f->arg = arg;
    worker_call_from_outside(f->worker, &f->call);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_S;
    do
        rc = sem_timedwait(&f->done, &until);
    while (rc != 0 && errno == EINTR);
    assert_int_equal(rc, 0);
    do {
        before = f->looked;
        seen = fixture_hear(f);
    } while (seen.frame.type != FRAME_HEARTBEAT);
    assert_int_equal(f->looked, f->came.len);
    f->came.len = before;
    f->looked = 0;
}

static void
fixture_find_channel(struct fixture *f, void *arg)
{
    (void)arg;
    f->conn = container_of(f->amqp->all.next, struct conn, in_all);
    f->channel = idmap_find(&f->conn->channels, 1);
    assert(f->channel != NULL);
}

/* --- life -------------------------------------------------------------------------------- */

/* With guest, who may do everything. */
static inline struct auth *
fixture_auth(const struct vhost *vhost)
{
    struct err err;
    struct auth *auth = auth_open(NULL, &err);
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user guest = {.name = VIEW_LIT("guest"),
                                  .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256)};
    struct metadata_permission all = {guest.name, vhost_id(vhost), VIEW_LIT(".*"), VIEW_LIT(".*"),
                                      VIEW_LIT(".*")};

    assert_true(password_make(PASSWORD_SHA256, VIEW_LIT("guest"), hash));
    guest.password_hash = view_str(hash);
    assert_true(auth_put_user(auth, &guest, NULL, &err));
    assert_true(auth_put_permission(auth, &all, NULL, &err));
    return auth;
}

/* The broker, and a socket to it on which nothing was said. */
static inline void
fixture_connect(struct fixture *f)
{
    static const enum command_kind deaf[] = {CMD_cancel, CMD_flow, CMD_credit, CMD_get, CMD_ask};
    struct cmd_adopt adopt = {.head.kind = CMD_adopt};
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    struct vhost *vhost;
    struct err err;
    int pair[2];

    *f = (struct fixture){0};
    log_set(LOG_ERROR, LOG_TEXT);
    f->topology = topology_new(1, 1);
    vhost = topology_find_vhost(f->topology, VIEW_LIT("/"));
    for (int i = 0; i < QUEUES; i++) {
        char name[] = {'q', (char)('0' + i), '\0'};
        struct queue_spec spec = {.name = view_str(name)};
        struct queue_found found;

        assert_int_equal(topology_declare_queue(vhost, &spec, 0, 0, &found, &err), QUEUE_CREATED);
        f->q[i] = found.ref;
    }
    f->workers = worker_set_new(1, &err);
    assert_non_null(f->workers);
    f->worker = worker_set_get(f->workers, 0);
    post_init(&f->post, f->worker);
    post_handle(&f->post, CMD_settle, home_hear_settle, f);
    post_handle(&f->post, CMD_publish, home_hear_publish, f);
    post_handle(&f->post, CMD_consume, home_hear_consume, f);
    for (size_t i = 0; i < COUNT_OF(deaf); i++)
        post_handle(&f->post, deaf[i], home_hear_nothing, f);
    f->auth = fixture_auth(vhost);
    fixture_settings.auth = f->auth;
    f->amqp = amqp_new(&f->post, f->topology, &fixture_settings);
    f->call.run = fixture_on_call;
    f->marker = (struct worker_task){.run = fixture_mark, .arg = f};
    sem_init(&f->done, 0, 0);
    buf_init(&f->came, CAME_MAX);
    buf_init(&f->said, CAME_MAX);
    buf_init(&f->settles, HEARD_MAX);
    buf_init(&f->publishes, HEARD_MAX);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    f->peer = pair[0];
    adopt.fd = pair[1];
    assert_true(limits_take_socket(topology_limits(f->topology)));
    assert_true(worker_set_start(f->workers, &err));
    post_from_outside(f->worker, &adopt.head);
}

/* And a channel that is open. */
static inline void
fixture_init(struct fixture *f)
{
    fixture_connect(f);
    buf_append(&f->said, "AMQP\0\0\x09\x01", 8);
    say(f, 0, connection_start_ok, .mechanism = VIEW_LIT("PLAIN"),
        .response = VIEW_LIT("\0guest\0guest"), .locale = VIEW_LIT("en_US"));
    say(f, 0, connection_tune_ok, .channel_max = 2047, .frame_max = 131072);
    say(f, 0, connection_open, .virtual_host = VIEW_LIT("/"));
    method_write(&f->said, 1, METHOD_channel_open, &(struct channel_open){0});
    fixture_send(f);
    assert_hears(f, connection_start);
    assert_hears(f, connection_tune);
    assert_hears(f, connection_open_ok);
    assert_hears(f, channel_open_ok);
    /* the channel is found before the first marker is written to its connection */
    fixture_do(f, fixture_find_channel, NULL);
}

static inline void
fixture_fini(struct fixture *f)
{
    worker_set_stop(f->workers);
    amqp_free(f->amqp);
    worker_set_free(f->workers);
    auth_free(f->auth);
    topology_free(f->topology);
    close(f->peer);
    sem_destroy(&f->done);
    buf_fini(&f->came);
    buf_fini(&f->said);
    buf_fini(&f->settles);
    buf_fini(&f->publishes);
}

#endif
