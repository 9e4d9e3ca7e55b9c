/* Keys of messages that came before, and the headers that dedup.h and delay.h read. */
#include "fixture.h"

#include "lepus/broker/dedup.h"
#include "lepus/broker/delay.h"

static bool
key_of(struct fixture *f, const char *headers, struct dedup_key *out)
{
    return dedup_key_of(with_headers(f, headers), out);
}

static bool
are_alike(struct fixture *f, const char *one, const char *other)
{
    struct dedup_key a, b;

    assert_true(key_of(f, one, &a) && key_of(f, other, &b));
    return a.a == b.a && a.b == b.b;
}

#define H "x-deduplication-header:"

static void
keys_are_by_value(void **state)
{
    struct dedup_key key;
    struct fixture f;

    (void)state;
    fixture_init(&f, 1, 1);
    assert_false(key_of(&f, "", &key));
    assert_false(key_of(&f, "other:S=a", &key));
    assert_false(key_of(&f, H "V other:I=1", &key));
    assert_false(dedup_key_of(view_of(NULL, 0), &key));
    assert_true(key_of(&f, H "S=", &key));
    assert_true(key.a != 0);
    assert_true(are_alike(&f, H "S=a", "n:I=1 " H "S=a"));
    assert_true(are_alike(&f, H "S=a", H "x=a"));
    assert_true(are_alike(&f, H "I=-5", H "l=-5"));
    assert_true(are_alike(&f, H "b=5", H "i=5"));
    assert_false(are_alike(&f, H "S=a", H "S=b"));
    assert_false(are_alike(&f, H "S=5", H "I=5"));
    assert_false(are_alike(&f, H "t=1", H "I=1"));
    fixture_fini(&f);
}

static void
settings_are_as_declared(void **state)
{
    struct dedup_settings s;
    struct fixture f;

    (void)state;
    fixture_init(&f, 1, 1);
#define QUEUE(text) dedup_settings_of_queue(table_of(&f.arguments, text))
    assert_int_equal(QUEUE("").size, 0);
    assert_int_equal(QUEUE("x-message-deduplication:t=0 x-cache-size:I=5").size, 0);
    s = QUEUE("x-message-deduplication:t=1");
    assert_true(s.while_here && s.size == DEDUP_KEYS_MAX && s.ttl_ms == UINT64_MAX);
    s = QUEUE("x-message-deduplication:t=1 x-cache-size:I=5");
    assert_true(!s.while_here && s.size == 5 && s.ttl_ms == UINT64_MAX);
    s = QUEUE("x-message-deduplication:t=1 x-cache-ttl:I=7");
    assert_true(!s.while_here && s.size == DEDUP_KEYS_MAX && s.ttl_ms == 7);
#undef QUEUE
    fixture_fini(&f);
}

/* --- against a model ----------------------------------------------------------------------- */

enum { KEYS = 40, STEPS = 20000 };

struct model {
    uint64_t seq[KEYS], until_ms[KEYS], order[KEYS], n; /* order 0: forgotten */
    uint64_t gone_below;                                /* seqs that are not here any more */
};

static bool
lives(void *arg, uint64_t seq)
{
    const struct model *m = arg;

    return seq >= m->gone_below;
}

static size_t
known(const struct model *m, uint64_t *out_oldest)
{
    size_t n = 0;

    *out_oldest = UINT64_MAX;
    for (size_t i = 0; i < KEYS; i++)
        if (m->order[i] != 0) {
            n++;
            if (m->order[i] < *out_oldest)
                *out_oldest = m->order[i];
        }
    return n;
}

/* What is over goes from the front of the line only: it counts for the size until then. */
static void
model_drop_old(struct model *m, uint64_t size, uint64_t now_ms)
{
    uint64_t oldest;

    while (known(m, &oldest) > 0) {
        size_t n = known(m, &oldest), i = 0;

        while (m->order[i] != oldest)
            i++;
        if (n <= size && m->until_ms[i] > now_ms)
            return;
        m->order[i] = 0;
    }
}

