#include "lepus/broker/home.h"

#include <assert.h>

#include "lepus/base/map.h"
#include "lepus/base/mem.h"
#include "lepus/broker/queue.h"

struct home {
    struct post *post;
    struct topology *topology;
    struct idmap queues;    /* by id */
    struct idmap consumers; /* by id: those attached to a queue here */
};

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
        .shard = consumer->queue->shard,
        .epoch = consumer->epoch,
        .redelivered = redelivered,
        .content = *content,
    };

    post_send(home->post, id_worker(consumer->id), &cmd.head);
}

static const struct queue_ops queue_ops = {.deliver = on_deliver};

/* --- queues ---------------------------------------------------------------------------- */

/* The topology's word that the queue exists is enough: it is made when first spoken to. */
static struct queue *
make_queue(struct home *home, uint64_t id)
{
    struct queue_description description;
    struct queue *queue;

    if (!topology_queue_describe(home->topology, id, &description))
        return NULL;
    queue = mem_new(struct queue);
    queue_init(queue, &description.ref, description.auto_delete, &queue_ops, home);
    queue_description_fini(&description);
    idmap_add(&home->queues, id, queue);
    return queue;
}

static struct queue *
find_queue(struct home *home, uint64_t id)
{
    struct queue *queue = idmap_find(&home->queues, id);

    return queue != NULL ? queue : make_queue(home, id);
}

/* The queue is out of the topology: it ends here, and its consumers are told. */
static void
end_queue(struct home *home, struct queue *queue)
{
    idmap_remove(&home->queues, queue->id);
    list_each (at, &queue->all) {
        struct consumer *consumer = container_of(at, struct consumer, all);
        struct cmd_cancelled cmd = {.head.kind = CMD_cancelled, .consumer = consumer->id};

        idmap_remove(&home->consumers, consumer->id);
        post_send(home->post, id_worker(consumer->id), &cmd.head);
    }
    queue_fini(queue);
    free(queue);
}

static void
end_if_abandoned(struct home *home, struct queue *queue)
{
    if (!queue->auto_delete || !queue->had_consumer || queue->n_consumers > 0)
        return;
    if (topology_queue_remove(home->topology, queue->id))
        end_queue(home, queue);
}

/* --- commands -------------------------------------------------------------------------- */

static void
on_publish(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_publish *cmd = (const void *)command;
    const struct queue_ref *targets = (const void *)cmd->targets.at;
    size_t n = cmd->targets.len / sizeof(*targets);
    struct message *made = NULL;
    bool ok = true;

    for (size_t i = 0; i < n; i++) {
        struct queue *queue = find_queue(home, targets[i].id);

        if (queue != NULL && !queue_publish(queue, &cmd->content, &made))
            ok = false;
    }
    message_unref(&made);
    if (cmd->channel != 0) {
        struct cmd_confirm confirm = {
            .head.kind = CMD_confirm,
            .channel = cmd->channel,
            .confirm = cmd->confirm,
            .ok = ok,
        };

        post_send(home->post, id_worker(cmd->channel), &confirm.head);
    }
}

static void
on_settle(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_settle *cmd = (const void *)command;
    struct queue *queue = idmap_find(&home->queues, cmd->queue);

    if (queue != NULL)
        queue_settle(queue, cmd->how, (const void *)cmd->ranges.at,
                     cmd->ranges.len / sizeof(struct seq_range));
}

static void
on_consume(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_consume *cmd = (const void *)command;
    struct queue *queue = find_queue(home, cmd->queue);
    struct consumer *consumer;

    if (queue == NULL) {
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
        return;
    }
    consumer = queue_consume(queue, cmd);
    if (consumer == NULL) {
        reply(home, cmd->channel, ANSWER_EXCLUSIVE, 0, 0);
        return;
    }
    idmap_add(&home->consumers, consumer->id, consumer);
    reply(home, cmd->channel, ANSWER_OK, queue->window.ready, queue->n_consumers);
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

        queue_cancel(queue, consumer);
        end_if_abandoned(home, queue);
    }
    reply(home, cmd->channel, ANSWER_OK, 0, 0);
}

static void
on_flow(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_flow *cmd = (const void *)command;
    struct consumer *consumer = idmap_find(&home->consumers, cmd->consumer);

    if (consumer != NULL)
        queue_flow(consumer, cmd->go, cmd->epoch);
}

static void
on_credit(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_credit *cmd = (const void *)command;
    struct consumer *consumer = idmap_find(&home->consumers, cmd->consumer);

    if (consumer != NULL)
        queue_credit(consumer, cmd->bytes);
}

static void
on_get(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_get *cmd = (const void *)command;
    struct queue *queue = find_queue(home, cmd->queue);
    struct cmd_got got = {.head.kind = CMD_got, .channel = cmd->channel, .queue = cmd->queue};

    if (queue == NULL) {
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
        return;
    }
    got.seq = queue_get(queue, &got.content, &got.redelivered);
    if (got.seq == 0) {
        reply(home, cmd->channel, ANSWER_EMPTY, 0, queue->n_consumers);
        return;
    }
    got.shard = queue->shard;
    got.messages = (uint32_t)queue->window.ready;
    post_send(home->post, id_worker(cmd->channel), &got.head);
    if (cmd->no_ack)
        queue_settle(queue, SETTLE_ACK, &(struct seq_range){got.seq, got.seq}, 1);
}

/* Check, then effect: whoever takes it out of the topology ends it. */
static void
delete_queue(struct home *home, struct queue *queue, const struct cmd_ask *cmd)
{
    size_t messages = queue->window.ready;

    if (cmd->if_unused && queue->n_consumers > 0)
        reply(home, cmd->channel, ANSWER_IN_USE, 0, 0);
    else if (cmd->if_empty && messages > 0)
        reply(home, cmd->channel, ANSWER_NOT_EMPTY, 0, 0);
    else if (!cmd->removed && !topology_queue_remove(home->topology, queue->id))
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
    else {
        reply(home, cmd->channel, ANSWER_OK, messages, 0); /* before its consumers hear of it */
        end_queue(home, queue);
    }
}

static void
on_ask(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_ask *cmd = (const void *)command;
    struct queue *queue =
        cmd->removed ? idmap_find(&home->queues, cmd->queue) : find_queue(home, cmd->queue);

    if (queue == NULL) {
        reply(home, cmd->channel, ANSWER_GONE, 0, 0);
        return;
    }
    switch (cmd->question) {
    case QUEUE_STAT:
        reply(home, cmd->channel, ANSWER_OK, queue->window.ready, queue->n_consumers);
        break;
    case QUEUE_PURGE:
        reply(home, cmd->channel, ANSWER_OK, queue_purge(queue), queue->n_consumers);
        break;
    case QUEUE_DELETE:
        delete_queue(home, queue, cmd);
        break;
    }
}

/* --- life ------------------------------------------------------------------------------ */

struct home *
home_new(struct post *post, struct topology *topology)
{
    struct home *home = mem_new(struct home);

    home->post = post;
    home->topology = topology;
    idmap_init(&home->queues);
    idmap_init(&home->consumers);
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
    for (size_t at = 0; (queue = idmap_next(&home->queues, &at)) != NULL;) {
        queue_fini(queue);
        free(queue);
    }
    idmap_fini(&home->queues);
    idmap_fini(&home->consumers);
    free(home);
}

size_t
home_queue_count(const struct home *home)
{
    return home->queues.count;
}
