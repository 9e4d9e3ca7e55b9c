/*
 * Happy path: the first octets make the SSL object; tls_session_handshake steps through the
 * handshake as they come; then read decrypts what the socket has, and seal encrypts what the
 * transport has gathered.
 *
 * What can fail: the peer speaks no TLS, or no version or cipher that we do, or shows a
 * certificate that we refuse; a record is not what its sender made it; the socket fails or ends in
 * the middle. OpenSSL answers with an alert, which stands in the wire when the state is FAILED,
 * and `why` says in words what it was. A stream that ends without close_notify may have been cut
 * by somebody on the way; AMQP has an end of its own, so that is told and nothing more.
 *
 * OpenSSL's errors are in a queue of the thread, which must be empty before each call of it, or
 * the result of the call cannot be known: whoever finds an error there clears it.
 */
#include "tls_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lepus/base/mem.h"
#include "lepus/base/view.h"

enum {
    RECORD_MAX = SSL3_RT_MAX_PLAIN_LENGTH,
    SEAL_AHEAD = 64 * 1024, /* in the wire, and seal does no more: 256 KiB are no faster */
    /* A peer that asks for answers (to new keys, to pleas to renegotiate) and reads none of them
     * gets no further than this. */
    WIRE_MAX = 1 << 20,
    WHY_SIZE = 256,
};

static void
enter(struct tls_session *s, enum tls_state state)
{
    assert(state > s->state);
    s->state = state;
}

/* --- the socket, as OpenSSL sees it ------------------------------------------------------- */

static int
bio_read(BIO *bio, char *at, int n)
{
    struct tls_session *s = BIO_get_data(bio);
    ssize_t got;

    BIO_clear_retry_flags(bio);
    do
        got = recv(s->fd, at, (size_t)n, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        s->bytes_in += (uint64_t)got;
    else if (got == 0)
        s->was_cut = s->has_ended = true;
    else if (errno == EAGAIN || errno == EWOULDBLOCK)
        BIO_set_retry_read(bio);
    else
        s->read_errno = errno;
    return (int)got;
}

static void
append(struct output *to, const char *at, size_t n)
{
    while (n > 0) {
        size_t room = (size_t)(to->room.end - to->room.next);

        if (room <= 1) { /* the last octet of a chunk is never used: see output_make_room */
            output_make_room(to, 1);
            continue;
        }
        if (--room > n)
            room = n;
        memcpy(to->room.next, at, room);
        to->room.next += room;
        at += room;
        n -= room;
    }
}

static int
bio_write(BIO *bio, const char *at, int n)
{
    struct tls_session *s = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (s->is_kernel) {
        int sent = BIO_write(s->socket, at, n);

        BIO_set_flags(bio, BIO_get_retry_flags(s->socket));
        return sent;
    }
    if (output_pending(&s->cipher) > WIRE_MAX)
        return -1;
    append(&s->cipher, at, (size_t)n);
    return n;
}

/* --- the kernel's TLS ---------------------------------------------------------------------
 *
 * OpenSSL asks the BIO for it, with commands that its headers do not show but in a comment; the
 * BIO of sockets knows how. Only sending is handed to the kernel: what we read may hold messages
 * that are no data, which would have to be told apart by hand.
 */
enum { SET_KTLS = 72, SEND_CONTROL_MESSAGE = 74, CLEAR_CONTROL_MESSAGE = 75 };

/* The kernel can take over only behind the last octet that we encrypted. */
static void
send_all(struct tls_session *s)
{
    struct iovec iov[8];

    while (output_pending(&s->cipher) > 0) {
        struct msghdr message = {.msg_iov = iov};
        ssize_t n;

        message.msg_iovlen = (size_t)output_gather(&s->cipher, iov, 8);
        n = sendmsg(s->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* full, and the kernel will not get it; or broken, as will be found out */
        output_advance(&s->cipher, (size_t)n);
    }
}

static long
hand_to_kernel(struct tls_session *s, long is_tx, void *keys)
{
    if (!is_tx || s->is_kernel || output_pending(&s->cipher) > 0)
        return 0;
    s->is_kernel = BIO_ctrl(s->socket, SET_KTLS, is_tx, keys) > 0;
    return s->is_kernel;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    struct tls_session *s = BIO_get_data(bio);

    if (command == BIO_CTRL_FLUSH) {
        if (s->socket != NULL)
            send_all(s);
        return 1;
    }
    if (s->socket == NULL)
        return 0;
    switch (command) {
    case SET_KTLS:
        return hand_to_kernel(s, number, pointer);
    case BIO_CTRL_GET_KTLS_SEND:
        return s->is_kernel;
    case SEND_CONTROL_MESSAGE:
    case CLEAR_CONTROL_MESSAGE:
        return BIO_ctrl(s->socket, command, number, pointer);
    default:
        return 0;
    }
}

BIO_METHOD *
tls_session_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "transport");

    if (method == NULL || BIO_meth_set_read(method, bio_read) != 1 ||
        BIO_meth_set_write(method, bio_write) != 1 || BIO_meth_set_ctrl(method, bio_ctrl) != 1)
        abort();
    return method;
}

