#include "unit.h"

#include <assert.h>
#include <errno.h>

#include "sim_disk.h"

struct fixture {
    struct sim_disk *sim;
    struct file_system files;
};

static void
set_up(struct fixture *f, uint64_t seed)
{
    f->sim = sim_disk_new(seed);
    f->files = sim_disk_files(f->sim);
}

static int
put(struct fixture *f, int fd, uint8_t what, size_t n, uint64_t at)
{
    uint8_t octets[4096];
    struct iovec iov[2] = {{octets, n / 2}, {octets, n - n / 2}};

    assert(n <= sizeof(octets));
    memset(octets, what, n);
    return f->files.ops->write(f->files.arg, fd, iov, 2, at);
}

static int
made(struct fixture *f, const char *path)
{
    int fd = f->files.ops->open(f->files.arg, path, FILE_CREATE);

    assert_true(fd >= 0);
    return fd;
}

static void
what_was_written_is_read(void **state)
{
    struct fixture f;
    uint8_t got[600];
    int fd;

    (void)state;
    set_up(&f, 1);
    assert_int_equal(f.files.ops->open(f.files.arg, "data/a", FILE_WRITE), -ENOENT);
    assert_int_equal(f.files.ops->open(f.files.arg, "else/a", FILE_CREATE), -ENOENT);
    fd = made(&f, "data/a");
    assert_int_equal(put(&f, fd, 7, 100, 500), 0);
    assert_int_equal(f.files.ops->size(f.files.arg, fd), 600);
    assert_int_equal(f.files.ops->read(f.files.arg, fd, got, 600, 0), 600);
    assert_int_equal(got[499], 0);
    assert_int_equal(got[500], 7);
    assert_int_equal(f.files.ops->read(f.files.arg, fd, got, 600, 590), 10);
    assert_int_equal(f.files.ops->truncate(f.files.arg, fd, 550), 0);
    assert_int_equal(f.files.ops->allocate(f.files.arg, fd, 600), 0);
    assert_int_equal(f.files.ops->read(f.files.arg, fd, got, 600, 0), 600);
    assert_int_equal(got[549], 7);
    assert_int_equal(got[550], 0);
    assert_int_equal(sim_disk_used(f.sim), 600);
    f.files.ops->close(f.files.arg, fd);
    assert_int_equal(sim_disk_open_files(f.sim), 0);
    sim_disk_free(f.sim);
}

/* Writes four sectors of a file that was synced with other octets, then crashes. */
static void
crash_once(uint64_t seed, bool sync, bool fails, unsigned *new_sectors)
{
    struct fixture f;
    const uint8_t *octets;
    uint64_t size;
    int fd;

    set_up(&f, seed);
    fd = made(&f, "data/a");
    put(&f, fd, 1, 2048, 0);
    assert_int_equal(f.files.ops->sync(f.files.arg, fd), 0);
    assert_int_equal(f.files.ops->sync_dir(f.files.arg, "data"), 0);
    put(&f, fd, 2, 2048, 0);
    if (fails)
        sim_disk_fail(f.sim, SIM_SYNC, 1, 1, EIO);
    if (sync)
        assert_int_equal(f.files.ops->sync(f.files.arg, fd), fails ? -EIO : 0);
    if (fails)
        assert_int_equal(f.files.ops->sync(f.files.arg, fd), 0);
    sim_disk_crash(f.sim);
    octets = sim_disk_octets(f.sim, "data/a", &size);
    assert_int_equal(size, 2048);
    for (unsigned s = 0; s < 4; s++) {
        for (unsigned i = 1; i < SIM_SECTOR; i++)
            assert_int_equal(octets[s * SIM_SECTOR], octets[s * SIM_SECTOR + i]);
        *new_sectors += octets[s * SIM_SECTOR] == 2;
    }
    sim_disk_free(f.sim);
}

static void
a_crash_keeps_what_was_synced_and_some_of_the_rest(void **state)
{
    unsigned synced = 0, unsynced = 0, failed = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        crash_once(seed, true, false, &synced);
        crash_once(seed, false, false, &unsynced);
        crash_once(seed, true, true, &failed);
    }
    assert_int_equal(synced, 800);
    assert_in_range(unsynced, 200, 600);
    assert_in_range(failed, 200, 600); /* the second sync succeeded, and did nothing */
}

static void
names_stay_with_the_sync_of_their_folder_only(void **state)
{
    unsigned left = 0, came_back = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture f;

        set_up(&f, seed);
        assert_int_equal(f.files.ops->make_dir(f.files.arg, "data/d"), 0);
        made(&f, "data/d/a");
        assert_int_equal(f.files.ops->sync_dir(f.files.arg, "data"), 0);
        assert_int_equal(f.files.ops->sync_dir(f.files.arg, "data/d"), 0);
        made(&f, "data/d/b");
        assert_int_equal(f.files.ops->unlink(f.files.arg, "data/d/a"), 0);
        assert_int_equal(f.files.ops->make_dir(f.files.arg, "data/e"), 0);
        made(&f, "data/e/a");
        assert_int_equal(f.files.ops->sync_dir(f.files.arg, "data/e"), 0);
        sim_disk_crash(f.sim);
        assert_true(sim_disk_has(f.sim, "data/d"));
        left += sim_disk_has(f.sim, "data/d/b");
        came_back += sim_disk_has(f.sim, "data/d/a");
        assert_int_equal(sim_disk_has(f.sim, "data/e/a"), sim_disk_has(f.sim, "data/e"));
        sim_disk_free(f.sim);
    }
    assert_in_range(left, 20, 80);
    assert_in_range(came_back, 20, 80);
}

static void
calls_fail_when_they_are_told_to(void **state)
{
    struct fixture f;
    int fd;

    (void)state;
    set_up(&f, 3);
    fd = made(&f, "data/a");
    sim_disk_fail(f.sim, SIM_WRITE, 2, 2, ENOSPC);
    assert_int_equal(put(&f, fd, 1, 10, 0), 0);
    assert_int_equal(put(&f, fd, 1, 10, 0), -ENOSPC);
    assert_int_equal(put(&f, fd, 1, 10, 0), -ENOSPC);
    assert_int_equal(put(&f, fd, 1, 10, 0), 0);
    sim_disk_set_room(f.sim, 1000);
    assert_int_equal(f.files.ops->allocate(f.files.arg, fd, 1001), -ENOSPC);
    assert_int_equal(put(&f, fd, 1, 1100, 0), -ENOSPC);
    assert_true(sim_disk_used(f.sim) <= 1000);
    sim_disk_set_descriptors(f.sim, 1);
    assert_int_equal(f.files.ops->open(f.files.arg, "data/a", FILE_READ), -EMFILE);
    sim_disk_cut(f.sim, 2);
    assert_int_equal(put(&f, fd, 1, 10, 0), 0);
    assert_false(sim_disk_is_cut(f.sim));
    assert_int_equal(put(&f, fd, 9, 10, 0), -EIO);
    assert_int_equal(f.files.ops->sync(f.files.arg, fd), -EIO);
    assert_true(sim_disk_is_cut(f.sim));
    sim_disk_kill(f.sim);
    fd = made(&f, "data/a");
    assert_int_equal(put(&f, fd, 1, 10, 0), 0);
    sim_disk_free(f.sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(a_crash_keeps_what_was_synced_and_some_of_the_rest),
        cmocka_unit_test(names_stay_with_the_sync_of_their_folder_only),
        cmocka_unit_test(calls_fail_when_they_are_told_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
