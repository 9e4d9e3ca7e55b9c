#include "crc32c_priv.h"

/* By tables, eight octets a step. */

#define POLYNOMIAL UINT32_C(0x82F63B78) /* bits reversed */

enum { SLICES = 8 };

static uint32_t tables[SLICES][256];

__attribute__((constructor)) static void
make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int slice = 1; slice < SLICES; slice++)
            tables[slice][i] = tables[slice - 1][i] >> 8 ^ tables[0][tables[slice - 1][i] & 0xff];
}

uint32_t
crc32c_by_tables(uint32_t crc, const void *at, size_t n)
{
    const uint8_t *p = at;

    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);

        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
              tables[0][p[7]];
    }
    for (; n > 0; n--)
        crc = crc >> 8 ^ tables[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

uint32_t
crc32c(uint32_t crc, const void *at, size_t n)
{
    return crc32c_has_instruction() ? ~crc32c_by_instruction(~crc, at, n)
                                    : crc32c_by_tables(crc, at, n);
}
