/*
 * retry: how long a message waits in its queue after a delivery of it has failed.
 *
 * Two ways to say it, one of them for a queue:
 *
 *   x-delayed-retry-type   "failed": what was rejected with requeue, held by a channel that ended,
 *     -min, -max           or not settled in time; "returned": what was nacked with requeue, or
 *                          recovered; "all": both; "disabled": as without it. The n-th failure
 * waits min(n * min, max), in ms. Without -min that is 1000; without -max there is no upper end.
 * [RabbitMQ 4.3, there for quorum queues] x-retry-schedule       "1s,10s,1m,10m*5;jitter=20%": a
 * wait for each failure, of either kind, in ms, s, m, h or d, "*5" being five times the same;
 * jitter spreads each by up to so much of it, both ways. The failure after the last wait is death
 *                          (DEATH_DELIVERY_LIMIT), as if x-delivery-limit were the number of waits
 *
 * A failure counts whether it is to wait or not. x-delivery-limit holds beside both; the lower one
 * counts. The deliveries that follow have the headers x-delivery-count, failures so far, and
 * x-retry-attempt, the same number: this is the n-th retry.
 *
 * What waits (queue_life.h) stays in its queue, UNACKED by nobody: it counts as unacked, a purge
 * leaves it, and when it is due it is ready again, at its original place. Its octets may leave
 * memory for pages as any message's; the rest is some 100 octets, of which a million take 100 MB.
 * Waiting, and its end, cost O(log n). Its own TTL goes on, but it dies when it is back, as what a
 * consumer holds does. When it is a persistent message of a durable queue, how often it has failed
 * and when it is due are in the journal (RECORD_FAILED), and again with each checkpoint; after a
 * crash it waits for the rest of its time, or, if the record was not written yet, is ready at once.
 * After a restart what waits counts as ready until the queue has come to it, from its head on.
 */
#ifndef LEPUS_BROKER_RETRY_H
#define LEPUS_BROKER_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/view.h"

struct retry_step {
    uint64_t delay_ms;
    uint32_t times;
};

enum { RETRY_STEPS_MAX = 64, RETRY_TIMES_MAX = 1000000, RETRY_WHY_MAX = 120 };

struct retry_rule {
    bool failed, returned;    /* which failures wait; neither: none does */
    uint64_t min_ms, max_ms;  /* without steps */
    struct retry_step *steps; /* owned; NULL: no schedule */
    size_t n_steps;
    uint64_t n_retries; /* of the schedule */
    uint8_t jitter;     /* per cent */
};

static inline bool
retry_is_none(const struct retry_rule *rule)
{
    return !rule->failed && !rule->returned;
}

/* False: `why` says what is wrong where, and *out holds nothing. */
bool retry_parse(struct view schedule, struct retry_rule *out, char why[RETRY_WHY_MAX]);
void retry_fini(struct retry_rule *rule);

/* Of x-delayed-retry-type; false when it is no such word. */
bool retry_of_type(struct view type, struct retry_rule *out);

/* The wait after that many failures (from 1), `random` being any number; the last step's when there
 * are more failures than steps. */
uint64_t retry_delay_ms(const struct retry_rule *rule, uint64_t failures, uint64_t random);

#endif
