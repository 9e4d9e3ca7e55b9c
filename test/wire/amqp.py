"""amqp: AMQP 0-9-1 as octets, and a connection that says exactly what it is told to.

No library stands between a case and the wire. Methods are rows of METHODS; field tables are lists
or dicts whose values may be tagged, as U(7) or T("s", 7), or plain. What comes back is a Frame,
with the octets kept beside what they mean. Nothing waits without a deadline.
"""

import os
import select
import socket
import struct
import time

HOST = os.environ.get("LEPUS_HOST", "127.0.0.1")
PORT = int(os.environ.get("LEPUS_PORT", "5672"))

PATIENCE_S = float(os.environ.get("LEPUS_PATIENCE_S", "15"))  # how long an expected frame may take

ORACLE = os.environ.get("LEPUS_ORACLE", "")  # "rabbitmq" when the other side is RabbitMQ

HEADER_091 = b"AMQP\x00\x00\x09\x01"
FRAME_END = 0xCE
METHOD, CONTENT_HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_MAX = 131072
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Failure(AssertionError):
    """What a case expected did not happen."""


# ---- field tables ----

class T:
    """A field value with its type octet: T("I", 5). For "D" the value is (scale, int)."""

    def __init__(self, tag, value=None):
        self.tag, self.value = tag, value

    def __eq__(self, other):
        return isinstance(other, T) and (self.tag, self.value) == (other.tag, other.value)

    def __repr__(self):
        return f"{self.tag}:{self.value!r}"


FIXED = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
         "f": ">f", "d": ">d", "T": ">Q"}


def octets(text):
    return text.encode("utf-8") if isinstance(text, str) else bytes(text)


def shortstr(text):
    raw = octets(text)
    return bytes([len(raw)]) + raw


def longstr(text):
    raw = octets(text)
    return struct.pack(">I", len(raw)) + raw


def tagged(value):
    if isinstance(value, T):
        return value
    if isinstance(value, bool):
        return T("t", value)
    if isinstance(value, int):
        return T("I", value) if -2**31 <= value < 2**31 else T("l", value)
    if isinstance(value, float):
        return T("d", value)
    if isinstance(value, (str, bytes)):
        return T("S", value)
    if isinstance(value, dict):
        return T("F", value)
    if isinstance(value, (list, tuple)):
        return T("A", value)
    if value is None:
        return T("V")
    raise TypeError(value)


def field(value):
    """A type octet and what follows it."""
    v = tagged(value)
    tag = v.tag.encode("latin-1")
    if v.tag in FIXED:
        return tag + struct.pack(FIXED[v.tag], v.value)
    if v.tag == "t":
        return tag + (b"\x01" if v.value else b"\x00")
    if v.tag in ("S", "x"):
        return tag + longstr(v.value)
    if v.tag == "F":
        return tag + table(v.value)
    if v.tag == "A":
        return tag + longstr(b"".join(field(one) for one in v.value))
    if v.tag == "D":
        return tag + struct.pack(">Bi", *v.value)
    if v.tag == "V":
        return tag
    raise TypeError(v)


def table_body(entries):
    pairs = entries.items() if isinstance(entries, dict) else entries
    return b"".join(shortstr(name) + field(value) for name, value in pairs)


def table(entries):
    """With its length. Octets are taken to be a table already encoded, length and all."""
    return bytes(entries) if isinstance(entries, bytes) else longstr(table_body(entries))


