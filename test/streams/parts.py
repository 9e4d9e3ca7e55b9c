"""parts: what the cases of this suite share, beside the harness of test/queue_life."""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                             "queue_life"))

import harness  # noqa: E402
import pika  # noqa: E402
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker  # noqa: E402

VHOST = "in vhost '/'"


def declare(channel, name, **arguments):
    """x_max_age=... becomes x-max-age."""
    arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
    return channel.queue_declare(name, durable=True,
                                 arguments={"x-queue-type": "stream", **arguments})


def fill(channel, name, first, end, **properties):
    """Messages whose bodies are the numbers [first, end): each is safe when this returns."""
    for n in range(first, end):
        harness.put(channel, name, n, **properties)


def fill_fast(server, name, n, size=0):
    """n messages more without waiting for each: the stream is asked until it has them all."""
    channel = server.channel(confirm=False)
    have = harness.ready(channel, name)
    for body in range(have, have + n):
        channel.basic_publish("", name, str(body).encode().ljust(size))
    harness.until(lambda: harness.ready(channel, name) == have + n, f"{n} messages in {name}")
    channel.connection.close()
    server.connections.remove(channel.connection)


def consume(server, name, offset=None, prefetch=100, tag=None, **arguments):
    arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
    if offset is not None:
        arguments["x-stream-offset"] = offset
    how = {"consumer_tag": tag} if tag else {}
    return harness.Consumer(server, name, prefetch=prefetch, arguments=arguments, **how)


def offset_of(delivery):
    return delivery[1].headers["x-stream-offset"]


def ack(consumer, delivery, multiple=False):
    consumer.channel.basic_ack(delivery[0].delivery_tag, multiple=multiple)


def read(consumer, n):
    """n deliveries from now on, each settled when it is seen: (offset, body)."""
    seen = []

    def enough():
        consumer.channel.connection.process_data_events(time_limit=0.02)
        while consumer.got and len(seen) < n:
            delivery = consumer.got.pop(0)
            seen.append((offset_of(delivery), delivery[2]))
            ack(consumer, delivery)
        return len(seen) >= n

    harness.until(enough, f"{n} deliveries")
    return seen


def numbers(first, end):
    """What read gives of what fill wrote."""
    return [(n, str(n).encode()) for n in range(first, end)]


def nothing_more(consumer):
    """Nothing is on its way: whatever was, came before the answer to a method."""
    consumer.channel.basic_qos(prefetch_count=1)
    consumer.step()
    harness.equal(len(consumer.got), 0, "deliveries")


def refused(code, text, method, *args, **how):
    """The method is refused so; its channel, or for a 5xx its connection, is gone."""
    try:
        method(*args, **how)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as e:
        harness.equal((e.reply_code, e.reply_text), (code, text), "refusal")
        harness.equal(isinstance(e, ConnectionClosedByBroker), code >= 500, "connection closed")
        return
    raise AssertionError(f"not refused: {code} {text}")


__all__ = ["VHOST", "ack", "consume", "declare", "fill", "fill_fast", "harness", "nothing_more",
           "numbers", "offset_of", "pika", "read", "refused"]
