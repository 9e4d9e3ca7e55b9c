#include "lepus/broker/recovery.h"

#include <assert.h>
#include <stdlib.h>

#include "home_priv.h"

#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum {
    RANGES_TIDY = 4096,   /* that many ranges are merged before more are noted */
    RELIEVE_EVERY = 1024, /* messages */
};

/* What the first pass learns of a backlog. */
struct past {
    uint64_t id;
    struct buf state;
    struct seq_range *gone; /* since the state; ascending only after tidy() */
    size_t n_gone, gone_size, tidy_at;
    struct idmap failures; /* by seq: a struct failures, packed; some of what is gone */
    uint64_t mark, tail, end;
    struct queue *queue;     /* second pass; NULL: there is none */
    struct backlog *backlog; /* likewise */
    struct home *home;
};

struct recovery {
    const char *dir;
    struct file_system files;
    struct topology *topology;
    struct idmap pasts;
    struct journal_found found;
    struct home *const *homes;
    struct recovery_counts counts;
    uint64_t wall_ms;
    unsigned since_relief;
    bool is_unreadable; /* for why: to go on would be to lose what is there */
    struct err why;
};

/* --- the first pass -------------------------------------------------------------------- */

static struct past *
past_of(struct recovery *r, uint64_t id)
{
    struct past *past = idmap_find(&r->pasts, id);

    if (past == NULL && id != 0) {
        past = mem_new(struct past);
        past->id = id;
        past->tail = past->end = 1;
        past->tidy_at = RANGES_TIDY;
        buf_init(&past->state, SIZE_MAX);
        idmap_init(&past->failures);
        idmap_add(&r->pasts, id, past);
    }
    return past;
}

static void
past_free(struct past *past)
{
    buf_fini(&past->state);
    free(past->gone);
    idmap_fini(&past->failures);
    free(past);
}

