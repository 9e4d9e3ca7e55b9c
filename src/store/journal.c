/*
 * journal: the writer.
 *
 *   append       into `open`; the flush is scheduled for the turn's end
 *   flush        nothing under way: `open` becomes the batch, a job of the disk
 *   run          (disk) opens or allocates the slot if need be, writes, syncs
 *   done         the batch is safe: told; what has come meanwhile is flushed at this turn's end
 *   done, failed the same batch again, RETRY_MS later, where give_up_place says
 */
#include "lepus/store/journal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_priv.h"
#include "octets_le.h"

#include "lepus/base/clock.h"
#include "lepus/base/crc32c.h"
#include "lepus/base/mem.h"
#include "lepus/base/random.h"

enum {
    RETRY_MS = 500,
    GATHER_MAX_US = 2000,
    GATHER_SHY_MAX = 64,
    BUFFER_KEEP = 4 << 20, /* a larger buffer is given back */
    FRAME_MAX = 1 << 30,
    PREPARE_STEP = 1 << 20,
    BAD_MAX = 4, /* slots given up before one of them is tried again */
};

/* What fails: a batch that waits to be tried again, a sync of what was called safe before. */
enum { TROUBLE_BATCH = 1, TROUBLE_SYNC = 2 };

struct slot {
    uint32_t number;
    uint64_t size;                /* of its file, as it is to be */
    uint64_t first_lsn, last_lsn; /* what is in it; first 0: nothing */
    bool is_bad;                  /* a write or sync failed: no more is written to it */
    bool is_preparing;            /* not to be used yet */

    /* The disk's: */
    int fd; /* -1: not open */
    uint64_t made_size;
    struct list dirty; /* written to since its last sync */
};

struct batch {
    struct disk_job job;
    struct buf frame; /* head and payload */
    uint32_t count;
    uint64_t lsn;
    struct slot *slot;
    uint64_t at;         /* in the slot */
    uint64_t generation; /* of the slot */
    uint64_t low, synced;
    bool starts_slot, sync;
    int rc;
    const char *what; /* failed */
    uint64_t took_us;
};

/* See "gathering". */
struct gather {
    struct worker_alarm alarm;
    uint64_t done_us;   /* when the last batch was safe */
    uint64_t usual_us;  /* what a batch takes, on average */
    uint32_t goal;      /* so many are expected in the next batch */
    bool is_on;         /* the open frame waits for them */
    uint32_t shy, skip; /* waiting was in vain: so many batches do not wait */
};

struct journal {
    struct journal_settings settings;
    struct worker *worker;
    struct disk *disk;
    const struct journal_ops *ops;
    void *arg;

    uint64_t key;
    struct buf open; /* head's room, then records */
    uint32_t open_count;
    uint64_t lsn; /* of the open frame */
    uint64_t safe, synced, low;
    uint64_t safe_low; /* the low that the last safe frame tells */
    uint64_t free_low; /* the low that a synced frame tells (with `never`, a safe one): slots
                          below may be overwritten */

    struct batch batch;
    struct gather gather;
    bool is_writing;   /* the batch is under way, or waits to be tried again */
    bool wants_retry;  /* it waits */
    unsigned troubles; /* TROUBLE_*; 0: none */

    struct slot **slots;
    size_t n_slots;
    struct slot *current;
    uint64_t position, generation;
    uint64_t crowded_told; /* the lsn that was */

    struct list dirty; /* the disk's: slots */
    struct prepare_job {
        struct disk_job job;
        struct slot *slot; /* NULL: none is being prepared */
        uint64_t at;       /* zeroes up to there */
        int rc;
    } prepare;

    struct worker_task flush;
    struct worker_timer retry, interval;
    struct sync_job {
        struct disk_job job;
        struct journal *journal;
        uint64_t lsn, low;
        int rc;
        bool is_under_way;
    } sync_job;
};

/* --- octets ---------------------------------------------------------------------------- */

void
segment_head_encode(uint8_t to[SEGMENT_HEAD_SIZE], const struct segment_head *head)
{
    memset(to, 0, SEGMENT_HEAD_SIZE);
    memcpy(to, SEGMENT_MAGIC, 8);
    put_le32(to + 8, head->version);
    put_le32(to + 12, head->journal);
    put_le64(to + 16, head->generation);
    put_le64(to + 24, head->term);
    put_le64(to + 32, head->first_lsn);
    put_le64(to + 40, head->key);
    put_le32(to + 60, crc32c(0, to, 60));
}

