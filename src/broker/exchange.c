/* exchange: the exchanges of a vhost: declared, compared, deleted. */
#include <assert.h>

#include "arguments_priv.h"
#include "exchange_priv.h"
#include "lepus/wire/table.h"
#include "policy_priv.h"

static const struct exchange_type *const types[] = {
    &exchange_direct,  &exchange_fanout,          &exchange_topic,
    &exchange_headers, &exchange_consistent_hash, &exchange_modulus_hash,
    &exchange_random,  &exchange_delayed,         &exchange_deduplicating,
};

/* What every vhost has. "" is a direct exchange to those who ask; nothing is ever bound to it. */
static const struct {
    const char *name;
    const struct exchange_type *type;
    bool internal;
} predeclared[] = {
    {"", &exchange_direct, false},
    {"amq.direct", &exchange_direct, false},
    {"amq.fanout", &exchange_fanout, false},
    {"amq.topic", &exchange_topic, false},
    {"amq.headers", &exchange_headers, false},
    {"amq.match", &exchange_headers, false},
    {"amq.rabbitmq.trace", &exchange_topic, true},
};

static const struct view alternate_key = {(const uint8_t *)"alternate-exchange", 18};

const struct exchange_type *
exchange_type_find(struct view name)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (view_equal(name, view_str(types[i]->name)))
            return types[i];
    return NULL;
}

bool
err_default_exchange(struct err *err)
{
    return err_set(err, ACCESS_REFUSED, "operation not permitted on the default exchange");
}

bool
err_no_exchange(struct err *err, const struct vhost *vhost, struct view name)
{
    return err_set(err, NOT_FOUND, "no exchange '" VIEW_FMT "' in vhost '%s'", VIEW_ARG(name),
                   vhost->name);
}

struct exchange *
vhost_find_exchange(const struct vhost *vhost, struct view name)
{
    struct map_node *node = map_find(&vhost->exchanges, name);

    return node != NULL ? container_of(node, struct exchange, node) : NULL;
}

/* --- making -------------------------------------------------------------------------------- */

static void
take_policy_alternate(struct exchange *exchange)
{
    struct field alternate;
    struct buf said;

    buf_init(&said, SIZE_MAX / 2);
    policies_say(exchange->vhost, POLICY_EXCHANGE, exchange_name(exchange), &said, NULL);
    if (table_find(buf_view(&said), alternate_key, &alternate)) {
        exchange->policy_alternate = view_dup(alternate.bytes);
        exchange->has_alternate = true;
        exchange->alternate = view_of(exchange->policy_alternate, alternate.bytes.len);
    }
    buf_fini(&said);
}

/* The argument's, or else a policy's. The default exchange has none. */
static void
take_alternate(struct exchange *exchange)
{
    struct field alternate;

    free(exchange->policy_alternate);
    exchange->policy_alternate = NULL;
    exchange->has_alternate = table_find(exchange_arguments(exchange), alternate_key, &alternate);
    if (exchange->has_alternate)
        exchange->alternate = alternate.bytes;
    else if (exchange->name_len > 0)
        take_policy_alternate(exchange);
}

void
exchanges_take_policies(struct vhost *vhost)
{
    for (struct map_node *at = NULL; (at = map_next(&vhost->exchanges, at)) != NULL;)
        take_alternate(container_of(at, struct exchange, node));
    topology_changed(vhost);
}

static struct exchange *
make(struct vhost *vhost, uint64_t id, const struct exchange_spec *spec,
     const struct exchange_type *type)
{
    struct exchange *exchange =
        mem_alloc_zero(sizeof(struct exchange) + spec->name.len + 1 + spec->arguments.len);

    assert(spec->name.len <= NAME_MAX_LEN && spec->arguments.len <= UINT32_MAX);
    exchange->id = id;
    exchange->vhost = vhost;
    exchange->type = type;
    exchange->acts_as = type->acts_as != NULL ? type->acts_as(spec->arguments) : type;
    exchange->durable = spec->durable;
    exchange->auto_delete = spec->auto_delete;
    exchange->internal = spec->internal;
    list_init(&exchange->from);
    list_init(&exchange->to);
    exchange->name_len = (uint8_t)spec->name.len;
    exchange->arguments_len = (uint32_t)spec->arguments.len;
    if (spec->name.len > 0)
        memcpy(exchange->name, spec->name.at, spec->name.len);
    if (spec->arguments.len > 0)
        memcpy(exchange->name + spec->name.len + 1, spec->arguments.at, spec->arguments.len);
    take_alternate(exchange);
    exchange->acts_as->init(exchange);
    if (exchange_has_queue(exchange))
        idmap_add(&vhost->topology->exchanges_with_queue, id, exchange);
    map_add(&vhost->exchanges, &exchange->node, exchange_name(exchange));
    vhost->topology->counts.exchanges++;
    return exchange;
}

