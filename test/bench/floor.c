/*
 * floor: the least that can be called a broker, to measure the others by.
 *
 *     floor [--all]        listens on a port of 127.0.0.1 that the kernel chooses
 *
 * It answers what a client must hear to get going, parses each publish, and copies it out to one
 * consumer; with --all, to every one. That is all: there are no queues (a message without a
 * consumer is dropped), no routing (consumers are served in turn), acknowledgements are read and
 * forgotten, confirms are sent at the end of the turn in which the message was read. One thread,
 * large reads, large writes. What a real broker needs more than this per message is the cost of
 * being one; what the floor itself needs is the price of sockets and framing, which no broker on
 * this kernel can go below by much.
 *
 * It holds publishers back while a consumer does not keep up, or it would measure malloc. Like
 * lepusd it says on standard output when it is ready, and it ends at SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lepus/base/list.h"
#include "lepus/base/mem.h"
#include "lepus/wire/frame.h"
#include "lepus/wire/method.h"
#include "lepus/wire/octets.h"

enum {
    INPUT_SIZE = 256 * 1024,
    FRAME_MAX = 128 * 1024,
    TAIL_MAX = FRAME_MAX + 64,
    CHANNELS = 64, /* of a connection, that may publish with confirms */
    OUT_MAX = 1 << 30,
    HOLD_BYTES = 2 * 1024 * 1024, /* waiting for a consumer: publishers are held back */
    GO_BYTES = 512 * 1024,        /* and may go on */
    IDS_SIZE = 4,
    TAG_MAX = 32,
    BACKLOG = 1024,
};

#define IDS(class_id, method_id) ((uint32_t)(class_id) << 16 | (method_id))

struct consumer {
    struct list link; /* in floor.consumers */
    struct conn *conn;
    uint16_t channel;
    uint64_t delivery_tag; /* of the last delivery */
    uint8_t tag_size, tag[TAG_MAX];
};

struct conn {
    struct list link;    /* in floor.conns */
    struct list touched; /* in floor.touched, while this turn gave it output or closed it */
    struct floor *floor;
    int fd;
    struct event *readable, *writable;
    bool has_header, awaits_writable, publishes, is_held, is_congested;
    bool is_closing; /* answer what there is, then close */
    bool is_gone;    /* close at the end of the turn */
    uint8_t *tail;
    size_t tail_len;
    struct buf out;
    size_t sent;

    struct consumer *target; /* of the content that is being read; NULL: none, or all */
    bool has_confirms;
    uint64_t published[CHANNELS], confirmed[CHANNELS];
    bool confirms[CHANNELS];
};

struct floor {
    struct event_base *base;
    struct list conns, consumers, touched;
    bool copies_to_all;
    unsigned congested; /* connections that are */
    uint8_t *input;
};

/* Output */

static void
touch(struct conn *c)
{
    if (!list_is_linked(&c->touched))
        list_append(&c->floor->touched, &c->touched);
}

static uint8_t *
reserve(struct conn *c, size_t n)
{
    uint8_t *at = buf_reserve(&c->out, n);

    if (at == NULL) {
        fprintf(stderr, "floor: more than %d octets wait for a client\n", OUT_MAX);
        exit(1);
    }
    touch(c);
    return at;
}

static void
answer(struct conn *c, uint16_t channel, enum method method, const void *args)
{
    method_write(&c->out, channel, method, args);
    touch(c);
}

static void
hold_publishers(struct floor *floor, bool holds)
{
    list_each (at, &floor->conns) {
        struct conn *c = container_of(at, struct conn, link);

        if (!c->publishes || c->is_held == holds)
            continue;
        c->is_held = holds;
        if (holds)
            event_del(c->readable);
        else
            event_add(c->readable, NULL);
    }
}

static void
set_congested(struct conn *c, bool is_congested)
{
    struct floor *floor = c->floor;

    if (c->is_congested == is_congested)
        return;
    c->is_congested = is_congested;
    floor->congested += is_congested ? 1u : -1u;
    if (floor->congested == (is_congested ? 1u : 0u))
        hold_publishers(floor, is_congested);
}

