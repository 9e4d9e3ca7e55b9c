#include "fixture.h"

/* Topology's own: what a route looked at. */
static size_t
visited(struct fixture *f, const char *exchange, const char *key)
{
    size_t n = 0;

    assert_true(topology_route_visiting(f->vhost, view_str(exchange), view_str(key), NULL, 0,
                                        view_of(NULL, 0), &f->route, &n, &f->err));
    return n;
}

static void
the_default_exchange_is_the_queues_by_name(void **state)
{
    struct view more[] = {VIEW_LIT("b"), VIEW_LIT("a"), VIEW_LIT("none"), VIEW_LIT("b")};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "a");
    queue(&f, "b");
    assert_string_equal(routed(&f, "", "a"), "a");
    assert_string_equal(routed(&f, "", "none"), "");
    assert_string_equal(routed(&f, "", ""), "");
    assert_string_equal(routed_with(&f, "", "a", more, COUNT_OF(more), ""), "a b");
    fixture_fini(&f);
}

static void
direct_is_by_key(void **state)
{
    struct view more[] = {VIEW_LIT("l"), VIEW_LIT("k")};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "x", "direct");
    queue(&f, "a");
    queue(&f, "b");
    bind_queue(&f, "x", "a", "k");
    bind_queue(&f, "x", "b", "k");
    bind_queue(&f, "x", "b", "l");
    bind_queue(&f, "x", "a", "");
    assert_string_equal(routed(&f, "x", "k"), "a b");
    assert_string_equal(routed(&f, "x", "l"), "b");
    assert_string_equal(routed(&f, "x", ""), "a");
    assert_string_equal(routed(&f, "x", "#"), "");
    assert_string_equal(routed_with(&f, "x", "", more, 2, ""), "a b");
    unbind_queue(&f, "x", "a", "k"); /* whose key the place had borrowed */
    assert_string_equal(routed(&f, "x", "k"), "b");
    topology_check(f.topology);
    fixture_fini(&f);
}

static void
fanout_is_to_all(void **state)
{
    struct view more[] = {VIEW_LIT("l"), VIEW_LIT("k")};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "x", "fanout");
    assert_string_equal(routed(&f, "x", "k"), "");
    queue(&f, "a");
    queue(&f, "b");
    bind_queue(&f, "x", "a", "k");
    bind_queue(&f, "x", "a", "l"); /* one copy all the same */
    bind_queue(&f, "x", "b", "");
    assert_string_equal(routed(&f, "x", "any"), "a b");
    assert_string_equal(routed_with(&f, "x", "", more, 2, ""), "a b");
    assert_false(f.route.is_for_one);
    fixture_fini(&f);
}

static void
topics_match_word_by_word(void **state)
{
    static const struct {
        const char *pattern, *key;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"*", "", false},
        {"#", "", true},
        {"*.#", "", false},
        {"#", "a..b", true},
        {"a.*.b", "a..b", true},
        {"*.*", ".", true},
        {"*", ".", false},
        {"#.#", "a", true},
        {"#.#", "", true},
        {"#.a.#", "b.a", true},
        {"#.a.#", "b.c", false},
        {"a.", "a", false},
        {"a.", "a.", true},
        {"*.a", ".a", true},
        {"a.#", "a", true},
        {"a.#", "a.", true},
        {"#.a", "b.b.a", true},
        {"#.a", "a.b", false},
        {"a.#.b", "a.b", true},
        {"a.#.b", "a.x.y.b", true},
        {"a.#.*.b", "a.b", false},
        {"a.#.*.b", "a.x.b", true},
        {"#.*.#", "a", true},
        {"#.*.#", "", false},
        {"*.*.#.*", "a.b", false},
        {"*.*.#.*", "a.b.c", true},
        {"a*", "ab", false}, /* a star is a word, not a part of one */
        {"a#", "a#", true},
        {"**", "a", false},
        {"a", "*", false},
        {"*", "*", true},
        {"#.b", "#.b", true},
        {"abc.def", "abc.def", true},
        {"abc.def", "abc.de", false},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bind_queue(&f, "amq.topic", "q", cases[i].pattern);
        if (strcmp(routed(&f, "amq.topic", cases[i].key), cases[i].matches ? "q" : "") != 0)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].key);
        unbind_queue(&f, "amq.topic", "q", cases[i].pattern);
        assert_string_equal(routed(&f, "amq.topic", cases[i].key), "");
    }
    fixture_fini(&f);
}

