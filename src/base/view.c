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

char *
view_dup(struct view v)
{
    char *copy = mem_alloc(v.len + 1);

    if (v.len > 0)
        memcpy(copy, v.at, v.len);
    copy[v.len] = '\0';
    return copy;
}
