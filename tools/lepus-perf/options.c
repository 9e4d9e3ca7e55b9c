#include "options.h"

#include <ctype.h>
#include <errno.h>

#include "lepus/base/mem.h"
#include "lepus/wire/table.h"

enum { TABLE_MAX = 64 * 1024, HELP_COLUMN = 30 };

enum kind { TEXT, COUNT, SECONDS, RATE, FLAG, SIZES, PAIRS, URL };

/* kind, member, name, what its value is, default (NULL: none), what it does */
/* clang-format off */
#define OPTIONS(HEAD, O)                                                                           \
    HEAD("The broker")                                                                             \
    O(URL,     url,                "url",               "URL",     "amqp://guest:guest@127.0.0.1:5672/%2F", "amqp[s]://user:password@host:port/vhost") \
    O(TEXT,    ca,                 "ca",                "FILE",    NULL,  "Certificates to trust: the server's certificate and name are verified. Without it amqps:// encrypts and verifies nothing.") \
    O(TEXT,    cert,               "cert",              "FILE",    NULL,  "The certificate to show to the server.")                 \
    O(TEXT,    key,                "key",               "FILE",    NULL,  "Its private key.")                                       \
    O(COUNT,   heartbeat_s,        "heartbeat",         "N",       "60",  "Seconds between heartbeats; 0: none.")                   \
    O(COUNT,   frame_max,          "frame-max",         "BYTES",   "128KiB", "The largest frame to agree to.")                      \
    HEAD("Who takes part")                                                                         \
    O(COUNT,   producers,          "producers",         "N",       "1",   "Publishing channels.")                                   \
    O(COUNT,   consumers,          "consumers",         "N",       "1",   "Consuming channels.")                                    \
    O(COUNT,   per_connection,     "per-connection",    "N",       "1",   "Channels that share a connection. Producers and consumers never do.") \
    O(COUNT,   threads,            "threads",           "N",       "1",   "Threads that drive the connections.")                    \
    O(COUNT,   churn,              "churn",             "N",       "0",   "Instead of all that: N clients at a time that connect, open a channel, declare an exclusive queue, publish to it, close, and begin again. --publish counts such lives; latency is the length of one.") \
    HEAD("Queues and routing")                                                                     \
    O(TEXT,    queue,              "queue",             "NAME",    "lepus-perf", "Name of the queue; of several, with %d for the number (0, 1...).") \
    O(COUNT,   queues,             "queues",            "N",       "1",   "Queues. Producers and consumers are dealt to them in turn; where there are fewer of those than queues, each serves several.") \
    O(PAIRS,   queue_arguments,    "queue-argument",    "K=V",     NULL,  "An argument of queue.declare, such as x-queue-type=stream.") \
    O(FLAG,    durable,            "durable",           NULL,      NULL,  "Queues and exchange are durable.")                       \
    O(FLAG,    exclusive,          "exclusive",         NULL,      NULL,  "Queues are exclusive, declared by their consumer: as many consumers as queues.") \
    O(FLAG,    auto_delete,        "auto-delete",       NULL,      NULL,  "Queues and exchange are auto-delete.")                   \
    O(TEXT,    exchange,           "exchange",          "NAME",    "",    "Publish to this exchange; empty: the default one, with the queues' names as keys.") \
    O(TEXT,    type,               "type",              "TYPE",    "direct", "Type to declare the exchange with.")                  \
    O(TEXT,    routing_key,        "routing-key",       "KEY",     "perf.%d", "Key to publish with; %d goes through the numbers below --routing-keys, one a message.") \
    O(COUNT,   routing_keys,       "routing-keys",      "N",       NULL,  "(as many as bindings)")                                  \
    O(TEXT,    binding_key,        "binding-key",       "KEY",     NULL,  "Key to bind with; %d is the number of the binding. (the routing key)") \
    O(COUNT,   bindings,           "bindings",          "N",       NULL,  "Bindings, dealt to the queues in turn: number b binds queue b modulo queues. (as many as queues)") \
    O(PAIRS,   binding_arguments,  "binding-argument",  "K=V",     NULL,  "An argument of queue.bind.")                             \
    O(FLAG,    no_declare,         "no-declare",        NULL,      NULL,  "Declare and bind nothing: all is there.")                \
    O(FLAG,    purge,              "purge",             NULL,      NULL,  "Empty the queues before the start.")                     \
    O(FLAG,    delete_after,       "delete",            NULL,      NULL,  "Delete the queues, and the exchange, at the end.")       \
    HEAD("Messages")                                                                               \
    O(SIZES,   size,               "size",              "BYTES",   "16",  "Size of the bodies: one, a list to go through (16,1KiB,64KiB), or a range to draw from (100-2000). With 8 or more the body begins with the time for the latency.") \
    O(FLAG,    persistent,         "persistent",        NULL,      NULL,  "delivery-mode 2.")                                       \
    O(FLAG,    mandatory,          "mandatory",         NULL,      NULL,  "What cannot be routed is returned, and counted.")        \
    O(COUNT,   priority,           "priority",          "N",       NULL,  "The priority property.")                                 \
    O(TEXT,    expiration,         "expiration",        "MS",      NULL,  "The expiration property.")                               \
    O(PAIRS,   headers,            "header",            "K=V",     NULL,  "A field of the headers property.")                       \
    HEAD("Flow")                                                                                   \
    O(RATE,    rate,               "rate",              "N",       "0",   "Messages a second in total, at times fixed beforehand: latency counts from when a message was due, so a broker that stalls is charged for what had to wait. 0: as fast as can be, and latency counts from the write.") \
    O(COUNT,   confirm,            "confirm",           "N",       "0",   "Publisher confirms, with at most N messages of a producer unconfirmed; 0: none.") \
    O(COUNT,   prefetch,           "prefetch",          "N",       "0",   "basic.qos of each consumer; 0: no limit.")               \
    O(COUNT,   ack,                "ack",               "N",       "0",   "Acknowledge every Nth delivery and all before it; 0: consume without acknowledgements.") \
    O(PAIRS,   consumer_arguments, "consumer-argument", "K=V",     NULL,  "An argument of basic.consume, such as x-stream-offset=first.") \
    HEAD("How long")                                                                               \
    O(COUNT,   publish,            "publish",           "N",       NULL,  "Publish N messages in total. Without confirms the end is when the broker has answered channel.close behind them.") \
    O(COUNT,   consume,            "consume",           "N",       NULL,  "Consume N messages in total. (what --publish says; for a fanout exchange times the queues)") \
    O(SECONDS, duration_s,         "duration",          "S",       "0",   "End after this many seconds; 0: when the counts are reached or SIGINT comes.") \
    O(SECONDS, warmup_s,           "warmup",            "S",       "0",   "Leave this first time out of the figures; --duration begins behind it.") \
    O(SECONDS, patience_s,         "patience",          "S",       "30",  "Give up when nothing at all has happened for so long.")  \
    HEAD("Output")                                                                                 \
    O(FLAG,    json,               "json",              NULL,      NULL,  "The summary as one JSON object.")                        \
    O(FLAG,    quiet,              "quiet",             NULL,      NULL,  "No line a second on standard error.")                    \
    O(FLAG,    wall_clock,         "wall-clock",        NULL,      NULL,  "Time by the wall clock, for producers and consumers on different machines.")
