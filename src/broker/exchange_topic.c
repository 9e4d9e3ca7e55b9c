/*
 * exchange_topic: patterns of words; `*` is any one word, `#` any number of words, none too.
 *
 * The patterns stand in a trie, a node a word. A node is one line of the processor's cache, and
 * knows its neighbours by their numbers: that halves the links, and a chunk of nodes can come and
 * go without them. The plain words of all nodes are in one hash table with open addressing, by
 * (parent, word); `*` and `#` are members of their node. Consecutive `#` mean one. So a word of a
 * key costs two lines, the slot and the node, however many patterns there are; and the usual end of
 * a pattern, one binding to one queue, costs none more: its queue stands in the node.
 *
 * Matching reads the key word by word and keeps the set of nodes that the words so far lead to.
 * A `#` node, once reached, stays reached up to the end of the key. So a node is looked at once
 * a word at most, whatever the pattern: there is no backtracking, and nodes that the key does
 * not lead to are never seen. Words are split as RabbitMQ splits them: "a..b" has an empty word
 * in the middle, and "" has no word at all.
 */
#include "exchange_priv.h"

#include <assert.h>

enum {
    NEAR = 24, /* octets of a word that stand in the node */
    WORD_MAX = NAME_MAX_LEN,
    FIRST_CHUNK = 4, /* nodes; each further chunk is as large as all before it, and FIRST_CHUNK */
    CHUNKS = 28,
    SLOTS_MIN = 16,
};

#define ROOT UINT32_C(0) /* its number; as a neighbour's: there is none */

struct node {
    uint32_t star, hash, parent;
    uint32_t n_words;      /* children in the table */
    struct list *bindings; /* whose pattern ends here: one of their circle, which has no head */
    uint64_t only_id;      /* of the queue, when there is one binding and it is to a queue; or 0 */
    uint32_t only_shard;
    uint8_t len;
    bool is_hash;
    union {
        char near[NEAR];
        char *far;
    } word; /* of a child in the table */
};

_Static_assert(sizeof(struct node) == MEM_LINE, "a node is a line");

/* Chunk c holds FIRST_CHUNK << c nodes, or is not there. */
struct chunk {
    struct node *nodes;
    uint32_t n;      /* in use */
    uint32_t n_ever; /* those from here on were never in use */
    uint32_t free;   /* the number of one that was: its `parent` is the next; ROOT: none */
};

struct slot {
    uint32_t tag;  /* of parent and word; its low bits say where the search begins */
    uint32_t node; /* ROOT: free */
};

struct trie {
    struct slot *slots; /* NULL until the first word */
    uint32_t mask, n_slots;
    unsigned open; /* the first chunk that may have room */
    struct chunk chunks[CHUNKS];
};

/* A node's place below its parent. */
enum branch { BRANCH_WORD, BRANCH_STAR, BRANCH_HASH };

/* --- words --------------------------------------------------------------------------------- */

struct words {
    struct view rest;
    bool ended;
};

static struct words
words_of(struct view key)
{
    return (struct words){key, key.len == 0};
}

static bool
next_word(struct words *words, struct view *out_word)
{
    const uint8_t *dot;

    if (words->ended)
        return false;
    dot = words->rest.len > 0 ? memchr(words->rest.at, '.', words->rest.len) : NULL;
    *out_word = words->rest;
    if (dot == NULL) {
        words->ended = true;
        return true;
    }
    out_word->len = (size_t)(dot - words->rest.at);
    words->rest.at += out_word->len + 1;
    words->rest.len -= out_word->len + 1;
    return true;
}

static enum branch
branch_of(struct view word)
{
    if (word.len == 1 && word.at[0] == '*')
        return BRANCH_STAR;
    return word.len == 1 && word.at[0] == '#' ? BRANCH_HASH : BRANCH_WORD;
}

/* --- nodes --------------------------------------------------------------------------------- */

static unsigned
chunk_of(uint32_t number)
{
    return 29 - (unsigned)__builtin_clz(number + FIRST_CHUNK);
}

static uint32_t
chunk_size(unsigned c)
{
    return (uint32_t)FIRST_CHUNK << c;
}

static struct node *
node_at(const struct trie *trie, uint32_t number)
{
    unsigned c = chunk_of(number);

    return &trie->chunks[c].nodes[(number + FIRST_CHUNK) ^ chunk_size(c)];
}

