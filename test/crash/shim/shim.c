/*
 * shim: stands between a process and its disk (LD_PRELOAD), to lose power and to have faults.
 *
 * Watches the files below one directory, $LEPUS_SHIM_DATA (absolute, no symbolic links). In
 * another, $LEPUS_SHIM_SIDE, of the same file system, it finds or leaves:
 *
 *   control   rules for faults, mapped and shared: a test arms and reads them while we run
 *   log       with $LEPUS_SHIM_RECORD=1: what is needed to undo whatever was not synced
 *   saved/    files that were unlinked or renamed over, under their numbers in the log
 *
 * Power loss. Before something changes, what it replaces is appended to the log; when a sync has
 * succeeded, the log says so. The log is written by plain calls, so it survives SIGKILL: whoever
 * wants the power to fail kills the process, and then takes back any part of what the log does not
 * say is safe (power.py). Nothing is kept in memory and no trigger is needed. A write and its line
 * in the log are one step for other threads (a lock per file), so the log's order is the disk's.
 * With $LEPUS_SHIM_LIE=1 every sync succeeds and nothing is ever safe: the disk that tests must
 * catch.
 *
 *   record    40 octets, u64 each: kind and length of the path << 32, inode, at, old_size, length
 *             of the data; then the path (relative to the data directory), the data
 *
 *   WRITE     data: the old content of the sectors from `at` on, as far as old_size; the number
 *             of octets written now is no matter
 *   SIZE      the file's size becomes `at`
 *   SYNC      token `at` begins; DONE: the sync with token `at` was a success. The path is a
 *             folder's for a sync of names; inode 0: everything
 *   FAILED    a sync of the file failed: what it should have made safe is not on disk, and no
 *             later sync will bring it there, because the system has forgotten that it is owed
 *   CREATE    a name, for a new inode; MKDIR likewise
 *   UNLINK    a name that was the inode's, which is now saved/<at>; RMDIR
 *   RENAME    path and data: from and to; what stood there is saved/<at>, or at is 0
 *
 * Faults. A rule is 256 octets in `control`, see struct rule: the Nth call of some kinds on paths
 * that match a pattern fails with an errno, is short, or kills the process before, after or amid
 * itself. `seen` counts matching calls of an armed rule, `fired` those that met their fate.
 *
 * SQLite's -shm files are memory, not disk: left alone. Descriptors made by dup are not known, nor
 * is a mapping of a file: the broker has neither.
 */
#undef _FILE_OFFSET_BITS /* it would rename open to open64: here both are meant */

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SECTOR = 512, FDS = 65536, LOCKS = 64, RULES = 8, PIECES = 64 };

enum kind { WRITE = 1, SIZE, SYNC, DONE, CREATE, MKDIR, UNLINK, RMDIR, RENAME, FAILED };

enum op {
    OP_OPEN = 1,
    OP_READ = 2,
    OP_WRITE = 4,
    OP_ALLOCATE = 8,
    OP_TRUNCATE = 16,
    OP_SYNC = 32,
    OP_UNLINK = 64,
    OP_RENAME = 128,
    OP_SYNC_DIR = 256,
    OP_MKDIR = 512,
};

enum action { PASS, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_AMID };

/* The test writes all but seen and fired, armed last. */
struct rule {
    _Atomic uint32_t armed;
    uint32_t ops;
    uint32_t action;
    uint32_t err;
    uint64_t nth; /* from 1 */
    _Atomic uint64_t seen, fired;
    uint32_t forever; /* from the Nth on, until disarmed */
    uint32_t reserved;
    char pattern[208]; /* fnmatch, on the path relative to the data directory */
};

/* What a descriptor is; never freed, because somebody may still be looking: a test is short. */
struct watched {
    uint64_t inode;
    bool is_dir;
    char path[]; /* relative; "" for the data directory itself */
};

