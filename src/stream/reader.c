/*
 * The way of a chunk to whoever asks:
 *
 *     next_chunk         where is the next one?
 *       use_piece        in memory, at the tail
 *       use_block        in the block that was read; the one behind it is asked for at once
 *       submit           nowhere: the disk's thread is asked (fetch: run_fetch, done_fetch)
 *     open_chunk         its sum, and whether its filter lets it pass
 *     next_record        its entries, one by one
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>

#include "lepus/base/mem.h"
#include "lepus/stream/stream_reader.h"
#include "lepus/wire/octets.h"
#include "log_priv.h"

enum {
    TRIES = 3,
    SCAN_HEADS = 512, /* that one job looks at for one that passes */
    SCAN_WINDOW = 4096,
    SCAN_BLOCK = 32 * 1024, /* the least that is read when one passes */

    ENTRY_HEAD = 4,
    BATCH_HEAD = 11,
};

/* Whole chunks of a segment, in memory. */
struct block {
    uint8_t *at;
    size_t size, len;
    uint64_t position; /* of the first octet, in its segment */
};

enum fetch_how {
    FETCH_HERE,   /* a chunk starts at the position */
    FETCH_TARGET, /* to be looked for by offset or time */
    FETCH_SEARCH, /* the position is damaged: the next good one */
};

/* A job for the disk, which owns a block while it is under way. */
struct fetch {
    struct disk_job job;
    struct stream_log *log;
    struct stream_reader *reader; /* NULL: it is gone */
    struct segment *segment;
    bool is_busy, is_done; /* under way; it has brought something that was not taken yet */
    /* What is asked. */
    enum fetch_how how;
    struct target target;
    uint64_t position, limit, id;
    uint64_t first_offset;
    size_t at_least; /* octets to read */
    bool may_write;
    const struct stream_filter_hash *filters; /* of the fetch */
    size_t n_filters;
    bool match_unfiltered;
    /* What comes of it. */
    int fd;
    struct block block;
    uint64_t out_position, out_id; /* where the next chunk is; at least this one */
    bool is_at_limit;
    int error;
};

/* How far the open chunk was read. */
struct place {
    struct view data, batch;
    uint16_t batch_left;
    uint64_t next_offset, skipped;
};

struct stream_reader {
    struct list link, wait_link; /* of the log */
    struct stream_log *log;
    const struct stream_reader_ops *ops;
    void *arg;

    struct segment *segment; /* NULL: to be found by `expected` */
    uint64_t position;       /* in it, of the next chunk; 0: to be found */
    uint64_t expected;       /* the next chunk's id, or an offset in it */
    uint64_t min_offset;     /* what is below is not given */
    struct target target;
    bool is_seeking;    /* the position is to be found by target */
    bool is_searching;  /* the position is damaged */
    bool may_pass_over; /* ids may be missing without loss: filters passed over chunks */
    bool wants;         /* WAIT was said */
    bool is_resting;    /* reading failed: the timer runs */
    unsigned failures;
    struct worker_timer retry;

    struct block block; /* that is being read from */
    struct fetch *fetch;

    /* The open chunk. */
    bool is_open;
    struct stream_chunk chunk;
    struct piece *piece; /* that holds it; NULL: the block does */
    const uint8_t *header;
    struct view data;    /* entries that are left */
    struct view batch;   /* of a batch, entries that are left */
    uint16_t batch_left; /* records of it */
    uint64_t next_offset;
    uint64_t skipped;

    struct stream_decoder decoder;
    struct view *filters;
    struct stream_filter_hash *hashes;
    size_t n_filters;
    bool match_unfiltered;
};

/* --- on the disk's thread ----------------------------------------------------------------- */

/* From the position on to a chunk that passes; chunks in front of it are jumped over. False: there
 * is nothing to read yet, since it failed, or there are many. */
