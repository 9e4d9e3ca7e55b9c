/*
 * journal_replay: the reader.
 *
 *   1  the folder's files become segments, by their heads; grouped by term and journal
 *   2  each group is indexed: every good frame, by lsn. What cannot be a frame is passed over,
 *      looking for the next one that is
 *   3  the torn tail is cut off; of the rest, the frames are told in order from the group's low on,
 *      and gaps are damage
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
    uint64_t bad_at; /* where the first octets are that are no frame, before one that is; or 0 */
};

struct indexed {
    uint64_t lsn, at, low;
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
    uint64_t only; /* files of terms below were about to be unlinked, and count no more */

    struct indexed *index; /* of the group at hand */
    size_t n_index, index_size;
    uint64_t synced; /* the highest of its frames */

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

/* journal-term-slot.log */
static bool
read_name(const char *name, uint32_t *out_journal, uint64_t *out_term)
{
    unsigned long long term;
    unsigned journal, slot;
    int end = 0;

    if (sscanf(name, "%u-%llu-%u.log%n", &journal, &term, &slot, &end) != 3 || end == 0 ||
        name[end] != '\0')
        return false;
    *out_journal = journal;
    *out_term = term;
    return true;
}

/* term.only */
static bool
read_only_name(const char *name, uint64_t *out_term)
{
    unsigned long long term;
    int end = 0;

    if (sscanf(name, "%llu.only%n", &term, &end) != 1 || end == 0 || name[end] != '\0')
        return false;
    *out_term = term;
    return true;
}

static void
add_segment(struct replay *r, const struct segment *segment)
{
    if (r->n_segments == r->segments_size) {
        r->segments_size = r->segments_size > 0 ? r->segments_size * 2 : 16;
        r->segments = mem_resize(r->segments, r->segments_size * sizeof(r->segments[0]));
    }
    r->segments[r->n_segments++] = *segment;
}

static void
on_name(void *arg, const char *name)
{
    struct replay *r = arg;
    uint8_t octets[SEGMENT_HEAD_SIZE];
    struct segment segment = {0};
    size_t size = strlen(r->folder) + strlen(name) + 2;
    uint32_t journal;
    uint64_t term;
    int rc;

    if (read_only_name(name, &term) && term > r->only)
        r->only = term;
    if (!read_name(name, &journal, &term))
        return;
    segment.path = mem_alloc(size);
    snprintf(segment.path, size, "%s/%s", r->folder, name);
    rc = read_all(r, segment.path, octets, sizeof(octets), &segment.size);
    if (rc == -ENODATA) { /* shorter than a head: just made */
        free(segment.path);
        return;
    }
    if (rc != 0)
        cannot_read(r, segment.path, rc);
    else if (!segment_head_decode(octets, &segment.head))
        segment.has_bad_head = true;
    if (segment.has_bad_head) {
        segment.head = (struct segment_head){.version = JOURNAL_VERSION};
        segment.head.journal = journal;
        segment.head.term = term;
    }
    add_segment(r, &segment);
}

static void
drop_segment(struct replay *r, size_t i)
{
    free(r->segments[i].path);
    r->segments[i] = r->segments[--r->n_segments];
}

/* What any healthy segment of the same journal and term says; 0: there is none. */
static uint64_t
key_of(const struct replay *r, const struct segment_head *head)
{
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct segment *other = &r->segments[i];

        if (!other->has_bad_head && other->head.journal == head->journal &&
            other->head.term == head->term)
            return other->head.key;
    }
    return 0;
}

/* The head is damaged: what frames say of themselves must do, the first that is good when there is
 * nobody else to say what the key is. A slot that was about to be used again looks the same; its
 * frames are old ones, and wanted no more. False: nothing is in it, or *err says why. */
