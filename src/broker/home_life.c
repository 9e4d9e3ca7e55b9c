/*
 * home_life: the clock of a home's queues, and what it brings about: messages that expire, and
 * queues that nobody uses (x-expires).
 *
 * The clock is the wall's, taken once, and goes on as the worker's own does: deadlines that were
 * written down mean the same after a restart, and a wall clock that is set meanwhile kills nothing.
 *
 * A queue has one timer, for whichever comes first: the wake it asked for, or the end of its lease.
 * Unused is a queue that has no consumers; a declare, active or passive, a basic.get and a
 * consumer's leaving renew the lease [RabbitMQ: x-expires]. A durable queue's lease begins anew
 * when the broker starts.
 */
#include <assert.h>

#include "home_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "lepus/broker/delay.h"
#include "lepus/wire/table.h"

enum {
    LETTERS_MAX = 16384, /* with more on their way, expired messages wait a little */
    CROWDED_MS = 5,
};

uint64_t
home_now_ms(const struct home *home)
{
    return worker_now_ms(home->post->worker) + home->wall_offset_ms;
}

uint64_t
life_now_ms(void *arg)
{
    return home_now_ms(arg);
}

void
home_life_init(struct home *home)
{
    home->wall_offset_ms = clock_wall_ms() - clock_now_ms();
}

/* --- one timer a queue ----------------------------------------------------------------- */

static uint64_t
lease_end_ms(const struct queue *queue)
{
    return queue->settings.rules.lease_ms == RULE_NONE || queue->n_consumers > 0
               ? UINT64_MAX
               : queue->used_ms + queue->settings.rules.lease_ms;
}

static void
set_timer(struct home *home, struct queue *queue)
{
    uint64_t now_ms = home_now_ms(home), end_ms = lease_end_ms(queue), at_ms = queue->life.wake_ms;

    if (end_ms < at_ms)
        at_ms = end_ms;
    if (at_ms == UINT64_MAX)
        return;
    worker_timer_set(home->post->worker, &queue->timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

static void
on_timer(void *arg)
{
    struct queue *queue = arg;
    struct home *home = queue->ops_arg;
    uint64_t now_ms = home_now_ms(home);

    if (lease_end_ms(queue) <= now_ms) {
        if (topology_queue_remove(home->topology, queue->id))
            home_end_queue(home, queue);
        return; /* otherwise somebody else removed it, and will say so */
    }
    if (queue->life.wake_ms <= now_ms && home->letters.n > LETTERS_MAX) {
        worker_timer_set(home->post->worker, &queue->timer, CROWDED_MS);
        return;
    }
    if (queue->life.wake_ms <= now_ms) {
        queue->life.wake_ms = UINT64_MAX;
        set_timer(home, queue); /* its lease's end */
        queue_tidy(queue);
        queue_resume(queue);
        store_look_at_queue(home, queue);
        queue_recall(queue); /* it may be gone now */
        return;
    }
    set_timer(home, queue);
}

void
life_wake(void *arg, struct queue *queue, uint64_t at_ms)
{
    (void)at_ms;
    set_timer(arg, queue);
}

void
life_died(void *arg, struct queue *queue, uint64_t seq, enum death why, struct message *message)
{
    letters_add(arg, queue, seq, why, message);
}

/* --- queues ---------------------------------------------------------------------------- */

void
home_queue_used(struct home *home, struct queue *queue)
{
    if (queue->settings.rules.lease_ms == RULE_NONE)
        return;
    queue->used_ms = home_now_ms(home);
    if (queue->n_consumers == 0)
        set_timer(home, queue);
}

struct ids {
    uint64_t *at;
    size_t n, size;
};

static void
add_id(void *arg, uint64_t id)
{
    struct ids *ids = arg;

    if (ids->n == ids->size) {
        ids->size = ids->size > 0 ? ids->size * 2 : 64;
        ids->at = mem_resize(ids->at, ids->size * sizeof(ids->at[0]));
    }
    ids->at[ids->n++] = id;
}

bool
home_has_lease(const struct queue_description *queue)
{
    struct field expires;

    return table_find(view_of(queue->arguments, queue->arguments_len), VIEW_LIT("x-expires"),
                      &expires) ||
           table_find(view_of(queue->policy, queue->policy_len), VIEW_LIT("expires"), &expires);
}

/* A queue is made when it is first spoken to, but a lease runs without that. */
void
home_start_leases(struct home *home)
{
    struct ids ids = {0};

    topology_each_durable_queue(home->topology, add_id, &ids);
    for (size_t i = 0; i < ids.n; i++) {
        struct queue_description found;

        if (!topology_queue_describe(home->topology, ids.at[i], &found))
            continue;
        if (topology_worker_of(home->topology, found.ref.shard) == home->post->index &&
            home_has_lease(&found))
            home_queue(home, ids.at[i]);
        queue_description_fini(&found);
    }
    free(ids.at);
}

/* Its dead letters tell it. */
static void
remember_name(struct queue *queue, const struct queue_description *from)
{
    if (!queue->settings.rules.has_dead_letter_exchange || queue->name != NULL)
        return;
    queue->vhost = from->vhost;
    queue->name = view_dup(view_of(from->name, from->name_len));
    queue->name_len = from->name_len;
}

void
home_queue_begin(struct home *home, struct queue *queue, const struct queue_description *from)
{
    queue->timer = (struct worker_timer){.fire = on_timer, .arg = queue};
    remember_name(queue, from);
    home_queue_used(home, queue);
}

void
home_queue_ruled(struct home *home, struct queue *queue, const struct queue_description *from)
{
    struct queue_rules rules;
    bool is_other_lease;

    queue_rules_init(&rules, view_of(from->arguments, from->arguments_len),
                     view_of(from->policy, from->policy_len));
    is_other_lease = rules.lease_ms != queue->settings.rules.lease_ms;
    letters_send(home); /* those who died under the old rules go where these said */
    queue_take_rules(queue, &rules);
    remember_name(queue, from);
    if (is_other_lease)
        home_queue_used(home, queue);
    queue_tidy(queue);
    store_look_at_queue(home, queue);
}

void
home_queue_finish(struct queue *queue)
{
    worker_timer_cancel(&queue->timer);
    free(queue->name);
    queue->name = NULL;
}

/* --- publishes ------------------------------------------------------------------------- */

/* Due is counted from this moment, not from when the turn began, and rounded up. */
static uint64_t
deadline(const struct home *home, const struct publish *publish, const struct queue *queue)
{
    if (queue->settings.passes_on)
        return home_now_ms(home);
    if (queue->settings.delays)
        return clock_now_ms() + home->wall_offset_ms + 1 +
               delay_asked_ms(publish->content->properties);
    return queue_deadline(queue, publish->expiration_ms, home_now_ms(home));
}

/* What was made for other queues expires at another time: it is written down, and this queue gets
 * a message of its own. True when that has been done. */
bool
home_date(struct home *home, struct publish *publish, const struct queue *queue)
{
    uint64_t at_ms = deadline(home, publish, queue);
    bool kept = false;

    publish->is_dated = true;
    publish->expires_ms = at_ms;
    if (publish->made == NULL || publish->made->expires_ms == at_ms)
        return false;
    if (home->n_targets > 0) {
        store_published(home, publish);
        home->n_targets = 0;
        kept = true;
    }
    message_unref(&publish->made);
    return kept;
}
