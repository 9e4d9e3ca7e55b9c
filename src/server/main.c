/*
 * lepusd: options, configuration, log; then the server until it ends.
 *
 * Exit status: 0 after an orderly stop, 1 when the broker could not start or an export is not
 * whole, 2 when the command line or the configuration is wrong.
 */
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lepus/base/buf.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"
#include "lepus/server/server.h"

enum { EXIT_WRONG = 2, OPTIONS_MAX = 256, WARNINGS_MAX = 64 * 1024 };

enum action { RUN, CHECK, EXPORT, PRINT_CONFIG, PRINT_HELP, PRINT_VERSION, COMPLAIN };

/* What the command line asked for, and the configuration in force. */
struct program {
    enum action action;
    struct config_sources sources;
    const char *overrides[OPTIONS_MAX + 1];
    struct config config;
    struct buf warnings; /* of the start, each with its NUL, until the log is set up */
};

static void
print_usage(FILE *out)
{
    fputs("usage: lepusd [-c FILE] [-o section.key=value]... [--check]\n"
          "       lepusd [-c FILE] [-o section.key=value]... --export-definitions\n"
          "       lepusd --version | --help | --print-config\n",
          out);
}

static void
print_help(void)
{
    print_usage(stdout);
    fputs("\n"
          "  -c, --config FILE   read the settings from this INI file\n"
          "  -o section.key=value\n"
          "                      set one; goes before the environment (LEPUS_SECTION_KEY=value),\n"
          "                      which goes before the file\n"
          "      --check         tell the mistakes in the settings, and stop\n"
          "      --export-definitions\n"
          "                      print what broker.data_dir defines as definitions.json (a\n"
          "                      broker may be running there), and stop\n"
          "      --print-config  print an INI file with every key, and stop\n"
          "      --version       print the version, and stop\n"
          "  -h, --help          print this, and stop\n"
          "\n"
          "SIGTERM and SIGINT stop the broker in order; SIGHUP makes it read its settings again.\n"
          "\n"
          "settings, with their defaults:\n",
          stdout);
    config_print_keys(stdout);
}

/* getopt_long has told what it does not know; false after anything wrong. */
static bool
read_options(struct program *program, int argc, char **argv)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"export-definitions", no_argument, NULL, 'e'},
        {"print-config", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    size_t overrides = 0;

    for (int option; (option = getopt_long(argc, argv, "c:o:h", longs, NULL)) != -1;) {
        switch (option) {
        case 'c':
            program->sources.path = optarg;
            break;
        case 'o':
            if (overrides == OPTIONS_MAX) {
                fprintf(stderr, "lepusd: more than %d times -o\n", OPTIONS_MAX);
                return false;
            }
            program->overrides[overrides++] = optarg;
            break;
        case 'k':
            program->action = CHECK;
            break;
        case 'e':
            program->action = EXPORT;
            break;
        case 'p':
            program->action = PRINT_CONFIG;
            break;
        case 'v':
            program->action = PRINT_VERSION;
            break;
        case 'h':
            program->action = PRINT_HELP;
            break;
        default:
            return false;
        }
    }
    if (optind < argc)
        fprintf(stderr, "lepusd: expected no argument, found '%s'\n", argv[optind]);
    return optind == argc;
}

/* Findings before the log is set up, and those of --check: plain lines. */
static void
tell_plainly(void *arg, enum config_notice notice, const char *line)
{
    (void)arg;
    fprintf(stderr, "%s%s\n", notice == CONFIG_WARNING ? "warning: " : "", line);
}

/* At the start: errors come plainly, since the log's form is not known when there are any, and
 * warnings wait for it. */
static void
tell_start(void *arg, enum config_notice notice, const char *line)
{
    struct program *program = arg;

    if (notice == CONFIG_ERROR)
        tell_plainly(NULL, notice, line);
    else
        buf_append(&program->warnings, line, strlen(line) + 1);
}

