#include "rule_priv.h"

#include <stdlib.h>

#include "lepus/base/buf.h"
#include "lepus/base/mem.h"
#include "lepus/base/pattern.h"

static struct pattern *
compile(struct view text, struct err *err)
{
    return pattern_new(text.len > 0 ? text : VIEW_LIT("^$"), err);
}

bool
rule_init(struct rule *out, struct view text, struct err *err)
{
    struct pattern *pattern = compile(text, err);

    if (pattern == NULL)
        return err_wrap(err, "invalid regular expression '%.*s'",
                        text.len > 80 ? 80 : (int)text.len, (const char *)text.at);
    *out = (struct rule){.text = view_dup(text), .len = text.len, .pattern = pattern};
    return true;
}

void
rule_fini(struct rule *rule)
{
    free(rule->text);
    pattern_free(rule->pattern);
    *rule = (struct rule){0};
}

bool
rule_matches(const struct rule *rule, struct view name)
{
    return rule->pattern != NULL && pattern_matches(rule->pattern, name);
}

/* --- words ----------------------------------------------------------------------------------- */

static void
append_quoted(struct buf *to, struct view word)
{
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.at[i];

        if (c < 0x80 && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            buf_u8(to, '\\');
        buf_u8(to, c);
    }
}

/* False when there is nothing to replace. */
static bool
expand(struct view text, const struct rule_words *words, struct buf *to)
{
    const struct {
        struct view name, word;
    } known[] = {{VIEW_LIT("{username}"), words->username}, {VIEW_LIT("{vhost}"), words->vhost}};
    bool any = false;

    while (text.len > 0) {
        size_t used = 1;

        for (size_t i = 0; i < 2 && used == 1; i++) {
            if (!view_has_prefix(text, known[i].name))
                continue;
            append_quoted(to, known[i].word);
            used = known[i].name.len;
            any = true;
        }
        if (used == 1)
            buf_u8(to, text.at[0]);
        text = view_of(text.at + used, text.len - used);
    }
    return any;
}

bool
rule_matches_expanded(const struct rule *rule, const struct rule_words *words, struct view name)
{
    struct rule made = {0};
    struct err ignored; /* it could be understood without the words */
    struct buf text;
    bool is_match;

    buf_init(&text, SIZE_MAX / 2);
    if (rule->pattern != NULL && expand(view_of(rule->text, rule->len), words, &text)) {
        made.pattern = compile(buf_view(&text), &ignored);
        is_match = rule_matches(&made, name);
        rule_fini(&made);
    } else {
        is_match = rule_matches(rule, name);
    }
    buf_fini(&text);
    return is_match;
}
