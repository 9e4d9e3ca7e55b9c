/*
 * files_in_memory: a file system that forgets. Each sector of a file is what was written last
 * (live), what would be found after the power failed (safe), and whether the next sync would bring
 * the two together (dirty): after a sync that failed it would not, though reading shows what was
 * written. Names are forgotten or come back unless their folder was synced.
 *
 * The Nth call from now may fail, with a chosen errno; reads may be told to fail at a place.
 */
#ifndef TEST_STREAM_FILES_IN_MEMORY_H
#define TEST_STREAM_FILES_IN_MEMORY_H

#include "unit.h"

#include <assert.h>
#include <errno.h>

#include "lepus/base/mem.h"
#include "lepus/store/file.h"

enum { MEMORY_SECTOR = 512, MEMORY_FILES = 4096, MEMORY_FD = 1000 };

struct memory_file {
    char path[200];
    bool is_named, is_named_safely; /* in its folder, now and after the power failed */
    uint8_t *live, *safe, *dirty;   /* octets, octets, a flag a sector */
    size_t size, safe_size, room;
};

struct memory_disk {
    struct memory_file *files[MEMORY_FILES];
    int fds[MEMORY_FILES]; /* of open descriptors: the file's number; -1: free */
    size_t n_files, n_open;
    unsigned calls, fail_at; /* the call that fails; 0: none */
    unsigned fail_for;       /* and how many after it */
    int fail_errno;
    unsigned n_removed; /* folders, which are not kept: each time one was removed */
    struct random random;
};

static inline bool
memory_fails(struct memory_disk *d)
{
    d->calls++;
    return d->fail_at != 0 && d->calls >= d->fail_at && d->calls < d->fail_at + d->fail_for;
}

static inline struct memory_file *
memory_find(struct memory_disk *d, const char *path)
{
    for (size_t i = d->n_files; i-- > 0;)
        if (d->files[i]->is_named && strcmp(d->files[i]->path, path) == 0)
            return d->files[i];
    return NULL;
}

static inline struct memory_file *
memory_of(struct memory_disk *d, int fd)
{
    assert(fd >= MEMORY_FD && fd < MEMORY_FD + MEMORY_FILES && d->fds[fd - MEMORY_FD] >= 0);
    return d->files[d->fds[fd - MEMORY_FD]];
}

static inline void
memory_resize(struct memory_file *f, size_t size)
{
    if (size > f->room) {
        size_t room = (size * 2 + MEMORY_SECTOR) / MEMORY_SECTOR * MEMORY_SECTOR;

        f->live = mem_resize(f->live, room);
        f->safe = mem_resize(f->safe, room);
        f->dirty = mem_resize(f->dirty, room / MEMORY_SECTOR);
        memset(f->live + f->room, 0, room - f->room);
        memset(f->safe + f->room, 0, room - f->room);
        memset(f->dirty + f->room / MEMORY_SECTOR, 0, (room - f->room) / MEMORY_SECTOR);
        f->room = room;
    }
    if (size < f->size) {
        memset(f->live + size, 0, f->size - size);
        for (size_t s = size / MEMORY_SECTOR; s * MEMORY_SECTOR < f->size; s++)
            f->dirty[s] = 1;
    }
    f->size = size;
}

static inline int
memory_open(void *arg, const char *path, enum file_mode mode)
{
    struct memory_disk *d = arg;
    struct memory_file *f = memory_find(d, path);
    size_t number;

    if (memory_fails(d))
        return -d->fail_errno;
    if (f == NULL && mode != FILE_CREATE)
        return -ENOENT;
    if (f == NULL) {
        assert(d->n_files < MEMORY_FILES);
        f = d->files[d->n_files++] = mem_new(struct memory_file);
        snprintf(f->path, sizeof(f->path), "%s", path);
        f->is_named = true;
    }
    for (number = 0; d->files[number] != f;)
        number++;
    for (int fd = 0; fd < MEMORY_FILES; fd++) {
        if (d->fds[fd] < 0) {
            d->fds[fd] = (int)number;
            d->n_open++;
            return fd + MEMORY_FD;
        }
    }
    return -EMFILE;
}

