/*
 * pages: the worker's side.
 *
 *   put -> seal -> job WRITE (later)  -> written      the block's bytes go when nobody reads them
 *   read        -> job READ (first)   -> ops.block    out of a file, or of a block on its way there
 *   settle                            -> job UNLINK   when nothing in a file lives
 *   sync        -> job SYNC (later)   -> done         behind every write that was asked before
 */
#include "lepus/store/pages.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octets_le.h"
#include "pages_priv.h"

#include "lepus/base/crc32c.h"
#include "lepus/base/mem.h"

enum { SYNC_SINGLY_MAX = 32 };

struct pages {
    struct page_store *store;
    uint64_t id;
    bool is_careful;
    const struct pages_ops *ops;
    void *arg;

    struct page_file **files; /* in order of number */
    size_t n_files, files_size;
    uint64_t next_number;
    uint64_t end; /* the highest seq put */
    uint64_t live;

    struct record_writer writer; /* of the block being filled */
    struct block_head open_head; /* likewise; no records: there is none */
    struct list writing;         /* sealed blocks that are not written yet, in order */
    uint64_t sealed_last;

    struct read_job *reading;
    uint64_t next_seq;                  /* where the last read left off: ... */
    uint64_t next_number_read, next_at; /* ... in that file, there */
};

/* --- files ----------------------------------------------------------------------------- */

static void
file_unref(struct page_file *file)
{
    if (--file->refs > 0)
        return;
    assert(file->fd < 0 && !list_is_linked(&file->dirty));
    free(file);
}

static struct page_file *
add_file(struct pages *pages, uint64_t number)
{
    struct page_file *file = mem_new(struct page_file);

    file->store = pages->store;
    file->id = pages->id;
    file->number = number;
    file->size = FILE_HEAD_SIZE;
    file->fd = -1;
    file->refs = 1;
    if (pages->n_files == pages->files_size) {
        pages->files_size = pages->files_size > 0 ? pages->files_size * 2 : 4;
        pages->files = mem_resize(pages->files, pages->files_size * sizeof(pages->files[0]));
    }
    pages->files[pages->n_files++] = file;
    if (number >= pages->next_number)
        pages->next_number = number + 1;
    return file;
}

