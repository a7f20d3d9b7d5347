# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# flips.sh - a store whose versions tell themselves apart, and a mount of it; sourced after suite.sh
#
# A suite's shell never looks through $M/latest itself: all that it starts would be bound with it.
PATH=$BUILD/tests:$PATH
S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache L=$TMPDIR/list W=$TMPDIR/work
mkdir -p "$M"
: >"$L"

publish()			# the next version; prints its number
{
	local v

	v=$(($(tail -n 1 "$L" | cut -d' ' -f1) + 1))
	tool-flip make "$TMPDIR/ckpt" "$v"
	tool-flip list "$TMPDIR/ckpt" "$v" >>"$L"
	weightsync publish "$TMPDIR/ckpt" "$S" --cache "$TMPDIR/pc" --quiet >/dev/null
	echo "$v"
}

is_newest() { [ "$(jq .newest <<<"$(weightfs status "$1" --json)")" = "$2" ]; }
# Publish, and return when it is shown.  Not with `wait`, which is a rule of its own.
flip()
{
	local v

	v=$(publish)
	until_true 60 is_newest "$M" "$v"
	echo "$v"
}

mounted()			# [OPTIONS]; sets v, the newest version
{
	unmount_below "$TMPDIR"		# of a test that failed
	rm -rf "$C" "$W"
	mkdir "$W"
	weightfs mount "$S" "$M" -o "cache=$C,min_free=0,poll=200ms${1:+,$1}"
	v=$(flip)
}

# A command in a job of its own: it leads a session on a terminal.
alone() { script -qec "$*" /dev/null </dev/null | tr -d '\r'; }

# A script in a job of its own says that it is ready, waits for $W/flipped, and prints ok.
ok_across_a_flip()		# SCRIPT
{
	alone "python3 $1" >"$W/out" &
	until_true 30 test -e "$W/ready"
	flip >/dev/null
	touch "$W/flipped"
	wait $!
	cat "$W/out"
	[ "$(cat "$W/out")" = ok ]
}

shows() { [ -e "$M/versions/$1" ]; }	# VERSION
lines() { [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }

# Run these tests, or with ONLY=PATTERN in the environment those of them that match it.
run_each()			# NAME..., without test_
{
	local t

	for t in "$@"; do
		[ -n "${ONLY:-}" ] && [[ ! $t =~ $ONLY ]] && continue
		run "test_$t"
	done
}
