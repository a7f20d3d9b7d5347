#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mount-link.sh - serve=link: complete versions are plain files in the cache, the mount says where
. "$(dirname "$0")/suite.sh"
set -u
PATH=$BUILD/tests:$PATH

S=$TMPDIR/store M=$TMPDIR/mnt C=$TMPDIR/cache CK=$TMPDIR/ckpt
LAST=6
MIB=1048576
mkdir -p "$M" "$CK"
chmod 755 "$TMPDIR" "$CK"

# Four shards of 4 MiB; each version changes one of them.
"$TESTS/mkmodel.py" make "$CK/1" --shards 4 --tensors 8 --mib 16 --seed 1
echo 'print(1)' >"$CK/1/code.py"
for i in $(seq 2 $LAST); do
	"$TESTS/mkmodel.py" step "$CK/$((i - 1))" "$TMPDIR/stepped" --seed "$i" --percent 3
	cp -r "$CK/$((i - 1))" "$CK/$i"
	shard=$(printf 'model-%05d-of-00004.safetensors' $((i % 4 + 1)))
	cp "$TMPDIR/stepped/$shard" "$CK/$i/"
	rm -r "$TMPDIR/stepped"
done

# As root, stand in for a user: nobody's number, which owns nothing else here.
as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
	as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR HOME="$TMPDIR/home" "$@"; }
	mkdir "$TMPDIR/home"
	chown 65534:65534 "$TMPDIR/home" "$M"
	fuse_mode=$(stat -c %a /dev/fuse)
	chmod 666 /dev/fuse
fi
cleanup() { [ -z "${fuse_mode:-}" ] || chmod "$fuse_mode" /dev/fuse; }

publish() { weightsync publish "$CK/$1" "$S" --cache "$TMPDIR/pc" --quiet >/dev/null; }
field() { as_user weightfs status "$M" --json | jq "$1"; }
linked() { [ -L "$M/versions/$1" ]; }
reads_linked() { as_user test -L "$M/versions/$1"; }
reads_gone() { ! as_user test -e "$M/versions/$1"; }
same() { as_user diff -r --exclude=code.py "$CK/$1" "$M/versions/$1/"; }
shard_of() { printf '%s/model-%05d-of-00004.safetensors' "$1" "$2"; }

# [OPTIONS]: a mount of an ordinary user
begin()
{
	unmount_below "$M"
	chmod -R u+w "$C" 2>/dev/null || true
	rm -rf "$S" "$TMPDIR/pc" "$C"
	mkdir "$C"
	[ "$(id -u)" != 0 ] || chown 65534:65534 "$C"
	publish 1
	mount_it "$@"
	as_user weightfs wait "$M" --timeout 30 >/dev/null
}

mount_it() { as_user weightfs mount "$S" "$M" -o "cache=$C,serve=link,poll=100ms,linger=1s,keep_versions=0,min_free=1M${1:+,$1}"; }
end() { as_user weightfs unmount "$M"; }

hold()				# FILE PLAIN
{
	coproc HOLDER { as_user "$BUILD/tests/tool-holder" "$1" "$2"; }
	hear mapped
}
hear() { local line; read -r -t 20 line <&"${HOLDER[0]}" && [ "$line" = "$1" ] || fail "heard ${line:-nothing}, not $1"; }
tell() { echo "$1" >&"${HOLDER[1]}"; hear "$2"; }

