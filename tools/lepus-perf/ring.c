#include "ring.h"

#include "lepus/base/mem.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/props.h"

enum {
    RING_SIZE = 128 * 1024,        /* stays in the second-level cache on its way to the kernel */
    RINGS_SIZE = 64 * 1024 * 1024, /* of all producers together, while they can be so small */
    RING_MAX = 1024 * 1024 * 1024,
    MESSAGES_MAX = 1 << 20,
    TAKE_MAX = 256 * 1024,
    STAMP_SIZE = 8,
};

static void
write_properties(struct buf *to, const struct options *o)
{
    unsigned flags = (o->headers.len > 0 ? PROP_headers : 0u) |
                     (o->persistent ? PROP_delivery_mode : 0u) |
                     (o->priority != OPTION_NONE ? PROP_priority : 0u) |
                     (o->expiration != NULL ? PROP_expiration : 0u);

    buf_u16(to, (uint16_t)flags);
    if (o->headers.len > 0) {
        buf_u32(to, (uint32_t)o->headers.len);
        buf_append(to, o->headers.at, o->headers.len);
    }
    if (o->persistent)
        buf_u8(to, 2);
    if (o->priority != OPTION_NONE)
        buf_u8(to, (uint8_t)o->priority);
    if (o->expiration != NULL) {
        buf_u8(to, (uint8_t)strlen(o->expiration));
        buf_append(to, o->expiration, strlen(o->expiration));
    }
}

static void
write_head(struct buf *to, uint8_t type, uint16_t channel, size_t size)
{
    uint8_t head[FRAME_HEAD_SIZE];

    frame_put_head(head, type, channel, (uint32_t)size);
    buf_append(to, head, sizeof(head));
}

static void
write_header(struct buf *to, const struct options *o, uint16_t channel, size_t body_size)
{
    size_t begun = to->len;

    write_head(to, FRAME_HEADER, channel, 0);
    buf_u16(to, CLASS_basic);
    buf_u16(to, 0);
    buf_u64(to, body_size);
    write_properties(to, o);
    if (!to->bad)
        be_put_u32(to->at + begun + 3, (uint32_t)(to->len - begun - FRAME_HEAD_SIZE));
    buf_u8(to, FRAME_END);
}

static void
write_body(struct buf *to, uint16_t channel, size_t size, size_t frame_max)
{
    size_t most = frame_max == 0 ? SIZE_MAX : frame_max - FRAME_OVERHEAD;

    for (size_t left = size; left > 0;) {
        size_t piece = left < most ? left : most;
        uint8_t *at;

        write_head(to, FRAME_BODY, channel, piece);
        at = buf_reserve(to, piece);
        if (at == NULL)
            return;
        memset(at, 'x', piece);
        to->len += piece;
        buf_u8(to, FRAME_END);
        left -= piece;
    }
}

/* Names, and the keys that one producer goes through: those numbers below `all` that are dealt to
 * it or, where there are more producers than numbers, the one it shares. */
struct share {
    uint64_t first, step, count;
};

static struct share
share_of(uint64_t number, uint64_t producers, uint64_t all)
{
    if (producers >= all)
        return (struct share){number % all, 1, 1};
    return (struct share){number, producers, (all - number + producers - 1) / producers};
}

static struct share
keys_of(const struct options *o, uint64_t number)
{
    bool one = o->exchange[0] != '\0' && strstr(o->routing_key, "%d") == NULL;

    if (one)
        return (struct share){0, 1, 1};
    return share_of(number, o->producers, o->exchange[0] == '\0' ? o->queues : o->routing_keys);
}

static void
write_message(struct ring *ring, struct buf *to, const struct options *o, uint16_t channel,
              uint64_t key_number, size_t size, size_t frame_max)
{
    struct ring_slot *slot = &ring->slots[ring->count++];
    char key[256];

    slot->begin = to->len;
    if (o->exchange[0] == '\0')
        options_queue_name(o, key_number, key, sizeof(key));
    else
        options_expand(key, sizeof(key), o->routing_key, key_number);
    method_write(to, channel, METHOD_basic_publish,
                 &(struct basic_publish){.exchange = view_str(o->exchange),
                                         .routing_key = view_str(key),
                                         .mandatory = o->mandatory});
    write_header(to, o, channel, size);
    slot->stamp = size >= STAMP_SIZE ? to->len + FRAME_HEAD_SIZE : 0;
    write_body(to, channel, size, frame_max);
    slot[1].bodies = slot->bodies + size;
}

static uint64_t
draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static size_t
size_of(const struct sizes *sizes, uint64_t message, uint64_t keys, uint64_t *random)
{
    if (sizes->is_range)
        return sizes->sizes[0] + (size_t)(draw(random) % (sizes->sizes[1] - sizes->sizes[0] + 1));
    /* Moved on by one with each round through the keys, so that every key has every size. */
    return sizes->sizes[(message % keys + message / keys) % sizes->count];
}

/* Messages that a ring must have so that all keys and, where they are few, all sizes are in it. */
static uint64_t
round_length(const struct options *o, uint64_t keys)
{
    uint64_t sizes = o->size.is_range ? 64 : o->size.count;

    if (keys > MESSAGES_MAX)
        return MESSAGES_MAX;
    return keys * sizes > MESSAGES_MAX ? keys : keys * sizes;
}

void
ring_init(struct ring *ring, const struct options *o, uint64_t number, uint16_t channel,
          size_t frame_max)
{
    struct share keys = keys_of(o, number);
    uint64_t round = round_length(o, keys.count), random = number, messages = 0, room = round + 1;
    size_t enough = RINGS_SIZE / (size_t)(o->producers > 0 ? o->producers : 1);
    struct buf to;

    *ring = (struct ring){0};
    if (enough > RING_SIZE)
        enough = RING_SIZE;
    buf_init(&to, RING_MAX);
    ring->slots = mem_alloc((size_t)room * sizeof(ring->slots[0]));
    ring->slots[0].bodies = 0;
    /* Whole rounds, as far as memory goes: bodies of many megabytes come in fewer variations. */
    while (messages % round != 0 || to.len < enough) {
        if (to.len > RINGS_SIZE && messages >= keys.count)
            break;
        if (messages + 1 == room) {
            room *= 2;
            ring->slots = mem_resize(ring->slots, (size_t)room * sizeof(ring->slots[0]));
        }
        write_message(ring, &to, o, channel, keys.first + messages % keys.count * keys.step,
                      size_of(&o->size, messages, keys.count, &random), frame_max);
        if (to.bad) {
            ring->count--;
            break;
        }
        messages++;
    }
    ring->size = ring->slots[ring->count].begin = to.len;
    ring->at = to.at; /* ours from here on */
}

void
ring_fini(struct ring *ring)
{
    free(ring->at);
    free(ring->slots);
    *ring = (struct ring){0};
}

struct view
ring_take(struct ring *ring, uint64_t *n, uint64_t *out_bytes)
{
    size_t first = ring->next, begin = ring->slots[first].begin, end = first + 1;

    while (end < ring->count && end - first < *n && ring->slots[end + 1].begin - begin <= TAKE_MAX)
        end++;
    *n = end - first;
    *out_bytes = ring->slots[end].bodies - ring->slots[first].bodies;
    ring->next = end == ring->count ? 0 : end;
    return view_of(ring->at + begin, ring->slots[end].begin - begin);
}
