/*
 * How long a route takes and how much memory an entry takes. Prints; judges nothing.
 */
#include <malloc.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "lepus/broker/route_cache.h"

enum { MANY = 100000, ROUTES = 2000000 };

static double
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Resident octets: the large tables are not malloc's. */
static double
resident(void)
{
    unsigned long pages = 0;
    FILE *f;

    malloc_trim(0);
    f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
        abort();
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static struct view
name_of(char room[32], const char *format, unsigned i)
{
    static const char digits[] = "0123456789";
    size_t n = strlen(format);

    memcpy(room, format, n);
    for (size_t at = n; at-- > n - 6; i /= 10)
        room[at] = digits[i % 10];
    return view_of(room, n);
}

/* Queues with names of 20 octets, and a binding each with a key of 20. */
static void
fill(struct vhost *vhost, const char *exchange, const char *key)
{
    double bytes = resident(), start = now_ns();
    struct err err;
    char room[32], key_room[32];

    for (unsigned i = 0; i < MANY; i++) {
        struct queue_spec spec = {.name = name_of(room, "a.queue.of.ten.00000", i)};
        struct queue_found found;

        if (topology_declare_queue(vhost, &spec, 1, 0, &found, &err) == QUEUE_FAILED)
            abort();
    }
    printf("%d queues:            %6.0f ms, %4.0f bytes each\n", MANY, (now_ns() - start) / 1e6,
           (resident() - bytes) / MANY);
    bytes = resident();
    start = now_ns();
    for (unsigned i = 0; i < MANY; i++) {
        struct binding_spec spec = {
            .kind = BINDING_TO_QUEUE,
            .source = view_str(exchange),
            .destination = name_of(room, "a.queue.of.ten.00000", i),
            .routing_key = name_of(key_room, key, i),
        };

        if (!topology_bind(vhost, &spec, 1, NULL, &err))
            abort();
    }
    printf("%d %-10s bindings: %6.0f ms, %4.0f bytes each\n", MANY, exchange,
           (now_ns() - start) / 1e6, (resident() - bytes) / MANY);
}

static void
measure(struct vhost *vhost, const char *what, const char *exchange, const char *key, unsigned keys,
        unsigned routes, struct route_cache *cache)
{
    struct route route;
    struct err err;
    size_t targets = 0;
    char(*rooms)[32] = calloc(keys, sizeof(*rooms));
    double start;

    route_init(&route);
    for (unsigned i = 0; i < keys; i++)
        name_of(rooms[i], key, (unsigned)(i * UINT64_C(7919) % MANY));
    for (int pass = 0; pass < 2; pass++) { /* the first one warms */
        start = now_ns();
        targets = 0;
        for (unsigned i = 0; i < routes; i++) {
            struct view k = view_of(rooms[i % keys], strlen(key));
            const struct route *found = &route;

            if (cache != NULL)
                found = route_cache_find(cache, vhost, NULL, view_str(exchange), k,
                                         view_of(NULL, 0), &err);
            else
                topology_route(vhost, view_str(exchange), k, NULL, 0, view_of(NULL, 0), &route,
                               &err);
            targets += found->count;
        }
    }
    printf("%-36s %10.1f ns a route, %.1f targets\n", what, (now_ns() - start) / routes,
           (double)targets / routes);
    route_fini(&route);
    free(rooms);
}

int
main(void)
{
    static const struct {
        const char *exchange, *key;
    } cases[] = {
        {"amq.direct", "key.of.a.one.000000"},
        {"amq.topic", "one.*.000000"},
        {"amq.fanout", "key.of.a.one.000000"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct topology *topology = topology_new(4, 2);
        struct vhost *vhost = topology_find_vhost(topology, VIEW_LIT("/"));
        struct route_cache *cache = route_cache_new();
        const char *exchange = cases[i].exchange, *key = cases[i].key;

        fill(vhost, exchange, key);
        if (i == 0) {
            measure(vhost, "hit, default exchange, 1 key", "", "a.queue.of.ten.00000", 1, ROUTES,
                    cache);
            measure(vhost, "hit, default exchange, 1000 keys", "", "a.queue.of.ten.00000", 1000,
                    ROUTES, cache);
            measure(vhost, "hit, direct, 1 key", exchange, key, 1, ROUTES, cache);
            measure(vhost, "hit, direct, 1000 keys", exchange, key, 1000, ROUTES, cache);
            measure(vhost, "afresh, default exchange, 1000 keys", "", "a.queue.of.ten.00000", 1000,
                    ROUTES, NULL);
            measure(vhost, "afresh, direct, 1000 keys", exchange, key, 1000, ROUTES, NULL);
            measure(vhost, "afresh, direct, 100000 keys", exchange, key, MANY, ROUTES, NULL);
        } else if (i == 1) {
            measure(vhost, "afresh, topic one.*.key, 1000 keys", exchange, "one.b.000000", 1000,
                    ROUTES, NULL);
            measure(vhost, "afresh, topic one.*.key, 100000 keys", exchange, "one.b.000000", MANY,
                    ROUTES, NULL);
            measure(vhost, "cached, topic one.*.key, 10 keys", exchange, "one.b.000000", 10, ROUTES,
                    cache);
            measure(vhost, "cached, topic one.*.key, 100000 keys", exchange, "one.b.000000", MANY,
                    ROUTES, cache);
        } else {
            measure(vhost, "afresh, fanout to 100000", exchange, key, 1, 50, NULL);
        }
        route_cache_free(cache);
        topology_free(topology);
    }
    return 0;
}
