/*
 * Random lives of small topologies, beside a model that knows no index: lists, walked. And the
 * trie beside a matcher that is the definition written down.
 */
#include "fixture.h"

/* --- the definition of a topic ------------------------------------------------------------- */

enum { WORDS_MAX = 16 };

struct words {
    struct view at[WORDS_MAX];
    size_t n;
};

static struct words
split(const char *text)
{
    struct words words = {.n = 0};

    if (*text == '\0')
        return words;
    for (;;) {
        size_t n = strcspn(text, ".");

        assert_true(words.n < WORDS_MAX);
        words.at[words.n++] = view_of(text, n);
        if (text[n] == '\0')
            return words;
        text += n + 1;
    }
}

static bool
is(struct view word, char c)
{
    return word.len == 1 && word.at[0] == (uint8_t)c;
}

static bool
matches(const struct words *pattern, size_t p, const struct words *key, size_t k)
{
    if (p == pattern->n)
        return k == key->n;
    if (is(pattern->at[p], '#')) {
        for (size_t skip = k; skip <= key->n; skip++)
            if (matches(pattern, p + 1, key, skip))
                return true;
        return false;
    }
    return k < key->n && (is(pattern->at[p], '*') || view_equal(pattern->at[p], key->at[k])) &&
           matches(pattern, p + 1, key, k + 1);
}

static bool
topic_matches(const char *pattern, const char *key)
{
    struct words p = split(pattern), k = split(key);

    return matches(&p, 0, &k, 0);
}

/* Up to `max` letters of the alphabet. */
static void
draw_text(struct random *random, const char *alphabet, size_t max, char *out)
{
    size_t n = random_below(random, max + 1);

    for (size_t i = 0; i < n; i++)
        out[i] = alphabet[random_below(random, strlen(alphabet))];
    out[n] = '\0';
}

static void
the_trie_matches_as_defined(void **state)
{
    enum { PATTERNS = 24, ROUNDS = 1500, KEYS = 40, TEXT = 9 };
    char patterns[PATTERNS][TEXT + 1], name[8], key[TEXT + 1], expected[256];
    struct random random = {1};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < PATTERNS; i++) {
        snprintf(name, sizeof(name), "q%02zu", i);
        queue(&f, name);
        draw_text(&random, "ab.*#.", TEXT, patterns[i]);
        bind_queue(&f, "amq.topic", name, patterns[i]);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t i = round % PATTERNS;

        snprintf(name, sizeof(name), "q%02zu", i);
        unbind_queue(&f, "amq.topic", name, patterns[i]);
        draw_text(&random, "ab.*#.", TEXT, patterns[i]);
        bind_queue(&f, "amq.topic", name, patterns[i]);
        topology_check(f.topology);
        for (size_t j = 0; j < KEYS; j++) {
            size_t at = 0;

            draw_text(&random, "abc..*#", TEXT, key);
            expected[0] = '\0';
            for (i = 0; i < PATTERNS; i++)
                if (topic_matches(patterns[i], key))
                    at += (size_t)snprintf(expected + at, sizeof(expected) - at, "%sq%02zu",
                                           at > 0 ? " " : "", i);
            if (strcmp(routed(&f, "amq.topic", key), expected) != 0)
                fail_msg("key '%s': '%s', not '%s'", key, f.text, expected);
        }
    }
    fixture_fini(&f);
}

/* A pattern or a key of words from a small vocabulary, some of them longer than a node holds. */
static void
draw_words(struct random *random, size_t wild, char *out, size_t size)
{
    static const char longest[] = "a-word-that-no-node-of-the-trie-has-room-for-by-itself";
    size_t n = random_below(random, 5), at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        size_t what = random_below(random, 8);
        const char *dot = i > 0 ? "." : "";

        if (what < wild)
            at += (size_t)snprintf(out + at, size - at, "%s%s", dot, what == 0 ? "#" : "*");
        else if (what == 7)
            at += (size_t)snprintf(out + at, size - at, "%s%.*s%zu", dot,
                                   (int)random_below(random, sizeof(longest)), longest,
                                   random_below(random, 3));
        else
            at += (size_t)snprintf(out + at, size - at, "%s%zu", dot, random_below(random, 30));
    }
}

