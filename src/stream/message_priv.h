/* What message_encode and message_decode agree on, apart from the types. */
#ifndef LEPUS_SRC_STREAM_MESSAGE_PRIV_H
#define LEPUS_SRC_STREAM_MESSAGE_PRIV_H

#include "lepus/base/view.h"

#define ANNOTATION_EXCHANGE    "x-exchange"
#define ANNOTATION_ROUTING_KEY "x-routing-key"
#define ANNOTATION_TYPE        "x-basic-type"
#define ANNOTATION_CC          "x-cc"
#define ANNOTATION_FILTER      "x-stream-filter-value"
#define ANNOTATION_ORIGINAL    "x-0-9-1-properties"
#define ADDRESS_QUEUES         "/queues/"
#define TYPE_AMQP10            "amqp-1.0"

/* Whether an annotation of that name is no header. */
static inline bool
message_name_is_ours(struct view name)
{
    static const char *const ours[] = {ANNOTATION_EXCHANGE, ANNOTATION_ROUTING_KEY, ANNOTATION_TYPE,
                                       ANNOTATION_CC, ANNOTATION_ORIGINAL};

    if (!view_has_prefix(name, VIEW_LIT("x-")))
        return false;
    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
        if (view_equal(name, view_str(ours[i])))
            return true;
    return false;
}

#endif
