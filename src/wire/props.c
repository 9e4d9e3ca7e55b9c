#include "lepus/wire/props.h"

#include <assert.h>

#include "lepus/wire/cursor.h"
#include "lepus/wire/table.h"

enum {
    FLAG_CONTINUED = 1 << 0, /* another flag word follows: no property of class basic needs one */
    FLAG_UNUSED = 1 << 1,
    FLAGS_SIZE = 2,
};

/* Reading a value by its type in the table; u8 and u64 as the octets they are. */
#define rd_raw_shortstr(r) rd_shortstr(r)
#define rd_raw_table(r)    rd_longstr(r)
#define rd_raw_u8(r)       rd_view((r), 1)
#define rd_raw_u64(r)      rd_view((r), 8)

#define is_valid_shortstr(v) true
#define is_valid_table(v)    table_check(v)
#define is_valid_u8(v)       true
#define is_valid_u64(v)      true

bool
props_check(struct view properties)
{
    struct cursor r = cursor_of(properties);
    uint16_t flags = rd_u16(&r);
    struct view value;

    if (flags == 0)
        return properties.len == FLAGS_SIZE;
    if ((flags & (FLAG_CONTINUED | FLAG_UNUSED)) != 0)
        return false;
#define P(name, type, bit)                                                                         \
    if ((flags & PROP_##name) != 0) {                                                              \
        value = rd_raw_##type(&r);                                                                 \
        if (!is_valid_##type(value))                                                               \
            return false;                                                                          \
    }
    PROPERTIES(P)
#undef P
    (void)value;
    return !r.bad && r.left == 0;
}

/* Skips what stands before `property` and reads it; *out_start is where its encoding starts, or,
 * when it is absent, where it would. The cursor ends behind it. */
static struct view
seek(struct cursor *r, uint16_t flags, enum property property, const uint8_t **out_start)
{
    struct view value = {NULL, 0};

#define P(name, type, bit)                                                                         \
    if (property == PROP_##name)                                                                   \
        *out_start = r->at;                                                                        \
    if ((flags & PROP_##name) != 0)                                                                \
        value = rd_raw_##type(r);                                                                  \
    if (property == PROP_##name)                                                                   \
        return value;
    PROPERTIES(P)
#undef P
    assert(false); /* every property has its row */
    return value;
}

bool
props_find(struct view properties, enum property property, struct view *out_value)
{
    struct cursor r = cursor_of(properties);
    uint16_t flags = rd_u16(&r);
    const uint8_t *start;

    if ((flags & property) == 0)
        return false;
    *out_value = seek(&r, flags, property, &start);
    assert(!r.bad); /* the properties were to be checked */
    return true;
}

static void
put_shortstr(struct buf *to, struct view v)
{
    size_t n = v.len < UINT8_MAX ? v.len : UINT8_MAX;

    buf_u8(to, (uint8_t)n);
    buf_append(to, v.at, n);
}

static void
put_table(struct buf *to, struct view v)
{
    assert(v.len <= UINT32_MAX);
    buf_u32(to, (uint32_t)v.len);
    buf_append(to, v.at, v.len);
}

static void
put_u8(struct buf *to, struct view v)
{
    assert(v.len == 1);
    buf_append(to, v.at, v.len);
}

static void
put_u64(struct buf *to, struct view v)
{
    assert(v.len == 8);
    buf_append(to, v.at, v.len);
}

static void
put_value(struct buf *to, enum property property, struct view value)
{
    switch (property) {
#define P(name, type, bit)                                                                         \
    case PROP_##name:                                                                              \
        put_##type(to, value);                                                                     \
        break;
        PROPERTIES(P)
#undef P
    }
}

void
props_copy_with(struct buf *to, struct view properties, enum property property,
                const struct view *value)
{
    struct cursor r = cursor_of(properties);
    uint16_t flags = rd_u16(&r), others = (uint16_t)(flags & ~(unsigned)property);
    const uint8_t *values = r.at, *start;

    seek(&r, flags, property, &start);
    assert(!r.bad);
    buf_u16(to, value != NULL ? (uint16_t)(others | property) : others);
    buf_append(to, values, (size_t)(start - values));
    if (value != NULL)
        put_value(to, property, *value);
    buf_append(to, r.at, r.left);
}
