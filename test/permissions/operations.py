"""operations: what each method must be allowed to do, row by row. A row's user who has all that it
needs may; one for whom any single permission is missing hears which."""

import re

import pika

from harness import (ALL, Server, case_of_workers, definitions, equal, permission, refusal, topic,
                     user)

KINDS = ("configure", "write", "read")
DLX = {"x-dead-letter-exchange": "dlx"}

# What is there before each try; boss makes it anew.
EXCHANGES = {"x": "direct", "d": "fanout", "h": "headers", "dlx": "fanout", "ae": "fanout"}


def prepare(ch):
    ch.exchange_delete("new")
    for name in ("new", "q", "lettered"):
        ch.queue_delete(name)
    for name, kind in EXCHANGES.items():
        ch.exchange_declare(name, kind)
    ch.queue_declare("q")
    ch.queue_declare("lettered", arguments=DLX)


def publish(exchange, key, **properties):
    def operation(ch):
        ch.confirm_delivery()
        ch.basic_publish(exchange, key, b"x", pika.BasicProperties(**properties))
    return operation


def publish_in_tx(ch):
    ch.tx_select()
    ch.basic_publish("x", "k", b"x")
    ch.tx_commit()


def reply_to_itself(ch):
    address = []
    ch.basic_consume("amq.rabbitmq.reply-to", lambda *got: address.append(got[2].reply_to), True)
    ch.confirm_delivery()
    ch.basic_publish("", "amq.rabbitmq.reply-to." + "0" * 32, b"x")


# title, what it needs as (permission, what, name), what is done
ROWS = [
    ("declare a queue", [("configure", "queue", "new")], lambda ch: ch.queue_declare("new")),
    ("declare a queue that is there", [("configure", "queue", "q")],
     lambda ch: ch.queue_declare("q")),
    ("declare a queue passively", [], lambda ch: ch.queue_declare("q", passive=True)),
    ("declare a queue that the server names", [("configure", "queue", "amq.gen-.{22}")],
     lambda ch: ch.queue_declare("")),
    ("declare a queue with dead letters",
     [("configure", "queue", "new"), ("read", "queue", "new"), ("write", "exchange", "dlx")],
     lambda ch: ch.queue_declare("new", arguments=DLX)),
    ("declare a queue with dead letters that is there", [("configure", "queue", "lettered")],
     lambda ch: ch.queue_declare("lettered", arguments=DLX)),
    ("declare a queue with dead letters to the default exchange",
     [("configure", "queue", "new"), ("read", "queue", "new"),
      ("write", "exchange", "amq.default")],
     lambda ch: ch.queue_declare("new", arguments={"x-dead-letter-exchange": ""})),
    ("delete a queue", [("configure", "queue", "q")], lambda ch: ch.queue_delete("q")),
    ("delete a queue that is not there", [("configure", "queue", "none")],
     lambda ch: ch.queue_delete("none")),
    ("purge", [("read", "queue", "q")], lambda ch: ch.queue_purge("q")),
    ("get", [("read", "queue", "q")], lambda ch: ch.basic_get("q", auto_ack=True)),
    ("get, the name cleaned", [("read", "queue", "q")],
     lambda ch: ch.basic_get("\nq", auto_ack=True)),
    ("consume", [("read", "queue", "q")], lambda ch: ch.basic_consume("q", lambda *_: None, True)),
    ("bind a queue", [("write", "queue", "q"), ("read", "exchange", "x")],
     lambda ch: ch.queue_bind("q", "x", "k")),
    ("unbind a queue", [("write", "queue", "q"), ("read", "exchange", "x")],
     lambda ch: ch.queue_unbind("q", "x", "k")),
    ("declare an exchange", [("configure", "exchange", "new")],
     lambda ch: ch.exchange_declare("new", "topic")),
    ("declare an exchange, its name cleaned", [("configure", "exchange", "new")],
     lambda ch: ch.exchange_declare("n\r\new", "topic")),
    ("declare an exchange that is there", [("configure", "exchange", "x")],
     lambda ch: ch.exchange_declare("x", "direct")),
    ("declare an exchange passively", [], lambda ch: ch.exchange_declare("x", passive=True)),
    ("declare an exchange with an alternate",
     [("configure", "exchange", "new"), ("read", "exchange", "new"), ("write", "exchange", "ae")],
     lambda ch: ch.exchange_declare("new", arguments={"alternate-exchange": "ae"})),
    ("delete an exchange", [("configure", "exchange", "x")], lambda ch: ch.exchange_delete("x")),
    ("bind an exchange", [("write", "exchange", "d"), ("read", "exchange", "x")],
     lambda ch: ch.exchange_bind("d", "x", "k")),
    ("unbind an exchange", [("write", "exchange", "d"), ("read", "exchange", "x")],
     lambda ch: ch.exchange_unbind("d", "x", "k")),
    ("publish", [("write", "exchange", "x")], publish("x", "k")),
    ("publish to the default exchange", [("write", "exchange", "amq.default")], publish("", "q")),
    ("publish by headers", [("write", "exchange", "h")], publish("h", "", headers={"a": 1})),
    ("publish with CC", [("write", "exchange", "x")], publish("x", "k", headers={"CC": ["l"]})),
    ("publish in a transaction", [("write", "exchange", "x")], publish_in_tx),
    ("publish in a transaction with BCC", [("write", "exchange", "x")],
     lambda ch: (ch.tx_select(), publish_bcc(ch), ch.tx_commit())),
    ("reply to a channel", [("write", "exchange", "amq.default")], reply_to_itself),
    ("set a prefetch", [], lambda ch: ch.basic_qos(prefetch_count=3)),
]


