/*
 * members: the destinations of an exchange that picks one of them for each message.
 *
 * However many bindings lead to a destination, it is one member, and of its bindings the one that
 * was made first counts (after a restart: of durable ones the first by key). Members stand in order of their weight, then of their names, so that the
 * order is the same in every life of the broker. A binding's place is its member.
 */
#ifndef BROKER_MEMBERS_PRIV_H
#define BROKER_MEMBERS_PRIV_H

#include "exchange_priv.h"

struct member {
    uint64_t id;          /* the destination's */
    uint64_t hash;        /* of its name: the same in every life */
    uint64_t weight;      /* 0 where weights do not matter */
    struct list bindings; /* never empty */
};

/* What the binding's key says. */
typedef uint64_t member_weight(const struct binding *binding);

struct members {
    struct member **at;
    size_t n, size;
    struct idmap by_id;
    member_weight *weight; /* NULL: they do not matter */
};

struct members *members_new(member_weight *weight);
void members_free(struct members *members); /* without a member left */

void members_add(struct members *members, struct binding *binding);
void members_remove(struct members *members, struct binding *binding);

static inline const struct binding *
member_binding(const struct member *member)
{
    return container_of(member->bindings.next, struct binding, peers);
}

/* A hash that is the same in every life, and every version, of the broker. */
uint64_t stable_hash(struct view octets, uint64_t seed);
uint64_t hash_mix(uint64_t hash);

/* Tests: asserts the order, and counts the bindings. */
size_t members_check(const struct members *members);

#endif