static bool
guess_head(struct replay *r, struct segment *segment)
{
    uint8_t *octets = mem_try((size_t)segment->size);
    struct segment_head *guess = &segment->head;
    struct frame_head head;
    uint64_t size;
    bool found = false;
    int rc;

    rc =
        octets == NULL ? -ENOMEM : read_all(r, segment->path, octets, (size_t)segment->size, &size);
    guess->key = key_of(r, guess);
    for (uint64_t at = SEGMENT_HEAD_SIZE; rc == 0 && at + FRAME_HEAD_LEN <= segment->size;
         at += 8) {
        if (!frame_head_decode(octets + at, &head) || head.term != guess->term ||
            (guess->key != 0 && head.key != guess->key) ||
            (found && head.generation <= guess->generation) ||
            head.len > segment->size - at - FRAME_HEAD_LEN || !frame_is_good(octets + at, &head))
            continue;
        found = true;
        guess->key = head.key;
        guess->generation = head.generation;
        guess->first_lsn = head.lsn;
    }
    free(octets);
    return rc == 0 ? found : cannot_read(r, segment->path, rc);
}

static void
guess_heads(struct replay *r)
{
    for (size_t i = 0; i < r->n_segments && !r->is_unreadable;) {
        if (r->segments[i].has_bad_head && !guess_head(r, &r->segments[i]))
            drop_segment(r, i);
        else
            i++;
    }
}

/* Left behind by journal_drop_former. */
static void
drop_former_segments(struct replay *r)
{
    for (size_t i = 0; i < r->n_segments;) {
        if (r->segments[i].head.term < r->only)
            drop_segment(r, i);
        else
            i++;
    }
}

static int
compare_segments(const void *a, const void *b)
{
    const struct segment *left = a, *right = b;
    const struct segment_head *x = &left->head, *y = &right->head;

    if (x->term != y->term)
        return x->term < y->term ? -1 : 1;
    if (x->journal != y->journal)
        return x->journal < y->journal ? -1 : 1;
    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return strcmp(left->path, right->path); /* no writer makes two of one generation */
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
           out->key == segment->head.key && out->lsn < UINT64_MAX &&
           out->len <= segment->size - at - FRAME_HEAD_LEN && frame_is_good(r->octets + at, out);
}

