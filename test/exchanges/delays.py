"""x-delayed-message: no message before its time, none lost, in order of when they are due."""

import time

import pika
from harness import Consumer, case, equal, put, ready, take, until
from pika.exceptions import ChannelClosedByBroker, UnroutableError

LATE_S = 5  # how late it may be on a machine that is busy elsewhere


def declare(ch, kind="direct", durable=True, queue="q", **arguments):
    ch.exchange_declare("x", "x-delayed-message", durable=durable,
                        arguments={"x-delayed-type": kind, **arguments})
    ch.queue_declare(queue, durable=True)
    ch.queue_bind(queue, "x", queue)


def put_delayed(ch, delay, body, key="q", **how):
    put(ch, key, body, "x", headers={"x-delay": delay, **how.pop("headers", {})}, **how)


@case
def a_message_comes_when_it_is_due_with_its_delay_negated(server):
    ch = server.channel()
    declare(ch)
    consumer = Consumer(server, "q", auto_ack=True)
    begun = time.monotonic()
    put_delayed(ch, 400, "late", headers={"other": "kept"}, message_id="m", priority=3)
    put(ch, "q", "at once", "x")
    method, properties, body = consumer.wait(1)[0]
    equal((body, properties.headers), (b"at once", None))
    method, properties, body = consumer.wait(2)[1]
    took = time.monotonic() - begun
    equal(body, b"late")
    assert 0.4 <= took < 0.4 + LATE_S, f"it came after {took} s"
    equal(properties.headers, {"x-delay": -400, "other": "kept"})
    equal((properties.message_id, properties.priority), ("m", 3))
    equal((method.exchange, method.routing_key, method.redelivered), ("x", "q", False))


@case
def what_is_no_delay_is_none(server):
    ch = server.channel()
    declare(ch)
    for delay in (0, -1, -5000, True, None, "soon", "", "-7", [5000], {"ms": 5000}):
        put_delayed(ch, delay, "at once")
        equal(ready(ch, "q"), 1, f"messages with x-delay {delay!r}")
        equal(take(ch, "q")[1].headers["x-delay"], delay)
    for delay, left in ((60, -60), ("60", -60), (2**40, None), (60.9, -60)):
        if isinstance(delay, float):
            continue  # pika does not write them
        put_delayed(ch, delay, "later")
        equal(ready(ch, "q"), 0, f"messages with x-delay {delay!r} now")
        if left is not None:
            equal(take(ch, "q")[1].headers["x-delay"], left)


@case
def order_is_that_of_due_times(server):
    ch = server.channel(confirm=False)
    declare(ch)
    consumer = Consumer(server, "q", auto_ack=True)
    sent = {}
    for i in range(600):
        delay = 300 + (i * 7919) % 900
        put_delayed(ch, delay, i)
        sent[i] = (time.monotonic(), delay)
    due = []
    for method, properties, body in consumer.wait(600):
        due.append(-properties.headers["x-delay"])
    equal(len({body for _, _, body in consumer.got}), 600, "different messages")
    order = [int(body) for _, _, body in consumer.got]
    late = [sent[i][0] * 1000 + sent[i][1] for i in order]
    # sent[] was taken after each send, so order may be off by what a send took and by a millisecond
    worst = max(a - b for a, b in zip(late, late[1:]))
    assert worst < 250, f"{worst} ms out of order"


@case
def equal_delays_keep_their_order(server):
    ch = server.channel()
    declare(ch)
    for i in range(300):
        put_delayed(ch, 500, i)
    got = Consumer(server, "q", auto_ack=True).wait(300)
    equal([int(body) for _, _, body in got], list(range(300)))


