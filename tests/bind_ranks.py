#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks of one job, for mount-bind.sh.

  bind_ranks.py KIND DIR MNT LIST     KIND: fork, spawn, sessions, parent

The launcher starts rank I when DIR/start.I is there, and ends with the last of three.  A rank loads
half of the eight shards through MNT/latest, says so in DIR/gate.at, waits for DIR/gate, loads the
other half, and writes the versions it saw into DIR/rank.I.
"""
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time

RANKS = 3


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def load(rank, where, mnt, versions):
    seen = []
    for i in range(8):
        if i == 4:
            with open(where + "/gate.at", "a") as f:
                f.write("x\n")
            wait_for(where + "/gate")
        with open("%s/latest/model-%05d-of-00008.safetensors" % (mnt, i + 1), "rb") as f:
            seen.append(hashlib.sha256(f.read()).hexdigest())
    names = {h: line.split()[0] for line in open(versions) for h in line.split()[1:2]}
    with open(where + "/rank.%d.new" % rank, "w") as f:
        print(*dict.fromkeys(names.get(h, "?") for h in seen), file=f)
    os.rename(where + "/rank.%d.new" % rank, where + "/rank.%d" % rank)


def forked(rank, where, mnt, versions):
    pid = os.fork()
    if pid == 0:
        load(rank, where, mnt, versions)
        os._exit(0)
    return pid


def launch(kind, where, mnt, versions):
    ranks = []
    for rank in range(RANKS):
        wait_for(where + "/start.%d" % rank)
        if kind == "fork":
            forked(rank, where, mnt, versions)
        elif kind == "spawn":
            p = multiprocessing.get_context("spawn").Process(target=load, args=(rank, where, mnt, versions))
            p.start()
            ranks.append(p)
        else:
            ranks.append(subprocess.Popen([sys.executable, __file__, "rank", where, mnt, versions, str(rank)],
                                          start_new_session=True))
    for p in ranks:
        p.join() if kind == "spawn" else p.wait()


# Rank 0 is the parent; 1 was forked before it looked, 2 while it loads.
def parent(where, mnt, versions):
    pid = os.fork()
    if pid == 0:
        wait_for(where + "/start.1")
        load(1, where, mnt, versions)
        os._exit(0)
    wait_for(where + "/start.0")
    with open(mnt + "/latest/model-00001-of-00008.safetensors", "rb"):
        pass
    with open(where + "/gate.at", "a") as f:
        f.write("x\n")
    wait_for(where + "/start.2")
    forked(2, where, mnt, versions)
    load(0, where, mnt, versions)


def main():
    kind, where, mnt, versions = sys.argv[1:5]
    if kind == "rank":
        load(int(sys.argv[5]), where, mnt, versions)
    elif kind == "parent":
        parent(where, mnt, versions)
    else:
        launch(kind, where, mnt, versions)
    try:
        while kind in ("fork", "parent"):
            os.wait()
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
