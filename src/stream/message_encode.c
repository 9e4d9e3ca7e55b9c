#include "lepus/stream/stream_message.h"

#include "amqp10_priv.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"
#include "message_priv.h"

enum { SECTIONS_MAX = 1 << 28 };

void
stream_encoder_init(struct stream_encoder *e, struct view stream)
{
    *e = (struct stream_encoder){.stream = stream};
    buf_init(&e->key, SECTIONS_MAX);
    buf_init(&e->sections, SECTIONS_MAX);
}

void
stream_encoder_fini(struct stream_encoder *e)
{
    buf_fini(&e->key);
    buf_fini(&e->sections);
}

/* What is being made of one message's properties. */
struct making {
    struct buf *to;
    struct view properties, headers;
    struct view values[16]; /* by bit of the flags */
    uint16_t flags;
    bool is_exact; /* decoding will give these properties again, as far as has been seen */
};

static void
begin_section(struct buf *to, enum amqp10_section section)
{
    uint8_t head[3] = {AMQP10_DESCRIBED, AMQP10_ULONG_SMALL, (uint8_t)section};

    buf_append(to, head, sizeof(head));
}

#define rd_raw_shortstr(r) rd_shortstr(r)
#define rd_raw_table(r)    rd_longstr(r)
#define rd_raw_u8(r)       rd_view((r), 1)
#define rd_raw_u64(r)      rd_view((r), 8)

