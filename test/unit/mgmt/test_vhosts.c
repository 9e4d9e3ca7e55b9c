#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/amqp/amqp.h"
#include "lepus/auth/password.h"
#include "lepus/base/buf.h"
#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "lepus/broker/home.h"
#include "lepus/broker/limits.h"
#include "lepus/mgmt/vhosts.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"

/* A broker of two workers without a disk, and clients at the other ends of socket pairs. */

enum { WORKERS = 2, DEADLINE_MS = 60000, BYTES_MAX = 1 << 20 };

struct broker {
    struct topology *topology;
    struct auth *auth;
    struct worker_set *workers;
    struct post posts[WORKERS];
    struct home *homes[WORKERS];
    struct amqp *amqps[WORKERS];
    struct err err;
};

static struct amqp_settings settings = {
    .anonymous_user = "",
    .product = "RabbitMQ",
    .version = "3.13.7",
    .cluster_name = "test",
    .lepus_version = "0",
    .frame_max = 131072,
    .initial_frame_max = 65536,
    .channel_max = 2047,
    .handshake_timeout_ms = 60000,
    .max_message_size = 1 << 20,
};

static void
put_guest(struct broker *b)
{
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user guest = {.name = VIEW_LIT("guest"),
                                  .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256)};

    assert_true(password_make(PASSWORD_SHA256, VIEW_LIT("guest"), hash));
    guest.password_hash = view_str(hash);
    assert_true(auth_put_user(b->auth, &guest, NULL, &b->err));
}

/* Guest may do everything there. */
static void
let_guest(struct broker *b, const char *name)
{
    uint64_t id = vhost_id(topology_find_vhost(b->topology, view_str(name)));
    struct metadata_permission all = {VIEW_LIT("guest"), id, VIEW_LIT(".*"), VIEW_LIT(".*"),
                                      VIEW_LIT(".*")};

    assert_true(auth_put_permission(b->auth, &all, NULL, &b->err));
}

static void
put_vhost(struct broker *b, const char *name)
{
    struct metadata_vhost row = {.name = view_str(name)};

    assert_true(topology_put_vhost(b->topology, &row, NULL, &b->err));
    let_guest(b, name);
}

static void
start(struct broker *b)
{
    log_set(LOG_ERROR, LOG_TEXT);
    *b = (struct broker){0};
    b->topology = topology_new(4, WORKERS);
    b->auth = settings.auth = auth_open(NULL, &b->err);
    auth_configure(b->auth, &(struct auth_settings){.failure_window_ms = 1});
    put_guest(b);
    let_guest(b, "/");
    b->workers = worker_set_new(WORKERS, &b->err);
    for (unsigned i = 0; i < WORKERS; i++) {
        post_init(&b->posts[i], worker_set_get(b->workers, i));
        b->homes[i] = home_new(&b->posts[i], b->topology, NULL, NULL, NULL, NULL);
        b->amqps[i] = amqp_new(&b->posts[i], b->topology, &settings);
    }
    put_vhost(b, "v");
    assert_true(worker_set_start(b->workers, &b->err));
}

static void
stop(struct broker *b)
{
    worker_set_stop(b->workers);
    for (unsigned i = 0; i < WORKERS; i++) {
        amqp_free(b->amqps[i]);
        home_free(b->homes[i]);
    }
    worker_set_free(b->workers);
    topology_check(b->topology);
    topology_free(b->topology);
    auth_free(b->auth);
}

static bool
delete_vhost(struct broker *b, const char *name)
{
    struct vhosts vhosts = {b->topology, b->workers, WORKERS, b->auth};

    return vhost_delete(&vhosts, view_str(name), NULL, &b->err);
}

/* --- clients ------------------------------------------------------------------------------ */

struct client {
    int fd;
    struct buf came;
    size_t looked;
    union method_args args; /* of the last method, views into `came` */
};

