#include "lepus/base/err.h"

#include <stdarg.h>

#include "lepus/base/banned.h"

enum scope { CHANNEL, CONNECTION };

static const struct {
    uint16_t code;
    enum scope scope;
    const char *name;
} rows[] = {
#define R(code, name, scope) {code, scope, #name},
    REPLY_CODES(R)
#undef R
};

bool
err_set(struct err *err, enum reply_code code, const char *format, ...)
{
    va_list args;

    err->code = (uint16_t)code;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return false;
}

bool
err_wrap(struct err *err, const char *format, ...)
{
    char text[sizeof(err->text)];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 3 < sizeof(text)) /* the rest is cut */
        snprintf(text + n, sizeof(text) - (size_t)n, ": %.*s", (int)sizeof(text) - n - 3,
                 err->text);
    memcpy(err->text, text, sizeof(text));
    return false;
}

const char *
reply_code_name(uint16_t code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return rows[i].name;
    return "UNKNOWN";
}

bool
reply_code_is_hard(uint16_t code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return rows[i].scope == CONNECTION;
    return true;
}
