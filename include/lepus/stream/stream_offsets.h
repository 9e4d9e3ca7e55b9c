/*
 * stream_offsets: how far each consumer group of a stream has come.
 *
 * One per stream, owned by its home worker: a table of names and offsets in memory, and a small
 * file that brings it back. A change is on disk a little later (STREAM_OFFSETS_DELAY_MS), many
 * changes with one sync: what a crash forgets is that much of progress, and those messages are
 * delivered again. Nobody waits for it; who has to, asks for a flush and looks at
 * stream_offsets_is_saved.
 *
 * A file of its own and not the journal, because it lives and dies with the stream's folder, which
 * can be copied and moved as it is; because the journal would have to carry every group's state
 * from checkpoint to checkpoint for as long as the stream exists, which is for ever; and because
 * nothing here must be in order with anything there.
 *
 * On disk. Two files in the stream's folder, offsets.0 and offsets.1, of which one counts:
 *
 *   file      32 octets: magic "LEPUSOFS", version u32 = 1, zero u32, generation u64, zero u32,
 *             crc u32 of the 28 before it
 *   record    crc u32 of what follows (begun with the low half of the generation), kind u8, name
 *             length u8, offset u64, name
 *   kinds     1 SET: the group is there; 2 FORGET: it is not; 3 WHOLE: all groups stand before
 *             this, its offset is how many
 *
 * Numbers in network order, checksums CRC-32C. A file is made at once with all groups and WHOLE;
 * then changes are appended, until they are many times what is alive: then the other file is made,
 * with the next generation. The one with the higher generation and a WHOLE in it counts, up to its
 * first bad record: what a crash tore. A file whose write or sync failed is not written to again;
 * the other one is made, whole, and made again until that works.
 */
#ifndef LEPUS_STREAM_STREAM_OFFSETS_H
#define LEPUS_STREAM_STREAM_OFFSETS_H

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/store/disk.h"
#include "lepus/store/file.h"

struct stream_offsets;

enum {
    STREAM_OFFSETS_DELAY_MS = 500,
    STREAM_GROUPS_MAX = 10000, /* of a stream */
};

struct stream_offsets_settings {
    const char *dir; /* as struct stream_settings has it, as the next */
    uint64_t stream;
    struct file_system files;
    struct worker *worker; /* NULL: a test, which flushes itself */
    struct disk *disk;
};

struct stream_offsets_ops {
    /* Saving fails (why says what and where), or works again (NULL). */
    void (*trouble)(void *arg, const struct err *why);
};

/* No I/O. */
struct stream_offsets *stream_offsets_new(const struct stream_offsets_settings *settings,
                                          const struct stream_offsets_ops *ops, void *arg);

/* At the start, before anything else, on the main thread. Nothing there is fine. False when reading
 * is impossible, or a newer version wrote it. */
bool stream_offsets_recover(struct stream_offsets *offsets, struct err *err);

/* What was not saved is lost; what is under way ends. With `unlink` the files go. NULL is fine. */
void stream_offsets_free(struct stream_offsets *offsets, bool unlink);

/* Sets a group's offset, whatever it was. False: the name is empty or longer than 255 octets, or
 * there are too many groups. */
bool stream_offsets_set(struct stream_offsets *offsets, struct view group, uint64_t offset);
bool stream_offsets_get(const struct stream_offsets *offsets, struct view group,
                        uint64_t *out_offset);
bool stream_offsets_forget(struct stream_offsets *offsets, struct view group); /* was it there? */

/* Walks all groups in no order: start with *at = NULL; false at the end. The table must not change
 * meanwhile. */
bool stream_offsets_next(const struct stream_offsets *offsets, const void **at,
                         struct view *out_group, uint64_t *out_offset);

/* Gives the changes to the disk now, if it is idle. */
void stream_offsets_flush(struct stream_offsets *offsets);
bool stream_offsets_is_saved(const struct stream_offsets *offsets); /* nothing waits */

#endif
