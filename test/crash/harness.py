"""harness: what the crash suites share: arguments, TAP, and a broker's lives with their ledger."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from client import Loop  # noqa: E402
import load  # noqa: E402
import server  # noqa: E402
from server import broker  # noqa: E402
from ledger import Ledger  # noqa: E402

PATIENCE_S = 60


class Tap:
    """Cases are told as they end; the plan comes last."""

    def __init__(self):
        self.told = self.failed = 0

    def tell(self, wrong, name):
        """wrong: a list of texts, empty when all is well."""
        self.told += 1
        self.failed += bool(wrong)
        print(f"{'not ' if wrong else ''}ok {self.told} - {name}", flush=True)
        for text in wrong:
            for line in str(text).splitlines():
                print(f"# {line}", flush=True)

    def note(self, text):
        print(f"# {text}", flush=True)

    def exit(self):
        print(f"1..{self.told}", flush=True)
        sys.exit(1 if self.failed or not self.told else 0)


def arguments(description, rounds, long_rounds, **more):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--rounds", type=int, metavar="N",
                   help=f"{rounds} without this, {long_rounds} by --long")
    p.add_argument("--long", action="store_true")
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    p.add_argument("--workers", type=int, default=int(os.environ.get("LEPUS_WORKERS", "1")))
    p.add_argument("--keep", metavar="DIR", help="work there and leave it")
    p.add_argument("-o", action="append", default=[], metavar="KEY=VALUE", dest="options",
                   help="a setting of lepusd")
    p.add_argument("--rabbitmq", action="store_true",
                   help="try the checker on a RabbitMQ that is installed here")
    for name, settings in more.items():
        p.add_argument("--" + name.replace("_", "-"), **settings)
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started is ended
    if options.rounds is None:
        options.rounds = long_rounds if options.long else rounds
    return options


class Session:
    """A directory, a broker that lives there again and again, and what it promised."""

    def __init__(self, options, rng, make=None):
        self.rng, self.ledger = rng, Ledger()
        self.ledger.streams = dict.fromkeys(load.STREAMS, 0)
        if options.keep:
            os.makedirs(options.keep, exist_ok=True)
        self.directory = options.keep or tempfile.mkdtemp(prefix="lepus-crash-")
        self.keep = bool(options.keep)
        if make is not None:
            self.broker = make(self.directory)
        elif options.rabbitmq:
            import rabbitmq
            self.broker = rabbitmq.RabbitMQ(self.directory)
            self.ledger.is_weak = True
        else:
            self.broker = server.Lepus(self.directory, options.workers, options.options)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.broker.kill()
        if hasattr(self.broker, "end"):
            self.broker.end()
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        self.broker.start()

    def prepare(self):
        load.prepare(self.broker.host, self.broker.port)

    def work_until_killed(self, events, deep=True, dies=lambda: False):
        """Load, until so many promises were made; then SIGKILL, and all that it had said is read.
        dies: tells whether it was meant to die by itself, too. Returns what was wrong before."""
        context = load.Context(self.ledger, self.rng)
        count = 0

        later = self.rng.choice((0, 0, 0.002, 0.02)) * self.rng.random()
        shoot_at = None

        def event():
            nonlocal count, shoot_at
            count += 1
            if count >= events and shoot_at is None:
                shoot_at = time.monotonic() + later
            if shoot_at is not None and time.monotonic() >= shoot_at and not context.killed:
                context.killed = True
                self.broker.shoot()

        context.event = event
        loop = Loop()
        wrong = []
        try:
            try:
                load.staff(loop, context, self.broker.host, self.broker.port, deep)
            except (OSError, AssertionError):
                if not dies():
                    raise
                self.broker.process.wait(PATIENCE_S)  # it is gone before all were there
                context.killed = True
            deadline = time.monotonic() + PATIENCE_S
            while not context.killed:
                before = count
                loop.turn(0.1 if shoot_at is None else 0)
                if shoot_at is not None:
                    count -= 1
                    event()
                if count > before:
                    deadline = time.monotonic() + PATIENCE_S
                if len(loop.living()) < len(loop.peers) and dies():
                    self.broker.process.wait(PATIENCE_S)
                    context.killed = True
                elif context.refused:
                    raise load.Broken("; ".join(context.refused))
                if time.monotonic() > deadline:
                    raise load.Broken(f"nothing was promised for {PATIENCE_S} s")
            loop.drain_dead()
        except Exception:
            wrong.append(traceback.format_exc())
            if not self.broker.is_alive() and not context.killed:
                wrong.append("the broker died by itself")
            context.killed = True
        self.broker.kill()
        loop.close()
        wrong = self.judged(wrong)
        self.ledger.crashed()
        return wrong

    def judged(self, wrong):
        """With what the ledger and the broker's log add to it."""
        wrong = wrong + self.ledger.take_problems()
        complaint = self.broker.complaints()
        if complaint:
            wrong.append(complaint)
        if wrong:
            wrong += ["the broker's log ends:"] + self.broker.stderr().splitlines()[-30:]
        return wrong

    def look(self, keep=0.5):
        """Starts it again and looks. Returns what is wrong."""
        wrong = []
        try:
            began = time.monotonic()
            self.start()
            self.started_s = time.monotonic() - began
            load.look(self.broker.host, self.broker.port, self.ledger, self.rng, keep)
        except Exception as e:
            wrong.append(traceback.format_exc() if not isinstance(e, broker.Failed) else str(e))
        return self.judged(wrong)

    def start_and_kill(self):
        """A start that is cut short: recovery must survive its own end."""
        process = self.broker.spawn()
        try:
            process.wait(self.rng.choice((0.002, 0.01, 0.02, 0.05)) * self.rng.random() * 2)
        except subprocess.TimeoutExpired:
            pass
        server.end_group(process)

    def summary(self):
        return ", ".join(f"{n} {what}" for what, n in sorted(self.ledger.counted.items()))


def draw_events(rng):
    """How many promises until the end: from a handful to thousands."""
    return int(10 ** rng.uniform(0.3, 3.9))
