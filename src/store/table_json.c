/*
 * A field table as JSON, for people: what JSON has no word for becomes a string or a number that
 * tells most of it. Octets that are no UTF-8 appear as the characters U+0080 to U+00FF.
 */
#include <math.h>

#include "lepus/wire/octets.h"
#include "lepus/wire/table.h"
#include "metadata_priv.h"

static void
put_text(struct buf *to, const char *text)
{
    buf_append(to, text, strlen(text));
}

static void
put_string(struct buf *to, struct view v)
{
    bool is_utf8 = view_is_utf8(v);

    buf_u8(to, '"');
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.at[i];
        char escape[8];

        if (c == '"' || c == '\\') {
            buf_u8(to, '\\');
            buf_u8(to, c);
        } else if (c < ' ' || c == 0x7F || (c >= 0x80 && !is_utf8)) {
            snprintf(escape, sizeof(escape), "\\u%04x", c);
            put_text(to, escape);
        } else {
            buf_u8(to, c);
        }
    }
    buf_u8(to, '"');
}

static double
read_floating(const struct field *field)
{
    uint32_t narrow_bits;
    uint64_t bits;
    double wide;
    float narrow;

    if (field->type == FIELD_FLOAT) {
        narrow_bits = be_u32(field->bytes.at);
        memcpy(&narrow, &narrow_bits, sizeof(narrow));
        return (double)narrow;
    }
    bits = be_u64(field->bytes.at);
    memcpy(&wide, &bits, sizeof(wide));
    return wide;
}

static void
put_number(struct buf *to, const struct field *field)
{
    double value = 0;
    char text[64];

    if (field->type == FIELD_FLOAT || field->type == FIELD_DOUBLE)
        value = read_floating(field);
    if (!isfinite(value))
        snprintf(text, sizeof(text), "null");
    else if (field->type == FIELD_FLOAT || field->type == FIELD_DOUBLE)
        snprintf(text, sizeof(text), "%.17g", value);
    else if (field->type == FIELD_DECIMAL)
        snprintf(text, sizeof(text), "%de-%u", (int32_t)be_u32(field->bytes.at + 1),
                 field->bytes.at[0]);
    else
        snprintf(text, sizeof(text), "%lld", (long long)field->integer);
    put_text(to, text);
}

/* Depth is bounded: the table was checked. */
static void
put_field(struct buf *to, const struct field *field)
{
    struct field element;
    const char *separator = "";

    switch (field->type) {
    case FIELD_BOOL:
        put_text(to, field->integer != 0 ? "true" : "false");
        break;
    case FIELD_VOID:
        put_text(to, "null");
        break;
    case FIELD_LONGSTR:
    case FIELD_BYTES:
        put_string(to, field->bytes);
        break;
    case FIELD_TABLE:
        table_to_json(to, field->bytes);
        break;
    case FIELD_ARRAY:
        buf_u8(to, '[');
        for (size_t at = 0; array_next(field->bytes, &at, &element); separator = ",") {
            put_text(to, separator);
            put_field(to, &element);
        }
        buf_u8(to, ']');
        break;
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64:
    case FIELD_I64_L:
    case FIELD_TIMESTAMP:
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
    case FIELD_DECIMAL:
        put_number(to, field);
        break;
    }
}

void
table_to_json(struct buf *to, struct view table)
{
    struct view name;
    struct field field;
    const char *separator = "";

    buf_u8(to, '{');
    for (size_t at = 0; table_next(table, &at, &name, &field); separator = ",") {
        put_text(to, separator);
        put_string(to, name);
        buf_u8(to, ':');
        put_field(to, &field);
    }
    buf_u8(to, '}');
}
