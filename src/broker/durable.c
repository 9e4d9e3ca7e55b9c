/*
 * durable: the topology's rows: written as it changes, read back at the start.
 *
 * Happy path at the start: counters, vhosts, policies, exchanges, queues, bindings, each in a walk
 * of its own, ends found by id. Then a range of ids is asked for and committed, so that whatever
 * this process numbers, durable or not, no later one will number again. A row that cannot be (an
 * unknown exchange type, a binding without an end) stops the start: what an operator edited he can
 * mend, what is left out silently he cannot know.
 */
#include <assert.h>

#include "exchange_priv.h"
#include "lepus/base/log.h"
#include "policy_priv.h"

enum { IDS_ASKED_AT_ONCE = 1 << 18, RESERVE_PATIENCE_MS = 5000 };

/* --- writing ------------------------------------------------------------------------------- */

static uint64_t
remember(struct topology *topology, uint64_t ticket)
{
    topology->last_ticket = ticket;
    return ticket;
}

static void
ask_for_ids(struct topology *topology, uint64_t n)
{
    struct metadata_counter row = {VIEW_LIT("last_id"), topology->ids.asked + n};

    topology->ids.asked = row.value;
    topology->ids.ticket = metadata_put_counter(topology->metadata, &row);
}

/* Half of a range is given out while the next one is being written: nobody waits, unless writing
 * has failed for that long. */
bool
durable_has_ids(struct topology *topology, unsigned n, struct err *err)
{
    uint64_t last = topology->last_id + n;

    if (topology->metadata == NULL)
        return true;
    if (topology->ids.asked != topology->ids.safe &&
        metadata_committed(topology->metadata) >= topology->ids.ticket)
        topology->ids.safe = topology->ids.asked;
    if (last + IDS_ASKED_AT_ONCE / 2 > topology->ids.asked)
        ask_for_ids(topology, IDS_ASKED_AT_ONCE);
    return last <= topology->ids.safe ||
           err_set(err, INTERNAL_ERROR, "definitions cannot be written to disk at the moment");
}

/* What was asked for last, by then; 0 when there is nothing to wait for. */
static uint64_t
ask_for_more_ids(struct topology *topology, uint64_t n)
{
    uint64_t last = topology->last_id + n + IDS_ASKED_AT_ONCE / 2;

    if (last > topology->ids.asked)
        ask_for_ids(topology, last - topology->ids.asked);
    return last > topology->ids.safe ? topology->ids.asked : 0;
}

bool
topology_reserve_ids(struct topology *topology, size_t vhosts, size_t others, struct err *err)
{
    uint64_t asked;

    if (topology->metadata == NULL)
        return true;
    topology_write_lock(topology);
    asked = ask_for_more_ids(topology, vhosts * PREDECLARED_MAX + others);
    topology_unlock(topology);
    if (asked == 0)
        return true;
    if (!metadata_settle(topology->metadata, RESERVE_PATIENCE_MS, err))
        return false;
    topology_write_lock(topology);
    if (topology->ids.safe < asked)
        topology->ids.safe = asked;
    topology_unlock(topology);
    return true;
}

void
durable_add_vhost(struct topology *topology, const struct metadata_vhost *row)
{
    struct metadata_counter last = {VIEW_LIT("last_vhost"), topology->last_vhost};

    if (topology->metadata == NULL)
        return;
    metadata_put_counter(topology->metadata, &last);
    remember(topology, metadata_put_vhost(topology->metadata, row));
}

void
durable_remove_vhost(struct topology *topology, uint32_t id)
{
    if (topology->metadata != NULL)
        remember(topology,
                 metadata_remove_vhost(topology->metadata, &(struct metadata_vhost){.id = id}));
}

static struct topology *
topology_of(const struct vhost *vhost, bool is_durable)
{
    return is_durable && vhost->topology->metadata != NULL ? vhost->topology : NULL;
}

static struct metadata_exchange
exchange_row(const struct exchange *exchange)
{
    return (struct metadata_exchange){
        .id = exchange->id,
        .vhost = exchange->vhost->id,
        .name = exchange_name(exchange),
        .type = view_str(exchange->type->name),
        .auto_delete = exchange->auto_delete,
        .internal = exchange->internal,
        .arguments = exchange_arguments(exchange),
    };
}

uint64_t
durable_add_exchange(const struct exchange *exchange)
{
    struct topology *topology = topology_of(exchange->vhost, exchange->durable);
    struct metadata_exchange row = exchange_row(exchange);

    return topology == NULL ? 0
                            : remember(topology, metadata_put_exchange(topology->metadata, &row));
}

uint64_t
durable_remove_exchange(const struct exchange *exchange)
{
    struct topology *topology = topology_of(exchange->vhost, exchange->durable);
    struct metadata_exchange row = exchange_row(exchange);

    return topology == NULL
               ? 0
               : remember(topology, metadata_remove_exchange(topology->metadata, &row));
}

