/*
 * ring: the messages that a producer publishes over and over, encoded once.
 *
 * One stretch of memory holds whole messages (method, header and body frames) one behind the
 * other, as they go to the socket. Publishing is: write the time into the bodies' first eight
 * octets, hand the stretch to the kernel. Keys and sizes vary within a ring, which is long enough
 * that each combination comes once where that is possible, and that a write is worth a system
 * call.
 */
#ifndef PERF_RING_H
#define PERF_RING_H

#include <stddef.h>
#include <stdint.h>

#include "lepus/base/view.h"
#include "options.h"

struct ring {
    uint8_t *at;
    size_t size;
    struct ring_slot {
        size_t begin;
        size_t stamp;  /* where the time goes; 0: the body has no room for it */
        size_t bodies; /* octets of all bodies before it */
    } * slots;         /* one more than there are messages: the last begins at the end */
    size_t count;
    size_t next; /* the message that is to be published next */
};

/* For producer `number` of options->producers, on that channel, with frames as agreed. */
void ring_init(struct ring *ring, const struct options *options, uint64_t number, uint16_t channel,
               size_t frame_max);
void ring_fini(struct ring *ring);

/* Takes at least one and at most *n messages, beginning with slot ring->next, that stand in one
 * piece; *n becomes how many, *out_bytes the octets of their bodies. To be written before the
 * next is taken. */
struct view ring_take(struct ring *ring, uint64_t *n, uint64_t *out_bytes);

/* Where the time goes in the message of that slot; NULL: nowhere. */
static inline uint8_t *
ring_stamp_at(const struct ring *ring, size_t slot)
{
    return ring->slots[slot].stamp == 0 ? NULL : ring->at + ring->slots[slot].stamp;
}

#endif
