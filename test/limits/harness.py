"""harness: what the cases of test/limits share: a lepusd of their own, clients, and what is asked
of both."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
for place in (os.path.join(HERE, ".."), os.path.join(HERE, "..", "wire")):
    sys.path.insert(0, place)

import amqp  # noqa: E402
import broker  # noqa: E402
import pika  # noqa: E402

BUILD = os.environ.get("LEPUS_BUILD", "release")
BUILD_DIR = os.path.realpath(os.path.join(os.path.dirname(os.environ["LEPUS_SERVER"]), "..", ".."))
PATIENCE_S = 30

# From the protocol's header to connection.open, all at once.
HANDSHAKE = b"".join((
    amqp.HEADER_091,
    amqp.method_frame(0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest",
                      locale="en_US", client_properties={"capabilities": {
                          "authentication_failure_close": True, "connection.blocked": True}}),
    amqp.method_frame(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0),
    amqp.method_frame(0, "connection.open", virtual_host="/")))

cases = []


def case(title, of_memory=False):
    """of_memory: says nothing under a sanitizer, which keeps what was freed."""
    def register(function):
        if not of_memory or BUILD == "release":
            cases.append((title, function))
        return function
    return register


def equal(have, want, what="value"):
    assert have == want, f"{what} is {have!r}, expected {want!r}"


def until(condition, what, patience=PATIENCE_S):
    """Waits for what cannot be waited for otherwise: that another process has done something."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.01)


class Server(broker.Broker):
    """Leaves in order, or the case fails. definitions: a document to load. is_of_others: it runs as
    another user, who may get to its directory and to its program."""

    def __init__(self, *options, workers=2, definitions=None, before=None, wrap=(),
                 is_of_others=False):
        self.directory = tempfile.mkdtemp(prefix="lepus-limits-",
                                          dir="/tmp" if is_of_others else None)
        os.chmod(self.directory, 0o755)
        self.definitions = os.path.join(self.directory, "definitions.json")
        if definitions is not None:
            self.define(definitions)
            options = (f"broker.load_definitions={self.definitions}", *options)
        super().__init__(BUILD, BUILD_DIR, self.directory, workers, options)
        if is_of_others:
            self.command[0] = shutil.copy(self.command[0], self.directory)
        self.command = [*wrap, *self.command]
        self.data = os.path.join(self.directory, "data")
        self.config = os.path.join(self.directory, "lepus.ini")
        with open(self.config, "w", encoding="utf-8"):
            pass
        self.command += ["-c", self.config]
        if before is not None:
            before(self)

    def define(self, document):
        with open(self.definitions, "w", encoding="utf-8") as f:
            json.dump(document, f)

    def __exit__(self, kind, *unused):
        try:
            wrong = self.stop()
            assert kind is not None or not wrong, "\n".join(wrong)
        finally:
            self.kill()
            if kind is not None:
                print("# " + self.stderr()[-3000:].replace("\n", "\n# "))
            shutil.rmtree(self.directory, ignore_errors=True)

    def log_has(self, pattern, times=1):
        return until(lambda: len(re.findall(pattern, self.stderr())) >= times,
                     f"{times} of {pattern!r} in the log")

    def reload(self):
        told = len(re.findall("configuration reloaded", self.stderr()))
        os.kill(self.pid, signal.SIGHUP)
        self.log_has("configuration reloaded", told + 1)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_own(self):
        """Octets that are resident, without files and what is shared."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as f:
            _, resident, shared = [int(word) for word in f.read().split()[:3]]
        return (resident - shared) * os.sysconf("SC_PAGESIZE")

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self, vhost="/", **more):
        return pika.BlockingConnection(pika.ConnectionParameters(
            self.host, self.port, vhost, socket_timeout=PATIENCE_S, stack_timeout=PATIENCE_S,
            blocked_connection_timeout=PATIENCE_S, heartbeat=more.pop("heartbeat", 0), **more))

    def socket(self, octets=b"", receive_buffer=None):
        s = socket.socket()
        if receive_buffer is not None:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(PATIENCE_S)
        s.connect((self.host, self.port))
        s.sendall(octets)
        return s


def allow_files(wanted=20000):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted), hard), hard))


def little_more(now, before, allowed, what):
    """Of memory; not under a sanitizer."""
    assert BUILD != "release" or now - before < allowed, f"{what}: {now - before} octets more"


def has_ended(s):
    """Whether the broker has ended this socket; what it sent before is thrown away."""
    s.setblocking(False)
    try:
        while s.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def refusal(function, *args, **more):
    """The code and text that the broker answers with."""
    try:
        function(*args, **more)
    except pika.exceptions.AMQPError as e:
        if hasattr(e, "reply_code"):
            return e.reply_code, e.reply_text
        said = re.search(r"\((\d+)\) (['\"])(.*)\2", str(e.args[0] if e.args else e))
        if said is None:
            raise
        return int(said.group(1)), said.group(3)
    raise AssertionError("not refused")


class Raw:
    """A connection of octets, that reads what it must."""

    def __init__(self, server, channel_max=2047):
        self.socket = server.socket(HANDSHAKE.replace(
            amqp.method_frame(0, "connection.tune-ok", channel_max=2047, frame_max=131072,
                              heartbeat=0),
            amqp.method_frame(0, "connection.tune-ok", channel_max=channel_max, frame_max=131072,
                              heartbeat=0)))
        self.kept = b""

    def frame(self):
        """Kind, channel and payload of the next one; None at the end."""
        while True:
            if len(self.kept) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.kept[:7])
                if len(self.kept) >= size + 8:
                    payload, self.kept = self.kept[7:size + 7], self.kept[size + 8:]
                    return kind, channel, payload
            more = self.socket.recv(1 << 20)
            if not more:
                return None
            self.kept += more

    def octets(self, n):
        while len(self.kept) < n:
            more = self.socket.recv(1 << 20)
            assert more, "the end"
            self.kept += more
        octets, self.kept = self.kept[:n], self.kept[n:]
        return octets

    def method(self, class_id, method_id):
        """Reads on until that method comes."""
        while True:
            frame = self.frame()
            assert frame is not None, f"the end, before {class_id}.{method_id}"
            if frame[0] == amqp.METHOD and struct.unpack(">HH", frame[2][:4]) == (
                    class_id, method_id):
                return frame

    def closing(self):
        """Code and text of the connection.close that comes."""
        payload = self.method(10, 50)[2]
        code, length = struct.unpack(">HB", payload[4:7])
        return code, payload[7:7 + length].decode()


class Healthy:
    """A client that works while others do what they do: each round is published, confirmed, and
    got back."""

    def __init__(self, server, queue="healthy"):
        self.connection = server.connect()
        self.ch = self.connection.channel()
        self.ch.confirm_delivery()
        self.queue = queue
        self.ch.queue_declare(queue)
        self.slowest_s = 0

    def round(self):
        began = time.monotonic()
        self.ch.basic_publish("", self.queue, b"x" * 100)
        method, _, body = self.ch.basic_get(self.queue, auto_ack=True)
        assert method is not None and body == b"x" * 100
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def close(self):
        self.connection.close()


def main(words):
    chosen = [c for c in cases if not words or any(w in c[0] for w in words)]
    failed = 0
    print(f"1..{len(chosen)}", flush=True)
    for number, (title, function) in enumerate(chosen, 1):
        began = time.monotonic()
        try:
            function()
            print(f"ok {number} - {title} # {time.monotonic() - began:.1f} s", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {title}")
            for line in traceback.format_exc().splitlines()[-12:]:
                print("#", line)
            sys.stdout.flush()
    return 1 if failed else 0
