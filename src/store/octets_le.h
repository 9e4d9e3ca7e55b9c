/* octets_le: numbers as the files of the store have them. */
#ifndef STORE_OCTETS_LE_H
#define STORE_OCTETS_LE_H

#include <stdint.h>

static inline void
put_le32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static inline void
put_le64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static inline uint32_t
get_le32(const uint8_t *at)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++)
        v |= (uint32_t)at[i] << 8 * i;
    return v;
}

static inline uint64_t
get_le64(const uint8_t *at)
{
    return get_le32(at) | (uint64_t)get_le32(at + 4) << 32;
}

#endif
