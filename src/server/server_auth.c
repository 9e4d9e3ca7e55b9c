/* server_auth: the section "auth", and the user of the first start. */
#include "server_priv.h"

#include "lepus/base/log.h"

void
server_take_auth(struct server *server)
{
    const struct config *config = &server->config;
    struct auth_settings settings = {
        .max_failures = config->auth.max_failures,
        .failure_window_ms = config->auth.failure_window_s * 1000,
    };

    snprintf(settings.loopback_users, sizeof(settings.loopback_users), "%s",
             config->auth.loopback_users);
    auth_configure(server->auth, &settings);
}

/* On whatever thread changes a permission. */
static void
on_change(void *arg)
{
    topology_outdate_routes(arg);
}

bool
server_open_auth(struct server *server, struct err *err)
{
    server->auth = auth_open(server->metadata, err);
    if (server->auth == NULL)
        return err_wrap(err, "users");
    auth_on_change(server->auth, on_change, server->topology);
    server_take_auth(server);
    server->settings.auth = server->auth;
    server->settings.anonymous_user = server->config.auth.anonymous_user;
    server->settings.certificate_name = server->config.auth.certificate_name;
    return true;
}

static bool
is_loopback(const struct address *address)
{
    return strncmp(address->host, "127.", 4) == 0 || strcmp(address->host, "::1") == 0 ||
           strcmp(address->host, "localhost") == 0;
}

static bool
is_heard_from_afar(const struct address_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!is_loopback(&list->at[i]))
            return true;
    return false;
}

/* Everybody knows this password. */
static void
warn_of_guest(const struct server *server)
{
    const struct config *config = &server->config;

    if (strcmp(config->broker.default_pass, "guest") == 0 &&
        (is_heard_from_afar(&config->amqp.listen) || is_heard_from_afar(&config->amqp.tls_listen)))
        log_warn(NULL,
                 "user '%s' has the password that everybody knows, and not only this machine can "
                 "connect: change it, or see auth.loopback_users",
                 config->broker.default_user);
}

bool
server_make_first_user(struct server *server, struct err *err)
{
    const struct config *config = &server->config;
    struct vhost *vhost = topology_find_vhost(server->topology, VIEW_LIT("/"));
    bool is_made;

    if (vhost == NULL) /* somebody wanted it so */
        return true;
    if (!auth_make_first_user(server->auth, view_str(config->broker.default_user),
                              view_str(config->broker.default_pass), vhost_id(vhost), &is_made,
                              err))
        return err_wrap(err, "broker.default_user");
    if (!is_made)
        return true;
    log_info(NULL, "the first start: user '%s' may do everything", config->broker.default_user);
    warn_of_guest(server);
    return metadata_commit(server->metadata, err);
}
