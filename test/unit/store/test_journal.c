#include "journal_life.h"

enum { SEGMENT = 4096 };

/* --- group commit ---------------------------------------------------------------------- */

static void
a_frame_is_safe_after_its_sync(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    assert_int_equal(journal_lsn(l.journal), 1);
    assert_int_equal(journal_safe(l.journal), 0);
    life_append(&l, 10);
    life_append(&l, 20);
    assert_int_equal(journal_lsn(l.journal), 1);
    assert_int_equal(journal_unsafe_bytes(l.journal), FRAME_HEAD_LEN + 18 + 28);
    life_flush(&l);
    assert_int_equal(journal_lsn(l.journal), 2);
    assert_int_equal(l.safe, 0);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 0);
    life_run_disk(&l);
    assert_int_equal(l.safe, 1);
    assert_int_equal(journal_safe(l.journal), 1);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 1);
    life_flush(&l); /* nothing to do */
    assert_int_equal(disk_pending(l.disk), 0);
    life_end(&l, true);
    life_check(&l);
    assert_int_equal(l.told, 1);
    life_fini(&l);
}

static void
what_comes_while_a_batch_is_written_is_one_frame(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    life_append(&l, 10);
    life_flush(&l);
    for (int i = 0; i < 5; i++) {
        life_append(&l, 10);
        life_flush(&l); /* the disk is busy */
    }
    assert_int_equal(disk_pending(l.disk), 1);
    life_run_disk(&l);
    assert_int_equal(l.safe, 1);
    life_flush(&l);
    life_run_disk(&l);
    assert_int_equal(l.safe, 2);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 2);
    life_end(&l, true);
    life_check(&l);
    assert_int_equal(l.told, 2);
    life_fini(&l);
}

static void
modes_differ_in_when_they_sync(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    l.settings.sync = JOURNAL_INTERVAL;
    assert_true(life_begin(&l));
    life_append(&l, 10);
    life_make_safe(&l);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 0);
    journal_sync_due(l.journal);
    life_run_disk(&l);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 1);
    journal_sync_due(l.journal); /* nothing new */
    life_run_disk(&l);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 1);
    life_append(&l, 10);
    life_flush(&l);
    journal_sync_due(l.journal); /* a batch is under way all the time when there is load */
    life_run_disk(&l);
    life_append(&l, 10);
    life_flush(&l);
    journal_sync_due(l.journal);
    assert_int_equal(disk_pending(l.disk), 2);
    life_run_disk(&l);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 2);
    journal_set_sync(l.journal, l.settings.sync = JOURNAL_NEVER, 0);
    life_append(&l, 10);
    life_make_safe(&l);
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 2);
    journal_set_sync(l.journal, l.settings.sync = JOURNAL_ALWAYS, 0);
    life_append(&l, 10);
    life_make_safe(&l); /* and what was written before */
    assert_int_equal(sim_disk_calls_of(l.sim, SIM_SYNC), 3);
    life_end(&l, true);
    life_check(&l);
    assert_int_equal(l.told, 5);
    life_fini(&l);
}

static void
large_buffers_are_given_back(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    life_append(&l, 9 << 20);
    life_make_safe(&l);
    life_append(&l, 10);
    life_make_safe(&l);
    assert_true(journal_open_frame(l.journal)->size < 5 << 20);
    life_append(&l, 10);
    assert_true(journal_open_frame(l.journal)->size < 5 << 20);
    life_make_safe(&l);
    life_end(&l, false);
    life_check(&l);
    assert_int_equal(l.told, 3);
    life_fini(&l);
}

/* --- segments -------------------------------------------------------------------------- */

static void
count_files(void *arg, const char *path)
{
    (void)path;
    ++*(unsigned *)arg;
}

static unsigned
files(const struct life *l)
{
    unsigned n = 0;

    sim_disk_each(l->sim, "data/journal", count_files, &n);
    return n;
}