bool
segment_head_decode(const uint8_t from[SEGMENT_HEAD_SIZE], struct segment_head *out)
{
    out->version = get_le32(from + 8);
    out->journal = get_le32(from + 12);
    out->generation = get_le64(from + 16);
    out->term = get_le64(from + 24);
    out->first_lsn = get_le64(from + 32);
    out->key = get_le64(from + 40);
    return memcmp(from, SEGMENT_MAGIC, 8) == 0 && get_le32(from + 60) == crc32c(0, from, 60);
}

void
frame_head_encode(uint8_t *frame, const struct frame_head *head)
{
    put_le32(frame, FRAME_MAGIC);
    put_le32(frame + 8, head->len);
    put_le32(frame + 12, head->count);
    put_le64(frame + 16, head->generation);
    put_le64(frame + 24, head->term);
    put_le64(frame + 32, head->key);
    put_le64(frame + 40, head->lsn);
    put_le64(frame + 48, head->low);
    put_le64(frame + 56, head->synced);
    put_le64(frame + 64, head->wall_ms);
    put_le32(frame + 4, crc32c(0, frame + 8, FRAME_HEAD_LEN - 8 + head->len));
}

bool
frame_head_decode(const uint8_t *at, struct frame_head *out)
{
    out->crc = get_le32(at + 4);
    out->len = get_le32(at + 8);
    out->count = get_le32(at + 12);
    out->generation = get_le64(at + 16);
    out->term = get_le64(at + 24);
    out->key = get_le64(at + 32);
    out->lsn = get_le64(at + 40);
    out->low = get_le64(at + 48);
    out->synced = get_le64(at + 56);
    out->wall_ms = get_le64(at + 64);
    return get_le32(at) == FRAME_MAGIC;
}

bool
frame_is_good(const uint8_t *at, const struct frame_head *head)
{
    return crc32c(0, at + 8, FRAME_HEAD_LEN - 8 + head->len) == head->crc;
}

char *
journal_dir(const char *dir)
{
    size_t size = strlen(dir) + sizeof("/journal");
    char *path = mem_alloc(size);

    snprintf(path, size, "%s/journal", dir);
    return path;
}

char *
journal_slot_path(const char *dir, uint32_t journal, uint64_t term, uint32_t slot)
{
    size_t size = strlen(dir) + 80;
    char *path = mem_alloc(size);

    snprintf(path, size, "%s/journal/%" PRIu32 "-%" PRIu64 "-%" PRIu32 ".log", dir, journal, term,
             slot);
    return path;
}

/* --- life ------------------------------------------------------------------------------ */

static void prepare_next(struct journal *journal);
static void on_flush(void *arg);
static void on_gathered(void *arg);
static void on_retry(void *arg);
static void on_interval(void *arg);

static void
begin_frame(struct journal *journal)
{
    static const uint8_t nothing[FRAME_HEAD_LEN];

    buf_clear(&journal->open);
    buf_append(&journal->open, nothing, FRAME_HEAD_LEN);
    journal->open_count = 0;
}

struct journal *
journal_new(const struct journal_settings *settings, struct worker *worker, struct disk *disk,
            const struct journal_ops *ops, void *arg, struct err *err)
{
    struct journal *journal = mem_new(struct journal);
    char *dir = journal_dir(settings->dir);
    int rc;

    journal->settings = *settings;
    journal->worker = worker;
    journal->disk = disk;
    journal->ops = ops;
    journal->arg = arg;
    list_init(&journal->dirty);
    journal->lsn = journal->low = journal->free_low = journal->safe_low = settings->first_lsn;
    journal->safe = journal->synced = settings->first_lsn - 1;
    journal->generation = settings->generation;
    journal->key = random_u64();
    journal->flush = (struct worker_task){.run = on_flush, .arg = journal};
    journal->gather.alarm = (struct worker_alarm){.fire = on_gathered, .arg = journal};
    journal->retry = (struct worker_timer){.fire = on_retry, .arg = journal};
    journal->interval = (struct worker_timer){.fire = on_interval, .arg = journal};
    buf_init(&journal->open, FRAME_MAX);
    buf_init(&journal->batch.frame, FRAME_MAX);
    begin_frame(journal);
    rc = settings->files.ops->make_dir(settings->files.arg, dir);
    if (rc == 0)
        rc = settings->files.ops->sync_dir(settings->files.arg, settings->dir);
    if (rc != 0) {
        err_set(err, INTERNAL_ERROR, "mkdir %s: %s", dir, strerror(-rc));
        journal_free(journal);
        journal = NULL;
    }
    free(dir);
    if (journal != NULL)
        prepare_next(journal);
    return journal;
}

