/*
 * expiry: which message of a queue expires first.
 *
 * A heap of (deadline, seq). It is told when a message that expires begins to wait, and never when
 * that ends: who pops an entry looks whether it is still true. So adding costs O(1) as long as
 * deadlines ascend, as those of x-message-ttl do, and what is consumed in time costs nothing more.
 * Entries that are true no longer are swept out when they outnumber the others: whoever adds says
 * how many may be true, and when expiry_is_stale answers, builds it anew.
 *
 * Deadlines are wall-clock milliseconds, seqs a queue's outer ones. Owned by its queue.
 */
#ifndef LEPUS_BROKER_EXPIRY_H
#define LEPUS_BROKER_EXPIRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct deadline {
    uint64_t at_ms, seq;
};

struct expiry {
    struct deadline *heap; /* NULL: never used */
    size_t n, size;
};

void expiry_fini(struct expiry *expiry);

void expiry_add(struct expiry *expiry, uint64_t at_ms, uint64_t seq);

/* The first one's; UINT64_MAX when it is empty. */
static inline uint64_t
expiry_next_ms(const struct expiry *expiry)
{
    return expiry->n > 0 ? expiry->heap[0].at_ms : UINT64_MAX;
}

struct deadline expiry_pop(struct expiry *expiry); /* of a filled one */

/* Most of it is untrue, when `waiting` messages wait. */
bool expiry_is_stale(const struct expiry *expiry, size_t waiting);
void expiry_clear(struct expiry *expiry);

#endif
