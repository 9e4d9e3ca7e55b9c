#include "lepus/wire/table.h"

#include <assert.h>

#include "lepus/wire/cursor.h"

/* By letter; a letter without a row has no name. */
static const struct {
    const char *name;
    size_t size;
} types[UINT8_MAX + 1] = {
#define T(letter, NAME, name, size) [letter] = {name, size},
    FIELD_TYPES(T)
#undef T
};

const char *
field_type_name(enum field_type type)
{
    assert(types[(uint8_t)type].name != NULL);
    return types[(uint8_t)type].name;
}

/* Whether a value of this type starts with the length of the rest. */
static bool
has_length(uint8_t letter)
{
    return types[letter].size == 0 && letter != FIELD_VOID;
}

static bool
is_nested(uint8_t letter)
{
    return letter == FIELD_TABLE || letter == FIELD_ARRAY;
}

static struct view
rd_value(struct cursor *r, uint8_t letter)
{
    if (types[letter].name == NULL) {
        cursor_fail(r);
        return view_of(NULL, 0);
    }
    return has_length(letter) ? rd_longstr(r) : rd_view(r, types[letter].size);
}

static bool
check(struct view contents, bool is_table, unsigned depth)
{
    struct cursor r = cursor_of(contents);

    if (depth > TABLE_DEPTH_MAX)
        return false;
    while (r.left > 0) {
        struct view value;
        uint8_t letter;

        if (is_table)
            rd_shortstr(&r);
        letter = rd_u8(&r);
        value = rd_value(&r, letter);
        if (is_nested(letter) && !check(value, letter == FIELD_TABLE, depth + 1))
            return false;
    }
    return !r.bad;
}

bool
table_check(struct view table)
{
    return check(table, true, 1);
}

static int64_t
integer_of(enum field_type type, const uint8_t *at)
{
    switch (type) {
    case FIELD_BOOL:
        return at[0] != 0;
    case FIELD_I8:
        return (int8_t)at[0];
    case FIELD_U8:
        return at[0];
    case FIELD_I16:
        return (int16_t)be_u16(at);
    case FIELD_U16:
        return be_u16(at);
    case FIELD_I32:
        return (int32_t)be_u32(at);
    case FIELD_U32:
        return be_u32(at);
    case FIELD_I64:
    case FIELD_I64_L:
    case FIELD_TIMESTAMP:
        return (int64_t)be_u64(at);
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
    case FIELD_DECIMAL:
    case FIELD_LONGSTR:
    case FIELD_ARRAY:
    case FIELD_TABLE:
    case FIELD_VOID:
    case FIELD_BYTES:
        break;
    }
    return 0;
}

static bool
next(struct view contents, size_t *at, struct view *out_name, struct field *out_field)
{
    struct cursor r = cursor_of(view_of(contents.at, contents.len));
    struct view name = {NULL, 0}, bytes;
    uint8_t letter;

    if (*at >= contents.len)
        return false;
    r.at += *at;
    r.left -= *at;
    if (out_name != NULL)
        name = rd_shortstr(&r);
    letter = rd_u8(&r);
    bytes = rd_value(&r, letter);
    assert(!r.bad); /* the table was to be checked */
    if (out_name != NULL)
        *out_name = name;
    out_field->type = (enum field_type)letter;
    out_field->bytes = bytes;
    out_field->integer = integer_of(out_field->type, bytes.at);
    *at = contents.len - r.left;
    return true;
}

bool
table_next(struct view table, size_t *at, struct view *out_name, struct field *out_field)
{
    return next(table, at, out_name, out_field);
}

bool
array_next(struct view array, size_t *at, struct field *out_field)
{
    return next(array, at, NULL, out_field);
}

bool
table_find(struct view table, struct view name, struct field *out_field)
{
    struct field field;
    struct view at_name;
    size_t at = 0;

    while (table_next(table, &at, &at_name, &field)) {
        if (view_equal(at_name, name)) {
            *out_field = field;
            return true;
        }
    }
    return false;
}

bool
field_is_integer(const struct field *field)
{
    switch (field->type) {
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64:
    case FIELD_I64_L:
        return true;
    case FIELD_BOOL:
    case FIELD_TIMESTAMP:
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
    case FIELD_DECIMAL:
    case FIELD_LONGSTR:
    case FIELD_ARRAY:
    case FIELD_TABLE:
    case FIELD_VOID:
    case FIELD_BYTES:
        break;
    }
    return false;
}

static bool
is_floating(const struct field *field)
{
    return field->type == FIELD_FLOAT || field->type == FIELD_DOUBLE;
}

static double
floating_of(const struct field *field)
{
    uint32_t narrow_bits;
    uint64_t bits;
    float narrow;
    double wide;

    if (field->type == FIELD_FLOAT) {
        narrow_bits = be_u32(field->bytes.at);
        memcpy(&narrow, &narrow_bits, sizeof(narrow));
        return (double)narrow;
    }
    bits = be_u64(field->bytes.at);
    memcpy(&wide, &bits, sizeof(wide));
    return wide;
}

bool
field_equal(const struct field *a, const struct field *b)
{
    if (field_is_integer(a) && field_is_integer(b))
        return a->integer == b->integer;
    if (a->type == FIELD_BOOL && b->type == FIELD_BOOL)
        return a->integer == b->integer;
    /* Not a number equals nothing, but the same octets are the same argument declared again. */
    if (is_floating(a) && is_floating(b) && floating_of(a) == floating_of(b))
        return true;
    return a->type == b->type && view_equal(a->bytes, b->bytes);
}