/* The index of the first file that ends with at least seq. */
static size_t
find_file(const struct pages *pages, uint64_t seq)
{
    size_t from = 0, to = pages->n_files;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (pages->files[middle]->last < seq)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct file_job {
    struct disk_job job;
    struct page_file *file;
};

static void
run_close(struct disk_job *job)
{
    page_file_close(container_of(job, struct file_job, job)->file);
}

static void
run_unlink(struct disk_job *job)
{
    (void)page_file_unlink(container_of(job, struct file_job, job)->file);
    /* a file that stays behind is found by the next start's sweep */
}

static void
on_file_done(struct disk_job *job)
{
    struct file_job *fj = container_of(job, struct file_job, job);

    file_unref(fj->file);
    free(fj);
}

static void
submit_end(struct page_file *file, bool unlink)
{
    struct file_job *fj = mem_new(struct file_job);

    fj->file = file;
    fj->job.run = unlink ? run_unlink : run_close;
    fj->job.done = on_file_done;
    disk_submit(file->store->disk, DISK_LATER, &fj->job);
}

/* The file is no longer ours: closed, and unlinked if so wanted. Takes the reference. */
static void
let_go(struct page_file *file, bool unlink, bool is_careful)
{
    struct page_store *store = file->store;

    if (list_is_linked(&file->dirty)) {
        list_remove(&file->dirty);
        file->refs--;
    }
    file->is_gone = true;
    if (unlink && is_careful && store->stamp > store->safe_stamp) {
        file->stamp = store->stamp;
        list_append(&store->condemned, &file->condemned);
    } else {
        submit_end(file, unlink);
    }
}

void
page_store_stamp(struct page_store *store, uint64_t stamp)
{
    store->stamp = stamp;
}

void
page_store_safe(struct page_store *store, uint64_t stamp)
{
    store->safe_stamp = stamp;
    while (!list_is_empty(&store->condemned)) {
        struct page_file *file = container_of(store->condemned.next, struct page_file, condemned);

        if (file->stamp > stamp)
            return;
        list_remove(&file->condemned);
        submit_end(file, true);
    }
}

static void
drop_file(struct pages *pages, size_t i)
{
    struct page_file *file = pages->files[i];

    memmove(&pages->files[i], &pages->files[i + 1],
            (--pages->n_files - i) * sizeof(pages->files[0]));
    let_go(file, true, pages->is_careful);
    if (pages->n_files == 0) {
        free(pages->files);
        pages->files = NULL;
        pages->files_size = 0;
    }
}

/* --- life ------------------------------------------------------------------------------ */

struct page_store *
page_store_new(const char *dir, const struct file_system *files, struct disk *disk,
               unsigned descriptors_max, const struct page_store_ops *ops, void *arg,
               struct err *err)
{
    struct page_store *store = mem_new(struct page_store);
    size_t size = strlen(dir) + sizeof("/pages");
    int rc;

    store->disk = disk;
    store->files = *files;
    store->dir = mem_alloc(size);
    snprintf(store->dir, size, "%s/pages", dir);
    store->descriptors_max = descriptors_max > 0 ? descriptors_max : 1;
    store->ops = ops;
    store->ops_arg = arg;
    idmap_init(&store->owners);
    buf_init(&store->filling, SIZE_MAX);
    list_init(&store->failed);
    list_init(&store->failed_reads);
    list_init(&store->waiting_reads);
    list_init(&store->dirty);
    list_init(&store->open);
    list_init(&store->condemned);
    rc = files->ops->make_dir(files->arg, store->dir);
    if (rc == 0)
        rc = files->ops->sync_dir(files->arg, dir);
    if (rc != 0) {
        err_set(err, INTERNAL_ERROR, "mkdir %s: %s", store->dir, strerror(-rc));
        page_store_free(store);
        return NULL;
    }
    return store;
}

void
page_store_free(struct page_store *store)
{
    struct list *link;

    if (store == NULL)
        return;
    assert(store->owners.count == 0 && store->writing_bytes == 0);
    while ((link = list_take_first(&store->condemned)) != NULL) {
        struct page_file *file = container_of(link, struct page_file, condemned);

        page_file_close(file); /* the next start's sweep takes it */
        file_unref(file);
    }
    while (!list_is_empty(&store->open))
        page_file_close(container_of(store->open.next, struct page_file, in_use));
    idmap_fini(&store->owners);
    buf_fini(&store->filling);
    free(store->dir);
    free(store);
}

size_t
page_store_writing_bytes(const struct page_store *store)
{
    return store->writing_bytes;
}

struct pages *
pages_new(struct page_store *store, uint64_t id, bool is_careful, const struct pages_ops *ops,
          void *arg)
{
    struct pages *pages = mem_new(struct pages);

    pages->store = store;
    pages->id = id;
    pages->is_careful = is_careful;
    pages->ops = ops;
    pages->arg = arg;
    pages->next_number = 1;
    list_init(&pages->writing);
    idmap_add(&store->owners, id, pages);
    return pages;
}

/* --- trouble --------------------------------------------------------------------------- */

static void
tell_trouble(struct page_store *store, const struct page_file *file, const char *what, int rc)
{
    struct err why;
    char *path = page_file_path(file);

    err_set(&why, RESOURCE_ERROR, "%s %s: %s", what, path,
            rc == -EBADMSG ? "what was written is not there" : strerror(-rc));
    free(path);
    if (!store->is_in_trouble && store->ops != NULL)
        store->ops->trouble(store->ops_arg, &why);
    store->is_in_trouble = true;
}

static void
look_at_trouble(struct page_store *store)
{
    if (!store->is_in_trouble || store->sync_failed || !list_is_empty(&store->failed) ||
        !list_is_empty(&store->failed_reads))
        return;
    store->is_in_trouble = false;
    if (store->ops != NULL)
        store->ops->trouble(store->ops_arg, NULL);
}

/* --- writing --------------------------------------------------------------------------- */

struct write_job {
    struct disk_job job;
    struct list writing; /* in pages->writing */
    struct list failed;  /* in store->failed */
    struct pages *pages; /* NULL: they went */
    struct page_file *file;
    struct block_bytes *bytes;
    struct block_head head;
    uint64_t at;
    uint64_t before_first; /* the last seq of the block before it */
    int rc;
    bool is_written;
};

static void
run_write(struct disk_job *job)
{
    struct write_job *w = container_of(job, struct write_job, job);

    w->rc = page_file_write(w->file, w->bytes, w->at);
}

static void
write_end(struct write_job *w)
{
    struct page_store *store = w->file->store;

    store->writing_bytes -= w->bytes->len;
    if (w->pages != NULL)
        list_remove(&w->writing);
    block_bytes_unref(&w->bytes);
    file_unref(w->file);
    free(w);
    if (store->ops != NULL)
        store->ops->written(store->ops_arg);
}

/* In order: while one has failed, what came after it stays readable from memory, too, so that no
 * reader meets the hole. */
static void
release_written(struct pages *pages)
{
    while (!list_is_empty(&pages->writing)) {
        struct write_job *w = container_of(pages->writing.next, struct write_job, writing);

        if (!w->is_written)
            return;
        write_end(w);
    }
}

static void
on_write_done(struct disk_job *job)
{
    struct write_job *w = container_of(job, struct write_job, job);
    struct page_store *store = w->file->store;

    if (w->rc != 0 && w->pages != NULL && !w->file->is_gone) {
        list_append(&store->failed, &w->failed);
        tell_trouble(store, w->file, "write", w->rc);
        return;
    }
    w->is_written = true;
    if (w->pages == NULL)
        write_end(w);
    else
        release_written(w->pages);
    look_at_trouble(store);
}

/* The file that the open block goes to. */
static struct page_file *
file_for_block(struct pages *pages)
{
    struct page_file *last = pages->n_files > 0 ? pages->files[pages->n_files - 1] : NULL;

    if (last != NULL && !last->is_closed && last->size < PAGE_FILE_BYTES)
        return last;
    if (last != NULL)
        last->is_closed = true;
    return add_file(pages, pages->next_number);
}

static void
count_block(struct page_file *file, const struct block_head *head)
{
    if (file->first == 0)
        file->first = head->first;
    file->last = head->last;
    file->size += BLOCK_HEAD_SIZE + head->len;
    file->count += head->count;
    file->persistent += head->persistent;
    file->live += head->count;
    file->live_after += head->count;
}

void
pages_put(struct pages *pages, uint64_t seq, const struct record_message *message)
{
    struct block_head *head = &pages->open_head;
    struct record_target target = {pages->id, seq};
    struct buf *filling = &pages->store->filling;

    assert(seq > pages->end);
    if (head->count == 0) {
        static const uint8_t nothing[BLOCK_HEAD_SIZE];

        assert(filling->len == 0); /* whoever fills a block seals it before another one begins */
        buf_append(filling, nothing, BLOCK_HEAD_SIZE);
        pages->writer = (struct record_writer){0};
        *head = (struct block_head){.first = seq};
    }
    record_publish(&pages->writer, filling, message, &target, 1);
    if (filling->bad)
        abort(); /* no memory for what is to leave memory */
    head->count++;
    head->persistent += message->persistent;
    head->last = seq;
    pages->end = seq;
    pages->live++;
    if (filling->len >= PAGE_BLOCK_BYTES)
        pages_seal(pages);
}

void
pages_seal(struct pages *pages)
{
    struct buf *filling = &pages->store->filling;
    struct page_file *file;
    struct write_job *w;

    if (pages->open_head.count == 0)
        return;
    file = file_for_block(pages);
    w = mem_new(struct write_job);
    w->bytes = block_bytes_new(filling->len);
    if (w->bytes == NULL)
        abort();
    pages->open_head.len = (uint32_t)(filling->len - BLOCK_HEAD_SIZE);
    memcpy(w->bytes->at, filling->at, filling->len);
    block_head_encode(w->bytes->at, &pages->open_head);
    pages->open_head.crc = crc32c(0, w->bytes->at + 8, w->bytes->len - 8);
    put_le32(w->bytes->at + 4, pages->open_head.crc);
    w->head = pages->open_head;
    w->pages = pages;
    w->file = file;
    w->at = file->size;
    w->before_first = pages->sealed_last;
    w->job.run = run_write;
    w->job.done = on_write_done;
    pages->sealed_last = w->head.last;
    file->refs++;
    count_block(file, &w->head);
    if (!list_is_linked(&file->dirty)) {
        list_append(&pages->store->dirty, &file->dirty);
        file->refs++;
    }
    list_append(&pages->writing, &w->writing);
    pages->store->writing_bytes += w->bytes->len;
    pages->open_head.count = 0;
    buf_clear(filling);
    if (filling->size > 4 * PAGE_BLOCK_BYTES) { /* a large message passed through */
        buf_fini(filling);
        buf_init(filling, SIZE_MAX);
    }
    disk_submit(pages->store->disk, DISK_LATER, &w->job);
}

/* --- syncing --------------------------------------------------------------------------- */

struct sync_job {
    struct disk_job job;
    struct page_store *store;
    void (*done)(void *arg, const struct err *why);
    void *arg;
    struct sync_file {
        struct page_file *file;
        uint64_t from, to; /* what it got since the last good one */
    } * files;
    size_t n;
    struct page_file *failed; /* the first that did */
    int rc;
};

static int
sync_singly(struct sync_job *s)
{
    int first = 0;

    for (size_t i = 0; i < s->n; i++) {
        struct sync_file *f = &s->files[i];
        int rc = page_file_sync(f->file, f->from, f->to);

        if (rc != 0 && first == 0) {
            first = rc;
            s->failed = f->file;
        }
    }
    return first;
}

static void
run_sync(struct disk_job *job)
{
    struct sync_job *s = container_of(job, struct sync_job, job);
    struct page_store *store = s->store;
    bool singly = s->n <= SYNC_SINGLY_MAX;

    for (size_t i = 0; i < s->n; i++)
        singly |= s->files[i].file->must_rewrite;
    if (!singly) {
        s->rc = store->files.ops->sync_all(store->files.arg, store->dir);
        for (size_t i = 0; i < s->n && s->rc != 0; i++)
            s->files[i].file->must_rewrite = true;
        s->failed = s->files[0].file;
    } else {
        s->rc = sync_singly(s);
    }
}

static void
on_sync_done(struct disk_job *job)
{
    struct sync_job *s = container_of(job, struct sync_job, job);
    struct page_store *store = s->store;
    struct err why;
    bool ok = s->rc == 0 && list_is_empty(&store->failed);

    store->is_syncing = false;
    store->sync_failed = s->rc != 0;
    if (s->rc != 0)
        tell_trouble(store, s->failed, "sync", s->rc);
    for (size_t i = 0; i < s->n; i++) {
        struct page_file *file = s->files[i].file;

        if (ok && !file->is_gone)
            file->safe_size = file->frozen_size;
        if (!ok && !file->is_gone && !list_is_linked(&file->dirty))
            list_append(&store->dirty, &file->dirty); /* with our reference */
        else
            file_unref(file);
    }
    free(s->files);
    look_at_trouble(store);
    if (!ok)
        err_set(&why, RESOURCE_ERROR, "pages cannot be made safe: %s",
                s->rc != 0 ? strerror(-s->rc) : "some are not written");
    s->done(s->arg, ok ? NULL : &why);
    free(s);
}

void
page_store_sync(struct page_store *store, void (*done)(void *arg, const struct err *why), void *arg)
{
    struct sync_job *s = mem_new(struct sync_job);
    struct list *link;
    size_t size = 0;

    assert(!store->is_syncing);
    store->is_syncing = true;
    s->store = store;
    s->done = done;
    s->arg = arg;
    s->job.run = run_sync;
    s->job.done = on_sync_done;
    while ((link = list_take_first(&store->dirty)) != NULL) {
        struct page_file *file = container_of(link, struct page_file, dirty);

        if (s->n == size) {
            size = size > 0 ? size * 2 : 16;
            s->files = mem_resize(s->files, size * sizeof(s->files[0]));
        }
        s->files[s->n++] = (struct sync_file){file, file->safe_size, file->size};
        file->frozen_last = file->last;
        file->frozen_size = file->size;
        file->frozen_count = file->count;
        file->frozen_persistent = file->persistent;
        file->live_after = 0;
    }
    disk_submit(store->disk, DISK_LATER, &s->job);
}

/* --- reading --------------------------------------------------------------------------- */

struct page_block {
    struct block_bytes *bytes;
    size_t begun; /* the runs below are read, or being read */
    struct record_reader reader;
    bool skips_transient;
};

struct read_job {
    struct disk_job job;
    struct list failed; /* in store->failed_reads, or, before its turn, in store->waiting_reads */
    struct page_store *store;
    struct pages *pages; /* NULL: they went */
    struct page_file *file;
    uint64_t seq, at, end, asked_at;
    bool has_bad_head;
    struct block_bytes *bytes; /* filled at once when it was in memory */
    struct block_head head;
    int rc;
};

static void
run_read(struct disk_job *job)
{
    struct read_job *r = container_of(job, struct read_job, job);

    if (r->bytes != NULL || r->file == NULL)
        return;
    r->asked_at = r->at;
    r->rc = page_file_read(r->file, r->seq, &r->at, r->end, &r->head, &r->bytes);
    r->has_bad_head = r->asked_at == FILE_HEAD_SIZE && r->file->has_bad_head;
    if (r->rc == -EBADMSG || r->has_bad_head)
        page_file_quarantine(r->file);
}

/* The records of the next block among those that were read. */
static bool
begin_run(struct page_block *block)
{
    struct block_head head;
    const uint8_t *at = block->bytes->at + block->begun;

    if (block->begun == block->bytes->len)
        return false;
    block_head_decode(at, &head); /* page_file_read has looked at it */
    record_reader_init(&block->reader, view_of(at + BLOCK_HEAD_SIZE, head.len));
    block->begun += BLOCK_HEAD_SIZE + head.len;
    return true;
}

static struct page_block *
make_block(struct block_bytes *bytes, bool skips_transient)
{
    struct page_block *block = mem_new(struct page_block);

    block->bytes = bytes;
    block->skips_transient = skips_transient;
    begin_run(block);
    return block;
}

bool
page_block_next(struct page_block *block, uint64_t *out_seq, struct record_message *out)
{
    struct record record;
    struct record_target target;

    for (;;) {
        if (!record_next(&block->reader, &record)) {
            if (block->reader.bad || !begin_run(block))
                return false;
            continue;
        }
        if (record.kind != RECORD_PUBLISH || record.n != 1 ||
            !record_next_target(&block->reader, &record, &target))
            return false;
        if (block->skips_transient && !record.message.persistent)
            continue;
        *out_seq = target.seq;
        *out = record.message;
        return true;
    }
}

void
page_block_free(struct page_block *block)
{
    if (block == NULL)
        return;
    block_bytes_unref(&block->bytes);
    free(block);
}

/* What [first, last] of a file held cannot be had: it counts as settled, as far as that is known.
 */
static void
lose(struct pages *pages, struct page_file *file, uint64_t first, uint64_t last, uint64_t count)
{
    bool all = first <= file->first && last >= file->last;
    uint64_t lost = all || count > file->live ? file->live : count;

    file->is_damaged = true;
    file->live -= lost;
    pages->live -= lost;
    for (size_t i = 0; i < pages->n_files; i++)
        if (pages->files[i] == file && file->live == 0)
            drop_file(pages, i);
}

static void
tell_why(struct err *why, const struct read_job *r)
{
    char *path = page_file_path(r->file);

    err_set(why, INTERNAL_ERROR, "%s, at octet %" PRIu64 ": %s", path,
            r->has_bad_head ? 0 : r->asked_at,
            r->rc == -EBADMSG ? "damaged here or behind"
            : r->has_bad_head ? "its head is damaged, its blocks are used"
                              : strerror(-r->rc));
    free(path);
}

static void
read_failed(struct pages *pages, struct read_job *r)
{
    struct page_file *file = r->file;
    bool is_block = r->head.first != 0, goes_on = r->head.last != 0;
    uint64_t first = r->head.first > r->seq ? r->head.first : r->seq;
    uint64_t last = goes_on ? r->head.last : file->last;
    struct err why;

    tell_why(&why, r);
    pages->next_seq = goes_on ? last + 1 : 0;
    pages->next_number_read = file->number;
    pages->next_at = is_block ? r->at + BLOCK_HEAD_SIZE + r->head.len : r->at;
    /* how many went with a block whose head is gone is known when nothing is left to read */
    lose(pages, file, first, last, is_block ? r->head.count : goes_on ? 0 : file->live);
    pages->ops->block(pages->arg, NULL, &why, first, last);
}

/* What many read at the same time is no more in memory than a few blocks. */
static void
begin_reads(struct page_store *store)
{
    while (store->n_reads < READS_MAX && !list_is_empty(&store->waiting_reads)) {
        struct list *link = list_take_first(&store->waiting_reads);

        store->n_reads++;
        disk_submit(store->disk, DISK_FIRST, &container_of(link, struct read_job, failed)->job);
    }
}

static void
on_read_done(struct disk_job *job)
{
    struct read_job *r = container_of(job, struct read_job, job);
    struct page_store *store = r->store;
    struct pages *pages = r->pages;
    struct page_block *block = NULL;
    struct err why;

    store->n_reads--;
    if (pages != NULL && r->rc != 0 && r->rc != -EBADMSG && r->rc != -ENOENT) {
        list_append(&store->failed_reads, &r->failed);
        tell_trouble(store, r->file, "read", r->rc);
        begin_reads(store);
        return; /* what is there may be all right: page_store_retry */
    }
    if (pages != NULL)
        pages->reading = NULL;
    look_at_trouble(store);
    if (pages == NULL) {
        block_bytes_unref(&r->bytes);
    } else if (r->file == NULL) {
        pages->ops->block(pages->arg, NULL, NULL, r->seq, r->seq);
    } else if (r->rc != 0) {
        read_failed(pages, r);
    } else if (r->bytes == NULL) { /* the rest of the file holds nothing of it: on to the next */
        pages_read(pages, r->file->last + 1);
    } else {
        block = make_block(r->bytes, r->file->skips_transient);
        pages->next_seq = r->head.last + 1;
        pages->next_number_read = r->file->number;
        pages->next_at = r->at;
        if (r->has_bad_head)
            tell_why(&why, r);
        pages->ops->block(pages->arg, block, r->has_bad_head ? &why : NULL, r->head.first,
                          r->head.last);
    }
    if (r->file != NULL)
        file_unref(r->file);
    free(r);
    begin_reads(store);
}

/* A sealed block that holds seq, or what comes next after it, and is not written yet. */
static struct write_job *
find_writing(struct pages *pages, uint64_t seq)
{
    list_each (at, &pages->writing) {
        struct write_job *w = container_of(at, struct write_job, writing);

        if (w->head.last >= seq)
            return seq > w->before_first ? w : NULL;
    }
    return NULL;
}

void
pages_read(struct pages *pages, uint64_t seq)
{
    struct read_job *r = mem_new(struct read_job);
    struct write_job *w = find_writing(pages, seq);
    size_t i = find_file(pages, seq);

    assert(pages->reading == NULL);
    pages->reading = r;
    r->store = pages->store;
    r->pages = pages;
    r->seq = seq;
    r->job.run = run_read;
    r->job.done = on_read_done;
    if (w != NULL) {
        r->file = w->file;
        r->bytes = w->bytes;
        r->bytes->refs++;
        r->head = w->head;
        r->at = w->at + w->bytes->len;
    } else if (i < pages->n_files) {
        r->file = pages->files[i];
        r->at = FILE_HEAD_SIZE;
        r->end = r->file->size;
        if (seq == pages->next_seq && r->file->number == pages->next_number_read)
            r->at = pages->next_at;
    }
    if (r->file != NULL)
        r->file->refs++;
    list_append(&r->store->waiting_reads, &r->failed);
    begin_reads(r->store);
}

/* --- trying again ---------------------------------------------------------------------- */

void
page_store_retry(struct page_store *store)
{
    struct list *link, all;

    list_init(&all);
    while ((link = list_take_first(&store->failed)) != NULL)
        list_append(&all, link);
    while ((link = list_take_first(&all)) != NULL) {
        struct write_job *w = container_of(link, struct write_job, failed);

        if (w->pages == NULL || w->file->is_gone)
            write_end(w);
        else
            disk_submit(store->disk, DISK_LATER, &w->job);
    }
    while ((link = list_take_first(&store->failed_reads)) != NULL)
        list_append(&all, link);
    while ((link = list_take_first(&all)) != NULL) {
        struct read_job *r = container_of(link, struct read_job, failed);

        r->at = r->asked_at;
        list_append(&store->waiting_reads, &r->failed);
    }
    begin_reads(store);
    look_at_trouble(store);
}

bool
pages_is_reading(const struct pages *pages)
{
    return pages->reading != NULL;
}

/* --- settling -------------------------------------------------------------------------- */

static uint64_t
settle_in_file(struct page_file *file, uint64_t first, uint64_t last)
{
    uint64_t n = last - first + 1;

    assert(n <= file->live || file->is_damaged);
    if (n > file->live)
        n = file->live; /* they went with a damaged block */
    file->live -= n;
    if (last > file->frozen_last) {
        uint64_t after = first > file->frozen_last ? n : last - file->frozen_last;

        file->live_after -= after < file->live_after ? after : file->live_after;
    }
    return n;
}

void
pages_settle(struct pages *pages, uint64_t first, uint64_t last)
{
    for (size_t i = find_file(pages, first); i < pages->n_files && first <= last;) {
        struct page_file *file = pages->files[i];
        uint64_t to = last < file->last ? last : file->last;

        if (first < file->first)
            first = file->first;
        if (first > to)
            break;
        pages->live -= settle_in_file(file, first, to);
        first = to + 1;
        if (file->live == 0 && (file->is_closed || file->last == pages->end))
            drop_file(pages, i);
        else
            i++;
    }
}

uint64_t
pages_live(const struct pages *pages)
{
    return pages->live;
}

uint64_t
pages_bytes(const struct pages *pages)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < pages->n_files; i++)
        bytes += pages->files[i]->size;
    return bytes;
}

