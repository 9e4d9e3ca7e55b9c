/*
 * fixture: a topology to test with, spoken to in short words.
 *
 * Argument tables are written as text: "x-match:S=any n:I=5 here:V". The letter is the field's
 * type; values are decimal, or the string itself up to the next space. Routes come back as
 * text too: the queues' names in alphabetical order, with a space between.
 */
#ifndef TEST_BROKER_FIXTURE_H
#define TEST_BROKER_FIXTURE_H

#include "unit.h"

#include "lepus/base/buf.h"
#include "lepus/broker/topology.h"
#include "lepus/wire/props.h"
#include "lepus/wire/table.h"

struct fixture {
    struct topology *topology;
    struct vhost *vhost;
    struct err err;
    struct buf arguments, properties; /* of the last call */
    struct route route;
    char text[4096];
};

enum { MINE = 7, ANOTHERS = 8 }; /* connections */

static inline void
fixture_init(struct fixture *f, unsigned shards, unsigned workers)
{
    *f = (struct fixture){0};
    f->topology = topology_new(shards, workers);
    f->vhost = topology_find_vhost(f->topology, VIEW_LIT("/"));
    assert_non_null(f->vhost);
    buf_init(&f->arguments, 1 << 20);
    buf_init(&f->properties, 1 << 20);
    route_init(&f->route);
}

static inline void
fixture_fini(struct fixture *f)
{
    topology_check(f->topology);
    topology_free(f->topology);
    buf_fini(&f->arguments);
    buf_fini(&f->properties);
    route_fini(&f->route);
}

static inline void
put_number(struct buf *to, int letter, const char *value)
{
    double wide = strtod(value, NULL);
    float narrow = (float)wide;
    uint64_t bits = (uint64_t)strtoll(value, NULL, 10);
    uint32_t narrow_bits;

    switch (letter) {
    case 't':
    case 'b':
    case 'B':
        buf_u8(to, (uint8_t)bits);
        break;
    case 's':
    case 'u':
        buf_u16(to, (uint16_t)bits);
        break;
    case 'I':
    case 'i':
        buf_u32(to, (uint32_t)bits);
        break;
    case 'f':
        memcpy(&narrow_bits, &narrow, sizeof(narrow));
        buf_u32(to, narrow_bits);
        break;
    case 'd':
        memcpy(&bits, &wide, sizeof(wide));
        buf_u64(to, bits);
        break;
    case 'D':
        buf_u8(to, 1);
        buf_u32(to, (uint32_t)bits);
        break;
    default:
        buf_u64(to, bits);
        break;
    }
}

/* Good until the next call for the same buf. */
static inline struct view
table_of(struct buf *to, const char *text)
{
    buf_clear(to);
    while (*text != '\0') {
        size_t n = strcspn(text, " "), name = strcspn(text, ":");
        size_t len = n > name + 3 ? n - name - 3 : 0; /* behind the = */
        int letter = text[name + 1];
        char value[256];

        assert_true(name + 1 < n && len < sizeof(value));
        snprintf(value, sizeof(value), "%.*s", (int)len, text + name + 3);
        buf_u8(to, (uint8_t)name);
        buf_append(to, text, name);
        buf_u8(to, (uint8_t)letter);
        if (strchr("SxAF", letter) != NULL) {
            buf_u32(to, (uint32_t)strlen(value));
            buf_append(to, value, strlen(value));
        } else if (letter != 'V') {
            put_number(to, letter, value);
        }
        text += n;
        text += *text == ' ';
    }
    assert_true(table_check(buf_view(to)));
    return buf_view(to);
}

static inline bool
exchange_as(struct fixture *f, const char *name, const char *type, const char *flags,
            const char *arguments)
{
    struct exchange_spec spec = {
        .name = view_str(name),
        .type = view_str(type),
        .durable = strchr(flags, 'd') != NULL,
        .auto_delete = strchr(flags, 'a') != NULL,
        .internal = strchr(flags, 'i') != NULL,
        .arguments = table_of(&f->arguments, arguments),
    };

    return topology_declare_exchange(f->vhost, &spec, NULL, &f->err);
}

static inline void
exchange(struct fixture *f, const char *name, const char *type)
{
    assert_true(exchange_as(f, name, type, "", ""));
}

