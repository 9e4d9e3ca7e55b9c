#include "crc32c_priv.h"

#include <arm_acle.h>
#include <string.h>
#include <sys/auxv.h>

enum { HAS_CRC32 = 1 << 7 }; /* HWCAP_CRC32 */

bool
crc32c_has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HAS_CRC32) != 0;
}

__attribute__((target("+crc"))) uint32_t
crc32c_by_instruction(uint32_t reg, const void *at, size_t n)
{
    const uint8_t *p = at;

    for (; n >= 8; n -= 8, p += 8) {
        uint64_t octets;

        memcpy(&octets, p, 8);
        reg = __crc32cd(reg, octets);
    }
    for (; n > 0; n--)
        reg = __crc32cb(reg, *p++);
    return reg;
}
