#include "unit.h"

#include "lepus/base/map.h"
#include "lepus/base/mem.h"

enum { KEYS = 2000, STEPS = 60000 };

struct item {
    struct map_node node;
    char key[16];
    bool is_in, is_seen;
};

/* Counts everything anew: each element once, in its own bucket, and no others. */
static void
map_check(const struct map *map, struct item *items)
{
    size_t count = 0, expected = 0;

    for (size_t i = 0; map->buckets != NULL && i <= map->mask; i++) {
        for (struct map_node *node = map->buckets[i]; node != NULL; node = node->next) {
            struct item *item = container_of(node, struct item, node);

            assert_int_equal(node->hash & map->mask, i);
            assert_true(item->is_in);
            assert_false(item->is_seen);
            item->is_seen = true;
            count++;
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(items[i].is_seen, items[i].is_in);
        items[i].is_seen = false;
        expected += items[i].is_in;
    }
    assert_int_equal(count, expected);
    assert_int_equal(map->count, expected);
}

static size_t
count_by_walking(const struct map *map)
{
    size_t count = 0;

    for (struct map_node *at = map_next(map, NULL); at != NULL; at = map_next(map, at))
        count++;
    return count;
}

static void
all_go_though_one_takes_others_along(void **state)
{
    struct item *items = mem_alloc_zero(KEYS * sizeof(struct item));
    struct random random = {2};
    struct map_cursor cursor = {0};
    struct map_node *at;
    struct map map;

    (void)state;
    map_init(&map);
    assert_null(map_any(&map, &cursor));
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(items[i].key, sizeof(items[i].key), "key %zu", i);
        map_add(&map, &items[i].node, view_str(items[i].key));
        items[i].is_in = true;
    }
    while ((at = map_any(&map, &cursor)) != NULL) {
        struct item *item = &items[random_below(&random, KEYS)];

        assert_true(container_of(at, struct item, node)->is_in);
        container_of(at, struct item, node)->is_in = false;
        map_remove(&map, at);
        if (item->is_in)
            map_remove(&map, &item->node);
        item->is_in = false;
    }
    assert_int_equal(map.count, 0);
    for (size_t i = 0; i < KEYS; i++)
        assert_false(items[i].is_in);
    map_fini(&map);
    free(items);
}

/* Grows for a while, shrinks for a while, so that both resizings are passed often. */
static void
map_follows_the_model(void **state)
{
    struct item *items = mem_alloc_zero(KEYS * sizeof(struct item));
    struct random random = {1};
    struct map map;

    (void)state;
    map_init(&map);
    for (size_t i = 0; i < KEYS; i++)
        snprintf(items[i].key, sizeof(items[i].key), "key %zu", i);
    for (unsigned step = 0; step < STEPS; step++) {
        struct item *item = &items[random_below(&random, KEYS)];
        struct view key = view_str(item->key);
        bool is_growing = step / 8000 % 2 == 0;

        assert_ptr_equal(map_find(&map, key), item->is_in ? &item->node : NULL);
        if (!item->is_in && (is_growing || random_below(&random, 8) == 0)) {
            map_add(&map, &item->node, key);
            item->is_in = true;
        } else if (item->is_in && (!is_growing || random_below(&random, 8) == 0)) {
            map_remove(&map, &item->node);
            item->is_in = false;
        }
        if (step % 500 == 0) {
            map_check(&map, items);
            assert_int_equal(count_by_walking(&map), map.count);
        }
    }
    for (size_t i = 0; i < KEYS; i++)
        if (items[i].is_in)
            map_remove(&map, &items[i].node);
    assert_int_equal(map.count, 0);
    assert_null(map.buckets);
    map_fini(&map);
    free(items);
}

static void
map_keys_are_bytes(void **state)
{
    struct map_node empty, nul, two;
    struct map map;

    (void)state;
    map_init(&map);
    assert_null(map_find(&map, VIEW_LIT("")));
    map_add(&map, &empty, view_of(NULL, 0));
    map_add(&map, &nul, VIEW_LIT("\0"));
    map_add(&map, &two, VIEW_LIT("\0\0"));
    assert_ptr_equal(map_find(&map, VIEW_LIT("")), &empty);
    assert_ptr_equal(map_find(&map, VIEW_LIT("\0")), &nul);
    assert_ptr_equal(map_find(&map, VIEW_LIT("\0\0")), &two);
    map_fini(&map);
}

/* Each entry is reached from its own slot without passing a free one. */
static void
idmap_check(const struct idmap *map, void *const *values, const uint64_t *ids)
{
    size_t count = 0, expected = 0, at = 0;

    for (size_t i = 0; map->entries != NULL && i <= map->mask; i++) {
        if (map->entries[i].id == 0)
            continue;
        count++;
        for (size_t j = idmap_slot(map->entries[i].id, map->mask); j != i; j = (j + 1) & map->mask)
            assert_true(map->entries[j].id != 0);
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(idmap_find(map, ids[i]), values[i]);
        expected += values[i] != NULL;
    }
    assert_int_equal(count, expected);
    assert_int_equal(map->count, expected);
    for (count = 0; idmap_next(map, &at) != NULL; count++)
        ;
    assert_int_equal(count, expected);
}

/* Ids as they come: consecutive, scattered, or all of one slot. */
static uint64_t
id_of(unsigned kind, size_t i, struct random *random)
{
    if (kind == 0)
        return i + 1;
    if (kind == 1)
        return random_u64(random) | 1;
    return ((uint64_t)i + 1) << 44; /* far apart: their products share the low bits */
}

static void
idmap_follows_the_model(void **state)
{
    void **values = mem_alloc_zero(KEYS * sizeof(void *));
    uint64_t *ids = mem_alloc_zero(KEYS * sizeof(uint64_t));

    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct random random = {kind + 5};
        struct idmap map;

        idmap_init(&map);
        for (size_t i = 0; i < KEYS; i++)
            ids[i] = id_of(kind, i, &random);
        for (unsigned step = 0; step < STEPS; step++) {
            size_t i = random_below(&random, KEYS);
            bool is_growing = step / 8000 % 2 == 0;

            assert_ptr_equal(idmap_find(&map, ids[i]), values[i]);
            if (values[i] == NULL && (is_growing || random_below(&random, 8) == 0)) {
                values[i] = &values[i];
                idmap_add(&map, ids[i], values[i]);
            } else if (!is_growing || random_below(&random, 8) == 0) {
                assert_ptr_equal(idmap_remove(&map, ids[i]), values[i]);
                values[i] = NULL;
            }
            if (step % 500 == 0)
                idmap_check(&map, values, ids);
        }
        for (size_t i = 0; i < KEYS; i++) {
            assert_ptr_equal(idmap_remove(&map, ids[i]), values[i]);
            values[i] = NULL;
        }
        assert_int_equal(map.count, 0);
        assert_null(map.entries);
        idmap_fini(&map);
    }
    free(values);
    free(ids);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_follows_the_model),
        cmocka_unit_test(all_go_though_one_takes_others_along),
        cmocka_unit_test(map_keys_are_bytes),
        cmocka_unit_test(idmap_follows_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
