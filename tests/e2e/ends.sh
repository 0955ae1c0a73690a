#!/bin/bash
# While attached the target exits, is killed, or is stopped; the loader gets INT, TERM, HUP, KILL. Afterwards the
# survivors are as they were, and a new attach works.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

load malloc
no_processes() { ! ubpf list | grep -q '^  process '; }

start_victim leaves -t 4
ubpf attach "$last" >/dev/null || fail "attach (exit)"
echo quit >&"${victim_fd[leaves]}"
wait_end "$last"
until_true no_processes || fail "a process that exited stays attached"
until_true has_line "$loader_err" "process $last .*: process ended" || fail "its end is not told"

start_victim dies -t 4
ubpf attach "$last" >/dev/null || fail "attach (kill)"
kill -KILL "$last"
wait_end "$last"
until_true no_processes || fail "a process that was killed stays attached"

start_victim stops -t 4
pid=$last
tell stops calls 1 >/dev/null
snapshot stops "$pid"
kill -STOP "$pid"
is_stopped() { grep -q '^State:.*T' "/proc/$pid/status"; }
until_true is_stopped || fail "the process does not stop"
ubpf attach "$pid" >/dev/null || fail "attach a stopped process"
is_stopped || fail "attach continued a stopped process"
kill -CONT "$pid"
tell stops calls 10 >/dev/null
expect_count "$pid" 40
kill -STOP "$pid"
until_true is_stopped || fail "the process does not stop again"
ubpf detach "$pid" >/dev/null || fail "detach a stopped process"
is_stopped || fail "detach continued a stopped process"
kill -CONT "$pid"
tell stops calls 10 >/dev/null
no_residue stops "$pid"
end_loader INT

for signal in INT TERM HUP KILL; do
	load malloc
	ubpf attach "$pid" >/dev/null || fail "attach before $signal"
	tell stops calls 10 >/dev/null
	expect_count "$pid" 40
	end_loader $signal
	tell stops calls 10 >/dev/null
	no_residue stops "$pid"
done

# Under nohup it outlives the terminal.
start under-nohup nohup "$ubpf_run" "--$backend" load malloc
wait_line "$tmp/under-nohup.err" 'loaded on the'
kill -HUP "$last"
for attach in 1 2; do
	ubpf attach "$pid" >/dev/null || fail "attach $attach under nohup"
	tell stops calls 10 >/dev/null
	expect_count "$pid" $((40 * attach))
	ubpf detach "$pid" >/dev/null || fail "detach $attach under nohup"
done
kill -TERM "$last"
wait_end "$last"
no_residue stops "$pid"
