#include <assert.h>
#include <errno.h>
#include <stdarg.h>

#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "lepus/wire/octets.h"
#include "log_priv.h"

enum {
    ENTRY_MAX = INT32_MAX - 4096, /* the top bit of a length means something else */
    PROPERTIES_MAX = 16 << 20,
    PIECE_FIRST = 1024,
    FOLDER_DIGITS = 16,
    ALLOCATE_FROM = 128 * 1024, /* a small segment takes no more than it needs */
    ALLOCATE_MAX = 16 << 20,
};

static const uint64_t segment_bytes_max = UINT64_C(3000000000);

/* --- pieces ------------------------------------------------------------------------------- */

static struct piece *
piece_new(struct stream_log *log, struct view exchange)
{
    struct piece *piece = mem_new(struct piece);
    size_t n = exchange.len <= UINT8_MAX ? exchange.len : 0;

    piece->refs = 1;
    piece->room = stream_chunk_head_size(log->settings.filter_bytes, n);
    buf_init(&piece->octets, UINT32_MAX);
    if (buf_reserve(&piece->octets, piece->room + log->usual_size) == NULL) {
        free(piece);
        return NULL;
    }
    piece->octets.len = piece->room;
    /* At the end of the room, where the head will have it too. */
    if (n > 0)
        memcpy(piece->octets.at + piece->room - n, exchange.at, n);
    piece->exchange = view_of(NULL, n);
    piece->head.id = log->next;
    return piece;
}

static struct view
piece_exchange(const struct piece *piece)
{
    size_t n = piece->exchange.len;

    return view_of(piece->octets.at + piece->room - n, n);
}

void
piece_unref(struct piece **at)
{
    struct piece *piece = *at;

    *at = NULL;
    if (--piece->refs > 0)
        return;
    buf_fini(&piece->octets);
    free(piece);
}

static void
drop_pieces(struct list *pieces)
{
    struct list *at;

    while ((at = list_take_first(pieces)) != NULL) {
        struct piece *piece = container_of(at, struct piece, link);

        piece_unref(&piece);
    }
}

/* --- segments ----------------------------------------------------------------------------- */

static struct segment *
segment_new(struct stream_log *log, uint64_t first_offset, int64_t first_ms)
{
    struct segment *segment = mem_new(struct segment);

    segment->log = log;
    segment->fd = -1;
    segment->first_offset = segment->end_offset = first_offset;
    segment->first_ms = segment->last_ms = first_ms;
    segment->size = STREAM_SEGMENT_HEAD;
    return segment;
}

static void
keep_segment(struct stream_log *log, struct segment *segment)
{
    list_append(&log->segments, &segment->link);
    log->n_segments++;
    log->bytes += segment->size;
}

struct segment *
log_add_segment(struct stream_log *log, uint64_t first_offset, int64_t first_ms)
{
    struct segment *segment = segment_new(log, first_offset, first_ms);

    keep_segment(log, segment);
    return segment;
}

struct segment *
log_find_segment(const struct stream_log *log, uint64_t offset)
{
    struct segment *found = NULL;

    /* From the newest, where most are asked for. */
    for (struct list *at = log->segments.prev; at != &log->segments; at = at->prev) {
        struct segment *segment = container_of(at, struct segment, link);

        if (segment->end_offset <= offset)
            break;
        found = segment;
        if (segment->first_offset <= offset)
            break;
    }
    return found;
}

struct segment *
segment_use(struct segment *segment)
{
    segment->users++;
    return segment;
}

struct unlinking {
    struct disk_job job;
    struct stream_log *log;
    uint64_t first_offset;
    int fd;
    bool removes_folder;
};

