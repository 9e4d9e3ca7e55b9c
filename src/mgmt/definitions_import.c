/*
 * Importing definitions: a document's lists, in the order in which they need each other.
 *
 * Happy path: the document is parsed; each list of `sections` is walked; each object is read
 * member by member, then put where it belongs. A member that is not what it should be is told, and
 * marks its object as bad: the rest of its members is looked at all the same, for everything wrong
 * shall be told at once, but the object is left out. What takes an object is called with all of
 * it read, so that nothing is half done.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>

#include "definitions_priv.h"
#include "lepus/base/map.h"
#include "lepus/base/mem.h"
#include "lepus/wire/table.h"

enum {
    NAME_LEN_MAX = 255,
    ARGUMENTS_MAX = 1 << 26,
    FOUND_LEN = 80, /* of a value in a line */
    LINE_LEN = 1024,
    PARSE_FLAGS = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
};

struct user_name {
    struct map_node node;
    char at[];
};

struct definitions {
    struct topology *topology;
    struct metadata *metadata;
    struct map users; /* of user_name: those that there are */
};

/* One import. */
struct import {
    struct definitions *definitions;
    definitions_tell *tell;
    void *arg;
    struct definitions_counts *counts;
    struct view vhost; /* where objects go that name none */
    const json_t *document;
    struct json_path path; /* to the object in hand, or further */
    bool is_bad;           /* the object in hand */
    struct buf arguments, tags, others;
};

/* --- who knows the users ----------------------------------------------------------------- */

static bool
has_user(const struct definitions *definitions, struct view name)
{
    return map_find(&definitions->users, name) != NULL;
}

static void
remember_user(struct definitions *definitions, struct view name)
{
    struct user_name *user;

    if (has_user(definitions, name))
        return;
    user = mem_alloc(sizeof(struct user_name) + name.len);
    if (name.len > 0)
        memcpy(user->at, name.at, name.len);
    map_add(&definitions->users, &user->node, view_of(user->at, name.len));
}

static bool
load_user(void *arg, const union metadata_row *row, struct err *err)
{
    (void)err;
    remember_user(arg, row->user.name);
    return true;
}

struct definitions *
definitions_new(struct topology *topology, struct metadata *metadata, struct err *err)
{
    struct definitions *definitions = mem_new(struct definitions);

    definitions->topology = topology;
    definitions->metadata = metadata;
    map_init(&definitions->users);
    if (metadata_walk(metadata, METADATA_users, load_user, definitions, err))
        return definitions;
    definitions_free(definitions);
    return NULL;
}

void
definitions_free(struct definitions *definitions)
{
    struct map_node *at;

    if (definitions == NULL)
        return;
    while ((at = map_next(&definitions->users, NULL)) != NULL) {
        map_remove(&definitions->users, at);
        free(container_of(at, struct user_name, node));
    }
    map_fini(&definitions->users);
    free(definitions);
}

/* --- telling ----------------------------------------------------------------------------- */

static void say(struct import *in, enum definitions_notice notice, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error marks the object in hand as bad. */
static void
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

/* A value as it stands in the document, cut, for a line. */
static void
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

/* "path.member: expected ..., found ...". */
static void
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

/* What stands for a member that is not there: NULL says that it must be there. */
static struct view
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

/* At most so long as AMQP's short strings. */
static struct view
take_name(struct import *in, const json_t *object, const char *member, const char *otherwise)
{
    struct view name = take_text(in, object, member, otherwise);

    if (name.len > NAME_LEN_MAX)
        say_unlike(in, member, "a name of at most 255 octets", json_object_get(object, member));
    return name;
}

static bool
take_flag(struct import *in, const json_t *object, const char *member, bool otherwise)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL)
        return otherwise;
    if (!json_is_boolean(value))
        say_unlike(in, member, "true or false", value);
    return json_is_true(value);
}

static int64_t
take_number(struct import *in, const json_t *object, const char *member, int64_t otherwise)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL)
        return otherwise;
    if (!json_is_integer(value))
        say_unlike(in, member, "a whole number", value);
    return json_integer_value(value);
}