static void
topic_words_may_be_as_long_as_a_key(void **state)
{
    struct view longer;
    char word[256], key[600];
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    queue(&f, "all");
    memset(word, 'w', sizeof(word) - 1);
    word[255] = '\0';
    bind_queue(&f, "amq.topic", "q", word);
    bind_queue(&f, "amq.topic", "all", "#");
    assert_string_equal(routed(&f, "amq.topic", word), "all q");
    /* A key of CC may be longer than any binding's. */
    memset(key, 'w', sizeof(key));
    longer = view_of(key, sizeof(key));
    assert_string_equal(routed_with(&f, "amq.topic", "", &longer, 1, ""), "all");
    fixture_fini(&f);
}

static void
matching_costs_words_not_bindings(void **state)
{
    size_t few = 0, many;
    struct fixture f;
    char key[64];

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    for (size_t i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "shop%zu.*.sold.#", i);
        bind_queue(&f, "amq.topic", "q", key);
        if (i + 1 == 10)
            few = visited(&f, "amq.topic", "shop5.books.sold.today.again");
    }
    assert_true(few > 0);
    many = visited(&f, "amq.topic", "shop5.books.sold.today.again");
    assert_true(many * 2 <= few * 3);
    assert_string_equal(routed(&f, "amq.topic", "shop99999.x.sold"), "q");
    fixture_fini(&f);
}

static void
hashes_do_not_multiply(void **state)
{
    struct fixture f;
    char key[256], pattern[256] = "", name[8];
    size_t at = 0;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < 255; i++)
        key[i] = i % 2 ? '.' : 'a';
    key[255] = '\0';
    for (size_t i = 0; i < 40; i++) {
        at += (size_t)snprintf(pattern + at, sizeof(pattern) - at, "%s", i > 0 ? ".#.a" : "#.a");
        snprintf(name, sizeof(name), "q%02zu", i);
        queue(&f, name);
        bind_queue(&f, "amq.topic", name, pattern);
    }
    snprintf(pattern + at, sizeof(pattern) - at, ".#.#.#.#.#.#.#.b");
    bind_queue(&f, "amq.topic", "q00", pattern);
    /* 40 "#", 40 "a" and the last few, 128 words */
    assert_true(visited(&f, "amq.topic", key) < (size_t)84 * 129);
    assert_int_equal(f.route.count, 40);
    fixture_fini(&f);
}

