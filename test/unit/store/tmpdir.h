/*
 * tmpdir: a folder of a test's own, below $TMPDIR, gone after the test.
 */
#ifndef TEST_STORE_TMPDIR_H
#define TEST_STORE_TMPDIR_H

#include "unit.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

struct tmpdir {
    char path[256];
};

static inline int
tmpdir_remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static inline void
tmpdir_init(struct tmpdir *dir)
{
    const char *root = getenv("TMPDIR");

    snprintf(dir->path, sizeof(dir->path), "%s/lepus-unit-XXXXXX", root != NULL ? root : "/tmp");
    assert_non_null(mkdtemp(dir->path));
}

static inline void
tmpdir_fini(struct tmpdir *dir)
{
    assert_int_equal(nftw(dir->path, tmpdir_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Good until the next call. */
static inline const char *
tmpdir_file(const struct tmpdir *dir, const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    return path;
}

#endif
