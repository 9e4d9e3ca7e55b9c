/*
 * connection_start: the handshake [0-9-1 §2.2.4, connection class].
 *
 * start -> start-ok (who) -> tune -> tune-ok (limits) -> open (vhost) -> open-ok, each once and
 * in this order. A client may lower a limit that we offer and never raise it; 0 is "no limit", and
 * so above any other number. The heartbeat is the client's word, as with RabbitMQ.
 */
#include <openssl/crypto.h>

#include "amqp_priv.h"

#include "lepus/base/mem.h"
#include "lepus/wire/table.h"

enum { REFUSED_LOGIN_DELAY_MS = 1000 };

void
amqp_write_server_properties(struct buf *to, const struct amqp_settings *settings)
{
    static const char *const capabilities[] = {
        "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
        "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos",           "direct_reply_to",
    };
    size_t begun = table_begin_table(to, VIEW_LIT("capabilities"));

    for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
        table_put_bool(to, view_str(capabilities[i]), true);
    table_end(to, begun);
    table_put_longstr(to, VIEW_LIT("cluster_name"), view_str(settings->cluster_name));
    table_put_longstr(to, VIEW_LIT("copyright"), VIEW_LIT("Copyright (c) 2026 The Lepus authors"));
    table_put_longstr(to, VIEW_LIT("information"), VIEW_LIT("Licensed under the MIT licence"));
    table_put_longstr(to, VIEW_LIT("platform"), VIEW_LIT("Lepus"));
    table_put_longstr(to, VIEW_LIT("product"), view_str(settings->product));
    table_put_longstr(to, VIEW_LIT("version"), view_str(settings->version));
    table_put_longstr(to, VIEW_LIT("lepus_version"), view_str(settings->lepus_version));
}

void
conn_start(struct conn *c)
{
    conn_send(c, 0, METHOD_connection_start,
              &(struct connection_start){
                  .version_major = 0,
                  .version_minor = 9,
                  .server_properties = buf_view(&c->amqp->server_properties),
                  .mechanisms = VIEW_LIT("PLAIN AMQPLAIN"),
                  .locales = VIEW_LIT("en_US"),
              });
    conn_enter(c, CONN_AWAIT_START_OK);
}

/* --- start-ok -------------------------------------------------------------------------- */

static const struct mechanism {
    const char *name;
    bool (*parse)(struct view response, struct view *out_user, struct view *out_password);
} mechanisms[] = {{"PLAIN", sasl_plain}, {"AMQPLAIN", sasl_amqplain}};

static bool
is_true(struct view table, const char *name)
{
    struct field field;

    return table_find(table, view_str(name), &field) && field.type == FIELD_BOOL &&
           field.integer != 0;
}

static void
read_capabilities(struct conn *c, struct view client_properties)
{
    struct field field;

    if (!table_find(client_properties, VIEW_LIT("capabilities"), &field) ||
        field.type != FIELD_TABLE)
        return;
    c->can.authentication_failure_close = is_true(field.bytes, "authentication_failure_close");
    c->can.consumer_cancel_notify = is_true(field.bytes, "consumer_cancel_notify");
    c->can.connection_blocked = is_true(field.bytes, "connection.blocked");
}

/* Takes the same time wherever they differ. */
static bool
is_same_secret(struct view given, const char *wanted)
{
    size_t len = strlen(wanted);
    size_t least = given.len < len ? given.len : len;
    int differs = given.len != len;

    differs |= CRYPTO_memcmp(given.at != NULL ? (const void *)given.at : "", wanted, least);
    return differs == 0;
}

static bool
may_login(const struct amqp_settings *settings, struct view user, struct view password)
{
    bool known = is_same_secret(user, settings->default_user);
    bool proven = is_same_secret(password, settings->default_pass);

    return known && proven;
}

/* A client that asked for it hears why, unless it spoke a mechanism that we do not know; another
 * finds its socket closed after a while, as 0-9-1 has it. */
static bool
refuse_login(struct conn *c, bool is_known, struct view user, struct view mechanism,
             struct err *err)
{
    struct log_context log = conn_log(c);

