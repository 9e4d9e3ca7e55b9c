#include "fixture.h"

static void
every_vhost_has_the_predeclared_exchanges(void **state)
{
    static const struct {
        const char *name, *type;
    } cases[] = {
        {"amq.direct", "direct"},   {"amq.fanout", "fanout"}, {"amq.topic", "topic"},
        {"amq.headers", "headers"}, {"amq.match", "headers"},
    };
    struct topology_counts counts;
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(exchange_as(&f, cases[i].name, cases[i].type, "d", ""));
    assert_true(exchange_as(&f, "amq.rabbitmq.trace", "topic", "di", ""));
    topology_count(f.topology, &counts);
    assert_int_equal(counts.exchanges, 7);
    assert_string_equal(vhost_name(f.vhost), "/");
    assert_null(topology_find_vhost(f.topology, VIEW_LIT("nowhere")));
    assert_int_equal(vhost_version(f.vhost), 1);
    fixture_fini(&f);
}

static void
exchanges_are_refused_as_rabbitmq_does(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_true(exchange_as(&f, "x", "direct", "", "alternate-exchange:S=amq.fanout"));
#define REFUSED(name, type, flags, arguments, code, text)                                          \
    assert_refused(exchange_as(&f, name, type, flags, arguments), code, text)
    REFUSED("t", "foo", "", "", 406, "unknown exchange type 'foo'");
    REFUSED("", "direct", "d", "", 403, "operation not permitted on the default exchange");
    REFUSED("\r\n", "direct", "d", "", 403, "operation not permitted on the default exchange");
    REFUSED("amq.new", "direct", "", "", 403,
            "exchange name 'amq.new' contains reserved prefix 'amq.*'");
    REFUSED("amq.direct", "direct", "", "", 406,
            "inequivalent arg 'durable' for exchange 'amq.direct' in vhost '/': "
            "received 'false' but current is 'true'");
    REFUSED("x", "fanout", "dai", "", 406,
            "inequivalent arg 'type' for exchange 'x' in vhost '/': "
            "received 'fanout' but current is 'direct'");
    REFUSED("x", "direct", "dai", "", 406,
            "inequivalent arg 'durable' for exchange 'x' in vhost '/': "
            "received 'true' but current is 'false'");
    REFUSED("x", "direct", "ai", "", 406,
            "inequivalent arg 'auto_delete' for exchange 'x' in vhost '/': "
            "received 'true' but current is 'false'");
    REFUSED("x", "direct", "i", "", 406,
            "inequivalent arg 'internal' for exchange 'x' in vhost '/': "
            "received 'true' but current is 'false'");
    REFUSED("x", "direct", "", "", 406,
            "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
            "received none but current is the value 'amq.fanout' of type 'longstr'");
    REFUSED("x", "direct", "", "alternate-exchange:S=y", 406,
            "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
            "received 'y' but current is 'amq.fanout'");
    REFUSED("y", "direct", "", "alternate-exchange:I=5", 406,
            "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'y' in vhost '/'");
#undef REFUSED
    assert_true(exchange_as(&f, "x", "direct", "", "any:I=1 alternate-exchange:S=amq.fanout"));
    assert_refused(has_exchange(&f, "nope"), 404, "no exchange 'nope' in vhost '/'");
    assert_refused(has_exchange(&f, ""), 403, "operation not permitted on the default exchange");
    fixture_fini(&f);
}

static void
exchanges_are_deleted_or_not(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
#define DELETED(name, if_unused)                                                                   \
    topology_delete_exchange(f.vhost, VIEW_LIT(name), if_unused, NULL, &f.err)
    assert_true(DELETED("missing", true));
    assert_refused(DELETED("", false), 403, "operation not permitted on the default exchange");
    assert_refused(DELETED("amq.direct", false), 403,
                   "deletion of system exchange 'amq.direct' in vhost '/' not allowed");
    assert_refused(DELETED("amq.missing", false), 403,
                   "deletion of system exchange 'amq.missing' in vhost '/' not allowed");
    exchange(&f, "x", "direct");
    queue(&f, "q");
    bind_queue(&f, "x", "q", "k");
    assert_refused(DELETED("x", true), 406, "exchange 'x' in vhost '/' in use");
    assert_true(DELETED("x", false));
    assert_false(has_exchange(&f, "x"));
    exchange(&f, "x", "fanout"); /* no binding came back with the name */
    assert_string_equal(routed(&f, "x", "k"), "");
    bind_exchange(&f, "amq.direct", "x", "k"); /* being bound to is no use */
    assert_true(DELETED("x", true));
#undef DELETED
    fixture_fini(&f);
}

