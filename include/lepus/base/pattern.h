/*
 * pattern: a regular expression, as operators write them in policies and permissions.
 *
 * Perl's, as RabbitMQ has it: it is looked for anywhere in the subject unless it is anchored, and
 * both are octets, not characters. A pattern is compiled once and never changes: any thread may
 * match with it.
 *
 * A pattern that takes forever to try (some do, on some subjects) is given up after a bounded
 * number of steps, and does not match.
 */
#ifndef LEPUS_BASE_PATTERN_H
#define LEPUS_BASE_PATTERN_H

#include <stdbool.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"

struct pattern;

enum { PATTERN_BYTES_MAX = 64 * 1024 };

/* NULL with 406 and the reason alone ({"missing closing parenthesis",3}) when it is none. */
struct pattern *pattern_new(struct view text, struct err *err);
void pattern_free(struct pattern *pattern); /* NULL is fine */

bool pattern_matches(const struct pattern *pattern, struct view subject);

#endif
