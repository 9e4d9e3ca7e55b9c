/*
 * A stream's consumers against channels that are as slow, full and forgetful as another worker's:
 * what is sent either way waits, and what a channel cannot take comes back.
 */
#include "files_in_memory.h"

#include "lepus/broker/stream_queue.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { CHANNELS = 5, WAITING = 4096, MESSAGES = 1500 };

/* A delivery on its way to a channel, or held there. */
struct sent {
    uint64_t seq, offset;
    uint32_t epoch;
};

/* A channel's word on its way to the stream. */
struct word {
    enum { SETTLE, GO, STOP } what;
    enum settle_how how;
    uint64_t seq;
    uint32_t epoch;
};

/* As channel_deliver.c has it. */
struct channel {
    struct stream_consumer *consumer;
    uint64_t next; /* the offset that is due */
    struct sent down[WAITING], held[WAITING];
    struct word up[WAITING];
    size_t n_down, n_held, n_up, limit;
    bool is_full, is_busy, is_refusing; /* of the limit, of the output */
    uint32_t epoch;
    bool was_stopped;
};

struct world {
    struct memory_disk *files;
    struct disk *disk, *reads;
    struct stream_queue *stream;
    struct stream_queue_settings settings;
    uint64_t appended, safe;
    struct channel *channels[CHANNELS];
    struct random random;
    uint8_t last_properties[512];
    size_t last_properties_len;
};

/* --- the world ------------------------------------------------------------------------------ */

static void
on_deliver(void *arg, const struct stream_consumer *consumer, uint64_t seq,
           const struct content *content)
{
    struct world *w = arg;
    struct channel *ch = w->channels[consumer->id - 1];
    uint64_t offset = be_u64(content->body.at);

    assert_true(offset < w->safe);
    assert_true(ch->n_down < WAITING);
    ch->down[ch->n_down++] = (struct sent){seq, offset, consumer->epoch};
    w->last_properties_len = content->properties.len;
    assert_true(content->properties.len <= sizeof(w->last_properties));
    memcpy(w->last_properties, content->properties.at, content->properties.len);
}

static void
on_safe(void *arg, struct stream_queue *stream, uint64_t end)
{
    struct world *w = arg;

    (void)stream;
    assert_true(end >= w->safe && end <= w->appended);
    w->safe = end;
}

static void
on_trouble(void *arg, struct stream_queue *stream, const struct err *why)
{
    (void)arg;
    (void)stream;
    fail_msg("%s", why != NULL ? why->text : "well again");
}

static uint64_t
wall_ms(void *arg)
{
    (void)arg;
    return 1000000;
}

static const struct stream_queue_ops ops = {on_deliver, on_safe, on_trouble, wall_ms};

static void
open_stream(struct world *w)
{
    struct err err = {0};

    w->stream = stream_queue_new(&w->settings, &ops, w);
    if (!stream_queue_recover(w->stream, &err))
        fail_msg("%s", err.text);
}

static struct world *
world_new(uint64_t seed)
{
    struct world *w = mem_new(struct world);

    w->random.state = seed;
    w->files = memory_disk_new(seed);
    w->disk = disk_new(NULL, "streams");
    w->reads = disk_new(NULL, "reads");
    w->settings = (struct stream_queue_settings){
        .ref = {7, 0},
        .name = VIEW_LIT("s"),
        .rules = {.segment_bytes = 40000},
        .dir = "streams",
        .files = {&memory_ops, w->files},
        .disk = w->disk,
        .reads = w->reads,
        .epoch = 1,
    };
    open_stream(w);
    return w;
}

static bool
run_disks(struct world *w)
{
    bool ran = false;

    while (disk_step(w->disk) || disk_step(w->reads))
        ran = true;
    return ran;
}

static void
close_stream(struct world *w, bool forget)
{
    stream_queue_free(w->stream, forget);
    run_disks(w);
    for (unsigned i = 0; i < CHANNELS; i++) {
        free(w->channels[i]);
        w->channels[i] = NULL;
    }
}

