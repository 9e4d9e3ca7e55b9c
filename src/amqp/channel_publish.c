/*
 * channel_publish: from basic.publish to the commands that carry the message to its queues.
 *
 * Happy path: method, header and one body frame stand one behind the other in the input. They are
 * taken together, routed through the worker's route cache and handed to the target queues where
 * they stand: nothing is copied unless a queue has to keep it. Otherwise the method's strings are
 * kept in channel.in, the header's properties join them, and the body grows in a blob as its frames
 * come, never ahead of them.
 *
 * What may refuse a message is asked before anything is sent: size, user-id, reply-to, CC and BCC,
 * exchange.
 */
#include <assert.h>

#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/wire/cursor.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { FIRST_BODY_BYTES = 64 * 1024, EXTRA_KEYS_MAX = 1024, AHEAD = 8 };

/* --- routing --------------------------------------------------------------------------- */

/* One command per home: the targets stand ordered by their worker. Returns how many. */
static unsigned
count_homes(const struct channel *ch, const struct route *route)
{
    unsigned homes = 0;

    for (size_t i = 0; i < route->count; i++)
        homes += i == 0 || channel_queue_worker(ch, &route->targets[i]) !=
                               channel_queue_worker(ch, &route->targets[i - 1]);
    return homes;
}

static void
send_to_homes(struct channel *ch, const struct route *route, const struct content *content,
              uint64_t confirm)
{
    struct cmd_publish cmd = {
        .head.kind = CMD_publish,
        .channel = confirm != 0 ? ch->id : 0,
        .confirm = confirm,
        .content = *content,
    };

    for (size_t from = 0, to; from < route->count; from = to) {
        unsigned worker = channel_queue_worker(ch, &route->targets[from]);

        for (to = from + 1; to < route->count; to++)
            if (channel_queue_worker(ch, &route->targets[to]) != worker)
                break;
        cmd.targets = view_of(&route->targets[from], (to - from) * sizeof(struct queue_ref));
        post_send(ch->conn->amqp->post, worker, &cmd.head);
    }
}

static void
return_to_sender(struct channel *ch, const struct content *content)
{
    conn_send_content(ch->conn, ch->number, METHOD_basic_return,
                      &(struct basic_return){
                          .reply_code = NO_ROUTE,
                          .reply_text = VIEW_LIT("NO_ROUTE"),
                          .exchange = content->exchange,
                          .routing_key = content->routing_key,
                      },
                      content);
}

/* The number under which the homes confirm; 0 when nobody wants to know. */
static uint64_t
begin_confirm(struct channel *ch, unsigned homes)
{
    switch ((enum channel_mode)ch->mode) {
    case MODE_PLAIN:
        break;
    case MODE_CONFIRM:
        return confirms_begin(ch, homes);
    case MODE_TX:
        ch->commit_due += homes;
        return 1;
    }
    return 0;
}

static void
send_routed(struct channel *ch, const struct route *route, const struct content *content,
            bool mandatory)
{
    unsigned homes = route->count < 2 ? (unsigned)route->count : count_homes(ch, route);

    if (homes == 0 && mandatory)
        return_to_sender(ch, content);
    send_to_homes(ch, route, content, begin_confirm(ch, homes));
}

/* Where a message goes, if it may. What a transaction commits was asked for when it came. */
static const struct route *
find_route(struct channel *ch, const struct content *content, struct err *err)
{
    struct conn *c = ch->conn;

    return route_cache_find(c->amqp->routes, c->vhost, ch->wait == WAIT_COMMIT ? NULL : &c->permit,
                            content->exchange, content->routing_key, content->properties, err);
}

/* --- CC and BCC ------------------------------------------------------------------------ */

/* The first is the routing key. */
struct extra_keys {
    struct view keys[1 + EXTRA_KEYS_MAX];
    size_t n;
};

static bool
add_keys(struct extra_keys *extra, struct view headers, struct view name, bool *out_found,
         struct err *err)
{
    struct field field, key;

