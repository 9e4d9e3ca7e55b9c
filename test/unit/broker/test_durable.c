#include "fixture.h"

#include <sqlite3.h>

#include "../store/tmpdir.h"
#include "lepus/broker/policy.h"
#include "lepus/store/metadata.h"

enum { SHARDS = 4 };

struct life {
    struct tmpdir tmp;
    struct metadata *metadata;
    struct fixture f;
};

static void
begin(struct life *life)
{
    struct fixture *f = &life->f;

    *f = (struct fixture){0};
    life->metadata = metadata_open(life->tmp.path, METADATA_WRITE, &f->err);
    if (life->metadata == NULL)
        fail_msg("%s", f->err.text);
    f->topology = topology_open(SHARDS, 2, life->metadata, &f->err);
    if (f->topology == NULL)
        fail_msg("%s", f->err.text);
    f->vhost = topology_find_vhost(f->topology, VIEW_LIT("/"));
    assert_non_null(f->vhost);
    buf_init(&f->arguments, 1 << 20);
    buf_init(&f->properties, 1 << 20);
    route_init(&f->route);
    topology_check(f->topology);
}

/* What was not committed is lost. */
static void
crash(struct life *life)
{
    fixture_fini(&life->f);
    metadata_close(life->metadata);
}

static void
restart(struct life *life)
{
    if (!metadata_commit(life->metadata, &life->f.err))
        fail_msg("%s", life->f.err.text);
    crash(life);
    begin(life);
}

static void
init(struct life *life)
{
    tmpdir_init(&life->tmp);
    begin(life);
}

static void
fini(struct life *life)
{
    crash(life);
    tmpdir_fini(&life->tmp);
}

static struct topology_counts
counts(struct life *life)
{
    struct topology_counts out;

    topology_count(life->f.topology, &out);
    return out;
}

static uint64_t
durable_queue(struct fixture *f, const char *name, const char *flags, const char *arguments)
{
    struct queue_found found;

    assert_int_equal(queue_as(f, name, flags, arguments, &found), QUEUE_CREATED);
    return found.ref.id;
}

#define expect_refusal(call, number, words)                                                        \
    do {                                                                                           \
        assert_false(call);                                                                        \
        assert_string_equal(f->err.text, words);                                                   \
        assert_int_equal(f->err.code, number);                                                     \
    } while (0)

#define assert_routed(key, exchange, queues) assert_string_equal(routed(f, exchange, key), queues)

/* --- what comes back ---------------------------------------------------------------------- */

