"""Deduplication by queues and exchanges: a duplicate is confirmed, and kept nowhere."""

from harness import Consumer, case, deaths, equal, put, ready, take, until
from pika.exceptions import ChannelClosedByBroker


def declare_queue(ch, queue="q", **arguments):
    ch.queue_declare(queue, durable=True, arguments={
        "x-message-deduplication": True, **{f"x-cache-{k}": v for k, v in arguments.items()}})


def declare_exchange(ch, queues=("q",), **arguments):
    ch.exchange_declare("x", "x-message-deduplication", durable=True,
                        arguments={f"x-cache-{k}": v for k, v in arguments.items()})
    for queue in queues:
        ch.queue_declare(queue, durable=True)
        ch.queue_bind(queue, "x", "")


def put_keyed(ch, key, body, exchange="", queue="q", headers=None, **how):
    """Confirmed, or it raises."""
    put(ch, queue, body, exchange, headers={"x-deduplication-header": key, **(headers or {})},
        **how)


def come(ch, n, queue="q"):
    """What is there when n have come, and that it is no more."""
    until(lambda: ready(ch, queue) >= n, f"{n} messages in {queue}")
    equal(ready(ch, queue), n, f"messages in {queue}")
    return [int(take(ch, queue)[2]) for _ in range(n)]


@case
def a_queue_holds_one_of_a_key_at_a_time(server):
    ch = server.channel()
    declare_queue(ch)
    for i, key in enumerate(("a", "b", "a", "a", 1, "1", 1, "b", 2**40, 2**40, b"a")):
        put_keyed(ch, key, i)
    for i in (20, 21):
        put(ch, "q", i)  # no key, no duplicate
    equal(ready(ch, "q"), 7)
    method, properties, body = take(ch, "q", ack=False)
    equal((body, properties.headers), (b"0", {"x-deduplication-header": "a"}))
    put_keyed(ch, "a", 30)  # unacked is here
    ch.basic_reject(method.delivery_tag, requeue=True)
    put_keyed(ch, "a", 31)
    equal(ready(ch, "q"), 7)
    ch.basic_ack(take(ch, "q", ack=False)[0].delivery_tag)
    put_keyed(ch, "a", 32)  # gone, so it may come again
    put_keyed(ch, "a", 33)
    put_keyed(ch, "b", 34)
    equal(come(ch, 7), [1, 4, 5, 8, 20, 21, 32])
    ch.queue_purge("q")
    for i in range(500):
        put_keyed(ch, i % 7, i)
        if i % 7 == 6:
            equal(ready(ch, "q"), 7)
            ch.queue_purge("q")


@case
def a_queue_with_a_size_forgets_the_oldest(server):
    ch = server.channel()
    declare_queue(ch, size=3)
    for i, key in enumerate("abcabcdabd"):
        put_keyed(ch, key, i)
    # d pushes a out, a pushes b out, b pushes c out
    equal(come(ch, 6), [0, 1, 2, 6, 7, 8])
    put_keyed(ch, "d", 20)
    put_keyed(ch, "b", 21)
    put_keyed(ch, "c", 22)
    equal(come(ch, 1), [22])


@case
def a_queue_with_a_time_forgets_when_it_is_over(server):
    ch = server.channel()
    declare_queue(ch, ttl=700)
    put_keyed(ch, "a", 1)
    put_keyed(ch, "b", 2, headers={"x-cache-ttl": 60000})
    equal(come(ch, 2), [1, 2])
    put_keyed(ch, "a", 3)  # consumed, remembered all the same

    def again():
        put_keyed(ch, "a", 4)
        return ready(ch, "q")

    until(again, "a is forgotten")
    equal(come(ch, 1), [4])
    put_keyed(ch, "b", 5)
    equal(ready(ch, "q"), 0)


@case
def an_exchange_lets_each_key_through_once(server):
    ch = server.channel()
    declare_exchange(ch, ("q", "r"), size=100)
    for i, key in enumerate(("a", "b", "a", "c", "b", 5, 5)):
        put_keyed(ch, key, i, "x", queue="ignored")
    put(ch, "", 10, "x")
    put(ch, "", 11, "x", headers={"other": "a"})
    for queue in ("q", "r"):
        equal(sorted(come(ch, 6, queue)), [0, 1, 3, 5, 10, 11])
    put_keyed(ch, "a", 12, "x")
    put_keyed(ch, "d", 13, "x", headers={"x-delay": 60000, "n": 1})
    method, properties, body = take(ch, "q")
    equal((body, method.exchange, method.redelivered), (b"13", "x", False))
    equal(properties.headers, {"x-deduplication-header": "d", "x-delay": 60000, "n": 1})
    equal(ready(ch, "q"), 0)


