"""Frames, content and arguments that are wrong; what closes, and with what."""

import struct

import amqp
from amqp import BODY, HEARTBEAT, METHOD, frame, header_frame, longstr, method, method_frame
from case import ORACLE, case, equal, refusal, true

PUBLISH = method_frame(1, "basic.publish", exchange="", routing_key="nowhere")
NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header " \
            "frame instead"
NO_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"


def hard(title, sent, codes, text=None, about=None, *, channel_max=0, is_ended=True, **how):
    """A row: these octets on a connection with channel 1 open are answered by its close."""
    codes = codes if isinstance(codes, tuple) else (codes,)

    def closed(t):
        c = t.open(channel_max=channel_max)
        c.send(*sent)
        got = c.expect(0, "connection.close")
        true(got.reply_code in codes, f"expected {codes}, got {got}")
        c._check_close(got, got.reply_code, text, about)
        c.cast(0, "connection.close-ok")
        if is_ended or ORACLE != "rabbitmq":
            c.expect_eof()
    closed.__name__ = title.replace(" ", "_")
    closed.__module__ = __name__
    case(closed, **how)


# After what it cannot parse RabbitMQ does not find our close-ok either: is_ended=False.
hard("bad frame end is a frame error", [frame(METHOD, 1, method("basic.qos"), end=0xCD)], 501,
     about=(0, 0), is_ended=False)
hard("bad frame end of a body is a frame error",
     [PUBLISH, header_frame(1, 3), frame(BODY, 1, b"abc", end=0)], 501, is_ended=False)
hard("oversize frame is a frame error as soon as its head is seen",
     [struct.pack(">BHI", 1, 1, 131073)], 501, about=(0, 0), is_ended=False)
hard("frame of four gigabytes is a frame error", [struct.pack(">BHI", 3, 1, 0xFFFFFFFF)], 501,
     is_ended=False)
hard("unknown frame type is a frame error", [frame(4, 1, b"abc")], 501, about=(0, 0))
hard("unknown frame type on channel 0 is a frame error", [frame(5, 0, b"abc")], 501)
hard("frame type 0 is a frame error", [frame(0, 1, b"")], 501)
hard("heartbeat on a channel is unexpected", [frame(HEARTBEAT, 1, b"")], 505, about=(0, 0))
hard("heartbeat on a closed channel is unexpected", [frame(HEARTBEAT, 7, b"")], 505)
hard("heartbeat with a payload is a frame error", [frame(HEARTBEAT, 0, b"abc")], 501)
hard("method frame of two octets is a frame error", [frame(METHOD, 1, b"\0\x3c")], (501, 502))
hard("empty method frame is a frame error", [frame(METHOD, 1, b"")], (501, 502))
hard("content header on channel 0 is unexpected", [header_frame(0, 3)], 505, about=(0, 0))
hard("body on channel 0 is unexpected", [frame(BODY, 0, b"abc")], 505, about=(0, 0))

hard("method on a closed channel is a channel error", [method_frame(5, "basic.qos")], 504,
     "CHANNEL_ERROR - expected 'channel.open'", "basic.qos")
hard("publish on a closed channel is a channel error",
     [amqp.publish(5, "", "x", "body")], 504, "CHANNEL_ERROR - expected 'channel.open'",
     "basic.publish")
hard("header on a closed channel is unexpected", [header_frame(5, 3)], (504, 505))
hard("second channel.open is a channel error", [method_frame(1, "channel.open")], 504,
     "CHANNEL_ERROR - second 'channel.open' seen", "channel.open")
hard("one channel too many is not allowed",
     [method_frame(2, "channel.open"), method_frame(3, "channel.open")], 530,
     "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
     channel_max=2)
# RabbitMQ counts channels and lets any number pass; the specification means the number.
hard("channel number above channel_max is not allowed", [method_frame(6, "channel.open")], 530,
     channel_max=5, oracle=False)

# RabbitMQ drops the connection for want of a clause.
hard("unknown class is refused", [frame(METHOD, 1, struct.pack(">HH", 99, 10))],
     (502, 503, 540), oracle=False)
