#include "unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "lepus/net/transport.h"

#include "crew.h"

/*
 * The peer is the main thread, with a blocking socket. Input is records: their length in four
 * octets of this machine's order, then a payload that follows from the record's number.
 */
enum { HEAD = 4 };

struct end {
    struct crew crew;
    struct transport *transport;
    int peer, ours;
    struct random random;     /* the main thread's */
    struct random our_random; /* the worker's */

    /* The reader. */
    bool says_want;
    unsigned pause_every, again_every; /* records; 0: never */
    unsigned close_at, finish_at;      /* records; 0: never */
    bool stays_paused, is_paused;
    struct worker_task resume;
    uint64_t seen, calls, pauses;
    uint64_t expected; /* records; then told */

    /* The writer. */
    struct worker_task write;
    uint64_t written, to_write;
    struct blob *blob;
    bool is_writing; /* until to_write */
    bool is_waiting; /* for drained */
    bool is_busy;    /* in a call of ours */
    unsigned drained;

    struct worker_timer idle;
    double cpu_s;

    bool is_gone, is_closed;
    char why[64];
};

static uint8_t
payload_octet(uint64_t record, size_t i)
{
    return (uint8_t)(record * 31 + i * 7);
}

/* --- the owner, on the worker ------------------------------------------------------------ */

static void
close_it(struct end *end)
{
    end->is_closed = true;
    transport_close(end->transport);
    transport_close(end->transport); /* again: fine */
}

static bool
eat_one(struct end *end, struct view *input, size_t *out_want)
{
    uint32_t len;

    if (input->len < HEAD)
        return false;
    memcpy(&len, input->at, HEAD);
    if (input->len - HEAD < len) {
        if (end->says_want)
            *out_want = HEAD + len;
        return false;
    }
    for (size_t i = 0; i < len; i++)
        assert(input->at[HEAD + i] == payload_octet(end->seen, i));
    input->at += HEAD + len;
    input->len -= HEAD + len;
    end->seen++;
    return true;
}

static size_t
on_bytes(void *arg, struct view input, size_t *out_want)
{
    struct end *end = arg;
    size_t len = input.len;

    assert(!end->is_closed && !end->is_gone && !end->is_busy && !end->is_paused);
    assert(input.len > 0);
    end->calls++;
    while (eat_one(end, &input, out_want)) {
        if (end->seen == end->expected)
            tell(&end->crew.told);
        if (end->seen == end->close_at) {
            close_it(end);
            break;
        }
        if (end->seen == end->finish_at) {
            transport_finish(end->transport);
            break;
        }
        if (end->pause_every > 0 && end->seen % end->pause_every == 0) {
            transport_pause(end->transport);
            end->is_paused = true;
            end->pauses++;
            if (!end->stays_paused)
                worker_schedule(crew_worker(&end->crew, 0), WORKER_AGAIN, &end->resume);
            break;
        }
        if (end->again_every > 0 && end->seen % end->again_every == 0) {
            transport_again(end->transport);
            break;
        }
    }
    return len - input.len;
}

static void
on_resume(void *arg)
{
    struct end *end = arg;
    uint64_t calls = end->calls;

    if (end->is_closed)
        return;
    end->is_paused = false;
    transport_resume(end->transport);
    assert(end->calls == calls); /* not from within */
}

static void
on_drained(void *arg)
{
    struct end *end = arg;

    assert(!end->is_busy && end->is_waiting);
    assert(!transport_is_full(end->transport));
    assert(transport_pending(end->transport) < TRANSPORT_LOW);
    end->drained++;
    end->is_waiting = false;
    if (end->is_writing)
        worker_schedule(crew_worker(&end->crew, 0), WORKER_AGAIN, &end->write);
}

/* What nobody will ever read does not pile up. */
static void
write_in_vain(struct end *end)
{
    for (int i = 0; i < 1000; i++) {
        transport_put(end->transport, end->blob->bytes, 4000);
        transport_put_blob(end->transport, end->blob, 0, 40000);
        assert(transport_pending(end->transport) < 100000);
    }
}

