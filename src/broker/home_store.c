/*
 * home_store: what a home writes down, when it confirms, and what leaves memory.
 *
 * A record is appended in the same call that changes the queue, so the journal's order is the
 * queues' order. Everything here is about a durable queue's persistent messages, but for memory,
 * which is everybody's.
 *
 * What pins the journal: a queue is in `journaled` from its first record that a restart would need,
 * with that record's lsn as keep_lsn. It leaves the list when it has nothing left, and moves to its
 * end when a checkpoint has taken its messages to pages. The list is in order of keep_lsn, so its
 * first element is the journal's low.
 */
#include <assert.h>

#include "home_priv.h"

#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum {
    UNSAFE_MAX = 4 << 20,  /* octets that may wait for the journal's disk */
    WRITING_MAX = 4 << 20, /* octets of blocks that may wait for the pages' disk */
    PAGING_STEP = 1 << 20, /* octets a turn, of a checkpoint */
    SPILL_BIG = 2 * PAGE_BLOCK_BYTES,
    RETRY_MS = 1000,
};

static void checkpoint_go_on(struct home *home);

/* --- records --------------------------------------------------------------------------- */

static struct buf *
open_frame(struct home *home)
{
    struct buf *frame = journal_open_frame(home->journal);

    home->last_lsn = journal_lsn(home->journal);
    page_store_stamp(home->pages, home->last_lsn);
    return frame;
}

/* The backlog has something in the journal from this frame on: also how far deliveries may have
 * gone, which was told before what is kept. */
static void
keep(struct home *home, struct backlog *backlog, struct buf *frame)
{
    if (list_is_linked(&backlog->journaled))
        return;
    backlog->keep_lsn = home->last_lsn;
    list_append(&home->journaled, &backlog->journaled);
    if (backlog->delivered_mark > 1) {
        record_delivered(frame, backlog->id, backlog->delivered_mark);
        journal_added(home->journal);
    }
}

void
store_keep_keys(struct home *home, struct backlog *backlog)
{
    if (list_is_linked(&backlog->journaled))
        return;
    backlog->keep_lsn = journal_lsn(home->journal);
    list_append(&home->journaled, &backlog->journaled);
    if (backlog->delivered_mark > 1) {
        record_delivered(open_frame(home), backlog->id, backlog->delivered_mark);
        journal_added(home->journal);
    }
}

void
store_add_target(struct home *home, struct backlog *backlog, uint64_t seq)
{
    if (home->n_targets == home->targets_size) {
        home->targets_size = home->targets_size > 0 ? home->targets_size * 2 : 16;
        home->targets = mem_resize(home->targets, home->targets_size * sizeof(home->targets[0]));
    }
    home->targets[home->n_targets++] = (struct home_target){backlog, seq};
    if (backlog->queue->settings.ticket > home->ticket)
        home->ticket = backlog->queue->settings.ticket;
}

void
store_published(struct home *home, const struct publish *publish)
{
    struct buf *frame = open_frame(home), *targets = &home->record_targets;
    struct record_message message = {
        .content = *publish->content,
        .expires_ms = publish->made->expires_ms,
        .persistent = true,
    };

    if (home->writer_lsn != home->last_lsn) {
        home->writer = (struct record_writer){0};
        home->writer_lsn = home->last_lsn;
    }
    buf_clear(targets);
    for (size_t i = 0; i < home->n_targets; i++) {
        struct backlog *backlog = home->targets[i].backlog;

        buf_append(targets, &(struct record_target){backlog->id, home->targets[i].seq},
                   sizeof(struct record_target));
        keep(home, backlog, frame);
    }
    record_publish(&home->writer, frame, &message, (const void *)targets->at, home->n_targets);
    journal_added(home->journal);
    if (!home->is_holding)
        store_look_at_hold(home);
}