    log_warn(&log, "login refused: user '" VIEW_FMT "', mechanism " VIEW_FMT, VIEW_ARG(user),
             VIEW_ARG(mechanism));
    if (!is_known || !c->can.authentication_failure_close) {
        conn_close_after(c, REFUSED_LOGIN_DELAY_MS);
        return true;
    }
    err->class_id = err->method_id = 0; /* as RabbitMQ: it is about no method */
    return err_set(err, ACCESS_REFUSED,
                   "Login was refused using authentication mechanism " VIEW_FMT
                   ". For details see the broker logfile.",
                   VIEW_ARG(mechanism));
}

bool
conn_handle_start_ok(struct conn *c, const struct connection_start_ok *args, struct err *err)
{
    const struct mechanism *mechanism = NULL;
    struct view user = {0}, password = {0};

    read_capabilities(c, args->client_properties);
    for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++)
        if (view_equal(args->mechanism, view_str(mechanisms[i].name)))
            mechanism = &mechanisms[i];
    if (mechanism == NULL || !mechanism->parse(args->response, &user, &password) ||
        !may_login(c->amqp->settings, user, password))
        return refuse_login(c, mechanism != NULL, user, args->mechanism, err);
    c->user = view_dup(user);
    conn_send(c, 0, METHOD_connection_tune,
              &(struct connection_tune){
                  .channel_max = c->amqp->settings->channel_max,
                  .frame_max = c->amqp->settings->frame_max,
                  .heartbeat = c->amqp->settings->heartbeat_s,
              });
    conn_enter(c, CONN_AWAIT_TUNE_OK);
    return true;
}

/* --- tune-ok --------------------------------------------------------------------------- */

/* 0 is no limit: only to be had where we have none either. */
static bool
check_limit(const char *name, uint32_t asked, uint32_t ours, uint32_t *out, struct err *err)
{
    if (ours != 0 && asked == 0)
        return err_set(err, NOT_ALLOWED,
                       "negotiated %s = 0 (no limit) is higher than the maximum allowed value (%u)",
                       name, ours);
    if (ours != 0 && asked > ours)
        return err_set(err, NOT_ALLOWED,
                       "negotiated %s = %u is higher than the maximum allowed value (%u)", name,
                       asked, ours);
    *out = asked;
    return true;
}

bool
conn_handle_tune_ok(struct conn *c, const struct connection_tune_ok *args, struct err *err)
{
    const struct amqp_settings *settings = c->amqp->settings;
    uint32_t frame_max = 0, channel_max = 0;

    if (args->frame_max != 0 && args->frame_max < FRAME_MIN_SIZE)
        return err_set(err, NOT_ALLOWED,
                       "negotiated frame_max = %u is lower than the minimum allowed value (%u)",
                       args->frame_max, (unsigned)FRAME_MIN_SIZE);
    if (!check_limit("frame_max", args->frame_max, settings->frame_max, &frame_max, err) ||
        !check_limit("channel_max", args->channel_max, settings->channel_max, &channel_max, err))
        return false;
    c->frame_max = frame_max;
    c->channel_max = (uint16_t)channel_max;
    c->heartbeat_s = args->heartbeat;
    conn_enter(c, CONN_AWAIT_OPEN);
    return true;
}

/* --- open ------------------------------------------------------------------------------ */

static void
log_open(const struct conn *c)
{
    struct log_context log = conn_log(c);
    char tls[512];

    if (!transport_is_tls(c->transport)) {
        log_info(&log, "open");
        return;
    }
    transport_describe_tls(c->transport, tls, sizeof(tls));
    log_info(&log, "open, %s", tls);
}

bool
conn_handle_open(struct conn *c, const struct connection_open *args, struct err *err)
{
    struct vhost *vhost = topology_find_vhost(c->amqp->topology, args->virtual_host);

    if (vhost == NULL)
        return err_set(err, NOT_ALLOWED, "vhost " VIEW_FMT " not found",
                       VIEW_ARG(args->virtual_host));
    if (!limits_enter(topology_limits(c->amqp->topology), view_str(vhost_name(vhost)),
                      view_str(c->user), &c->place, err))
        return false;
    c->vhost = vhost;
    c->deadline_ms = 0;
    conn_enter(c, CONN_OPEN);
    conn_send(c, 0, METHOD_connection_open_ok, &(struct connection_open_ok){0});
    log_open(c);
    return true;
}