static void
run_unlink(struct disk_job *job)
{
    struct unlinking *u = container_of(job, struct unlinking, job);
    const struct file_system *files = &u->log->settings.files;
    char path[PATH_SIZE];

    if (u->fd >= 0)
        files->ops->close(files->arg, u->fd);
    /* The index first: an index alone is swept at the start. What cannot be unlinked now is found
     * at the next start, and goes then. */
    segment_path(path, u->log, u->first_offset, ".idx");
    files->ops->unlink(files->arg, path);
    segment_path(path, u->log, u->first_offset, ".seg");
    files->ops->unlink(files->arg, path);
    if (u->removes_folder)
        files->ops->remove_dir(files->arg, u->log->folder); /* once it is empty */
}

static void
done_unlink(struct disk_job *job)
{
    struct unlinking *u = container_of(job, struct unlinking, job);
    struct stream_log *log = u->log;

    free(u);
    log_unref(log);
}

/* Out of the list, with nobody in it: its files go. */
static void
unlink_segment(struct segment *segment)
{
    struct unlinking *u = mem_new(struct unlinking);

    u->job.run = run_unlink;
    u->job.done = done_unlink;
    u->log = segment->log;
    u->first_offset = segment->first_offset;
    u->fd = segment->fd;
    u->removes_folder = u->log->unlinks;
    log_ref(u->log);
    disk_submit(u->log->settings.disk, DISK_LATER, &u->job);
    free(segment);
}

void
segment_leave(struct segment **at)
{
    struct segment *segment = *at;
    const struct file_system *files;

    *at = NULL;
    if (segment == NULL || --segment->users > 0)
        return;
    if (segment->is_doomed) {
        unlink_segment(segment);
        return;
    }
    files = &segment->log->settings.files;
    if (segment->fd >= 0)
        files->ops->close(files->arg, segment->fd);
    segment->fd = -1;
}

static void
doom_segment(struct stream_log *log, struct segment *segment)
{
    list_remove(&segment->link);
    log->n_segments--;
    log->bytes -= segment->size;
    segment->is_doomed = true;
    if (segment->users == 0)
        unlink_segment(segment);
}

/* --- retention ---------------------------------------------------------------------------- */

static struct segment *
first_segment(const struct stream_log *log)
{
    return list_is_empty(&log->segments) ? NULL
                                         : container_of(log->segments.next, struct segment, link);
}

static bool
is_too_old(const struct stream_log *log, const struct segment *segment)
{
    int64_t now = (int64_t)log->wall_ms();
    uint64_t age = log->settings.max_age_ms;

    return age > 0 && age < (uint64_t)now && segment->last_ms < now - (int64_t)age;
}

/* From the newest backwards, the first that does not fit goes, with all before it. */
static struct segment *
first_that_fits(const struct stream_log *log)
{
    struct segment *kept = container_of(log->segments.prev, struct segment, link);
    uint64_t bytes = kept->size;

    while (kept->link.prev != &log->segments) {
        struct segment *before = container_of(kept->link.prev, struct segment, link);

        bytes += before->size;
        if (bytes > log->settings.max_bytes)
            break;
        kept = before;
    }
    return kept;
}

void
stream_log_retain(struct stream_log *log)
{
    const struct file_system *files = &log->settings.files;
    struct segment *kept = first_segment(log);

    if (kept == NULL)
        return;
    if (log->settings.max_bytes > 0)
        kept = first_that_fits(log);
    while (kept->link.next != &log->segments && is_too_old(log, kept))
        kept = container_of(kept->link.next, struct segment, link);
    while (first_segment(log) != kept)
        doom_segment(log, first_segment(log));
    log->first = kept->first_offset;
    /* Old data in the active segment would stay for as long as nobody writes, and then for as long
     * as it takes to fill it; the next batch begins a new one at least. */
    if (log->active == kept && kept->end_offset > kept->first_offset && is_too_old(log, kept))
        log->must_roll = true;
    /* Room that was allocated is given back through the descriptor when the segment is closed. */
    if (log->is_idle && !log->commit.is_busy && log->allocated == 0) {
        if (log->fd >= 0)
            files->ops->close(files->arg, log->fd);
        if (log->index_fd >= 0)
            files->ops->close(files->arg, log->index_fd);
        log->fd = log->index_fd = -1;
    }
    log->is_idle = true;
}

