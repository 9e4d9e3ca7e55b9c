#include "script.h"

#include "lepus/base/mem.h"

enum { WINDOW = 500 };

struct script {
    struct channel channel;
    enum script_act act;
    uint64_t steps, sent, answered;
};

static struct script *
script_of(struct channel *channel)
{
    return container_of(channel, struct script, channel);
}

static void
declare_exchange(struct channel *channel, const struct options *o)
{
    session_send(channel, METHOD_exchange_declare,
                 &(struct exchange_declare){.exchange = view_str(o->exchange),
                                            .type = view_str(o->type),
                                            .durable = o->durable,
                                            .auto_delete = o->auto_delete});
}

static void
declare_queue(struct channel *channel, const struct options *o, uint64_t queue)
{
    char name[256];

    options_queue_name(o, queue, name, sizeof(name));
    session_send(channel, METHOD_queue_declare,
                 &(struct queue_declare){.queue = view_str(name),
                                         .durable = o->durable,
                                         .exclusive = o->exclusive,
                                         .auto_delete = o->auto_delete,
                                         .arguments = buf_view(&o->queue_arguments)});
}

static void
bind_queue(struct channel *channel, const struct options *o, uint64_t binding)
{
    char name[256], key[256];

    options_queue_name(o, binding % o->queues, name, sizeof(name));
    options_expand(key, sizeof(key), o->binding_key, binding);
    session_send(channel, METHOD_queue_bind,
                 &(struct queue_bind){.queue = view_str(name),
                                      .exchange = view_str(o->exchange),
                                      .routing_key = view_str(key),
                                      .arguments = buf_view(&o->binding_arguments)});
}

uint64_t
script_declare_queue(struct channel *channel, const struct options *o, uint64_t queue)
{
    uint64_t answers = 1;

    declare_queue(channel, o, queue);
    if (o->exchange[0] != '\0')
        for (uint64_t b = queue; b < o->bindings; b += o->queues, answers++)
            bind_queue(channel, o, b);
    return answers;
}

static void
purge_queue(struct channel *channel, const struct options *o, uint64_t queue)
{
    char name[256];

    options_queue_name(o, queue, name, sizeof(name));
    session_send(channel, METHOD_queue_purge, &(struct queue_purge){.queue = view_str(name)});
}

static void
delete_queue(struct channel *channel, const struct options *o, uint64_t queue)
{
    char name[256];

    options_queue_name(o, queue, name, sizeof(name));
    session_send(channel, METHOD_queue_delete, &(struct queue_delete){.queue = view_str(name)});
}

/* The acts as stretches of steps: how many, and what one does. */

static uint64_t
has_exchange(const struct options *o)
{
    return o->exchange[0] != '\0';
}

struct stretch {
    uint64_t count;
    void (*send)(struct channel *channel, const struct options *o, uint64_t number);
};

static void
send_exchange(struct channel *channel, const struct options *o, uint64_t number)
{
    (void)number;
    declare_exchange(channel, o);
}

static void
send_exchange_delete(struct channel *channel, const struct options *o, uint64_t number)
{
    (void)number;
    session_send(channel, METHOD_exchange_delete,
                 &(struct exchange_delete){.exchange = view_str(o->exchange)});
}

enum { STRETCHES = 4 };

static void
stretches_of(const struct script *script, struct stretch out[STRETCHES])
{
    const struct options *o = script->channel.session->loop->crew->options;
    bool declares = !o->no_declare, shares = !o->exclusive;

    memset(out, 0, STRETCHES * sizeof(out[0]));
    if (script->act == SCRIPT_CLEAN_UP) {
        out[0] = (struct stretch){shares ? o->queues : 0, delete_queue};
        out[1] = (struct stretch){has_exchange(o), send_exchange_delete};
        return;
    }
    out[0] = (struct stretch){declares ? has_exchange(o) : 0, send_exchange};
    out[1] = (struct stretch){declares && shares ? o->queues : 0, declare_queue};
    out[2] = (struct stretch){declares && shares && has_exchange(o) ? o->bindings : 0, bind_queue};
    out[3] = (struct stretch){o->purge && shares ? o->queues : 0, purge_queue};
}

static void
send_steps(struct script *script)
{
    struct stretch stretches[STRETCHES];

    stretches_of(script, stretches);
    while (script->sent < script->steps && script->sent - script->answered < WINDOW) {
        uint64_t step = script->sent++;
        unsigned i = 0;

        while (step >= stretches[i].count)
            step -= stretches[i++].count;
        stretches[i].send(&script->channel, script->channel.session->loop->crew->options, step);
    }
}

static void
on_start(struct channel *channel)
{
    struct script *script = script_of(channel);
    struct stretch stretches[STRETCHES];

    stretches_of(script, stretches);
    for (unsigned i = 0; i < STRETCHES; i++)
        script->steps += stretches[i].count;
    if (script->steps == 0)
        crew_done(channel->session->loop->crew);
    else
        send_steps(script);
}

static void
on_method(struct channel *channel, enum method method, const union method_args *args)
{
    struct script *script = script_of(channel);

    (void)method;
    (void)args;
    if (++script->answered == script->steps)
        crew_done(channel->session->loop->crew);
    else
        send_steps(script);
}

static void
on_opened(struct channel *channel)
{
    crew_done(channel->session->loop->crew);
}

static void
script_free(struct channel *channel)
{
    free(script_of(channel));
}

static const struct channel_ops script_ops = {
    .opened = on_opened,
    .start = on_start,
    .method = on_method,
    .free = script_free,
};

void
script_add(struct session *session, enum script_act act)
{
    struct script *script = mem_new(struct script);

    script->channel.ops = &script_ops;
    script->act = act;
    session_add_channel(session, &script->channel);
}
