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

#include "lepus/base/err.h"
#include "lepus/store/record.h"
#include "lepus/wire/content.h"

enum {
    MESSAGE_STEP = 32, /* small messages take a multiple of this */
    MESSAGE_SMALL = 16 * MESSAGE_STEP,
};

/* The messages of one home: zeroed at first. Small ones come and go by the thousand, so the memory
 * of some that went is kept for those that come: by its size, the last one first, which is still in
 * the processor's caches. */
struct message_account {
    size_t bytes;       /* of all that are there */
    size_t spare_bytes; /* of what is kept */
    struct message_spare {
        struct message_spare *next;
    } * spare[MESSAGE_SMALL / MESSAGE_STEP];
};

/* Frees what is kept, when its last message has gone. */
void message_account_fini(struct message_account *account);

struct message {
    uint32_t refs;
    uint16_t exchange_len, routing_key_len;
    uint32_t properties_len;
    uint32_t body_len;               /* of an inline body */
    struct blob *blob;               /* of a large one */
    struct message_account *account; /* its home's; or NULL */
    uint64_t expires_ms;             /* wall clock; 0: never */
    bool persistent;                 /* delivery_mode 2 */
    uint8_t octets[];                /* exchange, routing key, properties, inline body */
};

/* One reference, the caller's. Adds its size to the account, and takes it off when the last
 * reference goes. NULL when there is no memory. */
struct message *message_new(const struct content *content, bool persistent,
                            struct message_account *account);

/* The same of what was read from the disk; a large body gets a blob, so that it goes into outputs
 * by reference. */
struct message *message_of_record(const struct record_message *record,
                                  struct message_account *account);

/* Whether its publisher wants it to survive. */
bool content_is_persistent(const struct content *content);

/* Its expiration in ms; UINT64_MAX when it has none, or one that content_check_expiration would
 * refuse. */
uint64_t content_expiration(const struct content *content);

/* 406 unless the property is absent or a number of ms from 0 to ten years, as RabbitMQ reads and
 * words it. */
bool content_check_expiration(struct view properties, struct err *err);

/* Views that stay good as long as a reference does. */
struct content message_content(const struct message *message);

/* Of its body, in octets. */
static inline uint32_t
message_body_size(const struct message *message)
{
    size_t size = message->blob != NULL ? message->blob->len : message->body_len;

    return size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
}

static inline struct message *
message_ref(struct message *message)
{
    message->refs++;
    return message;
}

void message_unref(struct message **message); /* leaves NULL behind; NULL is fine */

#endif
