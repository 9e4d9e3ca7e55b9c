/* What becomes a thing of the topology: exchanges, queues, bindings. */
#include "import_priv.h"
#include "lepus/wire/table.h"

void
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

void
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
    spec.is_typed = json_object_get(object, "type") != NULL;
    if (take_flag(in, object, "exclusive", false))
        say_of(in, "exclusive", "expected a queue that is nobody's own, found one");
    if (!in->is_bad && spec.name.len == 0)
        say_of(in, "name", "expected a name, found an empty one");
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

void
take_binding(struct import *in, const json_t *object)
{
    struct vhost *vhost = find_vhost(in, object);
    struct binding_spec spec = {
        .kind = take_kind(in, object),
        .source = take_name(in, object, "source", NULL),
        .destination = take_name(in, object, "destination", NULL),
        .routing_key = take_name(in, object, "routing_key", NULL),
        .arguments = take_arguments(in, object),
        .is_told_in_json = true,
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
