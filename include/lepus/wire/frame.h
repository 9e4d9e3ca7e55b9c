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

#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"

enum {
    FRAME_METHOD = 1,
    FRAME_HEADER = 2,
    FRAME_BODY = 3,
    FRAME_HEARTBEAT = 8,

    FRAME_END = 0xCE,
    FRAME_HEAD_SIZE = 7,
    FRAME_OVERHEAD = 8,       /* head and end */
    FRAME_MIN_SIZE = 4096,    /* the least frame_max that a peer may ask for */
};

struct frame {
    uint8_t type;
    uint16_t channel;
    struct view payload;
};

enum frame_result { FRAME_PARTIAL, FRAME_READY, FRAME_BAD };

/*
 * Reads the frame at the front of `input`. READY: *out_frame is filled and *out_size is what to
 * skip. PARTIAL: *out_size is how many octets the whole frame takes if that can be told yet, else
 * 0. BAD: *err says why (501: bad end, size above frame_max, unknown type); nothing can be read
 * from this connection any more. frame_max 0: no limit.
 */
enum frame_result frame_next(struct view input, uint32_t frame_max, struct frame *out_frame,
                             size_t *out_size, struct err *err);

/* Writes the seven octets in front of a payload of `size` octets. */
static inline uint8_t *
frame_put_head(uint8_t *to, uint8_t type, uint16_t channel, uint32_t size)
{
    to[0] = type;
    to[1] = (uint8_t)(channel >> 8);
    to[2] = (uint8_t)channel;
    to[3] = (uint8_t)(size >> 24);
    to[4] = (uint8_t)(size >> 16);
    to[5] = (uint8_t)(size >> 8);
    to[6] = (uint8_t)size;
    return to + FRAME_HEAD_SIZE;
}

/* The content header frame's payload [0-9-1 §4.2.6.1]: class u16, weight u16, body size u64,
 * property flags u16, properties. */
struct content_header {
    uint16_t class_id;
    uint64_t body_size;
    struct view properties; /* flag word and values, checked by props_check */
};

/* False with 501 or 505 when it is malformed; the properties are checked too. */
bool content_header_decode(struct view payload, struct content_header *out, struct err *err);

#endif
