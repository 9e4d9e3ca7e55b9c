/*
 * cursor: reads network-order fields from bytes, and goes bad instead of past the end.
 *
 * Once bad it stays bad and every read gives zero, so a decoder reads all its fields and asks
 * once. A length is compared with what is left, never added to a position.
 */
#ifndef LEPUS_WIRE_CURSOR_H
#define LEPUS_WIRE_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lepus/base/view.h"

struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static inline struct cursor
cursor_of(struct view v)
{
    return (struct cursor){v.at, v.len, false};
}

/* n octets, or NULL with the cursor bad. */
static inline const uint8_t *
rd_octets(struct cursor *r, size_t n)
{
    const uint8_t *at = r->at;

    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    if (n > 0) {
        r->at += n;
        r->left -= n;
    }
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

    return p != NULL ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t
rd_u32(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 4);
    uint32_t v = 0;

    if (p != NULL)
        memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}

static inline uint64_t
rd_u64(struct cursor *r)
{
    const uint8_t *p = rd_octets(r, 8);
    uint64_t v = 0;

    if (p != NULL)
        memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
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
