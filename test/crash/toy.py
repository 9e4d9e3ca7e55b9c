"""toy: a small broker that keeps its promises, and can be told to break one: to try the suites on.

It takes lepusd's options as far as the suites use them. Everything durable is rows of a SQLite
database in the data directory; a turn's changes are one transaction, and not an octet of what the
turn has to say is sent before the commit. That is slow and right. $LEPUS_TOY_BUG names what is
wrong with it: see BUGS.
"""

import collections
import os
import random
import select
import signal
import socket
import sqlite3
import struct
import sys
import time

import client
from client import amqp

BUGS = {
    "early": "what a turn has to say goes out before its commit",
    "unsynced": "the database does not sync",
    "acks": "now and then an ack is not written down",
    "flag": "redelivered is not set after a restart",
    "order": "neighbours may change places at a restart",
    "twice": "some messages are there twice after a restart",
    "halves": "a transaction is written in pieces",
    "rollback": "what was rolled back is kept",
    "shrug": "a turn that cannot be written is confirmed all the same",
    "transient": "transient messages are kept",
    "deletes": "the end of a queue is not written down",
    "letters": "what is rejected is gone",
}
BUG = os.environ.get("LEPUS_TOY_BUG", "")
DEAD_LETTERS = {"c.dl": "c.dlx"}  # queue -> where what is rejected there goes, as the load asks for
assert BUG == "" or BUG in BUGS

TABLES = """
create table if not exists queues(name text primary key, arguments blob);
create table if not exists exchanges(name text primary key, type text, arguments blob);
create table if not exists bindings(source text, kind text, name text, key text,
                                    primary key (source, kind, name, key));
create table if not exists messages(seq integer, queue text, exchange text, key text, props blob,
                                    body blob, primary key (queue, seq));
"""