void
stream_log_set_limits(struct stream_log *log, uint64_t max_bytes, uint64_t max_age_ms)
{
    log->settings.max_bytes = max_bytes;
    log->settings.max_age_ms = max_age_ms;
    stream_log_retain(log);
}

/* --- the commit, on the disk's thread ----------------------------------------------------- */

static bool
fail(struct commit *c, const char *what, const char *path, int rc)
{
    return err_set(&c->err, RESOURCE_ERROR, "%s %s: %s", what, path, strerror(-rc));
}

static void
close_old(struct commit *c, const struct file_system *files)
{
    if (c->old_fd >= 0) {
        /* What lies behind its last chunk is nothing, or not to be believed. */
        files->ops->truncate(files->arg, c->old_fd, c->old_size);
        files->ops->close(files->arg, c->old_fd);
    }
    if (c->old_index_fd >= 0) {
        files->ops->sync(files->arg, c->old_index_fd); /* so that nobody has to make it again */
        files->ops->close(files->arg, c->old_index_fd);
    }
    c->old_fd = c->old_index_fd = -1;
}

/* A file that was there already is one whose write or sync failed: its pages are not believed. */
static bool
make_segment(struct commit *c, const struct file_system *files, const char *path)
{
    struct stream_log *log = c->log;
    struct iovec iov = {c->segment_head, STREAM_SEGMENT_HEAD};
    char index[PATH_SIZE];
    int rc;

    segment_path(index, log, c->segment->first_offset, ".idx");
    if (c->makes_folder && ((rc = files->ops->make_dir(files->arg, log->folder)) < 0 ||
                            (rc = files->ops->sync_dir(files->arg, log->settings.dir)) < 0))
        return fail(c, "make", log->folder, rc);
    if ((rc = files->ops->unlink(files->arg, index)) < 0 ||
        (rc = files->ops->unlink(files->arg, path)) < 0)
        return fail(c, "unlink", path, rc);
    if ((c->fd = files->ops->open(files->arg, path, FILE_CREATE)) < 0)
        return fail(c, "create", path, c->fd);
    if ((rc = files->ops->write(files->arg, c->fd, &iov, 1, 0)) < 0)
        return fail(c, "write", path, rc);
    return true;
}

static bool
write_pieces(struct commit *c, const struct file_system *files, const char *path)
{
    uint64_t at = c->position;
    int rc;

    for (size_t i = 0; i < c->n; i += WRITE_PIECES) {
        size_t n = c->n - i < WRITE_PIECES ? c->n - i : WRITE_PIECES;

        if ((rc = files->ops->write(files->arg, c->fd, c->iov + i, (int)n, at)) < 0)
            return fail(c, "write", path, rc);
        for (size_t k = 0; k < n; k++)
            at += c->iov[i + k].iov_len;
    }
    return true;
}

/* Behind the sync, not in front of it: an entry promises its chunk. Not to have it costs a walk. */
static void
write_index(struct commit *c, const struct file_system *files)
{
    struct iovec iov = {c->index, c->index_n * STREAM_INDEX_ENTRY};
    char path[PATH_SIZE];

    if (c->index_n == 0)
        return;
    if (c->index_fd < 0) {
        segment_path(path, c->log, c->segment->first_offset, ".idx");
        c->index_fd = files->ops->open(files->arg, path, FILE_CREATE);
    }
    if (c->index_fd >= 0)
        files->ops->write(files->arg, c->index_fd, &iov, 1, c->index_at);
}

