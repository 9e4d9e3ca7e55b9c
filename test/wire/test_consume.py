"""basic.consume, get, cancel, qos: who gets what, when, and how much of it."""

import re

from amqp import method_frame, publish
from case import case, equal, refusal, true

CONSUME, GET = "basic.consume", "basic.get"
IN_USE = "ACCESS_REFUSED - queue '@' in vhost '/' in exclusive use"
NO_QUEUE = "NOT_FOUND - no queue 'wire.none' in vhost '/'"


def row(title, doing, code, text, about=CONSUME, **how):
    refusal(title, doing, code, text, about, module=__name__, **how)


def consume(q, **fields):
    return method_frame(1, CONSUME, queue=q, **fields)


row("consuming from a missing queue is refused", lambda q: consume("wire.none"), 404, NO_QUEUE)
row("getting from a missing queue is refused", lambda q: method_frame(1, GET, queue="wire.none"),
    404, NO_QUEUE, GET)

@case
def consumer_tag_used_twice_is_not_allowed(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, CONSUME, queue=q, consumer_tag="t")
    c.cast(1, CONSUME, queue=q, consumer_tag="t")
    c.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'", CONSUME)


@case
def consumer_tag_belongs_to_its_channel_and_may_be_used_again(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(1, CONSUME, queue=q, consumer_tag="t")
    c.call(2, CONSUME, queue=q, consumer_tag="t")
    c.call(1, "basic.cancel", consumer_tag="t")
    c.call(1, CONSUME, queue=q, consumer_tag="t")
    c.quiet(1, q, consumers=2)


@case
def consumer_beside_an_exclusive_one_is_refused(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(2, CONSUME, queue=q, exclusive=1, consumer_tag="alone")
    for exclusive in (0, 1):
        c.send(consume(q, exclusive=exclusive))
        c.expect_channel_close(1, 403, IN_USE.replace("@", q), CONSUME)
    c.cast(1, GET, queue=q)
    c.expect(1, "basic.get-empty")
    c.call(2, "basic.cancel", consumer_tag="alone")
    c.call(1, CONSUME, queue=q)


@case
def exclusive_consumer_beside_another_is_refused(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(2, CONSUME, queue=q)
    c.send(consume(q, exclusive=1))
    c.expect_channel_close(1, 403, IN_USE.replace("@", q), CONSUME)


@case
def priority_of_a_consumer_must_be_an_integer(t):
    c = t.open()
    q = t.queue(c)
    c.send(consume(q, arguments={"x-priority": "high"}))
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - invalid arg 'x-priority' for queue "
                           f"'{q}' in vhost '/': \"expected integer, got longstr\"", CONSUME)


row("prefetch size is not implemented", lambda q: method_frame(1, "basic.qos", prefetch_size=1),
    540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)", "basic.qos", closes="connection")


@case
def server_names_consumers(t):
    c = t.open()
    q = t.queue(c)
    tags = {c.call(1, CONSUME, queue=q).consumer_tag for _ in range(3)}
    equal(len(tags), 3)
    for tag in tags:
        true(re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag), tag)


@case
def messages_are_delivered_in_order_with_growing_tags(t):
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, str(n)) for n in range(100)))
    c.call(1, CONSUME, queue=q, consumer_tag="c")
    c.send(*(publish(1, "", q, str(n)) for n in range(100, 200)))
    for n in range(200):
        c.expect(1, "basic.deliver", consumer_tag="c", delivery_tag=n + 1, redelivered=False,
                 exchange="", routing_key=q, body=str(n).encode())


@case
def delivery_tags_count_per_channel_over_consumers_and_gets(t):
    c = t.open()
    c.channel(2)
    one, two = t.queue(c), t.queue(c)
    c.call(1, CONSUME, queue=one, consumer_tag="a")
    c.call(1, CONSUME, queue=two, consumer_tag="b", no_ack=1)
    c.publish(1, "", one, "x")
    c.expect(1, "basic.deliver", consumer_tag="a", delivery_tag=1)
    c.publish(1, "", two, "x")
    c.expect(1, "basic.deliver", consumer_tag="b", delivery_tag=2)
    c.call(1, "basic.cancel", consumer_tag="b")
    c.publish(1, "", two, "x")
    c.quiet(1, two, messages=1)
    c.cast(1, GET, queue=two)
    c.expect(1, "basic.get-ok", delivery_tag=3)
    c.publish(1, "", two, "x")
    c.cast(1, GET, queue=two, no_ack=1)
    c.expect(1, "basic.get-ok", delivery_tag=4)
    c.publish(2, "", two, "x")
    c.cast(2, GET, queue=two, no_ack=1)
    c.expect(2, "basic.get-ok", delivery_tag=1)


