/*
 * journal: what must survive, in the order in which it happened.
 *
 * One per worker, owned by it; every function asserts that it runs there. Whoever has something to
 * say appends a record to the open frame (journal_open_frame); at the end of the turn the frame is
 * given to the journal's disk (disk.h) if that one is idle, and goes on growing otherwise: that is
 * the group commit. Right after a batch it may wait a little, half a batch's time at most, for what
 * answers that batch (journal.c, "gathering"). A frame is atomic: after a crash all of its records are there or none. It gets
 * the next lsn (from 1, without gaps, never reused in a data directory); journal_lsn names the
 * frame that is open now, so that who appends can say later "when this lsn is safe".
 *
 *   safe     as safe as store.sync promises: with `always` fdatasync has returned; with `interval`
 *            and `never` it has been written (the system's crash loses what was not synced, a kill
 *            of the process nothing)
 *   low      the oldest lsn that recovery still needs; its owner moves it up (journal_keep_from),
 *            and segments wholly below it are used again
 *
 * Records are octets to the journal; record.h gives them meaning.
 *
 * When more than crowded_bytes lie between low and the end, ops.crowded asks the owner to move low;
 * when more than limit_bytes do, the journal is *full* (journal_is_full) and who takes work from
 * sockets should wait; appending still works, since moving low needs room itself.
 *
 * On disk. A folder `journal`, in it files <worker>-<term>-<slot>.log of segment_bytes each,
 * allocated once and used again: a slot is nothing but a place, its header says what is in it now.
 * A frame larger than a segment gets a file of its own size, which is cut back when it is used
 * again. All numbers little-endian. Every checksum is CRC32C.
 *
 *   segment   64 octets: magic "LEPUSJNL" u64, version u32 = 2, journal u32, generation u64 (grows
 *             with every use of any slot of this journal), term u64, first_lsn u64, key u64 (drawn
 *             by lot for each journal of each term), reserved 12, crc u32 of what precedes it
 *   frame     from octet 64 on, one after the other, each padded with zeroes to 8:
 *             magic u32 "LJF1", crc u32 of all that follows up to the payload's end, payload_len
 *             u32, count u32 of records, generation u64, term u64, key u64, lsn u64, low u64,
 *             synced u64 (the last lsn known to be synced when this was written), wall_ms u64,
 *             payload
 *
 * A reader looks for frames everywhere behind a segment's last one, or behind damage: in octets
 * that some publisher chose. Nobody outside knows the key, so nobody can write a body that is
 * taken for a frame.
 *
 * A crash can leave: a header whose crc fails (that slot was about to be used: empty); frames of a
 * former generation behind the last one (their generation tells); a torn last frame (its crc
 * fails). Frames are read in order of lsn. One that is missing above low, with later ones there, is
 * a torn tail when its lsn is above the highest `synced` of any frame: all from there on is
 * dropped, what it says of low too, since no promise was made. Otherwise something rotted: it is
 * reported with file and offset, the segment is copied into the folder `quarantine`, and what
 * follows is used. An lsn that comes twice (a batch written again after a failed sync) counts once.
 *
 * Term: grows by one each time the data directory is opened for writing. A journal never appends
 * to segments of a former term; these are read once at the start and unlinked when the owner has
 * moved what lives in them (journal_drop_former). A crash meanwhile may leave any of them, with
 * holes that look like damage: so before the first goes a file `<term>.only` says that what is of
 * terms below counts no more, and goes last.
 *
 * Trouble. When a sync fails, or a write with EIO, the segment is abandoned (never synced again and
 * believed) and the same batch is tried in another slot; after another failed write (there is no
 * room), in the same place. ops.trouble is told once, and trials go on every RETRY_MS until one
 * works: then ops.trouble(NULL). Meanwhile nothing becomes safe, and nothing is lost: it is the
 * owner's to stop taking what would wait here. With `interval`, what a failed sync was to secure
 * has been called safe before: ops.trouble is told until a sync works, and ops.crowded asks the
 * owner to put everything up to there elsewhere.
 */
