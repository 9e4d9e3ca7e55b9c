/*
 * queue_life: what befalls messages of a queue besides being delivered and settled.
 *
 * Part of a queue (queue.h), apart from it because plain queues do without. The rules it acts on
 * are the queue's settings.rules.
 *
 *   limits      x-max-length and x-max-length-bytes count what is ready. drop-head: after each
 *               publish, and after each requeue, the oldest go until the rest fits, of the lowest
 *               priority first. reject-publish: a publish that would not fit is refused, even when
 *               a consumer waits
 *   expiry      a message has one deadline, the earlier of the queue's and its own, fixed when it
 *               was published: requeues do not prolong it. It is never delivered after that. While
 *               it is ready *and in memory* it dies on time, wherever it stands (expiry.h).
 *               On pages it has no slot, and no entry: what is deep in a queue costs no memory. As
 *               soon as the earliest deadline of the middle has passed, and the first ready message
 *               of the queue is in the middle, the next page is fetched, and what has expired on it
 *               dies. So a uniform TTL is kept on time on pages too; with mixed deadlines a paged
 *               message dies when the ones before it are gone, never later than it would have been
 *               delivered, and counts as ready until then, as it does in RabbitMQ wherever it is
 *               not at the head
 *   deaths      of a queue without a dead-letter exchange the dead are settled at once. With one
 *               they are held (window.h) and told by ops->died; whoever buries them says
 *               queue_bury when their copies are where they belong. Until then they count as
 *               unacked, and a restart finds them ready
 *
 *   failures    with x-delivery-limit, each requeue of a message is counted, and the one after the
 *               limit is its death. Counts are kept in memory only, by seq
 *
 * Time is ops->now_ms: wall clock, but one that does not jump. The queue asks to be woken
 * (ops->wake) by queue_tidy.
 */
#ifndef LEPUS_BROKER_QUEUE_LIFE_H
#define LEPUS_BROKER_QUEUE_LIFE_H

#include "lepus/base/buf.h"
#include "lepus/base/map.h"
#include "lepus/broker/expiry.h"
#include "lepus/broker/message.h"

struct queue;
struct publish;

enum death {
    DEATH_REJECTED,
    DEATH_EXPIRED,
    DEATH_MAXLEN,
    DEATH_DELIVERY_LIMIT,
    DEATH_DUE /* of delay.h: it leaves as it should */
};

struct queue_life {
    bool drops_head;       /* there is a limit, and the head pays for it */
    bool refuses;          /* there is a limit, and the publisher pays for it */
    bool rules_publish;    /* before each publish: queue_refuses and queue_deadline have a say */
    bool is_dated;         /* something that expires has come, ever */
    struct expiry expiry;  /* of what is ready and in memory; with settings.delays: of all */
    uint64_t asked_body;   /* with settings.delays: the page of that seq was asked for */
    uint64_t wake_ms;      /* asked for; UINT64_MAX: not */
    struct idmap failures; /* by outer seq: failed deliveries, as a pointer's value */
    struct bodiless {      /* UNACKED, to die when their page has come */
        uint64_t seq;
        enum death why;
        bool asked; /* its page is under way */
    } * bodiless;
    size_t n_bodiless;
    struct buf scratch; /* the properties of the delivery at hand */
};

/* Drops what is too much, and what has expired; to be called after a publish that asked for it
 * (publish.tidy) has been written down, and when a wake is due. */
void queue_tidy(struct queue *queue);

/* What died is where it belongs: settles it. False when it is not held. */
bool queue_bury(struct queue *queue, uint64_t seq);

#endif