uint64_t
pages_end(const struct pages *pages)
{
    return pages->end;
}

/* Nobody waits for it any more. */
static void
end_read(struct read_job *r)
{
    r->pages = NULL;
    if (!list_is_linked(&r->failed))
        return; /* under way: it ends by itself */
    list_remove(&r->failed);
    block_bytes_unref(&r->bytes);
    if (r->file != NULL)
        file_unref(r->file);
    free(r);
}

void
pages_free(struct pages *pages, bool unlink)
{
    idmap_remove(&pages->store->owners, pages->id);
    if (pages->reading != NULL)
        end_read(pages->reading);
    while (!list_is_empty(&pages->writing)) {
        struct write_job *w = container_of(pages->writing.next, struct write_job, writing);

        list_remove(&w->writing);
        w->pages = NULL;
        if (list_is_linked(&w->failed))
            list_remove(&w->failed);
        else if (!w->is_written)
            continue; /* under way: it ends by itself */
        write_end(w);
    }
    for (size_t i = 0; i < pages->n_files; i++)
        let_go(pages->files[i], unlink, pages->is_careful);
    free(pages->files);
    free(pages);
}

/* --- states ---------------------------------------------------------------------------- */

void
pages_state(const struct pages *pages, struct buf *to)
{
    size_t n = 0;

    for (size_t i = 0; i < pages->n_files; i++)
        n += pages->files[i]->safe_size > 0;
    record_varint(to, n);
    for (size_t i = 0; i < pages->n_files; i++) {
        const struct page_file *file = pages->files[i];

        if (file->safe_size == 0)
            continue;
        record_varint(to, file->number);
        record_varint(to, file->first);
        record_varint(to, file->frozen_last);
        record_varint(to, file->frozen_size);
        record_varint(to, file->frozen_count);
        record_varint(to, file->frozen_persistent);
        record_varint(to, file->live - file->live_after);
    }
}

