#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# loaders-hub.sh - MNT/hub is a Hugging Face cache: the real huggingface_hub and from_pretrained, unmodified
#
# timeout: 300
. "$(dirname "$0")/suite.sh"
set -u

store=$TMPDIR/store mnt=$TMPDIR/mnt ck=$TMPDIR/ck
mkdir -p "$mnt" "$ck"

# step.json makes every file of the test of flips another one
publish()			# STEP
{
	python3 "$TESTS/loaders/mkllama.py" "$ck/$1" 11 "$1" || return
	for f in config generation_config; do
		jq -c ".step = $1" "$ck/$1/$f.json" >"$ck/new" && mv "$ck/new" "$ck/$1/$f.json" || return
	done
	jq -c ".metadata.step = $1" "$ck/$1/model.safetensors.index.json" >"$ck/new" &&
		mv "$ck/new" "$ck/$1/model.safetensors.index.json" || return
	weightsync publish "$ck/$1" "$store" --label "step $1" --cache "$TMPDIR/publish" --quiet >/dev/null
}

mounted()			# [OPTIONS]
{
	unmount_below "$mnt"
	weightfs mount "$store" "$mnt" -o "cache=$TMPDIR/cache,poll=50ms,keep_versions=20${1:+,$1}"
	weightfs wait "$mnt" --timeout 60 >/dev/null
}

hub() { HF_HUB_CACHE=$mnt/hub HF_HUB_OFFLINE=1 HF_HOME=$TMPDIR/home "$python" "$TESTS/loaders/check_hub.py" "$@"; }

test_layout()
{
	local r=$mnt/hub/models--org--llama commit id v

	mounted hub=org/llama
	[ "$(ls "$mnt/hub")" = models--org--llama ]
	[ "$(ls "$r" | tr '\n' ' ')" = "refs snapshots " ]
	[ "$(ls "$r/refs" | tr '\n' ' ')" = "1 2 main " ]
	[ "$(readlink "$r/refs/main")" = 2 ]
	for v in 1 2; do
		id=$(weightfs status "$mnt" --json | jq -r ".versions[] | select(.sequence == $v) | .id")
		commit=$(cat "$r/refs/$v")
		[ "$commit" = "${id:0:40}" ]
		[ "$(stat -c %s "$r/refs/$v")" = 40 ]
		[ "$(readlink "$r/snapshots/$commit")" = "../../../versions/$v" ]
		diff -r "$ck/$v" "$r/snapshots/$commit/"
	done
	[ "$(ls "$r/snapshots" | wc -l)" = 2 ]
	[ "$(find "$mnt/hub" -printf '%i\n' | sort | uniq -d | wc -l)" = 0 ]
	find "$mnt/hub" -printf '%i %p\n' | sort -k 2 >"$TMPDIR/inodes"
	mounted hub=org/llama
	find "$mnt/hub" -printf '%i %p\n' | sort -k 2 | diff "$TMPDIR/inodes" -
	for v in refs/3 refs/01 refs/none snapshots/1 "snapshots/${id}" blobs; do
		[ ! -e "$r/$v" ] || fail "$v is there"
	done
	mkdir "$r/blobs" 2>"$TMPDIR/err" && fail "the cache can be written to"
	grep -q 'Read-only' "$TMPDIR/err"
}

test_name()
{
	local bad

	mounted
	[ "$(ls "$mnt/hub")" = models--store ]
	unmount_below "$mnt"
	for bad in a/b/c /x x/ ../x a..b -x 'a b' a--b; do
		weightfs mount "$store" "$mnt" -o "cache=$TMPDIR/cache,hub=$bad" 2>"$TMPDIR/err" && fail "hub=$bad was taken"
		grep -q 'ORG/NAME' "$TMPDIR/err" || fail "hub=$bad: $(cat "$TMPDIR/err")"
	done
}

test_huggingface_hub()
{
	mounted hub=org/llama
	hub whole org/llama "$ck/2"
	hub whole org/llama "$ck/1" 1
	hub whole org/llama "$ck/2" 2
}

# Each file is asked for after another version came: all are of the version of the first one.
test_a_download_file_by_file_is_one_version()
{
	local line n=2 first=2

	mounted hub=org/llama
	mkfifo "$TMPDIR/in" "$TMPDIR/out"
	hub files org/llama "$ck" <"$TMPDIR/in" >"$TMPDIR/out" 2>"$TMPDIR/stderr" &
	exec 4>"$TMPDIR/in" 3<"$TMPDIR/out"
	while read -r line <&3; do
		case $line in version*) break ;; esac
		n=$((n + 1))
		publish $n
		[ "$(weightfs wait "$mnt" --newer-than $((n - 1)) --timeout 60)" = $n ]
		echo >&4
	done
	exec 4>&- 3<&-
	wait $! || { tail -n 5 "$TMPDIR/stderr"; return 1; }
	[ "$line" = "version $first" ] || fail "the files were of: $line"
	[ $n -ge 7 ]
	hub whole org/llama "$ck/$n"	# who begins now sees the newest
}

chroot=${WFS_TEST_CACHE:-/var/cache/weightfs-tests}/sid
load()				# STEP REVISION
{
	"$TESTS/loaders/enter-chroot" "$chroot" "$TESTS/loaders:/mnt/loaders" "$mnt:/mnt/model" \
		"$ck/$1:/mnt/trainer" -- \
		python3 /mnt/loaders/check_hub_torch.py /mnt/model/hub org/llama /mnt/trainer "$2" 2>"$TMPDIR/stderr" ||
		{ tail -n 20 "$TMPDIR/stderr"; return 1; }
}

test_from_pretrained()
{
	mounted hub=org/llama
	load 1 1
	load "$(readlink "$mnt/hub/models--org--llama/refs/main")" main
}

cleanup() { unmount_below "$mnt"; }

python=''
prepare_python()
{
	local cache=${WFS_TEST_CACHE:-/var/cache/weightfs-tests} venv

	mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || cache=$TMPDIR
	venv=$cache/venv-hub
	if ! "$venv/bin/python" -c 'import huggingface_hub' 2>/dev/null; then
		rm -rf "$venv"
		if ! { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check huggingface_hub; } \
			>"$TMPDIR/pip.log" 2>&1; then
			rm -rf "$venv"
			return 1
		fi
	fi
	python=$venv/bin/python
}

if ! { publish 1 && mounted && publish 2 && [ "$(weightfs wait "$mnt" --newer-than 1 --timeout 60)" = 2 ]; }; then
	echo "FAILED publish and mount"
	suite_failed=1
	finish
fi
run test_layout
run test_name
if prepare_python; then
	run test_huggingface_hub
	run test_a_download_file_by_file_is_one_version
else
	skip huggingface_hub "$(tail -n 1 "$TMPDIR/pip.log")"
fi
if "$TESTS/loaders/sid-chroot" "$chroot" >"$TMPDIR/chroot.log" 2>&1; then
	run test_from_pretrained
else
	skip from_pretrained "$(tail -n 1 "$TMPDIR/chroot.log")"
fi
finish