void
store_settled(void *arg, struct backlog *backlog, uint64_t first, uint64_t last)
{
    struct home *home = arg;
    struct buf *frame = open_frame(home);

    if (home->settle.lsn == home->last_lsn && home->settle.end == frame->len &&
        home->settle.backlog == backlog->id && home->settle.last + 1 == first) {
        frame->len = home->settle.at; /* one record for both */
        first = home->settle.first;
    } else {
        home->settle.at = frame->len;
        journal_added(home->journal);
    }
    record_settle(frame, backlog->id, &(struct seq_range){first, last}, 1);
    home->settle.lsn = home->last_lsn;
    home->settle.end = frame->len;
    home->settle.backlog = backlog->id;
    home->settle.first = first;
    home->settle.last = last;
}

bool
store_mark(void *arg, struct backlog *backlog)
{
    struct home *home = arg;

    record_delivered(open_frame(home), backlog->id, backlog->delivered_mark);
    journal_added(home->journal);
    backlog->mark_lsn = home->last_lsn;
    if (!list_is_linked(&backlog->marking))
        list_append(&home->marking, &backlog->marking);
    return true;
}

void
store_failed(void *arg, struct backlog *backlog, uint64_t seq, struct failures failures)
{
    struct home *home = arg;

    record_failed(open_frame(home), backlog->id, seq, failures.n, failures.due_ms);
    journal_added(home->journal);
}

/* Those whose last mark is safe. */
static void
tell_marked(struct home *home, uint64_t lsn)
{
    struct list marked, *link;

    list_init(&marked);
    list_each_safe (at, &home->marking) {
        if (container_of(at, struct backlog, marking)->mark_lsn <= lsn) {
            list_remove(at);
            list_append(&marked, at);
        }
    }
    while ((link = list_take_first(&marked)) != NULL)
        backlog_marked(container_of(link, struct backlog, marking));
}

static void
unlink_if_linked(struct list *link)
{
    if (list_is_linked(link))
        list_remove(link);
}

static void
look_at_backlog(void *arg, struct backlog *backlog)
{
    (void)arg;
    if (list_is_linked(&backlog->journaled) && backlog_is_idle(backlog))
        list_remove(&backlog->journaled);
}

void
store_look_at_queue(struct home *home, struct queue *queue)
{
    if (queue->levels == NULL)
        look_at_backlog(home, &queue->plain);
    else
        queue_each_level(queue, look_at_backlog, home);
}

static void
forget_backlog(void *arg, struct backlog *backlog)
{
    struct home *home = arg;

    if (list_is_linked(&backlog->journaled)) {
        record_forget(open_frame(home), backlog->id);
        journal_added(home->journal);
    }
    unlink_if_linked(&backlog->journaled);
    unlink_if_linked(&backlog->stating);
    unlink_if_linked(&backlog->marking);
    unlink_if_linked(&backlog->spillable);
}

void
store_forget(struct home *home, struct queue *queue)
{
    queue_each_level(queue, forget_backlog, home);
}

/* --- confirms -------------------------------------------------------------------------- */

static struct due_confirm *
due_at(struct home *home, size_t i)
{
    return &home->due[(home->due_head + i) & home->due_mask];
}

static void
grow_due(struct home *home)
{
    size_t size = home->due != NULL ? (home->due_mask + 1) * 2 : 64;
    struct due_confirm *ring = mem_alloc(size * sizeof(*ring));

    for (size_t i = 0; i < home->due_count; i++)
        ring[i] = *due_at(home, i);
    free(home->due);
    home->due = ring;
    home->due_head = 0;
    home->due_mask = size - 1;
}

void
store_confirm(struct home *home, uint64_t channel, uint64_t number, bool ok, bool wait)
{
    struct due_confirm *last;

    if (!wait || home->journal == NULL || home->last_lsn <= journal_safe(home->journal)) {
        home_send_confirm(home, channel, number, 1, ok);
        return;
    }
    last = home->due_count > 0 ? due_at(home, home->due_count - 1) : NULL;
    if (last != NULL && last->lsn == home->last_lsn && last->channel == channel && last->ok == ok &&
        last->first + last->count == number) {
        last->count++;
        return;
    }
    if (home->due == NULL || home->due_count > home->due_mask)
        grow_due(home);
    *due_at(home, home->due_count++) =
        (struct due_confirm){home->last_lsn, home->ticket, channel, number, 1, ok};
}