static bool
read_file_state(struct pages *pages, struct view from, size_t *at, struct page_file **out)
{
    uint64_t v[7];
    struct page_file *file;

    for (size_t i = 0; i < 7; i++)
        if (!record_read_varint(from, at, &v[i]))
            return false;
    if (v[0] < pages->next_number || v[1] <= pages->end || v[1] > v[2] || v[2] >> 56 != 0 ||
        v[0] == UINT64_MAX || v[3] > INT64_MAX || v[4] < v[5] || v[4] < v[6] ||
        v[3] < FILE_HEAD_SIZE)
        return false;
    file = add_file(pages, v[0]);
    file->first = v[1];
    file->last = file->frozen_last = v[2];
    file->size = file->frozen_size = file->safe_size = v[3];
    file->count = file->frozen_count = v[4];
    file->persistent = file->frozen_persistent = v[5];
    file->live = v[6];
    file->is_closed = true;
    file->is_made = true;
    file->skips_transient = true;
    pages->end = pages->sealed_last = file->last;
    *out = file;
    return true;
}

/* How many of the seqs [first, last] are in the ranges. */
static uint64_t
overlap(struct range_view ranges, uint64_t first, uint64_t last)
{
    uint64_t n = 0;
    size_t from = 0, to = ranges.n;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (ranges.at[middle].last < first)
            from = middle + 1;
        else
            to = middle;
    }
    for (; from < ranges.n && ranges.at[from].first <= last; from++) {
        uint64_t a = ranges.at[from].first > first ? ranges.at[from].first : first;
        uint64_t b = ranges.at[from].last < last ? ranges.at[from].last : last;

        n += b - a + 1;
    }
    return n;
}

