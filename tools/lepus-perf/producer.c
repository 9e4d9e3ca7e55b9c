#include "producer.h"

#include "lepus/base/mem.h"
#include "lepus/wire/octets.h"
#include "ring.h"

enum { TICK_NS = 50 * 1000 };

struct producer {
    struct channel channel;
    uint64_t number, count, published;
    struct ring ring;
    bool is_started, is_told; /* is_told: crew_producer_done was called */

    double tick_ns; /* 0: no rate */
    uint64_t per_tick, begun_ns;
    struct event *timer;

    /* Confirms: when each message from `settled_below` on was sent or due; 0: settled already. */
    uint64_t *sent_ns;
    uint64_t sent_mask, settled_below, unsettled; /* tags begin with 1 */
};

static struct producer *
producer_of(struct channel *channel)
{
    return container_of(channel, struct producer, channel);
}

/* Rate */

static uint64_t
due_ns(const struct producer *p, uint64_t message)
{
    return p->begun_ns + (uint64_t)((double)(message / p->per_tick) * p->tick_ns);
}

static uint64_t
due_by(const struct producer *p, uint64_t now)
{
    if (now < p->begun_ns)
        return 0;
    return ((uint64_t)((double)(now - p->begun_ns) / p->tick_ns) + 1) * p->per_tick;
}

static void
arm(struct producer *p)
{
    uint64_t now = crew_now_ns(p->channel.session->loop->crew), due = due_ns(p, p->published);
    uint64_t wait = due > now ? due - now : 0;
    struct timeval in = {(time_t)(wait / 1000000000), (suseconds_t)(wait / 1000 % 1000000 + 1)};

    if (p->published < p->count)
        event_add(p->timer, &in);
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
    struct producer *p = arg;

    (void)fd;
    (void)what;
    if (p->channel.session->state != SESSION_OPEN)
        return;
    p->channel.session->loop->now_ns = crew_now_ns(p->channel.session->loop->crew);
    session_flush(p->channel.session);
}

/* Confirms */

static void
note_sent(struct producer *p, uint64_t tag, uint64_t at_ns)
{
    p->sent_ns[tag & p->sent_mask] = at_ns;
}

static void
settle(struct producer *p, uint64_t tag, bool is_ack)
{
    struct loop *loop = p->channel.session->loop;
    uint64_t *sent = &p->sent_ns[tag & p->sent_mask];

    if (*sent == 0)
        return;
    histogram_record(&loop->confirm_latency, loop->now_ns > *sent ? loop->now_ns - *sent : 0, 1);
    *sent = 0;
    p->unsettled--;
    if (is_ack)
        TALLY_ADD(&loop->tally, confirmed, 1);
    else
        TALLY_ADD(&loop->tally, nacked, 1);
}

static void
tell_when_done(struct producer *p)
{
    bool is_done =
        p->published == p->count && (p->sent_ns != NULL ? p->unsettled == 0 : p->channel.is_closed);

    if (is_done && !p->is_told) {
        p->is_told = true;
        TALLY_SET(&p->channel.session->loop->tally, last_publish_ns,
                  p->channel.session->loop->now_ns);
        crew_producer_done(p->channel.session->loop->crew);
    }
}

static void
on_settled(struct channel *channel, uint64_t tag, bool multiple, bool is_ack)
{
    struct producer *p = producer_of(channel);

    if (p->sent_ns == NULL || tag > p->published || (tag == 0 && !multiple)) {
        session_fail(channel->session, "the broker settled %llu, which was not published",
                     (unsigned long long)tag);
        return;
    }
    if (tag == 0)
        tag = p->published;
    for (uint64_t t = multiple ? p->settled_below : tag; t <= tag; t++)
        if (t >= p->settled_below)
            settle(p, t, is_ack);
    while (p->settled_below <= p->published && p->sent_ns[p->settled_below & p->sent_mask] == 0)
        p->settled_below++;
    tell_when_done(p);
}

/* Publishing */

static uint64_t
may_publish(const struct producer *p, uint64_t now)
{
    uint64_t n = p->count - p->published;

    if (p->tick_ns > 0) {
        uint64_t due = due_by(p, now);

        due = due > p->published ? due - p->published : 0;
        n = due < n ? due : n;
    }
    if (p->sent_ns != NULL) {
        uint64_t window = p->channel.session->loop->crew->options->confirm - p->unsettled;
        uint64_t span = p->sent_mask + 1 - (p->published + 1 - p->settled_below);

        window = span < window ? span : window;
        n = window < n ? window : n;
    }
    return n;
}

