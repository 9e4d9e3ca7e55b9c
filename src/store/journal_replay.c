/*
 * journal_replay: the reader.
 *
 *   1  the folder's files become segments, by their heads; grouped by term and journal
 *   2  each group is indexed: every good frame, by lsn. What cannot be a frame is passed over,
 * looking for the next one that is 3  from the group's low on the frames are told in order, until
 * the torn tail; gaps before it are damage
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_priv.h"
#include "octets_le.h"

#include "lepus/base/mem.h"

struct segment {
    char *path;
    struct segment_head head;
    uint64_t size;
    bool has_bad_head;
    uint64_t
        bad_at; /* where the first octets stand that are no frame, before one that is; 0: none */
};

struct indexed {
    uint64_t lsn, at;
    uint32_t segment, len;
};

struct replay {
    const char *dir;
    char *folder;
    const struct file_system *files;
    journal_each *each;
    journal_tell *tell;
    void *arg;
    struct journal_found *found;

    struct segment *segments;
    size_t n_segments, segments_size;

    struct indexed *index; /* of the group at hand */
    size_t n_index, index_size;
    uint64_t low, synced; /* the highest of its frames */

    uint8_t *octets; /* a whole segment */
    size_t room;
    uint32_t loaded; /* which, + 1 */
    struct err *err;
    bool is_unreadable; /* *err says what */
};

