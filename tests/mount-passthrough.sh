#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-passthrough.sh - complete files are read by the kernel: on every file system at hand, mapped, removed,
# with the daemon killed; and what is said when it cannot be
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
SIZE=7000001
mkdir -p "$O" "$M" "$TMPDIR/disk"
tool-toystore "$S" "$O" 1 1 $SIZE

cleanup() { unmount_below "$M"; }

field() { weightfs status "$M" --json | jq -r "$1"; }
whole() { [ "$(field "[.versions[] | select(.sequence == $1) | .complete] == [true]")" = true ]; }
is_pass() { [ "$(field .mount.mode)" = passthrough ]; }
# The daemon's own words; the mount is in the foreground for them.
start()				# CACHE [OPTIONS]
{
	unmount_below "$M"
	weightfs mount "$S" "$M" -f -o "cache=$1,poll=100ms,ready=complete,min_free=1M${2:+,$2}" 2>"$TMPDIR/log" &
	daemon=$!
	until_true 20 weightfs wait "$M" --timeout 20 >/dev/null 2>&1 || { cat "$TMPDIR/log"; return 1; }
	until_true 20 decided
}
decided() { [ "$(field .mount.mode_reason)" != "not yet tested" ]; }
stop()
{
	weightfs unmount "$M"
	wait $daemon
	refute grep -E 'Sanitizer|runtime error' "$TMPDIR/log"
}
# Reads answered by the daemon.
reads() { field .reads; }

# Every way to read, from two processes, and the daemon has answered none.
native()			# CACHE [OPTIONS]
{
	local before one

	start "$1" "${2:-}"
	until_true 20 whole 1
	is_pass
	grep -q 'read by the kernel' "$TMPDIR/log"
	before=$(reads)
	tool-readers "$M/latest/model.bin" "$O/1" &
	one=$!
	tool-readers "$M/versions/1/model.bin" "$O/1" 77
	wait $one
	cmp "$M/latest/model.bin" "$O/1"
	[ "$(reads)" = "$before" ]
	stop
}

test_native() { rm -rf "$C"; native "$C" passthrough=on; }

# A loop device with the file system of $1; the cache in a directory of it.
test_native_on_disk()		# TYPE
{
	local d=$TMPDIR/disk/$1

	mkdir -p "$d"
	truncate -s 400M "$d.img"
	case $1 in
	ext4) mkfs.ext4 -q -F "$d.img" ;;
	*) "mkfs.$1" -q -f "$d.img" ;;
	esac
	mount -o loop "$d.img" "$d"
	native "$d/cache" passthrough=on
	umount "$d"
	rm "$d.img"
}

test_native_on_tmpfs()
{
	mkdir -p "$TMPDIR/disk/tmpfs"
	mount -t tmpfs none "$TMPDIR/disk/tmpfs"
	native "$TMPDIR/disk/tmpfs/cache" passthrough=on
	umount "$TMPDIR/disk/tmpfs"
}

overlay()			# NAME LOWER
{
	local d=$TMPDIR/disk/$1

	mkdir -p "$d.base" "$d"
	mount -t tmpfs none "$d.base"
	mkdir "$d.base/up" "$d.base/work"
	mount -t overlay none "$d" -o "lowerdir=$2,upperdir=$d.base/up,workdir=$d.base/work"
}

test_native_on_overlayfs()
{
	mkdir -p "$TMPDIR/disk/low"
	overlay over "$TMPDIR/disk/low"
	native "$TMPDIR/disk/over/cache" passthrough=on
	umount "$TMPDIR/disk/over" "$TMPDIR/disk/over.base"
}

# The other way round: an overlayfs can still be put on the mount.
test_overlayfs_on_top()
{
	rm -rf "$C"
	start "$C" passthrough=on,allow_other
	overlay top "$M/versions/1"
	cmp "$TMPDIR/disk/top/model.bin" "$O/1"
	umount "$TMPDIR/disk/top" "$TMPDIR/disk/top.base"
	stop
}

# ---- what is missing is said in one line, and files come from the daemon ----

served()			# WORDS
{
	[ "$(grep -c 'no passthrough:' "$TMPDIR/log")" = 1 ]
	grep -q "served by the daemon; no passthrough: .*$1" "$TMPDIR/log"
	[ "$(field .mount.mode)" = cached ]
	field .mount.mode_reason | grep -q -e "$1"
	until_true 20 whole 1
	tool-readers "$M/latest/model.bin" "$O/1"
	[ "$(reads)" -gt 0 ]
}

test_off()
{
	rm -rf "$C"
	start "$C" passthrough=off
	served 'passthrough=off'
	stop
}

