#include "lepus/broker/backlog.h"

#include <stdlib.h>

#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum {
    LEASE_MIN = 64, /* seqs that a mark goes ahead; grows while deliveries have to wait */
    LEASE_MAX = 64 * 1024,
    STATE_VERSION = 3,
};

#define SEQ_MAX (UINT64_C(1) << 56)

void
backlog_init(struct backlog *backlog, const struct backlog_settings *settings,
             const struct backlog_ops *ops, void *ops_arg)
{
    *backlog = (struct backlog){
        .id = settings->id,
        .queue = settings->queue,
        .durable = settings->durable,
        .account = settings->account,
        .store = settings->store,
        .paged_end = 1,
        .delivered_mark = 1,
        .safe_mark = 1,
        .lease = LEASE_MIN,
        .ops = ops,
        .ops_arg = ops_arg,
    };
    window_init(&backlog->window);
}

void
backlog_fini(struct backlog *backlog, bool forget)
{
    if (backlog->pages != NULL)
        pages_free(backlog->pages, forget);
    window_fini(&backlog->window);
}

/* The mark goes ahead of deliveries, so that they need not wait for it to be safe; if they had to,
 * it goes further the next time. */
static void
advance_mark(struct backlog *backlog, uint64_t seq)
{
    if (!backlog->durable || seq + backlog->lease / 2 < backlog->delivered_mark)
        return;
    backlog->delivered_mark = seq + 1 + backlog->lease;
    if (!backlog->ops->mark(backlog->ops_arg, backlog))
        backlog->safe_mark = backlog->delivered_mark;
}

void
backlog_marked(struct backlog *backlog)
{
    bool waited = backlog->waits_for_mark;

    backlog->safe_mark = backlog->delivered_mark;
    backlog->waits_for_mark = false;
    if (waited)
        backlog->ops->loaded(backlog->ops_arg, backlog);
}

/* Would a restart know of the delivery? */
static bool
may_deliver(struct backlog *backlog, uint64_t seq, const struct slot *slot)
{
    if (!backlog->durable || !slot->persistent)
        return true;
    advance_mark(backlog, seq);
    if (seq < backlog->safe_mark)
        return true;
    if (!backlog->waits_for_mark && backlog->lease < LEASE_MAX)
        backlog->lease *= 4;
    backlog->waits_for_mark = true;
    return false;
}

static void
grow_by(struct backlog *backlog, size_t bytes)
{
    backlog->grown_bytes += bytes;
    backlog->ops->grew(backlog->ops_arg, backlog);
}

/* --- settled seqs, in runs ------------------------------------------------------------- */

void
backlog_end_run(struct backlog *backlog, struct settled_run *run)
{
    if (run->first == 0)
        return;
    if (backlog->durable && run->persistent)
        backlog->ops->settled(backlog->ops_arg, backlog, run->first, run->last);
    if (run->first < backlog->paged_end && backlog->pages != NULL)
        pages_settle(backlog->pages, run->first,
                     run->last < backlog->paged_end ? run->last : backlog->paged_end - 1);
    run->first = 0;
}

static void
add_to_run(struct backlog *backlog, struct settled_run *run, uint64_t seq, bool persistent)
{
    if (run->first != 0 && seq == run->last + 1) {
        run->last = seq;
        run->persistent |= persistent;
        return;
    }
    backlog_end_run(backlog, run);
    *run = (struct settled_run){seq, seq, persistent};
}

void
backlog_settle(struct backlog *backlog, struct settled_run *run, uint64_t seq)
{
    add_to_run(backlog, run, seq, window_slot(&backlog->window, seq)->persistent);
    window_settle(&backlog->window, seq);
}

void
backlog_drop(struct backlog *backlog, struct settled_run *run, uint64_t seq)
{
    add_to_run(backlog, run, seq, window_slot(&backlog->window, seq)->persistent);
    window_drop(&backlog->window, seq);
}

struct message *
backlog_hold(struct backlog *backlog, uint64_t seq)
{
    return window_hold(&backlog->window, seq);
}

