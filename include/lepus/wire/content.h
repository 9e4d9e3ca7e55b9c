/*
 * content: a published message as views: into a socket's read buffer, a mail record, a page, or a
 * message that somebody keeps. Nothing here is owned.
 */
#ifndef LEPUS_WIRE_CONTENT_H
#define LEPUS_WIRE_CONTENT_H

#include "lepus/base/blob.h"
#include "lepus/base/view.h"

struct content {
    struct view exchange, routing_key;
    struct view properties; /* flag word and values, as props.h wants them */
    struct view body;
    struct blob *blob; /* what holds the body's octets, or NULL when nobody counts them */
};

#endif
