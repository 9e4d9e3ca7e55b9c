/*
 * Importing definitions: a document's lists, in the order in which they need each other.
 *
 * Happy path: the document is parsed; each list of `sections` is walked; each object is read
 * member by member (import_members.c), then put where it belongs (import_rows.c, import_things.c).
 * What is bad is told and its object left out. What takes an object puts it with all of it read, so
 * that nothing is half done.
 */
#include <errno.h>

#include "import_priv.h"
#include "lepus/base/mem.h"

enum { PARSE_FLAGS = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL };

struct definitions *
definitions_new(struct topology *topology, struct auth *auth, struct metadata *metadata,
                struct err *err)
{
    struct definitions *definitions = mem_new(struct definitions);

    definitions->topology = topology;
    definitions->auth = auth;
    definitions->metadata = metadata;
    if (definitions_apply_all(topology, metadata, err))
        return definitions;
    definitions_free(definitions);
    return NULL;
}

void
definitions_free(struct definitions *definitions)
{
    free(definitions);
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
