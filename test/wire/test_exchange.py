"""exchange.*: declaring, equivalence, deleting, binding to one another, alternates."""

from amqp import T, method_frame, publish
from case import case, refusal

DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"


def declare(**fields):
    return method_frame(1, "exchange.declare", **fields)


def row(title, doing, code, text, about, **how):
    refusal(title, doing if callable(doing) else lambda q: doing, code, text, about,
            module=__name__, **how)


DECLARE, DELETE, BIND, UNBIND = ("exchange.declare", "exchange.delete", "exchange.bind",
                                 "exchange.unbind")

row("declaring the default exchange is refused", declare(exchange="", type="direct"), 403, DEFAULT,
    DECLARE)
row("declaring the default exchange passively is refused",
    declare(exchange="", type="direct", passive=1), 403, DEFAULT, DECLARE)
row("declaring a reserved name is refused", declare(exchange="amq.wire", type="direct"), 403,
    "ACCESS_REFUSED - exchange name 'amq.wire' contains reserved prefix 'amq.*'", DECLARE)
row("declaring a missing exchange passively is refused",
    declare(exchange="wire.none", type="direct", passive=1), 404,
    "NOT_FOUND - no exchange 'wire.none' in vhost '/'", DECLARE)
# Up to 3.12 RabbitMQ closes the connection with 503.
row("declaring an unknown type is refused", declare(exchange="wire.none", type="nope"), 406,
    "PRECONDITION_FAILED - unknown exchange type 'nope'", DECLARE, oracle=False)
row("declaring an empty type is refused", declare(exchange="wire.none", type=""), 406, None,
    DECLARE, oracle=False)


def differs(title, argument, text, **fields):
    row(f"redeclaring with another {title} is refused",
        declare(**{"exchange": "amq.direct", "type": "direct", "durable": 1, **fields}), 406,
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange 'amq.direct' in vhost "
        f"'/': {text}", DECLARE)


differs("type", "type", "received 'fanout' but current is 'direct'", type="fanout")
differs("type and durability", "type", "received 'topic' but current is 'direct'", type="topic",
        durable=0)
differs("durability", "durable", "received 'false' but current is 'true'", durable=0)
differs("auto delete", "auto_delete", "received 'true' but current is 'false'", auto_delete=1)
differs("internal", "internal", "received 'true' but current is 'false'", internal=1)
differs("alternate exchange where there was none", "alternate-exchange",
        "received the value 'amq.fanout' of type 'longstr' but current is none",
        arguments={"alternate-exchange": "amq.fanout"})
differs("type without waiting", "type", "received 'fanout' but current is 'direct'", type="fanout",
        no_wait=1)


@case
def redeclaring_with_another_alternate_exchange_is_refused(t):
    c = t.open()
    x = t.exchange(c, arguments={"alternate-exchange": "a"})
    c.send(declare(exchange=x, type="direct", arguments={"alternate-exchange": "b"}))
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' "
                           f"for exchange '{x}' in vhost '/': received 'b' but current is 'a'",
                           DECLARE)
    c.send(declare(exchange=x, type="direct"))
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' "
                           f"for exchange '{x}' in vhost '/': received none but current is the "
                           "value 'a' of type 'longstr'", DECLARE)


@case
def alternate_exchange_must_be_a_string(t):
    c = t.open()
    x = t.name("x")
    c.send(declare(exchange=x, type="direct", arguments={"alternate-exchange": 5}))
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - invalid type 'signedint' for arg "
                           f"'alternate-exchange' in exchange '{x}' in vhost '/'", DECLARE)


@case
def redeclaring_alike_is_answered_and_unknown_arguments_are_ignored(t):
    c = t.open()
    x = t.exchange(c, type="topic", durable=1, arguments={"foo": 1})
    t.exchange(c, type="topic", name=x, durable=1, arguments={"foo": "two", "bar": T("d", 1.5)})
    t.exchange(c, type="topic", name=x, durable=1)


@case
def passive_declare_looks_at_the_name_alone(t):
    c = t.open()
    for kind in ("direct", "fanout", "nope"):
        c.call(1, "exchange.declare", exchange="amq.direct", type=kind, passive=1)


