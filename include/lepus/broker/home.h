/*
 * home: the queues whose shards are on one worker.
 *
 * Speaks by commands only (command.h): this header has no verb for a message. A queue is made
 * when the first command for it comes and the topology knows it (topology_queue_describe), and
 * ends when somebody takes it out of the topology: by a delete command, or here, when the last
 * consumer of an auto-delete queue goes.
 */
#ifndef LEPUS_BROKER_HOME_H
#define LEPUS_BROKER_HOME_H

#include "lepus/broker/post.h"

struct home;

/* Registers its handlers with the post. Before the workers start. */
struct home *home_new(struct post *post, struct topology *topology);
void home_free(struct home *home); /* after the workers have stopped */

size_t home_queue_count(const struct home *home);

#endif
