"""The protocol header, start, SASL, tune, open and close of a connection."""

import re
import time

import amqp
from amqp import HEADER_091, T, method_frame
from case import ORACLE, case, equal, true

REFUSED = "ACCESS_REFUSED - Login was refused using authentication mechanism {}. " \
          "For details see the broker logfile."
CAN_FAIL = {"capabilities": {"authentication_failure_close": True}}


def wrong_header(name, octets):
    def answered(t):
        c = t.raw()
        c.send(octets)
        equal(c.rest(), HEADER_091)
    answered.__name__ = f"{name}_header_is_answered_with_ours_and_closed"
    answered.__module__ = __name__
    case(answered)


for _name, _octets in (("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                       ("tls", bytes.fromhex("16030102000100") + b"x" * 20),
                       ("amqp_1_0", b"AMQP\x00\x01\x00\x00"),
                       ("amqp_1_0_sasl", b"AMQP\x03\x01\x00\x00"),
                       ("amqp_0_10", b"AMQP\x01\x01\x00\x0a"),
                       ("amqp_0_9_2", b"AMQP\x00\x00\x09\x02"),
                       ("misspelt", b"AMQX\x00\x00\x09\x01"),
                       ("zero", b"\0" * 8)):
    wrong_header(_name, _octets)


@case
def amqp_0_9_header_is_accepted(t):
    c = t.raw()
    c.send(b"AMQP\x01\x01\x00\x09")
    start = c.expect(0, "connection.start")
    equal((start.version_major, start.version_minor), (0, 9))
    c.login()
    c.expect(0, "connection.tune")


@case
def header_may_come_octet_by_octet(t):
    c = t.raw()
    for at in range(8):
        c.send(HEADER_091[at:at + 1])
        time.sleep(0.01)  # so that they travel apart, which is what is tried
    c.expect(0, "connection.start")


@case
def partial_header_is_waited_for(t):
    c = t.raw()
    c.send(HEADER_091[:7])
    try:
        c.octets(1, 0.3)
    except amqp.Closed:
        raise
    except amqp.Failure:
        pass  # nothing came
    else:
        true(False, "answered before the header was whole")
    c.send(HEADER_091[7:])
    c.expect(0, "connection.start")


@case
def half_closed_amid_the_header_is_closed(t):
    c = t.raw()
    c.send(HEADER_091[:5])
    c.sock.shutdown(1)
    equal(c.rest(), b"")


@case
def whole_handshake_may_be_pipelined(t):
    c = t.raw()
    c.send(HEADER_091,
           method_frame(0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest",
                        locale="en_US"),
           method_frame(0, "connection.tune-ok", channel_max=100, frame_max=8192, heartbeat=0),
           method_frame(0, "connection.open", virtual_host="/"),
           method_frame(1, "channel.open"))
    c.expect(0, "connection.start")
    c.expect(0, "connection.tune")
    c.expect(0, "connection.open-ok")
    c.expect(1, "channel.open-ok")


def started(t):
    c = t.raw()
    c.send(HEADER_091)
    c.start = c.expect(0, "connection.start")
    return c


@case
def start_tells_server_properties(t):
    start = started(t).start
    equal((start.version_major, start.version_minor), (0, 9))
    properties = start.server_properties
    strings = {k: v for k, v in properties.items() if k != "capabilities"}
    want = {"product", "version", "platform", "cluster_name", "copyright", "information"}
    if ORACLE != "rabbitmq":
        want.add("lepus_version")
    true(want <= set(strings), f"{want - set(strings)} missing")
    true(all(v.tag == "S" for v in strings.values()), f"not all long strings: {strings}")
    true(all(v.value for v in strings.values()), f"empty: {strings}")
    equal(properties["product"].value, b"RabbitMQ")
    version = properties["version"].value.decode()
    true(re.fullmatch(r"3\.10\.\d+" if ORACLE == "rabbitmq" else r"3\.13\.\d+", version), version)


@case
def start_tells_exactly_the_capabilities_of_rabbitmq(t):
    capabilities = started(t).start.server_properties["capabilities"]
    equal(capabilities.tag, "F")
    equal(capabilities.value, {name: T("t", True) for name in (
        "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
        "connection.blocked", "consumer_priorities", "authentication_failure_close",
        "per_consumer_qos", "direct_reply_to")})


@case
def start_offers_plain_and_amqplain_and_one_locale(t):
    start = started(t).start
    equal(start.mechanisms, b"PLAIN AMQPLAIN")
    equal(start.locales, b"en_US")


def start_ok(c, mechanism, response, client_properties=(), locale="en_US"):
    c.cast(0, "connection.start-ok", mechanism=mechanism, response=response, locale=locale,
           client_properties=dict(client_properties))


@case
def plain_logs_in(t):
    c = started(t)
    start_ok(c, "PLAIN", b"\0guest\0guest")
    c.expect(0, "connection.tune")


@case
def amqplain_logs_in(t):
    c = started(t)
    start_ok(c, "AMQPLAIN", amqp.table_body({"LOGIN": "guest", "PASSWORD": "guest"}))
    c.expect(0, "connection.tune")


@case
def amqplain_takes_keys_in_any_order_and_others_besides(t):
    c = started(t)
    start_ok(c, "AMQPLAIN", amqp.table_body({"PASSWORD": "guest", "x": 1, "LOGIN": "guest"}))
    c.expect(0, "connection.tune")


@case
def any_locale_is_taken(t):
    c = started(t)
    start_ok(c, "PLAIN", b"\0guest\0guest", locale="de_DE")
    c.expect(0, "connection.tune")


@case
def capabilities_that_are_no_table_are_ignored(t):
    c = started(t)
    start_ok(c, "PLAIN", b"\0guest\0guest", {"capabilities": 5})
    c.expect(0, "connection.tune")


@case
def heartbeat_before_start_ok_is_let_pass(t):
    c = started(t)
    c.send(amqp.HEARTBEAT_FRAME)
    start_ok(c, "PLAIN", b"\0guest\0guest")
    c.expect(0, "connection.tune")


@case
def start_ok_of_sixteen_kib_is_taken(t):
    c = started(t)
    start_ok(c, "PLAIN", b"\0guest\0guest", {"token": "x" * 16384})
    c.expect(0, "connection.tune")


start_ok_of_sixteen_kib_is_taken.is_runnable = ORACLE != "rabbitmq"  # 3.10 takes 4096 octets


def wrong_login(name, mechanism, response):
    @case
    def told(t):
        c = started(t)
        start_ok(c, mechanism, response, CAN_FAIL)
        c.expect_close(403, REFUSED.format(mechanism), (0, 0))
    told.__name__ = f"{name}_is_told_403_with_the_capability"
    told.__module__ = __name__


wrong_login("plain_wrong_password", "PLAIN", b"\0guest\0wrong")
wrong_login("plain_empty_password", "PLAIN", b"\0guest\0")
wrong_login("plain_unknown_user", "PLAIN", b"\0nobody\0guest")
wrong_login("amqplain_wrong_password", "AMQPLAIN",
            amqp.table_body({"LOGIN": "guest", "PASSWORD": "wrong"}))


def dropped(name, mechanism, response, client_properties):
    @case
    def dropped_silently(t):
        c = started(t)
        start_ok(c, mechanism, response, client_properties)
        equal(c.rest(), b"")
    dropped_silently.__name__ = f"{name}_is_dropped_without_a_word"
    dropped_silently.__module__ = __name__


dropped("wrong_password_without_the_capability", "PLAIN", b"\0guest\0wrong", {})
dropped("unknown_mechanism", "GSSAPI", b"\0guest\0guest", CAN_FAIL)
dropped("mechanism_in_lower_case", "plain", b"\0guest\0guest", CAN_FAIL)


def not_logged_in(name, mechanism, response):
    """RabbitMQ drops these; to say 403 or 502 would be as right. None may log in."""
    @case
    def refused(t):
        c = started(t)
        start_ok(c, mechanism, response, CAN_FAIL)
        got = c.raw_frame()
        true(got is None or got.name == "connection.close", got)
    refused.__name__ = f"{name}_does_not_log_in"
    refused.__module__ = __name__


not_logged_in("plain_without_nul", "PLAIN", b"guest")
not_logged_in("plain_of_nothing", "PLAIN", b"")
not_logged_in("plain_with_one_nul", "PLAIN", b"\0guest")
not_logged_in("amqplain_without_login", "AMQPLAIN", amqp.table_body({"PASSWORD": "guest"}))
not_logged_in("amqplain_of_garbage", "AMQPLAIN", b"garbage")
not_logged_in("amqplain_with_numbers", "AMQPLAIN", amqp.table_body({"LOGIN": 1, "PASSWORD": 2}))


# ---- tune ----

def logged_in(t):
    c = started(t)
    c.login()
    c.tune = c.expect(0, "connection.tune")
    return c


@case
def tune_offers_2047_channels_128_kib_frames_and_60_s(t):
    tune = logged_in(t).tune
    equal((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131072, 60))


def tuned(name, channel_max, frame_max, heartbeat=0):
    @case
    def accepted(t):
        c = logged_in(t)
        c.cast(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max,
               heartbeat=heartbeat)
        c.cast(0, "connection.open", virtual_host="/")
        c.expect(0, "connection.open-ok")
        c.channel()
    accepted.__name__ = f"tune_ok_{name}_is_accepted"
    accepted.__module__ = __name__


tuned("as_offered", 2047, 131072, 60)
tuned("with_frame_max_4096", 2047, 4096)
tuned("with_one_channel", 1, 131072)
tuned("with_a_longer_heartbeat", 2047, 131072, 65535)


def refused_tune(name, text, channel_max=2047, frame_max=131072):
    # RabbitMQ has the same texts, but for its log alone: it drops whoever is not open yet.
    def refused(t):
        c = logged_in(t)
        c.cast(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max)
        c.cast(0, "connection.open", virtual_host="/")
        if ORACLE == "rabbitmq":
            equal(c.rest(), b"")
        else:
            c.expect_close(530, text and "NOT_ALLOWED - " + text)
    refused.__name__ = f"tune_ok_{name}_is_refused"
    refused.__module__ = __name__
    case(refused)


refused_tune("with_more_channels", "negotiated channel_max = 2048 is higher than the maximum allowed "
             "value (2047)", channel_max=2048)
refused_tune("with_larger_frames", "negotiated frame_max = 131073 is higher than the maximum "
             "allowed value (131072)", frame_max=131073)
refused_tune("with_channels_without_limit", None, channel_max=0)
refused_tune("with_frames_without_limit", None, frame_max=0)
refused_tune("with_frame_max_4095", None, frame_max=4095)


def out_of_order(name, *sent):
    """Not one of these may lead anywhere. RabbitMQ drops the connection."""
    @case
    def refused(t):
        c = started(t)
        c.send(*sent)
        got = c.raw_frame()
        true(got is None or got.name == "connection.close", got)
    refused.__name__ = f"{name}_before_start_ok_is_refused"
    refused.__module__ = __name__


out_of_order("tune_ok", method_frame(0, "connection.tune-ok", channel_max=1, frame_max=4096))
out_of_order("open", method_frame(0, "connection.open", virtual_host="/"))
out_of_order("channel_open", method_frame(1, "channel.open"))
out_of_order("start", method_frame(0, "connection.start"))
out_of_order("body_frame", amqp.frame(amqp.BODY, 1, b"x"))
out_of_order("bad_frame_end", amqp.frame(amqp.METHOD, 0, b"\0\x0a\0\x0b", end=0))
out_of_order("frame_of_a_gigabyte", b"\x01\x00\x00\x40\x00\x00\x00")


@case
def open_before_tune_ok_is_refused(t):
    c = logged_in(t)
    c.cast(0, "connection.open", virtual_host="/")
    got = c.raw_frame()
    true(got is None or got.name == "connection.close", got)


@case
def channel_before_open_is_refused(t):
    c = logged_in(t)
    c.cast(0, "connection.tune-ok", channel_max=10, frame_max=4096)
    c.cast(1, "channel.open")
    got = c.raw_frame()
    true(got is None or got.name == "connection.close" and got.reply_code in (504, 505), got)


def no_vhost(name, vhost):
    @case
    def refused(t):
        c = logged_in(t)
        c.cast(0, "connection.tune-ok", channel_max=10, frame_max=4096)
        c.cast(0, "connection.open", virtual_host=vhost)
        c.expect_close(530, f"NOT_ALLOWED - vhost {vhost} not found", "connection.open")
    refused.__name__ = f"open_of_{name}_vhost_is_refused"
    refused.__module__ = __name__


no_vhost("an_unknown", "nope")
no_vhost("an_empty", "")
no_vhost("a_misspelt", "//")


@case
def open_twice_is_refused(t):
    c = t.connect()
    c.cast(0, "connection.open", virtual_host="/")
    got = c.expect(0, "connection.close")
    true(got.reply_code in (503, 504), got)
    equal((got.class_id, got.method_id), (10, 40))


# ---- heartbeats ----

@case
def server_sends_heartbeats(t):
    c = t.connect(heartbeat=1)
    deadline = time.monotonic() + 6
    while c.heartbeats < 3:
        c.send(amqp.HEARTBEAT_FRAME)
        got = c.raw_frame(deadline - time.monotonic())
        equal(got and got.kind, amqp.HEARTBEAT, "frame")
        equal((got.channel, got.payload), (0, b""))
        c.heartbeats += 1


@case
def heartbeat_zero_means_none(t):
    c = t.connect(heartbeat=0)
    try:
        got = c.raw_frame(2.5)
    except amqp.Failure:
        return
    true(False, f"expected silence, got {got}")


@case
def silent_client_is_closed_after_two_misses(t):
    c = t.connect(heartbeat=1)
    began = time.monotonic()
    while True:
        got = c.raw_frame(8)
        if got is None:
            break
        equal(got.kind, amqp.HEARTBEAT)
    took = time.monotonic() - began
    true(0.9 <= took <= 6, f"closed after {took:.1f} s")


@case
def any_traffic_counts_as_a_heartbeat(t):
    c = t.connect(heartbeat=1)
    c.channel()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        c.call(1, "basic.qos")
        time.sleep(0.4)  # the pace of the traffic that is tried
    c.call(1, "basic.qos")


@case
def unfinished_frame_that_keeps_coming_counts_as_traffic(t):
    c = t.open(heartbeat=1)
    q = t.queue(c)
    frames = amqp.publish(1, "", q, b"x" * 40)
    step = len(frames) // 10
    for at in range(0, len(frames), step):
        c.send(frames[at:at + step])
        time.sleep(0.4)
    c.quiet(1, q, messages=1)


# ---- close ----

@case
def connection_close_is_answered_and_the_socket_closed(t):
    t.connect().close()


@case
def connection_close_ends_open_channels(t):
    c = t.open()
    c.channel()
    c.close()


@case
def connection_close_amid_content_is_answered(t):
    c = t.open()
    c.cast(1, "basic.publish", exchange="", routing_key="x")
    c.send(amqp.header_frame(1, 10), amqp.frame(amqp.BODY, 1, b"abc"))
    c.close()


@case
def what_follows_connection_close_is_ignored(t):
    c = t.open()
    q = t.queue(c, exclusive=0)
    c.send(method_frame(0, "connection.close", reply_code=200, reply_text="bye"),
           amqp.publish(1, "", q, "late"))
    c.expect(0, "connection.close-ok")
    c.hang_up()
    other = t.open()
    other.quiet(1, q, messages=0)


@case
def what_follows_an_error_of_the_connection_is_ignored(t):
    c = t.open()
    q = t.queue(c, exclusive=0)
    c.send(method_frame(1, "basic.qos", prefetch_size=1), amqp.publish(1, "", q, "late"))
    c.expect_close(540)
    other = t.open()
    other.quiet(1, q, messages=0)


@case
def client_that_never_answers_close_is_closed(t):
    c = t.open()
    c.cast(1, "basic.qos", prefetch_size=1)
    c.expect(0, "connection.close")
    c.sock.shutdown(1)
    equal(c.rest(), b"")


@case
def update_secret_is_answered(t):
    c = t.connect()
    c.call(0, "connection.update-secret", new_secret="guest", reason="it is time")
    c.channel()
