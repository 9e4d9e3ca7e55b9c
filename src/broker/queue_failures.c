/* queue_failures: how often deliveries of a message have failed, and what waits for a retry. */
#include <stdlib.h>

#include "queue_priv.h"

#include "lepus/base/random.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { RETURNS_A_TURN = 4096 };

/* --- what is remembered ----------------------------------------------------------------- */

static struct failures
failures_of(const struct queue *queue, uint64_t outer)
{
    return failures_unpack(idmap_find(&queue->life.failures, outer));
}

static void
remember(struct queue *queue, uint64_t outer, struct failures failures)
{
    idmap_remove(&queue->life.failures, outer);
    idmap_add(&queue->life.failures, outer, failures_pack(failures));
}

void
queue_restore_failures(struct queue *queue, uint64_t seq, struct failures failures)
{
    if (failures.n == 0 && failures.due_ms == 0)
        return;
    remember(queue, seq, failures);
    queue->life.has_early |= failures.due_ms != 0;
}

void
queue_each_failed(struct backlog *backlog, queue_failed_fn *each, void *arg)
{
    const struct idmap *map = &backlog->queue->life.failures;

    for (size_t i = 0; map->count > 0 && i <= map->mask; i++) {
        uint64_t outer = map->entries[i].id, seq = backlog_id_queue(outer);
        const struct slot *slot;

        if (outer == 0 || backlog_id_level(outer) != backlog_id_level(backlog->id))
            continue;
        slot = window_slot(&backlog->window, seq);
        if (slot != NULL ? slot->persistent : window_middle_has(&backlog->window, seq))
            each(arg, backlog, seq, failures_unpack(map->entries[i].value));
    }
}

/* What was ready is gone. */
void
life_purged(struct queue *queue)
{
    struct idmap was = queue->life.failures;

    if (was.count == 0)
        return;
    idmap_init(&queue->life.failures);
    for (size_t i = 0; i <= was.mask; i++) {
        uint64_t outer = was.entries[i].id;
        struct backlog *backlog = outer != 0 ? queue_level(queue, backlog_id_level(outer)) : NULL;

        if (backlog != NULL && window_slot(&backlog->window, backlog_id_queue(outer)) != NULL)
            idmap_add(&queue->life.failures, outer, was.entries[i].value);
    }
    idmap_fini(&was);
}

/* --- one more --------------------------------------------------------------------------- */

static bool
is_counted(const struct queue_rules *rules, enum settle_how how)
{
    return rules->delivery_limit != RULE_NONE || !retry_is_none(&rules->retry) ||
           how == SETTLE_OVERDUE;
}

static uint64_t
limit_of(const struct queue_rules *rules)
{
    return rules->retry.n_steps > 0 && rules->retry.n_retries < rules->delivery_limit
               ? rules->retry.n_retries
               : rules->delivery_limit;
}

static void
wait_until(struct queue *queue, struct slot *slot, uint64_t outer, uint64_t due_ms)
{
    slot->taker = NULL;
    slot->redelivered = true;
    expiry_add(&queue->life.waiting, due_ms, outer);
    life_wake_by(queue, due_ms);
}

enum fate
life_failed(struct queue *queue, struct backlog *backlog, uint64_t seq, enum settle_how how)
{
    const struct queue_rules *rules = &queue->settings.rules;
    struct slot *slot = window_slot(&backlog->window, seq);
    uint64_t outer = outer_seq(backlog, seq);
    struct failures failures;

    if (!is_counted(rules, how))
        return FATE_BACK;
    failures = failures_of(queue, outer);
    if (failures.n < FAILURES_MAX)
        failures.n++;
    if (failures.n > limit_of(rules))
        return FATE_DIES;
    failures.due_ms = 0;
    if (how == SETTLE_RETURN ? rules->retry.returned : rules->retry.failed)
        failures.due_ms = queue->ops->now_ms(queue->ops_arg) +
                          retry_delay_ms(&rules->retry, failures.n, random_u64());
    remember(queue, outer, failures);
    if (backlog->durable && slot->persistent)
        backlog->ops->failed(backlog->ops_arg, backlog, seq, failures);
    if (failures.due_ms == 0)
        return FATE_BACK;
    wait_until(queue, slot, outer, failures.due_ms);
    return FATE_WAITS;
}

/* --- the end of a wait ------------------------------------------------------------------ */

static bool
ends_wait(struct queue *queue, const struct deadline *due)
{
    struct backlog *backlog = queue_level(queue, backlog_id_level(due->seq));
    uint64_t seq = backlog_id_queue(due->seq);
    struct failures failures = failures_of(queue, due->seq);
    const struct slot *slot = backlog != NULL ? window_slot(&backlog->window, seq) : NULL;

    if (failures.due_ms != due->at_ms || slot == NULL || slot->state != SLOT_UNACKED)
        return false;
    failures.due_ms = 0;
    remember(queue, due->seq, failures);
    queue_give_back(queue, backlog, seq, true);
    return true;
}

bool
life_end_waits(struct queue *queue)
{
    struct expiry *waiting = &queue->life.waiting;
    uint64_t now_ms;
    bool some = false;

    if (waiting->n == 0)
        return false;
    now_ms = queue->ops->now_ms(queue->ops_arg);
    for (unsigned n = 0; n < RETURNS_A_TURN && expiry_next_ms(waiting) <= now_ms; n++) {
        struct deadline due = expiry_pop(waiting);

        some |= ends_wait(queue, &due);
    }
    life_wish_waits(queue);
    return some;
}

bool
life_is_early(struct queue *queue, struct backlog *backlog, uint64_t seq)
{
    uint64_t outer = outer_seq(backlog, seq);
    struct failures failures = failures_of(queue, outer);

    if (failures.due_ms == 0)
        return false;
    if (failures.due_ms > queue->ops->now_ms(queue->ops_arg)) {
        wait_until(queue, backlog_take(backlog, seq, NULL), outer, failures.due_ms);
        return true;
    }
    failures.due_ms = 0;
    remember(queue, outer, failures);
    return false;
}

/* --- what consumers are told ------------------------------------------------------------ */

void
life_add_count(struct queue *queue, uint64_t outer, struct content *content)
{
    static const struct view names[] = {{(const uint8_t *)"x-delivery-count", 16},
                                        {(const uint8_t *)"x-retry-attempt", 15}};
    struct failures failures = failures_of(queue, outer);
    size_t n_names = retry_is_none(&queue->settings.rules.retry) ? 1 : 2;
    struct view headers = {0}, table;
    struct buf buf;

    if (failures.n == 0)
        return;
    buf_init(&buf, SIZE_MAX / 2);
    props_find(content->properties, PROP_headers, &headers);
    table_copy_without(&buf, headers, names, n_names);
    for (size_t i = 0; i < n_names; i++)
        table_put_i64(&buf, names[i], (int64_t)failures.n);
    table = buf_view(&buf);
    buf_clear(&queue->life.scratch);
    props_copy_with(&queue->life.scratch, content->properties, PROP_headers, &table);
    content->properties = buf_view(&queue->life.scratch);
    buf_fini(&buf);
}
