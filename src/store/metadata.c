#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "lepus/base/mem.h"
#include "metadata_priv.h"

enum { RETRY_MS = 1000, LISTENERS_MAX = 2 * WORKERS_MAX };

/* Told by a call of its own, of which one at most is under way. */
struct listener {
    struct worker_call call;
    struct metadata *metadata;
    struct worker *worker;
    metadata_committed_fn *committed;
    void *arg;
    atomic_bool is_under_way;
};

struct metadata {
    struct metadata_db *db; /* the writer's while it runs */
    const struct metadata_ops *ops;
    void *ops_arg;
    struct listener listeners[LISTENERS_MAX];
    unsigned n_listeners;
    pthread_t thread;
    bool is_running;
    _Atomic uint64_t committed;

    pthread_mutex_t mutex;  /* the rest is under it */
    pthread_cond_t wake;    /* of the writer: something waits, or the end has come */
    pthread_cond_t settled; /* it has committed */
    struct buf waiting;     /* changes, serialised */
    uint64_t last;          /* the ticket of the last of them */
    bool is_ending;

    struct buf taken; /* the writer's: what it commits, and their last ticket */
    uint64_t taken_last;
};

/* --- opening --------------------------------------------------------------------------- */

static void
init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct metadata *
metadata_open(const char *dir, enum metadata_mode mode, struct err *err)
{
    struct metadata_db *db = metadata_db_open(dir, mode, err);
    struct metadata *metadata;
    uint64_t applied;

    if (db == NULL)
        return NULL;
    if (!metadata_db_applied(db, &applied, err)) {
        metadata_db_close(db);
        return NULL;
    }
    metadata = mem_new(struct metadata);
    metadata->db = db;
    metadata->last = applied;
    atomic_init(&metadata->committed, applied);
    pthread_mutex_init(&metadata->mutex, NULL);
    init_condition(&metadata->wake);
    init_condition(&metadata->settled);
    buf_init(&metadata->waiting, SIZE_MAX / 2);
    buf_init(&metadata->taken, SIZE_MAX / 2);
    return metadata;
}

void
metadata_close(struct metadata *metadata)
{
    if (metadata == NULL)
        return;
    assert(!metadata->is_running);
    metadata_db_close(metadata->db);
    pthread_cond_destroy(&metadata->wake);
    pthread_cond_destroy(&metadata->settled);
    pthread_mutex_destroy(&metadata->mutex);
    buf_fini(&metadata->waiting);
    buf_fini(&metadata->taken);
    free(metadata);
}

bool
metadata_walk(struct metadata *metadata, enum metadata_table table, metadata_each *each, void *arg,
              struct err *err)
{
    assert(!metadata->is_running);
    return metadata_db_walk(metadata->db, table, each, arg, err);
}

void
metadata_set_ops(struct metadata *metadata, const struct metadata_ops *ops, void *arg)
{
    assert(!metadata->is_running);
    metadata->ops = ops;
    metadata->ops_arg = arg;
}

/* --- changes --------------------------------------------------------------------------- */

static uint64_t
append(struct metadata *metadata, enum metadata_operation operation, enum metadata_table table,
       const void *row)
{
    uint64_t ticket;

    pthread_mutex_lock(&metadata->mutex);
    if (metadata->waiting.len == 0)
        pthread_cond_signal(&metadata->wake);
    metadata_encode(&metadata->waiting, operation, table, row);
    assert(!metadata->waiting.bad); /* memory is out: nothing better to do than with mem_alloc */
    ticket = ++metadata->last;
    pthread_mutex_unlock(&metadata->mutex);
    return ticket;
}

uint64_t
metadata_put(struct metadata *metadata, enum metadata_table table, const void *row)
{
    return append(metadata, METADATA_PUT, table, row);
}

uint64_t
metadata_remove(struct metadata *metadata, enum metadata_table table, const void *row)
{
    return append(metadata, METADATA_REMOVE, table, row);
}

uint64_t
metadata_last(struct metadata *metadata)
{
    uint64_t last;

    pthread_mutex_lock(&metadata->mutex);
    last = metadata->last;
    pthread_mutex_unlock(&metadata->mutex);
    return last;
}

uint64_t
metadata_committed(const struct metadata *metadata)
{
    return atomic_load_explicit(&metadata->committed, memory_order_acquire);
}

/* --- listeners ------------------------------------------------------------------------- */

/* On the listener's worker. What is committed from here on is worth another call. */
static void
run_call(struct worker_call *call)
{
    struct listener *listener = container_of(call, struct listener, call);

    atomic_store(&listener->is_under_way, false);
    listener->committed(listener->arg, atomic_load(&listener->metadata->committed));
}

void
metadata_listen(struct metadata *metadata, struct worker *worker, metadata_committed_fn *committed,
                void *arg)
{
    struct listener *listener = &metadata->listeners[metadata->n_listeners++];

    assert(!metadata->is_running && metadata->n_listeners <= LISTENERS_MAX);
    listener->call.run = run_call;
    listener->metadata = metadata;
    listener->worker = worker;
    listener->committed = committed;
    listener->arg = arg;
    atomic_init(&listener->is_under_way, false);
}

