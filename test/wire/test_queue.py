"""queue.*: declaring, equivalence, exclusive use, auto-delete, purge, delete."""

import re

from amqp import T, method_frame, publish
from case import case, equal, refusal, true

DECLARE, DELETE, BIND, UNBIND, PURGE = ("queue.declare", "queue.delete", "queue.bind",
                                        "queue.unbind", "queue.purge")
LOCKED = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It " \
         "could be originally declared on another connection or the exclusive property value " \
         "does not match that of the original declaration."
DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"
NO_QUEUE = "NOT_FOUND - no queue 'wire.none' in vhost '/'"
NO_EXCHANGE = "NOT_FOUND - no exchange 'wire.none' in vhost '/'"
NO_LAST = "NOT_FOUND - no previously declared queue"


def row(title, name, code, text, fields, **how):
    def doing(q):
        return method_frame(1, name, **{k: q if v == "@" else v for k, v in fields.items()})
    refusal(title, doing, code, text, name, module=__name__, **how)


row("declaring a reserved name is refused", DECLARE, 403,
    "ACCESS_REFUSED - queue name 'amq.wire' contains reserved prefix 'amq.*'",
    {"queue": "amq.wire"})
row("declaring a missing queue passively is refused", DECLARE, 404, NO_QUEUE,
    {"queue": "wire.none", "passive": 1})
row("declaring a missing reserved name passively says not found", DECLARE, 404,
    "NOT_FOUND - no queue 'amq.wire' in vhost '/'", {"queue": "amq.wire", "passive": 1})
row("redeclaring without exclusive says locked", DECLARE, 405, LOCKED.format("@"), {"queue": "@"})
row("binding a missing queue is refused", BIND, 404, NO_QUEUE,
    {"queue": "wire.none", "exchange": "amq.direct"})
row("binding to a missing exchange is refused", BIND, 404, NO_EXCHANGE,
    {"queue": "@", "exchange": "wire.none"})
row("binding to the default exchange is refused", BIND, 403, DEFAULT,
    {"queue": "@", "exchange": ""})
row("unbinding from the default exchange is refused", UNBIND, 403, DEFAULT,
    {"queue": "@", "exchange": "", "routing_key": "@"})
row("purging a missing queue is refused", PURGE, 404, NO_QUEUE, {"queue": "wire.none"})


def no_last(name, **fields):
    @case
    def refused(t):
        c = t.open()
        c.cast(1, name, **fields)
        c.expect_channel_close(1, 404, NO_LAST, name)
    refused.__name__ = f"{name}_without_a_name_or_a_queue_declared_before_is_refused"
    refused.__module__ = __name__


no_last(BIND, exchange="amq.direct")
no_last(PURGE)
no_last(DELETE)
no_last(UNBIND, exchange="amq.direct")
no_last("basic.get")
no_last("basic.consume")


@case
def last_declared_name_is_a_matter_of_its_channel(t):
    c = t.open()
    t.queue(c)
    c.channel(2)
    c.cast(2, "basic.get")
    c.expect_channel_close(2, 404, NO_LAST, "basic.get")


@case
def empty_name_means_the_queue_declared_last(t):
    c = t.open()
    t.queue(c)
    q = t.queue(c)
    c.call(1, BIND, exchange="amq.direct", routing_key=q + ".key")
    c.publish(1, "amq.direct", q + ".key", "one")
    c.publish(1, "amq.direct", q + ".key", "two")
    c.cast(1, "basic.get", no_ack=1)
    c.expect(1, "basic.get-ok", body=b"one")
    c.cast(1, "basic.consume", consumer_tag="c", no_ack=1)
    c.expect(1, "basic.consume-ok")
    c.expect(1, "basic.deliver", body=b"two")
    equal(c.call(1, PURGE).message_count, 0)
    c.call(1, UNBIND, exchange="amq.direct", routing_key=q + ".key")
    c.call(1, DELETE)
    c.expect(1, "basic.cancel", consumer_tag="c")
    c.cast(1, DECLARE, queue=q, passive=1)
    c.expect_channel_close(1, 404)


@case
def empty_name_and_key_bind_by_the_queues_own_name(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, BIND, exchange="amq.direct")
    c.publish(1, "amq.direct", q, "mine")
    c.quiet(1, q, messages=1)


