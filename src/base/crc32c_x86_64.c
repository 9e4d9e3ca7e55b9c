/*
 * The instruction takes one octet to eight, and can begin with every cycle, but its result is there
 * three cycles later only. So three stretches that lie behind each other are summed side by side,
 * the second and the third from a register of 0, and then joined: a register moves over n octets
 * of zeroes when it is multiplied by x^8n, modulo the polynomial. The product of two registers,
 * which PCLMULQDQ makes, is as if x were in it once more than it should, and the instruction that
 * reduces it multiplies by x^32: hence factors of x^(8n - 33).
 */
#include "crc32c_priv.h"

#include <immintrin.h>
#include <string.h>

#define SUMS __attribute__((target("sse4.2,pclmul")))

/* A stretch's length, and the factors for one and for two of them. */
struct stretch {
    size_t n;
    int64_t over_one, over_two;
};

static const struct stretch stretches[] = {
    {2048, 0xa51b6135, 0x82f89c77},
    {128, 0x0d3b6092, 0xb9e02b86},
};

bool
crc32c_has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

SUMS static inline uint64_t
step(uint64_t reg, const uint8_t *at)
{
    uint64_t octets;

    memcpy(&octets, at, 8);
    return _mm_crc32_u64(reg, octets);
}

SUMS static inline uint64_t
move(uint64_t reg, int64_t factor)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)reg), _mm_cvtsi64_si128(factor), 0);

    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

SUMS static inline uint64_t
sum_three(uint64_t reg, const uint8_t *at, const struct stretch *s)
{
    uint64_t second = 0, third = 0;

    for (size_t i = 0; i < s->n; i += 8) {
        reg = step(reg, at + i);
        second = step(second, at + s->n + i);
        third = step(third, at + 2 * s->n + i);
    }
    return move(reg, s->over_two) ^ move(second, s->over_one) ^ third;
}

SUMS uint32_t
crc32c_by_instruction(uint32_t reg, const void *at, size_t n)
{
    const uint8_t *p = at;
    uint64_t wide = reg;

    for (size_t i = 0; i < sizeof(stretches) / sizeof(stretches[0]); i++)
        for (size_t three = 3 * stretches[i].n; n >= three; n -= three, p += three)
            wide = sum_three(wide, p, &stretches[i]);
    for (; n >= 8; n -= 8, p += 8)
        wide = step(wide, p);
    reg = (uint32_t)wide;
    for (; n > 0; n--)
        reg = _mm_crc32_u8(reg, *p++);
    return reg;
}
