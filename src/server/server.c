/*
 * server: start and stop order.
 *
 *   start   data directory; metadata; topology; users; definitions.json; workers, each with
 *           its post, home and connections; messages that a former run left; listeners, as root if
 *           need be; privileges dropped; threads; ready
 *   stop    every connection is sent close 320 and new ones are dropped; when all have gone, or
 *           after STOP_WAIT_MS, the threads end, the metadata's writer last; then everything is
 *           freed in the reverse order
 *
 * The main thread owns nothing that a worker touches: it waits for signals, looks at the disk and
 * at the alarms once a second, and speaks to the workers by commands.
 */
#include "server_priv.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lepus/base/clock.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "privileges_priv.h"
#include "tls_load_priv.h"

enum {
    SHARDS_MIN = 4,
    STOP_WAIT_MS = 5000,
    STOP_LOOK_MS = 10,
    COMPLAIN_MS = 60 * 1000,
};

/* --- start ----------------------------------------------------------------------------- */

static void
take_settings(struct server *server)
{
    const struct config *config = &server->config;
    struct amqp_settings *settings = &server->settings;

    settings->product = config->broker.product;
    settings->version = config->broker.version;
    settings->cluster_name = config->broker.cluster_name;
    settings->lepus_version = LEPUS_VERSION;
    settings->proxied = config->amqp.proxy_protocol == PROXY_PROTOCOL_V2;
}

static void
take_live_settings(struct server *server)
{
    const struct config *config = &server->config;

    atomic_store(&server->settings.frame_max, config->amqp.frame_max);
    atomic_store(&server->settings.initial_frame_max, config->amqp.initial_frame_max);
    atomic_store(&server->settings.channel_max, (uint16_t)config->amqp.channel_max);
    atomic_store(&server->settings.heartbeat_s, (uint16_t)config->amqp.heartbeat_s);
    atomic_store(&server->settings.handshake_timeout_ms, config->amqp.handshake_timeout_ms);
    atomic_store(&server->settings.overdue_action, (uint8_t)config->amqp.consumer_timeout_action);
    atomic_store(&server->settings.max_message_size, config->amqp.max_message_size);
}

/* Once a minute: those who are turned away come again. */
static void
tell_of_sockets(struct server *server)
{
    uint64_t now = clock_now_ms();

    if (now < server->tell_of_sockets_at_ms)
        return;
    server->tell_of_sockets_at_ms = now + COMPLAIN_MS;
    log_error(NULL, "%u sockets, as many as may be: turning connections away",
              atomic_load(&limits_settings(topology_limits(server->topology))->sockets));
}

/* On worker 0: the sockets go to all workers in turn. */
static void
deal_out(struct server *server, int fd, bool is_tls)
{
    struct cmd_adopt cmd = {.head.kind = CMD_adopt, .fd = fd, .is_tls = is_tls};

    if (!limits_take_socket(topology_limits(server->topology))) {
        close(fd);
        tell_of_sockets(server);
        return;
    }
    post_send(&server->posts[0], server->next_worker, &cmd.head);
    server->next_worker = (server->next_worker + 1) % server->n_workers;
}

static void
on_accept(void *arg, int fd)
{
    deal_out(arg, fd, false);
}

static void
on_accept_tls(void *arg, int fd)
{
    deal_out(arg, fd, true);
}

static bool
listen_on(struct server *server, const struct address_list *list, struct listeners *out,
          listener_accept_fn *accept, struct err *err)
{
    for (; out->count < list->count; out->count++) {
        const struct address *address = &list->at[out->count];

        out->at[out->count] =
            listener_new(worker_set_get(server->workers, 0), address->host, address->port,
                         (int)server->config.amqp.backlog, accept, server, err);
        if (out->at[out->count] == NULL)
            return false;
    }
    return true;
}

static bool
make_listeners(struct server *server, struct err *err)
{
    if (!listen_on(server, &server->config.amqp.listen, &server->plain, on_accept, err))
        return err_wrap(err, "amqp.listen");
    if (!listen_on(server, &server->config.amqp.tls_listen, &server->secure, on_accept_tls, err))
        return err_wrap(err, "amqp.tls_listen");
    return true;
}

static bool
make_tls(struct server *server, struct err *err)
{
    struct tls_context *context;

    if (server->config.amqp.tls_listen.count == 0)
        return true;
    context = tls_load(&server->config, err);
    if (context == NULL)
        return false;
    server->settings.tls = server->tls = tls_shelf_new(context);
    return true;
}

