"""basic.publish: what is refused, returned, copied, and echoed octet for octet; confirms; tx."""

import os

import amqp
from amqp import T, method_frame, publish
from case import case, equal, refusal, true

PUBLISH = "basic.publish"


def row(title, doing, code, text, about=PUBLISH, **how):
    refusal(title, doing, code, text, about, module=__name__, **how)


row("publishing to a missing exchange is refused", lambda q: publish(1, "wire.none", "k", "x"), 404,
    "NOT_FOUND - no exchange 'wire.none' in vhost '/'")
row("immediate is not implemented", lambda q: publish(1, "", q, "x", immediate=1), 540,
    "NOT_IMPLEMENTED - immediate=true", closes="connection")
row("user id of another is refused",
    lambda q: publish(1, "", q, "x", {"user_id": "bob"}), 406,
    "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'")
row("empty user id is refused", lambda q: publish(1, "", q, "x", {"user_id": ""}), 406,
    "PRECONDITION_FAILED - user_id property set to '' but authenticated user was 'guest'")
for _header, _value, _kind in (("CC", "a", "longstr"), ("BCC", {}, "table"), ("CC", 5, "signedint")):
    row(f"{_header} that is a {_kind} is refused",
        lambda q, h=_header, v=_value: publish(1, "", q, "x", {"headers": {h: v}}), 406,
        f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{_header}",'
        f'{_kind}}}')


@case
def user_id_of_ones_own_is_taken(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x", {"user_id": "guest"})
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", props={"user_id": "guest"})


@case
def publishes_behind_a_refused_one_are_ignored(t):
    c = t.open()
    q = t.queue(c)
    c.send(publish(1, "wire.none", "k", "x"), publish(1, "", q, "y"))
    c.expect_channel_close(1, 404)
    c.quiet(1, q, messages=0)


@case(needs=["LEPUS_MAX_MESSAGE_SIZE"])
def message_larger_than_the_limit_is_refused(t):
    most = int(os.environ["LEPUS_MAX_MESSAGE_SIZE"])
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, b"x" * most)
    c.quiet(1, q, messages=1)
    c.publish(1, "", q, b"x" * (most + 1))
    c.expect_channel_close(1, 406, f"PRECONDITION_FAILED - message size {most + 1} is larger than "
                           f"configured max size {most}", PUBLISH)
    c.quiet(1, q, messages=1)


# ---- properties ----

PROPERTIES = {
    "content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 1, "priority": 9,
    "correlation_id": "c" * 255, "reply_to": "somewhere", "expiration": "600000",
    "message_id": "\u00fcn\u00efque", "timestamp": 2**63 + 5, "type": "", "user_id": "guest",
    "app_id": "app", "cluster_id": "cluster",
}
HEADERS = [
    ("bool", True), ("no", False), ("int8", T("b", -128)), ("uint8", T("B", 255)),
    ("int16", T("s", -32768)), ("uint16", T("u", 65535)), ("int32", T("I", -2**31)),
    ("uint32", T("i", 2**32 - 1)), ("int64", T("l", -2**63)), ("long", T("L", 2**63 - 1)),
    ("float", T("f", 1.5)), ("double", T("d", -2.25e300)), ("decimal", T("D", (2, 31415))),
    ("string", "\u00e4\u0000\n"), ("octets", T("x", b"\xff\x00\xfe")), ("time", T("T", 2**64 - 1)),
    ("void", None), ("array", [1, "two", [T("d", 0.5), None], {"k": T("b", 1)}]), ("empty", []),
    ("table", {"a": {"b": {"c": [[[]]]}}}), ("", "no name"), ("same", 1), ("same", 2),
    ("name of 120" + "." * 109, T("S", b"x" * 1000)), ("not utf 8", T("S", b"\xc3\x28")),
]


def echoed(title, raw, **how):
    def echo(t):
        c = t.open()
        q = t.queue(c)
        c.send(publish(1, "", q, "a body", raw) * 3, publish(1, "", q + ".none", "a body", raw,
                                                             mandatory=1))
        got = c.expect(1, "basic.return", reply_code=312, reply_text="NO_ROUTE", exchange="",
                       routing_key=q + ".none", body=b"a body")
        equal(got.raw_props, raw, "properties returned")
        c.cast(1, "basic.get", queue=q)
        equal(c.expect(1, "basic.get-ok", body=b"a body").raw_props, raw, "properties got")
        c.cast(1, "basic.reject", delivery_tag=1, requeue=1)
        c.call(1, "basic.consume", queue=q, no_ack=1, consumer_tag="c")
        for _ in range(3):
            equal(c.expect(1, "basic.deliver", body=b"a body").raw_props, raw, "properties")
    echo.__name__ = f"{title} come back octet for octet"
    echo.__module__ = __name__
    case(echo, **how)


