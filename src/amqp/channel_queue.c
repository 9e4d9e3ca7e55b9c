/* channel_queue: the queue class. What the topology knows is answered when it is safe; counts,
 * purges and deletes are asked of the queue's home, and the channel waits for its answer. */
#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/base/random.h"

bool
channel_queue_name(struct channel *ch, struct view name, struct view *out, struct err *err)
{
    if (name.len == 0 && ch->last_queue == NULL)
        return err_set(err, NOT_FOUND, "no previously declared queue");
    *out = name.len > 0 ? name : view_str(ch->last_queue);
    return true;
}

static void
ask(struct channel *ch, const struct queue_ref *ref, enum queue_question question, bool if_unused,
    bool if_empty)
{
    struct cmd_ask cmd = {
        .head.kind = CMD_ask,
        .queue = ref->id,
        .channel = ch->id,
        .question = question,
        .if_unused = if_unused,
        .if_empty = if_empty,
    };

    post_send(ch->conn->amqp->post, channel_queue_worker(ch, ref), &cmd.head);
}

/* Remembers what the answer will be about. */
static void
wait_for_queue(struct channel *ch, enum channel_wait wait, bool nowait, struct view name,
               const struct queue_found *found)
{
    channel_wait(ch, wait, nowait);
    ch->wait_name = view_dup(name);
    ch->wait_queue = found->ref;
    ch->wait_durable = found->durable;
    ch->wait_ticket = found->ticket;
}

/* --- declare --------------------------------------------------------------------------- */

static void
remember_exclusive(struct conn *c, const struct queue_ref *ref)
{
    if (c->n_exclusive == c->exclusive_size) {
        c->exclusive_size = c->exclusive_size > 0 ? c->exclusive_size * 2 : 4;
        c->exclusive = mem_resize(c->exclusive, c->exclusive_size * sizeof(*c->exclusive));
    }
    c->exclusive[c->n_exclusive++] = *ref;
}

static void
forget_exclusive(struct conn *c, uint64_t id)
{
    for (size_t i = 0; i < c->n_exclusive; i++)
        if (c->exclusive[i].id == id)
            c->exclusive[i--] = c->exclusive[--c->n_exclusive];
}

static void
declare_ok(struct channel *ch, const char *name, uint32_t messages, uint32_t consumers)
{
    char *last = view_dup(view_str(name));

    free(ch->last_queue);
    ch->last_queue = last;
    channel_answer(ch, ch->wait_ticket, ch->wait_nowait, METHOD_queue_declare_ok,
                   &(struct queue_declare_ok){.queue = view_str(last),
                                              .message_count = messages,
                                              .consumer_count = consumers});
}

/* As with RabbitMQ any declare of such a name asks whether somebody listens there. */
static bool
declare_direct_name(struct channel *ch, struct view name, bool nowait, struct err *err)
{
    uint64_t to, secret;

    if (view_equal(name, VIEW_LIT(DIRECT_NAME))) {
        ch->wait_nowait = nowait;
        ch->wait_ticket = 0;
        declare_ok(ch, DIRECT_NAME, 0, 1);
        return true;
    }
    if (!direct_parse(name, &to, &secret))
        return err_set(err, NOT_FOUND, "no queue '" VIEW_FMT "' in vhost '%s'", VIEW_ARG(name),
                       vhost_name(ch->conn->vhost));
    wait_for_queue(ch, WAIT_DIRECT_PROBE, nowait, name, &(struct queue_found){0});
    direct_ask(ch, to, secret);
    return true;
}

/* One that is named by the server is asked for by the name that it gets. */
static bool
may_declare(struct channel *ch, struct queue_spec *spec, char room[255], char generated[64],
            struct err *err)
{
    spec->name = topology_clean_name(spec->name, room);
    if (spec->name.len == 0) {
        random_name("amq.gen-", generated);
        spec->name = view_str(generated);
        spec->is_generated = true;
    }
    return access_declare_queue(ch->conn, spec->name, spec->arguments, err);
}

