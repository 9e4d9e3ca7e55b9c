"""harness: a lepusd with several lives, and what the cases of this suite share.

A case is a function of a Lepusd that runs; it is called once with one worker and once with four,
each time with a broker of its own that has nothing in it. It waits for what it expects, with a
deadline, and measures time only where time is what it is about.
"""

import os
import signal
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(os.path.join(ROOT, "test"))

import broker  # noqa: E402
import pika  # noqa: E402

SERVER = os.environ.get("LEPUS_SERVER", os.path.join(ROOT, ".build/release/src/server/lepusd"))
BUILD = os.environ.get("LEPUS_BUILD", "release")
BUILD_DIR = os.path.dirname(os.path.dirname(os.path.dirname(SERVER)))
PATIENCE_S = 30
LATE_S = 30  # how late something timed may be on a machine that is busy elsewhere

cases = []


def case(function):
    cases.append(function)
    return function


class Lepusd(broker.Broker):
    def __init__(self, directory, workers):
        super().__init__(BUILD, BUILD_DIR, directory, workers)
        self.connections = []

    def start(self):
        open(self.stdout_path, "w").close()  # a former life's ready line is not this one's
        super().start()

    def channel(self, confirm=True):
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(self.host, self.port, heartbeat=0))
        self.connections.append(connection)
        channel = connection.channel()
        if confirm:
            channel.confirm_delivery()
        return channel

    def _disconnect(self):
        for connection in self.connections:
            if connection.is_open:
                connection.close()
        self.connections = []

    def restart(self, kill):
        """The next life; what clients held is given back."""
        if kill:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            report = broker.sanitizer_report(self.stderr())
            assert report is None, report
            self.connections = []
        else:
            self.end()
        self.start()

    def end(self):
        self._disconnect()
        wrong = self.stop()
        assert not wrong, "\n".join(wrong)


def equal(have, want, what="value"):
    assert have == want, f"{what} is {have!r}, expected {want!r}"


def until(is_so, what):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        got = is_so()
        if got:
            return got
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE_S} s"
        time.sleep(0.005)


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def put(channel, queue, body, exchange="", headers=None, **properties):
    """A persistent message; with a confirming channel it is safe when this returns."""
    properties.setdefault("delivery_mode", 2)
    channel.basic_publish(exchange, queue, body if isinstance(body, bytes) else str(body).encode(),
                          pika.BasicProperties(headers=headers, **properties))


def take(channel, queue, ack=True):
    """The next message, waited for: (method, properties, body)."""
    got = []

    def one():
        got[:] = channel.basic_get(queue, auto_ack=ack)
        return got[0] is not None

    until(one, f"a message in {queue}")
    return got


def bodies(channel, queue, n):
    return [take(channel, queue)[2] for _ in range(n)]


def deaths(properties):
    """x-death, as (queue, reason, count), the last one first."""
    return [(d["queue"], d["reason"], d["count"]) for d in properties.headers["x-death"]]


class Consumer:
    """Deliveries of one consumer on a connection of its own, collected by step()."""

    def __init__(self, server, queue, prefetch=0, **how):
        self.server = server
        self.channel = server.channel(confirm=False)
        self.channel.basic_qos(prefetch_count=prefetch)
        self.got = []
        self.tag = self.channel.basic_consume(queue, self._on_message, **how)

    def _on_message(self, _channel, method, properties, body):
        self.got.append((method, properties, body))

    def step(self):
        self.channel.connection.process_data_events(time_limit=0)

    def wait(self, n):
        def enough():
            self.step()
            return len(self.got) >= n

        until(enough, f"{n} deliveries, {len(self.got)} came")
        return self.got

    def close(self):
        """In order: pika cancels the consumer first."""
        self.channel.connection.close()

    def close_channel(self):
        """The channel ends with its consumer: for an error, since pika would cancel first."""
        self.channel.basic_ack(1 << 60)
        until(lambda: self.step() or self.channel.is_closed, "the channel is closed")

    def drop(self):
        """The socket closes without a word."""
        self.server.connections.remove(self.channel.connection)
        self.channel.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
