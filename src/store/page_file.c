/* page_file: one file of pages, as the disk's thread sees it. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octets_le.h"
#include "pages_priv.h"

#include "lepus/base/crc32c.h"
#include "lepus/base/mem.h"

#define FILE_MAGIC  "LEPUSPGS"
#define BLOCK_MAGIC 0x3142504cu /* "LPB1" */

/* --- names ----------------------------------------------------------------------------- */

char *
page_file_dir(const struct page_file *file)
{
    size_t size = strlen(file->store->dir) + 32;
    char *path = mem_alloc(size);

    snprintf(path, size, "%s/%llx", file->store->dir,
             (unsigned long long)((file->id & ((UINT64_C(1) << 56) - 1)) / 4096));
    return path;
}

char *
page_file_path(const struct page_file *file)
{
    char *dir = page_file_dir(file);
    size_t size = strlen(dir) + 64;
    char *path = mem_alloc(size);

    snprintf(path, size, "%s/%llx-%llx.page", dir, (unsigned long long)file->id,
             (unsigned long long)file->number);
    free(dir);
    return path;
}

/* --- octets ---------------------------------------------------------------------------- */

static void
file_head_encode(uint8_t to[FILE_HEAD_SIZE], const struct page_file *file)
{
    memset(to, 0, FILE_HEAD_SIZE);
    memcpy(to, FILE_MAGIC, 8);
    put_le32(to + 8, PAGES_VERSION);
    put_le64(to + 16, file->id);
    put_le64(to + 24, file->number);
    put_le64(to + 32, file->first);
    put_le32(to + 60, crc32c(0, to, 60));
}

void
block_head_encode(uint8_t to[BLOCK_HEAD_SIZE], const struct block_head *head)
{
    memset(to, 0, BLOCK_HEAD_SIZE);
    put_le32(to, BLOCK_MAGIC);
    put_le32(to + 4, head->crc);
    put_le32(to + 8, head->len);
    put_le32(to + 12, head->count);
    put_le32(to + 16, head->persistent);
    put_le64(to + 24, head->first);
    put_le64(to + 32, head->last);
}

bool
block_head_decode(const uint8_t from[BLOCK_HEAD_SIZE], struct block_head *out)
{
    out->crc = get_le32(from + 4);
    out->len = get_le32(from + 8);
    out->count = get_le32(from + 12);
    out->persistent = get_le32(from + 16);
    out->first = get_le64(from + 24);
    out->last = get_le64(from + 32);
    return get_le32(from) == BLOCK_MAGIC && out->first > 0 && out->first <= out->last &&
           out->last < UINT64_C(1) << 56 && out->count > 0 && out->persistent <= out->count;
}

struct block_bytes *
block_bytes_new(size_t len)
{
    struct block_bytes *block = mem_try(sizeof(*block) + len);

    if (block != NULL) {
        block->refs = 1;
        block->len = len;
    }
    return block;
}

void
block_bytes_unref(struct block_bytes **block)
{
    struct block_bytes *last = *block;

    *block = NULL;
    if (last != NULL && --last->refs == 0)
        free(last);
}

/* --- descriptors ----------------------------------------------------------------------- */

void
page_file_close(struct page_file *file)
{
    if (file->fd < 0)
        return;
    file->store->files.ops->close(file->store->files.arg, file->fd);
    file->fd = -1;
    list_remove(&file->in_use);
    file->store->n_open--;
}

static void
close_oldest(struct page_store *store)
{
    if (!list_is_empty(&store->open))
        page_file_close(container_of(store->open.next, struct page_file, in_use));
}

/* A damaged head takes nothing with it: blocks have checksums of their own. */
static int
check_head(struct page_file *file)
{
    const struct file_system *files = &file->store->files;
    uint8_t head[FILE_HEAD_SIZE];
    int64_t n = files->ops->read(files->arg, file->fd, head, sizeof(head), 0);

    if (n < 0)
        return (int)n;
    file->has_bad_head = n < FILE_HEAD_SIZE || memcmp(head, FILE_MAGIC, 8) != 0 ||
                         get_le32(head + 60) != crc32c(0, head, 60);
    return file->has_bad_head || get_le32(head + 8) == PAGES_VERSION ? 0 : -EPROTONOSUPPORT;
}

static int
try_open(struct page_file *file, const char *path)
{
    const struct file_system *files = &file->store->files;
    int fd = files->ops->open(files->arg, path, file->is_made ? FILE_WRITE : FILE_CREATE);

    while ((fd == -EMFILE || fd == -ENFILE) && file->store->n_open > 0) {
        close_oldest(file->store);
        fd = files->ops->open(files->arg, path, file->is_made ? FILE_WRITE : FILE_CREATE);
    }
    return fd;
}