/* clang-format on */

struct row {
    enum kind kind;
    size_t offset;
    const char *name, *value, *initial, *help;
};

#define HEAD(title) {FLAG, 0, NULL, NULL, NULL, title},
#define O(kind, member, name, value, initial, help)                                                \
    {kind, offsetof(struct options, member), name, value, initial, help},
static const struct row rows[] = {OPTIONS(HEAD, O)};
#undef O
#undef HEAD

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const char before[] =
    "lepus-perf: load for an AMQP 0-9-1 broker, and what it does with it.\n"
    "\n"
    "    lepus-perf [OPTION...]\n"
    "\n"
    "Connects, declares what is to be declared, consumes, publishes, prints a line a second on\n"
    "standard error, and in the end a summary on standard output.\n"
    "\n"
    "    lepus-perf --duration 10                              as fast as can be\n"
    "    lepus-perf --rate 50k --duration 10 --warmup 2        latency at a load\n"
    "    lepus-perf --durable --persistent --confirm 1000 --prefetch 1000 --ack 100\n"
    "    lepus-perf --consumers 0 --publish 10M --size 100     fill\n"
    "    lepus-perf --producers 0 --consume 10M                drain\n"
    "    lepus-perf --exchange x --type fanout --queues 10 --consumers 10 --rate 10k\n";

static const char after[] =
    "\n"
    "Numbers take k, M, G (thousands) and KiB, MiB, GiB. A K=V whose value looks like a number or\n"
    "is true or false is sent as one, anything else as text; K:TYPE=V says otherwise, with text,\n"
    "int, bool, double or timestamp as TYPE.\n"
    "\n"
    "Exit status: 0; 1 when the broker closed a channel or connection, cancelled a consumer, or\n"
    "the counts were not reached: standard error says which; 2 for a mistake on the command "
    "line.\n";