static void
say(struct client *c, uint16_t channel, enum method method, const void *args)
{
    struct buf out;

    buf_init(&out, BYTES_MAX);
    method_write(&out, channel, method, args);
    assert_int_equal(send(c->fd, out.at, out.len, MSG_NOSIGNAL), out.len);
    buf_fini(&out);
}

/* The next method, its arguments in c->args; false when the broker has closed the socket. */
static bool
next(struct client *c, enum method *out)
{
    uint64_t until = clock_now_ms() + DEADLINE_MS;

    for (;;) {
        struct view left = view_of(c->came.at + c->looked, c->came.len - c->looked);
        struct pollfd wait = {.fd = c->fd, .events = POLLIN};
        struct frame frame;
        struct err err;
        size_t size;
        uint8_t *room;
        ssize_t n;

        if (left.len > 0 && frame_next(left, 0, &frame, &size, &err) == FRAME_READY) {
            c->looked += size;
            if (frame.type != FRAME_METHOD)
                continue;
            *out = method_find(be_u16(frame.payload.at), be_u16(frame.payload.at + 2));
            assert_true(method_decode(*out, view_of(frame.payload.at + 4, frame.payload.len - 4),
                                      &c->args, &err));
            return true;
        }
        assert_true(clock_now_ms() < until);
        if (poll(&wait, 1, DEADLINE_MS) <= 0)
            continue;
        room = buf_reserve(&c->came, 4096);
        assert_non_null(room);
        n = recv(c->fd, room, 4096, 0);
        if (n <= 0)
            return false;
        c->came.len += (size_t)n;
    }
}

static void
expect(struct client *c, enum method method)
{
    enum method came;

    assert_true(next(c, &came));
    assert_int_equal(came, method);
}

