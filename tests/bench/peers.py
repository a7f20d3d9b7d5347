# SPDX-License-Identifier: Apache-2.0
"""Other formats' bytes for the change between two checkpoints, written from their published layouts.

For tests/bench/bytes only; needs numpy, zstandard and xxhash.  Tensors are bf16.  Every encoder has its
decoder here, and `check` says whether new bytes come back: a format that does not work is small easily.
"""
import json
import os
import struct

import numpy as np
import xxhash
import zstandard

ZSTD = zstandard.ZstdCompressor(level=1)


def tensors(path):
    """{name: u16 array} of the shards of a model directory."""
    out = {}
    for f in sorted(os.listdir(path)):
        if not f.endswith(".safetensors"):
            continue
        raw = np.memmap(os.path.join(path, f), np.uint8, "r")
        n = struct.unpack("<Q", raw[:8].tobytes())[0]
        for name, t in json.loads(raw[8:8 + n].tobytes()).items():
            if name == "__metadata__":
                continue
            if t["dtype"] != "BF16":
                raise SystemExit("%s: %s is %s; the other formats' encoders here know BF16" % (f, name, t["dtype"]))
            a, b = t["data_offsets"]
            out[name] = np.array(raw[8 + n + a:8 + n + b]).view(np.uint16)
    return out


def overwrite(path, values):
    """The shards of a model directory with other values, and new files: an old one may be mapped."""
    for f in sorted(os.listdir(path)):
        if not f.endswith(".safetensors"):
            continue
        with open(os.path.join(path, f), "rb") as file:
            raw = bytearray(file.read())
        n = struct.unpack_from("<Q", raw)[0]
        for name, t in json.loads(raw[8:8 + n]).items():
            if name != "__metadata__":
                a, b = t["data_offsets"]
                raw[8 + n + a:8 + n + b] = values[name].tobytes()
        with open(os.path.join(path, f + ".new"), "wb") as file:
            file.write(raw)
        os.rename(os.path.join(path, f + ".new"), os.path.join(path, f))


def safetensors(items, meta):
    """The file's bytes; items: (key, dtype, bytes) in file order, shape is one dimension."""
    width = {"U8": 1, "BF16": 2, "U16": 2, "I32": 4, "U32": 4}
    head, at = {"__metadata__": meta}, 0
    for key, dtype, data in items:
        head[key] = {"dtype": dtype, "shape": [len(data) // width[dtype]], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in items)


def read_safetensors(data):
    n = struct.unpack_from("<Q", data)[0]
    head = json.loads(data[8:8 + n])
    meta = head.pop("__metadata__", {})
    return {k: data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]] for k, t in head.items()}, meta, head


def changes(old, new):
    """(name, indices of changed elements) of the tensors that changed."""
    for name in sorted(new):
        i = np.flatnonzero(old[name] != new[name])
        if len(i):
            yield name, i


# ---- TRL

def trl_meta(old, parts, version):
    n, total = sum(len(i) for _, i in parts), sum(len(old[name]) for name, _ in parts)
    return {"format": "sparse_weight_patch", "version": "1", "sparse": "True", "model_version": str(version),
            "num_changed_params": str(len(parts)), "total_changed_elements": str(n), "total_elements": str(total),
            "sparsity": "%.6f" % (1 - n / max(total, 1))}


def trl_v1(old, new, version):
    parts = list(changes(old, new))
    meta = trl_meta(old, parts, version)
    meta["changed_params"] = json.dumps([name for name, _ in parts])
    items = []
    for name, i in parts:
        items.append((name + ".indices", "I32", i.astype("<i4").tobytes()))
        items.append((name + ".values", "BF16", new[name][i].astype("<u2").tobytes()))
    return safetensors(items, meta)


def trl_v1_apply(old, data):
    t, _, _ = read_safetensors(data)
    out = {k: v.copy() for k, v in old.items()}
    for key in t:
        if key.endswith(".indices"):
            out[key[:-8]][np.frombuffer(t[key], "<i4")] = np.frombuffer(t[key[:-8] + ".values"], "<u2")
    return out


def trl_gap(old, new, version):
    parts = list(changes(old, new))
    meta = dict(trl_meta(old, parts, version), encoding="gap_delta")
    items = []
    for name, i in parts:
        gaps = np.diff(i, prepend=-1) - 1
        wide = gaps.max() > 65535
        items.append((name + ".idx", "U32" if wide else "U16", gaps.astype("<u4" if wide else "<u2").tobytes()))
        items.append((name + ".val", "BF16", new[name][i].astype("<u2").tobytes()))
    return safetensors(items, meta)