/* Enough of them that the trie's nodes and its table grow over several sizes, and shrink again:
 * more patterns in the first half of a life than in the second. */
static void
many_patterns_come_and_go(void **state)
{
    enum { PATTERNS = 400, STEPS = 12000, KEYS = 4, TEXT = 255 };
    static char patterns[PATTERNS][TEXT + 1];
    bool is_bound[PATTERNS] = {false};
    struct random random = {3};
    size_t n_matches = 0;
    struct fixture f;
    char name[8], key[TEXT + 1], expected[4096];

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < PATTERNS; i++) {
        snprintf(name, sizeof(name), "q%03zu", i);
        queue(&f, name);
    }
    for (size_t step = 0; step < STEPS; step++) {
        size_t live = step < STEPS / 2 ? PATTERNS : 8, i = random_below(&random, PATTERNS);

        snprintf(name, sizeof(name), "q%03zu", i);
        if (is_bound[i])
            unbind_queue(&f, "amq.topic", name, patterns[i]);
        is_bound[i] = i < live;
        draw_words(&random, 2, patterns[i], sizeof(patterns[i]));
        if (is_bound[i])
            bind_queue(&f, "amq.topic", name, patterns[i]);
        if (step % 16 != 0)
            continue;
        topology_check(f.topology);
        for (size_t j = 0; j < KEYS; j++) {
            size_t at = 0;

            draw_words(&random, 0, key, sizeof(key));
            expected[0] = '\0';
            for (i = 0; i < PATTERNS; i++)
                if (is_bound[i] && topic_matches(patterns[i], key))
                    at += (size_t)snprintf(expected + at, sizeof(expected) - at, "%sq%03zu",
                                           at > 0 ? " " : "", i);
            n_matches += at > 0;
            if (strcmp(routed(&f, "amq.topic", key), expected) != 0)
                fail_msg("key '%s': '%s', not '%s'", key, f.text, expected);
        }
    }
    assert_true(n_matches > 500);
    fixture_fini(&f);
}

/* --- a model of the whole ------------------------------------------------------------------ */

enum { X_MAX = 7, Q_MAX = 6, BINDINGS_MAX = 512 };

static const char *const types[] = {"direct", "fanout", "topic", "headers"};
static const char *const keys[] = {"", "a", "b", "a.b", "*.b", "#", "a.#"};
static const char *const argument_sets[] = {"", "h:I=1", "x-match:S=any h:I=1 g:I=1",
                                            "g:I=1 h:I=1"};
static const char *const header_sets[] = {"", "h:I=1", "g:I=1", "g:I=1 h:I=1"};

struct model_exchange {
    bool exists, auto_delete;
    size_t type;
    int alternate; /* or -1 */
};

struct model_binding {
    size_t source, to, key, arguments;
    bool to_exchange;
};

struct model {
    struct model_exchange exchanges[X_MAX];
    uint64_t queues[Q_MAX]; /* 0: none */
    struct model_binding bindings[BINDINGS_MAX];
    size_t n;
};

static const char *
x_name(size_t i)
{
    static const char *const names[X_MAX] = {"x0", "x1", "x2", "x3", "x4", "x5", "x6"};

    return names[i];
}

static const char *
q_name(size_t i)
{
    static const char *const names[Q_MAX] = {"q0", "q1", "q2", "q3", "q4", "q5"};

    return names[i];
}

static bool
is_bound_from(const struct model *m, size_t exchange)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->bindings[i].source == exchange)
            return true;
    return false;
}

static void model_delete_exchange(struct model *m, size_t exchange);

static void
model_unbind(struct model *m, size_t i)
{
    size_t source = m->bindings[i].source;

    m->bindings[i] = m->bindings[--m->n];
    if (m->exchanges[source].exists && m->exchanges[source].auto_delete &&
        !is_bound_from(m, source))
        model_delete_exchange(m, source);
}