int
page_file_open(struct page_file *file)
{
    struct page_store *store = file->store;
    char *path;
    int fd;

    if (file->fd >= 0) {
        list_remove(&file->in_use);
        list_append(&store->open, &file->in_use);
        return 0;
    }
    while (store->n_open >= store->descriptors_max)
        close_oldest(store);
    path = page_file_path(file);
    fd = try_open(file, path);
    if (fd == -ENOENT && !file->is_made) {
        char *dir = page_file_dir(file);

        fd = store->files.ops->make_dir(store->files.arg, dir);
        if (fd == 0)
            fd = try_open(file, path);
        free(dir);
    }
    free(path);
    if (fd < 0)
        return fd;
    file->fd = fd;
    store->n_open++;
    list_append(&store->open, &file->in_use);
    return 0;
}

/* --- writing --------------------------------------------------------------------------- */

int
page_file_write(struct page_file *file, const struct block_bytes *block, uint64_t at)
{
    const struct file_system *files = &file->store->files;
    uint8_t head[FILE_HEAD_SIZE];
    struct iovec iov[2] = {{head, sizeof(head)}, {(void *)(uintptr_t)block->at, block->len}};
    int rc = page_file_open(file);

    if (rc != 0)
        return rc;
    if (file->is_made)
        return files->ops->write(files->arg, file->fd, iov + 1, 1, at);
    file_head_encode(head, file);
    rc = files->ops->write(files->arg, file->fd, iov, 1, 0);
    if (rc == 0)
        rc = files->ops->write(files->arg, file->fd, iov + 1, 1, at);
    file->is_made = rc == 0;
    return rc;
}

/* What the system may have dropped when a sync failed is put there again. */
static int
rewrite(struct page_file *file, uint64_t from, uint64_t to)
{
    const struct file_system *files = &file->store->files;
    uint8_t head[FILE_HEAD_SIZE];
    struct iovec iov = {head, sizeof(head)};
    int rc;

    file_head_encode(head, file);
    rc = files->ops->write(files->arg, file->fd, &iov, 1, 0);
    for (uint64_t at = from > FILE_HEAD_SIZE ? from : FILE_HEAD_SIZE; rc == 0 && at < to;) {
        struct block_bytes *block = NULL;
        struct block_head is;
        uint64_t start = at;

        rc = page_file_read(file, 0, &at, to, &is, &block);
        if (rc == 0 && block == NULL)
            break;
        if (rc == 0) {
            iov = (struct iovec){block->at, block->len};
            rc = files->ops->write(files->arg, file->fd, &iov, 1, start);
        }
        block_bytes_unref(&block);
    }
    return rc;
}

int
page_file_sync(struct page_file *file, uint64_t from, uint64_t to)
{
    const struct file_system *files = &file->store->files;
    bool is_new = from == 0;
    char *dir;
    int rc = page_file_open(file);

    if (rc == 0 && file->must_rewrite)
        rc = rewrite(file, from, to);
    if (rc == 0)
        rc = files->ops->sync(files->arg, file->fd);
    if (rc == 0 && is_new) {
        dir = page_file_dir(file);
        rc = files->ops->sync_dir(files->arg, dir);
        free(dir);
        if (rc == 0)
            rc = files->ops->sync_dir(files->arg, file->store->dir);
    }
    file->must_rewrite = rc != 0;
    return rc;
}

int
page_file_unlink(struct page_file *file)
{
    char *path = page_file_path(file);
    int rc;

    page_file_close(file);
    rc = file->store->files.ops->unlink(file->store->files.arg, path);
    free(path);
    return rc;
}

/* --- reading --------------------------------------------------------------------------- */

static int
read_exactly(const struct page_file *file, void *to, size_t n, uint64_t at)
{
    const struct file_system *files = &file->store->files;
    int64_t got = files->ops->read(files->arg, file->fd, to, n, at);

    return got < 0 ? (int)got : (size_t)got == n ? 0 : -EBADMSG;
}

/* Is there a good block in n octets? */
static bool
is_block(const uint8_t *octets, size_t n, struct block_head *out)
{
    return n >= BLOCK_HEAD_SIZE && block_head_decode(octets, out) &&
           out->len <= n - BLOCK_HEAD_SIZE &&
           crc32c(0, octets + 8, BLOCK_HEAD_SIZE - 8 + out->len) == out->crc;
}

