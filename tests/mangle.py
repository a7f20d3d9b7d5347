#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Spoil version 3 of a store, so that every digest from the commit down is still right.

  mangle.py list                 the cases: name, what the refusal says (a regular expression), words
  mangle.py spoil STORE NAME     version 3 of STORE (the newest) becomes the case's
  mangle.py heal STORE FROM N    commit N is version FROM again under the number N: a good version
  mangle.py merge FROM STORE     what FROM has and STORE has not, in a publisher's order

Lies are chained properly: a changed table gets a new name, which a new version object names, which a
new commit names.  XXH3 is not in Python's library, so block hashes are old ones or lies.
Layouts of objects: weightfs-format(5).
"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

BLOCK = 1 << 20
SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
ZERO, SAME, RAW, ZSTD, DELTA2 = 0, 1, 2, 3, 17
NO_BASE = 0xFFFFFFFF
NOWHERE = "e" * 64


AS_IT_IS = 1 << 31


def streams(data, forms):
    """The two streams of a table, of which each is one zstd frame or as it is."""
    for form in forms:
        n = form & ~AS_IT_IS
        yield data[:n] if form & AS_IT_IS else subprocess.run(["zstd", "-dcq"], input=data[:n], stdout=subprocess.PIPE, check=True).stdout
        data = data[n:]


class Table:
    """Decoded; stored is what each block stores."""

    def __init__(self, store, digest):
        d = store.get("tables", digest)
        (self.magic, self.shift, self.size, n_blocks, n_bases, n_pieces, n_packs, n_groups, *forms) = \
            struct.unpack_from("<4sIQ7I", d)
        rows, hashes = streams(d[44:], forms)
        self.bases = [list(struct.unpack_from("<32s32sQ", rows, 72 * i)) for i in range(n_bases)]
        at = 72 * n_bases
        self.pieces = [list(struct.unpack_from("<QQIBB", rows, at + 24 * i)) for i in range(n_pieces)]
        at += 24 * n_pieces
        packs = [struct.unpack_from("<32sQQI", rows, at + 56 * i) for i in range(n_packs)]
        at += 56 * n_packs
        planes = [rows[at + k * n_blocks:at + (k + 1) * n_blocks] for k in range(5)]
        self.blocks = [[h, sum(planes[k][i] << 8 * k for k in range(4)), planes[4][i]]
                       for i, h in enumerate(struct.unpack_from("<%dQ" % n_blocks, hashes))]
        self.stored = []
        data, pos = b"", 0
        for i, (_, length, _) in enumerate(self.blocks):
            for digest, _, start, first in packs:
                if first == i:
                    data, pos = store.get("packs", digest.hex()), start
            self.stored.append(data[pos:pos + length])
            pos += length
        self.counts, self.pack_size, self.pack_start = {}, 0, 0
        self.pack_first, self.no_pack, self.tail, self.bad_group = 0, False, b"", False

    def put(self, store):
        """Write its pack and itself; its name."""
        data = b"".join(self.stored)
        groups, size = [], 0
        group = b""
        for s in self.stored:
            group += s
            if len(group) >= 65536:
                groups.append(group)
                group = b""
        if group:
            groups.append(group)
        packs = []
        if data and not self.no_pack:
            name = store.put("packs", data)
            packs.append(struct.pack("<32sQQII", bytes.fromhex(name), len(data) + self.pack_size, self.pack_start,
                                     self.pack_first, 0))
        digests = [hashlib.sha256(g).digest() for g in groups]
        if self.bad_group:
            digests[0] = bytes(32)
        c = {"blocks": len(self.blocks), "bases": len(self.bases), "pieces": len(self.pieces), "packs": len(packs),
             "groups": len(groups), **self.counts}
        rows = b"".join(struct.pack("<32s32sQ", *b) for b in self.bases)
        rows += b"".join(struct.pack("<QQIBB2x", *p) for p in self.pieces)
        rows += b"".join(packs)
        for k in range(4):
            rows += bytes(b[1] >> 8 * k & 255 for b in self.blocks)
        rows += bytes(b[2] for b in self.blocks)
        hashes = struct.pack("<%dQ" % len(self.blocks), *(b[0] for b in self.blocks)) + b"".join(digests) + self.tail
        raw = struct.pack("<4sIQ7I", self.magic, self.shift, self.size, c["blocks"], c["bases"], c["pieces"], c["packs"],
                          c["groups"], len(rows) | AS_IT_IS, len(hashes) | AS_IT_IS)
        return store.put("tables", raw + rows + hashes)

    def first(self, codec):
        return next(i for i, b in enumerate(self.blocks) if b[2] == codec)

    def store_block(self, i, codec, data):
        self.blocks[i][1:] = [len(data), codec]
        self.stored[i] = data

    def base_on(self, digest, size, n=0, anchor=None):
        while len(self.bases) <= n:
            self.bases.append(None)
        self.bases[n] = [bytes.fromhex(digest), bytes.fromhex(anchor or "0" * 64), size]

    def all_same(self):
        for b in self.blocks:
            b[1:] = [0, SAME]
        self.stored = [b""] * len(self.blocks)


