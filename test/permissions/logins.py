"""logins: who gets in, by what, and who does not."""

import os
import re
import shutil
import ssl
import subprocess
import tempfile

import pika

from harness import (ALL, HERE, LOGIN_REFUSED, PATIENCE_S, Server, answer, case, case_of_workers,
                     definitions, equal, handshake, permission, refusal, user)

from proxied import header

START, TUNE, CLOSE = (10, 10), (10, 30), (10, 50)


@case_of_workers("vhosts: of no permission, and of no name")
def vhosts(workers):
    document = definitions([user("u", "u")], [permission("u", *ALL)], vhosts=("/", "other"))
    with Server(workers=workers, document=document) as server:
        server.connect("u").close()
        server.connect("boss", vhost="other").close()
        equal(refusal(server.connect, "u", vhost="other"),
              (530, "NOT_ALLOWED - access to vhost 'other' refused for user 'u'"))
        equal(refusal(server.connect, "u", vhost="none"), (530, "NOT_ALLOWED - vhost none not found"))


@case_of_workers("hashes of every algorithm, many at once")
def algorithms(workers):
    document = definitions(
        [user("a", "a"), user("b", "b", "sha512"), user("c", "c", "md5"), user("d")],
        [permission(name, *ALL) for name in "abcd"])
    with Server("auth.max_failures=0", workers=workers, document=document) as server:
        for name in "abc":
            server.connect(name).close()
            for wrong in ("", "x", name + name):
                equal(refusal(server.connect, name, wrong), LOGIN_REFUSED)
        for password in ("", "d"):
            equal(refusal(server.connect, "d", password), LOGIN_REFUSED)
        equal(refusal(server.connect, "nobody"), LOGIN_REFUSED)
        sockets = [server.raw(handshake("abc"[i % 3], "abc"[(i // 3) % 3])) for i in range(180)]
        equal([answer(s) for s in sockets],
              [TUNE if i % 3 == (i // 3) % 3 else CLOSE for i in range(180)])
        for s in sockets:
            s.close()
        assert "\\0" not in server.stderr()


@case("a client that cannot be told finds its socket closed, later")
def not_told():
    with Server() as server:
        s = server.raw(handshake("guest", "wrong", can_fail=False))
        equal(answer(s), None)
        s = server.raw(handshake("guest", "guest", mechanism="GSSAPI"))
        equal(answer(s), None)


@case("the first start makes the user, once")
def first_start():
    with Server("broker.default_user=joe", "broker.default_pass=pass word") as server:
        server.connect("joe", "pass word").close()
        equal(refusal(server.connect, "guest"), LOGIN_REFUSED)
        server.command = [o.replace("default_user=joe", "default_user=jim")
                          .replace("pass word", "other") for o in server.command]
        server.again(server.stop)
        server.connect("joe", "pass word").close()
        equal(refusal(server.connect, "jim", "other"), LOGIN_REFUSED)


@case("guest and a listener that is not only of this machine are warned of")
def warned():
    with Server("amqp.listen=0x7f.1:0") as server:
        server.log_has("the password that everybody knows")
    with Server() as server:
        server.connect("guest").close()
        equal(server.log_count("everybody knows"), 0)


@case("guest comes from this machine only")
def loopback():
    def from_afar(server, name, password, source):
        return answer(server.raw(header(source) + handshake(name, password)))

    document = definitions([user("guest", "guest"), user("u", "u")],
                           [permission("guest", *ALL), permission("u", *ALL)])
    proxy = "amqp.proxy_protocol=v2"
    with Server(proxy, document=document) as server:
        equal(from_afar(server, "guest", "guest", "127.0.0.9"), TUNE)
        equal(from_afar(server, "guest", "guest", "::1"), TUNE)
        equal(from_afar(server, "guest", "guest", "::ffff:127.0.0.1"), TUNE)
        for source in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"):
            equal(from_afar(server, "guest", "guest", source), CLOSE, source)
            equal(from_afar(server, "u", "u", source), TUNE, source)
        server.log_has("only come from this machine", 3)
    with Server(proxy, "auth.loopback_users=", document=document) as server:
        equal(from_afar(server, "guest", "guest", "192.0.2.1"), TUNE)


@case_of_workers("who fails too often is not asked any more, and others work")
def brute_force(workers):
    with Server("auth.max_failures=20", "auth.failure_window=3600s", "amqp.proxy_protocol=v2",
                workers=workers) as server:
        def login(source, password):
            return server.raw(header(source) + handshake("guest", password))

        others = [login("127.0.0.2", "guest") for _ in range(10)]
        equal([answer(s) for s in others], [TUNE] * 10)
        tries = [login("127.0.0.3", f"guess{i}") for i in range(300)]
        equal({answer(s) for s in tries}, {CLOSE})
        equal(answer(login("127.0.0.3", "guest")), CLOSE)
        equal(answer(login("127.0.0.2", "guest")), TUNE)
        equal(server.log_count("mechanism PLAIN: wrong password"), 20)
        equal(server.log_count("mechanism PLAIN: too many failures"), 281)
        equal(server.log_count("guess"), 0)
        with open(server.config, "w", encoding="utf-8") as f:
            f.write("[auth]\n")
        for s in (*others, *tries):
            s.close()


# --- other mechanisms ---

class Other(pika.credentials.PlainCredentials):
    """A mechanism without a password."""

    def __init__(self, mechanism):
        super().__init__("", "")
        self.mechanism = mechanism

    def response_for(self, start):
        offered = start.mechanisms.decode().split()
        return (self.mechanism, b"") if self.mechanism in offered else (None, None)


@case("ANONYMOUS is whom the operator says, or not there")
def anonymous():
    document = definitions([user("visitor")], [permission("visitor", "", "", "^news$")])
    with Server("auth.anonymous_user=visitor", document=document) as server:
        connection = server.connect("", credentials=Other("ANONYMOUS"))
        equal(refusal(connection.channel().basic_get, "q"),
              (403, "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user "
                    "'visitor'"))
        connection.close()
    with Server(document=document) as server:
        equal(answer(server.raw(handshake("", "", mechanism="ANONYMOUS"))), None)
        equal(answer(server.raw(handshake("", "", mechanism="EXTERNAL"))), None)


@case("EXTERNAL is the name in the client's certificate")
def external():
    certs = tempfile.mkdtemp(prefix="lepus-permissions-certs-")

    def cert(name):
        return os.path.join(certs, name)

    def make(*arguments):
        done = subprocess.run([os.path.join(HERE, "..", "..", "tools", "make-certs"), *arguments,
                               certs], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def connect(server, client=None, mechanism="EXTERNAL"):
        context = ssl.create_default_context(cafile=cert("ca.pem"))
        if client is not None:
            context.load_cert_chain(cert(client + ".pem"), cert(client + ".key"))
        with open(server.stdout_path, encoding="utf-8") as f:
            port = int(re.search(r" amqps=127\.0\.0\.1:(\d+) ", f.read()).group(1))
        return pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", port, "/", Other(mechanism), socket_timeout=PATIENCE_S,
            stack_timeout=PATIENCE_S, heartbeat=0,
            ssl_options=pika.SSLOptions(context, "localhost")))

    def refused(*args):
        return (403, "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. "
                     "For details see the broker logfile.") == refusal(connect, *args)
    try:
        make()
        make("-c", "alice")
        make("-c", "mallory")
        document = definitions([user("alice"), user("CN=alice")],
                               [permission("alice", "^a$", "", ""),
                                permission("CN=alice", "^dn$", "", "")])
        options = ("amqp.tls_listen=127.0.0.1:0", f"tls.certificate={cert('server.pem')}",
                   f"tls.key={cert('server.key')}", f"tls.ca={cert('ca.pem')}", "tls.verify=peer")
        for which, queue in (("common_name", "a"), ("distinguished_name", "dn")):
            with Server(*options, f"auth.certificate_name={which}", document=document) as server:
                connection = connect(server, "alice")
                connection.channel().queue_declare(queue)
                equal(refusal(connection.channel().queue_declare, "b")[0], 403)
                connection.close()
                assert refused(server, "mallory")  # a good certificate, of nobody here
                assert refused(server, None)
                equal(answer(server.raw(handshake("", "", mechanism="EXTERNAL"))), None)
    finally:
        shutil.rmtree(certs, ignore_errors=True)
