#include "lepus/broker/window.h"

#include <assert.h>

#include "lepus/base/mem.h"

enum {
    SLOTS_MIN = 16,
    SPARSE_MIN = 1024, /* a smaller ring is not worth the map */
    GAP_MAX = 64,      /* GONE slots that are made to keep one ring; a wider gap evacuates it */
};

void
window_init(struct window *window)
{
    *window = (struct window){
        .front = {.first = 1, .end = 1},
        .back = {.first = 1, .end = 1},
        .next = 1,
        .middle_due_ms = UINT64_MAX,
    };
    idmap_init(&window->stragglers);
    idmap_init(&window->held);
}

/* --- rings ----------------------------------------------------------------------------- */

static struct slot *
slot_at(const struct ring *ring, uint64_t seq)
{
    return &ring->slots[seq & ring->mask];
}

static size_t
ring_size(const struct ring *ring)
{
    return ring->slots != NULL ? (size_t)ring->mask + 1 : 0;
}

static void
ring_resize(struct ring *ring, size_t size)
{
    struct slot *slots = mem_alloc(size * sizeof(struct slot));

    for (uint64_t seq = ring->first; seq < ring->end; seq++)
        slots[seq & (size - 1)] = *slot_at(ring, seq);
    free(ring->slots);
    ring->slots = slots;
    ring->mask = size - 1;
}

static struct slot *
ring_append(struct ring *ring)
{
    size_t size = ring_size(ring);
    struct slot *slot;

    if (ring->end - ring->first >= size)
        ring_resize(ring, size > 0 ? size * 2 : SLOTS_MIN);
    slot = slot_at(ring, ring->end++);
    *slot = (struct slot){.state = SLOT_GONE};
    return slot;
}

/* Empty from now on, the next append being of seq. */
static void
ring_restart(struct ring *ring, uint64_t seq)
{
    if (ring_size(ring) > SLOTS_MIN) {
        free(ring->slots);
        ring->slots = NULL;
        ring->mask = 0;
    }
    ring->first = ring->end = seq;
}

static bool
ring_has(const struct ring *ring, uint64_t seq)
{
    return seq >= ring->first && seq < ring->end;
}

/* --- slots ----------------------------------------------------------------------------- */

/* The only place where a slot changes its state, and where the counts follow. */
static void
slot_enter(struct window *window, struct slot *slot, enum slot_state state)
{
    if (slot->state == SLOT_READY) {
        window->ready--;
        window->ready_bytes -= slot->size;
    }
    if (state == SLOT_READY) {
        window->ready++;
        window->ready_bytes += slot->size;
    }
    window->unacked -= slot->state == SLOT_UNACKED;
    window->unacked += state == SLOT_UNACKED;
    slot->state = (uint8_t)state;
    if (state != SLOT_UNACKED)
        slot->taker = NULL;
    if (state == SLOT_GONE)
        message_unref(&slot->message);
}

struct slot *
window_slot(struct window *window, uint64_t seq)
{
    struct slot *slot;

    if (ring_has(&window->front, seq))
        slot = slot_at(&window->front, seq);
    else if (ring_has(&window->back, seq))
        slot = slot_at(&window->back, seq);
    else
        return idmap_find(&window->stragglers, seq);
    return slot->state != SLOT_GONE ? slot : NULL;
}

static bool
has_back(const struct window *window)
{
    return window->front.end < window->back.end;
}

/* The head moves over what is GONE; an empty ring gives its memory back. */
static void
advance_head(struct window *window)
{
    struct ring *front = &window->front;

    while (front->first < front->end && slot_at(front, front->first)->state == SLOT_GONE)
        front->first++;
    if (window->next < front->first)
        window->next = front->first;
    if (front->first == front->end)
        ring_restart(front, front->end);
    if (window_is_empty(window)) {
        window->n_returned = 0;
        free(window->returned);
        window->returned = NULL;
        window->returned_size = 0;
    }
}

