/*
 * One reader a type, from a NUL-terminated value into zeroed storage of the member's width. A
 * reader says no and nothing else: what would have been right is told from the row, so that
 * error and help cannot differ.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>

#include "config_priv.h"
#include "lepus/base/mem.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* The names that values are printed with come first, the largest leading. */
static const struct unit durations_ms[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

/* As RabbitMQ has them: M and MiB are 2^20, MB is 10^6. */
/* clang-format off */
static const struct unit sizes[] = {
    {"TiB", TIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"", 1},
    {"T", TIB},   {"G", GIB},   {"M", MIB},   {"K", KIB},   {"k", KIB}, {"kiB", KIB}, {"B", 1},
    {"TB", UINT64_C(1000000000000)}, {"GB", 1000000000}, {"MB", 1000000}, {"kB", 1000},
    {"KB", 1000}, {NULL, 0},
};
/* clang-format on */

/* Digits at *at, which moves behind them. */
static bool
read_digits(const char **at, uint64_t *out)
{
    uint64_t n = 0;

    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

static bool
read_with_unit(const char *value, const struct unit *units, uint64_t *out)
{
    uint64_t n;

    if (!read_digits(&value, &n))
        return false;
    while (*value == ' ')
        value++;
    for (; units->name != NULL; units++) {
        if (strcmp(value, units->name) == 0) {
            if (n > UINT64_MAX / units->factor)
                return false;
            *out = n * units->factor;
            return true;
        }
    }
    return false;
}

static bool
is_number_alone(const char *value, uint64_t *out)
{
    return read_digits(&value, out) && *value == '\0';
}

/* Stores n in the member, if it is within the row's bounds. */
static bool
store_number(const struct config_key *key, uint64_t n, void *at)
{
    uint32_t n32 = (uint32_t)n;

    if ((n < key->min || n > key->max) && !(n == 0 && (key->flags & CONFIG_ZERO_TOO)))
        return false;
    if (key->size == sizeof(n)) {
        memcpy(at, &n, sizeof(n));
        return true;
    }
    assert(key->size == sizeof(n32) && n32 == n);
    memcpy(at, &n32, sizeof(n32));
    return true;
}

static bool
set_integer(const struct config_key *key, const char *value, void *at)
{
    uint64_t n;

    return is_number_alone(value, &n) && store_number(key, n, at);
}

static bool
set_milliseconds(const struct config_key *key, const char *value, void *at)
{
    uint64_t ms;

    if (!is_number_alone(value, &ms) && !read_with_unit(value, durations_ms, &ms))
        return false;
    return store_number(key, ms, at);
}

static bool
set_seconds(const struct config_key *key, const char *value, void *at)
{
    uint64_t n;

    if (is_number_alone(value, &n))
        return store_number(key, n, at);
    return read_with_unit(value, durations_ms, &n) && n % 1000 == 0 &&
           store_number(key, n / 1000, at);
}

static bool
set_size(const struct config_key *key, const char *value, void *at)
{
    uint64_t bytes;

    return read_with_unit(value, sizes, &bytes) && store_number(key, bytes, at);
}

/* Text is UTF-8 without control bytes, since it goes to clients and into logs. */
static bool
set_text(const struct config_key *key, const char *value, void *at)
{
    size_t n = strlen(value);

    assert(key->max < key->size);
    if (n < key->min || n > key->max || !view_is_utf8(view_str(value)))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (iscntrl((unsigned char)value[i]))
            return false;
    }
    memcpy(at, value, n);
    return true;
}

static bool
set_bool(const struct config_key *key, const char *value, void *at)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

    assert(key->size == sizeof(bool));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(value, words[i]) == 0) {
            *(bool *)at = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static bool
set_choice(const struct config_key *key, const char *value, void *at)
{
    uint32_t place = 0;
    size_t n = strlen(value);

    assert(key->size == sizeof(place));
    for (const char *word = key->choices;; word++, place++) {
        size_t len = strcspn(word, "|");
        if (n == len && memcmp(word, value, n) == 0) {
            memcpy(at, &place, sizeof(place));
            return true;
        }
        word += len;
        if (*word == '\0')
            return false;
    }
}

/* A name or an IPv4 address: whether it exists is found out when it is listened on. */
static bool
is_host(const char *host)
{
    if (*host == '\0')
        return false;
    for (; *host != '\0'; host++) {
        if (!isalnum((unsigned char)*host) && strchr(".-_", *host) == NULL)
            return false;
    }
    return true;
}

static bool
is_ipv6(char *host)
{
    struct in6_addr address;
    char *zone = strchr(host, '%');
    bool is_good;

    if (zone != NULL) /* fe80::1%eth0: the zone has a name's form */
        *zone = '\0';
    is_good = inet_pton(AF_INET6, host, &address) == 1 && (zone == NULL || is_host(zone + 1));
    if (zone != NULL)
        *zone = '%';
    return is_good;
}

/* host:port or [IPv6]:port, of n bytes. */
static bool
read_address(const char *at, size_t n, struct address *out)
{
    bool has_bracket = n > 0 && at[0] == '[';
    const char *start = at + has_bracket, *end = at + n;
    const char *host_end = memchr(start, has_bracket ? ']' : ':', n - has_bracket);
    const char *port;
    uint64_t number;

    if (host_end == NULL || (size_t)(host_end - start) >= sizeof(out->host))
        return false;
    memcpy(out->host, start, (size_t)(host_end - start));
    if (has_bracket ? !is_ipv6(out->host) : !is_host(out->host))
        return false;
    port = host_end + has_bracket;
    if (port == end || *port++ != ':' || !read_digits(&port, &number))
        return false;
    out->port = (uint16_t)number;
    return port == end && number <= 65535;
}

static bool
set_addresses(const struct config_key *key, const char *value, void *at)
{
    struct address_list *list = at;

    assert(key->size == sizeof(*list));
    if (*value == '\0')
        return true;
    for (;; value++) {
        const char *start = value + strspn(value, " \t");
        size_t n;

        value += strcspn(value, ",");
        n = start < value ? (size_t)(value - start) : 0;
        while (n > 0 && (start[n - 1] == ' ' || start[n - 1] == '\t'))
            n--;
        if (list->count == CONFIG_ADDRESSES_MAX || !read_address(start, n, &list->at[list->count]))
            return false;
        list->count++;
        if (*value == '\0')
            return true;
    }
}

static bool
set_sync(const struct config_key *key, const char *value, void *at)
{
    static const char prefix[] = "interval:";
    struct sync_policy *sync = at;
    uint64_t ms;

    assert(key->size == sizeof(*sync));
    if (strcmp(value, "always") == 0 || strcmp(value, "never") == 0) {
        sync->mode = value[0] == 'a' ? SYNC_ALWAYS : SYNC_NEVER;
        return true;
    }
    if (strncmp(value, prefix, sizeof(prefix) - 1) != 0)
        return false;
    value += sizeof(prefix) - 1;
    if (!is_number_alone(value, &ms) && !read_with_unit(value, durations_ms, &ms))
        return false;
    if (ms < key->min || ms > key->max)
        return false;
    sync->mode = SYNC_INTERVAL;
    sync->interval_ms = (uint32_t)ms;
    return true;
}

static bool
set_disk_share(const struct config_key *key, const char *value, void *at)
{
    static const struct unit percent[] = {{"%", 1}, {NULL, 0}};
    struct disk_share *share = at;
    uint64_t n;

    assert(key->size == sizeof(*share));
    if (read_with_unit(value, percent, &n) && n <= 100) {
        share->percent = n;
        return true;
    }
    return read_with_unit(value, sizes, &share->bytes);
}

static bool
set_tls_versions(const struct config_key *key, const char *value, void *at)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } versions[] = {{"1.2", TLS_1_2}, {"1.3", TLS_1_3}};
    uint32_t bits = 0;

    assert(key->size == sizeof(bits));
    for (;; value++) {
        uint32_t bit = 0;
        size_t n;

        value += strspn(value, " \t");
        n = strcspn(value, ", \t");
        for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
            if (n == strlen(versions[i].name) && memcmp(value, versions[i].name, n) == 0)
                bit = versions[i].bit;
        if (bit == 0)
            return false;
        bits |= bit;
        value += n + strspn(value + n, " \t");
        if (*value == '\0') {
            memcpy(at, &bits, sizeof(bits));
            return true;
        }
        if (*value != ',')
            return false;
    }
}