static void
send_due(struct home *home, uint64_t lsn)
{
    while (home->due_count > 0 && due_at(home, 0)->lsn <= lsn &&
           due_at(home, 0)->ticket <= home->committed) {
        struct due_confirm due = *due_at(home, 0);

        home->due_head = (home->due_head + 1) & home->due_mask;
        home->due_count--;
        home_send_confirm(home, due.channel, due.first, due.count, due.ok);
    }
    if (home->due_count == 0 && home->due_mask >= 4096) {
        free(home->due);
        home->due = NULL;
        home->due_head = home->due_mask = 0;
    }
}

void
home_committed(void *arg, uint64_t ticket)
{
    struct home *home = arg;

    home->committed = ticket;
    if (home->journal != NULL)
        send_due(home, journal_safe(home->journal));
    streams_committed(home);
}

/* --- holding, trouble ------------------------------------------------------------------ */

void
store_look_at_hold(struct home *home)
{
    size_t part = home->is_holding ? 2 : 1; /* let go when half is left */
    bool hold;

    if (home->journal == NULL)
        return;
    hold = home->troubles == 0 && (journal_unsafe_bytes(home->journal) > UNSAFE_MAX / part ||
                                   page_store_writing_bytes(home->pages) > WRITING_MAX / part ||
                                   home->streams.unsafe_bytes > STREAMS_UNSAFE_MAX / part ||
                                   journal_is_full(home->journal));
    if (hold == home->is_holding)
        return;
    home->is_holding = hold;
    if (hold)
        worker_hold(home->post->worker);
    else
        worker_release(home->post->worker);
}

bool
store_is_refusing(const struct home *home)
{
    return home->troubles != 0;
}

void
store_trouble(struct home *home, enum home_trouble which, const struct err *why)
{
    unsigned before = home->troubles;

    home->troubles = why != NULL ? before | which : before & ~(unsigned)which;
    if ((before == 0) != (home->troubles == 0))
        home->ops->trouble(home->ops_arg, why);
    store_look_at_hold(home);
}

static void
on_journal_trouble(void *arg, const struct err *why)
{
    store_trouble(arg, TROUBLE_JOURNAL, why);
}

static void
on_pages_trouble(void *arg, const struct err *why)
{
    struct home *home = arg;

    store_trouble(home, TROUBLE_PAGES, why);
    if (why != NULL)
        worker_timer_set(home->post->worker, &home->checkpoint.retry, RETRY_MS);
}

/* --- memory ---------------------------------------------------------------------------- */

void
store_grew(void *arg, struct backlog *backlog)
{
    struct home *home = arg;

    if (home->pages != NULL && !list_is_linked(&backlog->spillable))
        list_append(&home->spillable, &backlog->spillable);
}

static void
spill(struct home *home, struct backlog *backlog)
{
    list_remove(&backlog->spillable);
    backlog_spill(backlog, false);
    list_append(&home->spilled, &backlog->spillable);
}

/* The one that has just grown, if that is worth a block; then those that grew longest ago; then
 * bodies of what consumers hold. */
void
store_relieve(struct home *home, struct backlog *grown)
{
    struct list *link;

    if (grown != NULL && grown->grown_bytes >= SPILL_BIG && list_is_linked(&grown->spillable))
        spill(home, grown);
    while (home->memory.bytes > home->memory_max && !list_is_empty(&home->spillable))
        spill(home, container_of(home->spillable.next, struct backlog, spillable));
    while (home->memory.bytes > home->memory_max && (link = list_take_first(&home->spilled)) != NULL)
        backlog_spill(container_of(link, struct backlog, spillable), true);
    store_look_at_hold(home);
}

