#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# loaders-safetensors.sh - Python's safetensors, unmodified, on a mount: every way it has, every
# element type, before and after the blocks are local
. "$(dirname "$0")/suite.sh"
. "$TESTS/venv.sh"
set -u

mnt=$TMPDIR/mnt store=$TMPDIR/store
steps=(unused "$TMPDIR/step1" "$TMPDIR/step2")

make_store()
{
	local s

	for s in 1 2; do
		python3 "$TESTS/loaders/mkllama.py" "${steps[s]}" 7 $s
		python3 "$TESTS/loaders/mktypes.py" "${steps[s]}" $s
		weightsync publish "${steps[s]}" "$store" --label "step $s" --cache "$TMPDIR/publish" || return 1
	done
	mkdir -p "$mnt"
}

mounted()			# OPTIONS: mount with an empty cache
{
	rm -rf "$TMPDIR/cache"
	weightfs mount "$store" "$mnt" -o "cache=$TMPDIR/cache,$1"
}

load()				# VERSION-DIR STEP
{
	"$VENV_PYTHON" "$TESTS/loaders/check_safetensors.py" "$mnt/$1" "${steps[$2]}"
}

load_and_unmount()		# OPTIONS
{
	mounted "$1"
	weightfs wait "$mnt" --newer-than 1 --timeout 60
	load latest 2 || { weightfs unmount "$mnt"; return 1; }
	load versions/2 2 || { weightfs unmount "$mnt"; return 1; }
	weightfs unmount "$mnt"
}

test_loads_when_complete() { load_and_unmount ready=complete; }
test_loads_lazily() { load_and_unmount ready=manifest,lazy; }

# What is open stays what it is while a new version comes.
test_a_loaded_version_stays()
{
	mounted ready=complete
	weightfs wait "$mnt" --newer-than 1 --timeout 60
	"$VENV_PYTHON" - "$mnt/latest" "${steps[2]}" "$TMPDIR/go" <<'PY' &
import os, sys, time
from safetensors import safe_open
import ml_dtypes
name = "model-00001-of-00002.safetensors"
mounted, trainer, go = sys.argv[1:4]
with safe_open(os.path.join(mounted, name), framework="numpy") as f:
    open(go, "w").close()
    while not os.path.exists(go + "2"):
        time.sleep(0.05)
    with safe_open(os.path.join(trainer, name), framework="numpy") as g:
        for n in g.keys():
            assert f.get_tensor(n).tobytes() == g.get_tensor(n).tobytes(), n
PY
	local loader=$!
	until_true 30 test -e "$TMPDIR/go"
	python3 "$TESTS/loaders/mkllama.py" "$TMPDIR/step3" 7 3
	weightsync publish "$TMPDIR/step3" "$store" --cache "$TMPDIR/publish"
	weightfs wait "$mnt" --newer-than 2 --timeout 60
	touch "$TMPDIR/go2"
	wait $loader
	"$VENV_PYTHON" "$TESTS/loaders/check_safetensors.py" "$mnt/latest" "$TMPDIR/step3"
	weightfs unmount "$mnt"
}

# No mount at all: a store with plain copies is a directory of models.
test_plain_store_loads_without_us()
{
	weightsync publish "${steps[1]}" "$TMPDIR/plain" --anchor plain --cache "$TMPDIR/publish-plain"
	"$VENV_PYTHON" "$TESTS/loaders/check_safetensors.py" "$TMPDIR/plain/models/1" "${steps[1]}"
}

cleanup() { [ ! -d "$mnt" ] || weightfs unmount --lazy "$mnt" 2>/dev/null; }

if ! prepare_python safetensors.numpy numpy ml_dtypes; then
	skip loaders-safetensors "no safetensors from PyPI: $(tail -n 1 "$TMPDIR/pip.log")"
	finish
fi
if ! make_store; then
	echo "FAILED publish"
	suite_failed=1
	finish
fi
run test_loads_when_complete
run test_loads_lazily
run test_a_loaded_version_stays
run test_plain_store_loads_without_us
finish
