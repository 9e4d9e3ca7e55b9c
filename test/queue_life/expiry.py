"""expiry: x-message-ttl, expiration, x-expires."""

import time

import pika
from harness import LATE_S, Consumer, bodies, case, equal, put, ready, take, until


def gone_after(channel, queue, left, ttl_s, since):
    """Until so many are left: not before their time, and not much after it."""
    until(lambda: ready(channel, queue) == left, f"{left} left")
    took = time.monotonic() - since
    assert ttl_s - 0.01 <= took < ttl_s + LATE_S, f"after {took:.3f} s, not {ttl_s}"


@case
def messages_go_when_their_time_is_up(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-ttl": 300})
    since = time.monotonic()
    for i in range(10):
        put(ch, "q", i)
    equal(ready(ch, "q"), 10)
    gone_after(ch, "q", 0, 0.3, since)


@case
def the_lower_of_both_counts_wherever_it_stands(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-ttl": 60000})
    since = time.monotonic()
    put(ch, "q", "first")
    put(ch, "q", "short", expiration="200")
    put(ch, "q", "long", expiration="120000")
    gone_after(ch, "q", 2, 0.2, since)
    equal(bodies(ch, "q", 2), [b"first", b"long"])


@case
def a_queue_needs_no_ttl_for_messages_that_have(server):
    ch = server.channel()
    ch.queue_declare("q")
    put(ch, "q", "stays")
    since = time.monotonic()
    put(ch, "q", "goes", expiration="100")
    gone_after(ch, "q", 1, 0.1, since)
    equal(bodies(ch, "q", 1), [b"stays"])


@case
def each_queue_has_its_own_deadline(server):
    ch = server.channel()
    for name, arguments in (("a", {"x-message-ttl": 100}), ("b", {}), ("c", {"x-message-ttl": 60000})):
        ch.queue_declare(name, durable=True, arguments=arguments)
        ch.queue_bind(name, "amq.fanout")
    since = time.monotonic()
    put(ch, "", "x", exchange="amq.fanout")
    gone_after(ch, "a", 0, 0.1, since)
    equal((ready(ch, "b"), ready(ch, "c")), (1, 1))
    server.restart(kill=True)
    ch = server.channel()
    equal((ready(ch, "a"), ready(ch, "b"), ready(ch, "c")), (0, 1, 1), "after kill -9")


@case
def zero_is_now_or_never(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-ttl": 0})
    ch.queue_declare("p")
    put(ch, "q", "never")
    put(ch, "p", "never", expiration="0")
    equal((ready(ch, "q"), ready(ch, "p")), (0, 0))
    for name in "qp":
        consumer = Consumer(server, name)
        put(ch, name, "now", expiration="0")
        equal(consumer.wait(1)[0][2], b"now")


@case
def a_requeue_prolongs_nothing(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-ttl": 400})
    since = time.monotonic()
    put(ch, "q", "x")
    while time.monotonic() < since + 0.3:
        method, _, _ = ch.basic_get("q")
        assert method is not None or time.monotonic() >= since + 0.39, "it was there"
        if method is not None:
            ch.basic_nack(method.delivery_tag, requeue=True)
    gone_after(ch, "q", 0, 0.4, since)


@case
def what_is_unacked_expires_when_it_comes_back(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-ttl": 100})
    since = time.monotonic()
    put(ch, "q", "x")
    method, _, _ = take(ch, "q", ack=False)
    while time.monotonic() < since + 0.2:
        ch.connection.process_data_events(time_limit=0.01)
    ch.basic_nack(method.delivery_tag, requeue=True)
    equal(ch.basic_get("q")[0], None, "what basic.get finds")
    equal(ready(ch, "q"), 0)


@case
def expirations_are_checked(server):
    for text, why in (("a", "no_integer"), ("", "no_integer"), (" 5", "no_integer"),
                      ("-1", "{value_negative,-1}"), ("1.5", '{leftover_string,".5"}'),
                      ("315360000001", "{value_too_large,315360000001}")):
        ch = server.channel()
        ch.queue_declare("q")
        try:
            put(ch, "q", "x", expiration=text)
            raise AssertionError(f"{text!r} was taken")
        except pika.exceptions.ChannelClosedByBroker as e:
            equal((e.reply_code, e.reply_text),
                  (406, f"PRECONDITION_FAILED - invalid expiration '{text}': {why}"))
    for text in ("315360000000", "+5000", "0005000"):
        ch = server.channel()
        put(ch, "q", text, expiration=text)
        equal(bodies(ch, "q", 1), [text.encode()])


def time_goes_on_across(server, kill):
    ch = server.channel()
    ch.queue_declare("q", durable=True, arguments={"x-message-ttl": 60000})
    since = time.monotonic()
    put(ch, "q", "dead by then", expiration="1")
    put(ch, "q", "dies later", expiration="4000")
    put(ch, "q", "stays")
    server.restart(kill)
    ch = server.channel()
    until(lambda: ready(ch, "q") < 3, "the first is gone")
    gone_after(ch, "q", 1, 4, since)
    equal(bodies(ch, "q", 1), [b"stays"])


@case
def time_goes_on_across_a_restart(server):
    time_goes_on_across(server, kill=False)


@case
def time_goes_on_across_kill_9(server):
    time_goes_on_across(server, kill=True)


def is_there(server, queue):
    ch = server.channel()
    try:
        ch.queue_declare(queue, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker as e:
        equal(e.reply_code, 404)
        return False
    finally:
        ch.connection.close()


@case
def an_unused_queue_goes(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={"x-expires": 400, "x-dead-letter-exchange": "",
                                     "x-dead-letter-routing-key": "dead"})
    ch.queue_declare("used", arguments={"x-expires": 400})
    put(ch, "q", "goes with it")
    consumer = Consumer(server, "used")
    begun = time.monotonic()
    while time.monotonic() < begun + 1:  # declares and gets renew the lease
        before = time.monotonic()
        ch.queue_declare("q", passive=True)
        assert time.monotonic() - before < 0.4, "too busy a machine to tell"
        ch.connection.process_data_events(time_limit=0.05)
    last = time.monotonic()
    until(lambda: ch.queue_declare("dead").method.message_count == 0 and
          time.monotonic() > last + 0.5, "half a second")
    until(lambda: not is_there(server, "q"), "the queue is gone")  # asking once renews it, once
    equal(ready(ch, "dead"), 0, "dead letters of a queue that expires")
    assert is_there(server, "used"), "a consumer uses it"
    consumer.close()
    time.sleep(0.8)
    assert not is_there(server, "used"), "a while after its consumer left"


@case
def a_lease_begins_anew_with_the_broker(server):
    ch = server.channel()
    ch.queue_declare("q", durable=True, arguments={"x-expires": 1500})
    ch.queue_declare("r", durable=True, arguments={"x-expires": 600000})
    put(ch, "q", "x")
    server.restart(kill=True)
    ch = server.channel()
    time.sleep(1.5 + 0.5)  # nobody speaks to it meanwhile
    assert not is_there(server, "q"), "unused since the start"
    assert is_there(server, "r")
