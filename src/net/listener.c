#include "lepus/net/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address_priv.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "worker_priv.h"

enum {
    ACCEPTS_PER_TURN = 64,
    REST_MS = 100, /* when not even the reserve helps */
    COMPLAIN_MS = 60 * 1000,
};

struct listener {
    struct worker *worker;
    int fd;
    int reserve; /* a descriptor to give up when there are no more; -1: it could not be had back */
    listener_accept_fn *accept;
    void *arg;
    struct event readable;
    struct worker_timer rest;
    uint64_t complain_at_ms;
    char address[ADDRESS_SIZE];
};

static int
open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* --- accepting --------------------------------------------------------------------------- */

static void
complain(struct listener *listener, int error, const char *what)
{
    uint64_t now = worker_now_ms(listener->worker);

    if (now < listener->complain_at_ms)
        return;
    listener->complain_at_ms = now + COMPLAIN_MS;
    log_error(NULL, "accept on %s: %s: %s", listener->address, strerror(error), what);
}

static void
on_rest_over(void *arg)
{
    struct listener *listener = arg;

    if (event_add(&listener->readable, NULL) != 0)
        worker_timer_set(listener->worker, &listener->rest, REST_MS);
}

static void
take_rest(struct listener *listener, int error)
{
    complain(listener, error, "accepting no connections for a moment");
    event_del(&listener->readable);
    worker_timer_set(listener->worker, &listener->rest, REST_MS);
}

/* Out of descriptors. True when the reserve is there again. */
static bool
turn_away(struct listener *listener, int error)
{
    int fd;

    if (listener->reserve < 0)
        listener->reserve = open_reserve();
    if (listener->reserve < 0)
        return false;
    complain(listener, error, "turning connections away");
    close(listener->reserve);
    fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    listener->reserve = open_reserve();
    return listener->reserve >= 0;
}

/* False: nobody is waiting, or none can be let in now. */
static bool
accept_one(struct listener *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int on = 1;

    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        listener->accept(listener->arg, fd);
        return true;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return false;
    if (errno == EMFILE || errno == ENFILE) {
        int error = errno;

        if (turn_away(listener, error))
            return true;
        take_rest(listener, error);
        return false;
    }
    if (errno == ENOMEM || errno == ENOBUFS) {
        take_rest(listener, errno);
        return false;
    }
    return true; /* EINTR, or an error of the connection that was about to be accepted */
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;

    (void)fd;
    (void)what;
    worker_enter(listener->worker);
    for (int i = 0; i < ACCEPTS_PER_TURN; i++)
        if (!accept_one(listener))
            return;
}

/* --- binding ----------------------------------------------------------------------------- */

/* A bound and listening socket, or -1 with *out_step and errno. */
static int
open_socket(const struct addrinfo *info, int backlog, const char **out_step)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0, error;

    *out_step = "socket";
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    *out_step = "bind";
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0) {
        *out_step = "listen";
        if (listen(fd, backlog) == 0)
            return fd;
    }
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* The first of the name's addresses that can be had. */
static int
bind_name(const char *host, unsigned port, int backlog, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    const char *colon_open = strchr(host, ':') != NULL ? "[" : "";
    const char *colon_close = *colon_open != '\0' ? "]" : "";
    struct addrinfo *all;
    const char *step;
    char service[8];
    int fd = -1, rc;

    snprintf(service, sizeof(service), "%u", port);
    rc = getaddrinfo(host, service, &hints, &all);
    if (rc != 0) {
        err_set(err, INTERNAL_ERROR, "look up '%s': %s", host, gai_strerror(rc));
        return -1;
    }
    for (struct addrinfo *at = all; at != NULL && fd < 0; at = at->ai_next) {
        fd = open_socket(at, backlog, &step);
        if (fd < 0)
            err_set(err, INTERNAL_ERROR, "%s %s%s%s:%u: %s", step, colon_open, host, colon_close,
                    port, strerror(errno));
    }
    freeaddrinfo(all);
    return fd;
}

struct listener *
listener_new(struct worker *worker, const char *host, unsigned port, int backlog,
             listener_accept_fn *accept, void *arg, struct err *err)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    struct listener *listener;
    int fd;

    assert(worker_is_here(worker));
    fd = bind_name(host, port, backlog, err);
    if (fd < 0)
        return NULL;
    listener = mem_new(struct listener);
    listener->worker = worker;
    listener->fd = fd;
    listener->reserve = open_reserve();
    listener->accept = accept;
    listener->arg = arg;
    listener->rest = (struct worker_timer){.fire = on_rest_over, .arg = listener};
    getsockname(fd, (struct sockaddr *)&address, &len);
    address_print(&address, listener->address);
    event_assign(&listener->readable, worker->base, fd, EV_READ | EV_PERSIST, on_acceptable,
                 listener);
    if (event_add(&listener->readable, NULL) != 0) {
        err_set(err, INTERNAL_ERROR, "listen %s: no place in the event loop", listener->address);
        listener_free(listener);
        return NULL;
    }
    return listener;
}

const char *
listener_address(const struct listener *listener)
{
    return listener->address;
}

void
listener_free(struct listener *listener)
{
    if (listener == NULL)
        return;
    assert(worker_is_here(listener->worker));
    event_del(&listener->readable);
    worker_timer_cancel(&listener->rest);
    close(listener->fd);
    if (listener->reserve >= 0)
        close(listener->reserve);
    free(listener);
}
