/*
 * queue_loans: deliveries that must be settled in time (x-consumer-timeout).
 *
 * Part of a queue (queue.h), apart from it because most queues do without. A delivery to a consumer
 * with a timeout, or by basic.get from a queue with one, is a *loan*: it stands in the slot in its
 * taker's place (loan_of), and in the line of its taker, in the order of delivery. So it costs O(1)
 * and some octets until it is settled; where there is no timeout, one look at `is_lending`.
 *
 * The timeout is the consumer's own (argument of basic.consume), else the queue's (rules); 0 is
 * none. It is read at each delivery, and a line is in the order of deliveries: one that becomes
 * shorter is kept late by what was delivered before the change.
 *
 * A queue takes nothing back itself: the delivery is the channel's until that says otherwise, and
 * the client's word may be on its way. The channel is asked (queue_ops.overdue), and settles: gives
 * the delivery back, which is a failure of it as others are, or ends. So nothing is ever delivered
 * twice at a time, and a late word of the client meets a channel that knows. As long as the
 * delivery is not settled, it is asked again after every further timeout.
 */
#ifndef LEPUS_BROKER_QUEUE_LOANS_H
#define LEPUS_BROKER_QUEUE_LOANS_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/list.h"

struct consumer;
struct queue;

/* Of one taker, the oldest first. */
struct loan_line {
    struct list loans;
    struct list link; /* in queue_loans.lines while it has some */
};

struct loan {
    struct list link;
    struct loan_line *line;
    struct consumer *consumer; /* NULL: taken by basic.get */
    uint64_t channel, seq;     /* the outer seq */
    uint64_t timeout_ms, until_ms;
};

struct queue_loans {
    bool is_lending; /* some deliveries may be loans */
    struct list lines;
    struct loan_line gets;
    uint64_t next_ms; /* nothing is overdue before; UINT64_MAX: nothing at all */
};

/* After queue_get, whose delivery went to that channel. */
void queue_lend_got(struct queue *queue, uint64_t seq, uint64_t channel);

/* Asks the channels of those that are overdue, some at a time; when a wake is due. The queue may
 * end before this returns. */
void queue_recall(struct queue *queue);

#endif
