#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# publish-gc.sh - what gc takes away, and what it never does
#
# WFS_GC_SECONDS=N: how long publisher, readers and gc run at once (default 45).
# timeout: 900
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/servers.sh"

CK=$TMPDIR/ck S=$TMPDIR/store P=$TMPDIR/pc
LAST=20
mkdir -p "$CK"
mkmodel() { python3 "$TESTS/mkmodel.py" "$@"; }
gc() { weightsync gc --json "$@"; }

mkmodel make "$CK/1" --mib 1 --shards 2 --tensors 4
for i in $(seq 2 $LAST); do mkmodel step "$CK/$((i - 1))" "$CK/$i" --seed "$i" --percent 1; done
for i in $(seq 1 $LAST); do
	full=
	[ "$i" != 10 ] || full=--full
	weightsync publish --quiet --strides 4 $full --cache "$P" "$CK/$i" "$S" >/dev/null
done

fresh() { rm -rf "$TMPDIR/s"; cp -a "$S" "$TMPDIR/s"; }

# What is pulled is that checkpoint, byte for byte.
pulls()				# STORE CHECKPOINT [OPTION...]
{
	rm -rf "$TMPDIR/out" && weightsync pull --quiet "$1" "$TMPDIR/out" "${@:3}" >/dev/null && diff -r "$TMPDIR/out" "$2"
}

# Every version from FIRST on can be pulled from nothing, and no older one.
good_from()			# STORE FIRST
{
	local v

	weightsync verify --quiet "$1" >/dev/null
	[ "$(weightsync log --json "$1" | head -n 1 | jq .sequence)" = "$2" ]
	for v in $(seq "$2" $LAST); do
		pulls "$1" "$CK/$v" --version "$v" || fail "version $v"
	done
	[ "$2" = 1 ] || ! weightsync pull --quiet "$1" "$TMPDIR/none" --version $(($2 - 1)) 2>/dev/null || fail "version $(($2 - 1))"
}

names() { (cd "$1" && find commits versions tables layouts packs -type f | sort -u); }