static bool
commit(struct commit *c, const struct file_system *files)
{
    char path[PATH_SIZE];
    int rc;

    segment_path(path, c->log, c->segment->first_offset, ".seg");
    close_old(c, files);
    if (c->is_new_segment && !make_segment(c, files, path))
        return false;
    if (c->fd < 0 && (c->fd = files->ops->open(files->arg, path, FILE_WRITE)) < 0)
        return fail(c, "open", path, c->fd);
    if (c->allocate_to > 0) /* a kindness to the sync; writing tells if there is no room */
        files->ops->allocate(files->arg, c->fd, c->allocate_to);
    if (!write_pieces(c, files, path))
        return false;
    if ((rc = files->ops->sync(files->arg, c->fd)) < 0)
        return fail(c, "sync", path, rc);
    if (c->is_new_segment && (rc = files->ops->sync_dir(files->arg, c->log->folder)) < 0)
        return fail(c, "sync", c->log->folder, rc);
    write_index(c, files);
    return true;
}

static void
run_commit(struct disk_job *job)
{
    struct commit *c = container_of(job, struct commit, job);
    const struct file_system *files = &c->log->settings.files;

    c->err.code = 0;
    if (commit(c, files))
        return;
    /* Never again: neither a new segment nor an old one. */
    if (c->is_new_segment && c->fd >= 0) {
        files->ops->close(files->arg, c->fd);
        c->fd = -1;
    }
}

/* --- the commit, on the worker's ---------------------------------------------------------- */

static size_t
piece_size(const struct piece *piece)
{
    return piece->octets.len - piece->start;
}

/* No more messages for the open chunk. Its place in the log is known later. */
static void
seal(struct stream_log *log)
{
    struct piece *piece = log->open;
    struct stream_chunk *head = &piece->head;
    size_t data = piece->octets.len - piece->room;
    int64_t now = (int64_t)log->wall_ms();

    if (now > log->last_ms)
        log->last_ms = now; /* times do not go back, or nobody could search them */
    if (piece->has_filter && piece->has_none)
        stream_filter_add_none(piece->filter);
    head->timestamp_ms = log->last_ms;
    head->epoch = log->settings.epoch;
    head->data_len = (uint32_t)data;
    head->data_crc = stream_chunk_sum(view_of(piece->octets.at + piece->room, data));
    head->filter =
        view_of(piece->filter, piece->has_filter ? log->settings.filter_bytes : (size_t)0);
    head->exchange = piece_exchange(piece);
    head->head_len = stream_chunk_head_size(head->filter.len, head->exchange.len);
    piece->start = piece->room - head->head_len;
    piece->end_offset = head->id + head->records;
    log->usual_size = data + data / 8 + PIECE_FIRST;
    if (log->usual_size > STREAM_CHUNK_BYTES + PIECE_FIRST)
        log->usual_size = STREAM_CHUNK_BYTES + PIECE_FIRST;
    list_append(&log->sealed, &piece->link);
    log->open = NULL;
}

/* What is safe when it is written is known now, and not sooner. */
static void
put_head(struct stream_log *log, struct piece *piece)
{
    struct stream_chunk head = piece->head;
    uint8_t exchange[UINT8_MAX];

    /* The head's own place holds what goes into it. */
    memcpy(exchange, head.exchange.at, head.exchange.len);
    head.exchange.at = exchange;
    head.durable = log->committed;
    stream_chunk_put_head(&head, piece->octets.at + piece->start);
}

static void
take_piece(struct stream_log *log, struct commit *c, struct piece *piece)
{
    list_remove(&piece->link);
    list_append(&log->writing, &piece->link);
    piece->position = c->end;
    put_head(log, piece);
    c->iov[c->n++] = (struct iovec){piece->octets.at + piece->start, piece_size(piece)};
    if (c->end - log->indexed_at >= STREAM_INDEX_EVERY) {
        const struct stream_index_entry entry = {piece->head.id, piece->head.timestamp_ms,
                                                 (uint32_t)c->end};

        stream_index_put(&entry, c->segment->first_offset,
                         c->index + c->index_n++ * STREAM_INDEX_ENTRY);
        log->indexed_at = c->end;
    }
    c->end += piece_size(piece);
}

