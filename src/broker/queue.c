#include "lepus/broker/queue.h"

#include <assert.h>

#include "lepus/base/mem.h"

void
queue_init(struct queue *queue, const struct queue_ref *ref, bool auto_delete,
           const struct queue_ops *ops, void *ops_arg)
{
    *queue = (struct queue){
        .id = ref->id,
        .shard = ref->shard,
        .auto_delete = auto_delete,
        .ops = ops,
        .ops_arg = ops_arg,
    };
    window_init(&queue->window);
    list_init(&queue->line);
    list_init(&queue->all);
}

/* --- consumers ------------------------------------------------------------------------- */

static void
consumer_unref(struct consumer *consumer)
{
    if (--consumer->refs == 0)
        free(consumer);
}

static bool
is_able(const struct consumer *c)
{
    return !c->stopped && (c->prefetch == 0 || c->unacked < c->prefetch) &&
           (!c->has_window || c->window_left > 0);
}

/* Puts an able consumer last among its priority, takes another out of the line. */
static void
stand_in_line(struct consumer *c)
{
    struct list *at = &c->queue->line;

    if (list_is_linked(&c->line))
        list_remove(&c->line);
    if (!is_able(c))
        return;
    while (at->prev != &c->queue->line &&
           container_of(at->prev, struct consumer, line)->priority < c->priority)
        at = at->prev;
    list_insert_before(at, &c->line);
}

static struct consumer *
first_in_line(struct queue *queue)
{
    return list_is_empty(&queue->line) ? NULL
                                       : container_of(queue->line.next, struct consumer, line);
}

/* --- delivering ------------------------------------------------------------------------ */

/* Counts a delivery before it is sent: what is sent may come back with queue_flow. */
static void
count_delivery(struct consumer *c, const struct content *content)
{
    if (!c->no_ack) {
        c->unacked++;
        c->refs++;
    }
    if (c->has_window)
        c->window_left -= (int64_t)delivery_cost_bytes(content);
    if (c->line.next != &c->queue->line || c->line.prev != &c->queue->line || !is_able(c))
        stand_in_line(c); /* unless it is alone in line, and may stay */
}

static void
deliver_taken(struct queue *queue, struct consumer *c, uint64_t seq)
{
    struct slot *slot = window_slot(&queue->window, seq);
    struct message *message = message_ref(slot->message);
    struct content content = message_content(message);

    count_delivery(c, &content);
    queue->ops->deliver(queue->ops_arg, c, seq, slot->redelivered, &content);
    if (c->no_ack)
        window_settle(&queue->window, seq);
    message_unref(&message);
}

/* Restores what always holds: nothing ready while somebody is able. */
static void
deliver_ready(struct queue *queue)
{
    struct consumer *c;

    if (queue->is_delivering)
        return; /* the loop below, further up the stack, goes on */
    queue->is_delivering = true;
    while (queue->window.ready > 0 && (c = first_in_line(queue)) != NULL)
        deliver_taken(queue, c, window_take(&queue->window, c));
    queue->is_delivering = false;
}

bool
queue_publish(struct queue *queue, const struct content *content, struct message **made)
{
    struct consumer *c = queue->window.ready == 0 ? first_in_line(queue) : NULL;
    uint64_t seq;

    if (c != NULL && c->no_ack) {
        count_delivery(c, content);
        queue->ops->deliver(queue->ops_arg, c, 0, false, content);
        return true;
    }
    if (*made == NULL)
        *made = message_new(content);
    if (*made == NULL)
        return false;
    if (c == NULL) {
        window_push(&queue->window, *made);
        return true;
    }
    seq = window_push_taken(&queue->window, *made, c);
    count_delivery(c, content);
    queue->ops->deliver(queue->ops_arg, c, seq, false, content);
    return true;
}

struct consumer *
queue_consume(struct queue *queue, const struct cmd_consume *cmd)
{
    struct consumer *c;

    if (queue->exclusive != NULL || (cmd->exclusive && queue->n_consumers > 0))
        return NULL;
    c = mem_new(struct consumer);
    c->queue = queue;
    c->id = cmd->consumer;
    c->channel = cmd->channel;
    c->priority = cmd->priority;
    c->prefetch = cmd->no_ack ? 0 : cmd->prefetch;
    c->no_ack = cmd->no_ack;
    c->exclusive = cmd->exclusive;
    c->stopped = cmd->stopped;
    c->has_window = cmd->window_bytes > 0;
    c->window_left = cmd->window_bytes;
    c->refs = 1;
    if (c->exclusive)
        queue->exclusive = c;
    queue->had_consumer = true;
    queue->n_consumers++;
    list_append(&queue->all, &c->all);
    return c;
}