    *out_found = table_find(headers, name, &field);
    if (!*out_found)
        return true;
    if (field.type != FIELD_ARRAY)
        return err_set(err, PRECONDITION_FAILED,
                       "invalid message: {unacceptable_type_in_header,\"" VIEW_FMT "\",%s}",
                       VIEW_ARG(name), field_type_name(field.type));
    for (size_t at = 0; array_next(field.bytes, &at, &key);) {
        if (key.type != FIELD_LONGSTR || key.bytes.len > 255 || extra->n == 1 + EXTRA_KEYS_MAX)
            return err_set(err, PRECONDITION_FAILED,
                           "invalid message: " VIEW_FMT " holds what is no routing key",
                           VIEW_ARG(name));
        extra->keys[extra->n++] = key.bytes;
    }
    return true;
}

/* BCC is for routing only: the queues get the message without it. */
static void
strip_bcc(struct amqp *amqp, struct content *content, struct view headers)
{
    struct view bcc = VIEW_LIT("BCC"), rest;
    struct buf table, props;

    buf_init(&table, SIZE_MAX / 2);
    buf_init(&props, SIZE_MAX / 2);
    table_copy_without(&table, headers, &bcc, 1);
    rest = buf_view(&table);
    props_copy_with(&props, content->properties, PROP_headers, &rest);
    buf_clear(&amqp->scratch);
    buf_append(&amqp->scratch, props.at, props.len);
    content->properties = buf_view(&amqp->scratch);
    buf_fini(&table);
    buf_fini(&props);
}

/* Whether CC or BCC are there; then routes by all keys and sends. */
static bool
send_by_extra_keys(struct channel *ch, struct content *content, struct view headers, bool mandatory,
                   bool *out_done, struct err *err)
{
    struct extra_keys extra; /* large: only its count is set up */
    struct route route;
    bool has_cc, has_bcc, ok;

    extra.keys[0] = content->routing_key;
    extra.n = 1;
    if (!add_keys(&extra, headers, VIEW_LIT("CC"), &has_cc, err) ||
        !add_keys(&extra, headers, VIEW_LIT("BCC"), &has_bcc, err))
        return false;
    *out_done = has_cc || has_bcc;
    if (!*out_done)
        return true;
    if (ch->wait != WAIT_COMMIT &&
        !access_publish(ch->conn, content->exchange, extra.keys, extra.n, err))
        return false;
    route_init(&route);
    ok = topology_route(ch->conn->vhost, content->exchange, content->routing_key, extra.keys + 1,
                        extra.n - 1, content->properties, &route, err);
    if (ok) {
        if (has_bcc && route.n_own < route.count) /* otherwise it is needed later: delay.h */
            strip_bcc(ch->conn->amqp, content, headers);
        send_routed(ch, &route, content, mandatory);
    }
    route_fini(&route);
    return ok;
}

/* --- checks ---------------------------------------------------------------------------- */

static bool
check_user_id(struct channel *ch, const struct content *content, struct err *err)
{
    struct view user_id;

    return !props_find(content->properties, PROP_user_id, &user_id) ||
           access_user_id(ch->conn, user_id, err);
}

static bool
check_header(struct channel *ch, const struct content_header *header, struct err *err)
{
    uint64_t most =
        atomic_load_explicit(&ch->conn->amqp->settings->max_message_size, memory_order_relaxed);

    if (header->body_size <= most)
        return true;
    return err_set(err, PRECONDITION_FAILED,
                   "message size %llu is larger than configured max size %llu",
                   (unsigned long long)header->body_size, (unsigned long long)most);
}

/* Whether the key is the address of a channel; then it goes there. */
static bool
send_to_address(struct channel *ch, const struct content *content, bool *out_done, struct err *err)
{
    uint64_t to, secret;

    *out_done = content->exchange.len == 0 && direct_parse(content->routing_key, &to, &secret);
    if (!*out_done)
        return true;
    if (ch->wait != WAIT_COMMIT &&
        !access_publish(ch->conn, content->exchange, &content->routing_key, 1, err))
        return false;
    direct_send(ch, to, secret, content);
    begin_confirm(ch, 0);
    return true;
}