@case
def named_queue_and_empty_key_bind_by_the_empty_key(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "")
    c.publish(1, x, q, "not this")
    c.publish(1, x, "", "this")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"this", message_count=0)


@case
def passive_declare_of_the_name_makes_it_the_last(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.call(2, DECLARE, queue=q, passive=1)
    c.cast(2, "basic.get", no_ack=1)
    c.expect(2, "basic.get-ok")


@case
def server_names_queues(t):
    c = t.open()
    names = set()
    for _ in range(3):
        name = c.call(1, DECLARE, exclusive=1).queue
        true(re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name), name)
        names.add(name)
    equal(len(names), 3)
    for name in names:
        c.publish(1, "", name, "x")
        c.quiet(1, name, messages=1)


@case
def server_given_name_may_be_used_but_not_declared(t):
    """RabbitMQ looks at the prefix first, passive declares excepted."""
    c = t.open()
    q = c.call(1, DECLARE, exclusive=1).queue
    c.call(1, DECLARE, queue=q, passive=1)
    c.cast(1, DECLARE, queue=q, exclusive=1)
    c.expect_channel_close(1, 403, f"ACCESS_REFUSED - queue name '{q}' contains reserved prefix "
                           "'amq.*'", DECLARE)


@case
def line_ends_are_taken_out_of_names(t):
    c = t.open()
    q = t.name()
    equal(c.call(1, DECLARE, queue=q[:3] + "\n\r" + q[3:], exclusive=1).queue, q)


@case
def name_of_255_octets_is_taken(t):
    c = t.open()
    q = (t.name() + "." + "n" * 255)[:255]
    t.queue(c, name=q)
    c.publish(1, "", q, "x")
    c.quiet(1, q, messages=1)


# ---- equivalence ----

def redeclared(title, first, again, text=None):
    """Declared, then declared again; text: how that is refused."""
    def case_of(t):
        c = t.open()
        q = t.queue(c, **first)
        c.cast(1, DECLARE, queue=q, exclusive=1, **again)
        if text is None:
            c.expect(1, "queue.declare-ok", queue=q)
        else:
            c.expect_channel_close(1, 406, "PRECONDITION_FAILED - inequivalent arg "
                                   + text.replace("@", f"queue '{q}' in vhost '/'"), DECLARE)
    case_of.__name__ = "redeclaring_" + title.replace(" ", "_")
    case_of.__module__ = __name__
    case(case_of)


def args(**arguments):
    return {"arguments": {"x-" + k.replace("_", "-"): v for k, v in arguments.items()}}


redeclared("alike is answered", {}, {})
redeclared("exclusive as durable is answered since exclusive wins", {}, {"durable": 1})
redeclared("with another auto delete is refused", {}, {"auto_delete": 1},
           "'auto_delete' for @: received 'true' but current is 'false'")
redeclared("without auto delete is refused", {"auto_delete": 1}, {},
           "'auto_delete' for @: received 'false' but current is 'true'")
redeclared("with a ttl where there was none is refused", {}, args(message_ttl=20000),
           "'x-message-ttl' for @: received the value '20000' of type 'signedint' but current is "
           "none")
redeclared("without a ttl where there was one is refused", args(message_ttl=20000), {},
           "'x-message-ttl' for @: received none but current is the value '20000' of type "
           "'signedint'")
redeclared("with another ttl is refused", args(message_ttl=20000), args(message_ttl=30000),
           "'x-message-ttl' for @: received '30000' but current is '20000'")
redeclared("with another length is refused", args(max_length=5), args(max_length=6),
           "'x-max-length' for @: received '6' but current is '5'")
redeclared("with an expiry where there was none is refused", {}, args(expires=100000),
           "'x-expires' for @: received the value '100000' of type 'signedint' but current is none")
redeclared("with another dead letter exchange is refused", args(dead_letter_exchange="a"),
           args(dead_letter_exchange="b"),
           "'x-dead-letter-exchange' for @: received 'b' but current is 'a'")
redeclared("with a dead letter exchange where there was none is refused", {},
           args(dead_letter_exchange="a"),
           "'x-dead-letter-exchange' for @: received the value 'a' of type 'longstr' but current "
           "is none")
redeclared("with another priority is refused", args(max_priority=5), args(max_priority=6),
           "'x-max-priority' for @: received '6' but current is '5'")
redeclared("with another overflow is refused", args(overflow="drop-head"),
           args(overflow="reject-publish"),
           "'x-overflow' for @: received 'reject-publish' but current is 'drop-head'")
