#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# hostile-store.sh - a hostile version 3 beside two good ones, over and over (mangle.py has the list)
#
# For each case a mount shows version 2, version 3 is committed, and then: the status names what was
# wrong, version 2 reads byte for byte, version 3 is not shown, nothing lies beside the cache, the daemon
# lives, a good version 4 is shown, and it all ends without a leak.  The tools refuse the store, too.
. "$(dirname "$0")/suite.sh"
set -u

MANGLE=$TESTS/mangle.py
T=$TMPDIR
export HOME=$T/home
sanitized=
grep -q '^WFS_SANITIZE:BOOL=ON' "$BUILD/CMakeCache.txt" && sanitized=1

make_stores()
{
	local i

	python3 "$TESTS/mkmodel.py" make "$T/m1" --shards 2 --tensors 4 --mib 5
	head -c 3000000 /dev/zero | tr '\0' A >"$T/m1/pad.bin"	# a legal bomb: tiny frames
	for i in 2 3; do
		python3 "$TESTS/mkmodel.py" step "$T/m$((i - 1))" "$T/m$i" --seed $i
	done
	for i in 1 2; do
		weightsync publish --cache "$T/pc" "$T/m$i" "$T/two"
	done
	cp -a "$T/two" "$T/three" && cp -a "$T/pc" "$T/pc-full" && cp -a "$T/two" "$T/full"
	weightsync publish --cache "$T/pc" "$T/m3" "$T/three"
	weightsync publish --cache "$T/pc-full" --full "$T/m3" "$T/full"
}

# ---- the mount ----

# start URL OPTIONS: in the foreground, so that its end and its memory are ours to see
start()
{
	unmount_below "$T/mnt"
	mkdir -p "$T/mnt"
	weightfs mount "$1" "$T/mnt" -o "foreground,cache=$T/cache,poll=100ms,min_free=1M${2:+,$2}" 2>"$T/log" &
	daemon=$!
	weightfs wait "$T/mnt" --newer-than "${3:-1}" --timeout 20 >/dev/null 2>&1 ||
		until_true 20 weightfs wait "$T/mnt" --newer-than "${3:-1}" --timeout 20 >/dev/null 2>&1
}

stop()
{
	kill "$daemon"
	wait "$daemon" || { echo "the daemon ended with $?"; tail -n 40 "$T/log"; return 1; }
	daemon=
	if grep -E 'Sanitizer|runtime error' "$T/log"; then return 1; fi
}

problem() { python3 -c 'import json, sys; s = json.load(open(sys.argv[1])); print(s["problem"], s["reason"])' "$T/mnt/.weightfs/status.json"; }
problem_says() { problem | grep -Eq -e "$1"; }
counter() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$T/mnt/.weightfs/status.json" "$1"; }
shows() { weightfs wait "$T/mnt" --newer-than $(($1 - 1)) --timeout 20 >/dev/null && [ -d "$T/mnt/versions/$1" ]; }
same() { diff -r "$1" "$T/mnt/versions/$2"; }
hwm() { awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status"; }

# An image of the cache with version 2 in it, to begin each case with.
make_cache()
{
	start "$T/two"
	until_true 20 has_all 2
	stop
	mv "$T/cache" "$T/cache-two"
}
has_all() { python3 -c '
import json, sys
s = json.load(open(sys.argv[1]))
sys.exit(not any(v["sequence"] == int(sys.argv[2]) and v["complete"] for v in s["versions"]))' "$T/mnt/.weightfs/status.json" "$1"; }

beside() { find "$T" -mindepth 1 -maxdepth 1 | sort; find "$T/two" "$T/m1" "$T/m2" "$T/m3" "$T/home" 2>/dev/null | sort; }

# ---- one case ----

case_is() { case " $words " in *" $1 "*) ;; *) return 1 ;; esac; }

spoil()				# NAME: $T/spoilt is version 3 of it
{
	local from=$T/three

	case_is full && from=$T/full
	case_is store && from=$T/two
	rm -rf "$T/spoilt"
	cp -a "$from" "$T/spoilt"
	python3 "$MANGLE" spoil "$T/spoilt" "$1"
}