/* Reads every block of a file up to *size, and counts the persistent records that are not gone.
 * *size becomes where the good blocks end. */
static int
survey(struct page_file *file, struct range_view gone, uint64_t *size)
{
    uint64_t at = FILE_HEAD_SIZE, end = *size;
    int rc = 0;

    file->first = file->last = file->count = file->persistent = file->live = 0;
    file->size = FILE_HEAD_SIZE;
    while (at < end) {
        struct block_bytes *bytes = NULL;
        struct page_block *block;
        struct block_head head;
        struct record_message message;
        uint64_t seq;

        *size = at;
        rc = page_file_read(file, 0, &at, end, &head, &bytes);
        if (rc != 0 || bytes == NULL)
            break;
        count_block(file, &head);
        file->live -= head.count;
        block = make_block(bytes, true);
        while (page_block_next(block, &seq, &message))
            file->live += overlap(gone, seq, seq) == 0;
        page_block_free(block);
        *size = at;
    }
    return rc;
}

static bool
restore_file(struct pages *pages, struct page_file *file, struct range_view since,
             struct range_view gone, struct err *err)
{
    const struct file_system *files = &pages->store->files;
    uint64_t settled = overlap(since, file->first, file->last), first = file->first;
    uint64_t size = file->size, last = file->last;
    int64_t there;
    int rc;

