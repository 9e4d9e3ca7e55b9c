/*
 * The table of keys, and the four places that values come from.
 *
 * inih splits lines into section, name and value; what it does not tell (the line's number, which
 * lines it could not read, sections without keys) is known by the reader that feeds it, since it
 * hands over one line at a time and the handler runs before the next one is asked for.
 */
#include "lepus/server/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <unistd.h>

#include "config_priv.h"
#include "lepus/base/buf.h"
#include "lepus/base/mem.h"

#define OFF(member) offsetof(struct config, member), sizeof(((struct config *)NULL)->member)
#define KIB         1024
#define MIB         (1024 * 1024)
#define DAY_MS      (24 * 3600 * 1000)

/* clang-format off */
static const struct config_key keys[] = {
    {"broker", "data_dir", KEY_PATH, OFF(broker.data_dir), "./var", 1, 1023, 0, NULL, NULL,
     "Where everything that outlives the process is kept."},
    {"broker", "workers", KEY_INTEGER, OFF(broker.workers), "0", 0, 64, 0, NULL, NULL,
     "Threads that serve connections and queues; 0: one per core."},
    {"broker", "default_user", KEY_STRING, OFF(broker.default_user), "guest", 1, 255, 0, NULL, NULL,
     "The user that is made at the first start, an administrator who may do everything in the vhost "
     "/, unless broker.load_definitions brings users. What later starts know is what is stored."},
    {"broker", "default_pass", KEY_STRING, OFF(broker.default_pass), "guest", 1, 255,
     CONFIG_SECRET, NULL, NULL, "Its password."},
    {"broker", "default_pass_file", KEY_PATH, OFF(broker.default_pass_file), "", 0, 1023, 0, NULL,
     NULL, "A file whose first line is that password, and goes before broker.default_pass."},
    {"broker", "user", KEY_STRING, OFF(broker.user), "", 0, 255, 0, NULL, NULL,
     "The user to become when root starts lepusd: only the listeners are bound as root, all files "
     "are opened, now and later, as this user."},
    {"broker", "core_dumps", KEY_BOOL, OFF(broker.core_dumps), "yes", 0, 0, 0, NULL, NULL,
     "Whether a crash may leave a core, which has messages and passwords in it, where the system "
     "allows it; no: neither may other processes of the same user look into the broker."},
    {"broker", "product", KEY_STRING, OFF(broker.product), "RabbitMQ", 1, 255, 0, NULL, NULL,
     "The product that clients are told; some turn features on by this name."},
    {"broker", "version", KEY_STRING, OFF(broker.version), "3.13.7", 1, 255, 0, NULL, NULL,
     "The version that clients are told: that of the RabbitMQ whose behaviour is kept."},
    {"broker", "cluster_name", KEY_STRING, OFF(broker.cluster_name), "", 0, 255, 0, NULL, NULL,
     "The cluster name that clients are told; empty: lepus@ and the machine's name."},
    {"broker", "load_definitions", KEY_PATH, OFF(broker.load_definitions), "", 0, 1023,
     CONFIG_LIVE, NULL, NULL,
     "A definitions.json, of RabbitMQ or from --export-definitions, imported at start and at every "
     "SIGHUP. It adds and changes, and never removes. An error in it stops a start, with nothing "
     "of it kept; at SIGHUP all that is not in error is taken."},
    {"broker", "policy_merge", KEY_BOOL, OFF(broker.policy_merge), "no", 0, 0, CONFIG_LIVE, NULL,
     NULL, "Whether all policies that match a name hold, key by key, the higher priority first; no: "
     "the one of the highest priority alone, as in RabbitMQ. Operator policies likewise."},

    {"amqp", "listen", KEY_ADDRESSES, OFF(amqp.listen), "127.0.0.1:5672", 0, 0, 0, NULL, NULL,
     "Where AMQP is served: IPv6 in brackets, as [::1]:5672; port 0: the kernel chooses."},
    {"amqp", "tls_listen", KEY_ADDRESSES, OFF(amqp.tls_listen), "", 0, 0, 0, NULL, NULL,
     "Where AMQP is served over TLS, usually on port 5671; wants tls.certificate."},
    {"amqp", "heartbeat", KEY_SECONDS, OFF(amqp.heartbeat_s), "60s", 0, 65535, CONFIG_LIVE, NULL,
     NULL, "Offered in connection.tune; 0 offers none."},
    {"amqp", "frame_max", KEY_SIZE, OFF(amqp.frame_max), "128KiB", 4096, INT32_MAX,
     CONFIG_LIVE | CONFIG_ZERO_TOO, NULL, NULL,
     "The largest frame, offered in connection.tune; 0: no limit."},
    {"amqp", "initial_frame_max", KEY_SIZE, OFF(amqp.initial_frame_max), "64KiB", 4096, 16 * MIB,
     CONFIG_LIVE, NULL, NULL, "The largest frame before a connection is tuned."},
    {"amqp", "channel_max", KEY_INTEGER, OFF(amqp.channel_max), "2047", 0, 65535, CONFIG_LIVE, NULL,
     NULL, "Channels of a connection, offered in connection.tune; 0: no limit."},
    {"amqp", "max_message_size", KEY_SIZE, OFF(amqp.max_message_size), "128MiB", 1, 512 * MIB,
     CONFIG_LIVE, NULL, NULL, "The largest message body; a larger one closes its channel."},
    {"amqp", "handshake_timeout", KEY_MILLISECONDS, OFF(amqp.handshake_timeout_ms), "10s", 100,
     3600 * 1000, CONFIG_LIVE, NULL, NULL,
     "From the TCP connection to connection.open; slower clients are dropped."},
    {"amqp", "consumer_timeout_action", KEY_CHOICE, OFF(amqp.consumer_timeout_action), "requeue", 0,
     0, CONFIG_LIVE, "requeue|close", NULL,
     "What is done about a delivery that is not settled within its x-consumer-timeout. requeue: it "
     "goes back to its queue, and the channel lives; close: the channel is closed with 406, as "
     "RabbitMQ does."},
    {"amqp", "backlog", KEY_INTEGER, OFF(amqp.backlog), "1024", 1, 65535, 0, NULL, NULL,
     "Connections that the kernel holds until they are accepted."},
    {"amqp", "proxy_protocol", KEY_CHOICE, OFF(amqp.proxy_protocol), "off", 0, 0, 0, "off|v2", NULL,
     "v2: whoever connects, also for TLS, begins with a header of the PROXY protocol, version 2, "
     "and the client's address is the one in it. Only where none but the proxy can connect: it "
     "is believed."},

    {"auth", "loopback_users", KEY_STRING, OFF(auth.loopback_users), "guest", 0, 1023, CONFIG_LIVE,
     NULL, NULL, "Users, by commas, who may log in from this machine only."},
    {"auth", "max_failures", KEY_INTEGER, OFF(auth.max_failures), "30", 0, 1000000, CONFIG_LIVE,
     NULL, NULL,
     "Logins as a user that an address (of IPv6: a /64) may fail within auth.failure_window, and ten "
     "times as many as any; further ones are refused, whatever they say, until these have aged. 0: "
     "no limit."},
    {"auth", "failure_window", KEY_SECONDS, OFF(auth.failure_window_s), "60s", 1, 24 * 3600,
     CONFIG_LIVE, NULL, NULL, "In which auth.max_failures are counted."},
    {"auth", "certificate_name", KEY_CHOICE, OFF(auth.certificate_name), "none", 0, 0, 0,
     "none|common_name|distinguished_name|dns|email", NULL,
     "Which name in a client's certificate is its user's, for the mechanism EXTERNAL: the subject's "
     "CN, the whole subject (CN=a,O=b), or the first DNS name or address of its subjectAltName. none: "
     "EXTERNAL is not offered. Wants tls.verify."},
    {"auth", "anonymous_user", KEY_STRING, OFF(auth.anonymous_user), "", 0, 255, 0, NULL, NULL,
     "Who clients are that log in by the mechanism ANONYMOUS; empty: it is not offered."},

    {"limits", "connections", KEY_INTEGER, OFF(limits.connections), "0", 0, 10000000, CONFIG_LIVE,
     NULL, NULL, "Connections that may be open at once; 0: no limit. One more is refused with 530."},
    {"limits", "sockets", KEY_INTEGER, OFF(limits.sockets), "0", 0, 10000000, CONFIG_LIVE, NULL,
     NULL,
     "Sockets of clients, open connections and others; 0: as many as the system's limit of "
     "descriptors leaves beside the broker's files. One more is closed as it comes."},
    {"limits", "pending_handshakes", KEY_INTEGER, OFF(limits.pending_handshakes), "4096", 1,
     10000000, CONFIG_LIVE, NULL, NULL,
     "Sockets on which no connection is open yet; at most half of all. For one above the oldest of "
     "them is closed, so that those who dawdle keep nobody out."},
    {"limits", "channels", KEY_INTEGER, OFF(limits.channels), "0", 0, 100000000, CONFIG_LIVE, NULL,
     NULL, "Channels of all connections together; 0: no limit."},
    {"limits", "consumers_per_channel", KEY_INTEGER, OFF(limits.consumers_per_channel), "0", 0,
     10000000, CONFIG_LIVE, NULL, NULL, "Consumers of a channel; 0: no limit."},
    {"limits", "queues_per_vhost", KEY_INTEGER, OFF(limits.queues_per_vhost), "0", 0, 100000000,
     CONFIG_LIVE, NULL, NULL,
     "Queues of a vhost that has no lower max-queues of its own; 0: no limit."},
    {"limits", "bindings_per_exchange", KEY_INTEGER, OFF(limits.bindings_per_exchange), "0", 0,
     100000000, CONFIG_LIVE, NULL, NULL, "Bindings from an exchange; 0: no limit."},
    {"limits", "memory_high_watermark", KEY_DISK_SHARE, OFF(limits.memory_high_watermark), "40%",
     0, 0, CONFIG_LIVE, NULL, NULL,
     "Publishers are blocked while the broker has more memory than this, in bytes or of what the "
     "machine, or a control group, has; 0B: never."},

    {"tls", "certificate", KEY_PATH, OFF(tls.certificate), "", 0, 2047, CONFIG_LIVE, NULL, NULL,
     "PEM files, by commas: each a certificate and its chain; the first serves unknown names."},
    {"tls", "key", KEY_PATH, OFF(tls.key), "", 0, 2047, CONFIG_LIVE, NULL, NULL,
     "Their private keys, as many and in that order; empty: they are in the same files."},
    {"tls", "key_passphrase_file", KEY_PATH, OFF(tls.key_passphrase_file), "", 0, 1023,
     CONFIG_LIVE, NULL, NULL, "A file whose first line opens the keys that are encrypted."},
    {"tls", "ca", KEY_PATH, OFF(tls.ca), "", 0, 1023, CONFIG_LIVE, NULL, NULL,
     "PEM file of the authorities that clients' certificates must come from."},
    {"tls", "verify", KEY_CHOICE, OFF(tls.verify), "none", 0, 0, CONFIG_LIVE,
     "none|peer|require", NULL,
     "Whether clients are asked for a certificate: never, if they have one, or must have one."},
    {"tls", "verify_depth", KEY_INTEGER, OFF(tls.verify_depth), "5", 0, 100, CONFIG_LIVE, NULL,
     NULL, "Certificates that may stand between a client's and the authority's."},
    {"tls", "versions", KEY_TLS_VERSIONS, OFF(tls.versions), "1.2, 1.3", 0, 0, CONFIG_LIVE, NULL,
     NULL, "The versions of TLS that are spoken."},
    {"tls", "ciphers", KEY_STRING, OFF(tls.ciphers), "ECDHE+AESGCM:ECDHE+CHACHA20", 1, 1023,
     CONFIG_LIVE, NULL, NULL, "Ciphers of TLS 1.2, in OpenSSL's notation, the best first."},
    {"tls", "ciphersuites", KEY_STRING, OFF(tls.ciphersuites),
     "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256", 1, 255,
     CONFIG_LIVE, NULL, NULL, "Ciphers of TLS 1.3, the best first."},
    {"tls", "handshake_timeout", KEY_MILLISECONDS, OFF(tls.handshake_timeout_ms), "5s", 100,
     3600 * 1000, CONFIG_LIVE, NULL, NULL,
     "From the TCP connection to the end of the TLS handshake; slower clients are dropped."},
    {"tls", "session_timeout", KEY_SECONDS, OFF(tls.session_timeout_s), "1h", 0, 24 * 3600,
     CONFIG_LIVE, NULL, NULL, "How long a client may resume a session; 0: it may not."},
    {"tls", "kernel", KEY_BOOL, OFF(tls.kernel), "no", 0, 0, CONFIG_LIVE, NULL, NULL,
     "Let the kernel encrypt what is sent, where it knows how to."},

    {"log", "level", KEY_CHOICE, OFF(log.level), "info", 0, 0, CONFIG_LIVE,
     "error|warn|info|debug", NULL, "The least severe kind of line that is logged."},
    {"log", "format", KEY_CHOICE, OFF(log.format), "text", 0, 0, CONFIG_LIVE, "text|json", NULL,
     "The form of a line on standard error."},

    {"store", "sync", KEY_SYNC, OFF(store.sync), "always", 1, DAY_MS, CONFIG_LIVE, NULL, NULL,
     "When a persistent message is confirmed. always: it is on the disk (fdatasync has returned), "
     "power loss loses nothing. interval:<duration>: it is written, and the disk is synced that "
     "often: power loss may lose that much of what was confirmed. never: it is written, the system "
     "syncs when it likes. A killed broker loses nothing with any of them."},
    {"store", "journal_size", KEY_SIZE, OFF(store.journal_size), "128MiB", 32 * MIB,
     64ULL * 1024 * MIB, 0, NULL, NULL,
     "The journal of each worker; what lives longer than it lasts moves to the queues' own files."},
    {"store", "memory", KEY_SIZE, OFF(store.memory), "8MiB", MIB, 1024ULL * 1024 * MIB, 0, NULL,
     NULL, "Messages kept in memory, of all queues together; what is above waits on disk."},
    {"store", "disk_free_limit", KEY_DISK_SHARE, OFF(store.disk_free_limit), "50MB", 0, 0,
     CONFIG_LIVE, NULL, NULL, "Publishers are blocked while the disk has less room than this."},

    {"management", "listen", KEY_ADDRESSES, OFF(management.listen), "", 0, 0, 0, NULL,
     "management listener", "Where the HTTP API is served."},
    {"management", "socket", KEY_PATH, OFF(management.socket), "", 0, 107, 0, NULL,
     "management listener", "The Unix socket where the HTTP API is served to local tools."},

    {"prometheus", "listen", KEY_ADDRESSES, OFF(prometheus.listen), "", 0, 0, 0, NULL,
     "Prometheus listener", "Where metrics are served."},
};
/* clang-format on */

enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]), FILE_MAX = MIB };

/* The name of the section that keys below a bad header are put in, to be passed over. */
#define LOST_SECTION "?"

struct loader {
    struct config config;
    config_tell *tell;
    void *arg;
    bool has_failed;
    bool is_set[KEY_COUNT];       /* by anything but its default */
    unsigned set_line[KEY_COUNT]; /* in the file; 0: not there */

    /* The file: what is still to read, and the line that inih has in hand. */
    const char *path;
    struct view rest;
    unsigned line;
    bool awaits_pair; /* the line in hand is neither blank nor a header, and no pair came of it */
};

/* The n bytes at `at` are the name, in upper case when it comes from the environment. */
static bool
is_named(const char *name, const char *at, size_t n, bool is_upper)
{
    if (strlen(name) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if ((is_upper ? toupper((unsigned char)name[i]) : name[i]) != at[i])
            return false;
    }
    return true;
}

/* Any row of the section, to ask whether it exists. */
static const struct config_key *
find_section(const char *at, size_t n)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (is_named(keys[i].section, at, n, false))
            return &keys[i];
    }
    return NULL;
}

static const struct config_key *
find_key(const char *section, const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
            return &keys[i];
    }
    return NULL;
}

static void
append(struct buf *text, const char *string)
{
    buf_append(text, string, strlen(string));
}

