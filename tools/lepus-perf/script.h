/*
 * script: what is declared before a run and deleted after it, on a connection of its own.
 *
 * Steps are numbered; up to WINDOW of them are under way at once, so that a million bindings do
 * not take a million round trips.
 */
#ifndef PERF_SCRIPT_H
#define PERF_SCRIPT_H

#include "session.h"

enum script_act { SCRIPT_PREPARE, SCRIPT_CLEAN_UP };

/* Becomes ready (crew_done) at LOOP_OPEN, and again when the last step is answered that
 * LOOP_START began. */
void script_add(struct session *session, enum script_act act);

/* Sends queue.declare of a queue and queue.bind of its bindings. Answers that will come. */
uint64_t script_declare_queue(struct channel *channel, const struct options *options,
                              uint64_t queue);

#endif
