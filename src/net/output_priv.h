/*
 * output: what waits to go out of one transport, in order: octets written into chunks of the
 * worker's pool, and slices of blobs.
 *
 * Chunks rather than one buffer that grows: a turn may bring hundreds of KiB for one peer, which
 * doubling would copy several times, through sizes that malloc gives back to the system each time.
 *
 * The open piece, [room.first, room.next) of the open chunk, is the newest; what came before it
 * stands in `pieces`. A blob, or the end of the chunk, closes the open piece. A chunk goes back to
 * the pool with the last piece that lies in it. With nothing waiting an output owns no memory.
 */
#ifndef LEPUS_NET_OUTPUT_PRIV_H
#define LEPUS_NET_OUTPUT_PRIV_H

#include <sys/uio.h>

#include "lepus/base/blob.h"
#include "lepus/net/transport.h"

enum {
    CHUNK_SIZE = 64 * 1024, /* with its head; larger only for a reserve that needs it */
    CHUNKS_SPARE_MAX = 64,
};

struct chunk {
    struct chunk *next; /* in the pool */
    size_t size;
    uint8_t bytes[];
};

struct chunk_pool {
    struct chunk *spare;
    unsigned count;
};

void chunk_pool_fini(struct chunk_pool *pool);

struct output {
    struct transport_room room; /* must be first: see transport.h */
    struct chunk *open;         /* where room points; NULL when room is all NULL */
    struct chunk_pool *pool;
    struct piece {
        const uint8_t *at;
        size_t len;
        struct blob *blob;   /* a reference that ends with the piece, or NULL */
        struct chunk *chunk; /* a chunk that ends with the piece, or NULL */
    } * pieces;
    unsigned first, count, size; /* pieces[first .. first + count) of size */
};

void output_init(struct output *out, struct chunk_pool *pool);
void output_drop(struct output *out); /* all that waits; the output stays good */

/* Makes room for more than n octets at room.next. */
void output_make_room(struct output *out, size_t n);

/* Takes a reference of its own. */
void output_put_blob(struct output *out, struct blob *blob, size_t from, size_t len);

/* What waits, from the front: how many of iov are filled, at most max. */
int output_gather(const struct output *out, struct iovec *iov, int max);

/* The first n octets have gone. */
void output_advance(struct output *out, size_t n);

static inline size_t
output_pending(const struct output *out)
{
    return out->room.queued + (size_t)(out->room.next - out->room.first);
}

#endif
