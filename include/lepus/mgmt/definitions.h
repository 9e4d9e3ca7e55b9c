/*
 * definitions: what is defined, as one JSON document that brokers hand to each other.
 *
 * The format is that of RabbitMQ's definitions.json, of 3.x and of 4.x: an object of lists (users,
 * vhosts, permissions, topic_permissions, parameters, global_parameters, policies, queues,
 * exchanges, bindings) and of some words about who wrote it. Operator policies travel as parameters
 * of the component "operator_policy". The document of a single vhost has objects that do not name
 * their vhost: they go to its "original_vhost_name", or to "/" where it has none.
 *
 * Importing adds and never removes. What is there already:
 *
 *   - exchanges and queues stay as they are; that they differ is a warning, as is a queue that a
 *     connection has for itself. Bindings that are there, told alike, are there, whatever types of
 *     numbers and octets a client chose for their arguments;
 *   - vhosts (what is said of them), users, permissions, parameters and policies are replaced.
 *
 * So to import a document again changes nothing. Every finding is told, with its path in the
 * document: errors (not JSON, a wrong type, a missing vhost, an exchange of a type that we do not
 * have), whose object is left out while all others are taken, and warnings (members that we do not
 * understand). Vhosts, exchanges, queues and bindings exist from then on, and all of it is safe
 * when the metadata says so of the last ticket.
 *
 * A user may have a "password" instead of a "password_hash"; it is hashed, and never told again.
 *
 * Arguments are told in JSON's types. In: whole numbers become long, others double, strings
 * longstr, lists array, objects table, true and false bool, and null void (which RabbitMQ refuses).
 * Out: every integer type and timestamp is a whole number, float, double and decimal are others,
 * and octets are strings; so the types of float, decimal, octets and narrow integers do not travel,
 * and what is no UTF-8, or no number, cannot be told at all.
 *
 * How rows keep what has no column: the json column of a vhost is its "metadata" and that of a user
 * its "limits", without what has a column. Members beside these stand there too, as one object
 * under the name DEFINITIONS_OTHERS, and are exported to where they came from. Lists of tags are
 * joined by commas.
 */
#ifndef LEPUS_MGMT_DEFINITIONS_H
#define LEPUS_MGMT_DEFINITIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "lepus/auth/auth.h"
#include "lepus/base/buf.h"
#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/broker/topology.h"
#include "lepus/store/metadata.h"

#define DEFINITIONS_OTHERS "lepus:others"

enum { DEFINITIONS_BYTES_MAX = 1 << 29 }; /* of a document */

enum definitions_notice {
    DEFINITIONS_ERROR,   /* "queues[3].arguments.x-max-length: expected ..., found ..." */
    DEFINITIONS_WARNING, /* taken, or as it was */
};

/* Told each finding in turn; line is borrowed for the call. */
typedef void definitions_tell(void *arg, enum definitions_notice notice, const char *line);

/* --- importing ------------------------------------------------------------------------- */

/* Who imports. Made while no writer runs yet (metadata.h); afterwards one thread at a time may use
 * it. Borrows all three. NULL: the disk. */
struct definitions;
struct definitions *definitions_new(struct topology *topology, struct auth *auth,
                                    struct metadata *metadata, struct err *err);
void definitions_free(struct definitions *definitions); /* NULL is fine */

struct definitions_counts {
    size_t objects; /* taken, those included that were there */
    size_t errors, warnings;
};

/* True without errors. *out is filled in any case. */
bool definitions_import(struct definitions *definitions, struct view document,
                        definitions_tell *tell, void *arg, struct definitions_counts *out);

/* The same for a file; one that cannot be read is an error. */
bool definitions_import_file(struct definitions *definitions, const char *path,
                             definitions_tell *tell, void *arg, struct definitions_counts *out);

/* --- limits ---------------------------------------------------------------------------- */

/* What a row limits comes into force: a user's limits, and a parameter that is a vhost's limits
 * (any other is passed over). For whoever has put the row; importing does it itself. Without its
 * value the row takes them away. */
void definitions_apply_user(struct topology *topology, const struct metadata_user *row);
void definitions_apply_parameter(struct topology *topology, const struct metadata_parameter *row);

/* All that the metadata has; before its writer runs. definitions_new does it. */
bool definitions_apply_all(struct topology *topology, struct metadata *metadata, struct err *err);

/* --- exporting ------------------------------------------------------------------------- */

/* What the document says of its writer. */
struct definitions_origin {
    const char *rabbitmq_version, *product_version, *cluster_name;
};

/*
 * All that the metadata has, indented and in an order of names, without the exchanges that every
 * vhost has. Transient things are not in the metadata. Opened to look, metadata sees one moment of
 * a running broker. What JSON cannot tell is told as an error and left out. False, with *err
 * filled: the disk, or the buffer's maximum; *out_errors is filled then, too.
 */
bool definitions_export(struct metadata *metadata, const struct definitions_origin *origin,
                        struct buf *out, definitions_tell *tell, void *arg, size_t *out_errors,
                        struct err *err);

#endif
