/*
 * What the parts of a log share: log.c (the owner's side), segment.c (files, on a disk's thread or
 * the main one), recover.c (the start) and reader.c.
 */
#ifndef LEPUS_SRC_STREAM_LOG_PRIV_H
#define LEPUS_SRC_STREAM_LOG_PRIV_H

#include "lepus/stream/stream_log.h"
#include "lepus/stream/stream_message.h"

enum {
    PATH_SIZE = 4096,
    PIECES_MAX = 64,        /* chunks of one commit */
    COMMIT_BYTES = 4 << 20, /* of one commit, unless one chunk is larger */
    WRITE_PIECES = 16,      /* of one write: what struct file_ops takes */
    RECENT_BYTES = 256 * 1024,
    SEGMENT_CHUNKS_MAX = 256000, /* as RabbitMQ has it */
};

/* A chunk in memory: being filled, on its way to the disk, or kept for readers at the tail. */
struct piece {
    struct list link; /* of the log's sealed, writing or recent */
    unsigned refs;    /* the log's, and readers' */
    struct buf octets;
    size_t room;  /* in front of the data, for a head */
    size_t start; /* where the head starts, when it is written */
    struct stream_chunk head;
    struct view exchange; /* in the room */
    uint64_t end_offset, position;
    uint8_t filter[STREAM_FILTER_MAX];
    bool has_filter, has_none;
};

struct segment {
    struct list link; /* in log->segments while it is kept */
    struct stream_log *log;
    unsigned users;                    /* readers in it, and their jobs */
    int fd;                            /* to read; -1: closed, as it is without users */
    uint64_t first_offset, end_offset; /* of the active one: what is committed */
    int64_t first_ms, last_ms;
    uint64_t size;  /* octets that may be read */
    bool is_doomed; /* not kept */
};

/* What goes to the disk. */
struct commit {
    struct disk_job job;
    struct stream_log *log;
    bool is_busy;
    bool is_new_segment, makes_folder;
    struct segment *segment; /* the log's, or a new one */
    uint64_t position, end, allocate_to;
    int fd, index_fd;         /* -1: to be opened */
    int old_fd, old_index_fd; /* of the segment before: cut to old_size and closed; or -1 */
    uint64_t old_size;
    uint64_t index_at;
    size_t n, index_n;
    struct iovec iov[PIECES_MAX];
    uint8_t index[PIECES_MAX * STREAM_INDEX_ENTRY];
    uint8_t segment_head[STREAM_SEGMENT_HEAD];
    struct err err; /* code 0: done */
};

struct stream_log {
    struct stream_settings settings;
    const struct stream_log_ops *ops;
    void *arg;
    unsigned refs; /* the owner's, and jobs' */
    bool is_freed, unlinks;
    char *folder;
    struct view name;
    uint64_t (*wall_ms)(void);

    struct list segments;
    size_t n_segments;
    uint64_t bytes; /* of segments */
    uint64_t first, committed, next;
    int64_t last_ms;

    /* Writing. The active segment is the last one of segments, unless it is abandoned. */
    struct segment *active;
    int fd, index_fd; /* of the active one; -1: closed */
    bool must_roll, has_folder, is_idle;
    uint64_t allocated, indexed_at, index_size;
    uint32_t chunks; /* in the active one */
    struct stream_encoder encoder;
    struct piece *open;
    struct list sealed, writing, recent;
    size_t unsafe_bytes, recent_bytes, usual_size;
    struct commit commit;
    bool is_in_trouble, waits;
    struct worker_task flush_task;
    struct worker_timer retry;

    struct { /* the last committed chunk */
        struct segment *segment;
        uint64_t id, position;
    } last;

    struct list readers, waiting;
};

/* --- log.c -------------------------------------------------------------------------------- */

void log_ref(struct stream_log *log);
void log_unref(struct stream_log *log);
void log_tell(struct stream_log *log, bool is_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
struct segment *log_add_segment(struct stream_log *log, uint64_t first_offset, int64_t first_ms);

/* The segment that holds the offset, or the first one behind it; NULL: none. */
struct segment *log_find_segment(const struct stream_log *log, uint64_t offset);
struct segment *segment_use(struct segment *segment);
void segment_leave(struct segment **segment); /* leaves NULL behind */
void piece_unref(struct piece **piece);       /* leaves NULL behind */

/* --- reader.c ----------------------------------------------------------------------------- */

void readers_wake(struct stream_log *log); /* those that wait for what comes next */

/* --- segment.c: blocking ------------------------------------------------------------------ */

void segment_path(char *out, const struct stream_log *log, uint64_t first_offset,
                  const char *suffix);

/* Walks a file head by head, through a window of memory. */
enum walk_result { WALK_CHUNK, WALK_END, WALK_BAD, WALK_FAILED };

enum { WALK_WINDOW = 16 * 1024 };

struct walk {
    const struct file_system *files;
    int fd;
    uint64_t position, limit; /* of the next head; what may be read */
    uint8_t *window;
    size_t size, len;
    uint64_t window_at;
    int error; /* of WALK_FAILED: -errno */
};

void walk_init(struct walk *walk, const struct file_system *files, int fd, uint64_t position,
               uint64_t limit, size_t window);
void walk_fini(struct walk *walk);

/* The head at the position; its views are into the window until the next call. END: the limit is
 * reached (zeroes count as that too). BAD: no head, or one of more than there is. */
enum walk_result walk_head(struct walk *walk, struct stream_chunk *out);

/* Moves on to the next head behind the position that is good, whose id is at least `id`. */
enum walk_result walk_search(struct walk *walk, uint64_t id, struct stream_chunk *out);

/* The octets of the chunk at the position, in the window, which grows: NULL with `error` set. */
const uint8_t *walk_chunk(struct walk *walk, const struct stream_chunk *chunk);

/* What to look for in a segment. */
struct target {
    bool is_time;
    uint64_t offset;
    int64_t time_ms;
};

/*
 * The position of the chunk that holds the offset, or of the first one whose time is not before
 * the target's; when there is none, the end of what may be read. By the index; one that is missing
 * or does not fit is made again when may_write (the segment is closed). False: *out_error is
 * -errno. Damaged places are passed over.
 */
bool segment_locate(const struct stream_log *log, const struct file_system *files, int fd,
                    uint64_t first_offset, uint64_t limit, const struct target *target,
                    bool may_write, uint64_t *out_position, int *out_error);

#endif
