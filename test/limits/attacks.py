"""attacks: many peers that do as they should not, and a client that works meanwhile."""

import resource
import select
import socket
import struct
import time

import amqp

from harness import (HANDSHAKE, PATIENCE_S, Healthy, Raw, Server, allow_files, case, equal, has_ended,
                     little_more, refusal, until)

MANY = 2000
PARTS = (b"", amqp.HEADER_091[:1], amqp.HEADER_091[:7], amqp.HEADER_091, HANDSHAKE[:40],
         HANDSHAKE[:-1])


def reset(s):
    """Ends with a reset: the port is free at once."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def work(server, seconds, healthy, newcomers):
    """Rounds of a client that was there, and clients that come."""
    until_s = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < until_s:
        for _ in range(10):
            healthy.round()
        rounds += 10
        if newcomers:
            server.connect().close()
    return rounds


@case("two thousand handshakes that stop half way: who works and who comes notice nothing")
def slow_loris():
    allow_files()
    with Server("amqp.handshake_timeout=3s") as server:
        healthy = Healthy(server)
        before = server.descriptors()
        began = time.monotonic()
        idle = [server.socket(PARTS[i % len(PARTS)]) for i in range(MANY)]
        work(server, 1, healthy, newcomers=True)
        assert healthy.slowest_s < 2, healthy.slowest_s
        until(lambda: all(has_ended(s) for s in idle), "they are all dropped")
        assert time.monotonic() - began > 2.5, "before their time"
        until(lambda: server.descriptors() <= before + 2, "their descriptors are free")
        for s in idle:
            s.close()
        healthy.close()


@case("handshakes above pending_handshakes: the oldest make room, and those who come get in")
def pending():
    with Server("limits.pending_handshakes=20", workers=1) as server:
        healthy = Healthy(server)
        idle = [server.socket(PARTS[i % len(PARTS)]) for i in range(60)]
        until(lambda: all(has_ended(s) for s in idle[:40]), "the oldest are gone")
        assert not any(has_ended(s) for s in idle[40:])
        server.log_has("20 sockets without an open connection: the oldest make room")
        server.connect().close()
        until(lambda: has_ended(idle[40]), "room was made")
        healthy.round()
        for s in idle:
            s.close()
        healthy.close()


@case("half-open floods: sockets that come and are reset at once leave nothing behind")
def half_open():
    with Server() as server:
        healthy = Healthy(server)
        healthy.round()
        before, memory = server.descriptors(), server.resident_own()
        for i in range(3000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((server.host, server.port))
            if i % 3 == 0:
                select.select((), (s,), (), PATIENCE_S)
                s.send(PARTS[i % len(PARTS)])
            reset(s)
            if i % 100 == 0:
                healthy.round()
        server.connect().close()
        until(lambda: server.descriptors() <= before, "descriptors are as before")
        little_more(server.resident_own(), memory, 16 << 20, "three thousand resets")
        assert healthy.slowest_s < 2, healthy.slowest_s
        healthy.close()


@case("65,535 channels: opened, one above refused, and the memory of each is small")
def all_channels():
    with Server("amqp.channel_max=0", workers=1) as server:
        healthy = Healthy(server)
        raw = Raw(server, channel_max=0)
        raw.method(10, 41)
        before, began = server.resident_own(), time.monotonic()
        for first in range(1, 65536, 4096):
            numbers = range(first, min(first + 4096, 65536))
            raw.socket.sendall(b"".join(amqp.method_frame(n, "channel.open") for n in numbers))
            opened = b"".join(amqp.method_frame(n, "channel.open-ok") for n in numbers)
            equal(raw.octets(len(opened)) == opened, True, "as many answers")
            healthy.round()
        print(f"# {(server.resident_own() - before) / 65535:.0f} octets a channel", flush=True)
        little_more(server.resident_own(), before, 65535 * 2048, "all channels")
        opening_s, began = time.monotonic() - began, time.monotonic()
        raw.socket.sendall(amqp.method_frame(7, "channel.open"))
        equal(raw.closing(), (504, "CHANNEL_ERROR - second 'channel.open' seen"))
        closing_s = time.monotonic() - began
        assert closing_s < 3 * opening_s, (closing_s, opening_s)
        raw.socket.close()
        healthy.round()
        healthy.close()


@case("channels against channel_max: the one above is refused, whatever its number")
def channel_max():
    with Server("amqp.channel_max=10") as server:
        raw = Raw(server, channel_max=10)
        raw.socket.sendall(b"".join(amqp.method_frame(n, "channel.open") for n in range(1, 11)))
        for _ in range(10):
            raw.method(20, 11)
        raw.socket.sendall(amqp.method_frame(11, "channel.open"))
        equal(raw.closing(), (530, "NOT_ALLOWED - number of channels opened (10) has reached the "
                                   "negotiated channel_max (10)"))
        raw.socket.close()


@case("twenty thousand queues against a limit of a hundred: refused one by one, and little is kept")
def queues():
    with Server("limits.queues_per_vhost=100") as server:
        raw = Raw(server)
        raw.method(10, 41)
        before = server.resident_own()
        for first in range(0, 20000, 100):
            octets = b""
            for n in range(first, first + 100):  # a refusal closes the channel
                octets += amqp.method_frame(1, "channel.open") if n == 0 or n > 100 else b""
                octets += amqp.method_frame(1, "queue.declare", queue=f"attack{n}")
                octets += amqp.method_frame(1, "channel.close-ok") if n >= 100 else b""
            raw.socket.sendall(octets)
            for n in range(first, first + 100):
                raw.method(50, 11) if n < 100 else raw.method(20, 40)
        little_more(server.resident_own(), before, 8 << 20, "refused queues")
        raw.socket.close()
        connection = server.connect()
        equal(refusal(connection.channel().queue_declare, "one more")[0], 406)
        connection.close()


def nested(kind, depth):
    """A table's octets: tables, or lists, within each other."""
    within = b""
    for _ in range(depth):
        name = b"\x01x" if kind == b"F" else b""
        within = name + kind + struct.pack(">I", len(within)) + within
    if kind == b"A":
        within = b"\x01x" + within
    return struct.pack(">I", len(within)) + within


