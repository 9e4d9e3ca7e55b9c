/*
 * The way of a delivery: serve asks the reader for message after message while the consumer is
 * able, deliver_one hands each to the channel; settle gives credit back, and serves. What may be
 * missing on the way, and who goes on:
 *
 *     the reader waits                  on_more
 *     prefetch, or the window, is used up   stream_queue_settle, stream_queue_credit
 *     the channel has stopped it        stream_queue_flow
 *     it has had its share of the turn  the task `again`
 *     it stands by                      succeed, when the active member of its group has gone, and
 *                                       what that one held is settled
 */
#include "lepus/broker/stream_queue.h"

#include <assert.h>

#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum {
    SERVE_MESSAGES = 256, /* a turn, of one consumer, as is what follows */
    SERVE_BYTES = 256 * 1024,
    HELD_MIN = 16,
};

static const uint64_t offset_mask = (UINT64_C(1) << STREAM_EPOCH_BIT) - 1;

/* --- what a group has to remember ---------------------------------------------------------- */

static struct view
group_of(const struct stream_consumer *consumer)
{
    return view_of(consumer->group, consumer->group_len);
}

static void
make_room(struct stream_consumer *c)
{
    size_t n = 0;

    if (c->n_held < c->held_size)
        return;
    if (c->held_live >= c->held_size / 2) {
        c->held_size = c->held_size > 0 ? c->held_size * 2 : HELD_MIN;
        c->held = mem_resize(c->held, c->held_size * sizeof(c->held[0]));
    }
    for (size_t i = c->first_held; i < c->n_held; i++) /* settled ones need not stand there */
        if (!c->held[i].is_settled)
            c->held[n++] = c->held[i];
    c->first_held = 0;
    c->n_held = n;
}

static void
hold(struct stream_consumer *c, uint64_t offset)
{
    if (offset >= c->given_back)
        return;
    make_room(c);
    c->held[c->n_held++] = (struct stream_held){.offset = offset};
    c->held_live++;
}

static void
drop_held_from(struct stream_consumer *c, uint64_t offset)
{
    while (c->n_held > c->first_held && c->held[c->n_held - 1].offset >= offset)
        c->held_live -= !c->held[--c->n_held].is_settled;
}

