"""server: the broker under test, as something that is killed and comes back on its directory."""

import os
import re
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import broker  # noqa: E402


def end_group(process):
    """Ends a process that leads a group, and the group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Lepus(broker.Broker):
    """Each life has its own standard output and log; the port may differ from life to life."""

    def __init__(self, directory, workers, options=(), env=None):
        build_dir = os.environ["LEPUS_BUILD_DIR"]
        super().__init__(os.environ.get("LEPUS_BUILD", "release"), build_dir, directory, workers,
                         options, {**os.environ, **(env or {})})
        self.directory, self.build_dir, self.lives = directory, build_dir, 0
        self.data_dir = os.path.join(directory, "data")
        if "LEPUS_TOY_BUG" in self.env:  # empty: none
            toy = os.path.join(os.path.dirname(os.path.abspath(__file__)), "toy.py")
            self.command[:1] = ["/usr/bin/python3", "-B", toy]

    def start(self):
        self.lives += 1
        self.stdout_path = os.path.join(self.directory, f"lepusd.{self.lives}.stdout")
        self.stderr_path = os.path.join(self.directory, f"lepusd.{self.lives}.stderr")
        super().start()

    def spawn(self):
        """A process, without waiting until it is ready."""
        with open(os.path.join(self.directory, "lepusd.spawned"), "ab") as out:
            return subprocess.Popen(broker.command_for(self.build, self.command),
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    env=self.env, start_new_session=True)

    def shoot(self):
        """SIGKILL, now; kill() waits for the end, too."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def is_alive(self):
        return self.process.poll() is None

    def stop_wrong(self):
        """After a SIGTERM that was sent already: what is wrong with how it ended."""
        try:
            ended = self.process.wait(broker.STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return [f"lepusd did not end within {broker.STOP_S} s of SIGTERM"]
        return [f"lepusd exited with {ended} after SIGTERM"] if ended != 0 else []

    def complaints(self):
        """Why it did not live as it should, up to the kill: an abort, a sanitizer's report."""
        text = self.stderr()
        found = broker.sanitizer_report(text)
        if found is None:
            assertion = re.search(r".*(Assertion|assert|fatal|shim:).*", text)
            found = assertion.group(0) if assertion else None
        return found
