/* record: what is written is read, and nothing else is believed. */
#include "../unit.h"

#include "lepus/base/mem.h"
#include "lepus/store/record.h"

enum { RECORDS_MAX = 40, TARGETS_MAX = 5, OCTETS_MAX = 400 };

/* --- a run, and what was meant by it ---------------------------------------------------- */

struct meant {
    struct record record; /* its views into octets of this run */
    struct record_target targets[TARGETS_MAX];
    struct seq_range ranges[TARGETS_MAX];
    size_t n; /* targets or ranges */
    size_t end;
};

struct run {
    struct meant meant[RECORDS_MAX];
    size_t n;
    struct buf buf;
    uint8_t octets[OCTETS_MAX]; /* names, properties, bodies: any part of these */
};

static struct view
some_octets(struct run *run, struct random *random, size_t max)
{
    size_t len = random_below(random, max + 1);

    return view_of(run->octets + random_below(random, OCTETS_MAX - len + 1), len);
}

static uint64_t
some_number(struct random *random)
{
    return random_u64(random) >> random_below(random, 64);
}

static void
write_publish(struct run *run, struct record_writer *writer, struct random *random)
{
    struct meant *meant = &run->meant[run->n];
    struct record_message *m = &meant->record.message;

    if (run->n > 0 && random_below(random, 2) == 0)
        m->content = run->meant[random_below(random, run->n)].record.message.content;
    else
        m->content = (struct content){
            .exchange = some_octets(run, random, random_below(random, 4) == 0 ? 255 : 8),
            .routing_key = some_octets(run, random, random_below(random, 4) == 0 ? 255 : 8),
            .properties = some_octets(run, random, random_below(random, 4) == 0 ? OCTETS_MAX : 8),
        };
    m->content.body = some_octets(run, random, random_below(random, 4) == 0 ? OCTETS_MAX : 20);
    m->expires_ms = random_below(random, 3) == 0 ? some_number(random) : 0;
    m->persistent = random_below(random, 2) == 0;
    m->redelivered = random_below(random, 4) == 0;
    meant->n = 1;
    meant->targets[0] = (struct record_target){writer->last.queue, writer->last.seq + 1};
    if (writer->last.queue == 0 || random_below(random, 3) == 0) {
        meant->n = 1 + random_below(random, TARGETS_MAX);
        for (size_t i = 0; i < meant->n; i++)
            meant->targets[i] =
                (struct record_target){some_number(random) | 1, some_number(random) >> 8};
    }
    record_publish(writer, &run->buf, m, meant->targets, meant->n);
}

static void
write_settle(struct run *run, struct random *random)
{
    struct meant *meant = &run->meant[run->n];

    meant->n = random_below(random, TARGETS_MAX + 1);
    for (size_t i = 0; i < meant->n; i++) {
        meant->ranges[i].first = some_number(random);
        meant->ranges[i].last =
            random_below(random, 8) == 0
                ? UINT64_MAX
                : meant->ranges[i].first + (UINT64_MAX - meant->ranges[i].first) / 3;
    }
    record_settle(&run->buf, meant->record.queue, meant->ranges, meant->n);
}

static void
write_run(struct run *run, struct random *random)
{
    struct record_writer writer = {0};
    size_t n = 1 + random_below(random, RECORDS_MAX);

    *run = (struct run){0};
    buf_init(&run->buf, SIZE_MAX);
    for (size_t i = 0; i < OCTETS_MAX; i++)
        run->octets[i] = (uint8_t)random_u64(random);
    for (; run->n < n; run->n++) {
        struct meant *meant = &run->meant[run->n];
        struct record *r = &meant->record;

        r->kind = random_below(random, 2) == 0
                      ? RECORD_PUBLISH
                      : (enum record_kind)(RECORD_PUBLISH + random_below(random, 6));
        r->queue = r->kind != RECORD_PUBLISH ? some_number(random) : 0;
        switch (r->kind) {
        case RECORD_PUBLISH:
            write_publish(run, &writer, random);
            break;
        case RECORD_SETTLE:
            write_settle(run, random);
            break;
        case RECORD_DELIVERED:
            r->seq = some_number(random);
            record_delivered(&run->buf, r->queue, r->seq);
            break;
        case RECORD_STATE:
            r->state = some_octets(run, random, OCTETS_MAX);
            record_state(&run->buf, r->queue, r->state);
            break;
        case RECORD_FORGET:
            record_forget(&run->buf, r->queue);
            break;
        case RECORD_FAILED:
            r->seq = some_number(random);
            r->failures = some_number(random);
            r->due_ms = some_number(random);
            record_failed(&run->buf, r->queue, r->seq, r->failures, r->due_ms);
            break;
        }
        meant->end = run->buf.len;
    }
    assert_false(run->buf.bad);
}

