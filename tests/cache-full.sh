#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cache-full.sh - caches on file systems that really fill up, restarts in every state, and a file system
# that cannot tell who has a file mapped
. "$(dirname "$0")/suite.sh"
. "$TESTS/servers.sh"
set -u
PATH=$BUILD/tests:$PATH

if [ "$(id -u)" != 0 ]; then
	skip cache-full "needs root for small file systems"
	finish
fi

S=$TMPDIR/store M=$TMPDIR/mnt D=$TMPDIR/disk C=$TMPDIR/disk/cache CK=$TMPDIR/ckpt
mkdir -p "$M" "$CK" "$D"

# Two shards of 8 MiB, both change in each version: a version needs its full size beside the one before.
"$TESTS/mkmodel.py" make "$CK/1" --shards 2 --tensors 4 --mib 16 --seed 1
"$TESTS/mkmodel.py" step "$CK/1" "$CK/2" --seed 2
"$TESTS/mkmodel.py" step "$CK/2" "$CK/3" --seed 3
"$TESTS/mkmodel.py" make "$CK/other" --shards 2 --tensors 4 --mib 16 --seed 9	# nothing of it is known

publish() { weightsync publish "$CK/$1" "$S" --cache "$TMPDIR/pc" --quiet >/dev/null; }
field() { weightfs status "$M" --json | jq -r "$1"; }
complete() { field ".versions[] | select(.sequence == $1) | .complete" | grep -q true; }
shown() { [ -e "$M/versions/$1" ]; }
gone() { ! shown "$1"; }
problem_says() { field .problem | grep -q -e "$1"; }
dead() { ! ls "$M" >/dev/null 2>&1; }
half_there() { [ "$(field .building)" = 2 ] && [ "$(field .cache.used)" -gt $((19 << 20)) ]; }

mount_it() { weightfs mount "${URL:-$S}" "$M" -o "cache=$C,poll=100ms,linger=1s,keep_versions=0,min_free=0${1:+,$1}"; }

# FILE SYSTEM: version 1, complete, on a disk of 40 MiB
begin()
{
	unmount_below "$TMPDIR"
	rm -rf "$S" "$TMPDIR/pc"
	case $1 in
	tmpfs) mount -t tmpfs -o size=40M tmpfs "$D" ;;
	ext4)
		rm -f "$TMPDIR/img"
		truncate -s 48M "$TMPDIR/img"
		mkfs.ext4 -q -m 0 -O ^has_journal "$TMPDIR/img"
		mount -o loop "$TMPDIR/img" "$D" ;;
	esac
	publish 1
	mount_it
	until_true 30 complete 1
}

end()
{
	weightfs unmount "$M"
	umount "$D"
}

# Leave MIB free.
fill()
{
	local avail

	avail=$(df --output=avail -B1M "$D" | tail -1)
	[ "$avail" -le "$1" ] || head -c "$(((avail - $1) << 20))" /dev/zero >"$D/filler"
}

# A version does not fit when it comes: the old one stays, also over a restart and a kill; it goes on by itself.
no_room()			# FILE SYSTEM
{
	local pid

	begin "$1"
	fill 8
	publish 2
	until_true 30 problem_says 'does not fit'
	problem_says 'free [0-9]*M on the disk'
	[ "$(field .cache.needed)" -gt $((16 << 20)) ]
	weightfs status "$M" | grep -q '^  needed .*by a version that does not fit'
	gone 2
	diff -r "$CK/1" "$M/latest/"
	weightfs unmount "$M"
	mount_it
	diff -r "$CK/1" "$M/latest/"
	until_true 30 problem_says 'does not fit'
	pid=$(field .mount.pid)
	kill -KILL "$pid"
	until_true 10 dead
	mount_it
	diff -r "$CK/1" "$M/latest/"
	until_true 30 problem_says 'does not fit'
	rm "$D/filler"
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	diff -r "$CK/2" "$M/latest/"
	until_true 30 gone 1
	until_true 30 eval '[ -z "$(field .problem)" ]'
	end
}

# Somebody else fills the disk while a version is built, so that a write fails for which there was room.
fills_up()			# FILE SYSTEM
{
	local pid

	begin "$1"
	weightfs unmount "$M"
	start_pyhttp "$S"
	URL=$SERVER_URL mount_it rate=3M	# slow enough to come between
	publish other
	until_true 30 half_there
	head -c 100M /dev/zero >"$D/filler" 2>/dev/null || true
	until_true 60 eval '[ -n "$(field .problem)" ]'
	gone 2
	diff -r "$CK/1" "$M/latest/"
	pid=$(field .mount.pid)
	kill -KILL "$pid"
	until_true 10 dead
	mount_it				# a full disk, half a version
	diff -r "$CK/1" "$M/latest/"
	rm "$D/filler"
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 70)" = 2 ]
	diff -r "$CK/other" "$M/latest/"
	end
	stop_servers
}

# On overlayfs a lease is granted on a mapped file.  So what the kernel was given is kept until the next mount.
test_where_leases_lie_what_was_given_stays()
{
	local shard=model-00001-of-00002.safetensors

	unmount_below "$TMPDIR"
	rm -rf "$S" "$TMPDIR/pc"
	mount -t tmpfs tmpfs "$D"
	mkdir "$D/lower" "$D/upper" "$D/work" "$D/cache"
	mount -t overlay overlay -o "lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work" "$C"
	publish 1
	mount_it
	until_true 30 complete 1
	[ "$(field .cache.leases)" = false ]
	if [ "$(field .mount.mode)" != passthrough ]; then
		weightfs unmount "$M"
		mount_it serve=link
		until_true 30 test -L "$M/versions/1"
	fi
	coproc HOLDER { exec tool-holder "$M/versions/1/$shard" "$CK/1/$shard"; }
	read -r -t 20 line <&"${HOLDER[0]}"
	[ "$line" = mapped ]
	publish 2
	[ "$(weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	publish 3
	[ "$(weightfs wait "$M" --newer-than 2 --timeout 30)" = 3 ]
	until_true 30 gone 2			# nobody was given anything of it
	shown 1
	echo check >&"${HOLDER[1]}"
	read -r -t 20 line <&"${HOLDER[0]}"
	[ "$line" = same ]
	kill "$HOLDER_PID"
	weightfs unmount "$M"
	mount_it
	until_true 30 gone 1
	weightfs unmount "$M"
	umount "$C"
	umount "$D"
}

for fs in ext4 tmpfs; do
	run no_room $fs
	run fills_up $fs
done
run test_where_leases_lie_what_was_given_stays
finish
