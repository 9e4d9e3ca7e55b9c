#include "proxy_priv.h"

#include <netinet/in.h>
#include <string.h>

#include "lepus/base/crc32c.h"
#include "lepus/wire/cursor.h"

enum { LOCAL = 0, PROXY = 1 };
enum { UNKNOWN = 0x00, TCP4 = 0x11, TCP6 = 0x21, UNIX = 0x31, UNIX_LEN = 2 * 108 };
enum { TLV_CRC32C = 3 };

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static bool
fail(struct proxy_header *out, const char *why)
{
    out->why = why;
    return false;
}

/* --- addresses ------------------------------------------------------------------------- */

static void
read_tcp4(struct cursor *r, struct proxy_header *out)
{
    struct sockaddr_in *ends[] = {(void *)&out->peer, (void *)&out->local};

    for (int i = 0; i < 2; i++) {
        const uint8_t *at = rd_octets(r, 4);

        ends[i]->sin_family = AF_INET;
        if (at != NULL)
            memcpy(&ends[i]->sin_addr, at, 4);
    }
    for (int i = 0; i < 2; i++)
        ends[i]->sin_port = htons(rd_u16(r));
    out->has_peer = true;
}

static void
read_tcp6(struct cursor *r, struct proxy_header *out)
{
    struct sockaddr_in6 *ends[] = {(void *)&out->peer, (void *)&out->local};

    for (int i = 0; i < 2; i++) {
        const uint8_t *at = rd_octets(r, 16);

        ends[i]->sin6_family = AF_INET6;
        if (at != NULL)
            memcpy(&ends[i]->sin6_addr, at, 16);
    }
    for (int i = 0; i < 2; i++)
        ends[i]->sin6_port = htons(rd_u16(r));
    out->has_peer = true;
}

static bool
read_addresses(struct cursor *r, uint8_t family, struct proxy_header *out)
{
    switch (family) {
    case UNKNOWN:
        break;
    case TCP4:
        read_tcp4(r, out);
        break;
    case TCP6:
        read_tcp6(r, out);
        break;
    case UNIX:
        rd_octets(r, UNIX_LEN); /* a name of the proxy's machine tells nobody here anything */
        break;
    default:
        return fail(out, "PROXY header of a family or transport that is not TCP's");
    }
    return !r->bad || fail(out, "PROXY header too short for its addresses");
}

/* --- TLVs ------------------------------------------------------------------------------ */

/* As if the sum's own octets were zero. */
static uint32_t
sum_without(struct view header, size_t at)
{
    static const uint8_t zeroes[4];
    uint32_t sum = crc32c(0, header.at, at);

    sum = crc32c(sum, zeroes, sizeof(zeroes));
    return crc32c(sum, header.at + at + sizeof(zeroes), header.len - at - sizeof(zeroes));
}

static bool
read_tlvs(struct cursor *r, struct view header, struct proxy_header *out)
{
    while (r->left > 0) {
        uint8_t type = rd_u8(r);
        uint16_t len = rd_u16(r);
        const uint8_t *value = rd_octets(r, len);

        if (r->bad)
            return fail(out, "PROXY header with a TLV that is longer than the header");
        if (type != TLV_CRC32C)
            continue;
        if (len != 4 || sum_without(header, (size_t)(value - header.at)) != be_u32(value))
            return fail(out, "PROXY header with a wrong checksum");
    }
    return true;
}

/* --- the whole ------------------------------------------------------------------------- */

static bool
read_header(struct view header, uint8_t command, uint8_t family, struct proxy_header *out)
{
    struct cursor r = cursor_of(view_of(header.at + PROXY_HEAD, header.len - PROXY_HEAD));

    if (command == LOCAL)
        return true;
    return read_addresses(&r, family, out) && read_tlvs(&r, header, out);
}

/* What can be said of a header of which only so much is there. */
static bool
check_head(struct view input, struct proxy_header *out)
{
    size_t n = input.len < sizeof(signature) ? input.len : sizeof(signature);

    if (n > 0 && memcmp(input.at, signature, n) != 0)
        return fail(out, "no PROXY header");
    if (input.len > 12 && input.at[12] >> 4 != 2)
        return fail(out, "PROXY header of a version that is not 2");
    if (input.len > 12 && (input.at[12] & 15) > PROXY)
        return fail(out, "PROXY header with an unknown command");
    return true;
}

enum proxy_result
proxy_parse(struct view input, struct proxy_header *out, size_t *out_size)
{
    size_t size = PROXY_HEAD;

    *out = (struct proxy_header){0};
    if (!check_head(input, out))
        return PROXY_BAD;
    if (input.len >= PROXY_HEAD)
        size += be_u16(input.at + 14);
    if (size > PROXY_MAX) {
        out->why = "PROXY header too long";
        return PROXY_BAD;
    }
    *out_size = size;
    if (input.len < size)
        return PROXY_PARTIAL;
    return read_header(view_of(input.at, size), input.at[12] & 15, input.at[13], out) ? PROXY_READY
                                                                                      : PROXY_BAD;
}
