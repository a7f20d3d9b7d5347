#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# format-delta2.sh - what weightfs-format(5) says of codec delta2 is enough to write a decoder:
# delta2.py was written from it, and reads what the C code writes
. "$(dirname "$0")/suite.sh"
set -u

# All of them, some with integers that hold 4-bit units.
decode()
{
	local said

	said=$(python3 "$TESTS/delta2.py" "$@") || return 1
	echo "$said"
	[[ $said =~ ^$#\ cases,\ [1-9][0-9]*\ packed\ sections$ ]]
}

test_golden_objects()
{
	decode "$TESTS"/golden/delta2/*
}

test_random_objects()
{
	local seed=$((RANDOM * 32768 + RANDOM + 1))

	echo "seed $seed"
	mkdir "$TMPDIR/cases"
	"$BUILD/tests/tool-delta2" "$TMPDIR/cases" $seed 300
	decode "$TMPDIR"/cases/*
}

# The page's example is the one that test-delta decodes.
test_example_on_the_page()
{
	local page test

	page=$(sed -n '/^03 .*sparse$/,/^68 /p' "$SOURCE/man/weightfs-format.5" | sed 's/   .*//' | tr -s '\n' ' ')
	test=$(sed -n 's/^static const uint8_t example\[\] = { \(.*\) };/\1/p' "$TESTS/test-delta.c" | sed 's/0x//g; s/,//g')
	[ -n "$test" ] && [ "${page% }" = "$test" ]
}

run test_golden_objects
run test_random_objects
run test_example_on_the_page
finish
