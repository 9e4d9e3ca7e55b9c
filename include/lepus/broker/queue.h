/*
 * queue: ready messages in order, and the consumers that wait for them.
 *
 * Owned by its home worker, known only to home.c. The messages are in one backlog (backlog.h), or
 * with x-max-priority in one for each priority, of which the highest that has something is served
 * first. Outside, a message's seq says its priority, too: in its top octet (level_seq).
 *
 * A consumer is *able* while it is not stopped by its channel, holds fewer unsettled deliveries
 * than its prefetch, and has window left (octets under way to another worker). Able consumers stand
 * in one line, higher priority first, and within a priority whoever was served last stands last:
 * round-robin.
 *
 * What always holds between two commands: no message is READY while a consumer is able, unless the
 * queue waits for the page that holds the first of them, or for the journal. So a message that
 * arrives goes straight to the first in line, if there is one; without acknowledgement it is never
 * even kept (its delivery has seq 0).
 *
 * Deliveries leave through the struct of functions given to queue_init; they may come back with
 * queue_flow for the same consumer before they return, and with nothing else.
 */
#ifndef LEPUS_BROKER_QUEUE_H
#define LEPUS_BROKER_QUEUE_H

#include "lepus/base/list.h"
#include "lepus/broker/backlog.h"
#include "lepus/broker/command.h"
#include "lepus/broker/dedup.h"
#include "lepus/broker/queue_life.h"
#include "lepus/broker/queue_loans.h"
#include "lepus/broker/queue_rules.h"
#include "lepus/net/worker.h"

struct queue;
struct consumer;

struct queue_ops {
    void (*deliver)(void *arg, const struct consumer *consumer, uint64_t seq, bool redelivered,
                    const struct content *content);
    /* A page has come: queue_get may be asked again. */
    void (*loaded)(void *arg, struct queue *queue);
    /* queue_life.h. The rest is only called where a message expires, or may be dead-lettered. */
    uint64_t (*now_ms)(void *arg);
    /* queue_tidy is wanted at that time; a later wish replaces it. */
    void (*wake)(void *arg, struct queue *queue, uint64_t at_ms);
    /* The message, borrowed until queue_bury, is dead. Nothing of the queue may be called back. */
    void (*died)(void *arg, struct queue *queue, uint64_t seq, enum death why,
                 struct message *message);
    /* The channel is to give the delivery back, or to end (queue_loans.h). Its answer may come, and
     * the queue may end, before this returns. */
    void (*overdue)(void *arg, uint64_t queue, const struct loan *loan);
    struct backlog_ops backlog; /* its `loaded` and `dated` are the queue's own */
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
    bool no_ack, exclusive, has_window;
    uint8_t stopped;     /* reasons, a set of consumer_stop */
    uint64_t timeout_ms; /* its own; RULE_NONE: the queue's */
    struct loan_line loans;
    bool is_leaving; /* cancelled, was the active one; what it holds is on its way back */
};

enum consumer_stop {
    STOPPED_BY_CHANNEL = 1,
    STOPPED_STANDBY = 2, /* x-single-active-consumer: another one is */
};

struct queue_settings {
    struct queue_ref ref;
    bool durable, auto_delete;
    bool delays;    /* an exchange's own: delay.h */
    bool passes_on; /* likewise: everything is due at once */
    struct dedup_settings dedup;
    uint8_t max_priority;
    struct queue_rules rules; /* the queue's from queue_init on */
    uint64_t ticket;          /* of a durable one: until that is committed, nothing in it is safe */
    struct message_account *account; /* its messages'; may be NULL */
    struct page_store *store;        /* may be NULL: stays in memory */
};

struct queue_levels;

struct queue {
    uint64_t id;
    struct queue_settings settings;
    bool had_consumer;
    bool is_delivering;          /* guards deliver_ready against itself */
    struct backlog plain;        /* level 0, and all there is without priorities */
    struct queue_levels *levels; /* the others; NULL without priorities */
    struct list line;            /* able consumers */
    struct list all;
    uint32_t n_consumers;
    uint32_t n_leaving; /* until they are gone nobody is active */
    struct consumer *exclusive;
    struct queue_life life;
    struct dedup *dedup; /* NULL: duplicates are none of its business */
    struct queue_loans loans;
    const struct queue_ops *ops;
    struct backlog_ops backlog_ops;
    void *ops_arg;

    /* The home's: */
    struct list gets; /* basic.gets that wait for a page */
    struct worker_timer timer;
    uint64_t used_ms;    /* with x-expires: when it was last used */
    struct vhost *vhost; /* once it has had a dead-letter exchange: whose it is, ... */
    char *name;          /* ... and its name, owned */
    size_t name_len;
    bool has_told_cycle;
};

