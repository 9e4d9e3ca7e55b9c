#include "unit.h"

#include "sample.h"

static struct random rng = {42};

/* One field named "k" of the type, its value these octets. */
static struct view
one_field(struct buf *to, uint8_t letter, const void *octets, size_t n)
{
    buf_clear(to);
    buf_u8(to, 1);
    buf_u8(to, 'k');
    buf_u8(to, letter);
    buf_append(to, octets, n);
    return buf_view(to);
}

static void
every_type_is_read(void **state)
{
    static const struct {
        uint8_t letter;
        const char *octets;
        size_t size;
        int64_t integer;
        bool is_integer;
        const char *name;
    } cases[] = {
        {'t', "\0", 1, 0, false, "bool"},
        {'t', "\1", 1, 1, false, "bool"},
        {'t', "\377", 1, 1, false, "bool"}, /* any octet but zero is true */
        {'b', "\200", 1, -128, true, "byte"},
        {'B', "\377", 1, 255, true, "unsignedbyte"},
        {'s', "\200\0", 2, -32768, true, "short"},
        {'u', "\377\377", 2, 65535, true, "unsignedshort"},
        {'I', "\200\0\0\0", 4, INT32_MIN, true, "signedint"},
        {'I', "\377\377\377\377", 4, -1, true, "signedint"},
        {'i', "\377\377\377\377", 4, UINT32_MAX, true, "unsignedint"},
        {'l', "\200\0\0\0\0\0\0\0", 8, INT64_MIN, true, "long"},
        {'L', "\177\377\377\377\377\377\377\377", 8, INT64_MAX, true, "long"},
        {'f', "\77\200\0\0", 4, 0, false, "float"},
        {'d', "\77\360\0\0\0\0\0\0", 8, 0, false, "double"},
        {'D', "\2\0\0\0\7", 5, 0, false, "decimal"},
        {'T', "\377\377\377\377\377\377\377\377", 8, -1, false, "timestamp"},
        {'V', "", 0, 0, false, "void"},
    };
    struct field field;
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct view table = one_field(&b, cases[i].letter, cases[i].octets, cases[i].size);

        assert_true(table_check(table));
        assert_true(table_find(table, VIEW_LIT("k"), &field));
        assert_int_equal(field.type, cases[i].letter);
        assert_true(view_equal(field.bytes, view_of(cases[i].octets, cases[i].size)));
        assert_true(field.integer == cases[i].integer);
        assert_int_equal(field_is_integer(&field), cases[i].is_integer);
        assert_string_equal(field_type_name(field.type), cases[i].name);
    }
    buf_fini(&b);
}

static void
strings_arrays_and_tables_are_their_contents(void **state)
{
    static const uint8_t letters[] = {'S', 'x', 'A', 'F'};
    struct field field;
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (size_t i = 0; i < COUNT_OF(letters); i++) {
        struct view table = one_field(&b, letters[i], "\0\0\0\0", 4);

        assert_true(table_check(table));
        assert_true(table_find(table, VIEW_LIT("k"), &field));
        assert_int_equal(field.bytes.len, 0);
    }
    assert_true(table_find(one_field(&b, 'S', "\0\0\0\3abc", 7), VIEW_LIT("k"), &field));
    assert_true(view_equal(field.bytes, VIEW_LIT("abc")));
    assert_string_equal(field_type_name(FIELD_LONGSTR), "longstr");
    assert_string_equal(field_type_name(FIELD_BYTES), "binary");
    assert_string_equal(field_type_name(FIELD_ARRAY), "array");
    assert_string_equal(field_type_name(FIELD_TABLE), "table");
    buf_fini(&b);
}

static void
unknown_letters_are_refused_at_any_depth(void **state)
{
    uint8_t octets[] = {0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}; /* an array of one value */
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned letter = 0; letter <= UINT8_MAX; letter++) {
        bool is_known = letter != 0 && strchr("tbBsuIilLfdDSATFVx", (int)letter) != NULL;
        size_t size = is_known ? sample_type_size((uint8_t)letter) : 0;

        if (is_known && size == 0 && letter != 'V')
            size = 4; /* an empty one */
        assert_int_equal(table_check(one_field(&b, (uint8_t)letter, octets + 4, size)), is_known);
        octets[3] = (uint8_t)(size + 1);
        octets[4] = (uint8_t)letter;
        assert_int_equal(table_check(one_field(&b, 'A', octets, size + 5)), is_known);
        octets[4] = 0;
    }
    buf_fini(&b);
}

