#include "unit.h"

#include "sample.h"

#include "lepus/wire/frame.h"

/* A frame of the type with `size` octets of payload, all 'p', and `end`. Freed with sample_free. */
static struct view
make_frame(uint8_t type, uint16_t channel, size_t size, uint8_t end)
{
    uint8_t *at = mem_alloc(size + FRAME_OVERHEAD);

    memset(frame_put_head(at, type, channel, (uint32_t)size), 'p', size);
    at[FRAME_HEAD_SIZE + size] = end;
    return view_of(at, size + FRAME_OVERHEAD);
}

static void
whole_frame_is_ready(void **state)
{
    struct view input = make_frame(FRAME_BODY, 0xABCD, 5, FRAME_END);
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    assert_int_equal(frame_next(input, 4096, &frame, &size, &err), FRAME_READY);
    assert_int_equal(frame.type, FRAME_BODY);
    assert_int_equal(frame.channel, 0xABCD);
    assert_ptr_equal(frame.payload.at, input.at + FRAME_HEAD_SIZE);
    assert_int_equal(frame.payload.len, 5);
    assert_int_equal(size, input.len);
    assert_int_equal(err.code, 0);
    sample_free(input);
}

static void
every_truncation_is_partial(void **state)
{
    struct view whole = make_frame(FRAME_METHOD, 1, 300, FRAME_END);
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    for (size_t n = 0; n < whole.len; n++) {
        struct view input = sample_copy(view_of(whole.at, n));

        size = 99;
        assert_int_equal(frame_next(input, 4096, &frame, &size, &err), FRAME_PARTIAL);
        assert_int_equal(size, n < FRAME_HEAD_SIZE ? 0 : whole.len);
        sample_free(input);
    }
    sample_free(whole);
}

static void
second_frame_waits_its_turn(void **state)
{
    struct buf both;
    struct frame frame;
    struct err err = {0};
    struct view first = make_frame(FRAME_HEADER, 3, 14, FRAME_END);
    struct view second = make_frame(FRAME_HEARTBEAT, 0, 0, FRAME_END);
    size_t size;

    (void)state;
    buf_init(&both, 4096);
    buf_append(&both, first.at, first.len);
    buf_append(&both, second.at, second.len);
    assert_int_equal(frame_next(buf_view(&both), 4096, &frame, &size, &err), FRAME_READY);
    assert_int_equal(size, first.len);
    assert_int_equal(
        frame_next(view_of(both.at + size, both.len - size), 4096, &frame, &size, &err),
        FRAME_READY);
    assert_int_equal(frame.type, FRAME_HEARTBEAT);
    assert_int_equal(size, FRAME_OVERHEAD);
    buf_fini(&both);
    sample_free(first);
    sample_free(second);
}

static void
unknown_types_are_refused_by_their_head(void **state)
{
    struct frame frame;
    struct err err = {0};
    size_t size;
    char text[64];

    (void)state;
    for (unsigned type = 0; type <= UINT8_MAX; type++) {
        struct view input = make_frame((uint8_t)type, 0, 0, FRAME_END);
        bool is_known = type == 1 || type == 2 || type == 3 || type == 8;

        assert_int_equal(frame_next(input, 4096, &frame, &size, &err),
                         is_known ? FRAME_READY : FRAME_BAD);
        if (!is_known) {
            snprintf(text, sizeof(text), "type %u, all octets = <<>>: unknown_frame", type);
            assert_int_equal(err.code, FRAME_ERROR);
            assert_string_equal(err.text, text);
            assert_int_equal(frame_next(view_of(input.at, FRAME_HEAD_SIZE), 0, &frame, &size, &err),
                             FRAME_BAD);
        }
        sample_free(input);
    }
}

static void
heartbeat_has_no_payload(void **state)
{
    struct view input = make_frame(FRAME_HEARTBEAT, 0, 1, FRAME_END);
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    assert_int_equal(frame_next(input, 4096, &frame, &size, &err), FRAME_BAD);
    assert_int_equal(err.code, FRAME_ERROR);
    sample_free(input);
}

static void
frame_max_lets_eight_octets_too_many_pass(void **state)
{
    struct view most = make_frame(FRAME_BODY, 1, 4096, FRAME_END);
    struct view more = make_frame(FRAME_BODY, 1, 4097, FRAME_END);
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    assert_int_equal(frame_next(most, 4096, &frame, &size, &err), FRAME_READY);
    assert_int_equal(frame_next(view_of(more.at, FRAME_HEAD_SIZE), 4096, &frame, &size, &err),
                     FRAME_BAD);
    assert_int_equal(err.code, FRAME_ERROR);
    assert_string_equal(err.text, "type 3, all octets = <<>>: {frame_too_large,4097,4088}");
    assert_int_equal(frame_next(more, 0, &frame, &size, &err), FRAME_READY);
    sample_free(most);
    sample_free(more);
}

