"""consuming: where a consumer begins, its credit, filters, and how it ends."""

import datetime
import time

from parts import *  # noqa: F403
from harness import case, equal, put, until

S = f"queue 's' {VHOST}"


@case
def what_a_consumer_may_not_ask_is_refused(server):
    declare(server.channel(), "s")

    def ask(prefetch=10, **how):
        channel = server.channel()
        if prefetch:
            channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume("s", lambda *_: None, **how)

    refused(406, f"PRECONDITION_FAILED - consumer prefetch count is not set for stream {S}",
            ask, prefetch=0)
    refused(540, f"NOT_IMPLEMENTED - automatic acknowledgement not supported by stream {S}",
            ask, auto_ack=True)
    refused(406, f"PRECONDITION_FAILED - invalid arg 'x-priority' for {S} of queue type"
                 " rabbit_stream_queue", ask, arguments={"x-priority": 5})
    for value, told in (("1x", '{longstr,<<"1x">>}'), ("42", '{longstr,<<"42">>}'),
                        (True, "{bool,true}")):
        refused(406, f"PRECONDITION_FAILED - invalid arg 'x-stream-offset' for {S}:"
                     f" {{invalid_stream_offset_arg,{told}}}", ask,
                arguments={"x-stream-offset": value})
    channel = server.channel()
    channel.basic_qos(prefetch_count=10)
    channel.basic_qos(prefetch_count=10, global_qos=True)
    refused(540, f"NOT_IMPLEMENTED - {S} does not support global qos",
            channel.basic_consume, "s", lambda *_: None)
    ask(exclusive=True)
    ask(exclusive=True)


@case
def every_place_to_begin(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 20)
    for offset, first in (("first", 0), (0, 0), (-3, 0), (7, 7), (19, 19), ("last", 19),
                          ("1h", 0), ("5Y", 0),
                          (datetime.datetime(2001, 1, 1), 0)):
        equal(read(consume(server, "s", offset), 20 - first), numbers(first, 20),
              f"from {offset!r}")
    later = [consume(server, "s", offset) for offset in (
        None, "next", 20, datetime.datetime(2100, 1, 1))]
    beyond = consume(server, "s", 22)
    fill(channel, "s", 20, 23)
    for consumer in later:
        equal(read(consumer, 3), numbers(20, 23), "what comes")
    equal(read(beyond, 1), numbers(22, 23), "from beyond the end")


@case
def a_time_is_where_a_chunk_was_written(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 5)
    now = time.time()
    until(lambda: time.time() >= int(now) + 1, "the next second")
    at = datetime.datetime.utcfromtimestamp(int(now) + 1)
    fill(channel, "s", 5, 10)
    equal(read(consume(server, "s", at), 5), numbers(5, 10), "from a time")


@case
def many_read_the_same(server):
    channel = server.channel()
    declare(channel, "s")
    consumers = [consume(server, "s", "first", prefetch=1 + 7 * n) for n in range(6)]
    fill(channel, "s", 0, 40)
    for consumer in consumers:
        equal(read(consumer, 40), numbers(0, 40), "what is read")
    equal(channel.queue_declare("s", passive=True).method.consumer_count, 6, "consumers")


@case
def an_ack_is_a_credit(server):
    """In any order, one or many at once; nack and reject the same; nothing comes twice."""
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 40)
    c = consume(server, "s", "first", prefetch=10)
    first = list(c.wait(10))
    nothing = consume(server, "s", "first", prefetch=10)
    nothing.wait(10)
    equal(len(c.got), 10, "deliveries without an ack")
    ack(c, first[6])
    ack(c, first[2])
    c.wait(12)
    ack(c, first[4], multiple=True)  # 0 1 3 4
    c.wait(16)
    c.channel.basic_nack(first[5][0].delivery_tag, requeue=True)
    c.channel.basic_reject(first[7][0].delivery_tag, requeue=False)
    c.channel.basic_nack(first[9][0].delivery_tag, multiple=True, requeue=False)  # 8 9
    c.wait(20)
    c.channel.basic_recover(requeue=True)
    c.wait(30)
    c.channel.basic_ack(0, multiple=True)
    c.wait(40)
    equal([(offset_of(d), d[2]) for d in c.got], numbers(0, 40), "what came")
    equal(any(d[0].redelivered for d in c.got), False, "redelivered")