@case
def every_type_routes_as_it_does(server):
    ch = server.channel()
    for i in range(3):
        ch.queue_declare(f"q{i}", durable=True)
    for kind, keys in (("topic", ("a.*", "#", "b.#")), ("fanout", ("", "", "")),
                       ("x-consistent-hash", ("1", "1", "1"))):
        ch.exchange_declare("x", "x-delayed-message", arguments={"x-delayed-type": kind})
        for i, key in enumerate(keys):
            ch.queue_bind(f"q{i}", "x", key)
        put_delayed(ch, 50, kind, "a.b")
        wanted = {"topic": [1, 1, 0], "fanout": [1, 1, 1]}.get(kind)
        until(lambda: sum(ready(ch, f"q{i}") for i in range(3)) >= (sum(wanted) if wanted else 1),
              "delayed copies")
        have = [ready(ch, f"q{i}") for i in range(3)]
        equal(have if wanted else sum(have), wanted or 1, kind)
        for i in range(3):
            ch.queue_purge(f"q{i}")
        ch.exchange_delete("x")
    ch.exchange_declare("x", "x-delayed-message", arguments={"x-delayed-type": "headers"})
    ch.queue_bind("q0", "x", "", {"x-match": "all", "n": 1})
    put_delayed(ch, 50, "no", headers={"n": 2})
    put_delayed(ch, 60, "yes", headers={"n": 1})
    equal(take(ch, "q0")[2], b"yes")


@case
def keys_in_cc_are_routed_by_when_it_is_due(server):
    ch = server.channel()
    declare(ch)
    ch.queue_declare("other")
    ch.queue_bind("other", "x", "o")
    put_delayed(ch, 60, "both", headers={"CC": ["o", "none"]})
    equal(ready(ch, "other"), 0)
    equal(take(ch, "other")[1].headers, {"x-delay": -60, "CC": ["o", "none"]})
    equal(take(ch, "q")[2], b"both")


@case
def keys_in_bcc_are_too_and_nobody_sees_them(server):
    ch = server.channel()
    declare(ch)
    for queue in ("hidden", "copy"):
        ch.queue_declare(queue)
        ch.queue_bind(queue, "x", queue)
    put_delayed(ch, 60, "both", headers={"BCC": ["hidden", "none"], "CC": ["copy"]})
    for queue in ("hidden", "q", "copy"):
        equal(take(ch, queue)[1].headers, {"x-delay": -60, "CC": ["copy"]}, queue)
    put(ch, "q", "at once", "x", headers={"BCC": ["hidden"]})
    for queue in ("hidden", "q"):
        equal(take(ch, queue)[1].headers, {}, queue)
    ch.exchange_declare("front", "fanout")
    ch.exchange_bind("x", "front", "")
    ch.queue_declare("plain")
    ch.queue_bind("plain", "front", "")
    put(ch, "q", "mixed", "front", headers={"x-delay": 60, "BCC": ["hidden"]})
    equal(take(ch, "plain")[1].headers, {"x-delay": 60})
    equal(take(ch, "q")[1].headers, {"x-delay": -60})


