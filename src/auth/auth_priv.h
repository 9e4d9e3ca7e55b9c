/* auth_priv: what auth.c (users and permissions) and login.c (the thread that proves passwords)
 * know of each other. */
#ifndef AUTH_AUTH_PRIV_H
#define AUTH_AUTH_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "lepus/auth/auth.h"
#include "lepus/base/map.h"
#include "rule_priv.h"

enum { PROOF_SIZE = 32 };

struct user {
    struct map_node node; /* of auth.users */
    uint32_t number;
    struct map grants;        /* by vhost */
    struct metadata_user row; /* its views are the user's own */

    bool is_proven; /* with the mutex of the logins */
    uint8_t proof[PROOF_SIZE];
};

/* What a user may do in a vhost. */
struct grant {
    struct map_node node; /* of user.grants; its key is vhost */
    uint64_t vhost;
    uint32_t number;
    bool may_enter;       /* there is a permission: else only topics stand here */
    struct rule rules[3]; /* by enum auth_permission */
    struct map topics;    /* by exchange */
};

struct topic {
    struct map_node node; /* of grant.topics */
    char *exchange;
    struct rule rules[3]; /* AUTH_WRITE and AUTH_READ of them */
};

struct logins; /* login.c */

struct auth {
    struct metadata *metadata;
    void (*changed)(void *arg);
    void *changed_arg;
    struct logins *logins;
    _Atomic uint64_t version;

    pthread_rwlock_t lock; /* the rest is under it */
    struct map users;
    uint32_t last_number;
    bool had_users; /* ever, in any life */
};

void auth_read_lock(struct auth *auth);
void auth_unlock(struct auth *auth);

/* Read lock held; NULL when there is none. */
struct user *auth_find_user(const struct auth *auth, struct view name);

struct logins *logins_new(void);
void logins_free(struct logins *logins);

#endif
