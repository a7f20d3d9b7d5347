#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cache-evict.sh - a cache barely larger than one version, readers that hold mappings, pins
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache CK=$TMPDIR/ckpt
LAST=7
MIB=1048576
mkdir -p "$M" "$CK"

# Four shards of 4 MiB; each version changes one of them.
"$TESTS/mkmodel.py" make "$CK/1" --shards 4 --tensors 8 --mib 16 --seed 1
for i in $(seq 2 $LAST); do
	"$TESTS/mkmodel.py" step "$CK/$((i - 1))" "$TMPDIR/stepped" --seed "$i" --percent 3
	cp -r "$CK/$((i - 1))" "$CK/$i"
	shard=$(printf 'model-%05d-of-00004.safetensors' $((i % 4 + 1)))
	cp "$TMPDIR/stepped/$shard" "$CK/$i/"
	rm -r "$TMPDIR/stepped"
done

publish() { weightsync publish "$CK/$1" "$S" --cache "$TMPDIR/pc" --quiet >/dev/null; }
cache() { weightfs status "$M" --json | jq ".cache.$1"; }
shown() { [ -e "$M/versions/$1" ]; }
gone() { ! shown "$1"; }
complete() { weightfs status "$M" --json | jq -e ".versions[] | select(.sequence == $1) | .complete" >/dev/null; }
problem() { weightfs status "$M" --json | jq -r .problem; }
stuck() { problem | grep -q 'does not fit'; }
not_stuck() { ! stuck; }

# OPTIONS...: version 1, complete, in a cache of 22 MiB
begin()
{
	unmount_below "$M"
	rm -rf "$S" "$TMPDIR/pc"
	[ -n "${KEEP_CACHE:-}" ] || rm -rf "$C"
	publish 1
	mount_it "$@"
	until_true 30 complete 1
}

mount_it() { weightfs mount "$S" "$M" -o "cache=$C,poll=100ms,linger=1s,keep_versions=0,min_free=1M${1:+,$1}"; }

# Hold a mapping of FILE, which is PLAIN; say CHECK or unmap with tell.
hold()
{
	coproc HOLDER { exec tool-holder "$1" "$2"; }
	hear mapped
}
hear() { local line; read -r -t 20 line <&"${HOLDER[0]}" && [ "$line" = "$1" ] || fail "heard ${line:-nothing}, not $1"; }
tell() { echo "$1" >&"${HOLDER[1]}"; hear "$2"; }

shard_of() { printf '%s/model-%05d-of-00004.safetensors' "$1" "$2"; }

# The image in the cache that is FILE.
image_of() { local f; for f in "$C"/images/*/data; do cmp -s "$f" "$1" && echo "$f" && return; done; return 1; }

test_versions_share_what_did_not_change()
{
	local i reader

	begin "cache_size=22M,linger=30s"
	(
		while [ ! -e "$TMPDIR/enough" ]; do
			# one process, bound as long as it lives
			bash -c 'cd -P "$1" && diff -r "$2/${PWD##*/}" .' - "$M/latest" "$CK" || exit 1
		done
	) &
	reader=$!
	for i in $(seq 2 $LAST); do
		publish "$i"
		[ "$(weightfs wait "$M" --newer-than $((i - 1)) --timeout 60)" = "$i" ]
		[ "$(cache used)" -le $((22 * MIB)) ]
	done
	: >"$TMPDIR/enough"
	wait $reader
	until_true 30 gone $((LAST - 2))
	diff -r "$CK/$LAST" "$M/latest/"
	weightfs unmount "$M"
}

# A mapping through the mount, its descriptor closed: the version stays, and goes after it.
test_a_mapped_version_stays()
{
	begin "cache_size=22M"
	hold "$(shard_of "$M/versions/1" 3)" "$(shard_of "$CK/1" 3)"
	publish 2
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	shown 1
	publish 3			# shard 4 changes: the third copy of 4 MiB beside 16
	until_true 30 stuck
	problem | grep -q 'end what uses version 1'
	weightfs status "$M" | grep -q '^ *1 .* in use '
	problem | grep -Eq 'cache_size=[0-9]+M or more'
	shown 1
	tell check same
	diff -r "$CK/2" "$M/latest/"
	tell unmap unmapped
	[ "$(weightfs wait "$M" --newer-than 2 --timeout 30)" = 3 ]
	until_true 30 gone 1
	until_true 30 not_stuck
	diff -r "$CK/3" "$M/latest/"
	weightfs unmount "$M"
}