static void
world_free(struct world *w)
{
    close_stream(w, true);
    assert_int_equal(w->files->n_open, 0);
    disk_free(w->disk);
    disk_free(w->reads);
    memory_disk_free(w->files);
    free(w);
}

static void
append(struct world *w, unsigned n, struct view properties)
{
    uint8_t body[8];
    struct content content = {
        .routing_key = VIEW_LIT("s"),
        .properties = properties,
        .body = view_of(body, sizeof(body)),
    };
    uint64_t offset;

    for (unsigned i = 0; i < n; i++) {
        be_put_u64(body, w->appended);
        assert_true(stream_log_append(w->stream->log, &content, &offset));
        assert_int_equal(offset, w->appended++);
    }
}

static void
commit(struct world *w)
{
    do
        stream_log_flush(w->stream->log);
    while (run_disks(w));
    assert_int_equal(w->safe, w->appended);
}

static void
fill(struct world *w, unsigned n)
{
    static const uint8_t none[2];

    append(w, n, view_of(none, 2));
    commit(w);
}

/* --- channels -----------------------------------------------------------------------------------
 */

/* A consumer from the start of the stream, or a member of a group. */
static struct channel *
attach(struct world *w, unsigned number, uint32_t prefetch, const char *group)
{
    struct channel *ch = mem_new(struct channel);
    struct cmd_consume cmd = {.consumer = number + 1, .channel = 1, .prefetch = prefetch};
    struct buf arguments;

    buf_init(&arguments, 1000);
    table_put_longstr(&arguments, VIEW_LIT("x-stream-offset"), VIEW_LIT("first"));
    cmd.arguments = buf_view(&arguments);
    cmd.group = view_str(group);
    free(w->channels[number]);
    w->channels[number] = ch;
    ch->limit = SIZE_MAX;
    ch->consumer = stream_queue_consume(w->stream, &cmd);
    assert_non_null(ch->consumer);
    buf_fini(&arguments);
    stream_queue_start(ch->consumer);
    run_disks(w);
    return ch;
}

static void
say(struct channel *ch, struct word word)
{
    assert_true(ch->n_up < WAITING);
    ch->up[ch->n_up++] = word;
}

/* Tells the stream when whether it is stopped has changed. */
static void
look_at_stops(struct channel *ch)
{
    bool stopped = ch->is_full || ch->is_busy;

    if (stopped == ch->was_stopped)
        return;
    ch->was_stopped = stopped;
    if (stopped) {
        say(ch, (struct word){.what = STOP});
        return;
    }
    if (ch->is_refusing) {
        ch->is_refusing = false;
        ch->epoch++;
    }
    say(ch, (struct word){.what = GO, .epoch = ch->epoch});
}

static void
take_down(struct channel *ch)
{
    struct sent sent = ch->down[0];

    memmove(ch->down, ch->down + 1, --ch->n_down * sizeof(ch->down[0]));
    if (sent.epoch == ch->epoch && !ch->is_refusing && ch->n_held < ch->limit) {
        assert_int_equal(sent.offset, ch->next); /* none twice, none left out */
        ch->next++;
        ch->held[ch->n_held++] = sent;
        ch->is_full = ch->n_held >= ch->limit;
        look_at_stops(ch);
        return;
    }
    if (sent.epoch == ch->epoch) {
        ch->is_refusing = true;
        ch->is_full = ch->n_held >= ch->limit;
        look_at_stops(ch);
    }
    say(ch, (struct word){.what = SETTLE, .how = SETTLE_UNSENT, .seq = sent.seq});
}

static void
take_up(struct world *w, struct channel *ch)
{
    struct word word = ch->up[0];

    memmove(ch->up, ch->up + 1, --ch->n_up * sizeof(ch->up[0]));
    switch (word.what) {
    case SETTLE:
        stream_queue_settle(w->stream, word.how, &(struct seq_range){word.seq, word.seq}, 1);
        break;
    case GO:
    case STOP:
        stream_queue_flow(ch->consumer, word.what == GO, word.epoch);
        break;
    }
}

