/*
 * What is published comes back, octet for octet; and what stands in an entry is what a client of
 * the native protocol can read.
 */
#include "unit.h"

#include "lepus/stream/stream_message.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { ROOM = 1 << 22 };

static struct view stream_name;

/* Encodes with an encoder, as stream_log does, into `entry`. */
static void
encode(struct stream_encoder *e, const struct content *c, bool tells_exchange, struct buf *entry,
       struct view *filter)
{
    struct view sections = stream_encode(e, c, tells_exchange, filter);
    uint8_t head[STREAM_DATA_HEAD_MAX], *end;

    assert_non_null(sections.at);
    end = stream_put_data_head(head, c->body.len);
    assert_int_equal(end - head, stream_data_head_size(c->body.len));
    buf_clear(entry);
    buf_append(entry, sections.at, sections.len);
    buf_append(entry, head, (size_t)(end - head));
    buf_append(entry, c->body.at, c->body.len);
    assert_false(entry->bad);
}

static void
must_equal(struct view a, struct view b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.at, b.at, a.len);
}

/* There and back, with a decoder that knows nothing and with one that has read others before. */
static void
round_trip(struct stream_encoder *e, struct stream_decoder *used, const struct content *c,
           bool tells_exchange)
{
    struct view exchange = tells_exchange ? VIEW_LIT("another") : c->exchange;
    struct stream_decoder fresh, *decoders[] = {&fresh, used, used};
    struct view filter, seen;
    struct content back;
    struct buf entry;

    buf_init(&entry, ROOM);
    stream_decoder_init(&fresh, stream_name);
    encode(e, c, tells_exchange, &entry, &filter);
    for (size_t i = 0; i < COUNT_OF(decoders); i++) {
        assert_int_equal(STREAM_DECODED, stream_decode(decoders[i], buf_view(&entry), exchange,
                                                       false, &back, &seen));
        must_equal(back.properties, c->properties);
        must_equal(back.body, c->body);
        must_equal(back.exchange, c->exchange);
        must_equal(back.routing_key, c->routing_key);
        must_equal(seen, filter);
    }
    stream_decoder_fini(&fresh);
    buf_fini(&entry);
}

struct fixture {
    struct stream_encoder encoder;
    struct stream_decoder decoder;
};

static void
open_fixture(struct fixture *f)
{
    stream_name = VIEW_LIT("s1");
    stream_encoder_init(&f->encoder, stream_name);
    stream_decoder_init(&f->decoder, stream_name);
}

static void
close_fixture(struct fixture *f)
{
    stream_encoder_fini(&f->encoder);
    stream_decoder_fini(&f->decoder);
}

static struct content
plain(const char *exchange, const char *key, struct view properties, const char *body)
{
    return (struct content){.exchange = view_str(exchange),
                            .routing_key = view_str(key),
                            .properties = properties,
                            .body = view_str(body)};
}

static const uint8_t no_properties[2];

static struct view
none(void)
{
    return view_of(no_properties, 2);
}

static size_t
encoded_size(struct stream_encoder *e, const struct content *c, bool tells_exchange)
{
    struct buf entry;
    struct view filter;
    size_t n;

    buf_init(&entry, ROOM);
    encode(e, c, tells_exchange, &entry, &filter);
    n = entry.len;
    buf_fini(&entry);
    return n;
}

static void
a_message_without_properties_is_a_data_section(void **state)
{
    struct content c = plain("", "s1", none(), "hello");
    struct fixture f;
    struct buf entry;
    struct view filter;

    (void)state;
    open_fixture(&f);
    buf_init(&entry, ROOM);
    encode(&f.encoder, &c, false, &entry, &filter);
    must_equal(buf_view(&entry), VIEW_LIT("\x00\x53\x75\xa0\x05hello"));
    assert_null(filter.at);
    round_trip(&f.encoder, &f.decoder, &c, false);
    buf_fini(&entry);
    close_fixture(&f);
}