    if (file->persistent == file->count) {
        file->live = settled < file->live ? file->live - settled : 0;
    } else {
        rc = survey(file, gone, &size);
        if (rc != 0 && rc != -EBADMSG && rc != -ENOENT)
            return err_set(err, RESOURCE_ERROR, "queue %" PRIu64 ": page file %" PRIu64 ": %s",
                           pages->id, file->number, strerror(-rc));
        file->size = file->frozen_size;
        file->first = first;
        file->last = last;
        file->live_after = 0;
        file->is_damaged = rc != 0; /* told when it is read */
    }
    if (file->live == 0)
        return true;
    rc = page_file_open(file);
    there = rc == 0 ? files->ops->size(files->arg, file->fd) : rc;
    if (there >= (int64_t)file->size)
        return true;
    if (there < 0 && there != -ENOENT)
        return err_set(err, RESOURCE_ERROR, "queue %" PRIu64 ": page file %" PRIu64 ": %s",
                       pages->id, file->number, strerror((int)-there));
    if (there >= 0 && (uint64_t)there > FILE_HEAD_SIZE) {
        file->size = (uint64_t)there;
        return err_set(err, INTERNAL_ERROR, "queue %" PRIu64 ": page file %" PRIu64 " is short",
                       pages->id, file->number);
    }
    err_set(err, INTERNAL_ERROR,
            "queue %" PRIu64 ": page file %" PRIu64 " with %" PRIu64 " messages is lost: %s",
            pages->id, file->number, file->live, there < 0 ? strerror((int)-there) : "empty");
    file->live = 0;
    return false;
}

