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

static size_t
size_of(const struct message *message)
{
    return sizeof(struct message) + message->exchange_len + message->routing_key_len +
           message->properties_len + message->body_len +
           (message->blob != NULL ? message->blob->len : 0);
}

struct message *
message_new(const struct content *content, bool persistent, size_t *account)
{
    struct view body = content->blob == NULL ? content->body : view_of(NULL, 0);
    size_t size = sizeof(struct message) + content->exchange.len + content->routing_key.len +
                  content->properties.len + body.len;
    struct message *message = mem_try(size);
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
        *account += size_of(message);
    to = put(message->octets, content->exchange);
    to = put(to, content->routing_key);
    to = put(to, content->properties);
    put(to, body);
    return message;
}

struct message *
message_of_record(const struct record_message *record, size_t *account)
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
        *last->account -= size_of(last);
    blob_unref(&last->blob);
    free(last);
}
