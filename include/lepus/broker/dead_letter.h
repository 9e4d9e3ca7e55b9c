/*
 * dead_letter: what the copy of a dead message says about its death.
 *
 * Bytes in, bytes out: no queue, no clock. The headers are RabbitMQ's:
 *
 *   x-death         an array of tables, the last death first, one entry for each queue and reason:
 *                   count (long), reason, queue (longstr), time (timestamp, of the first death of
 *                   this entry), exchange (longstr), routing-keys (array of longstr: the key and
 *                   those in CC), original-expiration (longstr, if the message had one). A death
 *                   that is in the array adds one to its count and comes to the front; what else
 *                   its entry says stays. An x-death of the publisher's own counts as one of ours
 *   x-first-death-  exchange, queue, reason: set once
 *   x-last-death-   the same three, of this death
 *
 * The expiration goes, or the copy would expire again; with a dead-letter routing key so does CC,
 * since the copy is not routed by it.
 */
#ifndef LEPUS_BROKER_DEAD_LETTER_H
#define LEPUS_BROKER_DEAD_LETTER_H

#include "lepus/base/buf.h"
#include "lepus/broker/queue_life.h"
#include "lepus/wire/content.h"

struct death_note {
    enum death why;
    struct view queue; /* where it died */
    uint64_t time_s;
    bool has_key; /* it is routed by a dead-letter routing key, not by its own */
};

/* Appends the properties of the copy. */
void dead_letter_properties(struct buf *to, const struct content *dead,
                            const struct death_note *note);

/* Whether a copy with these headers came to this queue before, and since then by itself: died
 * there, and nobody rejected it in between. Such a one is not delivered, or it would go round for
 * ever. */
bool dead_letter_is_cycle(struct view headers, struct view queue);

const char *death_name(enum death why); /* "rejected" */

#endif
