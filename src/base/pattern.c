#include "lepus/base/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "lepus/base/mem.h"

enum {
    STEPS_MAX = 100000, /* a few milliseconds */
    HEAP_KIB_MAX = 1024,
};

static const uint8_t none[1]; /* where an empty text has no address */

struct pattern {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
};

static void *
take_memory(PCRE2_SIZE size, void *arg)
{
    (void)arg;
    return mem_alloc(size);
}

static void
give_back(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

struct pattern *
pattern_new(struct view text, struct err *err)
{
    struct pattern *pattern;
    PCRE2_SIZE at;
    int error;

    if (text.len > PATTERN_BYTES_MAX) {
        err_set(err, PRECONDITION_FAILED, "{\"regular expression is too large\",%zu}", text.len);
        return NULL;
    }
    pattern = mem_new(struct pattern);
    pattern->memory = pcre2_general_context_create(take_memory, give_back, NULL);
    pattern->limits = pcre2_match_context_create(pattern->memory);
    pcre2_set_match_limit(pattern->limits, STEPS_MAX);
    pcre2_set_heap_limit(pattern->limits, HEAP_KIB_MAX);
    pattern->code = pcre2_compile(text.len > 0 ? text.at : none, text.len, 0, &error, &at, NULL);
    if (pattern->code == NULL) {
        PCRE2_UCHAR why[128];

        pcre2_get_error_message(error, why, sizeof(why));
        err_set(err, PRECONDITION_FAILED, "{\"%s\",%zu}", (const char *)why, (size_t)at);
        pattern_free(pattern);
        return NULL;
    }
    return pattern;
}

void
pattern_free(struct pattern *pattern)
{
    if (pattern == NULL)
        return;
    pcre2_code_free(pattern->code);
    pcre2_match_context_free(pattern->limits);
    pcre2_general_context_free(pattern->memory);
    free(pattern);
}

bool
pattern_matches(const struct pattern *pattern, struct view subject)
{
    pcre2_match_data *room = pcre2_match_data_create(1, pattern->memory); /* of this thread */
    int found = pcre2_match(pattern->code, subject.len > 0 ? subject.at : none, subject.len, 0, 0,
                            room, pattern->limits);

    pcre2_match_data_free(room);
    return found >= 0;
}
