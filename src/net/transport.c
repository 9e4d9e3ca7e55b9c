/*
 *   SECURING --TLS--> OPEN --transport_finish--> FINISHING --shut, when all is out--> LINGERING
 *       |              |                          ^  |                                   |
 *       +--------------+--- TLS has failed -------'  |                                   |
 *       +--------------+-- end: peer closed, socket failed, time is up ------------------+--> GONE
 *
 * and from each of them transport_close leads to CLOSED. Without TLS it begins in OPEN.
 *
 * Who calls the owner: on_readable and timers, from the loop, and on_again and on_handshakes, in
 * phase AGAIN; so never a function that the owner called, nor the flush.
 *
 * TLS stands in two places: sock_read, and what write_out sends. A handshake is work, up to a
 * millisecond for a step, and hundreds may come at once. So they stand in a queue of the worker,
 * which takes steps for HANDSHAKE_BUDGET_US a turn and lets everybody else have their turn then.
 * Once FINISHING, nobody cares what comes in, and it is dropped undeciphered.
 */
#include "lepus/net/transport.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include "address_priv.h"
#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "output_priv.h"
#include "proxy_priv.h"
#include "tls_priv.h"
#include "worker_priv.h"

enum {
    /* Up to this much is copied in front of the next read; above it, bytes that are kept get
     * memory of their own, and reads go straight there. */
    KEPT_SHARED_MAX = 64 * 1024,
    READ_BUDGET = 2 * TRANSPORT_READ_SIZE, /* octets a turn */
    SLOW_READ = 16 * 1024,                 /* the same of one that is slowed */
    WRITE_BUDGET = 4 << 20,
    SEALED_WRITE_BUDGET = 1 << 20, /* encryption takes its time, too */
    HANDSHAKE_BUDGET_US = 500,
    WRITE_IOV = 64,
    COPY_MAX = 4096, /* a shorter slice of a blob is copied: cheaper than its entry of the writev */
    LINGER_MS = 5000,
    UNHEARD_MS = 3000, /* sent that long ago, and not acknowledged */
};

/* clang-format off */
#define STATES(S)                                                                       \
    S(SECURING,  "TLS shakes hands; what is written waits, and nothing is handed up")   \
    S(OPEN,      "octets go both ways")                                                 \
    S(FINISHING, "what waits goes out; what comes in is dropped")                       \
    S(LINGERING, "our side is shut; waits for the peer's end, and drops what comes")    \
    S(GONE,      "the owner is being told, and closes")                                 \
    S(CLOSED,    "waits for the reaper")
/* clang-format on */

enum state {
#define S(name, meaning) name,
    STATES(S)
#undef S
};

struct transport {
    struct output out; /* must be first: transport.h reserves and commits in its first member */
    struct tls_session *tls; /* NULL: plain */
    struct worker *worker;
    const struct transport_ops *ops;
    void *arg;
    int fd;
    enum state state;
    int write_errno; /* the socket takes no more; reading finds out whether anything is left */
    bool is_paused;
    bool is_slow;
    bool is_reading, is_writing; /* events that are added */
    bool was_full, owes_drained;
    bool has_ended; /* the peer, while we were finishing */
    bool is_loopback;
    bool awaits_proxy, has_bad_proxy;
    struct event readable, writable;
    struct worker_task again, flush;
    struct worker_timer linger;
    struct kept { /* what the reader has not used: at[from .. from + len) of size */
        uint8_t *at;
        size_t from, len, size;
    } kept;
    size_t want; /* no `bytes` before that much is there */
    uint64_t last_in_ms, last_out_ms, bytes_in, bytes_out;
    char *peer, *local;
};

static void
enter(struct transport *t, enum state state)
{
    assert(state > t->state);
    t->state = state;
}

/* --- the socket -------------------------------------------------------------------------- */

/* TLS may want to say something by itself: in the handshake, or in answer to what was read. */
static void
flush_tls(struct transport *t)
{
    if (output_pending(&t->tls->cipher) > 0 && !t->is_writing)
        worker_schedule(t->worker, WORKER_FLUSH, &t->flush);
}

