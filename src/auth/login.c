/*
 * login: proving passwords.
 *
 * Happy path: the password was proven before, and its proof (an HMAC by a key of this process)
 * stands with the user: admitted at once. Otherwise the login waits in a queue for the one thread
 * that hashes, which looks for the proof again (many connections of one user come together), then
 * hashes, keeps the proof, and calls back on the worker that asked.
 *
 * What can fail: the queue is full (refused), the address has failed too often (refused, without
 * a look at the password, before and behind the queue), a wrong password or a user that there is
 * not. For the latter something is hashed all the same, so that the time tells nothing.
 *
 * Failures are counted for an address with a user's name, so that one client with an old password
 * does not lock its neighbours out, and for the address alone, with ADDRESS_TIMES as many allowed.
 * They leak away evenly, max_failures a window: who has used them up may try again at that pace. A
 * table of fixed size knows who has failed; where it is crowded the one who is furthest from being
 * refused is forgotten.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>

#include "auth_priv.h"

#include "lepus/auth/password.h"
#include "lepus/base/clock.h"
#include "lepus/base/mem.h"
#include "lepus/base/random.h"

enum {
    WAITING_MAX = 1024,
    SOURCES = 8192,
    ADDRESS_TIMES = 10,
    SOURCES_NEAR = 8, /* places where one may stand */
    WINDOW_MS = 60 * 1000,
    MAX_FAILURES = 30,
};

/* An address, or one with a user's name. */
struct source {
    uint64_t id; /* 0: free */
    uint64_t at_ms;
    double used; /* of what it may fail, as of then: 1 is all */
};

struct logins {
    uint8_t key[PROOF_SIZE];
    pthread_t thread;
    bool is_running; /* main thread, before and after the workers run */

    pthread_mutex_t mutex; /* the rest is under it, and the users' proofs */
    pthread_cond_t wake;
    struct auth_settings settings;
    struct auth_login *first, **last;
    unsigned waiting;
    bool is_ending;
    struct source sources[SOURCES];
    char nobody[PASSWORD_TEXT_MAX]; /* a hash for users that there are not; "" until needed */
};

struct logins *
logins_new(void)
{
    struct logins *logins = mem_new(struct logins);

    random_octets(logins->key, sizeof(logins->key));
    pthread_mutex_init(&logins->mutex, NULL);
    pthread_cond_init(&logins->wake, NULL);
    logins->last = &logins->first;
    logins->settings.max_failures = MAX_FAILURES;
    logins->settings.failure_window_ms = WINDOW_MS;
    return logins;
}

void
logins_free(struct logins *logins)
{
    assert(!logins->is_running && logins->first == NULL);
    pthread_mutex_destroy(&logins->mutex);
    pthread_cond_destroy(&logins->wake);
    OPENSSL_cleanse(logins->key, sizeof(logins->key));
    free(logins);
}

void
auth_configure(struct auth *auth, const struct auth_settings *settings)
{
    assert(settings->failure_window_ms > 0);
    pthread_mutex_lock(&auth->logins->mutex);
    auth->logins->settings = *settings;
    pthread_mutex_unlock(&auth->logins->mutex);
}

/* --- addresses ------------------------------------------------------------------------------ */

/* Of "10.0.0.7:51234", "[::1]:80" or without a port: an IPv4 address, or the 64 bits that an IPv6
 * network has. Never 0. */
static uint64_t
source_of(const char *peer)
{
    char host[64] = "";
    uint8_t octets[16];
    const char *end = strrchr(peer, ':');
    uint64_t address = 0;
    size_t len;

    if (peer[0] == '[') {
        peer++;
        end = strchr(peer, ']');
    } else if (end != NULL && strchr(peer, ':') != end) {
        end = NULL; /* an IPv6 address alone */
    }
    len = end != NULL ? (size_t)(end - peer) : strlen(peer);
    snprintf(host, sizeof(host), "%.*s", (int)(len < 63 ? len : 63), peer);
    if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL)
        memmove(host, host + 7, strlen(host + 7) + 1);
    if (inet_pton(AF_INET, host, octets) == 1) {
        memcpy(&address, octets, 4);
        return address | UINT64_C(1) << 32;
    }
    if (inet_pton(AF_INET6, host, octets) == 1)
        memcpy(&address, octets, 8);
    return address ^ UINT64_C(1) << 33; /* ::/64 is 0 */
}

