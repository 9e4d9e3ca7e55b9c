/*
 * A log on a disk that forgets what was not synced, against a model: the messages in order, which
 * of them were promised, and where segments began.
 */
#include "files_in_memory.h"

#include "lepus/stream/stream_reader.h"
#include "lepus/wire/octets.h"

enum { MODEL_MAX = 1 << 16 };

static const uint8_t no_properties[2];

struct world {
    struct memory_disk *files;
    struct disk *disk;
    struct stream_settings settings;
    struct stream_log *log;
    uint64_t appended, safe;    /* offsets: what was given, what was promised */
    uint64_t serial[MODEL_MAX]; /* by offset: which message it is */
    uint64_t next_serial;
    unsigned troubles, recoveries, damages, findings, errors;
    uint64_t lost; /* messages told as damaged */
    char line[512];
};

static uint64_t now_ms = 1000;

static uint64_t
wall(void)
{
    return now_ms;
}

static void
on_safe(void *arg, uint64_t end)
{
    struct world *w = arg;

    assert_true(end >= w->safe && end <= w->appended);
    w->safe = end;
}

static void
on_trouble(void *arg, const struct err *why)
{
    struct world *w = arg;

    if (why != NULL)
        w->troubles++;
    else
        w->recoveries++;
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    struct world *w = arg;

    w->findings++;
    w->errors += is_error;
    snprintf(w->line, sizeof(w->line), "%s", line);
}

static const struct stream_log_ops log_ops = {on_safe, on_trouble, on_tell};

static void
open_log(struct world *w)
{
    struct err err = {0};

    w->log = stream_log_new(&w->settings, &log_ops, w);
    if (!stream_log_recover(w->log, &err))
        fail_msg("%s", err.text);
    stream_log_check(w->log);
}

static struct world *
world_new(uint64_t seed, uint64_t segment_bytes)
{
    struct world *w = mem_new(struct world);

    w->files = memory_disk_new(seed);
    w->disk = disk_new(NULL, "test");
    w->settings = (struct stream_settings){
        .dir = "streams",
        .stream = 7,
        .name = VIEW_LIT("s"),
        .files = {&memory_ops, w->files},
        .disk = w->disk,
        .epoch = 1,
        .segment_bytes = segment_bytes,
        .wall_ms = wall,
    };
    now_ms = 1000;
    open_log(w);
    return w;
}

static void
run_disk(struct world *w)
{
    while (disk_step(w->disk))
        ;
}

static void
world_free(struct world *w)
{
    stream_log_free(w->log, false);
    run_disk(w);
    assert_int_equal(w->files->n_open, 0);
    disk_free(w->disk);
    memory_disk_free(w->files);
    free(w);
}

/* The body begins with the message's serial number; its length follows from it. */
static size_t
body_size(uint64_t serial)
{
    return 8 + (serial * 7919) % 300 + (serial % 97 == 0 ? 5000 : 0);
}

static uint64_t
append_as(struct world *w, size_t size, const char *exchange, struct view properties)
{
    uint8_t *body = mem_alloc(size);
    uint64_t offset = UINT64_MAX;
    struct content c = {.exchange = view_str(exchange),
                        .routing_key = VIEW_LIT("s"),
                        .properties = properties,
                        .body = view_of(body, size)};

    be_put_u64(body, w->next_serial);
    memset(body + 8, (int)w->next_serial, size - 8);
    assert_true(stream_log_append(w->log, &c, &offset));
    assert_int_equal(offset, w->appended);
    assert_true(offset < MODEL_MAX);
    w->serial[offset] = w->next_serial++;
    w->appended++;
    free(body);
    return offset;
}

static uint64_t
append(struct world *w)
{
    return append_as(w, body_size(w->next_serial), w->next_serial % 5 == 0 ? "ex" : "",
                     view_of(no_properties, 2));
}

static void
commit(struct world *w)
{
    stream_log_flush(w->log);
    run_disk(w);
}

static void
append_many(struct world *w, size_t n, size_t a_commit)
{
    for (size_t i = 0; i < n; i++) {
        append(w);
        if (i % a_commit == a_commit - 1)
            commit(w);
    }
    commit(w);
}

/* --- readers ------------------------------------------------------------------------------ */

struct eye {
    struct world *world;
    struct stream_reader *reader;
    unsigned told;
};

static void
on_more(void *arg)
{
    struct eye *eye = arg;

    eye->told++;
}

static void
on_damaged(void *arg, uint64_t first, uint64_t last, const struct err *why)
{
    struct eye *eye = arg;

    assert_true(first <= last);
    eye->world->damages++;
    eye->world->lost += last - first + 1;
    snprintf(eye->world->line, sizeof(eye->world->line), "%s", why->text);
}

static const struct stream_reader_ops reader_ops = {on_more, on_damaged};

static void
eye_open(struct eye *eye, struct world *w, const struct stream_reader_settings *settings)
{
    *eye = (struct eye){.world = w};
    eye->reader = stream_reader_new(w->log, settings, &reader_ops, eye);
}

