#include <assert.h>
#include <errno.h>

#include "lepus/base/buf.h"
#include "lepus/base/crc32c.h"
#include "lepus/base/map.h"
#include "lepus/base/mem.h"
#include "lepus/stream/stream_offsets.h"
#include "lepus/wire/cursor.h"

enum {
    PATH_SIZE = 4096,
    FOLDER_DIGITS = 16,
    VERSION = 1,
    FILE_HEAD = 32,
    HEAD_SUMMED = FILE_HEAD - 4,
    RECORD_HEAD = 14,
    SET = 1,
    FORGET = 2,
    WHOLE = 3,
    COMPACT_FROM = 64 * 1024, /* a file is made anew when it has this much, */
    COMPACT_TIMES = 4,        /* and so many times what is alive */
    BYTES_MAX = 64 << 20,
    NO_SLOT = 2,
};

static const char magic[8] = {'L', 'E', 'P', 'U', 'S', 'O', 'F', 'S'};

struct group {
    struct map_node node; /* its key is the name, ours */
    struct list changed;  /* of those to be saved; unlinked: saved */
    uint64_t offset;
    bool is_forgotten; /* waits for that to be saved */
};

struct saving {
    struct disk_job job;
    struct stream_offsets *offsets;
    bool is_busy, makes_whole;
    unsigned slot; /* NO_SLOT: both files go */
    uint64_t at;
    struct buf octets;
    struct err err; /* code 0: done */
};

struct stream_offsets {
    struct stream_offsets_settings settings;
    const struct stream_offsets_ops *ops;
    void *arg;
    char *folder;
    struct map groups;
    size_t n_forgotten;
    struct list changed;
    uint64_t generation; /* of the file that counts; 0: none */
    unsigned slot;
    uint64_t size;  /* of it */
    size_t alive;   /* octets of SETs that say all there is */
    bool must_make; /* whatever its size, the other file is next */
    bool is_freed, unlinks, is_in_trouble;
    struct saving saving;
    struct worker_timer timer;
    bool is_timed;
};

/* --- octets ------------------------------------------------------------------------------- */

static void
put_record(struct buf *to, uint64_t generation, uint8_t kind, struct view name, uint64_t offset)
{
    uint8_t *at = buf_reserve(to, RECORD_HEAD + name.len);

    if (at == NULL)
        return;
    to->len += RECORD_HEAD + name.len;
    at[4] = kind;
    at[5] = (uint8_t)name.len;
    be_put_u64(at + 6, offset);
    if (name.len > 0)
        memcpy(at + RECORD_HEAD, name.at, name.len);
    be_put_u32(at, crc32c((uint32_t)generation, at + 4, RECORD_HEAD - 4 + name.len));
}

static void
put_head(struct buf *to, uint64_t generation)
{
    uint8_t head[FILE_HEAD] = {0};

    memcpy(head, magic, sizeof(magic));
    be_put_u32(head + 8, VERSION);
    be_put_u64(head + 16, generation);
    be_put_u32(head + HEAD_SUMMED, crc32c(0, head, HEAD_SUMMED));
    buf_append(to, head, sizeof(head));
}

struct entry {
    uint8_t kind;
    struct view name;
    uint64_t offset;
};

static bool
take_record(struct cursor *r, uint64_t generation, struct entry *out)
{
    struct cursor start = *r;
    uint32_t sum = rd_u32(r);

    out->kind = rd_u8(r);
    start.left = rd_u8(r); /* of the name */
    out->offset = rd_u64(r);
    out->name = rd_view(r, start.left);
    return !r->bad &&
           sum == crc32c((uint32_t)generation, start.at + 4, RECORD_HEAD - 4 + start.left);
}

/* --- the table ---------------------------------------------------------------------------- */

static struct group *
find(const struct stream_offsets *o, struct view name)
{
    struct map_node *node = map_find(&o->groups, name);

    return node != NULL ? container_of(node, struct group, node) : NULL;
}

static size_t
record_size(const struct group *group)
{
    return RECORD_HEAD + group->node.key.len;
}

static struct group *
add(struct stream_offsets *o, struct view name)
{
    struct group *group = mem_new(struct group);

    map_add(&o->groups, &group->node, view_of(view_dup(name), name.len));
    o->alive += record_size(group);
    return group;
}

static void
drop(struct stream_offsets *o, struct group *group)
{
    o->alive -= record_size(group);
    map_remove(&o->groups, &group->node);
    if (list_is_linked(&group->changed))
        list_remove(&group->changed);
    free((void *)(uintptr_t)group->node.key.at);
    free(group);
}

static void
on_timer(void *arg)
{
    struct stream_offsets *o = arg;

    o->is_timed = false;
    stream_offsets_flush(o);
}

