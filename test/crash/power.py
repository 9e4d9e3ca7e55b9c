"""power: the test's half of shim/shim.c: rules for faults, and what a power cut takes back.

A process under the shim that is killed has left its files as the page cache has them. cut() then
makes of them what a disk might have kept: everything that was synced, and of the rest any part,
sector by sector, name by name, drawn by a seeded random.Random.
"""

import errno
import mmap
import os
import shutil
import struct

SECTOR = 512

WRITE, SIZE, SYNC, DONE, CREATE, MKDIR, UNLINK, RMDIR, RENAME, FAILED = range(1, 11)
NAMES = (CREATE, MKDIR, UNLINK, RMDIR, RENAME)

OPEN, READ, WRITE_OP, ALLOCATE, TRUNCATE, SYNC_OP, UNLINK_OP, RENAME_OP, SYNC_DIR, MAKE_DIR = (
    1 << n for n in range(10))
FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_AMID = range(1, 6)

RULES, RULE_BYTES = 8, 256


def library(build_dir):
    return os.path.join(build_dir, "test", "crash", "crash_shim.so")


class Shim:
    """The side directory, and the environment that puts a process under the shim."""

    def __init__(self, build_dir, data_dir, side_dir, record=False, lie=False):
        self.data_dir, self.side_dir = os.path.realpath(data_dir), os.path.realpath(side_dir)
        os.makedirs(os.path.join(self.side_dir, "saved"), exist_ok=True)
        self.log_path = os.path.join(self.side_dir, "log")
        control = os.path.join(self.side_dir, "control")
        with open(control, "wb") as f:
            f.truncate(RULES * RULE_BYTES)
        self.file = open(control, "r+b")
        self.map = mmap.mmap(self.file.fileno(), RULES * RULE_BYTES)
        assert os.path.exists(library(build_dir)), library(build_dir)
        self.env = {"LD_PRELOAD": library(build_dir), "LEPUS_SHIM_DATA": self.data_dir,
                    "LEPUS_SHIM_SIDE": self.side_dir}
        if record:
            self.env["LEPUS_SHIM_RECORD"] = "1"
        if lie:
            self.env["LEPUS_SHIM_LIE"] = "1"

    # -- faults --

    def arm(self, rule, ops, pattern, action=FAIL, err=errno.EIO, nth=1, forever=False):
        at = rule * RULE_BYTES
        self.map[at:at + 4] = struct.pack("<I", 0)
        self.map[at + 4:at + RULE_BYTES] = struct.pack(
            "<IIIQQQII208s", ops, action, err, nth, 0, 0, forever, 0, pattern.encode())
        self.map[at:at + 4] = struct.pack("<I", 1)

    def disarm(self):
        for rule in range(RULES):
            self.map[rule * RULE_BYTES:rule * RULE_BYTES + 4] = struct.pack("<I", 0)

    def seen(self, rule=0):
        return struct.unpack_from("<Q", self.map, rule * RULE_BYTES + 24)[0]

    def fired(self, rule=0):
        return struct.unpack_from("<Q", self.map, rule * RULE_BYTES + 32)[0]

    # -- power --

    def forget(self):
        """Everything on disk is safe: the log begins anew."""
        if os.path.exists(self.log_path):
            os.unlink(self.log_path)
        shutil.rmtree(os.path.join(self.side_dir, "saved"))
        os.mkdir(os.path.join(self.side_dir, "saved"))

    def cut(self, rng, chance=None):
        """The process is dead; takes back what the disk lost. Returns a line that says what.
        chance: how likely what was not synced is lost, drawn when it is not given."""
        told = "nothing was written"
        if os.path.exists(self.log_path):
            told = Cut(self, rng, chance).run()
        self.forget()
        return told


class Record:
    __slots__ = ("kind", "inode", "at", "old_size", "path", "data_at", "length", "is_safe",
                 "is_forgotten")


def read_log(raw):
    records, at = [], 0
    while at + 40 <= len(raw):
        r = Record()
        head, r.inode, r.at, r.old_size, r.length = struct.unpack_from("<5Q", raw, at)
        r.kind, names = head & 0xffffffff, head >> 32
        if at + 40 + names + r.length > len(raw):
            break  # killed amid it: what it was to describe was not done
        r.path = bytes(raw[at + 40:at + 40 + names]).decode()
        r.data_at = at + 40 + names
        at = r.data_at + r.length
        records.append(r)
    return records