hard("unknown method is refused", [frame(METHOD, 1, struct.pack(">HH", 50, 99))],
     (502, 503, 540), oracle=False)
hard("unknown method on channel 0 is refused", [frame(METHOD, 0, struct.pack(">HH", 10, 99))],
     (502, 503, 540), oracle=False)

for _name in ("queue.declare-ok", "channel.open-ok", "exchange.declare-ok", "basic.consume-ok",
              "basic.qos-ok", "basic.get-empty", "basic.recover-ok", "confirm.select-ok",
              "tx.commit-ok"):
    hard(f"{_name} from a client is invalid", [method_frame(1, _name)], 503,
         "COMMAND_INVALID - unimplemented method" if ORACLE == "rabbitmq" else None, _name)
for _name in ("basic.deliver", "basic.return", "basic.get-ok"):
    # RabbitMQ first waits for the content.
    hard(f"{_name} from a client is invalid", [method_frame(1, _name), amqp.content(1, b"x")], 503,
         about=_name)
for _name in ("connection.start", "connection.tune", "connection.open-ok", "connection.secure",
              "connection.blocked", "connection.start-ok", "connection.tune-ok"):
    hard(f"{_name} on an open connection is refused", [method_frame(0, _name)], (503, 504),
         about=_name)
hard("queue.declare on channel 0 is refused", [method_frame(0, "queue.declare", queue="x")],
     (503, 504), about="queue.declare")
hard("channel.open on channel 0 is refused", [method_frame(0, "channel.open")], (503, 504),
     about="channel.open")
hard("connection.close on a channel is refused",
     [method_frame(1, "connection.close", reply_code=200)], (503, 504), about="connection.close")
hard("channel.close-ok that nobody waits for is refused", [method_frame(1, "channel.close-ok")],
     503, about="channel.close-ok")
hard("connection.close-ok that nobody waits for is refused",
     [method_frame(0, "connection.close-ok")], (503, 504), about="connection.close-ok")
hard("channel.flow off is not implemented", [method_frame(1, "channel.flow", active=0)], 540,
     "NOT_IMPLEMENTED - active=false", "channel.flow")

# ---- content ----

hard("header without publish is unexpected", [header_frame(1, 3)], 505, NO_METHOD)
hard("body without publish is unexpected", [frame(BODY, 1, b"abc")], 505, NO_METHOD)
hard("method where a header is due is unexpected", [PUBLISH, method_frame(1, "basic.qos")], 505,
     NO_HEADER, "basic.publish")
hard("publish where a header is due is unexpected", [PUBLISH, PUBLISH], 505, NO_HEADER,
     "basic.publish")
hard("body where a header is due is unexpected", [PUBLISH, frame(BODY, 1, b"abc")], 505, NO_HEADER,
     "basic.publish")
hard("method where a body is due is unexpected",
     [PUBLISH, header_frame(1, 5), method_frame(1, "basic.qos")], 505, NO_BODY, "basic.publish")
hard("header where a body is due is unexpected",
     [PUBLISH, header_frame(1, 5), header_frame(1, 5)], 505, NO_BODY, "basic.publish")
hard("body after half a body and then a method is unexpected",
     [PUBLISH, header_frame(1, 5), frame(BODY, 1, b"abc"), PUBLISH], 505, NO_BODY, "basic.publish")
hard("body behind an empty content is unexpected",
     [PUBLISH, header_frame(1, 0), frame(BODY, 1, b"a")], 505, NO_METHOD)
hard("body behind a whole content is unexpected",
     [PUBLISH, header_frame(1, 3), frame(BODY, 1, b"abc"), frame(BODY, 1, b"d")], 505, NO_METHOD)
# RabbitMQ waits for ever for what is then less than nothing.
hard("body longer than its header said is refused",
     [PUBLISH, header_frame(1, 3), frame(BODY, 1, b"abcdef")], (501, 505), oracle=False)
hard("body longer than its header said in a second frame is refused",
     [PUBLISH, header_frame(1, 4), frame(BODY, 1, b"abc"), frame(BODY, 1, b"def")], (501, 505),
     oracle=False)
hard("header of another class is unexpected", [PUBLISH, header_frame(1, 3, class_id=50)], 505,
     "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
     "basic.publish")