#define QUEUE_IN " for queue 'q' in vhost '/'"

static void
queue_arguments_are_refused_as_rabbitmq_does(void **state)
{
    static const struct {
        const char *arguments, *text;
    } cases[] = {
        {"x-expires:I=0", "invalid arg 'x-expires'" QUEUE_IN ": {value_zero,0}"},
        {"x-expires:b=-1", "invalid arg 'x-expires'" QUEUE_IN ": {value_negative,-1}"},
        {"x-expires:S=a", "invalid arg 'x-expires'" QUEUE_IN ": \"expected integer, got longstr\""},
        {"x-expires:l=315360000001",
         "invalid arg 'x-expires'" QUEUE_IN ": {value_too_large,315360000001}"},
        {"x-message-ttl:I=-1", "invalid arg 'x-message-ttl'" QUEUE_IN ": {value_negative,-1}"},
        {"x-message-ttl:t=1",
         "invalid arg 'x-message-ttl'" QUEUE_IN ": \"expected integer, got bool\""},
        {"x-message-ttl:T=5",
         "invalid arg 'x-message-ttl'" QUEUE_IN ": \"expected integer, got timestamp\""},
        {"x-max-length:I=-1", "invalid arg 'x-max-length'" QUEUE_IN ": {value_negative,-1}"},
        {"x-max-length:F=",
         "invalid arg 'x-max-length'" QUEUE_IN ": \"expected integer, got table\""},
        {"x-max-length-bytes:d=1.5",
         "invalid arg 'x-max-length-bytes'" QUEUE_IN ": \"expected integer, got double\""},
        {"x-max-priority:I=256",
         "invalid arg 'x-max-priority'" QUEUE_IN ": {max_value_exceeded,256}"},
        {"x-overflow:S=foo", "invalid arg 'x-overflow'" QUEUE_IN ": invalid_overflow"},
        {"x-overflow:S=drop", "invalid arg 'x-overflow'" QUEUE_IN ": invalid_overflow"},
        {"x-overflow:S=", "invalid arg 'x-overflow'" QUEUE_IN ": invalid_overflow"},
        {"x-overflow:I=3", "invalid arg 'x-overflow'" QUEUE_IN ": {unacceptable_type,signedint}"},
        {"x-overflow:V", "invalid arg 'x-overflow'" QUEUE_IN ": {unacceptable_type,void}"},
        {"x-queue-mode:S=foo",
         "invalid arg 'x-queue-mode'" QUEUE_IN ": \"unsupported queue mode 'foo'\""},
        {"x-queue-version:I=3",
         "invalid arg 'x-queue-version'" QUEUE_IN ": \"unsupported queue version '3'\""},
        {"x-single-active-consumer:I=1",
         "invalid arg 'x-single-active-consumer'" QUEUE_IN ": {unacceptable_type,signedint}"},
        {"x-queue-type:S=foo",
         "invalid arg 'x-queue-type'" QUEUE_IN ": \"unsupported queue type 'foo'\""},
        {"x-queue-type:I=5",
         "invalid arg 'x-queue-type'" QUEUE_IN ": {unacceptable_type,signedint}"},
        {"x-dead-letter-exchange:I=5",
         "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"},
        {"x-dead-letter-routing-key:S=k",
         "invalid arg 'x-dead-letter-routing-key'" QUEUE_IN ": routing_key_but_no_dlx_defined"},
        {"x-dead-letter-routing-key:I=5",
         "invalid arg 'x-dead-letter-routing-key'" QUEUE_IN ": {unacceptable_type,signedint}"},
        {"x-max-age:S=1D",
         "invalid arg 'x-max-age'" QUEUE_IN " of queue type rabbit_classic_queue"},
        {"x-quorum-initial-group-size:I=0", "invalid arg 'x-quorum-initial-group-size'" QUEUE_IN
                                            " of queue type rabbit_classic_queue"},
        {"x-dead-letter-strategy:S=x",
         "invalid arg 'x-dead-letter-strategy'" QUEUE_IN " of queue type rabbit_classic_queue"},
        {"x-queue-type:S=quorum", "invalid property 'non-durable'" QUEUE_IN},
    };
    static const char *const good[] = {
        "x-expires:i=1 x-message-ttl:s=0 x-max-length:B=0 x-max-length-bytes:l=5",
        "x-message-ttl:l=315360000000 x-overflow:S=reject-publish-dlx x-max-priority:u=255",
        "x-dead-letter-exchange:S= x-dead-letter-routing-key:S=k x-single-active-consumer:t=1",
        "x-queue-type:S=classic x-queue-mode:S=lazy x-queue-version:I=2 foo:S=bar x-own:V",
        "x-delivery-limit:I=-1 x-consumer-timeout:I=60000 x-queue-leader-locator:S=balanced",
    };
    struct queue_found found;
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(queue_as(&f, "q", "", cases[i].arguments, &found) != QUEUE_FAILED, 406,
                       cases[i].text);
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        char name[8];

        snprintf(name, sizeof(name), "g%zu", i);
        assert_int_equal(queue_as(&f, name, "", good[i], &found), QUEUE_CREATED);
        assert_int_equal(queue_as(&f, name, "", good[i], &found), QUEUE_FOUND);
    }
    fixture_fini(&f);
}