static void
note_change(struct stream_offsets *o, struct group *group)
{
    if (!list_is_linked(&group->changed))
        list_append(&o->changed, &group->changed);
    if (o->settings.worker != NULL && !o->is_timed) {
        o->is_timed = true;
        worker_timer_set(o->settings.worker, &o->timer, STREAM_OFFSETS_DELAY_MS);
    }
}

bool
stream_offsets_set(struct stream_offsets *o, struct view name, uint64_t offset)
{
    struct group *group = find(o, name);

    if (group == NULL) {
        if (name.len == 0 || name.len > UINT8_MAX || o->groups.count >= STREAM_GROUPS_MAX)
            return false;
        group = add(o, name);
    } else if (group->offset == offset && !group->is_forgotten) {
        return true;
    }
    o->n_forgotten -= group->is_forgotten;
    group->is_forgotten = false;
    group->offset = offset;
    note_change(o, group);
    return true;
}

bool
stream_offsets_get(const struct stream_offsets *o, struct view name, uint64_t *out_offset)
{
    const struct group *group = find(o, name);

    if (group == NULL || group->is_forgotten)
        return false;
    *out_offset = group->offset;
    return true;
}

bool
stream_offsets_forget(struct stream_offsets *o, struct view name)
{
    struct group *group = find(o, name);

    if (group == NULL || group->is_forgotten)
        return false;
    group->is_forgotten = true; /* it stays until that is written */
    o->n_forgotten++;
    note_change(o, group);
    return true;
}

bool
stream_offsets_next(const struct stream_offsets *o, const void **at, struct view *out_group,
                    uint64_t *out_offset)
{
    const struct map_node *node = *at;
    const struct group *group;

    do {
        node = map_next(&o->groups, node);
        group = node != NULL ? container_of(node, const struct group, node) : NULL;
    } while (group != NULL && group->is_forgotten);
    *at = node;
    if (group == NULL)
        return false;
    *out_group = group->node.key;
    *out_offset = group->offset;
    return true;
}

/* --- saving ------------------------------------------------------------------------------- */

static void
path_of(char *out, const struct stream_offsets *o, unsigned slot)
{
    snprintf(out, PATH_SIZE, "%s/offsets.%u", o->folder, slot);
}

static bool
fail(struct saving *s, const char *what, const char *path, int rc)
{
    return err_set(&s->err, RESOURCE_ERROR, "%s %s: %s", what, path, strerror(-rc));
}

static bool
write_and_sync(struct saving *s, const struct file_system *files, int fd, const char *path)
{
    struct iovec iov = {s->octets.at, s->octets.len};
    int rc;

    if (s->makes_whole && (rc = files->ops->truncate(files->arg, fd, 0)) < 0)
        return fail(s, "truncate", path, rc);
    if ((rc = files->ops->write(files->arg, fd, &iov, 1, s->at)) < 0)
        return fail(s, "write", path, rc);
    if ((rc = files->ops->sync(files->arg, fd)) < 0)
        return fail(s, "sync", path, rc);
    return true;
}

static bool
save(struct saving *s, const struct file_system *files)
{
    const struct stream_offsets *o = s->offsets;
    char path[PATH_SIZE];
    bool done;
    int fd, rc;

    path_of(path, o, s->slot);
    if (s->makes_whole && ((rc = files->ops->make_dir(files->arg, o->folder)) < 0 ||
                           (rc = files->ops->sync_dir(files->arg, o->settings.dir)) < 0))
        return fail(s, "make", o->folder, rc);
    fd = files->ops->open(files->arg, path, s->makes_whole ? FILE_CREATE : FILE_WRITE);
    if (fd < 0)
        return fail(s, "open", path, fd);
    done = write_and_sync(s, files, fd, path);
    files->ops->close(files->arg, fd);
    if (done && s->makes_whole && (rc = files->ops->sync_dir(files->arg, o->folder)) < 0)
        return fail(s, "sync", o->folder, rc);
    return done;
}

static void
unlink_both(struct stream_offsets *o, const struct file_system *files)
{
    char path[PATH_SIZE];

    for (unsigned slot = 0; slot < 2; slot++) {
        path_of(path, o, slot);
        files->ops->unlink(files->arg, path);
    }
    files->ops->remove_dir(files->arg, o->folder); /* if the log was faster */
}

static void
run_save(struct disk_job *job)
{
    struct saving *s = container_of(job, struct saving, job);
    const struct file_system *files = &s->offsets->settings.files;

    s->err.code = 0;
    if (s->slot == NO_SLOT)
        unlink_both(s->offsets, files);
    else
        save(s, files);
}

