#!/bin/bash
# Two sessions on the same function of one process, ended in either order; one session on many processes.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

start_victim target -t 4
pid=$last
tell target calls 1 >/dev/null
snapshot target "$pid"

session_count() { # SESSION
	ubpf list --session "$1" | sed -nE "s/^  process $pid .*count ([0-9]+)$/\1/p"
}
for order in first second; do
	load malloc
	first=$loader
	load malloc
	second=$loader
	for session in "$first" "$second"; do
		ubpf attach --session "$session" "$pid" >/dev/null || fail "attach in $session"
	done
	tell target calls 10 >/dev/null
	[ "$(session_count "$first"):$(session_count "$second")" = 40:40 ] || fail "both: not 40 and 40"
	if [ $order = first ]; then ends=$first stays=$second; else ends=$second stays=$first; fi
	loader=$ends
	end_loader INT
	tell target calls 10 >/dev/null
	[ "$(session_count "$stays")" = 80 ] || fail "$order ended: the other does not count on"
	loader=$stays
	end_loader TERM
	tell target calls 10 >/dev/null
	no_residue target "$pid"
done

load malloc
pids=("$pid")
for i in 1 2 3; do
	start_victim "more$i" -t 2
	pids+=("$last")
done
for pid in "${pids[@]}"; do
	ubpf attach "$pid" >/dev/null || fail "attach $pid"
done
[ "$(ubpf list | grep -c '^  process ')" = 4 ] || fail "not four processes attached"
for i in 1 2 3; do
	tell "more$i" calls 10 >/dev/null
	expect_count "${pids[$i]}" 20
done
ubpf detach "${pids[1]}" "${pids[2]}" >/dev/null || fail "detach two"
[ "$(ubpf list | grep -c '^  process ')" = 2 ] || fail "not two processes left"
ubpf detach >/dev/null || fail "detach the rest"
! ubpf list | grep -q '^  process ' || fail "some process is left"
end_loader INT
