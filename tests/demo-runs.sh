#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo-runs.sh - packaging/demo works and leaves nothing; what it shows wrong is an exit status
. "$(dirname "$0")/suite.sh"
set -u

export WFS_DEMO_BUILD=$TMPDIR/build

# The suite's own word is in every process' environment: tests/run looks for what is left running.
test_demo_runs_and_leaves_nothing()
{
	mkdir "$TMPDIR/tmp"
	TMPDIR=$TMPDIR/tmp "$SOURCE/packaging/demo" >"$TMPDIR/log" 2>&1 || { tail -n 40 "$TMPDIR/log"; return 1; }
	grep -q 'bytes came from the store' "$TMPDIR/log"
	grep -q 'SHA-256' "$TMPDIR/log"
	grep -q 'latest -> versions/3' "$TMPDIR/log"
	[ -z "$(ls "$TMPDIR/tmp")" ] || fail "left behind: $(ls "$TMPDIR/tmp")"
	[ -z "$(mounts_below "$TMPDIR/tmp")" ]
}

# A mount that shows anything else than the trainer's bytes must not pass.
test_demo_notices_a_difference()
{
	mkdir -p "$TMPDIR/tmp" "$TMPDIR/bin"
	printf '#!/bin/sh\nexit 1\n' >"$TMPDIR/bin/diff"
	chmod +x "$TMPDIR/bin/diff"
	if env TMPDIR="$TMPDIR/tmp" PATH="$TMPDIR/bin:$PATH" "$SOURCE/packaging/demo" >"$TMPDIR/log" 2>&1; then
		fail "the demo passed"
	fi
	grep -q 'differs from what the trainer wrote' "$TMPDIR/log"
	[ -z "$(ls "$TMPDIR/tmp")" ] || fail "left behind: $(ls "$TMPDIR/tmp")"
}

run test_demo_runs_and_leaves_nothing
run test_demo_notices_a_difference
finish
