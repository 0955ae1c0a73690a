#!/bin/bash
# The three terminals: load, attach, detach, attach again, also after killing and restarting the loader.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

start_victim target -t 8
pid=$last
tell target calls 10 >/dev/null
snapshot target "$pid"

# The time, once a second.
load malloc
ticks() { grep -cE '^[0-9]{2}:[0-9]{2}:[0-9]{2}$' "$loader_out"; }
has_ticks() { [ "$(ticks)" -ge 2 ]; }
until_true has_ticks || fail "no time a second"
end_loader INT

for round in 1 2; do
	load malloc -i 0.1
	calls=0
	for attach in 1 2 3; do
		expect_status 0 ubpf attach "$pid"
		grep -q "^attached malloc to process $pid (ubpf-victim) on the $backend backend$" "$tmp/command.out" ||
			fail "attach $attach says something else"
		tell target calls 100 >/dev/null
		calls=$((calls + 800))
		expect_count "$pid" $calls
		: >"$loader_out"
		wait_line "$loader_out" "^	pid=$pid      malloc calls: $calls$"
		expect_error 1 "attached already" ubpf attach "$pid"
		case $attach in
		1) expect_status 0 ubpf detach "$pid" ;;
		2) expect_status 0 ubpf detach --all ;;
		3) expect_status 0 ubpf detach ;;
		esac
		grep -q "^detached malloc from process $pid (ubpf-victim): clean$" "$tmp/command.out" ||
			fail "detach $attach: $(cat "$tmp/command.out")"
		tell target calls 100 >/dev/null
		: >"$loader_out"
		wait_line "$loader_out" '^[0-9:]{8}$'
		! grep -q "pid=" "$loader_out" || fail "detached, and still printed"
		expect_status 0 ubpf detach "$pid"
		grep -q "is not attached" "$tmp/command.out" || fail "second detach: $(cat "$tmp/command.out")"
		no_residue target "$pid"
	done
	# Every attach logs the same lines.
	for line in "^ubpf-run: attach $pid .*: uprobe libc:malloc at " "^ubpf-run: attached malloc to process $pid"; do
		[ "$(grep -c "$line" "$loader_err")" = 3 ] || fail "not three times '$line' in the log"
	done
	ubpf attach "$pid" >/dev/null || fail "attach before the end of round $round"
	end_loader KILL
	until_true is_gone "$loader"
	tell target calls 100 >/dev/null
	no_residue target "$pid"
done
load malloc
ubpf attach "$pid" >/dev/null || fail "attach after a restart"
tell target calls 10 >/dev/null
expect_count "$pid" 80
kill -INT "$loader"
wait "$loader" || fail "Ctrl-C: status $?"
grep -q "^	pid=$pid      malloc calls: 80$" "$loader_out" || fail "no final summary"
no_residue target "$pid"
tell target calls 10 >/dev/null