hard("header with a weight is unexpected", [PUBLISH, header_frame(1, 3, weight=1)], 505)
hard("header of four octets is a frame error", [PUBLISH, frame(2, 1, b"\0\x3c\0\0")], 501)

# 541 of RabbitMQ is a crash of its reader.
_BAD = (501, 502, 541) if ORACLE == "rabbitmq" else (501, 502)
for _name, _raw in (("octets behind them", b"\x00\x00abc"),
                    ("a string cut short", b"\x80\x00\x05ab"),
                    ("a headers table cut short", b"\x20\x00\x00\x00\x00\x09\x01aI\0\0"),
                    ("a timestamp cut short", b"\x00\x40\x00\x00"),
                    ("a value of unknown type", b"\x20\x00\x00\x00\x00\x03\x01aZ"),
                    ("a table longer than its octets",
                     b"\x20\x00\x00\x00\x00\x06\x01aS\0\0\0\x09")):
    hard(f"properties with {_name} are refused",
         [PUBLISH, header_frame(1, 0, _raw), method_frame(1, "basic.qos")], _BAD,
         oracle=_name != "a value of unknown type" and "table" not in _name)


@case
def empty_body_frames_are_let_pass(t):
    c = t.open()
    q = t.queue(c)
    c.cast(1, "basic.publish", exchange="", routing_key=q)
    c.send(header_frame(1, 3), frame(BODY, 1, b""), frame(BODY, 1, b"ab"), frame(BODY, 1, b""),
           frame(BODY, 1, b"c"))
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"abc")


@case
def payload_of_frame_max_octets_is_let_pass(t):
    c = t.open(frame_max=4096)
    q = t.queue(c)
    body = b"x" * 4096
    c.cast(1, "basic.publish", exchange="", routing_key=q)
    c.send(header_frame(1, len(body)), frame(BODY, 1, body))
    c.cast(1, "basic.get", queue=q, no_ack=1)
    got = c.expect(1, "basic.get-ok", body=body)
    true(max(got.parts) <= 4096 - 8, f"frames of {got.parts}")


@case
def frames_of_other_channels_may_stand_between(t):
    c = t.open(frame_max=4096)
    c.channel(2)
    one, two = t.queue(c), t.queue(c, channel=2)
    a, b = b"a" * 50000, b"b" * 40000
    for channel, q, body in ((1, one, a), (2, two, b)):
        c.cast(channel, "basic.publish", exchange="", routing_key=q)
        c.send(header_frame(channel, len(body)))
    for at in range(0, 50000, 1000):
        c.send(frame(BODY, 1, a[at:at + 1000]), frame(BODY, 2, b[at:at + 1000])
               if at < 40000 else amqp.HEARTBEAT_FRAME)
    for channel, q, body in ((1, one, a), (2, two, b)):
        c.cast(channel, "basic.get", queue=q, no_ack=1)
        got = c.expect(channel, "basic.get-ok", body=body)
        true(max(got.parts) <= 4088, f"frames of {got.parts}")


@case
def octets_may_come_one_by_one(t):
    c = t.open()
    q = t.queue(c)
    for octet in amqp.publish(1, "", q, "slow", {"type": "x", "headers": {"a": [1, "b"]}}):
        c.send(bytes([octet]))
    c.cast(1, "basic.get", queue=q, no_ack=1)
    c.expect(1, "basic.get-ok", body=b"slow")


@case
def large_body_is_split_by_the_readers_frame_max(t):
    writer, reader = t.open(), t.open(frame_max=5000)
    q = t.queue(writer, exclusive=0)
    body = bytes(range(256)) * 4000
    writer.publish(1, "", q, body)
    writer.quiet(1, q)
    reader.cast(1, "basic.get", queue=q, no_ack=1)
    got = reader.expect(1, "basic.get-ok", body=body)
    equal(set(got.parts[:-1]), {4992})


@case
def empty_body_has_no_body_frame(t):
    c = t.open()
    q = t.queue(c)
    c.publish(1, "", q, b"")
    c.cast(1, "basic.get", queue=q, no_ack=1)
    equal(c.expect(1, "basic.get-ok", body=b"").parts, [])


