"""load: the work that a broker is killed at, and the look at what it kept.

The queues are the same in every round; who publishes to them and who consumes comes anew.
"""

import os
import random
import time

import amqp
from client import Actor, Loop, Peer, ack_frame, nack_frame, publish_frames
from ledger import DUE, Group, body_of, name_of

# From c.dl, one of whose consumers rejects, to c.dlx.
DEAD_ARGUMENTS = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "c.dlx"}

# exchange, routing key -> queues
ROUTES = {
    ("", "c.q0"): ("c.q0",),  # acked one by one, then a barrier
    ("", "c.q1"): ("c.q1",),  # acked many at once, in transactions
    ("", "c.q2"): ("c.q2",),  # two consumers, of which each gives some back
    ("", "c.q3"): ("c.q3",),  # nobody consumes
    ("", "c.dl"): ("c.dl",),
    ("", "c.t0"): ("c.t0",),
    ("", "c.t1"): ("c.t1",),
    ("c.fan", "any"): ("c.f0", "c.f1", "c.f2"),
    ("c.topic", "a.b"): ("c.f2", "c.t1"),
    ("c.topic", "a.c"): ("c.q3", "c.t1"),
    ("", "c.deep"): ("c.deep",),
}
STREAMS = ("c.s0", "c.s1") if "LEPUS_TOY_BUG" not in os.environ else ()  # toys have none
PLAIN = [("", "c.q0"), ("", "c.q1"), ("", "c.q2"), ("", "c.q3"), ("c.fan", "any"),
         ("c.topic", "a.c"), ("c.topic", "a.b"), ("", "c.dl")]
IN_TX = [("", "c.t0"), ("", "c.t1"), ("c.fan", "any"), ("c.topic", "a.b")]
DEEP = [("", "c.deep")]
if STREAMS:
    ROUTES |= {("", "c.s0"): ("c.s0",), ("c.mix", "any"): ("c.s0", "c.s1", "c.f1")}
    PLAIN += [("", "c.s0"), ("c.mix", "any")]
QUEUES = [*sorted({q for queues in ROUTES.values() for q in queues} - set(STREAMS)), "c.dlx"]
LIVES = ("c.l0", "c.l1")  # are declared, filled, purged, deleted
SLOTS = 12                # of each kind of definition that comes and goes

SIZES = ((0, 0, 6), (1, 15, 8), (16, 200, 50), (1000, 4000, 22), (16000, 100000, 6),
         (200000, 1 << 20, 0.4))  # from, to, how often
SMALL_SIZES = ((16, 200, 80), (1000, 4000, 20))


class Broken(Exception):
    """The broker did what no broker under this load may do."""


def draw_size(rng, sizes):
    low, high, _ = rng.choices(sizes, [s[2] for s in sizes])[0]
    return rng.randint(low, high)


class Context:
    """What the actors of a round share. `event` counts promises; it may kill the broker."""

    def __init__(self, ledger, rng, event=lambda: None, gentle=False):
        self.ledger, self.rng, self.event = ledger, rng, event
        self.gentle = gentle  # the broker may refuse: closed channels and nacks are no surprise
        self.refused = []
        self.pace = rng.choice((2, 8, 64))  # publishes a turn: the fewer, the more of the rest
        self.stopping = False  # nothing new; what is under way ends
        self.killed = False    # that connections end is no surprise now

    def lost(self, actor, why):
        if not self.killed and not self.stopping:
            self.refused.append(f"{type(actor).__name__} lost its channel: {why}")


