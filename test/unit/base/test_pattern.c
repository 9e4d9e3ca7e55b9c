#include "unit.h"

#include "lepus/base/pattern.h"

static bool
matches(const char *text, struct view subject)
{
    struct err err;
    struct pattern *pattern = pattern_new(view_str(text), &err);
    bool yes;

    assert_non_null(pattern);
    yes = pattern_matches(pattern, subject);
    pattern_free(pattern);
    return yes;
}

static void
is_looked_for_anywhere_unless_anchored(void **state)
{
    (void)state;
    assert_true(matches("b", VIEW_LIT("abc")));
    assert_false(matches("^b", VIEW_LIT("abc")));
    assert_true(matches("^a.*c$", VIEW_LIT("abc")));
    assert_true(matches("", VIEW_LIT("anything")));
    assert_true(matches(".*", view_of(NULL, 0)));
    assert_false(matches(".+", view_of(NULL, 0)));
}

static void
has_what_perl_has(void **state)
{
    (void)state;
    assert_true(matches("^(?!amq\\.).*", VIEW_LIT("orders")));
    assert_false(matches("^(?!amq\\.).*", VIEW_LIT("amq.gen-x")));
    assert_true(matches("^\\d{3}-(a|b)\\b", VIEW_LIT("123-a b")));
    assert_true(matches("(?i)^ORDERS", VIEW_LIT("orders.eu")));
    assert_true(matches("^(a)\\1$", VIEW_LIT("aa")));
}

/* Names are octets. */
static void
subjects_need_not_be_text(void **state)
{
    (void)state;
    assert_true(matches("^a.b$", VIEW_LIT("a\0b")));
    assert_true(matches("^\\xff.$", VIEW_LIT("\xff\xfe")));
    assert_true(matches("^..$", VIEW_LIT("\xc3\xa4"))); /* one letter, two octets */
}

static void
what_is_no_pattern_is_told(void **state)
{
    struct err err;

    (void)state;
    assert_null(pattern_new(VIEW_LIT("a(b"), &err));
    assert_int_equal(err.code, PRECONDITION_FAILED);
    assert_string_equal(err.text, "{\"missing closing parenthesis\",3}");
    assert_null(pattern_new(VIEW_LIT("*a"), &err));
    assert_string_equal(err.text, "{\"quantifier does not follow a repeatable item\",0}");
}

static void
endless_attempts_are_given_up(void **state)
{
    (void)state;
    assert_false(
        matches("^(a+)+$", VIEW_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_looked_for_anywhere_unless_anchored),
        cmocka_unit_test(has_what_perl_has),
        cmocka_unit_test(subjects_need_not_be_text),
        cmocka_unit_test(what_is_no_pattern_is_told),
        cmocka_unit_test(endless_attempts_are_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
