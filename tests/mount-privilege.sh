#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-privilege.sh - root's daemon is not root: what it may, what the helper refuses it, whose the cache is
# may-skip: an ordinary user's mounts have no privilege to drop
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
mkdir -p "$O" "$M"
tool-toystore "$S" "$O" 1 1 3000001

cleanup() { unmount_below "$M"; }

field() { weightfs status "$M" --json | jq -r "$1"; }
whole() { [ "$(field '.versions[0].complete')" = true ]; }
decided() { [ "$(field .mount.mode_reason)" != "not yet tested" ]; }
start()				# STORE CACHE [OPTIONS]
{
	weightfs mount "$1" "$M" -o "cache=$2,poll=100ms,ready=complete,min_free=1M${3:+,$3}"
	weightfs wait "$M" --timeout 20
	until_true 20 whole
	until_true 20 decided
	cmp "$M/latest/model.bin" "$O/1"
}
of_daemon() { awk -v key="$1:" '$1 == key { $1 = ""; print substr($0, 2) }' "/proc/$(field .mount.pid)/status"; }
owner() { stat -c %U "$1"; }

powerless()			# USER CAPS
{
	local uid gid

	uid=$(id -u "$1") gid=$(id -g "$1")
	[ "$(of_daemon Uid)" = "$uid $uid $uid $uid" ]
	[ "$(of_daemon Gid)" = "$gid $gid $gid $gid" ]
	[ -z "$(of_daemon Groups)" ]
	[ "$(of_daemon CapPrm)" = "$2" ]
	[ "$(of_daemon CapEff)" = "$2" ]
	[ "$(of_daemon CapInh)$(of_daemon CapBnd)$(of_daemon CapAmb)" = "$(printf '0%.0s' $(seq 48))" ]
	[ "$(of_daemon NoNewPrivs)" = 1 ]
	[ "$(field .mount.run_as)" = "$1" ]
}
none=0000000000000000 search=0000000000000004

test_daemon_is_nobody()
{
	start "$S" "$C" passthrough=on
	powerless nobody $none
	[ "$(field .mount.mode)" = passthrough ]
	weightfs status "$M" | grep -q 'runs as   nobody'
	[ "$(owner "$C")" = nobody ]
	weightfs unmount "$M"
	[ -z "$(find "$C" ! -user nobody)" ]
}

test_again_cached_and_verified()
{
	weightfs verify "$C"
	[ -z "$(find "$C" ! -user nobody)" ]
	start "$S" "$C" passthrough=off
	powerless nobody $none
	[ "$(field .mount.mode)" = cached ]
	weightfs unmount "$M"
}

