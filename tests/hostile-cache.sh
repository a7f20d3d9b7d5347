#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# hostile-cache.sh - a cache that rots or is tampered with, full disks, wrong options, servers that lie
. "$(dirname "$0")/suite.sh"
set -u

T=$TMPDIR
export HOME=$T/home
S=$T/two M=$T/mnt C=$T/cache
mkdir -p "$M"

python3 "$TESTS/mkmodel.py" make "$T/m1" --shards 2 --tensors 4 --mib 5
python3 "$TESTS/mkmodel.py" step "$T/m1" "$T/m2" --seed 2
python3 "$TESTS/mkmodel.py" step "$T/m2" "$T/m3" --seed 3
for i in 1 2; do
	weightsync publish --cache "$T/pc" "$T/m$i" "$S" >/dev/null || exit 1
done
cp -a "$S" "$T/three"
weightsync publish --cache "$T/pc" "$T/m3" "$T/three" >/dev/null || exit 1
cp "$T/m2/model-00001-of-00002.safetensors" "$T/shard"

status() { python3 -c 'import json, sys; s = json.load(open(sys.argv[1])); print(eval(sys.argv[2], s))' "$M/.weightfs/status.json" "$1"; }
is() { [ "$(status "$1")" = True ]; }

# start STORE OPTIONS
start()
{
	mountpoint -q "$M" && fusermount3 -uz "$M"	# not all: a cache may be a mount, too
	mkdir -p "$M"
	weightfs mount "$1" "$M" -o "foreground,cache=$C,poll=100ms,min_free=64K${2:+,$2}" 2>"$T/log" &
	daemon=$!
	until_true 20 weightfs wait "$M" --newer-than "${3:-1}" --timeout 20 >/dev/null 2>&1
}

stop()
{
	kill "$daemon"
	wait "$daemon"
	refute grep -E 'Sanitizer|runtime error' "$T/log"
}

whole() { is "any(v['sequence'] == $1 and v['complete'] for v in versions)"; }

fresh()			# [OPTIONS]
{
	rm -rf "$C"
	start "$S" "${1:-}"
	until_true 20 whole 2
}

data_of() { find "$C/images" -name data -size -3000k -exec cmp -s {} "$T/shard" \; -print; }

flip() { python3 -c '
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1); f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 4]))' "$1" "$2"; }

