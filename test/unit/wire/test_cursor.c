#include "unit.h"

#include "lepus/wire/cursor.h"

static void
reads_network_order(void **state)
{
    static const uint8_t octets[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 'x'};
    struct cursor r = cursor_of(view_of(octets, sizeof(octets)));

    (void)state;
    assert_int_equal(rd_u8(&r), 1);
    assert_int_equal(rd_u16(&r), 0x0203);
    assert_int_equal(rd_u32(&r), 0x04050607);
    assert_int_equal(rd_u64(&r), 0x08090a0b0c0d0e0f);
    assert_true(view_equal(rd_shortstr(&r), VIEW_LIT("x")));
    assert_int_equal(r.left, 0);
    assert_false(r.bad);
}

static void
writes_what_it_reads(void **state)
{
    uint8_t room[8];

    (void)state;
    assert_ptr_equal(be_put_u16(room, 0xFEDC), room + 2);
    assert_int_equal(be_u16(room), 0xFEDC);
    assert_ptr_equal(be_put_u32(room, 0xFEDCBA98), room + 4);
    assert_int_equal(be_u32(room), 0xFEDCBA98);
    assert_ptr_equal(be_put_u64(room, 0xFEDCBA9876543210), room + 8);
    assert_true(be_u64(room) == 0xFEDCBA9876543210);
    assert_int_equal(room[0], 0xFE);
}

static void
stays_bad_and_gives_zero(void **state)
{
    static const uint8_t octets[] = {9, 9, 9};
    struct cursor r = cursor_of(view_of(octets, sizeof(octets)));

    (void)state;
    assert_int_equal(rd_u32(&r), 0);
    assert_true(r.bad);
    assert_int_equal(rd_u8(&r), 0);
    assert_int_equal(rd_u16(&r), 0);
    assert_int_equal(rd_u64(&r), 0);
    assert_int_equal(rd_shortstr(&r).len, 0);
    assert_null(rd_octets(&r, 1));
    assert_true(r.bad);
}

static void
compares_lengths_with_what_is_left(void **state)
{
    static const uint8_t longstr[] = {0xFF, 0xFF, 0xFF, 0xFF, 'a'};
    static const uint8_t shortstr[] = {2, 'a'};
    struct cursor r = cursor_of(view_of(longstr, sizeof(longstr)));

    (void)state;
    assert_int_equal(rd_longstr(&r).len, 0);
    assert_true(r.bad);
    r = cursor_of(view_of(shortstr, sizeof(shortstr)));
    assert_int_equal(rd_shortstr(&r).len, 0);
    assert_true(r.bad);
    r = cursor_of(view_of(shortstr, sizeof(shortstr)));
    assert_null(rd_octets(&r, SIZE_MAX));
}

static void
empty_view_may_have_no_address(void **state)
{
    struct cursor r = cursor_of(view_of(NULL, 0));

    (void)state;
    assert_int_equal(rd_view(&r, 0).len, 0);
    assert_false(r.bad);
    assert_int_equal(rd_u8(&r), 0);
    assert_true(r.bad);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_network_order),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(stays_bad_and_gives_zero),
        cmocka_unit_test(compares_lengths_with_what_is_left),
        cmocka_unit_test(empty_view_may_have_no_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