static void
settle_held(struct channel *ch, size_t i, enum settle_how how)
{
    say(ch, (struct word){.what = SETTLE, .how = how, .seq = ch->held[i].seq});
    memmove(ch->held + i, ch->held + i + 1, (--ch->n_held - i) * sizeof(ch->held[0]));
    if (ch->n_held < ch->limit)
        ch->is_full = false;
    look_at_stops(ch);
}

/* What was said either way arrives, until nothing is on its way. */
static void
settle_down(struct world *w)
{
    for (bool again = true; again;) {
        again = run_disks(w);
        for (unsigned i = 0; i < CHANNELS; i++) {
            struct channel *ch = w->channels[i];

            while (ch != NULL && (ch->n_down > 0 || ch->n_up > 0)) {
                again = true;
                if (ch->n_down > 0)
                    take_down(ch);
                else
                    take_up(w, ch);
            }
        }
    }
    stream_queue_check(w->stream);
}

static void
step_channel(struct world *w, struct channel *ch)
{
    switch (random_below(&w->random, 8)) {
    case 0:
    case 1:
    case 2:
        if (ch->n_down > 0)
            take_down(ch);
        break;
    case 3:
    case 4:
        if (ch->n_up > 0)
            take_up(w, ch);
        break;
    case 5:
    case 6:
        if (ch->n_held > 0)
            settle_held(ch, random_below(&w->random, ch->n_held),
                        ch->consumer->group != NULL || random_below(&w->random, 2)
                            ? SETTLE_ACK
                            : SETTLE_REQUEUE);
        break;
    default:
        if (random_below(&w->random, 4) == 0)
            ch->is_busy = !ch->is_busy;
        else if (random_below(&w->random, 4) == 0)
            ch->limit = 1 + random_below(&w->random, 12);
        if (ch->n_held < ch->limit)
            ch->is_full = false;
        look_at_stops(ch);
    }
}

static uint64_t
group_offset(struct world *w, const char *group)
{
    uint64_t offset = UINT64_MAX;

    stream_offsets_get(w->stream->offsets, view_str(group), &offset);
    return offset;
}

/* --- cases
 * ----------------------------------------------------------------------------------------- */

static void
all_comes_once_and_in_order_whatever_goes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world *w = world_new(seed);

        for (unsigned i = 0; i < CHANNELS; i++)
            attach(w, i, (uint32_t[]){1, 3, 10, 40, 200}[i], i == 3 ? "g" : "")->limit = 1 + 3 * i;
        while (w->appended < MESSAGES) {
            static const uint8_t none[2];

            append(w, (unsigned)random_below(&w->random, 40), view_of(none, 2));
            if (random_below(&w->random, 2))
                stream_log_flush(w->stream->log);
            for (unsigned n = 0; n < 60; n++) {
                step_channel(w, w->channels[random_below(&w->random, CHANNELS)]);
                if (random_below(&w->random, 6) == 0)
                    disk_step(random_below(&w->random, 2) ? w->disk : w->reads);
            }
            stream_queue_check(w->stream);
        }
        commit(w);
        for (bool again = true; again;) {
            again = false;
            settle_down(w);
            for (unsigned i = 0; i < CHANNELS; i++) {
                struct channel *ch = w->channels[i];

                ch->is_busy = false;
                look_at_stops(ch);
                while (ch->n_held > 0)
                    settle_held(ch, 0, SETTLE_ACK);
                again |= ch->n_up > 0;
            }
        }
        for (unsigned i = 0; i < CHANNELS; i++) {
            assert_int_equal(w->channels[i]->next, w->appended);
            assert_int_equal(w->channels[i]->consumer->unacked, 0);
        }
        assert_int_equal(group_offset(w, "g"), w->appended);
        world_free(w);
    }
}