static bool
pass_over(struct fetch *f)
{
    const struct file_system *files = &f->log->settings.files;
    struct stream_chunk chunk;
    enum walk_result result;
    struct walk walk;
    unsigned n;

    walk_init(&walk, files, f->fd, f->out_position, f->limit, SCAN_WINDOW);
    f->at_least = STREAM_BLOCK_BYTES;
    for (n = 0; n < SCAN_HEADS; n++) {
        result = walk_head(&walk, &chunk);
        if (result != WALK_CHUNK)
            break; /* the end, or damage: the reader will see */
        if (stream_filter_matches(chunk.filter, f->filters, f->n_filters, f->match_unfiltered)) {
            f->at_least = stream_chunk_size(&chunk);
            break;
        }
        f->out_id = chunk.id + chunk.records;
        walk.position += stream_chunk_size(&chunk);
    }
    f->out_position = walk.position;
    f->error = walk.error;
    walk_fini(&walk);
    return f->error == 0 && n < SCAN_HEADS;
}

static bool
search(struct fetch *f)
{
    const struct file_system *files = &f->log->settings.files;
    struct stream_chunk chunk;
    struct walk walk;
    enum walk_result result;

    walk_init(&walk, files, f->fd, f->position, f->limit, WALK_WINDOW);
    result = walk_search(&walk, f->id, &chunk);
    f->out_position = walk.position;
    f->error = walk.error;
    walk_fini(&walk);
    return result != WALK_FAILED;
}

static bool
reserve(struct block *block, size_t size)
{
    uint8_t *at;

    if (block->size >= size)
        return true;
    at = mem_try_resize(block->at, size);
    if (at == NULL)
        return false;
    block->at = at;
    block->size = size;
    return true;
}

static bool
read_at(struct fetch *f, size_t n)
{
    const struct file_system *files = &f->log->settings.files;
    int64_t got = files->ops->read(files->arg, f->fd, f->block.at, n, f->out_position);

    f->error = got < 0 ? (int)got : 0;
    f->block.len = got < 0 ? 0 : (size_t)got;
    return got >= 0;
}

/* A block from the position on, larger if its first chunk is. With filters, hardly more than that
 * chunk. */
static bool
read_block(struct fetch *f)
{
    uint64_t left = f->limit > f->out_position ? f->limit - f->out_position : 0;
    size_t want = f->at_least < SCAN_BLOCK           ? SCAN_BLOCK
                  : f->at_least > STREAM_BLOCK_BYTES ? STREAM_BLOCK_BYTES
                                                     : f->at_least;
    size_t n = left < want ? (size_t)left : want;
    struct stream_chunk chunk;
    size_t size;

    f->block.len = 0;
    f->block.position = f->out_position;
    f->is_at_limit = n == 0;
    if (n == 0)
        return true;
    if (!reserve(&f->block, STREAM_BLOCK_BYTES)) {
        f->error = -ENOMEM;
        return false;
    }
    if (!read_at(f, n))
        return false;
    f->is_at_limit = f->block.len == 0;
    if (stream_chunk_parse(view_of(f->block.at, f->block.len), &chunk) != STREAM_CHUNK_GOOD)
        return true;
    size = stream_chunk_size(&chunk);
    if (size <= f->block.len || size > left)
        return true;
    if (!reserve(&f->block, size)) {
        f->error = -ENOMEM;
        return false;
    }
    return read_at(f, size);
}

static void
run_fetch(struct disk_job *job)
{
    struct fetch *f = container_of(job, struct fetch, job);
    const struct file_system *files = &f->log->settings.files;
    char path[PATH_SIZE];

    f->error = 0;
    f->is_at_limit = false;
    f->block.len = 0;
    f->out_position = f->position;
    f->out_id = 0;
    if (f->fd < 0) {
        segment_path(path, f->log, f->first_offset, ".seg");
        f->fd = files->ops->open(files->arg, path, FILE_READ);
        if (f->fd < 0) {
            f->error = f->fd;
            return;
        }
    }
    if (f->how == FETCH_TARGET &&
        !segment_locate(f->log, files, f->fd, f->first_offset, f->limit, &f->target, f->may_write,
                        &f->out_position, &f->error))
        return;
    if (f->how == FETCH_SEARCH && !search(f))
        return;
    f->at_least = STREAM_BLOCK_BYTES;
    if (f->n_filters == 0 || pass_over(f))
        read_block(f);
}

