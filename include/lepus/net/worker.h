/*
 * worker: a thread with an event loop, and the mail between such threads.
 *
 * Everything mutable in Lepus belongs to one worker, and only its thread touches it. Workers share
 * nothing and send each other records: plain octets, appended to a batch per destination and
 * handed over once a turn (one eventfd wake a batch, none if the other is awake). Per pair of workers,
 * mail arrives in the order it was sent.
 *
 * A turn:
 *   1. wait for events (not at all when there is work left over); run their callbacks
 *   2. take the mail that has come
 *   3. run the tasks of phase AGAIN that were scheduled in an earlier turn
 *   4. run phase GATHER until nothing is scheduled there (confirms, credits: what is sent once a
 *      turn); tasks may schedule more
 *   5. hand the batches over
 *   6. run phase FLUSH (sockets). Mail goes before sockets, so whoever hears an answer from a
 *      socket and acts on it through another worker comes after the mail that preceded the answer
 *   7. reap what was closed in this turn
 *
 * Flow control: a batch comes back to its sender when it has been taken, and its size is then no
 * longer outstanding. worker_is_congested says that some destination has more than
 * MAIL_OUTSTANDING_MAX octets outstanding; who produces mail from a socket then stops reading it
 * and asks to be told (worker_when_clear). Nobody blocks.
 *
 * Unless said otherwise a function may be called on the worker's own thread only, and asserts it.
 */
#ifndef LEPUS_NET_WORKER_H
#define LEPUS_NET_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/list.h"

enum {
    WORKERS_MAX = 64,
    MAIL_OUTSTANDING_MAX = 8 << 20,
};

struct worker;

/* What is told about mail and stops, on the worker's thread. */
struct worker_ops {
    /* One record, as it was appended; aligned to 8; borrowed for the call. */
    void (*mail)(void *arg, unsigned from, const void *record, size_t size);
};

/* All workers of a process, made together so that each knows each. Not started. */
struct worker_set;
struct worker_set *worker_set_new(unsigned count, struct err *err); /* main thread */
void worker_set_free(struct worker_set *set);                       /* after stop */
struct worker *worker_set_get(struct worker_set *set, unsigned index);

void worker_set_ops(struct worker *worker, const struct worker_ops *ops, void *arg); /* before start */
bool worker_set_start(struct worker_set *set, struct err *err);                      /* main thread */

/* Ends every loop after the turn it is in, and joins the threads. Records still under way are given
 * back to nobody: what they own must be found otherwise. Main thread. */
void worker_set_stop(struct worker_set *set);

unsigned worker_index(const struct worker *worker); /* any thread */
unsigned worker_count(const struct worker *worker); /* any thread */
bool worker_is_here(const struct worker *worker);   /* is this its thread? any thread */

/* Monotonic milliseconds, read once a turn. */
uint64_t worker_now_ms(const struct worker *worker);

/* Room for a record of `size` octets for worker `to` (not itself), aligned to 8; to be filled
 * before the next call. Sent at the end of this turn. Aborts when memory is out. */
void *worker_mail(struct worker *worker, unsigned to, size_t size);

/* From a thread that is no worker (the main thread): hands one record over at once. */
void worker_mail_from_outside(struct worker *to, const void *record, size_t size);

bool worker_is_congested(const struct worker *worker);

/* --- tasks ----------------------------------------------------------------------------- */

enum worker_phase { WORKER_AGAIN, WORKER_GATHER, WORKER_FLUSH, WORKER_PHASES };

/* Lives in its owner. Scheduling one that is scheduled changes nothing. */
struct worker_task {
    struct list link;
    void (*run)(void *arg);
    void *arg;
};

void worker_schedule(struct worker *worker, enum worker_phase phase, struct worker_task *task);
void worker_task_cancel(struct worker_task *task); /* fine when it is not scheduled */

/* Runs the task in phase AGAIN once the worker is congested no more (at once: next turn). */
void worker_when_clear(struct worker *worker, struct worker_task *task);

/* Calls free_fn(what) at the end of this turn. */
void worker_reap(struct worker *worker, void (*free_fn)(void *what), void *what);

/* --- timers ---------------------------------------------------------------------------- */

struct worker_timer {
    void (*fire)(void *arg);
    void *arg;
    void *event; /* net's own */
};

void worker_timer_set(struct worker *worker, struct worker_timer *timer, uint64_t in_ms);
void worker_timer_cancel(struct worker_timer *timer); /* fine when it is not set; frees its event */

#endif
