/* rule: the text of a permission and what it matches. Looked for anywhere in a name, so people
 * write
 * ^...$. An empty one stands for ^$, as with RabbitMQ: no name at all. */
#ifndef AUTH_RULE_PRIV_H
#define AUTH_RULE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"

struct pattern;

struct rule {
    char *text; /* NUL-terminated */
    size_t len;
    struct pattern *pattern; /* NULL: it cannot be understood, and matches nothing */
};

/* False, with *out untouched: 406, it cannot be understood. */
bool rule_init(struct rule *out, struct view text, struct err *err);
void rule_fini(struct rule *rule); /* zeroed ones are fine */

bool rule_matches(const struct rule *rule, struct view name); /* any thread */

/* With {username} and {vhost} in it replaced by these, in which no sign has a meaning. */
struct rule_words {
    struct view username, vhost;
};
bool rule_matches_expanded(const struct rule *rule, const struct rule_words *words,
                           struct view name);

#endif
