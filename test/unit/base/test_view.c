#include "unit.h"

#include "lepus/base/mem.h"
#include "lepus/base/view.h"

static void
equality_is_of_bytes(void **state)
{
    (void)state;
    assert_true(view_equal(VIEW_LIT("abc"), view_str("abc")));
    assert_false(view_equal(VIEW_LIT("abc"), VIEW_LIT("abd")));
    assert_false(view_equal(VIEW_LIT("abc"), VIEW_LIT("ab")));
    assert_true(view_equal(VIEW_LIT("a\0b"), VIEW_LIT("a\0b")));
    assert_false(view_equal(VIEW_LIT("a\0b"), VIEW_LIT("a\0c")));
    assert_true(view_equal(view_of(NULL, 0), VIEW_LIT("")));
}

static void
prefixes(void **state)
{
    (void)state;
    assert_true(view_has_prefix(VIEW_LIT("amq.direct"), VIEW_LIT("amq.")));
    assert_true(view_has_prefix(VIEW_LIT("amq."), VIEW_LIT("amq.")));
    assert_false(view_has_prefix(VIEW_LIT("amq"), VIEW_LIT("amq.")));
    assert_false(view_has_prefix(VIEW_LIT("amb.x"), VIEW_LIT("amq.")));
    assert_true(view_has_prefix(VIEW_LIT("x"), view_of(NULL, 0)));
    assert_true(view_has_prefix(view_of(NULL, 0), view_of(NULL, 0)));
}

static void
hash_follows_the_bytes(void **state)
{
    char here[] = "routing.key", there[] = "routing.key";

    (void)state;
    assert_true(view_hash(view_str(here)) == view_hash(view_str(there)));
    there[0] = 'R';
    assert_false(view_hash(view_str(here)) == view_hash(view_str(there)));
    assert_true(view_hash(view_of(NULL, 0)) == view_hash(VIEW_LIT("")));
}

static void
dup_ends_with_nul(void **state)
{
    char *copy = view_dup(view_of("abcdef", 3)), *empty = view_dup(view_of(NULL, 0));

    (void)state;
    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
    free(copy);
    free(empty);
}

/* The code point at p with n octets left, as the definition has it: decode loosely, then ask
 * whether that many octets are what the code point takes. */
static size_t
slow_size(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = p[0] < 0x80       ? 1
                  : p[0] >> 5 == 6  ? 2
                  : p[0] >> 4 == 14 ? 3
                  : p[0] >> 3 == 30 ? 4
                                    : 0;
    uint32_t point;

    if (size == 0 || size > n)
        return 0;
    point = size == 1 ? p[0] : p[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        point = point << 6 | (p[i] & 0x3Fu);
    }
    return point < least[size] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) ? 0
                                                                                          : size;
}

static bool
slow_is_utf8(struct view v)
{
    for (size_t i = 0, n; i < v.len; i += n) {
        n = slow_size(v.at + i, v.len - i);
        if (n == 0)
            return false;
    }
    return true;
}

static void
utf8_of_up_to_three_octets(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 1 << 24; v++) {
        uint8_t octets[] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

        if (view_is_utf8(view_of(octets, 3)) != slow_is_utf8(view_of(octets, 3)))
            fail_msg("%06x", v);
    }
    for (unsigned v = 0; v < 1 << 16; v++) {
        uint8_t octets[] = {(uint8_t)(v >> 8), (uint8_t)v};

        assert_int_equal(view_is_utf8(view_of(octets, 2)), slow_is_utf8(view_of(octets, 2)));
        assert_int_equal(view_is_utf8(view_of(octets, 1)), slow_is_utf8(view_of(octets, 1)));
    }
    assert_true(view_is_utf8(view_of(NULL, 0)));
}

static void
utf8_of_four_octets(void **state)
{
    static const uint8_t edges[] = {0, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};

    (void)state;
    for (unsigned lead = 0xE0; lead <= 0xFF; lead++) {
        for (unsigned second = 0; second <= 0xFF; second++) {
            for (size_t i = 0; i < sizeof(edges) * sizeof(edges); i++) {
                uint8_t octets[] = {(uint8_t)lead, (uint8_t)second, edges[i / sizeof(edges)],
                                    edges[i % sizeof(edges)]};

                assert_int_equal(view_is_utf8(view_of(octets, 4)),
                                 slow_is_utf8(view_of(octets, 4)));
            }
        }
    }
}

/* The eight octets that are looked at together: a bad one is seen at any place. */
static void
utf8_in_long_strings(void **state)
{
    char text[40];

    (void)state;
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = (char)0x80;
        assert_false(view_is_utf8(view_of(text, sizeof(text))));
        if (at + 1 == sizeof(text))
            break;
        text[at] = (char)0xC3;
        assert_false(view_is_utf8(view_of(text, at + 1)));
        text[at + 1] = (char)0xA9;
        assert_true(view_is_utf8(view_of(text, sizeof(text))));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_is_of_bytes),       cmocka_unit_test(prefixes),
        cmocka_unit_test(hash_follows_the_bytes),     cmocka_unit_test(dup_ends_with_nul),
        cmocka_unit_test(utf8_of_up_to_three_octets), cmocka_unit_test(utf8_of_four_octets),
        cmocka_unit_test(utf8_in_long_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