/* The next message's offset, with its content looked at; UINT64_MAX at the end. */
static uint64_t
see(struct eye *eye)
{
    struct world *w = eye->world;
    struct stream_message m;

    while (stream_reader_next(eye->reader, &m) == STREAM_READ_WAIT) {
        unsigned told = eye->told;

        while (eye->told == told && disk_step(w->disk))
            ;
        /* Without a worker nobody says when memory may be there again. */
        if (eye->told == told && stream_reader_offset(eye->reader) >= stream_log_committed(w->log))
            return UINT64_MAX;
    }
    assert_true(m.offset < stream_log_committed(w->log));
    assert_true(m.content.body.len >= 8);
    assert_int_equal(be_u64(m.content.body.at), w->serial[m.offset]);
    assert_true(m.content.body.len == 8 ||
                m.content.body.at[m.content.body.len - 1] == (uint8_t)w->serial[m.offset]);
    assert_true(view_equal(m.content.routing_key, VIEW_LIT("s")));
    return m.offset;
}

static void
must_see(struct world *w, const struct stream_reader_settings *settings, uint64_t first,
         uint64_t end)
{
    struct eye eye;

    eye_open(&eye, w, settings);
    for (uint64_t offset = first; offset < end; offset++)
        assert_int_equal(see(&eye), offset);
    assert_int_equal(see(&eye), UINT64_MAX);
    stream_reader_free(eye.reader);
}

static const struct stream_reader_settings from_first = {.from = STREAM_FROM_FIRST};

/* --- behaviours --------------------------------------------------------------------------- */

static void
what_is_appended_is_read_in_order(void **state)
{
    struct world *w = world_new(1, 0);

    (void)state;
    append_many(w, 3000, 50);
    stream_log_check(w->log);
    assert_int_equal(w->safe, 3000);
    must_see(w, &from_first, 0, 3000);
    world_free(w);
}

static void
nothing_is_seen_before_it_is_safe(void **state)
{
    struct world *w = world_new(1, 0);
    struct eye eye;

    (void)state;
    eye_open(&eye, w, &from_first);
    append(w);
    assert_int_equal(see(&eye), UINT64_MAX);
    assert_int_equal(stream_log_committed(w->log), 0);
    stream_log_flush(w->log);
    append(w); /* comes after the commit that is under way */
    assert_int_equal(w->safe, 0);
    assert_true(disk_step(w->disk));
    assert_int_equal(w->safe, 1);
    assert_int_equal(eye.told, 1);
    assert_int_equal(see(&eye), 0);
    assert_true(disk_step(w->disk) || w->safe == 2);
    assert_int_equal(see(&eye), 1);
    assert_int_equal(see(&eye), UINT64_MAX);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
what_comes_during_a_commit_goes_together(void **state)
{
    struct world *w = world_new(1, 0);
    unsigned before;

    (void)state;
    append(w);
    stream_log_flush(w->log);
    for (unsigned i = 0; i < 100; i++)
        append(w);
    before = w->files->calls;
    run_disk(w);
    assert_int_equal(w->safe, 101);
    /* A new segment's making and one write and sync; then one more write and sync. */
    assert_true(w->files->calls - before <= 12);
    world_free(w);
}

static void
readers_begin_where_they_are_told(void **state)
{
    struct world *w = world_new(1, 20000);
    struct stream_reader_settings s = {.from = STREAM_FROM_LAST};
    uint64_t times[600];

    (void)state;
    for (unsigned i = 0; i < 600; i++) {
        now_ms += 1 + i % 3;
        times[i] = now_ms;
        append(w);
        if (i % 4 == 3)
            commit(w);
    }
    assert_true(stream_log_segments(w->log) > 5);
    must_see(w, &from_first, 0, 600);
    must_see(w, &s, 596, 600);
    s.from = STREAM_FROM_NEXT;
    must_see(w, &s, 600, 600);
    s.from = STREAM_FROM_OFFSET;
    for (s.offset = 0; s.offset < 603; s.offset++)
        must_see(w, &s, s.offset, 600);
    s.from = STREAM_FROM_TIME;
    s.time_ms = 0;
    must_see(w, &s, 0, 600);
    for (unsigned i = 0; i < 600; i++) {
        /* Chunks are of four, their time is their last message's. */
        uint64_t chunk = i / 4 * 4;

        s.time_ms = (int64_t)times[chunk + 3];
        must_see(w, &s, chunk, 600);
        s.time_ms++;
        must_see(w, &s, chunk + 4, 600);
    }
    world_free(w);
}

static void
a_reader_at_an_offset_to_come_sees_nothing_below_it(void **state)
{
    struct world *w = world_new(1, 0);
    const struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET, .offset = 20};
    struct eye eye;

    (void)state;
    append_many(w, 10, 3);
    eye_open(&eye, w, &s);
    assert_int_equal(see(&eye), UINT64_MAX);
    append_many(w, 15, 4);
    for (uint64_t i = 20; i < 25; i++)
        assert_int_equal(see(&eye), i);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
an_index_that_is_missing_is_made_again(void **state)
{
    struct world *w = world_new(1, 100000);
    struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET};
    size_t before = 0, after = 0;

    (void)state;
    append_many(w, 3000, 10);
    assert_true(stream_log_segments(w->log) > 3);
    for (size_t i = 0; i < w->files->n_files; i++) {
        struct memory_file *f = w->files->files[i];

        if (f->is_named && strstr(f->path, ".idx") != NULL) {
            before++;
            f->is_named = false;
        }
    }
    stream_log_free(w->log, false);
    run_disk(w);
    open_log(w);
    for (s.offset = 0; s.offset < 3000; s.offset += 100)
        must_see(w, &s, s.offset, 3000);
    for (size_t i = 0; i < w->files->n_files; i++)
        after += w->files->files[i]->is_named && strstr(w->files->files[i]->path, ".idx") != NULL;
    assert_true(before > 3 && after >= before);
    world_free(w);
}