def trl_gap_apply(old, data):
    t, _, head = read_safetensors(data)
    out = {k: v.copy() for k, v in old.items()}
    for key in t:
        if key.endswith(".idx"):
            gaps = np.frombuffer(t[key], "<u4" if head[key]["dtype"] == "U32" else "<u2").astype(np.int64)
            out[key[:-4]][np.cumsum(gaps + 1) - 1] = np.frombuffer(t[key[:-4] + ".val"], "<u2")
    return out


# ---- slime v2: two files, the shard and its index

def slime(old, new, version, encoding):
    items, meta, names = [], {}, {}
    for name, _ in changes(old, new):
        a, b = old[name].view(np.uint8), new[name].view(np.uint8)
        if encoding == "xor":
            payload = (a ^ b).tobytes()
        else:
            i = np.flatnonzero(a != b)
            payload = struct.pack("<I", len(i)) + i.astype("<u4").tobytes() + b[i].tobytes()
        items.append((name, "U8", ZSTD.compress(payload)))
        meta[name] = xxhash.xxh3_128(new[name].tobytes()).hexdigest()
        names[name] = "model-00000-of-00001.safetensors"
    index = {"metadata": {"version": "%06d" % version, "base_version": "%06d" % (version - 1), "delta_encoding": encoding,
                          "compression_format": "zstd", "checksum_format": "xxh3-128"}, "weight_map": names}
    return safetensors(items, meta), json.dumps(index).encode()


def slime_apply(old, data, encoding):
    t, meta, _ = read_safetensors(data)
    out = {k: v.copy() for k, v in old.items()}
    for name, frame in t.items():
        payload = zstandard.ZstdDecompressor().decompress(frame, max_output_size=5 * out[name].nbytes + 4)
        b = out[name].view(np.uint8)
        if encoding == "xor":
            b ^= np.frombuffer(payload, np.uint8)
        else:
            n = struct.unpack_from("<I", payload)[0]
            b[np.frombuffer(payload, "<u4", n, 4)] = np.frombuffer(payload, np.uint8, n, 4 + 4 * n)
        assert meta[name] == xxhash.xxh3_128(out[name].tobytes()).hexdigest(), name
    return out


# ---- PULSEPT1, formatVersion 3

