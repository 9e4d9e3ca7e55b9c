/*
 * listener: a listening socket on one worker.
 *
 * One worker accepts, and its owner deals the sockets out to all in turn, rather than one
 * SO_REUSEPORT listener a worker: the kernel's hash puts few connections unevenly, and few busy
 * connections are the common case.
 *
 * The listener keeps one descriptor in reserve. When they run out (EMFILE) it gives that one up to
 * accept and close with, so that a peer is turned away rather than left hanging and the loop does
 * not spin on a socket that stays readable; it logs this once a minute.
 */
#ifndef LEPUS_NET_LISTENER_H
#define LEPUS_NET_LISTENER_H

#include <stdbool.h>

#include "lepus/base/err.h"
#include "lepus/net/worker.h"

struct listener;

/* Called on the listener's worker with a fresh non-blocking, close-on-exec, TCP_NODELAY socket,
 * which the callee takes. */
typedef void listener_accept_fn(void *arg, int fd);

/* Binds and listens; call before the workers start, or on the worker. host: a name or a numeric
 * address; "0.0.0.0" is all of IPv4, "::" all of IPv6 and of IPv4. port 0: the kernel chooses.
 * NULL with the reason ("bind 127.0.0.1:5672: Address already in use"). */
struct listener *listener_new(struct worker *worker, const char *host, unsigned port, int backlog,
                              listener_accept_fn *accept, void *arg, struct err *err);

const char *listener_address(const struct listener *listener); /* "127.0.0.1:41234", as bound */

/* On its worker, or when the workers have stopped. */
void listener_free(struct listener *listener);

#endif
