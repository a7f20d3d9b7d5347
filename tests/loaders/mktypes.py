#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mktypes.py DIR SEED - a shard for every element type of the format, two tensors each, random bits."""
import json
import os
import random
import struct
import sys

BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
        "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
        "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}

out, rng = sys.argv[1], random.Random(sys.argv[2])
os.makedirs(out, exist_ok=True)
for name, bits in BITS.items():
    header, data = {}, b""
    for tensor, shape in (("a", [512, 1032]), ("b", [8, 3])):
        n = shape[0] * shape[1] * bits // 8
        header[tensor] = {"dtype": name, "shape": shape, "data_offsets": [len(data), len(data) + n]}
        data += bytes(b & 1 for b in rng.randbytes(n)) if name == "BOOL" else rng.randbytes(n)
    text = json.dumps(header).encode()
    with open(os.path.join(out, f"{name.lower()}.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
