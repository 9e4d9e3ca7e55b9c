#include "fixture.h"

#include "lepus/broker/route_cache.h"

static const struct route *
find(struct fixture *f, struct route_cache *cache, const char *exchange, const char *key,
     const char *headers)
{
    return route_cache_find(cache, f->vhost, NULL, view_str(exchange), view_str(key),
                            with_headers(f, headers), &f->err);
}

static const char *
found(struct fixture *f, struct route_cache *cache, const char *exchange, const char *key)
{
    const struct route *route = find(f, cache, exchange, key, "");

    return route != NULL ? route_text(f, route) : NULL;
}

/* Whether the answer is remembered: two answers afresh are in the same place, as is that for an
 * exchange whose routes depend on headers. */
static bool
is_kept(struct fixture *f, struct route_cache *cache, const char *exchange, const char *key)
{
    const struct route *afresh;

    exchange_as(f, "unkept", "headers", "", "");
    queue_as(f, "unkept", "", "", &(struct queue_found){0});
    assert_true(tie(f, true, BINDING_TO_QUEUE, "unkept", "unkept", "", ""));
    find(f, cache, exchange, key, "");
    afresh = find(f, cache, "unkept", "", "");
    return find(f, cache, exchange, key, "") != afresh;
}

static void
what_changed_is_seen_at_once(void **state)
{
    struct route_cache *cache = route_cache_new();
    struct fixture f;
    uint64_t id;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_string_equal(found(&f, cache, "", "q"), "");
    assert_string_equal(found(&f, cache, "", "q"), "");
    id = queue(&f, "q");
    assert_string_equal(found(&f, cache, "", "q"), "q");
    exchange(&f, "x", "direct");
    assert_string_equal(found(&f, cache, "x", "k"), "");
    bind_queue(&f, "x", "q", "k");
    assert_string_equal(found(&f, cache, "x", "k"), "q");
    assert_string_equal(found(&f, cache, "x", "k"), "q");
    unbind_queue(&f, "x", "q", "k");
    assert_string_equal(found(&f, cache, "x", "k"), "");
    bind_queue(&f, "x", "q", "k");
    assert_string_equal(found(&f, cache, "x", "k"), "q");
    assert_true(topology_queue_remove(f.topology, id));
    assert_string_equal(found(&f, cache, "x", "k"), "");
    assert_string_equal(found(&f, cache, "", "q"), "");
    assert_true(topology_delete_exchange(f.vhost, VIEW_LIT("x"), false, NULL, &f.err));
    assert_refused(found(&f, cache, "x", "k"), 404, "no exchange 'x' in vhost '/'");
    assert_refused(found(&f, cache, "amq.rabbitmq.trace", "k"), 403,
                   "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'");
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

static void
a_hit_is_the_same_route(void **state)
{
    struct route_cache *cache = route_cache_new();
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "a");
    queue(&f, "b");
    bind_queue(&f, "amq.fanout", "a", "");
    bind_queue(&f, "amq.fanout", "b", "");
    assert_true(is_kept(&f, cache, "amq.fanout", "k"));
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(found(&f, cache, "amq.fanout", "k"), "a b");
        assert_string_equal(found(&f, cache, "amq.fanout", "k"), "a b");
        assert_string_equal(found(&f, cache, "", "a"), "a");
        assert_string_equal(found(&f, cache, "", "a"), "a");
        assert_string_equal(found(&f, cache, "", "none"), "");
        assert_string_equal(found(&f, cache, "", "none"), "");
        assert_string_equal(found(&f, cache, "", "b"), "b");
    }
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