static uint64_t
source_with(uint64_t address, struct view user)
{
    uint64_t both[2] = {address, view_hash(user)};

    return view_hash(view_of(both, sizeof(both))) | 1;
}

/* Mutex held. */
static void
leak(const struct logins *logins, struct source *source, uint64_t now_ms)
{
    double gone = (double)(now_ms - source->at_ms) / logins->settings.failure_window_ms;

    source->used = source->used > gone ? source->used - gone : 0;
    source->at_ms = now_ms;
}

/* Mutex held. NULL when it has no failures. */
static struct source *
find_source(struct logins *logins, uint64_t id)
{
    size_t first = view_hash(view_of(&id, sizeof(id))) % SOURCES;

    for (size_t i = 0; i < SOURCES_NEAR; i++)
        if (logins->sources[(first + i) % SOURCES].id == id)
            return &logins->sources[(first + i) % SOURCES];
    return NULL;
}

/* Mutex held: itself, a free place, or that of the one who has used least. */
static struct source *
take_source(struct logins *logins, uint64_t id, uint64_t now_ms)
{
    size_t first = view_hash(view_of(&id, sizeof(id))) % SOURCES;
    struct source *source = find_source(logins, id);

    for (size_t i = 0; source == NULL && i < SOURCES_NEAR; i++)
        if (logins->sources[(first + i) % SOURCES].id == 0)
            source = &logins->sources[(first + i) % SOURCES];
    if (source == NULL) {
        source = &logins->sources[first];
        for (size_t i = 0; i < SOURCES_NEAR; i++) {
            struct source *at = &logins->sources[(first + i) % SOURCES];

            leak(logins, at, now_ms);
            if (at->used < source->used)
                source = at;
        }
        source->id = 0;
    }
    if (source->id == 0)
        *source = (struct source){.id = id, .at_ms = now_ms};
    leak(logins, source, now_ms);
    return source;
}

/* Mutex held: whether one failure more would be too many. */
static bool
has_used_up(struct logins *logins, uint64_t id, double most)
{
    struct source *source = find_source(logins, id);

    if (source == NULL)
        return false;
    leak(logins, source, clock_now_ms());
    return source->used + 1 / most > 1 + 1e-9; /* sums of fractions */
}

static bool
has_failed_too_often(struct logins *logins, const struct auth_login *login)
{
    uint32_t most;
    bool has;

    pthread_mutex_lock(&logins->mutex);
    most = logins->settings.max_failures;
    has = most > 0 && (has_used_up(logins, login->source, (double)most * ADDRESS_TIMES) ||
                       has_used_up(logins, login->source_user, most));
    pthread_mutex_unlock(&logins->mutex);
    return has;
}

static void
count_failure(struct logins *logins, const struct auth_login *login)
{
    uint64_t now_ms = clock_now_ms();
    double most;

    pthread_mutex_lock(&logins->mutex);
    most = logins->settings.max_failures;
    if (most > 0) {
        take_source(logins, login->source, now_ms)->used += 1 / (most * ADDRESS_TIMES);
        take_source(logins, login->source_user, now_ms)->used += 1 / most;
    }
    pthread_mutex_unlock(&logins->mutex);
}

/* --- proofs --------------------------------------------------------------------------------- */

static bool
prove(const struct logins *logins, const struct user *user, struct view password,
      uint8_t out[PROOF_SIZE])
{
    uint8_t text[sizeof(user->number) + EVP_MAX_MD_SIZE];
    unsigned size = 0;

    memcpy(text, &user->number, sizeof(user->number));
    if (EVP_Digest(password.at, password.len, text + sizeof(user->number), &size, EVP_sha256(),
                   NULL) != 1)
        return false;
    return HMAC(EVP_sha256(), logins->key, sizeof(logins->key), text, sizeof(user->number) + size,
                out, NULL) != NULL;
}

/* Whether it is the password that was found right before. */
static bool
is_proven(struct auth *auth, struct auth_login *login)
{
    struct view password = view_of(login->password, login->password_len);
    const struct user *user;
    uint8_t proof[PROOF_SIZE];
    bool is = false;

    auth_read_lock(auth);
    user = auth_find_user(auth, view_of(login->user, login->user_len));
    if (user != NULL) {
        pthread_mutex_lock(&auth->logins->mutex);
        is = user->is_proven && prove(auth->logins, user, password, proof) &&
             CRYPTO_memcmp(proof, user->proof, PROOF_SIZE) == 0;
        pthread_mutex_unlock(&auth->logins->mutex);
        login->number = user->number;
    }
    auth_unlock(auth);
    return is;
}