void
journal_free(struct journal *journal)
{
    if (journal == NULL)
        return;
    assert(!journal->is_writing || journal->wants_retry);
    worker_task_cancel(&journal->flush);
    worker_alarm_end(&journal->gather.alarm);
    worker_timer_cancel(&journal->retry);
    worker_timer_cancel(&journal->interval);
    for (size_t i = 0; i < journal->n_slots; i++) {
        struct slot *slot = journal->slots[i];

        if (slot->fd >= 0)
            journal->settings.files.ops->close(journal->settings.files.arg, slot->fd);
        free(slot);
    }
    free(journal->slots);
    buf_fini(&journal->open);
    buf_fini(&journal->batch.frame);
    free(journal);
}

/* --- appending ------------------------------------------------------------------------- */

static void
schedule_flush(struct journal *journal)
{
    if (journal->worker != NULL && !journal->is_writing)
        worker_schedule(journal->worker, WORKER_FLUSH, &journal->flush);
}

struct buf *
journal_open_frame(struct journal *journal)
{
    return &journal->open;
}

void
journal_added(struct journal *journal)
{
    if (journal->open.bad) { /* to go on would be to call safe what is not there */
        fprintf(stderr, "no memory for a frame of the journal, with %zu octets in it\n",
                journal->open.len);
        abort();
    }
    if (++journal->open_count == 1 ||
        (journal->gather.is_on && journal->open_count == journal->gather.goal))
        schedule_flush(journal);
}

uint64_t
journal_lsn(const struct journal *journal)
{
    return journal->lsn;
}

uint64_t
journal_safe(const struct journal *journal)
{
    return journal->safe;
}

uint64_t
journal_low(const struct journal *journal)
{
    return journal->low;
}

size_t
journal_unsafe_bytes(const struct journal *journal)
{
    return journal->open.len + (journal->is_writing ? journal->batch.frame.len : 0);
}

bool
journal_is_in_trouble(const struct journal *journal)
{
    return journal->troubles != 0;
}

void
journal_keep_from(struct journal *journal, uint64_t lsn)
{
    assert(lsn >= journal->low && lsn <= journal->lsn);
    journal->low = lsn;
}

/* --- slots ----------------------------------------------------------------------------- */

static bool
is_wanted(const struct journal *journal, const struct slot *slot)
{
    return slot == journal->current ||
           (slot->first_lsn != 0 && slot->last_lsn >= journal->free_low);
}

static uint64_t
used_bytes(const struct journal *journal)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < journal->n_slots; i++)
        if (is_wanted(journal, journal->slots[i]))
            bytes += journal->slots[i]->size;
    return bytes;
}

bool
journal_is_full(const struct journal *journal)
{
    return used_bytes(journal) > journal->settings.limit_bytes;
}

static struct slot *
find_free_slot(struct journal *journal)
{
    struct slot *bad = NULL;
    unsigned n_bad = 0;

    for (size_t i = 0; i < journal->n_slots; i++) {
        struct slot *slot = journal->slots[i];

        n_bad += slot->is_bad;
        if (is_wanted(journal, slot) || slot->is_preparing)
            continue;
        if (!slot->is_bad)
            return slot;
        bad = slot;
    }
    return n_bad > BAD_MAX ? bad : NULL; /* a disk that fails everywhere: no more of it is taken */
}

static struct slot *
add_slot(struct journal *journal)
{
    struct slot *slot = mem_new(struct slot);

    slot->number = (uint32_t)journal->n_slots;
    slot->fd = -1;
    journal->slots = mem_resize(journal->slots, (journal->n_slots + 1) * sizeof(journal->slots[0]));
    journal->slots[journal->n_slots++] = slot;
    return slot;
}

