/*
 * journal_life: journals on a simulated disk, one life after the other, and a model of what each
 * life wrote, to compare with what a replay tells.
 *
 * A record is its serial number, its size, and octets that follow from these.
 */
#ifndef TEST_STORE_JOURNAL_LIFE_H
#define TEST_STORE_JOURNAL_LIFE_H

#include "unit.h"

#include <assert.h>
#include <errno.h>

#include "journal_priv.h"
#include "octets_le.h"
#include "sim_disk.h"

#include "lepus/base/mem.h"

enum { TERMS_MAX = 8, FRAMES_MAX = 4096 };

/* What is known of the frames of a term, by lsn. */
struct term_model {
    uint64_t first_lsn;
    uint64_t low, promised;             /* [low, promised] must be there */
    uint32_t from[FRAMES_MAX + 1];      /* serial of the frame's first record */
    uint64_t frame_low[FRAMES_MAX + 1]; /* the low that it tells, or a later one */
    size_t n;                           /* frames, the open one included */
};

struct life {
    struct sim_disk *sim;
    struct disk *disk;
    struct journal *journal;
    struct journal_settings settings;
    struct term_model terms[TERMS_MAX];
    unsigned term; /* from 1; of the journal at hand */
    uint32_t serial;
    uint64_t safe, crowded; /* told; crowded 0: not */
    unsigned troubles;      /* times that it was told */
    bool is_in_trouble;
    char why[256];

    /* of a replay: */
    struct journal_found found;
    uint64_t told_first[TERMS_MAX], told_last[TERMS_MAX]; /* 0: none */
    unsigned errors;                                      /* lines that told of damage */
    char line[1024];                                      /* the last one */
    bool has_gaps;                                        /* something rotted: they are fine */
    unsigned last_term;
    uint64_t told;
};

static inline struct term_model *
life_model(struct life *l)
{
    return &l->terms[l->term];
}

/* --- the journal's owner --------------------------------------------------------------- */

static void
life_on_safe(void *arg, uint64_t lsn)
{
    struct life *l = arg;

    assert_true(lsn > l->safe && lsn < journal_lsn(l->journal));
    l->safe = lsn;
    if (l->settings.sync == JOURNAL_ALWAYS)
        life_model(l)->promised = lsn;
}

static void
life_on_crowded(void *arg, uint64_t lsn)
{
    struct life *l = arg;

    assert_true(lsn > journal_low(l->journal) && lsn <= journal_lsn(l->journal));
    l->crowded = lsn;
}

static void
life_on_trouble(void *arg, const struct err *why)
{
    struct life *l = arg;

    assert_int_equal(l->is_in_trouble, why == NULL);
    l->is_in_trouble = why != NULL;
    l->troubles += why != NULL;
    if (why != NULL)
        memcpy(l->why, why->text, sizeof(l->why));
}

static const struct journal_ops life_ops = {life_on_safe, life_on_crowded, life_on_trouble};

static inline void
life_init(struct life *l, uint64_t seed, uint64_t segment_bytes)
{
    memset(l, 0, sizeof(*l));
    l->sim = sim_disk_new(seed);
    l->settings = (struct journal_settings){
        .dir = "data",
        .files = sim_disk_files(l->sim),
        .segment_bytes = segment_bytes,
        .crowded_bytes = segment_bytes * 4,
        .limit_bytes = segment_bytes * 8,
    };
}

/* Begins a term. False when the disk does not let it. */
static inline bool
life_begin(struct life *l)
{
    struct term_model *model;
    struct err err;

    assert(l->term + 1 < TERMS_MAX && l->journal == NULL);
    model = &l->terms[++l->term];
    l->settings.term = l->term;
    l->settings.first_lsn = l->found.lsn + 1;
    l->settings.generation = l->found.generation;
    model->first_lsn = model->low = l->settings.first_lsn;
    model->promised = l->safe = l->settings.first_lsn - 1;
    model->from[0] = l->serial;
    model->n = 1;
    l->crowded = 0;
    l->is_in_trouble = false;
    l->disk = disk_new(NULL, "journal");
    l->journal = journal_new(&l->settings, NULL, l->disk, &life_ops, l, &err);
    return l->journal != NULL;
}

static inline void
life_append(struct life *l, size_t size)
{
    struct buf *frame = journal_open_frame(l->journal);
    uint8_t *at = buf_reserve(frame, size + 8);

    assert_non_null(at);
    put_le32(at, l->serial);
    put_le32(at + 4, (uint32_t)size);
    for (size_t i = 0; i < size; i++)
        at[8 + i] = (uint8_t)(l->serial + i);
    frame->len += size + 8;
    l->serial++;
    journal_added(l->journal);
}

