"""alarms: memory runs short, publishers wait and are told why, consumers go on; a client that does
not read, and a publisher that is faster than its queue, cost what they may cost."""

import socket
import sys
import threading
import time

import amqp

from harness import HANDSHAKE, PATIENCE_S, Server, case, equal, until

LONG = "--long" in sys.argv
MIB = 1 << 20


class Blocked:
    """What a connection was told, in order."""

    def __init__(self, connection):
        self.told = []
        connection.add_on_connection_blocked_callback(
            lambda _, frame: self.told.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda *_: self.told.append(None))


def publish_until_blocked(connection, ch, blocked, queue, body):
    deadline = time.monotonic() + PATIENCE_S
    while not blocked.told:
        ch.basic_publish("", queue, body)
        connection.process_data_events(0)
        assert time.monotonic() < deadline, "never blocked"


@case("memory above the watermark: publishers are told and not read, consumers go on, then all do")
def watermark():
    with Server() as server:
        publisher, consumer = server.connect(), server.connect()
        out, into = publisher.channel(), consumer.channel()
        out.queue_declare("q")
        for _ in range(10):
            out.basic_publish("", "q", b"before")
        until(lambda: into.queue_declare("q", passive=True).method.message_count == 10, "all are in")
        blocked = Blocked(publisher)
        quiet = Blocked(consumer)
        set_watermark(server, "1MiB")
        server.log_has("publishers are blocked: low on memory")
        publish_until_blocked(publisher, out, blocked, "q", b"x")
        equal(blocked.told, ["low on memory"])
        for _ in range(10):
            until(lambda: into.basic_get("q", auto_ack=True)[0], "a message")
        equal(quiet.told, [])
        late = server.connect()
        after = Blocked(late)
        late.channel().basic_publish("", "q", b"late")
        until(lambda: late.process_data_events(0.01) or after.told, "a newcomer that publishes")
        set_watermark(server, "0B")
        until(lambda: publisher.process_data_events(0.01) or len(blocked.told) == 2, "unblocked")
        until(lambda: late.process_data_events(0.01) or len(after.told) == 2, "unblocked")
        equal(blocked.told, ["low on memory", None])
        equal(after.told, ["low on memory", None])
        until(lambda: into.basic_get("q", auto_ack=True)[2] == b"late", "what was held back")
        for connection in (publisher, consumer, late):
            connection.close()


def set_watermark(server, value):
    with open(server.config, "w", encoding="utf-8") as f:
        f.write(f"[limits]\nmemory_high_watermark = {value}\n")
    server.reload()


@case("memory and disk: both are told")
def memory_and_disk():
    with Server() as server:
        with open(server.config, "w", encoding="utf-8") as f:
            f.write("[limits]\nmemory_high_watermark = 1MiB\n[store]\ndisk_free_limit = 100%\n")
        server.reload()
        server.log_has("publishers are blocked: low on")
        connection = server.connect()
        blocked = Blocked(connection)
        ch = connection.channel()
        ch.basic_publish("", "nobody", b"x")
        until(lambda: connection.process_data_events(0.01) or blocked.told, "blocked")
        equal(blocked.told, ["low on memory & disk"])
        with open(server.config, "w", encoding="utf-8"):
            pass
        server.reload()
        connection.close()


# ---- floods ----

def publish_octets(queue, size, count):
    """So many publishes, as octets."""
    body = b"x" * size
    return amqp.publish(1, "", queue, body) * count


class Flood(threading.Thread):
    """Writes the same octets, over and over, as fast as it is read."""

    def __init__(self, server, queue, size):
        super().__init__(daemon=True)
        self.socket = server.socket(HANDSHAKE + amqp.method_frame(1, "channel.open"))
        self.octets = publish_octets(queue, size, max(1, MIB // size))
        self.sent = 0
        self.is_over = False

    def run(self):
        self.socket.settimeout(0.1)
        view = memoryview(self.octets)
        at = 0
        while not self.is_over:
            try:
                n = self.socket.send(view[at:])
            except socket.timeout:
                continue
            except OSError:
                return
            self.sent += n
            at = (at + n) % len(self.octets)

    def stop(self):
        self.is_over = True
        self.join()
        self.socket.close()


def watch(server, seconds, each):
    """The most memory that was resident in this time."""
    most, until_s = 0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        most = max(most, server.resident_own())
        each()
        time.sleep(0.02)
    return most


@case("publishers at full speed and no consumer: memory stays under the watermark and a tenth",
      of_memory=True)
def flood():
    limit = 192 * MIB
    with Server(f"limits.memory_high_watermark={limit}B", "store.disk_free_limit=0B") as server:
        healthy = server.connect()
        ch = healthy.channel()
        names = ["small", "large"]
        for name in names:
            ch.queue_declare(name, arguments={"x-max-length-bytes": 2 << 30})
        floods = [Flood(server, name, size) for name, size in zip(names, (100, 64 << 10))]
        for one in floods:
            one.start()
        most = watch(server, 120 if LONG else 5, lambda: ch.basic_get("small", auto_ack=True))
        sent = sum(one.sent for one in floods)
        for one in floods:
            one.stop()
        print(f"# {sent >> 20} MiB sent, {most >> 20} MiB resident at most", flush=True)
        assert sent > limit, sent
        assert most < limit * 1.1, most
        for name in names:
            ch.queue_purge(name)
        healthy.close()


@case("queues may have more than the watermark: it holds, and room in them lets publishers on",
      of_memory=True)
def flood_of_memory():
    limit = 512 * MIB
    with Server(f"limits.memory_high_watermark={limit}B", "store.memory=4GiB",
                "store.disk_free_limit=0B") as server:
        connection = server.connect()
        ch = connection.channel()
        ch.queue_declare("q")
        floods = [Flood(server, "q", 64 << 10) for _ in range(2)]
        for one in floods:
            one.start()
        server.log_has("publishers are blocked: low on memory")
        most = watch(server, 1, lambda: None)
        print(f"# {most >> 20} MiB resident at most", flush=True)
        assert most < limit * 1.1, most
        for one in floods:
            one.is_over = True
        ch.queue_purge("q")
        server.log_has("publishers go on")
        for one in floods:
            one.stop()
        connection.close()


@case("a consumer that never reads: its deliveries stop, memory stays, and others are served",
      of_memory=True)
def never_reads():
    size, count = 16 << 10, 6000
    with Server("store.disk_free_limit=0B") as server:
        connection = server.connect()
        ch = connection.channel()
        ch.confirm_delivery()
        ch.queue_declare("q")
        ch.queue_declare("other")
        deaf = server.socket(HANDSHAKE + amqp.method_frame(1, "channel.open")
                             + amqp.method_frame(1, "basic.consume", queue="q", no_ack=1),
                             receive_buffer=4096)
        until(lambda: ch.queue_declare("q", passive=True).method.consumer_count == 1, "it consumes")
        before = server.resident_own()
        for _ in range(count):
            ch.basic_publish("", "q", b"x" * size)
        after = server.resident_own()
        print(f"# {size * count >> 20} MiB published, {after - before >> 20} MiB more resident",
              flush=True)
        assert after - before < 48 * MIB, after - before
        assert ch.queue_declare("q", passive=True).method.message_count > count // 2
        ch.basic_publish("", "other", b"served")
        equal(ch.basic_get("other", auto_ack=True)[2], b"served")
        deaf.close()
        until(lambda: ch.queue_declare("q", passive=True).method.consumer_count == 0, "it is gone")
        connection.close()