echoed("no properties", amqp.properties({}))
echoed("all properties without headers", amqp.properties(PROPERTIES))
echoed("all fourteen properties", amqp.properties({**PROPERTIES, "headers": dict(HEADERS)}))
for _name, _value in HEADERS:
    if _name != "same":
        # RabbitMQ decodes headers and encodes them anew only when it must; so it is exact here.
        echoed(f"headers of {_name[:20] or 'no name'}", amqp.properties({"headers": [(_name, _value)]}))
echoed("headers of the same name twice", amqp.properties({"headers": HEADERS[-5:]}))
echoed("headers of an empty table", amqp.properties({"headers": {}}))
for _name, _value in PROPERTIES.items():
    echoed(f"properties of {_name}", amqp.properties({_name: _value}))


@case
def bodies_of_any_size_come_back_whole(t):
    c = t.open(frame_max=4096)
    q = t.queue(c)
    sizes = [0, 1, 4087, 4088, 4089, 8176, 8177, 70000, 1 << 20]
    c.call(1, "basic.consume", queue=q, no_ack=1, consumer_tag="c")
    for size in sizes:
        body = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
        c.send(publish(1, "", q, body[:size], frame_max=4096))
        c.expect(1, "basic.deliver", body=body[:size])


# ---- mandatory ----

@case
def mandatory_message_that_finds_no_queue_is_returned(t):
    c = t.open()
    x = t.exchange(c)
    for exchange, key in (("", "wire.none"), (x, "k"), ("amq.fanout", "")):
        c.publish(1, exchange, key, "returned", {"type": "t"}, mandatory=1)
        c.expect(1, "basic.return", reply_code=312, reply_text="NO_ROUTE", exchange=exchange,
                 routing_key=key, body=b"returned", props={"type": "t"})


@case
def message_that_is_not_mandatory_and_finds_no_queue_is_dropped(t):
    c = t.open()
    c.publish(1, "", "wire.none", "dropped")
    c.expect_nothing(1)


@case
def returns_come_in_order(t):
    c = t.open()
    c.send(*(publish(1, "", "wire.none", str(n), mandatory=1) for n in range(50)))
    for n in range(50):
        c.expect(1, "basic.return", body=str(n).encode())


# ---- sender-selected distribution ----

@case
def cc_and_bcc_are_further_routing_keys(t):
    c = t.open()
    to, cc, bcc, no = (t.queue(c) for _ in range(4))
    c.publish(1, "", to, "x", {"headers": {"CC": [cc], "BCC": [bcc], "a": 1}})
    for q in (to, cc, bcc):
        c.cast(1, "basic.get", queue=q, no_ack=1)
        got = c.expect(1, "basic.get-ok", routing_key=to)
        equal(amqp.plain(got.props["headers"]), {"CC": [cc], "a": 1}, f"headers in {q}")
    c.quiet(1, no, messages=0)


