/* server_homes: the homes, their store, and what former lives left in it. */
#include <malloc.h>

#include "server_priv.h"

#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum {
    SEGMENT_BYTES = 16 << 20,
    PAGE_DESCRIPTORS_MAX = 256, /* of all workers */
};

/* On a worker. */
static void
on_trouble(void *arg, const struct err *why)
{
    struct server *server = arg;

    if (why != NULL) {
        atomic_fetch_add(&server->homes_in_trouble, 1);
        server_set_alarm(server, ALARM_STORE, true);
        log_error(NULL, "messages cannot be written, and are not confirmed: %s", why->text);
    } else {
        if (atomic_fetch_sub(&server->homes_in_trouble, 1) == 1)
            server_set_alarm(server, ALARM_STORE, false);
        log_info(NULL, "messages are written again");
    }
}

struct gone_call {
    struct worker_call call;
    struct home *home;
};

static void
on_gone_call(struct worker_call *call)
{
    struct gone_call *gone = container_of(call, struct gone_call, call);

    home_former_is_gone(gone->home);
    free(gone);
}

/* On a worker. The last home that needs nothing of former journals unlinks them, and tells all. */
static void
on_moved_in(void *arg)
{
    struct server *server = arg;
    struct err err;

    if (atomic_fetch_sub(&server->not_moved_in, 1) != 1)
        return;
    if (!journal_drop_former(server->data_dir.path, &file_posix, server->data_dir.term, &err)) {
        log_warn(NULL, "journals of a former run stay until the next one: %s", err.text);
        return;
    }
    for (unsigned i = 0; i < server->n_workers; i++) {
        struct gone_call *gone = mem_new(struct gone_call);

        gone->call.run = on_gone_call;
        gone->home = server->homes[i];
        worker_call_from_outside(worker_set_get(server->workers, i), &gone->call);
    }
}

static enum journal_sync
sync_of(const struct config *config)
{
    switch (config->store.sync.mode) {
    case SYNC_ALWAYS:
        return JOURNAL_ALWAYS;
    case SYNC_INTERVAL:
        return JOURNAL_INTERVAL;
    case SYNC_NEVER:
        return JOURNAL_NEVER;
    }
    return JOURNAL_ALWAYS;
}

static bool
make_home(struct server *server, unsigned index, const struct journal_found *found, struct err *err)
{
    static const struct home_ops ops = {on_trouble, on_moved_in};
    const struct config *config = &server->config;
    struct home_settings settings = {
        .journal = {.dir = server->data_dir.path,
                    .files = file_posix,
                    .sync = sync_of(config),
                    .interval_ms = config->store.sync.interval_ms,
                    .index = index,
                    .term = server->data_dir.term,
                    .first_lsn = found->lsn + 1,
                    .generation = found->generation,
                    .segment_bytes = SEGMENT_BYTES,
                    .crowded_bytes = config->store.journal_size / 2,
                    .limit_bytes = config->store.journal_size,
                    .prepares = true},
        .memory_max = (size_t)(config->store.memory / server->n_workers),
        .descriptors_max = PAGE_DESCRIPTORS_MAX / server->n_workers,
    };
    struct home *home =
        home_new(&server->posts[index], server->topology, &settings, &ops, server, err);

    server->homes[index] = home;
    if (home == NULL)
        return false;
    home_committed(home, metadata_committed(server->metadata));
    metadata_listen(server->metadata, server->posts[index].worker, home_committed, home);
    return true;
}

/* On any worker, under the topology's lock. */
static void
on_queue_gone(void *arg, struct queue_ref queue)
{
    struct server *server = arg;
    struct cmd_ask ask = {
        .head.kind = CMD_ask, .queue = queue.id, .question = QUEUE_DELETE, .removed = true};
    unsigned worker = topology_worker_of(server->topology, queue.shard);

    post_from_outside(server->posts[worker].worker, &ask.head);
}

bool
server_make_homes(struct server *server, struct err *err)
{
    struct recovery_counts counts;
    struct journal_found found;

    server->recovery =
        recovery_open(server->data_dir.path, &file_posix, server->topology, &found, err);
    if (server->recovery == NULL)
        return err_wrap(err, "recovery");
    for (unsigned i = 0; i < server->n_workers; i++)
        if (!make_home(server, i, &found, err))
            return err_wrap(err, "store");
    topology_on_queue_gone(server->topology, on_queue_gone, server);
    if (!recovery_run(server->recovery, server->homes, &counts, err))
        return err_wrap(err, "recovery");
    recovery_free(server->recovery);
    server->recovery = NULL;
    for (unsigned i = 0; i < server->n_workers; i++)
        if (!home_recover_streams(server->homes[i], err))
            return err_wrap(err, "recovery");
    malloc_trim(0); /* whole segments were in memory */
    if (counts.messages > 0)
        log_info(NULL, "%llu messages in %zu queues recovered", (unsigned long long)counts.messages,
                 counts.backlogs);
    return true;
}

bool
server_start_homes(struct server *server, struct err *err)
{
    atomic_store(&server->not_moved_in, server->n_workers);
    for (unsigned i = 0; i < server->n_workers; i++)
        if (!home_start(server->homes[i], err))
            return false;
    return true;
}

void
server_stop_homes(struct server *server)
{
    for (unsigned i = 0; i < server->n_workers; i++)
        home_stop(server->homes[i]);
    for (unsigned i = 0; i < server->n_workers; i++)
        worker_run_calls(server->posts[i].worker); /* what the last steps told the homes */
}

/* --- store.sync changes ---------------------------------------------------------------- */

struct sync_call {
    struct worker_call call;
    struct home *home;
    enum journal_sync sync;
    uint32_t interval_ms;
};

static void
on_sync_call(struct worker_call *call)
{
    struct sync_call *s = container_of(call, struct sync_call, call);

    home_set_sync(s->home, s->sync, s->interval_ms);
    free(s);
}

void
server_reload_homes(struct server *server)
{
    for (unsigned i = 0; i < server->n_workers; i++) {
        struct sync_call *s = mem_new(struct sync_call);

        s->call.run = on_sync_call;
        s->home = server->homes[i];
        s->sync = sync_of(&server->config);
        s->interval_ms = server->config.store.sync.interval_ms;
        worker_call_from_outside(worker_set_get(server->workers, i), &s->call);
    }
}

struct policies_call {
    struct worker_call call;
    struct home *home;
    struct vhost *vhost;
};

static void
on_policies_call(struct worker_call *call)
{
    struct policies_call *p = container_of(call, struct policies_call, call);

    home_apply_policies(p->home, p->vhost);
    free(p);
}

void
server_on_policies(void *arg, struct vhost *vhost)
{
    struct server *server = arg;

    for (unsigned i = 0; i < server->n_workers; i++) {
        struct policies_call *p = mem_new(struct policies_call);

        p->call.run = on_policies_call;
        p->home = server->homes[i];
        p->vhost = vhost;
        worker_call_from_outside(worker_set_get(server->workers, i), &p->call);
    }
}
