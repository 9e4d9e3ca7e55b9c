/*
 * The pages of a backlog on a simulated disk: random lives against a model of what was put and
 * settled; the power cut, the process killed and calls failing anywhere in between.
 *
 * The model's owner does what a home does: what is settled is written down at once (the model is
 * its journal), and where the pages end is written down after a sync.
 */
#include "unit.h"

#include <assert.h>
#include <errno.h>

#include "pages_priv.h"
#include "sim_disk.h"

#include "lepus/base/buf.h"
#include "lepus/base/mem.h"

enum { SEQS_MAX = 4096, ID = 7, DESCRIPTORS = 2, LIVES = 6, OPERATIONS = 60 };

enum fate { NEVER, PUT, SETTLED, LOST };

struct shelf {
    struct random random;
    struct sim_disk *sim;
    struct disk *disk;
    struct page_store *store;
    struct pages *pages;
    struct err err;
    bool is_all_persistent;

    /* The model: */
    uint64_t next; /* seq */
    enum fate fates[SEQS_MAX];
    uint32_t sizes[SEQS_MAX];
    bool persistent[SEQS_MAX];
    struct buf state; /* what the journal has of the pages */
    uint64_t frozen;  /* the last seq that the sync under way covers */
    uint64_t written; /* the last one that `state` tells of */
    struct seq_range since[SEQS_MAX], gone[SEQS_MAX];
    size_t n_since;
    bool was_settled_since[SEQS_MAX];

    /* Of a read: */
    bool has_answered, is_over;
    uint64_t read_last;
    bool seen[SEQS_MAX];
    unsigned damages, troubles;
};

static uint8_t
octet_of(uint64_t seq, size_t i)
{
    return (uint8_t)(seq * 31 + i * 7);
}

static void
on_block(void *arg, struct page_block *block, const struct err *why, uint64_t first, uint64_t last)
{
    struct shelf *s = arg;
    struct record_message message;
    uint64_t seq, before = 0;

    s->has_answered = true;
    if (why != NULL)
        s->damages++;
    if (block == NULL) {
        s->is_over = why == NULL;
        s->read_last = last;
        return;
    }
    while (page_block_next(block, &seq, &message)) {
        assert_true(seq > before && seq >= first && seq <= last && seq < s->next);
        assert_true(s->fates[seq] == PUT || s->fates[seq] == SETTLED);
        assert_int_equal(message.content.body.len, s->sizes[seq]);
        for (size_t i = 0; i < message.content.body.len; i++)
            if (message.content.body.at[i] != octet_of(seq, i))
                fail_msg("octet %zu of message %u is another", i, (unsigned)seq);
        assert_int_equal(message.persistent, s->persistent[seq]);
        s->seen[seq] = true;
        before = seq;
    }
    s->read_last = last;
    page_block_free(block);
}

static const struct pages_ops pages_ops = {on_block};

static void
on_trouble(void *arg, const struct err *why)
{
    ((struct shelf *)arg)->troubles += why != NULL;
}

static void
on_written(void *arg)
{
    (void)arg;
}

static const struct page_store_ops store_ops = {on_trouble, on_written};

static void
work(struct shelf *s)
{
    while (disk_step(s->disk))
        continue;
}

/* --- the owner ------------------------------------------------------------------------- */

static void
put(struct shelf *s)
{
    static uint8_t body[PAGE_BLOCK_BYTES + 1000];
    uint64_t seq = s->next;
    size_t size = random_below(&s->random, 20) > 0 ? random_below(&s->random, 2000)
                                                   : random_below(&s->random, sizeof(body));
    struct record_message message = {
        .content = {.exchange = view_of("x", 1), .routing_key = view_of("key", 3)},
        .persistent = s->is_all_persistent || random_below(&s->random, 10) > 0,
    };

    if (seq + 1 >= SEQS_MAX)
        return;
    for (size_t i = 0; i < size; i++)
        body[i] = octet_of(seq, i);
    message.content.body = view_of(body, size);
    pages_put(s->pages, seq, &message);
    s->fates[seq] = PUT;
    s->sizes[seq] = (uint32_t)size;
    s->persistent[seq] = message.persistent;
    s->next += random_below(&s->random, 10) > 0 ? 1 : 2; /* some were settled before they came */
}

static void
settle(struct shelf *s)
{
    uint64_t first = 1 + random_below(&s->random, (size_t)s->next), last = first;
    size_t most = 1 + random_below(&s->random, 40);

    if (s->fates[first] != PUT)
        return;
    pages_seal(s->pages);
    while (last - first < most && s->fates[last + 1] == PUT)
        last++;
    for (uint64_t seq = first; seq <= last; seq++) {
        s->fates[seq] = SETTLED;
        s->was_settled_since[seq] = true;
    }
    pages_settle(s->pages, first, last);
}