/* All of them in one pass; they are checked ones. */
static void
split(struct making *m)
{
    struct cursor r = cursor_of(m->properties);

    m->flags = rd_u16(&r);
#define P(name, type, bit)                                                                         \
    if ((m->flags & PROP_##name) != 0)                                                             \
        m->values[bit] = rd_raw_##type(&r);
    PROPERTIES(P)
#undef P
}

static struct view
property(const struct making *m, enum property which)
{
    return m->values[__builtin_ctz((unsigned)which)]; /* at NULL: absent */
}

static bool
is_ascii(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.at[i] >= 0x80)
            return false;
    return true;
}

/* --- header ------------------------------------------------------------------------------- */

/* "0" or digits without a zero in front, up to 2^32 - 1. */
static bool
is_ttl(struct view v, uint32_t *out)
{
    uint64_t number = 0;

    if (v.len == 0 || v.len > 10 || (v.at[0] == '0' && v.len > 1))
        return false;
    for (size_t i = 0; i < v.len; i++) {
        if (v.at[i] < '0' || v.at[i] > '9')
            return false;
        number = number * 10 + (v.at[i] - (unsigned)'0');
    }
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

static void
put_header(struct making *m)
{
    struct view mode = property(m, PROP_delivery_mode), priority = property(m, PROP_priority);
    struct view expiration = property(m, PROP_expiration);
    uint32_t ttl = 0;
    bool has_ttl = is_ttl(expiration, &ttl);
    size_t begun, count = has_ttl ? 3 : priority.len > 0 ? 2 : 1;

    if ((m->flags & PROP_expiration) != 0 && !has_ttl)
        m->is_exact = false;
    if (mode.len == 0 && count == 1)
        return;
    if (mode.len > 0 && mode.at[0] != 1 && mode.at[0] != 2)
        m->is_exact = false;
    begin_section(m->to, SECTION_HEADER);
    begun = amqp10_begin(m->to, AMQP10_LIST_32);
    buf_u8(m->to, mode.len == 0 ? AMQP10_NULL : mode.at[0] == 2 ? AMQP10_TRUE : AMQP10_FALSE);
    if (priority.len > 0) {
        buf_u8(m->to, AMQP10_UBYTE);
        buf_u8(m->to, priority.at[0]);
    } else if (count > 1) {
        buf_u8(m->to, AMQP10_NULL);
    }
    if (has_ttl) {
        buf_u8(m->to, AMQP10_UINT);
        buf_u32(m->to, ttl);
    }
    amqp10_end(m->to, begun, count);
}

/* --- headers as values -------------------------------------------------------------------- */

static bool
is_string(struct view v)
{
    return v.len <= STREAM_FILTER_VALUE_MAX && (v.len == 0 || memchr(v.at, 0, v.len) == NULL) &&
           view_is_utf8(v);
}

static void put_value(struct making *m, const struct field *field);

static void
put_fixed(struct making *m, enum amqp10_code code, struct view octets)
{
    buf_u8(m->to, (uint8_t)code);
    buf_append(m->to, octets.at, octets.len);
}

static void
put_seconds(struct making *m, struct view octets)
{
    uint64_t seconds = be_u64(octets.at);

    if (seconds > INT64_MAX / 1000) {
        m->is_exact = false;
        seconds = INT64_MAX / 1000;
    }
    buf_u8(m->to, AMQP10_TIMESTAMP);
    buf_u64(m->to, seconds * 1000);
}

static void
put_array(struct making *m, struct view array)
{
    size_t begun = amqp10_begin(m->to, AMQP10_LIST_32), at = 0, count = 0;
    struct field field;

    for (; array_next(array, &at, &field); count++)
        put_value(m, &field);
    amqp10_end(m->to, begun, count);
}

static void
put_table(struct making *m, struct view table)
{
    size_t begun = amqp10_begin(m->to, AMQP10_MAP_32), at = 0, count = 0;
    struct field field;
    struct view name;

    while (table_next(table, &at, &name, &field)) {
        if (!is_ascii(name)) {
            m->is_exact = false;
            continue;
        }
        amqp10_put_text(m->to, AMQP10_SYMBOL_8, name);
        put_value(m, &field);
        count += 2;
    }
    amqp10_end(m->to, begun, count);
}

static void
put_value(struct making *m, const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        if (field->bytes.at[0] > 1)
            m->is_exact = false;
        buf_u8(m->to, AMQP10_BOOLEAN);
        buf_u8(m->to, field->integer != 0);
        break;
    case FIELD_I8:
        put_fixed(m, AMQP10_BYTE, field->bytes);
        break;
    case FIELD_U8:
        put_fixed(m, AMQP10_UBYTE, field->bytes);
        break;
    case FIELD_I16:
        put_fixed(m, AMQP10_SHORT, field->bytes);
        break;
    case FIELD_U16:
        put_fixed(m, AMQP10_USHORT, field->bytes);
        break;
    case FIELD_I32:
        put_fixed(m, AMQP10_INT, field->bytes);
        break;
    case FIELD_U32:
        put_fixed(m, AMQP10_UINT, field->bytes);
        break;
    case FIELD_I64_L:
        m->is_exact = false; /* comes back as l */
        put_fixed(m, AMQP10_LONG, field->bytes);
        break;
    case FIELD_I64:
        put_fixed(m, AMQP10_LONG, field->bytes);
        break;
    case FIELD_FLOAT:
        put_fixed(m, AMQP10_FLOAT, field->bytes);
        break;
    case FIELD_DOUBLE:
        put_fixed(m, AMQP10_DOUBLE, field->bytes);
        break;
    case FIELD_TIMESTAMP:
        put_seconds(m, field->bytes);
        break;
    case FIELD_DECIMAL:
        m->is_exact = false;
        buf_u8(m->to, AMQP10_NULL);
        break;
    case FIELD_LONGSTR:
        if (!is_string(field->bytes))
            m->is_exact = false; /* comes back as x */
        amqp10_put_text(m->to, is_string(field->bytes) ? AMQP10_STRING_8 : AMQP10_BINARY_8,
                        field->bytes);
        break;
    case FIELD_BYTES:
        amqp10_put_text(m->to, AMQP10_BINARY_8, field->bytes);
        break;
    case FIELD_VOID:
        buf_u8(m->to, AMQP10_NULL);
        break;
    case FIELD_ARRAY:
        put_array(m, field->bytes);
        break;
    case FIELD_TABLE:
        put_table(m, field->bytes);
        break;
    }
}

/* --- annotations -------------------------------------------------------------------------- */

static bool
is_cc(struct view name, const struct field *field)
{
    return field->type == FIELD_ARRAY && view_equal(name, VIEW_LIT("CC"));
}

/* A header that becomes an annotation under its own name. */
static bool
is_annotation(struct view name)
{
    return view_has_prefix(name, VIEW_LIT("x-")) && is_ascii(name) && !message_name_is_ours(name);
}

static size_t
put_named(struct making *m, const char *name, struct view value)
{
    amqp10_put_text(m->to, AMQP10_SYMBOL_8, view_str(name));
    amqp10_put_text(m->to, view_is_utf8(value) ? AMQP10_STRING_8 : AMQP10_BINARY_8, value);
    return 2;
}

/* The headers that are annotations. One behind a header that is none will come back before it. */
static size_t
put_header_annotations(struct making *m)
{
    size_t at = 0, count = 0;
    struct field field;
    struct view name;
    bool saw_other = false;

    while (table_next(m->headers, &at, &name, &field)) {
        if (!is_cc(name, &field) && !is_annotation(name)) {
            saw_other = true;
            continue;
        }
        if (saw_other)
            m->is_exact = false;
        amqp10_put_text(m->to, AMQP10_SYMBOL_8,
                        is_cc(name, &field) ? view_str(ANNOTATION_CC) : name);
        put_value(m, &field);
        count += 2;
    }
    return count;
}

/* The section is begun whatever comes; an empty one is taken back by put_sections. */
static size_t
put_annotations(struct making *m, struct view stream, const struct content *content,
                bool tells_exchange)
{
    size_t count = 0;

    if (tells_exchange)
        count += put_named(m, ANNOTATION_EXCHANGE, content->exchange);
    if (!view_equal(content->routing_key, stream))
        count += put_named(m, ANNOTATION_ROUTING_KEY, content->routing_key);
    if ((m->flags & PROP_type) != 0)
        count += put_named(m, ANNOTATION_TYPE, property(m, PROP_type));
    return count + put_header_annotations(m);
}

/* --- properties --------------------------------------------------------------------------- */

static const uint16_t unreserved_from[] = {'A', 'a', '0'};

static bool
is_unreserved(uint8_t c)
{
    static const uint8_t width[] = {26, 26, 10};

    for (unsigned i = 0; i < 3; i++)
        if ((uint8_t)(c - unreserved_from[i]) < width[i])
            return true;
    return c == '-' || c == '.' || c == '_' || c == '~';
}

static void
put_reply_to(struct making *m, struct view name)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t address[sizeof(ADDRESS_QUEUES) + 3 * UINT8_MAX];
    size_t n = sizeof(ADDRESS_QUEUES) - 1;

    memcpy(address, ADDRESS_QUEUES, n);
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];

        if (is_unreserved(c)) {
            address[n++] = c;
        } else {
            address[n++] = '%';
            address[n++] = (uint8_t)digits[c >> 4];
            address[n++] = (uint8_t)digits[c & 15];
        }
    }
    amqp10_put_text(m->to, AMQP10_STRING_8, view_of(address, n));
}

