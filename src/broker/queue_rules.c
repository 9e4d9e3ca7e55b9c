#include "lepus/broker/queue_rules.h"

#include <stdlib.h>

#include "lepus/wire/table.h"

const struct queue_rules queue_rules_none = {
    .ttl_ms = RULE_NONE,
    .lease_ms = RULE_NONE,
    .max_length = RULE_NONE,
    .max_bytes = RULE_NONE,
    .delivery_limit = RULE_NONE,
    .consumer_timeout_ms = RULE_NONE,
};

/* A negative number is no rule: x-delivery-limit may be one. */
static uint64_t
number(struct view arguments, struct view name)
{
    struct field field;

    return table_find(arguments, name, &field) && field_is_integer(&field) && field.integer >= 0
               ? (uint64_t)field.integer
               : RULE_NONE;
}

static bool
string(struct view arguments, struct view name, struct view *out)
{
    struct field field;

    if (!table_find(arguments, name, &field) || field.type != FIELD_LONGSTR)
        return false;
    *out = field.bytes;
    return true;
}

static enum overflow
overflow_of(struct view arguments)
{
    struct view word;

    if (!string(arguments, VIEW_LIT("x-overflow"), &word))
        return OVERFLOW_DROP_HEAD;
    if (view_equal(word, VIEW_LIT("reject-publish")))
        return OVERFLOW_REJECT;
    if (view_equal(word, VIEW_LIT("reject-publish-dlx")))
        return OVERFLOW_REJECT_DEAD_LETTER;
    return OVERFLOW_DROP_HEAD;
}

void
queue_rules_init(struct queue_rules *rules, struct view arguments)
{
    struct field active;
    struct view text;

    *rules = queue_rules_none;
    if (arguments.len == 0)
        return;
    rules->ttl_ms = number(arguments, VIEW_LIT("x-message-ttl"));
    rules->lease_ms = number(arguments, VIEW_LIT("x-expires"));
    rules->max_length = number(arguments, VIEW_LIT("x-max-length"));
    rules->max_bytes = number(arguments, VIEW_LIT("x-max-length-bytes"));
    rules->overflow = overflow_of(arguments);
    rules->delivery_limit = number(arguments, VIEW_LIT("x-delivery-limit"));
    rules->consumer_timeout_ms = number(arguments, VIEW_LIT("x-consumer-timeout"));
    rules->single_active = table_find(arguments, VIEW_LIT("x-single-active-consumer"), &active) &&
                           active.type == FIELD_BOOL && active.integer != 0;
    if (string(arguments, VIEW_LIT("x-dead-letter-exchange"), &text)) {
        rules->has_dead_letter_exchange = true;
        rules->dead_letter_exchange = view_dup(text);
        rules->dead_letter_exchange_len = text.len;
    }
    if (string(arguments, VIEW_LIT("x-dead-letter-routing-key"), &text)) {
        rules->has_dead_letter_key = true;
        rules->dead_letter_key = view_dup(text);
        rules->dead_letter_key_len = text.len;
    }
}

void
queue_rules_fini(struct queue_rules *rules)
{
    free(rules->dead_letter_exchange);
    free(rules->dead_letter_key);
    *rules = queue_rules_none;
}
