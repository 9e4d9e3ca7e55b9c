#!/usr/bin/python3
"""rate.py [QUEUES] [CHANNELS] [WORKERS]: how fast durable queues, with a binding each, are declared over
pipelined channels, each answered when it is on disk, and how long a start takes that loads them.
Starts $LEPUS_SERVER (default: the release build) on a directory of its own below $TMPDIR."""

import os
import re
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(ROOT, "test")]

import broker  # noqa: E402
import pipelined as amqp  # noqa: E402

CHUNK = 500


def declare_all(client, channels, names):
    """Sends everything without waiting, and reads the answers meanwhile."""
    def send():
        for at in range(0, len(names), CHUNK):
            out = []
            for i, name in enumerate(names[at:at + CHUNK]):
                channel = 1 + (at + i) % channels
                out.append(amqp.queue_declare(channel, name))
                out.append(amqp.queue_bind(channel, name, "amq.topic", "a." + name))
            client.send(b"".join(out))

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(2 * len(names)):
        got = client.next()
        if got is None or got[1] not in (amqp.QUEUE_DECLARE_OK, amqp.QUEUE_BIND_OK):
            raise AssertionError(f"{got} instead of declare-ok or bind-ok")
    sender.join()


def loaded_ms(lepusd):
    """What the newest start said: (queues, bindings, milliseconds)."""
    return tuple(map(int, re.findall(r" (\d+) queues, (\d+) bindings in (\d+) ms",
                                     lepusd.stderr())[-1]))


def start(lepusd):
    """A start after the first: what the former process printed is not its word."""
    open(lepusd.stdout_path, "w").close()
    lepusd.start()


def measure(lepusd, queues, channels, prefix="q"):
    """Queues a second."""
    client = amqp.Client(lepusd.host, lepusd.port, channels)
    began = time.monotonic()
    declare_all(client, channels, [f"{prefix}{i}" for i in range(queues)])
    seconds = time.monotonic() - began
    client.close()
    return queues / seconds


def main():
    queues, channels, workers = (int(a) for a in (sys.argv[1:] + ["100000", "4", "2"][len(sys.argv) - 1:]))
    server = os.environ.get("LEPUS_SERVER", os.path.join(ROOT, ".build/release/src/server/lepusd"))
    build_dir = os.path.dirname(os.path.dirname(os.path.dirname(server)))
    with tempfile.TemporaryDirectory(prefix="lepus-rate-") as directory:
        lepusd = broker.Broker("release", build_dir, directory, workers)
        with lepusd:
            rate = measure(lepusd, queues, channels)
            print(f"{queues} durable queues with a binding each, {channels} channels, "
                  f"{workers} workers: {rate:,.0f} queues/s")
            lepusd.kill()
            for how in ("SIGKILL", "SIGTERM"):
                began = time.monotonic()
                start(lepusd)
                print(f"start after {how}: ready in {1000 * (time.monotonic() - began):.0f} ms, "
                      "of these %d queues and %d bindings in %d ms" % loaded_ms(lepusd))
                for wrong in lepusd.stop():
                    print(wrong)


if __name__ == "__main__":
    main()
