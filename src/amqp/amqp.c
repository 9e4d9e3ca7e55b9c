#include "amqp_priv.h"

#include "lepus/base/mem.h"

enum {
    TICK_MS = 250,
    SCRATCH_MAX = 1 << 26,
};

uint64_t
amqp_next_id(struct amqp *amqp)
{
    return id_make(amqp->post->index, ++amqp->last_number);
}

/* Heartbeats and deadlines of all connections: a sweep costs less than a timer each. */
static void
on_tick(void *arg)
{
    struct amqp *amqp = arg;

    list_each_safe (at, &amqp->all)
        conn_tick(container_of(at, struct conn, in_all));
    worker_timer_set(amqp->worker, &amqp->tick, TICK_MS);
}

static void
on_adopt(void *arg, const struct command *command)
{
    const struct cmd_adopt *cmd = (const void *)command;

    conn_adopt(arg, cmd->fd, cmd->is_tls);
}

static void
on_stop(struct amqp *amqp)
{
    amqp->stopping = true;
    list_each_safe (at, &amqp->all)
        conn_force_close(container_of(at, struct conn, in_all), "broker is shutting down");
}

static void
on_block(struct amqp *amqp, struct view reason)
{
    free(amqp->blocked);
    amqp->blocked = view_dup(reason);
    list_each_safe (at, &amqp->all) {
        struct conn *c = container_of(at, struct conn, in_all);

        if (c->has_published)
            conn_block_publisher(c);
    }
}

static void
on_unblock(struct amqp *amqp)
{
    free(amqp->blocked);
    amqp->blocked = NULL;
    list_each_safe (at, &amqp->all)
        conn_unblock_publisher(container_of(at, struct conn, in_all));
}

/* One that opens it from now on does not find it; one that opened it before is heard of here. */
static void
on_leave_vhost(struct amqp *amqp, uint32_t id)
{
    list_each_safe (at, &amqp->all) {
        struct conn *c = container_of(at, struct conn, in_all);
        struct err err;

        if (c->vhost == NULL || vhost_id(c->vhost) != id)
            continue;
        err_set(&err, CONNECTION_FORCED, "vhost '%s' is deleted", vhost_name(c->vhost));
        conn_force_close(c, err.text);
    }
}

static void
on_order(void *arg, const struct command *command)
{
    const struct cmd_order *cmd = (const void *)command;

    switch (cmd->order) {
    case ORDER_STOP:
        on_stop(arg);
        break;
    case ORDER_BLOCK:
        on_block(arg, cmd->reason);
        break;
    case ORDER_UNBLOCK:
        on_unblock(arg);
        break;
    case ORDER_LEAVE_VHOST:
        on_leave_vhost(arg, cmd->vhost);
        break;
    }
}

/* Another connection wants the name of an exclusive queue of this one. */
static void
on_probe(void *arg, const struct command *command)
{
    struct amqp *amqp = arg;
    const struct cmd_probe *cmd = (const void *)command;
    struct conn *owner = idmap_find(&amqp->connections, cmd->connection);
    struct cmd_probed probed = {.head.kind = CMD_probed, .channel = cmd->channel};

    probed.alive =
        owner != NULL && owner->state == CONN_OPEN && !transport_is_dying(owner->transport);
    post_send(amqp->post, id_worker(cmd->channel), &probed.head);
}

struct amqp *
amqp_new(struct post *post, struct topology *topology, const struct amqp_settings *settings)
{
    struct amqp *amqp = mem_new(struct amqp);

    amqp->post = post;
    amqp->worker = post->worker;
    amqp->topology = topology;
    amqp->settings = settings;
    amqp->routes = route_cache_new();
    list_init(&amqp->all);
    list_init(&amqp->pending);
    list_init(&amqp->crediting);
    list_init(&amqp->owing);
    idmap_init(&amqp->connections);
    idmap_init(&amqp->channels);
    idmap_init(&amqp->consumers);
    buf_init(&amqp->scratch, SCRATCH_MAX);
    buf_init(&amqp->settling, SIZE_MAX / 2);
    buf_init(&amqp->server_properties, SCRATCH_MAX);
    amqp_write_server_properties(&amqp->server_properties, settings);
    amqp->tick = (struct worker_timer){.fire = on_tick, .arg = amqp};
    amqp->credits = (struct worker_task){.run = amqp_send_credits, .arg = amqp};
    worker_timer_set(amqp->worker, &amqp->tick, TICK_MS);

    post_handle(post, CMD_adopt, on_adopt, amqp);
    post_handle(post, CMD_order, on_order, amqp);
    post_handle(post, CMD_probe, on_probe, amqp);
    post_handle(post, CMD_probed, channel_on_probed, amqp);
    post_handle(post, CMD_reply, channel_on_reply, amqp);
    post_handle(post, CMD_deliver, channel_on_deliver, amqp);
    post_handle(post, CMD_got, channel_on_got, amqp);
    post_handle(post, CMD_confirm, channel_on_confirm, amqp);
    post_handle(post, CMD_cancelled, channel_on_cancelled, amqp);
    post_handle(post, CMD_overdue, channel_on_overdue, amqp);
    post_handle(post, CMD_direct_reply, channel_on_direct_reply, amqp);
    post_handle(post, CMD_direct_probe, channel_on_direct_probe, amqp);
    return amqp;
}

void
amqp_free(struct amqp *amqp)
{
    if (amqp == NULL)
        return;
    list_each_safe (at, &amqp->all)
        conn_close(container_of(at, struct conn, in_all), "the worker has stopped");
    worker_timer_cancel(&amqp->tick);
    worker_task_cancel(&amqp->credits);
    route_cache_free(amqp->routes);
    idmap_fini(&amqp->connections);
    idmap_fini(&amqp->channels);
    idmap_fini(&amqp->consumers);
    buf_fini(&amqp->scratch);
    buf_fini(&amqp->settling);
    buf_fini(&amqp->server_properties);
    free(amqp->blocked);
    free(amqp);
}

unsigned
amqp_connection_count(const struct amqp *amqp)
{
    return atomic_load_explicit(&amqp->n_connections, memory_order_relaxed);
}