/* Tells "where: " and the text, in which control bytes become question marks. */
static void fail(struct loader *loader, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
fail(struct loader *loader, const char *where, const char *format, ...)
{
    char text[1024];
    size_t n;
    va_list args;

    snprintf(text, sizeof(text), "%.300s: ", where);
    n = strlen(text);
    va_start(args, format);
    vsnprintf(text + n, sizeof(text) - n, format, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
    loader->has_failed = true;
    loader->tell(loader->arg, CONFIG_ERROR, text);
}

/* "a, b, c": the keys of a section, or the sections when it is NULL. The caller frees. */
static char *
list_names(const char *section)
{
    struct buf text;
    const char *last = "";

    buf_init(&text, 4 * KIB);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (section != NULL ? strcmp(keys[i].section, section) != 0
                            : strcmp(keys[i].section, last) == 0)
            continue;
        last = keys[i].section;
        if (text.len > 0)
            append(&text, ", ");
        append(&text, section != NULL ? keys[i].name : last);
    }
    buf_u8(&text, 0);
    return (char *)text.at;
}

static void
fail_section(struct loader *loader, const char *where, const char *name, size_t n)
{
    char *names = list_names(NULL);

    fail(loader, where, "[%.*s]: expected one of the sections %s, found an unknown one",
         n > 50 ? 50 : (int)n, name, names);
    free(names);
}

static void
fail_key(struct loader *loader, const char *where, const char *section, const char *name)
{
    char *names;

    if (find_section(section, strlen(section)) == NULL) {
        names = list_names(NULL);
        fail(loader, where, "%.50s.%.50s: expected one of the sections %s, found an unknown one",
             section, name, names);
    } else {
        names = list_names(section);
        fail(loader, where, "%s.%.50s: expected one of %s, found an unknown key", section, name,
             names);
    }
    free(names);
}

static void
set_key(struct loader *loader, const char *where, const struct config_key *key, const char *value)
{
    struct err err = {0};

    loader->is_set[key - keys] = true;
    if (!config_value_set(key, &loader->config, value, &err))
        fail(loader, where, "%s.%s: %s", key->section, key->name, err.text);
}

/* ---- the file ---------------------------------------------------------------------------- */

static void
fail_line(struct loader *loader, unsigned line, const char *text)
{
    char where[320];

    snprintf(where, sizeof(where), "%.300s:%u", loader->path, line);
    fail(loader, where, "%s", text);
}

/* inih's handler: one pair of the line in hand. */
static int
on_pair(void *arg, const char *section, const char *name, const char *value)
{
    struct loader *loader = arg;
    const struct config_key *key = find_key(section, name);
    char where[320];

    loader->awaits_pair = false;
    if (strcmp(section, LOST_SECTION) == 0)
        return 1;
    snprintf(where, sizeof(where), "%.300s:%u", loader->path, loader->line);
    if (section[0] == '\0') {
        fail(loader, where, "%.50s: expected a [section] above it, found none", name);
    } else if (key == NULL) {
        fail_key(loader, where, section, name);
    } else if (loader->set_line[key - keys] != 0) {
        fail(loader, where, "%s.%s: expected once, found again (first in line %u)", section, name,
             loader->set_line[key - keys]);
    } else {
        loader->set_line[key - keys] = loader->line;
        set_key(loader, where, key, value);
    }
    return 1;
}

/* A section's header: checks it, and says whether inih may have it as it is. */
static bool
check_header(struct loader *loader, struct view line)
{
    const uint8_t *end = memchr(line.at, ']', line.len);
    const char *name = (const char *)line.at + 1, *after;
    size_t n;
    char where[320];

    if (end == NULL) {
        fail_line(loader, loader->line, "expected ']' at the end of a section's name, found none");
        return false;
    }
    n = (size_t)((const char *)end - name);
    snprintf(where, sizeof(where), "%.300s:%u", loader->path, loader->line);
    if (find_section(name, n) == NULL) {
        fail_section(loader, where, name, n);
        return false;
    }
    after = (const char *)end + 1;
    for (size_t left = line.len - n - 2; left > 0 && *after != ';' && *after != '#';
         left--, after++) {
        if (!isspace((unsigned char)*after)) {
            fail(loader, where, "[%.*s]: expected the end of the line behind it, found more",
                 (int)n, name);
            return false;
        }
    }
    return true;
}

/* The next line, without its newline and the blanks around it: indented lines would continue
 * the value before them, which nobody who indents his keys means. */
static struct view
take_line(struct loader *loader)
{
    struct view *rest = &loader->rest;
    const uint8_t *newline = memchr(rest->at, '\n', rest->len);
    struct view line =
        view_of(rest->at, newline != NULL ? (size_t)(newline - rest->at) : rest->len);
    size_t used = line.len + (newline != NULL);

    rest->at += used;
    rest->len -= used;
    loader->line++;
    while (line.len > 0 && isspace(line.at[0]))
        line = view_of(line.at + 1, line.len - 1);
    while (line.len > 0 && isspace(line.at[line.len - 1]))
        line.len--;
    return line;
}

/* The next line, or the end, is asked for: what is in hand was not a pair after all. */
static void
end_line(struct loader *loader)
{
    if (loader->awaits_pair)
        fail_line(loader, loader->line, "expected key = value, found neither that nor a [section]");
    loader->awaits_pair = false;
}

/* inih's reader, with the contract of fgets. Lines that it must not see reach it empty. */
static char *
read_line(char *out, int size, void *arg)
{
    struct loader *loader = arg;
    struct view line;

    end_line(loader);
    if (loader->rest.len == 0)
        return NULL;
    line = take_line(loader);
    if (line.len == 0 || line.at[0] == ';' || line.at[0] == '#') {
        line = VIEW_LIT("");
    } else if (line.len + 2 > (size_t)size) {
        char text[80];
        snprintf(text, sizeof(text), "expected a line of at most %d bytes, found %zu", size - 2,
                 line.len);
        fail_line(loader, loader->line, text);
        line = VIEW_LIT("");
    } else if (memchr(line.at, 0, line.len) != NULL) {
        fail_line(loader, loader->line, "expected text, found a zero byte");
        line = VIEW_LIT("");
    } else if (line.at[0] == '[') {
        if (!check_header(loader, line))
            line = VIEW_LIT("[" LOST_SECTION "]");
    } else {
        loader->awaits_pair = true;
    }
    if (line.len > 0)
        memcpy(out, line.at, line.len);
    out[line.len] = '\n';
    out[line.len + 1] = '\0';
    return out;
}

static void
load_text(struct loader *loader, struct view text)
{
    static const uint8_t bom[] = {0xef, 0xbb, 0xbf};

    if (view_has_prefix(text, view_of(bom, sizeof(bom))))
        text = view_of(text.at + sizeof(bom), text.len - sizeof(bom));
    loader->rest = text;
    /* What it returns, the first line that it could not read, was told on the way. */
    ini_parse_stream(read_line, loader, on_pair, loader);
}

/* Reads the whole file; false, told, when that cannot be done. */
static bool
read_file(struct loader *loader, struct buf *text)
{
    FILE *file = fopen(loader->path, "re");
    size_t n = 1;

    if (file == NULL) {
        fail(loader, loader->path, "cannot be opened: %s", strerror(errno));
        return false;
    }
    while (n > 0 && !text->bad) {
        char piece[4096];
        n = fread(piece, 1, sizeof(piece), file);
        buf_append(text, piece, n);
    }
    if (ferror(file))
        fail(loader, loader->path, "cannot be read: %s", strerror(errno));
    else if (text->bad)
        fail(loader, loader->path, "expected a file of at most %d bytes, found more", FILE_MAX);
    fclose(file);
    return !loader->has_failed;
}

static void
load_file(struct loader *loader)
{
    struct buf text;

    buf_init(&text, FILE_MAX);
    if (read_file(loader, &text))
        load_text(loader, buf_view(&text));
    buf_fini(&text);
}

/* ---- environment and options --------------------------------------------------------------- */

/* One variable; those that do not begin with LEPUS_ and one of the sections are not for us. */
static void
load_variable(struct loader *loader, const char *variable)
{
    static const char prefix[] = "LEPUS_";
    const char *equals = strchr(variable, '='), *at = variable + sizeof(prefix) - 1;
    const char *section = NULL;
    char where[100];

    if (equals == NULL || strncmp(variable, prefix, sizeof(prefix) - 1) != 0)
        return;
    snprintf(where, sizeof(where), "%.*s", (int)(equals - variable), variable);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct config_key *key = &keys[i];
        size_t n = strlen(key->section);
        if ((size_t)(equals - at) <= n || at[n] != '_' || !is_named(key->section, at, n, true))
            continue;
        section = key->section;
        if (is_named(key->name, at + n + 1, (size_t)(equals - at) - n - 1, true)) {
            set_key(loader, where, key, equals + 1);
            return;
        }
    }
    if (section != NULL) {
        char *names = list_names(section);
        fail(loader, where, "expected the name of one of %s's keys %s, found an unknown one",
             section, names);
        free(names);
    }
}

