"""rabbitmq: a RabbitMQ in Lepus's place, to try the checker on a broker that keeps its promises.

Debian's rabbitmq-server, with a node, a directory, ports and an epmd of its own. Not part of any
suite: for `kill9 --rabbitmq`.
"""

import os
import signal
import socket
import subprocess
import time

import amqp

PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
READY_S = 90


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RabbitMQ:
    def __init__(self, directory):
        self.directory, self.process, self.lives = directory, None, 0
        self.host, self.port, self.epmd_port = "127.0.0.1", free_port(), free_port()
        self.data_dir = os.path.join(directory, "mnesia")
        self.epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port",
                                      str(self.epmd_port)])
        plugins = os.path.join(directory, "enabled_plugins")
        with open(plugins, "w", encoding="ascii") as f:
            f.write("[].\n")
        conf = os.path.join(directory, "rabbitmq.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 50MB\n")
        self.env = {**os.environ, "HOME": directory, "ERL_EPMD_PORT": str(self.epmd_port),
                    "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": "crash@localhost",
                    "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(free_port()),
                    "RABBITMQ_MNESIA_BASE": self.data_dir, "RABBITMQ_CONFIG_FILE": conf,
                    "RABBITMQ_LOG_BASE": os.path.join(directory, "log"),
                    "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
                    "RABBITMQ_PID_FILE": os.path.join(directory, "pid")}

    def spawn(self):
        with open(os.path.join(self.directory, "rabbitmq.out"), "ab") as out:
            return subprocess.Popen([PROGRAM], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    env=self.env, cwd=self.directory, start_new_session=True)

    def start(self):
        self.lives += 1
        self.process = self.spawn()
        deadline = time.monotonic() + READY_S
        while True:
            try:
                amqp.Connection(self.host, self.port).handshake().close()
                return
            except (OSError, amqp.Failure):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def shoot(self):
        os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self):
        if self.process is not None:
            try:
                self.shoot()
            except ProcessLookupError:
                pass
            self.process.wait()

    def end(self):
        self.epmd.kill()
        self.epmd.wait()

    def is_alive(self):
        return self.process.poll() is None

    def complaints(self):
        return None

    def stderr(self):
        log = os.path.join(self.directory, "log")
        text = ""
        for name in sorted(os.listdir(log) if os.path.isdir(log) else ()):
            with open(os.path.join(log, name), encoding="utf-8", errors="replace") as f:
                text += f.read()
        return text