static void
tell_log(void *arg, enum config_notice notice, const char *line)
{
    (void)arg;
    if (notice == CONFIG_ERROR)
        log_error(NULL, "%s", line);
    else
        log_warn(NULL, "%s", line);
}

static int
check(struct program *program)
{
    struct err err;

    if (!config_load(&program->sources, &program->config, tell_plainly, NULL))
        return EXIT_WRONG;
    if (!server_check(&program->config, &err)) {
        tell_plainly(NULL, CONFIG_ERROR, err.text);
        return EXIT_WRONG;
    }
    printf("%s: ok\n", program->sources.path != NULL ? program->sources.path : "settings");
    return EXIT_SUCCESS;
}

/* Of the configuration only what is wrong with it is told: standard output is the document's. */
static int
export_definitions(struct program *program)
{
    if (!config_load(&program->sources, &program->config, tell_plainly, NULL))
        return EXIT_WRONG;
    return server_export_definitions(&program->config);
}

static void
log_change(void *arg, const char *key, bool is_live)
{
    (void)arg;
    if (is_live)
        log_info(NULL, "%s changed", key);
    else
        log_warn(NULL, "%s changed: takes effect after a restart", key);
}

/* A server_reload: the same sources again. What cannot change live keeps its value, and so is
 * told at every reload until the restart. */
static bool
reload(void *arg, struct config *out, struct err *err)
{
    struct program *program = arg;
    struct config *fresh = mem_new(struct config);
    bool is_good = config_load(&program->sources, fresh, tell_log, NULL);

    if (is_good) {
        config_reload_diff(&program->config, fresh, log_change, NULL);
        config_take_live(&program->config, fresh);
        log_set(program->config.log.level, program->config.log.format);
        log_info(NULL, "configuration reloaded");
        *out = program->config;
    } else {
        err_set(err, PRECONDITION_FAILED, "the configuration has errors: the old one is kept");
        log_error(NULL, "configuration not reloaded: the old one is kept");
    }
    free(fresh);
    return is_good;
}

static void
log_warnings(struct buf *warnings)
{
    for (size_t at = 0; at < warnings->len;) {
        const char *line = (const char *)warnings->at + at;
        log_warn(NULL, "%s", line);
        at += strlen(line) + 1;
    }
    buf_fini(warnings);
}

static int
run(struct program *program)
{
    struct err err = {0};
    struct server *server;
    int status;

    buf_init(&program->warnings, WARNINGS_MAX);
    if (!config_load(&program->sources, &program->config, tell_start, program))
        return EXIT_WRONG; /* without warnings: there are none beside errors */
    log_set(program->config.log.level, program->config.log.format);
    log_warnings(&program->warnings);
    umask(027);               /* what the broker writes is not for everybody */
    signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of write, not the end of us */
    server = server_new(&program->config, &err);
    if (server == NULL) {
        log_error(NULL, "cannot start: %s", err.text);
        return EXIT_FAILURE;
    }
    server_on_reload(server, reload, program);
    status = server_run(server);
    server_free(server);
    return status;
}

static int
act(struct program *program)
{
    switch (program->action) {
    case RUN:
        return run(program);
    case CHECK:
        return check(program);
    case EXPORT:
        return export_definitions(program);
    case PRINT_CONFIG:
        config_print_ini(stdout);
        return EXIT_SUCCESS;
    case PRINT_HELP:
        print_help();
        return EXIT_SUCCESS;
    case PRINT_VERSION:
        printf("lepusd %s\n", LEPUS_VERSION);
        return EXIT_SUCCESS;
    case COMPLAIN:
        break;
    }
    print_usage(stderr);
    return EXIT_WRONG;
}

int
main(int argc, char **argv)
{
    struct program *program;
    int status;

    mem_begin();
    program = mem_new(struct program);
    program->sources.environment = (const char *const *)environ;
    program->sources.options = program->overrides;
    if (!read_options(program, argc, argv))
        program->action = COMPLAIN;
    status = act(program);
    if (fflush(stdout) != 0 && status == EXIT_SUCCESS)
        status = EXIT_FAILURE;
    free(program);
    return status;
}
