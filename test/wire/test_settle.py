"""basic.ack, nack, reject, recover, and what becomes of what nobody settled."""

from amqp import method_frame, publish
from case import case, equal, refusal

ACK, NACK, REJECT = "basic.ack", "basic.nack", "basic.reject"
UNKNOWN = "PRECONDITION_FAILED - unknown delivery tag {}"


def row(title, name, code, text, closes="channel", **fields):
    refusal(title, lambda q: method_frame(1, name, **fields), code, text, name, closes=closes,
            module=__name__)


row("ack of an unknown tag is refused", ACK, 406, UNKNOWN.format(5), delivery_tag=5)
row("ack of tag 0 alone is refused", ACK, 406, UNKNOWN.format(0), delivery_tag=0)
row("ack up to an unknown tag is refused", ACK, 406, UNKNOWN.format(5), delivery_tag=5, multiple=1)
row("ack of a tag past 63 bits is refused", ACK, 406, UNKNOWN.format(2**63), delivery_tag=2**63)
row("nack of an unknown tag is refused", NACK, 406, UNKNOWN.format(5), delivery_tag=5, requeue=1)
row("nack up to an unknown tag is refused", NACK, 406, UNKNOWN.format(7), delivery_tag=7,
    multiple=1)
row("reject of an unknown tag is refused", REJECT, 406, UNKNOWN.format(5), delivery_tag=5)
row("recover without requeue is not implemented", "basic.recover", 540,
    "NOT_IMPLEMENTED - requeue=false", closes="connection", requeue=0)
row("recover-async without requeue is not implemented", "basic.recover-async", 540,
    "NOT_IMPLEMENTED - requeue=false", closes="connection", requeue=0)


def filled(t, count, channel=1):
    """A connection with a queue of messages "0", "1"... that channel 1 has got, unacked, under
    the tags 1, 2..."""
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, str(n)) for n in range(count)))
    for n in range(count):
        c.cast(channel, "basic.get", queue=q)
        c.expect(channel, "basic.get-ok", delivery_tag=n + 1, body=str(n).encode())
    return c, q


def ready(c, q, want, channel=1):
    """Takes all that is ready; it is want, a list of (body, redelivered)."""
    got = []
    while True:
        c.cast(channel, "basic.get", queue=q, no_ack=1)
        message = c.next(channel)
        if message.name == "basic.get-empty":
            break
        got.append((message.body.decode(), message.redelivered))
    equal(got, want, "ready")


def reopened(c):
    c.call(1, "channel.close")
    c.call(1, "channel.open")


def again(*bodies):
    return [(b, True) for b in bodies]


@case
def acked_messages_are_gone(t):
    c, q = filled(t, 5)
    c.cast(1, ACK, delivery_tag=3)
    c.cast(1, ACK, delivery_tag=1)
    reopened(c)
    ready(c, q, again("1", "3", "4"))


@case
def ack_multiple_takes_all_up_to_its_tag(t):
    c, q = filled(t, 5)
    c.cast(1, ACK, delivery_tag=2)
    c.cast(1, ACK, delivery_tag=4, multiple=1)
    reopened(c)
    ready(c, q, again("4"))


@case
def ack_multiple_of_tag_0_takes_all(t):
    c, q = filled(t, 5)
    c.cast(1, ACK, delivery_tag=0, multiple=1)
    reopened(c)
    ready(c, q, [])


@case
def ack_multiple_of_tag_0_with_nothing_outstanding_is_let_pass(t):
    c = t.open()
    c.cast(1, ACK, delivery_tag=0, multiple=1)
    c.cast(1, NACK, delivery_tag=0, multiple=1, requeue=1)
    c.expect_nothing(1)


def twice(name, first, second, tag=2):
    @case
    def refused(t):
        c, _ = filled(t, 3)
        c.cast(1, first[0], delivery_tag=tag, **first[1])
        c.cast(1, second[0], delivery_tag=tag, **second[1])
        c.expect_channel_close(1, 406, UNKNOWN.format(tag), second[0])
    refused.__name__ = name
    refused.__module__ = __name__


