#include <assert.h>

#include "queue_priv.h"

#include "lepus/base/mem.h"
#include "lepus/broker/delay.h"
#include "lepus/wire/props.h"

enum { LEVELS = 256, WAITS_A_TURN = 4096 };

/* Of a queue with x-max-priority: made when first used. */
struct queue_levels {
    struct backlog *at[LEVELS];     /* at[0]: the queue's plain one */
    uint64_t occupied[LEVELS / 64]; /* bit l: level l may have something ready */
};

/* --- levels ---------------------------------------------------------------------------- */

static void
init_backlog(struct queue *queue, struct backlog *backlog, uint8_t level)
{
    struct backlog_settings settings = {
        .id = backlog_id(queue->id, level),
        .queue = queue,
        .durable = queue->settings.durable,
        .account = queue->settings.account,
        .store = queue->settings.store,
    };

    backlog_init(backlog, &settings, &queue->backlog_ops, queue->ops_arg);
}

static void on_loaded(void *arg, struct backlog *backlog);
static void on_dated(void *arg, struct backlog *backlog, uint64_t seq, uint64_t expires_ms);

void
queue_init(struct queue *queue, const struct queue_settings *settings, const struct queue_ops *ops,
           void *ops_arg)
{
    *queue = (struct queue){
        .id = settings->ref.id,
        .settings = *settings,
        .ops = ops,
        .backlog_ops = ops->backlog,
        .ops_arg = ops_arg,
    };
    queue->backlog_ops.loaded = on_loaded;
    queue->backlog_ops.dated = on_dated;
    life_init(queue);
    loans_init(queue);
    init_backlog(queue, &queue->plain, 0);
    if (settings->dedup.size > 0) {
        queue->dedup = mem_new(struct dedup);
        dedup_init(queue->dedup, &settings->dedup);
        queue->plain.dedup = queue->dedup;
    }
    if (settings->max_priority > 0) {
        queue->levels = mem_new(struct queue_levels);
        queue->levels->at[0] = &queue->plain;
    }
    list_init(&queue->line);
    list_init(&queue->all);
    list_init(&queue->gets);
}

struct backlog *
queue_level(struct queue *queue, uint8_t level)
{
    struct backlog **at;

    if (level == 0)
        return &queue->plain;
    if (level > queue->settings.max_priority)
        return NULL;
    at = &queue->levels->at[level];
    if (*at == NULL) {
        *at = mem_new(struct backlog);
        init_backlog(queue, *at, level);
    }
    return *at;
}

void
queue_each_level(struct queue *queue, void (*each)(void *arg, struct backlog *backlog), void *arg)
{
    each(arg, &queue->plain);
    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++)
        if (queue->levels->at[l] != NULL)
            each(arg, queue->levels->at[l]);
}

/* The level may have something ready from now on. */
static void
occupy(struct queue *queue, const struct backlog *backlog)
{
    uint8_t level = backlog_id_level(backlog->id);

    if (queue->levels != NULL)
        queue->levels->occupied[level / 64] |= UINT64_C(1) << level % 64;
}

/* The highest level that has something ready, or NULL. */
static struct backlog *
first_level(struct queue *queue)
{
    struct queue_levels *levels = queue->levels;

    if (levels == NULL)
        return queue->plain.window.ready > 0 ? &queue->plain : NULL;
    for (int word = LEVELS / 64; word-- > 0;) {
        while (levels->occupied[word] != 0) {
            int bit = 63 - __builtin_clzll(levels->occupied[word]);
            struct backlog *backlog = levels->at[word * 64 + bit];

            if (backlog != NULL && backlog->window.ready > 0)
                return backlog;
            levels->occupied[word] &= ~(UINT64_C(1) << bit);
        }
    }
    return NULL;
}

struct backlog *
queue_last_level(struct queue *queue)
{
    if (queue->plain.window.ready > 0)
        return &queue->plain;
    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++)
        if (queue->levels->at[l] != NULL && queue->levels->at[l]->window.ready > 0)
            return queue->levels->at[l];
    return NULL;
}

