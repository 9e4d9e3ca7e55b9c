/*
 * crc32c: the checksum of everything on disk (Castagnoli's polynomial, as iSCSI and ext4 have it).
 *
 * By the processor's own instruction where it has one, else by tables.
 */
#ifndef LEPUS_BASE_CRC32C_H
#define LEPUS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of n more octets; crc: what the octets before them gave, 0 for none. */
uint32_t crc32c(uint32_t crc, const void *at, size_t n);

/* The same without the instruction: for tests. */
uint32_t crc32c_by_tables(uint32_t crc, const void *at, size_t n);

#endif
