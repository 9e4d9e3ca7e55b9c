/*
 * props: the properties of basic content, kept raw [0-9-1 §4.2.6.1, basic class].
 *
 * A `struct view` of properties is the flag word (two octets, exactly one: the continuation bit
 * is refused) and the values in the table's order. Looked at only when a feature needs one; a
 * look skips what stands before it and builds nothing.
 */
#ifndef LEPUS_WIRE_PROPS_H
#define LEPUS_WIRE_PROPS_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/view.h"
#include "lepus/wire/octets.h"

/* name, type, bit of the flag word */
/* clang-format off */
#define PROPERTIES(P)                          \
    P(content_type,     shortstr,  15)         \
    P(content_encoding, shortstr,  14)         \
    P(headers,          table,     13)         \
    P(delivery_mode,    u8,        12)         \
    P(priority,         u8,        11)         \
    P(correlation_id,   shortstr,  10)         \
    P(reply_to,         shortstr,   9)         \
    P(expiration,       shortstr,   8)         \
    P(message_id,       shortstr,   7)         \
    P(timestamp,        u64,        6)         \
    P(type,             shortstr,   5)         \
    P(user_id,          shortstr,   4)         \
    P(app_id,           shortstr,   3)         \
    P(cluster_id,       shortstr,   2)
/* clang-format on */

enum property {
#define P(name, type, bit) PROP_##name = 1 << (bit),
    PROPERTIES(P)
#undef P
};

/* Whether flags and values fit each other to the last octet, the bits 0 and 1 are clear, and the
 * headers table is well-formed. The others may be called on checked properties only. */
bool props_check(struct view properties);

static inline uint16_t
props_flags(struct view properties)
{
    return properties.len < 2 ? (uint16_t)0 : be_u16(properties.at);
}

static inline bool
props_has(struct view properties, enum property property)
{
    return (props_flags(properties) & property) != 0;
}

/* The value of a string property, the contents of headers, or the one or eight octets of a
 * number as they stand; false when it is absent. */
bool props_find(struct view properties, enum property property, struct view *out_value);

/* Appends the properties with one property set to `value`, which is what props_find would give of
 * it (added or replaced), or, with value NULL, removed. A string longer than 255 octets is cut;
 * a table must be well-formed. */
void props_copy_with(struct buf *to, struct view properties, enum property property,
                     const struct view *value);

#endif