static void
what_is_durable_comes_back_as_it_was(void **state)
{
    struct queue_description before, after;
    struct life life;
    struct fixture *f = &life.f;
    struct queue_found found;
    uint64_t id;

    (void)state;
    init(&life);
    assert_true(exchange_as(f, "alt", "fanout", "d", ""));
    assert_true(exchange_as(f, "x", "topic", "d", "alternate-exchange:S=alt"));
    assert_true(exchange_as(f, "h", "headers", "di", ""));
    assert_true(exchange_as(f, "auto", "direct", "da", ""));
    id = durable_queue(f, "q", "d", "x-max-length:I=5 x-message-ttl:I=100");
    durable_queue(f, "lost", "d", "");
    assert_true(tie(f, true, BINDING_TO_QUEUE, "x", "q", "a.*", ""));
    assert_true(tie(f, true, BINDING_TO_QUEUE, "amq.direct", "q", "k", ""));
    assert_true(tie(f, true, BINDING_TO_EXCHANGE, "x", "h", "h.#", ""));
    assert_true(tie(f, true, BINDING_TO_EXCHANGE, "auto", "amq.direct", "k", ""));
    assert_true(tie(f, true, BINDING_TO_QUEUE, "h", "q", "", "x-match:S=any n:I=5"));
    assert_true(tie(f, true, BINDING_TO_QUEUE, "alt", "lost", "", ""));
    assert_true(topology_queue_describe(f->topology, id, &before));

    for (int i = 0; i < 3; i++) {
        restart(&life);
        assert_true(topology_queue_describe(f->topology, id, &after));
        assert_int_equal(after.ref.shard, before.ref.shard);
        assert_string_equal(after.name, "q");
        assert_true(after.durable && !after.auto_delete && !after.exclusive);
        assert_int_equal(after.ticket, 0);
        assert_int_equal(after.arguments_len, before.arguments_len);
        assert_memory_equal(after.arguments, before.arguments, after.arguments_len);
        queue_description_fini(&after);
        assert_routed("a.b", "x", "q");
        assert_routed("b.a", "x", "lost"); /* by the alternate exchange */
        assert_routed("k", "auto", "q");
        assert_string_equal(routed_with(f, "x", "h.1", NULL, 0, "n:I=5"), "q");
        assert_null(routed(f, "h", "k")); /* internal still */
        assert_int_equal(queue_as(f, "q", "d", "x-max-length:I=5 x-message-ttl:I=100", &found),
                         QUEUE_FOUND);
        assert_int_equal(found.ref.id, id);
        assert_int_equal(queue_as(f, "q", "d", "x-max-length:I=6", &found), QUEUE_FAILED);
        assert_true(exchange_as(f, "x", "topic", "d", "alternate-exchange:S=alt"));
        assert_false(exchange_as(f, "x", "topic", "d", ""));
        expect_refusal(exchange_as(f, "amq.topic", "topic", "", ""), 406,
                       "inequivalent arg 'durable' for exchange 'amq.topic' in vhost '/': "
                       "received 'false' but current is 'true'");
        assert_int_equal(counts(&life).exchanges, 7 + 4);
        assert_int_equal(counts(&life).queues, 2);
        assert_int_equal(counts(&life).bindings, 6);
    }
    /* and lives on like any other */
    assert_true(tie(f, false, BINDING_TO_EXCHANGE, "auto", "amq.direct", "k", ""));
    assert_false(has_exchange(f, "auto"));
    assert_true(topology_queue_remove(f->topology, id));
    restart(&life);
    assert_int_equal(counts(&life).exchanges, 7 + 3);
    assert_int_equal(counts(&life).queues, 1);
    assert_int_equal(counts(&life).bindings, 2);
    queue_description_fini(&before);
    fini(&life);
}

static void
what_is_transient_does_not(void **state)
{
    struct queue_found found;
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    exchange(f, "t", "topic");
    assert_true(exchange_as(f, "d", "topic", "d", ""));
    queue(f, "qt");
    durable_queue(f, "qd", "d", "");
    assert_int_equal(queue_as(f, "qe", "de", "", &found), QUEUE_CREATED); /* durable, and mine */
    bind_queue(f, "t", "qt", "k");
    bind_queue(f, "t", "qd", "k");
    bind_queue(f, "d", "qt", "k");
    bind_queue(f, "d", "qe", "k");
    bind_exchange(f, "d", "t", "k");
    bind_exchange(f, "t", "d", "k");
    bind_queue(f, "d", "qd", "other");
    restart(&life);
    assert_int_equal(counts(&life).exchanges, 7 + 1);
    assert_int_equal(counts(&life).queues, 1);
    assert_int_equal(counts(&life).bindings, 1);
    assert_routed("other", "d", "qd");
    assert_routed("k", "d", "");
    fini(&life);
}

static void
names_and_keys_of_any_octets_come_back(void **state)
{
    struct queue_spec spec = {.name = {(const uint8_t *)"\xFF\0\x01", 3}, .durable = true};
    struct binding_spec binding = {.source = VIEW_LIT("amq.direct"),
                                   .destination = spec.name,
                                   .routing_key = {(const uint8_t *)"\0\xFE", 2}};
    struct queue_found found;
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    assert_int_equal(topology_declare_queue(f->vhost, &spec, MINE, 0, &found, &f->err),
                     QUEUE_CREATED);
    assert_true(topology_bind(f->vhost, &binding, MINE, NULL, &f->err));
    restart(&life);
    assert_true(topology_route(f->vhost, binding.source, binding.routing_key, NULL, 0,
                               view_of(NULL, 0), &f->route, &f->err));
    assert_int_equal(f->route.count, 1);
    assert_int_equal(f->route.targets[0].id, found.ref.id);
    fini(&life);
}

/* --- ids, tickets ------------------------------------------------------------------------- */

static void
no_id_comes_twice_even_after_a_crash(void **state)
{
    uint64_t last = 0;
    struct life life;

    (void)state;
    init(&life);
    for (int i = 0; i < 5; i++) {
        uint64_t first = queue(&life.f, "a");

        assert_true(first > last);
        last = durable_queue(&life.f, "b", "d", "");
        assert_true(last > first);
        crash(&life);
        begin(&life);
        assert_int_equal(counts(&life).queues, 0);
    }
    fini(&life);
}