bool
channel_route_and_send(struct channel *ch, const struct content *content, bool mandatory,
                       struct err *err)
{
    struct content own = *content;
    struct view headers = {0};
    const struct route *route;
    bool done = false;

    if (props_find(own.properties, PROP_headers, &headers) &&
        !send_by_extra_keys(ch, &own, headers, mandatory, &done, err))
        return false;
    if (!done && !send_to_address(ch, &own, &done, err))
        return false;
    if (done)
        return true;
    route = find_route(ch, &own, err);
    if (route == NULL)
        return false;
    send_routed(ch, route, &own, mandatory);
    return true;
}

/* In a transaction a publish is only checked now, and kept. */
static bool
keep_for_commit(struct channel *ch, const struct content *content, bool mandatory, struct err *err)
{
    struct view headers = {0};
    struct extra_keys extra; /* large: only its count is set up */
    bool has;

    extra.keys[0] = content->routing_key;
    extra.n = 1;
    if (props_find(content->properties, PROP_headers, &headers) &&
        (!add_keys(&extra, headers, VIEW_LIT("CC"), &has, err) ||
         !add_keys(&extra, headers, VIEW_LIT("BCC"), &has, err)))
        return false;
    if (extra.n > 1 && !access_publish(ch->conn, content->exchange, extra.keys, extra.n, err))
        return false;
    if (find_route(ch, content, err) == NULL)
        return false;
    return tx_publish(ch, content, mandatory, err);
}

/* A whole message has come. */
static bool
publish(struct channel *ch, struct content *content, bool mandatory, struct err *err)
{
    struct conn *c = ch->conn;
    enum { LOOK = PROP_reply_to | PROP_user_id | PROP_expiration };

    if (__builtin_expect(!c->has_published, 0)) {
        c->has_published = true;
        if (c->amqp->blocked != NULL)
            conn_block_publisher(c);
    }
    if ((props_flags(content->properties) & LOOK) != 0 &&
        (!check_user_id(ch, content, err) || !content_check_expiration(content->properties, err) ||
         !direct_rewrite(ch, content, err)))
        return false;
    if (ch->mode == MODE_TX)
        return keep_for_commit(ch, content, mandatory, err);
    return channel_route_and_send(ch, content, mandatory, err);
}

/* The same with a body in the input that is worth sharing: copied once, referenced from then. */
static bool
publish_in_place(struct channel *ch, struct content *content, bool mandatory, struct err *err)
{
    bool ok;

    if (content->body.len < BLOB_MIN)
        return publish(ch, content, mandatory, err);
    content->blob = blob_new(content->body.len);
    if (content->blob == NULL)
        return err_set(err, RESOURCE_ERROR, "no memory for a body of %zu octets",
                       content->body.len);
    memcpy(content->blob->bytes, content->body.at, content->body.len);
    content->blob->len = content->body.len;
    content->body.at = content->blob->bytes;
    ok = publish(ch, content, mandatory, err);
    blob_unref(&content->blob);
    return ok;
}

/* --- content in pieces ----------------------------------------------------------------- */

void
content_in_reset(struct content_in *in)
{
    free(in->strings);
    blob_unref(&in->body);
    *in = (struct content_in){.state = CONTENT_NONE};
}

static void
begin_content(struct channel *ch, const struct basic_publish *m)
{
    struct content_in *in = &ch->in;

    in->state = CONTENT_HEADER;
    in->mandatory = m->mandatory;
    in->exchange_len = (uint8_t)m->exchange.len;
    in->routing_key_len = (uint8_t)m->routing_key.len;
    in->strings = mem_alloc(m->exchange.len + m->routing_key.len);
    if (m->exchange.len > 0)
        memcpy(in->strings, m->exchange.at, m->exchange.len);
    if (m->routing_key.len > 0)
        memcpy(in->strings + m->exchange.len, m->routing_key.at, m->routing_key.len);
}