static struct node *
take_node(struct trie *trie, uint32_t *out_number)
{
    struct chunk *chunk = &trie->chunks[trie->open];

    while (chunk->n == chunk_size(trie->open)) {
        trie->open++;
        chunk++;
        assert(trie->open < CHUNKS);
    }
    if (chunk->nodes == NULL)
        chunk->nodes = mem_table_new(chunk_size(trie->open) * sizeof(struct node));
    chunk->n++;
    *out_number = chunk->free;
    if (chunk->free != ROOT)
        chunk->free = node_at(trie, chunk->free)->parent;
    else
        *out_number = chunk_size(trie->open) - FIRST_CHUNK + chunk->n_ever++;
    return memset(node_at(trie, *out_number), 0, sizeof(struct node));
}

static void
give_node(struct trie *trie, uint32_t number)
{
    unsigned c = chunk_of(number);
    struct chunk *chunk = &trie->chunks[c];

    if (c < trie->open)
        trie->open = c;
    node_at(trie, number)->parent = chunk->free;
    chunk->free = number;
    if (--chunk->n > 0)
        return;
    mem_table_free(chunk->nodes, chunk_size(c) * sizeof(struct node));
    *chunk = (struct chunk){0};
}

static struct view
word_of(const struct node *node)
{
    return view_of(node->len > NEAR ? node->word.far : node->word.near, node->len);
}

static void
set_word(struct node *node, struct view word)
{
    char *to = node->word.near;

    if (word.len > NEAR)
        to = node->word.far = mem_alloc(word.len);
    if (word.len > 0)
        memcpy(to, word.at, word.len);
    node->len = (uint8_t)word.len;
}

/* --- the table ----------------------------------------------------------------------------- */

static uint32_t
tag_of(uint32_t parent, uint64_t word_hash)
{
    return (uint32_t)((word_hash ^ parent * UINT64_C(0xD1B54A32D192ED03)) *
                          UINT64_C(0x9E3779B97F4A7C15) >>
                      32);
}

static bool
is_child(const struct node *node, uint32_t parent, struct view word)
{
    return node->parent == parent && view_equal(word_of(node), word);
}

/* ROOT when there is none. */
static uint32_t
find_word(const struct trie *trie, uint32_t parent, struct view word, uint64_t word_hash)
{
    uint32_t tag = tag_of(parent, word_hash);

    for (uint32_t i = tag & trie->mask; trie->slots[i].node != ROOT; i = (i + 1) & trie->mask)
        if (trie->slots[i].tag == tag && is_child(node_at(trie, trie->slots[i].node), parent, word))
            return trie->slots[i].node;
    return ROOT;
}

static void
put_slot(struct trie *trie, struct slot slot)
{
    uint32_t i = slot.tag & trie->mask;

    while (trie->slots[i].node != ROOT)
        i = (i + 1) & trie->mask;
    trie->slots[i] = slot;
}

static void
resize_slots(struct trie *trie, size_t size)
{
    struct slot *old = trie->slots;
    size_t n = old != NULL ? (size_t)trie->mask + 1 : 0;

    trie->slots = mem_table_new(size * sizeof(struct slot));
    trie->mask = (uint32_t)(size - 1);
    for (size_t i = 0; i < n; i++)
        if (old[i].node != ROOT)
            put_slot(trie, old[i]);
    mem_table_free(old, n * sizeof(struct slot));
}

static void
add_slot(struct trie *trie, struct slot slot)
{
    if (trie->slots == NULL)
        resize_slots(trie, SLOTS_MIN);
    else if (trie->n_slots > trie->mask / 8 * 5) /* so that what is not there is soon not found */
        resize_slots(trie, ((size_t)trie->mask + 1) * 2);
    put_slot(trie, slot);
    trie->n_slots++;
}

/* Closes the gap by moving back those behind it that their own place allows. */
static void
close_gap(struct trie *trie, uint32_t gap)
{
    uint32_t mask = trie->mask;

    for (uint32_t i = (gap + 1) & mask; trie->slots[i].node != ROOT; i = (i + 1) & mask) {
        if (((i - trie->slots[i].tag) & mask) < ((i - gap) & mask))
            continue;
        trie->slots[gap] = trie->slots[i];
        gap = i;
    }
    trie->slots[gap] = (struct slot){0};
}

