# SPDX-License-Identifier: Apache-2.0
# servers.sh - for shell tests: . "$TESTS/servers.sh", with TESTS the directory of this file.
#
#   start_nginx DIR [CERTDIR]   start_pyhttp DIR   start_hostile [CERTDIR]   make_cert DIR
# leave the server's address in $SERVER_URL and its pid in $SERVER_PID.  stop_servers ends all of
# them; call it from a trap.  nginx writes access.log and error.log below $SERVER_WORK.

SERVER_PIDS=
SERVER_WORKS=

# start_server SCHEME PROGRAM ARG...
start_server()
{
	server_scheme=$1
	shift
	server_out=$(mktemp)
	python3 "$TESTS/$@" >"$server_out" &
	SERVER_PID=$!
	SERVER_PIDS="$SERVER_PIDS $SERVER_PID"
	until [ -s "$server_out" ]; do
		kill -0 "$SERVER_PID" 2>/dev/null || { echo "server $1 did not start" >&2; rm -f "$server_out"; return 1; }
		sleep 0.02
	done
	SERVER_URL=$server_scheme://127.0.0.1:$(cat "$server_out")
	rm -f "$server_out"
}

start_nginx()
{
	SERVER_WORK=$(mktemp -d)
	SERVER_WORKS="$SERVER_WORKS $SERVER_WORK"
	if [ -n "${2:-}" ]; then
		start_server https serve.py nginx "$1" "$SERVER_WORK" "$2"
	else
		start_server http serve.py nginx "$1" "$SERVER_WORK"
	fi
}

start_pyhttp()
{
	start_server http serve.py pyhttp "$1"
}

start_hostile()
{
	if [ -n "${1:-}" ]; then
		start_server https hostile.py "$1"
	else
		start_server http hostile.py
	fi
}

make_cert()
{
	python3 "$TESTS/serve.py" cert "$1" >/dev/null
}

stop_servers()
{
	for server_pid in $SERVER_PIDS; do
		kill "$server_pid" 2>/dev/null || :
		wait "$server_pid" 2>/dev/null || :
	done
	for server_work in $SERVER_WORKS; do
		rm -rf "$server_work"
	done
	SERVER_PIDS=
	SERVER_WORKS=
}
