/*
 * Streams on a worker, with disks that have threads of their own and real files: publishers, a
 * reader at the tail, readers that begin anywhere, retention, and a restart.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lepus/base/mem.h"
#include "lepus/stream/stream_offsets.h"
#include "lepus/stream/stream_reader.h"
#include "lepus/wire/octets.h"
#include "tmpdir.h"

enum { MESSAGES = 30000, EYES = 5, TURN = 37 };

struct stage {
    struct worker_set *set;
    struct worker *worker;
    struct disk *disk, *reads;
    struct stream_log *log;
    struct stream_offsets *offsets;
    struct worker_task publish;
    struct eye {
        struct stage *stage;
        struct stream_reader *reader;
        struct worker_task task;
        uint64_t next;
    } eyes[EYES];
    uint64_t appended, safe;
    unsigned left; /* readers that have not seen all */
    bool failed, is_done, may_fail;
    unsigned troubles, recoveries;
    pthread_mutex_t lock;
    pthread_cond_t done;
};

static void
finish(struct stage *s, bool failed)
{
    pthread_mutex_lock(&s->lock);
    s->failed |= failed;
    s->is_done = true;
    pthread_cond_signal(&s->done);
    pthread_mutex_unlock(&s->lock);
}

static void
on_safe(void *arg, uint64_t end)
{
    struct stage *s = arg;

    s->safe = end;
    if (end % 3 == 0)
        stream_log_retain(s->log);
}

static void
on_trouble(void *arg, const struct err *why)
{
    struct stage *s = arg;

    if (!s->may_fail)
        finish(s, true);
    s->troubles += why != NULL;
    s->recoveries += why == NULL;
}

/* A file system on which some syncs fail: every seventh, for a while. */
static _Atomic int syncs, failing;

static int
sync_badly(void *arg, int fd)
{
    if (atomic_load(&failing) > 0 && atomic_fetch_add(&syncs, 1) % 7 == 6) {
        atomic_fetch_sub(&failing, 1);
        return -EIO;
    }
    return file_posix.ops->sync(arg, fd);
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    (void)line;
    if (is_error)
        finish(arg, true);
}

static void
on_more(void *arg)
{
    struct eye *eye = arg;

    worker_schedule(eye->stage->worker, WORKER_AGAIN, &eye->task);
}

static void
on_damaged(void *arg, uint64_t first, uint64_t last, const struct err *why)
{
    struct eye *eye = arg;

    (void)first, (void)last, (void)why;
    finish(eye->stage, true);
}

static const struct stream_log_ops log_ops = {on_safe, on_trouble, on_tell};
static const struct stream_offsets_ops offsets_ops = {on_trouble};
static const struct stream_reader_ops reader_ops = {on_more, on_damaged};

static void
publish(void *arg)
{
    static const uint8_t no_properties[2];
    struct stage *s = arg;
    uint8_t body[300] = {0};
    uint64_t offset;

    for (unsigned i = 0; i < TURN && s->appended < MESSAGES; i++) {
        struct content c = {.exchange = VIEW_LIT("ex"),
                            .routing_key = VIEW_LIT("key"),
                            .properties = view_of(no_properties, 2),
                            .body = view_of(body, 8 + s->appended % 290)};

        be_put_u64(body, s->appended);
        if (!stream_log_append(s->log, &c, &offset) || offset != s->appended++)
            finish(s, true);
    }
    if (s->appended < MESSAGES)
        worker_schedule(s->worker, WORKER_AGAIN, &s->publish);
}

static void
look(void *arg)
{
    struct eye *eye = arg;
    struct stage *s = eye->stage;
    struct stream_message m;

    for (unsigned i = 0; i < 100; i++) {
        if (eye->next == MESSAGES) {
            if (--s->left == 0)
                finish(s, false);
            return;
        }
        if (stream_reader_next(eye->reader, &m) == STREAM_READ_WAIT)
            return;
        if (m.offset != eye->next++ || m.offset >= s->safe || be_u64(m.content.body.at) != m.offset)
            finish(s, true);
        if (m.offset % 100 == 0)
            stream_offsets_set(s->offsets, VIEW_LIT("group"), m.offset);
    }
    worker_schedule(s->worker, WORKER_AGAIN, &eye->task);
}

static void
open_stage(struct stage *s, const char *dir)
{
    static struct file_ops bad;
    struct file_system files = file_posix;
    struct err err = {0};
    struct stream_settings settings;
    struct stream_offsets_settings offsets;

    if (s->may_fail) {
        bad = *file_posix.ops;
        bad.sync = sync_badly;
        files.ops = &bad;
    }
    s->set = worker_set_new(1, &err);
    s->worker = worker_set_get(s->set, 0);
    s->disk = disk_new(s->worker, "disk");
    s->reads = disk_new(s->worker, "reads");
    settings = (struct stream_settings){.dir = dir,
                                        .stream = 3,
                                        .name = VIEW_LIT("s"),
                                        .files = files,
                                        .worker = s->worker,
                                        .disk = s->disk,
                                        .reads = s->reads,
                                        .epoch = 1,
                                        .segment_bytes = 500000};
    offsets = (struct stream_offsets_settings){
        .dir = dir, .stream = 3, .files = files, .worker = s->worker, .disk = s->disk};
    s->log = stream_log_new(&settings, &log_ops, s);
    s->offsets = stream_offsets_new(&offsets, &offsets_ops, s);
    if (!stream_log_recover(s->log, &err) || !stream_offsets_recover(s->offsets, &err))
        fail_msg("%s", err.text);
    s->appended = s->safe = stream_log_next(s->log);
    assert_true(disk_start(s->disk, &err) && disk_start(s->reads, &err));
}