/* Unless the user's password has changed since it was compared with this hash. */
static void
keep_proof(struct auth *auth, struct auth_login *login, const char *hash)
{
    struct user *user;

    auth_read_lock(auth);
    user = auth_find_user(auth, view_of(login->user, login->user_len));
    if (user != NULL && user->number == login->number &&
        view_equal(user->row.password_hash, view_str(hash))) {
        pthread_mutex_lock(&auth->logins->mutex);
        user->is_proven =
            prove(auth->logins, user, view_of(login->password, login->password_len), user->proof);
        pthread_mutex_unlock(&auth->logins->mutex);
    }
    auth_unlock(auth);
}

/* --- deciding ------------------------------------------------------------------------------- */

static enum auth_result
refuse(struct auth_login *login, const char *why)
{
    login->why = why;
    return login->result = AUTH_REFUSED;
}

static enum auth_result
admit(struct auth_login *login)
{
    return login->result = AUTH_ADMITTED;
}

static bool
is_of_loopback_only(struct auth *auth, struct view name)
{
    const char *at;
    bool is = false;

    pthread_mutex_lock(&auth->logins->mutex);
    for (at = auth->logins->settings.loopback_users; *at != '\0' && !is;) {
        size_t len = strcspn(at, ","), skip = strspn(at, " ");
        struct view word = view_of(at + (skip < len ? skip : len), len - (skip < len ? skip : len));

        while (word.len > 0 && word.at[word.len - 1] == ' ')
            word.len--;
        is = word.len > 0 && view_equal(word, name);
        at += len + (at[len] == ',');
    }
    pthread_mutex_unlock(&auth->logins->mutex);
    return is;
}

static bool
is_from_too_far(struct auth *auth, const struct auth_login *login, struct view user)
{
    return !login->is_loopback && is_of_loopback_only(auth, user);
}

/* The user's hash and algorithm, for the caller to free; somebody's, when there is no such user. */
static bool
take_hash(struct auth *auth, struct auth_login *login, char **out_hash, char **out_algorithm)
{
    const struct user *user;

    *out_hash = *out_algorithm = NULL;
    auth_read_lock(auth);
    user = auth_find_user(auth, view_of(login->user, login->user_len));
    if (user != NULL) {
        *out_hash = view_dup(user->row.password_hash);
        *out_algorithm = view_dup(user->row.hashing_algorithm);
        login->number = user->number;
    }
    auth_unlock(auth);
    return user != NULL;
}

/* As long as a wrong password of a user that there is. Its caller is the only one of its kind. */
static void
hash_for_nobody(struct logins *logins, struct view password)
{
    if (logins->nobody[0] == '\0' &&
        !password_make(PASSWORD_SCRYPT, VIEW_LIT("nobody"), logins->nobody))
        return;
    (void)password_is_right(VIEW_LIT(PASSWORD_SCRYPT), view_str(logins->nobody), password);
}

/* All that takes long. */
static enum auth_result
decide(struct auth *auth, struct auth_login *login)
{
    struct view password = view_of(login->password, login->password_len);
    char *hash, *algorithm;
    const char *why;
    bool is_right;

    if (has_failed_too_often(auth->logins, login))
        return refuse(login, "too many failures from this address");
    if (is_proven(auth, login))
        return admit(login);
    if (!take_hash(auth, login, &hash, &algorithm)) {
        hash_for_nobody(auth->logins, password);
        count_failure(auth->logins, login);
        return refuse(login, "no such user");
    }
    is_right = password_is_right(view_str(algorithm), view_str(hash), password);
    if (is_right)
        keep_proof(auth, login, hash);
    else
        count_failure(auth->logins, login);
    why = password_is_hash(view_str(algorithm), view_str(hash)) && hash[0] != '\0'
              ? "wrong password"
              : "this user has no password";
    free(hash);
    free(algorithm);
    return is_right ? admit(login) : refuse(login, why);
}

