#include "world.h"

#include "../broker/fixture.h"

/* A document in the quotes of C, with ' for ". */
static struct view
document(const char *text)
{
    static char at[1 << 16];
    size_t n = strlen(text);

    assert_true(n < sizeof(at));
    for (size_t i = 0; i < n; i++)
        at[i] = text[i] == '\'' ? '"' : text[i];
    return view_of(at, n);
}

static void
import(struct world *w, const char *text, const char *told)
{
    world_import(w, document(text));
    assert_string_equal(world_told(w), told);
}

/* Whether the export has this line, blanks at its ends aside. */
static bool
has_line(struct world *w, const char *text)
{
    struct view all = world_export(w), line = document(text);
    const uint8_t *at = all.at, *end = all.at + all.len;

    while (at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        const uint8_t *last = newline != NULL ? newline : end;

        while (*at == ' ')
            at++;
        if (view_equal(view_of(at, (size_t)(last - at)), line))
            return true;
        at = last + 1;
    }
    return false;
}

/* "{member: ...}" of the one object of that section, compact. */
static const char *
exported(struct world *w, const char *section, const char *member)
{
    static char out[4096];
    struct view all = world_export(w);
    char *text = view_dup(all), *at, *end;
    size_t n = 0;

    snprintf(out, sizeof(out), "\n  \"%s\": [", section);
    at = strstr(text, out);
    assert_non_null(at);
    snprintf(out, sizeof(out), "\n      \"%s\": ", member);
    at = strstr(at, out);
    assert_non_null(at);
    at += strlen(out);
    end = strstr(at, "\n      \"");
    if (end == NULL || (strstr(at, "\n    }") != NULL && strstr(at, "\n    }") < end))
        end = strstr(at, "\n    }");
    assert_non_null(end);
    for (; at < end; at++) {
        if (*at == '\n')
            while (at[1] == ' ')
                at++;
        else
            out[n++] = *at == '"' ? '\'' : *at;
    }
    out[n - (n > 0 && out[n - 1] == ',')] = '\0';
    free(text);
    return out;
}

/* --- arguments ---------------------------------------------------------------------------- */

static void
arguments_come_in_as_long_double_longstr_array_table_bool_and_void(void **state)
{
    struct queue_description q;
    struct queue_found found;
    struct field field, inner;
    struct world w;
    struct view arguments, name;
    size_t at = 0;

    (void)state;
    world_init(&w);
    import(&w,
           "{'queues': [{'name': 'q', 'arguments': {'i': -5, 'd': 2.5, 's': 'te\\u0000xt', 'a': "
           "[1, [], 'x'], 't': {'u': {}}, 'y': true, 'n': false, 'v': null}}]}",
           "");
    assert_true(topology_find_queue(topology_find_vhost(w.topology, VIEW_LIT("/")), VIEW_LIT("q"),
                                    0, &found, &w.err));
    assert_true(topology_queue_describe(w.topology, found.ref.id, &q));
    arguments = view_of(q.arguments, q.arguments_len);
    assert_true(table_find(arguments, VIEW_LIT("i"), &field));
    assert_true(field.type == FIELD_I64 && field.integer == -5);
    assert_true(table_find(arguments, VIEW_LIT("d"), &field) && field.type == FIELD_DOUBLE);
    assert_memory_equal(field.bytes.at, "\x40\x04\0\0\0\0\0\0", 8);
    assert_true(table_find(arguments, VIEW_LIT("s"), &field) && field.type == FIELD_LONGSTR);
    assert_true(view_equal(field.bytes, VIEW_LIT("te\0xt")));
    assert_true(table_find(arguments, VIEW_LIT("a"), &field) && field.type == FIELD_ARRAY);
    assert_true(array_next(field.bytes, &at, &inner) && inner.type == FIELD_I64);
    assert_true(array_next(field.bytes, &at, &inner) && inner.type == FIELD_ARRAY &&
                inner.bytes.len == 0);
    assert_true(array_next(field.bytes, &at, &inner) && inner.type == FIELD_LONGSTR);
    assert_false(array_next(field.bytes, &at, &inner));
    assert_true(table_find(arguments, VIEW_LIT("t"), &field) && field.type == FIELD_TABLE);
    at = 0;
    assert_true(table_next(field.bytes, &at, &name, &inner) && inner.type == FIELD_TABLE);
    assert_true(table_find(arguments, VIEW_LIT("y"), &field) && field.type == FIELD_BOOL &&
                field.integer == 1);
    assert_true(table_find(arguments, VIEW_LIT("n"), &field) && field.type == FIELD_BOOL &&
                field.integer == 0);
    assert_true(table_find(arguments, VIEW_LIT("v"), &field) && field.type == FIELD_VOID);
    queue_description_fini(&q);
    world_fini(&w);
}

