/*
 * file: the store's way to the disk, as a small table of functions.
 *
 * The journal, the pages and the recovery reach files through a `struct file_ops` and nothing
 * else, so that a test can stand in for the disk: one that forgets what was not synced, tears a
 * write at a sector, or fails the Nth call. `file_posix` is the real one.
 *
 * Any thread may call. Every function that can fail leaves an errno in its answer: a negative
 * number is -errno. Nothing here retries or logs; EINTR never comes out. A read at the end of a
 * file gives fewer octets, or 0; a write is whole or an error (a short write of the system goes
 * on until it fails).
 *
 * What a crash of the machine may leave, and the store expects: of everything written to a file
 * since its last successful sync any subset of sectors (512 octets), in old or new shape; a file's
 * name only after sync_dir of its folder; its size at least what was allocated and synced.
 */
#ifndef LEPUS_STORE_FILE_H
#define LEPUS_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum file_mode {
    FILE_READ,
    FILE_WRITE,  /* read and write; must exist */
    FILE_CREATE, /* read and write; made when missing, kept as it is when not */
};

struct file_ops {
    int (*open)(void *arg, const char *path, enum file_mode mode); /* a descriptor */
    void (*close)(void *arg, int fd);
    int64_t (*size)(void *arg, int fd);
    int64_t (*read)(void *arg, int fd, void *to, size_t n, uint64_t at); /* octets read */
    int (*write)(void *arg, int fd, const struct iovec *iov, int n, uint64_t at);
    int (*allocate)(void *arg, int fd, uint64_t size); /* room for it, and the size set to it */
    int (*truncate)(void *arg, int fd, uint64_t size);
    int (*sync)(void *arg, int fd); /* fdatasync */
    int (*sync_all)(void *arg,
                    const char *path); /* everything of the file system that holds path */
    int (*sync_dir)(void *arg, const char *path);
    int (*unlink)(void *arg, const char *path);   /* 0 also when there is none */
    int (*make_dir)(void *arg, const char *path); /* 0 also when it is there */
    int (*remove_dir)(void *arg, const char *path); /* an empty one; 0 also when there is none */
    /* Calls each(each_arg, name) for every name in a folder, in no order; . and .. left out. */
    int (*list_dir)(void *arg, const char *path, void (*each)(void *each_arg, const char *name),
                    void *each_arg);
};

/* A way to files: the table and what its functions want to be told. */
struct file_system {
    const struct file_ops *ops;
    void *arg;
};

extern const struct file_system file_posix;

#endif
