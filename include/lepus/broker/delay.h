/*
 * delay: messages that wait at an exchange of type x-delayed-message until they are due.
 *
 * A message with a header x-delay of more than 0 ms does not go through the exchange, but into the
 * exchange's own queue (topology.h), which has the exchange's id and nobody else's name: a queue
 * like any other to journal, pages, checkpoints and recovery, so a confirm means what it always
 * does, and a durable exchange's persistent messages survive as a durable queue's do. When a
 * message is due it dies there (DEATH_DUE), and is sent as dead letters are (home_letters.c):
 * through the exchange, as the type that x-delayed-type names, with the header x-delay negated, by
 * which consumers know and no exchange delays it again. Once it is as safe where it went as it is
 * to be, it is settled here; so after a crash one may come twice, and none is lost.
 *
 * The queue differs from others in this:
 *
 *   deadlines   of a message is when it is due (expires_ms in the journal and on pages); its own
 *               expiration begins when it leaves
 *   index       every message is taken as soon as it has come (UNACKED, by nobody), so that it
 *               keeps its slot when its body goes to a page; and its deadline is in life.expiry, a
 *               heap. So one that waits costs some 60 octets of memory, wherever its body is
 *   order       due times, and of equal ones the order of their publishing: the first of the heap
 *               goes first, and when its body is on a page, all others wait for that page
 *   restart     what was restored is taken and indexed, a page after the other, before the first
 *               message leaves: otherwise one could overtake another
 *
 * BCC keeps its say: it is not taken away when such a queue is all that a message goes to, but when
 * it leaves. One that goes to other queues at once, too, must lose it before.
 *
 * An exchange of type x-message-deduplication has such a queue, too (settings.passes_on): what it
 * keeps is due at once, and leaves with the headers that it came with.
 *
 * Time is counted from when the queue gets the message, rounded up: none leaves early.
 */
#ifndef LEPUS_BROKER_DELAY_H
#define LEPUS_BROKER_DELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/view.h"

struct queue;

/* What x-delay asks for: a whole number of any type, a floating one (its whole part), or a string
 * of digits. 0: it asks for no delay. */
uint64_t delay_asked_ms(struct view properties);

/* Appends the properties that a message leaves with: without BCC, and with x-delay negated when it
 * is_delayed (it asked for a delay). */
void delay_properties(struct buf *to, struct view properties, bool is_delayed);

/* --- the exchange's own queue: with settings.delays ------------------------------------ */

/* Messages have come, by a publish or from a former life. */
void delay_came(struct queue *queue);

/* Sends what is due, as much as is good for one turn, and asks to be woken for the rest. */
void delay_tidy(struct queue *queue);

#endif
