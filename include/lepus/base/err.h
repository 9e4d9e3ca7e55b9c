/*
 * err: the one error value, from the place that knows most to the place that decides.
 *
 * A function that can fail in more than one way returns bool and fills a `struct err`: an AMQP
 * reply code, a text in RabbitMQ's wording and, once the connection has it, the method that was
 * being handled. The code's row says what closes: the channel or the whole connection. Nobody
 * prints an error and returns it too.
 */
#ifndef LEPUS_BASE_ERR_H
#define LEPUS_BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

/* The reply codes of [0-9-1 constants] with RabbitMQ's additions: code, name, what it closes.
 * Where the specification and RabbitMQ differ in scope, RabbitMQ is followed. */
/* clang-format off */
#define REPLY_CODES(R)                                  \
    R(311, CONTENT_TOO_LARGE,   CHANNEL)                \
    R(312, NO_ROUTE,            CHANNEL)                \
    R(313, NO_CONSUMERS,        CHANNEL)                \
    R(320, CONNECTION_FORCED,   CONNECTION)             \
    R(402, INVALID_PATH,        CONNECTION)             \
    R(403, ACCESS_REFUSED,      CHANNEL)                \
    R(404, NOT_FOUND,           CHANNEL)                \
    R(405, RESOURCE_LOCKED,     CHANNEL)                \
    R(406, PRECONDITION_FAILED, CHANNEL)                \
    R(501, FRAME_ERROR,         CONNECTION)             \
    R(502, SYNTAX_ERROR,        CONNECTION)             \
    R(503, COMMAND_INVALID,     CONNECTION)             \
    R(504, CHANNEL_ERROR,       CONNECTION)             \
    R(505, UNEXPECTED_FRAME,    CONNECTION)             \
    R(506, RESOURCE_ERROR,      CONNECTION)             \
    R(530, NOT_ALLOWED,         CONNECTION)             \
    R(540, NOT_IMPLEMENTED,     CONNECTION)             \
    R(541, INTERNAL_ERROR,      CONNECTION)
/* clang-format on */

enum reply_code {
#define R(code, name, scope) name = code,
    REPLY_CODES(R)
#undef R
};

struct err {
    uint16_t code; /* a reply_code; 0: no error */
    uint16_t class_id, method_id;
    char text[256]; /* without the code's name: 255 bytes and a NUL */
};

/* Fills *err and returns false, so that a failure is one statement. Cuts the text to fit. */
bool err_set(struct err *err, enum reply_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the text; returns false. */
bool err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "NOT_FOUND" for 404; "UNKNOWN" for a code without a row. */
const char *reply_code_name(uint16_t code);

/* Whether an error of this code ends the connection, not just the channel. */
bool reply_code_is_hard(uint16_t code);

#endif