static void
quorum_queues_are_durable_and_named(void **state)
{
    static const struct {
        const char *name, *flags, *arguments, *text;
    } cases[] = {
        {"q", "da", "", "invalid property 'auto-delete'" QUEUE_IN},
        {"q", "de", "", "invalid property 'exclusive-owner'" QUEUE_IN},
        {"q", "", "", "invalid property 'non-durable'" QUEUE_IN},
        {"", "d", "", "Cannot declare a server-named queue for type rabbit_quorum_queue"},
        {"q", "d", " x-queue-mode:S=lazy",
         "invalid arg 'x-queue-mode'" QUEUE_IN " of queue type rabbit_quorum_queue"},
        {"q", "d", " x-max-priority:I=5",
         "invalid arg 'x-max-priority'" QUEUE_IN " of queue type rabbit_quorum_queue"},
        {"q", "d", " x-dead-letter-strategy:S=foo",
         "invalid arg 'x-dead-letter-strategy'" QUEUE_IN ": invalid_dlx_strategy"},
        {"q", "d", " x-quorum-initial-group-size:I=0",
         "invalid arg 'x-quorum-initial-group-size'" QUEUE_IN ": {value_zero,0}"},
    };
    struct queue_found found;
    struct fixture f;
    char arguments[256];

    (void)state;
    fixture_init(&f, 4, 2);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        snprintf(arguments, sizeof(arguments), "x-queue-type:S=quorum%s", cases[i].arguments);
        assert_refused(queue_as(&f, cases[i].name, cases[i].flags, arguments, &found) !=
                           QUEUE_FAILED,
                       406, cases[i].text);
    }
    assert_int_equal(queue_as(&f, "q", "d", "x-queue-type:S=quorum", &found), QUEUE_CREATED);
    assert_refused(queue_as(&f, "q", "d", "", &found) != QUEUE_FAILED, 406,
                   "inequivalent arg 'x-queue-type'" QUEUE_IN
                   ": received none but current is the value 'quorum' of type 'longstr'");
    fixture_fini(&f);
}