static void
the_overhead_stays_below_forty_octets(void **state)
{
    struct content c = plain("amq.topic", "a.b", VIEW_LIT("\x10\x00\x02"), "body");
    size_t own = c.routing_key.len + c.properties.len + c.body.len;
    struct fixture f;

    (void)state;
    open_fixture(&f);
    assert_true(encoded_size(&f.encoder, &c, false) + 4 - own <= 40);
    c.exchange = view_str("");
    c.routing_key = view_str("s1");
    assert_true(encoded_size(&f.encoder, &c, false) + 4 - c.body.len <= 16);
    close_fixture(&f);
}

static void
delivery_mode_priority_and_ttl_are_the_header(void **state)
{
    struct content c = plain("", "s1",
                             VIEW_LIT("\x19\x00\x02\x07\x05"
                                      "60000"),
                             "x");
    struct fixture f;
    struct buf entry;
    struct view filter;

    (void)state;
    open_fixture(&f);
    buf_init(&entry, ROOM);
    encode(&f.encoder, &c, false, &entry, &filter);
    must_equal(buf_view(&entry), VIEW_LIT("\x00\x53\x70\xc0\x09\x03\x41\x50\x07\x70\x00\x00\xea\x60"
                                          "\x00\x53\x75\xa0\x01x"));
    round_trip(&f.encoder, &f.decoder, &c, false);
    buf_fini(&entry);
    close_fixture(&f);
}

/* The vector of the reference for everything that can be told in 1.0, less what it always writes.
 */
static void
names_are_annotations(void **state)
{
    struct content c = plain("amq.topic", "a.b", VIEW_LIT("\x10\x00\x02"), "hello");
    struct fixture f;
    struct buf entry;
    struct view filter;

    (void)state;
    open_fixture(&f);
    buf_init(&entry, ROOM);
    encode(&f.encoder, &c, true, &entry, &filter);
    must_equal(buf_view(&entry), VIEW_LIT("\x00\x53\x70\xc0\x02\x01\x41"
                                          "\x00\x53\x72\xc1\x2c\x04\xa3\x0ax-exchange\xa1\x09"
                                          "amq.topic\xa3\x0dx-routing-key\xa1\x03"
                                          "a.b\x00\x53\x75\xa0\x05hello"));
    round_trip(&f.encoder, &f.decoder, &c, true);
    buf_fini(&entry);
    close_fixture(&f);
}

static void
a_filter_value_is_told(void **state)
{
    struct buf headers, properties;
    struct view value, filter;
    struct content c;
    struct fixture f;
    struct buf entry;

    (void)state;
    open_fixture(&f);
    buf_init(&headers, ROOM);
    buf_init(&properties, ROOM);
    buf_init(&entry, ROOM);
    table_put_longstr(&headers, VIEW_LIT("x-stream-filter-value"), VIEW_LIT("europe"));
    table_put_i32(&headers, VIEW_LIT("other"), 7);
    value = buf_view(&headers);
    props_copy_with(&properties, none(), PROP_headers, &value);
    c = plain("ex", "key", buf_view(&properties), "b");
    encode(&f.encoder, &c, false, &entry, &filter);
    must_equal(filter, VIEW_LIT("europe"));
    round_trip(&f.encoder, &f.decoder, &c, false);
    buf_fini(&entry);
    buf_fini(&headers);
    buf_fini(&properties);
    close_fixture(&f);
}

/* --- random ones -------------------------------------------------------------------------- */

static struct view
random_text(struct random *r, uint8_t *room, size_t max)
{
    static const char *const odd[] = {"x-a",           "x-cc",    "CC", "x-exchange",
                                      "x-routing-key", "x-death", "",   "x-0-9-1-properties",
                                      "naïve"};
    size_t n = random_below(r, max + 1);

    if (random_below(r, 4) == 0) {
        struct view v = view_str(odd[random_below(r, COUNT_OF(odd))]);

        return v.len <= max ? v : VIEW_LIT("q");
    }
    for (size_t i = 0; i < n; i++)
        room[i] = (uint8_t)(random_below(r, 12) == 0 ? random_u64(r) : 'a' + random_below(r, 26));
    return view_of(room, n);
}

