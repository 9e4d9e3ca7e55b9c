#include "unit.h"

#include "sample.h"

#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"

enum { ROUNDS = 500, ROOM = 600 };

/* Where the strings of random arguments live; a method has four views at most. */
static struct room {
    uint8_t strings[4][ROOM];
    struct buf tables[4];
    unsigned used;
} room;

static struct random rng = {20260131};

static uint8_t
random_field_u8(void)
{
    return (uint8_t)random_u64(&rng);
}

static uint16_t
random_field_u16(void)
{
    return (uint16_t)random_u64(&rng);
}

static uint32_t
random_field_u32(void)
{
    return (uint32_t)random_u64(&rng);
}

static uint64_t
random_field_u64(void)
{
    return random_u64(&rng);
}

static bool
random_field_bit(void)
{
    return random_u64(&rng) & 1;
}

static struct view
random_field_shortstr(void)
{
    return sample_ascii(&rng, room.strings[room.used++], random_below(&rng, 8) == 0 ? 255 : 20);
}

static struct view
random_field_longstr(void)
{
    return sample_octets(&rng, room.strings[room.used++], ROOM);
}

static struct view
random_field_table(void)
{
    struct buf *table = &room.tables[room.used++];

    buf_clear(table);
    sample_fields(table, &rng, true, SAMPLE_DEPTH);
    return buf_view(table);
}

static bool
equal_views(struct view a, struct view b)
{
    return view_equal(a, b);
}

static bool
equal_numbers(uint64_t a, uint64_t b)
{
    return a == b;
}

#define equal_u8       equal_numbers
#define equal_u16      equal_numbers
#define equal_u32      equal_numbers
#define equal_u64      equal_numbers
#define equal_bit      equal_numbers
#define equal_shortstr equal_views
#define equal_longstr  equal_views
#define equal_table    equal_views

static void
randomise(enum method method, union method_args *out)
{
    memset(out, 0, sizeof(*out));
    room.used = 0;
#define FIELD(type, field) args->field = random_field_##type();
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    if (method == METHOD_##name) {                                                                 \
        struct name *args = &out->name;                                                            \
                                                                                                   \
        (void)args;                                                                                \
        fields(FIELD)                                                                              \
    }
    METHODS(M)
#undef M
#undef FIELD
}

static bool
is_equal(enum method method, const union method_args *a, const union method_args *b)
{
#define FIELD(type, field) &&equal_##type(l->field, r->field)
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    if (method == METHOD_##name) {                                                                 \
        const struct name *l = &a->name, *r = &b->name;                                            \
                                                                                                   \
        (void)l, (void)r;                                                                          \
        return true fields(FIELD);                                                                 \
    }
    METHODS(M)
#undef M
#undef FIELD
    return false;
}

static int
set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(room.tables); i++)
        buf_init(&room.tables[i], SAMPLE_MAX);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(room.tables); i++)
        buf_fini(&room.tables[i]);
    return 0;
}

/* The arguments of a written frame. */
static struct view
arguments_of(struct view written)
{
    return view_of(written.at + FRAME_HEAD_SIZE + 4, written.len - FRAME_OVERHEAD - 4);
}

static void
rows_have_names_and_rules(void **state)
{
    const struct method_row *row = &method_rows[METHOD_connection_update_secret_ok];

    (void)state;
    assert_string_equal(row->name, "connection.update_secret_ok");
    assert_string_equal(method_rows[METHOD_basic_publish].name, "basic.publish");
    assert_string_equal(method_rows[METHOD_tx_select].name, "tx.select");
    assert_int_equal(row->class_id, 10);
    assert_int_equal(row->method_id, 71);
    assert_int_equal(row->sender, METHOD_BY_SERVER);
    assert_int_equal(row->channel, METHOD_ON_ZERO);
    assert_int_equal(method_rows[METHOD_basic_publish].follows, METHOD_THEN_CONTENT);
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        const char *dot = strchr(method_rows[i].name, '.');

        assert_non_null(dot);
        assert_null(strchr(dot + 1, '.'));
    }
}

