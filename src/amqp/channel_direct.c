/*
 * channel_direct: direct reply-to [RabbitMQ]: replies to a channel without a queue.
 *
 * A requester consumes, without acknowledgement, from the pseudo queue amq.rabbitmq.reply-to and
 * publishes requests with that name as reply-to. We replace it by an address:
 *
 *     amq.rabbitmq.reply-to.<channel id, 16 hex digits><secret, 16 hex digits>
 *
 * and whoever publishes to the default exchange with the address as its key reaches the channel:
 * at most once, no queue, no trace in the topology. The secret is drawn at consume, so an address
 * cannot be guessed, nor outlive its consumer.
 */
#include "amqp_priv.h"

#include "lepus/wire/props.h"

#define ADDRESS_PREFIX DIRECT_NAME "."
enum { HEX_DIGITS = 32 };

bool
direct_is_name(struct view name)
{
    return view_equal(name, VIEW_LIT(DIRECT_NAME)) ||
           view_has_prefix(name, VIEW_LIT(ADDRESS_PREFIX));
}

static bool
parse_hex(const uint8_t *at, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < 16; i++) {
        uint8_t c = at[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = 10u + c - 'a';
        else
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

bool
direct_parse(struct view name, uint64_t *out_channel, uint64_t *out_secret)
{
    size_t prefix = sizeof(ADDRESS_PREFIX) - 1;

    return view_has_prefix(name, VIEW_LIT(ADDRESS_PREFIX)) && name.len == prefix + HEX_DIGITS &&
           parse_hex(name.at + prefix, out_channel) && parse_hex(name.at + prefix + 16, out_secret);
}

bool
direct_rewrite(struct channel *ch, struct content *content, struct err *err)
{
    struct buf *scratch = &ch->conn->amqp->scratch;
    char address[sizeof(ADDRESS_PREFIX) + HEX_DIGITS];
    struct view value;

    if (!props_find(content->properties, PROP_reply_to, &value) ||
        !view_equal(value, VIEW_LIT(DIRECT_NAME)))
        return true;
    if (ch->direct == NULL)
        return err_set(err, PRECONDITION_FAILED, "fast reply consumer does not exist");
    snprintf(address, sizeof(address), ADDRESS_PREFIX "%016llx%016llx", (unsigned long long)ch->id,
             (unsigned long long)ch->direct_secret);
    value = view_str(address);
    buf_clear(scratch);
    props_copy_with(scratch, content->properties, PROP_reply_to, &value);
    content->properties = buf_view(scratch);
    return true;
}

/* Ids come from peers here: one may name a worker that does not exist. */
static bool
is_worker_of(const struct amqp *amqp, uint64_t id)
{
    return id_worker(id) < worker_count(amqp->worker);
}

void
direct_send(struct channel *ch, uint64_t to, uint64_t secret, const struct content *content)
{
    struct amqp *amqp = ch->conn->amqp;
    struct cmd_direct_reply cmd = {
        .head.kind = CMD_direct_reply, .channel = to, .secret = secret, .content = *content};

    if (is_worker_of(amqp, to))
        post_send(amqp->post, id_worker(to), &cmd.head);
}

static struct channel *
find_requester(struct amqp *amqp, uint64_t id, uint64_t secret)
{
    struct channel *ch = channel_of_id(amqp, id);

    return ch != NULL && ch->direct != NULL && ch->direct_secret == secret ? ch : NULL;
}

void
channel_on_direct_reply(void *arg, const struct command *command)
{
    const struct cmd_direct_reply *cmd = (const void *)command;
    struct channel *ch = find_requester(arg, cmd->channel, cmd->secret);

    if (ch != NULL)
        channel_write_delivery(ch->direct, ++ch->last_tag, false, &cmd->content);
}

void
direct_ask(struct channel *ch, uint64_t to, uint64_t secret)
{
    struct amqp *amqp = ch->conn->amqp;
    struct cmd_direct_probe cmd = {
        .head.kind = CMD_direct_probe, .target = to, .secret = secret, .channel = ch->id};
    struct cmd_reply gone = {.answer = ANSWER_GONE};

    if (is_worker_of(amqp, to))
        post_send(amqp->post, id_worker(to), &cmd.head);
    else
        channel_finish_declare(ch, &gone);
}

void
channel_on_direct_probe(void *arg, const struct command *command)
{
    const struct cmd_direct_probe *cmd = (const void *)command;
    struct amqp *amqp = arg;
    bool is_there = find_requester(amqp, cmd->target, cmd->secret) != NULL;
    struct cmd_reply reply = {
        .head.kind = CMD_reply,
        .channel = cmd->channel,
        .answer = is_there ? ANSWER_OK : ANSWER_GONE,
        .consumers = is_there,
    };

    post_send(amqp->post, id_worker(cmd->channel), &reply.head);
}
