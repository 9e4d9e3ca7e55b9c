/*
 * method: the methods of AMQP 0-9-1 with RabbitMQ's extensions, as one table.
 *
 * From the rows come a struct per method (`struct queue_declare`), its decoder and encoder, its
 * name, and the rules that hold before any handler runs: who may send it, on which channels, and
 * whether content follows. The field lists stand in the order of the wire; consecutive bits share
 * octets [0-9-1 §4.2.5.2].
 *
 * Strings and tables in a decoded struct are views into the payload: borrowed until the frame is
 * gone. A table's view is its contents without the length; it has been checked (table_check).
 */
#ifndef LEPUS_WIRE_METHOD_H
#define LEPUS_WIRE_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/err.h"
#include "lepus/base/view.h"

/* Field types: u8 u16 u32 u64 bit shortstr longstr table. */
/* clang-format off */
#define FIELDS_NONE(F)

#define CONNECTION_START(F)                                                                     \
    F(u8, version_major) F(u8, version_minor) F(table, server_properties)                       \
    F(longstr, mechanisms) F(longstr, locales)
#define CONNECTION_START_OK(F)                                                                  \
    F(table, client_properties) F(shortstr, mechanism) F(longstr, response) F(shortstr, locale)
#define CONNECTION_SECURE(F)            F(longstr, challenge)
#define CONNECTION_SECURE_OK(F)         F(longstr, response)
#define CONNECTION_TUNE(F)              F(u16, channel_max) F(u32, frame_max) F(u16, heartbeat)
#define CONNECTION_OPEN(F)              F(shortstr, virtual_host) F(shortstr, reserved_1) F(bit, reserved_2)
#define CONNECTION_OPEN_OK(F)           F(shortstr, reserved_1)
#define CONNECTION_CLOSE(F)                                                                     \
    F(u16, reply_code) F(shortstr, reply_text) F(u16, class_id) F(u16, method_id)
#define CONNECTION_BLOCKED(F)           F(shortstr, reason)
#define CONNECTION_UPDATE_SECRET(F)     F(longstr, new_secret) F(shortstr, reason)
#define CHANNEL_OPEN(F)                 F(shortstr, reserved_1)
#define CHANNEL_OPEN_OK(F)              F(longstr, reserved_1)
#define CHANNEL_FLOW(F)                 F(bit, active)
#define ACCESS_REQUEST(F)                                                                       \
    F(shortstr, realm) F(bit, exclusive) F(bit, passive) F(bit, active) F(bit, write) F(bit, read)
#define ACCESS_REQUEST_OK(F)            F(u16, reserved_1)
#define EXCHANGE_DECLARE(F)                                                                     \
    F(u16, reserved_1) F(shortstr, exchange) F(shortstr, type) F(bit, passive) F(bit, durable)  \
    F(bit, auto_delete) F(bit, internal) F(bit, nowait) F(table, arguments)
#define EXCHANGE_DELETE(F)                                                                      \
    F(u16, reserved_1) F(shortstr, exchange) F(bit, if_unused) F(bit, nowait)
#define EXCHANGE_BIND(F)                                                                        \
    F(u16, reserved_1) F(shortstr, destination) F(shortstr, source) F(shortstr, routing_key)    \
    F(bit, nowait) F(table, arguments)
#define QUEUE_DECLARE(F)                                                                        \
    F(u16, reserved_1) F(shortstr, queue) F(bit, passive) F(bit, durable) F(bit, exclusive)     \
    F(bit, auto_delete) F(bit, nowait) F(table, arguments)
#define QUEUE_DECLARE_OK(F)             F(shortstr, queue) F(u32, message_count) F(u32, consumer_count)
#define QUEUE_BIND(F)                                                                           \
    F(u16, reserved_1) F(shortstr, queue) F(shortstr, exchange) F(shortstr, routing_key)        \
    F(bit, nowait) F(table, arguments)
#define QUEUE_UNBIND(F)                                                                         \
    F(u16, reserved_1) F(shortstr, queue) F(shortstr, exchange) F(shortstr, routing_key)        \
    F(table, arguments)
#define QUEUE_PURGE(F)                  F(u16, reserved_1) F(shortstr, queue) F(bit, nowait)
#define QUEUE_PURGE_OK(F)               F(u32, message_count)
#define QUEUE_DELETE(F)                                                                         \
    F(u16, reserved_1) F(shortstr, queue) F(bit, if_unused) F(bit, if_empty) F(bit, nowait)
