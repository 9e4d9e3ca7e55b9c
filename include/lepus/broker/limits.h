/*
 * limits: how many there may be, and how many there are.
 *
 * Of the broker as a whole: sockets, open connections, channels, a vhost's queues, an exchange's
 * bindings, a channel's consumers: settings, 0 for no limit. Of a vhost or a user (connections and
 * queues, connections and channels): as RabbitMQ's vhost-limits and user limits, which definitions
 * bring: -1 for no limit, and 0 means none at all.
 *
 * One for the broker, the topology's; any thread. A connection takes its place when it opens and
 * gives it back when its affairs end: limits_enter and limits_leave, under a mutex, since both are
 * rare. A channel is two atomic steps. What is counted already stays when a limit becomes lower.
 *
 * Vhosts and users are known by name and never forgotten, so that what holds one may keep its
 * pointer: only names of what exists come here. Texts are RabbitMQ's.
 */
#ifndef LEPUS_BROKER_LIMITS_H
#define LEPUS_BROKER_LIMITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"

/* Of the broker; 0: no limit. May change at any time. */
struct limits_settings {
    _Atomic uint32_t sockets;
    _Atomic uint32_t connections;
    _Atomic uint32_t channels;
    _Atomic uint32_t queues_per_vhost;
    _Atomic uint32_t bindings_per_exchange;
    _Atomic uint32_t consumers_per_channel;
    _Atomic uint32_t pending_handshakes; /* of one worker */
};

struct limits;
struct limited; /* a vhost or a user */

struct limits *limits_new(void);
void limits_free(struct limits *limits); /* NULL is fine */

struct limits_settings *limits_settings(struct limits *limits);

/* What definitions say; a second call replaces the first. Numbers below 0: no limit. */
void limits_set_vhost(struct limits *limits, struct view name, int64_t max_connections,
                      int64_t max_queues);
void limits_set_user(struct limits *limits, struct view name, int64_t max_connections,
                     int64_t max_channels);

/* --- sockets --------------------------------------------------------------------------- */

/* Before a socket is given to anybody. False: there are as many as may be. */
bool limits_take_socket(struct limits *limits);
void limits_give_socket(struct limits *limits);

/* --- connections and channels ---------------------------------------------------------- */

struct limits_place {
    struct limited *vhost, *user; /* NULL: has none */
};

/* A connection opens. 530 with the text of the first limit that is reached: of the broker, of the
 * vhost, of the user. */
bool limits_enter(struct limits *limits, struct view vhost, struct view user,
                  struct limits_place *out, struct err *err);
void limits_leave(struct limits *limits, struct limits_place *place); /* without a place: nothing */

/* 530: the user's limit, or the broker's. */
bool limits_open_channel(struct limits *limits, const struct limits_place *place, struct err *err);
void limits_close_channel(struct limits *limits, const struct limits_place *place);

/* --- within the topology --------------------------------------------------------------- */

/* The lower of the vhost's own limit and that of every vhost; below 0: none. */
int64_t limits_queues(struct limits *limits, struct view vhost);

#endif
