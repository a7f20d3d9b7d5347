#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# publish-refused.sh - what makes no version: unsound directories, other publishers, death at any moment; and
# that verify finds what is damaged
. "$(dirname "$0")/suite.sh"

export XDG_CACHE_HOME=$TMPDIR/cache
models=$TMPDIR/models
mkmodel() { python3 "$TESTS/mkmodel.py" "$@"; }
mkmodel make "$models/a" --mib 3 --shards 3 --tensors 6
mkmodel step "$models/a" "$models/b" --seed 2
weightsync publish --quiet "$models/a" "$TMPDIR/one" >/dev/null

# status WANTED MESSAGE-PATTERN COMMAND...: the exit status and the one line on stderr
status()
{
	local want=$1 pattern=$2 got=0

	shift 2
	"$@" >/dev/null 2>"$TMPDIR/stderr" || got=$?
	[ $got -eq "$want" ] || fail "exit status $got, not $want: $(cat "$TMPDIR/stderr")"
	grep -qE -- "$pattern" "$TMPDIR/stderr" || fail "the message is: $(cat "$TMPDIR/stderr")"
	[ "$(wc -l <"$TMPDIR/stderr")" -eq 1 ] || fail "more than one line: $(cat "$TMPDIR/stderr")"
}

# A directory that is refused changes nothing.
refused()			# DIR MESSAGE-PATTERN
{
	cp -r "$TMPDIR/one" "$1.store"
	status "${3:-1}" "$2" weightsync publish --quiet "$1" "$1.store" --cache "$1.cache"
	[ "$(ls "$1.store/commits")" = 1 ] || fail "a version was made"
	weightsync verify --quiet "$1.store" >/dev/null
}

changed_copy() { cp -r "$models/b" "$TMPDIR/$1"; cd "$TMPDIR/$1"; }

test_shard_is_short()
{
	changed_copy short
	truncate -s -1000 model-00002-of-00003.safetensors
	refused "$PWD" 'model-00002-of-00003.safetensors.*still being written'
}

test_shard_has_bytes_behind()
{
	changed_copy long
	echo x >>model-00002-of-00003.safetensors
	refused "$PWD" 'model-00002-of-00003.safetensors'
}

test_shard_is_empty()
{
	changed_copy hollow
	: >model-00001-of-00003.safetensors
	refused "$PWD" 'has only 0 bytes.*still being written'
}

test_index_names_a_missing_shard()
{
	changed_copy missing
	rm model-00003-of-00003.safetensors
	refused "$PWD" 'weight_map names model-00003-of-00003.safetensors, which is not there'
}

test_index_names_a_missing_tensor()
{
	changed_copy tensor
	sed -i 's/model.layers.0.weight/model.layers.9.weight/' model.safetensors.index.json
	refused "$PWD" 'places tensor model.layers.9.weight in' 4
}

test_index_leaves_the_directory()
{
	changed_copy leaves
	sed -i 's|"model-00001-of|"../model-00001-of|' model.safetensors.index.json
	refused "$PWD" 'leaves the directory' 4
}

test_fifo_and_names()
{
	changed_copy fifo
	mkfifo pipe
	refused "$PWD" 'pipe is neither a file nor a link to one' 4
	rm -r pipe "$PWD.store"
	echo x >"$(printf 'a\nb')"
	refused "$PWD" 'byte 0x0a' 4
}

test_nothing_to_publish()
{
	mkdir "$TMPDIR/nothing"
	refused "$TMPDIR/nothing" 'nothing to publish' 4
}

# A link to something that is not there, and one that goes round.
test_dangling_links()
{
	changed_copy dangling
	ln -s nowhere extra.json
	refused "$PWD" 'extra.json is a link to nothing'
}

# /proc shows a call that strace looks at like a stop.
is_stopped() { grep -qs 'stopped by SIGSTOP' "$1"; }
# strace has other children before, which only try what the kernel can do.
child_of() { pgrep -P "$1" -x weightsync; }
has_child() { child_of "$1" >/dev/null; }