static ssize_t
sock_read(struct transport *t, void *at, size_t n)
{
    ssize_t got;

    if (t->tls != NULL && t->state == OPEN) {
        got = tls_session_read(t->tls, at, n);
        flush_tls(t);
        return got;
    }
    do
        got = recv(t->fd, at, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t
sock_writev(struct transport *t, struct iovec *iov, int n)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t sent;

    do
        sent = sendmsg(t->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* --- events ------------------------------------------------------------------------------ */

static void
set_event(struct event *event, bool *is_added, bool add)
{
    if (*is_added == add)
        return;
    if ((add ? event_add(event, NULL) : event_del(event)) != 0)
        abort(); /* no memory for it, or no socket: we could never hear of the peer again */
    *is_added = add;
}

static void
reading(struct transport *t, bool wanted)
{
    set_event(&t->readable, &t->is_reading, wanted);
}

static void
writing(struct transport *t, bool wanted)
{
    set_event(&t->writable, &t->is_writing, wanted);
}

/* --- the end ----------------------------------------------------------------------------- */

static void
leave_handshake(struct transport *t)
{
    if (list_is_linked(&t->tls->waiting))
        list_remove(&t->tls->waiting);
    worker_timer_cancel(&t->tls->deadline);
}

static void
fall_silent(struct transport *t)
{
    reading(t, false);
    writing(t, false);
    worker_task_cancel(&t->again);
    worker_task_cancel(&t->flush);
    worker_timer_cancel(&t->linger);
    if (t->tls != NULL)
        leave_handshake(t);
    output_drop(&t->out);
}

/* Tells the owner, who may close. If TLS has failed, all that came after is of no interest. */
static void
end(struct transport *t, const char *why)
{
    enter(t, GONE);
    fall_silent(t);
    if (t->tls != NULL && t->tls->state == TLS_FAILED)
        why = tls_session_why(t->tls);
    t->ops->gone(t->arg, why);
}

static void
on_linger_timer(void *arg)
{
    end(arg, "peer did not close in time");
}

static void
shut(struct transport *t)
{
    enter(t, LINGERING);
    shutdown(t->fd, SHUT_WR);
    if (t->has_ended)
        worker_schedule(t->worker, WORKER_AGAIN, &t->again);
}

/* What waits (for a session that has failed: its alert) goes out; then the end. */
static void
begin_to_finish(struct transport *t)
{
    enter(t, FINISHING);
    reading(t, true);
    worker_timer_set(t->worker, &t->linger, LINGER_MS);
    worker_schedule(t->worker, WORKER_FLUSH, &t->flush); /* shuts, even with nothing to write */
}

static void
tls_failed(struct transport *t)
{
    leave_handshake(t);
    output_drop(&t->out);
    if (t->state < FINISHING)
        begin_to_finish(t);
}

/* --- input ------------------------------------------------------------------------------- */

static void
drop_kept(struct transport *t)
{
    free(t->kept.at);
    t->kept = (struct kept){0};
}

/* Keeps octets that stand in the worker's buffer, in place of what was kept. */
static void
keep(struct transport *t, const uint8_t *at, size_t len)
{
    if (len > t->kept.size || len < t->kept.size / 2)
        drop_kept(t);
    if (len == 0) {
        drop_kept(t);
        return;
    }
    if (t->kept.at == NULL) {
        t->kept.at = mem_alloc(len);
        t->kept.size = len;
    }
    memcpy(t->kept.at, at, len);
    t->kept.from = 0;
    t->kept.len = len;
}

static size_t
call_bytes(struct transport *t, const uint8_t *at, size_t len)
{
    size_t used;

    t->want = 0;
    used = t->ops->bytes(t->arg, view_of(at, len), &t->want);
    assert(used <= len);
    if (t->want <= len - used) /* nothing new to wait for */
        t->want = 0;
    return used;
}

static void
hand_up_shared(struct transport *t, size_t len)
{
    const uint8_t *at = t->worker->read_buffer;
    size_t used = 0;

    if (len >= t->want)
        used = call_bytes(t, at, len); /* may close: t lives until the reaper */
    if (t->state == OPEN)
        keep(t, at + used, len - used);
}

static void
hand_up_kept(struct transport *t)
{
    struct kept *kept = &t->kept;
    size_t used;

    if (kept->len < t->want)
        return;
    used = call_bytes(t, kept->at + kept->from, kept->len);
    if (t->state != OPEN)
        return;
    kept->from += used;
    kept->len -= used;
    if (kept->len == 0) {
        drop_kept(t);
    } else if (kept->from > kept->size / 2) {
        struct kept old = *kept;

        *kept = (struct kept){0};
        keep(t, old.at + old.from, old.len);
        free(old.at);
    }
}

/* The worker's buffer, with what is kept at its front; reads go behind that. */
static uint8_t *
shared_room(struct transport *t, size_t *out_room)
{
    struct worker *worker = t->worker;

    if (worker->read_buffer == NULL)
        worker->read_buffer = mem_alloc(KEPT_SHARED_MAX + TRANSPORT_READ_SIZE);
    if (t->kept.len > 0)
        memcpy(worker->read_buffer, t->kept.at + t->kept.from, t->kept.len);
    *out_room = t->is_slow ? SLOW_READ : TRANSPORT_READ_SIZE;
    return worker->read_buffer + t->kept.len;
}

/* Room behind what is kept. It doubles as octets arrive, but not beyond what is wanted; NULL when
 * there is no memory. */
static uint8_t *
own_room(struct transport *t, size_t *out_room)
{
    struct kept *kept = &t->kept;
    size_t size = kept->len > KEPT_SHARED_MAX ? kept->len * 2 : KEPT_SHARED_MAX * 2;
    uint8_t *at;

    if (kept->from > 0) {
        memmove(kept->at, kept->at + kept->from, kept->len);
        kept->from = 0;
    }
    if (kept->len == kept->size || (kept->size < size / 2 && kept->size < t->want)) {
        if (t->want > kept->len && size > t->want)
            size = t->want;
        at = mem_try_resize(kept->at, size);
        if (at == NULL)
            return NULL;
        kept->at = at;
        kept->size = size;
    }
    *out_room = kept->size - kept->len;
    return kept->at + kept->len;
}

static void
on_read_end(struct transport *t, int error)
{
    if (t->tls != NULL && t->tls->state == TLS_FAILED && t->state == OPEN) {
        tls_failed(t);
    } else if (error == EAGAIN || error == EWOULDBLOCK) {
        if (t->write_errno != 0) /* nothing is left, and nothing will come */
            end(t, strerror(t->write_errno));
    } else if (error != 0) {
        end(t, strerror(error));
    } else if (t->state == FINISHING) { /* he may read on, though he sends no more */
        t->has_ended = true;
        reading(t, false);
    } else if (t->state == LINGERING) {
        end(t, "finished");
    } else if (t->write_errno != 0 && t->write_errno != EPIPE) {
        end(t, strerror(t->write_errno));
    } else {
        end(t, t->tls != NULL ? tls_session_why(t->tls) : "peer closed");
    }
}

/* What the socket says of its being readable is not the whole truth under TLS: octets that have
 * been read wait in the session, or their end does. */
static bool
may_have_more(const struct transport *t, size_t got, size_t room)
{
    return got == room ||
           (t->tls != NULL && t->state == OPEN && (t->tls->state != TLS_OPEN || t->tls->has_ended));
}

/* The octets that came; 0: no more now, or never. */
static size_t
read_once(struct transport *t)
{
    bool to_own;
    size_t room;
    uint8_t *at;
    ssize_t n;

    if (t->state != OPEN)
        drop_kept(t);
    to_own = t->state == OPEN && (t->kept.len > KEPT_SHARED_MAX || t->want > KEPT_SHARED_MAX);
    at = to_own ? own_room(t, &room) : shared_room(t, &room);
    n = at != NULL ? sock_read(t, at, room) : -1;
    if (n <= 0) {
        on_read_end(t, n == 0 ? 0 : at == NULL ? ENOMEM : errno);
        return 0;
    }
    t->bytes_in += (uint64_t)n;
    t->last_in_ms = worker_now_ms(t->worker);
    if (to_own) {
        t->kept.len += (size_t)n;
        hand_up_kept(t);
    } else if (t->state == OPEN) {
        hand_up_shared(t, t->kept.len + (size_t)n);
    }
    return may_have_more(t, (size_t)n, room) ? (size_t)n : 0; /* less: the socket is empty */
}

static bool
may_read(const struct transport *t)
{
    if (t->state == OPEN) /* what is kept goes first, if it is to be handed up again */
        return !t->is_paused && !list_is_linked(&t->again.link);
    return (t->state == FINISHING && !t->has_ended) || t->state == LINGERING;
}

static void
read_on(struct transport *t)
{
    size_t n;

    for (size_t budget = READ_BUDGET; may_read(t); budget -= n) {
        n = read_once(t);
        if (n == 0)
            return;
        if (n >= budget || t->is_slow) {
            if (t->tls != NULL && t->state == OPEN)
                worker_schedule(t->worker, WORKER_AGAIN, &t->again);
            return;
        }
    }
}

/* In SECURING: has it wait for its step of the handshake. */
static void
queue_handshake(struct transport *t)
{
    struct worker *worker = t->worker;

    reading(t, false);
    list_append(&worker->handshakes, &t->tls->waiting);
    worker_schedule(worker, WORKER_AGAIN, &worker->handshake);
}

/* --- the PROXY header -------------------------------------------------------------------- */

static void
set_peer(struct transport *t, const struct sockaddr_storage *address)
{
    char text[ADDRESS_SIZE];

    address_print(address, text);
    free(t->peer);
    t->peer = view_dup(view_str(text));
    t->is_loopback = t->is_loopback && address_is_loopback(address);
}

static bool
has_hung_up(const struct transport *t)
{
    struct pollfd ends = {.fd = t->fd, .events = POLLRDHUP};

    return poll(&ends, 1, 0) == 1 && (ends.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* The header is looked at where it stands, in the socket, and taken out when it is whole: what is
 * behind it is for TLS. Until then the socket is to be readable only when more of it is there. */
static void
await_more_of_proxy(struct transport *t, size_t size)
{
    int least = (int)size;

    if (has_hung_up(t))
        end(t, "peer closed");
    else
        setsockopt(t->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least));
}

static bool
take_proxy(struct transport *t, const struct proxy_header *header, size_t size)
{
    uint8_t octets[PROXY_MAX];
    int least = 1;

    if (recv(t->fd, octets, size, 0) != (ssize_t)size) {
        end(t, "peer closed");
        return false;
    }
    setsockopt(t->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least));
    t->awaits_proxy = false;
    if (header->has_peer)
        set_peer(t, &header->peer);
    return true;
}

/* Whether it is there, and done with. */
static bool
read_proxy(struct transport *t)
{
    struct proxy_header header;
    uint8_t octets[PROXY_MAX];
    size_t size = 0;
    ssize_t n = recv(t->fd, octets, sizeof(octets), MSG_PEEK);

    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            end(t, n == 0 ? "peer closed" : strerror(errno));
        return false;
    }
    switch (proxy_parse(view_of(octets, (size_t)n), &header, &size)) {
    case PROXY_PARTIAL:
        await_more_of_proxy(t, size);
        return false;
    case PROXY_BAD:
        t->has_bad_proxy = true;
        end(t, header.why);
        return false;
    case PROXY_READY:
        break;
    }
    return take_proxy(t, &header, size);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct transport *t = arg;

    (void)fd;
    (void)what;
    worker_enter(t->worker);
    if (t->awaits_proxy && t->state <= OPEN && !read_proxy(t))
        return;
    if (t->state == SECURING)
        queue_handshake(t);
    else if (t->state == OPEN && t->is_paused) /* only now: most pauses are shorter than that */
        reading(t, false);
    else
        read_on(t);
}

/* The socket takes no more. What came before its end is handed up first, unless nobody reads. */
static void
read_to_the_end(struct transport *t)
{
    if (t->state != OPEN || t->is_paused) {
        end(t, strerror(t->write_errno));
        return;
    }
    if (t->kept.len > 0)
        hand_up_kept(t);
    read_on(t);
    if (t->state < GONE)
        worker_schedule(t->worker, WORKER_AGAIN, &t->again);
}

static void
on_again(void *arg)
{
    struct transport *t = arg;

    if (t->owes_drained && t->state == OPEN) {
        t->owes_drained = false;
        t->ops->drained(t->arg);
        if (t->state >= GONE)
            return;
    }
    if (t->write_errno != 0)
        read_to_the_end(t);
    else if (t->state == LINGERING && t->has_ended)
        end(t, "finished");
    else if (t->state == OPEN && !t->is_paused && t->kept.len > 0)
        hand_up_kept(t);
    if (t->state == OPEN && t->tls != NULL && tls_session_has_more(t->tls))
        read_on(t);
}

/* --- the handshake ------------------------------------------------------------------------ */

static void
step_handshake(struct transport *t)
{
    bool is_alive = tls_session_handshake(t->tls);

    if (!is_alive) {
        end(t, tls_session_why(t->tls));
        return;
    }
    flush_tls(t);
    if (t->tls->state == TLS_FAILED) {
        tls_failed(t);
        return;
    }
    reading(t, true);
    if (t->tls->state == TLS_OPEN) {
        leave_handshake(t);
        enter(t, OPEN);
        worker_schedule(t->worker, WORKER_AGAIN, &t->again); /* octets may have come behind it */
        worker_schedule(t->worker, WORKER_FLUSH, &t->flush);
    }
}

static void
on_handshakes(void *arg)
{
    struct worker *worker = arg;
    uint64_t until = clock_now_us() + HANDSHAKE_BUDGET_US;
    struct list *link;

    while ((link = list_take_first(&worker->handshakes)) != NULL) {
        step_handshake(container_of(link, struct tls_session, waiting)->transport);
        if (clock_now_us() >= until)
            break;
    }
    if (!list_is_empty(&worker->handshakes))
        worker_schedule(worker, WORKER_AGAIN, &worker->handshake);
}

static void
on_handshake_late(void *arg)
{
    struct transport *t = arg;

    end(t, t->tls->state == TLS_AWAIT_HELLO ? "no TLS handshake in time"
                                            : "TLS handshake not finished in time");
}

/* --- output ------------------------------------------------------------------------------ */

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct transport *t = arg;

    (void)fd;
    (void)what;
    worker_enter(t->worker);
    worker_schedule(t->worker, WORKER_FLUSH, &t->flush); /* after the mail of this turn */
}

static void
write_failed(struct transport *t, int error)
{
    t->write_errno = error;
    writing(t, false);
    output_drop(&t->out);
    if (t->tls != NULL)
        output_drop(&t->tls->cipher);
    worker_schedule(t->worker, WORKER_AGAIN, &t->again);
}

/* What the socket gets. */
static struct output *
wire(struct transport *t)
{
    return t->tls != NULL ? tls_session_wire(t->tls, &t->out) : &t->out;
}

/* The octets that went; 0: the socket is full, or has failed. */
static size_t
write_once(struct transport *t)
{
    struct iovec iov[WRITE_IOV];
    struct output *from = wire(t);
    int count = output_gather(from, iov, WRITE_IOV);
    size_t asked = 0;
    ssize_t n;

    for (int i = 0; i < count; i++)
        asked += iov[i].iov_len;
    n = sock_writev(t, iov, count);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            writing(t, true);
        else
            write_failed(t, errno);
        return 0;
    }
    t->bytes_out += (uint64_t)n;
    t->last_out_ms = worker_now_ms(t->worker);
    output_advance(from, (size_t)n);
    if ((size_t)n == asked)
        return asked;
    writing(t, true);
    return 0;
}

