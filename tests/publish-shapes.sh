#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# publish-shapes.sh - what a model directory may become, and which are refused
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

publish() { weightsync publish "$D" "$S" --cache "$TMPDIR/pc" --quiet --json "$@"; }
fresh() { rm -rf "$S" "$D" "$TMPDIR/pc"; mkdir -p "$D"; }
# Publish, pull, compare; the last result stays in $TMPDIR/result.
round_trip()
{
	publish "$@" >"$TMPDIR/result"
	rm -rf "$TMPDIR/out"
	weightsync pull "$S" "$TMPDIR/out" --quiet >/dev/null
	diff -r "$D" "$TMPDIR/out"
}
travel() { jq .travel "$TMPDIR/result"; }
refused()
{
	local words=$1

	shift
	if publish "$@" >/dev/null 2>"$TMPDIR/err"; then fail "was published"; fi
	grep -q -- "$words" "$TMPDIR/err" || fail "not said: $words; said: $(cat "$TMPDIR/err")"
	[ "$(wc -l <"$TMPDIR/err")" = 1 ]
}

A="('a', 'BF16', [1500000], bf16(1, 1500000))"
B="('b', 'BF16', [700000], bf16(2, 700000))"
F="('f', 'F32', [300001], data(3, 1200004))"

test_tensors_come_go_move_and_change_shape()
{
	fresh
	shape "$D" "{'x.safetensors': [$A, $B]}"
	round_trip
	shape "$D" "{'x.safetensors': [$F, $A, $B]}"	# added in front: everything moves
	round_trip
	[ "$(travel)" -lt 1400000 ]
	shape "$D" "{'x.safetensors': [$A], 'y.safetensors': [$B, $F]}"	# moved to another shard
	round_trip
	[ "$(travel)" -lt 10000 ]
	shape "$D" "{'y.safetensors': [$B], 'x.safetensors': [('a', 'BF16', [1500, 1000], bf16(1, 1500000))]}"
	round_trip			# removed, reshaped
	[ "$(travel)" -lt 10000 ]
	shape "$D" "{'x.safetensors': [('a', 'F16', [1500000], bf16(1, 1500000))]}"	# another type
	round_trip
	weightsync verify "$S" --quiet
}

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

test_other_files_are_content_too()
{
	fresh
	shape "$D" "{'model.safetensors': [$B]}"
	head -c 3000000 /dev/urandom >"$D/model.gguf"
	mkdir -p "$D/sub/deep"
	echo text >"$D/sub/deep/notes.txt"
	: >"$D/empty"
	round_trip
	printf x | dd of="$D/model.gguf" bs=1 seek=1234567 conv=notrunc status=none
	echo more >>"$D/sub/deep/notes.txt"
	round_trip
	[ "$(travel)" -lt 10000 ]
	head -c 100000 /dev/urandom >>"$D/model.gguf"	# longer
	round_trip
	head -c 1500000 "$D/model.gguf" >"$D/g" && mv "$D/g" "$D/model.gguf"	# shorter
	round_trip
}

test_snapshot_of_symlinks()
{
	fresh
	mkdir -p "$TMPDIR/blobs" "$TMPDIR/snap"
	shape "$TMPDIR/blobs" "{'abc': [$B]}"
	ln -sf ../blobs/abc "$TMPDIR/snap/model.safetensors"
	weightsync publish "$TMPDIR/snap" "$S" --cache "$TMPDIR/pc" --quiet >/dev/null
	rm -rf "$TMPDIR/out"
	weightsync pull "$S" "$TMPDIR/out" --quiet >/dev/null
	cmp "$TMPDIR/blobs/abc" "$TMPDIR/out/model.safetensors"
}

test_left_out_by_default()
{
	fresh
	shape "$D" "{'model.safetensors': [$B]}"
	touch "$D/optimizer.pt" "$D/rng_state_0.pth" "$D/.hidden" "$D/x.tmp" "$D/scheduler.pt"
	echo hi >"$D/README.md"
	publish >/dev/null
	[ "$(weightsync show "$S" --json | jq -c '[.files[].path]')" = '["README.md","model.safetensors"]' ]
	publish --include optimizer.pt --exclude README.md >/dev/null
	[ "$(weightsync show "$S" --json | jq -c '[.files[].path]')" = '["model.safetensors","optimizer.pt"]' ]
}

test_unchanged_makes_no_version()
{
	fresh
	shape "$D" "{'model.safetensors': [$B]}"
	publish >/dev/null
	touch "$D/model.safetensors"
	[ "$(publish | jq -c '[.unchanged, .sequence]')" = '[true,1]' ]
	[ ! -e "$S/commits/2" ]
	[ "$(publish --allow-empty | jq -c '[.unchanged, .sequence]')" = '[false,2]' ]
}

test_without_a_cache_and_with_previous()
{
	fresh
	shape "$D" "{'model.safetensors': [$A]}"
	publish >/dev/null
	cp -r "$D" "$TMPDIR/previous"
	shape "$D" "{'model.safetensors': [$A, $B]}"
	rm -rf "$TMPDIR/pc"		# built again from the store
	round_trip
	[ "$(travel)" -lt 1500000 ]
	rm -rf "$TMPDIR/pc" "$TMPDIR/previous"
	cp -r "$D" "$TMPDIR/previous"
	shape "$D" "{'model.safetensors': [$B, $A]}"
	round_trip --previous "$TMPDIR/previous"
	[ "$(travel)" -lt 10000 ]
	printf '\377' | dd of="$TMPDIR/previous/model.safetensors" bs=1 seek=2000000 conv=notrunc status=none
	shape "$D" "{'model.safetensors': [$A]}"
	rm -rf "$TMPDIR/pc"
	round_trip --previous "$TMPDIR/previous"	# a wrong --previous costs bytes, never correctness
}

