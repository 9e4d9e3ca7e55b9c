/*
 * policy: settings of queues and exchanges by their names, given by operators after the fact.
 *
 * A policy belongs to a vhost. It says to which things it applies (a kind, and a pattern for the
 * name), and defines keys, which are mostly arguments' names without the x-. Users' policies and
 * operators' policies are two sets; names are unique in each.
 *
 * What is said of one thing:
 *
 *   - of the policies that match, the one of the highest priority holds, alone, and one operator
 *     policy beside it [RabbitMQ]; of equal ones the first by name. A policy with a key that this
 *     kind of queue cannot have does not match. Or, merging (policies_set_merge), all that match
 *     hold, key by key, the higher priority first;
 *   - of a policy's key and the operator policy's: numbers that limit, the lower; all others the
 *     operator's;
 *   - of that and the argument (queue_rules.h): of numbers that limit, the lower; of all others
 *     the argument, but for the overflow of quorum queues.
 *
 * Policies are part of the topology: guarded by its lock, in its metadata, with its tickets. A
 * change is true for routes (alternate-exchange) when the function returns. Queues live elsewhere:
 * whoever listens (policies_listen) tells their homes, which take it over at once but after that.
 *
 * Which keys there are is a table in policy_keys.c. A key without a row is refused; one that
 * was imported (POLICY_KEEPS_UNKNOWN) is kept in the definition, and means nothing.
 */
#ifndef LEPUS_BROKER_POLICY_H
#define LEPUS_BROKER_POLICY_H

#include "lepus/base/buf.h"
#include "lepus/broker/topology.h"

/* Everything is octets, borrowed for the call. */
struct policy_spec {
    struct view name;
    bool is_operator;
    struct view pattern;
    struct view apply_to; /* all, queues, exchanges, classic_queues, quorum_queues, streams */
    int64_t priority;
    struct view definition; /* a JSON object */
};

enum policy_strictness { POLICY_REFUSES_UNKNOWN, POLICY_KEEPS_UNKNOWN };

/* Makes it, or puts it in the place of the one of that name. 406 with RabbitMQ's reason, which it
 * tells behind "Validation failed\n\n"; 320 when the vhost was deleted. */
bool policy_put(struct vhost *vhost, const struct policy_spec *spec,
                enum policy_strictness strictness, uint64_t *out_ticket, struct err *err);

/* 404 when there is none. */
bool policy_remove(struct vhost *vhost, bool is_operator, struct view name, uint64_t *out_ticket,
                   struct err *err);

/* Whether policies, or operator policies, know the key. */
bool policy_knows_key(struct view key, bool is_operator);

/* Calls each for all policies of the vhost, operator policies last, the highest priority first;
 * under the read lock: each must not come back here. */
void policy_each(struct vhost *vhost, void (*each)(void *arg, const struct policy_spec *policy),
                 void *arg);

/* What is said of a queue or an exchange. The copies are the caller's: see _fini. */
struct policy_applied {
    char *name, *operator_name; /* of what holds; NULL: none. Merging: of the first */
    struct buf table;           /* what holds, as a field table: keys are policies' */
};

/* False when there is no such thing. */
bool policy_of_queue(struct vhost *vhost, struct view queue, struct policy_applied *out);
bool policy_of_exchange(struct vhost *vhost, struct view exchange, struct policy_applied *out);
void policy_applied_fini(struct policy_applied *applied);

/* Whether all that match hold. Changes what is said of everything. */
void policies_set_merge(struct topology *topology, bool merge);

/* Called after each change in a vhost (on the thread that made it, with no lock held). One
 * listener; NULL: none. */
void policies_listen(struct topology *topology, void (*changed)(void *arg, struct vhost *vhost),
                     void *arg);

#endif