bool
backlog_release(struct backlog *backlog, uint64_t seq)
{
    const struct message *message = idmap_find(&backlog->window.held, seq);
    struct settled_run run;

    if (message == NULL)
        return false;
    run = (struct settled_run){seq, seq, message->persistent};
    window_release(&backlog->window, seq);
    backlog_end_run(backlog, &run);
    return true;
}

static void
on_purged(void *arg, uint64_t first, uint64_t last)
{
    backlog_end_run(arg, &(struct settled_run){first, last, true});
}

size_t
backlog_purge(struct backlog *backlog)
{
    return window_purge(&backlog->window, on_purged, backlog);
}

/* --- pages ----------------------------------------------------------------------------- */

bool
backlog_load(struct backlog *backlog, uint64_t seq)
{
    if (pages_is_reading(backlog->pages))
        return false;
    backlog->asked = seq != 0 ? seq : window_edge(&backlog->window);
    pages_read(backlog->pages, backlog->asked);
    return true;
}

static void
read_ahead(struct backlog *backlog)
{
    if (backlog->window.middle > 0 &&
        window_front_left(&backlog->window) <= backlog->read_count / 2)
        backlog_load(backlog, 0);
}

static void
tell_dated(struct backlog *backlog, uint64_t seq)
{
    const struct slot *slot = window_slot(&backlog->window, seq);

    if (slot != NULL && slot->state == SLOT_READY && slot->message->expires_ms != 0)
        backlog->ops->dated(backlog->ops_arg, backlog, seq, slot->message->expires_ms);
}

/* False: no memory; what was not filled is asked for again when it is wanted. With `only_bodies`
 * nothing is appended. */
static bool
fill(struct backlog *backlog, struct page_block *block, bool only_bodies)
{
    struct record_message record;
    uint64_t seq;

    backlog->read_count = 0;
    while (page_block_next(block, &seq, &record)) {
        struct message *message;

        backlog->read_count++;
        if (only_bodies && seq >= window_edge(&backlog->window))
            break;
        if (!window_wants(&backlog->window, seq))
            continue;
        message = message_of_record(&record, backlog->account);
        if (message == NULL)
            return false;
        grow_by(backlog, sizeof(*message) + record.content.body.len);
        window_fill(&backlog->window, seq, message,
                    record.redelivered || seq < backlog->restored_mark);
        message_unref(&message);
        tell_dated(backlog, seq);
    }
    return true;
}

/* What the middle and the bodiless slots had in [first, last] is lost. */
static void
lose(struct backlog *backlog, uint64_t first, uint64_t last)
{
    struct window *window = &backlog->window;
    size_t on_pages = (size_t)pages_live(backlog->pages), elsewhere = 0;

    for (uint64_t seq = first; seq <= last && seq < window_edge(window); seq++) {
        const struct slot *slot = window_slot(window, seq);

        if (slot != NULL && slot->state == SLOT_READY && slot->message == NULL)
            window_drop(window, seq);
    }
    for (uint64_t seq = window->front.first; seq < window->front.end; seq++)
        elsewhere += seq < backlog->paged_end &&
                     (window_slot(window, seq) != NULL || idmap_find(&window->held, seq) != NULL);
    elsewhere += window->stragglers.count;
    on_pages = on_pages > elsewhere ? on_pages - elsewhere : 0;
    window_skip(window, last, window->middle > on_pages ? window->middle - on_pages : 0);
}

static void
on_block(void *arg, struct page_block *block, const struct err *why, uint64_t first, uint64_t last)
{
    struct backlog *backlog = arg;

    if (block != NULL) {
        /* since it was asked for, a spill may have moved the edge to before it */
        bool is_ahead = backlog->asked > window_edge(&backlog->window);

        if (why != NULL)
            log_error(NULL, "queue %llu: %s", (unsigned long long)backlog->id, why->text);
        if (fill(backlog, block, is_ahead) && !is_ahead)
            window_skip(&backlog->window, last, 0);
        page_block_free(block);
    } else if (why != NULL) {
        log_error(NULL, "queue %llu: messages %llu to %llu are lost: %s",
                  (unsigned long long)backlog->id, (unsigned long long)first,
                  (unsigned long long)last, why->text);
        lose(backlog, first, last);
    } else {
        window_skip(&backlog->window, window_tail(&backlog->window), backlog->window.middle);
    }
    backlog->ops->loaded(backlog->ops_arg, backlog);
}

