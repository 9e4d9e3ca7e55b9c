#include "lepus/base/random.h"

#include <sys/random.h>

#include "lepus/base/banned.h"

void
random_octets(void *to, size_t n)
{
    size_t got = 0;

    while (got < n) {
        ssize_t more = getrandom((uint8_t *)to + got, n - got, 0);

        if (more > 0)
            got += (size_t)more;
    }
}

uint64_t
random_u64(void)
{
    uint64_t v;

    random_octets(&v, sizeof(v));
    return v;
}

void
random_name(const char *prefix, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[18] = {0}; /* the last two octets only feed the last digit */
    size_t n = strlen(prefix);

    random_octets(random, 16);
    memcpy(out, prefix, n);
    for (size_t i = 0; i < RANDOM_NAME_DIGITS; i++) {
        size_t bit = i * 6;
        unsigned pair = (unsigned)random[bit / 8] << 8 | random[bit / 8 + 1];

        out[n++] = digits[(pair >> (10 - bit % 8)) & 63];
    }
    out[n] = '\0';
}