static void
a_queue_declared_again_must_be_the_same(void **state)
{
    static const struct {
        const char *flags, *arguments, *text;
    } cases[] = {
        {"", "",
         "inequivalent arg 'x-message-ttl'" QUEUE_IN
         ": received none but current is the value '20000' of type 'signedint'"},
        {"", "x-message-ttl:I=30000 x-overflow:S=drop-head",
         "inequivalent arg 'x-message-ttl'" QUEUE_IN ": received '30000' but current is '20000'"},
        {"", "x-message-ttl:S=20000 x-overflow:S=drop-head",
         "inequivalent arg 'x-message-ttl'" QUEUE_IN ": received '20000' but current is '20000'"},
        {"", "x-message-ttl:I=20000",
         "inequivalent arg 'x-overflow'" QUEUE_IN
         ": received none but current is the value 'drop-head' of type 'longstr'"},
        {"", "x-message-ttl:I=20000 x-overflow:S=drop-head x-queue-type:S=quorum",
         "inequivalent arg 'x-queue-type'" QUEUE_IN
         ": received the value 'quorum' of type 'longstr' but current is none"},
        {"", "x-queue-type:S=quorum",
         "inequivalent arg 'x-message-ttl'" QUEUE_IN
         ": received none but current is the value '20000' of type 'signedint'"},
        {"", "x-message-ttl:I=20000 x-overflow:S=drop-head x-expires:I=0",
         "inequivalent arg 'x-expires'" QUEUE_IN
         ": received the value '0' of type 'signedint' but current is none"},
        {"", "x-message-ttl:I=20000 x-overflow:S=drop-head x-max-length:t=1",
         "inequivalent arg 'x-max-length'" QUEUE_IN
         ": received the value 'true' of type 'bool' but current is none"},
        {"da", "",
         "inequivalent arg 'durable'" QUEUE_IN ": received 'true' but current is 'false'"},
        {"a", "",
         "inequivalent arg 'auto_delete'" QUEUE_IN ": received 'true' but current is 'false'"},
    };
    static const char *const same[] = {
        "x-message-ttl:I=20000 x-overflow:S=drop-head",
        "x-overflow:S=drop-head x-message-ttl:l=20000",
        "x-message-ttl:s=20000 x-overflow:S=drop-head x-queue-type:S=classic",
        "x-message-ttl:u=20000 x-overflow:S=drop-head foo:S=bar",
    };
    struct queue_found made, found;
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_int_equal(queue_as(&f, "q", "", same[0], &made), QUEUE_CREATED);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(queue_as(&f, "q", cases[i].flags, cases[i].arguments, &found) !=
                           QUEUE_FAILED,
                       406, cases[i].text);
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        assert_int_equal(queue_as(&f, "q", "o", same[i], &found), QUEUE_FOUND);
        assert_true(found.ref.id == made.ref.id && found.ref.shard == made.ref.shard);
    }
    fixture_fini(&f);
}

#define LOCKED                                                                                     \
    "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally "     \
    "declared on another connection or the exclusive property value does not match that of the "   \
    "original declaration."

static bool
find(struct fixture *f, const char *name, uint64_t connection, struct queue_found *out)
{
    return topology_find_queue(f->vhost, view_str(name), connection, out, &f->err);
}

static void
an_exclusive_queue_is_its_connections_alone(void **state)
{
    struct binding_spec to_q = {
        .kind = BINDING_TO_QUEUE,
        .source = VIEW_LIT("amq.direct"),
        .destination = VIEW_LIT("q"),
        .routing_key = VIEW_LIT("k"),
    };
    struct queue_description description;
    struct queue_found found = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_int_equal(queue_as(&f, "q", "de", "", &found), QUEUE_CREATED);
    assert_true(found.owner == MINE);
    assert_true(topology_queue_describe(f.topology, found.ref.id, &description));
    assert_true(description.exclusive && description.owner == MINE && !description.durable);
    queue_description_fini(&description);
    assert_int_equal(queue_as(&f, "q", "e", "", &found), QUEUE_FOUND);
    assert_refused(queue_as(&f, "q", "", "", &found) != QUEUE_FAILED, 405, LOCKED);
    found.owner = 0;
    assert_refused(queue_as(&f, "q", "eo", "", &found) != QUEUE_FAILED, 405, LOCKED);
    assert_true(found.owner == MINE);
    found.owner = 0;
    assert_refused(find(&f, "q", ANOTHERS, &found), 405, LOCKED);
    assert_true(found.owner == MINE);
    assert_true(find(&f, "q", MINE, &found));

    assert_refused(topology_bind(f.vhost, &to_q, ANOTHERS, NULL, &f.err), 405, LOCKED);
    assert_true(
        topology_unbind(f.vhost, &to_q, ANOTHERS, NULL, &f.err)); /* there is none: nobody asks */
    assert_true(topology_bind(f.vhost, &to_q, MINE, NULL, &f.err));
    assert_refused(topology_unbind(f.vhost, &to_q, ANOTHERS, NULL, &f.err), 405, LOCKED);

    assert_true(topology_queue_remove(f.topology, found.ref.id));
    assert_int_equal(queue_as(&f, "q", "", "", &found), QUEUE_CREATED);
    assert_true(found.owner == 0);
    assert_refused(queue_as(&f, "q", "e", "", &found) != QUEUE_FAILED, 405, LOCKED);
    fixture_fini(&f);
}