static void
begin_segment(struct stream_log *log, struct commit *c, const struct piece *first)
{
    struct stream_segment_head head = {
        .stream = log->settings.stream,
        .first_offset = first->head.id,
        .first_timestamp = first->head.timestamp_ms,
    };

    if (!list_is_empty(&log->segments))
        head.previous_timestamp = container_of(log->segments.prev, struct segment, link)->last_ms;
    stream_segment_put_head(&head, c->segment_head);
    c->segment = segment_new(log, head.first_offset, head.first_timestamp);
    c->old_fd = log->fd;
    c->old_index_fd = log->index_fd;
    c->old_size = log->active != NULL ? log->active->size : 0;
    c->makes_folder = !log->has_folder;
    log->fd = log->index_fd = -1;
    log->active = NULL;
    log->indexed_at = STREAM_SEGMENT_HEAD;
    log->index_size = log->allocated = 0;
    log->chunks = 0;
}

/* Room ahead in steps that grow with the segment. */
static uint64_t
allocation(struct stream_log *log, uint64_t end)
{
    uint64_t ahead = end / 4 < ALLOCATE_MAX ? end / 4 : ALLOCATE_MAX;

    if (end <= log->allocated || end < ALLOCATE_FROM)
        return 0;
    return log->allocated = end + ahead;
}

static void
start_commit(struct stream_log *log)
{
    struct commit *c = &log->commit;
    struct segment *active = log->active;

    c->old_fd = c->old_index_fd = -1;
    c->n = c->index_n = 0;
    c->is_new_segment = active == NULL || log->must_roll ||
                        active->size >= log->settings.segment_bytes ||
                        log->chunks >= SEGMENT_CHUNKS_MAX;
    c->segment = active;
    if (c->is_new_segment)
        begin_segment(log, c, container_of(log->sealed.next, struct piece, link));
    c->position = c->end = c->segment->size;
    c->index_at = log->index_size;
    while (!list_is_empty(&log->sealed) && c->n < PIECES_MAX &&
           (c->n == 0 ||
            (c->end < log->settings.segment_bytes && c->end - c->position < COMMIT_BYTES)))
        take_piece(log, c, container_of(log->sealed.next, struct piece, link));
    c->allocate_to = allocation(log, c->end);
    c->fd = log->fd;
    c->index_fd = log->index_fd;
    c->is_busy = true;
    log->is_idle = false;
    log_ref(log);
    disk_submit(log->settings.disk, DISK_FIRST, &c->job);
}

void
stream_log_flush(struct stream_log *log)
{
    if (log->commit.is_busy || log->waits || log->is_freed)
        return;
    if (log->open != NULL)
        seal(log);
    if (!list_is_empty(&log->sealed))
        start_commit(log);
}

static void
on_flush(void *arg)
{
    stream_log_flush(arg);
}

static void
on_retry(void *arg)
{
    struct stream_log *log = arg;

    log->waits = false;
    stream_log_flush(log);
}

/* The chunks go back to the front of what waits, in order. The segment is not written to again. */
static void
on_failure(struct stream_log *log)
{
    struct commit *c = &log->commit;

    while (!list_is_empty(&log->writing)) {
        struct list *last = log->writing.prev;

        list_remove(last);
        list_prepend(&log->sealed, last);
    }
    if (c->is_new_segment) {
        free(c->segment);
    } else {
        log->fd = c->fd;
        log->index_fd = c->index_fd;
    }
    log->must_roll = true;
    log->waits = log->settings.worker != NULL;
    if (log->waits)
        worker_timer_set(log->settings.worker, &log->retry, STREAM_RETRY_MS);
    if (!log->is_in_trouble) {
        log->is_in_trouble = true;
        log->ops->trouble(log->arg, &c->err);
    }
}

/* Kept in memory for as long as somebody reads at the tail, and not too much of it. */
static void
keep_recent(struct stream_log *log, struct piece *piece)
{
    if (list_is_empty(&log->readers) || piece_size(piece) > RECENT_BYTES) {
        drop_pieces(&log->recent); /* without gaps or not at all */
        log->recent_bytes = 0;
        piece_unref(&piece);
        return;
    }
    list_append(&log->recent, &piece->link);
    log->recent_bytes += piece->octets.size;
    while (log->recent_bytes > RECENT_BYTES && log->recent.next != log->recent.prev) {
        struct piece *oldest = container_of(list_take_first(&log->recent), struct piece, link);

        log->recent_bytes -= oldest->octets.size;
        piece_unref(&oldest);
    }
}

