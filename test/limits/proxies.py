"""proxies: the PROXY protocol in front of AMQP and of TLS, spoken well, slowly, and badly."""

import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile

import amqp

from harness import HANDSHAKE, HERE, PATIENCE_S, Server, case, equal, has_ended, until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ON = "amqp.proxy_protocol=v2"


# Addresses of this machine, whatever users may come from: the socket's own is 127.0.0.1.
def header(source="127.0.0.7", port=51234, command=1, tlvs=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    both = socket.inet_pton(family, source) * 2 + struct.pack(">HH", port, 5672) + tlvs
    return SIGNATURE + bytes([0x20 | command, 0x21 if family == socket.AF_INET6 else 0x11]) \
        + struct.pack(">H", len(both)) + both


def opens(s):
    """Whether a connection opens on this socket."""
    s.sendall(HANDSHAKE)
    got = b""
    while amqp.method("connection.open-ok") not in got:
        more = s.recv(65536)
        if not more:
            return False
        got += more
    return True


@case("PROXY header: the client's address is the one in it, LOCAL is the proxy itself")
def addresses():
    with Server(ON) as server:
        for octets, pattern in (
                (header(), r"conn=127\.0\.0\.7:51234 .*open"),
                (header("::1"), r"conn=\[::1\]:51234 .*open"),
                (header(tlvs=b"\x20\x00\x05\x01\0\0\0\0"), r"conn=127\.0\.0\.7:51234 .*open"),
                (header(command=0), r"conn=127\.0\.0\.1:\d+ .*open"),
                (SIGNATURE + b"\x21\x00\x00\x00", r"conn=127\.0\.0\.1:\d+ .*open")):
            s = server.socket(octets)
            assert opens(s), octets
            server.log_has(pattern)
            s.close()


@case("PROXY header octet by octet, with the handshake behind it in the same segment")
def slowly():
    with Server(ON) as server:
        s = server.socket()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = header(tlvs=b"\x04\x00\x80" + bytes(128))
        for at in range(len(whole) - 1):
            s.sendall(whole[at:at + 1])
        s.sendall(whole[-1:] + amqp.HEADER_091)
        equal(s.recv(1), b"\x01")  # connection.start
        s.close()


@case("PROXY header that is none, or wrong: the end and a line in the log; not in time: the end")
def badly():
    with Server(ON, "amqp.handshake_timeout=1s") as server:
        for octets, why in (
                (amqp.HEADER_091, "no PROXY header"),
                (b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 5672\r\n", "no PROXY header"),
                (header(tlvs=b"\x03\x00\x04abcd"), "PROXY header with a wrong checksum"),
                (SIGNATURE + b"\x21\x11\xff\xff", "PROXY header too long")):
            told = server.stderr().count(why)
            s = server.socket(octets)
            until(lambda: has_ended(s), "the end")
            until(lambda: server.stderr().count(why) > told, why)
            s.close()
        for octets in (b"", SIGNATURE[:5], header()[:-1]):
            s = server.socket(octets)
            until(lambda: has_ended(s), "the end, in time")
            s.close()
        half = server.socket(header()[:20])
        half.shutdown(socket.SHUT_WR)
        until(lambda: has_ended(half), "the end")
        half.close()


@case("PROXY header in front of TLS")
def before_tls():
    certs = tempfile.mkdtemp(prefix="lepus-limits-certs-")
    try:
        subprocess.run([os.path.join(HERE, "..", "..", "tools", "make-certs"), certs], check=True,
                       capture_output=True, timeout=PATIENCE_S)
        at = os.path.join(certs, "server")
        with Server(ON, "amqp.tls_listen=127.0.0.1:0",
                    f"tls.certificate={at}.pem", f"tls.key={at}.key") as server:
            with open(server.stdout_path, encoding="utf-8") as f:
                port = int(f.read().split(" amqps=127.0.0.1:")[1].split()[0])
            context = ssl.create_default_context(cafile=os.path.join(certs, "ca.pem"))
            s = socket.create_connection((server.host, port), PATIENCE_S)
            s.sendall(header())
            s = context.wrap_socket(s, server_hostname="localhost")
            assert opens(s)
            server.log_has(r"conn=127\.0\.0\.7:51234 .*open, TLS")
            s.close()
            s = socket.create_connection((server.host, port), PATIENCE_S)
            try:
                context.wrap_socket(s, server_hostname="localhost").close()
                raise AssertionError("TLS without a header before it")
            except (ssl.SSLError, OSError):
                pass
    finally:
        shutil.rmtree(certs, ignore_errors=True)
