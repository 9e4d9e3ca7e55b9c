/*
 * What a stream costs: appending with group commit beside the same octets written plainly, with a
 * sync as often; replaying; scanning with a filter that matches nothing; finding an offset in a
 * large stream. Prints; judges nothing. bench_stream [megabytes of the large stream [folder]]
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "lepus/stream/stream_reader.h"

enum { WINDOW = 8 << 20, TURN = 2000, LOOKUPS = 200, COLD = 20 };

struct bench {
    struct worker_set *set;
    struct worker *worker;
    struct disk *disk, *reads;
    struct stream_settings settings;
    struct stream_log *log;
    struct stream_reader *reader;
    struct worker_task task;
    struct content content;
    char *id; /* eight octets of the properties that change; NULL: none do */
    uint64_t wanted, appended, commits, read, bytes, lookups;
    double append_ns, read_ns, worst_ns, sum_ns, asked_ns;
    bool counts_lookups, may_drop_caches;
    bool is_done;
    pthread_mutex_t lock;
    pthread_cond_t done;
    char dir[512];
};

static double
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double
cpu_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void
finish(struct bench *b)
{
    pthread_mutex_lock(&b->lock);
    b->is_done = true;
    pthread_cond_signal(&b->done);
    pthread_mutex_unlock(&b->lock);
}

static void
on_safe(void *arg, uint64_t end)
{
    struct bench *b = arg;

    b->commits++;
    if (end >= b->wanted)
        finish(b);
    else if (b->task.run != NULL)
        worker_schedule(b->worker, WORKER_AGAIN, &b->task);
}

static void
on_trouble(void *arg, const struct err *why)
{
    (void)arg;
    if (why != NULL)
        fprintf(stderr, "%s\n", why->text);
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    (void)arg;
    fprintf(stderr, "%s%s\n", is_error ? "error: " : "", line);
}

static const struct stream_log_ops log_ops = {on_safe, on_trouble, on_tell};

/* A turn of a publisher: some messages, as long as there is room in the window. */
static void
publish(void *arg)
{
    struct bench *b = arg;
    double start = now_ns();
    uint64_t offset;

    for (unsigned i = 0; i < TURN && b->appended < b->wanted; i++) {
        if (stream_log_unsafe_bytes(b->log) > WINDOW)
            break;
        if (!stream_log_append(b->log, &b->content, &offset))
            abort();
        b->appended++;
        if (b->id != NULL) /* from one message to the next */
            memcpy(b->id, &(uint64_t){0x3030303030303030 + (b->appended & 0x0707070707070707)}, 8);
    }
    b->append_ns += now_ns() - start;
    if (b->appended < b->wanted && stream_log_unsafe_bytes(b->log) <= WINDOW)
        worker_schedule(b->worker, WORKER_AGAIN, &b->task);
}

static void
replay(void *arg)
{
    struct bench *b = arg;
    struct stream_message m;

    for (unsigned i = 0; i < TURN; i++) {
        if (stream_reader_next(b->reader, &m) == STREAM_READ_WAIT) {
            if (stream_reader_offset(b->reader) >= b->wanted)
                finish(b);
            return;
        }
        b->bytes += m.content.body.len + m.content.body.at[0];
        b->read++;
    }
    worker_schedule(b->worker, WORKER_AGAIN, &b->task);
}

static void
on_more(void *arg)
{
    struct bench *b = arg;

    worker_schedule(b->worker, WORKER_AGAIN, &b->task);
}

static void
on_damaged(void *arg, uint64_t first, uint64_t last, const struct err *why)
{
    (void)arg;
    fprintf(stderr, "%llu to %llu: %s\n", (unsigned long long)first, (unsigned long long)last,
            why->text);
}

static const struct stream_reader_ops reader_ops = {on_more, on_damaged};

static void
drop_caches(const char *folder)
{
    DIR *dir = opendir(folder);
    char path[1024];

    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        int fd;

        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if ((fd = open(path, O_RDONLY)) < 0)
            continue;
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    if (dir != NULL)
        closedir(dir);
}

