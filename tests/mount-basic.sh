#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-basic.sh - bytes, names and attributes of a mount, through the life of a store
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
SIZE=5000000
mkdir -p "$O" "$M"
publish() { tool-toystore "$S" "$O" "$1" "$2" $SIZE; }
# After a test that failed half-way its mount is still there.
mounted() { unmount_below "$M"; weightfs mount "$S" "$M" -o "cache=$C,poll=200ms${1:+,$1}"; }

test_empty_store_has_no_latest()
{
	tool-toystore "$S" "$O" 1 0 $SIZE
	mounted
	[ ! -e "$M/latest" ] && [ -d "$M/versions" ]
	[ "$(echo "$M"/*)" = "$M/hub $M/versions" ]
	publish 1 1
	[ "$(weightfs wait "$M" --timeout 20)" = 1 ]
	cmp "$M/latest/model.bin" "$O/1"
	weightfs unmount "$M"
}

test_latest_follows()
{
	mounted
	weightfs wait "$M" --timeout 20
	[ "$(stat -c %h "$M/versions")" = 3 ]	# the kernel keeps this, until it is told
	publish 2 2
	weightfs wait "$M" --newer-than 1 --timeout 20
	[ "$(stat -c %h "$M/versions")" = 4 ]
	[ "$(readlink "$M/latest")" = versions/2 ]
	cmp "$M/latest/model.bin" "$O/2"
	weightfs unmount "$M"
}

# A process that looked keeps its version; a new one sees the newest.
test_process_keeps_its_version()
{
	mounted
	python3 - "$M" "$S" "$O" $SIZE <<-'PY'
	import os, subprocess, sys
	m, s, o, size = sys.argv[1:]
	assert os.readlink(m + "/latest") == "versions/2"
	subprocess.check_call(["tool-toystore", s, o, "3", "3", size])
	subprocess.check_call(["weightfs", "wait", m, "--newer-than", "2", "--timeout", "20"])
	assert subprocess.check_output(["readlink", m + "/latest"]) == b"versions/3\n"
	assert os.readlink(m + "/latest") == "versions/2"
	assert open(m + "/latest/model.bin", "rb").read() == open(o + "/2", "rb").read()
	PY
	weightfs unmount "$M"
}

test_linger_ends()
{
	mounted linger=300ms
	weightfs wait "$M" --newer-than 2 --timeout 20
	python3 - "$M" "$S" "$O" $SIZE <<-'PY'
	import os, subprocess, sys, time
	m, s, o, size = sys.argv[1:]
	assert os.readlink(m + "/latest") == "versions/3"
	subprocess.check_call(["tool-toystore", s, o, "4", "4", size])
	subprocess.check_call(["weightfs", "wait", m, "--newer-than", "3", "--timeout", "20"])
	end = time.time() + 20
	while os.readlink(m + "/latest") != "versions/4":
	    assert time.time() < end
	    time.sleep(0.5)
	PY
	weightfs unmount "$M"
}

attributes() { stat -c '%n %i %Y %Z %s %b %a %h' "$M"/versions/4 "$M"/versions/4/model.bin; stat -c %y "$M/versions/4/model.bin"; }

test_attributes_survive_a_remount()
{
	mounted
	weightfs wait "$M" --newer-than 3 --timeout 20
	attributes >"$TMPDIR/before"
	weightfs unmount "$M"
	mounted
	weightfs wait "$M" --newer-than 3 --timeout 20
	attributes >"$TMPDIR/after"
	weightfs unmount "$M"
	cmp "$TMPDIR/before" "$TMPDIR/after"
	grep -q " $SIZE $(((SIZE + 511) / 512)) 444 1$" "$TMPDIR/before"
}

test_every_way_to_read()
{
	rm -rf "$C"
	mounted lazy,ready=manifest
	weightfs wait "$M" --newer-than 3 --timeout 20
	tool-readers "$M/latest/model.bin" "$O/4"
	tool-readers "$M/versions/4/model.bin" "$O/4"
	weightfs unmount "$M"
}

test_nothing_can_be_changed()
{
	mounted
	weightfs wait "$M" --newer-than 3 --timeout 20
	tool-mutate "$M/versions/4" model.bin
	mkdir "$M/x" 2>/dev/null && return 1
	if [ "$(id -u)" = 0 ]; then	# past the kernel's own check it is we who refuse
		mount -i -o remount,rw "$M"
		tool-mutate "$M/versions/4" model.bin | grep -v ^access && return 1
	fi
	weightfs unmount "$M"
}

test_status()
{
	local r=0

	mounted
	weightfs wait "$M" --timeout 20
	weightfs status "$M" >"$TMPDIR/text"
	head -n 1 "$TMPDIR/text" | grep -qx healthy
	grep -q "^ *mount  *$M, weightfs " "$TMPDIR/text"
	grep -Eq '^ *4  [0-9]{4}-[0-9-]+ [0-9:]+ ' "$TMPDIR/text"
	weightfs status "$M" --json | python3 -c 'import json, sys; s = json.load(sys.stdin); assert s["healthy"] and s["newest"] == 4 and s["mount"]["mode"] in ("cached", "passthrough")'
	python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$M/.weightfs/status.json"
	[ "$(cat "$M/.weightfs/version")" = "$(weightfs --version)" ]
	weightfs unmount "$M"
	weightfs status "$M" || r=$?
	[ $r = 3 ]
}

test_wait_times_out()
{
	local r=0

	mounted
	weightfs wait "$M" --newer-than 99 --timeout 0.3 || r=$?
	weightfs unmount "$M"
	[ $r = 4 ]
}

for t in empty_store_has_no_latest latest_follows process_keeps_its_version linger_ends \
	attributes_survive_a_remount every_way_to_read nothing_can_be_changed status wait_times_out; do
	run test_$t
done
finish
