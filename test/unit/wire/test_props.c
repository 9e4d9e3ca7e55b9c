#include "unit.h"

#include "sample.h"

#include "lepus/wire/props.h"

enum { PROPERTY_COUNT = 14, FLAGS_END = 1 << PROPERTY_COUNT };

enum kind { shortstr, table, u8, u64 };

/* The rows again, with a value of each. */
static const struct row {
    enum property property;
    enum kind kind;
    struct view value, other; /* without any length in front */
} rows[PROPERTY_COUNT] = {
#define CONSTANT(literal)                                                                          \
    {                                                                                              \
        (const uint8_t *)(literal), sizeof(literal) - 1                                            \
    }
#define VALUE_shortstr(name) CONSTANT(#name)
#define VALUE_table(name)    CONSTANT("\1kI\0\0\0\7")
#define VALUE_u8(name)       CONSTANT("\2")
#define VALUE_u64(name)      CONSTANT("\1\2\3\4\5\6\7\10")
#define OTHER_shortstr       CONSTANT("another value, rather longer than the first")
#define OTHER_table          CONSTANT("")
#define OTHER_u8             CONSTANT("\1")
#define OTHER_u64            CONSTANT("\0\0\0\0\0\0\0\0")
#define P(name, type, bit)   {PROP_##name, type, VALUE_##type(name), OTHER_##type},
    PROPERTIES(P)
#undef P
};

/* The model: which properties, and where one of them has its other value. */
static void
encode(struct buf *to, unsigned set, int other)
{
    uint16_t flags = 0;

    for (unsigned i = 0; i < PROPERTY_COUNT; i++)
        if (set >> i & 1)
            flags |= (uint16_t)rows[i].property;
    buf_clear(to);
    buf_u16(to, flags);
    for (unsigned i = 0; i < PROPERTY_COUNT; i++) {
        struct view v = (int)i == other ? rows[i].other : rows[i].value;

        if (!(set >> i & 1))
            continue;
        if (rows[i].kind == shortstr)
            buf_u8(to, (uint8_t)v.len);
        else if (rows[i].kind == table)
            buf_u32(to, (uint32_t)v.len);
        buf_append(to, v.at, v.len);
    }
}

static void
any_set_of_properties_is_found(void **state)
{
    struct buf b;
    struct view value;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned set = 0; set < FLAGS_END; set++) {
        encode(&b, set, -1);
        assert_true(props_check(buf_view(&b)));
        for (unsigned i = 0; i < PROPERTY_COUNT; i++) {
            bool is_there = (set >> i & 1) != 0;

            assert_int_equal(props_has(buf_view(&b), rows[i].property), is_there);
            assert_int_equal(props_find(buf_view(&b), rows[i].property, &value), is_there);
            if (is_there)
                assert_true(view_equal(value, rows[i].value));
        }
    }
    buf_fini(&b);
}

static void
any_property_is_set_replaced_and_removed(void **state)
{
    struct buf from, to, want;

    (void)state;
    buf_init(&from, SAMPLE_MAX);
    buf_init(&to, SAMPLE_MAX);
    buf_init(&want, SAMPLE_MAX);
    for (unsigned set = 0; set < FLAGS_END; set++) {
        encode(&from, set, -1);
        for (unsigned i = 0; i < PROPERTY_COUNT; i++) {
            buf_clear(&to);
            props_copy_with(&to, buf_view(&from), rows[i].property, &rows[i].other);
            encode(&want, set | 1u << i, (int)i);
            assert_true(view_equal(buf_view(&to), buf_view(&want)));
            buf_clear(&to);
            props_copy_with(&to, buf_view(&from), rows[i].property, NULL);
            encode(&want, set & ~(1u << i), -1);
            assert_true(view_equal(buf_view(&to), buf_view(&want)));
        }
    }
    buf_fini(&from);
    buf_fini(&to);
    buf_fini(&want);
}

static void
every_truncation_and_one_octet_more_is_refused(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned set = 0; set < FLAGS_END; set++) {
        encode(&b, set, -1);
        for (size_t n = 0; n < b.len; n++)
            assert_false(props_check(view_of(b.at, n)));
        buf_u8(&b, 0);
        assert_false(props_check(buf_view(&b)));
    }
    for (unsigned i = 0; i < PROPERTY_COUNT; i++) { /* where a sanitizer sees the end */
        encode(&b, FLAGS_END - 1, -1);
        for (size_t n = 0; n < b.len; n++) {
            struct view cut = sample_copy(view_of(b.at, n));

            assert_false(props_check(cut));
            sample_free(cut);
        }
    }
    buf_fini(&b);
}

static void
second_flag_word_and_unused_bit_are_refused(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned set = 0; set < FLAGS_END; set++) {
        encode(&b, set, -1);
        b.at[1] |= 1;
        assert_false(props_check(buf_view(&b)));
        b.at[1] |= 2;
        assert_false(props_check(buf_view(&b)));
        b.at[1] &= 0xFE;
        assert_false(props_check(buf_view(&b)));
    }
    assert_false(props_check(VIEW_LIT("\0\1\0\0")));
    assert_false(props_check(VIEW_LIT("\0\2")));
    buf_fini(&b);
}

static void
malformed_headers_are_refused(void **state)
{
    (void)state;
    assert_true(props_check(VIEW_LIT("\x20\0\0\0\0\4\1kt\1")));
    assert_false(props_check(VIEW_LIT("\x20\0\0\0\0\4\1kz\1")));
    assert_false(props_check(VIEW_LIT("\x20\0\0\0\0\4\1kI\1")));
    assert_false(props_check(VIEW_LIT("\x20\0\0\0\0\5\1kt\1")));
    assert_false(props_check(VIEW_LIT("\x20\0\377\377\377\377\1kt\1")));
}

static void
long_string_is_cut(void **state)
{
    uint8_t octets[300];
    struct view value = view_of(octets, sizeof(octets));
    struct buf b;

    (void)state;
    memset(octets, 'u', sizeof(octets));
    buf_init(&b, SAMPLE_MAX);
    props_copy_with(&b, VIEW_LIT("\0\0"), PROP_user_id, &value);
    assert_true(props_check(buf_view(&b)));
    assert_true(props_find(buf_view(&b), PROP_user_id, &value));
    assert_int_equal(value.len, 255);
    buf_fini(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_set_of_properties_is_found),
        cmocka_unit_test(any_property_is_set_replaced_and_removed),
        cmocka_unit_test(every_truncation_and_one_octet_more_is_refused),
        cmocka_unit_test(second_flag_word_and_unused_bit_are_refused),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(long_string_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