static void
forget_gone(struct window *window)
{
    free(window->gone);
    window->gone = NULL;
    window->n_gone = window->gone_at = 0;
}

static void
settle_slot(struct window *window, uint64_t seq, struct slot *slot)
{
    slot_enter(window, slot, SLOT_GONE);
    if (seq >= window->front.first)
        advance_head(window);
    else
        free(idmap_remove(&window->stragglers, seq));
}

void
window_fini(struct window *window)
{
    struct message *message;
    struct slot *slot;

    for (uint64_t seq = window->front.first; seq < window->front.end; seq++)
        message_unref(&slot_at(&window->front, seq)->message);
    for (uint64_t seq = window->back.first; seq < window->back.end; seq++)
        message_unref(&slot_at(&window->back, seq)->message);
    for (size_t at = 0; (message = idmap_next(&window->held, &at)) != NULL;)
        message_unref(&message);
    idmap_fini(&window->held);
    for (size_t at = 0; (slot = idmap_next(&window->stragglers, &at)) != NULL;) {
        message_unref(&slot->message);
        free(slot);
    }
    idmap_fini(&window->stragglers);
    forget_gone(window);
    free(window->front.slots);
    free(window->back.slots);
    free(window->returned);
    *window = (struct window){0};
}

/* --- pushing --------------------------------------------------------------------------- */

static struct slot *
append(struct window *window, struct message *message)
{
    struct slot *slot;

    if (has_back(window)) {
        slot = ring_append(&window->back);
    } else {
        slot = ring_append(&window->front);
        window->back.first = window->back.end = window->front.end;
    }
    slot->message = message_ref(message);
    slot->persistent = message->persistent;
    slot->size = message_body_size(message);
    return slot;
}

uint64_t
window_push(struct window *window, struct message *message)
{
    slot_enter(window, append(window, message), SLOT_READY);
    return window_tail(window) - 1;
}

uint64_t
window_push_taken(struct window *window, struct message *message, void *taker)
{
    struct slot *slot;

    assert(window->ready == 0 && !has_back(window));
    slot = append(window, message);
    slot->taker = taker;
    slot_enter(window, slot, SLOT_UNACKED);
    window->next = window->front.end;
    return window->next - 1;
}

/* --- the heap of returned ones --------------------------------------------------------- */

static void
heap_swap(uint64_t *heap, size_t a, size_t b)
{
    uint64_t seq = heap[a];

    heap[a] = heap[b];
    heap[b] = seq;
}

static void
heap_push(struct window *window, uint64_t seq)
{
    size_t i = window->n_returned;

    if (i == window->returned_size) {
        window->returned_size = i > 0 ? i * 2 : 8;
        window->returned = mem_resize(window->returned, window->returned_size * sizeof(uint64_t));
    }
    window->returned[i] = seq;
    window->n_returned++;
    for (; i > 0 && window->returned[i] < window->returned[(i - 1) / 2]; i = (i - 1) / 2)
        heap_swap(window->returned, i, (i - 1) / 2);
}

static void
heap_pop(struct window *window)
{
    uint64_t *heap = window->returned;
    size_t n = --window->n_returned;

    heap[0] = heap[n];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;

        if (left < n && heap[left] < heap[least])
            least = left;
        if (right < n && heap[right] < heap[least])
            least = right;
        if (least == i)
            return;
        heap_swap(heap, i, least);
        i = least;
    }
}

/* --- moving slots ---------------------------------------------------------------------- */

/* Every live slot of the front before `end` goes to the map; one that was never taken must be found
 * by the heap from then on. */