static void
headers_match_as_x_match_says(void **state)
{
    static const struct {
        const char *arguments, *headers;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a:I=1", true},
        {"a:I=1", "a:I=1", true},
        {"a:I=1", "", false},
        {"a:I=1", "a:I=2", false},
        {"a:I=1", "b:I=1", false},
        {"a:I=1 b:I=2", "b:I=2 a:I=1 c:I=3", true},
        {"a:I=1 b:I=2", "b:I=2", false},
        {"x-match:S=all a:I=1 b:I=2", "b:I=2", false},
        {"x-match:S=any a:I=1 b:I=2", "b:I=2", true},
        {"x-match:S=any a:I=1 b:I=2", "b:I=1 a:I=2", false},
        {"x-match:S=any", "", false},
        {"x-match:S=any", "a:I=1", false},
        {"x-match:S=all", "", true},
        /* x- arguments */
        {"x-a:I=1", "", true},
        {"x-match:S=any x-a:I=1", "x-a:I=1", false},
        {"x-match:S=any-with-x x-a:I=1", "x-a:I=1", true},
        {"x-match:S=any-with-x x-a:I=1", "x-a:I=2", false},
        {"x-match:S=all-with-x x-a:I=1", "x-a:I=1", true},
        {"x-match:S=all-with-x x-a:I=1", "", false},
        {"x-match:S=all-with-x", "", true},
        {"x-match:S=any-with-x", "x-match:S=any-with-x", false},
        {"x:I=1", "x:I=2", false},
        /* presence */
        {"a:V", "a:I=5", true},
        {"a:V", "a:V", true},
        {"a:V", "", false},
        {"a:I=5", "a:V", false},
        {"x-match:S=any a:V b:V", "b:S=x", true},
        /* values, whatever the type */
        {"a:I=1", "a:l=1", true},
        {"a:b=-1", "a:l=-1", true},
        {"a:B=200", "a:u=200", true},
        {"a:I=1", "a:d=1", true},
        {"a:d=1", "a:f=1", true},
        {"a:d=1.5", "a:I=1", false},
        {"a:l=9007199254740993", "a:d=9007199254740992", false},
        {"a:T=1", "a:I=1", true},
        {"a:T=-1", "a:I=-1", false}, /* 2^64 - 1 */
        {"a:I=1", "a:t=1", false},
        {"a:t=1", "a:t=1", true},
        {"a:t=1", "a:t=0", false},
        {"a:I=1", "a:S=1", false},
        {"a:S=x", "a:S=x", true},
        {"a:S=x", "a:x=x", true},
        {"a:S=x", "a:S=X", false},
        {"a:S=", "a:S=", true},
        {"a:D=15", "a:D=15", true},
        {"a:D=15", "a:D=16", false},
        {"a:A=", "a:A=", true},
        {"a:A=", "a:F=", false},
        /* of equal names the first */
        {"a:I=1", "a:I=2 a:I=1", false},
        {"a:I=1", "a:I=1 a:I=2", true},
        {"aa:I=1 a:I=2", "a:I=2 aa:I=1", true},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_true(tie(&f, true, BINDING_TO_QUEUE, "amq.match", "q", "", cases[i].arguments));
        if (strcmp(routed_with(&f, "amq.match", "", NULL, 0, cases[i].headers),
                   cases[i].matches ? "q" : "") != 0)
            fail_msg("'%s' and '%s'", cases[i].arguments, cases[i].headers);
        assert_true(f.route.is_for_one);
        assert_true(tie(&f, false, BINDING_TO_QUEUE, "amq.match", "q", "", cases[i].arguments));
    }
    routed(&f, "amq.match", "");
    assert_false(f.route.is_for_one); /* nothing to match */
    fixture_fini(&f);
}

static void
many_headers_are_matched_too(void **state)
{
    char text[4000];
    struct fixture f;
    size_t at = 0;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
    assert_true(tie(&f, true, BINDING_TO_QUEUE, "amq.match", "q", "", "h000:I=0 h199:I=199"));
    for (size_t i = 200; i-- > 0;)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%sh%03zu:I=%zu", at > 0 ? " " : "", i,
                               i);
    assert_string_equal(routed_with(&f, "amq.match", "", NULL, 0, text), "q");
    fixture_fini(&f);
}

