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

/* Where a rule may come from. The name with x- in front is the argument's, without it the
 * policies'. */
struct sources {
    struct view arguments, policy;
};

enum { X_LEN = 2 };

static struct view
without_x(struct view name)
{
    return view_of(name.at + X_LEN, name.len - X_LEN);
}

/* A negative number is no rule: x-delivery-limit may be one. */
static uint64_t
number(struct view table, struct view name)
{
    struct field field;

    return table_find(table, name, &field) && field_is_integer(&field) && field.integer >= 0
               ? (uint64_t)field.integer
               : RULE_NONE;
}

static uint64_t
lower(const struct sources *from, struct view name)
{
    uint64_t a = number(from->arguments, name), b = number(from->policy, without_x(name));

    return a < b ? a : b;
}

/* Arguments are refused above ten years; policies may say more, and mean that. */
#define LONGEST_MS UINT64_C(315360000000)

static uint64_t
shorter(const struct sources *from, struct view name)
{
    uint64_t ms = lower(from, name);

    return ms == RULE_NONE || ms < LONGEST_MS ? ms : LONGEST_MS;
}

static bool
string(struct view table, struct view name, struct view *out)
{
    struct field field;

    if (!table_find(table, name, &field) || field.type != FIELD_LONGSTR)
        return false;
    *out = field.bytes;
    return true;
}

/* The argument, or else the policies'. */
static bool
either(const struct sources *from, struct view name, struct view *out)
{
    return string(from->arguments, name, out) || string(from->policy, without_x(name), out);
}

static bool
is_quorum(struct view arguments)
{
    struct view type;

    return string(arguments, VIEW_LIT("x-queue-type"), &type) &&
           view_equal(type, VIEW_LIT("quorum"));
}

static enum overflow
overflow_of(const struct sources *from)
{
    struct view name = VIEW_LIT("x-overflow"), word;

    if (!(is_quorum(from->arguments) && string(from->policy, without_x(name), &word)) &&
        !either(from, name, &word))
        return OVERFLOW_DROP_HEAD;
    if (view_equal(word, VIEW_LIT("reject-publish")))
        return OVERFLOW_REJECT;
    if (view_equal(word, VIEW_LIT("reject-publish-dlx")))
        return OVERFLOW_REJECT_DEAD_LETTER;
    return OVERFLOW_DROP_HEAD;
}

static void
take_dead_letters(struct queue_rules *rules, const struct sources *from)
{
    struct view text;

    if (either(from, VIEW_LIT("x-dead-letter-exchange"), &text)) {
        rules->has_dead_letter_exchange = true;
        rules->dead_letter_exchange = view_dup(text);
        rules->dead_letter_exchange_len = text.len;
    }
    if (either(from, VIEW_LIT("x-dead-letter-routing-key"), &text)) {
        rules->has_dead_letter_key = true;
        rules->dead_letter_key = view_dup(text);
        rules->dead_letter_key_len = text.len;
    }
}

static void
min_max(struct retry_rule *retry, uint64_t min_ms, uint64_t max_ms)
{
    if (min_ms != RULE_NONE && min_ms > 0)
        retry->min_ms = min_ms;
    if (max_ms != RULE_NONE && max_ms > 0)
        retry->max_ms = max_ms;
}

/* What the arguments, or the policies, say of retries; false: nothing. */
static bool
take_retry(struct retry_rule *retry, struct view table, bool has_x)
{
    struct view schedule = VIEW_LIT("x-retry-schedule"), type = VIEW_LIT("x-delayed-retry-type"),
                min = VIEW_LIT("x-delayed-retry-min"), max = VIEW_LIT("x-delayed-retry-max"), text;
    char why[RETRY_WHY_MAX];

    if (string(table, has_x ? schedule : without_x(schedule), &text))
        return retry_parse(text, retry, why);
    if (!string(table, has_x ? type : without_x(type), &text) || !retry_of_type(text, retry))
        return false;
    min_max(retry, number(table, has_x ? min : without_x(min)),
            number(table, has_x ? max : without_x(max)));
    return true;
}

void
queue_rules_init(struct queue_rules *rules, struct view arguments, struct view policy)
{
    const struct sources from = {arguments, policy};
    struct field active;

    *rules = queue_rules_none;
    if (arguments.len == 0 && policy.len == 0)
        return;
    rules->ttl_ms = shorter(&from, VIEW_LIT("x-message-ttl"));
    rules->lease_ms = shorter(&from, VIEW_LIT("x-expires"));
    rules->max_length = lower(&from, VIEW_LIT("x-max-length"));
    rules->max_bytes = lower(&from, VIEW_LIT("x-max-length-bytes"));
    rules->overflow = overflow_of(&from);
    rules->delivery_limit = lower(&from, VIEW_LIT("x-delivery-limit"));
    rules->consumer_timeout_ms = shorter(&from, VIEW_LIT("x-consumer-timeout"));
    rules->single_active = table_find(arguments, VIEW_LIT("x-single-active-consumer"), &active) &&
                           active.type == FIELD_BOOL && active.integer != 0;
    take_dead_letters(rules, &from);
    if (!take_retry(&rules->retry, arguments, true))
        take_retry(&rules->retry, policy, false);
}

void
queue_rules_fini(struct queue_rules *rules)
{
    free(rules->dead_letter_exchange);
    free(rules->dead_letter_key);
    retry_fini(&rules->retry);
    *rules = queue_rules_none;
}