static void
ids_that_are_not_reserved_on_disk_are_not_given(void **state)
{
    enum { ENOUGH = 1 << 20 };
    struct queue_found found;
    struct life life;
    struct fixture *f = &life.f;
    struct queue_spec spec = {.name = VIEW_LIT("q")};
    size_t n = 0;

    (void)state;
    init(&life); /* nobody commits: as if the disk refused */
    for (; n < ENOUGH; n++) {
        if (topology_declare_queue(f->vhost, &spec, MINE, 0, &found, &f->err) == QUEUE_FAILED)
            break;
        assert_true(topology_queue_remove(f->topology, found.ref.id));
    }
    assert_in_range(n, 100000, ENOUGH - 1);
    assert_int_equal(f->err.code, INTERNAL_ERROR);
    assert_false(exchange_as(f, "x", "topic", "", ""));
    assert_true(metadata_commit(life.metadata, &f->err));
    for (n = 0; n < ENOUGH; n++) { /* ranges follow each other while they are committed in time */
        assert_int_equal(topology_declare_queue(f->vhost, &spec, MINE, 0, &found, &f->err),
                         QUEUE_CREATED);
        assert_true(topology_queue_remove(f->topology, found.ref.id));
        if (n % 1000 == 0)
            assert_true(metadata_commit(life.metadata, &f->err));
    }
    fini(&life);
}

static void
tickets_tell_what_to_wait_for(void **state)
{
    struct exchange_spec x = {.name = VIEW_LIT("x"), .type = VIEW_LIT("fanout"), .durable = true};
    struct binding_spec b = {.source = x.name, .destination = VIEW_LIT("q")};
    struct queue_found found, again;
    struct queue_description description;
    uint64_t made, ticket;
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    assert_int_equal(metadata_committed(life.metadata), metadata_last(life.metadata));
    assert_true(topology_declare_exchange(f->vhost, &x, &made, &f->err));
    assert_int_equal(made, metadata_last(life.metadata));
    assert_int_equal(queue_as(f, "q", "d", "", &found), QUEUE_CREATED);
    assert_true(found.durable && found.ticket == made + 1);
    assert_true(topology_bind(f->vhost, &b, MINE, &ticket, &f->err));
    assert_int_equal(ticket, found.ticket + 1);

    /* who finds it waits for the same */
    assert_true(topology_declare_exchange(f->vhost, &x, &ticket, &f->err));
    assert_int_equal(ticket, made);
    assert_true(topology_check_exchange(f->vhost, x.name, &ticket, &f->err));
    assert_int_equal(ticket, made);
    assert_int_equal(queue_as(f, "q", "d", "", &again), QUEUE_FOUND);
    assert_int_equal(again.ticket, found.ticket);
    assert_true(topology_find_queue(f->vhost, VIEW_LIT("q"), MINE, &again, &f->err));
    assert_int_equal(again.ticket, found.ticket);
    assert_true(topology_queue_describe(f->topology, found.ref.id, &description));
    assert_int_equal(description.ticket, found.ticket);
    queue_description_fini(&description);
    assert_true(topology_bind(f->vhost, &b, MINE, &ticket, &f->err));
    assert_int_equal(ticket, found.ticket + 1);

    /* what is transient waits for nothing */
    assert_int_equal(queue_as(f, "t", "", "", &again), QUEUE_CREATED);
    assert_true(!again.durable && again.ticket == 0);
    b.destination = VIEW_LIT("t");
    assert_true(topology_bind(f->vhost, &b, MINE, &ticket, &f->err));
    assert_int_equal(ticket, 0);
    assert_true(topology_unbind(f->vhost, &b, MINE, &ticket, &f->err));
    assert_int_equal(ticket, 0);
    assert_int_equal(metadata_last(life.metadata), found.ticket + 1);

    /* what goes, waits, and so does who finds it gone */
    b.destination = VIEW_LIT("q");
    assert_true(topology_unbind(f->vhost, &b, MINE, &made, &f->err));
    assert_int_equal(made, found.ticket + 2);
    assert_true(topology_unbind(f->vhost, &b, MINE, &ticket, &f->err));
    assert_int_equal(ticket, made);
    assert_true(topology_delete_exchange(f->vhost, x.name, false, &made, &f->err));
    assert_int_equal(made, found.ticket + 3);
    assert_true(topology_delete_exchange(f->vhost, x.name, false, &ticket, &f->err));
    assert_int_equal(ticket, made);
    assert_true(topology_queue_remove(f->topology, found.ref.id));
    assert_int_equal(topology_last_ticket(f->topology), made + 1);
    fini(&life);
}