static const struct type {
    bool (*set)(const struct config_key *key, const char *value, void *at);
    const char *expected;     /* what is expected, before "from MIN to MAX" */
    const struct unit *units; /* the bounds are printed in, when there are bounds to print */
    unsigned unit_factor;     /* the bounds' own unit, in the smallest of units */
} types[] = {
    [KEY_STRING] = {set_text, "text", NULL, 0},
    [KEY_PATH] = {set_text, "a path", NULL, 0},
    [KEY_BOOL] = {set_bool, "yes or no", NULL, 0},
    [KEY_INTEGER] = {set_integer, "a whole number", NULL, 1},
    [KEY_SECONDS] = {set_seconds, "a duration in whole seconds", durations_ms, 1000},
    [KEY_MILLISECONDS] = {set_milliseconds, "a duration", durations_ms, 1},
    [KEY_SIZE] = {set_size, "a size", sizes, 1},
    [KEY_CHOICE] = {set_choice, "one of", NULL, 0},
    [KEY_ADDRESSES] = {set_addresses, "host:port addresses separated by commas", NULL, 0},
    [KEY_SYNC] = {set_sync, "always, never or interval:<duration>", durations_ms, 1},
    [KEY_DISK_SHARE] = {set_disk_share, "a size, or a percentage up to 100%", NULL, 0},
    [KEY_TLS_VERSIONS] = {set_tls_versions, "1.2, 1.3 or both, separated by a comma", NULL, 0},
};

