#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cache-memory.sh - a cache on tmpfs: versions follow each other in memory, within its size
# may-skip: a tmpfs of its own needs root
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

if [ "$(id -u)" = 0 ]; then
	run test_versions_follow_each_other_in_memory
else
	skip test_versions_follow_each_other_in_memory "needs root to mount a tmpfs"
fi
finish
