#include "lepus/broker/stream_arguments.h"

#include "field_text.h"
#include "lepus/wire/table.h"

/* --- ages -------------------------------------------------------------------------------- */

static uint64_t
unit_s(uint8_t unit)
{
    switch (unit) {
    case 'Y':
        return UINT64_C(365) * 24 * 3600;
    case 'M':
        return UINT64_C(30) * 24 * 3600;
    case 'D':
        return 24 * 3600;
    case 'h':
        return 3600;
    case 'm':
        return 60;
    case 's':
        return 1;
    default:
        return 0;
    }
}

bool
stream_age_parse(struct view text, uint64_t *out_ms)
{
    const uint64_t most = INT64_MAX / 1000;
    uint64_t n = 0, unit;

    if (text.len < 2 || (unit = unit_s(text.at[text.len - 1])) == 0)
        return false;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text.at[i] - '0');
        if (n > most)
            n = most; /* for ever */
    }
    if (n == 0)
        return false;
    *out_ms = n > most / unit ? most * 1000 : n * unit * 1000;
    return true;
}

/* --- a declare's --------------------------------------------------------------------------- */

/* The policy's, or else the argument's; name: the argument's. */
static bool
find_rule(struct view arguments, struct view policy, struct view name, struct field *out)
{
    return table_find(policy, view_of(name.at + 2, name.len - 2), out) ||
           table_find(arguments, name, out);
}

static uint64_t
number(struct view arguments, struct view policy, struct view name)
{
    struct field field;

    return find_rule(arguments, policy, name, &field) && field_is_integer(&field) &&
                   field.integer > 0
               ? (uint64_t)field.integer
               : 0;
}

void
stream_rules_init(struct stream_rules *rules, struct view arguments, struct view policy)
{
    uint64_t filter = number(arguments, policy, VIEW_LIT("x-stream-filter-size-bytes"));
    struct field age;

    *rules = (struct stream_rules){
        .max_bytes = number(arguments, policy, VIEW_LIT("x-max-length-bytes")),
        .segment_bytes = number(arguments, policy, VIEW_LIT("x-stream-max-segment-size-bytes")),
        .filter_bytes = filter <= STREAM_FILTER_MAX ? (uint8_t)filter : STREAM_FILTER_MAX,
    };
    if (find_rule(arguments, policy, VIEW_LIT("x-max-age"), &age) && age.type == FIELD_LONGSTR)
        stream_age_parse(age.bytes, &rules->max_age_ms);
}

/* --- a consumer's -------------------------------------------------------------------------- */

static bool
read_offset(struct stream_wish *wish, const struct field *field)
{
    uint64_t age_ms;

    if (field_is_integer(field)) {
        wish->from = STREAM_FROM_OFFSET;
        wish->offset = field->integer > 0 ? (uint64_t)field->integer : 0;
    } else if (field->type == FIELD_TIMESTAMP) {
        wish->from = STREAM_FROM_TIME;
        wish->time_ms = field->integer < 0                  ? INT64_MAX
                        : field->integer > INT64_MAX / 1000 ? INT64_MAX
                                                            : field->integer * 1000;
    } else if (field->type != FIELD_LONGSTR) {
        return false;
    } else if (view_equal(field->bytes, VIEW_LIT("first"))) {
        wish->from = STREAM_FROM_FIRST;
    } else if (view_equal(field->bytes, VIEW_LIT("last"))) {
        wish->from = STREAM_FROM_LAST;
    } else if (view_equal(field->bytes, VIEW_LIT("next"))) {
        wish->from = STREAM_FROM_NEXT;
    } else if (stream_age_parse(field->bytes, &age_ms)) {
        wish->from = STREAM_FROM_TIME;
        wish->time_ms = (int64_t)age_ms;
        wish->is_age = true;
    } else {
        return false;
    }
    return true;
}

/* What is no string in the array is passed over, as RabbitMQ does it. */
static bool
read_filters(struct stream_wish *wish, const struct field *field)
{
    struct field value;

    if (field->type == FIELD_LONGSTR) {
        wish->filters[wish->n_filters++] = field->bytes;
        return true;
    }
    if (field->type != FIELD_ARRAY)
        return false;
    for (size_t at = 0; array_next(field->bytes, &at, &value);) {
        if (value.type != FIELD_LONGSTR)
            continue;
        if (wish->n_filters == STREAM_FILTERS_MAX)
            return false;
        wish->filters[wish->n_filters++] = value.bytes;
    }
    return true;
}

static bool
read_flag(const struct field *field, bool *out)
{
    *out = field->type == FIELD_BOOL && field->integer != 0;
    return field->type == FIELD_BOOL;
}

static bool
read_group(struct stream_wish *wish, const struct field *field)
{
    wish->group = field->bytes;
    return field->type == FIELD_LONGSTR && field->bytes.len > 0 && field->bytes.len <= 255;
}

/* {invalid_stream_offset_arg,{longstr,<<"1x">>}} */
static void
tell_offset(char why[200], const struct field *field)
{
    struct text value = {0};

    text_put_field(&value, field);
    snprintf(why, 200, "{invalid_stream_offset_arg,{%s,%.150s}}", field_type_name(field->type),
             value.at);
}

bool
stream_wish_read(struct stream_wish *wish, struct view arguments, const char **out_arg,
                 char why[200])
{
    struct field field;
    bool flag = false;

    wish->from = STREAM_FROM_NEXT;
    wish->offset = 0;
    wish->time_ms = 0;
    wish->is_age = wish->match_unfiltered = false;
    wish->n_filters = 0;
    wish->group = view_of(NULL, 0);
    *out_arg = "x-stream-offset";
    if (table_find(arguments, view_str(*out_arg), &field) && !read_offset(wish, &field)) {
        tell_offset(why, &field);
        return false;
    }
    *out_arg = "x-stream-filter";
    snprintf(why, 200, "a string or an array of at most %d strings is expected",
             STREAM_FILTERS_MAX);
    if (table_find(arguments, view_str(*out_arg), &field) && !read_filters(wish, &field))
        return false;
    *out_arg = "x-stream-group";
    snprintf(why, 200, "a string of 1 to 255 octets is expected");
    if (table_find(arguments, view_str(*out_arg), &field) && !read_group(wish, &field))
        return false;
    snprintf(why, 200, "a bool is expected");
    *out_arg = "x-stream-match-unfiltered";
    if (table_find(arguments, view_str(*out_arg), &field) &&
        !read_flag(&field, &wish->match_unfiltered))
        return false;
    *out_arg = "x-stream-automatic-offset-tracking";
    if (table_find(arguments, view_str(*out_arg), &field) && !read_flag(&field, &flag))
        return false;
    wish->tracks = flag || wish->group.at != NULL;
    return true;
}