class Reader:
    """A cursor over octets; reading past the end is a Failure."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, n):
        if self.at + n > len(self.raw):
            raise Failure(f"{n} octets wanted at {self.at} of {self.raw!r}")
        self.at += n
        return self.raw[self.at - n:self.at]

    def number(self, shape):
        return struct.unpack(shape, self.take(struct.calcsize(shape)))[0]

    def octet(self):
        return self.number(">B")

    def shortstr(self):
        return self.take(self.octet()).decode("utf-8", "surrogateescape")

    def longstr(self):
        return self.take(self.number(">I"))

    def done(self):
        return self.at == len(self.raw)

    def field(self):
        tag = chr(self.octet())
        if tag in FIXED:
            return T(tag, self.number(FIXED[tag]))
        if tag == "t":
            return T(tag, self.octet() != 0)
        if tag in ("S", "x"):
            return T(tag, self.longstr())
        if tag == "F":
            return T(tag, Reader(self.longstr()).entries())
        if tag == "A":
            inner, values = Reader(self.longstr()), []
            while not inner.done():
                values.append(inner.field())
            return T(tag, values)
        if tag == "D":
            return T(tag, (self.octet(), self.number(">i")))
        if tag == "V":
            return T(tag)
        raise Failure(f"a field of type {tag!r}")

    def entries(self):
        found = {}
        while not self.done():
            name = self.shortstr()
            found[name] = self.field()
        return found

    def table(self):
        return Reader(self.longstr()).entries()


def plain(value):
    """A tagged value, or a dict or list of them, without tags; strings as str."""
    if isinstance(value, T):
        value = value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


# ---- methods ----

# class, method, name, fields. Kinds: o octet, s short, l long, q longlong, S shortstr, L longstr,
# F table, b bit (neighbours share octets).
METHODS = """
10 10 connection.start          version_major:o version_minor:o server_properties:F mechanisms:L locales:L
10 11 connection.start-ok       client_properties:F mechanism:S response:L locale:S
10 20 connection.secure         challenge:L
10 21 connection.secure-ok      response:L
10 30 connection.tune           channel_max:s frame_max:l heartbeat:s
10 31 connection.tune-ok        channel_max:s frame_max:l heartbeat:s
10 40 connection.open           virtual_host:S reserved_1:S reserved_2:b
10 41 connection.open-ok        reserved_1:S
10 50 connection.close          reply_code:s reply_text:S class_id:s method_id:s
10 51 connection.close-ok
10 60 connection.blocked        reason:S
10 61 connection.unblocked
10 70 connection.update-secret  new_secret:L reason:S
10 71 connection.update-secret-ok
20 10 channel.open              reserved_1:S
20 11 channel.open-ok           reserved_1:L
20 20 channel.flow              active:b
20 21 channel.flow-ok           active:b
20 40 channel.close             reply_code:s reply_text:S class_id:s method_id:s
20 41 channel.close-ok
30 10 access.request            realm:S exclusive:b passive:b active:b write:b read:b
30 11 access.request-ok         ticket:s
40 10 exchange.declare          reserved_1:s exchange:S type:S passive:b durable:b auto_delete:b internal:b no_wait:b arguments:F
40 11 exchange.declare-ok
40 20 exchange.delete           reserved_1:s exchange:S if_unused:b no_wait:b
40 21 exchange.delete-ok
40 30 exchange.bind             reserved_1:s destination:S source:S routing_key:S no_wait:b arguments:F
40 31 exchange.bind-ok
40 40 exchange.unbind           reserved_1:s destination:S source:S routing_key:S no_wait:b arguments:F
40 51 exchange.unbind-ok
50 10 queue.declare             reserved_1:s queue:S passive:b durable:b exclusive:b auto_delete:b no_wait:b arguments:F
50 11 queue.declare-ok          queue:S message_count:l consumer_count:l
50 20 queue.bind                reserved_1:s queue:S exchange:S routing_key:S no_wait:b arguments:F
50 21 queue.bind-ok
50 30 queue.purge               reserved_1:s queue:S no_wait:b
50 31 queue.purge-ok            message_count:l
50 40 queue.delete              reserved_1:s queue:S if_unused:b if_empty:b no_wait:b
50 41 queue.delete-ok           message_count:l
50 50 queue.unbind              reserved_1:s queue:S exchange:S routing_key:S arguments:F
50 51 queue.unbind-ok
60 10 basic.qos                 prefetch_size:l prefetch_count:s global:b
60 11 basic.qos-ok
60 20 basic.consume             reserved_1:s queue:S consumer_tag:S no_local:b no_ack:b exclusive:b no_wait:b arguments:F
60 21 basic.consume-ok          consumer_tag:S
60 30 basic.cancel              consumer_tag:S no_wait:b
60 31 basic.cancel-ok           consumer_tag:S
60 40 basic.publish             reserved_1:s exchange:S routing_key:S mandatory:b immediate:b
60 50 basic.return              reply_code:s reply_text:S exchange:S routing_key:S
60 60 basic.deliver             consumer_tag:S delivery_tag:q redelivered:b exchange:S routing_key:S
60 70 basic.get                 reserved_1:s queue:S no_ack:b
60 71 basic.get-ok              delivery_tag:q redelivered:b exchange:S routing_key:S message_count:l
60 72 basic.get-empty           reserved_1:S
60 80 basic.ack                 delivery_tag:q multiple:b
60 90 basic.reject              delivery_tag:q requeue:b
60 100 basic.recover-async      requeue:b
60 110 basic.recover            requeue:b
60 111 basic.recover-ok
60 120 basic.nack               delivery_tag:q multiple:b requeue:b
85 10 confirm.select            no_wait:b
85 11 confirm.select-ok
90 10 tx.select
90 11 tx.select-ok
90 20 tx.commit
90 21 tx.commit-ok
90 30 tx.rollback
90 31 tx.rollback-ok
"""

BY_NAME, BY_ID = {}, {}
for _line in METHODS.strip().splitlines():
    _c, _m, _name, *_fields = _line.split()
    _row = (int(_c), int(_m), _name, [f.split(":") for f in _fields])
    BY_NAME[_name] = BY_ID[_row[0], _row[1]] = _row

ENCODE = {"o": lambda v: struct.pack(">B", v), "s": lambda v: struct.pack(">H", v),
          "l": lambda v: struct.pack(">I", v), "q": lambda v: struct.pack(">Q", v),
          "S": shortstr, "L": longstr, "F": table}
EMPTY = {"S": "", "L": "", "F": {}}
CARRIES_CONTENT = ("basic.publish", "basic.deliver", "basic.get-ok", "basic.return")


def method(name, **values):
    """The payload of a method frame. A field that is not named is 0, false or empty."""
    class_id, method_id, _, fields = BY_NAME[name]
    unknown = set(values) - {f for f, _ in fields}
    if unknown:
        raise TypeError(f"{name} has no {unknown}")
    out, bits, used = [struct.pack(">HH", class_id, method_id)], 0, 0
    for key, kind in fields:
        value = values.get(key, EMPTY.get(kind, 0))
        if kind == "b":
            bits |= bool(value) << used
            used += 1
            continue
        if used:
            out.append(bytes([bits]))
            bits = used = 0
        out.append(ENCODE[kind](value))
    if used:
        out.append(bytes([bits]))
    return b"".join(out)


def frame(kind, channel, payload, end=FRAME_END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


def method_frame(channel, name, **values):
    return frame(METHOD, channel, method(name, **values))


# ---- properties ----

PROPERTIES = [("content_type", "S"), ("content_encoding", "S"), ("headers", "F"),
              ("delivery_mode", "o"), ("priority", "o"), ("correlation_id", "S"),
              ("reply_to", "S"), ("expiration", "S"), ("message_id", "S"), ("timestamp", "q"),
              ("type", "S"), ("user_id", "S"), ("app_id", "S"), ("cluster_id", "S")]


def properties(values):
    """Flags and fields, as they stand in a content header."""
    flags, out = 0, []
    for at, (key, kind) in enumerate(PROPERTIES):
        if key in values:
            flags |= 1 << (15 - at)
            out.append(ENCODE[kind](values[key]))
    assert not set(values) - {key for key, _ in PROPERTIES}, values
    return struct.pack(">H", flags) + b"".join(out)


def read_properties(raw):
    r = Reader(raw)
    flags, found = r.number(">H"), {}
    for at, (key, kind) in enumerate(PROPERTIES):
        if flags & 1 << (15 - at):
            found[key] = READ[kind](r)
    if not r.done():
        raise Failure(f"octets left after the properties: {raw!r}")
    return found


READ = {"o": Reader.octet, "s": lambda r: r.number(">H"), "l": lambda r: r.number(">I"),
        "q": lambda r: r.number(">Q"), "S": Reader.shortstr, "L": Reader.longstr,
        "F": Reader.table}


def header_frame(channel, size, props=None, class_id=60, weight=0):
    raw = props if isinstance(props, bytes) else properties(props or {})
    return frame(CONTENT_HEADER, channel, struct.pack(">HHQ", class_id, weight, size) + raw)


def body_frames(channel, body, frame_max=FRAME_MAX):
    room = frame_max - 8
    return b"".join(frame(BODY, channel, body[at:at + room]) for at in range(0, len(body), room))


def content(channel, body=b"", props=None, frame_max=FRAME_MAX):
    return header_frame(channel, len(body), props) + body_frames(channel, body, frame_max)


def publish(channel, exchange, key, body=b"", props=None, frame_max=FRAME_MAX, **bits):
    """All the frames of a basic.publish."""
    return method_frame(channel, "basic.publish", exchange=exchange, routing_key=key, **bits) \
        + content(channel, octets(body), props, frame_max)


# ---- what comes back ----

class Frame:
    """One frame, its octets in .payload. A method frame also has .name and its fields; after
    Connection.next() a method that carries content has .props, .raw_props and .body, too."""

    def __init__(self, kind, channel, payload):
        self.kind, self.channel, self.payload = kind, channel, payload
        self.name = {CONTENT_HEADER: "header", BODY: "body", HEARTBEAT: "heartbeat"}.get(kind)
        self.args = {}
        if kind == METHOD:
            self._decode()

    def _decode(self):
        r = Reader(self.payload)
        ids = r.number(">H"), r.number(">H")
        if ids not in BY_ID:
            raise Failure(f"the server sent a method {ids}")
        self.name, bit, bits = BY_ID[ids][2], 8, 0
        for key, kind in BY_ID[ids][3]:
            if kind != "b":
                bit = 8
                self.args[key] = READ[kind](r)
                continue
            if bit == 8:
                bit, bits = 0, r.octet()
            self.args[key] = bool(bits >> bit & 1)
            bit += 1
        if not r.done():
            raise Failure(f"octets left after {self.name}: {self.payload!r}")

    def __getattr__(self, name):
        try:
            return self.__dict__["args"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self):
        shown = self.args if self.kind == METHOD else self.payload[:60]
        more = f" {self.body[:40]!r}" if "body" in self.__dict__ else ""
        return f"<{self.channel} {self.name or self.kind} {shown}{more}>"


class Closed(Failure):
    """The server closed the socket where something else was expected."""


class Connection:
    """A socket, and the frames that came over it, sorted by channel."""

    def __init__(self, host=None, port=None, receive_buffer=None, source=None):
        family = socket.AF_INET6 if ":" in (host or HOST) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host or HOST, port or PORT))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = bytearray()
        self.eof = False
        self.inbox = {}  # channel -> frames that nobody has asked for yet
        self.heartbeats = 0
        self.last_channel = 0
        self.tune = None
        self.start = None

    # -- octets --

    def send(self, *chunks):
        """A server that has closed already is noticed when its answer is read."""
        try:
            self.sock.sendall(b"".join(chunks))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _fill(self, deadline):
        """More input. False at the end of it; Failure when the deadline passes."""
        if self.eof:
            return False
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Failure("nothing came in time")
        try:
            got = self.sock.recv(262144)
        except ConnectionResetError:
            got = b""
        if not got:
            self.eof = True
            return False
        self.input += got
        return True

    def octets(self, n, patience=PATIENCE_S):
        """The next n octets, raw."""
        deadline = time.monotonic() + patience
        while len(self.input) < n:
            if not self._fill(deadline):
                raise Closed(f"closed after {bytes(self.input)!r}")
        got = bytes(self.input[:n])
        del self.input[:n]
        return got

    def rest(self, patience=PATIENCE_S):
        """All octets until the server closes the socket."""
        deadline = time.monotonic() + patience
        while self._fill(deadline):
            pass
        got = bytes(self.input)
        self.input.clear()
        return got

    # -- frames --

    def raw_frame(self, patience=PATIENCE_S):
        """The next frame of any channel; None when the server has closed the socket."""
        deadline = time.monotonic() + patience
        while True:
            if len(self.input) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.input)
                if len(self.input) >= size + 8:
                    if self.input[size + 7] != FRAME_END:
                        raise Failure(f"a frame without end: {bytes(self.input[:size + 8])!r}")
                    got = Frame(kind, channel, bytes(self.input[7:size + 7]))
                    del self.input[:size + 8]
                    return got
            if not self._fill(deadline):
                if self.input:
                    raise Failure(f"closed amid a frame: {bytes(self.input)!r}")
                return None

    def next_frame(self, channel, patience=PATIENCE_S):
        deadline = time.monotonic() + patience
        while not self.inbox.get(channel):
            got = self.raw_frame(deadline - time.monotonic())
            if got is None:
                raise Closed(f"the server closed the socket; waiting: {self.inbox}")
            if got.kind == HEARTBEAT and got.channel == 0 and not got.payload:
                self.heartbeats += 1
            elif got.name == "connection.close" and channel != 0:
                self.inbox.setdefault(0, []).append(got)
                raise Failure(f"the server closes the connection: {got}")
            else:
                self.inbox.setdefault(got.channel, []).append(got)
        return self.inbox[channel].pop(0)

    def next(self, channel, patience=PATIENCE_S):
        """The next method of a channel, with the content that belongs to it."""
        got = self.next_frame(channel, patience)
        if got.kind != METHOD:
            raise Failure(f"expected a method, got {got}")
        if got.name in CARRIES_CONTENT:
            header = self.next_frame(channel, patience)
            if header.kind != CONTENT_HEADER:
                raise Failure(f"expected a content header, got {header}")
            class_id, weight, size = struct.unpack_from(">HHQ", header.payload)
            if (class_id, weight) != (60, 0):
                raise Failure(f"a content header of class {class_id}, weight {weight}")
            got.raw_props = header.payload[12:]
            got.props = read_properties(got.raw_props)
            parts = []
            while sum(map(len, parts)) < size:
                part = self.next_frame(channel, patience)
                if part.kind != BODY or not part.payload:
                    raise Failure(f"expected a body, got {part}")
                parts.append(part.payload)
            got.body = b"".join(parts)
            got.parts = [len(p) for p in parts]
            if len(got.body) != size:
                raise Failure(f"{len(got.body)} octets of body, {size} announced")
        return got

    # -- expectations --

    def expect(self, channel, name, patience=PATIENCE_S, **fields):
        """The channel's next method is this one, with these fields."""
        got = self.next(channel, patience)
        if got.name != name:
            raise Failure(f"expected {name} {fields}, got {got}")
        for key, want in fields.items():
            have = {"body": got.body, "props": got.props}[key] if key in ("body", "props") \
                else got.args[key]
            if have != want:
                raise Failure(f"{name}.{key} is {have!r}, expected {want!r}")
        return got

    def call(self, channel, name, **fields):
        """Sends a method and expects its -ok."""
        self.send(method_frame(channel, name, **fields))
        return self.expect(channel, name + "-ok")

    def cast(self, channel, name, **fields):
        self.send(method_frame(channel, name, **fields))

    def publish(self, channel, exchange, key, body=b"", props=None, **bits):
        self.send(publish(channel, exchange, key, body, props, **bits))

    def expect_channel_close(self, channel, code, text=None, about=None, patience=PATIENCE_S):
        """channel.close with this code, text and failing method; it is answered, and the
        connection is seen to live on."""
        got = self.expect(channel, "channel.close", patience)
        self._check_close(got, code, text, about)
        self.cast(channel, "channel.close-ok")
        self.call(channel, "channel.open")
        return got

    def expect_close(self, code, text=None, about=None, patience=PATIENCE_S):
        """connection.close with this code, text and failing method; it is answered, and the
        server closes the socket."""
        got = self.expect(0, "connection.close", patience)
        self._check_close(got, code, text, about)
        self.cast(0, "connection.close-ok")
        self.expect_eof(patience)
        return got

    @staticmethod
    def _check_close(got, code, text, about):
        if isinstance(about, str):
            about = BY_NAME[about][:2]
        if got.reply_code != code or text is not None and got.reply_text != text \
                or about is not None and (got.class_id, got.method_id) != about:
            raise Failure(f"expected {code} {text!r} {about}, got {got}")

    def expect_eof(self, patience=PATIENCE_S):
        """The server closes the socket, and says nothing more than what is let pass: frames that
        were under way on other channels."""
        deadline = time.monotonic() + patience
        while True:
            got = self.raw_frame(deadline - time.monotonic())
            if got is None:
                return
            if got.channel == 0 and got.kind != HEARTBEAT:
                raise Failure(f"expected the end, got {got}")

    def expect_nothing(self, channel):
        """The channel has nothing to say: what it answers to a question is all that comes. (Of
        what a queue may still be about to send, ask the queue first: see quiet().)"""
        self.cast(channel, "basic.qos")
        got = self.next(channel)
        if got.name != "basic.qos-ok":
            raise Failure(f"expected nothing, got {got}")

    def quiet(self, channel, queue, messages=None, consumers=None):
        """Neither queue nor channel has anything more to say, and the queue holds so many ready
        messages. What a channel publishes reaches a queue before what it asks of it afterwards;
        only in RabbitMQ may the question of how many overtake, so that there it is repeated."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.cast(channel, "queue.declare", queue=queue, passive=1)
            got = self.next(channel)
            if got.name != "queue.declare-ok":
                raise Failure(f"expected nothing, got {got}")
            self.expect_nothing(channel)
            if messages in (None, got.message_count) and consumers in (None, got.consumer_count):
                return got
            if ORACLE != "rabbitmq" or time.monotonic() > deadline:
                raise Failure(f"expected {messages} messages, {consumers} consumers: {got}")

    # -- the handshake --

    def handshake(self, user="guest", password="guest", vhost="/", capabilities=None,
                  channel_max=0, frame_max=FRAME_MAX, heartbeat=0, client_properties=None):
        """From the protocol header to open-ok. channel_max 0: as the server offers."""
        self.send(HEADER_091)
        self.start = self.expect(0, "connection.start")
        self.login(user, password, capabilities, client_properties)
        self.tune = self.expect(0, "connection.tune")
        self.cast(0, "connection.tune-ok", channel_max=channel_max or self.tune.channel_max,
                  frame_max=frame_max, heartbeat=heartbeat)
        self.cast(0, "connection.open", virtual_host=vhost)
        self.expect(0, "connection.open-ok")
        return self

    def login(self, user="guest", password="guest", capabilities=None, client_properties=None):
        if capabilities is None:
            capabilities = {"authentication_failure_close": True, "basic.nack": True,
                            "consumer_cancel_notify": True, "publisher_confirms": True,
                            "connection.blocked": True}
        self.cast(0, "connection.start-ok", mechanism="PLAIN", locale="en_US",
                  response=b"\0" + octets(user) + b"\0" + octets(password),
                  client_properties={"product": "wire test", "capabilities": capabilities,
                                     **(client_properties or {})})

    def channel(self, number=None):
        """Opens a channel, the next one if no number is given; returns its number."""
        if number is None:
            number = self.last_channel + 1
        self.last_channel = max(number, self.last_channel)
        self.call(number, "channel.open")
        return number

    def close(self):
        """The orderly way."""
        self.cast(0, "connection.close", reply_code=200, reply_text="bye")
        self.expect(0, "connection.close-ok")
        self.hang_up()

    def hang_up(self):
        """Ends our half, which RabbitMQ waits for after close-ok, and sees the other half end."""
        self.sock.shutdown(socket.SHUT_WR)
        self.rest()
        self.sock.close()

    def abandon(self):
        """As a client that died: the socket goes, without a word."""
        self.sock.close()
