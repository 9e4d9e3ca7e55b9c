/*
 * binding: tying a queue or an exchange to an exchange, and untying it.
 *
 * Two bindings are the same when source, destination, key and arguments are; the order of the
 * arguments does not matter, so they are kept sorted by name. These make the identity, one run of
 * octets by which the vhost's map finds a binding: the source's id, the destination's id, the
 * key with its length in front, the arguments.
 */
#include "exchange_priv.h"

#include <assert.h>

#include "lepus/wire/table.h"

struct argument {
    struct view name, raw; /* raw: name, type and value as they stand */
};

static int
compare_arguments(const void *a, const void *b)
{
    const struct argument *x = a, *y = b;
    size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
    int order = n > 0 ? memcmp(x->name.at, y->name.at, n) : 0;

    if (order == 0)
        order = (x->name.len > y->name.len) - (x->name.len < y->name.len);
    return order != 0 ? order : (x->raw.at > y->raw.at) - (x->raw.at < y->raw.at);
}

static size_t
count_arguments(struct view table)
{
    struct field field;
    struct view name;
    size_t n = 0;

    for (size_t at = 0; table_next(table, &at, &name, &field);)
        n++;
    return n;
}

/* `to` has room for the whole table. */
static void
copy_sorted(uint8_t *to, struct view table)
{
    size_t n = count_arguments(table), i = 0;
    struct argument *arguments;
    struct field field;
    struct view name;

    if (n <= 1) {
        if (table.len > 0)
            memcpy(to, table.at, table.len);
        return;
    }
    arguments = mem_alloc(n * sizeof(struct argument));
    for (size_t from = 0, at = 0; table_next(table, &at, &name, &field); from = at)
        arguments[i++] = (struct argument){name, view_of(table.at + from, at - from)};
    qsort(arguments, n, sizeof(struct argument), compare_arguments);
    for (i = 0; i < n; i++) {
        memcpy(to, arguments[i].raw.at, arguments[i].raw.len);
        to += arguments[i].raw.len;
    }
    free(arguments);
}

/* --- the object ---------------------------------------------------------------------------- */

static uint64_t
destination_id(const struct binding *binding)
{
    return binding->to_exchange ? binding->to_a.exchange->id : binding->to_a.queue->ref.id;
}

/* With source and destination filled, in no place yet. */
static struct binding *
make(const struct binding *ends, struct view key, struct view arguments)
{
    size_t size = IDENTITY_HEAD + key.len + arguments.len;
    struct binding *binding = mem_alloc(sizeof(struct binding) + size);
    uint64_t ids[2] = {ends->source->id, destination_id(ends)};

    assert(key.len <= NAME_MAX_LEN && arguments.len <= UINT32_MAX);
    *binding = *ends;
    binding->key_len = (uint8_t)key.len;
    binding->arguments_len = (uint32_t)arguments.len;
    memcpy(binding->identity, ids, sizeof(ids));
    binding->identity[sizeof(ids)] = (uint8_t)key.len;
    if (key.len > 0)
        memcpy(binding->identity + IDENTITY_HEAD, key.at, key.len);
    copy_sorted(binding->identity + IDENTITY_HEAD + key.len, arguments);
    return binding;
}

static struct view
identity(const struct binding *binding)
{
    return view_of(binding->identity, IDENTITY_HEAD + binding->key_len + binding->arguments_len);
}

static struct binding *
find_same(const struct vhost *vhost, const struct binding *binding)
{
    struct map_node *node = map_find(&vhost->bindings, identity(binding));

    return node != NULL ? container_of(node, struct binding, node) : NULL;
}

static void
put_in_places(struct vhost *vhost, struct binding *binding)
{
    map_add(&vhost->bindings, &binding->node, identity(binding));
    list_append(&binding->source->from, &binding->from);
    binding->source->n_from++;
    list_append(binding->to_exchange ? &binding->to_a.exchange->to : &binding->to_a.queue->bound,
                &binding->to);
    binding->source->acts_as->bind(binding->source, binding);
    vhost->topology->counts.bindings++;
}

void
binding_remove(struct binding *binding, struct list *condemned)
{
    struct exchange *source = binding->source;

    if (binding_is_durable(binding))
        durable_remove_binding(binding);
    source->acts_as->unbind(source, binding);
    list_remove(&binding->to);
    list_remove(&binding->from);
    source->n_from--;
    map_remove(&source->vhost->bindings, &binding->node);
    source->vhost->topology->counts.bindings--;
    free(binding);
    if (source->auto_delete && list_is_empty(&source->from) && !list_is_linked(&source->condemned))
        list_append(condemned, &source->condemned);
}

/* --- bind and unbind ----------------------------------------------------------------------- */

/* A binding_spec, its names cleaned. */
struct wanted {
    struct view source, destination;
    char rooms[2][NAME_MAX_LEN];
};

static bool
want(struct wanted *wanted, const struct binding_spec *spec, struct err *err)
{
    wanted->source = name_clean(spec->source, wanted->rooms[0]);
    wanted->destination = name_clean(spec->destination, wanted->rooms[1]);
    if (wanted->source.len == 0)
        return err_default_exchange(err);
    if (spec->kind == BINDING_TO_EXCHANGE && wanted->destination.len == 0)
        return err_default_exchange(err);
    return true;
}

