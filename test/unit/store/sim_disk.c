#include "sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lepus/base/mem.h"

enum { CALL_KINDS = 10, DESCRIPTORS = 256, PATH_ROOM = 256 };

/* What a sector's next sync does. */
enum sector_state {
    SECTOR_CLEAN,
    SECTOR_DIRTY, /* written since its last sync */
    SECTOR_LOST,  /* a sync failed: seen, but not on disk, and nobody will bring it there */
};

struct node {
    bool is_dir;
    unsigned refs; /* names, seen or safe, and descriptors */
    uint8_t *seen, *safe, *sectors;
    uint64_t room; /* of the three; whole sectors */
    uint64_t size, safe_size;
    uint64_t spoilt_at, spoilt_n;
};

struct name {
    char path[PATH_ROOM];
    struct node *seen, *safe; /* NULL: not there */
};

struct sim_disk {
    pthread_mutex_t lock;
    uint64_t random;
    struct name *names;
    size_t n_names;
    struct node *fds[DESCRIPTORS];
    unsigned fds_max;
    uint64_t used, space;

    uint64_t calls, calls_of[CALL_KINDS];
    uint64_t cut_at; /* the call that finds no power; 0: none */
    bool is_cut;
    unsigned fail_calls;
    uint64_t fail_in, fail_times; /* calls of these kinds; 0: none */
    int fail_error;
};

static uint64_t
below(struct sim_disk *sim, uint64_t n)
{
    uint64_t z = sim->random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % n;
}

/* Counts the call; 0, or -errno when it is to fail. Takes the lock in any case. */
static int
enter(struct sim_disk *sim, enum sim_call call)
{
    int rc = 0;

    pthread_mutex_lock(&sim->lock);
    sim->calls++;
    sim->calls_of[__builtin_ctz(call)]++;
    if (sim->cut_at != 0 && sim->calls >= sim->cut_at) {
        sim->is_cut = true;
        return -EIO;
    }
    if (sim->fail_times > 0 && (sim->fail_calls & (unsigned)call) != 0) {
        if (sim->fail_in > 1) {
            sim->fail_in--;
        } else {
            sim->fail_times--;
            rc = -sim->fail_error;
        }
    }
    return rc;
}

/* enter() and leave() are the brackets of every call of the table. */
static int
leave(struct sim_disk *sim, int rc)
{
    pthread_mutex_unlock(&sim->lock);
    return rc;
}

/* --- nodes ----------------------------------------------------------------------------- */

static struct node *
node_ref(struct node *node)
{
    if (node != NULL)
        node->refs++;
    return node;
}

static void
node_unref(struct sim_disk *sim, struct node **at)
{
    struct node *node = *at;

    *at = NULL;
    if (node == NULL || --node->refs > 0)
        return;
    sim->used -= node->size;
    free(node->seen);
    free(node->safe);
    free(node->sectors);
    free(node);
}

static void
point(struct sim_disk *sim, struct node **at, struct node *to)
{
    struct node *old = *at;

    *at = node_ref(to);
    node_unref(sim, &old);
}

static void *
grow(void *old, uint64_t from, uint64_t to)
{
    uint8_t *at = mem_resize(old, (size_t)to);

    memset(at + from, 0, (size_t)(to - from));
    return at;
}

static void
make_room(struct node *node, uint64_t size)
{
    uint64_t room = node->room > 0 ? node->room : SIM_SECTOR;

    if (size <= node->room)
        return;
    while (room < size)
        room *= 2;
    node->seen = grow(node->seen, node->room, room);
    node->safe = grow(node->safe, node->room, room);
    node->sectors = grow(node->sectors, node->room / SIM_SECTOR, room / SIM_SECTOR);
    node->room = room;
}

static bool
has_space(const struct sim_disk *sim, const struct node *node, uint64_t size)
{
    return size <= node->size || sim->used - node->size + size <= sim->space;
}

static void
set_size(struct sim_disk *sim, struct node *node, uint64_t size)
{
    make_room(node, size);
    if (size < node->size) { /* what is cut off reads as zeroes when the file grows again */
        memset(node->seen + size, 0, (size_t)(node->size - size));
        for (uint64_t s = size / SIM_SECTOR; s * SIM_SECTOR < node->size; s++)
            node->sectors[s] = SECTOR_DIRTY;
    }
    sim->used += size - node->size;
    node->size = size;
}