# Calls are counted by thread, so workers may stop too: go on until it has ended.
goes_on_to_the_end() { ! kill -CONT "$1" 2>/dev/null; }

# stopped_at CALL N PATH DIR COMMAND...: publish DIR into DIR.store; the publisher stops at its first thread's N-th CALL
# (of those on PATH, unless that is empty), COMMAND runs, it goes on and must fail with a message like $want
stopped_at()
{
	local call=$1 n=$2 path=$3 dir=$4 pid

	shift 4
	ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$dir.trace" ${path:+-P "$path"} -e trace="$call" \
		-e inject="$call:signal=SIGSTOP:when=$n" \
		weightsync publish --quiet "$dir" "$dir.store" --cache "$dir.cache" >/dev/null 2>"$dir.err" &
	until_true 30 has_child $!
	pid=$(child_of $!)
	until_true 60 is_stopped "$dir.trace" || fail "it never stopped"
	"$@"
	until_true 60 goes_on_to_the_end $pid || fail "it never ended"
	! wait $! || fail "published"
	grep -qE "$want" "$dir.err" || fail "the message is: $(cat "$dir.err")"
	weightsync verify --quiet "$dir.store" >/dev/null
}

# The first read of a shard is that of its header: behind the first look at the directory, before anything is published.
changes_meanwhile()		# DIR COMMAND...
{
	cp -r "$TMPDIR/one" "$1.store"
	stopped_at pread64 1 "$1/model-00001-of-00003.safetensors" "$@"
	[ "$(ls "$1.store/commits")" = 1 ] || fail "a version was made"
}

test_file_changes_meanwhile()
{
	changed_copy meanwhile
	want='config.json changed while it was being published'
	changes_meanwhile "$PWD" touch config.json
}

test_file_appears_meanwhile()
{
	changed_copy appears
	want='new.json appeared while'
	changes_meanwhile "$PWD" touch new.json
}

test_file_is_replaced_meanwhile()
{
	changed_copy replaced
	cp model-00003-of-00003.safetensors other
	mv other "$TMPDIR/other"
	want='model-00003-of-00003.safetensors changed while'
	changes_meanwhile "$PWD" mv "$TMPDIR/other" model-00003-of-00003.safetensors
}

test_second_publisher_is_told()
{
	local s=$TMPDIR/lock.store

	cp -r "$TMPDIR/one" "$s"
	python3 - "$s/lock" <<'PY' &
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
open(sys.argv[1] + ".held", "w").close()
import signal
signal.pause()
PY
	holder=$!
	until_true 10 test -e "$s/lock.held"
	status 1 'another publisher is at work' weightsync publish --quiet "$models/b" "$s"
	kill $holder
	wait $holder || true
	weightsync publish --quiet "$models/b" "$s" >/dev/null
}

# On a file system whose locks do not hold: the commit itself decides.  The publisher is stopped at its last
# fsync before the commit's link; which one that is, a first run tells.
# The publisher is held for five seconds on its way into the one call that commits.
test_second_commit_loses()
{
	local d=$TMPDIR/race

	mkmodel step "$models/a" "$d" --seed 7
	cp -r "$TMPDIR/one" "$d.store"
	cp -r "$TMPDIR/one" "$d.other"
	weightsync publish --quiet "$models/b" "$d.other" --label winner >/dev/null
	ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$d.log" -e trace=linkat \
		-e inject=linkat:delay_enter=5000000:when=2 \
		weightsync publish --quiet "$d" "$d.store" --cache "$d.cache" >/dev/null 2>"$d.err" &
	until_true 60 grep -qs 'linkat.*"2"' "$d.log"	# the first is the cache, trying whether there are links
	cp -rn "$d.other/." "$d.store/"
	! wait $! || fail "published"
	grep -q 'another publisher committed version 2 first' "$d.err"
	[ "$(weightsync log --json "$d.store" | tail -n 1 | jq -r .label)" = winner ]
	weightsync verify --quiet "$d.store" >/dev/null
}

