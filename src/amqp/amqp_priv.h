/*
 * amqp_priv: the structs that the files of this folder share.
 *
 * A publish walks connection.c (frames), channel.c (states), channel_publish.c (content, routing)
 * and leaves by a command; a delivery comes by a command into channel_deliver.c and leaves through
 * the connection's transport. One method class per file; dispatch.c has the table of handlers.
 */
#ifndef LEPUS_AMQP_PRIV_H
#define LEPUS_AMQP_PRIV_H

#include "lepus/amqp/amqp.h"
#include "lepus/auth/auth.h"
#include "lepus/base/buf.h"
#include "lepus/base/list.h"
#include "lepus/base/log.h"
#include "lepus/base/map.h"
#include "lepus/broker/route_cache.h"
#include "lepus/net/transport.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"

/* --- worker ---------------------------------------------------------------------------- */

struct amqp {
    struct post *post;
    struct worker *worker;
    struct topology *topology;
    const struct amqp_settings *settings;
    struct route_cache *routes;
    struct list all;     /* conn.in_all */
    struct list pending; /* conn.in_pending: not open yet, the oldest first */
    uint32_t n_pending;
    uint64_t tell_of_pending_at_ms; /* not before: that one had to make room */
    struct idmap connections;       /* id -> struct conn */
    struct idmap channels;          /* id -> struct channel */
    struct idmap consumers;         /* id -> struct channel_consumer */
    uint64_t last_number;           /* of the ids given out here */
    struct worker_timer tick;
    struct buf scratch;           /* one method frame, or rewritten properties */
    struct buf settling;          /* deliveries taken out of a channel, to be settled */
    struct buf server_properties; /* a table's octets */
    struct list crediting;        /* channel_consumer.crediting */
    struct worker_task credits;   /* reports them once a turn */
    uint64_t committed;           /* definitions up to this ticket are safe */
    struct list owing;            /* channel.owing */
    bool stopping;                /* every connection is being closed with 320 */
    char *blocked;                /* the reason of an alarm, or NULL */
    atomic_uint n_connections;
};

uint64_t amqp_next_id(struct amqp *amqp);

/* --- connection ------------------------------------------------------------------------ */

/* clang-format off */
#define CONN_STATES(S)                                                                           \
    S(AWAIT_HEADER,    "the eight octets of the protocol header are not all here")               \
    S(AWAIT_START_OK,  "start sent")                                                             \
    S(AWAIT_LOGIN,     "start-ok has come, and the password in it is being proven")              \
    S(AWAIT_TUNE_OK,   "the user is known, tune sent")                                           \
    S(AWAIT_OPEN,      "tuned")                                                                  \
    S(OPEN,            "channels may live here")                                                 \
    S(AWAIT_CLOSE_OK,  "close sent; all but close and close-ok is dropped")                      \
    S(FINISHING,       "nothing is heard; what waits goes out, or a delay runs, then it closes")  \
    S(CLOSED,          "socket gone; waits for the reaper")
/* clang-format on */

enum conn_state {
#define S(name, meaning) CONN_##name,
    CONN_STATES(S)
#undef S
        CONN_STATE_COUNT
};

/* Why a connection is not read. It is read while none holds. */
enum conn_pause {
    PAUSE_CONGESTED = 1, /* mail to other workers piles up */
    PAUSE_BLOCKED = 2,   /* an alarm holds publishers back */
    PAUSE_OUTPUT = 4,    /* it asks for more than it reads */
    PAUSE_DEFERRED = 8,  /* a waiting channel has kept too many frames */
    PAUSE_ENDING = 16,
    PAUSE_LOGIN = 32, /* a password is being proven */
};

struct conn {
    struct amqp *amqp;
    struct transport *transport;
    enum conn_state state;
    unsigned paused; /* conn_pause */
    uint64_t id;
    struct list in_all, in_pending;
    struct vhost *vhost;        /* from OPEN on */
    char *user;                 /* from AWAIT_TUNE_OK on */
    uint32_t user_number;       /* and these: auth's, for this user */
    uint64_t auth_version;      /* as of which the user is known to be there */
    struct route_permit permit; /* from OPEN on */
    struct access *access;      /* access.c's, or NULL */
    struct limits_place place;  /* while OPEN */

    uint32_t frame_max;   /* 0: no limit; less is let pass before tune-ok */
    uint16_t channel_max; /* 0: no limit */
    uint16_t heartbeat_s; /* 0: none */
    uint64_t deadline_ms; /* of the handshake, of close-ok, of FINISHING; 0: none */

