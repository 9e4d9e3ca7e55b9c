/*
 * stream_log: a stream: messages in the order they came, each with an offset, kept until they are
 * old or many; read from anywhere, by anybody, as often as they like (stream_reader.h).
 *
 *      first                                                   committed        next
 *   [chunk chunk chunk ...] [chunk chunk ...] [chunk chunk chunk|chunk chunk (open chunk)
 *        segment 0             segment 1       active segment    being written
 *
 * Owned by its home worker. A message is encoded (stream_message.h) into the open chunk, in
 * memory. When the turn ends and nothing is on its way to the disk, the open chunk is closed and
 * given to it: written, fdatasync, then the end of what is committed moves up, ops.safe says so,
 * and readers may see it. What comes meanwhile gathers in further chunks that go with the next
 * batch: that is the group commit. One message alone makes a chunk of its own, and waits for one
 * sync; a thousand share one.
 *
 * Offsets begin at 0, have no gaps and are never used twice. A reader sees nothing that is not
 * committed.
 *
 * On disk. Each stream has a folder <id, 16 hexadecimal digits>, in it segments <first offset, 20
 * digits>.seg and their indexes .idx, as stream_chunk.h has them; offsets of consumer groups
 * (stream_offsets.h) live beside them.
 *
 *   A commit is: the segment's head when it is new, the chunks, fdatasync, and, when it is new, a
 *   sync of the folder; then the index entries, which are never synced: they can be made again.
 *   An entry in the index therefore means that its chunk was safe. The file's room is allocated
 *   ahead in steps that grow with it, so that a sync rarely has to write where the file ends; what
 *   lies behind the last chunk is zero.
 *
 *   A segment that has segment_bytes is closed, the next batch begins a new one. Retention drops
 *   whole segments, oldest first, never the active one, as RabbitMQ has it: by size, newest first,
 *   those that fit into max_bytes stay; by age, those whose last chunk is older than max_age_ms
 *   go. A segment in which a reader stands is unlinked when the last one has left it; a reader
 *   that was left behind goes on with the first one that is kept.
 *
 * What a crash can leave, and what stream_log_recover does about it:
 *
 *   - a torn last batch: any subset of its sectors. Chunks are read from the last good index entry
 *     on; the first that fails its sums ends the log there (nothing was promised about it: a
 *     promise would stand in the `durable` of a later chunk). It is cut off, and told.
 *   - whole chunks that were written but not synced, so not promised: they stay. As the system may
 *     believe their pages clean when they are not (an fdatasync that failed before the process was
 *     killed), the last batch is written again in place and synced before anybody builds on it.
 *   - a new segment without a good chunk: it is unlinked.
 *   - an index that lacks its end, or is missing: made again from the segment, for the newest one
 *     at once, for others when somebody looks for an offset in them.
 *   - a hole that a later chunk's `durable` lies behind: something rotted. It is told with file,
 *     position and offsets, and skipped; the same when a reader finds one. Nothing is cut there.
 *
 * Only the newest segment is read at the start, from its last good index entry: mostly 16 KiB. Of
 * the others, the head: 64 octets each.
 *
 * Trouble. When a write or sync fails the segment is abandoned at its last committed chunk: never
 * synced again and believed. ops.trouble is told once, and the same chunks are tried again in a
 * new segment, RETRY_MS later, until it works: then ops.trouble(NULL). Meanwhile nothing becomes
 * safe and nothing is lost; it is the owner's to stop taking what would wait here
 * (stream_log_unsafe_bytes).
 */
#ifndef LEPUS_STREAM_STREAM_LOG_H
#define LEPUS_STREAM_STREAM_LOG_H

#include "lepus/base/err.h"
#include "lepus/store/disk.h"
#include "lepus/store/file.h"
#include "lepus/stream/stream_chunk.h"
#include "lepus/wire/content.h"

struct stream_log;

