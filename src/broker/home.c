#include <assert.h>

#include "home_priv.h"

#include "lepus/base/mem.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

/* A queue with consumers and more ready messages than this is behind its publishers. */
enum { BEHIND_MIN = 1000 };

/* --- answers --------------------------------------------------------------------------- */

static void
reply(struct home *home, uint64_t channel, enum queue_answer answer, size_t messages,
      size_t consumers)
{
    struct cmd_reply cmd = {
        .head.kind = CMD_reply,
        .channel = channel,
        .answer = answer,
        .messages = messages < UINT32_MAX ? (uint32_t)messages : UINT32_MAX,
        .consumers = (uint32_t)consumers,
    };

    if (channel != 0)
        post_send(home->post, id_worker(channel), &cmd.head);
}

static void
on_deliver(void *arg, const struct consumer *consumer, uint64_t seq, bool redelivered,
           const struct content *content)
{
    struct home *home = arg;
    struct cmd_deliver cmd = {
        .head.kind = CMD_deliver,
        .consumer = consumer->id,
        .queue = consumer->queue->id,
        .seq = seq,
        .shard = consumer->queue->settings.ref.shard,
        .epoch = consumer->epoch,
        .redelivered = redelivered,
        .content = *content,
    };

    post_send(home->post, id_worker(consumer->id), &cmd.head);
}

static void
on_overdue(void *arg, uint64_t queue, const struct loan *loan)
{
    struct home *home = arg;
    struct cmd_overdue cmd = {
        .head.kind = CMD_overdue,
        .channel = loan->channel,
        .queue = queue,
        .seq = loan->seq,
        .timeout_ms = loan->timeout_ms,
    };

    post_send(home->post, id_worker(loan->channel), &cmd.head);
}

static void on_loaded(void *arg, struct queue *queue);

const struct queue_ops home_queue_ops = {
    .deliver = on_deliver,
    .loaded = on_loaded,
    .now_ms = life_now_ms,
    .wake = life_wake,
    .died = life_died,
    .overdue = on_overdue,
    .backlog = {.settled = store_settled,
                .mark = store_mark,
                .failed = store_failed,
                .grew = store_grew},
};

void
home_send_confirm(struct home *home, uint64_t channel, uint64_t first, uint32_t count, bool ok)
{
    struct cmd_confirm confirm = {
        .head.kind = CMD_confirm,
        .channel = channel,
        .first = first,
        .count = count,
        .ok = ok,
    };

    if (id_is_home(channel))
        letters_confirm(home, channel, first, count, ok);
    else
        post_send(home->post, id_worker(channel), &confirm.head);
}

/* --- queues ---------------------------------------------------------------------------- */

/* The description's arguments were checked when the queue was declared. */
static uint8_t
max_priority(const struct queue_description *description)
{
    struct view arguments = view_of(description->arguments, description->arguments_len);
    struct field field;

    return table_find(arguments, VIEW_LIT("x-max-priority"), &field) ? (uint8_t)field.integer : 0;
}

/* The topology's word that the queue exists is enough: it is made when first spoken to. NULL, too,
 * when it was a stream that has been made. */
static struct queue *
make_queue(struct home *home, uint64_t id)
{
    struct queue_description description;
    struct queue_settings settings;
    struct view arguments;
    struct queue *queue;

    if (!topology_queue_describe(home->topology, id, &description))
        return NULL;
    if (description.type == QUEUE_STREAM) {
        streams_make(home, &description);
        queue_description_fini(&description);
        return NULL;
    }
    settings = (struct queue_settings){
        .ref = description.ref,
        .durable = description.durable && home->journal != NULL,
        .auto_delete = description.auto_delete,
        .delays = description.delays,
        .passes_on = description.passes_on,
        .max_priority = max_priority(&description),
        .ticket = description.ticket,
        .account = &home->memory,
        .store = home->pages,
    };
    arguments = view_of(description.arguments, description.arguments_len);
    settings.dedup = description.passes_on ? dedup_settings_of_exchange(arguments)
                                           : dedup_settings_of_queue(arguments);
    queue_rules_init(&settings.rules, description.delays ? view_of(NULL, 0) : arguments,
                     view_of(description.policy, description.policy_len));
    settings.rules.has_dead_letter_exchange |= description.delays; /* what is due is a letter */
    queue = mem_new(struct queue);
    queue_init(queue, &settings, &home_queue_ops, home);
    home_queue_begin(home, queue, &description);
    queue_description_fini(&description);
    idmap_add(&home->queues, id, queue);
    return queue;
}

