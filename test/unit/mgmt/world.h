/*
 * world: a broker's definitions with nothing around them: metadata in a folder, a topology, and who
 * imports. What is told is kept as text, a line each: "error ..." or "warning ...".
 */
#ifndef TEST_MGMT_WORLD_H
#define TEST_MGMT_WORLD_H

#include "unit.h"

#include "../store/tmpdir.h"
#include "lepus/mgmt/definitions.h"

struct world {
    struct tmpdir tmp;
    struct metadata *metadata;
    struct topology *topology;
    struct auth *auth;
    struct definitions *definitions;
    struct definitions_counts counts; /* of the last import */
    size_t export_errors;
    struct buf told, document;
    struct err err;
};

static inline void
world_open(struct world *w)
{
    w->metadata = metadata_open(w->tmp.path, METADATA_WRITE, &w->err);
    if (w->metadata == NULL)
        fail_msg("%s", w->err.text);
    w->topology = topology_open(4, 1, w->metadata, &w->err);
    if (w->topology == NULL)
        fail_msg("%s", w->err.text);
    w->auth = auth_open(w->metadata, &w->err);
    assert_non_null(w->auth);
    w->definitions = definitions_new(w->topology, w->auth, w->metadata, &w->err);
    assert_non_null(w->definitions);
}

static inline void
world_close(struct world *w)
{
    topology_check(w->topology);
    definitions_free(w->definitions);
    auth_free(w->auth);
    topology_free(w->topology);
    metadata_close(w->metadata);
}

static inline void
world_init(struct world *w)
{
    *w = (struct world){0};
    tmpdir_init(&w->tmp);
    buf_init(&w->told, 1 << 24);
    buf_init(&w->document, 1 << 28);
    world_open(w);
}

static inline void
world_fini(struct world *w)
{
    world_close(w);
    buf_fini(&w->told);
    buf_fini(&w->document);
    tmpdir_fini(&w->tmp);
}

/* What was not committed is lost. */
static inline void
world_restart(struct world *w)
{
    world_close(w);
    world_open(w);
}

static inline void
world_tell(void *arg, enum definitions_notice notice, const char *line)
{
    struct world *w = arg;
    const char *word = notice == DEFINITIONS_ERROR ? "error " : "warning ";

    buf_append(&w->told, word, strlen(word));
    buf_append(&w->told, line, strlen(line));
    buf_u8(&w->told, '\n');
}

static inline const char *
world_told(struct world *w)
{
    buf_u8(&w->told, '\0');
    w->told.len--;
    return (const char *)w->told.at;
}

/* Committed, too. */
static inline bool
world_import(struct world *w, struct view document)
{
    bool ok;

    buf_clear(&w->told);
    ok = definitions_import(w->definitions, document, world_tell, w, &w->counts);
    assert_true(ok == (w->counts.errors == 0));
    if (!metadata_commit(w->metadata, &w->err))
        fail_msg("%s", w->err.text);
    return ok;
}

/* Good until the next one. */
static inline struct view
world_export(struct world *w)
{
    static const struct definitions_origin origin = {"3.13.7", "1.0", "lepus@test"};

    buf_clear(&w->told);
    buf_clear(&w->document);
    if (!definitions_export(w->metadata, &origin, &w->document, world_tell, w, &w->export_errors,
                            &w->err))
        fail_msg("%s", w->err.text);
    return buf_view(&w->document);
}

#endif
