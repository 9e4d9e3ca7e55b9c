/*
 * worker_priv: what the rest of net/ sees of a worker: its event base, and the memory that its
 * transports share.
 */
#ifndef LEPUS_NET_WORKER_PRIV_H
#define LEPUS_NET_WORKER_PRIV_H

#include <pthread.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "lepus/net/worker.h"
#include "mailbox_priv.h"
#include "output_priv.h"

struct outbox {              /* towards one other worker */
    struct mail_batch *open; /* NULL: nothing to send; its bit in worker.unsent says the same */
    size_t outstanding;      /* octets in batches that have not come back, the open one included */
    bool is_congested;
};

struct worker {
    struct mailbox mailbox; /* any thread; all that follows is the worker's own */

    struct worker_set *set;
    unsigned index;
    _Atomic(const char *) home; /* the mark of the thread that it is on; see is_here */
    _Atomic bool must_stop;
    pthread_t thread;

    struct event_base *base;
    struct event wake; /* the mailbox's eventfd */
    uint64_t now_ms;
    bool is_up; /* in a turn: the clock has been read, and senders need not wake us */

    const struct worker_ops *ops;
    void *arg;

    uint64_t unsent;          /* bit i: outboxes[i] has an open batch */
    unsigned congested;       /* outboxes that are, and holds */
    unsigned held;            /* the holds alone */
    struct outbox *outboxes;  /* worker_count of them */
    struct mail_batch *spare; /* returned ones, the warmest first; at most SPARE_MAX */
    unsigned spares;

    struct list phases[WORKER_PHASES];
    struct list wait_for_clear;
    struct reaped {
        void (*free_fn)(void *what);
        void *what;
    } * reaped;
    size_t reaped_count, reaped_size;

    uint8_t *read_buffer;         /* the transports'; NULL until the first */
    struct list handshakes;       /* tls_session.waiting: those for whom octets have come */
    struct worker_task handshake; /* the transports': takes them a step further */
    struct chunk_pool chunks;
};

/* Opens every callback that libevent calls: the first of a turn reads the clock. */
void worker_rise(struct worker *worker);

static inline void
worker_enter(struct worker *worker)
{
    if (!worker->is_up)
        worker_rise(worker);
}

#endif
