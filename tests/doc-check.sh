#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# doc-check.sh - the pages say what the programs take, and nothing else
. "$(dirname "$0")/suite.sh"
set -u
cd "$SOURCE" || exit 1

test_pages_are_clean_mdoc()
{
	# Long input lines are one sentence a line; other pages need not be installed here.
	mandoc -Tlint -W style man/*.[1-8] 2>/dev/null | grep -v -e 'longer than 80 bytes' \
		-e 'referenced manual not found' >"$TMPDIR/lint" && { cat "$TMPDIR/lint"; return 1; }
	return 0
}

# Every page that is referred to as ours exists.
test_references_exist()
{
	local name section

	grep -hoE '^\.Xr weight[a-z.-]+ [0-9]' man/*.[1-8] | sort -u | while read -r _ name section; do
		[ -e "man/$name.$section" ] || fail "$name($section) is missing"
	done
}

# Long options in a text, one a line; a page writes them as "Fl -name".
options_of_text() { grep -oE -- '(^|[^a-zA-Z-])--[a-z][a-z-]+' | grep -oE -- '--[a-z][a-z-]+' | sort -u; }
options_of_page() { grep -oE 'Fl -[a-z][a-z-]+' "$1" | sed 's/Fl -/--/' | sort -u; }
# Mount options: "  name=..." or "  name " in the help's list, ".It Cm name" in the page.
mount_options_of_help() { weightfs mount --help | sed -n '/^options/I,$p' | sed -nE 's/^  ([a-z_]+)([=, ].*)?$/\1/p' | sort -u; }
mount_options_of_page() { sed -nE 's/^\.It Cm ([a-z_]+).*/\1/p' man/weightfs.conf.5 | sort -u; }

compare()			# WHAT HELP PAGE
{
	local r=0

	[ -s "$2" ] || fail "$1: the help names no options"
	comm -23 "$2" "$3" >"$TMPDIR/only"
	[ ! -s "$TMPDIR/only" ] || { echo "$1: in --help, not in the page: $(tr '\n' ' ' <"$TMPDIR/only")"; r=1; }
	comm -13 "$2" "$3" >"$TMPDIR/only"
	[ ! -s "$TMPDIR/only" ] || { echo "$1: in the page, not in --help: $(tr '\n' ' ' <"$TMPDIR/only")"; r=1; }
	return $r
}

help_of_all()			# PROGRAM COMMAND...
{
	local program=$1 c

	"$program" --help
	for c in "${@:2}"; do
		"$program" "$c" --help
	done
	echo --help --version
}

test_weightsync_options_are_documented()
{
	help_of_all weightsync publish log show pull plan verify gc | options_of_text >"$TMPDIR/help"
	options_of_page man/weightsync.1 >"$TMPDIR/page"
	compare weightsync "$TMPDIR/help" "$TMPDIR/page"
}

test_weightfs_options_are_documented()
{
	help_of_all weightfs mount unmount status wait events hooks pin unpin verify | options_of_text >"$TMPDIR/help"
	options_of_page man/weightfs.1 >"$TMPDIR/page"
	compare weightfs "$TMPDIR/help" "$TMPDIR/page"
}

test_mount_options_are_documented()
{
	mount_options_of_help >"$TMPDIR/help"
	mount_options_of_page >"$TMPDIR/page"
	compare "weightfs mount" "$TMPDIR/help" "$TMPDIR/page"
}

test_example_configuration_is_accepted()
{
	local o

	sed '/^#\[hook/,$d' packaging/weightfs.conf | sed -nE 's/^[#;]?([a-z_]+) *=.*/\1/p' | grep -vx store | sort -u >"$TMPDIR/used"
	mount_options_of_help >"$TMPDIR/help"
	o=$(comm -23 "$TMPDIR/used" "$TMPDIR/help")
	[ -z "$o" ] || fail "packaging/weightfs.conf uses unknown options: $o"
}

test_completion_knows_every_option()
{
	local o

	{ help_of_all weightsync publish log show pull plan verify gc | options_of_text
	help_of_all weightfs mount unmount status wait events hooks pin unpin verify | options_of_text
	mount_options_of_help; } >"$TMPDIR/all"
	grep -q -x cache "$TMPDIR/all" || fail "no options found"
	while read -r o; do
		grep -qw -e "$o" packaging/completion.bash || fail "completion.bash lacks $o"
		grep -qw -e "$o" packaging/completion.zsh || fail "completion.zsh lacks $o"
	done <"$TMPDIR/all"
}

# Nothing in the project names a machine, a private place or a developer's tool.  The words are
# put together here so that this file does not match itself.
test_no_private_words()
{
	local words="/wo""rk/|sha""red/(reference|check|design|style|hooks)|/tmp/w""t|/ro""ot/|\bsnap""shot\.debian|pypi\.o""rg"

	git -c safe.directory='*' grep -nIE "$words" -- . ':!LICENSE' && fail "private words"
	return 0
}

test_readme_links_exist()
{
	local f

	grep -oE '`(fs|sync|include|tests|man|packaging)/[A-Za-z0-9_./-]+`' README.md | tr -d '`' | sort -u | while read -r f; do
		[ -e "$f" ] || fail "README names $f"
	done
}

test_shell_scripts_are_clean()
{
	local list

	command -v shellcheck >/dev/null || fail "no shellcheck"
	mapfile -t list < <(git -c safe.directory='*' grep -lE '^#!(/usr/bin/env bash|/bin/sh)' -- tests packaging .ci)
	shellcheck -x -P SCRIPTDIR -S warning "${list[@]}"
}

for t in $(declare -F | sed -n 's/^declare -f \(test_\)/\1/p'); do
	run "$t"
done
finish