static char data_dir[PATH_MAX], side_dir[PATH_MAX - 64];
static size_t data_len;
static int log_fd = -1;
static bool lies;
static struct rule *rules;
static _Atomic(struct watched *) fds[FDS];
static pthread_mutex_t locks[LOCKS];
static _Atomic uint64_t last_token;

/* ---- the process's own calls, past ourselves ---- */

static int
sys_openat(int dir, const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static ssize_t
sys_pread(int fd, void *to, size_t n, int64_t at)
{
    return (ssize_t)syscall(SYS_pread64, fd, to, n, at);
}

static ssize_t
sys_pwritev(int fd, const struct iovec *iov, int n, int64_t at)
{
    return (ssize_t)syscall(SYS_pwritev, fd, iov, n, at, 0);
}

static void
fatal(const char *what)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "shim: %s: %s\n", what, strerror(errno));

    if (syscall(SYS_write, STDERR_FILENO, text, (size_t)n) < 0)
        _exit(98);
    _exit(99);
}

static void
die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

__attribute__((constructor)) static void
start(void)
{
    const char *data = getenv("LEPUS_SHIM_DATA"), *side = getenv("LEPUS_SHIM_SIDE");
    const char *record = getenv("LEPUS_SHIM_RECORD"), *lie = getenv("LEPUS_SHIM_LIE");
    char path[PATH_MAX];
    int fd;

    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], NULL);
    if (data == NULL || side == NULL || strlen(side) >= sizeof(side_dir))
        return;
    snprintf(data_dir, sizeof(data_dir), "%s", data);
    snprintf(side_dir, sizeof(side_dir), "%s", side);
    lies = lie != NULL && *lie == '1';
    snprintf(path, sizeof(path), "%s/control", side_dir);
    fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd >= 0) {
        rules = mmap(NULL, RULES * sizeof(*rules), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (rules == MAP_FAILED)
            fatal("control");
        syscall(SYS_close, fd);
    }
    if (record != NULL && *record == '1') {
        snprintf(path, sizeof(path), "%s/log", side_dir);
        log_fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0)
            fatal(path);
        /* out of the way of low descriptors, and of those who count them */
        fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 900);
        if (fd >= 0) {
            syscall(SYS_close, log_fd);
            log_fd = fd;
        }
    }
    data_len = strlen(data_dir); /* from here on we watch */
}

/* ---- which file ---- */

/* path below the data directory, relative to it, or false. Doubled slashes are made one. */
static bool
relative_path(int dir, const char *path, char out[PATH_MAX])
{
    char full[PATH_MAX * 2], *to = full;
    size_t n = 0;

    if (data_len == 0 || path == NULL)
        return false;
    if (*path != '/') {
        char link[64];

        if (dir == AT_FDCWD)
            snprintf(link, sizeof(link), "/proc/self/cwd");
        else
            snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
        ssize_t got = readlink(link, full, PATH_MAX - 1);
        if (got < 0)
            return false;
        n = (size_t)got;
        full[n++] = '/';
    }
    if (n + strlen(path) >= sizeof(full))
        return false;
    strcpy(full + n, path);
    for (const char *from = full; *from != '\0'; from++) {
        if (from[0] == '/' && from[1] == '/')
            continue;
        if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || from[2] == '\0')) {
            from++;
            continue;
        }
        *to++ = *from;
    }
    *to = '\0';
    if (to > full + 1 && to[-1] == '/')
        to[-1] = '\0';
    if (strncmp(full, data_dir, data_len) != 0 || (full[data_len] != '/' && full[data_len] != '\0'))
        return false;
    snprintf(out, PATH_MAX, "%s", full + data_len + (full[data_len] == '/'));
    n = strlen(out);
    return n < 4 || strcmp(out + n - 4, "-shm") != 0;
}

static struct watched *
watched(int fd)
{
    return fd >= 0 && fd < FDS ? atomic_load(&fds[fd]) : NULL;
}

