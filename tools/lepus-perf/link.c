#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FEW_CONNECTIONS = 8, SEND_BUFFERS = 32 * 1024 * 1024, SEND_BUFFER_MIN = 16 * 1024 };

/* The oldest of OpenSSL's reasons, which is the one that says most. */
static void
note_tls(struct link *link, const char *doing)
{
    char text[160] = "closed by the peer";
    unsigned long code = ERR_get_error();
    long verified = link->ssl != NULL ? SSL_get_verify_result(link->ssl) : X509_V_OK;

    if (verified != X509_V_OK)
        snprintf(text, sizeof(text), "%s", X509_verify_cert_error_string(verified));
    else if (code != 0)
        ERR_error_string_n(code, text, sizeof(text));
    snprintf(link->error, sizeof(link->error), "TLS %s: %s", doing, text);
    ERR_clear_error();
}

static bool
complain(const char *what)
{
    char text[160];

    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    fprintf(stderr, "lepus-perf: %s: %s\n", what, text);
    return false;
}

static bool
init_tls(struct peer *peer, const struct options *o)
{
    peer->tls = SSL_CTX_new(TLS_client_method());
    if (peer->tls == NULL)
        return complain("TLS");
    SSL_CTX_set_mode(peer->tls,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(peer->tls, 1);
    peer->verifies = o->ca != NULL;
    if (o->ca != NULL && SSL_CTX_load_verify_locations(peer->tls, o->ca, NULL) != 1)
        return complain(o->ca);
    SSL_CTX_set_verify(peer->tls, peer->verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (o->cert != NULL && SSL_CTX_use_certificate_chain_file(peer->tls, o->cert) != 1)
        return complain(o->cert);
    if (o->key != NULL && SSL_CTX_use_PrivateKey_file(peer->tls, o->key, SSL_FILETYPE_PEM) != 1)
        return complain(o->key);
    return true;
}

/* The kernel would take megabytes from each of a thousand producers before it says stop: messages
 * that are published for us, and wait where neither we nor the broker see them. */
static int
send_buffer_for(const struct options *o)
{
    uint64_t connections = (o->producers + o->per_connection - 1) / o->per_connection, size;

    if (connections <= FEW_CONNECTIONS)
        return 0;
    size = SEND_BUFFERS / connections;
    return (int)(size < SEND_BUFFER_MIN ? SEND_BUFFER_MIN : size);
}

/* Of a name with several addresses (localhost: ::1 and 127.0.0.1) the first where somebody listens;
 * the first of all when nobody does, for its error. */
static const struct addrinfo *
choose_address(const struct addrinfo *all)
{
    for (const struct addrinfo *at = all; at != NULL && all->ai_next != NULL; at = at->ai_next) {
        int fd = socket(at->ai_family, SOCK_STREAM, 0);
        bool is_there = fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) == 0;

        if (fd >= 0)
            close(fd);
        if (is_there)
            return at;
    }
    return all;
}

bool
peer_init(struct peer *peer, const struct options *o)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int status = getaddrinfo(o->url.host, o->url.port, &hints, &peer->addresses);

    peer->host = o->url.host;
    peer->send_buffer = send_buffer_for(o);
    if (status != 0) {
        fprintf(stderr, "lepus-perf: %s:%s: %s\n", o->url.host, o->url.port, gai_strerror(status));
        peer->addresses = NULL;
        return false;
    }
    peer->address = choose_address(peer->addresses);
    return !o->url.is_tls || init_tls(peer, o);
}

void
peer_fini(struct peer *peer)
{
    if (peer->addresses != NULL)
        freeaddrinfo(peer->addresses);
    SSL_CTX_free(peer->tls);
}

static bool
note_errno(struct link *link, const char *doing)
{
    char text[100];

    snprintf(link->error, sizeof(link->error), "%s: %s", doing,
             strerror_r(errno, text, sizeof(text)));
    return false;
}

/* The server's name or, where that is an address, the address must stand in the certificate. */
static void
expect_name(struct link *link, const struct peer *peer)
{
    struct in6_addr address;

    SSL_set_tlsext_host_name(link->ssl, peer->host);
    if (!peer->verifies)
        return;
    if (inet_pton(AF_INET, peer->host, &address) == 1 ||
        inet_pton(AF_INET6, peer->host, &address) == 1)
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link->ssl), peer->host);
    else
        SSL_set1_host(link->ssl, peer->host);
}