/* NULL when there is none, or, which some exports have instead, an empty list. */
static const json_t *
take_object(struct import *in, const json_t *object, const char *member)
{
    const json_t *value = json_object_get(object, member);

    if (value == NULL || json_is_object(value))
        return value;
    if (!json_is_array(value) || json_array_size(value) > 0)
        say_unlike(in, member, "an object", value);
    return NULL;
}

/* A field table's contents; borrowed until the next object. */
static struct view
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

/* A list, or one text with commas; borrowed until the next object. */
static struct view
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

static bool
is_one_of(const char *name, size_t n, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == n && memcmp(*names, name, n) == 0)
            return true;
    return false;
}

static void
warn_unknown(struct import *in, const char *name, size_t n, const json_t *value, bool is_kept)
{
    size_t before = json_path_enter(&in->path, name, n);
    char text[FOUND_LEN];

    describe(value, text);
    say(in, DEFINITIONS_WARNING, "not understood, %s: %s", is_kept ? "but kept" : "left out", text);
    json_path_leave(&in->path, before);
}

/* Warns of all members but the known ones, which are left out. */
static void
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

/* Copies all members but those that have a column. Warns of those that are not even known. */
static void
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

/* The json column: `inner`, which is consumed, with `others`, too. Borrowed until the next one. */
static struct view
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

/* As a json column; the caller frees. */
static char *
take_json(struct import *in, const json_t *object, const char *member)
{
    const json_t *value = json_object_get(object, member);

    if (value != NULL)
        return json_text(value);
    say_unlike(in, member, "a value", NULL);
    return NULL;
}

static struct vhost *
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

static uint64_t
id_of(const struct vhost *vhost)
{
    return vhost != NULL ? vhost_id(vhost) : 0;
}

/* --- vhosts and users -------------------------------------------------------------------- */

/* Of the default queue type, words for none. */
static struct view
take_queue_type(struct import *in, const json_t *object)
{
    struct view type;

    if (json_is_null(json_object_get(object, "default_queue_type")))
        return VIEW_LIT("");
    type = take_text(in, object, "default_queue_type", "");
    return view_equal(type, VIEW_LIT("undefined")) ? VIEW_LIT("") : type;
}

/* 3.x says these in "metadata", 4.x there and beside it. */
static const json_t *
where(const json_t *object, const json_t *metadata, const char *member)
{
    return json_object_get(metadata, member) != NULL ? metadata : object;
}

static const char *const vhost_columns[] = {"name",    "description", "tags", "default_queue_type",
                                            "tracing", "metadata",    NULL};
static const char *const vhost_known[] = {"limits", "protected_from_deletion", "cluster_state",
                                          NULL};
static const char *const metadata_columns[] = {"description", "tags", "default_queue_type", NULL};
static const char *const metadata_known[] = {"protected_from_deletion", "tracing", NULL};

static void
put_vhost(struct import *in, const json_t *object, struct view name, json_t *others)
{
    const json_t *metadata = take_object(in, object, "metadata");
    json_t *inner = json_object();
    struct metadata_vhost row = {
        .name = name,
        .description = take_text(in, where(object, metadata, "description"), "description", ""),
        .tags = take_tags(in, where(object, metadata, "tags")),
        .default_queue_type = take_queue_type(in, where(object, metadata, "default_queue_type")),
        .tracing = take_flag(in, object, "tracing", false),
    };
    size_t before = json_path_enter(&in->path, "metadata", strlen("metadata"));
    struct err err;

    keep_others(in, inner, metadata, metadata_columns, metadata_known);
    row.metadata = take_others(in, inner, others);
    json_path_leave(&in->path, before);
    if (!in->is_bad && !topology_put_vhost(in->definitions->topology, &row, NULL, &err))
        say(in, DEFINITIONS_ERROR, "%s", err.text);
}

static void
take_vhost(struct import *in, const json_t *object)
{
    struct view name = take_name(in, object, "name", NULL);
    json_t *others = json_object();

    keep_others(in, others, object, vhost_columns, vhost_known);
    put_vhost(in, object, name, others);
}

