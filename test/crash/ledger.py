"""ledger: what a broker has promised about messages and definitions, and whether it kept it.

Whoever publishes, consumes or declares writes down here what was sent before it is sent, and what
the broker promised when the promise is read. A copy is a message in one queue; it is

    in doubt    published, and not confirmed, committed or otherwise certain
    due         confirmed or committed: it must be there until a client has acknowledged it
    leaving     an ack was sent (or a purge): it may be there
    dead        must not be seen again: its ack is certain, or it was missing after a restart,
                or its transaction was rolled back, or it was transient and the broker died

A stream's messages never leave: what is due there stays, transient or not, and so does what a consumer
was given, confirmed or not. So as not to read all of it again after each life, older ones are
forgotten.

An ack is certain when a later round trip proves it: tx.commit-ok, or the confirm of a persistent
message that went to the same queue on the same channel after it.

What is wrong is kept in `problems`, kind -> list of texts: every text names queue, publisher and
number of a message.
"""

import collections
import random
import struct

DOUBT, DUE = "in doubt", "due"

# An ack was sent on a channel that ended before it was certain, and the broker lives: the message
# may be delivered again.
MAYBE_BACK = "may be back"

NOISE = random.Random(91).randbytes(1 << 21)
KEPT_TEXTS = 10  # of each kind of problem; the rest is counted


def name_of(number):
    """A message's number as octets, for its message_id."""
    return b"%x" % number


def number_of(name):
    try:
        return int(name, 16)
    except ValueError:
        return None


def body_of(number, size):
    at = (number * 104729 + (number >> 32) * 7919) & 0xfffff
    if size < 16:
        return NOISE[at:at + size]
    return struct.pack(">QQ", number, size) + NOISE[at:at + size - 16]


def told(number):
    if number is None:
        return "a message without a number"
    return f"publisher {number >> 32} message {number & 0xffffffff}"


class Group:
    """A transaction."""
    OPEN, COMMITTING, COMMITTED, ROLLED_BACK = "open", "committing", "committed", "rolled back"

    def __init__(self):
        self.state, self.messages, self.acks = self.OPEN, [], []


class Message:
    __slots__ = ("number", "size", "persistent", "state", "group", "queues", "barrier")

    def __init__(self, number, size, persistent, queues, group, barrier):
        self.number, self.size, self.persistent = number, size, persistent
        self.queues, self.group, self.barrier = queues, group, barrier
        self.state = DOUBT


class Copy:
    __slots__ = ("message", "queue", "seen", "out", "leaving", "origin", "is_again")

    def __init__(self, message, queue):
        self.message, self.queue = message, queue
        self.seen = False     # a client got it
        self.out = False      # and has it still, as far as this life of the broker goes
        self.leaving = False  # True; or MAYBE_BACK
        self.origin = None    # the copy in the queue from which it was dead-lettered
        self.is_again = False  # a former death of it has, or may have, brought one here already