/* One -o section.key=value. */
static void
load_option(struct loader *loader, const char *option)
{
    size_t n = strcspn(option, "="), dot = strcspn(option, ".");
    char section[64], name[64];
    const struct config_key *key;

    if (option[n] == '\0' || dot >= n) {
        fail(loader, "-o", "expected section.key=value, found '%.100s'", option);
        return;
    }
    snprintf(section, sizeof(section), "%.*s", (int)dot, option);
    snprintf(name, sizeof(name), "%.*s", (int)(n - dot - 1), option + dot + 1);
    key = find_key(section, name);
    if (key == NULL)
        fail_key(loader, "-o", section, name);
    else
        set_key(loader, "-o", key, option + n + 1);
}

/* ---- all of it --------------------------------------------------------------------------- */

static void
set_defaults(struct config *config)
{
    struct err err;

    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < KEY_COUNT; i++) {
        bool is_good = config_value_set(&keys[i], config, keys[i].otherwise, &err);
        assert(is_good);
        (void)is_good;
    }
}

/* The secret's place is in a file that fewer may read. */
static void
read_secret(struct loader *loader, const char *name, const char *path, char *out, size_t size)
{
    char line[1024] = "";
    FILE *file = fopen(path, "re");
    size_t n;

    if (file == NULL || (fgets(line, sizeof(line), file) == NULL && ferror(file)))
        fail(loader, name, "%s: %s", path, strerror(errno));
    if (file != NULL)
        fclose(file);
    if (loader->has_failed)
        return;
    n = strcspn(line, "\r\n");
    line[n] = '\0';
    if (n == 0 || n >= size)
        fail(loader, name, "%s: expected a first line of 1 to %zu bytes, found %s", path, size - 1,
             n == 0 ? "none" : "more");
    else
        memcpy(out, line, n + 1);
    explicit_bzero(line, sizeof(line));
}