@case
def an_exchange_keeps_order_and_is_as_fast_as_may_be(server):
    ch = server.channel(confirm=False)
    declare_exchange(ch, size=1000)
    consumer = Consumer(server, "q", auto_ack=True)
    for i in range(3000):
        put_keyed(ch, i // 2, i, "x")
    got = [int(body) for _, _, body in consumer.wait(1500)]
    equal(got, list(range(0, 3000, 2)))


@case
def an_exchange_forgets_by_size_and_time(server):
    ch = server.channel()
    declare_exchange(ch, size=2, ttl=700)
    for i, key in enumerate("abacab"):
        put_keyed(ch, key, i, "x")
    equal(come(ch, 5), [0, 1, 3, 4, 5])
    put_keyed(ch, "b", 10, "x")

    def again():
        put_keyed(ch, "b", 11, "x")
        return ready(ch, "q")

    until(again, "b is forgotten")


def remember(server, kill):
    ch = server.channel()
    declare_exchange(ch, size=1000)
    declare_queue(ch, "here")
    declare_queue(ch, "window", size=1000)
    for i in range(100):
        put_keyed(ch, i, i, "x")
        put_keyed(ch, i, i, queue="here")
        put_keyed(ch, i, i, queue="window")
    come(ch, 100)
    equal(come(ch, 100, "window"), list(range(100)))
    for _ in range(40):
        take(ch, "here")
    put(ch, "here", "last")  # confirmed: so are the acks before it
    server.restart(kill)
    ch = server.channel()
    left = ready(ch, "q")
    for i in range(110):
        put_keyed(ch, i, i, "x")
        put_keyed(ch, i, i, queue="here")
        put_keyed(ch, i, i, queue="window")
    until(lambda: ready(ch, "q") >= left + 10, "the new ones")
    equal(ready(ch, "here"), 60 + 1 + 40 + 10)
    bodies = {int(take(ch, "window")[2]) for _ in range(ready(ch, "window"))}
    assert bodies >= set(range(100, 110)), bodies
    if not kill:
        equal((left, ready(ch, "q")), (0, 10))
        equal(bodies, set(range(100, 110)))
    for i in range(110):
        put_keyed(ch, i, i, "x")
        put_keyed(ch, i, i, queue="window")
    equal(ready(ch, "window"), 0)


@case
def keys_survive_a_restart(server):
    remember(server, kill=False)
    remember_again(server)


def remember_again(server):
    """Once more, though nothing new has come: the keys are in the queue's state."""
    for _ in range(2):
        server.restart(kill=False)
        ch = server.channel()
        for i in range(110):
            put_keyed(ch, i, i, "x")
            put_keyed(ch, i, i, queue="window")
        equal(ready(ch, "window"), 0)


@case
def keys_survive_sigkill(server):
    remember(server, kill=True)


@case
def keys_outlive_the_journal_that_their_messages_were_in(server):
    server.end()
    server.command += ["-o", "store.journal_size=32MiB"]
    server.start()
    ch = server.channel()
    declare_exchange(ch, size=1000)
    declare_queue(ch, "window", size=1000)
    declare_queue(ch, "here")
    for i in range(50):
        put_keyed(ch, i, i, "x")
        put_keyed(ch, i, i, queue="window")
        put_keyed(ch, i, i, queue="here")
    come(ch, 50)
    come(ch, 50, "window")
    ch.queue_declare("large", durable=True)
    for _ in range(90):
        put(ch, "large", b"." * (1 << 20))
    server.restart(kill=True)
    ch = server.channel()
    left = ready(ch, "q"), ready(ch, "window")
    for i in range(50):
        put_keyed(ch, i, i, "x")
        put_keyed(ch, i, i, queue="window")
        put_keyed(ch, i, i, queue="here")
    put_keyed(ch, "new", 1, "x")
    until(lambda: ready(ch, "q") > left[0], "the new one")
    equal((ready(ch, "q"), ready(ch, "window"), ready(ch, "here")), (left[0] + 1, left[1], 50))


@case
def transactions_and_priorities(server):
    ch = server.channel(confirm=False)
    ch.queue_declare("q", durable=True, arguments={"x-message-deduplication": True,
                                                   "x-max-priority": 5})
    ch.tx_select()
    for i, key in enumerate("aabca"):
        put_keyed(ch, key, i, priority=i)
    ch.tx_commit()
    equal(come(ch, 3), [3, 2, 0])


@case
def a_full_queue_confirms_a_duplicate_and_refuses_another(server):
    from pika.exceptions import NackError
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-message-deduplication": True, "x-max-length": 1,
                                     "x-overflow": "reject-publish"})
    put_keyed(ch, "a", 1)
    put_keyed(ch, "a", 2)
    try:
        put_keyed(ch, "b", 3)
        raise AssertionError("it was taken")
    except NackError:
        pass
    take(ch, "q")
    put_keyed(ch, "b", 4)  # the refused one was not remembered
    equal(come(ch, 1), [4])


@case
def a_dead_letter_may_come_back(server):
    ch = server.channel()
    for name, more in (("here", {}), ("window", {"x-cache-size": 100})):
        ch.queue_declare(name, durable=True, arguments={
            "x-message-deduplication": True, "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": name, **more})
        put_keyed(ch, "a", 1, queue=name)
        for n in range(3):
            method, properties, body = take(ch, name, ack=False)
            equal(deaths(properties) if n else [], [(name, "rejected", n)] if n else [])
            ch.basic_reject(method.delivery_tag, requeue=False)
        until(lambda: ready(ch, name) == 1, "it is back")
        put_keyed(ch, "a", 2, queue=name)
        equal(come(ch, 1, name), [1])


@case
def what_is_wrong_is_told(server):
    for arguments in (None, {"x-cache-size": 0}, {"x-cache-size": "5"}, {"x-cache-size": 2000000},
                      {"x-cache-size": 5, "x-cache-ttl": 0},
                      {"x-cache-size": 5, "x-cache-persistence": "tape"}):
        ch = server.channel()
        try:
            ch.exchange_declare("x", "x-message-deduplication", arguments=arguments)
            raise AssertionError(f"{arguments} was taken")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 406)
    for arguments in ({"x-message-deduplication": "yes"}, {"x-cache-size": 0},
                      {"x-cache-ttl": -1}):
        ch = server.channel()
        try:
            ch.queue_declare("q", arguments=arguments)
            raise AssertionError(f"{arguments} was taken")
        except ChannelClosedByBroker as e:
            equal(e.reply_code, 406)