/* Sees to it that the wire has what there is to send, if anything. */
static void
seal(struct transport *t)
{
    if (t->tls == NULL || t->tls->state != TLS_OPEN)
        return;
    if (!tls_session_seal(t->tls, &t->out))
        tls_failed(t);
    else if (t->state == FINISHING && output_pending(&t->out) == 0)
        tls_session_say_end(t->tls);
}

static bool
has_output(const struct transport *t)
{
    return output_pending(&t->out) > 0 || (t->tls != NULL && output_pending(&t->tls->cipher) > 0);
}

static void
write_out(struct transport *t)
{
    size_t budget = t->tls != NULL ? SEALED_WRITE_BUDGET : WRITE_BUDGET;

    for (seal(t); output_pending(wire(t)) > 0; seal(t)) {
        size_t n = write_once(t);

        if (n == 0)
            return;
        if (n >= budget) {
            if (has_output(t))
                worker_schedule(t->worker, WORKER_FLUSH, &t->flush); /* next turn */
            return;
        }
        budget -= n;
    }
}

static bool
may_write(const struct transport *t)
{
    return t->state <= FINISHING && t->write_errno == 0;
}

/* Octets that could never be encrypted are not taken. */
static bool
takes_output(const struct transport *t)
{
    return may_write(t) && (t->tls == NULL || t->tls->state == TLS_OPEN || t->state == SECURING);
}