# Nothing that is needed goes; where the oldest version kept is stored in full, nothing else stays.
check_reach()			# KEEP FIRST [full]
{
	fresh
	gc "$TMPDIR/s" --keep "$1" --grace 0 >"$TMPDIR/gc.out"
	python3 "$TESTS/reach.py" "$TMPDIR/s" "$2" >"$TMPDIR/needed"
	[ "$(wc -l <"$TMPDIR/needed")" -gt 10 ] || fail "the test knows of $(wc -l <"$TMPDIR/needed") objects"
	names "$TMPDIR/s" | comm -13 "$TMPDIR/needed" - >"$TMPDIR/more"
	[ $# = 2 ] || [ ! -s "$TMPDIR/more" ] || fail "left, though not needed: $(cat "$TMPDIR/more")"
	good_from "$TMPDIR/s" "$2"
	jq -e ".oldest == $2 and .newest == $LAST and .removed.versions == $(($2 - 1))" "$TMPDIR/gc.out" >/dev/null ||
		fail "$(cat "$TMPDIR/gc.out")"
}

# ---- verify: what the versions kept are built from ----

# A pull of a version, from nothing.
can_pull() { rm -rf "$TMPDIR/out"; weightsync pull --quiet "$TMPDIR/s" "$TMPDIR/out" --version "$1" >/dev/null 2>&1; }

verify_says()			# STATUS [OPTION...]
{
	local r=0

	weightsync verify --quiet "$TMPDIR/s" "${@:2}" >/dev/null 2>"$TMPDIR/err" || r=$?
	[ $r = "$1" ] || fail "exit status $r, not $1: $(cat "$TMPDIR/err")"
}

# Each pack and table in turn, missing and then with a flipped bit: where a pull fails, verify does, and where
# nothing is wrong it says so.
check_verify()			# KEEP
{
	local f n=0 needed=0

	fresh
	gc "$TMPDIR/s" --keep "$1" --grace 0 >/dev/null
	verify_says 0
	verify_says 0 --version $LAST
	while read -r f; do
		n=$((n + 1))
		mv "$f" "$TMPDIR/aside"
		if ! can_pull $LAST; then
			verify_says 4
			verify_says 4 --version $LAST
			needed=$((needed + 1))
		fi
		cp "$TMPDIR/aside" "$f"
		python3 -c 'import sys; f=open(sys.argv[1],"r+b"); b=f.read(1)[0]; f.seek(0); f.write(bytes([b^4]))' "$f"
		verify_says 4
		grep -q "${f##*/}" "$TMPDIR/err" || fail "$f is not named: $(cat "$TMPDIR/err")"
		mv "$TMPDIR/aside" "$f"
	done < <(find "$TMPDIR/s/packs" "$TMPDIR/s/tables" -type f | sort)
	verify_says 0
	echo "keep $1: $n objects, without $needed of them no pull"
	[ $needed -ge 4 ] || fail "only $needed were needed"
}
test_verify_of_what_is_left() { check_verify 2; }

test_keep_to_a_full_version() { check_reach 11 10 full; }
test_keep_one() { check_reach 1 $LAST; }
test_keep_some() { check_reach 5 16; check_reach 14 7; }

test_keep_all()
{
	fresh
	gc "$TMPDIR/s" --keep 100 --grace 0 | jq -e '.removed.objects == 0' >/dev/null
	names "$TMPDIR/s" | diff - <(names "$S")
}

test_dry_run_removes_nothing()
{
	local want

	fresh
	want=$(gc "$TMPDIR/s" --keep 2 --grace 0 --dry-run | jq -c '[.removed,.kept]')
	names "$TMPDIR/s" | diff - <(names "$S")
	[ "$(gc "$TMPDIR/s" --keep 2 --grace 0 | jq -c '[.removed,.kept]')" = "$want" ]
	gc "$TMPDIR/s" --keep 2 --grace 0 | jq -e '.removed.objects == 0' >/dev/null || fail "a second run finds more"
}

test_grace()
{
	local orphan

	fresh
	gc "$TMPDIR/s" --keep 1 | jq -e '.oldest == 1 and .removed.objects == 0' >/dev/null || fail "within 7 days"
	gc "$TMPDIR/s" --keep 1 --grace 1h | jq -e '.removed.objects == 0' >/dev/null
	# What nothing names goes when it is old, whatever the versions.
	orphan=$TMPDIR/s/packs/$(printf '0%.0s' $(seq 64))
	echo orphan >"$orphan"
	echo foreign >"$TMPDIR/s/packs/notes.txt"
	touch -d '2 hours ago' "$TMPDIR"/s/packs/*
	gc "$TMPDIR/s" --keep 1 --grace 1h | jq -e '.removed.objects == 1' >/dev/null
	[ ! -e "$orphan" ] && [ -e "$TMPDIR/s/packs/notes.txt" ]
	good_from "$TMPDIR/s" 1
}

test_plain_names_go_with_their_version()
{
	local s=$TMPDIR/plain

	for i in 1 2 3; do
		weightsync publish --quiet --full --anchor plain --strides none --cache "$TMPDIR/pp" "$CK/$i" "$s" >/dev/null
	done
	gc "$s" --keep 1 --grace 0 >/dev/null
	[ "$(ls "$s/models")" = 3 ]
	diff -r "$s/models/3" "$CK/3"
	weightsync verify --quiet "$s" >/dev/null
}

test_a_publisher_goes_on_after_gc()
{
	local s=$TMPDIR/on v

	cp -a "$S" "$s"
	cp -a "$P" "$TMPDIR/onp"
	gc "$s" --keep 1 --grace 0 >/dev/null
	for v in 1 2 3 4 5 6; do
		weightsync publish --quiet --strides 4 --cache "$TMPDIR/onp" "$CK/$v" "$s" >/dev/null 2>>"$TMPDIR/on.err"
	done
	weightsync verify --quiet "$s" >/dev/null
	pulls "$s" "$CK/6"
}

test_wrong_usage_and_damage()
{
	local r t

	fresh
	for o in "" "--keep 0" "--keep x" "--keep 1 --grace soon" "--keep 1 --grace 7w" "--keep 1 --wait soon"; do
		r=0
		# shellcheck disable=SC2086
		gc "$TMPDIR/s" $o 2>"$TMPDIR/err" || r=$?
		[ $r = 2 ] || fail "gc $o: exit $r"
		! grep -q 'not a version' "$TMPDIR/err" || fail "gc $o takes a number of versions: $(cat "$TMPDIR/err")"
	done
	! gc http://127.0.0.1:1/ --keep 1 2>"$TMPDIR/err" || fail "a server's store"
	grep -q 'only a store in a directory' "$TMPDIR/err"
	mkdir "$TMPDIR/empty"
	r=0
	gc "$TMPDIR/empty" --keep 1 2>/dev/null || r=$?
	[ $r = 3 ]
	# A kept version that is damaged: nothing is removed.
	t=$(weightsync show --json "$S" 19 | jq -r '[.files[].table // empty][0]')
	echo x >>"$TMPDIR/s/tables/$t"
	names "$TMPDIR/s" >"$TMPDIR/before"
	r=0
	gc "$TMPDIR/s" --keep 2 --grace 0 2>"$TMPDIR/err" || r=$?
	[ $r = 4 ] || fail "exit $r: $(cat "$TMPDIR/err")"
	names "$TMPDIR/s" | diff - "$TMPDIR/before"
}

# A publisher that was killed between its commit and `latest': what that names must not go before it is renewed.
test_a_commit_that_latest_does_not_name()
{
	fresh
	cp "$TMPDIR/s/commits/$((LAST - 1))" "$TMPDIR/s/latest"
	gc "$TMPDIR/s" --keep 1 --grace 0 --dry-run >/dev/null
	cmp -s "$TMPDIR/s/commits/$((LAST - 1))" "$TMPDIR/s/latest" || fail "a dry run changed latest"
	gc "$TMPDIR/s" --keep 1 --grace 0 >/dev/null
	cmp "$TMPDIR/s/commits/$LAST" "$TMPDIR/s/latest"
	good_from "$TMPDIR/s" $LAST
	weightsync publish --quiet --strides 4 --cache "$TMPDIR/latestp" "$CK/1" "$TMPDIR/s" >/dev/null
	weightsync verify --quiet "$TMPDIR/s" >/dev/null
}

# The publisher can undo only from a version that the store does not have, and single steps back are collected.
test_a_store_that_was_set_back()
{
	local s=$TMPDIR/back c=$TMPDIR/backc v

	for v in 1 2 3 4 5; do weightsync publish --quiet --strides 2,4 --cache "$c" "$CK/$v" "$s" >/dev/null; done
	gc "$s" --keep 1 --grace 0 >/dev/null
	for v in 6 7 8; do weightsync publish --quiet --cache "$c" "$CK/$v" "$s" >/dev/null; done
	cp -a "$s" "$s.8"
	weightsync publish --quiet --cache "$c" "$CK/9" "$s" >/dev/null
	[ -n "$(ls "$c/undo")" ] || fail "the test made no undo list"
	weightsync publish --quiet --cache "$c" "$CK/10" "$s.8" >/dev/null
	weightsync verify --quiet "$s.8" >/dev/null
	pulls "$s.8" "$CK/10"
}

# Killed at its n-th unlink, for a spread of n: the store verifies, and the next run finishes.
test_killed_anywhere()
{
	local n kills=0 r

	for n in 1 2 3 7 15 16 17 18 20 25 40 60; do
		fresh
		r=0
		ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -o "$TMPDIR/trace" -e trace=unlinkat \
			-e "inject=unlinkat:signal=SIGKILL:when=$n" weightsync gc "$TMPDIR/s" --keep 3 --grace 0 >/dev/null 2>&1 || r=$?
		[ $r = 0 ] || kills=$((kills + 1))
		weightsync verify --quiet "$TMPDIR/s" >/dev/null || fail "after a kill at $n"
		pulls "$TMPDIR/s" "$CK/$LAST"
		gc "$TMPDIR/s" --keep 3 --grace 0 >/dev/null
		good_from "$TMPDIR/s" 18
	done
	[ $kills -ge 8 ] || fail "only $kills kills"
}

# CALL N: gc is interrupted at the N-th such call of a fresh store, and says so.
interrupt_gc()
{
	local r=0

	fresh
	ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -o "$TMPDIR/trace" -e "trace=$1" \
		-e "inject=$1:signal=SIGINT:when=$2" weightsync gc "$TMPDIR/s" --keep 3 --grace 0 >/dev/null 2>"$TMPDIR/int.err" || r=$?
	[ $r = 130 ] || fail "interrupted at $1 $2: exit $r: $(cat "$TMPDIR/int.err")"
}

# Whoever interrupts it is told what is gone, and that the versions it keeps are not touched.
test_interrupted_anywhere()
{
	local n gone

	interrupt_gc getdents64 2
	grep -q 'interrupted; nothing was removed$' "$TMPDIR/int.err" || fail "$(cat "$TMPDIR/int.err")"
	diff -r --exclude lock "$S" "$TMPDIR/s"
	for n in 1 5 17 18 25 60; do
		interrupt_gc unlinkat $n
		gone=$((LAST - $(ls "$TMPDIR/s/commits" | wc -l)))
		grep -q "interrupted; $gone versions, $n objects, .* are removed, and versions 18 to $LAST are whole" "$TMPDIR/int.err" ||
			fail "at $n, $gone versions are gone: $(cat "$TMPDIR/int.err")"
		weightsync verify --quiet "$TMPDIR/s" >/dev/null || fail "after an interruption at $n"
		pulls "$TMPDIR/s" "$CK/$LAST"
		gc "$TMPDIR/s" --keep 3 --grace 0 >/dev/null
		good_from "$TMPDIR/s" 18
	done
}

# A follower that holds what was collected, and one whose next version was collected: both go on with the newest.
test_readers_of_what_was_collected()
{
	local m=$TMPDIR/mnt c=$TMPDIR/rc v

	rm -rf "$TMPDIR/s"
	mkdir -p "$m"
	for v in 1 2 3; do
		weightsync publish --quiet --strides 4 --cache "$TMPDIR/rp" "$CK/$v" "$TMPDIR/s" >/dev/null
	done
	weightfs mount "$TMPDIR/s" "$m" -o "cache=$c,poll=1h"
	[ "$(weightfs wait "$m" --timeout 30)" = 3 ]
	until_true 30 sh -c "weightfs status '$m' --json | jq -e '.versions[0].complete' >/dev/null"
	weightfs unmount "$m"
	for v in $(seq 4 15); do
		weightsync publish --quiet --strides 4 --cache "$TMPDIR/rp" "$CK/$v" "$TMPDIR/s" >/dev/null
	done
	gc "$TMPDIR/s" --keep 2 --grace 0 >/dev/null
	weightfs mount "$TMPDIR/s" "$m" -o "cache=$c,poll=1h"
	[ "$(weightfs wait "$m" --newer-than 3 --timeout 30)" = 15 ]
	until_true 30 sh -c "weightfs status '$m' --json | jq -e '.versions[] | select(.sequence == 15).complete' >/dev/null"
	diff -r "$m/versions/15" "$CK/15"
	diff -r "$m/versions/3" "$CK/3"
	weightfs unmount "$m"
}

# ---- who waits for whom ----

# Run a command that stops itself, the store's lock held, at its n-th CALL; $holder is its process.
# A publisher's first linkat is in its cache, the second makes the commit.
stopped()			# STORE CALL N COMMAND...
{
	local s=$1 call=$2 n=$3

	: >"$s/lock"

	ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -o "$TMPDIR/trace" -e "trace=$call" \
		-e "inject=$call:signal=SIGSTOP:when=$n" "${@:4}" >"$TMPDIR/stopped.out" 2>"$TMPDIR/stopped.err" &
	stopped=$!
	until_true 30 sh -c "pid=\$(sed -n 's/^process \([0-9]*\) on .*/\1/p' '$s/lock') && [ -n \"\$pid\" ] &&
		grep -q '^State:.*[Tt] ' \"/proc/\$pid/status\"" || fail "$(cat "$TMPDIR/stopped.err")"
	holder=$(sed -n 's/^process \([0-9]*\) on .*/\1/p' "$s/lock")
}

go_on() { kill -CONT "$holder"; wait "$stopped" || fail "who was stopped: $(cat "$TMPDIR/stopped.err")"; }

test_a_publisher_waits_for_gc()
{
	local r=0 waiter

	fresh
	cp -a "$P" "$TMPDIR/waitp"
	stopped "$TMPDIR/s" unlinkat 1 weightsync gc "$TMPDIR/s" --keep 3 --grace 0
	weightsync publish --quiet --wait 0 --cache "$TMPDIR/waitp" "$CK/1" "$TMPDIR/s" 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ] && grep -q "^weightsync: gc is at work in this store: process $holder " "$TMPDIR/err" ||
		fail "exit $r: $(cat "$TMPDIR/err")"
	r=0
	weightsync publish --wait 1 --cache "$TMPDIR/waitp" "$CK/1" "$TMPDIR/s" 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ] && grep -q 'gc is at work in this store, still after 1 s' "$TMPDIR/err" || fail "exit $r: $(cat "$TMPDIR/err")"
	weightsync publish --strides 4 --cache "$TMPDIR/waitp" "$CK/1" "$TMPDIR/s" >/dev/null 2>"$TMPDIR/wait.err" &
	waiter=$!
	until_true 30 grep -q "^weightsync: waiting: gc is at work in this store: process $holder " "$TMPDIR/wait.err"
	kill -0 $waiter || fail "it did not wait: $(cat "$TMPDIR/wait.err")"
	go_on
	wait $waiter || fail "$(cat "$TMPDIR/wait.err")"
	[ "$(weightsync log --json "$TMPDIR/s" | sed -n '1p;$p' | jq -c .sequence | xargs)" = "18 21" ]
	weightsync verify --quiet "$TMPDIR/s" >/dev/null
	pulls "$TMPDIR/s" "$CK/1"
}

