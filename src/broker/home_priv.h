/* home_priv: what home.c (commands), home_store.c (journal, checkpoint, memory), home_life.c,
 * home_letters.c and home_streams.c share. */
#ifndef LEPUS_BROKER_HOME_PRIV_H
#define LEPUS_BROKER_HOME_PRIV_H

#include "lepus/base/map.h"
#include "lepus/broker/home.h"
#include "lepus/broker/queue.h"
#include "lepus/broker/stream_queue.h"

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
    uint64_t saved_lsn;   /* SAVING: the last frame with a state */
    bool sync_is_due;     /* SYNCING: the last one failed */
    struct list backlogs; /* by backlog.stating */
    struct worker_task task;
    struct worker_timer retry;
};

enum home_trouble { TROUBLE_JOURNAL = 1, TROUBLE_PAGES = 2, TROUBLE_STREAMS = 4 };

/* Dead letters on their way (home_letters.c). */
struct letters {
    struct list pending; /* not sent yet */
    struct idmap legs;   /* sent, by the number of the publish */
    struct list waiting; /* refused, to be sent again */
    size_t n, n_waiting; /* letters; legs in `waiting` */
    uint64_t number;
    struct worker_task task;
    struct worker_timer retry;
};

enum { STREAMS_UNSAFE_MAX = 8 << 20 }; /* octets of streams that may wait for their disk */

/* The home's streams (home_streams.c). */
struct streams {
    struct idmap all;        /* struct stream_queue by id */
    struct idmap consumers;  /* by id: those attached to a stream here */
    struct list uncommitted; /* streams whose definition is not safe yet */
    struct disk *disk, *reads;
    char *dir;
    struct file_system files;
    uint64_t epoch;
    size_t unsafe_bytes; /* of all */
    unsigned n_in_trouble;
    struct worker_timer retention;
    struct stream_wait { /* what the publish at hand was appended to */
        struct stream_queue *stream;
        uint64_t end;
    } * waits;
    size_t n_waits, waits_size;
};

/* Whose queues are to look at their policies again, and those of them whose turn it is, from `at`
 * on (home_policy.c). */
struct policing {
    struct vhost **vhosts;
    size_t n_vhosts;
    uint64_t *ids;
    size_t n, size, at;
    struct worker_task task;
};

struct home {
    struct post *post;
    struct topology *topology;
    uint64_t wall_offset_ms; /* what the worker's clock lacks */
    struct letters letters;
    struct policing policing;
    struct idmap queues;    /* by id */
    struct idmap consumers; /* by id: those attached to a queue here */
    struct streams streams;
    const struct home_ops *ops;
    void *ops_arg;

    /* From here on only with a store. */
    struct journal *journal; /* NULL: no store */
    struct disk *journal_disk, *page_disk;
    struct page_store *pages;
    struct message_account memory;
    size_t memory_max;
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
void store_trouble(struct home *home, enum home_trouble which, const struct err *why);
void store_add_target(struct home *home, struct backlog *backlog, uint64_t seq);
/* The keys of its queue must be in a state before the journal is left behind. */
void store_keep_keys(struct home *home, struct backlog *backlog);
void store_published(struct home *home, const struct publish *publish);
void store_settled(void *arg, struct backlog *backlog, uint64_t first, uint64_t last);
bool store_mark(void *arg, struct backlog *backlog);
void store_failed(void *arg, struct backlog *backlog, uint64_t seq, struct failures failures);
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
void home_queue_begin(struct home *home, struct queue *queue, const struct queue_description *from);
void home_queue_finish(struct queue *queue);
/* What policies say of it may have changed. */
void home_queue_ruled(struct home *home, struct queue *queue, const struct queue_description *from);
bool home_has_lease(const struct queue_description *queue);
void home_queue_used(struct home *home, struct queue *queue); /* renews its lease */
void home_start_leases(struct home *home);
bool home_date(struct home *home, struct publish *publish, const struct queue *queue);

/* home_policy.c */
void home_policies_init(struct home *home);
void home_policies_fini(struct home *home);

/* home_letters.c */
void letters_init(struct home *home);
void letters_fini(struct home *home);
void letters_add(struct home *home, struct queue *queue, uint64_t seq, enum death why,
                 struct message *message);
void letters_send(struct home *home); /* those that are pending, now */
/* Tells another home, or this one, what became of its legs here. */
void letters_confirm(struct home *home, uint64_t to, uint64_t first, uint32_t count, bool ok);

/* home_streams.c */
void streams_init(struct home *home);
bool streams_open(struct home *home, const struct home_settings *settings, struct err *err);
bool streams_start(struct home *home, struct err *err);
void streams_stop(struct home *home);
void streams_fini(struct home *home);
void streams_committed(struct home *home); /* home->committed has grown */
void streams_make(struct home *home, const struct queue_description *description);
/* What policies say of it may have changed: how much it keeps follows at once; what its segments are
 * like, when it is made again. */
void streams_ruled(struct home *home, const struct queue_description *description);
void streams_end(struct home *home, struct stream_queue *stream); /* it is out of the topology */
/* Appends to the stream, if it is there. False: it refuses. What was appended to is remembered
 * for streams_confirm, which has to follow, once a publish. */
bool streams_publish(struct home *home, uint64_t id, const struct content *content,
                     bool wants_confirm);
/* Confirms (channel 0: to nobody) when all that it was appended to is safe, and, when
 * is_journaled, the journal too. */
void streams_confirm(struct home *home, uint64_t channel, uint64_t number, bool ok,
                     bool is_journaled);
enum queue_answer streams_consume(struct home *home, struct stream_queue *stream,
                                  const struct cmd_consume *cmd, struct stream_consumer **out);
void streams_cancel(struct home *home, uint64_t consumer); /* if it is one */

/* home.c */
void home_end_queue(struct home *home, struct queue *queue); /* it is out of the topology */
void home_send_confirm(struct home *home, uint64_t channel, uint64_t first, uint32_t count,
                       bool ok);

#endif
