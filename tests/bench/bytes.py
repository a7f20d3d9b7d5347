# SPDX-License-Identifier: Apache-2.0
"""The work of tests/bench/bytes, which says what this is."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
try:
    import peers
    WHY = ""
except ImportError as e:
    peers, WHY = None, "not installed: " + e.name

TMP = os.environ["TMPDIR"]
FIGURES = {}


def path(*parts):
    return os.path.join(TMP, *parts)


def run(*words, **more):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, **more).stdout


def timed(f, *args):
    start = time.monotonic()
    result = f(*args)
    return result, time.monotonic() - start


def size_of(directory):
    return sum(os.path.getsize(os.path.join(directory, f)) for f in os.listdir(directory))


def shards(directory):
    return sorted(os.path.join(directory, f) for f in os.listdir(directory) if f.endswith(".safetensors"))


def table(title, columns, rows):
    print("\n" + title)
    rows = [[("%.*f" % (3 if abs(c) < 1000 else 0, c) if isinstance(c, float) else "" if c is None else str(c)) for c in r]
            for r in rows]
    widths = [max(len(r[i]) for r in rows + [columns]) for i in range(len(columns))]
    for r in [columns] + rows:
        print("  " + "  ".join(c.ljust(w) if i == 0 or i == len(columns) - 1 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(r, widths))).rstrip())


# ---- ours

def publish(store, directory, *options):
    out, seconds = timed(run, "weightsync", "publish", "--json", "--quiet", "--cache", path(store + ".cache"), *options,
                         directory, path(store))
    r = json.loads(out)
    if r["unchanged"]:
        raise SystemExit(directory + " equals the step before it")
    shown = json.loads(run("weightsync", "show", "--json", path(store)))
    r.update(seconds=seconds, stored=sum(f["stored"] if "stored" in f else f["travel"] for f in shown["files"]))
    return r


def drop(store):
    shutil.rmtree(path(store))
    shutil.rmtree(path(store + ".cache"))


def our_steps(steps):
    out, rows = [], []
    for i, d in enumerate(steps):
        r = publish("steps", d)
        out.append(r)
        n = r["changed_bytes"] // 2
        rows.append([os.path.basename(d), r["size"], r["travel"], r["size"] / r["travel"], 100 * r["changed_bytes"] / r["size"],
                     r["travel"] / n if i else None, 100 * (1 - r["stored"] / r["travel"]), r["store_growth"], r["seconds"]])
    table("Ours, step by step: a reader one version behind", ["step", "size", "travels", "factor", "% changed", "B/changed",
          "% tables etc.", "store grew", "seconds"], rows)
    FIGURES["steps"] = out
    return out


# ---- programs over whole files

def missing(program):
    return None if shutil.which(program) else "not installed: " + program


def over_shards(old, new, command):
    """Sum of what the command makes of each pair of shards; {old}, {new}, {out} are filled in."""
    total = 0
    for a, b in zip(shards(old), shards(new)):
        if os.path.exists(path("out")):
            os.unlink(path("out"))
        run(*[w.format(old=a, new=b, out=path("out")) for w in command], stderr=subprocess.DEVNULL)
        total += os.path.getsize(path("out"))
    return total


def rsync(old, new):
    shutil.copytree(old, path("rsync"))
    os.sync()
    said = run("rsync", "-r", "--no-whole-file", "--checksum", "--stats", new + "/", path("rsync")).decode()
    shutil.rmtree(path("rsync"))
    number = [l for l in said.splitlines() if l.startswith("Total bytes sent")][0].split(":")[1]
    return int("".join(c for c in number if c.isdigit()))


def tools(old, new, slow):
    yield "the files", size_of(new), 0.0, None
    for name, program, command, fast in (
            ("zstd -3", "zstd", ["zstd", "-q", "-3", "{new}", "-o", "{out}"], True),
            ("zstd -19", "zstd", ["zstd", "-q", "-19", "-T0", "{new}", "-o", "{out}"], False),
            ("zstd -3 --patch-from", "zstd", ["zstd", "-q", "-3", "--long=27", "--patch-from={old}", "{new}", "-o", "{out}"], True),
            ("xdelta3 -1", "xdelta3", ["xdelta3", "-q", "-e", "-f", "-1", "-s", "{old}", "{new}", "{out}"], True),
            ("xdelta3 -9 -S lzma", "xdelta3", ["xdelta3", "-q", "-e", "-f", "-9", "-S", "lzma", "-s", "{old}", "{new}", "{out}"], False)):
        why = missing(program) or (None if fast or slow else "left out")
        n, seconds = timed(over_shards, old, new, command) if not why else (None, None)
        yield name, n, seconds, why
    why = missing("rsync") or (None if slow else "left out")
    n, seconds = timed(rsync, old, new) if not why else (None, None)
    yield "rsync", n, seconds, why


# ---- other formats

def formats(old, new, n, prove):
    """(name, bytes, seconds): as many bytes as its files have; proven by decoding them."""
    def made(name, make, apply, size=len):
        data, seconds = timed(make)
        if prove and not peers.same(apply(data), new):
            raise SystemExit(name + " does not give the step back: no figure is worth anything")
        return name, size(data), seconds

    yield made("TRL v1", lambda: peers.trl_v1(old, new, n), lambda d: peers.trl_v1_apply(old, d))
    yield made("TRL gap_delta", lambda: peers.trl_gap(old, new, n), lambda d: peers.trl_gap_apply(old, d))
    for how in "xor", "overwrite":
        yield made("slime " + how, lambda: peers.slime(old, new, n, how), lambda d: peers.slime_apply(old, d[0], how),
                   lambda d: len(d[0]) + len(d[1]))
    pulse, seconds = timed(peers.pulse_v3, old, new, n)
    if prove and not peers.same(peers.pulse_apply(old, pulse[0]), new):
        raise SystemExit("PULSEPT1 v3 does not give the step back: no figure is worth anything")
    yield "PULSEPT1 v3", len(pulse[0]), seconds
    yield "PULSEPT1 v3, payload alone", len(pulse[1]), None
    yield "floor: order 0 given the old exponent", int(peers.floor_delta(old, new)), None


def compare_one(steps, ours, n, slow):
    """Every way to ship step n."""
    changed, mine = ours[n]["changed_bytes"] // 2, ours[n]["travel"]
    rows = [["weightfs, all that travels", mine, mine / changed, 1.0, ours[n]["seconds"], ""]]
    for name, size, seconds, why in tools(steps[n - 1], steps[n], slow):
        rows.append([name, size, size and size / changed, size and mine / size, seconds, why])
    if peers:
        old, new = peers.tensors(steps[n - 1]), peers.tensors(steps[n])
        for name, size, seconds in formats(old, new, n, True):
            rows.append([name, size, size / changed, mine / size, seconds, ""])
    else:
        rows.append(["other formats", None, None, None, None, WHY])
    table("Step %d to %d, %d elements changed" % (n - 1, n, changed),
          ["way", "bytes", "B/changed", "ours/it", "seconds", ""], rows)


def compare_all(steps, ours, first):
    """Means over steps `first` to the last."""
    sums = {}
    new = peers.tensors(steps[first - 1])
    for n in range(first, len(steps)):
        old, new = new, peers.tensors(steps[n])
        for name, size, _ in formats(old, new, n, False):
            sums[name] = sums.get(name, 0) + size
    mine = sum(r["travel"] for r in ours[first:])
    changed = sum(r["changed_bytes"] // 2 for r in ours[first:])
    count = len(steps) - first
    table("Steps %d to %d, means" % (first, len(steps) - 1), ["way", "bytes", "B/changed", "ours/it"],
          [["weightfs, all that travels", mine // count, mine / changed, 1.0]] +
          [[k, v // count, v / changed, mine / v] for k, v in sums.items()])
    FIGURES["means"] = {k: v / count for k, v in sums.items()}
    return {k: mine / v for k, v in sums.items()}


# ---- further questions

def first_download(steps, aims):
    packed, plain = publish("packed", steps[0]), publish("plain", steps[0], "--anchor", "plain")
    drop("packed")
    drop("plain")
    floor = peers.floor_full(peers.tensors(steps[0])) / sum(map(os.path.getsize, shards(steps[0]))) if peers else None
    table("First download", ["way", "bytes", "of the files", "seconds"],
          [["packed", packed["travel"], packed["travel"] / packed["size"], packed["seconds"]],
           ["plain", plain["travel"], plain["travel"] / plain["size"], plain["seconds"]],
           ["floor: order 0 of exponents and of the rest", None, floor, None]])
    aims.append(("packed anchor against plain bf16", packed["travel"] / packed["size"], 0.67))


def dense(steps, directory, aims):
    if not os.path.isdir(directory):
        return print("\nno %s: dense changes are not measured" % directory)
    publish("dense", steps[0])
    r = publish("dense", directory)
    drop("dense")
    floor = None
    if peers:
        old, new = peers.tensors(steps[0]), peers.tensors(directory)
        floor = peers.floor_delta(old, new) / r["size"]
    table("Dense change: %.0f %% of the elements" % (100 * r["changed_bytes"] / r["size"]), ["way", "bytes", "of the files", "seconds"],
          [["weightfs, all that travels", r["travel"], r["travel"] / r["size"], r["seconds"]],
           ["floor: order 0 given the old exponent", None, floor, None]])
    aims.append(("dense change against the plain files", r["travel"] / r["size"], 0.18))


def stride(steps, ours, aims):
    if len(steps) < 13:
        return
    publish("stride", steps[4])
    r = publish("stride", steps[12])
    drop("stride")
    singles = sum(s["travel"] for s in ours[5:13])
    rows = [["weightfs, one delta", r["travel"], r["travel"] / singles], ["weightfs, 8 deltas", singles, 1.0]]
    if peers:
        t = [peers.tensors(d) for d in steps[4:13]]
        floors = sum(peers.floor_delta(a, b) for a, b in zip(t, t[1:]))
        rows.append(["floor, of one delta against 8", int(peers.floor_delta(t[0], t[8])), peers.floor_delta(t[0], t[8]) / floors])
    table("Step 4 to 12 at once", ["way", "bytes", "of the 8"], rows)
    s = r["travel"] / singles
    aims.append(("step 4 to step 12 at once against the 8 single deltas", s, 0.58))
    # From any version to the one 32 later: 1 time in 8 both are multiples of 8 and it takes 4 strides, else 8 single steps
    # and 3 strides; a stride costs 8 s single steps.  PULSE measures s = 0.2 in long runs (8 steps of a 7B model).
    table("32 versions behind with strides at multiples of 8, of 32 single deltas: (7 + 3.125 * 8 s) / 32",
          ["stride against its 8 single deltas", "planned"], [["s = %.3f, as here" % s, (7 + 25 * s) / 32],
                                                            ["s = 0.2, long runs", (7 + 25 * 0.2) / 32]])


def behind(steps):
    """A chain of 48: the real steps, then the changes of each again on top of what is there, which is made up."""
    base, store, now = [peers.tensors(d) for d in steps], "behind", path("chain")
    shutil.copytree(steps[0], now)
    current = {k: v.copy() for k, v in base[0].items()}
    for n in range(48):
        if n:
            a, b = base[(n - 1) % 12], base[(n - 1) % 12 + 1]
            for name in current:
                current[name] += b[name] - a[name]
            peers.overwrite(now, current)
        publish(store, now, "--anchor-limit", "100")
    rows = []
    for want in 40, 44, 47, 48:
        p = json.loads(run("weightsync", "plan", "--json", "--have", str(want - 32), "--want", str(want), path(store)))
        rows.append(["%d to %d" % (want - 32, want), p["bytes"], p["replay"], p["bytes"] / p["replay"], p["versions"]["objects"]])
    drop(store)
    shutil.rmtree(now)
    table("32 versions behind, planned (version objects included) against replayed; 12 real steps, repeated", ["from", "planned", "replayed",
          "planned/replayed", "version objects read"], rows)
    FIGURES["behind"] = rows


def speed(steps, dense_dir):
    """One thread, files in memory, GB/s of the model's bytes: the best of three rounds."""
    tool = os.path.join(os.path.dirname(shutil.which("weightsync")), "tests", "tool-blocks")
    if not os.path.exists(tool):
        return print("\nno %s: speed is not measured" % tool)
    rows = []
    for what, new, old in (("in full", steps[0], None), ("one step", steps[-1], steps[-2]), ("dense", dense_dir, steps[0])):
        if not os.path.isdir(new):
            continue
        shard = shards(new)[0]
        words = [tool, shard] + ([os.path.join(old, os.path.basename(shard))] if old else [])
        size, stored, encode, decode = run(*words).split()
        rows.append([what, int(stored) / int(size), float(encode), float(decode)])
    table("Blocks of one shard, one thread, GB/s of model bytes", ["change", "stored", "encode", "decode"], rows)
    FIGURES["speed"] = rows


