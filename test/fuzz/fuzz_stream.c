/*
 * The storage of streams over arbitrary octets: segments and their indexes, messages, files of
 * offsets. Nothing may crash, read beyond the input or go on for ever; what a log says it has is
 * what its readers see or are told is lost; and a log that was opened goes on.
 *
 * The first octet says what the rest is:
 *     0   u16 length of the index, index, segment
 *     1   the same, with every checksum set right: behind them stands what a checksum keeps out
 *     2   an entry, as a native client may have sent it
 *     3   u16 length of offsets.0, offsets.0, offsets.1
 */
#include <assert.h>
#include <errno.h>

#include "lepus/base/crc32c.h"
#include "lepus/base/mem.h"
#include "lepus/stream/stream_message.h"
#include "lepus/stream/stream_offsets.h"
#include "lepus/stream/stream_reader.h"
#include "lepus/wire/octets.h"
#include "lepus/wire/props.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

enum { FILES = 8, READS_MAX = 100000 };

/* A few files; a path is known by its end. */
struct memory {
    struct {
        char path[128];
        struct buf octets;
        bool is_there;
    } files[FILES];
    size_t n;
};

static int
find(struct memory *m, const char *path)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->files[i].is_there && strcmp(m->files[i].path, path) == 0)
            return (int)i;
    return -ENOENT;
}

static int
open_file(void *arg, const char *path, enum file_mode mode)
{
    struct memory *m = arg;
    int fd = find(m, path);

    if (fd >= 0 || mode != FILE_CREATE)
        return fd;
    for (fd = 0; fd < (int)m->n && m->files[fd].is_there;)
        fd++;
    if (fd == FILES)
        return -ENOSPC;
    if (fd == (int)m->n)
        buf_init(&m->files[m->n++].octets, 1 << 26);
    buf_clear(&m->files[fd].octets);
    snprintf(m->files[fd].path, sizeof(m->files[fd].path), "%s", path);
    m->files[fd].is_there = true;
    return fd;
}

static void
close_file(void *arg, int fd)
{
    (void)arg, (void)fd;
}

static int64_t
size_of(void *arg, int fd)
{
    struct memory *m = arg;

    return (int64_t)m->files[fd].octets.len;
}

static int64_t
read_file(void *arg, int fd, void *to, size_t n, uint64_t at)
{
    struct memory *m = arg;
    const struct buf *b = &m->files[fd].octets;

    if (at >= b->len)
        return 0;
    n = n < b->len - at ? n : b->len - at;
    if (n > 0)
        memcpy(to, b->at + at, n);
    return (int64_t)n;
}

static int
resize(void *arg, int fd, uint64_t size)
{
    struct memory *m = arg;
    struct buf *b = &m->files[fd].octets;

    if (size > b->len) {
        size_t more = size - b->len;
        uint8_t *at = size > b->max ? NULL : buf_reserve(b, more);

        if (at == NULL)
            return -ENOSPC;
        memset(at, 0, more);
    }
    b->len = size;
    return 0;
}

