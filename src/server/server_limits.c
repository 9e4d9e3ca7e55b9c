/* server_limits: the section "limits", and what the system allows. */
#include <sys/resource.h>

#include "server_priv.h"

#include "lepus/base/log.h"

/* Descriptors that are not for sockets of clients: files of queues and journals, the metadata's,
 * event loops, listeners, and some for whatever an operator does. */
enum { DESCRIPTORS_KEPT = 512 };

void
server_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* what cannot be had is told by the count of sockets */
}

/* At least half of what there is: clients are what it is for. */
static uint32_t
count_sockets(void)
{
    struct rlimit limit;
    rlim_t n;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    n = limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? limit.rlim_cur - DESCRIPTORS_KEPT
                                              : limit.rlim_cur / 2;
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* Each worker's share of those that are not open yet. */
static uint32_t
share_pending(const struct server *server, uint32_t sockets)
{
    uint32_t n = server->config.limits.pending_handshakes;

    if (sockets != 0 && n > sockets / 2)
        n = sockets / 2;
    return n > server->n_workers ? n / server->n_workers : 1;
}

void
server_take_limits(struct server *server)
{
    struct limits_settings *settings = limits_settings(topology_limits(server->topology));
    const struct config *config = &server->config;
    uint32_t allowed = count_sockets(), sockets = config->limits.sockets;

    if (sockets == 0 || (allowed != 0 && sockets > allowed))
        sockets = allowed;
    if (sockets < config->limits.sockets)
        log_warn(NULL, "limits.sockets: %u are all that the limit of descriptors allows", sockets);
    atomic_store(&settings->sockets, sockets);
    atomic_store(&settings->pending_handshakes, share_pending(server, sockets));
    server->memory_limit = server_memory_limit(config);
    server->look_at_disk_ms = 0; /* its limit may be another */
    atomic_store(&settings->connections, config->limits.connections);
    atomic_store(&settings->channels, config->limits.channels);
    atomic_store(&settings->consumers_per_channel, config->limits.consumers_per_channel);
    atomic_store(&settings->queues_per_vhost, config->limits.queues_per_vhost);
    atomic_store(&settings->bindings_per_exchange, config->limits.bindings_per_exchange);
}