/* A prefix of a table is a table only when it ends between two fields. */
static void
every_truncation_within_a_field_is_refused(void **state)
{
    struct field field;
    struct view name, whole;
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned round = 0; round < 30; round++) {
        size_t border = 0;

        buf_clear(&b);
        if (round == 0)
            sample_every_type(&b, &rng, true, 2);
        else
            sample_fields(&b, &rng, true, SAMPLE_DEPTH);
        whole = buf_view(&b);
        assert_true(table_check(whole));
        for (size_t n = 0; n <= whole.len; n++) {
            struct view cut = sample_copy(view_of(whole.at, n));

            assert_int_equal(table_check(cut), n == border);
            if (n == border)
                table_next(whole, &border, &name, &field);
            sample_free(cut);
        }
    }
    buf_fini(&b);
}

/* Each octet changed to each value: whatever passes the check can be walked to its end. */
static void
walk_all(struct view contents, bool is_table)
{
    struct field field;
    struct view name;
    size_t at = 0;

    while (is_table ? table_next(contents, &at, &name, &field) : array_next(contents, &at, &field))
        if (field.type == FIELD_TABLE || field.type == FIELD_ARRAY)
            walk_all(field.bytes, field.type == FIELD_TABLE);
    assert_int_equal(at, contents.len);
}

static void
whatever_passes_can_be_walked(void **state)
{
    struct view copy;
    struct buf b;
    unsigned passed = 0;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    sample_every_type(&b, &rng, true, 1);
    copy = sample_copy(buf_view(&b));
    for (size_t i = 0; i < copy.len; i++) {
        uint8_t *octet = (uint8_t *)(uintptr_t)(copy.at + i);

        for (unsigned v = 0; v <= UINT8_MAX; v++) {
            *octet = (uint8_t)v;
            if (!table_check(copy))
                continue;
            passed++;
            walk_all(copy, true);
        }
        *octet = b.at[i];
    }
    assert_true(passed > copy.len);
    sample_free(copy);
    buf_fini(&b);
}

/* n containers within each other, tables where the letter says so. */
static struct view
nest(struct buf *to, uint8_t letter, unsigned n)
{
    size_t each = letter == 'F' ? 6 : 5; /* name, letter, length */

    buf_clear(to);
    for (unsigned i = 0; i < n; i++) {
        if (letter == 'F' || i == 0)
            buf_u8(to, 0);
        buf_u8(to, letter);
        buf_u32(to, (uint32_t)((n - 1 - i) * each));
    }
    return buf_view(to);
}

static void
depth_has_a_limit(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t letter = i == 0 ? 'F' : 'A';

        assert_true(table_check(nest(&b, letter, TABLE_DEPTH_MAX - 1))); /* itself is the first */
        assert_false(table_check(nest(&b, letter, TABLE_DEPTH_MAX)));
        assert_false(table_check(nest(&b, letter, 150000)));
        assert_false(b.bad);
    }
    buf_fini(&b);
}

static void
lying_lengths_are_refused(void **state)
{
    static const struct {
        const char *octets;
        size_t size;
    } cases[] = {
        {"\1", 1},                         /* no name */
        {"\377k", 2},                      /* name past the end */
        {"\1k", 2},                        /* no letter */
        {"\1kS\0\0\0\1", 7},               /* one octet that is not there */
        {"\1kS\377\377\377\377xx", 9},     /* almost 2^32 */
        {"\1kx\200\0\0\0xx", 9},           /* 2^31 */
        {"\1kF\0\0\0\4\1aI\0", 11},        /* inner value past the inner end */
        {"\1kF\0\0\0\4\1aI\0\0\0\0", 14},  /* the same, with octets behind */
        {"\1kA\0\0\0\2I\0\0\0\0", 12},     /* likewise in an array */
        {"\1kA\0\0\0\6S\0\0\0\2x", 13},    /* string past its array */
        {"\1kF\0\0\0\7\1aA\0\0\0\1t", 15}, /* array past its table */
        {"\1kA\0\0\0\5F\0\0\0\1", 12},     /* table past its array */
        {"\1kF\377\377\377\377", 7},       /* all there is, and more */
        {"\1kV\0\1", 5},                   /* void, then half a field */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct view v = sample_copy(view_of(cases[i].octets, cases[i].size));

        if (table_check(v))
            fail_msg("case %zu passed", i);
        sample_free(v);
    }
    assert_true(table_check(view_of(NULL, 0)));
}

