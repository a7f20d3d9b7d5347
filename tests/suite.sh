# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# suite.sh - what a shell suite (tests/AREA-NAME.sh) begins with
#
#	. "$(dirname "$0")/suite.sh"
#	test_reads_equal() { cmp a b; }
#	run test_reads_equal
#	finish
#
# A test is a function: it passes when it returns 0, and runs under set -e in a subshell.  So it
# cannot change the suite's variables; set up what tests share outside of them.  tests/run sets BUILD and a
# TMPDIR of the suite's own; a suite started by hand uses build-test and makes its own.
# Whatever is mounted below TMPDIR is unmounted at exit.

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$SOURCE/build-test}
TESTS=$SOURCE/tests
PATH=$BUILD:$PATH:/usr/sbin:/sbin
if [ -z "${WFS_SUITE:-}" ]; then
	TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/weightfs-suite.XXXXXX")
	suite_owns_tmp=1
fi
export SOURCE BUILD TESTS PATH TMPDIR
suite_passed=0 suite_failed=0 suite_skipped=0

# Mount points below a directory, the innermost first.
mounts_below()
{
	awk -v top="$1/" 'index($5 "/", top) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

unmount_below()
{
	local m

	mounts_below "$1" | while read -r m; do
		fusermount3 -uz -- "$m" 2>/dev/null || umount -l -- "$m"
	done
}

suite_end()
{
	local status=$?

	[ "$(type -t cleanup)" = function ] && cleanup
	unmount_below "$TMPDIR"
	[ -n "${suite_owns_tmp:-}" ] && rm -rf "$TMPDIR"
	exit $status
}
trap suite_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run()
{
	set +e			# in a condition bash would ignore the subshell's set -e
	(
		SERVER_PIDS='' SERVER_WORKS=''	# servers.sh: a test's own servers end with it
		trap 'if [ "$(type -t stop_servers)" = function ]; then stop_servers; fi' EXIT
		set -e
		"$@"
	)
	# shellcheck disable=SC2181
	if [ $? -eq 0 ]; then
		suite_passed=$((suite_passed + 1))
		echo "ok $*"
	else
		suite_failed=$((suite_failed + 1))
		echo "FAILED $*"
	fi
}

# skip NAME REASON...
skip()
{
	suite_skipped=$((suite_skipped + 1))
	echo "skip $1: ${*:2}"
}

# Under set -e a plain "! command" never fails a test.
refute() { if "$@"; then return 1; fi; }

# Say why, and fail the test.
fail()
{
	echo "$*" >&2
	return 1
}

# until_true SECONDS COMMAND...: poll a condition, for what has no event to wait for
until_true()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

finish()
{
	if [ $suite_skipped -gt 0 ]; then
		echo "$suite_passed passed, $suite_failed failed, $suite_skipped skipped"
	else
		echo "$suite_passed passed, $suite_failed failed"
	fi
	[ $suite_failed -eq 0 ]
	exit
}
