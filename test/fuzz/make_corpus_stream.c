/*
 * Writes the seeds of the streams' fuzzer: a segment with its index, entries, files of offsets.
 * make_corpus_stream <directory> <empty folder to work in>
 */
#include <assert.h>
#include <unistd.h>

#include "lepus/base/mem.h"
#include "lepus/stream/stream_message.h"
#include "lepus/stream/stream_offsets.h"
#include "lepus/stream/stream_reader.h"
#include "lepus/wire/octets.h"

static const char *directory, *folder;

static struct view
load(const char *name)
{
    static uint8_t octets[2][1 << 17];
    static unsigned turn;
    char path[4096];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s/0000000000000007/%s", folder, name);
    turn = 1 - turn;
    if ((file = fopen(path, "rb")) == NULL)
        return view_of(octets[turn], 0);
    n = fread(octets[turn], 1, sizeof(octets[turn]), file);
    fclose(file);
    unlink(path);
    return view_of(octets[turn], n);
}

static void
save(const char *name, uint8_t kind, const struct view *first, struct view second)
{
    uint8_t head[2];
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    if ((file = fopen(path, "wb")) == NULL) {
        perror(path);
        exit(1);
    }
    fputc(kind, file);
    if (first != NULL) {
        be_put_u16(head, (uint16_t)first->len);
        fwrite(head, 1, sizeof(head), file);
        fwrite(first->at, 1, first->len, file);
    }
    fwrite(second.at, 1, second.len, file);
    fclose(file);
}

static void
on_safe(void *arg, uint64_t end)
{
    (void)arg, (void)end;
}

static void
on_trouble(void *arg, const struct err *why)
{
    (void)arg;
    fprintf(stderr, "%s\n", why != NULL ? why->text : "");
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    (void)arg, (void)is_error;
    fprintf(stderr, "%s\n", line);
}

static const struct stream_log_ops log_ops = {on_safe, on_trouble, on_tell};
static const struct stream_offsets_ops offsets_ops = {on_trouble};

static uint64_t
clock_that_stands(void)
{
    return 1700000000000 - 100;
}

static void
run(struct disk *disk)
{
    while (disk_step(disk))
        ;
}

static void
save_segment(const char *name, size_t body, unsigned messages, unsigned a_commit, uint8_t kind)
{
    static const char filtered[] =
        "\x20\x00\x00\x00\x00\x1d\x15x-stream-filter-valueS\x00\x00\x00\x02v1";
    static uint8_t octets[30000];
    struct disk *disk = disk_new(NULL, "corpus");
    struct stream_settings settings = {.dir = folder,
                                       .stream = 7,
                                       .name = VIEW_LIT("s"),
                                       .files = file_posix,
                                       .disk = disk,
                                       .wall_ms = clock_that_stands};
    struct stream_log *log = stream_log_new(&settings, &log_ops, NULL);
    struct view index;
    uint64_t offset;

    for (unsigned i = 0; i < messages; i++) {
        struct content c = {.exchange = i % 3 ? VIEW_LIT("ex") : VIEW_LIT(""),
                            .routing_key = i % 2 ? VIEW_LIT("key") : VIEW_LIT("s"),
                            .properties =
                                i % 4 ? VIEW_LIT("\0\0") : view_of(filtered, sizeof(filtered) - 1),
                            .body = view_of(octets, body)};

        assert(stream_log_append(log, &c, &offset));
        if (i % a_commit == a_commit - 1) {
            stream_log_flush(log);
            run(disk);
        }
    }
    stream_log_flush(log);
    run(disk);
    stream_log_free(log, false);
    run(disk);
    disk_free(disk);
    index = load("00000000000000000000.idx");
    save(name, kind, &index, load("00000000000000000000.seg"));
}

static void
save_entries(void)
{
    static const struct {
        const char *name;
        struct view properties;
    } entries[] = {
        {"entry_plain", {(const uint8_t *)"\0\0", 2}},
        {"entry_header",
         {(const uint8_t *)"\x19\x00\x02\x07\x05"
                           "60000",
          10}},
        {"entry_inexact",
         {(const uint8_t *)"\x00\x04\x03"
                           "abc",
          6}},
        {"entry_ids",
         {(const uint8_t *)"\x86\xc0\x02tx\x01"
                           "c\x01r\x01m\x00\x00\x00\x00\x65\x00\x00\x00",
          19}},
    };

    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
        struct content c = {.exchange = VIEW_LIT("ex"),
                            .routing_key = VIEW_LIT("key"),
                            .properties = entries[i].properties,
                            .body = VIEW_LIT("hello")};
        struct stream_encoder encoder;
        struct view sections, filter;
        uint8_t entry[512], *at;

        stream_encoder_init(&encoder, VIEW_LIT("s"));
        sections = stream_encode(&encoder, &c, true, &filter);
        memcpy(entry, sections.at, sections.len);
        at = stream_put_data_head(entry + sections.len, c.body.len);
        memcpy(at, c.body.at, c.body.len);
        save(entries[i].name, 2, NULL, view_of(entry, (size_t)(at - entry) + c.body.len));
        stream_encoder_fini(&encoder);
    }
}

static void
save_offsets(void)
{
    struct disk *disk = disk_new(NULL, "corpus");
    const struct stream_offsets_settings settings = {
        .dir = folder, .stream = 7, .files = file_posix, .disk = disk};
    struct stream_offsets *o = stream_offsets_new(&settings, &offsets_ops, NULL);
    struct view first;

    for (unsigned i = 0; i < 6; i++) {
        stream_offsets_set(o, i % 2 ? VIEW_LIT("a") : VIEW_LIT("group"), i);
        if (i == 4)
            stream_offsets_forget(o, VIEW_LIT("a"));
        stream_offsets_flush(o);
        run(disk);
    }
    stream_offsets_free(o, false);
    disk_free(disk);
    first = load("offsets.0");
    save("offsets", 3, &first, load("offsets.1"));
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: make_corpus_stream <directory> <empty folder>\n");
        return 2;
    }
    directory = argv[1];
    folder = argv[2];
    save_segment("segment", 20, 30, 4, 0);
    save_segment("segment_indexed", 6000, 10, 1, 0);
    save_segment("segment_set_right", 20, 30, 4, 1);
    save_segment("segment_of_batches", 3, 8, 8, 1);
    save_entries();
    save_offsets();
    return 0;
}