redeclared("as single active consumer is refused", {}, args(single_active_consumer=True),
           "'x-single-active-consumer' for @: received the value 'true' of type 'bool' but current "
           "is none")
for _tag in "bBsuIilL":
    redeclared(f"with an integer of type {_tag} and the same value is answered",
               args(max_length=100), args(max_length=T(_tag, 100)))
redeclared("with an unknown argument changed is answered", args(foo=5), args(foo="six"))
redeclared("with an unknown argument added is answered", {}, args(foo=5))
redeclared("with the type classic named is answered", {}, args(queue_type="classic"))
redeclared("without the type classic named is answered", args(queue_type="classic"), {})


@case
def redeclaring_a_durable_queue_as_transient_is_refused(t):
    c = t.open()
    q = t.queue(c, durable=1, exclusive=0)
    c.cast(1, DECLARE, queue=q)
    c.expect_channel_close(1, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue "
                           f"'{q}' in vhost '/': received 'false' but current is 'true'", DECLARE)


@case
def redeclaring_as_exclusive_what_is_not_says_inequivalent(t):
    c = t.open()
    q = t.queue(c, exclusive=0)
    c.cast(1, DECLARE, queue=q, exclusive=1)
    got = c.expect(1, "channel.close")
    # RabbitMQ has two answers in its versions, and clients take either.
    true(got.reply_code in (405, 406), got)


@case
def passive_declare_looks_at_the_name_alone(t):
    c = t.open()
    q = t.queue(c, durable=1, exclusive=0, arguments={"x-max-length": 9})
    c.cast(1, DECLARE, queue=q, passive=1, auto_delete=1, arguments={"x-max-length": 8})
    c.expect(1, "queue.declare-ok", queue=q, message_count=0, consumer_count=0)


def bad_argument(name, value, reason):
    title = re.sub(r"\W+", " ", f"{name} of {value!r}").strip()
    row(f"declaring with {title} is refused", DECLARE, 406,
        f"PRECONDITION_FAILED - invalid arg '{name}' for queue 'wire.bad' in vhost '/': {reason}",
        {"queue": "wire.bad", "exclusive": 1, "arguments": {name: value}})


for _n in ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority"):
    bad_argument(_n, "a", '"expected integer, got longstr"')
    bad_argument(_n, -1, "{value_negative,-1}")
    bad_argument(_n, True, '"expected integer, got bool"')
bad_argument("x-message-ttl", 1.5, '"expected integer, got double"')
bad_argument("x-message-ttl", None, '"expected integer, got void"')
bad_argument("x-message-ttl", 315360000001, "{value_too_large,315360000001}")
bad_argument("x-expires", 0, "{value_zero,0}")
bad_argument("x-expires", 315360000001, "{value_too_large,315360000001}")
bad_argument("x-max-priority", 256, "{max_value_exceeded,256}")
bad_argument("x-overflow", "foo", "invalid_overflow")
bad_argument("x-overflow", 5, "{unacceptable_type,signedint}")
bad_argument("x-dead-letter-routing-key", "a", "routing_key_but_no_dlx_defined")
bad_argument("x-single-active-consumer", 1, "{unacceptable_type,signedint}")
bad_argument("x-queue-type", "foo", "\"unsupported queue type 'foo'\"")
bad_argument("x-queue-type", 5, "{unacceptable_type,signedint}")
row("declaring with a dead letter exchange that is no string is refused", DECLARE, 406,
    "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue "
    "'wire.bad' in vhost '/'",
    {"queue": "wire.bad", "exclusive": 1, "arguments": {"x-dead-letter-exchange": 5}})


@case
def largest_values_of_arguments_are_taken(t):
    c = t.open()
    t.queue(c, arguments={"x-message-ttl": 315360000000, "x-expires": 315360000000,
                          "x-max-length": 2**40, "x-max-length-bytes": 2**40,
                          "x-max-priority": 255})


# ---- exclusive ----

def locked(name, **fields):
    @case
    def says_405(t):
        owner, other = t.open(), t.open()
        q = t.queue(owner)
        other.cast(1, name, queue=q, **fields)
        other.expect_channel_close(1, 405, LOCKED.format(q), name)
    says_405.__name__ = f"{name}_{'_'.join(fields)}_on_an_exclusive_queue_of_another_says_locked"
    says_405.__module__ = __name__