static void
put_octets(struct node *node, const uint8_t *octets, uint64_t n, uint64_t at)
{
    if (n == 0)
        return;
    memcpy(node->seen + at, octets, (size_t)n);
    for (uint64_t s = at / SIM_SECTOR; s * SIM_SECTOR < at + n; s++)
        node->sectors[s] = SECTOR_DIRTY;
}

static void
save_sector(struct node *node, uint64_t s)
{
    memcpy(node->safe + s * SIM_SECTOR, node->seen + s * SIM_SECTOR, SIM_SECTOR);
}

/* The system writes what it likes when it likes. The sector stays dirty: what comes to it later is
 * another matter. */
static void
write_back_a_bit(struct sim_disk *sim, struct node *node)
{
    uint64_t s;

    if (node->size == 0 || below(sim, 4) != 0)
        return;
    s = below(sim, (node->size + SIM_SECTOR - 1) / SIM_SECTOR);
    if (node->sectors[s] == SECTOR_DIRTY) {
        save_sector(node, s);
        if (node->safe_size < node->size)
            node->safe_size += below(sim, node->size - node->safe_size + 1);
    }
}

/* --- names ----------------------------------------------------------------------------- */

static struct name *
find_name(const struct sim_disk *sim, const char *path)
{
    for (size_t i = 0; i < sim->n_names; i++)
        if (strcmp(sim->names[i].path, path) == 0)
            return &sim->names[i];
    return NULL;
}

static struct node *
find(const struct sim_disk *sim, const char *path)
{
    const struct name *name = find_name(sim, path);

    return name != NULL ? name->seen : NULL;
}

static bool
is_in(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && path[n] == '/';
}

static bool
is_child(const char *path, const char *folder)
{
    return is_in(path, folder) && strchr(path + strlen(folder) + 1, '/') == NULL;
}

static bool
has_parent(const struct sim_disk *sim, const char *path)
{
    char parent[PATH_ROOM];
    const char *slash = strrchr(path, '/');
    const struct node *node;

    if (slash == NULL)
        return true;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    node = find(sim, parent);
    return node != NULL && node->is_dir;
}

static struct name *
add_name(struct sim_disk *sim, const char *path, bool is_dir)
{
    struct name *name = find_name(sim, path);
    struct node *node = mem_new(struct node);

    assert(strlen(path) < PATH_ROOM);
    if (name == NULL) {
        sim->names = mem_resize(sim->names, (sim->n_names + 1) * sizeof(sim->names[0]));
        name = &sim->names[sim->n_names++];
        *name = (struct name){0};
        memcpy(name->path, path, strlen(path) + 1);
    }
    node->is_dir = is_dir;
    assert(name->seen == NULL);
    point(sim, &name->seen, node);
    return name;
}

static void
forget_gone_names(struct sim_disk *sim)
{
    size_t kept = 0;

    for (size_t i = 0; i < sim->n_names; i++)
        if (sim->names[i].seen != NULL || sim->names[i].safe != NULL)
            sim->names[kept++] = sim->names[i];
    sim->n_names = kept;
}

/* --- the table ------------------------------------------------------------------------- */

static struct node *
node_of(const struct sim_disk *sim, int fd)
{
    assert(fd >= 0 && fd < DESCRIPTORS && sim->fds[fd] != NULL);
    return sim->fds[fd];
}

static int
take_descriptor(struct sim_disk *sim, struct node *node)
{
    for (unsigned fd = 0; fd < sim->fds_max; fd++) {
        if (sim->fds[fd] == NULL) {
            sim->fds[fd] = node_ref(node);
            return (int)fd;
        }
    }
    return -EMFILE;
}

static int
open_file(void *arg, const char *path, enum file_mode mode)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_OPEN);
    struct node *node = rc == 0 ? find(sim, path) : NULL;

    if (rc != 0)
        return leave(sim, rc);
    if (node != NULL && node->is_dir)
        return leave(sim, -EISDIR);
    if (node == NULL && (mode != FILE_CREATE || !has_parent(sim, path)))
        return leave(sim, -ENOENT);
    if (node == NULL)
        node = add_name(sim, path, false)->seen;
    return leave(sim, take_descriptor(sim, node));
}

static void
close_file(void *arg, int fd)
{
    struct sim_disk *sim = arg;

    pthread_mutex_lock(&sim->lock);
    (void)node_of(sim, fd);
    node_unref(sim, &sim->fds[fd]);
    pthread_mutex_unlock(&sim->lock);
}

static int64_t
file_size(void *arg, int fd)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_READ);
    int64_t size = rc != 0 ? rc : (int64_t)node_of(sim, fd)->size;

    leave(sim, 0);
    return size;
}

