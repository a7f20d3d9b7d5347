#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-confined.sh - root's daemon, which is not root, where the machine lacks something or changes: no
# Landlock, a device only for root, names that a name server knows, another /etc/resolv.conf
# may-skip: an ordinary user's mounts have no privilege to drop
. "$(dirname "$0")/suite.sh"
. "$TESTS/servers.sh"
set -u
PATH=$BUILD/tests:$PATH

if [ "$(id -u)" != 0 ]; then
	skip mount-confined "not root"
	finish
fi

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
mkdir -p "$O" "$M"
chmod 755 "$TMPDIR"		# what lies behind a closed directory is read by a capability
tool-toystore "$S" "$O" 1 1 3000001

cleanup() { unmount_below "$M"; }

field() { weightfs status "$M" --json | jq -r "$1"; }
whole() { [ "$(field '.versions[0].complete')" = true ]; }
unhealthy() { [ "$(field .healthy)" = false ]; }
decided() { [ "$(field .mount.mode_reason)" != "not yet tested" ]; }
equal()
{
	weightfs wait "$M" --timeout 30
	until_true 20 whole
	until_true 20 decided
	cmp "$M/latest/model.bin" "$O/1"
}

# ---- a kernel without Landlock ----

without_landlock()		# ERROR COMMAND...
{
	ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$TMPDIR/trace" -e trace=landlock_create_ruleset \
		-e inject="landlock_create_ruleset:error=$1" "${@:2}"
}

no_landlock()			# ERROR
{
	without_landlock "$1" weightfs mount "$S" "$M" -f -o "cache=$C,poll=1h,min_free=1M" 2>"$TMPDIR/log" &
	until_true 20 mountpoint -q "$M"
	equal
	[ "$(field .mount.landlock)" = false ]
	[ "$(field .mount.run_as)" = nobody ]
	[ "$(awk '$1 == "CapPrm:" { print $2 }' "/proc/$(field .mount.pid)/status")" = 0000000000000000 ]
	grep -q 'running as nobody$' "$TMPDIR/log"
	weightfs unmount "$M"
	wait $!
	grep -q INJECTED "$TMPDIR/trace"
}
test_not_in_the_kernel() { no_landlock ENOSYS; }
test_not_switched_on() { no_landlock EOPNOTSUPP; }

# What only a capability could read is not read without it.
test_no_landlock_and_a_closed_store()
{
	cp -r "$S" "$TMPDIR/closed"
	chmod -R go= "$TMPDIR/closed"
	refute without_landlock EOPNOTSUPP weightfs mount "$TMPDIR/closed" "$M" -f -o "cache=$C-closed" 2>"$TMPDIR/said"
	grep -q 'user nobody may not read it, and this kernel has no Landlock.*run_as=' "$TMPDIR/said"
	refute mountpoint -q "$M"
}

# ---- a device that only root may open ----

test_device_of_roots()
{
	mknod -m 600 "$TMPDIR/fuse" c 10 229
	mount --bind "$TMPDIR/fuse" /dev/fuse
	for mode in on off; do
		weightfs mount "$S" "$M" -f -o "cache=$C,poll=1h,min_free=1M,passthrough=$mode" 2>"$TMPDIR/log" &
		until_true 20 mountpoint -q "$M"
		equal
		[ "$(field .mount.run_as)" = nobody ]
		weightfs unmount "$M"
		wait $!
		refute grep -i clone "$TMPDIR/log"	# nobody tried to open it
	done
}

# ---- who may say run_as ----

test_only_root_says_who()
{
	refute setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/ weightfs mount "$S" "$M" -o "cache=/tmp/none,run_as=daemon" \
		2>"$TMPDIR/said"
	cat "$TMPDIR/said"
	grep -q "run_as=daemon: only root's mounts can run as another user" "$TMPDIR/said"
	refute mountpoint -q "$M"
}

# ---- names, which the daemon asks for when it is nobody ----

# An /etc that can be written, with a resolv.conf that leads nowhere.
own_etc()
{
	ip link set lo up
	mount -t tmpfs none /mnt
	mkdir /mnt/up /mnt/work
	mount -t overlay none /etc -o "lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work"
	echo 'hosts: files dns' >/etc/nsswitch.conf
	resolve_by 127.0.0.9
}

resolve_by()			# ADDRESS: as programs do it that replace the file
{
	printf 'nameserver %s\noptions timeout:1 attempts:1\n' "$1" >/etc/resolv.conf.new
	mv /etc/resolv.conf.new /etc/resolv.conf
}

# The store has a name that only our server of names knows.
named_store()			# CACHE READS_ALL
{
	own_etc
	start_pyhttp "$S"
	python3 "$TESTS/dns.py" 127.0.0.53 store.test >"$TMPDIR/asked" &
	SERVER_PIDS="$SERVER_PIDS $!"
	until_true 10 grep -qs ready "$TMPDIR/asked"
	"${@:3}"
	weightfs mount "http://store.test:${SERVER_URL##*:}" "$M" -o "cache=$1,poll=200ms,min_free=1M"
	[ "$(field .mount.run_as)" = nobody ]
	[ "$(field .mount.landlock)" = true ]
	[ "$(field .mount.reads_all)" = "$2" ]
}

found()
{
	equal
	grep -q store.test "$TMPDIR/asked"
	weightfs unmount "$M"
}

# Mounted when nobody knows the name, it finds the store once there is another resolv.conf.
test_another_resolv_conf()
{
	named_store "$TMPDIR/named" false
	until_true 30 unhealthy
	refute grep -q store.test "$TMPDIR/asked"
	resolve_by 127.0.0.53
	found
}

# With the capability a file is read, not whatever has its name later: weightfs.conf(5) says so.
test_name_where_a_capability_is_kept()
{
	mkdir -m 700 "$TMPDIR/hidden"
	named_store "$TMPDIR/hidden/cache" true resolve_by 127.0.0.53
	found
}

# ---- each where it can change what it needs ----

if [ -n "${1:-}" ]; then
	run "$1"
	finish
fi
apart()				# TEST
{
	"$TESTS/apart" --net -- bash "$TESTS/mount-confined.sh" "$1"
}
run test_not_in_the_kernel
run test_not_switched_on
run test_no_landlock_and_a_closed_store
run test_only_root_says_who
for t in device_of_roots another_resolv_conf name_where_a_capability_is_kept; do
	run apart test_$t
done
finish
