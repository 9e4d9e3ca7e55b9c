"""changes: permissions change under open channels, and outlive what befalls the broker."""

import pika

from harness import (ALL, LOGIN_REFUSED, Server, case, case_of_workers, definitions, equal,
                     permission, refusal, topic, user)


def users(*permissions, topics=()):
    return definitions([user("u", "u"), user("v", "v")], permissions, topics)


def refused(kind, what, name):
    return 403, (f"ACCESS_REFUSED - {kind} access to {what} '{name}' in vhost '/' "
                 "refused for user 'u'")


def try_all(server, connections):
    """What the user u hears to each of these on channels of open connections; None: nothing."""
    def ask(i, function, *args):
        connection = connections[i % len(connections)]
        ch = connection.channel()
        ch.confirm_delivery()
        try:
            getattr(ch, function)(*args)
        except pika.exceptions.ChannelClosedByBroker as e:
            return e.reply_code, e.reply_text
        ch.close()
        return None
    return [ask(0, "basic_publish", "amq.topic", "a.b", b"x"),
            ask(1, "basic_publish", "", "q", b"x"),
            ask(2, "basic_get", "q", True),
            ask(3, "queue_declare", "q")]


@case_of_workers("what is taken away is gone with the next method, and comes back")
def open_channels(workers):
    everything = users(permission("u", *ALL), permission("v", *ALL))
    nothing = users(permission("u", "", "", ""), permission("v", *ALL))
    one_key = users(permission("u", *ALL), permission("v", *ALL),
                    topics=[topic("u", "amq.topic", "^c", "")])
    with Server(workers=workers, document=everything) as server:
        connections = [server.connect("u") for _ in range(4)]
        kept = [c.channel() for c in connections]  # their routes are remembered
        other = server.connect("v")
        beside = other.channel()
        beside.queue_declare("q")
        for ch in (*kept, beside):
            ch.confirm_delivery()
        for n in range(3):
            for ch in (*kept, beside):
                for _ in range(3):
                    ch.basic_publish("", "q", b"x")
            equal(try_all(server, connections), [None] * 4)
            server.redefine(nothing)
            for ch in kept:
                equal(refusal(ch.basic_publish, "", "q", b"x"),
                      refused("write", "exchange", "amq.default"))
            beside.basic_publish("", "q", b"x")
            equal(try_all(server, connections), [
                refused("write", "exchange", "amq.topic"),
                refused("write", "exchange", "amq.default"),
                refused("read", "queue", "q"),
                refused("configure", "queue", "q")])
            server.redefine(everything)
            kept = [c.channel() for c in connections]
            for ch in kept:
                ch.confirm_delivery()
        server.redefine(one_key)
        equal(try_all(server, connections), [
            (403, "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'amq.topic' in vhost "
                  "'/' refused for user 'u'"), None, None, None])
        for c in (*connections, other):
            c.close()


@case_of_workers("a transaction commits what was allowed when it was published")
def transactions(workers):
    everything, nothing = users(permission("u", *ALL)), users(permission("u", "", "", ""))
    with Server(workers=workers, document=everything) as server:
        connection, boss = server.connect("u"), server.connect("boss")
        ch = connection.channel()
        ch.queue_declare("q")
        ch.tx_select()
        for _ in range(3):
            ch.basic_publish("", "q", b"x")
        ch.queue_declare("q", passive=True)  # they have come
        server.redefine(nothing)
        ch.tx_commit()
        equal(boss.channel().queue_declare("q", passive=True).method.message_count, 3)
        ch.basic_publish("", "q", b"x")
        equal(refusal(ch.tx_commit), refused("write", "exchange", "amq.default"))
        connection.close()
        boss.close()


@case_of_workers("one user's remembered routes are not another's")
def two_users(workers):
    document = users(permission("u", "", "^x$", ""), permission("v", *ALL))
    with Server(workers=workers, document=document) as server:
        one, other = server.connect("u"), server.connect("v")
        allowed = other.channel()
        allowed.confirm_delivery()
        allowed.queue_declare("q")
        for _ in range(3):
            allowed.basic_publish("", "q", b"x")
            ch = one.channel()
            ch.confirm_delivery()
            equal(refusal(ch.basic_publish, "", "q", b"x"),
                  refused("write", "exchange", "amq.default"))
        one.close()
        other.close()


@case_of_workers("passwords change at once, and who is logged in stays")
def passwords(workers):
    with Server(workers=workers, document=users(permission("u", *ALL))) as server:
        before = server.connect("u")
        changed = users(permission("u", *ALL))
        changed["users"][1] = user("u", "other", "sha512")
        server.redefine(changed)
        equal(refusal(server.connect, "u"), LOGIN_REFUSED)
        server.connect("u", "other").close()
        before.channel().queue_declare("q")
        before.close()


@case("users and permissions outlive a restart and sigkill")
def restarts():
    document = users(permission("u", "^c", "^w", "^r"), topics=[topic("u", "amq.topic", "^a", "")])
    with Server(document=users(permission("u", *ALL))) as server:
        server.redefine(document)
        server.define({})
        for end in (server.kill, server.stop):
            server.again(end)
            connection = server.connect("u")
            connection.channel().queue_declare("c")
            equal(refusal(connection.channel().queue_declare, "w"),
                  refused("configure", "queue", "w"))
            equal(refusal(connection.channel().basic_get, "c"), refused("read", "queue", "c"))
            connection.close()
            equal(refusal(server.connect, "guest"), LOGIN_REFUSED)


@case("rules that are none are errors of the definitions, and change nothing")
def broken_rules():
    document = users(permission("u", *ALL))
    with Server(document=document) as server:
        server.redefine(users(permission("u", ".*", "(", ".*")))
        server.log_has(r"permissions\[1\]: invalid regular expression '\('")
        connection = server.connect("u")
        ch = connection.channel()
        ch.confirm_delivery()
        ch.basic_publish("", "q", b"x")
        connection.close()
