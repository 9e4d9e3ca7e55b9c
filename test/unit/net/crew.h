/*
 * crew: running workers for a test, and the means to do things on their threads.
 *
 * The main thread asks and waits, always with a deadline; what runs on a worker checks with
 * assert, since cmocka's own assertions jump and may do so on the main thread only.
 */
#ifndef TEST_NET_CREW_H
#define TEST_NET_CREW_H

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "lepus/net/worker.h"

enum { CREW_MAX = 4, DEADLINE_S = 60 };

struct crew {
    struct worker_set *set;
    unsigned count;
    sem_t told;
    void (*mail)(struct crew *crew, unsigned at, unsigned from, const void *record, size_t size);
    struct seat {
        struct crew *crew;
        struct worker *worker;
    } seats[CREW_MAX];
};

struct errand {
    void (*run)(void *arg);
    void *arg;
    sem_t *done; /* or NULL */
};

static void
crew_on_mail(void *arg, unsigned from, const void *record, size_t size)
{
    const struct seat *seat = arg;

    assert(worker_is_here(seat->worker));
    assert((uintptr_t)record % 8 == 0);
    if (from == WORKER_OUTSIDE) {
        struct errand errand;

        assert(size == sizeof(errand));
        memcpy(&errand, record, sizeof(errand));
        errand.run(errand.arg);
        if (errand.done != NULL)
            sem_post(errand.done);
        return;
    }
    seat->crew->mail(seat->crew, worker_index(seat->worker), from, record, size);
}

static inline void
crew_init(struct crew *crew, unsigned count)
{
    static const struct worker_ops ops = {.mail = crew_on_mail};
    struct err err;

    *crew = (struct crew){.count = count};
    sem_init(&crew->told, 0, 0);
    crew->set = worker_set_new(count, &err);
    assert(crew->set != NULL);
    for (unsigned i = 0; i < count; i++) {
        crew->seats[i] = (struct seat){crew, worker_set_get(crew->set, i)};
        worker_set_ops(crew->seats[i].worker, &ops, &crew->seats[i]);
    }
}

static inline void
crew_start(struct crew *crew)
{
    struct err err;
    bool ok = worker_set_start(crew->set, &err);

    assert(ok);
}

static inline void
crew_fini(struct crew *crew)
{
    worker_set_stop(crew->set);
    worker_set_free(crew->set);
    sem_destroy(&crew->told);
}

static inline struct worker *
crew_worker(struct crew *crew, unsigned i)
{
    return crew->seats[i].worker;
}

static inline void
tell(sem_t *sem)
{
    sem_post(sem);
}

static inline void
await(sem_t *sem)
{
    struct timespec until;
    int rc;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_S;
    do
        rc = sem_timedwait(sem, &until);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        fprintf(stderr, "waited %d s in vain\n", DEADLINE_S);
        abort();
    }
}

static inline void
crew_send(struct crew *crew, unsigned to, void (*run)(void *), void *arg)
{
    struct errand errand = {run, arg, NULL};

    worker_mail_from_outside(crew_worker(crew, to), &errand, sizeof(errand));
}

/* Runs it on that worker's thread and waits until it has. */
static inline void
crew_do(struct crew *crew, unsigned at, void (*run)(void *), void *arg)
{
    sem_t done;
    struct errand errand = {run, arg, &done};

    sem_init(&done, 0, 0);
    worker_mail_from_outside(crew_worker(crew, at), &errand, sizeof(errand));
    await(&done);
    sem_destroy(&done);
}

#endif