/* What a type is told as. */
static enum field_type
widest(enum field_type type)
{
    switch (type) {
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64_L:
    case FIELD_TIMESTAMP:
        return FIELD_I64;
    case FIELD_FLOAT:
        return FIELD_DOUBLE;
    case FIELD_BYTES:
        return FIELD_LONGSTR;
    case FIELD_BOOL:
    case FIELD_I64:
    case FIELD_DOUBLE:
    case FIELD_DECIMAL:
    case FIELD_LONGSTR:
    case FIELD_ARRAY:
    case FIELD_TABLE:
    case FIELD_VOID:
        break;
    }
    return type;
}

static bool array_alike(struct view a, struct view b);

/* Depth is bounded: the tables were checked. */
static bool
field_alike(const struct field *a, const struct field *b)
{
    enum field_type type = widest(a->type);

    if (type != widest(b->type))
        return false;
    if (type == FIELD_I64)
        return a->integer == b->integer;
    if (type == FIELD_TABLE)
        return table_alike(a->bytes, b->bytes);
    if (type == FIELD_ARRAY)
        return array_alike(a->bytes, b->bytes);
    if (type == FIELD_LONGSTR)
        return view_equal(a->bytes, b->bytes);
    return field_equal(a, b);
}

static bool
array_alike(struct view a, struct view b)
{
    size_t at_a = 0, at_b = 0;
    struct field x, y;

    while (array_next(a, &at_a, &x))
        if (!array_next(b, &at_b, &y) || !field_alike(&x, &y))
            return false;
    return !array_next(b, &at_b, &y);
}

static size_t
count_fields(struct view table)
{
    struct field field;
    struct view name;
    size_t n = 0;

    for (size_t at = 0; table_next(table, &at, &name, &field);)
        n++;
    return n;
}

bool
table_alike(struct view a, struct view b)
{
    struct field x, y;
    struct view name;

    if (view_equal(a, b))
        return true;
    if (count_fields(a) != count_fields(b))
        return false;
    for (size_t at = 0; table_next(a, &at, &name, &x);)
        if (!table_find(b, name, &y) || !field_alike(&x, &y))
            return false;
    return true;
}

static void
put_name(struct buf *to, struct view name)
{
    size_t n = name.len < UINT8_MAX ? name.len : UINT8_MAX;

    buf_u8(to, (uint8_t)n);
    buf_append(to, name.at, n);
}

static void
put_longstr(struct buf *to, struct view value)
{
    assert(value.len <= UINT32_MAX);
    buf_u32(to, (uint32_t)value.len);
    buf_append(to, value.at, value.len);
}

static size_t
begin(struct buf *to, enum field_type type)
{
    size_t begun;

    buf_u8(to, (uint8_t)type);
    begun = to->len;
    buf_u32(to, 0); /* table_end knows */
    return begun;
}

void
table_put_bool(struct buf *to, struct view name, bool value)
{
    put_name(to, name);
    buf_u8(to, FIELD_BOOL);
    buf_u8(to, value);
}

void
table_put_i32(struct buf *to, struct view name, int32_t value)
{
    put_name(to, name);
    buf_u8(to, FIELD_I32);
    buf_u32(to, (uint32_t)value);
}

void
table_put_i64(struct buf *to, struct view name, int64_t value)
{
    put_name(to, name);
    buf_u8(to, FIELD_I64);
    buf_u64(to, (uint64_t)value);
}

void
table_put_timestamp(struct buf *to, struct view name, uint64_t seconds)
{
    put_name(to, name);
    buf_u8(to, FIELD_TIMESTAMP);
    buf_u64(to, seconds);
}

void
table_put_longstr(struct buf *to, struct view name, struct view value)
{
    put_name(to, name);
    array_put_longstr(to, value);
}

void
table_put_field(struct buf *to, struct view name, const struct field *field)
{
    put_name(to, name);
    array_put_field(to, field);
}

size_t
table_begin_table(struct buf *to, struct view name)
{
    put_name(to, name);
    return begin(to, FIELD_TABLE);
}

size_t
table_begin_array(struct buf *to, struct view name)
{
    put_name(to, name);
    return begin(to, FIELD_ARRAY);
}

void
array_put_longstr(struct buf *to, struct view value)
{
    buf_u8(to, FIELD_LONGSTR);
    put_longstr(to, value);
}

void
array_put_field(struct buf *to, const struct field *field)
{
    buf_u8(to, (uint8_t)field->type);
    if (has_length((uint8_t)field->type)) {
        put_longstr(to, field->bytes);
        return;
    }
    assert(field->bytes.len == types[(uint8_t)field->type].size);
    buf_append(to, field->bytes.at, field->bytes.len);
}

size_t
array_begin_table(struct buf *to)
{
    return begin(to, FIELD_TABLE);
}

void
table_end(struct buf *to, size_t begun)
{
    size_t size;

    if (to->bad)
        return;
    size = to->len - begun - sizeof(uint32_t);
    assert(size <= UINT32_MAX);
    be_put_u32(to->at + begun, (uint32_t)size);
}

static bool
is_among(struct view name, const struct view *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (view_equal(name, names[i]))
            return true;
    return false;
}

void
table_copy_without(struct buf *to, struct view table, const struct view *names, size_t n)
{
    struct field field;
    struct view name;
    size_t from = 0, at = 0;

    while (table_next(table, &at, &name, &field)) {
        if (!is_among(name, names, n))
            buf_append(to, table.at + from, at - from);
        from = at;
    }
}