static void
on_relief(void *arg)
{
    struct home *home = arg;

    if (home->memory.bytes > home->memory_max)
        store_relieve(home, NULL);
}

/* --- checkpoint ------------------------------------------------------------------------ */

/* What recovery still needs. */
static void
update_low(struct home *home)
{
    const struct checkpoint *cp = &home->checkpoint;
    uint64_t low = journal_lsn(home->journal);

    if (!list_is_empty(&home->journaled))
        low = container_of(home->journaled.next, struct backlog, journaled)->keep_lsn;
    if (cp->phase != CHECKPOINT_IDLE && cp->low < low)
        low = cp->low;
    if (home->former_is_gone && low > journal_low(home->journal))
        journal_keep_from(home->journal, low);
}

void
home_former_is_gone(struct home *home)
{
    home->former_is_gone = true;
    update_low(home);
}

static void
checkpoint_schedule(struct home *home)
{
    worker_schedule(home->post->worker, WORKER_AGAIN, &home->checkpoint.task);
}

static void
checkpoint_start(struct home *home, uint64_t upto)
{
    struct checkpoint *cp = &home->checkpoint;

    if (upto > cp->upto)
        cp->upto = upto;
    if (cp->phase != CHECKPOINT_IDLE)
        return; /* the queues that are below come with this one or the next */
    cp->low = journal_low(home->journal);
    cp->phase = CHECKPOINT_PAGING;
    checkpoint_schedule(home);
}

static void
checkpoint_end(struct home *home)
{
    struct checkpoint *cp = &home->checkpoint;
    const struct list *first = home->journaled.next;

    cp->phase = CHECKPOINT_IDLE;
    update_low(home);
    if (!home->has_moved_in) {
        home->has_moved_in = true;
        home->ops->moved_in(home->ops_arg);
    }
    if (!list_is_empty(&home->journaled) &&
        container_of(first, struct backlog, journaled)->keep_lsn < cp->upto)
        checkpoint_start(home, cp->upto);
}

/* The states of the queues whose pages are synced. */
static void
checkpoint_save(struct home *home)
{
    struct checkpoint *cp = &home->checkpoint;
    struct list *link;
    struct buf state;

    buf_init(&state, SIZE_MAX);
    while ((link = list_take_first(&cp->backlogs)) != NULL) {
        struct backlog *backlog = container_of(link, struct backlog, stating);

        if (backlog_is_idle(backlog))
            continue;
        queue_each_failed(backlog, store_failed, home); /* what is told of them now goes */
        buf_clear(&state);
        backlog_state(backlog, backlog->state_end, home->is_stopping, &state);
        record_state(open_frame(home), backlog->id, buf_view(&state));
        journal_added(home->journal);
    }
    buf_fini(&state);
    cp->saved_lsn = home->last_lsn;
    cp->phase = CHECKPOINT_SAVING;
    if (journal_safe(home->journal) >= cp->saved_lsn)
        checkpoint_end(home);
}

static void
on_synced(void *arg, const struct err *why)
{
    struct home *home = arg;

    if (why == NULL) {
        checkpoint_save(home);
        return;
    }
    home->checkpoint.sync_is_due = true;
    worker_timer_set(home->post->worker, &home->checkpoint.retry, RETRY_MS);
}

/* What the states will cover is what this sync does. */
static void
checkpoint_sync(struct home *home)
{
    struct checkpoint *cp = &home->checkpoint;

    list_each (at, &cp->backlogs) {
        struct backlog *backlog = container_of(at, struct backlog, stating);

        backlog->state_end = backlog->paged_end;
    }
    cp->phase = CHECKPOINT_SYNCING;
    page_store_sync(home->pages, on_synced, home);
}

