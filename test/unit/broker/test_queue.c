/*
 * The queue: what is delivered to whom, in what order, and what comes back; then random lives
 * against a model that is a plain list, with its messages in memory, on pages and across restarts.
 */
#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "lepus/broker/queue.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { CONSUMERS = 5, DELIVERIES_MAX = 1 << 16, MODEL_MAX = 1 << 14 };

/* What a delivery said, or of what a message died: recorded as it leaves the queue. */
struct delivery {
    uint64_t consumer, seq, body;
    bool redelivered, is_death;
    enum death why;
    int64_t count; /* x-delivery-count */
};

struct outbox {
    struct delivery at[DELIVERIES_MAX];
    size_t n;
};

static int64_t
delivery_count(const struct content *content)
{
    struct view headers;
    struct field field;

    return props_find(content->properties, PROP_headers, &headers) &&
                   table_find(headers, VIEW_LIT("x-delivery-count"), &field)
               ? field.integer
               : 0;
}

static void
on_deliver(void *arg, const struct consumer *consumer, uint64_t seq, bool redelivered,
           const struct content *content)
{
    struct outbox *out = arg;
    struct delivery *d = &out->at[out->n++];

    assert_true(out->n < DELIVERIES_MAX);
    *d = (struct delivery){.consumer = consumer->id, .seq = seq, .redelivered = redelivered};
    d->count = delivery_count(content);
    memcpy(&d->body, content->body.at, sizeof(d->body));
}

/* The test's clock. */
static uint64_t now_ms, wake_ms;

static uint64_t
on_now(void *arg)
{
    (void)arg;
    return now_ms;
}

static void
on_wake(void *arg, struct queue *queue, uint64_t at_ms)
{
    (void)arg;
    (void)queue;
    wake_ms = at_ms;
}

static void
on_died(void *arg, struct queue *queue, uint64_t seq, enum death why, struct message *message)
{
    struct outbox *out = arg;

    (void)queue;
    assert_true(out->n + 1 < DELIVERIES_MAX);
    out->at[out->n] = (struct delivery){.seq = seq, .is_death = true, .why = why};
    memcpy(&out->at[out->n++].body, message_content(message).body.at, sizeof(uint64_t));
}

static void
on_settled(void *arg, struct backlog *backlog, uint64_t first, uint64_t last)
{
    (void)arg;
    (void)backlog;
    assert_true(first > 0 && first <= last);
}

/* What a journal would know of failures, by seq. */
static struct failures told[MODEL_MAX];

static void
on_failed(void *arg, struct backlog *backlog, uint64_t seq, struct failures failures)
{
    (void)arg;
    assert_true(backlog->durable && seq < MODEL_MAX && failures.n > 0);
    told[seq] = failures;
}

/* Safe at once, or when safe_later says so. */
static bool safe_later;

static bool
on_mark(void *arg, struct backlog *backlog)
{
    (void)arg;
    assert_true(backlog->delivered_mark > backlog->safe_mark);
    return safe_later;
}

static void
on_grew(void *arg, struct backlog *backlog)
{
    (void)arg;
    (void)backlog;
}

static void
on_loaded(void *arg, struct queue *queue)
{
    (void)arg;
    (void)queue;
}

/* What the queue asked back. */
static struct loan asked[DELIVERIES_MAX];
static size_t n_asked;

static void
on_overdue(void *arg, uint64_t queue, const struct loan *loan)
{
    (void)arg;
    assert_int_equal(queue, 1);
    assert_true(n_asked < DELIVERIES_MAX);
    asked[n_asked++] = *loan;
}

static const struct queue_ops ops = {
    .deliver = on_deliver,
    .loaded = on_loaded,
    .now_ms = on_now,
    .wake = on_wake,
    .died = on_died,
    .overdue = on_overdue,
    .backlog = {.settled = on_settled, .mark = on_mark, .failed = on_failed, .grew = on_grew},
};

struct fixture {
    struct queue queue;
    struct outbox *out;
    struct message_account memory;
    uint8_t max_priority;
    struct queue_rules rules; /* owns nothing */
    struct view schedule;     /* x-retry-schedule, or empty */
    struct disk *disk;        /* manual; NULL: a queue without pages */
    struct page_store *store;
    char dir[64];
};

static void
init_queue(struct fixture *f)
{
    struct queue_settings settings = {
        .ref = {.id = 1},
        .durable = true,
        .max_priority = f->max_priority,
        .rules = f->rules,
        .account = &f->memory,
        .store = f->store,
    };
    char why[RETRY_WHY_MAX];

    if (f->schedule.len > 0)
        assert_true(retry_parse(f->schedule, &settings.rules.retry, why));
    queue_init(&f->queue, &settings, &ops, f->out);
}

static void
setup(struct fixture *f)
{
    *f = (struct fixture){.out = mem_new(struct outbox), .rules = queue_rules_none};
    init_queue(f);
}

static void
setup_paged(struct fixture *f)
{
    struct err err;

    *f = (struct fixture){
        .out = mem_new(struct outbox), .rules = queue_rules_none, .dir = "/tmp/lepus-queue-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    f->disk = disk_new(NULL, "pages");
    f->store = page_store_new(f->dir, &file_posix, f->disk, 16, NULL, NULL, &err);
    assert_non_null(f->store);
    init_queue(f);
}

static void
settle_disk(struct fixture *f)
{
    while (disk_step(f->disk))
        queue_check(&f->queue);
}

static void
remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    char inner[1024];

    if (dir == NULL) {
        unlink(path);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof(inner), "%.500s/%.255s", path, entry->d_name);
        remove_tree(inner);
    }
    closedir(dir);
    rmdir(path);
}

static void
teardown(struct fixture *f)
{
    queue_fini(&f->queue, true);
    free(f->out);
    if (f->disk != NULL) {
        while (disk_step(f->disk))
            continue;
        page_store_free(f->store);
        disk_free(f->disk);
        remove_tree(f->dir);
    }
    assert_int_equal(f->memory.bytes, 0);
    message_account_fini(&f->memory);
}

/* The queue anew, with these rules. */
static void
set_rules(struct fixture *f, const struct queue_rules *rules)
{
    queue_fini(&f->queue, true);
    f->rules = *rules;
    if (f->schedule.len > 0)
        f->rules.retry = (struct retry_rule){0};
    init_queue(f);
}

