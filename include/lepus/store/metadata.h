/*
 * metadata: what has been defined, in a database that an operator can open with sqlite3.
 *
 * Rows of vhosts, users, permissions, parameters, policies, durable exchanges, queues and
 * bindings. What they mean is their owners' business: the topology for the last three and the
 * vhosts. Here they are put, removed, and told again at the start.
 *
 *   - A change (metadata_put_..., metadata_remove_...) is serialised at once, gets the next
 *     *ticket*, and waits. Any thread; no disk is touched. Whoever must know that it is safe
 *     remembers the ticket.
 *   - One writer thread takes all that waits, applies it in order in one transaction, the ticket
 *     of its last change with it, and commits (WAL, synchronous=FULL). Then it tells every
 *     listener, on that one's worker, up to which ticket everything is safe: one call per commit
 *     and listener at most. While it commits the next ones gather: that is the group commit.
 *   - When a commit fails (ENOSPC, EIO, somebody locked the file), nothing is dropped and nothing
 *     becomes safe: ops.trouble is told once, and the same changes are tried again each second,
 *     until it works: then ops.trouble(NULL). Meanwhile what waits grows in memory: those who ask
 *     for changes wait for their tickets, and so bound it.
 *
 * A change says what shall be true (this row stands there, no row of this key does), so to apply
 * it twice is to apply it once. Tickets go on where the database's last one was.
 *
 * Names may hold any octets: what is no UTF-8, or has a NUL inside, is stored as a BLOB, all else
 * as TEXT. Arguments are a field table's octets; beside them stands the same as JSON, which is
 * for people and never read back. PRAGMA user_version is the version of this schema: a newer one is
 * refused.
 *
 * The view binding_names shows the bindings with the names of their ends.
 */
#ifndef LEPUS_STORE_METADATA_H
#define LEPUS_STORE_METADATA_H

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/net/worker.h"

enum { METADATA_VERSION = 1 };

/* Of each table its columns, the key's first, as C(KEY or COL, type, name). id: a number that is
 * never negative; number; flag; text: octets; json: a text that is JSON, "" for none; table: a
 * field table's octets. From these rows come the structs, the schema and all that moves them. */
/* clang-format off */
#define METADATA_COUNTERS(C)                                                                  \
    C(KEY, text, name) C(COL, id, value)

#define METADATA_VHOSTS(C)                                                                    \
    C(KEY, id, id) C(COL, text, name) C(COL, text, description) C(COL, text, tags)            \
    C(COL, text, default_queue_type) C(COL, flag, tracing) C(COL, json, metadata)

#define METADATA_USERS(C)                                                                     \
    C(KEY, text, name) C(COL, text, password_hash) C(COL, text, hashing_algorithm)            \
    C(COL, text, tags) C(COL, json, limits)

#define METADATA_PERMISSIONS(C)                                                               \
    C(KEY, text, user) C(KEY, id, vhost)                                                      \
    C(COL, text, configure) C(COL, text, write) C(COL, text, read)

#define METADATA_TOPIC_PERMISSIONS(C)                                                         \
    C(KEY, text, user) C(KEY, id, vhost) C(KEY, text, exchange)                               \
    C(COL, text, write) C(COL, text, read)

#define METADATA_PARAMETERS(C)                                                                \
    C(KEY, id, vhost) C(KEY, text, component) C(KEY, text, name) C(COL, json, value)

#define METADATA_GLOBAL_PARAMETERS(C)                                                         \
    C(KEY, text, name) C(COL, json, value)

#define METADATA_POLICIES(C)                                                                  \
    C(KEY, id, vhost) C(KEY, flag, is_operator) C(KEY, text, name)                            \
    C(COL, text, pattern) C(COL, text, apply_to) C(COL, number, priority)                     \
    C(COL, json, definition)

#define METADATA_EXCHANGES(C)                                                                 \
    C(KEY, id, id) C(COL, id, vhost) C(COL, text, name) C(COL, text, type)                    \
    C(COL, flag, auto_delete) C(COL, flag, internal) C(COL, table, arguments)

#define METADATA_QUEUES(C)                                                                    \
    C(KEY, id, id) C(COL, id, vhost) C(COL, id, shard) C(COL, text, name)                     \
    C(COL, flag, auto_delete) C(COL, table, arguments)

#define METADATA_BINDINGS(C)                                                                  \
    C(KEY, id, source) C(KEY, id, destination) C(KEY, text, routing_key)                      \
    C(KEY, table, arguments) C(COL, id, vhost) C(COL, flag, to_exchange)

/*    a row's name       the table's        its columns */
#define METADATA_TABLES(T)                                                                    \
    T(counter,           counters,          METADATA_COUNTERS)                                \
    T(vhost,             vhosts,            METADATA_VHOSTS)                                  \
    T(user,              users,             METADATA_USERS)                                   \
    T(permission,        permissions,       METADATA_PERMISSIONS)                             \
    T(topic_permission,  topic_permissions, METADATA_TOPIC_PERMISSIONS)                       \
    T(parameter,         parameters,        METADATA_PARAMETERS)                              \
    T(global_parameter,  global_parameters, METADATA_GLOBAL_PARAMETERS)                       \
    T(policy,            policies,          METADATA_POLICIES)                                \
    T(exchange,          exchanges,         METADATA_EXCHANGES)                               \
    T(queue,             queues,            METADATA_QUEUES)                                  \
    T(binding,           bindings,          METADATA_BINDINGS)
