#!/bin/bash
# The daemon is stopped while a session attaches: others on the same file are not held up, the session can be interrupted
# and says why, and once the daemon goes on nothing is left.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || skip "no python3"
start_victim target -t 2
pid=$last
tell target calls 1 >/dev/null
snapshot target "$pid"
libc=$(awk '/\/libc[.-].*so/ { print $6; exit }' "/proc/$pid/maps")
[ -r "$libc" ] || skip "the victim has no libc of its own"
load malloc -i 3600 # or it might wait for a count
daemon_pid() { # of our run directory
	local proc
	for proc in /proc/[0-9]*; do
		[ "$(cat "$proc/comm" 2>/dev/null)" = ubpf-daemon ] &&
			grep -qzF "UBPF_RUN_DIR=$UBPF_RUN_DIR" "$proc/environ" 2>/dev/null && echo "${proc#/proc/}"
	done
}
daemon=$(daemon_pid)
[ -n "$daemon" ] || fail "no daemon"
started+=("$daemon") # which a failure must not leave stopped
# Who asks is known to the session before, which asks the daemon about each that comes.
start_listener attaching python3 -c "
import socket, sys
session = socket.socket(socket.AF_UNIX)
session.connect('$UBPF_RUN_DIR/session-$loader')
session.send(b'{\"cmd\":\"list\"}\\n')
session.recv(65536)
print('ready', flush=True)
sys.stdin.readline()
session.send(b'{\"cmd\":\"attach\",\"pid\":$pid}\\n')
print(session.recv(65536))"
attaching=$last
kill -STOP "$daemon"
echo >&"$to"
waits() { [ -n "$(flock -n -x "$libc" true || echo held)" ]; }
free() { flock -n -x "$libc" true; }
# It holds the lock for a second; on a busy machine that may be over before we look.
for _ in $(seq 300); do waits && break; done
until_true free || fail "the lock over $libc is held while the daemon does not answer"
kill -INT "$loader"
wait_end "$loader"
has_line "$loader_err" "interrupted: the userspace kernel's daemon has not answered" || fail "does not say why"
wait_end "$attaching"

# Who comes now is told at once, and by the same line whatever he wants.
is_stopped() { grep -q '^State:.T' "/proc/$1/status"; }
until_true is_stopped "$daemon" || fail "the daemon is not stopped"
expect_error 1 "daemon is stopped: continue it .kill -CONT $daemon" ubpf run malloc -p "$pid"
for command in list "attach $pid"; do
	# shellcheck disable=SC2086 # words
	expect_error 1 "daemon is stopped: continue it" ubpf $command
done
expect_error 126 "daemon is stopped: continue it .kill -CONT $daemon" "$ubpf_run" exec -- /bin/true
kill -CONT "$daemon"
wait_end "$daemon"
tell target calls 10 >/dev/null
no_residue target "$pid"
ubpf run malloc -d 0.1 -p "$pid" >/dev/null || fail "a new session"
no_residue target "$pid"

# The same where somebody is stopped who holds the run directory.
start holder flock -F "$UBPF_RUN_DIR/lock" sleep 1000
holder=$last
is_locked() { ! flock -n "$UBPF_RUN_DIR/lock" true; }
until_true is_locked || fail "nobody holds the lock"
kill -STOP "$holder"
until_true is_stopped "$holder" || fail "the holder is not stopped"
expect_error 1 "process $holder, which is stopped, holds $UBPF_RUN_DIR/lock" ubpf run malloc -p "$pid"