static void
on_flush(void *arg)
{
    struct transport *t = arg;

    if (!may_write(t))
        return;
    t->was_full = t->was_full || transport_is_full(t);
    write_out(t);
    if (t->write_errno != 0)
        return;
    if (t->was_full && output_pending(&t->out) < TRANSPORT_LOW) {
        t->was_full = false;
        t->owes_drained = true;
        worker_schedule(t->worker, WORKER_AGAIN, &t->again);
    }
    if (output_pending(wire(t)) == 0)
        writing(t, false);
    if (t->state == FINISHING && !has_output(t))
        shut(t);
}

/* Sees to it that what is about to be added goes out, or that what was added for nobody does not
 * pile up. While a socket is full, its being writable brings the flush. */
static void
prepare_output(struct transport *t)
{
    assert(worker_is_here(t->worker));
    if (!takes_output(t))
        output_drop(&t->out);
    else if (!t->is_writing)
        worker_schedule(t->worker, WORKER_FLUSH, &t->flush);
}

uint8_t *
transport_make_room(struct transport *t, size_t n)
{
    prepare_output(t);
    output_make_room(&t->out, n);
    return t->out.room.next;
}

void
transport_put_blob(struct transport *t, struct blob *blob, size_t from, size_t len)
{
    assert(from <= blob->len && len <= blob->len - from);
    if (len <= COPY_MAX) {
        transport_put(t, blob->bytes + from, len);
        return;
    }
    prepare_output(t);
    if (takes_output(t))
        output_put_blob(&t->out, blob, from, len);
}

