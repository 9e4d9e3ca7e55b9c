/*
 * channel_tx: transactions: publishes and settlements that take effect at commit.
 *
 * Publishes are kept as messages; what the client settles stays in the channel's ring, marked. A
 * commit sends everything to the queues and is answered when each home has confirmed its part;
 * meanwhile the channel is WAITING. A rollback forgets the publishes and unmarks the rest: those
 * deliveries are unsettled again, as with RabbitMQ.
 */
#include "amqp_priv.h"

#include "lepus/base/mem.h"

struct tx_op {
    struct message *message;
    bool mandatory;
};

bool
tx_publish(struct channel *ch, const struct content *content, bool mandatory, struct err *err)
{
    struct message *message = message_new(content, false, NULL);

    if (message == NULL)
        return err_set(err, RESOURCE_ERROR, "no memory for a message of %zu octets",
                       content->body.len);
    if (ch->n_tx_ops == ch->tx_ops_size) {
        ch->tx_ops_size = ch->tx_ops_size > 0 ? ch->tx_ops_size * 2 : 16;
        ch->tx_ops = mem_resize(ch->tx_ops, ch->tx_ops_size * sizeof(*ch->tx_ops));
    }
    ch->tx_ops[ch->n_tx_ops++] = (struct tx_op){message, mandatory};
    return true;
}

void
tx_drop(struct channel *ch)
{
    for (size_t i = 0; i < ch->n_tx_ops; i++)
        message_unref(&ch->tx_ops[i].message);
    free(ch->tx_ops);
    ch->tx_ops = NULL;
    ch->n_tx_ops = ch->tx_ops_size = 0;
}

bool
channel_handle_tx_select(struct channel *ch, const union method_args *args, struct err *err)
{
    (void)args;
    if (ch->mode == MODE_CONFIRM)
        return err_set(err, PRECONDITION_FAILED, "cannot switch from confirm to tx mode");
    ch->mode = MODE_TX;
    channel_send(ch, METHOD_tx_select_ok, NULL);
    return true;
}

static bool
check_is_tx(const struct channel *ch, struct err *err)
{
    return ch->mode == MODE_TX || err_set(err, PRECONDITION_FAILED, "channel is not transactional");
}

static void
finish_commit(struct channel *ch)
{
    struct err err;

    if (!ch->commit_failed) {
        channel_send(ch, METHOD_tx_commit_ok, NULL);
        channel_wait_done(ch);
        return;
    }
    err_set(&err, PRECONDITION_FAILED, "partial tx completion");
    channel_wait_fail(ch, METHOD_tx_commit, &err);
}

void
tx_confirmed(struct channel *ch, bool ok)
{
    if (ch->state != CHANNEL_WAITING || ch->wait != WAIT_COMMIT)
        return;
    ch->commit_failed |= !ok;
    if (--ch->commit_due == 0)
        finish_commit(ch);
}

bool
channel_handle_tx_commit(struct channel *ch, const union method_args *args, struct err *err)
{
    struct tx_op *ops = ch->tx_ops;
    size_t n = ch->n_tx_ops;

    (void)args;
    if (!check_is_tx(ch, err))
        return false;
    ch->tx_ops = NULL;
    ch->n_tx_ops = ch->tx_ops_size = 0;
    channel_wait(ch, WAIT_COMMIT, false);
    ch->commit_failed = false;
    ch->commit_due = 1; /* ours, until everything is sent */
    for (size_t i = 0; i < n; i++) {
        struct content content = message_content(ops[i].message);
        struct err lost;

        /* an exchange that went since the publish takes its messages with it, as a queue does */
        (void)channel_route_and_send(ch, &content, ops[i].mandatory, &lost);
        message_unref(&ops[i].message);
    }
    free(ops);
    channel_settle_tx(ch);
    tx_confirmed(ch, true);
    return true;
}

bool
channel_handle_tx_rollback(struct channel *ch, const union method_args *args, struct err *err)
{
    (void)args;
    if (!check_is_tx(ch, err))
        return false;
    tx_drop(ch);
    channel_unsettle_tx(ch);
    channel_send(ch, METHOD_tx_rollback_ok, NULL);
    return true;
}