/* n in the largest unit that keeps it whole. */
static void
print_number(uint64_t n, const struct type *type, char *out, size_t size)
{
    const struct unit *unit = type->units;

    if (unit == NULL) {
        snprintf(out, size, "%llu", (unsigned long long)n);
        return;
    }
    n *= type->unit_factor;
    while (unit->factor != 1 && unit->factor != type->unit_factor &&
           (n == 0 || n % unit->factor != 0))
        unit++;
    snprintf(out, size, "%llu%s", (unsigned long long)(n / unit->factor), unit->name);
}

/* "error|warn|info" -> "error, warn, info" */
static void
print_choices(const char *choices, char *out, size_t size)
{
    size_t n = 0;

    for (; *choices != '\0' && n + 3 < size; choices++) {
        out[n++] = *choices == '|' ? ',' : *choices;
        if (*choices == '|')
            out[n++] = ' ';
    }
    out[n] = '\0';
}

void
config_value_describe(const struct config_key *key, char *out, size_t size)
{
    const struct type *type = &types[key->type];
    char min[32], max[32], choices[128];

    if (key->choices != NULL) {
        print_choices(key->choices, choices, sizeof(choices));
        snprintf(out, size, "%s %s", type->expected, choices);
    } else if (key->type == KEY_STRING || key->type == KEY_PATH) {
        snprintf(out, size, "%s of %llu to %llu bytes", type->expected,
                 (unsigned long long)key->min, (unsigned long long)key->max);
    } else if (type->unit_factor != 0) {
        print_number(key->min, type, min, sizeof(min));
        print_number(key->max, type, max, sizeof(max));
        snprintf(out, size, "%s from %s to %s%s", type->expected, min, max,
                 key->flags & CONFIG_ZERO_TOO ? ", or 0" : "");
    } else {
        snprintf(out, size, "%s", type->expected);
    }
}

/* For an error's text: short, and without bytes that a terminal would obey. */
static void
quote(const struct config_key *key, const char *value, char *out, size_t size)
{
    size_t n = strlen(value);

    if (key->flags & CONFIG_SECRET) {
        snprintf(out, size, "%zu bytes", n);
        return;
    }
    snprintf(out, size, n > size - 6 ? "'%.*s...'" : "'%.*s'", (int)size - 6, value);
    for (char *at = out; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
}

bool
config_value_set(const struct config_key *key, void *base, const char *value, struct err *err)
{
    void *fresh = mem_alloc_zero(key->size); /* the old value stays until the new one is good */
    bool is_good = types[key->type].set(key, value, fresh);
    char expected[128], found[96];

    if (is_good) {
        memcpy((char *)base + key->offset, fresh, key->size);
    } else {
        config_value_describe(key, expected, sizeof(expected));
        quote(key, value, found, sizeof(found));
        err_set(err, PRECONDITION_FAILED, "expected %s, found %s", expected, found);
    }
    free(fresh);
    return is_good;
}
