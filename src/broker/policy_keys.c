/* policy_keys: the keys that a policy's definition may have, each a row. */
#include <jansson.h>

#include "field_text.h"
#include "lepus/broker/retry.h"
#include "lepus/broker/stream_arguments.h"
#include "policy_priv.h"

enum { X = POLICY_EXCHANGE, C = POLICY_CLASSIC, Q = POLICY_QUORUM, S = POLICY_STREAM };

enum check {
    ANYTHING,
    NUMBER, /* from least to most */
    TEXT,
    CHOICE,   /* a text that is one of the words in `choices` */
    AGE,      /* as stream_age_parse wants it */
    SCHEDULE, /* as retry_parse wants it */
};

/* What holds when a policy and an operator policy have the key. NOT_THEIRS: operator policies do
 * not know it. */
enum join { NOT_THEIRS, LOWER, HIGHER, THEIRS };

#define MOST        INT64_MAX
#define SEGMENT_MAX INT64_C(3000000000)

/*
 * `barred`: queues that cannot have it. delivery-limit is RabbitMQ's for quorum queues only; here
 * every queue that is not a stream may have one. `wrong`: RabbitMQ's text, the value in the
 * place of ~.
 */
/* clang-format off */
#define KEYS(K) \
    /* key                             barred  join        check     least  most         choices, wrong */ \
    K("alternate-exchange",            0,      NOT_THEIRS, TEXT,     0,     0,           NULL, "~ is not a valid alternate exchange name") \
    K("consumer-timeout",              0,      NOT_THEIRS, NUMBER,   0,     MOST,        NULL, "~ is not a valid consumer timeout") \
    K("dead-letter-exchange",          S,      NOT_THEIRS, TEXT,     0,     0,           NULL, "~ is not a valid dead letter exchange name") \
    K("dead-letter-routing-key",       S,      NOT_THEIRS, TEXT,     0,     0,           NULL, "~ is not a valid dead letter routing key") \
    K("dead-letter-strategy",          C|S,    NOT_THEIRS, CHOICE,   0,     0,           "at-most-once at-least-once", "~ is not a valid dead letter strategy") \
    K("delayed-retry-max",             S,      LOWER,      NUMBER,   1,     MOST,        NULL, "~ is not a valid delayed retry maximum") \
    K("delayed-retry-min",             S,      HIGHER,     NUMBER,   1,     MOST,        NULL, "~ is not a valid delayed retry minimum") \
    K("delayed-retry-type",            S,      THEIRS,     CHOICE,   0,     0,           "disabled all failed returned", "~ is not a valid delayed retry type") \
    K("delivery-limit",                S,      LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid delivery limit") \
    K("expires",                       S,      LOWER,      NUMBER,   1,     MOST,        NULL, "~ is not a valid queue expiry") \
    K("ha-mode",                       Q|S,    THEIRS,     CHOICE,   0,     0,           "all exactly nodes", "~ is not a valid ha-mode value") \
    K("ha-params",                     Q|S,    THEIRS,     ANYTHING, 0,     0,           NULL, NULL) \
    K("ha-promote-on-failure",         Q|S,    THEIRS,     CHOICE,   0,     0,           "always when-synced", "ha-promote-on-failure must be \"always\" or \"when-synced\", got ~") \
    K("ha-promote-on-shutdown",        Q|S,    THEIRS,     CHOICE,   0,     0,           "always when-synced", "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got ~") \
    K("ha-sync-batch-size",            Q|S,    THEIRS,     NUMBER,   1,     MOST,        NULL, "ha-sync-batch-size takes an integer greater than 0, ~ given") \
    K("ha-sync-mode",                  Q|S,    THEIRS,     CHOICE,   0,     0,           "manual automatic", "ha-sync-mode must be \"manual\" or \"automatic\", got ~") \
    K("initial-cluster-size",          C|Q,    NOT_THEIRS, NUMBER,   0,     MOST,        NULL, "~ is not a valid cluster size") \
    K("max-age",                       C|Q,    NOT_THEIRS, AGE,      0,     0,           NULL, "~ is not a valid max age") \
    K("max-in-memory-bytes",           C|S,    LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid maximum memory in bytes") \
    K("max-in-memory-length",          C|S,    LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid maximum memory in bytes") \
    K("max-length",                    S,      LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid maximum length") \
    K("max-length-bytes",              0,      LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid maximum length in bytes") \
    K("message-ttl",                   S,      LOWER,      NUMBER,   0,     MOST,        NULL, "~ is not a valid message TTL") \
    K("overflow",                      S,      THEIRS,     CHOICE,   0,     0,           "drop-head reject-publish reject-publish-dlx", "~ is not a valid overflow value") \
    K("queue-leader-locator",          0,      NOT_THEIRS, CHOICE,   0,     0,           "client-local balanced random least-leaders", "~ is not a valid queue leader locator value") \
    K("queue-master-locator",          Q|S,    NOT_THEIRS, CHOICE,   0,     0,           "client-local min-masters random", "~ invalid queue-master-locator value") \
    K("queue-mode",                    Q|S,    NOT_THEIRS, CHOICE,   0,     0,           "default lazy", "~ is not a valid queue-mode value") \
    K("queue-version",                 Q|S,    THEIRS,     NUMBER,   1,     2,           NULL, "~ is not a valid queue-version value") \
    K("retry-schedule",                S,      NOT_THEIRS, SCHEDULE, 0,     0,           NULL, "~ is not a valid retry schedule") \
    K("stream-filter-size-bytes",      C|Q,    NOT_THEIRS, NUMBER,   16,    255,         NULL, "~ is not a valid filter size") \
    K("stream-max-segment-size-bytes", C|Q,    NOT_THEIRS, NUMBER,   0,     SEGMENT_MAX, NULL, "~ is not a valid segment size") \
    K("target-group-size",             C|S,    HIGHER,     NUMBER,   0,     MOST,        NULL, "~ is not a valid target count")
