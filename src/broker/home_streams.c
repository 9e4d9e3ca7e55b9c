/*
 * home_streams: the streams among a home's queues (stream_queue.h): commands for them, confirms,
 * what the start finds and the stop leaves.
 *
 *   publish    is appended to the log of each stream that it goes to. Its confirm waits in the
 *              line of each of these logs, and when it has passed the last one, for what the
 *              journal has of it (store_confirm): one word for all. Lines are in the order of
 *              offsets, and are paid when a log says safe
 *   disks      two threads a home: one commits (and keeps the groups' offsets), one reads, so that
 *              no replay waits for a sync, and no sync for a replay
 *   hold       what was appended and is not safe counts, all streams together: beyond UNSAFE_MAX
 *              the worker takes no more work, as it does for the journal (home_store.c)
 *   trouble    a log that cannot be written refuses what wants to be confirmed, takes what does not
 *              up to TROUBLE_BYTES, and has the server block publishers. It goes on by itself
 *   start      every stream whose home this is, is made and recovered before the workers start;
 *              folders of streams that are gone are swept
 *   retention  is looked at every RETENTION_MS, besides when a segment begins
 */
#include <assert.h>

#include "home_priv.h"

#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum {
    RETENTION_MS = 10 * 1000,
    TROUBLE_BYTES = 16 << 20, /* a stream in trouble keeps so much that wants no confirm */
};

/* A confirm that waits for more than one log. */
struct stream_shared_due {
    unsigned logs; /* that are still to be passed */
    uint64_t channel, number;
    bool ok, is_journaled;
};

/* Publishes [first, first + count) of one channel: safe with everything below `end`. */
struct stream_due {
    uint64_t end, channel, first;
    uint32_t count;
    bool ok, is_journaled;
    struct stream_shared_due *shared; /* NULL: it is this log's alone */
};

/* --- lines of confirms ---------------------------------------------------------------------- */

static struct stream_due *
due_at(struct stream_queue *stream, size_t i)
{
    return &stream->due[(stream->due_head + i) & stream->due_mask];
}

static void
grow_due(struct stream_queue *stream)
{
    size_t size = stream->due != NULL ? (stream->due_mask + 1) * 2 : 16;
    struct stream_due *ring = mem_alloc(size * sizeof(*ring));

    for (size_t i = 0; i < stream->due_count; i++)
        ring[i] = *due_at(stream, i);
    free(stream->due);
    stream->due = ring;
    stream->due_head = 0;
    stream->due_mask = size - 1;
}

static void
add_due(struct stream_queue *stream, const struct stream_due *due)
{
    struct stream_due *last = stream->due_count > 0 ? due_at(stream, stream->due_count - 1) : NULL;

    if (last != NULL && last->shared == NULL && due->shared == NULL &&
        last->channel == due->channel && last->ok == due->ok &&
        last->is_journaled == due->is_journaled && last->first + last->count == due->first &&
        last->end + 1 == due->end) {
        last->end = due->end; /* a channel that publishes in a row */
        last->count++;
        return;
    }
    if (stream->due == NULL || stream->due_count > stream->due_mask)
        grow_due(stream);
    *due_at(stream, stream->due_count++) = *due;
}

static void
pay(struct home *home, const struct stream_due *due)
{
    struct stream_shared_due *shared = due->shared;

    if (shared == NULL && !due->is_journaled) {
        home_send_confirm(home, due->channel, due->first, due->count, due->ok);
    } else if (shared == NULL) {
        for (uint32_t i = 0; i < due->count; i++)
            store_confirm(home, due->channel, due->first + i, due->ok, true);
    } else if (--shared->logs == 0) {
        store_confirm(home, shared->channel, shared->number, shared->ok, shared->is_journaled);
        free(shared);
    }
}

/* A range is paid as far as it is safe. */
static void
pay_part(struct home *home, struct stream_due *due, uint64_t end)
{
    struct stream_due part = *due;
    uint64_t begin = due->end - due->count;

    if (end <= begin)
        return;
    part.count = (uint32_t)(end - begin);
    due->first += part.count;
    due->count -= part.count;
    pay(home, &part);
}

