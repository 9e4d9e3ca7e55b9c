#include "unit.h"

#include "lepus/auth/auth.h"
#include "lepus/auth/password.h"
#include "lepus/store/metadata.h"
#include "tmpdir.h"

struct fixture {
    struct tmpdir tmp;
    struct metadata *metadata;
    struct auth *auth;
    struct err err;
    unsigned changes;
};

static void
on_change(void *arg)
{
    struct fixture *f = arg;

    f->changes++;
    assert_true(auth_version(f->auth) > 1);
    assert_false(auth_has_user(f->auth, VIEW_LIT("nobody"))); /* no lock is held */
}

static void
open_both(struct fixture *f)
{
    f->metadata = metadata_open(f->tmp.path, METADATA_WRITE, &f->err);
    assert_non_null(f->metadata);
    f->auth = auth_open(f->metadata, &f->err);
    assert_non_null(f->auth);
    auth_on_change(f->auth, on_change, f);
}

static void
close_both(struct fixture *f)
{
    assert_true(metadata_commit(f->metadata, &f->err));
    auth_free(f->auth);
    metadata_close(f->metadata);
}

static void
init(struct fixture *f)
{
    *f = (struct fixture){0};
    tmpdir_init(&f->tmp);
    open_both(f);
}

static void
fini(struct fixture *f)
{
    close_both(f);
    tmpdir_fini(&f->tmp);
}

static void
reopen(struct fixture *f)
{
    close_both(f);
    open_both(f);
}

static void
user(struct fixture *f, const char *name, const char *tags)
{
    struct metadata_user row = {
        .name = view_str(name),
        .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256),
        .tags = view_str(tags),
    };

    if (!auth_put_user(f->auth, &row, NULL, &f->err))
        fail_msg("%s", f->err.text);
}

static bool
permit(struct fixture *f, const char *name, uint64_t vhost, const char *configure,
       const char *write, const char *read)
{
    struct metadata_permission row = {view_str(name), vhost, view_str(configure), view_str(write),
                                      view_str(read)};

    return auth_put_permission(f->auth, &row, NULL, &f->err);
}

static bool
limit(struct fixture *f, const char *name, uint64_t vhost, const char *exchange, const char *write,
      const char *read)
{
    struct metadata_topic_permission row = {view_str(name), vhost, view_str(exchange),
                                            view_str(write), view_str(read)};

    return auth_put_topic_permission(f->auth, &row, NULL, &f->err);
}

static bool
may(struct fixture *f, const char *name, uint64_t vhost, enum auth_permission permission,
    const char *what)
{
    return auth_may(f->auth, view_str(name), vhost, permission, view_str(what));
}

static bool
may_topic(struct fixture *f, const char *name, enum auth_permission permission,
          const char *exchange, const char *key)
{
    return auth_may_topic(f->auth, view_str(name), 1, "/", permission, view_str(exchange),
                          view_str(key));
}

static void
check_verdicts(struct fixture *f)
{
    assert_true(may(f, "ann", 1, AUTH_CONFIGURE, "c.1"));
    assert_false(may(f, "ann", 1, AUTH_WRITE, "c.1"));
    assert_true(may(f, "ann", 1, AUTH_WRITE, "w.1"));
    assert_false(may(f, "ann", 1, AUTH_READ, "w.1"));
    assert_true(may(f, "ann", 1, AUTH_READ, "amq.default"));
    assert_false(may(f, "ann", 2, AUTH_READ, "amq.default"));
    assert_false(may(f, "bob", 1, AUTH_READ, "amq.default"));
    assert_true(auth_may_enter(f->auth, VIEW_LIT("ann"), 1));
    assert_false(auth_may_enter(f->auth, VIEW_LIT("ann"), 2));
    assert_false(auth_may_enter(f->auth, VIEW_LIT("bob"), 1));
    assert_true(auth_has_topics(f->auth, VIEW_LIT("bob"), 1));
    assert_false(auth_has_topics(f->auth, VIEW_LIT("ann"), 1));
    assert_true(may_topic(f, "bob", AUTH_WRITE, "t", "bob.x"));
    assert_false(may_topic(f, "bob", AUTH_WRITE, "t", "ann.x"));
    assert_false(may_topic(f, "bob", AUTH_READ, "t", "bob.x"));
    assert_true(may_topic(f, "bob", AUTH_READ, "t", ""));
    assert_true(may_topic(f, "bob", AUTH_READ, "u", "bob.x"));
    assert_true(may_topic(f, "ann", AUTH_READ, "t", "bob.x"));
    assert_true(auth_has_tag(f->auth, VIEW_LIT("ann"), VIEW_LIT("impersonator")));
    assert_true(auth_has_tag(f->auth, VIEW_LIT("ann"), VIEW_LIT("a")));
    assert_false(auth_has_tag(f->auth, VIEW_LIT("ann"), VIEW_LIT("imp")));
    assert_false(auth_has_tag(f->auth, VIEW_LIT("bob"), VIEW_LIT("a")));
    assert_false(auth_has_tag(f->auth, VIEW_LIT("carl"), VIEW_LIT("a")));
}

