#include "arguments_priv.h"
#include "field_text.h"
#include "lepus/broker/dedup.h"
#include "lepus/broker/retry.h"
#include "lepus/broker/stream_arguments.h"
#include "lepus/wire/table.h"

/* Queue types, as bits of a row. */
enum { C = 1, Q = 2, S = 4 };

enum check {
    ANYTHING,
    INTEGER,
    COUNT,    /* an integer from 0 to `max` */
    POSITIVE, /* from 1 */
    BOOLEAN,
    STRING,
    ROUTING_KEY, /* a string; there must be a dead-letter exchange */
    CHOICE,      /* one of the words in `choices` */
    QUEUE_TYPE,
    VERSION,
    AGE,       /* as stream_age_parse wants it */
    RETRY_MAX, /* from 1, and from x-delayed-retry-min */
    SCHEDULE,  /* as retry_parse wants it; the only one that says anything of retries */
};

#define TEN_YEARS_MS INT64_C(315360000000)

/*
 * In the order in which they are checked. `too_big` is RabbitMQ's word for what is above max.
 * `wrong`: what it says of a wrong choice, with quotes where it answers a string.
 *
 * x-delivery-limit and x-delayed-retry-* are RabbitMQ's for quorum queues only; here every queue
 * that is not a stream may have them. x-retry-schedule is our own.
 */
/* clang-format off */
#define ARGUMENTS(A) \
    /* name                              known to  check      max            too_big              choices, wrong */ \
    A("x-queue-type",                    C|Q|S,    QUEUE_TYPE,  0,             NULL,                "classic quorum stream", "\"unsupported queue type '" VIEW_FMT "'\"") \
    A("x-expires",                       C|Q,      POSITIVE,    TEN_YEARS_MS,  "value_too_large",     NULL, NULL) \
    A("x-message-ttl",                   C|Q,      COUNT,       TEN_YEARS_MS,  "value_too_large",     NULL, NULL) \
    A("x-dead-letter-exchange",          C|Q,      STRING,      0,             NULL,                NULL, NULL) \
    A("x-dead-letter-routing-key",       C|Q,      ROUTING_KEY, 0,             NULL,                NULL, NULL) \
    A("x-dead-letter-strategy",          Q,        CHOICE,      0,             NULL,                "at-most-once at-least-once", "invalid_dlx_strategy") \
    A("x-max-length",                    C|Q,      COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-max-length-bytes",              C|Q|S,    COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-max-in-memory-length",          Q,        COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-max-in-memory-bytes",           Q,        COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-max-priority",                  C,        COUNT,       255,           "max_value_exceeded", NULL, NULL) \
    A("x-overflow",                      C|Q,      CHOICE,      0,             NULL,                "drop-head reject-publish reject-publish-dlx", "invalid_overflow") \
    A("x-queue-mode",                    C,        CHOICE,      0,             NULL,                "default lazy", "\"unsupported queue mode '" VIEW_FMT "'\"") \
    A("x-queue-version",                 C,        VERSION,     0,             NULL,                NULL, NULL) \
    A("x-single-active-consumer",        C|Q,      BOOLEAN,     0,             NULL,                NULL, NULL) \
    A("x-quorum-initial-group-size",     Q,        POSITIVE,    INT64_MAX,     NULL,                NULL, NULL) \
    A("x-max-age",                       S,        AGE,         0,             NULL,                NULL, NULL) \
    A("x-stream-max-segment-size-bytes", S,        COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-stream-filter-size-bytes",      S,        COUNT,       INT64_MAX,     NULL,                NULL, NULL) \
    A("x-initial-cluster-size",          S,        POSITIVE,    INT64_MAX,     NULL,                NULL, NULL) \
    A("x-queue-leader-locator",          C|Q|S,    CHOICE,      0,             NULL,                "client-local balanced random least-leaders", "invalid_queue_locator_arg") \
    A("x-delivery-limit",                C|Q,      INTEGER,     0,             NULL,                NULL, NULL) \
    A("x-consumer-timeout",              C|Q,      COUNT,       TEN_YEARS_MS,  "value_too_large",              NULL, NULL) \
    A("x-message-deduplication",         C|Q,      BOOLEAN,     0,             NULL,                NULL, NULL) \
    A("x-cache-size",                    C|Q,      POSITIVE,    DEDUP_KEYS_MAX, "value_too_large", NULL, NULL) \
    A("x-cache-ttl",                     C|Q,      POSITIVE,    TEN_YEARS_MS,  "value_too_large",   NULL, NULL) \
    A("x-delayed-retry-type",            C|Q,      CHOICE,      0,             NULL,                "disabled all failed returned", "\"unsupported delayed retry type '" VIEW_FMT "'\"") \
    A("x-delayed-retry-min",             C|Q,      POSITIVE,    TEN_YEARS_MS,  "value_too_large",     NULL, NULL) \
    A("x-delayed-retry-max",             C|Q,      RETRY_MAX,   TEN_YEARS_MS,  "value_too_large",     NULL, NULL) \
    A("x-retry-schedule",                C|Q,      SCHEDULE,    0,             NULL,                NULL, NULL) \
    A("x-queue-master-locator",          C,        ANYTHING,    0,             NULL,                NULL, NULL)
