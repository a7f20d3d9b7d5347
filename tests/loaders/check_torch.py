#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_torch.py MOUNTED TRAINER - transformers' from_pretrained and safetensors' torch binding on MOUNTED
give, bit for bit, what they give on the trainer's own directory: weights and logits."""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
import transformers  # noqa: E402


def raw(t):
    return t.detach().contiguous().view(torch.uint8).numpy().tobytes()


def same_state(got, want):
    assert sorted(got) == sorted(want), "other names"
    for n in want:
        assert got[n].dtype == want[n].dtype and got[n].shape == want[n].shape, n
        assert raw(got[n]) == raw(want[n]), f"{n}: bytes differ"


def shards(path):
    return sorted(n for n in os.listdir(path) if n.endswith(".safetensors"))


def pretrained(path, **more):
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, **more)
    return model.eval()


def logits(model):
    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, 17))
    with torch.no_grad():
        return model(ids).logits


def compare_pretrained(mounted, trainer, **more):
    got, want = pretrained(mounted, **more), pretrained(trainer, **more)
    same_state(got.state_dict(), want.state_dict())
    a, b = logits(got), logits(want)
    assert torch.isfinite(b.float()).all() and b.float().std() > 0, "the model computes nothing"
    assert raw(a) == raw(b), "logits differ"


def test_from_pretrained(mounted, trainer):
    compare_pretrained(mounted, trainer)


def test_from_pretrained_bf16(mounted, trainer):
    compare_pretrained(mounted, trainer, dtype=torch.bfloat16)


def test_weights_are_the_trainers(mounted, trainer):
    """The model's parameters against the shards of the trainer, not against another model."""
    state = pretrained(mounted, dtype=torch.bfloat16).state_dict()
    files = {}
    for s in shards(trainer):
        files.update(load_file(os.path.join(trainer, s)))
    for n, t in files.items():
        assert raw(state[n]) == raw(t), n


def test_load_file(mounted, trainer):
    for s in shards(trainer):
        same_state(load_file(os.path.join(mounted, s)), load_file(os.path.join(trainer, s)))


def open_all(path, **more):
    got = {}
    for s in shards(path):
        with safe_open(os.path.join(path, s), framework="pt", **more) as f:
            got.update({n: f.get_tensor(n).clone() for n in f.keys()})
            got.update({n + " half": f.get_slice(n)[: f.get_slice(n).get_shape()[0] // 2].clone() for n in f.keys()})
    return got


def test_safe_open(mounted, trainer):
    same_state(open_all(mounted), open_all(trainer))


def test_safe_open_pread(mounted, trainer):
    same_state(open_all(mounted, backend="pread"), open_all(trainer))


def test_storage_from_file(mounted, trainer):
    """The private map that torch makes of a whole shard, written to in memory."""
    for s in shards(trainer):
        path = os.path.join(mounted, s)
        size = os.path.getsize(path)
        tensor = torch.tensor([], dtype=torch.uint8).set_(torch.UntypedStorage.from_file(path, False, size))
        with open(os.path.join(trainer, s), "rb") as f:
            assert raw(tensor) == f.read(), s
        tensor[size // 2] = 1


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    passed = failed = 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test(*sys.argv[1:3])
            passed += 1
            print("ok", name)
        except Exception as e:
            failed += 1
            print(f"FAILED {name}: {type(e).__name__}: {e}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
