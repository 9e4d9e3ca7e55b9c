"""dead_letters: where they go, what they say, and that none is lost on the way."""

import time

import pika
from harness import Consumer, bodies, case, deaths, equal, put, ready, take, until

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@case
def a_rejected_message_says_what_befell_it(server):
    ch = server.channel()
    ch.exchange_declare("in", "topic")
    ch.exchange_declare("out", "fanout")
    ch.queue_declare("dead")
    ch.queue_bind("dead", "out")
    ch.queue_declare("q", arguments={"x-dead-letter-exchange": "out"})
    ch.queue_bind("q", "in", "a.#")
    put(ch, "a.b", b"body", exchange="in", headers={"mine": 1, "CC": ["a.c"]}, expiration="60000",
        content_type="text/plain", priority=3)
    before = time.time()
    method, _, _ = take(ch, "q", ack=False)
    ch.basic_reject(method.delivery_tag, requeue=False)
    method, properties, body = take(ch, "dead")
    equal((method.exchange, method.routing_key, method.redelivered), ("out", "a.b", False))
    equal((body, properties.content_type, properties.priority), (b"body", "text/plain", 3))
    equal(properties.expiration, None, "expiration")
    headers = properties.headers
    [death] = headers.pop("x-death")
    assert before - 2 <= death.pop("time").timestamp() + _zone_s() <= time.time() + 2
    equal(death, {"count": 1, "reason": "rejected", "queue": "q", "exchange": "in",
                  "routing-keys": ["a.b", "a.c"], "original-expiration": "60000"})
    want = {"mine": 1, "CC": ["a.c"]}
    for which in ("first", "last"):
        want.update({f"x-{which}-death-queue": "q", f"x-{which}-death-reason": "rejected",
                     f"x-{which}-death-exchange": "in"})
    equal(headers, want)


def _zone_s():
    """pika reads timestamps as UTC without saying so."""
    return -time.timezone if time.daylight == 0 else -time.altzone


@case
def with_a_key_of_the_queues_own_cc_goes(server):
    ch = server.channel()
    for name in ("dead", "cc", "q"):
        ch.queue_declare(name, arguments=TO_DEAD if name == "q" else None)
    put(ch, "q", "x", headers={"CC": ["cc"]})
    bodies(ch, "cc", 1)
    method, _, _ = take(ch, "q", ack=False)
    ch.basic_reject(method.delivery_tag, requeue=False)
    method, properties, _ = take(ch, "dead")
    equal(method.routing_key, "dead")
    equal(properties.headers["x-death"][0]["routing-keys"], ["q", "cc"])
    assert "CC" not in properties.headers
    equal(ready(ch, "cc"), 0)


@case
def without_one_it_goes_where_it_went_cc_included(server):
    ch = server.channel()
    ch.exchange_declare("out", "direct")
    for name in ("by key", "by cc"):
        ch.queue_declare(name)
        ch.queue_bind(name, "out", name)
    ch.queue_declare("q", arguments={"x-dead-letter-exchange": "out"})
    ch.queue_bind("q", "amq.direct", "by key")
    put(ch, "by key", "x", exchange="amq.direct", headers={"CC": ["by cc"]})
    method, _, _ = take(ch, "q", ack=False)
    ch.basic_nack(method.delivery_tag, requeue=False)
    equal(bodies(ch, "by key", 1) + bodies(ch, "by cc", 1), [b"x", b"x"])


@case
def each_reason_is_told_and_counted(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("short", arguments={**TO_DEAD, "x-message-ttl": 20})
    ch.queue_declare("small", arguments={**TO_DEAD, "x-max-length": 1})
    ch.queue_declare("once", arguments={**TO_DEAD, "x-delivery-limit": 0})
    put(ch, "short", 0)
    equal(deaths(take(ch, "dead")[1]), [("short", "expired", 1)])
    put(ch, "small", 0)
    put(ch, "small", 1)
    equal(deaths(take(ch, "dead")[1]), [("small", "maxlen", 1)])
    put(ch, "once", 0)
    ch.basic_nack(take(ch, "once", ack=False)[0].delivery_tag, requeue=True)
    method, properties, body = take(ch, "dead")
    equal(deaths(properties), [("once", "delivery_limit", 1)])
    # the same message through the same queues again: counts rise, the last death comes first
    for turn in (2, 3):
        put(ch, "short", body, headers=properties.headers)
        properties = take(ch, "dead")[1]
        put(ch, "once", body, headers=properties.headers)
        ch.basic_nack(take(ch, "once", ack=False)[0].delivery_tag, requeue=True)
        properties = take(ch, "dead")[1]
        equal(deaths(properties), [("once", "delivery_limit", turn), ("short", "expired", turn - 1)])
    equal(properties.headers["x-first-death-queue"], "once")
    equal(properties.headers["x-last-death-reason"], "delivery_limit")


@case
def a_death_that_comes_round_by_itself_ends(server):
    ch = server.channel()
    ch.queue_declare("a", arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "",
                                     "x-dead-letter-routing-key": "b"})
    ch.queue_declare("b", arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "",
                                     "x-dead-letter-routing-key": "a"})
    ch.queue_declare("self", arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "",
                                        "x-dead-letter-routing-key": "self"})
    put(ch, "a", "x")
    put(ch, "self", "x")
    until(lambda: server.stderr().count("go round by itself") == 2, "both cycles are told")
    equal([ready(ch, q) for q in ("a", "b", "self")], [0, 0, 0])


