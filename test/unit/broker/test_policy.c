#include "fixture.h"

#include "lepus/broker/policy.h"
#include "lepus/broker/queue_rules.h"

/* --- in short words ------------------------------------------------------------------------ */

struct words {
    const char *name, *pattern, *apply_to;
    int priority;
    const char *definition;
    bool is_operator;
};

static bool
put_as(struct fixture *f, const struct words *w, enum policy_strictness strictness)
{
    struct policy_spec spec = {
        .name = view_str(w->name),
        .is_operator = w->is_operator,
        .pattern = view_str(w->pattern),
        .apply_to = view_str(w->apply_to),
        .priority = w->priority,
        .definition = view_str(w->definition),
    };

    return policy_put(f->vhost, &spec, strictness, NULL, &f->err);
}

static void
put(struct fixture *f, const struct words *w)
{
    if (!put_as(f, w, POLICY_REFUSES_UNKNOWN))
        fail_msg("%s", f->err.text);
}

#define PUT(...)    put(&f, &(struct words){__VA_ARGS__, false})
#define PUT_OP(...) put(&f, &(struct words){__VA_ARGS__, true})

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "name|operator_name|key=value key=value", keys in alphabetical order. */
static const char *
text_of(struct fixture *f, struct policy_applied *applied)
{
    static char words[32][128];
    char *sorted[32];
    struct field field;
    struct view name;
    size_t n = 0;
    int len;

    for (size_t at = 0; table_next(buf_view(&applied->table), &at, &name, &field); n++) {
        assert_true(n < 32);
        sorted[n] = words[n];
        if (field.type == FIELD_LONGSTR)
            snprintf(words[n], sizeof(words[n]), VIEW_FMT "=" VIEW_FMT, VIEW_ARG(name),
                     VIEW_ARG(field.bytes));
        else
            snprintf(words[n], sizeof(words[n]), VIEW_FMT "=%lld", VIEW_ARG(name),
                     (long long)field.integer);
    }
    qsort(sorted, n, sizeof(sorted[0]), by_name);
    len = snprintf(f->text, sizeof(f->text), "%s|%s|", applied->name != NULL ? applied->name : "",
                   applied->operator_name != NULL ? applied->operator_name : "");
    for (size_t i = 0; i < n; i++)
        len += snprintf(f->text + len, sizeof(f->text) - (size_t)len, "%s%s", i > 0 ? " " : "",
                        sorted[i]);
    policy_applied_fini(applied);
    return f->text;
}

static const char *
said_of_queue(struct fixture *f, const char *name)
{
    struct policy_applied applied;

    assert_true(policy_of_queue(f->vhost, view_str(name), &applied));
    return text_of(f, &applied);
}

static const char *
said_of_exchange(struct fixture *f, const char *name)
{
    struct policy_applied applied;

    assert_true(policy_of_exchange(f->vhost, view_str(name), &applied));
    return text_of(f, &applied);
}

static void
make_queue(struct fixture *f, const char *name, const char *arguments)
{
    struct queue_found found;

    assert_int_equal(queue_as(f, name, "d", arguments, &found), QUEUE_CREATED);
}

/* --- which one holds ----------------------------------------------------------------------- */

static void
the_highest_priority_that_matches_holds_alone(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "a.1", "");
    make_queue(&f, "b.1", "");
    assert_string_equal(said_of_queue(&f, "a.1"), "||");
    PUT("low", ".*", "all", -1, "{\"max-length\":1,\"expires\":1000}");
    PUT("a", "^a\\.", "queues", 5, "{\"max-length\":2}");
    assert_string_equal(said_of_queue(&f, "a.1"), "a||max-length=2");
    assert_string_equal(said_of_queue(&f, "b.1"), "low||expires=1000 max-length=1");
    PUT("0", "1$", "all", 5, "{\"max-length\":3}"); /* as high: the first by name */
    assert_string_equal(said_of_queue(&f, "a.1"), "0||max-length=3");
    PUT("0", "1$", "all", -2, "{\"max-length\":3}"); /* the same one, lower */
    assert_string_equal(said_of_queue(&f, "a.1"), "a||max-length=2");
    assert_true(policy_remove(f.vhost, false, VIEW_LIT("a"), NULL, &f.err));
    assert_true(policy_remove(f.vhost, false, VIEW_LIT("low"), NULL, &f.err));
    assert_string_equal(said_of_queue(&f, "a.1"), "0||max-length=3");
    assert_refused(policy_remove(f.vhost, false, VIEW_LIT("a"), NULL, &f.err), 404,
                   "no policy 'a' in vhost '/'");
    assert_refused(policy_remove(f.vhost, true, VIEW_LIT("0"), NULL, &f.err), 404,
                   "no operator policy '0' in vhost '/'");
    fixture_fini(&f);
}