/* --- life -------------------------------------------------------------------------------- */

struct tls_session *
tls_session_new(struct tls_context *context, int fd, struct chunk_pool *pool)
{
    struct tls_session *s = mem_new(struct tls_session);

    s->context = tls_context_ref(context);
    s->fd = fd;
    output_init(&s->cipher, pool);
    return s;
}

void
tls_session_free(struct tls_session *s)
{
    if (s == NULL)
        return;
    output_drop(&s->cipher);
    SSL_free(s->ssl); /* with its BIO */
    BIO_free(s->socket);
    tls_context_unref(&s->context);
    free(s->why);
    free(s);
}

static void
make_ssl(struct tls_session *s)
{
    BIO *bio = BIO_new(tls_context_bio(s->context));

    s->ssl = tls_context_new_ssl(s->context);
    if (bio == NULL || s->ssl == NULL)
        abort();
    if (tls_context_may_use_kernel(s->context)) {
        s->socket = BIO_new_socket(s->fd, BIO_NOCLOSE);
        if (s->socket == NULL)
            abort();
    }
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    SSL_set_accept_state(s->ssl);
}

/* --- failing ----------------------------------------------------------------------------- */

static void fail(struct tls_session *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
fail(struct tls_session *s, const char *format, ...)
{
    va_list args;

    enter(s, TLS_FAILED);
    ERR_clear_error();
    s->why = mem_alloc(WHY_SIZE);
    va_start(args, format);
    vsnprintf(s->why, WHY_SIZE, format, args);
    va_end(args);
}

/* A fatal error of OpenSSL, or an alert of the peer's, in words. */
static void
fail_with_reason(struct tls_session *s)
{
    const char *when = s->state == TLS_OPEN ? "TLS" : "TLS handshake";
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    const char *text = ERR_reason_error_string(error);

    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
        fail(s, "%s: the peer refuses: %s", when,
             SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    else if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        fail(s, "%s: the peer's certificate is refused: %s", when,
             X509_verify_cert_error_string(SSL_get_verify_result(s->ssl)));
    else
        fail(s, "%s: %s", when, text != NULL ? text : "failed");
}

/* A call of OpenSSL's did not do what was asked. Sets errno and returns -1, or 0 at the end. */
static ssize_t
judge(struct tls_session *s, int status)
{
    switch (SSL_get_error(s->ssl, status)) {
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN: /* close_notify */
        s->has_ended = true;
        return 0;
    case SSL_ERROR_SYSCALL: /* what bio_read met; or the wire is full of what nobody reads */
        ERR_clear_error();
        if (s->has_ended)
            return 0;
        if (s->read_errno == 0)
            fail(s, "TLS: the peer asks for answers and reads none");
        errno = s->read_errno != 0 ? s->read_errno : EPROTO;
        return -1;
    case SSL_ERROR_WANT_WRITE: /* only where the kernel sends, past our output */
        fail(s, "TLS: the socket is full in the middle of a message");
        break;
    default:
        fail_with_reason(s);
        break;
    }
    errno = EPROTO;
    return -1;
}

const char *
tls_session_why(const struct tls_session *s)
{
    if (s->why != NULL)
        return s->why;
    if (s->read_errno != 0)
        return strerror(s->read_errno);
    if (s->state < TLS_OPEN)
        return s->state == TLS_AWAIT_HELLO ? "peer closed" : "peer closed in the TLS handshake";
    return s->was_cut ? "peer closed, without close_notify" : "peer closed";
}

/* --- the handshake ------------------------------------------------------------------------ */

/* The first octets tell TLS from what people send to the wrong port. */
static bool
look_at_first(struct tls_session *s)
{
    uint8_t first[4];
    ssize_t n;

    do
        n = recv(s->fd, first, sizeof(first), MSG_PEEK);
    while (n < 0 && errno == EINTR);
    if (n == 0) {
        s->was_cut = s->has_ended = true;
        return false;
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return true;
        s->read_errno = errno;
        return false;
    }
    if (first[0] == SSL3_RT_HANDSHAKE) {
        make_ssl(s);
        enter(s, TLS_HANDSHAKE);
    } else {
        fail(s, "TLS handshake: the peer speaks %s",
             view_has_prefix(view_of(first, (size_t)n), VIEW_LIT("AMQP"))   ? "AMQP, without TLS"
             : view_has_prefix(view_of(first, (size_t)n), VIEW_LIT("GET ")) ? "HTTP, without TLS"
                                                                            : "no TLS");
    }
    return true;
}

bool
tls_session_handshake(struct tls_session *s)
{
    int status;

    assert(s->state < TLS_OPEN);
    if (s->state == TLS_AWAIT_HELLO && !look_at_first(s))
        return false;
    if (s->state != TLS_HANDSHAKE)
        return true;
    status = SSL_do_handshake(s->ssl);
    if (status == 1) {
        enter(s, TLS_OPEN);
        return true;
    }
    return judge(s, status) < 0 && (errno == EAGAIN || errno == EPROTO);
}

/* --- octets ------------------------------------------------------------------------------ */

ssize_t
tls_session_read(struct tls_session *s, void *at, size_t n)
{
    size_t done = 0, got;

    assert(s->state >= TLS_OPEN);
    if (s->has_ended)
        return 0;
    if (s->state == TLS_FAILED || s->read_errno != 0) {
        errno = s->state == TLS_FAILED ? EPROTO : s->read_errno;
        return -1;
    }
    while (done < n) {
        int status = SSL_read_ex(s->ssl, (uint8_t *)at + done, n - done, &got);

        if (status == 1) {
            done += got;
            continue;
        }
        if (done > 0 && SSL_get_error(s->ssl, status) == SSL_ERROR_WANT_READ)
            break;
        if (done == 0)
            return judge(s, status);
        judge(s, status); /* the next read tells it */
        break;
    }
    return (ssize_t)done;
}

bool
tls_session_has_more(const struct tls_session *s)
{
    return s->has_ended || s->state == TLS_FAILED || SSL_has_pending(s->ssl) == 1;
}

/* The front of plain in one piece: as it lies there when it is long or alone, else a record's
 * worth put together in scratch. */
static struct view
take_front(const struct output *plain, uint8_t scratch[RECORD_MAX])
{
    struct iovec iov[64];
    int count = output_gather(plain, iov, 64);
    size_t len = 0;

    if (count == 1)
        return view_of(iov[0].iov_base, iov[0].iov_len);
    if (iov[0].iov_len >= RECORD_MAX) /* its rest goes with what follows */
        return view_of(iov[0].iov_base, iov[0].iov_len - iov[0].iov_len % RECORD_MAX);
    for (int i = 0; i < count && len < RECORD_MAX; i++) {
        size_t n = iov[i].iov_len < RECORD_MAX - len ? iov[i].iov_len : RECORD_MAX - len;

        memcpy(scratch + len, iov[i].iov_base, n);
        len += n;
    }
    return view_of(scratch, len);
}

bool
tls_session_seal(struct tls_session *s, struct output *plain)
{
    uint8_t scratch[RECORD_MAX];

    assert(s->state == TLS_OPEN);
    if (s->is_kernel)
        return true;
    while (output_pending(plain) > 0 && output_pending(&s->cipher) < SEAL_AHEAD) {
        struct view front = take_front(plain, scratch);
        size_t n = front.len < SEAL_AHEAD ? front.len : SEAL_AHEAD, done;
        int status = SSL_write_ex(s->ssl, front.at, n, &done);

        if (status != 1) {
            judge(s, status);
            if (s->state != TLS_FAILED)
                fail(s, "TLS: cannot send");
            return false;
        }
        output_advance(plain, done);
    }
    return true;
}

bool
tls_session_say_end(struct tls_session *s)
{
    if (s->has_said_end || s->state != TLS_OPEN)
        return false;
    s->has_said_end = true;
    SSL_shutdown(s->ssl);
    ERR_clear_error();
    return output_pending(&s->cipher) > 0;
}

/* --- who it is --------------------------------------------------------------------------- */

/* A name that is text and nothing else: one with a zero in it might be taken for another. */
static bool
print_string(const ASN1_STRING *string, char *out, size_t size)
{
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, string);
    bool is_good = n > 0 && (size_t)n < size && memchr(text, 0, (size_t)n) == NULL;

    if (is_good) {
        memcpy(out, text, (size_t)n);
        out[n] = '\0';
    }
    if (n >= 0)
        OPENSSL_free(text);
    else
        ERR_clear_error();
    return is_good;
}

static bool
print_common(X509 *certificate, char *out, size_t size)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    size_t len = 0;

    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        if (len > 0 && len + 1 < size)
            out[len++] = ',';
        if (!print_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out + len,
                          size - len))
            return false;
        len += strlen(out + len);
    }
    return len > 0;
}

