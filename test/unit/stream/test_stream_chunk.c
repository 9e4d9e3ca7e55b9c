/*
 * Chunks, filters and index entries by themselves.
 */
#include "unit.h"

#include "crc32_priv.h"
#include "lepus/stream/stream_chunk.h"
#include "lepus/wire/octets.h"

/* What RabbitMQ sends for two messages: the header's octets, and the data they are of. */
static void
a_header_is_the_protocols(void **state)
{
    static const uint8_t data[] = "\x00\x00\x00\x0a\x00\x53\x75\xa0\x05hello"
                                  "\x00\x00\x00\x0a\x00\x53\x75\xa0\x05world";
    static const uint8_t sent[] =
        "\x50\x00\x00\x02\x00\x00\x00\x02\x00\x00\x01\xa1\xfb\x45\x1a\xd2"
        "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\xc9\xd9\xd7\x83"
        "\x00\x00\x00\x1c";
    struct stream_chunk chunk = {
        .timestamp_ms = 0x000001a1fb451ad2, .epoch = 1, .records = 2, .entries = 2, .data_len = 28};
    uint8_t head[STREAM_HEAD_MAX];

    (void)state;
    chunk.data_crc = stream_chunk_sum(view_of(data, sizeof(data) - 1));
    stream_chunk_put_head(&chunk, head);
    assert_memory_equal(head, sent, sizeof(sent) - 1);
}

static void
a_head_that_was_written_is_read(void **state)
{
    struct random r = {3};

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t filter[255], exchange[255], head[STREAM_HEAD_MAX];
        struct stream_chunk in = {.id = random_u64(&r) >> 1, .timestamp_ms = 77, .epoch = i}, out;
        size_t at;

        for (size_t k = 0; k < 255; k++)
            filter[k] = exchange[k] = (uint8_t)random_u64(&r);
        in.durable = random_u64(&r);
        in.records = 1 + (uint32_t)random_below(&r, UINT32_MAX);
        in.entries = 1 + (uint16_t)random_below(&r, UINT16_MAX);
        in.data_len = (uint32_t)random_u64(&r);
        in.data_crc = (uint32_t)random_u64(&r);
        in.flags = (uint8_t)random_below(&r, 2);
        in.filter = view_of(filter, random_below(&r, 256));
        in.exchange = view_of(exchange, random_below(&r, 256));
        stream_chunk_put_head(&in, head);
        in.head_len = stream_chunk_head_size(in.filter.len, in.exchange.len);
        assert_int_equal(stream_chunk_parse(view_of(head, in.head_len), &out), STREAM_CHUNK_GOOD);
        assert_true(view_equal(in.filter, out.filter) && view_equal(in.exchange, out.exchange));
        in.filter = out.filter;
        in.exchange = out.exchange;
        assert_true(in.id == out.id && in.timestamp_ms == out.timestamp_ms &&
                    in.epoch == out.epoch && in.durable == out.durable &&
                    in.records == out.records && in.entries == out.entries &&
                    in.data_len == out.data_len && in.data_crc == out.data_crc &&
                    in.flags == out.flags && in.head_len == out.head_len);
        for (size_t n = 0; n < in.head_len; n += 1 + random_below(&r, 20))
            assert_int_equal(stream_chunk_parse(view_of(head, n), &out), STREAM_CHUNK_SHORT);
        at = random_below(&r, in.head_len);
        head[at] ^= (uint8_t)(1 + random_below(&r, 255));
        assert_int_not_equal(stream_chunk_parse(view_of(head, in.head_len), &out),
                             STREAM_CHUNK_GOOD);
    }
}

static void
a_head_is_found_among_octets(void **state)
{
    struct stream_chunk chunk = {.records = 1, .entries = 1};
    uint8_t octets[1000] = {0};

    (void)state;
    for (size_t at = 0; at + STREAM_HEAD_MIN <= sizeof(octets); at++) {
        memset(octets, 'L', sizeof(octets));
        stream_chunk_put_head(&chunk, octets + at);
        assert_int_equal(stream_chunk_search(view_of(octets, sizeof(octets)), 0), at);
        assert_int_equal(stream_chunk_search(view_of(octets, sizeof(octets)), at), at);
        assert_int_equal(stream_chunk_search(view_of(octets, sizeof(octets)), at + 1),
                         sizeof(octets));
    }
}

static void
a_filter_never_hides_what_is_there(void **state)
{
    struct random r = {9};
    unsigned wrong = 0, asked = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t filter[255] = {0};
        size_t len = 16 + random_below(&r, 240), n = 1 + random_below(&r, 20);
        struct stream_filter_hash hashes[20], other;

        for (size_t k = 0; k < n; k++) {
            uint64_t value = random_u64(&r);

            hashes[k] = stream_filter_hash(view_of(&value, sizeof(value)));
            stream_filter_add(filter, len, &hashes[k]);
        }
        for (size_t k = 0; k < n; k++)
            assert_true(stream_filter_matches(view_of(filter, len), &hashes[k], 1, false));
        assert_true(stream_filter_matches(view_of(filter, len), hashes, n, false));
        assert_false(stream_filter_matches(view_of(filter, len), NULL, 0, true));
        other = stream_filter_hash(view_of(&i, sizeof(i)));
        wrong += stream_filter_matches(view_of(filter, len), &other, 1, false);
        asked++;
        stream_filter_add_none(filter);
        assert_true(stream_filter_matches(view_of(filter, len), NULL, 0, true));
    }
    assert_true(wrong < asked / 10);
    assert_true(stream_filter_matches(view_of(NULL, 0), NULL, 0, true));
    assert_false(stream_filter_matches(view_of(NULL, 0), NULL, 0, false));
}

static void
an_index_entry_is_one_segments(void **state)
{
    const struct stream_index_entry in = {12345678901, 1700000000000, 4000000000};
    struct stream_index_entry out;
    uint8_t octets[STREAM_INDEX_ENTRY];

    (void)state;
    stream_index_put(&in, 77, octets);
    assert_true(stream_index_get(octets, 77, &out));
    assert_true(in.id == out.id && in.timestamp_ms == out.timestamp_ms &&
                in.position == out.position);
    assert_false(stream_index_get(octets, 78, &out));
    for (size_t i = 0; i < sizeof(octets); i++) {
        octets[i] ^= 1;
        assert_false(stream_index_get(octets, 77, &out));
        octets[i] ^= 1;
    }
}

static uint32_t
bit_by_bit(uint32_t crc, const uint8_t *at, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= at[i];
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static void
the_sum_is_the_same_by_every_way(void **state)
{
    struct random r = {4};
    uint8_t octets[3000];

    (void)state;
    assert_int_equal(crc32_of(0, "123456789", 9), 0xCBF43926);
    for (size_t i = 0; i < sizeof(octets); i++)
        octets[i] = (uint8_t)random_u64(&r);
    for (size_t n = 0; n < 2000; n++) {
        size_t from = random_below(&r, 100), middle = random_below(&r, n + 1);
        uint32_t sum = bit_by_bit(0, octets + from, n);

        assert_int_equal(crc32_of(0, octets + from, n), sum);
        assert_int_equal(
            crc32_of(crc32_of(0, octets + from, middle), octets + from + middle, n - middle), sum);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_the_protocols),
        cmocka_unit_test(a_head_that_was_written_is_read),
        cmocka_unit_test(a_head_is_found_among_octets),
        cmocka_unit_test(a_filter_never_hides_what_is_there),
        cmocka_unit_test(an_index_entry_is_one_segments),
        cmocka_unit_test(the_sum_is_the_same_by_every_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