@case
def line_ends_are_taken_out_of_names(t):
    c = t.open()
    x = t.name("x")
    c.call(1, "exchange.declare", exchange=x[:5] + "\r\n" + x[5:], type="fanout")
    c.call(1, "exchange.declare", exchange=x, type="fanout", passive=1)


for _name, _type in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                     ("amq.headers", "headers"), ("amq.match", "headers")):
    def _predeclared(t, name=_name, kind=_type):
        t.open().call(1, "exchange.declare", exchange=name, type=kind, durable=1)
    _predeclared.__name__ = f"{_name}_is_there"
    case(_predeclared)

row("deleting a predeclared exchange is refused", method_frame(1, DELETE, exchange="amq.direct"),
    403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
    DELETE)
row("deleting the default exchange is refused", method_frame(1, DELETE, exchange=""), 403, DEFAULT,
    DELETE)


@case
def deleting_what_is_not_there_is_answered(t):
    t.open().call(1, DELETE, exchange="wire.none", if_unused=1)


@case
def deleting_if_unused_is_refused_while_bound(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "k")
    c.cast(1, DELETE, exchange=x, if_unused=1)
    c.expect_channel_close(1, 406, f"PRECONDITION_FAILED - exchange '{x}' in vhost '/' in use",
                           DELETE)
    c.call(1, "queue.unbind", queue=q, exchange=x, routing_key="k")
    c.call(1, DELETE, exchange=x, if_unused=1)
    c.cast(1, DECLARE, exchange=x, type="direct", passive=1)
    c.expect_channel_close(1, 404)


@case
def deleting_if_unused_counts_bindings_from_it_alone(t):
    c = t.open()
    source, destination = t.exchange(c), t.exchange(c)
    c.call(1, BIND, source=source, destination=destination, routing_key="k")
    c.call(1, DELETE, exchange=destination, if_unused=1)
    c.call(1, DELETE, exchange=source, if_unused=1)


@case
def deleting_takes_its_bindings_along(t):
    c = t.open()
    x, q = t.exchange(c, "fanout"), t.queue(c)
    t.bind(c, q, x)
    c.call(1, DELETE, exchange=x)
    t.exchange(c, "fanout", name=x)
    c.publish(1, x, "", "lost")
    c.quiet(1, q, messages=0)


@case
def auto_delete_exchange_goes_with_its_last_binding(t):
    c = t.open()
    x, one, two = t.exchange(c, auto_delete=1), t.queue(c), t.queue(c)
    t.bind(c, one, x, "k")
    t.bind(c, two, x, "k")
    c.call(1, "queue.unbind", queue=one, exchange=x, routing_key="k")
    c.call(1, DECLARE, exchange=x, type="direct", passive=1)
    c.call(1, "queue.delete", queue=two)
    c.cast(1, DECLARE, exchange=x, type="direct", passive=1)
    c.expect_channel_close(1, 404)


@case
def auto_delete_exchange_that_was_never_bound_stays(t):
    c = t.open()
    x = t.exchange(c, auto_delete=1)
    c.close()
    t.open().call(1, DECLARE, exchange=x, type="direct", passive=1)


@case
def auto_delete_exchanges_fall_one_after_the_other(t):
    c = t.open()
    first, second, q = t.exchange(c, auto_delete=1), t.exchange(c, auto_delete=1), t.queue(c)
    c.call(1, BIND, source=first, destination=second, routing_key="k")
    t.bind(c, q, second, "k")
    c.call(1, "queue.delete", queue=q)
    for x in (second, first):
        c.cast(1, DECLARE, exchange=x, type="direct", passive=1)
        c.expect_channel_close(1, 404)


# ---- exchange to exchange ----

row("binding from a missing exchange is refused",
    method_frame(1, BIND, source="wire.none", destination="amq.direct"), 404,
    "NOT_FOUND - no exchange 'wire.none' in vhost '/'", BIND)
row("binding to a missing exchange is refused",
    method_frame(1, BIND, source="amq.direct", destination="wire.none"), 404,
    "NOT_FOUND - no exchange 'wire.none' in vhost '/'", BIND)