static int
compare(const void *a, const void *b)
{
    const struct seq_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* Ascending, and none touches the next. */
static void
tidy(struct past *past)
{
    size_t n = 0;

    if (past->n_gone < 2)
        return;
    qsort(past->gone, past->n_gone, sizeof(past->gone[0]), compare);
    for (size_t i = 0; i < past->n_gone; i++) {
        const struct seq_range *range = &past->gone[i];

        if (n == 0 || range->first > past->gone[n - 1].last + 1)
            past->gone[n++] = *range;
        else if (range->last > past->gone[n - 1].last)
            past->gone[n - 1].last = range->last;
    }
    past->n_gone = n;
    past->tidy_at = n * 2 > RANGES_TIDY ? n * 2 : RANGES_TIDY;
}

static void
add_gone(struct past *past, const struct seq_range *range)
{
    struct seq_range *last = past->n_gone > 0 ? &past->gone[past->n_gone - 1] : NULL;

    if (last != NULL && range->first == last->last + 1) {
        last->last = range->last;
        return;
    }
    if (past->n_gone >= past->tidy_at)
        tidy(past);
    if (past->n_gone == past->gone_size) {
        past->gone_size = past->gone_size > 0 ? past->gone_size * 2 : 8;
        past->gone = mem_resize(past->gone, past->gone_size * sizeof(past->gone[0]));
    }
    past->gone[past->n_gone++] = *range;
}

static void
raise_to(uint64_t *value, uint64_t to)
{
    if (to > *value)
        *value = to;
}

/* New seqs begin above it, or they would count as delivered. */
static void
raise_mark(struct past *past, uint64_t mark)
{
    raise_to(&past->mark, mark);
    raise_to(&past->tail, mark);
}

static void
learn_publish(struct recovery *r, struct record_reader *reader, struct record *record)
{
    struct record_target target;

    while (record_next_target(reader, record, &target)) {
        struct past *past = past_of(r, target.queue);

        if (past != NULL && target.seq < UINT64_MAX)
            raise_to(&past->tail, target.seq + 1);
    }
}

static void
learn_settle(struct past *past, struct record_reader *reader, struct record *record)
{
    struct seq_range range;

    while (record_next_range(reader, record, &range))
        if (range.first > 0 && range.first <= range.last && range.last < UINT64_MAX) {
            add_gone(past, &range);
            raise_to(&past->tail, range.last + 1);
        }
}

static void
learn_state(struct past *past, const struct record *record)
{
    uint64_t end;

    if (!backlog_state_end(record->state, &end))
        return;
    buf_clear(&past->state);
    buf_append(&past->state, record->state.at, record->state.len);
    past->end = end;
    past->mark = 0; /* the state has it */
    raise_to(&past->tail, end);
    tidy(past);
    /* what was settled below the end is in the state */
    size_t n = 0;
    for (size_t i = 0; i < past->n_gone; i++)
        if (past->gone[i].last >= end) {
            past->gone[n] = past->gone[i];
            if (past->gone[n].first < end)
                past->gone[n].first = end;
            n++;
        }
    past->n_gone = n;
}

/* The last word on a message counts. A state says nothing of them: what it should say was said
 * right before it. */
static void
learn_failed(struct past *past, const struct record *record)
{
    if (record->seq == 0 || record->seq == UINT64_MAX)
        return;
    idmap_remove(&past->failures, record->seq);
    idmap_add(&past->failures, record->seq,
              failures_pack((struct failures){record->failures, record->due_ms}));
    raise_to(&past->tail, record->seq + 1);
}

static void
forget(struct recovery *r, uint64_t id)
{
    struct past *past = idmap_remove(&r->pasts, id);

    if (past != NULL)
        past_free(past);
}

static bool
learn(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct recovery *r = arg;
    struct record_reader reader;
    struct record record;
    struct past *past;

    record_reader_init(&reader, frame->payload);
    while (record_next(&reader, &record)) {
        switch (record.kind) {
        case RECORD_PUBLISH:
            learn_publish(r, &reader, &record);
            continue;
        case RECORD_FORGET:
            forget(r, record.queue);
            continue;
        case RECORD_SETTLE:
        case RECORD_DELIVERED:
        case RECORD_STATE:
        case RECORD_FAILED:
            break;
        }
        past = past_of(r, record.queue);
        if (past == NULL)
            continue;
        if (record.kind == RECORD_SETTLE)
            learn_settle(past, &reader, &record);
        else if (record.kind == RECORD_STATE)
            learn_state(past, &record);
        else if (record.kind == RECORD_FAILED)
            learn_failed(past, &record);
        else
            raise_mark(past, record.seq);
    }
    if (reader.bad)
        return err_set(err, INTERNAL_ERROR,
                       "journal %u: frame %llu: a record of a kind or shape that this version does "
                       "not know, at octet %zu",
                       frame->journal, (unsigned long long)frame->lsn, reader.at);
    return true;
}

static void
tell(void *arg, bool is_error, const char *line)
{
    (void)arg;
    if (is_error)
        log_error(NULL, "%s", line);
    else
        log_info(NULL, "%s", line);
}

static void
tell_nothing(void *arg, bool is_error, const char *line)
{
    (void)arg;
    (void)is_error;
    (void)line;
}

struct recovery *
recovery_open(const char *dir, const struct file_system *files, struct topology *topology,
              struct journal_found *out, struct err *err)
{
    struct recovery *r = mem_new(struct recovery);

    r->dir = dir;
    r->files = *files;
    r->topology = topology;
    idmap_init(&r->pasts);
    if (!journal_replay(dir, files, learn, tell, r, &r->found, err)) {
        recovery_free(r);
        return NULL;
    }
    *out = r->found;
    return r;
}

/* --- between --------------------------------------------------------------------------- */

static bool
is_gone(const struct past *past, uint64_t seq)
{
    size_t from = 0, to = past->n_gone;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (past->gone[middle].last < seq)
            from = middle + 1;
        else
            to = middle;
    }
    return from < past->n_gone && past->gone[from].first <= seq;
}

/* Of what is on pages, or may be in the journal. */
static void
restore_failures(struct past *past)
{
    const struct idmap *map = &past->failures;

    for (size_t i = 0; map->count > 0 && i <= map->mask; i++) {
        uint64_t seq = map->entries[i].id;

        if (seq != 0 && (seq < past->end ? window_middle_has(&past->backlog->window, seq)
                                         : !is_gone(past, seq)))
            queue_restore_failures(past->queue, level_seq(backlog_id_level(past->id), seq),
                                   failures_unpack(map->entries[i].value));
    }
}

static void
restore(struct recovery *r, struct past *past)
{
    struct queue_description description;
    struct backlog_restored restored = {.state = buf_view(&past->state)};
    uint64_t tail = 1;
    struct err err;

    if (!topology_queue_describe(r->topology, backlog_id_queue(past->id), &description))
        return;
    past->home = description.durable && description.type != QUEUE_STREAM
                     ? r->homes[topology_worker_of(r->topology, description.ref.shard)]
                     : NULL;
    queue_description_fini(&description);
    if (past->home == NULL)
        return;
    past->queue = home_queue(past->home, backlog_id_queue(past->id));
    past->backlog = queue_level(past->queue, backlog_id_level(past->id));
    if (past->backlog == NULL)
        return;
    tidy(past);
    restored.gone = past->gone;
    restored.n_gone = past->n_gone;
    restored.delivered_mark = past->mark;
    restored.adopt = r->found.corrupt > 0;
    if (!backlog_restore(past->backlog, &restored, &tail, &err)) {
        if (err.code == RESOURCE_ERROR && !r->is_unreadable) {
            r->is_unreadable = true;
            r->why = err;
        }
        log_error(NULL, "%s", err.text);
    }
    past->end = past->backlog->paged_end;
    raise_to(&past->tail, past->end);
    raise_to(&past->tail, tail);
    restore_failures(past);
}