struct queue *
home_queue(struct home *home, uint64_t id)
{
    struct queue *queue = idmap_find(&home->queues, id);

    if (queue != NULL || idmap_find(&home->streams.all, id) != NULL)
        return queue;
    return make_queue(home, id);
}

/* The stream, when home_queue has said NULL. */
static struct stream_queue *
find_stream(const struct home *home, uint64_t id)
{
    return idmap_find(&home->streams.all, id);
}

/* A basic.get that waits for a page. */
struct waiting_get {
    struct list link;
    uint64_t channel;
    bool no_ack;
};

static void
refuse_gets(struct home *home, struct queue *queue)
{
    struct list *link;

    while ((link = list_take_first(&queue->gets)) != NULL) {
        struct waiting_get *get = container_of(link, struct waiting_get, link);

        reply(home, get->channel, ANSWER_GONE, 0, 0);
        free(get);
    }
}

/* The queue is out of the topology: it ends here, and its consumers are told. */
void
home_end_queue(struct home *home, struct queue *queue)
{
    letters_send(home); /* those of this queue need it */
    idmap_remove(&home->queues, queue->id);
    list_each (at, &queue->all) {
        struct consumer *consumer = container_of(at, struct consumer, all);
        struct cmd_cancelled cmd = {.head.kind = CMD_cancelled, .consumer = consumer->id};

        idmap_remove(&home->consumers, consumer->id);
        post_send(home->post, id_worker(consumer->id), &cmd.head);
    }
    refuse_gets(home, queue);
    store_forget(home, queue);
    home_queue_finish(queue);
    queue_fini(queue, true);
    free(queue);
}

static void
end_if_abandoned(struct home *home, struct queue *queue)
{
    if (!queue->settings.auto_delete || !queue->had_consumer || queue->n_consumers > 0)
        return;
    if (topology_queue_remove(home->topology, queue->id))
        home_end_queue(home, queue);
}

/* --- commands -------------------------------------------------------------------------- */

/* One that wants a confirm and may not get it for long is refused before any queue has it. */
static bool
must_refuse(struct home *home, const struct cmd_publish *cmd, const struct queue_ref *targets,
            size_t n)
{
    if (!store_is_refusing(home) || cmd->channel == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct queue *queue = home_queue(home, targets[i].id);

        if (queue != NULL && queue->settings.durable)
            return true;
    }
    return false;
}

static void
dead_letter_refused(struct home *home, struct queue *queue, struct publish *publish)
{
    if (queue->settings.rules.overflow != OVERFLOW_REJECT_DEAD_LETTER ||
        !queue->settings.rules.has_dead_letter_exchange)
        return;
    if (publish->made == NULL)
        publish->made = message_new(publish->content, publish->persistent, &home->memory);
    if (publish->made != NULL)
        letters_add(home, queue, 0, DEATH_MAXLEN, publish->made);
}

/* What the queue's rules, or the message's own expiration, say before it is published. False: the
 * queue is full. */
static bool
apply_rules(struct home *home, struct queue *queue, struct publish *publish, bool *out_kept)
{
    if (queue_refuses(queue, publish->content)) {
        dead_letter_refused(home, queue, publish);
        return false;
    }
    if (publish->is_dated || queue->settings.rules.ttl_ms != RULE_NONE || queue->settings.delays)
        *out_kept |= home_date(home, publish, queue);
    return true;
}

/* A key that a queue has to look at, and until when to remember it. */
struct keyed {
    bool is; /* false: the message has none, or the queue does not care */
    struct dedup_key key;
    uint64_t until_ms, now_ms;
};

static bool
has_died(struct view properties)
{
    struct view headers;
    struct field deaths;

    return props_find(properties, PROP_headers, &headers) &&
           table_find(headers, VIEW_LIT("x-death"), &deaths);
}

/* False: it is a duplicate. A dead letter that comes back here is none, though its key is known. */
static bool
look_at_key(struct home *home, struct queue *queue, const struct publish *publish,
            struct keyed *out)
{
    struct view properties = publish->content->properties;

    out->is = queue->dedup != NULL && dedup_key_of(properties, &out->key);
    if (!out->is)
        return true;
    out->now_ms = home_now_ms(home);
    out->until_ms = dedup_until_ms(queue->dedup, properties, out->now_ms);
    return !queue_knows(queue, &out->key, out->now_ms) ||
           (!queue->dedup->settings.while_here && has_died(properties));
}

