/*
 * report: what the loops have counted, as a line a second and as the summary.
 */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "crew.h"
#include "histogram.h"
#include "loop.h"

/* All loops together at one moment. Large: lives on the heap. */
struct figures {
    uint64_t at_ns;
    uint64_t cpu_ns; /* of this process */
#define T(name) uint64_t name;
    TALLIES(T)
#undef T
    struct histogram latency, confirm_latency;
};

struct figures *figures_new(void); /* free() */
void figures_read(struct figures *to, const struct crew *crew);

/* What happened from `before` to `now`, on one line of standard error; seconds since the start. */
void report_progress(const struct options *options, double seconds, const struct figures *before,
                     const struct figures *now);

/* On standard output. `failure`: why the run ended, or NULL. */
void report_summary(const struct options *options, const struct figures *begin,
                    const struct figures *end, const char *failure);

#endif