static void
tell_listeners(struct metadata *metadata)
{
    for (unsigned i = 0; i < metadata->n_listeners; i++) {
        struct listener *listener = &metadata->listeners[i];

        if (!atomic_exchange(&listener->is_under_way, true))
            worker_call_from_outside(listener->worker, &listener->call);
    }
}

/* --- the writer ------------------------------------------------------------------------ */

/* All that waits; unless an earlier lot could not be committed, which comes first. */
static void
take(struct metadata *metadata)
{
    struct buf empty = metadata->taken;

    if (metadata->taken.len > 0)
        return;
    metadata->taken = metadata->waiting;
    metadata->taken_last = metadata->last;
    metadata->waiting = empty;
}

static bool
commit_taken(struct metadata *metadata, struct err *err)
{
    enum { ROOM_KEPT = 1 << 20 };

    if (!metadata_db_commit(metadata->db, buf_view(&metadata->taken), metadata->taken_last, err))
        return false;
    atomic_store_explicit(&metadata->committed, metadata->taken_last, memory_order_release);
    buf_clear(&metadata->taken);
    if (metadata->taken.size > ROOM_KEPT) {
        buf_fini(&metadata->taken);
        buf_init(&metadata->taken, SIZE_MAX / 2);
    }
    return true;
}

bool
metadata_commit(struct metadata *metadata, struct err *err)
{
    assert(!metadata->is_running);
    do {
        take(metadata);
        if (metadata->taken.len > 0 && !commit_taken(metadata, err))
            return false;
    } while (metadata->waiting.len > 0);
    return true;
}

static struct timespec
time_in_ms(uint64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

/* Mutex held. A second, or until the end. */
static void
wait_to_retry(struct metadata *metadata)
{
    struct timespec until = time_in_ms(RETRY_MS);

    while (!metadata->is_ending &&
           pthread_cond_timedwait(&metadata->wake, &metadata->mutex, &until) != ETIMEDOUT)
        ;
}

static void
tell_trouble(struct metadata *metadata, const struct err *why)
{
    if (metadata->ops != NULL)
        metadata->ops->trouble(metadata->ops_arg, why);
}

/* Until the end, when what waits gets one more try. */
static void *
run_writer(void *arg)
{
    struct metadata *metadata = arg;
    bool is_in_trouble = false, ok = true;
    struct err err;

    pthread_mutex_lock(&metadata->mutex);
    for (;;) {
        while (metadata->waiting.len == 0 && metadata->taken.len == 0 && !metadata->is_ending)
            pthread_cond_wait(&metadata->wake, &metadata->mutex);
        take(metadata);
        if (metadata->taken.len == 0)
            break;
        pthread_mutex_unlock(&metadata->mutex);
        ok = commit_taken(metadata, &err);
        if (ok)
            tell_listeners(metadata);
        if (ok == is_in_trouble) {
            is_in_trouble = !ok;
            tell_trouble(metadata, ok ? NULL : &err);
        }
        pthread_mutex_lock(&metadata->mutex);
        pthread_cond_broadcast(&metadata->settled);
        if (!ok && metadata->is_ending)
            break;
        if (!ok)
            wait_to_retry(metadata);
    }
    pthread_mutex_unlock(&metadata->mutex);
    return NULL;
}

bool
metadata_settle(struct metadata *metadata, uint64_t patience_ms, struct err *err)
{
    struct timespec until = time_in_ms(patience_ms);
    uint64_t ticket;
    bool is_safe;

    if (!metadata->is_running)
        return metadata_commit(metadata, err);
    pthread_mutex_lock(&metadata->mutex);
    ticket = metadata->last;
    while (!(is_safe = metadata_committed(metadata) >= ticket) &&
           pthread_cond_timedwait(&metadata->settled, &metadata->mutex, &until) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&metadata->mutex);
    return is_safe ||
           err_set(err, INTERNAL_ERROR, "definitions cannot be written to disk at the moment");
}

bool
metadata_start(struct metadata *metadata, struct err *err)
{
    sigset_t all, before;
    int error;

    assert(!metadata->is_running);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&metadata->thread, NULL, run_writer, metadata);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return err_set(err, INTERNAL_ERROR, "metadata thread: %s", strerror(error));
    metadata->is_running = true;
    pthread_setname_np(metadata->thread, "metadata");
    return true;
}

bool
metadata_stop(struct metadata *metadata, struct err *err)
{
    if (!metadata->is_running)
        return true;
    pthread_mutex_lock(&metadata->mutex);
    metadata->is_ending = true;
    pthread_cond_signal(&metadata->wake);
    pthread_mutex_unlock(&metadata->mutex);
    pthread_join(metadata->thread, NULL);
    metadata->is_running = false;
    metadata->is_ending = false;
    if (metadata_committed(metadata) == metadata->last)
        return true;
    return err_set(err, INTERNAL_ERROR, "%llu changes of definitions could not be written",
                   (unsigned long long)(metadata->last - metadata_committed(metadata)));
}
