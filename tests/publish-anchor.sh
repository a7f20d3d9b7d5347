#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# publish-anchor.sh - copies in full: when they are made, what they cost, and the store as a model repository
. "$(dirname "$0")/suite.sh"
. "$TESTS/servers.sh"

export XDG_CACHE_HOME=$TMPDIR/cache
mkmodel() { python3 "$TESTS/mkmodel.py" "$@"; }
publish() { weightsync publish --quiet "$@"; }

models=$TMPDIR/models
mkmodel make "$models/1" --mib 6 --shards 3 --tensors 12
mkmodel step "$models/1" "$models/2" --percent 1 --seed 2
# only one shard changes, and a config
cp -r "$models/2" "$models/3"
rm "$models/3/model-00002-of-00003.safetensors"
mkmodel step "$models/2" "$TMPDIR/more" --percent 1 --seed 3
cp "$TMPDIR/more/model-00002-of-00003.safetensors" "$models/3"
mkdir "$models/3/tokenizer"
echo '{"a": 1}' >"$models/3/tokenizer/vocab.json"
: >"$models/3/empty.txt"

# The newest version is DIR, and the store is sound.
is_newest()			# STORE DIR
{
	rm -rf "$1.pulled"
	weightsync pull --quiet "$1" "$1.pulled" >/dev/null
	diff -r "$1.pulled" "$2" || fail "pull differs from $2"
	weightsync verify --quiet "$1" >/dev/null
}

