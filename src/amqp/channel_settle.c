/*
 * channel_settle: deliveries that wait for the client's word, and the word: ack, nack, reject.
 *
 * The unsettled deliveries of a channel stand in a ring in the order of their tags. A tag is
 * looked for where it would stand if there were no gaps (deliveries without acknowledgement take
 * tags too), else by halving. What is settled is first taken out of the ring, all of it, and then
 * sent to the queues, in ranges: a queue on this worker may at once deliver anew, into the ring.
 *
 * A delivery whose consumer's timeout is over is given back as if the client had done so. The
 * client may still settle it, and must not be punished for being late: such tags are remembered,
 * each until it has been settled, LATE_MAX of them; with more, every tag up to now may be settled
 * twice.
 */
#include <assert.h>

#include "amqp_priv.h"

#include "lepus/base/mem.h"

enum { UNACKED_MIN = 16, RANGES_PER_COMMAND = 64, LATE_MAX = 16384 };

static struct unacked *
unacked_at(const struct channel *ch, size_t i)
{
    return &ch->unacked[(ch->unacked_head + i) & ch->unacked_mask];
}

/* Entries that are settled leave, wherever they stand: one that nobody settles would otherwise
 * keep all that came after it. */
static void
compact(struct channel *ch)
{
    size_t n = 0;

    for (size_t i = 0; i < ch->unacked_count; i++)
        if (unacked_at(ch, i)->queue != 0)
            *unacked_at(ch, n++) = *unacked_at(ch, i);
    ch->unacked_count = n;
}

static void
grow(struct channel *ch)
{
    size_t size = ch->unacked != NULL ? (ch->unacked_mask + 1) * 2 : UNACKED_MIN;
    struct unacked *ring = mem_alloc(size * sizeof(*ring));

    for (size_t i = 0; i < ch->unacked_count; i++)
        ring[i] = *unacked_at(ch, i);
    free(ch->unacked);
    ch->unacked = ring;
    ch->unacked_head = 0;
    ch->unacked_mask = size - 1;
}

void
unacked_push(struct channel *ch, uint64_t tag, uint64_t queue, uint32_t shard, uint64_t seq,
             bool counted)
{
    if (ch->unacked == NULL || ch->unacked_count > ch->unacked_mask) {
        if (ch->unacked_live < ch->unacked_count / 2)
            compact(ch);
        else
            grow(ch);
    }
    *unacked_at(ch, ch->unacked_count++) = (struct unacked){
        .tag = tag, .queue = queue, .seq = seq, .shard = shard, .counted = counted};
    ch->unacked_global += counted;
    ch->unacked_live++;
}