static void
publish_expiring(struct fixture *f, uint64_t body, uint64_t expiration_ms)
{
    static const uint8_t no_properties[2];
    struct content content = {.properties = view_of(no_properties, 2),
                              .body = view_of(&body, sizeof(body))};
    struct publish publish = {.content = &content, .persistent = true, .priority = -1};
    struct backlog *backlog;
    uint64_t seq;

    publish.expires_ms = queue_deadline(&f->queue, expiration_ms, now_ms);
    assert_int_not_equal(queue_publish(&f->queue, &publish, &backlog, &seq), QUEUE_REFUSED);
    message_unref(&publish.made);
    if (publish.tidy)
        queue_tidy(&f->queue);
    queue_check(&f->queue);
}

static void
publish(struct fixture *f, uint64_t body)
{
    publish_expiring(f, body, RULE_NONE);
}

static struct consumer *
consume(struct fixture *f, uint64_t id, uint32_t prefetch, int32_t priority, bool no_ack)
{
    struct cmd_consume cmd = {
        .consumer = id, .prefetch = prefetch, .priority = priority, .no_ack = no_ack};
    struct consumer *consumer = queue_consume(&f->queue, &cmd);

    if (consumer != NULL)
        queue_start(consumer);
    queue_check(&f->queue);
    return consumer;
}

static void
settle(struct fixture *f, enum settle_how how, uint64_t first, uint64_t last)
{
    queue_settle(&f->queue, how, &(struct seq_range){first, last}, 1);
    queue_check(&f->queue);
}

static void
unacked_returns_in_order_before_what_is_new(void **state)
{
    struct fixture f;
    struct consumer *c;

    (void)state;
    setup(&f);
    for (uint64_t i = 1; i <= 4; i++)
        publish(&f, i);
    c = consume(&f, 7, 3, 0, false);
    assert_int_equal(f.out->n, 3);
    queue_flow(c, false, 0);
    settle(&f, SETTLE_REQUEUE, 2, 3);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    queue_flow(c, true, 1);
    assert_int_equal(f.out->n, 6);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f.out->at[3 + i].body, i + 1);
        assert_true(f.out->at[3 + i].redelivered);
    }
    teardown(&f);
}

static void
what_was_never_taken_comes_back_unmarked(void **state)
{
    struct fixture f;
    struct consumer *c;

    (void)state;
    setup(&f);
    c = consume(&f, 7, 0, 0, false);
    publish(&f, 1);
    queue_flow(c, false, 0);
    settle(&f, SETTLE_UNSENT, 1, 1);
    queue_flow(c, true, 5);
    assert_int_equal(f.out->n, 2);
    assert_false(f.out->at[1].redelivered);
    assert_int_equal(c->epoch, 5);
    teardown(&f);
}

static void
without_acknowledgement_nothing_is_kept(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    consume(&f, 7, 0, 0, true);
    for (uint64_t i = 0; i < 100; i++)
        publish(&f, i);
    assert_int_equal(f.out->n, 100);
    assert_null(f.queue.plain.window.front.slots);
    teardown(&f);
}

static void
higher_priority_first_equals_in_turn(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    consume(&f, 1, 0, 0, false);
    consume(&f, 2, 0, 0, false);
    consume(&f, 3, 2, 10, false);
    for (uint64_t i = 0; i < 6; i++)
        publish(&f, i);
    assert_int_equal(f.out->at[0].consumer, 3);
    assert_int_equal(f.out->at[1].consumer, 3);
    for (size_t i = 2; i < 6; i++)
        assert_int_equal(f.out->at[i].consumer, 1 + i % 2);
    teardown(&f);
}

static void
a_cancelled_consumers_deliveries_stay_until_settled(void **state)
{
    struct fixture f;
    struct consumer *c;

    (void)state;
    setup(&f);
    c = consume(&f, 7, 0, 0, false);
    publish(&f, 1);
    queue_cancel(&f.queue, c, false);
    queue_check(&f.queue);
    assert_int_equal(queue_unacked(&f.queue), 1);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    assert_int_equal(queue_ready(&f.queue), 1);
    teardown(&f);
}

static void
exclusive_keeps_others_out(void **state)
{
    struct fixture f;
    struct consumer *c;

    (void)state;
    setup(&f);
    c = queue_consume(&f.queue, &(struct cmd_consume){.consumer = 1, .exclusive = true});
    assert_non_null(c);
    queue_start(c);
    assert_null(consume(&f, 2, 0, 0, false));
    queue_cancel(&f.queue, c, false);
    assert_non_null(consume(&f, 2, 0, 0, false));
    assert_null(queue_consume(&f.queue, &(struct cmd_consume){.consumer = 3, .exclusive = true}));
    teardown(&f);
}

static void
no_memory_refuses_the_message_and_harms_nothing(void **state)
{
    static const uint8_t octets[2];
    struct content content = {.properties = view_of(octets, 2), .body = view_of(octets, 2)};
    struct publish wanted = {.content = &content};
    struct backlog *backlog;
    struct fixture f;
    uint64_t seq;

    (void)state;
    setup(&f);
    mem_fail_nth(1);
    assert_int_equal(queue_publish(&f.queue, &wanted, &backlog, &seq), QUEUE_REFUSED);
    queue_check(&f.queue);
    assert_int_equal(queue_ready(&f.queue), 0);
    publish(&f, 1);
    assert_int_equal(queue_ready(&f.queue), 1);
    teardown(&f);
}

/* Messages of all sizes come and go: each keeps its octets, the account knows them all, and what is
 * kept of those that went has a bound. */
static void
messages_use_the_memory_of_those_that_went(void **state)
{
    enum { LIVE = 3000, STEPS = 60000, LARGEST = 700 };
    struct message **live = calloc(LIVE, sizeof(*live));
    struct message_account account = {0};
    struct random random = {7};
    uint8_t octets[LARGEST];

    (void)state;
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = random_below(&random, LIVE), body = random_below(&random, LARGEST);
        struct content content = {.routing_key = view_of(octets, step % 20),
                                  .body = view_of(octets, body)};

        if (live[i] != NULL) {
            struct content is = message_content(live[i]);

            for (size_t at = 0; at < is.body.len; at++)
                assert_int_equal(is.body.at[at], (uint8_t)i);
            message_unref(&live[i]);
        }
        if (step > STEPS / 2 && step % 4 != 0)
            continue; /* fewer and fewer */
        memset(octets, (int)(uint8_t)i, sizeof(octets));
        live[i] = message_new(&content, false, &account);
        assert_int_equal(message_content(live[i]).body.len, body);
    }
    assert_true(account.bytes > 0 && account.spare_bytes <= 512 * 1024 + MESSAGE_SMALL);
    for (size_t i = 0; i < LIVE; i++)
        message_unref(&live[i]);
    assert_int_equal(account.bytes, 0);
    assert_true(account.spare_bytes <= 512 * 1024 + MESSAGE_SMALL);
    message_account_fini(&account);
    assert_int_equal(account.spare_bytes, 0);
    free(live);
}

