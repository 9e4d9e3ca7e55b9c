#include "mailbox_priv.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lepus/base/mem.h"

bool
mailbox_init(struct mailbox *box)
{
    atomic_init(&box->arrived, NULL);
    atomic_init(&box->returned, NULL);
    atomic_init(&box->calls, NULL);
    atomic_init(&box->sleep, AWAKE);
    box->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return box->wake_fd >= 0;
}

static void
push(mail_stack *stack, struct mail_batch *batch)
{
    struct mail_batch *top = atomic_load_explicit(stack, memory_order_relaxed);

    do
        batch->next = top;
    while (!atomic_compare_exchange_weak_explicit(stack, &top, batch, memory_order_seq_cst,
                                                  memory_order_relaxed));
}

/* Takes all and turns it over. */
static struct mail_batch *
take(mail_stack *stack)
{
    struct mail_batch *batch, *next, *list = NULL;

    if (atomic_load_explicit(stack, memory_order_relaxed) == NULL)
        return NULL;
    for (batch = atomic_exchange(stack, NULL); batch != NULL; batch = next) {
        next = batch->next;
        batch->next = list;
        list = batch;
    }
    return list;
}

static void
free_all(mail_stack *stack)
{
    for (struct mail_batch *batch = take(stack), *next; batch != NULL; batch = next) {
        next = batch->next;
        free(batch);
    }
}

void
mailbox_fini(struct mailbox *box)
{
    free_all(&box->arrived);
    free_all(&box->returned);
    close(box->wake_fd);
}

struct mail_batch *
mail_batch_new(unsigned from, unsigned to, size_t size)
{
    size_t room = MAIL_BATCH_SIZE - sizeof(struct mail_batch);
    struct mail_batch *batch;

    if (mail_record_size(size) > room)
        room = mail_record_size(size);
    batch = mem_alloc(sizeof(struct mail_batch) + room);
    batch->next = NULL;
    batch->from = from;
    batch->to = to;
    batch->size = room;
    batch->len = 0;
    batch->counted = 0;
    return batch;
}

void
mailbox_ring(struct mailbox *box)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(box->wake_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
    /* EAGAIN would mean 2^64 rings that nobody heard. */
    assert(n == (ssize_t)sizeof(one));
}

static void
wake(struct mailbox *box)
{
    if (atomic_exchange(&box->sleep, AWAKE) != AWAKE)
        mailbox_ring(box);
}

void
mailbox_put(struct mailbox *box, struct mail_batch *batch)
{
    push(&box->arrived, batch);
    if (atomic_load(&box->sleep) != AWAKE)
        wake(box);
}

void
mailbox_return(struct mailbox *box, struct mail_batch *batch)
{
    push(&box->returned, batch);
    if (atomic_load(&box->sleep) == ASLEEP_FOR_RETURNS)
        wake(box);
}

void
mailbox_call(struct mailbox *box, struct worker_call *call)
{
    struct worker_call *top = atomic_load_explicit(&box->calls, memory_order_relaxed);

    do
        call->next = top;
    while (!atomic_compare_exchange_weak_explicit(&box->calls, &top, call, memory_order_seq_cst,
                                                  memory_order_relaxed));
    if (atomic_load(&box->sleep) != AWAKE)
        wake(box);
}

struct worker_call *
mailbox_take_calls(struct mailbox *box)
{
    struct worker_call *call, *next, *list = NULL;

    if (atomic_load_explicit(&box->calls, memory_order_relaxed) == NULL)
        return NULL;
    for (call = atomic_exchange(&box->calls, NULL); call != NULL; call = next) {
        next = call->next;
        call->next = list;
        list = call;
    }
    return list;
}

struct mail_batch *
mailbox_take_arrived(struct mailbox *box)
{
    return take(&box->arrived);
}

struct mail_batch *
mailbox_take_returned(struct mailbox *box)
{
    return take(&box->returned);
}

bool
mailbox_sleep(struct mailbox *box, bool for_returns, bool for_mail)
{
    atomic_store(&box->sleep, for_returns ? ASLEEP_FOR_RETURNS : ASLEEP);
    if ((!for_mail || atomic_load(&box->arrived) == NULL) && atomic_load(&box->calls) == NULL &&
        (!for_returns || atomic_load(&box->returned) == NULL))
        return true;
    mailbox_rise(box);
    return false;
}