static void tell(struct replay *r, bool is_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
tell(struct replay *r, bool is_error, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    r->found->corrupt += is_error;
    r->tell(r->arg, is_error, line);
}

/* --- segments -------------------------------------------------------------------------- */

static int
read_all(struct replay *r, const char *path, void *to, size_t n, uint64_t *out_size)
{
    const struct file_system *files = r->files;
    int fd = files->ops->open(files->arg, path, FILE_READ);
    int64_t size, got;

    if (fd < 0)
        return fd;
    size = files->ops->size(files->arg, fd);
    got = size < 0 ? size : files->ops->read(files->arg, fd, to, n, 0);
    files->ops->close(files->arg, fd);
    if (got < 0)
        return (int)got;
    *out_size = (uint64_t)size;
    return got < (int64_t)n ? -ENODATA : 0;
}

/* Whether anything is in it is not known: to go on without it would be to lose it. */
static bool
cannot_read(struct replay *r, const char *path, int rc)
{
    r->is_unreadable = true;
    return err_set(r->err, RESOURCE_ERROR, "%s: %s", path, strerror(-rc));
}

/* The head is damaged: what frames say of themselves must do. A slot that was about to be used
 * again looks the same; its frames are old ones, and wanted no more. */
static bool
guess_head(struct replay *r, struct segment *segment)
{
    uint8_t *octets = mem_try((size_t)segment->size);
    unsigned long long journal = 0, term, slot;
    uint64_t size;
    bool found = false;
    int rc;

    (void)sscanf(strrchr(segment->path, '/') + 1, "%llu-%llu-%llu", &journal, &term, &slot);
    rc =
        octets == NULL ? -ENOMEM : read_all(r, segment->path, octets, (size_t)segment->size, &size);
    if (rc != 0) {
        free(octets);
        return cannot_read(r, segment->path, rc);
    }
    for (uint64_t at = SEGMENT_HEAD_SIZE; at + FRAME_HEAD_LEN <= segment->size; at += 8) {
        struct frame_head head;

        if (get_le32(octets + at) != FRAME_MAGIC || !frame_head_decode(octets + at, &head) ||
            head.len > segment->size - at - FRAME_HEAD_LEN || !frame_is_good(octets + at, &head) ||
            (found && head.generation <= segment->head.generation))
            continue;
        found = true;
        segment->head = (struct segment_head){.version = JOURNAL_VERSION,
                                              .journal = (uint32_t)journal,
                                              .generation = head.generation,
                                              .term = head.term,
                                              .first_lsn = head.lsn};
    }
    segment->has_bad_head = found;
    free(octets);
    return found;
}

static void
on_name(void *arg, const char *name)
{
    struct replay *r = arg;
    uint8_t octets[SEGMENT_HEAD_SIZE];
    struct segment segment = {0};
    size_t size = strlen(r->folder) + strlen(name) + 2;
    size_t len = strlen(name);
    int rc;

    if (len < 4 || strcmp(name + len - 4, ".log") != 0)
        return;
    segment.path = mem_alloc(size);
    snprintf(segment.path, size, "%s/%s", r->folder, name);
    rc = read_all(r, segment.path, octets, sizeof(octets), &segment.size);
    if (rc != 0 && rc != -ENODATA)
        cannot_read(r, segment.path, rc);
    if (rc == 0 && !segment_head_decode(octets, &segment.head))
        rc = guess_head(r, &segment) ? 0 : -EBADMSG;
    if (rc != 0) { /* just made, or about to be used again */
        free(segment.path);
        return;
    }
    if (r->n_segments == r->segments_size) {
        r->segments_size = r->segments_size > 0 ? r->segments_size * 2 : 16;
        r->segments = mem_resize(r->segments, r->segments_size * sizeof(r->segments[0]));
    }
    r->segments[r->n_segments++] = segment;
}

static int
compare_segments(const void *a, const void *b)
{
    const struct segment_head *x = &((const struct segment *)a)->head;
    const struct segment_head *y = &((const struct segment *)b)->head;

    if (x->term != y->term)
        return x->term < y->term ? -1 : 1;
    if (x->journal != y->journal)
        return x->journal < y->journal ? -1 : 1;
    return x->generation < y->generation ? -1 : x->generation > y->generation;
}

static bool
load(struct replay *r, uint32_t i)
{
    struct segment *segment = &r->segments[i];
    uint64_t size;
    int rc;

    if (r->loaded == i + 1)
        return true;
    r->loaded = 0;
    if (segment->size > r->room) {
        free(r->octets);
        r->octets = mem_try((size_t)segment->size);
        r->room = r->octets != NULL ? (size_t)segment->size : 0;
    }
    if (r->room < segment->size)
        return err_set(r->err, RESOURCE_ERROR, "%s: no memory to read it", segment->path);
    rc = read_all(r, segment->path, r->octets, (size_t)segment->size, &size);
    if (rc != 0)
        return cannot_read(r, segment->path, rc);
    r->loaded = i + 1;
    return true;
}

/* --- frames ---------------------------------------------------------------------------- */

static bool
frame_at(const struct replay *r, const struct segment *segment, uint64_t at, struct frame_head *out)
{
    if (segment->size - at < FRAME_HEAD_LEN || !frame_head_decode(r->octets + at, out))
        return false;
    return out->generation == segment->head.generation && out->term == segment->head.term &&
           out->len <= segment->size - at - FRAME_HEAD_LEN && frame_is_good(r->octets + at, out);
}

static void
add_frame(struct replay *r, uint32_t segment, uint64_t at, const struct frame_head *head)
{
    if (r->n_index == r->index_size) {
        r->index_size = r->index_size > 0 ? r->index_size * 2 : 256;
        r->index = mem_resize(r->index, r->index_size * sizeof(r->index[0]));
    }
    r->index[r->n_index++] = (struct indexed){head->lsn, at, segment, head->len};
    if (head->low > r->low)
        r->low = head->low;
    if (head->synced > r->synced)
        r->synced = head->synced;
}

static bool
index_segment(struct replay *r, uint32_t i)
{
    struct segment *segment = &r->segments[i];
    uint64_t bad = 0;

    if (!load(r, i))
        return false;
    for (uint64_t at = SEGMENT_HEAD_SIZE; at + FRAME_HEAD_LEN <= segment->size;) {
        struct frame_head head;

        if (get_le32(r->octets + at) != FRAME_MAGIC || !frame_at(r, segment, at, &head)) {
            bad = bad != 0 ? bad : at;
            at += 8;
            continue;
        }
        if (bad != 0 && segment->bad_at == 0)
            segment->bad_at = bad;
        bad = 0;
        add_frame(r, i, at, &head);
        at += frame_size(head.len);
    }
    if (bad != 0 && segment->bad_at == 0)
        segment->bad_at = bad;
    return true;
}

static int
compare_indexed(const void *a, const void *b)
{
    const struct indexed *x = a, *y = b;

    if (x->lsn != y->lsn)
        return x->lsn < y->lsn ? -1 : 1;
    return x->segment < y->segment ? -1 : x->segment > y->segment;
}

/* --- damage ---------------------------------------------------------------------------- */

static void
quarantine(struct replay *r, const struct segment *segment)
{
    const struct file_system *files = r->files;
    size_t size = strlen(r->dir) + 128;
    char *path = mem_alloc(size);
    struct iovec iov;
    uint8_t *copy = NULL;
    uint64_t got = 0;
    int fd;

    snprintf(path, size, "%s/quarantine", r->dir);
    (void)files->ops->make_dir(files->arg, path);
    snprintf(path, size, "%s/quarantine/%s.%" PRIu64, r->dir, strrchr(segment->path, '/') + 1,
             segment->head.generation);
    fd = files->ops->open(files->arg, path, FILE_READ);
    if (fd < 0 && (copy = mem_try((size_t)segment->size)) != NULL &&
        read_all(r, segment->path, copy, (size_t)segment->size, &got) == 0) {
        fd = files->ops->open(files->arg, path, FILE_CREATE);
        iov = (struct iovec){copy, (size_t)segment->size};
        if (fd >= 0 && files->ops->write(files->arg, fd, &iov, 1, 0) != 0)
            r->tell(r->arg, true, "the damaged segment could not be copied into quarantine");
    }
    if (fd >= 0)
        files->ops->close(files->arg, fd);
    free(copy);
    free(path);
}

/* Nothing is lost with it. */
static void
report_head(struct replay *r, const struct segment *segment)
{
    char line[1024];

    snprintf(line, sizeof(line),
             "%s: damaged at octet 0: its head; its frames are used; the file is kept in "
             "%s/quarantine",
             segment->path, r->dir);
    r->tell(r->arg, true, line);
}

/* Frames [first, last] are not there, though they were synced. */
static void
report_gap(struct replay *r, size_t group, size_t group_end, uint64_t first, uint64_t last)
{
    for (size_t i = group; i < group_end; i++) {
        const struct segment *segment = &r->segments[i];

        if (segment->bad_at == 0 || segment->head.first_lsn > last)
            continue;
        if (i + 1 < group_end && r->segments[i + 1].head.first_lsn <= first)
            continue;
        tell(r, true,
             "%s: damaged at octet %" PRIu64 ": frames %" PRIu64 " to %" PRIu64
             " are lost; the file is kept in %s/quarantine",
             segment->path, segment->bad_at, first, last, r->dir);
        quarantine(r, segment);
        return;
    }
    tell(r, true,
         "%s: frames %" PRIu64 " to %" PRIu64 " of journal %" PRIu32 ", term %" PRIu64 " are lost",
         r->folder, first, last, r->segments[group].head.journal, r->segments[group].head.term);
}

/* --- telling --------------------------------------------------------------------------- */

static bool
tell_frame(struct replay *r, const struct indexed *at)
{
    struct segment *segment = &r->segments[at->segment];
    struct journal_frame frame;
    struct frame_head head;

    if (!load(r, at->segment))
        return false;
    if (!frame_at(r, segment, at->at, &head))
        return true; /* it was there a moment ago: the disk is failing */
    if (segment->has_bad_head) {
        segment->has_bad_head = false; /* said once */
        report_head(r, segment);
        quarantine(r, segment);
    }
    frame = (struct journal_frame){
        .journal = segment->head.journal,
        .term = head.term,
        .lsn = head.lsn,
        .wall_ms = head.wall_ms,
        .count = head.count,
        .payload = view_of(r->octets + at->at + FRAME_HEAD_LEN, head.len),
    };
    r->found->bytes += head.len;
    if (head.lsn > r->found->lsn)
        r->found->lsn = head.lsn;
    return r->each(r->arg, &frame, r->err);
}

/* One journal of one term. */
static bool
replay_group(struct replay *r, size_t group, size_t group_end)
{
    uint64_t expected;

    r->n_index = 0;
    r->low = r->synced = 0;
    for (size_t i = group; i < group_end; i++)
        if (!index_segment(r, (uint32_t)i))
            return false;
    if (r->n_index > 1)
        qsort(r->index, r->n_index, sizeof(r->index[0]), compare_indexed);
    expected = r->low;
    for (size_t i = 0; i < r->n_index; i++) {
        const struct indexed *at = &r->index[i];

        if (at->lsn < expected)
            continue; /* wanted no more, or written twice */
        if (at->lsn > expected && expected > r->synced) {
            tell(r, false,
                 "%s: journal %" PRIu32 " ends torn: frames from %" PRIu64 " on are dropped",
                 r->folder, r->segments[group].head.journal, expected);
            break;
        }
        if (at->lsn > expected)
            report_gap(r, group, group_end, expected, at->lsn - 1);
        if (!tell_frame(r, at))
            return false;
        expected = at->lsn + 1;
    }
    /* an lsn that was dropped is not given out again in this directory */
    if (r->n_index > 0 && r->index[r->n_index - 1].lsn > r->found->lsn)
        r->found->lsn = r->index[r->n_index - 1].lsn;
    return true;
}

static bool
check_versions(struct replay *r)
{
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct segment *segment = &r->segments[i];

        if (segment->head.version != JOURNAL_VERSION)
            return err_set(r->err, INTERNAL_ERROR,
                           "%s is of version %" PRIu32 "; this lepusd reads version %d",
                           segment->path, segment->head.version, JOURNAL_VERSION);
        if (segment->head.term > r->found->term)
            r->found->term = segment->head.term;
        if (segment->head.generation > r->found->generation)
            r->found->generation = segment->head.generation;
    }
    return true;
}