/* --- on the worker's ---------------------------------------------------------------------- */

static void tell_damage(struct stream_reader *r, uint64_t first, uint64_t end, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));

static void
tell_damage(struct stream_reader *r, uint64_t first, uint64_t end, const char *format, ...)
{
    struct err why = {0};
    char what[160];
    va_list args;

    if (end <= first)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    err_set(&why, INTERNAL_ERROR, "stream " VIEW_FMT ", segment %020llu, octet %llu: %s",
            VIEW_ARG(r->log->name),
            (unsigned long long)(r->segment != NULL ? r->segment->first_offset : 0),
            (unsigned long long)r->position, what);
    r->ops->damaged(r->arg, first, end - 1, &why);
}

static void
drop_block(struct block *block)
{
    free(block->at);
    *block = (struct block){0};
}

static void
close_chunk(struct stream_reader *r)
{
    if (r->piece != NULL)
        piece_unref(&r->piece);
    r->is_open = false;
    r->data = r->batch = view_of(NULL, 0);
    r->batch_left = 0;
}

/* The segment's octets in memory are of no use from here. */
static void
leave_segment(struct stream_reader *r)
{
    segment_leave(&r->segment);
    r->position = 0;
    r->is_searching = r->is_seeking = false;
    r->failures = 0;
    r->block.len = 0;
    r->fetch->is_done = false;
    if (!r->fetch->is_busy) /* one under way is dropped when it comes */
        segment_leave(&r->fetch->segment);
}

/* Whether what the fetch has brought is what the reader wants now: it may have gone on meanwhile,
 * with chunks in memory. */
static bool
is_wanted_still(const struct stream_reader *r)
{
    const struct fetch *f = r->fetch;

    if (!f->is_done || f->segment != r->segment)
        return false;
    if (r->is_seeking || f->how == FETCH_TARGET)
        return r->is_seeking && f->how == FETCH_TARGET;
    return f->position == r->position && (f->how == FETCH_SEARCH) == r->is_searching;
}

static void
tell_more(struct stream_reader *r)
{
    if (!r->wants)
        return;
    r->wants = false;
    r->ops->more(r->arg);
}

static void
on_retry(void *arg)
{
    struct stream_reader *r = arg;

    r->is_resting = false;
    tell_more(r);
}

static void
fetch_free(struct fetch *f)
{
    struct stream_log *log = f->log;

    drop_block(&f->block);
    free((void *)(uintptr_t)f->filters);
    free(f);
    log_unref(log);
}

static void
done_fetch(struct disk_job *job)
{
    struct fetch *f = container_of(job, struct fetch, job);
    const struct file_system *files = &f->log->settings.files;
    struct stream_reader *r = f->reader;

    f->is_busy = false;
    if (f->segment->fd < 0) {
        f->segment->fd = f->fd;
    } else if (f->fd >= 0 && f->fd != f->segment->fd) {
        files->ops->close(files->arg, f->fd); /* another was faster */
    }
    f->is_done = r != NULL && f->segment == r->segment;
    if (!f->is_done || r == NULL)
        segment_leave(&f->segment);
    if (r == NULL) {
        fetch_free(f);
        return;
    }
    tell_more(r);
}

static struct fetch *
fetch_new(struct stream_reader *r)
{
    struct fetch *f = mem_new(struct fetch);
    struct stream_filter_hash *filters = mem_alloc(r->n_filters * sizeof(*filters) + 1);

    log_ref(r->log);
    f->log = r->log;
    f->reader = r;
    f->job.run = run_fetch;
    f->job.done = done_fetch;
    if (r->n_filters > 0)
        memcpy(filters, r->hashes, r->n_filters * sizeof(*filters));
    f->filters = filters;
    f->n_filters = r->n_filters;
    f->match_unfiltered = r->match_unfiltered;
    return f;
}