static void
exclusive_queues_live_where_their_connection_does(void **state)
{
    struct queue_spec spec = {.exclusive = true};
    struct queue_found found;
    struct fixture f;

    (void)state;
    for (unsigned shards = 1; shards < 9; shards++) {
        for (unsigned worker = 0; worker < 3; worker++) {
            bool seen[9] = {false};
            unsigned n = 0;

            fixture_init(&f, shards, 3);
            for (unsigned i = 0; i < 200; i++) {
                assert_int_equal(
                    topology_declare_queue(f.vhost, &spec, MINE, worker, &found, &f.err),
                    QUEUE_CREATED);
                assert_true(found.ref.shard < shards);
                if (worker < shards)
                    assert_int_equal(topology_worker_of(f.topology, found.ref.shard), worker);
                seen[found.ref.shard] = true;
            }
            for (unsigned shard = 0; shard < shards; shard++)
                n += seen[shard];
            assert_int_equal(n, worker < shards ? (shards - worker + 2) / 3 : shards);
            fixture_fini(&f);
        }
    }
}

static void
queue_names(void **state)
{
    struct queue_found found, other;
    struct fixture f;
    char longest[256];

    (void)state;
    fixture_init(&f, 4, 2);
    assert_int_equal(queue_as(&f, "", "", "", &found), QUEUE_CREATED);
    assert_int_equal(found.name_len, 30);
    assert_memory_equal(found.name, "amq.gen-", 8);
    assert_int_equal(strspn(found.name + 8, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                            "0123456789-_"),
                     22);
    assert_int_equal(queue_as(&f, "", "", "", &other), QUEUE_CREATED);
    assert_string_not_equal(found.name, other.name);
    assert_true(find(&f, found.name, MINE, &other));
    assert_refused(queue_as(&f, "amq.mine", "", "", &found) != QUEUE_FAILED, 403,
                   "queue name 'amq.mine' contains reserved prefix 'amq.*'");
    assert_refused(find(&f, "nope", MINE, &found), 404, "no queue 'nope' in vhost '/'");

    assert_int_equal(queue_as(&f, "\r\nc\nr\r", "", "", &found), QUEUE_CREATED);
    assert_string_equal(found.name, "cr");
    assert_true(find(&f, "c\rr", MINE, &found));
    memset(longest, 'n', sizeof(longest) - 1);
    longest[255] = '\0';
    assert_int_equal(queue_as(&f, longest, "", "", &found), QUEUE_CREATED);
    assert_string_equal(found.name, longest);
    assert_string_equal(routed(&f, "", longest), longest);
    fixture_fini(&f);
}

static void
one_caller_removes_a_queue(void **state)
{
    struct queue_description description;
    struct fixture f;
    uint64_t id, again;

    (void)state;
    fixture_init(&f, 4, 2);
    id = queue(&f, "q");
    bind_queue(&f, "amq.direct", "q", "k");
    assert_true(topology_queue_remove(f.topology, id));
    assert_false(topology_queue_remove(f.topology, id));
    assert_false(topology_queue_describe(f.topology, id, &description));
    again = queue(&f, "q");
    assert_true(again != id);
    assert_string_equal(routed(&f, "amq.direct", "k"), "");
    fixture_fini(&f);
}

