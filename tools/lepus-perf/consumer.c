#include "consumer.h"

#include <inttypes.h>

#include "lepus/base/mem.h"
#include "script.h"

struct consumer {
    struct channel channel;
    uint64_t number, owed; /* owed: answers that are still to come before it is ready */
    uint64_t last_tag, acked_tag, unacked;
};

static struct consumer *
consumer_of(struct channel *channel)
{
    return container_of(channel, struct consumer, channel);
}

static void
acknowledge(struct consumer *c)
{
    if (c->last_tag == c->acked_tag)
        return;
    session_send(&c->channel, METHOD_basic_ack,
                 &(struct basic_ack){.delivery_tag = c->last_tag, .multiple = c->unacked > 1});
    c->acked_tag = c->last_tag;
    c->unacked = 0;
}

static void
on_delivered(struct channel *channel)
{
    struct consumer *c = consumer_of(channel);
    struct loop *loop = channel->session->loop;
    uint64_t ack = loop->crew->options->ack;

    if (!loop_take_delivery(loop))
        return;
    loop->consumed_new++;
    TALLY_ADD(&loop->tally, consumed_bytes, channel->size);
    if (channel->redelivered)
        TALLY_ADD(&loop->tally, redelivered, 1);
    if (channel->has_stamp)
        loop_note_latency(loop, channel->stamp);
    if (ack == 0)
        return;
    c->last_tag = channel->tag;
    if (++c->unacked == ack)
        acknowledge(c);
}

/* What is left over of --ack. */
static void
on_closing(struct channel *channel)
{
    if (channel->session->loop->crew->options->ack > 0)
        acknowledge(consumer_of(channel));
}

static void
consume(struct consumer *c, uint64_t queue)
{
    const struct options *o = c->channel.session->loop->crew->options;
    char name[256], tag[24];

    options_queue_name(o, queue, name, sizeof(name));
    snprintf(tag, sizeof(tag), "%" PRIu64, queue);
    session_send(&c->channel, METHOD_basic_consume,
                 &(struct basic_consume){.queue = view_str(name),
                                         .consumer_tag = view_str(tag),
                                         .no_ack = o->ack == 0,
                                         .arguments = buf_view(&o->consumer_arguments)});
    c->owed++;
}

static void
on_start(struct channel *channel)
{
    struct consumer *c = consumer_of(channel);
    const struct options *o = channel->session->loop->crew->options;

    if (o->consumers >= o->queues)
        consume(c, c->number % o->queues);
    else
        for (uint64_t queue = c->number; queue < o->queues; queue += o->consumers)
            consume(c, queue);
}

static void
tell_when_ready(struct consumer *c)
{
    if (c->owed == 0)
        crew_done(c->channel.session->loop->crew);
}

static void
on_opened(struct channel *channel)
{
    struct consumer *c = consumer_of(channel);
    const struct options *o = channel->session->loop->crew->options;

    if (o->exclusive && !o->no_declare)
        c->owed += script_declare_queue(channel, o, c->number);
    if (o->prefetch > 0) {
        session_send(channel, METHOD_basic_qos,
                     &(struct basic_qos){.prefetch_count = (uint16_t)o->prefetch});
        c->owed++;
    }
    tell_when_ready(c);
}

static void
on_method(struct channel *channel, enum method method, const union method_args *args)
{
    struct consumer *c = consumer_of(channel);

    (void)args;
    if (method != METHOD_basic_consume_ok && method != METHOD_basic_qos_ok &&
        method != METHOD_queue_declare_ok && method != METHOD_queue_bind_ok)
        return;
    c->owed--;
    tell_when_ready(c);
}

static void
consumer_free(struct channel *channel)
{
    free(consumer_of(channel));
}

static const struct channel_ops consumer_ops = {
    .opened = on_opened,
    .start = on_start,
    .method = on_method,
    .delivered = on_delivered,
    .closing = on_closing,
    .free = consumer_free,
};

void
consumer_add(struct session *session, uint64_t number)
{
    struct consumer *c = mem_new(struct consumer);

    c->channel.ops = &consumer_ops;
    c->number = number;
    session_add_channel(session, &c->channel);
}
