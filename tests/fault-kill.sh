#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# fault-kill.sh - SIGKILL and power loss at chosen system calls of an update, a publish, a pull
#
# strace kills the program when one of its threads enters its N-th call of a kind (the call is not
# made any more).  Its trace says which call that was, and so the phase, which is counted: a test
# whose faults did not happen where they should has failed.
#
# Each kill begins with the same state, so the points do not depend on one another.
#
# may-skip: power loss needs root and loop devices
# timeout: 900
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

V=$TMPDIR/v S=$TMPDIR/store C=$TMPDIR/cache M=$TMPDIR/mnt P=$TMPDIR/pcache D=$TMPDIR/pulled
KILLS=$TMPDIR/kills TRACE=$TMPDIR/trace
UNREACHABLE=http://127.0.0.1:1/
mkdir -p "$V" "$M"

quietly() { "$@" >>"$TMPDIR/log" 2>&1; }
field() { weightfs status "$M" --json | jq "$1"; }
publish() { weightsync publish "$V/$1" "$S" --cache "$P" --quiet; }
copy() { rm -rf "$2"; cp -a --sparse=always "$1" "$2"; }
kills() { grep -c "^$1" "$KILLS" || true; }

# Three versions; s2 c2 p2 and s3: store, reader's cache and publisher's cache after the second, store after the third.
prepare()
{
	local n

	python3 "$TESTS/mkmodel.py" make "$V/1" --mib 7
	for n in 2 3 4; do
		python3 "$TESTS/mkmodel.py" step "$V/$((n - 1))" "$V/$n" --percent 20 --seed $n
	done
	publish 1
	weightfs mount "$S" "$M" -o "cache=$C,min_free=0"
	weightfs wait "$M" --timeout 60
	publish 2
	weightfs wait "$M" --newer-than 1 --timeout 60
	weightfs unmount "$M"
	copy "$C" "$TMPDIR/c2"
	copy "$S" "$TMPDIR/s2"
	copy "$P" "$TMPDIR/p2"
	publish 3
	copy "$S" "$TMPDIR/s3"
	weightsync show "$S" 3 --json | jq -r '.files[].table // empty' >"$TMPDIR/tables"
	comm -13 <(ls "$TMPDIR/s2/packs") <(ls "$TMPDIR/s3/packs") >"$TMPDIR/packs"
	[ "$(wc -l <"$TMPDIR/tables")" = 3 ] && [ -s "$TMPDIR/packs" ]
}

# traced CALLS N [STRACE-OPTION...] -- COMMAND...: 137 when the N-th call was its end.  LeakSanitizer
# cannot work in a traced process.
traced()
{
	local calls=$1 n=$2 options=() r=0

	shift 2
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	{	# without the shell's word about each that was killed
		ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 \
			timeout -k 5 60 strace -f -y -o "$TRACE" ${options[@]+"${options[@]}"} -e "trace=$calls" \
			-e "inject=$calls:signal=SIGKILL:when=$n" "$@" >>"$TMPDIR/log" 2>&1 || r=$?
	} 2>/dev/null
	return $r
}

# The line of the call that was the end: the N-th of its name in its thread, which did not return.
fatal_call()			# N
{
	awk -v n="$1" '$2 == "<..." { if (!/= \?( <unavailable>)?$/) open[$1] = ""; next }
		$2 == "+++" || $2 == "---" { next }
		{ split($2, call, "("); at[$1] = ++count[$1, call[1]]
		  open[$1] = /(<unfinished \.\.\.>|= \?( <unavailable>)?)$/ ? $0 : "" }
		END { for (t in open) if (open[t] != "" && at[t] == n) { print open[t]; exit } }' "$TRACE"
}

# Which part of an update a call of the daemon belongs to.
phase_of()			# LINE
{
	case $1 in
	*unlinkat*'"tmp"'*|*unlinkat*"$C/tmp"*) echo start ;;
	*"$C/objects"*|*"$C/stash"*|*"$S/"*) echo fetch ;;
	*unlinkat*|*fdatasync*|*fsync*|*renameat*|*"$C/versions"*|*"$C/.wfs-"*) echo commit ;;
	*pwrite64*"/map>, \"WFSMAP01\\"[12]*) echo commit ;;
	*pwrite64*"$C/images"*|*fallocate*"$C/images"*) echo build ;;
	*) echo other ;;
	esac
}

