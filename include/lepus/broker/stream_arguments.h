/*
 * stream_arguments: what a declare says of a stream, and what a consumer asks of it.
 *
 * A declare may say (all other arguments that some queue type knows are refused):
 *
 *     x-max-length-bytes               of all segments, whole ones go, oldest first
 *     x-max-age                        "7D": digits and a unit of Y, M, D, h, m, s
 *     x-stream-max-segment-size-bytes  at most 3 000 000 000
 *     x-stream-filter-size-bytes       16 to 255: of each chunk's filter
 *     x-initial-cluster-size, x-queue-leader-locator    of no meaning on one node
 *
 * A consumer may ask:
 *
 *     x-stream-offset           "first", "last", "next", an offset, a timestamp (seconds), or an
 *                               age as x-max-age has it; next when it is not there
 *     x-stream-filter           a string, or an array of strings: messages that carry one of them
 *                               as their x-stream-filter-value
 *     x-stream-match-unfiltered bool: and those that carry none
 *     x-stream-group            a name: see stream_queue.h. This and the next are Lepus's own
 *     x-stream-automatic-offset-tracking   bool: the same, by the consumer's tag
 *
 * Texts of refusals are RabbitMQ's where it has the argument.
 */
#ifndef LEPUS_BROKER_STREAM_ARGUMENTS_H
#define LEPUS_BROKER_STREAM_ARGUMENTS_H

#include "lepus/base/err.h"
#include "lepus/base/view.h"
#include "lepus/stream/stream_reader.h"

enum { STREAM_FILTERS_MAX = 256 }; /* of a consumer */

#define STREAM_SEGMENT_BYTES_MAX INT64_C(3000000000)

/* "7D" in ms. */
bool stream_age_parse(struct view text, uint64_t *out_ms);

/* What a declare said; 0 is what a stream does without. */
struct stream_rules {
    uint64_t max_bytes, max_age_ms, segment_bytes;
    uint8_t filter_bytes;
};

/* Of checked arguments of a declare, and of what policies say: a table whose names have no x-, and
 * which holds where both say something [RabbitMQ]. */
void stream_rules_init(struct stream_rules *rules, struct view arguments, struct view policy);

/* What a consumer asks. Views are into the arguments. */
struct stream_wish {
    enum stream_from from;
    uint64_t offset;
    int64_t time_ms;
    bool is_age; /* from a time that is time_ms before now */
    struct view filters[STREAM_FILTERS_MAX];
    size_t n_filters;
    bool match_unfiltered;
    struct view group; /* at NULL: none */
    bool tracks;       /* by the group, or else by the tag */
};

/* Reads it, or tells why it cannot be: the text without what it is about, which is "invalid arg
 * '<*out_arg>' for queue 'q' in vhost 'v': ". arguments: a checked table. */
bool stream_wish_read(struct stream_wish *wish, struct view arguments, const char **out_arg,
                      char why[200]);

#endif
