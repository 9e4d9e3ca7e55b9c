/*
 * home_letters: dead messages on their way to a dead-letter exchange.
 *
 * A queue tells of a death in the midst of something (home_died); the letter is written and sent at
 * the turn's end, or before the queue ends, in the order of deaths. The home is its publisher: each
 * queue that the exchange names gets a publish of its own (a *leg*), with the home's pseudo-channel
 * as the one that wants a confirm (id_of_home). When every leg is confirmed, which for a persistent
 * message in a durable queue means that the copy is on disk, the dead message is buried: settled in
 * its queue. Before that a crash, or the end of the broker, brings it back there, ready: a dead
 * letter may come twice, but is not lost on the way.
 *
 *   no such exchange, no route, a cycle    the message is buried at once, as in RabbitMQ
 *   a queue refuses its leg (full, or a    a persistent one is sent again to that queue each
 *   disk in trouble)                       RETRY_MS, a transient one is lost. RETRIES_MAX letters
 *                                          may wait so; further ones are lost, and that is told
 *   the dead message's queue ends          its letters go on their way, and nothing is settled
 */
#include <assert.h>

#include "home_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "lepus/broker/dead_letter.h"
#include "lepus/broker/delay.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum { RETRY_MS = 1000, RETRIES_MAX = 16384 };

/* Freed with its last leg. */
struct letter {
    struct list pending; /* in letters.pending until it is sent */
    uint64_t queue, seq; /* seq 0: it was refused as it was published, and is in no queue */
    enum death why;
    struct message *message; /* the dead one: a reference */
    struct buf properties;   /* the copy's */
    struct view exchange, routing_key;
    char *names; /* what these two are views of */
    unsigned legs;
};

struct leg {
    struct list waiting; /* linked while it waits to be sent again */
    struct letter *letter;
    struct queue_ref to;
};

static void
free_letter(struct letter *letter)
{
    message_unref(&letter->message);
    buf_fini(&letter->properties);
    free(letter->names);
    free(letter);
}

/* One leg is done, or the sending itself. */
static void
release(struct home *home, struct letter *letter)
{
    struct queue *queue;

    if (--letter->legs > 0)
        return;
    queue = letter->seq != 0 ? idmap_find(&home->queues, letter->queue) : NULL;
    if (queue != NULL && queue_bury(queue, letter->seq))
        store_look_at_queue(home, queue);
    home->letters.n--;
    free_letter(letter);
}

/* --- legs ------------------------------------------------------------------------------ */

static void
send_leg(struct home *home, struct leg *leg)
{
    const struct letter *letter = leg->letter;
    struct content dead = message_content(letter->message);
    uint64_t number = ++home->letters.number;
    struct cmd_publish cmd = {
        .head.kind = CMD_publish,
        .channel = id_of_home(home->post->index),
        .confirm = number,
        .targets = view_of(&leg->to, sizeof(leg->to)),
        .content = {.exchange = letter->exchange,
                    .routing_key = letter->routing_key,
                    .properties = buf_view(&letter->properties),
                    .body = dead.body,
                    .blob = dead.blob},
    };

    idmap_add(&home->letters.legs, number, leg);
    post_send(home->post, topology_worker_of(home->topology, leg->to.shard), &cmd.head);
}

static void
end_leg(struct home *home, struct leg *leg)
{
    struct letter *letter = leg->letter;

    free(leg);
    release(home, letter);
}

static void
refused(struct home *home, struct leg *leg)
{
    if (!leg->letter->message->persistent) {
        end_leg(home, leg);
    } else if (home->letters.n_waiting >= RETRIES_MAX) {
        log_warn(NULL,
                 "a dead letter of queue %llu is lost: too many wait for queues that refuse "
                 "them",
                 (unsigned long long)leg->letter->queue);
        end_leg(home, leg);
    } else {
        list_append(&home->letters.waiting, &leg->waiting);
        if (home->letters.n_waiting++ == 0)
            worker_timer_set(home->post->worker, &home->letters.retry, RETRY_MS);
    }
}

static void
on_retry(void *arg)
{
    struct home *home = arg;
    struct list due, *link;

    list_init(&due);
    while ((link = list_take_first(&home->letters.waiting)) != NULL)
        list_append(&due, link);
    home->letters.n_waiting = 0;
    while ((link = list_take_first(&due)) != NULL)
        send_leg(home, container_of(link, struct leg, waiting));
}