#define QUEUE_DELETE_OK(F)              F(u32, message_count)
#define BASIC_QOS(F)                    F(u32, prefetch_size) F(u16, prefetch_count) F(bit, global)
#define BASIC_CONSUME(F)                                                                        \
    F(u16, reserved_1) F(shortstr, queue) F(shortstr, consumer_tag) F(bit, no_local)            \
    F(bit, no_ack) F(bit, exclusive) F(bit, nowait) F(table, arguments)
#define BASIC_CONSUME_OK(F)             F(shortstr, consumer_tag)
#define BASIC_CANCEL(F)                 F(shortstr, consumer_tag) F(bit, nowait)
#define BASIC_CANCEL_OK(F)              F(shortstr, consumer_tag)
#define BASIC_PUBLISH(F)                                                                        \
    F(u16, reserved_1) F(shortstr, exchange) F(shortstr, routing_key) F(bit, mandatory)         \
    F(bit, immediate)
#define BASIC_RETURN(F)                                                                         \
    F(u16, reply_code) F(shortstr, reply_text) F(shortstr, exchange) F(shortstr, routing_key)
#define BASIC_DELIVER(F)                                                                        \
    F(shortstr, consumer_tag) F(u64, delivery_tag) F(bit, redelivered) F(shortstr, exchange)    \
    F(shortstr, routing_key)
#define BASIC_GET(F)                    F(u16, reserved_1) F(shortstr, queue) F(bit, no_ack)
#define BASIC_GET_OK(F)                                                                         \
    F(u64, delivery_tag) F(bit, redelivered) F(shortstr, exchange) F(shortstr, routing_key)     \
    F(u32, message_count)
#define BASIC_GET_EMPTY(F)              F(shortstr, reserved_1)
#define BASIC_ACK(F)                    F(u64, delivery_tag) F(bit, multiple)
#define BASIC_REJECT(F)                 F(u64, delivery_tag) F(bit, requeue)
#define BASIC_RECOVER(F)                F(bit, requeue)
#define BASIC_NACK(F)                   F(u64, delivery_tag) F(bit, multiple) F(bit, requeue)
#define CONFIRM_SELECT(F)               F(bit, nowait)

#define CLASSES(C)                                                                              \
    C(10, connection) C(20, channel) C(30, access) C(40, exchange) C(50, queue) C(60, basic)    \
    C(85, confirm) C(90, tx)

/* class, method, name, fields, who sends it, on which channels, what follows.
 * BOTH: either side. Methods that only a client may send to us are CLIENT. */