static void
read_secrets(struct loader *loader)
{
    struct config *config = &loader->config;

    if (config->broker.default_pass_file[0] == '\0')
        return;
    memset(config->broker.default_pass, 0, sizeof(config->broker.default_pass));
    read_secret(loader, "broker.default_pass_file", config->broker.default_pass_file,
                config->broker.default_pass, sizeof(config->broker.default_pass));
}

/* What a default can only be at run time. */
static void
complete(struct config *config)
{
    char host[65] = "";

    if (config->broker.cluster_name[0] != '\0')
        return;
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0' ||
        !view_is_utf8(view_str(host)))
        snprintf(host, sizeof(host), "localhost");
    snprintf(config->broker.cluster_name, sizeof(config->broker.cluster_name), "lepus@%s", host);
}

/* Keys of parts that this version does not have: accepted, so that files carry over, but not in
 * silence. Setting one to its empty default asks for nothing. */
static void
warn_missing(struct loader *loader)
{
    struct config defaults;
    char text[256];

    set_defaults(&defaults);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct config_key *key = &keys[i];
        if (key->missing == NULL || !loader->is_set[i])
            continue;
        if (key->otherwise[0] == '\0' &&
            memcmp((const char *)&loader->config + key->offset,
                   (const char *)&defaults + key->offset, key->size) == 0)
            continue;
        snprintf(text, sizeof(text), "%s.%s is set, but this version has no %s: ignored",
                 key->section, key->name, key->missing);
        loader->tell(loader->arg, CONFIG_WARNING, text);
    }
}

