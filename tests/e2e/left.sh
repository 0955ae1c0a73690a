#!/bin/bash
# A detach that can't take everything out says so and why, and finishes later; one that can says "clean".
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
tracer=$(command -v strace || command -v gdb) || skip "neither strace nor gdb is here to hold the process"

start_victim target -t 2
pid=$last
tell target calls 1 >/dev/null
snapshot target "$pid"
load malloc
ubpf attach "$pid" >/dev/null || fail "attach"
expect_status 0 ubpf detach "$pid"
has_line "$tmp/command.out" "from process $pid .*: clean" || fail "not clean"
no_residue target "$pid"

ubpf attach "$pid" >/dev/null || fail "attach again"
case $tracer in
*strace) start tracer strace -f -qq -o /dev/null -p "$pid" ;;
*) start tracer gdb -q -nx -batch -p "$pid" -ex 'shell sleep 60' ;;
esac
is_traced() { ! grep -q '^TracerPid:.0$' "/proc/$pid/status"; }
until_true is_traced || fail "$tracer does not attach"
expect_status 0 ubpf detach "$pid"
has_line "$tmp/command.out" "from process $pid .*: mapping left because .*traced" ||
	fail "does not say that it is traced"
kill -KILL "$last"
wait_end "$last"
kill -CONT "$pid"
until_true is_as_before target "$pid" || fail "is not taken out later"
tell target calls 10 >/dev/null
end_loader INT
no_residue target "$pid"