bool
journal_replay(const char *dir, const struct file_system *files, journal_each *each,
               journal_tell *tell_fn, void *arg, struct journal_found *out, struct err *err)
{
    struct replay r = {
        .dir = dir,
        .folder = journal_dir(dir),
        .files = files,
        .each = each,
        .tell = tell_fn,
        .arg = arg,
        .found = out,
        .err = err,
    };
    bool ok = true;
    int rc;

    *out = (struct journal_found){0};
    rc = files->ops->list_dir(files->arg, r.folder, on_name, &r);
    if (rc != 0 && rc != -ENOENT)
        ok = err_set(err, INTERNAL_ERROR, "%s: %s", r.folder, strerror(-rc));
    if (r.n_segments > 1)
        qsort(r.segments, r.n_segments, sizeof(r.segments[0]), compare_segments);
    ok = ok && !r.is_unreadable && check_versions(&r);
    for (size_t i = 0, end; ok && i < r.n_segments; i = end) {
        for (end = i + 1; end < r.n_segments; end++)
            if (r.segments[end].head.term != r.segments[i].head.term ||
                r.segments[end].head.journal != r.segments[i].head.journal)
                break;
        ok = replay_group(&r, i, end);
    }
    for (size_t i = 0; i < r.n_segments; i++)
        free(r.segments[i].path);
    free(r.segments);
    free(r.index);
    free(r.octets);
    free(r.folder);
    return ok;
}

