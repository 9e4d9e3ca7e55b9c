/*
 * The wire codec over arbitrary octets. Nothing may crash or read beyond the input (the sanitizers
 * see to that), and what is accepted has to hold what the headers promise: views lie within the
 * input, and what was decoded, walked or copied comes out the same when it is written again.
 */
#include <assert.h>

#include "fuzz_wire.h"

#include "lepus/base/mem.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

enum { OUTPUT_MAX = 1 << 24 };

static void
must_lie_within(struct view whole, struct view part)
{
    if (part.len == 0)
        return;
    assert(part.at >= whole.at && part.len <= whole.len);
    assert((size_t)(part.at - whole.at) <= whole.len - part.len);
}

/* Tables */

static bool
step(struct view contents, bool is_table, size_t *at, struct view *name, struct field *field)
{
    *name = view_of(NULL, 0);
    return is_table ? table_next(contents, at, name, field) : array_next(contents, at, field);
}

/* Walks all levels, and writes the level again field by field. */
static void
walk(struct view contents, bool is_table)
{
    struct view name;
    struct field field;
    struct buf again;
    size_t at = 0;

    buf_init(&again, OUTPUT_MAX);
    while (step(contents, is_table, &at, &name, &field)) {
        must_lie_within(contents, name);
        must_lie_within(contents, field.bytes);
        assert(field_type_name(field.type) != NULL);
        assert(field_equal(&field, &field));
        if (field.type == FIELD_TABLE || field.type == FIELD_ARRAY)
            walk(field.bytes, field.type == FIELD_TABLE);
        if (is_table)
            table_put_field(&again, name, &field);
        else
            array_put_field(&again, &field);
    }
    assert(at == contents.len);
    assert(!again.bad && view_equal(buf_view(&again), contents));
    buf_fini(&again);
}

static void
find_and_leave_out(struct view table)
{
    struct view name;
    struct field field, found;
    struct buf without;
    size_t at = 0;

    buf_init(&without, OUTPUT_MAX);
    for (unsigned i = 0; i < 4 && table_next(table, &at, &name, &field); i++) {
        assert(table_find(table, name, &found));
        must_lie_within(table, found.bytes);
        buf_clear(&without);
        table_copy_without(&without, table, &name, 1);
        assert(table_check(buf_view(&without)));
        assert(!table_find(buf_view(&without), name, &found));
    }
    buf_fini(&without);
}

static void
try_table(struct view table)
{
    if (!table_check(table))
        return;
    walk(table, true);
    find_and_leave_out(table);
}

/* Properties */

static const enum property properties_known[] = {
#define P(name, type, bit) PROP_##name,
    PROPERTIES(P)
#undef P
};

/* A value that is good for the property. */
static struct view
value_for(enum property property)
{
    switch (property) {
#define VALUE_shortstr VIEW_LIT("fuzz")
#define VALUE_table    VIEW_LIT("\1kt\1")
#define VALUE_u8       VIEW_LIT("\1")
#define VALUE_u64      VIEW_LIT("\0\0\0\0\0\0\0\1")
#define P(name, type, bit)                                                                         \
    case PROP_##name:                                                                              \
        return VALUE_##type;
        PROPERTIES(P)
#undef P
    }
    return view_of(NULL, 0);
}

/* Whether all but one property are the same. */
static void
must_agree_but_for(struct view a, struct view b, enum property but)
{
    struct view left, right;

    for (size_t i = 0; i < sizeof(properties_known) / sizeof(properties_known[0]); i++) {
        enum property property = properties_known[i];

        if (property == but)
            continue;
        assert(props_has(a, property) == props_has(b, property));
        if (props_find(a, property, &left)) {
            assert(props_find(b, property, &right));
            assert(view_equal(left, right));
        }
    }
}

static void
try_property(struct view properties, enum property property, struct buf *copy)
{
    struct view value, found;

    if (props_find(properties, property, &value)) {
        must_lie_within(properties, value);
        buf_clear(copy);
        props_copy_with(copy, properties, property, &value);
        assert(view_equal(buf_view(copy), properties));
    }
    value = value_for(property);
    buf_clear(copy);
    props_copy_with(copy, properties, property, &value);
    assert(props_check(buf_view(copy)));
    assert(props_find(buf_view(copy), property, &found) && view_equal(found, value));
    must_agree_but_for(properties, buf_view(copy), property);
    buf_clear(copy);
    props_copy_with(copy, properties, property, NULL);
    assert(props_check(buf_view(copy)));
    assert(!props_has(buf_view(copy), property));
    must_agree_but_for(properties, buf_view(copy), property);
}

