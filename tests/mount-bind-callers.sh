#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-bind-callers.sh - who sees which version behind `latest`, where that is not plain: callers that are
# not what they were or cannot be seen, the other settings, what is kept and what is never said
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/flips.sh"

# ---- 6. who asks ----

# A process that gets the number of one that had looked is another process.
test_6_a_reused_pid_is_another_process()
{
	mounted
	cat >"$W/reuse.py" <<-EOF
	import os, signal, time
	def child(pid, stay=False):
	    """The answer for a child that has number pid, or None when that is not to be had."""
	    r, w = os.pipe()
	    if pid:
	        with open("/proc/sys/kernel/ns_last_pid", "w") as f:
	            f.write(str(pid - 1))
	    got = os.fork()
	    if got == 0:
	        if not pid or os.getpid() == pid:
	            os.write(w, os.readlink("$M/latest").encode())
	            os.close(w)
	        while stay:
	            signal.pause()
	        os._exit(0)
	    os.close(w)
	    with os.fdopen(r) as f:
	        answer = f.read()
	    if not stay:
	        os.waitpid(got, 0)
	    return got, answer
	pid, answer = child(None, True)
	assert answer == "versions/$v", answer
	open("$W/ready", "w")
	while not os.path.exists("$W/flipped"):
	    time.sleep(0.001)
	os.kill(pid, signal.SIGKILL)	# now, and no sweep before the number is another's
	os.waitpid(pid, 0)
	for i in range(10000):
	    got, answer = child(pid)
	    if got == pid:
	        assert answer == "versions/$((v + 1))", answer
	        print("ok")
	        break
	EOF
	ok_across_a_flip "$W/reuse.py"
	weightfs unmount "$M"
}

# A daemon in a pid namespace of its own: all callers outside of it are pid 0.  Its mount is seen here
# because the directory is shared between the mount namespaces.
mounted_elsewhere()		# "PREFIX COMMAND" OPTIONS
{
	local shared

	rm -rf "$C" "$W"
	mkdir -p "$W"
	shared=$(mktemp -d "$TMPDIR/shared.XXXXXX")
	mount -t tmpfs weightfs-test "$shared"
	mount --make-shared "$shared"
	M=$shared/mnt
	mkdir "$M"
	# shellcheck disable=SC2086 # words
	$1 weightfs mount "$S" "$M" -o "foreground,cache=$C,min_free=0,poll=200ms,$2" >"$W/log" 2>&1 &
	daemon=$!
	ends_with_us
	until_true 30 mountpoint -q "$M" || { cat "$W/log"; return 1; }
	v=$(publish)
	until_true 60 unseen_newest "$v"
}

# The daemon's namespace would keep the file systems of others busy: it ends when the last of the test's
# processes has, in whatever way.  A signal at its parent's death is lost when the daemon gives up root.
ends_with_us()
{
	local life

	# shellcheck disable=SC2034 # it is held open, which is its use
	exec {life}> >(
		cat
		pkill -f "weightfs mount $S $M "	# a path of this test's own
		umount -l "$M" "${M%/*}"
	) 2>/dev/null
}

unseen_newest() { [ "$(jq .newest "$M/.weightfs/status.json")" = "$1" ]; }

# One version for all, that ends by its age whether it is used or not.
unseen_share_a_slot()
{
	[ "$(readlink "$M/latest")" = "versions/$v" ]
	publish >/dev/null
	until_true 60 unseen_newest $((v + 1))
	[ "$(alone readlink "$M/latest")" = "versions/$v" ]
	until_true 20 sh -c "[ \"\$(readlink $M/latest)\" = versions/$((v + 1)) ]"
	[ "$(jq .mount.bound_processes "$M/.weightfs/status.json")" = 0 ]
	umount "$M"
	wait "$daemon"
	umount "${M%/*}"
}

test_6_callers_of_another_pid_namespace()
{
	mounted_elsewhere "$TESTS/apart --pid --fork --mount-proc --propagation unchanged --" linger=6s
	unseen_share_a_slot
}

# A daemon that may not see others' processes: hidepid, and no right to trace.
test_6_callers_that_proc_hides()
{
	cat >"$TMPDIR/hidden" <<-'EOF'
	#!/bin/sh
	mount --make-private /proc && mount -t proc -o hidepid=2,gid=65533 proc /proc &&
	exec setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$@"
	EOF
	chmod +x "$TMPDIR/hidden"
	mounted_elsewhere "$TESTS/apart --propagation unchanged -- $TMPDIR/hidden" linger=6s
	unseen_share_a_slot
	grep -q 'is not in /proc' "$W/log"
}

# A daemon whose /proc numbers processes otherwise than it does: it would take one for another.
test_6_a_foreign_proc_is_not_believed()
{
	mounted_elsewhere "unshare --pid --fork" linger=6s
	unseen_share_a_slot
	grep -q '/proc is of another pid namespace' "$W/log"
}

cgroup_dir()
{
	local d

	for d in $(findmnt -rn -t cgroup2 -o TARGET) $(findmnt -rn -t cgroup -O name=systemd -o TARGET); do
		[ ! -w "$d/cgroup.procs" ] || { echo "$d/weightfs-test-$$"; return; }
	done
	return 1
}

