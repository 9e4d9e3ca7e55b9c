/*
 * Exporting definitions: rows of the metadata become objects, and the objects lists.
 *
 * Vhosts, exchanges and queues are walked first: the rows after them speak of these by id. Each
 * list is then sorted by what its objects are called, for ids tell the order of making, which is
 * not the same in a broker that imported what another exported.
 */
#include <assert.h>

#include "definitions_priv.h"
#include "lepus/base/map.h"
#include "lepus/base/mem.h"

#define PRINT_FLAGS (JSON_INDENT(2) | JSON_SORT_KEYS)

/* A thing by its id. */
struct named {
    bool is_skipped; /* it is not told, and neither is what it takes part in */
    json_t *name;
};

struct exporting {
    struct metadata *metadata;
    definitions_tell *tell;
    void *arg;
    size_t errors;
    json_t *document;
    struct idmap vhosts, exchanges, queues; /* of named */
};

/* --- telling ----------------------------------------------------------------------------- */

static void
say_left_out(struct exporting *out, const char *kind, struct view name, const char *why)
{
    char line[1024];

    snprintf(line, sizeof(line), "%s '" VIEW_FMT "' is left out: %s", kind, VIEW_ARG(name), why);
    out->errors++;
    out->tell(out->arg, DEFINITIONS_ERROR, line);
}

/* --- objects ----------------------------------------------------------------------------- */

static json_t *
list_of(struct exporting *out, const char *name)
{
    return json_object_get(out->document, name);
}

static bool
put_text(json_t *object, const char *name, struct view text)
{
    return json_object_set_new(object, name, json_from_view(text)) == 0;
}

static void
put_flag(json_t *object, const char *name, bool flag)
{
    json_object_set_new(object, name, json_boolean(flag));
}

/* Into the list, which consumes it; or told, when something of it is no UTF-8. */
static void
add(struct exporting *out, const char *list, json_t *object, bool is_whole, struct view name)
{
    if (is_whole) {
        json_array_append_new(list_of(out, list), object);
    } else {
        say_left_out(out, list, name, "it, or what it belongs to, has octets that are no UTF-8");
        json_decref(object);
    }
}

static void
put_tags(json_t *object, struct view joined)
{
    json_t *tags = json_array();

    while (joined.len > 0) {
        const uint8_t *comma = memchr(joined.at, ',', joined.len);
        size_t n = comma != NULL ? (size_t)(comma - joined.at) : joined.len;

        json_array_append_new(tags, json_from_view(view_of(joined.at, n)));
        n += comma != NULL;
        joined = view_of(joined.at + n, joined.len - n);
    }
    json_object_set_new(object, "tags", tags);
}

/* A json column; what is none was not written by us, and is told. */
static json_t *
json_of_column(struct exporting *out, const char *kind, struct view name, struct view text)
{
    json_error_t error;
    json_t *value = json_of_text(text, &error);

    if (value == NULL)
        say_left_out(out, kind, name, "what the metadata has is no JSON");
    return value;
}

/* The json column of a vhost or a user as members: `inner` by that name, the others beside it. */
static void
put_inner(struct exporting *out, const char *kind, struct view name, struct view text,
          json_t *object, const char *inner_name)
{
    json_t *inner = text.len > 0 ? json_of_column(out, kind, name, text) : json_object();
    json_t *others;

    if (!json_is_object(inner)) {
        json_decref(inner);
        inner = json_object();
    }
    others = json_incref(json_object_get(inner, DEFINITIONS_OTHERS));
    json_object_del(inner, DEFINITIONS_OTHERS);
    if (json_is_object(others))
        json_object_update_missing(object, others);
    json_decref(others);
    json_object_set_new(object, inner_name, inner);
}

static bool
put_arguments(struct exporting *out, const char *kind, struct view name, json_t *object,
              struct view arguments)
{
    struct err err;
    json_t *value = json_from_table(arguments, &err);

    if (value != NULL)
        return json_object_set_new(object, "arguments", value) == 0;
    err_wrap(&err, "arguments");
    say_left_out(out, kind, name, err.text);
    return false;
}

/* --- names by id ------------------------------------------------------------------------- */

