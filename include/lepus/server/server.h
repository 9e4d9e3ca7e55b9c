/*
 * server: the broker as a whole, from its first listener to its last.
 *
 * It belongs to the main thread. server_new sets up everything that can fail for a reason an
 * operator can mend (directories, addresses); server_run starts the workers, prints the line that
 * says it is ready, and sits in the main loop until a signal ends it:
 *
 *     SIGTERM, SIGINT   orderly stop: listeners first, then connections, then workers
 *     SIGHUP            reload: asks the hook for the configuration to use from now on
 */
#ifndef LEPUS_SERVER_SERVER_H
#define LEPUS_SERVER_SERVER_H

#include <stdbool.h>

#include "lepus/base/err.h"
#include "lepus/server/config.h"

struct server; /* opaque: its members live in server.c */

/* On SIGHUP, in the main thread: fills *out with the configuration to use from now on, in which
 * only keys that may change live differ from the one before; the log's are already applied, and
 * every change is already logged. False, with *out untouched, when the old one stays: the hook
 * has logged why, *err says it in short. */
typedef bool server_reload(void *arg, struct config *out, struct err *err);

/* Copies config. NULL, with *err filled, when the broker cannot start with it. */
struct server *server_new(const struct config *config, struct err *err);

/* Whether the files that config names can be loaded, as far as that is known without a start. */
bool server_check(const struct config *config, struct err *err);

/* Prints what the data directory of config defines, as a definitions.json, whether a broker runs
 * there or not; tells on standard error what JSON cannot tell. The exit status. */
int server_export_definitions(const struct config *config);

/* Once, before server_run. Without a hook SIGHUP does nothing. */
void server_on_reload(struct server *server, server_reload *reload, void *arg);

/* Blocks until stopped; returns the exit status: 0 after an orderly stop. */
int server_run(struct server *server);

void server_free(struct server *server); /* NULL is fine */

#endif