class Sender(Actor):
    """Numbers and publishes. sent: the messages by what the broker calls them, from 1."""

    def __init__(self, context, window, routes, sizes=SIZES, transient=0.05):
        self.context, self.window, self.routes, self.sizes = context, window, routes, sizes
        self.transient = transient
        self.number = context.ledger.publisher()
        self.open = {}  # tag -> what is to be told when it is confirmed
        self.oldest = 1
        self.tag = 0

    def put(self, route, group=None, barrier=False, size=None, persistent=None):
        rng = self.context.rng
        size = draw_size(rng, self.sizes) if size is None else size
        if persistent is None:
            persistent = rng.random() >= self.transient
        queues = ROUTES.get(route) or (route[1],)
        message = self.context.ledger.sent(self.number, size, persistent, queues, group, barrier)
        self.peer.send(publish_frames(self.channel, *route, name_of(self.number), persistent,
                                      body_of(self.number, size)))
        self.number += 1
        self.tag += 1
        return message

    def settle_confirms(self, tag, multiple, told):
        tags = range(self.oldest, tag + 1) if multiple else (tag,)
        for one in tags:
            message = self.open.pop(one, None)
            if message is not None:
                told(message)
        while self.oldest <= self.tag and self.oldest not in self.open:
            self.oldest += 1

    def died(self, why):
        self.context.lost(self, why)


class Publisher(Sender):
    """Publishes with confirms, a window at a time."""

    def __init__(self, context, window, routes, limit=None, **more):
        super().__init__(context, window, routes, **more)
        self.limit = limit  # messages, then it is done
        self.nacks = 0

    def begin(self):
        self.peer.call(self.channel, "confirm.select")
        return self

    def turn(self):
        rng = self.context.rng
        for _ in range(self.context.pace):
            if (self.context.stopping or len(self.open) >= self.window
                    or self.peer.backlog() > 1 << 20
                    or (self.limit is not None and self.tag >= self.limit)):
                return
            message = self.put(rng.choice(self.routes))
            self.open[self.tag] = message

    def is_done(self):
        return self.tag == self.limit and not self.open

    def acked(self, tag, multiple):
        self.settle_confirms(tag, multiple, self.told)

    def told(self, message):
        self.context.ledger.confirmed(message)
        self.context.event()

    def nacked(self, tag, multiple):
        if not self.context.gentle:
            raise Broken(f"a publisher got a nack of {tag}")
        self.nacks += 1
        self.settle_confirms(tag, multiple, lambda message: None)


class TxPublisher(Sender):
    """Several publishes, then a commit, seldom a rollback."""

    def begin(self):
        self.peer.call(self.channel, "tx.select")
        self.group = None
        return self

    def turn(self):
        rng, ledger = self.context.rng, self.context.ledger
        if self.group is not None or self.context.stopping:
            return
        self.group = ledger.begin()
        for _ in range(rng.randint(1, self.window)):
            self.put(rng.choice(self.routes), self.group)
        if rng.random() < 0.05:
            return  # left open: it must never show
        if rng.random() < 0.1:
            self.peer.cast(self.channel, "tx.rollback")
        else:
            self.peer.cast(self.channel, "tx.commit")
            ledger.committing(self.group)

    def method(self, frame):
        if frame.name == "tx.commit-ok":
            self.context.ledger.committed(self.group)
        elif frame.name == "tx.rollback-ok":
            self.context.ledger.rolled_back(self.group)
        else:
            raise Broken(f"instead of tx.commit-ok: {frame}")
        self.context.event()
        self.group = None