static const struct pages_ops pages_ops = {.block = on_block};

static void
put_page(void *arg, uint64_t seq, const struct slot *slot)
{
    struct backlog *backlog = arg;

    pages_put(backlog->pages, seq,
              &(struct record_message){
                  .content = message_content(slot->message),
                  .expires_ms = slot->message->expires_ms,
                  .persistent = slot->persistent,
                  .redelivered = slot->redelivered || slot->state == SLOT_UNACKED,
              });
}

static void
make_pages(struct backlog *backlog)
{
    if (backlog->pages == NULL)
        backlog->pages =
            pages_new(backlog->store, backlog->id, backlog->durable, &pages_ops, backlog);
}

void
backlog_page_out(struct backlog *backlog)
{
    uint64_t tail = window_tail(&backlog->window);

    if (tail == backlog->paged_end)
        return;
    if (!window_is_empty(&backlog->window)) {
        make_pages(backlog);
        window_each(&backlog->window, backlog->paged_end, put_page, backlog);
        pages_seal(backlog->pages);
    }
    backlog->paged_end = tail;
}

void
backlog_spill(struct backlog *backlog, bool bodies)
{
    backlog_page_out(backlog);
    window_spill(&backlog->window, bodies);
    backlog->grown_bytes = 0;
}

/* --- pushing and taking ---------------------------------------------------------------- */

/* The ring would double though little in it is alive: what is, moves to the map. */
static void
make_room(struct backlog *backlog)
{
    if (backlog->store == NULL || !window_is_sparse(&backlog->window))
        return;
    backlog_page_out(backlog);
    window_evacuate(&backlog->window);
}

static size_t
memory_of(const struct message *message)
{
    return sizeof(*message) + message_content(message).body.len;
}

uint64_t
backlog_push(struct backlog *backlog, struct message *message)
{
    make_room(backlog);
    grow_by(backlog, memory_of(message));
    return window_push(&backlog->window, message);
}

uint64_t
backlog_push_taken(struct backlog *backlog, struct message *message, void *taker)
{
    uint64_t seq;

    make_room(backlog);
    grow_by(backlog, memory_of(message));
    seq = window_push_taken(&backlog->window, message, taker);
    if (message->persistent)
        advance_mark(backlog, seq); /* in the same frame as the message */
    return seq;
}

uint64_t
backlog_head(struct backlog *backlog)
{
    struct window *window = &backlog->window;
    uint64_t seq = window_peek(window);

    if (window->ready == 0)
        return 0;
    if (seq == 0 || window_slot(window, seq)->message == NULL) {
        backlog_load(backlog, seq);
        return 0;
    }
    return seq;
}

uint64_t
backlog_first(struct backlog *backlog)
{
    uint64_t seq = backlog_head(backlog);

    return seq != 0 && may_deliver(backlog, seq, window_slot(&backlog->window, seq)) ? seq : 0;
}

struct slot *
backlog_take(struct backlog *backlog, uint64_t seq, void *taker)
{
    struct slot *slot = window_take(&backlog->window, seq, taker);

    if (backlog->window.middle > 0)
        read_ahead(backlog);
    return slot;
}

/* --- across a restart ------------------------------------------------------------------ */

/*
 * state   version u8 = 3, then varints: end, tail, delivered mark, octets of the bodies that live,
 *         when the first of them expires (0: none does), number of gone ranges below end, for each
 *         its distance from the last one's end and its length; varint length of keys, keys
 *         (dedup_write); then pages_state.
 *         Version 2 had no keys, version 1 neither octets nor expiry.
 */
struct range_list {
    struct seq_range *at;
    size_t n, size;
};

static void
add_range(void *arg, uint64_t first, uint64_t last)
{
    struct range_list *list = arg;

    if (list->n == list->size) {
        list->size = list->size > 0 ? list->size * 2 : 16;
        list->at = mem_resize(list->at, list->size * sizeof(list->at[0]));
    }
    list->at[list->n++] = (struct seq_range){first, last};
}

