/* Written as the assembler has it: not every compiler's header knows these instructions when the
 * rest of the program is compiled for processors without them. */
#include "crc32c_priv.h"

#include <string.h>
#include <sys/auxv.h>

enum { HAS_CRC32 = 1 << 7 }; /* HWCAP_CRC32 */

bool
crc32c_has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HAS_CRC32) != 0;
}

static inline uint32_t
take_eight(uint32_t reg, uint64_t octets)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(reg) : "r"(octets));
    return reg;
}

static inline uint32_t
take_one(uint32_t reg, uint8_t octet)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(reg) : "r"((uint32_t)octet));
    return reg;
}

uint32_t
crc32c_by_instruction(uint32_t reg, const void *at, size_t n)
{
    const uint8_t *p = at;

    for (; n >= 8; n -= 8, p += 8) {
        uint64_t octets;

        memcpy(&octets, p, 8);
        reg = take_eight(reg, octets);
    }
    for (; n > 0; n--)
        reg = take_one(reg, *p++);
    return reg;
}