/* clang-format on */

struct row {
    struct view key;
    unsigned barred;
    enum join join;
    enum check check;
    int64_t least, most;
    const char *choices; /* words between single spaces */
    const char *wrong;
};

static const struct row rows[] = {
#define K(key, barred, join, check, least, most, choices, wrong)                                   \
    {{(const uint8_t *)(key), sizeof(key) - 1}, (barred), join, check, least, most, choices, wrong},
    KEYS(K)
#undef K
};

static const struct row *
find_row(struct view key)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (view_equal(rows[i].key, key))
            return &rows[i];
    return NULL;
}

static const struct row *
find_row_of(struct view key, bool is_operator)
{
    const struct row *row = find_row(key);

    return row != NULL && is_operator && row->join == NOT_THEIRS ? NULL : row;
}

bool
policy_knows_key(struct view key, bool is_operator)
{
    return find_row_of(key, is_operator) != NULL;
}

/* --- values as RabbitMQ's texts show them -------------------------------------------------- */

static struct view
json_view(const json_t *string)
{
    return view_of(json_string_value(string), json_string_length(string));
}

static void put_value(struct text *text, const json_t *value);

static void
put_members(struct text *text, const json_t *object)
{
    const char *comma = "", *name;
    json_t *value;

    text_put(text, "#{");
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        text_put(text, "%s<<\"%s\">> => ", comma, name);
        put_value(text, value);
        comma = ",";
    }
    text_put(text, "}");
}

static void
put_elements(struct text *text, const json_t *array)
{
    json_t *value;
    size_t i;

    text_put(text, "[");
    json_array_foreach(array, i, value)
    {
        text_put(text, i > 0 ? "," : "");
        put_value(text, value);
    }
    text_put(text, "]");
}

static void
put_value(struct text *text, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        put_members(text, value);
        break;
    case JSON_ARRAY:
        put_elements(text, value);
        break;
    case JSON_STRING:
        text_put_field(text, &(struct field){.type = FIELD_LONGSTR, .bytes = json_view(value)});
        break;
    case JSON_INTEGER:
        text_put(text, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        text_put(text, "%.16g", json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        text_put(text, json_is_true(value) ? "true" : "false");
        break;
    case JSON_NULL:
        text_put(text, "null");
        break;
    }
}

/* --- checking ------------------------------------------------------------------------------ */

static bool
is_word_of(struct view value, const char *choices)
{
    for (const char *word = choices; *word != '\0';) {
        size_t n = strcspn(word, " ");

        if (view_equal(value, view_of(word, n)))
            return true;
        word += n;
        word += *word == ' ';
    }
    return false;
}

static bool
is_schedule(struct view value)
{
    struct retry_rule rule;
    char why[RETRY_WHY_MAX];

    if (!retry_parse(value, &rule, why))
        return false;
    retry_fini(&rule);
    return true;
}

static bool
is_valid(const struct row *row, const json_t *value)
{
    uint64_t age_ms;

    switch (row->check) {
    case ANYTHING:
        return true;
    case NUMBER:
        return json_is_integer(value) && json_integer_value(value) >= row->least &&
               json_integer_value(value) <= row->most;
    case TEXT:
        return json_is_string(value);
    case CHOICE:
        return json_is_string(value) && is_word_of(json_view(value), row->choices);
    case AGE:
        return json_is_string(value) && stream_age_parse(json_view(value), &age_ms);
    case SCHEDULE:
        return json_is_string(value) && is_schedule(json_view(value));
    }
    return false;
}

static bool
err_invalid(struct err *err, const struct row *row, const json_t *value)
{
    size_t before = strcspn(row->wrong, "~");
    struct text text = {0};

    text_put(&text, "%.*s", (int)before, row->wrong);
    put_value(&text, value);
    text_put(&text, "%s", row->wrong + before + 1);
    return err_set(err, PRECONDITION_FAILED, "%s", text.at);
}

static bool
err_unknown(struct err *err, const json_t *object, bool is_operator)
{
    struct text text = {0};
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (policy_knows_key(view_str(name), is_operator))
            continue;
        text_put(&text, "%s{<<\"%s\">>,", text.len > 0 ? "," : "", name);
        put_value(&text, value);
        text_put(&text, "}");
    }
    return err_set(err, PRECONDITION_FAILED, "[%s] are not recognised policy settings", text.at);
}

