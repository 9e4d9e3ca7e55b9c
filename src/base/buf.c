#include "lepus/base/buf.h"

#include <assert.h>

#include "lepus/base/mem.h"

enum { SIZE_FIRST = 64 };

void
buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void
buf_fini(struct buf *buf)
{
    free(buf->at);
    *buf = (struct buf){0};
}

void
buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->bad = false;
}

uint8_t *
buf_reserve(struct buf *buf, size_t n)
{
    size_t size = buf->size > 0 ? buf->size : buf->max < SIZE_FIRST ? buf->max : SIZE_FIRST;
    uint8_t *at;

    if (buf->bad)
        return NULL;
    if (n <= buf->size - buf->len)
        return buf->at + buf->len;
    if (n > buf->max - buf->len) {
        buf->bad = true;
        return NULL;
    }
    while (size - buf->len < n)
        size = size > buf->max / 2 ? buf->max : size * 2;
    at = mem_try_resize(buf->at, size);
    if (at == NULL) {
        buf->bad = true;
        return NULL;
    }
    buf->at = at;
    buf->size = size;
    return at + buf->len;
}

void
buf_append(struct buf *buf, const void *at, size_t n)
{
    uint8_t *to = n > 0 ? buf_reserve(buf, n) : NULL;

    if (to == NULL)
        return;
    memcpy(to, at, n);
    buf->len += n;
}

void
buf_u16(struct buf *buf, uint16_t v)
{
    uint8_t octets[2] = {(uint8_t)(v >> 8), (uint8_t)v};

    buf_append(buf, octets, sizeof(octets));
}

void
buf_u32(struct buf *buf, uint32_t v)
{
    uint8_t octets[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    buf_append(buf, octets, sizeof(octets));
}

void
buf_u64(struct buf *buf, uint64_t v)
{
    buf_u32(buf, (uint32_t)(v >> 32));
    buf_u32(buf, (uint32_t)v);
}
