/*
 * window: the messages of one queue, as a sequence.
 *
 * Every message gets the next seq (from 1). Its slot is READY, UNACKED or GONE; slot_enter() in
 * window.c alone changes which, and keeps the counts. The window spans [head, tail). A short one is
 * all in memory; of a long one the middle is on pages (pages.h), without slots:
 *
 *      head         next        edge                          back           tail
 *       |  taken     | never     |  READY, on pages           |  READY        |
 *       |  before    | taken     |                            |               |
 *       |------- front ----------|......... middle ...........|---- back -----|
 *         U . U U R . U R R R R R                               R R R R R R R R     (. GONE)
 *             `---`--- returned: a heap, always taken first, smallest seq first
 *
 * so a message that is given back returns to its original place. While there is a middle, what
 * is new goes to the back; when the middle has been brought in or is gone, the back becomes the
 * front's end. Slots that stay when thousands behind them have gone are *stragglers*: they move
 * to a map, so that one message that nobody settles does not hold a ring of millions.
 *
 * A slot that is not GONE may have no message: then that is on a page, and window_fill brings it.
 * What is on pages is the queue's to know: everything below the seq up to which it wrote. All verbs
 * are O(1) but for returned ones (O(log n) in how many wait). An empty window keeps almost no
 * memory.
 *
 * A message that is to leave, but only when something else is safe, is *held*: its slot is GONE,
 * and the window keeps the message beside the slots, from wherever it stood, until window_release.
 * It counts as unacked, and lives as far as pages and restarts are concerned.
 *
 * Owned by its queue's home worker. window_check recounts; tests call it after each step.
 */
#ifndef LEPUS_BROKER_WINDOW_H
#define LEPUS_BROKER_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/map.h"
#include "lepus/broker/message.h"
#include "lepus/store/record.h"

enum slot_state { SLOT_GONE, SLOT_READY, SLOT_UNACKED };

struct slot {
    struct message *message; /* one reference, or NULL: GONE, or only on a page */
    void *taker;             /* UNACKED: who took it, the queue's business */
    uint8_t state;           /* a slot_state */
    bool redelivered;        /* was delivered before */
    bool persistent;
    uint32_t size; /* of the body, in octets */
};

/* Slots of [first, end), each at its seq & mask. */
struct ring {
    struct slot *slots; /* NULL: none yet */
    uint64_t mask;
    uint64_t first, end;
};

struct window {
    struct ring front, back;
    uint64_t next;           /* in the front: nothing from here on was ever taken */
    struct idmap stragglers; /* slots below the front, by seq */
    struct idmap held;       /* messages without a slot, by seq: a reference each */
    uint64_t *returned;      /* a heap of seqs; may hold some that are READY no more */
    size_t n_returned, returned_size;
    size_t ready, unacked;
    uint64_t ready_bytes;   /* bodies of the ready ones */
    size_t middle;          /* of the ready ones, those without a slot */
    uint64_t middle_bytes;  /* of ready_bytes: about theirs; exact unless there was a crash */
    uint64_t middle_due_ms; /* none of the middle expires before; UINT64_MAX: none does at all */
    struct seq_range *gone; /* parts of the middle that were settled before a restart */
    size_t n_gone, gone_at;
};

void window_init(struct window *window);
void window_fini(struct window *window); /* drops every message */

static inline uint64_t
window_tail(const struct window *window)
{
    return window->back.end;
}

static inline bool
window_is_empty(const struct window *window)
{
    return window->ready == 0 && window->unacked == 0;
}

/* Appends a READY message, with a reference of its own; its seq. */
uint64_t window_push(struct window *window, struct message *message);

/* Appends one that is taken at once; only when nothing is READY. */
uint64_t window_push_taken(struct window *window, struct message *message, void *taker);

/* The seq of the first READY message. 0: there is none, or it is in the middle, from the edge on.
 * Its slot may have no message. */