/* --- reading it ------------------------------------------------------------------------- */

static void
assert_same_octets(struct view is, struct view should)
{
    assert_true(view_equal(is, should));
}

static void
assert_meant(const struct record *is, const struct record *should)
{
    const struct record_message *m = &is->message, *n = &should->message;

    assert_int_equal(is->kind, should->kind);
    assert_int_equal(is->queue, should->queue);
    assert_int_equal(is->seq, should->seq);
    assert_int_equal(is->failures, should->failures);
    assert_int_equal(is->due_ms, should->due_ms);
    assert_same_octets(is->state, should->state);
    if (is->kind != RECORD_PUBLISH)
        return;
    assert_same_octets(m->content.exchange, n->content.exchange);
    assert_same_octets(m->content.routing_key, n->content.routing_key);
    assert_same_octets(m->content.properties, n->content.properties);
    assert_same_octets(m->content.body, n->content.body);
    assert_int_equal(m->expires_ms, n->expires_ms);
    assert_int_equal(m->persistent, n->persistent);
    assert_int_equal(m->redelivered, n->redelivered);
}

/* False when it breaks off within the record. */
static bool
takes(struct record_reader *reader, struct record *record, const struct meant *meant)
{
    struct record_target target;
    struct seq_range range;

    for (size_t i = 0; i < meant->n; i++) {
        if (record->kind == RECORD_PUBLISH) {
            if (!record_next_target(reader, record, &target))
                return false;
            assert_int_equal(target.queue, meant->targets[i].queue);
            assert_int_equal(target.seq, meant->targets[i].seq);
        } else {
            if (!record_next_range(reader, record, &range))
                return false;
            assert_int_equal(range.first, meant->ranges[i].first);
            assert_int_equal(range.last, meant->ranges[i].last);
        }
    }
    assert_false(record->kind == RECORD_PUBLISH ? record_next_target(reader, record, &target)
                                                : record_next_range(reader, record, &range));
    return true;
}

/* What of the run is before `len` is read as it was meant, and no more. */
static void
assert_reads_up_to(const struct run *run, size_t len)
{
    uint8_t *copy = mem_alloc(len + 1); /* so that the sanitizer sees what reads behind it */
    struct record_reader reader;
    struct record record;
    size_t n = 0;

    copy = mem_resize(copy, len > 0 ? len : 1);
    memcpy(copy, run->buf.at, len);
    record_reader_init(&reader, view_of(copy, len));
    while (record_next(&reader, &record)) {
        assert_true(n < run->n);
        assert_meant(&record, &run->meant[n].record);
        if (!takes(&reader, &record, &run->meant[n]))
            break;
        assert_int_equal(reader.at, run->meant[n].end);
        n++;
    }
    assert_true(n == run->n || len < run->meant[n].end);
    assert_int_equal(reader.bad, len > (n > 0 ? run->meant[n - 1].end : 0));
    assert_false(record_next(&reader, &record));
    free(copy);
}

static void
what_is_written_is_read(void **state)
{
    struct random random = {1};
    struct run *run = mem_new(struct run);

    (void)state;
    for (int i = 0; i < 2000; i++) {
        write_run(run, &random);
        assert_reads_up_to(run, run->buf.len);
        buf_fini(&run->buf);
    }
    free(run);
}

static void
a_run_cut_anywhere_ends_with_its_last_whole_record(void **state)
{
    struct random random = {2};
    struct run *run = mem_new(struct run);

    (void)state;
    for (int i = 0; i < 60; i++) {
        write_run(run, &random);
        for (size_t len = 0; len < run->buf.len; len++)
            assert_reads_up_to(run, len);
        buf_fini(&run->buf);
    }
    free(run);
}

static uint8_t
sum_of(struct view v)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < v.len; i++)
        sum = (uint8_t)(sum + v.at[i]);
    return sum;
}