# A tool ends by itself, says so in a line for each thing it found, and is not killed.
tool()				# WANT COMMAND...
{
	local want=$1 r=0

	shift
	timeout 60 weightsync "$@" >"$T/tool.out" 2>"$T/tool.err" || r=$?
	if [ $r -gt 4 ] || grep -E 'Sanitizer|runtime error' "$T/tool.err"; then
		fail "weightsync $*: exit $r: $(head -c 2000 "$T/tool.err")"
	fi
	grep -qP '[\x00-\x08\x0b-\x1f\x7f]' "$T/tool.err" "$T/tool.out" && fail "weightsync $*: control characters"
	[ "$want" = any ] && return 0
	[ $r -ne 0 ] || fail "weightsync $*: no failure"
	grep -Eq -e "$says" "$T/tool.err" || fail "weightsync $*: says $(head -c 2000 "$T/tool.err"), not $says"
}

tools()				# NAME
{
	local pull=refuse verify=refuse

	case_is tools && pull=any
	case_is build && verify=any
	case $words in *good*|*reader*) pull=any verify=any ;; *store*) verify=any ;; esac
	rm -rf "$T/out" "$T/.out.weightsync"
	tool $pull pull "$T/spoilt" "$T/out"
	[ $pull = any ] || [ ! -e "$T/out" ] || fail "pull left a directory"
	rm -rf "$T/out" "$T/.out.weightsync"
	tool $verify verify "$T/spoilt"
	tool any show "$T/spoilt" 3 model-00001-of-00002.safetensors
	tool any log "$T/spoilt"
}

publish_spoilt()		# NAME: into the live store
{
	if case_is store; then
		rm -rf "$T/live.old"
		python3 "$MANGLE" spoil "$T/live" "$1"
	else
		python3 "$MANGLE" merge "$T/spoilt" "$T/live"
	fi
}

heal()				# what was there comes back, and a version 4
{
	if case_is store; then
		cp -a "$T/two/." "$T/live/"
		python3 "$MANGLE" heal "$T/live" 2 3
		n=3
	else
		python3 "$MANGLE" merge "$T/three" "$T/live"
		cp -a "$T/three/commits/3" "$T/live/commits/3"	# a spoilt commit, too
		cp -a "$T/two/versions/." "$T/live/versions/"
		python3 "$MANGLE" heal "$T/live" 2 4
		n=4
	fi
}

hostile()			# NAME
{
	local says words before n start

	says=$(cut -f2 <<<"$line") words=$(cut -f3 <<<"$line")
	spoil "$1"
	tools "$1"
	rm -rf "$T/live" "$T/cache"
	cp -a "$T/two" "$T/live"
	cp -a "$T/cache-two" "$T/cache"
	start "$T/live"
	start=$(hwm)
	before=$(beside)
	publish_spoilt "$1"
	if case_is start; then
		stop
		start "$T/live"
	fi
	if case_is tools; then
		shows 3
		same "$T/m3" 3
	elif ! case_is good; then
		until_true 30 problem_says "$says" || fail "status says $(problem), not $says"
		grep -Eq -e "$says" "$T/log"
		[ ! -e "$T/mnt/versions/3" ]
		[ "$(readlink "$T/mnt/latest")" = versions/2 ]
	fi
	same "$T/m2" 2
	if case_is bomb && [ -z "$sanitized" ]; then
		[ $(($(hwm) - start)) -lt 131072 ] || fail "memory went from $start to $(hwm) KiB"
	fi
	[ "$before" = "$(beside)" ] || fail "something lies beside the cache: $(diff <(echo "$before") <(beside))"
	kill -0 "$daemon"
	heal "$1"
	shows $n || fail "a good version $n is not shown: $(problem)"
	same "$T/m2" $n
	stop
}

make_stores >/dev/null || exit 1
make_cache || exit 1
while IFS= read -r line; do
	name=${line%%	*}
	# shellcheck disable=SC2254 # a pattern is meant
	case $name in ${WFS_CASE:-*}) run hostile "$name" ;; esac
done < <(python3 "$MANGLE" list)
finish