/* Where the first of at least that offset stands. */
static size_t
held_from(const struct stream_consumer *c, uint64_t offset)
{
    size_t from = c->first_held, to = c->n_held;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (c->held[middle].offset < offset)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Where the group would go on without this consumer. */
static uint64_t
place(const struct stream_consumer *c)
{
    uint64_t next = c->first_held < c->n_held ? c->held[c->first_held].offset : c->next;

    return next < c->given_back ? next : c->given_back;
}

static void
move_group(struct stream_consumer *c, uint64_t to)
{
    struct stream_offsets *offsets = c->stream->offsets;
    uint64_t stored;

    c->is_placed = true;
    if (stream_offsets_get(offsets, group_of(c), &stored) && stored >= to)
        return;
    if (!stream_offsets_set(offsets, group_of(c), to))
        log_warn(NULL, "stream '%s' has too many consumer groups: the offset of '%s' is not kept",
                 c->stream->name, c->group);
}

static void
let_go(struct stream_consumer *c, uint64_t first, uint64_t last)
{
    for (size_t i = held_from(c, first); i < c->n_held && c->held[i].offset <= last; i++) {
        c->held_live -= !c->held[i].is_settled;
        c->held[i].is_settled = true;
    }
    while (c->first_held < c->n_held && c->held[c->first_held].is_settled)
        c->first_held++;
    move_group(c, place(c));
}

/* --- serving -------------------------------------------------------------------------------- */

/* The properties with the header x-stream-offset. */
static struct view
with_offset(struct stream_queue *stream, struct view properties, uint64_t offset)
{
    static const struct view name = {(const uint8_t *)"x-stream-offset", 15};
    struct view headers = {NULL, 0};
    struct buf *to = &stream->props.to;

    if (to->len == 0 || !view_equal(properties, buf_view(&stream->props.from))) {
        buf_clear(&stream->props.from);
        buf_append(&stream->props.from, properties.at, properties.len);
        props_find(properties, PROP_headers, &headers);
        buf_clear(&stream->props.headers);
        table_copy_without(&stream->props.headers, headers, &name, 1);
        table_put_i64(&stream->props.headers, name, 0);
        headers = buf_view(&stream->props.headers);
        buf_clear(to);
        props_copy_with(to, properties, PROP_headers, &headers);
        props_find(buf_view(to), PROP_headers, &headers);
        stream->props.offset_at = (size_t)(headers.at + headers.len - to->at) - 8;
    }
    be_put_u64(to->at + stream->props.offset_at, offset);
    return buf_view(to);
}

/* A large body goes on by reference: into the output, and to another worker. */
static void
share_body(struct content *content)
{
    if (content->body.len < BLOB_MIN || (content->blob = blob_new(content->body.len)) == NULL)
        return;
    memcpy(content->blob->bytes, content->body.at, content->body.len);
    content->blob->len = content->body.len;
    content->body.at = content->blob->bytes;
}

static size_t
deliver_one(struct stream_consumer *c, const struct stream_message *message)
{
    struct stream_queue *stream = c->stream;
    struct content content = message->content;
    uint64_t cost;

    content.properties = with_offset(stream, content.properties, message->offset);
    share_body(&content);
    cost = delivery_cost_bytes(&content);
    c->unacked++;
    c->next = message->offset + 1;
    if (c->group != NULL && !c->is_placed)
        move_group(c, message->offset); /* it began at a time */
    if (c->group != NULL)
        hold(c, message->offset);
    if (c->has_window)
        c->window_left -= (int64_t)cost;
    stream->ops->deliver(stream->ops_arg, c,
                         (uint64_t)c->slot << STREAM_SLOT_BIT |
                             (uint64_t)(c->epoch & 1) << STREAM_EPOCH_BIT |
                             (message->offset & offset_mask),
                         &content);
    blob_unref(&content.blob);
    return (size_t)cost;
}

static bool
is_able(const struct stream_consumer *c)
{
    return c->reader != NULL && !c->is_stopped && !c->has_rewind && c->unacked < c->prefetch &&
           (!c->has_window || c->window_left > 0);
}

static void
serve(struct stream_consumer *c)
{
    struct worker *worker = c->stream->worker;
    struct stream_message message;
    size_t bytes = 0;

    if (c->is_serving)
        return;
    c->is_serving = true;
    for (unsigned n = 0; is_able(c) && !c->is_waiting; n++) {
        if (worker != NULL && (n == SERVE_MESSAGES || bytes > SERVE_BYTES)) {
            worker_schedule(worker, WORKER_AGAIN, &c->again);
            break;
        }
        if (stream_reader_next(c->reader, &message) == STREAM_READ_WAIT)
            c->is_waiting = true;
        else
            bytes += deliver_one(c, &message);
    }
    c->is_serving = false;
}

static void
on_again(void *arg)
{
    serve(arg);
}

static void
on_more(void *arg)
{
    struct stream_consumer *c = arg;

    c->is_waiting = false;
    serve(c);
}

static void
on_damaged(void *arg, uint64_t first, uint64_t last, const struct err *why)
{
    const struct stream_consumer *c = arg;

    log_error(NULL, "stream '%s': offsets %llu to %llu are lost, and passed over: %s",
              c->stream->name, (unsigned long long)first, (unsigned long long)last, why->text);
}

static const struct stream_reader_ops reader_ops = {.more = on_more, .damaged = on_damaged};

/* --- where a consumer begins ---------------------------------------------------------------- */

static void
read_on(struct stream_consumer *c, const struct stream_wish *wish,
        struct stream_reader_settings *settings)
{
    settings->filters = wish->filters;
    settings->n_filters = wish->n_filters;
    settings->match_unfiltered = wish->match_unfiltered;
    stream_reader_free(c->reader);
    c->is_waiting = false;
    c->reader = stream_reader_new(c->stream->log, settings, &reader_ops, c);
    if (c->group != NULL)
        c->next = stream_reader_offset(c->reader);
}

static void
wish_of(const struct stream_consumer *c, struct stream_wish *out)
{
    const char *arg;
    char why[200];
    bool ok = stream_wish_read(out, view_of(c->arguments, c->arguments_len), &arg, why);

    assert(ok); /* its channel has looked */
    (void)ok;
}

static void
begin(struct stream_consumer *c)
{
    struct stream_queue *stream = c->stream;
    struct stream_reader_settings settings = {0};
    struct stream_wish wish;

    wish_of(c, &wish);
    settings.from = wish.from;
    settings.offset = wish.offset;
    settings.time_ms = wish.time_ms;
    if (wish.is_age)
        settings.time_ms = (int64_t)stream->ops->wall_ms(stream->ops_arg) - wish.time_ms;
    if (c->group != NULL && stream_offsets_get(stream->offsets, group_of(c), &settings.offset))
        settings.from = STREAM_FROM_OFFSET;
    c->is_active = true;
    read_on(c, &wish, &settings);
    if (c->group != NULL && settings.from != STREAM_FROM_TIME)
        move_group(c, c->next);
    serve(c);
}

/* Again from what came back unsent. */
static void
rewind_reader(struct stream_consumer *c)
{
    struct stream_reader_settings settings = {.from = STREAM_FROM_OFFSET, .offset = c->rewind};
    struct stream_wish wish;

    c->has_rewind = false;
    drop_held_from(c, c->rewind);
    wish_of(c, &wish);
    read_on(c, &wish, &settings);
}

/* --- groups --------------------------------------------------------------------------------- */

static bool
is_same_group(const struct stream_consumer *a, const struct stream_consumer *b)
{
    return a->group != NULL && b->group != NULL && view_equal(group_of(a), group_of(b));
}

/* Nobody of the group is active, or has gone and holds something still. */
static bool
is_group_free(const struct stream_consumer *member)
{
    const struct stream_consumer *c;

    for (size_t at = 0; (c = idmap_next(&member->stream->slots, &at)) != NULL;)
        if (is_same_group(c, member) && (c->is_active || (!c->is_attached && c->unacked > 0)))
            return false;
    return true;
}

/* One has gone, or what it held: the one that has waited longest goes on. */
static void
succeed(const struct stream_consumer *gone)
{
    if (gone->group == NULL || !is_group_free(gone))
        return;
    list_each (at, &gone->stream->consumers) {
        struct stream_consumer *c = container_of(at, struct stream_consumer, all);

        if (is_same_group(c, gone)) {
            begin(c);
            return;
        }
    }
}

/* --- consumers ------------------------------------------------------------------------------- */

static uint16_t
take_slot(struct stream_queue *stream)
{
    if (stream->slots.count >= STREAM_SLOT_MAX)
        return 0;
    do
        stream->last_slot = stream->last_slot % STREAM_SLOT_MAX + 1;
    while (idmap_find(&stream->slots, stream->last_slot) != NULL);
    return stream->last_slot;
}

struct stream_consumer *
stream_queue_consume(struct stream_queue *stream, const struct cmd_consume *cmd)
{
    uint16_t slot = take_slot(stream);
    struct stream_consumer *c;

    if (slot == 0)
        return NULL;
    c = mem_new(struct stream_consumer);
    c->stream = stream;
    c->id = cmd->consumer;
    c->channel = cmd->channel;
    c->slot = slot;
    c->is_attached = true;
    c->is_stopped = cmd->stopped;
    c->prefetch = cmd->prefetch;
    c->has_window = cmd->window_bytes > 0;
    c->window_left = cmd->window_bytes;
    c->given_back = UINT64_MAX;
    c->again = (struct worker_task){.run = on_again, .arg = c};
    c->arguments = (uint8_t *)view_dup(cmd->arguments);
    c->arguments_len = cmd->arguments.len;
    if (cmd->group.len > 0) {
        c->group = view_dup(cmd->group);
        c->group_len = cmd->group.len;
    }
    idmap_add(&stream->slots, slot, c);
    list_append(&stream->consumers, &c->all);
    stream->n_consumers++;
    return c;
}

void
stream_queue_start(struct stream_consumer *c)
{
    if (c->group == NULL || is_group_free(c))
        begin(c);
}

static void
consumer_free(struct stream_consumer *c)
{
    worker_task_cancel(&c->again);
    stream_reader_free(c->reader);
    free(c->arguments);
    free(c->group);
    free(c->held);
    free(c);
}

static void
free_if_done(struct stream_consumer *c)
{
    if (c->is_attached || c->unacked > 0)
        return;
    idmap_remove(&c->stream->slots, c->slot);
    consumer_free(c);
}

void
stream_queue_cancel(struct stream_consumer *c)
{
    c->is_attached = c->is_active = false;
    list_remove(&c->all);
    c->stream->n_consumers--;
    worker_task_cancel(&c->again);
    stream_reader_free(c->reader);
    c->reader = NULL;
    succeed(c);
    free_if_done(c);
}

void
stream_queue_flow(struct stream_consumer *c, bool go, uint32_t epoch)
{
    c->is_stopped = !go;
    if (!go)
        return;
    c->epoch = epoch;
    if (c->has_rewind && c->reader != NULL)
        rewind_reader(c);
    serve(c);
}

void
stream_queue_credit(struct stream_consumer *c, uint64_t bytes)
{
    c->window_left += (int64_t)bytes;
    serve(c);
}

/* --- settling ------------------------------------------------------------------------------- */

static void
settle_range(struct stream_consumer *c, enum settle_how how, const struct seq_range *range)
{
    uint64_t first = range->first & offset_mask, last = range->last & offset_mask;
    uint64_t n = range->last - range->first + 1;

    c->unacked -= n < c->unacked ? (uint32_t)n : c->unacked;
    switch (how) {
    case SETTLE_ACK:
    case SETTLE_DISCARD:
        if (c->group != NULL)
            let_go(c, first, last);
        break;
    case SETTLE_RETURN:
    case SETTLE_REQUEUE:
    case SETTLE_OVERDUE:
        if (c->group != NULL && first < c->given_back) {
            c->given_back = first;
            drop_held_from(c, first);
        }
        break;
    case SETTLE_UNSENT:
        if ((range->first >> STREAM_EPOCH_BIT & 1) != (c->epoch & 1))
            break;
        if (!c->has_rewind || first < c->rewind)
            c->rewind = first;
        c->has_rewind = true;
        break;
    }
    if (c->is_attached) {
        serve(c);
    } else if (c->unacked == 0) {
        succeed(c);
        free_if_done(c);
    }
}

void
stream_queue_settle(struct stream_queue *stream, enum settle_how how,
                    const struct seq_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct stream_consumer *c = idmap_find(&stream->slots, ranges[i].first >> STREAM_SLOT_BIT);

        if (c != NULL)
            settle_range(c, how, &ranges[i]);
    }
}

