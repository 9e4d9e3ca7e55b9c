"""refusals: a limit is reached, the next one is refused with its text, and one that leaves makes
room."""

import pika

from harness import Raw, Server, allow_files, case, equal, has_ended, refusal, until

USERS = [{"name": "guest", "tags": "administrator", "password_hash":
          # of the password guest
          "kI3GC8u3+652gtCx+sA+muQe0A6F+7eeqJUgb6zj3YBXupYx",
          "hashing_algorithm": "rabbit_password_hashing_sha256"}]


def definitions(vhost_limits=None, user_limits=None):
    user = dict(USERS[0], limits=user_limits or {})
    document = {
        "users": [user],
        "vhosts": [{"name": "/"}, {"name": "small"}],
        "permissions": [{"user": "guest", "vhost": v, "configure": ".*", "write": ".*",
                         "read": ".*"} for v in ("/", "small")],
        "parameters": [],
    }
    if vhost_limits is not None:
        document["parameters"].append({"vhost": "small", "component": "vhost-limits",
                                       "name": "limits", "value": vhost_limits})
    return document


@case("connections of the broker: 530 for the one above, and room again when one has gone")
def connections():
    with Server("limits.connections=3") as server:
        open_ones = [server.connect() for _ in range(3)]
        equal(refusal(server.connect),
              (530, "NOT_ALLOWED - connection refused: node connection limit (3) is reached"))
        open_ones.pop().close()
        open_ones.append(until(lambda: try_to(server.connect), "room for one more"))
        for connection in open_ones:
            connection.close()


def try_to(function):
    try:
        return function()
    except pika.exceptions.AMQPError:
        return None


@case("connections of a vhost, from definitions, and changed at SIGHUP; queues of a vhost")
def vhost_limits():
    document = definitions({"max-connections": 1, "max-queues": 2})
    with Server(definitions=document) as server:
        first = server.connect("small")
        equal(refusal(server.connect, "small"),
              (530, "NOT_ALLOWED - access to vhost 'small' refused for user 'guest': "
                    "connection limit (1) is reached"))
        server.connect("/").close()
        ch = first.channel()
        ch.queue_declare("a", durable=True)
        ch.queue_declare("b", exclusive=True)
        ch.queue_declare("a", durable=True)
        equal(refusal(ch.queue_declare, "c"),
              (406, "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in vhost 'small' "
                    "(2) is reached"))
        ch = first.channel()
        ch.queue_delete("b")
        ch.queue_declare("c")
        server.define(definitions({"max-connections": -1, "max-queues": -1}))
        server.reload()
        until(lambda: try_to(lambda: server.connect("small")), "the new limits").close()
        for i in range(5):
            ch.queue_declare(f"more{i}")
        server.define(definitions({"max-connections": 0}))
        server.reload()
        until(lambda: "limit (0)" in str(try_refusal(server, "small")), "no connection at all")
        first.close()


def try_refusal(server, vhost):
    try:
        server.connect(vhost).close()
        return None
    except pika.exceptions.AMQPError as e:
        return e


@case("limits of a vhost and of a user outlive a restart")
def durable_limits():
    document = definitions({"max-queues": 1}, {"max-connections": 2, "max-channels": 3})
    with Server(definitions=document) as server:
        server.connect().close()
        wrong = server.stop()
        equal(wrong, [])
        server.define({})
        open(server.stdout_path, "w", encoding="utf-8").close()
        server.start()
        connection = server.connect("small")
        other = server.connect("small")
        equal(refusal(server.connect),
              (530, "NOT_ALLOWED - connection refused for user 'guest': "
                    "user connection limit (2) is reached"))
        ch = connection.channel()
        ch.queue_declare("only")
        equal(refusal(ch.queue_declare, "second")[0], 406)
        other.channel(), other.channel(), other.channel()
        equal(refusal(other.channel),
              (530, "NOT_ALLOWED - number of channels opened for user 'guest' has reached the "
                    "maximum allowed user limit of (3)"))
        connection.close()


@case("channels: of a user, of the broker; those that are closed count no more")
def channels():
    with Server("limits.channels=4",
                definitions=definitions(user_limits={"max-channels": 6})) as server:
        one, other = server.connect(), server.connect()
        for _ in range(20):
            one.channel().close()
        held = [one.channel() for _ in range(3)]
        other.channel()
        equal(refusal(other.channel),
              (530, "NOT_ALLOWED - number of channels opened on the node has reached the maximum "
                    "allowed limit of (4)"))
        # the connection ended, and its channel with it
        other = server.connect()
        other.channel()
        assert all(ch.is_open for ch in held)
        one.close(), other.close()


@case("consumers of a channel: 530")
def consumers():
    with Server("limits.consumers_per_channel=2") as server:
        connection = server.connect()
        ch = connection.channel()
        ch.queue_declare("q")
        tags = [ch.basic_consume("q", lambda *_: None) for _ in range(2)]
        ch.basic_cancel(tags[0])
        ch.basic_consume("q", lambda *_: None)
        connection.channel().basic_consume("q", lambda *_: None)
        equal(refusal(ch.basic_consume, "q", lambda *_: None),
              (530, "NOT_ALLOWED - reached maximum (2) of consumers per channel"))


@case("queues of every vhost, and bindings of an exchange: 406, and what is there is found")
def queues_and_bindings():
    with Server("limits.queues_per_vhost=3", "limits.bindings_per_exchange=2") as server:
        connection = server.connect()
        ch = connection.channel()
        for name in ("a", "b", "c"):
            ch.queue_declare(name)
        equal(refusal(ch.queue_declare, ""),
              (406, refused_name_cut(refusal(connection.channel().queue_declare, ""))))
        ch = connection.channel()
        for key in ("1", "2", "2"):
            ch.queue_bind("a", "amq.topic", key)
        equal(refusal(ch.queue_bind, "a", "amq.topic", "3"),
              (406, "PRECONDITION_FAILED - cannot bind to exchange 'amq.topic' in vhost '/': "
                    "binding limit of an exchange (2) is reached"))
        ch = connection.channel()
        ch.queue_bind("a", "amq.topic", "2")
        ch.queue_unbind("a", "amq.topic", "2")
        ch.queue_bind("a", "amq.topic", "3")
        ch.queue_delete("a")
        ch.queue_declare("d")
        for key in ("1", "2"):
            ch.queue_bind("d", "amq.topic", key)
        connection.close()


def refused_name_cut(have):
    """The server's names differ each time."""
    text = have[1]
    assert text.startswith("PRECONDITION_FAILED - cannot declare queue 'amq.gen-"), text
    assert text.endswith("': queue limit in vhost '/' (3) is reached"), text
    return AnyText()


class AnyText:
    def __eq__(self, other):
        return isinstance(other, str)


@case("sockets: one above the limit is closed as it comes, the others work, and room comes back")
def sockets():
    allow_files()
    with Server("limits.sockets=20") as server:
        working = server.connect()
        idle = []
        for _ in range(19):
            idle.append(Raw(server))
            idle[-1].method(10, 41)
        above = [server.socket() for _ in range(10)]
        until(lambda: all(has_ended(s) for s in above), "those above the limit are closed")
        assert not any(has_ended(raw.socket) for raw in idle)
        server.log_has("20 sockets, as many as may be: turning connections away")
        working.channel().queue_declare("q")
        for raw in idle:
            raw.socket.close()
        until(lambda: try_to(server.connect), "room again").close()
        working.close()