static void
evacuate_front(struct window *window, uint64_t end)
{
    struct ring *front = &window->front;

    for (; front->first < end; front->first++) {
        struct slot *slot = slot_at(front, front->first);
        struct slot *straggler;

        if (slot->state == SLOT_GONE)
            continue;
        straggler = mem_new(struct slot);
        *straggler = *slot;
        idmap_add(&window->stragglers, front->first, straggler);
        if (front->first >= window->next)
            heap_push(window, front->first);
    }
    if (window->next < front->first)
        window->next = front->first;
}

/* The front's next append is of seq; what lies between is GONE. */
static void
front_skip_to(struct window *window, uint64_t seq)
{
    struct ring *front = &window->front;

    if (front->first < front->end && seq - front->end > GAP_MAX)
        evacuate_front(window, front->end);
    if (front->first == front->end) {
        ring_restart(front, seq);
        window->next = seq;
    }
    while (front->end < seq)
        ring_append(front);
}

/* The middle is no more: the back is the front's end. */
static void
join_back(struct window *window)
{
    struct ring *front = &window->front, *back = &window->back;

    assert(window->middle == 0);
    forget_gone(window);
    if (front->first < front->end && back->first - front->end > GAP_MAX)
        evacuate_front(window, front->end);
    if (front->first == front->end) {
        free(front->slots);
        *front = *back;
        *back = (struct ring){.first = front->end, .end = front->end};
        window->next = front->first;
        advance_head(window); /* its first ones may have expired */
        return;
    }
    front_skip_to(window, back->first);
    for (uint64_t seq = back->first; seq < back->end; seq++)
        *ring_append(front) = *slot_at(back, seq);
    ring_restart(back, front->end);
}

static void
lose_from_middle(struct window *window, size_t n)
{
    assert(n <= window->middle && n <= window->ready);
    window->middle -= n;
    window->ready -= n;
    if (window->middle > 0)
        return;
    window->ready_bytes -= window->middle_bytes;
    window->middle_bytes = 0;
    window->middle_due_ms = UINT64_MAX;
}

static void
lose_bytes_from_middle(struct window *window, uint64_t bytes)
{
    if (bytes > window->middle_bytes)
        bytes = window->middle_bytes;
    window->middle_bytes -= bytes;
    window->ready_bytes -= bytes;
}

/* --- taking ---------------------------------------------------------------------------- */

uint64_t
window_peek(struct window *window)
{
    if (window->ready == 0)
        return 0;
    for (; window->n_returned > 0; heap_pop(window)) {
        const struct slot *slot = window_slot(window, window->returned[0]);

        if (slot != NULL && slot->state == SLOT_READY)
            return window->returned[0];
    }
    for (; window->next < window->front.end; window->next++)
        if (slot_at(&window->front, window->next)->state == SLOT_READY)
            return window->next;
    if (window->middle > 0)
        return 0;
    join_back(window);
    return window_peek(window);
}

struct slot *
window_take(struct window *window, uint64_t seq, void *taker)
{
    struct slot *slot = window_slot(window, seq);

    assert(slot != NULL && slot->state == SLOT_READY);
    if (window->n_returned > 0 && window->returned[0] == seq)
        heap_pop(window);
    else
        window->next = seq + 1;
    slot_enter(window, slot, SLOT_UNACKED);
    slot->taker = taker;
    return slot;
}

static struct slot *
unacked_slot(struct window *window, uint64_t seq)
{
    struct slot *slot = window_slot(window, seq);

    return slot != NULL && slot->state == SLOT_UNACKED ? slot : NULL;
}

bool
window_settle(struct window *window, uint64_t seq)
{
    struct slot *slot = unacked_slot(window, seq);

    if (slot == NULL)
        return false;
    settle_slot(window, seq, slot);
    return true;
}

void
window_drop(struct window *window, uint64_t seq)
{
    struct slot *slot = window_slot(window, seq);

    assert(slot != NULL && slot->state == SLOT_READY);
    settle_slot(window, seq, slot);
    if (window->middle == 0 && has_back(window) && window->front.first == window->front.end)
        join_back(window);
}

