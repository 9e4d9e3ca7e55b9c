/* The journal with its worker and its disk's thread: turns, timers, the end. */
#include "journal_life.h"

#include <time.h>

#include "../net/crew.h"

enum { FRAMES = 300, SEGMENT = 16384, WINDOW = 8, WINDOWS = 60, SLOW_NS = 10 * 1000 * 1000 };

struct shop {
    struct life life; /* the worker's while that runs */
    struct crew crew;
    struct worker_task task;
    unsigned appended, wanted, told_trouble, ended_trouble;
    uint64_t safe;
    bool is_answering;
    unsigned frames, answers, lsn_count[FRAMES]; /* for publish_half and what follows it */
};

static void
on_safe(void *arg, uint64_t lsn)
{
    struct shop *shop = arg;

    assert(worker_is_here(crew_worker(&shop->crew, 0)));
    assert(lsn > shop->safe);
    shop->safe = lsn;
    if (shop->appended < shop->wanted) {
        worker_schedule(crew_worker(&shop->crew, 0), WORKER_AGAIN, &shop->task);
        return;
    }
    if (journal_unsafe_bytes(shop->life.journal) == FRAME_HEAD_LEN)
        tell(&shop->crew.told);
}

static void
on_crowded(void *arg, uint64_t lsn)
{
    struct shop *shop = arg;

    journal_keep_from(shop->life.journal, lsn);
}

static void
on_trouble(void *arg, const struct err *why)
{
    struct shop *shop = arg;

    assert(journal_is_in_trouble(shop->life.journal) == (why != NULL));
    if (why != NULL)
        shop->told_trouble++;
    else
        shop->ended_trouble++;
    if (why == NULL && shop->life.settings.sync == JOURNAL_INTERVAL)
        tell(&shop->crew.told);
}

static const struct journal_ops shop_ops = {on_safe, on_crowded, on_trouble};

/* A few records a turn; nobody flushes but the journal. */
static void
append(void *arg)
{
    struct shop *shop = arg;

    for (int i = 0; i < 3; i++) {
        struct buf *frame = journal_open_frame(shop->life.journal);

        put_le32(buf_reserve(frame, 8), shop->appended++);
        put_le32(frame->at + frame->len + 4, 0);
        frame->len += 8;
        journal_added(shop->life.journal);
    }
}

static void
begin(void *arg)
{
    struct shop *shop = arg;

    worker_schedule(crew_worker(&shop->crew, 0), WORKER_AGAIN, &shop->task);
}

static struct shop *
shop_make(enum journal_sync sync, unsigned wanted, const struct journal_ops *ops,
          const struct file_ops *files)
{
    struct shop *shop = mem_new(struct shop);
    struct life *l = &shop->life;
    struct err err;

    life_init(l, 1, SEGMENT);
    if (files != NULL)
        l->settings.files.ops = files;
    l->settings.sync = sync;
    l->settings.interval_ms = 1;
    l->settings.prepares = true;
    l->settings.term = l->settings.first_lsn = 1;
    l->term = 1;
    crew_init(&shop->crew, 1);
    shop->task = (struct worker_task){.run = append, .arg = shop};
    shop->wanted = wanted;
    l->disk = disk_new(crew_worker(&shop->crew, 0), "journal");
    l->journal = journal_new(&l->settings, crew_worker(&shop->crew, 0), l->disk, ops, shop, &err);
    assert_non_null(l->journal);
    assert_true(disk_start(l->disk, &err));
    crew_start(&shop->crew);
    return shop;
}

static struct shop *
shop_open(enum journal_sync sync, unsigned wanted)
{
    return shop_make(sync, wanted, &shop_ops, NULL);
}

/* Everything that was appended is there, once and in order. */
static bool
on_frame(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct shop *shop = arg;

    (void)err;
    assert_int_equal(frame->payload.len, frame->count * 8);
    for (uint32_t i = 0; i < frame->count; i++) {
        uint32_t serial = get_le32(frame->payload.at + 8 * (size_t)i);

        if (shop->life.told++ > 0)
            assert_int_equal(serial, shop->life.serial + 1);
        shop->life.serial = serial;
    }
    return true;
}

static void
shop_close(struct shop *shop)
{
    struct life *l = &shop->life;
    struct journal_found found;
    struct err err;

    worker_set_stop(shop->crew.set);
    disk_stop(l->disk);
    while (disk_step(l->disk)) /* what the end of a job began */
        ;
    journal_free(l->journal);
    disk_free(l->disk);
    l->journal = NULL;
    crew_fini(&shop->crew);
    sim_disk_kill(l->sim);
    assert_true(
        journal_replay("data", &l->settings.files, on_frame, life_on_line, shop, &found, &err));
    assert_int_equal(found.lsn, shop->safe);
    assert_int_equal(l->serial + 1, shop->appended);
    sim_disk_free(l->sim);
    free(shop);
}