# Killed at the n-th of every call that changes a file, until a run comes through.
test_killed_at_every_step()
{
	local call n=0 total=0 s=$TMPDIR/kill.store newest

	for call in openat pwrite64 write fsync,fdatasync rename,renameat,renameat2 linkat unlinkat mkdirat; do
		for n in 1 2 3 5 8 13 21 34 55; do
			rm -rf "$s" "$s.cache"
			cp -r "$TMPDIR/one" "$s"
			if { ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null -e trace="$call" -e inject="$call:signal=SIGKILL:when=$n" \
				weightsync publish --quiet "$models/b" "$s" --cache "$s.cache" --workers 2; } >/dev/null 2>&1
			then
				break		# it makes so many of these calls no more
			fi
			total=$((total + 1))
			weightsync verify --quiet "$s" >/dev/null || fail "$call $n: the store is damaged"
			newest=$(weightsync log --json "$s" | tail -n 1 | jq .sequence)
			rm -rf "$s.pulled"
			weightsync pull --quiet "$s" "$s.pulled" >/dev/null
			case $newest in
			1) diff -r "$s.pulled" "$models/a" ;;
			2) diff -r "$s.pulled" "$models/b" ;;
			*) fail "$call $n: newest is $newest" ;;
			esac || fail "$call $n: version $newest is not what was published"
			weightsync publish --quiet "$models/b" "$s" --cache "$s.cache" >/dev/null || fail "$call $n: no publish afterwards"
			rm -rf "$s.pulled"
			weightsync pull --quiet "$s" "$s.pulled" >/dev/null
			diff -r "$s.pulled" "$models/b" || fail "$call $n: the next publish is wrong"
		done
	done
	echo "killed $total times"
	[ $total -ge 20 ] || fail "killed only $total times"
}

test_interrupted()
{
	local s=$TMPDIR/interrupt.store got=0

	cp -r "$TMPDIR/one" "$s"
	ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null -e trace=pread64 -e inject=pread64:signal=SIGINT:when=9 \
		weightsync publish --quiet "$models/b" "$s" --cache "$s.cache" >/dev/null 2>"$TMPDIR/stderr" || got=$?
	[ $got -eq 130 ] || fail "exit status $got: $(cat "$TMPDIR/stderr")"
	[ "$(ls "$s/commits")" = 1 ] || fail "a version was made"
	weightsync verify --quiet "$s" >/dev/null
}

# One bit of each object, at several places.
test_verify_finds_a_flipped_bit()
{
	local s=$TMPDIR/flip.store f size at n=0

	cp -r "$TMPDIR/one" "$s"
	weightsync publish --quiet "$models/b" "$s" --full >/dev/null
	while read -r f; do
		size=$(stat -c %s "$f")
		for at in 0 $((size / 2)) $((size - 1)); do
			flip "$f" "$at"
			status_quiet 4 weightsync verify --quiet "$s" || fail "$f, byte $at: not found"
			flip "$f" "$at"
			n=$((n + 1))
		done
	done < <(find "$s" -type f ! -name lock ! -path "$s/tmp/*" | sort)
	weightsync verify --quiet "$s" >/dev/null
	echo "$n bits"
	[ $n -gt 30 ]
}

flip() { python3 -c 'import sys; f=open(sys.argv[1],"r+b"); f.seek(int(sys.argv[2])); b=f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b^4]))' "$1" "$2"; }

status_quiet()
{
	local want=$1 got=0

	shift
	"$@" >/dev/null 2>"$TMPDIR/stderr" || got=$?
	[ $got -eq "$want" ] || { echo "exit status $got: $(cat "$TMPDIR/stderr")" >&2; return 1; }
}

test_verify_finds_what_is_missing()
{
	local s=$TMPDIR/missing.store kind f

	cp -r "$TMPDIR/one" "$s"
	for kind in versions tables layouts packs; do
		f=$(find "$s/$kind" -type f | head -n 1)
		mv "$f" "$s.aside"
		status_quiet 4 weightsync verify --quiet "$s" || fail "$kind"
		mv "$s.aside" "$f"
	done
}