static struct dedup_key
key_number(size_t i)
{
    return (struct dedup_key){i + 1, i * 7};
}

static void
walk(struct dedup_settings settings, uint32_t seed)
{
    struct model m = {.gone_below = 1};
    struct random random;
    struct dedup dedup;
    uint64_t now_ms = 1000;
    struct buf octets;

    random.state = seed;
    dedup_init(&dedup, &settings);
    buf_init(&octets, 1 << 20);
    for (uint64_t step = 1; step <= STEPS; step++) {
        size_t i = random_below(&random, KEYS);
        struct dedup_key key = key_number(i);
        bool is_known = m.order[i] != 0 && m.until_ms[i] > now_ms &&
                        (!settings.while_here || m.seq[i] >= m.gone_below);

        now_ms += random_below(&random, 3);
        is_known = is_known && m.until_ms[i] > now_ms;
        assert_int_equal(dedup_knows(&dedup, &key, now_ms, lives, &m), is_known);
        if (!is_known) {
            struct dedup_entry entry = {key, step,
                                        settings.ttl_ms == UINT64_MAX
                                            ? UINT64_MAX
                                            : now_ms + 1 + random_below(&random, 60)};

            dedup_add(&dedup, &entry, now_ms);
            m.seq[i] = step;
            m.until_ms[i] = entry.until_ms;
            m.order[i] = ++m.n;
            model_drop_old(&m, settings.size, now_ms);
        }
        if (random_below(&random, 20) == 0)
            m.gone_below = step + 1 - random_below(&random, 30) % step;
        dedup_sweep(&dedup, 0, lives, &m);
        if (random_below(&random, 500) == 0) { /* a restart */
            buf_clear(&octets);
            dedup_write(&dedup, &octets);
            dedup_fini(&dedup);
            dedup_init(&dedup, &settings);
            assert_true(dedup_read(&dedup, buf_view(&octets)));
            for (size_t cut = 0; step == STEPS && cut < octets.len; cut++) {
                struct dedup half;

                dedup_init(&half, &settings);
                assert_false(dedup_read(&half, view_of(octets.at, cut)));
                dedup_check(&half);
                dedup_fini(&half);
            }
        }
        dedup_check(&dedup);
    }
    buf_fini(&octets);
    dedup_fini(&dedup);
}

static void
random_keys_are_known_as_a_model_knows_them(void **state)
{
    (void)state;
    walk((struct dedup_settings){.size = 10, .ttl_ms = UINT64_MAX}, 1);
    walk((struct dedup_settings){.size = 25, .ttl_ms = 30}, 2);
    walk((struct dedup_settings){.size = 1, .ttl_ms = UINT64_MAX}, 3);
    walk((struct dedup_settings){.size = 1000, .ttl_ms = UINT64_MAX, .while_here = true}, 4);
}

static void
what_a_former_life_told_counts_by_its_seq(void **state)
{
    struct dedup_settings settings = {.size = 3, .ttl_ms = UINT64_MAX};
    struct dedup_entry e = {{1, 1}, 9, UINT64_MAX};
    struct model m = {.gone_below = 9};
    struct dedup dedup;

    (void)state;
    settings.while_here = true;
    dedup_init(&dedup, &settings);
    dedup_learn(&dedup, &e, 0);
    e.seq = 5;
    dedup_learn(&dedup, &e, 0);
    assert_true(dedup_knows(&dedup, &e.key, 0, lives, &m));
    m.gone_below = 10;
    assert_false(dedup_knows(&dedup, &e.key, 0, lives, &m));
    e.seq = 12;
    dedup_learn(&dedup, &e, 0);
    assert_true(dedup_knows(&dedup, &e.key, 0, lives, &m));
    dedup_check(&dedup);
    dedup_fini(&dedup);
}

