/*
 * message: what was published, kept for as long as a queue or an unsettled delivery needs it.
 *
 * `struct content` is a published message as views: into a socket's read buffer, a mail record or
 * a message. Whoever has to keep it makes a `struct message` from it: one allocation that holds
 * the exchange's name, the routing key, the properties and a small body; a large body is shared
 * by reference (blob.h).
 *
 * A message is immutable and counted, not atomically, by the home worker that made it: one
 * reference per slot. It never leaves that worker: to others go copies of its octets, and
 * references to its blob.
 */
#ifndef LEPUS_BROKER_MESSAGE_H
#define LEPUS_BROKER_MESSAGE_H

#include <stdint.h>

#include "lepus/base/blob.h"
#include "lepus/base/view.h"

struct content {
    struct view exchange, routing_key;
    struct view properties; /* flag word and values, as props.h wants them */
    struct view body;
    struct blob *blob; /* what holds the body's octets, or NULL when nobody counts them */
};

struct message {
    uint32_t refs;
    uint16_t exchange_len, routing_key_len;
    uint32_t properties_len;
    uint32_t body_len; /* of an inline body */
    struct blob *blob; /* of a large one */
    uint8_t octets[];  /* exchange, routing key, properties, inline body */
};

/* One reference, the caller's. NULL when there is no memory. */
struct message *message_new(const struct content *content);

/* Views that stay good as long as a reference does. */
struct content message_content(const struct message *message);

static inline struct message *
message_ref(struct message *message)
{
    message->refs++;
    return message;
}

void message_unref(struct message **message); /* leaves NULL behind; NULL is fine */

#endif
