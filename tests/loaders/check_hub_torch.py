#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_hub_torch.py CACHE REPO TRAINER REVISION - from_pretrained(REPO) with HF_HUB_CACHE=CACHE gives, bit for
bit, what it gives on the trainer's directory"""
import os
import sys

cache, repo, trainer, revision = sys.argv[1:]
os.environ.update(HF_HUB_CACHE=cache, HF_HUB_OFFLINE="1")
import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

more = {} if revision == "main" else {"revision": revision}
got = AutoModelForCausalLM.from_pretrained(repo, dtype=torch.bfloat16, **more).state_dict()
want = AutoModelForCausalLM.from_pretrained(trainer, dtype=torch.bfloat16).state_dict()
assert sorted(got) == sorted(want) and want
for n in want:
    a, b = (t[n].detach().contiguous().view(torch.uint8).numpy().tobytes() for t in (got, want))
    assert a == b, n
assert AutoConfig.from_pretrained(repo, **more).step == AutoConfig.from_pretrained(trainer).step
print("same", len(want))