static void
await_writable(struct conn *c, bool awaits)
{
    if (c->awaits_writable == awaits)
        return;
    c->awaits_writable = awaits;
    if (awaits)
        event_add(c->writable, NULL);
    else
        event_del(c->writable);
}

/* What was sent makes room when that costs less than it gives. */
static void
compact(struct conn *c)
{
    size_t waiting = c->out.len - c->sent;

    if (waiting == 0)
        buf_clear(&c->out);
    else if (c->sent > INPUT_SIZE && c->sent >= waiting) {
        memmove(c->out.at, c->out.at + c->sent, waiting);
        c->out.len = waiting;
    } else
        return;
    c->sent = 0;
}

static void
flush(struct conn *c)
{
    size_t waiting;

    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.at + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);

        if (n < 0) {
            c->is_gone = c->is_gone || (errno != EAGAIN && errno != EINTR);
            break;
        }
        c->sent += (size_t)n;
    }
    compact(c);
    waiting = c->out.len - c->sent;
    if (waiting == 0 && c->is_closing)
        c->is_gone = true;
    await_writable(c, waiting > 0);
    if (waiting > HOLD_BYTES)
        set_congested(c, true);
    else if (waiting <= GO_BYTES)
        set_congested(c, false);
}

/* Messages */

static struct consumer *
next_consumer(struct floor *floor)
{
    struct list *first = list_take_first(&floor->consumers);

    if (first == NULL)
        return NULL;
    list_append(&floor->consumers, first);
    return container_of(first, struct consumer, link);
}

/* exchange and routing key as they stand in basic.publish: two short strings. */
static void
put_deliver(struct consumer *to, const uint8_t *names, size_t names_size)
{
    size_t size = IDS_SIZE + 1u + to->tag_size + 9u + names_size;
    uint8_t *at = reserve(to->conn, size + FRAME_OVERHEAD);

    at = frame_put_head(at, FRAME_METHOD, to->channel, (uint32_t)size);
    at = be_put_u32(at, IDS(60, 60));
    at = be_put_u8(at, to->tag_size);
    memcpy(at, to->tag, to->tag_size);
    at = be_put_u64(at + to->tag_size, ++to->delivery_tag);
    at = be_put_u8(at, 0);
    memcpy(at, names, names_size);
    at[names_size] = FRAME_END;
    to->conn->out.len += size + FRAME_OVERHEAD;
}

/* A header or body frame as it came, on another channel. */
static void
put_frame(struct consumer *to, const uint8_t *frame, size_t size)
{
    uint8_t *at = reserve(to->conn, size);

    memcpy(at, frame, size);
    be_put_u16(at + 1, to->channel);
    to->conn->out.len += size;
}

static void
on_publish(struct conn *c, uint16_t channel, const uint8_t *payload, size_t len)
{
    const uint8_t *names = payload + IDS_SIZE + 2;
    size_t names_size = len - IDS_SIZE - 3;

    c->publishes = true;
    if (c->floor->congested > 0 && !c->is_held) {
        c->is_held = true;
        event_del(c->readable);
    }
    if (channel < CHANNELS)
        c->published[channel]++;
    if (!c->floor->copies_to_all) {
        c->target = next_consumer(c->floor);
        if (c->target != NULL)
            put_deliver(c->target, names, names_size);
        return;
    }
    list_each (at, &c->floor->consumers)
        put_deliver(container_of(at, struct consumer, link), names, names_size);
}

static void
on_content(struct conn *c, const uint8_t *frame, size_t size)
{
    if (c->target != NULL)
        put_frame(c->target, frame, size);
    if (!c->floor->copies_to_all)
        return;
    list_each (at, &c->floor->consumers)
        put_frame(container_of(at, struct consumer, link), frame, size);
}

static void
confirm(struct conn *c)
{
    for (uint16_t i = 0; i < CHANNELS; i++) {
        if (!c->confirms[i] || c->confirmed[i] == c->published[i])
            continue;
        c->confirmed[i] = c->published[i];
        answer(c, i, METHOD_basic_ack,
               &(struct basic_ack){.delivery_tag = c->published[i], .multiple = true});
    }
}

/* Other methods */