static void
an_idle_journal_takes_two_segments_at_most(void **state)
{
    struct life l;

    (void)state;
    for (int prepares = 0; prepares < 2; prepares++) {
        life_init(&l, 1, SEGMENT);
        l.settings.prepares = prepares;
        assert_true(life_begin(&l));
        life_run_disk(&l);
        life_append(&l, 100);
        life_make_safe(&l);
        assert_in_range(files(&l), 1, 2);
        for (int i = 0; i < 1000; i++) { /* hardly anything lives at a time */
            life_append(&l, 100);
            life_make_safe(&l);
            life_keep_from(&l, l.safe);
        }
        assert_in_range(files(&l), 2, 4);
        assert_true(sim_disk_used(l.sim) <= 4 * SEGMENT);
        life_end(&l, true);
        life_check(&l);
        life_fini(&l);
    }
}

static void
a_segment_that_is_needed_is_not_written_to(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    for (int i = 0; i < 200; i++) {
        life_append(&l, 200);
        life_make_safe(&l);
        if (i == 100)
            life_keep_from(&l, 50);
    }
    life_end(&l, true);
    life_check(&l);
    assert_in_range(l.told_first[1], 1, 50);
    assert_int_equal(l.told_last[1], 200);
    life_fini(&l);
}

static void
the_crowded_journal_says_what_is_in_its_way(void **state)
{
    struct life l;
    uint64_t crowded;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    while (l.crowded == 0) {
        assert_false(journal_is_full(l.journal));
        life_append(&l, 500);
        life_make_safe(&l);
    }
    crowded = l.crowded;
    assert_in_range(sim_disk_used(l.sim), 5 * SEGMENT - 64, 6 * SEGMENT);
    l.crowded = 0;
    while (!journal_is_full(l.journal)) {
        life_append(&l, 500);
        life_make_safe(&l);
    }
    assert_int_equal(l.crowded, 0); /* told once */
    life_append(&l, 500);           /* appending works all the same */
    life_make_safe(&l);
    life_keep_from(&l, crowded);
    life_append(&l, 1); /* which tells it */
    life_make_safe(&l);
    assert_false(journal_is_full(l.journal));
    life_append(&l, 500);
    life_make_safe(&l);
    assert_true(l.crowded > crowded); /* there is more in the way */
    life_end(&l, true);
    life_check(&l);
    life_fini(&l);
}

static void
a_frame_larger_than_a_segment_has_its_own(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    assert_true(life_begin(&l));
    life_append(&l, 100);
    life_make_safe(&l);
    life_append(&l, 3 * SEGMENT);
    life_make_safe(&l);
    life_append(&l, 100);
    life_make_safe(&l);
    assert_true(sim_disk_used(l.sim) > 5 * SEGMENT);
    life_end(&l, true);
    life_check(&l);
    assert_int_equal(l.told, 3);
    assert_true(life_begin(&l));
    for (int i = 0; i < 10; i++) {
        life_append(&l, 2 * SEGMENT);
        life_make_safe(&l);
        life_keep_from(&l, l.safe);
    }
    for (int i = 0; i < 100; i++) {
        life_append(&l, 500);
        life_make_safe(&l);
        life_keep_from(&l, l.safe);
    }
    assert_true(sim_disk_used(l.sim) < 20 * SEGMENT); /* cut back */
    life_end(&l, true);
    life_check(&l);
    life_fini(&l);
}

/* --- trouble --------------------------------------------------------------------------- */

