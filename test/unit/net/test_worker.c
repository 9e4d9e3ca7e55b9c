#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "lepus/base/clock.h"
#include "lepus/net/worker.h"

#include "crew.h"

/* --- mail -------------------------------------------------------------------------------- */

enum { FLOOD_RECORDS = 20000 };

struct flood_record {
    uint64_t seq, size, sum;
    uint8_t bytes[];
};

struct flood {
    struct crew crew;
    struct flooder {
        struct flood *flood;
        struct worker *worker;
        struct worker_task send;
        struct random random;
        uint64_t sent[CREW_MAX], seen[CREW_MAX];
        unsigned full_from; /* peers that have sent all */
    } flooders[CREW_MAX];
};

static uint64_t
sum_of(const uint8_t *at, size_t n, uint64_t seq)
{
    uint64_t sum = seq;

    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + at[i];
    return sum;
}

static size_t
flood_size(struct random *random)
{
    switch (random_below(random, 2000)) {
    case 0:
        return random_below(random, 300 * 1024); /* larger than a batch, most of them */
    case 1:
    case 2:
    case 3:
    case 4:
        return random_below(random, 64 * 1024);
    default:
        return random_below(random, 200);
    }
}

static void
flood_one(struct flooder *f, unsigned to)
{
    size_t size = flood_size(&f->random);
    struct flood_record *record = worker_mail(f->worker, to, sizeof(*record) + size);

    assert((uintptr_t)record % 8 == 0);
    record->seq = f->sent[to]++;
    record->size = size;
    memset(record->bytes, (int)(record->seq & 0xFF), size);
    record->sum = sum_of(record->bytes, size, record->seq);
}

static void
flood_on(void *arg)
{
    struct flooder *f = arg;
    unsigned count = worker_count(f->worker), self = worker_index(f->worker);
    bool has_more = false;

    for (unsigned to = 0; to < count; to++) {
        size_t n = 1 + random_below(&f->random, 100);

        for (; to != self && n > 0 && f->sent[to] < FLOOD_RECORDS; n--)
            flood_one(f, to);
        has_more = has_more || (to != self && f->sent[to] < FLOOD_RECORDS);
    }
    if (has_more)
        worker_when_clear(f->worker, &f->send);
}

static void
flood_mail(struct crew *crew, unsigned at, unsigned from, const void *arg, size_t size)
{
    struct flood *flood = container_of(crew, struct flood, crew);
    struct flooder *f = &flood->flooders[at];
    const struct flood_record *record = arg;

    assert(size == sizeof(*record) + record->size);
    assert(record->seq == f->seen[from]);
    assert(record->sum == sum_of(record->bytes, record->size, record->seq));
    if (++f->seen[from] == FLOOD_RECORDS && ++f->full_from == crew->count - 1)
        tell(&crew->told);
}

static void
mail_of_each_pair_keeps_its_order(void **state)
{
    struct flood *flood = mem_new(struct flood);

    (void)state;
    crew_init(&flood->crew, CREW_MAX);
    flood->crew.mail = flood_mail;
    for (unsigned i = 0; i < CREW_MAX; i++) {
        struct flooder *f = &flood->flooders[i];

        f->flood = flood;
        f->worker = crew_worker(&flood->crew, i);
        f->send = (struct worker_task){.run = flood_on, .arg = f};
        f->random.state = i + 1;
        worker_schedule(f->worker, WORKER_AGAIN, &f->send); /* before the start: ours to do */
    }
    crew_start(&flood->crew);
    for (unsigned i = 0; i < CREW_MAX; i++)
        await(&flood->crew.told);
    crew_fini(&flood->crew);
    free(flood);
}

enum { PINGS = 200 * 1000 };

struct pings {
    struct crew crew;
    uint64_t next; /* the two take turns, and hand it on with the mail */
};

static void
ping(struct pings *pings, unsigned from, unsigned to)
{
    uint64_t *record = worker_mail(crew_worker(&pings->crew, from), to, sizeof(*record));

    *record = ++pings->next;
}

static void
ping_mail(struct crew *crew, unsigned at, unsigned from, const void *record, size_t size)
{
    struct pings *pings = container_of(crew, struct pings, crew);

    assert(size == sizeof(uint64_t));
    assert(*(const uint64_t *)record == pings->next);
    if (pings->next == PINGS)
        tell(&crew->told);
    else
        ping(pings, at, from);
}

