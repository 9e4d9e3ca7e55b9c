"""limits: x-max-length, x-max-length-bytes, x-overflow."""

import pika
from harness import Consumer, bodies, case, deaths, equal, put, ready, take, until


@case
def the_oldest_ready_ones_go(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-length": 3})
    for i in range(10):
        put(ch, "q", i)
    equal(ready(ch, "q"), 3, "ready")
    equal(bodies(ch, "q", 3), [b"7", b"8", b"9"])


@case
def octets_are_those_of_ready_bodies(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-length-bytes": 100})
    put(ch, "q", b"a" * 60, headers={"large": "h" * 500})
    put(ch, "q", b"b" * 40)
    equal(ready(ch, "q"), 2)
    put(ch, "q", b"c")
    equal(bodies(ch, "q", 2), [b"b" * 40, b"c"])
    put(ch, "q", b"d" * 101)  # too large for itself
    equal(ready(ch, "q"), 0)


@case
def what_is_unacked_does_not_count(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-length": 1})
    consumer = Consumer(server, "q", prefetch=2)
    for i in range(4):
        put(ch, "q", i)
    consumer.wait(2)
    equal(ready(ch, "q"), 1)
    consumer.channel.basic_nack(2, multiple=True, requeue=True)
    equal(consumer.wait(3)[2][2], b"3", "0 and 1, back before it, were too many")
    consumer.close()
    until(lambda: ready(ch, "q") == 1, "one left")
    equal(bodies(ch, "q", 1), [b"3"], "the youngest")


@case
def zero_keeps_nothing_that_nobody_waits_for(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-length": 0})
    put(ch, "q", b"lost")
    equal(ready(ch, "q"), 0)
    consumer = Consumer(server, "q")
    put(ch, "q", b"seen")
    equal(consumer.wait(1)[0][2], b"seen")


@case
def a_full_queue_refuses(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    ch.queue_declare("other")
    ch.queue_bind("other", "amq.fanout")
    ch.queue_bind("q", "amq.fanout")
    put(ch, "q", 0)
    put(ch, "q", 1)
    for exchange in ("", "amq.fanout"):  # refused by one of two is refused
        try:
            put(ch, "q", 2, exchange=exchange)
            raise AssertionError("it was confirmed")
        except pika.exceptions.NackError:
            pass
    equal(ready(ch, "other"), 1)
    equal(bodies(ch, "q", 2), [b"0", b"1"])
    put(ch, "q", 3)
    equal(bodies(ch, "q", 1), [b"3"])


@case
def what_is_refused_may_be_dead_lettered(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={
        "x-max-length-bytes": 10, "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    put(ch, "q", b"0123456789")
    try:
        put(ch, "q", b"!")
        raise AssertionError("it was confirmed")
    except pika.exceptions.NackError:
        pass
    _, properties, body = take(ch, "dead")
    equal(body, b"!")
    equal(deaths(properties), [("q", "maxlen", 1)])
    equal(ready(ch, "q"), 1)


def limits_hold_after(server, kill):
    ch = server.channel()
    ch.queue_declare("n", durable=True, arguments={"x-max-length": 5})
    ch.queue_declare("b", durable=True, arguments={"x-max-length-bytes": 50})
    for i in range(12):
        put(ch, "n", i)
        put(ch, "b", b"%010d" % i)
    server.restart(kill)
    ch = server.channel()
    equal((ready(ch, "n"), ready(ch, "b")), (5, 5), "after the restart")
    put(ch, "n", 12)
    put(ch, "b", b"%010d" % 12)
    until(lambda: (ready(ch, "n"), ready(ch, "b")) == (5, 5), "the heads go, from their pages")
    equal(bodies(ch, "n", 5), [b"%d" % i for i in range(8, 13)])
    equal(bodies(ch, "b", 5), [b"%010d" % i for i in range(8, 13)])


@case
def limits_hold_after_a_restart(server):
    limits_hold_after(server, kill=False)


@case
def limits_hold_after_kill_9(server):
    limits_hold_after(server, kill=True)