bool
config_load(const struct config_sources *from, struct config *out, config_tell *tell, void *arg)
{
    struct loader *loader = mem_new(struct loader);
    bool is_good;

    loader->tell = tell;
    loader->arg = arg;
    loader->path = from->path != NULL ? from->path : "text";
    set_defaults(&loader->config);
    if (from->text != NULL)
        load_text(loader, view_of(from->text, from->text_len));
    else if (from->path != NULL)
        load_file(loader);
    for (const char *const *at = from->environment; at != NULL && *at != NULL; at++)
        load_variable(loader, *at);
    for (const char *const *at = from->options; at != NULL && *at != NULL; at++)
        load_option(loader, *at);
    if (!loader->has_failed)
        read_secrets(loader);
    is_good = !loader->has_failed;
    if (is_good) {
        warn_missing(loader);
        complete(&loader->config);
        *out = loader->config;
    }
    explicit_bzero(&loader->config, sizeof(loader->config));
    free(loader);
    return is_good;
}

void
config_defaults(struct config *out)
{
    set_defaults(out);
    complete(out);
}

/* ---- reload ------------------------------------------------------------------------------ */

static bool
is_different(const struct config_key *key, const struct config *a, const struct config *b)
{
    return memcmp((const char *)a + key->offset, (const char *)b + key->offset, key->size) != 0;
}