class Consumer(Sender):
    """Acks in the ways there are, leaves some, gives some back; certain of its acks by barriers:
    messages to its own queue (which nobody acks before they are confirmed), or transactions."""

    def __init__(self, context, queue, style, prefetch=200):
        super().__init__(context, 0, [("", queue)], sizes=SMALL_SIZES)
        self.queue, self.style, self.prefetch = queue, style, prefetch
        self.have = {}    # delivery tag -> copy
        self.last = {}
        self.unsure = []  # acked since the last barrier
        self.group = None
        self.committing = False

    def begin(self):
        self.peer.call(self.channel, "basic.qos", prefetch_count=self.prefetch)
        self.peer.call(self.channel, "tx.select" if self.style == "tx" else "confirm.select")
        self.peer.cast(self.channel, "basic.consume", queue=self.queue, consumer_tag="c")
        return self

    def method(self, frame):
        if frame.name == "tx.commit-ok":
            self.context.ledger.committed(self.group)
            self.group, self.committing = None, False
            self.context.event()
        elif frame.name != "basic.consume-ok":
            raise Broken(f"to a consumer of {self.queue}: {frame}")

    def delivered(self, tag, redelivered, name, body):
        copy = self.context.ledger.delivered(self.queue, name, body, redelivered, self.last)
        if copy is not None:
            self.have[tag] = copy
        self.context.event()

    def may_settle(self, copy):
        return not copy.message.barrier or copy.message.state == DUE

    def turn(self):
        rng, ledger = self.context.rng, self.context.ledger
        if self.context.stopping or self.committing or len(self.have) < rng.randint(1, 60):
            return
        if self.group is None and self.style == "tx":
            self.group = ledger.begin()
        tags = [t for t, c in self.have.items() if self.may_settle(c)]
        if not tags:
            return
        if self.style in ("tx", "multiple"):
            held = min((t for t, c in self.have.items() if not self.may_settle(c)),
                       default=tags[-1] + 1)
            upto = rng.choice(tags)
            tags = [t for t in tags if t <= upto and t < held]
            if not tags:
                return
            self.peer.send(ack_frame(self.channel, tags[-1], True))
            self.settle(tags)
        else:
            for tag in rng.sample(tags, rng.randint(1, len(tags))):
                if self.style == "back" and rng.random() < 0.3:
                    self.peer.send(nack_frame(self.channel, tag, False, True))
                    ledger.requeued(self.have.pop(tag))
                elif self.style == "reject" and rng.random() < 0.5:
                    self.peer.send(nack_frame(self.channel, tag, False, False))
                    ledger.dead_lettered(self.have.pop(tag), "c.dlx")
                elif rng.random() < 0.9:  # some are left for long
                    self.peer.send(ack_frame(self.channel, tag, False))
                    self.settle((tag,))
        if self.style == "tx":
            if rng.random() < 0.5:
                ledger.committing(self.group)
                self.peer.cast(self.channel, "tx.commit")
                self.committing = True
        elif self.unsure and rng.random() < 0.3 and len(self.open) < 5:
            barrier = self.put(self.routes[0], barrier=True, persistent=True)
            self.open[self.tag] = (barrier, self.unsure)
            self.unsure = []

    def settle(self, tags):
        for tag in tags:
            copy = self.have.pop(tag)
            if self.style == "tx":
                self.group.acks.append(copy)
            else:
                self.context.ledger.acked(copy)
                self.unsure.append(copy)

    def acked(self, tag, multiple):
        self.settle_confirms(tag, multiple, self.told)

    def died(self, why):
        super().died(why)
        self.context.ledger.abandoned(
            [*self.have.values(), *self.unsure, *(self.group.acks if self.group else ()),
             *(copy for _, copies in self.open.values() for copy in copies)])

    def told(self, pair):
        message, copies = pair
        self.context.ledger.confirmed(message)
        self.context.ledger.settled(copies)
        self.context.event()

    def nacked(self, tag, multiple):
        if not self.context.gentle:
            raise Broken(f"a consumer's barrier got a nack: {tag}")
        self.settle_confirms(tag, multiple, lambda pair: self.unsure.extend(pair[1]))


class StreamReader(Actor):
    """Reads a stream from its end, and gives credit back a bit at a time."""

    def __init__(self, context, stream):
        self.context, self.stream, self.last = context, stream, {}
        self.tag = self.acked_tag = 0

    def begin(self):
        self.peer.call(self.channel, "basic.qos", prefetch_count=50)
        self.peer.cast(self.channel, "basic.consume", queue=self.stream, consumer_tag="r",
                       arguments={"x-stream-offset": "next"})
        return self

    def method(self, frame):
        if frame.name != "basic.consume-ok":
            raise Broken(f"to a reader of {self.stream}: {frame}")

    def delivered(self, tag, redelivered, name, body):
        self.tag = tag
        if redelivered:
            raise Broken(f"{self.stream} redelivers")
        self.context.ledger.delivered_by_stream(self.stream, name, body, self.last)
        self.context.event()

    def turn(self):
        if self.tag - self.acked_tag > self.context.rng.randrange(50):
            self.peer.send(ack_frame(self.channel, self.tag, True))
            self.acked_tag = self.tag

    def died(self, why):
        self.context.lost(self, why)


