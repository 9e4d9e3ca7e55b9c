#include "lepus/broker/delay.h"

#include <string.h>

#include "queue_priv.h"

#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { TAKEN_A_TURN = 8192, LEAVE_A_TURN = 1024, ASK_MAX = 3 };

/* Some thousand years: any sum with a clock's milliseconds is a number still. */
#define DELAY_MAX_MS (UINT64_C(1) << 48)

static const struct view header_name = {(const uint8_t *)"x-delay", 7};

/* --- the header ------------------------------------------------------------------------ */

static uint64_t
limited(uint64_t ms)
{
    return ms < DELAY_MAX_MS ? ms : DELAY_MAX_MS;
}

static uint64_t
of_digits(struct view digits)
{
    uint64_t ms = 0;

    for (size_t i = 0; i < digits.len; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return 0;
        ms = limited(ms * 10 + (uint64_t)(digits.at[i] - '0'));
    }
    return ms;
}

static uint64_t
of_floating(double value)
{
    return value >= (double)DELAY_MAX_MS ? DELAY_MAX_MS : value >= 1 ? (uint64_t)value : 0;
}

static uint64_t
of_field(const struct field *field)
{
    uint32_t narrow = 0;
    uint64_t wide = 0;
    float single;
    double twice;

    if (field_is_integer(field))
        return field->integer > 0 ? limited((uint64_t)field->integer) : 0;
    if (field->type == FIELD_LONGSTR)
        return of_digits(field->bytes);
    if (field->type == FIELD_FLOAT) {
        narrow = be_u32(field->bytes.at);
        memcpy(&single, &narrow, sizeof(single));
        return of_floating((double)single);
    }
    if (field->type == FIELD_DOUBLE) {
        wide = be_u64(field->bytes.at);
        memcpy(&twice, &wide, sizeof(twice));
        return of_floating(twice);
    }
    return 0;
}

uint64_t
delay_asked_ms(struct view properties)
{
    struct view headers;
    struct field field;

    if (!props_find(properties, PROP_headers, &headers) ||
        !table_find(headers, header_name, &field))
        return 0;
    return of_field(&field);
}

void
delay_properties(struct buf *to, struct view properties, bool is_delayed)
{
    const struct view names[] = {VIEW_LIT("BCC"), header_name};
    int64_t negative = -(int64_t)delay_asked_ms(properties);
    struct view headers = {0}, table;
    struct buf buf;

    buf_init(&buf, SIZE_MAX / 2);
    props_find(properties, PROP_headers, &headers);
    table_copy_without(&buf, headers, names, is_delayed ? 2 : 1);
    if (is_delayed && negative >= INT32_MIN)
        table_put_i32(&buf, header_name, (int32_t)negative);
    else if (is_delayed)
        table_put_i64(&buf, header_name, negative);
    table = buf_view(&buf);
    props_copy_with(to, properties, PROP_headers, &table);
    buf_fini(&buf);
}

/* --- the queue ------------------------------------------------------------------------- */

/* False: some are left, for another turn or for when their page has come. */
static bool
take_in(struct queue *queue, bool *out_waits_for_page)
{
    struct backlog *backlog = &queue->plain;
    unsigned left = TAKEN_A_TURN;
    uint64_t seq = 0;

    while (left-- > 0 && (seq = backlog_head(backlog)) != 0) {
        const struct slot *slot = backlog_take(backlog, seq, NULL);

        expiry_add(&queue->life.expiry, slot->message->expires_ms, seq);
    }
    *out_waits_for_page = seq == 0;
    return backlog->window.ready == 0;
}

/* What came with its page may go to a page again before it leaves: then it is asked for anew. */
static void
look_at_asked(struct queue *queue)
{
    struct queue_life *life = &queue->life;
    const struct slot *slot = NULL;

    if (life->asked_body == 0)
        return;
    slot = window_slot(&queue->plain.window, life->asked_body);
    if (slot == NULL || slot->message != NULL)
        life->asked_body = 0;
}

/* The first one cannot leave yet: its body is on a page. False: the page has come without it, again
 * and again; backlog.c has told why. */
static bool
waits_for_body(struct queue *queue, uint64_t seq)
{
    struct queue_life *life = &queue->life;
    struct backlog *backlog = &queue->plain;

    if (backlog->pages == NULL)
        return false;
    if (pages_is_reading(backlog->pages))
        return true;
    if (life->asked_body != seq) {
        life->asked_body = seq;
        life->asked_times = 0;
    }
    return life->asked_times++ < ASK_MAX && backlog_load(backlog, seq);
}

/* False: the first one waits for its page. */
static bool
let_go(struct queue *queue, uint64_t now_ms)
{
    struct expiry *index = &queue->life.expiry;
    struct backlog *backlog = &queue->plain;
    struct settled_run run = {0};
    bool may_go_on = true;

    for (unsigned n = 0; n < LEAVE_A_TURN && expiry_next_ms(index) <= now_ms; n++) {
        uint64_t seq = index->heap[0].seq;
        const struct slot *slot = window_slot(&backlog->window, seq);
        bool lives = slot != NULL && slot->state == SLOT_UNACKED;

        if (lives && slot->message == NULL && waits_for_body(queue, seq)) {
            may_go_on = false;
            break;
        }
        expiry_pop(index);
        if (lives && slot->message == NULL)
            backlog_settle(backlog, &run, seq);
        else if (lives)
            life_die(queue, backlog, &run, seq, DEATH_DUE);
    }
    backlog_end_run(backlog, &run);
    return may_go_on;
}

void
delay_tidy(struct queue *queue)
{
    uint64_t now_ms = queue->ops->now_ms(queue->ops_arg);
    bool waits_for_page;

    queue->life.wake_ms = UINT64_MAX;
    look_at_asked(queue);
    if (!take_in(queue, &waits_for_page)) {
        if (!waits_for_page)
            life_wake_by(queue, now_ms);
        return;
    }
    if (let_go(queue, now_ms) && queue->life.expiry.n > 0)
        life_wake_by(queue, expiry_next_ms(&queue->life.expiry));
}

void
delay_came(struct queue *queue)
{
    bool waits_for_page;

    if (take_in(queue, &waits_for_page) && queue->settings.passes_on)
        return; /* the publish asks for queue_tidy */
    if (queue->plain.window.ready == 0)
        life_wake_by(queue, expiry_next_ms(&queue->life.expiry));
    else if (!waits_for_page)
        life_wake_by(queue, 0);
}
