#include "unit.h"

#include "address_priv.h"
#include "lepus/base/crc32c.h"
#include "proxy_priv.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Octets of a literal, without its NUL. */
#define LIT(text) view_of(text, sizeof(text) - 1)

/* 203.0.113.7:51234 to 192.0.2.1:5672 */
#define TCP4 "\xcb\x00\x71\x07\xc0\x00\x02\x01\xc8\x22\x16\x28"

static void
assert_bad(struct view input, const char *why)
{
    struct proxy_header header;
    size_t size;

    assert_int_equal(proxy_parse(input, &header, &size), PROXY_BAD);
    assert_string_equal(header.why, why);
}

static void
assert_peer(struct view input, const char *peer, const char *local)
{
    struct proxy_header header;
    char text[ADDRESS_SIZE];
    size_t size;

    assert_int_equal(proxy_parse(input, &header, &size), PROXY_READY);
    assert_int_equal(size, input.len);
    assert_int_equal(header.has_peer, peer != NULL);
    if (peer == NULL)
        return;
    address_print(&header.peer, text);
    assert_string_equal(text, peer);
    address_print(&header.local, text);
    assert_string_equal(text, local);
}

static void
every_family_is_read(void **state)
{
    uint8_t unix_header[PROXY_HEAD + 216] = SIGNATURE "\x21\x31\x00\xd8";

    (void)state;
    assert_peer(LIT(SIGNATURE "\x21\x11\x00\x0c" TCP4), "203.0.113.7:51234", "192.0.2.1:5672");
    assert_peer(LIT(SIGNATURE "\x21\x21\x00\x24"
                              "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
                              "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xc8\x22\x16\x28"),
                "[2001:db8::7]:51234", "[2001:db8::1]:5672");
    assert_peer(LIT(SIGNATURE "\x21\x00\x00\x00"), NULL, NULL);
    assert_peer(view_of(unix_header, sizeof(unix_header)), NULL, NULL);
}

static void
what_local_carries_is_passed_over(void **state)
{
    (void)state;
    assert_peer(LIT(SIGNATURE "\x20\x00\x00\x00"), NULL, NULL);
    assert_peer(LIT(SIGNATURE "\x20\x11\x00\x0c" TCP4), NULL, NULL);
    assert_peer(LIT(SIGNATURE "\x20\xff\x00\x03\xff\xff\xff"), NULL, NULL);
}

static void
octets_behind_it_are_not_its(void **state)
{
    struct view input = LIT(SIGNATURE "\x21\x11\x00\x0c" TCP4 "AMQP");
    struct proxy_header header;
    size_t size;

    (void)state;
    assert_int_equal(proxy_parse(input, &header, &size), PROXY_READY);
    assert_int_equal(size, input.len - 4);
}

static void
every_part_of_it_is_partial(void **state)
{
    struct view whole = LIT(SIGNATURE "\x21\x11\x00\x0f" TCP4 "\x04\x00\x00");
    struct proxy_header header;
    size_t size;

    (void)state;
    for (size_t n = 0; n < whole.len; n++) {
        size = 0;
        assert_int_equal(proxy_parse(view_of(whole.at, n), &header, &size), PROXY_PARTIAL);
        assert_int_equal(size, n < PROXY_HEAD ? PROXY_HEAD : whole.len);
    }
    assert_peer(whole, "203.0.113.7:51234", "192.0.2.1:5672");
}

static void
what_a_proxy_does_not_send_is_refused(void **state)
{
    (void)state;
    assert_bad(LIT("AMQP"), "no PROXY header");
    assert_bad(LIT("\r\n\r\r"), "no PROXY header");
    assert_bad(LIT("PROXY TCP4 203.0.113.7 192.0.2.1 51234 5672\r\n"), "no PROXY header");
    assert_bad(LIT(SIGNATURE "\x11"), "PROXY header of a version that is not 2");
    assert_bad(LIT(SIGNATURE "\x22"), "PROXY header with an unknown command");
    assert_bad(LIT(SIGNATURE "\x21\x12\x00\x0c" TCP4),
               "PROXY header of a family or transport that is not TCP's");
    assert_bad(LIT(SIGNATURE "\x21\x41\x00\x00"),
               "PROXY header of a family or transport that is not TCP's");
    assert_bad(LIT(SIGNATURE "\x21\x11\x00\x0b"
                             "12345678901"),
               "PROXY header too short for its addresses");
    assert_bad(LIT(SIGNATURE "\x21\x11\xff\xff"), "PROXY header too long");
    assert_bad(LIT(SIGNATURE "\x21\x11\x0f\xf1"), "PROXY header too long");
    assert_bad(LIT(SIGNATURE "\x21\x11\x00\x0e" TCP4 "\x04\x00"),
               "PROXY header with a TLV that is longer than the header");
    assert_bad(LIT(SIGNATURE "\x21\x11\x00\x10" TCP4 "\x04\x00\x02\x00"),
               "PROXY header with a TLV that is longer than the header");
}

static void
checksum_is_checked(void **state)
{
    uint8_t octets[] = SIGNATURE "\x21\x11\x00\x18" TCP4 "\x04\x00\x02zz\x03\x00\x04\0\0\0\0";
    size_t n = sizeof(octets) - 1;
    uint32_t sum = crc32c(0, octets, n);

    (void)state;
    for (int i = 0; i < 4; i++)
        octets[n - 4 + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
    assert_peer(view_of(octets, n), "203.0.113.7:51234", "192.0.2.1:5672");
    octets[PROXY_HEAD] ^= 1;
    assert_bad(view_of(octets, n), "PROXY header with a wrong checksum");
    octets[PROXY_HEAD] ^= 1;
    octets[n - 5] = 3; /* its length */
    octets[15]--;
    assert_bad(view_of(octets, n - 1), "PROXY header with a wrong checksum");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_is_read),
        cmocka_unit_test(what_local_carries_is_passed_over),
        cmocka_unit_test(octets_behind_it_are_not_its),
        cmocka_unit_test(every_part_of_it_is_partial),
        cmocka_unit_test(what_a_proxy_does_not_send_is_refused),
        cmocka_unit_test(checksum_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
