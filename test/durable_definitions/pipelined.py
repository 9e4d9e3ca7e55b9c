"""pipelined: an AMQP client that does not wait: it sends methods as fast as the socket takes them, and
reads the answers in the order in which they come. Names and keys only, no arguments."""

import socket
import struct

TIMEOUT_S = 60

EXCHANGE_DECLARE, EXCHANGE_DELETE, EXCHANGE_BIND = (40, 10), (40, 20), (40, 30)
QUEUE_DECLARE, QUEUE_BIND, QUEUE_DELETE = (50, 10), (50, 20), (50, 40)
QUEUE_DECLARE_OK, QUEUE_BIND_OK, QUEUE_DELETE_OK = (50, 11), (50, 21), (50, 41)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK, CONNECTION_CLOSE = (20, 40), (20, 41), (10, 50)
BASIC_QOS, BASIC_QOS_OK, BASIC_ACK = (60, 10), (60, 11), (60, 80)


def shortstr(text):
    octets = text.encode() if isinstance(text, str) else text
    return bytes([len(octets)]) + octets


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel, ids, arguments):
    return frame(1, channel, struct.pack(">HH", *ids) + arguments)


def queue_declare(channel, name, durable=True, nowait=False):
    bits = 2 * durable + 16 * nowait
    return method(channel, QUEUE_DECLARE, b"\0\0" + shortstr(name) + bytes([bits]) + bytes(4))


def queue_bind(channel, name, exchange, key, nowait=False):
    return method(channel, QUEUE_BIND, b"\0\0" + shortstr(name) + shortstr(exchange) + shortstr(key)
                  + bytes([nowait]) + bytes(4))


def queue_delete(channel, name):
    return method(channel, QUEUE_DELETE, b"\0\0" + shortstr(name) + b"\0")


def publish(channel, exchange, key, body=b"x"):
    return (method(channel, (60, 40), b"\0\0" + shortstr(exchange) + shortstr(key) + b"\0")
            + frame(2, channel, struct.pack(">HHQH", 60, 0, len(body), 0x1000) + b"\x02")
            + frame(3, channel, body))


class Client:
    def __init__(self, host, port, channels=1):
        self.socket = socket.create_connection((host, port), TIMEOUT_S)
        self.buffer = b""
        self.at = 0
        self.send(b"AMQP\0\0\x09\x01")
        self.expect((10, 10))
        self.send(method(0, (10, 11), bytes(4) + shortstr("PLAIN")
                         + struct.pack(">I", 12) + b"\0guest\0guest" + shortstr("en_US")))
        self.expect((10, 30))
        self.send(method(0, (10, 31), struct.pack(">HIH", 2047, 131072, 0)))
        self.send(method(0, (10, 40), shortstr("/") + b"\0\0"))
        self.expect((10, 41))
        for channel in range(1, channels + 1):
            self.send(method(channel, (20, 10), b"\0"))
            self.expect((20, 11))

    def send(self, octets):
        self.socket.sendall(octets)

    def next(self):
        """(channel, (class, method), arguments) of the next method; None at the connection's end."""
        while True:
            have = len(self.buffer) - self.at
            if have >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.buffer, self.at)
                if have >= size + 8:
                    payload = self.buffer[self.at + 7:self.at + 7 + size]
                    self.at += size + 8
                    if kind == 1:
                        return channel, struct.unpack_from(">HH", payload), payload[4:]
                    continue
            try:
                more = self.socket.recv(1 << 18)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.buffer = self.buffer[self.at:] + more
            self.at = 0

    def expect(self, ids):
        got = self.next()
        if got is None or got[1] != ids:
            raise AssertionError(f"{ids} was due, {got} came")
        return got[2]

    def close(self):
        self.socket.close()
