#include "lepus/broker/retry.h"

#include <stdio.h>
#include <stdlib.h>

#include "lepus/base/mem.h"

#define DELAY_MAX_MS   UINT64_C(315360000000) /* ten years */
#define DEFAULT_MIN_MS 1000

/* --- a schedule's text ------------------------------------------------------------------ */

struct reader {
    struct view text;
    size_t at;
    char *why;
};

/* The place, and what was looked for there. */
static bool
wrong(struct reader *r, const char *what)
{
    if (r->at < r->text.len && r->text.at[r->at] > ' ' && r->text.at[r->at] <= '~')
        snprintf(r->why, RETRY_WHY_MAX, "%s, not '%c', at character %zu", what,
                 (char)r->text.at[r->at], r->at + 1);
    else
        snprintf(r->why, RETRY_WHY_MAX, "%s at character %zu", what, r->at + 1);
    return false;
}

static bool
take(struct reader *r, char c)
{
    bool is_there = r->at < r->text.len && r->text.at[r->at] == (uint8_t)c;

    r->at += is_there;
    return is_there;
}

static bool
is_word(const struct reader *r, struct view word)
{
    return r->text.len - r->at >= word.len &&
           view_equal(view_of(r->text.at + r->at, word.len), word);
}

static bool
read_number(struct reader *r, uint64_t max, const char *what, uint64_t *out)
{
    size_t from = r->at;
    uint64_t value = 0;

    for (; r->at < r->text.len && r->text.at[r->at] >= '0' && r->text.at[r->at] <= '9'; r->at++) {
        value = value * 10 + (uint64_t)(r->text.at[r->at] - '0');
        if (value > max) {
            r->at = from;
            return wrong(r, what);
        }
    }
    *out = value;
    return r->at > from || wrong(r, what);
}

static const struct {
    struct view name;
    uint64_t ms;
} units[] = {
    {{(const uint8_t *)"ms", 2}, 1},           {{(const uint8_t *)"s", 1}, 1000},
    {{(const uint8_t *)"m", 1}, 60 * 1000},    {{(const uint8_t *)"h", 1}, 3600 * 1000},
    {{(const uint8_t *)"d", 1}, 86400 * 1000},
};

static bool
read_unit(struct reader *r, uint64_t *out_ms)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (is_word(r, units[i].name)) {
            r->at += units[i].name.len;
            *out_ms = units[i].ms;
            return true;
        }
    return wrong(r, "a unit is expected (ms, s, m, h, d)");
}

static bool
read_step(struct reader *r, struct retry_step *out)
{
    static const char too_long[] = "a wait is 1 ms to ten years";
    static const char too_often[] = "1 to 1000000 times are expected";
    uint64_t times = 1, unit_ms = 1;
    size_t from = r->at;

    if (!read_number(r, DELAY_MAX_MS, "a number is expected, up to ten years", &out->delay_ms) ||
        !read_unit(r, &unit_ms))
        return false;
    if (out->delay_ms == 0 || out->delay_ms > DELAY_MAX_MS / unit_ms) {
        r->at = from;
        return wrong(r, too_long);
    }
    out->delay_ms *= unit_ms;
    if (take(r, '*')) {
        from = r->at;
        if (!read_number(r, RETRY_TIMES_MAX, too_often, &times))
            return false;
        if (times == 0) {
            r->at = from;
            return wrong(r, too_often);
        }
    }
    out->times = (uint32_t)times;
    return true;
}

static bool
read_jitter(struct reader *r, uint8_t *out)
{
    uint64_t percent;

    if (!is_word(r, VIEW_LIT("jitter=")))
        return wrong(r, "'jitter=' is expected");
    r->at += strlen("jitter=");
    if (!read_number(r, 100, "0 to 100 is expected", &percent))
        return false;
    if (!take(r, '%'))
        return wrong(r, "'%' is expected");
    *out = (uint8_t)percent;
    return true;
}

static bool
read_schedule(struct reader *r, struct retry_rule *out)
{
    do {
        if (out->n_steps == RETRY_STEPS_MAX)
            return wrong(r, "more than 64 steps: an end is expected");
        if (!read_step(r, &out->steps[out->n_steps]))
            return false;
        out->n_retries += out->steps[out->n_steps++].times;
    } while (take(r, ','));
    if (take(r, ';') && !read_jitter(r, &out->jitter))
        return false;
    return r->at == r->text.len || wrong(r, "',', '*', ';' or the end is expected");
}

bool
retry_parse(struct view schedule, struct retry_rule *out, char why[RETRY_WHY_MAX])
{
    struct reader reader = {.text = schedule, .why = why};
    struct retry_rule rule = {.failed = true, .returned = true};

    rule.steps = mem_alloc(RETRY_STEPS_MAX * sizeof(rule.steps[0]));
    if (!read_schedule(&reader, &rule)) {
        free(rule.steps);
        return false;
    }
    rule.steps = mem_resize(rule.steps, rule.n_steps * sizeof(rule.steps[0]));
    *out = rule;
    return true;
}

void
retry_fini(struct retry_rule *rule)
{
    free(rule->steps);
    *rule = (struct retry_rule){0};
}

/* --- types ------------------------------------------------------------------------------ */

bool
retry_of_type(struct view type, struct retry_rule *out)
{
    bool all = view_equal(type, VIEW_LIT("all"));

    *out = (struct retry_rule){
        .failed = all || view_equal(type, VIEW_LIT("failed")),
        .returned = all || view_equal(type, VIEW_LIT("returned")),
        .min_ms = DEFAULT_MIN_MS,
        .max_ms = UINT64_MAX,
    };
    return !retry_is_none(out) || view_equal(type, VIEW_LIT("disabled"));
}

/* --- waits ------------------------------------------------------------------------------ */

static uint64_t
step_of(const struct retry_rule *rule, uint64_t failures)
{
    size_t i = 0;

    for (; i + 1 < rule->n_steps && failures > rule->steps[i].times; i++)
        failures -= rule->steps[i].times;
    return rule->steps[i].delay_ms;
}

uint64_t
retry_delay_ms(const struct retry_rule *rule, uint64_t failures, uint64_t random)
{
    uint64_t delay_ms, spread_ms;

    if (rule->n_steps == 0) {
        delay_ms = failures > DELAY_MAX_MS / rule->min_ms ? DELAY_MAX_MS : failures * rule->min_ms;
        return delay_ms < rule->max_ms ? delay_ms : rule->max_ms;
    }
    delay_ms = step_of(rule, failures);
    spread_ms = delay_ms / 100 * rule->jitter + delay_ms % 100 * rule->jitter / 100;
    return delay_ms - spread_ms + random % (2 * spread_ms + 1);
}