static void
a_description_is_the_callers_copy(void **state)
{
    struct queue_description d;
    struct queue_found found;
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    assert_int_equal(queue_as(&f, "q", "da", "x-expires:I=5 z:S=z", &found), QUEUE_CREATED);
    assert_true(topology_queue_describe(f.topology, found.ref.id, &d));
    assert_true(topology_queue_remove(f.topology, found.ref.id));
    assert_string_equal(d.name, "q");
    assert_true(d.durable && d.auto_delete && !d.exclusive && d.vhost == f.vhost);
    assert_true(d.ref.id == found.ref.id && d.ref.shard == found.ref.shard && d.name_len == 1);
    assert_int_equal(d.arguments_len, f.arguments.len);
    assert_memory_equal(d.arguments, f.arguments.at, f.arguments.len);
    queue_description_fini(&d);
    fixture_fini(&f);
}

static void
bindings_are_refused_as_rabbitmq_does(void **state)
{
    static const struct {
        enum binding_kind kind;
        const char *source, *destination, *arguments;
        int code;
        const char *text;
    } cases[] = {
        {BINDING_TO_QUEUE, "", "q", "", 403, "operation not permitted on the default exchange"},
        {BINDING_TO_EXCHANGE, "x", "", "", 403, "operation not permitted on the default exchange"},
        {BINDING_TO_QUEUE, "no", "no", "", 404, "no exchange 'no' in vhost '/'"},
        {BINDING_TO_QUEUE, "x", "no", "", 404, "no queue 'no' in vhost '/'"},
        {BINDING_TO_EXCHANGE, "x", "q", "", 404, "no exchange 'q' in vhost '/'"},
        {BINDING_TO_QUEUE, "amq.headers", "q", "x-match:S=foo", 406,
         "Invalid x-match field value <<\"foo\">>; "
         "expected all, any, all-with-x, or any-with-x"},
        {BINDING_TO_QUEUE, "amq.headers", "q", "x-match:S=a\"b", 406,
         "Invalid x-match field value <<\"a\\\"b\">>; "
         "expected all, any, all-with-x, or any-with-x"},
        {BINDING_TO_QUEUE, "amq.match", "q", "x-match:S=", 406,
         "Invalid x-match field value <<>>; expected all, any, all-with-x, or any-with-x"},
        {BINDING_TO_EXCHANGE, "amq.match", "x", "x-match:I=5", 406,
         "Invalid x-match field type signedint (value 5); expected longstr"},
        {BINDING_TO_QUEUE, "amq.match", "q", "x-match:t=1", 406,
         "Invalid x-match field type bool (value true); expected longstr"},
        {BINDING_TO_QUEUE, "amq.match", "q", "x-match:d=0.5", 406,
         "Invalid x-match field type double (value 0.5); expected longstr"},
        {BINDING_TO_QUEUE, "amq.match", "q", "x-match:d=3", 406,
         "Invalid x-match field type double (value 3.0); expected longstr"},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    exchange(&f, "x", "direct");
    queue(&f, "q");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(tie(&f, true, cases[i].kind, cases[i].source, cases[i].destination, "k",
                           cases[i].arguments),
                       cases[i].code, cases[i].text);
    assert_true(tie(&f, true, BINDING_TO_QUEUE, "x", "q", "k", "x-match:S=foo"));
    assert_refused(tie(&f, false, BINDING_TO_QUEUE, "", "q", "k", ""), 403,
                   "operation not permitted on the default exchange");
    assert_true(tie(&f, false, BINDING_TO_QUEUE, "no", "q", "k", ""));
    assert_true(tie(&f, false, BINDING_TO_QUEUE, "x", "no", "k", ""));
    assert_true(tie(&f, false, BINDING_TO_EXCHANGE, "x", "no", "k", ""));
    assert_true(tie(&f, false, BINDING_TO_QUEUE, "x", "q", "never", ""));
    fixture_fini(&f);
}

static size_t
count_bindings(struct fixture *f)
{
    struct topology_counts counts;

    topology_count(f->topology, &counts);
    return counts.bindings;
}

static void
a_binding_is_there_once(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 4, 2);
    queue(&f, "q");
#define TIE(make, key, arguments)                                                                  \
    assert_true(tie(&f, make, BINDING_TO_QUEUE, "amq.direct", "q", key, arguments))
    TIE(true, "k", "a:I=1 b:S=x");
    TIE(true, "k", "a:I=1 b:S=x");
    TIE(true, "k", "b:S=x a:I=1"); /* the order does not count */
    assert_int_equal(count_bindings(&f), 1);
    TIE(true, "k", "");
    TIE(true, "k", "a:I=2 b:S=x");
    TIE(true, "kk", "a:I=1 b:S=x");
    assert_int_equal(count_bindings(&f), 4);
    assert_string_equal(routed(&f, "amq.direct", "k"), "q");
    TIE(false, "k", "a:I=9");
    assert_int_equal(count_bindings(&f), 4);
    TIE(false, "k", "b:S=x a:I=1");
    TIE(false, "k", "a:I=2 b:S=x");
    assert_string_equal(routed(&f, "amq.direct", "k"), "q");
    TIE(false, "k", "");
    assert_string_equal(routed(&f, "amq.direct", "k"), "");
    assert_int_equal(count_bindings(&f), 1);
#undef TIE
    fixture_fini(&f);
}

