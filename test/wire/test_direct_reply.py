"""Direct reply-to: answers without a queue."""

import amqp
from amqp import method_frame, publish
from case import case, equal, refusal, true

NAME = "amq.rabbitmq.reply-to"
CONSUME = "basic.consume"


def row(title, doing, code, text, about, **how):
    refusal(title, doing, code, text, about, module=__name__, **how)


row("reply consumer must not acknowledge", lambda q: method_frame(1, CONSUME, queue=NAME), 406,
    "PRECONDITION_FAILED - reply consumer cannot acknowledge", CONSUME)
row("second reply consumer of a channel is refused",
    lambda q: method_frame(1, CONSUME, queue=NAME, no_ack=1), 406,
    "PRECONDITION_FAILED - reply consumer already set", CONSUME,
    setup=[(CONSUME, {"queue": NAME, "no_ack": 1})])
row("request without a reply consumer is refused",
    lambda q: publish(1, "", q, "x", {"reply_to": NAME}), 406,
    "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish")


@case
def reply_name_cannot_be_bound(t):
    c = t.open()
    c.cast(1, "queue.bind", queue=NAME, exchange="amq.direct")
    got = c.expect(1, "channel.close")
    true(got.reply_code in (403, 404), got)  # 404 in 3.10


row("reply name of nobody is not found", lambda q: method_frame(
    1, "queue.declare", queue=NAME + ".abc", passive=1), 404,
    f"NOT_FOUND - no queue '{NAME}.abc' in vhost '/'", "queue.declare")


def asked(t, props=()):
    """A client with a reply consumer has asked a server: both, and the reply name that the server
    saw."""
    client, server = t.open(), t.open()
    q = t.queue(server, exclusive=0)
    client.call(1, CONSUME, queue=NAME, no_ack=1, consumer_tag="reply")
    client.publish(1, "", q, "question", {"reply_to": NAME, **dict(props)})
    client.quiet(1, q, messages=1)
    server.cast(1, "basic.get", queue=q, no_ack=1)
    got = server.expect(1, "basic.get-ok", body=b"question")
    return client, server, got


@case
def reply_reaches_its_client(t):
    client, server, got = asked(t, {"correlation_id": "7", "type": "t"})
    name = got.props["reply_to"]
    true(name.startswith(NAME + "."), name)
    equal({k: v for k, v in got.props.items() if k != "reply_to"},
          {"correlation_id": "7", "type": "t"})
    for n in range(3):
        server.publish(1, "", name, str(n), {"correlation_id": "7"})
        # The delivery tag means nothing here; RabbitMQ does not count it up.
        client.expect(1, "basic.deliver", consumer_tag="reply", redelivered=False, exchange="",
                      routing_key=name, body=str(n).encode(), props={"correlation_id": "7"})


@case
def reply_name_is_rewritten_with_all_else_kept(t):
    raw = amqp.properties({"content_type": "c", "headers": {"a": [1, None]}, "delivery_mode": 2,
                           "reply_to": NAME, "expiration": "60000", "app_id": "x"})
    client, server = t.open(), t.open()
    q = t.queue(server, exclusive=0)
    client.call(1, CONSUME, queue=NAME, no_ack=1)
    client.publish(1, "", q, "x", raw)
    client.quiet(1, q, messages=1)
    server.cast(1, "basic.get", queue=q, no_ack=1)
    got = server.expect(1, "basic.get-ok")
    equal(got.raw_props.replace(amqp.shortstr(got.props["reply_to"]), amqp.shortstr(NAME)), raw)


@case
def reply_name_serves_the_whole_life_of_the_consumer(t):
    client, server, got = asked(t)
    other = t.open()
    other.publish(1, "", got.props["reply_to"], "from another")
    client.expect(1, "basic.deliver", body=b"from another")


@case
def reply_name_tells_whether_its_client_lives(t):
    client, server, got = asked(t)
    name = got.props["reply_to"]
    server.cast(1, "queue.declare", queue=name, passive=1)
    server.expect(1, "queue.declare-ok", queue=name, message_count=0, consumer_count=1)
    client.close()
    server.cast(1, "queue.declare", queue=name, passive=1)
    server.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{name}' in vhost '/'",
                                "queue.declare")