/* Asks for what starts at the position of the reader's segment. */
static void
submit(struct stream_reader *r, enum fetch_how how, uint64_t position)
{
    struct fetch *f = r->fetch;

    assert(!f->is_busy);
    if (f->segment != NULL)
        segment_leave(&f->segment);
    f->segment = segment_use(r->segment);
    f->fd = r->segment->fd;
    f->how = how;
    f->target = r->target;
    f->position = position;
    f->limit = r->segment->size;
    f->id = r->expected;
    f->first_offset = r->segment->first_offset;
    f->may_write = r->segment != r->log->active && !r->segment->is_doomed;
    f->is_done = false;
    f->is_busy = true;
    disk_submit(r->log->settings.reads, DISK_FIRST, &f->job);
}

/* --- where the next chunk is -------------------------------------------------------------- */

/* A chunk just written that begins where the reader stands, or holds where it is to begin. */
static struct piece *
find_piece(const struct stream_reader *r)
{
    for (struct list *at = r->log->recent.prev; at != &r->log->recent; at = at->prev) {
        struct piece *piece = container_of(at, struct piece, link);

        if (piece->head.id <= r->expected)
            return r->expected < piece->end_offset ? piece : NULL;
    }
    return NULL;
}

/* Which segment holds what comes next. False: none; everything was read. */
static bool
enter_segment(struct stream_reader *r)
{
    struct segment *found;

    if (r->segment != NULL && r->expected < r->segment->end_offset)
        return true;
    found = log_find_segment(r->log, r->expected);
    if (found == NULL)
        return false;
    if (found == r->segment)
        return true;
    if (r->segment != NULL)
        leave_segment(r);
    r->segment = segment_use(found);
    if (r->expected <= found->first_offset) {
        r->position = STREAM_SEGMENT_HEAD; /* what is missing, retention took, or is told of */
    } else {
        r->is_seeking = true;
        r->target = (struct target){.offset = r->expected};
    }
    return true;
}

static size_t
whole_chunk(const struct block *block, size_t at, struct stream_chunk *out)
{
    if (at >= block->len ||
        stream_chunk_parse(view_of(block->at + at, block->len - at), out) != STREAM_CHUNK_GOOD)
        return 0;
    return stream_chunk_size(out) <= block->len - at ? stream_chunk_size(out) : 0;
}

/* The block behind this one is asked for while this one is read: it begins at the first chunk that
 * is not whole. With filters blocks are of one chunk, and who knows which is next. */
static void
read_ahead(struct stream_reader *r)
{
    struct stream_chunk chunk;
    size_t at = (size_t)(r->position - r->block.position), n;

    while ((n = whole_chunk(&r->block, at, &chunk)) > 0)
        at += n;
    if (r->block.position + at < r->segment->size && at > 0)
        submit(r, FETCH_HERE, r->block.position + at);
}

/* Reading has failed: it is tried again a little later, and after some tries no more. */
static void
bear_failure(struct stream_reader *r)
{
    int error = -r->fetch->error;
    bool is_passing = error == EMFILE || error == ENFILE || error == ENOMEM;

    if ((++r->failures < TRIES || is_passing) && error != ENOENT) {
        if (r->log->settings.worker == NULL)
            return;
        r->is_resting = true;
        worker_timer_set(r->log->settings.worker, &r->retry, STREAM_RETRY_MS);
        return;
    }
    tell_damage(r, r->expected, r->segment->end_offset, "cannot be read: %s", strerror(error));
    r->expected = r->segment->end_offset;
    r->failures = 0;
    r->may_pass_over = true;
}

/* What the disk has brought becomes the block that is read from. */
static void
take_fetched(struct stream_reader *r)
{
    struct fetch *f = r->fetch;
    struct block old = r->block;

    f->is_done = false;
    if (f->error != 0) {
        bear_failure(r);
        return;
    }
    r->failures = 0;
    if (f->how == FETCH_TARGET)
        r->is_seeking = false;
    if (f->how == FETCH_SEARCH)
        r->is_searching = false;
    if (f->how != FETCH_HERE || f->n_filters > 0)
        r->position = f->out_position;
    if (f->out_id > r->expected) {
        r->expected = f->out_id;
        r->may_pass_over = true;
    }
    r->block = f->block;
    f->block = old;
    if (f->block.size > STREAM_BLOCK_BYTES)
        drop_block(&f->block); /* larger than usual, for once */
    if (f->is_at_limit && r->position >= f->limit && f->limit < r->segment->size)
        return; /* more was committed meanwhile */
    if (f->is_at_limit) {
        /* What is not there is lost, unless filters passed over it or it was asked for by time. */
        if (f->how != FETCH_TARGET || !f->target.is_time)
            tell_damage(r, r->expected, r->segment->end_offset, "nothing follows");
        r->expected = r->segment->end_offset;
        r->may_pass_over = true;
    }
}

