"""timeouts: x-consumer-timeout, of a queue and of a consumer."""

import time

import pika
from harness import LATE_S, Consumer, case, deaths, equal, put, ready, take, until
from delivery import count


@case
def what_is_not_settled_in_time_goes_to_another(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-consumer-timeout": 200})
    slow = Consumer(server, "q", prefetch=1)
    before = time.monotonic()
    put(ch, "q", "first")
    [(method, _, _)] = slow.wait(1)
    other = Consumer(server, "q", prefetch=1, arguments={"x-priority": 9})
    [(again, properties, body)] = other.wait(1)
    took = time.monotonic() - before
    assert 0.19 < took < 0.2 + LATE_S, f"after {took:.3f} s"
    equal((body, again.redelivered, count(properties) > 0), (b"first", True, True))
    slow.channel.basic_ack(method.delivery_tag)  # late: nothing happens, and the channel lives
    put(ch, "q", "second")
    until(lambda: slow.step() or b"second" in [b for _, _, b in slow.got], "the second")
    assert slow.channel.is_open


@case
def a_late_word_settles_nobody_elses_delivery(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-consumer-timeout": 100})
    for word in ("ack", "nack", "reject", "multiple"):
        slow = Consumer(server, "q", prefetch=1, arguments={"x-priority": -1})
        put(ch, "q", word)
        [(method, _, _)] = slow.wait(1)
        fast = Consumer(server, "q", arguments={"x-priority": 9, "x-consumer-timeout": 0})
        [(again, _, body)] = fast.wait(1)
        if word == "nack":
            slow.channel.basic_nack(method.delivery_tag, requeue=True)
        elif word == "reject":
            slow.channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            slow.channel.basic_ack(method.delivery_tag, multiple=word == "multiple")
        slow.channel.queue_declare("q", passive=True)  # after it
        slow.close()
        equal(body, word.encode())
        fast.channel.basic_nack(again.delivery_tag, requeue=True)
        equal(fast.wait(2)[1][2], word.encode())
        fast.channel.basic_ack(fast.got[1][0].delivery_tag)
        fast.close()
        equal(ready(ch, "q"), 0)


@case
def a_tag_may_be_late_once(server):
    ch = server.channel()
    ch.queue_declare("q")
    put(ch, "q", 0)
    slow = Consumer(server, "q", prefetch=1, arguments={"x-consumer-timeout": 50})
    slow.wait(2)
    slow.channel.basic_ack(1)
    slow.channel.basic_ack(1)
    until(lambda: slow.step() or slow.channel.is_closed, "closed for the second")


@case
def what_is_multiple_and_late_settles_what_is_before_it(server):
    ch = server.channel()
    ch.queue_declare("slow")
    ch.queue_declare("q")
    consumer = Consumer(server, "slow", prefetch=1)
    put(ch, "slow", 0)
    consumer.wait(1)
    consumer.channel.basic_consume("q", consumer._on_message,
                                   arguments={"x-consumer-timeout": 50})
    put(ch, "q", 1)
    consumer.wait(3)  # tag 2 is late, 3 is its next delivery
    consumer.channel.basic_ack(2, multiple=True)
    consumer.channel.queue_declare("q", passive=True)
    consumer.close()
    equal([ready(ch, "slow"), ready(ch, "q")], [0, 1])


@case
def it_counts_as_a_failure(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={"x-consumer-timeout": 50, "x-delivery-limit": 2,
                                     "x-dead-letter-exchange": "",
                                     "x-dead-letter-routing-key": "dead"})
    consumer = Consumer(server, "q", prefetch=1)
    put(ch, "q", "x")
    equal([count(p) for _, p, _ in consumer.wait(3)], [None, 1, 2])
    equal(deaths(take(ch, "dead")[1]), [("q", "delivery_limit", 1)])


@case
def what_basic_get_took_is_due_as_well(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-consumer-timeout": 100})
    put(ch, "q", "x")
    method, _, _ = take(ch, "q", ack=False)
    again, properties, _ = take(ch, "q", ack=False)
    equal((again.redelivered, count(properties)), (True, 1))
    ch.basic_ack(method.delivery_tag)
    ch.basic_ack(again.delivery_tag)
    equal(ready(ch, "q"), 0)


@case
def in_an_open_transaction_what_is_settled_is_settled(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-consumer-timeout": 100})
    put(ch, "q", "x")
    tx = server.channel(confirm=False)
    tx.tx_select()
    method, _, _ = take(tx, "q", ack=False)
    tx.basic_ack(method.delivery_tag)
    since = time.monotonic()
    until(lambda: time.monotonic() > since + 0.3, "three times the timeout")
    equal(ready(ch, "q"), 0)
    tx.tx_rollback()
    until(lambda: ready(ch, "q") == 1, "asked for again")


@case
def one_that_takes_more_at_once_gets_them_all_back(server):
    n = 1500
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-consumer-timeout": 500})
    for i in range(n):
        put(ch, "q", i)
    slow = Consumer(server, "q")
    slow.wait(n)
    slow.channel.basic_cancel(slow.tag)  # what it holds is due all the same
    until(lambda: slow.step() or ready(ch, "q") == n, "all are back")
    rest = Consumer(server, "q", arguments={"x-consumer-timeout": 0})
    equal([b for _, _, b in rest.wait(n)], [b"%d" % i for i in range(n)])


@case
def bad_timeouts_are_refused(server):
    for value, why in ((-1, "{value_negative,-1}"), ("1s", '"expected integer, got longstr"'),
                       (315360000001, "{value_too_large,315360000001}")):
        ch = server.channel()
        ch.queue_declare("q")
        for call in (lambda a: ch.queue_declare("bad", arguments=a),
                     lambda a: ch.basic_consume("q", lambda *_: None, arguments=a)):
            try:
                call({"x-consumer-timeout": value})
                raise AssertionError(f"{value!r} was taken")
            except pika.exceptions.ChannelClosedByBroker as e:
                equal(e.reply_code, 406)
                assert e.reply_text.endswith(why), e.reply_text
                assert "invalid arg 'x-consumer-timeout' for queue '" in e.reply_text
            ch = server.channel()


@case
def channels_are_closed_when_that_is_wanted(server):
    server.command += ["-o", "amqp.consumer_timeout_action=close"]
    server.restart(kill=True)
    ch = server.channel()
    ch.queue_declare("q")
    ch.queue_declare("gone", auto_delete=True)
    put(ch, "q", "x")
    slow = Consumer(server, "q", arguments={"x-consumer-timeout": 100})
    lonely = Consumer(server, "gone", arguments={"x-consumer-timeout": 100})
    put(ch, "gone", "x")
    for consumer in (slow, lonely):
        try:
            until(lambda: consumer.step() or consumer.channel.is_closed, "closed")
        except pika.exceptions.ChannelClosedByBroker:
            pass
        reason = consumer.channel._impl._closing_reason
        equal((reason.reply_code, reason.reply_text),
              (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout "
                    "value used: 100 ms. This timeout value can be configured, see consumers doc "
                    "guide to learn more"))
    method, _, _ = take(ch, "q", ack=False)
    assert method.redelivered
    try:
        ch.queue_declare("gone", passive=True)
        raise AssertionError("it went with its only consumer")
    except pika.exceptions.ChannelClosedByBroker as e:
        equal(e.reply_code, 404)