static void
nothing_is_safe_while_writing_fails(void **state)
{
    static const struct {
        unsigned call;
        int error;
        const char *why;
    } faults[] = {
        {SIM_WRITE, ENOSPC, "slot 0: write: No space left on device"},
        {SIM_WRITE, EIO, "slot 0: write: Input/output error"},
        {SIM_SYNC, EIO, "slot 0: fdatasync: Input/output error"},
        {SIM_OPEN, EMFILE, "slot 0: open: Too many open files"},
        {SIM_ALLOCATE, ENOSPC, "slot 0: allocate: No space left on device"},
        {SIM_SYNC_DIR, EIO, "slot 0: open: Input/output error"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        struct life l;

        life_init(&l, i, SEGMENT);
        assert_true(life_begin(&l));
        sim_disk_fail(l.sim, faults[i].call, 1, 20, faults[i].error);
        life_append(&l, 100);
        for (int tries = 0; tries < 20; tries++) {
            life_flush(&l);
            life_run_disk(&l);
            assert_int_equal(l.safe, 0);
            assert_true(journal_is_in_trouble(l.journal));
            life_append(&l, 10); /* waits, and is not lost */
        }
        assert_int_equal(l.troubles, 1);
        assert_non_null(strstr(l.why, faults[i].why));
        life_make_safe(&l);
        assert_false(l.is_in_trouble);
        assert_false(journal_is_in_trouble(l.journal));
        assert_int_equal(l.safe, 2);
        assert_true(files(&l) <= 6); /* not a slot for every trial */
        life_end(&l, true);
        life_check(&l);
        assert_int_equal(l.told, 2);
        life_fini(&l);
    }
}

static void
what_a_failed_sync_was_to_secure_is_written_elsewhere(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct life l;

        life_init(&l, seed, SEGMENT);
        assert_true(life_begin(&l));
        life_append(&l, 700);
        life_make_safe(&l);
        sim_disk_fail(l.sim, SIM_SYNC, 1, 1, EIO);
        life_append(&l, 700);
        life_make_safe(&l);
        assert_int_equal(l.troubles, 1);
        assert_int_equal(files(&l), 2);
        life_append(&l, 700);
        life_make_safe(&l);
        life_end(&l, true);
        life_check(&l);
        assert_int_equal(l.told, 3);
        life_fini(&l);
    }
}

static void
a_late_sync_that_fails_is_told_and_what_it_was_for_stands_in_the_way(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    l.settings.sync = JOURNAL_INTERVAL;
    assert_true(life_begin(&l));
    for (int i = 0; i < 3; i++) {
        life_append(&l, 100);
        life_make_safe(&l);
    }
    sim_disk_fail(l.sim, SIM_SYNC, 1, 1, EIO);
    journal_sync_due(l.journal);
    life_run_disk(&l);
    assert_int_equal(l.troubles, 1);
    assert_true(journal_is_in_trouble(l.journal));
    assert_int_equal(l.crowded, 4);
    life_append(&l, 100); /* the owner writes what it had there once more */
    life_make_safe(&l);
    life_keep_from(&l, 4);
    assert_true(journal_is_in_trouble(l.journal)); /* writing it is not enough */
    journal_sync_due(l.journal);
    life_run_disk(&l);
    assert_false(journal_is_in_trouble(l.journal));
    life_model(&l)->promised = 4;
    life_append(&l, 100);
    life_make_safe(&l);
    journal_sync_due(l.journal);
    life_run_disk(&l);
    life_end(&l, true);
    life_check(&l);
    life_fini(&l);
}

static void
a_folder_that_cannot_be_made_is_an_error(void **state)
{
    struct life l;

    (void)state;
    life_init(&l, 1, SEGMENT);
    sim_disk_fail(l.sim, SIM_MAKE_DIR, 1, 1, EROFS);
    assert_false(life_begin(&l));
    disk_free(l.disk);
    l.found = (struct journal_found){0};
    l.term--;
    assert_true(life_begin(&l));
    life_fini(&l);
}

/* --- lives ----------------------------------------------------------------------------- */

/* What a process does until its power is cut or its work is done; the same in each run. */
static void
work(struct life *l, struct random *random, unsigned steps)
{
    for (unsigned i = 0; i < steps && !sim_disk_is_cut(l->sim); i++) {
        for (size_t n = random_below(random, 4); n > 0; n--)
            life_append(l, random_below(random, 16) == 0 ? 6000 : random_below(random, 300));
        if (random_below(random, 4) > 0)
            life_flush(l);
        if (random_below(random, 4) > 0)
            disk_step(l->disk);
        if (random_below(random, 8) == 0)
            life_keep_from(l, journal_low(l->journal) +
                                  random_below(random, (size_t)(journal_lsn(l->journal) -
                                                                journal_low(l->journal) + 1)));
        if (l->crowded > journal_low(l->journal)) {
            life_keep_from(l, l->crowded);
            l->crowded = 0;
        }
    }
}

