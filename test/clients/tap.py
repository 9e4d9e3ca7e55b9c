"""tap: the little that the Python client suites share: cases, TAP, names, the broker's address."""

import os
import sys
import threading
import time
import traceback
import uuid

HOST = os.environ.get("LEPUS_HOST", "127.0.0.1")
PORT = int(os.environ.get("LEPUS_PORT", "5672"))
URL = os.environ.get("LEPUS_URL", f"amqp://guest:guest@{HOST}:{PORT}/%2F")
PATIENCE_S = 30

_cases = []


def case(title):
    """Registers the function as a case, named by the behaviour it shows."""
    def register(function):
        _cases.append((title, function))
        return function
    return register


def name(prefix="q"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def equal(have, want, what="value"):
    assert have == want, f"{what} is {have!r}, expected {want!r}"


def until(is_so, what="condition", step=None):
    """Waits for something that arrives by another thread or, with step, by the library's loop."""
    deadline = time.monotonic() + PATIENCE_S
    event = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come about in {PATIENCE_S} s"
        if step is not None:
            step()
        else:
            event.wait(0.005)


def raises(exception, call, code=None):
    """The exception that the call raises; its reply code must be the given one."""
    try:
        call()
    except exception as e:
        have = getattr(e, "reply_code", None) or (e.args[0] if e.args else None)
        assert code is None or have == code, f"expected {code}, got {e!r}"
        return e
    raise AssertionError(f"expected {exception}, nothing was raised")


def main():
    failed = 0
    for number, (title, function) in enumerate(_cases, 1):
        try:
            function()
            print(f"ok {number} - {title}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {title}")
            for line in traceback.format_exc().splitlines()[-12:]:
                print("#", line)
            sys.stdout.flush()
    print(f"1..{len(_cases)}")
    sys.exit(1 if failed else 0)