static void
write_keys(const struct backlog *backlog, struct buf *to)
{
    struct buf keys;

    buf_init(&keys, SIZE_MAX / 2);
    if (backlog->dedup != NULL)
        dedup_write(backlog->dedup, &keys);
    record_varint(to, keys.len);
    buf_append(to, keys.at, keys.len);
    buf_fini(&keys);
}

void
backlog_state(struct backlog *backlog, uint64_t end, bool is_last, struct buf *to)
{
    const struct window *window = &backlog->window;
    struct range_list gone = {0};
    uint64_t at = 0, mark, bytes, due_ms;

    window_sum(window, end, &bytes, &due_ms);

    window_gone_ranges(&backlog->window, 1, end, add_range, &gone);
    buf_u8(to, STATE_VERSION);
    record_varint(to, end);
    record_varint(to, window_tail(&backlog->window));
    mark = is_last ? backlog->window.next : backlog->delivered_mark;
    record_varint(to, mark > backlog->restored_mark ? mark : backlog->restored_mark);
    record_varint(to, bytes);
    record_varint(to, due_ms != UINT64_MAX ? due_ms : 0);
    record_varint(to, gone.n);
    for (size_t i = 0; i < gone.n; i++) {
        record_varint(to, gone.at[i].first - at);
        record_varint(to, gone.at[i].last - gone.at[i].first);
        at = gone.at[i].last;
    }
    free(gone.at);
    write_keys(backlog, to);
    if (backlog->pages != NULL)
        pages_state(backlog->pages, to);
}

struct state {
    uint64_t end, tail, mark, bytes, due_ms;
    struct range_list gone;
    struct view keys, pages;
};

static bool
is_state(struct view from)
{
    return from.len > 1 && from.at[0] >= 1 && from.at[0] <= STATE_VERSION;
}

static bool
read_state(struct view from, struct state *out)
{
    uint64_t n, at_seq = 0, distance, length;
    size_t at = 1;

    if (!is_state(from) || !record_read_varint(from, &at, &out->end) ||
        !record_read_varint(from, &at, &out->tail) || !record_read_varint(from, &at, &out->mark) ||
        (from.at[0] > 1 && (!record_read_varint(from, &at, &out->bytes) ||
                            !record_read_varint(from, &at, &out->due_ms))) ||
        !record_read_varint(from, &at, &n) || n > from.len)
        return false;
    for (; n > 0; n--) {
        if (!record_read_varint(from, &at, &distance) || !record_read_varint(from, &at, &length) ||
            distance > UINT64_MAX - at_seq || length > UINT64_MAX - at_seq - distance)
            return false;
        add_range(&out->gone, at_seq + distance, at_seq + distance + length);
        at_seq += distance + length;
    }
    if (from.at[0] > 2) {
        if (!record_read_varint(from, &at, &n) || n > from.len - at)
            return false;
        out->keys = view_of(from.at + at, (size_t)n);
        at += (size_t)n;
    }
    out->pages = view_of(from.at + at, from.len - at);
    return out->end > 0 && out->end <= SEQ_MAX && out->tail <= SEQ_MAX && out->mark <= SEQ_MAX;
}

bool
backlog_state_end(struct view state, uint64_t *out_end)
{
    size_t at = 1;

    return is_state(state) && record_read_varint(state, &at, out_end);
}

