/*
 * arguments_priv: what a declare may say of a queue, and when two declares say the same.
 *
 * Each queue argument is a row of a table in queue_arguments.c: its type, its range, which queue
 * types know it and how RabbitMQ words a refusal. An argument without a row is nobody's business:
 * stored, not compared.
 */
#ifndef BROKER_ARGUMENTS_PRIV_H
#define BROKER_ARGUMENTS_PRIV_H

#include <stdbool.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/broker/topology.h"

/* What an error text is about: queue 'q' in vhost '/'. */
struct thing {
    const char *kind;
    struct view name;
    const char *vhost;
};

#define THING_FMT        "%s '" VIEW_FMT "' in vhost '%s'"
#define THING_ARG(thing) (thing)->kind, VIEW_ARG((thing)->name), (thing)->vhost

/* 406 "inequivalent arg"; returns false. */
bool err_inequivalent(struct err *err, const struct thing *thing, const char *arg,
                      const char *received, const char *current);

bool check_same_flag(const struct thing *thing, const char *arg, bool current, bool received,
                     struct err *err);

/* Compares one argument of two tables. */
bool check_same_argument(const struct thing *thing, struct view arg, struct view current,
                         struct view received, struct err *err);

/* Whether a new queue of that description may be made: 406. The spec's name is the final one, its
 * durable flag what will be stored. */
bool queue_arguments_check(const struct thing *thing, const struct queue_spec *spec,
                           struct err *err);

/* Whether a queue with these arguments may be named by the server: 406. */
bool queue_arguments_may_be_nameless(struct view arguments, struct err *err);

/* Of checked arguments. */
enum queue_type queue_arguments_type(struct view arguments);

/* Compares all arguments that the queue's type knows. */
bool queue_arguments_same(const struct thing *thing, struct view current, struct view received,
                          struct err *err);

#endif
