/*
 * crc32: the checksum of a chunk's octets, as the stream protocol has it: the polynomial of zlib
 * and Ethernet, 0xEDB88320, not CRC32C.
 *
 * The parts are joined as zlib joins them: crc32_of(crc32_of(0, a), b) is the sum of a and b. Where
 * the processor multiplies without carry (crc32_x86_64.c) long pieces go 64 octets at a step, else
 * octet by octet.
 */
#ifndef LEPUS_SRC_STREAM_CRC32_PRIV_H
#define LEPUS_SRC_STREAM_CRC32_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32_of(uint32_t crc, const void *at, size_t n);

/* One file a kind of processor. n: a multiple of 16, at least 64. Folds them, with the register as
 * it stands (inverted), into 16 octets that have the same remainder from a register of 0. */
bool crc32_may_fold(void);
void crc32_fold(uint32_t reg, const uint8_t *at, size_t n, uint8_t out[16]);

#endif