static void
submit(struct stream_offsets *o)
{
    o->saving.is_busy = true;
    disk_submit(o->settings.disk, DISK_LATER, &o->saving.job);
}

/* Takes what changed; a group that is forgotten is gone with that. */
static void
take_changes(struct stream_offsets *o, uint64_t generation, struct buf *to)
{
    struct list *at;

    while ((at = list_take_first(&o->changed)) != NULL) {
        struct group *group = container_of(at, struct group, changed);

        if (to != NULL)
            put_record(to, generation, group->is_forgotten ? FORGET : SET, group->node.key,
                       group->offset);
        if (group->is_forgotten) {
            o->n_forgotten--;
            drop(o, group);
        }
    }
}

static void
put_all(struct stream_offsets *o, uint64_t generation, struct buf *to)
{
    struct view name;
    const void *at = NULL;
    uint64_t offset;

    put_head(to, generation);
    while (stream_offsets_next(o, &at, &name, &offset))
        put_record(to, generation, SET, name, offset);
    put_record(to, generation, WHOLE, view_of(NULL, 0), o->groups.count - o->n_forgotten);
}

void
stream_offsets_flush(struct stream_offsets *o)
{
    struct saving *s = &o->saving;

    if (s->is_busy || o->is_freed || (list_is_empty(&o->changed) && !o->is_in_trouble))
        return;
    buf_clear(&s->octets);
    s->makes_whole = o->generation == 0 || o->must_make ||
                     (o->size > COMPACT_FROM && o->size > COMPACT_TIMES * o->alive);
    if (s->makes_whole) {
        s->slot = o->generation == 0 ? o->slot : 1 - o->slot;
        s->at = 0;
        put_all(o, o->generation + 1, &s->octets);
        take_changes(o, 0, NULL);
    } else {
        s->slot = o->slot;
        s->at = o->size;
        take_changes(o, o->generation, &s->octets);
    }
    assert(!s->octets.bad); /* ten thousand groups of 255 octets fit */
    submit(o);
}

bool
stream_offsets_is_saved(const struct stream_offsets *o)
{
    return list_is_empty(&o->changed) && !o->saving.is_busy && !o->is_in_trouble;
}

static void
really_free(struct stream_offsets *o)
{
    struct map_node *node;

    while ((node = map_next(&o->groups, NULL)) != NULL)
        drop(o, container_of(node, struct group, node));
    map_fini(&o->groups);
    buf_fini(&o->saving.octets);
    free((void *)(uintptr_t)o->settings.dir);
    free(o->folder);
    free(o);
}

static void
on_failure(struct stream_offsets *o)
{
    o->must_make = true; /* with everything: what was to be appended need not be kept apart */
    if (!o->is_in_trouble) {
        o->is_in_trouble = true;
        o->ops->trouble(o->arg, &o->saving.err);
    }
    if (o->settings.worker != NULL && !o->is_timed) {
        o->is_timed = true;
        worker_timer_set(o->settings.worker, &o->timer, STREAM_OFFSETS_DELAY_MS);
    }
}

static void
done_save(struct disk_job *job)
{
    struct saving *s = container_of(job, struct saving, job);
    struct stream_offsets *o = s->offsets;

    s->is_busy = false;
    if (o->is_freed) {
        if (o->unlinks && s->slot != NO_SLOT) {
            s->slot = NO_SLOT; /* the last job */
            submit(o);
        } else {
            really_free(o);
        }
        return;
    }
    if (s->err.code != 0) {
        on_failure(o);
        return;
    }
    if (s->makes_whole) {
        o->generation++;
        o->slot = s->slot;
        o->size = 0;
        o->must_make = false;
    }
    o->size += s->octets.len;
    if (s->octets.size > COMPACT_FROM)
        buf_fini(&s->octets), buf_init(&s->octets, BYTES_MAX);
    if (o->is_in_trouble) {
        o->is_in_trouble = false;
        o->ops->trouble(o->arg, NULL);
    }
}

/* --- the start ---------------------------------------------------------------------------- */

static bool
refuse(struct err *err, const char *what, const char *path, int rc)
{
    return err_set(err, INTERNAL_ERROR, "%s %s: %s", what, path, strerror(-rc));
}

/* The octets of one file; none when it is missing. */
static bool
read_file(struct stream_offsets *o, unsigned slot, struct buf *out, struct err *err)
{
    const struct file_system *files = &o->settings.files;
    char path[PATH_SIZE];
    int64_t size, got;
    int fd;

    path_of(path, o, slot);
    fd = files->ops->open(files->arg, path, FILE_READ);
    if (fd == -ENOENT)
        return true;
    if (fd < 0)
        return refuse(err, "open", path, fd);
    size = files->ops->size(files->arg, fd);
    if (size > BYTES_MAX)
        size = BYTES_MAX;
    got = size;
    if (size > 0 && buf_reserve(out, (size_t)size) == NULL)
        got = -ENOMEM;
    else if (size > 0)
        got = files->ops->read(files->arg, fd, out->at, (size_t)size, 0);
    files->ops->close(files->arg, fd);
    if (got < 0)
        return refuse(err, "read", path, (int)got);
    out->len = (size_t)got;
    return true;
}