@case
def reply_to_a_client_that_is_gone_is_dropped(t):
    """Mandatory or not: the pseudo queue counts as a queue, as in RabbitMQ from 4.2 on."""
    client, server, got = asked(t)
    client.call(1, "channel.close")
    server.call(1, "confirm.select")
    server.publish(1, "", got.props["reply_to"], "dropped")
    server.expect(1, "basic.ack", delivery_tag=1)
    client.call(1, "channel.open")
    client.expect_nothing(1)


@case(oracle=False)  # RabbitMQ before 4.2 delivers it and returns it, too
def reply_to_a_client_that_is_there_is_not_returned(t):
    client, server, got = asked(t)
    server.publish(1, "", got.props["reply_to"], "x", mandatory=1)
    client.expect(1, "basic.deliver", body=b"x")
    server.expect_nothing(1)


@case
def reply_is_confirmed(t):
    client, server, got = asked(t)
    server.call(1, "confirm.select")
    server.publish(1, "", got.props["reply_to"], "x")
    server.expect(1, "basic.ack", delivery_tag=1)
    client.expect(1, "basic.deliver", body=b"x")


@case
def made_up_reply_name_reaches_nobody(t):
    c = t.open()
    for key in (NAME, NAME + ".garbage", NAME + ".", NAME + ".g1h2AA9yZXBseUAxMDI3Mzc"):
        c.publish(1, "", key, "x", mandatory=1)
        c.expect(1, "basic.return", reply_code=312, routing_key=key)


@case
def cancelled_reply_consumer_may_be_set_again(t):
    client, server, got = asked(t)
    client.call(1, "basic.cancel", consumer_tag="reply")
    client.call(1, CONSUME, queue=NAME, no_ack=1, consumer_tag="again")
    q = t.queue(server, exclusive=0)
    client.publish(1, "", q, "x", {"reply_to": NAME})
    client.quiet(1, q, messages=1)
    server.cast(1, "basic.get", queue=q, no_ack=1)
    server.publish(1, "", server.expect(1, "basic.get-ok").props["reply_to"], "y")
    client.expect(1, "basic.deliver", consumer_tag="again", body=b"y")


@case
def each_channel_has_a_reply_consumer_of_its_own(t):
    client, server = t.open(), t.open()
    client.channel(2)
    q = t.queue(server, exclusive=0)
    for channel in (1, 2):
        client.call(channel, CONSUME, queue=NAME, no_ack=1, consumer_tag=str(channel))
    for channel in (1, 2):
        client.publish(channel, "", q, str(channel), {"reply_to": NAME})
        client.quiet(channel, q, messages=1)
        server.cast(1, "basic.get", queue=q, no_ack=1)
        got = server.expect(1, "basic.get-ok")
        server.publish(1, "", got.props["reply_to"], got.body)
        client.expect(channel, "basic.deliver", consumer_tag=str(channel), body=got.body)


@case
def large_reply_comes_whole(t):
    client, server, got = asked(t)
    body = b"large" * 100000
    server.publish(1, "", got.props["reply_to"], body)
    client.expect(1, "basic.deliver", body=body)


@case
def reply_consumer_may_be_set_without_waiting(t):
    c = t.open()
    q = t.queue(c)
    c.cast(1, CONSUME, queue=NAME, no_ack=1, consumer_tag="r", no_wait=1)
    c.publish(1, "", q, "x", {"reply_to": NAME})
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.publish(1, "", c.expect(1, "basic.get-ok").props["reply_to"], "y")
    c.expect(1, "basic.deliver", consumer_tag="r", body=b"y")


@case
def server_names_the_reply_consumer(t):
    c = t.open()
    true(c.call(1, CONSUME, queue=NAME, no_ack=1).consumer_tag.startswith("amq.ctag-"), "no tag")


@case
def declaring_the_bare_name_is_answered(t):
    c = t.open()
    for passive in (0, 1):
        c.cast(1, "queue.declare", queue=NAME, passive=passive)
        c.expect(1, "queue.declare-ok", queue=NAME, message_count=0, consumer_count=1)