@case("tables: too deep, as large as a frame, and of a hundred thousand keys")
def tables():
    with Server() as server:
        healthy = Healthy(server)
        for arguments in (nested(b"F", 40), nested(b"F", 10000), nested(b"A", 10000)):
            raw = Raw(server)
            raw.socket.sendall(amqp.method_frame(1, "channel.open") + amqp.method_frame(
                1, "queue.declare", queue="t", arguments=arguments))
            code, text = raw.closing()
            assert code == 502, (code, text)
            raw.socket.close()
            healthy.round()
        memory = server.resident_own()
        # as many fields as a frame holds: each is of four octets
        fields = (b"\x01" + b"k" + b"V") * 40000
        raw = Raw(server)
        raw.socket.sendall(amqp.method_frame(1, "channel.open"))
        for n in range(50):
            raw.socket.sendall(amqp.method_frame(
                1, "exchange.declare", exchange=f"x{n}", type="direct", auto_delete=1,
                arguments=struct.pack(">I", len(fields)) + fields))
            raw.method(40, 11)
        little_more(server.resident_own(), memory, 50 * len(fields) * 3, "tables")
        # a length that lies
        raw.socket.sendall(amqp.method_frame(1, "exchange.declare", exchange="liar", type="direct",
                                             arguments=struct.pack(">I", 0xFFFFFFF0) + fields[:99]))
        equal(raw.closing()[0], 502)
        raw.socket.close()
        healthy.round()
        healthy.close()


@case("heartbeats every second on two thousand connections: all are sent, the silent are dropped")
def heartbeats():
    allow_files()
    handshake = HANDSHAKE.replace(
        amqp.method_frame(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0),
        amqp.method_frame(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=1))
    with Server() as server:
        healthy = Healthy(server)
        peers, poll = {}, select.epoll()
        for i in range(MANY):
            s = server.socket(handshake)
            s.setblocking(False)
            peers[s.fileno()] = [s, i % 2 == 0, 0]  # every other one beats
            poll.register(s, select.EPOLLIN)
        ended, until_s, cpu = set(), time.monotonic() + 5, server.cpu_s()
        next_beat = 0
        while time.monotonic() < until_s:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + 0.5
                for fd, (s, beats, _) in peers.items():
                    if beats and fd not in ended:
                        s.send(amqp.HEARTBEAT_FRAME)
                healthy.round()
            for fd, _ in poll.poll(0.05):
                s = peers[fd][0]
                octets = receive(s)
                peers[fd][2] += octets.endswith(amqp.HEARTBEAT_FRAME)
                if not octets:
                    ended.add(fd)
                    poll.unregister(fd)
        cpu = server.cpu_s() - cpu
        print(f"# {cpu / 5:.2f} of a core", flush=True)
        equal({fd for fd, (_, beats, _) in peers.items() if not beats} ^ ended, set(), "the silent")
        heard = [n for _, beats, n in peers.values() if beats]
        assert min(heard) >= 3, min(heard)
        assert healthy.slowest_s < 2, healthy.slowest_s
        for s, _, _ in peers.values():
            s.close()
        healthy.close()


def receive(s):
    try:
        return s.recv(65536)
    except OSError:
        return b""


@case("descriptors run out: who works works on, who comes is turned away, and all is well after")
def descriptors():
    allow_files()
    with Server() as server:
        healthy = Healthy(server)
        healthy.round()
        used = server.descriptors()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 50, used + 50))
        idle = [server.socket() for _ in range(200)]
        cpu, began = server.cpu_s(), time.monotonic()
        until(lambda: sum(has_ended(s) for s in idle) >= 140, "those above are turned away")
        for _ in range(50):
            healthy.round()
        time.sleep(0.5)  # what it does with nothing to do
        cpu = (server.cpu_s() - cpu) / (time.monotonic() - began)
        assert cpu < 0.8, f"{cpu} of a core"
        server.log_has("Too many open files: turning connections away")
        for s in idle:
            s.close()
        until(lambda: server.descriptors() <= used + 2, "descriptors are free")
        server.connect().close()
        healthy.close()
