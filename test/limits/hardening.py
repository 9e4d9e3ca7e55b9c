"""hardening: who the broker is, what its files and its core are, and what it never says."""

import base64
import os
import shutil
import stat
import subprocess

import amqp
import pika

from broker import Failed
from harness import BUILD, PATIENCE_S, Server, case, equal, has_ended, until

USER = "nobody"
IS_ROOT = os.geteuid() == 0


def status(server, name):
    with open(f"/proc/{server.pid}/status", encoding="ascii") as f:
        return f.read().split(name + ":")[1].splitlines()[0].split()


def give_away(server):
    """The data directory to the user that the broker becomes."""
    shutil.chown(server.data, USER)


if IS_ROOT:
    @case("broker.user: that user in every respect, and durable messages outlive him")
    def other_user():
        with Server(f"broker.user={USER}", before=give_away, is_of_others=True) as server:
            ids = [str(x) for x in (65534,) * 4]
            equal(status(server, "Uid"), ids)
            equal(status(server, "Gid"), ids)
            equal(status(server, "CapEff"), ["0" * 16])
            equal(status(server, "CapPrm"), ["0" * 16])
            assert "0" not in status(server, "Groups")
            connection = server.connect()
            ch = connection.channel()
            ch.confirm_delivery()
            ch.queue_declare("q", durable=True)
            ch.basic_publish("", "q", b"safe", pika.BasicProperties(delivery_mode=2))
            connection.close()
            for directory, _, files in os.walk(server.data):
                for name in files:
                    found = os.stat(os.path.join(directory, name))
                    equal(found.st_uid, 65534, name)
            equal(server.stop(), [])
            open(server.stdout_path, "w", encoding="utf-8").close()
            server.start()
            connection = server.connect()
            equal(connection.channel().basic_get("q")[2], b"safe")
            connection.close()

    @case("broker.user: none of that name, or a directory that is not his: no start, and why")
    def wrong_user():
        for user, why in (("no-such-user-here", "there is no user 'no-such-user-here'"),
                          (USER, "broker.data_dir: .*Permission denied")):
            server = Server(f"broker.user={user}", before=lambda s: os.chmod(s.data, 0o700),
                            is_of_others=True)
            try:
                server.start()
                raise AssertionError("it starts")
            except Failed:
                server.log_has(why)
            finally:
                server.kill()
                shutil.rmtree(server.directory)

    @case("broker.user: only root can become another")
    def not_root():
        def wrap(*command):
            return ["setpriv", f"--reuid={USER}", "--clear-groups", *command]

        if shutil.which("setpriv") is None:
            return
        server = Server("broker.user=root", before=lambda s: os.chmod(s.directory, 0o777),
                        wrap=wrap(), is_of_others=True)
        give_away(server)
        try:
            server.start()
            raise AssertionError("it starts")
        except Failed:
            server.log_has("only root can become 'root'")
        finally:
            server.kill()
            shutil.rmtree(server.directory)


@case("files that it writes are not for everybody")
def modes():
    with Server() as server:
        connection = server.connect()
        ch = connection.channel()
        ch.confirm_delivery()
        ch.queue_declare("q", durable=True)
        ch.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))
        names = [os.path.join(directory, name) for directory, folders, files in os.walk(server.data)
                 for name in (*files, *folders)]
        assert names
        for name in names:
            mode = stat.S_IMODE(os.stat(name).st_mode)
            assert mode & 0o027 == 0, f"{name} has mode {mode:o}"
        connection.close()


@case("broker.core_dumps = no: no core, and nobody of the same user looks into it")
def cores():
    # what the kernel says of a process that may not be looked into: its files are root's
    options = (f"broker.user={USER}",) if IS_ROOT else ()
    before = give_away if IS_ROOT else None
    with Server(*options, before=before, is_of_others=IS_ROOT) as server:
        equal(os.stat(f"/proc/{server.pid}/fd").st_uid, 65534 if IS_ROOT else os.geteuid())
    with Server(*options, "broker.core_dumps=no", before=before, is_of_others=IS_ROOT) as server:
        equal(os.stat(f"/proc/{server.pid}/fd").st_uid, 0)
        server.connect().close()


@case("passwords: from a file, and never in the log, whatever is wrong with them")
def passwords():
    secret = "Correct-Horse-9"
    path = []

    def write(server):
        path.append(os.path.join(server.directory, "pass"))
        with open(path[0], "w", encoding="utf-8") as f:
            f.write(secret + "\nnot this\n")
        server.command += ["-o", f"broker.default_pass_file={path[0]}"]

    with Server("log.level=debug", before=write) as server:
        server.connect(credentials=pika.PlainCredentials("guest", secret)).close()
        table = amqp.table_body({"LOGIN": "guest", "PASSWORD": secret + "x"})
        refused = []
        for mechanism, response in (("PLAIN", b"\0guest\0" + secret.encode() + b"x"),
                                    ("PLAIN", b"guest\0" + secret.encode()),
                                    ("AMQPLAIN", table), ("AMQPLAIN", table[:-2]),
                                    ("NONE", secret.encode())):
            refused.append(server.socket(amqp.HEADER_091 + amqp.method_frame(
                0, "connection.start-ok", mechanism=mechanism, response=response, locale="en_US")))
        until(lambda: all(has_ended(s) for s in refused), "the end")
        for s in refused:
            s.close()
        log = server.stderr()
        for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
            assert form not in log, form
        server.log_has("refused", 5)


@case("passwords: a file that is not there, empty, or too long is an error, and is not repeated")
def password_files():
    with Server() as server:
        for text, why in ((None, "No such file"), ("", "found none"), ("s3cret" * 100, "more")):
            path = os.path.join(server.directory, "pass")
            if text is not None:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            done = subprocess.run([os.environ["LEPUS_SERVER"], "--check", "-o",
                                   f"broker.default_pass_file={path}"], capture_output=True,
                                  text=True, timeout=PATIENCE_S)
            equal(done.returncode, 2)
            assert why in done.stderr and "s3cret" not in done.stderr, done.stderr
            assert "broker.default_pass_file" in done.stderr, done.stderr


if BUILD == "release":
    @case("the program: position-independent, canaries, checked copies, tables that are read-only")
    def program():
        def readelf(option):
            return subprocess.run(["readelf", option, "-W", os.environ["LEPUS_SERVER"]], check=True,
                                  capture_output=True, text=True, timeout=PATIENCE_S).stdout

        assert "DYN (Position-Independent" in readelf("-h")
        segments = readelf("-l")
        assert "GNU_RELRO" in segments
        stack = [line for line in segments.splitlines() if "GNU_STACK" in line]
        assert stack and " RWE " not in stack[0], stack
        assert "BIND_NOW" in readelf("-d")
        symbols = readelf("--dyn-syms")
        assert "__stack_chk_fail" in symbols and "__memcpy_chk" in symbols
