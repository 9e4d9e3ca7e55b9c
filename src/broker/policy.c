/*
 * policy: the policies of a vhost, and what they say of one thing.
 *
 * Nothing is remembered of who matches whom: it is asked when a queue is made, when an exchange is
 * declared, and for all of a vhost after a change, each time of every policy. That costs a match
 * of a pattern a policy and thing, and no index has to be kept true.
 */
#include "lepus/broker/policy.h"

#include <assert.h>
#include <stdlib.h>

#include "lepus/wire/table.h"
#include "policy_priv.h"

enum { NAME_LEN_MAX = 255, DEFINITION_BYTES_MAX = 1 << 20 };

static const struct {
    const char *name;
    unsigned targets;
} kinds[] = {
    {"all", POLICY_EXCHANGE | POLICY_CLASSIC | POLICY_QUORUM | POLICY_STREAM},
    {"queues", POLICY_CLASSIC | POLICY_QUORUM | POLICY_STREAM},
    {"classic_queues", POLICY_CLASSIC},
    {"quorum_queues", POLICY_QUORUM},
    {"streams", POLICY_STREAM},
    {"exchanges", POLICY_EXCHANGE},
};

void
policies_init(struct vhost *vhost)
{
    list_init(&vhost->policies);
}

static void
policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    pattern_free(policy->pattern);
    buf_fini(&policy->table);
    free(policy->name.at);
    free(policy->pattern_text.at);
    free(policy->apply_to.at);
    free(policy->definition.at);
    free(policy);
}

void
policies_fini(struct vhost *vhost)
{
    struct list *link;

    while ((link = list_take_first(&vhost->policies)) != NULL)
        policy_free(container_of(link, struct policy, link));
}

static struct view
policy_name(const struct policy *policy)
{
    return view_of(policy->name.at, policy->name.len);
}

static struct policy *
find(const struct vhost *vhost, bool is_operator, struct view name)
{
    list_each (at, &vhost->policies) {
        struct policy *policy = container_of(at, struct policy, link);

        if (policy->is_operator == is_operator && view_equal(policy_name(policy), name))
            return policy;
    }
    return NULL;
}

/* --- making -------------------------------------------------------------------------------- */

static unsigned
find_targets(struct view apply_to)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (view_equal(apply_to, view_str(kinds[i].name)))
            return kinds[i].targets;
    return 0;
}

/* What can be wrong besides the definition, in RabbitMQ's order. */
static bool
check(const struct policy_spec *spec, struct err *err)
{
    if (spec->name.len == 0 || spec->name.len > NAME_LEN_MAX)
        return err_set(err, PRECONDITION_FAILED, "a policy cannot have this name");
    if (spec->definition.len > DEFINITION_BYTES_MAX)
        return err_set(err, PRECONDITION_FAILED, "definition of %zu octets is too large",
                       spec->definition.len);
    if (find_targets(spec->apply_to) == 0)
        return err_set(err, PRECONDITION_FAILED,
                       "apply-to '" VIEW_FMT
                       "' unrecognised; should be one of: 'queues', 'classic_queues',  "
                       "'quorum_queues', 'streams', 'exchanges', or 'all'",
                       VIEW_ARG(spec->apply_to));
    return true;
}

static bool
compile(struct policy *policy, const struct policy_spec *spec, enum policy_strictness strictness,
        struct err *err)
{
    policy->pattern = pattern_new(spec->pattern, err);
    if (policy->pattern == NULL)
        return err_wrap(err, "pattern should be regular expression but is invalid");
    return policy_keys_read(spec->definition, spec->is_operator, strictness, &policy->table,
                            &policy->barred, err);
}

/* NULL: 406. */
static struct policy *
make(const struct policy_spec *spec, enum policy_strictness strictness, struct err *err)
{
    struct policy *policy;

    if (!check(spec, err))
        return NULL;
    policy = mem_new(struct policy);
    policy->is_operator = spec->is_operator;
    policy->targets = find_targets(spec->apply_to);
    policy->priority = spec->priority;
    buf_init(&policy->table, SIZE_MAX / 2);
    if (!compile(policy, spec, strictness, err)) {
        policy_free(policy);
        return NULL;
    }
#define COPY(of, member)                                                                           \
    policy->member.at = view_dup(spec->of);                                                        \
    policy->member.len = spec->of.len
    COPY(name, name);
    COPY(pattern, pattern_text);
    COPY(apply_to, apply_to);
    COPY(definition, definition);
#undef COPY
    return policy;
}

/* Higher priorities come first, and of the same the lower name. */
static bool
is_before(const struct policy *a, const struct policy *b)
{
    struct view x = policy_name(a), y = policy_name(b);
    int order = memcmp(x.at, y.at, x.len < y.len ? x.len : y.len);

    if (a->priority != b->priority)
        return a->priority > b->priority;
    return order != 0 ? order < 0 : x.len < y.len;
}

