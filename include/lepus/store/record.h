/*
 * record: what is written about messages and queues, as octets.
 *
 * One encoding for the frames of the journal and the blocks of pages. A *run* is one frame's
 * payload or one block; within it a message may say "exchange, routing key and properties as the
 * one before" and "the same queue, the next seq", which is what makes a small message cost a few
 * octets. A run is therefore written by one `struct record_writer` and read from its start.
 *
 *   record    kind u8 and what the kind says; varints are LEB128, unsigned
 *
 *   PUBLISH   a message and where it went: flags u8, then
 *               unless SAME_HEAD  exchange, routing key, properties, each varint length and octets
 *               if EXPIRES        expires_ms u64, wall clock
 *               varint length of the body, body
 *               unless NEXT_SEQ   varint n, then n times: varint queue id, varint seq
 *             flags: SAME_HEAD 1; NEXT_SEQ 2, one target: the last record's last queue, its seq
 *             + 1; EXPIRES 4; PERSISTENT 8; REDELIVERED 16, was delivered before it was written
 *
 *   SETTLE    varint queue id, varint n, then n times: varint first, varint last - first
 *
 *   DELIVERED varint queue id, varint seq: what is below may have been delivered
 *
 *   STATE     varint queue id, varint length, octets: all that there is to know of the queue apart
 *             from what later records say; its owner's business
 *
 *   FORGET    varint queue id: the queue is gone
 *
 *   FAILED    varint queue id, varint seq, varint n, varint due_ms: so many deliveries of that
 *             message have failed; it waits until due_ms, wall clock, or with 0 it does not wait
 *
 * In a page's block only PUBLISH occurs, its one target being the queue itself: after the first
 * record, mostly NEXT_SEQ.
 *
 * A reader believes nothing: a length beyond the run's end, an unknown kind or flag, a varint of
 * more than ten octets, a name longer than 255 octets end it, and it says where.
 */
#ifndef LEPUS_STORE_RECORD_H
#define LEPUS_STORE_RECORD_H

#include "lepus/base/buf.h"
#include "lepus/base/err.h"
#include "lepus/wire/content.h"

enum record_kind {
    RECORD_PUBLISH = 1,
    RECORD_SETTLE,
    RECORD_DELIVERED,
    RECORD_STATE,
    RECORD_FORGET,
    RECORD_FAILED,
};

struct record_message {
    struct content content; /* blob: of a message in memory; NULL when read */
    uint64_t expires_ms;    /* wall clock; 0: never */
    bool persistent, redelivered;
};

struct record_target {
    uint64_t queue, seq;
};

/* Both ends belong to it. */
struct seq_range {
    uint64_t first, last;
};

/* Where the last PUBLISH of the run left off. Zeroed, it begins a run. */
struct record_writer {
    size_t head_at;  /* in the buffer: the exchange's length varint of the last full head */
    size_t head_len; /* octets of that head; 0: none yet */
    struct record_target last;
};

/* Each appends one record to the run in `to`. */
void record_publish(struct record_writer *writer, struct buf *to,
                    const struct record_message *message, const struct record_target *targets,
                    size_t n);
void record_settle(struct buf *to, uint64_t queue, const struct seq_range *ranges, size_t n);
void record_delivered(struct buf *to, uint64_t queue, uint64_t seq);
void record_state(struct buf *to, uint64_t queue, struct view state);
void record_forget(struct buf *to, uint64_t queue);
void record_failed(struct buf *to, uint64_t queue, uint64_t seq, uint64_t failures,
                   uint64_t due_ms);

struct record {
    enum record_kind kind;
    uint64_t queue;                /* all but PUBLISH */
    uint64_t seq;                  /* DELIVERED, FAILED */
    uint64_t failures, due_ms;     /* FAILED */
    struct record_message message; /* PUBLISH */
    struct view state;             /* STATE */
    size_t n;                      /* targets of PUBLISH, ranges of SETTLE, not taken yet */
    bool is_next_seq;              /* of PUBLISH: its target is not written out */
};

struct record_reader {
    struct view run;
    size_t at;
    bool has_head;
    struct view exchange, routing_key, properties;
    struct record_target last;
    bool bad;
};

void record_reader_init(struct record_reader *reader, struct view run);

/* The next record, its views into the run; false at the end or when the rest is bad. Targets or
 * ranges of a record are taken, all of them, before the next one. */
bool record_next(struct record_reader *reader, struct record *out);
bool record_next_target(struct record_reader *reader, struct record *record,
                        struct record_target *out);
bool record_next_range(struct record_reader *reader, struct record *record, struct seq_range *out);

/* Varints, for states too. */
void record_varint(struct buf *to, uint64_t value);
bool record_read_varint(struct view from, size_t *at, uint64_t *out);

#endif