row("binding from the default exchange is refused",
    method_frame(1, BIND, source="", destination="amq.direct"), 403, DEFAULT, BIND)
row("binding to the default exchange is refused",
    method_frame(1, BIND, source="amq.direct", destination=""), 403, DEFAULT, BIND)
row("unbinding from the default exchange is refused",
    method_frame(1, UNBIND, source="", destination="amq.direct"), 403, DEFAULT, UNBIND)


@case
def unbinding_what_is_not_bound_is_answered(t):
    c = t.open()
    for source, destination in (("amq.direct", "amq.fanout"), ("wire.none", "amq.fanout"),
                                ("amq.direct", "wire.none")):
        c.call(1, UNBIND, source=source, destination=destination, routing_key="k")


@case
def exchanges_route_through_one_another(t):
    c = t.open()
    first, second, third = t.exchange(c), t.exchange(c, "topic"), t.exchange(c, "fanout")
    q = t.queue(c)
    c.call(1, BIND, source=first, destination=second, routing_key="a.b")
    c.call(1, BIND, source=second, destination=third, routing_key="a.*")
    t.bind(c, q, third)
    c.publish(1, first, "a.b", "through")
    c.publish(1, first, "a.c", "not")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", exchange=first, routing_key="a.b", body=b"through",
             message_count=0)
    c.call(1, UNBIND, source=second, destination=third, routing_key="a.*")
    c.publish(1, first, "a.b", "no more")
    c.quiet(1, q, messages=0)


@case
def binding_two_exchanges_twice_needs_one_unbind(t):
    c = t.open()
    source, destination, q = t.exchange(c), t.exchange(c, "fanout"), t.queue(c)
    t.bind(c, q, destination)
    for _ in range(2):
        c.call(1, BIND, source=source, destination=destination, routing_key="k")
    c.publish(1, source, "k", "one")
    c.quiet(1, q, messages=1)
    c.call(1, UNBIND, source=source, destination=destination, routing_key="k")
    c.publish(1, source, "k", "none")
    c.quiet(1, q, messages=1)


@case
def cycles_of_exchanges_end_and_each_queue_gets_one_copy(t):
    c = t.open()
    ring = [t.exchange(c, "fanout") for _ in range(4)]
    q = t.queue(c)
    for at, x in enumerate(ring):
        c.call(1, BIND, source=x, destination=ring[(at + 1) % 4])
        c.call(1, BIND, source=x, destination=x)
        t.bind(c, q, x)
    c.publish(1, ring[2], "", "once")
    c.quiet(1, q, messages=1)


@case
def queue_bound_by_many_keys_gets_one_copy(t):
    c = t.open()
    for kind, keys in (("topic", ("#", "a.*", "a.b")), ("direct", ("a.b",)), ("fanout", "xyz")):
        x, q = t.exchange(c, kind), t.queue(c)
        for key in keys:
            t.bind(c, q, x, key)
            t.bind(c, q, x, key, {"n": 1})
        c.publish(1, x, "a.b", "once")
        c.quiet(1, q, messages=1)


# ---- alternate exchanges ----

@case
def alternate_exchange_takes_what_no_queue_got(t):
    c = t.open()
    other = t.exchange(c, "fanout")
    x = t.exchange(c, arguments={"alternate-exchange": other})
    one, rest = t.queue(c), t.queue(c)
    t.bind(c, one, x, "k")
    t.bind(c, rest, other)
    c.publish(1, x, "k", "routed", mandatory=1)
    c.publish(1, x, "else", "unrouted", mandatory=1)
    c.quiet(1, one, messages=1)
    c.quiet(1, rest, messages=1)
    c.cast(1, "basic.get", queue=rest, no_ack=1)
    c.expect(1, "basic.get-ok", exchange=x, routing_key="else", body=b"unrouted")


@case
def alternate_exchanges_form_chains_and_the_message_is_returned_at_their_end(t):
    c = t.open()
    last = t.exchange(c, "direct")
    middle = t.exchange(c, arguments={"alternate-exchange": last})
    first = t.exchange(c, arguments={"alternate-exchange": middle})
    q = t.queue(c)
    t.bind(c, q, last, "k")
    c.publish(1, first, "k", "caught", mandatory=1)
    c.quiet(1, q, messages=1)
    c.publish(1, first, "zz", "returned", mandatory=1)
    c.expect(1, "basic.return", exchange=first, routing_key="zz", body=b"returned")


