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
 *   failures    of deliveries are counted, by seq, with x-delivery-limit, with a rule for retries,
 *               and when a consumer's timeout is over. One more than the limit is the message's
 *               death. Otherwise it goes back, at once or after a wait (retry.h), during which it
 *               is UNACKED by nobody, and in a heap by the time when it is due. Counts and times of
 *               durable queues' persistent messages are told by backlog_ops.failed, and come back
 *               by queue_restore_failures
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
#include "lepus/broker/retry.h"

struct queue;
struct publish;

enum death {
    DEATH_REJECTED,
    DEATH_EXPIRED,
    DEATH_MAXLEN,
    DEATH_DELIVERY_LIMIT,
    DEATH_DUE /* of delay.h: it leaves as it should */
};

/* Of one message. Packed it is a pointer's value: of a count of up to a million, beyond which none
 * is told from another, and of a time until the year 2500. */
struct failures {
    uint64_t n;      /* deliveries that failed */
    uint64_t due_ms; /* it waits until then, wall clock; 0: it does not */
};

enum { FAILURES_BITS = 20, FAILURES_MAX = (1 << FAILURES_BITS) - 1 };
#define FAILURES_DUE_MAX ((UINT64_C(1) << (64 - FAILURES_BITS)) - 1)

static inline void *
failures_pack(struct failures failures)
{
    uint64_t n = failures.n < FAILURES_MAX ? failures.n : FAILURES_MAX;
    uint64_t due_ms = failures.due_ms < FAILURES_DUE_MAX ? failures.due_ms : FAILURES_DUE_MAX;

    return (void *)(uintptr_t)(due_ms << FAILURES_BITS | n);
}

static inline struct failures
failures_unpack(const void *packed)
{
    uint64_t value = (uintptr_t)packed;

    return (struct failures){value & FAILURES_MAX, value >> FAILURES_BITS};
}

struct queue_life {
    bool drops_head;       /* there is a limit, and the head pays for it */
    bool refuses;          /* there is a limit, and the publisher pays for it */
    bool rules_publish;    /* before each publish: queue_refuses and queue_deadline have a say */
    bool is_dated;         /* something that expires has come, ever */
    struct expiry expiry;  /* of what is ready and in memory; with settings.delays: of all */
    uint64_t asked_body;   /* with settings.delays: the page of that seq was asked for, ... */
    unsigned asked_times;  /* ... so often, and has not come with it yet */
    uint64_t wake_ms;      /* asked for; UINT64_MAX: not */
    struct idmap failures; /* by outer seq: a struct failures, packed */
    struct expiry waiting; /* for a retry: until when */
    bool has_early;        /* restored, and maybe READY: something that is to wait */
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

/* What waited for a retry, and is due, is ready again; when a wake is due. */
void queue_resume(struct queue *queue);

/* What died is where it belongs: settles it. False when it is not held. */
bool queue_bury(struct queue *queue, uint64_t seq);

/* Each message of the backlog that a restart should know of. */
struct backlog;
typedef void queue_failed_fn(void *arg, struct backlog *backlog, uint64_t seq,
                             struct failures failures);
void queue_each_failed(struct backlog *backlog, queue_failed_fn *each, void *arg);

/* A former life says that of a message that is there, by its outer seq. Before queue_restored. */
void queue_restore_failures(struct queue *queue, uint64_t seq, struct failures failures);

#endif
