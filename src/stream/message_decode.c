#include "lepus/stream/stream_message.h"

#include "amqp10_priv.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"
#include "message_priv.h"

enum { DECODED_MAX = 1 << 30 }; /* a header grows by less than eight times its octets */

void
stream_decoder_init(struct stream_decoder *d, struct view stream)
{
    *d = (struct stream_decoder){.stream = stream};
    buf_init(&d->sections, DECODED_MAX);
    buf_init(&d->properties, DECODED_MAX);
    buf_init(&d->headers, DECODED_MAX);
    buf_init(&d->scratch, DECODED_MAX);
}

void
stream_decoder_fini(struct stream_decoder *d)
{
    buf_fini(&d->sections);
    buf_fini(&d->properties);
    buf_fini(&d->headers);
    buf_fini(&d->scratch);
}

/* The properties of one message as they are found. Views are into the sections, or into text. */
struct found {
    struct view content_type, content_encoding, correlation_id, reply_to, expiration, message_id;
    struct view type, user_id, app_id; /* at NULL: absent */
    uint8_t delivery_mode, priority;
    uint64_t timestamp;
    uint16_t flags; /* of the numbers, and of headers */
    struct view original;
    char expiration_digits[24], message_id_text[64];
    uint8_t reply_to_text[256];
};

/* --- headers ------------------------------------------------------------------------------ */

static bool put_field(struct stream_decoder *d, const struct amqp10_value *v, unsigned depth);

static void
put_octets(struct buf *to, enum field_type type, struct view octets)
{
    buf_u8(to, (uint8_t)type);
    buf_append(to, octets.at, octets.len);
}

static void
put_long_text(struct buf *to, enum field_type type, struct view text)
{
    buf_u8(to, (uint8_t)type);
    buf_u32(to, (uint32_t)text.len);
    buf_append(to, text.at, text.len);
}

static void
put_narrow(struct buf *to, enum field_type type, int64_t value)
{
    buf_u8(to, (uint8_t)type);
    if (type == FIELD_U32 || type == FIELD_I32)
        buf_u32(to, (uint32_t)value);
    else
        buf_u64(to, (uint64_t)value);
}

static bool
put_name(struct buf *to, struct view name)
{
    if (name.len > UINT8_MAX)
        return false;
    buf_u8(to, (uint8_t)name.len);
    buf_append(to, name.at, name.len);
    return true;
}

/* Name and value; what has no counterpart leaves nothing behind. */
static bool
put_named(struct stream_decoder *d, struct view name, const struct amqp10_value *v, unsigned depth)
{
    size_t start = d->headers.len;

    if (put_name(&d->headers, name) && put_field(d, v, depth))
        return true;
    d->headers.len = start;
    return false;
}

static void
put_list(struct stream_decoder *d, const struct amqp10_value *v, unsigned depth)
{
    struct cursor r = cursor_of(v->octets);
    struct amqp10_value element;
    size_t begun;

    buf_u8(&d->headers, FIELD_ARRAY);
    begun = d->headers.len;
    buf_u32(&d->headers, 0);
    while (r.left > 0) {
        amqp10_read(&r, &element);
        if (r.bad)
            break;
        put_field(d, &element, depth);
    }
    table_end(&d->headers, begun);
}

static void
put_map(struct stream_decoder *d, const struct amqp10_value *v, unsigned depth)
{
    struct cursor r = cursor_of(v->octets);
    struct amqp10_value key, element;
    size_t begun;

    buf_u8(&d->headers, FIELD_TABLE);
    begun = d->headers.len;
    buf_u32(&d->headers, 0);
    while (r.left > 0) {
        amqp10_read(&r, &key);
        amqp10_read(&r, &element);
        if (r.bad)
            break;
        if (amqp10_is_text(&key))
            put_named(d, key.octets, &element, depth);
    }
    table_end(&d->headers, begun);
}

/* ms to s; before 1970 there is nothing. */
static uint64_t
seconds_of(const struct amqp10_value *v)
{
    int64_t ms = (int64_t)be_u64(v->octets.at);

    return ms > 0 ? (uint64_t)ms / 1000 : 0;
}

static size_t
uuid_text(struct view uuid, char *out, size_t size)
{
    const uint8_t *u = uuid.at;

    return (size_t)snprintf(out, size,
                            "urn:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                            "%02x%02x%02x%02x%02x%02x",
                            u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10],
                            u[11], u[12], u[13], u[14], u[15]);
}

