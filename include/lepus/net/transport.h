/*
 * transport: one peer's byte stream: input handed up in place, output gathered and flushed once
 * a turn. Knows bytes, sockets and TLS; knows no AMQP.
 *
 * Input. A worker reads into one big buffer of its own and hands the bytes up where they stand;
 * `bytes` answers how many it used. What it did not use (a frame's beginning, or all that came
 * after the reader was told to pause) is kept per transport and handed up again in front of what
 * follows. A transport that keeps nothing owns no input memory. When the reader knows that it
 * needs more than is there, it says so (out_want) and is not called before that is there; for a
 * large frame the bytes go straight to memory of the transport's own, which grows with what
 * arrives, never with what was announced.
 *
 * Output. Small things are written into chunks of the worker's pool (transport_reserve/commit);
 * large bodies are referenced (transport_put_blob). Chunks go back as they are written out: an
 * idle transport owns no output memory. At the end of a turn everything goes out in one writev;
 * what the socket does not take waits for it to be writable. Above TRANSPORT_FULL octets waiting,
 * transport_is_full: who produces output for it then stops by himself, and `drained` is called
 * (from the loop, not from within a call of the owner) once less than TRANSPORT_LOW wait.
 *
 * TLS. Between the octets of the owner and the socket, and for the owner no different: input comes
 * deciphered, output is encrypted when it is flushed, a record holding as much as is there. Of what
 * waits, up to 128 KiB are encrypted already and no longer counted as pending.
 *
 * Ending. transport_close ends at once; transport_finish lets what waits go out first, then
 * shuts down and waits for the peer to end. When the peer ends or the socket fails, or the finish
 * is done, `gone` is called once, from the loop; the owner then calls transport_close. After
 * close no callback comes, not even gone. The memory is freed by the worker's reaper, so both may
 * be called from any callback, and until the end of the turn every function may still be called:
 * output for a transport that has ended is dropped.
 *
 * Owned by its worker; every function asserts that it runs there, but for the fast path of
 * transport_reserve and transport_commit.
 */
#ifndef LEPUS_NET_TRANSPORT_H
#define LEPUS_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/blob.h"
#include "lepus/base/view.h"
#include "lepus/net/tls.h"
#include "lepus/net/worker.h"

enum {
    TRANSPORT_READ_SIZE = 256 * 1024, /* what one read asks for */
    TRANSPORT_FULL = 1 << 20,
    TRANSPORT_LOW = 256 * 1024,
};

struct transport;

struct transport_ops {
    /*
     * Bytes have come, or wait since the reader paused. Returns how many of them, from the
     * front, are used up. *out_want, when the reader knows it: how many octets it must see at
     * once to go on (0: any more). May pause, finish or close the transport.
     */
    size_t (*bytes)(void *arg, struct view input, size_t *out_want);
    void (*drained)(void *arg);

    /* "peer closed", or strerror; after transport_finish "finished", or "peer did not close in
     * time". What came before the end has been handed up, but for an incomplete rest and unless
     * the reader has paused. */
    void (*gone)(void *arg, const char *why);
};

/* Takes fd (a connected, non-blocking stream socket). Reading starts at once. */
struct transport *transport_new(struct worker *worker, int fd, const struct transport_ops *ops,
                                void *arg);

/* The same, as the server's side of TLS, with a reference of its own to context. `bytes` comes
 * once the handshake is done, and what was written before goes out then; `gone` tells why, when
 * it fails or takes longer than the context allows. */
struct transport *transport_new_tls(struct worker *worker, int fd, struct tls_context *context,
                                    const struct transport_ops *ops, void *arg);

/* To be called at once: before anything else a proxy says whom it speaks for, in a header of the
 * PROXY protocol (version 2, the only one), and that is the peer from then on. Without a good one
 * the end comes, as `gone` tells; how long it may take is the owner's business. */
void transport_await_proxy(struct transport *transport);

const char *transport_peer(const struct transport *transport);  /* "127.0.0.1:51234", "[::1]:80" */
const char *transport_local(const struct transport *transport); /* "127.0.0.1:5672" */

/* 127.0.0.0/8 (also as ::ffff:127.0.0.1), ::1, or no IP at all. Whom a proxy speaks for is on this
 * machine only if the proxy is, too. */