/* --- vhosts ------------------------------------------------------------------------------- */

static void
vhosts_are_made_and_deleted_with_all_in_them(void **state)
{
    struct metadata_vhost row = {.name = VIEW_LIT("second"), .description = VIEW_LIT("a place")};
    struct queue_ref *queues;
    uint32_t deleted;
    struct vhost *second;
    struct life life;
    struct fixture *f = &life.f;
    uint64_t ticket, id;
    size_t n;
    uint32_t number;

    (void)state;
    init(&life);
    assert_true(topology_put_vhost(f->topology, &row, &ticket, &f->err));
    assert_int_equal(ticket, topology_last_ticket(f->topology));
    assert_true(topology_put_vhost(f->topology, &row, NULL, &f->err)); /* once more is fine */
    restart(&life);
    second = topology_find_vhost(f->topology, row.name);
    assert_non_null(second);
    number = vhost_id(second);
    assert_int_equal(counts(&life).exchanges, 2 * 7);

    durable_queue(f, "q", "d", "");
    f->vhost = second;
    id = durable_queue(f, "q", "d", ""); /* names are a vhost's own */
    queue(f, "t");
    assert_true(exchange_as(f, "x", "topic", "d", ""));
    bind_queue(f, "x", "q", "k");
    bind_queue(f, "amq.topic", "q", "k");
    bind_exchange(f, "x", "amq.topic", "k");
    assert_true(
        topology_delete_vhost(f->topology, row.name, &deleted, &queues, &n, &ticket, &f->err));
    assert_int_equal(deleted, number);
    assert_int_equal(n, 2);
    assert_true(queues[0].id == id || queues[1].id == id);
    free(queues);
    topology_check(f->topology);
    assert_int_equal(counts(&life).queues, 1);
    assert_int_equal(counts(&life).exchanges, 7);
    assert_null(topology_find_vhost(f->topology, row.name));
    expect_refusal(exchange_as(f, "x", "topic", "d", ""), 320, "vhost 'second' is deleted");
    assert_int_equal(queue_as(f, "q", "d", "", &(struct queue_found){0}), QUEUE_FAILED);
    assert_int_equal(f->err.code, 320);
    assert_null(routed(f, "amq.topic", "k"));
    assert_null(routed(f, "", "q"));
    assert_false(
        topology_delete_vhost(f->topology, row.name, &deleted, &queues, &n, NULL, &f->err));
    assert_int_equal(f->err.code, 404);

    restart(&life);
    assert_null(topology_find_vhost(f->topology, row.name));
    assert_int_equal(counts(&life).queues, 1);
    assert_int_equal(counts(&life).bindings, 0);
    assert_true(topology_put_vhost(f->topology, &row, NULL, &f->err));
    assert_true(vhost_id(topology_find_vhost(f->topology, row.name)) > number);
    fini(&life);
}

static void
a_broker_whose_vhosts_were_all_deleted_makes_none(void **state)
{
    struct queue_ref *queues;
    uint32_t deleted;
    struct life life;
    size_t n;

    (void)state;
    init(&life);
    assert_true(topology_delete_vhost(life.f.topology, VIEW_LIT("/"), &deleted, &queues, &n, NULL,
                                      &life.f.err));
    free(queues);
    assert_true(metadata_commit(life.metadata, &life.f.err));
    crash(&life);
    life.metadata = metadata_open(life.tmp.path, METADATA_WRITE, &life.f.err);
    life.f.topology = topology_open(SHARDS, 1, life.metadata, &life.f.err);
    assert_non_null(life.f.topology);
    assert_null(topology_find_vhost(life.f.topology, VIEW_LIT("/")));
    topology_free(life.f.topology);
    metadata_close(life.metadata);
    tmpdir_fini(&life.tmp);
}

/* --- rows that cannot be ------------------------------------------------------------------ */

