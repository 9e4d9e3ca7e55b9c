/*
 * sasl: the two mechanisms that carry a user and a password.
 *
 * PLAIN [RFC 4616]: authorization identity NUL user NUL password; the first is ignored, as
 * RabbitMQ does. AMQPLAIN: a field table's contents, without its length, with LOGIN and PASSWORD
 * as long strings.
 */
#include "amqp_priv.h"

#include "lepus/wire/table.h"

static bool
cut_at_nul(struct view *rest, struct view *out)
{
    const uint8_t *nul = rest->len > 0 ? memchr(rest->at, 0, rest->len) : NULL;

    if (nul == NULL)
        return false;
    *out = view_of(rest->at, (size_t)(nul - rest->at));
    *rest = view_of(nul + 1, rest->len - out->len - 1);
    return true;
}

bool
sasl_plain(struct view response, struct view *out_user, struct view *out_password)
{
    struct view authorization;

    if (!cut_at_nul(&response, &authorization) || !cut_at_nul(&response, out_user))
        return false;
    *out_password = response;
    return response.len == 0 || memchr(response.at, 0, response.len) == NULL;
}

bool
sasl_amqplain(struct view response, struct view *out_user, struct view *out_password)
{
    struct field user, password;

    if (!table_check(response) || !table_find(response, VIEW_LIT("LOGIN"), &user) ||
        !table_find(response, VIEW_LIT("PASSWORD"), &password) || user.type != FIELD_LONGSTR ||
        password.type != FIELD_LONGSTR)
        return false;
    *out_user = user.bytes;
    *out_password = password.bytes;
    return true;
}