/* clang-format on */

struct row {
    struct view name;
    unsigned known_to;
    enum check check;
    int64_t max;
    const char *too_big;
    const char *choices; /* words between single spaces */
    const char *wrong;   /* may hold one VIEW_FMT, for the value */
};

static const struct row rows[] = {
#define A(name, known_to, check, max, too_big, choices, wrong)                                     \
    {{(const uint8_t *)(name), sizeof(name) - 1}, (known_to), check, max, too_big, choices, wrong},
    ARGUMENTS(A)
#undef A
};

enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

static const struct row *
find_row(struct view name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (view_equal(rows[i].name, name))
            return &rows[i];
    return NULL;
}

/* --- checking ------------------------------------------------------------------------------ */

/* Each of these says in *why what is wrong, or leaves it empty. */

static void
check_integer(const struct row *row, const struct field *field, struct text *why)
{
    long long value = (long long)field->integer;

    if (!field_is_integer(field))
        text_put(why, "\"expected integer, got %s\"", field_type_name(field->type));
    else if (row->check == INTEGER)
        return;
    else if (value == 0 && (row->check == POSITIVE || row->check == RETRY_MAX))
        text_put(why, "{value_zero,0}");
    else if (value < 0)
        text_put(why, "{value_negative,%lld}", value);
    else if (value > row->max && row->check != VERSION)
        text_put(why, "{%s,%lld}", row->too_big, value);
    else if (row->check == VERSION && value != 1 && value != 2)
        text_put(why, "\"unsupported queue version '%lld'\"", value);
}

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

/* The row's text, with the value in the place of VIEW_FMT. */
static void
put_wrong(struct text *why, const struct row *row, struct view value)
{
    const char *hole = strstr(row->wrong, VIEW_FMT);

    if (hole == NULL)
        text_put(why, "%s", row->wrong);
    else
        text_put(why, "%.*s" VIEW_FMT "%s", (int)(hole - row->wrong), row->wrong, VIEW_ARG(value),
                 hole + strlen(VIEW_FMT));
}

static void
check_string(const struct row *row, const struct field *field, struct view all, struct text *why)
{
    struct field exchange;
    uint64_t age_ms;

    if (field->type != FIELD_LONGSTR)
        text_put(why, "{unacceptable_type,%s}", field_type_name(field->type));
    else if (row->check == ROUTING_KEY)
        text_put(why, "%s",
                 table_find(all, VIEW_LIT("x-dead-letter-exchange"), &exchange)
                     ? ""
                     : "routing_key_but_no_dlx_defined");
    else if (row->check == AGE)
        text_put(why, "%s", stream_age_parse(field->bytes, &age_ms) ? "" : "invalid_max_age");
    else if (row->choices != NULL && !is_word_of(field->bytes, row->choices))
        put_wrong(why, row, field->bytes);
}

static void
check_retry_max(const struct field *max, struct view all, struct text *why)
{
    struct field min;

    if (why->len == 0 && table_find(all, VIEW_LIT("x-delayed-retry-min"), &min) &&
        field_is_integer(&min) && max->integer < min.integer)
        text_put(why, "\"less than x-delayed-retry-min, %lld\"", (long long)min.integer);
}

static void
check_schedule(const struct field *field, struct view all, struct text *why)
{
    char wrong[RETRY_WHY_MAX];
    struct retry_rule rule;
    struct field type;

    if (field->type != FIELD_LONGSTR)
        text_put(why, "{unacceptable_type,%s}", field_type_name(field->type));
    else if (table_find(all, VIEW_LIT("x-delayed-retry-type"), &type) &&
             !view_equal(type.bytes, VIEW_LIT("disabled")))
        text_put(why, "\"there is an x-delayed-retry-type, too\"");
    else if (retry_parse(field->bytes, &rule, wrong))
        retry_fini(&rule);
    else
        text_put(why, "\"%s\"", wrong);
}

