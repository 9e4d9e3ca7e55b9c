/*
 * amqp: the connections of one worker: what AMQP 0-9-1 means.
 *
 * One `struct amqp` per worker. It takes accepted sockets (cmd_adopt) and speaks AMQP on them;
 * everything else it does is asked for by the peers. It talks to queues by commands
 * (broker/command.h) and reads the topology. The server above speaks to it by cmd_order.
 */
#ifndef LEPUS_AMQP_AMQP_H
#define LEPUS_AMQP_AMQP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lepus/auth/auth.h"
#include "lepus/broker/post.h"
#include "lepus/broker/topology.h"
#include "lepus/net/tls.h"

/* Which name in a client's certificate is a user's. */
enum amqp_certificate {
    AMQP_CERTIFICATE_NONE, /* EXTERNAL is not offered */
    AMQP_CERTIFICATE_COMMON_NAME,
    AMQP_CERTIFICATE_DISTINGUISHED_NAME,
    AMQP_CERTIFICATE_DNS,
    AMQP_CERTIFICATE_EMAIL,
};

/* What the operator decides. Shared by all workers; only the atomic members change after start. */
/* What is done about a delivery that was not settled in time. */
enum overdue_action {
    OVERDUE_REQUEUE, /* it goes back; the channel lives */
    OVERDUE_CLOSE    /* its channel is closed with 406, as RabbitMQ does */
};

struct amqp_settings {
    struct auth *auth;
    const char *anonymous_user;                   /* who ANONYMOUS is; "": it is not offered */
    enum amqp_certificate certificate_name;       /* what EXTERNAL takes for the user's name */
    const char *product, *version, *cluster_name; /* in server-properties */
    const char *lepus_version;
    bool proxied;                       /* every socket begins with a PROXY header */
    struct tls_shelf *tls;              /* for what comes to TLS listeners; NULL: there are none */
    _Atomic uint32_t frame_max;         /* 0: no limit */
    _Atomic uint32_t initial_frame_max; /* before tune-ok */
    _Atomic uint16_t channel_max;       /* 0: no limit */
    _Atomic uint16_t heartbeat_s;
    _Atomic uint32_t handshake_timeout_ms;
    _Atomic uint64_t max_message_size;
    _Atomic uint8_t overdue_action;
};

struct amqp;

struct amqp *amqp_new(struct post *post, struct topology *topology,
                      const struct amqp_settings *settings);

/* On the worker's thread: definitions are safe up to this ticket (store/metadata.h), and what waits
 * for that is answered. Before the start it is told where the metadata stands. A
 * metadata_committed_fn; arg is the struct amqp. */
void amqp_committed(void *arg, uint64_t ticket);

/* On the worker's thread, before its first turn has ended: starts the tick. */
void amqp_free(struct amqp *amqp); /* after the workers have stopped */

/* How many connections this worker has; any thread. */
unsigned amqp_connection_count(const struct amqp *amqp);

#endif