static void
remove_consumers(struct conn *c)
{
    list_each_safe (at, &c->floor->consumers) {
        struct consumer *consumer = container_of(at, struct consumer, link);

        if (consumer->conn != c)
            continue;
        list_each (other, &c->floor->conns) {
            struct conn *publisher = container_of(other, struct conn, link);

            if (publisher->target == consumer)
                publisher->target = NULL;
        }
        list_remove(at);
        free(consumer);
    }
}

static void
on_consume(struct conn *c, uint16_t channel, const struct basic_consume *args)
{
    struct consumer *consumer = mem_new(struct consumer);
    struct view tag = args->consumer_tag.len > 0 ? args->consumer_tag : VIEW_LIT("c");

    consumer->conn = c;
    consumer->channel = channel;
    consumer->tag_size = (uint8_t)(tag.len < TAG_MAX ? tag.len : TAG_MAX);
    memcpy(consumer->tag, tag.at, consumer->tag_size);
    list_append(&c->floor->consumers, &consumer->link);
    answer(c, channel, METHOD_basic_consume_ok, &(struct basic_consume_ok){.consumer_tag = tag});
}

static void
on_start_ok(struct conn *c)
{
    answer(c, 0, METHOD_connection_tune,
           &(struct connection_tune){.channel_max = 2047, .frame_max = FRAME_MAX});
}

static void
on_confirm_select(struct conn *c, uint16_t channel)
{
    if (channel < CHANNELS)
        c->has_confirms = c->confirms[channel] = true;
    answer(c, channel, METHOD_confirm_select_ok, NULL);
}

/* Methods that want an answer without a thought: the answer is the row below, all zero. */
static const struct {
    enum method method, answer;
} answers[] = {
    {METHOD_connection_open, METHOD_connection_open_ok},
    {METHOD_channel_open, METHOD_channel_open_ok},
    {METHOD_channel_close, METHOD_channel_close_ok},
    {METHOD_exchange_declare, METHOD_exchange_declare_ok},
    {METHOD_exchange_delete, METHOD_exchange_delete_ok},
    {METHOD_queue_bind, METHOD_queue_bind_ok},
    {METHOD_queue_purge, METHOD_queue_purge_ok},
    {METHOD_queue_delete, METHOD_queue_delete_ok},
    {METHOD_basic_qos, METHOD_basic_qos_ok},
};

static void
on_method(struct conn *c, uint16_t channel, const uint8_t *payload, size_t len)
{
    enum method method = method_find(be_u16(payload), be_u16(payload + 2));
    union method_args args, none = {0};
    struct err err = {0};

    if (method == METHOD_UNKNOWN ||
        !method_decode(method, view_of(payload + IDS_SIZE, len - IDS_SIZE), &args, &err)) {
        c->is_gone = true;
        touch(c);
        return;
    }
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        if (answers[i].method == method)
            answer(c, channel, answers[i].answer, &none);
    if (method == METHOD_connection_start_ok)
        on_start_ok(c);
    else if (method == METHOD_queue_declare)
        answer(c, channel, METHOD_queue_declare_ok,
               &(struct queue_declare_ok){.queue = args.queue_declare.queue.len > 0
                                                       ? args.queue_declare.queue
                                                       : VIEW_LIT("q")});
    else if (method == METHOD_basic_consume)
        on_consume(c, channel, &args.basic_consume);
    else if (method == METHOD_confirm_select)
        on_confirm_select(c, channel);
    else if (method == METHOD_connection_close) {
        answer(c, 0, METHOD_connection_close_ok, NULL);
        c->is_closing = true;
    }
}

/* Input */

static void
on_frame(struct conn *c, const uint8_t *frame, size_t size)
{
    const uint8_t *payload = frame + FRAME_HEAD_SIZE;
    size_t len = size - FRAME_OVERHEAD;
    uint32_t ids;

    if (frame[0] == FRAME_HEADER || frame[0] == FRAME_BODY) {
        on_content(c, frame, size);
        return;
    }
    if (frame[0] != FRAME_METHOD || len < IDS_SIZE)
        return;
    ids = be_u32(payload);
    if (ids == IDS(60, 40) && len > IDS_SIZE + 4)
        on_publish(c, be_u16(frame + 1), payload, len);
    else if (ids != IDS(60, 80))
        on_method(c, be_u16(frame + 1), payload, len);
}