static void
kinds_are_told_apart(void **state)
{
    static const struct {
        const char *apply_to;
        bool exchange, classic, quorum;
    } cases[] = {
        {"all", true, true, true},
        {"queues", false, true, true},
        {"classic_queues", false, true, false},
        {"quorum_queues", false, false, true},
        {"streams", false, false, false},
        {"exchanges", true, false, false},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "c", "");
    make_queue(&f, "c2", "x-queue-type:S=classic");
    make_queue(&f, "q", "x-queue-type:S=quorum");
    exchange(&f, "x", "direct");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        PUT("p", "", cases[i].apply_to, 0, "{\"alternate-exchange\":\"y\"}");
#define IS(said, yes) assert_string_equal(said, (yes) ? "p||alternate-exchange=y" : "||")
        IS(said_of_queue(&f, "c"), cases[i].classic);
        IS(said_of_queue(&f, "c2"), cases[i].classic);
        IS(said_of_queue(&f, "q"), cases[i].quorum);
        IS(said_of_exchange(&f, "x"), cases[i].exchange);
        IS(said_of_exchange(&f, "amq.topic"), cases[i].exchange);
#undef IS
    }
    fixture_fini(&f);
}

/* [RabbitMQ] it does not match at all. */
static void
a_policy_with_a_key_for_others_does_not_match(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "c", "");
    make_queue(&f, "q", "x-queue-type:S=quorum");
    PUT("low", "", "all", 0, "{\"max-length\":1}");
    PUT("lazy", "", "all", 1, "{\"queue-mode\":\"lazy\",\"max-length\":2}");
    PUT("age", "", "all", 2, "{\"max-age\":\"7D\",\"max-length-bytes\":3}");
    assert_string_equal(said_of_queue(&f, "c"), "lazy||max-length=2 queue-mode=lazy");
    assert_string_equal(said_of_queue(&f, "q"), "low||max-length=1");
    fixture_fini(&f);
}

static void
operators_take_part_key_by_key(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "q", "");
    PUT_OP(
        "op", "", "queues", 0,
        "{\"max-length\":10,\"message-ttl\":500,\"overflow\":\"reject-publish\",\"delivery-limit\":"
        "3}");
    assert_string_equal(
        said_of_queue(&f, "q"),
        "|op|delivery-limit=3 max-length=10 message-ttl=500 overflow=reject-publish");
    PUT("p", "", "queues", 0,
        "{\"max-length\":20,\"message-ttl\":400,\"overflow\":\"drop-head\",\"expires\":9,"
        "\"dead-letter-exchange\":\"d\"}");
    assert_string_equal(said_of_queue(&f, "q"),
                        "p|op|dead-letter-exchange=d delivery-limit=3 expires=9 max-length=10 "
                        "message-ttl=400 overflow=reject-publish");
    PUT_OP("op2", "", "queues", 1, "{\"expires\":10}"); /* alone among operators' */
    assert_string_equal(said_of_queue(&f, "q"), "p|op2|dead-letter-exchange=d expires=9 "
                                                "max-length=20 message-ttl=400 overflow=drop-head");
    fixture_fini(&f);
}

static void
merging_takes_all_that_match(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "q", "");
    exchange(&f, "x", "direct");
    PUT("base", "", "all", 0, "{\"max-length\":1,\"expires\":5,\"alternate-exchange\":\"y\"}");
    PUT("mid", "^q", "all", 1, "{\"max-length\":2,\"message-ttl\":6}");
    PUT("top", "^q", "all", 2, "{\"message-ttl\":7,\"max-age\":\"1D\"}");
    PUT_OP("op1", "", "queues", 1, "{\"max-length\":9}");
    PUT_OP("op0", "", "queues", 0, "{\"max-length\":1,\"message-ttl\":1}");
    assert_string_equal(said_of_queue(&f, "q"), "mid|op1|max-length=2 message-ttl=6");
    policies_set_merge(f.topology, true);
    assert_string_equal(said_of_queue(&f, "q"), "top|op1|alternate-exchange=y expires=5 "
                                                "max-length=2 message-ttl=1");
    assert_string_equal(said_of_exchange(&f, "x"),
                        "base||alternate-exchange=y expires=5 max-length=1");
    policies_set_merge(f.topology, false);
    assert_string_equal(said_of_queue(&f, "q"), "mid|op1|max-length=2 message-ttl=6");
    fixture_fini(&f);
}

