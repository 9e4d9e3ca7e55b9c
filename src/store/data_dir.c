#include "lepus/store/data_dir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include "lepus/base/mem.h"
#include "lepus/base/view.h"

enum { SLOT_BYTES = 512, PATH_ROOM = 1200 };

static const char first_line[] = "lepus data directory\n";

struct slot {
    uint64_t version, shards, term;
    bool is_good;
    bool is_empty; /* never written */
};

static bool
err_io(struct err *err, const char *path, const char *what, int64_t error)
{
    return err_set(err, INTERNAL_ERROR, "%s: %s: %s", path, what, strerror((int)-error));
}

static void
name_file(char out[PATH_ROOM], const struct data_dir *dir, const char *name)
{
    snprintf(out, PATH_ROOM, "%s/%s", dir->path, name);
}

/* --- the lock -------------------------------------------------------------------------- */

/* Who holds it wrote its pid; one that has just begun may not have yet. */
static bool
err_locked(struct err *err, const char *path, int lock)
{
    char pid[32] = "";
    ssize_t n = pread(lock, pid, sizeof(pid) - 1, 0);

    pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
    return err_set(err, INTERNAL_ERROR, "%s: another broker runs here, pid %s", path,
                   pid[0] != '\0' ? pid : "unknown");
}

static bool
take_lock(struct data_dir *dir, struct err *err)
{
    char path[PATH_ROOM], pid[32];
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

    name_file(path, dir, "lock");
    dir->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (dir->lock < 0)
        return err_io(err, path, "open", -errno);
    if (flock(dir->lock, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? err_locked(err, dir->path, dir->lock)
                                    : err_io(err, path, "flock", -errno);
    /* the pid is for people: a full disk is no reason not to start */
    if (ftruncate(dir->lock, 0) != 0 || pwrite(dir->lock, pid, (size_t)n, 0) != n) {
        int emptied = ftruncate(dir->lock, 0);

        (void)emptied;
    }
    return true;
}

/* --- slots ----------------------------------------------------------------------------- */

static int
write_lines(char out[SLOT_BYTES], uint32_t shards, uint64_t term)
{
    int n = snprintf(out, SLOT_BYTES, "%sversion %d\nshards %" PRIu32 "\nterm %" PRIu64 "\n",
                     first_line, DATA_DIR_VERSION, shards, term);

    assert(n > 0 && n < SLOT_BYTES - 32);
    return n;
}

static void
encode(char out[SLOT_BYTES + 1], uint32_t shards, uint64_t term)
{
    int n = write_lines(out, shards, term);

    n += snprintf(out + n, (size_t)(SLOT_BYTES - n), "sum %016" PRIx64 "\n",
                  XXH64(out, (size_t)n, 0));
    memset(out + n, ' ', (size_t)(SLOT_BYTES - n));
    out[SLOT_BYTES - 1] = '\n';
    out[SLOT_BYTES] = '\0';
}

/* The number of the line that begins with this word; 0 when there is none. */
static uint64_t
find_number(const char *text, const char *word)
{
    const char *at = strstr(text, word);

    return at != NULL ? strtoull(at + strlen(word), NULL, 10) : 0;
}

static struct slot
decode(const char text[SLOT_BYTES + 1])
{
    const char *sum = strstr(text, "\nsum ");
    struct slot slot = {0};

    if (strncmp(text, first_line, sizeof(first_line) - 1) != 0 || sum == NULL)
        return slot;
    slot.version = find_number(text, "\nversion ");
    slot.shards = find_number(text, "\nshards ");
    slot.term = find_number(text, "\nterm ");
    slot.is_good =
        strtoull(sum + 5, NULL, 16) == XXH64(text, (size_t)(sum + 1 - text), 0) && slot.version > 0;
    return slot;
}

/* --- opening --------------------------------------------------------------------------- */

struct state {
    char path[PATH_ROOM];
    const struct file_system *files;
    int fd;
    int64_t size;
    struct slot slots[2];
};

static bool
read_slots(struct state *state, struct err *err)
{
    for (size_t i = 0; i < 2; i++) {
        char text[SLOT_BYTES + 1] = "";
        int64_t n =
            state->files->ops->read(state->files->arg, state->fd, text, SLOT_BYTES, i * SLOT_BYTES);

        if (n < 0)
            return err_io(err, state->path, "read", n);
        state->slots[i] = decode(text);
        state->slots[i].is_empty = n == 0;
        if (state->slots[i].is_good && state->slots[i].version > DATA_DIR_VERSION)
            return err_set(err, INTERNAL_ERROR,
                           "%s: format version %" PRIu64
                           ", written by a newer lepusd; this one reads up to version %d",
                           state->path, state->slots[i].version, DATA_DIR_VERSION);
    }
    return true;
}

/* A first start that a crash cut short leaves no good slot, and nothing else either. */
static bool
is_pristine(const struct data_dir *dir)
{
    char path[PATH_ROOM];

    name_file(path, dir, "metadata.sqlite");
    return access(path, F_OK) != 0 && errno == ENOENT;
}

/* The slot that counts: 0 or 1; 2 when there is none yet. */
static bool
choose_slot(const struct data_dir *dir, const struct state *state, size_t *out, struct err *err)
{
    const struct slot *slots = state->slots;

    if (slots[0].is_good || slots[1].is_good) {
        *out = !slots[0].is_good || (slots[1].is_good && slots[1].term > slots[0].term);
        if (slots[*out].shards == 0 || slots[*out].shards > UINT32_MAX)
            return err_set(err, INTERNAL_ERROR, "%s: %" PRIu64 " shards cannot be", state->path,
                           slots[*out].shards);
        return true;
    }
    *out = 2;
    return is_pristine(dir) || err_set(err, INTERNAL_ERROR,
                                       "%s: damaged: neither of its two slots can be read. Put it "
                                       "back from a copy, or move the directory away",
                                       state->path);
}

static bool
write_slot(const struct data_dir *dir, struct state *state, size_t at, struct err *err)
{
    const struct file_ops *ops = state->files->ops;
    void *arg = state->files->arg;
    char text[SLOT_BYTES + 1];
    struct iovec iov = {text, SLOT_BYTES};
    int error;

    encode(text, dir->shards, dir->term);
    error = ops->write(arg, state->fd, &iov, 1, at * SLOT_BYTES);
    if (error == 0)
        error = ops->sync(arg, state->fd);
    if (error == 0 && dir->is_new) /* the file's name, and the folder's own */
        error = ops->sync_dir(arg, dir->path);
    return error == 0 || err_io(err, state->path, "write", error);
}

/* A slot that is spoilt may have held the term after this one, and somebody may have written in it:
 * that one is left out. */
static uint64_t
next_term(const struct slot *counts, const struct slot *other)
{
    return counts->term + (other->is_good || other->is_empty ? 1 : 2);
}

static bool
begin_term(struct data_dir *dir, struct state *state, uint32_t shards, struct err *err)
{
    size_t counts;

    if (!read_slots(state, err) || !choose_slot(dir, state, &counts, err))
        return false;
    dir->is_new = counts == 2;
    dir->shards = dir->is_new ? shards : (uint32_t)state->slots[counts].shards;
    dir->term = dir->is_new ? 1 : next_term(&state->slots[counts], &state->slots[!counts]);
    return write_slot(dir, state, counts == 0 ? 1 : 0, err);
}

static bool
open_state(struct data_dir *dir, const struct file_system *files, uint32_t shards, struct err *err)
{
    struct state state = {.files = files};
    bool ok;

    name_file(state.path, dir, "lepus.state");
    state.fd = files->ops->open(files->arg, state.path, FILE_CREATE);
    if (state.fd < 0)
        return err_io(err, state.path, "open", state.fd);
    ok = begin_term(dir, &state, shards, err);
    files->ops->close(files->arg, state.fd);
    return ok;
}

/* The folder's name is in its parent. */
static void
sync_parent(const struct data_dir *dir, const struct file_system *files)
{
    char path[PATH_ROOM];

    name_file(path, dir, "..");
    (void)files->ops->sync_dir(files->arg, path); /* a parent that we may not read: no harm */
}

bool
data_dir_open(struct data_dir *dir, const char *path, const struct file_system *files,
              uint32_t shards, struct err *err)
{
    int error = files->ops->make_dir(files->arg, path);

    assert(shards > 0);
    *dir = (struct data_dir){.path = view_dup(view_str(path)), .lock = -1};
    if (error != 0)
        err_io(err, path, "mkdir", error);
    else if (take_lock(dir, err) && open_state(dir, files, shards, err)) {
        if (dir->is_new)
            sync_parent(dir, files);
        return true;
    }
    data_dir_close(dir);
    return false;
}

void
data_dir_close(struct data_dir *dir)
{
    if (dir->path == NULL)
        return;
    if (dir->lock >= 0)
        close(dir->lock);
    free(dir->path);
    *dir = (struct data_dir){.lock = -1};
}
