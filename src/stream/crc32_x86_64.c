#include "crc32_priv.h"

#include <immintrin.h>

bool
crc32_may_fold(void)
{
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

/* Moves what x stands for over the distance that `by` is for, and adds the octets found there. */
__attribute__((target("pclmul,sse4.1"))) static inline __m128i
move(__m128i x, __m128i by, __m128i onto)
{
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);

    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i
load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* The constants are x^(distance + 32) and x^(distance - 32), modulo the polynomial, bits reversed
 * and shifted by one: distances of 512 and of 128 bits. */
__attribute__((target("pclmul,sse4.1"))) void
crc32_fold(uint32_t reg, const uint8_t *at, size_t n, uint8_t out[16])
{
    const __m128i by_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128((int)reg));
    __m128i b = load(at + 16), c = load(at + 32), d = load(at + 48);

    for (at += 64, n -= 64; n >= 64; at += 64, n -= 64) {
        a = move(a, by_512, load(at));
        b = move(b, by_512, load(at + 16));
        c = move(c, by_512, load(at + 32));
        d = move(d, by_512, load(at + 48));
    }
    b = move(a, by_128, b);
    c = move(b, by_128, c);
    d = move(c, by_128, d);
    for (; n >= 16; at += 16, n -= 16)
        d = move(d, by_128, load(at));
    _mm_storeu_si128((__m128i *)(void *)out, d);
}
