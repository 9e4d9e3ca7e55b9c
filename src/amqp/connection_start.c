/*
 * connection_start: the handshake [0-9-1 §2.2.4, connection class].
 *
 * start -> start-ok (who) -> tune -> tune-ok (limits) -> open (vhost) -> open-ok, each once and
 * in this order. A client may lower a limit that we offer and never raise it; 0 is "no limit", and
 * so above any other number. The heartbeat is the client's word, as with RabbitMQ.
 *
 * A login by a password is decided by auth, maybe on another thread: meanwhile the connection is
 * not read. EXTERNAL and ANONYMOUS are decided at once.
 */
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

/* --- start-ok -------------------------------------------------------------------------- */

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

/* A client that asked for it hears why, unless it spoke a mechanism that we do not offer; another
 * finds its socket closed after a while, as 0-9-1 has it. */
static bool
refuse_login(struct conn *c, bool is_offered, struct view user, struct view mechanism,
             const char *why, struct err *err)
{
    struct log_context log = conn_log(c);

    log_warn(&log, "login refused: user '" VIEW_FMT "', mechanism " VIEW_FMT ": %s", VIEW_ARG(user),
             VIEW_ARG(mechanism), why);
    if (!is_offered || !c->can.authentication_failure_close) {
        conn_close_after(c, REFUSED_LOGIN_DELAY_MS);
        return true;
    }
    err->class_id = err->method_id = 0; /* as RabbitMQ: it is about no method */
    return err_set(err, ACCESS_REFUSED,
                   "Login was refused using authentication mechanism " VIEW_FMT
                   ". For details see the broker logfile.",
                   VIEW_ARG(mechanism));
}

static void
admit(struct conn *c, struct view user, uint32_t number)
{
    c->user = view_dup(user);
    c->user_number = number;
    conn_send(c, 0, METHOD_connection_tune,
              &(struct connection_tune){
                  .channel_max = c->amqp->settings->channel_max,
                  .frame_max = c->amqp->settings->frame_max,
                  .heartbeat = c->amqp->settings->heartbeat_s,
              });
    conn_enter(c, CONN_AWAIT_TUNE_OK);
}

/* A login whose password is being proven. The connection may end meanwhile. */
struct pending {
    struct auth_login login;
    struct amqp *amqp;
    uint64_t connection;
    char *user;
    struct view mechanism; /* a literal */
};

static void
on_decided(struct auth_login *login)
{
    struct pending *pending = container_of(login, struct pending, login);
    struct conn *c = idmap_find(&pending->amqp->connections, pending->connection);
    struct view user = view_str(pending->user);
    struct err err = {0};

    if (c != NULL && c->state == CONN_AWAIT_LOGIN) {
        conn_unpause(c, PAUSE_LOGIN);
        if (login->result == AUTH_ADMITTED)
            admit(c, user, login->number);
        else if (!refuse_login(c, true, user, pending->mechanism, login->why, &err))
            conn_fail(c, NULL, &err);
    }
    free(pending->user);
    free(pending);
}

static struct auth_login
login_of(const struct conn *c)
{
    return (struct auth_login){
        .worker = c->amqp->worker,
        .decided = on_decided,
        .is_loopback = transport_peer_is_loopback(c->transport),
        .peer = transport_peer(c->transport),
    };
}

static bool
login_by_password(struct conn *c, struct view user, struct view password, struct view mechanism,
                  struct err *err)
{
    struct pending *pending = mem_new(struct pending);
    enum auth_result result;
    bool ok = true;

    pending->login = login_of(c);
    pending->amqp = c->amqp;
    pending->connection = c->id;
    pending->mechanism = mechanism;
    pending->user = view_dup(user);
    result = auth_login(c->amqp->settings->auth, &pending->login, user, password);
    if (result == AUTH_LATER) {
        conn_enter(c, CONN_AWAIT_LOGIN);
        conn_pause(c, PAUSE_LOGIN);
        return true;
    }
    if (result == AUTH_ADMITTED)
        admit(c, user, pending->login.number);
    else
        ok = refuse_login(c, true, user, mechanism, pending->login.why, err);
    free(pending->user);
    free(pending);
    return ok;
}

static bool
login_by_name(struct conn *c, struct view user, struct view mechanism, struct err *err)
{
    struct auth_login login = login_of(c);

    if (auth_login_as(c->amqp->settings->auth, &login, user) != AUTH_ADMITTED)
        return refuse_login(c, true, user, mechanism, login.why, err);
    admit(c, user, login.number);
    return true;
}

