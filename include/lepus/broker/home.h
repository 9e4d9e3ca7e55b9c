/*
 * home: the queues whose shards are on one worker, and the store that keeps them.
 *
 * Speaks by commands only (command.h): this header has no verb for a message. A queue is made
 * when the first command for it comes and the topology knows it (topology_queue_describe), and
 * ends when somebody takes it out of the topology: by a delete command, or here, when the last
 * consumer of an auto-delete queue goes.
 *
 * The store of a home is a journal (journal.h) and the pages of its queues (pages.h), each with a
 * disk thread of its own, so that no confirm waits for a page. Without a store a home keeps its
 * messages in memory.
 *
 *   publish      a persistent message that a durable queue keeps goes into the journal, once for
 *                all queues of this home; its confirm is sent when the journal says it is safe
 *   settle       of such a message: likewise. A tx.commit waits for it
 *   memory       of all messages here together is bounded (memory_max): beyond it queues spill to
 *                their pages, those that grew most first
 *   streams      queues of type stream are logs of their own (stream_queue.h), with disk threads of
 *                their own, and none of the journal's business
 *   checkpoint   when the journal is crowded, the queues that pin its oldest part write their
 *                messages to pages, these are synced, each queue's state (queue_state) goes into
 *                the journal, and when that is safe the old part is free. The same at the start,
 *                for what was found in the journals of the broker's former life, and at its end
 *   hold         when the journal or the pages are behind, the worker takes no more work from
 *                sockets and mail (worker_hold)
 *   trouble      when a disk fails, publishes that want to be confirmed are refused and the server
 *                is told, to block publishers; what was taken waits until the disk is well
 */
#ifndef LEPUS_BROKER_HOME_H
#define LEPUS_BROKER_HOME_H

#include "lepus/broker/post.h"
#include "lepus/store/journal.h"

struct home;
struct queue;

/* Both on the worker's thread, or the main thread's before the start and after the stop. */
struct home_ops {
    void (*trouble)(void *arg, const struct err *why); /* NULL: all is well again */
    /* Nothing in the journals of former terms is this home's any more. */
    void (*moved_in)(void *arg);
};

/* On the worker's thread: they are gone, and cannot come back. Until then a home keeps all of its
 * own journal: with one of these, but without what settled its messages later, they would return.
 */
void home_former_is_gone(struct home *home);

struct home_settings {
    struct journal_settings journal; /* index: the worker's */
    size_t memory_max;
    unsigned descriptors_max;
};

/* Registers its handlers with the post. Before the workers start. settings NULL: no store. */
struct home *home_new(struct post *post, struct topology *topology,
                      const struct home_settings *settings, const struct home_ops *ops, void *arg,
                      struct err *err);
void home_free(struct home *home); /* after the workers have stopped; NULL is fine */

/* Main thread, after recovery (recovery.h) and before the workers start: the disk threads. */
bool home_start(struct home *home, struct err *err);

/* Main thread, after the workers have stopped: everything goes to disk, so that the next start has
 * nothing to do. */
void home_stop(struct home *home);

/* On the worker's thread, by a call: store.sync was changed. */
void home_set_sync(struct home *home, enum journal_sync sync, uint32_t interval_ms);

/* On the worker's thread, by a call: policies of the vhost have changed. Its queues here take over
 * what they say, from this turn on, some a turn. */
void home_apply_policies(struct home *home, struct vhost *vhost);

/* Definitions up to this ticket are safe (a metadata_committed_fn): what was published to queues
 * that were not, may be confirmed. */
void home_committed(void *home, uint64_t ticket);

size_t home_queue_count(const struct home *home);

/* For recovery, before the start: the queue, if the topology knows it and it is of this home. */
struct queue *home_queue(struct home *home, uint64_t id);
/* Something in former journals is the queue's. */
void home_queue_recovered(struct home *home, struct queue *queue);
/* Spills and writes what memory has too much of. */
void home_relieve(struct home *home);
/* Everything is restored: page files that are nobody's go. */
void home_recovered(struct home *home);

/* Main thread, before the start, when every home is made: the streams of this home, with what is
 * on disk of them. */
bool home_recover_streams(struct home *home, struct err *err);

#endif
