#include "lepus/base/mem.h"

#include <malloc.h>
#include <stdbool.h>

enum { LARGE = 512 * 1024, KEPT_ON_TOP = 1024 * 1024 };

static _Thread_local unsigned fail_in; /* tests only; 0: never */

static bool
must_fail(void)
{
    return fail_in > 0 && --fail_in == 0;
}

static void *
or_abort(void *at, size_t size)
{
    if (at == NULL && size > 0) {
        fprintf(stderr, "out of memory asking for %zu bytes\n", size);
        abort();
    }
    return at;
}

void
mem_begin(void)
{
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_TRIM_THRESHOLD, KEPT_ON_TOP);
}

void *
mem_alloc(size_t size)
{
    return or_abort(malloc(size > 0 ? size : 1), size);
}

void *
mem_alloc_zero(size_t size)
{
    return or_abort(calloc(1, size > 0 ? size : 1), size);
}

void *
mem_resize(void *old, size_t size)
{
    return or_abort(realloc(old, size > 0 ? size : 1), size);
}

void *
mem_try(size_t size)
{
    return must_fail() ? NULL : malloc(size > 0 ? size : 1);
}

void *
mem_try_resize(void *old, size_t size)
{
    return must_fail() ? NULL : realloc(old, size > 0 ? size : 1);
}

void
mem_fail_nth(unsigned n)
{
    fail_in = n;
}