/* RabbitMQ has told the algorithm since 3.6.1; before 3.6.0 there was MD5 only. */
static const char *
algorithm_by_version(const json_t *document)
{
    const json_t *version = json_object_get(document, "rabbit_version");
    int major, minor;

    if (version == NULL)
        version = json_object_get(document, "rabbitmq_version");
    if (json_is_string(version) &&
        sscanf(json_string_value(version), "%d.%d", &major, &minor) == 2 &&
        (major < 3 || (major == 3 && minor < 6)))
        return "rabbit_password_hashing_md5";
    return "rabbit_password_hashing_sha256";
}

static bool
is_base64(struct view v)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = v.len;

    if (n % 4 != 0)
        return false;
    for (int i = 0; i < 2 && n > 0 && v.at[n - 1] == '='; i++)
        n--;
    while (n > 0 && v.at[n - 1] != '\0' && strchr(digits, v.at[n - 1]) != NULL)
        n--;
    return n == 0;
}

/* A hash is not repeated in a line. */
static struct view
take_hash(struct import *in, const json_t *object)
{
    const json_t *value = json_object_get(object, "password_hash");

    if (value == NULL || (json_is_string(value) && is_base64(json_view(value))))
        return value != NULL ? json_view(value) : VIEW_LIT("");
    say(in, DEFINITIONS_ERROR, "password_hash: expected text in base64, found something else");
    return VIEW_LIT("");
}

static struct view
take_algorithm(struct import *in, const json_t *object)
{
    static const char *const algorithms[] = {"rabbit_password_hashing_sha256",
                                             "rabbit_password_hashing_sha512",
                                             "rabbit_password_hashing_md5", NULL};
    struct view name =
        take_text(in, object, "hashing_algorithm", algorithm_by_version(in->document));

    if (!in->is_bad && !is_one_of((const char *)name.at, name.len, algorithms))
        say_unlike(in, "hashing_algorithm", "rabbit_password_hashing_sha256, _sha512 or _md5",
                   json_object_get(object, "hashing_algorithm"));
    return name;
}

static const char *const user_columns[] = {"name", "password_hash", "hashing_algorithm",
                                           "tags", "limits",        NULL};
static const char *const no_names[] = {NULL};

static void
take_user(struct import *in, const json_t *object)
{
    struct definitions *definitions = in->definitions;
    json_t *inner = json_object(), *others = json_object();
    struct metadata_user row = {
        .name = take_name(in, object, "name", NULL),
        .password_hash = take_hash(in, object),
        .hashing_algorithm = take_algorithm(in, object),
        .tags = take_tags(in, object),
    };

    if (json_object_get(object, "password") != NULL) /* and not repeated either */
        say(in, DEFINITIONS_ERROR, "password: expected a password_hash instead");
    else
        keep_others(in, others, object, user_columns, no_names);
    keep_others(in, inner, take_object(in, object, "limits"), no_names,
                (const char *const[]){"max-connections", "max-channels", NULL});
    row.limits = take_others(in, inner, others);
    if (!in->is_bad && row.name.len == 0)
        say(in, DEFINITIONS_ERROR, "name: expected a name, found an empty one");
    if (in->is_bad)
        return;
    metadata_put_user(definitions->metadata, &row);
    remember_user(definitions, row.name);
}

/* The name of a user that exists. */
static struct view
take_user_name(struct import *in, const json_t *object)
{
    struct view name = take_text(in, object, "user", NULL);

    if (json_is_string(json_object_get(object, "user")) && !has_user(in->definitions, name))
        say_unlike(in, "user", "a user that exists", json_object_get(object, "user"));
    return name;
}

static void
take_permission(struct import *in, const json_t *object)
{
    struct metadata_permission row = {
        .user = take_user_name(in, object),
        .vhost = id_of(find_vhost(in, object)),
        .configure = take_text(in, object, "configure", NULL),
        .write = take_text(in, object, "write", NULL),
        .read = take_text(in, object, "read", NULL),
    };

    warn_others(in, object,
                (const char *const[]){"user", "vhost", "configure", "write", "read", NULL});
    if (!in->is_bad)
        metadata_put_permission(in->definitions->metadata, &row);
}

static void
take_topic_permission(struct import *in, const json_t *object)
{
    struct metadata_topic_permission row = {
        .user = take_user_name(in, object),
        .vhost = id_of(find_vhost(in, object)),
        .exchange = take_name(in, object, "exchange", NULL),
        .write = take_text(in, object, "write", NULL),
        .read = take_text(in, object, "read", NULL),
    };

    warn_others(in, object,
                (const char *const[]){"user", "vhost", "exchange", "write", "read", NULL});
    if (!in->is_bad)
        metadata_put_topic_permission(in->definitions->metadata, &row);
}