static struct exchange *
make_new(struct vhost *vhost, const struct exchange_spec *spec, const struct exchange_type *type)
{
    struct exchange *exchange = make(vhost, ++vhost->topology->last_id, spec, type);

    exchange->ticket = durable_add_exchange(exchange);
    return exchange;
}

bool
exchange_restore(struct vhost *vhost, const struct metadata_exchange *row, struct exchange **out,
                 struct err *err)
{
    const struct exchange_type *type = exchange_type_find(row->type);
    struct exchange_spec spec = {
        .name = row->name,
        .durable = true,
        .auto_delete = row->auto_delete,
        .internal = row->internal,
        .arguments = row->arguments,
    };

    if (type == NULL)
        return err_set(err, INTERNAL_ERROR, "its type '" VIEW_FMT "' is unknown",
                       VIEW_ARG(row->type));
    if (row->name.len > NAME_MAX_LEN || vhost_find_exchange(vhost, row->name) != NULL)
        return err_set(err, INTERNAL_ERROR, "its name is too long, or another's too");
    if (type->check_declare != NULL && !type->check_declare(row->arguments, err))
        return false;
    *out = make(vhost, row->id, &spec, type);
    return true;
}

void
vhost_make_predeclared(struct vhost *vhost)
{
    for (size_t i = 0; i < sizeof(predeclared) / sizeof(predeclared[0]); i++) {
        struct exchange_spec spec = {
            .name = view_str(predeclared[i].name),
            .durable = true,
            .internal = predeclared[i].internal,
        };
        struct exchange *exchange = vhost_find_exchange(vhost, spec.name);

        if (exchange == NULL)
            exchange = make_new(vhost, &spec, predeclared[i].type);
        exchange->predeclared = true;
        if (spec.name.len == 0)
            vhost->nameless = exchange;
    }
}

/* Whether a new one of that description may be made. */
static bool
check_new(const struct vhost *vhost, const struct exchange_spec *spec,
          const struct exchange_type *type, struct err *err)
{
    struct field alternate;

    if (name_is_reserved(spec->name))
        return err_set(err, ACCESS_REFUSED,
                       "exchange name '" VIEW_FMT "' contains reserved prefix 'amq.*'",
                       VIEW_ARG(spec->name));
    if (table_find(spec->arguments, alternate_key, &alternate) && alternate.type != FIELD_LONGSTR)
        return err_set(err, PRECONDITION_FAILED,
                       "invalid type '%s' for arg 'alternate-exchange' in exchange '" VIEW_FMT
                       "' in vhost '%s'",
                       field_type_name(alternate.type), VIEW_ARG(spec->name), vhost->name);
    return type->check_declare == NULL || type->check_declare(spec->arguments, err);
}

static bool
check_same(const struct exchange *exchange, const struct exchange_spec *spec,
           const struct exchange_type *type, struct err *err)
{
    struct thing thing = {"exchange", exchange_name(exchange), exchange->vhost->name};

    if (exchange->type != type)
        return err_inequivalent(err, &thing, "type", type->name, exchange->type->name);
    return check_same_flag(&thing, "durable", exchange->durable, spec->durable, err) &&
           check_same_flag(&thing, "auto_delete", exchange->auto_delete, spec->auto_delete, err) &&
           check_same_flag(&thing, "internal", exchange->internal, spec->internal, err) &&
           check_same_argument(&thing, alternate_key, exchange_arguments(exchange), spec->arguments,
                               err) &&
           (type->argument == NULL ||
            check_same_argument(&thing, view_str(type->argument), exchange_arguments(exchange),
                                spec->arguments, err));
}

static bool
declare_locked(struct vhost *vhost, const struct exchange_spec *spec,
               const struct exchange_type *type, uint64_t *out_ticket, struct err *err)
{
    const struct exchange *exchange = vhost_find_exchange(vhost, spec->name);

    if (exchange != NULL) {
        tell_ticket(out_ticket, exchange->ticket);
        return check_same(exchange, spec, type, err);
    }
    if (!vhost_may_declare(vhost, err) || !check_new(vhost, spec, type, err) ||
        !durable_has_ids(vhost->topology, 1, err))
        return false;
    tell_ticket(out_ticket, make_new(vhost, spec, type)->ticket);
    topology_changed(vhost);
    return true;
}

