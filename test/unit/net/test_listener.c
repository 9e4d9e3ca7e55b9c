#include "unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "lepus/net/listener.h"

#include "crew.h"

enum { PEERS = 100 };

struct door {
    struct crew crew;
    struct listener *listener;
    int accepted[2 * PEERS];
    size_t n;
};

static void
on_accept(void *arg, int fd)
{
    struct door *door = arg;
    int on = 0;
    socklen_t len = sizeof(on);

    assert(worker_is_here(crew_worker(&door->crew, 0)));
    assert((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on != 0);
    door->accepted[door->n++] = fd;
    tell(&door->crew.told);
}

static void
door_init(struct door *door)
{
    struct err err;

    *door = (struct door){.n = 0};
    crew_init(&door->crew, 1);
    door->listener =
        listener_new(crew_worker(&door->crew, 0), "127.0.0.1", 0, 128, on_accept, door, &err);
    assert_non_null(door->listener);
    crew_start(&door->crew);
}

static void
door_fini(struct door *door)
{
    worker_set_stop(door->crew.set);
    listener_free(door->listener);
    for (size_t i = 0; i < door->n; i++)
        close(door->accepted[i]);
    crew_fini(&door->crew);
}

static unsigned
port_of(const struct listener *listener)
{
    const char *colon = strrchr(listener_address(listener), ':');

    assert_non_null(colon);
    return (unsigned)strtoul(colon + 1, NULL, 10);
}

static int
connect_with(int fd, unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, (struct sockaddr *)&to, sizeof(to));
}

/* Waits for the peer's end of the stream. */
static bool
is_closed_by_peer(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    char octet;

    return poll(&pollfd, 1, DEADLINE_S * 1000) == 1 && recv(fd, &octet, 1, 0) <= 0;
}

static void
every_connection_is_accepted(void **state)
{
    struct door door;
    int fds[PEERS];

    (void)state;
    door_init(&door);
    assert_int_equal(strncmp(listener_address(door.listener), "127.0.0.1:", 10), 0);
    assert_int_not_equal(port_of(door.listener), 0);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect_with(fds[i], port_of(door.listener)), 0);
    }
    for (int i = 0; i < PEERS; i++)
        await(&door.crew.told);
    for (int i = 0; i < PEERS; i++)
        close(fds[i]);
    door_fini(&door);
    assert_int_equal(door.n, PEERS);
}

static void
a_port_in_use_is_named(void **state)
{
    struct door door;
    struct err err = {0};
    char expected[128];

    (void)state;
    door_init(&door);
    worker_set_stop(door.crew.set);
    assert_null(listener_new(crew_worker(&door.crew, 0), "127.0.0.1", port_of(door.listener), 128,
                             on_accept, &door, &err));
    snprintf(expected, sizeof(expected), "bind %s: Address already in use",
             listener_address(door.listener));
    assert_string_equal(err.text, expected);
    door_fini(&door);
}

static void
a_host_that_is_none_is_named(void **state)
{
    struct crew crew;
    struct err err = {0};

    (void)state;
    crew_init(&crew, 1);
    assert_null(listener_new(crew_worker(&crew, 0), "1.2.3.4.5", 0, 1, on_accept, NULL, &err));
    assert_non_null(strstr(err.text, "look up '1.2.3.4.5': "));
    crew_fini(&crew);
}

/* Fills the table of descriptors under a lowered limit. */
static size_t
take_all_descriptors(int *fds, size_t max)
{
    size_t n = 0;

    while (n < max && (fds[n] = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    assert_true(n < max);
    assert_int_equal(errno, EMFILE);
    return n;
}

static void
without_descriptors_peers_are_turned_away(void **state)
{
    struct rlimit before, low;
    struct door door;
    int fds[PEERS], fillers[256];
    size_t filled;

    (void)state;
    door_init(&door);
    for (int i = 0; i < PEERS; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    filled = take_all_descriptors(fillers, COUNT_OF(fillers));
    for (int i = 0; i < PEERS / 2; i++) {
        assert_int_equal(connect_with(fds[i], port_of(door.listener)), 0);
        assert_true(is_closed_by_peer(fds[i]));
    }
    for (size_t i = 0; i < filled; i++)
        close(fillers[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = PEERS / 2; i < PEERS; i++)
        assert_int_equal(connect_with(fds[i], port_of(door.listener)), 0);
    for (int i = PEERS / 2; i < PEERS; i++)
        await(&door.crew.told);
    for (int i = 0; i < PEERS; i++)
        close(fds[i]);
    door_fini(&door);
    assert_int_equal(door.n, PEERS / 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_connection_is_accepted),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(a_host_that_is_none_is_named),
        cmocka_unit_test(without_descriptors_peers_are_turned_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
