/*
 * command: what channels and queues say to each other.
 *
 * A channel belongs to its connection's worker, a queue to its home worker, and neither ever
 * holds a pointer to the other: they send commands, addressed by ids that are never reused. A
 * command for something that is gone is dropped by its receiver. When both ends are on the same
 * worker, post_send is a direct call of the receiver's handler: the receiver must not keep the
 * views, and the sender must be ready for what the handler sends back before it returns.
 * Otherwise the command goes into the mail to the other worker as plain octets, and its views
 * point into the mail when it is handled. Between one channel and one queue commands arrive in
 * the order they were sent, both ways.
 *
 * Ids carry the worker they live on in their top octet (id_worker): a channel's and a consumer's
 * are given out by the connection's worker. A queue's id does not; who speaks to a queue knows
 * its shard and asks topology_worker_of.
 */
#ifndef LEPUS_BROKER_COMMAND_H
#define LEPUS_BROKER_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/view.h"
#include "lepus/broker/message.h"
#include "lepus/broker/topology.h"
#include "lepus/store/record.h"

static inline uint64_t
id_make(unsigned worker, uint64_t number)
{
    return (uint64_t)worker << 56 | number;
}

static inline unsigned
id_worker(uint64_t id)
{
    return (unsigned)(id >> 56);
}

/* The channel of what a worker's home publishes itself: dead letters. It is answered by
 * cmd_home_confirm. */
static inline uint64_t
id_of_home(unsigned worker)
{
    return id_make(worker, UINT64_C(1) << 55);
}

static inline bool
id_is_home(uint64_t channel)
{
    return (channel & UINT64_C(1) << 55) != 0;
}

struct command {
    uint16_t kind; /* enum command_kind */
};

/* --- channel to queue ------------------------------------------------------------------ */

/* Puts the content into each target queue of this home. */
struct cmd_publish {
    struct command head;
    uint64_t channel;    /* who wants a confirm, or 0 */
    uint64_t confirm;    /* its number of this publish */
    struct view targets; /* an array of struct queue_ref, all of this home */
    struct content content;
};

#define CONSUMER_TIMEOUT_MAX_MS INT64_C(315360000000) /* ten years */

enum settle_how {
    SETTLE_ACK,
    SETTLE_DISCARD, /* rejected, not to be requeued */
    SETTLE_RETURN,  /* nacked: back to its place, redelivered */
    SETTLE_REQUEUE, /* the same: rejected, or its channel has ended */
    SETTLE_OVERDUE, /* the same: its consumer's timeout is over */
    SETTLE_UNSENT,  /* back to its place as if it had never been delivered */
};

/* Settles deliveries of one queue. */
struct cmd_settle {
    struct command head;
    uint64_t queue;
    uint64_t channel; /* who wants a confirm, of number 0, when it is safe (a transaction); or 0 */
    enum settle_how how;
    struct view ranges; /* an array of struct seq_range */
};

/* Attaches a consumer; answered by cmd_reply. */
struct cmd_consume {
    struct command head;
    uint64_t queue, channel, consumer;
    bool no_ack, exclusive;
    bool stopped;          /* starts as after flow(stop) */
    int32_t priority;      /* x-priority */
    bool has_timeout;      /* x-consumer-timeout is given */
    uint64_t timeout_ms;   /* then: for each delivery to be settled; 0: none */
    uint32_t prefetch;     /* unsettled deliveries it may have; 0: any number */
    uint32_t window_bytes; /* octets that may be under way to another worker; 0: no such limit */
    struct view arguments; /* a checked table; of a stream's consumer one that stream_arguments.h
                              can read, and this and the next are looked at for these only */
    struct view group;     /* its group; empty: none */
};

/* Detaches a consumer; its unsettled deliveries stay the channel's, or with channel_ends come back
 * now. Answered when channel != 0, after everything that was delivered before. */
struct cmd_cancel {
    struct command head;
    uint64_t queue, channel, consumer;
    bool channel_ends;
};

/* The channel can (not) take more for this consumer. With go, deliveries carry the new epoch;
 * see cmd_deliver. */
struct cmd_flow {
    struct command head;
    uint64_t queue, consumer;
    bool go;
    uint32_t epoch;
};

/* The channel has taken this many octets of what was under way. */
struct cmd_credit {
    struct command head;
    uint64_t queue, consumer;
    uint64_t bytes;
};

/* One message, if there is one: answered by cmd_got or by cmd_reply. */
struct cmd_get {
    struct command head;
    uint64_t queue, channel;
    bool no_ack;
};

enum queue_question { QUEUE_STAT, QUEUE_PURGE, QUEUE_DELETE };

/* Counts, purge, delete: answered by cmd_reply when channel != 0. */
struct cmd_ask {
    struct command head;
    uint64_t queue, channel;
    enum queue_question question;
    bool if_unused, if_empty; /* of QUEUE_DELETE */
    bool removed;             /* of QUEUE_DELETE: the sender took it out of the topology already */
};

/* --- queue to channel ------------------------------------------------------------------ */

/* The publishes with these numbers are in all their queues of one home, as safe as they are to be,
 * or each was refused by one. */
struct cmd_confirm {
    struct command head;
    uint64_t channel, first;
    uint32_t count;
    bool ok;
};

/* The same for a home that published: `home` is an id_of_home. */
struct cmd_home_confirm {
    struct command head;
    uint64_t home, first;
    uint32_t count;
    bool ok;
};