static void
remember(struct home *home, struct queue *queue, const struct backlog *backlog, uint64_t seq,
         const struct keyed *keyed)
{
    queue_remember(queue, backlog, seq, &keyed->key, keyed->until_ms, keyed->now_ms);
    if (queue->settings.durable)
        store_keep_keys(home, &queue->plain);
}

/* Into every queue; those that must remember it are in home->targets, or, when *out_kept, written
 * down already. False when one refuses it. */
static bool
enqueue(struct home *home, struct publish *publish, const struct queue_ref *targets, size_t n,
        bool wants_confirm, bool *out_kept)
{
    bool ok = true;

    home->n_targets = 0;
    for (size_t i = 0; i < n; i++) {
        struct queue *queue = home_queue(home, targets[i].id);
        struct backlog *backlog;
        struct keyed keyed;
        uint64_t seq;

        if (queue == NULL) {
            ok = streams_publish(home, targets[i].id, publish->content, wants_confirm) && ok;
            continue;
        }
        keyed.is = false;
        if (publish->is_dated | queue->life.rules_publish) {
            if (!look_at_key(home, queue, publish, &keyed)) {
                *out_kept = true; /* confirmed when the first one is safe */
                continue;
            }
            if (!apply_rules(home, queue, publish, out_kept)) {
                ok = false;
                continue;
            }
        }
        switch (queue_publish(queue, publish, &backlog, &seq)) {
        case QUEUE_REFUSED:
            ok = false;
            break;
        case QUEUE_PASSED:
            if (keyed.is)
                remember(home, queue, NULL, 0, &keyed);
            break;
        case QUEUE_KEPT:
            if (queue->settings.durable && publish->persistent)
                store_add_target(home, backlog, seq);
            if (keyed.is)
                remember(home, queue, backlog, seq, &keyed);
            if (queue->n_consumers > 0 && backlog->window.ready > BEHIND_MIN)
                home->post->behind++;
            if (home->memory.bytes > home->memory_max)
                store_relieve(home, backlog);
            break;
        }
    }
    return ok;
}

/* What has been written down may be dropped. */
static void
tidy(struct home *home, const struct queue_ref *targets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct queue *queue = idmap_find(&home->queues, targets[i].id);

        if (queue != NULL) {
            queue_tidy(queue);
            store_look_at_queue(home, queue);
        }
    }
}

static void
look_at_properties(struct publish *publish)
{
    publish->persistent = content_is_persistent(publish->content);
    publish->expiration_ms = content_expiration(publish->content);
    publish->is_dated = publish->expiration_ms != RULE_NONE;
}

static void
on_publish(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_publish *cmd = (const void *)command;
    const struct queue_ref *targets = (const void *)cmd->targets.at;
    size_t n = cmd->targets.len / sizeof(*targets);
    struct publish publish = {
        .content = &cmd->content,
        .priority = -1,
        .expiration_ms = RULE_NONE,
    };
    bool ok = false, kept = false;

    if ((props_flags(cmd->content.properties) & (PROP_delivery_mode | PROP_expiration)) != 0)
        look_at_properties(&publish);
    if (publish.persistent && must_refuse(home, cmd, targets, n)) {
        home_send_confirm(home, cmd->channel, cmd->confirm, 1, false);
        return;
    }
    ok = enqueue(home, &publish, targets, n, cmd->channel != 0, &kept);
    if (home->n_targets > 0) {
        store_published(home, &publish);
        kept = true;
    }
    message_unref(&publish.made);
    if (publish.tidy)
        tidy(home, targets, n);
    if (home->streams.n_waits > 0)
        streams_confirm(home, cmd->channel, cmd->confirm, ok, kept);
    else if (cmd->channel != 0)
        store_confirm(home, cmd->channel, cmd->confirm, ok, kept);
}

static void
on_settle(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_settle *cmd = (const void *)command;
    struct queue *queue = idmap_find(&home->queues, cmd->queue);

    if (queue != NULL) {
        queue_settle(queue, cmd->how, (const void *)cmd->ranges.at,
                     cmd->ranges.len / sizeof(struct seq_range));
        store_look_at_queue(home, queue);
    } else {
        struct stream_queue *stream = find_stream(home, cmd->queue);

        if (stream != NULL)
            stream_queue_settle(stream, cmd->how, (const void *)cmd->ranges.at,
                                cmd->ranges.len / sizeof(struct seq_range));
    }
    if (cmd->channel != 0)
        store_confirm(home, cmd->channel, 0, true, true);
}

