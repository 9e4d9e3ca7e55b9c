/*
 * pages_priv: what pages.c (the worker's side) and page_file.c (the disk's) share.
 *
 * A page_file is the worker's, but for the members that say so: its descriptor belongs to the
 * disk's thread. Whoever submits a job about a file holds a reference until the job is done.
 */
#ifndef STORE_PAGES_PRIV_H
#define STORE_PAGES_PRIV_H

#include "lepus/base/map.h"
#include "lepus/store/pages.h"

enum {
    FILE_HEAD_SIZE = 64,
    BLOCK_HEAD_SIZE = 48,
    PAGES_VERSION = 1,
    READS_MAX = 8,
    READ_BYTES = 32 * 1024, /* of small blocks, as many as that */
};

struct page_store {
    struct disk *disk;
    struct file_system files;
    char *dir; /* .../pages */
    const struct page_store_ops *ops;
    void *ops_arg;
    struct idmap owners; /* struct pages by id */
    struct buf filling;  /* the block that somebody fills, its head left free */
    size_t writing_bytes;
    struct list failed; /* blocks that could not be written */
    struct list failed_reads;
    struct list waiting_reads;
    unsigned n_reads;  /* under way: READS_MAX at most */
    struct list dirty; /* files written to since their last sync was asked for */
    bool is_in_trouble, is_syncing, sync_failed;
    uint64_t stamp, safe_stamp;
    struct list condemned; /* files, by page_file.condemned: unlinked when their stamp is safe */

    /* The disk thread's: */
    struct list open; /* page_file.in_use, least recently used first */
    unsigned n_open, descriptors_max;
};

struct page_file {
    struct page_store *store;
    uint64_t id, number;
    uint64_t first, last; /* seqs; first 0: none yet */
    uint64_t size;        /* octets, with what is on its way */
    uint64_t count, persistent, live;
    bool is_closed;       /* nothing is appended any more */
    bool skips_transient; /* it is of a former life */
    bool is_gone;         /* unlinked, or about to be */
    bool is_damaged;      /* live is a guess */
    unsigned refs;
    struct list dirty;
    struct list condemned;
    uint64_t stamp; /* while condemned */

    /* As of the last page_store_sync: */
    uint64_t frozen_last, frozen_size, frozen_count, frozen_persistent;
    uint64_t live_after; /* live ones above frozen_last */
    uint64_t safe_size;  /* of the last sync that worked */

    /* The disk thread's: */
    int fd; /* -1: not open */
    bool is_made;
    bool must_rewrite; /* a sync failed: from safe_size on */
    bool has_bad_head;
    struct list in_use;
};

/* A sealed block: until it is written, and as long as somebody reads it; or some of them, one after
 * the other, as they stand in a file. */
struct block_bytes {
    unsigned refs;
    size_t len;
    uint8_t at[]; /* heads and records */
};

struct block_head {
    uint32_t crc, len, count, persistent;
    uint64_t first, last;
};

/* page_file.c; disk thread, or main thread before it runs. Negative: -errno. */
int page_file_open(struct page_file *file);
void page_file_close(struct page_file *file);
int page_file_write(struct page_file *file, const struct block_bytes *block, uint64_t at);
int page_file_sync(struct page_file *file, uint64_t from, uint64_t to);
int page_file_unlink(struct page_file *file);
char *page_file_path(const struct page_file *file); /* malloc'd */
char *page_file_dir(const struct page_file *file);

/* Reads the block that begins at *at, or the first one after it that ends with at least seq, and
 * more if they are small; *at is then behind them, and *head tells of all that were read. 0: none
 * up to `end`. -EBADMSG: damaged: *head says what is lost if its first is not 0; else up to its
 * last, *at being where there is a good block again, or, with last 0 too, all the rest of the file.
 */
int page_file_read(struct page_file *file, uint64_t seq, uint64_t *at, uint64_t end,
                   struct block_head *head, struct block_bytes **out);

/* Copies a damaged file into the folder quarantine, once. */
void page_file_quarantine(struct page_file *file);

void block_head_encode(uint8_t to[BLOCK_HEAD_SIZE], const struct block_head *head);
bool block_head_decode(const uint8_t from[BLOCK_HEAD_SIZE], struct block_head *out);

struct block_bytes *block_bytes_new(size_t len);
void block_bytes_unref(struct block_bytes **block);

#endif