static int
write_file(void *arg, int fd, const struct iovec *iov, int n, uint64_t at)
{
    struct memory *m = arg;
    struct buf *b = &m->files[fd].octets;

    for (int i = 0; i < n; i++) {
        if (at + iov[i].iov_len > b->len && resize(arg, fd, at + iov[i].iov_len) < 0)
            return -ENOSPC;
        if (iov[i].iov_len > 0)
            memcpy(b->at + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return 0;
}

static int
allocate(void *arg, int fd, uint64_t size)
{
    (void)arg, (void)fd, (void)size;
    return 0;
}

static int
sync_file(void *arg, int fd)
{
    (void)arg, (void)fd;
    return 0;
}

static int
of_path(void *arg, const char *path)
{
    (void)arg, (void)path;
    return 0;
}

static int
unlink_file(void *arg, const char *path)
{
    struct memory *m = arg;
    int fd = find(m, path);

    if (fd >= 0)
        m->files[fd].is_there = false;
    return 0;
}

static int
list_dir(void *arg, const char *path, void (*each)(void *each_arg, const char *name),
         void *each_arg)
{
    struct memory *m = arg;

    (void)path;
    for (size_t i = 0; i < m->n; i++)
        if (m->files[i].is_there)
            each(each_arg, strrchr(m->files[i].path, '/') + 1);
    return 0;
}

static const struct file_ops file_ops = {
    .open = open_file,
    .close = close_file,
    .size = size_of,
    .read = read_file,
    .write = write_file,
    .allocate = allocate,
    .truncate = resize,
    .sync = sync_file,
    .sync_dir = of_path,
    .unlink = unlink_file,
    .make_dir = of_path,
    .remove_dir = of_path,
    .list_dir = list_dir,
};

static void
put_file(struct memory *m, const char *path, struct view octets)
{
    struct iovec iov = {(void *)(uintptr_t)octets.at, octets.len};

    write_file(m, open_file(m, path, FILE_CREATE), &iov, 1, 0);
}

static void
free_files(struct memory *m)
{
    for (size_t i = 0; i < m->n; i++)
        buf_fini(&m->files[i].octets);
}

/* --- logs --------------------------------------------------------------------------------- */

static void
set_right(uint8_t *at, size_t size, uint8_t *index, size_t index_size)
{
    size_t position = STREAM_SEGMENT_HEAD;
    struct stream_index_entry entry;
    uint64_t id = 0;

    if (size >= STREAM_SEGMENT_HEAD) {
        const struct stream_segment_head head = {7, 0, (int64_t)be_u64(at + 32), 0};

        stream_segment_put_head(&head, at);
    }
    for (size_t i = 0; i + STREAM_INDEX_ENTRY <= index_size; i += STREAM_INDEX_ENTRY) {
        entry = (struct stream_index_entry){be_u64(index + i), (int64_t)be_u64(index + i + 8),
                                            be_u32(index + i + 16)};
        stream_index_put(&entry, 0, index + i);
    }
    while (size - position > STREAM_HEAD_MAX && size > position) {
        uint8_t *head = at + position;
        struct stream_chunk chunk = {
            .id = head[31] < 250 ? id : be_u64(head + 24),
            .timestamp_ms = (int64_t)be_u64(head + 8),
            .records = be_u32(head + 4),
            .entries = be_u16(head + 2),
            .flags = head[56] & STREAM_CHUNK_NATIVE,
            .durable = be_u64(head + 60) % (id + 2),
        };
        uint8_t filter[255], exchange[255];

        memcpy(filter, head + STREAM_HEAD_MIN, sizeof(filter));
        chunk.filter = view_of(filter, head[57]);
        memcpy(exchange, head + STREAM_HEAD_MIN + head[57], sizeof(exchange));
        chunk.exchange = view_of(exchange, head[58]);
        chunk.head_len = stream_chunk_head_size(head[57], head[58]);
        chunk.data_len = be_u32(head + 36);
        if (chunk.data_len > size - position - chunk.head_len)
            chunk.data_len = (uint32_t)(size - position - chunk.head_len);
        chunk.data_crc = stream_chunk_sum(view_of(head + chunk.head_len, chunk.data_len));
        stream_chunk_put_head(&chunk, head);
        id = chunk.id + chunk.records;
        position += stream_chunk_size(&chunk);
    }
}

static uint64_t lost;

static void
on_safe(void *arg, uint64_t end)
{
    (void)arg, (void)end;
}

static void
on_trouble(void *arg, const struct err *why)
{
    (void)arg, (void)why;
}

static void
on_tell(void *arg, bool is_error, const char *line)
{
    (void)arg, (void)is_error;
    assert(strlen(line) > 0);
}

static void
on_more(void *arg)
{
    *(bool *)arg = true;
}

static void
on_damaged(void *arg, uint64_t first, uint64_t last, const struct err *why)
{
    (void)arg;
    assert(first <= last && why->code != 0);
    lost += last - first + 1;
}

static const struct stream_log_ops log_ops = {on_safe, on_trouble, on_tell};
static const struct stream_reader_ops reader_ops = {on_more, on_damaged};

static uint64_t
clock_that_stands(void)
{
    return 1700000000000;
}

/* Reads to the end; how many messages. */
static uint64_t
read_all(struct stream_log *log, struct disk *disk, const struct stream_reader_settings *settings)
{
    bool more = true;
    struct stream_reader *reader = stream_reader_new(log, settings, &reader_ops, &more);
    struct stream_message message;
    uint64_t last = 0, n = 0;

    while (n < READS_MAX) {
        if (stream_reader_next(reader, &message) == STREAM_READ_WAIT) {
            for (more = false; !more && disk_step(disk);)
                ;
            if (!more)
                break;
            continue;
        }
        assert(n == 0 || message.offset > last);
        assert(message.offset < stream_log_committed(log));
        assert(props_check(message.content.properties));
        last = message.offset;
        n++;
    }
    n += stream_reader_skipped(reader);
    stream_reader_free(reader);
    while (disk_step(disk))
        ;
    return n;
}

static void
look_everywhere(struct stream_log *log, struct disk *disk)
{
    struct stream_reader_settings s = {.from = STREAM_FROM_FIRST};
    struct view value = VIEW_LIT("v1");
    uint64_t end = stream_log_committed(log);

    read_all(log, disk, &s);
    s.from = STREAM_FROM_LAST;
    read_all(log, disk, &s);
    s.from = STREAM_FROM_OFFSET;
    s.offset = end / 2;
    read_all(log, disk, &s);
    s.from = STREAM_FROM_TIME;
    s.time_ms = 1700000000000 - 5;
    s.filters = &value;
    s.n_filters = 1;
    read_all(log, disk, &s);
}

static void
try_log(struct view index, struct view segment)
{
    static const uint8_t no_properties[2];
    struct content content = {.exchange = VIEW_LIT("ex"),
                              .routing_key = VIEW_LIT("key"),
                              .properties = view_of(no_properties, 2),
                              .body = VIEW_LIT("body")};
    struct stream_reader_settings last = {.from = STREAM_FROM_LAST};
    struct memory memory = {0};
    struct disk *disk = disk_new(NULL, "fuzz");
    struct stream_settings settings = {.dir = "s",
                                       .stream = 7,
                                       .name = VIEW_LIT("s"),
                                       .files = {&file_ops, &memory},
                                       .disk = disk,
                                       .segment_bytes = 1 << 20,
                                       .wall_ms = clock_that_stands};
    struct stream_log *log = stream_log_new(&settings, &log_ops, NULL);
    struct err err = {0};
    uint64_t offset, end;

    put_file(&memory, "s/0000000000000007/00000000000000000000.seg", segment);
    put_file(&memory, "s/0000000000000007/00000000000000000000.idx", index);
    if (stream_log_recover(log, &err)) {
        stream_log_check(log);
        look_everywhere(log, disk);
        end = stream_log_committed(log);
        /* An id near the end of all ids can be followed by nothing. */
        if (end < INT64_MAX / 2) {
            assert(stream_log_append(log, &content, &offset) && offset == end);
            stream_log_flush(log);
            while (disk_step(disk))
                ;
            stream_log_check(log);
            assert(stream_log_committed(log) == end + 1);
            assert(read_all(log, disk, &last) >= 1);
        }
    }
    stream_log_free(log, false);
    while (disk_step(disk))
        ;
    disk_free(disk);
    free_files(&memory);
}

/* --- messages and offsets ----------------------------------------------------------------- */

static void
try_entry(struct view entry)
{
    struct stream_decoder decoder;
    struct content first, again;
    struct view filter, filter_again;
    struct buf kept;
    enum stream_decoded done;

    stream_decoder_init(&decoder, VIEW_LIT("s"));
    buf_init(&kept, 1 << 26);
    for (int is_native = 0; is_native < 2; is_native++) {
        done = stream_decode(&decoder, entry, VIEW_LIT("ex"), is_native, &first, &filter);
        assert(props_check(first.properties));
        assert(first.exchange.len <= UINT8_MAX && first.routing_key.len <= UINT8_MAX);
        buf_clear(&kept);
        buf_append(&kept, first.properties.at, first.properties.len);
        buf_append(&kept, first.body.at, first.body.len);
        /* What was read before makes no difference. */
        assert(stream_decode(&decoder, entry, VIEW_LIT("ex"), is_native, &again, &filter_again) ==
               done);
        assert(kept.len == again.properties.len + again.body.len);
        assert(view_equal(view_of(kept.at, again.properties.len), again.properties));
    }
    buf_fini(&kept);
    stream_decoder_fini(&decoder);
}

static const struct stream_offsets_ops offsets_ops = {on_trouble};

static void
try_offsets(struct view first, struct view second)
{
    struct memory memory = {0};
    struct disk *disk = disk_new(NULL, "fuzz");
    const struct stream_offsets_settings settings = {
        .dir = "s", .stream = 7, .files = {&file_ops, &memory}, .disk = disk};
    struct err err = {0};
    uint64_t offset;

    put_file(&memory, "s/0000000000000007/offsets.0", first);
    put_file(&memory, "s/0000000000000007/offsets.1", second);
    for (int life = 0; life < 2; life++) {
        struct stream_offsets *o = stream_offsets_new(&settings, &offsets_ops, NULL);

        if (stream_offsets_recover(o, &err)) {
            assert(life == 0 || (stream_offsets_get(o, VIEW_LIT("group"), &offset) && offset == 5));
            stream_offsets_set(o, VIEW_LIT("group"), 5);
            stream_offsets_flush(o);
            while (disk_step(disk))
                ;
        } else {
            life = 2;
        }
        stream_offsets_free(o, false);
    }
    disk_free(disk);
    free_files(&memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    uint8_t *copy;
    size_t n;

    if (size < 1)
        return 0;
    if (at[0] % 4 == 2) {
        try_entry(view_of(at + 1, size - 1));
        return 0;
    }
    if (size < 3)
        return 0;
    n = be_u16(at + 1);
    if (n > size - 3)
        n = size - 3;
    if (at[0] % 4 == 3) {
        try_offsets(view_of(at + 3, n), view_of(at + 3 + n, size - 3 - n));
        return 0;
    }
    copy = mem_alloc(size);
    memcpy(copy, at, size);
    if (at[0] % 4 == 1)
        set_right(copy + 3 + n, size - 3 - n, copy + 3, n);
    try_log(view_of(copy + 3, n), view_of(copy + 3 + n, size - 3 - n));
    free(copy);
    return 0;
}