static void
open_chunk(struct stream_reader *r, const struct stream_chunk *chunk, const uint8_t *octets)
{
    r->chunk = *chunk;
    r->header = octets;
    r->data = view_of(octets + chunk->head_len, chunk->data_len);
    r->next_offset = chunk->id;
    r->is_open = true;
    r->expected = chunk->id + chunk->records;
}

static bool
passes(const struct stream_reader *r, const struct stream_chunk *chunk)
{
    return r->n_filters == 0 ||
           stream_filter_matches(chunk->filter, r->hashes, r->n_filters, r->match_unfiltered);
}

/* The chunk at the reader's position. What is missing in front of it is told. */
static bool
use_chunk(struct stream_reader *r, const struct stream_chunk *chunk, const uint8_t *octets)
{
    size_t size = stream_chunk_size(chunk);

    if (chunk->id > r->expected && !r->may_pass_over)
        tell_damage(r, r->expected, chunk->id, "damaged");
    r->may_pass_over = false;
    if (!passes(r, chunk)) {
        r->expected = chunk->id + chunk->records;
        r->position += size;
        return false;
    }
    if (chunk->data_crc != stream_chunk_sum(view_of(octets + chunk->head_len, chunk->data_len))) {
        tell_damage(r, chunk->id > r->expected ? chunk->id : r->expected,
                    chunk->id + chunk->records, "a chunk of %zu octets is damaged", size);
        r->expected = chunk->id + chunk->records;
        r->position += size;
        return false;
    }
    r->position += size;
    open_chunk(r, chunk, octets);
    return true;
}

/* Whether ids stand where they may: what is behind `expected` is missing, what is before it only
 * when a reader begins in the middle of a chunk. */
static bool
is_credible(const struct stream_reader *r, const struct stream_chunk *chunk)
{
    return chunk->id + chunk->records > r->expected && chunk->id < r->segment->end_offset &&
           chunk->id + chunk->records <= r->segment->end_offset;
}

enum found { FOUND_CHUNK, FOUND_NOTHING, FOUND_REASON_TO_GO_ON };

static enum found
use_block(struct stream_reader *r)
{
    struct block *block = &r->block;
    struct stream_chunk chunk;
    size_t at;

    if (r->position < block->position || r->position - block->position >= block->len)
        return FOUND_NOTHING;
    at = (size_t)(r->position - block->position);
    switch (stream_chunk_parse(view_of(block->at + at, block->len - at), &chunk)) {
    case STREAM_CHUNK_SHORT:
        if (at > 0)
            return FOUND_NOTHING; /* the next block begins with it */
        r->is_searching = true;   /* as much as there is was read */
        return FOUND_REASON_TO_GO_ON;
    case STREAM_CHUNK_BAD:
        r->is_searching = true;
        return FOUND_REASON_TO_GO_ON;
    case STREAM_CHUNK_GOOD:
        break;
    }
    if (stream_chunk_size(&chunk) > r->segment->size - r->position || !is_credible(r, &chunk) ||
        (at == 0 && stream_chunk_size(&chunk) > block->len)) {
        r->is_searching = true;
        return FOUND_REASON_TO_GO_ON;
    }
    if (stream_chunk_size(&chunk) > block->len - at)
        return FOUND_NOTHING; /* the next block begins with it */
    if (r->n_filters == 0 && !r->fetch->is_busy && !r->fetch->is_done)
        read_ahead(r);
    return use_chunk(r, &chunk, block->at + at) ? FOUND_CHUNK : FOUND_REASON_TO_GO_ON;
}

