/*
 * octets: numbers as they stand on the wire, most significant octet first, at any alignment.
 *
 * Nothing is checked here: the reader knows that the octets are there (a cursor asks for it), the
 * writer has reserved room. Each be_put returns the place behind what it wrote. Compilers make
 * one load or store and one byte swap of each.
 */
#ifndef LEPUS_WIRE_OCTETS_H
#define LEPUS_WIRE_OCTETS_H

#include <stdint.h>

static inline uint16_t
be_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t
be_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint64_t
be_u64(const uint8_t *at)
{
    return (uint64_t)be_u32(at) << 32 | be_u32(at + 4);
}

static inline uint8_t *
be_put_u8(uint8_t *to, uint8_t v)
{
    to[0] = v;
    return to + 1;
}

static inline uint8_t *
be_put_u16(uint8_t *to, uint16_t v)
{
    to[0] = (uint8_t)(v >> 8);
    to[1] = (uint8_t)v;
    return to + 2;
}

static inline uint8_t *
be_put_u32(uint8_t *to, uint32_t v)
{
    to[0] = (uint8_t)(v >> 24);
    to[1] = (uint8_t)(v >> 16);
    to[2] = (uint8_t)(v >> 8);
    to[3] = (uint8_t)v;
    return to + 4;
}

static inline uint8_t *
be_put_u64(uint8_t *to, uint64_t v)
{
    to[0] = (uint8_t)(v >> 56);
    to[1] = (uint8_t)(v >> 48);
    to[2] = (uint8_t)(v >> 40);
    to[3] = (uint8_t)(v >> 32);
    to[4] = (uint8_t)(v >> 24);
    to[5] = (uint8_t)(v >> 16);
    to[6] = (uint8_t)(v >> 8);
    to[7] = (uint8_t)v;
    return to + 8;
}

#endif