static void
watch(int fd, const char *path)
{
    struct stat st;
    struct watched *w;

    if (fd < 0 || fd >= FDS || fstat(fd, &st) != 0)
        return;
    w = malloc(sizeof(*w) + strlen(path) + 1);
    if (w == NULL)
        fatal("memory");
    w->inode = st.st_ino;
    w->is_dir = S_ISDIR(st.st_mode);
    strcpy(w->path, path);
    atomic_store(&fds[fd], w);
}

static pthread_mutex_t *
lock_of(uint64_t inode)
{
    return &locks[inode % LOCKS];
}

/* ---- the log ---- */

static void
record(enum kind kind, uint64_t inode, uint64_t at, uint64_t old_size, const char *path,
       const void *data, size_t len)
{
    uint64_t head[5] = {(uint64_t)kind | (uint64_t)strlen(path) << 32, inode, at, old_size, len};
    struct iovec iov[3] = {{head, sizeof(head)},
                           {(void *)(uintptr_t)path, strlen(path)},
                           {(void *)(uintptr_t)data, len}};
    size_t all = sizeof(head) + strlen(path) + len;

    if (log_fd >= 0 && syscall(SYS_writev, log_fd, iov, 3) != (long)all)
        fatal("log");
}

static uint64_t
size_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Keeps what stands in the sectors of [at, at + len). The file's lock is held. */
static void
keep_old(int fd, const struct watched *w, uint64_t at, uint64_t len)
{
    uint64_t first = at / SECTOR * SECTOR, end = (at + len + SECTOR - 1) / SECTOR * SECTOR;
    uint64_t size = size_of(fd);
    void *old = NULL;
    size_t n = 0;

    if (log_fd < 0 || len == 0)
        return;
    if (first < size) {
        n = (size_t)((end < size ? end : size) - first);
        old = malloc(n);
        if (old == NULL || sys_pread(fd, old, n, (int64_t)first) != (ssize_t)n)
            fatal("old content");
    }
    if (end > size) /* whoever takes this back needs to know how far the sectors went */
        record(SIZE, w->inode, end, size, w->path, NULL, 0);
    record(WRITE, w->inode, first, size, w->path, old, n);
    free(old);
}

static uint64_t
token(void)
{
    return atomic_fetch_add(&last_token, 1) + 1;
}

/* Hard-links what a name stands for under a number of its own; 0: there is nothing. */
static uint64_t
save(int dir, const char *path)
{
    char to[PATH_MAX];
    uint64_t number;

    if (log_fd < 0)
        return 0;
    do {
        number = (uint64_t)getpid() << 32 | token();
        snprintf(to, sizeof(to), "%s/saved/%llu", side_dir, (unsigned long long)number);
        if (linkat(dir, path, AT_FDCWD, to, 0) == 0)
            return number;
    } while (errno == EEXIST);
    return 0;
}

/* ---- faults ---- */

static enum action
fate(enum op op, const char *path)
{
    for (int i = 0; rules != NULL && i < RULES; i++) {
        struct rule *r = &rules[i];
        uint64_t n;

        if (atomic_load(&r->armed) == 0 || (r->ops & op) == 0 || fnmatch(r->pattern, path, 0) != 0)
            continue;
        n = atomic_fetch_add(&r->seen, 1) + 1;
        if (r->forever ? n < r->nth : n != r->nth)
            continue;
        atomic_fetch_add(&r->fired, 1);
        if (r->action == KILL_BEFORE)
            die();
        if (r->action == FAIL)
            errno = (int)r->err;
        return (enum action)r->action;
    }
    return PASS;
}

/* The result of a call that may not be cut in two. */
static long
finish(enum action action, long result)
{
    if (action == KILL_AFTER || action == KILL_AMID)
        die();
    return result;
}

/* ---- names ---- */

