/* journal_priv: the octets of segments and frames, for the writer and the reader. */
#ifndef STORE_JOURNAL_PRIV_H
#define STORE_JOURNAL_PRIV_H

#include "lepus/store/journal.h"

enum {
    SEGMENT_HEAD_SIZE = 64,
    FRAME_HEAD_LEN = 72,
    JOURNAL_VERSION = 2,
};

#define SEGMENT_MAGIC "LEPUSJNL"
#define FRAME_MAGIC   0x31464a4cu /* "LJF1" */

struct segment_head {
    uint32_t version, journal;
    uint64_t generation, term, first_lsn, key;
};

struct frame_head {
    uint32_t crc, len, count;
    uint64_t generation, term, key, lsn, low, synced, wall_ms;
};

void segment_head_encode(uint8_t to[SEGMENT_HEAD_SIZE], const struct segment_head *head);

/* False: not one, or damaged. Any version. */
bool segment_head_decode(const uint8_t from[SEGMENT_HEAD_SIZE], struct segment_head *out);

/* Fills the head in front of the payload, the checksum too. */
void frame_head_encode(uint8_t *frame, const struct frame_head *head);

/* Without looking at the checksum. */
bool frame_head_decode(const uint8_t *at, struct frame_head *out);
bool frame_is_good(const uint8_t *at, const struct frame_head *head);

static inline uint64_t
frame_size(uint64_t payload_len)
{
    return (FRAME_HEAD_LEN + payload_len + 7) & ~(uint64_t)7;
}

/* What the timer of JOURNAL_INTERVAL does. */
void journal_sync_due(struct journal *journal);

/* DIR/journal, and in it a slot's path; malloc'd. */
char *journal_dir(const char *dir);
char *journal_slot_path(const char *dir, uint32_t journal, uint64_t term, uint32_t slot);

#endif
