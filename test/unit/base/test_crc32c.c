#include "unit.h"

#include "lepus/base/crc32c.h"

typedef uint32_t sum_fn(uint32_t crc, const void *at, size_t n);

/* RFC 3720, B.4, and the check value that every catalogue of CRCs gives. */
static void
check_known(sum_fn *sum)
{
    uint8_t octets[32];

    assert_int_equal(sum(0, "", 0), 0);
    assert_int_equal(sum(0, "123456789", 9), 0xE3069283);
    memset(octets, 0, sizeof(octets));
    assert_int_equal(sum(0, octets, sizeof(octets)), 0x8A9136AA);
    memset(octets, 0xff, sizeof(octets));
    assert_int_equal(sum(0, octets, sizeof(octets)), 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        octets[i] = i;
    assert_int_equal(sum(0, octets, sizeof(octets)), 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++)
        octets[i] = 31 - i;
    assert_int_equal(sum(0, octets, sizeof(octets)), 0x113FDB5C);
}

static void
sums_are_those_of_the_standard(void **state)
{
    (void)state;
    check_known(crc32c);
    check_known(crc32c_by_tables);
}

static void
instruction_and_tables_agree(void **state)
{
    enum { MOST = 40000 };
    struct random random = {42};
    uint8_t *octets = malloc(MOST + 8);

    (void)state;
    for (size_t i = 0; i < MOST + 8; i++)
        octets[i] = (uint8_t)random_u64(&random);
    for (size_t n = 0; n < 1300; n++) /* every way through the stretches of a small one */
        assert_int_equal(crc32c(7, octets + n % 8, n), crc32c_by_tables(7, octets + n % 8, n));
    for (int i = 0; i < 500; i++) {
        size_t at = random_below(&random, 8), n = random_below(&random, MOST);
        uint32_t crc = (uint32_t)random_u64(&random);

        assert_int_equal(crc32c(crc, octets + at, n), crc32c_by_tables(crc, octets + at, n));
    }
    free(octets);
}

static void
parts_in_turn_are_the_whole(void **state)
{
    enum { WHOLE = 20000 };
    struct random random = {43};
    uint8_t *octets = malloc(WHOLE);

    (void)state;
    for (size_t i = 0; i < WHOLE; i++)
        octets[i] = (uint8_t)random_u64(&random);
    for (int i = 0; i < 200; i++) {
        size_t cut = random_below(&random, WHOLE + 1);

        assert_int_equal(crc32c(crc32c(0, octets, cut), octets + cut, WHOLE - cut),
                         crc32c(0, octets, WHOLE));
    }
    free(octets);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_the_standard),
        cmocka_unit_test(instruction_and_tables_agree),
        cmocka_unit_test(parts_in_turn_are_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
