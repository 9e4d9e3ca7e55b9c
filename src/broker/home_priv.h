/* home_priv: what home.c (commands) and home_store.c (journal, checkpoint, memory) share. */
#ifndef LEPUS_BROKER_HOME_PRIV_H
#define LEPUS_BROKER_HOME_PRIV_H

#include "lepus/base/map.h"
#include "lepus/broker/home.h"
#include "lepus/broker/queue.h"

/* Confirms that wait for the journal: publishes [first, first + count) of one channel. */
struct due_confirm {
    uint64_t lsn, ticket, channel, first;
    uint32_t count;
    bool ok;
};

/*
 * CHECKPOINT   IDLE -> PAGING (journal crowded) -> SYNCING -> SAVING -> IDLE
 * PAGING       backlogs write what is not on pages, a bit a turn
 * SYNCING      the page store makes it durable; when that fails, again in a while
 * SAVING       the states are in the journal; over when they are safe
 */
enum checkpoint_phase { CHECKPOINT_IDLE, CHECKPOINT_PAGING, CHECKPOINT_SYNCING, CHECKPOINT_SAVING };

struct checkpoint {
    enum checkpoint_phase phase;
    uint64_t upto;        /* backlogs that keep something below are in it */
    uint64_t low;         /* until it is over, the journal is needed from there */
    uint64_t saved_lsn; /* SAVING: the last frame with a state */
    bool sync_is_due;   /* SYNCING: the last one failed */
    struct list backlogs; /* by backlog.stating */
    struct worker_task task;
    struct worker_timer retry;
};

enum home_trouble { TROUBLE_JOURNAL = 1, TROUBLE_PAGES = 2 };

/* Dead letters on their way (home_letters.c). */
struct letters {
    struct list pending;   /* not sent yet */
    struct idmap legs;     /* sent, by the number of the publish */
    struct list waiting;   /* refused, to be sent again */
    size_t n, n_waiting;   /* letters; legs in `waiting` */
    uint64_t number;
    struct worker_task task;
    struct worker_timer retry;
};

struct home {
    struct post *post;
    struct topology *topology;
    uint64_t wall_offset_ms; /* what the worker's clock lacks */
    struct letters letters;
    struct idmap queues;    /* by id */
    struct idmap consumers; /* by id: those attached to a queue here */
    const struct home_ops *ops;
    void *ops_arg;

    /* From here on only with a store. */
    struct journal *journal; /* NULL: no store */
    struct disk *journal_disk, *page_disk;
    struct page_store *pages;
    size_t memory, memory_max;
    struct list spillable; /* backlogs that grew, by backlog.spillable */
    struct list spilled;   /* those whose untaken messages have left memory: bodies may follow */
    struct worker_task relief;
    struct list journaled; /* by backlog.journaled, ascending by keep_lsn */
    struct list marking;   /* by backlog.marking */
    bool is_stopping;
    struct checkpoint checkpoint;
    bool has_moved_in, former_is_gone;
    bool is_holding;
    unsigned troubles; /* home_troubles */

    uint64_t committed; /* the metadata, up to that ticket */
    uint64_t ticket;    /* of the youngest queue that got the publish at hand */
    uint64_t last_lsn;  /* of the last record appended */
    uint64_t writer_lsn;
    struct record_writer writer; /* of the frame writer_lsn */
    struct {                     /* the SETTLE at the end of a frame: may be extended */
        uint64_t lsn, backlog, first, last;
        size_t at, end;
    } settle;
    struct home_target {
        struct backlog *backlog;
        uint64_t seq;
    } * targets; /* where the publish at hand must be remembered */
    size_t n_targets, targets_size;
    struct buf record_targets; /* the same, as the record wants them */
    struct due_confirm *due;   /* a ring */
    size_t due_head, due_count, due_mask;
};

extern const struct queue_ops home_queue_ops;

/* home_store.c */
bool store_open(struct home *home, const struct home_settings *settings, struct err *err);
void store_close(struct home *home);
bool store_is_refusing(const struct home *home);
void store_add_target(struct home *home, struct backlog *backlog, uint64_t seq);
void store_published(struct home *home, const struct publish *publish);
void store_settled(void *arg, struct backlog *backlog, uint64_t first, uint64_t last);
bool store_mark(void *arg, struct backlog *backlog);
void store_grew(void *arg, struct backlog *backlog);
void store_forget(struct home *home, struct queue *queue); /* the queue ends */
void store_relieve(struct home *home, struct backlog *grown);
void store_look_at_hold(struct home *home);
/* The queue may have become empty: then it pins nothing. */
void store_look_at_queue(struct home *home, struct queue *queue);
/* Confirms now, or when everything appended so far is safe. */
void store_confirm(struct home *home, uint64_t channel, uint64_t number, bool ok, bool wait);

/* home_life.c */
void home_life_init(struct home *home);
uint64_t home_now_ms(const struct home *home); /* wall clock */
uint64_t life_now_ms(void *home);
void life_wake(void *home, struct queue *queue, uint64_t at_ms);
void life_died(void *home, struct queue *queue, uint64_t seq, enum death why,
               struct message *message);
void home_queue_begin(struct home *home, struct queue *queue,
                      const struct queue_description *from);
void home_queue_finish(struct queue *queue);
void home_queue_used(struct home *home, struct queue *queue); /* renews its lease */
void home_start_leases(struct home *home);
bool home_date(struct home *home, struct publish *publish, const struct queue *queue);

/* home_letters.c */
void letters_init(struct home *home);
void letters_fini(struct home *home);
void letters_add(struct home *home, struct queue *queue, uint64_t seq, enum death why,
                 struct message *message);
void letters_send(struct home *home); /* those that are pending, now */
/* Tells another home, or this one, what became of its legs here. */
void letters_confirm(struct home *home, uint64_t to, uint64_t first, uint32_t count, bool ok);

/* home.c */
void home_end_queue(struct home *home, struct queue *queue); /* it is out of the topology */
void home_send_confirm(struct home *home, uint64_t channel, uint64_t first, uint32_t count,
                       bool ok);

#endif