static void
first_of_equal_names_is_found(void **state)
{
    struct view table = VIEW_LIT("\1aB\1\1bB\2\1aB\3\0B\4");
    struct field field;

    (void)state;
    assert_true(table_check(table));
    assert_true(table_find(table, VIEW_LIT("a"), &field));
    assert_int_equal(field.integer, 1);
    assert_true(table_find(table, VIEW_LIT("b"), &field));
    assert_int_equal(field.integer, 2);
    assert_true(table_find(table, VIEW_LIT(""), &field));
    assert_int_equal(field.integer, 4);
    field.integer = 77;
    assert_false(table_find(table, VIEW_LIT("c"), &field));
    assert_false(table_find(table, VIEW_LIT("aa"), &field));
    assert_int_equal(field.integer, 77);
}

static void
copied_field_by_field_it_is_the_same(void **state)
{
    struct buf b, copy;
    struct field field;
    struct view name;
    size_t at;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    buf_init(&copy, SAMPLE_MAX);
    for (unsigned round = 0; round < 1000; round++) {
        buf_clear(&b);
        buf_clear(&copy);
        sample_fields(&b, &rng, true, SAMPLE_DEPTH);
        at = 0;
        while (table_next(buf_view(&b), &at, &name, &field))
            table_put_field(&copy, name, &field);
        assert_true(view_equal(buf_view(&b), buf_view(&copy)));
    }
    buf_fini(&b);
    buf_fini(&copy);
}

static void
written_pieces_are_these_octets(void **state)
{
    static const char octets[] = "\1tt\1\1II\377\377\377\376\1ll\0\0\0\0\0\0\0\5"
                                 "\1TT\0\0\0\1\0\0\0\0\1SS\0\0\0\2hi"
                                 "\1FF\0\0\0\4\1xt\0"
                                 "\1AA\0\0\0\21S\0\0\0\1aF\0\0\0\4\1yt\1B\7";
    const struct field seven = {.type = FIELD_U8, .bytes = VIEW_LIT("\7")};
    struct buf b;
    size_t outer, inner;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    table_put_bool(&b, VIEW_LIT("t"), true);
    table_put_i32(&b, VIEW_LIT("I"), -2);
    table_put_i64(&b, VIEW_LIT("l"), 5);
    table_put_timestamp(&b, VIEW_LIT("T"), UINT64_C(1) << 32);
    table_put_longstr(&b, VIEW_LIT("S"), VIEW_LIT("hi"));
    outer = table_begin_table(&b, VIEW_LIT("F"));
    table_put_bool(&b, VIEW_LIT("x"), false);
    table_end(&b, outer);
    outer = table_begin_array(&b, VIEW_LIT("A"));
    array_put_longstr(&b, VIEW_LIT("a"));
    inner = array_begin_table(&b);
    table_put_bool(&b, VIEW_LIT("y"), true);
    table_end(&b, inner);
    array_put_field(&b, &seven);
    table_end(&b, outer);
    assert_int_equal(b.len, sizeof(octets) - 1);
    assert_memory_equal(b.at, octets, b.len);
    assert_true(table_check(buf_view(&b)));
    buf_fini(&b);
}

static void
long_name_is_cut(void **state)
{
    uint8_t name[300];
    struct buf b;

    (void)state;
    memset(name, 'n', sizeof(name));
    buf_init(&b, SAMPLE_MAX);
    table_put_bool(&b, view_of(name, sizeof(name)), true);
    assert_int_equal(b.len, 1 + 255 + 2);
    assert_true(table_check(buf_view(&b)));
    buf_fini(&b);
}

