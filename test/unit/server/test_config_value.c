#include "unit.h"

#include "config_priv.h"

/* A member of each width that a type may have. */
struct values {
    char text[9];
    bool flag;
    uint32_t n32;
    uint64_t n64;
    struct address_list addresses;
    struct sync_policy sync;
    struct disk_share share;
};

#define AT(member)                                                                                 \
    .offset = offsetof(struct values, member), .size = sizeof(((struct values *)0)->member)

/* clang-format off */
static const struct config_key
    text = {.type = KEY_STRING, AT(text), .min = 1, .max = 8},
    path = {.type = KEY_PATH, AT(text), .min = 0, .max = 8},
    secret = {.type = KEY_STRING, AT(text), .min = 1, .max = 8, .flags = CONFIG_SECRET},
    flag = {.type = KEY_BOOL, AT(flag)},
    integer = {.type = KEY_INTEGER, AT(n32), .min = 3, .max = 70000},
    huge = {.type = KEY_INTEGER, AT(n64), .min = 0, .max = UINT64_MAX},
    seconds = {.type = KEY_SECONDS, AT(n32), .min = 0, .max = 65535},
    ms = {.type = KEY_MILLISECONDS, AT(n64), .min = 100, .max = 7200000},
    size = {.type = KEY_SIZE, AT(n64), .min = 1024, .max = UINT64_C(1) << 42},
    size_or_0 = {.type = KEY_SIZE, AT(n32), .min = 4096, .max = INT32_MAX, .flags = CONFIG_ZERO_TOO},
    choice = {.type = KEY_CHOICE, AT(n32), .choices = "red|green|blue"},
    addresses = {.type = KEY_ADDRESSES, AT(addresses)},
    sync = {.type = KEY_SYNC, AT(sync), .min = 1, .max = 86400000},
    share = {.type = KEY_DISK_SHARE, AT(share)};
/* clang-format on */

static void
assert_good(const struct config_key *key, struct values *values, const char *value)
{
    struct err err = {0};

    memset(values, 0, sizeof(*values));
    if (!config_value_set(key, values, value, &err))
        fail_msg("'%s': %s", value, err.text);
}

/* Refused, with nothing written. */
static void
assert_bad(const struct config_key *key, const char *value)
{
    struct values before, after;
    struct err err = {0};

    memset(&before, 0x5a, sizeof(before));
    after = before;
    if (config_value_set(key, &after, value, &err))
        fail_msg("'%s' was taken", value);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_not_equal(err.code, 0);
}

static void
numbers_are_digits_within_bounds(void **state)
{
    static const char *const bad[] = {"",     "2",   "70001", "-3",         "+3",
                                      "0x10", " 5",  "5 ",    "5.0",        "1e3",
                                      "k",    "10k", "5\n",   "4294967299", "18446744073709551619"};
    struct values v;

    (void)state;
    assert_good(&integer, &v, "3");
    assert_int_equal(v.n32, 3);
    assert_good(&integer, &v, "70000");
    assert_int_equal(v.n32, 70000);
    assert_good(&integer, &v, "0005");
    assert_int_equal(v.n32, 5);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&integer, bad[i]);
    assert_good(&huge, &v, "18446744073709551615");
    assert_true(v.n64 == UINT64_MAX);
    assert_bad(&huge, "18446744073709551616");
}

static void
durations_have_units_and_a_bare_number_is_in_the_keys_own(void **state)
{
    static const char *const bad[] = {"",      "s",     "60x",    "60 s s", "1d",
                                      "65536", "500ms", "1500ms", "18h13m", "5124095576030432h",
                                      "-1",    "1.5s",  "60S"};
    static const struct {
        const char *value;
        uint64_t seconds, ms;
    } good[] = {
        {"200", 200, 200},     {"200s", 200, 200000}, {"3m", 180, 180000},
        {"2h", 7200, 7200000}, {"5000ms", 5, 5000},   {"5 s", 5, 5000},
    };
    struct values v;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_good(&seconds, &v, good[i].value);
        assert_int_equal(v.n32, good[i].seconds);
        assert_good(&ms, &v, good[i].value);
        assert_int_equal(v.n64, good[i].ms);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&seconds, bad[i]);
    assert_good(&seconds, &v, "0");
    assert_good(&seconds, &v, "65535s");
    assert_int_equal(v.n32, 65535);
    assert_bad(&ms, "99");
    assert_bad(&ms, "7201s");
}