/* Lives of the same work, with the power cut before each call in turn. */
static void
power_may_be_cut_before_any_call(void **state)
{
    (void)state;
    for (int prepares = 0; prepares < 2; prepares++) {
        for (uint64_t at = 1, seed = 0; at > 0; seed++) {
            struct random random = {7};
            struct life l;

            life_init(&l, seed, 2048);
            l.settings.prepares = prepares;
            sim_disk_cut(l.sim, at);
            if (life_begin(&l))
                work(&l, &random, 120);
            else
                disk_free(l.disk);
            at = sim_disk_is_cut(l.sim) ? at + (seed % 3 == 2) : 0; /* each three times */
            if (l.journal != NULL)
                life_end(&l, true);
            else
                sim_disk_crash(l.sim);
            life_check(&l);
            assert_true(life_begin(&l)); /* and goes on */
            work(&l, &random, 10);
            life_make_safe(&l);
            life_end(&l, true);
            life_check(&l);
            life_fini(&l);
        }
    }
}

static void
any_call_may_fail(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EMFILE};

    (void)state;
    for (uint64_t at = 1, calls = UINT64_MAX; at < calls; at++) {
        for (size_t e = 0; e < COUNT_OF(errors); e++) {
            struct random random = {7};
            struct life l;

            life_init(&l, at, 2048);
            l.settings.prepares = at % 2;
            assert_true(life_begin(&l));
            sim_disk_fail(l.sim, SIM_ANY, at, 1 + at % 3, errors[e]);
            work(&l, &random, 60);
            life_make_safe(&l);
            life_run_disk(&l);
            calls = sim_disk_calls(l.sim);
            life_end(&l, true);
            life_check(&l);
            life_fini(&l);
        }
    }
}

/* The former terms are dropped: before the call ends, all or nothing of them is there. */
static void
former_terms_go_at_once(void **state)
{
    (void)state;
    for (uint64_t at = 1, seed = 0; at > 0; seed++) {
        struct random random = {11};
        struct life l;
        struct err err;
        bool is_dropped;
        uint64_t told;

        life_init(&l, seed, 2048);
        for (int i = 0; i < 2; i++) {
            assert_true(life_begin(&l));
            for (int k = 0; k < 30; k++) {
                life_append(&l, random_below(&random, 300));
                life_make_safe(&l);
            }
            life_end(&l, true);
            life_check(&l);
        }
        assert_int_equal(l.told, 60);
        assert_true(life_begin(&l));
        life_append(&l, 100);
        life_make_safe(&l);
        sim_disk_cut(l.sim, at);
        is_dropped = journal_drop_former("data", &l.settings.files, l.term, &err);
        at = sim_disk_is_cut(l.sim) ? at + (seed % 5 == 4) : 0;
        life_end(&l, true);
        l.terms[1].promised = l.terms[2].promised = 0;
        life_check(&l);
        told = l.told;
        assert_true(told == 1 || (told == 61 && !is_dropped));
        assert_true(life_begin(&l));
        assert_true(journal_drop_former("data", &l.settings.files, l.term, &err));
        life_end(&l, true);
        l.terms[3].promised = 0;
        life_check(&l);
        assert_int_equal(l.told, 0);
        assert_in_range(files(&l), 0, 1); /* the name of what is no more, at most */
        life_fini(&l);
    }
}