static void
retention_by_size_drops_whole_segments(void **state)
{
    struct world *w = world_new(1, 20000);
    uint64_t first;

    (void)state;
    w->settings.max_bytes = 100000;
    stream_log_set_limits(w->log, 100000, 0);
    append_many(w, 3000, 10);
    assert_true(stream_log_bytes(w->log) <= 100000 + 30000);
    first = stream_log_first(w->log);
    assert_true(first > 0);
    must_see(w, &from_first, first, 3000);
    stream_log_set_limits(w->log, 1, 0); /* the active one stays */
    assert_int_equal(stream_log_segments(w->log), 1);
    run_disk(w);
    must_see(w, &from_first, stream_log_first(w->log), 3000);
    world_free(w);
}

static void
retention_by_age_spares_what_is_young(void **state)
{
    struct world *w = world_new(1, 5000);

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        now_ms += 10;
        append(w);
        commit(w);
    }
    stream_log_set_limits(w->log, 0, 1000);
    run_disk(w);
    assert_true(stream_log_first(w->log) > 150 && stream_log_first(w->log) <= 201);
    must_see(w, &from_first, stream_log_first(w->log), 300);
    world_free(w);
}

static void
a_segment_stays_while_a_reader_is_in_it(void **state)
{
    struct world *w = world_new(1, 20000);
    struct eye eye;
    uint64_t offset, end;
    unsigned n = 0;

    (void)state;
    append_many(w, 1000, 10);
    eye_open(&eye, w, &from_first);
    assert_int_equal(see(&eye), 0);
    stream_log_set_limits(w->log, 1, 0);
    run_disk(w);
    end = stream_log_first(w->log);
    assert_true(end > 500);
    for (offset = 1; (offset = see(&eye)) < end; n++)
        assert_int_equal(offset, n + 1);
    assert_true(n > 20 && n < 500); /* its segment to the end, then the first that is kept */
    assert_int_equal(offset, end);
    assert_int_equal(w->damages, 0);
    while (see(&eye) != UINT64_MAX)
        ;
    run_disk(w);
    stream_reader_free(eye.reader);
    run_disk(w);
    for (size_t i = 0; i < w->files->n_files; i++)
        assert_false(w->files->files[i]->is_named &&
                     strstr(w->files->files[i]->path, "00000000000000000000.seg") != NULL);
    world_free(w);
}

static void
a_filter_lets_pass_what_matches(void **state)
{
    static const uint8_t with[] =
        "\x20\x00\x00\x00\x00\x1d\x15x-stream-filter-valueS\x00\x00\x00\x02"
        "v?";
    struct world *w = world_new(1, 0);
    struct view wanted[] = {VIEW_LIT("v3"), VIEW_LIT("v7")};
    struct stream_reader_settings s = {
        .from = STREAM_FROM_FIRST, .filters = wanted, .n_filters = 2};
    uint64_t offset;
    struct eye eye;

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        uint8_t properties[sizeof(with) - 1];

        /* Ten runs of 500 messages of a value each; in every tenth message there is none. */
        memcpy(properties, with, sizeof(properties));
        properties[sizeof(properties) - 1] = (uint8_t)('0' + i / 500);
        append_as(w, 100, "",
                  i % 10 == 0 ? view_of(no_properties, 2)
                              : view_of(properties, sizeof(properties)));
        if (i % 20 == 19)
            commit(w);
    }
    eye_open(&eye, w, &s);
    for (unsigned i = 0; i < 5000; i++)
        if ((i / 500 == 3 || i / 500 == 7) && i % 10 != 0)
            assert_int_equal(see(&eye), i);
    assert_int_equal(see(&eye), UINT64_MAX);
    stream_reader_free(eye.reader);
    s.match_unfiltered = true;
    eye_open(&eye, w, &s);
    for (unsigned i = 0; i < 5000; i++)
        if (i / 500 == 3 || i / 500 == 7 || i % 10 == 0)
            assert_int_equal(see(&eye), i);
    assert_int_equal(see(&eye), UINT64_MAX);
    stream_reader_free(eye.reader);
    /* Nothing at all matches; and the reader is told of what comes and does. */
    wanted[0] = wanted[1] = VIEW_LIT("v?");
    s.match_unfiltered = false;
    eye_open(&eye, w, &s);
    assert_int_equal(see(&eye), UINT64_MAX);
    append_many(w, 30, 7);
    offset = append_as(w, 100, "", view_of(with, sizeof(with) - 1));
    commit(w);
    assert_int_equal(see(&eye), offset);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
