#include "lepus/broker/window.h"

#include <assert.h>

#include "lepus/base/mem.h"

enum { SLOTS_MIN = 16 };

void
window_init(struct window *window)
{
    *window = (struct window){.head = 1, .next = 1, .tail = 1};
}

static struct slot *
slot_at(const struct window *window, uint64_t seq)
{
    return &window->slots[seq & window->mask];
}

/* The only place where a slot changes its state, and where the counts follow. */
static void
slot_enter(struct window *window, struct slot *slot, enum slot_state state)
{
    window->ready -= slot->state == SLOT_READY;
    window->unacked -= slot->state == SLOT_UNACKED;
    window->ready += state == SLOT_READY;
    window->unacked += state == SLOT_UNACKED;
    slot->state = (uint8_t)state;
    if (state != SLOT_UNACKED)
        slot->taker = NULL;
    if (state == SLOT_GONE)
        message_unref(&slot->message);
}

/* Moves the ring to one of `size` slots. */
static void
resize(struct window *window, size_t size)
{
    struct slot *slots = mem_alloc(size * sizeof(struct slot));

    for (uint64_t seq = window->head; seq < window->tail; seq++)
        slots[seq & (size - 1)] = *slot_at(window, seq);
    free(window->slots);
    window->slots = slots;
    window->mask = size - 1;
}

/* Nothing is left between head and tail: give memory back. */
static void
settle_down(struct window *window)
{
    window->n_returned = 0;
    free(window->returned);
    window->returned = NULL;
    window->returned_size = 0;
    if (window->mask + 1 > SLOTS_MIN) {
        free(window->slots);
        window->slots = NULL;
        window->mask = 0;
    }
}

static void
advance_head(struct window *window)
{
    if (slot_at(window, window->head)->state != SLOT_GONE)
        return;
    while (window->head < window->tail && slot_at(window, window->head)->state == SLOT_GONE)
        window->head++;
    if (window->next < window->head)
        window->next = window->head;
    if (window->head == window->tail)
        settle_down(window);
}

void
window_fini(struct window *window)
{
    for (uint64_t seq = window->head; seq < window->tail; seq++)
        message_unref(&slot_at(window, seq)->message);
    free(window->slots);
    free(window->returned);
    *window = (struct window){0};
}

static struct slot *
append(struct window *window, struct message *message, void *taker)
{
    size_t size = window->slots != NULL ? (size_t)window->mask + 1 : 0;
    struct slot *slot;

    if (window->tail - window->head >= size)
        resize(window, size > 0 ? size * 2 : SLOTS_MIN);
    slot = slot_at(window, window->tail++);
    *slot = (struct slot){.message = message_ref(message), .taker = taker, .state = SLOT_GONE};
    return slot;
}

uint64_t
window_push(struct window *window, struct message *message)
{
    slot_enter(window, append(window, message, NULL), SLOT_READY);
    return window->tail - 1;
}

uint64_t
window_push_taken(struct window *window, struct message *message, void *taker)
{
    assert(window->ready == 0);
    slot_enter(window, append(window, message, taker), SLOT_UNACKED);
    window->next = window->tail;
    return window->tail - 1;
}

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

static uint64_t
heap_pop(struct window *window)
{
    uint64_t *heap = window->returned;
    uint64_t first = heap[0];
    size_t n = --window->n_returned;

    heap[0] = heap[n];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;

        if (left < n && heap[left] < heap[least])
            least = left;
        if (right < n && heap[right] < heap[least])
            least = right;
        if (least == i)
            return first;
        heap_swap(heap, i, least);
        i = least;
    }
}

static uint64_t
first_ready(struct window *window)
{
    while (window->n_returned > 0) {
        uint64_t seq = heap_pop(window);
        struct slot *slot = window_slot(window, seq);

        if (slot != NULL && slot->state == SLOT_READY)
            return seq;
    }
    while (window->next < window->tail) {
        uint64_t seq = window->next++;

        if (slot_at(window, seq)->state == SLOT_READY)
            return seq;
    }
    return 0;
}

uint64_t
window_take(struct window *window, void *taker)
{
    uint64_t seq;
    struct slot *slot;

    if (window->ready == 0)
        return 0;
    seq = first_ready(window);
    assert(seq != 0);
    slot = slot_at(window, seq);
    slot_enter(window, slot, SLOT_UNACKED);
    slot->taker = taker;
    return seq;
}

struct slot *
window_slot(struct window *window, uint64_t seq)
{
    struct slot *slot;

    if (seq < window->head || seq >= window->tail)
        return NULL;
    slot = slot_at(window, seq);
    return slot->state != SLOT_GONE ? slot : NULL;
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
    slot_enter(window, slot, SLOT_GONE);
    advance_head(window);
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

size_t
window_purge(struct window *window)
{
    size_t purged = window->ready;

    for (uint64_t seq = window->head; seq < window->tail && window->ready > 0; seq++) {
        struct slot *slot = slot_at(window, seq);

        if (slot->state == SLOT_READY)
            slot_enter(window, slot, SLOT_GONE);
    }
    window->n_returned = 0;
    window->next = window->tail;
    if (window->head < window->tail)
        advance_head(window);
    return purged;
}

void
window_check(const struct window *window)
{
    size_t ready = 0, unacked = 0, ready_before_next = 0, live_returned = 0;

    assert(window->head <= window->next && window->next <= window->tail);
    assert(window->tail - window->head <= (window->slots != NULL ? window->mask + 1 : 0));
    for (uint64_t seq = window->head; seq < window->tail; seq++) {
        const struct slot *slot = slot_at(window, seq);

        ready += slot->state == SLOT_READY;
        unacked += slot->state == SLOT_UNACKED;
        ready_before_next += slot->state == SLOT_READY && seq < window->next;
        assert((slot->message != NULL) == (slot->state != SLOT_GONE));
        assert(slot->state != SLOT_UNACKED || seq < window->next);
    }
    assert(ready == window->ready && unacked == window->unacked);
    for (size_t i = 0; i < window->n_returned; i++) {
        uint64_t seq = window->returned[i];

        assert(i == 0 || window->returned[(i - 1) / 2] <= seq);
        live_returned +=
            seq >= window->head && seq < window->tail && slot_at(window, seq)->state == SLOT_READY;
    }
    assert(live_returned >= ready_before_next);
    if (window->head < window->tail)
        assert(slot_at(window, window->head)->state != SLOT_GONE);
}