def publish_bcc(ch):
    ch.basic_publish("x", "k", b"x", pika.BasicProperties(headers={"BCC": ["l"]}))


def grant(name, needs):
    patterns = {kind: "|".join(f"^{n}$" if "{" in n else f"^{re.escape(n)}$"
                               for k, _, n in needs if k == kind) for kind in KINDS}
    return permission(name, *(patterns[kind] for kind in KINDS))


@case_of_workers("each operation asks for what it needs")
def table(workers):
    tries = []  # user, operation, what it has, what is missing
    for i, (title, needs, operation) in enumerate(ROWS):
        tries.append((f"u{i}", title, operation, needs, None))
        for n, missing in enumerate(needs):
            tries.append((f"u{i}-{n}", title, operation, needs[:n] + needs[n + 1:], missing))
    document = definitions([user(t[0], t[0]) for t in tries], [grant(t[0], t[3]) for t in tries])
    with Server(workers=workers, document=document) as server:
        boss = server.connect("boss").channel()
        for name, title, operation, _, missing in tries:
            prepare(boss)
            connection = server.connect(name)
            ch = connection.channel()
            if missing is None:
                operation(ch)
            else:
                kind, what, called = missing
                code, text = refusal(operation, ch)
                equal(code, 403, title)
                pattern = re.escape(called) if "{" not in called else called
                wanted = (f"ACCESS_REFUSED - {kind} access to {what} '{pattern}' "
                          f"in vhost '/' refused for user '{name}'")
                assert re.fullmatch(wanted, text), f"{title}: {text!r}"
                assert connection.is_open
            connection.close()


@case_of_workers("without a permission nothing is told of what there is")
def nothing_is_told(workers):
    document = definitions([user("u", "u")], [permission("u", "", "", "")])
    with Server(workers=workers, document=document) as server:
        connection = server.connect("u")

        def ask(function, *args):
            ch = connection.channel()
            ch.confirm_delivery()
            return refusal(getattr(ch, function), *args)
        for function, args, text in (
                ("basic_publish", ("none", "k", b""), "write access to exchange 'none'"),
                ("basic_get", ("none",), "read access to queue 'none'"),
                ("queue_purge", ("none",), "read access to queue 'none'"),
                ("queue_bind", ("none", "none", "k"), "write access to queue 'none'")):
            equal(ask(function, *args),
                  (403, f"ACCESS_REFUSED - {text} in vhost '/' refused for user 'u'"))
        equal(ask("exchange_delete", "amq.direct")[1],
              "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed")
        connection.close()


