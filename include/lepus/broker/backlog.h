/*
 * backlog: the messages of a queue, or of one priority of it: a window (window.h) and its pages.
 *
 * A queue without priorities has one backlog, with a larger x-max-priority it has one a level. A
 * backlog has an id of its own, by which the journal and the page files know it: the queue's id,
 * with the level in the top octet (backlog_id). Its seqs are its own.
 *
 * With a page store (pages.h) a backlog may be told to write its messages there
 * (backlog_page_out: they stay in memory, too) or to leave memory as well (backlog_spill). Pages
 * are written in order of seq; everything below paged_end that lives is on them. What is wanted
 * and not in memory is read, a block ahead.
 *
 * A durable one says through its ops what must be written down: seqs that are settled, and how far
 * deliveries have gone. What was published is its home's to write down, since one message may be
 * in many queues. backlog_state and backlog_restore carry the rest across a restart.
 *
 * Owned by its home worker. Nothing here knows consumers.
 */
#ifndef LEPUS_BROKER_BACKLOG_H
#define LEPUS_BROKER_BACKLOG_H

#include "lepus/base/list.h"
#include "lepus/broker/dedup.h"
#include "lepus/broker/window.h"
#include "lepus/store/pages.h"

struct backlog;
struct failures;

struct backlog_ops {
    /* Of durable ones only: persistent messages among [first, last] are settled. */
    void (*settled)(void *arg, struct backlog *backlog, uint64_t first, uint64_t last);
    /* Likewise: what is below delivered_mark may be delivered from now on. When that is written
     * down, safely, marked is to be called; false: it is, at once. */
    bool (*mark)(void *arg, struct backlog *backlog);
    /* Likewise: a delivery of a persistent message has failed. */
    void (*failed)(void *arg, struct backlog *backlog, uint64_t seq, struct failures failures);
    /* It took something into memory. */
    void (*grew)(void *arg, struct backlog *backlog);
    /* A page has come: what backlog_first put off may be there now. */
    void (*loaded)(void *arg, struct backlog *backlog);
    /* A message that expires came into memory from a page or a former life, READY. */
    void (*dated)(void *arg, struct backlog *backlog, uint64_t seq, uint64_t expires_ms);
};

struct backlog {
    uint64_t id;
    struct queue *queue; /* whose it is: for its home */
    bool durable;
    struct window window;
    struct dedup *dedup; /* what else its state has to tell: of a queue's level 0; or NULL */
    const struct backlog_ops *ops;
    void *ops_arg;

    struct message_account *account; /* its messages'; or NULL */
    struct page_store *store;        /* NULL: stays in memory */
    struct pages *pages;             /* NULL until something is written there */
    uint64_t paged_end;              /* what lives below is on pages */
    size_t grown_bytes;              /* about: taken into memory since the last spill */
    uint64_t asked;                  /* the last pages_read's seq */
    uint32_t read_count;             /* records of the block read last */
    uint64_t delivered_mark; /* what is below may have been delivered: told by ops->mark, ... */
    uint64_t safe_mark;      /* ... and safe up to there */
    uint64_t restored_mark;  /* deliveries of a former life went up to there */
    uint32_t lease;          /* seqs by which the mark goes ahead */
    bool waits_for_mark;     /* backlog_first put somebody off */

    /* The home's: */
    struct list spillable; /* has something in memory */
    struct list journaled; /* there is something of it in the journal to be kept */
    struct list stating;   /* its state is about to be written down */
    struct list marking;   /* its mark is not safe yet */
    uint64_t mark_lsn;     /* while marking: the frame of the last mark */
    uint64_t keep_lsn;     /* while journaled: from there on */
    uint64_t state_end;    /* while stating: the state covers what is below */
};

/* A restart may know nothing of it. */
static inline bool
backlog_is_idle(const struct backlog *backlog)
{
    return window_is_empty(&backlog->window) &&
           (backlog->dedup == NULL || dedup_is_empty(backlog->dedup));
}

static inline uint64_t
backlog_id(uint64_t queue, uint8_t level)
{
    return (uint64_t)level << 56 | queue;
}