static inline void
memory_close(void *arg, int fd)
{
    struct memory_disk *d = arg;

    memory_of(d, fd);
    d->fds[fd - MEMORY_FD] = -1;
    d->n_open--;
}

static inline int64_t
memory_size(void *arg, int fd)
{
    struct memory_disk *d = arg;

    return memory_fails(d) ? -d->fail_errno : (int64_t)memory_of(d, fd)->size;
}

static inline int64_t
memory_read(void *arg, int fd, void *to, size_t n, uint64_t at)
{
    struct memory_disk *d = arg;
    struct memory_file *f = memory_of(d, fd);

    if (memory_fails(d))
        return -d->fail_errno;
    if (at >= f->size)
        return 0;
    if (n > f->size - at)
        n = f->size - at;
    if (n > 0)
        memcpy(to, f->live + at, n);
    return (int64_t)n;
}

/* One that fails may have written some of it. */
static inline int
memory_write(void *arg, int fd, const struct iovec *iov, int n, uint64_t at)
{
    struct memory_disk *d = arg;
    struct memory_file *f = memory_of(d, fd);
    bool fails = memory_fails(d);

    assert(n <= 16);
    for (int i = 0; i < n; i++) {
        if (fails && random_below(&d->random, 2))
            break;
        if (at + iov[i].iov_len > f->size)
            memory_resize(f, at + iov[i].iov_len);
        memcpy(f->live + at, iov[i].iov_base, iov[i].iov_len);
        for (size_t s = at / MEMORY_SECTOR; s * MEMORY_SECTOR < at + iov[i].iov_len; s++)
            f->dirty[s] = 1;
        at += iov[i].iov_len;
    }
    return fails ? -d->fail_errno : 0;
}

static inline int
memory_allocate(void *arg, int fd, uint64_t size)
{
    struct memory_disk *d = arg;

    if (memory_fails(d))
        return -d->fail_errno;
    if (size > memory_of(d, fd)->size)
        memory_resize(memory_of(d, fd), size);
    return 0;
}

static inline int
memory_truncate(void *arg, int fd, uint64_t size)
{
    struct memory_disk *d = arg;

    if (memory_fails(d))
        return -d->fail_errno;
    memory_resize(memory_of(d, fd), size);
    return 0;
}

static inline int
memory_sync(void *arg, int fd)
{
    struct memory_disk *d = arg;
    struct memory_file *f = memory_of(d, fd);
    bool fails = memory_fails(d);

    for (size_t s = 0; s < f->room / MEMORY_SECTOR; s++) {
        if (f->dirty[s] && (!fails || random_below(&d->random, 2)))
            memcpy(f->safe + s * MEMORY_SECTOR, f->live + s * MEMORY_SECTOR, MEMORY_SECTOR);
        f->dirty[s] = 0; /* after a failure as well: that is the trap */
    }
    if (!fails)
        f->safe_size = f->size;
    return fails ? -d->fail_errno : 0;
}

static inline bool
memory_is_in(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && path[n] == '/' && strchr(path + n + 1, '/') == NULL;
}

static inline int
memory_sync_dir(void *arg, const char *path)
{
    struct memory_disk *d = arg;

    if (memory_fails(d))
        return -d->fail_errno;
    for (size_t i = 0; i < d->n_files; i++)
        if (memory_is_in(d->files[i]->path, path))
            d->files[i]->is_named_safely = d->files[i]->is_named;
    return 0;
}

static inline int
memory_unlink(void *arg, const char *path)
{
    struct memory_disk *d = arg;
    struct memory_file *f = memory_find(d, path);

    if (memory_fails(d))
        return -d->fail_errno;
    if (f != NULL)
        f->is_named = false;
    return 0;
}

static inline int
memory_make_dir(void *arg, const char *path)
{
    struct memory_disk *d = arg;

    (void)path;
    return memory_fails(d) ? -d->fail_errno : 0;
}

static inline int
memory_remove_dir(void *arg, const char *path)
{
    struct memory_disk *d = arg;

    if (memory_fails(d))
        return -d->fail_errno;
    for (size_t i = 0; i < d->n_files; i++)
        if (d->files[i]->is_named && memory_is_in(d->files[i]->path, path))
            return -ENOTEMPTY;
    d->n_removed++;
    return 0;
}