static void
on_gone(void *arg, const char *why)
{
    struct end *end = arg;

    assert(!end->is_gone && !end->is_closed && !end->is_busy);
    end->is_gone = true;
    snprintf(end->why, sizeof(end->why), "%s", why);
    write_in_vain(end);
    close_it(end);
    write_in_vain(end);
    tell(&end->crew.told);
}

static const struct transport_ops ops = {.bytes = on_bytes, .drained = on_drained, .gone = on_gone};

/* Octet n of the output is a function of n, however it was put. */
static uint8_t
output_octet(uint64_t at)
{
    return (uint8_t)(at % 251);
}

static void
put_octets(struct end *end, size_t n)
{
    uint8_t *at = transport_reserve(end->transport, n + random_below(&end->our_random, 100));

    for (size_t i = 0; i < n; i++)
        at[i] = output_octet(end->written + i);
    transport_commit(end->transport, n);
}

/* A slice of one blob, wherever the output stands in it: it is periodic, as the output is. */
static void
put_slice(struct end *end, size_t n)
{
    transport_put_blob(end->transport, end->blob, end->written % 251, n);
}

static void
write_on(void *arg)
{
    struct end *end = arg;

    end->is_busy = end->is_writing = true;
    while (end->written < end->to_write && !transport_is_full(end->transport)) {
        bool is_blob = random_below(&end->our_random, 8) == 0;
        size_t n = random_below(&end->our_random, is_blob ? 200000 : 2000);
        size_t pending = transport_pending(end->transport);

        if (n > end->to_write - end->written)
            n = (size_t)(end->to_write - end->written);
        if (is_blob)
            put_slice(end, n);
        else
            put_octets(end, n);
        assert(transport_pending(end->transport) == pending + n);
        end->written += n;
    }
    end->is_busy = false;
    if (end->written < end->to_write)
        end->is_waiting = true;
    else
        transport_finish(end->transport);
}

/* --- both ends --------------------------------------------------------------------------- */

static void
make_pair(struct end *end, bool tcp)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    socklen_t len = sizeof(at);
    int pair[2], listener;

    if (!tcp) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        end->ours = pair[0];
        end->peer = pair[1];
    } else {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
        end->peer = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(end->peer, (struct sockaddr *)&at, sizeof(at)), 0);
        end->ours = accept(listener, NULL, NULL);
        close(listener);
    }
    assert_int_equal(fcntl(end->ours, F_SETFL, O_NONBLOCK), 0);
    setsockopt(end->peer, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    setsockopt(end->peer, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
}

static void
open_it(void *arg)
{
    struct end *end = arg;

    end->transport = transport_new(crew_worker(&end->crew, 0), end->ours, &ops, end);
}

static void
end_init(struct end *end, bool tcp)
{
    size_t size = 300 * 1024;

    *end = (struct end){.random = {42}, .our_random = {43}};
    end->resume = (struct worker_task){.run = on_resume, .arg = end};
    end->write = (struct worker_task){.run = write_on, .arg = end};
    end->blob = blob_new(size);
    for (size_t i = 0; i < size; i++)
        end->blob->bytes[i] = output_octet(i);
    end->blob->len = size;
    make_pair(end, tcp);
    crew_init(&end->crew, 1);
    crew_start(&end->crew);
    crew_do(&end->crew, 0, open_it, end);
}

static void
end_fini(struct end *end)
{
    worker_set_stop(end->crew.set);
    worker_task_cancel(&end->resume);
    worker_task_cancel(&end->write);
    if (!end->is_closed)
        close_it(end);
    crew_fini(&end->crew);
    assert_int_equal(atomic_load(&end->blob->refs), 1); /* the output gave back its own */
    blob_unref(&end->blob);
    if (end->peer >= 0)
        close(end->peer);
}

static void
hang_up(struct end *end)
{
    close(end->peer);
    end->peer = -1;
}

static void
reset(struct end *end)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    hang_up(end);
}

