/* queue_priv: what queue.c (order and consumers) and queue_life.c (limits, expiry, deaths) share.
 */
#ifndef BROKER_QUEUE_PRIV_H
#define BROKER_QUEUE_PRIV_H

#include "lepus/broker/queue.h"

static inline uint64_t
outer_seq(const struct backlog *backlog, uint64_t seq)
{
    return level_seq(backlog_id_level(backlog->id), seq);
}

/* queue.c: the lowest level that has something ready, or NULL. */
struct backlog *queue_last_level(struct queue *queue);

/* queue_life.c */
void life_init(struct queue *queue);
void life_fini(struct queue *queue);

/* queue_tidy is wanted by then. */
void life_wake_by(struct queue *queue, uint64_t at_ms);

/* A message that expires waits from now on, in its slot. */
void life_add_deadline(struct queue *queue, struct backlog *backlog, uint64_t seq, uint64_t at_ms);

/* The first ready message, which has its slot, expired: then it is dead now. Of dated queues. */
bool life_head_expired(struct queue *queue, struct backlog *backlog, uint64_t seq);

/* A READY or UNACKED one dies. */
void life_die(struct queue *queue, struct backlog *backlog, struct settled_run *run, uint64_t seq,
              enum death why);

/* A delivery of an UNACKED one has failed: is it to go back, or to die? FATE_WAITS: it does. */
enum fate { FATE_BACK, FATE_WAITS, FATE_DIES };
enum fate life_failed(struct queue *queue, struct backlog *backlog, uint64_t seq,
                      enum settle_how how);

/* Those that are due are READY; whether there were some. */
bool life_end_waits(struct queue *queue);

/* The first ready message, which has its slot: when a former life says that it waits, it does, from
 * now on. With life.has_early. */
bool life_is_early(struct queue *queue, struct backlog *backlog, uint64_t seq);

/* The wake that they want, once more. */
void life_wish_waits(struct queue *queue);

/* What was ready is gone. */
void life_purged(struct queue *queue);

/* queue.c: UNACKED -> READY. */
void queue_give_back(struct queue *queue, struct backlog *backlog, uint64_t seq, bool delivered);

/* A slot comes back READY. */
void life_returned(struct queue *queue, struct backlog *backlog, uint64_t seq);

static inline void
life_forget_failures(struct queue *queue, uint64_t outer)
{
    if (queue->life.failures.count > 0)
        idmap_remove(&queue->life.failures, outer);
}

/* content's properties with x-delivery-count and x-retry-attempt, when there were failures. */
void life_add_count(struct queue *queue, uint64_t outer, struct content *content);

/* Its levels have what they had in a former life. */
void life_restored(struct queue *queue);

/* A page has come. */
void life_loaded(struct queue *queue);

/* Wants queue_tidy and queue_recall by then. */
void life_wake_by(struct queue *queue, uint64_t at_ms);

/* queue_loans.c */
void loans_init(struct queue *queue);
void loan_line_init(struct loan_line *line);

/* What is to stand as a slot's taker: a loan, or the consumer itself when it has no timeout. For
 * queues with loans.is_lending. */
void *loan_new(struct queue *queue, struct consumer *consumer, uint64_t channel, uint64_t outer);

/* Frees it; its consumer, or NULL. */
struct consumer *loan_end(struct loan *loan);

/* The wake that loans want, once more. */
void loans_wish(struct queue *queue);

/* A taker is a consumer, or a loan with an odd address. */
static inline void *
loan_as_taker(struct loan *loan)
{
    return (char *)loan + 1;
}

static inline struct loan *
loan_of(void *taker)
{
    return ((uintptr_t)taker & 1) != 0 ? (struct loan *)(void *)((char *)taker - 1) : NULL;
}

#endif
