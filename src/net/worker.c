#include "worker_priv.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lepus/base/clock.h"
#include "lepus/base/mem.h"

enum {
    SPARE_MAX = 32,      /* batches, 2 MiB */
    REAPED_KEEP = 1024,  /* more room than that is given back */
    BATCH_COUNTED = 4096 /* a batch counts for at least that, since it takes that much memory: a
                            sender of one small record a turn is congested, too, some day */
};

struct worker_set {
    unsigned count;
    bool is_started;
    struct worker *workers[WORKERS_MAX];
};

/* A thread is known by the address of its copy of this; nothing is ever stored there. */
static _Thread_local const char mark;

bool
worker_is_here(const struct worker *worker)
{
    return atomic_load_explicit(&worker->home, memory_order_relaxed) == &mark;
}

unsigned
worker_index(const struct worker *worker)
{
    return worker->index;
}

unsigned
worker_count(const struct worker *worker)
{
    return worker->set->count;
}

uint64_t
worker_now_ms(const struct worker *worker)
{
    return worker->now_ms;
}

bool
worker_is_congested(const struct worker *worker)
{
    assert(worker_is_here(worker));
    return worker->congested > 0;
}

void
worker_rise(struct worker *worker)
{
    mailbox_rise(&worker->mailbox);
    worker->now_ms = clock_now_ms();
    worker->is_up = true;
}

/* --- mail out ---------------------------------------------------------------------------- */

static void
count_outstanding(struct worker *worker, struct outbox *out, size_t n)
{
    out->outstanding += n;
    if (out->outstanding > MAIL_OUTSTANDING_MAX && !out->is_congested) {
        out->is_congested = true;
        worker->congested++;
    }
}

static void
hand_over(struct worker *worker, unsigned to)
{
    struct outbox *out = &worker->outboxes[to];
    struct mail_batch *batch = out->open;

    out->open = NULL;
    worker->unsent &= ~(UINT64_C(1) << to);
    batch->counted = batch->len;
    if (batch->counted < BATCH_COUNTED) {
        count_outstanding(worker, out, BATCH_COUNTED - batch->counted);
        batch->counted = BATCH_COUNTED;
    }
    mailbox_put(&worker->set->workers[to]->mailbox, batch);
}

static void
hand_over_all(struct worker *worker)
{
    while (worker->unsent != 0)
        hand_over(worker, (unsigned)__builtin_ctzll(worker->unsent));
}

static struct mail_batch *
open_batch(struct worker *worker, unsigned to, size_t size)
{
    struct outbox *out = &worker->outboxes[to];
    struct mail_batch *batch = worker->spare;

    if (out->open != NULL)
        hand_over(worker, to);
    if (batch != NULL && mail_record_size(size) <= batch->size) {
        worker->spare = batch->next;
        worker->spares--;
        batch->next = NULL;
        batch->to = to;
    } else {
        batch = mail_batch_new(worker->index, to, size);
    }
    out->open = batch;
    worker->unsent |= UINT64_C(1) << to;
    return batch;
}

void *
worker_mail(struct worker *worker, unsigned to, size_t size)
{
    size_t needed = mail_record_size(size);
    struct mail_batch *batch;
    struct mail_record *record;

    assert(worker_is_here(worker));
    assert(to < worker->set->count && to != worker->index && size <= UINT32_MAX);
    batch = worker->outboxes[to].open;
    if (batch == NULL || batch->size - batch->len < needed)
        batch = open_batch(worker, to, size);
    record = (struct mail_record *)(void *)(batch->bytes + batch->len);
    record->size = size;
    batch->len += needed;
    count_outstanding(worker, &worker->outboxes[to], needed);
    return record->bytes;
}

void
worker_mail_from_outside(struct worker *to, const void *record, size_t size)
{
    struct mail_batch *batch = mail_batch_new(WORKER_OUTSIDE, to->index, size);
    struct mail_record *at = (struct mail_record *)(void *)batch->bytes;

    at->size = size;
    if (size > 0)
        memcpy(at->bytes, record, size);
    batch->len = mail_record_size(size);
    mailbox_put(&to->mailbox, batch);
}