static bool
finish_content(struct channel *ch, struct err *err)
{
    struct content_in in = ch->in;
    const uint8_t *at = in.strings;
    struct content content = {.blob = in.body};
    bool ok;

    ch->in = (struct content_in){.state = CONTENT_NONE};
    content.exchange = view_of(at, in.exchange_len);
    content.routing_key = view_of(at + in.exchange_len, in.routing_key_len);
    content.properties = view_of(at + in.exchange_len + in.routing_key_len, in.properties_len);
    if (in.body != NULL)
        content.body = view_of(in.body->bytes, in.body->len);
    ok = publish(ch, &content, in.mandatory, err);
    content_in_reset(&in);
    return ok;
}

static bool
take_header(struct channel *ch, const struct frame *f, struct err *err)
{
    struct content_in *in = &ch->in;
    struct content_header header;
    size_t strings = (size_t)in->exchange_len + in->routing_key_len;
    uint8_t *grown;

    if (f->type != FRAME_HEADER)
        return err_set(
            err, UNEXPECTED_FRAME,
            "expected content header for class 60, got non content header frame instead");
    if (!content_header_decode(f->payload, &header, err) || !check_header(ch, &header, err))
        return false;
    grown = mem_try_resize(in->strings, strings + header.properties.len);
    if (grown == NULL)
        return err_set(err, RESOURCE_ERROR, "no memory for properties");
    memcpy(grown + strings, header.properties.at, header.properties.len);
    in->strings = grown;
    in->properties_len = (uint32_t)header.properties.len;
    in->body_size = header.body_size;
    in->state = CONTENT_BODY;
    return in->body_size > 0 || finish_content(ch, err);
}

/* Room for n octets more: doubled as the body comes, never beyond what was announced. */
static bool
grow_body(struct content_in *in, size_t n)
{
    size_t have = in->body != NULL ? in->body->len : 0;
    size_t size = in->body != NULL ? in->body->size : 0;
    struct blob *body;

    if (n <= size - have)
        return true;
    size = size * 2 > FIRST_BODY_BYTES ? size * 2 : FIRST_BODY_BYTES;
    if (size < have + n)
        size = have + n;
    if (size > in->body_size)
        size = (size_t)in->body_size;
    body = in->body == NULL ? blob_new(size) : blob_grow(in->body, size);
    if (body == NULL)
        return false;
    in->body = body;
    return true;
}

static bool
take_body(struct channel *ch, const struct frame *f, struct err *err)
{
    struct content_in *in = &ch->in;
    size_t have = in->body != NULL ? in->body->len : 0;

    if (f->type != FRAME_BODY)
        return err_set(err, UNEXPECTED_FRAME,
                       "expected content body, got non content body frame instead");
    if (f->payload.len > in->body_size - have)
        return err_set(err, FRAME_ERROR, "body of %llu octets announced, %llu have come",
                       (unsigned long long)in->body_size,
                       (unsigned long long)(have + f->payload.len));
    if (!grow_body(in, f->payload.len))
        return err_set(err, RESOURCE_ERROR, "no memory for a body of %llu octets",
                       (unsigned long long)in->body_size);
    if (f->payload.len > 0)
        memcpy(in->body->bytes + in->body->len, f->payload.at, f->payload.len);
    if (in->body != NULL)
        in->body->len += f->payload.len;
    return have + f->payload.len < in->body_size || finish_content(ch, err);
}

bool
channel_content_frame(struct channel *ch, const struct frame *f, struct err *err)
{
    bool ok = ch->in.state == CONTENT_HEADER ? take_header(ch, f, err) : take_body(ch, f, err);

    if (ok)
        return true;
    err->class_id = method_rows[METHOD_basic_publish].class_id;
    err->method_id = method_rows[METHOD_basic_publish].method_id;
    content_in_reset(&ch->in);
    return false;
}

