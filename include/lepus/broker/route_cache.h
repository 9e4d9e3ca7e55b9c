/*
 * route_cache: a worker's memory of where (exchange, routing key) went last time.
 *
 * Owned by one worker; takes no lock on a hit. An entry holds while the vhost's version is the
 * one it was made at. Bounded in entries and in bytes; what does not fit is routed afresh each
 * time. Routes for one message only (route.is_for_one) are never kept.
 */
#ifndef LEPUS_BROKER_ROUTE_CACHE_H
#define LEPUS_BROKER_ROUTE_CACHE_H

#include "lepus/broker/topology.h"

struct route_cache;

struct route_cache *route_cache_new(void);
void route_cache_free(struct route_cache *cache);

/*
 * Whether somebody may publish there is remembered with the route: an entry is of one number, which
 * stands for a user in a vhost, and a hit has the answer. On a miss `may` is asked, after the
 * vhost's version was read: whoever changes its answers makes routes outdated
 * (topology_outdate_routes) behind that.
 */
struct route_permit {
    uint32_t number; /* below 2^31 */
    bool (*may)(void *arg, struct view exchange, struct view routing_key, struct err *err);
    void *arg;
};

/*
 * As topology_route with one key. The route is borrowed until the next call for this cache.
 * `properties` are only looked at on a miss. NULL with *err filled: 404, 403, or what `may` said.
 * Without a permit nobody is asked, and entries are others.
 */
const struct route *route_cache_find(struct route_cache *cache, struct vhost *vhost,
                                     const struct route_permit *permit, struct view exchange,
                                     struct view routing_key, struct view properties,
                                     struct err *err);

/* Whether there are so many keys that what is kept of one is seldom in the processor's caches:
 * then it is worth saying beforehand which ones will be asked for. */
bool route_cache_is_wide(const struct route_cache *cache);

/* It will soon be asked for: fetches what is kept of it. Changes nothing. */
void route_cache_expect(const struct route_cache *cache, const struct vhost *vhost,
                        const struct route_permit *permit, struct view exchange,
                        struct view routing_key);

/* Tests: asserts that what is kept stands where it belongs and within its bounds. */
void route_cache_check(const struct route_cache *cache);

#endif