/* --- policies and parameters ------------------------------------------------------------- */

/* RabbitMQ writes some of its objects as a list of pairs: [["max-length", 10], ...]. */
static json_t *
object_of_pairs(const json_t *list)
{
    json_t *object = json_object(), *pair;
    const json_t *name;
    size_t i;

    json_array_foreach(list, i, pair)
    {
        name = json_array_get(pair, 0);
        if (json_array_size(pair) != 2 || !json_is_string(name) ||
            json_object_getn(object, json_string_value(name), json_string_length(name)) != NULL) {
            json_decref(object);
            return NULL;
        }
        json_object_setn(object, json_string_value(name), json_string_length(name),
                         json_array_get(pair, 1));
    }
    return object;
}

/* As a json column; the caller frees. */
static char *
take_definition(struct import *in, const json_t *object)
{
    const json_t *definition = json_object_get(object, "definition");
    json_t *made = json_is_array(definition) ? object_of_pairs(definition) : NULL;
    char *text = NULL;

    if (json_is_object(definition) || made != NULL)
        text = json_text(made != NULL ? made : definition);
    else
        say_unlike(in, "definition", "an object", definition);
    json_decref(made);
    return text;
}

/* What may be inside a "policy", whose members stand in `object`. */
static void
put_policy(struct import *in, const json_t *object, uint64_t vhost, struct view name,
           bool is_operator)
{
    static const char *const things[] = {"all",           "queues",  "exchanges", "classic_queues",
                                         "quorum_queues", "streams", NULL};
    struct metadata_policy row = {
        .vhost = vhost,
        .is_operator = is_operator,
        .name = name,
        .pattern = take_text(in, object, "pattern", NULL),
        .apply_to = take_text(in, object, "apply-to", "all"),
        .priority = take_number(in, object, "priority", 0),
    };
    char *text = take_definition(in, object);

    if (!is_one_of((const char *)row.apply_to.at, row.apply_to.len, things))
        say_unlike(in, "apply-to", "all, queues, exchanges or a kind of queues",
                   json_object_get(object, "apply-to"));
    if (text != NULL && !in->is_bad) {
        row.definition = view_str(text);
        metadata_put_policy(in->definitions->metadata, &row);
    }
    free(text);
}

static void
take_policy(struct import *in, const json_t *object)
{
    warn_others(in, object,
                (const char *const[]){"vhost", "name", "pattern", "apply-to", "priority",
                                      "definition", NULL});
    put_policy(in, object, id_of(find_vhost(in, object)), take_name(in, object, "name", NULL),
               false);
}

/* A policy in the dress of a parameter. */
static void
take_policy_parameter(struct import *in, const json_t *object, const struct metadata_parameter *row)
{
    const json_t *value = json_object_get(object, "value");
    size_t before;

    if (!json_is_object(value)) {
        say_unlike(in, "value", "an object", value);
        return;
    }
    before = json_path_enter(&in->path, "value", strlen("value"));
    warn_others(in, value,
                (const char *const[]){"pattern", "apply-to", "priority", "definition", NULL});
    put_policy(in, value, row->vhost, row->name,
               view_equal(row->component, VIEW_LIT("operator_policy")));
    json_path_leave(&in->path, before);
}

static void
take_parameter(struct import *in, const json_t *object)
{
    struct metadata_parameter row = {
        .vhost = id_of(find_vhost(in, object)),
        .component = take_text(in, object, "component", NULL),
        .name = take_text(in, object, "name", NULL),
    };
    char *text;

    warn_others(in, object, (const char *const[]){"vhost", "component", "name", "value", NULL});
    if (view_equal(row.component, VIEW_LIT("operator_policy")) ||
        view_equal(row.component, VIEW_LIT("policy"))) {
        take_policy_parameter(in, object, &row);
        return;
    }
    text = take_json(in, object, "value");
    if (text != NULL && !in->is_bad) {
        row.value = view_str(text);
        metadata_put_parameter(in->definitions->metadata, &row);
    }
    free(text);
}