static int
open_any(int dir, const char *path, int flags, mode_t mode)
{
    char rel[PATH_MAX];
    struct stat st;
    enum action action;
    bool is_new, cuts = false;
    int fd;

    if (!relative_path(dir, path, rel))
        return sys_openat(dir, path, flags, mode);
    action = fate(OP_OPEN, rel);
    if (action == FAIL)
        return -1;
    is_new = (flags & O_CREAT) != 0 && fstatat(dir, path, &st, 0) != 0;
    if ((flags & O_ACCMODE) == O_WRONLY)
        flags = (flags & ~O_ACCMODE) | O_RDWR; /* old content wants to be read */
    if ((flags & O_TRUNC) != 0 && !is_new && log_fd >= 0) {
        flags &= ~O_TRUNC;
        cuts = true;
    }
    fd = sys_openat(dir, path, flags, mode);
    if (fd >= 0) {
        watch(fd, rel);
        if (is_new && watched(fd) != NULL)
            record(CREATE, watched(fd)->inode, 0, 0, rel, NULL, 0);
        if (cuts && ftruncate(fd, 0) != 0)
            fatal("O_TRUNC");
    }
    return (int)finish(action, fd);
}

#define MODE_OF(flags, mode)                                                                       \
    do {                                                                                           \
        if (((flags) & (O_CREAT | __O_TMPFILE)) != 0) {                                            \
            va_list ap;                                                                            \
            va_start(ap, flags);                                                                   \
            mode = va_arg(ap, mode_t);                                                             \
            va_end(ap);                                                                            \
        }                                                                                          \
    } while (0)

int
open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_any(AT_FDCWD, path, flags, mode);
}

int
openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_any(dir, path, flags, mode);
}

int
creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int
close(int fd)
{
    if (fd >= 0 && fd < FDS)
        atomic_store(&fds[fd], NULL);
    return (int)syscall(SYS_close, fd);
}

int
unlinkat(int dir, const char *path, int flags)
{
    char rel[PATH_MAX];
    struct stat st = {0};
    enum action action;
    uint64_t saved = 0;
    int rc;

    if (!relative_path(dir, path, rel))
        return (int)syscall(SYS_unlinkat, dir, path, flags);
    action = fate(OP_UNLINK, rel);
    if (action == FAIL)
        return -1;
    if ((flags & AT_REMOVEDIR) == 0 && fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
        saved = save(dir, path);
    rc = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (rc == 0)
        record((flags & AT_REMOVEDIR) != 0 ? RMDIR : UNLINK, st.st_ino, saved, 0, rel, NULL, 0);
    return (int)finish(action, rc);
}

int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int
rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int
remove(const char *path)
{
    int rc = unlinkat(AT_FDCWD, path, 0);

    return rc != 0 && errno == EISDIR ? rmdir(path) : rc;
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    char rel[PATH_MAX], rel_to[PATH_MAX];
    struct stat st = {0};
    enum action action;
    uint64_t saved;
    int rc;

    if (!relative_path(from_dir, from, rel) || !relative_path(to_dir, to, rel_to))
        return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    action = fate(OP_RENAME, rel_to);
    if (action == FAIL)
        return -1;
    saved = save(to_dir, to);
    if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    rc = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (rc == 0)
        record(RENAME, st.st_ino, saved, 0, rel, rel_to, strlen(rel_to));
    return (int)finish(action, rc);
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat2(from_dir, from, to_dir, to, 0);
}

int
rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
mkdirat(int dir, const char *path, mode_t mode)
{
    char rel[PATH_MAX];
    enum action action;
    int rc;

    if (!relative_path(dir, path, rel))
        return (int)syscall(SYS_mkdirat, dir, path, mode);
    action = fate(OP_MKDIR, rel);
    if (action == FAIL)
        return -1;
    rc = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (rc == 0)
        record(MKDIR, 0, 0, 0, rel, NULL, 0);
    return (int)finish(action, rc);
}

int
mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- content ---- */

static size_t
octets_of(const struct iovec *iov, int n)
{
    size_t all = 0;

    for (int i = 0; i < n; i++)
        all += iov[i].iov_len;
    return all;
}

/* The pieces that make the first half of what iov has, at least one octet; their number. */
static int
half_of(const struct iovec *iov, int n, struct iovec out[PIECES])
{
    size_t left = (octets_of(iov, n) + 1) / 2;
    int used = 0;

    for (int i = 0; i < n && i < PIECES && left > 0; i++) {
        out[used] = iov[i];
        if (out[used].iov_len > left)
            out[used].iov_len = left;
        left -= out[used++].iov_len;
    }
    return used;
}

static ssize_t
write_watched(int fd, const struct watched *w, const struct iovec *iov, int n, int64_t at)
{
    enum action action = fate(OP_WRITE, w->path);
    struct iovec half[PIECES];
    ssize_t rc;

    if (action == FAIL)
        return -1;
    if (action == SHORT || action == KILL_AMID) {
        n = half_of(iov, n, half);
        iov = half;
    }
    pthread_mutex_lock(lock_of(w->inode));
    keep_old(fd, w, (uint64_t)at, octets_of(iov, n));
    rc = sys_pwritev(fd, iov, n, at);
    pthread_mutex_unlock(lock_of(w->inode));
    return (ssize_t)finish(action, rc);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    struct watched *w = watched(fd);

    return w != NULL ? write_watched(fd, w, iov, n, at) : sys_pwritev(fd, iov, n, at);
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
    struct watched *w = watched(fd);

    if (w == NULL)
        return (ssize_t)syscall(SYS_pwritev2, fd, iov, n, at, 0, flags);
    if (at == -1 || flags != 0)
        fatal("pwritev2 at the file's position, or with flags");
    return write_watched(fd, w, iov, n, at);
}

ssize_t
pwrite(int fd, const void *from, size_t n, off_t at)
{
    struct iovec iov = {(void *)(uintptr_t)from, n};

    return pwritev(fd, &iov, 1, at);
}

ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    struct watched *w = watched(fd);
    ssize_t rc;
    off_t at;

    if (w == NULL)
        return (ssize_t)syscall(SYS_writev, fd, iov, n);
    at = (fcntl(fd, F_GETFL) & O_APPEND) != 0 ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    rc = write_watched(fd, w, iov, n, at);
    if (rc > 0)
        lseek(fd, at + rc, SEEK_SET);
    return rc;
}

