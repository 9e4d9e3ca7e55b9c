/*
 * buf: bytes that grow, up to a maximum they are born with.
 *
 * An append that would pass the maximum, or that finds no memory, marks the buffer bad and
 * changes nothing; bad stays bad, so a writer checks once at its end.
 */
#ifndef LEPUS_BASE_BUF_H
#define LEPUS_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lepus/base/view.h"

struct buf {
    uint8_t *at;
    size_t len, size, max;
    bool bad;
};

void buf_init(struct buf *buf, size_t max);
void buf_fini(struct buf *buf);

/* Room for n more bytes behind what is there, or NULL with the buffer bad. Counts nothing. */
uint8_t *buf_reserve(struct buf *buf, size_t n);

void buf_append(struct buf *buf, const void *at, size_t n);
void buf_clear(struct buf *buf); /* empty and good again; keeps its memory */

static inline struct view
buf_view(const struct buf *buf)
{
    return view_of(buf->at, buf->len);
}

static inline void
buf_u8(struct buf *buf, uint8_t v)
{
    buf_append(buf, &v, 1);
}

void buf_u16(struct buf *buf, uint16_t v); /* network order, as the next two */
void buf_u32(struct buf *buf, uint32_t v);
void buf_u64(struct buf *buf, uint64_t v);

#endif
