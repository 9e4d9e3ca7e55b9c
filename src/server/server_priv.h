/* server_priv: what the files of the server share: start and stop order (server.c), the homes and
 * their store (server_homes.c), definitions.json (server_definitions.c). */
#ifndef SERVER_SERVER_PRIV_H
#define SERVER_SERVER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "lepus/amqp/amqp.h"
#include "lepus/auth/auth.h"
#include "lepus/broker/policy.h"
#include "lepus/broker/recovery.h"
#include "lepus/mgmt/definitions.h"
#include "lepus/net/listener.h"
#include "lepus/server/server.h"
#include "lepus/store/data_dir.h"
#include "lepus/store/metadata.h"

/* Why publishers are held back. */
enum alarm {
    ALARM_DISK = 1,     /* less room than store.disk_free_limit */
    ALARM_METADATA = 2, /* definitions cannot be written */
    ALARM_STORE = 4,    /* messages cannot */
    ALARM_MEMORY = 8,   /* more in use than limits.memory_high_watermark */
};

struct server {
    struct config config;
    struct amqp_settings settings;
    struct data_dir data_dir;
    struct metadata *metadata;
    struct topology *topology;
    struct auth *auth;
    struct definitions *definitions; /* who imports broker.load_definitions */
    struct importing {               /* the main thread's, but for is_done and path */
        pthread_t thread;
        bool is_running;     /* to be joined, so that *definitions and path are the thread's */
        atomic_bool is_done; /* joining it waits no more */
        bool is_wanted;      /* once more, when it is done */
        char path[sizeof(((struct config *)0)->broker.load_definitions)];
    } importing;
    struct recovery *recovery;    /* until it is done */
    atomic_uint not_moved_in;     /* homes that still have something in former journals */
    atomic_uint homes_in_trouble; /* ALARM_STORE is on while there are any */
    struct worker_set *workers;
    unsigned n_workers;
    struct post posts[WORKERS_MAX];
    struct home *homes[WORKERS_MAX];
    struct amqp *amqps[WORKERS_MAX];
    struct tls_shelf *tls; /* NULL: no listener wants it */
    struct listeners {
        struct listener *at[CONFIG_ADDRESSES_MAX];
        size_t count;
    } plain, secure;
    unsigned next_worker;           /* these two: touched by worker 0, which accepts, alone */
    uint64_t tell_of_sockets_at_ms; /* not before: that one was turned away */
    bool is_running;
    atomic_uint alarms; /* set by any thread */
    unsigned told_alarms;  /* those that the workers know of; these: the main thread's */
    uint64_t memory_left;  /* bytes, as of the last look */
    uint64_t memory_limit; /* bytes; 0: none */
    uint64_t look_at_disk_ms, trim_at_ms; /* not before */
    int signals;        /* a signalfd, or -1 */
    server_reload *reload;
    void *reload_arg;
};

/* server.c: tells every worker's connections. */
void server_order_all(struct server *server, enum server_order order, const char *reason);

/* server_alarms.c. From any thread: an alarm begins or ends. The main thread tells the workers,
 * in server_look_at_alarms, which it calls every so many milliseconds. */
void server_set_alarm(struct server *server, enum alarm alarm, bool is_on);
void server_look_at_alarms(struct server *server);
int server_look_again_ms(const struct server *server);
uint64_t server_memory_limit(const struct config *config);

/* server_homes.c: before the start, with the posts made: homes with what former lives left in them.
 */
bool server_make_homes(struct server *server, struct err *err);
bool server_start_homes(struct server *server, struct err *err);
void server_stop_homes(struct server *server); /* after the workers */
void server_reload_homes(struct server *server);
/* A listener of policies: the homes take them over. */
void server_on_policies(void *server, struct vhost *vhost);

/* server_limits.c: how many descriptors there may be, before anything is opened; and what the
 * section "limits" says, once there is a topology, and again when it has changed. */
void server_raise_descriptors(void);
void server_take_limits(struct server *server);

/* server_auth.c: before the metadata's writer runs: who there is; then, at the very first start,
 * and unless definitions brought somebody, who is made. */
bool server_open_auth(struct server *server, struct err *err);
bool server_make_first_user(struct server *server, struct err *err);
void server_take_auth(struct server *server); /* the settings that change live */

/* server_definitions.c: before the metadata's writer runs: what broker.load_definitions names is
 * imported and committed, or nothing of it. */
bool server_make_definitions(struct server *server, struct err *err);
void server_reload_definitions(struct server *server); /* soon, on a thread of its own */
void server_look_at_import(struct server *server);     /* every now and then: is it done? */
void server_end_import(struct server *server);         /* waits for it */

#endif