@case
def channel_close_amid_content_drops_it(t):
    c = t.open()
    q = t.queue(c)
    c.cast(1, "basic.publish", exchange="", routing_key=q)
    c.send(header_frame(1, 6), frame(BODY, 1, b"abc"), method_frame(1, "channel.close"))
    got = c.raw_frame()
    # RabbitMQ takes it for a method inside content; to close would be as right.
    true(got.name == "channel.close-ok" or got.name == "connection.close"
         and got.reply_code == 505, got)


@case(needs=["LEPUS_PID"], alone=True)
def announced_body_that_does_not_come_takes_no_memory(t):
    def resident_kib():
        with open(f"/proc/{amqp.os.environ['LEPUS_PID']}/status", encoding="ascii") as f:
            return int(f.read().split("VmRSS:")[1].split()[0])
    c = t.open()
    for number in range(2, 101):
        c.channel(number)
    before = resident_kib()
    for number in range(1, 101):
        c.cast(number, "basic.publish", exchange="", routing_key="x")
        c.send(header_frame(number, 100 << 20), frame(BODY, number, b"abc"))
    other = t.open()
    other.call(1, "basic.qos")
    c.channel(101)
    grown = resident_kib() - before
    true(grown < 16384, f"{grown} KiB for 100 bodies of 3 octets")


# ---- arguments ----

def cut(name):
    return frame(METHOD, 1, method(name)[:-2])


_CODE = (501, 502)
hard("octets behind the last field are refused", [frame(METHOD, 1, method("basic.qos") + b"zz")],
     _CODE, about="basic.qos")
hard("missing fields are refused", [cut("queue.declare")], _CODE, about="queue.declare")
hard("method without any field is refused", [frame(METHOD, 1, b"\0\x32\0\x0a")], _CODE,
     about="queue.declare")
hard("short string cut short is refused", [frame(METHOD, 1, b"\0\x32\0\x0a\0\0\x20ab")], _CODE,
     about="queue.declare")
hard("table longer than the frame is refused",
     [frame(METHOD, 1, b"\0\x32\0\x0a\0\0\1q\x10\0\0\0\xff\1at\1")], _CODE, about="queue.declare")
hard("short string that is not utf 8 is refused",
     [method_frame(1, "queue.declare", queue=b"\xff\xfe", exclusive=1)], 501,
     "FRAME_ERROR - Malformed UTF-8 in shortstr")

# RabbitMQ drops the connection at a malformed table, for want of a clause.
for _name, _raw in (("an unknown type", b"\1aZ\0"), ("a name cut short", b"\5ab"),
                    ("a name and no value", b"\1a"), ("a string too long", b"\1aS\0\0\1\0x"),
                    ("an integer cut short", b"\1aI\0\0"), ("a double cut short", b"\1ad\0\0\0\0"),
                    ("a timestamp cut short", b"\1aT\0\0\0\0\0\0\0"),
                    ("a decimal cut short", b"\1aD\1\0\0"), ("a bit cut short", b"\1at"),
                    ("a table inside too long", b"\1aF\0\0\0\x09abc"),
                    ("a bad table inside", b"\1aF\0\0\0\3\1bI"),
                    ("an array too long", b"\1aA\0\0\0\x09abc"),
                    ("a bad array element", b"\1aA\0\0\0\1Z"),
                    ("a string of four gigabytes", b"\1aS\xff\xff\xff\xffx")):
    hard(f"table with {_name} is refused",
         [method_frame(1, "queue.declare", queue="wire.malformed", exclusive=1,
                       arguments=longstr(_raw))], _CODE, about="queue.declare", oracle=False)


def taken(name, raw):
    @case
    def accepted(t):
        c = t.open()
        c.call(1, "queue.declare", queue=t.name(), exclusive=1, arguments=longstr(raw))
    accepted.__name__ = f"table_with_{name}_is_taken"
    accepted.__module__ = __name__


taken("a_bit_of_2", b"\1at\2")
taken("the_same_name_twice", b"\1aI\0\0\0\1\1aI\0\0\0\2")
taken("an_empty_name", b"\0I\0\0\0\1")
taken("a_name_of_255_octets", b"\xff" + b"n" * 255 + b"V")

