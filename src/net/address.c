#include "address_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "lepus/base/banned.h"

/* The address without its mapping into IPv6. */
static struct sockaddr_storage
unmap(const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *in6 = (const void *)address;
    struct sockaddr_storage plain = *address;
    struct sockaddr_in *in = (void *)&plain;

    if (address->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return plain;
    memset(&plain, 0, sizeof(plain));
    in->sin_family = AF_INET;
    in->sin_port = in6->sin6_port;
    memcpy(&in->sin_addr, in6->sin6_addr.s6_addr + 12, 4);
    return plain;
}

void
address_print(const struct sockaddr_storage *address, char out[ADDRESS_SIZE])
{
    struct sockaddr_storage plain = unmap(address);
    const struct sockaddr_in *in = (const void *)&plain;
    const struct sockaddr_in6 *in6 = (const void *)&plain;
    char host[INET6_ADDRSTRLEN] = "";

    if (plain.ss_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(out, ADDRESS_SIZE, "%s:%u", host, ntohs(in->sin_port));
    } else if (plain.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(out, ADDRESS_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        snprintf(out, ADDRESS_SIZE, "local");
    }
}

bool
address_is_loopback(const struct sockaddr_storage *address)
{
    struct sockaddr_storage plain = unmap(address);
    const struct sockaddr_in *in = (const void *)&plain;
    const struct sockaddr_in6 *in6 = (const void *)&plain;

    if (plain.ss_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    if (plain.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    return true;
}