static int64_t
read_file(void *arg, int fd, void *to, size_t n, uint64_t at)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_READ);
    const struct node *node = node_of(sim, fd);

    if (rc == 0 && node->spoilt_n > 0 && at < node->spoilt_at + node->spoilt_n &&
        node->spoilt_at < at + n)
        rc = -EIO;
    if (rc != 0)
        return leave(sim, rc);
    n = at >= node->size ? 0 : n < node->size - at ? n : (size_t)(node->size - at);
    if (n > 0)
        memcpy(to, node->seen + at, n);
    leave(sim, 0);
    return (int64_t)n;
}

static int
write_file(void *arg, int fd, const struct iovec *iov, int n, uint64_t at)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_WRITE);
    struct node *node = node_of(sim, fd);
    uint64_t total = 0, left;

    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    left = total;
    if (rc == 0 && !has_space(sim, node, at + total))
        rc = -ENOSPC;
    if (rc != 0) /* short, in the middle of a sector maybe; with no power, nothing */
        left = sim->is_cut ? 0 : below(sim, total + 1);
    if (left > 0 && !has_space(sim, node, at + left))
        left = at < node->size ? node->size - at : 0;
    if (at + left > node->size && left > 0)
        set_size(sim, node, at + left);
    for (int i = 0; i < n && left > 0; i++) {
        uint64_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

        put_octets(node, iov[i].iov_base, part, at);
        at += part;
        left -= part;
    }
    if (!sim->is_cut)
        write_back_a_bit(sim, node);
    return leave(sim, rc);
}

static int
allocate_file(void *arg, int fd, uint64_t size)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_ALLOCATE);
    struct node *node = node_of(sim, fd);

    if (rc == 0 && !has_space(sim, node, size))
        rc = -ENOSPC;
    if (rc == 0 && size > node->size)
        set_size(sim, node, size);
    return leave(sim, rc);
}

static int
truncate_file(void *arg, int fd, uint64_t size)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_TRUNCATE);

    if (rc == 0)
        set_size(sim, node_of(sim, fd), size);
    return leave(sim, rc);
}

static void
sync_node(struct sim_disk *sim, struct node *node, bool fails)
{
    for (uint64_t s = 0; s < node->room / SIM_SECTOR; s++) {
        if (node->sectors[s] != SECTOR_DIRTY)
            continue;
        if (!fails || below(sim, 2) == 0) {
            save_sector(node, s);
            node->sectors[s] = SECTOR_CLEAN;
        } else {
            node->sectors[s] = SECTOR_LOST;
        }
    }
    if (!fails)
        node->safe_size = node->size;
}

static int
sync_file(void *arg, int fd)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_SYNC);

    if (!sim->is_cut)
        sync_node(sim, node_of(sim, fd), rc != 0);
    return leave(sim, rc);
}

static int
sync_dir(void *arg, const char *path)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_SYNC_DIR);

    if (rc == 0 && find(sim, path) == NULL)
        rc = -ENOENT;
    if (rc != 0)
        return leave(sim, rc);
    for (size_t i = 0; i < sim->n_names; i++)
        if (is_child(sim->names[i].path, path))
            point(sim, &sim->names[i].safe, sim->names[i].seen);
    forget_gone_names(sim);
    return leave(sim, 0);
}

static int
sync_all(void *arg, const char *path)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_SYNC);

    (void)path;
    if (sim->is_cut)
        return leave(sim, rc);
    for (size_t i = 0; i < sim->n_names; i++) {
        struct name *name = &sim->names[i];

        if (rc == 0)
            point(sim, &name->safe, name->seen);
        if (name->seen != NULL)
            sync_node(sim, name->seen, rc != 0);
    }
    forget_gone_names(sim);
    return leave(sim, rc);
}

static int
unlink_file(void *arg, const char *path)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_UNLINK);
    struct name *name = rc == 0 ? find_name(sim, path) : NULL;

    if (name != NULL) {
        assert(name->seen == NULL || !name->seen->is_dir);
        node_unref(sim, &name->seen);
        forget_gone_names(sim);
    }
    return leave(sim, rc);
}

static int
make_dir(void *arg, const char *path)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_MAKE_DIR);

    if (rc == 0 && !has_parent(sim, path))
        rc = -ENOENT;
    if (rc == 0 && find(sim, path) == NULL)
        add_name(sim, path, true);
    return leave(sim, rc);
}