static void
put_key(struct buf *to, const struct row *row, const json_t *value)
{
    if (json_is_integer(value))
        table_put_i64(to, row->key, json_integer_value(value));
    else if (json_is_string(value))
        table_put_longstr(to, row->key, json_view(value));
}

static bool
read_object(const json_t *object, bool is_operator, enum policy_strictness strictness,
            struct buf *out, unsigned *out_barred, struct err *err)
{
    bool all_known = true;
    const char *name;
    json_t *value;

    *out_barred = 0;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const struct row *row = find_row_of(view_str(name), is_operator);

        if (row != NULL && !is_valid(row, value))
            return err_invalid(err, row, value);
        all_known &= row != NULL;
        if (row == NULL)
            continue;
        *out_barred |= row->barred;
        put_key(out, row, value);
    }
    return all_known || strictness == POLICY_KEEPS_UNKNOWN || err_unknown(err, object, is_operator);
}

static bool
read_json(const json_t *json, bool is_operator, enum policy_strictness strictness, struct buf *out,
          unsigned *out_barred, struct err *err)
{
    struct text text = {0};

    if (!json_is_object(json)) {
        put_value(&text, json);
        return err_set(err, PRECONDITION_FAILED, "definition must be a dictionary: %s", text.at);
    }
    if (json_object_size(json) == 0 && strictness == POLICY_REFUSES_UNKNOWN)
        return err_set(err, PRECONDITION_FAILED, "no policy provided");
    if (json_object_get(json, "ha-mode") == NULL &&
        (json_object_get(json, "ha-params") != NULL ||
         json_object_get(json, "ha-sync-mode") != NULL ||
         json_object_get(json, "ha-promote-on-shutdown") != NULL))
        return err_set(err, PRECONDITION_FAILED,
                       "ha-mode must be specified to specify ha-params, ha-sync-mode or "
                       "ha-promote-on-shutdown");
    return read_object(json, is_operator, strictness, out, out_barred, err);
}

bool
policy_keys_read(struct view definition, bool is_operator, enum policy_strictness strictness,
                 struct buf *out, unsigned *out_barred, struct err *err)
{
    json_error_t error;
    json_t *json = json_loadb((const char *)definition.at, definition.len,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    bool ok;

    if (json == NULL)
        return err_set(err, PRECONDITION_FAILED, "JSON decoding error. Reason: %s", error.text);
    ok = read_json(json, is_operator, strictness, out, out_barred, err);
    json_decref(json);
    return ok;
}

/* --- joining ------------------------------------------------------------------------------- */

void
policy_keys_add(struct buf *to, struct view table, enum policy_target target)
{
    struct field field, there;
    struct view name;

    for (size_t at = 0; table_next(table, &at, &name, &field);)
        if ((find_row(name)->barred & target) == 0 && !table_find(buf_view(to), name, &there))
            table_put_field(to, name, &field);
}

static const struct field *
of_both(struct view key, const struct field *policy, const struct field *operator_policy)
{
    const struct row *row = find_row(key);
    bool is_lower = policy->integer < operator_policy->integer;

    if (row != NULL && ((row->join == LOWER && is_lower) || (row->join == HIGHER && !is_lower)))
        return policy;
    return operator_policy;
}

void
policy_keys_join(struct buf *to, struct view policy, struct view operator_policy)
{
    struct field field, other;
    struct view name;

    for (size_t at = 0; table_next(policy, &at, &name, &field);)
        table_put_field(to, name,
                        table_find(operator_policy, name, &other) ? of_both(name, &field, &other)
                                                                  : &field);
    for (size_t at = 0; table_next(operator_policy, &at, &name, &field);)
        if (!table_find(policy, name, &other))
            table_put_field(to, name, &field);
}