size_t
queue_ready(const struct queue *queue)
{
    size_t n = queue->plain.window.ready;

    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++)
        if (queue->levels->at[l] != NULL)
            n += queue->levels->at[l]->window.ready;
    return n;
}

size_t
queue_unacked(const struct queue *queue)
{
    size_t n = queue->plain.window.unacked;

    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++)
        if (queue->levels->at[l] != NULL)
            n += queue->levels->at[l]->window.unacked;
    return n;
}

static void
occupy_if_ready(void *arg, struct backlog *backlog)
{
    if (backlog->window.ready > 0)
        occupy(arg, backlog);
}

void
queue_restored(struct queue *queue)
{
    queue_each_level(queue, occupy_if_ready, queue);
    life_restored(queue);
}

/* Where a publish goes: its priority, at most the queue's highest. */
static struct backlog *
level_of(struct queue *queue, struct publish *publish)
{
    struct view priority;

    if (queue->levels == NULL)
        return &queue->plain;
    if (publish->priority < 0)
        publish->priority =
            props_find(publish->content->properties, PROP_priority, &priority) ? priority.at[0] : 0;
    return queue_level(queue, publish->priority < queue->settings.max_priority
                                  ? (uint8_t)publish->priority
                                  : queue->settings.max_priority);
}

/* --- consumers ------------------------------------------------------------------------- */

static void
consumer_unref(struct consumer *consumer)
{
    if (--consumer->refs == 0)
        free(consumer);
}

static bool
is_able(const struct consumer *c)
{
    return c->stopped == 0 && (c->prefetch == 0 || c->unacked < c->prefetch) &&
           (!c->has_window || c->window_left > 0);
}

/* Puts an able consumer last among its priority, takes another out of the line. */
static void
stand_in_line(struct consumer *c)
{
    struct list *at = &c->queue->line;

    if (list_is_linked(&c->line))
        list_remove(&c->line);
    if (!is_able(c))
        return;
    while (at->prev != &c->queue->line &&
           container_of(at->prev, struct consumer, line)->priority < c->priority)
        at = at->prev;
    list_insert_before(at, &c->line);
}

static struct consumer *
first_in_line(struct queue *queue)
{
    return list_is_empty(&queue->line) ? NULL
                                       : container_of(queue->line.next, struct consumer, line);
}

/* --- delivering ------------------------------------------------------------------------ */

/* Counts a delivery before it is sent: what is sent may come back with queue_flow. */
static void
count_delivery(struct consumer *c, const struct content *content)
{
    if (!c->no_ack) {
        c->unacked++;
        c->refs++;
    }
    if (c->has_window)
        c->window_left -= (int64_t)delivery_cost_bytes(content);
    if (c->line.next != &c->queue->line || c->line.prev != &c->queue->line || !is_able(c))
        stand_in_line(c); /* unless it is alone in line, and may stay */
}

static void
deliver_taken(struct queue *queue, struct consumer *c, struct backlog *backlog, uint64_t seq)
{
    void *taker = queue->loans.is_lending && !c->no_ack
                      ? loan_new(queue, c, c->channel, outer_seq(backlog, seq))
                      : c;
    const struct slot *slot = backlog_take(backlog, seq, taker);
    struct message *message = message_ref(slot->message);
    struct content content = message_content(message);

    if (queue->life.failures.count > 0)
        life_add_count(queue, outer_seq(backlog, seq), &content);
    count_delivery(c, &content);
    queue->ops->deliver(queue->ops_arg, c, outer_seq(backlog, seq), slot->redelivered, &content);
    if (c->no_ack) {
        struct settled_run run = {0};

        life_forget_failures(queue, outer_seq(backlog, seq));
        backlog_settle(backlog, &run, seq);
        backlog_end_run(backlog, &run);
    }
    message_unref(&message);
}

