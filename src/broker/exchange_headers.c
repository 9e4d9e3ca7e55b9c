/*
 * exchange_headers: a binding's arguments are what the message's headers should be.
 *
 * x-match says how: all (also when it is absent), any, all-with-x, any-with-x. Arguments
 * beginning with x- do not take part, but for the -with-x forms; x-match itself never does. As
 * in RabbitMQ a void argument asks for the header's presence, and values are compared without
 * regard to their types: 1 is 1 as a byte, a long or a double, and a string is its octets. Both
 * sides are sorted by name and merged, of equal names the first with the first.
 */
#include "exchange_priv.h"

#include <assert.h>

#include "field_text.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/props.h"

/* clang-format off */
#define MATCHES(M)                            \
    M(ALL,        "all",        false, false) \
    M(ANY,        "any",        true,  false) \
    M(ALL_WITH_X, "all-with-x", false, true)  \
    M(ANY_WITH_X, "any-with-x", true,  true)
/* clang-format on */

enum match {
#define M(NAME, name, is_any, with_x) MATCH_##NAME,
    MATCHES(M)
#undef M
};

static const struct {
    const char *name;
    bool is_any, with_x;
} matches[] = {
#define M(NAME, name, is_any, with_x) {name, is_any, with_x},
    MATCHES(M)
#undef M
};

enum { N_MATCHES = sizeof(matches) / sizeof(matches[0]) };

static size_t
match_find(struct view name)
{
    size_t i = 0;

    while (i < N_MATCHES && !view_equal(name, view_str(matches[i].name)))
        i++;
    return i;
}

static bool
check_arguments(struct view arguments, struct err *err)
{
    struct field match;
    struct text value = {0};

    if (!table_find(arguments, VIEW_LIT("x-match"), &match))
        return true;
    text_put_field(&value, &match);
    if (match.type != FIELD_LONGSTR)
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid x-match field type %s (value %s); expected longstr",
                       field_type_name(match.type), value.at);
    if (match_find(match.bytes) == N_MATCHES)
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid x-match field value %s; "
                       "expected all, any, all-with-x, or any-with-x",
                       value.at);
    return true;
}

static void
init(struct exchange *exchange)
{
    exchange->index = NULL;
}

static void
fini(struct exchange *exchange)
{
    (void)exchange;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct field match;
    size_t i = MATCH_ALL;

    (void)exchange;
    if (table_find(binding_arguments(binding), VIEW_LIT("x-match"), &match))
        i = match_find(match.bytes);
    assert(i < N_MATCHES);
    binding->detail = (uint8_t)i;
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    (void)exchange;
    (void)binding;
}

/* --- values -------------------------------------------------------------------------------- */

enum value_class { VALUE_INTEGER, VALUE_FLOATING, VALUE_OCTETS, VALUE_OTHER };

static enum value_class
class_of(const struct field *field)
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
    case FIELD_TIMESTAMP:
        return VALUE_INTEGER;
    case FIELD_FLOAT:
    case FIELD_DOUBLE:
        return VALUE_FLOATING;
    case FIELD_LONGSTR:
    case FIELD_BYTES:
        return VALUE_OCTETS;
    case FIELD_BOOL:
    case FIELD_DECIMAL:
    case FIELD_ARRAY:
    case FIELD_TABLE:
    case FIELD_VOID:
        break;
    }
    return VALUE_OTHER;
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

/* A timestamp counts from 0 to 2^64, the integers to 2^63. */
static bool
integers_equal(const struct field *a, const struct field *b)
{
    bool one_is_unsigned = (a->type == FIELD_TIMESTAMP) != (b->type == FIELD_TIMESTAMP);

    return a->integer == b->integer && !(one_is_unsigned && a->integer < 0);
}

