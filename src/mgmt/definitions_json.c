/* Arguments as JSON, and back: which type becomes which stands in definitions.h. */
#include "definitions_priv.h"

#include <math.h>

#include "lepus/base/mem.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/table.h"

enum { NAME_MAX = 255, TEXT_FLAGS = JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS };

/* --- paths ------------------------------------------------------------------------------- */

static void
put_step(struct json_path *path, const char *at, size_t n)
{
    static const char ellipsis[] = "...";
    size_t room = sizeof(path->at) - sizeof(ellipsis) - path->len;

    if (path->len > sizeof(path->at) - sizeof(ellipsis))
        return; /* it ends in one already */
    if (n <= room) {
        memcpy(path->at + path->len, at, n);
        path->len += n;
    } else {
        memcpy(path->at + path->len, at, room);
        memcpy(path->at + path->len + room, ellipsis, sizeof(ellipsis) - 1);
        path->len = sizeof(path->at) - 1;
    }
    path->at[path->len] = '\0';
}

size_t
json_path_enter(struct json_path *path, const char *name, size_t name_len)
{
    size_t before = path->len;

    if (before > 0)
        put_step(path, ".", 1);
    put_step(path, name, name_len);
    return before;
}

size_t
json_path_enter_index(struct json_path *path, size_t index)
{
    size_t before = path->len;
    char step[32];
    int n = snprintf(step, sizeof(step), "[%zu]", index);

    put_step(path, step, (size_t)n);
    return before;
}

void
json_path_leave(struct json_path *path, size_t before)
{
    path->len = before;
    path->at[before] = '\0';
}

/* --- texts ------------------------------------------------------------------------------- */

char *
json_text(const json_t *value)
{
    return json_dumps(value, TEXT_FLAGS);
}