/* --- what is refused ----------------------------------------------------------------------- */

static void
definitions_are_refused_as_rabbitmq_does(void **state)
{
    static const struct {
        const char *definition, *text;
    } cases[] = {
        {"{}", "no policy provided"},
        {"[]", "definition must be a dictionary: []"},
        {"5", "definition must be a dictionary: 5"},
        {"{\"foo\":1}", "[{<<\"foo\">>,1}] are not recognised policy settings"},
        {"{\"foo\":{\"a\":[true,null]},\"max-length\":1,\"bar\":\"x\"}",
         "[{<<\"foo\">>,#{<<\"a\">> => [true,null]}},{<<\"bar\">>,<<\"x\">>}] are not recognised "
         "policy settings"},
        {"{\"max-priority\":5}", "[{<<\"max-priority\">>,5}] are not recognised policy settings"},
        {"{\"single-active-consumer\":true}",
         "[{<<\"single-active-consumer\">>,true}] are not recognised policy settings"},
        {"{\"x-message-ttl\":5}", "[{<<\"x-message-ttl\">>,5}] are not recognised policy settings"},
        {"{\"message-ttl\":-1}", "-1 is not a valid message TTL"},
        {"{\"message-ttl\":\"5\"}", "<<\"5\">> is not a valid message TTL"},
        {"{\"message-ttl\":1.5}", "1.5 is not a valid message TTL"},
        {"{\"message-ttl\":null}", "null is not a valid message TTL"},
        {"{\"expires\":0}", "0 is not a valid queue expiry"},
        {"{\"max-length\":-1}", "-1 is not a valid maximum length"},
        {"{\"max-length\":true}", "true is not a valid maximum length"},
        {"{\"max-length-bytes\":-5}", "-5 is not a valid maximum length in bytes"},
        {"{\"max-in-memory-length\":-5}", "-5 is not a valid maximum memory in bytes"},
        {"{\"max-in-memory-bytes\":-5}", "-5 is not a valid maximum memory in bytes"},
        {"{\"overflow\":\"drop\"}", "<<\"drop\">> is not a valid overflow value"},
        {"{\"dead-letter-exchange\":5}", "5 is not a valid dead letter exchange name"},
        {"{\"dead-letter-routing-key\":[1]}", "[1] is not a valid dead letter routing key"},
        {"{\"dead-letter-strategy\":\"never\"}",
         "<<\"never\">> is not a valid dead letter strategy"},
        {"{\"delivery-limit\":-1}", "-1 is not a valid delivery limit"},
        {"{\"consumer-timeout\":-1}", "-1 is not a valid consumer timeout"},
        {"{\"alternate-exchange\":1}", "1 is not a valid alternate exchange name"},
        {"{\"queue-mode\":\"eager\"}", "<<\"eager\">> is not a valid queue-mode value"},
        {"{\"queue-version\":3}", "3 is not a valid queue-version value"},
        {"{\"max-age\":\"7\"}", "<<\"7\">> is not a valid max age"},
        {"{\"max-age\":\"0D\"}", "<<\"0D\">> is not a valid max age"},
        {"{\"max-age\":\"D\"}", "<<\"D\">> is not a valid max age"},
        {"{\"max-age\":\"7d\"}", "<<\"7d\">> is not a valid max age"},
        {"{\"max-age\":7}", "7 is not a valid max age"},
        {"{\"stream-max-segment-size-bytes\":3000000001}",
         "3000000001 is not a valid segment size"},
        {"{\"stream-filter-size-bytes\":15}", "15 is not a valid filter size"},
        {"{\"queue-leader-locator\":\"here\"}",
         "<<\"here\">> is not a valid queue leader locator value"},
        {"{\"initial-cluster-size\":-1}", "-1 is not a valid cluster size"},
        {"{\"ha-mode\":\"some\"}", "<<\"some\">> is not a valid ha-mode value"},
        {"{\"ha-mode\":\"all\",\"ha-sync-mode\":\"often\"}",
         "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"often\">>"},
        {"{\"ha-mode\":\"all\",\"ha-sync-batch-size\":0}",
         "ha-sync-batch-size takes an integer greater than 0, 0 given"},
        {"{\"queue-master-locator\":5}", "5 invalid queue-master-locator value"},
        {"{\"ha-params\":2}", "ha-mode must be specified to specify ha-params, ha-sync-mode or "
                              "ha-promote-on-shutdown"},
    };
    static const char *const good[] = {
        "{\"message-ttl\":0,\"expires\":1,\"max-length\":0,\"max-length-bytes\":0}",
        "{\"overflow\":\"reject-publish-dlx\",\"dead-letter-exchange\":\"\"}",
        "{\"dead-letter-routing-key\":\"k\"}",
        "{\"ha-mode\":\"exactly\",\"ha-params\":2,\"ha-sync-mode\":\"automatic\"}",
        "{\"ha-mode\":\"nodes\",\"ha-params\":[\"a\",\"b\"],\"queue-master-locator\":\"random\"}",
        "{\"queue-mode\":\"lazy\",\"queue-version\":2}",
        "{\"max-age\":\"90m\",\"stream-max-segment-size-bytes\":500000000}",
        "{\"queue-leader-locator\":\"balanced\",\"initial-cluster-size\":3}",
        "{\"consumer-timeout\":60000,\"delivery-limit\":0}",
    };
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(put_as(&f, &(struct words){"p", "", "all", 0, cases[i].definition, false},
                              POLICY_REFUSES_UNKNOWN),
                       406, cases[i].text);
    for (size_t i = 0; i < COUNT_OF(good); i++)
        PUT("p", "", "all", 0, good[i]);
    assert_false(
        put_as(&f, &(struct words){"p", "", "all", 0, "{\"a\":", false}, POLICY_REFUSES_UNKNOWN));
    fixture_fini(&f);
}

