/*
 * metadata_priv: between the writer (metadata.c), which knows threads and tickets, and the
 * database (metadata_db.c), which knows SQLite and one connection.
 */
#ifndef STORE_METADATA_PRIV_H
#define STORE_METADATA_PRIV_H

#include "lepus/base/buf.h"
#include "lepus/store/metadata.h"

struct metadata_db;

struct metadata_db *metadata_db_open(const char *dir, enum metadata_mode mode, struct err *err);
void metadata_db_close(struct metadata_db *db);

bool metadata_db_walk(struct metadata_db *db, enum metadata_table table, metadata_each *each,
                      void *arg, struct err *err);

/* The ticket of the last change that was applied; 0 in a new one. */
bool metadata_db_applied(struct metadata_db *db, uint64_t *out, struct err *err);

/* Applies the serialised changes, all or none. */
bool metadata_db_commit(struct metadata_db *db, struct view changes, uint64_t last,
                        struct err *err);

/*
 * A change, serialised: version u8 = 1, operation u8, table u8, then its columns, of a removal
 * the key's alone: id and number u64, flag u8, the others u32 length and octets. Network order.
 */
enum metadata_operation { METADATA_PUT, METADATA_REMOVE };

void metadata_encode(struct buf *to, enum metadata_operation operation, enum metadata_table table,
                     const void *row);

/* A table's octets as JSON. */
void table_to_json(struct buf *to, struct view table);

#endif