# An overlayfs on an overlayfs is as deep as the kernel goes: nothing fits on it.
test_stacked_too_deep()
{
	local r=0

	mkdir -p "$TMPDIR/disk/low"
	overlay one "$TMPDIR/disk/low"
	overlay_on_one
	start "$TMPDIR/disk/two/cache"
	served 'stacked too deep'
	stop
	weightfs mount "$S" "$M" -o "cache=$TMPDIR/disk/two/cache,passthrough=on" 2>"$TMPDIR/said" || r=$?
	[ $r = 1 ]
	grep -q 'passthrough=on: .*stacked too deep' "$TMPDIR/said"
	refute mountpoint -q "$M"
	umount "$TMPDIR/disk/two" "$TMPDIR/disk/one" "$TMPDIR/disk/one.base"
}

overlay_on_one()
{
	mkdir -p "$TMPDIR/disk/one/up2" "$TMPDIR/disk/one.base/up3" "$TMPDIR/disk/one.base/work3" "$TMPDIR/disk/two"
	mount -t overlay none "$TMPDIR/disk/two" \
		-o "lowerdir=$TMPDIR/disk/one/up2,upperdir=$TMPDIR/disk/one.base/up3,workdir=$TMPDIR/disk/one.base/work3"
}

# Root of another user namespace has CAP_SYS_ADMIN, but not the one that counts.
test_other_namespace()
{
	rm -rf "$C"
	SUITE_S=$S SUITE_C=$C "$TESTS/apart" -- unshare --user --map-root-user --mount bash -c '
		set -e
		weightfs mount "$SUITE_S" "'"$M"'" -f -o "cache=$SUITE_C,ready=complete,min_free=1M" 2>"'"$TMPDIR/log"'" &
		for i in $(seq 400); do [ ! -e "'"$M"'/latest/model.bin" ] || break; sleep 0.05; done
		cmp "'"$M/latest/model.bin"'" "'"$O/1"'"
		weightfs status "'"$M"'" --json >"'"$TMPDIR/status"'"
		weightfs unmount "'"$M"'"
		wait'
	[ "$(jq -r .mount.mode "$TMPDIR/status")" = cached ]
	grep -q 'no passthrough: CAP_SYS_ADMIN of the first user namespace is missing' "$TMPDIR/log"
}

# ---- what mappings survive ----

# mapped SHELL: map the file, close it, do SHELL, compare the mapping's pages, none of which was touched before
mapped()
{
	python3 - "$M/versions/1/model.bin" "$O/1" "$1" <<-'PY'
	import ctypes, mmap, os, subprocess, sys
	path, oracle, command = sys.argv[1:]
	libc = ctypes.CDLL(None, use_errno=True)
	libc.mmap.restype = ctypes.c_void_p
	libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
	size = os.path.getsize(oracle)
	fd = os.open(path, os.O_RDONLY)
	maps = [libc.mmap(None, size, mmap.PROT_READ, how, fd, 0) for how in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)]
	os.close(fd)			# python's own mmap would keep a descriptor
	subprocess.check_call(["bash", "-c", "set -e; " + command])
	want = open(oracle, "rb").read()
	same = lambda: all(ctypes.string_at(at, size) == want for at in maps)
	assert same()
	pid = os.fork()
	if pid == 0:
	    os._exit(not same())
	assert os.waitpid(pid, 0)[1] == 0
	PY
}

test_image_removed_under_a_mapping()
{
	rm -rf "$C"
	start "$C" passthrough=on
	until_true 20 whole 1
	mapped "rm -r '$C'/images/*; sync; echo 3 >/proc/sys/vm/drop_caches"
	stop
	rm -rf "$C"
}

test_daemon_killed_under_a_mapping()
{
	rm -rf "$C"
	start "$C" passthrough=on
	until_true 20 whole 1
	exec 7<"$M/versions/1/model.bin"
	mapped "kill -KILL $daemon; tail --pid=$daemon -f /dev/null; sync; echo 3 >/proc/sys/vm/drop_caches"
	cmp - "$O/1" <&7		# open files, too
	exec 7<&-
	refute stat "$M/latest" 2>/dev/null
	wait $daemon || true
	unmount_below "$M"
}

# The kernel keeps what is registered as long as there is the dead mount; the disk must not wait for that.
test_disk_is_free_after_a_kill()
{
	mkdir -p "$TMPDIR/disk/free"
	mount -t tmpfs none "$TMPDIR/disk/free"
	start "$TMPDIR/disk/free/cache" passthrough=on
	until_true 20 whole 1
	exec 7<"$M/versions/1/model.bin"
	kill -KILL $daemon
	wait $daemon 2>/dev/null || true
	exec 7<&-
	until_true 10 umount "$TMPDIR/disk/free" 2>/dev/null
	unmount_below "$M"
}