void
queue_start(struct consumer *c)
{
    stand_in_line(c);
    deliver_ready(c->queue);
}

void
queue_cancel(struct queue *queue, struct consumer *c)
{
    assert(c->queue == queue);
    if (list_is_linked(&c->line))
        list_remove(&c->line);
    list_remove(&c->all);
    queue->n_consumers--;
    if (queue->exclusive == c)
        queue->exclusive = NULL;
    c->queue = NULL;
    consumer_unref(c);
}

void
queue_flow(struct consumer *c, bool go, uint32_t epoch)
{
    c->stopped = !go;
    if (go)
        c->epoch = epoch;
    stand_in_line(c);
    if (go)
        deliver_ready(c->queue);
}

void
queue_credit(struct consumer *c, uint64_t bytes)
{
    c->window_left += (int64_t)bytes;
    if (!list_is_linked(&c->line)) {
        stand_in_line(c);
        deliver_ready(c->queue);
    }
}

/* --- settling -------------------------------------------------------------------------- */

/* The slot's taker holds one delivery less, and may now be able to take another. */
static void
release_taker(struct slot *slot)
{
    struct consumer *c = slot->taker;

    if (c == NULL)
        return; /* taken by basic.get */
    c->unacked--;
    if (c->queue != NULL && !list_is_linked(&c->line))
        stand_in_line(c);
    consumer_unref(c);
}

static void
settle_one(struct queue *queue, enum settle_how how, uint64_t seq)
{
    struct slot *slot = window_slot(&queue->window, seq);

    if (slot == NULL || slot->state != SLOT_UNACKED)
        return;
    release_taker(slot);
    switch (how) {
    case SETTLE_ACK:
    case SETTLE_DISCARD:
        window_settle(&queue->window, seq);
        break;
    case SETTLE_REQUEUE:
        window_return(&queue->window, seq, true);
        break;
    case SETTLE_UNSENT:
        window_return(&queue->window, seq, false);
        break;
    }
}

void
queue_settle(struct queue *queue, enum settle_how how, const struct seq_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t first = ranges[i].first, last = ranges[i].last;

        for (uint64_t seq = first; seq <= last && seq < queue->window.tail; seq++)
            settle_one(queue, how, seq);
    }
    deliver_ready(queue);
}

uint64_t
queue_get(struct queue *queue, struct content *out, bool *out_redelivered)
{
    uint64_t seq = window_take(&queue->window, NULL);
    const struct slot *slot;

    if (seq == 0)
        return 0;
    slot = window_slot(&queue->window, seq);
    *out = message_content(slot->message);
    *out_redelivered = slot->redelivered;
    return seq;
}

size_t
queue_purge(struct queue *queue)
{
    return window_purge(&queue->window);
}

void
queue_fini(struct queue *queue)
{
    for (uint64_t seq = queue->window.head; seq < queue->window.tail; seq++) {
        struct slot *slot = window_slot(&queue->window, seq);

        if (slot != NULL && slot->state == SLOT_UNACKED)
            release_taker(slot);
    }
    list_each_safe (at, &queue->all)
        queue_cancel(queue, container_of(at, struct consumer, all));
    window_fini(&queue->window);
}

void
queue_check(const struct queue *queue)
{
    uint32_t consumers = 0, able = 0, in_line = 0;
    size_t unacked = 0;
    const struct consumer *before = NULL;

    window_check(&queue->window);
    list_each (at, &queue->all) {
        const struct consumer *c = container_of(at, struct consumer, all);

        consumers++;
        able += is_able(c);
        unacked += c->unacked;
        assert(is_able(c) == list_is_linked(&c->line));
        assert(c->refs == c->unacked + 1);
        assert(!c->exclusive || (queue->exclusive == c && queue->n_consumers == 1));
    }
    list_each (at, &queue->line) {
        const struct consumer *c = container_of(at, struct consumer, line);

        in_line++;
        assert(before == NULL || before->priority >= c->priority);
        before = c;
    }
    assert(consumers == queue->n_consumers && able == in_line);
    assert(unacked <= queue->window.unacked);
    assert(queue->window.ready == 0 || able == 0);
}
