/*
 * auth: who may log in, and what each may do.
 *
 * Users, their permissions in each vhost, and topic permissions: kept in memory, loaded from the
 * metadata at the start and written to it with every change. Shared by all workers: one read-write
 * lock guards the whole, taken in these functions and nowhere else. What happens for every message
 * does not come here: verdicts are remembered by those who asked (amqp/access.c, the route cache)
 * together with auth_version, which grows within each change that may turn a verdict; on_change is
 * called behind it. So a permission that was taken away is gone with the next method.
 *
 * As with RabbitMQ: a permission is three regular expressions, searched for in the name of a queue
 * or an exchange; a user without a permission in a vhost may not enter it; a topic permission
 * limits routing keys of one exchange, and where there is none, all keys are fine.
 *
 * Proving a password takes a while by intention (password.h), so one thread does it, in turn, for
 * whoever logs in; a password that it found right is remembered, as a hash by a key that is drawn
 * at the start and told to nobody, and proven at once the next time. Passwords are never logged,
 * and wiped when they are no longer needed.
 */
#ifndef LEPUS_AUTH_AUTH_H
#define LEPUS_AUTH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/net/worker.h"
#include "lepus/store/metadata.h"

struct auth;

/* With everything that the metadata has, whose writer does not run yet; borrows it. Without
 * metadata (NULL) nothing is kept, and every ticket is 0. NULL: the disk. */
struct auth *auth_open(struct metadata *metadata, struct err *err);
void auth_free(struct auth *auth); /* stopped; NULL is fine */

struct auth_settings {
    char loopback_users[1024];  /* by commas: these come from this machine only */
    uint32_t max_failures;      /* of an address and a name within the window; 0: no limit */
    uint32_t failure_window_ms; /* more than 0 */
};

/* Any thread, any time. */
void auth_configure(struct auth *auth, const struct auth_settings *settings);

/* Before the start: called on whatever thread changes something, without a lock held. */
void auth_on_change(struct auth *auth, void (*changed)(void *arg), void *arg);

/* Grows with every change of users and permissions. Starts at 1. Any thread, no lock. */
uint64_t auth_version(const struct auth *auth);

/* --- changing ------------------------------------------------------------------------------
 *
 * Any thread. As in the metadata: put makes or replaces; out_ticket (maybe NULL) tells when it is
 * safe.
 */

/* 406: a name or an algorithm that cannot be. A hash that is none is no password's. A user that
 * exists keeps its permissions. */
bool auth_put_user(struct auth *auth, const struct metadata_user *row, uint64_t *out_ticket,
                   struct err *err);

/* With all its permissions. 404. */
bool auth_delete_user(struct auth *auth, struct view name, uint64_t *out_ticket, struct err *err);

/* 404: no such user; 406: not a regular expression. */
bool auth_put_permission(struct auth *auth, const struct metadata_permission *row,
                         uint64_t *out_ticket, struct err *err);
bool auth_put_topic_permission(struct auth *auth, const struct metadata_topic_permission *row,
                               uint64_t *out_ticket, struct err *err);

/* Fine when there is none. 404: no such user. */
bool auth_delete_permission(struct auth *auth, struct view user, uint64_t vhost,
                            uint64_t *out_ticket, struct err *err);
bool auth_delete_topic_permission(struct auth *auth, struct view user, uint64_t vhost,
                                  struct view exchange, uint64_t *out_ticket, struct err *err);

/* The vhost has been deleted, and the metadata took its permissions with it. */
void auth_forget_vhost(struct auth *auth, uint64_t vhost);

/* Where nobody ever was: makes an administrator who may do everything in the vhost; hashing takes
 * a while. False, with *err filled: it cannot be. *out_made: it was the first start. */
bool auth_make_first_user(struct auth *auth, struct view name, struct view password, uint64_t vhost,
                          bool *out_made, struct err *err);

/* --- looking -------------------------------------------------------------------------------- */

bool auth_has_user(struct auth *auth, struct view name);

/* A number that this user alone has ever had in this process, 0 when there is none: one who was
 * deleted and made anew is another. */
uint32_t auth_user_number(struct auth *auth, struct view name);

bool auth_has_tag(struct auth *auth, struct view user, struct view tag);

/* Calls each for every row of users, permissions or topic_permissions, in no order, under the read
 * lock: it must not come back here. Ends with the first that fails. */
bool auth_walk(struct auth *auth, enum metadata_table table, metadata_each *each, void *arg,
               struct err *err);

enum auth_permission { AUTH_CONFIGURE, AUTH_WRITE, AUTH_READ };

bool auth_may_enter(struct auth *auth, struct view user, uint64_t vhost);

/* The same: 0 when not, else a number below 2^31 that only this user in this vhost ever has. */
uint32_t auth_enter(struct auth *auth, struct view user, uint64_t vhost);

/* The default exchange is called amq.default here. */
bool auth_may(struct auth *auth, struct view user, uint64_t vhost, enum auth_permission permission,
              struct view name);

/* Whether some topic permission of the user in the vhost limits anything. */
bool auth_has_topics(struct auth *auth, struct view user, uint64_t vhost);

/* AUTH_WRITE or AUTH_READ of a routing key. {username} and {vhost} in the permission stand for
 * these two. */
bool auth_may_topic(struct auth *auth, struct view user, uint64_t vhost, const char *vhost_name,
                    enum auth_permission permission, struct view exchange, struct view routing_key);

/* --- logging in ----------------------------------------------------------------------------- */

enum auth_result { AUTH_LATER, AUTH_ADMITTED, AUTH_REFUSED };

/* Lives with its owner until it is decided. */
struct auth_login {
    /* The owner's, before it asks. Strings are copied. */
    struct worker *worker;
    void (*decided)(struct auth_login *login); /* on the worker; may free it */
    bool is_loopback;
    const char *peer; /* an address, with or without a port, or none that we know */

    /* The answer. */
    enum auth_result result;
    uint32_t number; /* of the user, when admitted */
    const char *why; /* a constant text for the log, when refused */

    /* auth's own. */
    struct worker_call call;
    struct auth *auth;
    struct auth_login *next;
    uint64_t source, source_user; /* the address; the address and the name */
    char *user, *password;
    size_t user_len, password_len;
};

/* AUTH_LATER: `decided` will be called once. Otherwise it is not. */
enum auth_result auth_login(struct auth *auth, struct auth_login *login, struct view user,
                            struct view password);

/* The same, at once, for who has proved its name otherwise: by a certificate, or not at all. */
enum auth_result auth_login_as(struct auth *auth, struct auth_login *login, struct view user);

/* Main thread. Without the thread logins are decided by whoever asks. */
bool auth_start(struct auth *auth, struct err *err);

/* Main thread, after the workers have stopped: ends the thread. Logins that wait are refused, and
 * told by worker_run_calls. */
void auth_stop(struct auth *auth);

#endif
