/*
 * exchange_delayed: x-delayed-message: an exchange of the type that its argument x-delayed-type
 * names, but a message whose header x-delay asks for it waits first, in the exchange's own queue
 * (delay.h) [RabbitMQ: rabbitmq_delayed_message_exchange].
 *
 * What waits counts as routed: it is not returned when it was published as mandatory, and the
 * alternate exchange gets it only if there is no route for it when it is due.
 */
#include "exchange_priv.h"

#include "lepus/broker/delay.h"
#include "lepus/wire/table.h"

static const struct view type_name = {(const uint8_t *)"x-delayed-type", 14};

/* NULL when it names none. */
static const struct exchange_type *
acts_as(struct view arguments)
{
    struct field field;

    return table_find(arguments, type_name, &field) && field.type == FIELD_LONGSTR
               ? exchange_type_find(field.bytes)
               : NULL;
}

static bool
check_declare(struct view arguments, struct err *err)
{
    const struct exchange_type *type = acts_as(arguments);

    if (type == NULL)
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid argument, 'x-delayed-type' must be an existing exchange type");
    if (type->acts_as != NULL)
        return err_set(err, PRECONDITION_FAILED,
                       "Invalid argument, 'x-delayed-type' must not be '%s'", type->name);
    return type->check_declare == NULL || type->check_declare(arguments, err);
}

static bool
divert(const struct exchange *exchange, struct router *router)
{
    struct queue_ref own = exchange_queue(exchange);

    router->out->is_for_one = true;
    if (delay_asked_ms(router->properties) == 0)
        return false;
    route_to_queue(router, &own);
    return true;
}

const struct exchange_type exchange_delayed = {
    .name = "x-delayed-message",
    .argument = "x-delayed-type",
    .check_declare = check_declare,
    .acts_as = acts_as,
    .divert = divert,
};