/* A chunk of few messages in memory for many gives the rest back. */
static void
shrink(struct piece *piece)
{
    struct buf *octets = &piece->octets;
    uint8_t *at;

    if (octets->len > octets->size / 2 || (at = mem_try_resize(octets->at, octets->len)) == NULL)
        return;
    octets->at = at;
    octets->size = octets->len;
}

static void
on_success(struct stream_log *log)
{
    struct commit *c = &log->commit;
    struct segment *segment = c->segment;
    struct list *at;

    if (c->is_new_segment) {
        keep_segment(log, segment);
        log->active = segment;
        log->has_folder = true;
        log->must_roll = false;
        if (log->n_segments == 1)
            log->first = segment->first_offset;
    }
    log->fd = c->fd;
    log->index_fd = c->index_fd;
    log->index_size += c->index_n * STREAM_INDEX_ENTRY;
    log->chunks += (uint32_t)c->n;
    log->bytes += c->end - segment->size;
    segment->size = c->end;
    while ((at = list_take_first(&log->writing)) != NULL) {
        struct piece *piece = container_of(at, struct piece, link);

        log->committed = segment->end_offset = piece->end_offset;
        segment->last_ms = piece->head.timestamp_ms;
        log->last.segment = segment;
        log->last.id = piece->head.id;
        log->last.position = piece->position;
        log->unsafe_bytes -= piece->octets.len - piece->room;
        shrink(piece);
        keep_recent(log, piece);
    }
    if (c->is_new_segment)
        stream_log_retain(log);
    if (log->is_in_trouble) {
        log->is_in_trouble = false;
        log->ops->trouble(log->arg, NULL);
    }
    log->ops->safe(log->arg, log->committed);
    readers_wake(log);
}

static void
done_commit(struct disk_job *job)
{
    struct commit *c = container_of(job, struct commit, job);
    struct stream_log *log = c->log;

    c->is_busy = false;
    if (log->is_freed) {
        log->fd = c->fd;
        log->index_fd = c->index_fd;
        log->allocated = 0; /* where it ends is not known here */
        if (c->is_new_segment)
            keep_segment(log, c->segment); /* so that its files are not forgotten */
    } else if (c->err.code != 0) {
        on_failure(log);
    } else {
        on_success(log);
        stream_log_flush(log); /* what came meanwhile */
    }
    log_unref(log);
}

/* --- appending ---------------------------------------------------------------------------- */

/* Whether the open chunk may take one more of about that size. */
static bool
has_room(const struct piece *piece, size_t about)
{
    return piece->head.entries < STREAM_ENTRIES_MAX &&
           piece->octets.len - piece->room + about <= STREAM_CHUNK_BYTES;
}

static bool
put_entry(struct piece *piece, struct view sections, struct view body)
{
    size_t n = sections.len + stream_data_head_size(body.len) + body.len;
    uint8_t *to = buf_reserve(&piece->octets, sizeof(uint32_t) + n);

    if (to == NULL) {
        piece->octets.bad = false; /* nothing was lost: the others go on */
        return false;
    }
    piece->octets.len += sizeof(uint32_t) + n;
    to = be_put_u32(to, (uint32_t)n);
    if (sections.len > 0)
        memcpy(to, sections.at, sections.len);
    to = stream_put_data_head(to + sections.len, body.len);
    if (body.len > 0)
        memcpy(to, body.at, body.len);
    return true;
}

static void
note_filter(struct stream_log *log, struct piece *piece, struct view value)
{
    struct stream_filter_hash hash;

    if (value.at == NULL) {
        piece->has_none = true;
        return;
    }
    hash = stream_filter_hash(value);
    stream_filter_add(piece->filter, log->settings.filter_bytes, &hash);
    piece->has_filter = true;
}