bool
link_open(struct link *link, const struct peer *peer)
{
    const struct addrinfo *to = peer->address;
    int on = 1;

    link->ssl = NULL;
    link->fd = socket(to->ai_family, SOCK_STREAM, 0);
    if (link->fd < 0)
        return note_errno(link, "socket");
    fcntl(link->fd, F_SETFD, FD_CLOEXEC);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (peer->send_buffer > 0)
        setsockopt(link->fd, SOL_SOCKET, SO_SNDBUF, &peer->send_buffer, sizeof(int));
    if (connect(link->fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS)
        return note_errno(link, "connect");
    if (peer->tls == NULL)
        return true;
    link->ssl = SSL_new(peer->tls);
    if (link->ssl == NULL || SSL_set_fd(link->ssl, link->fd) != 1) {
        note_tls(link, "setup");
        return false;
    }
    SSL_set_connect_state(link->ssl);
    expect_name(link, peer);
    return true;
}

void
link_close(struct link *link)
{
    SSL_free(link->ssl);
    link->ssl = NULL;
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

enum link_progress
link_establish(struct link *link)
{
    struct sockaddr_storage to;
    socklen_t size = sizeof(to);
    int error = 0, status;
    socklen_t error_size = sizeof(error);

    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
    if (error != 0) {
        errno = error;
        note_errno(link, "connect");
        return LINK_FAILED;
    }
    if (getpeername(link->fd, (struct sockaddr *)&to, &size) != 0)
        return LINK_PENDING;
    if (link->ssl == NULL)
        return LINK_READY;
    ERR_clear_error();
    status = SSL_do_handshake(link->ssl);
    if (status == 1)
        return LINK_READY;
    status = SSL_get_error(link->ssl, status);
    if (status == SSL_ERROR_WANT_READ || status == SSL_ERROR_WANT_WRITE)
        return LINK_PENDING;
    note_tls(link, "handshake");
    return LINK_FAILED;
}

static ssize_t
judge_tls(struct link *link, int status, const char *doing)
{
    int error = SSL_get_error(link->ssl, status);

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return LINK_AGAIN;
    note_tls(link, doing);
    return LINK_GONE;
}

static ssize_t
judge_plain(struct link *link, const char *doing)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return LINK_AGAIN;
    note_errno(link, doing);
    return LINK_GONE;
}

/* TLS hands out a record at a time: gather them, so that a turn is worth its while. */
static ssize_t
read_tls(struct link *link, uint8_t *to, size_t size)
{
    size_t got = 0;

    while (got < size) {
        size_t left = size - got;
        int n;

        ERR_clear_error();
        n = SSL_read(link->ssl, to + got, left > INT_MAX ? INT_MAX : (int)left);
        if (n <= 0)
            return got > 0 ? (ssize_t)got : judge_tls(link, n, "read");
        got += (size_t)n;
    }
    return (ssize_t)got;
}

ssize_t
link_read(struct link *link, void *to, size_t size)
{
    ssize_t n;

    if (link->ssl != NULL)
        return read_tls(link, to, size);
    n = recv(link->fd, to, size, 0);
    if (n > 0)
        return n;
    if (n < 0)
        return judge_plain(link, "read");
    snprintf(link->error, sizeof(link->error), "the broker closed the socket");
    return LINK_GONE;
}

ssize_t
link_write(struct link *link, const void *at, size_t size)
{
    ssize_t n;

    if (link->ssl != NULL) {
        int status;

        ERR_clear_error();
        status = SSL_write(link->ssl, at, size > INT_MAX ? INT_MAX : (int)size);
        return status > 0 ? status : judge_tls(link, status, "write");
    }
    n = send(link->fd, at, size, MSG_NOSIGNAL);
    return n >= 0 ? n : judge_plain(link, "write");
}

bool
link_has_buffered(const struct link *link)
{
    return link->ssl != NULL && SSL_has_pending(link->ssl) == 1;
}
