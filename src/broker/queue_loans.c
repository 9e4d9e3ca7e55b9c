#include "lepus/broker/queue_loans.h"

#include <stdlib.h>

#include "queue_priv.h"

#include "lepus/base/mem.h"

enum { RECALLS_A_TURN = 256 };

void
loan_line_init(struct loan_line *line)
{
    list_init(&line->loans);
    line->link = (struct list){0};
}

void
loans_init(struct queue *queue)
{
    struct queue_loans *loans = &queue->loans;

    list_init(&loans->lines);
    loan_line_init(&loans->gets);
    loans->next_ms = UINT64_MAX;
    loans->is_lending = queue->settings.rules.consumer_timeout_ms != RULE_NONE;
}

static uint64_t
timeout_of(const struct queue *queue, const struct consumer *c)
{
    uint64_t timeout_ms = c != NULL && c->timeout_ms != RULE_NONE
                              ? c->timeout_ms
                              : queue->settings.rules.consumer_timeout_ms;

    return timeout_ms != RULE_NONE ? timeout_ms : 0;
}

/* At most one timer for all of them, set anew when it has fired: next_ms may be too early. */
static void
expect(struct queue *queue, uint64_t at_ms)
{
    if (at_ms >= queue->loans.next_ms)
        return;
    queue->loans.next_ms = at_ms;
    life_wake_by(queue, at_ms);
}

void
loans_wish(struct queue *queue)
{
    if (queue->loans.next_ms != UINT64_MAX)
        life_wake_by(queue, queue->loans.next_ms);
}

void *
loan_new(struct queue *queue, struct consumer *c, uint64_t channel, uint64_t outer)
{
    uint64_t timeout_ms = timeout_of(queue, c);
    struct loan_line *line = c != NULL ? &c->loans : &queue->loans.gets;
    struct loan *loan;

    if (timeout_ms == 0)
        return c;
    loan = mem_new(struct loan);
    loan->line = line;
    loan->consumer = c;
    loan->channel = channel;
    loan->seq = outer;
    loan->timeout_ms = timeout_ms;
    loan->until_ms = queue->ops->now_ms(queue->ops_arg) + timeout_ms;
    if (list_is_empty(&line->loans))
        list_append(&queue->loans.lines, &line->link);
    list_append(&line->loans, &loan->link);
    expect(queue, loan->until_ms);
    return loan_as_taker(loan);
}

struct consumer *
loan_end(struct loan *loan)
{
    struct consumer *c = loan->consumer;

    list_remove(&loan->link);
    if (list_is_empty(&loan->line->loans))
        list_remove(&loan->line->link);
    free(loan);
    return c;
}

void
queue_lend_got(struct queue *queue, uint64_t seq, uint64_t channel)
{
    struct backlog *backlog;
    struct slot *slot;

    if (!queue->loans.is_lending)
        return;
    backlog = queue_level(queue, backlog_id_level(seq));
    slot = backlog != NULL ? window_slot(&backlog->window, backlog_id_queue(seq)) : NULL;
    if (slot != NULL && slot->state == SLOT_UNACKED && slot->taker == NULL)
        slot->taker = loan_new(queue, NULL, channel, seq);
}

/* The line's first one when it is overdue, put last to be asked for again later. */
static struct loan *
take_overdue(struct loan_line *line, uint64_t now_ms)
{
    struct loan *loan = container_of(line->loans.next, struct loan, link);

    if (loan->until_ms > now_ms)
        return NULL;
    loan->until_ms = now_ms + loan->timeout_ms;
    list_remove(&loan->link);
    list_append(&line->loans, &loan->link);
    return loan;
}

/* What is asked for is copied first: the answer may come, and the queue may end, before
 * ops->overdue returns. */
void
queue_recall(struct queue *queue)
{
    struct loan asked[RECALLS_A_TURN];
    uint64_t now_ms = queue->ops->now_ms(queue->ops_arg), next_ms = UINT64_MAX;
    const struct queue_ops *ops = queue->ops;
    uint64_t id = queue->id;
    void *arg = queue->ops_arg;
    size_t n = 0;

    if (queue->loans.next_ms > now_ms) {
        loans_wish(queue);
        return;
    }
    list_each (at, &queue->loans.lines) {
        struct loan_line *line = container_of(at, struct loan_line, link);
        const struct loan *loan;
        uint64_t first_ms;

        while (n < RECALLS_A_TURN && (loan = take_overdue(line, now_ms)) != NULL)
            asked[n++] = *loan;
        first_ms = container_of(line->loans.next, struct loan, link)->until_ms;
        next_ms = first_ms < next_ms ? first_ms : next_ms;
    }
    queue->loans.next_ms = UINT64_MAX;
    expect(queue, next_ms);
    for (size_t i = 0; i < n; i++)
        ops->overdue(arg, id, &asked[i]);
}