a_reader_is_small(void **state)
{
    struct world *w = world_new(1, 0);
    struct eye eye;

    (void)state;
    append_many(w, 10000, 1000);
    eye_open(&eye, w, &from_first);
    for (unsigned i = 0; i < 10000; i++) {
        see(&eye);
        assert_true(stream_reader_bytes(eye.reader) <= 300 * 1024);
    }
    assert_int_equal(see(&eye), UINT64_MAX);
    assert_true(stream_reader_bytes(eye.reader) <= 4 * 1024);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
a_large_message_makes_a_large_chunk(void **state)
{
    struct world *w = world_new(1, 0);

    (void)state;
    append(w);
    append_as(w, 3 << 20, "", view_of(no_properties, 2));
    append(w);
    append_as(w, 200000, "", view_of(no_properties, 2));
    commit(w);
    append_many(w, 100, 10);
    must_see(w, &from_first, 0, 104);
    world_free(w);
}

static void
a_deleted_stream_leaves_nothing(void **state)
{
    struct world *w = world_new(1, 200000);

    (void)state;
    append_many(w, 2000, 10);
    append(w);
    stream_log_flush(w->log);
    stream_log_free(w->log, true); /* with a commit under way */
    run_disk(w);
    for (size_t i = 0; i < w->files->n_files; i++)
        assert_false(w->files->files[i]->is_named);
    assert_int_equal(w->files->n_removed, 1);
    assert_int_equal(w->files->n_open, 0);
    w->appended = w->safe = 0;
    open_log(w);
    assert_int_equal(stream_log_next(w->log), 0);
    world_free(w);
}

/* --- trouble ------------------------------------------------------------------------------ */

static void
a_failed_write_is_tried_again_elsewhere(void **state)
{
    static const int errors[] = {EIO, ENOSPC};

    (void)state;
    for (size_t e = 0; e < COUNT_OF(errors); e++) {
        for (unsigned nth = 1; nth < 60; nth++) {
            struct world *w = world_new(nth, 20000);

            append_many(w, 30, 10);
            w->files->fail_errno = errors[e];
            w->files->fail_at = w->files->calls + nth;
            w->files->fail_for = 1 + nth % 4;
            append_many(w, 200, 10);
            for (unsigned i = 0; i < 6; i++)
                commit(w); /* without a worker each flush tries again */
            stream_log_check(w->log);
            assert_int_equal(w->safe, 230);
            assert_int_equal(w->troubles, w->recoveries);
            assert_false(stream_log_is_in_trouble(w->log));
            w->files->fail_at = 0;
            must_see(w, &from_first, 0, 230);
            /* What was promised is there after the power fails, too. */
            stream_log_free(w->log, false);
            run_disk(w);
            memory_disk_power_off(w->files);
            open_log(w);
            must_see(w, &from_first, 0, 230);
            assert_int_equal(w->damages + w->errors, 0);
            world_free(w);
        }
    }
}

static void
reads_that_fail_are_tried_again(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth < 40; nth++) {
        struct world *w = world_new(nth, 20000);
        const struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET, .offset = 100};

        append_many(w, 600, 10);
        w->files->fail_at = w->files->calls + nth;
        w->files->fail_for = 1 + nth % 2;
        must_see(w, &s, 100, 600);
        assert_int_equal(w->damages, 0);
        world_free(w);
    }
}

static void
recovery_that_cannot_read_says_so(void **state)
{
    unsigned failed = 0;

    (void)state;
    for (unsigned nth = 1; nth < 30; nth++) {
        struct world *w = world_new(nth, 20000);
        struct err err = {0};

        append_many(w, 200, 10);
        stream_log_free(w->log, false);
        run_disk(w);
        memory_disk_kill(w->files);
        w->files->fail_at = w->files->calls + nth;
        w->log = stream_log_new(&w->settings, &log_ops, w);
        if (!stream_log_recover(w->log, &err)) {
            failed++;
            assert_int_not_equal(err.code, 0);
            stream_log_free(w->log, false);
            w->files->fail_at = 0;
            open_log(w);
        }
        w->files->fail_at = 0;
        assert_int_equal(stream_log_committed(w->log), 200);
        must_see(w, &from_first, 0, 200);
        world_free(w);
    }
    assert_true(failed > 5);
}

