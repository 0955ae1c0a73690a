#!/bin/bash
# --follow-forks: a child of an attached process is attached when it is seen; without it, never. Either way it is
# not harmed, and nothing is left in it.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

children_of() { # PID
	cat /proc/[0-9]*/stat 2>/dev/null | sed -nE "s/^([0-9]+) \(.*\) [A-Z] $1 .*/\1/p"
}
has_child() { child=$(children_of "$pid" | head -n 1) && [ -n "$child" ]; }
start_parent() {
	start_victim "$1" -t 1
	pid=$last
	name=$1
	tell "$1" calls 1 >/dev/null
	snapshot "$1" "$pid"
}
# Its child calls malloc until it is killed.
have_child() {
	echo "fork 1000000000000" >&"${victim_fd[$name]}"
	until_true has_child || fail "no child"
	started+=("$child")
}
counts() { # PID
	local count
	count=$(count_of "$1")
	[ -n "$count" ] && [ "$count" -gt 0 ]
}
end_child() {
	kill -KILL "$child"
	until_true has_line "$tmp/$name.out" "^forked $child 9$" || fail "the child did not end by our signal"
}
is_clean() { ! grep -q 'ubpf-run' "/proc/$1/maps"; }

start_parent followed
load malloc --follow-forks
ubpf attach "$pid" >/dev/null || fail "attach"
have_child
until_true counts "$child" || fail "the child is not counted"
wait_line "$loader_err" "attached malloc to process $child "
# Taken out by hand it stays out.
ubpf detach "$child" >/dev/null || fail "detach the child"
is_clean "$child" || fail "something is left in the child"
sleep 0.5
[ -z "$(count_of "$child")" ] || fail "the child was attached again"
end_child
# The next one is another process.
have_child
until_true counts "$child" || fail "the second child is not counted"
end_loader INT
is_clean "$child" || fail "something is left in the second child"
end_child
no_residue followed "$pid"

start_parent alone
load malloc
ubpf attach "$pid" >/dev/null || fail "attach"
have_child
sleep 0.5
[ -z "$(count_of "$child")" ] || fail "a child was attached though nobody asked for it"
# What it inherited goes when the parent is detached.
ubpf detach "$pid" >/dev/null || fail "detach"
until_true is_clean "$child" || fail "something is left in the child of a process that was detached"
end_child
tell alone calls 10 >/dev/null
end_loader INT
no_residue alone "$pid"