/* Restores what always holds: nothing ready while somebody is able. */
static void
deliver_ready(struct queue *queue)
{
    struct backlog *backlog;
    struct consumer *c;

    if (queue->is_delivering)
        return; /* the loop below, further up the stack, goes on */
    queue->is_delivering = true;
    while ((c = first_in_line(queue)) != NULL && (backlog = first_level(queue)) != NULL) {
        uint64_t seq = backlog_first(backlog);

        if (seq == 0)
            break; /* on_loaded goes on */
        if (queue->life.is_dated && life_head_expired(queue, backlog, seq))
            continue;
        if (queue->life.has_early && life_is_early(queue, backlog, seq))
            continue;
        deliver_taken(queue, c, backlog, seq);
    }
    queue->is_delivering = false;
}

/* After a restart: the first ones that are not due wait, though nobody asks for them. */
static void
wait_from_head(struct queue *queue)
{
    unsigned left = WAITS_A_TURN;

    while (queue->life.has_early && left-- > 0) {
        struct backlog *backlog = first_level(queue);
        uint64_t seq;

        if (backlog == NULL) {
            queue->life.has_early = false;
            return;
        }
        seq = backlog_head(backlog);
        if (seq == 0 || !life_is_early(queue, backlog, seq))
            return; /* on_loaded goes on, or who takes what is first */
    }
    if (queue->life.has_early)
        life_wake_by(queue, 0);
}

void
queue_resume(struct queue *queue)
{
    wait_from_head(queue);
    if (!life_end_waits(queue))
        return;
    if (queue->life.drops_head)
        queue_tidy(queue);
    deliver_ready(queue);
}

static void
on_loaded(void *arg, struct backlog *backlog)
{
    struct queue *queue = backlog->queue;

    (void)arg;
    life_loaded(queue);
    wait_from_head(queue);
    queue->ops->loaded(queue->ops_arg, queue);
    deliver_ready(queue);
}

static void
on_dated(void *arg, struct backlog *backlog, uint64_t seq, uint64_t expires_ms)
{
    (void)arg;
    life_add_deadline(backlog->queue, backlog, seq, expires_ms);
}

uint64_t
queue_deadline(const struct queue *queue, uint64_t expiration_ms, uint64_t now_ms)
{
    uint64_t ttl_ms = queue->settings.rules.ttl_ms;

    if (expiration_ms < ttl_ms)
        ttl_ms = expiration_ms;
    return ttl_ms != RULE_NONE ? now_ms + ttl_ms : 0;
}

/* A dedup_lives_fn; seqs are outer ones. */
static bool
is_here(void *arg, uint64_t seq)
{
    struct backlog *backlog = queue_level(arg, backlog_id_level(seq));

    return backlog != NULL && window_has(&backlog->window, backlog_id_queue(seq));
}

bool
queue_knows(struct queue *queue, const struct dedup_key *key, uint64_t now_ms)
{
    return dedup_knows(queue->dedup, key, now_ms, is_here, queue);
}

void
queue_remember(struct queue *queue, const struct backlog *backlog, uint64_t seq,
               const struct dedup_key *key, uint64_t until_ms, uint64_t now_ms)
{
    struct dedup_entry entry = {
        .key = *key, .seq = seq != 0 ? outer_seq(backlog, seq) : 0, .until_ms = until_ms};

    dedup_add(queue->dedup, &entry, now_ms);
    dedup_sweep(queue->dedup, queue_ready(queue) + queue_unacked(queue), is_here, queue);
}