/* Values */

static bool
wrong(const char *name, const char *value, const char *what)
{
    fprintf(stderr, "lepus-perf: --%s %s: %s\n", name, value, what);
    return false;
}

/* Number and unit; a fraction is fine. */
static bool
read_number(const char *text, const char **out_end, double *out)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824},
                 {"k", 1e3},    {"M", 1e6},       {"G", 1e9}};
    char *end;

    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return false;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || errno != 0)
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strncmp(end, units[i].unit, strlen(units[i].unit)) == 0) {
            *out *= units[i].factor;
            end += strlen(units[i].unit);
            break;
        }
    *out_end = end;
    return *out < 9e15;
}

static bool
read_count(const char *text, uint64_t *out)
{
    const char *end;
    double number;

    if (!read_number(text, &end, &number) || *end != '\0')
        return false;
    *out = (uint64_t)number;
    return (double)*out == number;
}

static bool
read_real(const char *text, double *out)
{
    const char *end;

    return read_number(text, &end, out) && *end == '\0';
}

static bool
read_sizes(const char *text, struct sizes *out)
{
    double number;

    *out = (struct sizes){.count = 0};
    for (;; text++) {
        if (out->count == SIZES_MAX || !read_number(text, &text, &number) || number > 1e9)
            return false;
        out->sizes[out->count++] = (size_t)number;
        if (*text == '-')
            out->is_range = true;
        else if (*text != ',')
            break;
    }
    return *text == '\0' && (!out->is_range || (out->count == 2 && out->sizes[0] <= out->sizes[1]));
}

static void
put_double(struct buf *to, struct view name, double value)
{
    uint64_t bits;
    uint8_t octets[8];

    memcpy(&bits, &value, sizeof(bits));
    for (int i = 0; i < 8; i++)
        octets[i] = (uint8_t)(bits >> (56 - 8 * i));
    table_put_field(to, name, &(struct field){FIELD_DOUBLE, view_of(octets, 8), 0});
}

static bool
put_integer(struct buf *to, struct view name, const char *text, bool is_timestamp)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return false;
    if (is_timestamp)
        table_put_timestamp(to, name, (uint64_t)value);
    else
        table_put_i64(to, name, value);
    return true;
}

static bool
put_bool(struct buf *to, struct view name, const char *text)
{
    bool is_true = strcmp(text, "true") == 0;

    if (!is_true && strcmp(text, "false") != 0)
        return false;
    table_put_bool(to, name, is_true);
    return true;
}

/* K=V or K:TYPE=V, appended to a table. */
static bool
read_pair(const char *text, struct buf *to)
{
    const char *equals = strchr(text, '='), *colon, *value;
    struct view name, type;

    if (equals == NULL || equals == text)
        return false;
    value = equals + 1;
    colon = memchr(text, ':', (size_t)(equals - text));
    name = view_of(text, (size_t)((colon != NULL ? colon : equals) - text));
    if (colon == NULL) {
        if (!put_integer(to, name, value, false) && !put_bool(to, name, value))
            table_put_longstr(to, name, view_str(value));
        return !to->bad;
    }
    type = view_of(colon + 1, (size_t)(equals - colon - 1));
    if (view_equal(type, VIEW_LIT("text")))
        table_put_longstr(to, name, view_str(value));
    else if (view_equal(type, VIEW_LIT("int")) || view_equal(type, VIEW_LIT("timestamp")))
        return put_integer(to, name, value, type.at[0] == 't') && !to->bad;
    else if (view_equal(type, VIEW_LIT("bool")))
        return put_bool(to, name, value) && !to->bad;
    else if (view_equal(type, VIEW_LIT("double"))) {
        double real;

        if (!read_real(value, &real))
            return false;
        put_double(to, name, real);
    } else
        return false;
    return !to->bad;
}

/* URL */

/* A copy of text[0..len) with %XX decoded. NULL: malformed. */
static char *
decode(const char *text, size_t len)
{
    char *to = mem_alloc(len + 1), *at = to;

    for (size_t i = 0; i < len; i++) {
        char digits[3] = {0}, *end;

        if (text[i] != '%') {
            *at++ = text[i];
            continue;
        }
        if (len - i < 3 || !isxdigit((unsigned char)text[i + 1])) {
            free(to);
            return NULL;
        }
        memcpy(digits, text + i + 1, 2);
        *at++ = (char)strtol(digits, &end, 16);
        if (*end != '\0') {
            free(to);
            return NULL;
        }
        i += 2;
    }
    *at = '\0';
    return to;
}

