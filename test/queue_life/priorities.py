"""priorities: x-max-priority."""

from harness import bodies, case, equal, put, ready, until


def put_all(channel, queue):
    """Bodies say where each belongs: <priority>.<number>."""
    for n in range(6):
        for priority in (0, 3, 1, 200, 2):
            put(channel, queue, f"{min(priority, 5)}.{n}", priority=priority)
        put(channel, queue, f"0.{n}+")


def in_order():
    levels = [[b"%d.%d" % (p, n) for n in range(6)] for p in (5, 3, 2, 1)]
    last = [b"0.%d%s" % (n, more) for n in range(6) for more in (b"", b"+")]
    return sum(levels, []) + last


@case
def higher_ones_first_and_each_in_order(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-priority": 5})
    put_all(ch, "q")
    equal(bodies(ch, "q", 36), in_order())


@case
def what_is_given_back_goes_to_its_place(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-priority": 5})
    put_all(ch, "q")
    for _ in range(20):
        method, _, _ = ch.basic_get("q")
    ch.basic_nack(method.delivery_tag, multiple=True, requeue=True)
    equal(bodies(ch, "q", 36), in_order())


@case
def a_limit_is_paid_by_the_lowest(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-priority": 255, "x-max-length": 2})
    for priority in (9, 1, 7, 0, 8):
        put(ch, "q", priority, priority=priority)
    equal(bodies(ch, "q", 2), [b"9", b"8"])


@case
def deadlines_hold_on_every_level(server):
    ch = server.channel()
    ch.queue_declare("q", arguments={"x-max-priority": 5})
    put_all(ch, "q")
    for priority in range(6):
        put(ch, "q", "short", priority=priority, expiration="50")
    until(lambda: ready(ch, "q") == 36, "the short ones are gone")
    equal(bodies(ch, "q", 36), in_order())


def order_holds_across(server, kill):
    ch = server.channel()
    ch.queue_declare("q", durable=True, arguments={"x-max-priority": 5})
    put_all(ch, "q")
    server.restart(kill)
    equal(bodies(server.channel(), "q", 36), in_order())


@case
def order_holds_across_a_restart(server):
    order_holds_across(server, kill=False)


@case
def order_holds_across_kill_9(server):
    order_holds_across(server, kill=True)
