#include "amqp10_priv.h"

/* A value's size by the upper half of its constructor: -1: its length in an octet, -4: in four. */
static const int sizes[16] = {
    [0x4] = 0,  [0x5] = 1,  [0x6] = 2,  [0x7] = 4,  [0x8] = 8,  [0x9] = 16,
    [0xa] = -1, [0xb] = -4, [0xc] = -1, [0xd] = -4, [0xe] = -1, [0xf] = -4,
};

enum { DESCRIBED_DEPTH_MAX = 8 };

static void
read_undescribed(struct cursor *r, uint8_t code, struct amqp10_value *out)
{
    int size = sizes[code >> 4];
    struct cursor inner;

    *out = (struct amqp10_value){.code = code};
    if (code < 0x40) {
        cursor_fail(r);
        return;
    }
    out->octets =
        size >= 0 ? rd_view(r, (size_t)size) : rd_view(r, size == -1 ? rd_u8(r) : rd_u32(r));
    if (amqp10_is_map(out) || (amqp10_is_list(out) && code != AMQP10_LIST_0)) {
        inner = cursor_of(out->octets);
        out->count = size == -1 ? rd_u8(&inner) : rd_u32(&inner);
        if (inner.bad)
            cursor_fail(r);
        out->octets = view_of(inner.at, inner.left);
    }
}

void
amqp10_read(struct cursor *r, struct amqp10_value *out)
{
    uint8_t code = rd_u8(r);

    for (unsigned depth = 0; code == AMQP10_DESCRIBED && !r->bad; depth++) {
        struct amqp10_value descriptor;

        if (depth == DESCRIBED_DEPTH_MAX) {
            cursor_fail(r);
            break;
        }
        read_undescribed(r, rd_u8(r), &descriptor);
        code = rd_u8(r);
    }
    read_undescribed(r, code, out);
}

static const char *const symbols[] = {
    "amqp:header:list",
    "amqp:delivery-annotations:map",
    "amqp:message-annotations:map",
    "amqp:properties:list",
    "amqp:application-properties:map",
    "amqp:data:binary",
    "amqp:amqp-sequence:list",
    "amqp:amqp-value:*",
    "amqp:footer:map",
};

static bool
section_of(const struct amqp10_value *descriptor, enum amqp10_section *out)
{
    uint64_t number;

    if (amqp10_unsigned(descriptor, &number)) {
        *out = (enum amqp10_section)number;
        return number >= SECTION_HEADER && number <= SECTION_FOOTER;
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
        if (amqp10_is_text(descriptor) && view_equal(descriptor->octets, view_str(symbols[i]))) {
            *out = (enum amqp10_section)(SECTION_HEADER + i);
            return true;
        }
    }
    return false;
}

bool
amqp10_read_section(struct cursor *r, enum amqp10_section *out_section, struct amqp10_value *out)
{
    struct amqp10_value descriptor;

    if (rd_u8(r) != AMQP10_DESCRIBED)
        cursor_fail(r);
    read_undescribed(r, rd_u8(r), &descriptor);
    if (r->bad || !section_of(&descriptor, out_section)) {
        cursor_fail(r);
        return false;
    }
    amqp10_read(r, out);
    return !r->bad;
}

bool
amqp10_unsigned(const struct amqp10_value *v, uint64_t *out)
{
    switch (v->code) {
    case AMQP10_UINT_0:
    case AMQP10_ULONG_0:
        *out = 0;
        return true;
    case AMQP10_UBYTE:
    case AMQP10_UINT_SMALL:
    case AMQP10_ULONG_SMALL:
        *out = v->octets.at[0];
        return true;
    case AMQP10_USHORT:
        *out = be_u16(v->octets.at);
        return true;
    case AMQP10_UINT:
        *out = be_u32(v->octets.at);
        return true;
    case AMQP10_ULONG:
        *out = be_u64(v->octets.at);
        return true;
    }
    return false;
}

void
amqp10_put_text(struct buf *to, enum amqp10_code kind, struct view text)
{
    size_t head = text.len <= UINT8_MAX ? 2 : 5;
    uint8_t *at = buf_reserve(to, head + text.len);

    if (at == NULL)
        return;
    to->len += head + text.len;
    if (text.len <= UINT8_MAX) {
        at[0] = (uint8_t)kind;
        at[1] = (uint8_t)text.len;
    } else {
        at[0] = (uint8_t)(kind + 0x10);
        be_put_u32(at + 1, (uint32_t)text.len);
    }
    if (text.len > 0)
        memcpy(at + head, text.at, text.len);
}

enum { WIDE_HEAD = 9, NARROW_HEAD = 3 }; /* constructor, size, count */

size_t
amqp10_begin(struct buf *to, enum amqp10_code kind)
{
    size_t begun = to->len;
    uint8_t *at = buf_reserve(to, WIDE_HEAD);

    if (at == NULL)
        return begun;
    to->len += WIDE_HEAD;
    at[0] = (uint8_t)kind; /* size and count: amqp10_end knows */
    return begun;
}

void
amqp10_end(struct buf *to, size_t begun, size_t count)
{
    size_t size;
    uint8_t *head;

    if (to->bad)
        return;
    size = to->len - begun - WIDE_HEAD;
    head = to->at + begun;
    if (size + 1 <= UINT8_MAX && count <= UINT8_MAX) {
        head[0] = (uint8_t)(head[0] - 0x10);
        head[1] = (uint8_t)(size + 1);
        head[2] = (uint8_t)count;
        memmove(head + NARROW_HEAD, head + WIDE_HEAD, size);
        to->len -= WIDE_HEAD - NARROW_HEAD;
    } else {
        be_put_u32(head + 1, (uint32_t)size + 4);
        be_put_u32(head + 5, (uint32_t)count);
    }
}