static bool
use_piece(struct stream_reader *r, struct piece *piece)
{
    const uint8_t *octets = piece->octets.at + piece->start;
    struct stream_chunk chunk;
    enum stream_parse parsed =
        stream_chunk_parse(view_of(octets, piece->octets.len - piece->start), &chunk);

    assert(parsed == STREAM_CHUNK_GOOD);
    /* Its place on disk, for when it is not in memory any more: the piece may end a segment. */
    if (r->segment != NULL && r->segment->end_offset <= chunk.id)
        leave_segment(r);
    if (r->segment == NULL) {
        struct segment *found = log_find_segment(r->log, chunk.id);

        if (found != NULL)
            r->segment = segment_use(found);
    }
    r->position = piece->position + stream_chunk_size(&chunk);
    r->is_seeking = r->is_searching = r->may_pass_over = false;
    if (!passes(r, &chunk)) {
        r->expected = piece->end_offset;
        return false;
    }
    piece->refs++;
    r->piece = piece;
    open_chunk(r, &chunk, octets);
    return true;
}

/* Nothing is left: told by the next commit, and without memory until then. */
static void
wait_at_tail(struct stream_reader *r)
{
    drop_block(&r->block);
    if (!r->fetch->is_busy)
        drop_block(&r->fetch->block);
    if (!list_is_linked(&r->wait_link))
        list_append(&r->log->waiting, &r->wait_link);
}

static bool
next_chunk(struct stream_reader *r)
{
    for (;;) {
        struct piece *piece;

        if (r->is_resting)
            return false;
        if (r->expected < r->log->first && (r->segment == NULL || !r->segment->is_doomed ||
                                            r->expected >= r->segment->end_offset)) {
            r->expected = r->log->first; /* overtaken by retention */
            leave_segment(r);
        }
        if (r->expected >= r->log->committed) {
            wait_at_tail(r);
            return false;
        }
        if (!(r->is_seeking && r->target.is_time) && (piece = find_piece(r)) != NULL) {
            if (use_piece(r, piece))
                return true;
            continue;
        }
        if (!enter_segment(r)) {
            wait_at_tail(r);
            return false;
        }
        if (!r->is_seeking && !r->is_searching) {
            switch (use_block(r)) {
            case FOUND_CHUNK:
                return true;
            case FOUND_REASON_TO_GO_ON:
                continue;
            case FOUND_NOTHING:
                break;
            }
        }
        if (is_wanted_still(r)) {
            take_fetched(r);
            continue;
        }
        if (r->fetch->is_busy)
            return false;
        submit(r,
               r->is_seeking     ? FETCH_TARGET
               : r->is_searching ? FETCH_SEARCH
                                 : FETCH_HERE,
               r->position);
        return false;
    }
}

/* --- records ------------------------------------------------------------------------------ */

static bool
take_entry(struct view *from, struct view *out)
{
    size_t n;

    if (from->len < ENTRY_HEAD)
        return false;
    n = be_u32(from->at);
    if (n > INT32_MAX || n > from->len - ENTRY_HEAD)
        return false;
    *out = view_of(from->at + ENTRY_HEAD, n);
    *from = view_of(from->at + ENTRY_HEAD + n, from->len - ENTRY_HEAD - n);
    return true;
}

/* Opens a batch that is not compressed; passes over one that is. */
static bool
take_batch(struct stream_reader *r)
{
    const uint8_t *at = r->data.at;
    uint16_t records;
    size_t n;

    if (r->data.len < BATCH_HEAD)
        return false;
    records = be_u16(at + 1);
    n = be_u32(at + 7);
    if (n > r->data.len - BATCH_HEAD)
        return false;
    if ((at[0] & 0x70) == 0) {
        r->batch = view_of(at + BATCH_HEAD, n);
        r->batch_left = records;
    } else {
        r->next_offset += records;
        r->skipped += records;
    }
    r->data = view_of(at + BATCH_HEAD + n, r->data.len - BATCH_HEAD - n);
    return true;
}

