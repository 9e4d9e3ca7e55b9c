/* crc32c_priv: how a processor sums by an instruction of its own, one file a kind. */
#ifndef BASE_CRC32C_PRIV_H
#define BASE_CRC32C_PRIV_H

#include <stdbool.h>

#include "lepus/base/crc32c.h"

bool crc32c_has_instruction(void);

/* From register to register, which stands inverted. */
uint32_t crc32c_by_instruction(uint32_t reg, const void *at, size_t n);

#endif
