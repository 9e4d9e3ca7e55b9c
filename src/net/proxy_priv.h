/*
 * proxy: the header of the PROXY protocol, version 2: who a proxy speaks for.
 *
 *   12 octets   a signature that no other protocol begins with
 *   u8          version 2 << 4 | command: 0 LOCAL (the proxy speaks for itself), 1 PROXY
 *   u8          family << 4 | transport: 0x00 unknown, 0x11 TCP over IPv4, 0x21 over IPv6,
 *               0x31 a Unix socket
 *   u16         how many octets follow
 *   the source's and the destination's address and port, as the family has them
 *   TLVs        u8 type, u16 length, value; type 3 is a CRC-32C of the header
 *
 * Strict: what a proxy for TCP does not send is refused, as are lengths that do not fit and a sum
 * that is wrong; a header is at most PROXY_MAX octets long. What LOCAL carries is passed over.
 */
#ifndef LEPUS_NET_PROXY_PRIV_H
#define LEPUS_NET_PROXY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "lepus/base/view.h"

enum { PROXY_HEAD = 16, PROXY_MAX = 4096 };

enum proxy_result { PROXY_PARTIAL, PROXY_BAD, PROXY_READY };

struct proxy_header {
    bool has_peer; /* else the socket's own address is the peer's */
    struct sockaddr_storage peer, local;
    const char *why; /* of PROXY_BAD: what is wrong */
};

/* *out_size: of READY, the octets of the header; of PARTIAL, how many must be there to go on. */
enum proxy_result proxy_parse(struct view input, struct proxy_header *out, size_t *out_size);

#endif
