/*
 * recovery: from what a former life left on the disk to queues.
 *
 * Reads the journals twice, never the pages. The first pass learns of each queue its last state,
 * what was settled and how far deliveries went after it; the second one puts the messages that are
 * still alive, and above the end of their queue's pages, into their queues, in order. Queues spill
 * meanwhile as they do in life, so memory stays bounded.
 *
 *   a queue that the topology does not know     is dropped, its pages too
 *   a message of a settled seq, or below the    was dropped when it was settled, or is on a page
 *   state's end
 *   what may have been delivered                is flagged redelivered
 *   what has expired meanwhile                  is dropped
 *   damage                                      is told line by line; queues whose state may be
 *                                               lost with it take over whatever good pages they
 * have
 */
#ifndef LEPUS_BROKER_RECOVERY_H
#define LEPUS_BROKER_RECOVERY_H

#include "lepus/broker/home.h"

struct recovery;

/* Reads the journals once. *out: what new journals must go on from. */
struct recovery *recovery_open(const char *dir, const struct file_system *files,
                               struct topology *topology, struct journal_found *out,
                               struct err *err);

struct recovery_counts {
    size_t backlogs;   /* that have something */
    uint64_t messages; /* ready again, on pages and not */
};

/* Fills the homes, which are all that there are, indexed by worker. Before they start. */
bool recovery_run(struct recovery *recovery, struct home *const *homes, struct recovery_counts *out,
                  struct err *err);
void recovery_free(struct recovery *recovery); /* NULL is fine */

#endif