static void
remove_slot(struct trie *trie, uint32_t number)
{
    const struct node *node = node_at(trie, number);
    uint32_t i = tag_of(node->parent, view_hash(word_of(node))) & trie->mask;

    while (trie->slots[i].node != number) {
        assert(trie->slots[i].node != ROOT);
        i = (i + 1) & trie->mask;
    }
    close_gap(trie, i);
    if (--trie->n_slots == 0) {
        mem_table_free(trie->slots, ((size_t)trie->mask + 1) * sizeof(struct slot));
        trie->slots = NULL;
    } else if (trie->mask >= SLOTS_MIN * 2 && trie->n_slots < (trie->mask + 1) / 8) {
        resize_slots(trie, (trie->mask + 1) / 2);
    }
}

/* --- the trie ------------------------------------------------------------------------------ */

static uint32_t
find_child(const struct trie *trie, uint32_t parent, struct view word)
{
    const struct node *node = node_at(trie, parent);

    switch (branch_of(word)) {
    case BRANCH_STAR:
        return node->star;
    case BRANCH_HASH:
        return node->hash;
    case BRANCH_WORD:
        break;
    }
    return node->n_words > 0 ? find_word(trie, parent, word, view_hash(word)) : ROOT;
}

static uint32_t
add_child(struct trie *trie, uint32_t parent, struct view word)
{
    struct node *above = node_at(trie, parent); /* nodes do not move */
    uint32_t number;
    struct node *node = take_node(trie, &number);

    node->parent = parent;
    switch (branch_of(word)) {
    case BRANCH_STAR:
        return above->star = number;
    case BRANCH_HASH:
        node->is_hash = true;
        return above->hash = number;
    case BRANCH_WORD:
        break;
    }
    set_word(node, word);
    add_slot(trie, (struct slot){tag_of(parent, view_hash(word)), number});
    above->n_words++;
    return number;
}

static void
take_from_parent(struct trie *trie, uint32_t number, struct node *parent)
{
    struct node *node = node_at(trie, number);

    if (parent->star == number) {
        parent->star = ROOT;
    } else if (parent->hash == number) {
        parent->hash = ROOT;
    } else {
        remove_slot(trie, number);
        parent->n_words--;
        if (node->len > NEAR)
            free(node->word.far);
    }
}

static bool
is_needed(const struct node *node)
{
    return node->bindings != NULL || node->n_words > 0 || node->star != ROOT || node->hash != ROOT;
}

/* Frees the node, and its parents, as far as nothing needs them. */
static void
prune(struct trie *trie, uint32_t number)
{
    while (number != ROOT && !is_needed(node_at(trie, number))) {
        uint32_t parent = node_at(trie, number)->parent;

        take_from_parent(trie, number, node_at(trie, parent));
        give_node(trie, number);
        number = parent;
    }
}

static void
init(struct exchange *exchange)
{
    struct trie *trie = mem_new(struct trie);
    uint32_t root;

    take_node(trie, &root);
    assert(root == ROOT);
    exchange->index = trie;
}

static void
fini(struct exchange *exchange)
{
    struct trie *trie = exchange->index;

    assert(trie->n_slots == 0 && trie->chunks[0].n == 1);
    mem_table_free(trie->chunks[0].nodes, FIRST_CHUNK * sizeof(struct node));
    free(trie);
    exchange->index = NULL;
}

/* Its queue stands in the node, if it is the only one there. */
static void
note_only(struct node *node)
{
    const struct binding *first;

    node->only_id = 0;
    if (node->bindings == NULL || node->bindings->next != node->bindings)
        return;
    first = container_of(node->bindings, struct binding, peers);
    if (first->to_exchange)
        return;
    node->only_id = first->to_a.queue->ref.id;
    node->only_shard = first->to_a.queue->ref.shard;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct trie *trie = exchange->index;
    struct words words = words_of(binding_key(binding));
    uint32_t number = ROOT;
    struct node *node;
    struct view word;

    while (next_word(&words, &word)) {
        uint32_t child;

        if (branch_of(word) == BRANCH_HASH && node_at(trie, number)->is_hash)
            continue; /* "#.#" is "#" */
        child = find_child(trie, number, word);
        number = child != ROOT ? child : add_child(trie, number, word);
    }
    node = node_at(trie, number);
    if (node->bindings == NULL) {
        list_init(&binding->peers);
        node->bindings = &binding->peers;
    } else {
        list_insert_before(node->bindings, &binding->peers);
    }
    binding->place = (void *)(uintptr_t)number;
    note_only(node);
}