# What a reader gets is a plain file, with the oracle's bytes, and the daemon serves none of them.
test_reads_go_past_the_daemon()
{
	local f before

	begin ready=complete
	until_true 30 reads_linked 1
	before=$(field .reads)
	same 1
	as_user diff -r --exclude=code.py "$CK/1" "$M/latest/"
	[ "$(field .reads)" = "$before" ]
	f=$(as_user realpath "$(shard_of "$M/latest" 1)")
	case $f in "$C"/served/1/*) ;; *) fail "$f is not in the cache" ;; esac
	[ "$(stat -c %a "$f")" = 444 ]
	[ "$(stat -c %a "$C/served/1")" = 555 ]
	[ "$(stat -c %Y "$f")" -ge "$(stat -c %Y "$S/weightfs-store")" ]
	[ ! -e "$C/served/1/code.py" ]
	as_user test ! -w "$f"
	[ "$(as_user readlink "$M/latest")" = versions/1 ]
	[ "$(field '.versions[0].linked')" = true ]
	[ "$(as_user weightfs status "$M" --files --json | jq -c '[.files[].mode] | unique')" = '["link"]' ]
	end
}

# Shown at once and built meanwhile: a directory while somebody is in it, a link after that.
test_becomes_a_link_when_nobody_has_it()
{
	begin ready=manifest
	hold "$(shard_of "$M/versions/1" 2)" "$(shard_of "$CK/1" 2)"
	until_true 30 eval '[ "$(field ".versions[0].complete")" = true ]'
	tell check same
	as_user test ! -L "$M/versions/1"
	# who is in the directory goes on there
	# shellcheck disable=SC2016 # for the inner shell
	as_user bash -c 'cd "$1" && echo in && until [ -L "$1" ]; do sleep 0.05; done && diff -r --exclude=code.py "$2" .' \
		- "$M/versions/1" "$CK/1" >"$TMPDIR/inside" &
	until_true 20 grep -q in "$TMPDIR/inside"
	tell unmap unmapped
	until_true 30 reads_linked 1
	wait $!
	same 1
	end
}

# A mapping whose descriptor is closed keeps its version, in a cache that has no room for two.
test_a_mapped_version_stays()
{
	begin "ready=complete,cache_size=22M"
	until_true 30 reads_linked 1
	hold "$(shard_of "$M/versions/1" 3)" "$(shard_of "$CK/1" 3)"
	publish 2
	[ "$(as_user weightfs wait "$M" --newer-than 1 --timeout 30)" = 2 ]
	publish 3
	until_true 30 eval 'field .problem | grep -q "end what uses version 1"'
	[ "$(field .newest)" = 2 ]
	tell check same
	same 1
	same 2
	tell unmap unmapped
	[ "$(as_user weightfs wait "$M" --newer-than 2 --timeout 60)" = 3 ]
	until_true 30 reads_gone 1
	same 3
	[ ! -e "$C/served/1" ]
	[ "$(field .cache.used)" -le $((22 * MIB)) ]
	end
}

test_killed_and_mounted_again()
{
	local pid

	begin ready=complete
	until_true 30 reads_linked 1
	pid=$(field .mount.pid)
	kill -KILL "$pid"
	until_true 10 eval '! kill -0 '"$pid"' 2>/dev/null'
	mkdir "$TMPDIR/junk"
	[ "$(id -u)" != 0 ] || chown 65534:65534 "$TMPDIR/junk"
	mv "$TMPDIR/junk" "$C/served/99"
	mount_it ready=complete
	as_user weightfs wait "$M" --timeout 30
	until_true 30 reads_linked 1
	same 1
	[ ! -e "$C/served/99" ]
	[ "$(field .blocks_built)" = 0 ]
	end
	mount_it serve=mount
	as_user weightfs wait "$M" --timeout 30
	[ ! -e "$C/served" ]
	as_user test ! -L "$M/versions/1"
	same 1
	end
}

# Rot is found by the scrub; who has the file keeps it as it is, who comes later gets the right bytes.
test_rot_is_mended_in_another_file()
{
	local f

	begin "ready=complete,scrub=1s"
	until_true 30 reads_linked 1
	f=$(as_user realpath "$(shard_of "$M/latest" 1)")
	hold "$f" "$CK/1/$(basename "$f")"
	tell check same
	chmod u+w "$f"
	printf 'rotten' | dd of="$f" bs=1 seek=2000000 conv=notrunc status=none
	chmod u-w "$f"
	until_true 40 eval 'cmp -s "$(shard_of "$M/versions/1" 1)" "$(shard_of "$CK/1" 1)" ||
		as_user cmp -s "$(shard_of "$M/versions/1" 1)" "$(shard_of "$CK/1" 1)"'
	[ "$(field .rot_found)" -ge 1 ]
	until_true 30 reads_linked 1
	same 1
	tell check "differs at 2000000"		# never written to
	end
}

# Root serves everybody: other users walk through the cache to the files, and nowhere else.
test_other_users_read()
{
	[ "$(id -u)" = 0 ] || return 0
	unmount_below "$M"
	rm -rf "$S" "$TMPDIR/pc" "$C"
	publish 1
	weightfs mount "$S" "$M" -o "cache=$C,serve=link,ready=complete,allow_other,run_as=daemon,poll=100ms,min_free=1M"
	weightfs wait "$M" --timeout 30 >/dev/null
	until_true 30 linked 1
	same 1
	if as_user ls "$C" || as_user ls "$C/images"; then fail "others see the cache"; fi
	weightfs unmount "$M"
}

run test_reads_go_past_the_daemon
run test_becomes_a_link_when_nobody_has_it
run test_a_mapped_version_stays
run test_killed_and_mounted_again
run test_rot_is_mended_in_another_file
run test_other_users_read
finish
