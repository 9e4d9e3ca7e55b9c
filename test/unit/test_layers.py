#!/usr/bin/python3
"""Includes run downward: no file reaches for a header of a folder above its own, and none for a
header that another folder keeps to itself. test_layers.py <source root>"""

import pathlib
import re
import sys

ORDER = ["base", "wire", "net", "store", "auth", "stream", "broker", "amqp", "mgmt", "server"]
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def folder_of(path, root):
    parts = path.relative_to(root).parts
    return parts[1] if parts[0] == "src" else parts[2]  # include/lepus/<folder>/


def complaint(path, folder, target, root):
    """What is wrong with `#include "target"` in a file of the folder, or None."""
    parts = target.split("/")
    if parts[0] == "lepus":
        if not (root / "include" / target).is_file():
            return "does not exist in include/"
        if parts[1] not in ORDER:
            return "is of a folder that has no place in the order"
        if ORDER.index(parts[1]) > ORDER.index(folder):
            return f"runs upward, from {folder} to {parts[1]}"
        return None
    if len(parts) > 1:
        return "reaches into another folder"
    if not (path.parent / target).is_file():
        return "is not beside the file that includes it"
    if path.suffix == ".h" and path.is_relative_to(root / "include"):
        return "is private, and included by a header that others see"
    return None


def main():
    root = pathlib.Path(sys.argv[1])
    paths = sorted(
        p for top in ("src", "include") for p in (root / top).rglob("*") if p.suffix in (".c", ".h")
    )
    failures = []
    for path in paths:
        folder = folder_of(path, root)
        if folder not in ORDER:
            failures.append(f"{path.relative_to(root)}: folder {folder} has no place in the order")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            what = match and complaint(path, folder, match.group(1), root)
            if what:
                failures.append(f'{path.relative_to(root)}:{number}: "{match.group(1)}" {what}')
    print("\n".join(failures) or f"{len(paths)} files, all arrows downward")
    return 1 if failures or not paths else 0


sys.exit(main())