class Store:
    def __init__(self, path):
        self.path = path

    def name(self, *parts):
        return os.path.join(self.path, *parts)

    def read(self, name):
        with open(self.name(name), "rb") as f:
            return f.read()

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.name(name)), exist_ok=True)
        with open(self.name(name) + ".part", "wb") as f:
            f.write(data)
        os.rename(self.name(name) + ".part", self.name(name))

    def get(self, kind, digest):
        return self.read(kind + "/" + digest)

    def put(self, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        self.write(kind + "/" + digest, data)
        return digest

    def commit(self, n):
        return json.loads(self.read("commits/%d" % n))

    def version(self, n):
        return json.loads(self.get("versions", self.commit(n)["version"]))

    def set_version(self, v, n=3, raw=None, **commit):
        digest = self.put("versions", raw if raw is not None else json.dumps(v).encode())
        old = self.commit(n) if os.path.exists(self.name("commits/%d" % n)) else self.commit(1)
        c = {**old, "sequence": n, "version": digest, **commit}
        text = (json.dumps(c) + "\n").encode()
        self.write("commits/%d" % n, text)
        self.write("latest", text)

    def file(self, v, path=SHARD):
        return next(f for f in v["files"] if f["path"] == path)


CASES = {}


def case(says, *words):
    """says: the refusal's text.  Words: tools (only `show FILE' and `verify' look there), reader (only a
    reader that saw more can know), store (of the live store, where version 2 is the newest), full (version
    3 has anchors), build (seen only when the version is built), bomb (memory is looked at), good (no harm
    is done: version 3 is right), start (a mount notices when it starts)."""
    def add(f):
        CASES[f.__name__.replace("_", "-")] = (f, says, words)
        return f
    return add


def edit_table(s, change, path=SHARD, n=3):
    """Version 3 with a changed table for one file."""
    v = s.version(n)
    f = s.file(v, path)
    t = Table(s, f["table"])
    size = change(t)
    f["table"] = t.put(s)
    if size:
        f["size"] = size
    s.set_version(v)


def edit_version(s, change):
    v = s.version(3)
    change(v)
    s.set_version(v)


def old_name(s, n=2, path=SHARD):
    f = s.file(s.version(n), path)
    return f["table"], f["size"]


def spoil_file(s, name, change):
    data = s.read(name)
    os.unlink(s.name(name))
    s.write(name, change(data))


def truncated(d):
    return d[:len(d) // 2]


def flipped(d):
    return d[:len(d) // 2] + bytes([d[len(d) // 2] ^ 16]) + d[len(d) // 2 + 1:]


def garbage(n=300):
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(n // 32 + 1))[:n]


def new_object(s, kind):
    """The name of the object that version 3 brought."""
    v = s.version(3)
    if kind == "version":
        return "versions/" + s.commit(3)["version"]
    if kind == "table":
        return "tables/" + s.file(v)["table"]
    if kind == "layout":
        return "layouts/" + s.file(v)["layout"]
    if kind == "index":
        return "packs/" + s.file(v, INDEX)["sha256"]
    d = s.get("tables", s.file(v)["table"])
    n_bases, n_pieces = struct.unpack_from("<II", d, 20)
    return "packs/" + d[64 + 72 * n_bases + 24 * n_pieces:][:32].hex()


# ---- objects that are not what their name says: no chain of lies, plain damage

@case("weightfs-store: .*JSON", "store", "start")
def store_info_truncated(s): spoil_file(s, "weightfs-store", truncated)

@case("weightfs-store: .*JSON", "store", "start")
def store_info_garbage(s): s.write("weightfs-store", garbage())

@case("weightfs-store: .*4096", "store", "start")
def store_info_oversized(s): s.write("weightfs-store", s.read("weightfs-store") + b" " * 5000)

@case("weightfs-store: .*format 2, this program reads 1", "store", "start")
def store_info_format(s): spoil_file(s, "weightfs-store", lambda d: d.replace(b'"format":1', b'"format":2'))

@case("has run .* this cache follows", "store", "reader")
def store_info_other_run(s):
    run = json.loads(s.read("weightfs-store"))["run"].encode()
    for name in ("weightfs-store", "latest", "commits/1", "commits/2"):
        spoil_file(s, name, lambda d: d.replace(run, b"0" * 32))

@case("commits/3: .*JSON")
def commit_truncated(s): spoil_file(s, "commits/3", truncated)

@case("commits/3: .*JSON")
def commit_garbage(s): s.write("commits/3", garbage())

@case("commits/3: .*4096")
def commit_oversized(s): s.write("commits/3", s.read("commits/3") + b" " * 5000)

@case("commits/3: .*occurs twice")
def commit_twice(s): spoil_file(s, "commits/3", lambda d: d.replace(b"{", b'{"sequence":2,', 1))

@case("commits/3: .*format 2, this program reads 1")
def commit_format(s): spoil_file(s, "commits/3", lambda d: d.replace(b'"format": 1', b'"format":2').replace(b'"format":1', b'"format":2'))

@case("(commits/3|latest): is of run 0+, not|its commit says otherwise")
def commit_wrong_run(s): s.set_version(s.version(3), run="0" * 32)

@case("commits/3 says it is 7")
def commit_wrong_sequence(s):
    c = s.commit(3)
    s.write("commits/3", json.dumps({**c, "sequence": 7}).encode())

@case("changed version 2", "store", "reader")
def commit_changed(s):
    c = s.commit(1)
    s.write("commits/2", json.dumps({**c, "sequence": 2}).encode())

@case("went back: version 2", "store", "reader")
def commit_gone(s):
    os.unlink(s.name("commits/2"))
    shutil.copy(s.name("commits/1"), s.name("latest"))

@case("", "store", "good")
def latest_far(s): s.write("latest", json.dumps({**s.commit(2), "sequence": 2**53 - 1}).encode())

@case("latest: .*format 2, this program reads 1", "store")
def latest_format(s): spoil_file(s, "latest", lambda d: d.replace(b'"format":1', b'"format":2'))

for kind in ("version", "table", "pack", "index", "layout"):
    def damage(how, kind=kind):
        def f(s): spoil_file(s, new_object(s, kind), how)
        return f
    # a layout is for tools only
    words = ("tools",) if kind == "layout" else ()
    what = {"version": "versions/", "table": "tables/", "pack": "packs/", "index": "packs/", "layout": "layouts/"}[kind]
    # A version may share its index and layouts with the one before: those are in the cache already.
    if kind in ("index", "layout"):
        words = ("tools",)
    sha = "group 0 .*SHA-256|have SHA-256|does not have the SHA-256" if kind == "pack" else "have SHA-256"
    for name, how, says in (("truncated", truncated, "(has|have|bytes|longer|shorter|SHA|ended before)"), ("garbage", lambda d: garbage(len(d)), sha),
                            ("flipped", flipped, sha), ("longer", lambda d: d + b"x", "bytes")):
        case(what + "[0-9a-f]*.*(" + says + ")", *words)(damage(how))
        CASES["%s-%s" % (kind, name)] = CASES.pop("f")

@case("table [0-9a-f]*: tables/[0-9a-f]* is not in the store|tables/[0-9a-f]* is (not in the store|missing)")
def table_missing(s): os.unlink(s.name(new_object(s, "table")))

@case("packs/[0-9a-f]* is (not in the store|missing)")
def pack_missing(s): os.unlink(s.name(new_object(s, "pack")))

@case("versions/[0-9a-f]* is (not in the store|missing)")
def version_missing(s): os.unlink(s.name(new_object(s, "version")))

@case("is a symbolic link")
def pack_symlink(s):
    name = s.name(new_object(s, "pack"))
    os.rename(name, name + ".real")
    os.symlink(name + ".real", name)

@case("not a regular file")
def table_fifo(s):
    name = s.name(new_object(s, "table"))
    os.unlink(name)
    os.mkfifo(name)

@case("16777216")
def version_oversized(s): s.set_version(None, raw=s.read(new_object(s, "version")) + b" " * (16 << 20))


# ---- versions that lie

@case("says it is 7|of sequence 7")
def version_wrong_sequence(s): edit_version(s, lambda v: v.update(sequence=7))

@case("says it is 3 of run 0+|its commit says otherwise")
def version_wrong_run(s): edit_version(s, lambda v: v.update(run="0" * 32))

@case("format 2, this program reads 1")
def version_format(s): edit_version(s, lambda v: v.update(format=2, files="of another kind"))

@case('"files" occurs twice')
def version_twice(s): s.set_version(None, raw=json.dumps(s.version(3))[:-1].encode() + b',"files":[]}')

@case("JSON")
def version_deep(s): s.set_version(None, raw=b'{"format":1,"x":' + b"[" * 100000)

@case("JSON")
def version_not_utf8(s): s.set_version(None, raw=json.dumps(s.version(3)).encode().replace(b"config.json", b"c\xff"))

for name, path, says in (
        ("climbs", "../x", 'component "\\.\\."'), ("climbs-inside", "a/../../x", 'component "\\.\\."'),
        ("absolute", "/etc/passwd", "empty component"), ("dot", "./x", 'component "\\."'),
        ("control", "a\x1b]0;owned\x07b", "byte 0x1b"), ("newline", "a\nb", "byte 0x0a"), ("nul", "config.json\0x", "NUL"),
        ("backslash", "a\\b", "byte 0x5c"), ("long", "a" * 300, "more than 255"), ("empty", "", "empty component"),
        ("very-long", "/".join(["a" * 250] * 5), "more than 1024"), ("deep", "/".join("abcdefghij"), "components"),
        ("twice", INDEX, "does not follow"), ("under-file", INDEX + "/x", "is the directory of")):
    def f(s, path=path):
        v = s.version(3)
        v["files"].append({**s.file(v, "config.json"), "path": path})
        v["files"].sort(key=lambda x: x["path"].encode())
        s.set_version(v)
    case(says)(f)
    CASES["path-" + name] = CASES.pop("f")

@case("order of paths")
def files_unsorted(s): edit_version(s, lambda v: v["files"].reverse())

@case("more than 10000 files")
def files_many(s):
    v = s.version(3)
    c = s.file(v, "config.json")
    v["files"] = [{**c, "path": "f%06d" % i} for i in range(100000)]
    s.set_version(v)

@case("no file")
def files_none(s): edit_version(s, lambda v: v.update(files=[]))

def size(n, path=SHARD):
    def f(s): edit_version(s, lambda v: s.file(v, path).update(size=n))
    return f

# A table of some other size is refused; a space check may come first and say that so much does not fit.
for name, n, says in (("2tib", 1 << 41, "is for (a file of )?2621632 bytes"), ("0", 0, "is for (a file of )?2621632 bytes|shorter than 8"),
                      ("less", 2621631, "is for (a file of )?2621632 bytes"), ("more", 2621633, "is for (a file of )?2621632 bytes"),
                      ("beyond", (1 << 41) + 1, "at most 2199023255552"), ("negative", -1, '"size" is not'),
                      ("fraction", 1.5, '"size" is not'), ("huge", 1 << 70, '"size"|JSON')):
    case(says)(size(n))
    CASES["size-" + name] = CASES.pop("f")

@case("content has 127 bytes, the version says 126", "build")
def size_of_whole(s): size(126, "config.json")(s)

@case("stored whole, but over")
def size_of_whole_large(s): size(1 << 30, "config.json")(s)

# What a way is said to cost only decides which is taken: here another one.
@case("", "tools reader")
def travel_huge(s): edit_version(s, lambda v: s.file(v).update(travel=1 << 62))


# ---- ways back that lie: strides, and the newest full copy

def backs(*back):
    return [{"back": b, "version": NOWHERE} for b in back]

def file_stride(f):
    return {"strides": [{"back": 2, "table": f["table"], "travel": 1}]}

for name, strides, says in (("before-first", backs(3), "a stride to before version 1"), ("back-1", backs(1), "strides do not rise"),
                            ("falling", backs(2, 2), "strides do not rise"), ("many", backs(*range(2, 100)), "more than [0-9]+ strides"),
                            ("number", [7], "is not an object"), ("negative", backs(-2), '"back" is not'),
                            ("no-version", [{"back": 2}], "version")):
    case(says)(lambda s, strides=strides: edit_version(s, lambda v: v.update(strides=strides)))
    CASES["strides-" + name] = CASES.pop("<lambda>")

@case("a stride that the version has not")
def strides_of_file(s): edit_version(s, lambda v: s.file(v).update(file_stride(s.file(v))))

@case("stored whole, but has")
def strides_of_whole(s): edit_version(s, lambda v: s.file(v, "config.json").update(file_stride(s.file(v))))

# A way that is said to cost a byte, and leads nowhere.
@case("", "tools reader")
def strides_nowhere(s):
    def lie(v):
        v.update(strides=backs(2))
        s.file(v).update(strides=[{"back": 2, "table": NOWHERE, "travel": 1}])
    edit_version(s, lie)

@case("stored in full before version 1")
def full_back_before_first(s): edit_version(s, lambda v: s.file(v).update(full_back=3))

@case("an anchor, and an older one")
def full_back_and_anchor(s): edit_version(s, lambda v: s.file(v).update(full_back=1, anchor=s.file(v)["table"]))

@case("stored whole, but has")
def full_of_whole(s): edit_version(s, lambda v: s.file(v, "config.json").update(full=5))

@case('"full" is not')
def full_negative(s): edit_version(s, lambda v: s.file(v).update(full=-1))

# Neither is believed where a full copy is not: version 2 has none.
@case("", "tools reader")
def full_huge(s): edit_version(s, lambda v: s.file(v).update(full=(1 << 63) - 1))

@case("", "tools reader")
def full_back_wrong(s): edit_version(s, lambda v: s.file(v).update(full_back=1))


# ---- index files

def edit_index(s, change):
    v = s.version(3)
    f = s.file(v, INDEX)
    index = json.loads(s.get("packs", f["sha256"]))
    change(index["weight_map"])
    raw = json.dumps(index).encode()
    f["sha256"], f["size"] = s.put("packs", raw), len(raw)
    s.set_version(v)

def index_case(name, says, change, *words):
    def f(s): edit_index(s, change)
    case(says, *words)(f)
    CASES["index-" + name] = CASES.pop("f")

index_case("climbs", "weight_map|component", lambda m: m.update({"model.layers.0.weight": "../" + SHARD}))
index_case("absolute", "weight_map|component", lambda m: m.update({"model.layers.0.weight": "/etc/passwd"}))
index_case("missing-shard", "the version has no file", lambda m: m.update({"model.layers.0.weight": "other.safetensors"}))
index_case("missing-tensor", "does not have", lambda m: m.update({"model.layers.99.weight": SHARD}), "build")
index_case("wrong-shard", "does not have", lambda m: m.update({"model.layers.3.weight": SHARD}), "build")


# ---- tables that lie

def table_case(name, says, *words):
    def add(change):
        def f(s): edit_table(s, change)
        case(says, *words)(f)
        CASES["table-" + name] = CASES.pop("f")
        return change
    return add

@table_case("codec", "codec 77, which this program does not know")
def _(t): t.blocks[0][2] = 77

@table_case("magic", "format WFT9, this program reads WFT1")
def _(t): t.magic = b"WFT9"

@table_case("block-size", "this program reads 2\\^20")
def _(t): t.shift = 30

@table_case("base-index", "piece 0: base 9 of 1")
def _(t): t.pieces[0][2] = 9

@table_case("piece-gap", "does not begin at 0")
def _(t): t.pieces[0][0] = 8

@table_case("piece-order", "empty or not behind")
def _(t): t.pieces.insert(1, list(t.pieces[0]))

@table_case("piece-base", "does not lie within its base")
def _(t): t.pieces[-1][1] += 1

@table_case("piece-wraps", "does not lie within its base")
def _(t): t.pieces[-1][1] = 2**64 - 4096

@table_case("piece-type", "element type 99")
def _(t): t.pieces[0][3] = 99

@table_case("piece-phase", "phase 2 in elements of")
def _(t): t.pieces[-1][3:] = [15, 2]

@table_case("no-pieces", "0 pieces|where its counts make")
def _(t): t.pieces = []

@table_case("pack-short", "stored bytes from 0 in an object of")
def _(t): t.pack_size = -1

@table_case("pack-long", "bytes|size")
def _(t): t.pack_size = 1

@table_case("pack-start", "stored bytes from 1 in|bytes from 1")
def _(t): t.pack_start = 1

@table_case("pack-start-huge", "bytes from [0-9]* in an object of")
def _(t): t.pack_start = 2**64 - 1

@table_case("pack-first", "breaks the order")
def _(t): t.pack_first = 1

@table_case("pack-none", "there is no pack")
def _(t): t.no_pack = True

@table_case("groups-more", "where its counts make")
def _(t): t.counts["groups"] = 3

@table_case("groups-huge", "4294967295 groups of 3 blocks")
def _(t): t.counts["groups"] = 0xFFFFFFFF

@table_case("bases-huge", "are possible|where its counts make")
def _(t): t.counts["bases"] = 0xFFFFFFFF

@table_case("groups-extra", "digests for")
def _(t):
    t.counts["groups"] = 3
    t.tail = bytes(32) * 2

@table_case("group-digest", "does not have its SHA-256|a group does not have")
def _(t): t.bad_group = True

@table_case("blocks-count", "blocks for a file of|where its counts make")
def _(t): t.counts["blocks"] = 4

@table_case("tail", "where its counts make")
def _(t): t.tail = b"x"

@table_case("hash", "block 0 decoded to other bytes", "build")
def _(t): t.blocks[0][0] ^= 1

@table_case("same-with-bytes", "stored bytes for a block of")
def _(t): t.store_block(0, SAME, b"x" * 10)

@table_case("raw-short", "stored bytes for a block of")
def _(t): t.store_block(0, RAW, b"x" * 10)

@table_case("stored-more", "stored bytes for a block of")
def _(t): t.blocks[0][1] = 0xFFFFFFFF

@table_case("2tib", "decoded to other bytes|does not fit", "build", "bomb")
def _(t):
    """Consistent in itself: two million blocks of zeros."""
    t.size = 1 << 41
    t.blocks = [[1, 0, ZERO]] * (1 << 21)
    t.stored = [b""] * (1 << 21)
    t.bases, t.pieces = [], [[0, 0, NO_BASE, 0, 0]]
    return t.size

@table_case("beyond-2tib", "at most 2199023255552")
def _(t): t.size = (1 << 41) + 1

def frame(size, body):
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + body

def rle(n, last):
    """A zstd block that is one byte n times."""
    return struct.pack("<I", n << 3 | 1 << 1 | last)[:3] + b"\0"

def codec_case(name, says, codec, data):
    @table_case(name, says, "build", "bomb")
    def _(t): t.store_block(0, codec, data(t) if callable(data) else data)

codec_case("zstd-4gib", "zstd: frame of 4294967296 bytes where 1048576 belong", ZSTD, frame(1 << 32, rle(131072, 1)))
codec_case("zstd-4gib-real", "zstd: frame of 4294967296 bytes", ZSTD, frame(1 << 32, rle(131072, 0) * 32767 + rle(131072, 1)))
codec_case("zstd-lies-size", "zstd: ", ZSTD, frame(BLOCK, rle(131072, 0) * 63 + rle(131072, 1)))
codec_case("zstd-short", "zstd: ", ZSTD, frame(BLOCK, rle(131072, 0) * 6 + rle(131072, 1)))
codec_case("zstd-two-frames", "zstd: .*behind the frame", ZSTD, frame(BLOCK, rle(131072, 0) * 7 + rle(131072, 1)) * 2)
codec_case("zstd-legal", "decoded to other bytes", ZSTD, frame(BLOCK, rle(131072, 0) * 7 + rle(131072, 1)))
codec_case("zstd-no-size", "does not say its content size", ZSTD, b"\x28\xb5\x2f\xfd\0\x58" + rle(131072, 1))
codec_case("zstd-dictionary", "dictionary", ZSTD, b"\x28\xb5\x2f\xfd\xe1\7" + struct.pack("<Q", BLOCK) + rle(131072, 0) * 7 + rle(131072, 1))
codec_case("zstd-skippable", "zstd: not a frame", ZSTD, b"\x50\x2a\x4d\x18" + struct.pack("<I", 8) + b"x" * 8)
codec_case("zstd-garbage", "zstd: ", ZSTD, garbage(5000))

def delta(change):
    def data(t):
        d = bytearray(t.stored[0])
        assert t.blocks[0][2] == DELTA2
        return bytes(change(d) or d)
    return data

def poke(at, form, value):
    def change(d): struct.pack_into(form, d, at, value)
    return change

# A block of bf16 behind a header: a section of bytes, in which nothing changes, and the other one.
SAME_BYTES = b"\0\0\0\0\0"

codec_case("delta-form", "delta2: a section of form 255", DELTA2, delta(poke(0, "B", 255)))
codec_case("delta-section-huge", "delta2: a section of 2147483647 bytes", DELTA2, delta(poke(1, "<I", 0x7FFFFFFF)))
codec_case("delta-section-longer", "delta2: 7 bytes where nothing changes", DELTA2, delta(poke(1, "<I", 7)))
codec_case("delta-form-2", "delta2: a section of form 9", DELTA2, delta(poke(5, "B", 9)))
codec_case("delta-rate", "delta2: a rate of 2\\^200", DELTA2, delta(poke(8, "B", 200)))
codec_case("delta-left-over", "delta2: the coder", DELTA2, delta(lambda d: bytes(d) + b"words"))
codec_case("delta-short", "delta2: the coder|decoded to other bytes", DELTA2, delta(lambda d: bytes(d[:-1])))
codec_case("delta-header", "delta2: a section of 892613426 bytes", DELTA2, b"1234567")
codec_case("delta-ends", "delta2: 5 bytes end before the section of kind 6", DELTA2, SAME_BYTES)
codec_case("delta-raw-short", "delta2: 3 bytes for", DELTA2, SAME_BYTES + b"\1abc")
codec_case("delta-zstd-4gib", "delta2: units: zstd: frame of 4294967296 bytes", DELTA2, SAME_BYTES + b"\2" + frame(1 << 32, rle(131072, 1)))
codec_case("delta-all-heavy", "delta2: the coder does not end", DELTA2, SAME_BYTES + b"\3\0\0\x1a\x7f\7" + b"\xff" * 100)
codec_case("delta-all-light", "delta2: the coder does not end", DELTA2, SAME_BYTES + b"\3\0\0\x10\x8f\0\2")
codec_case("delta-dense-freqs", "delta2: 300 bytes, where the header says more", DELTA2, SAME_BYTES + b"\4\0\0\xff\xff" + b"\0" * 296)
codec_case("delta-dense-words", "delta2: 300 bytes, where the header says more", DELTA2, SAME_BYTES + b"\4\0\0\0\0" + b"\xff" * 4 + b"\0" * 292)
codec_case("delta-garbage", "delta2: ", DELTA2, garbage(5000))
codec_case("delta-flipped", "zstd|delta2|decoded to other bytes", DELTA2, delta(lambda d: flipped(bytes(d))))


# ---- bases that lie

@case("is for a file of|not [0-9]*|other size", "build")
def base_size(s):
    """The base is a file that readers have; here it is said to be larger."""
    def change(t):
        t.base_on(old_name(s)[0], 1 << 41)
        for p in t.pieces:
            p[1] = (1 << 41) - BLOCK * 8
        t.pieces = [[0, (1 << 41) - BLOCK * 8, 0, 0, 0]]
    edit_table(s, change)

@case("is for a file of|not [0-9]*|other size", "build")
def base_size_second(s):
    """The same base twice, the second time larger."""
    def change(t):
        digest, n = old_name(s)
        t.all_same()
        t.base_on(digest, n)
        t.base_on(digest, 1 << 41, 1)
        t.pieces = [[0, 0, 0, 0, 0], [BLOCK, (1 << 41) - BLOCK * 8, 1, 0, 0]]
    edit_table(s, change)

@case("is for a file of|not [0-9]*|other size", "build")
def base_size_second_not_held(s):
    """As above with a base that no reader holds."""
    v = s.version(3)
    middle = Table(s, s.file(v)["table"]).put(s)
    def change(t):
        t.all_same()
        t.base_on(middle, t.size)
        t.base_on(middle, 1 << 41, 1)
        t.pieces = [[0, 0, 0, 0, 0], [BLOCK, (1 << 41) - BLOCK * 8, 1, 0, 0]]
    edit_table(s, change)

@case("is not in the store|is missing", "build")
def base_missing(s): edit_table(s, lambda t: t.base_on(NOWHERE, t.size))

@case("", "full", "good")
def base_missing_behind_anchor(s):
    """A base whose own base is missing, but has an anchor; and then the missing one again.  The file's
    own anchor is still a way."""
    v = s.version(3)
    f = s.file(v)
    x = Table(s, f["table"])
    x.base_on(NOWHERE, x.size)
    for b in range(len(x.blocks)):
        x.store_block(b, SAME, b"")
    middle = x.put(s)
    def change(t):
        t.all_same()
        t.base_on(middle, t.size, 0, f["anchor"])
        t.base_on(NOWHERE, t.size, 1)
        t.pieces = [[0, 0, 0, 0, 0], [BLOCK, BLOCK, 1, 0, 0]]
    edit_table(s, change)

def chain(s, n):
    """n tables, each the same as the one before; the first is version 3's."""
    v = s.version(3)
    f = s.file(v)
    t = Table(s, f["table"])
    name = f["table"]
    t.all_same()
    t.pieces = [[0, 0, 0, 0, 0]]
    for _ in range(n):
        t.base_on(name, t.size)
        name = t.put(s)
    f["table"] = name
    s.set_version(v)

@case("more than 256 deltas one on another|one after another|one on another", "build")
def chain_long(s): chain(s, 300)

@case("needs more than", "build")
def chain_fans_out(s):
    """Each block needs two of the one before it by turns, which need two each: 4^200 ways to the first.  The
    blocks are equal, so that only counting tells."""
    v = s.version(3)
    f = s.file(v, "pad.bin")
    t = Table(s, f["table"])
    name = f["table"]
    t.all_same()
    t.pieces = [[i * BLOCK // 4, i % 2 * BLOCK + i // 2 * BLOCK // 4, 0, 0, 0] for i in range(8)] + \
               [[2 * BLOCK, 2 * BLOCK, 0, 0, 0]]
    for _ in range(200):
        t.base_on(name, t.size)
        name = t.put(s)
    f["table"], f["anchor"], f["full"] = name, NOWHERE, 1 << 40
    s.set_version(v)

@case("more than|decoded to other bytes", "bomb", "build")
def bases_many(s):
    """One block out of a thousand blocks of a thousand files, a kilobyte of each."""
    v = s.version(3)
    f = s.file(v)
    t = Table(s, f["table"])
    parts = []
    old, n = old_name(s)
    first = Table(s, old).blocks[0][0]
    p = Table(s, old)
    p.size = BLOCK
    p.blocks = [[first, 0, SAME]]
    p.stored = [b""]
    for i in range(1000):
        p.pieces = [[0, 0, 0, 0, 0], [i + 1, i + 1, 0, 0, 0]]
        p.base_on(old, n)
        parts.append(p.put(s))
    t.all_same()
    t.bases = [[bytes.fromhex(d), bytes(32), BLOCK] for d in parts]
    t.pieces = [[i * 1024, i * 1024, i, 0, 0] for i in range(1000)] + [[BLOCK, 0, NO_BASE, 0, 0]]
    t.blocks[0][0] = first
    f["table"] = t.put(s)
    s.set_version(v)

@case("decoded to other bytes", "bomb", "build")
def chain_shifted(s):
    """Each block needs two of the one before it, which need two each."""
    v = s.version(3)
    f = s.file(v)
    t = Table(s, f["table"])
    name = f["table"]
    t.all_same()
    t.pieces = [[0, 8, 0, 0, 0], [t.size - 8, 0, 0, 0, 0]]
    for _ in range(200):
        t.base_on(name, t.size)
        name = t.put(s)
    f["table"] = name
    s.set_version(v)


# ---- anchors that lie

def edit_anchor(s, change):
    """Version 3 can be had by its anchor only, which is changed."""
    v = s.version(3)
    f = s.file(v)
    a = Table(s, f["anchor"])
    change(a)
    f["anchor"] = a.put(s)
    t = Table(s, f["table"])
    t.base_on(NOWHERE, t.size)
    f["table"] = t.put(s)
    s.set_version(v)

@case("anchor table.* differs (at|from .* at) block 1|anchor table differs at block 1", "full")
def anchor_hash(s): edit_anchor(s, lambda a: a.blocks[1].__setitem__(0, 5))

@case("anchor table is for another size|is for (a file of )?[0-9]* bytes|blocks for a file of", "full")
def anchor_size(s): edit_anchor(s, lambda a: setattr(a, "size", a.size - 1))

@case("anchor table.* block 0", "full")
def anchor_with_base(s):
    def change(a):
        a.base_on(*old_name(s))
        a.pieces = [[0, 0, 0, 0, 0]]
        a.store_block(0, SAME, b"")
    edit_anchor(s, change)


@case("does not say that the file is packs/", "full", "tools")
def anchor_plain(s):
    v = s.version(3)
    s.file(v)["plain"] = NOWHERE
    s.set_version(v)


# ---- layouts that lie: only tools read them

def layout_case(name, says, change):
    def f(s):
        v = s.version(3)
        f = s.file(v)
        f["layout"] = s.put("layouts", change(s.get("layouts", f["layout"])))
        s.set_version(v)
    case(says, "tools")(f)
    CASES["layout-" + name] = CASES.pop("f")

layout_case("huge", "header|bytes", lambda d: b"\xff" * 8 + d[8:])
layout_case("beyond", "data_offsets|offsets|size|bytes", lambda d: d.replace(b"2621440]", b"9621440]"))
layout_case("garbage", "JSON|header|bytes", lambda d: struct.pack("<Q", 200) + garbage(200))
layout_case("dtype", "dtype|type", lambda d: d.replace(b"BF16", b"XF16"))


# ---- commands

def heal(s, source, n):
    v = s.version(source)
    v.update(sequence=n, time=v["time"] + n)
    s.set_version(v, n)


def merge(source, target):
    for kind in ("packs", "tables", "layouts", "versions", "commits"):
        for name in sorted(os.listdir(os.path.join(source, kind))):
            to = os.path.join(target, kind, name)
            if os.path.lexists(to) and kind == "commits":
                continue
            at = os.path.join(source, kind, name)
            if os.path.islink(at) or not os.path.isfile(at):
                if not os.path.lexists(to):
                    (os.symlink(os.readlink(at), to) if os.path.islink(at) else os.mkfifo(to))
                continue
            part = os.path.join(target, "." + name + ".part")
            shutil.copyfile(at, part)
            os.rename(part, to)
    shutil.copyfile(os.path.join(source, "latest"), os.path.join(target, ".latest"))
    os.rename(os.path.join(target, ".latest"), os.path.join(target, "latest"))


def main():
    if sys.argv[1] == "list":
        for name, (_, says, words) in CASES.items():
            print(name, says, " ".join(words), sep="\t")
    elif sys.argv[1] == "spoil":
        CASES[sys.argv[3]][0](Store(sys.argv[2]))
    elif sys.argv[1] == "heal":
        heal(Store(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "merge":
        merge(sys.argv[2], sys.argv[3])


if __name__ == "__main__":
    main()