/* One reader after the other, each at an offset somewhere, until it has its first message. */
static void
look_up(void *arg)
{
    struct bench *b = arg;
    struct stream_message m;
    struct stream_reader_settings s = {.from = STREAM_FROM_OFFSET};
    char folder[600];
    double took;

    for (;;) {
        if (b->reader == NULL) {
            s.offset = (b->lookups * 7919 * 104729 + 12345) % b->wanted;
            if (b->lookups >= LOOKUPS) {
                snprintf(folder, sizeof(folder), "%s/%016x", b->dir, (unsigned)b->settings.stream);
                drop_caches(folder);
            }
            b->asked_ns = now_ns();
            b->reader = stream_reader_new(b->log, &s, &reader_ops, b);
        }
        if (stream_reader_next(b->reader, &m) == STREAM_READ_WAIT)
            return;
        took = now_ns() - b->asked_ns;
        b->sum_ns += took;
        if (took > b->worst_ns)
            b->worst_ns = took;
        stream_reader_free(b->reader);
        b->reader = NULL;
        b->lookups++;
        if (b->lookups == LOOKUPS || b->lookups == LOOKUPS + COLD) {
            printf("  offset lookup, %s: mean %.3f ms, worst %.3f ms\n",
                   b->lookups == LOOKUPS ? "cached" : "page cache dropped",
                   b->sum_ns / (b->lookups == LOOKUPS ? LOOKUPS : COLD) / 1e6, b->worst_ns / 1e6);
            b->sum_ns = b->worst_ns = 0;
        }
        if (b->lookups == LOOKUPS + COLD) {
            finish(b);
            return;
        }
    }
}

