#include "unit.h"

#include <semaphore.h>

#include "lepus/auth/auth.h"
#include "lepus/auth/password.h"

struct fixture {
    struct auth *auth;
    struct worker_set *workers;
    struct err err;
};

static void
put_user(struct fixture *f, const char *name, const char *password)
{
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user row = {.name = view_str(name),
                                .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256)};

    assert_true(password_make(PASSWORD_SHA256, view_str(password), hash));
    row.password_hash = view_str(hash);
    assert_true(auth_put_user(f->auth, &row, NULL, &f->err));
}

static void
init(struct fixture *f)
{
    *f = (struct fixture){0};
    f->auth = auth_open(NULL, &f->err);
    f->workers = worker_set_new(1, &f->err);
    assert_non_null(f->workers);
    put_user(f, "ann", "secret");
    auth_configure(f->auth, &(struct auth_settings){.loopback_users = "guest, ann,bob",
                                                    .max_failures = 5,
                                                    .failure_window_ms = 3600 * 1000});
}

static void
fini(struct fixture *f)
{
    auth_free(f->auth);
    worker_set_free(f->workers);
}

static enum auth_result
login_from(struct fixture *f, const char *peer, const char *user, const char *password)
{
    struct auth_login login = {.peer = peer, .is_loopback = true};
    enum auth_result result = auth_login(f->auth, &login, view_str(user), view_str(password));

    assert_int_equal(login.number, result == AUTH_ADMITTED
                                       ? auth_user_number(f->auth, view_str(user))
                                       : login.number);
    assert_int_equal(result, login.result);
    assert_true(result == AUTH_ADMITTED ? login.why[0] == '\0' : login.why[0] != '\0');
    return result;
}

static enum auth_result
login(struct fixture *f, const char *user, const char *password)
{
    return login_from(f, "10.0.0.1:5", user, password);
}

static void
a_password_is_looked_at(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    for (int i = 0; i < 2; i++) { /* by its hash, then by its proof */
        assert_int_equal(login(&f, "ann", "secret"), AUTH_ADMITTED);
        assert_int_equal(login(&f, "ann", "secreT"), AUTH_REFUSED);
        assert_int_equal(login(&f, "ann", ""), AUTH_REFUSED);
        assert_int_equal(login(&f, "bob", "secret"), AUTH_REFUSED);
    }
    fini(&f);
}

static void
a_password_that_was_right_once_is_not_for_ever(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    assert_int_equal(login(&f, "ann", "secret"), AUTH_ADMITTED);
    put_user(&f, "ann", "other");
    assert_int_equal(login(&f, "ann", "secret"), AUTH_REFUSED);
    assert_int_equal(login(&f, "ann", "other"), AUTH_ADMITTED);
    assert_true(auth_delete_user(f.auth, VIEW_LIT("ann"), NULL, &f.err));
    assert_int_equal(login(&f, "ann", "other"), AUTH_REFUSED);
    fini(&f);
}

static void
who_fails_too_often_is_not_asked_any_more(void **state)
{
    struct fixture f;
    char name[32];

    (void)state;
    init(&f);
    put_user(&f, "bob", "secret");
    assert_int_equal(login(&f, "ann", "secret"), AUTH_ADMITTED);
    for (int i = 0; i < 4; i++)
        assert_int_equal(login(&f, "ann", "wrong"), AUTH_REFUSED);
    assert_int_equal(login(&f, "ann", "secret"), AUTH_ADMITTED);
    assert_int_equal(login(&f, "ann", "wrong"), AUTH_REFUSED);
    assert_int_equal(login(&f, "ann", "secret"), AUTH_REFUSED); /* right, but too late */
    assert_int_equal(login_from(&f, "10.0.0.1:77", "ann", "secret"), AUTH_REFUSED);
    assert_int_equal(login_from(&f, "[::ffff:10.0.0.1]:77", "ann", "secret"), AUTH_REFUSED);
    assert_int_equal(login_from(&f, "10.0.0.2:77", "ann", "secret"), AUTH_ADMITTED);
    assert_int_equal(login(&f, "bob", "secret"), AUTH_ADMITTED);
    for (int i = 0; i < 45; i++) {
        snprintf(name, sizeof(name), "nobody%d", i);
        put_user(&f, name, "secret");
        assert_int_equal(login(&f, name, "wrong"), AUTH_REFUSED);
    }
    assert_int_equal(login(&f, "bob", "secret"), AUTH_REFUSED); /* it tries everybody */
    assert_int_equal(login_from(&f, "10.0.0.2:77", "bob", "secret"), AUTH_ADMITTED);
    assert_int_equal(login_from(&f, "[::1]:77", "bob", "secret"), AUTH_ADMITTED);
    auth_configure(f.auth, &(struct auth_settings){.max_failures = 0, .failure_window_ms = 1});
    assert_int_equal(login(&f, "ann", "secret"), AUTH_ADMITTED);
    fini(&f);
}

static void
a_network_of_ipv6_is_one_address(void **state)
{
    struct fixture f;
    char peer[64];

    (void)state;
    init(&f);
    for (int i = 0; i < 5; i++) {
        snprintf(peer, sizeof(peer), "[2001:db8:1:2::%d]:%d", i, 1000 + i);
        assert_int_equal(login_from(&f, peer, "ann", "wrong"), AUTH_REFUSED);
    }
    assert_int_equal(login_from(&f, "[2001:db8:1:2:3::]:1", "ann", "secret"), AUTH_REFUSED);
    assert_int_equal(login_from(&f, "[2001:db8:1:3::]:1", "ann", "secret"), AUTH_ADMITTED);
    fini(&f);
}