static void
sizes_have_binary_and_decimal_units(void **state)
{
    static const struct {
        const char *value;
        uint64_t bytes;
    } good[] = {
        {"1024", 1024},          {"2000B", 2000},        {"1k", 1024},        {"1K", 1024},
        {"1KiB", 1024},          {"1kiB", 1024},         {"2kB", 2000},       {"2KB", 2000},
        {"1M", 1048576},         {"1MiB", 1048576},      {"1MB", 1000000},    {"1 MB", 1000000},
        {"1G", 1073741824},      {"1GiB", 1073741824},   {"1GB", 1000000000}, {"1T", 1099511627776},
        {"4TiB", 4398046511104}, {"1TB", 1000000000000},
    };
    static const char *const bad[] = {
        "",    "1",      "1023",  "5TiB",        "MiB", "1m",     "1mb",
        "1Mi", "1 M iB", "1MiBs", "16777216TiB", "-1M", "1.5GiB", "18446744073709551615k"};
    struct values v;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_good(&size, &v, good[i].value);
        assert_int_equal(v.n64, good[i].bytes);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&size, bad[i]);
}

static void
zero_may_stand_below_the_minimum(void **state)
{
    struct values v;

    (void)state;
    assert_good(&size_or_0, &v, "0");
    assert_int_equal(v.n32, 0);
    assert_good(&size_or_0, &v, "4096");
    assert_good(&size_or_0, &v, "2147483647");
    assert_bad(&size_or_0, "1");
    assert_bad(&size_or_0, "4095");
    assert_bad(&size_or_0, "2GiB");
    assert_bad(&size, "0");
}

static void
text_is_utf8_of_bounded_length_without_control_bytes(void **state)
{
    struct values v;

    (void)state;
    assert_good(&text, &v, "caf\xc3\xa9 x");
    assert_string_equal(v.text, "caf\xc3\xa9 x");
    assert_good(&text, &v, "12345678");
    assert_string_equal(v.text, "12345678");
    assert_bad(&text, "123456789");
    assert_bad(&text, "");
    assert_bad(&text, "a\tb");
    assert_bad(&text, "a\x7f");
    assert_bad(&text, "a\xff");
    assert_bad(&text, "\xed\xa0\x80");
    assert_good(&path, &v, "");
    assert_good(&path, &v, "./var");
}

/* So that two configurations can be compared byte by byte. */
static void
shorter_text_leaves_nothing_of_longer(void **state)
{
    struct values a = {0}, b = {0};
    struct err err;

    (void)state;
    assert_true(config_value_set(&text, &a, "12345678", &err));
    assert_true(config_value_set(&text, &a, "1", &err));
    assert_true(config_value_set(&text, &b, "1", &err));
    assert_memory_equal(&a, &b, sizeof(a));
    assert_true(config_value_set(&addresses, &a, "a:1,b:2,c:3", &err));
    assert_true(config_value_set(&addresses, &a, "a:1", &err));
    assert_true(config_value_set(&addresses, &b, "a:1", &err));
    assert_memory_equal(&a, &b, sizeof(a));
    assert_true(config_value_set(&share, &a, "5GiB", &err));
    assert_true(config_value_set(&share, &a, "5%", &err));
    assert_true(config_value_set(&share, &b, "5%", &err));
    assert_memory_equal(&a, &b, sizeof(a));
}