class Cut:
    def __init__(self, shim, rng, chance):
        self.shim, self.rng = shim, rng
        # How much is lost differs from cut to cut: all, nothing, much, little.
        self.chance = chance if chance is not None else rng.choice(
            (1.0, 1.0, 0.5, 0.5, 0.1, 0.9, rng.random()))
        # one that loses all goes back to what was synced, others sometimes to something between
        self.between = 0.1 if self.chance < 1 else 0
        self.lost_sectors = self.lost_names = self.pending_sectors = self.pending_names = 0

    def run(self):
        size = os.path.getsize(self.shim.log_path)
        if size == 0:
            return "nothing was written"
        with open(self.shim.log_path, "rb") as f, \
                mmap.mmap(f.fileno(), size, access=mmap.ACCESS_READ) as raw:
            self.raw = raw
            files, names = self.pending(read_log(raw))
            self.take_content(files)
            self.take_names(names)
        return (f"lost {self.lost_sectors} of {self.pending_sectors} unsynced sectors, "
                f"{self.lost_names} of {self.pending_names} unsynced names")

    def pending(self, records):
        """What was not synced: inode -> records of its content; records of names."""
        safe, everything, began = {}, -1, {}  # what -> index of the record up to which it is safe
        forgotten = {}  # inode -> (from, to) of records that a failed sync has given up
        for n, r in enumerate(records):
            if r.kind == SYNC:
                began[r.at] = n
            elif r.kind == FAILED:
                forgotten.setdefault(r.inode, []).append(
                    (max(everything, safe.get(r.inode, -1)) + 1, n))
            elif r.kind == DONE and r.at in began:
                if r.inode == 0:
                    everything = max(everything, began[r.at])
                else:
                    safe[r.inode] = max(safe.get(r.inode, -1), began[r.at])
                    folder = "dir:" + r.path  # of no consequence when it is a file's path
                    safe[folder] = max(safe.get(folder, -1), began[r.at])
        files, names = {}, []
        for n, r in enumerate(records):
            if r.kind in (WRITE, SIZE):
                r.is_safe = n <= max(everything, safe.get(r.inode, -1))
                r.is_forgotten = r.kind == WRITE and any(
                    first <= n < end for first, end in forgotten.get(r.inode, ()))
                if not r.is_safe or r.inode in forgotten:
                    files.setdefault(r.inode, []).append(r)
            elif r.kind in NAMES and n > everything and any(
                    n > safe.get("dir:" + os.path.dirname(path), -1) for path in self.paths(r)):
                names.append(r)
        return files, names

    def paths(self, r):
        if r.kind != RENAME:
            return [r.path]
        return [r.path, bytes(self.raw[r.data_at:r.data_at + r.length]).decode()]

    # -- content --

    def where(self):
        """inode -> a path, of all that is in the data directory or saved."""
        found = {}
        for top in (self.shim.data_dir, os.path.join(self.shim.side_dir, "saved")):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = os.path.join(folder, name)
                    found[os.lstat(path).st_ino] = path
        return found

    def take_content(self, files):
        where = self.where()
        for inode, records in files.items():
            if inode in where:  # else it is gone for good, which nobody can take back
                with open(where[inode], "r+b") as f:
                    self.take_file(f, records)

    def take_file(self, f, records):
        size = os.fstat(f.fileno()).st_size
        old_size = next((r.old_size for r in records if not r.is_safe), size)
        versions = {}  # sector -> its contents from the synced one on, without the last
        for r in records:
            if r.is_safe and not r.is_forgotten:
                for sector in range(r.at // SECTOR, (r.at + r.length + SECTOR - 1) // SECTOR):
                    versions.pop(sector, None)
            elif r.kind == SIZE:
                first, count = r.old_size // SECTOR, 0
                if r.at > r.old_size:  # grown: nothing stood there
                    first = (r.old_size + SECTOR - 1) // SECTOR
                    count = (r.at + SECTOR - 1) // SECTOR - first
                if r.at == size and count > 4096:
                    continue  # room for later; what is written there comes as WRITE
                for sector in range(first, first + count):
                    versions.setdefault(sector, [b""])
            else:
                for at in range(0, r.length, SECTOR):
                    piece = self.raw[r.data_at + at:r.data_at + min(at + SECTOR, r.length)]
                    versions.setdefault((r.at + at) // SECTOR, []).append(piece)
        new_size = size
        if size != old_size and self.rng.random() < self.chance:
            new_size = old_size
        if new_size > size:
            f.truncate(new_size)
        run = 0  # neighbours share their fate more often than chance would have it
        lost = False
        for sector in sorted(versions):
            if run == 0:
                lost = self.rng.random() < self.chance
                run = self.rng.choice((1, 1, 2, 8, 64))
            run -= 1
            self.pending_sectors += 1
            if lost and sector * SECTOR < new_size:
                older = versions[sector]
                piece = older[0] if self.rng.random() >= self.between else self.rng.choice(older)
                f.seek(sector * SECTOR)
                f.write(piece.ljust(SECTOR, b"\0")[:new_size - sector * SECTOR])
                self.lost_sectors += 1
        f.truncate(new_size)

    # -- names --

    def take_names(self, names):
        """Backwards. What a kept change rests on is kept, too."""
        kept = set()
        in_order = self.rng.random() < 0.5  # as a journal of metadata loses them: the last ones
        for r in reversed(names):
            self.pending_names += 1
            paths = self.paths(r)
            must = any(p in kept for p in paths)
            if must or self.rng.random() >= self.chance:
                for path in paths:
                    while path:
                        kept.add(path)
                        path = os.path.dirname(path)
                if in_order:
                    self.chance = 0.0
                continue
            self.lost_names += 1
            self.undo(r, *(os.path.join(self.shim.data_dir, p) for p in paths))

    def undo(self, r, path, to=None):
        saved = os.path.join(self.shim.side_dir, "saved", str(r.at))
        if r.kind == CREATE:
            if os.path.lexists(path):
                os.unlink(path)
        elif r.kind == MKDIR:
            shutil.rmtree(path, ignore_errors=True)
        elif r.kind == UNLINK:
            if r.at and not os.path.lexists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.link(saved, path)
        elif r.kind == RMDIR:
            os.makedirs(path, exist_ok=True)
        elif r.kind == RENAME and os.path.lexists(to):
            os.rename(to, path)
            if r.at:
                os.link(saved, to)
