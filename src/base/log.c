/*
 * One line is built on the stack and written with one write(2), so that threads need no lock:
 * the kernel keeps lines of a pipe whole up to PIPE_BUF, which is LINE_SIZE here, and those of a
 * file opened for appending at any length. A line that does not fit is cut between characters
 * and says so with an ellipsis; it still ends as its format wants.
 */
#include "lepus/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include "lepus/base/clock.h"
#include "lepus/base/view.h"

enum { LINE_SIZE = 4096 };

static const char ELLIPSIS[] = "\xe2\x80\xa6";
static const char JSON_END[] = "\"}";

enum {
    TAIL_SIZE = sizeof(ELLIPSIS) - 1 + sizeof(JSON_END) - 1 + 1 /* newline */,
    FIELD_SIZE = 1024, /* of a context's value, escaped: the three of them leave room for text */
};

_Atomic int log_threshold = LOG_INFO;
static _Atomic int format_now = LOG_TEXT;

/* A line under construction. len <= limit <= LINE_SIZE - TAIL_SIZE, but for the tail itself. */
struct line {
    char at[LINE_SIZE];
    size_t len, limit;
    bool is_cut; /* a piece did not fit: later ones are dropped too */
};

/* How a value is written. */
enum quoting {
    PLAIN,  /* the text of a line: control bytes, backslash and what is not UTF-8 as \xNN */
    FIELD,  /* key=value: blanks and quotes too, so that the value ends where it ends */
    STRING, /* the inside of a JSON string */
};

void
log_set(enum log_level level, enum log_format format)
{
    atomic_store_explicit(&log_threshold, (int)level, memory_order_relaxed);
    atomic_store_explicit(&format_now, (int)format, memory_order_relaxed);
}

static void
put(struct line *line, const char *at, size_t n)
{
    if (line->is_cut || n > line->limit - line->len) {
        line->is_cut = true;
        return;
    }
    memcpy(line->at + line->len, at, n);
    line->len += n;
}

static void
put_str(struct line *line, const char *string)
{
    put(line, string, strlen(string));
}

/* The length of the UTF-8 character at `at`, 0 when there is none: no overlong forms, no
 * surrogates, nothing above U+10FFFF. */