void
config_reload_diff(const struct config *now, const struct config *fresh, config_changed *changed,
                   void *arg)
{
    char name[64];

    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (!is_different(&keys[i], now, fresh))
            continue;
        snprintf(name, sizeof(name), "%s.%s", keys[i].section, keys[i].name);
        changed(arg, name, keys[i].flags & CONFIG_LIVE);
    }
}

void
config_take_live(struct config *now, const struct config *fresh)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].flags & CONFIG_LIVE)
            memcpy((char *)now + keys[i].offset, (const char *)fresh + keys[i].offset,
                   keys[i].size);
    }
}

/* ---- what people read ---------------------------------------------------------------------- */

/* As comment lines of a file that people read in a terminal. */
static void
print_comment(FILE *out, const char *text)
{
    enum { COLUMNS = 88 };

    while (*text != '\0') {
        size_t n = strlen(text);

        if (n > COLUMNS)
            for (n = COLUMNS; n > 1 && text[n] != ' ';)
                n--;
        fprintf(out, "; %.*s\n", (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
}

static void
print_key(FILE *out, const struct config_key *key)
{
    char expected[128];

    config_value_describe(key, expected, sizeof(expected));
    expected[0] = (char)toupper((unsigned char)expected[0]);
    fputc('\n', out);
    print_comment(out, key->help);
    fprintf(out, "; %s.%s\n", expected,
            key->flags & CONFIG_LIVE ? " A running server takes a change at SIGHUP." : "");
    if (key->missing != NULL)
        fprintf(out, "; Accepted, but this version has no %s: ignored with a warning.\n",
                key->missing);
    fprintf(out, ";%s =%s%s\n", key->name, key->otherwise[0] != '\0' ? " " : "", key->otherwise);
}

void
config_print_ini(FILE *out)
{
    const char *section = "";

    fputs("; The settings of Lepus, each with its default: take the semicolon away to set one.\n"
          "; The environment (LEPUS_AMQP_HEARTBEAT=30s) goes before this file, and the command\n"
          "; line (-o amqp.heartbeat=30s) before both. \"lepusd --check -c FILE\" tells mistakes.\n"
          "; A comment begins with a semicolon, behind a value with a blank and a semicolon.\n"
          "; This file is the output of \"lepusd --print-config\".\n",
          out);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(section, keys[i].section) != 0) {
            section = keys[i].section;
            fprintf(out, "\n[%s]\n", section);
        }
        print_key(out, &keys[i]);
    }
}

void
config_print_keys(FILE *out)
{
    char name[64];

    for (size_t i = 0; i < KEY_COUNT; i++) {
        snprintf(name, sizeof(name), "%s.%s=%s", keys[i].section, keys[i].name, keys[i].otherwise);
        fprintf(out, "  %-29s %s%s%s%s\n", name, keys[i].help,
                keys[i].missing != NULL ? " (This version has no " : "",
                keys[i].missing != NULL ? keys[i].missing : "",
                keys[i].missing != NULL ? ".)" : "");
    }
}
