#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# loaders-torch.sh - transformers' from_pretrained with torch on the CPU, unmodified, on a mount
#
# Both come from a Debian sid chroot, which takes minutes and gigabytes the first time.
# timeout: 1800
# may-skip: the chroot needs root, Debian's packages and disk
. "$(dirname "$0")/suite.sh"
set -u

chroot=${WFS_TEST_CACHE:-/var/cache/weightfs-tests}/sid
if ! "$TESTS/loaders/sid-chroot" "$chroot" >"$TMPDIR/chroot.log" 2>&1; then
	skip loaders-torch "$(tail -n 1 "$TMPDIR/chroot.log")"
	finish
fi

store=$TMPDIR/store mnt=$TMPDIR/mnt

publish()			# STEP
{
	python3 "$TESTS/loaders/mkllama.py" "$TMPDIR/step$1" 11 "$1" &&
		weightsync publish "$TMPDIR/step$1" "$store" --label "step $1" --cache "$TMPDIR/publish"
}

load()				# VERSION-DIR STEP
{
	"$TESTS/loaders/enter-chroot" "$chroot" "$TESTS/loaders:/mnt/loaders" "$mnt:/mnt/model" \
		"$TMPDIR/step$2:/mnt/trainer" -- \
		python3 /mnt/loaders/check_torch.py "/mnt/model/$1" /mnt/trainer 2>"$TMPDIR/stderr" ||
		{ tail -n 20 "$TMPDIR/stderr"; return 1; }
}

test_loads_latest() { load latest 2; }
test_loads_an_old_version() { load versions/1 1; }
test_loads_what_was_published_meanwhile()
{
	publish 3
	weightfs wait "$mnt" --newer-than 2 --timeout 60
	load latest 3
	load versions/2 2
}

# Every block comes when the loader asks for it.
test_loads_lazily()
{
	weightfs unmount "$mnt"
	rm -rf "$TMPDIR/cache"
	weightfs mount "$store" "$mnt" -o "cache=$TMPDIR/cache,ready=manifest,lazy"
	weightfs wait "$mnt" --newer-than 2 --timeout 60
	load latest 3
}

# No mount at all: a store with plain copies is a directory of models.
test_plain_store_loads_without_us()
{
	weightsync publish "$TMPDIR/step1" "$TMPDIR/plain" --anchor plain --cache "$TMPDIR/publish-plain"
	"$TESTS/loaders/enter-chroot" "$chroot" "$TESTS/loaders:/mnt/loaders" "$TMPDIR/plain:/mnt/model" \
		"$TMPDIR/step1:/mnt/trainer" -- python3 /mnt/loaders/check_torch.py /mnt/model/models/1 /mnt/trainer
}

cleanup() { [ ! -d "$mnt" ] || weightfs unmount --lazy "$mnt" 2>/dev/null; }

mkdir -p "$mnt"
if ! { publish 1 && weightfs mount "$store" "$mnt" -o "cache=$TMPDIR/cache,keep_versions=3" &&
	weightfs wait "$mnt" --timeout 60 && publish 2 && weightfs wait "$mnt" --newer-than 1 --timeout 60; }; then
	echo "FAILED publish and mount"
	suite_failed=1
	finish
fi
run test_loads_latest
run test_loads_an_old_version
run test_loads_what_was_published_meanwhile
run test_loads_lazily
run test_plain_store_loads_without_us
weightfs unmount "$mnt"
finish
