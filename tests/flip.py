#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Publish, load and judge, for mount-flip.sh.

  flip.py publish STORE DIR LOG SECONDS INTERVAL   publish a version every INTERVAL seconds
  flip.py watch MNT LOG SECONDS                    note what `weightfs wait` says
  flip.py drive MNT LOG SECONDS JOBS LINGER        start jobs, JOBS at a time: of tool-flip, and forked from this
                                                   process, with safetensors loaded if there is such a module;
                                                   LINGER: that of the mount, in seconds
  flip.py judge LOG JOIN                           print a JSON object; exit 1 when a load was no load of one version

LOG is a prefix.  LOG.list: "VERSION sha256 sha256-of-the-tensor", a line a shard.  LOG.pub: "begin end VERSION".
LOG.seen: "end VERSION".  LOG.loads: what tool-flip writes.  Times are ns of CLOCK_MONOTONIC.
"""
import bisect
import collections
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import selectors
import subprocess
import sys
import time

SHARDS = 8
try:
    import ml_dtypes  # noqa: F401  bfloat16 for numpy
    from safetensors import safe_open
except ImportError:
    safe_open = None

now = time.monotonic_ns


def append(path, line):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, (line + "\n").encode())
    os.close(fd)


def publish(store, where, log, seconds, interval):
    end = time.monotonic() + float(seconds)
    due = time.monotonic()
    version = sum(1 for _ in open(log + ".pub")) if os.path.exists(log + ".pub") else 0
    while time.monotonic() < end:
        version += 1
        subprocess.run(["tool-flip", "make", where, str(version)], check=True)
        append(log + ".list", subprocess.check_output(["tool-flip", "list", where, str(version)], text=True).strip())
        begin = now()
        said = subprocess.run(["weightsync", "publish", where, store, "--cache", where + ".cache", "--quiet"],
                              stdout=subprocess.PIPE, text=True, check=True).stdout
        if not said.startswith("version %d:" % version):
            sys.exit("publish made no version %d: %s" % (version, said))
        append(log + ".pub", "%d %d %d" % (begin, now(), version))
        due = max(due + float(interval), time.monotonic() - float(interval))
        time.sleep(max(0, due - time.monotonic()))


def watch(mnt, log, seconds):
    end = time.monotonic() + float(seconds)
    newest = 0
    while time.monotonic() < end:
        r = subprocess.run(["weightfs", "wait", mnt, "--newer-than", str(newest), "--timeout", "2"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if r.returncode == 0:
            newest = int(r.stdout)
            append(log + ".seen", "%d %d" % (now(), newest))


# ---- loaders forked from here ----

def name(i):
    return "model-%05d-of-%05d.safetensors" % (i + 1, SHARDS)


def load_plain(path, i):
    with open(path + name(i), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def load_safetensors(path, i):
    with safe_open(path + name(i), framework="numpy") as f:
        return hashlib.sha256(f.get_tensor("t%d" % i).tobytes()).hexdigest()


def load(mnt, log, kind, job, rank, pause):
    start = now()
    read = load_safetensors if safe_open else load_plain
    first = now()
    seen = [read(mnt + "/latest/", 0)]
    had = now()
    for i in range(1, SHARDS):
        time.sleep(pause)
        seen.append(read(mnt + "/latest/", i))
    append(log + ".loads", " ".join(map(str, ["load", kind, job, rank, start, first, had, now()] + seen)))


def spawned_ranks(mnt, log, kind, job, pause, n, apart):
    """Interpreters of their own, whose launcher never looks."""
    context, running = multiprocessing.get_context("spawn"), []
    for rank in range(n):
        running.append(context.Process(target=load, args=(mnt, log, kind, job, rank, pause)))
        running[-1].start()
        time.sleep(apart)
    for p in running:
        p.join()
    return all(p.exitcode == 0 for p in running)


def load_again(mnt, log, kind, job, pause, idle):
    """A process that lives on: its second load is, for who judges, another job's."""
    load(mnt, log, kind, job, 0, pause)
    time.sleep(idle)
    load(mnt, log, kind + "-second", job + "+", 0, pause)


def ranks(mnt, log, kind, job, pause, n, apart, session):
    for rank in range(n):
        if os.fork() == 0:
            if session:
                os.setsid()
            load(mnt, log, kind, job, rank, pause)
            os._exit(0)
        time.sleep(apart)
    ok = True
    for _ in range(n):
        ok &= os.wait()[1] == 0
    return ok


def python_job(shape, mnt, log, job, pause, n):
    """In a process of its own that pid 1 adopts, as tool-flip does it."""
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    while os.getppid() == parent:
        time.sleep(0.001)
    ok = True
    if shape == "py-one":
        load(mnt, log, shape, job, 0, pause)
    elif shape == "py-parent":
        pid = os.fork()
        if pid == 0:
            time.sleep(pause * 3)
            load(mnt, log, shape, job, 1, pause)
            os._exit(0)
        load(mnt, log, shape, job, 0, pause)
        ok = os.waitpid(pid, 0)[1] == 0
    elif shape == "py-spawn":
        ok = spawned_ranks(mnt, log, shape, job, pause, n, pause)
    elif shape == "py-again":
        load_again(mnt, log, shape, job, pause, n)
    else:
        ok = ranks(mnt, log, shape, job, pause, n, pause, shape == "py-sessions")
    os._exit(not ok)


# What runs with how many loaders.  "one" kinds are ways of a single process.
C_JOBS = [("joined", 1), ("realpath", 1), ("dirfd", 1), ("mntfd", 1), ("chdir", 1), ("above", 1), ("threads", 1),
          ("fork", 4), ("sessions", 4), ("script", 4), ("left", 4), ("parent", 1), ("busy", 6), ("again", 1)]
