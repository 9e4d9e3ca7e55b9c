"""client: connections in callbacks, fast enough to keep a broker busy from one Python thread.

A Peer is one connection; an actor is what sits on one of its channels and is told what comes for
it: acked, nacked, delivered, method, died. What it wants to say it puts in the peer's output, which
goes out at the end of the turn. Everything that the broker has sent is read before a dead
connection is called dead: a promise in a socket's buffer is a promise.
"""

import os
import select
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "wire"))

import amqp  # noqa: E402

FRAME_MAX = amqp.FRAME_MAX
HEAD = struct.Struct(">BHI")
ACK, NACK, DELIVER = b"\0\x3c\0\x50", b"\0\x3c\0\x78", b"\0\x3c\0\x3c"
PUBLISH = b"\0\x3c\0\x28\0\0"
ID_FLAGS = {1: b"\x10\x80\x01", 2: b"\x10\x80\x02"}  # delivery_mode and message_id are there
READ_BYTES = 1 << 18


def publish_frames(channel, exchange, key, name, persistent, body, mandatory=False):
    """The frames of a basic.publish whose message_id is name (octets)."""
    method = b"".join((PUBLISH, amqp.shortstr(exchange), amqp.shortstr(key),
                       b"\1" if mandatory else b"\0"))
    props = ID_FLAGS[2 if persistent else 1] + bytes((len(name),)) + name
    size = len(body)
    parts = [HEAD.pack(1, channel, len(method)), method, b"\xce",
             HEAD.pack(2, channel, 12 + len(props)), b"\0\x3c\0\0", struct.pack(">Q", size), props,
             b"\xce"]
    for at in range(0, size, FRAME_MAX - 8):
        piece = body[at:at + FRAME_MAX - 8]
        parts += (HEAD.pack(3, channel, len(piece)), piece, b"\xce")
    return b"".join(parts)


def settle_frame(channel, method_id, tag, bits):
    return struct.pack(">BHIHHQBB", 1, channel, 13, 60, method_id, tag, bits, 0xce)


def ack_frame(channel, tag, multiple):
    return settle_frame(channel, 80, tag, 1 if multiple else 0)


def nack_frame(channel, tag, multiple, requeue):
    return settle_frame(channel, 120, tag, (1 if multiple else 0) | (2 if requeue else 0))


class Actor:
    """What sits on a channel. Subclasses answer what they expect; the rest ends the channel."""

    peer, channel = None, None

    def turn(self):
        """Something may have changed: say what there is to say."""

    def acked(self, tag, multiple):
        raise amqp.Failure(f"{self}: a confirm that nobody asked for")

    nacked = acked

    def delivered(self, tag, redelivered, name, body):
        raise amqp.Failure(f"{self}: a delivery that nobody asked for")

    def method(self, frame):
        raise amqp.Failure(f"{self}: {frame}")

    def died(self, why):
        """Nothing will come any more."""