static int
remove_dir(void *arg, const char *path)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_UNLINK);
    struct name *name = rc == 0 ? find_name(sim, path) : NULL;

    for (size_t i = 0; name != NULL && rc == 0 && i < sim->n_names; i++)
        if (sim->names[i].seen != NULL && is_in(sim->names[i].path, path))
            rc = -ENOTEMPTY;
    if (name != NULL && rc == 0) {
        assert(name->seen == NULL || name->seen->is_dir);
        node_unref(sim, &name->seen);
        forget_gone_names(sim);
    }
    return leave(sim, rc);
}

static int
list_dir(void *arg, const char *path, void (*each)(void *each_arg, const char *name),
         void *each_arg)
{
    struct sim_disk *sim = arg;
    int rc = enter(sim, SIM_LIST_DIR);
    char(*found)[PATH_ROOM];
    size_t n = 0;

    if (rc == 0 && find(sim, path) == NULL)
        rc = -ENOENT;
    if (rc != 0)
        return leave(sim, rc);
    found = mem_alloc((sim->n_names + 1) * sizeof(found[0]));
    for (size_t i = 0; i < sim->n_names; i++)
        if (sim->names[i].seen != NULL && is_child(sim->names[i].path, path))
            memcpy(found[n++], strrchr(sim->names[i].path, '/') + 1,
                   strlen(strrchr(sim->names[i].path, '/') + 1) + 1);
    for (size_t i = n; i > 1; i--) { /* in no order */
        size_t k = (size_t)below(sim, i);
        char swap[PATH_ROOM];

        memcpy(swap, found[i - 1], PATH_ROOM);
        memcpy(found[i - 1], found[k], PATH_ROOM);
        memcpy(found[k], swap, PATH_ROOM);
    }
    leave(sim, 0); /* each may call back */
    for (size_t i = 0; i < n; i++)
        each(each_arg, found[i]);
    free(found);
    return 0;
}

static const struct file_ops sim_ops = {
    .open = open_file,
    .close = close_file,
    .size = file_size,
    .read = read_file,
    .write = write_file,
    .allocate = allocate_file,
    .truncate = truncate_file,
    .sync = sync_file,
    .sync_all = sync_all,
    .sync_dir = sync_dir,
    .unlink = unlink_file,
    .make_dir = make_dir,
    .remove_dir = remove_dir,
    .list_dir = list_dir,
};

struct file_system
sim_disk_files(struct sim_disk *sim)
{
    return (struct file_system){&sim_ops, sim};
}

/* --- life ------------------------------------------------------------------------------ */

struct sim_disk *
sim_disk_new(uint64_t seed)
{
    struct sim_disk *sim = mem_new(struct sim_disk);
    struct name *data;

    pthread_mutex_init(&sim->lock, NULL);
    sim->random = seed;
    sim->space = UINT64_MAX;
    sim->fds_max = DESCRIPTORS;
    data = add_name(sim, "data", true);
    point(sim, &data->safe, data->seen);
    return sim;
}

static void
close_all(struct sim_disk *sim)
{
    for (unsigned fd = 0; fd < DESCRIPTORS; fd++)
        node_unref(sim, &sim->fds[fd]);
}