struct message *
window_hold(struct window *window, uint64_t seq)
{
    struct slot *slot = window_slot(window, seq);
    struct message *message;

    assert(slot != NULL && slot->message != NULL);
    message = message_ref(slot->message);
    idmap_add(&window->held, seq, message);
    window->unacked++;
    if (slot->state == SLOT_READY)
        window_drop(window, seq);
    else
        settle_slot(window, seq, slot);
    return message;
}

bool
window_release(struct window *window, uint64_t seq)
{
    struct message *message = idmap_remove(&window->held, seq);

    if (message == NULL)
        return false;
    message_unref(&message);
    window->unacked--;
    return true;
}

bool
window_return(struct window *window, uint64_t seq, bool delivered)
{
    struct slot *slot = unacked_slot(window, seq);

    if (slot == NULL)
        return false;
    slot_enter(window, slot, SLOT_READY);
    slot->redelivered = slot->redelivered || delivered;
    heap_push(window, seq);
    return true;
}

/* --- purging --------------------------------------------------------------------------- */

/* READY ones of [from, end) go; runs of them are told. */
static void
purge_ring(struct window *window, struct ring *ring, window_range *tell, void *arg)
{
    uint64_t run = 0;

    for (uint64_t seq = ring->first; seq < ring->end; seq++) {
        struct slot *slot = slot_at(ring, seq);

        if (slot->state == SLOT_READY) {
            slot_enter(window, slot, SLOT_GONE);
            run = run != 0 ? run : seq;
        } else if (run != 0) {
            tell(arg, run, seq - 1);
            run = 0;
        }
    }
    if (run != 0)
        tell(arg, run, ring->end - 1);
}

static void
purge_stragglers(struct window *window, window_range *tell, void *arg)
{
    for (size_t i = 0; i < window->n_returned; i++) {
        uint64_t seq = window->returned[i];
        struct slot *slot = idmap_find(&window->stragglers, seq);

        if (slot != NULL && slot->state == SLOT_READY) {
            slot_enter(window, slot, SLOT_GONE);
            free(idmap_remove(&window->stragglers, seq));
            tell(arg, seq, seq);
        }
    }
}

/* The parts of the middle that are there. */
static void
purge_middle(struct window *window, window_range *tell, void *arg)
{
    uint64_t from = window->front.end;

    for (size_t i = window->gone_at; i < window->n_gone && window->middle > 0; i++) {
        if (window->gone[i].first > from)
            tell(arg, from, window->gone[i].first - 1);
        if (window->gone[i].last >= from)
            from = window->gone[i].last + 1;
    }
    if (window->middle > 0 && from < window->back.first)
        tell(arg, from, window->back.first - 1);
    lose_from_middle(window, window->middle);
}

size_t
window_purge(struct window *window, window_range *tell, void *arg)
{
    size_t purged = window->ready;

    if (purged == 0)
        return 0;
    purge_stragglers(window, tell, arg);
    purge_ring(window, &window->front, tell, arg);
    purge_middle(window, tell, arg);
    purge_ring(window, &window->back, tell, arg);
    window->n_returned = 0;
    if (has_back(window)) {
        ring_restart(&window->back, window->back.end);
        forget_gone(window);
        front_skip_to(window, window->back.end);
    }
    window->next = window->front.end;
    advance_head(window);
    return purged;
}

/* --- pages ----------------------------------------------------------------------------- */