json_t *
json_of_text(struct view text, json_error_t *error)
{
    return json_loadb(text.len > 0 ? (const char *)text.at : "", text.len,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
}

json_t *
json_from_view(struct view v)
{
    return json_stringn(v.len > 0 ? (const char *)v.at : "", v.len);
}

/* --- in ---------------------------------------------------------------------------------- */

static bool put_array(struct buf *to, const json_t *array, struct json_path *path, unsigned depth,
                      struct err *err);
static bool put_table(struct buf *to, const json_t *object, struct json_path *path, unsigned depth,
                      struct err *err);

/* A length in front of what is written between. */
static size_t
begin_sized(struct buf *to)
{
    size_t begun = to->len;

    buf_u32(to, 0);
    return begun;
}

static void
put_real(struct buf *to, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    buf_u64(to, bits);
}

/* Type and value. */
static bool
put_value(struct buf *to, const json_t *value, struct json_path *path, unsigned depth,
          struct err *err)
{
    bool ok = true;
    size_t begun;

    switch (json_typeof(value)) {
    case JSON_TRUE:
    case JSON_FALSE:
        buf_u8(to, FIELD_BOOL);
        buf_u8(to, json_is_true(value));
        break;
    case JSON_NULL:
        buf_u8(to, FIELD_VOID);
        break;
    case JSON_INTEGER:
        buf_u8(to, FIELD_I64);
        buf_u64(to, (uint64_t)json_integer_value(value));
        break;
    case JSON_REAL:
        buf_u8(to, FIELD_DOUBLE);
        put_real(to, json_real_value(value));
        break;
    case JSON_STRING:
        buf_u8(to, FIELD_LONGSTR);
        buf_u32(to, (uint32_t)json_string_length(value));
        buf_append(to, json_string_value(value), json_string_length(value));
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_u8(to, json_is_array(value) ? FIELD_ARRAY : FIELD_TABLE);
        begun = begin_sized(to);
        ok = json_is_array(value) ? put_array(to, value, path, depth + 1, err)
                                  : put_table(to, value, path, depth + 1, err);
        if (ok && !to->bad)
            table_end(to, begun);
        break;
    }
    return ok;
}

static bool
check_depth(unsigned depth, struct err *err)
{
    return depth < TABLE_DEPTH_MAX ||
           err_set(err, PRECONDITION_FAILED, "expected at most %d tables and arrays in each other",
                   TABLE_DEPTH_MAX);
}

static bool
put_array(struct buf *to, const json_t *array, struct json_path *path, unsigned depth,
          struct err *err)
{
    size_t i, before;
    json_t *value;

    if (!check_depth(depth, err))
        return false;
    json_array_foreach(array, i, value)
    {
        before = json_path_enter_index(path, i);
        if (!put_value(to, value, path, depth, err))
            return false;
        json_path_leave(path, before);
    }
    return true;
}

static bool
put_table(struct buf *to, const json_t *object, struct json_path *path, unsigned depth,
          struct err *err)
{
    const char *name;
    size_t n, before;
    json_t *value;

    if (!check_depth(depth, err))
        return false;
    json_object_keylen_foreach((json_t *)(uintptr_t)object, name, n, value)
    {
        before = json_path_enter(path, name, n);
        if (n > NAME_MAX)
            return err_set(err, PRECONDITION_FAILED, "expected a name of at most %d octets",
                           NAME_MAX);
        buf_u8(to, (uint8_t)n);
        buf_append(to, name, n);
        if (!put_value(to, value, path, depth, err))
            return false;
        json_path_leave(path, before);
    }
    return true;
}

bool
json_to_table(struct buf *to, const json_t *object, struct json_path *path, struct err *err)
{
    if (!put_table(to, object, path, 0, err))
        return false;
    return !to->bad ||
           err_set(err, PRECONDITION_FAILED, "expected at most %zu octets of arguments", to->max);
}

/* --- out --------------------------------------------------------------------------------- */

static json_t *
real_of(double value, struct err *err)
{
    json_t *real = json_real(value); /* NULL for what is not finite */

    if (real == NULL)
        err_set(err, PRECONDITION_FAILED, "a number that is none, or is infinite");
    return real;
}

static json_t *
real_of_field(const struct field *field, struct err *err)
{
    uint32_t narrow_bits;
    uint64_t bits;
    double wide;
    float narrow;

    if (field->type == FIELD_DECIMAL)
        return real_of((int32_t)be_u32(field->bytes.at + 1) * pow(10, -(int)field->bytes.at[0]),
                       err);
    if (field->type == FIELD_FLOAT) {
        narrow_bits = be_u32(field->bytes.at);
        memcpy(&narrow, &narrow_bits, sizeof(narrow));
        return real_of((double)narrow, err);
    }
    bits = be_u64(field->bytes.at);
    memcpy(&wide, &bits, sizeof(wide));
    return real_of(wide, err);
}

static json_t *
string_of(struct view v, struct err *err)
{
    json_t *string = json_from_view(v);

    if (string == NULL)
        err_set(err, PRECONDITION_FAILED, "octets that are no UTF-8");
    return string;
}

static json_t *array_of(struct view contents, struct err *err);

/* Depth is bounded: the table was checked. */
static json_t *
value_of(const struct field *field, struct err *err)
{
    switch (field->type) {
    case FIELD_BOOL:
        return json_boolean(field->integer != 0);
    case FIELD_VOID:
        return json_null();
    case FIELD_LONGSTR:
    case FIELD_BYTES:
        return string_of(field->bytes, err);
    case FIELD_TABLE:
        return json_from_table(field->bytes, err);
    case FIELD_ARRAY:
        return array_of(field->bytes, err);
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64:
    case FIELD_I64_L:
    case FIELD_TIMESTAMP:
        return json_integer(field->integer);
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
    case FIELD_DECIMAL:
        return real_of_field(field, err);
    }
    return json_null();
}

static json_t *
array_of(struct view contents, struct err *err)
{
    json_t *array = json_array(), *value;
    struct field field;

    for (size_t at = 0; array_next(contents, &at, &field);) {
        value = value_of(&field, err);
        if (value == NULL || json_array_append_new(array, value) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static bool
put_member(json_t *object, struct view name, const struct field *field, struct err *err)
{
    const char *at = name.len > 0 ? (const char *)name.at : "";
    json_t *value;

    if (json_object_getn(object, at, name.len) != NULL)
        return err_set(err, PRECONDITION_FAILED, "a name that comes twice");
    value = value_of(field, err);
    return value != NULL && (json_object_setn_new(object, at, name.len, value) == 0 ||
                             err_set(err, PRECONDITION_FAILED, "a name that is no UTF-8"));
}

json_t *
json_from_table(struct view table, struct err *err)
{
    json_t *object = json_object();
    struct field field;
    struct view name;

    for (size_t at = 0; table_next(table, &at, &name, &field);) {
        if (!put_member(object, name, &field, err)) {
            err_wrap(err, VIEW_FMT, VIEW_ARG(name));
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