/* --- pages ------------------------------------------------------------------------------- */

static void
what_left_memory_comes_back_in_order(void **state)
{
    struct fixture f;
    struct consumer *c;

    (void)state;
    setup_paged(&f);
    for (uint64_t i = 1; i <= 100; i++)
        publish(&f, i);
    backlog_spill(&f.queue.plain, false);
    assert_int_equal(f.memory.bytes, 0);
    assert_int_equal(queue_ready(&f.queue), 100);
    for (uint64_t i = 101; i <= 150; i++)
        publish(&f, i);
    c = consume(&f, 7, 0, 0, false);
    assert_int_equal(f.out->n, 0); /* the page is on its way */
    settle_disk(&f);
    assert_int_equal(f.out->n, 150);
    for (size_t i = 0; i < 150; i++)
        assert_int_equal(f.out->at[i].body, i + 1);
    settle(&f, SETTLE_ACK, 1, 150);
    assert_int_equal(pages_live(f.queue.plain.pages), 0);
    assert_int_equal(c->unacked, 0);
    teardown(&f);
}

static void
a_message_without_its_body_can_be_requeued(void **state)
{
    struct fixture f;

    (void)state;
    setup_paged(&f);
    consume(&f, 7, 2, 0, false);
    for (uint64_t i = 1; i <= 4; i++)
        publish(&f, i);
    backlog_spill(&f.queue.plain, true);
    assert_int_equal(f.memory.bytes, 0);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    settle_disk(&f);
    assert_int_equal(f.out->n, 3);
    assert_int_equal(f.out->at[2].body, 1);
    assert_true(f.out->at[2].redelivered);
    settle(&f, SETTLE_ACK, 1, 2);
    settle_disk(&f);
    assert_int_equal(f.out->at[3].body, 3);
    teardown(&f);
}

static void
publish_with_priority(struct fixture *f, uint64_t body, uint8_t priority)
{
    const uint8_t properties[] = {0x08, 0x00, priority};
    struct content content = {.properties = view_of(properties, 3),
                              .body = view_of(&body, sizeof(body))};
    struct publish publish = {.content = &content, .persistent = true, .priority = -1};
    struct backlog *backlog;
    uint64_t seq;

    assert_int_equal(queue_publish(&f->queue, &publish, &backlog, &seq), QUEUE_KEPT);
    message_unref(&publish.made);
    queue_check(&f->queue);
}

static void
spill_level(void *arg, struct backlog *backlog)
{
    (void)arg;
    backlog_spill(backlog, false);
}

static void
higher_priorities_go_first_and_each_in_order(void **state)
{
    static const uint64_t order[] = {4, 5, 2, 6, 1, 3};
    struct fixture f;

    (void)state;
    setup_paged(&f);
    queue_fini(&f.queue, true);
    f.max_priority = 5;
    init_queue(&f);
    publish_with_priority(&f, 1, 0);
    publish_with_priority(&f, 2, 3);
    publish(&f, 3); /* without one: 0 */
    publish_with_priority(&f, 4, 5);
    queue_each_level(&f.queue, spill_level, NULL);
    publish_with_priority(&f, 5, 9); /* above the highest: the highest */
    publish_with_priority(&f, 6, 3);
    assert_int_equal(queue_ready(&f.queue), 6);
    consume(&f, 7, 1, 0, false);
    for (size_t i = 0; i < 6; i++) {
        settle_disk(&f);
        assert_int_equal(f.out->n, i + 1);
        assert_int_equal(f.out->at[i].body, order[i]);
        settle(&f, SETTLE_ACK, f.out->at[i].seq, f.out->at[i].seq);
    }
    settle_disk(&f);
    assert_int_equal(queue_ready(&f.queue) + queue_unacked(&f.queue), 0);
    teardown(&f);
}

static void
nothing_is_delivered_that_a_restart_would_not_flag(void **state)
{
    struct fixture f;

    (void)state;
    setup_paged(&f);
    publish(&f, 1);
    safe_later = true;
    consume(&f, 7, 0, 0, false);
    publish(&f, 2);
    assert_int_equal(f.out->n, 0);
    safe_later = false;
    backlog_marked(&f.queue.plain);
    assert_int_equal(f.out->n, 2);
    teardown(&f);
}

static void
one_that_nobody_settles_does_not_hold_the_ring(void **state)
{
    struct fixture f;
    const size_t slots_max = 4096;

    (void)state;
    setup_paged(&f);
    consume(&f, 7, 0, 0, false);
    publish(&f, 1);
    for (uint64_t i = 2; i <= 20000; i++) {
        publish(&f, i);
        settle(&f, SETTLE_ACK, i, i);
        disk_step(f.disk);
        f.out->n = 0;
    }
    assert_true(f.queue.plain.window.front.mask < slots_max);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    assert_int_equal(f.out->n, 1);
    assert_int_equal(f.out->at[0].body, 1);
    teardown(&f);
}

/* --- limits, expiry, deaths -------------------------------------------------------------- */

static struct queue_rules
rules_with_letters(void)
{
    struct queue_rules rules = queue_rules_none;

    rules.has_dead_letter_exchange = true;
    return rules;
}

static void
the_head_pays_for_what_is_too_much(void **state)
{
    struct queue_rules rules = rules_with_letters();
    struct fixture f;

    (void)state;
    setup(&f);
    rules.max_length = 3;
    rules.max_bytes = 3 * sizeof(uint64_t) - 1;
    set_rules(&f, &rules);
    for (uint64_t i = 1; i <= 4; i++)
        publish(&f, i);
    assert_int_equal(queue_ready(&f.queue), 2); /* octets are what counts here */
    assert_int_equal(f.out->n, 2);
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(f.out->at[i].seq, i + 1);
        assert_int_equal(f.out->at[i].why, DEATH_MAXLEN);
    }
    assert_int_equal(queue_unacked(&f.queue), 2);
    assert_true(queue_bury(&f.queue, 1));
    assert_false(queue_bury(&f.queue, 1));
    assert_int_equal(queue_unacked(&f.queue), 1);
    queue_check(&f.queue);
    teardown(&f);
}

