/*
 * The start: see the head of stream_log.h for what is found and what is done about it.
 */
#include <assert.h>
#include <errno.h>

#include "lepus/base/mem.h"
#include "log_priv.h"

enum { NAME_DIGITS = 20, SCAN_WINDOW = 256 * 1024, COPY_BYTES = 256 * 1024 };

static bool
refuse(struct err *err, const char *what, const char *path, int rc)
{
    return err_set(err, INTERNAL_ERROR, "%s %s: %s", what, path, strerror(-rc));
}

/* --- names -------------------------------------------------------------------------------- */

struct names {
    uint64_t *segments, *indexes;
    size_t n_segments, n_indexes;
};

static bool
parse_name(const char *name, const char *suffix, uint64_t *out)
{
    uint64_t number = 0;

    for (size_t i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        if (number > (INT64_MAX - 9) / 10)
            return false;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    *out = number;
    return strcmp(name + NAME_DIGITS, suffix) == 0;
}

static void
add_number(uint64_t **numbers, size_t *n, uint64_t number)
{
    if ((*n & (*n - 1)) == 0) /* at each power of two */
        *numbers = mem_resize(*numbers, (*n > 0 ? *n * 2 : 1) * sizeof(**numbers));
    (*numbers)[(*n)++] = number;
}

static void
on_name(void *arg, const char *name)
{
    struct names *names = arg;
    uint64_t number;

    if (parse_name(name, ".seg", &number))
        add_number(&names->segments, &names->n_segments, number);
    else if (parse_name(name, ".idx", &number))
        add_number(&names->indexes, &names->n_indexes, number);
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool
is_listed(const struct names *names, uint64_t number)
{
    return names->n_segments > 0 &&
           bsearch(&number, names->segments, names->n_segments, sizeof(number), compare) != NULL;
}

static void
unlink_file(struct stream_log *log, uint64_t number, const char *suffix)
{
    const struct file_system *files = &log->settings.files;
    char path[PATH_SIZE];

    segment_path(path, log, number, suffix);
    files->ops->unlink(files->arg, path);
}

/* --- a segment's head --------------------------------------------------------------------- */

static bool
read_head(struct stream_log *log, uint64_t number, int fd, const char *path,
          struct stream_segment_head *out, bool *out_good, struct err *err)
{
    const struct file_system *files = &log->settings.files;
    uint8_t octets[STREAM_SEGMENT_HEAD];
    int64_t got = files->ops->read(files->arg, fd, octets, sizeof(octets), 0);
    uint32_t version;

    if (got < 0)
        return refuse(err, "read", path, (int)got);
    *out_good =
        stream_segment_parse(view_of(octets, (size_t)got), out, &version) == STREAM_CHUNK_GOOD &&
        out->first_offset == number && out->stream == log->settings.stream;
    if (!*out_good && version > 1 && version < 1000)
        return err_set(err, INTERNAL_ERROR, "%s is of version %u, this is version 1", path,
                       (unsigned)version);
    return true;
}

/* Every segment becomes one in the list: what its head and its name say. */
static bool
add_segment(struct stream_log *log, uint64_t number, bool is_newest, struct err *err)
{
    const struct file_system *files = &log->settings.files;
    struct stream_segment_head head = {0};
    struct segment *before = NULL, *segment;
    char path[PATH_SIZE];
    bool is_good;
    int64_t size;
    int fd;

    segment_path(path, log, number, ".seg");
    if ((fd = files->ops->open(files->arg, path, FILE_READ)) < 0)
        return refuse(err, "open", path, fd);
    if (!read_head(log, number, fd, path, &head, &is_good, err)) {
        files->ops->close(files->arg, fd);
        return false;
    }
    size = files->ops->size(files->arg, fd);
    files->ops->close(files->arg, fd);
    if (size < 0)
        return refuse(err, "size of", path, (int)size);
    if (!list_is_empty(&log->segments))
        before = container_of(log->segments.prev, struct segment, link);
    if (!is_good && !is_newest)
        log_tell(log, true, "%s: its head is damaged; its chunks speak for themselves", path);
    if (!is_good) /* if it never had a chunk, scanning will tell */
        head.first_timestamp = head.previous_timestamp = before != NULL ? before->last_ms : 0;
    if (before != NULL) {
        before->end_offset = number;
        if (head.previous_timestamp > before->last_ms)
            before->last_ms = head.previous_timestamp;
        if (head.first_timestamp < before->last_ms)
            head.first_timestamp = before->last_ms;
    }
    segment = log_add_segment(log, number, head.first_timestamp);
    log->bytes += (uint64_t)size - segment->size;
    segment->size = (uint64_t)size;
    return true;
}

/* --- the newest --------------------------------------------------------------------------- */

/* What a scan has found so far. */
struct scan {
    struct stream_log *log;
    struct segment *segment;
    const char *path;
    struct walk walk;
    uint64_t expected; /* the next id */
    uint64_t end;      /* behind the last good chunk */
    uint64_t durable;
    uint64_t batch_at; /* where the last batch starts */
    uint64_t last_id, last_at;
    int64_t last_ms;
    uint32_t chunks;
    uint64_t sure;    /* what is below was durable: the index says so */
    struct buf index; /* entries from index_at on */
    uint64_t index_at, indexed_at;
};

static bool
has_good_data(struct walk *walk, struct stream_chunk *chunk)
{
    const uint8_t *octets = walk_chunk(walk, chunk);

    if (octets == NULL)
        return false;
    /* The window may have moved. */
    return stream_chunk_parse(view_of(octets, chunk->head_len), chunk) == STREAM_CHUNK_GOOD &&
           stream_chunk_sum(view_of(octets + chunk->head_len, chunk->data_len)) == chunk->data_crc;
}

static void
accept(struct scan *s, const struct stream_chunk *chunk)
{
    uint64_t at = s->walk.position;

    if (chunk->durable > s->durable || s->chunks == 0) {
        s->durable = chunk->durable;
        s->batch_at = at;
    }
    if (at - s->indexed_at >= STREAM_INDEX_EVERY) {
        const struct stream_index_entry entry = {chunk->id, chunk->timestamp_ms, (uint32_t)at};
        uint8_t octets[STREAM_INDEX_ENTRY];

        stream_index_put(&entry, s->segment->first_offset, octets);
        buf_append(&s->index, octets, sizeof(octets));
        s->indexed_at = at;
    }
    s->last_id = chunk->id;
    s->last_at = at;
    s->last_ms = chunk->timestamp_ms;
    s->expected = chunk->id + chunk->records;
    s->walk.position = s->end = at + stream_chunk_size(chunk);
    s->chunks++;
}

/* From a place where no good chunk stands: whether a good one stands further on that says that what
 * is missing was durable. Then the walk stands at the first good one. */
static bool
was_promised(struct scan *s, struct stream_chunk *out)
{
    uint64_t hole = s->walk.position, first = 0, missing = s->expected;
    struct stream_chunk chunk;
    bool is_promised = false;

    while (!is_promised && walk_search(&s->walk, missing, &chunk) == WALK_CHUNK) {
        if (!has_good_data(&s->walk, &chunk))
            continue;
        if (first == 0)
            first = s->walk.position;
        is_promised = chunk.durable > missing;
    }
    s->walk.position = is_promised ? first : hole;
    return is_promised && walk_head(&s->walk, out) == WALK_CHUNK;
}

/* Reads to the end of what is good. False: the disk does not read. */
static bool
scan_chunks(struct scan *s)
{
    struct stream_chunk chunk;

    for (;;) {
        enum walk_result result = walk_head(&s->walk, &chunk);

        if (result == WALK_FAILED)
            return false;
        if (result == WALK_CHUNK && chunk.id == s->expected && has_good_data(&s->walk, &chunk)) {
            accept(s, &chunk);
            continue;
        }
        if (s->walk.error != 0)
            return false;
        if (!was_promised(s, &chunk))
            return s->walk.error == 0;
        log_tell(s->log, true, "%s: octets %llu to %llu are damaged, offsets %llu to %llu are lost",
                 s->path, (unsigned long long)s->end, (unsigned long long)s->walk.position,
                 (unsigned long long)s->expected, (unsigned long long)(chunk.id - 1));
        accept(s, &chunk);
    }
}

/* The last index entry that a chunk confirms; the segment's start if there is none. */
static void
start_from_index(struct scan *s, const struct file_system *files)
{
    uint64_t number = s->segment->first_offset;
    struct stream_index_entry entry;
    struct stream_chunk chunk;
    char path[PATH_SIZE];
    uint8_t octets[STREAM_INDEX_ENTRY];
    int64_t size;
    uint64_t n;
    int fd;

    s->walk.position = s->end = s->indexed_at = STREAM_SEGMENT_HEAD;
    s->index_at = 0;
    s->expected = number;
    segment_path(path, s->log, number, ".idx");
    if ((fd = files->ops->open(files->arg, path, FILE_READ)) < 0)
        return;
    size = files->ops->size(files->arg, fd);
    for (n = size > 0 ? (uint64_t)size / STREAM_INDEX_ENTRY : 0; n > 0; n--) {
        if (files->ops->read(files->arg, fd, octets, sizeof(octets),
                             (n - 1) * STREAM_INDEX_ENTRY) != (int64_t)sizeof(octets) ||
            !stream_index_get(octets, number, &entry) || entry.position >= s->walk.limit ||
            entry.position < STREAM_SEGMENT_HEAD)
            continue;
        if (entry.id >= s->sure)
            s->sure = entry.id + 1;
        s->walk.position = entry.position;
        if (walk_head(&s->walk, &chunk) == WALK_CHUNK && chunk.id == entry.id &&
            chunk.id >= number && has_good_data(&s->walk, &chunk))
            break;
    }
    files->ops->close(files->arg, fd);
    s->walk.position = s->end = s->indexed_at =
        n > 0 ? entry.position : (uint64_t)STREAM_SEGMENT_HEAD;
    if (n > 0) {
        s->expected = entry.id;
        s->index_at = n * STREAM_INDEX_ENTRY;
        s->chunks = 1; /* it is not the first: there may be a batch before it */
        s->batch_at = entry.position;
        s->durable = chunk.durable;
    }
}

/* What was written last may only seem to be on disk: it is written again. */
static int
write_again(const struct file_system *files, int fd, uint64_t from, uint64_t to)
{
    uint8_t *octets = mem_alloc(COPY_BYTES);
    int64_t got = 0;
    int rc = 0;

    while (rc == 0 && from < to) {
        size_t n = to - from < COPY_BYTES ? (size_t)(to - from) : COPY_BYTES;
        struct iovec iov = {octets, n};

        got = files->ops->read(files->arg, fd, octets, n, from);
        rc = got < 0 ? (int)got : got < (int64_t)n ? -EIO : 0;
        if (rc == 0)
            rc = files->ops->write(files->arg, fd, &iov, 1, from);
        from += n;
    }
    free(octets);
    return rc;
}

static void
write_index(struct scan *s, const struct file_system *files)
{
    struct iovec iov = {s->index.at, s->index.len};
    char path[PATH_SIZE];
    int fd;

    segment_path(path, s->log, s->segment->first_offset, ".idx");
    fd = files->ops->open(files->arg, path, FILE_CREATE);
    if (fd < 0)
        return; /* looking for offsets will take longer */
    files->ops->truncate(files->arg, fd, s->index_at);
    if (s->index.len > 0)
        files->ops->write(files->arg, fd, &iov, 1, s->index_at);
    files->ops->close(files->arg, fd);
}

/* Cuts the segment behind its last good chunk, and makes sure of the last batch. */
static bool
settle(struct scan *s, int fd, struct err *err)
{
    struct stream_log *log = s->log;
    const struct file_system *files = &log->settings.files;
    /* With the first batch the segment's head; and the names that lead to it. */
    uint64_t from = s->batch_at == STREAM_SEGMENT_HEAD ? 0 : s->batch_at;
    int rc;

    if ((rc = write_again(files, fd, from, s->end)) < 0 ||
        (s->sure <= s->expected && (rc = files->ops->truncate(files->arg, fd, s->end)) < 0) ||
        (rc = files->ops->sync(files->arg, fd)) < 0 ||
        (rc = files->ops->sync_dir(files->arg, log->folder)) < 0 ||
        (rc = files->ops->sync_dir(files->arg, log->settings.dir)) < 0)
        return refuse(err, "settle", s->path, rc);
    write_index(s, files);
    return true;
}

/* How much of the file behind the end is more than room that was allocated. */
static bool
is_torn(struct scan *s)
{
    struct stream_chunk chunk;

    s->walk.position = s->end;
    if (s->end >= s->walk.limit)
        return false;
    return walk_head(&s->walk, &chunk) != WALK_END &&
           (s->walk.len > 0 && s->walk.window[s->end - s->walk.window_at] != 0);
}

static void
take_over(struct scan *s)
{
    struct stream_log *log = s->log;
    struct segment *segment = s->segment;

    log->bytes += s->end - segment->size;
    segment->size = s->end;
    segment->end_offset = s->expected;
    if (s->last_ms > segment->last_ms)
        segment->last_ms = s->last_ms;
    log->last_ms = segment->last_ms;
    log->last.segment = segment;
    log->last.id = s->last_id;
    log->last.position = s->last_at;
    log->index_size = s->index_at + s->index.len;
    log->indexed_at = s->indexed_at;
    log->chunks = s->chunks;
}

/* Reads the newest segment. *out_empty: no good chunk is in it. */
static bool
scan_newest(struct stream_log *log, struct segment *segment, bool *out_empty,
            uint64_t *out_promised, struct err *err)
{
    const struct file_system *files = &log->settings.files;
    struct scan s = {.log = log, .segment = segment};
    char path[PATH_SIZE];
    bool done = false;
    int fd;

    segment_path(path, log, segment->first_offset, ".seg");
    s.path = path;
    if ((fd = files->ops->open(files->arg, path, FILE_WRITE)) < 0)
        return refuse(err, "open", path, fd);
    buf_init(&s.index, SIZE_MAX);
    walk_init(&s.walk, files, fd, 0, segment->size, SCAN_WINDOW);
    start_from_index(&s, files);
    if (!scan_chunks(&s)) {
        refuse(err, "read", path, s.walk.error);
        goto out;
    }
    *out_empty = s.end == STREAM_SEGMENT_HEAD;
    if (s.sure > *out_promised)
        *out_promised = s.sure;
    if (*out_empty) {
        done = true;
        goto out;
    }
    if (s.sure <= s.expected && is_torn(&s))
        log_tell(log, false, "%s: cut at octet %llu, offset %llu: what follows was not finished",
                 path, (unsigned long long)s.end, (unsigned long long)s.expected);
    done = settle(&s, fd, err);
    if (done)
        take_over(&s);
out:
    walk_fini(&s.walk);
    buf_fini(&s.index);
    files->ops->close(files->arg, fd);
    return done;
}

/* --- all ---------------------------------------------------------------------------------- */

static void
drop_newest(struct stream_log *log, struct segment *segment)
{
    unlink_file(log, segment->first_offset, ".idx");
    unlink_file(log, segment->first_offset, ".seg");
    list_remove(&segment->link);
    log->n_segments--;
    log->bytes -= segment->size;
    free(segment);
}

/* Segments that never got a chunk go, until one is found that has some. */
static bool
find_end(struct stream_log *log, struct err *err)
{
    uint64_t promised = 0; /* a segment begins where all before it was committed */
    bool is_empty;

    while (!list_is_empty(&log->segments)) {
        struct segment *newest = container_of(log->segments.prev, struct segment, link);

        if (!scan_newest(log, newest, &is_empty, &promised, err))
            return false;
        if (!is_empty) {
            log->committed = newest->end_offset;
            log->active = newest;
            break;
        }
        if (newest->first_offset > promised)
            promised = newest->first_offset;
        if (newest->size > STREAM_SEGMENT_HEAD)
            log_tell(log, false, "%s/%020llu.seg: no chunk in it was finished", log->folder,
                     (unsigned long long)newest->first_offset);
        drop_newest(log, newest);
    }
    if (promised > log->committed) {
        if (log->active != NULL)
            log_tell(log, true, "offsets %llu to %llu are lost", (unsigned long long)log->committed,
                     (unsigned long long)(promised - 1));
        log->committed = promised;
        log->active = NULL; /* what comes next does not follow on its last chunk */
    }
    return true;
}

static bool
recover(struct stream_log *log, struct names *names, struct err *err)
{
    if (names->n_segments > 0)
        qsort(names->segments, names->n_segments, sizeof(uint64_t), compare);
    for (size_t i = 0; i < names->n_indexes; i++)
        if (!is_listed(names, names->indexes[i]))
            unlink_file(log, names->indexes[i], ".idx");
    for (size_t i = 0; i < names->n_segments; i++)
        if (!add_segment(log, names->segments[i], i + 1 == names->n_segments, err))
            return false;
    if (!find_end(log, err))
        return false;
    log->next = log->committed;
    log->first = list_is_empty(&log->segments)
                     ? log->committed
                     : container_of(log->segments.next, struct segment, link)->first_offset;
    return true;
}

bool
stream_log_recover(struct stream_log *log, struct err *err)
{
    const struct file_system *files = &log->settings.files;
    struct names names = {0};
    bool done;
    int rc;

    assert(log->next == 0);
    rc = files->ops->list_dir(files->arg, log->folder, on_name, &names);
    if (rc == -ENOENT)
        return true; /* made, and never written to */
    if (rc < 0)
        return refuse(err, "list", log->folder, rc);
    done = recover(log, &names, err);
    free(names.segments);
    free(names.indexes);
    /* The folder's name may not be on disk if nothing in it was ever promised. */
    log->has_folder = log->n_segments > 0;
    return done;
}

/* --- folders of streams that are gone ----------------------------------------------------- */

enum { FOLDER_DIGITS = 16 };

struct folders {
    uint64_t *streams;
    size_t n;
};

static void
on_folder(void *arg, const char *name)
{
    struct folders *folders = arg;
    uint64_t stream = 0;

    for (size_t i = 0; i < FOLDER_DIGITS; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = name[i] != '\0' ? strchr(digits, name[i]) : NULL;

        if (digit == NULL)
            return;
        stream = stream << 4 | (uint64_t)(digit - digits);
    }
    if (name[FOLDER_DIGITS] == '\0')
        add_number(&folders->streams, &folders->n, stream);
}

struct sweeping {
    const struct file_system *files;
    char folder[PATH_SIZE / 2];
    struct {
        char (*at)[NAME_DIGITS + 8];
        size_t n;
    } names;
};

/* What a stream writes there: segments, indexes, offsets.0 and .1. */
static void
on_old_name(void *arg, const char *name)
{
    struct sweeping *sweeping = arg;
    size_t n = sweeping->names.n;
    uint64_t number;

    if (!parse_name(name, ".seg", &number) && !parse_name(name, ".idx", &number) &&
        strcmp(name, "offsets.0") != 0 && strcmp(name, "offsets.1") != 0)
        return;
    if ((n & (n - 1)) == 0)
        sweeping->names.at =
            mem_resize(sweeping->names.at, (n > 0 ? n * 2 : 1) * sizeof(sweeping->names.at[0]));
    snprintf(sweeping->names.at[sweeping->names.n++], sizeof(sweeping->names.at[0]), "%s", name);
}

static void
sweep_folder(struct sweeping *sweeping)
{
    const struct file_system *files = sweeping->files;
    char path[PATH_SIZE];

    sweeping->names.n = 0;
    if (files->ops->list_dir(files->arg, sweeping->folder, on_old_name, sweeping) < 0)
        return;
    for (size_t i = 0; i < sweeping->names.n; i++) {
        snprintf(path, sizeof(path), "%s/%s", sweeping->folder, sweeping->names.at[i]);
        files->ops->unlink(files->arg, path);
    }
    files->ops->remove_dir(files->arg, sweeping->folder);
}

void
stream_sweep(const char *dir, const struct file_system *files,
             bool (*is_ours)(void *arg, uint64_t stream), void *arg)
{
    struct sweeping sweeping = {.files = files};
    struct folders folders = {0};

    if (files->ops->list_dir(files->arg, dir, on_folder, &folders) == 0) {
        for (size_t i = 0; i < folders.n; i++) {
            if (is_ours(arg, folders.streams[i]))
                continue;
            snprintf(sweeping.folder, sizeof(sweeping.folder), "%s/%016llx", dir,
                     (unsigned long long)folders.streams[i]);
            sweep_folder(&sweeping);
        }
    }
    free(folders.streams);
    free(sweeping.names.at);
}