/* --- the owner's verbs ------------------------------------------------------------------- */

static void
name_ends(struct transport *t)
{
    struct sockaddr_storage address = {0};
    char text[ADDRESS_SIZE];
    socklen_t len = sizeof(address);

    if (getpeername(t->fd, (struct sockaddr *)&address, &len) != 0)
        address = (struct sockaddr_storage){.ss_family = AF_UNSPEC}; /* it has gone already */
    address_print(&address, text);
    t->peer = view_dup(view_str(text));
    t->is_loopback = address.ss_family != AF_UNSPEC && address_is_loopback(&address);
    len = sizeof(address);
    address = (struct sockaddr_storage){0};
    if (getsockname(t->fd, (struct sockaddr *)&address, &len) != 0)
        address = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    address_print(&address, text);
    t->local = view_dup(view_str(text));
}

static struct transport *
make(struct worker *worker, int fd, const struct transport_ops *ops, void *arg)
{
    struct transport *t = mem_new(struct transport);
    int on = 1;

    assert(worker_is_here(worker));
    output_init(&t->out, &worker->chunks);
    t->worker = worker;
    t->ops = ops;
    t->arg = arg;
    t->fd = fd;
    t->again = (struct worker_task){.run = on_again, .arg = t};
    t->flush = (struct worker_task){.run = on_flush, .arg = t};
    t->linger = (struct worker_timer){.fire = on_linger_timer, .arg = t};
    t->last_in_ms = t->last_out_ms = worker_now_ms(worker);
    name_ends(t);
    /* Where there are no heartbeats. Whether it can be set makes no difference to us. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    event_assign(&t->readable, worker->base, fd, EV_READ | EV_PERSIST, on_readable, t);
    event_assign(&t->writable, worker->base, fd, EV_WRITE | EV_PERSIST, on_writable, t);
    reading(t, true);
    return t;
}

struct transport *
transport_new(struct worker *worker, int fd, const struct transport_ops *ops, void *arg)
{
    struct transport *t = make(worker, fd, ops, arg);

    enter(t, OPEN);
    return t;
}

struct transport *
transport_new_tls(struct worker *worker, int fd, struct tls_context *context,
                  const struct transport_ops *ops, void *arg)
{
    struct transport *t = make(worker, fd, ops, arg);

    t->tls = tls_session_new(context, fd, &worker->chunks);
    t->tls->transport = t;
    t->tls->deadline = (struct worker_timer){.fire = on_handshake_late, .arg = t};
    if (worker->handshake.run == NULL)
        worker->handshake = (struct worker_task){.run = on_handshakes, .arg = worker};
    worker_timer_set(worker, &t->tls->deadline, tls_context_handshake_timeout_ms(context));
    return t;
}

void
transport_await_proxy(struct transport *t)
{
    assert(worker_is_here(t->worker) && t->bytes_in == 0);
    t->awaits_proxy = true;
}

bool
transport_has_bad_proxy(const struct transport *t)
{
    return t->has_bad_proxy;
}

const char *
transport_peer(const struct transport *t)
{
    return t->peer;
}

const char *
transport_local(const struct transport *t)
{
    return t->local;
}

bool
transport_peer_is_loopback(const struct transport *t)
{
    return t->is_loopback;
}

void
transport_slow(struct transport *t, bool slow)
{
    t->is_slow = slow;
}

void
transport_pause(struct transport *t)
{
    assert(worker_is_here(t->worker));
    t->is_paused = true;
}

void
transport_resume(struct transport *t)
{
    assert(worker_is_here(t->worker));
    if (!t->is_paused || t->state > OPEN)
        return;
    t->is_paused = false;
    if (t->state < OPEN)
        return;
    reading(t, true);
    worker_schedule(t->worker, WORKER_AGAIN, &t->again);
}

void
transport_again(struct transport *t)
{
    assert(worker_is_here(t->worker));
    if (t->state == OPEN)
        worker_schedule(t->worker, WORKER_AGAIN, &t->again);
}

uint64_t
transport_last_in_ms(const struct transport *t)
{
    return t->last_in_ms;
}

uint64_t
transport_last_out_ms(const struct transport *t)
{
    return t->last_out_ms;
}

uint64_t
transport_bytes_in(const struct transport *t)
{
    return t->tls != NULL ? t->tls->bytes_in : t->bytes_in;
}

uint64_t
transport_bytes_out(const struct transport *t)
{
    return t->bytes_out;
}

/* Sent again and again, or long ago, without an answer. A peer that merely does not read keeps
 * acknowledging, so he is not taken for dead. */
static bool
is_unheard(const struct tcp_info *info)
{
    return info->tcpi_unacked > 0 &&
           (info->tcpi_retransmits >= 2 ||
            (info->tcpi_last_data_sent > UNHEARD_MS && info->tcpi_last_ack_recv > UNHEARD_MS));
}

bool
transport_is_dying(struct transport *t)
{
    struct pollfd ends = {.fd = t->fd, .events = POLLRDHUP};
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    assert(worker_is_here(t->worker));
    if (t->state >= GONE || t->write_errno != 0)
        return true;
    if (poll(&ends, 1, 0) == 1 && (ends.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
        return true;
    if (getsockopt(t->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return false; /* no TCP */
    return info.tcpi_state != TCP_ESTABLISHED || is_unheard(&info);
}

void
transport_finish(struct transport *t)
{
    assert(worker_is_here(t->worker));
    if (t->state > OPEN)
        return;
    if (t->tls != NULL && t->state == SECURING) { /* in vain: nothing can be said to the peer */
        leave_handshake(t);
        output_drop(&t->out);
    }
    begin_to_finish(t);
}

bool
transport_is_tls(const struct transport *t)
{
    return t->tls != NULL;
}

bool
transport_has_failed_tls(const struct transport *t)
{
    return t->tls != NULL && t->tls->state != TLS_OPEN && t->tls->state != TLS_AWAIT_HELLO;
}

void
transport_describe_tls(const struct transport *t, char *out, size_t size)
{
    assert(t->tls != NULL);
    tls_session_describe(t->tls, out, size);
}

bool
transport_peer_name(const struct transport *t, enum tls_name which, unsigned nth, char *out,
                    size_t size)
{
    assert(worker_is_here(t->worker));
    return t->tls != NULL && tls_session_peer_name(t->tls, which, nth, out, size);
}

static void
reap(void *what)
{
    struct transport *t = what;

    output_drop(&t->out); /* what was written in vain since */
    drop_kept(t);
    tls_session_free(t->tls);
    free(t->peer);
    free(t->local);
    free(t);
}

void
transport_close(struct transport *t)
{
    assert(worker_is_here(t->worker));
    if (t->state == CLOSED)
        return;
    enter(t, CLOSED);
    fall_silent(t);
    close(t->fd);
    t->fd = -1;
    worker_reap(t->worker, reap, t);
}
