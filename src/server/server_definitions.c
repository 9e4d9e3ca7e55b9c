/* server_definitions: definitions.json, imported and exported. */
#include <errno.h>

#include "server_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/log.h"

/* --- import ---------------------------------------------------------------------------- */

static void
log_notice(void *arg, enum definitions_notice notice, const char *line)
{
    const struct server *server = arg;

    if (notice == DEFINITIONS_ERROR)
        log_error(NULL, "%s: %s", server->config.broker.load_definitions, line);
    else
        log_warn(NULL, "%s: %s", server->config.broker.load_definitions, line);
}

static bool
import(struct server *server, struct definitions_counts *out)
{
    const char *path = server->config.broker.load_definitions;
    uint64_t began_ms = clock_now_ms();
    bool ok = definitions_import_file(server->definitions, path, log_notice, server, out);

    log_info(NULL, "%s: %zu definitions taken in %llu ms, %zu errors, %zu warnings", path,
             out->objects, (unsigned long long)(clock_now_ms() - began_ms), out->errors,
             out->warnings);
    return ok;
}

bool
server_make_definitions(struct server *server, struct err *err)
{
    struct definitions_counts counts;

    server->definitions = definitions_new(server->topology, server->metadata, err);
    if (server->definitions == NULL)
        return err_wrap(err, "definitions");
    if (server->config.broker.load_definitions[0] == '\0')
        return true;
    if (!import(server, &counts)) /* nothing was committed: what it took goes with us */
        return err_set(err, PRECONDITION_FAILED, "%zu errors in broker.load_definitions",
                       counts.errors);
    return metadata_commit(server->metadata, err);
}

void
server_reload_definitions(struct server *server)
{
    struct definitions_counts counts;

    if (server->config.broker.load_definitions[0] != '\0')
        import(server, &counts);
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