test_gc_and_a_publisher_wait_for_a_publisher()
{
	local r=0 a b c

	fresh
	for k in 1 2 3; do cp -a "$P" "$TMPDIR/waitp$k"; done
	stopped "$TMPDIR/s" linkat 1 weightsync publish --quiet --strides 4 --cache "$TMPDIR/waitp1" "$CK/1" "$TMPDIR/s"
	weightsync publish --quiet --cache "$TMPDIR/waitp2" "$CK/2" "$TMPDIR/s" 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ] && grep -q "another publisher is at work in this store: process $holder " "$TMPDIR/err" ||
		fail "exit $r: $(cat "$TMPDIR/err")"
	r=0
	gc "$TMPDIR/s" --keep 2 --grace 0 --wait 0 2>"$TMPDIR/err" || r=$?
	[ $r = 1 ] || fail "exit $r: $(cat "$TMPDIR/err")"
	gc "$TMPDIR/s" --keep 2 --grace 0 --dry-run >/dev/null || fail "a dry run waits for nobody"
	gc "$TMPDIR/s" --keep 2 --grace 0 >"$TMPDIR/gc.out" 2>"$TMPDIR/gc.err" & a=$!
	weightsync publish --wait 1m --cache "$TMPDIR/waitp2" "$CK/2" "$TMPDIR/s" >/dev/null 2>"$TMPDIR/pub.err" & b=$!
	weightsync gc "$TMPDIR/s" --keep 1 --grace 0 >/dev/null 2>"$TMPDIR/int.err" & c=$!
	for k in gc pub int; do
		until_true 30 grep -q '^weightsync: waiting: another publisher' "$TMPDIR/$k.err" || fail "$k: $(cat "$TMPDIR/$k.err")"
	done
	kill -TERM $c
	r=0
	wait $c || r=$?
	[ $r = 130 ] || fail "interrupted while it waits: exit $r: $(cat "$TMPDIR/int.err")"
	go_on
	wait $a || fail "gc: $(cat "$TMPDIR/gc.err")"
	wait $b || fail "publish: $(cat "$TMPDIR/pub.err")"
	# gc had chosen what it keeps before the two versions were there.
	jq -e '.oldest == 19 and .newest >= 21 and .removed.versions == 18' "$TMPDIR/gc.out" >/dev/null || fail "$(cat "$TMPDIR/gc.out")"
	[ "$(weightsync log --json "$TMPDIR/s" | sed -n '1p;$p' | jq -c .sequence | xargs)" = "19 22" ]
	weightsync verify --quiet "$TMPDIR/s" >/dev/null
	for k in 1 2; do
		pulls "$TMPDIR/s" "$CK/$k" --version $((20 + k))
	done
}

