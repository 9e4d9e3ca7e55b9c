"""harness: what the cases of test/permissions share: users as a definitions.json has them, a lepusd
that loads them, clients, and the refusals that they hear."""

import base64
import hashlib
import json
import os
import re
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
ALL = (".*", ".*", ".*")

cases = []


def case(title):
    def register(function):
        cases.append((title, function))
        return function
    return register


def case_of_workers(title):
    """Put twice: with one worker and with four."""
    def register(function):
        for workers in (1, 4):
            cases.append((f"{title}, {workers} workers",
                          lambda workers=workers: function(workers)))
        return function
    return register


def equal(have, want, what="value"):
    assert have == want, f"{what} is {have!r}, expected {want!r}"


def until(condition, what):
    """Waits for what cannot be waited for otherwise: that another process has done something."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.01)


# --- definitions ---

def user(name, password=None, algorithm="sha256", tags=""):
    salt = hashlib.sha1(name.encode()).digest()[:4]
    octets = b"" if password is None else \
        salt + hashlib.new(algorithm, salt + password.encode()).digest()
    return {"name": name, "password_hash": base64.b64encode(octets).decode(), "tags": tags,
            "hashing_algorithm": f"rabbit_password_hashing_{algorithm}"}


def permission(name, configure, write, read, vhost="/"):
    return {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}


def topic(name, exchange, write, read, vhost="/"):
    return {"user": name, "vhost": vhost, "exchange": exchange, "write": write, "read": read}


def definitions(users, permissions=(), topics=(), vhosts=("/",)):
    """Besides them boss, who may do everything everywhere."""
    return {"vhosts": [{"name": v} for v in vhosts],
            "users": [user("boss", "boss", tags="administrator"), *users],
            "permissions": [*(permission("boss", *ALL, vhost=v) for v in vhosts), *permissions],
            "topic_permissions": [*topics]}


# --- the broker ---

class Server(broker.Broker):
    """Leaves in order, or the case fails. document: the definitions to load."""

    def __init__(self, *options, workers=2, document=None):
        self.directory = tempfile.mkdtemp(prefix="lepus-permissions-")
        self.definitions = os.path.join(self.directory, "definitions.json")
        if document is not None:
            self.define(document)
            options = (f"broker.load_definitions={self.definitions}", *options)
        super().__init__(BUILD, BUILD_DIR, self.directory, workers, options)
        self.config = os.path.join(self.directory, "lepus.ini")
        with open(self.config, "w", encoding="utf-8"):
            pass
        self.command = [*self.command, "-c", self.config]

    def again(self, end):
        """Ends it as `end` does, and starts it again."""
        end()
        os.unlink(self.stdout_path)
        self.start()

    def define(self, document):
        with open(self.definitions, "w", encoding="utf-8") as f:
            json.dump(document, f)

    def redefine(self, document):
        """Comes back when it is imported, and on the disk."""
        self.define(document)
        told = len(re.findall("definitions taken", self.stderr()))
        os.kill(self.pid, signal.SIGHUP)
        self.log_has("definitions taken", told + 1)

    def log_count(self, pattern):
        return len(re.findall(pattern, self.stderr()))

    def log_has(self, pattern, times=1):
        until(lambda: self.log_count(pattern) >= times, f"{times} of {pattern!r} in the log")

    def __exit__(self, kind, *unused):
        try:
            wrong = self.stop()
            assert kind is not None or not wrong, "\n".join(wrong)
        finally:
            self.kill()
            if kind is not None:
                print("# " + self.stderr()[-3000:].replace("\n", "\n# "))
            shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, name, password=None, vhost="/", **more):
        if "credentials" not in more:
            more["credentials"] = pika.PlainCredentials(name, name if password is None else password)
        return pika.BlockingConnection(pika.ConnectionParameters(
            self.host, self.port, vhost, socket_timeout=PATIENCE_S, stack_timeout=PATIENCE_S,
            blocked_connection_timeout=PATIENCE_S, heartbeat=0, **more))

    def raw(self, octets=b""):
        s = socket.create_connection((self.host, self.port), timeout=PATIENCE_S)
        s.sendall(octets)
        return s


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


LOGIN_REFUSED = (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                      "For details see the broker logfile.")


def handshake(name, password, can_fail=True, mechanism="PLAIN"):
    """From the protocol's header to start-ok, at once."""
    return amqp.HEADER_091 + amqp.method_frame(
        0, "connection.start-ok", mechanism=mechanism,
        response=f"\0{name}\0{password}".encode(), locale="en_US",
        client_properties={"capabilities": {"authentication_failure_close": can_fail}})


def answer(s):
    """The method behind connection.start, as (class, method); None when the socket ends."""
    kept, seen = b"", 0
    while True:
        if len(kept) >= 7:
            size = struct.unpack(">I", kept[3:7])[0] + 8
            if len(kept) >= size:
                found = struct.unpack(">HH", kept[7:11])
                if found != (10, 10):
                    return found
                kept = kept[size:]
                seen += 1
                continue
        more = s.recv(65536)
        if not more:
            return None
        kept += more


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
