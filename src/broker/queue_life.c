#include "lepus/broker/queue_life.h"

#include <assert.h>
#include <stdlib.h>

#include "queue_priv.h"

#include "lepus/base/mem.h"
#include "lepus/broker/delay.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { DEATHS_A_TURN = 1024 };

static void
look_at_rules(struct queue *queue)
{
    struct queue_life *life = &queue->life;
    const struct queue_rules *rules = &queue->settings.rules;
    bool limited = rules->max_length != RULE_NONE || rules->max_bytes != RULE_NONE;

    life->drops_head = limited && rules->overflow == OVERFLOW_DROP_HEAD;
    life->refuses = limited && rules->overflow != OVERFLOW_DROP_HEAD;
    life->rules_publish = life->refuses || rules->ttl_ms != RULE_NONE || queue->settings.delays ||
                          queue->settings.dedup.size > 0;
}

void
queue_take_rules(struct queue *queue, struct queue_rules *rules)
{
    queue_rules_fini(&queue->settings.rules);
    queue->settings.rules = *rules;
    *rules = queue_rules_none;
    look_at_rules(queue);
    queue->loans.is_lending |= queue->settings.rules.consumer_timeout_ms != RULE_NONE;
}

void
life_init(struct queue *queue)
{
    struct queue_life *life = &queue->life;

    look_at_rules(queue);
    life->wake_ms = UINT64_MAX;
    idmap_init(&life->failures);
    buf_init(&life->scratch, SIZE_MAX / 2);
}

void
life_fini(struct queue *queue)
{
    struct queue_life *life = &queue->life;

    expiry_fini(&life->expiry);
    expiry_fini(&life->waiting);
    idmap_fini(&life->failures);
    free(life->bodiless);
    buf_fini(&life->scratch);
}

/* --- deaths ---------------------------------------------------------------------------- */

/* Its page is fetched first; until then it stays UNACKED. */
static void
wait_for_body(struct queue *queue, struct backlog *backlog, uint64_t seq, enum death why)
{
    struct queue_life *life = &queue->life;

    life->bodiless = mem_resize(life->bodiless, (life->n_bodiless + 1) * sizeof(life->bodiless[0]));
    window_slot(&backlog->window, seq)->taker = NULL;
    life->bodiless[life->n_bodiless++] = (struct bodiless){
        .seq = outer_seq(backlog, seq), .why = why, .asked = backlog_load(backlog, seq)};
}

void
life_die(struct queue *queue, struct backlog *backlog, struct settled_run *run, uint64_t seq,
         enum death why)
{
    const struct slot *slot = window_slot(&backlog->window, seq);
    uint64_t outer = outer_seq(backlog, seq);

    if (queue->settings.rules.has_dead_letter_exchange) {
        if (slot->message == NULL) {
            wait_for_body(queue, backlog, seq, why);
            return;
        }
        queue->ops->died(queue->ops_arg, queue, outer, why, backlog_hold(backlog, seq));
    } else if (slot->state == SLOT_READY) {
        backlog_drop(backlog, run, seq);
    } else {
        backlog_settle(backlog, run, seq);
    }
    life_forget_failures(queue, outer);
}

bool
queue_bury(struct queue *queue, uint64_t seq)
{
    struct backlog *backlog = queue_level(queue, backlog_id_level(seq));

    return backlog != NULL && backlog_release(backlog, backlog_id_queue(seq));
}

/* Those whose page has come die; the next one's is asked for. One that cannot be read is settled:
 * backlog.c has told. */
static void
bodies_came(struct queue *queue)
{
    struct queue_life *life = &queue->life;
    struct bodiless *waiting = life->bodiless;
    size_t n = life->n_bodiless;

    life->bodiless = NULL;
    life->n_bodiless = 0;
    for (size_t i = 0; i < n; i++) {
        struct backlog *backlog = queue_level(queue, backlog_id_level(waiting[i].seq));
        uint64_t seq = backlog_id_queue(waiting[i].seq);
        const struct slot *slot = window_slot(&backlog->window, seq);
        struct settled_run run = {0};

        if (slot == NULL || slot->state != SLOT_UNACKED)
            continue;
        if (slot->message == NULL && waiting[i].asked) {
            backlog_settle(backlog, &run, seq);
            backlog_end_run(backlog, &run);
            continue;
        }
        life_die(queue, backlog, &run, seq, waiting[i].why);
    }
    free(waiting);
}

