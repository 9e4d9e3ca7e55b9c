"""proxied: the PROXY protocol's header, by which a case says where a client comes from."""

import socket
import struct


def header(source):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    both = socket.inet_pton(family, source) * 2 + struct.pack(">HH", 51234, 5672)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x21 if family == socket.AF_INET6 else 0x11]) \
        + struct.pack(">H", len(both)) + both