static void
remember(struct idmap *map, uint64_t id, struct view name, bool is_skipped)
{
    struct named *named = mem_new(struct named);

    named->name = json_from_view(name);
    named->is_skipped = is_skipped || named->name == NULL;
    idmap_add(map, id, named);
}

static void
forget(struct idmap *map)
{
    struct named *named;

    for (size_t at = 0; (named = idmap_next(map, &at)) != NULL;) {
        json_decref(named->name);
        free(named);
    }
    idmap_fini(map);
}

/* False when it is not told either, or, which a database that somebody edited may have, nowhere. */
static bool
put_named(json_t *object, const char *member, const struct idmap *map, uint64_t id)
{
    const struct named *named = id != 0 ? idmap_find(map, id) : NULL;

    return named != NULL && !named->is_skipped && json_object_set(object, member, named->name) == 0;
}

static bool
put_vhost_name(struct exporting *out, json_t *object, uint64_t vhost)
{
    return put_named(object, "vhost", &out->vhosts, vhost);
}

/* --- rows -------------------------------------------------------------------------------- */

static bool
tell_vhost(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_vhost *v = &row->vhost;
    json_t *object = json_object(), *metadata;
    struct exporting *out = arg;
    bool ok = put_text(object, "name", v->name);

    (void)err;
    put_inner(out, "vhost", v->name, v->metadata, object, "metadata");
    metadata = json_object_get(object, "metadata");
    ok = put_text(metadata, "description", v->description) && ok;
    put_tags(metadata, v->tags);
    if (v->default_queue_type.len > 0)
        ok = put_text(metadata, "default_queue_type", v->default_queue_type) && ok;
    if (v->tracing)
        put_flag(object, "tracing", true);
    remember(&out->vhosts, v->id, v->name, !ok);
    add(out, "vhosts", object, ok, v->name);
    return true;
}

static bool
tell_user(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_user *u = &row->user;
    struct exporting *out = arg;
    json_t *object = json_object();
    bool ok = put_text(object, "name", u->name);

    (void)err;
    ok = put_text(object, "password_hash", u->password_hash) && ok;
    ok = put_text(object, "hashing_algorithm", u->hashing_algorithm) && ok;
    put_tags(object, u->tags);
    put_inner(out, "user", u->name, u->limits, object, "limits");
    add(out, "users", object, ok, u->name);
    return true;
}

static bool
tell_permission(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_permission *p = &row->permission;
    struct exporting *out = arg;
    json_t *object = json_object();

    (void)err;
    add(out, "permissions", object,
        put_text(object, "user", p->user) && put_vhost_name(out, object, p->vhost) &&
            put_text(object, "configure", p->configure) && put_text(object, "write", p->write) &&
            put_text(object, "read", p->read),
        p->user);
    return true;
}

static bool
tell_topic_permission(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_topic_permission *p = &row->topic_permission;
    struct exporting *out = arg;
    json_t *object = json_object();

    (void)err;
    add(out, "topic_permissions", object,
        put_text(object, "user", p->user) && put_vhost_name(out, object, p->vhost) &&
            put_text(object, "exchange", p->exchange) && put_text(object, "write", p->write) &&
            put_text(object, "read", p->read),
        p->user);
    return true;
}

static bool
tell_parameter(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_parameter *p = &row->parameter;
    struct exporting *out = arg;
    json_t *value = json_of_column(out, "parameter", p->name, p->value), *object;

    (void)err;
    if (value == NULL)
        return true;
    object = json_object();
    json_object_set_new(object, "value", value);
    add(out, "parameters", object,
        put_text(object, "component", p->component) && put_vhost_name(out, object, p->vhost) &&
            put_text(object, "name", p->name),
        p->name);
    return true;
}

static bool
tell_global_parameter(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_global_parameter *p = &row->global_parameter;
    struct exporting *out = arg;
    json_t *value = json_of_column(out, "global parameter", p->name, p->value), *object;

    (void)err;
    if (value == NULL)
        return true;
    object = json_object();
    json_object_set_new(object, "value", value);
    add(out, "global_parameters", object, put_text(object, "name", p->name), p->name);
    return true;
}

static bool
put_policy(json_t *object, const struct metadata_policy *p, json_t *definition)
{
    json_object_set_new(object, "definition", definition);
    json_object_set_new(object, "priority", json_integer(p->priority));
    return put_text(object, "pattern", p->pattern) && put_text(object, "apply-to", p->apply_to);
}