static void
send_all(int fd, const uint8_t *at, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

        assert_true(sent > 0);
        at += sent;
        n -= (size_t)sent;
    }
}

/* Records one after the other, of 0 to max octets; the caller frees. */
static struct view
make_records(struct random *random, uint64_t n, size_t max)
{
    uint8_t *bytes = mem_alloc((size_t)n * (HEAD + max));
    size_t at = 0;

    for (uint64_t record = 0; record < n; record++) {
        uint32_t len = (uint32_t)random_below(random, max + 1);

        memcpy(bytes + at, &len, HEAD);
        at += HEAD;
        for (size_t i = 0; i < len; i++)
            bytes[at++] = payload_octet(record, i);
    }
    return view_of(bytes, at);
}

static void
send_in_chunks(struct end *end, struct view all, size_t chunk_max)
{
    while (all.len > 0) {
        size_t n = 1 + random_below(&end->random, chunk_max);

        if (n > all.len)
            n = all.len;
        send_all(end->peer, all.at, n);
        all.at += n;
        all.len -= n;
    }
}

struct habit {
    uint64_t records;
    size_t record_max, chunk_max;
    bool says_want;
    unsigned pause_every, again_every;
};

/* The peer sends, and hangs up at once: all of it must arrive, then the end. */
static void
read_with(const struct habit *habit, bool tcp)
{
    struct end end;
    struct view all;

    end_init(&end, tcp);
    end.says_want = habit->says_want;
    end.pause_every = habit->pause_every;
    end.again_every = habit->again_every;
    all = make_records(&end.random, habit->records, habit->record_max);
    send_in_chunks(&end, all, habit->chunk_max);
    send_all(end.peer, (const uint8_t *)"\377", 1); /* the beginning of one more */
    hang_up(&end);
    await(&end.crew.told);
    end_fini(&end);
    free((void *)(uintptr_t)all.at);
    assert_int_equal(end.seen, habit->records);
    assert_true(end.is_gone);
    assert_string_equal(end.why, "peer closed");
    if (habit->pause_every > 0)
        assert_int_equal(end.pauses, habit->records / habit->pause_every);
}

static void
any_chunks_give_the_same_bytes(void **state)
{
    static const struct habit habits[] = {
        {2000, 20, 1, false, 0, 0},           {2000, 20, 1, true, 0, 0},
        {20000, 300, 1000, false, 0, 0},      {20000, 300, 100000, true, 0, 0},
        {20000, 300, 100000, false, 3, 0},    {20000, 300, 100000, false, 0, 7},
        {2000, 9000, 5000, true, 5, 11},      {60, 1 << 20, 300000, true, 0, 0},
        {60, 1 << 20, 300000, false, 0, 0},   {60, 1 << 20, 3000, true, 7, 3},
        {30, 150000, 400, false, 1, 0},       {300, 200000, 1 << 20, true, 0, 1},
        {50000, 40, 1 << 20, false, 100, 33},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(habits); i++) {
        read_with(&habits[i], false);
        read_with(&habits[i], true);
    }
}

static void
pass(void *arg)
{
    (void)arg;
}

static void
want(uint32_t len, size_t chunk)
{
    uint8_t *record = mem_alloc(HEAD + len);
    struct end end;

    end_init(&end, true);
    end.says_want = true;
    end.expected = 1;
    memcpy(record, &len, HEAD);
    for (size_t i = 0; i < len; i++)
        record[HEAD + i] = payload_octet(0, i);
    for (size_t at = 0; at < HEAD + len; at += chunk) {
        send_all(end.peer, record + at, chunk < HEAD + len - at ? chunk : HEAD + len - at);
        crew_do(&end.crew, 0, pass, NULL); /* the turn after the one in which */
        crew_do(&end.crew, 0, pass, NULL); /* that is sure to have been read */
    }
    await(&end.crew.told);
    end_fini(&end);
    free(record);
    assert_true(end.calls <= 2); /* until it knows, and with all of it */
}

static void
what_is_wanted_comes_in_one_piece(void **state)
{
    (void)state;
    want(20 << 20, 1 << 20);
    want(100000, 1000);
    want(60000, 1000);
}