static void
try_properties(struct view properties)
{
    struct view headers;
    struct buf copy;

    if (!props_check(properties))
        return;
    buf_init(&copy, OUTPUT_MAX);
    for (size_t i = 0; i < sizeof(properties_known) / sizeof(properties_known[0]); i++)
        try_property(properties, properties_known[i], &copy);
    buf_fini(&copy);
    if (props_find(properties, PROP_headers, &headers))
        try_table(headers);
}

/* Methods */

#define within_u8(whole, v)
#define within_u16(whole, v)
#define within_u32(whole, v)
#define within_u64(whole, v)
#define within_bit(whole, v)
#define within_shortstr(whole, v) must_lie_within(whole, v);
#define within_longstr(whole, v)  must_lie_within(whole, v);
#define within_table(whole, v)                                                                     \
    must_lie_within(whole, v);                                                                     \
    assert(table_check(v));                                                                        \
    try_table(v);

static void
look_at_fields(enum method method, struct view whole, const union method_args *args)
{
    switch (method) {
#define FIELD(type, field) within_##type(whole, in->field)
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    case METHOD_##name: {                                                                          \
        const struct name *in = &args->name;                                                       \
                                                                                                   \
        (void)in;                                                                                  \
        fields(FIELD)                                                                              \
    } break;
        METHODS(M)
#undef M
    case METHOD_UNKNOWN:
        break;
    }
}

/* Unused bits of the input are lost; after one writing nothing changes any more. */
static void
must_survive_writing(enum method method, struct view arguments, const union method_args *args)
{
    union method_args again;
    struct buf first, second;
    struct frame frame;
    struct err err = {0};
    size_t size;

    buf_init(&first, OUTPUT_MAX);
    buf_init(&second, OUTPUT_MAX);
    method_write(&first, 1, method, args);
    assert(!first.bad && first.len == method_size(method, args));
    assert(frame_next(buf_view(&first), 0, &frame, &size, &err) == FRAME_READY);
    assert(size == first.len && frame.payload.len == arguments.len + 4);
    assert(
        method_decode(method, view_of(frame.payload.at + 4, frame.payload.len - 4), &again, &err));
    method_write(&second, 1, method, &again);
    assert(view_equal(buf_view(&first), buf_view(&second)));
    buf_fini(&first);
    buf_fini(&second);
}

static void
try_method(enum method method, struct view arguments)
{
    union method_args args;
    struct err err = {0};

    if (!method_decode(method, arguments, &args, &err)) {
        assert(err.code == SYNTAX_ERROR || err.code == FRAME_ERROR);
        assert(memchr(err.text, '\0', sizeof(err.text)) != NULL);
        return;
    }
    look_at_fields(method, arguments, &args);
    must_survive_writing(method, arguments, &args);
}

/* Frames */

static void
try_payload(const struct frame *frame)
{
    struct view payload = frame->payload;
    struct content_header header;
    struct err err = {0};
    enum method method;

    if (frame->type == FRAME_HEADER) {
        if (content_header_decode(payload, &header, &err)) {
            must_lie_within(payload, header.properties);
            try_properties(header.properties);
        } else {
            assert(err.code == FRAME_ERROR || err.code == UNEXPECTED_FRAME);
        }
    }
    if (frame->type != FRAME_METHOD || payload.len < 4)
        return;
    method = method_find(be_u16(payload.at), be_u16(payload.at + 2));
    if (method != METHOD_UNKNOWN)
        try_method(method, view_of(payload.at + 4, payload.len - 4));
}

static void
try_frames(struct view input, uint32_t frame_max)
{
    struct frame frame;
    struct err err = {0};
    size_t size;

    for (;;) {
        switch (frame_next(input, frame_max, &frame, &size, &err)) {
        case FRAME_PARTIAL:
            assert(size == 0 ? input.len < FRAME_HEAD_SIZE : input.len < size);
            return;
        case FRAME_BAD:
            assert(err.code == FRAME_ERROR);
            return;
        case FRAME_READY:
            assert(size == frame.payload.len + FRAME_OVERHEAD && size <= input.len);
            must_lie_within(input, frame.payload);
            try_payload(&frame);
            input = view_of(input.at + size, input.len - size);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct view rest;

    if (size == 0)
        return 0;
    rest = view_of(at + 1, size - 1);
    switch ((enum fuzz_wire_kind)(at[0] % FUZZ_KINDS)) {
    case FUZZ_FRAMES:
        try_frames(rest, 0);
        try_frames(rest, 64);
        break;
    case FUZZ_METHOD:
        if (rest.len > 0)
            try_method((enum method)(rest.at[0] % METHOD_COUNT),
                       view_of(rest.at + 1, rest.len - 1));
        break;
    case FUZZ_TABLE:
        try_table(rest);
        break;
    case FUZZ_PROPERTIES:
        try_properties(rest);
        break;
    case FUZZ_KINDS:
        break;
    }
    return 0;
}
