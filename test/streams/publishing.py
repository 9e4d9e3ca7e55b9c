"""publishing: into streams by every way there is, and what a confirm promises."""

import os
import signal

from parts import *  # noqa: F403
from harness import case, equal, put, ready, take, until


@case
def messages_come_back_as_they_went_in(server):
    channel = server.channel()
    channel.exchange_declare("x", "topic")
    declare(channel, "s")
    channel.queue_bind("s", "x", "a.#")
    properties = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=1, priority=7,
        correlation_id="c", reply_to="r", expiration="5", message_id="m", timestamp=1234567890,
        type="t", user_id="guest", app_id="a",
        headers={"n": -5, "s": "text", "b": True, "l": [1, "two"], "t": {"k": None},
                 "x-stream-offset": 77})
    channel.basic_publish("x", "a.b.c", b"\x00\xff", properties)
    channel.basic_publish("", "s", b"", pika.BasicProperties())
    method, got, body = consume(server, "s", "first").wait(2)[0]
    equal((method.exchange, method.routing_key, method.redelivered, body),
          ("x", "a.b.c", False, b"\x00\xff"), "delivery")
    want = dict(properties.headers, **{"x-stream-offset": 0})
    equal(got.headers, want, "headers")
    for name in ("content_type", "content_encoding", "delivery_mode", "priority",
                 "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type",
                 "user_id", "app_id"):
        equal(getattr(got, name), getattr(properties, name), name)


@case
def bodies_of_all_sizes(server):
    channel = server.channel()
    declare(channel, "s")
    sizes = [0, 1, 255, 256, 16383, 16384, 70000, 131072 * 3, 5 << 20]
    for n, size in enumerate(sizes):
        put(channel, "s", bytes([n]) * size)
    got = read(consume(server, "s", "first", prefetch=2), len(sizes))
    for n, size in enumerate(sizes):
        assert got[n] == (n, bytes([n]) * size), f"body of {size} octets"


@case
def one_publish_for_streams_and_queues(server):
    """Confirmed once, when it is safe in all of them."""
    channel = server.channel()
    channel.exchange_declare("all", "fanout", durable=True)
    streams = [f"s{i}" for i in range(4)]
    queues = [f"q{i}" for i in range(4)]
    for name in streams:
        declare(channel, name)
    for name in queues:
        channel.queue_declare(name, durable=True)
    for name in streams + queues:
        channel.queue_bind(name, "all")
    for n in range(20):
        put(channel, "", n, exchange="all")
    server.restart(kill=True)
    channel = server.channel()
    for name in streams + queues:
        equal(ready(channel, name), 20, f"messages in {name}")
    for name in streams:
        equal(read(consume(server, name, "first"), 20), numbers(0, 20), name)
    equal(take(channel, "q0")[2], b"0", "first of q0")


@case
def a_transaction_is_safe_when_committed(server):
    channel = server.channel(confirm=False)
    declare(channel, "s")
    channel.tx_select()
    put(channel, "s", "rolled back")
    channel.tx_rollback()
    for n in range(10):
        put(channel, "s", n)
    equal(ready(channel, "s"), 0, "messages before the commit")
    channel.tx_commit()
    server.restart(kill=True)
    channel = server.channel()
    equal(ready(channel, "s"), 10, "messages")
    equal(read(consume(server, "s", "first"), 10), numbers(0, 10), "what is read")


@case
def dead_letters_may_go_to_a_stream(server):
    channel = server.channel()
    declare(channel, "s")
    channel.queue_declare("q", arguments={"x-dead-letter-exchange": "",
                                          "x-dead-letter-routing-key": "s"})
    put(channel, "q", "one")
    method, _, _ = take(channel, "q", ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    _, properties, body = consume(server, "s", "first").wait(1)[0]
    equal((body, properties.headers["x-death"][0]["reason"]), (b"one", "rejected"), "dead letter")


@case
def what_was_confirmed_survives_kill_9(server):
    """The broker is killed while a publisher is at it: no gap, nothing twice, nothing missing."""
    declare(server.channel(), "s")
    seen = 0
    for life in range(3):
        confirmed = seen + 50
        fill(server.channel(), "s", seen, confirmed)
        channel = server.channel(confirm=False)
        for n in range(confirmed, confirmed + 200):  # not waited for
            channel.basic_publish("", "s", str(n).encode())
        server.restart(kill=True)
        seen = ready(server.channel(), "s")
        assert seen >= confirmed, f"{confirmed} confirmed, {seen} there, life {life}"
        equal(read(consume(server, "s", "first", prefetch=1000), seen), numbers(0, seen),
              "what is read")


@case
def a_torn_tail_is_cut(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 10)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.connections = []
    folder = os.path.join(server.data, "streams", os.listdir(
        os.path.join(server.data, "streams"))[0])
    segment = os.path.join(folder, next(n for n in os.listdir(folder) if n.endswith(".seg")))
    with open(segment, "r+b") as f:
        octets = f.read().rstrip(b"\0")
        f.seek(len(octets) - 2)
        f.write(b"\xaa\xaa\xaa\xaa")  # in the last chunk's data, and behind it
    if os.path.exists(segment[:-4] + ".idx"):
        os.unlink(segment[:-4] + ".idx")
    server.start()
    channel = server.channel()
    equal(ready(channel, "s"), 9, "messages")
    put(channel, "s", 9)
    equal(read(consume(server, "s", "first"), 10), numbers(0, 10), "what is read")


@case
def what_rotted_is_told_and_the_rest_is_served(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 30)
    server.end()
    folder = os.path.join(server.data, "streams", os.listdir(
        os.path.join(server.data, "streams"))[0])
    segment = os.path.join(folder, next(n for n in os.listdir(folder) if n.endswith(".seg")))
    with open(segment, "r+b") as f:
        octets = f.read()
        at = octets.index(b"\x00\x53\x75\xa0\x0212")  # the data section of the body "12"
        f.seek(at + 5)
        f.write(b"XX")
    server.start()
    got = read(consume(server, "s", "first"), 29)
    equal(got, [m for m in numbers(0, 30) if m[0] != 12], "what is read")
    until(lambda: "offsets 12 to 12 are lost" in server.stderr(), "the log tells of it")
