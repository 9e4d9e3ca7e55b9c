/* vhost: found, made, deleted. A deleted one stays behind as an empty shell, for those who still
 * point to it, until the topology goes. */
#include <assert.h>

#include "exchange_priv.h"
#include "policy_priv.h"

static struct vhost *
find(const struct topology *topology, struct view name)
{
    struct map_node *node = map_find(&topology->vhosts, name);

    return node != NULL ? container_of(node, struct vhost, node) : NULL;
}

struct vhost *
topology_find_vhost(struct topology *topology, struct view name)
{
    struct vhost *vhost;

    topology_read_lock(topology);
    vhost = find(topology, name);
    topology_unlock(topology);
    return vhost;
}

struct vhost *
topology_find_vhost_of_id(struct topology *topology, uint32_t id)
{
    struct vhost *found = NULL;

    topology_read_lock(topology);
    for (struct map_node *at = NULL;
         found == NULL && (at = map_next(&topology->vhosts, at)) != NULL;) {
        struct vhost *vhost = container_of(at, struct vhost, node);

        if (vhost->id == id)
            found = vhost;
    }
    topology_unlock(topology);
    return found;
}

bool
vhost_may_declare(struct vhost *vhost, struct err *err)
{
    return !vhost->is_deleted ||
           err_set(err, CONNECTION_FORCED, "vhost '%s' is deleted", vhost->name);
}

void
vhost_set_default_type(struct vhost *vhost, struct view type)
{
    vhost->default_type = view_equal(type, VIEW_LIT("quorum"))   ? "quorum"
                          : view_equal(type, VIEW_LIT("stream")) ? "stream"
                                                                 : NULL;
}

/* --- making -------------------------------------------------------------------------------- */

static bool
put_locked(struct topology *topology, const struct metadata_vhost *row, struct err *err)
{
    struct vhost *vhost = find(topology, row->name);
    struct metadata_vhost named = *row;

    if (vhost == NULL) {
        if (!durable_has_ids(topology, PREDECLARED_MAX, err))
            return false;
        vhost = vhost_make(topology, ++topology->last_vhost, row->name);
    }
    vhost_set_default_type(vhost, row->default_queue_type);
    named.id = vhost->id;
    durable_add_vhost(topology, &named);
    vhost_make_predeclared(vhost);
    return true;
}

bool
topology_put_vhost(struct topology *topology, const struct metadata_vhost *row,
                   uint64_t *out_ticket, struct err *err)
{
    bool ok;

    if (row->name.len == 0 || row->name.len > NAME_MAX_LEN ||
        memchr(row->name.at, '\0', row->name.len) != NULL)
        return err_set(err, PRECONDITION_FAILED, "a vhost cannot have this name");
    topology_write_lock(topology);
    ok = put_locked(topology, row, err);
    if (ok)
        tell_ticket(out_ticket, topology->last_ticket);
    topology_unlock(topology);
    return ok;
}

/* --- deleting ------------------------------------------------------------------------------ */

static void
remove_queues(struct vhost *vhost, struct queue_ref **out, size_t *out_n)
{
    struct map_cursor cursor = {0};
    struct map_node *at;
    size_t n = 0;

    *out = mem_alloc((vhost->queues.count + 1) * sizeof(**out));
    while ((at = map_any(&vhost->queues, &cursor)) != NULL) {
        struct queue_entry *queue = container_of(at, struct queue_entry, node);

        (*out)[n++] = queue->ref;
        queue_entry_remove(queue);
    }
    *out_n = n;
}

static void
remove_exchanges(struct vhost *vhost)
{
    struct map_cursor cursor = {0};
    struct map_node *at;

    while ((at = map_any(&vhost->exchanges, &cursor)) != NULL) {
        struct exchange *exchange = container_of(at, struct exchange, node);

        exchange->predeclared = false;
        exchange_remove(exchange);
    }
    vhost->nameless = NULL;
}

bool
topology_delete_vhost(struct topology *topology, struct view name, uint32_t *out_id,
                      struct queue_ref **out_queues, size_t *out_n, uint64_t *out_ticket,
                      struct err *err)
{
    struct vhost *vhost;

    topology_write_lock(topology);
    vhost = find(topology, name);
    if (vhost != NULL) {
        remove_queues(vhost, out_queues, out_n);
        remove_exchanges(vhost);
        policies_fini(vhost);
        durable_remove_vhost(topology, vhost->id);
        map_remove(&topology->vhosts, &vhost->node);
        list_append(&topology->former_vhosts, &vhost->former);
        vhost->is_deleted = true;
        *out_id = vhost->id;
        limits_set_vhost(topology->limits, name, -1, -1);
        topology_changed(vhost);
        tell_ticket(out_ticket, topology->last_ticket);
    }
    topology_unlock(topology);
    return vhost != NULL || err_set(err, NOT_FOUND, "no vhost '" VIEW_FMT "'", VIEW_ARG(name));
}