/* The octets of the open chunk's next record; false: it is read to its end. */
static bool
next_record(struct stream_reader *r, struct view *out)
{
    while (r->batch_left > 0 || r->data.len > 0) {
        if (r->batch_left > 0) {
            if (take_entry(&r->batch, out)) {
                r->batch_left--;
                return true;
            }
            r->next_offset += r->batch_left; /* it promised more than it has */
            r->skipped += r->batch_left;
            r->batch_left = 0;
            continue;
        }
        if ((r->data.at[0] & 0x80) == 0 ? take_entry(&r->data, out) : take_batch(r)) {
            if (r->batch_left == 0 && out->at != NULL)
                return true;
            continue;
        }
        break; /* its sum is right, so somebody wrote it like that */
    }
    return false;
}

static bool
is_wanted(const struct stream_reader *r, struct view value)
{
    if (value.at == NULL)
        return r->match_unfiltered || (r->chunk.flags & STREAM_CHUNK_NATIVE) != 0;
    for (size_t i = 0; i < r->n_filters; i++)
        if (view_equal(r->filters[i], value))
            return true;
    return false;
}

/* No memory for a record: it is asked for again a little later. Where the chunk was read to is
 * what `before` says. */
static enum stream_read
rest(struct stream_reader *r, const struct place *before)
{
    r->data = before->data;
    r->batch = before->batch;
    r->batch_left = before->batch_left;
    r->next_offset = before->next_offset;
    r->skipped = before->skipped;
    r->wants = true;
    if (r->log->settings.worker != NULL)
        worker_timer_set(r->log->settings.worker, &r->retry, STREAM_RETRY_MS);
    return STREAM_READ_WAIT;
}

enum stream_read
stream_reader_next(struct stream_reader *r, struct stream_message *out)
{
    for (;;) {
        struct view record = {NULL, 0}, filter;
        struct place before;
        bool is_native;

        if (!r->is_open && !next_chunk(r)) {
            r->wants = true;
            return STREAM_READ_WAIT;
        }
        before = (struct place){r->data, r->batch, r->batch_left, r->next_offset, r->skipped};
        if (!next_record(r, &record) || r->next_offset >= r->chunk.id + r->chunk.records) {
            close_chunk(r);
            continue;
        }
        out->offset = r->next_offset++;
        if (out->offset < r->min_offset)
            continue;
        is_native = (r->chunk.flags & STREAM_CHUNK_NATIVE) != 0;
        if (stream_decode(&r->decoder, record, r->chunk.exchange, is_native, &out->content,
                          &filter) == STREAM_NO_MEMORY)
            return rest(r, &before);
        if (r->n_filters > 0 && !is_wanted(r, filter))
            continue;
        out->timestamp_ms = r->chunk.timestamp_ms;
        return STREAM_READ_MESSAGE;
    }
}

enum stream_read
stream_reader_next_chunk(struct stream_reader *r, struct stream_chunk *out, struct view *out_header,
                         struct view *out_data)
{
    if (r->is_open)
        close_chunk(r);
    if (!next_chunk(r)) {
        r->wants = true;
        return STREAM_READ_WAIT;
    }
    *out = r->chunk;
    *out_header = view_of(r->header, STREAM_HEADER_SIZE);
    *out_data = r->data;
    return STREAM_READ_MESSAGE;
}

/* --- life --------------------------------------------------------------------------------- */

void
readers_wake(struct stream_log *log)
{
    struct list woken, *at;

    list_init(&woken);
    while ((at = list_take_first(&log->waiting)) != NULL)
        list_append(&woken, at);
    while ((at = list_take_first(&woken)) != NULL)
        tell_more(container_of(at, struct stream_reader, wait_link));
}

static void
start_at_next(struct stream_reader *r)
{
    r->expected = r->log->committed;
    if (r->log->active != NULL) {
        r->segment = segment_use(r->log->active);
        r->position = r->segment->size;
    }
}

static void
start_at_last(struct stream_reader *r)
{
    if (r->log->last.segment == NULL || r->log->committed == r->log->first) {
        start_at_next(r);
        return;
    }
    r->segment = segment_use(r->log->last.segment);
    r->expected = r->log->last.id;
    r->position = r->log->last.position;
}

