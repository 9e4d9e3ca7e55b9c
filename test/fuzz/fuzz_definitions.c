/*
 * definitions.json: the input is a document, imported into a broker that has nothing.
 *
 * What must hold: an import either tells an error or succeeds, never both; importing the document
 * again tells the same and changes nothing; and where the export has nothing to leave out, a
 * broker that imports it exports the same bytes.
 */
#include <assert.h>
#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#include "lepus/mgmt/definitions.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

enum { LINES_MAX = 1 << 24 };

struct world {
    char path[64];
    struct metadata *metadata;
    struct topology *topology;
    struct auth *auth;
    struct definitions *definitions;
};

/* What was told. */
struct told {
    struct buf lines;
    size_t errors;
};

static void
on_told(void *arg, enum definitions_notice notice, const char *line)
{
    struct told *told = arg;

    assert(line[0] != '\0');
    told->errors += notice == DEFINITIONS_ERROR;
    buf_append(&told->lines, line, strlen(line) + 1);
}

static void
open_world(struct world *w)
{
    struct err err;

    /* In memory: a database is made for every input. */
    snprintf(w->path, sizeof(w->path), "/dev/shm/lepus-fuzz-XXXXXX");
    if (mkdtemp(w->path) == NULL) {
        snprintf(w->path, sizeof(w->path), "/tmp/lepus-fuzz-XXXXXX");
        if (mkdtemp(w->path) == NULL)
            abort();
    }
    w->metadata = metadata_open(w->path, METADATA_WRITE, &err);
    assert(w->metadata != NULL);
    w->topology = topology_open(4, 1, w->metadata, &err);
    assert(w->topology != NULL);
    w->auth = auth_open(w->metadata, &err);
    assert(w->auth != NULL);
    w->definitions = definitions_new(w->topology, w->auth, w->metadata, &err);
    assert(w->definitions != NULL);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void
close_world(struct world *w)
{
    topology_check(w->topology);
    definitions_free(w->definitions);
    auth_free(w->auth);
    topology_free(w->topology);
    metadata_close(w->metadata);
    nftw(w->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
import(struct world *w, struct view document, struct told *out)
{
    struct definitions_counts counts;
    struct err err;
    bool ok;

    buf_init(&out->lines, LINES_MAX);
    out->errors = 0;
    ok = definitions_import(w->definitions, document, on_told, out, &counts);
    assert(ok == (counts.errors == 0) && counts.errors == out->errors);
    assert(metadata_commit(w->metadata, &err));
}

/* How many things were left out. */
static size_t export(struct world *w, struct buf *out)
{
    static const struct definitions_origin origin = {"1", "2", "3"};
    struct told told = {0};
    size_t errors;
    struct err err;

    buf_init(out, DEFINITIONS_BYTES_MAX);
    buf_init(&told.lines, LINES_MAX);
    assert(definitions_export(w->metadata, &origin, out, on_told, &told, &errors, &err));
    assert(told.errors == errors);
    buf_fini(&told.lines);
    return errors;
}

static void
assert_same(const struct buf *a, const struct buf *b)
{
    assert(view_equal(buf_view(a), buf_view(b)));
}

/* An import of what was exported finds nothing wrong with it. */
static void
check_round_trip(const struct buf *exported)
{
    struct buf again;
    struct told told;
    struct world w;

    open_world(&w);
    import(&w, buf_view(exported), &told);
    assert(told.errors == 0);
    assert(export(&w, &again) == 0);
    assert_same(exported, &again);
    buf_fini(&told.lines);
    buf_fini(&again);
    close_world(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct told first, second;
    struct buf once, twice;
    size_t left_out;
    struct world w;

    open_world(&w);
    import(&w, view_of(at, size), &first);
    left_out = export(&w, &once);
    import(&w, view_of(at, size), &second);
    export(&w, &twice);
    assert_same(&once, &twice);
    if (left_out == 0)
        check_round_trip(&once);
    buf_fini(&first.lines);
    buf_fini(&second.lines);
    buf_fini(&once);
    buf_fini(&twice);
    close_world(&w);
    return 0;
}
