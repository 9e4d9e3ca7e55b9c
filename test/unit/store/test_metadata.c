#include "unit.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "lepus/base/buf.h"
#include "lepus/base/clock.h"
#include "lepus/store/metadata.h"
#include "lepus/wire/table.h"
#include "tmpdir.h"

enum { DEADLINE_MS = 30000 };

struct fixture {
    struct tmpdir tmp;
    struct metadata *metadata;
    struct err err;
    char text[4096]; /* what a walk has told */
    struct buf arguments;
};

static void
reopen(struct fixture *f)
{
    metadata_close(f->metadata);
    f->metadata = metadata_open(f->tmp.path, METADATA_WRITE, &f->err);
    if (f->metadata == NULL)
        fail_msg("%s", f->err.text);
}

static void
init(struct fixture *f)
{
    *f = (struct fixture){0};
    tmpdir_init(&f->tmp);
    buf_init(&f->arguments, 1 << 20);
    reopen(f);
}

static void
fini(struct fixture *f)
{
    metadata_close(f->metadata);
    buf_fini(&f->arguments);
    tmpdir_fini(&f->tmp);
}

static void
commit(struct fixture *f)
{
    if (!metadata_commit(f->metadata, &f->err))
        fail_msg("%s", f->err.text);
    assert_int_equal(metadata_committed(f->metadata), metadata_last(f->metadata));
}