static void
on_synced(void *arg, const struct err *why)
{
    struct shelf *s = arg;

    if (why != NULL)
        return;
    buf_clear(&s->state);
    pages_state(s->pages, &s->state);
    s->written = s->frozen;
    memset(s->was_settled_since, 0, sizeof(s->was_settled_since));
}

static void
sync_all(struct shelf *s)
{
    pages_seal(s->pages);
    s->frozen = s->next - 1;
    page_store_sync(s->store, on_synced, s);
    work(s);
}

/* Reads from some seq on, a few blocks or all: what lives there comes. */
static void
read_from(struct shelf *s, uint64_t from, size_t blocks)
{
    unsigned damages = s->damages;
    uint64_t at = from;

    pages_seal(s->pages); /* what is open is nobody's to read */
    memset(s->seen, 0, sizeof(s->seen));
    s->is_over = false;
    for (size_t i = 0; i < blocks && !s->is_over && at < s->next; i++) {
        s->has_answered = false;
        pages_read(s->pages, at);
        work(s);
        if (!s->has_answered)
            return; /* the disk is in trouble */
        if (!s->is_over) {
            assert_true(s->read_last >= at);
            at = s->read_last + 1;
        }
    }
    assert_int_equal(s->damages, damages);
    for (uint64_t seq = from; seq < s->next && (s->is_over || seq < at); seq++)
        if (s->fates[seq] == PUT && !s->seen[seq])
            fail_msg("message %u is not there", (unsigned)seq);
}

static uint64_t
count_live(const struct shelf *s)
{
    uint64_t n = 0;

    for (uint64_t seq = 1; seq < s->next; seq++)
        n += s->fates[seq] == PUT;
    return n;
}

/* --- lives ----------------------------------------------------------------------------- */

static size_t
ranges_of(const struct shelf *s, struct seq_range *to, bool since_only)
{
    size_t n = 0;

    for (uint64_t seq = 1; seq < s->next; seq++)
        if (s->fates[seq] == SETTLED && (!since_only || s->was_settled_since[seq]))
            to[n++] = (struct seq_range){seq, seq};
    return n;
}

static bool
is_ours(void *arg, uint64_t id)
{
    (void)arg;
    return id == ID;
}

static void
begin(struct shelf *s)
{
    struct file_system files = sim_disk_files(s->sim);
    size_t n_since, n_gone;

    s->disk = disk_new(NULL, "pages");
    s->store = page_store_new("data", &files, s->disk, DESCRIPTORS, &store_ops, s, &s->err);
    assert_non_null(s->store);
    s->pages = pages_new(s->store, ID, true, &pages_ops, s);
    if (s->state.len > 0) {
        n_since = ranges_of(s, s->since, true);
        n_gone = ranges_of(s, s->gone, false);
        if (!pages_restore(s->pages, view_of(s->state.at, s->state.len),
                           (struct range_view){s->since, n_since},
                           (struct range_view){s->gone, n_gone}, &s->err))
            fail_msg("%s", s->err.text);
    }
    page_store_sweep(s->store, is_ours, NULL);
    for (uint64_t seq = 1; seq < s->next; seq++)
        if (s->fates[seq] == PUT && (seq > s->written || !s->persistent[seq]))
            s->fates[seq] = LOST;
    assert_int_equal(pages_live(s->pages), count_live(s));
    read_from(s, 1, SIZE_MAX);
    assert_int_equal(pages_live(s->pages), count_live(s));
}

static void
end(struct shelf *s)
{
    work(s);
    pages_free(s->pages, false);
    work(s);
    page_store_free(s->store);
    disk_free(s->disk);
}

/* What was put, as long as there is no trouble, is read; when the disk refuses for a while nothing
 * of it is lost. */
static void
live(struct shelf *s)
{
    for (int i = 0; i < OPERATIONS; i++) {
        switch (random_below(&s->random, 12)) {
        case 0:
            sync_all(s);
            break;
        case 1:
            pages_seal(s->pages);
            break;
        case 2:
            read_from(s, 1 + random_below(&s->random, (size_t)s->next),
                      1 + random_below(&s->random, 5));
            break;
        case 3:
        case 4:
        case 5:
            settle(s);
            break;
        case 6:
            (void)disk_step(s->disk);
            break;
        case 7:
            if (pages_is_reading(s->pages) || s->troubles > 0) {
                page_store_retry(s->store);
                work(s);
            }
            break;
        default:
            for (size_t n = random_below(&s->random, 30); n > 0; n--)
                put(s);
        }
        if (pages_is_reading(s->pages)) /* it failed: nothing else is asked until it comes */
            page_store_retry(s->store), work(s);
        if (pages_is_reading(s->pages))
            return;
        if (!sim_disk_is_cut(s->sim))
            assert_int_equal(pages_live(s->pages), count_live(s));
    }
}