static void
no_wake_is_lost(void **state)
{
    struct pings pings = {.next = 0};

    (void)state;
    crew_init(&pings.crew, 2);
    pings.crew.mail = ping_mail;
    ping(&pings, 0, 1);
    crew_start(&pings.crew);
    await(&pings.crew.told);
    crew_fini(&pings.crew);
}

struct jam {
    struct crew crew;
    struct worker_task send, cleared;
    sem_t is_held, let_go, is_jammed;
    size_t record_size;
    uint64_t sent, seen;
    bool is_cleared;
};

static void
jam_hold(void *arg)
{
    struct jam *jam = arg;

    tell(&jam->is_held);
    await(&jam->let_go);
}

/* One record a turn, so that batches are as empty as they may be. */
static void
jam_send(void *arg)
{
    struct jam *jam = arg;
    struct worker *worker = crew_worker(&jam->crew, 0);

    if (worker_is_congested(worker)) {
        worker_when_clear(worker, &jam->cleared);
        tell(&jam->is_jammed);
        return;
    }
    assert(jam->sent * jam->record_size <= MAIL_OUTSTANDING_MAX);
    memset(worker_mail(worker, 1, jam->record_size), 7, jam->record_size);
    jam->sent++;
    worker_schedule(worker, WORKER_AGAIN, &jam->send);
}

static void
jam_cleared(void *arg)
{
    struct jam *jam = arg;

    assert(!worker_is_congested(crew_worker(&jam->crew, 0)));
    jam->is_cleared = true;
    tell(&jam->crew.told);
}

static void
jam_look(void *arg)
{
    struct jam *jam = arg;

    assert(worker_is_congested(crew_worker(&jam->crew, 0)));
    assert(!jam->is_cleared);
}

static void
jam_mail(struct crew *crew, unsigned at, unsigned from, const void *record, size_t size)
{
    struct jam *jam = container_of(crew, struct jam, crew);

    assert(at == 1 && from == 0 && size == jam->record_size);
    assert(((const uint8_t *)record)[size - 1] == 7);
    jam->seen++;
}

static void
jam_with(size_t record_size, uint64_t at_most)
{
    struct jam jam = {.record_size = record_size};

    jam.send = (struct worker_task){.run = jam_send, .arg = &jam};
    jam.cleared = (struct worker_task){.run = jam_cleared, .arg = &jam};
    sem_init(&jam.is_held, 0, 0);
    sem_init(&jam.let_go, 0, 0);
    sem_init(&jam.is_jammed, 0, 0);
    crew_init(&jam.crew, 2);
    jam.crew.mail = jam_mail;
    crew_start(&jam.crew);
    crew_send(&jam.crew, 1, jam_hold, &jam);
    await(&jam.is_held);
    crew_do(&jam.crew, 0, jam_send, &jam);
    await(&jam.is_jammed);
    crew_do(&jam.crew, 0, jam_look, &jam); /* it has to be told so by a sleeping peer's mail */
    crew_do(&jam.crew, 0, jam_look, &jam);
    tell(&jam.let_go);
    await(&jam.crew.told);
    crew_fini(&jam.crew);
    assert_true(jam.sent <= at_most);
    assert_true(jam.seen >= 1 && jam.seen <= jam.sent);
    sem_destroy(&jam.is_held);
    sem_destroy(&jam.let_go);
    sem_destroy(&jam.is_jammed);
}

static void
congestion_comes_and_clears(void **state)
{
    (void)state;
    jam_with(100 * 1024, MAIL_OUTSTANDING_MAX / (100 * 1024) + 1);
}

static void
small_records_in_many_batches_congest_too(void **state)
{
    (void)state;
    jam_with(8, MAIL_OUTSTANDING_MAX / 4096 + 2); /* the first turn sends two */
}

static void
clear_at_once_is_next_turn(void *arg)
{
    struct jam *jam = arg;

    worker_when_clear(crew_worker(&jam->crew, 0), &jam->cleared);
    assert(!jam->is_cleared);
}