@case
def consume_ok_comes_before_the_first_delivery(t):
    c = t.open()
    q = t.queue(c)
    for n in range(20):
        c.publish(1, "", q, "x")
        c.call(1, CONSUME, queue=q, consumer_tag=str(n), no_ack=1)
        c.expect(1, "basic.deliver", consumer_tag=str(n))
        c.call(1, "basic.cancel", consumer_tag=str(n))


@case
def consume_without_waiting_is_not_answered(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, CONSUME, queue=q, consumer_tag="c", no_ack=1, no_wait=1)
    c.expect(1, "basic.deliver", consumer_tag="c", body=b"x")
    c.cast(1, "basic.cancel", consumer_tag="c", no_wait=1)
    c.publish(1, "", q, "y")
    c.quiet(1, q, messages=1, consumers=0)


@case
def server_named_consumer_without_waiting_is_delivered_to(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, CONSUME, queue=q, no_ack=1, no_wait=1)
    true(c.expect(1, "basic.deliver", body=b"x").consumer_tag.startswith("amq.ctag-"), "no tag")


@case
def no_local_is_ignored(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, CONSUME, queue=q, consumer_tag="c", no_local=1, no_ack=1)
    c.publish(1, "", q, "mine")
    c.expect(1, "basic.deliver", body=b"mine")


# ---- cancel ----

@case
def cancel_stops_deliveries_and_keeps_what_is_unacked(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, CONSUME, queue=q, consumer_tag="c")
    c.publish(1, "", q, "a")
    c.expect(1, "basic.deliver", body=b"a", delivery_tag=1)
    c.cast(1, "basic.cancel", consumer_tag="c")
    c.expect(1, "basic.cancel-ok", consumer_tag="c")
    c.publish(1, "", q, "b")
    c.quiet(1, q, messages=1, consumers=0)
    c.cast(1, "basic.reject", delivery_tag=1, requeue=1)
    c.quiet(1, q, messages=2)


@case
def cancel_of_an_unknown_tag_is_answered(t):
    c = t.open()
    for tag in ("wire.none", ""):
        c.cast(1, "basic.cancel", consumer_tag=tag)
        c.expect(1, "basic.cancel-ok", consumer_tag=tag)


@case
def nothing_is_delivered_behind_cancel_ok(t):
    c, other = t.open(), t.open()
    q = t.queue(c, exclusive=0)
    other.send(*(publish(1, "", q, "x") for _ in range(2000)))
    c.call(1, CONSUME, queue=q, consumer_tag="c", no_ack=1)
    c.cast(1, "basic.cancel", consumer_tag="c")
    count = 0
    while c.next(1).name == "basic.deliver":
        count += 1
    other.quiet(1, q, messages=2000 - count)
    c.expect_nothing(1)


@case
def deletion_of_the_queue_cancels_its_consumers(t):
    c, other = t.open(), t.open()
    q = t.queue(c, exclusive=0)
    for tag in ("a", "b"):
        c.call(1, CONSUME, queue=q, consumer_tag=tag)
    other.call(1, "queue.delete", queue=q)
    tags = {c.expect(1, "basic.cancel", no_wait=True).consumer_tag for _ in range(2)}
    equal(tags, {"a", "b"})
    t.queue(c, name=q)
    c.call(1, CONSUME, queue=q, consumer_tag="a")


@case
def deletion_of_the_queue_is_not_told_without_the_capability(t):
    c, other = t.open(capabilities={}), t.open()
    q = t.queue(c, exclusive=0)
    c.call(1, CONSUME, queue=q, consumer_tag="a")
    other.call(1, "queue.delete", queue=q)
    c.expect_nothing(1)
    t.queue(c, name=q)
    c.expect_nothing(1)


# ---- get ----

