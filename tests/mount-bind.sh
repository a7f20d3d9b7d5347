#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-bind.sh - who sees which version behind `latest`: the rules of weightfs(1), one after another, 1 to 5;
# mount-bind-callers.sh has the rest
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/flips.sh"

# ---- 1. one process, many shards ----

load_every_way()		# prints what each saw, while two versions come between its shards
{
	local way n=0

	for way in joined realpath dirfd mntfd chdir above; do
		alone "tool-flip load $way $M $W/gate $L" >"$W/saw.$way" &
		n=$((n + 1))
	done
	until_true 60 lines "$W/gate.at" $n
	alone "tool-flip load threads $M $W/gate $L" >"$W/saw.threads" &
	until_true 60 lines "$W/gate.at" $((n + 1))
	flip >/dev/null
	flip >/dev/null
	touch "$W/gate"
	wait
	cat "$W"/saw.*
}

test_1_one_process_sees_one_version()
{
	mounted
	[ "$(load_every_way | sort | uniq -c | tr -s ' ')" = " 7 $v" ]
	weightfs unmount "$M"
}

# The same, unbound: the test above can fail.
test_1_unbound_loads_mix()
{
	mounted bind=none
	[ "$(load_every_way | grep -c "^$v $((v + 2))\$")" -ge 4 ]
	[ "$(jq .mount.bound_processes <<<"$(weightfs status "$M" --json)")" = 0 ]
	weightfs unmount "$M"
}

# ---- 2. ranks of one job ----

# Start three ranks, each after a version more, and compare what they saw.
ranks_agree()			# COMMAND of the job, [OPTIONS]
{
	local i job

	mounted "${2:-}"
	alone "$1" >"$W/out" 2>&1 &
	job=$!
	for i in 0 1 2; do
		touch "$W/start.$i"
		until_true 60 lines "$W/gate.at" $((i + 1)) || { cat "$W/out"; return 1; }
		flip >/dev/null
	done
	touch "$W/gate"
	for i in 0 1 2; do
		until_true 60 test -e "$W/rank.$i"
		[ "$(cat "$W/rank.$i")" = "$v" ] || fail "rank $i saw $(cat "$W/rank.$i"), not $v"
	done
	wait $job
	# a job that comes later sees what is newest
	[ "$(sed 's/[^0-9]//g' "$M/latest/config.json")" = $((v + 3)) ]
	weightfs unmount "$M"
}

script_of_ranks()		# END: what the script does at its end
{
	cat >"$TMPDIR/ranks.sh" <<-EOF
	rank()
	{
		until [ -e $W/start.\$1 ]; do sleep 0.02; done
		tool-flip load joined $M $W/gate $L >$W/rank.\$1.new
		mv $W/rank.\$1.new $W/rank.\$1
	}
	for i in 0 1 2; do rank \$i & done
	$1
	EOF
}

test_2_forked_ranks_agree() { ranks_agree "$TESTS/bind_ranks.py fork $W $M $L"; }
test_2_spawned_ranks_agree() { ranks_agree "$TESTS/bind_ranks.py spawn $W $M $L"; }
test_2_ranks_with_sessions_agree() { ranks_agree "$TESTS/bind_ranks.py sessions $W $M $L"; }
test_2_ranks_of_a_script_agree()
{
	script_of_ranks wait
	ranks_agree "sh $TMPDIR/ranks.sh"
}

# The script ends before its ranks look: they become children of pid 1, and agree all the same.
test_2_ranks_left_behind_agree()
{
	script_of_ranks "exit 0"
	ranks_agree "trap '' HUP; setsid --fork sh $TMPDIR/ranks.sh"
}

# ---- 3. parent and child ----

# Also when nobody may join: it is the parent's, not the job's.
test_3_children_see_the_parents_version() { ranks_agree "$TESTS/bind_ranks.py parent $W $M $L" join=0; }

# ---- 4. an interactive shell ----

t() { tmux -L "weightfs-$$" -f /dev/null "$@"; }
keys() { t send-keys -t shell "$@"; }
type_line() { keys -l "$1"; keys Enter; }
is_bound() { [ "$(jq .mount.bound_processes <<<"$(weightfs status "$M" --json)")" -ge "$1" ]; }

test_4_a_shell_sees_what_wait_said()
{
	mounted
	TERM=screen t new-session -d -s shell -x 200 -y 50 "bash --norc --noprofile -i"
	trap 't kill-server' EXIT
	type_line "cat $M/latest/config.json >$W/out1"
	until_true 30 test -s "$W/out1"
	keys -l "ls $M/latest/conf"
	keys Tab				# the shell itself looks
	until_true 30 is_bound 1
	keys C-u
	type_line "tool-flip load joined $M $W/gate $L >$W/loader &"
	until_true 30 lines "$W/gate.at" 1
	is_bound 2
	flip >/dev/null				# each command is a job of its own
	type_line "cat $M/latest/config.json >$W/out0"
	until_true 30 test -s "$W/out0"
	publish >/dev/null
	type_line "weightfs wait $M --newer-than $((v + 1)) --timeout 60 >$W/said; cat $M/latest/config.json >$W/out2"
	until_true 60 test -s "$W/out2"
	type_line "cd $M/latest && cat config.json >$W/out3; cd /"
	until_true 30 test -s "$W/out3"
	type_line "echo \$(cat $M/latest/config.json) >$W/out4"
	until_true 30 test -s "$W/out4"
	touch "$W/gate"
	until_true 30 test -s "$W/loader"
	t kill-server
	trap - EXIT
	grep -q " $v}" "$W/out1"
	grep -q " $((v + 1))}" "$W/out0"
	[ "$(cat "$W/said")" = $((v + 2)) ]
	grep -q " $((v + 2))}" "$W/out2"
	grep -q " $((v + 2))}" "$W/out3"
	grep -q " $((v + 2))}" "$W/out4"
	[ "$(cat "$W/loader")" = "$v" ]
	weightfs unmount "$M"
}