static bool
print_distinguished(X509 *certificate, char *out, size_t size)
{
    BIO *to = BIO_new(BIO_s_mem());
    char *text;
    long n;
    bool is_good;

    if (to == NULL)
        abort();
    X509_NAME_print_ex(to, X509_get_subject_name(certificate), 0,
                       XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
    n = BIO_get_mem_data(to, &text);
    is_good = n > 0 && (size_t)n < size && memchr(text, 0, (size_t)n) == NULL;
    if (is_good) {
        memcpy(out, text, (size_t)n);
        out[n] = '\0';
    }
    BIO_free(to);
    return is_good;
}

static bool
print_alternative(X509 *certificate, int type, unsigned nth, char *out, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int n = names != NULL ? sk_GENERAL_NAME_num(names) : 0;
    bool is_good = false;

    for (int i = 0; i < n; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == type && nth-- == 0) {
            is_good = print_string(name->d.ia5, out, size);
            break;
        }
    }
    GENERAL_NAMES_free(names);
    return is_good;
}

bool
tls_session_peer_name(const struct tls_session *s, enum tls_name which, unsigned nth, char *out,
                      size_t size)
{
    X509 *certificate = s->state == TLS_OPEN ? SSL_get0_peer_certificate(s->ssl) : NULL;

    if (certificate == NULL || SSL_get_verify_result(s->ssl) != X509_V_OK)
        return false;
    switch (which) {
    case TLS_NAME_COMMON:
        return print_common(certificate, out, size);
    case TLS_NAME_DISTINGUISHED:
        return print_distinguished(certificate, out, size);
    case TLS_NAME_DNS:
        return print_alternative(certificate, GEN_DNS, nth, out, size);
    case TLS_NAME_EMAIL:
        return print_alternative(certificate, GEN_EMAIL, nth, out, size);
    }
    return false;
}

void
tls_session_describe(const struct tls_session *s, char *out, size_t size)
{
    char name[256];
    bool has_name = tls_session_peer_name(s, TLS_NAME_DISTINGUISHED, 0, name, sizeof(name));

    if (s->ssl == NULL)
        snprintf(out, size, "no TLS yet");
    else
        snprintf(out, size, "%s %s%s%s%s%s", SSL_get_version(s->ssl), SSL_get_cipher_name(s->ssl),
                 SSL_session_reused(s->ssl) ? ", resumed" : "",
                 s->is_kernel ? ", by the kernel" : "", has_name ? ", peer " : "",
                 has_name ? name : "");
}
