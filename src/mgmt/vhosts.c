#include "lepus/mgmt/vhosts.h"

#include <stdlib.h>

#include "lepus/broker/post.h"

static void
tell_workers(const struct vhosts *vhosts, uint32_t id)
{
    struct cmd_order cmd = {.head.kind = CMD_order, .order = ORDER_LEAVE_VHOST, .vhost = id};

    for (unsigned i = 0; i < vhosts->n_workers; i++)
        post_from_outside(worker_set_get(vhosts->workers, i), &cmd.head);
}

static void
tell_homes(const struct vhosts *vhosts, const struct queue_ref *queues, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cmd_ask cmd = {
            .head.kind = CMD_ask,
            .queue = queues[i].id,
            .question = QUEUE_DELETE,
            .removed = true,
        };
        unsigned home = topology_worker_of(vhosts->topology, queues[i].shard);

        post_from_outside(worker_set_get(vhosts->workers, home), &cmd.head);
    }
}

bool
vhost_delete(const struct vhosts *vhosts, struct view name, uint64_t *out_ticket, struct err *err)
{
    struct queue_ref *queues;
    uint32_t id;
    size_t n;

    if (!topology_delete_vhost(vhosts->topology, name, &id, &queues, &n, out_ticket, err))
        return false;
    if (vhosts->auth != NULL)
        auth_forget_vhost(vhosts->auth, id);
    tell_workers(vhosts, id);
    tell_homes(vhosts, queues, n);
    free(queues);
    return true;
}