static enum method
find_slowly(unsigned class_id, unsigned method_id)
{
    for (unsigned i = 0; i < METHOD_COUNT; i++)
        if (method_rows[i].class_id == class_id && method_rows[i].method_id == method_id)
            return (enum method)i;
    return METHOD_UNKNOWN;
}

static void
find_knows_each_row_and_nothing_else(void **state)
{
    static const uint16_t far[] = {1010, 32767, 32768, 65525, 65535};
    unsigned found = 0;

    (void)state;
    for (unsigned c = 0; c < 300; c++) {
        for (unsigned m = 0; m < 300; m++) {
            enum method method = method_find((uint16_t)c, (uint16_t)m);

            assert_int_equal(method, find_slowly(c, m));
            found += method != METHOD_UNKNOWN;
        }
    }
    assert_int_equal(found, METHOD_COUNT);
    for (size_t i = 0; i < COUNT_OF(far); i++) {
        assert_int_equal(method_find(far[i], 10), METHOD_UNKNOWN);
        assert_int_equal(method_find(10, far[i]), METHOD_UNKNOWN);
        assert_int_equal(method_find(far[i], far[i]), METHOD_UNKNOWN);
    }
}

static void
every_method_survives_the_round_trip(void **state)
{
    struct buf written, again;
    union method_args in, out;
    struct frame frame;
    struct err err = {0};
    size_t size;

    (void)state;
    buf_init(&written, SAMPLE_MAX);
    buf_init(&again, SAMPLE_MAX);
    for (unsigned i = 0; i < METHOD_COUNT * ROUNDS; i++) {
        enum method method = (enum method)(i % METHOD_COUNT);
        struct view copy;

        randomise(method, &in);
        buf_clear(&written);
        buf_clear(&again);
        method_write(&written, (uint16_t)i, method, &in);
        assert_false(written.bad);
        assert_int_equal(written.len, method_size(method, &in));
        copy = sample_copy(buf_view(&written));
        assert_int_equal(frame_next(copy, 0, &frame, &size, &err), FRAME_READY);
        assert_int_equal(size, copy.len);
        assert_int_equal(frame.type, FRAME_METHOD);
        assert_int_equal(frame.channel, (uint16_t)i);
        assert_int_equal(method_find((uint16_t)(frame.payload.at[0] << 8 | frame.payload.at[1]),
                                     (uint16_t)(frame.payload.at[2] << 8 | frame.payload.at[3])),
                         method);
        memset(&out, 0xAA, sizeof(out));
        if (!method_decode(method, arguments_of(copy), &out, &err))
            fail_msg("%s", err.text);
        assert_true(is_equal(method, &in, &out));
        method_write(&again, (uint16_t)i, method, &out);
        assert_true(view_equal(buf_view(&again), copy));
        sample_free(copy);
    }
    buf_fini(&written);
    buf_fini(&again);
}

static void
every_truncation_and_every_octet_too_many_is_refused(void **state)
{
    struct buf written;
    union method_args args;
    char behind[128];

    (void)state;
    buf_init(&written, SAMPLE_MAX);
    for (unsigned i = 0; i < METHOD_COUNT * 4; i++) {
        enum method method = (enum method)(i % METHOD_COUNT);
        struct view whole;

        randomise(method, &args);
        buf_clear(&written);
        method_write(&written, 1, method, &args);
        whole = arguments_of(buf_view(&written));
        for (size_t n = 0; n < whole.len; n++) {
            struct view cut = sample_copy(view_of(whole.at, n));
            struct err err = {0};

            assert_false(method_decode(method, cut, &args, &err));
            assert_int_equal(err.code, SYNTAX_ERROR);
            assert_int_equal(err.class_id, method_rows[method].class_id);
            assert_int_equal(err.method_id, method_rows[method].method_id);
            assert_non_null(strstr(err.text, method_rows[method].name));
            assert_non_null(strstr(err.text, "is malformed or cut short"));
            sample_free(cut);
        }
        for (size_t more = 1; more <= 3; more++) {
            uint8_t *longer = mem_alloc_zero(whole.len + more);
            struct err err = {0};

            memcpy(longer, whole.at, whole.len);
            assert_false(method_decode(method, view_of(longer, whole.len + more), &args, &err));
            assert_int_equal(err.code, SYNTAX_ERROR);
            snprintf(behind, sizeof(behind), "cannot decode %s: %zu octets behind the last field",
                     method_rows[method].name, more);
            assert_string_equal(err.text, behind);
            free(longer);
        }
    }
    buf_fini(&written);
}

