/*
 * map: two hash tables.
 *
 * `struct map` finds elements by bytes (names, keys). It is intrusive: the element carries a
 * `struct map_node`, owns its key, and must outlive its place in the map. Chained; grows when
 * full, shrinks when mostly empty.
 *
 * `struct idmap` finds a pointer by a nonzero 64-bit id. Open addressing with linear probing,
 * for the lookups of the hot path.
 */
#ifndef LEPUS_BASE_MAP_H
#define LEPUS_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/view.h"

struct map_node {
    struct map_node *next;
    uint64_t hash;
    struct view key; /* borrowed from the element that holds the node */
};

struct map {
    struct map_node **buckets; /* NULL until the first element */
    size_t mask;               /* buckets - 1 */
    size_t count;
};

void map_init(struct map *map);
void map_fini(struct map *map); /* frees the buckets; the elements are their owners' */

struct map_node *map_find(const struct map *map, struct view key);

/* The key must not be in the map. `key` stays borrowed until map_remove. */
void map_add(struct map *map, struct map_node *node, struct view key);
void map_remove(struct map *map, struct map_node *node);

/* Walks all elements in no order: start with NULL. The map must not change meanwhile, but for
 * the removal of the element that was returned last when its successor was asked for before. */
struct map_node *map_next(const struct map *map, const struct map_node *at);

/* For taking out elements one after the other when one may take others with it: some element;
 * NULL when there is none left. The cursor is zeroed before the first; while nothing is added,
 * all calls together cost no more than a few walks. */
struct map_cursor {
    size_t mask, bucket;
};
struct map_node *map_any(const struct map *map, struct map_cursor *cursor);

struct idmap {
    struct idmap_entry {
        uint64_t id; /* 0: free */
        void *value;
    } * entries; /* NULL until the first */
    size_t mask;
    size_t count;
};

void idmap_init(struct idmap *map);
void idmap_fini(struct idmap *map);
void idmap_add(struct idmap *map, uint64_t id, void *value); /* id must be new and not 0 */
void *idmap_remove(struct idmap *map, uint64_t id);          /* its value, or NULL */

/* Walks all entries: *at starts at 0; NULL at the end. The map must not change meanwhile. */
void *idmap_next(const struct idmap *map, size_t *at);

static inline size_t
idmap_slot(uint64_t id, size_t mask)
{
    return (size_t)((id * UINT64_C(0x9E3779B97F4A7C15)) >> 20) & mask;
}

static inline void *
idmap_find(const struct idmap *map, uint64_t id)
{
    if (map->count == 0)
        return NULL;
    for (size_t i = idmap_slot(id, map->mask);; i = (i + 1) & map->mask) {
        if (map->entries[i].id == id)
            return map->entries[i].value;
        if (map->entries[i].id == 0)
            return NULL;
    }
}

#endif