static void
on_home_confirm(void *arg, const struct command *command)
{
    struct home *home = arg;
    const struct cmd_home_confirm *cmd = (const void *)command;

    for (uint32_t i = 0; i < cmd->count; i++) {
        struct leg *leg = idmap_remove(&home->letters.legs, cmd->first + i);

        if (leg == NULL)
            continue;
        if (cmd->ok)
            end_leg(home, leg);
        else
            refused(home, leg);
    }
}

void
letters_confirm(struct home *home, uint64_t to, uint64_t first, uint32_t count, bool ok)
{
    struct cmd_home_confirm cmd = {
        .head.kind = CMD_home_confirm,
        .home = to,
        .first = first,
        .count = count,
        .ok = ok,
    };

    post_send(home->post, id_worker(to), &cmd.head);
}

/* --- letters --------------------------------------------------------------------------- */

static void
write_letter(struct home *home, struct letter *letter, struct queue *queue)
{
    const struct queue_rules *rules = &queue->settings.rules;
    struct content dead = message_content(letter->message);
    struct view exchange = queue_rules_exchange(rules);
    struct view key = rules->has_dead_letter_key ? queue_rules_key(rules) : dead.routing_key;
    struct death_note note = {
        .why = letter->why,
        .queue = view_of(queue->name, queue->name_len),
        .time_s = home_now_ms(home) / 1000,
        .has_key = rules->has_dead_letter_key,
    };

    letter->names = mem_alloc(exchange.len + key.len + 1);
    memcpy(letter->names, exchange.at, exchange.len);
    if (key.len > 0)
        memcpy(letter->names + exchange.len, key.at, key.len);
    letter->exchange = view_of(letter->names, exchange.len);
    letter->routing_key = view_of(letter->names + exchange.len, key.len);
    dead_letter_properties(&letter->properties, &dead, &note);
}

/* It goes on as it came, but for x-delay, which said how long; its strings are the message's. */
static void
write_due(struct letter *letter, const struct queue *queue)
{
    struct content due = message_content(letter->message);

    letter->exchange = due.exchange;
    letter->routing_key = due.routing_key;
    delay_properties(&letter->properties, due.properties, !queue->settings.passes_on);
}

/* Whether the queue died of it before: asked of the topology only when that can be. */
static bool
is_cycle(struct home *home, const struct letter *letter, struct view headers, bool died_before,
         const struct queue_ref *to)
{
    struct queue_description description;
    bool yes;

    if (letter->why == DEATH_REJECTED || letter->why == DEATH_DUE)
        return false;
    if (!died_before)
        return to->id == letter->queue;
    if (!topology_queue_describe(home->topology, to->id, &description))
        return false;
    yes = dead_letter_is_cycle(headers, view_of(description.name, description.name_len));
    queue_description_fini(&description);
    return yes;
}

static void
tell_cycle(struct queue *queue)
{
    if (!queue->has_told_cycle)
        log_warn(NULL,
                 "queue '" VIEW_FMT "' in vhost '%s': a dead letter that would go round by itself "
                 "is dropped, and so are those after it",
                 (int)queue->name_len, queue->name, vhost_name(queue->vhost));
    queue->has_told_cycle = true;
}

static void
send_to(struct home *home, struct queue *queue, struct letter *letter, const struct route *route)
{
    struct content dead = message_content(letter->message);
    struct view headers = {0}, before = {0};
    struct field deaths;
    bool died_before;

    props_find(buf_view(&letter->properties), PROP_headers, &headers);
    died_before = props_find(dead.properties, PROP_headers, &before) &&
                  table_find(before, VIEW_LIT("x-death"), &deaths);
    for (size_t i = 0; i < route->count; i++) {
        struct leg *leg;

        if (is_cycle(home, letter, headers, died_before, &route->targets[i])) {
            tell_cycle(queue);
            continue;
        }
        leg = mem_new(struct leg);
        leg->letter = letter;
        leg->to = route->targets[i];
        letter->legs++;
        send_leg(home, leg);
    }
}

/* The keys in CC or BCC. */
struct more_keys {
    struct view *at;
    size_t n;
};