static void
operators_have_fewer_keys(void **state)
{
    static const char *const theirs[] = {
        "expires",          "message-ttl",          "max-length",
        "max-length-bytes", "max-in-memory-length", "max-in-memory-bytes",
        "delivery-limit",   "target-group-size",
    };
    static const char *const not_theirs[] = {
        "dead-letter-exchange",
        "dead-letter-routing-key",
        "alternate-exchange",
        "consumer-timeout",
        "max-age",
        "queue-mode",
    };
    struct fixture f;
    char definition[128], text[192];

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < COUNT_OF(theirs); i++) {
        snprintf(definition, sizeof(definition), "{\"%s\":5}", theirs[i]);
        PUT_OP("op", "", "all", 0, definition);
    }
    for (size_t i = 0; i < COUNT_OF(not_theirs); i++) {
        snprintf(definition, sizeof(definition), "{\"%s\":\"7D\"}", not_theirs[i]);
        snprintf(text, sizeof(text), "[{<<\"%s\">>,<<\"7D\">>}] are not recognised policy settings",
                 not_theirs[i]);
        assert_refused(put_as(&f, &(struct words){"op", "", "all", 0, definition, true},
                              POLICY_REFUSES_UNKNOWN),
                       406, text);
        assert_true(policy_knows_key(view_str(not_theirs[i]), false));
        assert_false(policy_knows_key(view_str(not_theirs[i]), true));
    }
    fixture_fini(&f);
}

static void
what_stands_around_definitions_is_checked(void **state)
{
    static const char good[] = "{\"max-length\":1}";
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
#define REFUSED(text, ...)                                                                         \
    assert_refused(put_as(&f, &(struct words){__VA_ARGS__, false}, POLICY_REFUSES_UNKNOWN), 406,   \
                   text)
    REFUSED("apply-to 'some' unrecognised; should be one of: 'queues', 'classic_queues',  "
            "'quorum_queues', 'streams', 'exchanges', or 'all'",
            "p", "", "some", 0, good);
    REFUSED("pattern should be regular expression but is invalid: "
            "{\"missing closing parenthesis\",3}",
            "p", "a(b", "all", 0, good);
    REFUSED("a policy cannot have this name", "", "", "all", 0, good);
#undef REFUSED
    fixture_fini(&f);
}

