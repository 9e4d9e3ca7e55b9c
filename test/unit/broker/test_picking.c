/* Exchanges that pick one of their destinations: x-consistent-hash, x-modulus-hash, x-random. */
#include "fixture.h"

#include "lepus/broker/route_cache.h"

enum { QUEUES = 8, KEYS = 20000 };

static void
queues(struct fixture *f, const char *exchange, const char *key)
{
    for (int i = 0; i < QUEUES; i++) {
        char name[8];

        snprintf(name, sizeof(name), "q%d", i);
        queue(f, name);
        if (exchange != NULL)
            bind_queue(f, exchange, name, key);
    }
}

/* The number of the one queue it goes to. */
static int
picked(struct fixture *f, const char *exchange, const char *key)
{
    const char *text = routed(f, exchange, key);

    assert_int_equal(f->route.count, 1);
    assert_int_equal(text[0], 'q');
    return text[1] - '0';
}

static int
picked_number(struct fixture *f, const char *exchange, int number)
{
    char key[16];

    snprintf(key, sizeof(key), "key-%d", number);
    return picked(f, exchange, key);
}

static int
picked_by(struct fixture *f, const char *exchange, const char *headers)
{
    const char *text = routed_with(f, exchange, "any", NULL, 0, headers);

    assert_int_equal(f->route.count, 1);
    assert_true(f->route.is_for_one);
    return text[1] - '0';
}

static void
assert_about(size_t n, size_t wanted)
{
    if (n < wanted - wanted / 10 || n > wanted + wanted / 10)
        fail_msg("%zu where about %zu were expected", n, wanted);
}

static void
shares_are_as_the_weights(void **state)
{
    static const size_t weights[] = {1, 1, 2, 4};
    size_t counts[4] = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "h", "x-consistent-hash");
    assert_string_equal(routed(&f, "h", "k"), ""); /* nothing is bound */
    queues(&f, NULL, NULL);
    for (size_t i = 0; i < COUNT_OF(weights); i++) {
        char name[8], weight[8];

        snprintf(name, sizeof(name), "q%zu", i);
        snprintf(weight, sizeof(weight), "%zu", weights[i]);
        bind_queue(&f, "h", name, weight);
    }
    for (int i = 0; i < KEYS; i++) {
        int at = picked_number(&f, "h", i);

        assert_int_equal(picked_number(&f, "h", i), at);
        assert_false(f.route.is_for_one);
        counts[at]++;
    }
    for (size_t i = 0; i < COUNT_OF(weights); i++)
        assert_about(counts[i], KEYS * weights[i] / 8);
    fixture_fini(&f);
}

static void
a_new_destination_takes_its_share_and_nothing_else_moves(void **state)
{
    static uint8_t before[KEYS];
    size_t moved = 0, from[QUEUES] = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "h", "x-consistent-hash");
    queues(&f, "h", "10");
    unbind_queue(&f, "h", "q3", "10");
    for (int i = 0; i < KEYS; i++)
        before[i] = (uint8_t)picked_number(&f, "h", i);
    bind_queue(&f, "h", "q3", "30"); /* 30 of 100 */
    for (int i = 0; i < KEYS; i++) {
        int now = picked_number(&f, "h", i);

        if (now == before[i])
            continue;
        assert_int_equal(now, 3);
        from[before[i]]++;
        moved++;
    }
    assert_about(moved, KEYS * 3 / 10);
    for (size_t i = 0; i < QUEUES; i++)
        if (i != 3)
            assert_true(from[i] > moved / 14 && from[i] < moved / 3);
    unbind_queue(&f, "h", "q3", "30"); /* and everything is where it was */
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(picked_number(&f, "h", i), before[i]);
    fixture_fini(&f);
}