@case
def get_takes_the_first_and_counts_the_rest(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "k")
    c.send(*(publish(1, x, "k", str(n), {"type": "t"}) for n in range(3)))
    for n in range(3):
        c.cast(1, GET, queue=q)
        c.expect(1, "basic.get-ok", delivery_tag=n + 1, redelivered=False, exchange=x,
                 routing_key="k", message_count=2 - n, body=str(n).encode(), props={"type": "t"})
    c.cast(1, GET, queue=q)
    equal(c.expect(1, "basic.get-empty").reserved_1, "")


@case
def get_is_not_held_back_by_prefetch(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.qos", prefetch_count=1)
    c.send(publish(1, "", q, "a"), publish(1, "", q, "b"), publish(1, "", q, "c"))
    for n in range(3):
        c.cast(1, GET, queue=q)
        c.expect(1, "basic.get-ok", delivery_tag=n + 1)


@case
def get_without_ack_is_gone(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, GET, queue=q, no_ack=1)
    c.expect(1, "basic.get-ok")
    c.call(1, "channel.close")
    c.call(1, "channel.open")
    c.quiet(1, q, messages=0)


# ---- qos ----

def deliveries(c, channel, tag, count):
    for _ in range(count):
        c.expect(channel, "basic.deliver", consumer_tag=tag)


@case
def prefetch_limits_each_consumer(t):
    c = t.open()
    one, two = t.queue(c), t.queue(c)
    for q in (one, two):
        c.send(*(publish(1, "", q, "x") for _ in range(10)))
        c.quiet(1, q, messages=10)
    c.call(1, "basic.qos", prefetch_count=3)
    c.call(1, CONSUME, queue=one, consumer_tag="one")
    deliveries(c, 1, "one", 3)
    c.call(1, CONSUME, queue=two, consumer_tag="two")
    deliveries(c, 1, "two", 3)
    for q in (one, two):
        c.cast(1, "queue.declare", queue=q, passive=1)
        c.expect(1, "queue.declare-ok", message_count=7)
    c.cast(1, "basic.ack", delivery_tag=2)
    c.expect(1, "basic.deliver", consumer_tag="one", delivery_tag=7)
    c.cast(1, "basic.ack", delivery_tag=6, multiple=1)
    tags = sorted(c.expect(1, "basic.deliver").consumer_tag for _ in range(5))
    equal(tags, ["one"] * 2 + ["two"] * 3)


@case
def prefetch_holds_for_consumers_to_come(t):
    """qos(1), consume, qos(5), consume: RabbitMQ's meaning of global=false."""
    c = t.open()
    one, two = t.queue(c), t.queue(c)
    for q in (one, two):
        c.send(*(publish(1, "", q, "x") for _ in range(10)))
        c.quiet(1, q, messages=10)
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, CONSUME, queue=one, consumer_tag="one")
    deliveries(c, 1, "one", 1)
    c.cast(1, "basic.qos", prefetch_count=5)
    c.expect(1, "basic.qos-ok")
    c.cast(1, "queue.declare", queue=one, passive=1)
    c.expect(1, "queue.declare-ok", message_count=9)
    c.call(1, CONSUME, queue=two, consumer_tag="two")
    deliveries(c, 1, "two", 5)
    c.cast(1, "queue.declare", queue=two, passive=1)
    c.expect(1, "queue.declare-ok", message_count=5)


@case
def global_prefetch_is_shared_by_the_channel(t):
    c = t.open()
    one, two = t.queue(c), t.queue(c)
    for q in (one, two):
        c.send(*(publish(1, "", q, "x") for _ in range(10)))
        c.quiet(1, q, messages=10)
    c.cast(1, "basic.qos", prefetch_count=4, **{"global": 1})
    c.expect(1, "basic.qos-ok")
    c.call(1, CONSUME, queue=one, consumer_tag="one")
    deliveries(c, 1, "one", 4)
    c.call(1, CONSUME, queue=two, consumer_tag="two")
    c.cast(1, "queue.declare", queue=two, passive=1)
    c.expect(1, "queue.declare-ok", message_count=10)
    c.cast(1, "basic.ack", delivery_tag=4, multiple=1)
    for _ in range(4):
        c.expect(1, "basic.deliver")
    c.cast(1, "queue.declare", queue=two, passive=1)
    c.expect(1, "queue.declare-ok")