# A failure says after which kill.
explain()
{
	set -E
	trap 'echo "line $LINENO: $BASH_COMMAND; after: $(tail -n 1 "$KILLS")" >&2' ERR
}

same_tree() { diff -r "$V/$1" "$2"; }

# Every version shown, and what latest is.
compare_shown()
{
	local n newest=0

	for n in $(field '.versions[].sequence'); do
		same_tree "$n" "$M/versions/$n"
		[ "$n" -lt "$newest" ] || newest=$n
	done
	same_tree "$newest" "$M/latest"
}

# Without a store: what was complete is there, nothing else is, and nothing was made for it.
check_alone()
{
	quietly weightfs mount "$UNREACHABLE" "$M" -o "cache=$C,min_free=0,poll=1h"	# says that it removed the dead one
	[ "$(field '[.versions[].sequence] | . == [1, 2] or . == [2, 3] or . == [1, 2, 3]')" = true ]
	[ "$(field '[.versions[].complete] | all')" = true ]
	compare_shown
	[ "$(field '.blocks_built + .bytes_received + .rot_found')" = 0 ]
	weightfs unmount "$M"
}

# In the images of version 3: blocks that the dead daemon said to be there.
blocks_claimed()
{
	python3 - "$C/images" "$TMPDIR/tables" <<'PY'
import os, sys
n = 0
for table in open(sys.argv[2]).read().split():
    path = os.path.join(sys.argv[1], table, "map")
    m = open(path, "rb").read() if os.path.exists(path) else b""
    n += 3 if len(m) > 4099 and m[8] > 0 else m[4096:4099].count(1)
print(n)
PY
}

# All images of the cache are marked as synced.
all_durable()
{
	python3 - "$C/images" <<'PY'
import os, sys
maps = [os.path.join(sys.argv[1], t, "map") for t in os.listdir(sys.argv[1])]
sys.exit(not maps or any(open(m, "rb").read(9)[8:] != b"\2" for m in maps))
PY
}

# With the store: the update is finished from where it was left.
check_update()			# BLOCKS-AT-LEAST BLOCKS-AT-MOST still to be built
{
	local built

	weightfs mount "$S" "$M" -o "cache=$C,min_free=0"
	weightfs wait "$M" --newer-than 2 --timeout 60 >/dev/null
	compare_shown
	built=$(field .blocks_built)
	if [ "$built" -lt "$1" ] || [ "$built" -gt "$2" ]; then
		fail "$built blocks built, wanted $1 to $2"
	fi
	until_true 10 all_durable
	weightfs unmount "$M"
	[ -z "$(find "$C" -name '.wfs-*')" ] || fail "temporaries stay: $(find "$C" -name '.wfs-*')"
}

# A daemon that comes to the end of the update is not waited for.
end_when_shown()
{
	until [ "$(field .newest 2>/dev/null)" = 3 ]; do
		sleep 0.1
	done
	weightfs unmount "$M"
}

# kill_update CALLS N [STRACE-OPTION...]: kill the daemon there.  reached: yes, or no
kill_update()
{
	local calls=$1 n=$2 r=0 line watcher

	shift 2
	end_when_shown >>"$TMPDIR/log" 2>&1 &
	watcher=$!
	traced "$calls" "$n" "$@" -- weightfs mount "$S" "$M" -o "cache=$C,min_free=0,foreground" || r=$?
	kill $watcher 2>/dev/null || true
	wait $watcher 2>/dev/null || true
	reached=no
	if [ $r = 137 ]; then
		reached=yes
		line=$(fatal_call "$n")
		[ -n "$line" ] || fail "the trace has no fatal call: $(tail -n 4 "$TRACE")"
		echo "$(phase_of "$line") ${line:0:240}" >>"$KILLS"
	fi
}

check_killed_update()
{
	local left

	check_alone
	left=$((9 - $(blocks_claimed)))
	check_update $left $left
}

# kill_until PHASE WANTED CALLS FIRST LAST [STRACE-OPTION...]: kill at these calls until there are so many
kill_until()
{
	local phase=$1 wanted=$2 calls=$3 first=$4 last=$5 n=$4 tries=0

	shift 5
	while [ "$(kills "$phase")" -lt "$wanted" ]; do
		tries=$((tries + 1))
		[ $tries -le 40 ] || fail "only $(kills "$phase") kills in $phase"
		copy "$TMPDIR/c2" "$C"
		kill_update "$calls" "$n" "$@"
		[ $reached = no ] || check_killed_update
		n=$((n < last ? n + 1 : first))
	done
}