# What one gc keeps another has taken away before the first comes to remove anything: it begins anew.
test_two_collectors()
{
	local a

	fresh
	cp -a "$P" "$TMPDIR/twop"
	stopped "$TMPDIR/s" linkat 1 weightsync publish --quiet --strides 4 --cache "$TMPDIR/twop" "$CK/1" "$TMPDIR/s"
	weightsync gc --json "$TMPDIR/s" --keep 10 --grace 0 >"$TMPDIR/gc.out" 2>"$TMPDIR/gc.err" & a=$!
	until_true 30 grep -q '^weightsync: waiting' "$TMPDIR/gc.err"
	kill -STOP $a
	go_on
	gc "$TMPDIR/s" --keep 1 --grace 0 | jq -e '.oldest == 21 and .removed.versions == 20' >/dev/null
	kill -CONT $a
	wait $a || fail "$(cat "$TMPDIR/gc.err")"
	jq -e '.oldest == 21 and .newest == 21 and .removed.objects == 0' "$TMPDIR/gc.out" >/dev/null || fail "$(cat "$TMPDIR/gc.out")"
	weightsync verify --quiet "$TMPDIR/s" >/dev/null
	pulls "$TMPDIR/s" "$CK/1"
}

# What was to go is named again by a version that is published before it goes.
test_a_publisher_comes_back_to_what_was_to_go()
{
	local c

	fresh
	rm -rf "$TMPDIR/backp"
	cp -a "$P" "$TMPDIR/backp"
	# One whose commit fails leaves objects that nothing names, and that the next publisher finds.
	! ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -o "$TMPDIR/trace" -e trace=linkat \
		-e inject=linkat:error=EIO:when=2+ weightsync publish --quiet --strides none --cache "$TMPDIR/backp" "$CK/1" \
		"$TMPDIR/s" 2>"$TMPDIR/err" || fail "it published"
	[ ! -e "$TMPDIR/s/commits/21" ] || fail "$(cat "$TMPDIR/err")"
	rm -rf "$TMPDIR/backp"
	cp -a "$P" "$TMPDIR/backp"
	gc "$TMPDIR/s" --keep 100 --grace 0 --dry-run | jq -e '.removed.objects >= 4' >/dev/null || fail "the test left no objects"
	stopped "$TMPDIR/s" linkat 1 weightsync publish --quiet --strides none --cache "$TMPDIR/backp" "$CK/1" "$TMPDIR/s"
	gc "$TMPDIR/s" --keep 100 --grace 0 >"$TMPDIR/gc.out" 2>"$TMPDIR/gc.err" & c=$!
	until_true 30 grep -q '^weightsync: waiting' "$TMPDIR/gc.err"
	go_on
	wait $c || fail "$(cat "$TMPDIR/gc.err")"
	jq -e '.newest == 21' "$TMPDIR/gc.out" >/dev/null || fail "$(cat "$TMPDIR/gc.out")"
	weightsync verify --quiet "$TMPDIR/s" >/dev/null
	pulls "$TMPDIR/s" "$CK/1"
}

