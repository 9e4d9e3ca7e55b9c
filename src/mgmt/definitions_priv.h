/*
 * definitions_priv: what import and export of definitions share: arguments as JSON, and back.
 */
#ifndef MGMT_DEFINITIONS_PRIV_H
#define MGMT_DEFINITIONS_PRIV_H

#include <jansson.h>

#include "lepus/mgmt/definitions.h"

#define VHOST_LIMITS "vhost-limits" /* a parameter's component */

/* Where in a document we are: "queues[3].arguments.x". Cut with an ellipsis when it is long. */
struct json_path {
    char at[384];
    size_t len;
};

/* Appends one step, which the second takes away again: ".name" or "[3]". */
size_t json_path_enter(struct json_path *path, const char *name, size_t name_len);
size_t json_path_enter_index(struct json_path *path, size_t index);
void json_path_leave(struct json_path *path, size_t before);

/* Appends the object as a field table's contents. False with why at *path, which stays there: it
 * is too deep, or a name is too long. */
bool json_to_table(struct buf *to, const json_t *object, struct json_path *path, struct err *err);

/* The caller owns. NULL with why: something in it is not for JSON. */
json_t *json_from_table(struct view table, struct err *err);

/* A string; NULL when it is no UTF-8. */
json_t *json_from_view(struct view v);

static inline struct view
json_view(const json_t *string)
{
    return view_of(json_string_value(string), json_string_length(string));
}

/* Compact, keys sorted; the caller frees. NULL: too deep. */
char *json_text(const json_t *value);

/* Of what json_text wrote; NULL when it is none. */
json_t *json_of_text(struct view text, json_error_t *error);

#endif