    bool has_published;
    bool told_blocked;
    struct { /* of the client */
        bool authentication_failure_close, consumer_cancel_notify, connection_blocked;
    } can;

    struct idmap channels;        /* number -> struct channel */
    struct channel *last_channel; /* the one of the last frame, or NULL */
    struct queue_ref *exclusive;  /* queues that end with this connection; some may be gone */
    size_t n_exclusive, exclusive_size;
    struct list parked; /* channel_consumer.parked: stopped because our output is full */

    struct view method;       /* while a method frame is handled: its payload */
    struct view rest;         /* while a frame is handled: the input behind it */
    size_t rest_used;         /* how much of it the handler used up */
    const uint8_t *ahead;     /* how far in this input channel_publish has looked ahead, or NULL */
    struct worker_task clear; /* runs when the worker is congested no more */
};

void conn_adopt(struct amqp *amqp, int fd, bool is_tls);

/* Ends it at once: no further octet is sent. Reaped at turn's end. */
void conn_close(struct conn *c, const char *why);

/* Turns an err into channel.close (ch given, soft code) or connection.close; the only place. */
void conn_fail(struct conn *c, struct channel *ch, const struct err *err);

/* Hears no more, and closes the socket in so many milliseconds, or when the peer does. */
void conn_close_after(struct conn *c, uint64_t ms);

/* Sends connection.close of this code for no method's sake (320). */
void conn_force_close(struct conn *c, const char *text);

void conn_enter(struct conn *c, enum conn_state state);
void conn_pause(struct conn *c, enum conn_pause why);
void conn_unpause(struct conn *c, enum conn_pause why);

void conn_send(struct conn *c, uint16_t channel, enum method method, const void *args);

/* An alarm is on, and this connection publishes; the alarm is over. */
void conn_block_publisher(struct conn *c);
void conn_unblock_publisher(struct conn *c);

/* Heartbeats and deadlines, several times a second. May close c. */
void conn_tick(struct conn *c);

struct log_context conn_log(const struct conn *c);

/* connection_start.c: the handshake. All false: fail the connection with *err, unless it has
 * left the state that it was in. */
void conn_start(struct conn *c);
bool conn_handle_start_ok(struct conn *c, const struct connection_start_ok *args, struct err *err);
bool conn_handle_tune_ok(struct conn *c, const struct connection_tune_ok *args, struct err *err);
bool conn_handle_open(struct conn *c, const struct connection_open *args, struct err *err);
void amqp_write_server_properties(struct buf *to, const struct amqp_settings *settings);

/* access.c: what may be done. False: 403, but 530 for a vhost and 406 for a user-id. */
bool access_vhost(struct conn *c, const struct vhost *vhost, struct err *err);
bool access_queue(const struct conn *c, enum auth_permission permission, struct view name,
                  struct err *err);
bool access_exchange(const struct conn *c, enum auth_permission permission, struct view name,
                     struct err *err);
bool access_declare_queue(const struct conn *c, struct view name, struct view arguments,
                          struct err *err);
bool access_declare_exchange(const struct conn *c, struct view name, struct view arguments,
                             struct err *err);
bool access_bind(const struct conn *c, const struct binding_spec *spec, struct err *err);
/* To the exchange, by each of the keys. What was found once is known until something changes. */
bool access_publish(struct conn *c, struct view exchange, const struct view *keys, size_t n,
                    struct err *err);
bool access_user_id(const struct conn *c, struct view user_id, struct err *err);
bool access_has_user(struct conn *c); /* or has it been deleted? */
void access_free(struct access *access);

/* sasl.c: finds user and password in a response; false when it is malformed. Views borrow the
 * response. */
bool sasl_plain(struct view response, struct view *out_user, struct view *out_password);
bool sasl_amqplain(struct view response, struct view *out_user, struct view *out_password);

/* --- channel --------------------------------------------------------------------------- */

/* clang-format off */
#define CHANNEL_STATES(S)                                                                        \
    S(OPEN,           "its frames are handled as they come")                                     \
    S(WAITING,        "for a queue's answer, or a commit; frames that come are kept until then") \
    S(AWAIT_CLOSE_OK, "close sent; all but close and close-ok is dropped")                       \
    S(CLOSED,         "out of every map; waits for the reaper")
/* clang-format on */