/* --- limits ---------------------------------------------------------------------------- */

struct load {
    uint64_t ready, bytes;
};

static void
add_load(void *arg, struct backlog *backlog)
{
    struct load *load = arg;

    load->ready += backlog->window.ready;
    load->bytes += backlog->window.ready_bytes;
}

static struct load
load_of(const struct queue *queue)
{
    struct load load = {0};

    if (queue->levels == NULL)
        add_load(&load, (struct backlog *)(uintptr_t)&queue->plain);
    else
        queue_each_level((struct queue *)(uintptr_t)queue, add_load, &load);
    return load;
}

bool
queue_refuses(const struct queue *queue, const struct content *content)
{
    const struct queue_rules *rules = &queue->settings.rules;
    struct load load;

    if (!queue->life.refuses)
        return false;
    load = load_of(queue);
    return load.ready + 1 > rules->max_length || load.bytes + content->body.len > rules->max_bytes;
}

static bool
is_over(const struct queue *queue)
{
    const struct queue_rules *rules = &queue->settings.rules;
    struct load load = load_of(queue);

    return load.ready > rules->max_length || load.bytes > rules->max_bytes;
}

/* False: there is more to drop, another time. */
static bool
trim(struct queue *queue)
{
    struct settled_run run = {0};
    struct backlog *at = NULL;
    unsigned left = DEATHS_A_TURN;

    for (; left > 0 && is_over(queue); left--) {
        struct backlog *backlog = queue_last_level(queue);
        uint64_t seq = backlog != NULL ? backlog_head(backlog) : 0;

        if (seq == 0)
            break; /* a page is on its way, and life_loaded goes on */
        if (at != NULL && at != backlog)
            backlog_end_run(at, &run);
        at = backlog;
        life_die(queue, backlog, &run, seq, DEATH_MAXLEN);
    }
    if (at != NULL)
        backlog_end_run(at, &run);
    return left > 0;
}

/* --- expiry ---------------------------------------------------------------------------- */

void
life_wake_by(struct queue *queue, uint64_t at_ms)
{
    if (at_ms >= queue->life.wake_ms)
        return;
    queue->life.wake_ms = at_ms;
    queue->ops->wake(queue->ops_arg, queue, at_ms);
}

static void
add_if_dated(void *arg, uint64_t seq, const struct slot *slot)
{
    struct backlog *backlog = arg;

    if (slot->state == SLOT_READY && slot->message->expires_ms != 0)
        expiry_add(&backlog->queue->life.expiry, slot->message->expires_ms,
                   outer_seq(backlog, seq));
}

static void
add_level(void *arg, struct backlog *backlog)
{
    (void)arg;
    window_each(&backlog->window, 1, add_if_dated, backlog);
}

static void
count_in_memory(void *arg, struct backlog *backlog)
{
    size_t *n = arg;

    *n += backlog->window.ready - backlog->window.middle;
}

void
life_add_deadline(struct queue *queue, struct backlog *backlog, uint64_t seq, uint64_t at_ms)
{
    struct expiry *expiry = &queue->life.expiry;

    if (queue->settings.delays)
        return; /* delay_came and delay_tidy take it */
    queue->life.is_dated = true;
    expiry_add(expiry, at_ms, outer_seq(backlog, seq));
    if (expiry->n == expiry->size) {
        size_t waiting = 0;

        queue_each_level(queue, count_in_memory, &waiting);
        if (expiry_is_stale(expiry, waiting)) {
            expiry_clear(expiry);
            queue_each_level(queue, add_level, NULL);
        }
    }
    life_wake_by(queue, at_ms);
}

void
life_returned(struct queue *queue, struct backlog *backlog, uint64_t seq)
{
    const struct slot *slot = window_slot(&backlog->window, seq);

    if (slot->message != NULL && slot->message->expires_ms != 0)
        life_add_deadline(queue, backlog, seq, slot->message->expires_ms);
}

