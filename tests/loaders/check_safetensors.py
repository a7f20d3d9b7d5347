#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_safetensors.py MOUNTED TRAINER - load every tensor of every shard in every way that the installed
safetensors has, and compare with the trainer's own directory.

What comes from MOUNTED must be what the same call gives for TRAINER (an exception too: numpy lacks
some types), and a tensor's bytes must be those in the trainer's file, which is taken apart here
without the library.  Prints a line for each way, and last the counts."""
import json
import os
import struct
import sys
import threading

import ml_dtypes  # noqa: F401  (teaches numpy bfloat16)
import numpy
import safetensors
import safetensors.numpy
from safetensors import safe_open

# Every way that gives arrays must load at least these.
NUMPY = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64"}


def take_apart(path):
    """name -> (dtype, bytes), by the format's definition."""
    with open(path, "rb") as f:
        raw = f.read()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    data = memoryview(raw)[8 + length:]
    return {n: (t["dtype"], bytes(data[slice(*t["data_offsets"])])) for n, t in header.items()}


def attempt(call):
    """What a call gives, in a form that can be compared: bytes and shape, or the refusal."""
    try:
        a = call()
    except (TypeError, AttributeError, KeyError, safetensors.SafetensorError) as e:
        return "refused", f"{type(e).__name__}: {e}"
    return numpy.ascontiguousarray(a).tobytes(), str(a.dtype), tuple(a.shape)


def by_safe_open(path, **more):
    with safe_open(path, framework="numpy", **more) as f:
        got = {n: attempt(lambda n=n: f.get_tensor(n)) for n in f.keys()}
        sliced = {n: attempt(lambda n=n: f.get_slice(n)[:]) for n in f.keys() if f.get_slice(n).get_shape()}
    for n, s in sliced.items():
        if s[0] != got[n][0]:
            raise AssertionError(f"{n}: the slice of all is not the tensor")
    return got


def by_load_file(path):
    return {n: attempt(lambda a=a: a) for n, a in safetensors.numpy.load_file(path).items()}


def by_load_bytes(path):
    with open(path, "rb") as f:
        return {n: attempt(lambda a=a: a) for n, a in safetensors.numpy.load(f.read()).items()}


def by_deserialize(path):
    with open(path, "rb") as f:
        return {n: (bytes(t["data"]), t["dtype"], tuple(t["shape"])) for n, t in safetensors.deserialize(f.read())}


def by_memmap(path, mode):
    m = numpy.memmap(path, dtype=numpy.uint8, mode=mode)
    length = int.from_bytes(m[:8].tobytes(), "little")
    header = json.loads(m[8:8 + length].tobytes())
    header.pop("__metadata__", None)
    at = {n: [8 + length + o for o in t["data_offsets"]] for n, t in header.items()}
    return {n: (m[a:b].tobytes(), header[n]["dtype"], tuple(header[n]["shape"])) for n, (a, b) in at.items()}


def by_threads(path):
    """Eight readers at once, each of the whole file."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(whole(by_safe_open, path))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if len(results) != 8 or any(r != results[0] for r in results):
        raise AssertionError("threads got different tensors")
    return results[0]


def whole(way, path):
    """load_file and load take all tensors or refuse the file."""
    try:
        return way(path)
    except (TypeError, AttributeError, KeyError, safetensors.SafetensorError) as e:
        return f"{type(e).__name__}: {e}".replace(path, "PATH")


def has_backend(path):
    try:
        with safe_open(path, framework="numpy", backend="pread"):
            return True
    except TypeError:
        return False


def ways(path):
    yield "safe_open", by_safe_open
    if has_backend(path):
        yield "safe_open_mmap", lambda p: by_safe_open(p, backend="mmap")
        yield "safe_open_pread", lambda p: by_safe_open(p, backend="pread")
    yield "load_file", by_load_file
    yield "load_bytes", by_load_bytes
    yield "deserialize", by_deserialize
    yield "memmap_shared", lambda p: by_memmap(p, "r")
    yield "memmap_private", lambda p: by_memmap(p, "c")
    yield "threads", by_threads


def compare(way, mounted, trainer):
    """Raises where the mount differs; the number of tensors that were loaded."""
    got, want, files = whole(way, mounted), whole(way, trainer), take_apart(trainer)
    if got != want:
        raise AssertionError(f"{os.path.basename(trainer)}: {difference(got, want)}")
    if isinstance(got, str):
        if {d for d, _ in files.values()} <= NUMPY:
            raise AssertionError(f"{os.path.basename(trainer)}: {got}")
        return 0
    if sorted(got) != sorted(files):
        raise AssertionError(f"{os.path.basename(trainer)}: other tensor names")
    for n, (dtype, data) in files.items():
        if got[n][0] == "refused" and dtype not in NUMPY:
            continue
        if got[n][0] != data:
            raise AssertionError(f"{n} ({dtype}): not the bytes in the file: {got[n][1:]}")
    return sum(1 for t in got.values() if t[0] != "refused")


def difference(got, want):
    if isinstance(got, str) or isinstance(want, str):
        return f"{str(got)[:200]} instead of {str(want)[:200]}"
    names = [n for n in want if got.get(n) != want[n]] + [n for n in got if n not in want]
    return f"{len(names)} tensors differ from the trainer's, first {names[0]}"


def main():
    mounted, trainer = sys.argv[1:3]
    shards = sorted(n for n in os.listdir(trainer) if n.endswith(".safetensors"))
    there = sorted(n for n in os.listdir(mounted) if n.endswith(".safetensors"))
    if not shards or there != shards:
        print(f"FAILED shards: the mount has {there}, the trainer {shards}")
        print("0 passed, 1 failed")
        return 1
    print(f"safetensors {safetensors.__version__}, numpy {numpy.__version__}, {len(shards)} shards")
    passed = failed = 0
    for name, way in ways(os.path.join(trainer, shards[0])):
        try:
            n = sum(compare(way, os.path.join(mounted, s), os.path.join(trainer, s)) for s in shards)
            if n == 0 and name not in ("load_bytes", "load_file"):
                raise AssertionError("no tensor was loaded")
            passed += 1
            print(f"ok {name}: {n} tensors")
        except Exception as e:
            failed += 1
            print(f"FAILED {name}: {type(e).__name__}: {e}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