/* What another broker exports shall not be lost for a key that only it has. */
static void
unknown_keys_may_be_kept_without_meaning(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    make_queue(&f, "q", "");
    assert_true(put_as(&f,
                       &(struct words){"p", "", "all", 0, "{\"foo\":1,\"max-length\":5}", false},
                       POLICY_KEEPS_UNKNOWN));
    assert_string_equal(said_of_queue(&f, "q"), "p||max-length=5");
    assert_refused(put_as(&f, &(struct words){"p", "", "all", 0, "{\"max-length\":-5}", false},
                          POLICY_KEEPS_UNKNOWN),
                   406, "-5 is not a valid maximum length");
    assert_string_equal(said_of_queue(&f, "q"), "p||max-length=5");
    fixture_fini(&f);
}

/* --- exchanges, listeners ------------------------------------------------------------------ */

static void
alternate_exchanges_follow_policies(void **state)
{
    struct fixture f;
    uint64_t before;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "x", "direct");
    exchange(&f, "alt", "fanout");
    exchange(&f, "other", "fanout");
    queue(&f, "q");
    queue(&f, "r");
    bind_queue(&f, "alt", "q", "");
    bind_queue(&f, "other", "r", "");
    assert_string_equal(routed(&f, "x", "k"), "");
    before = vhost_version(f.vhost);
    PUT("ae", "^(x|new|own)$", "exchanges", 0, "{\"alternate-exchange\":\"alt\"}");
    assert_true(vhost_version(f.vhost) > before); /* or caches would not hear of it */
    assert_string_equal(routed(&f, "x", "k"), "q");
    assert_string_equal(routed(&f, "amq.direct", "k"), "");
    exchange(&f, "new", "direct");
    assert_string_equal(routed(&f, "new", "k"), "q");
    assert_true(exchange_as(&f, "own", "direct", "", "alternate-exchange:S=other"));
    assert_string_equal(routed(&f, "own", "k"), "r"); /* the argument wins */
    PUT("ae", "^x$", "exchanges", 0, "{\"alternate-exchange\":\"other\"}");
    assert_string_equal(routed(&f, "x", "k"), "r");
    assert_string_equal(routed(&f, "new", "k"), "");
    assert_true(policy_remove(f.vhost, false, VIEW_LIT("ae"), NULL, &f.err));
    assert_string_equal(routed(&f, "x", "k"), "");
    assert_string_equal(routed(&f, "own", "k"), "r");
    assert_true(exchange_as(&f, "x", "direct", "", "")); /* it is still the same one */
    before = vhost_version(f.vhost);
    PUT("length", "", "all", 0, "{\"max-length\":5}");
    assert_true(vhost_version(f.vhost) == before); /* routes are as they were */
    PUT("all", "", "all", 0, "{\"alternate-exchange\":\"alt\"}");
    assert_string_equal(routed(&f, "", "nowhere"), ""); /* the default exchange has none */
    fixture_fini(&f);
}

static void
count_change(void *arg, struct vhost *vhost)
{
    unsigned *n = arg;

    assert_string_equal(vhost_name(vhost), "/");
    ++*n;
}

static void
changes_are_told_and_what_changes_nothing_is_not(void **state)
{
    struct fixture f;
    unsigned n = 0;

    (void)state;
    fixture_init(&f, 4, 2);
    policies_listen(f.topology, count_change, &n);
    PUT("p", "", "all", 0, "{\"max-length\":1}");
    assert_int_equal(n, 1);
    PUT("p", "", "all", 0, "{\"max-length\":1}");
    assert_int_equal(n, 1);
    PUT("p", "", "all", 1, "{\"max-length\":1}");
    PUT("p", "", "queues", 1, "{\"max-length\":1}");
    PUT("p", "a", "queues", 1, "{\"max-length\":1}");
    PUT("p", "a", "queues", 1, "{\"max-length\":2}");
    assert_int_equal(n, 5);
    PUT_OP("p", "a", "queues", 1, "{\"max-length\":2}"); /* another one */
    assert_int_equal(n, 6);
    policies_set_merge(f.topology, false);
    assert_int_equal(n, 6);
    policies_set_merge(f.topology, true);
    assert_int_equal(n, 7);
    assert_true(policy_remove(f.vhost, false, VIEW_LIT("p"), NULL, &f.err));
    assert_int_equal(n, 8);
    fixture_fini(&f);
}

