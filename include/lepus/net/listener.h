/*
 * listener: a listening socket on one worker, which hands accepted sockets to all in turn.
 *
 * One worker accepts and deals the sockets out round-robin, rather than one SO_REUSEPORT listener
 * a worker: the kernel's hash puts few connections unevenly, and few busy connections are the
 * common case.
 *
 * When descriptors run out (EMFILE) the listener keeps one in reserve to accept and close with,
 * logs it once a minute, and does not spin.
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
 * address ("::" and "0.0.0.0" too); port 0: the kernel chooses. False with the reason ("bind
 * 127.0.0.1:5672: Address already in use"). */
struct listener *listener_new(struct worker *worker, const char *host, unsigned port, int backlog,
                              listener_accept_fn *accept, void *arg, struct err *err);

const char *listener_address(const struct listener *listener); /* "127.0.0.1:41234", as bound */

/* On its worker, or when the workers have stopped. */
void listener_free(struct listener *listener);

#endif
