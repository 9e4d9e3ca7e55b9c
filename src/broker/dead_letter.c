#include "lepus/broker/dead_letter.h"

#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

const char *
death_name(enum death why)
{
    switch (why) {
    case DEATH_REJECTED:
        return "rejected";
    case DEATH_EXPIRED:
        return "expired";
    case DEATH_MAXLEN:
        return "maxlen";
    case DEATH_DELIVERY_LIMIT:
        return "delivery_limit";
    case DEATH_DUE:
        return "due";
    }
    return "";
}

static bool
says(struct view entry, struct view name, struct view value)
{
    struct field field;

    return table_find(entry, name, &field) && field.type == FIELD_LONGSTR &&
           view_equal(field.bytes, value);
}

/* The x-death array, or nothing. */
static struct view
deaths_in(struct view headers)
{
    struct field field;

    return table_find(headers, VIEW_LIT("x-death"), &field) && field.type == FIELD_ARRAY
               ? field.bytes
               : view_of(NULL, 0);
}

static bool
is_of(const struct field *entry, const struct death_note *note)
{
    return entry->type == FIELD_TABLE && says(entry->bytes, VIEW_LIT("queue"), note->queue) &&
           says(entry->bytes, VIEW_LIT("reason"), view_str(death_name(note->why)));
}

/* The entry of this death, counted once more. */
static void
put_again(struct buf *to, struct view entry)
{
    size_t at = 0, begun = array_begin_table(to);
    bool has_count = false;
    struct field field;
    struct view name;

    while (table_next(entry, &at, &name, &field)) {
        if (view_equal(name, VIEW_LIT("count"))) {
            int64_t count =
                field_is_integer(&field) && field.integer < INT64_MAX ? field.integer : 0;

            table_put_i64(to, name, count + 1);
            has_count = true;
        } else {
            table_put_field(to, name, &field);
        }
    }
    if (!has_count)
        table_put_i64(to, VIEW_LIT("count"), 1);
    table_end(to, begun);
}

static void
put_keys(struct buf *to, const struct content *dead, struct view headers)
{
    size_t begun = table_begin_array(to, VIEW_LIT("routing-keys"));
    struct field cc, key;

    array_put_longstr(to, dead->routing_key);
    if (table_find(headers, VIEW_LIT("CC"), &cc) && cc.type == FIELD_ARRAY)
        for (size_t at = 0; array_next(cc.bytes, &at, &key);)
            if (key.type == FIELD_LONGSTR)
                array_put_longstr(to, key.bytes);
    table_end(to, begun);
}

static void
put_first(struct buf *to, const struct content *dead, struct view headers,
          const struct death_note *note)
{
    size_t begun = array_begin_table(to);
    struct view expiration;

    table_put_i64(to, VIEW_LIT("count"), 1);
    table_put_longstr(to, VIEW_LIT("reason"), view_str(death_name(note->why)));
    table_put_longstr(to, VIEW_LIT("queue"), note->queue);
    table_put_timestamp(to, VIEW_LIT("time"), note->time_s);
    table_put_longstr(to, VIEW_LIT("exchange"), dead->exchange);
    put_keys(to, dead, headers);
    if (props_find(dead->properties, PROP_expiration, &expiration))
        table_put_longstr(to, VIEW_LIT("original-expiration"), expiration);
    table_end(to, begun);
}

static void
put_deaths(struct buf *to, const struct content *dead, struct view headers,
           const struct death_note *note)
{
    struct view deaths = deaths_in(headers);
    size_t begun = table_begin_array(to, VIEW_LIT("x-death")), same = SIZE_MAX;
    struct field entry;

    for (size_t at = 0, before = 0; array_next(deaths, &at, &entry); before = at)
        if (is_of(&entry, note)) {
            same = before;
            put_again(to, entry.bytes);
            break;
        }
    if (same == SIZE_MAX)
        put_first(to, dead, headers, note);
    for (size_t at = 0, before = 0; array_next(deaths, &at, &entry); before = at)
        if (before != same && entry.type == FIELD_TABLE)
            array_put_field(to, &entry);
    table_end(to, begun);
}

static void
put_summary(struct buf *to, struct view headers, const struct content *dead,
            const struct death_note *note)
{
    const struct {
        struct view first, last, value;
    } rows[] = {
        {VIEW_LIT("x-first-death-exchange"), VIEW_LIT("x-last-death-exchange"), dead->exchange},
        {VIEW_LIT("x-first-death-queue"), VIEW_LIT("x-last-death-queue"), note->queue},
        {VIEW_LIT("x-first-death-reason"), VIEW_LIT("x-last-death-reason"),
         view_str(death_name(note->why))},
    };
    struct field there;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!table_find(headers, rows[i].first, &there))
            table_put_longstr(to, rows[i].first, rows[i].value);
        table_put_longstr(to, rows[i].last, rows[i].value);
    }
}

void
dead_letter_properties(struct buf *to, const struct content *dead, const struct death_note *note)
{
    struct view ours[] = {
        VIEW_LIT("x-death"),
        VIEW_LIT("x-last-death-exchange"),
        VIEW_LIT("x-last-death-queue"),
        VIEW_LIT("x-last-death-reason"),
        VIEW_LIT("x-delivery-count"),
        VIEW_LIT("CC"),
    };
    size_t n = sizeof(ours) / sizeof(ours[0]) - (note->has_key ? 0 : 1);
    struct view headers = {0}, table;
    struct buf fields, lasting;

    buf_init(&fields, SIZE_MAX / 2);
    buf_init(&lasting, SIZE_MAX / 2);
    props_find(dead->properties, PROP_headers, &headers);
    table_copy_without(&fields, headers, ours, n);
    put_deaths(&fields, dead, headers, note);
    put_summary(&fields, headers, dead, note);
    table = buf_view(&fields);
    props_copy_with(&lasting, dead->properties, PROP_expiration, NULL);
    props_copy_with(to, buf_view(&lasting), PROP_headers, &table);
    buf_fini(&fields);
    buf_fini(&lasting);
}

bool
dead_letter_is_cycle(struct view headers, struct view queue)
{
    struct view deaths = deaths_in(headers);
    struct field entry;

    for (size_t at = 0; array_next(deaths, &at, &entry);) {
        if (entry.type != FIELD_TABLE)
            continue;
        if (says(entry.bytes, VIEW_LIT("reason"), VIEW_LIT("rejected")))
            return false;
        if (says(entry.bytes, VIEW_LIT("queue"), queue))
            return true;
    }
    return false;
}