/* A property that 1.0 wants as text of that kind. */
static void
put_text(struct making *m, enum property which, enum amqp10_code kind)
{
    struct view value = property(m, which);
    bool fits = kind == AMQP10_BINARY_8 ||
                (kind == AMQP10_SYMBOL_8 ? is_ascii(value) : view_is_utf8(value));

    if (fits) {
        amqp10_put_text(m->to, kind, value);
    } else {
        m->is_exact = false;
        buf_u8(m->to, AMQP10_NULL);
    }
}

/* The fields of section properties, in its order; 0: one that AMQP 0-9-1 does not know. */
static const struct {
    uint16_t property;
    uint8_t kind; /* 0: written by a function of its own */
} fields[] = {
    {PROP_message_id, AMQP10_STRING_8},
    {PROP_user_id, AMQP10_BINARY_8},
    {0, 0}, /* to */
    {0, 0}, /* subject */
    {PROP_reply_to, 0},
    {PROP_correlation_id, AMQP10_STRING_8},
    {PROP_content_type, AMQP10_SYMBOL_8},
    {PROP_content_encoding, AMQP10_SYMBOL_8},
    {0, 0}, /* absolute-expiry-time */
    {PROP_timestamp, 0},
    {PROP_app_id, AMQP10_STRING_8}, /* group-id */
};

enum { FIELDS = sizeof(fields) / sizeof(*fields) };

static void
put_properties(struct making *m)
{
    size_t count = FIELDS, begun;

    while (count > 0 && (m->flags & fields[count - 1].property) == 0)
        count--;
    if (count == 0)
        return;
    begin_section(m->to, SECTION_PROPERTIES);
    begun = amqp10_begin(m->to, AMQP10_LIST_32);
    for (size_t i = 0; i < count; i++) {
        if ((m->flags & fields[i].property) == 0)
            buf_u8(m->to, AMQP10_NULL);
        else if (fields[i].property == PROP_reply_to)
            put_reply_to(m, property(m, PROP_reply_to));
        else if (fields[i].property == PROP_timestamp)
            put_seconds(m, property(m, PROP_timestamp));
        else
            put_text(m, (enum property)fields[i].property, (enum amqp10_code)fields[i].kind);
    }
    amqp10_end(m->to, begun, count);
}

/* --- application properties --------------------------------------------------------------- */

/* Simple values only: [AMQP 1.0 §3.2.5] */
static bool
is_simple(const struct field *field)
{
    return field->type != FIELD_ARRAY && field->type != FIELD_TABLE && field->type != FIELD_DECIMAL;
}