# The same for a mapping of the image itself, as passthrough and serve=link make them: no reference of
# ours says that it is there.
test_a_lease_says_what_is_mapped()
{
	begin "cache_size=22M"
	[ "$(cache leases)" = true ]
	hold "$(image_of "$(shard_of "$CK/1" 3)")" "$(shard_of "$CK/1" 3)"
	publish 2			# shard 3 changes
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	publish 3
	until_true 30 stuck
	shown 1
	weightfs status "$M" --json | jq -e '.versions[] | select(.sequence == 1) | .in_use' >/dev/null
	tell check same
	tell unmap unmapped
	[ "$(weightfs wait "$M" --newer-than 2 --timeout 30)" = 3 ]
	until_true 30 gone 1
	weightfs unmount "$M"
}

# An image in use whose version is gone (here: the cache's record of it was lost) is counted until it is free.
test_an_orphan_in_use_is_counted()
{
	local image

	begin
	publish 2
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	image=$(image_of "$(shard_of "$CK/2" 3)")
	hold "$image" "$(shard_of "$CK/2" 3)"
	weightfs unmount "$M"
	rm "$C/versions/2"
	rm "$S/commits/2"			# nor does the store have it
	rm "$C/state"
	rm -rf "$TMPDIR/pc"
	publish 1
	cp "$S/commits/1" "$S/latest" 2>/dev/null || true
	mount_it
	until_true 30 held_at_least $((3 * MIB))
	weightfs status "$M" | grep -q '^  held  .*by readers, of images that no version has'
	[ -e "$image" ]
	tell check same
	tell unmap unmapped
	weightfs unmount "$M"
	mount_it
	until_true 30 test ! -e "$image"
	weightfs unmount "$M"
}
held_at_least() { [ "$(cache held)" -ge "$1" ]; }

test_pin_and_unpin()
{
	local r

	begin "cache_size=22M"
	weightfs pin "$M" 1
	weightfs pin "$M" 1
	[ "$(cache pinned | jq -c .)" = "[1]" ]
	weightfs status "$M" | grep -q '^ *1 .* pinned '
	publish 2
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	publish 3
	until_true 30 stuck
	problem | grep -q 'weightfs unpin 1 ('
	weightfs unmount "$M"
	mount_it "cache_size=22M"		# it is remembered
	[ "$(cache pinned | jq -c .)" = "[1]" ]
	until_true 30 stuck
	diff -r "$CK/1" "$M/versions/1"
	r=0; weightfs pin "$M" 9 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ]
	grep -q 'version 9 is not shown here' "$TMPDIR/err"
	r=0; weightfs unpin "$M" 2 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ]
	grep -q 'version 2 is not pinned here' "$TMPDIR/err"
	for bad in 0 -1 x 1x ''; do
		r=0; weightfs pin "$M" "$bad" 2>/dev/null || r=$?
		[ $r = 2 ]
	done
	weightfs unpin "$M" 1
	[ "$(weightfs wait "$M" --newer-than 2 --timeout 30)" = 3 ]
	until_true 30 gone 1
	weightfs unmount "$M"
}

# What would have to be free is counted from what is.
test_min_free_beyond_the_disk()
{
	local free says

	unmount_below "$M"
	rm -rf "$S" "$TMPDIR/pc" "$C"
	publish 1
	mount_it min_free=10T
	until_true 30 stuck
	free=$(df --output=avail -B1M "$C" | tail -1)
	says=$(problem | sed -n 's/.*or free \([0-9]*\)M on the disk.*/\1/p')
	[ $((says + free)) -ge 10485760 ] && [ $((says + free)) -lt 10487760 ] || fail "$free M are free; $(problem)"
	problem | grep -q 'min_free=10485760M stays free'
	refute eval 'problem | grep -q "old one"'
	weightfs unmount "$M"
	begin
	weightfs unmount "$M"
	publish 2
	mount_it min_free=10T
	until_true 30 stuck
	problem | grep -q 'version 2 does not fit, the old one stays'
	diff -r "$CK/1" "$M/latest/"
	weightfs unmount "$M"
}

for t in versions_share_what_did_not_change a_mapped_version_stays a_lease_says_what_is_mapped \
	 an_orphan_in_use_is_counted pin_and_unpin min_free_beyond_the_disk; do
	run test_$t
done
finish
