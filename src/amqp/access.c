/*
 * access: whether the connection's user may do what a method asks for.
 *
 * What is asked where is RabbitMQ's: configure to declare and delete, write to publish and to bind
 * something to a destination, read to consume, get and purge, and to bind from a source; who names
 * a dead letter exchange or an alternate exchange must be allowed to read from here and to write
 * there. Routing keys of a topic exchange are asked for besides, where the user has topic
 * permissions. Passive declares ask nothing. Refusals are 403 in RabbitMQ's words.
 *
 * Methods ask auth each time. Publishes do not: where a route is kept for this user, it is the
 * answer (route_cache.h); otherwise the exchanges that the connection may write to stand here, with
 * the version of auth at which that was found.
 */
#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/wire/table.h"

enum { PLACES = 8 };

struct access {
    uint64_t version; /* of auth, as which all of it is known */
    bool has_topics;  /* some topic permission limits the user */
    struct {
        uint64_t hash;
        char *exchange; /* NULL: a free place */
        uint8_t len;
    } writable[PLACES];
};

static const char *const permission_names[] = {
    [AUTH_CONFIGURE] = "configure", [AUTH_WRITE] = "write", [AUTH_READ] = "read"};

static struct auth *
auth_of(const struct conn *c)
{
    return c->amqp->settings->auth;
}

static bool
check(const struct conn *c, enum auth_permission permission, const char *kind, struct view name,
      struct err *err)
{
    char room[255];

    name = topology_clean_name(name, room); /* as it will be looked for */
    return auth_may(auth_of(c), view_str(c->user), vhost_id(c->vhost), permission, name) ||
           err_set(err, ACCESS_REFUSED,
                   "%s access to %s '" VIEW_FMT "' in vhost '%s' refused for user '%s'",
                   permission_names[permission], kind, VIEW_ARG(name), vhost_name(c->vhost),
                   c->user);
}

bool
access_queue(const struct conn *c, enum auth_permission permission, struct view name,
             struct err *err)
{
    return check(c, permission, "queue", name, err);
}

static struct view
exchange_called(struct view name)
{
    return name.len > 0 ? name : VIEW_LIT("amq.default");
}

bool
access_exchange(const struct conn *c, enum auth_permission permission, struct view name,
                struct err *err)
{
    return check(c, permission, "exchange", exchange_called(name), err);
}

/* --- declares -------------------------------------------------------------------------------- */

/* An exchange that an argument names. */
static bool
names_exchange(struct view arguments, struct view argument, struct view *out)
{
    struct field field;

    if (!table_find(arguments, argument, &field) || field.type != FIELD_LONGSTR ||
        field.bytes.len > 255) /* which no exchange has, and the topology looks at besides */
        return false;
    *out = field.bytes;
    return true;
}

bool
access_declare_queue(const struct conn *c, struct view name, struct view arguments, struct err *err)
{
    struct queue_found found = {0};
    struct err ignored;
    struct view letters;

    if (!access_queue(c, AUTH_CONFIGURE, name, err))
        return false;
    if (!names_exchange(arguments, VIEW_LIT("x-dead-letter-exchange"), &letters) ||
        topology_find_queue(c->vhost, name, c->id, &found, &ignored) || found.owner != 0)
        return true; /* one that is there is only compared */
    return access_queue(c, AUTH_READ, name, err) && access_exchange(c, AUTH_WRITE, letters, err);
}

bool
access_declare_exchange(const struct conn *c, struct view name, struct view arguments,
                        struct err *err)
{
    struct err ignored;
    struct view alternate;

    if (name.len == 0) /* nobody may, and hears why from the topology */
        return true;
    if (!access_exchange(c, AUTH_CONFIGURE, name, err))
        return false;
    if (!names_exchange(arguments, VIEW_LIT("alternate-exchange"), &alternate) ||
        topology_check_exchange(c->vhost, name, NULL, &ignored))
        return true;
    return access_exchange(c, AUTH_READ, name, err) &&
           access_exchange(c, AUTH_WRITE, alternate, err);
}

/* --- topics ---------------------------------------------------------------------------------- */