static uint32_t
place_of(const struct binding *binding)
{
    return (uint32_t)(uintptr_t)binding->place;
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    struct node *node = node_at(exchange->index, place_of(binding));

    if (node->bindings == &binding->peers)
        node->bindings = binding->peers.next;
    if (node->bindings == &binding->peers)
        node->bindings = NULL;
    list_remove(&binding->peers);
    note_only(node);
    prune(exchange->index, place_of(binding));
}

/* --- matching ------------------------------------------------------------------------------ */

/* A set of nodes that is filled without a search when its filler never comes twice (add), or
 * with one (add_new): over the first few one by one, then by number. */
struct nodes {
    uint32_t *at;
    size_t n, size;
    struct idmap places; /* of all, once there are more than fit `few` */
    uint32_t few[32];
};

static void
nodes_init(struct nodes *nodes)
{
    nodes->at = nodes->few;
    nodes->n = 0;
    nodes->size = sizeof(nodes->few) / sizeof(nodes->few[0]);
    idmap_init(&nodes->places);
}

static void
nodes_fini(struct nodes *nodes)
{
    if (nodes->at == nodes->few)
        return;
    free(nodes->at);
    idmap_fini(&nodes->places);
}

static void
grow(struct nodes *nodes)
{
    bool is_first = nodes->at == nodes->few;
    uint32_t *more = mem_resize(is_first ? NULL : nodes->at, 2 * nodes->size * sizeof(uint32_t));

    if (is_first)
        memcpy(more, nodes->few, sizeof(nodes->few));
    nodes->at = more;
    nodes->size *= 2;
}

static void
add(struct nodes *nodes, uint32_t number)
{
    if (nodes->n == nodes->size)
        grow(nodes);
    nodes->at[nodes->n++] = number;
}

static void
add_place(struct nodes *nodes, uint32_t number)
{
    idmap_add(&nodes->places, (uint64_t)number + 1, (void *)(uintptr_t)1);
}

static bool
has(const struct nodes *nodes, uint32_t number)
{
    if (nodes->places.count > 0)
        return idmap_find(&nodes->places, (uint64_t)number + 1) != NULL;
    for (size_t i = 0; i < nodes->n; i++)
        if (nodes->at[i] == number)
            return true;
    return false;
}

static void
add_new(struct nodes *nodes, uint32_t number)
{
    if (has(nodes, number))
        return;
    add(nodes, number);
    if (nodes->places.count > 0)
        add_place(nodes, number);
    else if (nodes->at != nodes->few)
        for (size_t i = 0; i < nodes->n; i++)
            add_place(nodes, nodes->at[i]);
}

/* Where the words so far lead: to `now`, by the last word, and to `staying`, which are `#`. A node
 * comes into `now` from its parent alone, so once; a `#` may be reached again and again. */
struct front {
    const struct trie *trie;
    struct nodes *now, *next;
    struct nodes staying;
    struct nodes turns[2]; /* now and next, in turn */
    struct view word;      /* the next one, its hash as soon as somebody asks for it */
    uint64_t word_hash;
    bool is_hashed;
};

static void
reach(struct front *front, struct nodes *to, uint32_t number)
{
    uint32_t hash = node_at(front->trie, number)->hash;

    add(to, number);
    if (hash != ROOT)
        add_new(&front->staying, hash);
}

static uint32_t
find_next(struct front *front, uint32_t parent)
{
    if (!front->is_hashed)
        front->word_hash = view_hash(front->word);
    front->is_hashed = true;
    return find_word(front->trie, parent, front->word, front->word_hash);
}

static void
step_from(struct front *front, uint32_t number)
{
    const struct node *node = node_at(front->trie, number);
    uint32_t child = node->n_words > 0 ? find_next(front, number) : ROOT;

    if (child != ROOT)
        reach(front, front->next, child);
    if (node->star != ROOT)
        reach(front, front->next, node->star);
}