@case
def global_prefetch_raised_takes_effect_at_once(t):
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, "x") for _ in range(10)))
    c.quiet(1, q, messages=10)
    c.cast(1, "basic.qos", prefetch_count=2, **{"global": 1})
    c.expect(1, "basic.qos-ok")
    c.call(1, CONSUME, queue=q, consumer_tag="c")
    deliveries(c, 1, "c", 2)
    c.cast(1, "basic.qos", prefetch_count=5, **{"global": 1})
    c.expect(1, "basic.qos-ok")
    deliveries(c, 1, "c", 3)
    c.cast(1, "basic.qos", prefetch_count=0, **{"global": 1})
    c.expect(1, "basic.qos-ok")
    deliveries(c, 1, "c", 5)


@case
def both_prefetch_limits_hold_at_once(t):
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, "x") for _ in range(10)))
    c.quiet(1, q, messages=10)
    c.call(1, "basic.qos", prefetch_count=2)
    c.cast(1, "basic.qos", prefetch_count=3, **{"global": 1})
    c.expect(1, "basic.qos-ok")
    c.call(1, CONSUME, queue=q, consumer_tag="a")
    deliveries(c, 1, "a", 2)
    c.call(1, CONSUME, queue=q, consumer_tag="b")
    deliveries(c, 1, "b", 1)
    c.cast(1, "queue.declare", queue=q, passive=1)
    c.expect(1, "queue.declare-ok", message_count=7)


@case
def prefetch_does_not_hold_for_consumers_that_do_not_ack(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, CONSUME, queue=q, consumer_tag="c", no_ack=1)
    c.send(*(publish(1, "", q, "x") for _ in range(10)))
    deliveries(c, 1, "c", 10)


@case
def prefetch_zero_means_no_limit(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, "basic.qos", prefetch_count=0)
    c.send(*(publish(1, "", q, "x") for _ in range(300)))
    c.call(1, CONSUME, queue=q, consumer_tag="c")
    deliveries(c, 1, "c", 300)


# ---- several consumers ----

@case
def consumers_take_turns(t):
    c = t.open()
    q = t.queue(c)
    for tag in "abc":
        c.call(1, CONSUME, queue=q, consumer_tag=tag)
    got = []
    for n in range(12):
        c.publish(1, "", q, "x")
        got.append(c.expect(1, "basic.deliver").consumer_tag)
    equal(sorted(got[:3]), ["a", "b", "c"])
    equal(got, got[:3] * 4)


@case
def consumers_of_several_channels_share_evenly(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(1, CONSUME, queue=q, consumer_tag="a", no_ack=1)
    c.call(2, CONSUME, queue=q, consumer_tag="b", no_ack=1)
    c.channel(3)
    c.send(*(publish(3, "", q, "x") for _ in range(100)))
    c.quiet(3, q, messages=0)
    deliveries(c, 1, "a", 50)
    deliveries(c, 2, "b", 50)
    c.expect_nothing(1)
    c.expect_nothing(2)


@case
def consumer_of_higher_priority_goes_first_until_it_is_full(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.qos", prefetch_count=2)
    for tag, priority in (("low", -5), ("none", None), ("high", 10)):
        c.call(1, CONSUME, queue=q, consumer_tag=tag,
               arguments={} if priority is None else {"x-priority": priority})
    got = []
    for _ in range(6):
        c.publish(1, "", q, "x")
        got.append(c.expect(1, "basic.deliver").consumer_tag)
    equal(got, ["high"] * 2 + ["none"] * 2 + ["low"] * 2)
    c.publish(1, "", q, "x")
    c.quiet(1, q, messages=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.expect(1, "basic.deliver", consumer_tag="high")


@case
def full_consumer_is_passed_over(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, CONSUME, queue=q, consumer_tag="one")
    c.call(1, "basic.qos", prefetch_count=0)
    c.call(1, CONSUME, queue=q, consumer_tag="all")
    c.send(*(publish(1, "", q, "x") for _ in range(10)))
    tags = sorted(c.expect(1, "basic.deliver").consumer_tag for _ in range(10))
    equal(tags, ["all"] * 9 + ["one"])