static void
bools_are_words(void **state)
{
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                "off", "0"};
    struct values v;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        assert_good(&flag, &v, yes[i]);
        assert_true(v.flag);
        assert_good(&flag, &v, no[i]);
        assert_false(v.flag);
    }
    assert_bad(&flag, "");
    assert_bad(&flag, "Yes");
    assert_bad(&flag, "2");
    assert_bad(&flag, "y");
}

static void
choices_are_whole_words_in_their_enums_order(void **state)
{
    struct values v;

    (void)state;
    assert_good(&choice, &v, "red");
    assert_int_equal(v.n32, 0);
    assert_good(&choice, &v, "green");
    assert_int_equal(v.n32, 1);
    assert_good(&choice, &v, "blue");
    assert_int_equal(v.n32, 2);
    assert_bad(&choice, "");
    assert_bad(&choice, "gree");
    assert_bad(&choice, "bluer");
    assert_bad(&choice, "red|green");
    assert_bad(&choice, "Red");
}

static void
assert_address(const struct address *address, const char *host, unsigned port)
{
    assert_string_equal(address->host, host);
    assert_int_equal(address->port, port);
}

static void
addresses_are_host_and_port(void **state)
{
    struct values v;

    (void)state;
    assert_good(&addresses, &v, "");
    assert_int_equal(v.addresses.count, 0);
    assert_good(&addresses, &v, "127.0.0.1:5672");
    assert_int_equal(v.addresses.count, 1);
    assert_address(&v.addresses.at[0], "127.0.0.1", 5672);
    assert_good(&addresses, &v, "[::1]:5672, my-host.example_x:0 ,\t[fe80::1%eth0]:65535");
    assert_int_equal(v.addresses.count, 3);
    assert_address(&v.addresses.at[0], "::1", 5672);
    assert_address(&v.addresses.at[1], "my-host.example_x", 0);
    assert_address(&v.addresses.at[2], "fe80::1%eth0", 65535);
}

static void
addresses_that_are_not_are_refused(void **state)
{
    static const char *const bad[] = {
        "localhost",
        "5672",
        ":5672",
        "a:",
        "a:65536",
        "a:-1",
        "a:+1",
        "::1:5672",
        "[::1]",
        "[::1]:",
        "[::1]5672",
        "[::1:5672",
        "[]:1",
        "[a]:1",
        "[::1%]:1",
        "[::1%a b]:1",
        "[1.2.3.4]:1",
        "a b:1",
        "a:1 2",
        "a:1,",
        ",a:1",
        "a:1,,b:1",
        ",",
        "a:1;b:1",
        "a:1x",
        "*:1",
        "a/b:1",
        "[",
        "a:99999999999999999999",
    };
    char many[256] = "", host[400];
    struct values v;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&addresses, bad[i]);
    for (size_t i = 0; i < CONFIG_ADDRESSES_MAX; i++)
        snprintf(many + strlen(many), sizeof(many) - strlen(many), "%sa:1", i > 0 ? "," : "");
    assert_good(&addresses, &v, many);
    assert_int_equal(v.addresses.count, CONFIG_ADDRESSES_MAX);
    snprintf(many + strlen(many), sizeof(many) - strlen(many), ",a:1");
    assert_bad(&addresses, many);
    memset(host, 'h', 256);
    snprintf(host + 255, sizeof(host) - 255, ":1");
    assert_good(&addresses, &v, host);
    memset(host, 'h', 256);
    snprintf(host + 256, sizeof(host) - 256, ":1");
    assert_bad(&addresses, host);
}

