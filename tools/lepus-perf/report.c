#include "report.h"

#include <inttypes.h>
#include <sys/resource.h>

#include "lepus/base/mem.h"

struct quantile {
    const char *name;
    double q;
};

static const struct quantile quantiles[] = {{"p50", 0.5},      {"p75", 0.75}, {"p90", 0.9},
                                            {"p95", 0.95},     {"p99", 0.99}, {"p99.9", 0.999},
                                            {"p99.99", 0.9999}};

enum { QUANTILES = sizeof(quantiles) / sizeof(quantiles[0]) };

struct figures *
figures_new(void)
{
    return mem_new(struct figures);
}

static uint64_t
cpu_ns(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static bool
is_moment(uint64_t a, uint64_t b)
{
    return a > b;
}

void
figures_read(struct figures *to, const struct crew *crew)
{
    memset(to, 0, sizeof(*to));
    histogram_clear(&to->latency);
    histogram_clear(&to->confirm_latency);
    to->at_ns = crew_now_ns(crew);
    to->cpu_ns = cpu_ns();
    for (uint64_t i = 0; i < crew->options->threads; i++) {
        const struct loop *loop = crew->loops[i];
        uint64_t publish_ns = to->last_publish_ns, consume_ns = to->last_consume_ns;

#define T(name) to->name += TALLY_GET(&loop->tally, name);
        TALLIES(T)
#undef T
        /* Of moments the latest counts, not the sum. */
        to->last_publish_ns = TALLY_GET(&loop->tally, last_publish_ns);
        to->last_consume_ns = TALLY_GET(&loop->tally, last_consume_ns);
        if (is_moment(publish_ns, to->last_publish_ns))
            to->last_publish_ns = publish_ns;
        if (is_moment(consume_ns, to->last_consume_ns))
            to->last_consume_ns = consume_ns;
        histogram_add(&to->latency, &loop->latency);
        histogram_add(&to->confirm_latency, &loop->confirm_latency);
    }
}

/* Progress */

static void
print_quantiles(const char *what, const struct histogram *now, const struct histogram *before)
{
    struct histogram *h = mem_new(struct histogram);

    histogram_difference(h, now, before);
    if (h->count > 0)
        fprintf(stderr, ", %s p50 %.0f p99 %.0f max %.0f us", what,
                (double)histogram_quantile(h, 0.5) / 1e3, (double)histogram_quantile(h, 0.99) / 1e3,
                (double)h->max / 1e3);
    free(h);
}

void
report_progress(const struct options *o, double seconds, const struct figures *before,
                const struct figures *now)
{
    double s = (double)(now->at_ns - before->at_ns) / 1e9;

    fprintf(stderr, "%6.1f s:", seconds);
    if (o->churn > 0)
        fprintf(stderr, " %.0f lives/s", (double)(now->cycles - before->cycles) / s);
    if (o->producers > 0 && o->churn == 0)
        fprintf(stderr, " published %.0f/s", (double)(now->published - before->published) / s);
    if (o->confirm > 0)
        fprintf(stderr, ", confirmed %.0f/s", (double)(now->confirmed - before->confirmed) / s);
    if (now->nacked > before->nacked)
        fprintf(stderr, ", nacked %.0f/s", (double)(now->nacked - before->nacked) / s);
    if (now->returned > before->returned)
        fprintf(stderr, ", returned %.0f/s", (double)(now->returned - before->returned) / s);
    if (o->consumers > 0 && o->churn == 0)
        fprintf(stderr, "%s consumed %.0f/s", o->producers > 0 ? "," : "",
                (double)(now->consumed - before->consumed) / s);
    if (now->blocked > before->blocked)
        fprintf(stderr, ", blocked by the broker");
    print_quantiles("latency", &now->latency, &before->latency);
    print_quantiles("confirms", &now->confirm_latency, &before->confirm_latency);
    fputc('\n', stderr);
}

/* Summary */

struct summary {
    uint64_t published, confirmed, nacked, returned, consumed, redelivered, blocked, cycles;
    uint64_t all_published, all_consumed, all_cycles; /* with the warm-up */
    double seconds, publish_s, consume_s; /* each side's own time, when it ended by its count */
    double published_mib, consumed_mib, cpu_s;
    struct histogram latency, confirm_latency;
};

static double
seconds_to(uint64_t end_ns, const struct figures *begin)
{
    return end_ns > begin->at_ns ? (double)(end_ns - begin->at_ns) / 1e9 : 1e-9;
}

/* Without a warm-up nothing was recorded before: the extremes are then exact. */
static void
difference(struct histogram *to, const struct histogram *now, const struct histogram *before)
{
    histogram_difference(to, now, before);
    if (before->count == 0) {
        to->min = now->min;
        to->max = now->max;
    }
}

static void
summarize(struct summary *to, const struct options *o, const struct figures *begin,
          const struct figures *end)
{
    to->published = end->published - begin->published;
    to->confirmed = end->confirmed - begin->confirmed;
    to->nacked = end->nacked - begin->nacked;
    to->returned = end->returned - begin->returned;
    to->consumed = end->consumed - begin->consumed;
    to->redelivered = end->redelivered - begin->redelivered;
    to->blocked = end->blocked; /* before the start, too */
    to->cycles = end->cycles - begin->cycles;
    to->all_published = end->published;
    to->all_consumed = end->consumed;
    to->all_cycles = end->cycles;
    to->seconds = seconds_to(end->at_ns, begin);
    to->publish_s =
        end->published == o->publish ? seconds_to(end->last_publish_ns, begin) : to->seconds;
    to->consume_s =
        end->consumed == o->consume ? seconds_to(end->last_consume_ns, begin) : to->seconds;
    to->published_mib = (double)(end->published_bytes - begin->published_bytes) / 1048576;
    to->consumed_mib = (double)(end->consumed_bytes - begin->consumed_bytes) / 1048576;
    to->cpu_s = (double)(end->cpu_ns - begin->cpu_ns) / 1e9;
    difference(&to->latency, &end->latency, &begin->latency);
    difference(&to->confirm_latency, &end->confirm_latency, &begin->confirm_latency);
}

static void
print_latency(const char *what, const struct histogram *h)
{
    if (h->count == 0)
        return;
    printf("%-10s", what);
    for (unsigned i = 0; i < QUANTILES; i++)
        printf(" %s %.1f", quantiles[i].name, (double)histogram_quantile(h, quantiles[i].q) / 1e3);
    printf(" max %.1f mean %.1f us\n", (double)h->max / 1e3, histogram_mean(h) / 1e3);
}

static void
print_side(const char *what, uint64_t n, double seconds, double mib)
{
    printf("%-10s %" PRIu64 " in %.3f s: %.0f/s, %.1f MiB/s of bodies\n", what, n, seconds,
           (double)n / seconds, mib / seconds);
}

static void
print_text(const struct options *o, const struct summary *s)
{
    if (o->churn > 0)
        printf("%-10s %" PRIu64 " in %.3f s: %.0f/s\n", "lives", s->cycles, s->seconds,
               (double)s->cycles / s->seconds);
    else {
        if (o->producers > 0)
            print_side("published", s->published, s->publish_s, s->published_mib);
        if (o->consumers > 0)
            print_side("consumed", s->consumed, s->consume_s, s->consumed_mib);
    }
    if (o->confirm > 0)
        printf("%-10s %" PRIu64 ", %" PRIu64 " nacked\n", "confirmed", s->confirmed, s->nacked);
    if (s->returned > 0)
        printf("%-10s %" PRIu64 "\n", "returned", s->returned);
    if (s->redelivered > 0)
        printf("%-10s %" PRIu64 "\n", "redelivered", s->redelivered);
    if (s->blocked > 0)
        printf("%-10s %" PRIu64 " times by the broker\n", "blocked", s->blocked);
    print_latency("latency", &s->latency);
    print_latency("confirms", &s->confirm_latency);
    printf("%-10s %.2f s of CPU, %.0f %% of a core\n", "lepus-perf", s->cpu_s,
           100 * s->cpu_s / s->seconds);
}

static void
print_json_latency(const char *name, const struct histogram *h)
{
    printf(",\n  \"%s\": ", name);
    if (h->count == 0) {
        printf("null");
        return;
    }
    printf("{\"count\": %" PRIu64 ", \"min\": %.3f, \"mean\": %.3f", (uint64_t)h->count,
           (double)h->min / 1e3, histogram_mean(h) / 1e3);
    for (unsigned i = 0; i < QUANTILES; i++)
        printf(", \"%s\": %.3f", quantiles[i].name,
               (double)histogram_quantile(h, quantiles[i].q) / 1e3);
    printf(", \"max\": %.3f}", (double)h->max / 1e3);
}

static void
print_json_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < ' ')
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