# In a script: what starts after `wait` sees the version; what runs keeps its own, the script too; and a
# rank that was started before but looks later belongs with those.
test_4_wait_in_a_script()
{
	mounted
	cat >"$W/script" <<-EOF
	read -r before <$M/latest/config.json
	tool-flip load joined $M $W/gate $L >$W/running &
	until [ -s $W/gate.at ]; do sleep 0.02; done
	(until [ -e $W/look ]; do sleep 0.02; done; exec cat $M/latest/config.json >$W/early) &
	sleep 0.1
	touch $W/ready
	weightfs wait $M --newer-than $v --timeout 60 >$W/said
	cat $M/latest/config.json >$W/late
	read -r after <$M/latest/config.json
	echo "\$before \$after" >$W/script.saw
	touch $W/look
	until [ -s $W/early ]; do sleep 0.02; done
	touch $W/gate
	wait
	EOF
	alone "sh $W/script" &
	until_true 60 test -e "$W/ready"
	flip >/dev/null
	wait $!
	[ "$(cat "$W/said")" = $((v + 1)) ]
	grep -q " $((v + 1))}" "$W/late"
	grep -q " $v}.* $v}" "$W/script.saw"
	grep -q " $v}" "$W/early"
	[ "$(cat "$W/running")" = "$v" ]
	weightfs unmount "$M"
}

# The same with `events`: what is started after its line sees that version, also after many before it.
test_4_events_in_a_script()
{
	mounted
	cat >"$W/script" <<-EOF
	read -r before <$M/latest/config.json
	weightfs events $M --json --newer-than $v | while read -r line; do
		cat $M/latest/config.json >>$W/late
		echo "\$line" >>$W/told
		[ \$(wc -l <$W/told) -lt 3 ] || break
	done
	read -r after <$M/latest/config.json
	echo "\$before \$after" >$W/script.saw
	EOF
	alone "sh $W/script" &
	for _ in 1 2 3; do
		until_true 30 listens
		flip >/dev/null
		until_true 30 lines "$W/told" $(($(newest_listed) - v))
	done
	publish >/dev/null			# events notices that nobody reads
	wait $!
	[ "$(jq -r .sequence "$W/told" | tr '\n' ' ')" = "$((v + 1)) $((v + 2)) $((v + 3)) " ]
	[ "$(sed 's/[^0-9]//g' "$W/late" | tr '\n' ' ')" = "$((v + 1)) $((v + 2)) $((v + 3)) " ]
	grep -q " $v}.* $v}" "$W/script.saw"
	weightfs unmount "$M"
}
newest_listed() { tail -n 1 "$L" | cut -d' ' -f1; }
listens() { pgrep -f "weightfs events $M" >/dev/null; }

# ---- 5. long lives ----

test_5_the_next_load_of_a_process_sees_the_newest()
{
	mounted linger=1s
	alone "python3 -c '
import os, sys, time
look = lambda: print(os.readlink(\"$M/latest\"), flush=True)
look()
open(\"$W/gate.at\", \"w\").write(\"x\\n\")
while not os.path.exists(\"$W/gate\"): time.sleep(0.05)
time.sleep(1.1)
look()'" >"$W/out" &
	until_true 30 lines "$W/gate.at" 1
	flip >/dev/null
	touch "$W/gate"
	wait $!
	[ "$(tr '\n' ' ' <"$W/out")" = "versions/$v versions/$((v + 1)) " ]
	weightfs unmount "$M"
}

# There is always a process of the job that loads: what comes within `join` of the first look sees
# the same, what comes later the newest.
test_5_a_busy_session_gets_new_versions()
{
	mounted join=4s
	cat >"$W/busy.py" <<-EOF
	import os, subprocess, time
	look = lambda: subprocess.Popen(["tool-flip", "load", "joined", "$M", "$W/gate", "$L"], stdout=subprocess.PIPE)
	begin, running = time.monotonic(), [look()]
	while not os.path.exists("$W/gate.at"):
	    time.sleep(0.01)
	first = time.monotonic()
	open("$W/ready", "w")
	while not os.path.exists("$W/flipped"):
	    time.sleep(0.01)
	inside, late = 0, 0
	while not late:
	    start = time.monotonic()
	    saw = subprocess.check_output(["cat", "$M/latest/config.json"]).split()[1].strip(b"}")
	    if time.monotonic() < begin + 4:
	        assert saw == b"$v", saw
	        inside += 1
	    elif start > first + 4:
	        assert saw == b"$((v + 1))", saw
	        late += 1
	open("$W/gate", "w")
	assert inside or start - begin > 4, "the machine was too slow to tell"
	assert running[0].communicate()[0] == b"$v\n"
	print("ok")
	EOF
	ok_across_a_flip "$W/busy.py"
	weightfs unmount "$M"
}

publish >/dev/null
run_each 1_one_process_sees_one_version 1_unbound_loads_mix 2_forked_ranks_agree 2_spawned_ranks_agree \
	2_ranks_with_sessions_agree 2_ranks_of_a_script_agree 2_ranks_left_behind_agree \
	3_children_see_the_parents_version 4_a_shell_sees_what_wait_said 4_wait_in_a_script 4_events_in_a_script \
	5_the_next_load_of_a_process_sees_the_newest 5_a_busy_session_gets_new_versions
finish
