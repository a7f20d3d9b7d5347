#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small models for tests and the demo: safetensors with bf16 tensors, standard library only.

  mkmodel.py make DIR [--shards N] [--tensors N] [--mib N] [--seed N]   a model directory
  mkmodel.py step DIR OUT [--percent P] [--seed N]                      the next checkpoint: P % of elements change
  mkmodel.py sparse DIR --gib N --tensors N --shards N [--seed N]       a huge model that is mostly holes
"""
import argparse
import json
import os
import random
import struct
import sys

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "torch_dtype": "bfloat16"}


def shard_name(i, n):
    return "model.safetensors" if n == 1 else "model-%05d-of-%05d.safetensors" % (i + 1, n)


def header_bytes(tensors):
    """tensors: (name, dtype, shape, size) in file order."""
    head, off = {}, 0
    for name, dtype, shape, size in tensors:
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [off, off + size]}
        off += size
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


# What a byte of noise becomes in the upper half of a bf16: sign and exponents as a trained layer has them.
UPPER = bytes(struct.pack("<f", random.Random(i).gauss(0, 0.02))[3] for i in range(256))


def weights(rng, n):
    """n bf16 values like a trained layer's: the lower halves are noise, the upper ones are not."""
    out = bytearray(2 * n)
    out[0::2] = rng.randbytes(n)
    out[1::2] = rng.randbytes(n).translate(UPPER)
    return bytes(out)


def write(path, data):
    with open(path + ".part", "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".part", path)


def write_side_files(directory, weight_map, total):
    write(os.path.join(directory, "config.json"), (json.dumps(CONFIG, indent=2) + "\n").encode())
    if len(set(weight_map.values())) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write(os.path.join(directory, "model.safetensors.index.json"), (json.dumps(index, indent=1) + "\n").encode())


def make(args):
    rng = random.Random(args.seed)
    os.makedirs(args.dir, exist_ok=True)
    per_shard = max(1, args.tensors // args.shards)
    elements = max(8, args.mib * 1048576 // 2 // (per_shard * args.shards))
    weight_map, total = {}, 0
    for s in range(args.shards):
        tensors, data = [], []
        for t in range(per_shard):
            name = "model.layers.%d.weight" % (s * per_shard + t)
            tensors.append((name, "BF16", [elements], 2 * elements))
            data.append(weights(rng, elements))
            weight_map[name] = shard_name(s, args.shards)
            total += 2 * elements
        write(os.path.join(args.dir, shard_name(s, args.shards)), header_bytes(tensors) + b"".join(data))
    write_side_files(args.dir, weight_map, total)


def step(args):
    rng = random.Random(args.seed)
    os.makedirs(args.out, exist_ok=True)
    for name in sorted(os.listdir(args.dir)):
        with open(os.path.join(args.dir, name), "rb") as f:
            data = bytearray(f.read())
        if name.endswith(".safetensors"):
            start = 8 + struct.unpack("<Q", data[:8])[0]
            n = (len(data) - start) // 2
            for _ in range(int(n * args.percent / 100)):
                at = start + 2 * rng.randrange(n)
                value = struct.unpack_from("<H", data, at)[0]
                struct.pack_into("<H", data, at, (value + rng.choice((-1, 1))) & 0xFFFF)
        write(os.path.join(args.out, name), bytes(data))


def sparse(args):
    rng = random.Random(args.seed)
    os.makedirs(args.dir, exist_ok=True)
    per_shard = args.tensors // args.shards
    size = args.gib * (1 << 30) // (per_shard * args.shards) // 2 * 2
    weight_map, total = {}, 0
    for s in range(args.shards):
        tensors = [("model.layers.%d.weight" % (s * per_shard + t), "BF16", [size // 2], size) for t in range(per_shard)]
        head = header_bytes(tensors)
        path = os.path.join(args.dir, shard_name(s, args.shards))
        with open(path, "wb") as f:
            f.write(head)
            f.truncate(len(head) + size * per_shard)
            for t in (0, per_shard // 2):		# two tensors of each shard hold data at their beginning
                f.seek(len(head) + t * size)
                f.write(weights(rng, min(size, 1 << 20) // 2))
        for name, _, _, n in tensors:
            weight_map[name] = shard_name(s, args.shards)
            total += n
    write_side_files(args.dir, weight_map, total)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    a = sub.add_parser("make")
    a.add_argument("dir")
    a.add_argument("--mib", type=int, default=24)
    b = sub.add_parser("step")
    b.add_argument("dir")
    b.add_argument("out")
    b.add_argument("--percent", type=float, default=1.0)
    c = sub.add_parser("sparse")
    c.add_argument("dir")
    c.add_argument("--gib", type=int, default=1024)
    for q, shards, tensors in ((a, 3, 12), (c, 200, 100000)):
        q.add_argument("--shards", type=int, default=shards)
        q.add_argument("--tensors", type=int, default=tensors)
    for q in (a, b, c):
        q.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    {"make": make, "step": step, "sparse": sparse}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())