static void
without_frame_max_any_size_may_come(void **state)
{
    uint8_t head[FRAME_HEAD_SIZE];
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    frame_put_head(head, FRAME_BODY, 1, UINT32_MAX);
    assert_int_equal(frame_next(view_of(head, sizeof(head)), 0, &frame, &size, &err),
                     FRAME_PARTIAL);
    assert_true(size == (size_t)UINT32_MAX + FRAME_OVERHEAD);
}

static void
any_other_end_is_refused(void **state)
{
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    for (unsigned end = 0; end <= UINT8_MAX; end++) {
        struct view input = make_frame(FRAME_METHOD, 1, 4, (uint8_t)end);

        assert_int_equal(frame_next(input, 4096, &frame, &size, &err),
                         end == FRAME_END ? FRAME_READY : FRAME_BAD);
        assert_int_equal(err.code, end == 0 || err.code != 0 ? FRAME_ERROR : 0);
        sample_free(input);
    }
}

static void
bad_end_shows_the_first_octets(void **state)
{
    static const uint8_t zeroes[] = {1, 0, 1, 0, 0, 0, 2, 0, 255, 0};
    struct view text = make_frame(FRAME_METHOD, 1, 20, 0);
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    assert_int_equal(frame_next(text, 4096, &frame, &size, &err), FRAME_BAD);
    assert_string_equal(err.text, "type 1, first 16 octets = <<\"pppppppppppppppp\">>: "
                                  "{invalid_frame_end_marker,0}");
    assert_int_equal(frame_next(view_of(zeroes, sizeof(zeroes)), 4096, &frame, &size, &err),
                     FRAME_BAD);
    assert_string_equal(err.text, "type 1, all octets = <<0,255>>: {invalid_frame_end_marker,0}");
    sample_free(text);
}

/* Content headers */

static const uint8_t header[] = {0,    60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, /* class, weight, size */
                                 0x10, 0,  2};                           /* delivery_mode */

static void
content_header_is_read(void **state)
{
    struct content_header out;
    struct err err = {0};

    (void)state;
    assert_true(content_header_decode(view_of(header, sizeof(header)), &out, &err));
    assert_int_equal(out.class_id, 60);
    assert_int_equal(out.body_size, 0x102);
    assert_ptr_equal(out.properties.at, header + 12);
    assert_int_equal(out.properties.len, 3);
}

static void
content_header_cut_anywhere_is_refused(void **state)
{
    struct content_header out;

    (void)state;
    for (size_t n = 0; n < sizeof(header); n++) {
        struct view cut = sample_copy(view_of(header, n));
        struct err err = {0};

        assert_false(content_header_decode(cut, &out, &err));
        assert_int_equal(err.code, FRAME_ERROR);
        sample_free(cut);
    }
}

static void
content_header_of_other_class_or_weight_is_unexpected(void **state)
{
    uint8_t octets[sizeof(header)];
    struct content_header out;
    struct err err = {0};

    (void)state;
    for (size_t at = 0; at < 4; at++) {
        for (unsigned v = 0; v <= UINT8_MAX; v++) {
            memcpy(octets, header, sizeof(header));
            octets[at] = (uint8_t)v;
            if (v == header[at])
                continue;
            assert_false(content_header_decode(view_of(octets, sizeof(octets)), &out, &err));
            assert_int_equal(err.code, UNEXPECTED_FRAME);
        }
    }
    memcpy(octets, header, sizeof(header));
    octets[1] = 50;
    assert_false(content_header_decode(view_of(octets, sizeof(octets)), &out, &err));
    assert_string_equal(err.text,
                        "expected content header for class 60, got one for class 50 instead");
}

static void
content_header_with_malformed_properties_is_refused(void **state)
{
    uint8_t octets[sizeof(header) + 1] = {0};
    struct content_header out;
    struct err err = {0};

    (void)state;
    memcpy(octets, header, sizeof(header));
    assert_false(content_header_decode(view_of(octets, sizeof(octets)), &out, &err)); /* one more */
    assert_int_equal(err.code, FRAME_ERROR);
    octets[13] = 1; /* another flag word follows */
    assert_false(content_header_decode(view_of(octets, sizeof(header)), &out, &err));
    assert_int_equal(err.code, FRAME_ERROR);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_frame_is_ready),
        cmocka_unit_test(every_truncation_is_partial),
        cmocka_unit_test(second_frame_waits_its_turn),
        cmocka_unit_test(unknown_types_are_refused_by_their_head),
        cmocka_unit_test(heartbeat_has_no_payload),
        cmocka_unit_test(frame_max_lets_eight_octets_too_many_pass),
        cmocka_unit_test(without_frame_max_any_size_may_come),
        cmocka_unit_test(any_other_end_is_refused),
        cmocka_unit_test(bad_end_shows_the_first_octets),
        cmocka_unit_test(content_header_is_read),
        cmocka_unit_test(content_header_cut_anywhere_is_refused),
        cmocka_unit_test(content_header_of_other_class_or_weight_is_unexpected),
        cmocka_unit_test(content_header_with_malformed_properties_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