static void
take_global_parameter(struct import *in, const json_t *object)
{
    struct metadata_global_parameter row = {.name = take_text(in, object, "name", NULL)};
    char *text = take_json(in, object, "value");

    warn_others(in, object, (const char *const[]){"name", "value", NULL});
    if (text != NULL && !in->is_bad) {
        row.value = view_str(text);
        metadata_put_global_parameter(in->definitions->metadata, &row);
    }
    free(text);
}

/* --- exchanges, queues, bindings --------------------------------------------------------- */

static void
take_exchange(struct import *in, const json_t *object)
{
    struct vhost *vhost = find_vhost(in, object);
    struct exchange_spec spec = {
        .name = take_name(in, object, "name", NULL),
        .type = take_text(in, object, "type", NULL),
        .durable = take_flag(in, object, "durable", true),
        .auto_delete = take_flag(in, object, "auto_delete", false),
        .internal = take_flag(in, object, "internal", false),
        .arguments = take_arguments(in, object),
    };
    struct err err, missing;
    bool exists;

    warn_others(in, object,
                (const char *const[]){"vhost", "name", "type", "durable", "auto_delete", "internal",
                                      "arguments", NULL});
    if (in->is_bad)
        return;
    exists = topology_check_exchange(vhost, spec.name, NULL, &missing);
    if (!topology_declare_exchange(vhost, &spec, NULL, &err))
        say(in, exists ? DEFINITIONS_WARNING : DEFINITIONS_ERROR, "%s%s",
            exists ? "stays as it is: " : "", err.text);
}

/* A type beside the arguments says what an argument would: 4.x has both, 3.x the argument alone. */
static void
take_type(struct import *in, const json_t *object, struct view *arguments)
{
    struct view type = take_text(in, object, "type", "");
    struct field field;

    if (type.len == 0 || in->is_bad)
        return;
    if (table_find(*arguments, VIEW_LIT("x-queue-type"), &field)) {
        if (field.type != FIELD_LONGSTR || !view_equal(field.bytes, type))
            say_unlike(in, "type", "what the argument x-queue-type says",
                       json_object_get(object, "type"));
    } else if (!view_equal(type, VIEW_LIT("classic"))) {
        table_put_longstr(&in->arguments, VIEW_LIT("x-queue-type"), type);
        *arguments = buf_view(&in->arguments);
    }
}

static void
take_queue(struct import *in, const json_t *object)
{
    struct vhost *vhost = find_vhost(in, object);
    struct queue_spec spec = {
        .name = take_name(in, object, "name", NULL),
        .durable = take_flag(in, object, "durable", true),
        .auto_delete = take_flag(in, object, "auto_delete", false),
        .may_be_reserved = true,
        .arguments = take_arguments(in, object),
    };
    struct queue_found found = {0};
    struct err err = {0};
    bool exists;

    warn_others(in, object,
                (const char *const[]){"vhost", "name", "type", "durable", "auto_delete",
                                      "exclusive", "arguments", NULL});
    take_type(in, object, &spec.arguments);
    if (take_flag(in, object, "exclusive", false))
        say(in, DEFINITIONS_ERROR, "exclusive: expected a queue that is nobody's own, found one");
    if (!in->is_bad && spec.name.len == 0)
        say(in, DEFINITIONS_ERROR, "name: expected a name, found an empty one");
    if (in->is_bad)
        return;
    exists = topology_find_queue(vhost, spec.name, 0, &found, &err) || err.code == RESOURCE_LOCKED;
    if (topology_declare_queue(vhost, &spec, 0, 0, &found, &err) == QUEUE_FAILED)
        say(in, exists ? DEFINITIONS_WARNING : DEFINITIONS_ERROR, "%s%s",
            exists ? "stays as it is: " : "", err.text);
}

static enum binding_kind
take_kind(struct import *in, const json_t *object)
{
    struct view kind = take_text(in, object, "destination_type", NULL);

    if (view_equal(kind, VIEW_LIT("exchange")))
        return BINDING_TO_EXCHANGE;
    if (!view_equal(kind, VIEW_LIT("queue")) && !in->is_bad)
        say_unlike(in, "destination_type", "queue or exchange",
                   json_object_get(object, "destination_type"));
    return BINDING_TO_QUEUE;
}

