#include "lepus/broker/post.h"

#include <assert.h>

#include "lepus/base/mem.h"

static const struct {
    const char *name;
    size_t size, first_view, views, content; /* content: where its struct content is, or 0 */
} rows[CMD_COUNT] = {
#define PLAIN_CONTENT(name)   0
#define CONTENT_CONTENT(name) offsetof(struct cmd_##name, content)
#define C(name, first, views, kind)                                                                \
    {#name, sizeof(struct cmd_##name), offsetof(struct cmd_##name, first), views,                  \
     kind##_CONTENT(name)},
    COMMANDS(C)
#undef C
};

static size_t
align8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static struct view *
views_of(void *command, enum command_kind kind)
{
    return (struct view *)(void *)((char *)command + rows[kind].first_view);
}

static struct content *
content_of(void *command, enum command_kind kind)
{
    return rows[kind].content == 0
               ? NULL
               : (struct content *)(void *)((char *)command + rows[kind].content);
}

/* A body in a blob travels as a reference: it is the last view, and is not copied. */
static size_t
views_to_copy(void *command, enum command_kind kind)
{
    const struct content *content = content_of(command, kind);

    return rows[kind].views - (content != NULL && content->blob != NULL ? 1 : 0);
}

static size_t
packed_size(const struct command *command)
{
    void *at = (void *)(uintptr_t)command;
    const struct view *views = views_of(at, command->kind);
    size_t size = align8(rows[command->kind].size);

    for (size_t i = 0; i < views_to_copy(at, command->kind); i++)
        size += align8(views[i].len);
    return size;
}

/* The struct as it is, then the octets of its views in their order. */
static void
pack(void *to, const struct command *command)
{
    const struct view *views = views_of((void *)(uintptr_t)command, command->kind);
    uint8_t *octets = (uint8_t *)to + align8(rows[command->kind].size);
    struct content *content;

    memcpy(to, command, rows[command->kind].size);
    for (size_t i = 0; i < views_to_copy(to, command->kind); i++) {
        if (views[i].len > 0)
            memcpy(octets, views[i].at, views[i].len);
        octets += align8(views[i].len);
    }
    content = content_of(to, command->kind);
    if (content != NULL)
        blob_ref(content->blob);
}

/* A record has come: its views are made to point into it, and its handler is called. */
static void
on_mail(void *arg, unsigned from, const void *record, size_t size)
{
    struct post *post = arg;
    struct command *command = (void *)(uintptr_t)record; /* the mail is ours until we return */
    struct view *views = views_of(command, command->kind);
    uint8_t *octets = (uint8_t *)command + align8(rows[command->kind].size);
    struct content *content = content_of(command, command->kind);

    (void)from;
    (void)size;
    for (size_t i = 0; i < views_to_copy(command, command->kind); i++) {
        views[i].at = octets;
        octets += align8(views[i].len);
    }
    post->handlers[command->kind].handle(post->handlers[command->kind].arg, command);
    if (content != NULL)
        blob_unref(&content->blob);
}

void
post_mail(struct post *post, unsigned to, const struct command *command)
{
    pack(worker_mail(post->worker, to, packed_size(command)), command);
}

void
post_from_outside(struct worker *to, const struct command *command)
{
    size_t size = packed_size(command);
    void *record = mem_alloc(size);

    pack(record, command);
    worker_mail_from_outside(to, record, size);
    free(record);
}

void
post_init(struct post *post, struct worker *worker)
{
    static const struct worker_ops ops = {.mail = on_mail};

    *post = (struct post){.worker = worker, .index = worker_index(worker)};
    worker_set_ops(worker, &ops, post);
}

void
post_handle(struct post *post, enum command_kind kind, command_fn *handle, void *arg)
{
    assert(post->handlers[kind].handle == NULL);
    post->handlers[kind].handle = handle;
    post->handlers[kind].arg = arg;
}