static inline uint64_t
backlog_id_queue(uint64_t id)
{
    return id & ~(UINT64_C(0xff) << 56);
}

static inline uint8_t
backlog_id_level(uint64_t id)
{
    return (uint8_t)(id >> 56);
}

struct backlog_settings {
    uint64_t id;
    struct queue *queue;
    bool durable;
    struct message_account *account;
    struct page_store *store;
};

void backlog_init(struct backlog *backlog, const struct backlog_settings *settings,
                  const struct backlog_ops *ops, void *ops_arg);

/* Drops all messages; with `forget` its pages go as well. */
void backlog_fini(struct backlog *backlog, bool forget);

/* Appends, READY or taken at once (only when nothing is READY); the seq. */
uint64_t backlog_push(struct backlog *backlog, struct message *message);
uint64_t backlog_push_taken(struct backlog *backlog, struct message *message, void *taker);

/* The first READY message, its slot having one; 0 when there is none, when it is on a page that has
 * to come first (that is asked for), or when a restart would not know that it was delivered: then a
 * mark is under way. After both, ops->loaded. */
uint64_t backlog_first(struct backlog *backlog);

/* The same for one that is not to be delivered: no mark is needed. */
uint64_t backlog_head(struct backlog *backlog);

/* Asks for the page of a slot without a message, or with seq 0 for the middle's next one; after
 * that, ops->loaded. False, and nothing happens, while another page is under way: ask again then.
 */
bool backlog_load(struct backlog *backlog, uint64_t seq);

/* Takes what backlog_first gave. */
struct slot *backlog_take(struct backlog *backlog, uint64_t seq, void *taker);

/* All marks that were told are safe. */
void backlog_marked(struct backlog *backlog);

/* Settled seqs in runs, so that what follows from them is done once a run. Zeroed, it begins. */
struct settled_run {
    uint64_t first, last; /* first 0: none */
    bool persistent;      /* something in it is */
};

/* UNACKED -> GONE, of a slot that is. End the run before anything else is done. */
void backlog_settle(struct backlog *backlog, struct settled_run *run, uint64_t seq);
/* READY -> GONE, likewise. */
void backlog_drop(struct backlog *backlog, struct settled_run *run, uint64_t seq);
void backlog_end_run(struct backlog *backlog, struct settled_run *run);

/* Holds (window_hold), and settles what is held; false when it is not held. */
struct message *backlog_hold(struct backlog *backlog, uint64_t seq);
bool backlog_release(struct backlog *backlog, uint64_t seq);

size_t backlog_purge(struct backlog *backlog); /* all READY; how many */

/* --- pages and restarts ---------------------------------------------------------------- */

/* Writes what is not on pages yet. With a store only. */
void backlog_page_out(struct backlog *backlog);

/* The same, and what nobody has taken leaves memory; with `bodies` all messages do. */
void backlog_spill(struct backlog *backlog, bool bodies);

/* Everything but the messages from `end` on, which are in the journal. `end` was paged_end when the
 * page store was last asked to sync, and that has worked. is_last: nothing will be delivered any
 * more in this life, so what was is known exactly. */
void backlog_state(struct backlog *backlog, uint64_t end, bool is_last, struct buf *to);

/* Where a state's messages end: from there on they are in the journal. False: not a state. */
bool backlog_state_end(struct view state, uint64_t *out_end);

/* What the journal says of it. */
struct backlog_restored {
    struct view state;            /* the last one, or empty */
    const struct seq_range *gone; /* settled after it: ascending, apart from each other */
    size_t n_gone;
    uint64_t delivered_mark; /* the highest after it */
    bool adopt;              /* the state may be lost: whatever good pages there are count */
};

/* After backlog_init: its pages and counts; then its messages in the journal, those from paged_end
 * on, in order of seq; then _done. *out_tail: seqs below were given out in its former life. What
 * cannot be restored is told by *err, false; the rest is there. */
bool backlog_restore(struct backlog *backlog, const struct backlog_restored *restored,
                     uint64_t *out_tail, struct err *err);
void backlog_restore_message(struct backlog *backlog, uint64_t seq, struct message *message);
void backlog_restore_done(struct backlog *backlog, uint64_t tail); /* seqs go on from there */

#endif