static inline int
memory_list_dir(void *arg, const char *path, void (*each)(void *each_arg, const char *name),
                void *each_arg)
{
    struct memory_disk *d = arg;
    size_t n = 0;

    if (memory_fails(d))
        return -d->fail_errno;
    for (size_t i = 0; i < d->n_files; i++) {
        if (d->files[i]->is_named && memory_is_in(d->files[i]->path, path)) {
            each(each_arg, d->files[i]->path + strlen(path) + 1);
            n++;
        }
    }
    return n > 0 ? 0 : -ENOENT;
}

static const struct file_ops memory_ops = {
    .open = memory_open,
    .close = memory_close,
    .size = memory_size,
    .read = memory_read,
    .write = memory_write,
    .allocate = memory_allocate,
    .truncate = memory_truncate,
    .sync = memory_sync,
    .sync_dir = memory_sync_dir,
    .unlink = memory_unlink,
    .make_dir = memory_make_dir,
    .remove_dir = memory_remove_dir,
    .list_dir = memory_list_dir,
};

static inline struct memory_disk *
memory_disk_new(uint64_t seed)
{
    struct memory_disk *d = mem_new(struct memory_disk);

    d->random.state = seed;
    d->fail_errno = EIO;
    d->fail_for = 1;
    for (int fd = 0; fd < MEMORY_FILES; fd++)
        d->fds[fd] = -1;
    return d;
}

static inline void
memory_file_free(struct memory_file *f)
{
    free(f->live);
    free(f->safe);
    free(f->dirty);
    free(f);
}

static inline void
memory_disk_free(struct memory_disk *d)
{
    for (size_t i = 0; i < d->n_files; i++)
        memory_file_free(d->files[i]);
    free(d);
}

/* The process is gone: descriptors are closed, all else stays. */
static inline void
memory_disk_kill(struct memory_disk *d)
{
    size_t kept = 0;

    for (int fd = 0; fd < MEMORY_FILES; fd++)
        d->fds[fd] = -1;
    d->n_open = 0;
    d->fail_at = 0;
    for (size_t i = 0; i < d->n_files; i++) {
        if (d->files[i]->is_named || d->files[i]->is_named_safely)
            d->files[kept++] = d->files[i];
        else
            memory_file_free(d->files[i]);
    }
    d->n_files = kept;
}

/* The power failed: of what was not synced, some sectors are there. */
static inline void
memory_disk_power_off(struct memory_disk *d)
{
    size_t kept = 0;

    memory_disk_kill(d);
    for (size_t i = 0; i < d->n_files; i++) {
        struct memory_file *f = d->files[i];
        size_t chance = random_below(&d->random, 4), size = f->safe_size;

        if (f->is_named != f->is_named_safely)
            f->is_named = random_below(&d->random, 2);
        if (!f->is_named) {
            memory_file_free(f);
            continue;
        }
        if (random_below(&d->random, 2) && f->size > size)
            size += random_below(&d->random, f->size - size + 1);
        else if (f->size < size && random_below(&d->random, 2))
            size = f->size;
        for (size_t s = 0; s < f->room / MEMORY_SECTOR; s++) {
            uint8_t *live = f->live + s * MEMORY_SECTOR, *safe = f->safe + s * MEMORY_SECTOR;

            if (f->dirty[s] && random_below(&d->random, 4) < chance)
                memcpy(safe, live, MEMORY_SECTOR);
            memcpy(live, safe, MEMORY_SECTOR);
            f->dirty[s] = 0;
        }
        if (f->room > size) {
            memset(f->live + size, 0, f->room - size);
            memset(f->safe + size, 0, f->room - size);
        }
        f->size = f->safe_size = size;
        f->is_named_safely = true;
        d->files[kept++] = f;
    }
    d->n_files = kept;
    /* Of two with one name the later was there last, or not at all. */
    for (size_t i = 0; i < d->n_files; i++)
        for (size_t k = i + 1; k < d->n_files; k++)
            if (strcmp(d->files[i]->path, d->files[k]->path) == 0) {
                memory_file_free(d->files[i]);
                d->files[i--] = d->files[--d->n_files];
                break;
            }
}

#endif