/* --- mail in ----------------------------------------------------------------------------- */

static void
take_all(struct list *from, struct list *to)
{
    list_init(to);
    if (list_is_empty(from))
        return;
    to->next = from->next;
    to->prev = from->prev;
    to->next->prev = to->prev->next = to;
    list_init(from);
}

static void
take_back(struct worker *worker, struct mail_batch *batch)
{
    struct outbox *out = &worker->outboxes[batch->to];

    out->outstanding -= batch->counted;
    if (out->is_congested && out->outstanding <= MAIL_OUTSTANDING_MAX / 2) {
        out->is_congested = false;
        worker->congested--;
    }
    if (worker->spares == SPARE_MAX || batch->size > MAIL_BATCH_SIZE) {
        free(batch);
        return;
    }
    batch->len = batch->counted = 0;
    batch->next = worker->spare;
    worker->spare = batch;
    worker->spares++;
}

static void
take_returns(struct worker *worker)
{
    struct mail_batch *batch = mailbox_take_returned(&worker->mailbox), *next;

    for (; batch != NULL; batch = next) {
        next = batch->next;
        take_back(worker, batch);
    }
}

/* Those who wait for clearance go on, if it is clear. */
static void
tell_of_clearance(struct worker *worker)
{
    struct list waiting, *link;

    if (worker->congested > 0 || list_is_empty(&worker->wait_for_clear))
        return;
    take_all(&worker->wait_for_clear, &waiting);
    while ((link = list_take_first(&waiting)) != NULL)
        list_append(&worker->phases[WORKER_AGAIN], link);
}

static void
read_batch(struct worker *worker, const struct mail_batch *batch)
{
    for (size_t at = 0; at < batch->len;) {
        const struct mail_record *record = (const void *)(batch->bytes + at);

        if (worker->ops != NULL)
            worker->ops->mail(worker->arg, batch->from, record->bytes, record->size);
        at += mail_record_size(record->size);
    }
}

static void
take_mail(struct worker *worker)
{
    struct mail_batch *batch = mailbox_take_arrived(&worker->mailbox), *next;

    for (; batch != NULL; batch = next) {
        next = batch->next;
        read_batch(worker, batch);
        if (batch->from == WORKER_OUTSIDE)
            free(batch);
        else
            mailbox_return(&worker->set->workers[batch->from]->mailbox, batch);
    }
}

/* --- calls, holds ------------------------------------------------------------------------ */

void
worker_call_from_outside(struct worker *to, struct worker_call *call)
{
    mailbox_call(&to->mailbox, call);
}

void
worker_run_calls(struct worker *worker)
{
    struct worker_call *call = mailbox_take_calls(&worker->mailbox), *next;

    assert(worker_is_here(worker));
    for (; call != NULL; call = next) {
        next = call->next;
        call->run(call);
    }
}

void
worker_hold(struct worker *worker)
{
    assert(worker_is_here(worker));
    worker->held++;
    worker->congested++;
}

void
worker_release(struct worker *worker)
{
    assert(worker_is_here(worker) && worker->held > 0);
    worker->held--;
    worker->congested--;
}

/* --- tasks ------------------------------------------------------------------------------- */

void
worker_schedule(struct worker *worker, enum worker_phase phase, struct worker_task *task)
{
    assert(worker_is_here(worker));
    if (!list_is_linked(&task->link))
        list_append(&worker->phases[phase], &task->link);
}

void
worker_task_cancel(struct worker_task *task)
{
    if (list_is_linked(&task->link))
        list_remove(&task->link);
}

void
worker_when_clear(struct worker *worker, struct worker_task *task)
{
    if (worker->congested == 0)
        worker_schedule(worker, WORKER_AGAIN, task);
    else if (!list_is_linked(&task->link))
        list_append(&worker->wait_for_clear, &task->link);
}