static void
exchanges_pass_on_to_exchanges(void **state)
{
    struct fixture f;
    char from[16], to[16];

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "a");
    queue(&f, "b");
    exchange(&f, "x", "direct");
    exchange(&f, "y", "topic");
    exchange(&f, "z", "fanout");
    assert_true(exchange_as(&f, "inside", "fanout", "i", ""));
    bind_exchange(&f, "x", "y", "k.l");
    bind_exchange(&f, "y", "z", "k.*");
    bind_exchange(&f, "z", "x", ""); /* round and round */
    bind_exchange(&f, "z", "z", "");
    bind_exchange(&f, "z", "inside", ""); /* internal ones are for exchanges */
    bind_queue(&f, "y", "a", "#");
    bind_queue(&f, "z", "a", "");
    bind_queue(&f, "inside", "b", "");
    assert_string_equal(routed(&f, "x", "k.l"), "a b");
    assert_string_equal(routed(&f, "x", "k"), "");
    assert_string_equal(routed(&f, "y", "other"), "a");
    assert_string_equal(routed(&f, "z", "other"), "a b");
    assert_refused(routed(&f, "inside", "k"), 403,
                   "cannot publish to internal exchange 'inside' in vhost '/'");
    assert_refused(routed(&f, "amq.rabbitmq.trace", "k"), 403,
                   "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'");
    assert_refused(routed(&f, "none", "k"), 404, "no exchange 'none' in vhost '/'");

    /* A long chain, with ways back. */
    for (int i = 0; i < 100; i++) {
        snprintf(to, sizeof(to), "c%d", i);
        exchange(&f, to, "fanout");
        if (i > 0) {
            snprintf(from, sizeof(from), "c%d", i - 1);
            bind_exchange(&f, from, to, "");
            bind_exchange(&f, to, from, "");
            bind_exchange(&f, to, "c0", "");
        }
    }
    bind_queue(&f, to, "b", "");
    assert_string_equal(routed(&f, "c0", ""), "b");
    assert_int_equal(visited(&f, "c0", ""), 100); /* each once */
    assert_int_equal(visited(&f, "c50", ""), 100);
    fixture_fini(&f);
}

static void
alternates_take_what_nobody_matched(void **state)
{
    struct view more = VIEW_LIT("l");
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "a");
    queue(&f, "b");
    queue(&f, "last");
    assert_true(exchange_as(&f, "x", "direct", "", "alternate-exchange:S=y"));
    assert_string_equal(routed(&f, "x", "k"), ""); /* y is not there yet */
    assert_true(exchange_as(&f, "y", "direct", "i", "alternate-exchange:S=z"));
    assert_true(exchange_as(&f, "z", "fanout", "", "alternate-exchange:S=x"));
    assert_string_equal(routed(&f, "x", "k"), ""); /* a circle */
    bind_queue(&f, "z", "last", "");
    bind_queue(&f, "y", "b", "k");
    bind_queue(&f, "x", "a", "l");
    assert_string_equal(routed(&f, "x", "k"), "b");
    assert_string_equal(routed(&f, "x", "l"), "a");
    assert_string_equal(routed(&f, "x", "m"), "last");
    assert_string_equal(routed_with(&f, "x", "k", &more, 1, ""), "a"); /* one key was enough */

    /* An exchange that matches is a match, whatever becomes of it there. */
    exchange(&f, "void", "fanout");
    bind_exchange(&f, "x", "void", "k");
    assert_string_equal(routed(&f, "x", "k"), "");

    /* The default exchange as an alternate. */
    assert_true(exchange_as(&f, "w", "headers", "", "alternate-exchange:S="));
    assert_string_equal(routed(&f, "w", "a"), "a");
    assert_true(tie(&f, true, BINDING_TO_QUEUE, "w", "b", "", "h:I=1"));
    assert_string_equal(routed_with(&f, "w", "a", NULL, 0, "h:I=1"), "b");
    assert_string_equal(routed_with(&f, "w", "a", NULL, 0, "h:I=2"), "a");
    assert_true(f.route.is_for_one);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_exchange_is_the_queues_by_name),
        cmocka_unit_test(direct_is_by_key),
        cmocka_unit_test(fanout_is_to_all),
        cmocka_unit_test(topics_match_word_by_word),
        cmocka_unit_test(topic_words_may_be_as_long_as_a_key),
        cmocka_unit_test(matching_costs_words_not_bindings),
        cmocka_unit_test(hashes_do_not_multiply),
        cmocka_unit_test(headers_match_as_x_match_says),
        cmocka_unit_test(many_headers_are_matched_too),
        cmocka_unit_test(exchanges_pass_on_to_exchanges),
        cmocka_unit_test(alternates_take_what_nobody_matched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