static bool
is_too_large(const struct content *c)
{
    return c->body.len > ENTRY_MAX / 2 || c->properties.len > PROPERTIES_MAX;
}

bool
stream_log_append(struct stream_log *log, const struct content *content, uint64_t *out_offset)
{
    struct view sections, filter;
    struct piece *piece = log->open;
    bool tells;
    size_t before;

    if (is_too_large(content))
        return false;
    if (piece != NULL && piece->head.entries > 0 &&
        !has_room(piece, content->body.len + log->encoder.sections.len + 16)) {
        seal(log);
        piece = NULL;
    }
    if (piece == NULL && (piece = log->open = piece_new(log, content->exchange)) == NULL)
        return false;
    tells = log->settings.tells_exchange || !view_equal(content->exchange, piece_exchange(piece));
    sections = stream_encode(&log->encoder, content, tells, &filter);
    before = piece->octets.len;
    if (sections.at == NULL || !put_entry(piece, sections, content->body)) {
        if (piece->head.entries == 0) {
            piece_unref(&log->open);
        }
        return false;
    }
    note_filter(log, piece, filter);
    piece->head.entries++;
    piece->head.records++;
    log->unsafe_bytes += piece->octets.len - before;
    *out_offset = log->next++;
    if (log->settings.worker != NULL && !log->commit.is_busy && !log->waits)
        worker_schedule(log->settings.worker, WORKER_GATHER, &log->flush_task);
    return true;
}

/* --- life --------------------------------------------------------------------------------- */

void
log_tell(struct stream_log *log, bool is_error, const char *format, ...)
{
    char line[512];
    va_list args;
    int n = snprintf(line, sizeof(line), "stream " VIEW_FMT ": ", VIEW_ARG(log->name));

    va_start(args, format);
    vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    log->ops->tell(log->arg, is_error, line);
}

struct stream_log *
stream_log_new(const struct stream_settings *settings, const struct stream_log_ops *ops, void *arg)
{
    struct stream_log *log = mem_new(struct stream_log);
    size_t n = strlen(settings->dir) + FOLDER_DIGITS + 2;

    log->settings = *settings;
    log->ops = ops;
    log->arg = arg;
    log->refs = 1;
    log->settings.dir = view_dup(view_str(settings->dir));
    log->name = view_of(view_dup(settings->name), settings->name.len);
    log->settings.name = log->name;
    log->folder = mem_alloc(n);
    snprintf(log->folder, n, "%s/%016llx", settings->dir, (unsigned long long)settings->stream);
    log->wall_ms = settings->wall_ms != NULL ? settings->wall_ms : clock_wall_ms;
    if (log->settings.segment_bytes == 0)
        log->settings.segment_bytes = STREAM_SEGMENT_BYTES;
    if (log->settings.segment_bytes > segment_bytes_max)
        log->settings.segment_bytes = segment_bytes_max;
    if (log->settings.filter_bytes < STREAM_FILTER_MIN)
        log->settings.filter_bytes = STREAM_FILTER_MIN;
    if (log->settings.reads == NULL)
        log->settings.reads = log->settings.disk;
    list_init(&log->segments);
    list_init(&log->sealed);
    list_init(&log->writing);
    list_init(&log->recent);
    list_init(&log->readers);
    list_init(&log->waiting);
    log->fd = log->index_fd = -1;
    log->usual_size = PIECE_FIRST;
    stream_encoder_init(&log->encoder, log->name);
    log->commit.log = log;
    log->commit.job.run = run_commit;
    log->commit.job.done = done_commit;
    log->flush_task = (struct worker_task){.run = on_flush, .arg = log};
    log->retry = (struct worker_timer){.fire = on_retry, .arg = log};
    return log;
}

void
log_ref(struct stream_log *log)
{
    log->refs++;
}