static void
prefetch_and_window_are_credit(void **state)
{
    struct world *w = world_new(1);
    struct channel *ch = attach(w, 0, 7, "");
    struct cmd_consume cmd = {
        .consumer = 2, .channel = 1, .prefetch = 1000, .window_bytes = 150, .stopped = true};

    (void)state;
    fill(w, 30);
    assert_int_equal(ch->n_down, 7);
    settle_down(w);
    settle_held(ch, 3, SETTLE_ACK);
    settle_held(ch, 0, SETTLE_DISCARD);
    settle_down(w);
    assert_int_equal(ch->n_held, 7);
    assert_int_equal(ch->next, 9);

    w->channels[1] = mem_new(struct channel);
    w->channels[1]->limit = SIZE_MAX;
    w->channels[1]->consumer = stream_queue_consume(w->stream, &cmd);
    stream_queue_start(w->channels[1]->consumer);
    fill(w, 10);
    assert_int_equal(w->channels[1]->n_down, 0); /* stopped */
    stream_queue_flow(w->channels[1]->consumer, true, 0);
    fill(w, 10);
    assert_int_equal(w->channels[1]->n_down, 2); /* of 104 octets each */
    stream_queue_credit(w->channels[1]->consumer, 50);
    fill(w, 1);
    assert_int_equal(w->channels[1]->n_down, 2);
    stream_queue_credit(w->channels[1]->consumer, 60);
    fill(w, 1);
    assert_int_equal(w->channels[1]->n_down, 3);
    world_free(w);
}

static void
a_group_is_where_its_first_unsettled_delivery_is(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(seed);
        struct channel *ch = attach(w, 0, 50, "g");
        uint64_t had = 0;

        fill(w, 400);
        assert_int_equal(group_offset(w, "g"), 0);
        while (ch->next < 400 || ch->n_held > 0) {
            uint64_t lowest;

            settle_down(w);
            settle_held(ch, random_below(&w->random, ch->n_held), SETTLE_ACK);
            settle_down(w);
            lowest = ch->n_held > 0 ? ch->held[0].offset : ch->next;
            assert_int_equal(group_offset(w, "g"), lowest);
            assert_true(lowest >= had);
            had = lowest;
        }
        assert_int_equal(had, 400);
        world_free(w);
    }
}

static void
one_member_reads_and_the_next_goes_on(void **state)
{
    struct world *w = world_new(1);
    struct channel *a = attach(w, 0, 10, "g"), *b = attach(w, 1, 10, "g");
    struct channel *other = attach(w, 2, 3, "other");

    (void)state;
    fill(w, 30);
    settle_down(w);
    assert_int_equal(a->n_held, 10);
    assert_int_equal(b->n_held, 0);
    assert_int_equal(other->n_held, 3);
    settle_held(a, 0, SETTLE_ACK);
    settle_held(a, 0, SETTLE_ACK);
    settle_held(a, 5, SETTLE_ACK);
    settle_down(w);
    assert_int_equal(a->n_held, 10);
    b->next = 13;
    stream_queue_cancel(a->consumer);
    settle_down(w);
    while (a->n_held > 0) {
        assert_int_equal(b->n_held, 0);
        settle_held(a, 0, SETTLE_ACK); /* late, and it counts */
        settle_down(w);
    }
    assert_int_equal(group_offset(w, "g"), 13);
    assert_int_equal(b->n_held, 10);
    settle_held(b, 0, SETTLE_ACK);
    stream_queue_cancel(b->consumer);
    settle_down(w);
    a = attach(w, 0, 10, "g"); /* stands by, too: b holds something */
    settle_down(w);
    assert_int_equal(a->n_held, 0);
    a->next = 14;
    while (b->n_held > 0)
        settle_held(b, 0, SETTLE_REQUEUE); /* its channel ends */
    settle_down(w);
    assert_int_equal(a->n_held, 10);
    world_free(w);
}

static void
what_a_member_gives_back_is_where_the_group_goes_on(void **state)
{
    struct world *w = world_new(1);
    struct channel *a = attach(w, 0, 20, "g");

    (void)state;
    fill(w, 200);
    settle_down(w);
    settle_held(a, 4, SETTLE_REQUEUE);
    while (a->next < 200 || a->n_held > 0) {
        settle_held(a, 0, a->held[0].offset < 4 || a->next % 2 ? SETTLE_ACK : SETTLE_REQUEUE);
        settle_down(w);
    }
    assert_int_equal(group_offset(w, "g"), 4);
    assert_int_equal(a->consumer->held_live, 0); /* what is behind it need not be kept */
    world_free(w);
}

