/*
 * Offsets of consumer groups, against a model, over crashes and failures.
 */
#include "files_in_memory.h"

#include "lepus/stream/stream_offsets.h"

enum { GROUPS = 12 };

struct world {
    struct memory_disk *files;
    struct disk *disk;
    struct stream_offsets_settings settings;
    struct stream_offsets *offsets;
    unsigned troubles, recoveries;
};

static void
on_trouble(void *arg, const struct err *why)
{
    struct world *w = arg;

    if (why != NULL)
        w->troubles++;
    else
        w->recoveries++;
}

static const struct stream_offsets_ops ops = {on_trouble};

static void
open_offsets(struct world *w)
{
    struct err err = {0};

    w->offsets = stream_offsets_new(&w->settings, &ops, w);
    if (!stream_offsets_recover(w->offsets, &err))
        fail_msg("%s", err.text);
}

static struct world *
world_new(uint64_t seed)
{
    struct world *w = mem_new(struct world);

    w->files = memory_disk_new(seed);
    w->disk = disk_new(NULL, "test");
    w->settings = (struct stream_offsets_settings){
        .dir = "streams", .stream = 9, .files = {&memory_ops, w->files}, .disk = w->disk};
    open_offsets(w);
    return w;
}

static void
run_disk(struct world *w)
{
    while (disk_step(w->disk))
        ;
}

static void
close_offsets(struct world *w)
{
    stream_offsets_free(w->offsets, false);
    run_disk(w);
}

static void
world_free(struct world *w)
{
    close_offsets(w);
    assert_int_equal(w->files->n_open, 0);
    disk_free(w->disk);
    memory_disk_free(w->files);
    free(w);
}

static struct view
name_of(unsigned i)
{
    static char name[64];

    return view_of(name, (size_t)snprintf(name, sizeof(name), "group-%0*u", 1 + (int)i * 3, i));
}

static void
save(struct world *w)
{
    stream_offsets_flush(w->offsets);
    run_disk(w);
}

static void
must_have(struct world *w, const char *group, int64_t offset)
{
    uint64_t found;

    assert_int_equal(stream_offsets_get(w->offsets, view_str(group), &found), offset >= 0);
    if (offset >= 0)
        assert_int_equal(found, offset);
}

static void
what_was_saved_comes_back(void **state)
{
    struct world *w = world_new(1);
    const void *at = NULL;
    struct view name;
    uint64_t offset;
    unsigned n = 0;

    (void)state;
    assert_true(stream_offsets_set(w->offsets, VIEW_LIT("a"), 5));
    assert_true(stream_offsets_set(w->offsets, VIEW_LIT("b"), 6));
    assert_false(stream_offsets_set(w->offsets, VIEW_LIT(""), 6));
    assert_false(stream_offsets_is_saved(w->offsets));
    save(w);
    assert_true(stream_offsets_is_saved(w->offsets));
    stream_offsets_set(w->offsets, VIEW_LIT("a"), 0);
    assert_true(stream_offsets_forget(w->offsets, VIEW_LIT("b")));
    assert_false(stream_offsets_forget(w->offsets, VIEW_LIT("b")));
    stream_offsets_set(w->offsets, VIEW_LIT("c"), UINT64_MAX);
    save(w);
    close_offsets(w);
    memory_disk_power_off(w->files);
    open_offsets(w);
    must_have(w, "a", 0);
    must_have(w, "b", -1);
    while (stream_offsets_next(w->offsets, &at, &name, &offset))
        n++;
    assert_int_equal(n, 2);
    world_free(w);
}

static void
the_file_does_not_grow_with_changes(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        stream_offsets_set(w->offsets, name_of(i % GROUPS), i);
        save(w);
        for (size_t k = 0; k < w->files->n_files; k++)
            assert_true(w->files->files[k]->size < 100 * 1024);
    }
    close_offsets(w);
    open_offsets(w);
    for (unsigned i = 20000 - GROUPS; i < 20000; i++) {
        uint64_t offset;

        assert_true(stream_offsets_get(w->offsets, name_of(i % GROUPS), &offset));
        assert_int_equal(offset, i);
    }
    world_free(w);
}

static void
too_many_groups_are_refused(void **state)
{
    struct world *w = world_new(1);
    char name[32];

    (void)state;
    for (unsigned i = 0; i < STREAM_GROUPS_MAX; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_true(stream_offsets_set(w->offsets, view_str(name), i));
    }
    assert_false(stream_offsets_set(w->offsets, VIEW_LIT("more"), 1));
    assert_true(stream_offsets_set(w->offsets, VIEW_LIT("77"), 1));
    save(w);
    close_offsets(w);
    open_offsets(w);
    must_have(w, "77", 1);
    must_have(w, "9999", 9999);
    world_free(w);
}