/* The oldest half of what is in use stands in the way. */
static uint64_t
crowded_upto(const struct journal *journal)
{
    uint64_t half = used_bytes(journal) / 2, upto = journal->low;

    for (;;) {
        const struct slot *oldest = NULL;

        for (size_t i = 0; i < journal->n_slots; i++) {
            const struct slot *slot = journal->slots[i];

            if (slot != journal->current && slot->first_lsn != 0 && slot->last_lsn >= upto &&
                (oldest == NULL || slot->last_lsn < oldest->last_lsn))
                oldest = slot;
        }
        if (oldest == NULL)
            return upto;
        upto = oldest->last_lsn + 1;
        if (oldest->size >= half)
            return upto;
        half -= oldest->size;
    }
}

static void
look_at_crowd(struct journal *journal)
{
    uint64_t upto;

    if (journal->low < journal->crowded_told ||
        used_bytes(journal) <= journal->settings.crowded_bytes)
        return;
    upto = crowded_upto(journal);
    if (upto <= journal->low)
        return;
    journal->crowded_told = upto;
    journal->ops->crowded(journal->arg, upto);
}

/* Where the batch goes: behind the last one, or at the start of another slot. */
static void
choose_place(struct journal *journal, struct batch *batch)
{
    uint64_t size = frame_size(batch->frame.len - FRAME_HEAD_LEN);
    struct slot *slot = journal->current;

    batch->starts_slot = slot == NULL || slot->is_bad || journal->position + size > slot->size;
    if (batch->starts_slot) {
        slot = find_free_slot(journal);
        if (slot == NULL)
            slot = add_slot(journal);
        slot->size = SEGMENT_HEAD_SIZE + size > journal->settings.segment_bytes
                         ? SEGMENT_HEAD_SIZE + size
                         : journal->settings.segment_bytes;
        slot->first_lsn = batch->lsn;
        slot->is_bad = false;
        journal->current = slot;
        journal->position = SEGMENT_HEAD_SIZE;
        journal->generation++;
    }
    slot->last_lsn = batch->lsn;
    batch->slot = slot;
    batch->at = journal->position;
    batch->generation = journal->generation;
    journal->position += size;
}

/* --- the disk's side ------------------------------------------------------------------- */

static int
fail(struct batch *batch, int rc, const char *what)
{
    if (rc != 0)
        batch->what = what;
    return rc;
}

/* The slot's file, open and of its size. */
static int
make_slot(struct journal *journal, struct batch *batch)
{
    const struct file_system *files = &journal->settings.files;
    struct slot *slot = batch->slot;
    int rc = 0;

    if (slot->fd < 0) {
        char *path = journal_slot_path(journal->settings.dir, journal->settings.index,
                                       journal->settings.term, slot->number);
        char *dir = journal_dir(journal->settings.dir);

        slot->fd = files->ops->open(files->arg, path, FILE_CREATE);
        rc = slot->fd < 0 ? slot->fd : files->ops->sync_dir(files->arg, dir);
        free(path);
        free(dir);
        if (rc != 0 && slot->fd >= 0) { /* its name is not there for good: once more, all of it */
            files->ops->close(files->arg, slot->fd);
            slot->fd = -1;
        }
        if (rc != 0)
            return fail(batch, rc, "open");
    }
    if (slot->made_size > slot->size)
        rc = files->ops->truncate(files->arg, slot->fd, slot->size);
    else if (slot->made_size < slot->size)
        rc = files->ops->allocate(files->arg, slot->fd, slot->size);
    if (rc == 0)
        slot->made_size = slot->size;
    return fail(batch, rc, "allocate");
}

static int
write_head(struct journal *journal, struct batch *batch)
{
    const struct file_system *files = &journal->settings.files;
    uint8_t octets[SEGMENT_HEAD_SIZE];
    struct iovec iov = {octets, sizeof(octets)};
    struct segment_head head = {
        .version = JOURNAL_VERSION,
        .journal = journal->settings.index,
        .generation = batch->generation,
        .term = journal->settings.term,
        .first_lsn = batch->lsn,
        .key = journal->key,
    };

    segment_head_encode(octets, &head);
    return files->ops->write(files->arg, batch->slot->fd, &iov, 1, 0);
}

