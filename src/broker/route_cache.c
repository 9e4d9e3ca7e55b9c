#include "lepus/broker/route_cache.h"

#include <assert.h>

#include "lepus/base/mem.h"

/*
 * Pairs of entries, found by one hash of vhost, exchange and key; of a full pair the one goes that
 * was not used last. An entry is two cache lines: names that fit and a single target lie in it.
 * What does not fit is in memory of its own, counted, and limited over all entries: a hand goes
 * round and frees other entries until there is room.
 */
enum {
    PAIRS = 8 * 1024,
    ENTRIES = 2 * PAIRS,
    ROOM_FOR_NAMES = 40,
    OUTSIDE_MAX = 8 * 1024 * 1024,
    OUTSIDE_MAX_EACH = OUTSIDE_MAX / 4,
};

struct entry {
    uint64_t hash;
    uint64_t version; /* 0: free; a vhost's starts at 1 */
    struct route route;
    struct queue_ref one; /* the route's target when it has one */
    uint32_t vhost;
    uint16_t exchange_len, key_len;
    uint32_t outside_bytes; /* of names and targets */
    uint8_t *names;         /* exchange, then key: here or outside */
    uint8_t room[ROOM_FOR_NAMES];
};

_Static_assert(sizeof(struct entry) == 128, "an entry is two cache lines");

struct route_cache {
    struct entry *entries;
    size_t outside_bytes;
    size_t hand;
    struct route afresh;   /* the last miss */
    uint8_t recent[PAIRS]; /* which of the pair was used last */
};

struct route_cache *
route_cache_new(void)
{
    struct route_cache *cache = mem_new(struct route_cache);

    cache->entries = mem_alloc_zero(ENTRIES * sizeof(struct entry));
    route_init(&cache->afresh);
    return cache;
}

static void
forget(struct route_cache *cache, struct entry *entry)
{
    if (entry->route.targets != &entry->one)
        free(entry->route.targets);
    if (entry->names != entry->room)
        free(entry->names);
    cache->outside_bytes -= entry->outside_bytes;
    entry->route = (struct route){0};
    entry->names = NULL;
    entry->outside_bytes = 0;
    entry->version = 0;
}

void
route_cache_free(struct route_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < ENTRIES; i++)
        if (cache->entries[i].version != 0)
            forget(cache, &cache->entries[i]);
    assert(cache->outside_bytes == 0);
    free(cache->entries);
    route_fini(&cache->afresh);
    free(cache);
}

/* What is looked for. */
struct wanted {
    uint64_t hash, version;
    uint32_t vhost;
    struct view exchange, key;
};

static bool
is_equal(const uint8_t *at, struct view v)
{
    return v.len == 0 || memcmp(at, v.at, v.len) == 0;
}

static bool
is_it(const struct entry *entry, const struct wanted *wanted)
{
    return entry->hash == wanted->hash && entry->version != 0 && entry->vhost == wanted->vhost &&
           entry->exchange_len == wanted->exchange.len && entry->key_len == wanted->key.len &&
           is_equal(entry->names, wanted->exchange) &&
           is_equal(entry->names + entry->exchange_len, wanted->key);
}

static uint64_t
hash_of(uint32_t vhost, struct view exchange, struct view key)
{
    uint64_t hash = view_hash(key);

    /* The default exchange and a fixed one with many keys are the usual cases. */
    if (exchange.len > 0)
        hash = (hash ^ view_hash(exchange) >> 7) * UINT64_C(0x9E3779B97F4A7C15);
    return hash + vhost * UINT64_C(0xD1B54A32D192ED03);
}

/* --- keeping ------------------------------------------------------------------------------- */

static size_t
outside_bytes(const struct wanted *wanted, const struct route *route)
{
    size_t names = wanted->exchange.len + wanted->key.len;

    return (names > ROOM_FOR_NAMES ? names : 0) +
           (route->count > 1 ? route->count * sizeof(struct queue_ref) : 0);
}

static void
make_room(struct route_cache *cache, size_t bytes)
{
    while (cache->outside_bytes + bytes > OUTSIDE_MAX) {
        struct entry *entry = &cache->entries[cache->hand++ % ENTRIES];

        if (entry->outside_bytes > 0)
            forget(cache, entry);
    }
}

