/*
 * mailbox: how batches of records pass between threads.
 *
 * A batch belongs to its sender, who fills it and puts it into the mailbox of its destination;
 * that one reads it and puts it back into the sender's mailbox, where it is found and used again.
 * So every mailbox has two stacks: what has arrived for its owner, and what has come back to him.
 * Anybody pushes (one compare-and-swap); the owner alone takes, all at once (one exchange), so
 * that no element is ever looked at by two and none can come round under a swap (no ABA). Taken
 * and turned over, a stack gives the batches of each sender in the order he pushed them.
 *
 * Sleep. Before it waits the owner says so (mailbox_sleep) and then looks once more whether
 * something came; who pushes looks at that word after his push. All four accesses are
 * sequentially consistent, so at least one of the two sees the other: no wake is lost. The first
 * to see a sleeper takes the word back to AWAKE and alone pays for the wake.
 */
#ifndef LEPUS_NET_MAILBOX_PRIV_H
#define LEPUS_NET_MAILBOX_PRIV_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/net/worker.h"

enum {
    MAIL_BATCH_SIZE = 64 * 1024, /* with its head; larger only for a record that needs it */
    CACHE_LINE = 64,
};

struct mail_batch {
    struct mail_batch *next; /* in a stack, a taken list or the spares */
    unsigned from, to;
    size_t size, len; /* octets of room, octets that are there */
    size_t counted;   /* of them outstanding with the sender */
    alignas(16) uint8_t bytes[];
};

/* A record in a batch: this, then its octets, then padding to 8. */
struct mail_record {
    uint64_t size;
    uint8_t bytes[];
};

enum mailbox_sleep {
    AWAKE,
    ASLEEP,
    ASLEEP_FOR_RETURNS /* wants to hear of returned batches too */
};

typedef _Atomic(struct mail_batch *) mail_stack;
typedef _Atomic(struct worker_call *) call_stack;

struct mailbox {
    alignas(CACHE_LINE) mail_stack arrived;
    call_stack calls;  /* pushed and taken like mail: see worker_call_from_outside */
    _Atomic int sleep; /* an enum mailbox_sleep */
    int wake_fd;       /* an eventfd */
    alignas(CACHE_LINE) mail_stack returned;
};

bool mailbox_init(struct mailbox *box); /* false with errno */
void mailbox_fini(struct mailbox *box); /* frees what is in it */

/* A batch with room for a record of `size` octets. Aborts when memory is out. */
struct mail_batch *mail_batch_new(unsigned from, unsigned to, size_t size);

static inline size_t
mail_record_size(size_t size)
{
    return sizeof(struct mail_record) + ((size + 7) & ~(size_t)7);
}

/* Any thread. */
void mailbox_put(struct mailbox *box, struct mail_batch *batch);    /* into arrived */
void mailbox_return(struct mailbox *box, struct mail_batch *batch); /* into returned */
void mailbox_call(struct mailbox *box, struct worker_call *call);
void mailbox_ring(struct mailbox *box); /* wakes the owner, asleep or not */

/* The owner. The takes give lists in order of arrival; NULL when there is nothing. */
struct mail_batch *mailbox_take_arrived(struct mailbox *box);
struct mail_batch *mailbox_take_returned(struct mailbox *box);
struct worker_call *mailbox_take_calls(struct mailbox *box);

/* True: the owner may wait now, and a push will wake it. False: something is there already; what
 * has arrived does not count unless for_mail. */
bool mailbox_sleep(struct mailbox *box, bool for_returns, bool for_mail);

static inline void
mailbox_rise(struct mailbox *box)
{
    if (atomic_load_explicit(&box->sleep, memory_order_relaxed) != AWAKE)
        atomic_store_explicit(&box->sleep, AWAKE, memory_order_relaxed);
}

#endif
