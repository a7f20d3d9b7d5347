#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# publish-shapes.sh - every element type; publishers at the same time
. "$(dirname "$0")/suite.sh"
set -u

S=$TMPDIR/store D=$TMPDIR/model
# shape DIR SPEC: Python that returns {file: [(tensor, dtype, shape, bytes)]}
shape()
{
	python3 - "$1" "$TESTS" "$2" <<-'PY'
	import os, random, sys
	directory, tests, spec = sys.argv[1:]
	sys.path.insert(0, tests)
	sys.dont_write_bytecode = True
	import mkmodel
	def data(seed, n): return random.Random(seed).randbytes(n)
	def bf16(seed, n): return mkmodel.weights(random.Random(seed), n)
	os.makedirs(directory, exist_ok=True)
	for name in os.listdir(directory): os.remove(os.path.join(directory, name))
	for name, tensors in eval(spec).items():
	    head = mkmodel.header_bytes([(t, d, s, len(b)) for t, d, s, b in tensors])
	    mkmodel.write(os.path.join(directory, name), head + b"".join(b for _, _, _, b in tensors))
	PY
}

publish() { weightsync publish "$D" "$S" --cache "$TMPDIR/pc" --quiet --json; }
fresh() { rm -rf "$S" "$D" "$TMPDIR/pc"; mkdir -p "$D"; }
# Publish, pull, compare; the last result stays in $TMPDIR/result.
round_trip()
{
	publish >"$TMPDIR/result"
	rm -rf "$TMPDIR/out"
	weightsync pull "$S" "$TMPDIR/out" --quiet >/dev/null
	diff -r "$D" "$TMPDIR/out"
}
travel() { jq .travel "$TMPDIR/result"; }
A="('a', 'BF16', [1500000], bf16(1, 1500000))"

test_every_type()
{
	local t

	for t in BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0 I16 U16 F16 BF16 I32 U32 F32 I64 U64 F64 C64; do
		echo "('$t', '$t', [80000], data(hash('$t') & 255, 80000 * {'BOOL':1,'U8':1,'I8':1,'F8_E4M3':1,'F8_E5M2':1,'F8_E8M0':1,'I16':2,'U16':2,'F16':2,'BF16':2,'I32':4,'U32':4,'F32':4}.get('$t', 8))),"
	done >"$TMPDIR/types"
	fresh
	shape "$D" "{'t.safetensors': [$(cat "$TMPDIR/types") ('F4', 'F4', [9, 2], data(1, 9)), ('scalar', 'F32', [], data(2, 4)), ('none', 'BF16', [0, 7], b'')]}"
	round_trip
	python3 - "$D/t.safetensors" <<-'PY'
	import random, sys
	r = random.Random(5)
	d = bytearray(open(sys.argv[1], "rb").read())
	start = 8 + int.from_bytes(d[:8], "little")
	for _ in range(len(d) // 100): d[r.randrange(start, len(d))] ^= 1 << r.randrange(8)
	open(sys.argv[1], "wb").write(d)
	PY
	round_trip
	[ "$(travel)" -lt 400000 ]
}

test_two_publishers()
{
	local i ok=0 pids=()

	fresh
	shape "$D" "{'model.safetensors': [$A]}"
	for i in 1 2 3 4; do
		weightsync publish "$D" "$S" --cache "$TMPDIR/pc$i" --allow-empty --quiet >/dev/null 2>"$TMPDIR/err$i" &
		pids+=($!)
	done
	for i in 1 2 3 4; do
		if wait "${pids[$((i - 1))]}"; then
			ok=$((ok + 1))
		else
			grep -q "publish" "$TMPDIR/err$i"
		fi
	done
	[ $ok -ge 1 ]
	[ "$(weightsync log "$S" --json | wc -l)" = $ok ]
	weightsync verify "$S" --quiet
}

for t in every_type two_publishers; do
	run "test_$t"
done
finish