#define METHODS(M)                                                                              \
    M(10, 10, connection_start,         CONNECTION_START,         SERVER, ZERO,    NOTHING)     \
    M(10, 11, connection_start_ok,      CONNECTION_START_OK,      CLIENT, ZERO,    NOTHING)     \
    M(10, 20, connection_secure,        CONNECTION_SECURE,        SERVER, ZERO,    NOTHING)     \
    M(10, 21, connection_secure_ok,     CONNECTION_SECURE_OK,     CLIENT, ZERO,    NOTHING)     \
    M(10, 30, connection_tune,          CONNECTION_TUNE,          SERVER, ZERO,    NOTHING)     \
    M(10, 31, connection_tune_ok,       CONNECTION_TUNE,          CLIENT, ZERO,    NOTHING)     \
    M(10, 40, connection_open,          CONNECTION_OPEN,          CLIENT, ZERO,    NOTHING)     \
    M(10, 41, connection_open_ok,       CONNECTION_OPEN_OK,       SERVER, ZERO,    NOTHING)     \
    M(10, 50, connection_close,         CONNECTION_CLOSE,         BOTH,   ZERO,    NOTHING)     \
    M(10, 51, connection_close_ok,      FIELDS_NONE,              BOTH,   ZERO,    NOTHING)     \
    M(10, 60, connection_blocked,       CONNECTION_BLOCKED,       SERVER, ZERO,    NOTHING)     \
    M(10, 61, connection_unblocked,     FIELDS_NONE,              SERVER, ZERO,    NOTHING)     \
    M(10, 70, connection_update_secret, CONNECTION_UPDATE_SECRET, CLIENT, ZERO,    NOTHING)     \
    M(10, 71, connection_update_secret_ok, FIELDS_NONE,           SERVER, ZERO,    NOTHING)     \
    M(20, 10, channel_open,             CHANNEL_OPEN,             CLIENT, NONZERO, NOTHING)     \
    M(20, 11, channel_open_ok,          CHANNEL_OPEN_OK,          SERVER, NONZERO, NOTHING)     \
    M(20, 20, channel_flow,             CHANNEL_FLOW,             BOTH,   NONZERO, NOTHING)     \
    M(20, 21, channel_flow_ok,          CHANNEL_FLOW,             BOTH,   NONZERO, NOTHING)     \
    M(20, 40, channel_close,            CONNECTION_CLOSE,         BOTH,   NONZERO, NOTHING)     \
    M(20, 41, channel_close_ok,         FIELDS_NONE,              BOTH,   NONZERO, NOTHING)     \
    M(30, 10, access_request,           ACCESS_REQUEST,           CLIENT, NONZERO, NOTHING)     \
    M(30, 11, access_request_ok,        ACCESS_REQUEST_OK,        SERVER, NONZERO, NOTHING)     \
    M(40, 10, exchange_declare,         EXCHANGE_DECLARE,         CLIENT, NONZERO, NOTHING)     \
    M(40, 11, exchange_declare_ok,      FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(40, 20, exchange_delete,          EXCHANGE_DELETE,          CLIENT, NONZERO, NOTHING)     \
    M(40, 21, exchange_delete_ok,       FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(40, 30, exchange_bind,            EXCHANGE_BIND,            CLIENT, NONZERO, NOTHING)     \
    M(40, 31, exchange_bind_ok,         FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(40, 40, exchange_unbind,          EXCHANGE_BIND,            CLIENT, NONZERO, NOTHING)     \
    M(40, 51, exchange_unbind_ok,       FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(50, 10, queue_declare,            QUEUE_DECLARE,            CLIENT, NONZERO, NOTHING)     \
    M(50, 11, queue_declare_ok,         QUEUE_DECLARE_OK,         SERVER, NONZERO, NOTHING)     \
    M(50, 20, queue_bind,               QUEUE_BIND,               CLIENT, NONZERO, NOTHING)     \
    M(50, 21, queue_bind_ok,            FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(50, 50, queue_unbind,             QUEUE_UNBIND,             CLIENT, NONZERO, NOTHING)     \
    M(50, 51, queue_unbind_ok,          FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(50, 30, queue_purge,              QUEUE_PURGE,              CLIENT, NONZERO, NOTHING)     \
    M(50, 31, queue_purge_ok,           QUEUE_PURGE_OK,           SERVER, NONZERO, NOTHING)     \
    M(50, 40, queue_delete,             QUEUE_DELETE,             CLIENT, NONZERO, NOTHING)     \
    M(50, 41, queue_delete_ok,          QUEUE_DELETE_OK,          SERVER, NONZERO, NOTHING)     \
    M(60, 10, basic_qos,                BASIC_QOS,                CLIENT, NONZERO, NOTHING)     \
    M(60, 11, basic_qos_ok,             FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(60, 20, basic_consume,            BASIC_CONSUME,            CLIENT, NONZERO, NOTHING)     \
    M(60, 21, basic_consume_ok,         BASIC_CONSUME_OK,         SERVER, NONZERO, NOTHING)     \
    M(60, 30, basic_cancel,             BASIC_CANCEL,             BOTH,   NONZERO, NOTHING)     \
    M(60, 31, basic_cancel_ok,          BASIC_CANCEL_OK,          BOTH,   NONZERO, NOTHING)     \
    M(60, 40, basic_publish,            BASIC_PUBLISH,            CLIENT, NONZERO, CONTENT)     \
    M(60, 50, basic_return,             BASIC_RETURN,             SERVER, NONZERO, CONTENT)     \
    M(60, 60, basic_deliver,            BASIC_DELIVER,            SERVER, NONZERO, CONTENT)     \
    M(60, 70, basic_get,                BASIC_GET,                CLIENT, NONZERO, NOTHING)     \
    M(60, 71, basic_get_ok,             BASIC_GET_OK,             SERVER, NONZERO, CONTENT)     \
    M(60, 72, basic_get_empty,          BASIC_GET_EMPTY,          SERVER, NONZERO, NOTHING)     \
    M(60, 80, basic_ack,                BASIC_ACK,                BOTH,   NONZERO, NOTHING)     \
    M(60, 90, basic_reject,             BASIC_REJECT,             CLIENT, NONZERO, NOTHING)     \
    M(60, 100, basic_recover_async,     BASIC_RECOVER,            CLIENT, NONZERO, NOTHING)     \
    M(60, 110, basic_recover,           BASIC_RECOVER,            CLIENT, NONZERO, NOTHING)     \
    M(60, 111, basic_recover_ok,        FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(60, 120, basic_nack,              BASIC_NACK,               BOTH,   NONZERO, NOTHING)     \
    M(85, 10, confirm_select,           CONFIRM_SELECT,           CLIENT, NONZERO, NOTHING)     \
    M(85, 11, confirm_select_ok,        FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(90, 10, tx_select,                FIELDS_NONE,              CLIENT, NONZERO, NOTHING)     \
    M(90, 11, tx_select_ok,             FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(90, 20, tx_commit,                FIELDS_NONE,              CLIENT, NONZERO, NOTHING)     \
    M(90, 21, tx_commit_ok,             FIELDS_NONE,              SERVER, NONZERO, NOTHING)     \
    M(90, 30, tx_rollback,              FIELDS_NONE,              CLIENT, NONZERO, NOTHING)     \
    M(90, 31, tx_rollback_ok,           FIELDS_NONE,              SERVER, NONZERO, NOTHING)
/* clang-format on */

enum class_id {
#define C(id, name) CLASS_##name = id,
    CLASSES(C)
#undef C
};

/* Dense numbers of the rows, in the table's order: METHOD_queue_declare. */
/* clang-format off */
enum method {
#define M(class_id, method_id, name, fields, sender, channel, follows) METHOD_##name,
    METHODS(M)
#undef M
    METHOD_COUNT,
    METHOD_UNKNOWN = METHOD_COUNT
};
/* clang-format on */

enum method_sender { METHOD_BY_CLIENT, METHOD_BY_SERVER, METHOD_BY_BOTH };
enum method_channel { METHOD_ON_ZERO, METHOD_ON_NONZERO };
enum method_follows { METHOD_THEN_NOTHING, METHOD_THEN_CONTENT };

struct method_row {
    uint16_t class_id, method_id;
    const char *name; /* "queue.declare_ok" */
    enum method_sender sender;
    enum method_channel channel;
    enum method_follows follows;
};

extern const struct method_row method_rows[METHOD_COUNT];

/* Whichever the ids name, or METHOD_UNKNOWN. Constant time. */
enum method method_find(uint16_t class_id, uint16_t method_id);

/* One struct per method, its members the fields. Each starts with an octet that nobody reads or
 * writes, because C knows no struct without members and some methods have no fields. */
typedef uint8_t field_u8;
typedef uint16_t field_u16;
typedef uint32_t field_u32;
typedef uint64_t field_u64;
typedef bool field_bit;
typedef struct view field_shortstr;
typedef struct view field_longstr;
typedef struct view field_table;

#define METHOD_FIELD_(type, name) field_##type name;
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    struct name {                                                                                  \
        uint8_t unused_;                                                                           \
        fields(METHOD_FIELD_)                                                                      \
    };
METHODS(M)
#undef M

/* Room for any decoded method. */
union method_args {
#define M(class_id, method_id, name, fields, sender, channel, follows) struct name name;
    METHODS(M)
#undef M
};

/*
 * Decodes the arguments behind class and method id, which must be used up exactly. As in RabbitMQ
 * unused bits of a bit octet may be anything, and the short strings of methods without content
 * must be UTF-8 (those with content are spared the look). False: 502 SYNTAX_ERROR naming method
 * and field, or 501 for what is not UTF-8; no field of *out may be used then.
 */
bool method_decode(enum method method, struct view arguments, union method_args *out,
                   struct err *err);

/*
 * Appends a whole method frame: head, class, method, arguments, end. The args struct is the
 * method's own:
 *
 *     method_write(b, 1, METHOD_queue_declare_ok, &(struct queue_declare_ok){.queue = name});
 *
 * args may be NULL for a method without fields. A shortstr longer than 255 octets is cut. All or
 * nothing: a frame that does not fit leaves the buffer bad and as long as it was.
 */
void method_write(struct buf *to, uint16_t channel, enum method method, const void *args);

/* The octets that method_write would append. */
size_t method_size(enum method method, const void *args);

#endif
