/*
 * producer: publishes on a channel: as fast as the socket takes it, at a rate, within a window of
 * confirms, up to a count.
 *
 * At a rate, message m of a producer is due at a time fixed when it starts, and carries that time,
 * however late it gets out: what a stalled broker made wait counts as waiting. Times lie at least
 * TICK apart; several messages are due together where the rate asks for more.
 */
#ifndef PERF_PRODUCER_H
#define PERF_PRODUCER_H

#include "session.h"

/* Producer `number` of options->producers, which may publish `count` messages. */
void producer_add(struct session *session, uint64_t number, uint64_t count);

#endif
