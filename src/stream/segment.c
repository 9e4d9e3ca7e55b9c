#include <assert.h>
#include <errno.h>

#include "lepus/base/mem.h"
#include "log_priv.h"

enum { PROBE_MAX = 64, ENTRIES_AT_ONCE = 1024 };

void
segment_path(char *out, const struct stream_log *log, uint64_t first_offset, const char *suffix)
{
    snprintf(out, PATH_SIZE, "%s/%020llu%s", log->folder, (unsigned long long)first_offset, suffix);
}

/* --- walking ------------------------------------------------------------------------------ */

void
walk_init(struct walk *walk, const struct file_system *files, int fd, uint64_t position,
          uint64_t limit, size_t window)
{
    *walk = (struct walk){.files = files, .fd = fd, .position = position, .limit = limit};
    walk->window = mem_alloc(window);
    walk->size = window;
}

void
walk_fini(struct walk *walk)
{
    free(walk->window);
    walk->window = NULL;
}

/* The octets at `position`: at least `need` of them unless the limit or the file's end comes
 * before. False: reading failed. */
static bool
fill(struct walk *walk, uint64_t position, size_t need, struct view *out)
{
    uint64_t left = walk->limit > position ? walk->limit - position : 0, have;
    size_t want;
    int64_t got;

    if (need > left)
        need = (size_t)left;
    have = position >= walk->window_at ? position - walk->window_at : UINT64_MAX;
    if (have > walk->len || walk->len - have < need) {
        if (need > walk->size) {
            uint8_t *larger = mem_try_resize(walk->window, need);

            if (larger == NULL) {
                walk->error = -ENOMEM;
                return false;
            }
            walk->window = larger;
            walk->size = need;
        }
        want = walk->size < left ? walk->size : (size_t)left;
        walk->len = 0;
        got = want > 0
                  ? walk->files->ops->read(walk->files->arg, walk->fd, walk->window, want, position)
                  : 0;
        if (got < 0) {
            walk->error = (int)got;
            return false;
        }
        walk->len = (size_t)got;
        walk->window_at = position;
        have = 0;
    }
    *out = view_of(walk->window + have, walk->len - (size_t)have);
    if (out->len > left)
        out->len = (size_t)left;
    return true;
}

static bool
is_zero(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.at[i] != 0)
            return false;
    return true;
}

enum walk_result
walk_head(struct walk *walk, struct stream_chunk *out)
{
    struct view octets;

    if (!fill(walk, walk->position, STREAM_HEAD_MAX, &octets))
        return WALK_FAILED;
    if (octets.len == 0)
        return WALK_END;
    switch (stream_chunk_parse(octets, out)) {
    case STREAM_CHUNK_GOOD:
        return stream_chunk_size(out) <= walk->limit - walk->position ? WALK_CHUNK : WALK_BAD;
    case STREAM_CHUNK_SHORT:
    case STREAM_CHUNK_BAD:
        break;
    }
    /* Room that was allocated and not used yet. Zeroes all through, or something stands behind a
     * hole: walk_search finds that. */
    return is_zero(octets) && octets.len < STREAM_HEAD_MIN ? WALK_END : WALK_BAD;
}

enum walk_result
walk_search(struct walk *walk, uint64_t id, struct stream_chunk *out)
{
    uint64_t at = walk->position + 1;
    struct view octets;
    size_t found;

    while (at < walk->limit) {
        if (!fill(walk, at, STREAM_HEAD_MAX + 1, &octets))
            return WALK_FAILED;
        found = stream_chunk_search(octets, 0);
        if (found == octets.len) {
            if (octets.len <= STREAM_HEAD_MIN)
                break;
            at += octets.len - STREAM_HEAD_MIN; /* a head may begin in what is left */
            continue;
        }
        at += found;
        walk->position = at;
        if (walk_head(walk, out) == WALK_CHUNK && out->id >= id)
            return WALK_CHUNK;
        at++;
    }
    walk->position = walk->limit;
    return WALK_END;
}

const uint8_t *
walk_chunk(struct walk *walk, const struct stream_chunk *chunk)
{
    size_t size = stream_chunk_size(chunk);
    struct view octets;

    if (!fill(walk, walk->position, size, &octets))
        return NULL;
    if (octets.len < size) {
        walk->error = -EIO; /* the file became shorter */
        return NULL;
    }
    return octets.at;
}

/* --- the index ---------------------------------------------------------------------------- */

static bool
read_entry(const struct file_system *files, int fd, uint64_t number, uint64_t first_offset,
           struct stream_index_entry *out)
{
    uint8_t octets[STREAM_INDEX_ENTRY];

    return files->ops->read(files->arg, fd, octets, sizeof(octets), number * STREAM_INDEX_ENTRY) ==
               (int64_t)sizeof(octets) &&
           stream_index_get(octets, first_offset, out);
}

static bool
is_before(const struct stream_index_entry *entry, const struct target *target)
{
    return target->is_time ? entry->timestamp_ms < target->time_ms : entry->id <= target->offset;
}

/* The last entry that the target cannot lie before; the segment's start when there is none. False:
 * the index cannot be used. */