static void
memory_that_runs_out_loses_nothing(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (unsigned nth = 1; nth < 60; nth++) {
        struct world *w = world_new(nth, 20000);
        uint8_t body[2000] = {0};
        struct eye eye;

        for (unsigned i = 0; i < 100; i++) {
            struct content c = {.exchange = i % 2 ? VIEW_LIT("ex") : VIEW_LIT(""),
                                .routing_key = VIEW_LIT("s"),
                                .properties = view_of(no_properties, 2),
                                .body = view_of(body, 100 + i * 17)};
            uint64_t offset = 0;

            be_put_u64(body, w->next_serial);
            memset(body + 8, (int)w->next_serial, sizeof(body) - 8);
            mem_fail_nth(i % 10 == 0 ? 1 + nth % 7 : 0);
            if (stream_log_append(w->log, &c, &offset)) {
                assert_int_equal(offset, w->appended);
                w->serial[w->appended++] = w->next_serial++;
            } else {
                refused++;
            }
            stream_log_check(w->log);
            if (i % 7 == 0)
                commit(w);
        }
        mem_fail_nth(0);
        commit(w);
        assert_int_equal(w->safe, w->appended);
        mem_fail_nth(nth);
        eye_open(&eye, w, &from_first);
        for (uint64_t offset = 0; offset < w->safe; offset++)
            assert_int_equal(see(&eye), offset);
        mem_fail_nth(0);
        stream_reader_free(eye.reader);
        assert_int_equal(w->damages, 0);
        world_free(w);
    }
    assert_true(refused > 20);
}

/* --- crashes ------------------------------------------------------------------------------ */

static void
die(struct world *w)
{
    stream_log_free(w->log, false);
    while (disk_step(w->disk)) /* the process is gone; these see an empty disk */
        ;
}

static void
any_crash_leaves_what_was_promised(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 400; seed++) {
        struct world *w = world_new(seed, 4000 + seed * 97 % 30000);
        struct random r = {seed * 1000003};

        for (unsigned life = 0; life < 4; life++) {
            size_t steps = 1 + random_below(&r, 120);
            uint64_t end;

            for (size_t i = 0; i < steps; i++) {
                size_t n = random_below(&r, 12);

                for (size_t k = 0; k < n; k++)
                    append(w);
                stream_log_flush(w->log);
                if (random_below(&r, 30) == 0) {
                    w->files->fail_at = w->files->calls + 1 + (unsigned)random_below(&r, 12);
                    w->files->fail_for = 1 + (unsigned)random_below(&r, 3);
                }
                for (size_t k = random_below(&r, 3); k > 0; k--)
                    disk_step(w->disk);
                stream_log_check(w->log);
            }
            /* Whatever was on its way ends somewhere: the file system stops in the middle. */
            w->files->fail_at = w->files->calls + 1 + (unsigned)random_below(&r, 8);
            w->files->fail_for = UINT32_MAX / 2;
            die(w);
            w->errors = 0;
            if (random_below(&r, 2))
                memory_disk_power_off(w->files);
            else
                memory_disk_kill(w->files);
            open_log(w);
            end = stream_log_committed(w->log);
            assert_true(end >= w->safe && end <= w->appended);
            assert_int_equal(w->errors, 0);
            w->appended = w->safe = end;
            must_see(w, &from_first, 0, end);
            assert_int_equal(w->damages, 0);
            if (random_below(&r, 2)) { /* what is seen now must not be undone by a power cut */
                stream_log_free(w->log, false);
                run_disk(w);
                memory_disk_power_off(w->files);
                open_log(w);
                assert_int_equal(stream_log_committed(w->log), end);
                must_see(w, &from_first, 0, end);
            }
        }
        world_free(w);
    }
}

/* --- rot ---------------------------------------------------------------------------------- */

static struct memory_file *
segment_file(struct world *w, uint64_t first, const char *suffix)
{
    char path[200];

    snprintf(path, sizeof(path), "streams/%016x/%020llu%s", 7, (unsigned long long)first, suffix);
    return memory_find(w->files, path);
}

static void
spoil(struct memory_file *f, size_t at, size_t n, struct random *r)
{
    for (size_t i = at; i < at + n && i < f->size; i++)
        f->live[i] = f->safe[i] = (uint8_t)random_u64(r);
}

static void
rot_is_told_and_passed_over(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct world *w = world_new(seed, 40000);
        struct random r = {seed};
        struct memory_file *f;
        uint64_t end, seen = 0, last = 0, offset;
        struct eye eye;

        append_many(w, 800, 8);
        stream_log_free(w->log, false);
        run_disk(w);
        f = segment_file(w, 0, ".seg");
        if (seed % 3 == 0) /* the newest one */
            for (size_t i = 0; i < w->files->n_files; i++)
                if (strstr(w->files->files[i]->path, ".seg") != NULL &&
                    strcmp(w->files->files[i]->path, f->path) > 0)
                    f = w->files->files[i];
        spoil(f, random_below(&r, f->size / 2), 1 + random_below(&r, seed % 2 ? 1 : 3000), &r);
        if (seed % 5 == 0)
            spoil(segment_file(w, 0, ".idx"), random_below(&r, 40), 20, &r);
        open_log(w);
        end = stream_log_committed(w->log);
        assert_true(end <= 800);
        w->damages = 0;
        w->lost = 0;
        eye_open(&eye, w, &from_first);
        while ((offset = see(&eye)) != UINT64_MAX) {
            assert_true(seen == 0 || offset > last);
            last = offset;
            seen++;
        }
        stream_reader_free(eye.reader);
        assert_int_equal(seen + w->lost, end);
        if (end == 800 && seen < 800)
            assert_true(w->damages > 0);
        /* It goes on. */
        w->appended = w->safe = end;
        append_many(w, 10, 3);
        assert_int_equal(w->safe, end + 10);
        world_free(w);
    }
}

