#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 240
# may-skip: only root can be several users
#
# hostile-callers.sh - local users who may ask, and would like to be in the way of others
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/hooks.sh"

# A crowd of connections that listen; crowd UID N
crowd()
{
	local out

	out=$TMPDIR/crowd.$1
	: >"$out"
	setpriv --reuid "$1" --regid "$1" --clear-groups /usr/bin/python3 -c "$(cat "$TESTS/crowd.py")" "$SOCK" "$2" \
		'events 999999' >"$out" & crowds+=($!)
	until_true 30 test -s "$out"
}
crowds=()
disperse() { kill "${crowds[@]}"; wait "${crowds[@]}" 2>/dev/null || true; crowds=(); }
control_socket() { socket_of "$(weightfs status "$M" --json | jq .mount.pid)"; }

# Two users take all connections that they can: the owner, root and a third user are served all the same.
test_connections_keep_nobody_out()
{
	fresh
	SOCK=$(control_socket)
	crowd 65531 600
	[ "$(head -n 1 "$TMPDIR/crowd.65531")" = "344 refused, 256 kept" ]
	setpriv --reuid 65532 --regid 65532 --clear-groups "$BUILD/weightfs" wait "$M" --timeout 5
	crowd 65532 600
	[ "$(head -n 1 "$TMPDIR/crowd.65532")" = "472 refused, 128 kept" ]
	weightfs status "$M" >/dev/null
	conf_true
	start_hooks
	for i in $(seq 20); do
		weightfs events "$M" >"$TMPDIR/heard.$i" & crowds+=($!)
	done
	publish
	shown 2
	until_true 20 hook_is engine told 2
	for i in $(seq 20); do
		until_true 20 grep -q '^2 ' "$TMPDIR/heard.$i"
	done
	if setpriv --reuid 65533 --regid 65533 --clear-groups "$BUILD/weightfs" wait "$M" 2>"$TMPDIR/err"; then
		fail "there was room left"
	fi
	grep -q 'too many connections' "$TMPDIR/err"
	disperse
	setpriv --reuid 65533 --regid 65533 --clear-groups "$BUILD/weightfs" wait "$M" --timeout 5
}
conf_true() { printf '[hook "engine"]\nmount = %s\ncommand = /bin/true\n' "$M" >"$CONF"; }

# The owner itself has filled the socket: hooks ask again until they are heard.
test_hooks_outlive_a_refusal()
{
	fresh
	SOCK=$(control_socket)
	printf '#!/bin/sh\nwhile [ ! -e %s ]; do sleep 0.05; done\n' "$TMPDIR/go" >"$TMPDIR/program"
	chmod +x "$TMPDIR/program"
	printf '[hook "engine"]\nmount = %s\ncommand = %s\n' "$M" "$TMPDIR/program" >"$CONF"
	start_hooks
	until_true 20 hook_is engine telling 0
	crowd 0 512
	until_true 20 grep -q '447 kept' "$TMPDIR/crowd.0"		# all there are, beside the one of hooks
	touch "$TMPDIR/go"
	until_true 20 grep -q 'asking again: .*too many' "$TMPDIR/hooks.log"
	disperse
	publish
	until_true 30 hook_is engine told 2
	kill -0 "$hooks_pid"
	weightfs unmount "$M"
	wait "$hooks_pid"
	hooks_pid=''
}

# Lines without end, lines that never come, and a listener who talks: nothing is kept, and nobody waits.
test_talkers_delay_nobody()
{
	fresh
	SOCK=$(control_socket)
	python3 - "$SOCK" "$M" <<-'PY'
	import socket, subprocess, sys, time
	def connect(text=b""):
	    s = socket.socket(socket.AF_UNIX)
	    s.connect(sys.argv[1])
	    s.sendall(text)
	    return s
	def pour(s, limit):
	    """How much is taken until the other end closes, or takes nothing for a second."""
	    s.settimeout(1)
	    n = 0
	    try:
	        while n < limit:
	            n += s.send(b"x" * 65536)
	    except OSError:
	        pass
	    return n
	begin = time.monotonic()
	quiet, slow = connect(), connect(b"sta")
	assert pour(connect(), 100 << 20) < 4 << 20, "a line without an end is read on"
	listener = connect(b"events 999999\n")
	assert pour(listener, 100 << 20) < 4 << 20, "what a listener says is read"
	while True:
	    subprocess.run(["weightfs", "status", sys.argv[2]], check=True, stdout=subprocess.DEVNULL, timeout=5)
	    try:
	        slow.send(b"t")
	    except BrokenPipeError:
	        break
	    assert time.monotonic() - begin < 25, "a line may take for ever"
	    time.sleep(1)
	quiet.settimeout(10)
	assert quiet.recv(1) == b""
	PY
}

if [ "$(id -u)" -eq 0 ]; then
	run test_connections_keep_nobody_out
else
	skip connections_keep_nobody_out "not root"
fi
run test_hooks_outlive_a_refusal
run test_talkers_delay_nobody
finish