class Peer:
    def __init__(self, host, port):
        connection = amqp.Connection(host, port).handshake()
        self.sock = connection.sock
        self.connection = connection
        self.output = []
        self.unsent = b""
        self.input = b""
        self.actors = {}
        self.content = None  # a delivery whose body is not whole: [channel, tag, flag, id, ...]
        self.dead = None
        self.blocked = False

    def fileno(self):
        return self.sock.fileno()

    def add(self, actor):
        """Opens a channel for the actor: before the peer is in a loop."""
        actor.peer, actor.channel = self, self.connection.channel()
        self.actors[actor.channel] = actor
        return actor

    def call(self, channel, name, **fields):
        """A synchronous call: before the peer is in a loop."""
        return self.connection.call(channel, name, **fields)

    def start(self):
        """From here on it is the loop's."""
        assert not any(self.connection.inbox.values()), self.connection.inbox
        self.input = bytes(self.connection.input)
        self.sock.setblocking(False)

    def send(self, octets):
        self.output.append(octets)

    def cast(self, channel, name, **fields):
        self.output.append(amqp.method_frame(channel, name, **fields))

    def wants_to_write(self):
        return bool(self.unsent or self.output)

    def backlog(self):
        return len(self.unsent)

    def flush(self):
        if self.output:
            self.unsent = b"".join((self.unsent, *self.output))
            self.output.clear()
        while self.unsent and self.dead is None:
            try:
                sent = self.sock.send(self.unsent[:READ_BYTES])
            except BlockingIOError:
                return
            except OSError:
                self.unsent = b""  # whether it is dead, reading tells
                return
            self.unsent = self.unsent[sent:]

    def readable(self):
        """Reads all there is."""
        while self.dead is None:
            try:
                got = self.sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as e:
                self.die(str(e))
                return
            if not got:
                self.die("end of input")
                return
            self.feed(got)

    def die(self, why):
        if self.dead is None:
            self.dead = why
            self.sock.close()
            for actor in self.actors.values():
                actor.died(why)

    def feed(self, got):
        buf, at = self.input + got, 0
        n = len(buf)
        while n - at >= 8:
            kind, channel, size = HEAD.unpack_from(buf, at)
            end = at + 7 + size
            if end >= n:
                break
            if buf[end] != 0xce:
                raise amqp.Failure(f"a frame without end: {buf[at:end + 1][:200]!r}")
            payload = buf[at + 7:end]
            at = end + 1
            if kind == 1:
                self.on_method(channel, payload)
            elif kind == 2:
                self.on_header(channel, payload)
            elif kind == 3:
                self.on_body(channel, payload)
            if self.dead is not None:
                return
        self.input = buf[at:]

    def on_method(self, channel, payload):
        what = payload[:4]
        actor = self.actors.get(channel)
        if what == ACK and actor is not None:
            actor.acked(int.from_bytes(payload[4:12], "big"), payload[12] & 1)
        elif what == DELIVER:
            at = 5 + payload[4]
            self.content = [channel, int.from_bytes(payload[at:at + 8], "big"), payload[at + 8] & 1]
        elif what == NACK and actor is not None:
            actor.nacked(int.from_bytes(payload[4:12], "big"), payload[12] & 1)
        else:
            self.on_rare(channel, amqp.Frame(amqp.METHOD, channel, payload))

    def on_rare(self, channel, frame):
        if frame.name == "connection.blocked":
            self.blocked = True
        elif frame.name == "connection.unblocked":
            self.blocked = False
        elif frame.name == "connection.close":
            self.cast(0, "connection.close-ok")
            self.flush()
            self.die(f"{frame.reply_code} {frame.reply_text}")
        elif frame.name == "basic.return":
            self.content = [channel, None, frame]
        elif frame.name == "channel.close":
            self.cast(channel, "channel.close-ok")
            actor = self.actors.pop(channel, None)
            if actor is not None:
                actor.died(f"{frame.reply_code} {frame.reply_text}")
        elif channel in self.actors:
            self.actors[channel].method(frame)

    def on_header(self, channel, payload):
        content = self.content
        assert content is not None and content[0] == channel, (content, payload)
        content.append(int.from_bytes(payload[4:12], "big"))
        if payload[12:14] == b"\x10\x80":
            content.append(payload[16:16 + payload[15]])
        else:
            content.append(amqp.read_properties(payload[12:]).get("message_id", "").encode())
        content.append([])
        if content[3] == 0:
            self.whole()

    def on_body(self, channel, payload):
        content = self.content
        content[5].append(payload)
        content[3] -= len(payload)
        if content[3] <= 0:
            self.whole()

    def whole(self):
        channel, tag, flag, _, name, parts = self.content
        self.content = None
        actor = self.actors.get(channel)
        if actor is not None and tag is not None:
            actor.delivered(tag, flag, name, b"".join(parts))


class Loop:
    """Turns: read what came, let the actors speak, write."""

    def __init__(self):
        self.peers = []

    def add(self, peer):
        peer.start()
        self.peers.append(peer)

    def turn(self, timeout):
        living = [p for p in self.peers if p.dead is None]
        for peer in living:
            for actor in list(peer.actors.values()):
                actor.turn()
            peer.flush()
        living = [p for p in living if p.dead is None]
        readable, writable, _ = select.select(
            living, [p for p in living if p.wants_to_write()], [], timeout)
        for peer in readable:
            peer.readable()
        for peer in writable:
            peer.flush()
        return bool(readable or writable)

    def living(self):
        return [p for p in self.peers if p.dead is None]

    def drain_dead(self, patience=10):
        """The broker is dead: hears out all that it said."""
        deadline = time.monotonic() + patience
        while living := self.living():
            if time.monotonic() > deadline:
                raise amqp.Failure("a connection outlives its broker")
            for peer in select.select(living, [], [], 0.1)[0]:
                peer.readable()

    def close(self):
        for peer in self.living():
            peer.sock.close()
            peer.dead = "closed"