/* On that worker, to the answer to tune. */
static void
connect_to(struct broker *b, struct client *c, unsigned worker)
{
    struct cmd_adopt adopt = {.head.kind = CMD_adopt};
    int pair[2];

    *c = (struct client){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    c->fd = pair[1];
    buf_init(&c->came, BYTES_MAX);
    adopt.fd = pair[0];
    assert_true(limits_take_socket(topology_limits(b->topology)));
    post_from_outside(worker_set_get(b->workers, worker), &adopt.head);
    assert_int_equal(send(c->fd, "AMQP\0\0\x09\x01", 8, MSG_NOSIGNAL), 8);
    expect(c, METHOD_connection_start);
    say(c, 0, METHOD_connection_start_ok,
        &(struct connection_start_ok){.mechanism = VIEW_LIT("PLAIN"),
                                      .response = VIEW_LIT("\0guest\0guest"),
                                      .locale = VIEW_LIT("en_US")});
    expect(c, METHOD_connection_tune);
    say(c, 0, METHOD_connection_tune_ok,
        &(struct connection_tune_ok){.channel_max = 2047, .frame_max = 131072});
}

static void
open_vhost(struct client *c, const char *vhost)
{
    say(c, 0, METHOD_connection_open, &(struct connection_open){.virtual_host = view_str(vhost)});
    expect(c, METHOD_connection_open_ok);
    say(c, 1, METHOD_channel_open, &(struct channel_open){0});
    expect(c, METHOD_channel_open_ok);
}

static void
declare(struct client *c, const char *name, bool exclusive)
{
    say(c, 1, METHOD_queue_declare,
        &(struct queue_declare){.queue = view_str(name), .exclusive = exclusive});
    expect(c, METHOD_queue_declare_ok);
    assert_int_equal(c->args.queue_declare_ok.message_count, 0);
}

static void
consume(struct client *c, const char *name)
{
    say(c, 1, METHOD_basic_consume, &(struct basic_consume){.queue = view_str(name)});
    expect(c, METHOD_basic_consume_ok);
}

/* The connection.close that says so; whatever came before it is passed over. */
static void
expect_the_end(struct client *c, uint16_t code, const char *text)
{
    enum method method;

    do
        assert_true(next(c, &method));
    while (method != METHOD_connection_close);
    assert_int_equal(c->args.connection_close.reply_code, code);
    assert_true(view_equal(c->args.connection_close.reply_text, view_str(text)));
    say(c, 0, METHOD_connection_close_ok, NULL);
    assert_false(next(c, &method));
}

static void
hang_up(struct client *c)
{
    close(c->fd);
    buf_fini(&c->came);
}

static unsigned
count_connections(const struct broker *b)
{
    unsigned n = 0;

    for (unsigned i = 0; i < WORKERS; i++)
        n += amqp_connection_count(b->amqps[i]);
    return n;
}

/* --- cases -------------------------------------------------------------------------------- */

static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

static void
the_end_of_a_vhost_is_the_end_of_its_connections(void **state)
{
    struct client in[WORKERS], out[WORKERS];
    struct topology_counts counts;
    struct broker b;

    (void)state;
    start(&b);
    for (unsigned i = 0; i < WORKERS; i++) {
        connect_to(&b, &in[i], i);
        open_vhost(&in[i], "v");
        connect_to(&b, &out[i], i);
        open_vhost(&out[i], "/");
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        declare(&in[i % WORKERS], names[i], i < 2);
        consume(&in[i % WORKERS], names[i]);
        declare(&out[0], names[i], false);
    }
    assert_true(delete_vhost(&b, "v"));
    for (unsigned i = 0; i < WORKERS; i++) {
        expect_the_end(&in[i], 320, "CONNECTION_FORCED - vhost 'v' is deleted");
        hang_up(&in[i]);
        declare(&out[i], "after", false);
        consume(&out[i], names[i]);
        hang_up(&out[i]);
    }
    while (count_connections(&b) > 0)
        usleep(500);
    topology_count(b.topology, &counts);
    assert_int_equal(counts.queues, COUNT_OF(names) + 1); /* of "/" alone */
    assert_false(delete_vhost(&b, "v"));
    assert_int_equal(b.err.code, 404);
    stop(&b);
}

static void
who_opens_it_too_late_does_not_find_it(void **state)
{
    struct client c;
    struct broker b;

    (void)state;
    start(&b);
    connect_to(&b, &c, 1);
    assert_true(delete_vhost(&b, "v"));
    say(&c, 0, METHOD_connection_open, &(struct connection_open){.virtual_host = VIEW_LIT("v")});
    expect_the_end(&c, 530, "NOT_ALLOWED - vhost v not found");
    hang_up(&c);
    stop(&b);
}

static void
one_made_anew_is_empty_and_another(void **state)
{
    struct client before, after;
    struct broker b;

    (void)state;
    start(&b);
    connect_to(&b, &before, 0);
    open_vhost(&before, "v");
    declare(&before, "q", false);
    assert_true(delete_vhost(&b, "v"));
    put_vhost(&b, "v");
    connect_to(&b, &after, 1);
    open_vhost(&after, "v");
    say(&after, 1, METHOD_queue_declare,
        &(struct queue_declare){.queue = VIEW_LIT("q"), .passive = true});
    expect(&after, METHOD_channel_close);
    assert_int_equal(after.args.channel_close.reply_code, 404);
    say(&after, 1, METHOD_channel_close_ok, NULL);
    expect_the_end(&before, 320, "CONNECTION_FORCED - vhost 'v' is deleted");
    say(&after, 2, METHOD_channel_open, &(struct channel_open){0});
    expect(&after, METHOD_channel_open_ok); /* the order was for the first */
    hang_up(&before);
    hang_up(&after);
    stop(&b);
}

/* Both workers declare, consume and publish there while it is deleted and made again. */
static void
deletion_meets_work(void **state)
{
    enum { ROUNDS = 50 };
    struct broker b;

    (void)state;
    start(&b);
    for (int round = 0; round < ROUNDS; round++) {
        struct client c[WORKERS];

        for (unsigned i = 0; i < WORKERS; i++) {
            connect_to(&b, &c[i], i);
            open_vhost(&c[i], "v");
            for (size_t j = 0; j < COUNT_OF(names); j++) {
                say(&c[i], 1, METHOD_queue_declare,
                    &(struct queue_declare){.queue = view_str(names[j]), .nowait = true});
                say(&c[i], 1, METHOD_queue_bind,
                    &(struct queue_bind){.queue = view_str(names[j]),
                                         .exchange = VIEW_LIT("amq.fanout"),
                                         .nowait = true});
                say(&c[i], 1, METHOD_basic_consume,
                    &(struct basic_consume){.queue = view_str(names[j]), .nowait = true});
            }
        }
        assert_true(delete_vhost(&b, "v"));
        put_vhost(&b, "v");
        for (unsigned i = 0; i < WORKERS; i++) {
            expect_the_end(&c[i], 320, "CONNECTION_FORCED - vhost 'v' is deleted");
            hang_up(&c[i]);
        }
    }
    stop(&b);
}

/* What this thread has worked: a busy machine counts for nothing. */
static uint64_t
worked_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

enum { MANY = 160000 };

static const char *
nth(unsigned i)
{
    static char name[32];

    snprintf(name, sizeof(name), "n%u", i);
    return name;
}

/* An exchange, a queue and a binding each; the queues' ids. */
static uint64_t *
fill(struct broker *b, struct vhost *vhost)
{
    uint64_t *ids = calloc(MANY, sizeof(*ids));

    assert_non_null(ids);
    for (unsigned i = 0; i < MANY; i++) {
        struct view name = view_str(nth(i));
        struct exchange_spec exchange = {.name = name, .type = VIEW_LIT("fanout")};
        struct queue_spec queue = {.name = name};
        struct binding_spec binding = {.source = name, .destination = name};
        struct queue_found found;

        assert_true(topology_declare_exchange(vhost, &exchange, NULL, &b->err));
        assert_int_equal(topology_declare_queue(vhost, &queue, 0, 0, &found, &b->err),
                         QUEUE_CREATED);
        assert_true(topology_bind(vhost, &binding, 0, NULL, &b->err));
        ids[i] = found.ref.id;
    }
    return ids;
}

static uint64_t
work_of_deleting_each_ms(void)
{
    struct broker b;
    struct vhost *vhost;
    uint64_t began, *ids;

    start(&b);
    vhost = topology_find_vhost(b.topology, VIEW_LIT("v"));
    ids = fill(&b, vhost);
    began = worked_ms();
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(topology_queue_remove(b.topology, ids[i]));
        assert_true(topology_delete_exchange(vhost, view_str(nth(i)), false, NULL, &b.err));
    }
    began = worked_ms() - began;
    free(ids);
    stop(&b);
    return began;
}

