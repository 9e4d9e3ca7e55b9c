/*
 * post: a worker's post office: where commands go out, and where those that come find their
 * handlers.
 *
 * One per worker. The home (home.h) and the connections (amqp/) register a handler for each kind of
 * command that they take; nobody calls the other by name.
 */
#ifndef LEPUS_BROKER_POST_H
#define LEPUS_BROKER_POST_H

#include "lepus/broker/command.h"
#include "lepus/net/worker.h"

/* May send commands itself. Views and blob are borrowed for the call. */
typedef void command_fn(void *arg, const struct command *command);

struct post {
    struct worker *worker;
    unsigned index; /* the worker's */
    uint64_t behind; /* messages that had to wait though their queue has consumers, ever: who brings
                        them from a socket should read less */
    struct {
        command_fn *handle;
        void *arg;
    } handlers[CMD_COUNT];
};

/* Takes over the worker's mail. Before the workers start. */
void post_init(struct post *post, struct worker *worker);
void post_handle(struct post *post, enum command_kind kind, command_fn *handle, void *arg);

/* Packs the command into the mail of another worker. */
void post_mail(struct post *post, unsigned to, const struct command *command);

/* The same from a thread that is no worker. */
void post_from_outside(struct worker *to, const struct command *command);

static inline void
post_send(struct post *post, unsigned to, const struct command *command)
{
    if (to == post->index)
        post->handlers[command->kind].handle(post->handlers[command->kind].arg, command);
    else
        post_mail(post, to, command);
}

#endif
