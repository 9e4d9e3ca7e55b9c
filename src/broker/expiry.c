#include "lepus/broker/expiry.h"

#include <assert.h>
#include <stdlib.h>

#include "lepus/base/mem.h"

enum { SIZE_MIN = 16, STALE_MIN = 64 };

void
expiry_fini(struct expiry *expiry)
{
    expiry_clear(expiry);
}

void
expiry_clear(struct expiry *expiry)
{
    free(expiry->heap);
    *expiry = (struct expiry){0};
}

static bool
is_before(const struct deadline *a, const struct deadline *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

static void
swap(struct deadline *heap, size_t a, size_t b)
{
    struct deadline was = heap[a];

    heap[a] = heap[b];
    heap[b] = was;
}

void
expiry_add(struct expiry *expiry, uint64_t at_ms, uint64_t seq)
{
    size_t i = expiry->n++;

    if (i == expiry->size) {
        expiry->size = i > 0 ? i * 2 : SIZE_MIN;
        expiry->heap = mem_resize(expiry->heap, expiry->size * sizeof(expiry->heap[0]));
    }
    expiry->heap[i] = (struct deadline){at_ms, seq};
    for (; i > 0 && is_before(&expiry->heap[i], &expiry->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(expiry->heap, i, (i - 1) / 2);
}

static void
sift_down(struct expiry *expiry)
{
    struct deadline *heap = expiry->heap;

    for (size_t i = 0;;) {
        size_t first = i, left = 2 * i + 1, right = left + 1;

        if (left < expiry->n && is_before(&heap[left], &heap[first]))
            first = left;
        if (right < expiry->n && is_before(&heap[right], &heap[first]))
            first = right;
        if (first == i)
            return;
        swap(heap, i, first);
        i = first;
    }
}

struct deadline
expiry_pop(struct expiry *expiry)
{
    struct deadline top;

    assert(expiry->n > 0);
    top = expiry->heap[0];
    expiry->heap[0] = expiry->heap[--expiry->n];
    if (expiry->n == 0)
        expiry_clear(expiry);
    else
        sift_down(expiry);
    return top;
}

bool
expiry_is_stale(const struct expiry *expiry, size_t waiting)
{
    return expiry->n > STALE_MIN && expiry->n / 2 > waiting;
}