static void
pay_due(struct home *home, struct stream_queue *stream, uint64_t end)
{
    if (stream->ticket > home->committed)
        return; /* streams_committed goes on */
    while (stream->due_count > 0 && due_at(stream, 0)->end <= end) {
        struct stream_due due = *due_at(stream, 0);

        stream->due_head = (stream->due_head + 1) & stream->due_mask;
        stream->due_count--;
        pay(home, &due);
    }
    if (stream->due_count > 0 && due_at(stream, 0)->count > 1)
        pay_part(home, due_at(stream, 0), end);
    if (stream->due_count == 0 && stream->due_mask >= 4096) {
        free(stream->due);
        stream->due = NULL;
        stream->due_head = stream->due_mask = 0;
    }
}

void
streams_committed(struct home *home)
{
    list_each_safe (at, &home->streams.uncommitted) {
        struct stream_queue *stream = container_of(at, struct stream_queue, uncommitted);

        if (stream->ticket > home->committed)
            continue;
        list_remove(at);
        pay_due(home, stream, stream_log_committed(stream->log));
    }
}

/* --- publish --------------------------------------------------------------------------------- */

static void
count_unsafe(struct home *home, struct stream_queue *stream)
{
    size_t now = stream_log_unsafe_bytes(stream->log);

    home->streams.unsafe_bytes += now - stream->unsafe_bytes;
    stream->unsafe_bytes = now;
    if (home->streams.unsafe_bytes > STREAMS_UNSAFE_MAX || home->is_holding)
        store_look_at_hold(home);
}

bool
streams_publish(struct home *home, uint64_t id, const struct content *content, bool wants_confirm)
{
    struct streams *streams = &home->streams;
    struct stream_queue *stream = idmap_find(&streams->all, id);
    uint64_t offset;

    if (stream == NULL)
        return true; /* it is gone, and took the message along */
    if (stream->is_in_trouble &&
        (wants_confirm || stream_log_unsafe_bytes(stream->log) > TROUBLE_BYTES))
        return false;
    if (!stream_log_append(stream->log, content, &offset))
        return false;
    count_unsafe(home, stream);
    if (streams->n_waits == streams->waits_size) {
        streams->waits_size = streams->waits_size > 0 ? streams->waits_size * 2 : 4;
        streams->waits =
            mem_resize(streams->waits, streams->waits_size * sizeof(streams->waits[0]));
    }
    streams->waits[streams->n_waits++] = (struct stream_wait){stream, offset + 1};
    return true;
}

void
streams_confirm(struct home *home, uint64_t channel, uint64_t number, bool ok, bool is_journaled)
{
    struct streams *streams = &home->streams;
    struct stream_due due = {
        .channel = channel, .first = number, .count = 1, .ok = ok, .is_journaled = is_journaled};
    size_t n = streams->n_waits;

    streams->n_waits = 0;
    if (channel == 0)
        return;
    if (n > 1) {
        due.shared = mem_new(struct stream_shared_due);
        *due.shared = (struct stream_shared_due){(unsigned)n, channel, number, ok, is_journaled};
    }
    for (size_t i = 0; i < n; i++) {
        due.end = streams->waits[i].end;
        add_due(streams->waits[i].stream, &due);
    }
}

/* --- what streams say ---------------------------------------------------------------------------
 */

static void
on_deliver(void *arg, const struct stream_consumer *consumer, uint64_t seq,
           const struct content *content)
{
    struct home *home = arg;
    struct cmd_deliver cmd = {
        .head.kind = CMD_deliver,
        .consumer = consumer->id,
        .queue = consumer->stream->id,
        .seq = seq,
        .shard = consumer->stream->ref.shard,
        .epoch = consumer->epoch,
        .content = *content,
    };

    post_send(home->post, id_worker(consumer->id), &cmd.head);
}

static void
on_safe(void *arg, struct stream_queue *stream, uint64_t end)
{
    struct home *home = arg;

    count_unsafe(home, stream);
    pay_due(home, stream, end);
}

static void
on_trouble(void *arg, struct stream_queue *stream, const struct err *why)
{
    struct home *home = arg;

    if (stream->is_in_trouble == (why != NULL))
        return;
    stream->is_in_trouble = why != NULL;
    if (why != NULL)
        home->streams.n_in_trouble++;
    else
        home->streams.n_in_trouble--;
    if (home->streams.n_in_trouble == 0)
        store_trouble(home, TROUBLE_STREAMS, NULL);
    else if (why != NULL)
        store_trouble(home, TROUBLE_STREAMS, why);
}

static uint64_t
on_wall_ms(void *arg)
{
    return home_now_ms(arg);
}

