#include "lepus/store/disk.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lepus/base/mem.h"

struct disk {
    pthread_mutex_t lock; /* guards what is up to the next gap */
    pthread_cond_t wanted;
    struct list lanes[DISK_LANES];
    bool must_stop;

    struct worker *worker; /* NULL: none */
    const char *name;
    bool is_running; /* the thread is; main thread's to change */
    pthread_t thread;
    size_t pending; /* the worker's own */
};

static struct disk *
disk_of(struct disk_job *job)
{
    return job->disk;
}

struct disk *
disk_new(struct worker *worker, const char *name)
{
    struct disk *disk = mem_new(struct disk);

    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->wanted, NULL);
    for (int lane = 0; lane < DISK_LANES; lane++)
        list_init(&disk->lanes[lane]);
    disk->worker = worker;
    disk->name = name;
    return disk;
}

void
disk_free(struct disk *disk)
{
    if (disk == NULL)
        return;
    assert(!disk->is_running && disk->pending == 0);
    pthread_cond_destroy(&disk->wanted);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}

size_t
disk_pending(const struct disk *disk)
{
    return disk->pending;
}

static struct disk_job *
next_job(struct disk *disk)
{
    struct list *link;

    for (int lane = 0; lane < DISK_LANES; lane++)
        if ((link = list_take_first(&disk->lanes[lane])) != NULL)
            return container_of(link, struct disk_job, link);
    return NULL;
}

static void
finish(struct disk_job *job)
{
    disk_of(job)->pending--;
    job->done(job);
}

static void
on_call(struct worker_call *call)
{
    finish(container_of(call, struct disk_job, call));
}

void
disk_submit(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
    assert(disk->worker == NULL || worker_is_here(disk->worker));
    job->disk = disk;
    job->call.run = on_call;
    disk->pending++;
    pthread_mutex_lock(&disk->lock);
    list_append(&disk->lanes[lane], &job->link);
    pthread_cond_signal(&disk->wanted);
    pthread_mutex_unlock(&disk->lock);
}

bool
disk_step(struct disk *disk)
{
    struct disk_job *job;

    assert(!disk->is_running);
    job = next_job(disk);
    if (job == NULL)
        return false;
    job->run(job);
    finish(job);
    return true;
}

/* --- the thread ------------------------------------------------------------------------ */

static void *
run(void *arg)
{
    struct disk *disk = arg;
    struct disk_job *job;

    pthread_mutex_lock(&disk->lock);
    for (;;) {
        job = next_job(disk);
        if (job == NULL && disk->must_stop)
            break;
        if (job == NULL) {
            pthread_cond_wait(&disk->wanted, &disk->lock);
            continue;
        }
        pthread_mutex_unlock(&disk->lock);
        job->run(job);
        worker_call_from_outside(disk->worker, &job->call);
        pthread_mutex_lock(&disk->lock);
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

bool
disk_start(struct disk *disk, struct err *err)
{
    sigset_t all, old;
    int rc;

    assert(!disk->is_running && disk->worker != NULL);
    disk->must_stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&disk->thread, NULL, run, disk);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return err_set(err, INTERNAL_ERROR, "thread of a disk: %s", strerror(rc));
    pthread_setname_np(disk->thread, disk->name);
    disk->is_running = true;
    return true;
}

void
disk_stop(struct disk *disk)
{
    if (!disk->is_running)
        return;
    pthread_mutex_lock(&disk->lock);
    disk->must_stop = true;
    pthread_cond_signal(&disk->wanted);
    pthread_mutex_unlock(&disk->lock);
    pthread_join(disk->thread, NULL);
    disk->is_running = false;
    worker_run_calls(disk->worker);
}