static void
run(struct bench *b, void (*task)(void *arg))
{
    b->is_done = false;
    b->task = (struct worker_task){.run = task, .arg = b};
    worker_schedule(b->worker, WORKER_AGAIN, &b->task);
    if (!worker_set_start(b->set, &(struct err){0}))
        abort();
    pthread_mutex_lock(&b->lock);
    while (!b->is_done)
        pthread_cond_wait(&b->done, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void
open_bench(struct bench *b, const char *dir)
{
    struct err err = {0};

    b->set = worker_set_new(1, &err);
    b->worker = worker_set_get(b->set, 0);
    b->disk = disk_new(b->worker, "disk");
    b->reads = disk_new(b->worker, "reads");
    if (!disk_start(b->disk, &err) || !disk_start(b->reads, &err))
        abort();
    b->settings = (struct stream_settings){
        .dir = dir,
        .stream = 1,
        .name = VIEW_LIT("bench"),
        .files = file_posix,
        .worker = b->worker,
        .disk = b->disk,
        .reads = b->reads,
        .epoch = 1,
    };
    snprintf(b->dir, sizeof(b->dir), "%s", dir);
    b->log = stream_log_new(&b->settings, &log_ops, b);
    if (!stream_log_recover(b->log, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    b->appended = stream_log_next(b->log);
}

static void
close_bench(struct bench *b, bool unlink)
{
    stream_reader_free(b->reader);
    b->reader = NULL;
    worker_set_stop(b->set);
    disk_stop(b->disk);
    disk_stop(b->reads);
    stream_log_free(b->log, unlink);
    while (disk_step(b->reads) || disk_step(b->disk))
        ;
    disk_free(b->disk);
    disk_free(b->reads);
    worker_set_free(b->set);
}

/* The same octets, as many to a sync. */
static double
plain(const char *dir, uint64_t bytes, uint64_t syncs)
{
    uint64_t step = bytes / syncs, done = 0;
    uint8_t *octets = mem_alloc_zero(step);
    char path[600];
    double start;
    int fd;

    snprintf(path, sizeof(path), "%s/plain", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    start = now_ns();
    for (; done < bytes; done += step)
        if (pwrite(fd, octets, step, (off_t)done) != (ssize_t)step || fdatasync(fd) != 0)
            abort();
    start = now_ns() - start;
    close(fd);
    unlink(path);
    free(octets);
    return start;
}

static void
measure(struct bench *b, const char *dir, size_t size, uint64_t n, struct view properties)
{
    uint8_t *body = mem_alloc_zero(size);
    struct stream_reader_settings s = {.from = STREAM_FROM_FIRST};
    struct view none = VIEW_LIT("nothing");
    clockid_t clock;
    double start, took, cpu;

    memset(b, 0, offsetof(struct bench, lock));
    b->wanted = n;
    b->id = properties.len > 8 && properties.at[0] == 0x90
                ? (char *)(uintptr_t)properties.at + properties.len - 8
                : NULL;
    b->content = (struct content){.exchange = VIEW_LIT(""),
                                  .routing_key = VIEW_LIT("bench"),
                                  .properties = properties,
                                  .body = view_of(body, size)};
    open_bench(b, dir);
    start = now_ns();
    run(b, publish);
    took = now_ns() - start;
    printf("%zu octets, %llu messages:\n", size, (unsigned long long)n);
    printf("  append: %.2f M/s, %.0f MB/s, %.0f ns a message on the worker, %.0f KiB a sync\n",
           (double)n / took * 1e3, (double)stream_log_bytes(b->log) / took * 1e3,
           b->append_ns / (double)n, (double)stream_log_bytes(b->log) / (double)b->commits / 1024);
    printf("  on disk: %.2f octets a message beside its body\n",
           (double)stream_log_bytes(b->log) / (double)n - (double)size);
    start = plain(dir, stream_log_bytes(b->log), b->commits);
    printf("  plain writes and syncs of the same: %.0f MB/s: append is at %.0f %%\n",
           (double)stream_log_bytes(b->log) / start * 1e3, start / took * 100);
    close_bench(b, false);

    memset(b, 0, offsetof(struct bench, lock));
    b->wanted = n;
    open_bench(b, dir);
    b->reader = stream_reader_new(b->log, &s, &reader_ops, b);
    cpu = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    start = now_ns();
    run(b, replay);
    took = now_ns() - start;
    cpu = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("  replay: %.1f M/s, %.2f GB/s, %.0f ns of processor a message (both threads)\n",
           (double)b->read / took * 1e3, (double)stream_log_bytes(b->log) / took, cpu / (double)n);
    close_bench(b, false);

    memset(b, 0, offsetof(struct bench, lock));
    b->wanted = n;
    open_bench(b, dir);
    s.filters = &none;
    s.n_filters = 1;
    b->reader = stream_reader_new(b->log, &s, &reader_ops, b);
    clock = CLOCK_PROCESS_CPUTIME_ID;
    cpu = cpu_ns(clock);
    start = now_ns();
    run(b, replay);
    took = now_ns() - start;
    cpu = cpu_ns(clock) - cpu;
    printf("  scan with a filter: %.1f GB/s, %.1f GB/s of processor, %llu passed\n",
           (double)stream_log_bytes(b->log) / took, (double)stream_log_bytes(b->log) / cpu,
           (unsigned long long)b->read);
    close_bench(b, true);
    free(body);
}

static void
measure_lookups(struct bench *b, const char *dir, uint64_t megabytes)
{
    enum { SIZE = 1000 };
    uint8_t *body = mem_alloc_zero(SIZE);
    double start;

    memset(b, 0, offsetof(struct bench, lock));
    b->wanted = megabytes * 1000000 / (SIZE + 13);
    b->content = (struct content){.exchange = VIEW_LIT(""),
                                  .routing_key = VIEW_LIT("bench"),
                                  .properties = VIEW_LIT("\0\0"),
                                  .body = view_of(body, SIZE)};
    open_bench(b, dir);
    run(b, publish);
    close_bench(b, false);

    memset(b, 0, offsetof(struct bench, lock));
    b->wanted = megabytes * 1000000 / (SIZE + 13);
    start = now_ns();
    open_bench(b, dir);
    printf("a stream of %llu MB, %zu segments:\n  start %.2f ms\n", (unsigned long long)megabytes,
           stream_log_segments(b->log), (now_ns() - start) / 1e6);
    run(b, look_up);
    close_bench(b, true);
    free(body);
}

int
main(int argc, char **argv)
{
    static struct bench b = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    /* One filter value; and what clients send: a type, a mode, a header or two. */
    static const char filtered[] =
        "\x20\x00\x00\x00\x00\x1d\x15x-stream-filter-valueS\x00\x00\x00\x02v1";
    static char distinct[] = "\x90\x80\x0atext/plain\x02\x08"
                             "00000000";
    uint64_t megabytes = argc > 1 ? strtoull(argv[1], NULL, 10) : 500;
    char dir[] = "/var/tmp/lepus-bench-XXXXXX", path[600];
    const char *at = argc > 2 ? argv[2] : mkdtemp(dir);

    if (at == NULL)
        return 1;
    measure(&b, at, 100, 5000000, VIEW_LIT("\0\0"));
    measure(&b, at, 1024, 1000000, VIEW_LIT("\x10\x00\x02"));
    measure(&b, at, 100, 3000000, view_of(filtered, sizeof(filtered) - 1));
    printf("each with an id of its own, a type and a mode: ");
    measure(&b, at, 100, 3000000, view_of(distinct, sizeof(distinct) - 1));
    measure_lookups(&b, at, megabytes);
    snprintf(path, sizeof(path), "%s/%016x", at, 1);
    rmdir(path);
    if (argc <= 2)
        rmdir(at);
    return 0;
}