static void
take_binding(struct import *in, const json_t *object)
{
    struct vhost *vhost = find_vhost(in, object);
    struct binding_spec spec = {
        .kind = take_kind(in, object),
        .source = take_name(in, object, "source", NULL),
        .destination = take_name(in, object, "destination", NULL),
        .routing_key = take_name(in, object, "routing_key", NULL),
        .arguments = take_arguments(in, object),
    };
    struct err err;

    warn_others(in, object,
                (const char *const[]){"vhost", "source", "destination", "destination_type",
                                      "routing_key", "arguments", "properties_key", NULL});
    if (in->is_bad)
        return;
    if (spec.source.len == 0 && spec.kind == BINDING_TO_QUEUE &&
        view_equal(spec.routing_key, spec.destination))
        return; /* every queue is bound to the default exchange so */
    /* RabbitMQ exports bindings of internal exchanges without these, and takes no notice when it
     * imports that again. */
    if (topology_bind(vhost, &spec, 0, NULL, &err))
        return;
    if (err.code == NOT_FOUND)
        say(in, DEFINITIONS_WARNING, "left out: %s", err.text);
    else
        say(in, DEFINITIONS_ERROR, "%s", err.text);
    in->is_bad = true;
}

/* --- the document ------------------------------------------------------------------------ */

static const struct section {
    const char *name;
    void (*take)(struct import *in, const json_t *object);
} sections[] = {
    {"vhosts", take_vhost},           {"users", take_user},
    {"permissions", take_permission}, {"topic_permissions", take_topic_permission},
    {"parameters", take_parameter},   {"global_parameters", take_global_parameter},
    {"policies", take_policy},        {"exchanges", take_exchange},
    {"queues", take_queue},           {"bindings", take_binding},
};

enum { SECTION_COUNT = sizeof(sections) / sizeof(sections[0]) };

/* What a document says besides its lists: of who wrote it, and of its one vhost. */
static const char *const document_words[] = {"rabbit_version",
                                             "rabbitmq_version",
                                             "product_name",
                                             "product_version",
                                             "rabbitmq_definition_format",
                                             "original_cluster_name",
                                             "original_vhost_name",
                                             "explanation",
                                             NULL};
static const char *const document_vhost_words[] = {
    "description", "tags", "metadata", "limits", "default_queue_type", "tracing", NULL};

static void
take_section(struct import *in, const struct section *section)
{
    const json_t *list = json_object_get(in->document, section->name);
    size_t before = json_path_enter(&in->path, section->name, strlen(section->name));
    json_t *object;
    size_t i;

    if (list != NULL && !json_is_array(list)) {
        char text[FOUND_LEN];

        describe(list, text);
        say(in, DEFINITIONS_ERROR, "expected a list of objects, found %s", text);
    }
    json_array_foreach(list, i, object)
    {
        size_t outer = json_path_enter_index(&in->path, i);

        in->is_bad = false;
        if (json_is_object(object)) {
            section->take(in, object);
        } else {
            char text[FOUND_LEN];

            describe(object, text);
            say(in, DEFINITIONS_ERROR, "expected an object, found %s", text);
        }
        in->counts->objects += !in->is_bad;
        json_path_leave(&in->path, outer);
    }
    json_path_leave(&in->path, before);
}

static bool
is_section(const char *name, size_t n)
{
    for (size_t i = 0; i < SECTION_COUNT; i++)
        if (strlen(sections[i].name) == n && memcmp(sections[i].name, name, n) == 0)
            return true;
    return false;
}

static void
warn_unknown_words(struct import *in, bool is_of_vhost)
{
    const char *name;
    json_t *value;
    size_t n;

    json_object_keylen_foreach((json_t *)(uintptr_t)in->document, name, n, value)
    {
        if (!is_section(name, n) && !is_one_of(name, n, document_words) &&
            !(is_of_vhost && is_one_of(name, n, document_vhost_words)))
            warn_unknown(in, name, n, value, false);
    }
}

