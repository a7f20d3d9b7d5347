#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-versions.sh - versions by number: immutable, the same on every mount, kept while in use, and gone
# when they are gone
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/flips.sh"

attributes() { (cd "$1/versions" && find . -printf '%P %i %s %T@ %C@ %m\n' | grep / | sort); }

# Two mounts with caches of their own, and one again: the same inode numbers, sizes and times.
test_the_same_on_every_mount()
{
	mounted keep_versions=9
	flip >/dev/null
	attributes "$M" >"$W/first"
	mkdir -p "$TMPDIR/mnt2"
	weightfs mount "$S" "$TMPDIR/mnt2" -o "cache=$TMPDIR/cache2,min_free=0,keep_versions=9"
	until_true 60 is_newest "$TMPDIR/mnt2" $((v + 1))
	attributes "$TMPDIR/mnt2" | grep "^$((v + 1))/" >"$W/other"
	weightfs unmount "$TMPDIR/mnt2"
	weightfs unmount "$M"
	weightfs mount "$S" "$M" -o "cache=$C,min_free=0,keep_versions=9"
	until_true 60 is_newest "$M" $((v + 1))
	attributes "$M" >"$W/again"
	weightfs unmount "$M"
	cmp "$W/first" "$W/again"
	grep "^$((v + 1))/" "$W/first" | cmp - "$W/other"
	[ "$(wc -l <"$W/first")" -ge 18 ]
	# and no two files have one number
	[ -z "$(cut -d' ' -f2 "$W/first" | sort | uniq -d)" ]
}

# Version by version the bytes are those that were published under that number.
check_listed()
{
	local d n=0

	for d in "$M"/versions/*; do
		tool-flip list "$d" "${d##*/}" >"$W/listed"
		grep "^${d##*/} " "$L" | cmp - "$W/listed" || return 1
		n=$((n + 1))
	done
	[ $n -ge "$1" ]
}

test_keep_versions_are_kept()
{
	mounted keep_versions=3
	for _ in 1 2 3 4 5; do flip >/dev/null; done
	until_true 30 sh -c "[ ! -e $M/versions/$v ]"
	check_listed 4
	weightfs unmount "$M"
}

leaves()			# VERSION: with one of the next, once nobody has it
{
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
		shows "$1" || return 0
		sleep 0.5
		flip >/dev/null
	done
	return 1
}

# One that is open stays, by name too; by number nobody is bound to it.
test_what_is_open_stays()
{
	mounted keep_versions=0
	python3 - "$M/versions/$v" "$W" <<-'PY' &
	import hashlib, mmap, os, sys, time
	where, w = sys.argv[1:]
	f = open(where + "/model-00003-of-00008.safetensors", "rb")
	m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
	f.close()
	open(w + "/ready", "w")
	while not os.path.exists(w + "/go"):
	    time.sleep(0.02)
	with open(w + "/hash.new", "w") as out:
	    print(hashlib.sha256(m).hexdigest(), file=out)
	os.rename(w + "/hash.new", w + "/hash")
	PY
	until_true 30 test -e "$W/ready"
	for _ in 1 2 3 4; do flip >/dev/null; done
	shows "$v"
	tool-flip list "$M/versions/$v" "$v" | cmp - <(grep "^$v " "$L")
	touch "$W/go"
	wait $!
	[ "$(cat "$W/hash")" = "$(grep "^$v " "$L" | sed -n 3p | cut -d' ' -f2)" ]
	leaves "$v"
	weightfs unmount "$M"
}

