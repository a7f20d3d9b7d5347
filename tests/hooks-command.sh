#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# hooks-command.sh - weightfs hooks runs a program: what it gets, when it ends, and which version it is told
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/hooks.sh"

program()			# the body on stdin
{
	{ echo '#!/bin/sh'; cat; } >"$TMPDIR/program"
	chmod +x "$TMPDIR/program"
}
conf()				# LINES...
{
	printf '[hook "prog"]\nmount = %s\ncommand = %s/program\n' "$M" "$TMPDIR" >"$CONF"
	printf '%s\n' "$@" >>"$CONF"
}

# Nobody tells the hook of a newer version: status says so, and no longer when somebody does.
test_status_says_that_hooks_do_not_run()
{
	text_says() { weightfs status "$M" | grep -q "hook  *prog: told, was told version $1$2\$"; }
	fresh
	echo 'exit 0' | program
	conf
	start_hooks
	until_true 20 hook_is prog told 1
	until_true 20 text_says 1 ''
	stop_hooks
	publish
	shown 2
	until_true 20 text_says 1 '; it is told no more: weightfs hooks does not run'
	[ "$(hook prog .process)" = 0 ]
	start_hooks
	until_true 20 text_says 2 ''
}

# The daemon, in a pid namespace of its own, does not know the number of hooks: they are there all the same.
test_hooks_of_another_pid_namespace()
{
	[ "$(id -u)" = 0 ] || return 0		# nobody else may make one
	fresh
	unmount_below "$TMPDIR"
	echo 'exit 0' | program
	conf
	unshare --pid --fork weightfs mount "$S" "$M" -f -o "cache=$C.apart,poll=50ms" 2>"$TMPDIR/apart.log" &
	until_true 20 mountpoint -q "$M"
	start_hooks
	until_true 20 hook_is prog told 1
	[ "$(hook prog '"\(.runs) \(.process)"')" = "true 0" ]
	refute grep -q 'told no more' <(weightfs status "$M")
	refute weightfs hooks "$M" --config "$CONF" --once 2>"$TMPDIR/err"
	grep -q 'run already, in another pid namespace' "$TMPDIR/err"
	weightfs unmount "$M"
	wait "$hooks_pid"
	hooks_pid=''
}

# A question of hooks that have gone is not answered: nobody would ever be done with the version.
test_who_has_gone_is_told_nothing()
{
	local sock

	fresh
	echo 'exit 0' | program
	conf
	start_hooks
	until_true 20 hook_is prog told 1
	stop_hooks
	publish
	shown 2
	sock=$(socket_of "$(weightfs status "$M" --json | jq .mount.pid)")
	ask() { python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.send(sys.argv[2].encode() + b"\n")
print(s.makefile().readline())' "$sock" "$1"; }
	ask "hook prog next 1 0" | grep -q 'the hook has gone'
	hook_is prog told 1
}

# Foreign text reaches the program as it is, and nothing looks into it.
test_hostile_labels_arrive_unchanged()
{
	local label=$'a "b" \'c\'\n$(touch '"$TMPDIR"$'/ran) `touch '"$TMPDIR"$'/ran`; x=1 \\ %s {path} *'

	fresh
	program <<-END
	env -0 >$TMPDIR/env
	printf '%s\n' "\$@" >$TMPDIR/args
	END
	conf 'arg = $(touch '"$TMPDIR"'/ran)' 'arg = {label} "x y"'
	publish "$label"
	shown 2
	WEIGHTFS_PREVIOUS_PATH=stale start_hooks
	until_true 20 hook_is prog told 2
	got() { sed -z "s/^$1=//;t;d" "$TMPDIR/env" | tr -d '\0'; }
	[ "$(got WEIGHTFS_LABEL)" = "$label" ]
	[ "$(got WEIGHTFS_VERSION) $(got WEIGHTFS_PATH)" = "2 $M/versions/2" ]
	[ "$(got WEIGHTFS_PREVIOUS_PATH)" = "" ]
	[ "$(sed -n 1p "$TMPDIR/args")" = '$(touch '"$TMPDIR"'/ran)' ]
	[ "$(sed -n 2p "$TMPDIR/args")" = '{label} "x y"' ]
	[ ! -e "$TMPDIR/ran" ]
	publish
	until_true 20 hook_is prog told 3
	[ "$(got WEIGHTFS_PREVIOUS_VERSION) $(got WEIGHTFS_PREVIOUS_PATH)" = "2 $M/versions/2" ]
}

gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }

test_timeout_ends_the_whole_group()
{
	fresh
	rm -f "$TMPDIR/child"
	program <<-END
	sleep 600 & echo \$! >$TMPDIR/child
	wait
	END
	conf timeout=500ms
	start_hooks
	until_true 20 hook_is prog failed 0
	hook prog .error | grep -q "not done after 0.5 s"
	until_true 10 gone "$(cat "$TMPDIR/child")"
}

test_a_failure_is_shown_with_its_status()
{
	fresh
	program <<<'exit 7'
	conf
	start_hooks
	until_true 20 hook_is prog failed 0
	hook prog .error | grep -q 'exit status 7'
	program <<<'exit 0'
	publish
	until_true 20 hook_is prog told 2
	[ "$(hook prog .error)" = "" ]
}

# Behind latest, too, it sees what it was told, although one that it left behind still loads the one before.
test_latest_is_what_it_was_told()
{
	fresh 9
	rm -f "$TMPDIR/go" "$TMPDIR/saw"
	program <<-END
	{
		read -r n <$M/latest/step.json
		echo \$WEIGHTFS_VERSION \$n >>$TMPDIR/saw
		until [ -e $TMPDIR/go ]; do sleep 0.05; done
	} &
	until grep -q "^\$WEIGHTFS_VERSION " $TMPDIR/saw; do sleep 0.05; done
	END
	conf
	start_hooks
	for _ in 1 2 3; do
		until_true 20 sh -c "grep -q '^$n ' $TMPDIR/saw"
		publish
	done
	until_true 20 hook_is prog told 4
	until_true 20 grep -q '^4 ' "$TMPDIR/saw"
	touch "$TMPDIR/go"
	cat "$TMPDIR/saw"
	[ "$(tr '\n' ' ' <"$TMPDIR/saw")" = "1 1 2 2 3 3 4 4 " ]
}

# The program notes when it ran: the least pauses are those that grow.
test_retries_back_off()
{
	fresh
	rm -f "$TMPDIR/runs"
	program <<-END
	date +%s%N >>$TMPDIR/runs
	[ \$(wc -l <$TMPDIR/runs) -ge 4 ]
	END
	conf retries=3
	start_hooks
	until_true 60 hook_is prog told 1
	awk 'NR > 1 { printf "%d\n", ($1 - last) / 1e6 } { last = $1 }' "$TMPDIR/runs" >"$TMPDIR/pauses"
	cat "$TMPDIR/pauses"
	[ "$(wc -l <"$TMPDIR/pauses")" = 3 ]
	paste "$TMPDIR/pauses" <(printf '500\n1000\n2000\n') | awk '$1 < $2 { exit 1 }'
}

runs() { [ "$(wc -l <"$TMPDIR/runs")" -ge "$1" ]; }

# The last pause is of eight seconds: the second signal ends it.
test_a_pause_can_be_given_up()
{
	fresh
	rm -f "$TMPDIR/runs"
	program <<-END
	echo >>$TMPDIR/runs
	exit 1
	END
	conf retries=100
	start_hooks
	until_true 60 runs 5
	kill -INT "$hooks_pid"		# two of a kind might be seen as one
	kill "$hooks_pid"
	until_true 5 gone "$hooks_pid"
	stop_hooks
}

# Versions come while the program is busy: it gets the newest then, and those between never.
test_the_newest_never_a_queue()
{
	fresh
	rm -f "$TMPDIR/told" "$TMPDIR/go"
	program <<-END
	echo \$WEIGHTFS_VERSION >>$TMPDIR/told
	until [ -e $TMPDIR/go ]; do sleep 0.05; done
	END
	conf
	start_hooks
	until_true 20 test -s "$TMPDIR/told"
	for _ in 2 3 4 5; do publish; done
	shown 5
	touch "$TMPDIR/go"
	until_true 20 hook_is prog told 5
	[ "$(tr '\n' ' ' <"$TMPDIR/told")" = "1 5 " ]
}

