/*
 * worker: a thread with an event loop, and the mail between such threads.
 *
 * Everything mutable in Lepus belongs to one worker, and only its thread touches it. Workers share
 * nothing and send each other records: plain octets, appended to a batch per destination and
 * handed over at the end of the turn, or earlier when the batch is full (one eventfd wake a batch,
 * none if the other is awake). Per pair of workers, mail arrives in the order it was sent.
 *
 * A turn:
 *   1. wait for events (not at all when there is work left over); run their callbacks
 *   2. run the calls, take the mail that had come when this step began
 *   3. run the tasks of phase AGAIN that were scheduled before this step began
 *   4. run phase GATHER until nothing is scheduled there (confirms, credits: what is sent once a
 *      turn); tasks may schedule more
 *   5. hand the batches over
 *   6. run phase FLUSH (sockets). Mail goes before sockets, so whoever hears an answer from a
 *      socket and acts on it through another worker comes after the mail that preceded the answer
 *   7. reap what was closed in this turn
 * What steps 3 to 7 leave behind or bring about anew is work left over for the next turn.
 *
 * Flow control: a batch comes back to its sender when it has been taken, and its size is then no
 * longer outstanding. A destination with more than MAIL_OUTSTANDING_MAX octets outstanding
 * congests the worker, until half of that is left; who produces mail from a socket then stops
 * reading it and asks to be told (worker_when_clear). Nobody blocks, and mail is taken all the
 * same: two workers that congest each other come free again.
 *
 * A worker whose own disk falls behind is *held* (worker_hold): it counts as congested, and takes
 * no mail either, so that those who send it work are congested in their turn. What a hold waits
 * for must therefore come by a call (worker_call_from_outside), never by mail.
 *
 * Unless said otherwise a function may be called on the worker's own thread only, and asserts it.
 * Before the start and after the stop the main thread counts as every worker's own.
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
    WORKER_OUTSIDE = WORKERS_MAX, /* the sender of what came by worker_mail_from_outside */
    MAIL_OUTSTANDING_MAX =
        256 * 1024, /* little, so that what is urgent waits behind little: measured */
};

struct worker;

/* What is told about mail, on the worker's thread. */
struct worker_ops {
    /* One record, as it was appended; aligned to 8; borrowed for the call. `from`: the index of
     * the sender, or WORKER_OUTSIDE. */
    void (*mail)(void *arg, unsigned from, const void *record, size_t size);
};

/* All workers of a process, made together so that each knows each. Not started. */
struct worker_set;
struct worker_set *worker_set_new(unsigned count, struct err *err); /* main thread */
void worker_set_free(struct worker_set *set); /* after stop; runs what still waits for the reaper */
struct worker *worker_set_get(struct worker_set *set, unsigned index);

/* Before the start. A worker without ops drops its mail. */
void worker_set_ops(struct worker *worker, const struct worker_ops *ops, void *arg);

/* Main thread. The threads have every signal blocked: signals are the main thread's. */
bool worker_set_start(struct worker_set *set, struct err *err);

/* Ends every loop after the turn it is in, and joins the threads. Records still under way are
 * dropped: what they own must be found otherwise. Main thread. */
void worker_set_stop(struct worker_set *set);

unsigned worker_index(const struct worker *worker); /* any thread */
unsigned worker_count(const struct worker *worker); /* any thread */
bool worker_is_here(const struct worker *worker);   /* is this its thread? any thread */

/* Monotonic milliseconds, read once a turn. */
uint64_t worker_now_ms(const struct worker *worker);

/* Room for a record of `size` octets for worker `to` (not itself), aligned to 8; to be filled
 * before the next call. Sent by the end of this turn. Aborts when memory is out. */
void *worker_mail(struct worker *worker, unsigned to, size_t size);

/* From any thread (the main thread, a disk thread): hands one copied record over at once. */
void worker_mail_from_outside(struct worker *to, const void *record, size_t size);

/* Something that another thread has finished for this worker. Lives in its owner until it runs. */
struct worker_call {
    struct worker_call *next;
    void (*run)(struct worker_call *call); /* may free the call */
};

/* From any thread: runs the call in a coming turn, in order, before any mail is taken. After the
 * stop calls wait for worker_run_calls. */
void worker_call_from_outside(struct worker *to, struct worker_call *call);
void worker_run_calls(struct worker *worker);

bool worker_is_congested(const struct worker *worker);

/* Holds count: as many releases end them. */
void worker_hold(struct worker *worker);
void worker_release(struct worker *worker);

/* --- tasks ----------------------------------------------------------------------------- */

enum worker_phase { WORKER_AGAIN, WORKER_GATHER, WORKER_FLUSH, WORKER_PHASES };

/* Lives in its owner, zeroed but for run and arg. Scheduling one that is scheduled, or waits to be
 * told of clearance, changes nothing. */
struct worker_task {
    struct list link;
    void (*run)(void *arg);
    void *arg;
};

void worker_schedule(struct worker *worker, enum worker_phase phase, struct worker_task *task);
void worker_task_cancel(struct worker_task *task); /* fine when it is not scheduled */

/* Runs the task in phase AGAIN once the worker is congested no more (at once: next turn). */
void worker_when_clear(struct worker *worker, struct worker_task *task);

/* Calls free_fn(what) at the end of this turn; after the stop, in worker_set_free. */
void worker_reap(struct worker *worker, void (*free_fn)(void *what), void *what);

/* --- timers ---------------------------------------------------------------------------- */

struct worker_timer {
    void (*fire)(void *arg);
    void *arg;
    void *event; /* net's own */
};

/* Fires once, when worker_now_ms has advanced by in_ms or a little more. Sets anew one that is
 * set. The timer must not move while it has an event: from its first set until it is cancelled. */
void worker_timer_set(struct worker *worker, struct worker_timer *timer, uint64_t in_ms);
void worker_timer_cancel(struct worker_timer *timer); /* fine when it is not set; frees its event */

/* A timer of microseconds, for what must not wait for the next millisecond. It has a descriptor of
 * its own, from its first set until its end, and a set is a system call: few are to be had. Moves
 * as little as a worker_timer. */
struct worker_alarm {
    void (*fire)(void *arg);
    void *arg;
    void *event; /* net's own */
};

/* Fires once, in_us from now or a little later; at least 1. False: no descriptor is to be had. */
bool worker_alarm_set(struct worker *worker, struct worker_alarm *alarm, uint64_t in_us);
void worker_alarm_end(struct worker_alarm *alarm); /* fine when it was never set */

#endif