test_rot_is_found_by_the_next_read()
{
	local f

	fresh passthrough=off		# what the kernel reads by itself, only the scrub checks
	f=$(data_of)
	flip "$f" 1500000
	flip "$f" 100
	python3 -c '
import os, sys
for p in sys.argv[1:]:
    os.posix_fadvise(os.open(p, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$M"/versions/2/*
	diff -r "$T/m2" "$M/versions/2"
	is 'rot_found >= 2'
	stop
}

test_verify_finds_rot_and_a_mount_mends_it()
{
	local r=0

	fresh
	refute weightfs verify "$C" 2>"$T/err"	# in use
	grep -q 'used by process' "$T/err"
	stop
	weightfs verify "$C"
	flip "$(data_of)" 1500000
	weightfs verify "$C" || r=$?
	[ $r = 4 ]
	start "$S"
	diff -r "$T/m2" "$M/versions/2"
	stop
	weightfs verify "$C"
}

# ---- a directory that is no cache ----

# Every name, owner, mode and byte below a directory.
picture() { find "$1" -printf '%P %y %m %u %s\n' -type f -exec sha256sum {} + | sort; }

# DIR SAYS COMMAND...: fails with such a message, and DIR is as it was
leaves_alone()
{
	local dir=$1 says=$2

	picture "$dir" >"$T/before"
	if "${@:3}" >"$T/out" 2>"$T/err"; then fail "${*:3}: succeeded"; fi
	grep -qE -- "$says" "$T/err" || fail "${*:3}: says $(cat "$T/err")"
	picture "$dir" | diff "$T/before" - || fail "${*:3}: changed $dir"
	refute mountpoint -q "$M"
}

# Files of a user under names that a cache has too.
somebodys()			# DIR
{
	rm -rf "$1"
	mkdir -p "$1/tmp" "$1/versions" "$1/served/1" "$1/objects"
	tee "$1/tmp/draft" "$1/versions/final" "$1/served/1/photo" "$1/objects/.wfs-mine" <<<precious >/dev/null
}

test_verify_changes_nothing_that_is_no_cache()
{
	rm -rf "$T/st" "$T/void"
	cp -a "$S" "$T/st"
	leaves_alone "$T/st" "is a store: did you mean weightsync verify $T/st" weightfs verify "$T/st"
	weightsync verify --quiet "$T/st"
	leaves_alone "$T/m1" 'is no cache of weightfs: it holds ' weightfs verify "$T/m1"
	somebodys "$T/docs"
	leaves_alone "$T/docs" 'is no cache of weightfs: it holds ' weightfs verify "$T/docs"
	mkdir -p "$T/void/lost+found"
	leaves_alone "$T/void" 'is no cache of weightfs: it is empty' weightfs verify "$T/void"
	leaves_alone "$T/void" 'is no cache of weightfs: No such' weightfs verify "$T/void/missing"
	if [ "$(id -u)" = 0 ]; then	# verify becomes the owner
		chown -R daemon "$T/st"
		leaves_alone "$T/st" "did you mean weightsync verify $T/st" weightfs verify "$T/st"
	fi
}

# Whoever mounts, and whoever the daemon is.
test_no_cache_is_made_of_what_is_none()
{
	local how

	mkdir -p "$M"
	rm -rf "$T/st"
	cp -a "$S" "$T/st"
	somebodys "$T/docs"
	echo 'process 7 on host' >"$T/docs/lock"	# of a program that is not ours
	for how in '' "$([ "$(id -u)" = 0 ] && echo ,run_as=root)"; do
		leaves_alone "$T/st" "$T/st: it is a store; give" weightfs mount "$S" "$M" -o "cache=$T/st$how"
		leaves_alone "$T/docs" "$T/docs: it holds .*not the lock file" weightfs mount "$S" "$M" -o "cache=$T/docs$how"
		leaves_alone "$T/m1" "is no part of a cache; give" weightfs mount "$S" "$M" -o "cache=$T/m1$how"
	done
	leaves_alone "$T/st" "$T/st: it is a store; give" weightsync publish "$T/m3" "$T/two" --cache "$T/st"
	refute weightsync publish "$T/m3" "$T/st" --cache "$T/st" 2>"$T/err"
	grep -q "$T/st: it is a store; give" "$T/err"
	diff -r -x lock "$S" "$T/st"		# but for the store's own lock
	leaves_alone "$T/docs" "$T/docs: it holds" weightsync publish "$T/m3" "$T/two" --cache "$T/docs"
	somebodys "$T/.pulled.weightsync"
	leaves_alone "$T/.pulled.weightsync" 'it holds' weightsync pull --quiet "$S" "$T/pulled"
	if [ "$(id -u)" = 0 ]; then	# root gives it to nobody
		chown -R nobody "$T/docs" "$T/st"
		leaves_alone "$T/docs" "$T/docs: it holds" weightfs mount "$S" "$M" -o "cache=$T/docs"
		leaves_alone "$T/st" "$T/st: it is a store" weightfs mount "$S" "$M" -o "cache=$T/st"
	fi
}

# What is a cache: also one whose lock somebody removed, one in which nothing else was made yet, and a new file system.
test_caches_are_taken()
{
	fresh
	stop
	rm "$C/lock"
	mkdir "$C/lost+found"
	[ "$(id -u)" != 0 ] || chown --reference="$C" "$C/lost+found"
	start "$S"
	diff -r "$T/m2" "$M/versions/2"
	[ "$(status bytes_received)" -lt 100000 ] || fail "what was in the cache was of no use"
	stop
	weightfs verify "$C"
	rm -rf "$C"
	mkdir -p "$C/lost+found"
	[ "$(id -u)" != 0 ] || chown -R nobody "$C"
	start "$S"
	diff -r "$T/m2" "$M/versions/2"
	stop
	rm -rf "$C"
	mkdir "$C"
	echo 12 >"$C/lock"
	start "$S"
	diff -r "$T/m2" "$M/versions/2"
	stop
}

# What somebody puts in the place of a cache file is neither followed nor waited for.
swapped()			# SUBDIR HOW
{
	local f

	fresh
	stop
	: >"$T/victim"
	find "$C/$1" -type f >"$T/list"
	[ -s "$T/list" ]
	while read -r f; do
		rm "$f"
		case $2 in
		link) ln -s "$T/victim" "$f" ;;
		fifo) mkfifo "$f" ;;
		dir) mkdir "$f" && : >"$f/x" ;;
		empty) : >"$f" ;;
		esac
	done <"$T/list"
	chown -hR --reference="$C" "$C/$1"	# its owner did it, not root
	start "$S"
	timeout 20 diff -r "$T/m2" "$M/versions/2"
	[ ! -s "$T/victim" ]
	stop
}

test_full_cache_keeps_the_old_version()
{
	rm -rf "$C" "$T/live"
	cp -a "$S" "$T/live"
	mkdir "$C"
	mount -t tmpfs -o size=13M tmpfs "$C"
	start "$T/live" keep_versions=0
	until_true 20 whole 2
	head -c $((13 << 20)) /dev/zero >"$C/filler" 2>/dev/null || true
	python3 "$TESTS/mangle.py" merge "$T/three" "$T/live"
	until_true 20 is "'does not fit' in problem or 'No space' in problem or 'needed' in problem"
	diff -r "$T/m2" "$M/versions/2"
	[ ! -e "$M/versions/3" ]
	rm "$C/filler"
	weightfs wait "$M" --newer-than 2 --timeout 70
	diff -r "$T/m3" "$M/versions/3"
	stop
	umount "$C"
}