class Store:
    def __init__(self, data_dir):
        self.db = sqlite3.connect(os.path.join(data_dir, "metadata.sqlite"), isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=" + ("off" if BUG == "unsynced" else "full"))
        self.db.executescript(TABLES)
        self.pending = []

    def add(self, sql, *values):
        self.pending.append((sql, values))

    def commit(self):
        """False: the disk does not want to, everything is still pending."""
        if not self.pending:
            return True
        try:
            self.db.execute("begin")
            for at, (sql, values) in enumerate(self.pending):
                if BUG == "halves" and at % 4 == 3:
                    self.db.execute("commit")
                    time.sleep(0.001)  # or a kill would have to be lucky
                    self.db.execute("begin")
                self.db.execute(sql, values)
            self.db.execute("commit")
        except sqlite3.Error as e:
            print(f"error not written: {e}", file=sys.stderr, flush=True)
            try:
                self.db.execute("rollback")
            except sqlite3.Error:
                pass  # it was rolled back already
            if BUG != "shrug":
                return False
        self.pending.clear()
        return True


class Queue:
    def __init__(self, name, arguments):
        self.name, self.arguments = name, arguments
        self.ready = {}      # seq -> message, ascending when sorted
        self.order = []      # of ready, sorted
        self.consumers = collections.deque()
        self.unacked = 0


class Message:
    __slots__ = ("seq", "exchange", "key", "props", "body", "redelivered", "durable")


class Channel:
    def __init__(self):
        self.confirms = self.tx = None  # the last number; what the transaction holds
        self.tag, self.unacked, self.prefetch, self.consumers = 0, {}, 0, {}
        self.publish = None


class Client:
    def __init__(self, sock):
        self.sock, self.input, self.output, self.channels = sock, b"", [], {}
        self.greeted = False
        sock.setblocking(False)


class Toy:
    def __init__(self, data_dir, host, port):
        self.store = Store(data_dir)
        self.queues, self.exchanges, self.bindings, self.seq = {}, {"": None}, set(), 0
        self.clients = {}
        self.load()
        self.listener = socket.create_server((host, port))
        self.listener.setblocking(False)
        self.rng = random.Random(7)

    def load(self):
        db, rng = self.store.db, random.Random(8)
        for name, arguments in db.execute("select * from queues"):
            self.queues[name] = Queue(name, arguments)
        for name, kind, arguments in db.execute("select * from exchanges"):
            self.exchanges[name] = (kind, arguments)
        self.bindings = set(db.execute("select * from bindings"))
        rows = db.execute("select * from messages order by seq").fetchall()
        if BUG == "order" and len(rows) > 1:
            rows = [(a[0] + 3 * rng.randrange(2), *a[1:]) for a in rows]
        for seq, queue, exchange, key, props, body in rows:
            self.seq = max(self.seq, seq)
            for copies in range(2 if BUG == "twice" and rng.random() < 0.05 else 1):
                self.put(queue, self.message(seq + copies * 1000000, exchange, key, props, body,
                                             BUG != "flag", True))
        self.seq += 2000000

    @staticmethod
    def message(seq, exchange, key, props, body, redelivered, durable):
        m = Message()
        m.seq, m.exchange, m.key, m.props, m.body = seq, exchange, key, props, body
        m.redelivered, m.durable = redelivered, durable
        return m

    # -- queues --

    def put(self, name, message):
        queue = self.queues.get(name)
        if queue is None:
            return
        while message.seq in queue.ready:
            message.seq += 1
        queue.ready[message.seq] = message
        if queue.order and queue.order[-1] > message.seq:
            queue.order.append(message.seq)
            queue.order.sort()
        else:
            queue.order.append(message.seq)

    def route(self, exchange, key):
        if exchange == "":
            return {key} if key in self.queues else set()
        found, asked, todo = set(), set(), [exchange]
        while todo:
            name = todo.pop()
            if name in asked or name not in self.exchanges:
                continue
            asked.add(name)
            fans = self.exchanges[name][0] == "fanout"
            for source, kind, target, bound in self.bindings:
                if source == name and (fans or bound == key):
                    found.add(target) if kind == "queue" else todo.append(target)
        return found

    def enqueue(self, exchange, key, props, body, targets):
        persistent = amqp.read_properties(props).get("delivery_mode") == 2 or BUG == "transient"
        for name in sorted(targets):
            self.seq += 1
            self.put(name, self.message(self.seq, exchange, key, props, body, False, persistent))
            if persistent:
                self.store.add("insert into messages values(?, ?, ?, ?, ?, ?)", self.seq, name,
                               exchange, key, props, body)

    def deliver_all(self):
        for queue in self.queues.values():
            idle = 0
            while queue.order and queue.consumers and idle < len(queue.consumers):
                client_, number, tag = queue.consumers[0]
                queue.consumers.rotate(-1)
                channel = client_.channels[number]
                if channel.prefetch and len(channel.unacked) >= channel.prefetch:
                    idle += 1
                    continue
                idle = 0
                message = queue.ready.pop(queue.order.pop(0))
                channel.tag += 1
                channel.unacked[channel.tag] = (queue, message)
                queue.unacked += 1
                client_.output.append(amqp.method_frame(
                    number, "basic.deliver", consumer_tag=tag, delivery_tag=channel.tag,
                    redelivered=message.redelivered, exchange=message.exchange,
                    routing_key=message.key) + amqp.content(number, message.body, message.props))
                message.redelivered = True

    def ack(self, channel, tags):
        for tag in tags:
            queue, message = channel.unacked.pop(tag)
            queue.unacked -= 1
            if message.durable and not (BUG == "acks" and self.rng.random() < 0.05):
                self.store.add("delete from messages where queue = ? and seq = ?", queue.name,
                               message.seq)

    def requeue(self, channel, tags):
        for tag in tags:
            queue, message = channel.unacked.pop(tag)
            queue.unacked -= 1
            if self.queues.get(queue.name) is queue:
                self.put(queue.name, message)

    def reject(self, channel, tags):
        for tag in tags:
            queue, message = channel.unacked[tag]
            if queue.name in DEAD_LETTERS and BUG != "letters":
                self.enqueue(message.exchange, message.key, message.props, message.body,
                             {DEAD_LETTERS[queue.name]})
        self.ack(channel, tags)

    # -- methods --

    def handle(self, c, number, f):
        def answer(name, **fields):
            c.output.append(amqp.method_frame(number, name, **fields))

        ch = c.channels.get(number)
        name = f.name
        if name == "connection.start-ok":
            answer("connection.tune", channel_max=2047, frame_max=amqp.FRAME_MAX)
        elif name == "connection.open":
            answer("connection.open-ok")
        elif name == "connection.close":
            self.forget(c)
            answer("connection.close-ok")
        elif name == "channel.open":
            c.channels[number] = Channel()
            answer("channel.open-ok")
        elif ch is None or name in ("connection.tune-ok", "channel.close-ok"):
            pass
        elif name == "confirm.select":
            ch.confirms = 0
            answer("confirm.select-ok")
        elif name == "tx.select":
            ch.tx = []
            answer("tx.select-ok")
        elif name in ("tx.commit", "tx.rollback"):
            for act in ch.tx if name == "tx.commit" or BUG == "rollback" else ():
                act()
            ch.tx = []
            answer(name + "-ok")
        elif name == "basic.qos":
            ch.prefetch = f.prefetch_count
            answer("basic.qos-ok")
        elif name == "basic.consume":
            consumer = (c, number, f.consumer_tag)
            ch.consumers[f.consumer_tag] = f.queue
            self.queues[f.queue].consumers.append(consumer)
            answer("basic.consume-ok", consumer_tag=f.consumer_tag)
        elif name == "basic.cancel":
            self.queues[ch.consumers.pop(f.consumer_tag)].consumers.remove(
                (c, number, f.consumer_tag))
            answer("basic.cancel-ok", consumer_tag=f.consumer_tag)
        elif name in ("basic.ack", "basic.nack"):
            tags = [t for t in ch.unacked if t <= f.delivery_tag] if f.multiple \
                else [f.delivery_tag]
            act = self.ack if name == "basic.ack" else self.requeue if f.requeue else self.reject
            if ch.tx is None:
                act(ch, tags)
            else:
                ch.tx.append(lambda: act(ch, [t for t in tags if t in ch.unacked]))
        elif name == "queue.declare":
            self.declare(c, number, f, answer)
        elif name == "exchange.declare":
            if f.passive and f.exchange not in self.exchanges:
                self.refuse(c, number)
                return
            if f.exchange not in self.exchanges:
                self.exchanges[f.exchange] = (f.type, b"")
                self.store.add("insert into exchanges values(?, ?, ?)", f.exchange, f.type, b"")
            answer("exchange.declare-ok")
        elif name == "exchange.delete":
            self.exchanges.pop(f.exchange, None)
            self.store.add("delete from exchanges where name = ?", f.exchange)
            answer("exchange.delete-ok")
        elif name in ("queue.bind", "queue.unbind", "exchange.bind", "exchange.unbind"):
            kind = name.split(".")[0]
            row = (f.exchange, kind, f.queue, f.routing_key) if kind == "queue" else \
                (f.source, kind, f.destination, f.routing_key)
            if name.endswith(".bind"):
                self.bindings.add(row)
                self.store.add("insert or replace into bindings values(?, ?, ?, ?)", *row)
            else:
                self.bindings.discard(row)
                self.store.add("delete from bindings where source = ? and kind = ? and name = ? "
                               "and key = ?", *row)
            answer(name + "-ok")
        elif name in ("queue.purge", "queue.delete"):
            self.purge(c, f, answer)
        else:
            raise NotImplementedError(name)

    def declare(self, c, number, f, answer):
        if f.queue not in self.queues:
            if f.passive:
                self.refuse(c, number)
                return
            self.queues[f.queue] = Queue(f.queue, b"")
            self.store.add("insert or replace into queues values(?, ?)", f.queue, b"")
        queue = self.queues[f.queue]
        answer("queue.declare-ok", queue=f.queue, message_count=len(queue.ready),
               consumer_count=len(queue.consumers))

    def refuse(self, c, number):
        for channel in (c.channels.pop(number),):
            self.requeue(channel, list(channel.unacked))
        c.output.append(amqp.method_frame(number, "channel.close", reply_code=404,
                                          reply_text="NOT_FOUND"))

    def purge(self, c, f, answer):
        queue = self.queues.get(f.queue) or Queue(f.queue, b"")
        n = len(queue.ready)
        for seq in queue.ready:
            self.store.add("delete from messages where queue = ? and seq = ?", f.queue, seq)
        queue.ready, queue.order = {}, []
        if f.name == "queue.delete":
            self.queues.pop(f.queue, None)
            self.bindings = {b for b in self.bindings if b[1:3] != ("queue", f.queue)}
            if BUG != "deletes":
                self.store.add("delete from queues where name = ?", f.queue)
                self.store.add("delete from messages where queue = ?", f.queue)
            self.store.add("delete from bindings where kind = 'queue' and name = ?", f.queue)
        answer(f.name + "-ok", message_count=n)

    def published(self, c, number):
        ch = c.channels[number]
        f, props, _, parts = ch.publish
        ch.publish = None
        body, targets = b"".join(parts), self.route(f.exchange, f.routing_key)
        if f.mandatory and not targets:
            c.output.append(amqp.method_frame(number, "basic.return", reply_code=312,
                                              reply_text="NO_ROUTE", exchange=f.exchange,
                                              routing_key=f.routing_key)
                            + amqp.content(number, body, props))

        def act():
            self.enqueue(f.exchange, f.routing_key, props, body, targets)

        if ch.tx is not None:
            ch.tx.append(act)
            return
        act()
        if ch.confirms is not None:
            ch.confirms += 1
            c.output.append(client.ack_frame(number, ch.confirms, False))

    # -- octets --

    def feed(self, c, got):
        c.input += got
        if not c.greeted and len(c.input) >= 8:
            c.input, c.greeted = c.input[8:], True
            c.output.append(amqp.method_frame(
                0, "connection.start", version_minor=9, mechanisms="PLAIN", locales="en_US"))
        at = 0
        while len(c.input) - at >= 8:
            kind, number, size = struct.unpack_from(">BHI", c.input, at)
            if len(c.input) - at < size + 8:
                break
            payload = c.input[at + 7:at + 7 + size]
            at += size + 8
            ch = c.channels.get(number)
            if kind == amqp.METHOD:
                f = amqp.Frame(kind, number, payload)
                if f.name == "basic.publish" and ch is not None:
                    ch.publish = [f, None, 0, []]
                else:
                    self.handle(c, number, f)
            elif ch is not None and ch.publish is not None:
                if kind == amqp.CONTENT_HEADER:
                    ch.publish[1], ch.publish[2] = payload[12:], struct.unpack_from(
                        ">Q", payload, 4)[0]
                else:
                    ch.publish[3].append(payload)
                    ch.publish[2] -= len(payload)
                if ch.publish[2] == 0:
                    self.published(c, number)
        c.input = c.input[at:]

    def forget(self, c):
        for number, channel in c.channels.items():
            for tag, queue in channel.consumers.items():
                if queue in self.queues and (c, number, tag) in self.queues[queue].consumers:
                    self.queues[queue].consumers.remove((c, number, tag))
            self.requeue(channel, list(channel.unacked))
        c.channels = {}

    def turn(self):
        sockets = list(self.clients)
        readable, writable, _ = select.select(
            [self.listener, *sockets], [s for s in sockets if self.clients[s].output], [], 1)
        for sock in readable:
            if sock is self.listener:
                new, _ = sock.accept()
                self.clients[new] = Client(new)
                continue
            try:
                got = sock.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                got = b""
            if got:
                self.feed(self.clients[sock], got)
            else:
                self.forget(self.clients.pop(sock))
                sock.close()
        self.deliver_all()
        if BUG == "early":
            self.flush()
        while not self.store.commit():
            time.sleep(0.02)  # nothing is read or said meanwhile
        self.flush()

    def flush(self):
        for sock, c in self.clients.items():
            if not c.output:
                continue
            octets = b"".join(c.output)
            try:
                sent = sock.send(octets)
            except OSError:
                sent = 0
            c.output = [octets[sent:]] if sent < len(octets) else []


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options = dict(o.split("=", 1) for o in sys.argv[1:] if o != "-o")
    host, _, port = options["amqp.listen"].rpartition(":")
    os.makedirs(options["broker.data_dir"], exist_ok=True)
    toy = Toy(options["broker.data_dir"], host, int(port))
    host, port = toy.listener.getsockname()
    print(f"ready amqp={host}:{port} pid={os.getpid()}", flush=True)
    while True:
        toy.turn()


if __name__ == "__main__":
    main()
