/*
 * list: a doubly linked list whose links live in its elements.
 *
 * A head is an element of its own circle. An element that stands in no list has next == NULL,
 * so that removing twice is caught and `list_is_linked` can be asked.
 */
#ifndef LEPUS_BASE_LIST_H
#define LEPUS_BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "lepus/base/mem.h"

struct list {
    struct list *next, *prev;
};

static inline void
list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool
list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline bool
list_is_linked(const struct list *element)
{
    return element->next != NULL;
}

static inline void
list_insert_before(struct list *at, struct list *element)
{
    assert(!list_is_linked(element));
    element->next = at;
    element->prev = at->prev;
    at->prev->next = element;
    at->prev = element;
}

static inline void
list_append(struct list *head, struct list *element)
{
    list_insert_before(head, element);
}

static inline void
list_prepend(struct list *head, struct list *element)
{
    list_insert_before(head->next, element);
}

static inline void
list_remove(struct list *element)
{
    assert(list_is_linked(element));
    element->prev->next = element->next;
    element->next->prev = element->prev;
    element->next = element->prev = NULL;
}

/* Removes the first element and returns it; NULL when there is none. */
static inline struct list *
list_take_first(struct list *head)
{
    struct list *first = head->next;

    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

#define list_each(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)

/* Allows that the body removes `at`, and only `at`. */
#define list_each_safe(at, head)                                                                   \
    for (struct list *at = (head)->next, *at##_next = at->next; at != (head);                      \
         at = at##_next, at##_next = at->next)

#endif