static void
declare(struct world *w, const char *name, struct view arguments)
{
    struct queue_spec spec = {.name = view_str(name), .durable = true, .arguments = arguments};
    struct queue_found found;

    assert_int_equal(topology_declare_queue(topology_find_vhost(w->topology, VIEW_LIT("/")), &spec,
                                            0, 0, &found, &w->err),
                     QUEUE_CREATED);
    assert_true(metadata_commit(w->metadata, &w->err));
}

static void
every_type_of_argument_goes_out_as_json(void **state)
{
    struct buf table;
    struct world w;

    (void)state;
    world_init(&w);
    buf_init(&table, 1 << 16);
    declare(&w, "q",
            table_of(&table, "a:b=-3 b:B=200 c:s=-300 d:u=60000 e:I=-70000 f:i=4000000000 "
                             "g:l=5000000000 h:T=1700000000 i:f=0.5 j:d=0.1 k:D=25 l:S=text "
                             "m:x=octets n:t=1 o:V"));
    assert_string_equal(
        exported(&w, "queues", "arguments"),
        "{'a': -3,'b': 200,'c': -300,'d': 60000,'e': -70000,'f': 4000000000,'g': 5000000000,"
        "'h': 1700000000,'i': 0.5,'j': 0.10000000000000001,'k': 2.5,'l': 'text','m': 'octets',"
        "'n': true,'o': null}");
    assert_int_equal(w.export_errors, 0);
    buf_fini(&table);
    world_fini(&w);
}

static void
what_json_cannot_tell_is_left_out_with_what_hangs_on_it(void **state)
{
    static const uint8_t no_utf8[] = "\1xS\0\0\0\2\xff\xfe", twice[] = "\1xV\1xV";
    static const uint8_t infinite[] = "\1xd\x7f\xf0\0\0\0\0\0\0";
    struct binding_spec binding = {.source = VIEW_LIT("amq.direct"),
                                   .destination = VIEW_LIT("octets")};
    struct world w;

    (void)state;
    world_init(&w);
    declare(&w, "octets", view_of(no_utf8, sizeof(no_utf8) - 1));
    declare(&w, "twice", view_of(twice, sizeof(twice) - 1));
    declare(&w, "infinite", view_of(infinite, sizeof(infinite) - 1));
    declare(&w, "fine", VIEW_LIT(""));
    assert_true(
        topology_bind(topology_find_vhost(w.topology, VIEW_LIT("/")), &binding, 0, NULL, &w.err));
    assert_true(metadata_commit(w.metadata, &w.err));
    world_export(&w);
    assert_int_equal(w.export_errors, 4);
    assert_non_null(strstr(world_told(&w), "error queue 'octets' is left out: arguments: x: octets "
                                           "that are no UTF-8\n"));
    assert_non_null(strstr(world_told(&w), "error queue 'twice' is left out: arguments: x: a name "
                                           "that comes twice\n"));
    assert_non_null(strstr(world_told(&w), "error queue 'infinite' is left out: arguments: x: a "
                                           "number that is none, or is infinite\n"));
    assert_non_null(strstr(world_told(&w), "error bindings '' is left out: "));
    assert_string_equal(exported(&w, "queues", "name"), "'fine'");
    assert_true(has_line(&w, "'bindings': [],"));
    world_fini(&w);
}

/* --- findings ----------------------------------------------------------------------------- */

static void
put(struct buf *to, const char *text, int times)
{
    for (; times > 0; times--)
        buf_append(to, text, strlen(text));
}

static void
values_are_cut_between_characters_and_paths_at_an_ellipsis(void **state)
{
    enum { DEEP = 100, NAMED = 9 };
    struct buf text;
    struct world w;

    (void)state;
    world_init(&w);
    buf_init(&text, 1 << 16);
    put(&text, "{\"vhosts\": [{\"name\": []}], \"users\": \"", 1);
    put(&text, "\xc3\xa9", 60);
    put(&text, "\"}", 1);
    world_import(&w, buf_view(&text));
    assert_non_null(
        strstr(world_told(&w), "error vhosts[0].name: expected text, found a list of 0\n"));
    assert_non_null(strstr(world_told(&w), "\xc3\xa9...\n"));
    assert_true(view_is_utf8(buf_view(&w.told)));

    buf_clear(&text);
    put(&text, "{\"queues\": [{\"name\": \"q\", \"arguments\": ", 1);
    put(&text, "{\"a name of fifty octets that stands for many of them\": ", NAMED);
    put(&text, "[", DEEP);
    put(&text, "]", DEEP);
    put(&text, "}", NAMED);
    put(&text, "}]}", 1);
    world_import(&w, buf_view(&text));
    assert_int_equal(w.counts.errors, 1);
    assert_non_null(strstr(world_told(&w), "...: expected at most "));
    assert_true(w.told.len < 600);
    buf_fini(&text);
    world_fini(&w);
}