static void
choices_are_the_same_in_every_life_and_order(void **state)
{
    struct fixture f, g;

    (void)state;
    fixture_init(&f, 4, 2);
    fixture_init(&g, 8, 4);
    for (int i = 0; i < QUEUES; i++) {
        char name[8];

        snprintf(name, sizeof(name), "q%d", QUEUES - 1 - i);
        queue(&g, name);
    }
    queues(&f, NULL, NULL);
    for (int t = 0; t < 2; t++) {
        static const char *const types[] = {"x-consistent-hash", "x-modulus-hash"};

        exchange(&f, types[t], types[t]);
        exchange(&g, types[t], types[t]);
        for (int i = 0; i < QUEUES; i++) {
            char name[8];

            snprintf(name, sizeof(name), "q%d", i);
            bind_queue(&f, types[t], name, i % 2 ? "1" : "3");
            snprintf(name, sizeof(name), "q%d", QUEUES - 1 - i);
            bind_queue(&g, types[t], name, i % 2 ? "3" : "1");
        }
        for (int i = 0; i < 1000; i++)
            assert_int_equal(picked_number(&f, types[t], i), picked_number(&g, types[t], i));
    }
    assert_int_equal(picked(&f, "x-consistent-hash", "key"), 3); /* what was once, is for ever */
    assert_int_equal(picked(&f, "x-modulus-hash", "key"), 0);
    fixture_fini(&f);
    fixture_fini(&g);
}

static void
what_cannot_be_a_weight_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "h", "x-consistent-hash");
    queue(&f, "q");
#define BIND(key) tie(&f, true, BINDING_TO_QUEUE, "h", "q", key, "")
    assert_refused(BIND(""), 406, "The binding key must be an integer: <<\"\">>");
    assert_refused(BIND("a"), 406, "The binding key must be an integer: <<\"a\">>");
    assert_refused(BIND("1.5"), 406, "The binding key must be an integer: <<\"1.5\">>");
    assert_refused(BIND("-"), 406, "The binding key must be an integer: <<\"-\">>");
    assert_refused(BIND("99999999999999999999999999999x"), 406,
                   "The binding key must be an integer: <<\"99999999999999999999999999999x\">>");
    assert_refused(BIND("0"), 406, "The binding key must be greater than 0");
    assert_refused(BIND("-1"), 406, "The binding key must be greater than 0");
    assert_refused(BIND("18446744073709551617"), 406,
                   "The binding key must not be greater than 4294967295");
    assert_true(BIND("4294967295"));
    assert_true(BIND("+7"));
#undef BIND
    assert_refused(exchange_as(&f, "a", "x-consistent-hash", "", "hash-property:S=app_id"), 406,
                   "Unsupported property: app_id");
    assert_refused(exchange_as(&f, "a", "x-consistent-hash", "", "hash-property:I=1"), 406,
                   "hash-property must be a string, not signedint");
    assert_refused(
        exchange_as(&f, "a", "x-consistent-hash", "", "hash-property:S=message_id hash-header:S=h"),
        406, "hash-header and hash-property are mutually exclusive");
    assert_false(has_exchange(&f, "a"));
    fixture_fini(&f);
}

static void
two_bindings_to_a_destination_are_one(void **state)
{
    size_t counts[QUEUES] = {0}, later[QUEUES] = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "h", "x-consistent-hash");
    queues(&f, NULL, NULL);
    bind_queue(&f, "h", "q0", "1");
    bind_queue(&f, "h", "q1", "1");
    bind_queue(&f, "h", "q1", "100");
    for (int i = 0; i < 2000; i++)
        counts[picked_number(&f, "h", i)]++;
    assert_about(counts[1], 1000);
    unbind_queue(&f, "h", "q1", "1"); /* the other one counts from now on */
    topology_check(f.topology);
    for (int i = 0; i < 2000; i++)
        later[picked_number(&f, "h", i)]++;
    assert_true(later[1] > 1900);
    fixture_fini(&f);
}

static void
headers_and_properties_choose(void **state)
{
    size_t counts[QUEUES] = {0};
    struct fixture f;
    int none;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_true(exchange_as(&f, "h", "x-consistent-hash", "", "hash-header:S=h"));
    assert_true(exchange_as(&f, "p", "x-consistent-hash", "", "hash-property:S=correlation_id"));
    queues(&f, "h", "1");
    none = picked_by(&f, "h", "");
    assert_int_equal(picked_by(&f, "h", "other:S=x"), none);
    assert_int_equal(picked_by(&f, "h", "h:S="), none);
    for (int i = 0; i < 8000; i++) {
        char headers[64];
        int at;

        snprintf(headers, sizeof(headers), "other:I=%d h:I=%d", i, i);
        counts[at = picked_by(&f, "h", headers)]++;
        snprintf(headers, sizeof(headers), "h:l=%d", i);
        assert_int_equal(picked_by(&f, "h", headers), at); /* whatever the width */
    }
    for (size_t i = 0; i < QUEUES; i++)
        assert_true(counts[i] > 800 && counts[i] < 1200);

    bind_queue(&f, "p", "q0", "1");
    bind_queue(&f, "p", "q1", "1");
    memset(counts, 0, sizeof(counts));
    for (int i = 0; i < 2000; i++) {
        char id[32];
        struct view value = view_of(id, (size_t)snprintf(id, sizeof(id), "id-%d", i));

        buf_clear(&f.properties);
        props_copy_with(&f.properties, VIEW_LIT("\0\0"), PROP_correlation_id, &value);
        assert_true(topology_route(f.vhost, VIEW_LIT("p"), VIEW_LIT("same"), NULL, 0,
                                   buf_view(&f.properties), &f.route, &f.err));
        assert_true(f.route.is_for_one);
        counts[route_text(&f, &f.route)[1] - '0']++;
    }
    assert_about(counts[0], 1000);
    fixture_fini(&f);
}