static size_t
utf8_length(const uint8_t *at, size_t left)
{
    uint8_t lowest = 0x80, highest = 0xbf; /* what the second byte may be */
    size_t n;

    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        n = 2;
    else if (at[0] >= 0xe0 && at[0] <= 0xef)
        n = 3;
    else if (at[0] >= 0xf0 && at[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (at[0] == 0xe0)
        lowest = 0xa0;
    if (at[0] == 0xed)
        highest = 0x9f;
    if (at[0] == 0xf0)
        lowest = 0x90;
    if (at[0] == 0xf4)
        highest = 0x8f;
    if (n > left || at[1] < lowest || at[1] > highest)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

/* Control characters: those of ASCII, and U+0080 to U+009F, which terminals obey as well. */
static bool
is_control(const uint8_t *at, size_t n)
{
    return n == 1 ? at[0] < 0x20 || at[0] == 0x7f : n == 2 && at[0] == 0xc2 && at[1] < 0xa0;
}

static void
put_byte_escaped(struct line *line, uint8_t byte, enum quoting quoting)
{
    char text[8];
    int n = snprintf(text, sizeof(text), quoting == STRING ? "\\\\x%02x" : "\\x%02x", byte);

    put(line, text, (size_t)n);
}

static void
put_char(struct line *line, const uint8_t *at, size_t n, enum quoting quoting)
{
    char text[8];
    bool has_quote = at[0] == '"' || at[0] == '\\';

    if (quoting == STRING && is_control(at, n)) {
        int len = snprintf(text, sizeof(text), "\\u%04x", at[n - 1]);
        put(line, text, (size_t)len);
    } else if (quoting == STRING && has_quote) {
        text[0] = '\\';
        text[1] = (char)at[0];
        put(line, text, 2);
    } else if (is_control(at, n) || at[0] == '\\' ||
               (quoting == FIELD && (has_quote || at[0] == '\'' || at[0] == ' '))) {
        for (size_t i = 0; i < n; i++)
            put_byte_escaped(line, at[i], quoting);
    } else {
        put(line, (const char *)at, n);
    }
}

static void
put_value(struct line *line, const char *string, enum quoting quoting)
{
    const uint8_t *at = (const uint8_t *)string;
    size_t left = strlen(string);

    while (left > 0 && !line->is_cut) {
        size_t n = utf8_length(at, left);

        if (n == 0) {
            n = 1;
            put_byte_escaped(line, at[0], quoting);
        } else {
            put_char(line, at, n, quoting);
        }
        at += n;
        left -= n;
    }
}

/* Writes the time between `before` and `after`, date and time of day apart by `between`. */
static void
put_time(struct line *line, const char *between, const char *after)
{
    uint64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[64];

    gmtime_r(&seconds, &tm);
    snprintf(text, sizeof(text), "%04d-%02d-%02d%s%02d:%02d:%02d.%03u%s", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, between, tm.tm_hour, tm.tm_min, tm.tm_sec,
             (unsigned)(ms % 1000), after);
    put_str(line, text);
}

static const char *
level_name(enum log_level level)
{
    static const char *const names[] = {
#define L(name, NAME) [LOG_##NAME] = #name,
        LOG_LEVELS(L)
#undef L
    };

    return names[level];
}

static void
put_field(struct line *line, enum quoting quoting, const char *name, const char *value)
{
    if (value == NULL)
        return;
    put_str(line, quoting == STRING ? ",\"" : " ");
    put_str(line, name);
    put_str(line, quoting == STRING ? "\":\"" : "=");
    line->limit = line->len + FIELD_SIZE;
    put_value(line, value, quoting);
    line->limit = LINE_SIZE - TAIL_SIZE;
    if (line->is_cut) {
        line->is_cut = false;
        put_str(line, ELLIPSIS);
    }
    if (quoting == STRING)
        put_str(line, "\"");
}

static void
put_context(struct line *line, enum quoting quoting, const struct log_context *context)
{
    char text[32];

    put_field(line, quoting, "conn", context->connection);
    if (context->channel != 0) {
        snprintf(text, sizeof(text), quoting == STRING ? ",\"ch\":%u" : " ch=%u", context->channel);
        put_str(line, text);
    }
    put_field(line, quoting, "vhost", context->vhost);
    put_field(line, quoting, "user", context->user);
}

static void
put_text_line(struct line *line, enum log_level level, const struct log_context *context,
              const char *text)
{
    put_time(line, " ", " ");
    put_str(line, level_name(level));
    if (context != NULL)
        put_context(line, FIELD, context);
    put_str(line, " ");
    put_value(line, text, PLAIN);
}

static void
put_json_line(struct line *line, enum log_level level, const struct log_context *context,
              const char *text)
{
    put_str(line, "{\"time\":\"");
    put_time(line, "T", "Z\",\"level\":\"");
    put_str(line, level_name(level));
    put_str(line, "\"");
    if (context != NULL)
        put_context(line, STRING, context);
    put_str(line, ",\"text\":\"");
    put_value(line, text, STRING);
}

static void
append_tail(struct line *line, const char *tail)
{
    size_t n = strlen(tail);

    memcpy(line->at + line->len, tail, n);
    line->len += n;
}

void
log_write(enum log_level level, const struct log_context *context, const char *format, ...)
{
    int saved_errno = errno; /* callers log first and look at errno after */
    bool is_json = atomic_load_explicit(&format_now, memory_order_relaxed) == LOG_JSON;
    char text[LINE_SIZE]; /* when this cuts, so does the line, which is no longer */
    struct line line;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    line.len = 0;
    line.limit = LINE_SIZE - TAIL_SIZE;
    line.is_cut = false;
    (is_json ? put_json_line : put_text_line)(&line, level, context, text);
    if (line.is_cut)
        append_tail(&line, ELLIPSIS);
    if (is_json)
        append_tail(&line, JSON_END);
    append_tail(&line, "\n");
    while (write(STDERR_FILENO, line.at, line.len) < 0 && errno == EINTR)
        continue;
    errno = saved_errno;
}