static void
url_fini(struct url *url)
{
    free(url->host);
    free(url->user);
    free(url->password);
    free(url->vhost);
    *url = (struct url){0};
}

/* host, host:port, [v6]:port */
static bool
read_address(const char *text, size_t len, struct url *out)
{
    const char *end = text + len, *close = text[0] == '[' ? memchr(text, ']', len) : NULL;
    const char *colon =
        memchr(close != NULL ? close : text, ':', (size_t)(end - (close != NULL ? close : text)));
    size_t host_len = (size_t)((colon != NULL ? colon : end) - text);

    if (close != NULL)
        out->host = decode(text + 1, (size_t)(close - text - 1));
    else
        out->host = decode(text, host_len);
    if (colon == NULL)
        snprintf(out->port, sizeof(out->port), "%s", out->is_tls ? "5671" : "5672");
    else
        snprintf(out->port, sizeof(out->port), "%.*s", (int)(end - colon - 1), colon + 1);
    return out->host != NULL && out->host[0] != '\0' && out->port[0] != '\0';
}

static bool
read_url(const char *text, struct url *out)
{
    const char *at, *slash, *user_end, *colon;
    size_t len;

    url_fini(out);
    out->is_tls = strncmp(text, "amqps://", 8) == 0;
    if (!out->is_tls && strncmp(text, "amqp://", 7) != 0)
        return false;
    at = text + (out->is_tls ? 8 : 7);
    slash = strchr(at, '/');
    len = slash != NULL ? (size_t)(slash - at) : strlen(at);
    user_end = memchr(at, '@', len);
    if (user_end != NULL) {
        colon = memchr(at, ':', (size_t)(user_end - at));
        out->user = decode(at, (size_t)((colon != NULL ? colon : user_end) - at));
        out->password =
            colon != NULL ? decode(colon + 1, (size_t)(user_end - colon - 1)) : decode("guest", 5);
        len -= (size_t)(user_end + 1 - at);
        at = user_end + 1;
    } else {
        out->user = decode("guest", 5);
        out->password = decode("guest", 5);
    }
    out->vhost =
        slash != NULL && slash[1] != '\0' ? decode(slash + 1, strlen(slash + 1)) : decode("/", 1);
    return read_address(at, len, out) && out->user != NULL && out->password != NULL &&
           out->vhost != NULL;
}

/* The command line */

static bool
set(struct options *o, const struct row *row, const char *value)
{
    void *member = (char *)o + row->offset;

    switch (row->kind) {
    case TEXT:
        *(const char **)member = value;
        return true;
    case COUNT:
        return read_count(value, member) || wrong(row->name, value, "not a whole number");
    case SECONDS:
    case RATE:
        return read_real(value, member) || wrong(row->name, value, "not a number");
    case FLAG:
        *(bool *)member = true;
        return true;
    case SIZES:
        return read_sizes(value, member) || wrong(row->name, value, "not sizes");
    case PAIRS:
        return read_pair(value, member) || wrong(row->name, value, "not K=V or K:TYPE=V");
    case URL:
        return read_url(value, member) || wrong(row->name, value, "not an AMQP URL");
    }
    return false;
}

static const struct row *
find(const char *name, size_t len)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].name != NULL && strlen(rows[i].name) == len &&
            memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

/* Text in lines of 100 columns, those behind the first indented. */
static void
print_wrapped(const char *text)
{
    size_t column = HELP_COLUMN;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (column + word >= 100) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        printf("%.*s%s", (int)word, text, text[word] == ' ' ? " " : "");
        column += word + 1;
        text += word + (text[word] == ' ');
    }
}

static void
print_help(void)
{
    fputs(before, stdout);
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        char head[64];

        if (row->name == NULL) {
            printf("\n%s\n", row->help);
            continue;
        }
        snprintf(head, sizeof(head), "  --%s %s", row->name, row->value != NULL ? row->value : "");
        printf("%-*s", HELP_COLUMN, head);
        print_wrapped(row->help);
        if (row->initial != NULL && row->initial[0] != '\0')
            printf(" (%s)", row->initial);
        putchar('\n');
    }
    fputs(after, stdout);
}

