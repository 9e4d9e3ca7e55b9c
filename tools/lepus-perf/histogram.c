#include "histogram.h"

#define LOAD(member)         atomic_load_explicit(&(member), memory_order_relaxed)
#define STORE(member, value) atomic_store_explicit(&(member), (value), memory_order_relaxed)

/* Values below SUB have a bucket each; of others the SUB_BITS below the leading one choose. */
static unsigned
bucket_of(uint64_t value)
{
    unsigned shift;

    if (value < HISTOGRAM_SUB)
        return (unsigned)value;
    shift = (unsigned)(63 - __builtin_clzll(value)) - HISTOGRAM_SUB_BITS;
    return (shift + 1) * HISTOGRAM_SUB + (unsigned)(value >> shift) - HISTOGRAM_SUB;
}

/* The greatest value that falls into the bucket. */
static uint64_t
last_of(unsigned bucket)
{
    unsigned shift;

    if (bucket < HISTOGRAM_SUB)
        return bucket;
    shift = bucket / HISTOGRAM_SUB - 1;
    return ((uint64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB) << shift) +
           (((uint64_t)1 << shift) - 1);
}

static uint64_t
first_of(unsigned bucket)
{
    return bucket == 0 ? 0 : last_of(bucket - 1) + 1;
}

void
histogram_clear(struct histogram *h)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        STORE(h->counts[i], 0);
    STORE(h->count, 0);
    STORE(h->sum, 0);
    STORE(h->min, UINT64_MAX);
    STORE(h->max, 0);
}

static void
widen(struct histogram *h, uint64_t min, uint64_t max)
{
    if (min < LOAD(h->min))
        STORE(h->min, min);
    if (max > LOAD(h->max))
        STORE(h->max, max);
}

/* One writer, so a load and a store do: no locked instruction a message. */
void
histogram_record(struct histogram *h, uint64_t value, uint64_t n)
{
    unsigned bucket = bucket_of(value);

    STORE(h->counts[bucket], LOAD(h->counts[bucket]) + n);
    STORE(h->count, LOAD(h->count) + n);
    STORE(h->sum, LOAD(h->sum) + value * n);
    widen(h, value, value);
}

void
histogram_add(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        STORE(to->counts[i], LOAD(to->counts[i]) + LOAD(from->counts[i]));
    STORE(to->count, LOAD(to->count) + LOAD(from->count));
    STORE(to->sum, LOAD(to->sum) + LOAD(from->sum));
    widen(to, LOAD(from->min), LOAD(from->max));
}

void
histogram_difference(struct histogram *to, const struct histogram *now,
                     const struct histogram *before)
{
    uint64_t total = 0;

    histogram_clear(to);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t n = LOAD(now->counts[i]) - LOAD(before->counts[i]);

        if (n == 0)
            continue;
        STORE(to->counts[i], n);
        widen(to, first_of(i), last_of(i));
        total += n;
    }
    STORE(to->count, total);
    STORE(to->sum, LOAD(now->sum) - LOAD(before->sum));
}

uint64_t
histogram_quantile(const struct histogram *h, double q)
{
    uint64_t count = 0, seen = 0, max = LOAD(h->max), want;

    /* The total is counted here: `count` may be ahead of the counters while somebody records. */
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += LOAD(h->counts[i]);
    if (count == 0)
        return 0;
    want = (uint64_t)(q * (double)count);
    if ((double)want < q * (double)count || want == 0)
        want++;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += LOAD(h->counts[i]);
        if (seen >= want)
            return last_of(i) < max ? last_of(i) : max;
    }
    return max;
}

double
histogram_mean(const struct histogram *h)
{
    uint64_t count = LOAD(h->count);

    return count == 0 ? 0 : (double)LOAD(h->sum) / (double)count;
}
