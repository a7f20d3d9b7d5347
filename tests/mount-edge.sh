#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-edge.sh - files become complete while they are opened, mapped and closed thousands of times: nobody gets
# EIO, SIGBUS or other bytes, and the next open after the last close is the kernel's
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
SIZE=7000001 LAST=6 PROCESSES=6 OPENS=${EDGE_OPENS:-500}
mkdir -p "$O" "$M"

cleanup() { unmount_below "$M"; }

field() { weightfs status "$M" --json | jq -r "$1"; }
decided() { [ "$(field .mount.mode_reason)" != "not yet tested" ]; }
closed() { [ "$(field .mount.open_files)" = 0 ]; }
all_complete() { [ "$(field '[.versions[] | .blocks == .blocks_built] | all')" = true ]; }
only_last() { [ "$(field '[.versions[].sequence] | join(" ")')" = $LAST ]; }

start()				# OPTIONS
{
	unmount_below "$M"
	weightfs mount "$S" "$M" -f -o "cache=$C,poll=50ms,ready=manifest,lazy,min_free=1M,passthrough=on,$1" \
		2>"$TMPDIR/log" &
	daemon=$!
	until_true 20 weightfs wait "$M" --timeout 20 >/dev/null 2>&1 || { cat "$TMPDIR/log"; return 1; }
	until_true 20 decided
}
stop()
{
	weightfs unmount "$M"
	wait $daemon
	refute grep -E 'Sanitizer|runtime error|failed reads|: read versions' "$TMPDIR/log"
}

hammer() { tool-edge "$M/versions" "$O" $LAST $PROCESSES "$OPENS" "$1"; }

# Each file is complete now and nobody has it open: reading all of it costs the daemon no read.
kernel_reads()
{
	local before v

	until_true 20 closed
	for v in "$M"/versions/*; do
		cmp "$v/model.bin" "$O/${v##*/}"
	done
	until_true 20 all_complete
	until_true 20 closed
	before=$(field .reads)
	for v in "$M"/versions/*; do
		dd if="$v/model.bin" iflag=direct bs=1M status=none | cmp - "$O/${v##*/}"
	done
	[ "$(field .reads)" = "$before" ] || fail "the daemon read: $before, then $(field .reads); $(field "[.versions[] | [.sequence,.complete,.blocks,.blocks_built]]")"
}

# Versions come one after the other while the hammer is at work.
test_versions_become_complete()
{
	local i reader

	tool-toystore "$TMPDIR/other" "$O" 1 $LAST $SIZE	# plain files first
	tool-toystore "$S" "$O" 1 1 $SIZE
	start keep_versions=99
	hammer 1 &
	reader=$!
	for i in $(seq 2 $LAST); do
		tool-toystore "$S" "$O" "$i" "$i" $SIZE
		weightfs wait "$M" --newer-than $((i - 1)) --timeout 20 >/dev/null
	done
	wait $reader
	hammer 2
	kernel_reads
	stop
}

# The images are gone: they are built again below the hammer.
test_built_again()
{
	rm -r "$C"/images/*
	start keep_versions=99
	[ "$(field '[.versions[].sequence] | join(" ")')" = "$(seq -s ' ' $LAST)" ]
	[ "$(field '[.versions[].blocks_built] | add')" = 0 ]
	hammer 3
	kernel_reads
	stop
}

attr() { python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], "user.weightfs." + sys.argv[2]).decode())' "$M/versions/1/model.bin" "$1"; }
mode_is() { [ "$(attr mode)" = "$1" ]; }

# What it says of itself: cached as long as it is open since before it was complete.
test_attributes()
{
	rm -r "$C"/images/*
	start keep_versions=99
	mode_is cached
	exec 7<"$M/versions/1/model.bin"
	cmp "$M/versions/1/model.bin" "$O/1"
	until_true 20 all_of_1
	mode_is cached
	exec 7<&-
	until_true 20 mode_is passthrough
	exec 7<"$M/versions/1/model.bin"
	mode_is passthrough
	exec 7<&-
	[ "$(attr version)" = 1 ]
	attr digest | grep -Eqx '(sha256|table):[0-9a-f]{64}'
	python3 - "$M" <<-'PY'
	import errno, os, sys
	names = ["user.weightfs." + n for n in ("version", "digest", "mode")]
	assert os.listxattr(sys.argv[1] + "/versions/1/model.bin") == names
	for path in ("", "/latest", "/versions/1", "/.weightfs/status.json"):
	    assert os.listxattr(sys.argv[1] + path) == []
	    try:
	        os.getxattr(sys.argv[1] + path, names[0])
	        raise SystemExit(path + " has a version")
	    except OSError as e:
	        assert e.errno == errno.ENODATA
	for change in (lambda p: os.setxattr(p, names[0], b"2"), lambda p: os.removexattr(p, names[0])):
	    try:
	        change(sys.argv[1] + "/versions/1/model.bin")
	        raise SystemExit("changed")
	    except OSError as e:
	        assert e.errno == errno.EROFS
	PY
	stop
}
all_of_1() { [ "$(field '.versions[] | select(.sequence == 1) | .blocks == .blocks_built')" = true ]; }

# Old versions leave the mount while they are hammered.
test_versions_leave()
{
	start keep_versions=0,linger=0s
	hammer 4
	until_true 20 only_last
	kernel_reads
	stop
}

if [ "$(id -u)" != 0 ] || [ ! -e /dev/fuse ]; then
	skip mount-edge "needs root"
	finish
fi
for t in versions_become_complete built_again attributes versions_leave; do
	run test_$t
done
finish