/* A message's seq as others know it. */
static inline uint64_t
level_seq(uint8_t level, uint64_t seq)
{
    return (uint64_t)level << 56 | seq;
}

void queue_init(struct queue *queue, const struct queue_settings *settings,
                const struct queue_ops *ops, void *ops_arg);

/* Other rules from now on, which it takes; *rules owns nothing then. Nothing happens by that yet:
 * queue_tidy does what they ask for. Messages that are there keep their deadlines [RabbitMQ]. */
void queue_take_rules(struct queue *queue, struct queue_rules *rules);

/* Drops all messages and detaches all consumers, whose refs of unacked slots end too. With
 * `forget` its pages go as well. */
void queue_fini(struct queue *queue, bool forget);

size_t queue_ready(const struct queue *queue);
size_t queue_unacked(const struct queue *queue);

/* The backlog of a level, made when it is not there yet; NULL when the queue has no such level. */
struct backlog *queue_level(struct queue *queue, uint8_t level);

/* Calls each for every backlog that there is. */
void queue_each_level(struct queue *queue, void (*each)(void *arg, struct backlog *backlog),
                      void *arg);

/* Messages came by backlog_restore_message: they are served from now on. */
void queue_restored(struct queue *queue);

/* One publish, maybe for many queues. */
struct publish {
    const struct content *content;
    bool persistent;
    int priority;           /* -1: not looked at yet */
    struct message *made;   /* once somebody keeps it; the reference is the caller's */
    uint64_t expiration_ms; /* its own; RULE_NONE: it has none */
    bool is_dated;          /* it has one, or went to a queue with a TTL */
    uint64_t expires_ms;    /* of the message yet to be made: wall clock; 0: never */
    bool tidy;              /* told: a queue wants queue_tidy once this is written down */
};

/* Whether its key is that of one that came before: then it is not to be published. Of queues that
 * deduplicate, here and below. */
bool queue_knows(struct queue *queue, const struct dedup_key *key, uint64_t now_ms);

/* The publish with that key was taken; seq as queue_publish told it, 0 when it was passed. */
void queue_remember(struct queue *queue, const struct backlog *backlog, uint64_t seq,
                    const struct dedup_key *key, uint64_t until_ms, uint64_t now_ms);

/* When a message published now, with that expiration (RULE_NONE: without), expires in this queue;
 * 0: never. */
uint64_t queue_deadline(const struct queue *queue, uint64_t expiration_ms, uint64_t now_ms);

/* Whether the queue's limits refuse the publish: to be asked first, when life.rules_publish. */
bool queue_refuses(const struct queue *queue, const struct content *content);

enum queue_kept {
    QUEUE_REFUSED, /* no memory */
    QUEUE_PASSED,  /* delivered, and settled by that */
    QUEUE_KEPT     /* in *out_backlog, as *out_seq */
};

enum queue_kept queue_publish(struct queue *queue, struct publish *publish,
                              struct backlog **out_backlog, uint64_t *out_seq);

/* Attaches, as if stopped until queue_start: what must precede the first delivery is sent in
 * between. NULL when somebody consumes exclusively, or somebody consumes and this one wants to. */
struct consumer *queue_consume(struct queue *queue, const struct cmd_consume *cmd);
void queue_start(struct consumer *consumer);

/* Detaches; frees it when nothing unsettled refers to it. channel_ends: what it holds is about to
 * be given back. */
void queue_cancel(struct queue *queue, struct consumer *consumer, bool channel_ends);

/* With x-single-active-consumer: if the active one has gone, the next one is active from now on,
 * and gets what is ready. When its channel has gone, too, that waits until everything it held is
 * back: so the next one is given the messages in order. */
void queue_succeed(struct queue *queue);

void queue_flow(struct consumer *consumer, bool go, uint32_t epoch);
void queue_credit(struct consumer *consumer, uint64_t bytes);

void queue_settle(struct queue *queue, enum settle_how how, const struct seq_range *ranges,
                  size_t n);

/* Takes the first ready message for basic.get, UNACKED from now; *out is borrowed until the seq is
 * settled. */
enum queue_got { QUEUE_NOTHING, QUEUE_GOT, QUEUE_LATER /* after ops->loaded */ };
enum queue_got queue_get(struct queue *queue, uint64_t *out_seq, struct content *out,
                         bool *out_redelivered);

size_t queue_purge(struct queue *queue);

void queue_check(const struct queue *queue);

#endif