/* clang-format on */

#define METADATA_TYPE_id     uint64_t
#define METADATA_TYPE_number int64_t
#define METADATA_TYPE_flag   bool
#define METADATA_TYPE_text   struct view
#define METADATA_TYPE_json   struct view
#define METADATA_TYPE_table  struct view

/* struct metadata_vhost { uint64_t id; struct view name; ... }, and so on */
#define METADATA_MEMBER(role, type, name) METADATA_TYPE_##type name;
#define T(row, table, columns)                                                                     \
    struct metadata_##row {                                                                        \
        columns(METADATA_MEMBER)                                                                   \
    };
METADATA_TABLES(T)
#undef T
#undef METADATA_MEMBER

/* METADATA_vhosts, ... */
enum metadata_table {
#define T(row, table, columns) METADATA_##table,
    METADATA_TABLES(T)
#undef T
        METADATA_TABLE_COUNT
};

union metadata_row {
#define T(row, table, columns) struct metadata_##row row;
    METADATA_TABLES(T)
#undef T
};

struct metadata;

/* --- opening, looking ------------------------------------------------------------------ */

enum metadata_mode {
    METADATA_WRITE, /* made when it is missing; the caller holds the data directory's lock */
    METADATA_LOOK,  /* must exist; a broker may be running */
};

/* dir: the data directory. NULL: what the file is instead, newer, or what the disk said. */
struct metadata *metadata_open(const char *dir, enum metadata_mode mode, struct err *err);
void metadata_close(struct metadata *metadata); /* stopped; NULL is fine */

/* Calls each for every row of a table in the order of its key; the row's views are borrowed for
 * the call. Ends with the first that fails. Only while no writer thread runs. */
typedef bool metadata_each(void *arg, const union metadata_row *row, struct err *err);
bool metadata_walk(struct metadata *metadata, enum metadata_table table, metadata_each *each,
                   void *arg, struct err *err);

/* --- changing -------------------------------------------------------------------------- */

/* The ticket of the change. Rows are borrowed for the call; a removal looks at the key's columns
 * only. A vhost takes its permissions, parameters and policies with it, a user its permissions. */
uint64_t metadata_put(struct metadata *metadata, enum metadata_table table, const void *row);
uint64_t metadata_remove(struct metadata *metadata, enum metadata_table table, const void *row);

/* metadata_put_vhost(metadata, &(struct metadata_vhost){...}), metadata_remove_vhost, ... */
#define T(name, table, columns)                                                                    \
    static inline uint64_t metadata_put_##name(struct metadata *metadata,                          \
                                               const struct metadata_##name *row)                  \
    {                                                                                              \
        return metadata_put(metadata, METADATA_##table, row);                                      \
    }                                                                                              \
    static inline uint64_t metadata_remove_##name(struct metadata *metadata,                       \
                                                  const struct metadata_##name *row)               \
    {                                                                                              \
        return metadata_remove(metadata, METADATA_##table, row);                                   \
    }
METADATA_TABLES(T)
#undef T

uint64_t metadata_last(struct metadata *metadata); /* the last ticket given; any thread */
uint64_t metadata_committed(const struct metadata *metadata); /* all up to it is safe; any thread */

/* --- the writer ------------------------------------------------------------------------ */

/* On the writer's thread. why: what fails, or NULL when it works again. */
struct metadata_ops {
    void (*trouble)(void *arg, const struct err *why);
};

/* Before the start. */
void metadata_set_ops(struct metadata *metadata, const struct metadata_ops *ops, void *arg);

/* Before the start: committed(arg, ticket) is called on the worker's thread after each commit (one
 * call may stand for several), with the last ticket that is safe. */
typedef void metadata_committed_fn(void *arg, uint64_t ticket);
void metadata_listen(struct metadata *metadata, struct worker *worker,
                     metadata_committed_fn *committed, void *arg);

/* Commits all that waits on the caller's thread, without telling listeners; while no writer thread
 * runs. */
bool metadata_commit(struct metadata *metadata, struct err *err);

/* Waits until all that was put so far is safe; while no writer thread runs, commits it itself.
 * Any thread that may wait. False when it is not within the time. */
bool metadata_settle(struct metadata *metadata, uint64_t patience_ms, struct err *err);

/* Main thread. The thread has every signal blocked. */
bool metadata_start(struct metadata *metadata, struct err *err);

/* Main thread, after the workers have stopped: commits what waits, ends the thread. False when
 * that could not be written: so many changes, that nobody was told are safe, are lost. */
bool metadata_stop(struct metadata *metadata, struct err *err);

#endif