static void
when_clear_runs_without_congestion(void **state)
{
    struct jam jam = {.record_size = 8};

    (void)state;
    jam.cleared = (struct worker_task){.run = jam_cleared, .arg = &jam};
    crew_init(&jam.crew, 1);
    crew_start(&jam.crew);
    crew_do(&jam.crew, 0, clear_at_once_is_next_turn, &jam);
    await(&jam.crew.told);
    crew_fini(&jam.crew);
}

enum { OUTSIDERS = 4, OUTSIDE_RECORDS = 10000 };

struct outside {
    struct crew crew;
    uint64_t seen;
};

static void
outside_count(void *arg)
{
    struct outside *outside = arg;

    if (++outside->seen == OUTSIDERS * OUTSIDE_RECORDS)
        tell(&outside->crew.told);
}

static void *
outside_run(void *arg)
{
    struct outside *outside = arg;

    for (int i = 0; i < OUTSIDE_RECORDS; i++)
        crew_send(&outside->crew, 0, outside_count, outside);
    return NULL;
}

static void
any_thread_may_mail_from_outside(void **state)
{
    struct outside outside = {.seen = 0};
    pthread_t threads[OUTSIDERS];

    (void)state;
    crew_init(&outside.crew, 1);
    for (int i = 0; i < OUTSIDERS; i++)
        pthread_create(&threads[i], NULL, outside_run, &outside);
    crew_start(&outside.crew); /* some of it came before */
    await(&outside.crew.told);
    for (int i = 0; i < OUTSIDERS; i++)
        pthread_join(threads[i], NULL);
    crew_fini(&outside.crew);
}

static void
mail_in_every_place(void *arg)
{
    struct crew *crew = arg;

    memset(worker_mail(crew_worker(crew, 0), 1, 100), 1, 100);
    memset(worker_mail(crew_worker(crew, 0), 1, 1 << 20), 1, 1 << 20);
    worker_mail(crew_worker(crew, 0), 2, 0);
}

static void
mail_under_way_is_freed_at_the_end(void **state) /* the sanitizer counts */
{
    struct crew crew;

    (void)state;
    crew_init(&crew, 3);
    mail_in_every_place(&crew);
    crew_send(&crew, 0, mail_in_every_place, &crew);
    crew_fini(&crew);
}

/* --- tasks ------------------------------------------------------------------------------- */

struct steps {
    struct crew crew;
    struct worker *worker;
    char log[64];
    size_t n;
    struct step {
        struct steps *steps;
        struct worker_task task;
        char letter;
        enum worker_phase then_phase;
        struct step *then; /* what it schedules */
        struct step *cancels;
        bool is_last;
    } steps_[10];
};

static void
note(struct steps *steps, char letter)
{
    assert(steps->n + 1 < sizeof(steps->log));
    steps->log[steps->n++] = letter;
}

static void
step_run(void *arg)
{
    struct step *step = arg;

    note(step->steps, step->letter);
    if (step->then != NULL)
        worker_schedule(step->steps->worker, step->then_phase, &step->then->task);
    if (step->cancels != NULL)
        worker_task_cancel(&step->cancels->task);
    if (step->is_last)
        tell(&step->steps->crew.told);
}

static void
steps_init(struct steps *steps)
{
    *steps = (struct steps){.n = 0};
    crew_init(&steps->crew, 1);
    steps->worker = crew_worker(&steps->crew, 0);
    for (size_t i = 0; i < COUNT_OF(steps->steps_); i++) {
        struct step *step = &steps->steps_[i];

        *step = (struct step){.steps = steps, .letter = (char)('a' + i)};
        step->task = (struct worker_task){.run = step_run, .arg = step};
    }
}

static void
reap_note(void *arg)
{
    note(arg, 'R');
}

static void
reap_more(void *arg)
{
    struct steps *steps = arg;

    note(steps, 'r');
    worker_reap(steps->worker, reap_note, steps);
}