# ---- all at once ----

say_bad() { echo "$*" >>"$TMPDIR/bad"; }

publisher()			# until the file is there
{
	local i=1 dir

	cp -a "$CK/1" "$TMPDIR/live.1"
	while [ ! -e "$TMPDIR/stop" ]; do
		dir=$TMPDIR/live.$i
		weightsync publish --quiet --strides 4,8 --cache "$TMPDIR/livep" "$dir" "$L" >/dev/null 2>"$TMPDIR/pub.err" || {
			say_bad "publish: $(cat "$TMPDIR/pub.err")"
			return
		}
		echo "$i" >"$TMPDIR/published.tmp" && mv "$TMPDIR/published.tmp" "$TMPDIR/live.last"
		mkmodel step "$dir" "$TMPDIR/live.$((i + 1))" --seed "$i" --percent 2
		# A plain copy stays as long as a mount may show its version.
		[ $i -le 40 ] || rm -rf "$TMPDIR/live.$((i - 40))"
		i=$((i + 1))
	done
}

collector()
{
	while [ ! -e "$TMPDIR/stop" ]; do
		gc "$L" --keep 3 --grace 2s >>"$TMPDIR/gc.runs" 2>"$TMPDIR/live.err" || say_bad "gc: $(cat "$TMPDIR/live.err")"
		sleep 0.3
	done
}

