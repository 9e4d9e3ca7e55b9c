/*
 * sample: encodings to test with: tables of every type, and copies that end where they end.
 */
#ifndef TEST_WIRE_SAMPLE_H
#define TEST_WIRE_SAMPLE_H

#include "unit.h"

#include "lepus/base/mem.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/table.h"

enum { SAMPLE_MAX = 1 << 20, SAMPLE_DEPTH = 3 };

/* A copy on the heap with nothing behind it, so that a sanitizer sees a read too far. The caller
 * frees ->at (cast away const). */
static inline struct view
sample_copy(struct view v)
{
    uint8_t *at = mem_alloc(v.len);

    if (v.len > 0)
        memcpy(at, v.at, v.len);
    return view_of(at, v.len);
}

static inline void
sample_free(struct view v)
{
    free((void *)(uintptr_t)v.at);
}

static inline struct view
sample_octets(struct random *random, uint8_t *room, size_t max)
{
    size_t n = random_below(random, max + 1);

    for (size_t i = 0; i < n; i++)
        room[i] = (uint8_t)random_u64(random);
    return view_of(room, n);
}

static inline struct view
sample_ascii(struct random *random, uint8_t *room, size_t max)
{
    size_t n = random_below(random, max + 1);

    for (size_t i = 0; i < n; i++)
        room[i] = (uint8_t)(' ' + random_below(random, 95));
    return view_of(room, n);
}

/* The letters of all field types, in the table's order. */
static const uint8_t sample_letters[] = {
#define T(letter, NAME, name, size) letter,
    FIELD_TYPES(T)
#undef T
};

static inline size_t
sample_type_size(uint8_t letter)
{
    switch (letter) {
#define T(letter, NAME, name, size)                                                                \
    case letter:                                                                                   \
        return size;
        FIELD_TYPES(T)
#undef T
    default:
        fail();
        return 0;
    }
}

static inline void sample_fields(struct buf *to, struct random *random, bool named, unsigned depth);

/* One value of the type, letter included. */
static inline void
sample_value(struct buf *to, struct random *random, uint8_t letter, unsigned depth)
{
    uint8_t room[24];
    size_t begun;

    buf_u8(to, letter);
    switch (letter) {
    case 'F':
    case 'A':
        begun = to->len;
        buf_u32(to, 0);
        if (depth > 0)
            sample_fields(to, random, letter == 'F', depth - 1);
        be_put_u32(to->at + begun, (uint32_t)(to->len - begun - 4));
        break;
    case 'S':
    case 'x':
        begun = sample_octets(random, room, sizeof(room)).len;
        buf_u32(to, (uint32_t)begun);
        buf_append(to, room, begun);
        break;
    default:
        for (size_t i = 0; i < sample_type_size(letter); i++)
            buf_u8(to, (uint8_t)random_u64(random));
    }
}

static inline void
sample_fields(struct buf *to, struct random *random, bool named, unsigned depth)
{
    size_t n = random_below(random, 6);
    uint8_t room[12];
    struct view name;

    for (size_t i = 0; i < n; i++) {
        if (named) {
            name = sample_ascii(random, room, sizeof(room));
            buf_u8(to, (uint8_t)name.len);
            buf_append(to, name.at, name.len);
        }
        sample_value(to, random, sample_letters[random_below(random, COUNT_OF(sample_letters))],
                     depth);
    }
}

/* Every type once, those that nest with all types within. */
static inline void
sample_every_type(struct buf *to, struct random *random, bool named, unsigned depth)
{
    for (size_t i = 0; i < COUNT_OF(sample_letters); i++) {
        uint8_t letter = sample_letters[i];
        size_t begun;

        if (named) {
            buf_u8(to, 2);
            buf_u8(to, 'k');
            buf_u8(to, letter);
        }
        if ((letter != 'F' && letter != 'A') || depth == 0) {
            sample_value(to, random, letter, 0);
            continue;
        }
        buf_u8(to, letter);
        begun = to->len;
        buf_u32(to, 0);
        sample_every_type(to, random, letter == 'F', depth - 1);
        be_put_u32(to->at + begun, (uint32_t)(to->len - begun - 4));
    }
}

#endif
