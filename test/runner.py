#!/usr/bin/python3
"""runner: runs the suites, two at a time, and counts.

A job is a suite on one build with one number of workers. A job that wants a broker gets a lepusd
to itself, which must also stop in order and leave no sanitizer report. One line is printed as each
job ends, what failed is shown below it, and the last line is "N passed, N failed".

A suite tells its cases in TAP. What it does not tell counts as a failed case too: a plan that is
missing or was not kept, an exit status other than 0, a time-out, a skipped case.

Every process of a job carries LEPUS_JOB=<token> in its environment, and runs in a process group of
the job's: when the job is over, both are used to end what is left of it.
"""

import argparse
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import broker  # noqa: E402
import suites  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHOW_OUTPUT_LINES = 60
SHOW_STDERR_LINES = 40


class Result:
    def __init__(self):
        self.passed = 0
        self.failed = []  # (name, detail)

    def fail(self, name, detail=""):
        self.failed.append((name, detail))


# ---- TAP ----

TAP_PLAN = re.compile(r"^1\.\.(\d+)\s*(#.*)?$")
TAP_TEST = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?([^#]*)(?:#\s*(\w+))?")


def read_tap(text, result):
    """Counts the cases in text. Returns (planned, told); planned is None without a plan. There may
    be several plans: cmocka prints one a group."""
    planned, told = None, 0
    failing = None  # [name, lines of diagnostics]

    def flush():
        if failing is not None:
            result.fail(failing[0], "\n".join(failing[1]))

    for line in text.splitlines():
        plan, test = TAP_PLAN.match(line), TAP_TEST.match(line)
        if plan:
            planned = (planned or 0) + int(plan.group(1))
        elif test:
            flush()
            failing = None
            told += 1
            name = test.group(3).strip() or f"case {told}"
            if test.group(1):
                failing = [name, []]
            elif (test.group(4) or "").upper() == "SKIP":
                failing = [name + " was skipped", []]
            else:
                result.passed += 1
        elif line.startswith("Bail out!"):
            flush()
            failing = [line, []]
        elif failing is not None and line.strip():
            failing[1].append(line)
    flush()
    return planned, told


# ---- one job ----

class Job:
    def __init__(self, suite, build, workers, where):
        self.suite, self.build, self.workers, self.where = suite, build, workers, where
        self.token = f"{os.getpid()}-{id(self):x}"
        self.seconds = 0.0
        self.groups = []  # process groups that it started

    @property
    def title(self):
        workers = f"w{self.workers}" if self.workers is not None else "-"
        return f"{self.suite.name:<32} {self.build:<8} {workers:<3}"

    def run(self):
        result, started = Result(), time.monotonic()
        directory = tempfile.mkdtemp(prefix="lepus-test-")
        try:
            self._run_in(directory, result)
        except Exception as e:  # the runner's own mistake must not pass for success
            result.fail("the runner could not run this suite", repr(e))
        finally:
            self.end()
            shutil.rmtree(directory, ignore_errors=True)
            self.seconds = time.monotonic() - started
        return result

    def _run_in(self, directory, result):
        env = self._environment(directory)
        if not self.suite.is_served or self.where.against is not None:
            self._run_suite(directory, env, result)
            return
        lepusd = broker.Broker(self.build, self.where.build_dir(self.build), directory,
                               self.workers, self.suite.options, env)
        before = len(result.failed)
        try:
            with lepusd:
                self.groups.append(lepusd.pid)
                env.update(LEPUS_HOST=lepusd.host, LEPUS_PORT=str(lepusd.port),
                           LEPUS_URL=f"amqp://guest:guest@{lepusd.host}:{lepusd.port}/%2F",
                           LEPUS_PID=str(lepusd.pid), LEPUS_WORKERS=str(self.workers))
                self._run_suite(directory, env, result)
                for wrong in lepusd.stop():
                    result.fail("the broker lives and stops in order", wrong)
        except broker.Failed as e:
            result.fail(str(e))
        if len(result.failed) > before:
            tail = lepusd.stderr().splitlines()[-SHOW_STDERR_LINES:]
            result.failed[-1] = (result.failed[-1][0], result.failed[-1][1]
                                 + "\nlepusd's standard error ends:\n" + "\n".join(tail))

    def _environment(self, directory):
        env = dict(os.environ)
        for name in list(env):
            if name.startswith("LEPUS_"):
                del env[name]
        build_tmp = os.path.join(directory, "build")
        os.mkdir(build_tmp)
        os.mkdir(os.path.join(directory, "tmp"))
        env.update(LEPUS_JOB=self.token, LEPUS_BUILD_TMP=build_tmp,
                   TMPDIR=os.path.join(directory, "tmp"), PYTHONDONTWRITEBYTECODE="1",
                   CMOCKA_MESSAGE_OUTPUT="TAP",
                   GOCACHE=os.path.join(self.where.build_root, "go-cache"),
                   NODE_PATH=os.path.join(self.where.build_root, "node", "node_modules"))
        against = self.where.against
        if against is not None:
            host, _, port = against.rpartition(":")
            env.update(LEPUS_HOST=host, LEPUS_PORT=port,
                       LEPUS_URL=f"amqp://guest:guest@{against}/%2F")
        elif self.suite.kind == "own":
            env.update(LEPUS_BUILD=self.build, LEPUS_BUILD_DIR=self.where.build_dir(self.build),
                       LEPUS_SERVER=os.path.join(self.where.build_dir(self.build),
                                                 "src", "server", "lepusd"))
            if self.workers is not None:
                env["LEPUS_WORKERS"] = str(self.workers)
        if not self.suite.is_served:
            env.update(broker.sanitizer_env(self.build))
        env.update(dict(self.suite.env))
        return env

    def _run_suite(self, directory, env, result):
        paths = [os.path.join(directory, "suite." + name) for name in ("stdout", "stderr")]
        command = list(self.suite.command)
        if self.suite.kind == "unit":
            command = broker.command_for(self.build, command)
        timed_out = False
        with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     env=env, cwd=self.suite.cwd or directory,
                                     start_new_session=True)
            self.groups.append(child.pid)
            try:
                status = child.wait(self.suite.timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
                os.killpg(child.pid, signal.SIGKILL)
                status = child.wait()
        texts = []
        for path in paths:
            with open(path, encoding="utf-8", errors="replace") as f:
                texts.append(f.read())
        self._judge(status, timed_out, *texts, result)

    def _judge(self, status, timed_out, out, err, result):
        before = len(result.failed)
        planned, told = read_tap(out, result)
        said = len(result.failed) - before
        by_status = self.suite.kind == "fuzz" or (
            self.suite.kind == "script" and planned is None and told == 0)
        if timed_out:
            result.fail(f"ends within {self.suite.timeout_s} s ({told} cases were told)")
        elif by_status:
            if status == 0:
                result.passed += 1
            else:
                result.fail(f"exits with 0, not {status}")
        else:
            if planned is None:
                result.fail("prints a TAP plan")
            elif planned != told:
                result.fail(f"runs the {planned} cases that it planned, not {told}")
            if status != 0 and said == 0:
                result.fail(f"exits with 0, not {status}")
            elif status == 0 and said != 0:
                result.fail("exits with a status other than 0 when a case has failed")
        if not self.suite.is_served:
            report = broker.sanitizer_report(err)
            if report is not None and self.suite.kind != "fuzz":
                result.fail("no sanitizer finds anything", report)
        if len(result.failed) > before:
            tails = []
            for name, text in (("output", out), ("standard error", err)):
                lines = text.splitlines()
                if lines:
                    tails += [f"the suite's {name} ends:"] + lines[-SHOW_OUTPUT_LINES:]
            last = result.failed[-1]
            result.failed[-1] = (last[0], (last[1] + "\n" + "\n".join(tails)).strip("\n"))

    def end(self):
        """Ends whatever of this job still runs; may be called from another thread."""
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        mark = f"LEPUS_JOB={self.token}".encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if mark in f.read().split(b"\0"):
                        os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass  # gone meanwhile, or not ours


# ---- all jobs ----

class Where:
    def __init__(self, build_root, against):
        self.build_root, self.against = build_root, against

    def build_dir(self, build):
        return os.path.join(self.build_root, build)


class Runner:
    def __init__(self, slots):
        self.slots = slots
        self.free = slots
        self.change = threading.Condition()
        self.running = set()
        self.stopping = False
        self.passed = 0
        self.failed = []  # (job, case)

    def run(self, jobs):
        threads = []
        for job in jobs:
            weight = min(job.suite.weight, self.slots)
            with self.change:
                while self.free < weight:
                    self.change.wait(1)
                self.free -= weight
                self.running.add(job)
            thread = threading.Thread(target=self._one, args=(job, weight), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            while thread.is_alive():
                thread.join(1)

    def _one(self, job, weight):
        result = job.run()
        with self.change:
            self.free += weight
            self.running.discard(job)
            if not self.stopping:
                self._tell(job, result)
            self.change.notify_all()

    def _tell(self, job, result):
        if result.passed == 0 and not result.failed:
            result.fail("runs at least one case")
        self.passed += result.passed
        failed = f", {len(result.failed)} failed" if result.failed else ""
        print(f"{'FAILED' if failed else 'ok':<6} {job.title} {result.passed} passed{failed}"
              f"  {job.seconds:.1f} s", flush=True)
        for name, detail in result.failed:
            self.failed.append((job, name))
            print(f"    not ok: {name}")
            for line in detail.splitlines():
                print(f"        {line}")
        sys.stdout.flush()

    def end(self):
        with self.change:
            self.stopping = True
            running = list(self.running)
        for job in running:
            job.end()


def matches(pattern, suite):
    return pattern in suite.name or fnmatch.fnmatch(suite.name, pattern)


def choose(arguments, where):
    """The jobs that the arguments ask for, in the order in which they start."""
    jobs = []
    for suite in suites.discover(ROOT, where.build_root, arguments.long):
        if arguments.only and not any(matches(p, suite) for p in arguments.only):
            continue
        if where.against is not None:
            if suite.is_served:
                jobs.append(Job(suite, "other", None, where))
            continue
        for build, workers in suite.on:
            if arguments.build and build not in arguments.build:
                continue
            if arguments.workers and workers is not None and workers not in arguments.workers:
                continue
            jobs.append(Job(suite, build, workers, where))
    return jobs


def parse(argv):
    def listed(kind):
        return lambda text: [kind(part) for part in text.split(",")]

    p = argparse.ArgumentParser(description="Runs Lepus's test suites.")
    p.add_argument("--only", action="append", metavar="PATTERN",
                   help="suites whose name contains or matches this; may be repeated")
    p.add_argument("--build", type=listed(str), metavar="B,...", help="release, asan, tsan, fuzz")
    p.add_argument("--workers", type=listed(int), metavar="N,...", help="1, 4")
    p.add_argument("--against", metavar="HOST:PORT",
                   help="run client and wire suites against a broker that runs already")
    p.add_argument("--build-root", default=os.path.join(ROOT, ".build"), metavar="DIR",
                   help="where the builds are, a folder each (.build)")
    p.add_argument("-j", type=int, default=2, metavar="N", help="suites at a time (2)")
    p.add_argument("--long", action="store_true", help="every combination, longer fuzzing")
    p.add_argument("--list", action="store_true", help="say what would run")
    return p.parse_args(argv)


def main(argv):
    arguments = parse(argv)
    jobs = choose(arguments, Where(os.path.abspath(arguments.build_root), arguments.against))
    if arguments.list:
        for job in jobs:
            print(job.title)
        return 0
    runner = Runner(max(1, arguments.j))

    def interrupted(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    status = 0
    try:
        runner.run(jobs)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        status = 130
    finally:
        runner.end()
    if runner.failed:
        print("\nfailed:")
        for job, case in runner.failed:
            print(f"    {job.title} {case}")
    if not jobs:
        print("nothing to run")
    print(f"{runner.passed} passed, {len(runner.failed)} failed", flush=True)
    return status or (1 if runner.failed or runner.passed == 0 else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