static int
compare_seqs(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* What a map has, in order; NULL when there is nothing. */
static uint64_t *
seqs_of(const struct idmap *map)
{
    uint64_t *seqs = NULL;
    size_t n = 0;

    if (map->count == 0)
        return NULL;
    seqs = mem_alloc(map->count * sizeof(*seqs));
    for (size_t i = 0; i <= map->mask; i++)
        if (map->entries[i].id != 0)
            seqs[n++] = map->entries[i].id;
    qsort(seqs, n, sizeof(*seqs), compare_seqs);
    return seqs;
}

/* A held one as a slot. */
static void
tell_held(const struct window *window, uint64_t seq, window_each_slot *each, void *arg)
{
    struct message *message = idmap_find(&window->held, seq);

    each(arg, seq,
         &(struct slot){.message = message,
                        .state = SLOT_UNACKED,
                        .persistent = message->persistent,
                        .size = message_body_size(message)});
}

void
window_each(struct window *window, uint64_t from, window_each_slot *each, void *arg)
{
    struct ring *rings[] = {&window->front, &window->back};
    uint64_t *stragglers = from < window->front.first ? seqs_of(&window->stragglers) : NULL;
    uint64_t *held = seqs_of(&window->held);
    size_t n_held = held != NULL ? window->held.count : 0, h = 0;

    while (h < n_held && held[h] < from)
        h++;
    for (size_t i = 0; stragglers != NULL && i < window->stragglers.count; i++) {
        const struct slot *slot = idmap_find(&window->stragglers, stragglers[i]);

        for (; h < n_held && held[h] < stragglers[i]; h++)
            tell_held(window, held[h], each, arg);
        if (stragglers[i] >= from && slot->message != NULL)
            each(arg, stragglers[i], slot);
    }
    free(stragglers);
    for (size_t i = 0; i < 2; i++) {
        struct ring *ring = rings[i];

        for (uint64_t seq = from > ring->first ? from : ring->first; seq < ring->end; seq++) {
            for (; h < n_held && held[h] <= seq; h++)
                tell_held(window, held[h], each, arg);
            if (slot_at(ring, seq)->message != NULL)
                each(arg, seq, slot_at(ring, seq));
        }
    }
    for (; h < n_held; h++)
        tell_held(window, held[h], each, arg);
    free(held);
}

/* Slots of [from, end) lose their place: the READY ones are the middle's now. */
static void
drop_slots(struct window *window, struct ring *ring, uint64_t from)
{
    for (uint64_t seq = from; seq < ring->end; seq++) {
        struct slot *slot = slot_at(ring, seq);

        if (slot->state == SLOT_READY) {
            window->middle++;
            window->middle_bytes += slot->size;
        }
        if (slot->message != NULL && slot->message->expires_ms != 0 &&
            slot->message->expires_ms < window->middle_due_ms)
            window->middle_due_ms = slot->message->expires_ms;
        message_unref(&slot->message);
    }
    ring->end = from;
}

static void
drop_bodies(struct window *window)
{
    struct slot *slot;

    for (uint64_t seq = window->front.first; seq < window->front.end; seq++)
        message_unref(&slot_at(&window->front, seq)->message);
    for (size_t at = 0; (slot = idmap_next(&window->stragglers, &at)) != NULL;)
        message_unref(&slot->message);
}

static void
add_gone(struct window *window, uint64_t first, uint64_t last)
{
    window->gone = mem_resize(window->gone, (window->n_gone + 1) * sizeof(window->gone[0]));
    window->gone[window->n_gone++] = (struct seq_range){first, last};
}

/* GONE slots that go to the middle must be known there as such. */
static void
note_gone(struct window *window, const struct ring *ring, uint64_t from)
{
    uint64_t run = 0;

    for (uint64_t seq = from; seq < ring->end; seq++) {
        bool gone = slot_at(ring, seq)->state == SLOT_GONE;

        if (gone && run == 0)
            run = seq;
        if (!gone && run != 0) {
            add_gone(window, run, seq - 1);
            run = 0;
        }
    }
    if (run != 0)
        add_gone(window, run, ring->end - 1);
}

void
window_spill(struct window *window, bool bodies)
{
    uint64_t tail = window_tail(window);
    struct seq_range *old = NULL;
    size_t n_old = 0, old_at = 0;

    if (window->gone_at < window->n_gone) {
        old = window->gone;
        n_old = window->n_gone;
        old_at = window->gone_at;
        window->gone = NULL;
    } else {
        forget_gone(window);
    }
    window->n_gone = window->gone_at = 0;
    note_gone(window, &window->front, window->next);
    for (; old_at < n_old; old_at++)
        add_gone(window, old[old_at].first, old[old_at].last);
    free(old);
    note_gone(window, &window->back, window->back.first);
    drop_slots(window, &window->front, window->next);
    drop_slots(window, &window->back, window->back.first);
    ring_restart(&window->back, tail);
    if (bodies)
        drop_bodies(window);
    if (window->middle == 0 && has_back(window))
        join_back(window);
    advance_head(window);
}

bool
window_has(struct window *window, uint64_t seq)
{
    size_t from = window->gone_at, to = window->n_gone;

    if (seq < window->front.end || seq >= window->back.first)
        return window_slot(window, seq) != NULL;
    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (window->gone[middle].last < seq)
            from = middle + 1;
        else
            to = middle;
    }
    return window->middle > 0 && !(from < window->n_gone && window->gone[from].first <= seq);
}