static void
phases_begin(void *arg)
{
    struct steps *steps = arg;
    struct step *s = steps->steps_;

    worker_reap(steps->worker, reap_more, steps);
    worker_schedule(steps->worker, WORKER_FLUSH, &s[0].task);
    worker_schedule(steps->worker, WORKER_GATHER, &s[1].task);
    worker_schedule(steps->worker, WORKER_AGAIN, &s[2].task);
    worker_schedule(steps->worker, WORKER_AGAIN, &s[2].task); /* is scheduled: no change */
    worker_schedule(steps->worker, WORKER_FLUSH, &s[2].task);
    s[2].then = &s[3]; /* c: AGAIN, asks for d there: next turn */
    s[2].then_phase = WORKER_AGAIN;
    s[1].then = &s[4]; /* b: GATHER, asks for e there: this turn */
    s[1].then_phase = WORKER_GATHER;
    s[0].then = &s[5]; /* a: FLUSH, asks for f there: next turn, behind d */
    s[0].then_phase = WORKER_FLUSH;
    s[5].is_last = true;
}

static void
phases_come_in_order(void **state)
{
    struct steps steps;

    (void)state;
    steps_init(&steps);
    crew_start(&steps.crew);
    crew_do(&steps.crew, 0, phases_begin, &steps);
    await(&steps.crew.told);
    crew_fini(&steps.crew);
    assert_string_equal(steps.log, "cbearRdf");
}

static void
cancel_begin(void *arg)
{
    struct steps *steps = arg;
    struct step *s = steps->steps_;

    worker_task_cancel(&s[0].task); /* never scheduled: fine */
    for (int i = 0; i < 4; i++)
        worker_schedule(steps->worker, WORKER_AGAIN, &s[i].task);
    s[0].cancels = &s[2]; /* one that runs in the same phase */
    s[1].cancels = &s[0]; /* one that has run */
    s[3].is_last = true;
}

static void
cancelled_tasks_do_not_run(void **state)
{
    struct steps steps;

    (void)state;
    steps_init(&steps);
    crew_start(&steps.crew);
    crew_do(&steps.crew, 0, cancel_begin, &steps);
    await(&steps.crew.told);
    crew_fini(&steps.crew);
    assert_string_equal(steps.log, "abd");
}

struct busy {
    struct crew crew;
    struct worker_task again, flush;
    struct worker_timer timer;
    uint64_t turns;
};

static void
busy_run(void *arg)
{
    struct busy *busy = arg;

    busy->turns++;
    worker_schedule(crew_worker(&busy->crew, 0), WORKER_AGAIN, &busy->again);
    worker_schedule(crew_worker(&busy->crew, 0), WORKER_FLUSH, &busy->flush);
}

static void
busy_flush(void *arg)
{
    (void)arg;
}

static void
busy_fire(void *arg)
{
    struct busy *busy = arg;

    tell(&busy->crew.told);
}

static void
busy_begin(void *arg)
{
    struct busy *busy = arg;

    worker_timer_set(crew_worker(&busy->crew, 0), &busy->timer, 20);
    busy_run(busy);
}

static void
busy_end(void *arg)
{
    struct busy *busy = arg;

    worker_timer_cancel(&busy->timer);
    assert(busy->turns > 2);
}

static void
a_task_that_comes_back_keeps_nobody_out(void **state)
{
    struct busy busy = {.turns = 0};

    (void)state;
    busy.again = (struct worker_task){.run = busy_run, .arg = &busy};
    busy.flush = (struct worker_task){.run = busy_flush, .arg = &busy};
    busy.timer = (struct worker_timer){.fire = busy_fire, .arg = &busy};
    crew_init(&busy.crew, 1);
    crew_start(&busy.crew);
    crew_do(&busy.crew, 0, busy_begin, &busy);
    await(&busy.crew.told);                  /* timers are heard */
    crew_do(&busy.crew, 0, busy_end, &busy); /* and mail */
    crew_fini(&busy.crew);
}

static void
the_reaper_comes_after_the_stop_too(void **state)
{
    struct steps steps;

    (void)state;
    steps_init(&steps);
    crew_start(&steps.crew);
    worker_set_stop(steps.crew.set);
    assert_true(worker_is_here(steps.worker));
    worker_reap(steps.worker, reap_more, &steps);
    assert_string_equal(steps.log, "");
    crew_fini(&steps.crew);
    assert_string_equal(steps.log, "rR");
}

static void
look_who_is_here(void *arg)
{
    struct crew *crew = arg;

    assert(worker_is_here(crew_worker(crew, 0)));
    assert(!worker_is_here(crew_worker(crew, 1)));
}

