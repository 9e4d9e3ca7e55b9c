/*
 * amqp10: AMQP 1.0 values, read in place and written piece by piece, as far as messages want them.
 *
 * A value is a constructor octet and what it says; the upper half of the constructor tells its
 * size [AMQP 1.0 §1.2]. Numbers are written at full width, as RabbitMQ writes them.
 */
#ifndef LEPUS_SRC_STREAM_AMQP10_PRIV_H
#define LEPUS_SRC_STREAM_AMQP10_PRIV_H

#include "lepus/base/buf.h"
#include "lepus/wire/cursor.h"

enum amqp10_code {
    AMQP10_DESCRIBED = 0x00,
    AMQP10_NULL = 0x40,
    AMQP10_TRUE = 0x41,
    AMQP10_FALSE = 0x42,
    AMQP10_UINT_0 = 0x43,
    AMQP10_ULONG_0 = 0x44,
    AMQP10_LIST_0 = 0x45,
    AMQP10_UBYTE = 0x50,
    AMQP10_BYTE = 0x51,
    AMQP10_UINT_SMALL = 0x52,
    AMQP10_ULONG_SMALL = 0x53,
    AMQP10_INT_SMALL = 0x54,
    AMQP10_LONG_SMALL = 0x55,
    AMQP10_BOOLEAN = 0x56,
    AMQP10_USHORT = 0x60,
    AMQP10_SHORT = 0x61,
    AMQP10_UINT = 0x70,
    AMQP10_INT = 0x71,
    AMQP10_FLOAT = 0x72,
    AMQP10_CHAR = 0x73,
    AMQP10_ULONG = 0x80,
    AMQP10_LONG = 0x81,
    AMQP10_DOUBLE = 0x82,
    AMQP10_TIMESTAMP = 0x83,
    AMQP10_UUID = 0x98,
    AMQP10_BINARY_8 = 0xa0,
    AMQP10_STRING_8 = 0xa1,
    AMQP10_SYMBOL_8 = 0xa3,
    AMQP10_BINARY_32 = 0xb0,
    AMQP10_STRING_32 = 0xb1,
    AMQP10_SYMBOL_32 = 0xb3,
    AMQP10_LIST_8 = 0xc0,
    AMQP10_MAP_8 = 0xc1,
    AMQP10_LIST_32 = 0xd0,
    AMQP10_MAP_32 = 0xd1,
};

enum amqp10_section {
    SECTION_HEADER = 0x70,
    SECTION_DELIVERY_ANNOTATIONS,
    SECTION_ANNOTATIONS,
    SECTION_PROPERTIES,
    SECTION_APPLICATION,
    SECTION_DATA,
    SECTION_SEQUENCE,
    SECTION_VALUE,
    SECTION_FOOTER,
};

/* A value without what describes it. */
struct amqp10_value {
    uint8_t code;
    uint32_t count;     /* of a list's or map's elements; a map's keys count too */
    struct view octets; /* of fixed width; of a string; the elements of a list or map */
};

/* Reads one; the cursor is bad when none stands there. */
void amqp10_read(struct cursor *r, struct amqp10_value *out);

/* The section that starts here, with its value; false (and the cursor bad) when none does. */
bool amqp10_read_section(struct cursor *r, enum amqp10_section *out_section,
                         struct amqp10_value *out);

static inline bool
amqp10_is_binary(const struct amqp10_value *v)
{
    return v->code == AMQP10_BINARY_8 || v->code == AMQP10_BINARY_32;
}

/* A string, symbol or binary. */
static inline bool
amqp10_is_text(const struct amqp10_value *v)
{
    return v->code >> 4 == 0xa || v->code >> 4 == 0xb;
}

static inline bool
amqp10_is_list(const struct amqp10_value *v)
{
    return v->code == AMQP10_LIST_0 || v->code == AMQP10_LIST_8 || v->code == AMQP10_LIST_32;
}

static inline bool
amqp10_is_map(const struct amqp10_value *v)
{
    return v->code == AMQP10_MAP_8 || v->code == AMQP10_MAP_32;
}

/* An unsigned integer of any width. */
bool amqp10_unsigned(const struct amqp10_value *v, uint64_t *out);

/* kind: the code of the short form (BINARY_8, STRING_8, SYMBOL_8). */
void amqp10_put_text(struct buf *to, enum amqp10_code kind, struct view text);

/* A list or map (kind: LIST_32 or MAP_32): begin, its elements, end with how many they are (a
 * map's keys and values). */
size_t amqp10_begin(struct buf *to, enum amqp10_code kind);
void amqp10_end(struct buf *to, size_t begun, size_t count);

#endif
