/*
 * view: bytes that somebody else owns.
 *
 * What a decoder returns is a view into the frame it read; how long the bytes stay is part of
 * the contract of whoever hands the view out. A view is not NUL-terminated: print it with
 * VIEW_FMT, which is safe for names of at most 255 bytes and up to 2^31.
 */
#ifndef LEPUS_BASE_VIEW_H
#define LEPUS_BASE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lepus/base/banned.h"

struct view {
    const uint8_t *at; /* may be NULL when len is 0 */
    size_t len;
};

#define VIEW_FMT    "%.*s"
#define VIEW_ARG(v) (int)(v).len, (const char *)(v).at

#define VIEW_LIT(literal) ((struct view){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct view
view_of(const void *at, size_t len)
{
    return (struct view){at, len};
}

static inline struct view
view_str(const char *string)
{
    return (struct view){(const uint8_t *)string, strlen(string)};
}

static inline bool
view_equal(struct view a, struct view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool
view_has_prefix(struct view v, struct view prefix)
{
    return v.len >= prefix.len && (prefix.len == 0 || memcmp(v.at, prefix.at, prefix.len) == 0);
}

/* Whether it is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates. */
bool view_is_utf8(struct view v);

/* Seeded once a process, so that a peer cannot choose colliding names. */
uint64_t view_hash(struct view v);

/* Copies into a fresh, NUL-terminated string; the caller owns it. */
char *view_dup(struct view v);

#endif