test_exit_codes()
{
	mkdir "$TMPDIR/void.store"
	status 3 'nothing is published' weightsync log "$TMPDIR/void.store"
	status 3 'nothing is published' weightsync verify "$TMPDIR/void.store"
	status 3 'nothing is published' weightsync pull "$TMPDIR/void.store" "$TMPDIR/void.dir"
	status 3 'no version 9' weightsync show "$TMPDIR/one" 9
	status 3 'no version 9' weightsync pull "$TMPDIR/one" "$TMPDIR/void.dir" --version 9
	status 2 'no command' weightsync frobnicate
	status 2 "no option .--frobnicate'" weightsync log --frobnicate "$TMPDIR/one"
	status 2 "no option .--lable'" weightsync publish "$models/a" "$TMPDIR/one" --lable x
	status 2 "no option .-x'" weightsync log "$TMPDIR/one" -xy
	status 2 ".--json=3': this option takes no value" weightsync log "$TMPDIR/one" --json=3
	status 2 "option .--keep' needs a value" weightsync gc "$TMPDIR/one" --keep
	status 2 'takes a store' weightsync log
	status 2 'not a whole number' weightsync show "$TMPDIR/one" latest
	status 2 'is not a directory' weightsync publish "$TMPDIR/nowhere" "$TMPDIR/one"
	status 2 'needs a value' weightsync publish --label
	status 2 'put it beside' weightsync publish "$models/a" "$models/a/store"
	[ ! -e "$models/a/store" ]
	status 2 '.' weightsync publish "$models/a" gopher://example.org/store
}

# ---- what was meant otherwise ----

picture() { find "$1" -printf '%P %y %m %s\n' -type f -exec sha256sum {} + | sort; }

# DIR MESSAGE-PATTERN COMMAND...: a usage error that leaves DIR as it was
usage()
{
	local dir=$1

	picture "$dir" >"$TMPDIR/before"
	status 2 "${@:2}"
	picture "$dir" | diff "$TMPDIR/before" - || fail "$dir was changed"
}

test_arguments_swapped()
{
	cp -r "$TMPDIR/one" "$TMPDIR/swap.store"
	mkdir "$TMPDIR/swap.new"
	usage "$models/b" 'swap.store is a store; the model directory comes first' \
		weightsync publish --quiet "$TMPDIR/swap.store" "$models/b"
	usage "$TMPDIR/swap.new" 'is a store; the model' weightsync publish --quiet "$TMPDIR/swap.store" "$TMPDIR/swap.new"
	weightsync publish --quiet --cache "$TMPDIR/swap.cache" "$models/b" "$TMPDIR/swap.store" >/dev/null
	usage "$TMPDIR/swap.new" 'swap.cache is a cache of weightfs, no model' \
		weightsync publish --quiet "$TMPDIR/swap.cache" "$TMPDIR/swap.new"
}

test_no_new_store_between_files()
{
	local d=$TMPDIR/full

	mkdir -p "$d/lost+found"
	echo mine >"$d/.hidden"
	usage "$d" 'full is no store, and not empty \(it holds .hidden\): a new store needs' \
		weightsync publish --quiet "$models/a" "$d"
	usage "$d" 'it holds .hidden' weightsync publish --quiet "$models/a" "file://$d"
	usage "$models/b" 'is no store, and not empty' weightsync publish --quiet "$models/a" "$models/b"
	rm "$d/.hidden"
	status 1 'still being written' weightsync publish --quiet "$(hollow)" "$d"	# leaves a lock
	[ -e "$d/lock" ]
	weightsync publish --quiet "$models/a" "$d" >/dev/null
	weightsync verify --quiet "$d" >/dev/null
}

hollow() { mkdir -p "$TMPDIR/hollow.model"; : >"$TMPDIR/hollow.model/model.safetensors"; echo "$TMPDIR/hollow.model"; }

for t in $(declare -F | sed -n 's/^declare -f \(test_\)/\1/p'); do
	run "$t"
done
finish