static bool
is_known_gone(struct window *window, uint64_t seq)
{
    while (window->gone_at < window->n_gone && window->gone[window->gone_at].last < seq)
        window->gone_at++;
    return window->gone_at < window->n_gone && window->gone[window->gone_at].first <= seq;
}

bool
window_middle_has(const struct window *window, uint64_t seq)
{
    size_t from = window->gone_at, to = window->n_gone;

    if (window->middle == 0 || seq < window->front.end || seq >= window->back.first)
        return false;
    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (window->gone[middle].last < seq)
            from = middle + 1;
        else
            to = middle;
    }
    return from == window->n_gone || window->gone[from].first > seq;
}

bool
window_wants(struct window *window, uint64_t seq)
{
    const struct slot *slot;

    if (seq >= window->front.end && seq < window->back.first)
        return window->middle > 0 && !is_known_gone(window, seq);
    slot = window_slot(window, seq);
    return slot != NULL && slot->message == NULL;
}

void
window_fill(struct window *window, uint64_t seq, struct message *message, bool redelivered)
{
    struct slot *slot;

    if (seq < window->front.end) {
        slot = window_slot(window, seq);
        slot->message = message_ref(message);
        return;
    }
    front_skip_to(window, seq);
    slot = ring_append(&window->front);
    slot->message = message_ref(message);
    slot->persistent = message->persistent;
    slot->redelivered = redelivered;
    slot->size = message_body_size(message);
    lose_bytes_from_middle(window, slot->size);
    lose_from_middle(window, 1);
    slot_enter(window, slot, SLOT_READY);
    if (window->middle == 0)
        join_back(window);
}

void
window_skip(struct window *window, uint64_t last, size_t lost)
{
    if (!has_back(window) && window->middle == 0)
        return;
    lose_from_middle(window, lost);
    if (window->middle == 0)
        join_back(window);
    else if (last >= window->front.end)
        front_skip_to(window, last < window->back.first ? last + 1 : window->back.first);
}

bool
window_is_sparse(const struct window *window)
{
    const struct ring *front = &window->front;

    return front->slots != NULL && front->mask + 1 >= SPARSE_MIN &&
           front->end - front->first > front->mask &&
           window->ready + window->unacked - window->middle - window->stragglers.count <
               front->mask / 4;
}

void
window_evacuate(struct window *window)
{
    struct ring *front = &window->front;
    uint64_t half = front->first + (front->end - front->first) / 2;

    evacuate_front(window, half < window->next ? half : window->next);
    advance_head(window);
}

/* --- after a restart ------------------------------------------------------------------- */