static void
close_within_bytes_is_the_last_call(void **state)
{
    struct end end;
    struct view all;
    uint8_t octet;

    (void)state;
    for (unsigned at = 1; at < 200; at += 37) {
        end_init(&end, true);
        end.close_at = at;
        end.again_every = at % 2 == 0 ? 5 : 0; /* from what was kept, too */
        all = make_records(&end.random, 200, 100);
        send_all(end.peer, all.at, all.len);
        while (recv(end.peer, &octet, 1, 0) > 0)
            continue;
        end_fini(&end);
        free((void *)(uintptr_t)all.at);
        assert_int_equal(end.seen, at);
        assert_false(end.is_gone);
    }
}

static void
look_at_seen(void *arg)
{
    struct end *end = arg;

    assert(end->seen == 50);
}

static void
let_it_go_on(void *arg)
{
    struct end *end = arg;

    end->pause_every = 0;
    end->is_paused = false;
    transport_resume(end->transport);
    transport_resume(end->transport);
}

static void
a_paused_reader_is_left_alone(void **state)
{
    struct end end;
    struct view all;

    (void)state;
    end_init(&end, true);
    end.pause_every = 50;
    end.stays_paused = true;
    end.expected = 50;
    all = make_records(&end.random, 200, 1000);
    send_all(end.peer, all.at, all.len / 2);
    await(&end.crew.told);
    end.expected = 0;
    send_all(end.peer, all.at + all.len / 2, all.len - all.len / 2);
    hang_up(&end);
    for (int i = 0; i < 5; i++) /* so many turns in which the socket is readable */
        crew_do(&end.crew, 0, look_at_seen, &end);
    crew_do(&end.crew, 0, let_it_go_on, &end);
    await(&end.crew.told);
    end_fini(&end);
    free((void *)(uintptr_t)all.at);
    assert_int_equal(end.seen, 200);
    assert_string_equal(end.why, "peer closed");
}

/* --- output and ends --------------------------------------------------------------------- */

/* Until the peer's end, a little at a time. */
static uint64_t
read_output(struct end *end, size_t at_once)
{
    uint8_t *bytes = mem_alloc(at_once);
    uint64_t at = 0;
    ssize_t n;

    while ((n = recv(end->peer, bytes, 1 + random_below(&end->random, at_once), 0)) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if (bytes[i] != output_octet(at))
                fail_msg("octet %llu is wrong", (unsigned long long)at);
    assert_int_equal(n, 0);
    free(bytes);
    return at;
}

static void
slow_reader_gets_exact_bytes(void **state)
{
    struct end end;

    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        end_init(&end, tcp == 1);
        end.to_write = 24 << 20;
        crew_do(&end.crew, 0, write_on, &end);
        assert_int_equal(read_output(&end, 20000), 24 << 20);
        hang_up(&end);
        await(&end.crew.told);
        end_fini(&end);
        assert_true(end.drained > 0);
        assert_string_equal(end.why, "finished");
    }
}

static void
write_and_finish(void *arg)
{
    struct end *end = arg;

    for (int i = 0; i < 30; i++) {
        put_slice(end, 200000);
        end->written += 200000;
        put_octets(end, 3);
        end->written += 3;
    }
    transport_finish(end->transport);
    transport_finish(end->transport); /* again: fine */
}

static void
finish_lets_everything_out(void **state)
{
    struct end end;
    struct view all;

    (void)state;
    end_init(&end, true);
    all = make_records(&end.random, 500, 1000);
    crew_do(&end.crew, 0, write_and_finish, &end);
    send_all(end.peer, all.at, all.len); /* nobody reads it, and it must not cause a reset */
    assert_int_equal(read_output(&end, 100000), 30 * 200003);
    hang_up(&end);
    await(&end.crew.told);
    end_fini(&end);
    free((void *)(uintptr_t)all.at);
    assert_int_equal(end.seen, 0);
    assert_string_equal(end.why, "finished");
}

