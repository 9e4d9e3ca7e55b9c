/*
 * mem_table: the memory of tables that are looked into at random.
 *
 * Each look into a large one misses the processor's caches, and with ordinary pages its table of
 * pages misses, too: under a hypervisor that doubles the wait. So from LARGE on such a table stands
 * at the border of a large page, and the system is asked for those. It need not comply.
 */
#include <sys/mman.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lepus/base/mem.h"

enum {
    SMALL = 128 * 1024, /* up to there it is malloc's */
    LARGE = 2 * 1024 * 1024,
};

static void *
map(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        abort();
    return at;
}

static void
unmap(uint8_t *at, size_t size)
{
    if (size > 0 && munmap(at, size) != 0)
        abort();
}

static void *
map_large(size_t size)
{
    uint8_t *at = map(size + LARGE);
    size_t before = -(uintptr_t)at & (LARGE - 1);

    unmap(at, before);
    unmap(at + before + size, LARGE - before);
#ifdef MADV_HUGEPAGE
    madvise(at + before, size, MADV_HUGEPAGE); /* a wish */
#endif
    return at + before;
}

/* What is mapped is whole pages. */
static size_t
rounded(size_t size)
{
    return (size + 65535) & ~(size_t)65535;
}

void *
mem_table_new(size_t size)
{
    void *at;

    if (size > SMALL)
        return size < LARGE ? map(rounded(size)) : map_large(rounded(size));
    at = aligned_alloc(MEM_LINE, (size + MEM_LINE - 1) & ~(size_t)(MEM_LINE - 1));
    if (at == NULL)
        abort();
    return memset(at, 0, size);
}

void
mem_table_free(void *at, size_t size)
{
    if (size > SMALL && at != NULL)
        unmap(at, rounded(size));
    else
        free(at);
}