static void
arbitrary_octets_decode_or_fail(void **state)
{
    union method_args out;
    uint8_t octets[64];

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        struct view v = sample_octets(&rng, octets, sizeof(octets)), copy = sample_copy(v);
        enum method method = (enum method)random_below(&rng, METHOD_COUNT);
        struct err err = {0};

        if (method_decode(method, copy, &out, &err))
            assert_int_equal(err.code, 0);
        else
            assert_true(err.code == SYNTAX_ERROR || err.code == FRAME_ERROR);
        sample_free(copy);
    }
}

static void
publish_and_ack_are_these_octets(void **state)
{
    static const uint8_t publish[] = {1, 0, 7, 0,   0,   0,   14, 0,   60,  0, 40,
                                      0, 0, 3, 'e', 'x', 'c', 2,  'r', 'k', 2, 0xCE};
    static const uint8_t ack[] = {1, 0, 1, 0, 0, 0, 13, 0, 60, 0,   80,
                                  1, 2, 3, 4, 5, 6, 7,  8, 1,  0xCE};
    struct basic_publish p = {
        .exchange = VIEW_LIT("exc"), .routing_key = VIEW_LIT("rk"), .immediate = true};
    struct basic_ack a = {.delivery_tag = 0x0102030405060708, .multiple = true};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    method_write(&b, 7, METHOD_basic_publish, &p);
    assert_int_equal(b.len, sizeof(publish));
    assert_memory_equal(b.at, publish, sizeof(publish));
    buf_clear(&b);
    method_write(&b, 1, METHOD_basic_ack, &a);
    assert_int_equal(b.len, sizeof(ack));
    assert_memory_equal(b.at, ack, sizeof(ack));
    buf_fini(&b);
}

static void
method_without_fields_needs_no_args(void **state)
{
    static const uint8_t octets[] = {1, 0, 2, 0, 0, 0, 4, 0, 90, 0, 10, 0xCE};
    union method_args out;
    struct err err = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    method_write(&b, 2, METHOD_tx_select, NULL);
    assert_int_equal(b.len, method_size(METHOD_tx_select, NULL));
    assert_int_equal(b.len, sizeof(octets));
    assert_memory_equal(b.at, octets, sizeof(octets));
    assert_true(method_decode(METHOD_tx_select, view_of(NULL, 0), &out, &err));
    buf_fini(&b);
}

static void
consecutive_bits_share_an_octet(void **state)
{
    union method_args out;
    struct err err = {0};

    (void)state;
    for (unsigned bits = 0; bits <= UINT8_MAX; bits++) {
        uint8_t octets[] = {0, 0, 0, (uint8_t)bits, 0, 0, 0, 0};
        const struct queue_declare *d = &out.queue_declare;

        assert_true(
            method_decode(METHOD_queue_declare, view_of(octets, sizeof(octets)), &out, &err));
        assert_int_equal(d->passive, bits & 1);
        assert_int_equal(d->durable, bits >> 1 & 1);
        assert_int_equal(d->exclusive, bits >> 2 & 1);
        assert_int_equal(d->auto_delete, bits >> 3 & 1);
        assert_int_equal(d->nowait, bits >> 4 & 1); /* the rest may be anything */
    }
}