static void
fill(struct route_cache *cache, struct entry *entry, const struct wanted *wanted,
     const struct route *route)
{
    size_t names = wanted->exchange.len + wanted->key.len;
    size_t targets = route->count * sizeof(struct queue_ref);

    entry->hash = wanted->hash;
    entry->version = wanted->version;
    entry->vhost = wanted->vhost;
    entry->exchange_len = (uint16_t)wanted->exchange.len;
    entry->key_len = (uint16_t)wanted->key.len;
    entry->outside_bytes = (uint32_t)outside_bytes(wanted, route);
    cache->outside_bytes += entry->outside_bytes;
    entry->names = names > ROOM_FOR_NAMES ? mem_alloc(names) : entry->room;
    if (wanted->exchange.len > 0)
        memcpy(entry->names, wanted->exchange.at, wanted->exchange.len);
    if (wanted->key.len > 0)
        memcpy(entry->names + wanted->exchange.len, wanted->key.at, wanted->key.len);
    entry->route.count = entry->route.size = route->count;
    entry->route.targets = route->count > 1 ? mem_alloc(targets) : &entry->one;
    if (targets > 0)
        memcpy(entry->route.targets, route->targets, targets);
}

/* The place for a new entry: its own old one, a free or outdated one, the less recent. */
static struct entry *
choose_place(struct route_cache *cache, size_t pair, const struct wanted *wanted)
{
    struct entry *entries = &cache->entries[2 * pair];

    for (size_t i = 0; i < 2; i++)
        if (is_it(&entries[i], wanted))
            return &entries[i];
    for (size_t i = 0; i < 2; i++)
        if (entries[i].version == 0 ||
            (entries[i].vhost == wanted->vhost && entries[i].version != wanted->version))
            return &entries[i];
    return &entries[!cache->recent[pair]];
}

static void
keep(struct route_cache *cache, size_t pair, const struct wanted *wanted)
{
    size_t bytes = outside_bytes(wanted, &cache->afresh);
    struct entry *entry;

    if (bytes > OUTSIDE_MAX_EACH || wanted->exchange.len > UINT16_MAX ||
        wanted->key.len > UINT16_MAX)
        return;
    entry = choose_place(cache, pair, wanted);
    if (entry->version != 0)
        forget(cache, entry);
    make_room(cache, bytes);
    fill(cache, entry, wanted, &cache->afresh);
    cache->recent[pair] = (uint8_t)(entry - &cache->entries[2 * pair]);
}

/* --- finding ------------------------------------------------------------------------------- */

/* A route that was large once does not keep its memory for ever. */
static void
trim(struct route *route)
{
    if (route->size * sizeof(struct queue_ref) > OUTSIDE_MAX_EACH) {
        route_fini(route);
        route_init(route);
    }
}

static const struct route *
find_afresh(struct route_cache *cache, struct vhost *vhost, size_t pair,
            const struct wanted *wanted, struct view properties, struct err *err)
{
    trim(&cache->afresh);
    if (!topology_route(vhost, wanted->exchange, wanted->key, NULL, 0, properties, &cache->afresh,
                        err))
        return NULL;
    if (!cache->afresh.is_for_one)
        keep(cache, pair, wanted);
    return &cache->afresh;
}

const struct route *
route_cache_find(struct route_cache *cache, struct vhost *vhost, struct view exchange,
                 struct view routing_key, struct view properties, struct err *err)
{
    /* The version is read before the route is: a change in between makes the entry outdated. */
    struct wanted wanted = {
        .hash = hash_of(vhost_id(vhost), exchange, routing_key),
        .version = vhost_version(vhost),
        .vhost = vhost_id(vhost),
        .exchange = exchange,
        .key = routing_key,
    };
    size_t pair = wanted.hash >> 32 & (PAIRS - 1);
    struct entry *entries = &cache->entries[2 * pair];

    for (uint8_t i = 0; i < 2; i++) {
        if (!is_it(&entries[i], &wanted))
            continue;
        if (entries[i].version != wanted.version)
            break;
        if (cache->recent[pair] != i)
            cache->recent[pair] = i;
        return &entries[i].route;
    }
    return find_afresh(cache, vhost, pair, &wanted, properties, err);
}

void
route_cache_check(const struct route_cache *cache)
{
    size_t bytes = 0;

    for (size_t i = 0; i < ENTRIES; i++) {
        const struct entry *entry = &cache->entries[i];
        struct wanted own = {
            .exchange = view_of(entry->names, entry->exchange_len),
            .key = view_of(entry->names + entry->exchange_len, entry->key_len),
        };

        if (entry->version == 0) {
            assert(entry->outside_bytes == 0);
            continue;
        }
        assert(entry->hash == hash_of(entry->vhost, own.exchange, own.key));
        assert((entry->hash >> 32 & (PAIRS - 1)) == i / 2);
        assert(entry->outside_bytes == outside_bytes(&own, &entry->route));
        assert(!entry->route.is_for_one);
        bytes += entry->outside_bytes;
    }
    assert(bytes == cache->outside_bytes && bytes <= OUTSIDE_MAX);
}