# The control socket: the one among the daemon's that has a name.
socket_of()			# PID
{
	local fd inode

	for fd in /proc/"$1"/fd/*; do
		inode=$(readlink "$fd" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
		[ -z "$inode" ] || awk -v i="$inode" '$7 == i && $8 ~ /\.sock$/ { print $8 }' /proc/net/unix
	done | head -n 1
}

test_killed_and_mounted_again()
{
	local sock

	start "$S" "$C"
	sock=$(socket_of "$(field .mount.pid)")
	test -S "$sock"
	kill -9 "$(field .mount.pid)"
	until_true 10 test ! -e "$sock"
	start "$S" "$C"
	powerless nobody $none
	test -S "$sock"
	kill -TERM "$(field .mount.pid)"
	until_true 10 refute mountpoint -q "$M"
	until_true 10 test ! -e "$sock"
}

test_root_and_back()
{
	start "$S" "$C" run_as=root
	[ "$(of_daemon Uid)" = "0 0 0 0" ]
	[ "$(field .mount.run_as)" = root ]
	weightfs unmount "$M"
	[ -z "$(find "$C" ! -user root)" ]
	start "$S" "$C" passthrough=on
	powerless nobody $none
	[ -z "$(find "$C" ! -user nobody)" ]
	[ "$(field .bytes_received)" -lt 100000 ]	# what was in the cache was of use
	weightfs unmount "$M"
}

test_another_user()
{
	refute weightfs mount "$S" "$M" -o "cache=$C,run_as=daemon" 2>"$TMPDIR/said"
	grep -q 'belongs to user' "$TMPDIR/said"
	start "$S" "$C-daemon" run_as=daemon
	powerless daemon $none
	weightfs unmount "$M"
	start "$S" "$C-daemon"		# its owner, unasked
	powerless daemon $none
	weightfs unmount "$M"
	refute weightfs mount "$S" "$M" -o "cache=$C-x,run_as=nosuchuser" 2>"$TMPDIR/said"
	grep -q 'no such user' "$TMPDIR/said"
}

test_store_of_roots()
{
	cp -r "$S" "$TMPDIR/closed"
	chmod -R go= "$TMPDIR/closed"
	start "$TMPDIR/closed" "$C-closed" passthrough=on
	powerless nobody $search
	[ "$(field .mount.landlock)" = true ]
	weightfs unmount "$M"
}

test_cache_behind_a_closed_directory()
{
	mkdir -m 700 "$TMPDIR/hidden"
	start "$S" "$TMPDIR/hidden/cache" passthrough=on
	powerless nobody $search
	weightfs unmount "$M"
}

# ---- in an attacker's hands ----

test_helper_refuses()
{
	local one

	start "$S" "$C" passthrough=on
	mkdir -p "$TMPDIR/scratch"
	tool-exploit ask "$(field .mount.pid)" "$C" "$TMPDIR/scratch" | tee "$TMPDIR/asked"
	grep -q '^image: given' "$TMPDIR/asked"		# so the refusals are refusals
	for one in shadow shadow-path image-path image-writable image-writeonly outside beside-images hard-link symlink \
		directory device socket nothing mount settle unknown; do
		grep -q "^$one: refused" "$TMPDIR/asked"
	done
	cmp "$M/versions/1/model.bin" "$O/1"
	weightfs unmount "$M"
}

inside()			# STORE
{
	install -m 600 /dev/null "$TMPDIR/of-root"
	install -m 600 -o daemon /dev/null "$TMPDIR/of-daemon"
	tool-exploit inside "$1" "$C-inside" nobody /etc/shadow "$TMPDIR/of-root" "$TMPDIR/of-daemon" /root \
		"$1/latest" /etc/resolv.conf /proc/self/stat | tee "$TMPDIR/tried"
	for one in /etc/shadow "$TMPDIR/of-root" "$TMPDIR/of-daemon" /root write-tmp write-store become-root exec; do
		grep -q "^$one: refused" "$TMPDIR/tried"
	done
	for one in "$1/latest" /etc/resolv.conf /proc/self/stat write-cache tcp; do
		grep -q "^$one: given" "$TMPDIR/tried"
	done
}

test_inside()
{
	inside "$S"
	grep -q '^uid 65534 landlock 1 reads_all 0' "$TMPDIR/tried"
	inside "$TMPDIR/closed"
	grep -q '^uid 65534 landlock 1 reads_all 1' "$TMPDIR/tried"
}

test_only_root_chooses()
{
	refute weightfs mount "$S" "$M" -o "cache=$C,run_as=daemon" 2>"$TMPDIR/said"
	grep -q "only root's mounts" "$TMPDIR/said"
}

# ---- what is no cache of ours is not given away ----

denied()			# WORDS CACHE
{
	refute weightfs mount "$S" "$M" -o "cache=$2" 2>"$TMPDIR/said"
	cat "$TMPDIR/said"
	grep -q "$1.*run_as=root" "$TMPDIR/said"
	refute mountpoint -q "$M"
}

test_foreign_directories()
{
	mkdir -m 755 "$TMPDIR/data" "$TMPDIR/linked" "$TMPDIR/linked/images" "$TMPDIR/third" "$TMPDIR/third/images" \
		"$TMPDIR/mixed" "$TMPDIR/mixed/images"
	touch "$TMPDIR/data/thesis"
	touch "$TMPDIR/linked/lock" "$TMPDIR/third/lock" "$TMPDIR/mixed/lock"
	refute weightfs mount "$S" "$M" -o "cache=$TMPDIR/data" 2>"$TMPDIR/said"
	grep -q 'thesis is no part of a cache; give the cache a directory of its own' "$TMPDIR/said"
	refute mountpoint -q "$M"
	[ "$(owner "$TMPDIR/data")$(owner "$TMPDIR/data/thesis")" = rootroot ]
	install -m 600 /dev/null "$TMPDIR/secret"
	ln "$TMPDIR/secret" "$TMPDIR/linked/images/x"
	denied 'x has a second name' "$TMPDIR/linked"
	[ "$(owner "$TMPDIR/secret")$(owner "$TMPDIR/linked")" = rootroot ]
	rm "$TMPDIR/linked/images/x"
	ln -s "$TMPDIR/secret" "$TMPDIR/linked/images/x"
	start "$S" "$TMPDIR/linked"		# the link is given, what it leads to is not
	[ "$(owner "$TMPDIR/secret")" = root ]
	weightfs unmount "$M"
	chown daemon "$TMPDIR/third/images"
	denied 'images belongs to a third user' "$TMPDIR/third"
	chown nobody "$TMPDIR/mixed" "$TMPDIR/mixed/lock"
	denied 'images belongs to another user' "$TMPDIR/mixed"
}

if [ "$(id -u)" = 0 ]; then
	run test_daemon_is_nobody
	run test_again_cached_and_verified
	run test_killed_and_mounted_again
	run test_root_and_back
	run test_another_user
	run test_store_of_roots
	run test_cache_behind_a_closed_directory
	run test_helper_refuses
	run test_inside
	run test_foreign_directories
else
	run test_only_root_chooses
	skip test_daemon_is_nobody "not root"
fi
finish