def rice(ranks):
    """Rising ranks as gaps, with the k that takes fewest bytes."""
    gaps = np.diff(ranks, prepend=-1) - 1
    best, size = 0, None
    mean = int(gaps.mean()).bit_length()
    for k in range(max(0, mean - 3), min(31, mean + 3) + 1):
        q = gaps >> k
        bits = int(np.minimum(q, 32).sum() + (q < 32).sum())
        n = (bits + 7) // 8 + (len(gaps) * k + 7) // 8 + 4 * int((q >= 32).sum())
        if size is None or n < size:
            best, size = k, n
    k, q = best, gaps >> best
    lengths = np.minimum(q, 32) + (q < 32)
    unary = np.ones((int(lengths.sum()) + 7) // 8 * 8, np.uint8)
    unary[(np.cumsum(lengths) - 1)[q < 32]] = 0
    unary = np.packbits(unary).tobytes()
    rest = b""
    if k:
        rest = np.packbits((gaps[:, None] >> np.arange(k - 1, -1, -1) & 1).astype(np.uint8).ravel()).tobytes()
    return struct.pack("<BI", k, len(unary)) + unary + rest + q[q >= 32].astype("<u4").tobytes()


def unrice(data, n):
    k, u = struct.unpack_from("<BI", data)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, u, 5))
    q, at = np.zeros(n, np.int64), 0
    zeros = np.flatnonzero(bits == 0)
    if len(zeros) == n:                 # no escape: the usual case
        q = np.diff(zeros, prepend=-1) - 1
    else:
        escaped = []
        for i in range(n):
            while q[i] < 32 and bits[at]:
                q[i] += 1
                at += 1
            if q[i] == 32:
                escaped.append(i)
            else:
                at += 1
        q[escaped] = np.frombuffer(data, "<u4", len(escaped), len(data) - 4 * len(escaped))
    low = np.zeros(n, np.int64)
    if k:
        b = np.unpackbits(np.frombuffer(data, np.uint8, (n * k + 7) // 8, 5 + u))[:n * k].reshape(n, k)
        low = b.astype(np.int64) @ (1 << np.arange(k - 1, -1, -1))
    return np.cumsum((q << k | low) + 1) - 1


def zigzag(old, new):
    d = (new - old).view(np.int16).astype(np.int32)
    return ((d << 1) ^ (d >> 31)).astype(np.uint16)


def pulse_tensor(old, new):
    """(index bytes, value bytes, number of changes)"""
    exponent = (old >> 7 & 255).astype(np.uint8)
    order = np.argsort(exponent, kind="stable")
    changed = (old != new)[order]
    counts = np.bincount(exponent, minlength=256)
    records, blocks, start = [], [], 0
    for e in range(256):
        here = changed[start:start + counts[e]]
        start += counts[e]
        if not here.any():
            continue
        complement = int(here.sum()) * 2 > len(here)
        ranks = np.flatnonzero(~here if complement else here)
        block = rice(ranks) if len(ranks) else b""
        records.append(struct.pack("<BBII", e, complement, len(ranks), len(block)))
        blocks.append(block)
    i = np.flatnonzero(old != new)
    z = zigzag(old[i], new[i])
    values = np.minimum(z, 255).astype(np.uint8).tobytes() + z[z >= 255].astype("<u2").tobytes()
    return struct.pack("<H", len(records)) + b"".join(records) + b"".join(blocks), values, len(i)


def pulse_v3(old, new, step):
    """(the whole object, its compressed payload alone)"""
    payload, infos = b"", []
    for name in sorted(new):
        digest = "xxh3_128:" + xxhash.xxh3_128(new[name].tobytes()).hexdigest()
        index, values, n = pulse_tensor(old[name], new[name])
        if not n:
            index = values = b""
        payload += index + values
        infos.append({"name": name, "shape": [len(new[name])], "numel": len(new[name]), "dtype": "bf16", "changed": n,
                      "idxEnc": "exp-class-rice", "idxBytes": len(index), "valBytes": len(values), "valEnc": "zz-delta-u8esc",
                      "tensorDigest": digest})
    state = xxhash.xxh3_128(b"".join(bytes.fromhex(t["tensorDigest"][9:]) for t in infos)).hexdigest()
    head = {"formatVersion": 3, "step": step, "baseStep": step - 1, "tensors": infos, "stateDigest": "xxh3_128:" + state,
            "model": {"id": "model@0", "digest": "xxh3_128:" + state, "paramCount": sum(len(t) for t in new.values())}}
    text = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    frame = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(payload)
    return b"PULSEPT1" + struct.pack("<I", len(text)) + text + frame, frame


def pulse_apply(old, data):
    n = struct.unpack_from("<I", data, 8)[0]
    head = json.loads(data[12:12 + n])
    payload = zstandard.ZstdDecompressor().decompressobj().decompress(data[12 + n:])
    out, at = {k: v.copy() for k, v in old.items()}, 0
    for t in head["tensors"]:
        index, values = payload[at:at + t["idxBytes"]], payload[at + t["idxBytes"]:at + t["idxBytes"] + t["valBytes"]]
        at += t["idxBytes"] + t["valBytes"]
        if not t["changed"]:
            continue
        o = out[t["name"]]
        exponent = (o >> 7 & 255).astype(np.uint8)
        order = np.argsort(exponent, kind="stable")
        begins = np.concatenate(([0], np.cumsum(np.bincount(exponent, minlength=256))))
        changed = np.zeros(len(o), bool)
        records = [struct.unpack_from("<BBII", index, 2 + 10 * i) for i in range(struct.unpack_from("<H", index)[0])]
        pos = 2 + 10 * len(records)
        for e, complement, m, size in records:
            here = np.zeros(begins[e + 1] - begins[e], bool)
            if m:
                here[unrice(index[pos:pos + size], m)] = True
            pos += size
            changed[order[begins[e]:begins[e + 1]]] = ~here if complement else here
        i = np.flatnonzero(changed)
        assert len(i) == t["changed"]
        z = np.frombuffer(values, np.uint8, len(i)).astype(np.uint16)
        z[z == 255] = np.frombuffer(values, "<u2", int((z == 255).sum()), len(i))
        d = (z >> 1) ^ (0 - (z & 1)).astype(np.uint16)
        o[i] = o[i] + d
    return out


# ---- floors: what a coder that knows the frequencies beforehand would need, in bytes

def entropy(counts):
    """Bits for all symbols together, by their own frequencies."""
    c = counts[counts > 0].astype(np.float64)
    return float((c * np.log2(c.sum() / c)).sum()) if len(c) else 0.0


def floor_delta(old, new):
    """Positions given the old exponent, and values given the old exponent; statistics of each tensor for free."""
    bits = 0.0
    for name in new:
        e = (old[name] >> 7 & 255).astype(np.uint32)
        i = np.flatnonzero(old[name] != new[name])
        n, changed = np.bincount(e, minlength=256), np.bincount(e[i], minlength=256)
        pairs, counts = np.unique(e[i] << 16 | zigzag(old[name][i], new[name][i]), return_counts=True)
        for k in np.flatnonzero(changed):
            bits += entropy(np.array([changed[k], n[k] - changed[k]])) + entropy(counts[pairs >> 16 == k])
    return bits / 8


def floor_full(new):
    """Exponents, and the other byte, by their own frequencies."""
    exponent, rest = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for t in new.values():
        exponent += np.bincount(t >> 7 & 255, minlength=256)
        rest += np.bincount((t & 127) << 1 | t >> 15, minlength=256)
    return (entropy(exponent) + entropy(rest)) / 8


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