test_full_store_refuses_a_publish()
{
	local r=0

	rm -rf "$T/small"
	mkdir "$T/small"
	mount -t tmpfs -o size=4M tmpfs "$T/small"
	cp -a "$S/." "$T/small/"
	head -c 5000000 /dev/zero >"$T/small/filler" 2>/dev/null || true
	weightsync publish --cache "$T/pc-small" "$T/m3" "$T/small" 2>"$T/err" || r=$?
	[ $r = 1 ]
	grep -qi 'no space' "$T/err"
	[ "$(grep -c . "$T/err")" = 1 ]
	weightsync verify "$T/small"
	[ ! -e "$T/small/commits/3" ]
	umount "$T/small"
}

wrong() { local r=0; "$@" >"$T/out" 2>"$T/err" || r=$?; [ $r = 2 ] && [ "$(wc -l <"$T/err")" = 1 ] || fail "$*: exit $r: $(cat "$T/err")"; }

test_wrong_options()
{
	local o

	unmount_below "$T"
	mkdir -p "$M"
	for o in cahce=/x cache= cache_size=much poll=-1 umask=9 ready=soon keep_versions=-1 workers=a rate=1X; do
		wrong weightfs mount "$S" "$M" -o "$o"
	done
	wrong weightfs mount "$S"
	wrong weightfs wait "$M" --timeout soon
	wrong weightsync publish "$T/m1"
	wrong weightsync publish "$T/nowhere" "$T/new"
	[ ! -e "$T/new" ]
	wrong weightsync show "$S" minus
	wrong weightsync pull "$S"
	wrong weightsync verify --version 0 "$S"
	wrong weightsync frobnicate
}

# ---- a server that lies on command ----

. "$TESTS/servers.sh"
lies() { echo "$1" >"$T/how.part" && mv "$T/how.part" "$T/how"; }

# HOW SAYS: the server turns bad before version 3 comes, and good again
served()
{
	local n

	rm -rf "$C" "$T/live"
	cp -a "$S" "$T/live"
	lies 'good .'
	start_server http liar.py "$T/live" "$T/how"
	start "$SERVER_URL" read_timeout=2s
	until_true 20 whole 2
	n=$(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status")
	lies "$1"
	python3 "$TESTS/mangle.py" merge "$T/three" "$T/live"
	until_true 45 problem_says "$2" || fail "status says $(status problem), not $2"
	diff -r "$T/m2" "$M/versions/2"
	[ ! -e "$M/versions/3" ]
	grep -q '^WFS_SANITIZE:BOOL=ON' "$BUILD/CMakeCache.txt" ||
		[ $(($(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status") - n)) -lt 65536 ]
	timeout 30 weightsync pull --quiet --version 2 "$SERVER_URL" "$T/out" 2>"$T/err" || true
	refute grep -E 'Sanitizer|runtime error' "$T/err"
	rm -rf "$T/out" "$T/.out.weightsync"
	lies 'good .'
	weightfs wait "$M" --newer-than 2 --timeout 60
	diff -r "$T/m3" "$M/versions/3"
	stop
	stop_servers
}
problem_says() { status problem | grep -Eq -e "$1"; }

test_whole_answers_to_ranges()
{
	rm -rf "$C"
	lies 'whole packs/'
	start_server http liar.py "$T/three" "$T/how"
	start "$SERVER_URL" lazy 2
	diff -r "$T/m3" "$M/versions/3"
	stop
	stop_servers
}

# shellcheck disable=SC2254 # a pattern is meant
# shellcheck disable=SC2254 # a pattern is meant
run_if() { case "$*" in ${WFS_CASE:-*}) run "$@" ;; esac; }
for t in rot_is_found_by_the_next_read verify_finds_rot_and_a_mount_mends_it verify_changes_nothing_that_is_no_cache \
	no_cache_is_made_of_what_is_none caches_are_taken; do
	run_if test_$t
done
for where in images objects; do
	for how in link fifo dir empty; do
		run_if swapped $where $how
	done
done
if [ "$(id -u)" = 0 ]; then
	run_if test_full_cache_keeps_the_old_version
	run_if test_full_store_refuses_a_publish
else
	skip full_disks "needs root for a small tmpfs"
fi
run_if test_wrong_options
run_if test_whole_answers_to_ranges
run_if served 'html .' 'JSON'
run_if served 'html packs/' 'packs/'
run_if served 'endless commits/3' 'commits/3'
run_if served 'endless versions/' 'versions/'
run_if served 'missing packs/' 'packs/[0-9a-f]* is not in the store'
run_if served 'stall packs/' 'packs/.*the server is silent'
finish
