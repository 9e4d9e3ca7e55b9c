/*
 * password: what is kept of a password, and whether another one is the same.
 *
 * A hash is base64, as in RabbitMQ's definitions, and its algorithm is named beside it:
 *
 *   rabbit_password_hashing_sha256, _sha512, _md5   salt (4 octets), hash of salt and password
 *   lepus_password_hashing_scrypt                   log2 N, r, p (an octet each), salt (16 octets),
 *                                                   32 octets of scrypt [RFC 7914]
 *
 * The first three are what other brokers hand over; what is hashed here is scrypt. That takes some
 * ten milliseconds and 16 MiB on purpose, so it is never asked for on a worker's thread.
 */
#ifndef LEPUS_AUTH_PASSWORD_H
#define LEPUS_AUTH_PASSWORD_H

#include <stdbool.h>

#include "lepus/base/view.h"

#define PASSWORD_SCRYPT "lepus_password_hashing_scrypt"
#define PASSWORD_SHA256 "rabbit_password_hashing_sha256"

enum { PASSWORD_TEXT_MAX = 128 }; /* of a hash as text, with its NUL */

/* Whether a hash of this algorithm can be compared with anything. "" is a hash that no password
 * has. */
bool password_is_known(struct view algorithm);
bool password_is_hash(struct view algorithm, struct view hash);

/* A new hash, with a salt of its own. False: no such algorithm, or no memory. */
bool password_make(const char *algorithm, struct view password, char out[PASSWORD_TEXT_MAX]);

/* Takes the same time wherever the two differ. An empty password is never the right one. */
bool password_is_right(struct view algorithm, struct view hash, struct view password);

#endif