static void
offsets_of_groups_come_back(void **state)
{
    struct world *w = world_new(1);
    struct channel *a = attach(w, 0, 20, "g");

    (void)state;
    fill(w, 10);
    settle_down(w);
    for (unsigned i = 0; i < 6; i++)
        settle_held(a, 0, SETTLE_ACK);
    settle_down(w);
    stream_offsets_flush(w->stream->offsets);
    run_disks(w);
    close_stream(w, false);
    open_stream(w);
    assert_int_equal(stream_queue_count(w->stream), 10);
    assert_int_equal(group_offset(w, "g"), 6);
    a = attach(w, 0, 20, "g");
    a->next = 6;
    settle_down(w);
    assert_int_equal(a->n_held, 4);
    world_free(w);
}

static void
a_slot_is_free_when_nothing_unsettled_names_it(void **state)
{
    struct world *w = world_new(1);
    struct channel *a = attach(w, 0, 5, "");

    (void)state;
    fill(w, 10);
    settle_down(w);
    stream_queue_cancel(a->consumer);
    assert_int_equal(w->stream->n_consumers, 0);
    for (unsigned i = 0; i < STREAM_SLOT_MAX - 1; i++) { /* all the others, and round again */
        struct channel *b = attach(w, 1, 5, "");

        assert_true(b->consumer->slot != a->consumer->slot);
        for (size_t at = 0; at < b->n_down; at++)
            stream_queue_settle(w->stream, SETTLE_REQUEUE,
                                &(struct seq_range){b->down[at].seq, b->down[at].seq}, 1);
        stream_queue_cancel(b->consumer);
        for (size_t at = 0; at < b->n_down; at++) /* what came for those credits */
            stream_queue_settle(w->stream, SETTLE_REQUEUE,
                                &(struct seq_range){b->down[at].seq, b->down[at].seq}, 1);
    }
    assert_int_equal(w->stream->slots.count, 1);
    while (a->n_held > 0)
        settle_held(a, 0, SETTLE_REQUEUE);
    while (a->n_up > 0)
        take_up(w, a);
    assert_int_equal(w->stream->slots.count, 0);
    w->channels[0]->consumer = NULL;
    world_free(w);
}

static void
each_delivery_says_its_offset(void **state)
{
    struct world *w = world_new(1);
    struct view headers, name = VIEW_LIT("x-stream-offset");
    struct buf table, properties;
    struct field field;

    (void)state;
    attach(w, 0, 100, "");
    buf_init(&table, 1000);
    buf_init(&properties, 1000);
    table_put_longstr(&table, name, VIEW_LIT("what a client wrote there"));
    table_put_longstr(&table, VIEW_LIT("other"), VIEW_LIT("stays"));
    headers = buf_view(&table);
    props_copy_with(&properties, view_of((const uint8_t[2]){0, 0}, 2), PROP_headers, &headers);
    for (unsigned n = 0; n < 6; n++) {
        if (n < 3)
            fill(w, 1);
        else
            append(w, 1, buf_view(&properties));
        commit(w);
        assert_true(props_check(view_of(w->last_properties, w->last_properties_len)));
        assert_true(props_find(view_of(w->last_properties, w->last_properties_len), PROP_headers,
                               &headers));
        assert_true(table_find(headers, name, &field));
        assert_int_equal(field.type, FIELD_I64);
        assert_int_equal(field.integer, n);
        assert_true(table_find(headers, VIEW_LIT("other"), &field) == (n >= 3));
    }
    buf_fini(&table);
    buf_fini(&properties);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_comes_once_and_in_order_whatever_goes_back),
        cmocka_unit_test(prefetch_and_window_are_credit),
        cmocka_unit_test(a_group_is_where_its_first_unsettled_delivery_is),
        cmocka_unit_test(one_member_reads_and_the_next_goes_on),
        cmocka_unit_test(what_a_member_gives_back_is_where_the_group_goes_on),
        cmocka_unit_test(offsets_of_groups_come_back),
        cmocka_unit_test(a_slot_is_free_when_nothing_unsettled_names_it),
        cmocka_unit_test(each_delivery_says_its_offset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