/* Whatever it says: every view lies within, and what there is of it is bounded by its length. */
static void
assert_ends(const uint8_t *at, size_t len)
{
    struct record_reader reader;
    struct record record;
    size_t n = 0;
    volatile uint8_t sum = 0;

    record_reader_init(&reader, view_of(at, len));
    while (record_next(&reader, &record)) {
        struct record_target target;
        struct seq_range range;
        const struct content *c = &record.message.content;

        assert_true(++n <= len);
        assert_true(c->exchange.len <= 255 && c->routing_key.len <= 255);
        sum = (uint8_t)(sum + sum_of(c->exchange) + sum_of(c->routing_key) + sum_of(c->properties) +
                        sum_of(c->body) + sum_of(record.state));
        while (record.kind == RECORD_PUBLISH && record_next_target(&reader, &record, &target)) {
            assert_true(++n <= 2 * len);
            assert_true(target.queue != 0);
        }
        while (record.kind == RECORD_SETTLE && record_next_range(&reader, &record, &range)) {
            assert_true(++n <= 2 * len);
            assert_true(range.first <= range.last);
        }
    }
    assert_true(reader.bad || reader.at == len);
    assert_false(record_next(&reader, &record));
}

static void
a_run_with_any_bit_turned_round_ends(void **state)
{
    struct random random = {3};
    struct run *run = mem_new(struct run);

    (void)state;
    for (int i = 0; i < 20; i++) {
        write_run(run, &random);
        run->buf.at = mem_resize(run->buf.at, run->buf.len);
        for (size_t bit = 0; bit < run->buf.len * 8; bit++) {
            run->buf.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_ends(run->buf.at, run->buf.len);
            run->buf.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        buf_fini(&run->buf);
    }
    free(run);
}

static void
octets_that_are_no_run_end(void **state)
{
    struct random random = {4};

    (void)state;
    for (int i = 0; i < 20000; i++) {
        size_t len = 1 + random_below(&random, 64);
        uint8_t *octets = mem_alloc(len);

        for (size_t k = 0; k < len; k++) /* small numbers get further */
            octets[k] = (uint8_t)((random_u64(&random) >> random_below(&random, 8) & 0xff) %
                                  (random_below(&random, 2) == 0 ? 8 : 255));
        assert_ends(octets, len);
        free(octets);
    }
}

/* --- single matters --------------------------------------------------------------------- */

static void
the_same_head_and_the_next_seq_cost_nothing(void **state)
{
    struct record_writer writer = {0};
    struct record_message message = {
        .content = {.exchange = VIEW_LIT("forest"),
                    .routing_key = VIEW_LIT("hare"),
                    .properties = VIEW_LIT("\x10\x00\x02"),
                    .body = VIEW_LIT("0123456789abcdef")},
        .persistent = true,
    };
    struct buf buf;
    size_t before;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    record_publish(&writer, &buf, &message, &(struct record_target){7, 1}, 1);
    before = buf.len;
    record_publish(&writer, &buf, &message, &(struct record_target){7, 2}, 1);
    assert_int_equal(buf.len - before, 2 + 1 + 16); /* kind, flags, length, body */
    message.content.routing_key = VIEW_LIT("harf");
    before = buf.len;
    record_publish(&writer, &buf, &message, &(struct record_target){7, 3}, 1);
    assert_int_equal(buf.len - before, 2 + 7 + 5 + 4 + 1 + 16);
    buf_fini(&buf);
}

/* A buffer that took a record back must not leave a writer that refers to it: who has a full
 * buffer sees that it is bad. */
static void
a_record_without_room_makes_the_run_bad(void **state)
{
    struct record_writer writer = {0};
    struct record_message message = {.content.body = VIEW_LIT("hare")};
    struct buf buf;

    (void)state;
    buf_init(&buf, 90);
    for (uint64_t seq = 1; !buf.bad; seq++) {
        assert_true(seq < 90);
        record_publish(&writer, &buf, &message, &(struct record_target){7, seq}, 1);
    }
    assert_true(buf.len > 0);
    assert_ends(buf.at, buf.len);
    buf_fini(&buf);
}

#define RUN(...) {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__})
#define EIGHT(x) x, x, x, x, x, x, x, x

static void
what_contradicts_itself_is_bad(void **state)
{
    /* clang-format off */
    static const struct { const char *what; uint8_t run[24]; size_t len; } rows[] = {
        {"kind 0",                      RUN(0)},
        {"an unknown kind",             RUN(6, 1)},
        {"an unknown flag",             RUN(1, 32, 0, 0, 0, 0, 1, 7, 1)},
        {"the same head as nothing",    RUN(1, 1, 0, 1, 7, 1)},
        {"the next seq of nothing",     RUN(1, 2, 0, 0, 0, 0)},
        {"no target",                   RUN(1, 0, 0, 0, 0, 0, 0)},
        {"more targets than octets",    RUN(1, 0, 0, 0, 0, 0, 3, 7, 1)},
        {"a target that is queue 0",    RUN(1, 0, 0, 0, 0, 0, 1, 0, 1)},
        {"expires at 0",                RUN(1, 4, 0, 0, 0, EIGHT(0), 0, 1, 7, 1)},
        {"a body behind the end",       RUN(1, 0, 0, 0, 0, 5, 1, 7, 1)},
        {"a length of 2^63",            RUN(1, 0, 0x80, EIGHT(0x80), 1, 0, 0, 0, 1, 7, 1)},
        {"a varint beyond 2^64",        RUN(5, 0x80, EIGHT(0x80), 2)},
        {"a varint of eleven octets",   RUN(5, 0x80, EIGHT(0x80), 0x80, 0)},
        {"a range beyond 2^64",         RUN(2, 7, 1, 2, 0xff, EIGHT(0xff), 1)},
        {"more ranges than octets",     RUN(2, 7, 3, 1, 1)},
        {"a state behind the end",      RUN(4, 7, 2, 1)},
    };
    /* clang-format on */

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct record_reader reader;
        struct record record;
        struct record_target target;
        struct seq_range range;

        record_reader_init(&reader, (struct view){rows[i].run, rows[i].len});
        if (record_next(&reader, &record)) {
            assert_false(record.kind == RECORD_PUBLISH &&
                         record_next_target(&reader, &record, &target));
            assert_false(record.kind == RECORD_SETTLE &&
                         record_next_range(&reader, &record, &range));
        }
        if (!reader.bad)
            fail_msg("%s is not bad", rows[i].what);
    }
}