static void
check_value(const struct row *row, const struct field *field, struct view all, struct text *why)
{
    switch (row->check) {
    case ANYTHING:
        return;
    case INTEGER:
    case COUNT:
    case POSITIVE:
    case VERSION:
        check_integer(row, field, why);
        return;
    case BOOLEAN:
        if (field->type != FIELD_BOOL)
            text_put(why, "{unacceptable_type,%s}", field_type_name(field->type));
        return;
    case STRING:
    case ROUTING_KEY:
    case CHOICE:
    case QUEUE_TYPE:
    case AGE:
        check_string(row, field, all, why);
        return;
    case RETRY_MAX:
        check_integer(row, field, why);
        check_retry_max(field, all, why);
        return;
    case SCHEDULE:
        check_schedule(field, all, why);
        return;
    }
}

static bool
check_row(const struct thing *thing, const struct row *row, struct view arguments, struct err *err)
{
    struct text why = {0};
    struct field field;

    if (!table_find(arguments, row->name, &field))
        return true;
    check_value(row, &field, arguments, &why);
    if (why.len == 0)
        return true;
    return err_set(err, PRECONDITION_FAILED, "invalid arg '" VIEW_FMT "' for " THING_FMT ": %s",
                   VIEW_ARG(row->name), THING_ARG(thing), why.at);
}

enum queue_type
queue_arguments_type(struct view arguments)
{
    struct field type;

    if (!table_find(arguments, VIEW_LIT("x-queue-type"), &type) || type.type != FIELD_LONGSTR)
        return QUEUE_CLASSIC;
    return view_equal(type.bytes, VIEW_LIT("quorum"))   ? QUEUE_QUORUM
           : view_equal(type.bytes, VIEW_LIT("stream")) ? QUEUE_STREAM
                                                        : QUEUE_CLASSIC;
}

/* The type's bit of a row, and its name: RabbitMQ names the module that implements it. */
static const struct {
    unsigned bit;
    const char *name;
} types[] = {
    [QUEUE_CLASSIC] = {C, "rabbit_classic_queue"},
    [QUEUE_QUORUM] = {Q, "rabbit_quorum_queue"},
    [QUEUE_STREAM] = {S, "rabbit_stream_queue"},
};

/* Arguments that only another type knows. */
static bool
check_foreign(const struct thing *thing, struct view arguments, struct err *err)
{
    enum queue_type type = queue_arguments_type(arguments);
    struct field field;
    struct view name;

    for (size_t at = 0; table_next(arguments, &at, &name, &field);) {
        const struct row *row = find_row(name);

        if (row != NULL && (row->known_to & types[type].bit) == 0)
            return err_set(err, PRECONDITION_FAILED,
                           "invalid arg '" VIEW_FMT "' for " THING_FMT " of queue type %s",
                           VIEW_ARG(name), THING_ARG(thing), types[type].name);
    }
    return true;
}

/* A quorum queue or a stream is durable, and nobody's own. */
static bool
check_properties(const struct thing *thing, const struct queue_spec *spec, struct err *err)
{
    const char *wrong = spec->auto_delete ? "auto-delete"
                        : spec->exclusive ? "exclusive-owner"
                        : !spec->durable  ? "non-durable"
                                          : NULL;

    if (wrong == NULL || queue_arguments_type(spec->arguments) == QUEUE_CLASSIC)
        return true;
    return err_set(err, PRECONDITION_FAILED, "invalid property '%s' for " THING_FMT, wrong,
                   THING_ARG(thing));
}

/* What RabbitMQ checks when it makes the stream, and words without saying of what. */
static bool
check_stream(struct view arguments, struct err *err)
{
    struct field field;

    if (table_find(arguments, VIEW_LIT("x-stream-max-segment-size-bytes"), &field) &&
        field.integer > STREAM_SEGMENT_BYTES_MAX)
        return err_set(err, PRECONDITION_FAILED,
                       "Exceeded max value for x-stream-max-segment-size-bytes");
    if (table_find(arguments, VIEW_LIT("x-stream-filter-size-bytes"), &field) &&
        (field.integer < STREAM_FILTER_MIN || field.integer > STREAM_FILTER_MAX))
        return err_set(err, PRECONDITION_FAILED, "Invalid value for x-stream-filter-size-bytes");
    return true;
}