static const struct stream_queue_ops stream_ops = {
    .deliver = on_deliver,
    .safe = on_safe,
    .trouble = on_trouble,
    .wall_ms = on_wall_ms,
};

/* --- streams -------------------------------------------------------------------------------------
 */

void
streams_make(struct home *home, const struct queue_description *description)
{
    struct streams *streams = &home->streams;
    struct stream_queue_settings settings = {
        .ref = description->ref,
        .name = view_of(description->name, description->name_len),
        .ticket = description->ticket,
        .dir = streams->dir,
        .files = streams->files,
        .worker = home->post->worker,
        .disk = streams->disk,
        .reads = streams->reads,
        .epoch = streams->epoch,
    };
    struct stream_queue *stream;

    if (home->journal == NULL)
        return; /* there is no store */
    stream_rules_init(&settings.rules, view_of(description->arguments, description->arguments_len),
                      view_of(description->policy, description->policy_len));
    stream = stream_queue_new(&settings, &stream_ops, home);
    if (stream->ticket > home->committed)
        list_append(&streams->uncommitted, &stream->uncommitted);
    idmap_add(&streams->all, stream->id, stream);
}

void
streams_ruled(struct home *home, const struct queue_description *description)
{
    struct stream_queue *stream = idmap_find(&home->streams.all, description->ref.id);
    struct stream_rules rules;

    if (stream == NULL)
        return; /* it will ask when it is made */
    stream_rules_init(&rules, view_of(description->arguments, description->arguments_len),
                      view_of(description->policy, description->policy_len));
    stream_log_set_limits(stream->log, rules.max_bytes, rules.max_age_ms);
}

static void
stream_free(struct home *home, struct stream_queue *stream, bool forget)
{
    home->streams.unsafe_bytes -= stream->unsafe_bytes;
    for (size_t i = 0; i < stream->due_count; i++) {
        struct stream_shared_due *shared = due_at(stream, i)->shared;

        if (shared != NULL && --shared->logs == 0)
            free(shared);
    }
    if (list_is_linked(&stream->uncommitted))
        list_remove(&stream->uncommitted);
    free(stream->due);
    stream_queue_free(stream, forget);
}

void
streams_end(struct home *home, struct stream_queue *stream)
{
    struct streams *streams = &home->streams;

    idmap_remove(&streams->all, stream->id);
    list_each (at, &stream->consumers) {
        struct stream_consumer *consumer = container_of(at, struct stream_consumer, all);
        struct cmd_cancelled cmd = {.head.kind = CMD_cancelled, .consumer = consumer->id};

        idmap_remove(&streams->consumers, consumer->id);
        post_send(home->post, id_worker(consumer->id), &cmd.head);
    }
    stream->ticket = 0;
    pay_due(home, stream, UINT64_MAX); /* they went where the stream went, as RabbitMQ has it */
    on_trouble(home, stream, NULL);
    stream_free(home, stream, true);
    store_look_at_hold(home);
}

/* --- commands
 * -------------------------------------------------------------------------------------- */

enum queue_answer
streams_consume(struct home *home, struct stream_queue *stream, const struct cmd_consume *cmd,
                struct stream_consumer **out)
{
    *out = stream_queue_consume(stream, cmd);
    if (*out == NULL)
        return ANSWER_FULL;
    idmap_add(&home->streams.consumers, cmd->consumer, *out);
    return ANSWER_OK;
}

void
streams_cancel(struct home *home, uint64_t id)
{
    struct stream_consumer *consumer = idmap_remove(&home->streams.consumers, id);

    if (consumer != NULL)
        stream_queue_cancel(consumer);
}

/* --- start
 * ------------------------------------------------------------------------------------------ */

struct own_streams {
    struct home *home;
    uint64_t *ids;
    size_t n;
};

static void
add_id(void *arg, uint64_t id)
{
    struct own_streams *own = arg;

    if ((own->n & (own->n - 1)) == 0) /* at each power of two */
        own->ids = mem_resize(own->ids, (own->n > 0 ? own->n * 2 : 1) * sizeof(own->ids[0]));
    own->ids[own->n++] = id;
}