@case
def acks_in_a_transaction_count_at_its_commit(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 20)
    c = consume(server, "s", "first", prefetch=5)
    c.channel.tx_select()
    c.wait(5)
    c.channel.basic_ack(0, multiple=True)
    c.channel.tx_rollback()
    c.channel.basic_ack(c.got[4][0].delivery_tag, multiple=True)
    equal(len(c.got), 5, "deliveries before the commit")
    c.channel.tx_commit()
    c.wait(10)
    equal([offset_of(d) for d in c.got], list(range(10)), "offsets")


@case
def a_cancelled_consumer_gets_no_more(server):
    channel = server.channel()
    declare(channel, "s")
    fill(channel, "s", 0, 10)
    c = consume(server, "s", "first", prefetch=4)
    c.wait(4)
    c.channel.basic_cancel(c.tag)
    c.channel.basic_ack(0, multiple=True)
    c.got.clear()
    nothing_more(c)
    equal(channel.queue_declare("s", passive=True).method.consumer_count, 0, "consumers")
    other = consume(server, "s", "first", prefetch=4)
    other.wait(4)
    other.close_channel()
    until(lambda: channel.queue_declare("s", passive=True).method.consumer_count == 0,
          "no consumers")
    last = consume(server, "s", "first", prefetch=4)
    last.wait(4)
    last.drop()
    until(lambda: channel.queue_declare("s", passive=True).method.consumer_count == 0,
          "no consumers")


@case
def a_global_prefetch_that_comes_late_loses_nothing(server):
    """What the channel could not take goes back, and comes again in order."""
    channel = server.channel()
    declare(channel, "s")
    fill_fast(server, "s", 1500)
    c = consume(server, "s", "first", prefetch=1500)
    c.channel.basic_qos(prefetch_count=3, global_qos=True)
    equal([o for o, _ in read(c, 1500)], list(range(1500)), "offsets")


@case
def filters_pass_what_carries_their_value(server):
    channel = server.channel()
    declare(channel, "s", x_stream_filter_size_bytes=32)
    values = ["eu", "us", None, "asia"]
    for n in range(40):
        value = values[n % 4]
        put(channel, "s", n, headers={"x-stream-filter-value": value} if value else {})
    def of(*which):
        return [m for m in numbers(0, 40) if values[m[0] % 4] in which]

    equal(read(consume(server, "s", "first", x_stream_filter="us"), 10), of("us"), "us")
    equal(read(consume(server, "s", "first", x_stream_filter=["us", 5, "asia"]), 20),
          of("us", "asia"), "us and asia")
    equal(read(consume(server, "s", "first", x_stream_filter="eu",
                       x_stream_match_unfiltered=True), 20), of("eu", None), "eu and none")
    c = consume(server, "s", "first", x_stream_filter="mars")
    put(channel, "s", "war", headers={"x-stream-filter-value": "mars"})
    equal(read(c, 1), [(40, b"war")], "mars")
    c = consume(server, "s", 11, x_stream_filter="eu")
    equal(read(c, 7), of("eu")[3:], "eu from 11")


@case
def a_replay_of_much_and_a_tail_at_once(server):
    declare(server.channel(), "s", x_stream_max_segment_size_bytes=1 << 20)
    fill_fast(server, "s", 5000, size=300)
    readers = [consume(server, "s", "first", prefetch=500) for _ in range(2)]
    tail = consume(server, "s", "next", prefetch=500)
    channel = server.channel()
    fill(channel, "s", 5000, 5010)
    equal(read(tail, 10), numbers(5000, 5010), "at the tail")
    for reader in readers:
        got = read(reader, 5010)
        equal([o for o, _ in got], list(range(5010)), "offsets")
        equal([b.rstrip() for _, b in got], [str(n).encode() for n in range(5010)], "bodies")


@case
def slow_consumers_cost_a_fixed_amount_of_memory(server):
    def resident():
        with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * 4096

    declare(server.channel(), "s")
    fill_fast(server, "s", 4000, size=1000)
    consume(server, "s", "first", prefetch=100).wait(100)
    before = resident()
    consumers = [consume(server, "s", "first", prefetch=100) for _ in range(10)]
    fill_fast(server, "s", 8000, size=1000)
    for c in consumers:
        c.wait(100)
    grown = resident() - before
    if harness.BUILD == "release":
        assert grown < 8 << 20, f"{grown >> 20} MiB more with 12 MB unread by 10"