static void
edit(struct life *life, const char *sql)
{
    sqlite3 *db;
    char *wrong = NULL;

    assert_int_equal(sqlite3_open(tmpdir_file(&life->tmp, "metadata.sqlite"), &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &wrong) != SQLITE_OK)
        fail_msg("%s", wrong);
    sqlite3_close(db);
}

static void
a_row_that_cannot_be_stops_the_start_by_name(void **state)
{
    static const struct {
        const char *spoil, *mend, *words;
    } rows[] = {
        {"UPDATE exchanges SET type = 'x-odd' WHERE name = 'x'",
         "UPDATE exchanges SET type = 'topic' WHERE name = 'x'", "its type 'x-odd' is unknown"},
        {"UPDATE queues SET shard = 4", "UPDATE queues SET shard = 1",
         "its shard is 4, and there are 4"},
        {"UPDATE queues SET vhost = 9", "UPDATE queues SET vhost = 1", "there is no vhost 9"},
        {"UPDATE queues SET id = 99999999", "UPDATE queues SET id = 9",
         "its id was never given, or is another's too"},
        {"UPDATE bindings SET destination = 77", "UPDATE bindings SET destination = 9",
         "one of them is missing, or cannot be bound"},
        {"UPDATE bindings SET source = 1", "UPDATE bindings SET source = 8",
         "one of them is missing, or cannot be bound"},
        {"UPDATE queues SET arguments = x'ff'", "UPDATE queues SET arguments = x''",
         "table queues, column arguments: not what it can be"},
        {"UPDATE vhosts SET id = 5", "UPDATE vhosts SET id = 1", "its id was never given"},
    };
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    assert_true(exchange_as(f, "x", "topic", "d", ""));
    assert_int_equal(durable_queue(f, "q", "d", ""), 9); /* seven are predeclared */
    bind_queue(f, "x", "q", "k");
    restart(&life);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct metadata *metadata;
        struct err err;

        edit(&life, rows[i].spoil);
        metadata = metadata_open(life.tmp.path, METADATA_WRITE, &err);
        assert_non_null(metadata);
        assert_null(topology_open(SHARDS, 1, metadata, &err));
        if (strstr(err.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].spoil, err.text);
        metadata_close(metadata);
        edit(&life, rows[i].mend);
        restart(&life);
        assert_routed("k", "x", "q");
    }
    fini(&life);
}

/* --- random lives ------------------------------------------------------------------------- */

enum { NAMES = 6, STEPS = 4000 };
static const char *const kinds[] = {"direct", "fanout", "topic", "headers", "x-modulus-hash"};

static void
random_step(struct fixture *f, struct random *random)
{
    char x[8], y[8], key[8];
    size_t from = random_below(random, NAMES), to = random_below(random, NAMES);
    const char *arguments = random_below(random, 4) == 0 ? "n:I=1 m:I=2" : "";
    struct queue_found found;

    snprintf(x, sizeof(x), "x%zu", from);
    snprintf(y, sizeof(y), "%c%zu", random_below(random, 3) == 0 ? 'x' : 'q', to);
    snprintf(key, sizeof(key), "k%zu", random_below(random, 3));
    switch (random_below(random, 12)) {
    case 0:
        exchange_as(f, x, kinds[from % COUNT_OF(kinds)], random_below(random, 3) ? "d" : "da", "");
        break;
    case 1:
        topology_delete_exchange(f->vhost, view_str(x), false, NULL, &f->err);
        break;
    case 2:
        if (y[0] == 'q' && topology_find_queue(f->vhost, view_str(y), MINE, &found, &f->err))
            topology_queue_remove(f->topology, found.ref.id);
        break;
    case 3:
    case 4:
        if (y[0] == 'q')
            queue_as(f, y, "d", arguments, &found);
        break;
    case 5:
        tie(f, false, y[0] == 'q' ? BINDING_TO_QUEUE : BINDING_TO_EXCHANGE, x, y, key, arguments);
        break;
    default:
        tie(f, true, y[0] == 'q' ? BINDING_TO_QUEUE : BINDING_TO_EXCHANGE, x, y, key, arguments);
        break;
    }
}

