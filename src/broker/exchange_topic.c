/*
 * exchange_topic: patterns of words; `*` is any one word, `#` any number of words, none too.
 *
 * The patterns stand in a trie, a node a word. The plain words of all nodes are in one hash
 * table, by (parent's address, word); `*` and `#` are members of their node. Consecutive `#`
 * mean one.
 *
 * Matching reads the key word by word and keeps the set of nodes that the words so far lead to.
 * A `#` node, once reached, stays reached up to the end of the key. So a node is looked at once
 * a word at most, whatever the pattern: there is no backtracking, and nodes that the key does
 * not lead to are never seen. Words are split as RabbitMQ splits them: "a..b" has an empty word
 * in the middle, and "" has no word at all.
 */
#include "exchange_priv.h"

#include <assert.h>

enum { PARENT_SIZE = sizeof(struct node *), WORD_MAX = NAME_MAX_LEN };

struct node {
    struct map_node in_words;
    struct node *star, *hash;
    struct list bindings;   /* whose pattern ends here */
    uint32_t n_words;       /* children in the table */
    char parent_and_word[]; /* its key in the table; the parent outlives it */
};

struct trie {
    struct map words;
    struct node *root;
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

/* --- the trie ------------------------------------------------------------------------------ */

static struct node *
parent_of(const struct node *node)
{
    struct node *parent;

    memcpy(&parent, node->parent_and_word, PARENT_SIZE);
    return parent;
}

static struct view
key_of(const struct node *parent, struct view word, char *room)
{
    memcpy(room, &parent, PARENT_SIZE);
    if (word.len > 0)
        memcpy(room + PARENT_SIZE, word.at, word.len);
    return view_of(room, PARENT_SIZE + word.len);
}

static struct node *
find_word(const struct trie *trie, const struct node *parent, struct view word)
{
    char room[PARENT_SIZE + WORD_MAX];
    struct map_node *found;

    if (parent->n_words == 0 || word.len > WORD_MAX) /* a key from CC may be longer than a name */
        return NULL;
    found = map_find(&trie->words, key_of(parent, word, room));
    return found != NULL ? container_of(found, struct node, in_words) : NULL;
}

static struct node *
find_child(const struct trie *trie, const struct node *parent, struct view word)
{
    switch (branch_of(word)) {
    case BRANCH_STAR:
        return parent->star;
    case BRANCH_HASH:
        return parent->hash;
    case BRANCH_WORD:
        break;
    }
    return find_word(trie, parent, word);
}

/* With its key written, in no place yet. */
static struct node *
make_node(const struct node *parent, struct view word)
{
    struct node *node = mem_alloc_zero(sizeof(struct node) + PARENT_SIZE + word.len);

    list_init(&node->bindings);
    node->in_words.key = key_of(parent, word, node->parent_and_word);
    return node;
}

static struct node *
add_child(struct trie *trie, struct node *parent, struct view word)
{
    enum branch branch = branch_of(word);
    struct node *node = make_node(parent, branch == BRANCH_WORD ? word : view_of(NULL, 0));

    switch (branch) {
    case BRANCH_STAR:
        return parent->star = node;
    case BRANCH_HASH:
        return parent->hash = node;
    case BRANCH_WORD:
        break;
    }
    map_add(&trie->words, &node->in_words, node->in_words.key);
    parent->n_words++;
    return node;
}

/* Frees the node, and its parents, as far as nothing needs them. */
static void
prune(struct trie *trie, struct node *node)
{
    while (node != trie->root && list_is_empty(&node->bindings) && node->n_words == 0 &&
           node->star == NULL && node->hash == NULL) {
        struct node *parent = parent_of(node);

        if (parent->star == node) {
            parent->star = NULL;
        } else if (parent->hash == node) {
            parent->hash = NULL;
        } else {
            map_remove(&trie->words, &node->in_words);
            parent->n_words--;
        }
        free(node);
        node = parent;
    }
}

static void
init(struct exchange *exchange)
{
    struct trie *trie = mem_new(struct trie);

    map_init(&trie->words);
    trie->root = make_node(NULL, view_of(NULL, 0));
    exchange->index = trie;
}

static void
fini(struct exchange *exchange)
{
    struct trie *trie = exchange->index;

    assert(trie->words.count == 0);
    free(trie->root);
    free(trie);
    exchange->index = NULL;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct trie *trie = exchange->index;
    struct words words = words_of(binding_key(binding));
    struct node *node = trie->root;
    struct view word;

    while (next_word(&words, &word)) {
        struct node *child;

        if (branch_of(word) == BRANCH_HASH && node != trie->root && parent_of(node)->hash == node)
            continue; /* "#.#" is "#" */
        child = find_child(trie, node, word);
        node = child != NULL ? child : add_child(trie, node, word);
    }
    list_append(&node->bindings, &binding->peers);
    binding->place = node;
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    list_remove(&binding->peers);
    prune(exchange->index, binding->place);
}

/* --- matching ------------------------------------------------------------------------------ */

/* A set of nodes that is filled without a search when its filler never comes twice (add), or
 * with one (add_new): over the first few one by one, then by address. */
struct nodes {
    struct node **at;
    size_t n, size;
    struct idmap places; /* of all, once there are more than fit `few` */
    struct node *few[32];
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
    if (nodes->at != nodes->few)
        free(nodes->at);
    idmap_fini(&nodes->places);
}

static void
add(struct nodes *nodes, struct node *node)
{
    if (nodes->n == nodes->size) {
        bool is_first = nodes->at == nodes->few;
        struct node **more =
            mem_resize(is_first ? NULL : nodes->at, 2 * nodes->size * sizeof(struct node *));

        if (is_first)
            memcpy(more, nodes->few, sizeof(nodes->few));
        nodes->at = more;
        nodes->size *= 2;
    }
    nodes->at[nodes->n++] = node;
}

static uint64_t
place_of(const struct node *node)
{
    return (uint64_t)(uintptr_t)node;
}

static bool
has(struct nodes *nodes, const struct node *node)
{
    if (nodes->places.count > 0)
        return idmap_find(&nodes->places, place_of(node)) != NULL;
    for (size_t i = 0; i < nodes->n; i++)
        if (nodes->at[i] == node)
            return true;
    return false;
}

static void
add_new(struct nodes *nodes, struct node *node)
{
    if (has(nodes, node))
        return;
    add(nodes, node);
    if (nodes->places.count > 0)
        idmap_add(&nodes->places, place_of(node), node);
    else if (nodes->at != nodes->few)
        for (size_t i = 0; i < nodes->n; i++)
            idmap_add(&nodes->places, place_of(nodes->at[i]), nodes->at[i]);
}

/* Where the words so far lead: to `now`, by the last word, and to `staying`, which are `#`. A node
 * comes into `now` from its parent alone, so once; a `#` may be reached again and again. */
struct front {
    struct nodes *now, *next;
    struct nodes staying;
    struct nodes turns[2]; /* now and next, in turn */
};

static void
reach(struct front *front, struct nodes *to, struct node *node)
{
    add(to, node);
    if (node->hash != NULL)
        add_new(&front->staying, node->hash);
}

static void
step_from(struct front *front, const struct trie *trie, const struct node *node, struct view word)
{
    struct node *child = find_word(trie, node, word);

    if (child != NULL)
        reach(front, front->next, child);
    if (node->star != NULL)
        reach(front, front->next, node->star);
}

static void
step(struct front *front, const struct trie *trie, struct view word)
{
    size_t n_staying = front->staying.n; /* those that come now have not eaten a word yet */
    struct nodes *now = front->now;

    front->next->n = 0;
    for (size_t i = 0; i < now->n; i++)
        step_from(front, trie, now->at[i], word);
    for (size_t i = 0; i < n_staying; i++)
        step_from(front, trie, front->staying.at[i], word);
    front->now = front->next;
    front->next = now;
}

static void
emit(const struct nodes *nodes, struct router *router)
{
    for (size_t i = 0; i < nodes->n; i++)
        list_each (at, &nodes->at[i]->bindings)
            route_to(router, container_of(at, struct binding, peers));
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    const struct trie *trie = exchange->index;
    struct words words = words_of(key);
    struct front front;
    struct view word;

    nodes_init(&front.turns[0]);
    nodes_init(&front.turns[1]);
    nodes_init(&front.staying);
    front.now = &front.turns[0];
    front.next = &front.turns[1];
    reach(&front, front.now, trie->root);
    while (front.now->n + front.staying.n > 0 && next_word(&words, &word)) {
        router->n_visited += front.now->n + front.staying.n;
        step(&front, trie, word);
    }
    emit(front.now, router);
    emit(&front.staying, router);
    nodes_fini(&front.turns[0]);
    nodes_fini(&front.turns[1]);
    nodes_fini(&front.staying);
}

/* --- checking ------------------------------------------------------------------------------ */

static size_t
check_node(const struct exchange *exchange, const struct node *node)
{
    const struct trie *trie = exchange->index;
    size_t n = 0;

    assert(node == trie->root || node->n_words > 0 || node->star != NULL || node->hash != NULL ||
           !list_is_empty(&node->bindings));
    list_each (at, &node->bindings) {
        struct binding *binding = container_of(at, struct binding, peers);

        assert(binding->place == node && binding->source == exchange);
        n++;
    }
    if (node->star != NULL) {
        assert(parent_of(node->star) == node);
        n += check_node(exchange, node->star);
    }
    if (node->hash != NULL) {
        assert(parent_of(node->hash) == node && node->hash->hash == NULL);
        n += check_node(exchange, node->hash);
    }
    return n;
}

static size_t
check(const struct exchange *exchange)
{
    const struct trie *trie = exchange->index;
    size_t n = check_node(exchange, trie->root);

    for (struct map_node *at = NULL; (at = map_next(&trie->words, at)) != NULL;) {
        struct node *node = container_of(at, struct node, in_words);

        assert(node->in_words.key.at == (const uint8_t *)node->parent_and_word);
        assert(parent_of(node)->n_words > 0);
        n += check_node(exchange, node);
    }
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