@case
def cc_makes_a_message_routable(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", "wire.none", "x", {"headers": {"CC": ["wire.none", q]}}, mandatory=1)
    c.expect_nothing(1)
    c.quiet(1, q, messages=1)


@case
def cc_of_the_same_queue_makes_one_copy(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x", {"headers": {"CC": [q, q], "BCC": [q]}})
    c.quiet(1, q, messages=1)


@case
def cc_works_with_topics(t):
    c = t.open()
    x, one, two = t.exchange(c, "topic"), t.queue(c), t.queue(c)
    t.bind(c, one, x, "a.*")
    t.bind(c, two, x, "b.#")
    c.publish(1, x, "zz", "x", {"headers": {"CC": ["a.1", "a.2"], "BCC": ["b"]}})
    c.quiet(1, one, messages=1)
    c.quiet(1, two, messages=1)


# ---- confirms ----

def confirmed(c, channel, last, first=1):
    """Reads acks until all of first..last are answered, once each. What comes besides, in order."""
    waiting, others = set(range(first, last + 1)), []
    while waiting:
        got = c.next(channel)
        if got.name != "basic.ack":
            others.append(got)
            continue
        acked = {n for n in waiting if n <= got.delivery_tag} if got.multiple \
            else {got.delivery_tag}
        true(acked and acked <= waiting, f"{got} while waiting for {sorted(waiting)}")
        waiting -= acked
    return others


@case
def publishes_are_confirmed_from_1_on(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "before")
    c.call(1, "confirm.select")
    c.publish(1, "", q, "first")
    c.expect(1, "basic.ack", delivery_tag=1)
    c.publish(1, "", q, "second")
    c.expect(1, "basic.ack", delivery_tag=2)


@case
def every_publish_is_confirmed_once(t):
    c = t.open()
    q, durable = t.queue(c), t.queue(c, exclusive=0, durable=1)
    c.call(1, "confirm.select")
    c.send(*(publish(1, "", (q, durable, "wire.none")[n % 3], "x", {"delivery_mode": 1 + n % 2})
             for n in range(1000)))
    equal(confirmed(c, 1, 1000), [])
    c.expect_nothing(1)


@case
def confirms_count_per_channel(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    for channel in (1, 2):
        c.call(channel, "confirm.select")
    c.publish(1, "", q, "x")
    c.publish(1, "", q, "x")
    c.publish(2, "", q, "x")
    equal(confirmed(c, 1, 2), [])
    c.expect(2, "basic.ack", delivery_tag=1)


@case
def return_comes_before_its_ack(t):
    c = t.open()
    c.call(1, "confirm.select")
    for tag in range(1, 20):
        c.publish(1, "", "wire.none", str(tag), mandatory=1)
        c.expect(1, "basic.return", body=str(tag).encode())
        c.expect(1, "basic.ack", delivery_tag=tag)


@case
def returns_among_confirms_come_before_their_acks(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "confirm.select")
    c.send(*(publish(1, "", q if n % 2 else "wire.none", str(n), mandatory=1)
             for n in range(1, 101)))
    waiting, returned = set(range(1, 101)), set()
    while waiting:
        got = c.next(1)
        if got.name == "basic.return":
            true(int(got.body) in waiting, f"{got} after its ack")
            returned.add(int(got.body))
        else:
            equal(got.name, "basic.ack")
            acked = {n for n in waiting if n <= got.delivery_tag} if got.multiple \
                else {got.delivery_tag}
            true(acked <= waiting, got)
            missing = {n for n in acked if n % 2 == 0} - returned
            true(not missing, f"{missing} confirmed before they were returned")
            waiting -= acked


@case
def confirm_select_may_be_repeated_and_keeps_counting(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "confirm.select")
    c.publish(1, "", q, "x")
    c.expect(1, "basic.ack", delivery_tag=1)
    c.call(1, "confirm.select")
    c.publish(1, "", q, "x")
    c.expect(1, "basic.ack", delivery_tag=2)


@case
def confirm_select_without_waiting_is_not_answered(t):
    c = t.open()
    q = t.queue(c)
    c.cast(1, "confirm.select", no_wait=1)
    c.publish(1, "", q, "x")
    c.expect(1, "basic.ack", delivery_tag=1)


@case
def publish_to_a_queue_deleted_meanwhile_is_confirmed(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c, exclusive=0)
    c.call(1, "confirm.select")
    c.send(*(publish(1, "", q, "x") for _ in range(100)), method_frame(2, "queue.delete", queue=q),
           *(publish(1, "", q, "x") for _ in range(100)))
    equal(confirmed(c, 1, 200), [])


@case
def confirmed_message_is_in_its_queue(t):
    c, other = t.open(), t.open()
    q = t.queue(c, exclusive=0)
    c.call(1, "confirm.select")
    for n in range(1, 21):
        c.publish(1, "", q, "x")
        c.expect(1, "basic.ack", delivery_tag=n)
        other.cast(1, "basic.get", queue=q, no_ack=1)
        other.expect(1, "basic.get-ok", message_count=0)


row("tx after confirm is refused", lambda q: method_frame(1, "tx.select"), 406,
    "PRECONDITION_FAILED - cannot switch from confirm to tx mode", "tx.select",
    setup=[("confirm.select", {})])
row("confirm after tx is refused", lambda q: method_frame(1, "confirm.select"), 406,
    "PRECONDITION_FAILED - cannot switch from tx to confirm mode", "confirm.select",
    setup=[("tx.select", {})])

# ---- tx ----

row("commit without select is refused", lambda q: method_frame(1, "tx.commit"), 406,
    "PRECONDITION_FAILED - channel is not transactional", "tx.commit")
row("rollback without select is refused", lambda q: method_frame(1, "tx.rollback"), 406,
    "PRECONDITION_FAILED - channel is not transactional", "tx.rollback")
row("publishing to a missing exchange in a transaction is refused at once",
    lambda q: publish(1, "wire.none", "k", "x"), 404,
    "NOT_FOUND - no exchange 'wire.none' in vhost '/'", setup=[("tx.select", {})])
row("unknown delivery tag in a transaction is refused at once",
    lambda q: method_frame(1, "basic.ack", delivery_tag=4), 406,
    "PRECONDITION_FAILED - unknown delivery tag 4", "basic.ack", setup=[("tx.select", {})])


@case
def publishes_are_seen_after_commit_alone(t):
    c, other = t.open(), t.open()
    q = t.queue(c, exclusive=0)
    c.call(1, "tx.select")
    c.send(*(publish(1, "", q, str(n)) for n in range(10)))
    c.quiet(1, q, messages=0)
    other.quiet(1, q, messages=0)
    c.call(1, "tx.commit")
    for n in range(10):
        other.cast(1, "basic.get", queue=q, no_ack=1)
        other.expect(1, "basic.get-ok", body=str(n).encode(), redelivered=False)


@case
def rollback_forgets_publishes(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "tx.select")
    c.publish(1, "", q, "forgotten")
    c.call(1, "tx.rollback")
    c.publish(1, "", q, "kept")
    c.call(1, "tx.commit")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"kept", message_count=0)


@case
def transactions_follow_one_another(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, "tx.select")
    c.call(1, "tx.select")
    for n in range(1, 6):
        c.publish(1, "", q, "x")
        c.call(1, "tx.commit")
        c.call(1, "tx.commit")
        c.call(1, "tx.rollback")
        c.quiet(1, q, messages=n)


@case
def channel_closed_before_commit_forgets_the_transaction(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "there")
    c.quiet(1, q, messages=1)
    c.call(1, "tx.select")
    c.publish(1, "", q, "forgotten")
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", body=b"there", delivery_tag=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.call(1, "channel.close")
    c.call(1, "channel.open")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"there", redelivered=True, message_count=0)


@case
def acks_take_effect_at_commit(t):
    c = t.open()
    q = t.queue(c)
    c.send(publish(1, "", q, "a"), publish(1, "", q, "b"))
    c.quiet(1, q, messages=2)
    c.call(1, "tx.select")
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, "basic.consume", queue=q, consumer_tag="c")
    c.expect(1, "basic.deliver", body=b"a", delivery_tag=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.quiet(1, q, messages=1)
    c.cast(1, "tx.commit")
    got = {g.name: g for g in (c.next(1), c.next(1))}  # in either order
    equal(set(got), {"tx.commit-ok", "basic.deliver"})
    equal((got["basic.deliver"].body, got["basic.deliver"].delivery_tag), (b"b", 2))


@case
def rollback_keeps_messages_unacked(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "a")
    c.quiet(1, q, messages=1)
    c.call(1, "tx.select")
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", delivery_tag=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.call(1, "tx.rollback")
    c.quiet(1, q, messages=0)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.call(1, "tx.commit")
    c.call(1, "channel.close")
    c.call(1, "channel.open")
    c.quiet(1, q, messages=0)


@case
def rejects_take_effect_at_commit(t):
    c = t.open()
    q = t.queue(c)
    c.send(publish(1, "", q, "a"), publish(1, "", q, "b"))
    c.quiet(1, q, messages=2)
    c.call(1, "tx.select")
    for n in (1, 2):
        c.cast(1, "basic.get", queue=q)
        c.expect(1, "basic.get-ok", delivery_tag=n)
    c.cast(1, "basic.reject", delivery_tag=1, requeue=1)
    c.cast(1, "basic.nack", delivery_tag=2, requeue=0)
    c.quiet(1, q, messages=0)
    c.call(1, "tx.commit")
    c.quiet(1, q, messages=1)
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"a", redelivered=True)


@case
def ack_of_what_the_transaction_acked_is_unknown(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "a")
    c.quiet(1, q, messages=1)
    c.call(1, "tx.select")
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", delivery_tag=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")


@case
def mandatory_in_a_transaction_is_returned_before_commit_ok(t):
    c = t.open()
    c.call(1, "tx.select")
    c.publish(1, "", "wire.none", "x", mandatory=1)
    c.expect_nothing(1)
    c.cast(1, "tx.commit")
    c.expect(1, "basic.return", body=b"x")
    c.expect(1, "tx.commit-ok")
    c.publish(1, "", "wire.none", "y", mandatory=1)
    c.call(1, "tx.rollback")
    c.expect_nothing(1)


@case
def another_channel_is_not_in_the_transaction(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(1, "tx.select")
    c.publish(1, "", q, "waits")
    c.publish(2, "", q, "goes")
    c.quiet(2, q, messages=1)
    c.call(1, "tx.rollback")