ssize_t
write(int fd, const void *from, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)from, n};

    return watched(fd) != NULL ? writev(fd, &iov, 1) : (ssize_t)syscall(SYS_write, fd, from, n);
}

int
ftruncate(int fd, off_t to)
{
    struct watched *w = watched(fd);
    enum action action = PASS;
    uint64_t size;
    int rc;

    if (w == NULL)
        return (int)syscall(SYS_ftruncate, fd, to);
    action = fate(OP_TRUNCATE, w->path);
    if (action == FAIL)
        return -1;
    pthread_mutex_lock(lock_of(w->inode));
    size = size_of(fd);
    if ((uint64_t)to < size)
        keep_old(fd, w, (uint64_t)to, size - (uint64_t)to);
    record(SIZE, w->inode, (uint64_t)to, size, w->path, NULL, 0);
    rc = (int)syscall(SYS_ftruncate, fd, to);
    pthread_mutex_unlock(lock_of(w->inode));
    return (int)finish(action, rc);
}

int
fallocate(int fd, int mode, off_t at, off_t len)
{
    struct watched *w = watched(fd);
    enum action action;
    uint64_t size;
    int rc;

    if (w == NULL)
        return (int)syscall(SYS_fallocate, fd, mode, at, len);
    action = fate(OP_ALLOCATE, w->path);
    if (action == FAIL)
        return -1;
    pthread_mutex_lock(lock_of(w->inode));
    size = size_of(fd);
    if (mode == 0 && (uint64_t)(at + len) > size)
        record(SIZE, w->inode, (uint64_t)(at + len), size, w->path, NULL, 0);
    else if (mode != 0)
        keep_old(fd, w, (uint64_t)at, (uint64_t)len);
    rc = (int)syscall(SYS_fallocate, fd, mode, at, len);
    pthread_mutex_unlock(lock_of(w->inode));
    return (int)finish(action, rc);
}

