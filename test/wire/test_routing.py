"""What exchange types match: direct, fanout, topic, headers."""

from amqp import T
from case import case, equal

# The empty key has no word at all; "." has two empty ones.
# (binding key, routing keys that match, routing keys that do not)
TOPICS = [
    ("a", ["a"], ["", "b", "a.a", "a.", ".a", "A", "aa"]),
    ("", [""], ["a", ".", "a.b"]),
    ("*", ["a", "abc"], ["", "a.b", ".", "a."]),
    ("#", ["", "a", "a.b", ".", "a..b", "....", "*", "#"], []),
    ("a.b", ["a.b"], ["a", "a.b.c", "ab", "a.", "a..b"]),
    ("a.*", ["a.b", "a.", "a.*", "a.#"], ["a", "a.b.c", "b.a", ".a"]),
    ("*.a", ["b.a", ".a"], ["a", "a.b", "b.c.a"]),
    ("*.*", ["a.b", ".", "a.", ".b"], ["a", "a.b.c", "", ".."]),
    ("a.#", ["a", "a.b", "a.b.c", "a.", "a..", "a.#"], ["b", "ab", ".a", ""]),
    ("#.a", ["a", "b.a", "c.b.a", ".a", "..a"], ["a.b", "ba", "a."]),
    ("#.#", ["", "a", "a.b", "."], []),
    ("#.*", ["a", "a.b", "a.b.c", "."], [""]),
    ("*.#", ["a", "a.b", "."], [""]),
    ("*.#.*", ["a.b", "a.b.c", ".", "..", "a.."], ["a", ""]),
    ("a.#.b", ["a.b", "a.x.b", "a.x.y.b", "a..b", "a.b.b", "a.a.b"], ["a", "b", "a.b.c", "x.a.b"]),
    ("a.*.b", ["a.x.b", "a..b", "a.b.b"], ["a.b", "a.x.y.b"]),
    ("#.b.#", ["b", "a.b", "b.c", "a.b.c", "b.b", ".b."], ["", "a", "a.c", "bb"]),
    ("#.b.#.b", ["b.b", "a.b.c.b", "b.x.y.b", "b.b.b"], ["b", "a.b", "b.b.c"]),
    ("a.#.#.b", ["a.b", "a.x.b", "a.x.y.z.b"], ["a", "b"]),
    ("*.stock.#", ["us.stock", "us.stock.db", ".stock."], ["stock", "us.eu.stock", "us.stocks"]),
    ("a..b", ["a..b"], ["a.b", "a.x.b", "a...b"]),
    (".", ["."], ["", "a", "a.b", ".."]),
    ("a.", ["a."], ["a", "a.b"]),
    (".a", [".a"], ["a", "b.a"]),
    ("a*", ["a*"], ["ab", "a"]),
    ("a#.b", ["a#.b"], ["a.b", "ax.b"]),
    ("**", ["**"], ["a", "a.b"]),
    ("\u00e4.*", ["\u00e4.\u00f6"], ["a.b", "\u00e4"]),
]


def topic_case(binding, yes, no):
    def matches(t):
        c = t.open()
        x, q = t.exchange(c, "topic"), t.queue(c)
        t.bind(c, q, x, binding)
        for key in yes + no:
            c.publish(1, x, key, "x", mandatory=1)
        c.cast(1, "basic.qos")  # answered behind the last return
        returned = []
        while (got := c.next(1)).name == "basic.return":
            returned.append(got.routing_key)
        equal(returned, no, "not matched")
    matches.__name__ = f"topic '{binding}' matches what it should and nothing else"
    matches.__module__ = __name__
    case(matches)


for _row in TOPICS:
    topic_case(*_row)


@case
def topic_matches_keys_of_250_octets(t):
    c = t.open()
    x = t.exchange(c, "topic")
    word = "w" * 248
    many = ".".join("abcdefghijklmnopqrstuvwxy" * 5)  # 249 octets, 125 words
    wanted = {}
    for binding, count in ((word + ".*", 1), ("*.z", 1), (many, 1), ("#.y", 1), ("a.#.y", 1),
                           ("#.a.#.m.#.y.#.m.#", 1), ("*." * 124 + "*", 1), ("*." * 123 + "*", 0),
                           ("#.z.#", 1)):
        q = t.queue(c)
        t.bind(c, q, x, binding)
        wanted[q] = count
    c.publish(1, x, word + ".z", "x")
    c.publish(1, x, many, "x")
    for q, count in wanted.items():
        c.quiet(1, q, messages=count)


@case
def topic_binding_taken_away_leaves_its_neighbours(t):
    c = t.open()
    x = t.exchange(c, "topic")
    keys = ["a.b", "a.*", "a.#", "#", "*.b", "a.b.c", "a.#.c"]
    queues = {key: t.queue(c) for key in keys}
    for key, q in queues.items():
        t.bind(c, q, x, key)
    left = dict(queues)
    matching = {"a.b", "a.*", "a.#", "#", "*.b"}
    counts = dict.fromkeys(keys, 0)
    for gone in ["a.*", "a.b", "#", "a.#.c", "a.b.c", "*.b", "a.#"]:
        c.call(1, "queue.unbind", queue=left.pop(gone), exchange=x, routing_key=gone)
        c.publish(1, x, "a.b", "x")
        for key in left:
            counts[key] += key in matching
    for key, q in queues.items():
        c.quiet(1, q, messages=counts[key])


@case
def default_exchange_routes_by_queue_name(t):
    c = t.open()
    one, two = t.queue(c), t.queue(c)
    c.publish(1, "", two, "x", mandatory=1)
    c.quiet(1, one, messages=0)
    c.cast(1, "basic.get", queue=two, no_ack=1)
    c.expect(1, "basic.get-ok", exchange="", routing_key=two)