static struct metadata_queue
queue_row(const struct queue_entry *queue)
{
    return (struct metadata_queue){
        .id = queue->ref.id,
        .vhost = queue->vhost->id,
        .shard = queue->ref.shard,
        .name = queue_entry_name(queue),
        .auto_delete = queue->auto_delete,
        .arguments = queue_entry_arguments(queue),
    };
}

uint64_t
durable_add_queue(const struct queue_entry *queue)
{
    struct topology *topology = topology_of(queue->vhost, queue->durable);
    struct metadata_queue row = queue_row(queue);

    return topology == NULL ? 0 : remember(topology, metadata_put_queue(topology->metadata, &row));
}

uint64_t
durable_remove_queue(const struct queue_entry *queue)
{
    struct topology *topology = topology_of(queue->vhost, queue->durable);
    struct metadata_queue row = queue_row(queue);

    return topology == NULL ? 0
                            : remember(topology, metadata_remove_queue(topology->metadata, &row));
}

static struct metadata_binding
binding_row(const struct binding *binding)
{
    return (struct metadata_binding){
        .source = binding->source->id,
        .destination =
            binding->to_exchange ? binding->to_a.exchange->id : binding->to_a.queue->ref.id,
        .routing_key = binding_key(binding),
        .arguments = binding_arguments(binding),
        .vhost = binding->source->vhost->id,
        .to_exchange = binding->to_exchange,
    };
}

uint64_t
durable_add_binding(const struct binding *binding)
{
    struct topology *topology = topology_of(binding->source->vhost, binding_is_durable(binding));
    struct metadata_binding row = binding_row(binding);

    return topology == NULL ? 0
                            : remember(topology, metadata_put_binding(topology->metadata, &row));
}

uint64_t
durable_remove_binding(const struct binding *binding)
{
    struct topology *topology = topology_of(binding->source->vhost, binding_is_durable(binding));
    struct metadata_binding row = binding_row(binding);

    return topology == NULL ? 0
                            : remember(topology, metadata_remove_binding(topology->metadata, &row));
}

uint64_t
durable_add_policy(struct vhost *vhost, const struct policy_spec *spec)
{
    struct topology *topology = topology_of(vhost, true);
    struct metadata_policy row = {
        .vhost = vhost->id,
        .is_operator = spec->is_operator,
        .name = spec->name,
        .pattern = spec->pattern,
        .apply_to = spec->apply_to,
        .priority = spec->priority,
        .definition = spec->definition,
    };

    return topology == NULL ? 0 : remember(topology, metadata_put_policy(topology->metadata, &row));
}

uint64_t
durable_remove_policy(struct vhost *vhost, bool is_operator, struct view name)
{
    struct topology *topology = topology_of(vhost, true);
    struct metadata_policy row = {.vhost = vhost->id, .is_operator = is_operator, .name = name};

    return topology == NULL ? 0
                            : remember(topology, metadata_remove_policy(topology->metadata, &row));
}

/* --- reading ------------------------------------------------------------------------------- */

struct loading {
    struct topology *topology;
    struct idmap vhosts, exchanges; /* by id */
    bool is_first;                  /* there never was anything */
};

static bool
load_counter(void *arg, const union metadata_row *row, struct err *err)
{
    struct loading *loading = arg;
    const struct metadata_counter *counter = &row->counter;

    (void)err;
    if (view_equal(counter->name, VIEW_LIT("last_id"))) {
        loading->topology->last_id = counter->value;
        loading->is_first = false;
    } else if (view_equal(counter->name, VIEW_LIT("last_vhost"))) {
        loading->topology->last_vhost = (uint32_t)counter->value;
    }
    return true;
}

static bool
load_vhost(void *arg, const union metadata_row *row, struct err *err)
{
    struct loading *loading = arg;
    const struct metadata_vhost *v = &row->vhost;
    struct vhost *vhost;

    if (v->id == 0 || v->id > loading->topology->last_vhost || v->name.len == 0 ||
        map_find(&loading->topology->vhosts, v->name) != NULL)
        return err_set(err, INTERNAL_ERROR,
                       "vhost %llu: its id was never given, its name is empty or another's too",
                       (unsigned long long)v->id);
    vhost = vhost_make(loading->topology, (uint32_t)v->id, v->name);
    vhost_set_default_type(vhost, v->default_queue_type);
    idmap_add(&loading->vhosts, v->id, vhost);
    return true;
}

/* One that cannot be applied (it was edited, or is of a version with other rules) is left alone:
 * nothing is lost by it. */
static bool
load_policy(void *arg, const union metadata_row *row, struct err *err)
{
    struct loading *loading = arg;
    const struct metadata_policy *p = &row->policy;
    struct vhost *vhost = p->vhost != 0 ? idmap_find(&loading->vhosts, p->vhost) : NULL;
    struct err why;

    if (vhost == NULL)
        return err_set(err, INTERNAL_ERROR, "policy '" VIEW_FMT "': there is no vhost %llu",
                       VIEW_ARG(p->name), (unsigned long long)p->vhost);
    if (!policy_restore(vhost, p, &why))
        log_warn(NULL, "policy '" VIEW_FMT "' in vhost '%s' is not applied: %s", VIEW_ARG(p->name),
                 vhost->name, why.text);
    return true;
}