static void
start_at_offset(struct stream_reader *r, uint64_t offset)
{
    r->min_offset = offset;
    if (offset >= r->log->committed)
        start_at_next(r);
    else
        r->expected = offset > r->log->first ? offset : r->log->first;
}

/* The first segment whose last chunk is not before that time. */
static void
start_at_time(struct stream_reader *r, int64_t time_ms)
{
    struct stream_log *log = r->log;

    list_each (at, &log->segments) {
        struct segment *segment = container_of(at, struct segment, link);

        if (segment->last_ms < time_ms)
            continue;
        r->expected = segment->first_offset;
        r->segment = segment_use(segment);
        if (segment->first_ms >= time_ms) {
            r->position = STREAM_SEGMENT_HEAD;
            return;
        }
        r->is_seeking = r->may_pass_over = true;
        r->target = (struct target){.is_time = true, .time_ms = time_ms};
        return;
    }
    start_at_next(r);
}

static void
copy_filters(struct stream_reader *r, const struct stream_reader_settings *s)
{
    r->n_filters = s->n_filters;
    r->match_unfiltered = s->match_unfiltered;
    r->filters = mem_alloc(s->n_filters * sizeof(*r->filters) + 1);
    r->hashes = mem_alloc(s->n_filters * sizeof(*r->hashes) + 1);
    for (size_t i = 0; i < s->n_filters; i++) {
        r->filters[i] = view_of(view_dup(s->filters[i]), s->filters[i].len);
        r->hashes[i] = stream_filter_hash(s->filters[i]);
    }
}

struct stream_reader *
stream_reader_new(struct stream_log *log, const struct stream_reader_settings *settings,
                  const struct stream_reader_ops *ops, void *arg)
{
    struct stream_reader *r = mem_new(struct stream_reader);

    r->log = log;
    r->ops = ops;
    r->arg = arg;
    r->retry = (struct worker_timer){.fire = on_retry, .arg = r};
    stream_decoder_init(&r->decoder, log->name);
    copy_filters(r, settings);
    r->fetch = fetch_new(r);
    list_append(&log->readers, &r->link);
    switch (settings->from) {
    case STREAM_FROM_FIRST:
        r->expected = log->first;
        break;
    case STREAM_FROM_LAST:
        start_at_last(r);
        break;
    case STREAM_FROM_NEXT:
        start_at_next(r);
        break;
    case STREAM_FROM_OFFSET:
        start_at_offset(r, settings->offset);
        break;
    case STREAM_FROM_TIME:
        start_at_time(r, settings->time_ms);
        break;
    }
    return r;
}

void
stream_reader_free(struct stream_reader *r)
{
    if (r == NULL)
        return;
    close_chunk(r);
    list_remove(&r->link);
    if (list_is_linked(&r->wait_link))
        list_remove(&r->wait_link);
    worker_timer_cancel(&r->retry);
    r->fetch->reader = NULL;
    if (!r->fetch->is_busy) {
        if (r->fetch->segment != NULL)
            segment_leave(&r->fetch->segment);
        fetch_free(r->fetch);
    }
    segment_leave(&r->segment);
    drop_block(&r->block);
    stream_decoder_fini(&r->decoder);
    for (size_t i = 0; i < r->n_filters; i++)
        free((void *)(uintptr_t)r->filters[i].at);
    free(r->filters);
    free(r->hashes);
    free(r);
}

uint64_t
stream_reader_offset(const struct stream_reader *r)
{
    uint64_t next = r->is_open ? r->next_offset : r->expected;

    return next > r->min_offset ? next : r->min_offset;
}

uint64_t
stream_reader_skipped(const struct stream_reader *r)
{
    return r->skipped;
}

size_t
stream_reader_bytes(const struct stream_reader *r)
{
    return sizeof(*r) + sizeof(*r->fetch) + r->block.size + r->fetch->block.size +
           r->decoder.sections.size + r->decoder.properties.size + r->decoder.headers.size +
           r->decoder.scratch.size;
}