/* Removes one binding that concerns it; false when there is none. */
static bool
model_unbind_one(struct model *m, size_t exchange)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->bindings[i].source == exchange ||
            (m->bindings[i].to_exchange && m->bindings[i].to == exchange)) {
            model_unbind(m, i);
            return true;
        }
    }
    return false;
}

static void
model_delete_exchange(struct model *m, size_t exchange)
{
    m->exchanges[exchange].exists = false;
    while (model_unbind_one(m, exchange))
        ;
}

static bool
model_unbind_queue(struct model *m, size_t queue)
{
    for (size_t i = 0; i < m->n; i++) {
        if (!m->bindings[i].to_exchange && m->bindings[i].to == queue) {
            model_unbind(m, i);
            return true;
        }
    }
    return false;
}

static bool
model_matches(const struct model *m, const struct model_binding *b, const char *key, size_t headers)
{
    switch (m->exchanges[b->source].type) {
    case 0:
        return strcmp(keys[b->key], key) == 0;
    case 1:
        return true;
    case 2:
        return topic_matches(keys[b->key], key);
    default:
        break;
    }
    /* Bit 0: there is h, bit 1: there is g. */
    return b->arguments == 0 || (b->arguments == 1 && (headers & 1)) ||
           (b->arguments == 2 && headers != 0) || (b->arguments == 3 && headers == 3);
}

static void
model_route(const struct model *m, size_t exchange, const char *key, size_t headers,
            bool seen[X_MAX], bool queues[Q_MAX])
{
    bool matched = false;
    int alternate = m->exchanges[exchange].alternate;

    seen[exchange] = true;
    for (size_t i = 0; i < m->n; i++) {
        const struct model_binding *b = &m->bindings[i];

        if (b->source != exchange || !model_matches(m, b, key, headers))
            continue;
        matched = true;
        if (!b->to_exchange)
            queues[b->to] = true;
        else if (!seen[b->to])
            model_route(m, b->to, key, headers, seen, queues);
    }
    if (!matched && alternate >= 0 && m->exchanges[alternate].exists && !seen[alternate])
        model_route(m, (size_t)alternate, key, headers, seen, queues);
}

static void
step_exchange(struct fixture *f, struct model *m, struct random *random)
{
    size_t x = random_below(random, X_MAX), type = random_below(random, COUNT_OF(types));
    struct model_exchange *exchange = &m->exchanges[x];
    bool auto_delete = random_below(random, 2);
    int alternate = (int)random_below(random, 2 * X_MAX) - X_MAX;
    char arguments[64] = "";
    bool ok;

    if (random_below(random, 4) == 0) {
        bool if_unused = random_below(random, 2), in_use = is_bound_from(m, x);

        ok = topology_delete_exchange(f->vhost, view_str(x_name(x)), if_unused, NULL, &f->err);
        assert_int_equal(ok, !(if_unused && exchange->exists && in_use));
        if (ok && exchange->exists)
            model_delete_exchange(m, x);
        return;
    }
    alternate = alternate < 0 ? -1 : alternate;
    if (alternate >= 0)
        snprintf(arguments, sizeof(arguments), "alternate-exchange:S=%s",
                 x_name((size_t)alternate));
    ok = exchange_as(f, x_name(x), types[type], auto_delete ? "a" : "", arguments);
    if (exchange->exists)
        assert_int_equal(ok, exchange->type == type && exchange->auto_delete == auto_delete &&
                                 exchange->alternate == alternate);
    else
        *exchange = (struct model_exchange){ok, auto_delete, type, alternate};
    assert_true(ok || exchange->exists);
}

static void
step_queue(struct fixture *f, struct model *m, struct random *random)
{
    size_t q = random_below(random, Q_MAX);
    struct queue_found found;

    if (random_below(random, 3) == 0) {
        assert_int_equal(topology_queue_remove(f->topology, m->queues[q]), m->queues[q] != 0);
        while (m->queues[q] != 0 && model_unbind_queue(m, q))
            ;
        m->queues[q] = 0;
        return;
    }
    assert_int_equal(queue_as(f, q_name(q), "", "", &found),
                     m->queues[q] != 0 ? QUEUE_FOUND : QUEUE_CREATED);
    assert_true(m->queues[q] == 0 || m->queues[q] == found.ref.id);
    m->queues[q] = found.ref.id;
}

