"""soak: what the soak scripts share: lepusd's figures, TAP, and sockets that speak prepared octets.

The scripts run against the broker at LEPUS_HOST and LEPUS_PORT, whose process is LEPUS_PID.
"""

import os
import resource
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "wire"))

import amqp  # noqa: E402

PID = int(os.environ.get("LEPUS_PID", "0"))
PATIENCE_S = 60

HANDSHAKE = b"".join((
    amqp.HEADER_091,
    amqp.method_frame(0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest",
                      locale="en_US", client_properties={"capabilities": {
                          "authentication_failure_close": True}}),
    amqp.method_frame(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0),
    amqp.method_frame(0, "connection.open", virtual_host="/")))


def allow_files(wanted=20000):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted), hard), hard))


def resident():
    """lepusd's resident memory, in octets."""
    with open(f"/proc/{PID}/status", encoding="ascii") as f:
        return int(f.read().split("VmRSS:")[1].split()[0]) * 1024


def open_files():
    return len(os.listdir(f"/proc/{PID}/fd"))


def until(condition, what, patience=PATIENCE_S):
    """Waits for what cannot be waited for otherwise: that another process has done something."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise amqp.Failure(f"not within {patience} s: {what}")
        time.sleep(0.02)


class Tap:
    def __init__(self, planned):
        self.told, self.failed = 0, 0
        print(f"1..{planned}", flush=True)

    def tell(self, good, name, detail=""):
        self.told += 1
        self.failed += not good
        print(f"{'' if good else 'not '}ok {self.told} - {name}", flush=True)
        if detail:
            print(f"# {detail}", flush=True)

    def exit(self):
        sys.exit(1 if self.failed else 0)


def note(text):
    print(f"# {text}", flush=True)


class Socket:
    """Sends prepared octets and waits for the octets that end the answer to them."""

    def __init__(self):
        self.sock = socket.create_connection((amqp.HOST, amqp.PORT), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, octets):
        self.sock.sendall(octets)

    def await_end(self, end):
        tail = b""
        while not tail.endswith(end):
            got = self.sock.recv(1 << 18)
            if not got:
                raise amqp.Failure(f"closed; last came {tail[-200:]!r}")
            tail = (tail + got)[-2000:]

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self):
        self.sock.close()


def connect(channels=0):
    """An open connection with so many channels open, by prepared octets."""
    s = Socket()
    s.send(HANDSHAKE + b"".join(amqp.method_frame(n, "channel.open")
                                for n in range(1, channels + 1)))
    s.await_end(amqp.method_frame(channels, "channel.open-ok") if channels
                else amqp.method_frame(0, "connection.open-ok"))
    return s
