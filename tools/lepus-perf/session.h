/*
 * session: an AMQP connection as its client, and the channels on it.
 *
 *     CLOSED -> CONNECTING -> AWAIT_START -> AWAIT_TUNE -> AWAIT_OPEN_OK -> OPEN -> CLOSING ->
 * CLOSED
 *
 * Written for speed on the two paths that matter. What is read is scanned where it lies: of a
 * delivery only the tag and the first octets of the body are looked at, and the rest of a body
 * is passed over as it comes. What is published is drawn from the channels in chunks of encoded
 * frames (channel_ops.next_chunk) that are written from where they lie; methods go by way of
 * `out`, between chunks. Everything else is decoded by wire/method.
 */
#ifndef PERF_SESSION_H
#define PERF_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/buf.h"
#include "lepus/base/view.h"
#include "lepus/wire/method.h"
#include "link.h"
#include "loop.h"

struct channel;

/* What a role does on its channel. Any may be NULL. */
struct channel_ops {
    void (*opened)(struct channel *channel); /* channel.open-ok came */
    void (*start)(struct channel *channel);  /* LOOP_START */
    void (*method)(struct channel *channel, enum method method, const union method_args *args);
    void (*settled)(struct channel *channel, uint64_t tag, bool multiple, bool is_ack);
    void (*delivered)(struct channel *channel); /* a whole delivery is here: see its members */
    bool (*next_chunk)(struct channel *channel, struct view *out); /* borrowed until written */
    void (*closing)(struct channel *channel); /* connection.close is about to be sent */
    void (*closed)(struct channel *channel);  /* the session is CLOSED, as it should be */
    void (*free)(struct channel *channel);
};

enum content { CONTENT_NONE, CONTENT_DELIVERY, CONTENT_OTHER };

struct channel {
    struct session *session;
    const struct channel_ops *ops;
    uint16_t id;
    bool is_closed; /* channel.close-ok came */

    /* The content that is being read. */
    enum content content;
    bool redelivered, has_stamp;
    uint64_t tag, size, left; /* octets of the body: all, and those still to come */
    uint64_t stamp;           /* the body's first eight */
};

enum session_state {
    SESSION_CLOSED,
    SESSION_CONNECTING,
    SESSION_AWAIT_START,
    SESSION_AWAIT_TUNE,
    SESSION_AWAIT_OPEN_OK,
    SESSION_OPEN,
    SESSION_CLOSING, /* connection.close sent: all but close-ok is dropped */
};

struct session {
    struct loop *loop;
    enum session_kind kind;
    enum session_state state;
    struct link link;
    struct event *readable, *writable;
    bool awaits_writable, is_blocked;
    uint64_t frame_max, heartbeat_ns;
    uint64_t read_ns, written_ns; /* when something last was */

    struct buf out; /* methods; the first out_sent octets are written */
    size_t out_sent;
    struct view chunk; /* what is left of the chunk that is being written */

    uint8_t *tail; /* an incomplete frame, kept from one read to the next */
    size_t tail_len;
    size_t skip; /* octets of a body frame that are still to come, its end octet included */

    struct channel **channels; /* owned; channels[id - 1] */
    unsigned n_channels, next_source;
};

struct session *session_new(struct loop *loop, enum session_kind kind);
void session_free(struct session *session);

/* Before it is opened. The session owns the channel, whose ops are set. */
void session_add_channel(struct session *session, struct channel *channel);

void session_open(struct session *session);
void session_start(struct session *session);
void session_close(struct session *session); /* in order; crew_done() when it is CLOSED */

/* Once a second: sends one when it is time, and fails when the peer has been silent too long. */
void session_heartbeat(struct session *session);

/* Appends to what goes out; session_flush writes. */
void session_send(struct channel *channel, enum method method, const void *args);

/* Writes what there is, methods and chunks, as far as the socket takes it. */
void session_flush(struct session *session);

/* Ends the connection and the run. */
void session_fail(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