static void
forget_secrets(struct auth_login *login)
{
    if (login->password != NULL)
        OPENSSL_cleanse(login->password, login->password_len);
    free(login->password);
    free(login->user);
    login->user = login->password = NULL;
    login->user_len = login->password_len = 0;
}

static void
on_decided(struct worker_call *call)
{
    struct auth_login *login = container_of(call, struct auth_login, call);

    login->decided(login);
}

/* The owner may free the login from now on. */
static void
tell(struct auth_login *login)
{
    forget_secrets(login);
    login->call = (struct worker_call){.run = on_decided};
    worker_call_from_outside(login->worker, &login->call);
}

/* --- asking --------------------------------------------------------------------------------- */

static bool
enqueue(struct logins *logins, struct auth_login *login)
{
    bool has_room;

    pthread_mutex_lock(&logins->mutex);
    has_room = logins->waiting < WAITING_MAX && !logins->is_ending;
    if (has_room) {
        login->next = NULL;
        *logins->last = login;
        logins->last = &login->next;
        logins->waiting++;
        pthread_cond_signal(&logins->wake);
    }
    pthread_mutex_unlock(&logins->mutex);
    return has_room;
}

static enum auth_result
begin(struct auth *auth, struct auth_login *login)
{
    if (is_from_too_far(auth, login, view_of(login->user, login->user_len)))
        return refuse(login, "this user may only come from this machine");
    if (login->password_len == 0)
        return refuse(login, "an empty password");
    if (has_failed_too_often(auth->logins, login))
        return refuse(login, "too many failures from this address");
    if (is_proven(auth, login))
        return admit(login);
    if (!auth->logins->is_running)
        return decide(auth, login);
    if (!enqueue(auth->logins, login))
        return refuse(login, "too many logins wait");
    return AUTH_LATER;
}

enum auth_result
auth_login(struct auth *auth, struct auth_login *login, struct view user, struct view password)
{
    enum auth_result result;

    login->result = AUTH_LATER;
    login->why = "";
    login->auth = auth;
    login->source = source_of(login->peer);
    login->source_user = source_with(login->source, user);
    login->user = view_dup(user);
    login->user_len = user.len;
    login->password = view_dup(password);
    login->password_len = password.len;
    result = begin(auth, login);
    if (result != AUTH_LATER) /* else it is no longer ours to touch */
        forget_secrets(login);
    return result;
}

enum auth_result
auth_login_as(struct auth *auth, struct auth_login *login, struct view user)
{
    login->why = "";
    login->number = auth_user_number(auth, user);
    if (login->number == 0)
        return refuse(login, "no such user");
    if (is_from_too_far(auth, login, user))
        return refuse(login, "this user may only come from this machine");
    return admit(login);
}

/* --- the thread ------------------------------------------------------------------------------ */

/* The next one; NULL at the end. */
static struct auth_login *
take(struct logins *logins)
{
    struct auth_login *login;

    pthread_mutex_lock(&logins->mutex);
    while (logins->first == NULL && !logins->is_ending)
        pthread_cond_wait(&logins->wake, &logins->mutex);
    login = logins->is_ending ? NULL : logins->first;
    if (login != NULL) {
        logins->first = login->next;
        if (logins->first == NULL)
            logins->last = &logins->first;
        logins->waiting--;
    }
    pthread_mutex_unlock(&logins->mutex);
    return login;
}

static void *
run(void *arg)
{
    struct auth *auth = arg;
    struct auth_login *login;

    while ((login = take(auth->logins)) != NULL) {
        decide(auth, login);
        tell(login);
    }
    return NULL;
}

bool
auth_start(struct auth *auth, struct err *err)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&auth->logins->thread, NULL, run, auth);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return err_set(err, INTERNAL_ERROR, "logins' thread: %s", strerror(error));
    auth->logins->is_running = true;
    return true;
}

void
auth_stop(struct auth *auth)
{
    struct logins *logins = auth->logins;
    struct auth_login *login;

    if (!logins->is_running)
        return;
    pthread_mutex_lock(&logins->mutex);
    logins->is_ending = true;
    pthread_cond_signal(&logins->wake);
    pthread_mutex_unlock(&logins->mutex);
    pthread_join(logins->thread, NULL);
    logins->is_running = false;
    while ((login = logins->first) != NULL) {
        logins->first = login->next;
        refuse(login, "the broker stops");
        tell(login);
    }
    logins->last = &logins->first;
}
