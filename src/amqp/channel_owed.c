/*
 * channel_owed: answers that wait until what they promise is on disk.
 *
 * A definition (declare, bind, unbind, delete) takes effect at once, and its -ok promises that it
 * outlives a crash: it is sent when the metadata has committed the change's ticket. Until then it
 * stands in a line, encoded, and so do the answers to further definitions, whether they change
 * something durable or not: thousands that come without waiting share a few commits. What wants no
 * answer stands in the line without octets. A channel whose line is full, or that gets any other
 * frame, waits until nothing is owed (WAIT_SAFE): so a publish, an error, a close come behind the
 * answers, and what this channel publishes is not confirmed before its queue is safe.
 *
 * An entry: ticket u64, length u32, that many octets of frames.
 */
#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/wire/cursor.h"

enum {
    OWED_MAX = 1 << 20, /* octets */
    ENTRY_HEAD = 12,
};

static const bool is_definition[METHOD_COUNT + 1] = {
    /* one more: METHOD_UNKNOWN */
    [METHOD_exchange_declare] = true, [METHOD_exchange_delete] = true,
    [METHOD_exchange_bind] = true,    [METHOD_exchange_unbind] = true,
    [METHOD_queue_declare] = true,    [METHOD_queue_delete] = true,
    [METHOD_queue_bind] = true,       [METHOD_queue_unbind] = true,
};

static size_t
unpaid(const struct channel *ch)
{
    return ch->owed.entries.len - ch->owed.paid;
}

void
channel_answer(struct channel *ch, uint64_t ticket, bool nowait, enum method method,
               const void *args)
{
    struct amqp *amqp = ch->conn->amqp;
    struct buf *entries = &ch->owed.entries;

    if (!channel_owes(ch) && ticket <= amqp->committed) {
        if (!nowait)
            channel_send(ch, method, args);
        return;
    }
    buf_clear(&amqp->scratch);
    if (!nowait)
        method_write(&amqp->scratch, ch->number, method, args);
    buf_u64(entries, ticket);
    buf_u32(entries, (uint32_t)amqp->scratch.len);
    buf_append(entries, amqp->scratch.at, amqp->scratch.len);
    assert(!entries->bad); /* its size is bounded: memory is out */
    if (!list_is_linked(&ch->owing))
        list_append(&amqp->owing, &ch->owing);
}

bool
channel_must_wait(const struct channel *ch, const struct frame *f)
{
    if (!channel_owes(ch))
        return false;
    if (f->type != FRAME_METHOD || unpaid(ch) > OWED_MAX)
        return true;
    return !is_definition[channel_method_of(f)];
}

void
channel_fail_later(struct channel *ch, const struct err *err)
{
    ch->failure = mem_alloc(sizeof(*err));
    *ch->failure = *err;
    channel_wait(ch, WAIT_SAFE, false);
}

void
channel_forget_owed(struct channel *ch)
{
    if (list_is_linked(&ch->owing))
        list_remove(&ch->owing);
    buf_fini(&ch->owed.entries);
    ch->owed.paid = 0;
    free(ch->failure);
    ch->failure = NULL;
}

/* --- paying ---------------------------------------------------------------------------- */

/* Sends what is safe. */
static void
pay(struct channel *ch, uint64_t committed)
{
    struct buf *entries = &ch->owed.entries;
    size_t from = ch->owed.paid;

    while (from < entries->len) {
        struct cursor r = cursor_of(view_of(entries->at + from, entries->len - from));
        uint64_t ticket = rd_u64(&r);
        struct view octets = rd_longstr(&r);

        if (ticket > committed)
            break;
        if (octets.len > 0)
            transport_put(ch->conn->transport, octets.at, octets.len);
        from += ENTRY_HEAD + octets.len;
    }
    if (from > entries->len / 2) { /* also when all is paid */
        memmove(entries->at, entries->at + from, entries->len - from);
        entries->len -= from;
        from = 0;
    }
    ch->owed.paid = from;
}

/* Nothing is owed: whoever waited for that goes on, or fails. */
static void
go_on(struct channel *ch)
{
    struct err *failure = ch->failure;

    if (ch->owed.entries.size > OWED_MAX / 16) {
        buf_fini(&ch->owed.entries);
        buf_init(&ch->owed.entries, SIZE_MAX / 2);
    }
    if (ch->state != CHANNEL_WAITING || ch->wait != WAIT_SAFE)
        return;
    ch->failure = NULL;
    channel_wait_done(ch);
    if (failure != NULL)
        conn_fail(ch->conn, ch, failure);
    free(failure);
}

/* A failure may end a connection, and with it channels that are in the line too: so the line is
 * taken as a whole, and worked off from its front. */
void
amqp_committed(void *arg, uint64_t ticket)
{
    struct amqp *amqp = arg;
    struct list line;

    amqp->committed = ticket;
    list_init(&line);
    while (!list_is_empty(&amqp->owing)) {
        struct list *first = amqp->owing.next;

        list_remove(first);
        list_append(&line, first);
    }
    while (!list_is_empty(&line)) {
        struct channel *ch = container_of(line.next, struct channel, owing);

        list_remove(&ch->owing);
        pay(ch, ticket);
        if (channel_owes(ch))
            list_append(&amqp->owing, &ch->owing);
        else
            go_on(ch);
    }
}
