#include "unit.h"

#include "rule_priv.h"

static bool
matches(const char *text, struct view name, const struct rule_words *words)
{
    struct rule rule = {0};
    struct err err;
    bool is_match;

    if (!rule_init(&rule, view_str(text), &err))
        fail_msg("%s: %s", text, err.text);
    is_match =
        words != NULL ? rule_matches_expanded(&rule, words, name) : rule_matches(&rule, name);
    rule_fini(&rule);
    return is_match;
}

static void
names_match_as_with_rabbitmq(void **state)
{
    static const struct {
        const char *rule, *name;
        bool is_match;
    } rows[] = {
        {".*", "anything", true},
        {".*", "", true},
        {"", "", true},
        {"", "a", false},
        {"^$", "a", false},
        {"b", "abc", true},
        {"^b", "abc", false},
        {"^a.*c$", "abc", true},
        {"^(a|b)\\.", "b.c", true},
        {"^(a|b)\\.", "bxc", false},
        {"^amq\\.default$", "amq.default", true},
        {"(?i)^ABC$", "abc", true},
        {"^(?!amq\\.).*", "amq.x", false},
        {"^(?!amq\\.).*", "x", true},
        {"^a$", "a\n", true}, /* as Perl has it */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (matches(rows[i].rule, view_str(rows[i].name), NULL) != rows[i].is_match)
            fail_msg("'%s' and '%s'", rows[i].rule, rows[i].name);
    assert_true(matches("^a\\x00b$", VIEW_LIT("a\0b"), NULL));
    assert_false(matches("^a$", VIEW_LIT("a\0b"), NULL));
}

static void
words_stand_for_themselves(void **state)
{
    static const struct {
        const char *rule, *name;
        bool is_match;
    } rows[] = {
        {"^{username}\\.", "a.b*.x", true},
        {"^{username}\\.", "aXb*.x", false},
        {"^{username}\\.", "{username}.x", false},
        {"^{vhost}-{username}$", "/v-a.b*", true},
        {"^{vhost}$", "/v", true},
        {"^{client_id}$", "{client_id}", true},
        {"^x{2}$", "xx", true},
    };
    const struct rule_words words = {VIEW_LIT("a.b*"), VIEW_LIT("/v")};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (matches(rows[i].rule, view_str(rows[i].name), &words) != rows[i].is_match)
            fail_msg("'%s' and '%s'", rows[i].rule, rows[i].name);
}

static void
what_is_no_expression_is_told(void **state)
{
    struct rule rule = {0};
    struct err err = {0};

    (void)state;
    assert_false(rule_init(&rule, VIEW_LIT("a("), &err));
    assert_int_equal(err.code, PRECONDITION_FAILED);
    assert_non_null(strstr(err.text, "'a('"));
    assert_null(rule.text);
    assert_false(rule_matches(&rule, VIEW_LIT("a")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_match_as_with_rabbitmq),
        cmocka_unit_test(words_stand_for_themselves),
        cmocka_unit_test(what_is_no_expression_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
