#include "unit.h"

#include <pthread.h>

#include "lepus/broker/limits.h"

#define VHOST VIEW_LIT("/")
#define USER  VIEW_LIT("guest")

static void
assert_refused(struct limits *limits, struct view vhost, struct view user, const char *text)
{
    struct limits_place place = {0};
    struct err err;

    assert_false(limits_enter(limits, vhost, user, &place, &err));
    assert_int_equal(err.code, NOT_ALLOWED);
    assert_string_equal(err.text, text);
    assert_null(place.vhost);
    limits_leave(limits, &place); /* nothing to give back */
}

static void
the_first_limit_that_is_reached_is_told(void **state)
{
    struct limits *limits = limits_new();
    struct limits_place place, other;
    struct err err;

    (void)state;
    limits_set_vhost(limits, VHOST, 1, -1);
    limits_set_user(limits, USER, 1, -1);
    assert_true(limits_enter(limits, VHOST, USER, &place, &err));
    assert_refused(limits, VHOST, USER,
                   "access to vhost '/' refused for user 'guest': connection limit (1) is reached");
    assert_refused(limits, VIEW_LIT("other"), USER,
                   "connection refused for user 'guest': user connection limit (1) is reached");
    assert_true(limits_enter(limits, VIEW_LIT("other"), VIEW_LIT("anna"), &other, &err));
    atomic_store(&limits_settings(limits)->connections, 2);
    assert_refused(limits, VHOST, USER, "connection refused: node connection limit (2) is reached");
    limits_leave(limits, &other);
    limits_leave(limits, &other); /* it has no place any more */
    limits_leave(limits, &place);
    assert_true(limits_enter(limits, VHOST, USER, &place, &err));
    limits_leave(limits, &place);
    limits_free(limits);
}

static void
none_at_all_and_no_limit_are_two_things(void **state)
{
    struct limits *limits = limits_new();
    struct limits_place place;
    struct err err;

    (void)state;
    limits_set_vhost(limits, VHOST, 0, 0);
    assert_refused(limits, VHOST, USER,
                   "access to vhost '/' refused for user 'guest': connection limit (0) is reached");
    assert_int_equal(limits_queues(limits, VHOST), 0);
    limits_set_vhost(limits, VHOST, -1, -1);
    assert_int_equal(limits_queues(limits, VHOST), -1);
    assert_true(limits_enter(limits, VHOST, USER, &place, &err));
    limits_leave(limits, &place);
    limits_free(limits);
}

static void
the_lower_limit_of_queues_counts(void **state)
{
    struct limits *limits = limits_new();

    (void)state;
    assert_int_equal(limits_queues(limits, VHOST), -1);
    atomic_store(&limits_settings(limits)->queues_per_vhost, 5);
    assert_int_equal(limits_queues(limits, VHOST), 5);
    limits_set_vhost(limits, VHOST, -1, 3);
    assert_int_equal(limits_queues(limits, VHOST), 3);
    limits_set_vhost(limits, VHOST, -1, 8);
    assert_int_equal(limits_queues(limits, VHOST), 5);
    limits_free(limits);
}

/* A channel that one limit refuses is not counted by the other. */
static void
channels_are_counted_once_or_not_at_all(void **state)
{
    struct limits *limits = limits_new();
    struct limits_place place;
    struct err err;

    (void)state;
    assert_true(limits_enter(limits, VHOST, USER, &place, &err));
    limits_set_user(limits, USER, -1, 2);
    atomic_store(&limits_settings(limits)->channels, 1);
    assert_true(limits_open_channel(limits, &place, &err));
    for (int i = 0; i < 5; i++)
        assert_false(limits_open_channel(limits, &place, &err));
    atomic_store(&limits_settings(limits)->channels, 0);
    assert_true(limits_open_channel(limits, &place, &err));
    for (int i = 0; i < 5; i++)
        assert_false(limits_open_channel(limits, &place, &err));
    assert_string_equal(err.text, "number of channels opened for user 'guest' has reached the "
                                  "maximum allowed user limit of (2)");
    limits_close_channel(limits, &place);
    assert_true(limits_open_channel(limits, &place, &err));
    limits_leave(limits, &place);
    limits_free(limits);
}

enum { THREADS = 4, TURNS = 20000, MOST = 3 };

struct crowd {
    struct limits *limits;
    atomic_int inside, most;
    atomic_uint entered;
};

static void *
come_and_go(void *arg)
{
    struct crowd *crowd = arg;
    struct limits_place place;
    struct err err;

    for (int i = 0; i < TURNS; i++) {
        int inside;

        if (!limits_enter(crowd->limits, VHOST, USER, &place, &err))
            continue;
        atomic_fetch_add(&crowd->entered, 1);
        inside = atomic_fetch_add(&crowd->inside, 1) + 1;
        for (int most = crowd->most; inside > most;)
            if (atomic_compare_exchange_weak(&crowd->most, &most, inside))
                break;
        atomic_fetch_sub(&crowd->inside, 1);
        limits_leave(crowd->limits, &place);
    }
    return NULL;
}

static void
never_more_are_inside_than_may_be(void **state)
{
    struct crowd crowd = {.limits = limits_new()};
    pthread_t threads[THREADS];
    struct limits_place places[MOST];
    struct err err;

    (void)state;
    limits_set_vhost(crowd.limits, VHOST, MOST, -1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(crowd.entered > 0 && crowd.most <= MOST);
    for (int i = 0; i < MOST; i++)
        assert_true(limits_enter(crowd.limits, VHOST, USER, &places[i], &err));
    assert_refused(crowd.limits, VHOST, USER,
                   "access to vhost '/' refused for user 'guest': connection limit (3) is reached");
    for (int i = 0; i < MOST; i++)
        limits_leave(crowd.limits, &places[i]);
    limits_free(crowd.limits);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_limit_that_is_reached_is_told),
        cmocka_unit_test(none_at_all_and_no_limit_are_two_things),
        cmocka_unit_test(the_lower_limit_of_queues_counts),
        cmocka_unit_test(channels_are_counted_once_or_not_at_all),
        cmocka_unit_test(never_more_are_inside_than_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