@case
def direct_exchange_matches_the_whole_key(t):
    c = t.open()
    x, q = t.exchange(c, "direct"), t.queue(c)
    t.bind(c, q, x, "a.*")
    for key in ("a.b", "a", "a.*x", "A.*", ""):
        c.publish(1, x, key, "no")
    c.publish(1, x, "a.*", "yes")
    c.quiet(1, q, messages=1)


@case
def direct_exchange_sends_a_copy_to_each_queue(t):
    c = t.open()
    x, queues = t.exchange(c, "direct"), [t.queue(c) for _ in range(5)]
    for q in queues:
        t.bind(c, q, x, "k")
    c.publish(1, x, "k", "copy")
    for q in queues:
        c.quiet(1, q, messages=1)


@case
def fanout_exchange_ignores_the_key(t):
    c = t.open()
    x, one, two = t.exchange(c, "fanout"), t.queue(c), t.queue(c)
    t.bind(c, one, x, "a")
    t.bind(c, two, x, "b")
    for key in ("a", "", "zz"):
        c.publish(1, x, key, "x")
    c.quiet(1, one, messages=3)
    c.quiet(1, two, messages=3)


ABC = {"a": 1, "b": "x", "c": True}
# (what, binding arguments, [headers that match], [headers that do not])
HEADERS = [
    ("all", {"x-match": "all", "a": 1, "b": "x"},
     [{"a": 1, "b": "x"}, ABC], [{}, {"a": 1}, {"b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "X"}]),
    ("all by default", {"a": 1, "b": "x"}, [ABC], [{}, {"a": 1}, {"b": "x"}]),
    ("any", {"x-match": "any", "a": 1, "b": "x"},
     [{"a": 1}, {"b": "x"}, ABC, {"a": 2, "b": "x"}], [{}, {"a": 2}, {"c": True}]),
    ("all of nothing", {"x-match": "all"}, [{}, ABC], []),
    ("nothing at all", {}, [{}, ABC], []),
    ("any of nothing", {"x-match": "any"}, [], [{}, ABC]),
    ("all of presence", {"x-match": "all", "a": None}, [{"a": 1}, {"a": "x"}, {"a": None}],
     [{}, {"b": 1}]),
    ("any of presence", {"x-match": "any", "a": None, "b": None}, [{"a": 1}, {"b": 0}],
     [{}, {"c": 1}]),
    ("all and names with x- ignored", {"x-match": "all", "a": 1, "x-b": 2},
     [{"a": 1}, {"a": 1, "x-b": 3}], [{"x-b": 2}]),
    ("any and names with x- ignored", {"x-match": "any", "a": 1, "x-b": 2}, [{"a": 1}],
     [{"x-b": 2}, {"a": 2, "x-b": 2}]),
    ("all with x", {"x-match": "all-with-x", "a": 1, "x-b": 2}, [{"a": 1, "x-b": 2}],
     [{"a": 1}, {"a": 1, "x-b": 3}, {"x-b": 2}]),
    ("any with x", {"x-match": "any-with-x", "a": 1, "x-b": 2}, [{"a": 1}, {"x-b": 2}],
     [{}, {"x-b": 3}]),
    ("strings and numbers apart", {"a": "1"}, [{"a": "1"}], [{"a": 1}, {"a": T("l", 1)}]),
    ("values of boolean apart", {"a": True}, [{"a": True}], [{"a": False}, {"a": 1}, {"a": "true"}]),
    ("tables by value", {"a": {"k": [1, "x"]}}, [{"a": {"k": [1, "x"]}}],
     [{"a": {"k": [1]}}, {"a": {}}, {"a": [1, "x"]}]),
]


def headers_case(what, arguments, yes, no):
    def matches(t):
        c = t.open()
        x, q = t.exchange(c, "headers"), t.queue(c)
        t.bind(c, q, x, "ignored", arguments)
        for n, headers in enumerate(yes + no):
            c.publish(1, x, "any", str(n), {"headers": headers})
        got = []
        while True:
            c.cast(1, "basic.get", queue=q, no_ack=1)
            message = c.next(1)
            if message.name == "basic.get-empty":
                break
            got.append(int(message.body))
        equal(got, list(range(len(yes))), "matched")
    matches.__name__ = f"headers match {what}"
    matches.__module__ = __name__
    case(matches)


for _row in HEADERS:
    headers_case(*_row)


@case
def message_without_headers_goes_where_nothing_is_asked(t):
    c = t.open()
    x, one, two = t.exchange(c, "headers"), t.queue(c), t.queue(c)
    t.bind(c, one, x, "", {"x-match": "all"})
    t.bind(c, two, x, "", {"a": 1})
    c.publish(1, x, "", "bare")
    c.quiet(1, one, messages=1)
    c.quiet(1, two, messages=0)


@case
def headers_match_integers_of_any_width_by_value(t):
    c = t.open()
    x, q = t.exchange(c, "headers"), t.queue(c)
    t.bind(c, q, x, "", {"a": T("I", 7)})
    for tag in "bBsuIilL":
        c.publish(1, x, "", tag, {"headers": {"a": T(tag, 7)}})
    c.quiet(1, q, messages=8)


@case
def bad_x_match_is_refused(t):
    c = t.open()
    q = t.queue(c)
    for value, text in (
            ("some", "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or "
             "any-with-x"),
            (5, "Invalid x-match field type signedint (value 5); expected longstr")):
        c.cast(1, "queue.bind", queue=q, exchange="amq.headers", arguments={"x-match": value})
        c.expect_channel_close(1, 406, "PRECONDITION_FAILED - " + text, "queue.bind")
