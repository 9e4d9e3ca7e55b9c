/*
 * table: field tables, read in place and written piece by piece [0-9-1 §4.2.5.5].
 *
 * Tables stay raw bytes from end to end: no tree is built. A `struct view` of a table is its
 * contents without the length in front. Type letters are RabbitMQ's: t b B s u I i l L f d D S A
 * T F V x, where `s` is a signed 16-bit integer, both `l` and `L` signed 64-bit; see
 * FIELD_TYPES. What came in goes out byte for byte.
 */
#ifndef LEPUS_WIRE_TABLE_H
#define LEPUS_WIRE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/view.h"

enum { TABLE_DEPTH_MAX = 32 };

/* letter, name as RabbitMQ writes it in error texts, octets of the value (0: its own length) */
/* clang-format off */
#define FIELD_TYPES(T)                      \
    T('t', BOOL,      "bool",        1)     \
    T('b', I8,        "byte",        1)     \
    T('B', U8,        "unsignedbyte", 1)    \
    T('s', I16,       "short",       2)     \
    T('u', U16,       "unsignedshort", 2)   \
    T('I', I32,       "signedint",   4)     \
    T('i', U32,       "unsignedint", 4)     \
    T('l', I64,       "long",        8)     \
    T('L', I64_L,     "long",        8)     \
    T('f', FLOAT,     "float",       4)     \
    T('d', DOUBLE,    "double",      8)     \
    T('D', DECIMAL,   "decimal",     5)     \
    T('S', LONGSTR,   "longstr",     0)     \
    T('A', ARRAY,     "array",       0)     \
    T('T', TIMESTAMP, "timestamp",   8)     \
    T('F', TABLE,     "table",       0)     \
    T('V', VOID,      "void",        0)     \
    T('x', BYTES,     "binary",      0)
/* clang-format on */

enum field_type {
#define T(letter, NAME, name, size) FIELD_##NAME = letter,
    FIELD_TYPES(T)
#undef T
};

/* One value. `bytes`: the string's, array's or table's contents, or the fixed octets as they
 * stand on the wire. `integer`: of the integer types, BOOL and TIMESTAMP. */
struct field {
    enum field_type type;
    struct view bytes;
    int64_t integer;
};

/* "signedint" for 'I'. */
const char *field_type_name(enum field_type type);

/* True for the types that RabbitMQ takes as "an integer": b B s u I i l L. */
bool field_is_integer(const struct field *field);

/* Whether two values mean the same to RabbitMQ's equivalence rules: integers of any width by
 * value, float and double by value, bools by truth, all else by type and bytes. */
bool field_equal(const struct field *a, const struct field *b);

/* Whether two checked tables are told alike where there are only whole numbers, others, strings,
 * arrays, tables and truths, as in JSON; the order of names does not matter. */
bool table_alike(struct view a, struct view b);

/* Whether every field of the table (array) is well-formed: lengths within, known types, at most
 * TABLE_DEPTH_MAX deep. The other functions may be called on checked tables only. */
bool table_check(struct view table);

/* Walks a checked table: start with *at = 0. False at the end. */
bool table_next(struct view table, size_t *at, struct view *out_name, struct field *out_field);

/* The same for a checked array's contents. */
bool array_next(struct view array, size_t *at, struct field *out_field);

/* The first field of that name. */
bool table_find(struct view table, struct view name, struct field *out_field);

/* Writing: append fields to a buf whose contents become a table. The nested ones return where
 * their length stands; give that back to the matching end. Names longer than 255 octets are cut.
 * put_field writes `bytes` as they stand and does not look at `integer`. */
void table_put_bool(struct buf *to, struct view name, bool value);
void table_put_i32(struct buf *to, struct view name, int32_t value);
void table_put_i64(struct buf *to, struct view name, int64_t value);
void table_put_timestamp(struct buf *to, struct view name, uint64_t seconds);
void table_put_longstr(struct buf *to, struct view name, struct view value);
void table_put_field(struct buf *to, struct view name, const struct field *field);
size_t table_begin_table(struct buf *to, struct view name);
size_t table_begin_array(struct buf *to, struct view name);
void array_put_longstr(struct buf *to, struct view value);
void array_put_field(struct buf *to, const struct field *field);
size_t array_begin_table(struct buf *to);
void table_end(struct buf *to, size_t begun); /* of whichever begin */

/* Appends the table without the named fields (n names). */
void table_copy_without(struct buf *to, struct view table, const struct view *names, size_t n);

#endif