static void
a_bad_member_leaves_out_its_object_alone(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    import(&w,
           "{'vhosts': [{'name': 'a', 'tracing': 5}, {'name': 'b'}], 'exchanges': [{'name': 'x', "
           "'vhost': 'a', 'type': 'topic'}, {'name': 'x', 'vhost': 'b', 'type': 'topic'}]}",
           "error vhosts[0].tracing: expected true or false, found 5\n"
           "error exchanges[0].vhost: expected a vhost that exists, found \"a\"\n");
    assert_int_equal(w.counts.objects, 2);
    assert_null(topology_find_vhost(w.topology, VIEW_LIT("a")));
    assert_string_equal(exported(&w, "exchanges", "vhost"), "'b'");
    world_fini(&w);
}

/* --- what has no column --------------------------------------------------------------------- */

static void
members_without_a_column_go_out_where_they_came_in(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    import(&w,
           "{'vhosts': [{'name': '/', 'limits': {'max-queues': 5}, 'colour': 'red', 'metadata': "
           "{'description': 'd', 'owner': {'name': 'n'}}}]}",
           "warning vhosts[0].colour: not understood, but kept: \"red\"\n"
           "warning vhosts[0].metadata.owner: not understood, but kept: an object of 1\n");
    assert_string_equal(exported(&w, "vhosts", "metadata"),
                        "{'description': 'd','owner': {'name': 'n'},'tags': []}");
    assert_string_equal(exported(&w, "vhosts", "colour"), "'red'");
    assert_string_equal(exported(&w, "vhosts", "limits"), "{'max-queues': 5}");
    import(&w, "{'vhosts': [{'name': '/', 'metadata': {'lepus:others': {}}}]}",
           "warning vhosts[0].metadata.lepus:others: not understood, but kept: an object of 0\n"
           "error vhosts[0].metadata: expected no member 'lepus:others', which is ours\n");
    assert_string_equal(exported(&w, "vhosts", "colour"), "'red'");
    world_fini(&w);
}

static void
what_metadata_says_goes_before_what_stands_beside_it(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    import(&w,
           "{'vhosts': [{'name': '/', 'description': 'beside', 'tags': ['x'], 'metadata': "
           "{'description': 'inside', 'default_queue_type': null}, 'default_queue_type': "
           "'quorum'}]}",
           "");
    assert_string_equal(exported(&w, "vhosts", "metadata"),
                        "{'description': 'inside','tags': ['x']}");
    import(&w, "{'vhosts': [{'name': '/', 'default_queue_type': 'quorum', 'tags': ' a, b ,,c'}]}",
           "");
    assert_string_equal(exported(&w, "vhosts", "metadata"),
                        "{'default_queue_type': 'quorum','description': '','tags': ['a','b','c']}");
    world_fini(&w);
}

static void
hashes_without_an_algorithm_are_of_their_time(void **state)
{
    static const struct {
        const char *version, *algorithm;
    } rows[] = {
        {"'rabbit_version': '3.5.8', ", "'rabbit_password_hashing_md5'"},
        {"'rabbit_version': '2.8.1', ", "'rabbit_password_hashing_md5'"},
        {"'rabbitmq_version': '3.6.0', ", "'rabbit_password_hashing_sha256'"},
        {"'rabbit_version': '4.1.2', ", "'rabbit_password_hashing_sha256'"},
        {"", "'rabbit_password_hashing_sha256'"},
    };
    char text[256];
    struct world w;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        world_init(&w);
        snprintf(text, sizeof(text),
                 "{%s'users': [{'name': 'u', 'password_hash': 'hJg8YBS12CmaI+GgPABo8vj/9w4=', "
                 "'tags': ''}]}",
                 rows[i].version);
        import(&w, text, "");
        assert_string_equal(exported(&w, "users", "hashing_algorithm"), rows[i].algorithm);
        world_fini(&w);
    }
}

static void
users_are_known_to_the_next_life(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    import(&w, "{'users': [{'name': 'u', 'password_hash': '', 'tags': ''}]}", "");
    world_restart(&w);
    import(&w,
           "{'permissions': [{'user': 'u', 'vhost': '/', 'configure': '', 'write': '', 'read': "
           "''}]}",
           "");
    world_fini(&w);
}