/* Everything that can be asked, as text. */
static void
describe(struct life *life, char *to, size_t size)
{
    struct fixture *f = &life->f;
    struct topology_counts n = counts(life);
    size_t at = (size_t)snprintf(to, size, "%zu %zu %zu\n", n.exchanges, n.queues, n.bindings);

    for (int i = 0; i < NAMES; i++) {
        char x[8], q[8], key[8];
        struct queue_found found = {0};

        snprintf(x, sizeof(x), "x%d", i);
        snprintf(q, sizeof(q), "q%d", i);
        topology_find_queue(f->vhost, view_str(q), MINE, &found, &f->err);
        at += (size_t)snprintf(to + at, size - at, "%s %llu %u\n", q,
                               (unsigned long long)found.ref.id, found.ref.shard);
        for (int k = 0; k < 3; k++) {
            const char *text;

            snprintf(key, sizeof(key), "k%d", k);
            text = routed_with(f, x, key, NULL, 0, k == 0 ? "n:I=1" : "n:I=1 m:I=2");
            at += (size_t)snprintf(to + at, size - at, "%s %s: %s\n", x, key,
                                   text != NULL ? text : "-");
        }
        assert_true(at < size);
    }
}

static bool
put_policy(struct fixture *f, const char *name, bool is_operator, const char *definition,
           uint64_t *out_ticket)
{
    struct policy_spec spec = {
        .name = view_str(name),
        .is_operator = is_operator,
        .pattern = VIEW_LIT("^q"),
        .apply_to = VIEW_LIT("all"),
        .priority = -7,
        .definition = view_str(definition),
    };

    return policy_put(f->vhost, &spec, POLICY_KEEPS_UNKNOWN, out_ticket, &f->err);
}

static void
note_policy(void *arg, const struct policy_spec *policy)
{
    char *text = arg;
    size_t len = strlen(text);

    snprintf(text + len, 512 - len, "%s" VIEW_FMT " " VIEW_FMT " " VIEW_FMT " %d " VIEW_FMT "\n",
             policy->is_operator ? "operator " : "", VIEW_ARG(policy->name),
             VIEW_ARG(policy->pattern), VIEW_ARG(policy->apply_to), (int)policy->priority,
             VIEW_ARG(policy->definition));
}

static void
policies_come_back_and_hold(void **state)
{
    uint64_t ticket = 0;
    char text[512] = "";
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    exchange_as(f, "qx", "direct", "d", "");
    durable_queue(f, "q", "d", "");
    bind_queue(f, "amq.fanout", "q", "");
    assert_true(
        put_policy(f, "p", false, "{\"alternate-exchange\":\"amq.fanout\",\"odd\":1}", &ticket));
    assert_true(ticket > metadata_committed(life.metadata));
    assert_true(put_policy(f, "p", true, "{\"max-length\":5}", NULL));
    assert_true(put_policy(f, "gone", false, "{\"max-length\":5}", NULL));
    assert_true(policy_remove(f->vhost, false, VIEW_LIT("gone"), &ticket, &f->err));
    assert_true(ticket > metadata_committed(life.metadata));
    for (int i = 0; i < 2; i++) {
        restart(&life);
        text[0] = '\0';
        policy_each(f->vhost, note_policy, text);
        assert_string_equal(text, "p ^q all -7 {\"alternate-exchange\":\"amq.fanout\",\"odd\":1}\n"
                                  "operator p ^q all -7 {\"max-length\":5}\n");
        assert_string_equal(routed(f, "qx", "nowhere"), "q");
    }
    assert_true(policy_remove(f->vhost, false, VIEW_LIT("p"), NULL, &f->err));
    restart(&life);
    assert_string_equal(routed(f, "qx", "nowhere"), "");
    fini(&life);
}

static const char *
type_of(struct fixture *f, const char *name, const char *flags, const char *arguments)
{
    struct queue_description d;
    struct queue_found found = {0};
    struct field type;

    assert_int_not_equal(queue_as(f, name, flags, arguments, &found), QUEUE_FAILED);
    assert_int_equal(queue_as(f, found.name, flags, arguments, &found), QUEUE_FOUND);
    assert_true(topology_queue_describe(f->topology, found.ref.id, &d));
    f->text[0] = '\0';
    if (table_find(view_of(d.arguments, d.arguments_len), VIEW_LIT("x-queue-type"), &type))
        snprintf(f->text, sizeof(f->text), VIEW_FMT, VIEW_ARG(type.bytes));
    queue_description_fini(&d);
    return f->text;
}