/* The last one has gone: files are closed, and, when the stream is gone, unlinked. */
void
log_unref(struct stream_log *log)
{
    const struct file_system *files = &log->settings.files;
    struct segment *segment;

    if (log->refs == 1 && log->unlinks && first_segment(log) != NULL) {
        while ((segment = first_segment(log)) != NULL)
            doom_segment(log, segment); /* each takes a reference: this is called again */
    }
    if (--log->refs > 0)
        return;
    /* The next start need not look through room that nothing was written to. */
    if (!log->unlinks && log->fd >= 0 && log->allocated > 0 && log->active != NULL)
        files->ops->truncate(files->arg, log->fd, log->active->size);
    while ((segment = first_segment(log)) != NULL) {
        assert(segment->users == 0);
        list_remove(&segment->link);
        free(segment);
    }
    if (log->fd >= 0)
        files->ops->close(files->arg, log->fd);
    if (log->index_fd >= 0)
        files->ops->close(files->arg, log->index_fd);
    drop_pieces(&log->sealed);
    drop_pieces(&log->writing);
    drop_pieces(&log->recent);
    if (log->open != NULL)
        piece_unref(&log->open);
    stream_encoder_fini(&log->encoder);
    free((void *)(uintptr_t)log->settings.dir);
    free((void *)(uintptr_t)log->name.at);
    free(log->folder);
    free(log);
}

void
stream_log_free(struct stream_log *log, bool unlink)
{
    if (log == NULL)
        return;
    assert(list_is_empty(&log->readers));
    log->is_freed = true;
    log->unlinks = unlink;
    worker_task_cancel(&log->flush_task);
    worker_timer_cancel(&log->retry);
    log_unref(log);
}

/* --- what is asked ------------------------------------------------------------------------ */

uint64_t
stream_log_first(const struct stream_log *log)
{
    return log->first;
}

uint64_t
stream_log_committed(const struct stream_log *log)
{
    return log->committed;
}

uint64_t
stream_log_next(const struct stream_log *log)
{
    return log->next;
}

uint64_t
stream_log_bytes(const struct stream_log *log)
{
    return log->bytes;
}

size_t
stream_log_segments(const struct stream_log *log)
{
    return log->n_segments;
}

size_t
stream_log_unsafe_bytes(const struct stream_log *log)
{
    return log->unsafe_bytes;
}

bool
stream_log_is_in_trouble(const struct stream_log *log)
{
    return log->is_in_trouble;
}

void
stream_log_check(const struct stream_log *log)
{
    uint64_t bytes = 0, offset = log->committed;
    const struct segment *before = NULL;
    size_t unsafe = 0, n = 0;

    list_each (at, &log->segments) {
        const struct segment *segment = container_of(at, struct segment, link);

        assert(segment->log == log && !segment->is_doomed);
        assert(segment->first_offset <= segment->end_offset);
        assert(segment->first_ms <= segment->last_ms);
        if (before != NULL)
            assert(before->end_offset <= segment->first_offset &&
                   before->last_ms <= segment->last_ms);
        before = segment;
        bytes += segment->size;
        n++;
    }
    assert(bytes == log->bytes && n == log->n_segments);
    assert(before == NULL || before->end_offset == log->committed || log->active == NULL);
    assert(n == 0 || first_segment(log)->first_offset == log->first);
    list_each (at, &log->writing) {
        const struct piece *piece = container_of(at, struct piece, link);

        assert(piece->head.id == offset);
        offset = piece->end_offset;
        unsafe += piece->octets.len - piece->room;
    }
    list_each (at, &log->sealed) {
        const struct piece *piece = container_of(at, struct piece, link);

        assert(piece->head.id == offset);
        offset = piece->end_offset;
        unsafe += piece->octets.len - piece->room;
    }
    if (log->open != NULL) {
        assert(log->open->head.id == offset);
        offset += log->open->head.records;
        unsafe += log->open->octets.len - log->open->room;
    }
    assert(offset == log->next && unsafe == log->unsafe_bytes);
}
