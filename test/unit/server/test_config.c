#include "unit.h"

#include "lepus/base/buf.h"
#include "lepus/server/config.h"

/* What a load told, a line each, warnings marked. */
struct told {
    struct buf text;
};

/* Of the names of keys and sections only the first, so that a new one changes no text here. */
static void
append_shortened(struct buf *to, const char *line)
{
    const char *end = strstr(line, ", found an unknown"), *list = strstr(line, "expected one of ");
    const char *comma = end != NULL && list != NULL ? strchr(list, ',') : NULL;

    if (comma == NULL || comma >= end) {
        buf_append(to, line, strlen(line));
        return;
    }
    buf_append(to, line, (size_t)(comma - line));
    buf_append(to, ", ...", 5);
    buf_append(to, end, strlen(end));
}

static void
on_told(void *arg, enum config_notice notice, const char *line)
{
    struct told *told = arg;

    if (notice == CONFIG_WARNING)
        buf_append(&told->text, "warning: ", 9);
    append_shortened(&told->text, line);
    buf_u8(&told->text, '\n');
}

static bool
load(const char *text, const char *const *environment, const char *const *options,
     struct config *out, struct told *told)
{
    struct config_sources from = {
        .path = "f.ini",
        .text = text,
        .text_len = strlen(text),
        .environment = environment,
        .options = options,
    };
    bool is_good;

    buf_init(&told->text, 1 << 20);
    is_good = config_load(&from, out, on_told, told);
    buf_u8(&told->text, '\0');
    return is_good;
}

/* Good, with these warnings. */
static void
assert_loads(const char *text, const char *const *environment, const char *const *options,
             const char *warnings, struct config *out)
{
    struct told told;

    if (!load(text, environment, options, out, &told))
        fail_msg("%s", (const char *)told.text.at);
    assert_string_equal((const char *)told.text.at, warnings);
    buf_fini(&told.text);
}

/* Refused, with these errors and *out as it was. */
static void
assert_refused(const char *text, const char *const *environment, const char *const *options,
               const char *errors)
{
    struct config before, out;
    struct told told;

    memset(&before, 0x5a, sizeof(before));
    out = before;
    assert_false(load(text, environment, options, &out, &told));
    assert_string_equal((const char *)told.text.at, errors);
    assert_memory_equal(&before, &out, sizeof(out));
    buf_fini(&told.text);
}

static void
defaults_are_those_promised(void **state)
{
    struct config config, loaded;

    (void)state;
    config_defaults(&config);
    assert_string_equal(config.broker.data_dir, "./var");
    assert_int_equal(config.broker.workers, 0);
    assert_string_equal(config.broker.default_user, "guest");
    assert_string_equal(config.broker.default_pass, "guest");
    assert_string_equal(config.broker.product, "RabbitMQ");
    assert_string_equal(config.broker.version, "3.13.7");
    assert_memory_equal(config.broker.cluster_name, "lepus@", 6);
    assert_true(strlen(config.broker.cluster_name) > 6);
    assert_int_equal(config.amqp.listen.count, 1);
    assert_string_equal(config.amqp.listen.at[0].host, "127.0.0.1");
    assert_int_equal(config.amqp.listen.at[0].port, 5672);
    assert_int_equal(config.amqp.tls_listen.count, 0);
    assert_int_equal(config.amqp.heartbeat_s, 60);
    assert_int_equal(config.amqp.frame_max, 131072);
    assert_int_equal(config.amqp.initial_frame_max, 65536);
    assert_int_equal(config.amqp.channel_max, 2047);
    assert_int_equal(config.amqp.max_message_size, 134217728);
    assert_int_equal(config.amqp.handshake_timeout_ms, 10000);
    assert_int_equal(config.amqp.backlog, 1024);
    assert_int_equal(config.log.level, LOG_INFO);
    assert_int_equal(config.log.format, LOG_TEXT);
    assert_int_equal(config.store.sync.mode, SYNC_ALWAYS);
    assert_true(config.store.disk_free_limit.bytes == 50000000);
    assert_int_equal(config.management.listen.count, 0);
    assert_string_equal(config.management.socket, "");
    assert_int_equal(config.prometheus.listen.count, 0);
    assert_loads("", NULL, NULL, "", &loaded);
    assert_memory_equal(&config, &loaded, sizeof(config));
}