/* A segment of the newest chunks, its messages in batches of `batch` chunks of one message each. */
static struct memory_file *
fill_newest(struct world *w, unsigned batches, unsigned batch)
{
    for (unsigned i = 0; i < batches; i++) {
        stream_log_flush(w->log);
        for (unsigned k = 0; k < batch; k++)
            append_as(w, STREAM_CHUNK_BYTES - 100, "", view_of(no_properties, 2));
        run_disk(w);
        commit(w);
    }
    assert_int_equal(stream_log_segments(w->log), 1);
    return segment_file(w, 0, ".seg");
}

static void
restart(struct world *w)
{
    stream_log_free(w->log, false);
    run_disk(w);
    memory_disk_kill(w->files);
    open_log(w);
}

static void
a_hole_in_what_was_promised_is_no_torn_tail(void **state)
{
    struct world *w = world_new(1, 0);
    struct memory_file *f = fill_newest(w, 6, 1);
    struct random r = {1};
    struct eye eye;

    (void)state;
    memory_find(w->files, "streams/0000000000000007/00000000000000000000.idx")->is_named = false;
    spoil(f, 5 * STREAM_CHUNK_BYTES / 2, 100, &r);
    restart(w);
    assert_int_equal(w->errors, 1);
    assert_non_null(strstr(w->line, "offsets 2 to 2 are lost"));
    assert_int_equal(stream_log_committed(w->log), 6);
    w->damages = 0;
    w->lost = 0;
    eye_open(&eye, w, &from_first);
    for (uint64_t i = 0; i < 6; i++)
        if (i != 2)
            assert_int_equal(see(&eye), i);
    assert_int_equal(w->damages, 1);
    assert_int_equal(w->lost, 1);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
a_batch_that_is_torn_in_its_middle_is_cut_there(void **state)
{
    struct world *w = world_new(1, 0);
    struct memory_file *f = fill_newest(w, 1, 1);
    struct random r = {1};

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        append_as(w, STREAM_CHUNK_BYTES - 100, "", view_of(no_properties, 2));
    commit(w); /* one batch of five chunks; as if its sync had never come back */
    f = segment_file(w, 0, ".seg");
    memory_find(w->files, "streams/0000000000000007/00000000000000000000.idx")->is_named = false;
    spoil(f, 5 * STREAM_CHUNK_BYTES / 2, 100, &r); /* in the second of the five */
    restart(w);
    assert_int_equal(w->errors, 0);
    assert_int_equal(w->findings, 1);
    assert_int_equal(stream_log_committed(w->log), 2);
    w->appended = w->safe = 2;
    append_many(w, 10, 3);
    must_see(w, &from_first, 0, 12);
    restart(w);
    must_see(w, &from_first, 0, 12);
    world_free(w);
}

static void
an_index_entry_is_a_promise(void **state)
{
    struct world *w = world_new(1, 0);
    struct memory_file *f = fill_newest(w, 4, 1);
    struct random r = {1};
    struct eye eye;

    (void)state;
    spoil(f, 7 * STREAM_CHUNK_BYTES / 2, 100, &r); /* the last chunk: nothing behind it tells */
    restart(w);
    assert_int_equal(w->errors, 1);
    assert_int_equal(stream_log_committed(w->log), 4);
    w->appended = w->safe = 4;
    append_many(w, 10, 3);
    assert_int_equal(w->safe, 14);
    w->lost = 0;
    eye_open(&eye, w, &from_first);
    for (uint64_t i = 0; i < 14; i++)
        if (i != 3)
            assert_int_equal(see(&eye), i);
    assert_int_equal(w->lost, 1);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
a_segment_whose_sync_failed_is_left(void **state)
{
    struct world *w = world_new(1, 0);

    (void)state;
    append_many(w, 10, 5);
    append(w);
    w->files->fail_at = w->files->calls + 2; /* write, sync */
    commit(w);
    assert_int_equal(w->troubles, 1);
    assert_true(stream_log_is_in_trouble(w->log));
    assert_int_equal(w->safe, 10);
    commit(w);
    assert_int_equal(w->safe, 11);
    assert_int_equal(stream_log_segments(w->log), 2);
    world_free(w);
}

static void
room_that_was_allocated_is_given_back(void **state)
{
    struct world *w = world_new(1, 1 << 20);
    size_t bytes = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        append_as(w, 4000, "", view_of(no_properties, 2));
        if (i % 10 == 9)
            commit(w);
    }
    for (unsigned i = 0; i < 3; i++)
        stream_log_retain(w->log); /* idle */
    append_as(w, 4000, "", view_of(no_properties, 2));
    commit(w);
    for (size_t i = 0; i < w->files->n_files; i++)
        if (w->files->files[i]->is_named && strstr(w->files->files[i]->path, ".seg") != NULL)
            bytes += w->files->files[i]->size;
    assert_true(stream_log_segments(w->log) > 5);
    assert_true(bytes >= stream_log_bytes(w->log));
    assert_true(bytes < stream_log_bytes(w->log) + (300 << 10)); /* of the active one */
    restart(w);
    for (size_t i = bytes = 0; i < w->files->n_files; i++)
        if (w->files->files[i]->is_named && strstr(w->files->files[i]->path, ".seg") != NULL)
            bytes += w->files->files[i]->size;
    assert_int_equal(bytes, stream_log_bytes(w->log));
    world_free(w);
}

static void
an_idle_stream_keeps_no_file_open(void **state)
{
    struct world *w = world_new(1, 0);

    (void)state;
    append_many(w, 100, 10);
    assert_true(w->files->n_open > 0);
    stream_log_retain(w->log);
    stream_log_retain(w->log);
    assert_int_equal(w->files->n_open, 0);
    append_many(w, 100, 10);
    must_see(w, &from_first, 0, 200);
    world_free(w);
}

/* Entries as clients of the native protocol make them: a plain batch, a compressed one. */
static void
batches_of_native_clients_are_unpacked(void **state)
{
    static const uint8_t entries[] = {
        0x80, 0, 2, 0, 0, 0,    20,   0,    0, 0,   20,             /* plain, two records */
        0,    0, 0, 6, 0, 0x53, 0x75, 0xa0, 1, 'a',                 /* the first */
        0,    0, 0, 6, 0, 0x53, 0x75, 0xa0, 1, 'b',                 /* the second */
        0x90, 0, 3, 0, 0, 0,    9,    0,    0, 0,   4,  1, 2, 3, 4, /* gzip, three records */
        0,    0, 0, 6, 0, 0x53, 0x75, 0xa0, 1, 'c',                 /* one by itself */
    };
    struct world *w = world_new(1, 0);
    struct stream_chunk chunk = {.records = 6,
                                 .entries = 3,
                                 .timestamp_ms = 5000,
                                 .data_len = sizeof(entries),
                                 .flags = STREAM_CHUNK_NATIVE,
                                 .id = 1,
                                 .durable = 1};
    struct memory_file *f;
    struct stream_message m;
    struct eye eye;
    size_t at;

    (void)state;
    append(w);
    commit(w);
    f = segment_file(w, 0, ".seg");
    at = f->size;
    memory_resize(f, at + STREAM_HEAD_MIN + sizeof(entries));
    chunk.data_crc = stream_chunk_sum(view_of(entries, sizeof(entries)));
    stream_chunk_put_head(&chunk, f->live + at);
    memcpy(f->live + at + STREAM_HEAD_MIN, entries, sizeof(entries));
    restart(w);
    assert_int_equal(stream_log_committed(w->log), 7);
    eye_open(&eye, w, &from_first);
    assert_int_equal(see(&eye), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(stream_reader_next(eye.reader, &m), STREAM_READ_MESSAGE);
        assert_int_equal(m.offset, i < 2 ? 1 + i : 6);
        assert_int_equal(m.content.body.len, 1);
        assert_int_equal(m.content.body.at[0], 'a' + i);
        assert_int_equal(m.timestamp_ms, 5000);
    }
    assert_int_equal(stream_reader_skipped(eye.reader), 3);
    assert_int_equal(stream_reader_next(eye.reader, &m), STREAM_READ_WAIT);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
whole_chunks_are_given_as_they_are_sent(void **state)
{
    struct world *w = world_new(1, 20000);
    struct stream_chunk chunk;
    struct view header, data;
    struct eye eye;
    uint64_t next = 0;

    (void)state;
    append_many(w, 500, 10);
    eye_open(&eye, w, &from_first);
    for (;;) {
        if (stream_reader_next_chunk(eye.reader, &chunk, &header, &data) == STREAM_READ_WAIT) {
            if (!disk_step(w->disk))
                break;
            continue;
        }
        assert_int_equal(header.len, STREAM_HEADER_SIZE);
        assert_int_equal(header.at[0], 0x50);
        assert_int_equal(be_u64(header.at + 24), next);
        assert_int_equal(be_u32(header.at + 36), data.len);
        assert_int_equal(be_u32(header.at + 32), stream_chunk_sum(data));
        assert_int_equal(be_u64(header.at + 40), 0);
        next += chunk.records;
    }
    assert_int_equal(next, 500);
    stream_reader_free(eye.reader);
    world_free(w);
}

static void
a_newer_version_is_refused(void **state)
{
    struct world *w = world_new(1, 0);
    struct err err = {0};

    (void)state;
    append_many(w, 10, 5);
    stream_log_free(w->log, false);
    run_disk(w);
    segment_file(w, 0, ".seg")->live[11] = 2;
    w->log = stream_log_new(&w->settings, &log_ops, w);
    assert_false(stream_log_recover(w->log, &err));
    assert_non_null(strstr(err.text, "version 2"));
    world_free(w);
}

static void
the_start_reads_little_of_much(void **state)
{
    const struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET, .offset = 1234};
    struct eye eye;
    struct world *w = world_new(1, 4 << 20);
    unsigned calls;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        append_as(w, 4000, "", view_of(no_properties, 2));
        if (i % 10 == 9)
            commit(w);
    }
    stream_log_free(w->log, false);
    run_disk(w);
    calls = w->files->calls;
    open_log(w);
    assert_int_equal(stream_log_committed(w->log), 3000);
    assert_true(w->files->calls - calls < 40);
    /* And so does looking for an offset. */
    calls = w->files->calls;
    eye_open(&eye, w, &s);
    assert_int_equal(see(&eye), 1234);
    assert_true(w->files->calls - calls < 20);
    stream_reader_free(eye.reader);
    world_free(w);
}