/*
 * One message for a consumer. A channel that cannot take it gives it back with SETTLE_UNSENT and
 * must then give back everything of that consumer until the epoch that its next flow(go) named:
 * so nothing overtakes what went back.
 */
struct cmd_deliver {
    struct command head;
    uint64_t consumer;
    uint64_t queue, seq;
    uint32_t shard;
    uint32_t epoch;
    bool redelivered;
    struct content content;
};

/* What a delivery takes of a consumer's window: both ends count alike. */
static inline uint64_t
delivery_cost_bytes(const struct content *content)
{
    return 64 + content->exchange.len + content->routing_key.len + content->properties.len +
           content->body.len;
}

/* Answer to cmd_get. */
struct cmd_got {
    struct command head;
    uint64_t channel;
    uint64_t queue, seq;
    uint32_t shard;
    bool redelivered;
    uint32_t messages; /* ready ones left behind */
    struct content content;
};

enum queue_answer {
    ANSWER_OK,
    ANSWER_EMPTY,     /* of cmd_get */
    ANSWER_GONE,      /* there is no such queue (any more) */
    ANSWER_EXCLUSIVE, /* somebody consumes exclusively, or somebody consumes and we wanted to */
    ANSWER_IN_USE,    /* if_unused */
    ANSWER_NOT_EMPTY, /* if_empty */
    ANSWER_FULL,      /* it has as many consumers as it can have */
};

/* Answer to cmd_consume, cmd_cancel, cmd_get, cmd_ask. */
struct cmd_reply {
    struct command head;
    uint64_t channel;
    enum queue_answer answer;
    uint32_t messages, consumers; /* ready ones, or those purged or deleted */
};

/* A delivery has not been settled in time. A channel that holds it gives it back with
 * SETTLE_OVERDUE, or closes. */
struct cmd_overdue {
    struct command head;
    uint64_t channel;
    uint64_t queue, seq;
    uint64_t timeout_ms;
};

/* The consumer's queue is gone, and the consumer with it. */
struct cmd_cancelled {
    struct command head;
    uint64_t consumer;
};

/* --- channel to channel ---------------------------------------------------------------- */

/* A reply through amq.rabbitmq.reply-to to the channel that asked. */
struct cmd_direct_reply {
    struct command head;
    uint64_t channel;
    uint64_t secret; /* as it was in the name; another one is dropped */
    struct content content;
};

/* Is the connection that owns an exclusive queue still well? Asked by a channel that wants the
 * queue's name. */
struct cmd_probe {
    struct command head;
    uint64_t connection, channel;
};

/* alive: well. Otherwise it is ending, and its exclusive queues with it: ask again shortly. */
struct cmd_probed {
    struct command head;
    uint64_t channel;
    bool alive;
};

/* Is somebody listening for direct replies there? (passive declare of such a name) */
struct cmd_direct_probe {
    struct command head;
    uint64_t target, secret;
    uint64_t channel; /* answered by cmd_reply: ANSWER_OK or ANSWER_GONE */
};

/* --- server to workers ----------------------------------------------------------------- */

/* An accepted socket, taken; limits_take_socket was asked for it. */
struct cmd_adopt {
    struct command head;
    int fd;
    bool is_tls; /* it came to a TLS listener */
};

enum server_order {
    ORDER_STOP,  /* close every connection with 320 */
    ORDER_BLOCK, /* an alarm: hold publishers back */
    ORDER_UNBLOCK,
    ORDER_LEAVE_VHOST, /* it is deleted: close its connections with 320 */
};

struct cmd_order {
    struct command head;
    enum server_order order;
    uint32_t vhost;     /* of ORDER_LEAVE_VHOST: its id */
    struct view reason; /* of ORDER_BLOCK */
};

/* kind, its first view and how many follow it contiguously; CONTENT: the last four are
 * a struct content's, whose blob travels as a reference. */
/* clang-format off */
#define COMMANDS(C)                                        \
    C(publish,      targets,            5, CONTENT)        \
    C(settle,       ranges,             1, PLAIN)          \
    C(consume,      arguments,          2, PLAIN)          \
    C(cancel,       head,               0, PLAIN)          \
    C(flow,         head,               0, PLAIN)          \
    C(credit,       head,               0, PLAIN)          \
    C(get,          head,               0, PLAIN)          \
    C(ask,          head,               0, PLAIN)          \
    C(confirm,      head,               0, PLAIN)          \
    C(home_confirm, head,               0, PLAIN)          \
    C(deliver,      content.exchange,   4, CONTENT)        \
    C(got,          content.exchange,   4, CONTENT)        \
    C(reply,        head,               0, PLAIN)          \
    C(cancelled,    head,               0, PLAIN)          \
    C(overdue,      head,               0, PLAIN)          \
    C(direct_reply, content.exchange,   4, CONTENT)        \
    C(direct_probe, head,               0, PLAIN)          \
    C(probe,        head,               0, PLAIN)          \
    C(probed,       head,               0, PLAIN)          \
    C(adopt,        head,               0, PLAIN)          \
    C(order,        reason,             1, PLAIN)
/* clang-format on */

enum command_kind {
#define C(name, first, views, kind) CMD_##name,
    COMMANDS(C)
#undef C
        CMD_COUNT
};

#endif