static void
a_full_queue_refuses_when_it_is_told_to(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct content content = {.body = VIEW_LIT("12345678")};
    struct fixture f;

    (void)state;
    setup(&f);
    rules.max_length = 1;
    rules.overflow = OVERFLOW_REJECT;
    set_rules(&f, &rules);
    assert_false(queue_refuses(&f.queue, &content));
    publish(&f, 1);
    assert_true(queue_refuses(&f.queue, &content));
    consume(&f, 1, 0, 0, false);
    assert_false(queue_refuses(&f.queue, &content)); /* what is unacked does not count */
    teardown(&f);
}

/* The queue as it is, with these rules from now on. */
static void
change_rules(struct fixture *f, struct queue_rules rules)
{
    queue_take_rules(&f->queue, &rules);
    assert_true(rules.max_length == RULE_NONE && rules.dead_letter_exchange == NULL);
    queue_tidy(&f->queue);
    queue_check(&f->queue);
}

static void
rules_change_under_messages_that_are_there(void **state)
{
    enum { MANY = 3000 };
    struct queue_rules rules = queue_rules_none;
    struct content content = {.body = VIEW_LIT("12345678")};
    struct fixture f;

    (void)state;
    setup(&f);
    now_ms = 1000;
    for (uint64_t i = 1; i <= MANY; i++)
        publish(&f, i);
    wake_ms = UINT64_MAX;
    rules.max_length = 2;
    change_rules(&f, rules);
    assert_int_equal(queue_ready(&f.queue), MANY - 1024); /* so many die a turn, ... */
    assert_int_equal(wake_ms, 1000);                      /* ... and the next one is now */
    while (queue_ready(&f.queue) > 2)
        queue_tidy(&f.queue);
    publish(&f, MANY + 1);
    assert_int_equal(queue_ready(&f.queue), 2);

    rules.overflow = OVERFLOW_REJECT;
    change_rules(&f, rules);
    assert_true(queue_refuses(&f.queue, &content));
    rules.max_length = 3;
    change_rules(&f, rules);
    assert_false(queue_refuses(&f.queue, &content));
    change_rules(&f, queue_rules_none);
    for (uint64_t i = 0; i < 5; i++)
        publish(&f, i);
    assert_int_equal(queue_ready(&f.queue), 7);
    assert_int_equal(f.out->n, 0); /* without a dead-letter exchange nobody hears of them */

    rules = rules_with_letters();
    rules.max_length = 6;
    rules.ttl_ms = 10;
    change_rules(&f, rules);
    assert_int_equal(f.out->n, 1);
    assert_int_equal(f.out->at[0].why, DEATH_MAXLEN);
    publish(&f, 9); /* it alone has a deadline */
    assert_int_equal(f.out->n, 2);
    now_ms = 1010;
    queue_tidy(&f.queue);
    assert_int_equal(f.out->n, 3);
    assert_int_equal(f.out->at[2].body, 9);
    assert_int_equal(f.out->at[2].why, DEATH_EXPIRED);
    assert_int_equal(queue_ready(&f.queue), 5);
    change_rules(&f, queue_rules_none);
    assert_true(queue_bury(&f.queue, f.out->at[0].seq)); /* letters under way end all the same */
    teardown(&f);
}

