/*
 * Writes the seeds of the wire's fuzzer: a frame of each method, made from the method table, a
 * publish with its content, tables and properties.  make_corpus <directory>
 */
#include <assert.h>

#include "fuzz_wire.h"

#include "lepus/base/buf.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

static const char *directory;

static void
save(const char *name, enum fuzz_wire_kind kind, struct view seed)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    fputc(kind, file);
    fwrite(seed.at, 1, seed.len, file);
    fclose(file);
}

/* Every type once, tables within arrays within tables. */
static void
put_every_type(struct buf *to)
{
    static const uint8_t zeroes[8];
    size_t outer, inner;

#define T(letter, NAME, name, size)                                                                \
    table_put_field(to, VIEW_LIT(name),                                                            \
                    &(struct field){.type = letter, .bytes = view_of(zeroes, size)});
    FIELD_TYPES(T)
#undef T
    outer = table_begin_array(to, VIEW_LIT("x-death"));
    inner = array_begin_table(to);
    table_put_i64(to, VIEW_LIT("count"), 3);
    table_put_longstr(to, VIEW_LIT("queue"), VIEW_LIT("q"));
    table_put_timestamp(to, VIEW_LIT("time"), 1700000000);
    table_end(to, inner);
    array_put_longstr(to, VIEW_LIT("cc"));
    table_end(to, outer);
}

/* On channel 0 or 1: the values of enum method_channel. */
static void
save_method(struct buf *b, enum method_channel channel, enum method method, const void *args)
{
    buf_clear(b);
    method_write(b, (uint16_t)channel, method, args);
    save(method_rows[method].name, FUZZ_FRAMES, buf_view(b));
}

static void
save_methods(struct view table)
{
    struct buf b;

    buf_init(&b, 1 << 16);
#define VALUE_u8           9
#define VALUE_u16          60
#define VALUE_u32          131072
#define VALUE_u64          1
#define VALUE_bit          true
#define VALUE_shortstr     VIEW_LIT("name")
#define VALUE_longstr      VIEW_LIT("\0guest\0guest")
#define VALUE_table        table
#define FIELD(type, field) args.field = VALUE_##type;
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    {                                                                                              \
        struct name args = {0};                                                                    \
                                                                                                   \
        fields(FIELD);                                                                             \
        save_method(&b, METHOD_ON_##channel, METHOD_##name, &args);                                \
    }
    METHODS(M)
#undef M
    buf_fini(&b);
}

static void
put_frame(struct buf *to, uint8_t type, struct view payload)
{
    uint8_t head[FRAME_HEAD_SIZE];

    frame_put_head(head, type, 1, (uint32_t)payload.len);
    buf_append(to, head, sizeof(head));
    buf_append(to, payload.at, payload.len);
    buf_u8(to, FRAME_END);
}

static void
save_publish(struct view properties)
{
    struct basic_publish publish = {.exchange = VIEW_LIT("amq.topic"),
                                    .routing_key = VIEW_LIT("a.b")};
    struct buf b, header;

    buf_init(&b, 1 << 16);
    buf_init(&header, 1 << 16);
    buf_u16(&header, CLASS_basic);
    buf_u16(&header, 0);
    buf_u64(&header, 16);
    buf_append(&header, properties.at, properties.len);
    method_write(&b, 1, METHOD_basic_publish, &publish);
    put_frame(&b, FRAME_HEADER, buf_view(&header));
    put_frame(&b, FRAME_BODY, VIEW_LIT("sixteen octets.."));
    put_frame(&b, FRAME_HEARTBEAT, view_of(NULL, 0));
    save("publish", FUZZ_FRAMES, buf_view(&b));
    buf_fini(&b);
    buf_fini(&header);
}

static void
put_all_properties(struct buf *to, struct view table)
{
    struct buf from;
    struct view value;

    buf_init(&from, 1 << 16);
    buf_u16(&from, 0);
#define PROPERTY_shortstr VIEW_LIT("1000")
#define PROPERTY_table    table
#define PROPERTY_u8       VIEW_LIT("\2")
#define PROPERTY_u64      VIEW_LIT("\0\0\0\0\145\123\361\0")
#define P(name, type, bit)                                                                         \
    value = PROPERTY_##type;                                                                       \
    buf_clear(to);                                                                                 \
    props_copy_with(to, buf_view(&from), PROP_##name, &value);                                     \
    buf_clear(&from);                                                                              \
    buf_append(&from, to->at, to->len);
    PROPERTIES(P)
#undef P
    assert(!to->bad && props_check(buf_view(to)));
    buf_fini(&from);
}

int
main(int argc, char **argv)
{
    struct buf table, properties;

    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus <directory>\n");
        return 2;
    }
    directory = argv[1];
    buf_init(&table, 1 << 16);
    buf_init(&properties, 1 << 16);
    put_every_type(&table);
    put_all_properties(&properties, buf_view(&table));
    save_methods(buf_view(&table));
    save_publish(buf_view(&properties));
    save("table", FUZZ_TABLE, buf_view(&table));
    save("properties", FUZZ_PROPERTIES, buf_view(&properties));
    save("properties_none", FUZZ_PROPERTIES, VIEW_LIT("\0\0"));
    buf_fini(&table);
    buf_fini(&properties);
    return 0;
}
