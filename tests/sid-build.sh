#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# sid-build.sh - the project in Debian sid: newest compiler, libfuse and libcurl; unit tests, a mount that
# follows a publish, and passthrough by libfuse's own calls
#
# timeout: 1800
# may-skip: the chroot needs root, Debian's packages and disk
. "$(dirname "$0")/suite.sh"
set -u

chroot=${WFS_TEST_CACHE:-/var/cache/weightfs-tests}/sid
if ! "$TESTS/loaders/sid-chroot" "$chroot" >"$TMPDIR/chroot.log" 2>&1; then
	skip sid-build "$(tail -n 1 "$TMPDIR/chroot.log")"
	finish
fi
mkdir "$TMPDIR/out"

inside()
{
	"$TESTS/loaders/enter-chroot" "$chroot" "$SOURCE:/mnt/src" "$TMPDIR/out:/mnt/out" -- "$@"
}

test_builds()
{
	inside sh -c 'cmake -S /mnt/src -B /mnt/out -G Ninja && ninja -C /mnt/out' >"$TMPDIR/build.log" 2>&1 ||
		{ tail -n 40 "$TMPDIR/build.log"; return 1; }
	grep 'warning:' "$TMPDIR/build.log" | sort -u	# for people: a new compiler's warning is no failure
	[ -x "$TMPDIR/out/weightfs" ] && [ -x "$TMPDIR/out/weightsync" ]
}

test_unit_tests_pass()
{
	inside sh -c 'for t in /mnt/out/tests/test-*; do
		[ -f "$t" ] || continue
		timeout 300 "$t" >/tmp/log 2>&1 || { echo "$t"; tail -n 20 /tmp/log; exit 1; }
	done'
}

test_mount_follows_a_publish()
{
	# shellcheck disable=SC2016 # for the inner shell
	inside bash -c '
	set -e
	PATH=/mnt/out:$PATH
	make() { python3 /mnt/src/tests/loaders/mkllama.py /tmp/step$1 5 $1; }
	equal() { diff -r /tmp/step$1 /tmp/mnt/versions/$1; }
	trap "weightfs unmount --lazy /tmp/mnt || true" EXIT
	make 1; make 2; mkdir /tmp/mnt
	weightsync publish /tmp/step1 /tmp/store --cache /tmp/publish
	weightfs mount /tmp/store /tmp/mnt -o cache=/tmp/cache
	weightfs wait /tmp/mnt --timeout 60
	equal 1
	weightsync publish /tmp/step2 /tmp/store --cache /tmp/publish
	weightfs wait /tmp/mnt --newer-than 1 --timeout 60
	equal 2; equal 1
	[ "$(readlink /tmp/mnt/latest)" = versions/2 ]
	weightfs unmount /tmp/mnt
	trap - EXIT'
}

# Debian 12's libfuse has no passthrough and is helped; from 3.17 on the calls are its own.
test_passthrough_by_libfuse()
{
	inside pkg-config --atleast-version=3.17 fuse3
	inside env BUILD=/mnt/out bash /mnt/src/tests/mount-passthrough.sh >"$TMPDIR/passthrough.log" 2>&1 ||
		{ tail -n 40 "$TMPDIR/passthrough.log"; return 1; }
	grep '^skip' "$TMPDIR/passthrough.log" || true
	grep -qx 'ok test_native' "$TMPDIR/passthrough.log"
}

run test_builds
run test_unit_tests_pass
run test_mount_follows_a_publish
run test_passthrough_by_libfuse
finish