static void
step(struct front *front)
{
    size_t n_staying = front->staying.n; /* those that come now have not eaten a word yet */
    struct nodes *now = front->now;

    front->is_hashed = false;
    front->next->n = 0;
    for (size_t i = 0; i < now->n; i++)
        step_from(front, now->at[i]);
    for (size_t i = 0; i < n_staying; i++)
        step_from(front, front->staying.at[i]);
    front->now = front->next;
    front->next = now;
}

static void
emit_node(const struct node *node, struct router *router)
{
    struct list *at = node->bindings;

    if (node->only_id != 0) {
        route_to_queue(router, &(struct queue_ref){node->only_id, node->only_shard});
        return;
    }
    if (at == NULL)
        return;
    do {
        route_to(router, container_of(at, struct binding, peers));
        at = at->next;
    } while (at != node->bindings);
}

static void
emit(const struct front *front, const struct nodes *nodes, struct router *router)
{
    for (size_t i = 0; i < nodes->n; i++)
        emit_node(node_at(front->trie, nodes->at[i]), router);
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    struct words words = words_of(key);
    struct front front;

    front.trie = exchange->index;
    nodes_init(&front.turns[0]);
    nodes_init(&front.turns[1]);
    nodes_init(&front.staying);
    front.now = &front.turns[0];
    front.next = &front.turns[1];
    reach(&front, front.now, ROOT);
    while (front.now->n + front.staying.n > 0 && next_word(&words, &front.word)) {
        router->n_visited += front.now->n + front.staying.n;
        step(&front);
    }
    emit(&front, front.now, router);
    emit(&front, &front.staying, router);
    nodes_fini(&front.turns[0]);
    nodes_fini(&front.turns[1]);
    nodes_fini(&front.staying);
}

/* --- checking ------------------------------------------------------------------------------ */

static size_t
check_bindings(const struct exchange *exchange, uint32_t number)
{
    const struct node *node = node_at(exchange->index, number);
    const struct binding *binding = NULL;
    struct list *at = node->bindings;
    bool has_only;
    size_t n = 0;

    for (; at != NULL && (n == 0 || at != node->bindings); at = at->next, n++) {
        binding = container_of(at, struct binding, peers);
        assert(place_of(binding) == number && binding->source == exchange);
    }
    has_only = n == 1 && !binding->to_exchange;
    assert((node->only_id != 0) == has_only);
    assert(!has_only || (node->only_id == binding->to_a.queue->ref.id &&
                         node->only_shard == binding->to_a.queue->ref.shard));
    return n;
}

/* The bindings of the node and of its `*` and `#`; the words' nodes are counted by themselves. */
static size_t
check_node(const struct exchange *exchange, uint32_t number, uint32_t *n_nodes)
{
    const struct trie *trie = exchange->index;
    const struct node *node = node_at(trie, number);
    size_t n = check_bindings(exchange, number);

    (*n_nodes)++;
    assert(number == ROOT || is_needed(node));
    if (node->star != ROOT) {
        assert(node_at(trie, node->star)->parent == number);
        n += check_node(exchange, node->star, n_nodes);
    }
    if (node->hash != ROOT) {
        assert(node_at(trie, node->hash)->parent == number);
        assert(node_at(trie, node->hash)->hash == ROOT && node_at(trie, node->hash)->is_hash);
        n += check_node(exchange, node->hash, n_nodes);
    }
    return n;
}

static size_t
check(const struct exchange *exchange)
{
    const struct trie *trie = exchange->index;
    uint32_t n_nodes = 0, n_taken = 0, n_slots = 0;
    size_t n = check_node(exchange, ROOT, &n_nodes);

    for (size_t i = 0; trie->slots != NULL && i <= trie->mask; i++) {
        uint32_t number = trie->slots[i].node;
        struct view word;

        if (number == ROOT)
            continue;
        n_slots++;
        word = word_of(node_at(trie, number));
        assert(find_word(trie, node_at(trie, number)->parent, word, view_hash(word)) == number);
        assert(node_at(trie, node_at(trie, number)->parent)->n_words > 0);
        n += check_node(exchange, number, &n_nodes);
    }
    for (unsigned c = 0; c < CHUNKS; c++)
        n_taken += trie->chunks[c].n;
    assert(n_slots == trie->n_slots && n_nodes == n_taken);
    return n;
}

const struct exchange_type exchange_topic = {
    .name = "topic",
    .by_key = true,
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