/* The rows' words against the enums they are the names of. */
static void
choices_have_the_order_of_their_enums(void **state)
{
    struct config config;

    (void)state;
#define L(name, NAME)                                                                              \
    assert_loads("[log]\nlevel=" #name "\n", NULL, NULL, "", &config);                             \
    assert_int_equal(config.log.level, LOG_##NAME);
    LOG_LEVELS(L)
#undef L
    assert_loads("[log]\nformat=json\n", NULL, NULL, "", &config);
    assert_int_equal(config.log.format, LOG_JSON);
    assert_loads("[log]\nformat=text\n", NULL, NULL, "", &config);
    assert_int_equal(config.log.format, LOG_TEXT);
}

static void
file_forms(void **state)
{
    struct config config;

    (void)state;
    assert_loads("\xef\xbb\xbf# a comment\r\n"
                 "; another, of more than two hundred bytes, which is more than a line may have:"
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
                 "\n"
                 "[amqp]   ; behind a section\r\n"
                 "heartbeat=5\r\n"
                 "  channel_max : 7 ; behind a value\n"
                 "\tbacklog\t=\t9\n"
                 "[broker]\n"
                 "default_pass = a=b;c#d:e\n"
                 "[amqp]\n"
                 "frame_max=0",
                 NULL, NULL, "", &config);
    assert_int_equal(config.amqp.heartbeat_s, 5);
    assert_int_equal(config.amqp.channel_max, 7);
    assert_int_equal(config.amqp.backlog, 9);
    assert_string_equal(config.broker.default_pass, "a=b;c#d:e");
    assert_int_equal(config.amqp.frame_max, 0);
}

static void
every_error_is_told_with_its_line(void **state)
{
    (void)state;
    assert_refused(
        "heartbeat = 1\n"
        "[amqp]\n"
        "heartbeat = -1\n"
        "heartbeat = 2\n"
        "\n"
        "nonsense\n"
        "[log\n"
        "level = passed over\n"
        "[log]\n"
        "level = loud\n"
        "level = loud\n"
        "colour = red\n"
        "[logs]\n"
        "level = passed over\n"
        "[log] format = json\n"
        "[broker]\n"
        "default_pass =\n"
        "=5\n"
        "workers = 65",
        NULL, NULL,
        "f.ini:1: heartbeat: expected a [section] above it, found none\n"
        "f.ini:3: amqp.heartbeat: expected a duration in whole seconds from 0s to "
        "65535s, found '-1'\n"
        "f.ini:4: amqp.heartbeat: expected once, found again (first in line 3)\n"
        "f.ini:6: expected key = value, found neither that nor a [section]\n"
        "f.ini:7: expected ']' at the end of a section's name, found none\n"
        "f.ini:10: log.level: expected one of error, warn, info, debug, found 'loud'\n"
        "f.ini:11: log.level: expected once, found again (first in line 10)\n"
        "f.ini:12: log.colour: expected one of level, ..., found an unknown key\n"
        "f.ini:13: [logs]: expected one of the sections broker, ..., found an unknown one\n"
        "f.ini:15: [log]: expected the end of the line behind it, found more\n"
        "f.ini:17: broker.default_pass: expected text of 1 to 255 bytes, found 0 bytes\n"
        "f.ini:18: broker.: expected one of data_dir, ..., found an unknown key\n"
        "f.ini:19: broker.workers: expected a whole number from 0 to 64, found '65'\n");
}

static void
last_line_may_be_the_bad_one(void **state)
{
    (void)state;
    assert_refused("[amqp]\nnonsense", NULL, NULL,
                   "f.ini:2: expected key = value, found neither that nor a [section]\n");
    assert_refused("[", NULL, NULL,
                   "f.ini:1: expected ']' at the end of a section's name, found none\n");
    assert_refused("[]", NULL, NULL,
                   "f.ini:1: []: expected one of the sections broker, ..., found an unknown one\n");
}

static void
file_names_the_section_without_keys(void **state)
{
    (void)state;
    assert_refused(
        "[ampq]\n\n[amqp]\n", NULL, NULL,
        "f.ini:1: [ampq]: expected one of the sections broker, ..., found an unknown one\n");
}

static void
long_line_is_refused_whole(void **state)
{
    char text[600] = "[broker]\ndata_dir = ";
    struct config config;

    (void)state;
    memset(text + strlen(text), 'd', 180); /* with the key a little below 200 bytes */
    assert_loads(text, NULL, NULL, "", &config);
    assert_int_equal(strlen(config.broker.data_dir), 180);
    memset(text + strlen(text), 'd', 200);
    snprintf(text + strlen(text), 30, "\nworkers = 5\nx = 1\n");
    assert_refused(text, NULL, NULL,
                   "f.ini:2: expected a line of at most 198 bytes, found 391\n"
                   "f.ini:4: broker.x: expected one of data_dir, ..., found an unknown key\n");
}

static void
zero_byte_is_refused(void **state)
{
    static const char text[] = "[amqp]\nheartbeat = 1\0"
                               "2\n";
    struct config_sources from = {.path = "f.ini", .text = text, .text_len = sizeof(text) - 1};
    struct told told;
    struct config config;

    (void)state;
    buf_init(&told.text, 4096);
    assert_false(config_load(&from, &config, on_told, &told));
    buf_u8(&told.text, '\0');
    assert_string_equal((const char *)told.text.at, "f.ini:2: expected text, found a zero byte\n");
    buf_fini(&told.text);
}

static void
file_that_is_not_there_is_an_error(void **state)
{
    struct config_sources from = {.path = "/nonexistent/x.ini"};
    struct told told;
    struct config config;

    (void)state;
    buf_init(&told.text, 4096);
    assert_false(config_load(&from, &config, on_told, &told));
    buf_u8(&told.text, '\0');
    assert_string_equal((const char *)told.text.at,
                        "/nonexistent/x.ini: cannot be opened: No such file or directory\n");
    buf_fini(&told.text);
}

static void
options_go_before_environment_before_file(void **state)
{
    static const char *const environment[] = {"LEPUS_AMQP_HEARTBEAT=20", "LEPUS_AMQP_BACKLOG=21",
                                              "LEPUS_BROKER_DEFAULT_USER=joe=x", NULL};
    static const char *const options[] = {"amqp.heartbeat=30", "amqp.heartbeat=31", NULL};
    struct config config;

    (void)state;
    assert_loads("[amqp]\nheartbeat=10\nbacklog=11\nchannel_max=12\n", environment, options, "",
                 &config);
    assert_int_equal(config.amqp.heartbeat_s, 31);
    assert_int_equal(config.amqp.backlog, 21);
    assert_int_equal(config.amqp.channel_max, 12);
    assert_string_equal(config.broker.default_user, "joe=x");
}

static void
errors_of_the_file_count_though_overridden(void **state)
{
    static const char *const options[] = {"amqp.heartbeat=30", NULL};

    (void)state;
    assert_refused("[amqp]\nheartbeat=x\n", NULL, options,
                   "f.ini:2: amqp.heartbeat: expected a duration in whole seconds from 0s to "
                   "65535s, found 'x'\n");
}

static void
environment_names_are_checked_where_the_section_is_ours(void **state)
{
    static const char *const others[] = {"LEPUS_HOST=x",
                                         "LEPUS_PORT=1",
                                         "LEPUS_URL=x",
                                         "LEPUS_PID=1",
                                         "LEPUS_JOB=1",
                                         "LEPUS_=1",
                                         "LEPUS_AMQP=1",
                                         "LEPUS_LOGGER=1",
                                         "LEPUS",
                                         "lepus_amqp_x",
                                         "PATH=x",
                                         "=",
                                         "LEPUS_amqp_heartbeat=x",
                                         "XLEPUS_AMQP_X=1",
                                         NULL};
    static const char *const ours[] = {"LEPUS_LOG_COLOUR=x", "LEPUS_LOG_=x", "LEPUS_LOG_LEVEL=loud",
                                       "LEPUS_STORE_SYNC_=always", NULL};
    struct config config;

    (void)state;
    assert_loads("", others, NULL, "", &config);
    assert_refused(
        "", ours, NULL,
        "LEPUS_LOG_COLOUR: expected the name of one of log's keys level, format, found an unknown "
        "one\n"
        "LEPUS_LOG_: expected the name of one of log's keys level, format, found an unknown one\n"
        "LEPUS_LOG_LEVEL: log.level: expected one of error, warn, info, debug, found 'loud'\n"
        "LEPUS_STORE_SYNC_: expected the name of one of store's keys sync, journal_size, memory, "
        "disk_free_limit, found "
        "an unknown one\n");
}

static void
options_are_checked(void **state)
{
    static const char *const options[] = {
        "amqp.heartbeat",  "heartbeat=1",     "=", ".=", "log.x=1",
        "logs.level=info", "log.level=info=", NULL};

    (void)state;
    assert_refused(
        "", NULL, options,
        "-o: expected section.key=value, found 'amqp.heartbeat'\n"
        "-o: expected section.key=value, found 'heartbeat=1'\n"
        "-o: expected section.key=value, found '='\n"
        "-o: .: expected one of the sections broker, ..., found an unknown one\n"
        "-o: log.x: expected one of level, ..., found an unknown key\n"
        "-o: logs.level: expected one of the sections broker, ..., found an unknown one\n"
        "-o: log.level: expected one of error, warn, info, debug, found 'info='\n");
}

static void
keys_of_missing_parts_warn_when_they_ask_for_something(void **state)
{
    struct config config;

    (void)state;
    assert_loads("[store]\nsync = always\n"
                 "[management]\nlisten =\nsocket = /run/x\n[prometheus]\nlisten=a:1\n",
                 NULL, NULL,
                 "warning: management.socket is set, but this version has no management listener: "
                 "ignored\n"
                 "warning: prometheus.listen is set, but this version has no Prometheus listener: "
                 "ignored\n",
                 &config);
}

static void
collect_change(void *arg, const char *key, bool is_live)
{
    struct buf *text = arg;

    buf_append(text, key, strlen(key));
    buf_append(text, is_live ? " live\n" : " restart\n", is_live ? 6 : 9);
}

static void
reload_tells_what_differs_and_takes_what_may(void **state)
{
    struct config now, fresh, again;
    struct buf text;

    (void)state;
    assert_loads("", NULL, NULL, "", &now);
    assert_loads("[broker]\nworkers=3\ndata_dir=x\n[amqp]\nheartbeat=5\nmax_message_size=1M\n"
                 "listen=127.0.0.1:5673\n[log]\nlevel=debug\n[store]\ndisk_free_limit=5%\n",
                 NULL, NULL, "", &fresh);
    buf_init(&text, 4096);
    config_reload_diff(&now, &fresh, collect_change, &text);
    buf_u8(&text, '\0');
    assert_string_equal((const char *)text.at, "broker.data_dir restart\n"
                                               "broker.workers restart\n"
                                               "amqp.listen restart\n"
                                               "amqp.heartbeat live\n"
                                               "amqp.max_message_size live\n"
                                               "log.level live\n"
                                               "store.disk_free_limit live\n");
    again = now;
    config_take_live(&again, &fresh);
    assert_int_equal(again.amqp.heartbeat_s, 5);
    assert_int_equal(again.log.level, LOG_DEBUG);
    assert_int_equal(again.store.disk_free_limit.percent, 5);
    assert_int_equal(again.broker.workers, 0);
    assert_int_equal(again.amqp.listen.at[0].port, 5672);
    buf_clear(&text);
    config_reload_diff(&again, &fresh, collect_change, &text);
    buf_u8(&text, '\0');
    assert_string_equal((const char *)text.at, "broker.data_dir restart\n"
                                               "broker.workers restart\n"
                                               "amqp.listen restart\n");
    buf_fini(&text);
}

/* Loads what config_print_ini writes, with the semicolons before keys taken away. */
static void
printed_file_loads_as_the_defaults(void **state)
{
    struct config defaults, config;
    char text[65536];
    FILE *file = tmpfile();
    size_t n;

    (void)state;
    config_defaults(&defaults);
    config_print_ini(file);
    rewind(file);
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    assert_loads(text, NULL, NULL, "", &config);
    assert_memory_equal(&config, &defaults, sizeof(config));
    for (char *at = text; (at = strstr(at, "\n;")) != NULL; at++) {
        if (at[2] != ' ')
            at[1] = ' ';
    }
    assert_loads(text, NULL, NULL, "", &config);
    assert_memory_equal(&config, &defaults, sizeof(config));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_promised),
        cmocka_unit_test(choices_have_the_order_of_their_enums),
        cmocka_unit_test(file_forms),
        cmocka_unit_test(every_error_is_told_with_its_line),
        cmocka_unit_test(last_line_may_be_the_bad_one),
        cmocka_unit_test(file_names_the_section_without_keys),
        cmocka_unit_test(long_line_is_refused_whole),
        cmocka_unit_test(zero_byte_is_refused),
        cmocka_unit_test(file_that_is_not_there_is_an_error),
        cmocka_unit_test(options_go_before_environment_before_file),
        cmocka_unit_test(errors_of_the_file_count_though_overridden),
        cmocka_unit_test(environment_names_are_checked_where_the_section_is_ours),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(keys_of_missing_parts_warn_when_they_ask_for_something),
        cmocka_unit_test(reload_tells_what_differs_and_takes_what_may),
        cmocka_unit_test(printed_file_loads_as_the_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
