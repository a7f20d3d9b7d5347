#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# publish-steps.sh - every way a model directory may change from one version to the next
#
# The oracle is the directory: what pull writes is compared with it byte for byte, and the store verifies.
. "$(dirname "$0")/suite.sh"

export XDG_CACHE_HOME=$TMPDIR/cache
models=$TMPDIR/models
mkmodel() { python3 "$TESTS/mkmodel.py" "$@"; }
mkmodel make "$models/a" --mib 6 --shards 3 --tensors 12
mkmodel step "$models/a" "$models/b" --seed 2

# A safetensors file from NAME:DTYPE:SHAPE:SEED words; the same seed gives the same bytes.
shard()				# FILE TENSOR...
{
	python3 - "$@" <<'PY'
import json, random, struct, sys
bits = {"BF16": 16, "F32": 32, "U8": 8, "F8_E4M3": 8, "I64": 64, "F4": 4}
head, data = {}, b""
for word in sys.argv[2:]:
    name, dtype, shape, seed = word.split(":")
    dims = [int(d) for d in shape.split("x")] if shape else []
    n = 1
    for d in dims:
        n *= d
    more = random.Random(seed).randbytes(n * bits[dtype] // 8)
    head[name] = {"dtype": dtype, "shape": dims, "data_offsets": [len(data), len(data) + len(more)]}
    data += more
text = json.dumps(head).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
PY
}

publish() { weightsync publish --quiet "$@"; }
publish_json() { weightsync publish --quiet --json "$@"; }

# The newest version is DIR, and the store is sound.
is_newest()			# STORE DIR
{
	rm -rf "$1.pulled"
	weightsync pull --quiet "$1" "$1.pulled" >/dev/null
	diff -r "$1.pulled" "$2" || fail "pull differs from $2"
	weightsync verify --quiet "$1" >/dev/null
}

# Two versions of DIR.1 and DIR.2; prints what the second one's publish said.
two_steps()			# NAME
{
	publish "$TMPDIR/$1.1" "$TMPDIR/$1.store" >/dev/null
	is_newest "$TMPDIR/$1.store" "$TMPDIR/$1.1"
	publish_json "$TMPDIR/$1.2" "$TMPDIR/$1.store"
	is_newest "$TMPDIR/$1.store" "$TMPDIR/$1.2"
}

test_second_version_is_small()
{
	local s=$TMPDIR/second.store travel

	publish "$models/a" "$s" >/dev/null
	travel=$(publish_json "$models/b" "$s" | jq .travel)
	is_newest "$s" "$models/b"
	[ "$travel" -gt 20000 ] && [ "$travel" -lt 400000 ] || fail "$travel bytes travel for 1 % of 6 MiB"
	[ "$(weightsync log --json "$s" | tail -n 1 | jq .travel)" = "$travel" ] || fail "log says otherwise"
	weightsync pull --quiet "$s" "$s.first" --version 1 >/dev/null
	diff -r "$s.first" "$models/a"
}

test_unchanged_makes_no_version()
{
	local s=$TMPDIR/same.store

	publish "$models/a" "$s" >/dev/null
	find "$s" -type f | sort >"$TMPDIR/before"
	[ "$(publish_json "$models/a" "$s" --label other | jq -c '[.unchanged,.sequence]')" = "[true,1]" ]
	find "$s" -type f | sort | diff "$TMPDIR/before" - || fail "the store changed"
	[ "$(publish_json "$models/a" "$s" --allow-empty | jq -c '[.unchanged,.sequence]')" = "[false,2]" ]
	is_newest "$s" "$models/a"
}

test_previous_serves_as_base()
{
	local s=$TMPDIR/previous.store

	publish "$models/a" "$s" --cache "$s.c1" >/dev/null
	publish "$models/b" "$s" --cache "$s.c2" --previous "$models/a" >/dev/null
	is_newest "$s" "$models/b"
	mkmodel step "$models/b" "$TMPDIR/previous.3" --seed 3
	# Not the last version: found out block by block, the store's own bytes are taken.
	publish "$TMPDIR/previous.3" "$s" --cache "$s.c3" --previous "$models/a" >/dev/null
	is_newest "$s" "$TMPDIR/previous.3"
}

test_cache_may_be_lost()
{
	local s=$TMPDIR/lost.store

	publish "$models/a" "$s" --cache "$s.c" >/dev/null
	rm -rf "$s.c"
	publish "$models/b" "$s" --cache "$s.c" >/dev/null
	is_newest "$s" "$models/b"
}

test_tensors_come_go_move_and_change()
{
	local d=$TMPDIR/tensors big=BF16:300x1000 travel

	mkdir "$d.1" "$d.2"
	shard "$d.1/x.safetensors" a:$big:1 b:$big:2 c:$big:3 gone:$big:4 odd:U8:12345:5
	shard "$d.1/y.safetensors" d:$big:6 e:F32:100x100:7
	# c moved to the other shard behind an odd length, a was reshaped, e is f8 now, new is new
	shard "$d.2/x.safetensors" new:U8:777:9 b:$big:2 a:BF16:1000x300:1
	shard "$d.2/y.safetensors" d:$big:6 odd:U8:12345:5 c:$big:3 e:F8_E4M3:200x200:8 scalar:I64::1 empty:F32:0x5:1
	travel=$(two_steps tensors | jq .travel)
	[ "$travel" -lt 80000 ] || fail "$travel bytes travel, though only 40 KB are new"
}

test_a_tensor_renamed_is_whole()
{
	local d=$TMPDIR/renamed

	mkdir "$d.1" "$d.2"
	shard "$d.1/model.safetensors" a:BF16:300000:1 b:BF16:300000:2
	shard "$d.2/model.safetensors" a:BF16:300000:1 c:BF16:300000:2
	two_steps renamed >/dev/null
}

test_a_shard_renamed_is_found_by_its_tensors()
{
	local d=$TMPDIR/resharded travel

	mkdir "$d.1" "$d.2"
	shard "$d.1/model.safetensors" a:BF16:500000:1 b:BF16:500000:2
	shard "$d.2/model-00001-of-00002.safetensors" a:BF16:500000:1
	shard "$d.2/model-00002-of-00002.safetensors" b:BF16:500000:2
	travel=$(two_steps resharded | jq .travel)
	[ "$travel" -lt 20000 ] || fail "$travel bytes travel for two moved tensors"
}

test_other_large_files_have_deltas()
{
	local d=$TMPDIR/gguf travel

	mkdir "$d.1" "$d.2"
	head -c 3000000 /dev/urandom >"$d.1/model.gguf"
	{ head -c 1500000 "$d.1/model.gguf"; printf 'changed'; tail -c +1500008 "$d.1/model.gguf"; head -c 999 /dev/urandom; } >"$d.2/model.gguf"
	: >"$d.1/empty"; : >"$d.2/empty"
	head -c 1048576 /dev/urandom >"$d.1/just-small"; cp "$d.1/just-small" "$d.2/"
	head -c 1048577 /dev/urandom >"$d.1/just-large"; cp "$d.1/just-large" "$d.2/"
	travel=$(two_steps gguf | jq .travel)
	[ "$travel" -lt 10000 ] || fail "$travel bytes travel"
}

# From whole to blocks and back.
test_a_file_grows_and_shrinks()
{
	local d=$TMPDIR/grows

	mkdir "$d.1" "$d.2"
	head -c 100 /dev/urandom >"$d.1/f"; head -c 5000000 /dev/urandom >"$d.1/g"
	head -c 5000000 /dev/urandom >"$d.2/f"; head -c 100 /dev/urandom >"$d.2/g"
	two_steps grows >/dev/null
}

test_snapshot_of_links_and_what_is_left_out()
{
	local hub=$TMPDIR/hub snap f

	mkdir -p "$hub/blobs" "$hub/snapshots/1/sub/global_step9" "$hub/snapshots/1/.git"
	snap=$hub/snapshots/1
	cp "$models/a/model-00001-of-00003.safetensors" "$hub/blobs/model.safetensors"
	cp "$models/a/config.json" "$hub/blobs/config.json"
	for f in model.safetensors config.json; do
		ln -s "../../blobs/$f" "$snap/$f"
	done
	echo '{}' >"$snap/sub/adapter.json"
	mkdir "$TMPDIR/hub.want"
	cp -rL "$snap/model.safetensors" "$snap/config.json" "$snap/sub" "$TMPDIR/hub.want"
	rmdir "$TMPDIR/hub.want/sub/global_step9"
	for f in optimizer.pt scheduler.pt rng_state_0.pth .hidden x.tmp x.lock x.partial sub/global_step9/state .git/HEAD; do
		echo no >"$snap/$f"
	done
	publish "$snap" "$hub.store" >/dev/null
	is_newest "$hub.store" "$TMPDIR/hub.want"
	publish "$snap" "$hub.store" --include optimizer.pt --exclude '*.json' >/dev/null
	[ "$(ls -A "$hub.store.pulled")" ] && weightsync show --json "$hub.store" >"$TMPDIR/show.json"
	grep -q optimizer.pt "$TMPDIR/show.json" && ! grep -q config.json "$TMPDIR/show.json"
}

test_many_files()
{
	local d=$TMPDIR/many

	mkdir "$d"
	(cd "$d" && for i in $(seq 3000); do echo "$i" >"f$i"; done)
	(ulimit -Sn 256; publish "$d" "$d.store" >/dev/null)
	is_newest "$d.store" "$d"
}

test_full_and_long_chains_get_anchors()
{
	local s=$TMPDIR/chain.store i

	mkmodel make "$TMPDIR/chain.0" --mib 1 --shards 1 --tensors 2
	publish "$TMPDIR/chain.0" "$s" >/dev/null
	for i in 1 2 3 4 5 6 7 8 9; do
		mkmodel step "$TMPDIR/chain.$((i - 1))" "$TMPDIR/chain.$i" --percent 20 --seed "$i"
		publish_json "$TMPDIR/chain.$i" "$s" | jq .anchor >>"$TMPDIR/chain.anchors"
	done
	is_newest "$s" "$TMPDIR/chain.9"
	grep -q true "$TMPDIR/chain.anchors" || fail "no anchor in nine steps of 20 %"
	[ "$(head -n 1 "$TMPDIR/chain.anchors")" = false ] || fail "an anchor at the first delta"
	mkmodel step "$TMPDIR/chain.9" "$TMPDIR/chain.10" --percent 0.1 --seed 10
	[ "$(publish_json "$TMPDIR/chain.10" "$s" --full | jq .anchor)" = true ]
	is_newest "$s" "$TMPDIR/chain.10"
}

test_pull_onto_an_older_one_and_onto_a_file()
{
	local s=$TMPDIR/pull.store

	publish "$models/a" "$s" >/dev/null
	weightsync pull --quiet "$s" "$TMPDIR/pull.dir"
	echo stale >"$TMPDIR/pull.dir/stale"
	publish "$models/b" "$s" >/dev/null
	weightsync pull --quiet "$s" "$TMPDIR/pull.dir"
	diff -r "$TMPDIR/pull.dir" "$models/b"
	[ -z "$(find "$TMPDIR" -maxdepth 1 -name '.pull*')" ] || fail "something is left beside it"
	# a directory that is no model is not replaced
	mkdir "$TMPDIR/pull.home"
	echo precious >"$TMPDIR/pull.home/diary"
	! weightsync pull --quiet "$s" "$TMPDIR/pull.home" 2>"$TMPDIR/pull.err" || fail "a foreign directory was replaced"
	grep -q 'holds diary' "$TMPDIR/pull.err"
	[ "$(cat "$TMPDIR/pull.home/diary")" = precious ]
	mkdir "$TMPDIR/pull.dir/notes"
	! weightsync pull --quiet "$s" "$TMPDIR/pull.dir" 2>/dev/null || fail "a foreign directory was deleted"
	[ -d "$TMPDIR/pull.dir/notes" ]
	[ -z "$(find "$TMPDIR" -maxdepth 1 -name '.pull*')" ] || fail "something is left beside it"
	echo text >"$TMPDIR/pull.file"
	! weightsync pull --quiet "$s" "$TMPDIR/pull.file" 2>/dev/null || fail "a file was replaced"
	[ "$(cat "$TMPDIR/pull.file")" = text ]
}

# A version that lacks a directory of the last one takes it away, unless somebody put something there.
test_pull_onto_one_with_more_directories()
{
	local s=$TMPDIR/dirs.store d=$TMPDIR/dirs

	cp -a "$models/a" "$d.1"
	mkdir -p "$d.1/tokenizer/words"
	echo one >"$d.1/tokenizer/vocab.json"
	echo two >"$d.1/tokenizer/words/more.json"
	publish "$d.1" "$s" >/dev/null
	publish "$models/b" "$s" >/dev/null
	for change in none "echo mine >tokenizer/words/notes" "echo changed >tokenizer/vocab.json" "mkdir tokenizer/empty" \
		"ln -s vocab.json tokenizer/link"; do
		rm -rf "$d.pulled"
		weightsync pull --quiet "$s" "$d.pulled" --version 1
		diff -r "$d.pulled" "$d.1"
		if [ "$change" = none ]; then
			weightsync pull --quiet "$s" "$d.pulled" || fail "a directory of version 1"
			diff -r "$d.pulled" "$models/b"
			continue
		fi
		(cd "$d.pulled" && eval "$change")
		cp -a "$d.pulled" "$d.before"
		! weightsync pull --quiet "$s" "$d.pulled" 2>"$TMPDIR/pull.err" || fail "gone in spite of: $change"
		grep -q 'holds tokenizer' "$TMPDIR/pull.err"
		diff -r --no-dereference "$d.pulled" "$d.before"
		rm -rf "$d.before"
	done
	[ -z "$(find "$TMPDIR" -maxdepth 1 -name '.dirs*')" ] || fail "something is left beside it"
}

for t in $(declare -F | sed -n 's/^declare -f \(test_\)/\1/p'); do
	run "$t"
done
finish