static void
deleting_unlinks(void **state)
{
    (void)state;
    for (unsigned is_busy = 0; is_busy < 2; is_busy++) {
        struct world *w = world_new(1);

        stream_offsets_set(w->offsets, VIEW_LIT("a"), 5);
        save(w);
        stream_offsets_set(w->offsets, VIEW_LIT("a"), 6);
        if (is_busy)
            stream_offsets_flush(w->offsets);
        stream_offsets_free(w->offsets, true);
        run_disk(w);
        for (size_t i = 0; i < w->files->n_files; i++)
            assert_false(w->files->files[i]->is_named);
        open_offsets(w);
        must_have(w, "a", -1);
        world_free(w);
    }
}

/* Each group's offset only grows here, or the group is forgotten (-1) and begins again higher: what
 * comes back after a crash lies between what was saved last and what was set last. */
static void
crashes_forget_only_what_was_not_saved(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 500; seed++) {
        struct world *w = world_new(seed);
        struct random r = {seed};
        int64_t set[GROUPS], saved[GROUPS];
        uint64_t version_saved[GROUPS] = {0}, version[GROUPS] = {0};
        int64_t history[GROUPS][1024];

        for (unsigned i = 0; i < GROUPS; i++)
            set[i] = saved[i] = history[i][0] = -1;
        for (unsigned life = 0; life < 3; life++) {
            for (unsigned step = 0; step < 200; step++) {
                unsigned i = (unsigned)random_below(&r, GROUPS);

                if (random_below(&r, 20) == 0) {
                    if (stream_offsets_forget(w->offsets, name_of(i)))
                        history[i][++version[i]] = set[i] = -1;
                } else if (random_below(&r, 2)) {
                    set[i] = (int64_t)(life * 1000 + step);
                    history[i][++version[i]] = set[i];
                    stream_offsets_set(w->offsets, name_of(i), (uint64_t)set[i]);
                }
                if (seed % 2 && random_below(&r, 25) == 0) {
                    w->files->fail_at = w->files->calls + 1 + (unsigned)random_below(&r, 8);
                    w->files->fail_for = 1 + (unsigned)random_below(&r, 2);
                }
                if (random_below(&r, 4) == 0)
                    stream_offsets_flush(w->offsets);
                if (random_below(&r, 4) == 0)
                    disk_step(w->disk);
                if (stream_offsets_is_saved(w->offsets)) {
                    memcpy(saved, set, sizeof(saved));
                    memcpy(version_saved, version, sizeof(version));
                }
            }
            w->files->fail_at = w->files->calls + 1 + (unsigned)random_below(&r, 9);
            w->files->fail_for = UINT32_MAX / 2;
            close_offsets(w);
            if (random_below(&r, 2))
                memory_disk_power_off(w->files);
            else
                memory_disk_kill(w->files);
            open_offsets(w);
            for (unsigned i = 0; i < GROUPS; i++) {
                uint64_t offset = 0;
                int64_t found =
                    stream_offsets_get(w->offsets, name_of(i), &offset) ? (int64_t)offset : -1;
                uint64_t v = version_saved[i];

                while (v < version[i] && history[i][v] != found)
                    v++;
                assert_int_equal(history[i][v], found);
                version[i] = version_saved[i] = 0;
                set[i] = saved[i] = history[i][0] = found;
            }
        }
        w->files->fail_at = 0;
        world_free(w);
    }
}

/* A file that was being made when the power failed has a higher generation, and not all groups. */
static void
a_file_that_was_not_finished_does_not_count(void **state)
{
    struct world *w = world_new(1);
    struct memory_file *f;

    (void)state;
    stream_offsets_set(w->offsets, VIEW_LIT("a"), 1);
    stream_offsets_set(w->offsets, VIEW_LIT("b"), 2);
    save(w);
    close_offsets(w);
    open_offsets(w); /* makes the other one with the next change */
    stream_offsets_set(w->offsets, VIEW_LIT("a"), 3);
    save(w);
    close_offsets(w);
    f = memory_find(w->files, "streams/0000000000000009/offsets.1");
    assert_non_null(f);
    f->size -= 3;
    open_offsets(w);
    must_have(w, "a", 1);
    must_have(w, "b", 2);
    world_free(w);
}

static void
failures_are_told_once_and_tried_again(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth < 12; nth++) {
        struct world *w = world_new(nth);

        stream_offsets_set(w->offsets, VIEW_LIT("a"), 1);
        w->files->fail_at = nth;
        w->files->fail_for = 3;
        for (unsigned i = 0; i < 8; i++) {
            stream_offsets_set(w->offsets, VIEW_LIT("a"), i + 2);
            save(w);
        }
        assert_true(w->troubles <= 2);
        assert_int_equal(w->troubles, w->recoveries);
        assert_true(stream_offsets_is_saved(w->offsets));
        close_offsets(w);
        memory_disk_power_off(w->files);
        open_offsets(w);
        must_have(w, "a", 9);
        world_free(w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_comes_back),
        cmocka_unit_test(the_file_does_not_grow_with_changes),
        cmocka_unit_test(too_many_groups_are_refused),
        cmocka_unit_test(deleting_unlinks),
        cmocka_unit_test(crashes_forget_only_what_was_not_saved),
        cmocka_unit_test(a_file_that_was_not_finished_does_not_count),
        cmocka_unit_test(failures_are_told_once_and_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
