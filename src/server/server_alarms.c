/*
 * server_alarms: what holds publishers back, and tells them why.
 *
 * Alarms of the store and of the metadata are set where they are noticed, by server_set_alarm from
 * any thread. The disk and the memory are looked at by the main thread: once a second, and the
 * memory more often the less of it is left, for fast publishers bring it in no time. The workers
 * are told when the set of alarms has changed; whoever publishes then is read no more and gets
 * connection.blocked, and goes on when there is none.
 *
 * Memory that was freed may still be resident: before an alarm, and once a second while there is
 * one, the allocator is asked to give back what it keeps. An alarm ends 5 % below the limit.
 */
#include <malloc.h>
#include <sys/statvfs.h>

#include "server_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "memory_priv.h"

enum {
    LOOK_MS = 1000,
    LOOK_CLOSELY_MS = 20,
    TRIM_MS = 1000,
    GROWTH_PER_MS = 2 << 20, /* more octets than anything brings */
};

void
server_set_alarm(struct server *server, enum alarm alarm, bool is_on)
{
    if (is_on)
        atomic_fetch_or(&server->alarms, alarm);
    else
        atomic_fetch_and(&server->alarms, ~(unsigned)alarm);
}

static bool
has_alarm(const struct server *server, enum alarm alarm)
{
    return (atomic_load(&server->alarms) & alarm) != 0;
}

/* Whether less is free than store.disk_free_limit. */
static void
look_at_disk(struct server *server)
{
    const struct disk_share *limit = &server->config.store.disk_free_limit;
    struct statvfs disk;
    uint64_t free_bytes, least;

    if (statvfs(server->config.broker.data_dir, &disk) != 0)
        return;
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    least = limit->bytes != 0 ? limit->bytes
                              : (uint64_t)disk.f_blocks * disk.f_frsize / 100 * limit->percent;
    if ((free_bytes < least) == has_alarm(server, ALARM_DISK))
        return;
    server_set_alarm(server, ALARM_DISK, free_bytes < least);
    log_warn(NULL, "%llu bytes free in %s, store.disk_free_limit is %llu",
             (unsigned long long)free_bytes, server->config.broker.data_dir,
             (unsigned long long)least);
}

/* --- memory ---------------------------------------------------------------------------- */

uint64_t
server_memory_limit(const struct config *config)
{
    const struct disk_share *share = &config->limits.memory_high_watermark;

    return share->bytes != 0 ? share->bytes : memory_total() / 100 * share->percent;
}

/* Ours, once the allocator has given back what it can, if that was not just asked for. */
static uint64_t
trim(struct server *server, uint64_t used)
{
    uint64_t now = clock_now_ms();

    if (now < server->trim_at_ms)
        return used;
    server->trim_at_ms = now + TRIM_MS;
    malloc_trim(0);
    return memory_resident();
}

static void
look_at_memory(struct server *server)
{
    uint64_t limit = server->memory_limit, used = memory_resident();
    bool was_on = has_alarm(server, ALARM_MEMORY), is_on;

    if (limit != 0 && (was_on || used > limit))
        used = trim(server, used);
    is_on = limit != 0 && used > (was_on ? limit / 100 * 95 : limit);
    server->memory_left = limit == 0 ? UINT64_MAX : used < limit ? limit - used : 0;
    if (is_on == was_on)
        return;
    server_set_alarm(server, ALARM_MEMORY, is_on);
    log_warn(NULL, "%llu bytes of memory in use, limits.memory_high_watermark is %llu",
             (unsigned long long)used, (unsigned long long)limit);
}

/* --- telling --------------------------------------------------------------------------- */

/* RabbitMQ's words. A store that cannot be written is low on disk, more or less. */
static const char *
reason_of(unsigned alarms)
{
    bool memory = (alarms & ALARM_MEMORY) != 0, disk = (alarms & ~(unsigned)ALARM_MEMORY) != 0;

    return memory && disk ? "low on memory & disk" : memory ? "low on memory" : "low on disk";
}

void
server_look_at_alarms(struct server *server)
{
    unsigned alarms;

    if (clock_now_ms() >= server->look_at_disk_ms) {
        look_at_disk(server);
        server->look_at_disk_ms = clock_now_ms() + LOOK_MS;
    }
    look_at_memory(server);
    alarms = atomic_load(&server->alarms);
    if (alarms == server->told_alarms)
        return;
    server_order_all(server, alarms != 0 ? ORDER_BLOCK : ORDER_UNBLOCK, reason_of(alarms));
    if (alarms == 0)
        log_warn(NULL, "publishers go on");
    else if (server->told_alarms == 0)
        log_warn(NULL, "publishers are blocked: %s", reason_of(alarms));
    server->told_alarms = alarms;
}

int
server_look_again_ms(const struct server *server)
{
    uint64_t ms = server->memory_left / GROWTH_PER_MS;

    return ms < LOOK_CLOSELY_MS ? LOOK_CLOSELY_MS : ms > LOOK_MS ? LOOK_MS : (int)ms;
}
