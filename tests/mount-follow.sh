#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-follow.sh - from a trainer's directory to files on a mount, over every kind of store
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/servers.sh"

S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache CK=$TMPDIR/ckpt
mkdir -p "$M" "$CK"
"$TESTS/mkmodel.py" make "$CK/1" --shards 3 --tensors 9 --mib 9 --seed 1
echo '{"eos_token": 2}' >"$CK/1/tokenizer_config.json"
for i in 2 3 4 5 6; do "$TESTS/mkmodel.py" step "$CK/$((i - 1))" "$CK/$i" --seed $i; done

publish() { weightsync publish "$CK/$1" "$S" --cache "$TMPDIR/pc" --label "step $1" --quiet >/dev/null; }
fresh() { unmount_below "$M"; rm -rf "$S" "$C" "$TMPDIR/pc" "$TMPDIR/pulled"; }
complete() { weightfs status "$M" --json | jq -e ".versions[] | select(.sequence == $1) | .complete" >/dev/null; }

# URL [OPTIONS]: follow six versions, compare each and a pull.
follow()
{
	local url=$1 options=${2:-} i

	weightfs mount "$url" "$M" -o "cache=$C,poll=100ms,keep_versions=9${options:+,$options}"
	for i in 1 2 3 4 5 6; do
		[ "$i" = 1 ] || publish "$i"
		[ "$(weightfs wait "$M" --newer-than $((i - 1)) --timeout 30)" = "$i" ]
		[ "$(readlink "$M/latest")" = "versions/$i" ]
		diff -r "$CK/$i" "$M/versions/$i"
		until_true 30 complete "$i"
		diff -r "$CK/$i" "$M/latest/"
	done
	for i in 1 2 3 4 5 6; do diff -r "$CK/$i" "$M/versions/$i"; done
	weightfs unmount "$M"
}

test_directory()
{
	fresh
	publish 1
	follow "$S"
	fresh
	publish 1
	follow "file://$S"
}

test_nginx()
{
	fresh
	publish 1
	start_nginx "$S"
	follow "$SERVER_URL"
	weightsync pull "$SERVER_URL" "$TMPDIR/pulled" --quiet
	diff -r "$CK/6" "$TMPDIR/pulled"
	stop_servers
}

test_nginx_with_tls()
{
	fresh
	publish 1
	mkdir -p "$TMPDIR/cert"
	make_cert "$TMPDIR/cert"
	start_nginx "$S" "$TMPDIR/cert"
	weightsync log "$SERVER_URL" 2>"$TMPDIR/err" && fail "an unknown certificate was trusted"
	grep -qi certificate "$TMPDIR/err"
	follow "$SERVER_URL" "cacert=$TMPDIR/cert/cert.pem"
	stop_servers
}

# A server without Range: packs are asked for once, whole.
test_python_http_server()
{
	fresh
	publish 1
	start_pyhttp "$S"
	follow "$SERVER_URL"
	stop_servers
}

test_restart_serves_at_once_without_the_store()
{
	fresh
	publish 1
	publish 2
	weightfs mount "$S" "$M" -o "cache=$C,poll=100ms"
	until_true 30 complete 2
	weightfs unmount "$M"
	mv "$S" "$S.away"
	mkdir "$S"
	weightfs mount "$S" "$M" -o "cache=$C,poll=100ms"
	diff -r "$CK/2" "$M/latest/"
	[ "$(weightfs status "$M" --json | jq '.blocks_built + .bytes_received')" = 0 ]
	weightfs unmount "$M"
	rmdir "$S"
	mv "$S.away" "$S"
}

test_base_directory()
{
	fresh
	publish 1
	publish 2
	mkdir -p "$TMPDIR/hub/blobs" "$TMPDIR/hub/snapshots/x"
	for f in "$CK"/1/*; do
		cp "$f" "$TMPDIR/hub/blobs/"
		ln -s "../../blobs/$(basename "$f")" "$TMPDIR/hub/snapshots/x/"
	done
	weightfs mount "$S" "$M" -o "cache=$C,base=$TMPDIR/hub/snapshots/x"
	until_true 30 complete 2
	diff -r "$CK/2" "$M/latest/"
	[ "$(weightfs status "$M" --json | jq .bytes_received)" -lt 1000000 ]
	weightfs unmount "$M"
}

# ready=complete given by the user: nothing is shown before every block is built.
test_ready_complete_is_strict()
{
	fresh
	publish 1
	weightfs mount "$S" "$M" -o "cache=$C,ready=complete,rate=4M"
	until_true 30 test -e "$M/latest"
	complete 1
	weightfs unmount "$M"
}

test_ready_delta_and_manifest()
{
	local ready

	for ready in delta manifest; do
		fresh
		publish 1
		weightfs mount "$S" "$M" -o "cache=$C,ready=$ready,poll=100ms"
		publish 2
		[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
		diff -r "$CK/2" "$M/versions/2"
		weightfs unmount "$M"
	done
}

for t in directory nginx nginx_with_tls python_http_server restart_serves_at_once_without_the_store \
	 base_directory ready_complete_is_strict ready_delta_and_manifest; do
	run test_$t
done
finish