test_anchor_when_deltas_grow()
{
	local i

	fresh
	shape "$D" "{'model.safetensors': [$A]}"
	publish >/dev/null
	for i in 2 3 4 5; do
		shape "$D" "{'model.safetensors': [('a', 'BF16', [1500000], bf16(1, 1000000) + data($i, 1000000))]}"
		round_trip
	done
	weightsync show "$S" --json | jq -e '.files[0].anchor' >/dev/null ||
		weightsync show "$S" 4 --json | jq -e '.files[0].anchor' >/dev/null
	round_trip --full --allow-empty
	weightsync verify "$S" --quiet
}

test_refused_directories()
{
	fresh
	shape "$D" "{'model.safetensors': [$B]}"
	publish >/dev/null
	truncate -s 1000000 "$D/model.safetensors"
	refused "still being written"
	: >"$D/model.safetensors"
	refused "still being written"
	shape "$D" "{'model-1.safetensors': [$B]}"
	echo '{"metadata":{},"weight_map":{"b":"model-1.safetensors","c":"model-2.safetensors"}}' >"$D/model.safetensors.index.json"
	refused "model-2.safetensors"
	echo '{"metadata":{},"weight_map":{"c":"model-1.safetensors"}}' >"$D/model.safetensors.index.json"
	refused "tensor c"
	echo '{"metadata":{},"weight_map":{"b":"../model-1.safetensors"}}' >"$D/model.safetensors.index.json"
	refused "leaves the directory"
	rm "$D/model.safetensors.index.json"
	mkfifo "$D/pipe"
	refused "pipe"
	rm "$D/pipe"
	: >"$D/$(printf 'a\\b')"
	refused "a"
	[ ! -e "$S/commits/2" ]
}

# The directory changes while it is read: strace holds the publisher at its first pack.
test_change_while_publishing()
{
	local pid status

	fresh
	shape "$D" "{'model.safetensors': [$A]}"
	publish >/dev/null
	shape "$D" "{'model.safetensors': [$A, $B]}"
	ASAN_OPTIONS=detect_leaks=0 strace -f -o "$TMPDIR/trace" -e trace=renameat \
		-e inject=renameat:delay_enter=1500000:when=1 weightsync publish "$D" "$S" --cache "$TMPDIR/pc" --quiet \
		>/dev/null 2>"$TMPDIR/err" &
	pid=$!
	until_true 20 grep -qs renameat "$TMPDIR/trace"
	touch "$D/model.safetensors"
	status=0
	wait $pid || status=$?
	[ $status = 1 ]
	grep -q "changed while" "$TMPDIR/err"
	[ ! -e "$S/commits/2" ]
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

test_verify_finds_a_flipped_bit_anywhere()
{
	local f n=0

	fresh
	shape "$D" "{'model.safetensors': [$B]}"
	publish >/dev/null
	shape "$D" "{'model.safetensors': [('b', 'BF16', [700000], bf16(2, 699000) + bf16(4, 1000))]}"
	publish >/dev/null
	weightsync verify "$S" --quiet
	while read -r f; do
		cp "$f" "$TMPDIR/keep"
		python3 - "$f" <<-'PY'
		import os, sys
		n = os.path.getsize(sys.argv[1]) // 2
		with open(sys.argv[1], "r+b") as f:
		    f.seek(n); b = f.read(1)[0]; f.seek(n); f.write(bytes([b ^ 1]))
		PY
		if weightsync verify "$S" --quiet >/dev/null 2>"$TMPDIR/err"; then fail "not found in $f"; fi
		cp "$TMPDIR/keep" "$f"
		n=$((n + 1))
	done < <(find "$S/versions" "$S/tables" "$S/packs" "$S/layouts" -type f)
	[ $n -ge 7 ]
	weightsync verify "$S" --quiet
}

test_usage()
{
	local words

	for words in "" "nonsense" "publish" "publish --colour x y" "log" "show $S zero" "pull $S" "verify"; do
		# shellcheck disable=SC2086
		weightsync $words >/dev/null 2>"$TMPDIR/err" && fail "accepted: $words"
		# shellcheck disable=SC2086
		weightsync $words >/dev/null 2>&1 || [ $? = 2 ]
		[ "$(wc -l <"$TMPDIR/err")" = 1 ]
	done
	weightsync log "$TMPDIR/nowhere" 2>/dev/null && fail "a missing store was read"
	mkdir -p "$TMPDIR/void"
	weightsync log "$TMPDIR/void" 2>/dev/null || [ $? = 3 ]
}

for t in ${ONLY:-tensors_come_go_move_and_change_shape every_type other_files_are_content_too snapshot_of_symlinks \
	 left_out_by_default unchanged_makes_no_version without_a_cache_and_with_previous anchor_when_deltas_grow \
	 refused_directories change_while_publishing two_publishers verify_finds_a_flipped_bit_anywhere usage}; do
	run "test_$t"
done
finish