static void
what_is_permitted_outlives_a_restart(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    user(&f, "ann", "a,impersonator");
    user(&f, "bob", "");
    assert_true(permit(&f, "ann", 1, "^c\\.", "^w\\.", "^amq\\.default$"));
    assert_true(limit(&f, "bob", 1, "t", "^{username}\\.", ""));
    assert_int_equal(f.changes, 4);
    check_verdicts(&f);
    reopen(&f);
    check_verdicts(&f);
    fini(&f);
}

static void
what_is_taken_away_is_gone(void **state)
{
    struct fixture f;
    uint64_t version;

    (void)state;
    init(&f);
    user(&f, "ann", "");
    assert_true(permit(&f, "ann", 1, ".*", ".*", ".*"));
    assert_true(permit(&f, "ann", 2, ".*", ".*", ".*"));
    assert_true(limit(&f, "ann", 1, "t", "x", "x"));
    version = auth_version(f.auth);
    assert_true(permit(&f, "ann", 1, "", ".*", ".*"));
    assert_true(auth_version(f.auth) > version);
    assert_false(may(&f, "ann", 1, AUTH_CONFIGURE, "q"));
    assert_true(may(&f, "ann", 1, AUTH_WRITE, "q"));

    assert_true(auth_delete_permission(f.auth, VIEW_LIT("ann"), 1, NULL, &f.err));
    assert_true(auth_delete_permission(f.auth, VIEW_LIT("ann"), 1, NULL, &f.err));
    reopen(&f);
    assert_false(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    assert_true(auth_may_enter(f.auth, VIEW_LIT("ann"), 2));
    assert_false(may_topic(&f, "ann", AUTH_WRITE, "t", "y"));

    assert_true(
        auth_delete_topic_permission(f.auth, VIEW_LIT("ann"), 1, VIEW_LIT("t"), NULL, &f.err));
    reopen(&f);
    assert_true(may_topic(&f, "ann", AUTH_WRITE, "t", "y"));

    auth_forget_vhost(f.auth, 2);
    assert_false(auth_may_enter(f.auth, VIEW_LIT("ann"), 2));
    fini(&f);
}

static void
a_user_made_anew_has_nothing_of_the_former(void **state)
{
    struct fixture f;
    uint32_t number;

    (void)state;
    init(&f);
    user(&f, "ann", "a");
    number = auth_user_number(f.auth, VIEW_LIT("ann"));
    assert_true(permit(&f, "ann", 1, ".*", ".*", ".*"));
    user(&f, "ann", "b"); /* changed, not made anew */
    assert_int_equal(auth_user_number(f.auth, VIEW_LIT("ann")), number);
    assert_true(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    assert_true(auth_delete_user(f.auth, VIEW_LIT("ann"), NULL, &f.err));
    assert_false(auth_has_user(f.auth, VIEW_LIT("ann")));
    assert_false(auth_delete_user(f.auth, VIEW_LIT("ann"), NULL, &f.err));
    assert_int_equal(f.err.code, NOT_FOUND);
    user(&f, "ann", "");
    assert_int_not_equal(auth_user_number(f.auth, VIEW_LIT("ann")), number);
    assert_false(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    reopen(&f);
    assert_false(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    fini(&f);
}

static void
what_cannot_be_is_refused(void **state)
{
    struct fixture f;
    struct metadata_user row = {.name = VIEW_LIT("a"), .hashing_algorithm = VIEW_LIT("rot13")};

    (void)state;
    init(&f);
    assert_false(auth_put_user(f.auth, &row, NULL, &f.err));
    assert_int_equal(f.err.code, PRECONDITION_FAILED);
    row.hashing_algorithm = VIEW_LIT(PASSWORD_SHA256);
    row.name = VIEW_LIT("");
    assert_false(auth_put_user(f.auth, &row, NULL, &f.err));
    assert_false(permit(&f, "ann", 1, ".*", ".*", ".*"));
    assert_int_equal(f.err.code, NOT_FOUND);
    user(&f, "ann", "");
    assert_false(permit(&f, "ann", 1, ".*", "(", ".*"));
    assert_int_equal(f.err.code, PRECONDITION_FAILED);
    assert_false(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    assert_false(limit(&f, "ann", 1, "t", ".*", "["));
    assert_false(limit(&f, "bob", 1, "t", ".*", ""));
    assert_int_equal(f.err.code, NOT_FOUND);
    fini(&f);
}

/* As an older version, or a hand in the database, may have left it. */
static void
a_rule_that_cannot_be_understood_allows_nothing(void **state)
{
    struct fixture f;

    (void)state;
    init(&f);
    user(&f, "ann", "");
    metadata_put_permission(f.metadata,
                            &(struct metadata_permission){VIEW_LIT("ann"), 1, VIEW_LIT(".*"),
                                                          VIEW_LIT("("), VIEW_LIT(".*")});
    reopen(&f);
    assert_true(auth_may_enter(f.auth, VIEW_LIT("ann"), 1));
    assert_false(may(&f, "ann", 1, AUTH_WRITE, "q"));
    fini(&f);
}

static void
the_first_user_is_made_once(void **state)
{
    struct fixture f;
    bool made;

    (void)state;
    init(&f);
    assert_true(
        auth_make_first_user(f.auth, VIEW_LIT("guest"), VIEW_LIT("guest"), 1, &made, &f.err));
    assert_true(made);
    assert_true(may(&f, "guest", 1, AUTH_CONFIGURE, "q"));
    assert_true(auth_has_tag(f.auth, VIEW_LIT("guest"), VIEW_LIT("administrator")));
    reopen(&f);
    assert_true(auth_make_first_user(f.auth, VIEW_LIT("other"), VIEW_LIT("x"), 1, &made, &f.err));
    assert_false(made);
    assert_true(auth_delete_user(f.auth, VIEW_LIT("guest"), NULL, &f.err));
    reopen(&f); /* nobody is left, and nobody comes back */
    assert_true(auth_make_first_user(f.auth, VIEW_LIT("guest"), VIEW_LIT("x"), 1, &made, &f.err));
    assert_false(made);
    assert_false(auth_has_user(f.auth, VIEW_LIT("guest")));
    fini(&f);
}

static bool
count(void *arg, const union metadata_row *row, struct err *err)
{
    (void)row;
    (void)err;
    ++*(unsigned *)arg;
    return true;
}

static void
everything_can_be_walked(void **state)
{
    unsigned users = 0, permissions = 0, topics = 0;
    struct fixture f;

    (void)state;
    init(&f);
    user(&f, "ann", "");
    user(&f, "bob", "");
    assert_true(permit(&f, "ann", 1, "a", "b", "c"));
    assert_true(limit(&f, "ann", 1, "t", "a", "b"));
    assert_true(limit(&f, "ann", 1, "u", "a", "b"));
    assert_true(limit(&f, "bob", 1, "u", "a", "b"));
    assert_true(auth_walk(f.auth, METADATA_users, count, &users, &f.err));
    assert_true(auth_walk(f.auth, METADATA_permissions, count, &permissions, &f.err));
    assert_true(auth_walk(f.auth, METADATA_topic_permissions, count, &topics, &f.err));
    assert_int_equal(users, 2);
    assert_int_equal(permissions, 1);
    assert_int_equal(topics, 3);
    fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_permitted_outlives_a_restart),
        cmocka_unit_test(what_is_taken_away_is_gone),
        cmocka_unit_test(a_user_made_anew_has_nothing_of_the_former),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_rule_that_cannot_be_understood_allows_nothing),
        cmocka_unit_test(the_first_user_is_made_once),
        cmocka_unit_test(everything_can_be_walked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
