#include "lepus/base/map.h"

#include <assert.h>

#include "lepus/base/mem.h"

enum { BUCKETS_MIN = 8 };

void
map_init(struct map *map)
{
    *map = (struct map){0};
}

void
map_fini(struct map *map)
{
    free(map->buckets);
    *map = (struct map){0};
}

static void
map_resize(struct map *map, size_t buckets)
{
    struct map_node **fresh = mem_alloc_zero(buckets * sizeof(struct map_node *));
    size_t old = map->buckets != NULL ? map->mask + 1 : 0;

    for (size_t i = 0; i < old; i++) {
        for (struct map_node *node = map->buckets[i], *next; node != NULL; node = next) {
            struct map_node **to = &fresh[node->hash & (buckets - 1)];

            next = node->next;
            node->next = *to;
            *to = node;
        }
    }
    free(map->buckets);
    map->buckets = fresh;
    map->mask = buckets - 1;
}

struct map_node *
map_find(const struct map *map, struct view key)
{
    uint64_t hash;

    if (map->count == 0)
        return NULL;
    hash = view_hash(key);
    for (struct map_node *node = map->buckets[hash & map->mask]; node != NULL; node = node->next)
        if (node->hash == hash && view_equal(node->key, key))
            return node;
    return NULL;
}

void
map_add(struct map *map, struct map_node *node, struct view key)
{
    struct map_node **to;

    if (map->buckets == NULL)
        map_resize(map, BUCKETS_MIN);
    else if (map->count > map->mask)
        map_resize(map, (map->mask + 1) * 2);
    node->key = key;
    node->hash = view_hash(key);
    to = &map->buckets[node->hash & map->mask];
    node->next = *to;
    *to = node;
    map->count++;
}

void
map_remove(struct map *map, struct map_node *node)
{
    struct map_node **at = &map->buckets[node->hash & map->mask];

    while (*at != node) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->count--;
    if (map->count == 0)
        map_fini(map);
    else if (map->mask >= BUCKETS_MIN * 2 && map->count < (map->mask + 1) / 8)
        map_resize(map, (map->mask + 1) / 2);
}

struct map_node *
map_next(const struct map *map, const struct map_node *at)
{
    size_t i = 0;

    if (map->count == 0)
        return NULL;
    if (at != NULL) {
        if (at->next != NULL)
            return at->next;
        i = (at->hash & map->mask) + 1;
    }
    for (; i <= map->mask; i++)
        if (map->buckets[i] != NULL)
            return map->buckets[i];
    return NULL;
}

/* Behind the cursor the buckets are empty, until the map shrinks. */
struct map_node *
map_any(const struct map *map, struct map_cursor *cursor)
{
    if (map->count == 0)
        return NULL;
    if (cursor->mask != map->mask)
        *cursor = (struct map_cursor){.mask = map->mask};
    while (map->buckets[cursor->bucket] == NULL) {
        cursor->bucket++;
        assert(cursor->bucket <= map->mask);
    }
    return map->buckets[cursor->bucket];
}

void
idmap_init(struct idmap *map)
{
    *map = (struct idmap){0};
}

void
idmap_fini(struct idmap *map)
{
    free(map->entries);
    *map = (struct idmap){0};
}

static void
idmap_put(struct idmap *map, uint64_t id, void *value)
{
    size_t i = idmap_slot(id, map->mask);

    while (map->entries[i].id != 0) {
        assert(map->entries[i].id != id);
        i = (i + 1) & map->mask;
    }
    map->entries[i].id = id;
    map->entries[i].value = value;
}

static void
idmap_resize(struct idmap *map, size_t size)
{
    struct idmap_entry *old = map->entries;
    size_t n = old != NULL ? map->mask + 1 : 0;

    map->entries = mem_alloc_zero(size * sizeof(struct idmap_entry));
    map->mask = size - 1;
    for (size_t i = 0; i < n; i++)
        if (old[i].id != 0)
            idmap_put(map, old[i].id, old[i].value);
    free(old);
}

void
idmap_add(struct idmap *map, uint64_t id, void *value)
{
    assert(id != 0);
    if (map->entries == NULL)
        idmap_resize(map, BUCKETS_MIN);
    else if (map->count * 2 > map->mask)
        idmap_resize(map, (map->mask + 1) * 2);
    idmap_put(map, id, value);
    map->count++;
}

/* Closes the gap by moving back those behind it that their own slot allows: no tombstones. */
static void
idmap_close_gap(struct idmap *map, size_t gap)
{
    for (size_t i = (gap + 1) & map->mask; map->entries[i].id != 0; i = (i + 1) & map->mask) {
        size_t home = idmap_slot(map->entries[i].id, map->mask);

        if (((i - home) & map->mask) < ((i - gap) & map->mask))
            continue;
        map->entries[gap] = map->entries[i];
        gap = i;
    }
    map->entries[gap] = (struct idmap_entry){0};
}

void *
idmap_remove(struct idmap *map, uint64_t id)
{
    void *value = NULL;

    if (map->count == 0)
        return NULL;
    for (size_t i = idmap_slot(id, map->mask); map->entries[i].id != 0; i = (i + 1) & map->mask) {
        if (map->entries[i].id != id)
            continue;
        value = map->entries[i].value;
        idmap_close_gap(map, i);
        map->count--;
        break;
    }
    if (map->count == 0)
        idmap_fini(map);
    else if (map->mask >= BUCKETS_MIN * 4 && map->count < (map->mask + 1) / 16)
        idmap_resize(map, (map->mask + 1) / 4);
    return value;
}

void *
idmap_next(const struct idmap *map, size_t *at)
{
    if (map->count == 0)
        return NULL;
    while (*at <= map->mask) {
        const struct idmap_entry *entry = &map->entries[(*at)++];

        if (entry->id != 0)
            return entry->value;
    }
    return NULL;
}
