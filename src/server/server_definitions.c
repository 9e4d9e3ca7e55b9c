/*
 * server_definitions: definitions.json, imported and exported.
 *
 * At the start the main thread imports, before there are workers. Later, at a reload, a thread of
 * its own does: a long document shall keep nobody waiting, neither the workers, to which it is one
 * more thread that declares, nor the main thread, which looks at the disk. One import at a time: a
 * reload meanwhile is remembered, and several of them once.
 */
#include <errno.h>

#include "server_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/log.h"

enum { SETTLE_PATIENCE_MS = 5000 };

/* --- import ---------------------------------------------------------------------------- */

static void
log_notice(void *arg, enum definitions_notice notice, const char *line)
{
    const char *path = arg;

    if (notice == DEFINITIONS_ERROR)
        log_error(NULL, "%s: %s", path, line);
    else
        log_warn(NULL, "%s: %s", path, line);
}

static void
log_counts(const char *path, const struct definitions_counts *counts, uint64_t began_ms)
{
    log_info(NULL, "%s: %zu definitions taken in %llu ms, %zu errors, %zu warnings", path,
             counts->objects, (unsigned long long)(clock_now_ms() - began_ms), counts->errors,
             counts->warnings);
}

bool
server_make_definitions(struct server *server, struct err *err)
{
    char *path = server->config.broker.load_definitions;
    uint64_t began_ms = clock_now_ms();
    struct definitions_counts counts;

    server->definitions = definitions_new(server->topology, server->auth, server->metadata, err);
    if (server->definitions == NULL)
        return err_wrap(err, "definitions");
    if (path[0] == '\0')
        return true;
    /* With errors nothing is committed: what it took goes with us. */
    if (!definitions_import_file(server->definitions, path, log_notice, path, &counts))
        return err_set(err, PRECONDITION_FAILED, "%zu errors in broker.load_definitions",
                       counts.errors);
    if (!metadata_commit(server->metadata, err))
        return false;
    log_counts(path, &counts, began_ms);
    return true;
}

/* --- import while running -------------------------------------------------------------- */

static void *
run_import(void *arg)
{
    struct server *server = arg;
    struct importing *importing = &server->importing;
    uint64_t began_ms = clock_now_ms();
    struct definitions_counts counts;
    struct err err;

    definitions_import_file(server->definitions, importing->path, log_notice, importing->path,
                            &counts);
    if (!metadata_settle(server->metadata, SETTLE_PATIENCE_MS, &err))
        log_warn(NULL, "%s: not written yet: %s", importing->path, err.text);
    log_counts(importing->path, &counts, began_ms);
    atomic_store(&importing->is_done, true);
    return NULL;
}

/* The signals that the server waits for are blocked, and so they are in this thread. */
static void
start_import(struct server *server)
{
    struct importing *importing = &server->importing;
    int error;

    snprintf(importing->path, sizeof(importing->path), "%s",
             server->config.broker.load_definitions);
    atomic_store(&importing->is_done, false);
    error = pthread_create(&importing->thread, NULL, run_import, server);
    if (error != 0) {
        log_error(NULL, "%s: not imported: %s", importing->path, strerror(error));
        return;
    }
    importing->is_running = true;
    pthread_setname_np(importing->thread, "definitions");
}

void
server_reload_definitions(struct server *server)
{
    if (server->config.broker.load_definitions[0] == '\0')
        return;
    server_look_at_import(server);
    if (server->importing.is_running)
        server->importing.is_wanted = true;
    else
        start_import(server);
}

void
server_look_at_import(struct server *server)
{
    struct importing *importing = &server->importing;

    if (!importing->is_running || !atomic_load(&importing->is_done))
        return;
    server_end_import(server);
    if (importing->is_wanted)
        start_import(server);
    importing->is_wanted = false;
}

void
server_end_import(struct server *server)
{
    if (!server->importing.is_running)
        return;
    pthread_join(server->importing.thread, NULL);
    server->importing.is_running = false;
}

/* --- export ---------------------------------------------------------------------------- */

static void
tell_plainly(void *arg, enum definitions_notice notice, const char *line)
{
    (void)arg;
    (void)notice;
    fprintf(stderr, "lepusd: %s\n", line);
}

static bool
print(const struct buf *text, struct err *err)
{
    if (fwrite(text->at, 1, text->len, stdout) == text->len && fflush(stdout) == 0)
        return true;
    return err_set(err, INTERNAL_ERROR, "standard output: %s", strerror(errno));
}

int
server_export_definitions(const struct config *config)
{
    struct definitions_origin origin = {
        .rabbitmq_version = config->broker.version,
        .product_version = LEPUS_VERSION,
        .cluster_name = config->broker.cluster_name,
    };
    struct metadata *metadata;
    struct buf text;
    struct err err;
    size_t errors = 0;
    bool ok;

    metadata = metadata_open(config->broker.data_dir, METADATA_LOOK, &err);
    if (metadata == NULL) {
        tell_plainly(NULL, DEFINITIONS_ERROR, err.text);
        return EXIT_FAILURE;
    }
    buf_init(&text, DEFINITIONS_BYTES_MAX);
    ok = definitions_export(metadata, &origin, &text, tell_plainly, NULL, &errors, &err) &&
         print(&text, &err);
    if (!ok)
        tell_plainly(NULL, DEFINITIONS_ERROR, err.text);
    buf_fini(&text);
    metadata_close(metadata);
    return ok && errors == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