/* --- the end of former terms ----------------------------------------------------------- */

struct drop {
    const char *folder;
    const struct file_system *files;
    uint64_t term;
    int rc;
};

static void
drop_name(void *arg, const char *name)
{
    struct drop *drop = arg;
    unsigned long long journal, term, slot;
    int end = 0;
    size_t size = strlen(drop->folder) + strlen(name) + 2;
    char *path;

    if (sscanf(name, "%llu-%llu-%llu.log%n", &journal, &term, &slot, &end) != 3 || end == 0 ||
        name[end] != '\0' || term >= drop->term)
        return;
    path = mem_alloc(size);
    snprintf(path, size, "%s/%s", drop->folder, name);
    if (drop->rc == 0)
        drop->rc = drop->files->ops->unlink(drop->files->arg, path);
    free(path);
}

bool
journal_drop_former(const char *dir, const struct file_system *files, uint64_t term,
                    struct err *err)
{
    char *folder = journal_dir(dir);
    struct drop drop = {folder, files, term, 0};
    int rc = files->ops->list_dir(files->arg, folder, drop_name, &drop);

    rc = rc != 0 && rc != -ENOENT ? rc : drop.rc;
    if (rc == 0)
        rc = files->ops->sync_dir(files->arg, folder); /* or a power cut brings them back */
    if (rc != 0)
        err_set(err, INTERNAL_ERROR, "%s: %s", folder, strerror(-rc));
    free(folder);
    return rc == 0;
}
