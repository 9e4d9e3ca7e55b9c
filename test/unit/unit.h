/*
 * unit: what every unit test includes, and before anything else: cmocka with the headers it
 * wants, and the random numbers of property tests.
 *
 * Numbers are drawn from a seed that stands in the test, so that a failure comes again.
 */
#ifndef TEST_UNIT_H
#define TEST_UNIT_H

/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
/* clang-format on */

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct random {
    uint64_t state;
};

static inline uint64_t
random_u64(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* 0 to n - 1 */
static inline size_t
random_below(struct random *random, size_t n)
{
    return (size_t)(random_u64(random) % n);
}

#endif
