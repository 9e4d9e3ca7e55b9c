"""suites: what there is to run, as rows.

A row says what to start and in which surroundings; runner.py makes one job of each combination of
suite, build and number of workers. Suites are found by convention, so that adding one means adding
a file:

    test/clients/<name>/run   a client program that prints TAP; gets a fresh lepusd
    test/wire/run             octets in, octets out; prints TAP; gets a fresh lepusd
    test/soak/<name>          the same, on the release build: what memory and hostile peers cost
    test/<folder>/run         prints TAP and starts lepusd itself, from $LEPUS_SERVER
    test/crash/<name>         the same, with $LEPUS_WORKERS: kills it, takes its power, its disk
    meson tests               unit tests: cmocka programs, and scripts judged by TAP or exit status
    test/fuzz/meson.build     every executable there is a libFuzzer target; its corpus stands in
                              test/fuzz/corpus/<target without "fuzz_">

What differs from the rule for its kind is a row of OVERRIDES.
"""

import dataclasses
import json
import os
import subprocess

RELEASE, ASAN, TSAN, FUZZ = "release", "asan", "tsan", "fuzz"
BUILDS = (RELEASE, ASAN, TSAN, FUZZ)

# (build, workers) of suites that get a lepusd. Everything runs with one worker and with four; of
# the sanitizers each gets the number of workers where it finds most.
SERVED = ((RELEASE, 1), (RELEASE, 4), (ASAN, 1), (ASAN, 4), (TSAN, 4))
SERVED_LONG = ((RELEASE, 1), (RELEASE, 4), (ASAN, 1), (ASAN, 4), (TSAN, 1), (TSAN, 4))
WIRE = ((RELEASE, 1), (RELEASE, 4), (ASAN, 1), (ASAN, 4), (TSAN, 4))

FUZZ_SECONDS, FUZZ_SECONDS_LONG = 20, 600

CRASH = ((RELEASE, 1), (RELEASE, 4))
CRASH_SECONDS, CRASH_SECONDS_LONG = 300, 7200



@dataclasses.dataclass(frozen=True)
class Suite:
    name: str
    command: tuple
    kind: str  # unit, script, fuzz, client, wire, own
    on: tuple  # pairs of build and workers; workers None: nobody asks
    timeout_s: int = 120
    weight: int = 1  # how many of the runner's slots it takes
    options: tuple = ()  # further "-o" values for its lepusd
    env: tuple = ()  # pairs
    cwd: str = ""

    @property
    def is_served(self):
        """Does the runner start a lepusd for it?"""
        return self.kind in ("client", "wire")


# name -> members of Suite that differ from the rule of its kind
OVERRIDES = {
    "crash/checker": {"on": ((RELEASE, None),)},
    "crash/kill9": {"on": (*CRASH, (ASAN, 4))},
    "crash/shim_check": {"on": ((RELEASE, None),)},
    "crash/toys": {"on": ((RELEASE, None),)},
    # a worker with two processes and one with a thread of its own, and retries that wait a second
    "clients/python_celery": {"timeout_s": 180},
    "tls": {"on": ((RELEASE, None), (ASAN, None), (TSAN, None))},
    # what it measures is the broker's memory: nothing else shall run beside it
    "soak/memory": {"weight": 2},
    # under callgrind, which sanitizers do not go with
    "instructions": {"on": ((RELEASE, None),), "timeout_s": 300},
    "wire": {"on": WIRE, "timeout_s": 240, "options": ("amqp.max_message_size=1MiB",),
             "env": (("LEPUS_MAX_MESSAGE_SIZE", str(1 << 20)),)},
}


def _row(name, command, kind, on, **members):
    members.update(OVERRIDES.get(name, {}))
    return Suite(name, tuple(command), kind, **{"on": tuple(on), **members})


def _runnable(path):
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _served(root, long):
    on = SERVED_LONG if long else SERVED
    clients = os.path.join(root, "test", "clients")
    for name in sorted(os.listdir(clients) if os.path.isdir(clients) else ()):
        run = os.path.join(clients, name, "run")
        if _runnable(run):
            yield _row("clients/" + name, [run], "client", on, timeout_s=180)
    run = os.path.join(root, "test", "wire", "run")
    if _runnable(run):
        yield _row("wire", [run], "wire", on)


def _soak(root):
    soak = os.path.join(root, "test", "soak")
    for name in sorted(os.listdir(soak) if os.path.isdir(soak) else ()):
        run = os.path.join(soak, name)
        if _runnable(run):
            yield _row("soak/" + name, [run], "client", [(RELEASE, 1), (RELEASE, 4)],
                       timeout_s=240)


def _crash(root, long):
    crash = os.path.join(root, "test", "crash")
    for name in sorted(os.listdir(crash)):
        run = os.path.join(crash, name)
        if _runnable(run):
            yield _row("crash/" + name, [run, *(["--long"] if long else [])], "own", CRASH,
                       timeout_s=CRASH_SECONDS_LONG if long else CRASH_SECONDS)


def _own(root):
    for name in sorted(os.listdir(os.path.join(root, "test"))):
        run = os.path.join(root, "test", name, "run")
        if name != "wire" and _runnable(run):
            yield _row(name, [run], "own", [(RELEASE, None), (ASAN, None)], timeout_s=420)


def _introspect(build_dir, what):
    done = subprocess.run(["meson", "introspect", what, build_dir],
                          capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def _unit(build, build_dir):
    for test in _introspect(build_dir, "--tests"):
        is_program = os.path.realpath(test["cmd"][0]).startswith(os.path.realpath(build_dir))
        suite = [s.split(":")[-1] for s in test["suite"]]
        is_program = is_program and "fuzz" not in suite  # a corpus played again prints no TAP
        name = "/".join(["unit"] + [s for s in suite if s not in ("unit", "lepus")] + [test["name"]])
        yield _row(name, test["cmd"], "unit" if is_program else "script", [(build, None)],
                   timeout_s=max(60, int(test["timeout"] or 0)),
                   env=tuple(test["env"].items()), cwd=test["workdir"] or build_dir)


def _fuzz(root, build_dir, long):
    seconds = FUZZ_SECONDS_LONG if long else FUZZ_SECONDS
    folder = os.path.join(root, "test", "fuzz")
    for target in _introspect(build_dir, "--targets"):
        if (target["type"] != "executable" or os.path.dirname(target["defined_in"]) != folder
                or not target["name"].startswith("fuzz_")):
            continue
        corpus = os.path.join(folder, "corpus", target["name"].removeprefix("fuzz_"))
        # What libFuzzer finds it writes to the first folder: the job's own, where it starts.
        command = [target["filename"][0], f"-max_total_time={seconds}", "-timeout=10",
                   "-rss_limit_mb=2048", "-print_final_stats=1", "."]
        yield _row("fuzz/" + target["name"].removeprefix("fuzz_"),
                   command + ([corpus] if os.path.isdir(corpus) else []), "fuzz",
                   [(FUZZ, None)], timeout_s=seconds + 60)


def discover(root, build_root, long=False):
    """Every suite. What comes of a build is listed only where that build is configured."""
    configured = [b for b in BUILDS
                  if os.path.isfile(os.path.join(build_root, b, "meson-info", "meson-info.json"))]
    suites = []
    for build in configured:
        if build == FUZZ:
            suites += _fuzz(root, os.path.join(build_root, build), long)
        else:
            suites += _unit(build, os.path.join(build_root, build))
    return (suites + list(_own(root)) + list(_crash(root, long)) + list(_soak(root))
            + list(_served(root, long)))
