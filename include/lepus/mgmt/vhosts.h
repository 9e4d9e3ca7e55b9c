/*
 * vhosts: a vhost's end, which several parts of the broker have to hear of.
 *
 * In this order, so that nobody sees half of it:
 *
 *   1. the topology and the metadata: it cannot be opened or declared in any more, and of its
 *      queues, exchanges and bindings none is found; its permissions, parameters and policies
 *      are gone with it
 *   2. every worker: its connections are sent connection.close 320, "vhost 'v' is deleted", as
 *      RabbitMQ does, and what they hold ends with them
 *   3. its queues' homes: their messages are given up, on the disk, too
 *
 * A vhost of the same name that is made afterwards is another one, and empty.
 */
#ifndef LEPUS_MGMT_VHOSTS_H
#define LEPUS_MGMT_VHOSTS_H

#include "lepus/auth/auth.h"
#include "lepus/broker/topology.h"
#include "lepus/net/worker.h"

struct vhosts {
    struct topology *topology;
    struct worker_set *workers;
    unsigned n_workers;
    struct auth *auth; /* NULL: permissions are not asked for */
};

/* While the workers run, on a thread that is none of them. All three steps are under way when it
 * returns, the last two by mail. out_ticket may be NULL. 404 when there is no such vhost. */
bool vhost_delete(const struct vhosts *vhosts, struct view name, uint64_t *out_ticket,
                  struct err *err);

#endif
