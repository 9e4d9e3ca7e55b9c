/*
 * A PROXY header of arbitrary octets. Nothing may crash or read beyond the input; what is partial
 * asks for more than is there, and goes on to the same answer when the rest comes; what is ready
 * stays so whatever stands behind it.
 */
#include <assert.h>
#include <string.h>

#include "address_priv.h"
#include "proxy_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct proxy_header header, cut;
    char text[ADDRESS_SIZE];
    size_t wanted = 0, less;
    enum proxy_result result = proxy_parse(view_of(at, size), &header, &wanted);

    switch (result) {
    case PROXY_PARTIAL:
        assert(wanted > size && wanted <= PROXY_MAX);
        break;
    case PROXY_BAD:
        assert(header.why != NULL);
        break;
    case PROXY_READY:
        assert(wanted >= PROXY_HEAD && wanted <= size && header.why == NULL);
        assert(proxy_parse(view_of(at, wanted), &cut, &less) == PROXY_READY && less == wanted);
        assert(memcmp(&cut.peer, &header.peer, sizeof(cut.peer)) == 0);
        for (size_t n = 0; n < wanted; n++)
            assert(proxy_parse(view_of(at, n), &cut, &less) == PROXY_PARTIAL && less > n);
        if (header.has_peer)
            address_print(&header.peer, text);
        break;
    }
    return 0;
}
