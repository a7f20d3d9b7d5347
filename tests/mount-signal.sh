#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-signal.sh - ends: signals, kills and unmounts, with the network stalled
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache STALL=$TMPDIR/stall
mkdir -p "$O" "$M"
tool-toystore "$S" "$O" 1 1 40000000

# A file server that says nothing more about packs while $STALL is there.
cat >"$TMPDIR/server.py" <<'PY'
import functools, http.server, os, sys, time
root, stall = sys.argv[1:3]
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        while self.path.startswith("/packs") and os.path.exists(stall):
            time.sleep(0.1)
        super().do_GET()
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root))
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
PY
python3 "$TMPDIR/server.py" "$S" "$STALL" >"$TMPDIR/port" 2>"$TMPDIR/server.log" &
server=$!
cleanup() { kill $server 2>/dev/null; }
until_true 10 test -s "$TMPDIR/port"
URL=http://127.0.0.1:$(cat "$TMPDIR/port")

stalled_mount()
{
	unmount_below "$M"
	rm -rf "$C"
	: >"$STALL"
	weightfs mount "$URL" "$M" -o "cache=$C,ready=manifest,lazy,poll=1h"
	weightfs wait "$M" --timeout 20 >"$TMPDIR/newest"
	pid=$(weightfs status "$M" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mount"]["pid"])')
}

waiting_reads() { weightfs status "$M" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mount"]["waiting_reads"])'; }
# waiting N: at least so many
waiting() { [ "$(waiting_reads)" -ge "$1" ]; }
# Gone, or a zombie that its parent has not collected.
ended() { ! grep -q '^State:	[^Z]' "/proc/$1/status" 2>/dev/null; }

signal_ends()			# SIGNAL
{
	local start=$SECONDS reader

	stalled_mount
	cat "$M/latest/model.bin" >"$TMPDIR/out" 2>&1 &
	reader=$!
	until_true 10 waiting 1
	kill -"$1" "$pid"
	until_true 5 ended "$pid"
	refute mountpoint -q "$M"
	until_true 5 ended $reader
	[ $((SECONDS - start)) -le 25 ]
}

test_readers_that_wait_can_be_killed()
{
	local readers=() i p

	stalled_mount
	for i in $(seq 100); do
		if [ $((i % 2)) = 0 ]; then
			dd if="$M/latest/model.bin" of=/dev/null bs=64k skip=$((i * 5)) count=1 iflag=direct 2>/dev/null &
		else
			dd if="$M/latest/model.bin" of=/dev/null bs=64k skip=$((i * 5)) count=1 2>/dev/null &
		fi
		readers+=($!)
		disown			# no message for each
	done
	until_true 20 waiting 50
	kill -KILL "${readers[@]}"
	for p in "${readers[@]}"; do
		until_true 5 ended "$p"
	done
	kill "$pid"
	until_true 5 ended "$pid"
}

test_unmount_with_stalled_network()
{
	stalled_mount
	timeout 0.5 cat "$M/latest/model.bin" >/dev/null || true
	SECONDS=0
	until_true 5 weightfs unmount "$M" 2>/dev/null
	until_true 5 ended "$pid"
	[ $SECONDS -le 5 ]
}

test_reads_go_on_after_the_stall()
{
	stalled_mount
	cmp "$M/latest/model.bin" "$O/1" &
	until_true 10 waiting 1
	rm "$STALL"
	wait $!
	weightfs unmount "$M"
}

test_busy_mount_says_who()
{
	local r=0 holder

	unmount_below "$M"
	rm -f "$STALL"
	weightfs mount "$S" "$M" -o "cache=$C-dir"
	weightfs wait "$M" --timeout 20
	# shellcheck disable=SC2217	# it only holds the file open
	sleep 100 <"$M/latest/model.bin" &
	holder=$!
	until_true 20 sh -c "readlink /proc/$holder/fd/0 | grep -q model.bin"
	weightfs unmount "$M" 2>"$TMPDIR/busy" || r=$?
	[ $r = 1 ]
	grep -q "process $holder (sleep): 1 open file" "$TMPDIR/busy"
	mountpoint -q "$M"
	weightfs unmount "$M" --lazy
	refute mountpoint -q "$M"
	kill $holder
}

# Who made a mount namespace meanwhile has a copy of the mount: the daemon goes on, and it is said why.
test_unmounted_here_alone()
{
	local r=0 holder daemon

	unmount_below "$M"
	weightfs mount "$S" "$M" -o "cache=$C-dir"
	daemon=$(weightfs status "$M" --json | jq .mount.pid)
	"$TESTS/apart" --propagation private -- sleep 100 &
	holder=$!
	until_true 20 grep -q sleep "/proc/$holder/comm"
	weightfs unmount "$M" 2>"$TMPDIR/copy" || r=$?
	kill $holder
	cat "$TMPDIR/copy"
	[ $r = 1 ]
	refute mountpoint -q "$M"
	grep -qx "  process $holder (sleep): has it on $M" "$TMPDIR/copy"
	grep -qx "weightfs: unmounted here alone; .*: kill $daemon" "$TMPDIR/copy"
	until_true 10 ended "$daemon"
}

test_dead_mount_is_cleaned_up()
{
	stalled_mount
	kill -KILL "$pid"
	until_true 5 ended "$pid"
	refute stat "$M/latest" 2>/dev/null
	rm "$STALL"
	weightfs mount "$URL" "$M" -o "cache=$C"
	weightfs wait "$M" --timeout 20
	cmp "$M/latest/model.bin" "$O/1"
	refute weightfs mount "$URL" "$M" -o "cache=$C-2" 2>"$TMPDIR/twice"
	grep -q 'mounted there already' "$TMPDIR/twice"
	weightfs unmount "$M"
}

for s in TERM INT HUP; do
	run signal_ends $s
done
if [ "$(id -u)" = 0 ]; then
	run test_unmounted_here_alone
else
	skip test_unmounted_here_alone "needs root for a mount namespace"
fi
for t in readers_that_wait_can_be_killed unmount_with_stalled_network reads_go_on_after_the_stall \
	busy_mount_says_who dead_mount_is_cleaned_up; do
	run test_$t
done
finish