enum {
    STREAM_SEGMENT_BYTES = 500 * 1000 * 1000, /* as RabbitMQ has it */
    STREAM_RETRY_MS = 1000,
};

struct stream_settings {
    const char *dir;  /* that holds the folders of streams; copied */
    uint64_t stream;  /* its id, never used for another one */
    struct view name; /* the routing key that need not be kept; copied */
    struct file_system files;
    struct worker *worker; /* NULL: a test, which calls stream_log_flush itself */
    struct disk *disk;     /* commits in its lane DISK_FIRST, unlinks in DISK_LATER */
    struct disk *reads;    /* readers' disk; the same one, or one that no sync holds up */
    uint64_t epoch;
    uint64_t segment_bytes;    /* at most 3 000 000 000; 0: STREAM_SEGMENT_BYTES */
    uint64_t max_bytes;        /* 0: no limit, as the next */
    uint64_t max_age_ms;       /* */
    uint8_t filter_bytes;      /* 0: STREAM_FILTER_MIN */
    bool tells_exchange;       /* in every message, for native clients: 14 octets and the name */
    uint64_t (*wall_ms)(void); /* NULL: clock_wall_ms */
};

struct stream_log_ops {
    /* Every message below `end` is on disk. May append; may not free. */
    void (*safe)(void *arg, uint64_t end);
    /* Writing fails (why says what and where), or works again (NULL). */
    void (*trouble)(void *arg, const struct err *why);
    /* A finding: what was cut is information, what rotted an error. Borrowed for the call. */
    void (*tell)(void *arg, bool is_error, const char *line);
};

/* No I/O: its folder is made by the first commit. */
struct stream_log *stream_log_new(const struct stream_settings *settings,
                                  const struct stream_log_ops *ops, void *arg);

/* At the start, before anything else, on the main thread: finds what a former run left. Nothing
 * there is fine. False when reading is impossible, or a newer version wrote it. */
bool stream_log_recover(struct stream_log *log, struct err *err);

/* Every reader is gone. What is under way ends without telling anybody; what was not committed is
 * lost. With `unlink` its segments go, and the folder unless something else is in it. NULL is
 * fine. */
void stream_log_free(struct stream_log *log, bool unlink);

/* At the start, on the main thread: folders of streams in `dir` that are nobody's go, with all that
 * a stream keeps in its folder. No such `dir` is fine. */
void stream_sweep(const char *dir, const struct file_system *files,
                  bool (*is_ours)(void *arg, uint64_t stream), void *arg);

/* The content is copied; *out_offset is the message's. False, with nothing changed: there is no
 * memory, or it is too large (a
 * body of 1 GiB, properties of 16 MiB). Properties are checked ones. */
bool stream_log_append(struct stream_log *log, const struct content *content, uint64_t *out_offset);

/* Gives what was appended to the disk if that is idle: what the log does at each turn's end. */
void stream_log_flush(struct stream_log *log);

/* Offsets: the first that is kept, the one behind the last that is committed, and the next to be
 * given. Messages that can be read: committed - first. */
uint64_t stream_log_first(const struct stream_log *log);
uint64_t stream_log_committed(const struct stream_log *log);
uint64_t stream_log_next(const struct stream_log *log);

uint64_t stream_log_bytes(const struct stream_log *log); /* committed, of all segments */
size_t stream_log_segments(const struct stream_log *log);
size_t stream_log_unsafe_bytes(const struct stream_log *log); /* appended, not committed */
bool stream_log_is_in_trouble(const struct stream_log *log);

/* Retention, by policy; applied at once. It is also applied when a segment is begun, and should be
 * once a minute or so. Closes what an idle stream need not keep open. */
void stream_log_set_limits(struct stream_log *log, uint64_t max_bytes, uint64_t max_age_ms);
void stream_log_retain(struct stream_log *log);

/* Recounts everything. Tests. */
void stream_log_check(const struct stream_log *log);

#endif