bool
server_check(const struct config *config, struct err *err)
{
    struct tls_context *context;

    if (config->amqp.tls_listen.count == 0 && config->tls.certificate[0] == '\0')
        return true;
    context = tls_load(config, err);
    if (context == NULL)
        return false;
    tls_context_unref(&context);
    return true;
}

static unsigned
count_cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

/* On the metadata's thread. */
static void
on_metadata_trouble(void *arg, const struct err *why)
{
    server_set_alarm(arg, ALARM_METADATA, why != NULL);
    if (why != NULL)
        log_error(NULL, "definitions cannot be written, and are not confirmed: %s", why->text);
    else
        log_info(NULL, "definitions are written again");
}

static bool
open_data_dir(struct server *server, struct err *err)
{
    static const struct metadata_ops ops = {.trouble = on_metadata_trouble};
    const char *path = server->config.broker.data_dir;
    unsigned cores = count_cores();
    unsigned shards = server->n_workers > cores ? server->n_workers : cores;

    if (!data_dir_open(&server->data_dir, path, &file_posix,
                       shards > SHARDS_MIN ? shards : SHARDS_MIN, err))
        return err_wrap(err, "broker.data_dir");
    server->metadata = metadata_open(path, METADATA_WRITE, err);
    if (server->metadata == NULL)
        return err_wrap(err, "broker.data_dir");
    metadata_set_ops(server->metadata, &ops, server);
    return true;
}

static bool
load_definitions(struct server *server, struct err *err)
{
    struct topology_counts counts;
    uint64_t began_ms = clock_now_ms();

    server->topology =
        topology_open(server->data_dir.shards, server->n_workers, server->metadata, err);
    if (server->topology == NULL)
        return err_wrap(err, "definitions");
    server_take_limits(server);
    policies_set_merge(server->topology, server->config.broker.policy_merge);
    topology_count(server->topology, &counts);
    log_info(NULL, "%zu exchanges, %zu queues, %zu bindings in %llu ms; term %llu",
             counts.exchanges, counts.queues, counts.bindings,
             (unsigned long long)(clock_now_ms() - began_ms),
             (unsigned long long)server->data_dir.term);
    return true;
}

static bool
make_signals(struct server *server, struct err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    server->signals = signalfd(-1, &set, SFD_CLOEXEC);
    return server->signals >= 0 || err_set(err, INTERNAL_ERROR, "signalfd: %s", strerror(errno));
}

static bool
make_workers(struct server *server, struct err *err)
{
    server->workers = worker_set_new(server->n_workers, err);
    if (server->workers == NULL)
        return false;
    for (unsigned i = 0; i < server->n_workers; i++)
        post_init(&server->posts[i], worker_set_get(server->workers, i));
    if (!server_make_homes(server, err))
        return false;
    policies_listen(server->topology, server_on_policies, server);
    for (unsigned i = 0; i < server->n_workers; i++) {
        server->amqps[i] = amqp_new(&server->posts[i], server->topology, &server->settings);
        amqp_committed(server->amqps[i], metadata_committed(server->metadata));
        metadata_listen(server->metadata, server->posts[i].worker, amqp_committed,
                        server->amqps[i]);
    }
    return true;
}

struct server *
server_new(const struct config *config, struct err *err)
{
    struct server *server = mem_new(struct server);

    server->config = *config;
    server->signals = -1;
    server->n_workers = config->broker.workers != 0 ? config->broker.workers : count_cores();
    take_settings(server);
    take_live_settings(server);
    server_raise_descriptors();
    if (make_signals(server, err) && privileges_lower(config, err) && open_data_dir(server, err) &&
        load_definitions(server, err) && server_open_auth(server, err) &&
        server_make_definitions(server, err) && server_make_first_user(server, err) &&
        make_tls(server, err) && make_workers(server, err) && privileges_raise(config, err) &&
        make_listeners(server, err) && privileges_drop(config, err))
        return server;
    server_free(server);
    return NULL;
}

void
server_on_reload(struct server *server, server_reload *reload, void *arg)
{
    server->reload = reload;
    server->reload_arg = arg;
}

/* --- running --------------------------------------------------------------------------- */

void
server_order_all(struct server *server, enum server_order order, const char *reason)
{
    struct cmd_order cmd = {.head.kind = CMD_order, .order = order, .reason = view_str(reason)};

    for (unsigned i = 0; i < server->n_workers; i++)
        post_from_outside(worker_set_get(server->workers, i), &cmd.head);
}

static void
print_addresses(const char *name, const struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->count; i++)
        printf("%s%s", i > 0 ? "," : name, listener_address(listeners->at[i]));
}

static void
print_ready(const struct server *server)
{
    printf("ready");
    print_addresses(" amqp=", &server->plain);
    print_addresses(" amqps=", &server->secure);
    printf(" pid=%ld\n", (long)getpid());
    fflush(stdout);
}

