/*
 * Decoder, encoder and size of each method are made from its field list: the list is expanded
 * once with take_<type>, once with put_<type>, once with size_<type>. All of these are inlined,
 * and which bit of which octet a bit field has is known to the compiler then, so that what is
 * left of basic.publish is a few loads and comparisons.
 */
#include "lepus/wire/method.h"

#include <assert.h>

#include "lepus/wire/cursor.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/table.h"

#define INLINE static inline __attribute__((always_inline))
#define COLD   __attribute__((cold, noinline))

enum { METHOD_HEAD_SIZE = 4, METHOD_ID_END = 128, CLASS_SLOTS = 10, NAME_SIZE = 32 };

/* The rows */

/* The n-th octet of a name whose class has `dot` letters: the '_' there becomes a '.'. */
#define LETTER(s, dot, n)                                                                          \
    ((n) == (dot) ? '.' : (n) < sizeof(s) ? (s)[(n) < sizeof(s) ? (n) : 0] : '\0')
#define LETTERS_8(s, dot, n)                                                                       \
    LETTER(s, dot, n), LETTER(s, dot, n + 1), LETTER(s, dot, n + 2), LETTER(s, dot, n + 3),        \
        LETTER(s, dot, n + 4), LETTER(s, dot, n + 5), LETTER(s, dot, n + 6), LETTER(s, dot, n + 7)

enum {
#define C(id, name) CLASS_##id##_DOT = sizeof(#name) - 1,
    CLASSES(C)
#undef C
};

