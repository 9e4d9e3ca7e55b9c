/*
 * queue: ready messages in order, and the consumers that wait for them.
 *
 * Owned by its home worker, known only to home.c. The messages are in a window (window.h). A
 * consumer is *able* while it is not stopped by its channel, holds fewer unsettled deliveries
 * than its prefetch, and has window left (octets under way to another worker). Able consumers stand
 * in one line, higher priority first, and within a priority whoever was served last stands last:
 * round-robin.
 *
 * What always holds between two commands: no message is READY while a consumer is able. So a
 * message that arrives goes straight to the first in line, if there is one; without
 * acknowledgement it is never even kept (its delivery has seq 0).
 *
 * Deliveries leave through the struct of functions given to queue_init; they may come back
 * with queue_flow for the same consumer before they return, and with nothing else.
 */
#ifndef LEPUS_BROKER_QUEUE_H
#define LEPUS_BROKER_QUEUE_H

#include "lepus/base/list.h"
#include "lepus/broker/command.h"
#include "lepus/broker/window.h"

struct queue;
struct consumer;

struct queue_ops {
    void (*deliver)(void *arg, const struct consumer *consumer, uint64_t seq, bool redelivered,
                    const struct content *content);
};

struct consumer {
    struct queue *queue; /* NULL once it is cancelled */
    struct list line;    /* linked while able */
    struct list all;     /* queue's consumers */
    uint64_t id, channel;
    int64_t window_left; /* only looked at when has_window */
    uint32_t prefetch, unacked;
    uint32_t refs; /* one for being attached, one for each unacked slot */
    uint32_t epoch;
    int32_t priority;
    bool no_ack, exclusive, stopped, has_window;
};

struct queue {
    uint64_t id;
    uint32_t shard;
    bool auto_delete;
    bool had_consumer;
    bool is_delivering; /* guards deliver_ready against itself */
    struct window window;
    struct list line; /* able consumers */
    struct list all;
    uint32_t n_consumers;
    struct consumer *exclusive;
    const struct queue_ops *ops;
    void *ops_arg;
};

void queue_init(struct queue *queue, const struct queue_ref *ref, bool auto_delete,
                const struct queue_ops *ops, void *ops_arg);

/* Drops all messages and detaches all consumers, whose refs of unacked slots end too. */
void queue_fini(struct queue *queue);

/* Delivers or keeps. *made is the message if somebody made it already from this content (one
 * publish, many queues), and is filled when it is made here; the reference is the caller's.
 * False when there is no memory to keep it. */
bool queue_publish(struct queue *queue, const struct content *content, struct message **made);

/* Attaches, as if stopped until queue_start: what must precede the first delivery is sent in
 * between. NULL when somebody consumes exclusively, or somebody consumes and this one wants to. */
struct consumer *queue_consume(struct queue *queue, const struct cmd_consume *cmd);
void queue_start(struct consumer *consumer);

/* Detaches; frees it when nothing unsettled refers to it. */
void queue_cancel(struct queue *queue, struct consumer *consumer);

void queue_flow(struct consumer *consumer, bool go, uint32_t epoch);
void queue_credit(struct consumer *consumer, uint64_t bytes);

void queue_settle(struct queue *queue, enum settle_how how, const struct seq_range *ranges,
                  size_t n);

/* Takes the first ready message for basic.get, UNACKED from now; 0 when there is none. *out is
 * borrowed until the seq is settled. */
uint64_t queue_get(struct queue *queue, struct content *out, bool *out_redelivered);

size_t queue_purge(struct queue *queue);

void queue_check(const struct queue *queue);

#endif