/* Exactly: 2^53 + 1 is no double. */
static bool
integer_equals_double(const struct field *integer, double d)
{
    if (integer->type == FIELD_TIMESTAMP && integer->integer < 0)
        return d == (double)(uint64_t)integer->integer && d < 0x1p64 &&
               (uint64_t)d == (uint64_t)integer->integer;
    return d >= -0x1p63 && d < 0x1p63 && (int64_t)d == integer->integer && (double)(int64_t)d == d;
}

static bool
values_equal(const struct field *a, const struct field *b)
{
    enum value_class ca = class_of(a), cb = class_of(b);

    if (ca == VALUE_INTEGER && cb == VALUE_INTEGER)
        return integers_equal(a, b);
    if (ca == VALUE_FLOATING && cb == VALUE_FLOATING)
        return floating_of(a) == floating_of(b);
    if (ca == VALUE_INTEGER && cb == VALUE_FLOATING)
        return integer_equals_double(a, floating_of(b));
    if (ca == VALUE_FLOATING && cb == VALUE_INTEGER)
        return integer_equals_double(b, floating_of(a));
    if (ca == VALUE_OCTETS && cb == VALUE_OCTETS)
        return view_equal(a->bytes, b->bytes);
    return field_equal(a, b);
}

/* --- matching ------------------------------------------------------------------------------ */

struct header {
    struct view name;
    struct field field;
};

static int
compare_names(struct view a, struct view b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.at, b.at, n) : 0;

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
compare_headers(const void *a, const void *b)
{
    const struct header *x = a, *y = b;
    int order = compare_names(x->name, y->name);

    /* Of equal names the one that stands first: they lie in one table. */
    return order != 0 ? order : (x->name.at > y->name.at) - (x->name.at < y->name.at);
}

/* Counts, then fills when `out` is given. */
static size_t
read_headers(struct view table, struct header *out)
{
    struct header header;
    size_t n = 0;

    for (size_t at = 0; table_next(table, &at, &header.name, &header.field); n++)
        if (out != NULL)
            out[n] = header;
    return n;
}

static bool
takes_part(const struct binding *binding, struct view name)
{
    return view_has_prefix(name, VIEW_LIT("x-"))
               ? matches[binding->detail].with_x && !view_equal(name, VIEW_LIT("x-match"))
               : true;
}

static bool
does_match(const struct binding *binding, const struct header *headers, size_t n)
{
    bool is_any = matches[binding->detail].is_any;
    struct field wanted;
    struct view name;
    size_t i = 0;

    for (size_t at = 0; table_next(binding_arguments(binding), &at, &name, &wanted);) {
        bool matched = false;

        if (!takes_part(binding, name))
            continue;
        while (i < n && compare_names(headers[i].name, name) < 0)
            i++;
        if (i < n && view_equal(headers[i].name, name)) {
            matched = wanted.type == FIELD_VOID || values_equal(&wanted, &headers[i].field);
            i++;
        }
        if (matched == is_any)
            return is_any;
    }
    return !is_any;
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    struct header few[32], *headers = few;
    struct view table = {0};
    size_t n;

    (void)key;
    if (list_is_empty(&exchange->from))
        return;
    router->out->is_for_one = true;
    props_find(router->properties, PROP_headers, &table);
    n = read_headers(table, NULL);
    if (n > sizeof(few) / sizeof(few[0]))
        headers = mem_alloc(n * sizeof(struct header));
    read_headers(table, headers);
    if (n > 1)
        qsort(headers, n, sizeof(struct header), compare_headers);
    list_each (at, &exchange->from) {
        struct binding *binding = container_of(at, struct binding, from);

        router->n_visited++;
        if (does_match(binding, headers, n))
            route_to(router, binding);
    }
    if (headers != few)
        free(headers);
}

static size_t
check(const struct exchange *exchange)
{
    size_t n = 0;

    list_each (at, &exchange->from) {
        assert(container_of(at, struct binding, from)->detail < N_MATCHES);
        n++;
    }
    return n;
}

const struct exchange_type exchange_headers = {
    .name = "headers",
    .check_arguments = check_arguments,
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
