#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 180
#
# events-listen.sh - weightfs events: who listens hears of every version, and costs nothing
. "$(dirname "$0")/suite.sh"
set -u
pids=()
cleanup() { [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null; }

S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache CK=$TMPDIR/ckpt L=$TMPDIR/lines
mkdir -p "$M" "$CK"
"$TESTS/mkmodel.py" make "$CK/1" --shards 1 --tensors 3 --mib 1 --seed 1
n=0
publish()			# [LABEL]: the same model with another small file
{
	n=$((n + 1))
	echo "$n" >"$CK/1/step.json"
	weightsync publish "$CK/1" "$S" --cache "$TMPDIR/pc" --label "${1:-step $n}" --quiet >/dev/null
}
shown() { [ "$(weightfs wait "$M" --newer-than $(($1 - 1)) --timeout 30)" = "$1" ]; }
mounted() { weightfs mount "$S" "$M" -o "cache=$C,poll=50ms,keep_versions=${1:-50}"; }
fresh() { unmount_below "$M"; rm -rf "$S" "$C" "$TMPDIR/pc"; n=0; publish; mounted "${1:-50}"; shown 1; }
listen() { : >"$L"; weightfs events "$M" --json "$@" >"$L" 2>"$L.err" & pids+=($!); listener=$!; }
lines() { [ "$(wc -l <"$L")" -ge "$1" ]; }

test_every_version_is_a_line()
{
	local id

	fresh
	listen
	until_true 20 lines 1
	for i in 2 3 4; do
		publish "label $i"
		shown "$i"
	done
	until_true 20 lines 4
	[ "$(jq -r .sequence "$L" | tr '\n' ' ')" = "1 2 3 4 " ]
	[ "$(jq -r '.event + " " + .path + " " + .label' "$L" | tail -n 1)" = "version $M/versions/4 label 4" ]
	[ "$(jq -s 'map(.skipped) | add' "$L")" = 0 ]
	id=$(weightfs status "$M" --json | jq -r '.versions[] | select(.sequence == 4) | .id + " \(.time)"')
	[ "$(tail -n 1 "$L" | jq -r '.id + " \(.time)"')" = "$id" ]
	[ "$(jq -r 'keys_unsorted | join(" ")' "$L" | sort -u)" = "event sequence path label time id skipped" ]
	weightfs unmount "$M"
	wait "$listener"			# the mount's end is a good end
}

test_begins_with_the_newest_if_it_is_newer()
{
	fresh
	publish
	shown 2
	listen --newer-than 1
	until_true 20 lines 1
	[ "$(jq .sequence "$L")" = 2 ]
	kill "$listener"
	listen --newer-than 2
	publish
	until_true 20 lines 1
	[ "$(jq .sequence "$L")" = 3 ]
	weightfs unmount "$M"
}

test_many_listeners()
{
	local i

	fresh
	for i in $(seq 100); do
		weightfs events "$M" --json >"$L.$i" & pids+=($!)
	done
	publish
	for i in $(seq 100); do
		until_true 60 grep -q '"sequence":2' "$L.$i"
	done
	weightfs status "$M" >"$TMPDIR/status"
	weightfs unmount "$M"
	wait
}

# A listener that does not read is left behind, and is told so.
test_a_slow_listener_skips()
{
	local i line skipped=0

	fresh 0
	mkfifo "$TMPDIR/pipe"
	weightfs events "$M" --json >"$TMPDIR/pipe" & pids+=($!); listener=$!
	exec 3<"$TMPDIR/pipe"
	read -r line <&3
	[ "$(jq .sequence <<<"$line")" = 1 ]
	kill -STOP "$listener"
	for i in $(seq 2 60); do
		publish "$(printf '%0200d' "$i")"
		shown "$i"
	done
	kill -CONT "$listener"
	i=1
	while read -r line <&3; do
		skipped=$((skipped + $(jq .skipped <<<"$line")))
		i=$((i + 1))
		[ "$(jq .sequence <<<"$line")" = 60 ] && break
	done
	[ "$(jq .sequence <<<"$line")" = 60 ]
	[ $skipped -gt 20 ] || fail "only $skipped skipped"
	[ $((i + skipped)) -eq 60 ] || fail "$i lines and $skipped skipped of 60"
	weightfs unmount "$M"
	exec 3<&-
}

test_text_for_people_is_safe()
{
	fresh
	weightfs events "$M" >"$L" & pids+=($!); listener=$!
	until_true 20 lines 1
	publish $'evil \e[31m"quote"'
	until_true 20 lines 2
	tail -n 1 "$L" | grep -qF '"evil \u001b[31m\"quote\""' || fail "$(tail -n 1 "$L" | cat -v)"
	grep -q $'\e' "$L" && fail "an escape reached the terminal"
	tail -n 1 "$L" | grep -qE "^2  $M/versions/2  [0-9-]+ [0-9:]+  [0-9a-f]{12}  "
	weightfs unmount "$M"
	wait "$listener"
}

test_whoever_reads_has_gone()
{
	fresh
	timeout 20 weightfs events "$M" | head -n 1 >"$L"
	[ "${PIPESTATUS[0]}" -eq 0 ] || fail "events waited for the next version"
	grep -q '^1  ' "$L"
	weightfs unmount "$M"
}

test_ctrl_c_and_a_dead_daemon()
{
	local pid

	set -m				# else background commands ignore SIGINT
	fresh
	listen
	until_true 20 lines 1
	kill -INT "$listener"
	wait "$listener" && fail "SIGINT was swallowed"
	[ ! -s "$L.err" ]
	listen
	until_true 20 lines 1
	pid=$(weightfs status "$M" --json | jq .mount.pid)
	kill -KILL "$pid"
	if wait "$listener"; then fail "a killed daemon looks like a good end"; fi
	grep -q "without a word" "$L.err"
	unmount_below "$M"
	weightfs events "$M" 2>/dev/null || [ $? -eq 3 ]
}

for t in every_version_is_a_line begins_with_the_newest_if_it_is_newer many_listeners a_slow_listener_skips \
	 text_for_people_is_safe whoever_reads_has_gone ctrl_c_and_a_dead_daemon; do
	run test_$t
done
finish
