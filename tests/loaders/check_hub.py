#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_hub.py - the real huggingface_hub on MNT/hub (HF_HUB_CACHE, HF_HUB_OFFLINE=1)

	check_hub.py whole REPO TRAINER-DIR [REVISION]	every way in, bytes compared
	check_hub.py files REPO PARENT			file by file, a line of stdin between two; PARENT
						holds a directory for each version
"""
import os
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError


def read(path):
    with open(path, "rb") as f:
        return f.read()


def whole(repo, trainer, revision="main"):
    names = sorted(os.listdir(trainer))
    root = snapshot_download(repo, revision=revision)
    assert sorted(os.listdir(root)) == names, os.listdir(root)
    for name in names:
        want = read(os.path.join(trainer, name))
        path = hf_hub_download(repo, name, revision=revision)
        assert os.path.dirname(path) == root, path
        assert os.path.getsize(path) == len(want)
        assert read(path) == want, name
        assert try_to_load_from_cache(repo, name, revision=revision) == path
    assert try_to_load_from_cache(repo, "missing.json", revision=revision) is None
    try:
        hf_hub_download(repo, "missing.json", revision=revision)
    except LocalEntryNotFoundError:
        pass
    else:
        raise AssertionError("a file that is not there was found")
    info = scan_cache_dir(os.environ["HF_HUB_CACHE"])
    assert not info.warnings, info.warnings
    (found,) = info.repos
    assert found.repo_id == repo, found.repo_id
    commit = os.path.basename(root)
    (rev,) = [r for r in found.revisions if r.commit_hash == commit]
    assert revision in rev.refs, rev.refs
    assert {f.file_name for f in rev.files} == set(names)


def files(repo, parent):
    names = sorted(os.listdir(os.path.join(parent, "1")))
    seen = {v: 0 for v in os.listdir(parent)}
    for name in names:
        got = read(hf_hub_download(repo, name))
        for v in seen:
            seen[v] += got == read(os.path.join(parent, v, name))
        print(name, flush=True)
        sys.stdin.readline()
    whole = [v for v, n in seen.items() if n == len(names)]
    print("version", *whole, flush=True)
    assert len(whole) == 1, seen


{"whole": whole, "files": files}[sys.argv[1]](*sys.argv[2:])
