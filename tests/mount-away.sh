#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-away.sh - a store that is not there, not a store, or goes away: who looks is told, and told when it is over
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache L=$TMPDIR/log
mkdir -p "$O" "$M"
tool-toystore "$S" "$O" 1 2 3000000

# PORT ROOT: serves ROOT at that port (0: any), and says which.
cat >"$TMPDIR/server.py" <<'PY'
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])),
                                         functools.partial(Handler, directory=sys.argv[2]))
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
PY
server=''

serve()
{
	rm -f "$TMPDIR/port"
	python3 "$TMPDIR/server.py" "$1" "$2" >"$TMPDIR/port" 2>"$TMPDIR/server.log" &
	server=$!
	trap stop_serving EXIT		# of the test's subshell: its server ends with it
	until_true 20 test -s "$TMPDIR/port"
	port=$(cat "$TMPDIR/port")
}
stop_serving() { [ -z "$server" ] || { kill "$server"; wait "$server" || :; }; server=; }

# A port that was free a moment ago: nobody listens there.
closed_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# URL [OPTIONS]: in the foreground, for its log.
start()
{
	weightfs mount "$1" "$M" -f -o "cache=$C,poll=500ms${2:+,$2}" 2>"$L" >&2 &
	mount=$!
	until_true 30 mountpoint -q "$M"
}
stop() { weightfs unmount "$M"; wait "$mount"; }
fresh() { unmount_below "$M"; rm -rf "$C"; }

field() { weightfs status "$M" --json | jq -r ".$1"; }
problem_says() { field problem | grep -Eq -e "$1"; }
healthy() { weightfs status "$M" >/dev/null; }
complete() { [ "$(field 'versions[-1].complete')" = true ]; }
lines() { grep -Ec -e "$1" "$L" || :; }

# PATTERN: it is in status soon, in text and JSON, in the log once; the mount is not healthy.
complains()
{
	until_true "${2:-15}" problem_says "$1" || fail "status says: $(field problem)"
	refute healthy
	weightfs status "$M" >"$TMPDIR/text" || :
	head -n 1 "$TMPDIR/text" | grep -Eq "^unhealthy: .*$1"
	grep -Eq "problem .*$1.*\(for [0-9]+ s\)" "$TMPDIR/text"
	[ "$(field healthy)" = false ]
	[ "$(lines "$1")" = 1 ] || fail "the log has $(lines "$1") lines: $(cat "$L")"
}

test_refused()
{
	local url code=0 ms

	fresh
	url=http://127.0.0.1:$(closed_port)/policy
	start "$url"
	complains "cannot get weightfs-store from $url: .*(refused|connect).*trying again"
	[ "$(field looked_ms_ago)" = null ]
	grep -q 'no good look at it yet' "$TMPDIR/text"
	ms=$(field problem_ms)
	weightfs wait "$M" --timeout 3 2>"$TMPDIR/err" || code=$?
	[ $code = 4 ] || fail "wait ended with $code"
	[ "$(grep -c 'waiting: cannot get weightfs-store' "$TMPDIR/err")" = 1 ]
	grep -q "nothing newer than 0 .*: cannot get weightfs-store from $url" "$TMPDIR/err"
	[ "$(field problem_ms)" -ge $((ms + 3000)) ] || fail "it is not said since when"
	[ "$(lines 'cannot get')" = 1 ]
	stop
}

test_no_such_host()
{
	fresh
	start http://store.invalid/policy
	complains 'cannot get weightfs-store from http://store.invalid' 60
	stop
}

test_https_at_a_port_of_http()
{
	fresh
	serve 0 "$S"
	start "https://127.0.0.1:$port"
	complains 'weightfs-store: |cannot get weightfs-store from https://127'
	stop
	stop_serving
}

# The mount takes it as soon as it is a store.
test_404_until_it_is_published()
{
	fresh
	mkdir "$TMPDIR/empty"
	serve 0 "$TMPDIR/empty"
	start "http://127.0.0.1:$port/policy"
	complains "http://127.0.0.1:$port/policy is no store: it has no file weightfs-store"
	cp -a "$S" "$TMPDIR/empty/policy"
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 20)" = 2 ]
	cmp "$O/2" "$M/versions/2/model.bin"
	until_true 20 healthy
	[ -z "$(field problem)" ]
	[ "$(field looked_ms_ago)" -lt 10000 ]
	[ "$(lines 'over: .*is no store')" = 1 ]
	stop
	stop_serving
}

test_directory_that_is_no_store()
{
	fresh
	mkdir "$TMPDIR/other"
	start "$TMPDIR/other"
	complains "$TMPDIR/other is no store: it has no file weightfs-store"
	stop
}

# What is in the cache is shown, but is not known to be the newest.
test_used_cache()
{
	local url

	fresh
	start "$S"
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 20)" = 2 ]
	until_true 20 healthy
	until_true 30 complete
	stop
	for url in "http://127.0.0.1:$(closed_port)" "$TMPDIR/other"; do
		mkdir -p "$TMPDIR/other"
		start "$url"
		complains 'cannot get weightfs-store|is no store'
		cmp "$O/2" "$M/latest/model.bin"
		stop
	done
}

test_server_dies_and_comes_back()
{
	fresh
	serve 0 "$S"
	start "http://127.0.0.1:$port"
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 20)" = 2 ]
	until_true 20 healthy
	[ -z "$(field problem)" ]
	stop_serving
	complains "cannot get .* from http://127.0.0.1:$port"
	[ "$(field looked_ms_ago)" -ge 200 ]
	cmp "$O/2" "$M/latest/model.bin"
	serve "$port" "$S"
	until_true 60 healthy
	[ -z "$(field problem)" ]
	[ "$(lines 'over: cannot get')" = 1 ]
	stop
	stop_serving
}

# COMMAND...: says within seconds what it waits for; it is not waited for to the end.
says_that_it_tries()
{
	local pid

	"$@" >/dev/null 2>"$TMPDIR/err" &
	pid=$!
	until_true 20 grep -Eq "cannot get (latest|weightfs-store) from $url: .*: trying again, until" "$TMPDIR/err" ||
		{ kill $pid; fail "$*: $(cat "$TMPDIR/err")"; }
	kill -0 $pid
	kill $pid
	wait $pid || :
	[ "$(grep -c 'trying again' "$TMPDIR/err")" = 1 ]
}

test_commands_say_that_they_try()
{
	local url

	url=http://127.0.0.1:$(closed_port)/policy
	says_that_it_tries weightsync log "$url"
	says_that_it_tries weightsync pull "$url" "$TMPDIR/pulled"
	says_that_it_tries weightsync plan "$url"
}

for t in refused no_such_host https_at_a_port_of_http 404_until_it_is_published directory_that_is_no_store \
	 used_cache server_dies_and_comes_back commands_say_that_they_try; do
	run test_$t
done
finish