/* Writing goes on blindly after a buffer went bad, at whatever piece that was. */
static void
full_buffer_is_told_at_the_end(void **state)
{
    struct buf b;
    size_t outer, inner;

    (void)state;
    for (size_t max = 0; max < 64; max++) {
        buf_init(&b, max);
        outer = table_begin_array(&b, VIEW_LIT("deaths"));
        inner = array_begin_table(&b);
        table_put_longstr(&b, VIEW_LIT("queue"), VIEW_LIT("some name"));
        table_put_i64(&b, VIEW_LIT("count"), 1);
        table_end(&b, inner);
        table_end(&b, outer);
        assert_int_equal(b.bad, max < 52);
        assert_true(b.len <= max);
        if (!b.bad)
            assert_true(table_check(buf_view(&b)));
        buf_fini(&b);
    }
}

static void
copy_without_leaves_out_all_of_that_name(void **state)
{
    struct view table = VIEW_LIT("\1aB\1\1bB\2\1aB\3\1cS\0\0\0\0\1dV");
    const struct view names[] = {VIEW_LIT("a"), VIEW_LIT("d"), VIEW_LIT("z")};
    struct buf b;

    (void)state;
    buf_init(&b, SAMPLE_MAX);
    table_copy_without(&b, table, names, COUNT_OF(names));
    assert_true(view_equal(buf_view(&b), VIEW_LIT("\1bB\2\1cS\0\0\0\0")));
    buf_clear(&b);
    table_copy_without(&b, table, names, 0);
    assert_true(view_equal(buf_view(&b), table));
    buf_clear(&b);
    table_copy_without(&b, view_of(NULL, 0), names, 1);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static struct field
field_of(struct buf *room, uint8_t letter, const char *octets, size_t n)
{
    struct field field;

    assert_true(table_find(one_field(room, letter, octets, n), VIEW_LIT("k"), &field));
    return field;
}

static void
equality_is_rabbitmqs(void **state)
{
    static const struct {
        uint8_t a;
        const char *a_octets;
        size_t a_size;
        uint8_t b;
        const char *b_octets;
        size_t b_size;
        bool is_equal;
    } cases[] = {
        {'I', "\0\0\0\5", 4, 'l', "\0\0\0\0\0\0\0\5", 8, true},
        {'b', "\5", 1, 'L', "\0\0\0\0\0\0\0\5", 8, true},
        {'B', "\5", 1, 'u', "\0\5", 2, true},
        {'s', "\377\377", 2, 'b', "\377", 1, true},
        {'s', "\377\377", 2, 'u', "\377\377", 2, false},
        {'i', "\0\0\0\5", 4, 'I', "\0\0\0\6", 4, false},
        {'I', "\0\0\0\5", 4, 'S', "\0\0\0\0015", 5, false},
        {'I', "\0\0\0\1", 4, 't', "\1", 1, false},
        {'T', "\0\0\0\0\0\0\0\5", 8, 'l', "\0\0\0\0\0\0\0\5", 8, false},
        {'t', "\1", 1, 't', "\2", 1, true},
        {'t', "\0", 1, 't', "\1", 1, false},
        {'f', "\77\200\0\0", 4, 'd', "\77\360\0\0\0\0\0\0", 8, true},           /* 1.0 */
        {'d', "\0\0\0\0\0\0\0\0", 8, 'd', "\200\0\0\0\0\0\0\0", 8, true},       /* 0.0, -0.0 */
        {'d', "\177\370\0\0\0\0\0\0", 8, 'd', "\177\370\0\0\0\0\0\0", 8, true}, /* not a number */
        {'f', "\77\200\0\0", 4, 'I', "\0\0\0\1", 4, false},
        {'D', "\1\0\0\0\5", 5, 'D', "\1\0\0\0\5", 5, true},
        {'D', "\1\0\0\0\5", 5, 'D', "\2\0\0\0\5", 5, false},
        {'S', "\0\0\0\2ab", 6, 'S', "\0\0\0\2ab", 6, true},
        {'S', "\0\0\0\2ab", 6, 'x', "\0\0\0\2ab", 6, false},
        {'S', "\0\0\0\2ab", 6, 'S', "\0\0\0\1a", 5, false},
        {'V', "", 0, 'V', "", 0, true},
        {'V', "", 0, 'S', "\0\0\0\0", 4, false},
        {'A', "\0\0\0\2B\1", 6, 'A', "\0\0\0\2B\1", 6, true},
        {'A', "\0\0\0\2B\1", 6, 'A', "\0\0\0\2b\1", 6, false},
    };
    struct buf left, right;

    (void)state;
    buf_init(&left, SAMPLE_MAX);
    buf_init(&right, SAMPLE_MAX);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct field a = field_of(&left, cases[i].a, cases[i].a_octets, cases[i].a_size);
        struct field b = field_of(&right, cases[i].b, cases[i].b_octets, cases[i].b_size);

        if (field_equal(&a, &b) != cases[i].is_equal || field_equal(&b, &a) != cases[i].is_equal)
            fail_msg("case %zu", i);
        assert_true(field_equal(&a, &a));
    }
    buf_fini(&left);
    buf_fini(&right);
}