# Every file of models/N is the object with its own SHA-256, and show says so.
is_listed()			# STORE N DIR
{
	local f sha

	diff -r "$1/models/$2" "$3"
	[ -z "$(find "$1/models/$2" -type f -size +0)" ] || fail "models/$2 holds copies"
	for f in "$3"/*.safetensors; do
		sha=$(sha256sum <"$f" | cut -d' ' -f1)
		cmp "$1/packs/$sha" "$f"
		weightsync show "$1" "$2" | grep -q "$(basename "$f").*plain, packs/$sha" || fail "show does not name $sha"
		[ "$(weightsync show --json "$1" "$2" | jq -r --arg f "$(basename "$f")" '.files[] | select(.path == $f).plain')" = "$sha" ]
	done
}

test_packed_is_the_default()
{
	local s=$TMPDIR/packed n

	publish "$models/1" "$s" >/dev/null
	is_newest "$s" "$models/1"
	n=$(du -cb "$s"/packs/* | tail -n 1 | cut -f1)
	[ "$n" -lt $((6 * 1048576 * 75 / 100)) ] || fail "6 MiB of weights take $n bytes"
	weightsync show --json "$s" | jq -e '[.files[] | select(.blocks) | .codecs.planes.blocks > 0] | all' >/dev/null
	[ ! -e "$s/models" ]
}

plain=$TMPDIR/plain
test_plain_store_is_a_model_repository()
{
	local s=$plain before

	publish "$models/1" "$s" --anchor plain >/dev/null
	is_newest "$s" "$models/1"
	is_listed "$s" 1 "$models/1"
	# a step costs what it always does, and is no anchor
	[ "$(publish --json "$models/2" "$s" --anchor plain | jq '.travel < 300000 and .store_growth < 300000')" = true ]
	[ ! -e "$s/models/2" ]
	is_newest "$s" "$models/2"
	# in full again; the one after that stores two shards no second time
	publish "$models/2" "$s" --anchor plain --full --allow-empty >/dev/null
	is_listed "$s" 3 "$models/2"
	before=$(du -sb "$s/packs" | cut -f1)
	publish "$models/3" "$s" --anchor plain --full >/dev/null
	is_listed "$s" 4 "$models/3"
	[ $(($(du -sb "$s/packs" | cut -f1) - before)) -lt 2400000 ] || fail "what did not change was stored again"
	is_newest "$s" "$models/3"
}

test_listing_is_made_again_after_a_kill()
{
	rm -r "$plain/models/4"
	mkdir -p "$plain/models/.wfs-4/half"
	publish "$models/3" "$plain" --anchor plain >/dev/null
	is_listed "$plain" 4 "$models/3"
	[ -z "$(find "$plain/models" -name '.wfs*')" ]
}

test_listing_outlives_a_copy_of_the_store()
{
	cp -a "$plain" "$TMPDIR/copied"
	mv "$TMPDIR/copied" "$TMPDIR/elsewhere"
	diff -r "$TMPDIR/elsewhere/models/4" "$models/3"
	start_nginx "$TMPDIR/elsewhere"
	curl -sf "$SERVER_URL/models/4/model-00001-of-00003.safetensors" | cmp - "$models/3/model-00001-of-00003.safetensors"
}

test_packed_and_plain_in_one_store()
{
	local s=$TMPDIR/both

	publish "$models/1" "$s" >/dev/null
	publish "$models/2" "$s" --anchor plain --full >/dev/null
	is_listed "$s" 2 "$models/2"
	[ ! -e "$s/models/1" ]
	publish "$models/3" "$s" --full >/dev/null
	[ ! -e "$s/models/3" ]
	is_newest "$s" "$models/3"
	weightsync pull --quiet --version 2 "$s" "$TMPDIR/both.2" >/dev/null
	diff -r "$TMPDIR/both.2" "$models/2"
}

# Zeros are stored, too, when the object is to be the file.
test_plain_file_with_holes()
{
	local d=$TMPDIR/holes

	mkdir "$d"
	truncate -s 5M "$d/model.bin"
	printf x | dd of="$d/model.bin" bs=1 seek=3000000 conv=notrunc status=none
	publish "$d" "$d.store" --anchor plain >/dev/null
	cmp "$d.store/models/1/model.bin" "$d/model.bin"
	is_newest "$d.store" "$d"
}

# What the versions say, added up anew.
cold_of()			# STORE: each version's sequence, bytes for a new reader, bytes of a full copy, longest chain
{
	python3 - "$1" <<'PY'
import json, os, sys
store, cost, past, n = sys.argv[1], {}, {}, 0
while os.path.exists(f"{store}/commits/{n + 1}"):
    n += 1
    commit = json.load(open(f"{store}/commits/{n}"))
    cold = full = chain = 0
    for f in json.load(open(f"{store}/versions/{commit['version']}"))["files"]:
        if "sha256" in f:
            c, k, whole = f["size"], 0, f["size"]
        else:
            def size(table):
                return os.path.getsize(f"{store}/tables/{table}")
            c, k = cost.get(f["path"], (0, -1))
            whole = f["full"]
            c, k = (whole, 0) if "anchor" in f else (c + f["travel"], k + 1)
            for s in f.get("strides", []):
                c = min(c, past[n - s["back"]][f["path"]] + s["travel"]) if k else c
            assert f.get("cold", whole) == c and f.get("chain", 0) == k, f
        cost[f["path"]] = c, k
        past.setdefault(n, {})[f["path"]] = c
        cold, full, chain = cold + c, full + whole, max(chain, k)
    print(n, cold, full, chain)
PY
}

# 40 steps of about 9 % of a full copy.
test_first_download_stays_under_the_limit()
{
	local s=$TMPDIR/limit.store i n=0 fetched

	mkmodel make "$TMPDIR/limit.0" --mib 2 --shards 2 --tensors 4
	publish "$TMPDIR/limit.0" "$s" >/dev/null
	for i in $(seq 40); do
		mkmodel step "$TMPDIR/limit.$((i - 1))" "$TMPDIR/limit.$i" --percent 8 --seed "$i"
		rm -r "$TMPDIR/limit.$((i - 1))"
		publish "$TMPDIR/limit.$i" "$s" --anchor-limit 1.2 --json >"$TMPDIR/limit.json"
		n=$((n + $(jq 'if .anchor then 1 else 0 end' "$TMPDIR/limit.json")))
	done
	is_newest "$s" "$TMPDIR/limit.40"
	cold_of "$s" >"$TMPDIR/limit.cold"
	awk '$2 > 1.2 * $3 { print "version " $1 ": " $2 " bytes, a full copy has " $3; bad = 1 } END { exit bad }' "$TMPDIR/limit.cold"
	if [ "$n" -lt 3 ] || [ "$n" -gt 20 ]; then fail "$n anchors in 40 steps"; fi
	# a real reader, over the wire: the version before an anchor costs most
	i=$(sort -k 2n "$TMPDIR/limit.cold" | tail -n 1 | cut -d' ' -f1)
	start_nginx "$s"
	weightsync pull --quiet --version "$i" "$SERVER_URL" "$TMPDIR/limit.pulled" >/dev/null
	fetched=$(awk '{ n += $10 } END { print n }' "$SERVER_WORK/access.log")
	awk -v i="$i" -v n="$fetched" '$1 == i { exit !(n > 0.9 * $2 && n < 1.2 * $3 * 1.02 + 20000) }' "$TMPDIR/limit.cold" ||
		fail "version $i took $fetched bytes: $(grep "^$i " "$TMPDIR/limit.cold")"
}

# However small the steps: readers follow 256.
test_long_chains_end()
{
	local s=$TMPDIR/long.store d=$TMPDIR/long i

	mkmodel make "$d" --mib 1 --shards 1 --tensors 1
	publish "$d" "$s" >/dev/null
	for i in $(seq 130); do
		printf '%08d' "$i" | dd of="$d/model.safetensors" bs=1 seek=5000 conv=notrunc status=none
		publish "$d" "$s" --anchor-limit 100 >/dev/null
	done
	is_newest "$s" "$d"
	cold_of "$s" | awk '{ if ($4 == 0 && NR > 1) n++; if ($4 > 127) bad = 1 } END { exit bad || n != 1 }'
}

test_usage()
{
	local a

	for a in "--anchor loose" "--anchor-limit 1" "--anchor-limit 1.00" "--anchor-limit 1.5x" "--anchor-limit .5" \
		"--anchor-limit 101" "--anchor-limit -2" "--anchor-limit 99999999999999999999"; do
		# shellcheck disable=SC2086
		if weightsync publish "$models/1" "$TMPDIR/usage" $a 2>"$TMPDIR/usage.err"; then
			fail "$a was taken"
		else
			[ $? = 2 ]
		fi
		grep -q -- "${a% *} takes" "$TMPDIR/usage.err"
	done
	[ ! -e "$TMPDIR/usage" ]
	publish "$models/1" "$TMPDIR/usage" --anchor-limit 1.05 --anchor packed >/dev/null
}

run test_packed_is_the_default
run test_plain_store_is_a_model_repository
run test_listing_is_made_again_after_a_kill
run test_listing_outlives_a_copy_of_the_store
run test_packed_and_plain_in_one_store
run test_plain_file_with_holes
run test_first_download_stays_under_the_limit
run test_long_chains_end
run test_usage
finish
