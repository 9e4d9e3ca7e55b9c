#include "lepus/broker/dedup.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lepus/base/mem.h"
#include "lepus/store/record.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { RING_MIN = 16, SWEEP_MIN = 64 };

/* --- settings -------------------------------------------------------------------------- */

/* Of those that are there and are numbers: dedup_settings_of are for checked arguments. */
static bool
find_number(struct view table, struct view name, uint64_t *out)
{
    struct field field;

    if (!table_find(table, name, &field) || !field_is_integer(&field) || field.integer < 1)
        return false;
    *out = (uint64_t)field.integer;
    return true;
}

struct dedup_settings
dedup_settings_of_exchange(struct view arguments)
{
    struct dedup_settings settings = {.size = DEDUP_KEYS_DEFAULT, .ttl_ms = UINT64_MAX};
    bool has_size = find_number(arguments, VIEW_LIT("x-cache-size"), &settings.size);
    bool has_ttl = find_number(arguments, VIEW_LIT("x-cache-ttl"), &settings.ttl_ms);

    if (has_ttl && !has_size)
        settings.size = DEDUP_KEYS_MAX;
    if (settings.size > DEDUP_KEYS_MAX)
        settings.size = DEDUP_KEYS_MAX;
    settings.while_here = !has_ttl && !has_size;
    return settings;
}

struct dedup_settings
dedup_settings_of_queue(struct view arguments)
{
    struct dedup_settings settings;
    struct field is_on;

    if (!table_find(arguments, VIEW_LIT("x-message-deduplication"), &is_on) || !is_on.integer)
        return (struct dedup_settings){0};
    settings = dedup_settings_of_exchange(arguments);
    if (settings.while_here)
        settings.size = DEDUP_KEYS_MAX;
    return settings;
}

/* --- keys ------------------------------------------------------------------------------ */

bool
dedup_key_of(struct view properties, struct dedup_key *out)
{
    XXH3_state_t state;
    XXH128_hash_t hash;
    struct view headers;
    struct field field;
    uint8_t type;

    if (!props_find(properties, PROP_headers, &headers) ||
        !table_find(headers, VIEW_LIT("x-deduplication-header"), &field) ||
        field.type == FIELD_VOID)
        return false;
    type = field_is_integer(&field)    ? FIELD_I64
           : field.type == FIELD_BYTES ? FIELD_LONGSTR
                                       : (uint8_t)field.type;
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &type, 1);
    if (type == FIELD_I64)
        XXH3_128bits_update(&state, &field.integer, sizeof(field.integer));
    else
        XXH3_128bits_update(&state, field.bytes.at, field.bytes.len);
    hash = XXH3_128bits_digest(&state);
    *out = (struct dedup_key){hash.low64 != 0 ? hash.low64 : 1, hash.high64};
    return true;
}

uint64_t
dedup_until_ms(const struct dedup *dedup, struct view properties, uint64_t now_ms)
{
    uint64_t ttl_ms = dedup->settings.ttl_ms;
    struct view headers;

    if (!dedup->settings.while_here && props_find(properties, PROP_headers, &headers))
        find_number(headers, VIEW_LIT("x-cache-ttl"), &ttl_ms);
    return ttl_ms < UINT64_MAX - now_ms ? now_ms + ttl_ms : UINT64_MAX;
}

/* --- the ring -------------------------------------------------------------------------- */

void
dedup_init(struct dedup *dedup, const struct dedup_settings *settings)
{
    *dedup = (struct dedup){.settings = *settings};
    idmap_init(&dedup->places);
}

void
dedup_fini(struct dedup *dedup)
{
    free(dedup->ring);
    idmap_fini(&dedup->places);
}

static struct dedup_entry *
entry_at(const struct dedup *dedup, uint64_t place)
{
    return &dedup->ring[place & dedup->mask];
}

/* Whether it is this entry that counts for its key. */
static bool
counts(const struct dedup *dedup, uint64_t place)
{
    uintptr_t found = (uintptr_t)idmap_find(&dedup->places, entry_at(dedup, place)->key.a);

    return found == place + 1;
}

static struct dedup_entry *
find(const struct dedup *dedup, const struct dedup_key *key)
{
    uintptr_t found = (uintptr_t)idmap_find(&dedup->places, key->a);
    struct dedup_entry *entry = found != 0 ? entry_at(dedup, found - 1) : NULL;

    return entry != NULL && entry->key.b == key->b ? entry : NULL;
}

bool
dedup_knows(const struct dedup *dedup, const struct dedup_key *key, uint64_t now_ms,
            dedup_lives_fn *lives, void *arg)
{
    const struct dedup_entry *entry = find(dedup, key);

    if (entry == NULL || entry->until_ms <= now_ms)
        return false;
    return !dedup->settings.while_here || (entry->seq != 0 && lives(arg, entry->seq));
}

