#include "output_priv.h"

#include <assert.h>

#include "lepus/base/mem.h"

void
chunk_pool_fini(struct chunk_pool *pool)
{
    for (struct chunk *chunk = pool->spare, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    *pool = (struct chunk_pool){0};
}

static struct chunk *
chunk_get(struct chunk_pool *pool, size_t size)
{
    struct chunk *chunk = pool->spare;

    if (size <= CHUNK_SIZE - sizeof(struct chunk)) {
        size = CHUNK_SIZE - sizeof(struct chunk);
        if (chunk != NULL) {
            pool->spare = chunk->next;
            pool->count--;
            return chunk;
        }
    }
    chunk = mem_alloc(sizeof(struct chunk) + size);
    chunk->size = size;
    return chunk;
}

static void
chunk_put(struct chunk_pool *pool, struct chunk *chunk)
{
    if (pool->count == CHUNKS_SPARE_MAX || chunk->size != CHUNK_SIZE - sizeof(struct chunk)) {
        free(chunk);
        return;
    }
    chunk->next = pool->spare;
    pool->spare = chunk;
    pool->count++;
}

void
output_init(struct output *out, struct chunk_pool *pool)
{
    *out = (struct output){.pool = pool};
}

static void
end_piece(struct output *out, struct piece *piece)
{
    if (piece->chunk != NULL)
        chunk_put(out->pool, piece->chunk);
    blob_unref(&piece->blob);
}

static void
free_pieces(struct output *out)
{
    free(out->pieces);
    out->pieces = NULL;
    out->first = out->count = out->size = 0;
}

static void
leave_chunk(struct output *out)
{
    chunk_put(out->pool, out->open);
    out->open = NULL;
    out->room.first = out->room.next = out->room.end = NULL;
}

void
output_drop(struct output *out)
{
    for (unsigned i = 0; i < out->count; i++)
        end_piece(out, &out->pieces[out->first + i]);
    free_pieces(out);
    if (out->open != NULL)
        leave_chunk(out);
    out->room.queued = 0;
}

static struct piece *
add_piece(struct output *out, const uint8_t *at, size_t len)
{
    struct piece *piece;

    if (out->first + out->count == out->size) {
        if (out->first > out->size / 2) {
            memmove(out->pieces, out->pieces + out->first, out->count * sizeof(struct piece));
        } else {
            struct piece *old = out->pieces;

            out->size = out->size > 0 ? out->size * 2 : 8;
            out->pieces = mem_alloc(out->size * sizeof(struct piece));
            if (out->count > 0)
                memcpy(out->pieces, old + out->first, out->count * sizeof(struct piece));
            free(old);
        }
        out->first = 0;
    }
    piece = &out->pieces[out->first + out->count++];
    *piece = (struct piece){.at = at, .len = len};
    out->room.queued += len;
    return piece;
}

static void
close_piece(struct output *out)
{
    size_t len = (size_t)(out->room.next - out->room.first);

    if (len == 0)
        return;
    add_piece(out, out->room.first, len);
    out->room.first = out->room.next;
}

/* The open chunk ends with the newest piece, which may be a blob behind its last octet. */
static void
close_chunk(struct output *out)
{
    struct piece *last;

    close_piece(out);
    if (out->count == 0) {
        leave_chunk(out);
        return;
    }
    last = &out->pieces[out->first + out->count - 1];
    if (last->chunk != NULL) /* it ends the chunk before: this one holds nothing */
        leave_chunk(out);
    else
        last->chunk = out->open;
    out->open = NULL;
}

void
output_make_room(struct output *out, size_t n)
{
    if (out->open != NULL && (size_t)(out->room.end - out->room.next) > n)
        return;
    if (n > SIZE_MAX - CHUNK_SIZE)
        abort();
    if (out->open != NULL)
        close_chunk(out);
    out->open = chunk_get(out->pool, n + 1);
    out->room.first = out->room.next = out->open->bytes;
    out->room.end = out->open->bytes + out->open->size;
}

void
output_put_blob(struct output *out, struct blob *blob, size_t from, size_t len)
{
    assert(from <= blob->len && len <= blob->len - from);
    close_piece(out);
    add_piece(out, blob->bytes + from, len)->blob = blob_ref(blob);
}

int
output_gather(const struct output *out, struct iovec *iov, int max)
{
    size_t open = (size_t)(out->room.next - out->room.first);
    int n = 0;

    for (unsigned i = 0; i < out->count && n < max; i++, n++) {
        const struct piece *piece = &out->pieces[out->first + i];

        iov[n] = (struct iovec){.iov_base = (void *)(uintptr_t)piece->at, .iov_len = piece->len};
    }
    if (open > 0 && n < max)
        iov[n++] = (struct iovec){.iov_base = out->room.first, .iov_len = open};
    return n;
}

void
output_advance(struct output *out, size_t n)
{
    assert(n <= output_pending(out));
    while (out->count > 0 && n >= out->pieces[out->first].len) {
        n -= out->pieces[out->first].len;
        out->room.queued -= out->pieces[out->first].len;
        end_piece(out, &out->pieces[out->first]);
        out->first++;
        out->count--;
    }
    if (out->count > 0) {
        out->pieces[out->first].at += n;
        out->pieces[out->first].len -= n;
        out->room.queued -= n;
        return;
    }
    free_pieces(out);
    out->room.first += n;
    if (out->open != NULL && out->room.first == out->room.next)
        leave_chunk(out);
}
