#include "lepus/base/blob.h"

#include <assert.h>

#include "lepus/base/mem.h"

struct blob *
blob_new(size_t size)
{
    struct blob *blob = size <= SIZE_MAX - sizeof(*blob) ? mem_try(sizeof(*blob) + size) : NULL;

    if (blob == NULL)
        return NULL;
    atomic_init(&blob->refs, 1);
    blob->len = 0;
    blob->size = size;
    return blob;
}

struct blob *
blob_grow(struct blob *blob, size_t size)
{
    assert(atomic_load_explicit(&blob->refs, memory_order_relaxed) == 1);
    if (size <= blob->size)
        return blob;
    blob = mem_try_resize(blob, sizeof(*blob) + size);
    if (blob != NULL)
        blob->size = size;
    return blob;
}

struct blob *
blob_ref(struct blob *blob)
{
    if (blob != NULL)
        atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void
blob_unref(struct blob **blob)
{
    struct blob *last = *blob;

    *blob = NULL;
    if (last != NULL && atomic_fetch_sub_explicit(&last->refs, 1, memory_order_acq_rel) == 1)
        free(last);
}