static void
a_name_has_255_octets_at_most(void **state)
{
    uint8_t run[300] = {1, 0, 0xff, 1}; /* length 255 */
    struct record_reader reader;
    struct record record;

    (void)state;
    run[4 + 255 + 3] = 1; /* no key, no properties, no body, one target: */
    run[4 + 255 + 4] = 7;
    record_reader_init(&reader, view_of(run, 4 + 255 + 6));
    assert_true(record_next(&reader, &record));
    assert_int_equal(record.message.content.exchange.len, 255);
    run[2] = 0x80; /* 256 */
    run[3] = 2;
    record_reader_init(&reader, view_of(run, sizeof(run)));
    assert_false(record_next(&reader, &record));
    assert_true(reader.bad);
}

static void
no_seq_follows_the_last_one(void **state)
{
    /* one target 7 with the highest seq of all, then "the next one" */
    static const uint8_t run[] = {1, 0, 0, 0, 0, 0, 1, 7, 0xff, EIGHT(0xff), 0x01, 1, 3, 0};
    struct record_reader reader;
    struct record record;
    struct record_target target;

    (void)state;
    record_reader_init(&reader, view_of(run, sizeof(run)));
    assert_true(record_next(&reader, &record));
    assert_true(record_next_target(&reader, &record, &target));
    assert_int_equal(target.seq, UINT64_MAX);
    assert_false(record_next(&reader, &record));
    assert_true(reader.bad);
}

static void
varints_are_read_as_they_were_written(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t value = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX, is;
        size_t at = 0;

        buf_clear(&buf);
        record_varint(&buf, value);
        assert_int_equal(buf.len, bits == 0 ? 1 : (bits + 6) / 7);
        assert_true(record_read_varint(buf_view(&buf), &at, &is));
        assert_int_equal(is, value);
        assert_int_equal(at, buf.len);
        at = 0;
        assert_false(record_read_varint(view_of(buf.at, buf.len - 1), &at, &is));
    }
    buf_fini(&buf);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(varints_are_read_as_they_were_written),
        cmocka_unit_test(the_same_head_and_the_next_seq_cost_nothing),
        cmocka_unit_test(what_contradicts_itself_is_bad),
        cmocka_unit_test(a_name_has_255_octets_at_most),
        cmocka_unit_test(no_seq_follows_the_last_one),
        cmocka_unit_test(a_record_without_room_makes_the_run_bad),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_run_cut_anywhere_ends_with_its_last_whole_record),
        cmocka_unit_test(a_run_with_any_bit_turned_round_ends),
        cmocka_unit_test(octets_that_are_no_run_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