static void
messages_expire_wherever_they_stand(void **state)
{
    struct queue_rules rules = rules_with_letters();
    struct fixture f;

    (void)state;
    setup(&f);
    rules.ttl_ms = 100;
    set_rules(&f, &rules);
    now_ms = 1000;
    publish(&f, 1);
    publish_expiring(&f, 2, 10);
    publish_expiring(&f, 3, 5000);
    publish_expiring(&f, 4, 20);
    assert_int_equal(wake_ms, 1010);
    now_ms = 1010;
    queue_tidy(&f.queue);
    assert_int_equal(wake_ms, 1020);
    now_ms = 1099;
    queue_tidy(&f.queue);
    assert_int_equal(wake_ms, 1100);
    assert_int_equal(queue_ready(&f.queue), 2);
    now_ms = 1100; /* nobody has tidied, and still nothing is delivered */
    consume(&f, 7, 0, 0, false);
    assert_int_equal(queue_ready(&f.queue), 0);
    assert_int_equal(f.out->n, 4);
    assert_int_equal(f.out->at[0].body, 2);
    assert_int_equal(f.out->at[1].body, 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(f.out->at[i].is_death && f.out->at[i].why == DEATH_EXPIRED);
    publish_expiring(&f, 5, 0); /* now or never: now */
    assert_false(f.out->at[4].is_death);
    settle(&f, SETTLE_REQUEUE, 5, 5);
    assert_true(f.out->at[5].is_death);
    teardown(&f);
}

static void
what_expired_on_pages_goes_page_by_page(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct fixture f;

    (void)state;
    setup_paged(&f);
    rules.ttl_ms = 100;
    set_rules(&f, &rules);
    now_ms = 1000;
    for (uint64_t i = 0; i < 20000; i++)
        publish(&f, i);
    backlog_spill(&f.queue.plain, false);
    now_ms = 1050;
    publish(&f, 20000);
    backlog_spill(&f.queue.plain, false);
    queue_tidy(&f.queue);
    assert_int_equal(wake_ms, 1100);
    now_ms = 1100;
    do
        queue_tidy(&f.queue);
    while (disk_step(f.disk) || f.queue.life.wake_ms <= now_ms);
    assert_int_equal(queue_ready(&f.queue), 1);
    assert_int_equal(wake_ms, 1150);
    now_ms = 1150;
    queue_tidy(&f.queue);
    settle_disk(&f);
    assert_int_equal(queue_ready(&f.queue), 0);
    assert_int_equal(pages_live(f.queue.plain.pages), 0);
    teardown(&f);
}

static void
what_is_consumed_in_time_leaves_nothing_behind(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct fixture f;
    const size_t most = 256;

    (void)state;
    setup(&f);
    rules.ttl_ms = 3600 * 1000;
    set_rules(&f, &rules);
    publish(&f, 0);
    for (uint64_t i = 1; i < 20000; i++) {
        struct content content;
        bool redelivered;
        uint64_t seq;

        publish(&f, i);
        assert_int_equal(queue_get(&f.queue, &seq, &content, &redelivered), QUEUE_GOT);
        if (i % 2 == 0)
            settle(&f, SETTLE_REQUEUE, seq, seq);
        else
            settle(&f, SETTLE_ACK, seq, seq);
        if (i % 3 == 0 && queue_ready(&f.queue) > 8)
            queue_purge(&f.queue);
        assert_true(f.queue.life.expiry.n < most);
    }
    teardown(&f);
}

static void
a_rejected_message_without_its_body_is_fetched_to_be_dead_lettered(void **state)
{
    struct queue_rules rules = rules_with_letters();
    struct fixture f;

    (void)state;
    setup_paged(&f);
    set_rules(&f, &rules);
    consume(&f, 7, 0, 0, false);
    publish(&f, 1);
    publish(&f, 2);
    backlog_spill(&f.queue.plain, true);
    settle(&f, SETTLE_DISCARD, 1, 2);
    assert_int_equal(f.out->n, 2);
    settle_disk(&f);
    assert_int_equal(f.out->n, 4);
    assert_int_equal(f.out->at[2].body, 1);
    assert_int_equal(f.out->at[3].why, DEATH_REJECTED);
    assert_true(queue_bury(&f.queue, 1) && queue_bury(&f.queue, 2));
    assert_int_equal(pages_live(f.queue.plain.pages), 0);
    teardown(&f);
}

static void
one_failure_too_many_is_death(void **state)
{
    struct queue_rules rules = rules_with_letters();
    struct fixture f;

    (void)state;
    setup(&f);
    rules.delivery_limit = 2;
    set_rules(&f, &rules);
    consume(&f, 7, 0, 0, false);
    publish(&f, 1);
    for (int64_t i = 0; i <= 2; i++) {
        assert_int_equal(f.out->n, i + 1);
        assert_int_equal(f.out->at[i].count, i);
        settle(&f, SETTLE_REQUEUE, 1, 1);
    }
    assert_true(f.out->at[3].is_death);
    assert_int_equal(f.out->at[3].why, DEATH_DELIVERY_LIMIT);
    assert_int_equal(f.queue.life.failures.count, 0);
    teardown(&f);
}

static void
one_consumer_is_active_until_it_goes(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct consumer *first, *second;
    struct fixture f;

    (void)state;
    setup(&f);
    rules.single_active = true;
    set_rules(&f, &rules);
    first = consume(&f, 1, 1, 0, false);
    second = consume(&f, 2, 0, 9, false);
    assert_null(queue_consume(&f.queue, &(struct cmd_consume){.consumer = 3, .exclusive = true}));
    for (uint64_t i = 0; i < 3; i++)
        publish(&f, i);
    assert_int_equal(f.out->n, 1);
    queue_flow(second, false, 0);
    queue_flow(second, true, 1); /* standing by it may come and go */
    assert_int_equal(f.out->n, 1);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    assert_int_equal(f.out->at[1].consumer, 1);
    queue_cancel(&f.queue, first, false);
    queue_succeed(&f.queue);
    queue_check(&f.queue);
    assert_int_equal(f.out->n, 4);
    assert_int_equal(f.out->at[2].consumer, 2);
    teardown(&f);
}

/* Nobody is fed before everything that the one before held is back, whoever brings it. */
static void
the_next_active_one_waits_for_what_the_last_held(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct consumer *first;
    struct fixture f;

    (void)state;
    setup(&f);
    rules.single_active = true;
    set_rules(&f, &rules);
    first = consume(&f, 1, 2, 0, false);
    consume(&f, 2, 2, 0, false);
    for (uint64_t i = 0; i < 4; i++)
        publish(&f, i);
    assert_int_equal(f.out->n, 2);
    queue_cancel(&f.queue, first, true);
    queue_succeed(&f.queue);
    consume(&f, 3, 0, 0, false); /* comes last */
    settle(&f, SETTLE_UNSENT, 2, 2);
    assert_int_equal(f.out->n, 2);
    settle(&f, SETTLE_REQUEUE, 1, 1);
    assert_int_equal(f.out->n, 4);
    for (size_t i = 2; i < 4; i++) {
        assert_int_equal(f.out->at[i].consumer, 2);
        assert_int_equal(f.out->at[i].seq, i - 1);
    }
    queue_check(&f.queue);
    teardown(&f);
}

/* Each in its own time, the consumer's before the queue's; what is settled is not asked for. */
static void
what_is_overdue_is_asked_back(void **state)
{
    struct queue_rules rules = queue_rules_none;
    struct cmd_consume patient = {.consumer = 8, .has_timeout = true, .timeout_ms = 300};
    struct consumer *c;
    struct fixture f;

    (void)state;
    setup(&f);
    now_ms = 1000;
    rules.consumer_timeout_ms = 100;
    set_rules(&f, &rules);
    consume(&f, 7, 2, 0, false);
    for (uint64_t i = 1; i <= 3; i++)
        publish(&f, i);
    assert_int_equal(wake_ms, 1100);
    queue_start(queue_consume(&f.queue, &patient)); /* the third */
    settle(&f, SETTLE_ACK, 1, 1);
    n_asked = 0;
    now_ms = 1099;
    queue_recall(&f.queue);
    assert_int_equal(n_asked, 0);
    now_ms = 1100;
    queue_recall(&f.queue);
    assert_int_equal(n_asked, 1);
    assert_int_equal(asked[0].seq, 2);
    assert_int_equal(asked[0].timeout_ms, 100);
    now_ms = 1200; /* nobody answered: again */
    queue_recall(&f.queue);
    assert_int_equal(n_asked, 2);
    settle(&f, SETTLE_OVERDUE, 2, 2);
    assert_int_equal(f.out->n, 4);
    assert_int_equal(f.out->at[3].count, 1);
    assert_true(f.out->at[3].redelivered);
    now_ms = 1300;
    queue_recall(&f.queue);
    assert_int_equal(n_asked, f.out->at[3].consumer == 7 ? 4 : 3);
    assert_int_equal(asked[n_asked - 1].seq, 3);
    settle(&f, SETTLE_ACK, 1, 3);
    assert_true(list_is_empty(&f.queue.loans.lines));
    patient = (struct cmd_consume){.consumer = 9, .has_timeout = true}; /* 0: for ever */
    c = queue_consume(&f.queue, &patient);
    queue_start(c);
    c->priority = 1;
    queue_flow(c, true, 0);
    publish(&f, 4);
    assert_true(list_is_empty(&f.queue.loans.lines));
    teardown(&f);
}

/* --- random lives ------------------------------------------------------------------------ */

/* The model: every message that was kept, by seq. */
struct model {
    enum { M_GONE, M_READY, M_HELD, M_DEAD, M_WAITS, M_EARLY } state[MODEL_MAX];
    bool redelivered[MODEL_MAX];
    uint64_t body[MODEL_MAX];
    uint64_t holder[MODEL_MAX]; /* a consumer's id, 0: basic.get */
    uint64_t expires_ms[MODEL_MAX], born_ms[MODEL_MAX];
    uint64_t failures[MODEL_MAX];
    uint64_t due_ms[MODEL_MAX];  /* while M_WAITS, or M_EARLY: the same, but a restart has made it
                                    ready, and the queue has not come to it */
    uint64_t lent_ms[MODEL_MAX]; /* when it was delivered, or last asked back */
    struct queue_rules rules;
    uint64_t next; /* seq */
    size_t heard;  /* deliveries looked at */
};

static uint64_t
first_ready(const struct model *m)
{
    for (uint64_t seq = 1; seq < m->next; seq++)
        if (m->state[seq] == M_READY)
            return seq;
    return 0;
}

static size_t
count(const struct model *m, int state)
{
    size_t n = 0;

    for (uint64_t seq = 1; seq < m->next; seq++)
        n += (int)m->state[seq] == state;
    return n;
}

static bool
is_expired(const struct model *m, uint64_t seq)
{
    return m->expires_ms[seq] != 0 && m->expires_ms[seq] <= now_ms;
}

/* A death must be due, and of the right one. Of rejects and failures the model has been told. */
static void
hear_death(struct model *m, const struct delivery *d)
{
    switch (d->why) {
    case DEATH_EXPIRED:
        assert_true(m->state[d->seq] == M_READY || m->state[d->seq] == M_EARLY);
        assert_true(is_expired(m, d->seq));
        break;
    case DEATH_MAXLEN:
        assert_true(m->state[d->seq] == M_EARLY || d->seq == first_ready(m));
        assert_true(count(m, M_READY) + count(m, M_EARLY) > m->rules.max_length);
        break;
    case DEATH_REJECTED:
    case DEATH_DELIVERY_LIMIT:
        assert_int_equal(m->state[d->seq], M_DEAD);
        break;
    case DEATH_DUE:
        fail_msg("nothing is delayed here");
    }
    assert_int_equal(d->body, m->body[d->seq]);
    m->state[d->seq] = M_DEAD;
    m->failures[d->seq] = 0;
}

/* Each delivery must be of the first ready message, and say of it what the model says. */
static void
hear(struct model *m, const struct outbox *out)
{
    for (; m->heard < out->n; m->heard++) {
        const struct delivery *d = &out->at[m->heard];

        if (d->is_death) {
            hear_death(m, d);
            continue;
        }
        assert_int_equal(d->seq, first_ready(m));
        assert_true(!is_expired(m, d->seq) || m->expires_ms[d->seq] == m->born_ms[d->seq]);
        assert_int_equal(d->count, m->failures[d->seq]);
        assert_int_equal(d->body, m->body[d->seq]);
        assert_int_equal(d->redelivered, m->redelivered[d->seq]);
        m->state[d->seq] = M_HELD;
        m->holder[d->seq] = d->consumer;
        m->lent_ms[d->seq] = now_ms;
    }
}

/* What a restart has made ready waits when the queue has come to it, or does not when it is late.
 */
static void
look_at_early(struct fixture *f, struct model *m)
{
    for (uint64_t seq = 1; seq < m->next; seq++) {
        const struct slot *slot;

        if (m->state[seq] != M_EARLY)
            continue;
        slot = window_slot(&f->queue.plain.window, seq);
        if (slot != NULL && slot->state == SLOT_UNACKED)
            m->state[seq] = M_WAITS;
        else if (m->due_ms[seq] <= now_ms)
            m->state[seq] = M_READY;
    }
}

/* The queue agrees with what the model counts; with pages, deaths may be late. */
static void
compare(struct fixture *f, struct model *m)
{
    size_t ready;

    look_at_early(f, m);
    ready = count(m, M_READY) + count(m, M_EARLY);
    assert_int_equal(queue_ready(&f->queue), ready);
    assert_int_equal(queue_unacked(&f->queue),
                     count(m, M_HELD) + count(m, M_DEAD) + count(m, M_WAITS));
    assert_int_equal(f->queue.plain.window.ready_bytes, ready * sizeof(uint64_t));
    for (uint64_t seq = 1; f->store == NULL && seq < m->next; seq++)
        assert_false(m->state[seq] == M_READY && is_expired(m, seq));
    if (f->store == NULL)
        assert_true(ready <= m->rules.max_length);
}

static void
no_error(void *arg, const struct err *why)
{
    (void)arg;
    assert_null(why);
}

static void
get(struct fixture *f, struct model *m)
{
    struct content content;
    bool redelivered;
    uint64_t want, seq;

    switch (queue_get(&f->queue, &seq, &content, &redelivered)) {
    case QUEUE_NOTHING:
        hear(m, f->out);
        assert_int_equal(first_ready(m), 0);
        return;
    case QUEUE_LATER:
        assert_non_null(f->store);
        return;
    case QUEUE_GOT:
        break;
    }
    hear(m, f->out);
    want = first_ready(m);
    assert_int_equal(delivery_count(&content), m->failures[want]);
    assert_int_equal(seq, want);
    assert_int_equal(redelivered, m->redelivered[want]);
    m->state[want] = M_HELD;
    m->holder[want] = 0;
    m->lent_ms[want] = now_ms;
    queue_lend_got(&f->queue, seq, 1);
}

/* One life ends without a word, the next begins from what a journal would have kept. */
static void
restart(struct fixture *f, struct model *m, struct consumer **consumers)
{
    struct backlog_restored restored = {0};
    struct buf state;
    uint64_t end, tail, restored_tail;
    struct err err;

    buf_init(&state, SIZE_MAX);
    backlog_page_out(&f->queue.plain);
    end = f->queue.plain.paged_end;
    page_store_sync(f->store, no_error, NULL);
    while (disk_step(f->disk))
        continue;
    hear(m, f->out);
    backlog_state(&f->queue.plain, end, false, &state);
    tail = window_tail(&f->queue.plain.window);
    restored.delivered_mark = f->queue.plain.delivered_mark;
    restored.state = buf_view(&state);
    queue_fini(&f->queue, false);
    while (disk_step(f->disk))
        continue;
    assert_int_equal(f->memory.bytes, 0);
    message_account_fini(&f->memory);
    for (size_t i = 0; i < CONSUMERS; i++)
        consumers[i] = NULL;
    for (uint64_t seq = 1; seq < m->next; seq++) {
        if (m->state[seq] == M_HELD || m->state[seq] == M_DEAD)
            m->state[seq] = M_READY;
        m->failures[seq] = told[seq].n;
        m->due_ms[seq] = told[seq].due_ms;
        if (m->state[seq] != M_GONE && m->due_ms[seq] != 0)
            m->state[seq] = M_EARLY;
        m->redelivered[seq] |= seq < restored.delivered_mark;
    }
    init_queue(f);
    assert_true(backlog_restore(&f->queue.plain, &restored, &restored_tail, &err));
    assert_true(restored_tail >= tail);
    backlog_restore_done(&f->queue.plain, restored_tail);
    m->next = restored_tail;
    for (uint64_t seq = 1; seq < m->next; seq++)
        if (m->state[seq] != M_GONE)
            queue_restore_failures(&f->queue, seq, told[seq]);
    queue_restored(&f->queue);
    look_at_early(f, m);
    queue_check(&f->queue);
    buf_fini(&state);
}

/* What the disk, the memory's limit and power cuts do to a queue. */
static void
disturb(struct fixture *f, struct model *m, struct consumer **consumers)
{
    switch (rand() % 40) {
    case 0:
        backlog_page_out(&f->queue.plain);
        break;
    case 1:
    case 2:
        backlog_spill(&f->queue.plain, rand() % 2 == 0);
        break;
    case 3:
        if (rand() % 10 == 0)
            restart(f, m, consumers);
        break;
    default:
        if (rand() % 2 == 0)
            disk_step(f->disk);
    }
    hear(m, f->out);
    queue_check(&f->queue);
    compare(f, m);
}

/* A settle as the model has it. */
static void
settle_both(struct fixture *f, struct model *m, enum settle_how how, uint64_t seq)
{
    bool waits = false;

    switch (how) {
    case SETTLE_ACK:
        m->state[seq] = M_GONE;
        break;
    case SETTLE_DISCARD:
        m->state[seq] = m->rules.has_dead_letter_exchange ? M_DEAD : M_GONE;
        break;
    case SETTLE_RETURN:
    case SETTLE_REQUEUE:
    case SETTLE_OVERDUE:
        m->failures[seq] += m->rules.delivery_limit != RULE_NONE ||
                            !retry_is_none(&m->rules.retry) || how == SETTLE_OVERDUE;
        if (m->failures[seq] > m->rules.delivery_limit ||
            (m->rules.retry.n_steps > 0 && m->failures[seq] > m->rules.retry.n_retries)) {
            m->state[seq] = M_DEAD;
            break;
        }
        m->redelivered[seq] = true;
        waits = how == SETTLE_RETURN ? m->rules.retry.returned : m->rules.retry.failed;
        m->state[seq] = waits ? M_WAITS : M_READY;
        break;
    case SETTLE_UNSENT:
        m->state[seq] = M_READY;
        break;
    }
    settle(f, how, seq, seq);
    if (m->state[seq] == M_WAITS) {
        uint64_t wait_ms = told[seq].due_ms - now_ms;

        assert_int_equal(told[seq].n, m->failures[seq]);
        assert_true(wait_ms >= retry_delay_ms(&m->rules.retry, m->failures[seq], 0));
        assert_true(wait_ms <= retry_delay_ms(&m->rules.retry, m->failures[seq], 0) * 2);
        m->due_ms[seq] = told[seq].due_ms;
    }
    hear(m, f->out);
    queue_tidy(&f->queue); /* what came back may have expired: its timer is at zero */
}

static void
bury_some(struct fixture *f, struct model *m)
{
    for (uint64_t seq = 1; seq < m->next; seq++)
        if (m->state[seq] == M_DEAD && rand() % 4 == 0 && queue_bury(&f->queue, seq))
            m->state[seq] = M_GONE; /* a reject may still wait for its page */
}

static void
choose_rules(struct queue_rules *rules, struct view *schedule)
{
    char why[RETRY_WHY_MAX];

    *rules = queue_rules_none;
    if (rand() % 4 == 0)
        return;
    rules->has_dead_letter_exchange = true;
    if (rand() % 2 == 0)
        rules->ttl_ms = (uint64_t)rand() % 40;
    if (rand() % 2 == 0)
        rules->max_length = (uint64_t)rand() % 30;
    if (rand() % 2 == 0)
        rules->delivery_limit = (uint64_t)rand() % 3;
    if (rand() % 2 == 0)
        rules->consumer_timeout_ms = 1 + (uint64_t)rand() % 100;
    if (rand() % 3 == 0) {
        *schedule = VIEW_LIT("3ms,7ms*2,20ms;jitter=30%");
        assert_true(retry_parse(*schedule, &rules->retry, why));
    } else if (rand() % 2 == 0) {
        static const char *const types[] = {"all", "failed", "returned"};

        assert_true(retry_of_type(view_str(types[rand() % 3]), &rules->retry));
        rules->retry.min_ms = 1 + (uint64_t)rand() % 10;
        rules->retry.max_ms = 25;
    }
}

/* What is due is ready, and nothing else of what waits. */
static void
resume(struct fixture *f, struct model *m)
{
    for (uint64_t seq = 1; seq < m->next; seq++)
        if (m->state[seq] == M_WAITS && m->due_ms[seq] <= now_ms)
            m->state[seq] = M_READY;
    queue_resume(&f->queue);
    look_at_early(f, m);
    hear(m, f->out);
    queue_tidy(&f->queue); /* what came back may have expired */
    hear(m, f->out);
}

/* Asked back is what was held for long enough, all of it and nothing else; some is given back. */
static void
recall(struct fixture *f, struct model *m)
{
    uint64_t timeout_ms = m->rules.consumer_timeout_ms;

    n_asked = 0;
    do /* some at a time, the wake for the others being due at once */
        queue_recall(&f->queue);
    while (f->queue.loans.next_ms <= now_ms);
    for (size_t i = 0; i < n_asked; i++) {
        uint64_t seq = asked[i].seq;

        assert_int_equal(m->state[seq], M_HELD);
        assert_true(m->lent_ms[seq] + timeout_ms <= now_ms);
        m->lent_ms[seq] = now_ms;
    }
    for (uint64_t seq = 1; timeout_ms != RULE_NONE && seq < m->next; seq++)
        assert_false(m->state[seq] == M_HELD && m->lent_ms[seq] + timeout_ms <= now_ms);
    for (size_t i = 0, n = n_asked; i < n; i++)
        if (rand() % 2 == 0)
            settle_both(f, m, SETTLE_OVERDUE, asked[i].seq);
    hear(m, f->out);
}

static void
live(unsigned seed, bool paged)
{
    struct consumer *consumers[CONSUMERS] = {0};
    struct model *m = mem_new(struct model);
    struct fixture f;
    uint64_t next_id = 1;

    srand(seed);
    if (paged)
        setup_paged(&f);
    else
        setup(&f);
    m->next = 1;
    memset(told, 0, sizeof(told));
    choose_rules(&m->rules, &f.schedule);
    set_rules(&f, &m->rules);
    for (int step = 0; step < 3000; step++) {
        unsigned which = (unsigned)rand() % CONSUMERS;
        struct consumer **c = &consumers[which];
        uint64_t seq = m->next > 1 ? 1 + (uint64_t)rand() % (m->next - 1) : 0;

        if (paged)
            disturb(&f, m, consumers);
        switch (rand() % 9) {
        case 0:
        case 1:
        case 2:
            m->state[m->next] = M_READY;
            m->redelivered[m->next] = false;
            m->body[m->next] = (uint64_t)rand();
            m->failures[m->next] = 0;
            m->born_ms[m->next] = now_ms;
            m->next++;
            if (m->rules.has_dead_letter_exchange && rand() % 3 == 0) {
                uint64_t own_ms = (uint64_t)rand() % 60;

                m->expires_ms[m->next - 1] = queue_deadline(&f.queue, own_ms, now_ms);
                publish_expiring(&f, m->body[m->next - 1], own_ms);
            } else {
                m->expires_ms[m->next - 1] = queue_deadline(&f.queue, RULE_NONE, now_ms);
                publish(&f, m->body[m->next - 1]);
            }
            break;
        case 3:
            if (*c == NULL)
                *c = consume(&f, next_id++, (uint32_t)rand() % 4, rand() % 3, false);
            break;
        case 4:
            if (*c != NULL && rand() % 4 == 0) {
                queue_cancel(&f.queue, *c, false);
                *c = NULL;
            }
            break;
        case 5:
            if (*c != NULL)
                queue_flow(*c, rand() % 2, (uint32_t)step);
            break;
        case 6:
        case 7:
            if (seq != 0 && m->state[seq] == M_HELD)
                settle_both(&f, m, (enum settle_how)(rand() % (SETTLE_UNSENT + 1)), seq);
            bury_some(&f, m);
            break;
        default:
            if (rand() % 20 == 0) {
                size_t purged = 0;

                for (uint64_t s = 1; s < m->next; s++)
                    if ((m->state[s] == M_READY || m->state[s] == M_EARLY) && ++purged)
                        m->state[s] = M_GONE;
                assert_int_equal(queue_purge(&f.queue), purged);
            } else if (first_ready(m) != 0) {
                get(&f, m);
            }
        }
        hear(m, f.out);
        queue_check(&f.queue);
        compare(&f, m);
        if (rand() % 4 == 0) {
            now_ms += (uint64_t)rand() % 5;
            queue_tidy(&f.queue); /* as its timer would */
            look_at_early(&f, m);
            hear(m, f.out);
            resume(&f, m);
            compare(&f, m);
            recall(&f, m);
            compare(&f, m);
        }
    }
    if (paged) {
        settle_disk(&f);
        hear(m, f.out);
    }
    for (size_t i = 0; i < CONSUMERS; i++) {
        uint32_t held = 0;

        for (uint64_t s = 1; consumers[i] != NULL && s < m->next; s++)
            held += m->state[s] == M_HELD && m->holder[s] == consumers[i]->id;
        if (consumers[i] != NULL)
            assert_int_equal(consumers[i]->unacked, held);
    }
    teardown(&f);
    retry_fini(&m->rules.retry);
    free(m);
}

static void
random_lives_agree_with_the_model(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        print_message("# seed %u\n", seed); /* the last one is the one that failed */
        live(seed, false);
    }
}