static bool
put_field(struct stream_decoder *d, const struct amqp10_value *v, unsigned depth)
{
    struct buf *to = &d->headers;
    char text[64];

    switch (v->code) {
    case AMQP10_NULL:
        buf_u8(to, FIELD_VOID);
        return true;
    case AMQP10_TRUE:
    case AMQP10_FALSE:
        buf_u8(to, FIELD_BOOL);
        buf_u8(to, v->code == AMQP10_TRUE);
        return true;
    case AMQP10_BOOLEAN:
        buf_u8(to, FIELD_BOOL);
        buf_u8(to, v->octets.at[0] != 0);
        return true;
    case AMQP10_UBYTE:
        put_octets(to, FIELD_U8, v->octets);
        return true;
    case AMQP10_BYTE:
        put_octets(to, FIELD_I8, v->octets);
        return true;
    case AMQP10_USHORT:
        put_octets(to, FIELD_U16, v->octets);
        return true;
    case AMQP10_SHORT:
        put_octets(to, FIELD_I16, v->octets);
        return true;
    case AMQP10_UINT_0:
        put_narrow(to, FIELD_U32, 0);
        return true;
    case AMQP10_UINT_SMALL:
        put_narrow(to, FIELD_U32, v->octets.at[0]);
        return true;
    case AMQP10_UINT:
        put_octets(to, FIELD_U32, v->octets);
        return true;
    case AMQP10_ULONG_0:
        put_narrow(to, FIELD_I64, 0);
        return true;
    case AMQP10_ULONG_SMALL:
        put_narrow(to, FIELD_I64, v->octets.at[0]);
        return true;
    case AMQP10_ULONG:
    case AMQP10_LONG:
        put_octets(to, FIELD_I64, v->octets);
        return true;
    case AMQP10_LONG_SMALL:
        put_narrow(to, FIELD_I64, (int8_t)v->octets.at[0]);
        return true;
    case AMQP10_INT_SMALL:
        put_narrow(to, FIELD_I32, (int8_t)v->octets.at[0]);
        return true;
    case AMQP10_INT:
    case AMQP10_CHAR:
        put_octets(to, FIELD_I32, v->octets);
        return true;
    case AMQP10_FLOAT:
        put_octets(to, FIELD_FLOAT, v->octets);
        return true;
    case AMQP10_DOUBLE:
        put_octets(to, FIELD_DOUBLE, v->octets);
        return true;
    case AMQP10_TIMESTAMP:
        buf_u8(to, FIELD_TIMESTAMP);
        buf_u64(to, seconds_of(v));
        return true;
    case AMQP10_UUID:
        put_long_text(to, FIELD_LONGSTR, view_of(text, uuid_text(v->octets, text, sizeof(text))));
        return true;
    }
    if (amqp10_is_text(v)) {
        /* RabbitMQ gives binaries as strings; those that were published as x come back as x. */
        put_long_text(to, amqp10_is_binary(v) && !d->is_native ? FIELD_BYTES : FIELD_LONGSTR,
                      v->octets);
        return true;
    }
    if (depth >= TABLE_DEPTH_MAX)
        return false;
    if (amqp10_is_list(v))
        put_list(d, v, depth + 1);
    else if (amqp10_is_map(v))
        put_map(d, v, depth + 1);
    else
        return false; /* decimals, arrays, what is not invented yet */
    return true;
}

/* --- the sections ------------------------------------------------------------------------- */

static struct view
text_of(const struct amqp10_value *v)
{
    return amqp10_is_text(v) && v->octets.len <= UINT8_MAX ? v->octets : view_of(NULL, 0);
}

static void
read_header(struct found *f, const struct amqp10_value *list)
{
    struct cursor r = cursor_of(list->octets);
    struct amqp10_value v;
    uint64_t number;

    for (uint32_t i = 0; i < list->count && r.left > 0; i++) {
        amqp10_read(&r, &v);
        if (r.bad)
            return;
        if (i == 0 && v.code != AMQP10_NULL) {
            f->flags |= PROP_delivery_mode;
            f->delivery_mode =
                v.code == AMQP10_TRUE || (v.code == AMQP10_BOOLEAN && v.octets.at[0] != 0) ? 2 : 1;
        } else if (i == 1 && amqp10_unsigned(&v, &number)) {
            f->flags |= PROP_priority;
            f->priority = (uint8_t)number;
        } else if (i == 2 && amqp10_unsigned(&v, &number)) {
            f->expiration =
                view_of(f->expiration_digits,
                        (size_t)snprintf(f->expiration_digits, sizeof(f->expiration_digits), "%llu",
                                         (unsigned long long)number));
        }
    }
}

