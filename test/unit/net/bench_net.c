/*
 * What net/ costs: one figure a line. Run it by hand (meson test --benchmark).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "lepus/net/transport.h"

#include "crew.h"

enum { PINGS = 200 * 1000, RECORDS = 20 * 1000 * 1000, RECORD_SIZE = 64 };

static double
now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct bench {
    struct crew crew;
    struct worker_task send;
    uint64_t sent, seen;
    struct transport *transport;
    int fd;
    double cost_ns;
};

/* --- mail -------------------------------------------------------------------------------- */

static void
on_ping(struct crew *crew, unsigned at, unsigned from, const void *record, size_t size)
{
    struct bench *bench = container_of(crew, struct bench, crew);

    (void)record;
    (void)size;
    if (++bench->seen == PINGS)
        tell(&crew->told);
    else
        memset(worker_mail(crew_worker(crew, at), from, RECORD_SIZE), 1, RECORD_SIZE);
}

static void
measure_pings(void)
{
    struct bench bench = {.seen = 0};
    double start;

    crew_init(&bench.crew, 2);
    bench.crew.mail = on_ping;
    memset(worker_mail(crew_worker(&bench.crew, 0), 1, RECORD_SIZE), 1, RECORD_SIZE);
    start = now_s();
    crew_start(&bench.crew);
    await(&bench.crew.told);
    printf("mail, one way, between idle workers: %.2f us\n", (now_s() - start) / PINGS * 1e6);
    crew_fini(&bench.crew);
}

static void
on_record(struct crew *crew, unsigned at, unsigned from, const void *record, size_t size)
{
    struct bench *bench = container_of(crew, struct bench, crew);

    (void)at;
    (void)from;
    (void)record;
    (void)size;
    if (++bench->seen == RECORDS)
        tell(&crew->told);
}

static void
send_on(void *arg)
{
    struct bench *bench = arg;
    struct worker *worker = crew_worker(&bench->crew, 0);

    for (int i = 0; i < 4000 && bench->sent < RECORDS; i++, bench->sent++)
        memset(worker_mail(worker, 1, RECORD_SIZE), 1, RECORD_SIZE);
    if (bench->sent < RECORDS)
        worker_when_clear(worker, &bench->send);
}

static void
measure_mail(void)
{
    struct bench bench = {.seen = 0};
    double start;

    crew_init(&bench.crew, 2);
    bench.crew.mail = on_record;
    bench.send = (struct worker_task){.run = send_on, .arg = &bench};
    worker_schedule(crew_worker(&bench.crew, 0), WORKER_AGAIN, &bench.send);
    start = now_s();
    crew_start(&bench.crew);
    await(&bench.crew.told);
    printf("mail, %d octets: %.1f M records/s\n", RECORD_SIZE, RECORDS / (now_s() - start) / 1e6);
    crew_fini(&bench.crew);
}

/* --- transport --------------------------------------------------------------------------- */

static size_t
on_bytes(void *arg, struct view input, size_t *out_want)
{
    struct bench *bench = arg;
    size_t used = 0;

    (void)out_want;
    for (; input.len - used >= RECORD_SIZE; used += RECORD_SIZE) {
        memcpy(transport_reserve(bench->transport, RECORD_SIZE), input.at + used, RECORD_SIZE);
        transport_commit(bench->transport, RECORD_SIZE);
    }
    return used;
}

static void
on_drained(void *arg)
{
    (void)arg;
}

static void
on_gone(void *arg, const char *why)
{
    struct bench *bench = arg;

    (void)why;
    transport_close(bench->transport);
    tell(&bench->crew.told);
}

static void
open_it(void *arg)
{
    static const struct transport_ops ops = {on_bytes, on_drained, on_gone};
    struct bench *bench = arg;

    bench->transport = transport_new(crew_worker(&bench->crew, 0), bench->fd, &ops, bench);
}

static int
connect_loopback(int *out_ours)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0 ||
        connect(peer, (struct sockaddr *)&at, sizeof(at)) != 0)
        abort();
    *out_ours = accept(listener, NULL, NULL);
    close(listener);
    fcntl(*out_ours, F_SETFL, O_NONBLOCK);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    setsockopt(*out_ours, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return peer;
}

static void
exchange(int peer, size_t octets)
{
    static uint8_t out[64 * 1024], in[256 * 1024];
    size_t sent = 0, got = 0;

    while (got < octets) {
        struct pollfd pollfd = {.fd = peer, .events = POLLIN};
        ssize_t n = 0;

        if (sent < octets) {
            n = send(peer, out, octets - sent < sizeof(out) ? octets - sent : sizeof(out), 0);
            sent += n > 0 ? (size_t)n : 0;
        }
        pollfd.events = (short)(POLLIN | (sent < octets ? POLLOUT : 0));
        poll(&pollfd, 1, 1000);
        n = (pollfd.revents & POLLIN) != 0 ? recv(peer, in, sizeof(in), 0) : 0;
        got += n > 0 ? (size_t)n : 0;
    }
}

static void
measure_echo(void)
{
    struct bench bench = {.seen = 0};
    size_t octets = (size_t)RECORD_SIZE * RECORDS / 2;
    int peer = connect_loopback(&bench.fd);
    double start;

    crew_init(&bench.crew, 1);
    crew_start(&bench.crew);
    crew_do(&bench.crew, 0, open_it, &bench);
    start = now_s();
    exchange(peer, octets);
    printf("transport, echo of %d octets: %.1f M records/s\n", RECORD_SIZE,
           (double)octets / RECORD_SIZE / (now_s() - start) / 1e6);
    start = now_s();
    for (int i = 0; i < 20000; i++)
        exchange(peer, RECORD_SIZE);
    printf("transport, round trip: %.1f us\n", (now_s() - start) / 20000 * 1e6);
    close(peer);
    await(&bench.crew.told);
    crew_fini(&bench.crew);
}

/* A transport that has been closed takes output all the same, until the turn ends. */
static void
put_in_vain(void *arg)
{
    static const uint8_t record[RECORD_SIZE];
    struct bench *bench = arg;
    double start;

    open_it(bench);
    transport_close(bench->transport);
    start = now_s();
    for (int i = 0; i < RECORDS; i++)
        transport_put(bench->transport, record, RECORD_SIZE);
    bench->cost_ns = (now_s() - start) / RECORDS * 1e9;
}

static void
measure_put(void)
{
    struct bench bench = {.seen = 0};
    int peer = connect_loopback(&bench.fd);

    crew_init(&bench.crew, 1);
    crew_start(&bench.crew);
    crew_do(&bench.crew, 0, put_in_vain, &bench);
    printf("transport, put of %d octets: %.2f ns\n", RECORD_SIZE, bench.cost_ns);
    close(peer);
    crew_fini(&bench.crew);
}

int
main(void)
{
    measure_pings();
    measure_mail();
    measure_echo();
    measure_put();
    return 0;
}
