/*
 * dedup: which messages have come before: the window of a queue that deduplicates.
 *
 * A message is known by its header x-deduplication-header: whole numbers of any width are alike,
 * and strings of either kind; all else counts with its type. One without it is never a duplicate. A
 * duplicate is not kept, and confirmed like the first one, when that is safe. How long a key is
 * remembered:
 *
 *   x-cache-size, x-cache-ttl     at most so many keys, the oldest go; each so many ms (a header
 *                                 x-cache-ttl of the message's own goes before that). What becomes
 *                                 of the message does not matter; but a dead letter, known by its
 *                                 x-death, is no duplicate: it may be on its way back here
 *   neither                       while the message with it is in the queue, ready or unacked, as
 *                                 RabbitMQ's plugin has it. Here nothing is told of what goes:
 *                                 a key says which seq had it, and it is looked whether that
 *                                 one is still alive. Dead keys are swept when they outnumber the
 *                                 living messages
 *
 * Keys are kept as 128 bits of hash, in the order in which they came, with a map beside them. What
 * a restart needs is in the journal already: a key is in the headers of the message that brought
 * it; those whose message is not in the journal any more are in the queue's state (backlog_state).
 * So a key is never safe before its message is, and a crash cannot make the second try of a publish
 * that was lost look like a duplicate. What is read from a message after a crash is remembered
 * from then on, for its full time.
 *
 * Owned by its queue. Times are the wall clock's milliseconds.
 */
#ifndef LEPUS_BROKER_DEDUP_H
#define LEPUS_BROKER_DEDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/map.h"

enum { DEDUP_KEYS_MAX = 1000000, DEDUP_KEYS_DEFAULT = 128 };

struct dedup_settings {
    uint64_t size;   /* keys at most; 0: nothing is deduplicated */
    uint64_t ttl_ms; /* UINT64_MAX: as long as there is room */
    bool while_here; /* only while the message is */
};

/* Of checked arguments: a queue's, with x-message-deduplication, or those of an exchange that
 * deduplicates. */
struct dedup_settings dedup_settings_of_queue(struct view arguments);
struct dedup_settings dedup_settings_of_exchange(struct view arguments);

struct dedup_key {
    uint64_t a, b; /* a is never 0 */
};

struct dedup_entry {
    struct dedup_key key;
    uint64_t seq;      /* the message's; 0: it was never in the queue */
    uint64_t until_ms; /* UINT64_MAX: for ever */
};

struct dedup {
    struct dedup_settings settings;
    struct dedup_entry *ring; /* each at its place & mask; NULL: none yet */
    uint64_t mask, first, end;
    struct idmap places; /* key.a -> place + 1, as a pointer's value */
};

void dedup_init(struct dedup *dedup, const struct dedup_settings *settings);
void dedup_fini(struct dedup *dedup);

static inline bool
dedup_is_empty(const struct dedup *dedup)
{
    return dedup->places.count == 0;
}

/* The key that a message with these properties has; false: none. */
bool dedup_key_of(struct view properties, struct dedup_key *out);

/* How long to remember it from now on. */
uint64_t dedup_until_ms(const struct dedup *dedup, struct view properties, uint64_t now_ms);

/* Whether a message is in the queue. */
typedef bool dedup_lives_fn(void *arg, uint64_t seq);

bool dedup_knows(const struct dedup *dedup, const struct dedup_key *key, uint64_t now_ms,
                 dedup_lives_fn *lives, void *arg);

/* One that is known gets the new seq and time, and becomes the youngest. */
void dedup_add(struct dedup *dedup, const struct dedup_entry *entry, uint64_t now_ms);

/* The same of what a former life left, told in any order: the higher seq counts. */
void dedup_learn(struct dedup *dedup, const struct dedup_entry *entry, uint64_t now_ms);

/* To be called when the queue has `alive` messages: forgets the keys of others, if it is time.
 * With while_here only. */
void dedup_sweep(struct dedup *dedup, size_t alive, dedup_lives_fn *lives, void *arg);

/* As octets: varint number of keys; of each a and b (little-endian), varints seq and until_ms (0:
 * for ever). Reading false: they are not that; what could be read is there. */
void dedup_write(const struct dedup *dedup, struct buf *to);
bool dedup_read(struct dedup *dedup, struct view from);

/* Tests. */
void dedup_check(const struct dedup *dedup);

#endif