static bool
parse_one(struct options *o, int argc, char **argv, int *at)
{
    const char *name = argv[*at], *equals, *value;
    const struct row *row;
    size_t len;

    if (strncmp(name, "--", 2) != 0) {
        fprintf(stderr, "lepus-perf: %s: options begin with --; try --help\n", name);
        return false;
    }
    name += 2;
    equals = strchr(name, '=');
    len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    row = find(name, len);
    if (row == NULL || (row->kind == FLAG && equals != NULL)) {
        fprintf(stderr, "lepus-perf: no option --%s; try --help\n", name);
        return false;
    }
    value = equals != NULL ? equals + 1 : NULL;
    if (row->kind != FLAG && value == NULL) {
        if (++*at == argc)
            return wrong(row->name, "", "wants a value");
        value = argv[*at];
    }
    return set(o, row, value);
}

static bool
refuse(const char *why)
{
    fprintf(stderr, "lepus-perf: %s\n", why);
    return false;
}

/* What is wrong with the options together; and the defaults that follow from others. */
static bool
complete(struct options *o)
{
    if (o->queues == 0 || o->per_connection == 0 || o->threads == 0)
        return refuse("--queues, --per-connection and --threads are at least 1");
    if (o->per_connection > UINT16_MAX || o->threads > 256)
        return refuse("--per-connection or --threads is out of reach");
    if (o->churn == 0 && o->producers == 0 && o->consumers == 0)
        return refuse("neither producers nor consumers: nothing to do");
    if (o->frame_max < 4096 || o->frame_max > 64 * 1024 * 1024)
        return refuse("--frame-max is from 4KiB to 64MiB");
    if (o->prefetch > UINT16_MAX)
        return refuse("--prefetch is at most 65535");
    if (o->prefetch != 0 && o->ack > o->prefetch)
        return refuse("--ack is larger than --prefetch: nothing would ever be acknowledged");
    if (o->confirm > 1 << 24)
        return refuse("--confirm is at most 16777216");
    if (o->priority != OPTION_NONE && o->priority > 255)
        return refuse("--priority is at most 255");
    if (o->exclusive && o->consumers != o->queues)
        return refuse("--exclusive wants as many consumers as queues");
    if (o->publish == 0)
        return refuse("--publish is at least 1; --producers 0 publishes nothing");
    if (o->bindings == OPTION_NONE)
        o->bindings = o->queues;
    if (o->routing_keys == OPTION_NONE || o->routing_keys == 0)
        o->routing_keys = o->bindings > 0 ? o->bindings : 1;
    if (o->binding_key == NULL)
        o->binding_key = o->routing_key;
    if (o->consume == OPTION_NONE && o->publish != OPTION_NONE && o->producers > 0)
        o->consume =
            o->publish * (strcmp(o->type, "fanout") == 0 && o->exchange[0] != '\0' ? o->queues : 1);
    if (o->consumers == 0)
        o->consume = OPTION_NONE;
    if (o->producers == 0)
        o->publish = OPTION_NONE;
    return true;
}

bool
options_parse(struct options *out, int argc, char **argv, int *out_status)
{
    *out = (struct options){.routing_keys = OPTION_NONE,
                            .bindings = OPTION_NONE,
                            .priority = OPTION_NONE,
                            .publish = OPTION_NONE,
                            .consume = OPTION_NONE};
    *out_status = 2;
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].kind == PAIRS)
            buf_init((struct buf *)(void *)((char *)out + rows[i].offset), TABLE_MAX);
        if (rows[i].initial != NULL && !set(out, &rows[i], rows[i].initial))
            return false;
    }
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            print_help();
            *out_status = 0;
            return false;
        }
        if (!parse_one(out, argc, argv, &at))
            return false;
    }
    return complete(out);
}

void
options_fini(struct options *options)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].kind == PAIRS)
            buf_fini((struct buf *)(void *)((char *)options + rows[i].offset));
    url_fini(&options->url);
}

size_t
options_expand(char *to, size_t size, const char *pattern, uint64_t number)
{
    size_t n = 0;

    while (*pattern != '\0') {
        char *at = n < size ? to + n : NULL;
        size_t left = n < size ? size - n : 0;

        if (strncmp(pattern, "%d", 2) == 0) {
            n += (size_t)snprintf(at, left, "%llu", (unsigned long long)number);
            pattern += 2;
        } else {
            n += (size_t)snprintf(at, left, "%c", *pattern);
            pattern++;
        }
    }
    if (n == 0 && size > 0)
        to[0] = '\0';
    return n;
}

size_t
options_queue_name(const struct options *options, uint64_t number, char *to, size_t size)
{
    char pattern[256];

    snprintf(pattern, sizeof(pattern), "%s%s", options->queue,
             options->queues > 1 && strstr(options->queue, "%d") == NULL ? "-%d" : "");
    return options_expand(to, size, pattern, number);
}
