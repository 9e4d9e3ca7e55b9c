/*
 * The INI reader and every type of value: the input is a file, and its first line is an option and
 * a variable of the environment as well.
 *
 * What must hold: a load either tells an error or succeeds, never both; nothing that is told could
 * steer a terminal; what was loaded has its strings ended and its bounds kept; and loading it again
 * gives the same bytes.
 */
#include <assert.h>
#include <ctype.h>

#include "lepus/base/mem.h"
#include "lepus/server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static void
on_told(void *arg, enum config_notice notice, const char *line)
{
    *(unsigned *)arg += notice == CONFIG_ERROR;
    assert(line[0] != '\0');
    for (; *line != '\0'; line++)
        assert(!iscntrl((unsigned char)*line));
}

static void
check_addresses(const struct address_list *list)
{
    assert(list->count <= CONFIG_ADDRESSES_MAX);
    for (size_t i = 0; i < list->count; i++) {
        size_t n = strnlen(list->at[i].host, sizeof(list->at[i].host));
        assert(n > 0 && n < sizeof(list->at[i].host));
    }
}

static void
check_string(const char *string, size_t size)
{
    assert(memchr(string, '\0', size) != NULL);
    assert(view_is_utf8(view_str(string)));
}

static void
check(const struct config *config)
{
    check_string(config->broker.data_dir, sizeof(config->broker.data_dir));
    check_string(config->broker.default_user, sizeof(config->broker.default_user));
    check_string(config->broker.default_pass, sizeof(config->broker.default_pass));
    check_string(config->broker.cluster_name, sizeof(config->broker.cluster_name));
    check_string(config->management.socket, sizeof(config->management.socket));
    assert(config->broker.workers <= 64);
    assert(config->amqp.heartbeat_s <= 65535 && config->amqp.channel_max <= 65535);
    assert(config->amqp.frame_max == 0 || config->amqp.frame_max >= 4096);
    assert(config->amqp.max_message_size <= 512 * 1024 * 1024);
    assert(config->log.level <= LOG_DEBUG && config->log.format <= LOG_JSON);
    assert(config->store.disk_free_limit.percent <= 100);
    check_addresses(&config->amqp.listen);
    check_addresses(&config->amqp.tls_listen);
    check_addresses(&config->management.listen);
    check_addresses(&config->prometheus.listen);
}

static void
on_changed(void *arg, const char *key, bool is_live)
{
    *(unsigned *)arg += key[0] != '\0' && is_live;
}

static bool
load(const struct config_sources *from, struct config *out)
{
    unsigned errors = 0, changes = 0;
    bool is_good = config_load(from, out, on_told, &errors);
    struct config defaults;

    assert(is_good == (errors == 0));
    if (!is_good)
        return false;
    check(out);
    config_defaults(&defaults);
    config_reload_diff(&defaults, out, on_changed, &changes);
    config_take_live(&defaults, out);
    return true;
}

static void
load_file(const uint8_t *at, size_t size)
{
    struct config_sources from = {.text = size > 0 ? (const char *)at : "", .text_len = size};
    struct config once, twice;

    if (!load(&from, &once))
        return;
    assert(load(&from, &twice));
    assert(memcmp(&once, &twice, sizeof(once)) == 0);
}

static void
load_line(const uint8_t *at, size_t size)
{
    const uint8_t *newline = size > 0 ? memchr(at, '\n', size) : NULL;
    char *line = view_dup(view_of(at, newline != NULL ? (size_t)(newline - at) : size));
    const char *lines[] = {line, NULL};
    struct config config;

    load(&(struct config_sources){.options = lines}, &config);
    load(&(struct config_sources){.environment = lines}, &config);
    free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    load_file(at, size);
    load_line(at, size);
    return 0;
}