static uint64_t
work_of_deleting_all_ms(void)
{
    struct broker b;
    uint64_t began;

    start(&b);
    free(fill(&b, topology_find_vhost(b.topology, VIEW_LIT("v"))));
    began = worked_ms();
    assert_true(delete_vhost(&b, "v"));
    began = worked_ms() - began;
    stop(&b);
    return began;
}

/* Within one lock: none may have to look through what went before it, or it is fifty times the sum.
 * Memory is met in the order of a hash, and homes are written to: that makes it several times. */
static void
the_end_of_a_large_vhost_is_about_the_sum_of_its_parts(void **state)
{
    uint64_t each_ms = work_of_deleting_each_ms(), all_ms = work_of_deleting_all_ms();

    (void)state;
    print_message("one by one %llu ms, all %llu ms\n", (unsigned long long)each_ms,
                  (unsigned long long)all_ms);
    assert_true(all_ms <= 20 * (each_ms + 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_a_vhost_is_the_end_of_its_connections),
        cmocka_unit_test(who_opens_it_too_late_does_not_find_it),
        cmocka_unit_test(one_made_anew_is_empty_and_another),
        cmocka_unit_test(deletion_meets_work),
        cmocka_unit_test(the_end_of_a_large_vhost_is_about_the_sum_of_its_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