paths()				# FILE PREFIX SUFFIX...: -P options, an option a line
{
	local id suffix

	while read -r id; do
		for suffix in "${@:3}"; do
			printf '%s\n' -P "$2/$id$suffix"
		done
	done <"$1"
}

test_update_killed_in_fetch()
{
	explain
	mapfile -t where < <(paths "$TMPDIR/tables" "$C/stash" ""; paths "$TMPDIR/packs" "$S/packs" "")
	kill_until fetch 12 pwrite64,pread64 1 3 "${where[@]}"
	kill_until fetch 16 openat,fsync,renameat 1 4 -P "$C/objects"
	kill_until fetch 20 fsync 1 8
}

test_update_killed_in_build()
{
	explain
	mapfile -t where < <(paths "$TMPDIR/tables" "$C/images" /data /map)
	kill_until build 20 pwrite64,fallocate 2 11 "${where[@]}"
}

test_update_killed_in_commit()
{
	explain
	mapfile -t where < <(paths "$TMPDIR/tables" "$C/images" /data /map "")
	kill_until commit 6 fdatasync 1 3 "${where[@]}"
	kill_until commit 8 fsync 1 2 "${where[@]}" -P "$C/images"
	kill_until commit 17 fsync 4 9
	kill_until commit 20 renameat 4 6
	kill_until commit 23 unlinkat 2 6
}

test_kills_were_in_every_phase()
{
	local phase

	for phase in fetch build commit; do
		echo "# $phase: $(kills $phase) kills: $(grep "^$phase" "$KILLS" | awk '{ sub(/\(.*/, "", $3); print $3 }' | sort | uniq -c | xargs)"
		[ "$(kills $phase)" -ge 20 ]
	done
}

# ---- power loss ----

# The disk forgets what was not synced.  A machine that lost its power has another boot id: what a
# map of this one says about the page cache is not true any more.
lose_power()
{
	tool-shutdown "$TMPDIR/disk"
	until_true 5 umount "$TMPDIR/disk"
	mount -o loop "$TMPDIR/disk.img" "$TMPDIR/disk"
	python3 - "$C/images" <<'PY'
import glob, sys
for path in glob.glob(sys.argv[1] + "/*/map"):
    with open(path, "r+b") as f:
        if len(f.read(128)) == 128:
            f.seek(16)
            f.write(b"0" * 36)
PY
}

test_power_loss()
{
	local tries=0 n calls losses

	explain
	C=$TMPDIR/disk/cache
	losses=$(($(kills .) + 21))
	while [ "$(kills .)" -lt "$losses" ]; do
		tries=$((tries + 1))
		[ $tries -le 80 ] || fail "the faults do not happen"
		calls=$(shuf -n 1 -e pwrite64 pwrite64 fsync fsync fdatasync renameat unlinkat openat)
		n=$((RANDOM % 12 + 1))
		[ "$calls" != openat ] || n=$((RANDOM % 100 + 100))
		copy "$TMPDIR/c2" "$C"
		sync -f "$C"
		kill_update "$calls" $n
		if [ $reached = yes ]; then
			lose_power
			check_alone
			check_update 0 9
		fi
	done
}

# ---- publish and pull ----

newest_in_store() { weightsync log "$S" --json | jq -s 'map(.sequence) | max // 0'; }

# points CALLS WANTED COMMAND...: "CALL N" for so many calls, of all that the command makes, and every
# link: that is how a commit is created
points()
{
	local calls=$1 wanted=$2

	shift 2
	traced "$calls" 65535 -- "$@"
	awk '$2 !~ /^[<+-]/ { split($2, call, "("); n = ++count[$1, call[1]]; if (n > most[call[1]]) most[call[1]] = n }
		END { for (c in most) for (i = 1; i <= most[c]; i++) print c, i }' "$TRACE" |
		sort -k2n -k1 | awk -v want="$wanted" '$1 == "linkat" { print; next } { line[++n] = $0 }
		END { if (want > n) want = n; for (i = 0; i < want; i++) print line[int(i * n / want) + 1] }'
}

# kill_at CALL N COMMAND...
kill_at()
{
	local r=0

	traced "$1" "$2" -- "${@:3}" || r=$?
	reached=no
	if [ $r = 137 ]; then
		reached=yes
		echo "$what $(fatal_call "$2" | cut -c1-240)" >>"$KILLS"
	else
		[ $r = 0 ] || fail "${*:3}: exit status $r"
	fi
}

