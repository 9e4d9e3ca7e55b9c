/*
 * queue_rules: what a queue's settings say of its life: how long messages and the queue itself may
 * stay, how much it holds, where its dead go.
 *
 * The one place where effective settings are made: of the arguments of the declare and of what
 * policies say (policy.h). A limit is the lower of both; of all else the argument holds, but for
 * the overflow of a quorum queue, which is the policy's [RabbitMQ]. Everybody who acts on a setting
 * reads it from a struct queue_rules. They may change while the queue is there (queue_take_rules).
 */
#ifndef LEPUS_BROKER_QUEUE_RULES_H
#define LEPUS_BROKER_QUEUE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/view.h"
#include "lepus/broker/retry.h"

#define RULE_NONE UINT64_MAX

enum overflow {
    OVERFLOW_DROP_HEAD,
    OVERFLOW_REJECT,            /* the publish is refused */
    OVERFLOW_REJECT_DEAD_LETTER /* the same, and it is dead-lettered */
};

struct queue_rules {
    uint64_t ttl_ms;                /* of each message; RULE_NONE, here and below: no such rule */
    uint64_t lease_ms;              /* of the queue, unused */
    uint64_t max_length, max_bytes; /* of what is ready */
    enum overflow overflow;
    uint64_t delivery_limit;      /* failed deliveries of a message that are forgiven */
    uint64_t consumer_timeout_ms; /* for a delivery to be settled */
    struct retry_rule retry;
    bool single_active;
    bool has_dead_letter_exchange, has_dead_letter_key;
    char *dead_letter_exchange, *dead_letter_key; /* owned; "" unless has_ */
    size_t dead_letter_exchange_len, dead_letter_key_len;
};

/* Of checked arguments, and of what policies say: a table whose names have no x-. */
void queue_rules_init(struct queue_rules *rules, struct view arguments, struct view policy);
void queue_rules_fini(struct queue_rules *rules);

/* That say nothing, and own nothing. */
extern const struct queue_rules queue_rules_none;

static inline struct view
queue_rules_exchange(const struct queue_rules *rules)
{
    return view_of(rules->dead_letter_exchange, rules->dead_letter_exchange_len);
}

static inline struct view
queue_rules_key(const struct queue_rules *rules)
{
    return view_of(rules->dead_letter_key, rules->dead_letter_key_len);
}

#endif