# A machine that has nothing: a version that is collected while it is fetched is no error of the store's.
puller()			# URL
{
	local v

	while [ ! -e "$TMPDIR/stop" ]; do
		v=$(cat "$TMPDIR/live.last")
		rm -rf "$TMPDIR/pulled"
		if weightsync pull --quiet "$1" "$TMPDIR/pulled" --version "$v" 2>"$TMPDIR/pull.err"; then
			diff -r "$TMPDIR/pulled" "$TMPDIR/live.$v" >"$TMPDIR/diff.pull" 2>&1 ||
				say_bad "pull of $v: $(head -n 3 "$TMPDIR/diff.pull")"
			echo "$v" >>"$TMPDIR/pulls"
		elif weightsync log --json "$1" | jq -e "select(.sequence == $v)" >/dev/null; then
			say_bad "pull of $v: $(cat "$TMPDIR/pull.err")"
		fi
	done
}

reader()			# MOUNT
{
	local v

	while [ ! -e "$TMPDIR/stop" ]; do
		v=$(readlink "$1/latest") && v=${v#versions/} || { sleep 0.1; continue; }
		# The version may leave the mount when two newer ones are shown; while it is there it is right.
		exec 8<"$1/versions/$v/config.json" || continue
		if ! diff -r "$1/versions/$v" "$TMPDIR/live.$v" >"$TMPDIR/diff.${1##*.}" 2>&1 && [ -e "$1/versions/$v" ]; then
			say_bad "$1 version $v: $(head -n 3 "$TMPDIR/diff.${1##*.}")"
		fi
		exec 8<&-
		echo "$v" >>"$TMPDIR/read.${1##*.}"
		sleep 0.1
	done
}

test_publisher_readers_and_gc_at_once()
{
	local k end last newest

	trap 'touch "$TMPDIR/stop"; stop_servers' EXIT
	L=$TMPDIR/live.store
	mkdir -p "$L"
	rm -f "$TMPDIR/stop" "$TMPDIR/bad"
	publisher & pids=$!
	until_true 30 test -e "$TMPDIR/live.last"
	start_nginx "$L"
	url=$SERVER_URL
	start_pyhttp "$L"
	for k in a b; do
		mkdir -p "$TMPDIR/m.$k"
		weightfs mount "$url" "$TMPDIR/m.$k" -o "cache=$TMPDIR/live.$k,poll=200ms,keep_versions=2"
		url=$SERVER_URL
		weightfs wait "$TMPDIR/m.$k" --timeout 60 >/dev/null
		reader "$TMPDIR/m.$k" & pids="$pids $!"
	done
	collector & pids="$pids $!"
	puller "$url" & pids="$pids $!"
	end=$((SECONDS + ${WFS_GC_SECONDS:-45}))
	while [ $SECONDS -lt $end ] && [ ! -s "$TMPDIR/bad" ]; do sleep 0.5; done
	touch "$TMPDIR/stop"
	# shellcheck disable=SC2086
	wait $pids
	[ ! -s "$TMPDIR/bad" ] || fail "$(cat "$TMPDIR/bad")"
	last=$(cat "$TMPDIR/live.last")
	for k in a b; do
		until_true 60 sh -c "weightfs status '$TMPDIR/m.$k' --json | jq -e '.versions[] | select(.sequence == $last).complete' >/dev/null"
		diff -r "$TMPDIR/m.$k/versions/$last" "$TMPDIR/live.$last"
		weightfs unmount --lazy "$TMPDIR/m.$k"
		newest=$(sort -n "$TMPDIR/read.$k" | tail -n 1)
		[ "$(sort -u "$TMPDIR/read.$k" | wc -l)" -ge 3 ] || fail "reader $k saw $(sort -u "$TMPDIR/read.$k" | wc -l) versions to $newest"
	done
	stop_servers
	weightsync verify --quiet "$L" >/dev/null
	[ "$(wc -l <"$TMPDIR/gc.runs")" -ge 5 ]
	[ "$(weightsync log --json "$L" | head -n 1 | jq .sequence)" -gt 1 ] || fail "nothing was collected"
	[ "$(wc -l <"$TMPDIR/pulls")" -ge 3 ] || fail "$(wc -l <"$TMPDIR/pulls") pulls"
	echo "$last versions, $(wc -l <"$TMPDIR/gc.runs") collections of $(jq -s 'map(.removed.objects) | add' "$TMPDIR/gc.runs")" \
		"objects, $(cat "$TMPDIR"/read.[ab] | wc -l) readings, $(wc -l <"$TMPDIR/pulls") pulls"
}

for t in $(declare -F | sed -n 's/^declare -f \(test_\)/\1/p'); do
	run "$t"
done
finish