static int
compare_ranges(const void *a, const void *b)
{
    const struct seq_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* Ascending, and none touches the next. */
static void
merge_ranges(struct range_list *list)
{
    size_t n = 0;

    if (list->n > 1)
        qsort(list->at, list->n, sizeof(list->at[0]), compare_ranges);
    for (size_t i = 0; i < list->n; i++) {
        if (n > 0 && list->at[i].first <= list->at[n - 1].last + 1) {
            if (list->at[i].last > list->at[n - 1].last)
                list->at[n - 1].last = list->at[i].last;
        } else {
            list->at[n++] = list->at[i];
        }
    }
    list->n = n;
}

/* Every good page counts, but for what is known to be settled. */
static bool
adopt_pages(struct backlog *backlog, struct state *state, struct err *err)
{
    bool ok;

    make_pages(backlog);
    ok = pages_adopt(backlog->pages, (struct range_view){state->gone.at, state->gone.n}, err);
    if (pages_end(backlog->pages) >= state->end)
        state->end = pages_end(backlog->pages) + 1;
    return ok;
}

/* How many were settled after the state that had them. */
static uint64_t
settled_below(const struct backlog_restored *restored, uint64_t end)
{
    uint64_t n = 0;

    for (size_t i = 0; i < restored->n_gone && restored->gone[i].first < end; i++)
        n += (restored->gone[i].last < end ? restored->gone[i].last + 1 : end) -
             restored->gone[i].first;
    return n;
}

/* Of the octets of `all` messages, about those of n. */
static uint64_t
share(uint64_t bytes, uint64_t n, uint64_t all)
{
    if (n == 0 || all == n)
        return n == 0 ? 0 : bytes;
    return (uint64_t)((double)bytes / (double)all * (double)n);
}

bool
backlog_restore(struct backlog *backlog, const struct backlog_restored *restored,
                uint64_t *out_tail, struct err *err)
{
    struct state state = {.end = 1, .tail = 1};
    bool ok = true;
    uint64_t bytes;
    size_t live;

    if (restored->state.len > 0 && !read_state(restored->state, &state)) {
        free(state.gone.at);
        return err_set(err, INTERNAL_ERROR, "the state of queue %llu is not one",
                       (unsigned long long)backlog->id);
    }
    if (backlog->dedup != NULL && state.keys.len > 0 && !dedup_read(backlog->dedup, state.keys))
        log_error(NULL, "queue %llu: the keys of messages that came before are not all there",
                  (unsigned long long)backlog->id);
    for (size_t i = 0; i < restored->n_gone; i++)
        add_range(&state.gone, restored->gone[i].first, restored->gone[i].last);
    merge_ranges(&state.gone);
    backlog->restored_mark =
        state.mark > restored->delivered_mark ? state.mark : restored->delivered_mark;
    backlog->delivered_mark = backlog->safe_mark = backlog->restored_mark;
    if (restored->adopt) {
        ok = adopt_pages(backlog, &state, err);
    } else if (state.pages.len > 0) {
        make_pages(backlog);
        ok = pages_restore(backlog->pages, state.pages,
                           (struct range_view){restored->gone, restored->n_gone},
                           (struct range_view){state.gone.at, state.gone.n}, err);
    }
    if (backlog->pages != NULL && pages_end(backlog->pages) >= state.end)
        state.end = pages_end(backlog->pages) + 1; /* a state that contradicts itself */
    live = backlog->pages != NULL ? (size_t)pages_live(backlog->pages) : 0;
    bytes = share(state.bytes, live, live + settled_below(restored, state.end));
    if (live == 0) {
        free(state.gone.at);
        state.gone = (struct range_list){0};
    }
    window_restore(&backlog->window,
                   &(struct window_middle){
                       .first = live > 0 ? 1 : state.end,
                       .end = state.end,
                       .count = live,
                       .bytes = bytes,
                       .due_ms = state.due_ms != 0 ? state.due_ms : UINT64_MAX,
                   },
                   state.gone.at, state.gone.n);
    backlog->paged_end = state.end;
    *out_tail = state.tail > backlog->restored_mark ? state.tail : backlog->restored_mark;
    return ok;
}

void
backlog_restore_message(struct backlog *backlog, uint64_t seq, struct message *message)
{
    if (seq < window_tail(&backlog->window))
        return; /* a seq that comes twice */
    window_skip_to(&backlog->window, seq);
    window_push(&backlog->window, message);
    window_slot(&backlog->window, seq)->redelivered = seq < backlog->restored_mark;
    grow_by(backlog, memory_of(message));
    tell_dated(backlog, seq);
}

void
backlog_restore_done(struct backlog *backlog, uint64_t tail)
{
    window_skip_to(&backlog->window, tail);
}