static void
octets_that_are_no_keys_are_refused(void **state)
{
    static const char *const wrong[] = {"", "\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                        "\x01zzzzzzzzzzzzzzzz", "\x02zzzzzzzzzzzzzzzz\x01\x01"};
    struct dedup_settings settings = {.size = 3, .ttl_ms = UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct dedup dedup;

        dedup_init(&dedup, &settings);
        assert_false(dedup_read(&dedup, view_str(wrong[i])));
        dedup_check(&dedup);
        dedup_fini(&dedup);
    }
}

/* --- x-delay ------------------------------------------------------------------------------- */

static void
delays_are_read_and_negated(void **state)
{
    static const struct {
        const char *headers;
        uint64_t ms;
        const char *negated; /* NULL: not asked */
    } cases[] = {
        {"", 0, NULL},
        {"other:I=5", 0, NULL},
        {"x-delay:I=5", 5, "x-delay:I=-5"},
        {"a:S=x x-delay:b=5 c:t=1", 5, "a:S=x c:t=1 x-delay:I=-5"},
        {"x-delay:B=255", 255, "x-delay:I=-255"},
        {"x-delay:s=300", 300, "x-delay:I=-300"},
        {"x-delay:u=65535", 65535, "x-delay:I=-65535"},
        {"x-delay:i=4294967295", 4294967295, "x-delay:l=-4294967295"},
        {"x-delay:l=2147483648", 2147483648, "x-delay:I=-2147483648"},
        {"x-delay:L=2147483649", 2147483649, "x-delay:l=-2147483649"},
        {"x-delay:l=9223372036854775807", UINT64_C(1) << 48, "x-delay:l=-281474976710656"},
        {"x-delay:S=70", 70, "x-delay:I=-70"},
        {"x-delay:S=99999999999999999999999", UINT64_C(1) << 48, NULL},
        {"x-delay:d=60.9", 60, "x-delay:I=-60"},
        {"x-delay:f=0.5", 0, NULL},
        {"x-delay:d=1e300", UINT64_C(1) << 48, NULL},
        {"x-delay:d=nan", 0, NULL},
        {"x-delay:d=-inf", 0, NULL},
        {"x-delay:I=0", 0, NULL},
        {"x-delay:I=-5", 0, NULL},
        {"x-delay:S=-5", 0, NULL},
        {"x-delay:S=", 0, NULL},
        {"x-delay:S=5ms", 0, NULL},
        {"x-delay:t=1", 0, NULL},
        {"x-delay:T=5", 0, NULL},
        {"x-delay:V", 0, NULL},
    };
    struct fixture f;
    struct buf negated;

    (void)state;
    fixture_init(&f, 1, 1);
    buf_init(&negated, 1 << 16);
    assert_int_equal(delay_asked_ms(view_of(NULL, 0)), 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct view properties = with_headers(&f, cases[i].headers), headers;

        if (delay_asked_ms(properties) != cases[i].ms)
            fail_msg("%s: %llu", cases[i].headers, (unsigned long long)delay_asked_ms(properties));
        if (cases[i].negated == NULL)
            continue;
        buf_clear(&negated);
        delay_properties(&negated, properties, true);
        assert_true(props_check(buf_view(&negated)));
        assert_int_equal(delay_asked_ms(buf_view(&negated)), 0);
        assert_true(props_find(buf_view(&negated), PROP_headers, &headers));
        if (!view_equal(headers, table_of(&f.arguments, cases[i].negated)))
            fail_msg("%s: not %s", cases[i].headers, cases[i].negated);
    }
    buf_fini(&negated);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_by_value),
        cmocka_unit_test(settings_are_as_declared),
        cmocka_unit_test(random_keys_are_known_as_a_model_knows_them),
        cmocka_unit_test(what_a_former_life_told_counts_by_its_seq),
        cmocka_unit_test(octets_that_are_no_keys_are_refused),
        cmocka_unit_test(delays_are_read_and_negated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
