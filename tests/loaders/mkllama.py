#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mkllama.py DIR SEED [STEPS] - a tiny Llama with random bf16 weights, in two shards, as a trainer writes it.

STEPS times about one weight in a hundred then moves by a few code points, so that directories
with the same SEED and different STEPS are steps of one run.  Needs the standard library only.
"""
import json
import os
import random
import struct
import sys

LAYERS, HIDDEN, INNER, HEADS, KV, VOCAB = 4, 256, 688, 8, 4, 1024

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
    "torch_dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV,
    "vocab_size": VOCAB, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu",
    "bos_token_id": 1, "eos_token_id": 2,
}


def shapes():
    head = HIDDEN // HEADS
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        yield p + "self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield p + "self_attn.k_proj.weight", (KV * head, HIDDEN)
        yield p + "self_attn.v_proj.weight", (KV * head, HIDDEN)
        yield p + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield p + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield p + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield p + "mlp.down_proj.weight", (HIDDEN, INNER)
        yield p + "input_layernorm.weight", (HIDDEN,)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def bf16(rng, n):
    """n values of normal spread, as bf16 by truncation."""
    pool = [struct.unpack("<I", struct.pack("<f", rng.gauss(0, 0.02)))[0] >> 16 for _ in range(4096)]
    return [rng.choice(pool) ^ (rng.getrandbits(3)) for _ in range(n)]


def tensors(seed, steps):
    rng = random.Random(seed)
    for name, shape in shapes():
        n = 1
        for d in shape:
            n *= d
        data = [0x3f80] * n if len(shape) == 1 else bf16(rng, n)
        for step in range(steps):
            move = random.Random(f"{seed} {step} {name}")
            for _ in range(max(1, n // 100)):
                i = move.randrange(n)
                data[i] = max(0, min(0xffff, data[i] + move.choice((-2, -1, 1, 2))))
        yield name, shape, struct.pack(f"<{n}H", *data)


def write_shard(path, items):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, data in items:
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in items:
            f.write(data)


def main():
    out, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    os.makedirs(out, exist_ok=True)
    items = list(tensors(seed, steps))
    half = len(items) // 2
    shards = {"model-00001-of-00002.safetensors": items[:half], "model-00002-of-00002.safetensors": items[half:]}
    total = sum(len(d) for _, _, d in items)
    for name, part in shards.items():
        write_shard(os.path.join(out, name), part)
    index = {"metadata": {"total_size": total},
             "weight_map": {t[0]: name for name, part in shards.items() for t in part}}
    for name, value in (("model.safetensors.index.json", index), ("config.json", CONFIG),
                        ("generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})):
        with open(os.path.join(out, name), "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")


main()