/* Leaves out what does not count, or what `lives` does not want, in room for `size` entries. */
static void
rebuild(struct dedup *dedup, uint64_t size, dedup_lives_fn *lives, void *arg)
{
    struct dedup old = *dedup;

    dedup->ring = mem_alloc(size * sizeof(struct dedup_entry));
    dedup->mask = size - 1;
    dedup->first = dedup->end = 0;
    idmap_init(&dedup->places);
    for (uint64_t place = old.first; place < old.end; place++) {
        const struct dedup_entry *entry = entry_at(&old, place);

        if (!counts(&old, place) || (lives != NULL && !lives(arg, entry->seq)))
            continue;
        *entry_at(dedup, dedup->end++) = *entry;
        idmap_add(&dedup->places, entry->key.a, (void *)(uintptr_t)dedup->end);
    }
    dedup_fini(&old);
}

static void
make_room(struct dedup *dedup)
{
    uint64_t size = RING_MIN;

    if (dedup->ring != NULL && dedup->end - dedup->first <= dedup->mask)
        return;
    while (size < 2 * (dedup->places.count + 1))
        size *= 2;
    rebuild(dedup, size, NULL, NULL);
}

static void
drop_first(struct dedup *dedup)
{
    if (counts(dedup, dedup->first))
        idmap_remove(&dedup->places, entry_at(dedup, dedup->first)->key.a);
    dedup->first++;
}

static void
drop_old(struct dedup *dedup, uint64_t now_ms)
{
    while (dedup->first < dedup->end &&
           (dedup->places.count > dedup->settings.size ||
            entry_at(dedup, dedup->first)->until_ms <= now_ms || !counts(dedup, dedup->first)))
        drop_first(dedup);
}

void
dedup_add(struct dedup *dedup, const struct dedup_entry *entry, uint64_t now_ms)
{
    make_room(dedup);
    idmap_remove(&dedup->places, entry->key.a);
    *entry_at(dedup, dedup->end++) = *entry;
    idmap_add(&dedup->places, entry->key.a, (void *)(uintptr_t)dedup->end);
    drop_old(dedup, now_ms);
}

void
dedup_learn(struct dedup *dedup, const struct dedup_entry *entry, uint64_t now_ms)
{
    const struct dedup_entry *known = find(dedup, &entry->key);

    if (known == NULL || known->seq < entry->seq)
        dedup_add(dedup, entry, now_ms);
}

void
dedup_sweep(struct dedup *dedup, size_t alive, dedup_lives_fn *lives, void *arg)
{
    if (dedup->settings.while_here && dedup->places.count > SWEEP_MIN &&
        dedup->places.count / 2 > alive)
        rebuild(dedup, dedup->mask + 1, lives, arg);
}

/* --- as octets ------------------------------------------------------------------------- */

static void
put_le64(struct buf *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        buf_u8(to, (uint8_t)(v >> 8 * i));
}

static bool
read_le64(struct view from, size_t *at, uint64_t *out)
{
    *out = 0;
    if (from.len - *at < 8)
        return false;
    for (int i = 0; i < 8; i++)
        *out |= (uint64_t)from.at[(*at)++] << 8 * i;
    return true;
}

void
dedup_write(const struct dedup *dedup, struct buf *to)
{
    record_varint(to, dedup->places.count);
    for (uint64_t place = dedup->first; place < dedup->end; place++) {
        const struct dedup_entry *entry = entry_at(dedup, place);

        if (!counts(dedup, place))
            continue;
        put_le64(to, entry->key.a);
        put_le64(to, entry->key.b);
        record_varint(to, entry->seq);
        record_varint(to, entry->until_ms != UINT64_MAX ? entry->until_ms : 0);
    }
}

bool
dedup_read(struct dedup *dedup, struct view from)
{
    uint64_t n;
    size_t at = 0;

    if (!record_read_varint(from, &at, &n))
        return false;
    for (; n > 0; n--) {
        struct dedup_entry entry;

        if (!read_le64(from, &at, &entry.key.a) || !read_le64(from, &at, &entry.key.b) ||
            !record_read_varint(from, &at, &entry.seq) ||
            !record_read_varint(from, &at, &entry.until_ms) || entry.key.a == 0)
            return false;
        if (entry.until_ms == 0)
            entry.until_ms = UINT64_MAX;
        dedup_add(dedup, &entry, 0);
    }
    return at == from.len;
}

void
dedup_check(const struct dedup *dedup)
{
    size_t n = 0;

    assert(dedup->first <= dedup->end);
    assert(dedup->ring == NULL || dedup->end - dedup->first <= dedup->mask + 1);
    for (uint64_t place = dedup->first; place < dedup->end; place++)
        n += counts(dedup, place);
    assert(n == dedup->places.count && n <= dedup->settings.size);
}