static bool
check_topics(const struct conn *c, enum auth_permission permission, struct view exchange,
             const struct view *keys, size_t n, struct err *err)
{
    if (!topology_exchange_has_type(c->vhost, exchange, VIEW_LIT("topic")))
        return true;
    for (size_t i = 0; i < n; i++)
        if (!auth_may_topic(auth_of(c), view_str(c->user), vhost_id(c->vhost), vhost_name(c->vhost),
                            permission, exchange, keys[i]))
            return err_set(err, ACCESS_REFUSED,
                           "%s access to topic '" VIEW_FMT "' in exchange '" VIEW_FMT
                           "' in vhost '%s' refused for user '%s'",
                           permission_names[permission], VIEW_ARG(keys[i]), VIEW_ARG(exchange),
                           vhost_name(c->vhost), c->user);
    return true;
}

bool
access_bind(const struct conn *c, const struct binding_spec *spec, struct err *err)
{
    char room[255];
    struct view source = topology_clean_name(spec->source, room);
    bool is_to_queue = spec->kind == BINDING_TO_QUEUE;

    if (is_to_queue ? !access_queue(c, AUTH_WRITE, spec->destination, err)
                    : !access_exchange(c, AUTH_WRITE, spec->destination, err))
        return false;
    if (source.len == 0 || (!is_to_queue && spec->destination.len == 0))
        return true; /* as with declares */
    return access_exchange(c, AUTH_READ, source, err) &&
           (!auth_has_topics(auth_of(c), view_str(c->user), vhost_id(c->vhost)) ||
            check_topics(c, AUTH_READ, source, &spec->routing_key, 1, err));
}

/* --- publishes -------------------------------------------------------------------------------- */

static void
forget(struct access *access)
{
    for (size_t i = 0; i < PLACES; i++) {
        free(access->writable[i].exchange);
        access->writable[i].exchange = NULL;
    }
}

void
access_free(struct access *access)
{
    if (access != NULL)
        forget(access);
    free(access);
}

/* What is known, and still true. The version is read before anything is asked. */
static struct access *
known(struct conn *c)
{
    uint64_t version = auth_version(auth_of(c));

    if (c->access == NULL)
        c->access = mem_new(struct access);
    if (c->access->version != version) {
        forget(c->access);
        c->access->version = version;
        c->access->has_topics = auth_has_topics(auth_of(c), view_str(c->user), vhost_id(c->vhost));
    }
    return c->access;
}

static bool
may_write(struct conn *c, struct view exchange, struct err *err)
{
    struct access *access = known(c);
    uint64_t hash = view_hash(exchange);
    size_t at = hash % PLACES;

    if (access->writable[at].exchange != NULL && access->writable[at].hash == hash &&
        view_equal(view_of(access->writable[at].exchange, access->writable[at].len), exchange))
        return true;
    if (!access_exchange(c, AUTH_WRITE, exchange, err))
        return false;
    free(access->writable[at].exchange);
    access->writable[at].exchange = view_dup(exchange);
    access->writable[at].len = (uint8_t)exchange.len;
    access->writable[at].hash = hash;
    return true;
}

bool
access_publish(struct conn *c, struct view exchange, const struct view *keys, size_t n,
               struct err *err)
{
    return may_write(c, exchange, err) &&
           (!c->access->has_topics || check_topics(c, AUTH_WRITE, exchange, keys, n, err));
}

bool
access_user_id(const struct conn *c, struct view user_id, struct err *err)
{
    return view_equal(user_id, view_str(c->user)) ||
           auth_has_tag(auth_of(c), view_str(c->user), VIEW_LIT("impersonator")) ||
           err_set(err, PRECONDITION_FAILED,
                   "user_id property set to '" VIEW_FMT "' but authenticated user was '%s'",
                   VIEW_ARG(user_id), c->user);
}

/* --- connections ------------------------------------------------------------------------------ */

/* What route_cache asks about a route that it does not know for this user. */
static bool
may_publish(void *arg, struct view exchange, struct view routing_key, struct err *err)
{
    return access_publish(arg, exchange, &routing_key, 1, err);
}

bool
access_vhost(struct conn *c, const struct vhost *vhost, struct err *err)
{
    c->permit = (struct route_permit){.may = may_publish, .arg = c};
    c->permit.number = auth_enter(auth_of(c), view_str(c->user), vhost_id(vhost));
    return c->permit.number != 0 ||
           err_set(err, NOT_ALLOWED, "access to vhost '%s' refused for user '%s'",
                   vhost_name(vhost), c->user);
}

bool
access_has_user(struct conn *c)
{
    uint64_t version = auth_version(auth_of(c));

    if (c->auth_version == version)
        return true;
    c->auth_version = version;
    return auth_user_number(auth_of(c), view_str(c->user)) == c->user_number;
}
