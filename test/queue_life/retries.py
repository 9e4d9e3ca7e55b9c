"""retries: x-delayed-retry-*, x-retry-schedule."""

import time

import pika
from harness import (LATE_S, Consumer, bodies, case, deaths, equal, put, ready, take, until)
from delivery import count

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def attempt(properties):
    return (properties.headers or {}).get("x-retry-attempt")


def waits(channel, queue, wait_s, since):
    """Until it is there: not before its time, and not much after it. (method, properties, body)"""
    got = take(channel, queue, ack=False)
    took = time.monotonic() - since
    assert wait_s - 0.01 <= took < wait_s + LATE_S, f"after {took:.3f} s, not {wait_s}"
    return got


@case
def a_schedule_is_followed_to_its_end(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={**TO_DEAD, "x-retry-schedule": "50ms,300ms,80ms*2"})
    put(ch, "q", "x", headers={"mine": "stays"})
    method, properties, _ = take(ch, "q", ack=False)
    equal((count(properties), attempt(properties)), (None, None))
    for n, wait_s in enumerate((0.05, 0.3, 0.08, 0.08), 1):
        since = time.monotonic()
        if n % 2:
            ch.basic_nack(method.delivery_tag, requeue=True)
        else:
            ch.basic_reject(method.delivery_tag, requeue=True)
        method, properties, _ = waits(ch, "q", wait_s, since)
        equal((count(properties), attempt(properties), method.redelivered), (n, n, True))
        equal(properties.headers["mine"], "stays")
    ch.basic_nack(method.delivery_tag, requeue=True)
    _, properties, body = take(ch, "dead")
    equal((body, deaths(properties)), (b"x", [("q", "delivery_limit", 1)]))
    equal(attempt(properties), None, "of the letter")


@case
def others_go_on_while_one_waits(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-retry-schedule": "400ms"})
    consumer = Consumer(server, "q", prefetch=1)
    for i in range(4):
        put(ch, "q", i)
    consumer.wait(1)
    consumer.channel.basic_nack(1, requeue=True)
    for n in (2, 3):
        consumer.wait(n)
        consumer.channel.basic_ack(n)
    consumer.wait(4)  # the last one is held until the first is back
    equal([b for _, _, b in consumer.got], [b"0", b"1", b"2", b"3"])
    equal(ready(ch, "q"), 0, "what waits counts as unacked")
    until(lambda: ready(ch, "q") == 1, "it is back")
    put(ch, "q", 4)
    consumer.channel.basic_ack(4)
    equal([b for _, _, b in consumer.wait(5)], [b"0", b"1", b"2", b"3", b"0"], "at its place")


@case
def a_type_says_which_failures_wait(server):
    ch = server.channel()
    for kind, slow in (("all", {"nack", "reject", "gone", "overdue"}),
                       ("failed", {"reject", "gone", "overdue"}),
                       ("returned", {"nack"}), ("disabled", set())):
        ch.queue_declare(kind, arguments={"x-delayed-retry-type": kind, "x-delayed-retry-min": 600000,
                                          "x-consumer-timeout": 300})
        for how in ("nack", "reject", "gone", "overdue"):
            other = server.channel(confirm=False)
            put(ch, kind, how)
            method, _, _ = take(other, kind, ack=False)
            if how == "nack":
                other.basic_nack(method.delivery_tag, requeue=True)
            elif how == "reject":
                other.basic_reject(method.delivery_tag, requeue=True)
            elif how == "overdue":
                begun = time.monotonic()
                until(lambda: time.monotonic() > begun + 0.5, "the timeout is over")
            if how in ("nack", "reject"):
                ready(other, kind)
            server.connections.remove(other.connection)
            other.connection.close()
            if how in slow:
                equal(ready(ch, kind), 0, f"{kind} {how}")
            else:
                equal(take(ch, kind)[2], how.encode())


@case
def linear_waits_grow_up_to_their_end(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-delayed-retry-type": "all", "x-delayed-retry-min": 100,
                                     "x-delayed-retry-max": 250, "x-delivery-limit": 4})
    put(ch, "q", "x")
    method, _, _ = take(ch, "q", ack=False)
    for n, wait_s in enumerate((0.1, 0.2, 0.25, 0.25), 1):
        since = time.monotonic()
        ch.basic_nack(method.delivery_tag, requeue=True)
        method, properties, _ = waits(ch, "q", wait_s, since)
        equal((count(properties), attempt(properties)), (n, n))
    ch.basic_nack(method.delivery_tag, requeue=True)
    begun = time.monotonic()
    until(lambda: time.monotonic() > begun + 0.4, "long enough")
    equal(ch.basic_get("q")[0], None, "over the limit, and without a dead-letter exchange")


