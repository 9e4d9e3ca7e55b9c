#include "lepus/broker/route_cache.h"

#include <assert.h>

#include "lepus/base/mem.h"

/*
 * Sets of four entries, found by one hash of whose they are, exchange and key; of the four, the
 * hash says which is looked at first, and which is taken when all are free. Of a full set any may
 * go: by turns, since keys that come round and round would never find what was used last. An entry
 * is one cache line: names that fit and a single target lie in it. What does not fit is in memory
 * of its own, counted, and limited over all entries: a hand goes round and frees other entries
 * until there is room.
 *
 * There are few sets at first. When as many entries as there are sets had to go for others while
 * they still held, there are too few: they are doubled, up to SETS_MAX.
 *
 * Who publishes does so mostly with the key that he had before. The entry of the last hit is
 * looked at before anything is hashed.
 */
enum {
    WAYS = 4,
    SETS_MIN = 4 * 1024,
    SETS_MAX = 64 * 1024,
    ROOM_FOR_NAMES = 32,
    OUTSIDE_MAX = 8 * 1024 * 1024,
    OUTSIDE_MAX_EACH = OUTSIDE_MAX / 4,
};

/* Targets, when they are not one or none; then the names, when they are long. */
struct outside {
    uint32_t bytes;
    uint32_t count;
    struct queue_ref targets[];
};

struct entry {
    uint64_t version; /* 0: free; a vhost's starts at 1 */
    uint32_t hash;
    uint32_t whose; /* of a permit, or of a vhost: see whose_of */
    uint8_t exchange_len, key_len;
    bool is_outside;
    uint32_t shard;
    union {
        uint64_t queue; /* the only target, or 0 */
        struct outside *outside;
    } to;
    uint8_t names[ROOM_FOR_NAMES]; /* exchange, then key */
};

_Static_assert(sizeof(struct entry) == MEM_LINE, "an entry is a cache line");

struct route_cache {
    struct entry *entries;
    size_t sets;
    size_t outside_bytes;
    size_t hand;
    size_t lost; /* entries that went for others while they held, since the last growth */
    const struct entry *last; /* of which `hit` is the route, or NULL */
    struct route hit;
    struct queue_ref one;
    struct route afresh; /* the last miss */
};

static size_t
size_of(size_t sets)
{
    return sets * WAYS * sizeof(struct entry);
}

static void
make_entries(struct route_cache *cache, size_t sets)
{
    cache->entries = mem_table_new(size_of(sets));
    cache->sets = sets;
}

struct route_cache *
route_cache_new(void)
{
    struct route_cache *cache = mem_new(struct route_cache);

    make_entries(cache, SETS_MIN);
    route_init(&cache->afresh);
    return cache;
}

static void
forget(struct route_cache *cache, struct entry *entry)
{
    if (entry->is_outside) {
        cache->outside_bytes -= entry->to.outside->bytes;
        free(entry->to.outside);
        entry->is_outside = false;
    }
    entry->version = 0;
    if (cache->last == entry)
        cache->last = NULL;
}

void
route_cache_free(struct route_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < WAYS * cache->sets; i++)
        if (cache->entries[i].version != 0)
            forget(cache, &cache->entries[i]);
    assert(cache->outside_bytes == 0);
    mem_table_free(cache->entries, size_of(cache->sets));
    route_fini(&cache->afresh);
    free(cache);
}

/* What is looked for. */
struct wanted {
    uint64_t version;
    uint32_t hash, whose;
    struct view exchange, key;
};

static const uint8_t *
names_of(const struct entry *entry)
{
    size_t len = (size_t)entry->exchange_len + entry->key_len;

    return len <= ROOM_FOR_NAMES
               ? entry->names
               : (const uint8_t *)&entry->to.outside->targets[entry->to.outside->count];
}

/* As memcmp(...) == 0, for the few octets of a name, without the call. */
static inline bool
is_equal(const uint8_t *at, struct view v)
{
    uint64_t a, b;
    size_t i = 0;

    for (; i + sizeof(a) <= v.len; i += sizeof(a)) {
        memcpy(&a, at + i, sizeof(a));
        memcpy(&b, v.at + i, sizeof(b));
        if (a != b)
            return false;
    }
    for (; i < v.len; i++)
        if (at[i] != v.at[i])
            return false;
    return true;
}

static inline bool
is_of(const struct entry *entry, uint32_t whose, struct view exchange, struct view key)
{
    const uint8_t *names;

    if (entry->whose != whose || entry->exchange_len != exchange.len || entry->key_len != key.len ||
        entry->version == 0)
        return false;
    names = names_of(entry);
    return is_equal(names, exchange) && is_equal(names + exchange.len, key);
}