class Definer(Actor):
    """Declares, binds and deletes; several requests at a time, answers come in order."""

    KINDS = ("queue", "exchange", "binding", "xbinding")

    def __init__(self, context, window=8):
        self.context, self.window = context, window
        self.asked = []  # (what, is_there)

    def begin(self):
        return self

    def turn(self):
        rng = self.context.rng
        while len(self.asked) < self.window and not self.context.stopping:
            what = rng.choice(self.KINDS), f"c.def.{rng.randrange(SLOTS)}"
            if any(what == w for w, _ in self.asked):
                continue
            is_there = not self.context.ledger.definitions.get(what, False)
            self.context.ledger.defined(what, None)
            self.asked.append((what, is_there))
            method, fields = request(what, is_there)
            self.peer.cast(self.channel, method, **fields)

    def method(self, frame):
        what, is_there = self.asked.pop(0)
        expected = request(what, is_there)[0] + "-ok"
        if frame.name != expected:
            raise Broken(f"expected {expected} of {what}, got {frame}")
        self.context.ledger.defined(what, is_there)
        self.context.event()

    def died(self, why):
        self.context.lost(self, why)


QUEUE_ARGUMENTS = {"x-message-ttl": 86400000, "x-note": "kept", "x-table": {"a": [1, True, None]}}


def request(what, is_there):
    """The method that makes a definition, or takes it away."""
    kind, name = what
    if kind == "queue":
        return ("queue.declare", {"queue": name, "durable": 1, "arguments": QUEUE_ARGUMENTS}) \
            if is_there else ("queue.delete", {"queue": name})
    if kind == "exchange":
        return ("exchange.declare", {"exchange": name, "type": "topic", "durable": 1,
                                     "arguments": {"x-note": name}}) \
            if is_there else ("exchange.delete", {"exchange": name})
    if kind == "binding":
        return ("queue.bind" if is_there else "queue.unbind",
                {"queue": "c.probe", "exchange": "c.direct", "routing_key": name,
                 "arguments": {"x-n": 5}})
    return ("exchange.bind" if is_there else "exchange.unbind",
            {"destination": "c.probes", "source": "c.direct", "routing_key": "x" + name})


class Liver(Sender):
    """A queue's lives: declared, published to, perhaps purged, deleted. What was in a life that is
    over must not be in the next. Also a binding that goes with the queue."""

    def __init__(self, context, queue):
        super().__init__(context, 0, [("", queue)], sizes=SMALL_SIZES, transient=0)
        self.queue, self.step, self.waits = queue, self.declare, False
        self.purged, self.deleted = [], []

    def begin(self):
        self.peer.call(self.channel, "confirm.select")
        return self

    def turn(self):
        if not self.waits and not self.context.stopping:
            self.waits = True
            self.step()

    def then(self, step):
        self.step, self.waits = step, False
        self.context.event()

    def declare(self):
        self.context.ledger.defined(("queue", self.queue), None)
        self.peer.cast(self.channel, "queue.declare", queue=self.queue, durable=1)

    def bind(self):
        self.context.ledger.defined(("binding", self.queue), None)
        self.peer.cast(self.channel, "queue.bind", queue=self.queue, exchange="c.direct",
                       routing_key=self.queue)

    def fill(self):
        for _ in range(self.context.rng.randint(1, 20)):
            message = self.put(self.routes[0])
            self.open[self.tag] = message

    def purge(self):
        self.purged = self.context.ledger.purging(self.queue)
        self.peer.cast(self.channel, "queue.purge", queue=self.queue)

    def delete(self):
        self.context.ledger.defined(("queue", self.queue), None)
        self.context.ledger.defined(("binding", self.queue), None)
        self.deleted = self.context.ledger.purging(self.queue)
        self.peer.cast(self.channel, "queue.delete", queue=self.queue)

    def acked(self, tag, multiple):
        self.settle_confirms(tag, multiple, self.context.ledger.confirmed)
        if not self.open:
            self.context.ledger.settled(self.purged)  # a confirm behind a purge
            self.purged = []
            self.then(self.context.rng.choice((self.fill, self.purge, self.delete)))

    def nacked(self, tag, multiple):
        if not self.context.gentle:
            raise Broken(f"{self.queue}: a nack of {tag}")
        self.settle_confirms(tag, multiple, lambda message: None)
        if not self.open:
            self.then(self.fill)

    def method(self, frame):
        ledger = self.context.ledger
        if frame.name == "queue.declare-ok":
            ledger.defined(("queue", self.queue), True)
            self.then(self.bind)
        elif frame.name == "queue.bind-ok":
            ledger.defined(("binding", self.queue), True)
            self.then(self.fill)
        elif frame.name == "queue.purge-ok":
            self.then(self.context.rng.choice((self.fill, self.fill, self.delete)))
        elif frame.name == "queue.delete-ok":
            ledger.defined(("queue", self.queue), False)
            ledger.defined(("binding", self.queue), False)
            ledger.settled(self.deleted + self.purged)
            self.deleted, self.purged = [], []
            self.then(self.declare)
        else:
            raise Broken(f"{self.queue}: {frame}")