@case
def other_exchanges_lead_here_and_alternates_take_what_has_no_route(server):
    ch = server.channel()
    ch.exchange_declare("alt", "fanout")
    ch.queue_declare("lost")
    ch.queue_bind("lost", "alt", "")
    declare(ch, **{"alternate-exchange": "alt"})
    ch.exchange_declare("front", "fanout")
    ch.exchange_bind("x", "front", "")
    ch.queue_declare("direct")
    ch.queue_bind("direct", "front", "")
    put(ch, "q", "through", "front", headers={"x-delay": 60})
    equal(take(ch, "direct")[1].headers, {"x-delay": 60})
    method, properties, body = take(ch, "q")
    equal((method.exchange, properties.headers, body), ("front", {"x-delay": -60}, b"through"))
    put_delayed(ch, 60, "nowhere", "nowhere")
    equal(ready(ch, "lost"), 0)
    equal(take(ch, "lost")[2], b"nowhere")

    ch.exchange_declare("second", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    ch.exchange_bind("second", "x", "chain")
    ch.queue_declare("end")
    ch.queue_bind("end", "second", "")
    put_delayed(ch, 60, "once", "chain")
    equal(take(ch, "end")[1].headers, {"x-delay": -60})


@case
def mandatory_and_confirms(server):
    ch = server.channel()
    declare(ch)
    props = pika.BasicProperties(headers={"x-delay": 50}, delivery_mode=2)
    ch.basic_publish("x", "none", b"", props, mandatory=True)  # acked, not returned
    try:
        ch.basic_publish("x", "none", b"", mandatory=True)
        raise AssertionError("it was not returned")
    except UnroutableError:
        pass


@case
def an_expiration_begins_when_the_message_leaves(server):
    ch = server.channel()
    declare(ch)
    put_delayed(ch, 300, "short", expiration="100")
    put_delayed(ch, 300, "long", expiration="60000")
    until(lambda: ready(ch, "q") == 2, "both are there")
    until(lambda: ready(ch, "q") == 1, "one has expired")
    equal(take(ch, "q")[2], b"long")


@case
def transactions_send_when_they_commit(server):
    ch = server.channel(confirm=False)
    declare(ch)
    ch.tx_select()
    put_delayed(ch, 50, "rolled back")
    ch.tx_rollback()
    put_delayed(ch, 50, "first")
    put_delayed(ch, 60, "second")
    ch.tx_commit()
    equal([take(ch, "q")[2] for _ in range(2)], [b"first", b"second"])


@case
def a_dead_letter_may_be_delayed(server):
    ch = server.channel()
    declare(ch)
    ch.queue_declare("dying", arguments={"x-dead-letter-exchange": "x",
                                         "x-dead-letter-routing-key": "q"})
    put(ch, "dying", "again", headers={"x-delay": 200})
    begun = time.monotonic()
    ch.basic_reject(take(ch, "dying", ack=False)[0].delivery_tag, requeue=False)
    headers = take(ch, "q")[1].headers
    assert time.monotonic() - begun >= 0.2
    equal((headers["x-delay"], headers["x-death"][0]["reason"]), (-200, "rejected"))


@case
def with_the_exchange_go_those_that_wait(server):
    ch = server.channel()
    declare(ch)
    put_delayed(ch, 300, "of the first")
    ch.exchange_delete("x")
    declare(ch)
    put_delayed(ch, 600, "of the second")
    equal(take(ch, "q")[2], b"of the second")
    put_delayed(ch, 100, "unbound at last", "r")
    ch.exchange_declare("auto", "x-delayed-message", auto_delete=True,
                        arguments={"x-delayed-type": "fanout"})
    ch.queue_bind("q", "auto", "")
    put(ch, "", "gone", "auto", headers={"x-delay": 100})
    ch.queue_unbind("q", "auto", "")
    put_delayed(ch, 300, "after")
    equal(take(ch, "q")[2], b"after")
    equal(ready(ch, "q"), 0)


@case
def nobody_can_speak_to_the_queue(server):
    ch = server.channel()
    declare(ch)
    put_delayed(ch, 60000, "waits")
    for name in ("x", "amq.delayed-x"):
        try:
            ch.queue_declare(name, passive=True)
            raise AssertionError(f"there is a queue {name}")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 404)
            ch = server.channel()
    ch.queue_declare("x")  # a name like any other
    equal(ready(ch, "x"), 0)
    ch.queue_delete("x")


@case
def what_is_wrong_is_told(server):
    for arguments in (None, {"x-delayed-type": "none"}, {"x-delayed-type": 5},
                      {"x-delayed-type": "x-delayed-message"}, {"x-delayed-type": ""},
                      {"x-delayed-type": "x-consistent-hash", "hash-property": "app_id"}):
        ch = server.channel()
        try:
            ch.exchange_declare("x", "x-delayed-message", arguments=arguments)
            raise AssertionError(f"{arguments} was taken")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 406)
    ch = server.channel()
    declare(ch, "topic")
    declare(ch, "topic")
    try:
        declare(ch, "direct")
        raise AssertionError("another type was taken")
    except ChannelClosedByBroker as e:
        equal(e.reply_code, 406)


