#include "lepus/wire/frame.h"

#include "lepus/wire/cursor.h"
#include "lepus/wire/method.h"
#include "lepus/wire/props.h"

enum { SNIPPET_MAX = 16 }; /* octets of a payload that an error text shows */

/* Writes octets as RabbitMQ's error texts do: <<"GET / HT">> when all are printable ASCII, else
 * <<1,2,3>>. */
static void
print_octets(char *to, size_t size, struct view octets)
{
    bool is_text = octets.len > 0;
    size_t n = 0;

    for (size_t i = 0; i < octets.len; i++)
        is_text = is_text && octets.at[i] >= ' ' && octets.at[i] <= '~' && octets.at[i] != '"';
    if (is_text) {
        snprintf(to, size, "<<\"" VIEW_FMT "\">>", VIEW_ARG(octets));
        return;
    }
    to[0] = '\0';
    for (size_t i = 0; i < octets.len; i++)
        n += (size_t)snprintf(to + n, size - n, "%s%u", i > 0 ? "," : "<<", octets.at[i]);
    snprintf(to + n, size - n, octets.len > 0 ? ">>" : "<<>>");
}

static enum frame_result
refuse(struct err *err, uint8_t type, struct view payload, const char *why)
{
    char octets[SNIPPET_MAX * 4 + 8];
    size_t shown = payload.len > SNIPPET_MAX ? SNIPPET_MAX : payload.len;

    print_octets(octets, sizeof(octets), view_of(payload.at, shown));
    err_set(err, FRAME_ERROR, "type %u, %s octets = %s: %s", type,
            shown < payload.len ? "first 16" : "all", octets, why);
    return FRAME_BAD;
}

enum frame_result
frame_judge_head(const uint8_t *head, uint32_t frame_max, struct err *err)
{
    const struct view none = {NULL, 0};
    uint32_t size = be_u32(head + 3);
    char why[64];

    if (head[0] != FRAME_METHOD && head[0] != FRAME_HEADER && head[0] != FRAME_BODY &&
        head[0] != FRAME_HEARTBEAT)
        return refuse(err, head[0], none, "unknown_frame");
    if (head[0] == FRAME_HEARTBEAT && size > 0)
        return refuse(err, head[0], none, "heartbeat with a payload");
    if (frame_max != 0 && size > frame_max) {
        snprintf(why, sizeof(why), "{frame_too_large,%u,%u}", size, frame_max - FRAME_OVERHEAD);
        return refuse(err, head[0], none, why);
    }
    return FRAME_READY;
}

enum frame_result
frame_refuse_end(const struct frame *frame, uint8_t end, struct err *err)
{
    char why[64];

    snprintf(why, sizeof(why), "{invalid_frame_end_marker,%u}", end);
    return refuse(err, frame->type, frame->payload, why);
}

static bool
refuse_content_header(struct view payload, struct err *err)
{
    struct cursor r = cursor_of(payload);
    uint16_t class_id = rd_u16(&r), weight = rd_u16(&r);

    if (payload.len < CONTENT_HEADER_HEAD_SIZE + sizeof(uint16_t))
        return err_set(err, FRAME_ERROR, "content header of %zu octets is cut short", payload.len);
    if (class_id != CLASS_basic)
        return err_set(err, UNEXPECTED_FRAME,
                       "expected content header for class %d, got one for class %u instead",
                       CLASS_basic, class_id);
    if (weight != 0)
        return err_set(err, UNEXPECTED_FRAME,
                       "expected content header for class %d, got one with weight %u instead",
                       CLASS_basic, weight);
    return err_set(err, FRAME_ERROR, "malformed properties in content header");
}

bool
content_header_decode(struct view payload, struct content_header *out, struct err *err)
{
    const uint8_t *at = payload.at;
    struct view properties;

    if (payload.len < CONTENT_HEADER_HEAD_SIZE + sizeof(uint16_t) ||
        be_u32(at) != (uint32_t)CLASS_basic << 16) /* class and weight 0 at once */
        return refuse_content_header(payload, err);
    properties = view_of(at + CONTENT_HEADER_HEAD_SIZE, payload.len - CONTENT_HEADER_HEAD_SIZE);
    if (!props_check(properties))
        return refuse_content_header(payload, err);
    out->class_id = CLASS_basic;
    out->body_size = be_u64(at + 4);
    out->properties = properties;
    return true;
}