enum queue_kept
queue_publish(struct queue *queue, struct publish *publish, struct backlog **out_backlog,
              uint64_t *out_seq)
{
    struct consumer *c = first_level(queue) == NULL ? first_in_line(queue) : NULL;
    struct backlog *backlog;
    void *taker = c;

    if (c != NULL && c->no_ack) {
        count_delivery(c, publish->content);
        queue->ops->deliver(queue->ops_arg, c, 0, false, publish->content);
        return QUEUE_PASSED;
    }
    if (publish->made == NULL)
        publish->made = message_new(publish->content, publish->persistent, queue->settings.account);
    if (publish->made == NULL)
        return QUEUE_REFUSED;
    publish->made->expires_ms = publish->expires_ms;
    *out_backlog = backlog = level_of(queue, publish);
    if (c == NULL) {
        *out_seq = backlog_push(backlog, publish->made);
        occupy(queue, backlog);
        publish->tidy |= queue->life.drops_head;
        if (queue->settings.delays)
            delay_came(queue);
        if (publish->expires_ms != 0) {
            life_add_deadline(queue, backlog, *out_seq, publish->expires_ms);
            publish->tidy |= publish->expires_ms <= queue->ops->now_ms(queue->ops_arg);
        }
        return QUEUE_KEPT;
    }
    if (queue->loans.is_lending)
        taker = loan_new(queue, c, c->channel, outer_seq(backlog, window_tail(&backlog->window)));
    *out_seq = backlog_push_taken(backlog, publish->made, taker);
    count_delivery(c, publish->content);
    queue->ops->deliver(queue->ops_arg, c, outer_seq(backlog, *out_seq), false, publish->content);
    return QUEUE_KEPT;
}

struct consumer *
queue_consume(struct queue *queue, const struct cmd_consume *cmd)
{
    struct consumer *c;

    if (queue->exclusive != NULL ||
        (cmd->exclusive && (queue->n_consumers > 0 || queue->settings.rules.single_active)))
        return NULL;
    c = mem_new(struct consumer);
    c->queue = queue;
    c->id = cmd->consumer;
    c->channel = cmd->channel;
    c->priority = cmd->priority;
    c->prefetch = cmd->no_ack ? 0 : cmd->prefetch;
    c->no_ack = cmd->no_ack;
    c->exclusive = cmd->exclusive;
    c->timeout_ms = cmd->has_timeout ? cmd->timeout_ms : RULE_NONE;
    loan_line_init(&c->loans);
    queue->loans.is_lending |= cmd->has_timeout;
    c->stopped = cmd->stopped ? STOPPED_BY_CHANNEL : 0;
    c->has_window = cmd->window_bytes > 0;
    c->window_left = cmd->window_bytes;
    c->refs = 1;
    if (c->exclusive)
        queue->exclusive = c;
    if (queue->settings.rules.single_active && queue->n_consumers + queue->n_leaving > 0)
        c->stopped |= STOPPED_STANDBY;
    queue->had_consumer = true;
    queue->n_consumers++;
    list_append(&queue->all, &c->all);
    return c;
}

void
queue_start(struct consumer *c)
{
    stand_in_line(c);
    deliver_ready(c->queue);
}

void
queue_cancel(struct queue *queue, struct consumer *c, bool channel_ends)
{
    assert(c->queue == queue);
    if (channel_ends && c->unacked > 0 && queue->settings.rules.single_active &&
        (c->stopped & STOPPED_STANDBY) == 0) {
        c->is_leaving = true;
        queue->n_leaving++;
    }
    if (list_is_linked(&c->line))
        list_remove(&c->line);
    list_remove(&c->all);
    queue->n_consumers--;
    if (queue->exclusive == c)
        queue->exclusive = NULL;
    c->queue = NULL;
    consumer_unref(c);
}

/* x-single-active-consumer: the one that has been there longest is it. */
void
queue_succeed(struct queue *queue)
{
    struct consumer *heir;

    if (!queue->settings.rules.single_active || queue->n_leaving > 0 || list_is_empty(&queue->all))
        return;
    heir = container_of(queue->all.next, struct consumer, all);
    if ((heir->stopped & STOPPED_STANDBY) == 0)
        return;
    heir->stopped &= (uint8_t)~STOPPED_STANDBY;
    stand_in_line(heir);
    deliver_ready(queue);
}

void
queue_flow(struct consumer *c, bool go, uint32_t epoch)
{
    if (go) {
        c->stopped &= (uint8_t)~STOPPED_BY_CHANNEL;
        c->epoch = epoch;
    } else {
        c->stopped |= STOPPED_BY_CHANNEL;
    }
    stand_in_line(c);
    if (go)
        deliver_ready(c->queue);
}