static void
random_table(struct random *r, struct buf *to, unsigned depth, bool is_table)
{
    static const char letters[] = "tbBsuIilLfdDSATFVx";
    size_t n = random_below(r, 5);

    for (size_t i = 0; i < n; i++) {
        uint8_t name_room[40], room[300];
        struct view name = random_text(r, name_room, 30);
        struct field field = {.type = (enum field_type)letters[random_below(r, 18)]};
        struct buf inner;
        size_t widths[256] = {
            ['t'] = 1, ['b'] = 1, ['B'] = 1, ['s'] = 2, ['u'] = 2, ['I'] = 4, ['i'] = 4,
            ['l'] = 8, ['L'] = 8, ['f'] = 4, ['d'] = 8, ['D'] = 5, ['T'] = 8};
        size_t width = widths[(uint8_t)field.type];

        buf_init(&inner, ROOM);
        for (size_t k = 0; k < width; k++)
            room[k] = (uint8_t)(random_below(r, 3) == 0 ? random_u64(r) : random_below(r, 2));
        field.bytes = view_of(room, width);
        if (field.type == FIELD_LONGSTR || field.type == FIELD_BYTES)
            field.bytes = random_text(r, room, random_below(r, 5) == 0 ? 300 : 20);
        if (field.type == FIELD_ARRAY || field.type == FIELD_TABLE) {
            if (depth < 4)
                random_table(r, &inner, depth + 1, field.type == FIELD_TABLE);
            field.bytes = buf_view(&inner);
        }
        if (is_table)
            table_put_field(to, name, &field);
        else
            array_put_field(to, &field);
        buf_fini(&inner);
    }
}

static void
random_properties(struct random *r, struct buf *out)
{
    uint16_t flags = 0;
    uint8_t room[256];
    struct buf table;
    struct view v;

    buf_init(&table, ROOM);
    random_table(r, &table, 0, true);
    buf_clear(out);
    for (unsigned bit = 2; bit < 16; bit++)
        if (random_below(r, 3) == 0)
            flags |= (uint16_t)(1 << bit);
    buf_u16(out, flags);
#define put_u8(v)  buf_u8(out, (uint8_t)(random_below(r, 4) ? 1 + random_below(r, 2) : 9))
#define put_u64(v) buf_u64(out, random_below(r, 5) ? 1700000000 : random_u64(r))
#define put_shortstr(v)                                                                            \
    (v = random_text(r, room, random_below(r, 6) ? 20 : 255), buf_u8(out, (uint8_t)v.len),         \
     buf_append(out, v.at, v.len))
#define put_table(v) (buf_u32(out, (uint32_t)table.len), buf_append(out, table.at, table.len))
#define P(name, type, bit)                                                                         \
    if ((flags & 1 << (bit)) != 0 && PROP_##name == PROP_expiration && random_below(r, 2)) {       \
        v = random_below(r, 2) ? VIEW_LIT("60000") : VIEW_LIT("4294967296");                       \
        buf_u8(out, (uint8_t)v.len), buf_append(out, v.at, v.len);                                 \
    } else if ((flags & 1 << (bit)) != 0) {                                                        \
        put_##type(v);                                                                             \
    }
    PROPERTIES(P)
#undef P
    buf_fini(&table);
    assert_true(props_check(buf_view(out)));
}

