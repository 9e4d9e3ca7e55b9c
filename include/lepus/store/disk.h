/*
 * disk: a thread for calls that block, in the service of one worker.
 *
 * The worker submits jobs; the thread runs them one after the other, in the order of submission
 * within a lane, the lanes in the order of their enum; then the worker is told by the job's
 * `done`, in its own thread. A job belongs to the disk from disk_submit until its done is called,
 * and may be freed there. No lock is taken per message: a job is a batch, a block, a sync.
 *
 * A disk without a thread (disk_new with `manual`) runs nothing by itself: disk_step runs one job
 * and its done, on the caller's thread. That is how tests stop the world between two writes, and
 * how recovery works before the workers have started.
 */
#ifndef LEPUS_STORE_DISK_H
#define LEPUS_STORE_DISK_H

#include <stdbool.h>
#include <stddef.h>

#include "lepus/base/err.h"
#include "lepus/base/list.h"
#include "lepus/net/worker.h"

struct disk;

enum disk_lane {
    DISK_FIRST, /* journal batches, reads: somebody waits */
    DISK_LATER, /* page writes, syncs of pages, unlinks: in order among themselves */
    DISK_LANES
};

struct disk_job {
    struct list link;
    struct worker_call call;
    struct disk *disk;                  /* since its submission */
    void (*run)(struct disk_job *job);  /* on the disk's thread */
    void (*done)(struct disk_job *job); /* on the worker's, afterwards */
};

/* worker NULL: a manual disk without a worker. The thread starts with disk_start. */
struct disk *disk_new(struct worker *worker, const char *name);

/* Main thread, before the workers start; the thread has every signal blocked. Until then, and
 * after disk_stop, the disk is manual. */
bool disk_start(struct disk *disk, struct err *err);

/* Worker's thread. run and done are filled, the rest is the disk's business. */
void disk_submit(struct disk *disk, enum disk_lane lane, struct disk_job *job);

/* Manual: runs the next job and its done. False when there is none. */
bool disk_step(struct disk *disk);

/* Jobs submitted whose done has not been called. */
size_t disk_pending(const struct disk *disk);

/* Main thread, after the workers have stopped: joins the thread, which ends when its lanes are
 * empty, and calls each done that is left. What these submit is left for disk_step. */
void disk_stop(struct disk *disk);

void disk_free(struct disk *disk); /* stopped, nothing pending; NULL is fine */

#endif
