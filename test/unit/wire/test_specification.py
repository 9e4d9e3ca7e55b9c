#!/usr/bin/python3
"""The tables of the wire against the machine-readable specification: methods, their fields in
order and type, who sends them, what follows; properties; reply codes and what they close.

test_specification.py <print_tables> <directory of Debian's amqp-specs>

Each place where Lepus differs stands in a list below, with the reason; a difference that is not
listed fails, and so does a listed one that is none."""

import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

EXTENDED = "0-9-1-rabbit/amqp0-9-1.stripped.extended.xml"
PLAIN = "0-9-1/amqp0-9-1.stripped.xml"

TYPES = {
    "octet": "u8", "short": "u16", "long": "u32", "longlong": "u64", "timestamp": "u64",
    "bit": "bit", "shortstr": "shortstr", "longstr": "longstr", "table": "table",
}

# Methods that the file does not have.
NOT_IN_EXTENDED = {
    # RabbitMQ added these to its own copy after the one that Debian has; ids and fields as its
    # clients send them.
    "connection.blocked", "connection.unblocked",
    "connection.update_secret", "connection.update_secret_ok",
    # Of 0-9, dropped in 0-9-1; RabbitMQ still answers it, and old clients still send it.
    "access.request", "access.request_ok",
}
NOT_IN_PLAIN = NOT_IN_EXTENDED | {
    # RabbitMQ's extensions.
    "exchange.bind", "exchange.bind_ok", "exchange.unbind", "exchange.unbind_ok",
    "basic.nack", "confirm.select", "confirm.select_ok",
}

# no-wait is "nowait" in Lepus, as in confirm.select and in RabbitMQ's records.
RENAMED = {"no_wait": "nowait"}

# exchange.declare: 0-9-1 made reserved bits of what 0-9 had as auto-delete and internal; RabbitMQ
# never stopped using them.
RENAMED_IN_PLAIN = {
    ("exchange.declare", "reserved_2"): "auto_delete",
    ("exchange.declare", "reserved_3"): "internal",
}

# The sender in the file, where Lepus has another.
SENDERS_IN_EXTENDED = {}
SENDERS_IN_PLAIN = {
    "basic.ack": "CLIENT",        # the server confirms publishes with it
    "basic.cancel": "CLIENT",     # consumer cancel notification
    "basic.cancel_ok": "SERVER",  # which the client may answer
}

# basic.reserved, the last property, was cluster-id in 0-8, and still is to RabbitMQ's clients.
PROPERTIES_RENAMED = {"reserved": "cluster_id"}

# Reply codes: Lepus has no row for success, which is no error; NO_ROUTE, which basic.return
# carries, is RabbitMQ's. What each closes is the file's word throughout.
NOT_REPLIES = {"frame-method", "frame-header", "frame-body", "frame-heartbeat", "frame-min-size",
               "frame-end"}
REPLIES_NOT_HERE = {"REPLY_SUCCESS"}
REPLIES_NOT_THERE = {"NO_ROUTE"}


def name_of(element):
    return element.get("name").replace("-", "_")


def read_tables(program):
    tables = {"class": {}, "method": {}, "property": [], "reply": {}}
    for line in subprocess.run([program], check=True, capture_output=True, text=True,
                               timeout=60).stdout.splitlines():
        kind, *words = line.split()
        if kind == "method":
            class_id, method_id, name, sender, channel, follows = words
            fields = []
            tables["method"][name] = {"ids": (int(class_id), int(method_id)), "sender": sender,
                                      "channel": channel, "follows": follows, "fields": fields}
        elif kind == "field":
            fields.append(tuple(words))
        elif kind == "class":
            tables["class"][words[1]] = int(words[0])
        elif kind == "property":
            tables["property"].append((int(words[0]), words[1], words[2]))
        elif kind == "reply":
            tables["reply"][words[1]] = (int(words[0]), words[2])
    return tables


