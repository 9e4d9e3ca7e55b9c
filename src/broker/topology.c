#include "lepus/broker/topology.h"

#include <assert.h>

#include "exchange_priv.h"
#include "policy_priv.h"

/* --- making and freeing -------------------------------------------------------------------- */

/* Readers come and come again; a declare must not wait until none of them is there. */
static void
init_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

struct vhost *
vhost_make(struct topology *topology, uint32_t id, struct view name)
{
    struct vhost *vhost = mem_alloc_zero(sizeof(struct vhost) + name.len + 1);

    vhost->topology = topology;
    vhost->id = id;
    atomic_init(&vhost->version, 1);
    map_init(&vhost->exchanges);
    map_init(&vhost->queues);
    map_init(&vhost->bindings);
    policies_init(vhost);
    memcpy(vhost->name, name.at, name.len);
    map_add(&topology->vhosts, &vhost->node, view_of(vhost->name, name.len));
    return vhost;
}

struct topology *
topology_make(unsigned shards, unsigned workers, struct metadata *metadata)
{
    struct topology *topology = mem_new(struct topology);

    assert(shards > 0 && workers > 0);
    init_lock(&topology->lock);
    topology->shards = shards;
    topology->workers = workers;
    map_init(&topology->vhosts);
    list_init(&topology->former_vhosts);
    idmap_init(&topology->queues);
    idmap_init(&topology->exchanges_with_queue);
    topology->metadata = metadata;
    topology->limits = limits_new();
    return topology;
}

struct topology *
topology_new(unsigned shards, unsigned workers)
{
    struct topology *topology = topology_make(shards, workers, NULL);

    vhost_make_predeclared(vhost_make(topology, ++topology->last_vhost, VIEW_LIT("/")));
    return topology;
}

/* The element is freed or changed by the loop's body, so its successor is asked for before. */
#define map_each_safe(at, map)                                                                     \
    for (struct map_node *at = map_next((map), NULL), *at##_next;                                  \
         at != NULL && (at##_next = map_next((map), at), true); at = at##_next)

/* The maps go as a whole; only the types' indexes are taken down piece by piece. */
static void
free_vhost(struct vhost *vhost)
{
    map_each_safe(at, &vhost->bindings)
    {
        struct binding *binding = container_of(at, struct binding, node);

        binding->source->acts_as->unbind(binding->source, binding);
        free(binding);
    }
    map_each_safe(at, &vhost->exchanges)
    {
        struct exchange *exchange = container_of(at, struct exchange, node);

        exchange->acts_as->fini(exchange);
        free(exchange->policy_alternate);
        free(exchange);
    }
    map_each_safe(at, &vhost->queues) free(container_of(at, struct queue_entry, node));
    map_fini(&vhost->bindings);
    map_fini(&vhost->exchanges);
    map_fini(&vhost->queues);
    policies_fini(vhost);
    free(vhost);
}

void
topology_free(struct topology *topology)
{
    if (topology == NULL)
        return;
    map_each_safe(at, &topology->vhosts) free_vhost(container_of(at, struct vhost, node));
    list_each_safe (at, &topology->former_vhosts)
        free_vhost(container_of(at, struct vhost, former));
    map_fini(&topology->vhosts);
    idmap_fini(&topology->queues);
    idmap_fini(&topology->exchanges_with_queue);
    limits_free(topology->limits);
    pthread_rwlock_destroy(&topology->lock);
    free(topology);
}

/* --- the lock ------------------------------------------------------------------------------ */

void
topology_read_lock(struct topology *topology)
{
    int error = pthread_rwlock_rdlock(&topology->lock);

    assert(error == 0);
    (void)error;
}

void
topology_write_lock(struct topology *topology)
{
    int error = pthread_rwlock_wrlock(&topology->lock);

    assert(error == 0);
    (void)error;
}

void
topology_unlock(struct topology *topology)
{
    int error = pthread_rwlock_unlock(&topology->lock);

    assert(error == 0);
    (void)error;
}

void
topology_changed(struct vhost *vhost)
{
    atomic_fetch_add_explicit(&vhost->version, 1, memory_order_release);
}

void
topology_outdate_routes(struct topology *topology)
{
    topology_write_lock(topology);
    for (struct map_node *at = NULL; (at = map_next(&topology->vhosts, at)) != NULL;)
        topology_changed(container_of(at, struct vhost, node));
    topology_unlock(topology);
}

/* --- small questions ----------------------------------------------------------------------- */

unsigned
topology_worker_of(const struct topology *topology, uint32_t shard)
{
    return shard % topology->workers;
}

struct limits *
topology_limits(const struct topology *topology)
{
    return topology->limits;
}

uint64_t
topology_last_ticket(struct topology *topology)
{
    uint64_t ticket;

    topology_read_lock(topology);
    ticket = topology->last_ticket;
    topology_unlock(topology);
    return ticket;
}

const char *
vhost_name(const struct vhost *vhost)
{
    return vhost->name;
}

uint32_t
vhost_id(const struct vhost *vhost)
{
    return vhost->id;
}

uint64_t
vhost_version(const struct vhost *vhost)
{
    return atomic_load_explicit(&vhost->version, memory_order_acquire);
}

struct view
name_clean(struct view name, char room[NAME_MAX_LEN])
{
    size_t n = 0;

    assert(name.len <= NAME_MAX_LEN);
    if (name.len == 0 ||
        (memchr(name.at, '\r', name.len) == NULL && memchr(name.at, '\n', name.len) == NULL))
        return name;
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] != '\r' && name.at[i] != '\n')
            room[n++] = (char)name.at[i];
    return view_of(room, n);
}