bool
channel_handle_queue_declare(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct queue_declare *m = &args->queue_declare;
    struct conn *c = ch->conn;
    struct queue_spec spec = {
        .name = m->queue,
        .durable = m->durable,
        .auto_delete = m->auto_delete,
        .exclusive = m->exclusive,
        .arguments = m->arguments,
    };
    struct queue_found found = {0};
    char room[255], generated[64];

    if (direct_is_name(m->queue))
        return declare_direct_name(ch, m->queue, m->nowait, err);
    if (m->passive) {
        if (!topology_find_queue(c->vhost, m->queue, c->id, &found, err))
            return channel_refused(ch, &found, err);
    } else {
        if (!may_declare(ch, &spec, room, generated, err))
            return false;
        switch (topology_declare_queue(c->vhost, &spec, c->id, c->amqp->post->index, &found, err)) {
        case QUEUE_FAILED:
            return channel_refused(ch, &found, err);
        case QUEUE_CREATED:
            if (m->exclusive)
                remember_exclusive(c, &found.ref);
            ch->wait_nowait = m->nowait;
            ch->wait_ticket = found.ticket;
            declare_ok(ch, found.name, 0, 0);
            return true;
        case QUEUE_FOUND:
            break;
        }
    }
    wait_for_queue(ch, WAIT_DECLARE, m->nowait, view_str(found.name), &found);
    ask(ch, &found.ref, QUEUE_STAT, false, false);
    return true;
}

void
channel_finish_declare(struct channel *ch, const struct cmd_reply *reply)
{
    struct err err;

    if (reply->answer == ANSWER_OK) {
        declare_ok(ch, ch->wait_name, reply->messages, reply->consumers);
        channel_wait_done(ch);
        return;
    }
    err_set(&err, NOT_FOUND, "no queue '%s' in vhost '%s'", ch->wait_name,
            vhost_name(ch->conn->vhost));
    channel_wait_fail(ch, METHOD_queue_declare, &err);
}

/* --- bind ------------------------------------------------------------------------------ */

/* An empty name stands for the queue declared last, and then an empty key for its name. */
static bool
bind_or_unbind(struct channel *ch, struct binding_spec *spec,
               bool (*verb)(struct vhost *, const struct binding_spec *, uint64_t, uint64_t *,
                            struct err *),
               uint64_t *out_ticket, struct err *err)
{
    struct conn *c = ch->conn;
    struct queue_found found = {0};
    struct err locked = {0};
    bool named = spec->destination.len > 0;

    if (!channel_queue_name(ch, spec->destination, &spec->destination, err))
        return false;
    if (!named && spec->routing_key.len == 0)
        spec->routing_key = spec->destination;
    if (!access_bind(c, spec, err))
        return false;
    if (verb(c->vhost, spec, c->id, out_ticket, err))
        return true;
    if (err->code == RESOURCE_LOCKED)
        topology_find_queue(c->vhost, spec->destination, c->id, &found, &locked);
    return channel_refused(ch, &found, err);
}

bool
channel_handle_queue_bind(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct queue_bind *m = &args->queue_bind;
    struct binding_spec spec = {
        .kind = BINDING_TO_QUEUE,
        .source = m->exchange,
        .destination = m->queue,
        .routing_key = m->routing_key,
        .arguments = m->arguments,
    };
    uint64_t ticket;

    if (!bind_or_unbind(ch, &spec, topology_bind, &ticket, err))
        return false;
    if (ch->state == CHANNEL_OPEN)
        channel_answer(ch, ticket, m->nowait, METHOD_queue_bind_ok, NULL);
    return true;
}