static void
refusal_names_the_first_bad_field(void **state)
{
    static const struct {
        enum method method;
        const char *octets;
        size_t size;
        const char *text;
    } cases[] = {
        {METHOD_basic_publish, "\0", 1,
         "cannot decode basic.publish: field 'reserved_1' is malformed or cut short"},
        {METHOD_basic_publish, "\0\0\1", 3,
         "cannot decode basic.publish: field 'exchange' is malformed or cut short"},
        {METHOD_basic_publish, "\0\0\1e\2k", 6,
         "cannot decode basic.publish: field 'routing_key' is malformed or cut short"},
        {METHOD_basic_publish, "\0\0\0\0", 4,
         "cannot decode basic.publish: field 'mandatory' is malformed or cut short"},
        {METHOD_basic_ack, "\0\0\0\0\0\0\0", 7,
         "cannot decode basic.ack: field 'delivery_tag' is malformed or cut short"},
        {METHOD_queue_declare, "\0\0\0\0\0\0\0\1\0", 9, /* a name without a value */
         "cannot decode queue.declare: field 'arguments' is malformed or cut short"},
        {METHOD_queue_declare, "\0\0\0\0\0\0\0\3\1aZ", 11, /* no such type */
         "cannot decode queue.declare: field 'arguments' is malformed or cut short"},
        {METHOD_connection_start_ok, "\0\0\0\0\1x\377\377\377\377en", 12,
         "cannot decode connection.start_ok: field 'response' is malformed or cut short"},
    };
    union method_args out;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = {0};

        assert_false(
            method_decode(cases[i].method, view_of(cases[i].octets, cases[i].size), &out, &err));
        assert_int_equal(err.code, SYNTAX_ERROR);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void
names_must_be_utf8_where_no_content_follows(void **state)
{
    union method_args out;
    struct err err = {0};

    (void)state;
    assert_false(
        method_decode(METHOD_queue_purge, view_of("\0\0\2\303(\0", 6), &out, &err)); /* C3 28 */
    assert_int_equal(err.code, FRAME_ERROR);
    assert_string_equal(err.text, "Malformed UTF-8 in shortstr");
    assert_true(method_decode(METHOD_queue_purge, view_of("\0\0\2\303\251\0", 6), &out, &err));
    assert_true(method_decode(METHOD_basic_publish, view_of("\0\0\2\303(\0\0", 7), &out, &err));
}

static void
long_shortstr_is_cut(void **state)
{
    static uint8_t name[300];
    struct basic_cancel in = {.consumer_tag = view_of(name, sizeof(name)), .nowait = true};
    union method_args out;
    struct err err = {0};
    struct buf b;

    (void)state;
    memset(name, 'n', sizeof(name));
    buf_init(&b, 4096);
    method_write(&b, 1, METHOD_basic_cancel, &in);
    assert_int_equal(b.len, method_size(METHOD_basic_cancel, &in));
    assert_true(method_decode(METHOD_basic_cancel, arguments_of(buf_view(&b)), &out, &err));
    assert_int_equal(out.basic_cancel.consumer_tag.len, 255);
    assert_true(out.basic_cancel.nowait);
    buf_fini(&b);
}

static void
frame_that_does_not_fit_leaves_nothing(void **state)
{
    struct basic_ack in = {.delivery_tag = 1};
    struct buf b;

    (void)state;
    buf_init(&b, method_size(METHOD_basic_ack, &in) + 3);
    method_write(&b, 1, METHOD_basic_ack, &in);
    assert_false(b.bad);
    method_write(&b, 1, METHOD_basic_ack, &in);
    assert_true(b.bad);
    assert_int_equal(b.len, method_size(METHOD_basic_ack, &in));
    buf_fini(&b);

    buf_init(&b, 4096);
    mem_fail_nth(1);
    method_write(&b, 1, METHOD_basic_ack, &in);
    mem_fail_nth(0);
    assert_true(b.bad);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_names_and_rules),
        cmocka_unit_test(find_knows_each_row_and_nothing_else),
        cmocka_unit_test(every_method_survives_the_round_trip),
        cmocka_unit_test(every_truncation_and_every_octet_too_many_is_refused),
        cmocka_unit_test(arbitrary_octets_decode_or_fail),
        cmocka_unit_test(publish_and_ack_are_these_octets),
        cmocka_unit_test(method_without_fields_needs_no_args),
        cmocka_unit_test(consecutive_bits_share_an_octet),
        cmocka_unit_test(refusal_names_the_first_bad_field),
        cmocka_unit_test(names_must_be_utf8_where_no_content_follows),
        cmocka_unit_test(long_shortstr_is_cut),
        cmocka_unit_test(frame_that_does_not_fit_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