static void
run_list(struct list *tasks)
{
    struct list *link;

    while ((link = list_take_first(tasks)) != NULL) {
        struct worker_task *task = container_of(link, struct worker_task, link);

        task->run(task->arg); /* may free the task */
    }
}

/* What is scheduled meanwhile waits for the next turn, so that nobody keeps the others out. */
static void
run_phase(struct worker *worker, enum worker_phase phase)
{
    struct list tasks;

    take_all(&worker->phases[phase], &tasks);
    run_list(&tasks);
}

void
worker_reap(struct worker *worker, void (*free_fn)(void *what), void *what)
{
    assert(worker_is_here(worker));
    if (worker->reaped_count == worker->reaped_size) {
        worker->reaped_size = worker->reaped_size > 0 ? worker->reaped_size * 2 : 16;
        worker->reaped =
            mem_resize(worker->reaped, worker->reaped_size * sizeof(worker->reaped[0]));
    }
    worker->reaped[worker->reaped_count++] = (struct reaped){free_fn, what};
}

static void
reap_all(struct worker *worker)
{
    for (size_t i = 0; i < worker->reaped_count; i++) { /* one may bring about more */
        struct reaped reaped = worker->reaped[i];

        reaped.free_fn(reaped.what);
    }
    worker->reaped_count = 0;
    if (worker->reaped_size > REAPED_KEEP) {
        free(worker->reaped);
        worker->reaped = NULL;
        worker->reaped_size = 0;
    }
}

/* --- timers ------------------------------------------------------------------------------ */

struct timer_event {
    struct event event;
    struct worker *worker;
    struct worker_timer *timer;
    uint64_t due_ms;
};

static void
timer_arm(struct timer_event *te)
{
    enum { FAR_MS = 24 * 3600 * 1000 }; /* a later one is armed again then */
    uint64_t now = te->worker->now_ms;
    uint64_t in = te->due_ms > now ? te->due_ms - now : 0;
    struct timeval tv;

    if (in > FAR_MS)
        in = FAR_MS;
    tv.tv_sec = (time_t)(in / 1000);
    tv.tv_usec = (suseconds_t)(in % 1000 * 1000);
    if (event_add(&te->event, &tv) != 0)
        abort(); /* no memory for the heap of timers */
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct timer_event *te = arg;

    (void)fd;
    (void)what;
    worker_enter(te->worker);
    if (te->due_ms > te->worker->now_ms) /* libevent's clock is coarse, and may be early */
        timer_arm(te);
    else
        te->timer->fire(te->timer->arg); /* may cancel the timer, which frees te */
}

void
worker_timer_set(struct worker *worker, struct worker_timer *timer, uint64_t in_ms)
{
    struct timer_event *te = timer->event;

    assert(worker_is_here(worker));
    if (te == NULL) {
        te = timer->event = mem_new(struct timer_event);
        te->worker = worker;
        te->timer = timer;
        event_assign(&te->event, worker->base, -1, 0, on_timer, te);
    }
    assert(te->worker == worker);
    te->due_ms = in_ms <= UINT64_MAX - worker->now_ms ? worker->now_ms + in_ms : UINT64_MAX;
    timer_arm(te);
}

void
worker_timer_cancel(struct worker_timer *timer)
{
    struct timer_event *te = timer->event;

    if (te == NULL)
        return;
    assert(worker_is_here(te->worker));
    timer->event = NULL;
    event_del(&te->event);
    free(te);
}

struct alarm_event {
    struct event event;
    struct worker *worker;
    struct worker_alarm *alarm;
    int fd;
};

static void
on_alarm(evutil_socket_t fd, short what, void *arg)
{
    struct alarm_event *ae = arg;
    uint64_t times;

    (void)what;
    worker_enter(ae->worker);
    if (read(fd, &times, sizeof(times)) == sizeof(times)) /* else it was set anew meanwhile */
        ae->alarm->fire(ae->alarm->arg);                  /* may end the alarm, which frees ae */
}