class Specification:
    def __init__(self, path):
        self.root = ElementTree.parse(path).getroot()
        self.domains = {d.get("name"): d.get("type") for d in self.root.findall("domain")}

    def type_of(self, field):
        return TYPES[field.get("type") or self.domains[field.get("domain")]]

    def methods(self):
        for of_class in self.root.findall("class"):
            for method in of_class.findall("method"):
                # A chassis element names who must be able to receive it.
                receivers = {c.get("name") for c in method.findall("chassis")}
                sender = ("BOTH" if len(receivers) == 2
                          else "CLIENT" if receivers == {"server"} else "SERVER")
                yield f"{name_of(of_class)}.{name_of(method)}", {
                    "ids": (int(of_class.get("index")), int(method.get("index"))),
                    "sender": sender,
                    "channel": "ZERO" if of_class.get("name") == "connection" else "NONZERO",
                    "follows": "CONTENT" if method.get("content") == "1" else "NOTHING",
                    "fields": [(self.type_of(f), name_of(f)) for f in method.findall("field")],
                }

    def properties(self):
        basic = next(c for c in self.root.findall("class") if c.get("name") == "basic")
        return [(15 - n, self.type_of(f), PROPERTIES_RENAMED.get(name_of(f), name_of(f)))
                for n, f in enumerate(basic.findall("field"))]

    def replies(self):
        for constant in self.root.findall("constant"):
            if constant.get("name") not in NOT_REPLIES:
                yield constant.get("name").replace("-", "_").upper(), (
                    int(constant.get("value")),
                    "CONNECTION" if constant.get("class") == "hard-error" else "CHANNEL",
                )


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def equal(self, what, ours, theirs):
        self.count += 1
        if ours == theirs:
            print(f"ok {self.count} - {what}")
            return
        self.failed += 1
        print(f"not ok {self.count} - {what}\n# Lepus: {ours}\n# specification: {theirs}")

    def finish(self):
        print(f"1..{self.count}")
        return 1 if self.failed else 0


def expected_fields(name, fields, renamed_here):
    return [(t, renamed_here.get((name, n), RENAMED.get(n, n))) for t, n in fields]


def compare(tap, title, tables, specification, missing, senders, renamed_here):
    theirs = dict(specification.methods())
    tap.equal(f"{title}: methods that only Lepus has", set(tables["method"]) - set(theirs), missing)
    tap.equal(f"{title}: methods that Lepus lacks", set(theirs) - set(tables["method"]), set())
    tap.equal(f"{title}: senders listed as different are", {},
              {n: s for n, s in senders.items() if tables["method"][n]["sender"] == s})
    for name, row in theirs.items():
        ours = dict(tables["method"].get(name, {}))
        tap.equal(f"{title}: {name} sender", senders.get(name, ours.pop("sender", None)),
                  row.pop("sender"))
        row["fields"] = expected_fields(name, row["fields"], renamed_here)
        tap.equal(f"{title}: {name}", ours, row)
        tap.equal(f"{title}: class of {name}", tables["class"].get(name.split(".")[0]),
                  row["ids"][0])
    tap.equal(f"{title}: properties", tables["property"], specification.properties())
    replies = dict(specification.replies())
    tap.equal(f"{title}: reply codes only here", set(tables["reply"]) - set(replies),
              REPLIES_NOT_THERE)
    tap.equal(f"{title}: reply codes only there", set(replies) - set(tables["reply"]),
              REPLIES_NOT_HERE)
    for name in sorted(set(replies) & set(tables["reply"])):
        tap.equal(f"{title}: {name}", tables["reply"][name], replies[name])


def main():
    tables = read_tables(sys.argv[1])
    directory = pathlib.Path(sys.argv[2])
    tap = Tap()
    compare(tap, "extended", tables, Specification(directory / EXTENDED), NOT_IN_EXTENDED,
            SENDERS_IN_EXTENDED, {})
    compare(tap, "plain", tables, Specification(directory / PLAIN), NOT_IN_PLAIN, SENDERS_IN_PLAIN,
            RENAMED_IN_PLAIN)
    return tap.finish()


sys.exit(main())
