#include "unit.h"

#include "lepus/auth/password.h"

/* Made by others: RabbitMQ's documentation, Python's hashlib. The password is test12. */
static const struct {
    const char *algorithm, *hash;
} known[] = {
    {PASSWORD_SHA256, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"},
    {"rabbit_password_hashing_sha512", "kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/"
                                       "XGJPYD8OWMy7EB8TaOmAzjP2azv84GbINYwX2cDWb4DHnc="},
    {"rabbit_password_hashing_md5", "kI3GChNpte2FApYFXScl+0dIluk="},
    {PASSWORD_SCRYPT, "CggBAAECAwQFBgcICQoLDA0OD0bNcgpFhddy7a+kZ7YDG26wdOENIQhs9uDrwJIzNm3g"},
};

static bool
is_right(size_t i, const char *hash, const char *password)
{
    return password_is_right(view_str(known[i].algorithm), view_str(hash), view_str(password));
}

static void
what_others_have_hashed_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        assert_true(password_is_known(view_str(known[i].algorithm)));
        assert_true(password_is_hash(view_str(known[i].algorithm), view_str(known[i].hash)));
        assert_true(is_right(i, known[i].hash, "test12"));
        assert_false(is_right(i, known[i].hash, "test13"));
        assert_false(is_right(i, known[i].hash, "test1"));
        assert_false(is_right(i, known[i].hash, "test122"));
    }
}

static void
every_turned_bit_of_a_hash_makes_it_wrong(void **state)
{
    char hash[256];

    (void)state;
    for (size_t i = 0; i + 1 < COUNT_OF(known); i++) { /* scrypt's first octets are its price */
        size_t len = strlen(known[i].hash);

        for (size_t at = 0; at < len; at++) {
            snprintf(hash, sizeof(hash), "%s", known[i].hash);
            if (hash[at] == '=')
                continue;
            hash[at] = hash[at] == 'A' ? 'Q' : 'A';
            if (strcmp(hash, known[i].hash) != 0)
                assert_false(is_right(i, hash, "test12"));
        }
    }
}

static void
an_empty_password_is_never_right(void **state)
{
    char hash[PASSWORD_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        assert_true(password_make(known[i].algorithm, VIEW_LIT(""), hash));
        assert_false(is_right(i, hash, ""));
    }
    assert_false(is_right(0, "", ""));
    assert_false(is_right(0, "", "x"));
}

static void
what_is_hashed_here_is_right_and_salted(void **state)
{
    char one[PASSWORD_TEXT_MAX], other[PASSWORD_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        assert_true(password_make(known[i].algorithm, VIEW_LIT("p\0q"), one));
        assert_true(password_make(known[i].algorithm, VIEW_LIT("p\0q"), other));
        assert_string_not_equal(one, other);
        assert_true(password_is_hash(view_str(known[i].algorithm), view_str(one)));
        assert_true(
            password_is_right(view_str(known[i].algorithm), view_str(one), VIEW_LIT("p\0q")));
        assert_false(is_right(i, one, "p"));
    }
    assert_false(password_make("rot13", VIEW_LIT("x"), one));
}

static void
what_is_no_hash_is_none(void **state)
{
    static const char *const bad[] = {
        "x",
        "====",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PO=",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PORAAAA",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2P*R",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        for (size_t j = 0; j < COUNT_OF(known); j++) {
            assert_false(password_is_hash(view_str(known[j].algorithm), view_str(bad[i])));
            assert_false(is_right(j, bad[i], "test12"));
        }
    assert_true(password_is_hash(VIEW_LIT(PASSWORD_SHA256), VIEW_LIT("")));
    assert_false(password_is_hash(VIEW_LIT("rot13"), VIEW_LIT("")));
    assert_false(password_is_right(VIEW_LIT("rot13"), view_str(known[0].hash), VIEW_LIT("test12")));
}

/* log2 N 63, r 255, p 255: nobody makes us spend that. */
static void
a_hash_cannot_ask_for_the_world(void **state)
{
    static const char *const greedy[] = {
        "P///AAECAwQFBgcICQoLDA0OD0bNcgpFhddy7a+kZ7YDG26wdOENIQhs9uDrwJIzNm3g",
        "AAAAAAECAwQFBgcICQoLDA0OD0bNcgpFhddy7a+kZ7YDG26wdOENIQhs9uDrwJIzNm3g",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(greedy); i++)
        assert_false(is_right(3, greedy[i], "test12"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_have_hashed_is_known),
        cmocka_unit_test(every_turned_bit_of_a_hash_makes_it_wrong),
        cmocka_unit_test(an_empty_password_is_never_right),
        cmocka_unit_test(what_is_hashed_here_is_right_and_salted),
        cmocka_unit_test(what_is_no_hash_is_none),
        cmocka_unit_test(a_hash_cannot_ask_for_the_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
