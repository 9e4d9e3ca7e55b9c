/*
 * cursor: reads network-order fields from bytes, and goes bad instead of past the end.
 *
 * Once bad it stays bad: nothing is left then, so every read gives zero or an empty view, and a
 * decoder reads all its fields and asks once. A length is compared with what is left, never added
 * to a position.
 */
#ifndef LEPUS_WIRE_CURSOR_H
#define LEPUS_WIRE_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/view.h"
#include "lepus/wire/octets.h"

struct cursor {
    const uint8_t *at; /* never NULL */
    size_t left;       /* 0 when bad */
    bool bad;
};

static inline struct cursor
cursor_of(struct view v)
{
    return (struct cursor){v.at != NULL ? v.at : (const uint8_t *)"", v.len, false};
}

static inline void
cursor_fail(struct cursor *r)
{
    r->bad = true;
    r->left = 0;
}

/* n octets, or NULL with the cursor bad. */
static inline const uint8_t *
rd_octets(struct cursor *r, size_t n)
{
    const uint8_t *at = r->at;

    if (__builtin_expect(n > r->left, 0)) {
        cursor_fail(r);
        return NULL;
    }
    r->at += n;
    r->left -= n;
    return at;
}

static inline uint8_t
rd_u8(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 1);

    return p != NULL ? p[0] : 0;
}

static inline uint16_t
rd_u16(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 2);

    return p != NULL ? be_u16(p) : 0;
}

static inline uint32_t
rd_u32(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 4);

    return p != NULL ? be_u32(p) : 0;
}

static inline uint64_t
rd_u64(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 8);

    return p != NULL ? be_u64(p) : 0;
}

static inline struct view
rd_view(struct cursor *r, size_t n)
{
    const uint8_t *p = rd_octets(r, n);

    return p != NULL ? view_of(p, n) : view_of(NULL, 0);
}

static inline struct view
rd_shortstr(struct cursor *r)
{
    size_t n = rd_u8(r);

    return rd_view(r, n);
}

static inline struct view
rd_longstr(struct cursor *r)
{
    size_t n = rd_u32(r);

    return rd_view(r, n);
}

#endif
