#include "fixture.h"

static void
put_guest(struct fixture *f)
{
    struct metadata_user guest = {.name = VIEW_LIT("guest"),
                                  .hashing_algorithm = VIEW_LIT(PASSWORD_SHA256)};
    struct err err;

    assert_true(auth_put_user(f->auth, &guest, NULL, &err));
}

static void
delete_guest(struct fixture *f)
{
    struct err err;

    assert_true(auth_delete_user(f->auth, VIEW_LIT("guest"), NULL, &err));
}

static void
assert_logged_out(struct fixture *f)
{
    struct seen seen = fixture_hear(f);
    const struct connection_close *close = &seen.args.connection_close;

    assert_int_equal(seen.method, METHOD_connection_close);
    assert_int_equal(close->reply_code, CONNECTION_FORCED);
    assert_true(
        view_equal(close->reply_text, VIEW_LIT("CONNECTION_FORCED - user 'guest' was deleted")));
}

static void
who_is_deleted_is_logged_out(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    delete_guest(&f);
    assert_logged_out(&f);
    fixture_fini(&f);
}

static void
another_of_the_same_name_is_somebody_else(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    delete_guest(&f);
    put_guest(&f);
    assert_logged_out(&f);
    fixture_fini(&f);
}

static void
has_tick_looked(struct fixture *f, void *arg)
{
    *(bool *)arg = f->conn->auth_version == auth_version(f->auth);
}

/* Other users come and go, and this one's password changes: nobody is logged out by that, which is
 * known once the tick has looked at it. */
static void
whose_password_changes_stays(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    put_guest(&f);
    for (bool has_looked = false; !has_looked;) {
        fixture_exchange(&f);
        fixture_do(&f, has_tick_looked, &has_looked);
    }
    fixture_exchange(&f);
    assert_silence(&f);
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_deleted_is_logged_out),
        cmocka_unit_test(another_of_the_same_name_is_somebody_else),
        cmocka_unit_test(whose_password_changes_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