static void
each_thread_is_at_home_on_its_worker(void **state)
{
    struct crew crew;

    (void)state;
    crew_init(&crew, 2);
    assert_true(worker_is_here(crew_worker(&crew, 0)));
    assert_true(worker_is_here(crew_worker(&crew, 1)));
    crew_start(&crew);
    assert_false(worker_is_here(crew_worker(&crew, 0)));
    crew_do(&crew, 0, look_who_is_here, &crew);
    worker_set_stop(crew.set);
    assert_true(worker_is_here(crew_worker(&crew, 0)));
    crew_start(&crew); /* and once more */
    crew_do(&crew, 0, look_who_is_here, &crew);
    crew_fini(&crew);
}

/* --- timers ------------------------------------------------------------------------------ */

struct clocks {
    struct crew crew;
    struct worker *worker;
    struct alarm_ {
        struct clocks *clocks;
        struct worker_timer timer;
        uint64_t due_ms;
        int number;
        unsigned fired;
    } alarms[6];
    int order[8];
    size_t n;
    double cpu_s;
};

static void
alarm_set(struct alarm_ *alarm, uint64_t in_ms)
{
    alarm->due_ms = worker_now_ms(alarm->clocks->worker) + in_ms;
    worker_timer_set(alarm->clocks->worker, &alarm->timer, in_ms);
}

static void
alarm_fire(void *arg)
{
    struct alarm_ *alarm = arg;
    struct clocks *clocks = alarm->clocks;

    assert(worker_now_ms(clocks->worker) >= alarm->due_ms);
    assert(clock_now_ms() >= alarm->due_ms);
    clocks->order[clocks->n++] = alarm->number;
    if (++alarm->fired == 1 && alarm->number == 0)
        alarm_set(alarm, 60); /* from within */
    if (alarm->number == 1)
        worker_timer_cancel(&clocks->alarms[3].timer); /* that would follow */
    if (alarm->number == 4)
        worker_timer_cancel(&alarm->timer); /* its own */
    if (alarm->number == 5)
        tell(&clocks->crew.told);
}

static void
clocks_begin(void *arg)
{
    struct clocks *clocks = arg;

    for (int i = 0; i < 6; i++) {
        struct alarm_ *alarm = &clocks->alarms[i];

        alarm->clocks = clocks;
        alarm->number = i;
        alarm->timer = (struct worker_timer){.fire = alarm_fire, .arg = alarm};
        worker_timer_cancel(&alarm->timer); /* is not set: fine */
    }
    alarm_set(&clocks->alarms[0], 0);
    alarm_set(&clocks->alarms[1], 30);
    alarm_set(&clocks->alarms[2], 5);
    alarm_set(&clocks->alarms[2], UINT64_MAX); /* anew: not at 5 */
    alarm_set(&clocks->alarms[3], 50);
    alarm_set(&clocks->alarms[4], 10);
    alarm_set(&clocks->alarms[5], 120);
}

static void
clocks_end(void *arg)
{
    struct clocks *clocks = arg;

    for (int i = 0; i < 6; i++)
        worker_timer_cancel(&clocks->alarms[i].timer);
}

static void
timers_fire_in_order_and_never_early(void **state)
{
    struct clocks clocks = {.n = 0};
    static const int expected[] = {0, 4, 1, 0, 5};

    (void)state;
    crew_init(&clocks.crew, 1);
    clocks.worker = crew_worker(&clocks.crew, 0);
    crew_start(&clocks.crew);
    crew_do(&clocks.crew, 0, clocks_begin, &clocks);
    await(&clocks.crew.told);
    crew_do(&clocks.crew, 0, clocks_end, &clocks);
    crew_fini(&clocks.crew);
    assert_int_equal(clocks.n, COUNT_OF(expected));
    assert_memory_equal(clocks.order, expected, sizeof(expected));
}

/* The event loop's own clock is coarse: one timer alone may well be lucky. */
static void
chain_fire(void *arg)
{
    struct alarm_ *alarm = arg;

    assert(worker_now_ms(alarm->clocks->worker) >= alarm->due_ms);
    if (++alarm->fired < 200) {
        alarm_set(alarm, 1 + alarm->fired % 3);
        return;
    }
    worker_timer_cancel(&alarm->timer);
    tell(&alarm->clocks->crew.told);
}

