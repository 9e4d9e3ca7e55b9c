/*
 * channel_confirm: publisher confirms, gathered per turn.
 *
 * A publish on a confirming channel gets the next number and waits for one cmd_confirm from each
 * home that has a target queue; without any it is done at once. Once a turn the longest finished
 * run from the front is answered with one ack or nack (multiple) per stretch of equal outcome;
 * what is finished behind something unfinished is answered singly, so that nobody waits for
 * another queue's disk.
 */
#include <assert.h>

#include "amqp_priv.h"

#include "lepus/base/mem.h"

enum {
    DUE_NACK = 0x80,    /* a home refused */
    DUE_ANSWERED = 0x7F /* finished and answered, behind something unfinished */
};

static uint8_t *
due_of(const struct confirms *confirms, uint64_t number)
{
    return &confirms->due[number & confirms->mask];
}

static bool
is_finished(uint8_t due)
{
    return (due & ~DUE_NACK) == 0;
}

static void
grow(struct confirms *confirms)
{
    size_t size = confirms->due != NULL ? (confirms->mask + 1) * 2 : 64;
    uint8_t *due = mem_alloc(size);

    for (uint64_t n = confirms->first; n < confirms->next; n++)
        due[n & (size - 1)] = *due_of(confirms, n);
    free(confirms->due);
    confirms->due = due;
    confirms->mask = size - 1;
}

void
confirms_fini(struct confirms *confirms)
{
    free(confirms->due);
    confirms->due = NULL;
    confirms->mask = 0;
    confirms->first = confirms->next;
}

static void
finished(struct channel *ch, uint64_t number)
{
    if (number != ch->confirms.first)
        ch->confirms.ahead++;
    worker_schedule(ch->conn->amqp->worker, WORKER_GATHER, &ch->gather);
}

uint64_t
confirms_begin(struct channel *ch, unsigned homes)
{
    struct confirms *confirms = &ch->confirms;
    uint64_t number = confirms->next;

    assert(homes < DUE_ANSWERED);
    if (confirms->due == NULL || number - confirms->first > confirms->mask)
        grow(confirms);
    confirms->next++;
    *due_of(confirms, number) = (uint8_t)homes;
    if (homes == 0)
        finished(ch, number);
    return number;
}

static void
confirmed(struct channel *ch, uint64_t number, bool ok)
{
    uint8_t *due;

    if (number < ch->confirms.first || number >= ch->confirms.next)
        return;
    due = due_of(&ch->confirms, number);
    (*due)--;
    if (!ok)
        *due |= DUE_NACK;
    if (is_finished(*due))
        finished(ch, number);
}

void
channel_on_confirm(void *arg, const struct command *command)
{
    const struct cmd_confirm *cmd = (const void *)command;
    struct channel *ch = channel_of_id(arg, cmd->channel);

    for (uint32_t i = 0; ch != NULL && i < cmd->count; i++) {
        if (ch->mode == MODE_TX)
            tx_confirmed(ch, cmd->ok);
        else
            confirmed(ch, cmd->first + i, cmd->ok);
    }
}

static void
answer(struct channel *ch, uint64_t number, bool multiple, bool nack)
{
    if (nack)
        channel_send(ch, METHOD_basic_nack,
                     &(struct basic_nack){.delivery_tag = number, .multiple = multiple});
    else
        channel_send(ch, METHOD_basic_ack,
                     &(struct basic_ack){.delivery_tag = number, .multiple = multiple});
}

/* The finished run from the front; stretches of one outcome share an answer. */
static void
answer_front(struct channel *ch)
{
    struct confirms *confirms = &ch->confirms;

    while (confirms->first < confirms->next) {
        uint8_t outcome = *due_of(confirms, confirms->first);
        uint64_t first = confirms->first, last = 0;
        size_t unanswered = 0;

        if (outcome != DUE_ANSWERED && !is_finished(outcome))
            return;
        for (; confirms->first < confirms->next; confirms->first++) {
            uint8_t due = *due_of(confirms, confirms->first);

            if (due == DUE_ANSWERED)
                continue;
            if (!is_finished(due) || (unanswered > 0 && due != outcome))
                break;
            outcome = due;
            unanswered++;
            last = confirms->first;
        }
        if (unanswered > 0)
            answer(ch, last, last != first, (outcome & DUE_NACK) != 0);
    }
}

/* Those finished behind something unfinished, singly. */
static void
answer_ahead(struct channel *ch)
{
    for (uint64_t n = ch->confirms.first; n < ch->confirms.next; n++) {
        uint8_t *due = due_of(&ch->confirms, n);

        if (*due == DUE_ANSWERED || !is_finished(*due))
            continue;
        answer(ch, n, false, (*due & DUE_NACK) != 0);
        *due = DUE_ANSWERED;
    }
}

void
confirms_gather(void *arg)
{
    struct channel *ch = arg;
    bool some_ahead = ch->confirms.ahead > 0;

    ch->confirms.ahead = 0;
    answer_front(ch);
    if (some_ahead)
        answer_ahead(ch);
    if (ch->confirms.first == ch->confirms.next && ch->confirms.mask >= 4096)
        confirms_fini(&ch->confirms); /* a quiet channel holds no large ring */
}

bool
channel_handle_confirm_select(struct channel *ch, const union method_args *args, struct err *err)
{
    if (ch->mode == MODE_TX)
        return err_set(err, PRECONDITION_FAILED, "cannot switch from tx to confirm mode");
    ch->mode = MODE_CONFIRM;
    if (!args->confirm_select.nowait)
        channel_send(ch, METHOD_confirm_select_ok, NULL);
    return true;
}