locked(DECLARE, exclusive=1)
locked(DECLARE, passive=1)
locked(DECLARE)
locked(BIND, exchange="amq.direct")
locked(PURGE)
locked(DELETE)
locked("basic.consume")
locked("basic.get")


@case
def unbinding_an_exclusive_queue_of_another_says_locked(t):
    owner, other = t.open(), t.open()
    q = t.queue(owner)
    t.bind(owner, q, "amq.direct", q)
    other.cast(1, UNBIND, queue=q, exchange="amq.direct", routing_key=q)
    other.expect_channel_close(1, 405, LOCKED.format(q), UNBIND)


@case
def others_may_publish_to_an_exclusive_queue(t):
    owner, other = t.open(), t.open()
    q = t.queue(owner)
    other.publish(1, "", q, "for you", mandatory=1)
    other.expect_nothing(1)
    owner.quiet(1, q, messages=1)


@case
def exclusive_queue_is_shared_by_the_channels_of_its_connection(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c)
    c.call(2, "basic.consume", queue=q)
    c.call(1, "channel.close")
    c.quiet(2, q, consumers=1)


@case
def exclusive_queue_is_gone_when_its_connection_is_closed(t):
    c = t.open()
    q = t.queue(c)
    c.close()
    c = t.open()
    c.cast(1, DECLARE, queue=q, passive=1)
    c.expect_channel_close(1, 404)


@case
def exclusive_queue_may_be_declared_at_once_when_its_connection_is_closed(t):
    q = t.name()
    for _ in range(10):
        c = t.open()
        t.queue(c, name=q)
        c.publish(1, "", q, "x")
        c.close()
    t.queue(t.open(), name=q, exclusive=0)


# ---- auto-delete ----

@case
def auto_delete_queue_goes_with_its_last_consumer(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c, exclusive=0, auto_delete=1)
    c.call(1, "basic.consume", queue=q, consumer_tag="a")
    c.call(2, "basic.consume", queue=q, consumer_tag="b")
    c.call(1, "basic.cancel", consumer_tag="a")
    c.call(1, DECLARE, queue=q, passive=1)
    c.call(2, "channel.close")
    c.cast(1, DECLARE, queue=q, passive=1)
    c.expect_channel_close(1, 404)


@case
def auto_delete_queue_that_was_never_consumed_stays(t):
    c = t.open()
    q = t.queue(c, exclusive=0, auto_delete=1)
    c.publish(1, "", q, "x")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok")
    c.close()
    t.open().call(1, DECLARE, queue=q, passive=1)


@case
def auto_delete_queue_goes_with_the_connection_of_its_consumer(t):
    c = t.open()
    q = t.queue(c, exclusive=0, auto_delete=1)
    c.call(1, "basic.consume", queue=q)
    c.close()
    other = t.open()
    other.cast(1, DECLARE, queue=q, passive=1)
    other.expect_channel_close(1, 404)


# ---- purge and delete ----

@case
def purge_counts_ready_messages_and_leaves_the_unacked(t):
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, str(n)) for n in range(5)))
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", body=b"0", message_count=4)
    equal(c.call(1, PURGE, queue=q).message_count, 4)
    equal(c.call(1, PURGE, queue=q).message_count, 0)
    c.cast(1, "basic.reject", delivery_tag=1, requeue=1)
    c.quiet(1, q, messages=1)


@case
def delete_counts_messages(t):
    c = t.open()
    q = t.queue(c)
    c.send(*(publish(1, "", q, str(n)) for n in range(3)))
    equal(c.call(1, DELETE, queue=q).message_count, 3)


@case
def deleting_what_is_not_there_counts_none(t):
    equal(t.open().call(1, DELETE, queue="wire.none", if_unused=1, if_empty=1).message_count, 0)


@case
def delete_if_empty_is_refused_with_messages(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, DELETE, queue=q, if_empty=1)
    c.expect_channel_close(1, 406, f"PRECONDITION_FAILED - queue '{q}' in vhost '/' not empty",
                           DELETE)
    c.call(1, PURGE, queue=q)
    c.call(1, DELETE, queue=q, if_empty=1)


