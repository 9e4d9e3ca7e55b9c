/*
 * tls_priv: the TLS of one transport: a state machine between its socket and its octets.
 *
 *   AWAIT_HELLO --first octet--> HANDSHAKE ----> OPEN
 *        |                           |            |
 *        `------- not TLS -----------+--> FAILED <'   by tls_session_handshake, _read, _seal
 *
 * It reads the socket by itself, and writes nothing to it: whatever TLS wants to say (handshake,
 * records, alerts, answers to a new key) it appends to an output, `wire`, which the transport
 * sends as it sends any output. So no call ever waits for the socket to be writable, a partial
 * write is the transport's business alone, and many records leave in one system call.
 *
 * Until the first octet comes there is no SSL object: a peer that connects and says nothing costs
 * little. An open session owns no buffers while nothing is under way.
 *
 * The exception is the kernel's TLS (tls_settings.kernel). Once it encrypts, `wire` is the
 * transport's own output, whose octets go to the socket as they are; OpenSSL's own messages, which
 * are few by then, go to the socket past it, and fail the session if that is full.
 *
 * Owned by its transport.
 */
#ifndef LEPUS_NET_TLS_PRIV_H
#define LEPUS_NET_TLS_PRIV_H

#include <sys/types.h>

#include "lepus/base/list.h"
#include "lepus/net/tls.h"
#include "lepus/net/worker.h"
#include "output_priv.h"

#include <openssl/ssl.h>

/* tls.c: a context as its sessions see it. */
SSL *tls_context_new_ssl(struct tls_context *context); /* NULL: no memory */
const BIO_METHOD *tls_context_bio(const struct tls_context *context);
bool tls_context_may_use_kernel(const struct tls_context *context);
uint32_t tls_context_handshake_timeout_ms(const struct tls_context *context);

/* tls_session.c */
BIO_METHOD *tls_session_bio_method(void); /* a new one, for a context to keep */

/* clang-format off */
#define TLS_STATES(S)                                                              \
    S(AWAIT_HELLO, "nothing has come yet")                                         \
    S(HANDSHAKE,   "it is agreed who we are and which keys to use")                \
    S(OPEN,        "octets go both ways")                                          \
    S(FAILED,      "nothing is understood any more; an alert may wait to go out")
/* clang-format on */

enum tls_state {
#define S(name, meaning) TLS_##name,
    TLS_STATES(S)
#undef S
};

struct tls_session {
    struct tls_context *context; /* a reference */
    int fd;                      /* borrowed */
    enum tls_state state;
    bool was_cut;      /* the peer ended the stream without close_notify */
    bool has_ended;    /* one way or the other */
    bool has_said_end; /* our close_notify is sent, or never will be */
    bool is_kernel;    /* which encrypts what we send */
    int read_errno;    /* of the socket; 0: none */
    uint64_t bytes_in;
    SSL *ssl;    /* NULL in AWAIT_HELLO */
    BIO *socket; /* only where the kernel may encrypt: what sets it up, and carries messages */
    struct output cipher;
    char *why; /* in FAILED */

    /* The transport's: itself, its place in the queue for a step of the handshake, and how long
     * that may take in all. */
    struct transport *transport;
    struct list waiting;
    struct worker_timer deadline;
};

/* Takes a reference of its own to context; borrows fd and the pool. */
struct tls_session *tls_session_new(struct tls_context *context, int fd, struct chunk_pool *pool);
void tls_session_free(struct tls_session *session); /* NULL is fine */

/* One step, as far as the octets go that have come: up to a millisecond of work. The state says
 * what came of it. False: the socket has ended or failed; _why says how. */
bool tls_session_handshake(struct tls_session *session);

/* As recv: octets; 0 when the peer has ended (was_cut tells how); -1 with errno: EAGAIN, the
 * socket's error, or EPROTO when the session has failed. Fewer than n: nothing more is to be had
 * now, or it has ended. */
ssize_t tls_session_read(struct tls_session *session, void *at, size_t n);

/* Whether read has more to tell, though the socket need not be readable: octets that it has read
 * ahead, or the end. True may be a mistake, false is not. */
bool tls_session_has_more(const struct tls_session *session);

/* Encrypts from the front of plain into the wire, which then holds enough for a system call, or
 * all. False: the session has failed. */
bool tls_session_seal(struct tls_session *session, struct output *plain);

/* Says that we send no more. True when that put octets into the wire. */
bool tls_session_say_end(struct tls_session *session);

/* What goes to the socket. */
static inline struct output *
tls_session_wire(struct tls_session *session, struct output *plain)
{
    /* not before the peer is known, though the kernel may have its keys already */
    return session->is_kernel && session->state == TLS_OPEN ? plain : &session->cipher;
}

/* How it failed or ended; never NULL. */
const char *tls_session_why(const struct tls_session *session);

/* "TLSv1.3 TLS_AES_128_GCM_SHA256, peer CN=a"; of a session that is, or was, open. */
void tls_session_describe(const struct tls_session *session, char *out, size_t size);
bool tls_session_peer_name(const struct tls_session *session, enum tls_name which, unsigned nth,
                           char *out, size_t size);

#endif