/* One value, asked of the database as an operator would. */
static const char *
asked(struct fixture *f, const char *sql)
{
    sqlite3_stmt *statement;
    sqlite3 *db;

    assert_int_equal(sqlite3_open(tmpdir_file(&f->tmp, "metadata.sqlite"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    f->text[0] = '\0';
    if (sqlite3_step(statement) == SQLITE_ROW)
        snprintf(f->text, sizeof(f->text), "%s", (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return f->text;
}

static struct metadata_queue
queue_row(uint64_t id, struct view name)
{
    return (struct metadata_queue){.id = id, .vhost = 1, .shard = id % 4, .name = name};
}

/* --- rows --------------------------------------------------------------------------------- */

struct walked {
    size_t n;
    bool (*check)(size_t n, const union metadata_row *row);
};

static bool
on_row(void *arg, const union metadata_row *row, struct err *err)
{
    struct walked *walked = arg;

    return walked->check(walked->n++, row) || err_set(err, INTERNAL_ERROR, "row %zu", walked->n);
}

static size_t
walk(struct fixture *f, enum metadata_table table,
     bool (*check)(size_t, const union metadata_row *))
{
    struct walked walked = {.check = check};

    if (!metadata_walk(f->metadata, table, on_row, &walked, &f->err))
        fail_msg("%s", f->err.text);
    return walked.n;
}

static bool
any(size_t n, const union metadata_row *row)
{
    (void)n;
    (void)row;
    return true;
}

static bool
is_policy(size_t n, const union metadata_row *row)
{
    const struct metadata_policy *p = &row->policy;

    return n == 0 && p->vhost == 3 && p->is_operator && p->priority == -7 &&
           view_equal(p->name, VIEW_LIT("limits")) && view_equal(p->pattern, VIEW_LIT("^a.*")) &&
           view_equal(p->apply_to, VIEW_LIT("queues")) &&
           view_equal(p->definition, VIEW_LIT("{\"max-length\":5}"));
}

static bool
is_user(size_t n, const union metadata_row *row)
{
    const struct metadata_user *u = &row->user;

    return n == 0 && view_equal(u->name, VIEW_LIT("ann")) &&
           view_equal(u->password_hash,
                      VIEW_LIT("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")) &&
           view_equal(u->hashing_algorithm, VIEW_LIT("rabbit_password_hashing_sha256")) &&
           view_equal(u->tags, VIEW_LIT("administrator,monitoring")) && u->limits.len == 0;
}

static void
rows_of_every_table_come_back(void **state)
{
    static const size_t counts[METADATA_TABLE_COUNT] = {
        [METADATA_counters] = 2,
        [METADATA_vhosts] = 1,
        [METADATA_users] = 1,
        [METADATA_permissions] = 1,
        [METADATA_topic_permissions] = 1,
        [METADATA_parameters] = 1,
        [METADATA_global_parameters] = 1,
        [METADATA_policies] = 1,
        [METADATA_exchanges] = 1,
        [METADATA_queues] = 1,
        [METADATA_bindings] = 1,
    };
    struct view any_text = VIEW_LIT(".*");
    struct fixture f;

    (void)state;
    init(&f);
    metadata_put_counter(f.metadata, &(struct metadata_counter){VIEW_LIT("last_id"), 9});
    metadata_put_vhost(f.metadata, &(struct metadata_vhost){.id = 3, .name = VIEW_LIT("/")});
    metadata_put_user(
        f.metadata,
        &(struct metadata_user){
            .name = VIEW_LIT("ann"),
            .password_hash = VIEW_LIT("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"),
            .hashing_algorithm = VIEW_LIT("rabbit_password_hashing_sha256"),
            .tags = VIEW_LIT("administrator,monitoring"),
        });
    metadata_put_permission(f.metadata, &(struct metadata_permission){VIEW_LIT("ann"), 3, any_text,
                                                                      any_text, any_text});
    metadata_put_topic_permission(
        f.metadata,
        &(struct metadata_topic_permission){VIEW_LIT("ann"), 3, VIEW_LIT("x"), any_text, any_text});
    metadata_put_parameter(f.metadata,
                           &(struct metadata_parameter){3, VIEW_LIT("vhost-limits"),
                                                        VIEW_LIT("limits"), VIEW_LIT("{}")});
    metadata_put_global_parameter(
        f.metadata, &(struct metadata_global_parameter){VIEW_LIT("cluster_name"), VIEW_LIT("1")});
    metadata_put_policy(f.metadata, &(struct metadata_policy){
                                        .vhost = 3,
                                        .is_operator = true,
                                        .name = VIEW_LIT("limits"),
                                        .pattern = VIEW_LIT("^a.*"),
                                        .apply_to = VIEW_LIT("queues"),
                                        .priority = -7,
                                        .definition = VIEW_LIT("{\"max-length\":5}"),
                                    });
    metadata_put_exchange(f.metadata, &(struct metadata_exchange){.id = 4,
                                                                  .vhost = 3,
                                                                  .name = VIEW_LIT("x"),
                                                                  .type = VIEW_LIT("topic"),
                                                                  .internal = true});
    metadata_put_queue(f.metadata, &(struct metadata_queue){.id = 5, .vhost = 3, .shard = 2});
    metadata_put_binding(f.metadata, &(struct metadata_binding){.source = 4, .destination = 5});
    commit(&f);
    reopen(&f);
    for (unsigned table = 0; table < METADATA_TABLE_COUNT; table++)
        assert_int_equal(walk(&f, table, any), counts[table]);
    walk(&f, METADATA_policies, is_policy);
    walk(&f, METADATA_users, is_user);

    /* what belongs to a vhost goes with it */
    metadata_remove_vhost(f.metadata, &(struct metadata_vhost){.id = 3});
    commit(&f);
    assert_int_equal(walk(&f, METADATA_permissions, any), 0);
    assert_int_equal(walk(&f, METADATA_topic_permissions, any), 0);
    assert_int_equal(walk(&f, METADATA_parameters, any), 0);
    assert_int_equal(walk(&f, METADATA_policies, any), 0);
    assert_int_equal(walk(&f, METADATA_global_parameters, any), 1);
    fini(&f);
}

static const struct view odd_names[] = {
    {(const uint8_t *)"", 0},         {(const uint8_t *)"caf\xC3\xA9", 5},
    {(const uint8_t *)"\xFF\xFE", 2}, {(const uint8_t *)"a\0b", 3},
    {(const uint8_t *)"\0", 1},       {(const uint8_t *)"' OR 1=1; --", 12},
    {(const uint8_t *)"123", 3},
};

static bool
is_odd(size_t n, const union metadata_row *row)
{
    return view_equal(row->queue.name, odd_names[n]) && row->queue.id == n + 1;
}

static void
names_may_hold_any_octets(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    for (uint64_t i = 0; i < COUNT_OF(odd_names); i++) {
        struct metadata_queue row = queue_row(i + 1, odd_names[i]);

        metadata_put_queue(f.metadata, &row);
        metadata_put_user(f.metadata, &(struct metadata_user){.name = odd_names[i]});
    }
    commit(&f);
    reopen(&f);
    assert_int_equal(walk(&f, METADATA_queues, is_odd), COUNT_OF(odd_names));
    assert_string_equal(asked(&f, "SELECT group_concat(typeof(name)) FROM (SELECT name FROM queues "
                                  "ORDER BY id)"),
                        "text,text,blob,blob,blob,text,text");
    for (size_t i = 0; i < COUNT_OF(odd_names); i++) /* each is a key of its own */
        metadata_remove_user(f.metadata, &(struct metadata_user){.name = odd_names[i]});
    commit(&f);
    assert_int_equal(walk(&f, METADATA_users, any), 0);
    fini(&f);
}

static void
an_operator_reads_names_and_arguments(void **state)
{
    struct metadata_binding binding = {
        .source = 1, .destination = 2, .vhost = 1, .routing_key = VIEW_LIT("k")};
    struct metadata_queue queue = queue_row(2, VIEW_LIT("orders"));
    struct fixture f;
    size_t begun;

    (void)state;
    init(&f);
    table_put_i32(&f.arguments, VIEW_LIT("x-max-length"), -5);
    table_put_longstr(&f.arguments, VIEW_LIT("x-\"odd\""), VIEW_LIT("\xFF\n"));
    begun = table_begin_table(&f.arguments, VIEW_LIT("nested"));
    table_put_bool(&f.arguments, VIEW_LIT("b"), true);
    table_end(&f.arguments, begun);
    queue.arguments = buf_view(&f.arguments);
    binding.arguments = buf_view(&f.arguments);
    metadata_put_vhost(f.metadata, &(struct metadata_vhost){.id = 1, .name = VIEW_LIT("/")});
    metadata_put_exchange(
        f.metadata, &(struct metadata_exchange){
                        .id = 1, .vhost = 1, .name = VIEW_LIT("x"), .type = VIEW_LIT("direct")});
    metadata_put_queue(f.metadata, &queue);
    metadata_put_binding(f.metadata, &binding);
    commit(&f);
    assert_string_equal(asked(&f, "SELECT name FROM queues"), "orders");
    assert_string_equal(
        asked(&f, "SELECT json_extract(arguments_json, '$.\"x-max-length\"') FROM queues"), "-5");
    assert_string_equal(
        asked(&f, "SELECT arguments_json FROM queues"),
        "{\"x-max-length\":-5,\"x-\\\"odd\\\"\":\"\\u00ff\\u000a\",\"nested\":{\"b\":true}}");
    assert_string_equal(asked(&f, "SELECT vhost || source || routing_key || destination_type "
                                  "|| destination FROM binding_names"),
                        "/xkqueueorders");
    metadata_remove_binding(f.metadata, &binding);
    commit(&f);
    assert_int_equal(walk(&f, METADATA_bindings, any), 0);
    fini(&f);
}

static void
tickets_go_on_and_the_last_change_of_a_key_stands(void **state)
{
    struct metadata_queue row = queue_row(1, VIEW_LIT("a"));
    struct fixture f;
    uint64_t ticket;

    (void)state;
    init(&f);
    assert_int_equal(metadata_last(f.metadata), 0);
    assert_int_equal(metadata_put_queue(f.metadata, &row), 1);
    assert_int_equal(metadata_remove_queue(f.metadata, &row), 2);
    row.name = VIEW_LIT("b");
    ticket = metadata_put_queue(f.metadata, &row);
    assert_int_equal(metadata_committed(f.metadata), 0);
    commit(&f);
    reopen(&f);
    assert_int_equal(ticket, 3);
    assert_int_equal(metadata_last(f.metadata), 3);
    assert_int_equal(metadata_committed(f.metadata), 3);
    assert_string_equal(asked(&f, "SELECT name FROM queues"), "b");
    assert_string_equal(asked(&f, "SELECT value FROM counters WHERE name = 'applied'"), "3");

    metadata_put_queue(f.metadata, &row); /* never committed: it never was */
    reopen(&f);
    assert_int_equal(metadata_last(f.metadata), 3);
    fini(&f);
}

static void
what_is_not_ours_or_newer_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    metadata_close(f.metadata);
    asked(&f, "PRAGMA user_version = 2");
    f.metadata = metadata_open(f.tmp.path, METADATA_WRITE, &f.err);
    assert_null(f.metadata);
    assert_non_null(strstr(f.err.text, "format version 2, written by a newer lepusd"));
    asked(&f, "PRAGMA application_id = 5");
    assert_null(metadata_open(f.tmp.path, METADATA_WRITE, &f.err));
    assert_non_null(strstr(f.err.text, "not a database of lepusd's"));
    assert_int_equal(unlink(tmpdir_file(&f.tmp, "metadata.sqlite")), 0);
    assert_null(metadata_open(f.tmp.path, METADATA_LOOK, &f.err));
    fini(&f);
}

static void
one_may_look_while_another_writes(void **state)
{
    struct metadata *looking;
    struct fixture f;

    (void)state;
    init(&f);
    metadata_put_vhost(f.metadata, &(struct metadata_vhost){.id = 3, .name = VIEW_LIT("/")});
    commit(&f);
    looking = metadata_open(f.tmp.path, METADATA_LOOK, &f.err);
    assert_non_null(looking);
    assert_int_equal(metadata_last(looking), 1);
    metadata_put_vhost(f.metadata, &(struct metadata_vhost){.id = 4, .name = VIEW_LIT("b")});
    commit(&f);
    metadata_close(looking);
    fini(&f);
}

/* --- the writer --------------------------------------------------------------------------- */

struct ears {
    _Atomic uint64_t committed; /* told to a listener */
    atomic_int calls;
    atomic_int troubles, recoveries;
    struct worker_set *set;
    struct worker *worker;
};

static void
on_trouble(void *arg, const struct err *why)
{
    struct ears *ears = arg;

    (*(why != NULL ? &ears->troubles : &ears->recoveries))++;
}

static void
on_committed(void *arg, uint64_t ticket)
{
    struct ears *ears = arg;

    if (!worker_is_here(ears->worker) || ticket < ears->committed)
        abort();
    ears->calls++;
    ears->committed = ticket;
}

static void
start(struct fixture *f, struct ears *ears)
{
    static const struct metadata_ops ops = {.trouble = on_trouble};

    *ears = (struct ears){.set = worker_set_new(2, &f->err)};
    assert_non_null(ears->set);
    ears->worker = worker_set_get(ears->set, 1);
    metadata_set_ops(f->metadata, &ops, ears);
    metadata_listen(f->metadata, ears->worker, on_committed, ears);
    assert_true(worker_set_start(ears->set, &f->err));
    assert_true(metadata_start(f->metadata, &f->err));
}

static void
stop(struct fixture *f, struct ears *ears)
{
    worker_set_stop(ears->set);
    if (!metadata_stop(f->metadata, &f->err))
        fail_msg("%s", f->err.text);
    worker_set_free(ears->set);
}

#define await(condition)                                                                           \
    for (uint64_t until = clock_now_ms() + DEADLINE_MS; !(condition);) {                           \
        if (clock_now_ms() > until)                                                                \
            fail_msg("not within %d ms: %s", DEADLINE_MS, #condition);                             \
        usleep(500);                                                                               \
    }

static void
listeners_hear_of_commits_on_their_worker(void **state)
{
    enum { N = 20000 };
    struct ears ears;
    struct fixture f;
    uint64_t ticket = 0;

    (void)state;
    init(&f);
    start(&f, &ears);
    for (uint64_t id = 1; id <= N; id++) {
        struct metadata_queue row = queue_row(id, VIEW_LIT("q"));

        ticket = metadata_put_queue(f.metadata, &row);
    }
    await(ears.committed == ticket);
    assert_in_range(ears.calls, 1, N / 10); /* they went together */
    assert_int_equal(metadata_committed(f.metadata), N);
    assert_int_equal(ears.troubles, 0);
    stop(&f, &ears);
    reopen(&f);
    assert_int_equal(walk(&f, METADATA_queues, any), N);
    fini(&f);
}

static void
the_stop_writes_what_waits(void **state)
{
    struct ears ears;
    struct fixture f;

    (void)state;
    init(&f);
    start(&f, &ears);
    for (uint64_t id = 1; id <= 5000; id++) {
        struct metadata_queue row = queue_row(id, VIEW_LIT("q"));

        metadata_put_queue(f.metadata, &row);
    }
    stop(&f, &ears);
    reopen(&f);
    assert_int_equal(walk(&f, METADATA_queues, any), 5000);
    fini(&f);
}

static void
trouble_is_told_once_and_ends_by_itself(void **state)
{
    struct metadata_queue row = queue_row(1, VIEW_LIT("q"));
    struct ears ears;
    struct fixture f;
    sqlite3 *other;

    (void)state;
    init(&f);
    start(&f, &ears);
    assert_int_equal(sqlite3_open(tmpdir_file(&f.tmp, "metadata.sqlite"), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    metadata_put_queue(f.metadata, &row);
    await(ears.troubles == 1);
    row.id = 2;
    metadata_put_queue(f.metadata, &row);
    assert_int_equal(metadata_committed(f.metadata), 0);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    await(ears.recoveries == 1);
    await(ears.committed == 2);
    assert_int_equal(ears.troubles, 1);
    stop(&f, &ears);
    reopen(&f);
    assert_int_equal(walk(&f, METADATA_queues, any), 2);
    fini(&f);
}

static void
settling_waits_for_the_writer_or_writes_itself(void **state)
{
    struct metadata_queue row = queue_row(1, VIEW_LIT("q"));
    struct ears ears;
    struct fixture f;
    sqlite3 *other;

    (void)state;
    init(&f);
    metadata_put_queue(f.metadata, &row);
    assert_true(metadata_settle(f.metadata, 0, &f.err));
    assert_int_equal(metadata_committed(f.metadata), 1);
    start(&f, &ears);
    assert_true(metadata_settle(f.metadata, 0, &f.err)); /* nothing waits */
    for (row.id = 2; row.id <= 100; row.id++) {
        metadata_put_queue(f.metadata, &row);
        assert_true(metadata_settle(f.metadata, DEADLINE_MS, &f.err));
        assert_int_equal(metadata_committed(f.metadata), row.id);
    }
    assert_int_equal(sqlite3_open(tmpdir_file(&f.tmp, "metadata.sqlite"), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    metadata_put_queue(f.metadata, &row);
    assert_false(metadata_settle(f.metadata, 20, &f.err));
    assert_string_equal(f.err.text, "definitions cannot be written to disk at the moment");
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    assert_true(metadata_settle(f.metadata, DEADLINE_MS, &f.err));
    stop(&f, &ears);
    fini(&f);
}

/* As on a full disk: every write beyond the limit fails (EFBIG), and the database has to take it
 * back. */
static void
a_disk_that_takes_no_more_loses_nothing(void **state)
{
    struct rlimit limit, none;
    struct ears ears;
    struct fixture f;
    uint64_t id = 0;

    (void)state;
    init(&f);
    signal(SIGXFSZ, SIG_IGN);
    start(&f, &ears);
    getrlimit(RLIMIT_FSIZE, &none);
    limit = none;
    limit.rlim_cur = 64 * 1024;
    setrlimit(RLIMIT_FSIZE, &limit);
    while (ears.troubles == 0 && id < 1000000) {
        struct metadata_queue row = queue_row(++id, VIEW_LIT("a queue that takes some room"));

        metadata_put_queue(f.metadata, &row);
        if (id % 1000 == 0)
            usleep(1000);
    }
    assert_int_equal(ears.troubles, 1);
    assert_true(metadata_committed(f.metadata) < id);
    setrlimit(RLIMIT_FSIZE, &none);
    await(ears.committed == id);
    assert_int_equal(ears.recoveries, 1);
    stop(&f, &ears);
    reopen(&f);
    assert_int_equal(walk(&f, METADATA_queues, any), id);
    assert_string_equal(asked(&f, "PRAGMA integrity_check"), "ok");
    fini(&f);
}

static void
a_stop_in_trouble_ends_and_tells_what_is_lost(void **state)
{
    struct metadata_queue row = queue_row(1, VIEW_LIT("q"));
    struct ears ears;
    struct fixture f;
    sqlite3 *other;

    (void)state;
    init(&f);
    start(&f, &ears);
    assert_int_equal(sqlite3_open(tmpdir_file(&f.tmp, "metadata.sqlite"), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    metadata_put_queue(f.metadata, &row);
    await(ears.troubles == 1);
    worker_set_stop(ears.set);
    assert_false(metadata_stop(f.metadata, &f.err));
    assert_string_equal(f.err.text, "1 changes of definitions could not be written");
    worker_set_free(ears.set);
    sqlite3_close(other);
    fini(&f);
}

/* --- random changes against a model ------------------------------------------------------- */

enum { MODEL = 40 };
static uint64_t model[MODEL]; /* shard of queue i + 1, plus one; 0: there is none */

static bool
is_in_model(size_t n, const union metadata_row *row)
{
    (void)n;
    return row->queue.id <= MODEL && model[row->queue.id - 1] == row->queue.shard + 1;
}

static void
random_changes_leave_what_a_model_says(void **state)
{
    struct random random = {4711};
    struct fixture f;
    size_t there;

    (void)state;
    init(&f);
    memset(model, 0, sizeof(model));
    for (int round = 0; round < 300; round++) {
        for (size_t n = random_below(&random, 30); n > 0; n--) {
            size_t i = random_below(&random, MODEL);
            struct metadata_queue row = {.id = i + 1, .shard = random_below(&random, 9)};
            bool is_put = random_below(&random, 2) == 0;

            model[i] = is_put ? row.shard + 1 : 0;
            (is_put ? metadata_put_queue : metadata_remove_queue)(f.metadata, &row);
        }
        commit(&f);
        if (round % 10 == 0)
            reopen(&f);
        there = 0;
        for (size_t i = 0; i < MODEL; i++)
            there += model[i] != 0;
        assert_int_equal(walk(&f, METADATA_queues, is_in_model), there);
    }
    fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_table_come_back),
        cmocka_unit_test(names_may_hold_any_octets),
        cmocka_unit_test(an_operator_reads_names_and_arguments),
        cmocka_unit_test(tickets_go_on_and_the_last_change_of_a_key_stands),
        cmocka_unit_test(what_is_not_ours_or_newer_is_refused),
        cmocka_unit_test(one_may_look_while_another_writes),
        cmocka_unit_test(listeners_hear_of_commits_on_their_worker),
        cmocka_unit_test(the_stop_writes_what_waits),
        cmocka_unit_test(trouble_is_told_once_and_ends_by_itself),
        cmocka_unit_test(settling_waits_for_the_writer_or_writes_itself),
        cmocka_unit_test(a_disk_that_takes_no_more_loses_nothing),
        cmocka_unit_test(a_stop_in_trouble_ends_and_tells_what_is_lost),
        cmocka_unit_test(random_changes_leave_what_a_model_says),
    };

    return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
