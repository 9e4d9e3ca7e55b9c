/*
 * stream_reader: a cursor in a stream.
 *
 * Made at a place (first, last, next, an offset, a time), it gives message after message, as views,
 * and never one that is not committed. Owned by the log's worker, which it never blocks: when what
 * comes next is not in memory, stream_reader_next says WAIT and ops.more tells when to ask again.
 *
 * Where octets come from: at the tail, from the chunks that were just written, which all readers
 * there share; behind it, from blocks of STREAM_BLOCK_BYTES that the disk's thread reads, one
 * being decoded while the next one is on its way. A block begins at a chunk and is used up to its
 * last whole one; a chunk larger than a block makes the block larger for once. At the tail a
 * reader holds no block. So a reader costs at most two blocks, and the page cache is shared.
 *
 * With filters, the disk's thread reads the heads of chunks alone and jumps over the data of those
 * whose filter says no. What a chunk's filter lets pass is looked at message by message where the
 * message itself has its value (those published over AMQP 0-9-1 do); those of native clients pass
 * with their chunk.
 *
 * A reader stands in one segment, which stays on disk as long as it does. One that was overtaken by
 * retention goes on at the first offset that is kept.
 *
 * What is damaged is told (ops.damaged: the offsets lost, and why, with file and position) and
 * passed over: a chunk whose data fails its sum; from a damaged head to the next good one. When
 * reading itself fails it is tried again, a second later; what cannot be read three times is passed
 * over, with the rest of its segment.
 */
#ifndef LEPUS_STREAM_STREAM_READER_H
#define LEPUS_STREAM_STREAM_READER_H

#include "lepus/stream/stream_log.h"

struct stream_reader;

enum { STREAM_BLOCK_BYTES = 128 * 1024 };

enum stream_from {
    STREAM_FROM_FIRST,
    STREAM_FROM_LAST, /* the start of the last chunk; when there is none, as NEXT */
    STREAM_FROM_NEXT,
    STREAM_FROM_OFFSET, /* nothing below it; what is not kept any more: as FIRST */
    STREAM_FROM_TIME,   /* the first chunk that was written then or later */
};

struct stream_reader_settings {
    enum stream_from from;
    uint64_t offset;
    int64_t time_ms;
    const struct view *filters; /* copied; n 0: everything passes */
    size_t n_filters;
    bool match_unfiltered;
};

struct stream_reader_ops {
    /* Ask again: once for each WAIT. Never from within a call to the reader; may free it. */
    void (*more)(void *arg);
    /* Offsets [first, last] will not come. Borrowed for the call; may not free. */
    void (*damaged)(void *arg, uint64_t first, uint64_t last, const struct err *why);
};

struct stream_message {
    uint64_t offset;
    int64_t timestamp_ms; /* of its chunk */
    struct content content;
};

struct stream_reader *stream_reader_new(struct stream_log *log,
                                        const struct stream_reader_settings *settings,
                                        const struct stream_reader_ops *ops, void *arg);
void stream_reader_free(struct stream_reader *reader); /* NULL is fine */

enum stream_read { STREAM_READ_MESSAGE, STREAM_READ_WAIT };

/* The next message; its views are borrowed until the next call to the reader, or until the owner's
 * callback returns if that is sooner. One call may pass over a chunk's worth of messages that do
 * not match. */
enum stream_read stream_reader_next(struct stream_reader *reader, struct stream_message *out);

/* The rest of the current chunk, or the next one, whole, as it is sent to clients of the native
 * protocol: header, then data. Not mixed with stream_reader_next. */
enum stream_read stream_reader_next_chunk(struct stream_reader *reader, struct stream_chunk *out,
                                          struct view *out_header, struct view *out_data);

/* The offset of the next message as far as is known, and how many records lay in entries that
 * cannot be read here: batches that a client compressed. */
uint64_t stream_reader_offset(const struct stream_reader *reader);
uint64_t stream_reader_skipped(const struct stream_reader *reader);

/* Octets of memory that the reader holds. */
size_t stream_reader_bytes(const struct stream_reader *reader);

#endif