static const char names[METHOD_COUNT][NAME_SIZE] = {
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    {LETTERS_8(#name, CLASS_##class_id##_DOT, 0), LETTERS_8(#name, CLASS_##class_id##_DOT, 8),     \
     LETTERS_8(#name, CLASS_##class_id##_DOT, 16), LETTERS_8(#name, CLASS_##class_id##_DOT, 24)},
    METHODS(M)
#undef M
};

#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    _Static_assert(sizeof(#name) <= NAME_SIZE, #name);
METHODS(M)
#undef M

const struct method_row method_rows[METHOD_COUNT] = {
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    [METHOD_##name] = {class_id,           method_id,           names[METHOD_##name],              \
                       METHOD_BY_##sender, METHOD_ON_##channel, METHOD_THEN_##follows},
    METHODS(M)
#undef M
};

/* Where a method's row is, plus one; 0: no such method. Class ids fall into different tens, which
 * makes a small table without collisions; the row then tells class 85 from 80. */
static const uint8_t slots[CLASS_SLOTS][METHOD_ID_END] = {
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    [class_id / 10][method_id] = METHOD_##name + 1,
    METHODS(M)
#undef M
};

enum method
method_find(uint16_t class_id, uint16_t method_id)
{
    unsigned slot;

    if (class_id >= CLASS_SLOTS * 10 || method_id >= METHOD_ID_END)
        return METHOD_UNKNOWN;
    slot = slots[class_id / 10][method_id];
    if (slot == 0 || method_rows[slot - 1].class_id != class_id)
        return METHOD_UNKNOWN;
    return (enum method)(slot - 1);
}

/* Decoding */

struct decoder {
    struct cursor r;
    uint8_t octet;    /* the one that holds the bits at hand */
    unsigned bits;    /* taken of it; 0 when the last field was no bit */
    bool checks_utf8; /* short strings must be UTF-8 */
    bool is_not_utf8; /* why r is bad */
};

INLINE bool
take_bit(struct decoder *d)
{
    if (d->bits % 8 == 0)
        d->octet = rd_u8(&d->r);
    return (d->octet >> (d->bits++ % 8) & 1) != 0;
}

INLINE uint8_t
take_u8(struct decoder *d)
{
    d->bits = 0;
    return rd_u8(&d->r);
}

INLINE uint16_t
take_u16(struct decoder *d)
{
    d->bits = 0;
    return rd_u16(&d->r);
}

INLINE uint32_t
take_u32(struct decoder *d)
{
    d->bits = 0;
    return rd_u32(&d->r);
}

INLINE uint64_t
take_u64(struct decoder *d)
{
    d->bits = 0;
    return rd_u64(&d->r);
}

INLINE struct view
take_shortstr(struct decoder *d)
{
    struct view v = rd_shortstr(&d->r);

    d->bits = 0;
    if (d->checks_utf8 && !view_is_utf8(v)) {
        d->is_not_utf8 = true;
        cursor_fail(&d->r);
    }
    return v;
}

INLINE struct view
take_longstr(struct decoder *d)
{
    d->bits = 0;
    return rd_longstr(&d->r);
}

INLINE struct view
take_table(struct decoder *d)
{
    struct view v = rd_longstr(&d->r);

    d->bits = 0;
    if (!table_check(v))
        cursor_fail(&d->r);
    return v;
}

struct fault {
    const char *first; /* field that could not be read; NULL: octets are left over */
    size_t left;
    bool is_not_utf8;
};

/* With `fault` NULL, which the compiler knows, the questions after each field fall away: the same
 * list makes the fast decoder and the one that finds out what was wrong. */
#define TAKE(type, field)                                                                          \
    out->field = take_##type(&d);                                                                  \
    if (fault != NULL && fault->first == NULL && d.r.bad)                                          \
        fault->first = #field;
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    INLINE bool take_##name(struct view arguments, struct name *out, struct fault *fault)          \
    {                                                                                              \
        struct decoder d = {.r = cursor_of(arguments),                                             \
                            .checks_utf8 = METHOD_THEN_##follows == METHOD_THEN_NOTHING};          \
                                                                                                   \
        (void)out;                                                                                 \
        fields(TAKE);                                                                              \
        if (fault != NULL) {                                                                       \
            fault->left = d.r.left;                                                                \
            fault->is_not_utf8 = d.is_not_utf8;                                                    \
        }                                                                                          \
        return !d.r.bad && d.r.left == 0;                                                          \
    }                                                                                              \
                                                                                                   \
    static bool decode_##name(struct view arguments, union method_args *out)                       \
    {                                                                                              \
        return take_##name(arguments, &out->name, NULL);                                           \
    }                                                                                              \
                                                                                                   \
    COLD static bool explain_##name(struct view arguments, union method_args *out,                 \
                                    struct fault *fault)                                           \
    {                                                                                              \
        return take_##name(arguments, &out->name, fault);                                          \
    }
METHODS(M)
#undef M

static bool (*const decoders[METHOD_COUNT])(struct view, union method_args *) = {
#define M(class_id, method_id, name, fields, sender, channel, follows) decode_##name,
    METHODS(M)
#undef M
};

static bool (*const explainers[METHOD_COUNT])(struct view, union method_args *, struct fault *) = {
#define M(class_id, method_id, name, fields, sender, channel, follows) explain_##name,
    METHODS(M)
#undef M
};

COLD static bool
refuse(enum method method, struct view arguments, union method_args *out, struct err *err)
{
    const struct method_row *row = &method_rows[method];
    struct fault fault = {0};

    explainers[method](arguments, out, &fault);
    err->class_id = row->class_id;
    err->method_id = row->method_id;
    if (fault.is_not_utf8)
        return err_set(err, FRAME_ERROR, "Malformed UTF-8 in shortstr");
    if (fault.first != NULL)
        return err_set(err, SYNTAX_ERROR, "cannot decode %s: field '%s' is malformed or cut short",
                       row->name, fault.first);
    return err_set(err, SYNTAX_ERROR, "cannot decode %s: %zu octets behind the last field",
                   row->name, fault.left);
}

bool
method_decode(enum method method, struct view arguments, union method_args *out, struct err *err)
{
    assert(method < METHOD_COUNT);
    if (__builtin_expect(decoders[method](arguments, out), true))
        return true;
    return refuse(method, arguments, out, err);
}

/* Encoding */

struct sizer {
    size_t size;
    unsigned bits;
};

INLINE void
size_bit(struct sizer *s, bool v)
{
    (void)v;
    if (s->bits++ % 8 == 0)
        s->size++;
}

INLINE void
add_size(struct sizer *s, size_t size)
{
    s->size += size;
    s->bits = 0;
}

INLINE size_t
shortstr_size(struct view v)
{
    return v.len < UINT8_MAX ? v.len : UINT8_MAX;
}

#define size_u8(s, v)       add_size((s), sizeof(v))
#define size_u16(s, v)      add_size((s), sizeof(v))
#define size_u32(s, v)      add_size((s), sizeof(v))
#define size_u64(s, v)      add_size((s), sizeof(v))
#define size_shortstr(s, v) add_size((s), 1 + shortstr_size(v))
#define size_longstr(s, v)  add_size((s), 4 + (v).len)
#define size_table(s, v)    add_size((s), 4 + (v).len)

struct encoder {
    uint8_t *to;
    unsigned bits;
};

INLINE void
put_bit(struct encoder *e, bool v)
{
    if (e->bits % 8 == 0)
        *e->to++ = 0;
    e->to[-1] |= (uint8_t)(v << (e->bits++ % 8));
}

INLINE void
put_u8(struct encoder *e, uint8_t v)
{
    e->to = be_put_u8(e->to, v);
    e->bits = 0;
}

INLINE void
put_u16(struct encoder *e, uint16_t v)
{
    e->to = be_put_u16(e->to, v);
    e->bits = 0;
}

INLINE void
put_u32(struct encoder *e, uint32_t v)
{
    e->to = be_put_u32(e->to, v);
    e->bits = 0;
}

INLINE void
put_u64(struct encoder *e, uint64_t v)
{
    e->to = be_put_u64(e->to, v);
    e->bits = 0;
}

INLINE void
put_octets(struct encoder *e, struct view v)
{
    if (v.len > 0)
        memcpy(e->to, v.at, v.len);
    e->to += v.len;
}

INLINE void
put_shortstr(struct encoder *e, struct view v)
{
    put_u8(e, (uint8_t)shortstr_size(v));
    put_octets(e, view_of(v.at, shortstr_size(v)));
}

INLINE void
put_longstr(struct encoder *e, struct view v)
{
    put_u32(e, (uint32_t)v.len);
    put_octets(e, v);
}

#define put_table put_longstr

#define SIZE(type, field) size_##type(&s, in->field);
#define PUT(type, field)  put_##type(&e, in->field);
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    static size_t size_of_##name(const void *args)                                                 \
    {                                                                                              \
        const struct name *in = args;                                                              \
        struct sizer s = {0, 0};                                                                   \
                                                                                                   \
        (void)in;                                                                                  \
        fields(SIZE);                                                                              \
        return s.size;                                                                             \
    }                                                                                              \
                                                                                                   \
    static uint8_t *encode_##name(uint8_t *to, const void *args)                                   \
    {                                                                                              \
        const struct name *in = args;                                                              \
        struct encoder e = {to, 0};                                                                \
                                                                                                   \
        (void)in;                                                                                  \
        fields(PUT);                                                                               \
        return e.to;                                                                               \
    }
METHODS(M)
#undef M

static const struct {
    size_t (*size)(const void *args);
    uint8_t *(*encode)(uint8_t *to, const void *args);
} encoders[METHOD_COUNT] = {
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    {size_of_##name, encode_##name},
    METHODS(M)
#undef M
};

size_t
method_size(enum method method, const void *args)
{
    assert(method < METHOD_COUNT);
    return FRAME_OVERHEAD + METHOD_HEAD_SIZE + encoders[method].size(args);
}

void
method_write(struct buf *to, uint16_t channel, enum method method, const void *args)
{
    const struct method_row *row = &method_rows[method];
    size_t size = method_size(method, args);
    uint8_t *at = buf_reserve(to, size);

    if (at == NULL)
        return;
    assert(size - FRAME_OVERHEAD <= UINT32_MAX);
    at = frame_put_head(at, FRAME_METHOD, channel, (uint32_t)(size - FRAME_OVERHEAD));
    at = be_put_u16(at, row->class_id);
    at = be_put_u16(at, row->method_id);
    at = encoders[method].encode(at, args);
    *at = FRAME_END;
    to->len += size;
}