static bool
tell_policy(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_policy *p = &row->policy;
    struct exporting *out = arg;
    json_t *definition = json_of_column(out, "policy", p->name, p->definition);
    json_t *object, *inside;
    bool ok;

    (void)err;
    if (definition == NULL)
        return true;
    object = inside = json_object();
    if (p->is_operator) { /* it travels as a parameter */
        inside = json_object();
        json_object_set_new(object, "value", inside);
        put_text(object, "component", VIEW_LIT("operator_policy"));
    }
    ok = put_policy(inside, p, definition) && put_text(object, "name", p->name) &&
         put_vhost_name(out, object, p->vhost);
    add(out, p->is_operator ? "parameters" : "policies", object, ok, p->name);
    return true;
}

static bool
tell_exchange(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_exchange *x = &row->exchange;
    bool is_predeclared = x->name.len == 0 || view_has_prefix(x->name, VIEW_LIT("amq."));
    struct exporting *out = arg;
    json_t *object;
    bool ok;

    (void)err;
    if (is_predeclared) {
        remember(&out->exchanges, x->id, x->name, false);
        return true;
    }
    object = json_object();
    ok = put_arguments(out, "exchange", x->name, object, x->arguments);
    remember(&out->exchanges, x->id, x->name, !ok);
    if (!ok) {
        json_decref(object);
        return true;
    }
    put_flag(object, "durable", true);
    put_flag(object, "auto_delete", x->auto_delete);
    put_flag(object, "internal", x->internal);
    ok = put_text(object, "name", x->name) && put_text(object, "type", x->type) &&
         put_vhost_name(out, object, x->vhost);
    add(out, "exchanges", object, ok, x->name);
    return true;
}

static bool
tell_queue(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_queue *q = &row->queue;
    json_t *object = json_object(), *type;
    struct exporting *out = arg;
    bool ok = put_arguments(out, "queue", q->name, object, q->arguments);

    (void)err;
    remember(&out->queues, q->id, q->name, !ok);
    if (!ok) {
        json_decref(object);
        return true;
    }
    type = json_object_get(json_object_get(object, "arguments"), "x-queue-type");
    json_object_set_new(object, "type",
                        json_is_string(type) ? json_incref(type) : json_string("classic"));
    put_flag(object, "durable", true);
    put_flag(object, "auto_delete", q->auto_delete);
    ok = put_text(object, "name", q->name) && put_vhost_name(out, object, q->vhost);
    add(out, "queues", object, ok, q->name);
    return true;
}

static bool
tell_binding(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_binding *b = &row->binding;
    struct exporting *out = arg;
    json_t *object = json_object();

    (void)err;
    if (!put_arguments(out, "binding", b->routing_key, object, b->arguments)) {
        json_decref(object);
        return true;
    }
    json_object_set_new(object, "destination_type",
                        json_string(b->to_exchange ? "exchange" : "queue"));
    add(out, "bindings", object,
        put_text(object, "routing_key", b->routing_key) &&
            put_named(object, "source", &out->exchanges, b->source) &&
            put_named(object, "destination", b->to_exchange ? &out->exchanges : &out->queues,
                      b->destination) &&
            put_vhost_name(out, object, b->vhost),
        b->routing_key);
    return true;
}

/* --- order ------------------------------------------------------------------------------- */

/* The lists, what fills them, and what their objects are called; parameters are filled twice. */
static const struct section {
    const char *name;
    enum metadata_table table;
    metadata_each *each;
    const char *order[6];
} lists[] = {
    {"vhosts", METADATA_vhosts, tell_vhost, {"name"}},
    {"users", METADATA_users, tell_user, {"name"}},
    {"permissions", METADATA_permissions, tell_permission, {"vhost", "user"}},
    {"topic_permissions",
     METADATA_topic_permissions,
     tell_topic_permission,
     {"vhost", "user", "exchange"}},
    {"parameters", METADATA_parameters, tell_parameter, {"vhost", "component", "name"}},
    {"global_parameters", METADATA_global_parameters, tell_global_parameter, {"name"}},
    {"policies", METADATA_policies, tell_policy, {"vhost", "name"}},
    {"exchanges", METADATA_exchanges, tell_exchange, {"vhost", "name"}},
    {"queues", METADATA_queues, tell_queue, {"vhost", "name"}},
    {"bindings",
     METADATA_bindings,
     tell_binding,
     {"vhost", "source", "destination_type", "destination", "routing_key", "arguments"}},
};