static void
put(struct vhost *vhost, struct policy *policy)
{
    struct policy *old = find(vhost, policy->is_operator, policy_name(policy));
    struct list *at;

    if (old != NULL)
        list_remove(&old->link);
    policy_free(old);
    at = vhost->policies.next;
    while (at != &vhost->policies && is_before(container_of(at, struct policy, link), policy))
        at = at->next;
    list_insert_before(at, &policy->link);
}

bool
policy_restore(struct vhost *vhost, const struct metadata_policy *row, struct err *err)
{
    struct policy_spec spec = {
        .name = row->name,
        .is_operator = row->is_operator,
        .pattern = row->pattern,
        .apply_to = row->apply_to,
        .priority = row->priority,
        .definition = row->definition,
    };
    struct policy *policy = make(&spec, POLICY_KEEPS_UNKNOWN, err);

    if (policy != NULL)
        put(vhost, policy);
    return policy != NULL;
}

/* --- changing ------------------------------------------------------------------------------ */

static void
tell_changed(struct vhost *vhost)
{
    struct topology *topology = vhost->topology;

    if (topology->policies.changed != NULL)
        topology->policies.changed(topology->policies.arg, vhost);
}

/* Whether any policy has a say in routes: without one, exchanges need not be looked at. */
static bool
says_alternates(const struct vhost *vhost)
{
    list_each (at, &vhost->policies) {
        const struct policy *policy = container_of(at, struct policy, link);
        struct field alternate;

        if (table_find(buf_view(&policy->table), VIEW_LIT("alternate-exchange"), &alternate))
            return true;
    }
    return false;
}

static bool
is_as_it_was(const struct vhost *vhost, const struct policy *policy)
{
    const struct policy *old = find(vhost, policy->is_operator, policy_name(policy));

#define SAME(member)                                                                               \
    view_equal(view_of(old->member.at, old->member.len),                                           \
               view_of(policy->member.at, policy->member.len))
    return old != NULL && old->priority == policy->priority && SAME(pattern_text) &&
           SAME(apply_to) && SAME(definition);
#undef SAME
}

bool
policy_put(struct vhost *vhost, const struct policy_spec *spec, enum policy_strictness strictness,
           uint64_t *out_ticket, struct err *err)
{
    struct policy *policy = make(spec, strictness, err);
    bool ok, changes = false, said_alternates;

    if (policy == NULL)
        return false;
    topology_write_lock(vhost->topology);
    ok = vhost_may_declare(vhost, err);
    if (ok && is_as_it_was(vhost, policy)) { /* maybe since a moment ago */
        tell_ticket(out_ticket, vhost->topology->last_ticket);
    } else if (ok) {
        said_alternates = says_alternates(vhost);
        put(vhost, policy);
        tell_ticket(out_ticket, durable_add_policy(vhost, spec));
        if (said_alternates || says_alternates(vhost))
            exchanges_take_policies(vhost);
        changes = true;
    }
    topology_unlock(vhost->topology);
    if (changes)
        tell_changed(vhost);
    else
        policy_free(policy);
    return ok;
}

bool
policy_remove(struct vhost *vhost, bool is_operator, struct view name, uint64_t *out_ticket,
              struct err *err)
{
    struct policy *policy;

    topology_write_lock(vhost->topology);
    policy = find(vhost, is_operator, name);
    if (policy != NULL) {
        bool said_alternates = says_alternates(vhost);

        list_remove(&policy->link);
        tell_ticket(out_ticket, durable_remove_policy(vhost, is_operator, name));
        if (said_alternates)
            exchanges_take_policies(vhost);
    }
    topology_unlock(vhost->topology);
    if (policy == NULL)
        return err_set(err, NOT_FOUND, "no %s '" VIEW_FMT "' in vhost '%s'",
                       is_operator ? "operator policy" : "policy", VIEW_ARG(name), vhost->name);
    policy_free(policy);
    tell_changed(vhost);
    return true;
}

void
policies_set_merge(struct topology *topology, bool merge)
{
    struct vhost **vhosts;
    size_t n = 0;

    topology_write_lock(topology);
    vhosts = mem_alloc((topology->vhosts.count + 1) * sizeof(struct vhost *));
    if (topology->merges_policies != merge) {
        topology->merges_policies = merge;
        for (struct map_node *at = NULL; (at = map_next(&topology->vhosts, at)) != NULL;) {
            vhosts[n] = container_of(at, struct vhost, node);
            if (says_alternates(vhosts[n++]))
                exchanges_take_policies(vhosts[n - 1]);
        }
    }
    topology_unlock(topology);
    for (size_t i = 0; i < n; i++)
        tell_changed(vhosts[i]);
    free(vhosts);
}

