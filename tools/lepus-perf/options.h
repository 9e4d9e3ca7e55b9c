/*
 * options: what the command line asks for.
 *
 * Every option is a row: the parser, the defaults and --help follow from the same table. A value
 * is kept in the member that the row names; what needs more than a number or a text (sizes,
 * key=value pairs, the URL) has its own kind.
 */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/buf.h"

/* amqp[s]://[user[:password]@]host[:port][/vhost], parts percent-encoded. */
struct url {
    char *host, *user, *password, *vhost;
    char port[8];
    bool is_tls;
};

/* Body sizes: the list in turn, or anything from sizes[0] to sizes[1] at random. */
enum { SIZES_MAX = 64 };

struct sizes {
    size_t sizes[SIZES_MAX];
    size_t count;
    bool is_range;
};

struct options {
    struct url url;
    const char *ca, *cert, *key;
    uint64_t heartbeat_s, frame_max;

    uint64_t producers, consumers, per_connection, threads, churn;

    const char *queue, *exchange, *type, *routing_key, *binding_key;
    uint64_t queues, routing_keys, bindings;
    struct buf queue_arguments, binding_arguments; /* contents of field tables */
    bool durable, exclusive, auto_delete, no_declare, purge, delete_after;

    struct sizes size;
    bool persistent, mandatory;
    uint64_t priority; /* OPTION_NONE: not set */
    const char *expiration;
    struct buf headers;

    double rate; /* messages a second in total; 0: as fast as can be */
    uint64_t confirm, prefetch, ack;
    struct buf consumer_arguments;

    uint64_t publish, consume; /* messages in total; OPTION_NONE: not set */
    double duration_s, warmup_s, patience_s;

    bool json, quiet, wall_clock;
};

#define OPTION_NONE UINT64_MAX

/* Fills *out. False: a text stands on standard error and `*out_status` is what to exit with (0
 * after --help, 2 after a mistake). */
bool options_parse(struct options *out, int argc, char **argv, int *out_status);
void options_fini(struct options *options);

/* Writes `pattern` with each %d replaced by number; returns what snprintf would. */
size_t options_expand(char *to, size_t size, const char *pattern, uint64_t number);

/* The name of queue `number` of options->queues: a single one is named as it stands, several by
 * their number, behind a dash where the name has no %d. */
size_t options_queue_name(const struct options *options, uint64_t number, char *to, size_t size);

#endif
