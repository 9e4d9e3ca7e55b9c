/*
 * Workers that change the topology while others route by it. Run it under the thread sanitizer
 * too: that is what it is for.
 */
#include "fixture.h"

#include <pthread.h>

#include "lepus/broker/route_cache.h"

enum { CHANGERS = 2, ROUTERS = 2, CHANGES = 1500 };

struct worker {
    pthread_t thread;
    struct vhost *vhost;
    struct topology *topology;
    unsigned number;
    atomic_uint *changers;
    uint64_t stable; /* a queue that is always bound */
    const char *wrong;
};

static void
check(struct worker *worker, bool ok, const char *what)
{
    if (!ok && worker->wrong == NULL)
        worker->wrong = what;
}

static bool
has_target(const struct route *route, uint64_t id)
{
    for (size_t i = 0; route != NULL && i < route->count; i++)
        if (route->targets[i].id == id)
            return true;
    return false;
}

/* One queue's whole life, in which its own worker sees each step at once. */
static void
live(struct worker *worker, struct route_cache *cache, unsigned i)
{
    char name[32];
    int n = snprintf(name, sizeof(name), "w%u.%u", worker->number, i % 7);
    struct view key = view_of(name, (size_t)n), none = view_of(NULL, 0);
    struct exchange_spec exchange = {
        .name = key, .type = VIEW_LIT("topic"), .auto_delete = true, .arguments = none};
    struct binding_spec binding = {.kind = BINDING_TO_QUEUE,
                                   .source = i % 2 ? VIEW_LIT("amq.topic") : key,
                                   .destination = key,
                                   .routing_key = key,
                                   .arguments = none};
    struct queue_spec queue = {.name = key, .arguments = none};
    struct queue_description description;
    struct queue_found found;
    struct err err;

    check(worker, topology_declare_exchange(worker->vhost, &exchange, NULL, &err), "exchange");
    check(worker,
          topology_declare_queue(worker->vhost, &queue, worker->number, 0, &found, &err) ==
              QUEUE_CREATED,
          "queue");
    check(worker,
          has_target(route_cache_find(cache, worker->vhost, NULL, VIEW_LIT(""), key, none, &err),
                     found.ref.id),
          "the new queue has no default route");
    check(worker, topology_bind(worker->vhost, &binding, 0, NULL, &err), "bind");
    check(worker,
          has_target(route_cache_find(cache, worker->vhost, NULL, binding.source, key, none, &err),
                     found.ref.id),
          "the new binding leads nowhere");
    if (i % 3 == 0) {
        check(worker, topology_unbind(worker->vhost, &binding, 0, NULL, &err), "unbind");
        check(worker, !topology_check_exchange(worker->vhost, key, NULL, &err) || i % 2,
              "the auto-delete exchange stays");
    }
    check(worker, topology_queue_describe(worker->topology, found.ref.id, &description),
          "describe");
    queue_description_fini(&description);
    check(worker, topology_queue_remove(worker->topology, found.ref.id), "remove");
    check(worker,
          !has_target(
              route_cache_find(cache, worker->vhost, NULL, VIEW_LIT("amq.topic"), key, none, &err),
              found.ref.id),
          "the removed queue is still routed to");
    check(worker, topology_delete_exchange(worker->vhost, key, false, NULL, &err), "delete");
}

static void *
change(void *arg)
{
    struct worker *worker = arg;
    struct route_cache *cache = route_cache_new();

    for (unsigned i = 0; i < CHANGES; i++)
        live(worker, cache, i);
    route_cache_free(cache);
    atomic_fetch_sub(worker->changers, 1);
    return NULL;
}

static void *
route(void *arg)
{
    struct worker *worker = arg;
    struct route_cache *cache = route_cache_new();
    struct topology_counts counts;
    struct view none = view_of(NULL, 0);
    struct err err;
    char name[32];

    for (unsigned i = 0; atomic_load(worker->changers) > 0; i++) {
        int n = snprintf(name, sizeof(name), "w%u.%u", i % CHANGERS, i % 7);
        const struct route *found =
            route_cache_find(cache, worker->vhost, NULL, VIEW_LIT("amq.topic"),
                             view_of(name, (size_t)n), none, &err);

        check(worker, has_target(found, worker->stable), "the stable queue is not routed to");
        check(worker, found == NULL || found->count <= 2, "too many targets");
        if (i % 64 == 0)
            topology_count(worker->topology, &counts);
        if (i % 1024 == 0)
            topology_check(worker->topology);
    }
    route_cache_free(cache);
    return NULL;
}

static void
changes_and_routes_go_together(void **state)
{
    struct worker workers[CHANGERS + ROUTERS] = {0};
    atomic_uint changers = CHANGERS;
    struct topology_counts counts;
    struct fixture f;
    uint64_t stable;

    (void)state;
    fixture_init(&f, 4, 2);
    stable = queue(&f, "stable");
    bind_queue(&f, "amq.topic", "stable", "#");
    for (unsigned i = 0; i < COUNT_OF(workers); i++) {
        workers[i].vhost = f.vhost;
        workers[i].topology = f.topology;
        workers[i].number = i;
        workers[i].changers = &changers;
        workers[i].stable = stable;
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, i < CHANGERS ? change : route, &workers[i]),
            0);
    }
    for (unsigned i = 0; i < COUNT_OF(workers); i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < COUNT_OF(workers); i++)
        if (workers[i].wrong != NULL)
            fail_msg("worker %u: %s", i, workers[i].wrong);
    topology_count(f.topology, &counts);
    assert_int_equal(counts.queues, 1);
    assert_int_equal(counts.bindings, 1);
    assert_int_equal(counts.exchanges, 7);
    fixture_fini(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_and_routes_go_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