PY_JOBS = [("py-one", 1), ("py-fork", 4), ("py-spawn", 3), ("py-sessions", 3), ("py-parent", 1), ("py-again", 1)]

# Kinds of loads, where a shape makes others than of its name.
KINDS_OF = {"parent": ["parent", "child-before", "child-after"], "py-parent": ["py-parent"] * 2,
            "again": ["again", "again-second"], "py-again": ["py-again", "py-again-second"]}


def kinds_of(shape, n):
    return KINDS_OF.get(shape, [shape] * n)


def start(shape, n, mnt, log, job, pause):
    """Returns a pipe that ends when the last process of the job has."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        os.set_inheritable(w, True)
        if shape.startswith("py-"):
            python_job(shape, mnt, log, job, pause, n)
        os.execlp("tool-flip", "tool-flip", "job", shape, mnt, str(int(pause * 1000)), str(n), log + ".loads", job)
    os.close(w)
    if os.waitpid(pid, 0)[1]:
        sys.exit("a job did not start")
    return r


def drive(mnt, log, seconds, jobs, linger):
    end = time.monotonic() + float(seconds)
    shapes = itertools.cycle(C_JOBS + PY_JOBS)
    ids = itertools.count()
    running = selectors.DefaultSelector()
    idle = int(linger) + 1
    expected = 0
    while True:
        # Those that idle between two loads take no other's turn.
        while time.monotonic() < end and sum(not k.data for k in running.get_map().values()) < int(jobs):
            shape, n = next(shapes)
            idles = shape.endswith("again")
            expected += len(kinds_of(shape, n))
            running.register(start(shape, idle if idles else n, mnt, log, "%s-%d" % (shape, next(ids)),
                                   random.uniform(0.02, 0.15)), selectors.EVENT_READ, idles)
        if not running.get_map():
            break
        for key, _ in running.select():
            running.unregister(key.fd)
            os.close(key.fd)
    append(log + ".expected", str(expected))


# ---- what came of it ----

class Steps:
    """The greatest version of those noted up to a moment."""

    def __init__(self, pairs):
        self.t, self.v = [], []
        for t, v in sorted(pairs):
            self.t.append(t)
            self.v.append(max(v, self.v[-1] if self.v else 0))

    def at(self, t):
        i = bisect.bisect_right(self.t, t)
        return self.v[i - 1] if i else 0


def numbers(path):
    return [tuple(map(int, line.split())) for line in open(path)]


def judge(log, join):
    join = int(float(join) * 1e9)
    version_of = {}
    for line in open(log + ".list"):
        v, whole, tensor = line.split()
        version_of[whole] = version_of[tensor] = int(v)
    pubs = numbers(log + ".pub")
    shown = Steps(numbers(log + ".seen"))                  # at least this was newest
    begun = Steps([(b, v) for b, _, v in pubs])            # newer ones did not exist
    bad, flips, joins, slots, loads, seen = [], 0, 0, {}, [], set()
    kinds = collections.Counter()
    for line in open(log + ".loads"):
        _, kind, job, rank, *rest = line.split()
        start, first, had, last = map(int, rest[:4])
        hashes = rest[4:]
        versions = [version_of.get(h) for h in hashes]
        kinds[kind] += 1
        if len(versions) != SHARDS or None in versions or len(set(versions)) != 1:
            bad.append("mixture: %s rank %s: %s" % (job, rank, versions))
            continue
        loads.append((first, start, had, last, job, rank, versions[0]))
        seen.add(versions[0])
        flips += shown.at(last) > begun.at(first)
    for first, start, had, last, job, rank, version in sorted(loads):
        # A job's first look is answered with what is newest: at least what was known to be when its process
        # began.  What comes later joins a slot that was opened at most `join` before.
        opened, common, busy_until = slots.setdefault(job, (first, version, last))
        head = opened == first
        floor = shown.at(start if head else first - join)
        if version < floor:
            bad.append("stale: %s rank %s saw %d, %d was shown" % (job, rank, version, floor))
        # While the slot is young and one who took it lives, nobody in the job sees anything else.
        if not head and had - opened < join and had < busy_until and version != common:
            bad.append("ranks differ: %s rank %s saw %d, the first %d" % (job, rank, version, common))
        joins += not head
        if version == common:
            slots[job] = (opened, common, max(busy_until, last))
    expected = sum(n for n, in numbers(log + ".expected"))
    if expected != sum(kinds.values()):
        bad.append("%d loads were started, %d came to their end" % (expected, sum(kinds.values())))
    for kind in {k for shape, n in C_JOBS + PY_JOBS for k in kinds_of(shape, n)}:
        if not kinds[kind]:
            bad.append("no load of the kind %s" % kind)
    print(json.dumps({
        "loads": sum(kinds.values()), "with_a_flip_inside": flips, "by_ranks_after_the_first": joins,
        "by_spawned_ranks": kinds["py-spawn"], "second_of_a_process": kinds["again-second"] + kinds["py-again-second"],
        "versions_seen": len(seen),
        "versions_published": len(pubs), "seconds": round((pubs[-1][1] - pubs[0][0]) / 1e9, 1),
        "published_a_second": round(len(pubs) / ((pubs[-1][1] - pubs[0][0]) / 1e9), 2),
        "mixtures": sum(b.startswith("mixture") for b in bad),
        "ranks_that_differ": sum(b.startswith("ranks") for b in bad),
        "stale": sum(b.startswith("stale") for b in bad), "bad": bad[:20], "kinds": kinds}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit({"publish": publish, "watch": watch, "drive": drive, "judge": judge}[sys.argv[1]](*sys.argv[2:]))