enum channel_state {
#define S(name, meaning) CHANNEL_##name,
    CHANNEL_STATES(S)
#undef S
        CHANNEL_STATE_COUNT
};

/* clang-format off */
#define CONTENT_STATES(S)                                                     \
    S(NONE,   "a method is due")                                              \
    S(HEADER, "basic.publish has come, its content header is due")            \
    S(BODY,   "some of the body is due")
/* clang-format on */

enum content_state {
#define S(name, meaning) CONTENT_##name,
    CONTENT_STATES(S)
#undef S
};

/* A publish whose frames did not come all at once. */
struct content_in {
    enum content_state state;
    bool mandatory;
    uint8_t exchange_len, routing_key_len;
    uint32_t properties_len;
    uint64_t body_size; /* announced */
    struct blob *body;  /* what has come; grows with it */
    uint8_t *strings;   /* exchange, routing key, then properties */
};

enum channel_mode { MODE_PLAIN, MODE_CONFIRM, MODE_TX };

/* What the answer that a WAITING channel waits for is for. */
enum channel_wait {
    WAIT_NOTHING,
    WAIT_DECLARE,
    WAIT_PURGE,
    WAIT_DELETE,
    WAIT_CONSUME,
    WAIT_CANCEL,
    WAIT_GET,
    WAIT_COMMIT,       /* confirms of what a tx published */
    WAIT_DIRECT_PROBE, /* passive declare of a direct reply-to name */
    WAIT_OWNER,        /* an exclusive queue's owner may be dying: then the method runs again */
    WAIT_SAFE,         /* no queue's: until it owes no answer; then its failure, if any, is told */
};

/* A delivery that is not settled. */
struct unacked {
    uint64_t tag;
    uint64_t queue, seq; /* queue 0: settled out of order, waits for the front to pass */
    uint32_t shard;
    bool counted;  /* under the channel's global prefetch */
    uint8_t in_tx; /* settled in a transaction that is open: 1 + settle_how */
};

struct confirms {
    uint64_t first, next; /* publishes [first, next) are not answered yet */
    uint8_t *due;         /* a ring: homes still to confirm, CONFIRM_NACK when one refused */
    size_t mask;
    size_t ahead; /* those finished out of order */
};

struct tx_op;
struct owner_wait;

struct channel {
    struct conn *conn;
    uint64_t id;
    uint16_t number;
    uint8_t state;        /* channel_state */
    uint8_t wait;         /* channel_wait */
    uint8_t mode;         /* channel_mode */
    bool wait_nowait;     /* the method that waits wants no -ok */
    bool wait_no_ack;     /* of WAIT_GET */
    bool wait_durable;    /* of WAIT_DELETE: the queue is */
    uint64_t wait_ticket; /* of WAIT_DECLARE: the queue's */
    struct content_in in;

    char *wait_name; /* queue's name or consumer tag of the method that waits */
    struct queue_ref wait_queue;
    struct channel_consumer *wait_consumer;
    struct owner_wait *owner_wait; /* of WAIT_OWNER, or NULL */
    struct buf deferred;           /* frames that came while WAITING */
    struct worker_task resume;

    struct { /* answers that wait for a commit: see channel_owed.c */
        struct buf entries;
        size_t paid; /* octets of entries that were sent already */
    } owed;
    struct list owing;   /* in amqp.owing while there are some */
    struct err *failure; /* to be told after them: of WAIT_SAFE, or NULL */

    char *last_queue; /* the name declared last on this channel, or NULL */

    struct unacked *unacked; /* a ring, by tag */
    size_t unacked_head, unacked_count, unacked_mask;
    size_t unacked_live; /* of the ring's entries, those not settled */
    uint64_t last_tag;
    struct idmap late;   /* tags that were given back when their time was over; no values */
    uint64_t late_floor; /* below it any unknown tag may have been such a one */

    struct map consumers; /* by tag */
    uint64_t last_ctag;
    uint16_t prefetch;        /* of consumers to come */
    uint16_t prefetch_global; /* 0: no limit */
    uint32_t unacked_global;  /* counted ones */

    struct confirms confirms;
    struct worker_task gather;

    struct tx_op *tx_ops; /* stretchy array */
    size_t n_tx_ops, tx_ops_size;
    size_t commit_due; /* confirms that WAIT_COMMIT still wants */
    bool commit_failed;

    struct channel_consumer *direct; /* the consumer of amq.rabbitmq.reply-to */
    uint64_t direct_secret;
};