static void
auto_delete_exchanges_go_with_their_last_binding(void **state)
{
    struct fixture f;
    uint64_t id;

    (void)state;
    fixture_init(&f, 4, 2);
    id = queue(&f, "q");
    /* a -> b -> c -> q, all to be deleted; keep is bound to a */
    assert_true(exchange_as(&f, "a", "fanout", "a", ""));
    assert_true(exchange_as(&f, "b", "topic", "a", ""));
    assert_true(exchange_as(&f, "c", "direct", "a", ""));
    exchange(&f, "keep", "fanout");
    bind_exchange(&f, "a", "b", "");
    bind_exchange(&f, "b", "c", "#");
    bind_queue(&f, "c", "q", "k");
    bind_queue(&f, "c", "q", "l");
    bind_exchange(&f, "keep", "a", "");
    assert_string_equal(routed(&f, "keep", "k"), "q");
    unbind_queue(&f, "c", "q", "k");
    assert_true(has_exchange(&f, "c"));
    assert_true(topology_queue_remove(f.topology, id));
    assert_false(has_exchange(&f, "c"));
    assert_false(has_exchange(&f, "b"));
    assert_false(has_exchange(&f, "a"));
    assert_true(has_exchange(&f, "keep"));
    assert_int_equal(count_bindings(&f), 0);

    /* By unbinding, and by deleting what it is bound to. */
    queue(&f, "q");
    assert_true(exchange_as(&f, "a", "headers", "a", ""));
    bind_queue(&f, "a", "q", "");
    unbind_queue(&f, "a", "q", "");
    assert_false(has_exchange(&f, "a"));
    assert_true(exchange_as(&f, "a", "direct", "a", ""));
    bind_exchange(&f, "a", "keep", "k");
    bind_exchange(&f, "a", "a", "self");
    assert_true(topology_delete_exchange(f.vhost, VIEW_LIT("keep"), false, NULL, &f.err));
    assert_true(has_exchange(&f, "a")); /* it is still bound to itself */
    assert_true(tie(&f, false, BINDING_TO_EXCHANGE, "a", "a", "self", ""));
    assert_false(has_exchange(&f, "a"));

    /* Two that hold each other up go both when one is deleted. */
    assert_true(exchange_as(&f, "a", "fanout", "a", ""));
    assert_true(exchange_as(&f, "b", "fanout", "a", ""));
    bind_exchange(&f, "a", "b", "");
    bind_exchange(&f, "b", "a", "");
    assert_true(topology_delete_exchange(f.vhost, VIEW_LIT("a"), false, NULL, &f.err));
    assert_false(has_exchange(&f, "b"));
    fixture_fini(&f);
}