static void
put_application(struct making *m)
{
    size_t at = 0, count = 0, begun, start = m->to->len;
    struct field field;
    struct view name;

    if ((m->flags & PROP_headers) == 0)
        return;
    begin_section(m->to, SECTION_APPLICATION);
    begun = amqp10_begin(m->to, AMQP10_MAP_32);
    while (table_next(m->headers, &at, &name, &field)) {
        if (is_cc(name, &field) || is_annotation(name))
            continue;
        if (!is_simple(&field) || !view_is_utf8(name) || message_name_is_ours(name)) {
            m->is_exact = false;
            continue;
        }
        amqp10_put_text(m->to, AMQP10_STRING_8, name);
        put_value(m, &field);
        count += 2;
    }
    amqp10_end(m->to, begun, count);
    if (count == 0 && m->headers.len > 0 && !m->to->bad)
        m->to->len = start; /* all of them are annotations, or come another way */
}

/* --- all ---------------------------------------------------------------------------------- */

static void
put_sections(struct making *m, struct view stream, const struct content *content,
             bool tells_exchange, bool with_original)
{
    size_t start, begun, count = 0;

    put_header(m);
    start = m->to->len;
    begin_section(m->to, SECTION_ANNOTATIONS);
    begun = amqp10_begin(m->to, AMQP10_MAP_32);
    count = put_annotations(m, stream, content, tells_exchange);
    if (with_original) {
        amqp10_put_text(m->to, AMQP10_SYMBOL_8, view_str(ANNOTATION_ORIGINAL));
        amqp10_put_text(m->to, AMQP10_BINARY_8, m->properties);
        count += 2;
    }
    amqp10_end(m->to, begun, count);
    if (count == 0 && !m->to->bad)
        m->to->len = start;
    put_properties(m);
    put_application(m);
}

static void
find_filter(struct stream_encoder *e, const struct making *m)
{
    struct field field;

    e->has_filter = m->headers.len > 0 &&
                    table_find(m->headers, view_str(ANNOTATION_FILTER), &field) &&
                    field.type == FIELD_LONGSTR && is_string(field.bytes);
    if (e->has_filter)
        e->filter = field.bytes;
}

static bool
make(struct stream_encoder *e, const struct content *content)
{
    struct making m = {.to = &e->sections, .properties = content->properties, .is_exact = true};

    split(&m);
    m.headers = property(&m, PROP_headers);
    if ((m.flags & PROP_cluster_id) != 0)
        m.is_exact = false;
    buf_clear(m.to);
    put_sections(&m, e->stream, content, e->tells_exchange, false);
    if (!m.is_exact && !m.to->bad) {
        buf_clear(m.to);
        put_sections(&m, e->stream, content, e->tells_exchange, true);
    }
    if (buf_reserve(m.to, 1) == NULL)
        return false;
    find_filter(e, &m);
    return true;
}

static bool
is_as_before(const struct stream_encoder *e, const struct content *c, bool tells_exchange)
{
    const uint8_t *key = e->key.at;
    size_t n = e->exchange_len, k = e->routing_key_len;

    return key != NULL && e->tells_exchange == tells_exchange && c->exchange.len == n &&
           c->routing_key.len == k && e->key.len == n + k + c->properties.len &&
           view_equal(c->properties, view_of(key + n + k, c->properties.len)) &&
           view_equal(c->routing_key, view_of(key + n, k)) &&
           view_equal(c->exchange, view_of(key, n));
}

/* Remembers what the sections are made of, in octets of our own. */
static bool
remember(struct stream_encoder *e, const struct content *c, bool tells_exchange,
         struct content *out)
{
    size_t n = c->exchange.len, k = c->routing_key.len;

    buf_clear(&e->key);
    if (buf_reserve(&e->key, n + k + c->properties.len + 1) == NULL)
        return false;
    buf_append(&e->key, c->exchange.at, n);
    buf_append(&e->key, c->routing_key.at, k);
    buf_append(&e->key, c->properties.at, c->properties.len);
    e->exchange_len = n;
    e->routing_key_len = k;
    e->tells_exchange = tells_exchange;
    out->exchange = view_of(e->key.at, n);
    out->routing_key = view_of(e->key.at + n, k);
    out->properties = view_of(e->key.at + n + k, c->properties.len);
    return true;
}

struct view
stream_encode(struct stream_encoder *e, const struct content *content, bool tells_exchange,
              struct view *out_filter)
{
    struct content own = {.body = content->body};

    if (!is_as_before(e, content, tells_exchange) &&
        (!remember(e, content, tells_exchange, &own) || !make(e, &own))) {
        buf_fini(&e->key); /* nothing is remembered */
        buf_init(&e->key, SECTIONS_MAX);
        return view_of(NULL, 0);
    }
    *out_filter = e->has_filter ? e->filter : view_of(NULL, 0);
    return buf_view(&e->sections);
}
