/*
 * channel_stream: what a channel may not ask of a stream, in RabbitMQ's order and words, and what
 * it has to tell the stream's home of a consumer.
 *
 * A stream's consumer must have a prefetch, which is its credit, and must acknowledge; x-priority
 * and a prefetch of the channel as a whole mean nothing to it, and are refused. That it is
 * exclusive is taken, and without effect.
 */
#include "amqp_priv.h"

#include "lepus/broker/stream_arguments.h"
#include "lepus/wire/table.h"

#define STREAM_FMT            "queue '" VIEW_FMT "' in vhost '%s'"
#define STREAM_ARG(ch, queue) VIEW_ARG(queue), vhost_name((ch)->conn->vhost)

bool
stream_err(struct channel *ch, struct view queue, const char *what, struct err *err)
{
    return err_set(err, NOT_IMPLEMENTED, "%s not supported by stream queues " STREAM_FMT, what,
                   STREAM_ARG(ch, queue));
}

static bool
check_arguments(struct channel *ch, struct view arguments, struct view queue,
                struct stream_wish *wish, struct err *err)
{
    struct field field;
    const char *arg;
    char why[200];

    if (table_find(arguments, VIEW_LIT("x-priority"), &field))
        return err_set(err, PRECONDITION_FAILED,
                       "invalid arg 'x-priority' for " STREAM_FMT
                       " of queue type rabbit_stream_queue",
                       STREAM_ARG(ch, queue));
    return stream_wish_read(wish, arguments, &arg, why) ||
           err_set(err, PRECONDITION_FAILED, "invalid arg '%s' for " STREAM_FMT ": %s", arg,
                   STREAM_ARG(ch, queue), why);
}

bool
stream_check_consume(struct channel *ch, const struct basic_consume *m, struct view queue,
                     struct cmd_consume *cmd, struct err *err)
{
    struct stream_wish wish;

    if (!check_arguments(ch, m->arguments, queue, &wish, err))
        return false;
    if (ch->prefetch == 0)
        return err_set(err, PRECONDITION_FAILED,
                       "consumer prefetch count is not set for stream " STREAM_FMT,
                       STREAM_ARG(ch, queue));
    if (m->no_ack)
        return err_set(err, NOT_IMPLEMENTED,
                       "automatic acknowledgement not supported by stream " STREAM_FMT,
                       STREAM_ARG(ch, queue));
    if (ch->prefetch_global != 0)
        return err_set(err, NOT_IMPLEMENTED, STREAM_FMT " does not support global qos",
                       STREAM_ARG(ch, queue));
    if (wish.tracks && wish.group.at == NULL && m->consumer_tag.len == 0)
        return err_set(err, PRECONDITION_FAILED,
                       "invalid arg 'x-stream-automatic-offset-tracking' for " STREAM_FMT
                       ": the consumer has no tag of its own",
                       STREAM_ARG(ch, queue));
    if (wish.tracks)
        cmd->group = wish.group.at != NULL ? wish.group : m->consumer_tag;
    cmd->arguments = m->arguments;
    cmd->exclusive = false;
    return true;
}