static void
what_a_turn_appended_is_flushed_at_its_end(void **state)
{
    struct shop *shop = shop_open(JOURNAL_ALWAYS, FRAMES * 3);

    (void)state;
    crew_send(&shop->crew, 0, begin, shop);
    await(&shop->crew.told);
    shop_close(shop);
}

static void
a_batch_that_failed_is_tried_again_by_itself(void **state)
{
    struct shop *shop = shop_open(JOURNAL_ALWAYS, 30);

    (void)state;
    sim_disk_fail(shop->life.sim, SIM_WRITE, 8, 1, ENOSPC);
    crew_send(&shop->crew, 0, begin, shop);
    await(&shop->crew.told);
    sim_disk_fail(shop->life.sim, SIM_SYNC, 1, 1, EIO);
    shop->wanted = 60;
    crew_send(&shop->crew, 0, begin, shop);
    await(&shop->crew.told);
    assert_in_range(shop->told_trouble, 1, 2); /* preparing may have met with one */
    assert_int_equal(shop->told_trouble, shop->ended_trouble);
    shop_close(shop);
}

static void
the_interval_syncs_and_says_when_it_cannot(void **state)
{
    struct shop *shop = shop_open(JOURNAL_INTERVAL, 30);

    (void)state;
    sim_disk_fail(shop->life.sim, SIM_SYNC, 40, 2, EIO);
    shop->wanted = UINT32_MAX; /* a load that does not pause */
    crew_send(&shop->crew, 0, begin, shop);
    await(&shop->crew.told); /* the trouble has come and gone */
    shop_close(shop);
}

/* --- gathering ------------------------------------------------------------------------- */

static const struct file_ops *fast;

static int
sync_slowly(void *arg, int fd)
{
    nanosleep(&(struct timespec){.tv_nsec = SLOW_NS}, NULL);
    return fast->sync(arg, fd);
}

static void
publish(struct shop *shop, unsigned n)
{
    struct journal *journal = shop->life.journal;

    for (unsigned i = 0; i < n; i++) {
        struct buf *frame = journal_open_frame(journal);

        put_le32(buf_reserve(frame, 8), shop->appended++);
        put_le32(frame->at + frame->len + 4, 0);
        frame->len += 8;
        shop->lsn_count[journal_lsn(journal)]++;
        journal_added(journal);
    }
}

/* What was confirmed is sent anew, but not in the same turn. */
static void
answer(void *arg)
{
    struct shop *shop = arg;

    shop->is_answering = !shop->is_answering;
    if (shop->is_answering) {
        worker_schedule(crew_worker(&shop->crew, 0), WORKER_AGAIN, &shop->task);
        return;
    }
    publish(shop, shop->answers);
    shop->answers = 0;
}

static void
on_window_safe(void *arg, uint64_t lsn)
{
    struct shop *shop = arg;

    shop->safe = lsn;
    shop->frames++;
    shop->answers += shop->lsn_count[lsn];
    if (shop->appended < shop->wanted)
        worker_schedule(crew_worker(&shop->crew, 0), WORKER_AGAIN, &shop->task);
    else if (journal_unsafe_bytes(shop->life.journal) == FRAME_HEAD_LEN)
        tell(&shop->crew.told);
}

static void
publish_half(void *arg)
{
    publish(arg, WINDOW / 2);
}

/* A window whose halves went in two batches comes together in one. */
static void
what_answers_a_batch_is_waited_for(void **state)
{
    static const struct journal_ops ops = {on_window_safe, on_crowded, on_trouble};
    struct sim_disk *sim = sim_disk_new(1);
    struct file_ops slow = *(fast = sim_disk_files(sim).ops);
    struct shop *shop;

    sim_disk_free(sim);
    slow.sync = sync_slowly;
    shop = shop_make(JOURNAL_ALWAYS, WINDOW * WINDOWS, &ops, &slow);
    shop->task.run = answer;
    (void)state;
    crew_do(&shop->crew, 0, publish_half, shop);
    crew_do(&shop->crew, 0, publish_half, shop); /* a sync takes much longer than a turn */
    await(&shop->crew.told);
    assert_in_range(shop->frames, WINDOWS, WINDOWS * 3 / 2);
    shop->life.settings.files.ops = fast;
    shop_close(shop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_turn_appended_is_flushed_at_its_end),
        cmocka_unit_test(a_batch_that_failed_is_tried_again_by_itself),
        cmocka_unit_test(the_interval_syncs_and_says_when_it_cannot),
        cmocka_unit_test(what_answers_a_batch_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