#ifndef LEPUS_STORE_JOURNAL_H
#define LEPUS_STORE_JOURNAL_H

#include "lepus/base/buf.h"
#include "lepus/base/err.h"
#include "lepus/store/disk.h"
#include "lepus/store/file.h"

struct journal;

enum journal_sync { JOURNAL_ALWAYS, JOURNAL_INTERVAL, JOURNAL_NEVER };

struct journal_settings {
    const char *dir; /* the data directory; outlives the journal */
    struct file_system files;
    enum journal_sync sync;
    uint32_t interval_ms; /* of JOURNAL_INTERVAL */
    uint32_t index;       /* which journal of this directory: the worker's */
    uint64_t term;
    uint64_t first_lsn;  /* greater than any that was found at the start */
    uint64_t generation; /* likewise */
    uint64_t segment_bytes, crowded_bytes, limit_bytes;
    bool prepares; /* the next segment is written with zeroes ahead of need: a sync is dearer where
                      a file has room that was never written */
};

struct journal_ops {
    /* Everything up to lsn is safe. May append. */
    void (*safe)(void *arg, uint64_t lsn);
    /* What is before lsn stands in the way. Told once until low has reached it. */
    void (*crowded)(void *arg, uint64_t lsn);
    /* Writing fails (why says what and where), or works again (NULL). */
    void (*trouble)(void *arg, const struct err *why);
};

/* Makes the folder when it is missing. worker NULL: a test, which calls journal_flush itself. */
struct journal *journal_new(const struct journal_settings *settings, struct worker *worker,
                            struct disk *disk, const struct journal_ops *ops, void *arg,
                            struct err *err);
void journal_free(struct journal *journal); /* nothing under way; NULL is fine */

/* The open frame's payload, to append one record to; count it with journal_added. Scheduling the
 * flush at the end of the turn is the journal's business. */
struct buf *journal_open_frame(struct journal *journal);
void journal_added(struct journal *journal);

uint64_t journal_lsn(const struct journal *journal);  /* of the open frame */
uint64_t journal_safe(const struct journal *journal); /* the last one that is */
uint64_t journal_low(const struct journal *journal);

/* Octets appended that are not safe yet: what a sender's window looks at. */
size_t journal_unsafe_bytes(const struct journal *journal);
bool journal_is_full(const struct journal *journal);
bool journal_is_in_trouble(const struct journal *journal);

/* Recovery needs nothing below lsn: told so by frames from now on. */
void journal_keep_from(struct journal *journal, uint64_t lsn);

/* Gives the open frame to the disk if that is idle: what the journal does at each turn's end. */
void journal_flush(struct journal *journal);

/* Changed by a reload. */
void journal_set_sync(struct journal *journal, enum journal_sync sync, uint32_t interval_ms);

/* --- at the start ---------------------------------------------------------------------- */

struct journal_frame {
    uint32_t journal;
    uint64_t term, lsn;
    uint64_t wall_ms;
    uint32_t count;
    struct view payload; /* borrowed for the call */
};

/* What was found in the folder. */
struct journal_found {
    uint64_t term;       /* the highest; 0: nothing there */
    uint64_t lsn;        /* the highest */
    uint64_t generation; /* the highest */
    uint64_t bytes;      /* of payloads told */
    unsigned corrupt;    /* places reported */
};

/* Told the frames in order: by term, by journal, by lsn, from each term's low on. May be asked
 * twice of the same folder. `tell` gets a line for each finding (borrowed for the call; what was
 * cut is information, what rotted an error). False only when reading is impossible: a folder that
 * cannot be listed, a file of a newer version (named, with both versions). */
typedef void journal_tell(void *arg, bool is_error, const char *line);
typedef bool journal_each(void *arg, const struct journal_frame *frame, struct err *err);
bool journal_replay(const char *dir, const struct file_system *files, journal_each *each,
                    journal_tell *tell, void *arg, struct journal_found *out, struct err *err);

/* Unlinks every segment of a term below `term`. */
bool journal_drop_former(const char *dir, const struct file_system *files, uint64_t term,
                         struct err *err);

#endif