static void
chain_begin(void *arg)
{
    struct clocks *clocks = arg;
    struct alarm_ *alarm = &clocks->alarms[0];

    alarm->clocks = clocks;
    alarm->timer = (struct worker_timer){.fire = chain_fire, .arg = alarm};
    alarm_set(alarm, 1);
}

static void
short_timers_are_not_early_either(void **state)
{
    struct clocks clocks = {.n = 0};

    (void)state;
    crew_init(&clocks.crew, 1);
    clocks.worker = crew_worker(&clocks.crew, 0);
    crew_start(&clocks.crew);
    crew_do(&clocks.crew, 0, chain_begin, &clocks);
    await(&clocks.crew.told);
    crew_fini(&clocks.crew);
}

struct ringing {
    struct crew crew;
    struct worker_alarm alarm;
    uint64_t due_us;
    unsigned rung;
};

static void
ring_in(struct ringing *ringing, uint64_t in_us)
{
    ringing->due_us = clock_now_us() + in_us;
    assert(worker_alarm_set(crew_worker(&ringing->crew, 0), &ringing->alarm, in_us));
}

static void
ring(void *arg)
{
    struct ringing *ringing = arg;

    assert(clock_now_us() >= ringing->due_us);
    if (++ringing->rung < 100) {
        ring_in(ringing, 1 + ringing->rung * 7 % 300);
        return;
    }
    worker_alarm_end(&ringing->alarm);
    worker_alarm_end(&ringing->alarm);
    tell(&ringing->crew.told);
}

static void
ring_begin(void *arg)
{
    struct ringing *ringing = arg;

    worker_alarm_end(&ringing->alarm); /* was never set: fine */
    ring_in(ringing, 1);
    ring_in(ringing, 3000); /* anew: not after 1 */
}

static void
alarms_ring_once_a_set_and_never_early(void **state)
{
    struct ringing ringing = {.alarm = {.fire = ring, .arg = &ringing}};

    (void)state;
    crew_init(&ringing.crew, 1);
    crew_start(&ringing.crew);
    crew_do(&ringing.crew, 0, ring_begin, &ringing);
    await(&ringing.crew.told);
    crew_fini(&ringing.crew);
    assert_int_equal(ringing.rung, 100);
}

static double
thread_cpu_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
idle_over(void *arg)
{
    struct clocks *clocks = arg;

    clocks->cpu_s = thread_cpu_s() - clocks->cpu_s;
    worker_timer_cancel(&clocks->alarms[0].timer);
    tell(&clocks->crew.told);
}

static void
idle_begin(void *arg)
{
    struct clocks *clocks = arg;

    clocks->alarms[0].timer = (struct worker_timer){.fire = idle_over, .arg = clocks};
    worker_timer_set(clocks->worker, &clocks->alarms[0].timer, 300);
    clocks->cpu_s = thread_cpu_s();
}

static void
a_worker_without_work_sleeps(void **state)
{
    struct clocks clocks = {.n = 0};

    (void)state;
    crew_init(&clocks.crew, 1);
    clocks.worker = crew_worker(&clocks.crew, 0);
    crew_start(&clocks.crew);
    crew_do(&clocks.crew, 0, idle_begin, &clocks);
    await(&clocks.crew.told);
    crew_fini(&clocks.crew);
    assert_true(clocks.cpu_s < 0.02);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_of_each_pair_keeps_its_order),
        cmocka_unit_test(no_wake_is_lost),
        cmocka_unit_test(congestion_comes_and_clears),
        cmocka_unit_test(small_records_in_many_batches_congest_too),
        cmocka_unit_test(when_clear_runs_without_congestion),
        cmocka_unit_test(any_thread_may_mail_from_outside),
        cmocka_unit_test(mail_under_way_is_freed_at_the_end),
        cmocka_unit_test(phases_come_in_order),
        cmocka_unit_test(cancelled_tasks_do_not_run),
        cmocka_unit_test(a_task_that_comes_back_keeps_nobody_out),
        cmocka_unit_test(the_reaper_comes_after_the_stop_too),
        cmocka_unit_test(each_thread_is_at_home_on_its_worker),
        cmocka_unit_test(timers_fire_in_order_and_never_early),
        cmocka_unit_test(short_timers_are_not_early_either),
        cmocka_unit_test(alarms_ring_once_a_set_and_never_early),
        cmocka_unit_test(a_worker_without_work_sleeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
