/*
 * stream_message: an AMQP 0-9-1 message as the AMQP 1.0 message that a stream keeps, and back.
 *
 * Clients of the native stream protocol read entries as AMQP 1.0; so an entry is written as one,
 * with RabbitMQ's mapping of the properties, once, at publish. What comes back over AMQP 0-9-1 is
 * what was published, octet for octet: where the mapping would lose something (a decimal, a nested
 * header, header names whose order the mapping changes, a cluster-id, ...) the properties go in
 * once more as they were, in the annotation x-0-9-1-properties, which then counts.
 *
 *     header                  delivery_mode 1, 2 → durable; priority; expiration → ttl. Left out
 *                             when there is none of the three
 *     message annotations     x-exchange, unless the chunk's head tells it (stream_chunk.h);
 *                             x-routing-key, unless it is the stream's name, as it is for what
 *                             comes through the default exchange; type → x-basic-type; headers
 *                             x-… as they are; CC → x-cc; x-0-9-1-properties. Left out when empty
 *     properties              message_id, user_id, reply_to (/queues/…), correlation_id,
 *                             content_type, content_encoding, timestamp, app_id → group-id
 *     application properties  the other headers; an empty table makes an empty map
 *     data                    the body
 *
 * RabbitMQ writes header and annotations always, which costs 57 octets and the names; here a
 * message without properties that came through the default exchange costs 9 (its length, and the
 * data section's head), one with a routing key of its own 32 and the key. Field by field (types,
 * and what becomes of what) it is RabbitMQ's mapping but for this: a message_id that is a UUID
 * stays a string, delivery_mode absent stays absent.
 *
 * Both ways are quick when messages resemble each other: an encoder keeps the sections it wrote
 * last, and what they were made of; a decoder the sections it read last, and what came out. Then a
 * message costs a comparison and a copy.
 *
 * From native clients anything may come: what is no AMQP 1.0 message is delivered as it is; what
 * has another body than data, as its sections, with the type `amqp-1.0`, as RabbitMQ does.
 */
#ifndef LEPUS_STREAM_STREAM_MESSAGE_H
#define LEPUS_STREAM_STREAM_MESSAGE_H

#include "lepus/base/buf.h"
#include "lepus/wire/content.h"

enum {
    STREAM_DATA_HEAD_MAX = 8,       /* 00 53 75 b0 and a length */
    STREAM_FILTER_VALUE_MAX = 4096, /* longer values count as none */
};

struct stream_encoder {
    struct view stream;  /* its name, borrowed for good */
    struct buf key;      /* exchange, routing key, properties of the last message */
    struct buf sections; /* what became of them */
    size_t exchange_len, routing_key_len;
    bool tells_exchange, has_filter;
    struct view filter; /* into key */
};

void stream_encoder_init(struct stream_encoder *encoder, struct view stream);
void stream_encoder_fini(struct stream_encoder *encoder);

/* The sections in front of the body, borrowed until the next call; their filter value, if they
 * carry one (at NULL: none), likewise. tells_exchange: the chunk's head does not. The properties
 * are checked ones. at NULL: there is no memory. */
struct view stream_encode(struct stream_encoder *encoder, const struct content *content,
                          bool tells_exchange, struct view *out_filter);

/* The head of the data section for a body of that size. */
static inline uint8_t *
stream_put_data_head(uint8_t *to, size_t body_len)
{
    to[0] = 0x00;
    to[1] = 0x53;
    to[2] = 0x75;
    if (body_len <= UINT8_MAX) {
        to[3] = 0xa0;
        to[4] = (uint8_t)body_len;
        return to + 5;
    }
    to[3] = 0xb0;
    to[4] = (uint8_t)(body_len >> 24);
    to[5] = (uint8_t)(body_len >> 16);
    to[6] = (uint8_t)(body_len >> 8);
    to[7] = (uint8_t)body_len;
    return to + 8;
}

static inline size_t
stream_data_head_size(size_t body_len)
{
    return body_len <= UINT8_MAX ? 5 : 8;
}

struct stream_decoder {
    struct view stream; /* its name, borrowed for good */
    struct buf sections, properties, headers, scratch;
    struct view exchange, routing_key; /* into sections; at NULL: not told */
    struct view told;                  /* the properties: into sections, or the buffer's */
    struct view filter;                /* into sections; at NULL: none */
    bool is_native;
};

void stream_decoder_init(struct stream_decoder *decoder, struct view stream);
void stream_decoder_fini(struct stream_decoder *decoder);

/*
 * Decodes an entry (behind its length) of a chunk: *out's views are into the entry, or borrowed
 * from the decoder until the next call. exchange: the chunk's. is_native: whether a native client
 * wrote it. out_filter: its x-stream-filter-value, at NULL: none that can be seen. What is no
 * message has the entry as its body, and no properties.
 */
enum stream_decoded { STREAM_DECODED, STREAM_NO_MESSAGE, STREAM_NO_MEMORY };

enum stream_decoded stream_decode(struct stream_decoder *decoder, struct view entry,
                                  struct view exchange, bool is_native, struct content *out,
                                  struct view *out_filter);

#endif
