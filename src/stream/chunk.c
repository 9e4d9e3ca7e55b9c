#include "lepus/stream/stream_chunk.h"

#include <assert.h>
#include <xxhash.h>

#include "crc32_priv.h"
#include "lepus/base/crc32c.h"
#include "lepus/wire/cursor.h"

enum {
    START = 0x50, /* the protocol's magic number 5, version 0 */
    OWN_MAGIC = 0x4C534331,
    VERSION = 1,

    AT_OWN = STREAM_HEADER_SIZE,
    AT_SUM = AT_OWN + 4,
    AT_SUMMED = AT_OWN + 8,

    SEGMENT_SUMMED = STREAM_SEGMENT_HEAD - 4,
    INDEX_SUMMED = STREAM_INDEX_ENTRY - 4,
};

static const char segment_magic[8] = {'L', 'E', 'P', 'U', 'S', 'S', 'T', 'R'};

size_t
stream_chunk_head_size(size_t filter_len, size_t exchange_len)
{
    return STREAM_HEAD_MIN + filter_len + exchange_len;
}

static uint32_t
sum_of_head(const uint8_t *head, size_t len)
{
    uint32_t sum = crc32c(0, head, STREAM_HEADER_SIZE);

    return crc32c(sum, head + AT_SUMMED, len - AT_SUMMED);
}

void
stream_chunk_put_head(const struct stream_chunk *chunk, uint8_t *to)
{
    size_t len = stream_chunk_head_size(chunk->filter.len, chunk->exchange.len);
    uint8_t *at = to;

    at = be_put_u8(at, START);
    at = be_put_u8(at, 0);
    at = be_put_u16(at, chunk->entries);
    at = be_put_u32(at, chunk->records);
    at = be_put_u64(at, (uint64_t)chunk->timestamp_ms);
    at = be_put_u64(at, chunk->epoch);
    at = be_put_u64(at, chunk->id);
    at = be_put_u32(at, chunk->data_crc);
    at = be_put_u32(at, chunk->data_len);
    at = be_put_u64(at, 0); /* the protocol's trailer and filter, which are never sent */
    assert(at == to + AT_OWN);
    at = be_put_u32(at, OWN_MAGIC);
    at = be_put_u32(at, 0);
    at = be_put_u8(at, chunk->flags);
    at = be_put_u8(at, (uint8_t)chunk->filter.len);
    at = be_put_u8(at, (uint8_t)chunk->exchange.len);
    at = be_put_u8(at, 0);
    at = be_put_u64(at, chunk->durable);
    if (chunk->filter.len > 0)
        memcpy(at, chunk->filter.at, chunk->filter.len);
    at += chunk->filter.len;
    if (chunk->exchange.len > 0)
        memcpy(at, chunk->exchange.at, chunk->exchange.len);
    be_put_u32(to + AT_SUM, sum_of_head(to, len));
}

enum stream_parse
stream_chunk_parse(struct view octets, struct stream_chunk *out)
{
    const uint8_t *at = octets.at;
    size_t filter_len, exchange_len;

    if (octets.len < STREAM_HEAD_MIN)
        return STREAM_CHUNK_SHORT;
    if (at[0] != START || at[1] != 0 || be_u32(at + AT_OWN) != OWN_MAGIC)
        return STREAM_CHUNK_BAD;
    filter_len = at[AT_SUMMED + 1];
    exchange_len = at[AT_SUMMED + 2];
    out->head_len = stream_chunk_head_size(filter_len, exchange_len);
    if (octets.len < out->head_len)
        return STREAM_CHUNK_SHORT;
    if (be_u32(at + AT_SUM) != sum_of_head(at, out->head_len))
        return STREAM_CHUNK_BAD;
    out->entries = be_u16(at + 2);
    out->records = be_u32(at + 4);
    out->timestamp_ms = (int64_t)be_u64(at + 8);
    out->epoch = be_u64(at + 16);
    out->id = be_u64(at + 24);
    out->data_crc = be_u32(at + 32);
    out->data_len = be_u32(at + 36);
    out->flags = at[AT_SUMMED];
    out->durable = be_u64(at + AT_SUMMED + 4);
    out->filter = view_of(at + STREAM_HEAD_MIN, filter_len);
    out->exchange = view_of(at + STREAM_HEAD_MIN + filter_len, exchange_len);
    /* Each record takes an octet at least; offsets never wrap. */
    if (out->records == 0 || out->entries == 0 || out->id > INT64_MAX ||
        (out->flags & ~STREAM_CHUNK_NATIVE) != 0)
        return STREAM_CHUNK_BAD;
    return STREAM_CHUNK_GOOD;
}

uint32_t
stream_chunk_sum(struct view data)
{
    return crc32_of(0, data.at, data.len);
}

