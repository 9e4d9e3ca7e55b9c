#include "lepus/base/view.h"

#include <pthread.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lepus/base/mem.h"

static pthread_once_t seeded = PTHREAD_ONCE_INIT;
static uint64_t seed;

static void
draw_seed(void)
{
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = (uint64_t)(uintptr_t)&seed;
}

uint64_t
view_hash(struct view v)
{
    pthread_once(&seeded, draw_seed);
    return XXH3_64bits_withSeed(v.at, v.len, seed);
}

/* Octets of the character that starts at p, with n > 0 left; 0 when it is none. The second octet
 * is where overlong forms, surrogates and what lies beyond U+10FFFF show. */
static size_t
utf8_size(const uint8_t *p, size_t n)
{
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    uint8_t least = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    uint8_t most = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;

    if (size <= 1)
        return size;
    if (size > n || p[0] > 0xF4 || p[1] < least || p[1] > most)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return size;
}

bool
view_is_utf8(struct view v)
{
    size_t i = 0, size;
    uint64_t eight;

    while (i < v.len) {
        for (; v.len - i >= sizeof(eight); i += sizeof(eight)) {
            memcpy(&eight, v.at + i, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) != 0)
                break;
        }
        if (i == v.len)
            break;
        size = utf8_size(v.at + i, v.len - i);
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}

char *
view_dup(struct view v)
{
    char *copy = mem_alloc(v.len + 1);

    if (v.len > 0)
        memcpy(copy, v.at, v.len);
    copy[v.len] = '\0';
    return copy;
}
