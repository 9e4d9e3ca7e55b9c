/*
 * home_policy: policies that change while their queues live.
 *
 * The ids of all queues of the vhost that are this home's are put in a line, and worked off some a
 * turn: each asks the topology what is said of it now. One that nobody has spoken to yet will ask
 * when it is made, so it is only made here when its lease would end it otherwise unheard. A change
 * while a line is worked off is followed by another line; one that comes before it is in the same.
 */
#include <stdlib.h>

#include "home_priv.h"

#include "lepus/base/mem.h"

enum { QUEUES_A_TURN = 256 };

static void
look_again(struct home *home, uint64_t id)
{
    struct queue *queue = idmap_find(&home->queues, id);
    struct queue_description description;

    if (!topology_queue_describe(home->topology, id, &description))
        return; /* whoever removed it tells us */
    if (description.type == QUEUE_STREAM)
        streams_ruled(home, &description);
    else if (queue != NULL)
        home_queue_ruled(home, queue, &description);
    else if (home_has_lease(&description))
        home_queue(home, id);
    queue_description_fini(&description);
}

/* Under the topology's lock. */
static void
add(void *arg, const struct queue_ref *queue)
{
    struct home *home = arg;
    struct policing *line = &home->policing;

    if (topology_worker_of(home->topology, queue->shard) != home->post->index)
        return;
    if (line->n == line->size) {
        line->size = line->size > 0 ? 2 * line->size : 64;
        line->ids = mem_resize(line->ids, line->size * sizeof(line->ids[0]));
    }
    line->ids[line->n++] = queue->id;
}

static void
begin_line(struct home *home)
{
    struct policing *line = &home->policing;

    line->n = line->at = 0;
    if (line->n_vhosts > 0)
        topology_each_queue(line->vhosts[--line->n_vhosts], add, home);
}

static void
on_task(void *arg)
{
    struct home *home = arg;
    struct policing *line = &home->policing;

    if (line->at == line->n)
        begin_line(home);
    for (unsigned left = QUEUES_A_TURN; left > 0 && line->at < line->n; left--)
        look_again(home, line->ids[line->at++]);
    if (line->at < line->n || line->n_vhosts > 0)
        worker_schedule(home->post->worker, WORKER_AGAIN, &line->task);
}

void
home_apply_policies(struct home *home, struct vhost *vhost)
{
    struct policing *line = &home->policing;

    for (size_t i = 0; i < line->n_vhosts; i++)
        if (line->vhosts[i] == vhost)
            return;
    line->vhosts = mem_resize(line->vhosts, (line->n_vhosts + 1) * sizeof(line->vhosts[0]));
    line->vhosts[line->n_vhosts++] = vhost;
    worker_schedule(home->post->worker, WORKER_AGAIN, &line->task);
}

void
home_policies_init(struct home *home)
{
    home->policing.task = (struct worker_task){.run = on_task, .arg = home};
}

void
home_policies_fini(struct home *home)
{
    worker_task_cancel(&home->policing.task);
    free(home->policing.vhosts);
    free(home->policing.ids);
}
