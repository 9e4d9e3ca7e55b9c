/*
 * window: the messages of one queue, as a sequence.
 *
 * Every message gets the next seq (from 1). Its slot is READY, UNACKED or GONE; slot_enter() in
 * window.c alone changes which, and keeps the counts. The window spans [head, tail): head moves
 * over what is GONE. Messages are taken in order of seq:
 *
 *       head            next             tail
 *        |  taken before  |  never taken   |
 *        U . U U R . U R   R R R R . R R R        (. GONE)
 *              `---`--- returned: a heap, always taken first, smallest seq first
 *
 * so a message that is given back returns to its original place. All verbs are O(1) but for
 * returned ones (O(log n) in how many wait). An empty window keeps almost no memory.
 *
 * Owned by its queue's home worker. window_check recounts; tests call it after each step.
 */
#ifndef LEPUS_BROKER_WINDOW_H
#define LEPUS_BROKER_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/broker/message.h"

enum slot_state { SLOT_GONE, SLOT_READY, SLOT_UNACKED };

struct slot {
    struct message *message; /* one reference while not GONE */
    void *taker;             /* UNACKED: who took it, the queue's business */
    uint8_t state;           /* a slot_state */
    bool redelivered;        /* was delivered before */
};

struct window {
    struct slot *slots; /* a ring of mask + 1; NULL: none yet */
    uint64_t mask;
    uint64_t head, next, tail;
    uint64_t *returned; /* a heap of seqs; may hold some that are READY no more */
    size_t n_returned, returned_size;
    size_t ready, unacked;
};

void window_init(struct window *window);
void window_fini(struct window *window); /* drops every message */

/* Appends a READY message, with a reference of its own; its seq. */
uint64_t window_push(struct window *window, struct message *message);

/* Appends one that is taken at once; only when nothing is READY. */
uint64_t window_push_taken(struct window *window, struct message *message, void *taker);

/* Takes the first READY message: UNACKED from now. 0 when nothing is READY. */
uint64_t window_take(struct window *window, void *taker);

/* The slot of a seq that is READY or UNACKED, or NULL. Borrowed until the next push. */
struct slot *window_slot(struct window *window, uint64_t seq);

/* UNACKED -> GONE. False when it is not UNACKED. */
bool window_settle(struct window *window, uint64_t seq);

/* UNACKED -> READY, at its original place. `delivered`: mark it redelivered. False when it is
 * not UNACKED. */
bool window_return(struct window *window, uint64_t seq, bool delivered);

/* All READY -> GONE; how many. */
size_t window_purge(struct window *window);

void window_check(const struct window *window);

#endif