static int
write_frame(struct journal *journal, struct batch *batch)
{
    static const uint8_t zeroes[8];
    const struct file_system *files = &journal->settings.files;
    uint32_t len = (uint32_t)(batch->frame.len - FRAME_HEAD_LEN);
    struct frame_head head = {
        .len = len,
        .count = batch->count,
        .generation = batch->generation,
        .term = journal->settings.term,
        .key = journal->key,
        .lsn = batch->lsn,
        .low = batch->low,
        .synced = batch->synced,
        .wall_ms = clock_wall_ms(),
    };
    struct iovec iov[2] = {
        {batch->frame.at, batch->frame.len},
        {(void *)(uintptr_t)zeroes, (size_t)(frame_size(len) - batch->frame.len)},
    };

    frame_head_encode(batch->frame.at, &head);
    return files->ops->write(files->arg, batch->slot->fd, iov, 2, batch->at);
}

/* All slots that were written to since their last sync. One that fails is not asked again. */
static int
sync_dirty(struct journal *journal)
{
    const struct file_system *files = &journal->settings.files;
    struct list *link;
    int rc = 0;

    while (rc == 0 && (link = list_take_first(&journal->dirty)) != NULL)
        rc = files->ops->sync(files->arg, container_of(link, struct slot, dirty)->fd);
    return rc;
}

static void
run_batch(struct disk_job *job)
{
    struct batch *batch = container_of(job, struct batch, job);
    struct journal *journal = container_of(batch, struct journal, batch);
    uint64_t began_us = clock_now_us();

    batch->what = NULL;
    batch->rc = batch->starts_slot ? make_slot(journal, batch) : 0;
    if (batch->rc == 0 && batch->starts_slot)
        batch->rc = fail(batch, write_head(journal, batch), "write");
    if (batch->rc == 0)
        batch->rc = fail(batch, write_frame(journal, batch), "write");
    if (batch->slot->fd >= 0 && !list_is_linked(&batch->slot->dirty))
        list_append(&journal->dirty, &batch->slot->dirty);
    if (batch->rc == 0 && batch->sync)
        batch->rc = fail(batch, sync_dirty(journal), "fdatasync");
    batch->took_us = clock_now_us() - began_us;
}

/* --- preparing ------------------------------------------------------------------------- */

/* A step: short enough not to keep a batch waiting. */
static void
run_prepare(struct disk_job *job)
{
    struct prepare_job *p = container_of(job, struct prepare_job, job);
    struct journal *journal = container_of(p, struct journal, prepare);
    const struct file_system *files = &journal->settings.files;
    uint64_t left = p->slot->size - p->at, n = left < PREPARE_STEP ? left : PREPARE_STEP;
    struct batch as_batch = {.slot = p->slot};
    uint8_t *zeroes = mem_alloc_zero((size_t)n);
    struct iovec iov = {zeroes, (size_t)n};

    p->rc = p->at == 0 ? make_slot(journal, &as_batch) : 0;
    if (p->rc == 0)
        p->rc = files->ops->write(files->arg, p->slot->fd, &iov, 1, p->at);
    if (p->rc == 0)
        p->rc = files->ops->sync(files->arg, p->slot->fd);
    free(zeroes);
    p->at += n;
}

static void
on_prepare_done(struct disk_job *job)
{
    struct prepare_job *p = container_of(job, struct prepare_job, job);
    struct journal *journal = container_of(p, struct journal, prepare);

    if (p->rc == 0 && p->at < p->slot->size) {
        disk_submit(journal->disk, DISK_LATER, &p->job);
        return;
    }
    p->slot->is_preparing = false; /* if it failed, whoever needs it finds out */
    p->slot = NULL;
}

static void
prepare_next(struct journal *journal)
{
    struct prepare_job *p = &journal->prepare;

    if (!journal->settings.prepares || p->slot != NULL || find_free_slot(journal) != NULL ||
        journal->troubles != 0 || used_bytes(journal) >= journal->settings.limit_bytes)
        return;
    p->slot = add_slot(journal);
    p->slot->size = journal->settings.segment_bytes;
    p->slot->is_preparing = true;
    p->at = 0;
    p->job.run = run_prepare;
    p->job.done = on_prepare_done;
    disk_submit(journal->disk, DISK_LATER, &p->job);
}

/* --- trouble --------------------------------------------------------------------------- */

static void
begin_trouble(struct journal *journal, unsigned which, const struct err *why)
{
    unsigned before = journal->troubles;

    journal->troubles |= which;
    if (before == 0)
        journal->ops->trouble(journal->arg, why);
}

static void
end_trouble(struct journal *journal, unsigned which)
{
    unsigned before = journal->troubles;

    journal->troubles &= ~which;
    if (before != 0 && journal->troubles == 0)
        journal->ops->trouble(journal->arg, NULL);
}

