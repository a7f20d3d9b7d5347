#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# hooks-http.sh - weightfs hooks tells an engine by HTTP: the exact requests, and what happens when the
# engine misbehaves
#
# timeout: 240
. "$(dirname "$0")/suite.sh"
set -u
. "$TESTS/hooks.sh"
. "$TESTS/servers.sh"		# make_cert

conf()				# LINES...: one hook
{
	printf '[hook "engine"]\nmount = %s\n' "$M" >"$CONF"
	printf '%s\n' "$@" >>"$CONF"
}
sglang() { conf preset=sglang "url=http://127.0.0.1:$port" retries=1 timeout=5s "$@"; }
vllm() { conf preset=vllm "url=http://127.0.0.1:$port/" retries=0 timeout=5s "$@"; }

test_sglang_byte_for_byte()
{
	fresh
	start_engine
	sglang
	start_hooks
	until_true 20 hook_is engine told 1
	engine_has 1
	[ "$(paths)" = "/pause_generation /update_weights_from_disk /flush_cache /continue_generation " ]
	expect_raw 1 <<-'END'
	POST /pause_generation HTTP/1.1
	Accept: */*
	Content-Length: 18
	Content-Type: application/json
	Host: ENGINE
	User-Agent: weightfs/@VERSION@
	{"mode":"retract"}
	END
	expect_raw 2 <<-END
	POST /update_weights_from_disk HTTP/1.1
	Accept: */*
	Content-Length: $((68 + ${#M}))
	Content-Type: application/json
	Host: ENGINE
	User-Agent: weightfs/@VERSION@
	{"model_path":"$M/versions/1","weight_version":"1","flush_cache":true}
	END
	expect_raw 3 <<-'END'
	POST /flush_cache HTTP/1.1
	Accept: */*
	Content-Length: 0
	Host: ENGINE
	User-Agent: weightfs/@VERSION@

	END
	expect_raw 4 <<-'END'
	POST /continue_generation HTTP/1.1
	Accept: */*
	Content-Length: 2
	Content-Type: application/json
	Host: ENGINE
	User-Agent: weightfs/@VERSION@
	{}
	END
	publish
	until_true 20 hook_is engine told 2
	engine_has 2
}

test_vllm_byte_for_byte()
{
	fresh
	start_engine
	vllm
	start_hooks
	until_true 20 hook_is engine told 1
	engine_has 1
	[ "$(requests | jq -r .line | tr '\n' '|')" = "POST /pause?mode=keep&clear_cache=true HTTP/1.1|POST /collective_rpc HTTP/1.1|POST /reset_prefix_cache?reset_running_requests=true HTTP/1.1|POST /resume HTTP/1.1|" ]
	expect_raw 2 <<-END
	POST /collective_rpc HTTP/1.1
	Accept: */*
	Content-Length: $((67 + ${#M}))
	Content-Type: application/json
	Host: ENGINE
	User-Agent: weightfs/@VERSION@
	{"method":"reload_weights","kwargs":{"weights_path":"$M/versions/1"}}
	END
	[ "$(requests | sed -n 4p | jq -r '.body')" = "" ]
	stop_hooks
	vllm pause=wait
	start_hooks
	until_true 20 n_requests 8
	requests | sed -n 5p | jq -r .line | grep -qF 'mode=wait'
}

# Own requests: method, headers, escaped text, expected status; foreign text stays text.
test_own_requests()
{
	local label=$'a "quoted" \\ label\t{path} $(touch '"$TMPDIR"$'/ran) &?#%'

	fresh
	start_engine
	conf 'url = http://127.0.0.1:'"$port" \
		'request = PUT /models/{version}/{label}' 'header = X-One: 1' 'header = Content-Type: text/x-json' \
		'body = {"label":"{label}","p":"{path}","v":{version},"other":"{nothing}"}' 'expect = 200-204' \
		'request = GET /done?id={id}'
	publish "$label"
	shown 2
	start_hooks
	until_true 20 hook_is engine told 2
	[ "$(requests | sed -n 1p | jq -r .line)" = \
	  "PUT /models/2/$(jq -rn --arg l "$label" '$l | @uri' | sed "s/'/%27/g; s/(/%28/g; s/)/%29/g; s/[.]/%2E/g") HTTP/1.1" ]
	requests | sed -n 1p | jq -r .body >"$TMPDIR/body"
	[ "$(jq -r .label "$TMPDIR/body")" = "$label" ]
	[ "$(jq -r '.p + .other + (.v | tostring)' "$TMPDIR/body")" = "$M/versions/2{nothing}2" ]
	requests | sed -n 1p | jq -r '.headers[]' | grep -qx 'X-One: 1'
	[ "$(requests | sed -n 1p | jq -r '.headers[]' | grep -c '^Content-Type')" = 1 ]
	requests | sed -n 2p | jq -r .line | grep -qE '^GET /done\?id=[0-9a-f]{64} HTTP/1.1$'
	[ ! -e "$TMPDIR/ran" ]
}

# A label is text in the URL, whatever it looks like: it cannot choose another path, to which the token goes too.
test_a_label_leads_nowhere_else()
{
	fresh
	start_engine
	conf "url = http://127.0.0.1:$port" 'request = POST /v1/{label}/reload'
	for label in '../../shutdown?' '..' '.'; do
		publish "$label"
		shown "$n"
		weightfs hooks "$M" --config "$CONF" --once 2>/dev/null
		requests | tail -n 1 | jq -r .line
	done >"$TMPDIR/lines"
	diff - "$TMPDIR/lines" <<-'END'
	POST /v1/%2E%2E%2F%2E%2E%2Fshutdown%3F/reload HTTP/1.1
	POST /v1/%2E%2E/reload HTTP/1.1
	POST /v1/%2E/reload HTTP/1.1
	END
}

test_secrets_come_from_files_and_go_nowhere_else()
{
	fresh
	start_engine
	echo 's3cret-token' >"$TMPDIR/token"
	printf 'X-Key: k3y-value\nX-Other: o\n' >"$TMPDIR/headers"
	sglang "token_file=$TMPDIR/token" "header_file=$TMPDIR/headers"
	echo "/update_weights_from_disk echo" >"$E/do"
	start_hooks
	until_true 20 hook_is engine failed 0
	requests | sed -n 1p | jq -r '.headers[]' | grep -qx 'Authorization: Bearer s3cret-token'
	requests | sed -n 1p | jq -r '.headers[]' | grep -qx 'X-Key: k3y-value'
	tr '\0' ' ' <"/proc/$hooks_pid/cmdline" >"$TMPDIR/all"
	weightfs status "$M" --json >>"$TMPDIR/all"
	weightfs status "$M" >>"$TMPDIR/all"
	cat "$TMPDIR/hooks.log" >>"$TMPDIR/all"
	weightfs hooks "$M" --config "$CONF" --dry-run >>"$TMPDIR/all"
	grep -q 'HTTP 400 instead of 200' "$TMPDIR/all"
	grep -e s3cret -e k3y "$TMPDIR/all" && fail "a secret got out"
	grep -q "Bearer (from $TMPDIR/token)" "$TMPDIR/all"
	# a new token counts at once
	echo 'second' >"$TMPDIR/token"
	publish
	until_true 20 hook_is engine told 2
	requests | tail -n 1 | jq -r '.headers[]' | grep -qx 'Authorization: Bearer second'
}

# Over TLS with the certificates that the hook's section names; others, and the system's, are not enough: then
# the engine is sent nothing, as if it were not there, and told when they are right.
test_https_with_its_own_certificates()
{
	fresh
	mkdir -p "$TMPDIR/good" "$TMPDIR/other"
	make_cert "$TMPDIR/good"
	make_cert "$TMPDIR/other"
	echo 's3cret-token' >"$TMPDIR/token"
	start_engine 0 "$TMPDIR/good"
	tls() { conf preset=sglang "url=https://127.0.0.1:$port" retries=0 timeout=5s "token_file=$TMPDIR/token" "$@"; }
	refused()		# WHY
	{
		until_true 20 hook_is engine failed 0
		hook engine .error >"$TMPDIR/why"
		grep "^POST https://127.0.0.1:$port/pause_generation: .*$1" "$TMPDIR/why" || fail "$(cat "$TMPDIR/why")"
		weightfs status "$M" | grep -q "engine.*failed"
		[ ! -e "$E/requests" ]
		weightfs status "$M" --json >>"$TMPDIR/all"
		cat "$TMPDIR/hooks.log" >>"$TMPDIR/all"
	}

	: >"$TMPDIR/all"
	tls
	start_hooks
	refused 'not who it should be.*certificate'
	stop_hooks
	tls "cacert=$TMPDIR/none.pem"
	start_hooks
	refused "cannot be read.*$TMPDIR/none.pem"
	stop_hooks
	cp "$TMPDIR/other/cert.pem" "$TMPDIR/ca.pem"
	tls "cacert=$TMPDIR/ca.pem"
	start_hooks
	refused 'not who it should be.*certificate'
	cp "$TMPDIR/good/cert.pem" "$TMPDIR/ca.pem"
	until_true 30 hook_is engine told 1
	engine_has 1
	[ "$(hook engine .error)" = "" ]
	requests | sed -n 1p | jq -r '.headers[]' | grep -qx 'Authorization: Bearer s3cret-token'
	publish
	until_true 20 hook_is engine told 2
	engine_has 2
	weightfs status "$M" --json >>"$TMPDIR/all"
	cat "$TMPDIR/hooks.log" >>"$TMPDIR/all"
	grep -q "version 2 told" "$TMPDIR/all"
	refute grep s3cret "$TMPDIR/all"
}

test_dry_run_sends_nothing()
{
	fresh
	start_engine
	sglang
	weightfs hooks "$M" --config "$CONF" --dry-run >"$TMPDIR/dry"
	grep -q "^  POST http://127.0.0.1:$port/update_weights_from_disk" "$TMPDIR/dry"
	grep -qF "{\"model_path\":\"$M/versions/1\",\"weight_version\":\"1\",\"flush_cache\":true}" "$TMPDIR/dry"
	[ ! -e "$E/requests" ]
	[ "$(weightfs status "$M" --json | jq '.hooks | length')" = 0 ]
}

# What may pass is tried again; the engine ends with the new version.
test_repeats_what_may_pass()
{
	local what

	for what in 500 503 429 408 close half slow\ 9; do
		fresh
		start_engine
		sglang timeout=2s
		echo "/update_weights_from_disk $what" >"$E/do"
		start_hooks
		until_true 30 hook_is engine told 1
		engine_has 1
		[ "$(paths)" = "/pause_generation /update_weights_from_disk /update_weights_from_disk /flush_cache /continue_generation " ] ||
			fail "$what: $(paths)"
	done
}

# An answer that is final: no repetition, the version before is sent again, generation goes on.
test_rolls_back()
{
	local what

	for what in 400 404 302 201 garbage; do
		fresh
		start_engine
		sglang
		start_hooks
		until_true 20 hook_is engine told 1
		rm "$E/requests"
		echo "/update_weights_from_disk $what" >"$E/do"
		publish
		until_true 20 hook_is engine failed 1
		engine_has 1
		[ "$(paths)" = "/pause_generation /update_weights_from_disk /pause_generation /update_weights_from_disk /flush_cache /continue_generation " ] ||
			fail "$what: $(paths)"
		[ "$(requests | sed -n 4p | jq -r '.body | fromjson | .model_path')" = "$M/versions/1" ]
		hook engine .error | grep -q "version 1 was told again after: POST .*/update_weights_from_disk: " || fail "$(hook engine .error)"
		weightfs status "$M" | grep -q "engine.*failed"
		# the next version is told as if nothing had been
		publish
		until_true 20 hook_is engine told 3
		engine_has 3
		[ "$(hook engine .error)" = "" ]
	done
}

test_rolls_back_when_it_hangs()
{
	fresh
	start_engine
	sglang timeout=500ms retries=0
	start_hooks
	until_true 20 hook_is engine told 1
	echo "/update_weights_from_disk hang" >"$E/do"
	publish
	until_true 20 hook_is engine failed 1
	engine_has 1
	hook engine .error | grep -q "no answer within 0.5 s"
}

# An engine says that it failed, in a 200; answers without end; or would send our request, with its token,
# elsewhere.  Each is a failure, soon.
test_answers_that_are_none()
{
	local what why

	error_says() { hook_is engine failed 1 && hook engine .error | grep -q -e "$1"; }
	fresh
	start_engine
	sglang timeout=1s retries=0
	start_hooks
	until_true 20 hook_is engine told 1
	while IFS='|' read -r what why; do
		echo "/update_weights_from_disk $what" >"$E/do"
		publish
		until_true 20 error_says "version 1 was told again after: .*$why" || fail "$what: $(hook engine .error)"
		engine_has 1
	done <<-'END'
	says {"success": false, "message": "no room"}|HTTP 200 without success: .*no room
	drip|no answer within 1 s
	flood|the answer is longer than\|no answer within 1 s
	headers|headers are longer than
	continue|headers are longer than
	away|HTTP 307 instead of 200
	END
	[[ $(paths) != *stolen* ]]
	echo '/update_weights_from_disk says {"success": true, "message": "", "success_count": false}' >"$E/do"
	publish
	until_true 20 hook_is engine told "$n"
}

# Nothing to go back to, or going back fails: the engine goes on, and the status says what is in doubt.
test_resumes_in_any_case()
{
	fresh
	start_engine
	sglang
	echo "/update_weights_from_disk! 400" >"$E/do"
	start_hooks
	until_true 20 hook_is engine failed 0
	[ "$(paths)" = "/pause_generation /update_weights_from_disk /continue_generation " ]
	[ "$(jq .paused "$E/state")" = false ]
	rm "$E/do"
	publish
	until_true 20 hook_is engine told 2
	rm "$E/requests"
	echo "/update_weights_from_disk! 400" >"$E/do"
	publish
	until_true 20 hook_is engine failed 2
	[ "$(paths)" = "/pause_generation /update_weights_from_disk /pause_generation /update_weights_from_disk /continue_generation " ]
	[ "$(jq .paused "$E/state")" = false ]
	hook engine .error | grep -q "mixture of versions, restart it"
}

# It does not go on either: that is not said to have been done.
test_what_could_not_be_resumed_is_said()
{
	fresh
	start_engine
	sglang retries=0
	printf '/update_weights_from_disk! 400\n/continue_generation! 400\n' >"$E/do"
	start_hooks
	until_true 20 hook_is engine failed 0
	hook engine .error | grep -q "^it could not be told to go on: " || fail "$(hook engine .error)"
	rm "$E/do"
	publish
	until_true 20 hook_is engine told 2
	printf '/update_weights_from_disk! 400\n/continue_generation! 400\n' >"$E/do"
	publish
	until_true 20 hook_is engine failed 2
	hook engine .error | grep -q "mixture of versions and stand still" || fail "$(hook engine .error)"
}

# An engine that is not there is asked until it is.
test_waits_for_an_engine_that_starts_later()
{
	fresh
	start_engine
	stop_engine
	sglang retries=0
	start_hooks
	until_true 20 hook_is engine failed 0
	hook engine .error | grep -qi "connect"
	publish
	start_engine "$port"
	until_true 30 hook_is engine told 2
	engine_has 2
	[ "$(paths)" = "/pause_generation /update_weights_from_disk /flush_cache /continue_generation " ]
}

# One that takes the connection and is silent was sent nothing either: nothing is in doubt, and it is asked again.
test_waits_for_a_handshake()
{
	fresh
	python3 -c '
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
print(s.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(s.accept())' >"$TMPDIR/port" & engine_pid=$!
	until_true 20 test -s "$TMPDIR/port"
	conf preset=vllm "url=https://127.0.0.1:$(cat "$TMPDIR/port")" retries=0 timeout=1s
	start_hooks
	until_true 20 hook_is engine failed 0
	hook engine .error | grep -q "^POST https://" || fail "$(hook engine .error)"
	until_true 20 hook_is engine telling 0
}

# Without its secret nothing is sent, and it is asked for again.
test_waits_for_a_secret_that_comes_later()
{
	fresh
	start_engine
	sglang "token_file=$TMPDIR/later"
	start_hooks
	until_true 20 hook_is engine failed 0
	hook engine .error | grep -qx "$TMPDIR/later: No such file or directory"
	[ ! -s "$E/requests" ]
	echo 'word' >"$TMPDIR/later"
	until_true 30 hook_is engine told 1
	engine_has 1
}

test_once()
{
	fresh
	start_engine
	sglang
	weightfs hooks "$M" --config "$CONF" --once 2>/dev/null
	engine_has 1
	hook_is engine told 1
	echo "/update_weights_from_disk! 400" >"$E/do"
	weightfs hooks "$M" --config "$CONF" --once 2>"$TMPDIR/err" && fail "a failure ended well"
	grep -q "instead of 200" "$TMPDIR/err"
}

test_mistakes_in_the_configuration()
{
	local lines why code

	fresh
	port=1
	while IFS='|' read -r lines why; do
		printf '%b' "$lines" | sed "s,@M@,$M," >"$CONF"
		weightfs hooks "$M" --config "$CONF" --dry-run >/dev/null 2>"$TMPDIR/err" && code=0 || code=$?
		[ "$code" -eq 2 ] || fail "taken: $lines"
		grep -q -e "$why" "$TMPDIR/err" || fail "$lines: $(cat "$TMPDIR/err")"
		grep -qF "$CONF" "$TMPDIR/err" || fail "it does not say where: $(cat "$TMPDIR/err")"
	done <<'END'
[mount]\n|no \[hook
[hook "a"]\nmount=@M@\n|one of command=
[hook "a"]\npreset=sglang\n|mount= is missing
[hook "a"]\nmount=~/policy\n|:2: mount=~/policy: the mount's whole path is needed
[hook "a"]\nmount=policy\n|:2: mount=policy: the mount's whole path is needed
[hook "a"]\nmount=@M@\npreset=sglang\n|needs url=
[hook "a"]\nmount=@M@\npreset=sglang\nurl=http://h\npause=keep\n|retract, abort
[hook "a"]\nmount=@M@\npreset=tgi\n|one of
[hook "a"]\nmount=@M@\nrequest=POST http://u:p@h/\n|without credentials
[hook "a"]\nmount=@M@\nrequest=POST ftp://h/\n|no URL
[hook "a"]\nmount=@M@\nrequest=POST http://{label}/x\n|no URL
[hook "a"]\nmount=@M@\nrequest=POST http://h.{label}:1/x\n|no URL
[hook "a"]\nmount=@M@\nrequest=POST /x\n|url= is missing
[hook "a"]\nmount=@M@\nrequest=http://h/\n|METHOD URL
[hook "a"]\nmount=@M@\nbody={}\n|stands after
[hook "a"]\nmount=@M@\nrequest=POST http://h/\nbody={"a":{label}}\n|no JSON
[hook "a"]\nmount=@M@\nrequest=POST http://h/\nexpect=2xx\n|no status
[hook "a"]\nmount=@M@\nrequest=POST http://h/\ntimeout=0\n|leaves no time
[hook "a"]\nmount=@M@\nrequest=POST http://h/\nheader=no colon\n|no header
[hook "a"]\nmount=@M@\nrequest=POST http://h/\nboddy={}\n|unknown option "boddy".*, body, expect,
[hook "a"]\nmount=@M@\ncommand=true\n|absolute path
[hook "a"]\nmount=@M@\ncommand=/bin/true\npreset=vllm\n|more than one
[hook "a b"]\nmount=@M@\n|a hook's name
[hook a]\nmount=@M@\n|is written
END
}

# The mount goes on without hooks, and says that they will not run.
test_mount_warns_of_mistakes()
{
	fresh
	unmount_below "$M"
	conf preset=sglang
	weightfs mount "$S" "$M" -o "cache=$C.warned,config=$CONF" 2>"$TMPDIR/said"
	grep -q "weightfs hooks will refuse this: $CONF: hook engine: preset=sglang needs url=" "$TMPDIR/said" ||
		fail "$(cat "$TMPDIR/said")"
	shown 1
	unmount_below "$M"
	conf command=/bin/true
	weightfs mount "$S" "$M" -o "cache=$C.fine,config=$CONF" 2>"$TMPDIR/said"
	[ ! -s "$TMPDIR/said" ] || fail "$(cat "$TMPDIR/said")"
}

for t in $(declare -F | sed -n "s/^declare -f \(test_\)/\1/p"); do
	run "$t"
done
finish