static inline void
life_flush(struct life *l)
{
    struct term_model *model = life_model(l);
    uint64_t before = journal_lsn(l->journal), low = journal_low(l->journal);
    bool is_empty = model->from[model->n - 1] == l->serial;

    /* what is under way may be tried again, with what low is now */
    if (model->n > 1)
        model->frame_low[model->n - 2] = low;
    journal_flush(l->journal);
    if (journal_lsn(l->journal) == before)
        return;
    assert_false(is_empty);
    assert(model->n < FRAMES_MAX);
    model->frame_low[model->n - 1] = low;
    model->from[model->n++] = l->serial;
    assert_int_equal(journal_lsn(l->journal), model->first_lsn + model->n - 1);
}

static inline void
life_run_disk(struct life *l)
{
    while (disk_step(l->disk))
        ;
}

static inline void
life_keep_from(struct life *l, uint64_t lsn)
{
    journal_keep_from(l->journal, lsn);
    life_model(l)->low = lsn;
}

/* Everything that was appended is safe, however often that has to be tried. */
static inline void
life_make_safe(struct life *l)
{
    for (unsigned i = 0; l->safe + 1 < journal_lsn(l->journal) ||
                         journal_open_frame(l->journal)->len > FRAME_HEAD_LEN;
         i++) {
        assert_true(i < 100);
        life_flush(l);
        life_run_disk(l);
    }
}

/* The process is gone; power: so is the machine. */
static inline void
life_end(struct life *l, bool power)
{
    if (!power && l->safe > life_model(l)->promised)
        life_model(l)->promised = l->safe; /* of this journal; a later crash knows better */
    life_run_disk(l);
    journal_free(l->journal);
    l->journal = NULL;
    disk_free(l->disk);
    l->disk = NULL;
    if (power)
        sim_disk_crash(l->sim);
    else
        sim_disk_kill(l->sim);
}

static inline void
life_fini(struct life *l)
{
    if (l->journal != NULL)
        life_end(l, false);
    sim_disk_free(l->sim);
}

/* --- replay ---------------------------------------------------------------------------- */

static inline void
life_check_payload(struct life *l, const struct journal_frame *frame)
{
    const struct term_model *model = &l->terms[frame->term];
    size_t i = (size_t)(frame->lsn - model->first_lsn), at = 0;
    uint32_t serial;

    assert_true(frame->lsn >= model->first_lsn && i + 1 < model->n);
    assert_int_equal(frame->count, model->from[i + 1] - model->from[i]);
    for (serial = model->from[i]; serial < model->from[i + 1]; serial++) {
        uint32_t size;

        assert_true(frame->payload.len - at >= 8);
        assert_int_equal(get_le32(frame->payload.at + at), serial);
        size = get_le32(frame->payload.at + at + 4);
        at += 8;
        assert_true(frame->payload.len - at >= size);
        for (uint32_t k = 0; k < size; k++)
            assert_true(frame->payload.at[at + k] == (uint8_t)(serial + k));
        at += size;
    }
    assert_int_equal(at, frame->payload.len);
}

static bool
life_on_frame(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct life *l = arg;
    unsigned term = (unsigned)frame->term;

    (void)err;
    assert_true(frame->term >= l->last_term && frame->term <= l->term);
    assert_int_equal(frame->journal, 0);
    l->last_term = term;
    if (l->told_first[term] == 0)
        l->told_first[term] = frame->lsn;
    else if (l->has_gaps)
        assert_true(frame->lsn > l->told_last[term]);
    else
        assert_int_equal(frame->lsn, l->told_last[term] + 1);
    l->told_last[term] = frame->lsn;
    l->told++;
    life_check_payload(l, frame);
    return true;
}

static void
life_on_line(void *arg, bool is_error, const char *line)
{
    struct life *l = arg;

    assert_true(strlen(line) > 0);
    if (is_error)
        snprintf(l->line, sizeof(l->line), "%s", line);
    l->errors += is_error;
}

static inline bool
life_replay(struct life *l, struct err *err)
{
    memset(l->told_first, 0, sizeof(l->told_first));
    memset(l->told_last, 0, sizeof(l->told_last));
    l->errors = l->last_term = 0;
    l->told = 0;
    return journal_replay("data", &l->settings.files, life_on_frame, life_on_line, l, &l->found,
                          err);
}

/* Is what was promised of the term there, and all that the last frame told says is needed? */
static inline void
life_check_term(const struct life *l, unsigned term)
{
    const struct term_model *model = &l->terms[term];
    uint64_t first = l->told_first[term], last = l->told_last[term];

    if (model->promised >= model->low) {
        assert_in_range(first, 1, model->low);
        assert_true(last >= model->promised);
    }
    if (last != 0)
        assert_true(first <= model->frame_low[last - model->first_lsn] ||
                    first == model->first_lsn);
}

static inline void
life_check(struct life *l)
{
    struct err err;

    if (!life_replay(l, &err))
        fail_msg("%s", err.text);
    if (l->errors > 0)
        fail_msg("%s", l->line);
    assert_int_equal(l->found.corrupt, 0);
    assert_int_equal(sim_disk_open_files(l->sim), 0);
    for (unsigned term = 1; term <= l->term; term++) {
        life_check_term(l, term);
        assert_true(l->found.lsn >= l->told_last[term]);
    }
}

#endif
