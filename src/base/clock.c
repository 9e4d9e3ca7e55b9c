#include "lepus/base/clock.h"

#include <time.h>

static uint64_t
read_clock(clockid_t which)
{
    struct timespec now;

    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t
clock_now_ms(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t
clock_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME);
}