def survive(server, kill, n=400):
    ch = server.channel()
    declare(ch)
    publisher = server.channel(confirm=False)
    publisher.tx_select()
    begun = time.monotonic()
    for i in range(n):
        put_delayed(publisher, 200 if i % 4 == 0 else 600_000 if i % 4 == 1 else 6000 - i, i,
                    delivery_mode=1 if i % 4 == 3 else 2)
    publisher.tx_commit()
    until(lambda: ready(ch, "q") >= n // 4, "the early ones")
    assert time.monotonic() - begun < 5.5, "too slow a machine for this case"
    server.restart(kill)
    consumer = Consumer(server, "q", auto_ack=True)
    late = {}

    def all_came():
        consumer.step()
        for _, _, body in consumer.got:
            late.setdefault(int(body), time.monotonic() - begun)
        return len([i for i in late if i % 4 == 2]) == n // 4

    until(all_came, "the late ones")
    equal(sorted(late), [i for i in range(n) if i % 2 == 0], "messages after the restart")
    # of those that had left before, some may come twice after a crash; of the others none
    twice = len(consumer.got) - len(late)
    assert twice <= (n // 4 if kill else 0), f"{twice} came twice"
    came = [int(body) for _, _, body in consumer.got if int(body) % 4 == 2]
    equal(len(came), n // 4, "late messages")
    early = [i for i in came if late[i] < 6 - i / 1000]
    equal(early, [], "messages before their time")


@case
def those_that_wait_survive_a_restart(server):
    survive(server, kill=False)


@case
def those_that_wait_survive_sigkill(server):
    survive(server, kill=True)


@case
def what_became_due_meanwhile_leaves_after_the_start(server):
    ch = server.channel()
    declare(ch)
    for i in range(200):
        put_delayed(ch, 400 - i, i)
    server.end()
    time.sleep(0.5)  # what is due passes while there is no broker
    server.start()
    got = Consumer(server, "q", auto_ack=True).wait(200)
    equal(len({body for _, _, body in got}), 200)


@case
def a_deleted_exchange_stays_empty_after_a_restart(server):
    ch = server.channel()
    declare(ch)
    for i in range(50):
        put_delayed(ch, 3000, i)
    ch.exchange_delete("x")
    declare(ch)
    put_delayed(ch, 3200, "of the second")
    server.restart(kill=True)
    ch = server.channel()
    equal(take(ch, "q")[2], b"of the second")
    equal(ready(ch, "q"), 0)


def with_little_memory(server):
    """Bodies wait on pages from the first megabytes on."""
    server.end()
    server.command += ["-o", "store.memory=2MB"]
    server.start()


def flood(server, n, delay_of):
    """n messages of 2 kB, confirmed together."""
    ch = server.channel()
    declare(ch)
    connection = ch.connection
    publisher = connection.channel()  # pika confirms each publish of a confirming channel alone
    publisher.tx_select()
    for i in range(n):
        publisher.basic_publish("x", "q", b"%06d" % i + b"." * 2000,
                                pika.BasicProperties(headers={"x-delay": delay_of(i)},
                                                     delivery_mode=2))
        if i % 500 == 499:
            publisher.tx_commit()
    publisher.tx_commit()
    return ch


def assert_in_order(got, delay_of, blur):
    """In order of due times, but for the time that publishing took."""
    equal(len({body for _, _, body in got}), len(got), "different messages")
    delays = [delay_of(int(body[:6])) for _, _, body in got]
    worst = max(a - b for a, b in zip(delays, delays[1:]))
    assert worst < blur, f"{worst} ms out of order, {blur} may be"


@case
def what_waits_on_pages_comes_in_order(server):
    n = 4000
    with_little_memory(server)

    def delay_of(i):
        return 5_000 + (i * 7919) % n

    begun = time.monotonic()
    flood(server, n, delay_of)
    took_ms = (time.monotonic() - begun) * 1000
    assert took_ms < 5_000, "too slow a machine for this case"
    server.restart(kill=True)
    got = Consumer(server, "q", auto_ack=True).wait(n)
    assert time.monotonic() - begun >= 5
    assert_in_order(got, delay_of, took_ms + 100)
