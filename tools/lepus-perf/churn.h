/*
 * churn: a client that lives shortly, again and again.
 *
 * One life: connect, open a channel, declare an exclusive queue that the broker names, publish a
 * message to it, close the channel, close the connection. Its length goes into the latency.
 */
#ifndef PERF_CHURN_H
#define PERF_CHURN_H

#include "session.h"

void churn_add(struct session *session);

#endif