/* --- mechanisms ------------------------------------------------------------------------ */

/* Who the peer's certificate, which TLS has verified, says it is. */
static bool
certificate_name(const struct conn *c, char *out, size_t size)
{
    static const enum tls_name names[] = {
        [AMQP_CERTIFICATE_COMMON_NAME] = TLS_NAME_COMMON,
        [AMQP_CERTIFICATE_DISTINGUISHED_NAME] = TLS_NAME_DISTINGUISHED,
        [AMQP_CERTIFICATE_DNS] = TLS_NAME_DNS,
        [AMQP_CERTIFICATE_EMAIL] = TLS_NAME_EMAIL,
    };
    enum amqp_certificate which = c->amqp->settings->certificate_name;

    return which != AMQP_CERTIFICATE_NONE && transport_is_tls(c->transport) &&
           transport_peer_name(c->transport, names[which], 0, out, size);
}

static bool
is_always_offered(const struct conn *c)
{
    (void)c;
    return true;
}

static bool
is_external_offered(const struct conn *c)
{
    return c->amqp->settings->certificate_name != AMQP_CERTIFICATE_NONE &&
           transport_is_tls(c->transport);
}

static bool
is_anonymous_offered(const struct conn *c)
{
    return c->amqp->settings->anonymous_user[0] != '\0';
}

static bool
start_plain(struct conn *c, struct view response, struct view mechanism, struct err *err)
{
    struct view user = {0}, password = {0};

    return sasl_plain(response, &user, &password)
               ? login_by_password(c, user, password, mechanism, err)
               : refuse_login(c, true, user, mechanism, "a malformed response", err);
}

static bool
start_amqplain(struct conn *c, struct view response, struct view mechanism, struct err *err)
{
    struct view user = {0}, password = {0};

    return sasl_amqplain(response, &user, &password)
               ? login_by_password(c, user, password, mechanism, err)
               : refuse_login(c, true, user, mechanism, "a malformed response", err);
}

/* What the response asks for is not looked at, as with RabbitMQ. */
static bool
start_external(struct conn *c, struct view response, struct view mechanism, struct err *err)
{
    char name[512];

    (void)response;
    return certificate_name(c, name, sizeof(name))
               ? login_by_name(c, view_str(name), mechanism, err)
               : refuse_login(c, true, VIEW_LIT(""), mechanism,
                              "no such name in a certificate of the client", err);
}

static bool
start_anonymous(struct conn *c, struct view response, struct view mechanism, struct err *err)
{
    (void)response;
    return login_by_name(c, view_str(c->amqp->settings->anonymous_user), mechanism, err);
}

static const struct mechanism {
    const char *name;
    bool (*is_offered)(const struct conn *c);
    bool (*start)(struct conn *c, struct view response, struct view mechanism, struct err *err);
} mechanisms[] = {
    {"PLAIN", is_always_offered, start_plain},
    {"AMQPLAIN", is_always_offered, start_amqplain},
    {"EXTERNAL", is_external_offered, start_external},
    {"ANONYMOUS", is_anonymous_offered, start_anonymous},
};

enum { MECHANISMS = sizeof(mechanisms) / sizeof(mechanisms[0]) };

static void
list_mechanisms(const struct conn *c, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < MECHANISMS && n < size; i++)
        if (mechanisms[i].is_offered(c))
            n += (size_t)snprintf(out + n, size - n, "%s%s", n > 0 ? " " : "", mechanisms[i].name);
}

void
conn_start(struct conn *c)
{
    char offered[64];

    list_mechanisms(c, offered, sizeof(offered));
    conn_send(c, 0, METHOD_connection_start,
              &(struct connection_start){
                  .version_major = 0,
                  .version_minor = 9,
                  .server_properties = buf_view(&c->amqp->server_properties),
                  .mechanisms = view_str(offered),
                  .locales = VIEW_LIT("en_US"),
              });
    conn_enter(c, CONN_AWAIT_START_OK);
}

bool
conn_handle_start_ok(struct conn *c, const struct connection_start_ok *args, struct err *err)
{
    read_capabilities(c, args->client_properties);
    for (size_t i = 0; i < MECHANISMS; i++)
        if (view_equal(args->mechanism, view_str(mechanisms[i].name)) &&
            mechanisms[i].is_offered(c))
            return mechanisms[i].start(c, args->response, view_str(mechanisms[i].name), err);
    return refuse_login(c, false, VIEW_LIT(""), args->mechanism, "not offered", err);
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
    if (!access_vhost(c, vhost, err))
        return false;
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