static bool
recover_one(struct home *home, uint64_t id, struct err *err)
{
    struct queue_description found;
    struct stream_queue *stream;
    bool is_here;

    if (!topology_queue_describe(home->topology, id, &found))
        return true;
    is_here = found.type == QUEUE_STREAM &&
              topology_worker_of(home->topology, found.ref.shard) == home->post->index;
    if (is_here)
        streams_make(home, &found);
    queue_description_fini(&found);
    stream = is_here ? idmap_find(&home->streams.all, id) : NULL;
    return stream == NULL || stream_queue_recover(stream, err);
}

static bool
is_known_stream(void *arg, uint64_t id)
{
    struct home *home = arg;
    struct queue_description found;
    bool known = topology_queue_describe(home->topology, id, &found);

    if (!known)
        return false;
    known = found.type == QUEUE_STREAM;
    queue_description_fini(&found);
    return known;
}

bool
home_recover_streams(struct home *home, struct err *err)
{
    struct own_streams own = {.home = home};
    bool ok = true;

    topology_each_durable_queue(home->topology, add_id, &own);
    for (size_t i = 0; i < own.n && ok; i++)
        ok = recover_one(home, own.ids[i], err);
    free(own.ids);
    if (ok && home->post->index == 0)
        stream_sweep(home->streams.dir, &home->streams.files, is_known_stream, home);
    return ok;
}

/* --- retention
 * --------------------------------------------------------------------------------------- */

static void
on_retention(void *arg)
{
    struct home *home = arg;
    struct stream_queue *stream;

    for (size_t at = 0; (stream = idmap_next(&home->streams.all, &at)) != NULL;)
        stream_log_retain(stream->log);
    worker_timer_set(home->post->worker, &home->streams.retention, RETENTION_MS);
}

/* --- life
 * --------------------------------------------------------------------------------------------- */

void
streams_init(struct home *home)
{
    idmap_init(&home->streams.all);
    idmap_init(&home->streams.consumers);
    list_init(&home->streams.uncommitted);
    home->streams.retention = (struct worker_timer){.fire = on_retention, .arg = home};
}

bool
streams_open(struct home *home, const struct home_settings *settings, struct err *err)
{
    struct streams *streams = &home->streams;
    const char *dir = settings->journal.dir;
    size_t n = strlen(dir) + sizeof("/streams");
    int rc;

    streams->files = settings->journal.files;
    streams->epoch = settings->journal.term;
    streams->dir = mem_alloc(n);
    snprintf(streams->dir, n, "%s/streams", dir);
    streams->disk = disk_new(home->post->worker, "streams");
    streams->reads = disk_new(home->post->worker, "reads");
    rc = streams->files.ops->make_dir(streams->files.arg, streams->dir);
    if (rc == 0)
        rc = streams->files.ops->sync_dir(streams->files.arg, dir);
    return rc == 0 ||
           err_set(err, INTERNAL_ERROR, "cannot make %s: %s", streams->dir, strerror(-rc));
}

bool
streams_start(struct home *home, struct err *err)
{
    if (!disk_start(home->streams.disk, err) || !disk_start(home->streams.reads, err))
        return false;
    worker_timer_set(home->post->worker, &home->streams.retention, RETENTION_MS);
    return true;
}

static void
drain(struct home *home)
{
    while (disk_step(home->streams.disk) || disk_step(home->streams.reads))
        continue;
}

void
streams_stop(struct home *home)
{
    struct stream_queue *stream;

    worker_timer_cancel(&home->streams.retention);
    disk_stop(home->streams.disk);
    disk_stop(home->streams.reads);
    drain(home);
    for (size_t at = 0; (stream = idmap_next(&home->streams.all, &at)) != NULL;) {
        while (stream_log_unsafe_bytes(stream->log) > 0 && !stream->is_in_trouble) {
            stream_log_flush(stream->log);
            drain(home);
        }
        stream_offsets_flush(stream->offsets);
        drain(home);
    }
}

void
streams_fini(struct home *home)
{
    struct streams *streams = &home->streams;
    struct stream_queue *stream;

    worker_timer_cancel(&streams->retention);
    if (streams->disk != NULL) {
        disk_stop(streams->disk);
        disk_stop(streams->reads);
    }
    for (size_t at = 0; (stream = idmap_next(&streams->all, &at)) != NULL;)
        stream_free(home, stream, false);
    if (streams->disk != NULL)
        drain(home);
    disk_free(streams->disk);
    disk_free(streams->reads);
    idmap_fini(&streams->all);
    idmap_fini(&streams->consumers);
    free(streams->waits);
    free(streams->dir);
}