static void
on_retry(void *arg)
{
    struct home *home = arg;

    page_store_retry(home->pages);
    if (home->checkpoint.phase == CHECKPOINT_SYNCING && home->checkpoint.sync_is_due) {
        home->checkpoint.sync_is_due = false;
        checkpoint_sync(home);
    }
    if ((home->troubles & TROUBLE_PAGES) != 0)
        worker_timer_set(home->post->worker, &home->checkpoint.retry, RETRY_MS);
}

/* Queues that pin what must go write their messages to pages, and count from here on. */
static void
checkpoint_page(struct home *home)
{
    struct checkpoint *cp = &home->checkpoint;
    size_t before = page_store_writing_bytes(home->pages);

    while (!list_is_empty(&home->journaled)) {
        struct backlog *backlog = container_of(home->journaled.next, struct backlog, journaled);

        if (backlog->keep_lsn >= cp->upto)
            break;
        list_remove(&backlog->journaled);
        if (backlog_is_idle(backlog))
            continue;
        backlog_page_out(backlog);
        backlog->state_end = backlog->paged_end;
        backlog->keep_lsn = journal_lsn(home->journal);
        list_append(&home->journaled, &backlog->journaled);
        if (!list_is_linked(&backlog->stating))
            list_append(&cp->backlogs, &backlog->stating);
        if (page_store_writing_bytes(home->pages) > before + PAGING_STEP)
            return; /* on_written or the next turn goes on */
    }
    checkpoint_sync(home);
}

static void
checkpoint_go_on(struct home *home)
{
    if (home->checkpoint.phase != CHECKPOINT_PAGING)
        return;
    if (page_store_writing_bytes(home->pages) <= WRITING_MAX / 2)
        checkpoint_page(home);
    if (home->checkpoint.phase == CHECKPOINT_PAGING &&
        page_store_writing_bytes(home->pages) <= WRITING_MAX / 2)
        checkpoint_schedule(home);
}

static void
on_checkpoint_task(void *arg)
{
    checkpoint_go_on(arg);
}

/* --- what the store says --------------------------------------------------------------- */

static void
on_safe(void *arg, uint64_t lsn)
{
    struct home *home = arg;

    send_due(home, lsn);
    page_store_safe(home->pages, lsn);
    tell_marked(home, lsn);
    update_low(home);
    if (home->checkpoint.phase == CHECKPOINT_SAVING && lsn >= home->checkpoint.saved_lsn)
        checkpoint_end(home);
    store_look_at_hold(home);
}

static void
on_crowded(void *arg, uint64_t lsn)
{
    checkpoint_start(arg, lsn);
}

static void
on_written(void *arg)
{
    struct home *home = arg;

    store_look_at_hold(home);
    if (home->checkpoint.phase == CHECKPOINT_PAGING)
        checkpoint_schedule(home);
}

static const struct journal_ops journal_ops = {
    .safe = on_safe,
    .crowded = on_crowded,
    .trouble = on_journal_trouble,
};

static const struct page_store_ops page_store_ops = {
    .trouble = on_pages_trouble,
    .written = on_written,
};

/* --- life ------------------------------------------------------------------------------ */

bool
store_open(struct home *home, const struct home_settings *settings, struct err *err)
{
    struct worker *worker = home->post->worker;

    home->memory_max = settings->memory_max;
    buf_init(&home->record_targets, SIZE_MAX);
    list_init(&home->spillable);
    list_init(&home->spilled);
    list_init(&home->journaled);
    list_init(&home->marking);
    list_init(&home->checkpoint.backlogs);
    home->relief = (struct worker_task){.run = on_relief, .arg = home};
    home->checkpoint.task = (struct worker_task){.run = on_checkpoint_task, .arg = home};
    home->checkpoint.retry = (struct worker_timer){.fire = on_retry, .arg = home};
    home->journal_disk = disk_new(worker, "journal");
    home->page_disk = disk_new(worker, "pages");
    home->pages = page_store_new(settings->journal.dir, &settings->journal.files, home->page_disk,
                                 settings->descriptors_max, &page_store_ops, home, err);
    if (home->pages == NULL)
        return false;
    home->journal =
        journal_new(&settings->journal, worker, home->journal_disk, &journal_ops, home, err);
    home->last_lsn = settings->journal.first_lsn - 1;
    page_store_safe(home->pages, home->last_lsn);
    return home->journal != NULL && streams_open(home, settings, err);
}

