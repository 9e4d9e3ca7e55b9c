/*
 * The database: schema, changes and rows, all from the tables of metadata.h.
 *
 * A table whose key is one id is an ordinary one (that is its rowid); the others have no rowid and
 * lie in the order of their keys. Beside a column `arguments` of octets stands `arguments_json`.
 */
#include <assert.h>
#include <sqlite3.h>

#include "lepus/base/mem.h"
#include "lepus/wire/cursor.h"
#include "lepus/wire/table.h"
#include "metadata_priv.h"

enum {
    APPLICATION_ID = 0x4C455055, /* "LEPU" */
    CHANGE_VERSION = 1,
    BUSY_MS = 1000, /* somebody else writes: waited for, then tried again like any other failure */
    CHECKPOINT_PAGES = 4000,
    PATH_ROOM = 1200,
    SQL_ROOM = 1500,
};

/* --- the tables as data ------------------------------------------------------------------ */

enum column_type { TYPE_id, TYPE_number, TYPE_flag, TYPE_text, TYPE_json, TYPE_table };
enum column_role { ROLE_KEY, ROLE_COL };

struct column {
    enum column_role role;
    enum column_type type;
    const char *name;
    size_t offset; /* in its row's struct */
};

#define COLUMN(row_role, row_type, row_name)                                                       \
    {ROLE_##row_role, TYPE_##row_type, #row_name, offsetof(struct ROW, row_name)},

#define ROW metadata_counter
static const struct column counters[] = {METADATA_COUNTERS(COLUMN)};
#undef ROW
#define ROW metadata_vhost
static const struct column vhosts[] = {METADATA_VHOSTS(COLUMN)};
#undef ROW
#define ROW metadata_user
static const struct column users[] = {METADATA_USERS(COLUMN)};
#undef ROW
#define ROW metadata_permission
static const struct column permissions[] = {METADATA_PERMISSIONS(COLUMN)};
#undef ROW
#define ROW metadata_topic_permission
static const struct column topic_permissions[] = {METADATA_TOPIC_PERMISSIONS(COLUMN)};
#undef ROW
#define ROW metadata_parameter
static const struct column parameters[] = {METADATA_PARAMETERS(COLUMN)};
#undef ROW
#define ROW metadata_global_parameter
static const struct column global_parameters[] = {METADATA_GLOBAL_PARAMETERS(COLUMN)};
#undef ROW
#define ROW metadata_policy
static const struct column policies[] = {METADATA_POLICIES(COLUMN)};
#undef ROW
#define ROW metadata_exchange
static const struct column exchanges[] = {METADATA_EXCHANGES(COLUMN)};
#undef ROW
#define ROW metadata_queue
static const struct column queues[] = {METADATA_QUEUES(COLUMN)};
#undef ROW
#define ROW metadata_binding
static const struct column bindings[] = {METADATA_BINDINGS(COLUMN)};
#undef ROW

static const struct {
    const char *name;
    const struct column *columns;
    size_t n;
} tables[METADATA_TABLE_COUNT] = {
#define T(row, table, list) {#table, table, sizeof(table) / sizeof(table[0])},
    METADATA_TABLES(T)
#undef T
};

#define each_column(column, table)                                                                 \
    const struct column *column = tables[table].columns;                                           \
    column < tables[table].columns + tables[table].n;                                              \
    column++

static void *
member(void *row, const struct column *column)
{
    return (char *)row + column->offset;
}

static const void *
member_of(const void *row, const struct column *column)
{
    return (const char *)row + column->offset;
}

/* --- changes, serialised ----------------------------------------------------------------- */

static void
encode_column(struct buf *to, const struct column *column, const void *row)
{
    const void *at = member_of(row, column);
    const struct view *octets = at;

    switch (column->type) {
    case TYPE_id:
        buf_u64(to, *(const uint64_t *)at);
        break;
    case TYPE_number:
        buf_u64(to, (uint64_t) * (const int64_t *)at);
        break;
    case TYPE_flag:
        buf_u8(to, *(const bool *)at);
        break;
    case TYPE_text:
    case TYPE_json:
    case TYPE_table:
        assert(octets->len <= UINT32_MAX);
        buf_u32(to, (uint32_t)octets->len);
        if (octets->len > 0)
            buf_append(to, octets->at, octets->len);
        break;
    }
}

void
metadata_encode(struct buf *to, enum metadata_operation operation, enum metadata_table table,
                const void *row)
{
    buf_u8(to, CHANGE_VERSION);
    buf_u8(to, (uint8_t)operation);
    buf_u8(to, (uint8_t)table);
    for (each_column(column, table))
        if (operation == METADATA_PUT || column->role == ROLE_KEY)
            encode_column(to, column, row);
}

static void
decode_column(struct cursor *from, const struct column *column, void *row)
{
    void *at = member(row, column);

    switch (column->type) {
    case TYPE_id:
        *(uint64_t *)at = rd_u64(from);
        break;
    case TYPE_number:
        *(int64_t *)at = (int64_t)rd_u64(from);
        break;
    case TYPE_flag:
        *(bool *)at = rd_u8(from) != 0;
        break;
    case TYPE_text:
    case TYPE_json:
    case TYPE_table:
        *(struct view *)at = rd_longstr(from);
        break;
    }
}

struct change {
    enum metadata_operation operation;
    enum metadata_table table;
    union metadata_row row; /* its views point into what it was read from */
};

/* We wrote it ourselves, in this process. */
static void
decode(struct cursor *from, struct change *out)
{
    uint8_t version = rd_u8(from), operation = rd_u8(from), table = rd_u8(from);

    assert(version == CHANGE_VERSION && operation <= METADATA_REMOVE &&
           table < METADATA_TABLE_COUNT);
    out->operation = operation;
    out->table = table;
    for (each_column(column, table))
        if (operation == METADATA_PUT || column->role == ROLE_KEY)
            decode_column(from, column, &out->row);
    assert(!from->bad);
}

/* --- the schema -------------------------------------------------------------------------- */

struct metadata_db {
    sqlite3 *sqlite;
    char path[PATH_ROOM];
    struct buf json; /* of the row that is being put */
    sqlite3_stmt *statements[METADATA_TABLE_COUNT][METADATA_REMOVE + 1];
};

static bool
err_sqlite(struct err *err, const struct metadata_db *db, const char *what)
{
    int error = sqlite3_system_errno(db->sqlite);

    return err_set(err, INTERNAL_ERROR, "%s: %s: %s%s%s", db->path, what,
                   sqlite3_errmsg(db->sqlite), error != 0 ? ": " : "",
                   error != 0 ? strerror(error) : "");
}

/* A statement under construction. */
struct sql {
    char at[SQL_ROOM];
    size_t len;
};

static void put(struct sql *sql, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
put(struct sql *sql, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(sql->at + sql->len, sizeof(sql->at) - sql->len, format, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof(sql->at) - sql->len);
    sql->len += (size_t)n;
}

static bool
has_rowid(enum metadata_table table)
{
    return tables[table].columns[0].type == TYPE_id && tables[table].columns[1].role != ROLE_KEY;
}

static void
put_create(struct sql *sql, enum metadata_table table)
{
    static const char *const types[] = {"INTEGER", "INTEGER", "INTEGER", "TEXT", "TEXT", "BLOB"};
    const char *separator = "";

    put(sql, "CREATE TABLE %s (", tables[table].name);
    for (each_column(column, table)) {
        put(sql, "%s%s %s NOT NULL", separator, column->name, types[column->type]);
        if (column->type == TYPE_table)
            put(sql, ", %s_json TEXT NOT NULL", column->name);
        separator = ", ";
    }
    separator = ", PRIMARY KEY (";
    for (each_column(column, table)) {
        if (column->role != ROLE_KEY)
            continue;
        put(sql, "%s%s", separator, column->name);
        separator = ", ";
    }
    put(sql, "))%s;", has_rowid(table) ? "" : " WITHOUT ROWID");
}

/* What goes with a vhost or a user, and what helps those who look. */
static const char more_schema[] =
    "CREATE TRIGGER vhost_goes AFTER DELETE ON vhosts BEGIN"
    "  DELETE FROM permissions WHERE vhost = old.id;"
    "  DELETE FROM topic_permissions WHERE vhost = old.id;"
    "  DELETE FROM parameters WHERE vhost = old.id;"
    "  DELETE FROM policies WHERE vhost = old.id;"
    "END;"
    "CREATE TRIGGER user_goes AFTER DELETE ON users BEGIN"
    "  DELETE FROM permissions WHERE user = old.name;"
    "  DELETE FROM topic_permissions WHERE user = old.name;"
    "END;"
    "CREATE VIEW binding_names AS"
    " SELECT v.name AS vhost, s.name AS source, b.routing_key,"
    "  CASE b.to_exchange WHEN 1 THEN 'exchange' ELSE 'queue' END AS destination_type,"
    "  coalesce(q.name, d.name) AS destination, b.arguments_json AS arguments"
    " FROM bindings b LEFT JOIN vhosts v ON v.id = b.vhost"
    "  LEFT JOIN exchanges s ON s.id = b.source"
    "  LEFT JOIN queues q ON NOT b.to_exchange AND q.id = b.destination"
    "  LEFT JOIN exchanges d ON b.to_exchange AND d.id = b.destination;";

static bool
execute(struct metadata_db *db, const char *sql, struct err *err)
{
    return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK || err_sqlite(err, db, sql);
}

static bool
create_all(struct metadata_db *db, struct err *err)
{
    struct sql last = {.len = 0};

    for (unsigned table = 0; table < METADATA_TABLE_COUNT; table++) {
        struct sql sql = {.len = 0};

        put_create(&sql, table);
        if (!execute(db, sql.at, err))
            return false;
    }
    put(&last, "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID,
        METADATA_VERSION);
    return execute(db, more_schema, err) && execute(db, last.at, err);
}

static bool
ask_number(struct metadata_db *db, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    bool ok = sqlite3_prepare_v2(db->sqlite, sql, -1, &statement, NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;

    if (ok)
        *out = sqlite3_column_int64(statement, 0);
    else
        err_sqlite(err, db, sql);
    sqlite3_finalize(statement);
    return ok;
}

/* An empty file becomes ours; what is not ours, or newer, is left alone. */
static bool
check_schema(struct metadata_db *db, enum metadata_mode mode, struct err *err)
{
    int64_t application, version, things;

    if (!ask_number(db, "PRAGMA application_id", &application, err) ||
        !ask_number(db, "PRAGMA user_version", &version, err) ||
        !ask_number(db, "SELECT count(*) FROM sqlite_schema", &things, err))
        return false;
    if (things == 0 && mode == METADATA_WRITE)
        return execute(db, "BEGIN IMMEDIATE", err) && create_all(db, err) &&
               execute(db, "COMMIT", err);
    if (application != APPLICATION_ID)
        return err_set(err, INTERNAL_ERROR, "%s: not a database of lepusd's", db->path);
    if (version > METADATA_VERSION)
        return err_set(err, INTERNAL_ERROR,
                       "%s: format version %lld, written by a newer lepusd; this one reads up to "
                       "version %d",
                       db->path, (long long)version, METADATA_VERSION);
    return true;
}

/* --- opening ----------------------------------------------------------------------------- */

static bool
prepare(struct metadata_db *db, const char *sql, sqlite3_stmt **out, struct err *err)
{
    return sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) ==
               SQLITE_OK ||
           err_sqlite(err, db, sql);
}

static void
put_upsert(struct sql *sql, enum metadata_table table)
{
    const char *separator = "";

    put(sql, "INSERT OR REPLACE INTO %s VALUES (", tables[table].name);
    for (each_column(column, table)) {
        put(sql, column->type == TYPE_table ? "%s?, ?" : "%s?", separator);
        separator = ", ";
    }
    put(sql, ")");
}

static void
put_delete(struct sql *sql, enum metadata_table table)
{
    const char *separator = " WHERE ";

    put(sql, "DELETE FROM %s", tables[table].name);
    for (each_column(column, table)) {
        if (column->role != ROLE_KEY)
            continue;
        put(sql, "%s%s = ?", separator, column->name);
        separator = " AND ";
    }
}

static bool
prepare_all(struct metadata_db *db, struct err *err)
{
    for (unsigned table = 0; table < METADATA_TABLE_COUNT; table++) {
        struct sql upsert = {.len = 0}, removal = {.len = 0};

        put_upsert(&upsert, table);
        put_delete(&removal, table);
        if (!prepare(db, upsert.at, &db->statements[table][METADATA_PUT], err) ||
            !prepare(db, removal.at, &db->statements[table][METADATA_REMOVE], err))
            return false;
    }
    return true;
}

static bool
open_it(struct metadata_db *db, enum metadata_mode mode, struct err *err)
{
    int flags = mode == METADATA_WRITE
                    ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                    : SQLITE_OPEN_READWRITE; /* to look at a WAL is to share it */
    struct sql pragmas = {.len = 0};

    if (sqlite3_open_v2(db->path, &db->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return err_sqlite(err, db, "open");
    sqlite3_extended_result_codes(db->sqlite, 1);
    sqlite3_busy_timeout(db->sqlite, BUSY_MS);
    put(&pragmas,
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = %d",
        CHECKPOINT_PAGES);
    return (mode == METADATA_LOOK || execute(db, pragmas.at, err)) && check_schema(db, mode, err) &&
           (mode == METADATA_LOOK || prepare_all(db, err));
}

struct metadata_db *
metadata_db_open(const char *dir, enum metadata_mode mode, struct err *err)
{
    struct metadata_db *db = mem_new(struct metadata_db);

    buf_init(&db->json, SIZE_MAX / 2);
    snprintf(db->path, sizeof(db->path), "%s/metadata.sqlite", dir);
    if (open_it(db, mode, err))
        return db;
    metadata_db_close(db);
    return NULL;
}

void
metadata_db_close(struct metadata_db *db)
{
    if (db == NULL)
        return;
    for (unsigned table = 0; table < METADATA_TABLE_COUNT; table++)
        for (unsigned i = METADATA_PUT; i <= METADATA_REMOVE; i++)
            sqlite3_finalize(db->statements[table][i]);
    sqlite3_close(db->sqlite);
    buf_fini(&db->json);
    free(db);
}

/* --- rows in ----------------------------------------------------------------------------- */

static int
bind_octets(sqlite3_stmt *statement, int at, struct view octets, bool as_text)
{
    const char *bytes = octets.len > 0 ? (const char *)octets.at : "";

    if (as_text)
        return sqlite3_bind_text64(statement, at, bytes, octets.len, SQLITE_STATIC, SQLITE_UTF8);
    return sqlite3_bind_blob64(statement, at, bytes, octets.len, SQLITE_STATIC);
}

/* The same octets always become the same value: keys are compared. */
static int
bind_text(sqlite3_stmt *statement, int at, struct view text)
{
    bool is_text = view_is_utf8(text) && (text.len == 0 || memchr(text.at, '\0', text.len) == NULL);

    return bind_octets(statement, at, text, is_text);
}

static int
bind_column(sqlite3_stmt *statement, int at, const struct column *column, const void *row)
{
    const void *value = member_of(row, column);

    switch (column->type) {
    case TYPE_id:
        return sqlite3_bind_int64(statement, at, (int64_t) * (const uint64_t *)value);
    case TYPE_number:
        return sqlite3_bind_int64(statement, at, *(const int64_t *)value);
    case TYPE_flag:
        return sqlite3_bind_int(statement, at, *(const bool *)value);
    case TYPE_text:
    case TYPE_json:
        return bind_text(statement, at, *(const struct view *)value);
    case TYPE_table:
        return bind_octets(statement, at, *(const struct view *)value, false);
    }
    return SQLITE_MISUSE;
}

static int
bind_json(struct metadata_db *db, sqlite3_stmt *statement, int at, const struct column *column,
          const void *row)
{
    buf_clear(&db->json);
    table_to_json(&db->json, *(const struct view *)member_of(row, column));
    return db->json.bad ? SQLITE_NOMEM : bind_octets(statement, at, buf_view(&db->json), true);
}

static int
run_change(struct metadata_db *db, const struct change *change)
{
    sqlite3_stmt *statement = db->statements[change->table][change->operation];
    int at = 0, result = SQLITE_OK;

    for (each_column(column, change->table)) {
        if (change->operation == METADATA_REMOVE && column->role != ROLE_KEY)
            continue;
        if (result == SQLITE_OK)
            result = bind_column(statement, ++at, column, &change->row);
        if (result == SQLITE_OK && column->type == TYPE_table && change->operation == METADATA_PUT)
            result = bind_json(db, statement, ++at, column, &change->row);
    }
    if (result == SQLITE_OK)
        sqlite3_step(statement);
    return result == SQLITE_OK ? sqlite3_reset(statement) : result;
}

static bool
apply(struct metadata_db *db, struct view changes, uint64_t last, struct err *err)
{
    struct cursor from = cursor_of(changes);
    struct change applied = {
        .operation = METADATA_PUT,
        .table = METADATA_counters,
        .row.counter = {.name = VIEW_LIT("applied"), .value = last},
    };

    while (from.left > 0) {
        struct change change;

        decode(&from, &change);
        if (run_change(db, &change) != SQLITE_OK)
            return err_sqlite(err, db, tables[change.table].name);
    }
    return run_change(db, &applied) == SQLITE_OK || err_sqlite(err, db, "counters");
}

bool
metadata_db_commit(struct metadata_db *db, struct view changes, uint64_t last, struct err *err)
{
    if (!execute(db, "BEGIN IMMEDIATE", err))
        return false;
    if (apply(db, changes, last, err) && execute(db, "COMMIT", err))
        return true;
    if (!sqlite3_get_autocommit(db->sqlite)) /* it may have rolled back by itself */
        sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

/* --- rows out ---------------------------------------------------------------------------- */

static bool
read_column(sqlite3_stmt *statement, int at, const struct column *column, void *row)
{
    void *value = member(row, column);

    switch (column->type) {
    case TYPE_id:
        *(uint64_t *)value = (uint64_t)sqlite3_column_int64(statement, at);
        return sqlite3_column_int64(statement, at) >= 0;
    case TYPE_number:
        *(int64_t *)value = sqlite3_column_int64(statement, at);
        return true;
    case TYPE_flag:
        *(bool *)value = sqlite3_column_int64(statement, at) != 0;
        return true;
    case TYPE_text:
    case TYPE_json:
    case TYPE_table:
        /* the pointer first: it may convert, and then the length is that of what it gave */
        ((struct view *)value)->at = sqlite3_column_blob(statement, at);
        ((struct view *)value)->len = (size_t)sqlite3_column_bytes(statement, at);
        return column->type != TYPE_table || table_check(*(struct view *)value);
    }
    return false;
}

static bool
read_row(const struct metadata_db *db, sqlite3_stmt *statement, enum metadata_table table,
         union metadata_row *out, struct err *err)
{
    int at = 0;

    for (each_column(column, table)) {
        if (!read_column(statement, at++, column, out))
            return err_set(err, INTERNAL_ERROR, "%s: table %s, column %s: not what it can be",
                           db->path, tables[table].name, column->name);
    }
    return true;
}

static void
put_select(struct sql *sql, enum metadata_table table)
{
    const char *separator = "SELECT ";

    for (each_column(column, table)) {
        put(sql, "%s%s", separator, column->name);
        separator = ", ";
    }
    put(sql, " FROM %s", tables[table].name);
    separator = " ORDER BY ";
    for (each_column(column, table)) {
        if (column->role != ROLE_KEY)
            continue;
        put(sql, "%s%s", separator, column->name);
        separator = ", ";
    }
}

bool
metadata_db_walk(struct metadata_db *db, enum metadata_table table, metadata_each *each, void *arg,
                 struct err *err)
{
    sqlite3_stmt *statement = NULL;
    struct sql sql = {.len = 0};
    union metadata_row row;
    bool ok;
    int step;

    put_select(&sql, table);
    ok = prepare(db, sql.at, &statement, err);
    while (ok && (step = sqlite3_step(statement)) != SQLITE_DONE)
        ok = step == SQLITE_ROW ? read_row(db, statement, table, &row, err) && each(arg, &row, err)
                                : err_sqlite(err, db, tables[table].name);
    sqlite3_finalize(statement);
    return ok;
}

static bool
take_applied(void *arg, const union metadata_row *row, struct err *err)
{
    (void)err;
    if (view_equal(row->counter.name, VIEW_LIT("applied")))
        *(uint64_t *)arg = row->counter.value;
    return true;
}

bool
metadata_db_applied(struct metadata_db *db, uint64_t *out, struct err *err)
{
    *out = 0;
    return metadata_db_walk(db, METADATA_counters, take_applied, out, err);
}
