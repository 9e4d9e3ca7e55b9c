#include "lepus/store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
open_file(void *arg, const char *path, enum file_mode mode)
{
    static const int flags[] = {
        [FILE_READ] = O_RDONLY,
        [FILE_WRITE] = O_RDWR,
        [FILE_CREATE] = O_RDWR | O_CREAT,
    };
    int fd;

    (void)arg;
    do
        fd = open(path, flags[mode] | O_CLOEXEC, 0640);
    while (fd < 0 && errno == EINTR);
    return fd >= 0 ? fd : -errno;
}

static void
close_file(void *arg, int fd)
{
    (void)arg;
    close(fd); /* what it could report, a sync has reported */
}

static int64_t
file_size(void *arg, int fd)
{
    struct stat st;

    (void)arg;
    return fstat(fd, &st) == 0 ? st.st_size : -errno;
}

static int64_t
read_file(void *arg, int fd, void *to, size_t n, uint64_t at)
{
    uint8_t *bytes = to;
    size_t got = 0;

    (void)arg;
    while (got < n) {
        ssize_t more = pread(fd, bytes + got, n - got, (off_t)(at + got));

        if (more == 0)
            break;
        if (more < 0 && errno != EINTR)
            return -errno;
        if (more > 0)
            got += (size_t)more;
    }
    return (int64_t)got;
}

/* What is left of the pieces after n octets of them are written: the first piece is cut. */
static int
advance(struct iovec *iov, int n_iov, size_t n)
{
    int i = 0;

    for (; i < n_iov && n >= iov[i].iov_len; i++)
        n -= iov[i].iov_len;
    if (i < n_iov) {
        iov[i].iov_base = (uint8_t *)iov[i].iov_base + n;
        iov[i].iov_len -= n;
    }
    memmove(iov, iov + i, (size_t)(n_iov - i) * sizeof(*iov));
    return n_iov - i;
}

static int
write_file(void *arg, int fd, const struct iovec *pieces, int n, uint64_t at)
{
    enum { PIECES_MAX = 16 };
    struct iovec iov[PIECES_MAX];

    (void)arg;
    if (n > PIECES_MAX)
        return -EINVAL;
    memcpy(iov, pieces, (size_t)n * sizeof(*iov));
    n = advance(iov, n, 0);
    while (n > 0) {
        ssize_t written = pwritev(fd, iov, n, (off_t)at);

        if (written < 0 && errno != EINTR)
            return -errno;
        if (written == 0)
            return -EIO; /* a disk that takes nothing and says nothing */
        if (written > 0) {
            at += (uint64_t)written;
            n = advance(iov, n, (size_t)written);
        }
    }
    return 0;
}

/* Where the file system has no such call the C library would write zeroes one by one: the size
 * alone must do there. */
static int
allocate_file(void *arg, int fd, uint64_t size)
{
    int rc;

    (void)arg;
    do
        rc = fallocate(fd, 0, 0, (off_t)size);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        rc = ftruncate(fd, (off_t)size);
    return rc == 0 ? 0 : -errno;
}

static int
truncate_file(void *arg, int fd, uint64_t size)
{
    int rc;

    (void)arg;
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int
sync_file(void *arg, int fd)
{
    int rc;

    (void)arg;
    do
        rc = fdatasync(fd);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

/* Opens, calls, closes. */
static int
with_path(const char *path, int flags, int (*call)(int fd))
{
    int fd, rc;

    do
        fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    do
        rc = call(fd);
    while (rc != 0 && errno == EINTR);
    rc = rc == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

static int
sync_all(void *arg, const char *path)
{
    (void)arg;
    return with_path(path, 0, syncfs);
}

static int
sync_dir(void *arg, const char *path)
{
    (void)arg;
    return with_path(path, O_DIRECTORY, fsync);
}

static int
unlink_file(void *arg, const char *path)
{
    (void)arg;
    return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int
make_dir(void *arg, const char *path)
{
    (void)arg;
    return mkdir(path, 0750) == 0 || errno == EEXIST ? 0 : -errno;
}

static int
remove_dir(void *arg, const char *path)
{
    (void)arg;
    return rmdir(path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int
list_dir(void *arg, const char *path, void (*each)(void *each_arg, const char *name),
         void *each_arg)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    (void)arg;
    if (dir == NULL)
        return -errno;
    while (errno = 0, (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(each_arg, entry->d_name);
    rc = -errno;
    closedir(dir);
    return rc;
}

static const struct file_ops ops = {
    .open = open_file,
    .close = close_file,
    .size = file_size,
    .read = read_file,
    .write = write_file,
    .allocate = allocate_file,
    .truncate = truncate_file,
    .sync = sync_file,
    .sync_all = sync_all,
    .sync_dir = sync_dir,
    .unlink = unlink_file,
    .make_dir = make_dir,
    .remove_dir = remove_dir,
    .list_dir = list_dir,
};

const struct file_system file_posix = {.ops = &ops};
