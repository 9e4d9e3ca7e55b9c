#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lepus/base/log.h"
#include "lepus/base/view.h"

/* Standard error is a file while lines are written; `written` holds what came. */
static char written[1 << 20];
static int saved_stderr, file;

static void
capture(enum log_format format)
{
    file = memfd_create("log", 0);
    assert_true(file >= 0);
    fcntl(file, F_SETFL, O_APPEND);
    saved_stderr = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    log_set(LOG_INFO, format);
}

static void
captured(void)
{
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    n = pread(file, written, sizeof(written) - 1, 0);
    close(file);
    assert_true(n >= 0);
    written[n] = '\0';
}

/* The time, whose digits are all 0 in the pattern, and then the rest. */
static void
assert_line(const char *line, const char *time_pattern, const char *rest)
{
    size_t n = strlen(time_pattern);

    assert_true(strlen(line) > n);
    for (size_t i = 0; i < n; i++) {
        bool is_digit = line[i] >= '0' && line[i] <= '9';
        assert_int_equal(is_digit ? '0' : line[i], time_pattern[i]);
    }
    assert_string_equal(line + n, rest);
}

#define TEXT_TIME "0000-00-00 00:00:00.000 "
#define JSON_TIME "{\"time\":\"0000-00-00T00:00:00.000Z\","

static const struct log_context hostile = {
    .connection = "127.0.0.1:5",
    .channel = 3,
    .vhost = "a b\"'\\\n\xff\xc2\x85\xc3\xa9",
    .user = "u",
};

static void
text_line_escapes_what_is_hostile(void **state)
{
    (void)state;
    capture(LOG_TEXT);
    log_info(&hostile, "say \"%s\"", "\x1b[0m\r\n\x7f\\\xed\xa0\x80\xf0\x9f\x90\x87");
    captured();
    assert_line(
        written, TEXT_TIME,
        "info conn=127.0.0.1:5 ch=3 vhost=a\\x20b\\x22\\x27\\x5c\\x0a\\xff\\xc2\\x85\xc3\xa9 "
        "user=u say \"\\x1b[0m\\x0d\\x0a\\x7f\\x5c\\xed\\xa0\\x80\xf0\x9f\x90\x87\"\n");
}

static void
json_line_is_proper_strings(void **state)
{
    (void)state;
    capture(LOG_JSON);
    log_warn(&hostile, "say \"%s\"", "\x1b[0m\r\n\x7f\\\xed\xa0\x80\xf0\x9f\x90\x87");
    captured();
    assert_line(written, JSON_TIME,
                "\"level\":\"warn\",\"conn\":\"127.0.0.1:5\",\"ch\":3,"
                "\"vhost\":\"a b\\\"'\\\\\\u000a\\\\xff\\u0085\xc3\xa9\",\"user\":\"u\","
                "\"text\":\"say \\\"\\u001b[0m\\u000d\\u000a\\u007f\\\\\\\\xed\\\\xa0\\\\x80"
                "\xf0\x9f\x90\x87\\\"\"}\n");
}

static void
members_that_are_not_there_leave_nothing(void **state)
{
    struct log_context context = {.vhost = "/"};

    (void)state;
    capture(LOG_TEXT);
    log_error(NULL, "lost");
    captured();
    assert_line(written, TEXT_TIME, "error lost\n");
    capture(LOG_JSON);
    log_error(&context, "lost");
    captured();
    assert_line(written, JSON_TIME, "\"level\":\"error\",\"vhost\":\"/\",\"text\":\"lost\"}\n");
}

static void
lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    capture(LOG_TEXT);
    log_debug(NULL, "no");
    log_set(LOG_ERROR, LOG_TEXT);
    log_warn(NULL, "no");
    log_error(NULL, "yes");
    log_set(LOG_DEBUG, LOG_TEXT);
    log_debug(NULL, "yes");
    log_set(LOG_INFO, LOG_TEXT);
    captured();
    assert_line(strchr(written, '\n') + 1, TEXT_TIME, "debug yes\n");
    *strchr(written, '\n') = '\0';
    assert_line(written, TEXT_TIME, "error yes");
}

/* Of characters of every width, at every place where a line may end. */
static void
long_line_is_cut_between_characters(void **state)
{
    static const char *const characters[] = {
        "x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x87", "\n", "\xff", "\""};
    char text[6000];

    (void)state;
    for (size_t c = 0; c < COUNT_OF(characters); c++) {
        for (size_t lead = 0; lead < 8; lead++) {
            size_t n = lead, width = strlen(characters[c]), len;

            memset(text, '.', lead);
            for (; n + width < sizeof(text); n += width)
                memcpy(text + n, characters[c], width);
            text[n] = '\0';
            for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
                const char *end = format == LOG_TEXT ? "\xe2\x80\xa6\n" : "\xe2\x80\xa6\"}\n";

                capture((enum log_format)format);
                log_info(NULL, "%s", text);
                captured();
                len = strlen(written);
                assert_in_range(len, 4096 - 16, 4096);
                assert_string_equal(written + len - strlen(end), end);
                assert_true(view_is_utf8(view_of(written, len)));
                assert_ptr_equal(strchr(written, '\n'), written + len - 1);
            }
        }
    }
}

static void
long_names_leave_room_for_the_text(void **state)
{
    char name[3000];
    struct log_context context = {name, name, name, 65535};

    (void)state;
    memset(name, 1, sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    capture(LOG_JSON);
    log_info(&context, "here it is");
    captured();
    assert_true(strlen(written) <= 4096);
    assert_non_null(strstr(written, "\\u0001\xe2\x80\xa6\",\"text\":\"here it is\"}\n"));
}

static void
errno_is_kept(void **state)
{
    (void)state;
    capture(LOG_TEXT);
    close(STDERR_FILENO); /* the write fails */
    errno = ENOENT;
    log_info(NULL, "lost");
    assert_int_equal(errno, ENOENT);
    captured();
}

enum { THREADS = 4, LINES = 500 };

static void *
write_lines(void *arg)
{
    for (unsigned i = 0; i < LINES; i++)
        log_info(NULL, "%c%0200d", *(char *)arg, 0);
    return NULL;
}

static void
lines_of_threads_do_not_mix(void **state)
{
    char letters[] = "abcd";
    pthread_t threads[THREADS];
    size_t counts[THREADS] = {0};

    (void)state;
    capture(LOG_TEXT);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &letters[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    captured();
    for (char *line = written, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        assert_int_equal(end - line, sizeof(TEXT_TIME "info ") - 1 + 201);
        counts[line[sizeof(TEXT_TIME "info ") - 1] - 'a']++;
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(counts[i], LINES);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line_escapes_what_is_hostile),
        cmocka_unit_test(json_line_is_proper_strings),
        cmocka_unit_test(members_that_are_not_there_leave_nothing),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(long_line_is_cut_between_characters),
        cmocka_unit_test(long_names_leave_room_for_the_text),
        cmocka_unit_test(errno_is_kept),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