void
policies_listen(struct topology *topology, void (*changed)(void *arg, struct vhost *vhost),
                void *arg)
{
    topology->policies.changed = changed;
    topology->policies.arg = arg;
}

/* --- matching ------------------------------------------------------------------------------ */

enum policy_target
policy_target_of(struct view queue_arguments)
{
    struct field type;

    if (!table_find(queue_arguments, VIEW_LIT("x-queue-type"), &type))
        return POLICY_CLASSIC;
    return view_equal(type.bytes, VIEW_LIT("quorum"))   ? POLICY_QUORUM
           : view_equal(type.bytes, VIEW_LIT("stream")) ? POLICY_STREAM
                                                        : POLICY_CLASSIC;
}

/* Merging, only the keys that this kind of queue cannot have do not hold. */
static bool
holds(const struct policy *policy, enum policy_target target, struct view name, bool merging)
{
    return (policy->targets & target) != 0 && (merging || (policy->barred & target) == 0) &&
           pattern_matches(policy->pattern, name);
}

/* One set's. */
static const struct policy *
say(const struct vhost *vhost, bool is_operator, enum policy_target target, struct view name,
    struct buf *out)
{
    const bool merging = vhost->topology->merges_policies;
    const struct policy *first = NULL;

    list_each (at, &vhost->policies) {
        const struct policy *policy = container_of(at, struct policy, link);

        if (policy->is_operator != is_operator || !holds(policy, target, name, merging))
            continue;
        first = first == NULL ? policy : first;
        policy_keys_add(out, buf_view(&policy->table), target);
        if (!merging)
            break;
    }
    return first;
}

void
policies_say(const struct vhost *vhost, enum policy_target target, struct view name,
             struct buf *out, struct policies_first *out_first)
{
    struct policies_first first = {0};
    struct buf users, operators;

    if (!list_is_empty(&vhost->policies)) {
        buf_init(&users, SIZE_MAX / 2);
        buf_init(&operators, SIZE_MAX / 2);
        first.policy = say(vhost, false, target, name, &users);
        first.operator_policy = say(vhost, true, target, name, &operators);
        policy_keys_join(out, buf_view(&users), buf_view(&operators));
        buf_fini(&users);
        buf_fini(&operators);
    }
    if (out_first != NULL)
        *out_first = first;
}

/* --- looking ------------------------------------------------------------------------------- */

static void
each_of(const struct vhost *vhost, bool is_operator,
        void (*each)(void *arg, const struct policy_spec *policy), void *arg)
{
    list_each (at, &vhost->policies) {
        const struct policy *policy = container_of(at, struct policy, link);
        struct policy_spec spec = {
            .name = policy_name(policy),
            .is_operator = policy->is_operator,
            .pattern = view_of(policy->pattern_text.at, policy->pattern_text.len),
            .apply_to = view_of(policy->apply_to.at, policy->apply_to.len),
            .priority = policy->priority,
            .definition = view_of(policy->definition.at, policy->definition.len),
        };

        if (policy->is_operator == is_operator)
            each(arg, &spec);
    }
}

void
policy_each(struct vhost *vhost, void (*each)(void *arg, const struct policy_spec *policy),
            void *arg)
{
    topology_read_lock(vhost->topology);
    each_of(vhost, false, each, arg);
    each_of(vhost, true, each, arg);
    topology_unlock(vhost->topology);
}

static void
apply(const struct vhost *vhost, enum policy_target target, struct view name,
      struct policy_applied *out)
{
    struct policies_first first;

    *out = (struct policy_applied){0};
    buf_init(&out->table, SIZE_MAX / 2);
    policies_say(vhost, target, name, &out->table, &first);
    if (first.policy != NULL)
        out->name = view_dup(policy_name(first.policy));
    if (first.operator_policy != NULL)
        out->operator_name = view_dup(policy_name(first.operator_policy));
}

bool
policy_of_queue(struct vhost *vhost, struct view queue, struct policy_applied *out)
{
    const struct queue_entry *entry;

    topology_read_lock(vhost->topology);
    entry = vhost_find_queue(vhost, queue);
    if (entry != NULL)
        apply(vhost, policy_target_of(queue_entry_arguments(entry)), queue, out);
    topology_unlock(vhost->topology);
    return entry != NULL;
}

bool
policy_of_exchange(struct vhost *vhost, struct view exchange, struct policy_applied *out)
{
    bool is_there;

    topology_read_lock(vhost->topology);
    is_there = vhost_find_exchange(vhost, exchange) != NULL;
    if (is_there)
        apply(vhost, POLICY_EXCHANGE, exchange, out);
    topology_unlock(vhost->topology);
    return is_there;
}

void
policy_applied_fini(struct policy_applied *applied)
{
    free(applied->name);
    free(applied->operator_name);
    buf_fini(&applied->table);
    *applied = (struct policy_applied){0};
}
