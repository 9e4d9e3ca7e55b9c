/* definitions_limits: what users and vhosts are limited to, from their rows into force. */
#include "definitions_priv.h"

/* A number that is not there, or is none, limits nothing. */
static int64_t
number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

void
definitions_apply_user(struct topology *topology, const struct metadata_user *row)
{
    json_t *limits = row->limits.len > 0 ? json_of_text(row->limits, NULL) : NULL;

    limits_set_user(topology_limits(topology), row->name, number(limits, "max-connections"),
                    number(limits, "max-channels"));
    json_decref(limits);
}

void
definitions_apply_parameter(struct topology *topology, const struct metadata_parameter *row)
{
    const struct vhost *vhost = topology_find_vhost_of_id(topology, (uint32_t)row->vhost);
    json_t *value;

    if (vhost == NULL || !view_equal(row->component, VIEW_LIT(VHOST_LIMITS)))
        return;
    value = row->value.len > 0 ? json_of_text(row->value, NULL) : NULL;
    limits_set_vhost(topology_limits(topology), view_str(vhost_name(vhost)),
                     number(value, "max-connections"), number(value, "max-queues"));
    json_decref(value);
}

static bool
apply_user(void *arg, const union metadata_row *row, struct err *err)
{
    (void)err;
    definitions_apply_user(arg, &row->user);
    return true;
}

static bool
apply_parameter(void *arg, const union metadata_row *row, struct err *err)
{
    (void)err;
    definitions_apply_parameter(arg, &row->parameter);
    return true;
}

bool
definitions_apply_all(struct topology *topology, struct metadata *metadata, struct err *err)
{
    return metadata_walk(metadata, METADATA_users, apply_user, topology, err) &&
           metadata_walk(metadata, METADATA_parameters, apply_parameter, topology, err);
}
