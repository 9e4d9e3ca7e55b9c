/* lepus-perf's histogram against sorted samples. */
#include "unit.h"

#include "../../tools/lepus-perf/histogram.h"

enum { SAMPLES = 20000 };

static const double ERROR = 1.0 / HISTOGRAM_SUB;

static struct histogram *
new_histogram(void)
{
    struct histogram *h = malloc(sizeof(*h));

    assert_non_null(h);
    histogram_clear(h);
    return h;
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Of any magnitude from 1 to 2^40. */
static uint64_t
draw(struct random *random)
{
    return random_u64(random) >> (24 + random_below(random, 40));
}

static void
assert_close(uint64_t have, uint64_t want)
{
    assert_true(have >= want);
    assert_true((double)(have - want) <= (double)want * ERROR);
}

static void
one_value_is_every_quantile_within_the_error(void **state)
{
    struct histogram *h = new_histogram();

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        for (uint64_t near = 0; near < 3; near++) {
            uint64_t value = ((uint64_t)1 << bit) + near - 1;

            histogram_clear(h);
            histogram_record(h, value, 3);
            assert_int_equal(histogram_quantile(h, 0), value);
            assert_int_equal(histogram_quantile(h, 0.5), value);
            assert_int_equal(histogram_quantile(h, 1), value);
            histogram_record(h, UINT64_MAX, 4); /* max cuts no longer */
            assert_close(histogram_quantile(h, 0.3), value);
        }
    free(h);
}

static void
quantiles_are_those_of_the_sorted_samples(void **state)
{
    struct histogram *h = new_histogram();
    uint64_t *samples = malloc(SAMPLES * sizeof(*samples));
    struct random random = {7};

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = draw(&random);
        histogram_record(h, samples[i], 1);
    }
    qsort(samples, SAMPLES, sizeof(*samples), compare);
    for (size_t rank = 1; rank <= SAMPLES; rank++)
        assert_close(histogram_quantile(h, ((double)rank - 0.5) / SAMPLES), samples[rank - 1]);
    assert_int_equal(h->min, samples[0]);
    assert_int_equal(h->max, samples[SAMPLES - 1]);
    free(samples);
    free(h);
}

static void
mean_and_count_are_exact(void **state)
{
    struct histogram *h = new_histogram();

    (void)state;
    histogram_record(h, 1000, 3);
    histogram_record(h, 5000, 1);
    assert_int_equal(h->count, 4);
    assert_true(histogram_mean(h) == 2000.0);
    free(h);
}

static void
sums_and_differences_are_bucket_by_bucket(void **state)
{
    struct histogram *all = new_histogram(), *first = new_histogram(), *second = new_histogram(),
                     *rest = new_histogram();
    struct random random = {8};

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        histogram_record(i % 3 == 0 ? first : second, draw(&random), 1 + i % 2);
    histogram_add(all, first);
    histogram_add(all, second);
    assert_int_equal(all->count, first->count + second->count);
    histogram_difference(rest, all, first);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        assert_int_equal(rest->counts[i], second->counts[i]);
    free(all);
    free(first);
    free(second);
    free(rest);
}

static void
nothing_recorded_is_nothing_told(void **state)
{
    struct histogram *h = new_histogram();

    (void)state;
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    assert_true(histogram_mean(h) == 0.0);
    free(h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_value_is_every_quantile_within_the_error),
        cmocka_unit_test(quantiles_are_those_of_the_sorted_samples),
        cmocka_unit_test(mean_and_count_are_exact),
        cmocka_unit_test(sums_and_differences_are_bucket_by_bucket),
        cmocka_unit_test(nothing_recorded_is_nothing_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
