#include "lepus/store/record.h"

#include <assert.h>
#include <string.h>

enum {
    SAME_HEAD = 1,
    NEXT_SEQ = 2,
    EXPIRES = 4,
    PERSISTENT = 8,
    REDELIVERED = 16,
    ALL_FLAGS = 31,
    VARINT_MAX = 10,
    NAME_MAX_LEN = 255,
};

/* --- varints --------------------------------------------------------------------------- */

static inline uint8_t *
put_varint(uint8_t *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

static inline uint8_t *
put_view(uint8_t *to, struct view v)
{
    if (v.len > 0)
        memcpy(to, v.at, v.len);
    return to + v.len;
}

static inline uint8_t *
put_u64le(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        *to++ = (uint8_t)(value >> 8 * i);
    return to;
}

void
record_varint(struct buf *to, uint64_t value)
{
    uint8_t *at = buf_reserve(to, VARINT_MAX);

    if (at != NULL)
        to->len += (size_t)(put_varint(at, value) - at);
}

bool
record_read_varint(struct view from, size_t *at, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && *at < from.len; shift += 7) {
        uint8_t octet = from.at[(*at)++];

        if (shift == 63 && octet > 1)
            return false;
        value |= (uint64_t)(octet & 0x7f) << shift;
        if (octet < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* --- writing --------------------------------------------------------------------------- */

/* Does the last full head in the buffer say the same? Lengths up to 127 are one octet, so that a
 * short head is compared piece by piece without decoding. */
static bool
is_same_head(const struct record_writer *writer, const struct buf *to, const struct content *c)
{
    size_t at = writer->head_at, end = writer->head_at + writer->head_len;
    const struct view parts[] = {c->exchange, c->routing_key, c->properties};
    struct view head = view_of(to->at, end);

    if (writer->head_len == 0)
        return false;
    for (size_t i = 0; i < 3; i++) {
        uint64_t len;

        if (!record_read_varint(head, &at, &len) || len != parts[i].len || len > end - at)
            return false;
        if (len > 0 && memcmp(to->at + at, parts[i].at, len) != 0)
            return false;
        at += len;
    }
    return at == end;
}

void
record_publish(struct record_writer *writer, struct buf *to, const struct record_message *message,
               const struct record_target *targets, size_t n)
{
    const struct content *c = &message->content;
    bool same_head = is_same_head(writer, to, c);
    bool next_seq =
        n == 1 && targets[0].queue == writer->last.queue && targets[0].seq == writer->last.seq + 1;
    size_t room = 2 + 5 * VARINT_MAX + 8 + c->body.len +
                  (same_head ? 0 : c->exchange.len + c->routing_key.len + c->properties.len) +
                  (next_seq ? 0 : n * 2 * VARINT_MAX);
    uint8_t *start, *at;

    assert(n > 0);
    start = at = buf_reserve(to, room);
    if (at == NULL)
        return;
    *at++ = RECORD_PUBLISH;
    *at++ = (uint8_t)((same_head ? SAME_HEAD : 0) | (next_seq ? NEXT_SEQ : 0) |
                      (message->expires_ms != 0 ? EXPIRES : 0) |
                      (message->persistent ? PERSISTENT : 0) |
                      (message->redelivered ? REDELIVERED : 0));
    if (!same_head) {
        writer->head_at = to->len + (size_t)(at - start);
        at = put_view(put_varint(at, c->exchange.len), c->exchange);
        at = put_view(put_varint(at, c->routing_key.len), c->routing_key);
        at = put_view(put_varint(at, c->properties.len), c->properties);
        writer->head_len = to->len + (size_t)(at - start) - writer->head_at;
    }
    if (message->expires_ms != 0)
        at = put_u64le(at, message->expires_ms);
    at = put_view(put_varint(at, c->body.len), c->body);
    if (!next_seq) {
        at = put_varint(at, n);
        for (size_t i = 0; i < n; i++)
            at = put_varint(put_varint(at, targets[i].queue), targets[i].seq);
    }
    writer->last = targets[n - 1];
    to->len += (size_t)(at - start);
}

void
record_settle(struct buf *to, uint64_t queue, const struct seq_range *ranges, size_t n)
{
    uint8_t *start = buf_reserve(to, 1 + (2 + 2 * n) * VARINT_MAX), *at = start;

    if (at == NULL)
        return;
    *at++ = RECORD_SETTLE;
    at = put_varint(put_varint(at, queue), n);
    for (size_t i = 0; i < n; i++)
        at = put_varint(put_varint(at, ranges[i].first), ranges[i].last - ranges[i].first);
    to->len += (size_t)(at - start);
}

void
record_delivered(struct buf *to, uint64_t queue, uint64_t seq)
{
    uint8_t *start = buf_reserve(to, 1 + 2 * VARINT_MAX), *at = start;

    if (at == NULL)
        return;
    *at++ = RECORD_DELIVERED;
    at = put_varint(put_varint(at, queue), seq);
    to->len += (size_t)(at - start);
}

void
record_state(struct buf *to, uint64_t queue, struct view state)
{
    uint8_t *start = buf_reserve(to, 1 + 2 * VARINT_MAX + state.len), *at = start;

    if (at == NULL)
        return;
    *at++ = RECORD_STATE;
    at = put_view(put_varint(put_varint(at, queue), state.len), state);
    to->len += (size_t)(at - start);
}

void
record_forget(struct buf *to, uint64_t queue)
{
    uint8_t *start = buf_reserve(to, 1 + VARINT_MAX), *at = start;

    if (at == NULL)
        return;
    *at++ = RECORD_FORGET;
    at = put_varint(at, queue);
    to->len += (size_t)(at - start);
}

void
record_failed(struct buf *to, uint64_t queue, uint64_t seq, uint64_t failures, uint64_t due_ms)
{
    uint8_t *start = buf_reserve(to, 1 + 4 * VARINT_MAX), *at = start;

    if (at == NULL)
        return;
    *at++ = RECORD_FAILED;
    at = put_varint(put_varint(at, queue), seq);
    at = put_varint(put_varint(at, failures), due_ms);
    to->len += (size_t)(at - start);
}

/* --- reading --------------------------------------------------------------------------- */

void
record_reader_init(struct record_reader *reader, struct view run)
{
    *reader = (struct record_reader){.run = run};
}

static bool
bad(struct record_reader *reader)
{
    reader->bad = true;
    return false;
}

static bool
read_varint(struct record_reader *reader, uint64_t *out)
{
    return record_read_varint(reader->run, &reader->at, out) || bad(reader);
}

static bool
read_octets(struct record_reader *reader, uint64_t len, struct view *out)
{
    if (len > reader->run.len - reader->at)
        return bad(reader);
    *out = view_of(reader->run.at + reader->at, (size_t)len);
    reader->at += (size_t)len;
    return true;
}

static bool
read_string(struct record_reader *reader, uint64_t max, struct view *out)
{
    uint64_t len;

    if (!read_varint(reader, &len))
        return false;
    return len <= max ? read_octets(reader, len, out) : bad(reader);
}

static bool
read_head(struct record_reader *reader)
{
    if (!read_string(reader, NAME_MAX_LEN, &reader->exchange) ||
        !read_string(reader, NAME_MAX_LEN, &reader->routing_key) ||
        !read_string(reader, UINT32_MAX, &reader->properties))
        return false;
    reader->has_head = true;
    return true;
}

static bool
read_expires(struct record_reader *reader, uint64_t *out)
{
    struct view octets;

    if (!read_octets(reader, 8, &octets))
        return false;
    *out = 0;
    for (int i = 0; i < 8; i++)
        *out |= (uint64_t)octets.at[i] << 8 * i;
    return *out != 0 || bad(reader);
}

static bool
read_publish(struct record_reader *reader, struct record *out)
{
    struct view flag;
    uint64_t n = 1;
    uint8_t flags;

    if (!read_octets(reader, 1, &flag))
        return false;
    flags = flag.at[0];
    if ((flags & ~ALL_FLAGS) != 0)
        return bad(reader);
    if ((flags & SAME_HEAD) == 0 ? !read_head(reader) : !reader->has_head)
        return bad(reader);
    if ((flags & EXPIRES) != 0 && !read_expires(reader, &out->message.expires_ms))
        return false;
    if (!read_string(reader, UINT32_MAX, &out->message.content.body))
        return false;
    out->is_next_seq = (flags & NEXT_SEQ) != 0;
    if (out->is_next_seq ? reader->last.queue == 0 || reader->last.seq == UINT64_MAX
                         : !read_varint(reader, &n) || n == 0 || n > reader->run.len - reader->at)
        return bad(reader);
    out->message.content.exchange = reader->exchange;
    out->message.content.routing_key = reader->routing_key;
    out->message.content.properties = reader->properties;
    out->message.persistent = (flags & PERSISTENT) != 0;
    out->message.redelivered = (flags & REDELIVERED) != 0;
    out->n = (size_t)n;
    return true;
}

static bool
read_settle(struct record_reader *reader, struct record *out)
{
    uint64_t n;

    if (!read_varint(reader, &out->queue) || !read_varint(reader, &n))
        return false;
    out->n = (size_t)n;
    return n <= reader->run.len - reader->at || bad(reader);
}

bool
record_next(struct record_reader *reader, struct record *out)
{
    *out = (struct record){0};
    if (reader->bad || reader->at >= reader->run.len)
        return false;
    out->kind = (enum record_kind)reader->run.at[reader->at++];
    switch (out->kind) {
    case RECORD_PUBLISH:
        return read_publish(reader, out);
    case RECORD_SETTLE:
        return read_settle(reader, out);
    case RECORD_DELIVERED:
        return read_varint(reader, &out->queue) && read_varint(reader, &out->seq);
    case RECORD_STATE:
        return read_varint(reader, &out->queue) && read_string(reader, UINT32_MAX, &out->state);
    case RECORD_FORGET:
        return read_varint(reader, &out->queue);
    case RECORD_FAILED:
        return read_varint(reader, &out->queue) && read_varint(reader, &out->seq) &&
               read_varint(reader, &out->failures) && read_varint(reader, &out->due_ms);
    }
    return bad(reader);
}

bool
record_next_target(struct record_reader *reader, struct record *record, struct record_target *out)
{
    if (record->n == 0 || reader->bad)
        return false;
    record->n--;
    if (record->is_next_seq)
        *out = (struct record_target){reader->last.queue, reader->last.seq + 1};
    else if (!read_varint(reader, &out->queue) || !read_varint(reader, &out->seq) ||
             out->queue == 0)
        return bad(reader);
    reader->last = *out;
    return true;
}

bool
record_next_range(struct record_reader *reader, struct record *record, struct seq_range *out)
{
    uint64_t length;

    if (record->n == 0 || reader->bad)
        return false;
    record->n--;
    if (!read_varint(reader, &out->first) || !read_varint(reader, &length) ||
        length > UINT64_MAX - out->first)
        return bad(reader);
    out->last = out->first + length;
    return true;
}