static void
consume_stream(struct home *home, const struct cmd_consume *cmd)
{
    struct stream_queue *stream = find_stream(home, cmd->queue);
    struct stream_consumer *consumer = NULL;
    enum queue_answer answer =
        stream != NULL ? streams_consume(home, stream, cmd, &consumer) : ANSWER_GONE;

    reply(home, cmd->channel, answer, 0, 0);
    if (consumer != NULL)
        stream_queue_start(consumer);
}

static void
on_consume(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_consume *cmd = (const void *)command;
    struct queue *queue = home_queue(home, cmd->queue);
    struct consumer *consumer;

    if (queue == NULL) {
        consume_stream(home, cmd);
        return;
    }
    consumer = queue_consume(queue, cmd);
    if (consumer == NULL) {
        reply(home, cmd->channel, ANSWER_EXCLUSIVE, 0, 0);
        return;
    }
    idmap_add(&home->consumers, consumer->id, consumer);
    reply(home, cmd->channel, ANSWER_OK, queue_ready(queue), queue->n_consumers);
    queue_start(consumer);
}

static void
on_cancel(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_cancel *cmd = (const void *)command;
    struct consumer *consumer = idmap_remove(&home->consumers, cmd->consumer);

    if (consumer != NULL) {
        struct queue *queue = consumer->queue;

        queue_cancel(queue, consumer, cmd->channel_ends);
        queue_succeed(queue);
        home_queue_used(home, queue);
        end_if_abandoned(home, queue);
    } else {
        streams_cancel(home, cmd->consumer);
    }
    reply(home, cmd->channel, ANSWER_OK, 0, 0);
}

static void
on_flow(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_flow *cmd = (const void *)command;
    struct consumer *consumer = idmap_find(&home->consumers, cmd->consumer);

    if (consumer != NULL) {
        queue_flow(consumer, cmd->go, cmd->epoch);
    } else {
        struct stream_consumer *reader = idmap_find(&home->streams.consumers, cmd->consumer);

        if (reader != NULL)
            stream_queue_flow(reader, cmd->go, cmd->epoch);
    }
}

static void
on_credit(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_credit *cmd = (const void *)command;
    struct consumer *consumer = idmap_find(&home->consumers, cmd->consumer);

    if (consumer != NULL) {
        queue_credit(consumer, cmd->bytes);
    } else {
        struct stream_consumer *reader = idmap_find(&home->streams.consumers, cmd->consumer);

        if (reader != NULL)
            stream_queue_credit(reader, cmd->bytes);
    }
}

/* False: its message is on a page that has to come first. */
static bool
answer_get(struct home *home, struct queue *queue, uint64_t channel, bool no_ack)
{
    struct cmd_got got = {.head.kind = CMD_got, .channel = channel, .queue = queue->id};

    switch (queue_get(queue, &got.seq, &got.content, &got.redelivered)) {
    case QUEUE_LATER:
        return false;
    case QUEUE_NOTHING:
        reply(home, channel, ANSWER_EMPTY, 0, queue->n_consumers);
        return true;
    case QUEUE_GOT:
        break;
    }
    if (!no_ack)
        queue_lend_got(queue, got.seq, channel);
    got.shard = queue->settings.ref.shard;
    got.messages = (uint32_t)queue_ready(queue);
    post_send(home->post, id_worker(channel), &got.head);
    if (no_ack) {
        queue_settle(queue, SETTLE_ACK, &(struct seq_range){got.seq, got.seq}, 1);
        store_look_at_queue(home, queue);
    }
    return true;
}

static void
on_get(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_get *cmd = (const void *)command;
    struct queue *queue = home_queue(home, cmd->queue);
    struct waiting_get *get;

    if (queue == NULL) {
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
        return;
    }
    home_queue_used(home, queue);
    if (list_is_empty(&queue->gets) && answer_get(home, queue, cmd->channel, cmd->no_ack))
        return;
    get = mem_new(struct waiting_get);
    get->channel = cmd->channel;
    get->no_ack = cmd->no_ack;
    list_append(&queue->gets, &get->link);
}

/* A page has come: the gets that waited for it go first. */
static void
on_loaded(void *arg, struct queue *queue)
{
    struct home *home = arg;

    while (!list_is_empty(&queue->gets)) {
        struct waiting_get *get = container_of(queue->gets.next, struct waiting_get, link);

        if (!answer_get(home, queue, get->channel, get->no_ack))
            break;
        list_remove(&get->link);
        free(get);
    }
    if (home->memory.bytes > home->memory_max)
        worker_schedule(home->post->worker, WORKER_GATHER, &home->relief);
}

