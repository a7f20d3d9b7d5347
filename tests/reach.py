#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the versions of a store need, from its objects alone.

  reach.py STORE FIRST     names of all objects that versions FIRST and later name themselves, one a line

Fails when one of them is missing, or when a file of these versions cannot be built from nothing with what
is there: by some table whose packs are there, and whose bases can be built in turn.
"""
import json
import os
import sys

from mangle import Store, Table

SAME, DELTAS = 1, 16


def needs_base(codec):
    return codec == SAME or codec >= DELTAS


class Reach:
    def __init__(self, path):
        self.path, self.store, self.ways, self.known = path, Store(path), {}, {}
        for name in os.listdir(os.path.join(path, "versions")):
            for f in json.loads(self.store.get("versions", name))["files"]:
                if "table" in f:
                    ways = self.ways.setdefault(f["table"], set())
                    ways.add(f["table"])
                    ways.update(s["table"] for s in f.get("strides", ()))
                    ways.update([f["anchor"]] if "anchor" in f else ())

    def there(self, kind, name):
        return os.path.exists(os.path.join(self.path, kind, name))

    def packs(self, table):
        """Its packs, without reading them; None: something is missing."""
        if not self.there("tables", table):
            return None
        names = [p.hex() for p in pack_names(self.store, table)]
        return names if all(self.there("packs", p) for p in names) else None

    def buildable(self, table, anchor=None):
        if table in self.known:
            return self.known[table]
        self.known[table] = False
        for way in self.ways.get(table, {table}) | ({anchor} if anchor else set()):
            if self.packs(way) is None:
                continue
            t = Table(self.store, way)
            zero = bytes(32)
            if not any(needs_base(b[2]) for b in t.blocks) or all(
                    self.buildable(b[0].hex(), b[1].hex() if b[1] != zero else None) for b in t.bases):
                self.known[table] = True
                break
        return self.known[table]


def pack_names(store, table):
    """The first field of each pack record, from the table's own bytes (Table reads the packs, too)."""
    import struct
    from mangle import streams
    d = store.get("tables", table)
    (_, _, _, n_blocks, n_bases, n_pieces, n_packs, _, *forms) = struct.unpack_from("<4sIQ7I", d)
    rows, _ = streams(d[44:], forms)
    at = 72 * n_bases + 24 * n_pieces
    return [rows[at + 56 * i:at + 56 * i + 32] for i in range(n_packs)]


def main():
    r, first, names = Reach(sys.argv[1]), int(sys.argv[2]), set()
    for commit in sorted(os.listdir(os.path.join(sys.argv[1], "commits")), key=int):
        if int(commit) < first:
            continue
        with open(os.path.join(sys.argv[1], "commits", commit)) as f:
            version = json.load(f)["version"]
        names |= {"commits/" + commit, "versions/" + version}
        for f in json.loads(r.store.get("versions", version))["files"]:
            if "sha256" in f:
                names |= {"packs/" + f["sha256"]} if f["size"] else set()
                continue
            names |= {"layouts/" + f["layout"]} if "layout" in f else set()
            for t in {f["table"], f.get("anchor", f["table"])} | {s["table"] for s in f.get("strides", ())}:
                names.add("tables/" + t)
                names |= {"packs/" + p.hex() for p in pack_names(r.store, t)}
            if not r.buildable(f["table"]):
                sys.exit("version %s: %s cannot be built" % (commit, f["path"]))
    for name in sorted(names):
        if not r.there(*name.split("/")):
            sys.exit(name + " is missing")
        print(name)


main()