static struct alarm_event *
make_alarm(struct worker *worker, struct worker_alarm *alarm)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct alarm_event *ae;

    if (fd < 0)
        return NULL;
    ae = mem_new(struct alarm_event);
    ae->worker = worker;
    ae->alarm = alarm;
    ae->fd = fd;
    event_assign(&ae->event, worker->base, fd, EV_READ | EV_PERSIST, on_alarm, ae);
    if (event_add(&ae->event, NULL) == 0)
        return ae;
    close(fd);
    free(ae);
    return NULL;
}

bool
worker_alarm_set(struct worker *worker, struct worker_alarm *alarm, uint64_t in_us)
{
    struct itimerspec in = {
        .it_value = {(time_t)(in_us / 1000000), (long)(in_us % 1000000 * 1000)}};
    struct alarm_event *ae = alarm->event;

    assert(worker_is_here(worker) && in_us > 0);
    if (ae == NULL)
        ae = alarm->event = make_alarm(worker, alarm);
    return ae != NULL && timerfd_settime(ae->fd, 0, &in, NULL) == 0;
}

void
worker_alarm_end(struct worker_alarm *alarm)
{
    struct alarm_event *ae = alarm->event;

    if (ae == NULL)
        return;
    assert(worker_is_here(ae->worker));
    alarm->event = NULL;
    event_del(&ae->event);
    close(ae->fd);
    free(ae);
}

/* --- the loop ---------------------------------------------------------------------------- */

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* edge-triggered: its count is never read */
    (void)what;
    worker_enter(arg); /* that we are up is all: mail is taken in every turn */
}

static bool
has_work(const struct worker *worker)
{
    for (int i = 0; i < WORKER_PHASES; i++)
        if (!list_is_empty(&worker->phases[i]))
            return true;
    return worker->unsent != 0 || worker->reaped_count > 0;
}

static void
wait_for_events(struct worker *worker)
{
    bool for_returns = !list_is_empty(&worker->wait_for_clear);
    int flags = EVLOOP_ONCE;

    if (has_work(worker) || !mailbox_sleep(&worker->mailbox, for_returns, worker->held == 0))
        flags |= EVLOOP_NONBLOCK;
    worker->is_up = false;
    if (event_base_loop(worker->base, flags) != 0)
        abort(); /* without events nothing would ever happen again */
    worker_enter(worker);
}

static void
turn(struct worker *worker)
{
    wait_for_events(worker);
    worker_run_calls(worker);
    take_returns(worker);
    if (worker->held == 0)
        take_mail(worker);
    tell_of_clearance(worker);
    run_phase(worker, WORKER_AGAIN);
    run_list(&worker->phases[WORKER_GATHER]);
    hand_over_all(worker);
    run_phase(worker, WORKER_FLUSH);
    reap_all(worker);
}

static void *
run(void *arg)
{
    struct worker *worker = arg;

    atomic_store(&worker->home, &mark);
    while (!atomic_load_explicit(&worker->must_stop, memory_order_relaxed))
        turn(worker);
    atomic_store(&worker->home, NULL);
    return NULL;
}

/* --- life cycle -------------------------------------------------------------------------- */