/* Check, then effect: whoever takes it out of the topology ends it. */
static void
delete_queue(struct home *home, struct queue *queue, const struct cmd_ask *cmd)
{
    size_t messages = queue_ready(queue);

    if (cmd->if_unused && queue->n_consumers > 0)
        reply(home, cmd->channel, ANSWER_IN_USE, 0, 0);
    else if (cmd->if_empty && messages > 0)
        reply(home, cmd->channel, ANSWER_NOT_EMPTY, 0, 0);
    else if (!cmd->removed && !topology_queue_remove(home->topology, queue->id))
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
    else {
        reply(home, cmd->channel, ANSWER_OK, messages, 0); /* before its consumers hear of it */
        home_end_queue(home, queue);
    }
}

/* Whether it is unused or empty counts for nothing, and its messages are not counted, as RabbitMQ
 * has it. */
static void
delete_stream(struct home *home, struct stream_queue *stream, const struct cmd_ask *cmd)
{
    if (!cmd->removed && !topology_queue_remove(home->topology, stream->id)) {
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
        return;
    }
    reply(home, cmd->channel, ANSWER_OK, 0, 0); /* before its consumers hear of it */
    streams_end(home, stream);
}

static void
ask_stream(struct home *home, const struct cmd_ask *cmd)
{
    struct stream_queue *stream = find_stream(home, cmd->queue);

    if (stream == NULL)
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
    else if (cmd->question == QUEUE_DELETE)
        delete_stream(home, stream, cmd);
    else /* a channel does not ask to purge one */
        reply(home, cmd->channel, ANSWER_OK, stream_queue_count(stream), stream->n_consumers);
}

static void
on_ask(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_ask *cmd = (const void *)command;
    struct queue *queue =
        cmd->removed ? idmap_find(&home->queues, cmd->queue) : home_queue(home, cmd->queue);

    if (queue == NULL) {
        ask_stream(home, cmd);
        return;
    }
    switch (cmd->question) {
    case QUEUE_STAT:
        home_queue_used(home, queue);
        reply(home, cmd->channel, ANSWER_OK, queue_ready(queue), queue->n_consumers);
        break;
    case QUEUE_PURGE:
        reply(home, cmd->channel, ANSWER_OK, queue_purge(queue), queue->n_consumers);
        store_look_at_queue(home, queue);
        break;
    case QUEUE_DELETE:
        delete_queue(home, queue, cmd);
        break;
    }
}

/* --- life ------------------------------------------------------------------------------ */

struct home *
home_new(struct post *post, struct topology *topology, const struct home_settings *settings,
         const struct home_ops *ops, void *arg, struct err *err)
{
    struct home *home = mem_new(struct home);

    home->post = post;
    home->topology = topology;
    home->ops = ops;
    home->ops_arg = arg;
    home->memory_max = SIZE_MAX;
    home_life_init(home);
    letters_init(home);
    streams_init(home);
    home_policies_init(home);
    idmap_init(&home->queues);
    idmap_init(&home->consumers);
    if (settings != NULL && !store_open(home, settings, err)) {
        home_free(home);
        return NULL;
    }
    post_handle(post, CMD_publish, on_publish, home);
    post_handle(post, CMD_settle, on_settle, home);
    post_handle(post, CMD_consume, on_consume, home);
    post_handle(post, CMD_cancel, on_cancel, home);
    post_handle(post, CMD_flow, on_flow, home);
    post_handle(post, CMD_credit, on_credit, home);
    post_handle(post, CMD_get, on_get, home);
    post_handle(post, CMD_ask, on_ask, home);
    return home;
}

void
home_free(struct home *home)
{
    struct queue *queue;

    if (home == NULL)
        return;
    letters_fini(home);
    streams_fini(home);
    home_policies_fini(home);
    for (size_t at = 0; (queue = idmap_next(&home->queues, &at)) != NULL;) {
        struct list *link;

        while ((link = list_take_first(&queue->gets)) != NULL)
            free(container_of(link, struct waiting_get, link));
        home_queue_finish(queue);
        queue_fini(queue, !queue->settings.durable);
        free(queue);
    }
    idmap_fini(&home->queues);
    idmap_fini(&home->consumers);
    free(home->targets);
    store_close(home);
    message_account_fini(&home->memory);
    free(home);
}

size_t
home_queue_count(const struct home *home)
{
    return home->queues.count + home->streams.all.count;
}
