"""groups: consumers that share an offset, of whom one is active."""

import os

from parts import *  # noqa: F403
from harness import case, equal, put, until


def saved(server):
    """What of groups is on disk: the octets of the streams' offset files."""
    found = b""
    for folder, _, names in os.walk(os.path.join(server.data, "streams")):
        for name in names:
            if name.startswith("offsets."):
                with open(os.path.join(folder, name), "rb") as f:
                    found += f.read()
    return found


def offset_is_saved(server, group, offset):
    until(lambda: offset.to_bytes(8, "big") + group.encode() in saved(server),
          f"offset {offset} of group {group} on disk")


@case
def a_group_goes_on_where_it_was(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 30)
    a = consume(server, "s", "first", x_stream_group="g")
    equal(read(a, 10), numbers(0, 10), "the first ten")
    a.close()
    b = consume(server, "s", "first", prefetch=8, x_stream_group="g")
    got = list(b.wait(8))
    equal([offset_of(d) for d in got], list(range(30))[10:18], "from where it was")
    for n in (0, 1, 4, 6):  # the others are not settled: they come again
        ack(b, got[n])
    b.wait(12)
    b.close()
    c = consume(server, "s", "next", x_stream_group="g")
    equal(read(c, 18), numbers(12, 30), "from the first that was not settled")
    other = consume(server, "s", 28, x_stream_group="other")
    equal(read(other, 2), numbers(28, 30), "another group")


@case
def its_offset_survives(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 20)
    a = consume(server, "s", "first", x_stream_group="g")
    read(a, 7)
    server.restart(kill=False)
    b = consume(server, "s", "first", x_stream_group="g")
    equal(read(b, 5), numbers(7, 12), "after an orderly restart")
    offset_is_saved(server, "g", 12)
    server.restart(kill=True)
    c = consume(server, "s", "first", x_stream_group="g")
    equal(read(c, 8), numbers(12, 20), "after kill -9")


@case
def one_member_is_active(server):
    """The others stand by, and the one that has waited longest takes over."""
    channel = server.channel()
    declare(channel, "s")
    members = [consume(server, "s", "first", prefetch=4, x_stream_group="g") for _ in range(3)]
    fill(channel, "s", 0, 20)
    members[0].wait(4)
    for m in members[1:]:
        nothing_more(m)
    equal(read(members[0], 6), numbers(0, 6), "of the first member")
    members[0].drop()
    members[1].wait(4)
    nothing_more(members[2])
    equal(read(members[1], 6), numbers(6, 12), "of the second")
    members[1].wait(4)  # what comes while it cancels, pika gives back by itself
    members[1].channel.basic_cancel(members[1].tag)
    nothing_more(members[2])  # the second holds something still, and may settle it
    members[1].close_channel()
    equal(read(members[2], 8), numbers(12, 20), "of the third")


@case
def what_its_first_member_did_not_settle_is_not_lost(server):
    """Though it began at the end, and so does the next one."""
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 5)
    for how in ({"offset": "next"}, {"offset": "1h"}):
        group = how["offset"]
        a = consume(server, "s", x_stream_group=group, **how)
        first = harness.ready(channel, "s") if group == "next" else 0
        fill(channel, "s", harness.ready(channel, "s"), harness.ready(channel, "s") + 3)
        a.wait(3)
        a.drop()
        b = consume(server, "s", "next", x_stream_group=group)
        equal(read(b, 3), numbers(first, first + 3), f"of group {group}")
    a = consume(server, "s", "next", x_stream_group="idle")
    last = harness.ready(channel, "s")
    a.close()
    fill(channel, "s", last, last + 2)
    equal(read(consume(server, "s", "next", x_stream_group="idle"), 2), numbers(last, last + 2),
          "what came while nobody was there")


@case
def what_is_requeued_comes_to_the_next_member(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 10)
    a = consume(server, "s", "first", prefetch=10, x_stream_group="g")
    a.wait(10)
    for n, d in enumerate(a.got):
        if n == 4:
            a.channel.basic_nack(d[0].delivery_tag, requeue=True)
        else:
            ack(a, d)
    a.close()
    b = consume(server, "s", "first", x_stream_group="g")
    equal(read(b, 6), numbers(4, 10), "from what was requeued")


@case
def a_tag_may_be_the_group(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 10)
    a = consume(server, "s", "first", tag="worker", x_stream_automatic_offset_tracking=True)
    read(a, 6)
    a.close()
    b = consume(server, "s", "first", tag="worker", x_stream_automatic_offset_tracking=True)
    equal(read(b, 4), numbers(6, 10), "from where the tag was")
    b.close()
    c = consume(server, "s", "first", tag="worker")
    equal(read(c, 10), numbers(0, 10), "without tracking")
    refused(406, "PRECONDITION_FAILED - invalid arg 'x-stream-group' for queue 's' in vhost '/':"
                 " a string of 1 to 255 octets is expected",
            consume, server, "s", x_stream_group="")


@case
def a_super_stream_is_shared_by_key(server):
    """Partitions behind a hashing exchange; of two clients one is active on each, and the other
    takes over all when it goes: each key's messages come in order, and all of them."""
    channel = server.channel()
    channel.exchange_declare("orders", "x-consistent-hash", durable=True)
    partitions = [f"orders-{n}" for n in range(3)]
    for name in partitions:
        declare(channel, name)
        channel.queue_bind(name, "orders", routing_key="1")
    for n in range(300):
        put(channel, f"customer {n % 30}", n, exchange="orders")
    assert all(harness.ready(channel, name) > 0 for name in partitions), "each has its share"

    def client(stop_after):
        c = server.channel(confirm=False)
        c.basic_qos(prefetch_count=10)
        got = []

        def on_message(ch, method, _properties, body):
            if len(got) < stop_after:
                got.append((method.routing_key, int(body)))
                ch.basic_ack(method.delivery_tag)

        for name in partitions:
            c.basic_consume(name, on_message, arguments={"x-stream-group": "billing",
                                                         "x-stream-offset": "first"})
        return c.connection, got

    first, first_got = client(120)
    second, second_got = client(300)
    until(lambda: first.process_data_events(0.01) or len(first_got) == 120, "120 at the first")
    second.process_data_events(0)
    equal(second_got, [], "what comes to who stands by")
    first.close()
    until(lambda: second.process_data_events(0.01) or len(second_got) == 180, "180 at the second")
    seen = first_got + second_got
    equal(sorted(n for _, n in seen), list(range(300)), "what came")
    for key in {k for k, _ in seen}:
        ours = [n for k, n in seen if k == key]
        equal(ours, sorted(ours), f"order of {key}")


@case
def groups_of_a_deleted_stream_are_gone(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 5)
    read(consume(server, "s", "first", x_stream_group="g"), 5)
    channel.queue_delete("s")
    declare(channel, "s")
    fill(channel, "s", 0, 5)
    equal(read(consume(server, "s", "first", x_stream_group="g"), 5), numbers(0, 5),
          "of the new stream")
    put(channel, "s", 5)