enum { LIST_COUNT = sizeof(lists) / sizeof(lists[0]) };

struct sortable {
    json_t *object;
    const struct section *list;
};

static int
compare_texts(struct view a, struct view b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.at, b.at, n) : 0;

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
compare_arguments(const json_t *a, const json_t *b)
{
    char *x = json_text(a), *y = json_text(b);
    int order = x != NULL && y != NULL ? strcmp(x, y) : (x != NULL) - (y != NULL);

    free(x);
    free(y);
    return order;
}

static int
compare(const void *a, const void *b)
{
    const struct sortable *x = a, *y = b;
    int order = 0;

    for (size_t i = 0; order == 0 && i < 6 && x->list->order[i] != NULL; i++) {
        const json_t *p = json_object_get(x->object, x->list->order[i]);
        const json_t *q = json_object_get(y->object, x->list->order[i]);

        order =
            json_is_string(p) ? compare_texts(json_view(p), json_view(q)) : compare_arguments(p, q);
    }
    return order;
}

static void
sort(struct exporting *out, const struct section *list)
{
    json_t *unsorted = list_of(out, list->name), *sorted = json_array(), *object;
    size_t n = json_array_size(unsorted), i;
    struct sortable *at = mem_alloc((n + 1) * sizeof(*at));

    json_array_foreach(unsorted, i, object) at[i] = (struct sortable){object, list};
    qsort(at, n, sizeof(*at), compare);
    for (i = 0; i < n; i++)
        json_array_append(sorted, at[i].object);
    free(at);
    json_object_set_new(out->document, list->name, sorted);
}

/* --- the document ------------------------------------------------------------------------ */

static bool
walk(struct exporting *out, struct err *err)
{
    for (size_t i = 0; i < LIST_COUNT; i++)
        json_object_set_new(out->document, lists[i].name, json_array());
    for (size_t i = 0; i < LIST_COUNT; i++)
        if (!metadata_walk(out->metadata, lists[i].table, lists[i].each, out, err))
            return false;
    for (size_t i = 0; i < LIST_COUNT; i++)
        sort(out, &lists[i]);
    return true;
}

static void
put_origin(json_t *document, const struct definitions_origin *origin)
{
    put_text(document, "rabbit_version", view_str(origin->rabbitmq_version));
    put_text(document, "rabbitmq_version", view_str(origin->rabbitmq_version));
    put_text(document, "product_name", VIEW_LIT("Lepus"));
    put_text(document, "product_version", view_str(origin->product_version));
    put_text(document, "original_cluster_name", view_str(origin->cluster_name));
    put_text(document, "rabbitmq_definition_format", VIEW_LIT("cluster"));
}

static int
append(const char *text, size_t n, void *arg)
{
    struct buf *to = arg;

    buf_append(to, text, n);
    return to->bad ? -1 : 0;
}

bool
definitions_export(struct metadata *metadata, const struct definitions_origin *origin,
                   struct buf *to, definitions_tell *tell, void *arg, size_t *out_errors,
                   struct err *err)
{
    struct exporting out = {
        .metadata = metadata, .tell = tell, .arg = arg, .document = json_object()};
    bool ok;

    idmap_init(&out.vhosts);
    idmap_init(&out.exchanges);
    idmap_init(&out.queues);
    put_origin(out.document, origin);
    ok = walk(&out, err);
    if (ok && json_dump_callback(out.document, append, to, PRINT_FLAGS) != 0)
        ok = err_set(err, INTERNAL_ERROR, "more than fits in memory, or nested too deep");
    if (ok)
        buf_u8(to, '\n');
    json_decref(out.document);
    forget(&out.vhosts);
    forget(&out.exchanges);
    forget(&out.queues);
    *out_errors = out.errors;
    return ok && (!to->bad || err_set(err, INTERNAL_ERROR, "more than fits in memory"));
}