int
posix_fallocate(int fd, off_t at, off_t len)
{
    return fallocate(fd, 0, at, len) == 0 ? 0 : errno;
}

static int
sync_watched(int fd, const struct watched *w, long number)
{
    enum action action = fate(w->is_dir ? OP_SYNC_DIR : OP_SYNC, w->path);
    uint64_t mine = token();
    int rc = 0, err = errno;

    pthread_mutex_lock(lock_of(w->inode)); /* writes that the log has are done */
    record(action == FAIL ? FAILED : SYNC, w->inode, mine, 0, w->path, NULL, 0);
    pthread_mutex_unlock(lock_of(w->inode));
    if (action == FAIL) {
        errno = err;
        return -1;
    }
    if (!lies) {
        rc = (int)syscall(number, fd);
        if (rc == 0)
            record(DONE, w->inode, mine, 0, w->path, NULL, 0);
    }
    return (int)finish(action, rc);
}

int
fsync(int fd)
{
    struct watched *w = watched(fd);

    return w != NULL ? sync_watched(fd, w, SYS_fsync) : (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
    struct watched *w = watched(fd);

    return w != NULL ? sync_watched(fd, w, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd);
}

int
syncfs(int fd)
{
    enum action action = fate(OP_SYNC, "");
    uint64_t mine = token();
    int rc = 0;

    if (data_len == 0)
        return (int)syscall(SYS_syncfs, fd);
    if (action == FAIL)
        return -1;
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_lock(&locks[i]);
    record(SYNC, 0, mine, 0, "", NULL, 0);
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_unlock(&locks[i]);
    if (!lies) {
        rc = (int)syscall(SYS_syncfs, fd);
        if (rc == 0)
            record(DONE, 0, mine, 0, "", NULL, 0);
    }
    return (int)finish(action, rc);
}

/* ---- reading: for its faults only ---- */

static ssize_t
read_watched(int fd, const struct watched *w, void *to, size_t n, off_t at)
{
    enum action action = fate(OP_READ, w->path);

    if (action == FAIL)
        return -1;
    if (action == SHORT)
        n = (n + 1) / 2;
    return (ssize_t)finish(action, at < 0 ? syscall(SYS_read, fd, to, n)
                                          : syscall(SYS_pread64, fd, to, n, at));
}

ssize_t
read(int fd, void *to, size_t n)
{
    struct watched *w = watched(fd);

    return w != NULL ? read_watched(fd, w, to, n, -1) : (ssize_t)syscall(SYS_read, fd, to, n);
}

ssize_t
pread(int fd, void *to, size_t n, off_t at)
{
    struct watched *w = watched(fd);

    return w != NULL ? read_watched(fd, w, to, n, at) : sys_pread(fd, to, n, at);
}

ssize_t
preadv(int fd, const struct iovec *iov, int n, off_t at)
{
    struct watched *w = watched(fd);

    if (w != NULL && fate(OP_READ, w->path) == FAIL)
        return -1;
    return (ssize_t)syscall(SYS_preadv, fd, iov, n, at, 0);
}

/* ---- the names that programs with 64-bit offsets call, the same where we run ---- */

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
int creat64(const char *path, mode_t mode) __attribute__((alias("creat")));
int ftruncate64(int fd, off64_t to) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off64_t at, off64_t len) __attribute__((alias("fallocate")));
int posix_fallocate64(int fd, off64_t at, off64_t len) __attribute__((alias("posix_fallocate")));
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) __attribute__((alias("pwrite")));
ssize_t pread64(int fd, void *to, size_t n, off64_t at) __attribute__((alias("pread")));
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
    __attribute__((alias("pwritev")));
ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t at, int flags)
    __attribute__((alias("pwritev2")));
ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t at)
    __attribute__((alias("preadv")));
