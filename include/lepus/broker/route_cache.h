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
 * As topology_route with one key. The route is borrowed until the next call for this cache.
 * `properties` are only looked at on a miss. NULL with *err filled: 404, 403.
 */
const struct route *route_cache_find(struct route_cache *cache, struct vhost *vhost,
                                     struct view exchange, struct view routing_key,
                                     struct view properties, struct err *err);

/* Whether there are so many keys that what is kept of one is seldom in the processor's caches:
 * then it is worth saying beforehand which ones will be asked for. */
bool route_cache_is_wide(const struct route_cache *cache);

/* It will soon be asked for: fetches what is kept of it. Changes nothing. */
void route_cache_expect(const struct route_cache *cache, const struct vhost *vhost,
                        struct view exchange, struct view routing_key);

/* Tests: asserts that what is kept stands where it belongs and within its bounds. */
void route_cache_check(const struct route_cache *cache);

#endif