void
queue_credit(struct consumer *c, uint64_t bytes)
{
    c->window_left += (int64_t)bytes;
    if (!list_is_linked(&c->line)) {
        stand_in_line(c);
        deliver_ready(c->queue);
    }
}

/* --- settling -------------------------------------------------------------------------- */

/* The slot's taker holds one delivery less, and may now be able to take another. */
static void
release_taker(struct queue *queue, struct slot *slot)
{
    struct loan *loan = loan_of(slot->taker);
    struct consumer *c = loan != NULL ? loan_end(loan) : slot->taker;

    if (c == NULL)
        return; /* taken by basic.get */
    c->unacked--;
    if (c->is_leaving && c->unacked == 0)
        queue->n_leaving--;
    if (c->queue != NULL && !list_is_linked(&c->line))
        stand_in_line(c);
    consumer_unref(c);
}

void
queue_give_back(struct queue *queue, struct backlog *backlog, uint64_t seq, bool delivered)
{
    window_return(&backlog->window, seq, delivered);
    occupy(queue, backlog);
    life_returned(queue, backlog, seq);
}

static void
fail_one(struct queue *queue, enum settle_how how, struct backlog *backlog, struct settled_run *run,
         uint64_t seq)
{
    switch (life_failed(queue, backlog, seq, how)) {
    case FATE_BACK:
        queue_give_back(queue, backlog, seq, true);
        break;
    case FATE_WAITS:
        break;
    case FATE_DIES:
        life_die(queue, backlog, run, seq, DEATH_DELIVERY_LIMIT);
        break;
    }
}

static void
settle_one(struct queue *queue, enum settle_how how, struct backlog *backlog,
           struct settled_run *run, uint64_t seq)
{
    struct slot *slot = window_slot(&backlog->window, seq);

    if (slot == NULL || slot->state != SLOT_UNACKED)
        return;
    release_taker(queue, slot);
    switch (how) {
    case SETTLE_ACK:
        backlog_settle(backlog, run, seq);
        break;
    case SETTLE_DISCARD:
        life_die(queue, backlog, run, seq, DEATH_REJECTED);
        break;
    case SETTLE_RETURN:
    case SETTLE_REQUEUE:
    case SETTLE_OVERDUE:
        fail_one(queue, how, backlog, run, seq);
        break;
    case SETTLE_UNSENT:
        queue_give_back(queue, backlog, seq, false);
        break;
    }
}

/* Both ends of a range are of one level. */
static void
settle_range(struct queue *queue, enum settle_how how, const struct seq_range *range)
{
    struct backlog *backlog = queue_level(queue, backlog_id_level(range->first));
    uint64_t first = backlog_id_queue(range->first), last = backlog_id_queue(range->last);
    struct settled_run run = {0};

    if (backlog == NULL)
        return;
    for (uint64_t seq = first; seq <= last && seq < window_tail(&backlog->window); seq++)
        settle_one(queue, how, backlog, &run, seq);
    if (how == SETTLE_ACK && queue->life.failures.count > 0)
        for (uint64_t seq = first; seq <= last && seq < window_tail(&backlog->window); seq++)
            life_forget_failures(queue, outer_seq(backlog, seq));
    backlog_end_run(backlog, &run);
}

void
queue_settle(struct queue *queue, enum settle_how how, const struct seq_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        settle_range(queue, how, &ranges[i]);
    if (queue->life.drops_head)
        queue_tidy(queue);
    queue_succeed(queue);
    deliver_ready(queue);
}

enum queue_got
queue_get(struct queue *queue, uint64_t *out_seq, struct content *out, bool *out_redelivered)
{
    struct backlog *backlog;
    const struct slot *slot;
    uint64_t seq;

    do {
        backlog = first_level(queue);
        if (backlog == NULL)
            return QUEUE_NOTHING;
        seq = backlog_first(backlog);
        if (seq == 0)
            return QUEUE_LATER;
    } while ((queue->life.is_dated && life_head_expired(queue, backlog, seq)) ||
             (queue->life.has_early && life_is_early(queue, backlog, seq)));
    slot = backlog_take(backlog, seq, NULL);
    *out_seq = outer_seq(backlog, seq);
    *out = message_content(slot->message);
    *out_redelivered = slot->redelivered;
    if (queue->life.failures.count > 0)
        life_add_count(queue, *out_seq, out);
    return QUEUE_GOT;
}

