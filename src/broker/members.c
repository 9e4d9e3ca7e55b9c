#include "members_priv.h"

#include <assert.h>

/* FNV-1a, whose low bits hash_mix spreads over all others. */
uint64_t
stable_hash(struct view octets, uint64_t seed)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325) ^ hash_mix(seed);

    for (size_t i = 0; i < octets.len; i++)
        hash = (hash ^ octets.at[i]) * UINT64_C(0x100000001B3);
    return hash_mix(hash);
}

/* The finaliser of MurmurHash3. */
uint64_t
hash_mix(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
    hash = (hash ^ hash >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
    return hash ^ hash >> 33;
}

struct members *
members_new(member_weight *weight)
{
    struct members *members = mem_new(struct members);

    idmap_init(&members->by_id);
    members->weight = weight;
    return members;
}

void
members_free(struct members *members)
{
    assert(members->n == 0);
    idmap_fini(&members->by_id);
    free(members->at);
    free(members);
}

static uint64_t
destination_id(const struct binding *binding)
{
    return binding->to_exchange ? binding->to_a.exchange->id : binding->to_a.queue->ref.id;
}

static struct view
destination_name(const struct binding *binding)
{
    return binding->to_exchange ? exchange_name(binding->to_a.exchange)
                                : queue_entry_name(binding->to_a.queue);
}

/* By weight, name, and queues before exchanges. */
static int
compare(const struct member *a, const struct member *b)
{
    const struct binding *x = member_binding(a), *y = member_binding(b);
    struct view p = destination_name(x), q = destination_name(y);
    size_t n = p.len < q.len ? p.len : q.len;
    int order = (a->weight > b->weight) - (a->weight < b->weight);

    if (order == 0)
        order = memcmp(p.at, q.at, n);
    if (order == 0)
        order = (p.len > q.len) - (p.len < q.len);
    return order != 0 ? order : x->to_exchange - y->to_exchange;
}

/* Where it stands, or would. */
static size_t
place_of(const struct members *members, const struct member *member)
{
    size_t low = 0, high = members->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(members->at[middle], member) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void
put(struct members *members, struct member *member)
{
    size_t at = place_of(members, member);

    if (members->n == members->size) {
        members->size = members->size > 0 ? 2 * members->size : 8;
        members->at = mem_resize(members->at, members->size * sizeof(members->at[0]));
    }
    memmove(&members->at[at + 1], &members->at[at], (members->n - at) * sizeof(members->at[0]));
    members->at[at] = member;
    members->n++;
}

static void
take(struct members *members, const struct member *member)
{
    size_t at = place_of(members, member);

    assert(members->at[at] == member);
    members->n--;
    memmove(&members->at[at], &members->at[at + 1], (members->n - at) * sizeof(members->at[0]));
}

static void
weigh(const struct members *members, struct member *member)
{
    member->weight = members->weight != NULL ? members->weight(member_binding(member)) : 0;
}

void
members_add(struct members *members, struct binding *binding)
{
    struct member *member = idmap_find(&members->by_id, destination_id(binding));

    binding->place = member;
    if (member != NULL) {
        list_append(&member->bindings, &binding->peers);
        return;
    }
    binding->place = member = mem_new(struct member);
    member->id = destination_id(binding);
    member->hash = stable_hash(destination_name(binding), binding->to_exchange);
    list_init(&member->bindings);
    list_append(&member->bindings, &binding->peers);
    weigh(members, member);
    idmap_add(&members->by_id, member->id, member);
    put(members, member);
}

void
members_remove(struct members *members, struct binding *binding)
{
    struct member *member = binding->place;

    take(members, member);
    list_remove(&binding->peers);
    if (list_is_empty(&member->bindings)) {
        idmap_remove(&members->by_id, member->id);
        free(member);
        return;
    }
    weigh(members, member);
    put(members, member);
}

size_t
members_check(const struct members *members)
{
    size_t n = 0;

    assert(members->n == members->by_id.count);
    for (size_t i = 0; i < members->n; i++) {
        const struct member *member = members->at[i];

        assert(i == 0 || compare(members->at[i - 1], member) < 0);
        assert(idmap_find(&members->by_id, member->id) == member);
        assert(!list_is_empty(&member->bindings));
        list_each (at, &member->bindings) {
            const struct binding *binding = container_of(at, struct binding, peers);

            assert(binding->place == member && destination_id(binding) == member->id);
            n++;
        }
    }
    return n;
}