twice("second_ack_is_refused", (ACK, {}), (ACK, {}))
twice("ack_after_reject_is_refused", (REJECT, {}), (ACK, {}))
twice("reject_after_ack_is_refused", (ACK, {}), (REJECT, {"requeue": 1}))
twice("nack_after_requeue_is_refused", (NACK, {"requeue": 1}), (NACK, {"requeue": 1}))
twice("ack_multiple_of_all_that_is_acked_is_refused", (ACK, {"multiple": 1}),
      (ACK, {"multiple": 1}))


@case
def ack_of_a_delivery_without_acks_is_refused(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", delivery_tag=1)
    c.cast(1, ACK, delivery_tag=1)
    c.expect_channel_close(1, 406, UNKNOWN.format(1), ACK)


@case
def ack_on_another_channel_is_refused(t):
    c, _ = filled(t, 1)
    c.channel(2)
    c.cast(2, ACK, delivery_tag=1)
    c.expect_channel_close(2, 406, UNKNOWN.format(1), ACK)


@case
def rejected_message_is_dropped(t):
    c, q = filled(t, 3)
    c.cast(1, REJECT, delivery_tag=1)
    c.cast(1, NACK, delivery_tag=2)
    c.quiet(1, q, messages=0)
    reopened(c)
    ready(c, q, again("2"))


@case
def nack_multiple_drops_all_up_to_its_tag(t):
    c, q = filled(t, 4)
    c.cast(1, NACK, delivery_tag=3, multiple=1)
    reopened(c)
    ready(c, q, again("3"))


@case
def requeued_messages_return_to_their_places(t):
    c, q = filled(t, 6)
    c.send(publish(1, "", q, "6"), publish(1, "", q, "7"))
    for tag in (5, 2, 4):
        c.cast(1, REJECT, delivery_tag=tag, requeue=1)
    ready(c, q, again("1", "3", "4") + [("6", False), ("7", False)])


@case
def nack_multiple_requeues_all_up_to_its_tag_in_order(t):
    c, q = filled(t, 5)
    c.publish(1, "", q, "5")
    c.cast(1, NACK, delivery_tag=4, multiple=1, requeue=1)
    ready(c, q, again("0", "1", "2", "3") + [("5", False)])


@case
def nack_multiple_of_tag_0_requeues_all(t):
    c, q = filled(t, 3)
    c.cast(1, NACK, delivery_tag=0, multiple=1, requeue=1)
    ready(c, q, again("0", "1", "2"))


@case
def requeued_message_is_delivered_again_with_a_new_tag(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.consume", queue=q, consumer_tag="c")
    c.publish(1, "", q, "x")
    c.expect(1, "basic.deliver", delivery_tag=1, redelivered=False)
    for tag in range(1, 10):
        c.cast(1, NACK, delivery_tag=tag, requeue=1)
        c.expect(1, "basic.deliver", delivery_tag=tag + 1, redelivered=True, body=b"x")
    c.cast(1, ACK, delivery_tag=10)
    c.quiet(1, q, messages=0)


@case
def channel_close_requeues_what_is_unacked_in_order(t):
    c, q = filled(t, 5)
    c.publish(1, "", q, "5")
    c.cast(1, ACK, delivery_tag=2)
    reopened(c)
    ready(c, q, again("0", "2", "3", "4") + [("5", False)])


@case
def failed_channel_requeues_what_is_unacked(t):
    c, q = filled(t, 2)
    c.cast(1, ACK, delivery_tag=99)
    c.expect_channel_close(1, 406)
    ready(c, q, again("0", "1"))


@case
def connection_close_requeues_what_is_unacked(t):
    for ending in ("close", "abandon"):
        c, other = t.open(), t.open()
        q = t.queue(c, exclusive=0)
        c.send(publish(1, "", q, "a"), publish(1, "", q, "b"))
        c.call(1, "basic.consume", queue=q, consumer_tag="c")
        for body in (b"a", b"b"):
            c.expect(1, "basic.deliver", body=body)
        getattr(c, ending)()
        other.call(1, "basic.consume", queue=q, consumer_tag="d")
        for body in (b"a", b"b"):
            other.expect(1, "basic.deliver", body=body, redelivered=True)


@case
def deliveries_that_the_client_never_read_come_again(t):
    c, other = t.open(), t.open()
    q = t.queue(c, exclusive=0)
    other.send(*(publish(1, "", q, str(n) + "." * 2000) for n in range(500)))
    other.quiet(1, q, messages=500)
    c.cast(1, "basic.consume", queue=q, consumer_tag="c")
    c.expect(1, "basic.consume-ok")
    c.abandon()
    other.call(1, "basic.consume", queue=q, consumer_tag="d")
    got = [int(other.expect(1, "basic.deliver").body.rstrip(b".")) for _ in range(500)]
    equal(sorted(got), list(range(500)))
    other.quiet(1, q, messages=0, consumers=1)


@case
def tags_start_again_with_the_channel(t):
    c, q = filled(t, 3)
    reopened(c)
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", delivery_tag=1, redelivered=True, body=b"0")
    c.cast(1, ACK, delivery_tag=2)
    c.expect_channel_close(1, 406, UNKNOWN.format(2), ACK)


@case
def recover_requeues_what_is_unacked(t):
    c, q = filled(t, 3)
    c.cast(1, ACK, delivery_tag=2)
    c.call(1, "basic.recover", requeue=1)
    ready(c, q, again("0", "2"))


@case
def recovered_messages_are_delivered_again(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "basic.consume", queue=q, consumer_tag="c")
    c.send(publish(1, "", q, "a"), publish(1, "", q, "b"))
    for tag in (1, 2):
        c.expect(1, "basic.deliver", delivery_tag=tag)
    c.cast(1, "basic.recover", requeue=1)
    got = [c.next(1) for _ in range(3)]
    equal(sorted(g.name for g in got), ["basic.deliver", "basic.deliver", "basic.recover-ok"])
    equal([(g.body, g.redelivered, g.delivery_tag) for g in got if g.name == "basic.deliver"],
          [(b"a", True, 3), (b"b", True, 4)])


@case
def recover_async_is_not_answered(t):
    c, q = filled(t, 2)
    c.cast(1, "basic.recover-async", requeue=1)
    c.expect_nothing(1)
    ready(c, q, again("0", "1"))


@case
def recover_with_nothing_unacked_is_answered(t):
    t.open().call(1, "basic.recover", requeue=1)


@case
def acks_behind_an_error_of_the_channel_are_ignored(t):
    c, q = filled(t, 2)
    c.send(method_frame(1, "queue.declare", queue="wire.none", passive=1),
           method_frame(1, ACK, delivery_tag=1), method_frame(1, ACK, delivery_tag=77))
    c.expect_channel_close(1, 404)
    ready(c, q, again("0", "1"))


@case
def ten_thousand_acks_in_any_order_are_taken(t):
    c = t.open()
    q = t.queue(c)
    count = 10000
    c.send(*(publish(1, "", q, b"") for _ in range(count)))
    c.call(1, "basic.consume", queue=q, consumer_tag="c")
    for n in range(count):
        c.expect(1, "basic.deliver", delivery_tag=n + 1)
    order = [n * 7919 % count + 1 for n in range(count)]
    c.send(*(method_frame(1, ACK, delivery_tag=tag) for tag in order))
    c.expect_nothing(1)
    c.call(1, "basic.cancel", consumer_tag="c")
    reopened(c)
    c.quiet(1, q, messages=0)