static void
random_lives_against_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct random random = {seed};
        struct life l;
        bool survives_power = true;

        life_init(&l, seed, 1024u << random_below(&random, 4));
        for (int n = 0; n < 5; n++) {
            bool power;

            l.settings.prepares = random_below(&random, 2);
            l.settings.sync = random_below(&random, 4) == 0   ? JOURNAL_NEVER
                              : random_below(&random, 3) == 0 ? JOURNAL_INTERVAL
                                                              : JOURNAL_ALWAYS;
            power = l.settings.sync != JOURNAL_NEVER && survives_power && random_below(&random, 2);
            if (l.settings.sync != JOURNAL_ALWAYS && !power)
                survives_power = false; /* what a kill leaves of it, a later crash may take */
            assert_true(life_begin(&l));
            for (int k = 0; k < 6; k++) {
                if (l.settings.sync == JOURNAL_ALWAYS && random_below(&random, 3) == 0)
                    sim_disk_fail(l.sim, 1u << random_below(&random, 10),
                                  1 + random_below(&random, 10), 1 + random_below(&random, 8),
                                  random_below(&random, 2) ? EIO : ENOSPC);
                if (k == 5)
                    sim_disk_cut(l.sim, 1 + random_below(&random, 60));
                work(&l, &random, (unsigned)random_below(&random, 40));
                if (l.settings.sync == JOURNAL_INTERVAL && random_below(&random, 2)) {
                    uint64_t safe = l.safe;

                    journal_sync_due(l.journal);
                    life_run_disk(&l);
                    if (!sim_disk_is_cut(l.sim) && !l.is_in_trouble)
                        life_model(&l)->promised = safe;
                }
            }
            life_end(&l, power);
            life_check(&l);
        }
        life_fini(&l);
    }
}

/* --- damage ---------------------------------------------------------------------------- */

struct search {
    struct life *l;
    uint64_t lsn;
    char path[256];
    uint64_t at; /* of the frame */
};

static void
search_in(void *arg, const char *path)
{
    struct search *s = arg;
    uint64_t size;
    const uint8_t *octets = sim_disk_octets(s->l->sim, path, &size);
    struct frame_head head;

    for (uint64_t at = SEGMENT_HEAD_SIZE; at + FRAME_HEAD_LEN <= size; at += 8) {
        if (frame_head_decode(octets + at, &head) && head.lsn == s->lsn) {
            snprintf(s->path, sizeof(s->path), "%s", path);
            s->at = at;
        }
    }
}

static struct search
find_frame(struct life *l, uint64_t lsn)
{
    struct search s = {.l = l, .lsn = lsn};

    sim_disk_each(l->sim, "data/journal", search_in, &s);
    assert_true(s.at > 0);
    return s;
}

static void
write_thirty(struct life *l, uint64_t seed)
{
    life_init(l, seed, SEGMENT);
    assert_true(life_begin(l));
    for (int i = 0; i < 30; i++) {
        life_append(l, 400);
        life_make_safe(l);
    }
    life_end(l, true);
    life_check(l);
    assert_int_equal(l->told, 30);
}

static void
an_octet_that_rots_is_told_with_file_and_offset(void **state)
{
    (void)state;
    for (uint64_t lsn = 1; lsn < 30; lsn++) {
        struct life l;
        struct search s;
        struct err err;
        char want[600], copy[300];
        uint64_t size;
        const uint8_t *damaged, *kept;

        write_thirty(&l, lsn);
        s = find_frame(&l, lsn);
        sim_disk_rot(l.sim, s.path, s.at + lsn * 7, 0x40);
        l.has_gaps = true;
        assert_true(life_replay(&l, &err));
        assert_int_equal(l.told, 29);
        assert_int_equal(l.errors, 1);
        assert_int_equal(l.found.corrupt, 1);
        snprintf(want, sizeof(want),
                 "%s: damaged at octet %u: frames %u to %u are lost; the file is kept in "
                 "data/quarantine",
                 s.path, (unsigned)s.at, (unsigned)lsn, (unsigned)lsn);
        assert_string_equal(l.line, want);
        snprintf(copy, sizeof(copy), "data/quarantine/%s.%u", strrchr(s.path, '/') + 1,
                 (unsigned)l.found.generation);
        assert_true(life_replay(&l, &err)); /* the second pass */
        assert_int_equal(l.told, 29);
        sim_disk_crash(l.sim);
        assert_true(sim_disk_has(l.sim, "data/quarantine"));
        damaged = sim_disk_octets(l.sim, s.path, &size);
        snprintf(copy, sizeof(copy), "data/quarantine/%s.%u", strrchr(s.path, '/') + 1,
                 (unsigned)get_le64(damaged + 16));
        kept = sim_disk_octets(l.sim, copy, &size);
        assert_non_null(kept);
        assert_memory_equal(kept, damaged, size);
        assert_true(life_begin(&l)); /* and life goes on above what was found */
        assert_int_equal(journal_lsn(l.journal), 31);
        life_fini(&l);
    }
}

