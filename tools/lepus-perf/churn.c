#include "churn.h"

#include "lepus/base/mem.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/props.h"

struct churn {
    struct channel channel;
    uint64_t begun_ns;
    struct event *again; /* the next life begins on a fresh stack */
};

static struct churn *
churn_of(struct channel *channel)
{
    return container_of(channel, struct churn, channel);
}

static void
on_opened(struct channel *channel)
{
    session_send(channel, METHOD_queue_declare, &(struct queue_declare){.exclusive = true});
}

/* An empty message: method and header. */
static void
publish(struct channel *channel, struct view queue)
{
    enum { PAYLOAD = CONTENT_HEADER_HEAD_SIZE + 2 };
    static const uint8_t payload[PAYLOAD] = {0, CLASS_basic};
    struct buf *out = &channel->session->out;
    uint8_t head[FRAME_HEAD_SIZE];

    session_send(channel, METHOD_basic_publish, &(struct basic_publish){.routing_key = queue});
    frame_put_head(head, FRAME_HEADER, channel->id, PAYLOAD);
    buf_append(out, head, sizeof(head));
    buf_append(out, payload, sizeof(payload));
    buf_u8(out, FRAME_END);
    TALLY_ADD(&channel->session->loop->tally, published, 1);
}

static void
on_method(struct channel *channel, enum method method, const union method_args *args)
{
    if (method == METHOD_queue_declare_ok) {
        publish(channel, args->queue_declare_ok.queue);
        session_send(channel, METHOD_channel_close,
                     &(struct channel_close){.reply_code = 200, .reply_text = VIEW_LIT("done")});
    } else if (method == METHOD_channel_close_ok)
        session_close(channel->session);
}

/* Whether there is another life: false when --publish of them have begun. */
static bool
begin(struct churn *c)
{
    struct loop *loop = c->channel.session->loop;
    uint64_t left = atomic_load(&loop->crew->lives_left);

    do {
        if (left == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&loop->crew->lives_left, &left, left - 1));
    c->begun_ns = crew_now_ns(loop->crew);
    return true;
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
    struct churn *c = arg;

    (void)fd;
    (void)what;
    if (begin(c)) {
        c->channel.session->loop->handshakes++;
        session_open(c->channel.session);
    }
}

static void
on_start(struct channel *channel)
{
    event_add(churn_of(channel)->again, &(struct timeval){0, 0});
}

static void
on_closed(struct channel *channel)
{
    struct churn *c = churn_of(channel);
    struct loop *loop = channel->session->loop;

    histogram_record(&loop->latency, crew_now_ns(loop->crew) - c->begun_ns, 1);
    TALLY_ADD(&loop->tally, cycles, 1);
    crew_done(loop->crew);
    on_start(channel);
}

static void
churn_free(struct channel *channel)
{
    struct churn *c = churn_of(channel);

    event_free(c->again);
    free(c);
}

static const struct channel_ops churn_ops = {
    .opened = on_opened,
    .start = on_start,
    .method = on_method,
    .closed = on_closed,
    .free = churn_free,
};

void
churn_add(struct session *session)
{
    struct churn *c = mem_new(struct churn);

    c->channel.ops = &churn_ops;
    c->again = event_new(session->loop->base, -1, 0, on_again, c);
    session_add_channel(session, &c->channel);
}