/* The damage may have held states: every queue is asked for its pages. */
static void
add_queue(void *arg, uint64_t id)
{
    past_of(arg, id);
}

/* --- the second pass ------------------------------------------------------------------- */

/* It is remembered, whether its message is alive or not. When that came is only told by a queue
 * that passes on; otherwise its time begins anew. */
static void
remember_key(const struct recovery *r, struct past *past, const struct record_message *m,
             uint64_t seq)
{
    struct queue *queue = past->queue;
    bool is_told = queue->settings.passes_on && m->expires_ms != 0;
    uint64_t came_ms = is_told ? m->expires_ms : r->wall_ms;
    struct dedup_entry entry = {.seq = level_seq(backlog_id_level(past->id), seq)};

    if (queue->dedup == NULL || !dedup_key_of(m->content.properties, &entry.key))
        return;
    entry.until_ms = dedup_until_ms(queue->dedup, m->content.properties, came_ms);
    dedup_learn(queue->dedup, &entry, r->wall_ms);
}

/* Into each queue where it is still alive; queues of one frame have one home. */
static bool
put_back(struct recovery *r, struct record_reader *reader, struct record *record, struct err *err)
{
    struct record_message *m = &record->message;
    bool expired = m->expires_ms != 0 && m->expires_ms <= r->wall_ms;
    struct message *message = NULL;
    struct home *made_for = NULL;
    struct record_target target;

    while (record_next_target(reader, record, &target)) {
        struct past *past = idmap_find(&r->pasts, target.queue);

        if (past == NULL || past->backlog == NULL)
            continue;
        remember_key(r, past, m, target.seq);
        if (target.seq < past->end || (expired && !past->queue->settings.delays) ||
            is_gone(past, target.seq))
            continue;
        if (message != NULL && made_for != past->home)
            message_unref(&message);
        if (message == NULL)
            message = message_of_record(m, &past->home->memory);
        if (message == NULL)
            return err_set(err, RESOURCE_ERROR, "no memory for a message of %zu octets",
                           m->content.body.len);
        made_for = past->home;
        backlog_restore_message(past->backlog, target.seq, message);
        if (++r->since_relief >= RELIEVE_EVERY || m->content.body.len > BLOB_MIN) {
            r->since_relief = 0;
            home_relieve(past->home);
        }
    }
    message_unref(&message);
    return true;
}

static bool
apply(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct recovery *r = arg;
    struct record_reader reader;
    struct record record;

    record_reader_init(&reader, frame->payload);
    while (record_next(&reader, &record)) {
        struct seq_range skip;

        if (record.kind == RECORD_PUBLISH && !put_back(r, &reader, &record, err))
            return false;
        while (record.kind == RECORD_SETTLE && record_next_range(&reader, &record, &skip))
            continue;
    }
    return true;
}

bool
recovery_run(struct recovery *r, struct home *const *homes, struct recovery_counts *out,
             struct err *err)
{
    struct journal_found again;
    struct past *past;

    r->homes = homes;
    r->wall_ms = clock_wall_ms();
    if (r->found.corrupt > 0)
        topology_each_durable_queue(r->topology, add_queue, r);
    for (size_t at = 0; (past = idmap_next(&r->pasts, &at)) != NULL;)
        restore(r, past);
    if (r->is_unreadable) {
        *err = r->why;
        return false;
    }
    if (!journal_replay(r->dir, &r->files, apply, tell_nothing, r, &again, err))
        return false;
    for (size_t at = 0; (past = idmap_next(&r->pasts, &at)) != NULL;) {
        if (past->backlog == NULL)
            continue;
        backlog_restore_done(past->backlog, past->tail);
        r->counts.backlogs += past->backlog->window.ready > 0;
        r->counts.messages += past->backlog->window.ready;
        home_queue_recovered(past->home, past->queue);
    }
    for (unsigned i = 0; i < worker_count(homes[0]->post->worker); i++) {
        home_relieve(homes[i]);
        home_recovered(homes[i]);
    }
    *out = r->counts;
    return true;
}

void
recovery_free(struct recovery *r)
{
    struct past *past;

    if (r == NULL)
        return;
    for (size_t at = 0; (past = idmap_next(&r->pasts, &at)) != NULL;)
        past_free(past);
    idmap_fini(&r->pasts);
    free(r);
}