/* The document of one vhost that knows its name says of the vhost what else "vhosts" would. */
static void
take_the_vhost(struct import *in)
{
    const json_t *limits = json_object_get(in->document, "limits");
    json_t *others = json_object();

    in->is_bad = false;
    if (limits != NULL)
        json_object_set(others, "limits", (json_t *)(uintptr_t)limits);
    put_vhost(in, in->document, in->vhost, others);
    in->counts->objects += !in->is_bad;
}

static size_t
count(const struct import *in, const char *section)
{
    return json_array_size(json_object_get(in->document, section));
}

static bool
reserve_ids(struct import *in)
{
    struct err err;

    if (topology_reserve_ids(in->definitions->topology, count(in, "vhosts") + 1,
                             count(in, "exchanges") + count(in, "queues"), &err))
        return true;
    say(in, DEFINITIONS_ERROR, "%s", err.text);
    return false;
}

static void
take_document(struct import *in)
{
    const json_t *original = json_object_get(in->document, "original_vhost_name");
    bool is_of_vhost = json_is_string(original) && json_object_get(in->document, "vhosts") == NULL;

    if (original != NULL && !json_is_string(original))
        say_unlike(in, "original_vhost_name", "text", original);
    warn_unknown_words(in, is_of_vhost);
    in->vhost = is_of_vhost ? json_view(original) : VIEW_LIT("/");
    if (is_of_vhost)
        take_the_vhost(in);
    for (size_t i = 0; i < SECTION_COUNT; i++)
        take_section(in, &sections[i]);
}

static json_t *
parse(struct import *in, struct view document)
{
    json_error_t error;
    json_t *parsed = json_loadb(document.len > 0 ? (const char *)document.at : "", document.len,
                                PARSE_FLAGS, &error);

    if (parsed == NULL)
        say(in, DEFINITIONS_ERROR, "line %d, column %d: no JSON that is understood: %s", error.line,
            error.column, error.text);
    else if (!json_is_object(parsed))
        say(in, DEFINITIONS_ERROR, "expected an object, found a list");
    return parsed;
}

bool
definitions_import(struct definitions *definitions, struct view document, definitions_tell *tell,
                   void *arg, struct definitions_counts *out)
{
    struct import in = {
        .definitions = definitions,
        .tell = tell,
        .arg = arg,
        .counts = out,
    };
    json_t *parsed;

    *out = (struct definitions_counts){0};
    buf_init(&in.arguments, ARGUMENTS_MAX);
    buf_init(&in.tags, DEFINITIONS_BYTES_MAX);
    buf_init(&in.others, DEFINITIONS_BYTES_MAX);
    parsed = parse(&in, document);
    in.document = parsed;
    if (json_is_object(parsed) && reserve_ids(&in))
        take_document(&in);
    json_decref(parsed);
    buf_fini(&in.arguments);
    buf_fini(&in.tags);
    buf_fini(&in.others);
    return out->errors == 0;
}

/* --- files ------------------------------------------------------------------------------- */

static bool
read_file(const char *path, struct buf *text, struct err *err)
{
    FILE *file = fopen(path, "re");
    size_t n = 1;

    if (file == NULL)
        return err_set(err, INTERNAL_ERROR, "cannot be opened: %s", strerror(errno));
    while (n > 0 && !text->bad) {
        char piece[1 << 16];

        n = fread(piece, 1, sizeof(piece), file);
        buf_append(text, piece, n);
    }
    if (ferror(file))
        err_set(err, INTERNAL_ERROR, "cannot be read: %s", strerror(errno));
    else if (text->bad)
        err_set(err, INTERNAL_ERROR, "expected a file of at most %d bytes, found more",
                DEFINITIONS_BYTES_MAX);
    n = ferror(file) || text->bad;
    fclose(file);
    return n == 0;
}

bool
definitions_import_file(struct definitions *definitions, const char *path, definitions_tell *tell,
                        void *arg, struct definitions_counts *out)
{
    struct buf text;
    struct err err;
    bool ok;

    buf_init(&text, DEFINITIONS_BYTES_MAX);
    if (read_file(path, &text, &err)) {
        ok = definitions_import(definitions, buf_view(&text), tell, arg, out);
    } else {
        *out = (struct definitions_counts){.errors = 1};
        tell(arg, DEFINITIONS_ERROR, err.text);
        ok = false;
    }
    buf_fini(&text);
    return ok;
}
