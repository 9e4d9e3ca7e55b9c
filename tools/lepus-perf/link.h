/*
 * link: a non-blocking socket to the broker, plain or TLS.
 *
 * Reads and writes say how far they came; LINK_AGAIN is 0 octets because the kernel would block,
 * LINK_GONE is the end, with link_error telling why.
 */
#ifndef PERF_LINK_H
#define PERF_LINK_H

#include <netdb.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "options.h"

enum { LINK_AGAIN = 0, LINK_GONE = -1 };

/* What all connections share: the resolved address and the TLS settings. */
struct peer {
    struct addrinfo *addresses;     /* owned */
    const struct addrinfo *address; /* the one of them that answered */
    const char *host;
    SSL_CTX *tls; /* NULL: plain */
    bool verifies;
    int send_buffer; /* bytes; 0: as the kernel likes */
};

struct link {
    int fd; /* -1: none */
    SSL *ssl;
    char error[200];
};

/* False with a text on standard error. */
bool peer_init(struct peer *peer, const struct options *options);
void peer_fini(struct peer *peer);

/* Begins to connect; false with link->error filled. */
bool link_open(struct link *link, const struct peer *peer);
void link_close(struct link *link);

/* Call when the socket is readable or writable, until it says LINK_READY. */
enum link_progress { LINK_PENDING, LINK_READY, LINK_FAILED };
enum link_progress link_establish(struct link *link);

ssize_t link_read(struct link *link, void *to, size_t size);
ssize_t link_write(struct link *link, const void *at, size_t size);

/* Octets wait in the TLS layer, of which the socket's readiness says nothing. */
bool link_has_buffered(const struct link *link);

#endif