/* Where the first entry of at least that tag stands. */
static size_t
lower_bound(const struct channel *ch, uint64_t tag)
{
    size_t from = 0, to = ch->unacked_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (unacked_at(ch, middle)->tag < tag)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The place of an unsettled delivery; false when there is none of that tag. */
static bool
find(const struct channel *ch, uint64_t tag, size_t *out_place)
{
    size_t place;

    if (ch->unacked_count == 0 || tag < unacked_at(ch, 0)->tag)
        return false;
    place = (size_t)(tag - unacked_at(ch, 0)->tag);
    if (place >= ch->unacked_count || unacked_at(ch, place)->tag != tag)
        place = lower_bound(ch, tag);
    *out_place = place;
    return place < ch->unacked_count && unacked_at(ch, place)->tag == tag &&
           unacked_at(ch, place)->queue != 0 && unacked_at(ch, place)->in_tx == 0;
}

/* Takes the entry out of the ring; it is to be settled with the others in `settling`. */
static void
take(struct channel *ch, struct unacked *entry)
{
    buf_append(&ch->conn->amqp->settling, entry, sizeof(*entry));
    ch->unacked_global -= entry->counted;
    ch->unacked_live--;
    entry->queue = 0;
}

static void
trim(struct channel *ch)
{
    while (ch->unacked_count > 0 && unacked_at(ch, 0)->queue == 0) {
        ch->unacked_head = (ch->unacked_head + 1) & ch->unacked_mask;
        ch->unacked_count--;
    }
    if (ch->unacked_count == 0 && ch->unacked_mask >= 1024) { /* it was busier once */
        free(ch->unacked);
        ch->unacked = NULL;
        ch->unacked_head = ch->unacked_mask = 0;
    }
}

/* --- to the queues --------------------------------------------------------------------- */

/* ch: a transaction's channel, which waits for each command's confirm; else NULL. */
static void
send_settle(struct amqp *amqp, struct channel *ch, uint64_t queue, uint32_t shard,
            enum settle_how how, const struct seq_range *ranges, size_t n)
{
    struct cmd_settle cmd = {
        .head.kind = CMD_settle,
        .queue = queue,
        .channel = ch != NULL ? ch->id : 0,
        .how = how,
        .ranges = view_of(ranges, n * sizeof(*ranges)),
    };

    if (ch != NULL)
        ch->commit_due++;
    post_send(amqp->post, topology_worker_of(amqp->topology, shard), &cmd.head);
}

void
channel_unsent(struct amqp *amqp, uint64_t queue, uint32_t shard, uint64_t seq)
{
    if (seq != 0)
        send_settle(amqp, NULL, queue, shard, SETTLE_UNSENT, &(struct seq_range){seq, seq}, 1);
}

/* Sends all of `settling`, in runs of one queue each. */
static void
send_settling(struct amqp *amqp, struct channel *ch, enum settle_how how)
{
    const struct unacked *entries = (const void *)amqp->settling.at;
    size_t n = amqp->settling.len / sizeof(*entries);
    struct seq_range ranges[RANGES_PER_COMMAND];
    size_t n_ranges = 0;

    for (size_t i = 0; i < n; i++) {
        const struct unacked *e = &entries[i];

        if (n_ranges > 0 && e->queue == entries[i - 1].queue &&
            e->seq == ranges[n_ranges - 1].last + 1) {
            ranges[n_ranges - 1].last = e->seq;
            continue;
        }
        if (n_ranges > 0 && (e->queue != entries[i - 1].queue || n_ranges == RANGES_PER_COMMAND)) {
            send_settle(amqp, ch, entries[i - 1].queue, entries[i - 1].shard, how, ranges,
                        n_ranges);
            n_ranges = 0;
        }
        ranges[n_ranges++] = (struct seq_range){e->seq, e->seq};
    }
    if (n_ranges > 0)
        send_settle(amqp, ch, entries[n - 1].queue, entries[n - 1].shard, how, ranges, n_ranges);
    buf_clear(&amqp->settling);
}

static void
settle_taken(struct channel *ch, enum settle_how how, bool is_commit)
{
    trim(ch);
    send_settling(ch->conn->amqp, is_commit ? ch : NULL, how);
    if (ch->prefetch_global != 0)
        channel_global_changed(ch);
}

/* --- what is overdue ------------------------------------------------------------------- */

static void
note_late(struct channel *ch, uint64_t tag)
{
    if (ch->late.count >= LATE_MAX) {
        idmap_fini(&ch->late);
        idmap_init(&ch->late);
        ch->late_floor = tag;
    }
    idmap_add(&ch->late, tag, ch);
}

static bool
was_late(struct channel *ch, uint64_t tag)
{
    return (ch->late.count > 0 && idmap_remove(&ch->late, tag) != NULL) ||
           (tag > 0 && tag <= ch->late_floor);
}

static void
fail_overdue(struct channel *ch, uint64_t timeout_ms)
{
    struct err err = {0};

    err_set(&err, PRECONDITION_FAILED,
            "delivery acknowledgement on channel %u timed out. Timeout value used: %llu ms. This "
            "timeout value can be configured, see consumers doc guide to learn more",
            ch->number, (unsigned long long)timeout_ms);
    conn_fail(ch->conn, ch, &err);
}

/* What the client has settled in a transaction that is open counts as settled. */
void
channel_on_overdue(void *arg, const struct command *command)
{
    const struct cmd_overdue *cmd = (const void *)command;
    struct amqp *amqp = arg;
    struct channel *ch = channel_of_id(amqp, cmd->channel);

    for (size_t i = 0; ch != NULL && i < ch->unacked_count; i++) {
        struct unacked *entry = unacked_at(ch, i);

        if (entry->queue != cmd->queue || entry->seq != cmd->seq || entry->in_tx != 0)
            continue;
        if (amqp->settings->overdue_action == OVERDUE_CLOSE) {
            fail_overdue(ch, cmd->timeout_ms);
            return;
        }
        note_late(ch, entry->tag);
        take(ch, entry);
        settle_taken(ch, SETTLE_OVERDUE, false);
        return;
    }
}

/* --- the client's word ----------------------------------------------------------------- */

static bool
settle(struct channel *ch, uint64_t tag, bool multiple, enum settle_how how, struct err *err)
{
    size_t first = 0, last = ch->unacked_count - 1;

    if (!(multiple && tag == 0) && !find(ch, tag, &last)) {
        if (!was_late(ch, tag))
            return err_set(err, PRECONDITION_FAILED, "unknown delivery tag %llu",
                           (unsigned long long)tag);
        last = lower_bound(ch, tag) - 1;
        if (!multiple || last == SIZE_MAX)
            return true;
    }
    if (!multiple)
        first = last;
    if (ch->unacked_count == 0)
        return true; /* "all" of nothing */
    for (size_t i = first; i <= last; i++) {
        struct unacked *entry = unacked_at(ch, i);

        if (entry->queue == 0 || entry->in_tx != 0)
            continue;
        if (ch->mode == MODE_TX)
            entry->in_tx = (uint8_t)(1 + how);
        else
            take(ch, entry);
    }
    if (ch->mode != MODE_TX)
        settle_taken(ch, how, false);
    return true;
}

bool
channel_handle_basic_ack(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_ack *m = &args->basic_ack;

    return settle(ch, m->delivery_tag, m->multiple, SETTLE_ACK, err);
}

bool
channel_handle_basic_nack(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_nack *m = &args->basic_nack;

    return settle(ch, m->delivery_tag, m->multiple, m->requeue ? SETTLE_RETURN : SETTLE_DISCARD,
                  err);
}

bool
channel_handle_basic_reject(struct channel *ch, const union method_args *args, struct err *err)
{
    const struct basic_reject *m = &args->basic_reject;

    return settle(ch, m->delivery_tag, false, m->requeue ? SETTLE_REQUEUE : SETTLE_DISCARD, err);
}

/* --- all at once ----------------------------------------------------------------------- */

void
channel_requeue_all(struct channel *ch, enum settle_how how)
{
    if (ch->unacked_count == 0)
        return;
    for (size_t i = 0; i < ch->unacked_count; i++)
        if (unacked_at(ch, i)->queue != 0)
            take(ch, unacked_at(ch, i));
    settle_taken(ch, how, false);
}

void
channel_settle_tx(struct channel *ch)
{
    for (enum settle_how how = SETTLE_ACK; how <= SETTLE_REQUEUE; how++) {
        for (size_t i = 0; i < ch->unacked_count; i++)
            if (unacked_at(ch, i)->queue != 0 && unacked_at(ch, i)->in_tx == 1 + (unsigned)how)
                take(ch, unacked_at(ch, i));
        settle_taken(ch, how, true);
    }
}

void
channel_unsettle_tx(struct channel *ch)
{
    for (size_t i = 0; i < ch->unacked_count; i++)
        unacked_at(ch, i)->in_tx = 0;
}
