"""retention: what is too much or too old goes, by whole segments, under whoever reads."""

import os

from parts import *  # noqa: F403
from harness import case, equal, ready, until


def segments(server):
    return sorted(name for _, _, names in os.walk(os.path.join(server.data, "streams"))
                  for name in names if name.endswith(".seg"))


@case
def what_is_too_much_goes(server):
    channel = server.channel()
    declare(channel, "s", x_max_length_bytes=100000, x_stream_max_segment_size_bytes=20000)
    slow = consume(server, "s", "first", prefetch=5)
    equal(channel.queue_declare("s", passive=True).method.message_count, 0, "messages")
    plain = server.channel(confirm=False)
    for n in range(2000):
        plain.basic_publish("", "s", str(n).encode().ljust(500))
        if n % 20 == 0:
            ready(plain, "s")  # so that it is not one chunk
    until(lambda: ready(plain, "s") < 500, "old segments go")
    harness.put(channel, "s", b"2000")
    left = ready(channel, "s")
    assert 50 < left < 500, f"{left} messages are left"
    until(lambda: len(segments(server)) < 12, "segments are unlinked")
    got = read(slow, 1)
    equal(got[0][0], 0, "the first one of the slow consumer")
    first = 2001 - left
    seen = read(consume(server, "s", "first"), left)
    equal([o for o, _ in seen], list(range(first, 2001)), "what is left")
    # the one that was overtaken goes on with what is left, in order
    seen = []
    while not seen or seen[-1] < 2000:
        seen.append(read(slow, 1)[0][0])
    assert seen == sorted(set(seen)) and seen[-left:] == list(range(first, 2001)), "in order"


@case
def what_is_too_old_goes_by_itself(server):
    channel = server.channel()
    declare(channel, "s", x_max_age="1s", x_stream_max_segment_size_bytes=5000)
    for n in range(20):
        harness.put(channel, "s", bytes(1000))
    assert len(segments(server)) >= 3, segments(server)
    until(lambda: len(segments(server)) == 1, "all but the last segment are gone")
    assert ready(channel, "s") <= 10
    server.restart(kill=True)
    channel = server.channel()
    fill(channel, "s", 20, 22)  # may begin a segment, and be the end of the one before
    left = ready(channel, "s")
    seen = read(consume(server, "s", "first"), left)
    equal([o for o, _ in seen], list(range(22 - left, 22)), "offsets go on")