@case
def delete_if_unused_is_refused_with_consumers(t):
    c = t.open()
    q = t.queue(c)
    c.channel(2)
    c.call(2, "basic.consume", queue=q, consumer_tag="c")
    c.cast(1, DELETE, queue=q, if_unused=1)
    c.expect_channel_close(1, 406, f"PRECONDITION_FAILED - queue '{q}' in vhost '/' in use", DELETE)
    c.call(2, "basic.cancel", consumer_tag="c")
    c.call(1, DELETE, queue=q, if_unused=1)


@case
def deleted_queue_is_bound_nowhere(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "k")
    c.call(1, DELETE, queue=q)
    t.queue(c, name=q)
    c.publish(1, x, "k", "x", mandatory=1)
    c.expect(1, "basic.return")
    c.quiet(1, q, messages=0)


@case
def deliveries_of_a_deleted_queue_may_still_be_acked(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, "x")
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok", delivery_tag=1)
    c.call(1, DELETE, queue=q)
    c.cast(1, "basic.ack", delivery_tag=1)
    c.expect_nothing(1)


@case
def counts_are_of_ready_messages_and_of_consumers(t):
    c = t.open()
    q = t.queue(c)
    c.send(publish(1, "", q, "a"), publish(1, "", q, "b"))
    c.cast(1, "basic.get", queue=q)
    c.expect(1, "basic.get-ok")
    c.cast(1, DECLARE, queue=q, exclusive=1)
    c.expect(1, "queue.declare-ok", queue=q, message_count=1, consumer_count=0)
    c.call(1, "basic.qos", prefetch_count=1)
    c.call(1, "basic.consume", queue=q, consumer_tag="x")
    c.expect(1, "basic.deliver", body=b"b")
    c.cast(1, DECLARE, queue=q, passive=1)
    c.expect(1, "queue.declare-ok", message_count=0, consumer_count=1)


# ---- binding ----

@case
def unbinding_what_is_not_bound_is_answered(t):
    c = t.open()
    q = t.queue(c)
    c.call(1, UNBIND, queue=q, exchange="amq.direct", routing_key="zz")
    c.call(1, UNBIND, queue=q, exchange="wire.none", routing_key="zz")
    c.call(1, UNBIND, queue="wire.none", exchange="amq.direct", routing_key="zz")


@case
def bindings_differ_by_their_arguments(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "k", {"a": 1})
    t.bind(c, q, x, "k", {"a": 2})
    c.call(1, UNBIND, queue=q, exchange=x, routing_key="k", arguments={"a": 1})
    c.publish(1, x, "k", "one")
    c.quiet(1, q, messages=1)
    c.call(1, UNBIND, queue=q, exchange=x, routing_key="k")
    c.publish(1, x, "k", "two")
    c.quiet(1, q, messages=2)
    c.call(1, UNBIND, queue=q, exchange=x, routing_key="k", arguments={"a": 2})
    c.publish(1, x, "k", "none")
    c.quiet(1, q, messages=2)


@case
def binding_twice_needs_one_unbind(t):
    c = t.open()
    x, q = t.exchange(c), t.queue(c)
    t.bind(c, q, x, "k")
    t.bind(c, q, x, "k")
    c.call(1, UNBIND, queue=q, exchange=x, routing_key="k")
    c.publish(1, x, "k", "none")
    c.quiet(1, q, messages=0)


@case
def nothing_is_answered_without_waiting(t):
    c = t.open()
    q, x = t.name(), t.exchange(c)
    c.cast(1, DECLARE, queue=q, exclusive=1, no_wait=1)
    c.cast(1, DECLARE, queue=q, passive=1, no_wait=1)
    c.cast(1, BIND, queue=q, exchange=x, routing_key="k", no_wait=1)
    c.send(publish(1, x, "k", "one"), publish(1, x, "k", "two"))
    c.cast(1, PURGE, queue=q, no_wait=1)
    c.expect_nothing(1)
    c.quiet(1, q, messages=0)
    c.cast(1, DELETE, queue=q, no_wait=1)
    c.expect_nothing(1)
    c.cast(1, DECLARE, queue=q, passive=1)
    c.expect_channel_close(1, 404)


@case
def errors_are_told_without_waiting_too(t):
    c = t.open()
    c.cast(1, DECLARE, queue="wire.none", passive=1, no_wait=1)
    c.expect_channel_close(1, 404, NO_QUEUE, DECLARE)
    c.cast(1, BIND, queue="wire.none", exchange="amq.direct", no_wait=1)
    c.expect_channel_close(1, 404, NO_QUEUE, BIND)