/* --- the log's word --------------------------------------------------------------------------- */

static void
on_safe(void *arg, uint64_t end)
{
    struct stream_queue *stream = arg;

    stream->ops->safe(stream->ops_arg, stream, end);
}

static void
on_trouble(void *arg, const struct err *why)
{
    struct stream_queue *stream = arg;

    stream->ops->trouble(stream->ops_arg, stream, why);
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    (void)arg;
    if (is_error)
        log_error(NULL, "%s", line);
    else
        log_info(NULL, "%s", line);
}

static void
on_offsets_trouble(void *arg, const struct err *why)
{
    const struct stream_queue *stream = arg;

    if (why != NULL)
        log_warn(NULL, "stream '%s': offsets of consumer groups cannot be written: %s",
                 stream->name, why->text);
    else
        log_info(NULL, "stream '%s': offsets of consumer groups are written again", stream->name);
}

static const struct stream_log_ops log_ops = {
    .safe = on_safe,
    .trouble = on_trouble,
    .tell = on_tell,
};

static const struct stream_offsets_ops offsets_ops = {.trouble = on_offsets_trouble};

/* --- life ---------------------------------------------------------------------------------------
 */

struct stream_queue *
stream_queue_new(const struct stream_queue_settings *s, const struct stream_queue_ops *ops,
                 void *arg)
{
    struct stream_queue *stream = mem_new(struct stream_queue);
    struct stream_settings log = {
        .dir = s->dir,
        .stream = s->ref.id,
        .name = s->name,
        .files = s->files,
        .worker = s->worker,
        .disk = s->disk,
        .reads = s->reads,
        .epoch = s->epoch,
        .segment_bytes = s->rules.segment_bytes,
        .max_bytes = s->rules.max_bytes,
        .max_age_ms = s->rules.max_age_ms,
        .filter_bytes = s->rules.filter_bytes,
    };
    struct stream_offsets_settings offsets = {
        .dir = s->dir,
        .stream = s->ref.id,
        .files = s->files,
        .worker = s->worker,
        .disk = s->disk,
    };

    stream->id = s->ref.id;
    stream->ref = s->ref;
    stream->ticket = s->ticket;
    stream->name = view_dup(s->name);
    stream->worker = s->worker;
    stream->ops = ops;
    stream->ops_arg = arg;
    list_init(&stream->consumers);
    idmap_init(&stream->slots);
    buf_init(&stream->props.from, SIZE_MAX / 2);
    buf_init(&stream->props.to, SIZE_MAX / 2);
    buf_init(&stream->props.headers, SIZE_MAX / 2);
    stream->log = stream_log_new(&log, &log_ops, stream);
    stream->offsets = stream_offsets_new(&offsets, &offsets_ops, stream);
    return stream;
}