static void
every_change_shows_in_the_version(void **state)
{
    struct queue_found found;
    struct fixture f;
    uint64_t before;

    (void)state;
    fixture_init(&f, 4, 2);
    before = vhost_version(f.vhost);
#define CHANGES(call)                                                                              \
    do {                                                                                           \
        assert_true(call);                                                                         \
        assert_true(vhost_version(f.vhost) > before);                                              \
        before = vhost_version(f.vhost);                                                           \
    } while (0)
#define LEAVES(call)                                                                               \
    do {                                                                                           \
        (void)(call);                                                                              \
        assert_true(vhost_version(f.vhost) == before);                                             \
    } while (0)
    CHANGES(exchange_as(&f, "x", "fanout", "", ""));
    LEAVES(exchange_as(&f, "x", "fanout", "", ""));
    LEAVES(exchange_as(&f, "x", "direct", "", ""));
    CHANGES(queue_as(&f, "q", "", "", &found) == QUEUE_CREATED);
    LEAVES(queue_as(&f, "q", "", "", &found));
    CHANGES(tie(&f, true, BINDING_TO_QUEUE, "x", "q", "", ""));
    LEAVES(tie(&f, true, BINDING_TO_QUEUE, "x", "q", "", ""));
    CHANGES(tie(&f, false, BINDING_TO_QUEUE, "x", "q", "", ""));
    LEAVES(tie(&f, false, BINDING_TO_QUEUE, "x", "q", "", ""));
    CHANGES(topology_queue_remove(f.topology, found.ref.id));
    LEAVES(topology_queue_remove(f.topology, found.ref.id));
    CHANGES(topology_delete_exchange(f.vhost, VIEW_LIT("x"), false, NULL, &f.err));
    LEAVES(topology_delete_exchange(f.vhost, VIEW_LIT("x"), false, NULL, &f.err));
#undef CHANGES
#undef LEAVES
    fixture_fini(&f);
}

static void
thousands_come_and_go(void **state)
{
    enum { N = 20000 };
    uint64_t *ids = calloc(N, sizeof(uint64_t));
    struct fixture f;
    char name[32];

    (void)state;
    fixture_init(&f, 8, 4);
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "queue-number-%06zu", i);
        ids[i] = queue(&f, name);
        bind_queue(&f, "amq.direct", name, name);
        bind_queue(&f, "amq.topic", name, "same.*");
        bind_queue(&f, "amq.fanout", name, "");
    }
    topology_check(f.topology);
    assert_true(topology_route(f.vhost, VIEW_LIT("amq.fanout"), VIEW_LIT(""), NULL, 0,
                               view_of(NULL, 0), &f.route, &f.err));
    assert_int_equal(f.route.count, N);
    for (size_t i = 1; i < N; i++)
        assert_true(topology_worker_of(f.topology, f.route.targets[i - 1].shard) <=
                    topology_worker_of(f.topology, f.route.targets[i].shard));
    for (size_t i = 0; i < N; i++)
        assert_true(topology_queue_remove(f.topology, ids[i]));
    assert_int_equal(count_bindings(&f), 0);
    free(ids);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vhost_has_the_predeclared_exchanges),
        cmocka_unit_test(exchanges_are_refused_as_rabbitmq_does),
        cmocka_unit_test(exchanges_are_deleted_or_not),
        cmocka_unit_test(queue_arguments_are_refused_as_rabbitmq_does),
        cmocka_unit_test(quorum_queues_are_durable_and_named),
        cmocka_unit_test(a_queue_declared_again_must_be_the_same),
        cmocka_unit_test(an_exclusive_queue_is_its_connections_alone),
        cmocka_unit_test(exclusive_queues_live_where_their_connection_does),
        cmocka_unit_test(queue_names),
        cmocka_unit_test(one_caller_removes_a_queue),
        cmocka_unit_test(a_description_is_the_callers_copy),
        cmocka_unit_test(bindings_are_refused_as_rabbitmq_does),
        cmocka_unit_test(a_binding_is_there_once),
        cmocka_unit_test(auto_delete_exchanges_go_with_their_last_binding),
        cmocka_unit_test(every_change_shows_in_the_version),
        cmocka_unit_test(thousands_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