static void
finish_after_the_peer_sends_no_more(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, true);
    crew_do(&end.crew, 0, write_and_finish, &end);
    shutdown(end.peer, SHUT_WR);
    assert_int_equal(read_output(&end, 100000), 30 * 200003);
    await(&end.crew.told);
    end_fini(&end);
    assert_string_equal(end.why, "finished");
}

static void
write_what_is_not_much(void *arg)
{
    struct end *end = arg;
    int size = 4096;

    setsockopt(end->ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    put_slice(end, 200000);
    end->written += 200000;
    transport_finish(end->transport);
}

static void
finish_of_less_than_makes_it_full(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, false);
    crew_do(&end.crew, 0, write_what_is_not_much, &end);
    shutdown(end.peer, SHUT_WR);
    assert_int_equal(read_output(&end, 1000), 200000);
    await(&end.crew.told);
    end_fini(&end);
    assert_string_equal(end.why, "finished");
}

static void
finish_within_bytes(void **state)
{
    struct end end;
    struct view all;

    (void)state;
    end_init(&end, true);
    end.finish_at = 3;
    all = make_records(&end.random, 100, 1000);
    send_all(end.peer, all.at, all.len);
    assert_int_equal(read_output(&end, 100), 0);
    hang_up(&end);
    await(&end.crew.told);
    end_fini(&end);
    free((void *)(uintptr_t)all.at);
    assert_int_equal(end.seen, 3);
    assert_string_equal(end.why, "finished");
}

static void
finish_does_not_wait_for_ever(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, true);
    crew_do(&end.crew, 0, write_and_finish, &end);
    await(&end.crew.told); /* the peer reads nothing */
    end_fini(&end);
    assert_string_equal(end.why, "peer did not close in time");
}

static void
a_reset_is_told_once(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, true);
    reset(&end);
    await(&end.crew.told);
    end_fini(&end);
    assert_string_equal(end.why, "Connection reset by peer");
}

static void
a_reset_ends_a_paused_writer(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, true);
    end.pause_every = 1;
    end.stays_paused = true;
    end.expected = 1;
    send_all(end.peer, (const uint8_t *)"\0\0\0\0\0\0\0\0", 8);
    await(&end.crew.told);
    end.to_write = 64 << 20;
    crew_do(&end.crew, 0, write_on, &end);
    reset(&end);
    await(&end.crew.told);
    end_fini(&end);
    assert_true(end.is_gone);
    assert_int_equal(end.seen, 1);
}

static void
write_a_little(void *arg)
{
    struct end *end = arg;

    if (end->is_closed) /* it was quicker */
        return;
    put_octets(end, 100);
    end->written += 100;
}

/* What the peer sent before he ended is handed up, though we found out by writing. */
static void
input_before_a_failed_write_is_read(void **state)
{
    struct end end;
    struct view all;

    (void)state;
    for (int i = 0; i < 20; i++) {
        end_init(&end, false);
        all = make_records(&end.random, 500, 1000);
        send_all(end.peer, all.at, all.len / 2);
        crew_send(&end.crew, 0, write_a_little, &end);
        send_all(end.peer, all.at + all.len / 2, all.len - all.len / 2);
        hang_up(&end);
        crew_send(&end.crew, 0, write_a_little, &end);
        await(&end.crew.told);
        end_fini(&end);
        free((void *)(uintptr_t)all.at);
        assert_int_equal(end.seen, 500);
    }
}

static void
look_alive(void *arg)
{
    struct end *end = arg;

    assert(!transport_is_dying(end->transport));
}

static void
look_dying(void *arg)
{
    struct end *end = arg;

    assert(transport_is_dying(end->transport));
}

static void
a_peer_that_hung_up_is_seen_before_its_bytes_are_read(void **state)
{
    struct end end;

    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        end_init(&end, tcp == 1);
        end.pause_every = 1;
        end.stays_paused = true;
        end.expected = 1;
        crew_do(&end.crew, 0, look_alive, &end);
        send_all(end.peer, (const uint8_t *)"\0\0\0\0\0\0\0\0", 8);
        await(&end.crew.told);
        crew_do(&end.crew, 0, look_alive, &end);
        hang_up(&end);
        crew_do(&end.crew, 0, look_dying, &end);
        end_fini(&end);
        assert_false(end.is_gone);
    }
}

