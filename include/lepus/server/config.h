/*
 * config: every setting, parsed and checked, as plain data.
 *
 * A setting is a row of one table in config.c: section, name, type, bounds, default, whether a
 * running server takes a change, and a line of help. From the rows come the parser, the texts of
 * its errors, the key list of --help and the generated conf/lepus.ini; to add a key, add a member
 * here and a row there.
 *
 * Values come from four places, later ones winning: defaults, the INI file, the environment
 * (LEPUS_AMQP_HEARTBEAT for amqp.heartbeat), and -o section.key=value. Whatever is wrong in any
 * of them is told, all of it, and nothing is used.
 *
 * A struct config holds no pointers: copy it by assignment, compare members with memcmp (unused
 * bytes are zero), and forget it. It belongs to whoever has it; workers are handed copies.
 */
#ifndef LEPUS_SERVER_CONFIG_H
#define LEPUS_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/amqp/amqp.h"
#include "lepus/base/err.h"
#include "lepus/base/log.h"
#include "lepus/base/view.h"
#include "lepus/net/tls.h"

enum { CONFIG_ADDRESSES_MAX = 16 };

struct address {
    char host[256]; /* a name, an IPv4 address, or an IPv6 address without its brackets */
    uint16_t port;  /* 0: the kernel chooses */
};

struct address_list {
    size_t count;
    struct address at[CONFIG_ADDRESSES_MAX];
};

enum sync_mode { SYNC_ALWAYS, SYNC_INTERVAL, SYNC_NEVER };

struct sync_policy {
    enum sync_mode mode;
    uint32_t interval_ms; /* 0 but for SYNC_INTERVAL */
};

/* How much of a disk, or of memory: one of the two is 0. */
struct disk_share {
    uint64_t bytes;
    uint64_t percent;
};

enum proxy_protocol { PROXY_PROTOCOL_OFF, PROXY_PROTOCOL_V2 };

struct config {
    struct {
        char data_dir[1024];
        uint32_t workers; /* 0: one per core */
        char default_user[256];
        char default_pass[256];
        char default_pass_file[1024]; /* its first line is default_pass; empty: none */
        char user[256];               /* whom to become; empty: nobody else */
        bool core_dumps;
        char product[256]; /* these three: as server-properties say */
        char version[256];
        char cluster_name[256];      /* never empty after config_load */
        char load_definitions[1024]; /* empty: none */
        bool policy_merge;
    } broker;
    struct {
        struct address_list listen;
        struct address_list tls_listen;
        uint32_t heartbeat_s;          /* 0: none is offered */
        uint32_t frame_max;            /* 0: no limit */
        uint32_t initial_frame_max;    /* before connection.tune-ok */
        uint32_t channel_max;          /* 0: no limit */
        uint64_t max_message_size;     /* bytes of a body */
        uint32_t handshake_timeout_ms; /* from accept to connection.open-ok */
        uint32_t backlog;              /* of listen(2) */
        enum overdue_action consumer_timeout_action;
        enum proxy_protocol proxy_protocol;
    } amqp;
    struct { /* 0: no limit, of each */
        uint32_t connections;
        uint32_t sockets; /* 0: what the descriptors allow */
        uint32_t channels;
        uint32_t consumers_per_channel;
        uint32_t queues_per_vhost;
        uint32_t bindings_per_exchange;
        uint32_t pending_handshakes;
        struct disk_share memory_high_watermark; /* of what there is; both 0: no alarm */
    } limits;
    struct {
        char loopback_users[1024]; /* by commas */
        uint32_t max_failures;     /* of an address and a user in a window; 0: no limit */
        uint32_t failure_window_s;
        enum amqp_certificate certificate_name;
        char anonymous_user[256]; /* empty: nobody */
    } auth;
    struct { /* as in struct tls_settings */
        char certificate[2048];
        char key[2048];
        char key_passphrase_file[1024];
        char ca[1024];
        enum tls_verify verify;
        uint32_t verify_depth;
        uint32_t versions; /* TLS_1_2, TLS_1_3 */
        char ciphers[1024];
        char ciphersuites[256];
        uint32_t handshake_timeout_ms;
        uint32_t session_timeout_s; /* 0: no session is resumed */
        bool kernel;
    } tls;
    struct {
        enum log_level level;
        enum log_format format;
    } log;
    struct {
        struct sync_policy sync;
        struct disk_share disk_free_limit;
        uint64_t journal_size; /* bytes, of each worker */
        uint64_t memory;       /* bytes, of all workers */
    } store;
    struct {
        struct address_list listen;
        char socket[108]; /* a path that fits sockaddr_un */
    } management;
    struct {
        struct address_list listen;
    } prometheus;
};

/* Where the values come from; any member may be NULL, or of length 0. Borrowed for the call. */
struct config_sources {
    const char *path;               /* the INI file, and its name in errors */
    const char *text;               /* its contents, instead of reading path */
    size_t text_len;                /* of text */
    const char *const *environment; /* NAME=value, NULL-terminated: environ */
    const char *const *options;     /* section.key=value, NULL-terminated, last one wins */
};

enum config_notice {
    CONFIG_ERROR,   /* "FILE:LINE: section.key: what was expected, what was found" */
    CONFIG_WARNING, /* "section.key is set, but this version has no ...: ignored" */
};

/* Told each finding in turn; line is borrowed for the call. May be called from config_load only. */
typedef void config_tell(void *arg, enum config_notice notice, const char *line);

/* Fills *out; or tells every error, returns false and leaves *out alone. Warnings come last, and
 * only when there are no errors. */
bool config_load(const struct config_sources *from, struct config *out, config_tell *tell,
                 void *arg);

/* The defaults alone. */
void config_defaults(struct config *out);

/* Told each key whose value differs; is_live: a running server takes the change. */
typedef void config_changed(void *arg, const char *key, bool is_live);

/* Tells the keys that differ between two configurations, in the table's order. */
void config_reload_diff(const struct config *now, const struct config *fresh,
                        config_changed *changed, void *arg);

/* Copies the values of the keys that may change live. */
void config_take_live(struct config *now, const struct config *fresh);

/* conf/lepus.ini: every key, commented out, under its section, with what it means. */
void config_print_ini(FILE *out);

/* The keys with default and meaning, a line each, for --help. */
void config_print_keys(FILE *out);

#endif