static size_t
read_protocol_header(struct conn *c, size_t len)
{
    if (len < 8)
        return 0;
    c->has_header = true;
    answer(c, 0, METHOD_connection_start,
           &(struct connection_start){
               .version_minor = 9, .mechanisms = VIEW_LIT("PLAIN"), .locales = VIEW_LIT("en_US")});
    return 8;
}

static size_t
scan(struct conn *c, const uint8_t *at, size_t len)
{
    size_t done = c->has_header ? 0 : read_protocol_header(c, len);

    while (len - done >= FRAME_OVERHEAD) {
        size_t size = (size_t)be_u32(at + done + 3) + FRAME_OVERHEAD;

        if (size > TAIL_MAX) {
            c->is_gone = true;
            touch(c);
            return len;
        }
        if (len - done < size)
            break;
        on_frame(c, at + done, size);
        done += size;
    }
    return done;
}

static void
conn_free(struct conn *c)
{
    set_congested(c, false);
    remove_consumers(c);
    list_remove(&c->link);
    event_free(c->readable);
    event_free(c->writable);
    close(c->fd);
    free(c->tail);
    buf_fini(&c->out);
    free(c);
}

/* Everything that this turn wrote goes out. */
static void
end_turn(struct floor *floor)
{
    struct list *first;

    while ((first = list_take_first(&floor->touched)) != NULL) {
        struct conn *c = container_of(first, struct conn, touched);

        if (!c->is_gone)
            flush(c);
        if (c->is_gone)
            conn_free(c);
    }
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    struct floor *floor = c->floor;
    uint8_t *at = floor->input + TAIL_MAX - c->tail_len;
    ssize_t n = recv(fd, floor->input + TAIL_MAX, INPUT_SIZE, 0);
    size_t len = c->tail_len, done;

    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        c->is_gone = true;
        touch(c);
        end_turn(floor);
        return;
    }
    if (len > 0)
        memcpy(at, c->tail, len);
    len += (size_t)n;
    done = scan(c, at, len);
    c->tail_len = len - done;
    if (c->tail_len > 0) {
        c->tail = mem_resize(c->tail, TAIL_MAX);
        memcpy(c->tail, at + done, c->tail_len);
    }
    if (c->has_confirms)
        confirm(c);
    end_turn(floor);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    touch(c);
    end_turn(c->floor);
}

static void
on_connection(evutil_socket_t listener, short what, void *arg)
{
    struct floor *floor = arg;
    int fd = accept(listener, NULL, NULL), on = 1;
    struct conn *c;

    (void)what;
    if (fd < 0)
        return;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = mem_new(struct conn);
    c->floor = floor;
    c->fd = fd;
    buf_init(&c->out, OUT_MAX);
    c->readable = event_new(floor->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(floor->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    event_add(c->readable, NULL);
    list_append(&floor->conns, &c->link);
}

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
    (void)number;
    (void)what;
    event_base_loopbreak(arg);
}

/* The port, or 0. */
static unsigned
listen_on_loopback(int *out_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    *out_fd = fd;
    return ntohs(address.sin_port);
}

int
main(int argc, char **argv)
{
    struct floor floor = {.copies_to_all = argc > 1 && strcmp(argv[1], "--all") == 0};
    struct event *accepting, *terminated;
    int fd;
    unsigned port = listen_on_loopback(&fd);

    if (port == 0) {
        perror("floor: listen");
        return 1;
    }
    floor.base = event_base_new();
    floor.input = mem_alloc(TAIL_MAX + INPUT_SIZE);
    list_init(&floor.conns);
    list_init(&floor.consumers);
    list_init(&floor.touched);
    accepting = event_new(floor.base, fd, EV_READ | EV_PERSIST, on_connection, &floor);
    terminated = event_new(floor.base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, floor.base);
    event_add(accepting, NULL);
    event_add(terminated, NULL);
    printf("ready amqp=127.0.0.1:%u pid=%ld\n", port, (long)getpid());
    fflush(stdout);
    event_base_dispatch(floor.base);
    while (!list_is_empty(&floor.conns))
        conn_free(container_of(floor.conns.next, struct conn, link));
    event_free(accepting);
    event_free(terminated);
    event_base_free(floor.base);
    close(fd);
    free(floor.input);
    return 0;
}