bool
pages_restore(struct pages *pages, struct view state, struct range_view since,
              struct range_view gone, struct err *err)
{
    struct err second = {0};
    uint64_t n;
    size_t at = 0;
    bool ok = record_read_varint(state, &at, &n);

    if (!ok)
        err_set(err, INTERNAL_ERROR, "queue %" PRIu64 ": the state of its pages is damaged",
                pages->id);
    for (uint64_t i = 0; ok && i < n; i++) {
        struct page_file *file;

        ok = read_file_state(pages, state, &at, &file);
        if (!ok)
            err_set(err, INTERNAL_ERROR, "queue %" PRIu64 ": the state of its pages is damaged",
                    pages->id);
    }
    for (size_t i = 0; i < pages->n_files;) {
        struct page_file *file = pages->files[i];

        if (!restore_file(pages, file, since, gone, ok ? err : &second)) {
            ok = false;
            if (second.code == RESOURCE_ERROR)
                *err = second;
            if (err->code == RESOURCE_ERROR)
                return false; /* it may be all right: the caller is not to go on */
        }
        pages->live += file->live;
        if (file->live == 0)
            drop_file(pages, i);
        else
            i++;
    }
    return ok;
}

/* --- folders --------------------------------------------------------------------------- */

struct found_file {
    uint64_t id, number;
};

