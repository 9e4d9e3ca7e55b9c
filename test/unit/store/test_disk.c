#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "../net/crew.h"
#include "lepus/store/disk.h"

enum { LOG_MAX = 64, MANY = 2000 };

/* What ran and what was done, in order: capital letters and small ones. */
struct story {
    char text[LOG_MAX + 1];
    size_t n;
};

struct letter {
    struct disk_job job;
    struct story *story;
    char name;
    struct letter *then; /* submitted by its done */
};

static void
write_down(struct story *story, char c)
{
    assert(story->n < LOG_MAX);
    story->text[story->n++] = c;
}

static void
run_letter(struct disk_job *job)
{
    struct letter *l = container_of(job, struct letter, job);

    write_down(l->story, l->name);
}

static void
done_letter(struct disk_job *job)
{
    struct letter *l = container_of(job, struct letter, job);

    write_down(l->story, (char)(l->name - 'A' + 'a'));
    if (l->then != NULL)
        disk_submit(job->disk, DISK_LATER, &l->then->job);
    free(l);
}

static struct letter *
letter_new(struct story *story, char name)
{
    struct letter *l = mem_new(struct letter);

    l->job.run = run_letter;
    l->job.done = done_letter;
    l->story = story;
    l->name = name;
    return l;
}

static void
lanes_are_served_in_order(void **state)
{
    struct disk *disk = disk_new(NULL, "disk");
    struct story story = {0};
    struct letter *a = letter_new(&story, 'A');

    (void)state;
    a->then = letter_new(&story, 'B');
    disk_submit(disk, DISK_LATER, &a->job);
    disk_submit(disk, DISK_LATER, &letter_new(&story, 'C')->job);
    disk_submit(disk, DISK_FIRST, &letter_new(&story, 'D')->job);
    disk_submit(disk, DISK_FIRST, &letter_new(&story, 'E')->job);
    assert_int_equal(disk_pending(disk), 4);
    assert_int_equal(story.n, 0); /* nothing by itself */
    assert_true(disk_step(disk));
    assert_string_equal(story.text, "Dd");
    disk_submit(disk, DISK_FIRST, &letter_new(&story, 'F')->job);
    while (disk_step(disk))
        ;
    assert_string_equal(story.text, "DdEeFfAaCcBb");
    assert_int_equal(disk_pending(disk), 0);
    assert_false(disk_step(disk));
    disk_free(disk);
    disk_free(NULL);
}

/* --- with its thread ------------------------------------------------------------------- */

struct shop {
    struct crew crew;
    struct disk *disk;
    _Atomic bool may_go; /* what runs on the disk waits for it */
    struct counted {
        struct disk_job job;
        struct shop *shop;
        unsigned number;
        enum disk_lane lane;
    } jobs[MANY];
    pthread_t main, worker;
    bool is_manual;
    unsigned submitted, done[DISK_LANES]; /* the worker's */
    _Atomic unsigned ran[DISK_LANES];     /* the disk's, and read when it has ended */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void
run_counted(struct disk_job *job)
{
    struct counted *c = container_of(job, struct counted, job);
    struct shop *shop = c->shop;
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (!shop->is_manual) {
        assert(!pthread_equal(pthread_self(), shop->main));
        assert(!pthread_equal(pthread_self(), shop->worker));
        assert(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGHUP));
    }
    pthread_mutex_lock(&shop->lock);
    while (!shop->may_go)
        pthread_cond_wait(&shop->changed, &shop->lock);
    pthread_mutex_unlock(&shop->lock);
    assert(c->number / DISK_LANES == shop->ran[c->lane]); /* in order within a lane */
    shop->ran[c->lane]++;
}

static void
done_counted(struct disk_job *job)
{
    struct counted *c = container_of(job, struct counted, job);
    struct shop *shop = c->shop;

    assert(worker_is_here(crew_worker(&shop->crew, 0)));
    assert(c->number / DISK_LANES == shop->done[c->lane]);
    shop->done[c->lane]++;
    if (shop->done[DISK_FIRST] + shop->done[DISK_LATER] == MANY)
        tell(&shop->crew.told);
}