bool
life_head_expired(struct queue *queue, struct backlog *backlog, uint64_t seq)
{
    const struct slot *slot = window_slot(&backlog->window, seq);
    struct settled_run run = {0};

    if (slot->message->expires_ms == 0 ||
        slot->message->expires_ms > queue->ops->now_ms(queue->ops_arg))
        return false;
    life_die(queue, backlog, &run, seq, DEATH_EXPIRED);
    backlog_end_run(backlog, &run);
    return true;
}

/* The entry is still true. */
static bool
is_due(struct backlog *backlog, const struct deadline *deadline)
{
    const struct slot *slot =
        backlog != NULL ? window_slot(&backlog->window, backlog_id_queue(deadline->seq)) : NULL;

    if (slot == NULL || slot->state != SLOT_READY)
        return false;
    if (slot->message == NULL)
        backlog_load(backlog, backlog_id_queue(deadline->seq)); /* it dies when it has come */
    return slot->message != NULL && slot->message->expires_ms == deadline->at_ms;
}

static void
expire(struct queue *queue, uint64_t now_ms)
{
    struct expiry *expiry = &queue->life.expiry;
    struct settled_run run = {0};
    struct backlog *at = NULL;
    unsigned left = DEATHS_A_TURN;

    for (; left > 0 && expiry_next_ms(expiry) <= now_ms; left--) {
        struct deadline deadline = expiry_pop(expiry);
        struct backlog *backlog = queue_level(queue, backlog_id_level(deadline.seq));

        if (!is_due(backlog, &deadline))
            continue;
        if (at != NULL && at != backlog)
            backlog_end_run(at, &run);
        at = backlog;
        life_die(queue, backlog, &run, backlog_id_queue(deadline.seq), DEATH_EXPIRED);
    }
    if (at != NULL)
        backlog_end_run(at, &run);
}

/* Something in the middle may have expired, and nothing stands before it. */
static void
look_at_middle(void *arg, struct backlog *backlog)
{
    struct window *window = &backlog->window;
    uint64_t now_ms = *(const uint64_t *)arg;

    if (window->middle == 0)
        return;
    if (window->middle_due_ms > now_ms)
        life_wake_by(backlog->queue, window->middle_due_ms);
    else if (window_peek(window) == 0 && window->middle > 0)
        backlog_load(backlog, 0);
}

/* On pages there may be what expires: nothing else would tell. */
static void
look_at_restored(void *arg, struct backlog *backlog)
{
    struct queue *queue = arg;

    if (backlog->window.middle_due_ms == UINT64_MAX)
        return;
    queue->life.is_dated = true;
    life_wake_by(queue, backlog->window.middle_due_ms);
}

void
life_wish_waits(struct queue *queue)
{
    if (queue->life.waiting.n > 0)
        life_wake_by(queue, expiry_next_ms(&queue->life.waiting));
}

void
life_restored(struct queue *queue)
{
    if (queue->life.has_early)
        life_wake_by(queue, 0);
    if (queue->settings.delays) {
        life_wake_by(queue, 0);
        return;
    }
    queue_each_level(queue, look_at_restored, queue);
    if (queue->life.drops_head && is_over(queue)) /* a policy came while it was not there */
        life_wake_by(queue, queue->ops->now_ms(queue->ops_arg));
}

static void
tidy_dated(struct queue *queue)
{
    uint64_t now_ms = queue->ops->now_ms(queue->ops_arg);

    queue->life.wake_ms = UINT64_MAX;
    expire(queue, now_ms);
    queue_each_level(queue, look_at_middle, &now_ms);
    if (queue->life.expiry.n > 0)
        life_wake_by(queue, expiry_next_ms(&queue->life.expiry));
    loans_wish(queue);
    life_wish_waits(queue);
}

void
queue_tidy(struct queue *queue)
{
    bool has_trimmed;

    if (queue->settings.delays) {
        delay_tidy(queue);
        return;
    }
    has_trimmed = !queue->life.drops_head || trim(queue);
    if (queue->life.is_dated)
        tidy_dated(queue);
    if (!has_trimmed)
        life_wake_by(queue, queue->ops->now_ms(queue->ops_arg));
}

void
life_loaded(struct queue *queue)
{
    if (queue->life.n_bodiless > 0)
        bodies_came(queue);
    queue_tidy(queue);
}
