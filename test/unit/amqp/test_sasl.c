#include "unit.h"

#include "amqp_priv.h"

#include "lepus/wire/table.h"

typedef bool parse_fn(struct view response, struct view *out_user, struct view *out_password);

/* On memory of exactly its size, so that a look behind it is seen. */
static bool
parse(parse_fn *fn, struct view response, char *out)
{
    uint8_t *copy = malloc(response.len > 0 ? response.len : 1);
    struct view user = {0}, password = {0};
    bool ok;

    if (response.len > 0)
        memcpy(copy, response.at, response.len);
    ok = fn(view_of(copy, response.len), &user, &password);
    if (ok)
        snprintf(out, 64, VIEW_FMT "|" VIEW_FMT, VIEW_ARG(user), VIEW_ARG(password));
    free(copy);
    return ok;
}

#define assert_parses(fn, response, wanted)                                                        \
    do {                                                                                           \
        char out_[64];                                                                             \
        assert_true(parse(fn, response, out_));                                                    \
        assert_string_equal(out_, wanted);                                                         \
    } while (0)

#define assert_malformed(fn, response)                                                             \
    do {                                                                                           \
        char out_[64];                                                                             \
        assert_false(parse(fn, response, out_));                                                   \
    } while (0)

static void
plain_is_three_strings(void **state)
{
    (void)state;
    assert_parses(sasl_plain, VIEW_LIT("\0guest\0secret"), "guest|secret");
    assert_parses(sasl_plain, VIEW_LIT("somebody\0guest\0secret"), "guest|secret");
    assert_parses(sasl_plain, VIEW_LIT("\0guest\0"), "guest|");
    assert_parses(sasl_plain, VIEW_LIT("\0\0secret"), "|secret");
    assert_parses(sasl_plain, VIEW_LIT("\0\0"), "|");
    assert_parses(sasl_plain, VIEW_LIT("\0g\xC3\xBCst\0s e|c"), "g\xC3\xBCst|s e|c");
}

static void
plain_without_its_two_nuls_is_malformed(void **state)
{
    (void)state;
    assert_malformed(sasl_plain, view_of(NULL, 0));
    assert_malformed(sasl_plain, VIEW_LIT("\0"));
    assert_malformed(sasl_plain, VIEW_LIT("guest"));
    assert_malformed(sasl_plain, VIEW_LIT("\0guest"));
    assert_malformed(sasl_plain, VIEW_LIT("guest\0secret"));
    assert_malformed(sasl_plain, VIEW_LIT("\0guest\0secret\0"));
    assert_malformed(sasl_plain, VIEW_LIT("\0guest\0sec\0ret"));
    assert_malformed(sasl_plain, VIEW_LIT("\0\0\0"));
}

/* --- AMQPLAIN ---------------------------------------------------------------------------- */

static struct view
login(struct buf *to, const char *user, const char *password)
{
    buf_clear(to);
    if (user != NULL)
        table_put_longstr(to, VIEW_LIT("LOGIN"), view_str(user));
    if (password != NULL)
        table_put_longstr(to, VIEW_LIT("PASSWORD"), view_str(password));
    return buf_view(to);
}

static void
amqplain_is_a_table_with_two_strings(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 16);
    assert_parses(sasl_amqplain, login(&b, "guest", "secret"), "guest|secret");
    assert_parses(sasl_amqplain, login(&b, "", ""), "|");

    buf_clear(&b); /* any order, and others between them */
    table_put_longstr(&b, VIEW_LIT("PASSWORD"), VIEW_LIT("secret"));
    table_put_bool(&b, VIEW_LIT("more"), true);
    table_put_longstr(&b, VIEW_LIT("LOGIN"), VIEW_LIT("guest"));
    assert_parses(sasl_amqplain, buf_view(&b), "guest|secret");
    buf_fini(&b);
}

static void
amqplain_without_one_of_them_is_malformed(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 16);
    assert_malformed(sasl_amqplain, view_of(NULL, 0));
    assert_malformed(sasl_amqplain, login(&b, "guest", NULL));
    assert_malformed(sasl_amqplain, login(&b, NULL, "secret"));
    buf_clear(&b); /* names are told apart by case */
    table_put_longstr(&b, VIEW_LIT("login"), VIEW_LIT("guest"));
    table_put_longstr(&b, VIEW_LIT("PASSWORD"), VIEW_LIT("secret"));
    assert_malformed(sasl_amqplain, buf_view(&b));
    buf_fini(&b);
}

static void
amqplain_of_other_types_is_malformed(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < 2; i++) {
        buf_clear(&b);
        if (i == 0)
            table_put_longstr(&b, VIEW_LIT("LOGIN"), VIEW_LIT("guest"));
        else
            table_put_i32(&b, VIEW_LIT("LOGIN"), 1);
        if (i == 1)
            table_put_longstr(&b, VIEW_LIT("PASSWORD"), VIEW_LIT("secret"));
        else
            table_put_bool(&b, VIEW_LIT("PASSWORD"), true);
        assert_malformed(sasl_amqplain, buf_view(&b));
    }
    buf_fini(&b);
}

/* Cut short anywhere, or with its length in front as a table elsewhere has it. */
static void
amqplain_that_is_no_table_is_malformed(void **state)
{
    struct buf b, with_length;
    struct view whole;

    (void)state;
    buf_init(&b, 1 << 16);
    buf_init(&with_length, 1 << 16);
    whole = login(&b, "guest", "secret");
    for (size_t n = 0; n < whole.len; n++)
        assert_malformed(sasl_amqplain, view_of(whole.at, n));
    buf_u32(&with_length, (uint32_t)whole.len);
    buf_append(&with_length, whole.at, whole.len);
    assert_malformed(sasl_amqplain, buf_view(&with_length));
    buf_u8(&b, 0); /* an octet behind the last field */
    assert_malformed(sasl_amqplain, buf_view(&b));
    buf_fini(&b);
    buf_fini(&with_length);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_is_three_strings),
        cmocka_unit_test(plain_without_its_two_nuls_is_malformed),
        cmocka_unit_test(amqplain_is_a_table_with_two_strings),
        cmocka_unit_test(amqplain_without_one_of_them_is_malformed),
        cmocka_unit_test(amqplain_of_other_types_is_malformed),
        cmocka_unit_test(amqplain_that_is_no_table_is_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
