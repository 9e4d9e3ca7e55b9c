/*
 * blob: a large body, shared.
 *
 * Bodies of at least BLOB_MIN octets live in a blob of their own, so that queues, outputs and
 * other workers hold the same bytes instead of copying them. Written by its maker before it is
 * first shared, immutable after. The count is atomic: a blob is the one thing of a message that
 * crosses threads.
 */
#ifndef LEPUS_BASE_BLOB_H
#define LEPUS_BASE_BLOB_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/view.h"

/* Below it a copy is cheaper than a reference and its writev entry. */
enum { BLOB_MIN = 16 * 1024 };

struct blob {
    _Atomic uint32_t refs;
    size_t len, size; /* octets that are there; room */
    uint8_t bytes[];
};

/* Room for size octets, len 0, one reference; NULL when there is no memory. */
struct blob *blob_new(size_t size);

/* Before it is shared: room for at least size octets, or NULL with *blob as it was. */
struct blob *blob_grow(struct blob *blob, size_t size);

struct blob *blob_ref(struct blob *blob); /* NULL stays NULL */
void blob_unref(struct blob **blob);      /* leaves NULL behind */

#endif
