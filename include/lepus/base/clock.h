/*
 * clock: the two clocks.
 *
 * clock_now_ms is for durations and never goes back; clock_wall_ms is for what people and other
 * machines read. A worker reads each once a turn and hands the value on (worker_now_ms).
 */
#ifndef LEPUS_BASE_CLOCK_H
#define LEPUS_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ms(void);
uint64_t clock_now_us(void);  /* the same clock, to bound a piece of work by */
uint64_t clock_wall_ms(void); /* since 1970 */

#endif