# Gone: ENOENT by name, ESTALE through what was held, also for names that were known.
test_what_left_is_enoent_and_estale()
{
	mounted keep_versions=0
	cat >"$W/held.py" <<-EOF
	import errno, os, time
	d = os.open("$M/versions/$v", os.O_PATH | os.O_DIRECTORY)
	known, other = "model-00001-of-00008.safetensors", "model-00002-of-00008.safetensors"
	os.stat(known, dir_fd=d)
	f = os.open(known, os.O_PATH, dir_fd=d)
	open("$W/ready", "w")
	while not os.path.exists("$W/go"):
	    time.sleep(0.02)
	def fails(what):
	    try:
	        what()
	    except OSError as e:
	        return errno.errorcode[e.errno]
	    return "nothing"
	print(fails(lambda: os.open(other, os.O_RDONLY, dir_fd=d)), fails(lambda: os.open(known, os.O_RDONLY, dir_fd=d)),
	      fails(lambda: os.open("/proc/self/fd/%d" % f, os.O_RDONLY)),
	      fails(lambda: os.open("$M/versions/$v/" + known, os.O_RDONLY)), fails(lambda: os.stat("$M/versions/$v")))
	EOF
	python3 "$W/held.py" >"$W/saw" &
	until_true 30 test -e "$W/ready"
	leaves "$v"
	touch "$W/go"
	wait $!
	cat "$W/saw"
	[ "$(cat "$W/saw")" = "ESTALE ESTALE ESTALE ENOENT ENOENT" ]
	weightfs unmount "$M"
}

is_pinned() { weightfs status "$M" --json | jq -e ".versions[] | select(.sequence == $1) | .pinned == $2" >/dev/null; }

# A pinned version: its bytes and numbers through many newer ones, and a mount that begins again.
check_pinned()			# VERSION
{
	shows "$1"
	is_pinned "$1" true
	attributes "$M" | grep "^$1/" | cmp - "$W/pinned"
	tool-flip list "$M/versions/$1" "$1" | cmp - <(grep "^$1 " "$L")
}

test_a_pinned_version_stays()
{
	local held

	mounted keep_versions=0
	weightfs pin "$M" "$v"
	is_pinned "$v" true
	attributes "$M" | grep "^$v/" >"$W/pinned"
	[ "$(wc -l <"$W/pinned")" -ge 9 ]
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do flip >/dev/null; done
	until_true 30 sh -c "[ ! -e $M/versions/$((v + 1)) ] && [ ! -e $M/versions/$((v + 9)) ]"	# as others leave
	check_pinned "$v"
	weightfs unmount "$M"
	weightfs mount "$S" "$M" -o "cache=$C,min_free=0,poll=200ms,keep_versions=0"
	until_true 60 is_newest "$M" $((v + 12))
	check_pinned "$v"
	for _ in 1 2 3 4; do flip >/dev/null; done
	until_true 30 sh -c "[ ! -e $M/versions/$((v + 12)) ]"
	check_pinned "$v"

	# Unpinned it leaves, by name and through what was held.
	exec {held}<"$M/versions/$v"
	(cd "/proc/self/fd/$held" && cat config.json) | grep -q " $v}"
	weightfs unpin "$M" "$v"
	refute weightfs unpin "$M" "$v" 2>"$W/again"
	grep -q "not pinned" "$W/again" || fail "$(cat "$W/again")"
	leaves "$v"
	refute weightfs pin "$M" "$v" 2>"$W/again"
	cat "$W/again"
	python3 - "$M/versions/$v" "$held" >"$W/saw" <<-'PY'
	import errno, os, sys
	def fails(what):
	    try:
	        what()
	    except OSError as e:
	        return errno.errorcode[e.errno]
	    return "nothing"
	where, held = sys.argv[1], int(sys.argv[2])
	print(fails(lambda: os.stat(where)), fails(lambda: os.open(where + "/config.json", os.O_RDONLY)),
	      fails(lambda: os.open("config.json", os.O_RDONLY, dir_fd=held)),
	      fails(lambda: os.open("model-00001-of-00008.safetensors", os.O_RDONLY, dir_fd=held)))
	PY
	cat "$W/saw"
	[ "$(cat "$W/saw")" = "ENOENT ENOENT ESTALE ESTALE" ]
	exec {held}<&-
	weightfs unmount "$M"
}

publish >/dev/null
run_each the_same_on_every_mount keep_versions_are_kept what_is_open_stays what_left_is_enoent_and_estale \
	a_pinned_version_stays
finish
