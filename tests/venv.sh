# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# venv.sh - a Python with the loaders' modules from PyPI, for suites that source it after suite.sh

# prepare_python MODULE...: sets VENV_PYTHON; false when it cannot be had, $TMPDIR/pip.log says why.
prepare_python()
{
	local cache=${WFS_TEST_CACHE:-/var/cache/weightfs-tests} wants="safetensors numpy ml_dtypes"
	local venv imports

	mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || cache=$TMPDIR
	venv=$cache/venv-loaders
	imports="import $(IFS=,; echo "$*")"
	if ! "$venv/bin/python" -c "$imports" 2>/dev/null; then
		rm -rf "$venv"
		# shellcheck disable=SC2086 # a list
		if ! { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check $wants; } \
			>"$TMPDIR/pip.log" 2>&1; then
			rm -rf "$venv"
			return 1
		fi
	fi
	# shellcheck disable=SC2034 # for who sources this
	VENV_PYTHON=$venv/bin/python
}