static size_t
model_find(const struct model *m, const struct model_binding *b)
{
    size_t i = 0;

    while (i < m->n && !(m->bindings[i].source == b->source && m->bindings[i].to == b->to &&
                         m->bindings[i].key == b->key && m->bindings[i].arguments == b->arguments &&
                         m->bindings[i].to_exchange == b->to_exchange))
        i++;
    return i;
}

static void
step_binding(struct fixture *f, struct model *m, struct random *random)
{
    bool to_exchange = random_below(random, 3) == 0, make = random_below(random, 5) != 0;
    struct model_binding b = {
        .source = random_below(random, X_MAX),
        .to = random_below(random, to_exchange ? X_MAX : Q_MAX),
        .key = random_below(random, COUNT_OF(keys)),
        .arguments = random_below(random, COUNT_OF(argument_sets)),
        .to_exchange = to_exchange,
    };
    bool there = m->exchanges[b.source].exists &&
                 (to_exchange ? m->exchanges[b.to].exists : m->queues[b.to] != 0);
    bool ok =
        tie(f, make, to_exchange ? BINDING_TO_EXCHANGE : BINDING_TO_QUEUE, x_name(b.source),
            to_exchange ? x_name(b.to) : q_name(b.to), keys[b.key], argument_sets[b.arguments]);
    size_t i = model_find(m, &b);

    assert_int_equal(ok, !make || there);
    if (!there)
        return;
    if (make && i == m->n) {
        assert_true(m->n < BINDINGS_MAX);
        m->bindings[m->n++] = b;
    } else if (!make && i < m->n) {
        model_unbind(m, i);
    }
}

static void
compare_routes(struct fixture *f, const struct model *m, struct random *random)
{
    static const char *const published[] = {"", "a", "b", "a.b", "b.b", "a.b.b", "c"};
    size_t x = random_below(random, X_MAX), headers = random_below(random, 4);
    const char *key = published[random_below(random, COUNT_OF(published))];
    bool seen[X_MAX] = {false}, queues[Q_MAX] = {false};
    const char *is = routed_with(f, x_name(x), key, NULL, 0, header_sets[headers]);
    char expected[64] = "";
    size_t at = 0;

    assert_int_equal(is != NULL, m->exchanges[x].exists);
    if (is == NULL)
        return;
    model_route(m, x, key, headers, seen, queues);
    for (size_t i = 0; i < Q_MAX; i++)
        if (queues[i])
            at += (size_t)snprintf(expected + at, sizeof(expected) - at, "%s%s", at > 0 ? " " : "",
                                   q_name(i));
    assert_string_equal(is, expected);
}

static void
compare_counts(struct fixture *f, const struct model *m)
{
    struct topology_counts counts;
    size_t exchanges = 7, queues = 0;

    topology_count(f->topology, &counts);
    for (size_t i = 0; i < X_MAX; i++)
        exchanges += m->exchanges[i].exists;
    for (size_t i = 0; i < Q_MAX; i++)
        queues += m->queues[i] != 0;
    assert_int_equal(counts.exchanges, exchanges);
    assert_int_equal(counts.queues, queues);
    assert_int_equal(counts.bindings, m->n);
}

static void
a_random_life_goes_as_the_model_does(void **state)
{
    struct random random = {2};

    (void)state;
    for (size_t life = 0; life < 200; life++) {
        struct model m = {0};
        struct fixture f;

        fixture_init(&f, 3, 2);
        for (size_t i = 0; i < 400; i++) {
            size_t what = random_below(&random, 8);

            if (what == 0)
                step_exchange(&f, &m, &random);
            else if (what == 1)
                step_queue(&f, &m, &random);
            else
                step_binding(&f, &m, &random);
            topology_check(f.topology);
            compare_counts(&f, &m);
            for (size_t j = 0; j < 4; j++)
                compare_routes(&f, &m, &random);
        }
        fixture_fini(&f);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_trie_matches_as_defined),
        cmocka_unit_test(many_patterns_come_and_go),
        cmocka_unit_test(a_random_life_goes_as_the_model_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
