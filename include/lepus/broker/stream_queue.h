/*
 * stream_queue: a queue of type stream: a log (stream_log.h), and the consumers that read it.
 *
 * Owned by its home worker, known only to home_streams.c; to channels it is a queue like any other,
 * spoken to by the same commands. What is different:
 *
 *   publish    is appended to the log, whatever the message's delivery mode, and safe when the log
 *              says so (ops.safe). There are no limits, deadlines or dead letters: retention drops
 *              whole segments
 *   consumer   has a reader of its own (stream_reader.h) and never takes anything away. It is
 *              *able* while its channel has not stopped it, it holds fewer unsettled deliveries
 *              than its prefetch, and it has window left; and its reader *waits* when what comes
 *              next is not in memory. Between two commands no consumer is able whose reader has
 *              something, unless it has had its turn's share (its task goes on)
 *   settle     ack, nack and reject are the same: a credit. Nothing is ever delivered again to the
 *              same consumer, except what its channel could not take (SETTLE_UNSENT): then the
 *              reader begins anew there once the channel says go
 *   seq        of a delivery: the consumer's slot in the upper 15 bits, whether its epoch is odd in
 *              the next, the offset in the lower 48. A slot is given out again when nothing
 *              unsettled names it any more. What comes back unsent is of the consumer's epoch, or
 *              of the one before: the latter was on its way when the reader began anew, and comes
 *              again anyway
 *
 * Memory: at most two blocks a consumer, whatever is in the stream and however slow it is; see
 * stream_reader.h. With a group, 16 octets for each unsettled delivery.
 *
 * Groups. A consumer may be a member of a group, by name (x-stream-group), or, with
 * x-stream-automatic-offset-tracking, of the one that is called as its tag is. Of a group's members
 * one is active, the one that came first; the others stand by until it is cancelled and holds
 * nothing unsettled any more (at the end of its channel what it holds is given back). The group's
 * offset (stream_offsets.h) is where it goes on: where its first member began, then the first
 * delivery that was not settled, or what follows the last one. It moves when the active member
 * settles (ack, or nack and reject without requeue), is on disk half a second later, and is where a
 * member begins that becomes active; the place that the member asked for (x-stream-offset) counts
 * only while the group has none. So each message is processed at least once by the group.
 */
#ifndef LEPUS_BROKER_STREAM_QUEUE_H
#define LEPUS_BROKER_STREAM_QUEUE_H

#include "lepus/base/list.h"
#include "lepus/base/map.h"
#include "lepus/broker/command.h"
#include "lepus/broker/stream_arguments.h"
#include "lepus/stream/stream_offsets.h"

struct stream_queue;
struct stream_consumer;

struct stream_queue_ops {
    /* May come back with stream_queue_flow or a settle of this delivery before it returns. */
    void (*deliver)(void *arg, const struct stream_consumer *consumer, uint64_t seq,
                    const struct content *content);
    void (*safe)(void *arg, struct stream_queue *stream, uint64_t end);
    /* Writing fails, or works again (why NULL). */
    void (*trouble)(void *arg, struct stream_queue *stream, const struct err *why);
    uint64_t (*wall_ms)(void *arg);
};

struct stream_queue_settings {
    struct queue_ref ref;
    struct view name; /* copied */
    struct stream_rules rules;
    uint64_t ticket; /* until that is committed, nothing in it is safe */
    const char *dir; /* that holds the folders of streams */
    struct file_system files;
    struct worker *worker; /* NULL: a test, which has manual disks */
    struct disk *disk, *reads;
    uint64_t epoch;
};

struct stream_queue {
    uint64_t id;
    struct queue_ref ref;
    uint64_t ticket;
    char *name; /* owned */
    struct stream_log *log;
    struct stream_offsets *offsets;
    struct worker *worker;
    struct list consumers; /* those attached, by their order */
    uint32_t n_consumers;
    struct idmap slots; /* all, until nothing unsettled names them */
    uint16_t last_slot;
    const struct stream_queue_ops *ops;
    void *ops_arg;
    struct { /* the properties written last, and what of: messages resemble each other */
        struct buf from, to, headers;
        size_t offset_at; /* in `to` */
    } props;

    /* The home's: */
    struct list uncommitted; /* linked until the ticket is committed */
    size_t unsafe_bytes;     /* as it was counted last */
    bool is_in_trouble;
    struct stream_due *due; /* a ring: confirms that wait for the log */
    size_t due_head, due_count, due_mask;
};

struct stream_consumer {
    struct stream_queue *stream;
    struct list all; /* of the stream's consumers while attached */
    uint64_t id, channel;
    uint16_t slot;
    bool is_attached, is_stopped;
    bool is_active;  /* it is not standing by */
    bool is_waiting; /* its reader is */
    bool is_serving; /* guards serve against itself */
    bool has_window, has_rewind;
    bool is_placed; /* its group has an offset */
    uint32_t prefetch, unacked;
    uint32_t epoch;
    int64_t window_left;          /* only looked at when has_window */
    uint64_t rewind;              /* what came back unsent: the lowest offset */
    uint64_t next;                /* what follows the last delivery */
    struct stream_reader *reader; /* NULL: standing by, or detached */
    struct worker_task again;

    uint8_t *arguments; /* of its consume, copied: where it begins, its filters */
    size_t arguments_len;
    /* Of a member of a group. An active member that is cancelled is active no more. */
    char *group; /* NULL: it is in none */
    size_t group_len;
    uint64_t given_back; /* the lowest that was requeued: the group goes on there, whatever comes */
    struct stream_held { /* unsettled deliveries below it, by offset */
        uint64_t offset;
        bool is_settled;
    } * held; /* [first_held, n_held) of held_size */
    size_t first_held, n_held, held_size, held_live;
};

enum { STREAM_EPOCH_BIT = 48, STREAM_SLOT_BIT = 49, STREAM_SLOT_MAX = 0x7fff };

/* No I/O. */
struct stream_queue *stream_queue_new(const struct stream_queue_settings *settings,
                                      const struct stream_queue_ops *ops, void *arg);

/* At the start, on the main thread: what a former run left. */
bool stream_queue_recover(struct stream_queue *stream, struct err *err);

/* Readers go first, then all the rest. With `forget` its files go as well. */
void stream_queue_free(struct stream_queue *stream, bool forget);

/* Messages that can be read. */
uint64_t stream_queue_count(const struct stream_queue *stream);

/* Attaches, as if stopped until stream_queue_start. NULL: no slot is left. */
struct stream_consumer *stream_queue_consume(struct stream_queue *stream,
                                             const struct cmd_consume *cmd);
void stream_queue_start(struct stream_consumer *consumer);

/* Detaches; freed when nothing unsettled names it. */
void stream_queue_cancel(struct stream_consumer *consumer);

void stream_queue_flow(struct stream_consumer *consumer, bool go, uint32_t epoch);
void stream_queue_credit(struct stream_consumer *consumer, uint64_t bytes);
void stream_queue_settle(struct stream_queue *stream, enum settle_how how,
                         const struct seq_range *ranges, size_t n);

/* Recounts. Tests. */
void stream_queue_check(const struct stream_queue *stream);

#endif