size_t
stream_chunk_search(struct view octets, size_t from)
{
    static const uint8_t magic[4] = {'L', 'S', 'C', '1'};
    const uint8_t *end = octets.at + octets.len, *at;

    if (octets.len < AT_OWN + sizeof(magic) || from > octets.len - AT_OWN - sizeof(magic))
        return octets.len;
    at = octets.at + from + AT_OWN;
    at = memmem(at, (size_t)(end - at), magic, sizeof(magic));
    return at == NULL ? octets.len : (size_t)(at - octets.at) - AT_OWN;
}

struct stream_filter_hash
stream_filter_hash(struct view value)
{
    return (struct stream_filter_hash){XXH64(value.at, value.len, 0)};
}

/* Two bits of 1 to 8 len - 1. */
static void
bits_of(size_t len, const struct stream_filter_hash *value, size_t out_bits[2])
{
    uint32_t n = (uint32_t)len * 8 - 1;

    out_bits[0] = (uint32_t)value->hash % n + 1;
    out_bits[1] = (uint32_t)(value->hash >> 32) % n + 1;
}

static uint8_t
mask_of(size_t bit)
{
    return (uint8_t)(0x80 >> (bit & 7));
}

void
stream_filter_add(uint8_t *filter, size_t len, const struct stream_filter_hash *value)
{
    size_t bits[2];

    bits_of(len, value, bits);
    filter[bits[0] / 8] |= mask_of(bits[0]);
    filter[bits[1] / 8] |= mask_of(bits[1]);
}

void
stream_filter_add_none(uint8_t *filter)
{
    filter[0] |= mask_of(0);
}

bool
stream_filter_matches(struct view filter, const struct stream_filter_hash *values, size_t n,
                      bool match_unfiltered)
{
    size_t bits[2];

    if (filter.len == 0)
        return match_unfiltered;
    if (match_unfiltered && (filter.at[0] & mask_of(0)) != 0)
        return true;
    for (size_t i = 0; i < n; i++) {
        bits_of(filter.len, &values[i], bits);
        if ((filter.at[bits[0] / 8] & mask_of(bits[0])) != 0 &&
            (filter.at[bits[1] / 8] & mask_of(bits[1])) != 0)
            return true;
    }
    return false;
}

void
stream_segment_put_head(const struct stream_segment_head *head, uint8_t *to)
{
    memset(to, 0, STREAM_SEGMENT_HEAD);
    memcpy(to, segment_magic, sizeof(segment_magic));
    be_put_u32(to + 8, VERSION);
    be_put_u64(to + 16, head->stream);
    be_put_u64(to + 24, head->first_offset);
    be_put_u64(to + 32, (uint64_t)head->first_timestamp);
    be_put_u64(to + 40, (uint64_t)head->previous_timestamp);
    be_put_u32(to + SEGMENT_SUMMED, crc32c(0, to, SEGMENT_SUMMED));
}

enum stream_parse
stream_segment_parse(struct view octets, struct stream_segment_head *out, uint32_t *out_version)
{
    const uint8_t *at = octets.at;

    *out_version = 0;
    if (octets.len < STREAM_SEGMENT_HEAD)
        return STREAM_CHUNK_SHORT;
    if (memcmp(at, segment_magic, sizeof(segment_magic)) != 0)
        return STREAM_CHUNK_BAD;
    *out_version = be_u32(at + 8);
    if (be_u32(at + SEGMENT_SUMMED) != crc32c(0, at, SEGMENT_SUMMED))
        return STREAM_CHUNK_BAD;
    out->stream = be_u64(at + 16);
    out->first_offset = be_u64(at + 24);
    out->first_timestamp = (int64_t)be_u64(at + 32);
    out->previous_timestamp = (int64_t)be_u64(at + 40);
    return *out_version == VERSION ? STREAM_CHUNK_GOOD : STREAM_CHUNK_BAD;
}

void
stream_index_put(const struct stream_index_entry *entry, uint64_t first_offset, uint8_t *to)
{
    be_put_u64(to, entry->id);
    be_put_u64(to + 8, (uint64_t)entry->timestamp_ms);
    be_put_u32(to + 16, entry->position);
    be_put_u32(to + INDEX_SUMMED, crc32c((uint32_t)first_offset, to, INDEX_SUMMED));
}

bool
stream_index_get(const uint8_t *at, uint64_t first_offset, struct stream_index_entry *out)
{
    if (be_u32(at + INDEX_SUMMED) != crc32c((uint32_t)first_offset, at, INDEX_SUMMED))
        return false;
    out->id = be_u64(at);
    out->timestamp_ms = (int64_t)be_u64(at + 8);
    out->position = be_u32(at + 16);
    return true;
}
