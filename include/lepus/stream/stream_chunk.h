/*
 * stream_chunk: the octets of a chunk, which is what a stream's log is made of.
 *
 * A chunk is some messages that were written together: as many as came while the chunk before was
 * on its way to the disk, at most STREAM_CHUNK_BYTES of them unless one message is larger. It
 * begins with the 48 octets that the native stream protocol sends in front of a chunk, as they
 * are sent, and ends with the data that it sends behind them. In between stands what is Lepus's
 * own, so that to serve that protocol is to send two pieces of what was read:
 *
 *     header   48   0x50, type u8 = 0, entries u16, records u32, timestamp i64 (ms), epoch u64, id
 *                   u64 (the offset of the first record), crc u32 (CRC-32 of data), data length
 *                   u32, and 8 octets of zero
 *     own      20   magic u32 "LSC1", crc u32 (CRC-32C of header, and of all from here to the
 *                   data), flags u8, filter length u8, exchange length u8, zero u8, durable u64
 *     filter        0 or 16 to 255 octets
 *     exchange      0 to 255 octets
 *     data          the entries
 *
 * All numbers are in network order, as the protocol has them. `durable` is the offset up to which
 * the log was on disk when the chunk was given to the disk: whoever finds a hole in front of it
 * knows that something was lost there that had been promised. `exchange` is where every message of
 * the chunk came from that does not say otherwise.
 *
 *     entry    u32 length (top bit 0), then a message, encoded as AMQP 1.0 (stream_message.h)
 *     batch    1ccc0000 u8 (c: 0 plain, else the compression), records u16, plain length u32,
 *              length u32, then entries, compressed by a client. Flag NATIVE only.
 *
 * The filter is a Bloom filter of the values that the messages carry: bit 0 (the most significant
 * of the first octet) says that some carry none; each value sets two others, chosen by XXH64. A
 * chunk none of whose messages carries a value has no filter.
 *
 * A segment is a file of chunks, one after the other, behind 64 octets:
 *
 *     magic "LEPUSSTR", version u32 = 1, zero u32, stream u64, first offset u64, first timestamp
 *     i64, previous timestamp i64 (of the last chunk of the segment before; 0: there is none),
 *     zero 12, crc u32 (CRC-32C of the 60 before it)
 *
 * Its index, a file beside it, has an entry of 24 octets for the first chunk behind every 16 KiB:
 *
 *     id u64, timestamp i64, position u32, crc u32 (CRC-32C of the 20 before it, begun with the
 *     low half of the segment's first offset, so that no other segment's entry passes)
 *
 * A reader believes nothing: what fails a checksum, or has lengths beyond its limits, is no chunk.
 */
#ifndef LEPUS_STREAM_STREAM_CHUNK_H
#define LEPUS_STREAM_STREAM_CHUNK_H

#include <stdbool.h>

#include "lepus/base/view.h"

enum {
    STREAM_CHUNK_BYTES = 60 * 1024, /* of data; two chunks fit into a reader's block */
    STREAM_ENTRIES_MAX = 4096,      /* what a chunk of ours has; u16 is the format's limit */

    STREAM_HEADER_SIZE = 48, /* the protocol's part of a head */
    STREAM_HEAD_MIN = 68,
    STREAM_HEAD_MAX = STREAM_HEAD_MIN + 255 + 255,
    STREAM_SEGMENT_HEAD = 64,
    STREAM_INDEX_ENTRY = 24,
    STREAM_INDEX_EVERY = 16 * 1024,
    STREAM_FILTER_MIN = 16,
    STREAM_FILTER_MAX = 255,
};

enum stream_chunk_flag {
    STREAM_CHUNK_NATIVE = 1, /* entries as clients of the native protocol sent them */
};

/* A head, decoded. Views are into what was parsed. */
struct stream_chunk {
    uint64_t id; /* offset of the first record */
    int64_t timestamp_ms;
    uint64_t epoch, durable;
    uint32_t records, data_len, data_crc;
    uint16_t entries;
    uint8_t flags; /* of stream_chunk_flag */
    struct view filter, exchange;
    size_t head_len; /* header to exchange */
};

static inline size_t
stream_chunk_size(const struct stream_chunk *chunk)
{
    return chunk->head_len + chunk->data_len;
}

/* What a head with that filter and exchange takes. */
size_t stream_chunk_head_size(size_t filter_len, size_t exchange_len);

/* Writes the head that *chunk tells (head_len aside) to `to`, all of it in front of the data. */
void stream_chunk_put_head(const struct stream_chunk *chunk, uint8_t *to);

enum stream_parse {
    STREAM_CHUNK_GOOD,
    STREAM_CHUNK_SHORT, /* may be one; its head is longer than `at` */
    STREAM_CHUNK_BAD,
};

/* The head at the front of `at`. */
enum stream_parse stream_chunk_parse(struct view at, struct stream_chunk *out);

/* The sum of the data, for `data_crc`. */
uint32_t stream_chunk_sum(struct view data);

/* Where in `octets` the next thing starts that looks like a head (its magic number stands there),
 * from `from` on; octets.len when nothing does. */
size_t stream_chunk_search(struct view octets, size_t from);

/* --- filters --------------------------------------------------------------------------- */

/* A value as a filter sees it. */
struct stream_filter_hash {
    uint64_t hash;
};

struct stream_filter_hash stream_filter_hash(struct view value);
void stream_filter_add(uint8_t *filter, size_t len, const struct stream_filter_hash *value);
void stream_filter_add_none(uint8_t *filter); /* a message without a value */

/* Whether a chunk with this filter (empty: none) may hold a message with one of the values, or,
 * with match_unfiltered, one without any. */
bool stream_filter_matches(struct view filter, const struct stream_filter_hash *values, size_t n,
                           bool match_unfiltered);

/* --- segments and their index ------------------------------------------------------------ */

struct stream_segment_head {
    uint64_t stream, first_offset;
    int64_t first_timestamp, previous_timestamp;
};

void stream_segment_put_head(const struct stream_segment_head *head, uint8_t *to);

enum stream_parse stream_segment_parse(struct view at, struct stream_segment_head *out,
                                       uint32_t *out_version); /* what it says, even if BAD */

struct stream_index_entry {
    uint64_t id;
    int64_t timestamp_ms;
    uint32_t position;
};

void stream_index_put(const struct stream_index_entry *entry, uint64_t first_offset, uint8_t *to);
bool stream_index_get(const uint8_t *at, uint64_t first_offset, struct stream_index_entry *out);

#endif