# Three newer versions come: the mapped one stays, though its file is closed, and one between them leaves.
test_mapped_is_not_evicted()
{
	rm -rf "$C"
	start "$C" passthrough=on,keep_versions=0,linger=0s
	until_true 20 whole 1
	cat >"$TMPDIR/push" <<-END
	for i in 2 3 4; do
		tool-toystore "$S" "$O" \$i \$i $SIZE
		weightfs wait "$M" --newer-than \$((i - 1)) --timeout 20
	done
	for i in \$(seq 400); do
		[ -e "$M/versions/1" ] || exit 1
		[ -e "$M/versions/2" ] || exit 0
		sleep 0.05
	done
	exit 1
	END
	mapped "bash $TMPDIR/push"
	stop
	rm -rf "$S"
	tool-toystore "$S" "$O" 1 1 $SIZE
}

# A file is registered once while it is open, however often that is, and not any more afterwards.
test_one_registration_an_inode()
{
	local helper tracer

	rm -rf "$C"
	start "$C" passthrough=on
	until_true 20 whole 1
	helper=$(pgrep -P "$daemon")
	strace -f -e trace=ioctl -o "$TMPDIR/trace" -p "$helper" 2>/dev/null &
	tracer=$!
	until_true 10 grep -q "^TracerPid:.*[1-9]" "/proc/$helper/status"
	python3 - "$M/versions/1/model.bin" <<-'PY'
	import os, sys
	for _ in range(3):
	    fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(300)]
	    for fd in fds:
	        os.close(fd)
	PY
	until_true 10 closed_all
	kill $tracer
	[ "$(grep -c 'ioctl' "$TMPDIR/trace")" -le 6 ]
	[ "$(ls "/proc/$helper/fd" | wc -l)" -lt 12 ]
	[ "$(ls "/proc/$daemon/fd" | wc -l)" -lt 100 ]
	stop
}
closed_all()
{
	local n

	n=$(grep -c ioctl "$TMPDIR/trace")
	[ "$(field .mount.open_files)" = 0 ] && [ "$n" -ge 2 ] && [ $((n % 2)) = 0 ]
}

# ---- what each file says of itself ----

file_is() { weightfs status "$M" --files --json | jq -e ".files[] | select(.path == \"model.bin\") | $1" >/dev/null; }

test_status_of_each_file()
{
	local r=0

	rm -rf "$C"
	start "$C" passthrough=on
	until_true 20 whole 1
	file_is ".size == $SIZE and .complete and .blocks == 7 and .blocks_built == 7"
	file_is '.mode == "passthrough" and .opens == 0 and (.in_use | not)'
	exec 7<"$M/versions/1/model.bin"
	file_is '.mode == "passthrough" and .opens == 1 and .in_use'
	exec 7<&-
	until_true 10 file_is '.opens == 0 and (.in_use | not)'
	mapped "$(declare -f file_is until_true); M=$M; until_true 10 file_is '.opens == 0'; file_is .in_use"
	weightfs status "$M" --files --version 1 | grep -Eq '^ +6\.7 MiB  100%  passthrough +0  no +model\.bin$'
	weightfs status "$M" --files --version 9 2>"$TMPDIR/said" || r=$?
	[ $r = 1 ]
	grep -q 'version 9 is not here' "$TMPDIR/said"
	stop
	start "$C" passthrough=off
	file_is '.mode == "cached" and .opens == 0'
	stop
}

if [ "$(id -u)" != 0 ] || [ ! -e /dev/fuse ]; then
	skip mount-passthrough "needs root"
	finish
fi
run test_native
for type in ext4 xfs btrfs; do
	# what this kernel does not have is not tested
	grep -qw $type /proc/filesystems || modprobe -q $type 2>/dev/null || continue
	if command -v "mkfs.$type" >/dev/null; then
		run test_native_on_disk $type
	else
		skip "test_native_on_disk $type" "no mkfs.$type"
	fi
done
for t in native_on_tmpfs native_on_overlayfs overlayfs_on_top off stacked_too_deep \
	image_removed_under_a_mapping daemon_killed_under_a_mapping disk_is_free_after_a_kill mapped_is_not_evicted one_registration_an_inode \
	status_of_each_file; do
	run test_$t
done
if unshare --user true 2>/dev/null; then
	run test_other_namespace
else
	skip test_other_namespace "no user namespace can be made here, as in a chroot"
fi
finish
