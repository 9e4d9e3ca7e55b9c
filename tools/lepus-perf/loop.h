/*
 * loop: a thread, its event loop, the connections it drives, and what it has counted.
 *
 * Sessions are made before the thread starts and belong to it from then on. What is counted is
 * written by the loop's thread only and may be read by any.
 */
#ifndef PERF_LOOP_H
#define PERF_LOOP_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "crew.h"
#include "histogram.h"

struct session;

/* clang-format off */
#define TALLIES(T)                                                      \
    T(published)      /* drawn for the socket */                        \
    T(published_bytes)                                                  \
    T(confirmed)                                                        \
    T(nacked)                                                           \
    T(returned)                                                         \
    T(consumed)                                                         \
    T(consumed_bytes)                                                   \
    T(redelivered)    /* of the consumed */                             \
    T(blocked)        /* connection.blocked came */                     \
    T(cycles)         /* lives that --churn completed */                \
    T(last_publish_ns)                                                  \
    T(last_consume_ns)
/* clang-format on */

struct tally {
#define T(name) _Atomic uint64_t name;
    TALLIES(T)
#undef T
};

#define TALLY_GET(tally, name) atomic_load_explicit(&(tally)->name, memory_order_relaxed)
#define TALLY_SET(tally, name, value)                                                              \
    atomic_store_explicit(&(tally)->name, (value), memory_order_relaxed)
#define TALLY_ADD(tally, name, n) TALLY_SET(tally, name, TALLY_GET(tally, name) + (n))

enum session_kind { SCRIPT, CONSUMER, PRODUCER, CHURNER, CLEANER, KINDS };

/* OPEN: connect, up to the channel's being ready. START: consume, publish. CLOSE: in order. */
enum loop_command { LOOP_OPEN, LOOP_START, LOOP_CLOSE, LOOP_END };

enum { INPUT_SIZE = 256 * 1024, HANDSHAKES_MAX = 64 };

/* What is there to be read goes before what may be written: a loop that is short of time shall not
 * fill the sockets of a thousand producers and let the deliveries wait. */
enum { LOOP_READS, LOOP_WRITES, LOOP_PRIORITIES };

struct loop {
    struct crew *crew;
    pthread_t thread;
    struct event_base *base;
    int commands[2]; /* a pipe */
    struct event *command, *second;

    struct {
        struct session **at;
        size_t n, opened; /* opened: begun to connect */
    } sessions[KINDS];
    unsigned handshakes; /* under way */

    uint8_t *input; /* what the sockets are read into: room for a tail and INPUT_SIZE */
    size_t tail_max;
    uint64_t now_ns; /* as of the last read */

    uint64_t consume_quota;         /* messages that may be counted without asking the crew */
    uint64_t consumed_new;          /* not told to the crew yet */
    uint64_t run_stamp, run_length; /* equal stamps in a row make one entry in the histogram */
    struct histogram latency, confirm_latency;
    struct tally tally;
};

struct loop *loop_new(struct crew *crew);
void loop_free(struct loop *loop);

/* Before the thread starts. */
void loop_add_session(struct loop *loop, enum session_kind kind, struct session *session);

bool loop_start(struct loop *loop);
void loop_join(struct loop *loop);
void loop_post(struct loop *loop, enum loop_command command, enum session_kind kind);

/* A session's handshake is over, well or not: the next may begin. */
void loop_handshake_over(struct loop *loop, enum session_kind kind);

/* Whether one more delivery counts: false once --consume is reached. */
bool loop_take_delivery(struct loop *loop);

/* A message that was due or sent at `stamp` is here; stamps from another clock are ignored. */
void loop_note_latency(struct loop *loop, uint64_t stamp);

/* After each read. */
void loop_end_turn(struct loop *loop);

#endif