/* Attach, append, retain, read at random; every reader sees what a model says. */
static void
random_readers_see_what_a_model_says(void **state)
{
    enum { EYES = 6 };

    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct world *w = world_new(seed, 6000 + seed * 131 % 20000);
        struct random r = {seed * 77};
        struct eye eyes[EYES] = {0};
        uint64_t expected[EYES] = {0};

        for (unsigned step = 0; step < 3000; step++) {
            size_t i = random_below(&r, EYES);

            switch (random_below(&r, 12)) {
            case 0:
            case 1:
            case 2:
            case 3:
                append(w);
                break;
            case 4:
                stream_log_flush(w->log);
                break;
            case 5:
                disk_step(w->disk);
                break;
            case 6:
                if (random_below(&r, 20) == 0)
                    stream_log_set_limits(w->log, 10000 + random_below(&r, 100000), 0);
                break;
            case 7:
                if (eyes[i].reader == NULL) {
                    struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET};
                    uint64_t first = stream_log_first(w->log);

                    s.offset = random_below(&r, stream_log_committed(w->log) + 5);
                    expected[i] = s.offset < first ? first : s.offset;
                    eye_open(&eyes[i], w, &s);
                } else if (random_below(&r, 30) == 0) {
                    stream_reader_free(eyes[i].reader);
                    eyes[i].reader = NULL;
                }
                break;
            default:
                for (size_t n = random_below(&r, 40); eyes[i].reader != NULL && n > 0; n--) {
                    uint64_t offset = see(&eyes[i]);

                    if (offset == UINT64_MAX)
                        break;
                    /* Retention may make it jump, to a first offset that was. */
                    if (offset != expected[i])
                        assert_true(offset > expected[i] && expected[i] < stream_log_first(w->log));
                    expected[i] = offset + 1;
                }
            }
            stream_log_check(w->log);
        }
        assert_int_equal(w->damages, 0);
        for (size_t i = 0; i < EYES; i++)
            stream_reader_free(eyes[i].reader);
        world_free(w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_is_read_in_order),
        cmocka_unit_test(nothing_is_seen_before_it_is_safe),
        cmocka_unit_test(what_comes_during_a_commit_goes_together),
        cmocka_unit_test(readers_begin_where_they_are_told),
        cmocka_unit_test(a_reader_at_an_offset_to_come_sees_nothing_below_it),
        cmocka_unit_test(an_index_that_is_missing_is_made_again),
        cmocka_unit_test(retention_by_size_drops_whole_segments),
        cmocka_unit_test(retention_by_age_spares_what_is_young),
        cmocka_unit_test(a_segment_stays_while_a_reader_is_in_it),
        cmocka_unit_test(a_filter_lets_pass_what_matches),
        cmocka_unit_test(a_reader_is_small),
        cmocka_unit_test(a_large_message_makes_a_large_chunk),
        cmocka_unit_test(a_deleted_stream_leaves_nothing),
        cmocka_unit_test(a_failed_write_is_tried_again_elsewhere),
        cmocka_unit_test(reads_that_fail_are_tried_again),
        cmocka_unit_test(recovery_that_cannot_read_says_so),
        cmocka_unit_test(memory_that_runs_out_loses_nothing),
        cmocka_unit_test(any_crash_leaves_what_was_promised),
        cmocka_unit_test(rot_is_told_and_passed_over),
        cmocka_unit_test(a_hole_in_what_was_promised_is_no_torn_tail),
        cmocka_unit_test(a_batch_that_is_torn_in_its_middle_is_cut_there),
        cmocka_unit_test(an_index_entry_is_a_promise),
        cmocka_unit_test(a_segment_whose_sync_failed_is_left),
        cmocka_unit_test(room_that_was_allocated_is_given_back),
        cmocka_unit_test(an_idle_stream_keeps_no_file_open),
        cmocka_unit_test(batches_of_native_clients_are_unpacked),
        cmocka_unit_test(whole_chunks_are_given_as_they_are_sent),
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(the_start_reads_little_of_much),
        cmocka_unit_test(random_readers_see_what_a_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
