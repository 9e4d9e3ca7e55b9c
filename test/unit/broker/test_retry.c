/* Retries: what a schedule's text means, what is wrong with one that means nothing, and waits. */
#include "unit.h"

#include "lepus/broker/retry.h"

static void
a_schedule_says_each_wait(void **state)
{
    static const struct {
        const char *text;
        uint64_t n_retries, waits_ms[8];
    } cases[] = {
        {"1s", 1, {1000, 1000}},
        {"1ms,20s,3m,4h,5d", 5, {1, 20000, 180000, 14400000, 432000000, 432000000}},
        {"1s,10s,1m,10m*5", 8, {1000, 10000, 60000, 600000, 600000, 600000, 600000, 600000}},
        {"5ms*2,7ms*1000000;jitter=0%", 1000002, {5, 5, 7, 7}},
        {"3650d", 1, {UINT64_C(315360000000)}},
    };
    char why[RETRY_WHY_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct retry_rule rule;

        assert_true(retry_parse(view_str(cases[i].text), &rule, why));
        assert_true(rule.failed && rule.returned);
        assert_int_equal(rule.n_retries, cases[i].n_retries);
        for (size_t n = 0; n < 8 && cases[i].waits_ms[n] != 0; n++)
            assert_int_equal(retry_delay_ms(&rule, n + 1, 12345), cases[i].waits_ms[n]);
        retry_fini(&rule);
        assert_true(retry_is_none(&rule));
    }
}

static void
what_is_no_schedule_is_told_with_its_place(void **state)
{
    static const char *const cases[][2] = {
        {"", "a number is expected, up to ten years at character 1"},
        {"1", "a unit is expected (ms, s, m, h, d) at character 2"},
        {"1x", "a unit is expected (ms, s, m, h, d), not 'x', at character 2"},
        {"s", "a number is expected, up to ten years, not 's', at character 1"},
        {"0s", "a wait is 1 ms to ten years, not '0', at character 1"},
        {"3651d", "a wait is 1 ms to ten years, not '3', at character 1"},
        {"99999999999999999999s", "a number is expected, up to ten years, not '9', at character 1"},
        {"1s,", "a number is expected, up to ten years at character 4"},
        {"1s, 2s", "a number is expected, up to ten years at character 4"},
        {"1s*0", "1 to 1000000 times are expected, not '0', at character 4"},
        {"1s*1000001", "1 to 1000000 times are expected, not '1', at character 4"},
        {"1s*", "1 to 1000000 times are expected at character 4"},
        {"1s 2s", "',', '*', ';' or the end is expected at character 3"},
        {"1sec", "',', '*', ';' or the end is expected, not 'e', at character 3"},
        {"1s;", "'jitter=' is expected at character 4"},
        {"1s;jitter=101%", "0 to 100 is expected, not '1', at character 11"},
        {"1s;jitter=5", "'%' is expected at character 12"},
        {"1s;jitter=5%;", "',', '*', ';' or the end is expected, not ';', at character 13"},
        {"-1s", "a number is expected, up to ten years, not '-', at character 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct retry_rule rule = {.n_retries = 77};
        char why[RETRY_WHY_MAX];

        assert_false(retry_parse(view_str(cases[i][0]), &rule, why));
        assert_string_equal(why, cases[i][1]);
        assert_int_equal(rule.n_retries, 77);
    }
}

static void
a_schedule_has_at_most_64_steps(void **state)
{
    char text[3 * (RETRY_STEPS_MAX + 1)], why[RETRY_WHY_MAX];
    struct retry_rule rule;

    (void)state;
    for (size_t i = 0; i <= RETRY_STEPS_MAX; i++)
        memcpy(text + 3 * i, "1s,", 3);
    assert_true(retry_parse(view_of(text, 3 * RETRY_STEPS_MAX - 1), &rule, why));
    retry_fini(&rule);
    assert_false(retry_parse(view_of(text, sizeof(text) - 1), &rule, why));
    assert_string_equal(why, "more than 64 steps: an end is expected, not '1', at character 193");
}

static void
jitter_spreads_a_wait_both_ways(void **state)
{
    uint64_t least = UINT64_MAX, most = 0;
    struct retry_rule rule;
    char why[RETRY_WHY_MAX];

    (void)state;
    assert_true(retry_parse(VIEW_LIT("10s;jitter=20%"), &rule, why));
    for (uint64_t random = 0; random < 100000; random += 7) {
        uint64_t ms = retry_delay_ms(&rule, 1, random);

        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 8000, 8010);
    assert_in_range(most, 11990, 12000);
    retry_fini(&rule);
    assert_true(retry_parse(VIEW_LIT("3ms;jitter=100%"), &rule, why));
    assert_int_equal(retry_delay_ms(&rule, 1, 0), 0);
    assert_int_equal(retry_delay_ms(&rule, 1, 6), 6);
    retry_fini(&rule);
}

static void
linear_waits_grow_up_to_an_end(void **state)
{
    struct retry_rule rule;

    (void)state;
    assert_true(retry_of_type(VIEW_LIT("failed"), &rule));
    assert_true(rule.failed && !rule.returned);
    assert_int_equal(retry_delay_ms(&rule, 3, 1), 3000);
    assert_true(retry_of_type(VIEW_LIT("returned"), &rule));
    assert_true(!rule.failed && rule.returned);
    assert_true(retry_of_type(VIEW_LIT("all"), &rule));
    assert_true(rule.failed && rule.returned);
    rule.min_ms = 100;
    rule.max_ms = 250;
    for (uint64_t n = 1; n < 5; n++)
        assert_int_equal(retry_delay_ms(&rule, n, 9), n < 3 ? n * 100 : 250);
    rule.min_ms = rule.max_ms = INT64_MAX;
    assert_int_equal(retry_delay_ms(&rule, UINT64_MAX, 9), UINT64_C(315360000000));
    assert_true(retry_of_type(VIEW_LIT("disabled"), &rule));
    assert_true(retry_is_none(&rule));
    assert_false(retry_of_type(VIEW_LIT("All"), &rule));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_schedule_says_each_wait),
        cmocka_unit_test(what_is_no_schedule_is_told_with_its_place),
        cmocka_unit_test(a_schedule_has_at_most_64_steps),
        cmocka_unit_test(jitter_spreads_a_wait_both_ways),
        cmocka_unit_test(linear_waits_grow_up_to_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
