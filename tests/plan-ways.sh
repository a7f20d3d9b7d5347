#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# plan-ways.sh - strides, and the shortest way to the newest version
#
# timeout: 900
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/servers.sh"

CK=$TMPDIR/ck S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache P=$TMPDIR/pc
LAST=53
mkdir -p "$CK" "$M"
mkmodel() { python3 "$TESTS/mkmodel.py" "$@"; }
publish() { weightsync publish --quiet --json --cache "$P" "$@"; }
plan() { weightsync plan --json "$@"; }
complete() { weightfs status "$M" --json | jq -e ".versions[] | select(.sequence == $1) | .complete" >/dev/null; }
received() { weightfs status "$M" --json | jq .bytes_received; }

# One run for all: the store and a reader's cache as they were at version 3, and the store at the last.
mkmodel make "$CK/1" --mib 2 --shards 2 --tensors 4
for i in $(seq 2 $LAST); do
	mkmodel step "$CK/$((i - 1))" "$CK/$i" --seed "$i" --percent 1
done
for i in $(seq 1 $LAST); do
	publish "$CK/$i" "$S" | jq -c '[.sequence,.travel,.strides,.store_growth]' >>"$TMPDIR/published"
	if [ "$i" = 3 ]; then
		weightfs mount "$S" "$M" -o "cache=$C"
		until_true 60 complete 3
		weightfs unmount "$M"
		cp -a "$S" "$S.3"
		weightsync pull --quiet "$S" "$TMPDIR/pulled.3" >/dev/null
	fi
done

near()				# WHAT IS WANTED SLACK
{
	[ "$2" -ge $(($3 - $4)) ] && [ "$2" -le $(($3 + $4)) ] || fail "$1: $2, not $3"
}

test_strides_at_multiples_only()
{
	local want got

	want=$(seq 16 8 $LAST | tr '\n' ' ')
	got=$(jq -r 'select(.[2] > 0) | .[0]' "$TMPDIR/published" | tr '\n' ' ')
	[ "$want" = "$got" ] || fail "strides at $got"
	weightsync show --json "$S" 16 | jq -e '[.files[] | select(.table) | .strides[0].back] == [8,8]' >/dev/null
	weightsync verify --quiet "$S" >/dev/null
}

# The publisher keeps one image and the undo lists.
test_publisher_keeps_one_image()
{
	[ "$(ls "$P/images" | wc -l)" = 2 ]	# of two shards
	[ "$(ls "$P/undo" | wc -l)" -le 28 ]
	[ "$(du -s "$P" | cut -f1)" -lt 4096 ] || fail "$(du -s "$P")"
}

test_the_plan_is_shorter_than_replaying()
{
	plan "$S" --have 3 >"$TMPDIR/plan"
	jq -e '.want == 53 and .have == 3 and .bytes * 4 < .replay * 3 and .bytes < .full' "$TMPDIR/plan" >/dev/null ||
		fail "$(cut -c-300 "$TMPDIR/plan")"
	# 5 single steps from 53, 5 strides from 48, 5 single ones from 8
	jq -e 'all(.files[] | select(.size > 100000); [.steps[].back] == [1,1,1,1,1,8,8,8,8,8,1,1,1,1,1,0])' "$TMPDIR/plan"
	jq -e '.versions.objects <= 20' "$TMPDIR/plan" >/dev/null
	[ "$(plan "$S" --have 53 | jq '[.files[].bytes] | add')" = 0 ]
	weightsync plan "$S" --have 3 | grep -q 'version 16 .*against 8 back'
	! weightsync plan "$S" --have 99 2>/dev/null || fail "a version that is not there"
}

# A mount that slept from version 3 to 53 receives what the plan says.
test_a_mount_wakes_up()
{
	local got want n

	rm -rf "$TMPDIR/c"
	cp -a "$C" "$TMPDIR/c"
	start_nginx "$S"
	# The cache is of another address of the same run.
	weightfs mount "$SERVER_URL" "$M" -o "cache=$TMPDIR/c,poll=1h"
	until_true 60 complete $LAST
	got=$(received)
	diff -r "$M/versions/$LAST" "$CK/$LAST"
	weightfs unmount "$M"
	want=$(plan "$S" --have 3 | jq .bytes)
	# In bodies the same but for the few small objects that say what is new; headers are counted too.
	near "bytes sent" "$(awk '{ s += $10 } END { print s }' "$SERVER_WORK/access.log")" "$want" 3000
	near "bytes received" "$got" "$want" $((3000 + 300 * $(wc -l <"$SERVER_WORK/access.log")))
	grep -c 'GET /versions/' "$SERVER_WORK/access.log" >"$TMPDIR/n.versions"
	[ "$(cat "$TMPDIR/n.versions")" -le 20 ] || fail "$(cat "$TMPDIR/n.versions") version objects"
	[ "$(grep -c 'GET /tables/' "$SERVER_WORK/access.log")" -le 32 ]
	# By number, several at once: none waits for the one before to name it.
	for n in 48 40 32 24 16; do
		grep -q "GET /commits/$n " "$SERVER_WORK/access.log" || fail "version $n was not fetched ahead"
	done
	stop_servers
}

