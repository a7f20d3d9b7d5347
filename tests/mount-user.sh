#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-user.sh - an ordinary user mounts through fusermount3
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
mkdir -p "$O" "$M"
tool-toystore "$S" "$O" 1 1 3000000

# As root, stand in for a user: nobody's number, which owns nothing else here.
as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
	as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR HOME="$TMPDIR" "$@"; }
	chmod 755 "$TMPDIR"
	chown -R 65534:65534 "$TMPDIR"
	# udev makes it 0666; a container without udev leaves it to root
	fuse_mode=$(stat -c %a /dev/fuse)
	cleanup() { chmod "$fuse_mode" /dev/fuse; }
	chmod 666 /dev/fuse
fi
if ! as_user weightfs --version >/dev/null 2>&1; then
	skip mount-user "a user cannot reach $BUILD"
	finish
fi

test_user_mounts_and_unmounts()
{
	as_user weightfs mount "$S" "$M" -o "cache=$C"
	[ "$(as_user weightfs wait "$M" --timeout 20)" = 1 ]
	as_user cmp "$M/latest/model.bin" "$O/1"
	as_user weightfs status "$M" >/dev/null
	[ "$(as_user stat -c %u "$M/versions/1/model.bin")" = "$(as_user id -u)" ]
	as_user tool-mutate "$M/versions/1" model.bin | grep -v 'chown\|mknod' && return 1
	as_user weightfs unmount "$M"
	refute mountpoint -q "$M"
}

test_allow_other_says_which_line()
{
	local r=0

	grep -q '^user_allow_other' /etc/fuse.conf 2>/dev/null && return 0
	as_user weightfs mount "$S" "$M" -o "cache=$C,allow_other" 2>"$TMPDIR/said" || r=$?
	[ $r = 1 ]
	grep -q '"user_allow_other" into /etc/fuse.conf' "$TMPDIR/said"
	[ "$(wc -l <"$TMPDIR/said")" = 1 ]
}

# Somebody else made the directory where the socket would be; or it is ours, but open to all.
test_squatted_socket_directory()
{
	local uid=$((200000 + $$ % 100000)) dir

	dir=/tmp/weightfs-$uid
	refused_because()	# WHY
	{
		refute setpriv --reuid="$uid" --regid="$uid" --clear-groups env -u XDG_RUNTIME_DIR HOME="$TMPDIR" \
			weightfs mount "$S" "$M" -o "cache=$TMPDIR/squatted" 2>"$TMPDIR/said"
		grep -q "no place for the control socket: .*; $1; set XDG_RUNTIME_DIR" "$TMPDIR/said" || fail "$(cat "$TMPDIR/said")"
	}

	# shellcheck disable=SC2064 # now: the function's variable is gone at the end
	trap "rm -rf '$dir'" EXIT
	mkdir "$dir"
	refused_because "$dir belongs to uid 0, not to you"
	chown "$uid" "$dir"
	chmod 777 "$dir"
	refused_because "$dir may be written to by others"
	rmdir "$dir"
	ln -s "$TMPDIR" "$dir"
	refused_because "$dir is no directory"
}

says_how_to_go_on() { as_user weightfs status "$M" 2>&1 | grep -q 'if it was killed, mount there again'; }
is_dead() { ! as_user ls "$M" >/dev/null 2>&1; }
test_dead_mount_of_a_user()
{
	local pid

	as_user weightfs mount "$S" "$M" -o "cache=$C"
	pid=$(as_user weightfs status "$M" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mount"]["pid"])')
	kill -KILL "$pid"
	until_true 5 is_dead		# the process may be a zombie before its last thread lets go of the device
	until_true 5 says_how_to_go_on
	as_user weightfs mount "$S" "$M" -o "cache=$C"
	as_user weightfs wait "$M" --timeout 20
	as_user cmp "$M/latest/model.bin" "$O/1"
	as_user weightfs unmount "$M"
}

# Not the owner: that is the reason, and neither readers nor --lazy have to do with it.
test_who_may_unmount()
{
	local options

	chmod 755 "$M"
	as_user weightfs mount "$S" "$M" -o "cache=$C"
	[ "$(as_user weightfs wait "$M" --timeout 20)" = 1 ]
	for options in '' --lazy; do
		# shellcheck disable=SC2086 # none, or one
		setpriv --reuid=65533 --regid=65533 --clear-groups weightfs unmount $options "$M" 2>"$TMPDIR/said" && return 1
		grep -q "was mounted by .*uid 65534.*you are uid 65533: only that user and root may" "$TMPDIR/said"
		refute grep -q 'lazy\|used by' "$TMPDIR/said"
		findmnt -n "$M" >/dev/null		# nor may root look into it
	done
	as_user cmp "$M/latest/model.bin" "$O/1"
	as_user weightfs unmount "$M"
	weightfs mount "$S" "$M" -o "cache=$TMPDIR/cache-root,run_as=root,allow_other"
	as_user weightfs unmount "$M" 2>"$TMPDIR/said" && return 1
	grep -q "was mounted by root (uid 0), and you are .*65534.*: only root may" "$TMPDIR/said"
	[ "$(weightfs wait "$M" --timeout 20)" = 1 ]
	cmp "$M/latest/model.bin" "$O/1"
	weightfs unmount "$M"
}

run test_user_mounts_and_unmounts
if [ "$(id -u)" = 0 ]; then run test_who_may_unmount; else skip test_who_may_unmount "not root"; fi
if [ "$(id -u)" = 0 ]; then
	run test_squatted_socket_directory
else
	skip test_squatted_socket_directory "not root"
fi
run test_allow_other_says_which_line
run test_dead_mount_of_a_user
finish
