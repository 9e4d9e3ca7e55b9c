/*
 * fuzz_recovery: whatever octets a data directory holds, a start survives them.
 *
 * The first octet of the input says what the rest is; checksums stand between a fuzzer and what is
 * behind them, so that some inputs are sealed here:
 *
 *   0  a segment of the journal, as it is       1  the records of a frame, sealed
 *   2  a page file, as it is                    3  the records of a block, sealed
 *   4  the state of a backlog, beside a page file of three good messages
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "journal_priv.h"
#include "octets_le.h"
#include "pages_priv.h"
#include "sim_disk.h"

#include "lepus/base/crc32c.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "lepus/broker/backlog.h"
#include "lepus/broker/queue_life.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

enum { QUEUE = 7 };

/* --- the journal ----------------------------------------------------------------------- */

static void
on_line(void *arg, bool is_error, const char *line)
{
    (void)arg;
    (void)is_error;
    assert(strlen(line) > 0);
}

/* Every octet of what a record points at is looked at. */
static void
touch(struct view view)
{
    volatile uint8_t sum = 0;

    for (size_t i = 0; i < view.len; i++)
        sum = (uint8_t)(sum + view.at[i]);
    (void)sum;
}

static bool
on_frame(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct record_reader reader;
    struct record record;

    (void)arg;
    (void)err;
    record_reader_init(&reader, frame->payload);
    while (record_next(&reader, &record)) {
        struct record_target target;
        struct seq_range range;

        touch(record.state);
        touch(record.message.content.body);
        touch(record.message.content.properties);
        while (record.kind == RECORD_PUBLISH && record_next_target(&reader, &record, &target))
            assert(target.queue != 0);
        while (record.kind == RECORD_SETTLE && record_next_range(&reader, &record, &range))
            assert(range.first <= range.last);
    }
    return true;
}

static void
replay(struct sim_disk *sim)
{
    struct file_system files = sim_disk_files(sim);
    struct journal_found found;
    struct err err;

    (void)journal_replay("data", &files, on_frame, on_line, NULL, &found, &err);
}

static void
put_frame(struct sim_disk *sim, const uint8_t *payload, size_t size)
{
    size_t all = SEGMENT_HEAD_SIZE + (size_t)frame_size(size);
    uint8_t *octets = mem_alloc_zero(all);
    struct segment_head head = {
        .version = JOURNAL_VERSION, .generation = 1, .term = 1, .first_lsn = 1};
    struct frame_head frame = {
        .len = (uint32_t)size, .count = 1, .generation = 1, .term = 1, .lsn = 1, .low = 1};

    segment_head_encode(octets, &head);
    if (size > 0)
        memcpy(octets + SEGMENT_HEAD_SIZE + FRAME_HEAD_LEN, payload, size);
    frame_head_encode(octets + SEGMENT_HEAD_SIZE, &frame);
    sim_disk_put(sim, "data/journal/0-1-0.log", octets, all);
    free(octets);
}

/* --- pages ----------------------------------------------------------------------------- */

static bool
on_mark(void *arg, struct backlog *backlog)
{
    (void)arg;
    (void)backlog;
    return false;
}

static void
on_settled(void *arg, struct backlog *backlog, uint64_t first, uint64_t last)
{
    (void)arg;
    (void)backlog;
    assert(first <= last);
}

static void
on_backlog(void *arg, struct backlog *backlog)
{
    (void)arg;
    (void)backlog;
}

static void
on_failed(void *arg, struct backlog *backlog, uint64_t seq, struct failures failures)
{
    (void)arg;
    (void)backlog;
    (void)seq;
    (void)failures;
}

static void
on_dated(void *arg, struct backlog *backlog, uint64_t seq, uint64_t expires_ms)
{
    (void)arg;
    (void)backlog;
    (void)seq;
    (void)expires_ms;
}

static const struct backlog_ops ops = {on_settled, on_mark,    on_failed,
                                       on_backlog, on_backlog, on_dated};

/* Takes all that comes, as a consumer would. */
static void
drain(struct backlog *backlog, struct disk *disk)
{
    for (int i = 0; i < 2000; i++) {
        struct settled_run run = {0};
        uint64_t seq = backlog_first(backlog);

        if (seq == 0 && !disk_step(disk))
            return;
        if (seq == 0)
            continue;
        touch(message_content(backlog_take(backlog, seq, NULL)->message).body);
        backlog_settle(backlog, &run, seq);
        backlog_end_run(backlog, &run);
    }
}

static void
restore(struct sim_disk *sim, struct view state, bool adopt)
{
    struct file_system files = sim_disk_files(sim);
    struct disk *disk = disk_new(NULL, "pages");
    struct err err;
    struct page_store *store = page_store_new("data", &files, disk, 4, NULL, NULL, &err);
    struct backlog_settings settings = {.id = QUEUE, .durable = true, .store = store};
    struct backlog_restored restored = {.state = state, .adopt = adopt};
    struct backlog backlog;
    uint64_t tail;

    assert(store != NULL);
    backlog_init(&backlog, &settings, &ops, NULL);
    if (backlog_restore(&backlog, &restored, &tail, &err))
        backlog_restore_done(&backlog, tail);
    drain(&backlog, disk);
    backlog_fini(&backlog, true);
    while (disk_step(disk))
        continue;
    page_store_free(store);
    disk_free(disk);
}

static void
put_block(struct sim_disk *sim, const uint8_t *records, size_t size)
{
    size_t all = FILE_HEAD_SIZE + BLOCK_HEAD_SIZE + size;
    uint8_t *octets = mem_alloc_zero(all), *block = octets + FILE_HEAD_SIZE;
    struct block_head head = {
        .len = (uint32_t)size, .count = 3, .persistent = 3, .first = 1, .last = 3};

    block_head_encode(block, &head);
    if (size > 0)
        memcpy(block + BLOCK_HEAD_SIZE, records, size);
    put_le32(block + 4, crc32c(0, block + 8, BLOCK_HEAD_SIZE - 8 + size));
    sim_disk_put(sim, "data/pages/0/7-1.page", octets, all);
    free(octets);
}

static void
put_good_block(struct sim_disk *sim)
{
    struct record_writer writer = {0};
    struct buf records;

    buf_init(&records, SIZE_MAX);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        struct record_message message = {.content.body = VIEW_LIT("hare"), .persistent = true};

        record_publish(&writer, &records, &message, &(struct record_target){QUEUE, seq}, 1);
    }
    put_block(sim, records.at, records.len);
    buf_fini(&records);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sim_disk *sim;

    if (size == 0 || size > 64 * 1024)
        return 0;
    atomic_store(&log_threshold, -1); /* damage is all that it would tell of */
    sim = sim_disk_new(1);
    switch (input[0] % 5) {
    case 0:
        sim_disk_put(sim, "data/journal/0-1-0.log", input + 1, size - 1);
        replay(sim);
        break;
    case 1:
        put_frame(sim, input + 1, size - 1);
        replay(sim);
        break;
    case 2:
        sim_disk_put(sim, "data/pages/0/7-1.page", input + 1, size - 1);
        restore(sim, view_of(NULL, 0), true);
        break;
    case 3:
        put_block(sim, input + 1, size - 1);
        restore(sim, view_of(NULL, 0), true);
        break;
    default:
        put_good_block(sim);
        restore(sim, view_of(input + 1, size - 1), false);
        break;
    }
    sim_disk_free(sim);
    return 0;
}
