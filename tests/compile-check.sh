#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# compile-check.sh - what the build must give: no warning from gcc and clang with optimisation,
# hardened programs, an install that is complete, fuzz targets that link and run
. "$(dirname "$0")/suite.sh"
set -u

configure_and_build()		# CC DIR OPTION...
{
	CC=$1 cmake -S "$SOURCE" -B "$TMPDIR/$2" -G Ninja -DWFS_WERROR=ON "${@:3}" >"$TMPDIR/$2.log" &&
		ninja -C "$TMPDIR/$2" >>"$TMPDIR/$2.log" || { tail -n 40 "$TMPDIR/$2.log"; return 1; }
}

test_gcc_release_has_no_warning()
{
	configure_and_build gcc gcc -DCMAKE_INSTALL_PREFIX=/usr
}

test_clang_release_has_no_warning()
{
	configure_and_build clang clang
}

test_debug_has_no_warning()
{
	configure_and_build gcc debug -DCMAKE_BUILD_TYPE=Debug -DWFS_TESTS=OFF
}

# Each program is a PIE with full relro, no executable stack, a stack protector and fortified calls.
test_programs_are_hardened()
{
	local p

	for p in weightfs weightsync; do
		p=$TMPDIR/gcc/$p
		readelf -hW "$p" | grep -q 'Type: *DYN' || fail "$p is no PIE"
		readelf -lW "$p" | grep -q GNU_RELRO || fail "$p has no relro"
		readelf -dW "$p" | grep -qw NOW || fail "$p binds late"
		readelf -lW "$p" | grep GNU_STACK | grep -qv RWE || fail "$p has an executable stack"
		readelf -sW "$p" | grep -q __stack_chk_fail || fail "$p has no stack protector"
		readelf -sW "$p" | grep -q '_chk@' || fail "$p is not fortified"
	done
}

test_install_is_complete()
{
	local f root=$TMPDIR/root

	DESTDIR=$root cmake --install "$TMPDIR/gcc" >/dev/null
	for f in bin/weightfs bin/weightsync sbin/mount.weightfs \
		share/man/man1/weightfs.1 share/man/man1/weightsync.1 share/man/man5/weightfs.conf.5 \
		share/man/man5/weightfs-format.5 share/man/man7/weightfs-design.7 \
		share/bash-completion/completions/weightfs share/zsh/site-functions/_weightfs \
		share/doc/weightfs/weightfs.conf lib/systemd/system/weightfs@.service \
		lib/systemd/system/weightfs-hooks@.service; do
		[ -e "$root/usr/$f" ] || fail "not installed: $f"
	done
	"$root/usr/bin/weightfs" --version | grep -q '^weightfs [0-9]'
	"$root/usr/bin/weightsync" --version | grep -q '^weightsync [0-9]'
}

# Every directive is known, and what a unit runs is there.
test_units_are_valid()
{
	local unit units=$TMPDIR/units root=$TMPDIR/root

	mkdir "$units"
	for unit in weightfs weightfs-hooks; do
		sed "s,/usr/bin/weightfs ,$TMPDIR/gcc/weightfs ," "$root/usr/lib/systemd/system/$unit@.service" \
			>"$units/$unit@.service"
	done
	for unit in weightfs weightfs-hooks; do
		SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no "$unit@mnt-policy.service" >"$TMPDIR/verify" 2>&1 ||
			fail "$unit: $(cat "$TMPDIR/verify")"
		if grep "$units" "$TMPDIR/verify"; then return 1; fi	# an unknown key is a warning to it
	done
}

test_debian_package_is_complete()
{
	local f

	(cd "$TMPDIR/gcc" && cpack -G DEB) >"$TMPDIR/cpack.log" 2>&1 || { tail "$TMPDIR/cpack.log"; return 1; }
	dpkg-deb -c "$TMPDIR"/gcc/weightfs_*.deb >"$TMPDIR/deb"
	for f in bin/weightfs bin/weightsync sbin/mount.weightfs share/man/man1/weightfs.1 \
		lib/systemd/system/weightfs@.service lib/systemd/system/weightfs-hooks@.service; do
		grep -q " ./usr/$f" "$TMPDIR/deb" || fail "not in the package: $f"
	done
	dpkg-deb -f "$TMPDIR"/gcc/weightfs_*.deb Depends | grep -q libfuse3 || fail "no dependency on libfuse3"
}

# Every parser of untrusted bytes: the target links with libFuzzer and survives its corpus and a
# thousand mutations of it.
test_fuzz_targets_run()
{
	local t name corpus

	configure_and_build clang fuzz -DWFS_FUZZ=ON -DWFS_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_FLAGS_DEBUG='-O1 -g'
	for t in "$TMPDIR"/fuzz/tests/fuzz-*; do
		[ -x "$t" ] && [ -f "$t" ] || continue
		name=${t##*/fuzz-}
		corpus=$TESTS/corpus/$name
		[ -d "$corpus" ] || fail "tests/corpus/$name is missing"
		mkdir -p "$TMPDIR/found"
		"$t" -runs=1000 -max_len=4096 -artifact_prefix="$TMPDIR/" "$TMPDIR/found" "$corpus" \
			>"$TMPDIR/fuzz.log" 2>&1 || { tail -n 30 "$TMPDIR/fuzz.log"; return 1; }
		rm -r "$TMPDIR/found"
	done
}

run test_gcc_release_has_no_warning
run test_clang_release_has_no_warning
run test_debug_has_no_warning
run test_programs_are_hardened
run test_install_is_complete
if command -v systemd-analyze >/dev/null; then
	run test_units_are_valid
else
	skip test_units_are_valid "no systemd-analyze"
fi
run test_debian_package_is_complete
run test_fuzz_targets_run
finish