# ---- the whole of it ----

def prepare(host, port):
    """The queues and exchanges that are always there."""
    c = amqp.Connection(host, port).handshake()
    c.channel()
    for queue in QUEUES:
        c.call(1, "queue.declare", queue=queue, durable=1,
               arguments=DEAD_ARGUMENTS if queue == "c.dl" else {})
    for stream in STREAMS:
        c.call(1, "queue.declare", queue=stream, durable=1,
               arguments={"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 1 << 20})
    c.call(1, "queue.declare", queue="c.probe", durable=1)
    for name, kind in (("c.fan", "fanout"), ("c.mix", "fanout"), ("c.topic", "topic"), ("c.direct", "direct"),
                       ("c.probes", "fanout")):
        c.call(1, "exchange.declare", exchange=name, type=kind, durable=1)
    c.call(1, "queue.bind", queue="c.probe", exchange="c.probes")
    for (exchange, key), queues in ROUTES.items():
        for queue in queues if exchange else ():
            c.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key)
    c.close()


def staff(loop, context, host, port, deep=True):
    """Everybody who works on a broker, each connection with a few channels."""
    lives = [Liver(context, queue) for queue in LIVES] if not context.ledger.is_weak else []
    crews = [
        [Publisher(context, 300, PLAIN), TxPublisher(context, 20, IN_TX)],
        [Publisher(context, 50, PLAIN, sizes=SMALL_SIZES), *lives],
        [Consumer(context, "c.q0", "single"), Consumer(context, "c.q1", "tx")],
        [Consumer(context, "c.q2", "back"), Consumer(context, "c.f0", "multiple")],
        [Consumer(context, "c.q2", "back", 20), Consumer(context, "c.t0", "tx"),
         TxPublisher(context, 3, IN_TX, sizes=SMALL_SIZES)],
    ]
    if not context.ledger.is_weak:
        crews[-1].append(Definer(context))
    crews[2] += [StreamReader(context, stream) for stream in STREAMS]
    if context.rng.random() < 0.3:  # mostly transactions: a kill shall find some amid a commit
        crews[:2] = [[TxPublisher(context, n, IN_TX, sizes=SMALL_SIZES) for n in (5, 10, 20, 40)]
                     for _ in range(3)]
    if deep:
        crews[1].append(Publisher(context, 200, DEEP, sizes=((900, 2000, 1),), transient=0))
        context.ledger.unordered.add("c.dlx")
        crews[3].append(Consumer(context, "c.dl", "reject"))
    actors = []
    for crew in crews:
        peer = Peer(host, port)
        for actor in crew:
            actors.append(peer.add(actor).begin())
        loop.add(peer)
    return actors


class Drainer(Actor):
    """Takes all that a queue has, then acks some of it in a transaction."""

    def __init__(self, queue):
        self.queue, self.deliveries, self.closed, self.committed = queue, [], None, False
        self.cancelled = False
        self.copies, self.acked = [], 0  # what the ledger knows of them; how many are settled

    def method(self, frame):
        if frame.name == "tx.commit-ok":
            self.committed = True
        elif frame.name == "basic.cancel-ok":
            self.cancelled = True
        elif frame.name != "basic.consume-ok":
            raise Broken(f"while {self.queue} is drained: {frame}")

    def delivered(self, tag, redelivered, name, body):
        self.deliveries.append((name, body, redelivered))

    def died(self, why):
        self.closed = why


def await_turns(loop, condition, what, patience=60):
    """Turns until condition; patience is with a broker that does nothing."""
    deadline = time.monotonic() + patience
    while not condition():
        if loop.turn(0.1):
            deadline = time.monotonic() + patience
        elif time.monotonic() > deadline:
            raise Broken(f"not within {patience} s: {what}")
        if not loop.living():
            raise Broken(f"connections died while waiting for: {what} "
                         f"({[p.dead for p in loop.peers]})")


def look_at_streams(host, port, ledger):
    """After a restart: what every stream has, but for what was looked at long ago."""
    loop, peer = Loop(), Peer(host, port)
    probe = amqp.Connection(host, port).handshake()
    probe.channel()
    readers = []
    for stream in STREAMS:
        first = ledger.streams.setdefault(stream, 0)
        reader = peer.add(Drainer(stream))
        reader.expected = ready_in(probe, stream) - first
        if reader.expected < 0:
            ledger.problem("a stream is shorter than it was", f"{stream}: {reader.expected}")
        peer.call(reader.channel, "basic.qos", prefetch_count=65535)
        peer.cast(reader.channel, "basic.consume", queue=stream, consumer_tag="d",
                  arguments={"x-stream-offset": first})
        readers.append(reader)
    loop.add(peer)
    await_turns(loop, lambda: all(len(r.deliveries) >= r.expected for r in readers),
                "what streams have")
    for reader in readers:
        copies = ledger.found(reader.queue, reader.deliveries)
        if not ledger.problems:
            ledger.forget(reader.queue, copies)
    loop.close()
    probe.close()


def look(host, port, ledger, rng, keep=0.5):
    """After a restart: what is in every queue, against what was promised; then some of it is
    acknowledged for good. keep: how likely a queue keeps messages for the next round."""
    loop = Loop()
    peer = Peer(host, port)
    probe = amqp.Connection(host, port).handshake()
    probe.channel()
    drainers = []
    for queue in sorted(set(QUEUES) | set(LIVES)):
        probe.cast(1, "queue.declare", queue=queue, passive=1)
        answer = probe.next(1)
        if answer.name == "channel.close":
            probe.cast(1, "channel.close-ok")
            probe.call(1, "channel.open")
            if queue in QUEUES:
                ledger.problem("a definition is lost", f"queue {queue}")
            continue
        drainer = peer.add(Drainer(queue))
        drainer.expected = answer.message_count
        peer.call(drainer.channel, "tx.select")
        peer.cast(drainer.channel, "basic.consume", queue=queue, consumer_tag="d")
        drainers.append(drainer)
    loop.add(peer)
    await_messages(loop, probe, drainers, ledger)
    for drainer in drainers:
        peer.cast(drainer.channel, "basic.cancel", consumer_tag="d")
    await_turns(loop, lambda: all(d.cancelled for d in drainers), "basic.cancel-ok")
    for drainer in drainers:
        ready = ready_in(probe, drainer.queue)
        came = len(drainer.deliveries)
        if ready != 0 or (came != drainer.expected and not ledger.is_lenient):
            ledger.problem("counts do not agree", f"{drainer.queue}: {drainer.expected} messages "
                           f"were ready, {came} came, then {ready} were")
        drainer.copies = ledger.found(drainer.queue, drainer.deliveries)
    look_at_streams(host, port, ledger)
    for queue in set(QUEUES + list(LIVES)) - {d.queue for d in drainers}:
        ledger.found(queue, [])  # it is not there: neither are its messages
    ledger.resolved()
    if not ledger.problems:
        check_definitions(probe, ledger)
    if not ledger.problems:
        acknowledge(loop, peer, drainers, ledger, rng, keep)
    loop.close()
    if not ledger.problems:
        await_returned(probe, drainers, ledger)
    probe.close()


def ready_in(probe, queue):
    return probe.call(1, "queue.declare", queue=queue, passive=1).message_count


def await_messages(loop, probe, drainers, ledger):
    """As many as queue.declare-ok said; fewer, if what rotted shows only when it is read."""
    deadline = time.monotonic() + 60
    while late := [d for d in drainers if len(d.deliveries) < d.expected]:
        if loop.turn(0.2):
            deadline = time.monotonic() + 60
        elif ledger.is_lenient and not any(ready_in(probe, d.queue) for d in late):
            return
        elif time.monotonic() > deadline or not loop.living():
            raise Broken("messages that queue.declare-ok told of did not come: " + ", ".join(
                f"{d.queue}: {len(d.deliveries)} of {d.expected}" for d in late))


def await_returned(probe, drainers, ledger):
    """What the look had in its hands is back in the queues."""
    deadline = time.monotonic() + 30
    for drainer in drainers:
        expected = len(drainer.deliveries) - drainer.acked
        while True:
            have = ready_in(probe, drainer.queue)
            if have == expected:
                break
            if time.monotonic() > deadline:
                ledger.problem("counts do not agree", f"{drainer.queue}: {have} messages are back "
                               f"from a closed connection, not {expected}")
                return
            time.sleep(0.002)


def acknowledge(loop, peer, drainers, ledger, rng, keep):
    waiting = []
    for drainer in drainers:
        n = len(drainer.deliveries)
        tags = range(n)
        if rng.random() < keep and not ledger.is_lenient:
            tags = sorted(rng.sample(tags, rng.randint(0, n)))
        if not tags:
            continue
        drainer.acked = len(tags)
        group = ledger.begin()
        if len(tags) == n:
            peer.send(ack_frame(drainer.channel, n, True))
        else:
            for tag in tags:
                peer.send(ack_frame(drainer.channel, tag + 1, False))
        # without problems, what was delivered and what was found are the same
        group.acks = drainer.copies if len(tags) == n else [drainer.copies[tag] for tag in tags]
        ledger.committing(group)
        peer.cast(drainer.channel, "tx.commit")
        waiting.append((drainer, group))
    await_turns(loop, lambda: all(d.committed for d, _ in waiting), "tx.commit-ok of acks")
    for _, group in waiting:
        ledger.committed(group)


def check_definitions(probe, ledger):
    def try_it(name, **fields):
        probe.cast(1, name, **fields)
        answer = probe.next(1)
        if answer.name == "channel.close":
            probe.cast(1, "channel.close-ok")
            probe.call(1, "channel.open")
            return answer
        return None

    for what in sorted(ledger.definitions):
        kind, name = what
        if kind in ("queue", "exchange"):
            method = kind + ".declare"
            refused = try_it(method, **{kind: name, "passive": 1})
            ledger.definition_found(what, refused is None)
            if refused is None and name.startswith("c.def."):
                refused = try_it(method, **request(what, True)[1])
                if refused is not None:
                    ledger.problem("a definition has changed", f"{kind} {name}: {refused}")
        else:
            key = name if kind == "binding" else "x" + name
            probe.publish(1, "c.direct", key, "", mandatory=1)
            probe.cast(1, "basic.qos")  # its answer comes after what the publish caused
            answer = probe.next(1)
            ledger.definition_found(what, answer.name != "basic.return")
            if answer.name == "basic.return":
                probe.expect(1, "basic.qos-ok")
    probe.call(1, "queue.purge", queue="c.probe")
    for queue in LIVES:
        if ledger.definitions.get(("queue", queue)):
            # the probe's own message; what was drained is unacked
            probe.call(1, "queue.purge", queue=queue)
