#include "field_text.h"

#include <stdarg.h>

#include "lepus/wire/octets.h"

void
text_put(struct text *text, const char *format, ...)
{
    size_t room = sizeof(text->at) - text->len;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text->at + text->len, room, format, args);
    va_end(args);
    if (n > 0)
        text->len += (size_t)n < room ? (size_t)n : room - 1;
}

static bool
is_printable(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.at[i] < ' ' || v.at[i] > '~')
            return false;
    return true;
}

static void
put_binary(struct text *text, struct view v)
{
    text_put(text, "<<");
    if (v.len > 0 && is_printable(v)) {
        text_put(text, "\"");
        for (size_t i = 0; i < v.len; i++)
            text_put(text, "%s%c", v.at[i] == '"' || v.at[i] == '\\' ? "\\" : "", v.at[i]);
        text_put(text, "\"");
    } else {
        for (size_t i = 0; i < v.len && text->len < sizeof(text->at) - 1; i++)
            text_put(text, "%s%u", i > 0 ? "," : "", v.at[i]);
    }
    text_put(text, ">>");
}

/* The shortest that reads back as the same number, and looks like no integer. */
static void
put_double(struct text *text, double value)
{
    char shortest[40];
    int digits = 1;

    do
        snprintf(shortest, sizeof(shortest), "%.*g", digits, value);
    while (++digits <= 17 && strtod(shortest, NULL) != value);
    text_put(text, "%s%s", shortest, strpbrk(shortest, ".en") == NULL ? ".0" : "");
}

static void
put_floating(struct text *text, const struct field *field)
{
    uint32_t narrow_bits;
    uint64_t bits;
    float narrow;
    double wide;

    if (field->type == FIELD_FLOAT) {
        narrow_bits = be_u32(field->bytes.at);
        memcpy(&narrow, &narrow_bits, sizeof(narrow));
        put_double(text, (double)narrow);
    } else {
        bits = be_u64(field->bytes.at);
        memcpy(&wide, &bits, sizeof(wide));
        put_double(text, wide);
    }
}

static void
put_array(struct text *text, struct view array)
{
    struct field field;
    size_t at = 0;

    text_put(text, "[");
    for (bool first = true; text->len < sizeof(text->at) - 1 && array_next(array, &at, &field);
         first = false) {
        text_put(text, "%s{%s,", first ? "" : ",", field_type_name(field.type));
        text_put_field(text, &field);
        text_put(text, "}");
    }
    text_put(text, "]");
}

static void
put_table(struct text *text, struct view table)
{
    struct field field;
    struct view name;
    size_t at = 0;

    text_put(text, "[");
    for (bool first = true;
         text->len < sizeof(text->at) - 1 && table_next(table, &at, &name, &field); first = false) {
        text_put(text, "%s{", first ? "" : ",");
        put_binary(text, name);
        text_put(text, ",%s,", field_type_name(field.type));
        text_put_field(text, &field);
        text_put(text, "}");
    }
    text_put(text, "]");
}

void
text_put_field(struct text *text, const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        text_put(text, "%s", field->integer ? "true" : "false");
        return;
    case FIELD_I8:
    case FIELD_U8:
    case FIELD_I16:
    case FIELD_U16:
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64:
    case FIELD_I64_L:
        text_put(text, "%lld", (long long)field->integer);
        return;
    case FIELD_TIMESTAMP:
        text_put(text, "%llu", (unsigned long long)field->integer);
        return;
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
        put_floating(text, field);
        return;
    case FIELD_DECIMAL:
        text_put(text, "{%u,%u}", field->bytes.at[0], (unsigned)be_u32(field->bytes.at + 1));
        return;
    case FIELD_LONGSTR:
    case FIELD_BYTES:
        put_binary(text, field->bytes);
        return;
    case FIELD_ARRAY:
        put_array(text, field->bytes);
        return;
    case FIELD_TABLE:
        put_table(text, field->bytes);
        return;
    case FIELD_VOID:
        text_put(text, "undefined");
        return;
    }
}

void
text_put_plain(struct text *text, const struct field *field)
{
    if (field->type == FIELD_LONGSTR || field->type == FIELD_BYTES)
        text_put(text, VIEW_FMT, VIEW_ARG(field->bytes));
    else
        text_put_field(text, field);
}
