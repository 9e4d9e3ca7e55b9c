/*
 * field_text: field values as RabbitMQ's error texts show them, which is as Erlang prints them.
 */
#ifndef BROKER_FIELD_TEXT_H
#define BROKER_FIELD_TEXT_H

#include "lepus/wire/table.h"

/* A text that grows as far as an error text can, and is cut there. */
struct text {
    size_t len;
    char at[256]; /* always NUL-terminated */
};

void text_put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 5, true, <<"a string">>, [{longstr,<<"a">>}], [{<<"name">>,long,5}] */
void text_put_field(struct text *text, const struct field *field);

/* The same, but a string stands for itself: a string. */
void text_put_plain(struct text *text, const struct field *field);

#endif
