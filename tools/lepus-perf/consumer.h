/*
 * consumer: consumes the queues that are dealt to it on a channel, acknowledges every Nth
 * delivery with all before it, and counts.
 *
 * What comes when --consume is reached already is neither counted nor acknowledged.
 */
#ifndef PERF_CONSUMER_H
#define PERF_CONSUMER_H

#include "session.h"

/* Consumer `number` of options->consumers. */
void consumer_add(struct session *session, uint64_t number);

#endif