static void
read_annotation(struct stream_decoder *d, struct found *f, struct view key,
                const struct amqp10_value *v)
{
    if (!view_has_prefix(key, VIEW_LIT("x-")))
        return;
    if (view_equal(key, view_str(ANNOTATION_EXCHANGE))) {
        d->exchange = text_of(v);
        return;
    }
    if (view_equal(key, view_str(ANNOTATION_ROUTING_KEY))) {
        d->routing_key = text_of(v);
        return;
    }
    if (view_equal(key, view_str(ANNOTATION_TYPE))) {
        f->type = text_of(v);
        return;
    }
    if (view_equal(key, view_str(ANNOTATION_ORIGINAL))) {
        if (!d->is_native && amqp10_is_binary(v) && props_check(v->octets))
            f->original = v->octets;
        return;
    }
    if (view_equal(key, view_str(ANNOTATION_CC)))
        key = VIEW_LIT("CC");
    if (view_equal(key, view_str(ANNOTATION_FILTER)) && amqp10_is_text(v) && !amqp10_is_binary(v))
        d->filter = v->octets;
    if (put_named(d, key, v, 1))
        f->flags |= PROP_headers;
}

static void
read_annotations(struct stream_decoder *d, struct found *f, const struct amqp10_value *map)
{
    struct cursor r = cursor_of(map->octets);
    struct amqp10_value key, v;

    while (r.left > 0) {
        amqp10_read(&r, &key);
        amqp10_read(&r, &v);
        if (r.bad)
            return;
        if (amqp10_is_text(&key))
            read_annotation(d, f, key.octets, &v);
    }
}

static unsigned
hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (unsigned)c - 'a' + 10 : 16;
}

/* Without /queues/ and percent signs, when it is such an address and fits. */
static struct view
queue_of(struct found *f, struct view address)
{
    size_t n = 0, at = sizeof(ADDRESS_QUEUES) - 1;

    if (!view_has_prefix(address, view_str(ADDRESS_QUEUES)))
        return address.len <= UINT8_MAX ? address : view_of(NULL, 0);
    while (at < address.len && n < UINT8_MAX) {
        uint8_t c = address.at[at++];

        if (c == '%' && address.len - at >= 2 && hex(address.at[at]) < 16 &&
            hex(address.at[at + 1]) < 16) {
            c = (uint8_t)(hex(address.at[at]) << 4 | hex(address.at[at + 1]));
            at += 2;
        }
        f->reply_to_text[n++] = c;
    }
    return at == address.len ? view_of(f->reply_to_text, n) : view_of(NULL, 0);
}

/* Ids are numbers and UUIDs as well. */
static struct view
id_of(struct found *f, const struct amqp10_value *v)
{
    char *text = f->message_id_text;
    uint64_t number;

    if (v->code == AMQP10_UUID)
        return view_of(text, uuid_text(v->octets, text, sizeof(f->message_id_text)));
    if (amqp10_unsigned(v, &number))
        return view_of(text, (size_t)snprintf(text, sizeof(f->message_id_text), "%llu",
                                              (unsigned long long)number));
    return text_of(v);
}

/* An id that is a number or a UUID, in octets of the decoder's. */
static struct view
keep_id(struct stream_decoder *d, const struct amqp10_value *v)
{
    struct found other;
    struct view id = id_of(&other, v);

    buf_clear(&d->scratch);
    buf_append(&d->scratch, id.at, id.len);
    return id.len > 0 ? buf_view(&d->scratch) : view_of(NULL, 0);
}