static void
a_quarantine_that_is_full_is_told(void **state)
{
    struct life l;
    struct search s;
    struct err err;

    (void)state;
    write_thirty(&l, 3);
    s = find_frame(&l, 5);
    sim_disk_rot(l.sim, s.path, s.at + 70, 1);
    l.has_gaps = true;
    sim_disk_set_room(l.sim, sim_disk_used(l.sim));
    assert_true(life_replay(&l, &err));
    assert_int_equal(l.told, 29);
    assert_non_null(strstr(l.line, "could not be kept in data/quarantine: No space left"));
    life_fini(&l);
}

static void
a_damaged_head_costs_no_frames(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 64; seed++) {
        struct life l;
        struct search s;
        struct err err;

        write_thirty(&l, seed);
        s = find_frame(&l, 1 + seed % 30);
        sim_disk_rot(l.sim, s.path, seed, 0x10); /* each octet of it */
        assert_true(life_replay(&l, &err));
        assert_int_equal(l.told, 30);
        assert_int_equal(l.errors, 1);
        assert_int_equal(l.found.corrupt, 0); /* nothing is lost */
        assert_non_null(strstr(l.line, ": damaged at octet 0: its head; its frames are used; "));
        life_fini(&l);
    }
}

/* The last frame: nobody can know that it was whole once. */
static void
a_torn_end_is_no_damage(void **state)
{
    struct life l;
    struct search s;
    struct err err;

    (void)state;
    write_thirty(&l, 1);
    s = find_frame(&l, 30);
    sim_disk_rot(l.sim, s.path, s.at + 80, 1);
    assert_true(life_replay(&l, &err));
    assert_int_equal(l.told, 29);
    assert_int_equal(l.errors, 0);
    life_fini(&l);
}

static void
other_versions_are_refused(void **state)
{
    static const int others[] = {-1, 1};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        struct life l;
        struct err err = {0};
        uint8_t octets[SEGMENT];
        uint64_t size;
        struct segment_head head;
        char expected[128];

        write_thirty(&l, 1);
        memcpy(octets, sim_disk_octets(l.sim, "data/journal/0-1-0.log", &size), SEGMENT);
        assert_true(segment_head_decode(octets, &head));
        head.version = (uint32_t)(JOURNAL_VERSION + others[i]);
        segment_head_encode(octets, &head);
        sim_disk_put(l.sim, "data/journal/0-1-0.log", octets, SEGMENT);
        assert_false(life_replay(&l, &err));
        snprintf(expected, sizeof(expected),
                 "data/journal/0-1-0.log is of version %d; this lepusd reads version %d",
                 JOURNAL_VERSION + others[i], JOURNAL_VERSION);
        assert_string_equal(err.text, expected);
        assert_int_equal(l.told, 0);
        life_fini(&l);
    }
}

static void
what_cannot_be_read_stops_the_start(void **state)
{
    struct life l;
    struct err err = {0};

    (void)state;
    write_thirty(&l, 1);
    sim_disk_spoil(l.sim, "data/journal/0-1-0.log", 3000, 1);
    assert_false(life_replay(&l, &err));
    assert_string_equal(err.text, "data/journal/0-1-0.log: Input/output error");
    assert_int_equal(sim_disk_open_files(l.sim), 0);
    life_fini(&l);
    write_thirty(&l, 1);
    sim_disk_fail(l.sim, SIM_LIST_DIR, 1, 1, EACCES);
    assert_false(life_replay(&l, &err));
    assert_string_equal(err.text, "data/journal: Permission denied");
    life_fini(&l);
}