static inline bool
has_exchange(struct fixture *f, const char *name)
{
    return topology_check_exchange(f->vhost, view_str(name), NULL, &f->err);
}

static inline enum queue_declare_result
queue_as(struct fixture *f, const char *name, const char *flags, const char *arguments,
         struct queue_found *out)
{
    struct queue_spec spec = {
        .name = view_str(name),
        .durable = strchr(flags, 'd') != NULL,
        .auto_delete = strchr(flags, 'a') != NULL,
        .exclusive = strchr(flags, 'e') != NULL,
        .arguments = table_of(&f->arguments, arguments),
    };

    return topology_declare_queue(f->vhost, &spec, strchr(flags, 'o') != NULL ? ANOTHERS : MINE, 0,
                                  out, &f->err);
}

static inline uint64_t
queue(struct fixture *f, const char *name)
{
    struct queue_found found;

    assert_int_equal(queue_as(f, name, "", "", &found), QUEUE_CREATED);
    return found.ref.id;
}

static inline bool
tie(struct fixture *f, bool make, enum binding_kind kind, const char *source,
    const char *destination, const char *key, const char *arguments)
{
    struct binding_spec spec = {
        .kind = kind,
        .source = view_str(source),
        .destination = view_str(destination),
        .routing_key = view_str(key),
        .arguments = table_of(&f->arguments, arguments),
    };

    return (make ? topology_bind : topology_unbind)(f->vhost, &spec, MINE, NULL, &f->err);
}

static inline void
bind_queue(struct fixture *f, const char *source, const char *to, const char *key)
{
    assert_true(tie(f, true, BINDING_TO_QUEUE, source, to, key, ""));
}

static inline void
bind_exchange(struct fixture *f, const char *source, const char *to, const char *key)
{
    assert_true(tie(f, true, BINDING_TO_EXCHANGE, source, to, key, ""));
}

static inline void
unbind_queue(struct fixture *f, const char *source, const char *to, const char *key)
{
    assert_true(tie(f, false, BINDING_TO_QUEUE, source, to, key, ""));
}

static inline int
compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline const char *
route_text(struct fixture *f, const struct route *route)
{
    char **names = calloc(route->count + 1, sizeof(char *));
    size_t at = 0;

    f->text[0] = '\0';
    for (size_t i = 0; i < route->count; i++) {
        struct queue_description d;

        assert_true(topology_queue_describe(f->topology, route->targets[i].id, &d));
        assert_int_equal(d.ref.shard, route->targets[i].shard);
        names[i] = d.name;
        d.name = NULL;
        queue_description_fini(&d);
    }
    qsort(names, route->count, sizeof(char *), compare_strings);
    for (size_t i = 0; i < route->count; i++) {
        at += (size_t)snprintf(f->text + at, sizeof(f->text) - at, "%s%s", i > 0 ? " " : "",
                               names[i]);
        assert_true(at < sizeof(f->text));
        free(names[i]);
    }
    free(names);
    return f->text;
}

/* Properties with these headers. */
static inline struct view
with_headers(struct fixture *f, const char *headers)
{
    struct view table = table_of(&f->arguments, headers), none = VIEW_LIT("\0\0");

    buf_clear(&f->properties);
    props_copy_with(&f->properties, none, PROP_headers, &table);
    return buf_view(&f->properties);
}

/* Where it goes; NULL when it is refused. */
static inline const char *
routed_with(struct fixture *f, const char *exchange, const char *key, const struct view *more,
            size_t n_more, const char *headers)
{
    if (!topology_route(f->vhost, view_str(exchange), view_str(key), more, n_more,
                        with_headers(f, headers), &f->route, &f->err))
        return NULL;
    return route_text(f, &f->route);
}

static inline const char *
routed(struct fixture *f, const char *exchange, const char *key)
{
    return routed_with(f, exchange, key, NULL, 0, "");
}

#define assert_refused(call, number, words)                                                        \
    do {                                                                                           \
        f.err = (struct err){0};                                                                   \
        assert_false(call);                                                                        \
        assert_string_equal(f.err.text, words);                                                    \
        assert_int_equal(f.err.code, number);                                                      \
    } while (0)

#endif