uint64_t window_peek(struct window *window);

/* READY -> UNACKED, of the seq that window_peek just gave; its slot, borrowed until the next push.
 */
struct slot *window_take(struct window *window, uint64_t seq, void *taker);

/* The slot of a seq that is READY or UNACKED and not in the middle, or NULL. Borrowed until the
 * next push. */
struct slot *window_slot(struct window *window, uint64_t seq);

/* Whether it is READY or UNACKED, wherever it is. What is held is about to go. */
bool window_has(struct window *window, uint64_t seq);

/* UNACKED -> GONE. False when it is not UNACKED. */
bool window_settle(struct window *window, uint64_t seq);

/* READY -> GONE, of a seq that has a slot and is READY. */
void window_drop(struct window *window, uint64_t seq);

/* READY or UNACKED -> held, of a seq whose slot has its message; that message, borrowed until
 * window_release, which ends it. False when it is not held. */
struct message *window_hold(struct window *window, uint64_t seq);
bool window_release(struct window *window, uint64_t seq);

/* UNACKED -> READY, at its original place. `delivered`: mark it redelivered. False when it is
 * not UNACKED. */
bool window_return(struct window *window, uint64_t seq, bool delivered);

/* All READY -> GONE; how many. Each range of them is told first, in no order. */
typedef void window_range(void *arg, uint64_t first, uint64_t last);
size_t window_purge(struct window *window, window_range *tell, void *arg);

/* --- pages ----------------------------------------------------------------------------- */

/* Calls each for every slot from `from` on that has a message, in order of seq. */
typedef void window_each_slot(void *arg, uint64_t seq, const struct slot *slot);
void window_each(struct window *window, uint64_t from, window_each_slot *each, void *arg);

/* Everything is on pages: what was never taken loses its slot and goes to the middle. With
 * `bodies` the other slots lose their messages too. */
void window_spill(struct window *window, bool bodies);

/* The first seq of the middle, when there is one. */
static inline uint64_t
window_edge(const struct window *window)
{
    return window->front.end;
}

/* How many messages of the front were never taken. */
static inline size_t
window_front_left(const struct window *window)
{
    return (size_t)(window->front.end - window->next);
}

/* A message that came from a page: for a slot without one, or for the middle's next place. Takes a
 * reference of its own when it is wanted; false when it is not. */
bool window_wants(struct window *window, uint64_t seq);
void window_fill(struct window *window, uint64_t seq, struct message *message, bool redelivered);

/* Whether a seq is in the middle, as far as is known. */
bool window_middle_has(const struct window *window, uint64_t seq);

/* What the middle has left up to `last` does not come any more: `lost` of it was counted. */
void window_skip(struct window *window, uint64_t last, size_t lost);

/* The ring is full, and most of it is GONE: window_evacuate helps. Call it when everything is on
 * pages. */
bool window_is_sparse(const struct window *window);
void window_evacuate(struct window *window);

/* --- after a restart -------------------------------------------------------------------- */

/* Of an empty window: a middle of `count` messages in [first, end); what `gone` (taken) says is
 * not there. Their bodies have about `bytes`, and none expires before due_ms. */
struct window_middle {
    uint64_t first, end;
    size_t count;
    uint64_t bytes, due_ms;
};
void window_restore(struct window *window, const struct window_middle *middle,
                    struct seq_range *gone, size_t n_gone);

/* The next push gets at least this seq. */
void window_skip_to(struct window *window, uint64_t seq);

/* What a restart finds again below `end`: octets of bodies, and a time before which none expires.
 */
void window_sum(const struct window *window, uint64_t end, uint64_t *out_bytes,
                uint64_t *out_due_ms);

/* Of [from, to): the ranges without a live message, in order. */
void window_gone_ranges(struct window *window, uint64_t from, uint64_t to, window_range *tell,
                        void *arg);

void window_check(const struct window *window);

#endif
