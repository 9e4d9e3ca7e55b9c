"""broker: a lepusd of one's own, for as long as a test lasts.

It listens on a port that the kernel chose, keeps its data in a directory of its own, and says that
it is ready by a line on its standard output: "ready amqp=127.0.0.1:41234 pid=123".
"""

import os
import re
import signal
import subprocess
import time

READY_S = 30  # a sanitized build on a busy machine starts slowly
STOP_S = 10

# What a sanitizer writes to standard error when it has found something.
REPORT = re.compile(r"ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer"
                    r"|ERROR: ThreadSanitizer|FATAL: ThreadSanitizer|LeakSanitizer"
                    r"|AddressSanitizer:DEADLYSIGNAL")
REPORT_LINES = 120


def sanitizer_report(text):
    """The first report in what a process wrote to standard error, or None."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if REPORT.search(line):
            return "\n".join(lines[max(0, at - 1):at + REPORT_LINES])
    return None


def sanitizer_env(build):
    """Leaks are looked for, the first memory error ends the process, races are all reported."""
    return {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "second_deadlock_stack=1:history_size=4",
    } if build != "release" else {}


def command_for(build, command):
    """ThreadSanitizer of GCC 12 knows too few of the addresses that a kernel may choose from."""
    return ["setarch", "-R", *command] if build == "tsan" else list(command)


class Failed(Exception):
    pass


class Broker:
    """Use as a context manager: whatever happens inside, the process is gone afterwards."""

    def __init__(self, build, build_dir, directory, workers, options=(), env=None):
        self.build = build
        self.stdout_path = os.path.join(directory, "lepusd.stdout")
        self.stderr_path = os.path.join(directory, "lepusd.stderr")
        data_dir = os.path.join(directory, "data")
        os.makedirs(data_dir, exist_ok=True)
        self.command = [os.path.join(build_dir, "src", "server", "lepusd")]
        for option in ("amqp.listen=127.0.0.1:0", f"broker.workers={workers}",
                       f"broker.data_dir={data_dir}", "log.level=info", *options):
            self.command += ["-o", option]
        self.env = {**(os.environ if env is None else env), **sanitizer_env(build)}
        self.process = None
        self.host, self.port, self.pid = None, None, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        self.kill()

    def start(self):
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            try:
                self.process = subprocess.Popen(command_for(self.build, self.command),
                                                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                                env=self.env, start_new_session=True)
            except OSError as e:
                raise Failed(f"lepusd does not start: {e}") from e
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def _await_ready(self):
        deadline = time.monotonic() + READY_S
        while True:
            ended = self.process.poll()
            with open(self.stdout_path, encoding="utf-8", errors="replace") as f:
                ready = re.search(r"^ready .*\bamqp=(\S+):(\d+)\b.*\n", f.read(), re.M)
            if ready is not None and ended is None:
                self.host, self.port = ready.group(1), int(ready.group(2))
                self.pid = self.process.pid
                return
            if ended is not None:
                raise Failed(f"lepusd ended with {ended} before it was ready")
            if time.monotonic() > deadline:
                raise Failed(f"lepusd was not ready within {READY_S} s")
            time.sleep(0.01)

    def stop(self):
        """Orderly. Returns what was wrong with how it lived and ended, as a list of texts."""
        wrong = []
        ended = self.process.poll()
        if ended is not None:
            wrong.append(f"lepusd ended by itself with {ended}")
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                ended = self.process.wait(STOP_S)
                if ended != 0:
                    wrong.append(f"lepusd exited with {ended} after SIGTERM")
            except subprocess.TimeoutExpired:
                wrong.append(f"lepusd did not end within {STOP_S} s of SIGTERM")
        self.kill()
        report = sanitizer_report(self.stderr())
        if report is not None:
            wrong.append("lepusd: a sanitizer found something\n" + report)
        return wrong

    def kill(self):
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()