/* --- with arguments ------------------------------------------------------------------------ */

static void
limits_are_the_lower_of_both_and_all_else_the_arguments(void **state)
{
    struct buf arguments, policy;
    struct queue_rules rules;

    (void)state;
    buf_init(&arguments, 4096);
    buf_init(&policy, 4096);
#define RULES(a, p) queue_rules_init(&rules, table_of(&arguments, a), table_of(&policy, p))
    RULES("x-message-ttl:I=5 x-expires:I=50 x-max-length:I=7 x-max-length-bytes:I=70 "
          "x-delivery-limit:I=3",
          "message-ttl:l=6 expires:l=40 max-length:l=8 max-length-bytes:l=60 delivery-limit:l=4");
    assert_int_equal(rules.ttl_ms, 5);
    assert_int_equal(rules.lease_ms, 40);
    assert_int_equal(rules.max_length, 7);
    assert_int_equal(rules.max_bytes, 60);
    assert_int_equal(rules.delivery_limit, 3);
    queue_rules_fini(&rules);
    RULES("", "message-ttl:l=6 dead-letter-exchange:S=d dead-letter-routing-key:S=k "
              "overflow:S=reject-publish");
    assert_int_equal(rules.ttl_ms, 6);
    assert_true(rules.max_length == RULE_NONE);
    assert_true(view_equal(queue_rules_exchange(&rules), VIEW_LIT("d")));
    assert_true(view_equal(queue_rules_key(&rules), VIEW_LIT("k")));
    assert_int_equal(rules.overflow, OVERFLOW_REJECT);
    queue_rules_fini(&rules);
    RULES("x-dead-letter-exchange:S=mine x-overflow:S=drop-head x-delivery-limit:I=-1",
          "dead-letter-exchange:S=d dead-letter-routing-key:S=k overflow:S=reject-publish "
          "delivery-limit:l=4");
    assert_true(view_equal(queue_rules_exchange(&rules), VIEW_LIT("mine")));
    assert_true(view_equal(queue_rules_key(&rules), VIEW_LIT("k")));
    assert_int_equal(rules.overflow, OVERFLOW_DROP_HEAD);
    assert_int_equal(rules.delivery_limit, 4);
    queue_rules_fini(&rules);
    RULES("x-queue-type:S=quorum x-overflow:S=drop-head", "overflow:S=reject-publish");
    assert_int_equal(rules.overflow, OVERFLOW_REJECT); /* the policy's [RabbitMQ] */
    queue_rules_fini(&rules);
    RULES("x-queue-type:S=quorum x-overflow:S=reject-publish", "");
    assert_int_equal(rules.overflow, OVERFLOW_REJECT);
    queue_rules_fini(&rules);
    RULES("", "message-ttl:l=9223372036854775807 expires:l=9223372036854775807 "
              "consumer-timeout:l=9223372036854775807 max-length:l=9223372036854775807");
    assert_true(rules.ttl_ms == UINT64_C(315360000000)); /* ten years: sums with it fit */
    assert_true(rules.lease_ms == rules.ttl_ms && rules.consumer_timeout_ms == rules.ttl_ms);
    assert_true(rules.max_length == INT64_MAX);
    queue_rules_fini(&rules);
#undef RULES
    buf_fini(&arguments);
    buf_fini(&policy);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_priority_that_matches_holds_alone),
        cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(a_policy_with_a_key_for_others_does_not_match),
        cmocka_unit_test(operators_take_part_key_by_key),
        cmocka_unit_test(merging_takes_all_that_match),
        cmocka_unit_test(definitions_are_refused_as_rabbitmq_does),
        cmocka_unit_test(operators_have_fewer_keys),
        cmocka_unit_test(what_stands_around_definitions_is_checked),
        cmocka_unit_test(unknown_keys_may_be_kept_without_meaning),
        cmocka_unit_test(alternate_exchanges_follow_policies),
        cmocka_unit_test(changes_are_told_and_what_changes_nothing_is_not),
        cmocka_unit_test(limits_are_the_lower_of_both_and_all_else_the_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