static void
whatever_is_published_comes_back(void **state)
{
    struct random r = {20260101};
    struct buf properties;
    struct fixture f;
    uint8_t exchange[255], key[255], body[600];

    (void)state;
    open_fixture(&f);
    buf_init(&properties, ROOM);
    for (unsigned i = 0; i < 20000; i++) {
        struct content c = {0};

        if (i % 3 != 2)
            random_properties(&r, &properties);
        c.properties = buf_view(&properties);
        c.exchange = random_text(&r, exchange, random_below(&r, 9) ? 10 : 255);
        c.routing_key = random_below(&r, 2) ? view_str("s1")
                                            : random_text(&r, key, random_below(&r, 9) ? 10 : 255);
        c.body = random_text(&r, body, sizeof(body));
        round_trip(&f.encoder, &f.decoder, &c, random_below(&r, 2));
    }
    buf_fini(&properties);
    close_fixture(&f);
}

/* --- from elsewhere ----------------------------------------------------------------------- */

static void
a_native_message_is_delivered(void **state)
{
    struct view entry = VIEW_LIT("\x00\x53\x73\xc0\x0b\x01\x98"
                                 "0123456789abcdef" /* too long for its list: cut */
                                 "\x00\x53\x75\xa0\x02hi");
    struct content c;
    struct view filter;
    struct fixture f;

    (void)state;
    open_fixture(&f);
    /* No message: delivered as it is. */
    assert_int_equal(STREAM_NO_MESSAGE,
                     stream_decode(&f.decoder, entry, VIEW_LIT(""), true, &c, &filter));
    must_equal(c.body, entry);
    must_equal(c.routing_key, stream_name);
    assert_true(props_check(c.properties));
    /* Two data sections, a small message id, a symbol descriptor. */
    entry = VIEW_LIT("\x00\x53\x73\xc0\x03\x01\x53\x2a"
                     "\x00\xa3\x10"
                     "amqp:data:binary\xa0\x02hi"
                     "\x00\x80\x00\x00\x00\x00\x00\x00\x00\x75\xb0\x00\x00\x00\x03 yo");
    assert_int_equal(STREAM_DECODED,
                     stream_decode(&f.decoder, entry, VIEW_LIT(""), true, &c, &filter));
    must_equal(c.body, VIEW_LIT("hi yo"));
    must_equal(c.properties, VIEW_LIT("\x00\x80\x02"
                                      "42"));
    /* A binary header is a string to a native client's reader, and x to one who published it so. */
    entry = VIEW_LIT("\x00\x53\x74\xc1\x07\x02\xa1\x01k\xa0\x01v\x00\x53\x75\xa0\x01!");
    assert_int_equal(STREAM_DECODED,
                     stream_decode(&f.decoder, entry, VIEW_LIT(""), true, &c, &filter));
    must_equal(c.properties, VIEW_LIT("\x20\x00\x00\x00\x00\x08\x01kS\x00\x00\x00\x01v"));
    assert_int_equal(STREAM_DECODED,
                     stream_decode(&f.decoder, entry, VIEW_LIT(""), false, &c, &filter));
    must_equal(c.properties, VIEW_LIT("\x20\x00\x00\x00\x00\x08\x01kx\x00\x00\x00\x01v"));
    /* A value for a body. */
    entry = VIEW_LIT("\x00\x53\x77\xa1\x02hi");
    assert_int_equal(STREAM_DECODED,
                     stream_decode(&f.decoder, entry, VIEW_LIT(""), true, &c, &filter));
    must_equal(c.body, entry);
    must_equal(c.properties, VIEW_LIT("\x00\x20\x08"
                                      "amqp-1.0"));
    close_fixture(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_without_properties_is_a_data_section),
        cmocka_unit_test(the_overhead_stays_below_forty_octets),
        cmocka_unit_test(delivery_mode_priority_and_ttl_are_the_header),
        cmocka_unit_test(names_are_annotations),
        cmocka_unit_test(a_filter_value_is_told),
        cmocka_unit_test(whatever_is_published_comes_back),
        cmocka_unit_test(a_native_message_is_delivered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