/* Always, since the files may have changed where the settings have not. Connections that exist are
 * not touched. */
static void
reload_tls(struct server *server)
{
    struct tls_context *context;
    struct err err;

    if (server->tls == NULL)
        return;
    context = tls_load(&server->config, &err);
    if (context == NULL) {
        log_error(NULL, "TLS not reloaded: the old certificates are kept: %s", err.text);
        return;
    }
    log_info(NULL, "TLS reloaded");
    tls_log_certificates(context);
    tls_shelf_put(server->tls, context);
}

static void
reload(struct server *server)
{
    struct config fresh;
    struct err err;

    if (server->reload == NULL || !server->reload(server->reload_arg, &fresh, &err))
        return;
    config_take_live(&server->config, &fresh);
    take_live_settings(server);
    server_take_auth(server);
    server_take_limits(server);
    policies_set_merge(server->topology, server->config.broker.policy_merge);
    server_reload_homes(server);
    reload_tls(server);
    server_reload_definitions(server);
}

/* Until SIGTERM or SIGINT. */
static void
wait_for_the_end(struct server *server)
{
    for (;;) {
        struct pollfd wait = {.fd = server->signals, .events = POLLIN};
        struct signalfd_siginfo signal;

        server_look_at_alarms(server);
        server_look_at_import(server);
        if (poll(&wait, 1, server_look_again_ms(server)) <= 0 ||
            read(server->signals, &signal, sizeof(signal)) != (ssize_t)sizeof(signal))
            continue;
        if (signal.ssi_signo != SIGHUP) {
            log_info(NULL, "signal %u: stopping", signal.ssi_signo);
            return;
        }
        reload(server);
    }
}

static unsigned
count_connections(const struct server *server)
{
    unsigned n = 0;

    for (unsigned i = 0; i < server->n_workers; i++)
        n += amqp_connection_count(server->amqps[i]);
    return n;
}

/* The workers have stopped. What it still tells them is heard while there is somebody to hear. */
static void
stop_metadata(struct server *server)
{
    struct err err;

    if (!metadata_stop(server->metadata, &err))
        log_error(NULL, "%s; nobody was told that they were", err.text);
    for (unsigned i = 0; i < server->n_workers; i++)
        worker_run_calls(worker_set_get(server->workers, i));
}

static void
stop(struct server *server)
{
    uint64_t until = clock_now_ms() + STOP_WAIT_MS;

    server_order_all(server, ORDER_STOP, "");
    while (count_connections(server) > 0 && clock_now_ms() < until)
        poll(NULL, 0, STOP_LOOK_MS);
    server_end_import(server);
    worker_set_stop(server->workers);
    auth_stop(server->auth);
    server_stop_homes(server);
    server->is_running = false;
    stop_metadata(server);
}

int
server_run(struct server *server)
{
    struct err err;

    if (!metadata_start(server->metadata, &err)) {
        log_error(NULL, "%s", err.text);
        return EXIT_FAILURE;
    }
    if (!auth_start(server->auth, &err) || !server_start_homes(server, &err) ||
        !worker_set_start(server->workers, &err)) {
        auth_stop(server->auth);
        stop_metadata(server);
        log_error(NULL, "%s", err.text);
        return EXIT_FAILURE;
    }
    server->is_running = true;
    log_info(NULL, "lepusd %s, %u workers", LEPUS_VERSION, server->n_workers);
    if (server->tls != NULL) {
        struct tls_context *context = tls_shelf_get(server->tls);

        tls_log_certificates(context);
        tls_context_unref(&context);
    }
    print_ready(server);
    wait_for_the_end(server);
    stop(server);
    log_info(NULL, "stopped");
    return EXIT_SUCCESS;
}

void
server_free(struct server *server)
{
    if (server == NULL)
        return;
    for (size_t i = 0; i < server->plain.count; i++)
        listener_free(server->plain.at[i]);
    for (size_t i = 0; i < server->secure.count; i++)
        listener_free(server->secure.at[i]);
    recovery_free(server->recovery);
    for (unsigned i = 0; i < server->n_workers; i++) {
        amqp_free(server->amqps[i]);
        home_free(server->homes[i]);
    }
    if (server->workers != NULL)
        worker_set_free(server->workers);
    definitions_free(server->definitions);
    auth_free(server->auth);
    topology_free(server->topology);
    metadata_close(server->metadata);
    data_dir_close(&server->data_dir);
    tls_shelf_free(server->tls);
    if (server->signals >= 0)
        close(server->signals);
    free(server);
}
