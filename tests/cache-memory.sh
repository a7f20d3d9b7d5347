#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cache-memory.sh - a cache on tmpfs: versions follow each other in memory, within its size; and a cache on a
# disk: what the mount's pages hold does not stay in memory a second time where there is little
# may-skip: a tmpfs of its own, and another /proc/meminfo, need root
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt T=$TMPDIR/memory
SIZE=9000000
mkdir -p "$O" "$M" "$T"
publish() { tool-toystore "$S" "$O" "$1" "$2" $SIZE; }
is_there() { weightfs status "$M" --json | jq -e ".versions[] | select(.sequence == $1) | .complete" >/dev/null; }

# Room for two versions and a half: the third has to push the first out.
test_versions_follow_each_other_in_memory()
{
	local v

	publish 1 0
	mount -t tmpfs -o size=24M,mode=700 tmpfs "$T"
	weightfs mount "$S" "$M" -o "cache=$T/cache,poll=200ms,min_free=0,keep_versions=0"
	for v in 1 2 3 4; do
		publish $v $v
		weightfs wait "$M" --newer-than $((v - 1)) --timeout 30
		until_true 20 is_there $v
		cmp "$M/versions/$v/model.bin" "$O/$v"
	done
	[ "$(df --output=used -k "$T" | tail -n 1)" -le 24576 ]
	weightfs unmount "$M"
	# It is there again at once: nothing of it was on a disk, and nothing is fetched twice.
	mv "$S" "$S.away"
	mkdir "$S"
	cp "$S.away/weightfs-store" "$S"
	weightfs mount "$S" "$M" -o "cache=$T/cache,poll=1h,min_free=0"
	cmp "$M/versions/4/model.bin" "$O/4"
	weightfs unmount "$M"
}

# Bytes of the only image that are in memory.
in_memory() { fincore -bnro res "$TMPDIR"/disk/images/*/data; }

# Read through the daemon, the image's pages all in memory before; the bytes of it that are afterwards.
resident_after_a_read()
{
	weightfs mount "$S" "$M" -o "cache=$TMPDIR/disk,poll=1h,ready=complete,min_free=1M,passthrough=off"
	weightfs wait "$M" --timeout 60
	until_true 60 is_there 1
	sync -f "$TMPDIR/disk"		# dirty pages do not go
	cat "$TMPDIR"/disk/images/*/data >/dev/null
	[ "$(in_memory)" -ge $SIZE ]
	cmp "$M/versions/1/model.bin" "$O/1"
	in_memory >"$TMPDIR/resident"
	cmp "$M/versions/1/model.bin" "$O/1"
	weightfs unmount "$M"
}

test_image_pages_go_when_memory_is_short()
{
	SIZE=40000001
	rm -rf "$S" "$O"
	mkdir -p "$O"
	publish 1 1
	resident_after_a_read
	[ "$(cat "$TMPDIR/resident")" -ge $SIZE ]	# four times it is in this machine's memory
	# 100 MB are not four times the version
	printf 'MemTotal: 200000 kB\nMemFree: 1000 kB\nMemAvailable: 100000 kB\n' >"$TMPDIR/meminfo"
	chmod 644 "$TMPDIR/meminfo"
	mount --bind "$TMPDIR/meminfo" /proc/meminfo	# in a namespace of ours, see below
	resident_after_a_read
	[ "$(cat "$TMPDIR/resident")" -lt 1000000 ] || fail "$(cat "$TMPDIR/resident") bytes are in memory twice"
}

if [ "${1:-}" = short ]; then
	run test_image_pages_go_when_memory_is_short
	finish
fi

if [ "$(id -u)" = 0 ]; then
	run test_versions_follow_each_other_in_memory
	if [ "$(stat -f -c %T "$TMPDIR")" = tmpfs ]; then
		skip test_image_pages_go_when_memory_is_short "the pages of a tmpfs are the file"
	else
		run "$TESTS/apart" -- bash "$TESTS/cache-memory.sh" short
	fi
else
	skip test_versions_follow_each_other_in_memory "needs root to mount a tmpfs"
fi
finish
