/* What an object's members say, and what is told when they do not. */
#include <assert.h>
#include <stdarg.h>

#include "import_priv.h"
#include "lepus/wire/table.h"

enum { NAME_LEN_MAX = 255, LINE_LEN = 1024 };

/* --- telling ----------------------------------------------------------------------------- */

void
say(struct import *in, enum definitions_notice notice, const char *format, ...)
{
    char line[LINE_LEN];
    va_list args;
    int n = snprintf(line, sizeof(line), "%s%s", in->path.at, in->path.len > 0 ? ": " : "");

    va_start(args, format);
    vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    if (notice == DEFINITIONS_ERROR) {
        in->counts->errors++;
        in->is_bad = true;
    } else {
        in->counts->warnings++;
    }
    in->tell(in->arg, notice, line);
}

void
describe(const json_t *value, char out[FOUND_LEN])
{
    char *text;
    size_t n;

    if (json_is_object(value) || json_is_array(value)) {
        snprintf(out, FOUND_LEN, "%s of %zu", json_is_object(value) ? "an object" : "a list",
                 json_is_object(value) ? json_object_size(value) : json_array_size(value));
        return;
    }
    text = json_text(value);
    snprintf(out, FOUND_LEN, "%s", text != NULL ? text : "?");
    n = text != NULL ? strlen(text) : 0;
    free(text);
    if (n < FOUND_LEN)
        return;
    for (n = FOUND_LEN - 4; n > 0 && ((unsigned char)out[n] & 0xC0) == 0x80;)
        n--; /* not within a character */
    memcpy(out + n, "...", 4);
}

void
say_of(struct import *in, const char *member, const char *what)
{
    size_t before = json_path_enter(&in->path, member, strlen(member));

    say(in, DEFINITIONS_ERROR, "%s", what);
    json_path_leave(&in->path, before);
}

void
say_unlike(struct import *in, const char *member, const char *expected, const json_t *found)
{
    size_t before = json_path_enter(&in->path, member, strlen(member));
    char text[FOUND_LEN];

    if (found == NULL) {
        say(in, DEFINITIONS_ERROR, "expected %s, found none", expected);
    } else {
        describe(found, text);
        say(in, DEFINITIONS_ERROR, "expected %s, found %s", expected, text);
    }
    json_path_leave(&in->path, before);
}

/* --- members ----------------------------------------------------------------------------- */

struct view
take_text(struct import *in, const json_t *object, const char *member, const char *otherwise)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL && otherwise != NULL)
        return view_str(otherwise);
    if (json_is_string(value))
        return json_view(value);
    say_unlike(in, member, "text", value);
    return VIEW_LIT("");
}

struct view
take_name(struct import *in, const json_t *object, const char *member, const char *otherwise)
{
    struct view name = take_text(in, object, member, otherwise);

    if (name.len > NAME_LEN_MAX)
        say_unlike(in, member, "a name of at most 255 octets", json_object_get(object, member));
    return name;
}

bool
take_flag(struct import *in, const json_t *object, const char *member, bool otherwise)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL)
        return otherwise;
    if (!json_is_boolean(value))
        say_unlike(in, member, "true or false", value);
    return json_is_true(value);
}

int64_t
take_number(struct import *in, const json_t *object, const char *member, int64_t otherwise)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL)
        return otherwise;
    if (!json_is_integer(value))
        say_unlike(in, member, "a whole number", value);
    return json_integer_value(value);
}

const json_t *
take_object(struct import *in, const json_t *object, const char *member)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL || json_is_object(value))
        return value;
    if (!json_is_array(value) || json_array_size(value) > 0)
        say_unlike(in, member, "an object", value);
    return NULL;
}

struct view
take_arguments(struct import *in, const json_t *object)
{
    const json_t *arguments = take_object(in, object, "arguments");
    size_t before;
    struct err err;

    buf_clear(&in->arguments);
    if (arguments == NULL)
        return VIEW_LIT("");
    before = json_path_enter(&in->path, "arguments", strlen("arguments"));
    if (!json_to_table(&in->arguments, arguments, &in->path, &err)) {
        say(in, DEFINITIONS_ERROR, "%s", err.text);
        json_path_leave(&in->path, before);
        return VIEW_LIT("");
    }
    json_path_leave(&in->path, before);
    assert(table_check(buf_view(&in->arguments)));
    return buf_view(&in->arguments);
}

static void
put_tag(struct import *in, const json_t *tag)
{
    struct view v = json_view(tag);

    if (in->tags.len > 0)
        buf_u8(&in->tags, ',');
    buf_append(&in->tags, v.at, v.len);
}

