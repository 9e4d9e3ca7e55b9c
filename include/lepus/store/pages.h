/*
 * pages: a backlog's messages on disk, in files of its own.
 *
 * A backlog writes messages here, in order of seq, when it wants their memory (it is deep), or when
 * the journal wants its segments back. Then they can be read again from any seq on, and are
 * settled one by one; a file all of whose messages are settled is unlinked. Nothing is ever
 * rewritten: a message comes here at most once.
 *
 *      first file              ...                 last file
 *   [block block block]  [block block]  [block block (being filled)]
 *    seqs ascend throughout; some may be missing (settled before they were written)
 *
 * `struct pages` is one backlog's; `struct page_store` is what all of a worker's share: the folder,
 * the disk (disk.h), open descriptors (at most descriptors_max, least recently used closed first).
 * Owned by the worker; nothing here blocks it. Descriptors belong to the disk's thread.
 *
 * Writing: pages_put appends to the open block; it is sealed when it has PAGE_BLOCK_BYTES, or by
 * pages_seal, and given to the disk. A block that is not written yet is read from memory, so that
 * a reader never waits for a writer. page_store_writing_bytes says how much memory that is: who
 * puts looks at it.
 *
 * Reading: pages_read asks for the block that holds a seq, or the first one after it; ops.block
 * brings it, to be decoded record by record with page_block_next. What comes has passed its
 * checksum. A block that cannot be read or is damaged is told with the range of seqs that is lost
 * with it, and counts as settled. A reader that goes on where it left off finds the next block by
 * its place; another one hops from header to header through one file.
 *
 * Safety: what was put is on disk after a page_store_sync that was asked after it (the blocks are
 * sealed by then). Until its owner has written down, in the journal, where the pages end
 * (pages_state) they do not exist for recovery.
 *
 * Trouble: a block whose write failed stays in memory, readable, and is tried again by
 * page_store_retry, as is a file whose sync failed: what it got since the last good one is read
 * back, checked and written again before it is synced again, since a system that has failed to
 * write may have dropped it.
 *
 * On disk. A folder `pages`, in it a folder (id & (2^56 - 1)) / 4096 (hexadecimal), in it files
 * <id in hex>-<number in hex>.page. All numbers little-endian, every checksum CRC32C.
 *
 *   file      64 octets: magic "LEPUSPGS" u64, version u32 = 1, reserved u32, id u64, number u64,
 *             first_seq u64, reserved 20, crc u32 of what precedes it
 *   block     48 octets and the records: magic u32 "LPB1", crc u32 of all that follows, len u32 of
 *             the records, count u32 of them, persistent u32 of these, reserved u32, first_seq
 *             u64, last_seq u64, reserved u64; then records as record.h has them, seqs inside
 *
 * A file holds about PAGE_FILE_BYTES and is then closed for writing. Its number is the backlog's
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

struct page_store_ops {
    void (*trouble)(void *arg, const struct err *why); /* NULL: all is well again */
    void (*written)(void *arg); /* a block is: page_store_writing_bytes is less */
};

/* Makes the folder. ops may be NULL. */
struct page_store *page_store_new(const char *dir, const struct file_system *files,
                                  struct disk *disk, unsigned descriptors_max,
                                  const struct page_store_ops *ops, void *arg, struct err *err);
void page_store_free(struct page_store *store); /* after every queue's; nothing under way */

/* Octets of sealed blocks that are not written yet. */
size_t page_store_writing_bytes(const struct page_store *store);

/* done(arg, NULL) when everything sealed before is on disk, names of files included; or why not:
 * then ask again later. Few files are synced one by one, many by sync_all. One at a time. */
void page_store_sync(struct page_store *store, void (*done)(void *arg, const struct err *why),
                     void *arg);

/* Files of careful pages stay, when nothing in them lives any more, until what settled it is safe:
 * the owner says which stamp (a number that grows) that has, ... */
void page_store_stamp(struct page_store *store, uint64_t stamp);
void page_store_safe(struct page_store *store,
                     uint64_t stamp); /* ... and up to which all is safe */

/* Tries again to write what could not be written. */
void page_store_retry(struct page_store *store);

struct pages_ops {
    /* The answer to pages_read, about [first, last]. block NULL: with why, these seqs are lost;
     * without, nothing is left from `first` on. Else the receiver owns the block, and why, if it is
     * there, tells of damage that took nothing with it. */
    void (*block)(void *arg, struct page_block *block, const struct err *why, uint64_t first,
                  uint64_t last);
};

struct pages *pages_new(struct page_store *store, uint64_t id, bool is_careful,
                        const struct pages_ops *ops, void *arg);

/* Frees the memory; what is under way ends without telling anybody. With `unlink` its files go. */
void pages_free(struct pages *pages, bool unlink);

/* --- writing --------------------------------------------------------------------------- */

/* seq above every one put before. The content is copied. */
void pages_put(struct pages *pages, uint64_t seq, const struct record_message *message);
void pages_seal(struct pages *pages);

/* --- reading --------------------------------------------------------------------------- */

/* One at a time: the answer comes by ops.block, never before this returns. What is not sealed does
 * not come. */
void pages_read(struct pages *pages, uint64_t seq);
bool pages_is_reading(const struct pages *pages);

/* The next record, views borrowed until the block is freed; false at the end. */
bool page_block_next(struct page_block *block, uint64_t *out_seq, struct record_message *out);
void page_block_free(struct page_block *block); /* NULL is fine */

/* --- settling -------------------------------------------------------------------------- */

/* [first, last] are gone: each seq that was put, and none twice; all of them are sealed. Files with
 * nothing left go. */
void pages_settle(struct pages *pages, uint64_t first, uint64_t last);

uint64_t pages_live(const struct pages *pages);  /* put and not settled */
uint64_t pages_bytes(const struct pages *pages); /* of the files */
uint64_t pages_end(const struct pages *pages);   /* the highest seq put, 0: none */

/* --- across restarts ------------------------------------------------------------------- */

/* Appends where the files are, as of the call of page_store_sync that has just been done: for a
 * frame of the journal. */
void pages_state(const struct pages *pages, struct buf *to);

/*
 * After pages_new, before anything else, on the main thread: takes over what a state tells.
 * Settled are: `since`, exactly the seqs that went after the state; and of files that hold
 * transient records, too (they are read whole here), these and what is in `gone`. Both ascending.
 * Transient records never come out of page_block_next again. Files that are missing or shorter than
 * the state says, though something in them lives, are told as lost by *err (false), and the rest is
 * served. Other files of the backlog go with page_store_sweep.
 */
struct range_view {
    const struct seq_range *at;
    size_t n;
};
bool pages_restore(struct pages *pages, struct view state, struct range_view since,
                   struct range_view gone, struct err *err);

/* Instead of pages_restore, when the journal is damaged and the state may be lost with it: takes
 * over every good block of the backlog's files, read whole, but for what is in `gone`. */
bool pages_adopt(struct pages *pages, struct range_view gone, struct err *err);

/* After every backlog has restored: unlinks the files that no pages own. `is_ours` says which ids
 * this store (worker) is to look after. */
void page_store_sweep(struct page_store *store, bool (*is_ours)(void *arg, uint64_t id), void *arg);

#endif
