/*
 * pages: a queue's messages on disk, in files of its own.
 *
 * A queue writes messages here, in order of seq, when it wants their memory (its backlog is deep),
 * or when the journal wants its segments back. Then they can be read again from any seq on, and are
 * settled one by one; a file all of whose messages are settled is unlinked. Nothing is ever
 * rewritten: a message comes here at most once.
 *
 *      first file              ...                 last file
 *   [block block block]  [block block]  [block block (being filled)]
 *    seqs ascend throughout; some may be missing (settled before they were written)
 *
 * `struct pages` is one queue's; `struct page_store` is what all of a worker's share: the folder,
 * the disk (disk.h), open descriptors (at most descriptors_max, least recently used closed first).
 * Owned by the worker; nothing here blocks it.
 *
 * Writing: pages_put appends to the open block; it is sealed when it has PAGE_BLOCK_BYTES, or by
 * pages_seal, and given to the disk. A block that is not written yet is read from memory, so that
 * a reader never waits for a writer. page_store_writing_bytes says how much memory that is: who
 * puts looks at it.
 *
 * Reading: pages_read asks for the block that holds a seq, or the first one after it; ops.block
 * brings it, decoded record by record with page_block_next. What comes has passed its checksum. A
 * block that cannot be read or is damaged is reported (ops.block with an error and the range of
 * seqs that is lost with it) and the queue goes on behind it.
 *
 * Safety: what was put is on disk after a page_store_sync that was asked after it (the blocks are
 * sealed by then). Until its owner has written down, in the journal, where the pages end
 * (pages_state) they do not exist for recovery.
 *
 * On disk. A folder `pages`, in it a folder a queue id / 4096 (hexadecimal), in it files
 * <queue id in hex>-<number in hex>.page. All numbers little-endian, every checksum CRC32C.
 *
 *   file      64 octets: magic "LEPUSPGS" u64, version u32 = 1, reserved u32, queue u64, number
 *             u64, first_seq u64, reserved 20, crc u32 of what precedes it
 *   block     48 octets and the records: magic u32 "LPB1", crc u32 of all that follows, len u32 of
 *             the records, count u32 of them, persistent u32 of these, reserved u32, first_seq
 *             u64, last_seq u64, reserved u64; then records as record.h has them, seqs inside
 *
 * A file holds about PAGE_FILE_BYTES and is then closed for writing. Its number is the queue's
 * next, and seqs ascend with numbers. A file that was being written when the broker ended is
 * never written to again.
 */
#ifndef LEPUS_STORE_PAGES_H
#define LEPUS_STORE_PAGES_H

#include "lepus/base/buf.h"
#include "lepus/base/err.h"
#include "lepus/store/disk.h"
#include "lepus/store/file.h"
#include "lepus/store/record.h"

enum {
    PAGE_BLOCK_BYTES = 128 * 1024, /* of records; larger only for one large message */
    PAGE_FILE_BYTES = 8 << 20,
};

struct page_store;
struct pages;
struct page_block; /* a block in memory, decoded as it is read */

struct page_store *page_store_new(const char *dir, const struct file_system *files,
                                  struct disk *disk, unsigned descriptors_max, struct err *err);
void page_store_free(struct page_store *store); /* after every queue's; nothing under way */

/* Octets of sealed blocks that are not written yet. */
size_t page_store_writing_bytes(const struct page_store *store);

/* done(arg, NULL) when everything sealed before is on disk, names of files included; or why not:
 * then files touched since the last good sync are not to be believed (pages_state leaves them
 * out until they are: see there) and the caller asks again later. Few files are synced one by one,
 * many by sync_all. One at a time. */
void page_store_sync(struct page_store *store, void (*done)(void *arg, const struct err *why),
                     void *arg);

/* Told when writing a block fails, and (NULL) when it works again. A block that was not written is
 * tried again until it is; it stays readable from memory. */
struct page_store_ops {
    void (*trouble)(void *arg, const struct err *why);
};
void page_store_set_ops(struct page_store *store, const struct page_store_ops *ops, void *arg);

struct pages_ops {
    /* The answer to pages_read. block NULL: nothing is left from that seq on, or, with why, the
     * seqs [first, last] cannot be read. Else the receiver owns the block. */
    void (*block)(void *arg, struct page_block *block, const struct err *why, uint64_t first,
                  uint64_t last);
};

struct pages *pages_new(struct page_store *store, uint64_t queue, const struct pages_ops *ops,
                        void *arg);

/* Frees the memory; what is under way ends without telling anybody. With `unlink` its files go. */
void pages_free(struct pages *pages, bool unlink);

/* --- writing --------------------------------------------------------------------------- */

/* seq above every one put before. The content is copied. */
void pages_put(struct pages *pages, uint64_t seq, const struct record_message *message);
void pages_seal(struct pages *pages);

/* --- reading --------------------------------------------------------------------------- */

/* One at a time: the answer comes by ops.block, never before this returns. */
void pages_read(struct pages *pages, uint64_t seq);
bool pages_is_reading(const struct pages *pages);

/* The next record, views borrowed until the block is freed; false at the end. */
bool page_block_next(struct page_block *block, uint64_t *out_seq, struct record_message *out);
void page_block_free(struct page_block *block); /* NULL is fine */

/* --- settling -------------------------------------------------------------------------- */

/* [first, last] are gone; each seq once, those that were never put are ignored. Files with nothing
 * left go. */
void pages_settle(struct pages *pages, uint64_t first, uint64_t last);

uint64_t pages_live(const struct pages *pages);  /* put and not settled */
uint64_t pages_bytes(const struct pages *pages); /* of the files */
uint64_t pages_end(const struct pages *pages);   /* the highest seq put, 0: none */

/* --- across restarts ------------------------------------------------------------------- */

/*
 * Appends where the files are: per file number, first and last seq, octets that are good, records
 * and, of these, persistent ones. For a frame of the journal, after a page_store_sync. Covers
 * blocks with seqs up to `upto` that the last good sync covered.
 */
void pages_state(const struct pages *pages, uint64_t upto, struct buf *to);

/*
 * After pages_new, before anything else, on the main thread: takes over what a state tells, and
 * that the ranges `gone` (ascending) have been settled. Transient records count as settled: they
 * never come out of page_block_next again. That is known from the state but for files that hold
 * both kinds, which are read whole here. *used says how many octets of `state` were its own. Files
 * that are missing or shorter than the state says, though something in them lives, are told as
 * lost by *err (false), and the rest is served. Other files of the queue go with page_store_sweep.
 */
bool pages_restore(struct pages *pages, struct view state, size_t *used,
                   const struct seq_range *gone, size_t n_gone, struct err *err);

/* When the journal is damaged and a queue's state may be lost with it: takes over every good block
 * of the queue's files, found by reading all headers. */
bool pages_adopt(struct pages *pages, struct err *err);

/* After every queue has restored: unlinks the files that no pages own. `is_ours` says which queue
 * ids this store (worker) is to look after. */
void page_store_sweep(struct page_store *store, bool (*is_ours)(void *arg, uint64_t queue),
                      void *arg);

#endif