/* RabbitMQ looks at this one before all others, and in other words. */
static bool
check_dead_letter_exchange(const struct thing *thing, struct view arguments, struct err *err)
{
    struct field field;

    if (!table_find(arguments, VIEW_LIT("x-dead-letter-exchange"), &field) ||
        field.type == FIELD_LONGSTR)
        return true;
    return err_set(err, PRECONDITION_FAILED,
                   "invalid type '%s' for arg 'x-dead-letter-exchange' in " THING_FMT,
                   field_type_name(field.type), THING_ARG(thing));
}

bool
queue_arguments_check(const struct thing *thing, const struct queue_spec *spec, struct err *err)
{
    unsigned type;

    if (spec->arguments.len == 0)
        return true;
    if (!check_dead_letter_exchange(thing, spec->arguments, err) ||
        !check_row(thing, &rows[0], spec->arguments, err)) /* the type first */
        return false;
    type = types[queue_arguments_type(spec->arguments)].bit;
    for (size_t i = 1; i < N_ROWS; i++)
        if ((rows[i].known_to & type) != 0 && !check_row(thing, &rows[i], spec->arguments, err))
            return false;
    return check_foreign(thing, spec->arguments, err) && check_properties(thing, spec, err) &&
           (type != S || check_stream(spec->arguments, err));
}

bool
queue_arguments_may_be_nameless(struct view arguments, struct err *err)
{
    enum queue_type type = queue_arguments_type(arguments);

    if (type == QUEUE_CLASSIC)
        return true;
    return err_set(err, PRECONDITION_FAILED, "Cannot declare a server-named queue for type %s",
                   types[type].name);
}

/* --- equivalence --------------------------------------------------------------------------- */

bool
err_inequivalent(struct err *err, const struct thing *thing, const char *arg, const char *received,
                 const char *current)
{
    return err_set(err, PRECONDITION_FAILED,
                   "inequivalent arg '%s' for " THING_FMT ": received '%s' but current is '%s'",
                   arg, THING_ARG(thing), received, current);
}

bool
check_same_flag(const struct thing *thing, const char *arg, bool current, bool received,
                struct err *err)
{
    return current == received || err_inequivalent(err, thing, arg, received ? "true" : "false",
                                                   current ? "true" : "false");
}

/* A value beside one that is missing is told with its type, beside another without. */
static void
put_side(struct text *to, const struct field *field, bool with_type)
{
    if (field == NULL) {
        text_put(to, "none");
        return;
    }
    text_put(to, with_type ? "the value '" : "'");
    text_put_plain(to, field);
    text_put(to, "'");
    if (with_type)
        text_put(to, " of type '%s'", field_type_name(field->type));
}

/* The type needs not be said when it is classic. */
static bool
is_default(struct view arg, const struct field *field)
{
    return view_equal(arg, VIEW_LIT("x-queue-type")) && field->type == FIELD_LONGSTR &&
           view_equal(field->bytes, VIEW_LIT("classic"));
}

bool
check_same_argument(const struct thing *thing, struct view arg, struct view current,
                    struct view received, struct err *err)
{
    struct field is, wanted;
    bool has_is = table_find(current, arg, &is), has_wanted = table_find(received, arg, &wanted);
    struct text now = {0}, then = {0};

    if (!has_is && !has_wanted)
        return true;
    if (has_is && has_wanted && field_equal(&is, &wanted))
        return true;
    if (has_is != has_wanted && is_default(arg, has_is ? &is : &wanted))
        return true;
    put_side(&then, has_wanted ? &wanted : NULL, !has_is);
    put_side(&now, has_is ? &is : NULL, !has_wanted);
    return err_set(err, PRECONDITION_FAILED,
                   "inequivalent arg '" VIEW_FMT "' for " THING_FMT
                   ": received %s but current is %s",
                   VIEW_ARG(arg), THING_ARG(thing), then.at, now.at);
}

bool
queue_arguments_same(const struct thing *thing, struct view current, struct view received,
                     struct err *err)
{
    unsigned type = types[queue_arguments_type(current)].bit;

    if (current.len == 0 && received.len == 0)
        return true;
    for (size_t i = 1; i < N_ROWS; i++)
        if ((rows[i].known_to & type) != 0 &&
            !check_same_argument(thing, rows[i].name, current, received, err))
            return false;
    return check_same_argument(thing, rows[0].name, current, received, err); /* the type last */
}