bool
stream_queue_recover(struct stream_queue *stream, struct err *err)
{
    return (stream_log_recover(stream->log, err) && stream_offsets_recover(stream->offsets, err)) ||
           err_wrap(err, "stream '%s'", stream->name);
}

void
stream_queue_free(struct stream_queue *stream, bool forget)
{
    struct stream_consumer *c;

    for (size_t at = 0; (c = idmap_next(&stream->slots, &at)) != NULL;)
        consumer_free(c);
    idmap_fini(&stream->slots);
    stream_offsets_free(stream->offsets, forget);
    stream_log_free(stream->log, forget);
    buf_fini(&stream->props.from);
    buf_fini(&stream->props.to);
    buf_fini(&stream->props.headers);
    free(stream->name);
    free(stream);
}

uint64_t
stream_queue_count(const struct stream_queue *stream)
{
    return stream_log_committed(stream->log) - stream_log_first(stream->log);
}

void
stream_queue_check(const struct stream_queue *stream)
{
    const struct stream_consumer *c;
    size_t attached = 0;

    stream_log_check(stream->log);
    for (size_t at = 0; (c = idmap_next(&stream->slots, &at)) != NULL;) {
        size_t live = 0;

        attached += c->is_attached;
        assert(c->is_attached || c->unacked > 0);
        assert(c->unacked <= c->prefetch);
        assert(c->is_active == (c->reader != NULL));
        for (size_t i = c->first_held; i < c->n_held; i++) {
            live += !c->held[i].is_settled;
            assert(i == c->first_held || c->held[i - 1].offset < c->held[i].offset);
        }
        assert(live == c->held_live && (live <= c->unacked || c->has_rewind));
    }
    assert(attached == stream->n_consumers);
}
