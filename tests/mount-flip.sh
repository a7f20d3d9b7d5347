#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-flip.sh - no load is a mixture: a trainer publishes all the time, loaders of every kind start all
# the time, and the bytes of each say which version they are
#
# By itself it takes a minute and asks for little.  The figures that count:
#	FLIP_SECONDS=600 FLIP_LOADS=10000 FLIP_FLIPS=1000 FLIP_VERSIONS=100 FLIP_RATE=5 BUILD=$PWD/build-release tests/mount-flip.sh
# timeout: 900
. "$(dirname "$0")/suite.sh"
. "$TESTS/venv.sh"
set -u
PATH=$BUILD/tests:$PATH
SECONDS_LONG=${FLIP_SECONDS:-60} JOBS=${FLIP_JOBS:-12}
LINGER=5			# seconds; longer than a loader rests between two shards, shorter than one that idles

# Publishing has to be fast, and a disk's fsync is not; the mount's cache is on the disk.
fast=$TMPDIR
[ ! -w /dev/shm ] || fast=$(mktemp -d /dev/shm/weightfs-flip.XXXXXX)
M=$TMPDIR/mnt
mkdir -p "$M"
cleanup()
{
	local p

	for p in $(jobs -p); do kill "$p" 2>/dev/null; done
	[ "$fast" = "$TMPDIR" ] || rm -rf "$fast"
}

python=python3
if prepare_python safetensors.numpy ml_dtypes; then
	python=$VENV_PYTHON
else
	skip mount-flip-safetensors "no safetensors from PyPI: $(tail -n 1 "$TMPDIR/pip.log")"
fi
flip() { "$python" "$TESTS/flip.py" "$@"; }

# NAME SECONDS OPTIONS: publish, watch and load for so long; judge's answer in NAME.json
storm()
{
	local log=$TMPDIR/$1 publisher watcher r=0

	rm -rf "${fast:?}/storm" "$TMPDIR/cache"
	mkdir "$fast/storm"
	: >"$log.seen"
	flip publish "$fast/storm/store" "$fast/storm/ckpt" "$log" 0.1 0.1 || return 1	# the first version
	weightfs mount "$fast/storm/store" "$M" -o "cache=$TMPDIR/cache,min_free=0,poll=100ms,linger=${LINGER}s,$3" || return 1
	weightfs wait "$M" --timeout 60 >/dev/null || return 1
	flip publish "$fast/storm/store" "$fast/storm/ckpt" "$log" $(($2 + 2 * LINGER)) 0.15 &
	publisher=$!
	flip watch "$M" "$log" $(($2 + 2 * LINGER)) &
	watcher=$!
	flip drive "$M" "$log" "$2" "$JOBS" "$LINGER" || r=1
	wait $publisher || { echo "the publisher failed"; r=1; }
	wait $watcher || r=1
	weightfs status "$M" --json >"$log.status"
	flip judge "$log" 30 >"$log.json" || r=2
	cat "$log.json"
	weightfs unmount "$M"
	return $r
}

at_least() { jq -e ".$2 >= $3" "$TMPDIR/$1.json" >/dev/null || fail "$2 is not $3"; }

test_no_load_is_a_mixture()
{
	storm bound "$SECONDS_LONG" bind=job
	at_least bound loads "${FLIP_LOADS:-200}"
	at_least bound with_a_flip_inside "${FLIP_FLIPS:-20}"
	at_least bound by_spawned_ranks "$((SECONDS_LONG / 10))"
	at_least bound second_of_a_process "$((SECONDS_LONG / 10))"
	at_least bound versions_seen "${FLIP_VERSIONS:-20}"
	at_least bound published_a_second "${FLIP_RATE:-0.5}"
	[ "$(jq .healthy "$TMPDIR/bound.status")" = true ]
	[ "$(jq .mount.bindings_dropped "$TMPDIR/bound.status")" = 0 ]
}

# The same storm over a mount that binds nobody: it must be seen to mix.
test_unbound_it_would_be()
{
	local r=0

	storm unbound 10 bind=none || r=$?
	[ $r = 2 ]
	at_least unbound mixtures 1
}

run test_no_load_is_a_mixture
run test_unbound_it_would_be
finish