static void
read_properties(struct stream_decoder *d, struct found *f, const struct amqp10_value *list)
{
    struct cursor r = cursor_of(list->octets);
    struct amqp10_value v;

    for (uint32_t i = 0; i < list->count && r.left > 0; i++) {
        amqp10_read(&r, &v);
        if (r.bad)
            return;
        switch (i) {
        case 0:
            f->message_id = id_of(f, &v);
            break;
        case 1:
            f->user_id = text_of(&v);
            break;
        case 4:
            if (amqp10_is_text(&v))
                f->reply_to = queue_of(f, v.octets);
            break;
        case 5:
            f->correlation_id = text_of(&v);
            if (f->correlation_id.at == NULL)
                f->correlation_id = keep_id(d, &v);
            break;
        case 6:
            f->content_type = text_of(&v);
            break;
        case 7:
            f->content_encoding = text_of(&v);
            break;
        case 9:
            if (v.code == AMQP10_TIMESTAMP) {
                f->flags |= PROP_timestamp;
                f->timestamp = seconds_of(&v);
            }
            break;
        case 10:
            f->app_id = text_of(&v);
            break;
        }
    }
}

static void
read_application(struct stream_decoder *d, struct found *f, const struct amqp10_value *map)
{
    struct cursor r = cursor_of(map->octets);
    struct amqp10_value key, v;

    f->flags |= PROP_headers;
    while (r.left > 0) {
        amqp10_read(&r, &key);
        amqp10_read(&r, &v);
        if (r.bad)
            return;
        if (amqp10_is_text(&key))
            put_named(d, key.octets, &v, 1);
    }
}

/* --- together ----------------------------------------------------------------------------- */

static void
put_short(struct buf *to, struct view v)
{
    if (v.at == NULL)
        return;
    buf_u8(to, (uint8_t)v.len);
    buf_append(to, v.at, v.len);
}

static void
compose(struct stream_decoder *d, const struct found *f)
{
    struct buf *to = &d->properties;
    unsigned flags = f->flags;

#define FLAG(name) flags |= f->name.at != NULL ? (unsigned)PROP_##name : 0
    FLAG(content_type), FLAG(content_encoding), FLAG(correlation_id), FLAG(reply_to);
    FLAG(expiration), FLAG(message_id), FLAG(type), FLAG(user_id), FLAG(app_id);
#undef FLAG
    buf_clear(to);
    buf_u16(to, (uint16_t)flags);
    put_short(to, f->content_type);
    put_short(to, f->content_encoding);
    if ((flags & PROP_headers) != 0) {
        buf_u32(to, (uint32_t)d->headers.len);
        buf_append(to, d->headers.at, d->headers.len);
    }
    if ((flags & PROP_delivery_mode) != 0)
        buf_u8(to, f->delivery_mode);
    if ((flags & PROP_priority) != 0)
        buf_u8(to, f->priority);
    put_short(to, f->correlation_id);
    put_short(to, f->reply_to);
    put_short(to, f->expiration);
    put_short(to, f->message_id);
    if ((flags & PROP_timestamp) != 0)
        buf_u64(to, f->timestamp);
    put_short(to, f->type);
    put_short(to, f->user_id);
    put_short(to, f->app_id);
    d->told = buf_view(to);
}

/* From the decoder's own copy of the sections. A body that is not data has a type of its own. */
static void
read_sections(struct stream_decoder *d, bool is_data)
{
    struct cursor r = cursor_of(buf_view(&d->sections));
    struct found f;
    enum amqp10_section section;
    struct amqp10_value v;

    memset(&f, 0, offsetof(struct found, expiration_digits));
    buf_clear(&d->headers);
    buf_clear(&d->scratch);
    d->exchange = d->routing_key = d->filter = view_of(NULL, 0);
    while (r.left > 0 && amqp10_read_section(&r, &section, &v)) {
        if (section == SECTION_HEADER && amqp10_is_list(&v))
            read_header(&f, &v);
        else if (section == SECTION_ANNOTATIONS && amqp10_is_map(&v))
            read_annotations(d, &f, &v);
        else if (section == SECTION_PROPERTIES && amqp10_is_list(&v))
            read_properties(d, &f, &v);
        else if (section == SECTION_APPLICATION && amqp10_is_map(&v))
            read_application(d, &f, &v);
    }
    if (!is_data)
        f.type = VIEW_LIT(TYPE_AMQP10);
    if (f.original.at != NULL)
        d->told = f.original;
    else
        compose(d, &f);
}

