/*
 * exchange_consistent_hash: x-consistent-hash: each message goes to one destination, which its
 * routing key chooses; the binding key is the destination's weight.
 *
 * With the argument hash-header the value of that header chooses instead, with hash-property that
 * of a property: correlation_id, message_id or timestamp. A message without it is one with an
 * empty value. To bind a destination again with another weight changes nothing [RabbitMQ:
 * rabbitmq_consistent_hash_exchange].
 *
 * How: every destination draws a number u in (0, 1) for the value, from a hash of both, and the
 * smallest -ln(u) / weight wins (weighted rendezvous hashing). So the shares are as the weights,
 * however large these are; a new destination takes its share evenly from all others, one that goes
 * leaves it evenly to them, and nothing else moves. It depends on names alone, so a value goes
 * where it went in a former life. RabbitMQ draws from buckets instead: its choices are other ones.
 *
 * Among destinations of one weight the largest u is the smallest -ln(u), so one logarithm is taken
 * a weight, not a destination: members stand in order of weight.
 */
#include "members_priv.h"

#include <assert.h>
#include <math.h>

#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

enum hash_on { ON_ROUTING_KEY, ON_HEADER, ON_PROPERTY };

struct index {
    struct members *members;
    enum hash_on on;
    struct view header; /* in the exchange's arguments */
    enum property property;
};

static const struct {
    const char *name;
    enum property property;
} properties[] = {
    {"correlation_id", PROP_correlation_id},
    {"message_id", PROP_message_id},
    {"timestamp", PROP_timestamp},
};

enum { N_PROPERTIES = sizeof(properties) / sizeof(properties[0]) };

static size_t
property_find(struct view name)
{
    size_t i = 0;

    while (i < N_PROPERTIES && !view_equal(name, view_str(properties[i].name)))
        i++;
    return i;
}

/* --- arguments ------------------------------------------------------------------------- */

static bool
find_string(struct view arguments, const char *name, bool *out_found, struct field *out,
            struct err *err)
{
    *out_found = table_find(arguments, view_str(name), out);
    if (!*out_found || out->type == FIELD_LONGSTR)
        return true;
    return err_set(err, PRECONDITION_FAILED, "%s must be a string, not %s", name,
                   field_type_name(out->type));
}

static bool
check_declare(struct view arguments, struct err *err)
{
    struct field header, property;
    bool has_header, has_property;

    if (!find_string(arguments, "hash-header", &has_header, &header, err) ||
        !find_string(arguments, "hash-property", &has_property, &property, err))
        return false;
    if (has_header && has_property)
        return err_set(err, PRECONDITION_FAILED,
                       "hash-header and hash-property are mutually exclusive");
    if (has_property && property_find(property.bytes) == N_PROPERTIES)
        return err_set(err, PRECONDITION_FAILED, "Unsupported property: " VIEW_FMT,
                       VIEW_ARG(property.bytes));
    return true;
}

/* A whole number, maybe with a sign, that is at least 1 and not absurd. */
static bool
read_weight(struct view key, uint64_t *out, struct err *err)
{
    bool is_signed = key.len > 0 && (key.at[0] == '-' || key.at[0] == '+');
    bool is_number = key.len > is_signed;
    uint64_t weight = 0;

    for (size_t i = is_signed; i < key.len && is_number; i++) {
        is_number = key.at[i] >= '0' && key.at[i] <= '9';
        if (weight <= UINT32_MAX)
            weight = weight * 10 + (uint64_t)(key.at[i] - '0');
    }
    if (!is_number)
        return err_set(err, PRECONDITION_FAILED,
                       "The binding key must be an integer: <<\"" VIEW_FMT "\">>", VIEW_ARG(key));
    if (weight < 1 || key.at[0] == '-')
        return err_set(err, PRECONDITION_FAILED, "The binding key must be greater than 0");
    if (weight > UINT32_MAX)
        return err_set(err, PRECONDITION_FAILED, "The binding key must not be greater than %u",
                       UINT32_MAX);
    *out = weight;
    return true;
}

static bool
check_key(struct view key, struct err *err)
{
    uint64_t ignored;

    return read_weight(key, &ignored, err);
}