@case
def the_lower_of_limit_and_schedule_counts(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={**TO_DEAD, "x-retry-schedule": "1ms*9", "x-delivery-limit": 1})
    put(ch, "q", "x")
    for _ in range(2):
        ch.basic_nack(take(ch, "q", ack=False)[0].delivery_tag, requeue=True)
    equal(deaths(take(ch, "dead")[1]), [("q", "delivery_limit", 1)])


@case
def what_a_lost_connection_held_waits(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-retry-schedule": "300ms*3", "x-single-active-consumer": True})
    first, second = Consumer(server, "q", prefetch=2), Consumer(server, "q", prefetch=2)
    for i in range(3):
        put(ch, "q", i)
    first.wait(2)
    first.drop()
    equal(second.wait(1)[0][2], b"2")
    second.channel.basic_ack(1)
    equal([(b, count(p)) for _, p, b in second.wait(3)[1:]], [(b"0", 1), (b"1", 1)])


@case
def a_purge_leaves_what_waits(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-retry-schedule": "300ms"})
    put(ch, "q", "waits")
    ch.basic_nack(take(ch, "q", ack=False)[0].delivery_tag, requeue=True)
    put(ch, "q", "goes")
    equal(ch.queue_purge("q").method.message_count, 1)
    equal(take(ch, "q")[2], b"waits")


@case
def what_expires_meanwhile_dies_when_it_is_back(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments={**TO_DEAD, "x-retry-schedule": "200ms", "x-message-ttl": 100})
    put(ch, "q", "x")
    ch.basic_nack(take(ch, "q", ack=False)[0].delivery_tag, requeue=True)
    equal(deaths(take(ch, "dead")[1]), [("q", "expired", 1)])


def waiting_goes_on_across(server, kill):
    n = 300
    ch = server.channel()
    arguments = {"x-retry-schedule": "10ms,4s,1s", "x-max-priority": 3}
    ch.queue_declare("q", durable=True, arguments=arguments)
    for i in range(n):
        put(ch, "q", i, priority=i % 4)
    want = sorted(range(n), key=lambda i: (-(i % 4), i))
    consumer = Consumer(server, "q")
    consumer.wait(n)
    first = {int(b): m.delivery_tag for m, _, b in consumer.got}
    for i in range(0, n, 3):
        consumer.channel.basic_nack(first[i], requeue=True)
    consumer.wait(n + n // 3)  # they are back
    since = time.monotonic()
    for method, _, _ in consumer.got[n:]:
        consumer.channel.basic_nack(method.delivery_tag, requeue=True)
    for i in range(1, n, 3):
        consumer.channel.basic_ack(first[i])
    ready(consumer.channel, "q")
    put(ch, "q", n, priority=0)  # confirmed, and so is what was before it
    if kill:
        server.restart(kill=True)  # what the consumer held is ready at once, and no failure
    else:
        for i in range(2, n, 3):
            consumer.channel.basic_ack(first[i])
        ready(consumer.channel, "q")
        server.restart(kill=False)
    ch = server.channel()
    at_once = [i for i in want if i % 3 == 2] if kill else []
    at_once.append(n)
    got = []
    for _ in range(len(at_once) + n // 3):
        method, properties, body = take(ch, "q", ack=False)
        got.append((int(body), time.monotonic() - since, method, properties))
    equal(sorted(i for i, *_ in got), sorted(at_once + list(range(0, n, 3))))
    if got[len(at_once)][1] < 4.5:  # on a machine so busy that the time was over, all come at once
        equal([i for i, *_ in got[:len(at_once)]], at_once)
    for i, took, method, properties in got:
        if i in at_once:
            equal(count(properties), None if kill else 1, "what the consumer held")
        else:
            equal((count(properties), attempt(properties), method.redelivered), (2, 2, True))
            assert took >= 4 - 0.01, f"after {took:.3f} s, not 4"
    since = time.monotonic()
    ch.basic_nack(next(m.delivery_tag for i, _, m, _ in got if i not in at_once), requeue=True)
    equal(count(waits(ch, "q", 1, since)[1]), 3)


@case
def waiting_goes_on_across_a_restart(server):
    waiting_goes_on_across(server, kill=False)


@case
def waiting_goes_on_across_kill_9(server):
    waiting_goes_on_across(server, kill=True)


def failures_are_remembered_across(server, kill):
    ch = server.channel()
    ch.queue_declare("q", durable=True, arguments={"x-delivery-limit": 9})
    for body in "ab":
        put(ch, "q", body)
    for _ in range(3):
        ch.basic_reject(take(ch, "q", ack=False)[0].delivery_tag, requeue=True)
    put(ch, "q", "c")  # confirmed, and so is what was before it
    server.restart(kill)
    server.restart(kill)  # a state of its own has been written by now
    ch = server.channel()
    equal([(b, count(p)) for _, p, b in (take(ch, "q") for _ in range(3))],
          [(b"a", 3), (b"b", None), (b"c", None)])


@case
def failures_are_remembered_across_a_restart(server):
    failures_are_remembered_across(server, kill=False)


@case
def failures_are_remembered_across_kill_9(server):
    failures_are_remembered_across(server, kill=True)


@case
def many_may_wait_and_return_in_order(server):
    n = 4000
    server.command += ["-o", "store.memory=16MiB"]
    server.restart(kill=True)
    ch = server.channel(confirm=False)
    ch.queue_declare("q", durable=True, arguments={"x-retry-schedule": "3s"})
    body = b"%05d" + b"." * 6000  # of all together some 24 MB
    for i in range(n):
        put(ch, "q", body % i)
    consumer = Consumer(server, "q")
    consumer.wait(n)
    consumer.channel.basic_nack(n, multiple=True, requeue=True)
    equal(ready(ch, "q"), 0)
    consumer.got.clear()
    consumer.wait(n)
    numbers = [int(b[:5]) for _, _, b in consumer.got]
    equal(numbers, list(range(n)))
    equal({count(p) for _, p, _ in consumer.got}, {1})


@case
def bad_rules_are_refused(server):
    for arguments, name, why in (
            ({"x-retry-schedule": "1s,,2s"}, "x-retry-schedule",
             "\"a number is expected, up to ten years, not ',', at character 4\""),
            ({"x-retry-schedule": 5}, "x-retry-schedule", "{unacceptable_type,signedint}"),
            ({"x-retry-schedule": "1s", "x-delayed-retry-type": "all"}, "x-retry-schedule",
             '"there is an x-delayed-retry-type, too"'),
            ({"x-delayed-retry-type": "some"}, "x-delayed-retry-type",
             "\"unsupported delayed retry type 'some'\""),
            ({"x-delayed-retry-min": 0}, "x-delayed-retry-min", "{value_zero,0}"),
            ({"x-delayed-retry-max": -1}, "x-delayed-retry-max", "{value_negative,-1}"),
            ({"x-delayed-retry-min": 5, "x-delayed-retry-max": 4}, "x-delayed-retry-max",
             '"less than x-delayed-retry-min, 5"')):
        ch = server.channel()
        try:
            ch.queue_declare("q", arguments=arguments)
            raise AssertionError(f"{arguments} was taken")
        except pika.exceptions.ChannelClosedByBroker as e:
            equal((e.reply_code, e.reply_text),
                  (406, f"PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': "
                        + why))
