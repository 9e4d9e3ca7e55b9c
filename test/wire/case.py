"""case: what a case is, and what it is given.

A file test_<area>.py holds cases: functions marked @case, named by the behaviour they pin down,
that take a Bench. A case opens its own connections and uses names of its own, so that cases may run
at the same time and in any order; what it left behind is removed by its Bench.
"""

import itertools
import os

import amqp
from amqp import ORACLE

CASES = []
_numbers = itertools.count(1)


def case(function=None, *, oracle=True, needs=(), alone=False):
    """oracle=False: RabbitMQ 3.10 answers otherwise, and it is said there why we do not.
    needs: names of environment variables without which the case cannot be put.
    alone: measures, so that nothing else may run meanwhile."""
    def mark(f):
        f.is_runnable = (oracle or ORACLE != "rabbitmq") and all(os.environ.get(n) for n in needs)
        f.is_alone = alone
        CASES.append(f)
        return f
    return mark if function is None else mark(function)


class Bench:
    """The connections and names of one case."""

    def __init__(self):
        self.connections = []
        self.names = []

    def raw(self, **options):
        """A socket, no handshake."""
        c = amqp.Connection(**options)
        self.connections.append(c)
        return c

    def connect(self, **options):
        """An open connection."""
        return self.raw().handshake(**options)

    def open(self, **options):
        """An open connection with channel 1 open."""
        c = self.connect(**options)
        c.channel()
        return c

    def name(self, what="q"):
        """A name that nothing else has; queue or exchange, it is deleted after the case."""
        name = f"wire.{os.getpid()}.{next(_numbers)}.{what}"
        self.names.append(name)
        return name

    def queue(self, c, channel=1, name=None, **fields):
        """Declares a queue: exclusive unless told otherwise."""
        name = self.name() if name is None else name
        return c.call(channel, "queue.declare", queue=name, **{"exclusive": 1, **fields}).queue

    def exchange(self, c, type="direct", channel=1, name=None, **fields):  # noqa: A002
        name = self.name("x") if name is None else name
        c.call(channel, "exchange.declare", exchange=name, type=type, **fields)
        return name

    def bind(self, c, queue, exchange, key="", arguments=(), channel=1):
        c.call(channel, "queue.bind", queue=queue, exchange=exchange, routing_key=key,
               arguments=dict(arguments))

    def finish(self):
        for c in self.connections:
            c.abandon()
        if self.names:
            c = amqp.Connection().handshake()
            c.channel()
            for name in self.names:
                c.cast(1, "exchange.delete", exchange=name, no_wait=1)
            # An exclusive queue may outlive its connection by a moment, and be locked so long.
            c.expect_nothing(1)
            for name in self.names:
                c.cast(1, "queue.delete", queue=name)
                if c.next(1).name == "channel.close":
                    c.cast(1, "channel.close-ok")
                    c.call(1, "channel.open")
            c.close()


def equal(have, want, what=""):
    if have != want:
        raise amqp.Failure(f"{what or 'value'} is {have!r}, expected {want!r}")


def true(condition, what):
    if not condition:
        raise amqp.Failure(what)


def refusal(title, doing, code, text=None, about=None, *, setup=(), closes="channel", **how):
    """A case out of a row: open channel 1 with a queue of our own, call setup's methods, do it, and
    be refused. doing(q) gives frames; so may setup's rows be functions of q. "@" stands for the
    queue's name in text."""
    def refused(t):
        c = t.open()
        q = t.queue(c)
        for step in setup:
            name, fields = step(q) if callable(step) else step
            c.call(1, name, **fields)
        c.send(doing(q))
        want = text and text.replace("@", q)
        if closes == "channel":
            c.expect_channel_close(1, code, want, about)
        else:
            c.expect_close(code, want, about)
    refused.__name__ = title.replace(" ", "_")
    refused.__module__ = how.pop("module")
    return case(refused, **how)
