#!/bin/bash
# A process that executes one program after another is attached to whichever it runs: no attach fails of it, none
# harms it, and nothing is left.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

load malloc
for i in 1 2 3; do
	# The last of its programs says so, and waits.
	start "exec$i" "$build/tests/lib/ubpf-odd-victim" exec 60
	pid=$last
	sleep 0.0$i
	ubpf attach "$pid" >/dev/null || fail "attach $i"
	wait_line "$tmp/exec$i.out" '^ready$'
	ubpf detach "$pid" >/dev/null || fail "detach $i"
	is_clean() { ! grep -q 'ubpf-run' "/proc/$pid/maps"; }
	until_true is_clean || fail "something is left in process $i"
	has_ended "$pid" && fail "process $i died"
done
end_loader INT