/* Where the body starts; false when none does. */
static bool
find_body(struct view entry, size_t *out_at, enum amqp10_section *out_section)
{
    struct cursor r = cursor_of(entry);
    struct amqp10_value v;

    for (;;) {
        *out_at = entry.len - r.left;
        if (r.left == 0 || !amqp10_read_section(&r, out_section, &v))
            return false;
        if (*out_section >= SECTION_DATA && *out_section <= SECTION_VALUE)
            return true;
        if (*out_section == SECTION_FOOTER)
            return false;
    }
}

/* What several data sections hold, one after the other. */
static struct view
join(struct stream_decoder *d, struct view body)
{
    struct cursor r = cursor_of(body);
    enum amqp10_section section;
    struct amqp10_value v;

    buf_clear(&d->scratch);
    while (r.left > 0 && amqp10_read_section(&r, &section, &v) && section == SECTION_DATA)
        buf_append(&d->scratch, v.octets.at, v.octets.len);
    return buf_view(&d->scratch);
}

/* The body of one data section that ends where the entry does: what we write, and most others. */
static bool
is_one_data(struct view body, struct view *out)
{
    if (body.len < 5 || body.at[0] != 0 || body.at[1] != AMQP10_ULONG_SMALL ||
        body.at[2] != SECTION_DATA)
        return false;
    if (body.at[3] == AMQP10_BINARY_8 && body.len - 5 == body.at[4]) {
        *out = view_of(body.at + 5, body.len - 5);
        return true;
    }
    if (body.at[3] == AMQP10_BINARY_32 && body.len >= 8 && body.len - 8 == be_u32(body.at + 4)) {
        *out = view_of(body.at + 8, body.len - 8);
        return true;
    }
    return false;
}

static enum stream_decoded
give_whole(struct stream_decoder *d, struct view entry, struct content *out)
{
    static const uint8_t none[2];

    *out = (struct content){.routing_key = d->stream, .body = entry};
    out->exchange = view_of("", 0);
    out->properties = view_of(none, sizeof(none));
    return STREAM_NO_MESSAGE;
}

static void
fill(const struct stream_decoder *d, struct view exchange, struct content *out,
     struct view *out_filter)
{
    out->exchange = d->exchange.at != NULL ? d->exchange : exchange;
    out->routing_key = d->routing_key.at != NULL ? d->routing_key : d->stream;
    out->properties = d->told;
    out->blob = NULL;
    *out_filter = d->filter;
}

/* What was read of an entry is not all of it. */
static enum stream_decoded
forget(struct stream_decoder *d)
{
    d->told = view_of(NULL, 0);
    return STREAM_NO_MEMORY;
}

enum stream_decoded
stream_decode(struct stream_decoder *d, struct view entry, struct view exchange, bool is_native,
              struct content *out, struct view *out_filter)
{
    size_t n = d->sections.len, at;
    enum amqp10_section section;

    /* As the last one's, up to a body of plain data? A message that is read from its start says
     * the same by the same octets. */
    if (d->told.at != NULL && d->is_native == is_native && entry.len > n &&
        memcmp(entry.at, d->sections.at, n) == 0 &&
        is_one_data(view_of(entry.at + n, entry.len - n), &out->body)) {
        fill(d, exchange, out, out_filter);
        return STREAM_DECODED;
    }
    *out_filter = view_of(NULL, 0);
    d->told = view_of(NULL, 0);
    if (!find_body(entry, &at, &section) || at > DECODED_MAX / 8)
        return give_whole(d, entry, out);
    d->is_native = is_native;
    buf_clear(&d->sections);
    if (buf_reserve(&d->sections, at + 1) == NULL)
        return forget(d);
    buf_append(&d->sections, entry.at, at);
    read_sections(d, section == SECTION_DATA);
    if (d->properties.bad || d->headers.bad || d->scratch.bad)
        return forget(d);
    fill(d, exchange, out, out_filter);
    if (section != SECTION_DATA) {
        out->body = view_of(entry.at + at, entry.len - at);
        d->told = view_of(NULL, 0); /* the type is this body's */
    } else if (!is_one_data(view_of(entry.at + at, entry.len - at), &out->body)) {
        out->body = join(d, view_of(entry.at + at, entry.len - at));
        if (d->scratch.bad)
            return forget(d);
    }
    return STREAM_DECODED;
}