static bool
is_it(const struct entry *entry, const struct wanted *wanted)
{
    return entry->hash == wanted->hash &&
           is_of(entry, wanted->whose, wanted->exchange, wanted->key);
}

static uint32_t
hash_of(uint32_t whose, struct view exchange, struct view key)
{
    uint64_t hash = view_hash(key);

    /* The default exchange and a fixed one with many keys are the usual cases. */
    if (exchange.len > 0)
        hash = (hash ^ view_hash(exchange) >> 7) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)((hash + whose * UINT64_C(0xD1B54A32D192ED03)) >> 32);
}

/* Permits are told from vhosts by a bit. */
static inline uint32_t
whose_of(const struct vhost *vhost, const struct route_permit *permit)
{
    return permit != NULL ? permit->number | UINT32_C(1) << 31 : vhost_id(vhost);
}

/* The entry that is looked at in the nth place. */
static struct entry *
entry_at(const struct route_cache *cache, uint32_t hash, unsigned nth)
{
    return &cache->entries[(size_t)WAYS * (hash & (cache->sets - 1)) + ((hash >> 30) ^ nth)];
}

/* --- keeping ------------------------------------------------------------------------------- */

static size_t
outside_bytes(const struct wanted *wanted, const struct route *route)
{
    size_t names = wanted->exchange.len + wanted->key.len;

    if (names <= ROOM_FOR_NAMES && route->count <= 1)
        return 0;
    return sizeof(struct outside) + route->count * sizeof(struct queue_ref) +
           (names > ROOM_FOR_NAMES ? names : 0);
}

static void
make_room(struct route_cache *cache, size_t bytes)
{
    while (cache->outside_bytes + bytes > OUTSIDE_MAX) {
        struct entry *entry = &cache->entries[cache->hand++ % (WAYS * cache->sets)];

        if (entry->version != 0 && entry->is_outside)
            forget(cache, entry);
    }
}

static struct outside *
make_outside(const struct route *route, size_t bytes)
{
    struct outside *outside = mem_alloc(bytes);

    outside->bytes = (uint32_t)bytes;
    outside->count = (uint32_t)route->count;
    if (route->count > 0)
        memcpy(outside->targets, route->targets, route->count * sizeof(struct queue_ref));
    return outside;
}

static void
fill(struct route_cache *cache, struct entry *entry, const struct wanted *wanted,
     const struct route *route)
{
    size_t bytes = outside_bytes(wanted, route);
    uint8_t *names;

    entry->version = wanted->version;
    entry->hash = wanted->hash;
    entry->whose = wanted->whose;
    entry->exchange_len = (uint8_t)wanted->exchange.len;
    entry->key_len = (uint8_t)wanted->key.len;
    entry->is_outside = bytes > 0;
    entry->to.queue = 0;
    cache->outside_bytes += bytes;
    if (bytes > 0) {
        entry->to.outside = make_outside(route, bytes);
    } else if (route->count == 1) {
        entry->to.queue = route->targets[0].id;
        entry->shard = route->targets[0].shard;
    }
    names = (uint8_t *)(uintptr_t)names_of(entry);
    if (wanted->exchange.len > 0)
        memcpy(names, wanted->exchange.at, wanted->exchange.len);
    if (wanted->key.len > 0)
        memcpy(names + wanted->exchange.len, wanted->key.at, wanted->key.len);
}

static bool
is_outdated(const struct entry *entry, const struct wanted *wanted)
{
    return entry->version == 0 ||
           (entry->whose == wanted->whose && entry->version != wanted->version);
}

/* The place for a new entry: its own old one, a free or outdated one, one of them. */
static struct entry *
choose_place(struct route_cache *cache, const struct wanted *wanted)
{
    for (unsigned i = 0; i < WAYS; i++)
        if (is_it(entry_at(cache, wanted->hash, i), wanted))
            return entry_at(cache, wanted->hash, i);
    for (unsigned i = 0; i < WAYS; i++)
        if (is_outdated(entry_at(cache, wanted->hash, i), wanted))
            return entry_at(cache, wanted->hash, i);
    return entry_at(cache, wanted->hash, cache->lost++ % WAYS);
}

/* All of a set come into two, by one bit more of the hash: there is room. */
static void
move(const struct route_cache *cache, const struct entry *entry)
{
    unsigned i = 0;

    while (entry_at(cache, entry->hash, i)->version != 0)
        i++;
    *entry_at(cache, entry->hash, i) = *entry;
}