static void
add_frame(struct replay *r, uint32_t segment, uint64_t at, const struct frame_head *head)
{
    if (r->n_index == r->index_size) {
        r->index_size = r->index_size > 0 ? r->index_size * 2 : 256;
        r->index = mem_resize(r->index, r->index_size * sizeof(r->index[0]));
    }
    r->index[r->n_index++] = (struct indexed){head->lsn, at, head->low, segment, head->len};
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

        if (!frame_at(r, segment, at, &head)) {
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
    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* --- damage ---------------------------------------------------------------------------- */

static int
copy_segment(struct replay *r, const struct segment *segment, const char *path)
{
    const struct file_system *files = r->files;
    uint8_t *octets = mem_try((size_t)segment->size);
    struct iovec iov = {octets, (size_t)segment->size};
    uint64_t size;
    int rc = octets == NULL ? -ENOMEM : read_all(r, segment->path, octets, iov.iov_len, &size);
    int fd = rc != 0 ? rc : files->ops->open(files->arg, path, FILE_CREATE);

    if (fd >= 0) {
        rc = files->ops->write(files->arg, fd, &iov, 1, 0);
        rc = rc != 0 ? rc : files->ops->sync(files->arg, fd);
        files->ops->close(files->arg, fd);
    }
    free(octets);
    return fd < 0 ? fd : rc;
}

static bool
is_kept(struct replay *r, const struct segment *segment, const char *path)
{
    const struct file_system *files = r->files;
    int fd = files->ops->open(files->arg, path, FILE_READ);
    int64_t size = -1;

    if (fd >= 0) {
        size = files->ops->size(files->arg, fd);
        files->ops->close(files->arg, fd);
    }
    return size == (int64_t)segment->size;
}

/* Says in what became of the file, for the report. */
static void
quarantine(struct replay *r, const struct segment *segment, char *what, size_t size)
{
    const struct file_system *files = r->files;
    size_t room = strlen(r->dir) + 128;
    char *folder = mem_alloc(room), *path = mem_alloc(room);
    int rc = 0;

    snprintf(folder, room, "%s/quarantine", r->dir);
    snprintf(path, room, "%s/%s.%" PRIu64, folder, strrchr(segment->path, '/') + 1,
             segment->head.generation);
    if (!is_kept(r, segment, path)) {
        rc = files->ops->make_dir(files->arg, folder);
        rc = rc != 0 ? rc : copy_segment(r, segment, path);
        rc = rc != 0 ? rc : files->ops->sync_dir(files->arg, folder);
        rc = rc != 0 ? rc : files->ops->sync_dir(files->arg, r->dir);
    }
    if (rc == 0)
        snprintf(what, size, "the file is kept in %s", folder);
    else
        snprintf(what, size, "the file could not be kept in %s: %s", folder, strerror(-rc));
    free(folder);
    free(path);
}

/* Nothing is lost with it. */
static void
report_head(struct replay *r, const struct segment *segment)
{
    char line[1024], what[512];

    quarantine(r, segment, what, sizeof(what));
    snprintf(line, sizeof(line), "%s: damaged at octet 0: its head; its frames are used; %s",
             segment->path, what);
    r->tell(r->arg, true, line);
}

/* Frames [first, last] are not there, though they were synced. */
static void
report_gap(struct replay *r, size_t group, size_t group_end, uint64_t first, uint64_t last)
{
    char what[512];

    for (size_t i = group; i < group_end; i++) {
        const struct segment *segment = &r->segments[i];

        if (segment->bad_at == 0 || segment->head.first_lsn > last)
            continue;
        if (i + 1 < group_end && r->segments[i + 1].head.first_lsn <= first)
            continue;
        quarantine(r, segment, what, sizeof(what));
        tell(r, true,
             "%s: damaged at octet %" PRIu64 ": frames %" PRIu64 " to %" PRIu64 " are lost; %s",
             segment->path, segment->bad_at, first, last, what);
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
        return err_set(r->err, RESOURCE_ERROR,
                       "%s: what is at octet %" PRIu64 " changes from one reading to the next",
                       segment->path, at->at);
    if (segment->has_bad_head && at->lsn <= r->synced) { /* else it was never there */
        segment->has_bad_head = false;                   /* said once */
        report_head(r, segment);
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
    return r->each(r->arg, &frame, r->err);
}

/*
 * How many of the index are to be believed. What low says holds when everything from there on is
 * there; a frame that is missing above low and was not synced takes along what follows it, until
 * one says that nothing below it is needed. (With `interval` and `never`, slots are overwritten and
 * frames told of low before everything up to there was synced.)
 */
static size_t
cut_torn_tail(struct replay *r, const struct segment *segment, uint64_t *out_low)
{
    uint64_t expected = 0, missing = 0, low = 0; /* missing: the last that is, unsynced */
    size_t n = 0;

    for (size_t i = 0; i < r->n_index; i++) {
        const struct indexed *at = &r->index[i];

        if (at->lsn > expected && at->lsn - 1 > r->synced)
            missing = at->lsn - 1;
        expected = at->lsn + 1;
        if (at->low > low)
            low = at->low;
        if (missing >= low && missing > 0)
            continue;
        n = i + 1;
        *out_low = low;
    }
    if (n < r->n_index)
        tell(r, false, "%s: journal %" PRIu32 " ends torn: of %zu frames %zu are dropped",
             r->folder, segment->head.journal, r->n_index, r->n_index - n);
    return n;
}

/* One journal of one term. */
static bool
replay_group(struct replay *r, size_t group, size_t group_end)
{
    uint64_t expected = 0;
    size_t n;

    r->n_index = 0;
    r->synced = 0;
    for (size_t i = group; i < group_end; i++)
        if (!index_segment(r, (uint32_t)i))
            return false;
    if (r->n_index > 1)
        qsort(r->index, r->n_index, sizeof(r->index[0]), compare_indexed);
    /* an lsn that was dropped is not given out again in this directory */
    if (r->n_index > 0 && r->index[r->n_index - 1].lsn > r->found->lsn)
        r->found->lsn = r->index[r->n_index - 1].lsn;
    n = cut_torn_tail(r, &r->segments[group], &expected);
    for (size_t i = 0; i < n; i++) {
        const struct indexed *at = &r->index[i];

        if (at->lsn < expected)
            continue; /* wanted no more, or written twice */
        if (at->lsn > expected)
            report_gap(r, group, group_end, expected, at->lsn - 1);
        if (!tell_frame(r, at))
            return false;
        expected = at->lsn + 1;
    }
    return true;
}

static bool
check_versions(struct replay *r)
{
    r->found->term = r->only; /* whose owner may not have come to write more than its name */
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
    drop_former_segments(&r);
    guess_heads(&r);
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
    size_t n; /* files that are to go */
    int rc;
};

static int
unlink_in(const struct drop *drop, const char *name)
{
    size_t size = strlen(drop->folder) + strlen(name) + 2;
    char *path = mem_alloc(size);
    int rc;

    snprintf(path, size, "%s/%s", drop->folder, name);
    rc = drop->files->ops->unlink(drop->files->arg, path);
    free(path);
    return rc;
}

static bool
is_former(const struct drop *drop, const char *name)
{
    uint32_t journal;
    uint64_t term;

    return (read_name(name, &journal, &term) || read_only_name(name, &term)) && term < drop->term;
}

static void
count_name(void *arg, const char *name)
{
    struct drop *drop = arg;

    drop->n += is_former(drop, name);
}

static void
drop_name(void *arg, const char *name)
{
    struct drop *drop = arg;

    if (drop->rc == 0 && is_former(drop, name))
        drop->rc = unlink_in(drop, name);
}

static int
make_marker(const struct drop *drop, const char *name)
{
    const struct file_ops *ops = drop->files->ops;
    size_t size = strlen(drop->folder) + strlen(name) + 2;
    char *path = mem_alloc(size);
    int fd;

    snprintf(path, size, "%s/%s", drop->folder, name);
    fd = ops->open(drop->files->arg, path, FILE_CREATE);
    free(path);
    if (fd < 0)
        return fd;
    ops->close(drop->files->arg, fd);
    return ops->sync_dir(drop->files->arg, drop->folder);
}

static int
drop_all(struct drop *drop)
{
    const struct file_ops *ops = drop->files->ops;
    char marker[64];
    int rc = ops->list_dir(drop->files->arg, drop->folder, count_name, drop);

    if (rc != 0 || drop->n == 0)
        return rc == -ENOENT ? 0 : rc;
    snprintf(marker, sizeof(marker), "%" PRIu64 ".only", drop->term);
    rc = make_marker(drop, marker);
    if (rc == 0)
        rc = ops->list_dir(drop->files->arg, drop->folder, drop_name, drop);
    if (rc == 0)
        rc = drop->rc;
    if (rc == 0)
        rc = ops->sync_dir(drop->files->arg, drop->folder); /* or a power cut brings some back */
    if (rc == 0)
        (void)unlink_in(drop, marker); /* one that stays does no harm, and goes with the next */
    return rc;
}

bool
journal_drop_former(const char *dir, const struct file_system *files, uint64_t term,
                    struct err *err)
{
    char *folder = journal_dir(dir);
    struct drop drop = {folder, files, term, 0, 0};
    int rc = drop_all(&drop);

    if (rc != 0)
        err_set(err, INTERNAL_ERROR, "%s: %s", folder, strerror(-rc));
    free(folder);
    return rc == 0;
}