#define OCTETS(text)                                                                               \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

static void
tables_are_alike_when_json_tells_them_so(void **state)
{
    static const struct {
        struct view a, b;
        bool is_alike;
    } cases[] = {
        {OCTETS(""), OCTETS(""), true},
        {OCTETS("\1aB\5"), OCTETS("\1al\0\0\0\0\0\0\0\5"), true},
        {OCTETS("\1aT\0\0\0\0\0\0\0\5"), OCTETS("\1aB\5"), true},
        {OCTETS("\1aB\5"), OCTETS("\1aB\6"), false},
        {OCTETS("\1aB\5"), OCTETS("\1bB\5"), false},
        {OCTETS("\1aB\5"), OCTETS(""), false},
        {OCTETS("\1aB\1"), OCTETS("\1at\1"), false},
        {OCTETS("\1aB\5\1bV"), OCTETS("\1bV\1ab\5"), true},
        {OCTETS("\1aB\5\1bV"), OCTETS("\1ab\5"), false},
        {OCTETS("\1af\77\200\0\0"), OCTETS("\1ad\77\360\0\0\0\0\0\0"), true},
        {OCTETS("\1af\77\200\0\0"), OCTETS("\1aB\1"), false},
        {OCTETS("\1aS\0\0\0\2xy"), OCTETS("\1ax\0\0\0\2xy"), true},
        {OCTETS("\1aS\0\0\0\2xy"), OCTETS("\1ax\0\0\0\1x"), false},
        {OCTETS("\1aA\0\0\0\4B\1B\2"), OCTETS("\1aA\0\0\0\5B\1s\0\2"), true},
        {OCTETS("\1aA\0\0\0\4B\1B\2"), OCTETS("\1aA\0\0\0\4B\2B\1"), false},
        {OCTETS("\1aA\0\0\0\4B\1B\2"), OCTETS("\1aA\0\0\0\2B\1"), false},
        {OCTETS("\1aF\0\0\0\4\1xB\1"), OCTETS("\1aF\0\0\0\5\1xs\0\1"), true},
        {OCTETS("\1aF\0\0\0\4\1xB\1"), OCTETS("\1aF\0\0\0\0"), false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_true(table_check(cases[i].a) && table_check(cases[i].b));
        if (table_alike(cases[i].a, cases[i].b) != cases[i].is_alike ||
            table_alike(cases[i].b, cases[i].a) != cases[i].is_alike)
            fail_msg("case %zu", i);
        assert_true(table_alike(cases[i].a, cases[i].a));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(strings_arrays_and_tables_are_their_contents),
        cmocka_unit_test(unknown_letters_are_refused_at_any_depth),
        cmocka_unit_test(every_truncation_within_a_field_is_refused),
        cmocka_unit_test(whatever_passes_can_be_walked),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(lying_lengths_are_refused),
        cmocka_unit_test(first_of_equal_names_is_found),
        cmocka_unit_test(copied_field_by_field_it_is_the_same),
        cmocka_unit_test(written_pieces_are_these_octets),
        cmocka_unit_test(long_name_is_cut),
        cmocka_unit_test(full_buffer_is_told_at_the_end),
        cmocka_unit_test(copy_without_leaves_out_all_of_that_name),
        cmocka_unit_test(equality_is_rabbitmqs),
        cmocka_unit_test(tables_are_alike_when_json_tells_them_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