static void
vhosts_have_a_default_type_of_queues(void **state)
{
    struct metadata_vhost row = {.name = VIEW_LIT("/"), .default_queue_type = VIEW_LIT("quorum")};
    struct queue_found found;
    struct life life;
    struct fixture *f = &life.f;

    (void)state;
    init(&life);
    durable_queue(f, "before", "d", "");
    assert_true(topology_put_vhost(f->topology, &row, NULL, &f->err));
    for (int i = 0; i < 2; i++) {
        assert_string_equal(type_of(f, "before", "d", ""), "");
        assert_string_equal(type_of(f, "plain", "d", ""), "quorum");
        assert_string_equal(type_of(f, "more", "d", "x-max-length:I=5"), "quorum");
        assert_string_equal(type_of(f, "said", "d", "x-queue-type:S=classic"), "classic");
        assert_string_equal(type_of(f, "stream", "d", "x-queue-type:S=stream"), "stream");
        assert_string_equal(type_of(f, "transient", "", ""), "");
        assert_string_equal(type_of(f, "exclusive", "de", ""), "");
        assert_string_equal(type_of(f, "auto", "da", ""), "");
        restart(&life);
    }
    assert_int_equal(queue_as(f, "", "d", "", &found), QUEUE_CREATED); /* named by the server */
    assert_int_equal(queue_as(f, "p", "d", "x-max-priority:I=5", &found), QUEUE_FAILED);
    assert_string_equal(f->err.text, "invalid arg 'x-max-priority' for queue 'p' in vhost '/' of "
                                     "queue type rabbit_quorum_queue");
    row.default_queue_type = VIEW_LIT("");
    assert_true(topology_put_vhost(f->topology, &row, NULL, &f->err));
    assert_string_equal(type_of(f, "classic", "d", ""), "");
    assert_int_equal(queue_as(f, "plain", "d", "", &found), QUEUE_FAILED);
    assert_string_equal(f->err.text,
                        "inequivalent arg 'x-queue-type' for queue 'plain' in vhost '/': received "
                        "none but current is the value 'quorum' of type 'longstr'");
    fini(&life);
}

/* What an operator broke in the file harms the policy alone. */
static void
a_policy_that_cannot_be_is_left_alone(void **state)
{
    struct life life;
    char text[512] = "";

    (void)state;
    init(&life);
    assert_true(put_policy(&life.f, "p", false, "{\"max-length\":5}", NULL));
    metadata_put_policy(life.metadata, &(struct metadata_policy){.vhost = vhost_id(life.f.vhost),
                                                                 .name = VIEW_LIT("broken"),
                                                                 .pattern = VIEW_LIT("a(b"),
                                                                 .apply_to = VIEW_LIT("all"),
                                                                 .definition = VIEW_LIT("{}")});
    restart(&life);
    policy_each(life.f.vhost, note_policy, text);
    assert_string_equal(text, "p ^q all -7 {\"max-length\":5}\n");
    fini(&life);
}

static void
random_lives_come_back_as_they_were(void **state)
{
    static char before[8192], after[8192];
    struct random random = {2718};
    struct life life;

    (void)state;
    init(&life);
    for (int i = 0; i < STEPS; i++) {
        random_step(&life.f, &random);
        if (i % 40 != 39)
            continue;
        describe(&life, before, sizeof(before));
        restart(&life);
        describe(&life, after, sizeof(after));
        assert_string_equal(before, after);
    }
    fini(&life);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_durable_comes_back_as_it_was),
        cmocka_unit_test(what_is_transient_does_not),
        cmocka_unit_test(names_and_keys_of_any_octets_come_back),
        cmocka_unit_test(no_id_comes_twice_even_after_a_crash),
        cmocka_unit_test(ids_that_are_not_reserved_on_disk_are_not_given),
        cmocka_unit_test(tickets_tell_what_to_wait_for),
        cmocka_unit_test(vhosts_are_made_and_deleted_with_all_in_them),
        cmocka_unit_test(a_broker_whose_vhosts_were_all_deleted_makes_none),
        cmocka_unit_test(a_row_that_cannot_be_stops_the_start_by_name),
        cmocka_unit_test(vhosts_have_a_default_type_of_queues),
        cmocka_unit_test(policies_come_back_and_hold),
        cmocka_unit_test(a_policy_that_cannot_be_is_left_alone),
        cmocka_unit_test(random_lives_come_back_as_they_were),
    };

    return cmocka_run_group_tests_name("durable", tests, NULL, NULL);
}