static void
exchange_and_key_are_not_run_together(void **state)
{
    struct route_cache *cache = route_cache_new();
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    exchange(&f, "ab", "fanout");
    exchange(&f, "a", "direct");
    bind_queue(&f, "ab", "q", "");
    for (int i = 0; i < 2; i++) {
        assert_string_equal(found(&f, cache, "ab", "c"), "q");
        assert_string_equal(found(&f, cache, "a", "bc"), "");
        assert_string_equal(found(&f, cache, "", "abc"), "");
    }
    bind_queue(&f, "a", "q", "bcd");
    for (int i = 0; i < 3; i++) { /* nor is one key taken for the one before, which begins so */
        assert_string_equal(found(&f, cache, "a", "bcd"), "q");
        assert_string_equal(found(&f, cache, "a", "bcd"), "q");
        assert_string_equal(found(&f, cache, "a", "bc"), "");
        assert_string_equal(found(&f, cache, "a", "bcd"), "q");
        assert_string_equal(found(&f, cache, "a", "bce"), "");
        assert_string_equal(found(&f, cache, "ab", "cd"), "q");
        assert_string_equal(found(&f, cache, "a", "bc"), "");
    }
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

static void
headers_are_looked_at_each_time(void **state)
{
    struct route_cache *cache = route_cache_new();
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    queue(&f, "r");
    exchange(&f, "x", "fanout");
    bind_exchange(&f, "x", "amq.headers", "");
    assert_true(tie(&f, true, BINDING_TO_QUEUE, "amq.headers", "q", "", "h:I=1"));
    assert_true(tie(&f, true, BINDING_TO_QUEUE, "amq.headers", "r", "", "h:I=2"));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(route_text(&f, find(&f, cache, "x", "k", "h:I=1")), "q");
        assert_string_equal(route_text(&f, find(&f, cache, "x", "k", "h:I=2")), "r");
        assert_string_equal(route_text(&f, find(&f, cache, "x", "k", "")), "");
    }
    assert_false(is_kept(&f, cache, "x", "k"));
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

/* More keys than there are entries, of every length, and routes of every size. */
static void
whatever_does_not_fit_is_found_afresh(void **state)
{
    enum { QUEUES = 3000, KEYS = 60000 };
    struct route_cache *cache = route_cache_new();
    struct random random = {3};
    char key[256], name[32];
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof(name), "q%zu", i);
        queue(&f, name);
        bind_queue(&f, "amq.fanout", name, "");
        if (i < 3)
            bind_queue(&f, "amq.topic", name, "#");
    }
    for (size_t i = 0; i < KEYS; i++) {
        size_t n = random_below(&random, 20000);
        int len = snprintf(key, sizeof(key), "%zu", n);
        bool wide = n % 8 == 0;
        const struct route *route;

        memset(key + len, 'k', sizeof(key) - (size_t)len);
        key[(size_t)len + n % (sizeof(key) - 10)] = '\0';
        route = find(&f, cache, wide ? "amq.fanout" : "amq.topic", key, "");
        assert_int_equal(route->count, wide ? QUEUES : 3);
        if (i % 10000 == 9999) {
            route_cache_check(cache);
            queue(&f, key);
        }
    }
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

/* How many of the keys are found without asking the topology. */
static size_t
count_kept(struct fixture *f, struct route_cache *cache, size_t keys)
{
    const struct route *afresh = find(f, cache, "amq.headers", "", "");
    char key[32];
    size_t n = 0;

    for (size_t i = 0; i < keys; i++) {
        const struct route *route;

        snprintf(key, sizeof(key), "key.%zu", i);
        route_cache_expect(cache, f->vhost, NULL, VIEW_LIT("amq.topic"), view_str(key));
        route = find(f, cache, "amq.topic", key, "");
        assert_int_equal(route->count, 1 + i % 2);
        n += route != afresh;
        assert_int_equal(find(f, cache, "amq.topic", key, "")->count, 1 + i % 2);
    }
    return n;
}

/* Going round and round, which is the worst for a cache: all that it has room for is kept, and at
 * first it has not much room. */