class Ledger:
    def __init__(self):
        self.live = collections.defaultdict(dict)  # queue -> number -> Copy
        self.dead = collections.defaultdict(set)   # queue -> numbers
        self.definitions = {}                      # (kind, name) -> True, False, None: in doubt
        self.problems = collections.OrderedDict()
        self.counted = collections.Counter()
        self.last_publisher = 0
        self.groups = []  # that may be in doubt
        # For trying this on RabbitMQ: its transactions are not atomic, their acks not certain, and
        # the last definitions before a kill may be missing.
        self.is_weak = False
        self.streams = {}  # stream -> the offset of the first message that is not forgotten
        self.unordered = set()  # queues that others' consumers fill: in no publisher's order
        # Something rotted: what was promised may be missing, what was settled may be back.
        self.is_lenient, self.rotted = False, 0

    def problem(self, kind, text):
        self.counted["problems"] += 1
        texts = self.problems.setdefault(kind, [])
        if len(texts) < KEPT_TEXTS:
            texts.append(text)
        else:
            texts[KEPT_TEXTS - 1] = "... and more"

    def take_problems(self):
        found, self.problems = self.problems, collections.OrderedDict()
        return [f"{kind}: {text}" for kind, texts in found.items() for text in texts]

    # -- publishing --

    def publisher(self):
        self.last_publisher += 1
        return self.last_publisher << 32

    def sent(self, number, size, persistent, queues, group=None, barrier=False):
        message = Message(number, size, persistent, queues, group, barrier)
        for queue in queues:
            self.live[queue][number] = Copy(message, queue)
        if group is not None:
            group.messages.append(message)
        self.counted["published"] += 1
        return message

    def confirmed(self, message):
        message.state = DUE
        self.counted["confirmed"] += 1

    def bury(self, copy):
        if copy.is_again:  # one of them: there may be others
            copy.leaving = MAYBE_BACK
            return
        if self.live[copy.queue].pop(copy.message.number, None) is not None:
            self.dead[copy.queue].add(copy.message.number)

    def begin(self):
        group = Group()
        self.groups.append(group)
        return group

    def committed(self, group):
        group.state = Group.COMMITTED
        for message in group.messages:
            message.state = DUE
        for copy in group.acks if not self.is_weak else ():
            self.bury(copy)
        self.groups.remove(group)
        self.counted["committed"] += 1

    def committing(self, group):
        group.state = Group.COMMITTING
        for copy in group.acks:
            copy.leaving = True

    def rolled_back(self, group):
        group.state = Group.ROLLED_BACK
        for message in group.messages:
            for queue in message.queues:
                self.bury(Copy(message, queue))
        self.groups.remove(group)

    # -- consuming --

    def is_whole(self, message, body):
        return body == body_of(message.number, message.size)

    def find(self, queue, name, body, redelivered, when):
        """The copy that was delivered, with what can be said of any delivery."""
        number = number_of(name)
        copy = self.live[queue].get(number)
        if copy is None:
            if number in self.dead[queue]:
                self.problem("a settled message came back", f"{queue}: {told(number)} {when}")
            else:
                self.problem("a message from nowhere", f"{queue}: {told(number)} {when}")
            return None
        if not self.is_whole(copy.message, body):
            self.problem("a message is damaged", f"{queue}: {told(number)}: {len(body)} octets, "
                         f"{copy.message.size} were published, {when}")
        if copy.seen and not redelivered and not self.is_lenient and queue not in self.streams:
            self.problem("redelivered is not set", f"{queue}: {told(number)} {when}")
        group = copy.message.group
        if group is not None and group.state in (Group.OPEN, Group.ROLLED_BACK):
            self.problem("a message of a transaction that was not committed",
                         f"{queue}: {told(number)} {when}")
        return copy

    def delivered(self, queue, name, body, redelivered, last):
        """A delivery to a live consumer; `last` is its own: publisher -> the last fresh number."""
        copy = self.find(queue, name, body, redelivered, "from a living broker")
        if copy is None:
            return None
        number = copy.message.number
        if copy.out or copy.leaving is True:
            self.problem("delivered twice", f"{queue}: {told(number)} is with a consumer already")
        if not redelivered and not copy.seen:
            publisher = number >> 32
            if last.get(publisher, -1) >= number:
                self.problem("out of order", f"{queue}: {told(number)} after "
                             f"{last[publisher] & 0xffffffff}")
            last[publisher] = number
        copy.seen = copy.out = True
        copy.leaving = False
        self.counted["delivered"] += 1
        return copy

    def delivered_by_stream(self, stream, name, body, last):
        copy = self.find(stream, name, body, False, "from a living broker")
        if copy is None:
            return
        number = copy.message.number
        if last.get(number >> 32, -1) >= number:
            self.problem("out of order", f"{stream}: {told(number)} after "
                         f"{last[number >> 32] & 0xffffffff}")
        last[number >> 32] = number
        copy.seen = True
        self.counted["delivered by streams"] += 1

    def forget(self, stream, copies, kept=100):
        """copies: what was found. All but the last ones are not looked at again."""
        old = copies[:-kept]
        for copy in old:
            del self.live[stream][copy.message.number]
        self.streams[stream] += len(old)

    def acked(self, copy):
        copy.leaving, copy.out = True, False
        self.counted["acked"] += 1

    def dead_lettered(self, copy, queue):
        """A reject is sent that moves it: at least once. It leaves its queue when it is safe in the
        other one, which nobody is told of: it is here or there, or both."""
        number = copy.message.number
        twin = Copy(copy.message, queue)
        twin.origin = copy
        twin.is_again = number in self.live[queue] or number in self.dead[queue]
        self.dead[queue].discard(number)
        copy.leaving, copy.out = True, False
        self.live[queue][copy.message.number] = twin
        self.counted["dead-lettered"] += 1

    def requeued(self, copy):
        copy.out = False

    def abandoned(self, copies):
        """Their channel has ended."""
        for copy in copies:
            copy.out = False
            if copy.leaving:
                copy.leaving = MAYBE_BACK

    def purging(self, queue):
        """A purge or a delete is sent: the copies that it means."""
        copies = list(self.live[queue].values())
        for copy in copies:
            copy.leaving = True
        return copies

    def settled(self, copies):
        for copy in copies:
            self.bury(copy)
        self.counted["settled"] += len(copies)

    # -- the end of a life --

    def crashed(self):
        for group in list(self.groups):
            if group.state == Group.OPEN:
                self.rolled_back(group)
        for copies in self.live.values():
            for copy in list(copies.values()):
                copy.out = False
                if not copy.message.persistent and copy.queue not in self.streams:
                    self.bury(copy)

    def found(self, queue, deliveries):
        """After a restart: all that is in the queue, as (name, body, redelivered), in order.
        Returns the copies that are there."""
        copies, last, there = [], {}, set()
        for name, body, redelivered in deliveries:
            number = number_of(name)
            if self.is_lenient and number in self.dead[queue]:
                self.rotted += 1
                continue
            copy = self.find(queue, name, body, redelivered, "after the restart")
            if copy is None:
                continue
            if number in there:
                if copy.is_again:
                    copies.append(copy)
                else:
                    self.problem("there twice", f"{queue}: {told(number)}")
                continue
            if last.get(number >> 32, -1) >= number and queue not in self.unordered:
                self.problem("out of order after the restart", f"{queue}: {told(number)} after "
                             f"{last[number >> 32] & 0xffffffff}")
            last[number >> 32] = number
            there.add(number)
            copies.append(copy)
        halves = {}  # group in doubt -> [absent, present] numbers
        for number, copy in list(self.live[queue].items()):
            message = copy.message
            is_there = number in there
            if (message.group is not None and message.group.state == Group.COMMITTING
                    and not copy.leaving):
                halves.setdefault(id(message.group), ([], []))[is_there].append(number)
            origin, copy.origin = copy.origin, None
            if not is_there and origin is not None and \
                    self.live[origin.queue].get(number) is origin:
                del self.live[queue][number]  # it is still where it was, and may come yet
                continue
            if not is_there:
                if queue in self.streams and copy.seen:
                    self.problem("a stream took back what it had delivered",
                                 f"{queue}: {told(number)}")
                if message.state == DUE and not copy.leaving:
                    self.rotted += 1
                    if not self.is_lenient:
                        self.problem("a confirmed message is lost",
                                     f"{queue}: {told(number)}, {message.size} octets"
                                     + (", a transaction's" if message.group else ""))
                self.bury(copy)
            else:
                copy.leaving = False
        for absent, present in halves.values():
            if absent and present and not self.is_lenient and not self.is_weak:
                self.problem("half a transaction", f"{queue}: {told(present[0])} is there, "
                             f"{told(absent[0])} is not ({len(present)} and {len(absent)})")
        for copy in copies:
            copy.seen = True
        self.counted["checked"] += len(copies)
        return copies

    def resolved(self):
        """Every queue has been looked at: what is there now was recovered, so it stays."""
        for group in self.groups:
            group.state = Group.COMMITTED
        self.groups.clear()
        for copies in self.live.values():
            for copy in copies.values():
                copy.message.state = DUE

    # -- definitions --

    def defined(self, what, is_there):
        """-ok, or None: asked for and not answered."""
        self.definitions[what] = is_there

    def definition_found(self, what, is_there):
        have = self.definitions.get(what)
        if have is not None and have != is_there:
            self.problem("a definition is lost" if have else "a deleted definition is back",
                         f"{what[0]} {what[1]}")
        self.definitions[what] = is_there
        self.counted["definitions"] += 1
