/*
 * exchange_deduplicating: x-message-deduplication: a fanout exchange that lets a message with a
 * header x-deduplication-header through once [RabbitMQ: rabbitmq_message_deduplication].
 *
 * Whether one has come before can be told in one place only: the exchange's own queue (delay.h,
 * dedup.h), which keeps the first ones and sends them on at once, when they are as safe as any
 * queue's. So the publisher's confirm says that the message and its key are on disk, a duplicate is
 * confirmed too (the plugin nacks it), and what has a header counts as routed. A message without
 * one is none of the queue's business.
 */
#include "exchange_priv.h"

#include "lepus/broker/dedup.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

static const struct exchange_type *
acts_as(struct view arguments)
{
    (void)arguments;
    return &exchange_fanout;
}

static bool
is_positive(const struct field *field)
{
    return field_is_integer(field) && field->integer > 0;
}

static bool
check_declare(struct view arguments, struct err *err)
{
    struct field field;

    if (!table_find(arguments, VIEW_LIT("x-cache-size"), &field) || !is_positive(&field))
        return err_set(err, PRECONDITION_FAILED,
                       "Missing or invalid argument, "
                       "'x-cache-size' must be an integer greater than 0");
    if (field.integer > DEDUP_KEYS_MAX)
        return err_set(err, PRECONDITION_FAILED, "'x-cache-size' must not be greater than %d",
                       DEDUP_KEYS_MAX);
    if (table_find(arguments, VIEW_LIT("x-cache-ttl"), &field) && !is_positive(&field))
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid argument, 'x-cache-ttl' must be an integer greater than 0");
    if (table_find(arguments, VIEW_LIT("x-cache-persistence"), &field) &&
        (field.type != FIELD_LONGSTR || (!view_equal(field.bytes, VIEW_LIT("memory")) &&
                                         !view_equal(field.bytes, VIEW_LIT("disk")))))
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid argument, "
                       "'x-cache-persistence' must be either 'memory' or 'disk'");
    return true;
}

static bool
divert(const struct exchange *exchange, struct router *router)
{
    struct queue_ref own = exchange_queue(exchange);
    struct dedup_key ignored;

    router->out->is_for_one = true;
    if (!dedup_key_of(router->properties, &ignored))
        return false;
    route_to_queue(router, &own);
    return true;
}

const struct exchange_type exchange_deduplicating = {
    .name = "x-message-deduplication",
    .argument = "x-cache-size",
    .passes_on = true,
    .check_declare = check_declare,
    .acts_as = acts_as,
    .divert = divert,
};
