#include "crew.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>

#include "churn.h"
#include "consumer.h"
#include "lepus/base/mem.h"
#include "loop.h"
#include "producer.h"
#include "report.h"
#include "script.h"
#include "session.h"

static const uint64_t SECOND_NS = 1000000000;
static const uint64_t CLOSE_NS = 5 * UINT64_C(1000000000); /* for closing in order */

/* What the loops call */

uint64_t
crew_now_ns(const struct crew *crew)
{
    struct timespec now;

    clock_gettime(crew->clock, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void
settle(struct crew *crew, uint64_t *owed, uint64_t n)
{
    pthread_mutex_lock(&crew->lock);
    *owed = *owed > n ? *owed - n : 0;
    if (*owed == 0)
        pthread_cond_signal(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

void
crew_done(struct crew *crew)
{
    settle(crew, &crew->pending, 1);
}

void
crew_producer_done(struct crew *crew)
{
    settle(crew, &crew->publishing, 1);
}

void
crew_consumed(struct crew *crew, uint64_t n)
{
    settle(crew, &crew->consume_owed, n);
}

void
crew_fail(struct crew *crew, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&crew->lock);
    if (crew->failure[0] == '\0') {
        va_start(args, format);
        vsnprintf(crew->failure, sizeof(crew->failure), format, args);
        va_end(args);
        fprintf(stderr, "lepus-perf: %s\n", crew->failure);
    }
    pthread_cond_signal(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

/* Phases */

static void
post(struct crew *crew, enum loop_command command, enum session_kind kind)
{
    for (uint64_t i = 0; i < crew->options->threads; i++)
        loop_post(crew->loops[i], command, kind);
}

/* Sleeps until something changed, at most until then. Lock held. */
static void
sleep_until(struct crew *crew, uint64_t monotonic_ns)
{
    struct timespec until = {(time_t)(monotonic_ns / SECOND_NS), (long)(monotonic_ns % SECOND_NS)};

    pthread_cond_timedwait(&crew->changed, &crew->lock, &until);
}

static uint64_t
monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static bool
is_over(const struct crew *crew)
{
    return crew->failure[0] != '\0' || crew->is_interrupted;
}

static void
owe(struct crew *crew, uint64_t n)
{
    pthread_mutex_lock(&crew->lock);
    crew->pending = n;
    pthread_mutex_unlock(&crew->lock);
}

/* Posts, and waits until `owed` answers are there; patience begins anew with each. */
static bool
phase(struct crew *crew, enum loop_command command, enum session_kind kind, uint64_t owed,
      const char *doing)
{
    uint64_t patience = (uint64_t)(crew->options->patience_s * 1e9), since = monotonic_ns();
    uint64_t pending = owed;
    bool is_stuck = false;

    owe(crew, owed);
    post(crew, command, kind);
    pthread_mutex_lock(&crew->lock);
    while (crew->pending > 0 && !is_over(crew) && !is_stuck) {
        uint64_t now = monotonic_ns();

        if (crew->pending != pending) {
            pending = crew->pending;
            since = now;
        }
        is_stuck = now - since > patience;
        if (!is_stuck)
            sleep_until(crew, now + SECOND_NS / 10);
    }
    pthread_mutex_unlock(&crew->lock);
    if (is_stuck)
        crew_fail(crew, "%s: no answer from the broker for %g s", doing, crew->options->patience_s);
    return !is_over(crew);
}

/* In order where that is possible, failed or not; not for ever. */
static void
close_all(struct crew *crew, enum session_kind kind)
{
    uint64_t sessions = 0, until = monotonic_ns() + CLOSE_NS;

    for (uint64_t i = 0; i < crew->options->threads; i++)
        sessions += crew->loops[i]->sessions[kind].n;
    owe(crew, sessions);
    post(crew, LOOP_CLOSE, kind);
    pthread_mutex_lock(&crew->lock);
    while (crew->pending > 0 && monotonic_ns() < until)
        sleep_until(crew, until);
    if (crew->pending > 0 && crew->failure[0] == '\0')
        fprintf(stderr, "lepus-perf: the broker did not answer connection.close\n");
    pthread_mutex_unlock(&crew->lock);
}

static bool
run_script(struct crew *crew, enum session_kind kind, const char *doing)
{
    bool is_fine =
        phase(crew, LOOP_OPEN, kind, 1, "connecting") && phase(crew, LOOP_START, kind, 1, doing);

    close_all(crew, kind);
    return is_fine;
}

/* Watching */

/* Whether the counts that were asked for are reached. Lock held. */
static bool
is_complete(const struct crew *crew)
{
    const struct options *o = crew->options;

    if (o->churn > 0)
        return o->publish != OPTION_NONE && crew->pending == 0;
    return (o->publish != OPTION_NONE || o->consume != OPTION_NONE) &&
           (o->publish == OPTION_NONE || crew->publishing == 0) &&
           (o->consume == OPTION_NONE || crew->consume_owed == 0);
}

struct watch {
    uint64_t begun, window_begun, next_line, ends, quiet_since, moved;
    struct figures *begin, *before, *now;
};

static void
complain_of_quiet(struct crew *crew, const struct figures *now)
{
    const struct options *o = crew->options;

    if (o->consume != OPTION_NONE && now->consumed < o->consume)
        crew_fail(crew,
                  "consumed %" PRIu64 " of %" PRIu64 " messages, and nothing more came for %g s",
                  now->consumed, o->consume, o->patience_s);
    else
        crew_fail(crew, "nothing has happened for %g s (%" PRIu64 " published)", o->patience_s,
                  now->published);
}

/* A line a second; the beginning of the figures behind the warm-up; patience. */
static void
on_line(struct crew *crew, struct watch *w)
{
    const struct options *o = crew->options;
    uint64_t now = monotonic_ns(), moved;
    struct figures *swap = w->before;

    w->next_line += SECOND_NS;
    figures_read(w->now, crew);
    if (!o->quiet)
        report_progress(o, (double)(now - w->begun) / 1e9, w->before, w->now);
    moved =
        w->now->published + w->now->consumed + w->now->confirmed + w->now->nacked + w->now->cycles;
    if (moved != w->moved) {
        w->moved = moved;
        w->quiet_since = now;
    } else if (w->ends == UINT64_MAX && (double)(now - w->quiet_since) > o->patience_s * 1e9)
        complain_of_quiet(crew, w->now);
    w->before = w->now;
    w->now = swap;
}

static void
watch(struct crew *crew, struct figures *begin, struct figures *end)
{
    const struct options *o = crew->options;
    struct watch w = {.begun = monotonic_ns(), .begin = begin};

    w.window_begun = w.begun + (uint64_t)(o->warmup_s * 1e9);
    w.ends = o->duration_s > 0 ? w.window_begun + (uint64_t)(o->duration_s * 1e9) : UINT64_MAX;
    w.next_line = w.begun + SECOND_NS;
    w.quiet_since = w.begun;
    w.before = figures_new();
    w.now = figures_new();
    figures_read(w.before, crew);
    pthread_mutex_lock(&crew->lock);
    while (!is_over(crew) && !is_complete(crew) && monotonic_ns() < w.ends) {
        uint64_t until = w.next_line < w.ends ? w.next_line : w.ends;
        bool warms_up = o->warmup_s > 0 && begin->at_ns == 0;

        sleep_until(crew, warms_up && w.window_begun < until ? w.window_begun : until);
        pthread_mutex_unlock(&crew->lock);
        if (warms_up && monotonic_ns() >= w.window_begun)
            figures_read(begin, crew);
        if (monotonic_ns() >= w.next_line)
            on_line(crew, &w);
        pthread_mutex_lock(&crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
    figures_read(end, crew);
    if (begin->at_ns == 0)
        figures_read(begin, crew); /* ended while warming up: nothing to tell */
    free(w.before);
    free(w.now);
}

/* The run */

static void
add_sessions(struct crew *crew)
{
    const struct options *o = crew->options;
    struct session *s = NULL;

    script_add(session_new(crew->loops[0], SCRIPT), SCRIPT_PREPARE);
    script_add(session_new(crew->loops[0], CLEANER), SCRIPT_CLEAN_UP);
    for (uint64_t i = 0; i < o->churn; i++)
        churn_add(session_new(crew->loops[i % o->threads], CHURNER));
    for (uint64_t i = 0; i < o->consumers; i++) {
        if (i % o->per_connection == 0)
            s = session_new(crew->loops[i / o->per_connection % o->threads], CONSUMER);
        consumer_add(s, i);
    }
    for (uint64_t i = 0; i < o->producers; i++) {
        uint64_t count = OPTION_NONE;

        if (o->publish != OPTION_NONE)
            count = o->publish / o->producers + (i < o->publish % o->producers);
        if (i % o->per_connection == 0)
            s = session_new(crew->loops[i / o->per_connection % o->threads], PRODUCER);
        producer_add(s, i, count);
    }
}

/* Everybody is connected and does what comes first. */
static bool
gather(struct crew *crew)
{
    const struct options *o = crew->options;

    return (o->consumers == 0 ||
            phase(crew, LOOP_OPEN, CONSUMER, o->consumers, "connecting consumers")) &&
           (o->producers == 0 ||
            phase(crew, LOOP_OPEN, PRODUCER, o->producers, "connecting producers")) &&
           (o->producers == 0 || o->consumers == 0 ||
            phase(crew, LOOP_START, CONSUMER, o->consumers, "consuming"));
}

static void
perform(struct crew *crew, struct figures *begin, struct figures *end)
{
    const struct options *o = crew->options;

    if (o->warmup_s <= 0)
        figures_read(begin, crew);
    if (o->producers > 0)
        post(crew, LOOP_START, PRODUCER);
    else if (o->consumers > 0)
        post(crew, LOOP_START, CONSUMER);
    watch(crew, begin, end);
    close_all(crew, PRODUCER);
    close_all(crew, CONSUMER);
}

static void
perform_churn(struct crew *crew, struct figures *begin, struct figures *end)
{
    const struct options *o = crew->options;

    if (o->warmup_s <= 0)
        figures_read(begin, crew);
    owe(crew, o->publish);
    post(crew, LOOP_START, CHURNER);
    watch(crew, begin, end);
    atomic_store(&crew->lives_left, 0);
    close_all(crew, CHURNER);
}

static bool
has_preparations(const struct options *o)
{
    return o->churn == 0 && (!o->no_declare || o->purge) &&
           (!o->exclusive || o->exchange[0] != '\0');
}

static void
lead(struct crew *crew, struct figures *begin, struct figures *end, bool *out_has_run)
{
    const struct options *o = crew->options;

    if (has_preparations(o) && !run_script(crew, SCRIPT, "declaring"))
        return;
    *out_has_run = o->churn > 0 || gather(crew);
    if (!*out_has_run) {
        close_all(crew, PRODUCER);
        close_all(crew, CONSUMER);
        return;
    }
    if (o->churn > 0)
        perform_churn(crew, begin, end);
    else
        perform(crew, begin, end);
    if (o->delete_after && crew->failure[0] == '\0') {
        crew->is_interrupted = false; /* clean up nevertheless */
        run_script(crew, CLEANER, "deleting");
    }
}

/* SIGINT and SIGTERM are blocked everywhere and come to this thread. */
static void *
await_signal(void *arg)
{
    struct crew *crew = arg;
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    for (;;) {
        sigwait(&set, &number);
        pthread_mutex_lock(&crew->lock);
        crew->is_interrupted = true;
        pthread_cond_signal(&crew->changed);
        pthread_mutex_unlock(&crew->lock);
    }
    return NULL;
}

static void
crew_init(struct crew *crew, const struct options *o)
{
    pthread_condattr_t attributes;

    *crew = (struct crew){.options = o,
                          .clock = o->wall_clock ? CLOCK_REALTIME : CLOCK_MONOTONIC,
                          .publishing = o->producers,
                          .consume_owed = o->consume};
    atomic_init(&crew->consume_left, o->consume);
    atomic_init(&crew->lives_left, o->publish);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    crew->loops = mem_alloc((size_t)o->threads * sizeof(crew->loops[0]));
    for (uint64_t i = 0; i < o->threads; i++)
        crew->loops[i] = loop_new(crew);
    add_sessions(crew);
}

static void
crew_fini(struct crew *crew)
{
    for (uint64_t i = 0; i < crew->options->threads; i++)
        loop_free(crew->loops[i]);
    free(crew->loops);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
    peer_fini(&crew->peer);
}

static void
block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int
crew_run(const struct options *o)
{
    struct figures *begin = figures_new(), *end = figures_new();
    struct crew crew;
    pthread_t signals;
    bool has_run = false, has_failed;

    block_signals();
    crew_init(&crew, o);
    if (!peer_init(&crew.peer, o)) {
        crew_fini(&crew);
        free(begin);
        free(end);
        return 1;
    }
    pthread_create(&signals, NULL, await_signal, &crew);
    for (uint64_t i = 0; i < o->threads; i++)
        loop_start(crew.loops[i]);
    lead(&crew, begin, end, &has_run);
    post(&crew, LOOP_END, SCRIPT);
    for (uint64_t i = 0; i < o->threads; i++)
        loop_join(crew.loops[i]);
    pthread_cancel(signals);
    pthread_join(signals, NULL);
    has_failed = crew.failure[0] != '\0';
    if (has_run)
        report_summary(o, begin, end, has_failed ? crew.failure : NULL);
    crew_fini(&crew);
    free(begin);
    free(end);
    return has_failed ? 1 : 0;
}