static void
double_sets(struct route_cache *cache)
{
    struct entry *old = cache->entries;
    size_t sets = cache->sets;

    make_entries(cache, 2 * sets);
    cache->last = NULL;
    cache->lost = 0;
    for (size_t i = 0; i < WAYS * sets; i++)
        if (old[i].version != 0)
            move(cache, &old[i]);
    mem_table_free(old, size_of(sets));
}

static void
keep(struct route_cache *cache, const struct wanted *wanted)
{
    size_t bytes = outside_bytes(wanted, &cache->afresh);
    struct entry *entry;

    if (bytes > OUTSIDE_MAX_EACH || wanted->exchange.len > UINT8_MAX || wanted->key.len > UINT8_MAX)
        return;
    if (cache->lost > cache->sets && cache->sets < SETS_MAX)
        double_sets(cache);
    entry = choose_place(cache, wanted);
    if (entry->version != 0)
        forget(cache, entry);
    make_room(cache, bytes);
    fill(cache, entry, wanted, &cache->afresh);
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
find_afresh(struct route_cache *cache, struct vhost *vhost, const struct wanted *wanted,
            struct view properties, struct err *err)
{
    trim(&cache->afresh);
    if (!topology_route(vhost, wanted->exchange, wanted->key, NULL, 0, properties, &cache->afresh,
                        err))
        return NULL;
    if (!cache->afresh.is_for_one)
        keep(cache, wanted);
    return &cache->afresh;
}

static const struct route *
hit(struct route_cache *cache, const struct entry *entry)
{
    cache->last = entry;
    cache->hit.targets = &cache->one;
    if (entry->is_outside) {
        cache->hit.targets = entry->to.outside->targets;
        cache->hit.count = cache->hit.size = entry->to.outside->count;
    } else {
        cache->hit.count = cache->hit.size = entry->to.queue != 0;
        cache->one = (struct queue_ref){entry->to.queue, entry->shard};
    }
    return &cache->hit;
}

static const struct route *
find(struct route_cache *cache, struct vhost *vhost, const struct route_permit *permit,
     struct wanted *wanted, struct view properties, struct err *err)
{
    wanted->hash = hash_of(wanted->whose, wanted->exchange, wanted->key);
    for (unsigned i = 0; i < WAYS; i++) {
        const struct entry *entry = entry_at(cache, wanted->hash, i);

        if (!is_it(entry, wanted))
            continue;
        if (entry->version != wanted->version)
            break;
        return hit(cache, entry);
    }
    if (permit != NULL && !permit->may(permit->arg, wanted->exchange, wanted->key, err))
        return NULL;
    return find_afresh(cache, vhost, wanted, properties, err);
}

bool
route_cache_is_wide(const struct route_cache *cache)
{
    return cache->sets > SETS_MIN;
}

void
route_cache_expect(const struct route_cache *cache, const struct vhost *vhost,
                   const struct route_permit *permit, struct view exchange, struct view routing_key)
{
    uint32_t hash = hash_of(whose_of(vhost, permit), exchange, routing_key);

    __builtin_prefetch(entry_at(cache, hash, 0));
    __builtin_prefetch(entry_at(cache, hash, 1));
}

const struct route *
route_cache_find(struct route_cache *cache, struct vhost *vhost, const struct route_permit *permit,
                 struct view exchange, struct view routing_key, struct view properties,
                 struct err *err)
{
    const struct entry *last = cache->last;
    /* The version is read before the route is: a change in between makes the entry outdated. */
    struct wanted wanted = {
        .version = vhost_version(vhost),
        .whose = whose_of(vhost, permit),
        .exchange = exchange,
        .key = routing_key,
    };

    if (last != NULL && last->version == wanted.version &&
        is_of(last, wanted.whose, exchange, routing_key))
        return &cache->hit;
    return find(cache, vhost, permit, &wanted, properties, err);
}

void
route_cache_check(const struct route_cache *cache)
{
    size_t bytes = 0;

    assert(cache->sets >= SETS_MIN && cache->sets <= SETS_MAX);
    for (size_t i = 0; i < WAYS * cache->sets; i++) {
        const struct entry *entry = &cache->entries[i];
        const uint8_t *names;

        assert(cache->last != entry || entry->version != 0);
        if (entry->version == 0)
            continue;
        names = names_of(entry);
        assert(entry->hash == hash_of(entry->whose, view_of(names, entry->exchange_len),
                                      view_of(names + entry->exchange_len, entry->key_len)));
        assert((entry->hash & (cache->sets - 1)) == i / WAYS);
        if (entry->is_outside)
            bytes += entry->to.outside->bytes;
    }
    assert(bytes == cache->outside_bytes && bytes <= OUTSIDE_MAX);
}