test_6_a_process_that_changes_its_cgroup()
{
	local group

	group=$(cgroup_dir)
	mounted
	mkdir "$group"
	cat >"$W/moves.py" <<-EOF
	import os, subprocess, time
	look = lambda: os.readlink("$M/latest")
	child = lambda f=None: subprocess.check_output(["readlink", "$M/latest"], preexec_fn=f, text=True).strip()
	def move():
	    with open("$group/cgroup.procs", "w") as f:
	        f.write(str(os.getpid()))
	assert look() == "versions/$v"
	open("$W/ready", "w")
	while not os.path.exists("$W/flipped"):
	    time.sleep(0.01)
	assert child() == "versions/$v"
	assert child(move) == "versions/$((v + 1))", "a child in another cgroup is another job"
	move()
	assert look() == "versions/$v", "a load that runs was moved, and lost its version"
	assert child() == "versions/$v", "its children are where it is"
	print("ok")
	EOF
	alone "python3 $W/moves.py" >"$W/out" &
	until_true 30 test -e "$W/ready"
	flip >/dev/null
	touch "$W/flipped"
	wait $!
	until_true 10 rmdir "$group"
	cat "$W/out"
	[ "$(cat "$W/out")" = ok ]
	weightfs unmount "$M"
}

# ---- the other settings ----

two_children()			# of a job, the second after a flip while the first loads; prints what they saw
{
	cat >"$W/two" <<-EOF
	tool-flip load joined $M $W/gate $L >$W/first &
	until [ -s $W/gate.at ]; do sleep 0.02; done
	touch $W/ready
	until [ -e $W/flipped ]; do sleep 0.02; done
	sed 's/[^0-9]//g' $M/latest/config.json >$W/second
	touch $W/gate
	wait
	EOF
	alone "sh $W/two" &
	until_true 30 test -e "$W/ready"
	flip >/dev/null
	touch "$W/flipped"
	wait $!
	paste -d' ' "$W/first" "$W/second"
}

test_bind_process_is_each_by_itself()
{
	mounted bind=process
	[ "$(two_children)" = "$v $((v + 1))" ]
	weightfs unmount "$M"
}

test_bind_job_is_the_default()
{
	mounted
	[ "$(two_children)" = "$v $v" ]
	weightfs unmount "$M"
}

# Two jobs that have nothing but their control group in common.
test_bind_cgroup_joins_jobs()
{
	mounted bind=cgroup
	alone "tool-flip load joined $M $W/gate $L" >"$W/saw" &
	until_true 30 lines "$W/gate.at" 1
	flip >/dev/null
	[ "$(alone readlink "$M/latest")" = "versions/$v" ]
	touch "$W/gate"
	wait $!
	[ "$(cat "$W/saw")" = "$v" ]
	weightfs unmount "$M"
}

# ---- 7. what is bound stays ----

test_7_a_bound_version_is_not_evicted()
{
	local w

	mounted keep_versions=0,cache_size=3M
	alone "tool-flip load joined $M $W/gate $L" >"$W/saw" &
	w=$!
	until_true 30 lines "$W/gate.at" 1
	for _ in 1 2 3 4 5 6; do flip >/dev/null; done
	until_true 30 sh -c "[ ! -e $M/versions/$((v + 4)) ]"
	shows "$v"
	mv "$S" "$S.away"		# what it reads now was kept here
	touch "$W/gate"
	wait $w
	mv "$S.away" "$S"
	[ "$(cat "$W/saw")" = "$v" ]
	# the process is gone: so is the version, with one of the next
	for _ in 1 2 3 4 5 6 7 8 9; do
		shows "$v" || break
		sleep 0.5
		flip >/dev/null
	done
	if shows "$v"; then return 1; fi
	weightfs unmount "$M"
}

# ---- 8. nothing is invalidated ----

test_8_a_flip_invalidates_nothing()
{
	local pid

	mounted keep_versions=9
	alone "cat $M/versions/$v/*.safetensors" >/dev/null
	pid=$(jq .mount.pid "$M/.weightfs/status.json")
	strace -f -s 128 -xx -e trace=write,writev -o "$W/trace" -p "$pid" 2>"$W/strace" &
	until_true 30 grep -q attached "$W/strace"
	alone "tool-flip load joined $M $W/gate $L" >"$W/saw" &
	until_true 30 lines "$W/gate.at" 1
	flip >/dev/null
	flip >/dev/null
	touch "$W/gate"
	wait $!
	[ "$(cat "$W/saw")" = "$v" ]
	kill %1 2>/dev/null
	# a reply to latest's READLINK was traced, and no message with number 0, which a notification has, but
	# "ask for the attributes again" of the root and of versions/: INVAL_INODE with offset -1 drops no page
	grep -q "$(printf 'versions/%s' "$v" | od -An -v -tx1 | tr -d '\n' | sed 's/ /\\\\x/g')" "$W/trace"
	grep -E '"(\\x..){4}\\x0[1-9]\\x00\\x00\\x00(\\x00){8}' "$W/trace" >"$W/told" || :
	if grep -vE '"\\x28\\x00\\x00\\x00\\x02(\\x00){11}", iov_len=16\}, \{iov_base="\\x0[13](\\x00){7}(\\xff){8}(\\x00){8}"' "$W/told"; then
		return 1
	fi
	weightfs unmount "$M"
}

publish >/dev/null
run_each bind_process_is_each_by_itself bind_job_is_the_default bind_cgroup_joins_jobs \
	7_a_bound_version_is_not_evicted 8_a_flip_invalidates_nothing
if [ "$(id -u)" = 0 ]; then
	run_each 6_a_reused_pid_is_another_process 6_callers_of_another_pid_namespace 6_callers_that_proc_hides \
		6_a_foreign_proc_is_not_believed
else
	skip test_6 "needs root for pid namespaces"
fi
if cgroup_dir >/dev/null; then
	run_each 6_a_process_that_changes_its_cgroup
else
	skip test_6_a_process_that_changes_its_cgroup "no control group may be made here"
fi
finish