/* Why a consumer is stopped at its queue. */
enum stop_reason { STOP_OUTPUT = 1, STOP_GLOBAL = 2 };

struct channel_consumer {
    struct map_node by_tag;
    struct channel *channel;
    uint64_t id;
    struct queue_ref queue; /* id 0: direct reply-to */
    bool no_ack, exclusive;
    bool is_remote;  /* the queue is on another worker */
    bool refusing;   /* gives back what comes until its epoch */
    uint8_t stopped; /* stop_reasons */
    uint32_t epoch;
    uint64_t credit_due;   /* octets to report to another worker */
    struct list parked;    /* in conn.parked while STOP_OUTPUT */
    struct list crediting; /* in amqp's list of credits to report */
    uint8_t tag_len;
    char tag[];
};

/* channel.c */
struct channel *channel_open(struct conn *c, uint16_t number);
/* The frame is for a channel that is not there: opens it if that is what it asks for. */
bool channel_handle_first(struct conn *c, const struct frame *f, struct err *err);
void channel_close(struct channel *ch); /* ends its affairs, unlinks, reaps */
/* What others see of the channel ends: consumers go, what is unsettled is requeued. */
void channel_end_affairs(struct channel *ch);
void channel_enter(struct channel *ch, enum channel_state state);
bool channel_handle_frame(struct channel *ch, const struct frame *f, struct err *err);
void channel_wait(struct channel *ch, enum channel_wait wait, bool nowait);
void channel_wait_done(struct channel *ch); /* back to OPEN; kept frames are handled soon */
void channel_send(struct channel *ch, enum method method, const void *args);
void channel_on_reply(void *arg, const struct command *command);
void channel_on_probed(void *arg, const struct command *command);
enum method channel_method_of(const struct frame *f); /* METHOD_UNKNOWN: none that we know */
struct channel *channel_of_id(struct amqp *amqp, uint64_t id);
/* A method was refused with *err. When that is because another connection, `found->owner`, holds
 * the queue exclusively, asks whether that one is well, and runs the method again for up to a
 * second while it is ending: true, and the channel waits. Otherwise false: fail with *err. */
bool channel_refused(struct channel *ch, const struct queue_found *found, struct err *err);
/* A queue's answer to the method that waits means an error. */
void channel_wait_fail(struct channel *ch, enum method method, struct err *err);
unsigned channel_queue_worker(const struct channel *ch, const struct queue_ref *ref);

/* dispatch.c */
typedef bool handler_fn(struct channel *ch, const union method_args *args, struct err *err);
bool channel_dispatch(struct channel *ch, const struct frame *f, struct err *err);
/* Method and arguments of a method frame, when its row allows it from a client on such a channel.
 * False: *err with class and method filled in. */
bool channel_decode(const struct frame *f, enum method_channel on, enum method *out_method,
                    union method_args *out_args, struct err *err);

/* Handlers, each in the file of its class. */
/* clang-format off */
#define CHANNEL_HANDLERS(H)                                                             \
    H(channel_flow)   H(access_request)                                                 \
    H(exchange_declare) H(exchange_delete) H(exchange_bind) H(exchange_unbind)          \
    H(queue_declare)  H(queue_bind) H(queue_unbind) H(queue_purge) H(queue_delete)      \
    H(basic_qos)      H(basic_consume) H(basic_cancel) H(basic_cancel_ok) H(basic_get)  \
    H(basic_publish)                                                                    \
    H(basic_ack)      H(basic_reject) H(basic_nack)                                     \
    H(basic_recover)  H(basic_recover_async)                                            \
    H(confirm_select) H(tx_select) H(tx_commit) H(tx_rollback)
/* clang-format on */
#define H(name)                                                                                    \
    bool channel_handle_##name(struct channel *, const union method_args *, struct err *);
CHANNEL_HANDLERS(H)
#undef H

/* channel_queue.c */
void channel_finish_declare(struct channel *ch, const struct cmd_reply *reply);
void channel_finish_purge(struct channel *ch, const struct cmd_reply *reply);
void channel_finish_delete(struct channel *ch, const struct cmd_reply *reply);
/* The name, or for "" the queue that was declared last on the channel; 404 when there is none. */
bool channel_queue_name(struct channel *ch, struct view name, struct view *out, struct err *err);

/* channel_owed.c */
/* Answers, once everything up to the ticket is safe, and after all that is owed already. With
 * nowait nothing is sent, but what comes behind waits all the same. */