/* Whether both ends are there. */
static bool
find_ends(struct vhost *vhost, const struct wanted *wanted, enum binding_kind kind,
          struct binding *out, struct err *err)
{
    *out = (struct binding){.to_exchange = kind == BINDING_TO_EXCHANGE};
    out->source = vhost_find_exchange(vhost, wanted->source);
    if (out->source == NULL)
        return err_no_exchange(err, vhost, wanted->source);
    if (out->to_exchange) {
        out->to_a.exchange = vhost_find_exchange(vhost, wanted->destination);
        return out->to_a.exchange != NULL || err_no_exchange(err, vhost, wanted->destination);
    }
    out->to_a.queue = vhost_find_queue(vhost, wanted->destination);
    return out->to_a.queue != NULL || err_no_queue(err, vhost, wanted->destination);
}

static bool
may_use_destination(const struct binding *binding, uint64_t connection, struct err *err)
{
    return binding->to_exchange || queue_entry_may_use(binding->to_a.queue, connection, err);
}

/* Whether the source's type takes such a binding. */
static bool
check_by_type(const struct exchange *source, struct view key, struct view arguments,
              struct err *err)
{
    const struct exchange_type *type = source->acts_as;

    return (type->check_key == NULL || type->check_key(key, err)) &&
           (type->check_arguments == NULL || type->check_arguments(arguments, err));
}

static bool
may_have_one_more(const struct exchange *source, struct err *err)
{
    const struct topology *topology = source->vhost->topology;
    uint32_t max = limits_settings(topology->limits)->bindings_per_exchange;

    return max == 0 || source->n_from < max ||
           err_set(err, PRECONDITION_FAILED,
                   "cannot bind to exchange '" VIEW_FMT
                   "' in vhost '%s': binding limit of an exchange (%u) is reached",
                   VIEW_ARG(exchange_name(source)), source->vhost->name, max);
}

/* Of the bindings between the same ends the first that JSON tells alike; there are not many. */
static struct binding *
find_alike(const struct binding *like)
{
    const struct list *all =
        like->to_exchange ? &like->to_a.exchange->to : &like->to_a.queue->bound;

    list_each (at, all) {
        struct binding *binding = container_of(at, struct binding, to);

        if (binding->source == like->source &&
            view_equal(binding_key(binding), binding_key(like)) &&
            table_alike(binding_arguments(binding), binding_arguments(like)))
            return binding;
    }
    return NULL;
}

static bool
bind_locked(struct vhost *vhost, const struct wanted *wanted, const struct binding_spec *spec,
            uint64_t connection, uint64_t *out_ticket, struct err *err)
{
    struct binding ends, *binding, *same;

    if (!find_ends(vhost, wanted, spec->kind, &ends, err))
        return false;
    if (!check_by_type(ends.source, spec->routing_key, spec->arguments, err) ||
        !may_use_destination(&ends, connection, err))
        return false;
    binding = make(&ends, spec->routing_key, spec->arguments);
    same = find_same(vhost, binding);
    if (same == NULL && spec->is_told_in_json && spec->arguments.len > 0)
        same = find_alike(binding);
    if (same != NULL) {
        tell_ticket(out_ticket, same->ticket);
        free(binding);
        return true;
    }
    if (!may_have_one_more(ends.source, err)) {
        free(binding);
        return false;
    }
    put_in_places(vhost, binding);
    binding->ticket = binding_is_durable(binding) ? durable_add_binding(binding) : 0;
    tell_ticket(out_ticket, binding->ticket);
    topology_changed(vhost);
    return true;
}

bool
binding_restore(const struct binding *ends, const struct metadata_binding *row, struct err *err)
{
    struct vhost *vhost = ends->source->vhost;
    struct binding *binding;

    if (!check_by_type(ends->source, row->routing_key, row->arguments, err))
        return false;
    binding = make(ends, row->routing_key, row->arguments);
    if (find_same(vhost, binding) != NULL || !binding_is_durable(binding)) {
        free(binding);
        return err_set(err, INTERNAL_ERROR, "it is there already, or between what is transient");
    }
    put_in_places(vhost, binding);
    return true;
}

/* As in RabbitMQ, nothing that is missing is an error, and whose queue it is matters only when
 * there is something to unbind. */
static bool
unbind_locked(struct vhost *vhost, const struct wanted *wanted, const struct binding_spec *spec,
              uint64_t connection, uint64_t *out_ticket, struct err *err)
{
    uint64_t before = vhost->topology->last_ticket;
    struct list condemned;
    struct binding ends, *like, *binding;
    struct err missing;

    tell_ticket(out_ticket, before); /* what is missing may be gone since a moment ago */
    if (!find_ends(vhost, wanted, spec->kind, &ends, &missing))
        return true;
    like = make(&ends, spec->routing_key, spec->arguments);
    binding = find_same(vhost, like);
    free(like);
    if (binding == NULL)
        return true;
    if (!may_use_destination(binding, connection, err))
        return false;
    list_init(&condemned);
    binding_remove(binding, &condemned);
    exchanges_execute(&condemned);
    tell_ticket(out_ticket, ticket_since(vhost->topology, before));
    topology_changed(vhost);
    return true;
}

bool
topology_bind(struct vhost *vhost, const struct binding_spec *spec, uint64_t connection,
              uint64_t *out_ticket, struct err *err)
{
    struct wanted wanted;
    bool ok;

    if (!want(&wanted, spec, err))
        return false;
    topology_write_lock(vhost->topology);
    ok = bind_locked(vhost, &wanted, spec, connection, out_ticket, err);
    topology_unlock(vhost->topology);
    return ok;
}

bool
topology_unbind(struct vhost *vhost, const struct binding_spec *spec, uint64_t connection,
                uint64_t *out_ticket, struct err *err)
{
    struct wanted wanted;
    bool ok;

    if (!want(&wanted, spec, err))
        return false;
    topology_write_lock(vhost->topology);
    ok = unbind_locked(vhost, &wanted, spec, connection, out_ticket, err);
    topology_unlock(vhost->topology);
    return ok;
}