bool
topology_declare_exchange(struct vhost *vhost, const struct exchange_spec *spec,
                          uint64_t *out_ticket, struct err *err)
{
    const struct exchange_type *type = exchange_type_find(spec->type);
    struct exchange_spec cleaned = *spec;
    char room[NAME_MAX_LEN];
    bool ok;

    if (type == NULL)
        return err_set(err, PRECONDITION_FAILED, "unknown exchange type '" VIEW_FMT "'",
                       VIEW_ARG(spec->type));
    cleaned.name = name_clean(spec->name, room);
    if (cleaned.name.len == 0)
        return err_default_exchange(err);
    topology_write_lock(vhost->topology);
    ok = declare_locked(vhost, &cleaned, type, out_ticket, err);
    topology_unlock(vhost->topology);
    return ok;
}

bool
topology_check_exchange(struct vhost *vhost, struct view name, uint64_t *out_ticket,
                        struct err *err)
{
    const struct exchange *exchange;
    char room[NAME_MAX_LEN];
    struct view cleaned = name_clean(name, room);

    if (cleaned.len == 0)
        return err_default_exchange(err);
    topology_read_lock(vhost->topology);
    exchange = vhost_find_exchange(vhost, cleaned);
    if (exchange != NULL)
        tell_ticket(out_ticket, exchange->ticket);
    topology_unlock(vhost->topology);
    return exchange != NULL || err_no_exchange(err, vhost, cleaned);
}

bool
topology_exchange_has_type(struct vhost *vhost, struct view name, struct view type)
{
    const struct exchange *exchange;
    char room[NAME_MAX_LEN];
    bool has;

    topology_read_lock(vhost->topology);
    exchange = vhost_find_exchange(vhost, name_clean(name, room));
    has = exchange != NULL && view_equal(view_str(exchange->type->name), type);
    topology_unlock(vhost->topology);
    return has;
}

/* --- removing ------------------------------------------------------------------------------ */

static void
free_unbound(struct exchange *exchange)
{
    struct topology *topology = exchange->vhost->topology;

    assert(!exchange->predeclared);
    durable_remove_exchange(exchange);
    exchange->acts_as->fini(exchange);
    if (exchange_has_queue(exchange)) {
        idmap_remove(&topology->exchanges_with_queue, exchange->id);
        if (topology->queue_gone != NULL)
            topology->queue_gone(topology->queue_gone_arg, exchange_queue(exchange));
    }
    map_remove(&exchange->vhost->exchanges, &exchange->node);
    topology->counts.exchanges--;
    free(exchange->policy_alternate);
    free(exchange);
}

/* What this leaves unbound is appended behind it, so the list is worked off, not recursed into. */
void
exchanges_execute(struct list *condemned)
{
    while (!list_is_empty(condemned)) {
        struct exchange *exchange = container_of(condemned->next, struct exchange, condemned);

        /* It stays in the list meanwhile, so that it is not condemned again. */
        while (!list_is_empty(&exchange->from))
            binding_remove(container_of(exchange->from.next, struct binding, from), condemned);
        while (!list_is_empty(&exchange->to))
            binding_remove(container_of(exchange->to.next, struct binding, to), condemned);
        list_remove(&exchange->condemned);
        free_unbound(exchange);
    }
}

void
exchange_remove(struct exchange *exchange)
{
    struct list condemned;

    list_init(&condemned);
    list_append(&condemned, &exchange->condemned);
    exchanges_execute(&condemned);
}

static bool
delete_locked(struct vhost *vhost, struct view name, bool if_unused, uint64_t *out_ticket,
              struct err *err)
{
    struct exchange *exchange = vhost_find_exchange(vhost, name);
    uint64_t before = vhost->topology->last_ticket;

    if (exchange == NULL) { /* maybe gone since a moment ago */
        tell_ticket(out_ticket, vhost->topology->last_ticket);
        return true;
    }
    if (if_unused && !list_is_empty(&exchange->from))
        return err_set(err, PRECONDITION_FAILED, "exchange '" VIEW_FMT "' in vhost '%s' in use",
                       VIEW_ARG(name), vhost->name);
    exchange_remove(exchange);
    tell_ticket(out_ticket, ticket_since(vhost->topology, before));
    topology_changed(vhost);
    return true;
}

bool
topology_delete_exchange(struct vhost *vhost, struct view name, bool if_unused,
                         uint64_t *out_ticket, struct err *err)
{
    char room[NAME_MAX_LEN];
    struct view cleaned = name_clean(name, room);
    bool ok;

    if (cleaned.len == 0)
        return err_default_exchange(err);
    if (name_is_reserved(cleaned))
        return err_set(err, ACCESS_REFUSED,
                       "deletion of system exchange '" VIEW_FMT "' in vhost '%s' not allowed",
                       VIEW_ARG(cleaned), vhost->name);
    topology_write_lock(vhost->topology);
    ok = delete_locked(vhost, cleaned, if_unused, out_ticket, err);
    topology_unlock(vhost->topology);
    return ok;
}