static void
write_no_end(void *arg)
{
    struct end *end = arg;

    put_slice(end, 3 << 16);
    for (end->written += 3 << 16; !transport_is_full(end->transport); end->written += 3 << 16)
        put_slice(end, 3 << 16);
    end->is_waiting = true;
}

static double
thread_cpu_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
idle_over(void *arg)
{
    struct end *end = arg;

    end->cpu_s = thread_cpu_s() - end->cpu_s;
    worker_timer_cancel(&end->idle);
    tell(&end->crew.told);
}

static void
idle_begin(void *arg)
{
    struct end *end = arg;

    end->idle = (struct worker_timer){.fire = idle_over, .arg = end};
    worker_timer_set(crew_worker(&end->crew, 0), &end->idle, 300);
    end->cpu_s = thread_cpu_s();
}

/* The socket is writable, with nothing to write, and readable, with nobody to read. */
static void
neither_a_drained_nor_a_paused_transport_keeps_the_loop_busy(void **state)
{
    struct end end;
    uint8_t bytes[4096];
    uint64_t left;

    (void)state;
    end_init(&end, false);
    end.pause_every = 1;
    end.stays_paused = true;
    end.expected = 1;
    send_all(end.peer, (const uint8_t *)"\0\0\0\0\0\0\0\0", 4);
    await(&end.crew.told);
    send_all(end.peer, (const uint8_t *)"\0\0\0\0\0\0\0\0", 4);
    crew_do(&end.crew, 0, write_no_end, &end);
    for (left = end.written; left > 0;) {
        ssize_t n = recv(end.peer, bytes, sizeof(bytes), 0);

        assert_true(n > 0);
        left -= (uint64_t)n;
    }
    crew_do(&end.crew, 0, idle_begin, &end);
    await(&end.crew.told);
    end_fini(&end);
    assert_int_equal(end.seen, 1);
    assert_int_equal(end.drained, 1);
    assert_true(end.cpu_s < 0.02);
}

static void
look_at_names(void *arg)
{
    struct end *end = arg;
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    char expected[64];

    assert(getsockname(end->peer, (struct sockaddr *)&at, &len) == 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", ntohs(at.sin_port));
    assert(strcmp(transport_peer(end->transport), expected) == 0);
    assert(getpeername(end->peer, (struct sockaddr *)&at, &len) == 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", ntohs(at.sin_port));
    assert(strcmp(transport_local(end->transport), expected) == 0);
    assert(transport_peer_is_loopback(end->transport));
}

static void
both_ends_have_names(void **state)
{
    struct end end;

    (void)state;
    end_init(&end, true);
    crew_do(&end.crew, 0, look_at_names, &end);
    end_fini(&end);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_chunks_give_the_same_bytes),
        cmocka_unit_test(what_is_wanted_comes_in_one_piece),
        cmocka_unit_test(close_within_bytes_is_the_last_call),
        cmocka_unit_test(a_paused_reader_is_left_alone),
        cmocka_unit_test(slow_reader_gets_exact_bytes),
        cmocka_unit_test(finish_lets_everything_out),
        cmocka_unit_test(finish_after_the_peer_sends_no_more),
        cmocka_unit_test(finish_of_less_than_makes_it_full),
        cmocka_unit_test(finish_within_bytes),
        cmocka_unit_test(finish_does_not_wait_for_ever),
        cmocka_unit_test(a_reset_is_told_once),
        cmocka_unit_test(a_reset_ends_a_paused_writer),
        cmocka_unit_test(input_before_a_failed_write_is_read),
        cmocka_unit_test(a_peer_that_hung_up_is_seen_before_its_bytes_are_read),
        cmocka_unit_test(neither_a_drained_nor_a_paused_transport_keeps_the_loop_busy),
        cmocka_unit_test(both_ends_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