@case
def with_a_reject_in_it_it_goes_on(server):
    ch = server.channel()
    ch.queue_declare("work", arguments={"x-dead-letter-exchange": "",
                                        "x-dead-letter-routing-key": "wait"})
    ch.queue_declare("wait", arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "",
                                        "x-dead-letter-routing-key": "work"})
    put(ch, "work", "x")
    for turn in range(1, 4):
        method, _, _ = take(ch, "work", ack=False)
        ch.basic_reject(method.delivery_tag, requeue=False)
        method, properties, _ = take(ch, "work", ack=False)
        equal(deaths(properties), [("wait", "expired", turn), ("work", "rejected", turn)])
        ch.basic_nack(method.delivery_tag, requeue=True)


@case
def without_an_exchange_or_a_route_it_is_dropped(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-dead-letter-exchange": "nowhere"})
    ch.queue_declare("r", arguments={"x-dead-letter-exchange": "amq.direct"})
    for name in "qr":
        put(ch, name, "x")
        ch.basic_reject(take(ch, name, ack=False)[0].delivery_tag, requeue=False)
        equal(ready(ch, name), 0)  # once this is answered the letter has been sent, to nobody
    ch.exchange_declare("nowhere", "fanout", internal=True)
    ch.queue_declare("dead")
    ch.exchange_bind("nowhere", "amq.fanout")
    ch.queue_bind("dead", "nowhere")
    put(ch, "q", "y")
    ch.basic_reject(take(ch, "q", ack=False)[0].delivery_tag, requeue=False)
    equal(bodies(ch, "dead", 1), [b"y"], "through an exchange that is there now, and internal")


@case
def those_of_a_queue_that_is_deleted_at_once_are_sent(server):
    ch = server.channel()
    ch.queue_declare("dead")
    ch.queue_declare("q", arguments=TO_DEAD)
    for i in range(3):
        put(ch, "q", i)
    consumer = Consumer(server, "q")
    consumer.wait(3)
    consumer.channel.basic_nack(2, multiple=True, requeue=False)
    consumer.channel.queue_delete("q")
    equal(bodies(ch, "dead", 2), [b"0", b"1"])
    equal(ready(ch, "dead"), 0, "what was only unacked")


@case
def a_letter_waits_for_a_queue_that_is_full(server):
    ch = server.channel()
    ch.queue_declare("dead", durable=True,
                     arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    ch.queue_declare("q", durable=True, arguments={**TO_DEAD, "x-message-ttl": 1})
    put(ch, "q", 0)
    until(lambda: ready(ch, "dead") == 1, "the first letter")
    put(ch, "q", 1)
    put(ch, "q", "lost", delivery_mode=1)
    until(lambda: ready(ch, "q") == 0, "they expired")
    equal(bodies(ch, "dead", 2), [b"0", b"1"], "a persistent one waits")
    equal(ready(ch, "dead"), 0)


def none_is_lost_across(server, kill):
    n = 400
    ch = server.channel()
    ch.queue_declare("dead", durable=True)
    ch.queue_declare("q", durable=True, arguments={**TO_DEAD, "x-max-length": n // 2})
    for i in range(n):
        put(ch, "q", i)
    consumer = Consumer(server, "q")
    consumer.wait(n // 2)
    for tag in range(1, n // 2 + 1):
        consumer.channel.basic_reject(tag, requeue=False)
        if tag == n // 4:
            consumer.channel.connection.process_data_events(time_limit=0)
    server.restart(kill)  # in the midst of it
    ch = server.channel()
    left, dead = ready(ch, "q"), ready(ch, "dead")
    got = sorted(int(b) for b in bodies(ch, "q", left) + bodies(ch, "dead", dead))
    equal(sorted(set(got)), list(range(n)), "messages that are somewhere")
    if not kill:
        equal(got, list(range(n)), "without a crash, each once")


@case
def none_is_lost_across_a_restart(server):
    none_is_lost_across(server, kill=False)


@case
def none_is_lost_across_kill_9(server):
    none_is_lost_across(server, kill=True)


@case
def letters_that_wait_come_back_with_their_queue(server):
    ch = server.channel()
    ch.queue_declare("dead", durable=True,
                     arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    ch.queue_declare("q", durable=True, arguments=TO_DEAD)
    for i in range(5):
        put(ch, "q", i)
    for _ in range(5):
        ch.basic_reject(take(ch, "q", ack=False)[0].delivery_tag, requeue=False)
    equal(ready(ch, "q"), 0)
    server.restart(kill=True)
    ch = server.channel()
    equal(ready(ch, "q"), 5)
    method, _, body = take(ch, "q", ack=False)
    equal((method.redelivered, body), (True, b"0"))