struct found_files {
    struct found_file *at;
    size_t n, size;
};

static void
on_name(void *arg, const char *name)
{
    struct found_files *found = arg;
    unsigned long long id, number;
    int end = 0;

    if (sscanf(name, "%llx-%llx.page%n", &id, &number, &end) != 2 || name[end] != '\0' || end == 0)
        return;
    if (found->n == found->size) {
        found->size = found->size > 0 ? found->size * 2 : 64;
        found->at = mem_resize(found->at, found->size * sizeof(found->at[0]));
    }
    found->at[found->n++] = (struct found_file){id, number};
}

static int
compare_found(const void *a, const void *b)
{
    const struct found_file *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

bool
pages_adopt(struct pages *pages, struct range_view gone, struct err *err)
{
    const struct file_system *files = &pages->store->files;
    struct found_files found = {0};
    struct page_file probe = {.store = pages->store, .id = pages->id};
    char *dir = page_file_dir(&probe);
    bool ok = true;

    (void)files->ops->list_dir(files->arg, dir, on_name, &found);
    free(dir);
    if (found.n > 1)
        qsort(found.at, found.n, sizeof(found.at[0]), compare_found);
    for (size_t i = 0; i < found.n; i++) {
        struct page_file *file;
        uint64_t size = 0;
        int64_t there;
        int rc;

        if (found.at[i].id != pages->id || found.at[i].number < pages->next_number)
            continue;
        file = add_file(pages, found.at[i].number);
        file->is_made = file->is_closed = file->skips_transient = true;
        rc = page_file_open(file);
        there = rc == 0 ? files->ops->size(files->arg, file->fd) : rc;
        size = there > 0 ? (uint64_t)there : 0;
        rc = there >= 0 ? survey(file, gone, &size) : (int)there;
        file->size = file->frozen_size = file->safe_size = size;
        file->frozen_last = file->last;
        file->frozen_count = file->count;
        file->frozen_persistent = file->persistent;
        file->live_after = 0;
        if (rc != 0)
            ok = err_set(err, INTERNAL_ERROR,
                         "queue %" PRIu64 ": page file %" PRIu64 " is damaged at %" PRIu64,
                         pages->id, file->number, size);
        pages->live += file->live;
        if (file->last > pages->end)
            pages->end = pages->sealed_last = file->last;
        if (file->live == 0)
            drop_file(pages, pages->n_files - 1);
    }
    free(found.at);
    return ok;
}

static bool
is_owned(struct page_store *store, const struct found_file *found)
{
    const struct pages *pages = idmap_find(&store->owners, found->id);

    for (size_t i = 0; pages != NULL && i < pages->n_files; i++)
        if (pages->files[i]->number == found->number)
            return true;
    return false;
}

struct sweep {
    struct page_store *store;
    bool (*is_ours)(void *arg, uint64_t id);
    void *arg;
};

static void
sweep_dir(void *arg, const char *name)
{
    const struct sweep *sweep = arg;
    struct page_store *store = sweep->store;
    struct found_files found = {0};
    size_t size = strlen(store->dir) + strlen(name) + 2;
    char *dir = mem_alloc(size);

    snprintf(dir, size, "%s/%s", store->dir, name);
    (void)store->files.ops->list_dir(store->files.arg, dir, on_name, &found);
    free(dir);
    for (size_t i = 0; i < found.n; i++) {
        struct page_file file = {
            .store = store, .id = found.at[i].id, .number = found.at[i].number, .fd = -1};

        if (found.at[i].id != 0 && sweep->is_ours(sweep->arg, found.at[i].id) &&
            !is_owned(store, &found.at[i]))
            (void)page_file_unlink(&file);
    }
    free(found.at);
}

void
page_store_sweep(struct page_store *store, bool (*is_ours)(void *arg, uint64_t id), void *arg)
{
    struct sweep sweep = {store, is_ours, arg};

    (void)store->files.ops->list_dir(store->files.arg, store->dir, sweep_dir, &sweep);
}