static void
random_lives_with_pages_agree_with_the_model(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        print_message("# paged seed %u\n", seed);
        live(seed, true);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unacked_returns_in_order_before_what_is_new),
        cmocka_unit_test(what_was_never_taken_comes_back_unmarked),
        cmocka_unit_test(without_acknowledgement_nothing_is_kept),
        cmocka_unit_test(higher_priority_first_equals_in_turn),
        cmocka_unit_test(a_cancelled_consumers_deliveries_stay_until_settled),
        cmocka_unit_test(exclusive_keeps_others_out),
        cmocka_unit_test(no_memory_refuses_the_message_and_harms_nothing),
        cmocka_unit_test(messages_use_the_memory_of_those_that_went),
        cmocka_unit_test(what_left_memory_comes_back_in_order),
        cmocka_unit_test(a_message_without_its_body_can_be_requeued),
        cmocka_unit_test(higher_priorities_go_first_and_each_in_order),
        cmocka_unit_test(nothing_is_delivered_that_a_restart_would_not_flag),
        cmocka_unit_test(one_that_nobody_settles_does_not_hold_the_ring),
        cmocka_unit_test(the_head_pays_for_what_is_too_much),
        cmocka_unit_test(a_full_queue_refuses_when_it_is_told_to),
        cmocka_unit_test(rules_change_under_messages_that_are_there),
        cmocka_unit_test(messages_expire_wherever_they_stand),
        cmocka_unit_test(what_expired_on_pages_goes_page_by_page),
        cmocka_unit_test(what_is_consumed_in_time_leaves_nothing_behind),
        cmocka_unit_test(a_rejected_message_without_its_body_is_fetched_to_be_dead_lettered),
        cmocka_unit_test(one_failure_too_many_is_death),
        cmocka_unit_test(one_consumer_is_active_until_it_goes),
        cmocka_unit_test(the_next_active_one_waits_for_what_the_last_held),
        cmocka_unit_test(what_is_overdue_is_asked_back),
        cmocka_unit_test(random_lives_agree_with_the_model),
        cmocka_unit_test(random_lives_with_pages_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