static uint64_t
weight_of(const struct binding *binding)
{
    uint64_t weight = 0;
    struct err ignored;
    bool ok = read_weight(binding_key(binding), &weight, &ignored);

    assert(ok); /* it was checked */
    return weight;
}

/* --- the index ------------------------------------------------------------------------- */

static void
init(struct exchange *exchange)
{
    struct index *index = mem_new(struct index);
    struct field field;

    index->members = members_new(weight_of);
    if (table_find(exchange_arguments(exchange), VIEW_LIT("hash-header"), &field)) {
        index->on = ON_HEADER;
        index->header = field.bytes;
    } else if (table_find(exchange_arguments(exchange), VIEW_LIT("hash-property"), &field)) {
        index->on = ON_PROPERTY;
        index->property = properties[property_find(field.bytes)].property;
    }
    exchange->index = index;
}

static void
fini(struct exchange *exchange)
{
    struct index *index = exchange->index;

    members_free(index->members);
    free(index);
    exchange->index = NULL;
}

static void
bind(struct exchange *exchange, struct binding *binding)
{
    struct index *index = exchange->index;

    members_add(index->members, binding);
}

static void
unbind(struct exchange *exchange, struct binding *binding)
{
    struct index *index = exchange->index;

    members_remove(index->members, binding);
}

/* --- choosing -------------------------------------------------------------------------- */

/* Whole numbers of any width are alike, as in Erlang. */
static uint64_t
hash_field(const struct field *field)
{
    uint64_t integer = (uint64_t)field->integer;

    if (field->type == FIELD_LONGSTR || field->type == FIELD_BYTES)
        return stable_hash(field->bytes, 0);
    if (field_is_integer(field))
        return hash_mix(integer + 1);
    return stable_hash(field->bytes, (uint64_t)field->type);
}

static uint64_t
hash_of(const struct index *index, struct view key, struct router *router)
{
    struct view value = {0};
    struct field field;

    switch (index->on) {
    case ON_ROUTING_KEY:
        return stable_hash(key, 0);
    case ON_HEADER:
        router->out->is_for_one = true;
        if (props_find(router->properties, PROP_headers, &value) &&
            table_find(value, index->header, &field))
            return hash_field(&field);
        break;
    case ON_PROPERTY:
        router->out->is_for_one = true;
        if (props_find(router->properties, index->property, &value))
            return stable_hash(value, 0);
        break;
    }
    return stable_hash(view_of(NULL, 0), 0);
}

/* -ln(u) / weight */
static double
cost(uint64_t drawn, uint64_t weight)
{
    double u = ((double)(drawn >> 11) + 0.5) * 0x1p-53;

    return -log(u) / (double)weight;
}

static const struct member *
choose(const struct members *members, uint64_t hash)
{
    const struct member *best = members->at[0];
    double least = INFINITY;

    for (size_t i = 0, next; i < members->n; i = next) {
        const struct member *first = members->at[i];
        uint64_t most = 0;

        for (next = i; next < members->n && members->at[next]->weight == members->at[i]->weight;
             next++) {
            uint64_t drawn = hash_mix(hash ^ members->at[next]->hash);

            if (drawn > most) {
                most = drawn;
                first = members->at[next];
            }
        }
        if (i == 0 && next == members->n)
            return first;
        if (cost(most, first->weight) < least) {
            least = cost(most, first->weight);
            best = first;
        }
    }
    return best;
}

static void
route(const struct exchange *exchange, struct view key, struct router *router)
{
    const struct index *index = exchange->index;

    if (index->members->n == 0)
        return;
    route_to(router, member_binding(choose(index->members, hash_of(index, key, router))));
}

static size_t
check(const struct exchange *exchange)
{
    const struct index *index = exchange->index;

    return members_check(index->members);
}

const struct exchange_type exchange_consistent_hash = {
    .name = "x-consistent-hash",
    .check_declare = check_declare,
    .check_key = check_key,
    .init = init,
    .fini = fini,
    .bind = bind,
    .unbind = unbind,
    .route = route,
    .check = check,
};
