"""declaring: queue.declare and delete of streams, get and purge, definitions."""

import json
import os
import signal

from parts import *  # noqa: F403
from harness import case, equal, put, ready, until

S = f"queue 's' {VHOST}"
P = "PRECONDITION_FAILED - "


def declares(server, **how):
    how = {"durable": True, **how}
    how["arguments"] = {"x-queue-type": "stream", **how.get("arguments", {})}
    name = how.pop("name", "s")
    return lambda: server.channel().queue_declare(name, **how)


@case
def what_a_stream_cannot_be_is_refused(server):
    for text, how in (
            (f"invalid property 'non-durable' for {S}", {"durable": False}),
            (f"invalid property 'exclusive-owner' for {S}", {"exclusive": True}),
            (f"invalid property 'auto-delete' for {S}", {"auto_delete": True}),
            ("Cannot declare a server-named queue for type rabbit_stream_queue", {"name": ""})):
        refused(406, P + text, declares(server, **how))


@case
def arguments_are_checked(server):
    for text, name, value in (
            (f"invalid arg 'x-overflow' for {S} of queue type rabbit_stream_queue",
             "x-overflow", "drop-head"),
            (f"invalid arg 'x-message-ttl' for {S} of queue type rabbit_stream_queue",
             "x-message-ttl", 5),
            (f"invalid arg 'x-max-age' for {S}: invalid_max_age", "x-max-age", "7d"),
            (f"invalid arg 'x-max-age' for {S}: invalid_max_age", "x-max-age", "D"),
            (f"invalid arg 'x-max-age' for {S}: invalid_max_age", "x-max-age", "0D"),
            (f"invalid arg 'x-max-age' for {S}: {{unacceptable_type,signedint}}", "x-max-age", 70000),
            (f"invalid arg 'x-max-length-bytes' for {S}: \"expected integer, got longstr\"",
             "x-max-length-bytes", "many"),
            (f"invalid arg 'x-max-length-bytes' for {S}: {{value_negative,-1}}",
             "x-max-length-bytes", -1),
            (f"invalid arg 'x-initial-cluster-size' for {S}: {{value_zero,0}}",
             "x-initial-cluster-size", 0),
            ("Exceeded max value for x-stream-max-segment-size-bytes",
             "x-stream-max-segment-size-bytes", 3000000001),
            ("Invalid value for x-stream-filter-size-bytes", "x-stream-filter-size-bytes", 15),
            ("Invalid value for x-stream-filter-size-bytes", "x-stream-filter-size-bytes", 256)):
        try:
            refused(406, P + text, declares(server, arguments={name: value}))
        except AssertionError as e:
            raise AssertionError(f"{name}={value!r}: {e}") from e
    declare(server.channel(), "s", x_max_length_bytes=10**9, x_max_age="7D", x_foo="bar",
            x_stream_max_segment_size_bytes=3000000000, x_stream_filter_size_bytes=255,
            x_initial_cluster_size=3, x_queue_leader_locator="balanced")


@case
def a_second_declare_has_to_say_the_same(server):
    channel = server.channel()
    declare(channel, "s", x_max_age="7D")
    put(channel, "s", 1)
    equal(declare(channel, "s", x_max_age="7D").method.message_count, 1, "messages")
    refused(406, f"{P}inequivalent arg 'x-max-age' for {S}: received none but current is the value"
                 " '7D' of type 'longstr'", declares(server))
    refused(406, f"{P}inequivalent arg 'x-queue-type' for {S}: received none but current is the"
                 " value 'stream' of type 'longstr'",
            lambda: server.channel().queue_declare("s", durable=True,
                                                   arguments={"x-max-age": "7D"}))


@case
def get_and_purge_are_refused(server):
    declare(server.channel(), "s")
    for what, method in (("basic.get", lambda c: c.basic_get("s")),
                         ("queue.purge", lambda c: c.queue_purge("s"))):
        channel = server.channel()
        refused(540, f"NOT_IMPLEMENTED - {what} not supported by stream queues {S}",
                method, channel)


@case
def a_deleted_stream_leaves_nothing_and_tells_its_consumers(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 3)
    folder = os.path.join(server.data, "streams")
    equal(len(os.listdir(folder)), 1, "folders")
    consumer = consume(server, "s", "first")
    consumer.wait(3)
    told = []
    consumer.channel.add_on_cancel_callback(told.append)
    equal(channel.queue_delete("s", if_unused=True, if_empty=True).method.message_count, 0,
          "messages of delete-ok")
    until(lambda: consumer.step() or told, "basic.cancel")
    until(lambda: not os.listdir(folder), "no folder left")
    consumer.channel.basic_ack(0, multiple=True)  # of a queue that is gone: fine
    declare(channel, "s")
    equal(ready(channel, "s"), 0, "messages of the new one")
    fill(channel, "s", 10, 12)
    equal(read(consume(server, "s", "first"), 2), [(0, b"10"), (1, b"11")], "what is read")


@case
def definitions_have_it_with_its_type(server):
    path = os.path.join(server.directory, "definitions.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"vhosts": [{"name": "/"}],
                   "queues": [{"vhost": "/", "name": "d", "type": "stream", "durable": True,
                               "auto_delete": False, "arguments": {"x-max-age": "1h"}}]}, f)
    server.end()
    server.command += ["-o", f"broker.load_definitions={path}"]
    server.start()
    channel = server.channel()
    equal(declare(channel, "d", x_max_age="1h").method.message_count, 0, "messages")
    fill(channel, "d", 0, 5)
    equal(read(consume(server, "d", "first"), 5), numbers(0, 5), "what is read")
    server.process.send_signal(signal.SIGHUP)
