#include "lepus/broker/message.h"

#include <assert.h>

#include "lepus/base/mem.h"
#include "lepus/wire/props.h"

static uint8_t *
put(uint8_t *to, struct view v)
{
    if (v.len > 0)
        memcpy(to, v.at, v.len);
    return to + v.len;
}

bool
content_is_persistent(const struct content *content)
{
    struct view mode;

    return props_find(content->properties, PROP_delivery_mode, &mode) && mode.at[0] == 2;
}

#define EXPIRATION_MAX_MS UINT64_C(315360000000)

/* A sign and digits in front; what they say, UINT64_MAX for whatever is larger. */
struct integer {
    bool is_one, is_negative;
    struct view digits; /* without leading zeros; "0" at least */
    uint64_t value;
    size_t len; /* all that belongs to it */
};

static struct integer
read_integer(struct view from)
{
    struct integer n = {0};
    size_t at = from.len > 0 && (from.at[0] == '-' || from.at[0] == '+') ? 1 : 0, first = at;

    for (; at < from.len && from.at[at] >= '0' && from.at[at] <= '9'; at++)
        n.value = n.value > UINT64_MAX / 10 - 1 ? UINT64_MAX
                                                : n.value * 10 + (uint64_t)(from.at[at] - '0');
    n.is_one = at > first;
    n.len = at;
    while (first + 1 < at && from.at[first] == '0')
        first++;
    n.digits = view_of(from.at + first, at - first);
    n.is_negative = n.is_one && from.at[0] == '-' && n.value > 0;
    return n;
}

bool
content_check_expiration(struct view properties, struct err *err)
{
    struct view text;
    struct integer n;

    if (!props_find(properties, PROP_expiration, &text))
        return true;
    n = read_integer(text);
    if (!n.is_one)
        return err_set(err, PRECONDITION_FAILED, "invalid expiration '" VIEW_FMT "': no_integer",
                       VIEW_ARG(text));
    if (n.len < text.len)
        return err_set(err, PRECONDITION_FAILED,
                       "invalid expiration '" VIEW_FMT "': {leftover_string,\"" VIEW_FMT "\"}",
                       VIEW_ARG(text), (int)(text.len - n.len), (const char *)text.at + n.len);
    if (!n.is_negative && n.value <= EXPIRATION_MAX_MS)
        return true;
    return err_set(err, PRECONDITION_FAILED, "invalid expiration '" VIEW_FMT "': {%s" VIEW_FMT "}",
                   VIEW_ARG(text), n.is_negative ? "value_negative,-" : "value_too_large,",
                   VIEW_ARG(n.digits));
}

uint64_t
content_expiration(const struct content *content)
{
    struct view text;
    struct integer n;

    if (!props_find(content->properties, PROP_expiration, &text))
        return UINT64_MAX;
    n = read_integer(text);
    return n.is_one && n.len == text.len && !n.is_negative && n.value <= EXPIRATION_MAX_MS
               ? n.value
               : UINT64_MAX;
}

/* --- memory ---------------------------------------------------------------------------- */

/* A sanitizer is to see who uses what is gone. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SPARE_MAX_BYTES = 0 };
#else
enum { SPARE_MAX_BYTES = 512 * 1024 };
#endif

static size_t
step_of(size_t size)
{
    return (size - 1) / MESSAGE_STEP;
}

static void *
take(struct message_account *account, size_t size)
{
    struct message_spare **spare, *first;

    if (account == NULL || size > MESSAGE_SMALL)
        return mem_try(size);
    spare = &account->spare[step_of(size)];
    first = *spare;
    if (first == NULL)
        return mem_try((step_of(size) + 1) * MESSAGE_STEP);
    *spare = first->next;
    account->spare_bytes -= (step_of(size) + 1) * MESSAGE_STEP;
    return first;
}

static void
give(struct message_account *account, void *at, size_t size)
{
    struct message_spare *spare = at;

    if (account == NULL || size > MESSAGE_SMALL || account->spare_bytes + size > SPARE_MAX_BYTES) {
        free(at);
        return;
    }
    account->spare_bytes += (step_of(size) + 1) * MESSAGE_STEP;
    spare->next = account->spare[step_of(size)];
    account->spare[step_of(size)] = spare;
}

void
message_account_fini(struct message_account *account)
{
    for (size_t i = 0; i < sizeof(account->spare) / sizeof(account->spare[0]); i++) {
        for (struct message_spare *at = account->spare[i], *next; at != NULL; at = next) {
            next = at->next;
            free(at);
        }
        account->spare[i] = NULL;
    }
    account->spare_bytes = 0;
}

/* --- messages -------------------------------------------------------------------------- */

/* Of itself, without its blob. */
static size_t
own_size(const struct message *message)
{
    return sizeof(struct message) + message->exchange_len + message->routing_key_len +
           message->properties_len + message->body_len;
}

static size_t
size_of(const struct message *message)
{
    return own_size(message) + (message->blob != NULL ? message->blob->len : 0);
}

struct message *
message_new(const struct content *content, bool persistent, struct message_account *account)
{
    struct view body = content->blob == NULL ? content->body : view_of(NULL, 0);
    size_t size = sizeof(struct message) + content->exchange.len + content->routing_key.len +
                  content->properties.len + body.len;
    struct message *message = take(account, size);
    uint8_t *to;

    if (message == NULL)
        return NULL;
    assert(content->exchange.len <= UINT16_MAX && content->routing_key.len <= UINT16_MAX);
    assert(content->properties.len <= UINT32_MAX && body.len <= UINT32_MAX);
    message->refs = 1;
    message->exchange_len = (uint16_t)content->exchange.len;
    message->routing_key_len = (uint16_t)content->routing_key.len;
    message->properties_len = (uint32_t)content->properties.len;
    message->body_len = (uint32_t)body.len;
    message->blob = blob_ref(content->blob);
    message->account = account;
    message->expires_ms = 0;
    message->persistent = persistent;
    if (account != NULL)
        account->bytes += size_of(message);
    to = put(message->octets, content->exchange);
    to = put(to, content->routing_key);
    to = put(to, content->properties);
    put(to, body);
    return message;
}

struct message *
message_of_record(const struct record_message *record, struct message_account *account)
{
    struct content content = record->content;
    struct message *message;

    if (content.body.len >= BLOB_MIN) {
        content.blob = blob_new(content.body.len);
        if (content.blob == NULL)
            return NULL;
        memcpy(content.blob->bytes, content.body.at, content.body.len);
        content.blob->len = content.body.len;
    }
    message = message_new(&content, record->persistent, account);
    blob_unref(&content.blob);
    if (message != NULL)
        message->expires_ms = record->expires_ms;
    return message;
}

struct content
message_content(const struct message *message)
{
    const uint8_t *at = message->octets;
    struct content content = {.blob = message->blob};

    content.exchange = view_of(at, message->exchange_len);
    at += message->exchange_len;
    content.routing_key = view_of(at, message->routing_key_len);
    at += message->routing_key_len;
    content.properties = view_of(at, message->properties_len);
    at += message->properties_len;
    if (message->blob != NULL)
        content.body = view_of(message->blob->bytes, message->blob->len);
    else
        content.body = view_of(at, message->body_len);
    return content;
}

void
message_unref(struct message **message)
{
    struct message *last = *message;

    *message = NULL;
    if (last == NULL || --last->refs > 0)
        return;
    if (last->account != NULL)
        last->account->bytes -= size_of(last);
    blob_unref(&last->blob);
    give(last->account, last, own_size(last));
}