static void
run(struct stage *s)
{
    struct timespec deadline;
    struct err err = {0};
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 60;
    s->is_done = false;
    assert_true(worker_set_start(s->set, &err));
    pthread_mutex_lock(&s->lock);
    while (!s->is_done && rc == 0)
        rc = pthread_cond_timedwait(&s->done, &s->lock, &deadline);
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(rc, 0);
    assert_false(s->failed);
    worker_set_stop(s->set);
}

static void
close_stage(struct stage *s, bool unlink)
{
    for (unsigned i = 0; i < EYES; i++)
        stream_reader_free(s->eyes[i].reader);
    stream_offsets_flush(s->offsets);
    disk_stop(s->disk);
    disk_stop(s->reads);
    stream_log_free(s->log, unlink);
    stream_offsets_free(s->offsets, unlink);
    while (disk_step(s->disk) || disk_step(s->reads))
        ;
    disk_free(s->disk);
    disk_free(s->reads);
    worker_set_free(s->set);
}

static void
open_eyes(struct stage *s)
{
    s->left = EYES;
    for (unsigned i = 0; i < EYES; i++) {
        struct eye *eye = &s->eyes[i];
        const struct stream_reader_settings settings = {.from = i == 0 ? STREAM_FROM_FIRST
                                                                       : STREAM_FROM_OFFSET,
                                                        .offset = s->appended * i / (EYES - 1)};

        eye->stage = s;
        eye->next = settings.offset;
        eye->task = (struct worker_task){.run = look, .arg = eye};
        eye->reader = stream_reader_new(s->log, &settings, &reader_ops, eye);
        worker_schedule(s->worker, WORKER_AGAIN, &eye->task);
    }
}

static void
everybody_sees_everything(void **state)
{
    static struct stage s = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    struct tmpdir dir;
    uint64_t offset;

    (void)state;
    tmpdir_init(&dir);
    open_stage(&s, dir.path);
    s.publish = (struct worker_task){.run = publish, .arg = &s};
    open_eyes(&s); /* all of them at the tail */
    worker_schedule(s.worker, WORKER_AGAIN, &s.publish);
    run(&s);
    assert_int_equal(s.safe, MESSAGES);
    assert_true(stream_log_segments(s.log) > 5);
    close_stage(&s, false);

    open_stage(&s, dir.path);
    assert_int_equal(s.safe, MESSAGES);
    assert_true(stream_offsets_get(s.offsets, VIEW_LIT("group"), &offset));
    assert_true(offset % 100 == 0 && offset < MESSAGES);
    open_eyes(&s); /* one here, one there; the last at the end */
    run(&s);
    close_stage(&s, true);
    assert_int_not_equal(access(tmpdir_file(&dir, "0000000000000003"), F_OK), 0);
    tmpdir_fini(&dir);
}

static bool
is_three(void *arg, uint64_t stream)
{
    (void)arg;
    return stream == 3;
}

/* How many of them are there? */
static unsigned
count_there(const struct tmpdir *dir, const char *const *names)
{
    unsigned n = 0;

    for (; *names != NULL; names++)
        n += access(tmpdir_file(dir, *names), F_OK) == 0;
    return n;
}

static void
folders_of_nobody_are_swept(void **state)
{
    static struct stage s = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    static const char *const ours[] = {"0000000000000003", "notes", "000000000000000a.txt",
                                       "000000000000000B", NULL};
    static const char *const theirs[] = {"000000000000000b", NULL};
    struct tmpdir dir;
    char other[512];

    (void)state;
    tmpdir_init(&dir);
    stream_sweep(tmpdir_file(&dir, "missing"), &file_posix, is_three, NULL);
    open_stage(&s, dir.path);
    s.publish = (struct worker_task){.run = publish, .arg = &s};
    open_eyes(&s);
    worker_schedule(s.worker, WORKER_AGAIN, &s.publish);
    run(&s);
    close_stage(&s, false);
    snprintf(other, sizeof(other), "%s", tmpdir_file(&dir, ours[0]));
    assert_int_equal(rename(other, tmpdir_file(&dir, theirs[0])), 0);
    for (unsigned i = 0; ours[i] != NULL; i++)
        assert_int_equal(mkdir(tmpdir_file(&dir, ours[i]), 0700), 0);

    stream_sweep(dir.path, &file_posix, is_three, NULL);
    assert_int_equal(count_there(&dir, theirs), 0);
    assert_int_equal(count_there(&dir, ours), 4);
    tmpdir_fini(&dir);
}

/* What a sync that fails leaves behind is tried again by the timer, and nobody sees it before. */
static void
syncs_that_fail_delay_and_lose_nothing(void **state)
{
    static struct stage s = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    struct tmpdir dir;

    (void)state;
    tmpdir_init(&dir);
    s.may_fail = true;
    atomic_store(&failing, 2);
    open_stage(&s, dir.path);
    s.publish = (struct worker_task){.run = publish, .arg = &s};
    open_eyes(&s);
    worker_schedule(s.worker, WORKER_AGAIN, &s.publish);
    run(&s);
    assert_int_equal(s.safe, MESSAGES);
    assert_true(s.troubles >= 1);
    assert_int_equal(s.troubles, s.recoveries);
    close_stage(&s, false);
    s.may_fail = false;
    open_stage(&s, dir.path);
    assert_int_equal(s.safe, MESSAGES);
    open_eyes(&s);
    run(&s);
    close_stage(&s, true);
    tmpdir_fini(&dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_sees_everything),
        cmocka_unit_test(folders_of_nobody_are_swept),
        cmocka_unit_test(syncs_that_fail_delay_and_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