bool
channel_handle_queue_unbind(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct queue_unbind *m = &args->queue_unbind;
    struct binding_spec spec = {
        .kind = BINDING_TO_QUEUE,
        .source = m->exchange,
        .destination = m->queue,
        .routing_key = m->routing_key,
        .arguments = m->arguments,
    };
    uint64_t ticket;

    if (!bind_or_unbind(ch, &spec, topology_unbind, &ticket, err))
        return false;
    if (ch->state == CHANNEL_OPEN)
        channel_answer(ch, ticket, false, METHOD_queue_unbind_ok, NULL);
    return true;
}

/* --- purge, delete --------------------------------------------------------------------- */

bool
channel_handle_queue_purge(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct queue_purge *m = &args->queue_purge;
    struct queue_found found = {0};
    struct view name;

    if (!channel_queue_name(ch, m->queue, &name, err) ||
        !access_queue(ch->conn, AUTH_READ, name, err))
        return false;
    if (!topology_find_queue(ch->conn->vhost, name, ch->conn->id, &found, err))
        return channel_refused(ch, &found, err);
    if (found.type == QUEUE_STREAM)
        return stream_err(ch, name, "queue.purge", err);
    wait_for_queue(ch, WAIT_PURGE, m->nowait, name, &found);
    ask(ch, &found.ref, QUEUE_PURGE, false, false);
    return true;
}

void
channel_finish_purge(struct channel *ch, const struct cmd_reply *reply)
{
    struct err err;

    if (reply->answer == ANSWER_OK) {
        if (!ch->wait_nowait)
            channel_send(ch, METHOD_queue_purge_ok,
                         &(struct queue_purge_ok){.message_count = reply->messages});
        channel_wait_done(ch);
        return;
    }
    err_set(&err, NOT_FOUND, "no queue '%s' in vhost '%s'", ch->wait_name,
            vhost_name(ch->conn->vhost));
    channel_wait_fail(ch, METHOD_queue_purge, &err);
}

/* Whoever deleted it, did so before now. */
static void
delete_ok(struct channel *ch, bool durable, bool nowait, uint32_t messages)
{
    uint64_t ticket = durable ? topology_last_ticket(ch->conn->amqp->topology) : 0;

    channel_answer(ch, ticket, nowait, METHOD_queue_delete_ok,
                   &(struct queue_delete_ok){.message_count = messages});
}

bool
channel_handle_queue_delete(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct queue_delete *m = &args->queue_delete;
    struct queue_found found = {0};
    struct view name;

    if (!channel_queue_name(ch, m->queue, &name, err) ||
        !access_queue(ch->conn, AUTH_CONFIGURE, name, err))
        return false;
    if (!topology_find_queue(ch->conn->vhost, name, ch->conn->id, &found, err)) {
        if (err->code != NOT_FOUND)
            return channel_refused(ch, &found, err);
        delete_ok(ch, true, m->nowait, 0); /* idempotent; it may just have gone */
        return true;
    }
    wait_for_queue(ch, WAIT_DELETE, m->nowait, name, &found);
    ask(ch, &found.ref, QUEUE_DELETE, m->if_unused, m->if_empty);
    return true;
}

void
channel_finish_delete(struct channel *ch, const struct cmd_reply *reply)
{
    struct err err;

    switch (reply->answer) {
    case ANSWER_IN_USE:
    case ANSWER_NOT_EMPTY:
        err_set(&err, PRECONDITION_FAILED, "queue '%s' in vhost '%s' %s", ch->wait_name,
                vhost_name(ch->conn->vhost),
                reply->answer == ANSWER_IN_USE ? "in use" : "not empty");
        channel_wait_fail(ch, METHOD_queue_delete, &err);
        return;
    case ANSWER_OK:
    case ANSWER_GONE:
    case ANSWER_EMPTY:
    case ANSWER_EXCLUSIVE:
    case ANSWER_FULL:
        forget_exclusive(ch->conn, ch->wait_queue.id);
        delete_ok(ch, ch->wait_durable, ch->wait_nowait, reply->messages);
        channel_wait_done(ch);
        return;
    }
}