void
sim_disk_free(struct sim_disk *sim)
{
    if (sim == NULL)
        return;
    close_all(sim);
    for (size_t i = 0; i < sim->n_names; i++) {
        node_unref(sim, &sim->names[i].seen);
        node_unref(sim, &sim->names[i].safe);
    }
    assert(sim->used == 0);
    free(sim->names);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

/* --- trouble --------------------------------------------------------------------------- */

void
sim_disk_fail(struct sim_disk *sim, unsigned calls, uint64_t nth, uint64_t times, int error)
{
    assert(nth > 0 && error > 0);
    pthread_mutex_lock(&sim->lock);
    sim->fail_calls = calls;
    sim->fail_in = nth;
    sim->fail_times = times;
    sim->fail_error = error;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_disk_cut(struct sim_disk *sim, uint64_t nth)
{
    assert(nth > 0);
    sim->cut_at = sim->calls + nth;
}

bool
sim_disk_is_cut(const struct sim_disk *sim)
{
    return sim->is_cut;
}

void
sim_disk_set_room(struct sim_disk *sim, uint64_t octets)
{
    pthread_mutex_lock(&sim->lock);
    sim->space = octets;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_disk_set_descriptors(struct sim_disk *sim, unsigned n)
{
    pthread_mutex_lock(&sim->lock);
    sim->fds_max = n < DESCRIPTORS ? n : DESCRIPTORS;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_disk_spoil(struct sim_disk *sim, const char *path, uint64_t at, uint64_t n)
{
    struct node *node = find(sim, path);

    assert(node != NULL);
    node->spoilt_at = at;
    node->spoilt_n = n;
}

/* --- the end of a process -------------------------------------------------------------- */

void
sim_disk_kill(struct sim_disk *sim)
{
    close_all(sim);
    sim->cut_at = sim->fail_times = 0;
    sim->is_cut = false;
}

static void
crash_file(struct sim_disk *sim, struct node *node)
{
    uint64_t chance = below(sim, 5), size = node->safe_size; /* all, none, something between */

    if (node->size > size && below(sim, 2) == 0)
        size += below(sim, node->size - size + 1);
    else if (node->size < size && below(sim, 2) == 0)
        size = node->size;
    for (uint64_t s = 0; s < node->room / SIM_SECTOR; s++) {
        if (node->sectors[s] == SECTOR_DIRTY && below(sim, 4) < chance)
            save_sector(node, s);
        node->sectors[s] = SECTOR_CLEAN;
    }
    if (node->room > size)
        memset(node->safe + size, 0, (size_t)(node->room - size));
    if (node->room > 0)
        memcpy(node->seen, node->safe, (size_t)node->room);
    sim->used += size - node->size;
    node->size = node->safe_size = size;
}

void
sim_disk_crash(struct sim_disk *sim)
{
    sim_disk_kill(sim);
    for (size_t i = 0; i < sim->n_names; i++) {
        struct name *name = &sim->names[i];

        if (name->seen != name->safe && below(sim, 2) == 0)
            point(sim, &name->seen, name->safe);
        point(sim, &name->safe, name->seen);
    }
    /* A folder that is gone takes what was in it along; parents come before their children. */
    for (size_t i = 0; i < sim->n_names; i++) {
        struct name *name = &sim->names[i];

        if (name->seen != NULL && !has_parent(sim, name->path)) {
            node_unref(sim, &name->seen);
            node_unref(sim, &name->safe);
        }
    }
    forget_gone_names(sim);
    for (size_t i = 0; i < sim->n_names; i++)
        if (!sim->names[i].seen->is_dir)
            crash_file(sim, sim->names[i].seen);
}

/* --- looking --------------------------------------------------------------------------- */

uint64_t
sim_disk_calls(const struct sim_disk *sim)
{
    return sim->calls;
}

uint64_t
sim_disk_calls_of(const struct sim_disk *sim, enum sim_call call)
{
    return sim->calls_of[__builtin_ctz(call)];
}

unsigned
sim_disk_open_files(const struct sim_disk *sim)
{
    unsigned n = 0;

    for (unsigned fd = 0; fd < DESCRIPTORS; fd++)
        n += sim->fds[fd] != NULL;
    return n;
}

uint64_t
sim_disk_used(const struct sim_disk *sim)
{
    return sim->used;
}

void
sim_disk_each(struct sim_disk *sim, const char *folder, void (*each)(void *arg, const char *path),
              void *arg)
{
    for (size_t i = 0; i < sim->n_names; i++) {
        const struct name *name = &sim->names[i];

        if (name->seen != NULL && !name->seen->is_dir && is_in(name->path, folder))
            each(arg, name->path);
    }
}

bool
sim_disk_has(const struct sim_disk *sim, const char *path)
{
    return find(sim, path) != NULL;
}

const uint8_t *
sim_disk_octets(const struct sim_disk *sim, const char *path, uint64_t *out_size)
{
    const struct node *node = find(sim, path);

    if (node == NULL || node->is_dir)
        return NULL;
    *out_size = node->size;
    return node->seen;
}

void
sim_disk_rot(struct sim_disk *sim, const char *path, uint64_t at, uint8_t bits)
{
    struct node *node = find(sim, path);

    assert(node != NULL && at < node->size);
    node->seen[at] ^= bits;
    node->safe[at] ^= bits;
}

void
sim_disk_put(struct sim_disk *sim, const char *path, const void *octets, uint64_t size)
{
    struct node *node = find(sim, path);
    char part[PATH_ROOM];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = '\0';
        if (find(sim, part) == NULL) {
            struct name *name = add_name(sim, part, true);

            point(sim, &name->safe, name->seen);
        }
    }
    if (node == NULL) {
        struct name *name = add_name(sim, path, false);

        node = name->seen;
        point(sim, &name->safe, node);
    }
    set_size(sim, node, size);
    put_octets(node, octets, size, 0);
    sync_node(sim, node, false);
}