static bool
search_index(const struct file_system *files, int fd, uint64_t first_offset, uint64_t limit,
             const struct target *target, uint64_t *out_position)
{
    int64_t size = files->ops->size(files->arg, fd);
    uint64_t low = 0, high = size > 0 ? (uint64_t)size / STREAM_INDEX_ENTRY : 0;
    struct stream_index_entry entry;

    if (size < 0)
        return false;
    *out_position = STREAM_SEGMENT_HEAD;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (!read_entry(files, fd, middle, first_offset, &entry))
            return false;
        if (!is_before(&entry, target) || entry.position >= limit) {
            high = middle;
            continue;
        }
        low = middle + 1;
        *out_position = entry.position;
    }
    return true;
}

/* Opens the index and looks; nothing is believed that the segment does not confirm. */
static bool
ask_index(const struct stream_log *log, const struct file_system *files, int fd,
          uint64_t first_offset, uint64_t limit, const struct target *target,
          uint64_t *out_position)
{
    char path[PATH_SIZE];
    struct stream_chunk chunk;
    struct walk walk;
    bool is_good;
    int index;

    segment_path(path, log, first_offset, ".idx");
    index = files->ops->open(files->arg, path, FILE_READ);
    if (index < 0)
        return false;
    is_good = search_index(files, index, first_offset, limit, target, out_position);
    files->ops->close(files->arg, index);
    if (!is_good)
        return false;
    walk_init(&walk, files, fd, *out_position, limit, STREAM_HEAD_MAX);
    is_good =
        walk_head(&walk, &chunk) == WALK_CHUNK &&
        (target->is_time || chunk.id <= target->offset || *out_position == STREAM_SEGMENT_HEAD);
    walk_fini(&walk);
    return is_good;
}

/* Makes the index of a closed segment again. Failing is fine: it stays as it is. */
static void
rebuild_index(const struct stream_log *log, const struct file_system *files, int fd,
              uint64_t first_offset, uint64_t limit)
{
    uint64_t indexed_at = STREAM_SEGMENT_HEAD, at = 0;
    uint8_t *octets;
    char path[PATH_SIZE];
    struct stream_chunk chunk;
    enum walk_result result;
    struct walk walk;
    size_t n = 0;
    int index, rc = 0;

    segment_path(path, log, first_offset, ".idx");
    index = files->ops->open(files->arg, path, FILE_CREATE);
    if (index < 0)
        return;
    files->ops->truncate(files->arg, index, 0);
    octets = mem_alloc(ENTRIES_AT_ONCE * STREAM_INDEX_ENTRY);
    walk_init(&walk, files, fd, STREAM_SEGMENT_HEAD, limit, WALK_WINDOW);
    do {
        struct iovec iov = {octets, 0};

        result = walk_head(&walk, &chunk);
        if (result == WALK_BAD)
            result = walk_search(&walk, first_offset, &chunk);
        if (result == WALK_CHUNK) {
            if (walk.position - indexed_at >= STREAM_INDEX_EVERY) {
                const struct stream_index_entry entry = {chunk.id, chunk.timestamp_ms,
                                                         (uint32_t)walk.position};

                stream_index_put(&entry, first_offset, octets + n++ * STREAM_INDEX_ENTRY);
                indexed_at = walk.position;
            }
            walk.position += stream_chunk_size(&chunk);
        }
        iov.iov_len = n * STREAM_INDEX_ENTRY;
        if (n > 0 && (n == ENTRIES_AT_ONCE || result != WALK_CHUNK)) {
            rc = files->ops->write(files->arg, index, &iov, 1, at);
            at += n * STREAM_INDEX_ENTRY;
            n = 0;
        }
    } while (result == WALK_CHUNK && rc == 0);
    walk_fini(&walk);
    free(octets);
    files->ops->close(files->arg, index);
}

static bool
is_reached(const struct stream_chunk *chunk, const struct target *target)
{
    return target->is_time ? chunk->timestamp_ms >= target->time_ms
                           : chunk->id + chunk->records > target->offset;
}

bool
segment_locate(const struct stream_log *log, const struct file_system *files, int fd,
               uint64_t first_offset, uint64_t limit, const struct target *target, bool may_write,
               uint64_t *out_position, int *out_error)
{
    uint64_t position = STREAM_SEGMENT_HEAD;
    struct stream_chunk chunk;
    enum walk_result result;
    struct walk walk;

    if (!ask_index(log, files, fd, first_offset, limit, target, &position)) {
        if (may_write)
            rebuild_index(log, files, fd, first_offset, limit);
        if (!may_write || !ask_index(log, files, fd, first_offset, limit, target, &position))
            position = STREAM_SEGMENT_HEAD;
    }
    walk_init(&walk, files, fd, position, limit, WALK_WINDOW);
    for (;;) {
        result = walk_head(&walk, &chunk);
        if (result == WALK_BAD)
            result = walk_search(&walk, first_offset, &chunk);
        if (result != WALK_CHUNK || is_reached(&chunk, target))
            break;
        walk.position += stream_chunk_size(&chunk);
    }
    *out_position = walk.position;
    *out_error = walk.error;
    walk_fini(&walk);
    return result != WALK_FAILED;
}
