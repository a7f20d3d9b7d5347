#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cross-aarch64.sh - the project for 64-bit ARM: builds without a warning, and its unit tests and
# corpus replays pass under qemu-user
#
# timeout: 1200
. "$(dirname "$0")/suite.sh"
set -u

cache=${WFS_TEST_CACHE:-/var/cache/weightfs-tests}
mkdir -p "$cache" 2>/dev/null || cache=$TMPDIR
sysroot=$cache/aarch64-sysroot
out=$TMPDIR/aarch64

for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
	if ! command -v $tool >/dev/null; then
		skip cross-aarch64 "no $tool"
		finish
	fi
done
if ! "$SOURCE/packaging/aarch64-sysroot" "$sysroot" >"$TMPDIR/sysroot.log" 2>&1; then
	skip cross-aarch64 "no arm64 libraries: $(tail -n 1 "$TMPDIR/sysroot.log")"
	finish
fi

test_builds_without_a_warning()
{
	cmake -S "$SOURCE" -B "$out" -G Ninja --toolchain "$SOURCE/packaging/aarch64.cmake" \
		-DWFS_SYSROOT="$sysroot" -DWFS_WERROR=ON >"$TMPDIR/log" && ninja -C "$out" >>"$TMPDIR/log" ||
		{ tail -n 40 "$TMPDIR/log"; return 1; }
	file_of "$out/weightfs" && file_of "$out/weightsync"
}

file_of()
{
	readelf -hW "$1" | grep -q 'Machine: *AArch64'
}

test_program()
{
	local name=${1##*/} corpus=()

	case $name in fuzz-*) corpus=("$TESTS/corpus/${name#fuzz-}"/*) ;; esac
	timeout 300 qemu-aarch64 -L "$sysroot" "$1" ${corpus[@]+"${corpus[@]}"} >"$TMPDIR/$name.log" 2>&1 ||
		{ tail -n 20 "$TMPDIR/$name.log"; return 1; }
}

run test_builds_without_a_warning
for program in "$out"/tests/test-* "$out"/tests/fuzz-*; do
	if [ -f "$program" ] && [ -x "$program" ]; then
		run test_program "$program"
	fi
done
finish
