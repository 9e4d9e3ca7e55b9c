/*
 * crew: the loops at their common work, and the one who leads them through it.
 *
 * The main thread goes through phases: declare, open the consumers, open the producers, let them
 * start, watch, close, delete. It posts a command to every loop and sleeps until all they owe is
 * done (crew_done, called by the loops), something fails, or the clock says that it is time for a
 * line. The members under `lock` are touched with it held; the counters of a loop are its own,
 * and others read them.
 */
#ifndef PERF_CREW_H
#define PERF_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "options.h"

struct loop;

struct crew {
    const struct options *options;
    struct peer peer;
    struct loop **loops;
    clockid_t clock;

    _Atomic uint64_t consume_left; /* of --consume: not yet taken by a consumer */
    _Atomic uint64_t lives_left;   /* of --publish with --churn */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t pending;      /* what the loops still owe in this phase */
    uint64_t publishing;   /* producers that are not through with their count */
    uint64_t consume_owed; /* messages taken from consume_left, or still in it, and not counted */
    bool is_interrupted;
    char failure[400]; /* empty: none */
};

/* Called by a loop. */
void crew_done(struct crew *crew);
void crew_producer_done(struct crew *crew);
void crew_consumed(struct crew *crew, uint64_t n);

/* Keeps the first of what went wrong, and ends the run. */
void crew_fail(struct crew *crew, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs all of it. Exit status. */
int crew_run(const struct options *options);

uint64_t crew_now_ns(const struct crew *crew);

#endif