static void
print_json(const struct summary *s, const char *failure)
{
    printf("{\n  \"seconds\": %.6f", s->seconds);
    printf(",\n  \"published\": %" PRIu64 ", \"publish_rate\": %.3f, \"publish_mib_rate\": %.3f",
           s->published, (double)s->published / s->publish_s, s->published_mib / s->publish_s);
    printf(",\n  \"consumed\": %" PRIu64 ", \"consume_rate\": %.3f, \"consume_mib_rate\": %.3f",
           s->consumed, (double)s->consumed / s->consume_s, s->consumed_mib / s->consume_s);
    printf(",\n  \"confirmed\": %" PRIu64 ", \"nacked\": %" PRIu64 ", \"returned\": %" PRIu64,
           s->confirmed, s->nacked, s->returned);
    printf(",\n  \"redelivered\": %" PRIu64 ", \"blocked\": %" PRIu64, s->redelivered, s->blocked);
    printf(",\n  \"lives\": %" PRIu64 ", \"life_rate\": %.3f", s->cycles,
           (double)s->cycles / s->seconds);
    printf(",\n  \"with_warmup\": {\"published\": %" PRIu64 ", \"consumed\": %" PRIu64
           ", \"lives\": %" PRIu64 "}",
           s->all_published, s->all_consumed, s->all_cycles);
    print_json_latency("latency_us", &s->latency);
    print_json_latency("confirm_latency_us", &s->confirm_latency);
    printf(",\n  \"cpu_seconds\": %.3f", s->cpu_s);
    printf(",\n  \"error\": ");
    if (failure == NULL)
        printf("null");
    else
        print_json_text(failure);
    printf("\n}\n");
}

void
report_summary(const struct options *o, const struct figures *begin, const struct figures *end,
               const char *failure)
{
    struct summary *s = mem_new(struct summary);

    summarize(s, o, begin, end);
    if (o->json)
        print_json(s, failure);
    else
        print_text(o, s);
    fflush(stdout);
    free(s);
}