static void
add_keys(struct more_keys *more, struct view properties, struct view name)
{
    struct view headers;
    struct field list, key;

    if (!props_find(properties, PROP_headers, &headers) || !table_find(headers, name, &list) ||
        list.type != FIELD_ARRAY)
        return;
    /* a longstr has 5 octets or more */
    more->at = mem_resize(more->at, (more->n + list.bytes.len / 5 + 1) * sizeof(more->at[0]));
    for (size_t at = 0; array_next(list.bytes, &at, &key);)
        if (key.type == FIELD_LONGSTR)
            more->at[more->n++] = key.bytes;
}

/* By the key, and by those in CC unless the queue names the key. */
static void
route_letter(const struct queue *queue, struct letter *letter, struct route *out)
{
    struct view properties = buf_view(&letter->properties);
    struct more_keys more = {0};
    struct err ignored; /* no such exchange: no route */

    add_keys(&more, properties, VIEW_LIT("CC"));
    if (!topology_route_dead(queue->vhost, letter->exchange, letter->routing_key, more.at, more.n,
                             properties, out, &ignored))
        out->count = 0;
    free(more.at);
}

static void
route_due(struct home *home, struct letter *letter, struct route *out)
{
    struct content due = message_content(letter->message);
    struct more_keys more = {0};

    add_keys(&more, due.properties, VIEW_LIT("CC"));
    add_keys(&more, due.properties, VIEW_LIT("BCC"));
    topology_route_own(home->topology, letter->queue, letter->routing_key, more.at, more.n,
                       buf_view(&letter->properties), out);
    free(more.at);
}

static void
send_letter(struct home *home, struct letter *letter)
{
    struct queue *queue = idmap_find(&home->queues, letter->queue);
    struct route route;

    letter->legs = 1; /* ours */
    if (queue != NULL) {
        route_init(&route);
        if (letter->why == DEATH_DUE) {
            write_due(letter, queue);
            route_due(home, letter, &route);
        } else {
            write_letter(home, letter, queue);
            route_letter(queue, letter, &route);
        }
        send_to(home, queue, letter, &route);
        route_fini(&route);
    }
    release(home, letter);
}

void
letters_send(struct home *home)
{
    struct list *link;

    while ((link = list_take_first(&home->letters.pending)) != NULL)
        send_letter(home, container_of(link, struct letter, pending));
}

static void
on_task(void *arg)
{
    letters_send(arg);
}

void
letters_add(struct home *home, struct queue *queue, uint64_t seq, enum death why,
            struct message *message)
{
    struct letter *letter = mem_new(struct letter);

    letter->queue = queue->id;
    letter->seq = seq;
    letter->why = why;
    letter->message = message_ref(message);
    buf_init(&letter->properties, SIZE_MAX / 2);
    list_append(&home->letters.pending, &letter->pending);
    home->letters.n++;
    worker_schedule(home->post->worker, WORKER_GATHER, &home->letters.task);
}

/* --- life ------------------------------------------------------------------------------ */

void
letters_init(struct home *home)
{
    list_init(&home->letters.pending);
    list_init(&home->letters.waiting);
    idmap_init(&home->letters.legs);
    home->letters.task = (struct worker_task){.run = on_task, .arg = home};
    home->letters.retry = (struct worker_timer){.fire = on_retry, .arg = home};
    post_handle(home->post, CMD_home_confirm, on_home_confirm, home);
}

static void
drop_leg(struct leg *leg)
{
    struct letter *letter = leg->letter;

    free(leg);
    if (--letter->legs == 0)
        free_letter(letter);
}

void
letters_fini(struct home *home)
{
    struct list *link;
    struct leg *leg;

    worker_task_cancel(&home->letters.task);
    worker_timer_cancel(&home->letters.retry);
    while ((link = list_take_first(&home->letters.pending)) != NULL)
        free_letter(container_of(link, struct letter, pending));
    while ((link = list_take_first(&home->letters.waiting)) != NULL)
        drop_leg(container_of(link, struct leg, waiting));
    for (size_t at = 0; (leg = idmap_next(&home->letters.legs, &at)) != NULL;)
        drop_leg(leg);
    idmap_fini(&home->letters.legs);
}