# With keep_versions=0 a version leaves at once, but not the one that was told.
test_the_told_version_stays()
{
	fresh 0
	rm -f "$TMPDIR/go"
	program <<-END
	[ \$WEIGHTFS_VERSION = 1 ] && exit
	until [ -e $TMPDIR/go ]; do sleep 0.05; done
	END
	conf
	start_hooks
	until_true 20 hook_is prog told 1
	for _ in 2 3 4 5; do publish; shown "$n"; done
	diff -r "$CK/1" "$M/versions/1"
	stop_hooks_hard
	publish
	shown 6
	diff -r "$CK/1" "$M/versions/1"
	touch "$TMPDIR/go"
	start_hooks
	until_true 20 hook_is prog told 6
	diff -r "$CK/6" "$M/versions/6"
	publish			# versions leave when others come
	until_true 20 hook_is prog told 7
	until_true 20 test ! -e "$M/versions/1"
}
stop_hooks_hard() { kill -9 "$hooks_pid"; wait "$hooks_pid" 2>/dev/null || true; hooks_pid=''; touch "$TMPDIR/go"; }

daemon_pid() { weightfs status "$M" --json | jq .mount.pid; }
end_cleanly() { weightfs unmount "$M"; }
end_by_sigkill()
{
	local pid

	pid=$(daemon_pid)
	kill -KILL "$pid"
	until_true 20 gone "$pid"
	unmount_below "$M"
}

# The mount ends, versions come, it begins again, more come: what the engine was told is there all the time.
told_survives()			# COMMAND that ends the mount
{
	fresh 0
	program <<<'exit 0'
	conf
	start_hooks
	until_true 20 hook_is prog told 1
	until_true 20 grep -qx 'prog 1' "$C/hooks"
	"$1"
	stop_hooks
	publish
	mounted 0
	shown 2
	hook_is prog told 1
	for _ in 3 4 5; do publish; shown "$n"; done
	until_true 20 test ! -e "$M/versions/3"		# one that nobody was told
	diff -r "$CK/1" "$M/versions/1"
	start_hooks
	until_true 20 hook_is prog told 5
	publish
	until_true 20 hook_is prog told 6
	until_true 20 test ! -e "$M/versions/1"
	diff -r "$CK/6" "$M/versions/6"
}
test_the_told_version_survives_an_unmount() { told_survives end_cleanly; }
test_the_told_version_survives_sigkill() { told_survives end_by_sigkill; }

touched() { [ -n "$(find "$C" -maxdepth 0 -newer "$TMPDIR/stamp")" ]; }
tried() { touch "$TMPDIR/stamp"; until_true 20 touched; }	# a file was made in the cache, and taken away

# A directory stands where the file belongs, which stops root too: what could not be written is tried again,
# without another change, and written when it can be.
test_a_failed_write_of_the_table_is_made_up_for()
{
	fresh 0
	program <<<'exit 0'
	conf
	start_hooks
	until_true 20 hook_is prog told 1
	until_true 20 grep -qx 'prog 1' "$C/hooks"
	rm "$C/hooks"
	mkdir "$C/hooks"
	publish
	until_true 20 hook_is prog told 2
	stop_hooks
	tried
	tried
	[ -z "$(ls -A "$C/hooks")" ]
	rmdir "$C/hooks"
	until_true 20 grep -qxs 'prog 2' "$C/hooks"
}

newest_is() { [ "$(weightfs wait "$M" --timeout 5)" = "$1" ]; }

# A store made anew counts from 1: what was told of the one before is no reason to be silent, and nothing
# to go back to.
test_another_run_is_told_from_its_beginning()
{
	fresh
	program <<-END
	read -r n <\$WEIGHTFS_PATH/step.json
	echo \$WEIGHTFS_VERSION \$n \${WEIGHTFS_PREVIOUS_VERSION-none} >>$TMPDIR/told
	END
	conf at_start=off
	publish
	publish
	shown 3
	start_hooks
	until_true 20 hook_is prog told 3
	weightfs unmount "$M"
	wait "$hooks_pid"
	hooks_pid=''
	rm -rf "${S:?}"/* "$TMPDIR/pc" "${CK:?}"/[0-9]* "$TMPDIR/told"
	n=20
	publish
	publish
	weightfs mount "$S" "$M" -o "cache=$C,poll=50ms,keep_versions=0,accept_run"
	until_true 20 newest_is 2
	start_hooks
	until_true 20 hook_is prog told 2
	publish
	until_true 20 hook_is prog told 3
	diff "$TMPDIR/told" - <<<$'2 22 none\n3 23 2'
}

for t in $(declare -F | sed -n "s/^declare -f \(test_\)/\1/p"); do
	run "$t"
done
finish
