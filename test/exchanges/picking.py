"""x-consistent-hash, x-modulus-hash, x-random: each message goes to one destination."""

from harness import case, equal, put, ready
from pika.exceptions import ChannelClosedByBroker

QUEUES = 8
MESSAGES = 400


def declare(ch, kind, key, arguments=None):
    ch.exchange_declare("x", kind, durable=True, arguments=arguments)
    for i in range(QUEUES):
        ch.queue_declare(f"q{i}", durable=True)
        ch.queue_bind(f"q{i}", "x", key)


def drained(ch):
    """Which queue each body was in; it is in no other."""
    where = {}
    for i in range(QUEUES):
        for _ in range(ready(ch, f"q{i}")):
            body = ch.basic_get(f"q{i}", auto_ack=True)[2]
            assert body not in where, f"{body} is in two queues"
            where[body] = i
    return where


def publish(ch, n=MESSAGES, **how):
    for i in range(n):
        put(ch, f"key-{i}" if "key" not in how else how["key"], i, "x",
            delivery_mode=1, **{k: v(i) for k, v in how.items() if k != "key"})


def counts(where):
    return [list(where.values()).count(i) for i in range(QUEUES)]


def assert_even(where, n=MESSAGES):
    equal(len(where), n, "messages that arrived")
    for count in counts(where):
        assert n / QUEUES * 0.4 < count < n / QUEUES * 1.8, counts(where)


@case
def keys_are_spread_and_stay_where_they_are(server):
    ch = server.channel(confirm=False)
    declare(ch, "x-consistent-hash", "5")
    publish(ch)
    first = drained(ch)
    assert_even(first)
    ch.queue_unbind("q3", "x", "5")
    publish(ch)
    second = drained(ch)
    equal({b for b, q in first.items() if second[b] != q},
          {b for b, q in first.items() if q == 3}, "messages that moved")
    ch.queue_bind("q3", "x", "5")
    server.restart(kill=False)
    ch = server.channel(confirm=False)
    publish(ch)
    equal(drained(ch), first, "places after a restart")


@case
def headers_and_properties_choose(server):
    ch = server.channel(confirm=False)
    declare(ch, "x-consistent-hash", "1", {"hash-header": "h"})
    publish(ch, key="same", headers=lambda i: {"h": f"value-{i}"})
    first = drained(ch)
    assert_even(first)
    publish(ch, 50, key="other", headers=lambda i: {"h": f"value-{i}", "n": 1})
    equal(drained(ch), {b: q for b, q in first.items() if int(b) < 50})
    publish(ch, 50, key="same")
    equal(len(set(drained(ch).values())), 1, "queues for messages without the header")
    for name, value in (("correlation_id", lambda i: f"id-{i}"),
                        ("message_id", lambda i: f"id-{i}"), ("timestamp", lambda i: i + 1)):
        ch.exchange_delete("x")
        declare(ch, "x-consistent-hash", "1", {"hash-property": name})
        publish(ch, key="same", **{name: value})
        assert_even(drained(ch))


@case
def modulus_and_random_spread_too(server):
    ch = server.channel(confirm=False)
    declare(ch, "x-modulus-hash", "")
    publish(ch)
    first = drained(ch)
    assert_even(first)
    publish(ch, 100)
    equal(drained(ch), {b: q for b, q in first.items() if int(b) < 100})
    ch.exchange_delete("x")
    declare(ch, "x-random", "")
    publish(ch, key="same")
    assert_even(drained(ch))


@case
def what_is_wrong_is_told(server):
    ch = server.channel(confirm=False)
    ch.exchange_declare("x", "x-consistent-hash")
    ch.queue_declare("q0")
    for wrong in ("", "a", "0", "-1", "1.0"):
        try:
            ch.queue_bind("q0", "x", wrong)
            raise AssertionError(f"a weight of {wrong!r} was taken")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 406)
            ch = server.channel(confirm=False)
    for arguments in ({"hash-header": "a", "hash-property": "message_id"},
                      {"hash-property": "app_id"}):
        try:
            ch.exchange_declare("y", "x-consistent-hash", arguments=arguments)
            raise AssertionError(f"{arguments} was taken")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 406)
            ch = server.channel(confirm=False)