static bool
is_tag(const json_t *tag)
{
    struct view v = json_view(tag);

    return json_is_string(tag) && v.len > 0 && memchr(v.at, ',', v.len) == NULL;
}

/* "a, b" without the blanks around the tags, and without the empty ones. */
static void
put_joined_tags(struct import *in, struct view joined)
{
    while (joined.len > 0) {
        const uint8_t *comma = memchr(joined.at, ',', joined.len);
        struct view tag =
            view_of(joined.at, comma != NULL ? (size_t)(comma - joined.at) : joined.len);
        size_t used = tag.len + (comma != NULL);

        joined = view_of(joined.at + used, joined.len - used);
        for (; tag.len > 0 && tag.at[0] == ' '; tag.at++)
            tag.len--;
        while (tag.len > 0 && tag.at[tag.len - 1] == ' ')
            tag.len--;
        if (tag.len == 0)
            continue;
        if (in->tags.len > 0)
            buf_u8(&in->tags, ',');
        buf_append(&in->tags, tag.at, tag.len);
    }
}

struct view
take_tags(struct import *in, const json_t *object)
{
    const json_t *tags = json_object_get(object, "tags");
    json_t *tag;
    size_t i;

    buf_clear(&in->tags);
    if (json_is_string(tags))
        put_joined_tags(in, json_view(tags));
    else if (tags != NULL && !json_is_array(tags))
        say_unlike(in, "tags", "a list of texts, or one with commas", tags);
    json_array_foreach(tags, i, tag)
    {
        if (is_tag(tag))
            put_tag(in, tag);
        else
            say_unlike(in, "tags", "a list of texts without commas", tags);
    }
    return buf_view(&in->tags);
}

bool
is_one_of(const char *name, size_t n, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == n && memcmp(*names, name, n) == 0)
            return true;
    return false;
}

void
warn_unknown(struct import *in, const char *name, size_t n, const json_t *value, bool is_kept)
{
    size_t before = json_path_enter(&in->path, name, n);
    char text[FOUND_LEN];

    describe(value, text);
    say(in, DEFINITIONS_WARNING, "not understood, %s: %s", is_kept ? "but kept" : "left out", text);
    json_path_leave(&in->path, before);
}

void
warn_others(struct import *in, const json_t *object, const char *const *known)
{
    const char *name;
    json_t *value;
    size_t n;

    json_object_keylen_foreach((json_t *)(uintptr_t)object, name, n, value)
    {
        if (!is_one_of(name, n, known))
            warn_unknown(in, name, n, value, false);
    }
}

void
keep_others(struct import *in, json_t *to, const json_t *object, const char *const *columns,
            const char *const *known)
{
    const char *name;
    json_t *value;
    size_t n;

    json_object_keylen_foreach((json_t *)(uintptr_t)object, name, n, value)
    {
        if (is_one_of(name, n, columns))
            continue;
        if (!is_one_of(name, n, known))
            warn_unknown(in, name, n, value, true);
        json_object_setn(to, name, n, value);
    }
}

struct view
take_others(struct import *in, json_t *inner, json_t *others)
{
    char *text = NULL;

    if (json_object_get(inner, DEFINITIONS_OTHERS) != NULL)
        say(in, DEFINITIONS_ERROR, "expected no member '%s', which is ours", DEFINITIONS_OTHERS);
    if (json_object_size(others) > 0)
        json_object_set_new(inner, DEFINITIONS_OTHERS, others);
    else
        json_decref(others);
    buf_clear(&in->others);
    if (json_object_size(inner) > 0)
        text = json_text(inner);
    if (text != NULL)
        buf_append(&in->others, text, strlen(text));
    free(text);
    json_decref(inner);
    return buf_view(&in->others);
}

char *
take_json(struct import *in, const json_t *object, const char *member)
{
    const json_t *value = json_object_get(object, member);

    if (value != NULL)
        return json_text(value);
    say_unlike(in, member, "a value", NULL);
    return NULL;
}

struct vhost *
find_vhost(struct import *in, const json_t *object)
{
    const json_t *named = json_object_get(object, "vhost");
    struct view name = in->vhost;
    struct vhost *vhost;

    if (named != NULL)
        name = take_text(in, object, "vhost", NULL);
    if (named != NULL && !json_is_string(named))
        return NULL;
    vhost = topology_find_vhost(in->definitions->topology, name);
    if (vhost == NULL)
        say_unlike(in, "vhost", "a vhost that exists", named);
    return vhost;
}