static void
definitions_of_policies_may_be_lists_of_pairs(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    import(&w,
           "{'parameters': [{'vhost': '/', 'component': 'operator_policy', 'name': 'p', 'value': "
           "{'pattern': '^a', 'definition': [['max-length', 5]]}}]}",
           "");
    assert_string_equal(
        exported(&w, "parameters", "value"),
        "{'apply-to': 'all','definition': {'max-length': 5},'pattern': '^a','priority': 0}");
    import(
        &w,
        "{'policies': [{'vhost': '/', 'name': 'p', 'pattern': '', 'definition': [['a', 1], ['a', "
        "2]]}]}",
        "error policies[0].definition: expected an object, found a list of 2\n");
    world_fini(&w);
}

/* --- names that a server gave, and many --------------------------------------------------------
 */

static void
queues_that_a_server_named_come_back(void **state)
{
    struct queue_spec spec = {.durable = true};
    struct queue_found found;
    struct world w, other;
    struct view all;

    (void)state;
    world_init(&w);
    assert_int_equal(topology_declare_queue(topology_find_vhost(w.topology, VIEW_LIT("/")), &spec,
                                            0, 0, &found, &w.err),
                     QUEUE_CREATED);
    assert_true(metadata_commit(w.metadata, &w.err));
    all = world_export(&w);
    world_init(&other);
    assert_true(world_import(&other, all));
    assert_true(view_equal(world_export(&other), all));
    world_fini(&other);
    world_fini(&w);
}

static void
an_import_may_need_more_ids_than_are_asked_for_at_once(void **state)
{
    enum { N = 270000 };
    struct topology_counts counts;
    struct world w;
    struct buf text;

    (void)state;
    world_init(&w);
    buf_init(&text, 1 << 28);
    buf_append(&text, "{\"queues\":[", 11);
    for (int i = 0; i < N; i++) {
        char queue[64];
        int n = snprintf(queue, sizeof(queue), "%s{\"name\":\"q%d\"}", i > 0 ? "," : "", i);

        buf_append(&text, queue, (size_t)n);
    }
    buf_append(&text, "]}", 2);
    assert_true(world_import(&w, buf_view(&text)));
    topology_count(w.topology, &counts);
    assert_int_equal(counts.queues, N);
    buf_fini(&text);
    world_fini(&w);
}

/* --- order ------------------------------------------------------------------------------------ */

static void
an_export_does_not_depend_on_the_order_of_making(void **state)
{
    static const char forth[] =
        "{'vhosts': [{'name': 'a'}, {'name': 'b'}], 'queues': [{'name': 'p'}, {'name': 'q'}, "
        "{'name': 'q', 'vhost': 'a'}], 'bindings': [{'source': 'amq.direct', 'destination': 'p', "
        "'destination_type': 'queue', 'routing_key': 'k', 'arguments': {'x': 1, 'y': 2}}, "
        "{'source': 'amq.direct', 'destination': 'p', 'destination_type': 'queue', 'routing_key': "
        "'k', 'arguments': {'x': 1}}]}";
    static const char back[] =
        "{'bindings': [{'arguments': {'x': 1}, 'source': 'amq.direct', 'destination': 'p', "
        "'destination_type': 'queue', 'routing_key': 'k'}, {'source': 'amq.direct', 'destination': "
        "'p', 'destination_type': 'queue', 'routing_key': 'k', 'arguments': {'y': 2, 'x': 1}}], "
        "'queues': [{'name': 'q', 'vhost': 'a'}, {'name': 'q'}, {'name': 'p'}], 'vhosts': "
        "[{'name': 'b'}, {'name': 'a'}]}";
    struct world w, other;

    (void)state;
    world_init(&w);
    world_init(&other);
    import(&w, forth, "");
    import(&other, back, "");
    assert_true(view_equal(world_export(&w), world_export(&other)));
    import(&w, back, "");
    assert_true(view_equal(world_export(&w), world_export(&other)));
    world_fini(&other);
    world_fini(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_come_in_as_long_double_longstr_array_table_bool_and_void),
        cmocka_unit_test(every_type_of_argument_goes_out_as_json),
        cmocka_unit_test(what_json_cannot_tell_is_left_out_with_what_hangs_on_it),
        cmocka_unit_test(values_are_cut_between_characters_and_paths_at_an_ellipsis),
        cmocka_unit_test(a_bad_member_leaves_out_its_object_alone),
        cmocka_unit_test(members_without_a_column_go_out_where_they_came_in),
        cmocka_unit_test(what_metadata_says_goes_before_what_stands_beside_it),
        cmocka_unit_test(hashes_without_an_algorithm_are_of_their_time),
        cmocka_unit_test(users_are_known_to_the_next_life),
        cmocka_unit_test(definitions_of_policies_may_be_lists_of_pairs),
        cmocka_unit_test(queues_that_a_server_named_come_back),
        cmocka_unit_test(an_import_may_need_more_ids_than_are_asked_for_at_once),
        cmocka_unit_test(an_export_does_not_depend_on_the_order_of_making),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