static void
submit_hundred(void *arg)
{
    struct shop *shop = arg;

    if (shop->submitted == 0)
        shop->worker = pthread_self();
    for (unsigned i = 0; i < 100 && shop->submitted < MANY; i++) {
        struct counted *c = &shop->jobs[shop->submitted];

        c->shop = shop;
        c->number = shop->submitted++;
        c->lane = c->number % DISK_LANES;
        c->job.run = run_counted;
        c->job.done = done_counted;
        disk_submit(shop->disk, c->lane, &c->job);
    }
}

static void
let_go(struct shop *shop)
{
    pthread_mutex_lock(&shop->lock);
    shop->may_go = true;
    pthread_cond_signal(&shop->changed);
    pthread_mutex_unlock(&shop->lock);
}

static struct shop *
shop_open(void)
{
    struct shop *shop = mem_new(struct shop);
    struct err err;

    shop->main = pthread_self();
    crew_init(&shop->crew, 1);
    pthread_mutex_init(&shop->lock, NULL);
    pthread_cond_init(&shop->changed, NULL);
    shop->disk = disk_new(crew_worker(&shop->crew, 0), "disk");
    assert_true(disk_start(shop->disk, &err));
    crew_start(&shop->crew);
    return shop;
}

static void
shop_close(struct shop *shop)
{
    assert_int_equal(disk_pending(shop->disk), 0);
    disk_free(shop->disk);
    pthread_cond_destroy(&shop->changed);
    pthread_mutex_destroy(&shop->lock);
    worker_set_free(shop->crew.set);
    sem_destroy(&shop->crew.told);
    free(shop);
}

static void
the_worker_is_told_in_order(void **state)
{
    struct shop *shop = shop_open();

    (void)state;
    shop->may_go = true;
    for (unsigned i = 0; i < MANY / 100; i++)
        crew_send(&shop->crew, 0, submit_hundred, shop);
    await(&shop->crew.told);
    worker_set_stop(shop->crew.set);
    disk_stop(shop->disk);
    assert_int_equal(shop->ran[DISK_FIRST] + shop->ran[DISK_LATER], MANY);
    shop_close(shop);
}

static void
what_is_left_at_the_stop_is_run_and_told(void **state)
{
    struct shop *shop = shop_open();

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        crew_do(&shop->crew, 0, submit_hundred, shop);
    worker_set_stop(shop->crew.set); /* the disk is in its first job still */
    assert_int_equal(disk_pending(shop->disk), 300);
    let_go(shop);
    disk_stop(shop->disk);
    assert_int_equal(shop->done[DISK_FIRST] + shop->done[DISK_LATER], 300);
    shop->is_manual = true; /* from here on */
    submit_hundred(shop);
    assert_int_equal(disk_pending(shop->disk), 100);
    while (disk_step(shop->disk))
        ;
    shop_close(shop);
}

static void
a_disk_that_was_not_started_is_manual(void **state)
{
    struct shop *shop = mem_new(struct shop);

    (void)state;
    crew_init(&shop->crew, 1);
    shop->disk = disk_new(crew_worker(&shop->crew, 0), "disk");
    shop->may_go = true;
    disk_stop(shop->disk);
    disk_submit(shop->disk, DISK_FIRST, &letter_new(&(struct story){0}, 'A')->job);
    assert_true(disk_step(shop->disk));
    disk_free(shop->disk);
    crew_fini(&shop->crew);
    free(shop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_served_in_order),
        cmocka_unit_test(the_worker_is_told_in_order),
        cmocka_unit_test(what_is_left_at_the_stop_is_run_and_told),
        cmocka_unit_test(a_disk_that_was_not_started_is_manual),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