/* --- batches --------------------------------------------------------------------------- */

static void on_batch_done(struct disk_job *job);

static void
submit(struct journal *journal)
{
    struct batch *batch = &journal->batch;

    journal->wants_retry = false;
    choose_place(journal, batch);
    batch->low = journal->low;
    batch->synced = journal->synced;
    batch->sync = journal->settings.sync == JOURNAL_ALWAYS;
    batch->job.run = run_batch;
    batch->job.done = on_batch_done;
    disk_submit(journal->disk, DISK_FIRST, &batch->job);
}

void
journal_flush(struct journal *journal)
{
    struct batch *batch = &journal->batch;
    struct buf empty = batch->frame;

    if (journal->wants_retry && journal->worker == NULL)
        submit(journal);
    if (journal->is_writing || journal->open_count == 0)
        return;
    batch->frame = journal->open;
    batch->count = journal->open_count;
    batch->lsn = journal->lsn++;
    journal->open = empty;
    if (journal->open.size > BUFFER_KEEP) {
        buf_fini(&journal->open);
        buf_init(&journal->open, FRAME_MAX);
    }
    begin_frame(journal);
    journal->gather.is_on = false;
    journal->is_writing = true;
    submit(journal);
    look_at_crowd(journal);
    if (journal->position > journal->settings.segment_bytes / 4)
        prepare_next(journal);
}

/* --- gathering ------------------------------------------------------------------------- */

/*
 * Publishers that wait for confirms before they send more answer a batch with the next one. While
 * it was written, others of them (or the other half of a window) have filled the open frame: to
 * write that at once would make two batches, each with half of what is on its way, take turns for
 * good, and each message would cost twice the syncs. So the frame waits until as many records are
 * there as the last batch had and had come meanwhile, but no longer than half of what a batch
 * usually takes, counted from when the last one was safe. Where that was in vain (what came did not
 * depend on what was confirmed) the next batches do not wait, more of them each time.
 */
static bool
gathers(struct journal *journal)
{
    struct gather *g = &journal->gather;
    uint64_t wait_us = g->usual_us / 2 < GATHER_MAX_US ? g->usual_us / 2 : GATHER_MAX_US;
    uint64_t due_us = g->done_us + wait_us, now_us;

    if (journal->settings.sync != JOURNAL_ALWAYS || journal->is_writing ||
        journal->open_count == 0 || journal->open_count >= g->goal || g->skip > 0)
        return false;
    now_us = clock_now_us();
    if (now_us >= due_us || !worker_alarm_set(journal->worker, &g->alarm, due_us - now_us))
        return false;
    g->is_on = true;
    return true;
}

/* A batch is safe: what to expect of the next one. */
static void
look_at_batch(struct journal *journal, const struct batch *batch)
{
    struct gather *g = &journal->gather;

    g->usual_us = g->usual_us == 0 ? batch->took_us : (7 * g->usual_us + batch->took_us) / 8;
    g->goal = batch->count + journal->open_count;
    g->done_us = clock_now_us();
    if (g->skip > 0)
        g->skip--;
}

static void
on_gathered(void *arg)
{
    struct journal *journal = arg;
    struct gather *g = &journal->gather;

    if (!g->is_on)
        return;
    g->shy = g->shy == 0 ? 1 : g->shy < GATHER_SHY_MAX ? g->shy * 2 : g->shy;
    g->skip = g->shy;
    journal_flush(journal);
}

static void
on_flush(void *arg)
{
    struct journal *journal = arg;
    struct gather *g = &journal->gather;

    if (g->is_on && journal->open_count >= g->goal)
        g->shy = 0;
    if (!gathers(journal))
        journal_flush(journal);
}

static void
on_retry(void *arg)
{
    struct journal *journal = arg;

    if (journal->wants_retry)
        submit(journal);
}

/* A write that failed left nothing that anybody believes, and is tried again in its place. What a
 * failed sync left may be believed by the system, but not by us: the rest of the slot is not used.
 */
static void
give_up_place(struct journal *journal, struct batch *batch)
{
    struct slot *slot = batch->slot;

    slot->last_lsn = batch->lsn - 1;
    slot->is_bad = strcmp(batch->what, "fdatasync") == 0 || batch->rc == -EIO;
    if (batch->starts_slot || slot->is_bad) {
        journal->current = NULL; /* the next one begins a slot, this one again if it is good */
        if (slot->first_lsn == batch->lsn)
            slot->first_lsn = 0;
    }
    journal->position = batch->at;
}