enum ending { ORDERLY, KILLED, CUT };

static void
on_file(void *arg, const char *path)
{
    (void)arg;
    fail_msg("%s is still there", path);
}

static void
one_shelf(uint64_t seed, bool fails)
{
    struct shelf *s = mem_new(struct shelf);

    s->random.state = seed;
    s->is_all_persistent = seed % 2 == 0;
    s->sim = sim_disk_new(seed);
    s->next = 1;
    buf_init(&s->state, SIZE_MAX);
    for (int life = 0; life < LIVES; life++) {
        enum ending ending = (enum ending)random_below(&s->random, 3);

        begin(s);
        if (ending == CUT)
            sim_disk_cut(s->sim, 1 + random_below(&s->random, 60));
        else if (fails)
            sim_disk_fail(s->sim, SIM_WRITE | SIM_SYNC | SIM_SYNC_DIR | SIM_OPEN | SIM_MAKE_DIR,
                          1 + random_below(&s->random, 40), 1 + random_below(&s->random, 3),
                          random_below(&s->random, 2) > 0 ? ENOSPC : EIO);
        live(s);
        if (ending == ORDERLY) {
            sim_disk_fail(s->sim, SIM_ANY, 1, 0, EIO);
            page_store_retry(s->store);
            work(s);
            sync_all(s);
            assert_int_equal(s->written, s->next - 1);
        }
        end(s);
        if (ending == CUT)
            sim_disk_crash(s->sim);
        else
            sim_disk_kill(s->sim);
    }
    begin(s);
    for (uint64_t seq = 1; seq < s->next; seq++)
        if (s->fates[seq] == PUT) {
            s->fates[seq] = SETTLED;
            pages_settle(s->pages, seq, seq);
        }
    work(s);
    assert_int_equal(pages_live(s->pages), 0);
    sim_disk_each(s->sim, "data/pages", on_file, NULL);
    end(s);
    assert_int_equal(sim_disk_open_files(s->sim), 0);
    sim_disk_free(s->sim);
    buf_fini(&s->state);
    free(s);
}

static void
lives_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        one_shelf(seed, false);
}

static void
a_disk_that_fails_loses_nothing_that_was_synced(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed <= 1060; seed++)
        one_shelf(seed, true);
}

/* --- single matters -------------------------------------------------------------------- */

static struct shelf *
shelf_with(size_t messages, size_t a_block)
{
    struct shelf *s = mem_new(struct shelf);

    s->random.state = 1;
    s->sim = sim_disk_new(1);
    s->next = 1;
    buf_init(&s->state, SIZE_MAX);
    begin(s);
    for (size_t i = 0; i < messages; i++) {
        struct record_message message = {.persistent = true};

        pages_put(s->pages, s->next, &message);
        s->persistent[s->next] = true;
        s->fates[s->next++] = PUT;
        if ((i + 1) % a_block == 0)
            pages_seal(s->pages);
    }
    sync_all(s);
    return s;
}

static void
shelf_free(struct shelf *s)
{
    end(s);
    sim_disk_free(s->sim);
    buf_fini(&s->state);
    free(s);
}

static void
small_blocks_are_read_together(void **state)
{
    struct shelf *s = shelf_with(600, 3);
    uint64_t reads = sim_disk_calls_of(s->sim, SIM_READ);

    (void)state;
    end(s);
    sim_disk_kill(s->sim);
    reads = sim_disk_calls_of(s->sim, SIM_READ);
    begin(s); /* reads it all */
    assert_in_range(sim_disk_calls_of(s->sim, SIM_READ) - reads, 1, 8);
    shelf_free(s);
}

static void
a_block_that_rots_amid_small_ones_takes_its_own_alone(void **state)
{
    struct shelf *s = shelf_with(60, 3);
    unsigned there = 0;

    (void)state;
    sim_disk_rot(s->sim, "data/pages/0/7-1.page", 64 + 5 * (48 + 21) + 48 + 4, 0xff);
    for (uint64_t at = 1; at < s->next && !s->is_over; at = s->read_last + 1) {
        pages_read(s->pages, at);
        work(s);
    }
    for (uint64_t seq = 1; seq < s->next; seq++)
        there += s->seen[seq];
    assert_in_range(there, 54, 57);
    assert_in_range(s->damages, 1, 2);
    shelf_free(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_agree_with_the_model),
        cmocka_unit_test(a_disk_that_fails_loses_nothing_that_was_synced),
        cmocka_unit_test(small_blocks_are_read_together),
        cmocka_unit_test(a_block_that_rots_amid_small_ones_takes_its_own_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
