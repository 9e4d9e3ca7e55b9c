/*
 * fuzz_journal: whatever a folder of segments holds, reading it ends, tells frames in order, tells
 * them again the second time, and lets a new journal be written beside it.
 *
 * The input is a list of files, each with three octets of name (journal, term, slot) and one that
 * says what it is:
 *
 *   0  as it stands: u16 length, octets
 *   1  sealed: generation, first lsn, then frames until one of length 255: length, lsn, low,
 *      synced, a flag: the frame's generation is another
 *   2  like 1, and afterwards u16 place, octet to xor with
 *   3  its name is `<term>.only`
 *
 * Of a sealed number the octets 254 and 255 stand for the two highest that there are.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "journal_priv.h"
#include "octets_le.h"
#include "sim_disk.h"

#include "lepus/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

enum { FILE_MAX = 1 << 16, FILES_MAX = 12, OURS = 3, KEY = 5 };

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t
octet(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static uint64_t
number(struct input *in)
{
    uint8_t n = octet(in);

    return n >= 254 ? UINT64_MAX - 255 + n : n;
}

/* --- files ----------------------------------------------------------------------------- */

static size_t
put_raw(struct input *in, uint8_t *file)
{
    size_t n = (size_t)octet(in) << 8;

    n += octet(in);
    if (n > in->left)
        n = in->left;
    memcpy(file, in->at, n);
    in->at += n;
    in->left -= n;
    return n;
}

static size_t
put_sealed(struct input *in, uint8_t *file, uint32_t journal, uint64_t term)
{
    struct segment_head head = {
        .version = JOURNAL_VERSION, .journal = journal, .term = term, .key = KEY};
    size_t at = SEGMENT_HEAD_SIZE;

    head.generation = octet(in);
    head.first_lsn = number(in);
    segment_head_encode(file, &head);
    for (;;) {
        uint8_t len = octet(in);
        struct frame_head frame = {.len = len, .count = 1, .term = term, .key = KEY};

        if (in->left == 0 || len == 255 || at + frame_size(len) > FILE_MAX)
            return at;
        frame.lsn = number(in);
        frame.low = number(in);
        frame.synced = number(in);
        frame.generation = head.generation + octet(in) % 2;
        memset(file + at, 0, (size_t)frame_size(len));
        memset(file + at + FRAME_HEAD_LEN, (int)(frame.lsn & 0xff), len);
        frame_head_encode(file + at, &frame);
        at += (size_t)frame_size(len);
    }
}

static void
put_file(struct sim_disk *sim, struct input *in, uint8_t *file)
{
    uint32_t journal = octet(in) % 3;
    uint64_t term = octet(in) % 4 + 1;
    uint32_t slot = octet(in) % 8;
    uint8_t kind = octet(in) % 4;
    char name[64], *path = journal_slot_path("data", journal, term, slot);
    size_t n = 0, at;

    if (kind == 0)
        n = put_raw(in, file);
    else if (kind < 3)
        n = put_sealed(in, file, journal, term);
    if (kind == 2) {
        at = (size_t)octet(in) << 8;
        at += octet(in);
        file[at % n] ^= octet(in);
    }
    snprintf(name, sizeof(name), "data/journal/%u.only", (unsigned)term);
    sim_disk_put(sim, kind == 3 ? name : path, file, n);
    free(path);
}

/* --- what is told ---------------------------------------------------------------------- */

struct heard {
    uint64_t term, lsn, n, sum;
    uint32_t journal;
    uint64_t ours; /* of this term, so many */
    uint64_t our_term;
};

static bool
on_frame(void *arg, const struct journal_frame *frame, struct err *err)
{
    struct heard *h = arg;
    bool same = h->n > 0 && frame->term == h->term && frame->journal == h->journal;

    (void)err;
    assert(h->n == 0 || frame->term > h->term ||
           (frame->term == h->term && frame->journal >= h->journal));
    assert(!same || frame->lsn > h->lsn);
    h->term = frame->term;
    h->journal = frame->journal;
    h->lsn = frame->lsn;
    h->n++;
    h->sum = h->sum * 31 + frame->lsn;
    h->ours += frame->term == h->our_term;
    for (size_t i = 0; i < frame->payload.len; i++)
        h->sum = h->sum * 31 + frame->payload.at[i];
    return true;
}

static void
on_line(void *arg, bool is_error, const char *line)
{
    (void)arg;
    (void)is_error;
    assert(strlen(line) > 0);
}

static bool
replay(struct file_system *files, struct heard *heard, struct journal_found *found)
{
    struct err err = {0};

    if (journal_replay("data", files, on_frame, on_line, heard, found, &err))
        return true;
    assert(err.code != 0);
    return false;
}

/* --- going on -------------------------------------------------------------------------- */

static void
on_safe(void *arg, uint64_t lsn)
{
    *(uint64_t *)arg = lsn;
}

static void
on_crowded(void *arg, uint64_t lsn)
{
    (void)arg;
    (void)lsn;
}

static void
on_trouble(void *arg, const struct err *why)
{
    (void)arg;
    (void)why;
    abort(); /* nothing fails here */
}

static void
write_ours(const struct file_system *files, const struct journal_found *found)
{
    static const struct journal_ops ops = {on_safe, on_crowded, on_trouble};
    const struct journal_settings settings = {
        .dir = "data",
        .files = *files,
        .term = found->term + 1,
        .first_lsn = found->lsn + 1,
        .generation = found->generation,
        .segment_bytes = 256,
        .crowded_bytes = 1024,
        .limit_bytes = 4096,
    };
    struct disk *disk = disk_new(NULL, "disk");
    struct err err;
    uint64_t safe = found->lsn;
    struct journal *journal = journal_new(&settings, NULL, disk, &ops, &safe, &err);

    assert(journal != NULL);
    for (int i = 0; i < OURS; i++) {
        buf_append(journal_open_frame(journal), "ours", 4);
        journal_added(journal);
        journal_flush(journal);
        while (disk_step(disk))
            continue;
    }
    assert(safe == found->lsn + OURS);
    journal_free(journal);
    disk_free(disk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sim_disk *sim = sim_disk_new(size);
    struct file_system files = sim_disk_files(sim);
    struct input in = {input, size};
    uint8_t *file = mem_alloc(FILE_MAX);
    struct heard first = {0}, again = {0}, after = {0}, alone = {0};
    struct journal_found found, last;
    struct err err;

    for (int n = 0; n < FILES_MAX && in.left > 0; n++)
        put_file(sim, &in, file);
    free(file);
    if (replay(&files, &first, &found)) {
        assert(replay(&files, &again, &last));
        assert(again.n == first.n && again.sum == first.sum && last.lsn == found.lsn);
        if (found.lsn < UINT64_MAX - OURS - 1) {
            write_ours(&files, &found);
            after.our_term = alone.our_term = found.term + 1;
            assert(replay(&files, &after, &last));
            assert(after.n == first.n + OURS && after.ours == OURS);
            assert(last.lsn == found.lsn + OURS && last.term == found.term + 1);
            assert(journal_drop_former("data", &files, found.term + 1, &err));
            sim_disk_crash(sim);
            assert(replay(&files, &alone, &last));
            assert(alone.n == OURS && alone.ours == OURS && last.corrupt == 0);
        }
    }
    assert(sim_disk_open_files(sim) == 0);
    sim_disk_free(sim);
    return 0;
}