static void
several_keys_are_one_message(void **state)
{
    static const char *const types[] = {"x-consistent-hash", "x-modulus-hash", "x-random"};
    struct view more[] = {VIEW_LIT("b"), VIEW_LIT("c"), VIEW_LIT("d")};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queues(&f, NULL, NULL);
    exchange(&f, "inner", "fanout");
    bind_queue(&f, "inner", "q7", "");
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        exchange(&f, types[t], types[t]);
        for (int i = 0; i < 4; i++) {
            char name[8];

            snprintf(name, sizeof(name), "q%d", i);
            bind_queue(&f, types[t], name, "1");
        }
        for (int i = 0; i < 100; i++) {
            routed_with(&f, types[t], "a", more, COUNT_OF(more), "");
            assert_int_equal(f.route.count, 1);
        }
        for (int i = 0; i < 4; i++) {
            char name[8];

            snprintf(name, sizeof(name), "q%d", i);
            unbind_queue(&f, types[t], name, "1");
        }
        assert_string_equal(routed(&f, types[t], "a"), "");
        bind_exchange(&f, types[t], "inner", "1");
        assert_string_equal(routed(&f, types[t], "a"), "q7");
    }
    fixture_fini(&f);
}

static void
modulus_moves_with_the_number_and_random_each_time(void **state)
{
    size_t counts[QUEUES] = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "m", "x-modulus-hash");
    exchange(&f, "r", "x-random");
    queues(&f, "m", "any");
    for (int i = 0; i < KEYS; i++)
        counts[picked_number(&f, "m", i)]++;
    assert_false(f.route.is_for_one);
    for (int i = 0; i < QUEUES; i++)
        assert_about(counts[i], KEYS / QUEUES);
    memset(counts, 0, sizeof(counts));
    bind_queue(&f, "r", "q0", "");
    bind_queue(&f, "r", "q1", "");
    bind_queue(&f, "r", "q1", "again");
    for (int i = 0; i < KEYS; i++) {
        counts[picked(&f, "r", "same")]++;
        assert_true(f.route.is_for_one);
    }
    assert_about(counts[0], KEYS / 2);
    fixture_fini(&f);
}

/* Through the cache, by whatever way the exchange is reached. */
static void
the_cache_keeps_only_what_holds(void **state)
{
    struct route_cache *cache = route_cache_new();
    size_t counts[2] = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "f", "fanout");
    exchange(&f, "r", "x-random");
    bind_exchange(&f, "f", "r", "");
    queue(&f, "q0");
    queue(&f, "q1");
    bind_queue(&f, "r", "q0", "");
    bind_queue(&f, "r", "q1", "");
    for (int i = 0; i < 2000; i++) {
        const struct route *route = route_cache_find(cache, f.vhost, NULL, VIEW_LIT("f"),
                                                     VIEW_LIT("k"), VIEW_LIT("\0\0"), &f.err);

        assert_int_equal(route->count, 1);
        counts[route_text(&f, route)[1] - '0']++;
    }
    assert_about(counts[0], 1000);
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_as_the_weights),
        cmocka_unit_test(a_new_destination_takes_its_share_and_nothing_else_moves),
        cmocka_unit_test(choices_are_the_same_in_every_life_and_order),
        cmocka_unit_test(what_cannot_be_a_weight_is_refused),
        cmocka_unit_test(two_bindings_to_a_destination_are_one),
        cmocka_unit_test(headers_and_properties_choose),
        cmocka_unit_test(several_keys_are_one_message),
        cmocka_unit_test(modulus_moves_with_the_number_and_random_each_time),
        cmocka_unit_test(the_cache_keeps_only_what_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