static void
stamp(struct producer *p, size_t slot, uint64_t n, uint64_t now)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at_ns = p->tick_ns > 0 ? due_ns(p, p->published + i) : now;
        uint8_t *at = ring_stamp_at(&p->ring, slot + (size_t)i);

        if (at != NULL)
            be_put_u64(at, at_ns);
        if (p->sent_ns != NULL)
            note_sent(p, p->published + i + 1, at_ns);
    }
}

static bool
next_chunk(struct channel *channel, struct view *out)
{
    struct producer *p = producer_of(channel);
    struct tally *tally = &channel->session->loop->tally;
    uint64_t now, n, bytes;
    size_t slot = p->ring.next;

    if (!p->is_started || p->published == p->count)
        return false;
    now = crew_now_ns(channel->session->loop->crew);
    n = may_publish(p, now);
    if (n == 0) {
        if (p->tick_ns > 0)
            arm(p);
        return false;
    }
    *out = ring_take(&p->ring, &n, &bytes);
    stamp(p, slot, n, now);
    p->published += n;
    if (p->sent_ns != NULL)
        p->unsettled += n;
    TALLY_ADD(tally, published, n);
    TALLY_ADD(tally, published_bytes, bytes);
    TALLY_SET(tally, last_publish_ns, now);
    /* Frames are handled in order: the answer comes when all that stands before it is done. */
    if (p->published == p->count && p->sent_ns == NULL)
        session_send(channel, METHOD_channel_close,
                     &(struct channel_close){.reply_code = 200, .reply_text = VIEW_LIT("done")});
    return true;
}

/* Life */

static void
on_opened(struct channel *channel)
{
    struct producer *p = producer_of(channel);

    ring_init(&p->ring, channel->session->loop->crew->options, p->number, channel->id,
              (size_t)channel->session->frame_max);
    if (p->sent_ns != NULL)
        session_send(channel, METHOD_confirm_select, &(struct confirm_select){.nowait = false});
    else
        crew_done(channel->session->loop->crew);
}

static void
on_method(struct channel *channel, enum method method, const union method_args *args)
{
    struct producer *p = producer_of(channel);

    (void)args;
    if (method == METHOD_confirm_select_ok)
        crew_done(channel->session->loop->crew);
    else if (method == METHOD_channel_close_ok) {
        channel->is_closed = true;
        tell_when_done(p);
    }
}

static void
on_start(struct channel *channel)
{
    struct producer *p = producer_of(channel);
    struct loop *loop = channel->session->loop;
    const struct options *o = loop->crew->options;
    double rate = o->rate / (double)o->producers;

    p->is_started = true;
    p->begun_ns = crew_now_ns(loop->crew);
    if (p->count == 0) {
        p->is_told = true;
        crew_producer_done(loop->crew);
    }
    if (o->rate <= 0)
        return;
    p->per_tick = (uint64_t)(rate * TICK_NS / 1e9 + 0.5);
    if (p->per_tick == 0)
        p->per_tick = 1;
    p->tick_ns = (double)p->per_tick * 1e9 / rate;
    /* Producers take turns within a tick. */
    p->begun_ns += (uint64_t)(p->tick_ns * (double)p->number / (double)o->producers);
    p->timer = event_new(loop->base, -1, 0, on_due, p);
}

static void
producer_free(struct channel *channel)
{
    struct producer *p = producer_of(channel);

    if (p->timer != NULL)
        event_free(p->timer);
    ring_fini(&p->ring);
    free(p->sent_ns);
    free(p);
}

static const struct channel_ops producer_ops = {
    .opened = on_opened,
    .start = on_start,
    .method = on_method,
    .settled = on_settled,
    .next_chunk = next_chunk,
    .free = producer_free,
};

void
producer_add(struct session *session, uint64_t number, uint64_t count)
{
    struct producer *p = mem_new(struct producer);
    uint64_t window = session->loop->crew->options->confirm, size = 1;

    p->channel.ops = &producer_ops;
    p->number = number;
    p->count = count;
    p->settled_below = 1;
    if (window > 0) {
        /* Twice the window: one unconfirmed message does not stop all behind it. */
        while (size < 2 * window)
            size *= 2;
        p->sent_mask = size - 1;
        p->sent_ns = mem_alloc_zero((size_t)size * sizeof(p->sent_ns[0]));
    }
    session_add_channel(session, &p->channel);
}