void channel_answer(struct channel *ch, uint64_t ticket, bool nowait, enum method method,
                    const void *args);
static inline bool
channel_owes(const struct channel *ch)
{
    return ch->owed.entries.len > 0;
}
/* Whether the frame's turn comes only when nothing is owed. */
bool channel_must_wait(const struct channel *ch, const struct frame *f);
/* Closes for *err when nothing is owed any more; the channel waits until then. */
void channel_fail_later(struct channel *ch, const struct err *err);
void channel_forget_owed(struct channel *ch);

/* channel_publish.c */
bool channel_content_frame(struct channel *ch, const struct frame *f, struct err *err);
bool channel_route_and_send(struct channel *ch, const struct content *content, bool mandatory,
                            struct err *err);
void content_in_reset(struct content_in *in);

/* channel_deliver.c */
void channel_on_deliver(void *arg, const struct command *command);
void channel_on_got(void *arg, const struct command *command);
/* A method with content: method, header and body frames. */
void conn_send_content(struct conn *c, uint16_t channel, enum method method, const void *args,
                       const struct content *content);
/* A basic.deliver, the same by hand: the hot path's only encoder. */
void channel_write_delivery(struct channel_consumer *consumer, uint64_t tag, bool redelivered,
                            const struct content *content);
void conn_unpark(struct conn *c);                /* the output has drained */
void channel_global_changed(struct channel *ch); /* its global count or limit did */
/* Stops the consumer at its queue for a reason more; goes on when the last reason ends. */
void consumer_stop(struct channel_consumer *consumer, enum stop_reason why);
void consumer_go(struct channel_consumer *consumer, enum stop_reason why);
bool channel_is_at_global_limit(const struct channel *ch);
void amqp_send_credits(void *arg);

/* channel_consume.c */
void channel_finish_consume(struct channel *ch, const struct cmd_reply *reply);
void channel_finish_cancel(struct channel *ch);
void channel_on_cancelled(void *arg, const struct command *command);
void consumer_free(struct channel_consumer *consumer); /* out of every map, and freed */
void channel_cancel_all(struct channel *ch);

/* channel_basic.c */
void channel_finish_get(struct channel *ch, const struct cmd_reply *reply);

/* channel_stream.c */
/* 540: "basic.get not supported by stream queues queue 'q' ..." */
bool stream_err(struct channel *ch, struct view queue, const char *what, struct err *err);
/* Whether the stream may be consumed so; fills in what only streams want to know. */
bool stream_check_consume(struct channel *ch, const struct basic_consume *m, struct view queue,
                          struct cmd_consume *cmd, struct err *err);

/* channel_settle.c */
void unacked_push(struct channel *ch, uint64_t tag, uint64_t queue, uint32_t shard, uint64_t seq,
                  bool counted);
void channel_requeue_all(struct channel *ch, enum settle_how how);
void channel_on_overdue(void *arg, const struct command *command);
void channel_settle_tx(struct channel *ch);   /* what was settled in the transaction, now is */
void channel_unsettle_tx(struct channel *ch); /* and now never was */
void channel_unsent(struct amqp *amqp, uint64_t queue, uint32_t shard, uint64_t seq);

/* channel_confirm.c */
uint64_t confirms_begin(struct channel *ch, unsigned homes); /* the publish's number */
void channel_on_confirm(void *arg, const struct command *command);
void confirms_gather(void *arg); /* the channel's gather task */
void confirms_fini(struct confirms *confirms);

/* channel_tx.c */
bool tx_publish(struct channel *ch, const struct content *content, bool mandatory, struct err *err);
void tx_confirmed(struct channel *ch, bool ok);
void tx_drop(struct channel *ch); /* forgets what was published in it */

/* channel_direct.c: amq.rabbitmq.reply-to */
#define DIRECT_NAME "amq.rabbitmq.reply-to"
bool direct_is_name(struct view name); /* the name itself or one of its addresses */
bool direct_parse(struct view name, uint64_t *out_channel, uint64_t *out_secret);
/* Rewrites reply-to if it is the pseudo name. False: 406. */
bool direct_rewrite(struct channel *ch, struct content *content, struct err *err);
void direct_send(struct channel *ch, uint64_t to, uint64_t secret, const struct content *content);
void direct_ask(struct channel *ch, uint64_t to, uint64_t secret);
void channel_on_direct_reply(void *arg, const struct command *command);
void channel_on_direct_probe(void *arg, const struct command *command);

#endif