static struct event_base *
make_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    /* One thread uses it; others ring the eventfd. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0 &&
        event_config_require_features(config, EV_FEATURE_ET) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static void
worker_free(struct worker *worker)
{
    if (worker == NULL)
        return;
    for (unsigned i = 0; worker->outboxes != NULL && i < worker->set->count; i++)
        free(worker->outboxes[i].open);
    for (struct mail_batch *batch = worker->spare, *next; batch != NULL; batch = next) {
        next = batch->next;
        free(batch);
    }
    if (worker->base != NULL) {
        event_del(&worker->wake);
        event_base_free(worker->base);
    }
    mailbox_fini(&worker->mailbox);
    chunk_pool_fini(&worker->chunks);
    free(worker->read_buffer);
    free(worker->reaped);
    free(worker->outboxes);
    free(worker);
}

static struct worker *
worker_new(struct worker_set *set, unsigned index, struct err *err)
{
    size_t size = (sizeof(struct worker) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct worker *worker = aligned_alloc(CACHE_LINE, size);

    if (worker == NULL)
        abort();
    memset(worker, 0, size);
    if (!mailbox_init(&worker->mailbox)) {
        err_set(err, INTERNAL_ERROR, "eventfd: %s", strerror(errno));
        free(worker);
        return NULL;
    }
    worker->set = set;
    worker->index = index;
    atomic_init(&worker->home, &mark);
    atomic_init(&worker->must_stop, false);
    worker->now_ms = clock_now_ms();
    worker->outboxes = mem_alloc_zero(set->count * sizeof(struct outbox));
    for (int i = 0; i < WORKER_PHASES; i++)
        list_init(&worker->phases[i]);
    list_init(&worker->wait_for_clear);
    list_init(&worker->handshakes);
    worker->base = make_base();
    if (worker->base == NULL) {
        err_set(err, INTERNAL_ERROR, "no event loop to be had (epoll or kqueue)");
        worker_free(worker);
        return NULL;
    }
    event_assign(&worker->wake, worker->base, worker->mailbox.wake_fd, EV_READ | EV_PERSIST | EV_ET,
                 on_wake, worker);
    if (event_add(&worker->wake, NULL) != 0) {
        err_set(err, INTERNAL_ERROR, "event loop: %s", strerror(errno));
        worker_free(worker);
        return NULL;
    }
    return worker;
}

struct worker_set *
worker_set_new(unsigned count, struct err *err)
{
    struct worker_set *set = mem_new(struct worker_set);

    assert(count > 0 && count <= WORKERS_MAX);
    set->count = count;
    for (unsigned i = 0; i < count; i++) {
        set->workers[i] = worker_new(set, i, err);
        if (set->workers[i] == NULL) {
            worker_set_free(set);
            return NULL;
        }
    }
    return set;
}

void
worker_set_free(struct worker_set *set)
{
    if (set == NULL)
        return;
    assert(!set->is_started);
    for (unsigned i = 0; i < set->count; i++)
        if (set->workers[i] != NULL) {
            worker_run_calls(set->workers[i]);
            reap_all(set->workers[i]);
        }
    for (unsigned i = 0; i < set->count; i++)
        worker_free(set->workers[i]);
    free(set);
}

struct worker *
worker_set_get(struct worker_set *set, unsigned index)
{
    assert(index < set->count);
    return set->workers[index];
}

void
worker_set_ops(struct worker *worker, const struct worker_ops *ops, void *arg)
{
    assert(worker_is_here(worker));
    worker->ops = ops;
    worker->arg = arg;
}

static void
stop_first(struct worker_set *set, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        atomic_store(&set->workers[i]->must_stop, true);
        mailbox_ring(&set->workers[i]->mailbox);
    }
    for (unsigned i = 0; i < n; i++)
        pthread_join(set->workers[i]->thread, NULL);
    for (unsigned i = 0; i < set->count; i++) {
        atomic_store(&set->workers[i]->home, &mark);
        atomic_store(&set->workers[i]->must_stop, false);
    }
}

static int
start_thread(struct worker *worker)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

bool
worker_set_start(struct worker_set *set, struct err *err)
{
    assert(!set->is_started);
    for (unsigned i = 0; i < set->count; i++)
        atomic_store(&set->workers[i]->home, NULL);
    for (unsigned i = 0; i < set->count; i++) {
        int rc = start_thread(set->workers[i]);

        if (rc != 0) {
            stop_first(set, i);
            return err_set(err, INTERNAL_ERROR, "thread of worker %u: %s", i, strerror(rc));
        }
    }
    set->is_started = true;
    return true;
}

void
worker_set_stop(struct worker_set *set)
{
    if (!set->is_started)
        return;
    stop_first(set, set->count);
    set->is_started = false;
}