void
window_restore(struct window *window, const struct window_middle *middle, struct seq_range *gone,
               size_t n_gone)
{
    assert(window_is_empty(window) && middle->first <= middle->end);
    assert(middle->count > 0 || (middle->first == middle->end && middle->bytes == 0));
    ring_restart(&window->front, middle->first);
    ring_restart(&window->back, middle->end);
    window->next = middle->first;
    window->middle = window->ready = middle->count;
    window->middle_bytes = window->ready_bytes = middle->bytes;
    window->middle_due_ms = middle->count > 0 ? middle->due_ms : UINT64_MAX;
    window->gone = gone;
    window->n_gone = n_gone;
}

void
window_skip_to(struct window *window, uint64_t seq)
{
    if (seq <= window_tail(window))
        return;
    if (!has_back(window)) {
        front_skip_to(window, seq);
        window->back.first = window->back.end = seq;
        advance_head(window);
    } else if (window->back.first == window->back.end) {
        ring_restart(&window->back, seq);
    } else {
        while (window->back.end < seq)
            ring_append(&window->back);
    }
}

static void
add_slot(const struct slot *slot, uint64_t *bytes, uint64_t *due_ms)
{
    uint64_t expires_ms = slot->message != NULL ? slot->message->expires_ms : 1; /* unknown */

    if (slot->state == SLOT_GONE || !slot->persistent)
        return;
    *bytes += slot->size;
    if (expires_ms != 0 && expires_ms < *due_ms)
        *due_ms = expires_ms;
}

void
window_sum(const struct window *window, uint64_t end, uint64_t *out_bytes, uint64_t *out_due_ms)
{
    const struct ring *rings[] = {&window->front, &window->back};
    const struct message *held;
    const struct slot *slot;

    *out_bytes = window->middle_bytes;
    *out_due_ms = window->middle_due_ms;
    for (size_t i = 0; i < 2; i++)
        for (uint64_t seq = rings[i]->first; seq < rings[i]->end && seq < end; seq++)
            add_slot(slot_at(rings[i], seq), out_bytes, out_due_ms);
    for (size_t at = 0; (slot = idmap_next(&window->stragglers, &at)) != NULL;)
        add_slot(slot, out_bytes, out_due_ms);
    for (size_t at = 0; (held = idmap_next(&window->held, &at)) != NULL;)
        if (held->persistent)
            *out_bytes += message_body_size(held);
}

/* Ranges between what lives, told as they are found. */
struct gaps {
    uint64_t at, to;
    window_range *tell;
    void *arg;
};

static void
lives(struct gaps *gaps, uint64_t seq)
{
    if (seq < gaps->at || seq >= gaps->to)
        return;
    if (seq > gaps->at)
        gaps->tell(gaps->arg, gaps->at, seq - 1);
    gaps->at = seq + 1;
}

static void
live_range(struct gaps *gaps, uint64_t first, uint64_t end)
{
    if (first >= end || end <= gaps->at || first >= gaps->to)
        return;
    lives(gaps, first);
    gaps->at = end > gaps->at ? end : gaps->at;
}

static void
live_slots(struct gaps *gaps, const struct ring *ring)
{
    for (uint64_t seq = ring->first; seq < ring->end; seq++)
        if (slot_at(ring, seq)->state != SLOT_GONE)
            lives(gaps, seq);
}

/* Takes what is held out of the gaps, which come in order. */
struct held_gaps {
    const uint64_t *held;
    size_t n, at;
    window_range *tell;
    void *arg;
};

static void
tell_around_held(void *arg, uint64_t first, uint64_t last)
{
    struct held_gaps *gaps = arg;

    for (; gaps->at < gaps->n && gaps->held[gaps->at] <= last; gaps->at++) {
        uint64_t held = gaps->held[gaps->at];

        if (held > first)
            gaps->tell(gaps->arg, first, held - 1);
        if (held >= first)
            first = held + 1;
    }
    if (first <= last)
        gaps->tell(gaps->arg, first, last);
}

static void gone_ranges(struct window *window, uint64_t from, uint64_t to, window_range *tell,
                        void *arg);

