#include "unit.h"

#include <errno.h>
#include <sys/wait.h>

#include "lepus/store/data_dir.h"
#include "tmpdir.h"

static void
open_and_close(const char *path, uint32_t shards, uint32_t want_shards, uint64_t want_term)
{
    struct data_dir dir;
    struct err err = {0};

    if (!data_dir_open(&dir, path, &file_posix, shards, &err))
        fail_msg("%s", err.text);
    assert_int_equal(dir.shards, want_shards);
    assert_int_equal(dir.term, want_term);
    assert_int_equal(dir.is_new, want_term == 1);
    assert_string_equal(dir.path, path);
    data_dir_close(&dir);
}

static void
shards_stay_and_the_term_grows(void **state)
{
    struct tmpdir tmp;
    char path[300];

    (void)state;
    tmpdir_init(&tmp);
    snprintf(path, sizeof(path), "%s/made", tmp.path); /* the folder is made too */
    open_and_close(path, 6, 6, 1);
    open_and_close(path, 4, 6, 2);
    for (uint64_t term = 3; term < 20; term++)
        open_and_close(path, 64, 6, term);
    tmpdir_fini(&tmp);
}

/* A lock of this process would not keep this process out of fcntl locks, but does of flock. */
static void
a_second_broker_is_refused_and_told_the_pid(void **state)
{
    struct data_dir dir, second;
    struct tmpdir tmp;
    struct err err = {0};
    char pid[64];

    (void)state;
    tmpdir_init(&tmp);
    assert_true(data_dir_open(&dir, tmp.path, &file_posix, 4, &err));
    assert_false(data_dir_open(&second, tmp.path, &file_posix, 4, &err));
    snprintf(pid, sizeof(pid), "another broker runs here, pid %ld", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_null(second.path);
    data_dir_close(&second);
    data_dir_close(&dir);
    open_and_close(tmp.path, 4, 4, 2); /* the refused one began no term */
    tmpdir_fini(&tmp);
}

static void
the_lock_ends_with_its_process(void **state)
{
    struct tmpdir tmp;
    int status;
    pid_t child;

    (void)state;
    tmpdir_init(&tmp);
    child = fork();
    if (child == 0) {
        struct data_dir dir;
        struct err err;

        _exit(data_dir_open(&dir, tmp.path, &file_posix, 4, &err) ? 7 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    open_and_close(tmp.path, 4, 4, 2);
    tmpdir_fini(&tmp);
}

/* --- what stands in lepus.state ----------------------------------------------------------- */

static void
write_state(const struct tmpdir *tmp, const char *text, long at)
{
    FILE *file = fopen(tmpdir_file(tmp, "lepus.state"), "r+");

    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void
refused(const struct tmpdir *tmp, const char *words)
{
    struct data_dir dir;
    struct err err = {0};

    assert_false(data_dir_open(&dir, tmp->path, &file_posix, 4, &err));
    if (strstr(err.text, words) == NULL)
        fail_msg("%s", err.text);
}

static void
a_newer_version_is_refused(void **state)
{
    /* the sum is XXH64 of the lines above it, which a later version computes alike */
    static const char newer[] = "lepus data directory\nversion 9\nshards 4\nterm 99\n"
                                "sum 487aeefa5ca10cf9\n";
    struct tmpdir tmp;

    (void)state;
    tmpdir_init(&tmp);
    open_and_close(tmp.path, 4, 4, 1);
    write_state(&tmp, newer, 512);
    refused(&tmp, "format version 9, written by a newer lepusd; this one reads up to version 1");
    tmpdir_fini(&tmp);
}

static void
one_spoilt_slot_costs_a_term_and_none_comes_twice(void **state)
{
    struct tmpdir tmp;

    (void)state;
    tmpdir_init(&tmp);
    open_and_close(tmp.path, 5, 5, 1);
    open_and_close(tmp.path, 4, 5, 2);
    open_and_close(tmp.path, 4, 5, 3); /* in the first slot, as every odd one */
    write_state(&tmp, "torn", 30);
    open_and_close(tmp.path, 4, 5, 4);
    open_and_close(tmp.path, 4, 5, 5);
    write_state(&tmp, "torn", 512 + 45); /* the second slot's, where 5 stood */
    open_and_close(tmp.path, 4, 5, 6);
    tmpdir_fini(&tmp);
}

static void
two_spoilt_slots_are_damage_unless_nothing_else_is_there(void **state)
{
    struct tmpdir tmp;
    FILE *database;

    (void)state;
    tmpdir_init(&tmp);
    open_and_close(tmp.path, 5, 5, 1);
    write_state(&tmp, "torn", 0);
    open_and_close(tmp.path, 6, 6, 1); /* a first start that was cut short */
    open_and_close(tmp.path, 6, 6, 2);
    write_state(&tmp, "torn", 0);
    write_state(&tmp, "torn", 512);
    database = fopen(tmpdir_file(&tmp, "metadata.sqlite"), "w");
    assert_non_null(database);
    fclose(database);
    refused(&tmp, "damaged: neither of its two slots can be read");
    tmpdir_fini(&tmp);
}

/* --- a disk that refuses ------------------------------------------------------------------ */

static struct file_ops failing;

static int
no_sync(void *arg, int fd)
{
    (void)arg;
    (void)fd;
    return -EIO;
}

static int
no_write(void *arg, int fd, const struct iovec *iov, int n, uint64_t at)
{
    (void)arg;
    (void)fd;
    (void)iov;
    (void)n;
    (void)at;
    return -ENOSPC;
}

static void
a_term_that_is_not_on_disk_does_not_begin(void **state)
{
    const struct file_system files = {&failing, NULL};
    struct data_dir dir;
    struct tmpdir tmp;
    struct err err = {0};

    (void)state;
    tmpdir_init(&tmp);
    failing = *file_posix.ops;
    failing.sync = no_sync;
    assert_false(data_dir_open(&dir, tmp.path, &files, 4, &err));
    assert_non_null(strstr(err.text, "Input/output error"));
    failing = *file_posix.ops;
    failing.write = no_write;
    assert_false(data_dir_open(&dir, tmp.path, &files, 4, &err));
    assert_non_null(strstr(err.text, "No space left on device"));
    failing = *file_posix.ops;
    assert_true(data_dir_open(&dir, tmp.path, &files, 4, &err)); /* the lock was given up */
    data_dir_close(&dir);
    tmpdir_fini(&tmp);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_stay_and_the_term_grows),
        cmocka_unit_test(a_second_broker_is_refused_and_told_the_pid),
        cmocka_unit_test(the_lock_ends_with_its_process),
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(one_spoilt_slot_costs_a_term_and_none_comes_twice),
        cmocka_unit_test(two_spoilt_slots_are_damage_unless_nothing_else_is_there),
        cmocka_unit_test(a_term_that_is_not_on_disk_does_not_begin),
    };

    return cmocka_run_group_tests_name("data_dir", tests, NULL, NULL);
}