def judge(aims):
    rows = []
    for what, got, aim in aims:
        rows.append([what, got, aim, "not measured" if got is None else "met" if got <= aim else "missed"])
    table("Aims", ["what", "measured", "aim", ""], rows)
    FIGURES["aims"] = rows


def main():
    p = argparse.ArgumentParser(prog="bytes", add_help=False)
    p.add_argument("--step", type=int, default=9)
    p.add_argument("--json")
    p.add_argument("--no-tools", action="store_true")
    p.add_argument("--behind", action="store_true")
    p.add_argument("checkpoints")
    a = p.parse_args()
    steps = [os.path.join(a.checkpoints, d) for d in sorted(os.listdir(a.checkpoints)) if d.startswith("step")]
    if len(steps) < 2:
        raise SystemExit(a.checkpoints + " does not hold two directories step*")
    n, first, aims = min(a.step, len(steps) - 1), min(3, len(steps) - 1), []
    ours = our_steps(steps)
    compare_one(steps, ours, n, not a.no_tools)
    ratios = compare_all(steps, ours, first) if peers else {}
    aims.append(("what travels against PULSEPT1 v3, mean of steps %d to %d" % (first, len(steps) - 1), ratios.get("PULSEPT1 v3"), 0.82))
    aims.append(("the same, against its payload alone", ratios.get("PULSEPT1 v3, payload alone"), 0.82))
    aims.append(("against slime xor", ratios.get("slime xor"), 0.33))
    aims.append(("against TRL v1", ratios.get("TRL v1"), 0.145))
    stride(steps, ours, aims)
    if peers and a.behind and len(steps) > 12:
        behind(steps)
    first_download(steps, aims)
    dense(steps, os.path.join(a.checkpoints, "dense"), aims)
    speed(steps, os.path.join(a.checkpoints, "dense"))
    aims.append(("tables, version, commit: share of the last step", 1 - ours[-1]["stored"] / ours[-1]["travel"], 0.02))
    judge(aims)
    if a.json:
        with open(a.json, "w") as f:
            json.dump(FIGURES, f, indent=1)


main()