void
window_gone_ranges(struct window *window, uint64_t from, uint64_t to, window_range *tell, void *arg)
{
    uint64_t *held = seqs_of(&window->held);
    struct held_gaps gaps = {held, window->held.count, 0, tell, arg};

    gone_ranges(window, from, to, tell_around_held, &gaps);
    free(held);
}

static void
gone_ranges(struct window *window, uint64_t from, uint64_t to, window_range *tell, void *arg)
{
    struct gaps gaps = {from, to, tell, arg};
    uint64_t *stragglers = seqs_of(&window->stragglers);
    uint64_t at = window->front.end;

    for (size_t i = 0; i < window->stragglers.count; i++)
        lives(&gaps, stragglers[i]);
    free(stragglers);
    live_slots(&gaps, &window->front);
    for (size_t i = window->gone_at; i < window->n_gone && window->middle > 0; i++) {
        live_range(&gaps, at, window->gone[i].first);
        if (window->gone[i].last >= at)
            at = window->gone[i].last + 1;
    }
    if (window->middle > 0)
        live_range(&gaps, at, window->back.first);
    live_slots(&gaps, &window->back);
    if (gaps.at < to)
        tell(arg, gaps.at, to - 1);
}

/* --- checking -------------------------------------------------------------------------- */

void
window_check(const struct window *window)
{
    const struct ring *front = &window->front, *back = &window->back;
    size_t ready = window->middle, unacked = window->held.count, ready_before_next = 0,
           live_returned = 0;
    uint64_t ready_bytes = window->middle_bytes;
    const struct slot *straggler;

    assert(front->first <= window->next && window->next <= front->end);
    assert(front->end <= back->first && back->first <= back->end);
    assert(front->end - front->first <= ring_size(front));
    assert(back->end - back->first <= ring_size(back));
    assert(window->middle > 0 || !has_back(window) || window->ready > 0);
    for (uint64_t seq = front->first; seq < front->end; seq++) {
        const struct slot *slot = slot_at(front, seq);

        ready += slot->state == SLOT_READY;
        ready_bytes += slot->state == SLOT_READY ? slot->size : 0;
        unacked += slot->state == SLOT_UNACKED;
        ready_before_next += slot->state == SLOT_READY && seq < window->next;
        assert(slot->message == NULL || slot->state != SLOT_GONE);
        assert(slot->state != SLOT_UNACKED || seq < window->next);
    }
    for (uint64_t seq = back->first; seq < back->end; seq++) {
        const struct slot *slot = slot_at(back, seq);

        assert((slot->message != NULL) == (slot->state != SLOT_GONE));
        assert(slot->state != SLOT_UNACKED);
        ready += slot->state == SLOT_READY;
        ready_bytes += slot->state == SLOT_READY ? slot->size : 0;
    }
    for (size_t at = 0; (straggler = idmap_next(&window->stragglers, &at)) != NULL;) {
        assert(straggler->state != SLOT_GONE);
        ready += straggler->state == SLOT_READY;
        ready_bytes += straggler->state == SLOT_READY ? straggler->size : 0;
        unacked += straggler->state == SLOT_UNACKED;
        ready_before_next += straggler->state == SLOT_READY;
    }
    assert(ready == window->ready && unacked == window->unacked);
    assert(ready_bytes == window->ready_bytes);
    assert(window->middle > 0 || window->middle_bytes == 0);
    for (size_t i = 0; i < window->n_returned; i++) {
        const struct slot *slot =
            window_slot((struct window *)(uintptr_t)window, window->returned[i]);

        assert(i == 0 || window->returned[(i - 1) / 2] <= window->returned[i]);
        live_returned += slot != NULL && slot->state == SLOT_READY;
    }
    assert(live_returned >= ready_before_next);
    if (front->first < front->end)
        assert(slot_at(front, front->first)->state != SLOT_GONE);
}