static void
sync_is_always_never_or_an_interval(void **state)
{
    static const char *const bad[] = {
        "",           "interval",  "interval:", "interval:0", "interval:0ms", "interval:25h",
        "interval:x", "sometimes", "alwaysx"};
    struct values v;

    (void)state;
    assert_good(&sync, &v, "always");
    assert_int_equal(v.sync.mode, SYNC_ALWAYS);
    assert_good(&sync, &v, "never");
    assert_int_equal(v.sync.mode, SYNC_NEVER);
    assert_good(&sync, &v, "interval:200");
    assert_int_equal(v.sync.mode, SYNC_INTERVAL);
    assert_int_equal(v.sync.interval_ms, 200);
    assert_good(&sync, &v, "interval:2s");
    assert_int_equal(v.sync.interval_ms, 2000);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&sync, bad[i]);
}

static void
disk_share_is_bytes_or_percent(void **state)
{
    static const char *const bad[] = {"", "%", "101%", "5.5%", "-1", "1%%", "5 percent"};
    struct values v;

    (void)state;
    assert_good(&share, &v, "50MB");
    assert_true(v.share.bytes == 50000000 && v.share.percent == 0);
    assert_good(&share, &v, "0");
    assert_true(v.share.bytes == 0 && v.share.percent == 0);
    assert_good(&share, &v, "100%");
    assert_true(v.share.bytes == 0 && v.share.percent == 100);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_bad(&share, bad[i]);
}

static void
errors_say_what_was_expected_and_what_was_found(void **state)
{
    static const struct {
        const struct config_key *key;
        const char *value, *text;
    } cases[] = {
        {&text, "123456789", "expected text of 1 to 8 bytes, found '123456789'"},
        {&path, "123456789", "expected a path of 0 to 8 bytes, found '123456789'"},
        {&secret, "123456789", "expected text of 1 to 8 bytes, found 9 bytes"},
        {&flag, "maybe", "expected yes or no, found 'maybe'"},
        {&integer, "2", "expected a whole number from 3 to 70000, found '2'"},
        {&seconds, "x", "expected a duration in whole seconds from 0s to 65535s, found 'x'"},
        {&ms, "", "expected a duration from 100ms to 2h, found ''"},
        {&size, "a\x1b[m", "expected a size from 1KiB to 4TiB, found 'a?[m'"},
        {&size_or_0, "9", "expected a size from 4KiB to 2147483647, or 0, found '9'"},
        {&choice, "pink", "expected one of red, green, blue, found 'pink'"},
        {&addresses, "x", "expected host:port addresses separated by commas, found 'x'"},
        {&sync, "x", "expected always, never or interval:<duration> from 1ms to 24h, found 'x'"},
        {&share, "x", "expected a size, or a percentage up to 100%, found 'x'"},
    };
    struct values v;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = {0};
        assert_false(config_value_set(cases[i].key, &v, cases[i].value, &err));
        assert_string_equal(err.text, cases[i].text);
    }
}

static void
long_values_are_cut_in_errors(void **state)
{
    char value[5000];
    struct values v;
    struct err err = {0};

    (void)state;
    memset(value, 'x', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    assert_false(config_value_set(&sync, &v, value, &err));
    assert_true(strlen(err.text) < sizeof(err.text) - 1);
    assert_string_equal(err.text + strlen(err.text) - 7, "xxx...'");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_within_bounds),
        cmocka_unit_test(durations_have_units_and_a_bare_number_is_in_the_keys_own),
        cmocka_unit_test(sizes_have_binary_and_decimal_units),
        cmocka_unit_test(zero_may_stand_below_the_minimum),
        cmocka_unit_test(text_is_utf8_of_bounded_length_without_control_bytes),
        cmocka_unit_test(shorter_text_leaves_nothing_of_longer),
        cmocka_unit_test(bools_are_words),
        cmocka_unit_test(choices_are_whole_words_in_their_enums_order),
        cmocka_unit_test(addresses_are_host_and_port),
        cmocka_unit_test(addresses_that_are_not_are_refused),
        cmocka_unit_test(sync_is_always_never_or_an_interval),
        cmocka_unit_test(disk_share_is_bytes_or_percent),
        cmocka_unit_test(errors_say_what_was_expected_and_what_was_found),
        cmocka_unit_test(long_values_are_cut_in_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