bool transport_peer_is_loopback(const struct transport *transport);

bool transport_is_tls(const struct transport *transport);

/* The handshake began, and did not come to its end, or a later record could not be understood. */
bool transport_has_failed_tls(const struct transport *transport);

/* It did not begin with the PROXY header that was awaited, but with something else. */
bool transport_has_bad_proxy(const struct transport *transport);

/* "TLSv1.3 TLS_AES_128_GCM_SHA256, resumed, peer CN=a"; only with TLS. */
void transport_describe_tls(const struct transport *transport, char *out, size_t size);

/* A name out of the certificate that the peer has shown and we have verified: nth, from 0, where
 * there may be several. False, with *out untouched or cut, when there is none, or it does not
 * fit, or is no text. */
bool transport_peer_name(const struct transport *transport, enum tls_name which, unsigned nth,
                         char *out, size_t size);

/* How much a turn may read: less for one that is ahead of those who take what it brings, so that
 * they have their turns more often. */
void transport_slow(struct transport *transport, bool slow);

/* No more `bytes` calls until resume; the peer is held back by TCP. Resume hands up what waits in
 * a later phase of the worker, never from within. Both may be repeated. */
void transport_pause(struct transport *transport);
void transport_resume(struct transport *transport);

/* As resume, but reading was not paused: `bytes` stopped early for fairness and wants to be
 * called again with what is left, after others had their turn. */
void transport_again(struct transport *transport);

/* Room for n octets, to be filled at once and committed; never NULL (aborts without memory). */
static inline uint8_t *transport_reserve(struct transport *transport, size_t n);
static inline void transport_commit(struct transport *transport, size_t n); /* n <= reserved */

/* Appends octets [from, from + len) of the blob, taking a reference of its own. */
void transport_put_blob(struct transport *transport, struct blob *blob, size_t from, size_t len);

/* Octets waiting to go out. */
static inline size_t transport_pending(const struct transport *transport);
static inline bool transport_is_full(const struct transport *transport);

/* When something last came in or went out (worker_now_ms of that turn). */
uint64_t transport_last_in_ms(const struct transport *transport);
uint64_t transport_last_out_ms(const struct transport *transport);
uint64_t transport_bytes_in(const struct transport *transport);
uint64_t transport_bytes_out(const struct transport *transport);

/* Whether the peer has hung up or the connection is failing, even though bytes that came before
 * are still to be read: asks the socket (TCP_INFO, a peek at its end). */
bool transport_is_dying(struct transport *transport);

void transport_finish(struct transport *transport); /* write what waits, then end; reads and drops
                                                       what comes; calls gone when it has ended */
void transport_close(struct transport *transport);

/* --- the fast paths, inline ---------------------------------------------------------------
 *
 * A transport begins with this. While there is room a flush is under way already, so reserve and
 * commit have nothing to do but to move `next`.
 */
struct transport_room {
    uint8_t *first, *next, *end; /* written and not sent: [first, next); room: [next, end) */
    size_t queued;               /* octets waiting before `first` */
};

/* Makes room for n octets, and has them flushed. */
uint8_t *transport_make_room(struct transport *transport, size_t n);

static inline uint8_t *
transport_reserve(struct transport *transport, size_t n)
{
    struct transport_room *room = (struct transport_room *)(void *)transport;

    if ((size_t)(room->end - room->next) > n) /* not >=: without a chunk even 0 must make room */
        return room->next;
    return transport_make_room(transport, n);
}

static inline void
transport_commit(struct transport *transport, size_t n)
{
    ((struct transport_room *)(void *)transport)->next += n;
}

static inline size_t
transport_pending(const struct transport *transport)
{
    const struct transport_room *room = (const struct transport_room *)(const void *)transport;

    return room->queued + (size_t)(room->next - room->first);
}

static inline bool
transport_is_full(const struct transport *transport)
{
    return transport_pending(transport) > TRANSPORT_FULL;
}

/* Appends without the reserve/commit dance. */
static inline void
transport_put(struct transport *transport, const void *at, size_t n)
{
    if (n == 0)
        return;
    memcpy(transport_reserve(transport, n), at, n);
    transport_commit(transport, n);
}

#endif