/* The vhost of an exchange or queue whose id nobody has yet. */
static struct vhost *
vhost_for(const struct loading *loading, uint64_t vhost, uint64_t id, struct err *err)
{
    struct vhost *found = vhost != 0 ? idmap_find(&loading->vhosts, vhost) : NULL;

    if (id == 0 || id > loading->topology->last_id || idmap_find(&loading->exchanges, id) != NULL ||
        idmap_find(&loading->topology->queues, id) != NULL)
        err_set(err, INTERNAL_ERROR, "its id was never given, or is another's too");
    else if (found == NULL)
        err_set(err, INTERNAL_ERROR, "there is no vhost %llu", (unsigned long long)vhost);
    else
        return found;
    return NULL;
}

static bool
load_exchange(void *arg, const union metadata_row *row, struct err *err)
{
    struct loading *loading = arg;
    const struct metadata_exchange *x = &row->exchange;
    struct vhost *vhost = vhost_for(loading, x->vhost, x->id, err);
    struct exchange *exchange;

    if (vhost == NULL || !exchange_restore(vhost, x, &exchange, err))
        return err_wrap(err, "exchange %llu", (unsigned long long)x->id);
    idmap_add(&loading->exchanges, x->id, exchange);
    return true;
}

static bool
load_queue(void *arg, const union metadata_row *row, struct err *err)
{
    struct loading *loading = arg;
    const struct metadata_queue *q = &row->queue;
    struct vhost *vhost = vhost_for(loading, q->vhost, q->id, err);

    return (vhost != NULL && queue_entry_restore(vhost, q, err)) ||
           err_wrap(err, "queue %llu", (unsigned long long)q->id);
}

static bool
find_ends(const struct loading *loading, const struct metadata_binding *row, struct binding *out)
{
    const struct vhost *to = NULL;

    *out = (struct binding){.to_exchange = row->to_exchange};
    if (row->source == 0 || row->destination == 0)
        return false;
    out->source = idmap_find(&loading->exchanges, row->source);
    if (row->to_exchange) {
        out->to_a.exchange = idmap_find(&loading->exchanges, row->destination);
        if (out->to_a.exchange != NULL && out->to_a.exchange->name_len > 0)
            to = out->to_a.exchange->vhost;
    } else {
        out->to_a.queue = idmap_find(&loading->topology->queues, row->destination);
        if (out->to_a.queue != NULL)
            to = out->to_a.queue->vhost;
    }
    return out->source != NULL && out->source->vhost == to && out->source->name_len > 0;
}

static bool
load_binding(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_binding *b = &row->binding;
    struct binding ends;

    if (!find_ends(arg, b, &ends))
        err_set(err, INTERNAL_ERROR, "one of them is missing, or cannot be bound");
    else if (b->routing_key.len > NAME_MAX_LEN)
        err_set(err, INTERNAL_ERROR, "its routing key is too long");
    else if (binding_restore(&ends, b, err))
        return true;
    return err_wrap(err, "binding from %llu to %llu", (unsigned long long)b->source,
                    (unsigned long long)b->destination);
}

/* Those of a later version of ours may be missing: they are made, and written down. */
static bool
complete(struct loading *loading, struct err *err)
{
    struct topology *topology = loading->topology;
    struct vhost *vhost;

    topology->ids.asked = topology->ids.safe = topology->last_id;
    ask_for_ids(topology, IDS_ASKED_AT_ONCE);
    topology->ids.safe = topology->ids.asked; /* before anybody is given one, it is committed */
    for (size_t at = 0; (vhost = idmap_next(&loading->vhosts, &at)) != NULL;)
        vhost_make_predeclared(vhost);
    if (loading->is_first &&
        !topology_put_vhost(topology, &(struct metadata_vhost){.name = VIEW_LIT("/")}, NULL, err))
        return false;
    return metadata_commit(topology->metadata, err);
}

static bool
load(struct loading *loading, struct err *err)
{
    static const struct {
        enum metadata_table table;
        metadata_each *each;
    } steps[] = {
        {METADATA_counters, load_counter}, {METADATA_vhosts, load_vhost},
        {METADATA_policies, load_policy},  {METADATA_exchanges, load_exchange},
        {METADATA_queues, load_queue},     {METADATA_bindings, load_binding},
    };

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (!metadata_walk(loading->topology->metadata, steps[i].table, steps[i].each, loading,
                           err))
            return false;
    return complete(loading, err);
}

struct topology *
topology_open(unsigned shards, unsigned workers, struct metadata *metadata, struct err *err)
{
    struct loading loading = {.topology = topology_make(shards, workers, metadata),
                              .is_first = true};
    bool ok;

    idmap_init(&loading.vhosts);
    idmap_init(&loading.exchanges);
    ok = load(&loading, err);
    idmap_fini(&loading.vhosts);
    idmap_fini(&loading.exchanges);
    if (ok)
        return loading.topology;
    topology_free(loading.topology);
    return NULL;
}