@case_of_workers("topics: keys are asked for besides, of topic exchanges, {username} and {vhost} in it")
def topics(workers):
    document = definitions(
        [user("ann.1", "ann.1"), user("bob", "bob")],
        [permission("ann.1", *ALL), permission("bob", *ALL)],
        [topic("ann.1", "amq.topic", "^{username}\\.|^$", "^{vhost}{username}\\."),
         topic("ann.1", "amq.direct", "^$", "^$")])
    with Server(workers=workers, document=document) as server:
        connection = server.connect("ann.1")

        def ask(function, *args, **more):
            ch = connection.channel()
            ch.confirm_delivery()
            return refusal(getattr(ch, function), *args, **more)

        def refused(kind, key):
            return 403, (f"ACCESS_REFUSED - {kind} access to topic '{key}' in exchange 'amq.topic' "
                         "in vhost '/' refused for user 'ann.1'")
        ch = connection.channel()
        ch.queue_declare("q")
        ch.confirm_delivery()
        for _ in range(3):  # remembered, and not mixed up
            ch.basic_publish("amq.topic", "ann.1.x", b"")
            ch.basic_publish("amq.topic", "", b"")
            ch.basic_publish("amq.direct", "whatever", b"")
            ch.basic_publish("amq.topic", "ann.1.x", b"", cc("ann.1.y"))
            equal(ask("basic_publish", "amq.topic", "annx1.x", b""), refused("write", "annx1.x"))
            equal(ask("basic_publish", "amq.topic", "bob.x", b""), refused("write", "bob.x"))
            equal(ask("basic_publish", "amq.topic", "ann.1.x", b"", cc("ann.1.y", "bob.y")),
                  refused("write", "bob.y"))
        ch.queue_bind("q", "amq.topic", "/ann.1.#")
        ch.queue_bind("q", "amq.direct", "whatever")
        equal(ask("queue_bind", "q", "amq.topic", "ann.1.#"), refused("read", "ann.1.#"))
        equal(ask("queue_unbind", "q", "amq.topic", "#"), refused("read", "#"))
        equal(ask("exchange_bind", "amq.fanout", "amq.topic", "#"), refused("read", "#"))
        connection.close()
        connection = server.connect("bob")
        ch = connection.channel()
        ch.confirm_delivery()
        ch.basic_publish("amq.topic", "annx1.x", b"")
        ch.queue_bind("q", "amq.topic", "#")
        connection.close()


def cc(*keys):
    return pika.BasicProperties(headers={"CC": list(keys)})


@case_of_workers("user-id is the user's own, unless the user is an impersonator")
def user_id(workers):
    document = definitions([user("u", "u"), user("i", "i", tags="management,impersonator")],
                           [permission("u", *ALL), permission("i", *ALL)])
    with Server(workers=workers, document=document) as server:
        one, other = server.connect("u"), server.connect("i")
        ch, impersonator = one.channel(), other.channel()
        for c in (ch, impersonator):
            c.confirm_delivery()
        ch.basic_publish("", "q", b"", pika.BasicProperties(user_id="u"))
        impersonator.basic_publish("", "q", b"", pika.BasicProperties(user_id="u"))
        equal(refusal(ch.basic_publish, "", "q", b"", pika.BasicProperties(user_id="i")),
              (406, "PRECONDITION_FAILED - user_id property set to 'i' but authenticated user "
                    "was 'u'"))
        one.close()
        other.close()
