"""delivery: x-single-active-consumer, x-delivery-limit, x-delivery-count."""

import pika
from harness import Consumer, case, deaths, equal, put, ready, take, until


def count(properties):
    return (properties.headers or {}).get("x-delivery-count")


@case
def failures_are_counted_up_to_the_limit(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={"x-delivery-limit": 3, "x-dead-letter-exchange": "",
                                     "x-dead-letter-routing-key": "dead"})
    put(ch, "q", "poison", headers={"mine": "stays"})
    for failures in (None, 1, 2, 3):
        method, properties, _ = take(ch, "q", ack=False)
        equal(count(properties), failures, "x-delivery-count")
        equal(properties.headers["mine"], "stays")
        equal(method.redelivered, failures is not None)
        ch.basic_reject(method.delivery_tag, requeue=True)
    _, properties, body = take(ch, "dead")
    equal((body, deaths(properties)), (b"poison", [("q", "delivery_limit", 1)]))
    equal(count(properties), None, "of the letter")
    equal(ready(ch, "q"), 0)


@case
def a_lost_connection_is_a_failure(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-delivery-limit": 1})
    put(ch, "q", "x")
    consumer = Consumer(server, "q")
    consumer.wait(1)
    consumer.close()
    consumer = Consumer(server, "q")
    equal(count(consumer.wait(1)[0][1]), 1)
    consumer.close()
    until(lambda: ready(ch, "q") == 0, "dropped, without a dead-letter exchange")
    equal(ch.basic_get("q")[0], None)


@case
def without_a_limit_nothing_is_counted(server):
    ch = server.channel()
    ch.queue_declare("q")
    ch.queue_declare("r", arguments={"x-delivery-limit": -1})
    for name in "qr":
        put(ch, name, "x")
        for _ in range(30):
            method, properties, _ = take(ch, name, ack=False)
            equal(count(properties), None)
            ch.basic_nack(method.delivery_tag, requeue=True)


def next_in_line_follows(server, end):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-single-active-consumer": True})
    first, second, third = (Consumer(server, "q", prefetch=2) for _ in range(3))
    for i in range(8):
        put(ch, "q", i)
    first.wait(2)
    for other in (second, third):
        other.step()
        equal(other.got, [])
    end(first)  # what it had comes back before the rest
    second.wait(2)
    equal([b for _, _, b in second.got], [b"0", b"1"])
    assert all(m.redelivered for m, _, _ in second.got)
    second.channel.basic_ack(2, multiple=True)
    second.wait(4)
    second.channel.basic_ack(4, multiple=True)
    second.wait(6)
    equal([b for _, _, b in second.got], [b"%d" % i for i in range(6)])
    second.channel.basic_cancel(second.tag)  # what it holds stays with its channel
    third.wait(2)
    equal([b for _, _, b in third.got], [b"6", b"7"] if len(second.got) == 6 else [])
    second.channel.basic_nack(6, multiple=True, requeue=True)
    third.channel.basic_ack(2, multiple=True)
    third.wait(4)
    equal([b for _, _, b in third.got[2:]], [b"4", b"5"])


@case
def the_next_in_line_follows_when_a_connection_ends(server):
    next_in_line_follows(server, Consumer.drop)


@case
def the_next_in_line_follows_when_a_channel_ends(server):
    next_in_line_follows(server, Consumer.close_channel)


@case
def none_may_be_exclusive_there(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-single-active-consumer": True})
    try:
        ch.basic_consume("q", lambda *_: None, exclusive=True)
        raise AssertionError("it was taken")
    except pika.exceptions.ChannelClosedByBroker as e:
        equal((e.reply_code, e.reply_text),
              (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"))


def one_is_active_across(server, kill):
    ch = server.channel()
    ch.queue_declare("q", durable=True, arguments={"x-single-active-consumer": True})
    for i in range(4):
        put(ch, "q", i)
    server.restart(kill)
    first, second = Consumer(server, "q", prefetch=1), Consumer(server, "q", prefetch=1)
    for i in range(4):
        first.wait(i + 1)
        second.step()
        first.channel.basic_ack(i + 1)
    equal([b for _, _, b in first.got], [b"%d" % i for i in range(4)])
    equal(second.got, [])


@case
def one_is_active_across_a_restart(server):
    one_is_active_across(server, kill=False)


@case
def one_is_active_across_kill_9(server):
    one_is_active_across(server, kill=True)
