/*
 * import_priv: one import of definitions, for the files that share it: the document and its order
 * (definitions_import.c), what an object's members say (import_members.c), and what takes an
 * object: rows of the metadata (import_rows.c), things of the topology (import_things.c).
 *
 * A take_<member> reads one member. What is not what it should be is told, and marks the object in
 * hand as bad; the rest of its members is looked at all the same, so that everything wrong is told
 * at once. Views are borrowed from the document, or as it says there.
 */
#ifndef MGMT_IMPORT_PRIV_H
#define MGMT_IMPORT_PRIV_H

#include "definitions_priv.h"
#include "lepus/base/map.h"

enum {
    FOUND_LEN = 80, /* of a value in a line */
    ARGUMENTS_MAX = 1 << 26,
};

struct definitions {
    struct topology *topology;
    struct auth *auth;
    struct metadata *metadata;
};

/* One import. */
struct import {
    struct definitions *definitions;
    definitions_tell *tell;
    void *arg;
    struct definitions_counts *counts;
    struct view vhost; /* where objects go that name none */
    const json_t *document;
    struct json_path path; /* to the object in hand, or further */
    bool is_bad;           /* the object in hand */
    struct buf arguments, tags, others;
};

/* --- telling ----------------------------------------------------------------------------- */

/* With the path in front. An error marks the object in hand as bad. */
void say(struct import *in, enum definitions_notice notice, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A value as it stands in the document, cut, for a line. */
void describe(const json_t *value, char out[FOUND_LEN]);

/* "path.member: what": an error, for values that are not repeated. */
void say_of(struct import *in, const char *member, const char *what);

/* "path.member: expected ..., found ...". found: NULL when there is none. */
void say_unlike(struct import *in, const char *member, const char *expected, const json_t *found);

/* Names end with a NULL. */
bool is_one_of(const char *name, size_t n, const char *const *names);

void warn_unknown(struct import *in, const char *name, size_t n, const json_t *value, bool is_kept);

/* Warns of all members but the known ones, which are left out. */
void warn_others(struct import *in, const json_t *object, const char *const *known);

/* --- members ----------------------------------------------------------------------------- */

/* What stands for a member that is not there: NULL says that it must be there. */
struct view take_text(struct import *in, const json_t *object, const char *member,
                      const char *otherwise);

/* At most so long as AMQP's short strings. */
struct view take_name(struct import *in, const json_t *object, const char *member,
                      const char *otherwise);

bool take_flag(struct import *in, const json_t *object, const char *member, bool otherwise);
int64_t take_number(struct import *in, const json_t *object, const char *member, int64_t otherwise);

/* NULL when there is none, or, which some exports have instead, an empty list. */
const json_t *take_object(struct import *in, const json_t *object, const char *member);

/* A field table's contents; borrowed until the next object. */
struct view take_arguments(struct import *in, const json_t *object);

/* A list, or one text with commas; joined by commas; borrowed until the next object. */
struct view take_tags(struct import *in, const json_t *object);

/* As a json column; the caller frees. */
char *take_json(struct import *in, const json_t *object, const char *member);

/* Copies all members but those that have a column. Warns of those that are not even known. */
void keep_others(struct import *in, json_t *to, const json_t *object, const char *const *columns,
                 const char *const *known);

/* The json column: `inner` with `others`, both taken. Borrowed until the next one. */
struct view take_others(struct import *in, json_t *inner, json_t *others);

/* Of what the member "vhost" names, or of where objects go that name none; NULL: told. */
struct vhost *find_vhost(struct import *in, const json_t *object);

static inline uint64_t
id_of(const struct vhost *vhost)
{
    return vhost != NULL ? vhost_id(vhost) : 0;
}

/* --- objects ----------------------------------------------------------------------------- */

/* import_rows.c */
void take_vhost(struct import *in, const json_t *object);
void take_the_vhost(struct import *in); /* which the document itself describes */
void take_user(struct import *in, const json_t *object);
void take_permission(struct import *in, const json_t *object);
void take_topic_permission(struct import *in, const json_t *object);
void take_policy(struct import *in, const json_t *object);
void take_parameter(struct import *in, const json_t *object);
void take_global_parameter(struct import *in, const json_t *object);

/* import_things.c */
void take_exchange(struct import *in, const json_t *object);
void take_queue(struct import *in, const json_t *object);
void take_binding(struct import *in, const json_t *object);

#endif
