/*
 * log: one line an event, to standard error.
 *
 *     2026-01-31 12:00:00.123 info conn=127.0.0.1:51234 vhost=/ text
 *     {"time":"2026-01-31T12:00:00.123Z","level":"info","conn":"…","vhost":"/","text":"…"}
 *
 * error: we lost something. warn: odd, and we went on. info: an operator cares. debug: moves.
 * At info nothing is logged per message. Times are UTC. What a peer sent is escaped: control
 * bytes, backslashes and anything that is not UTF-8 appear as \xNN, in the context's values
 * blanks and quotes as well; in JSON all are proper strings. A line is at most 4 KiB, cut with an
 * ellipsis. Any thread may log; a line is one write(2). The sink is the only global of this tree
 * that anybody may change at run time.
 */
#ifndef LEPUS_BASE_LOG_H
#define LEPUS_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

/* clang-format off */
#define LOG_LEVELS(L) L(error, ERROR) L(warn, WARN) L(info, INFO) L(debug, DEBUG)
/* clang-format on */

enum log_level {
#define L(name, NAME) LOG_##NAME,
    LOG_LEVELS(L)
#undef L
};

enum log_format { LOG_TEXT, LOG_JSON };

/* Who a line is about; any member may be NULL. Borrowed for the call. */
struct log_context {
    const char *connection; /* "127.0.0.1:51234" */
    const char *vhost;
    const char *user;
    unsigned channel; /* 0: none */
};

void log_set(enum log_level level, enum log_format format);
extern _Atomic int log_threshold;

void log_write(enum log_level level, const struct log_context *context, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* context may be NULL. */
#define log_at(level, context, ...)                                                                \
    do {                                                                                           \
        if ((int)(level) <= atomic_load_explicit(&log_threshold, memory_order_relaxed))            \
            log_write((level), (context), __VA_ARGS__);                                            \
    } while (0)

#define log_error(context, ...) log_at(LOG_ERROR, (context), __VA_ARGS__)
#define log_warn(context, ...)  log_at(LOG_WARN, (context), __VA_ARGS__)
#define log_info(context, ...)  log_at(LOG_INFO, (context), __VA_ARGS__)
#define log_debug(context, ...) log_at(LOG_DEBUG, (context), __VA_ARGS__)

#endif