# The same for a directory: it is of the version that its times say.
test_pull_finds_out_which_version_it_has()
{
	local want tables got

	rm -rf "$TMPDIR/out"
	cp -a "$TMPDIR/pulled.3" "$TMPDIR/out"
	start_nginx "$S"
	weightsync pull --quiet "$SERVER_URL" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$CK/$LAST"
	got=$(awk '{ s += $10 } END { print s }' "$SERVER_WORK/access.log")
	want=$(plan "$S" --have 3 | jq .bytes)
	tables=$(weightsync show --json "$S" 3 | jq '[.files[].table_bytes // 0] | add')
	near "bytes sent" "$got" $((want + tables)) 8000
	# A trainer's directory has other times: older than its version's.
	rm -rf "$TMPDIR/out"
	cp -r "$CK/3" "$TMPDIR/out"
	touch -d "@$(($(weightsync log --json "$S" | jq 'select(.sequence == 3).time') / 1000000000 - 0))" "$TMPDIR"/out/*
	: >"$SERVER_WORK/access.log"
	weightsync pull --quiet "$SERVER_URL" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$CK/$LAST"
	stop_servers
}

test_from_nothing()
{
	rm -rf "$TMPDIR/out"
	weightsync pull --quiet "$S" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$CK/$LAST"
	for v in 2 8 16 47 48; do
		rm -rf "$TMPDIR/out"
		weightsync pull --quiet "$S" "$TMPDIR/out" --version $v
		diff -r "$TMPDIR/out" "$CK/$v"
	done
}

test_a_stride_that_is_gone_is_gone_around()
{
	local t

	cp -a "$S" "$S.torn"
	for t in $(weightsync show --json "$S" 32 | jq -r '.files[].strides[]?.table'); do
		rm "$S.torn/tables/$t"
	done
	plan "$S.torn" --have 3 >"$TMPDIR/plan"
	jq -e 'all(.files[] | select(.size > 100000); [.steps[].back] == [1,1,1,1,1,8,8,1,1,1,1,1,1,1,1,8,8,1,1,1,1,1,0])' \
		"$TMPDIR/plan" || fail "$(cut -c-900 "$TMPDIR/plan")"
	rm -rf "$TMPDIR/out"
	cp -a "$TMPDIR/pulled.3" "$TMPDIR/out"
	weightsync pull --quiet "$S.torn" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$CK/$LAST"
	rm -rf "$S.torn"
}

# A safetensors file from NAME:ELEMENTS:SEED:STEPS words: the bytes of the seed, then so many changes.
shard()				# FILE TENSOR...
{
	python3 - "$@" <<'PY'
import json, random, struct, sys
head, data = {}, b""
for word in sys.argv[2:]:
    name, n, seed, steps = word.split(":")
    n, more = int(n), bytearray(random.Random(seed).randbytes(2 * int(n)))
    for s in range(int(steps)):
        r = random.Random(seed + name[:0] + str(s))
        for _ in range(n // 100):
            more[2 * r.randrange(n)] ^= 1
    head[name] = {"dtype": "BF16", "shape": [n], "data_offsets": [len(data), len(data) + len(more)]}
    data += more
text = json.dumps(head).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
PY
}

# Tensors move between shards, come and go in the middle of a stride.
test_strides_over_a_new_layout()
{
	local d=$TMPDIR/moved s=$TMPDIR/moved.store v i

	for v in $(seq 1 13); do
		mkdir -p "$d/$v"
		if [ "$v" -lt 6 ]; then
			shard "$d/$v/x.safetensors" a:300001:1:$v b:400000:2:$v gone:100000:3:$v
			shard "$d/$v/y.safetensors" c:500000:4:$v
		elif [ "$v" -lt 11 ]; then
			shard "$d/$v/x.safetensors" c:500000:4:$v a:300001:1:$v
			shard "$d/$v/y.safetensors" new:200000:5:$v b:400000:2:$v
		else
			shard "$d/$v/x.safetensors" c:500000:4:$v a:300001:1:$v b:400000:2:$v new:200000:5:$v
		fi
		weightsync publish --quiet --json --strides 4,8 --cache "$d/p" "$d/$v" "$s" >>"$TMPDIR/moved.out" 2>>"$TMPDIR/moved.err"
	done
	[ ! -s "$TMPDIR/moved.err" ] || fail "$(cat "$TMPDIR/moved.err")"
	[ "$(jq -r 'select(.strides > 0).sequence' "$TMPDIR/moved.out" | tr '\n' ' ')" = "8 12 " ] ||
		fail "strides at $(jq -r 'select(.strides > 0).sequence' "$TMPDIR/moved.out")"
	weightsync verify --quiet "$s" >/dev/null
	for v in 8 12 13; do
		for i in 0 3 4 7; do
			rm -rf "$TMPDIR/out"
			[ $i = 0 ] || weightsync pull --quiet "$s" "$TMPDIR/out" --version $i
			weightsync pull --quiet "$s" "$TMPDIR/out" --version $v
			diff -r "$TMPDIR/out" "$d/$v"
		done
	done
	plan "$s" --have 4 --want 12 >"$TMPDIR/plan"
	jq -e '[.files[].steps[] | select(.back == 4)] | length > 0' "$TMPDIR/plan" >/dev/null || fail "no stride in $(cat "$TMPDIR/plan")"
	jq -e '.bytes < .replay' "$TMPDIR/plan" >/dev/null
}

# A shard that changes seldom is led to by its own table.
test_a_file_that_changed_once()
{
	local d=$TMPDIR/once s=$TMPDIR/once.store v

	for v in $(seq 1 9); do
		mkdir -p "$d/$v"
		shard "$d/$v/often.safetensors" a:300000:1:$v
		shard "$d/$v/seldom.safetensors" b:300000:2:$((v / 6))
		weightsync publish --quiet --json --strides 4 --cache "$d/p" "$d/$v" "$s" >/dev/null
	done
	weightsync show --json "$s" 8 | jq -e '.files[] | select(.path == "seldom.safetensors") | .strides[0].table == .table' >/dev/null
	[ "$(plan "$s" --have 4 --want 8 | jq -c '[.files[1].steps[].back]')" = '[1,0]' ] || fail "$(plan "$s" --have 4 --want 8)"
	[ "$(plan "$s" --have 4 --want 8 | jq '.versions.objects')" -le 3 ]
	rm -rf "$TMPDIR/out"
	weightsync pull --quiet "$s" "$TMPDIR/out" --version 4
	weightsync pull --quiet "$s" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$d/9"
}

test_without_undo_lists_the_stride_is_left_out()
{
	local d=$TMPDIR/once s=$TMPDIR/lost.store v

	for v in $(seq 1 9); do
		[ $v != 8 ] || rm -rf "$d/q/undo"
		weightsync publish --quiet --json --strides 4 --cache "$d/q" "$d/$v" "$s" >>"$TMPDIR/lost.out" 2>>"$TMPDIR/lost.err"
	done
	[ "$(wc -l <"$TMPDIR/lost.err")" = 1 ] && grep -q 'no stride of 4 versions to version 8' "$TMPDIR/lost.err" ||
		fail "$(cat "$TMPDIR/lost.err")"
	[ "$(jq -s 'map(.strides) | add' "$TMPDIR/lost.out")" = 0 ]
	rm -rf "$TMPDIR/out"
	weightsync pull --quiet "$s" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$d/9"
}

# Rotten undo lists cannot make a wrong stride.
test_rotten_undo_lists_are_found_out()
{
	local d=$TMPDIR/once s=$TMPDIR/rot.store v f

	for v in $(seq 1 9); do
		if [ $v = 8 ]; then
			for f in "$d"/r/stash/*; do
				printf 'rot' | dd of="$f" bs=1 seek=$(($(stat -c %s "$f") / 2)) conv=notrunc status=none
			done
		fi
		weightsync publish --quiet --json --strides 4 --cache "$d/r" "$d/$v" "$s" >>"$TMPDIR/rot.out" 2>>"$TMPDIR/rot.err"
	done
	weightsync verify --quiet "$s" >/dev/null
	rm -rf "$TMPDIR/out"
	weightsync pull --quiet "$s" "$TMPDIR/out"
	diff -r "$TMPDIR/out" "$d/9"
}

test_strides_none_and_wrong()
{
	local s=$TMPDIR/none.store v w

	for v in 1 2 3 4 5; do
		weightsync publish --quiet --strides none --cache "$TMPDIR/none.pc" "$CK/$v" "$s" >/dev/null
	done
	[ ! -e "$TMPDIR/none.pc/undo" ]
	for w in 0 1 8,12 '8,' ',8' 8,8 64,8 eight 8,16,32,64,128; do
		! weightsync publish --quiet --strides "$w" --cache "$TMPDIR/none.pc" "$CK/6" "$s" 2>"$TMPDIR/err" || fail "--strides $w"
		grep -q 'strides takes' "$TMPDIR/err"
	done
}

for t in $(declare -F | sed -n 's/^declare -f \(test_\)/\1/p'); do
	run "$t"
done
finish
