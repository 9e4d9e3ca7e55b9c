/*
 * histogram: how often each duration was seen, to within 0.8 % of its value.
 *
 * Log-linear, as HdrHistogram: every power of two is cut into SUB equal buckets, so that the error
 * is relative and a few thousand counters hold nanoseconds and hours alike. One thread records,
 * any other may read meanwhile (and sees each counter as it was at some moment).
 */
#ifndef PERF_HISTOGRAM_H
#define PERF_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 7,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB,
};

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t count, sum, min, max; /* min means something when count > 0 */
};

void histogram_clear(struct histogram *h);

/* n durations of the same value. */
void histogram_record(struct histogram *h, uint64_t value, uint64_t n);

void histogram_add(struct histogram *to, const struct histogram *from);

/* to = now - before, bucket by bucket; min and max are then those of the buckets.
 * `to` is neither of the others. */
void histogram_difference(struct histogram *to, const struct histogram *now,
                          const struct histogram *before);

/* The least recorded value, up to the error, that at least the fraction q of all do not pass; at
 * most max. 0 when nothing was recorded. */
uint64_t histogram_quantile(const struct histogram *h, double q);

double histogram_mean(const struct histogram *h);

#endif
