#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "session.h"

static const uint64_t LATENCY_MAX_NS = UINT64_C(24) * 3600 * 1000000000;

/* Commands */

static void
open_more(struct loop *loop, enum session_kind kind)
{
    while (loop->handshakes < HANDSHAKES_MAX &&
           loop->sessions[kind].opened < loop->sessions[kind].n) {
        loop->handshakes++;
        session_open(loop->sessions[kind].at[loop->sessions[kind].opened++]);
    }
}

void
loop_handshake_over(struct loop *loop, enum session_kind kind)
{
    loop->handshakes--;
    open_more(loop, kind);
}

static void
obey(struct loop *loop, enum loop_command command, enum session_kind kind)
{
    switch (command) {
    case LOOP_OPEN:
        open_more(loop, kind);
        break;
    case LOOP_START:
        for (size_t i = 0; i < loop->sessions[kind].n; i++)
            session_start(loop->sessions[kind].at[i]);
        break;
    case LOOP_CLOSE:
        loop->sessions[kind].opened = loop->sessions[kind].n; /* begin no more */
        for (size_t i = 0; i < loop->sessions[kind].n; i++)
            session_close(loop->sessions[kind].at[i]);
        break;
    case LOOP_END:
        event_base_loopbreak(loop->base);
        break;
    }
}

static void
on_command(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    uint8_t command;

    (void)what;
    if (read(fd, &command, 1) == 1)
        obey(loop, (enum loop_command)(command / KINDS), (enum session_kind)(command % KINDS));
}

void
loop_post(struct loop *loop, enum loop_command command, enum session_kind kind)
{
    uint8_t octet = (uint8_t)((unsigned)command * KINDS + (unsigned)kind);

    while (write(loop->commands[1], &octet, 1) < 0 && errno == EINTR)
        continue;
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    loop->now_ns = crew_now_ns(loop->crew);
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < loop->sessions[kind].n; i++)
            session_heartbeat(loop->sessions[kind].at[i]);
}

/* Life */

struct loop *
loop_new(struct crew *crew)
{
    struct loop *loop = mem_new(struct loop);
    struct event_config *config = event_config_new();

    loop->crew = crew;
    /* Rates want microseconds; poll's are milliseconds. */
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK |
                                      EVENT_BASE_FLAG_NO_CACHE_TIME);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (loop->base == NULL || pipe(loop->commands) != 0) {
        fprintf(stderr, "lepus-perf: no event loop\n");
        abort();
    }
    event_base_priority_init(loop->base, LOOP_PRIORITIES);
    loop->command =
        event_new(loop->base, loop->commands[0], EV_READ | EV_PERSIST, on_command, loop);
    event_add(loop->command, NULL);
    loop->second = event_new(loop->base, -1, EV_PERSIST, on_second, loop);
    event_add(loop->second, &(struct timeval){1, 0});
    loop->tail_max = crew->options->frame_max + 64;
    loop->input = mem_alloc(loop->tail_max + INPUT_SIZE);
    histogram_clear(&loop->latency);
    histogram_clear(&loop->confirm_latency);
    if (crew->options->consume == OPTION_NONE)
        loop->consume_quota = UINT64_MAX;
    return loop;
}

void
loop_free(struct loop *loop)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i < loop->sessions[kind].n; i++)
            session_free(loop->sessions[kind].at[i]);
        free(loop->sessions[kind].at);
    }
    event_free(loop->command);
    event_free(loop->second);
    event_base_free(loop->base);
    close(loop->commands[0]);
    close(loop->commands[1]);
    free(loop->input);
    free(loop);
}

void
loop_add_session(struct loop *loop, enum session_kind kind, struct session *session)
{
    size_t n = loop->sessions[kind].n;

    if ((n & (n - 1)) == 0)
        loop->sessions[kind].at =
            mem_resize(loop->sessions[kind].at, (n > 0 ? 2 * n : 1) * sizeof(session));
    loop->sessions[kind].at[n] = session;
    loop->sessions[kind].n++;
    if (kind == CHURNER)
        loop->sessions[kind].opened++; /* they connect by themselves */
}

static void *
run(void *arg)
{
    struct loop *loop = arg;

    event_base_dispatch(loop->base);
    return NULL;
}

bool
loop_start(struct loop *loop)
{
    return pthread_create(&loop->thread, NULL, run, loop) == 0;
}

void
loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
}

/* Counting */

/* A single loop takes the whole count at once. Several take one by one: what one of them had in
 * store the others could wait for in vain. */
bool
loop_take_delivery(struct loop *loop)
{
    struct crew *crew = loop->crew;
    uint64_t want, left;

    if (loop->consume_quota > 0) {
        loop->consume_quota--;
        return true;
    }
    left = atomic_load_explicit(&crew->consume_left, memory_order_relaxed);
    do {
        if (left == 0)
            return false;
        want = crew->options->threads == 1 ? left : 1;
    } while (!atomic_compare_exchange_weak(&crew->consume_left, &left, left - want));
    loop->consume_quota = want - 1;
    return true;
}

static void
end_run(struct loop *loop)
{
    if (loop->run_length > 0)
        histogram_record(&loop->latency, loop->now_ns - loop->run_stamp, loop->run_length);
    loop->run_length = 0;
}

void
loop_note_latency(struct loop *loop, uint64_t stamp)
{
    if (stamp == loop->run_stamp && loop->run_length > 0) {
        loop->run_length++;
        return;
    }
    end_run(loop);
    if (stamp > loop->now_ns || loop->now_ns - stamp > LATENCY_MAX_NS)
        return;
    loop->run_stamp = stamp;
    loop->run_length = 1;
}

void
loop_end_turn(struct loop *loop)
{
    end_run(loop);
    if (loop->consumed_new == 0)
        return;
    TALLY_ADD(&loop->tally, consumed, loop->consumed_new);
    TALLY_SET(&loop->tally, last_consume_ns, loop->now_ns);
    if (loop->crew->options->consume != OPTION_NONE)
        crew_consumed(loop->crew, loop->consumed_new);
    loop->consumed_new = 0;
}