check_store()			# NEWEST
{
	quietly weightsync verify "$S"
	rm -rf "$D"
	quietly weightsync pull "$S" "$D" --quiet
	same_tree "$1" "$D"
}

# From version OLD (0: no store) to the next.
restore_store()			# OLD
{
	rm -rf "$S" "$P"
	[ "$1" = 0 ] || copy "$TMPDIR/s$1" "$S"
	[ "$1" = 0 ] || copy "$TMPDIR/p$1" "$P"
}

publish_killed()		# OLD WANTED
{
	local old=$1 new=$(($1 + 1)) newest call n what=publish$1
	local command=(weightsync publish "$V/$new" "$S" --cache "$P" --quiet)

	restore_store "$old"
	points write,pwrite64,fsync,fdatasync,linkat,renameat,unlinkat,mkdirat "$2" "${command[@]}" >"$TMPDIR/points"
	while read -r call n <&3; do
		restore_store "$old"
		kill_at "$call" "$n" "${command[@]}"
		[ $reached = yes ] || continue
		newest=0
		[ ! -e "$S/weightfs-store" ] || newest=$(newest_in_store)
		[ "$newest" = "$old" ] || [ "$newest" = $new ] || fail "newest is $newest"
		[ "$newest" = 0 ] || check_store "$newest"
		quietly publish $new
		[ "$(newest_in_store)" = $new ]
		check_store $new
	done 3<"$TMPDIR/points"
}

test_publish_killed()
{
	explain
	publish_killed 2 64
	publish_killed 0 12
	echo "# publish: $(kills publish2) kills of a third version, $(kills publish0) of a first"
	grep -q '^publish2 .* linkat(.*"tmp/' "$KILLS"
	[ "$(kills publish2)" -ge 50 ] && [ "$(kills publish)" -ge 60 ]
}

pull_killed()			# OLD WANTED
{
	local old=$1 call n what=pull$1 command=(weightsync pull "$S" "$D" --quiet)

	rm -rf "$D"
	[ "$old" = 0 ] || copy "$V/$old" "$D"
	points write,pwrite64,fsync,fdatasync,linkat,renameat,renameat2,unlinkat,mkdirat,utimensat "$2" "${command[@]}" >"$TMPDIR/points"
	while read -r call n <&3; do
		rm -rf "$D" "$TMPDIR/.pulled.weightsync"
		[ "$old" = 0 ] || copy "$V/$old" "$D"
		kill_at "$call" "$n" "${command[@]}"
		[ $reached = yes ] || continue
		if [ "$old" != 0 ]; then
			quietly same_tree "$old" "$D" || same_tree 3 "$D"
		elif [ -e "$D" ]; then
			same_tree 3 "$D"
		fi
		# Delivered files are their owner's: what he writes to them must not come back as version 3.
		[ ! -e "$D" ] || printf x | dd of="$D/model-00002-of-00003.safetensors" bs=1 seek=1500000 conv=notrunc status=none
		quietly "${command[@]}"
		same_tree 3 "$D"
		[ ! -e "$TMPDIR/.pulled.weightsync" ]
	done 3<"$TMPDIR/points"
}

test_pull_killed()
{
	explain
	copy "$TMPDIR/s3" "$S"
	pull_killed 2 50
	pull_killed 0 20
	echo "# pull: $(kills pull2) kills with a directory to replace, $(kills pull0) without"
	[ "$(kills pull2)" -ge 35 ] && [ "$(kills pull)" -ge 50 ]
}

touch "$KILLS"
if ! quietly prepare; then
	cat "$TMPDIR/log"
	exit 1
fi
for t in update_killed_in_fetch update_killed_in_build update_killed_in_commit kills_were_in_every_phase; do
	run test_$t
done
if [ "$(id -u)" != 0 ]; then
	skip test_power_loss "needs root"
elif ! { truncate -s 128M "$TMPDIR/disk.img" && mkdir "$TMPDIR/disk" && mkfs.ext4 -q -F "$TMPDIR/disk.img" &&
	mount -o loop "$TMPDIR/disk.img" "$TMPDIR/disk"; } 2>"$TMPDIR/loop"; then
	skip test_power_loss "no loop mount: $(tail -n 1 "$TMPDIR/loop")"
else
	run test_power_loss
	unmount_below "$TMPDIR"
fi
run test_publish_killed
run test_pull_killed
finish
