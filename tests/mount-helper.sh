#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-helper.sh - mount(8), options and weightfs.conf
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store O=$TMPDIR/oracle M=$TMPDIR/mnt C=$TMPDIR/cache
mkdir -p "$O" "$M"
tool-toystore "$S" "$O" 1 1 3000000

test_helper_takes_what_mount_passes()
{
	ln -sf "$BUILD/weightfs" "$TMPDIR/mount.weightfs"
	"$TMPDIR/mount.weightfs" "$S" "$M" -o "rw,_netdev,nofail,noauto,x-systemd.automount,cache=$C"
	[ "$(findmnt -n -o FSTYPE "$M")" = fuse.weightfs ]
	findmnt -n -o OPTIONS "$M" | grep -q '^ro,nosuid,nodev'
	weightfs wait "$M" --timeout 20
	cmp "$M/latest/model.bin" "$O/1"
	umount "$M"
	until_true 10 sh -c "! mountpoint -q '$M'"
}

# As fstab's mount -t weightfs: mount(8) looks for the helper in /sbin, which only a throw-away
# place in its search path can stand in for.
test_mount8()
{
	local helper=/sbin/mount.weightfs

	ln -s "$BUILD/weightfs" $helper
	trap 'rm -f /sbin/mount.weightfs' EXIT
	mount -t weightfs "$S" "$M" -o "_netdev,nofail,cache=$C"
	weightfs wait "$M" --timeout 20
	cmp "$M/latest/model.bin" "$O/1"
	umount "$M"
}

test_fsname_with_a_comma()
{
	weightfs mount "$S" "$M" -o "cache=$C-2,fsname=a\\,b"
	[ "$(findmnt -n -o SOURCE "$M")" = a,b ]
	weightfs unmount "$M"
}

refused()			# EXIT WORDS ARG...
{
	local r=0 want=$1 words=$2

	shift 2
	weightfs "$@" >"$TMPDIR/said" 2>&1 || r=$?
	cat "$TMPDIR/said"
	[ $r = "$want" ]
	[ "$(wc -l <"$TMPDIR/said")" = 1 ]
	grep -q -e "$words" "$TMPDIR/said"
}

test_configuration_file()
{
	printf '[mount]\nfsname = everywhere\numask = 077\n[mount "%s"]\nfsname = here\n' "$M" >"$TMPDIR/conf"
	weightfs mount "$S" "$M" -o "cache=$C-3,config=$TMPDIR/conf"
	[ "$(findmnt -n -o SOURCE "$M")" = here ]
	weightfs wait "$M" --timeout 20
	[ "$(stat -c %a "$M/versions/1/model.bin")" = 400 ]
	weightfs unmount "$M"
	printf '[mount]\nchache = x\n' >"$TMPDIR/conf"
	refused 2 "conf:2.*cache" mount "$S" "$M" -o "config=$TMPDIR/conf"
	printf '[mount "%s/"]\nfsname = slash\n[mount "/elsewhere"]\nfsname = there\n[other]\nx = y\n' "$M" >"$TMPDIR/conf"
	weightfs mount "$S" "$M" -o "cache=$C-3,config=$TMPDIR/conf"
	[ "$(findmnt -n -o SOURCE "$M")" = slash ]
	weightfs unmount "$M"
}

# Whatever mount they are about: nothing is overlooked in silence.
test_mistakes_in_the_configuration_file()
{
	local lines words

	while IFS='|' read -r lines words; do
		printf "$lines" >"$TMPDIR/conf"
		refused 2 "$TMPDIR/conf:2: $words" mount "$S" "$M" -o "cache=$C-3,config=$TMPDIR/conf"
		refute mountpoint -q "$M"
	done <<'END'
[mount "/elsewhere"]\nfrob = 3\n|unknown option "frob"
[mount "/elsewhere"]\nready = maybe\n|option ready: "maybe"
[mount "policy"]\nrate = 3\n|.mount "policy".: the mount's whole path is needed
[mount "~/policy"]\nrate = 3\n|.mount "~/policy".: the mount's whole path is needed
[mount /mnt/policy]\nrate = 3\n|the section of one mount is written
[mount ""]\nrate = 3\n|the section of one mount is written
END
}

run test_helper_takes_what_mount_passes
run test_mistakes_in_the_configuration_file
if [ "$(id -u)" = 0 ] && [ ! -e /sbin/mount.weightfs ]; then
	run test_mount8
else
	skip test_mount8 "not root, or a mount.weightfs is installed"
fi
run test_fsname_with_a_comma
run test_configuration_file
run refused 2 'did you mean "cache"' mount "$S" "$M" -o cachex=1
run refused 2 'complete, delta, manifest' mount "$S" "$M" -o ready=soon
run refused 2 '30s, 5m' mount "$S" "$M" -o poll=abc
run refused 2 'not supported' mount ftp://example.org/x "$M"
run refused 2 'usage: weightfs mount' mount "$S"
run refused 2 'usage: weightfs status' status --jsno "$M"
run refused 2 'usage: weightfs wait' wait --timeout x "$M"
run refused 3 'no weightfs is mounted' status "$M"
run refused 1 'No such file' mount "$S-none" "$M" -o "cache=$C-4"
run refused 1 'below the mount point' mount "$S" "$M" -o "cache=$M/c"
finish
