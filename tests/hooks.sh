# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# hooks.sh - what the suites of hooks share: a model of a few bytes, an engine, the hooks process

S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache CK=$TMPDIR/ckpt E=$TMPDIR/engine CONF=$TMPDIR/hooks.conf
hooks_pid='' engine_pid=''
# The second signal gives up what is under way, which after a failure may never end.
cleanup() { [ -z "$hooks_pid" ] || kill -INT "$hooks_pid" 2>/dev/null || true; stop_hooks; stop_engine; }

# A checkpoint a version is kept, to compare with.
mkdir -p "$M" "$CK"
"$TESTS/mkmodel.py" make "$CK/base" --shards 1 --tensors 3 --mib 1 --seed 1
n=0
publish()			# [LABEL]
{
	n=$((n + 1))
	cp -r "$CK/base" "$CK/$n"
	echo "$n" >"$CK/$n/step.json"
	weightsync publish "$CK/$n" "$S" --cache "$TMPDIR/pc" --label "${1:-step $n}" --quiet >/dev/null
}
shown() { [ "$(weightfs wait "$M" --newer-than $(($1 - 1)) --timeout 30)" -ge "$1" ]; }
mounted() { weightfs mount "$S" "$M" -o "cache=$C,poll=50ms,keep_versions=${1:-0}"; }
fresh()				# [KEEP]
{
	trap cleanup EXIT	# of the test's subshell: what it started ends with it
	stop_hooks
	stop_engine
	unmount_below "$TMPDIR"
	C=$(mktemp -d "$TMPDIR/cache.XXXXXX")	# the daemon before may still be leaving its own
	rm -rf "$S" "$TMPDIR/pc" "$E" "${CK:?}"/[0-9]*
	n=0
	publish
	mounted "${1:-0}"
	shown 1
}

start_engine()			# [PORT [CERTDIR]]
{
	mkdir -p "$E"
	rm -f "$E/port"
	"$TESTS/engine.py" "$E" "$@" & engine_pid=$!
	until_true 20 test -s "$E/port"
	port=$(cat "$E/port")
}
stop_engine() { [ -z "$engine_pid" ] || { kill "$engine_pid" 2>/dev/null || true; wait "$engine_pid" 2>/dev/null || true; }; engine_pid=''; }
start_hooks() { weightfs hooks "$M" --config "$CONF" "$@" 2>"$TMPDIR/hooks.log" & hooks_pid=$!; }
stop_hooks() { [ -z "$hooks_pid" ] || { kill "$hooks_pid" 2>/dev/null || true; wait "$hooks_pid" 2>/dev/null || true; }; hooks_pid=''; }

socket_of()			# the control socket of a daemon, by its id
{
	local fd inode

	for fd in /proc/"$1"/fd/*; do
		inode=$(readlink "$fd" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
		[ -z "$inode" ] || awk -v i="$inode" '$7 == i && $8 ~ /\.sock$/ { print $8; exit }' /proc/net/unix
	done | head -n 1
}

hook() { weightfs status "$M" --json | jq -r ".hooks[] | select(.name == \"$1\") | $2"; }
hook_is() { [ "$(hook "$1" .state)" = "$2" ] && [ "$(hook "$1" .told)" = "$3" ]; }	# NAME STATE TOLD
requests() { cat "$E/requests" 2>/dev/null; }
paths() { requests | jq -r '.line | split(" ")[1] | split("?")[0]' | tr '\n' ' '; }
did() { requests | jq -r .did | tr '\n' ' '; }
n_requests() { [ "$(requests | wc -l)" -ge "$1" ]; }
engine_has()			# VERSION: its bytes, as the plain copy has them, and it runs
{
	[ "$(jq -r .weights "$E/state")" = "$M/versions/$1" ] && [ "$(jq .paused "$E/state")" = false ] &&
		[ "$(jq -r .digest "$E/state")" = "$(digest_of "$CK/$1")" ]
}
digest_of()
{
	python3 - "$1" <<-'PY'
	import hashlib, os, sys
	h = hashlib.sha256()
	for base, dirs, names in os.walk(sys.argv[1]):
	    dirs.sort()
	    for name in sorted(names):
	        h.update(name.encode())
	        h.update(open(os.path.join(base, name), "rb").read())
	print(h.hexdigest())
	PY
}
# A request as it was sent, the headers in order of their names.
raw() { requests | sed -n "$1p" | jq -r '.line, (.headers | sort | .[]), .body' | sed "s/127.0.0.1:$port/ENGINE/"; }
expect_raw()			# N, the request on stdin
{
	sed "s/@VERSION@/$(weightfs --version | cut -d' ' -f2)/" | diff - <(raw "$1")
}
