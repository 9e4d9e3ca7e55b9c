#include "unit.h"

#include "lepus/base/err.h"

static void
set_fills_and_returns_false(void **state)
{
    struct err err = {.class_id = 50, .method_id = 10};

    (void)state;
    assert_false(err_set(&err, NOT_FOUND, "no queue '%s' in vhost '%s'", "q", "/"));
    assert_int_equal(err.code, 404);
    assert_string_equal(err.text, "no queue 'q' in vhost '/'");
    assert_int_equal(err.class_id, 50); /* whoever knows the method has said so */
    assert_int_equal(err.method_id, 10);
}

static void
long_text_is_cut(void **state)
{
    char text[400];
    struct err err = {0};

    (void)state;
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set(&err, INTERNAL_ERROR, "%s", text);
    assert_int_equal(strlen(err.text), 255);
}

static void
wrap_puts_context_in_front(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, INTERNAL_ERROR, "disk full");
    assert_false(err_wrap(&err, "recover segment %u", 7));
    assert_int_equal(err.code, INTERNAL_ERROR);
    assert_string_equal(err.text, "recover segment 7: disk full");
}

/* Of any two lengths the result is "context: text", cut at 255, and never without its NUL. */
static void
wrap_of_any_length_fits(void **state)
{
    char context[300], text[300], whole[700];

    (void)state;
    for (size_t c = 0; c < sizeof(context); c++) {
        for (size_t t = 0; t < 256; t += 15) {
            struct err err = {0};

            memset(context, 'c', c);
            context[c] = '\0';
            memset(text, 't', t);
            text[t] = '\0';
            err_set(&err, INTERNAL_ERROR, "%s", text);
            err_wrap(&err, "%s", context);
            snprintf(whole, sizeof(whole), "%s: %s", context, text);
            assert_non_null(memchr(err.text, '\0', sizeof(err.text)));
            assert_true(strlen(err.text) >= (strlen(whole) < 253 ? strlen(whole) : 253));
            assert_memory_equal(err.text, whole, strlen(err.text));
        }
    }
}

static void
rows_say_name_and_scope(void **state)
{
    (void)state;
    assert_string_equal(reply_code_name(404), "NOT_FOUND");
    assert_string_equal(reply_code_name(541), "INTERNAL_ERROR");
    assert_string_equal(reply_code_name(999), "UNKNOWN");
    assert_string_equal(reply_code_name(0), "UNKNOWN");
    assert_false(reply_code_is_hard(NOT_FOUND));
    assert_false(reply_code_is_hard(PRECONDITION_FAILED));
    assert_true(reply_code_is_hard(FRAME_ERROR));
    assert_true(reply_code_is_hard(NOT_ALLOWED));
    assert_true(reply_code_is_hard(999)); /* what nobody knows ends the connection */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_and_returns_false), cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(wrap_puts_context_in_front),  cmocka_unit_test(wrap_of_any_length_fits),
        cmocka_unit_test(rows_say_name_and_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