static void
many_keys_make_it_grow(void **state)
{
    enum { KEYS = 100000, FEW = 1000 };
    struct route_cache *cache = route_cache_new();
    struct fixture f;
    char key[32];

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    queue(&f, "odd");
    bind_queue(&f, "amq.topic", "q", "key.#");
    bind_queue(&f, "amq.headers", "q", ""); /* whose routes are always found afresh */
    for (size_t i = 1; i < KEYS; i += 2) {
        snprintf(key, sizeof(key), "key.%zu", i);
        bind_queue(&f, "amq.topic", "odd", key);
    }
    for (int i = 0; i < 100; i++)
        count_kept(&f, cache, FEW);
    assert_true(count_kept(&f, cache, FEW) > FEW * 95 / 100);
    assert_false(route_cache_is_wide(cache));
    for (int i = 0; i < 4; i++)
        count_kept(&f, cache, KEYS);
    assert_true(route_cache_is_wide(cache));
    assert_true(count_kept(&f, cache, KEYS) > KEYS * 85 / 100);
    route_cache_check(cache);
    queue(&f, "another");
    count_kept(&f, cache, FEW);
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

static void
a_route_too_large_is_found_afresh(void **state)
{
    enum { QUEUES = 150000 };
    struct route_cache *cache = route_cache_new();
    struct fixture f;
    char name[32];

    (void)state;
    fixture_init(&f, 8, 3);
    for (size_t i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof(name), "q%zu", i);
        queue(&f, name);
        bind_queue(&f, "amq.fanout", name, "");
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(find(&f, cache, "amq.fanout", "", "")->count, QUEUES);
    assert_false(is_kept(&f, cache, "amq.fanout", ""));
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

/* Somebody who may publish to amq.topic only, and how often he was asked about. */
struct asked {
    unsigned times;
    bool is_allowed;
};

static bool
may(void *arg, struct view exchange, struct view routing_key, struct err *err)
{
    struct asked *asked = arg;

    (void)routing_key;
    asked->times++;
    return (asked->is_allowed && view_equal(exchange, VIEW_LIT("amq.topic"))) ||
           err_set(err, ACCESS_REFUSED, "no");
}

static bool
is_found_by(struct fixture *f, struct route_cache *cache, const struct route_permit *permit,
            const char *exchange)
{
    return route_cache_find(cache, f->vhost, permit, view_str(exchange), VIEW_LIT("k"),
                            view_of(NULL, 0), &f->err) != NULL;
}

static void
who_may_is_asked_once_for_each(void **state)
{
    struct asked one = {.is_allowed = true}, other = {.is_allowed = false};
    struct route_permit first = {1, may, &one}, second = {2, may, &other};
    struct route_cache *cache = route_cache_new();
    struct fixture f;

    (void)state;
    fixture_init(&f, 8, 3);
    queue(&f, "q");
    bind_queue(&f, "amq.topic", "q", "k");
    assert_true(is_found_by(&f, cache, NULL, "amq.topic")); /* which nobody may make use of */
    for (int i = 0; i < 3; i++) {
        assert_true(is_found_by(&f, cache, &first, "amq.topic"));
        assert_false(is_found_by(&f, cache, &second, "amq.topic"));
        assert_int_equal(f.err.code, ACCESS_REFUSED);
        assert_false(is_found_by(&f, cache, &first, "amq.direct"));
    }
    assert_int_equal(one.times, 1 + 3);
    assert_int_equal(other.times, 3);

    one.is_allowed = false;
    assert_true(is_found_by(&f, cache, &first, "amq.topic"));
    topology_outdate_routes(f.topology);
    assert_false(is_found_by(&f, cache, &first, "amq.topic"));
    route_cache_check(cache);
    route_cache_free(cache);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changed_is_seen_at_once),
        cmocka_unit_test(a_hit_is_the_same_route),
        cmocka_unit_test(exchange_and_key_are_not_run_together),
        cmocka_unit_test(headers_are_looked_at_each_time),
        cmocka_unit_test(whatever_does_not_fit_is_found_afresh),
        cmocka_unit_test(many_keys_make_it_grow),
        cmocka_unit_test(a_route_too_large_is_found_afresh),
        cmocka_unit_test(who_may_is_asked_once_for_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
