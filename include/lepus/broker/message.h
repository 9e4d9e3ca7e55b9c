/*
 * message: what was published, kept for as long as a queue or an unsettled delivery needs it.
 *
 * Whoever has to keep a content (content.h) makes a `struct message` from it: one allocation that
 * holds the exchange's name, the routing key, the properties and a small body; a large body is
 * shared by reference (blob.h).
 *
 * A message is immutable and counted, not atomically, by the home worker that made it: one
 * reference per slot. It never leaves that worker: to others go copies of its octets, and
 * references to its blob.
 */
#ifndef LEPUS_BROKER_MESSAGE_H
#define LEPUS_BROKER_MESSAGE_H

#include <stdint.h>

#include "lepus/wire/content.h"

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
