#include "lepus/broker/limits.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "lepus/base/map.h"
#include "lepus/base/mem.h"

struct limited {
    struct map_node node;
    int64_t max_connections, max_queues; /* under the mutex, as the count */
    int64_t connections;
    _Atomic int64_t max_channels;
    _Atomic int64_t channels;
    size_t name_len;
    char name[];
};

struct limits {
    struct limits_settings settings;
    pthread_mutex_t mutex;
    struct map vhosts, users;
    uint32_t connections;
    _Atomic uint32_t sockets;
    _Atomic uint32_t channels;
};

/* --- life ------------------------------------------------------------------------------ */

struct limits *
limits_new(void)
{
    struct limits *limits = mem_new(struct limits);

    pthread_mutex_init(&limits->mutex, NULL);
    map_init(&limits->vhosts);
    map_init(&limits->users);
    return limits;
}

static void
free_all(struct map *map)
{
    struct map_node *at;

    while ((at = map_next(map, NULL)) != NULL) {
        map_remove(map, at);
        free(container_of(at, struct limited, node));
    }
    map_fini(map);
}

void
limits_free(struct limits *limits)
{
    if (limits == NULL)
        return;
    free_all(&limits->vhosts);
    free_all(&limits->users);
    pthread_mutex_destroy(&limits->mutex);
    free(limits);
}

struct limits_settings *
limits_settings(struct limits *limits)
{
    return &limits->settings;
}

/* --- what definitions say -------------------------------------------------------------- */

static struct limited *
find(struct map *map, struct view name)
{
    struct map_node *node = map_find(map, name);

    return node != NULL ? container_of(node, struct limited, node) : NULL;
}

static struct limited *
find_or_make(struct map *map, struct view name)
{
    struct limited *limited = find(map, name);

    if (limited != NULL)
        return limited;
    limited = mem_alloc_zero(sizeof(*limited) + name.len);
    limited->max_connections = limited->max_queues = -1;
    atomic_init(&limited->max_channels, -1);
    limited->name_len = name.len;
    if (name.len > 0)
        memcpy(limited->name, name.at, name.len);
    map_add(map, &limited->node, view_of(limited->name, name.len));
    return limited;
}

void
limits_set_vhost(struct limits *limits, struct view name, int64_t max_connections,
                 int64_t max_queues)
{
    struct limited *vhost;

    pthread_mutex_lock(&limits->mutex);
    vhost = find_or_make(&limits->vhosts, name);
    vhost->max_connections = max_connections;
    vhost->max_queues = max_queues;
    pthread_mutex_unlock(&limits->mutex);
}

void
limits_set_user(struct limits *limits, struct view name, int64_t max_connections,
                int64_t max_channels)
{
    struct limited *user;

    pthread_mutex_lock(&limits->mutex);
    user = find_or_make(&limits->users, name);
    user->max_connections = max_connections;
    atomic_store(&user->max_channels, max_channels);
    pthread_mutex_unlock(&limits->mutex);
}

/* --- sockets --------------------------------------------------------------------------- */

/* Counts one more, unless there are max already. */
static bool
take(_Atomic uint32_t *count, uint32_t max)
{
    if (atomic_fetch_add(count, 1) < max || max == 0)
        return true;
    atomic_fetch_sub(count, 1);
    return false;
}

bool
limits_take_socket(struct limits *limits)
{
    return take(&limits->sockets, limits->settings.sockets);
}

void
limits_give_socket(struct limits *limits)
{
    uint32_t before = atomic_fetch_sub(&limits->sockets, 1);

    assert(before > 0);
    (void)before;
}

/* --- connections ----------------------------------------------------------------------- */

static bool
is_reached(int64_t count, int64_t max)
{
    return max >= 0 && count >= max;
}

/* In RabbitMQ's order. */
static bool
may_enter(const struct limits *limits, const struct limits_place *place, struct err *err)
{
    const struct limited *vhost = place->vhost, *user = place->user;
    uint32_t max = limits->settings.connections;

    if (max > 0 && limits->connections >= max)
        return err_set(err, NOT_ALLOWED,
                       "connection refused: node connection limit (%u) is reached", max);
    if (is_reached(vhost->connections, vhost->max_connections))
        return err_set(err, NOT_ALLOWED,
                       "access to vhost '" VIEW_FMT "' refused for user '" VIEW_FMT
                       "': connection limit (%lld) is reached",
                       VIEW_ARG(vhost->node.key), VIEW_ARG(user->node.key),
                       (long long)vhost->max_connections);
    if (is_reached(user->connections, user->max_connections))
        return err_set(err, NOT_ALLOWED,
                       "connection refused for user '" VIEW_FMT
                       "': user connection limit (%lld) is reached",
                       VIEW_ARG(user->node.key), (long long)user->max_connections);
    return true;
}

static void
count(struct limits *limits, const struct limits_place *place, int step)
{
    limits->connections += (uint32_t)step;
    place->vhost->connections += step;
    place->user->connections += step;
    assert(place->vhost->connections >= 0 && place->user->connections >= 0);
}

bool
limits_enter(struct limits *limits, struct view vhost, struct view user, struct limits_place *out,
             struct err *err)
{
    struct limits_place place;
    bool ok;

    pthread_mutex_lock(&limits->mutex);
    place = (struct limits_place){
        .vhost = find_or_make(&limits->vhosts, vhost),
        .user = find_or_make(&limits->users, user),
    };
    ok = may_enter(limits, &place, err);
    if (ok) {
        count(limits, &place, 1);
        *out = place;
    }
    pthread_mutex_unlock(&limits->mutex);
    return ok;
}

void
limits_leave(struct limits *limits, struct limits_place *place)
{
    if (place->vhost == NULL)
        return;
    pthread_mutex_lock(&limits->mutex);
    count(limits, place, -1);
    pthread_mutex_unlock(&limits->mutex);
    *place = (struct limits_place){0};
}

/* --- channels -------------------------------------------------------------------------- */

bool
limits_open_channel(struct limits *limits, const struct limits_place *place, struct err *err)
{
    struct limited *user = place->user;
    int64_t max = atomic_load(&user->max_channels);
    uint32_t all = limits->settings.channels;

    if (is_reached(atomic_fetch_add(&user->channels, 1), max)) {
        atomic_fetch_sub(&user->channels, 1);
        return err_set(err, NOT_ALLOWED,
                       "number of channels opened for user '" VIEW_FMT
                       "' has reached the maximum allowed user limit of (%lld)",
                       VIEW_ARG(user->node.key), (long long)max);
    }
    if (!take(&limits->channels, all)) {
        atomic_fetch_sub(&user->channels, 1);
        return err_set(err, NOT_ALLOWED,
                       "number of channels opened on the node has reached the maximum allowed "
                       "limit of (%u)",
                       all);
    }
    return true;
}

void
limits_close_channel(struct limits *limits, const struct limits_place *place)
{
    atomic_fetch_sub(&place->user->channels, 1);
    atomic_fetch_sub(&limits->channels, 1);
}

/* --- queues ---------------------------------------------------------------------------- */

int64_t
limits_queues(struct limits *limits, struct view vhost)
{
    uint32_t all = limits->settings.queues_per_vhost;
    int64_t max = all > 0 ? (int64_t)all : -1;
    const struct limited *limited;

    pthread_mutex_lock(&limits->mutex);
    limited = find(&limits->vhosts, vhost);
    if (limited != NULL && limited->max_queues >= 0 && (max < 0 || limited->max_queues < max))
        max = limited->max_queues;
    pthread_mutex_unlock(&limits->mutex);
    return max;
}