/* --- looking ahead --------------------------------------------------------------------- */

/* Where the frame at the front ends; the end of the input, if it is not whole. */
static size_t
frame_end(struct view input)
{
    size_t size =
        input.len >= FRAME_HEAD_SIZE ? (size_t)be_u32(input.at + 3) + FRAME_OVERHEAD : SIZE_MAX;

    return size < input.len ? size : input.len;
}

/* Has the route of the publish at the front fetched, if it is one. Returns where the content behind
 * the method ends. Nothing is believed of what stands there: it is read again in its turn. */
static size_t
expect(struct conn *c, struct view input)
{
    const struct method_row *row = &method_rows[METHOD_basic_publish];
    struct cursor r = cursor_of(input);
    size_t at = frame_end(input);
    bool is_publish;
    struct view exchange, key;

    is_publish = rd_u8(&r) == FRAME_METHOD;
    rd_octets(&r, FRAME_HEAD_SIZE - 1);
    is_publish &= rd_u16(&r) == row->class_id;
    is_publish &= rd_u16(&r) == row->method_id;
    rd_u16(&r);
    exchange = rd_shortstr(&r);
    key = rd_shortstr(&r);
    if (is_publish && !r.bad)
        route_cache_expect(c->amqp->routes, c->vhost, &c->permit, exchange, key);
    while (at < input.len && (input.at[at] == FRAME_HEADER || input.at[at] == FRAME_BODY))
        at += frame_end(view_of(input.at + at, input.len - at));
    return at;
}

/* With very many keys it is the processor's wait for a route that a publish costs. So that of the
 * AHEADth message from here is asked for now, and is there when its turn comes. */
static void
look_ahead(struct conn *c)
{
    const uint8_t *end = c->rest.at + c->rest.len, *at = c->rest.at + c->rest_used;
    int n = AHEAD;

    if (c->ahead != NULL && c->ahead > at) {
        at = c->ahead;
        n = 1;
    }
    while (n-- > 0 && at < end)
        at += expect(c, view_of(at, (size_t)(end - at)));
    c->ahead = at;
}

/* --- content at once ------------------------------------------------------------------- */

/* The next whole frame of the input, if it is this channel's and of this type. */
static bool
peek(const struct channel *ch, uint8_t type, size_t from, struct frame *out, size_t *out_size)
{
    struct conn *c = ch->conn;
    struct err ignored; /* a bad frame is found again, and answered, when its turn comes */

    if (from >= c->rest.len || frame_next(view_of(c->rest.at + from, c->rest.len - from),
                                          c->frame_max, out, out_size, &ignored) != FRAME_READY)
        return false;
    return out->type == type && out->channel == ch->number;
}

bool
channel_handle_basic_publish(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_publish *m = &args->basic_publish;
    struct conn *c = ch->conn;
    struct content content = {.exchange = m->exchange, .routing_key = m->routing_key};
    struct content_header header;
    struct frame head, body;
    size_t head_size, body_size = 0;

    if (m->immediate)
        return err_set(err, NOT_IMPLEMENTED, "immediate=true");
    if (!peek(ch, FRAME_HEADER, 0, &head, &head_size)) {
        begin_content(ch, m);
        return true;
    }
    if (!content_header_decode(head.payload, &header, err)) {
        c->rest_used = head_size;
        return false;
    }
    if (header.body_size > 0) {
        if (!peek(ch, FRAME_BODY, head_size, &body, &body_size) ||
            body.payload.len != header.body_size) {
            begin_content(ch, m);
            return true;
        }
        content.body = body.payload;
    }
    c->rest_used = head_size + body_size;
    content.properties = header.properties;
    if (route_cache_is_wide(c->amqp->routes))
        look_ahead(c);
    return check_header(ch, &header, err) && publish_in_place(ch, &content, m->mandatory, err);
}
