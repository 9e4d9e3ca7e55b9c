/*
 * policy_priv: what the topology's files know of policies (policy.c), and these of their keys
 * (policy_keys.c). Functions want the topology's lock held.
 */
#ifndef BROKER_POLICY_PRIV_H
#define BROKER_POLICY_PRIV_H

#include "lepus/base/pattern.h"
#include "lepus/broker/policy.h"
#include "topology_priv.h"

/* What a policy applies to, as bits. */
enum policy_target {
    POLICY_EXCHANGE = 1,
    POLICY_CLASSIC = 2,
    POLICY_QUORUM = 4,
    POLICY_STREAM = 8,
};

struct policy {
    struct list link; /* of vhost.policies */
    bool is_operator;
    unsigned targets; /* of apply_to, ... */
    unsigned barred;  /* ... without those that cannot have one of its keys */
    int64_t priority;
    struct pattern *pattern;
    struct buf table; /* the definition: its known keys, as a field table */
    struct {
        char *at;
        size_t len;
    } name, pattern_text, apply_to, definition; /* owned, as they came */
};

void policies_init(struct vhost *vhost);
void policies_fini(struct vhost *vhost);

/* What holds for the thing, merged, is appended to *out. The first of each set that holds is told
 * when it is asked for. */
struct policies_first {
    const struct policy *policy, *operator_policy;
};
void policies_say(const struct vhost *vhost, enum policy_target target, struct view name,
                  struct buf *out, struct policies_first *out_first);

enum policy_target policy_target_of(struct view queue_arguments);

/* A row that was written down: false when it cannot be one any more. */
bool policy_restore(struct vhost *vhost, const struct metadata_policy *row, struct err *err);

/* --- policy_keys.c ----------------------------------------------------------------------- */

/* Checks the definition, and appends its known keys to *out. *out_barred: who cannot have one of
 * them. 406. */
bool policy_keys_read(struct view definition, bool is_operator, enum policy_strictness strictness,
                      struct buf *out, unsigned *out_barred, struct err *err);

/* Appends those keys of a table that the target can have and *to does not have. */
void policy_keys_add(struct buf *to, struct view table, enum policy_target target);

/* Appends both tables' keys, those in both as the key wants it. */
void policy_keys_join(struct buf *to, struct view policy, struct view operator_policy);

#endif