# ---- channels ----

refusal("channel close is told by whom it was caused",
        lambda q: method_frame(1, "basic.get", queue="wire.none"), 404,
        "NOT_FOUND - no queue 'wire.none' in vhost '/'", "basic.get", module=__name__)


@case
def channel_close_is_answered_and_the_number_reused(t):
    c = t.open()
    for _ in range(3):
        c.call(1, "channel.close", reply_code=200, reply_text="enough")
        c.call(1, "channel.open")


@case
def channel_numbers_up_to_channel_max_may_be_used(t):
    c = t.connect(channel_max=2047)
    for number in (2047, 1, 1000):
        c.channel(number)


@case
def what_follows_an_error_of_a_channel_is_discarded(t):
    c = t.open()
    q = t.queue(c, exclusive=0)
    c.send(method_frame(1, "queue.declare", queue="wire.none", passive=1),
           amqp.publish(1, "", q, "late"), method_frame(1, "basic.qos", prefetch_size=5),
           method_frame(1, "queue.delete", queue=q), method_frame(1, "basic.ack", delivery_tag=9),
           method_frame(1, "tx.commit"))
    c.expect_channel_close(1, 404)
    c.quiet(1, q, messages=0)


@case
def content_that_comes_after_the_channel_failed_is_discarded(t):
    c = t.open()
    q = t.queue(c)
    c.send(amqp.publish(1, "wire.none", "x", "body"), amqp.publish(1, "", q, b"x" * 300000))
    c.expect(1, "channel.close")
    c.cast(1, "basic.publish", exchange="", routing_key=q)
    c.send(header_frame(1, 6), frame(BODY, 1, b"abc"))
    c.channel(2)
    c.send(frame(BODY, 1, b"def"), method_frame(1, "channel.close-ok"))
    c.call(1, "channel.open")
    c.quiet(1, q, messages=0)


@case
def closes_that_cross_are_both_answered(t):
    c = t.open()
    c.send(method_frame(1, "basic.get", queue="wire.none"),
           method_frame(1, "channel.close", reply_code=200))
    c.expect(1, "channel.close")
    c.expect(1, "channel.close-ok")
    c.cast(1, "channel.close-ok")
    c.call(1, "channel.open")


@case
def error_of_one_channel_does_not_harm_another(t):
    c = t.open()
    c.channel(2)
    q = t.queue(c, channel=2)
    c.call(2, "basic.consume", queue=q, consumer_tag="c", no_ack=1)
    c.send(method_frame(1, "basic.get", queue="wire.none"), amqp.publish(2, "", q, "one"))
    c.expect_channel_close(1, 404)
    c.expect(2, "basic.deliver", body=b"one")
    c.publish(2, "", q, "two")
    c.expect(2, "basic.deliver", body=b"two", delivery_tag=2)


@case
def channel_flow_on_is_answered(t):
    c = t.open()
    c.cast(1, "channel.flow", active=1)
    c.expect(1, "channel.flow-ok", active=True)


@case
def access_request_is_answered_with_ticket_1(t):
    c = t.open()
    c.cast(1, "access.request", realm="/data", passive=1, active=1, write=1, read=1)
    c.expect(1, "access.request-ok", ticket=1)


@case
def methods_may_be_pipelined(t):
    c = t.connect()
    q = t.name()
    c.send(method_frame(1, "channel.open"),
           method_frame(1, "queue.declare", queue=q, exclusive=1),
           amqp.publish(1, "", q, "one"), method_frame(1, "basic.get", queue=q, no_ack=1),
           method_frame(1, "queue.purge", queue=q), method_frame(1, "queue.delete", queue=q),
           method_frame(1, "channel.close", reply_code=200))
    c.expect(1, "channel.open-ok")
    c.expect(1, "queue.declare-ok", queue=q)
    c.expect(1, "basic.get-ok", body=b"one")
    c.expect(1, "queue.purge-ok", message_count=0)
    c.expect(1, "queue.delete-ok", message_count=0)
    c.expect(1, "channel.close-ok")