struct view
topology_clean_name(struct view name, char room[NAME_MAX_LEN])
{
    return name_clean(name, room);
}

bool
name_is_reserved(struct view name)
{
    return view_has_prefix(name, VIEW_LIT("amq."));
}

void
topology_count(struct topology *topology, struct topology_counts *out)
{
    topology_read_lock(topology);
    *out = topology->counts;
    topology_unlock(topology);
}

/* --- checking ------------------------------------------------------------------------------ */

static void
check_binding(const struct vhost *vhost, const struct binding *binding)
{
    const struct exchange *source = binding->source;
    uint64_t ids[2];

    memcpy(ids, binding->identity, sizeof(ids));
    assert(binding->node.key.at == binding->identity);
    assert(vhost_find_exchange(vhost, exchange_name(source)) == source && ids[0] == source->id);
    if (binding->to_exchange) {
        const struct exchange *to = binding->to_a.exchange;

        assert(vhost_find_exchange(vhost, exchange_name(to)) == to && ids[1] == to->id);
    } else {
        const struct queue_entry *to = binding->to_a.queue;

        assert(vhost_find_queue(vhost, queue_entry_name(to)) == to && ids[1] == to->ref.id);
    }
}

/* Counts the bindings of a list of destinations, or of a source. */
static size_t
check_exchange(const struct exchange *exchange, size_t *n_to)
{
    size_t n = 0;

    list_each (at, &exchange->from) {
        assert(container_of(at, struct binding, from)->source == exchange);
        n++;
    }
    list_each (at, &exchange->to) {
        struct binding *binding = container_of(at, struct binding, to);

        assert(binding->to_exchange && binding->to_a.exchange == exchange);
        ++*n_to;
    }
    assert(exchange->acts_as->check(exchange) == n && exchange->n_from == n);
    assert(exchange != exchange->vhost->nameless || (n == 0 && list_is_empty(&exchange->to)));
    assert(!list_is_linked(&exchange->condemned));
    assert(exchange->acts_as == exchange->type || exchange_has_queue(exchange));
    assert((idmap_find(&exchange->vhost->topology->exchanges_with_queue, exchange->id) ==
            exchange) == exchange_has_queue(exchange));
    return n;
}

static void
check_queue(const struct topology *topology, const struct queue_entry *queue, size_t *n_to)
{
    assert(idmap_find(&topology->queues, queue->ref.id) == queue);
    assert(queue->ref.shard < topology->shards && !(queue->owner != 0 && queue->durable));
    list_each (at, &queue->bound) {
        struct binding *binding = container_of(at, struct binding, to);

        assert(!binding->to_exchange && binding->to_a.queue == queue);
        ++*n_to;
    }
}

static void
check_vhost(const struct vhost *vhost, struct topology_counts *counts)
{
    size_t n_from = 0, n_to = 0;

    for (struct map_node *at = NULL; (at = map_next(&vhost->exchanges, at)) != NULL;)
        n_from += check_exchange(container_of(at, struct exchange, node), &n_to);
    for (struct map_node *at = NULL; (at = map_next(&vhost->queues, at)) != NULL;)
        check_queue(vhost->topology, container_of(at, struct queue_entry, node), &n_to);
    for (struct map_node *at = NULL; (at = map_next(&vhost->bindings, at)) != NULL;)
        check_binding(vhost, container_of(at, struct binding, node));
    assert(n_from == vhost->bindings.count && n_to == vhost->bindings.count);
    counts->exchanges += vhost->exchanges.count;
    counts->queues += vhost->queues.count;
    counts->bindings += vhost->bindings.count;
}

void
topology_check(struct topology *topology)
{
    struct topology_counts counts = {0};

    topology_read_lock(topology);
    for (struct map_node *at = NULL; (at = map_next(&topology->vhosts, at)) != NULL;)
        check_vhost(container_of(at, struct vhost, node), &counts);
    assert(counts.exchanges == topology->counts.exchanges);
    assert(counts.queues == topology->counts.queues && counts.queues == topology->queues.count);
    assert(counts.bindings == topology->counts.bindings);
    topology_unlock(topology);
}
