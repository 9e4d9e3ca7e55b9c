/*
 * frame: the envelope of everything on an AMQP 0-9-1 connection [0-9-1 §4.2.3].
 *
 *     type u8 | channel u16 | size u32 | payload, size octets | end 0xCE
 *
 * frame_next looks at the front of a byte view and says whether a whole frame stands there. It
 * allocates nothing and keeps nothing; payloads are views into the caller's bytes. frame_max
 * counts the eight octets of overhead; as RabbitMQ does, a payload of up to frame_max octets is
 * let pass, because clients get that wrong.
 */
#ifndef LEPUS_WIRE_FRAME_H
#define LEPUS_WIRE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/wire/octets.h"

enum {
    FRAME_METHOD = 1,
    FRAME_HEADER = 2,
    FRAME_BODY = 3,
    FRAME_HEARTBEAT = 8,

    FRAME_END = 0xCE,
    FRAME_HEAD_SIZE = 7,
    FRAME_OVERHEAD = 8,    /* head and end */
    FRAME_MIN_SIZE = 4096, /* the least frame_max that a peer may ask for */
};

struct frame {
    uint8_t type;
    uint16_t channel;
    struct view payload;
};

enum frame_result { FRAME_PARTIAL, FRAME_READY, FRAME_BAD };

/* What is wrong with the head of a frame that frame_next would not take at a glance: FRAME_BAD
 * with *err, or FRAME_READY for a head that is fine after all. */
enum frame_result frame_judge_head(const uint8_t *head, uint32_t frame_max, struct err *err);

/* FRAME_BAD and a text about the octet that should have been FRAME_END. */
enum frame_result frame_refuse_end(const struct frame *frame, uint8_t end, struct err *err);

/*
 * Reads the frame at the front of `input`. READY: *out_frame is filled and *out_size is what to
 * skip. PARTIAL: *out_size is how many octets the whole frame takes if that can be told yet, else
 * 0. BAD: *err says why (501: bad end, size above frame_max, unknown type, heartbeat with a
 * payload); nothing can be read from this connection any more. frame_max 0: no limit. A head is
 * judged as soon as its seven octets are there.
 */
static inline enum frame_result
frame_next(struct view input, uint32_t frame_max, struct frame *out_frame, size_t *out_size,
           struct err *err)
{
    const uint8_t *at = input.at;
    uint32_t size;

    *out_size = 0;
    if (input.len < FRAME_HEAD_SIZE)
        return FRAME_PARTIAL;
    size = be_u32(at + 3);
    /* One comparison for the three types that matter; heartbeats take the longer way. */
    if (__builtin_expect((uint8_t)(at[0] - FRAME_METHOD) > FRAME_BODY - FRAME_METHOD ||
                             (frame_max != 0 && size > frame_max),
                         0))
        if (frame_judge_head(at, frame_max, err) == FRAME_BAD)
            return FRAME_BAD;
    *out_size = (size_t)size + FRAME_OVERHEAD;
    if (input.len - FRAME_HEAD_SIZE <= size)
        return FRAME_PARTIAL;
    out_frame->type = at[0];
    out_frame->channel = be_u16(at + 1);
    out_frame->payload = view_of(at + FRAME_HEAD_SIZE, size);
    if (__builtin_expect(at[FRAME_HEAD_SIZE + size] != FRAME_END, 0))
        return frame_refuse_end(out_frame, at[FRAME_HEAD_SIZE + size], err);
    return FRAME_READY;
}

/* Writes the seven octets in front of a payload of `size` octets. */
static inline uint8_t *
frame_put_head(uint8_t *to, uint8_t type, uint16_t channel, uint32_t size)
{
    to = be_put_u8(to, type);
    to = be_put_u16(to, channel);
    return be_put_u32(to, size);
}

/*
 * The content header frame's payload [0-9-1 §4.2.6.1]:
 *
 *     class u16 | weight u16 | body size u64 | property flags u16 | properties
 *
 * Class basic is the only one whose methods carry content.
 */
enum { CONTENT_HEADER_HEAD_SIZE = 12 };

struct content_header {
    uint16_t class_id;
    uint64_t body_size;
    struct view properties; /* flag word and values, checked by props_check */
};

/* False with 505 for another class or weight than basic content has, with 501 for what is cut
 * short or has malformed properties. */
bool content_header_decode(struct view payload, struct content_header *out, struct err *err);

#endif
