#include "unit.h"

#include "lepus/base/buf.h"
#include "lepus/base/mem.h"

static void
grows_and_keeps_what_it_has(void **state)
{
    struct random random = {7};
    uint8_t *model = mem_alloc(1 << 16);
    size_t len = 0;
    struct buf buf;

    (void)state;
    buf_init(&buf, 1 << 16);
    while (len < 60000) {
        uint8_t piece[300];
        size_t n = random_below(&random, sizeof(piece));

        memset(piece, (int)random_below(&random, 256), n);
        buf_append(&buf, piece, n);
        memcpy(model + len, piece, n);
        len += n;
        assert_int_equal(buf.len, len);
        assert_true(buf.size >= buf.len && buf.size <= buf.max);
    }
    assert_memory_equal(buf.at, model, len);
    assert_false(buf.bad);
    free(model);
    buf_fini(&buf);
}

static void
numbers_in_network_order(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 64);
    buf_u8(&buf, 1);
    buf_u16(&buf, 0x0203);
    buf_u32(&buf, 0x04050607);
    buf_u64(&buf, 0x08090a0b0c0d0e0f);
    assert_int_equal(buf.len, 15);
    for (uint8_t i = 0; i < 15; i++)
        assert_int_equal(buf.at[i], i + 1);
    buf_fini(&buf);
}

static void
maximum_is_reached_exactly(void **state)
{
    uint8_t octets[200] = {0};

    (void)state;
    for (size_t max = 0; max < 200; max++) {
        struct buf buf;

        buf_init(&buf, max);
        buf_append(&buf, octets, max);
        assert_false(buf.bad);
        assert_int_equal(buf.len, max);
        assert_true(buf.size <= max);
        buf_append(&buf, octets, 0);
        assert_false(buf.bad);
        buf_append(&buf, octets, 1);
        assert_true(buf.bad);
        assert_int_equal(buf.len, max);
        buf_fini(&buf);
    }
}

static void
bad_stays_bad_until_cleared(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 4);
    buf_append(&buf, "abc", 3);
    buf_append(&buf, "de", 2);
    assert_true(buf.bad);
    buf_append(&buf, "d", 1); /* would fit */
    assert_int_equal(buf.len, 3);
    assert_null(buf_reserve(&buf, 1));
    buf_clear(&buf);
    buf_append(&buf, "wxyz", 4);
    assert_false(buf.bad);
    assert_memory_equal(buf.at, "wxyz", 4);
    buf_fini(&buf);
}

static void
huge_reserve_does_not_wrap(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 1 << 20);
    buf_append(&buf, "x", 1);
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.bad);
    buf_fini(&buf);
}

static void
reserve_counts_nothing(void **state)
{
    struct buf buf;
    uint8_t *at;

    (void)state;
    buf_init(&buf, 1 << 20);
    at = buf_reserve(&buf, 1000);
    assert_non_null(at);
    memset(at, 1, 1000);
    assert_int_equal(buf.len, 0);
    assert_ptr_equal(buf_reserve(&buf, 1000), at);
    buf_fini(&buf);
}

static void
each_failing_allocation_is_told(void **state)
{
    uint8_t octets[1000] = {0};

    (void)state;
    for (unsigned nth = 1; nth <= 4; nth++) {
        struct buf buf;
        size_t good = 0;

        buf_init(&buf, 1 << 20);
        mem_fail_nth(nth);
        for (unsigned i = 0; i < 100; i++) {
            buf_append(&buf, octets, sizeof(octets));
            good += !buf.bad;
        }
        mem_fail_nth(0);
        assert_true(buf.bad);
        assert_int_equal(buf.len, good * sizeof(octets));
        buf_fini(&buf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps_what_it_has),
        cmocka_unit_test(numbers_in_network_order),
        cmocka_unit_test(maximum_is_reached_exactly),
        cmocka_unit_test(bad_stays_bad_until_cleared),
        cmocka_unit_test(huge_reserve_does_not_wrap),
        cmocka_unit_test(reserve_counts_nothing),
        cmocka_unit_test(each_failing_allocation_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
