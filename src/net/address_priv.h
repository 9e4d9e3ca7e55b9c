/*
 * address: socket addresses as people write them: "127.0.0.1:5672", "[::1]:5672". An IPv4 address
 * in IPv6's clothes (::ffff:127.0.0.1) appears as what it is; what is no IP appears as "local".
 */
#ifndef LEPUS_NET_ADDRESS_PRIV_H
#define LEPUS_NET_ADDRESS_PRIV_H

#include <stdbool.h>
#include <sys/socket.h>

enum { ADDRESS_SIZE = 56 }; /* [, 45 of IPv6, ], :, 5 of a port, NUL; rounded up */

void address_print(const struct sockaddr_storage *address, char out[ADDRESS_SIZE]);
bool address_is_loopback(const struct sockaddr_storage *address); /* true for what is no IP */

#endif