/* 0: it does not count. A newer version is refused. */
static bool
read_generation(struct view file, uint64_t *out_generation, struct err *err)
{
    *out_generation = 0;
    if (file.len < FILE_HEAD || memcmp(file.at, magic, sizeof(magic)) != 0 ||
        be_u32(file.at + HEAD_SUMMED) != crc32c(0, file.at, HEAD_SUMMED))
        return true;
    if (be_u32(file.at + 8) != VERSION)
        return err_set(err, INTERNAL_ERROR,
                       "offsets of consumer groups are of version %u, this is version %d",
                       (unsigned)be_u32(file.at + 8), VERSION);
    *out_generation = be_u64(file.at + 16);
    return true;
}

static bool
is_whole(struct view file, uint64_t generation)
{
    struct cursor r = cursor_of(view_of(file.at + FILE_HEAD, file.len - FILE_HEAD));
    struct entry entry;

    while (take_record(&r, generation, &entry))
        if (entry.kind == WHOLE)
            return true;
    return false;
}

static void
apply(struct stream_offsets *o, struct view file, uint64_t generation)
{
    struct cursor r = cursor_of(view_of(file.at + FILE_HEAD, file.len - FILE_HEAD));
    struct entry entry;

    o->size = FILE_HEAD;
    while (take_record(&r, generation, &entry)) {
        struct group *group = find(o, entry.name);

        if (entry.kind == SET && entry.name.len > 0) {
            if (group == NULL)
                group = add(o, entry.name);
            group->offset = entry.offset;
        } else if (entry.kind == FORGET && group != NULL) {
            drop(o, group);
        }
        o->size += RECORD_HEAD + entry.name.len;
    }
}

bool
stream_offsets_recover(struct stream_offsets *o, struct err *err)
{
    struct buf files[2];
    uint64_t generations[2] = {0};
    unsigned newest;
    bool done = true;

    assert(o->groups.count == 0);
    for (unsigned slot = 0; slot < 2; slot++)
        buf_init(&files[slot], BYTES_MAX);
    for (unsigned slot = 0; done && slot < 2; slot++) {
        done = read_file(o, slot, &files[slot], err) &&
               read_generation(buf_view(&files[slot]), &generations[slot], err);
        if (generations[slot] > 0 && !is_whole(buf_view(&files[slot]), generations[slot]))
            generations[slot] = 0;
    }
    newest = generations[1] > generations[0];
    if (done && generations[newest] > 0) {
        o->slot = newest;
        o->generation = generations[newest];
        apply(o, buf_view(&files[newest]), o->generation);
        /* Its end may have been torn, or only seem to be on disk: the next one is made anew. */
        o->must_make = true;
    }
    buf_fini(&files[0]);
    buf_fini(&files[1]);
    return done;
}

/* --- life --------------------------------------------------------------------------------- */

struct stream_offsets *
stream_offsets_new(const struct stream_offsets_settings *settings,
                   const struct stream_offsets_ops *ops, void *arg)
{
    struct stream_offsets *o = mem_new(struct stream_offsets);
    size_t n = strlen(settings->dir) + FOLDER_DIGITS + 2;

    o->settings = *settings;
    o->settings.dir = view_dup(view_str(settings->dir));
    o->ops = ops;
    o->arg = arg;
    o->folder = mem_alloc(n);
    snprintf(o->folder, n, "%s/%016llx", settings->dir, (unsigned long long)settings->stream);
    map_init(&o->groups);
    list_init(&o->changed);
    buf_init(&o->saving.octets, BYTES_MAX);
    o->saving.offsets = o;
    o->saving.job.run = run_save;
    o->saving.job.done = done_save;
    o->timer = (struct worker_timer){.fire = on_timer, .arg = o};
    return o;
}

void
stream_offsets_free(struct stream_offsets *o, bool unlink)
{
    if (o == NULL)
        return;
    worker_timer_cancel(&o->timer);
    o->is_freed = true;
    if (o->saving.is_busy) {
        o->unlinks = unlink; /* done_save goes on */
        return;
    }
    if (!unlink) {
        really_free(o);
        return;
    }
    o->unlinks = true;
    o->saving.slot = NO_SLOT;
    submit(o);
}
