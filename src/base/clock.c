#include "lepus/base/clock.h"

#include <time.h>

static uint64_t
read_clock(clockid_t which, uint64_t a_second)
{
    struct timespec now;

    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * a_second + (uint64_t)now.tv_nsec / (1000000000 / a_second);
}

uint64_t
clock_now_ms(void)
{
    return read_clock(CLOCK_MONOTONIC, 1000);
}

uint64_t
clock_now_us(void)
{
    return read_clock(CLOCK_MONOTONIC, 1000000);
}

uint64_t
clock_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME, 1000);
}