static void
batch_failed(struct journal *journal, struct batch *batch)
{
    struct err why;

    give_up_place(journal, batch);
    err_set(&why, RESOURCE_ERROR, "journal %" PRIu32 ", slot %" PRIu32 ": %s: %s",
            journal->settings.index, batch->slot->number, batch->what, strerror(-batch->rc));
    journal->wants_retry = true;
    begin_trouble(journal, TROUBLE_BATCH, &why);
    if (journal->worker != NULL)
        worker_timer_set(journal->worker, &journal->retry, RETRY_MS);
}

static void
arm_interval(struct journal *journal)
{
    if (journal->worker != NULL && journal->settings.sync == JOURNAL_INTERVAL &&
        journal->interval.event == NULL)
        worker_timer_set(journal->worker, &journal->interval, journal->settings.interval_ms);
}

static void
on_batch_done(struct disk_job *job)
{
    struct batch *batch = container_of(job, struct batch, job);
    struct journal *journal = container_of(batch, struct journal, batch);

    if (batch->rc != 0) {
        batch_failed(journal, batch);
        return;
    }
    journal->is_writing = false;
    journal->safe = batch->lsn;
    journal->safe_low = batch->low;
    if (batch->sync)
        journal->synced = batch->lsn;
    if (batch->sync || journal->settings.sync == JOURNAL_NEVER)
        journal->free_low = batch->low;
    if (batch->frame.size > BUFFER_KEEP) {
        buf_fini(&batch->frame);
        buf_init(&batch->frame, FRAME_MAX);
    }
    buf_clear(&batch->frame);
    arm_interval(journal);
    look_at_batch(journal, batch);
    end_trouble(journal, batch->sync ? TROUBLE_BATCH | TROUBLE_SYNC : TROUBLE_BATCH);
    journal->ops->safe(journal->arg, journal->safe);
    if (journal->open_count > 0)
        schedule_flush(journal);
}

/* --- store.sync = interval ------------------------------------------------------------- */

static void
run_sync(struct disk_job *job)
{
    struct sync_job *s = container_of(job, struct sync_job, job);

    s->rc = sync_dirty(s->journal);
}

/* What was called safe may not be, and whether it is nobody can find out: the owner, who has it
 * still, is asked to put it elsewhere, and told that the promise is late. */
static void
sync_failed(struct journal *journal, const struct sync_job *s)
{
    struct err why;

    if (journal->current != NULL)
        journal->current->is_bad = true;
    err_set(&why, RESOURCE_ERROR, "journal %" PRIu32 ": fdatasync: %s", journal->settings.index,
            strerror(-s->rc));
    begin_trouble(journal, TROUBLE_SYNC, &why);
    if (s->lsn >= journal->low && s->lsn >= journal->crowded_told) {
        journal->crowded_told = s->lsn + 1;
        journal->ops->crowded(journal->arg, s->lsn + 1);
    }
}

static void
on_sync_done(struct disk_job *job)
{
    struct sync_job *s = container_of(job, struct sync_job, job);
    struct journal *journal = s->journal;

    s->is_under_way = false;
    if (s->rc != 0) {
        sync_failed(journal, s);
        return;
    }
    journal->synced = s->lsn;
    journal->free_low = s->low;
    end_trouble(journal, TROUBLE_SYNC);
}

void
journal_sync_due(struct journal *journal)
{
    struct sync_job *s = &journal->sync_job;

    worker_timer_cancel(&journal->interval);
    if (journal->synced == journal->safe)
        return; /* armed again by the next batch */
    if (!s->is_under_way) {
        s->is_under_way = true;
        s->journal = journal;
        s->lsn = journal->safe;
        s->low = journal->safe_low;
        s->job.run = run_sync;
        s->job.done = on_sync_done;
        disk_submit(journal->disk, DISK_FIRST, &s->job);
    }
    arm_interval(journal);
}

static void
on_interval(void *arg)
{
    journal_sync_due(arg);
}

void
journal_set_sync(struct journal *journal, enum journal_sync sync, uint32_t interval_ms)
{
    journal->settings.sync = sync;
    journal->settings.interval_ms = interval_ms;
    arm_interval(journal);
}
