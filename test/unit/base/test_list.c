#include "unit.h"

#include "lepus/base/list.h"

enum { ITEMS = 40 };

struct item {
    int number;
    struct list link;
};

/* The list holds these numbers in this order, forward and backward. */
static void
check(const struct list *head, const int *numbers, size_t n)
{
    const struct list *at = head->next;

    assert_int_equal(list_is_empty(head), n == 0);
    for (size_t i = 0; i < n; i++, at = at->next) {
        assert_ptr_not_equal(at, head);
        assert_int_equal(container_of(at, const struct item, link)->number, numbers[i]);
        assert_ptr_equal(at->next->prev, at);
        assert_ptr_equal(at->prev->next, at);
    }
    assert_ptr_equal(at, head);
}

/* Moves the numbers from `at` on by one place. */
static void
model_insert(int *numbers, size_t *n, size_t at, int number)
{
    memmove(numbers + at + 1, numbers + at, (*n - at) * sizeof(numbers[0]));
    numbers[at] = number;
    ++*n;
}

static void
model_remove(int *numbers, size_t *n, size_t at)
{
    memmove(numbers + at, numbers + at + 1, (*n - at - 1) * sizeof(numbers[0]));
    --*n;
}

static size_t
place_of(const int *numbers, int number)
{
    size_t i = 0;

    while (numbers[i] != number)
        i++;
    return i;
}

static void
random_steps_follow_the_model(void **state)
{
    struct random random = {11};
    struct item items[ITEMS] = {0};
    int numbers[ITEMS];
    struct list head, *first;
    size_t n = 0;

    (void)state;
    list_init(&head);
    for (unsigned step = 0; step < 20000; step++) {
        int number = (int)random_below(&random, ITEMS);
        struct item *item = &items[number];

        item->number = number;
        if (random_below(&random, 6) == 0) {
            first = list_take_first(&head);
            assert_int_equal(first == NULL, n == 0);
            if (first != NULL) {
                assert_int_equal(container_of(first, struct item, link)->number, numbers[0]);
                model_remove(numbers, &n, 0);
            }
        } else if (list_is_linked(&item->link)) {
            list_remove(&item->link);
            model_remove(numbers, &n, place_of(numbers, number));
        } else if (n > 0 && random_below(&random, 2) == 0) {
            size_t at = random_below(&random, n);

            list_insert_before(&items[numbers[at]].link, &item->link);
            model_insert(numbers, &n, at, number);
        } else if (random_below(&random, 2) == 0) {
            list_append(&head, &item->link);
            model_insert(numbers, &n, n, number);
        } else {
            list_prepend(&head, &item->link);
            model_insert(numbers, &n, 0, number);
        }
        check(&head, numbers, n);
    }
}

static void
safe_walk_allows_removal(void **state)
{
    struct item items[5] = {0};
    const int odd[] = {1, 3};
    struct list head;
    int seen = 0;

    (void)state;
    list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_append(&head, &items[i].link);
    }
    list_each_safe (at, &head) {
        assert_int_equal(container_of(at, struct item, link)->number, seen++);
        if (container_of(at, struct item, link)->number % 2 == 0)
            list_remove(at);
    }
    assert_int_equal(seen, 5);
    check(&head, odd, 2);
    seen = 0;
    list_each (at, &head)
        seen++;
    assert_int_equal(seen, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_follow_the_model),
        cmocka_unit_test(safe_walk_allows_removal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