void
store_close(struct home *home)
{
    if (home->journal_disk != NULL) {
        disk_stop(home->journal_disk);
        while (disk_step(home->journal_disk))
            continue;
    }
    if (home->page_disk != NULL) {
        disk_stop(home->page_disk);
        while (disk_step(home->page_disk)) /* files of queues that ended with us */
            continue;
    }
    journal_free(home->journal);
    page_store_free(home->pages);
    disk_free(home->journal_disk);
    disk_free(home->page_disk);
    buf_fini(&home->record_targets);
    free(home->due);
}

bool
home_start(struct home *home, struct err *err)
{
    if (home->journal == NULL)
        return true;
    if (!disk_start(home->journal_disk, err) || !disk_start(home->page_disk, err))
        return false;
    if (!streams_start(home, err))
        return false;
    home_start_leases(home);
    checkpoint_start(home, home->last_lsn + 1);
    return true;
}

/* Disks without threads: runs what they have, until nothing is left. */
static void
drain(struct home *home)
{
    while (disk_step(home->journal_disk) || disk_step(home->page_disk))
        continue;
}

void
home_stop(struct home *home)
{
    if (home->journal == NULL)
        return;
    streams_stop(home);
    disk_stop(home->journal_disk);
    disk_stop(home->page_disk);
    worker_timer_cancel(&home->checkpoint.retry);
    worker_task_cancel(&home->checkpoint.task);
    worker_task_cancel(&home->relief);
    if (home->troubles != 0)
        return; /* what is not safe now stays so: the journal has the rest */
    home->is_stopping = true;
    drain(home);
    journal_flush(home->journal);
    drain(home);
    checkpoint_start(home, journal_lsn(home->journal));
    while (home->checkpoint.phase == CHECKPOINT_PAGING && home->troubles == 0) {
        worker_task_cancel(&home->checkpoint.task);
        checkpoint_page(home);
        drain(home);
    }
    journal_flush(home->journal);
    drain(home);
    journal_flush(home->journal); /* with the new low */
    drain(home);
}

void
home_set_sync(struct home *home, enum journal_sync sync, uint32_t interval_ms)
{
    if (home->journal != NULL)
        journal_set_sync(home->journal, sync, interval_ms);
}

static void
backlog_recovered(void *arg, struct backlog *backlog)
{
    struct home *home = arg;

    if (backlog_is_idle(backlog) || list_is_linked(&backlog->journaled))
        return;
    backlog->keep_lsn = 0;
    list_prepend(&home->journaled, &backlog->journaled);
}

void
home_queue_recovered(struct home *home, struct queue *queue)
{
    queue_restored(queue);
    queue_each_level(queue, backlog_recovered, home);
}

void
home_relieve(struct home *home)
{
    if (home->memory.bytes > home->memory_max)
        store_relieve(home, NULL);
    while (page_store_writing_bytes(home->pages) > WRITING_MAX / 2 && disk_step(home->page_disk))
        continue;
}

static bool
is_ours(void *arg, uint64_t id)
{
    struct home *home = arg;
    struct queue_description description;
    unsigned worker;

    id = backlog_id_queue(id);
    if (idmap_find(&home->queues, id) != NULL)
        return true;
    if (!topology_queue_describe(home->topology, id, &description))
        return home->post->index == 0;
    worker = topology_worker_of(home->topology, description.ref.shard);
    queue_description_fini(&description);
    return worker == home->post->index;
}

void
home_recovered(struct home *home)
{
    page_store_sweep(home->pages, is_ours, home);
}