/* However many addresses fail, those that failed most are known. */
static void
a_crowd_does_not_hide_the_worst(void **state)
{
    struct fixture f;
    char peer[64];

    (void)state;
    init(&f);
    for (int i = 0; i < 5; i++)
        assert_int_equal(login(&f, "ann", "wrong"), AUTH_REFUSED);
    for (int i = 0; i < 20000; i++) {
        snprintf(peer, sizeof(peer), "10.1.%d.%d:1", i / 256, i % 256);
        assert_int_equal(login_from(&f, peer, "ann", "wrong"), AUTH_REFUSED);
    }
    assert_int_equal(login(&f, "ann", "secret"), AUTH_REFUSED);
    fini(&f);
}

static void
some_may_only_come_from_here(void **state)
{
    struct auth_login far = {.peer = "10.0.0.1:5"};
    struct fixture f;

    (void)state;
    init(&f);
    put_user(&f, "carl", "secret");
    assert_int_equal(auth_login(f.auth, &far, VIEW_LIT("ann"), VIEW_LIT("secret")), AUTH_REFUSED);
    assert_int_equal(auth_login_as(f.auth, &far, VIEW_LIT("ann")), AUTH_REFUSED);
    assert_int_equal(auth_login(f.auth, &far, VIEW_LIT("carl"), VIEW_LIT("secret")), AUTH_ADMITTED);
    assert_int_equal(auth_login_as(f.auth, &far, VIEW_LIT("carl")), AUTH_ADMITTED);
    assert_int_equal(auth_login_as(f.auth, &far, VIEW_LIT("nobody")), AUTH_REFUSED);
    far.is_loopback = true;
    assert_int_equal(auth_login_as(f.auth, &far, VIEW_LIT("ann")), AUTH_ADMITTED);
    fini(&f);
}

/* --- with the thread -------------------------------------------------------------------------- */

struct waiting {
    struct auth_login login;
    sem_t *done;
};

static void
on_decided(struct auth_login *login)
{
    sem_post(container_of(login, struct waiting, login)->done);
}

static void
many_are_decided_by_the_thread_and_told_on_the_worker(void **state)
{
    enum { N = 200 };
    static struct waiting all[N];
    struct fixture f;
    unsigned later = 0, admitted = 0;
    sem_t done;

    (void)state;
    init(&f);
    sem_init(&done, 0, 0);
    auth_configure(f.auth, &(struct auth_settings){.failure_window_ms = 1});
    assert_true(worker_set_start(f.workers, &f.err));
    assert_true(auth_start(f.auth, &f.err));
    for (int i = 0; i < N; i++) {
        char peer[] = "10.0.0.1:1"; /* gone when it is decided */

        all[i] = (struct waiting){
            .done = &done,
            .login = {.worker = worker_set_get(f.workers, 0), .decided = on_decided, .peer = peer}};
        later += auth_login(f.auth, &all[i].login, VIEW_LIT("ann"),
                            i % 2 ? VIEW_LIT("secret") : VIEW_LIT("wrong")) == AUTH_LATER;
    }
    for (unsigned i = 0; i < later; i++)
        sem_wait(&done);
    assert_true(later >= N / 2);
    for (int i = 0; i < N; i++) {
        assert_int_equal(all[i].login.result, i % 2 ? AUTH_ADMITTED : AUTH_REFUSED);
        admitted += all[i].login.result == AUTH_ADMITTED;
    }
    assert_int_equal(admitted, N / 2);
    worker_set_stop(f.workers);
    auth_stop(f.auth);
    sem_destroy(&done);
    fini(&f);
}

/* More than may wait: the rest is refused at once, and those that wait at the end are told. */
static void
no_more_wait_than_may(void **state)
{
    enum { N = 3000 };
    static struct waiting all[N];
    unsigned results[3] = {0};
    struct fixture f;
    sem_t done;
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user row = {.name = VIEW_LIT("slow"),
                                .hashing_algorithm = VIEW_LIT(PASSWORD_SCRYPT)};

    (void)state;
    init(&f);
    sem_init(&done, 0, 0);
    assert_true(password_make(PASSWORD_SCRYPT, VIEW_LIT("x"), hash));
    row.password_hash = view_str(hash);
    assert_true(auth_put_user(f.auth, &row, NULL, &f.err));
    auth_configure(f.auth, &(struct auth_settings){.failure_window_ms = 1});
    assert_true(auth_start(f.auth, &f.err));
    for (int i = 0; i < N; i++) {
        all[i] = (struct waiting){
            .done = &done,
            .login = {.worker = worker_set_get(f.workers, 0), .decided = on_decided, .peer = ""}};
        results[auth_login(f.auth, &all[i].login, VIEW_LIT("slow"), VIEW_LIT("wrong"))]++;
    }
    assert_int_equal(results[AUTH_ADMITTED], 0);
    assert_true(results[AUTH_LATER] >= 1024 && results[AUTH_REFUSED] > 1000);
    auth_stop(f.auth);
    worker_run_calls(worker_set_get(f.workers, 0));
    for (unsigned i = 0; i < results[AUTH_LATER]; i++)
        assert_int_equal(sem_trywait(&done), 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(all[i].login.result, AUTH_REFUSED);
    sem_destroy(&done);
    fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_password_is_looked_at),
        cmocka_unit_test(a_password_that_was_right_once_is_not_for_ever),
        cmocka_unit_test(who_fails_too_often_is_not_asked_any_more),
        cmocka_unit_test(a_network_of_ipv6_is_one_address),
        cmocka_unit_test(a_crowd_does_not_hide_the_worst),
        cmocka_unit_test(some_may_only_come_from_here),
        cmocka_unit_test(many_are_decided_by_the_thread_and_told_on_the_worker),
        cmocka_unit_test(no_more_wait_than_may),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