/* The first good block behind a damaged place; 0: none. */
static uint64_t
find_block(struct page_file *file, uint64_t at, uint64_t end, struct block_head *out)
{
    size_t n = (size_t)(end - at);
    uint8_t *octets = mem_try(n);
    uint64_t found = 0;

    if (octets != NULL && read_exactly(file, octets, n, at) == 0)
        for (size_t i = 1; found == 0 && i + BLOCK_HEAD_SIZE <= n; i++)
            if (is_block(octets + i, n - i, out))
                found = at + i;
    free(octets);
    return found;
}

/* No block begins at *at. */
static int
damaged(struct page_file *file, uint64_t *at, uint64_t end, struct block_head *head)
{
    struct block_head next;
    uint64_t found = find_block(file, *at, end, &next);

    *head = (struct block_head){.last = found != 0 ? next.first - 1 : 0};
    if (found != 0)
        *at = found;
    return -EBADMSG;
}

void
page_file_quarantine(struct page_file *file)
{
    const struct file_system *files = &file->store->files;
    char *from = page_file_path(file);
    const char *name = strrchr(from, '/') + 1;
    size_t size = strlen(file->store->dir) + strlen(name) + 32;
    char *to = mem_alloc(size);
    int64_t n = page_file_open(file) == 0 ? files->ops->size(files->arg, file->fd) : -1;
    uint8_t *octets = n > 0 ? mem_try((size_t)n) : NULL;
    int fd;

    snprintf(to, size, "%s/../quarantine", file->store->dir);
    (void)files->ops->make_dir(files->arg, to);
    snprintf(to, size, "%s/../quarantine/%s", file->store->dir, name);
    fd = files->ops->open(files->arg, to, FILE_READ);
    if (fd < 0 && octets != NULL && read_exactly(file, octets, (size_t)n, 0) == 0) {
        struct iovec iov = {octets, (size_t)n};

        fd = files->ops->open(files->arg, to, FILE_CREATE);
        if (fd >= 0)
            (void)files->ops->write(files->arg, fd, &iov, 1, 0);
    }
    if (fd >= 0)
        files->ops->close(files->arg, fd);
    free(octets);
    free(from);
    free(to);
}

/* A block and, when it is small, those that follow it, as far as they are good: what is wrong with
 * the next one is told to who asks for it. */
static int
read_blocks(struct page_file *file, uint64_t at, uint64_t end, struct block_head *head,
            struct block_bytes **out)
{
    const struct file_system *files = &file->store->files;
    size_t n = BLOCK_HEAD_SIZE + head->len, len;
    struct block_head next;
    struct block_bytes *blocks;
    int64_t got;

    if (n < READ_BYTES)
        n = end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES;
    blocks = block_bytes_new(n);
    if (blocks == NULL)
        return -ENOMEM;
    got = files->ops->read(files->arg, file->fd, blocks->at, n, at);
    if (got < 0 || !is_block(blocks->at, (size_t)got, &next)) {
        block_bytes_unref(&blocks);
        return got < 0 ? (int)got : -EBADMSG;
    }
    for (len = BLOCK_HEAD_SIZE + next.len;
         is_block(blocks->at + len, (size_t)got - len, &next) && next.first > head->last;
         len += BLOCK_HEAD_SIZE + next.len) {
        head->last = next.last;
        head->count += next.count;
        head->persistent += next.persistent;
    }
    blocks->len = len;
    *out = blocks;
    return 0;
}

int
page_file_read(struct page_file *file, uint64_t seq, uint64_t *at, uint64_t end,
               struct block_head *head, struct block_bytes **out)
{
    uint8_t octets[BLOCK_HEAD_SIZE];
    int rc = page_file_open(file);

    *out = NULL;
    *head = (struct block_head){0};
    if (rc == 0 && *at == FILE_HEAD_SIZE)
        rc = check_head(file);
    while (rc == 0) {
        if (*at >= end)
            return 0;
        rc = read_exactly(file, octets, sizeof(octets), *at);
        if (rc != 0)
            break;
        if (!block_head_decode(octets, head) || head->len > end - *at - BLOCK_HEAD_SIZE)
            return damaged(file, at, end, head);
        if (head->last >= seq)
            break;
        *at += BLOCK_HEAD_SIZE + head->len;
    }
    if (rc == 0)
        rc = read_blocks(file, *at, end, head, out);
    if (rc == 0)
        *at += (*out)->len;
    return rc;
}