/* As a publisher may send it who knows all but the key. */
static void
forge(struct buf *frame, uint64_t lsn, uint64_t generation)
{
    size_t at = FRAME_HEAD_LEN + 8;

    for (; at + FRAME_HEAD_LEN <= frame->len; at += FRAME_HEAD_LEN) {
        const struct frame_head forged = {
            .count = 1, .generation = generation++, .term = 1, .lsn = lsn, .low = lsn};

        frame_head_encode(frame->at + at, &forged);
    }
}

static bool
on_frame_of_forger(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct life *l = arg;

    (void)err;
    assert_true(frame->payload.len > FRAME_HEAD_LEN); /* a forged one is empty */
    assert_true(frame->lsn <= 100);
    l->told++;
    return true;
}

/* Behind the last frame of a segment that is used again, and where one rots. */
static void
a_body_is_not_taken_for_a_frame(void **state)
{
    for (int rots = 0; rots < 3; rots++) {
        struct random random = {3};
        struct journal_found found;
        struct search s;
        struct life l;
        struct err err;

        (void)state;
        life_init(&l, 1, SEGMENT);
        assert_true(life_begin(&l));
        for (uint64_t i = 0; i < 100; i++) {
            life_append(&l, 500 + random_below(&random, 1000));
            forge(journal_open_frame(l.journal), 101, i / 4); /* of those to come */
            life_make_safe(&l);
            life_keep_from(&l, i < 4 ? 1 : i - 2);
        }
        life_end(&l, true);
        s = find_frame(&l, 99);
        if (rots == 1)
            sim_disk_rot(l.sim, s.path, s.at, 1);
        if (rots == 2)
            sim_disk_rot(l.sim, s.path, 0, 1); /* the head with the key */
        assert_true(journal_replay("data", &l.settings.files, on_frame_of_forger, life_on_line, &l,
                                   &found, &err));
        assert_int_equal(l.told, rots == 1 ? 4 : 5);
        assert_int_equal(found.lsn, 100);
        assert_int_equal(found.corrupt, rots == 1);
        assert_int_equal(l.errors, rots > 0);
        life_fini(&l);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_safe_after_its_sync),
        cmocka_unit_test(what_comes_while_a_batch_is_written_is_one_frame),
        cmocka_unit_test(modes_differ_in_when_they_sync),
        cmocka_unit_test(large_buffers_are_given_back),
        cmocka_unit_test(an_idle_journal_takes_two_segments_at_most),
        cmocka_unit_test(a_segment_that_is_needed_is_not_written_to),
        cmocka_unit_test(the_crowded_journal_says_what_is_in_its_way),
        cmocka_unit_test(a_frame_larger_than_a_segment_has_its_own),
        cmocka_unit_test(nothing_is_safe_while_writing_fails),
        cmocka_unit_test(what_a_failed_sync_was_to_secure_is_written_elsewhere),
        cmocka_unit_test(a_late_sync_that_fails_is_told_and_what_it_was_for_stands_in_the_way),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
        cmocka_unit_test(power_may_be_cut_before_any_call),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(former_terms_go_at_once),
        cmocka_unit_test(random_lives_against_the_model),
        cmocka_unit_test(an_octet_that_rots_is_told_with_file_and_offset),
        cmocka_unit_test(a_quarantine_that_is_full_is_told),
        cmocka_unit_test(a_damaged_head_costs_no_frames),
        cmocka_unit_test(a_torn_end_is_no_damage),
        cmocka_unit_test(other_versions_are_refused),
        cmocka_unit_test(what_cannot_be_read_stops_the_start),
        cmocka_unit_test(a_body_is_not_taken_for_a_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
