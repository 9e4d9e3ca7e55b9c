"""targets: the brokers that are measured, each a process of its own, and the load that is put on them.

A target is started in a directory that is thrown away, listens on a loopback port, and is ended by
its pid. What it costs is read from /proc while lepus-perf runs: CPU time of the whole process
before and after, resident memory every tenth of a second. Both processes share the machine, so on
two cores the broker has at most about one to itself; lepus-perf says how much it took.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
READY_S = 90
STOP_S = 20
SAMPLE_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pid):
    """User and system time of a process, all its threads together."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        found = re.search(r"^VmRSS:\s+(\d+) kB", f.read(), re.M)
    return int(found.group(1)) / 1024 if found else 0.0


def allow_many_files():
    """As many open files as this process may have; what it starts inherits that."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Builds:
    """Where the programs are."""

    def __init__(self, build_dir):
        self.lepusd = os.path.join(build_dir, "src", "server", "lepusd")
        self.perf = os.path.join(build_dir, "tools", "lepus-perf", "lepus-perf")
        self.floor = os.path.join(build_dir, "test", "bench", "floor")
        missing = [p for p in (self.lepusd, self.perf, self.floor) if not os.access(p, os.X_OK)]
        if missing:
            raise Failed("not built: " + ", ".join(missing))


class Target:
    """Use as a context manager: whatever happens inside, the process is gone afterwards."""

    name = ""
    features = frozenset()  # what workloads may ask for

    def __init__(self, where):
        self.directory = tempfile.mkdtemp(prefix="lepus-bench-", dir=where)
        self.process, self.pid, self.port, self.tls_port = None, None, None, None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        self.end(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def tls_url(self):
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/%2F"

    def make_certificate(self):
        """(certificate, key, authority): the same kind for everybody."""
        folder = os.path.join(self.directory, "certificates")
        done = subprocess.run([os.path.join(ROOT, "tools", "make-certs"), folder],
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed("tools/make-certs: " + done.stderr.strip())
        return [os.path.join(folder, name) for name in ("server.pem", "server.key", "ca.pem")]

    def spawn(self, command, env=None, out="stdout"):
        path = os.path.join(self.directory, out)
        with open(path, "wb") as f:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f,
                                    stderr=subprocess.STDOUT, env=env, start_new_session=True)

    def await_ready_line(self):
        """The line that lepusd and the floor print: "ready amqp=127.0.0.1:41234 pid=123"."""
        deadline = time.monotonic() + READY_S
        path = os.path.join(self.directory, "stdout")
        while time.monotonic() < deadline:
            with open(path, encoding="utf-8", errors="replace") as f:
                text = f.read()
            ready = re.search(r"^ready .*\bamqp=\S+:(\d+)\b.*\n", text, re.M)
            secure = re.search(r"^ready .*\bamqps=\S+:(\d+)\b.*\n", text, re.M)
            if ready:
                self.tls_port = int(secure.group(1)) if secure else None
                self.port, self.pid = int(ready.group(1)), self.process.pid
                return
            if self.process.poll() is not None:
                raise Failed(f"{self.name} does not start: {text.strip()[-500:]}")
            time.sleep(0.01)
        raise Failed(f"{self.name} was not ready within {READY_S} s")

    @staticmethod
    def end(process):
        """Ends a process that we started, and what it started in its session."""
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


class Lepus(Target):
    features = frozenset({"queues", "durable", "routing", "tls"})

    def __init__(self, builds, where, workers, options=()):
        super().__init__(where)
        self.name = f"lepus w{workers}"
        self.program, self.workers, self.options = builds.lepusd, workers, options

    def start(self):
        command = [self.program]
        certificate, key, _ = self.make_certificate()
        for option in ("amqp.listen=127.0.0.1:0", "amqp.tls_listen=127.0.0.1:0",
                       f"tls.certificate={certificate}", f"tls.key={key}", f"broker.workers={self.workers}",
                       f"broker.data_dir={self.directory}/data", "log.level=warn", *self.options):
            command += ["-o", option]
        self.process = self.spawn(command)
        self.await_ready_line()


class Floor(Target):
    name = "floor"

    def __init__(self, builds, where, copies_to_all=False):
        super().__init__(where)
        self.command = [builds.floor] + (["--all"] if copies_to_all else [])

    def start(self):
        self.process = self.spawn(self.command)
        self.await_ready_line()


class Rabbit(Target):
    """Debian's rabbitmq-server as an ordinary process: a node name, ports, a port mapper, a cookie
    and files of its own, so that it neither meets nor disturbs one that runs on the machine."""

    name = "rabbitmq"
    features = frozenset({"queues", "durable", "routing", "tls"})
    SCRIPT = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def __init__(self, where):
        super().__init__(where)
        self.mapper = None

    @classmethod
    def version(cls):
        """None when it is not installed."""
        if not os.access(cls.SCRIPT, os.X_OK):
            return None
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"],
                              capture_output=True, text=True, timeout=30)
        return done.stdout.strip() or "of unknown version"

    def start(self):
        self.port, self.tls_port = free_port(), free_port()
        certificate, key, authority = self.make_certificate()
        node = f"lepus-bench-{os.getpid()}-{self.port}@localhost"
        mapper_port = str(free_port())
        paths = {name: os.path.join(self.directory, name)
                 for name in ("mnesia", "log", "home", "plugins", "config", "pid")}
        for name in ("mnesia", "log", "home"):
            os.mkdir(paths[name])
        with open(paths["plugins"], "w", encoding="ascii") as f:
            f.write("[].\n")
        with open(paths["config"] + ".conf", "w", encoding="ascii") as f:
            f.write(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
                    f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                    f"ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
                    f"ssl_options.cacertfile = {authority}\nssl_options.verify = verify_none\n"
                    "ssl_options.fail_if_no_peer_cert = false\n")
        env = {**os.environ, "HOME": paths["home"], "ERL_EPMD_PORT": mapper_port,
               "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": node,
               "RABBITMQ_DIST_PORT": str(free_port()),
               "RABBITMQ_MNESIA_BASE": paths["mnesia"], "RABBITMQ_LOG_BASE": paths["log"],
               "RABBITMQ_PID_FILE": paths["pid"], "RABBITMQ_CONFIG_FILE": paths["config"],
               "RABBITMQ_ENABLED_PLUGINS_FILE": paths["plugins"],
               "RABBITMQ_CONF_ENV_FILE": "/dev/null",
               "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false"}
        self.mapper = self.spawn(["epmd", "-port", mapper_port, "-address", "127.0.0.1"], env,
                                 "epmd")
        self.process = self.spawn([self.SCRIPT], env)
        self._await_listener()
        self.pid = self._emulator()

    def _await_listener(self):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                with open(os.path.join(self.directory, "stdout"), encoding="utf-8",
                          errors="replace") as f:
                    raise Failed("rabbitmq does not start: " + f.read().strip()[-1000:])
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as s:
                    s.sendall(b"AMQP\0\0\x09\x01")
                    s.settimeout(5)
                    if s.recv(1):
                        return
            except OSError:
                time.sleep(0.1)
        raise Failed(f"rabbitmq was not ready within {READY_S} s")

    def _emulator(self):
        """The Erlang emulator among the processes of our session: the one that costs."""
        session = os.getsid(self.process.pid)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    name = f.read().strip()
                if name.startswith("beam") and os.getsid(int(pid)) == session:
                    return int(pid)
            except OSError:
                pass
        raise Failed("no Erlang emulator is to be seen")

    def __exit__(self, *unused):
        # The script passes SIGTERM on to the emulator, which stops the node in order.
        self.end(self.process)
        self.end(self.mapper)
        shutil.rmtree(self.directory, ignore_errors=True)


# ---- load ----

class Sampler(threading.Thread):
    """Resident memory of a process: the most it was, and what it was last."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.over = pid, threading.Event()
        self.first = self.peak = self.last = rss_mib(pid)

    def run(self):
        while not self.over.wait(SAMPLE_S):
            self.sample()

    def sample(self):
        try:
            self.last = rss_mib(self.pid)
        except OSError:
            return
        self.peak = max(self.peak, self.last)

    def stop(self):
        self.over.set()
        self.join()
        self.sample()


def load(builds, target, arguments, timeout_s, is_tls=False):
    """Runs lepus-perf. Its summary, with what the target spent on it under "broker"."""
    command = [builds.perf, "--url", target.tls_url if is_tls else target.url, "--json", "--quiet",
               *(str(a) for a in arguments)]
    sampler = Sampler(target.pid)
    before = cpu_s(target.pid)
    sampler.start()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout_s)
    except subprocess.TimeoutExpired as e:
        raise Failed(f"lepus-perf did not end within {timeout_s} s") from e
    finally:
        sampler.stop()
    if done.returncode != 0:
        raise Failed(done.stderr.strip() or f"lepus-perf ended with {done.returncode}")
    summary = json.loads(done.stdout)
    summary["broker"] = {"cpu_s": cpu_s(target.pid) - before, "rss_peak_mib": sampler.peak,
                         "rss_before_mib": sampler.first, "rss_mib": sampler.last}
    return summary