@case
def alternate_exchanges_in_a_circle_end(t):
    c = t.open()
    one, two = t.name("x"), t.name("x")
    t.exchange(c, name=one, arguments={"alternate-exchange": two})
    t.exchange(c, name=two, arguments={"alternate-exchange": one})
    c.publish(1, one, "k", "round", mandatory=1)
    c.expect(1, "basic.return", exchange=one, body=b"round")
    x = t.name("x")
    t.exchange(c, name=x, arguments={"alternate-exchange": x})
    c.publish(1, x, "k", "self", mandatory=1)
    c.expect(1, "basic.return", exchange=x, body=b"self")


@case
def alternate_exchange_may_be_missing_or_come_later(t):
    c = t.open()
    later = t.name("x")
    x, q = t.exchange(c, arguments={"alternate-exchange": later}), t.queue(c)
    c.publish(1, x, "k", "lost", mandatory=1)
    c.expect(1, "basic.return", body=b"lost")
    t.exchange(c, "fanout", name=later)
    t.bind(c, q, later)
    c.publish(1, x, "k", "caught", mandatory=1)
    c.quiet(1, q, messages=1)


@case
def alternate_exchange_of_an_exchange_bound_to_is_used(t):
    """The alternate belongs to the exchange where the message finds no way on."""
    c = t.open()
    other = t.exchange(c, "fanout")
    inner = t.exchange(c, arguments={"alternate-exchange": other})
    outer, q = t.exchange(c, "fanout"), t.queue(c)
    c.call(1, BIND, source=outer, destination=inner)
    t.bind(c, q, other)
    c.publish(1, outer, "nowhere", "x")
    c.quiet(1, q, messages=1)


# ---- internal ----

@case
def publishing_to_an_internal_exchange_is_refused(t):
    c = t.open()
    x = t.exchange(c, internal=1)
    c.send(publish(1, x, "k", "body"))
    c.expect_channel_close(
        1, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{x}' in vhost '/'",
        "basic.publish")


@case
def internal_exchange_routes_what_comes_from_another(t):
    c = t.open()
    inner, outer, q = t.exchange(c, "fanout", internal=1), t.exchange(c, "fanout"), t.queue(c)
    c.call(1, BIND, source=outer, destination=inner)
    t.bind(c, q, inner)
    c.publish(1, outer, "", "in")
    c.quiet(1, q, messages=1)


@case
def nothing_is_answered_without_waiting(t):
    c = t.open()
    x, y = t.name("x"), t.name("x")
    for name in (x, y):
        c.cast(1, DECLARE, exchange=name, type="direct", no_wait=1)
    c.cast(1, DECLARE, exchange=x, type="direct", passive=1, no_wait=1)
    c.cast(1, BIND, source=x, destination=y, routing_key="k", no_wait=1)
    c.cast(1, UNBIND, source=x, destination=y, routing_key="k", no_wait=1)
    c.cast(1, DELETE, exchange=y, no_wait=1)
    c.expect_nothing(1)
    c.call(1, DECLARE, exchange=x, type="direct", passive=1)
    c.cast(1, DECLARE, exchange=y, type="direct", passive=1)
    c.expect_channel_close(1, 404)


@case
def names_of_255_octets_are_taken(t):
    c = t.open()
    x = (t.name("x") + "." + "n" * 255)[:255]
    t.names.append(x)
    q = t.queue(c)
    t.exchange(c, name=x)
    t.bind(c, q, x, "k" * 255)
    c.publish(1, x, "k" * 255, "long")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", exchange=x, routing_key="k" * 255)


@case
def durable_exchange_outlives_its_connection_and_transient_too(t):
    c = t.open()
    durable, transient = t.exchange(c, durable=1), t.exchange(c)
    c.close()
    c = t.open()
    t.exchange(c, name=durable, durable=1)
    t.exchange(c, name=transient)