static void
purge_level(void *arg, struct backlog *backlog)
{
    size_t *purged = arg;

    *purged += backlog_purge(backlog);
}

size_t
queue_purge(struct queue *queue)
{
    size_t purged = 0;

    queue_each_level(queue, purge_level, &purged);
    life_purged(queue);
    return purged;
}

/* --- the end --------------------------------------------------------------------------- */

static void
release_takers(void *arg, struct backlog *backlog)
{
    struct window *window = &backlog->window;
    struct slot *slot;

    (void)arg;
    for (uint64_t seq = window->front.first; seq < window->front.end; seq++)
        if ((slot = window_slot(window, seq)) != NULL && slot->state == SLOT_UNACKED)
            release_taker(backlog->queue, slot);
    for (size_t at = 0; (slot = idmap_next(&window->stragglers, &at)) != NULL;)
        if (slot->state == SLOT_UNACKED)
            release_taker(backlog->queue, slot);
}

static void
fini_level(void *arg, struct backlog *backlog)
{
    const bool *forget = arg;

    backlog_fini(backlog, *forget);
    if (backlog != &backlog->queue->plain)
        free(backlog);
}

void
queue_fini(struct queue *queue, bool forget)
{
    queue_each_level(queue, release_takers, NULL);
    list_each_safe (at, &queue->all)
        queue_cancel(queue, container_of(at, struct consumer, all), false);
    life_fini(queue);
    queue_each_level(queue, fini_level, &forget);
    free(queue->levels);
    if (queue->dedup != NULL)
        dedup_fini(queue->dedup);
    free(queue->dedup);
    queue_rules_fini(&queue->settings.rules);
}

static void
check_levels(const struct queue *queue)
{
    window_check(&queue->plain.window);
    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++) {
        const struct backlog *backlog = queue->levels->at[l];

        if (backlog == NULL)
            continue;
        window_check(&backlog->window);
        assert(backlog->window.ready == 0 ||
               (queue->levels->occupied[l / 64] & UINT64_C(1) << l % 64) != 0);
    }
}

/* For a page, or for the journal. */
static bool
is_waiting(const struct queue *queue)
{
    const struct backlog *plain = &queue->plain;
    bool yes = plain->waits_for_mark || (plain->pages != NULL && pages_is_reading(plain->pages));

    for (unsigned l = 1; queue->levels != NULL && l <= queue->settings.max_priority; l++) {
        const struct backlog *backlog = queue->levels->at[l];

        yes |= backlog != NULL && (backlog->waits_for_mark ||
                                   (backlog->pages != NULL && pages_is_reading(backlog->pages)));
    }
    return yes;
}

void
queue_check(const struct queue *queue)
{
    uint32_t consumers = 0, able = 0, in_line = 0;
    size_t unacked = 0;
    const struct consumer *before = NULL;

    check_levels(queue);
    list_each (at, &queue->all) {
        const struct consumer *c = container_of(at, struct consumer, all);

        consumers++;
        able += is_able(c);
        unacked += c->unacked;
        assert(is_able(c) == list_is_linked(&c->line));
        assert(c->refs == c->unacked + 1);
        assert(!c->exclusive || (queue->exclusive == c && queue->n_consumers == 1));
    }
    list_each (at, &queue->line) {
        const struct consumer *c = container_of(at, struct consumer, line);

        in_line++;
        assert(before == NULL || before->priority >= c->priority);
        before = c;
    }
    assert(consumers == queue->n_consumers && able == in_line);
    assert(unacked <= queue_unacked(queue));
    assert(queue_ready(queue) == 0 || able == 0 || is_waiting(queue));
}
