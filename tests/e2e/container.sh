#!/bin/bash
# In a container every process is under its engine's seccomp filter. That one, which we are under too, keeps nobody from being
# probed; a filter of a process's own does, and one that would kill for what we do in a process.
# container.sh userspace: the whole story; container.sh userspace CASE: what runs inside.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
container=$build/tests/lib/ubpf-container
odd=$build/tests/lib/ubpf-odd-victim

case ${2:-} in
"")
	"$container" true || skip "no container can be made here (root makes one)"
	inside() { "$container" "${@:2}" "$0" userspace "$1" || fail "inside: $*"; }
	inside own-filter
	inside beside
	! command -v bpftrace >/dev/null || inside tool
	# Who cleans up outside does not take a session inside, whose daemon has another number here, for a dead one's.
	mkfifo "$tmp/go"
	start session "$container" "$0" userspace session "$tmp/go"
	session=$last
	wait_line "$tmp/session.out" '^attached'
	inner=$(sed -n 's/^attached //p' "$tmp/session.out")
	pid=
	for status in /proc/[0-9]*/status; do
		grep -q '^Name:.ubpf-victim$' "$status" 2>/dev/null && grep -qE "^NSpid:.*[[:space:]]$inner$" "$status" &&
			pid=${status//[!0-9]/}
	done
	[ -n "$pid" ] || fail "where is process $inner of the container?"
	expect_error 1 "somebody else patched it|belongs to a running ubpf-run" ubpf run malloc -d 0.1 -p "$pid"
	start tool "$ubpf_run" exec -- sleep 1000
	of_ours() { # NAME: the processes of that name that work for our run directory
		local comm
		for comm in /proc/[0-9]*/comm; do
			[ "$(cat "$comm" 2>/dev/null)" = "$1" ] &&
				grep -qzxF "UBPF_RUN_DIR=$UBPF_RUN_DIR" "${comm%comm}environ" 2>/dev/null && echo "${comm//[!0-9]/}"
		done
	}
	kill_daemon() {
		local daemon
		daemon=$(of_ours ubpf-daemon)
		[ -n "$daemon" ] && kill -KILL "$daemon"
	}
	cleaned_up() { [ -z "$(of_ours ubpf-daemon)$(of_ours ubpf-guard)" ]; }
	until_true kill_daemon || fail "no daemon"
	until_true cleaned_up || fail "the guard does not end"
	echo >"$tmp/go"
	wait "$session" || fail "inside: session"
	inside killer -k 311 # SYS_process_vm_writev, which in targets alone is called
	exit 0
	;;
own-filter)
	start sandboxed "$odd" sandboxed
	wait_line "$tmp/sandboxed.out" .
	expect_error 1 "is under a seccomp filter of its own" ubpf run malloc -p "$last"
	! has_ended "$last" || fail "the sandboxed process did not survive"
	;;
beside) # of processes with and without a filter of their own, those without are reached
	start sandboxed "$odd" sandboxed
	sandboxed=$last
	start_victim target -t 2
	pid=$last
	snapshot target "$pid"
	start everybody "$ubpf_run" --userspace -v run malloc
	wait_line "$tmp/everybody.err" "attached malloc to .*"
	is_attached() { ubpf list | grep -q "^  process $pid "; }
	until_true is_attached || fail "not attached"
	tell target calls 100 >/dev/null
	until_true has_line "$tmp/everybody.out" "pid=$pid .*malloc calls: 200$" || fail "not counted"
	kill -INT "$last"
	wait_end "$last"
	no_residue target "$pid"
	! has_ended "$sandboxed" || fail "the sandboxed process did not survive"
	;;
tool) # with the preloaded library: no listener gets to see what the engine's filter answers itself
	start_victim target -t 1
	start tool "$ubpf_run" exec -p "$last" -- bpftrace -e \
		'uprobe:libc:malloc { @calls = count(); } interval:s:1 { print(@calls); }'
	tool=$last
	until_true has_line "$tmp/tool.out" '^@calls: ' || fail "the tool prints nothing: $(cat "$tmp/tool.err")"
	tell target calls 1000 >/dev/null
	until_true has_line "$tmp/tool.out" '^@calls: 1[0-9]{3}$' || fail "the tool does not count"
	kill -INT "$tool"
	wait_end "$tool"
	;;
session)
	start_victim target -t 2
	pid=$last
	load malloc
	ubpf attach "$pid" >/dev/null || fail "attach"
	tell target calls 10 >/dev/null
	expect_count "$pid" 20
	echo "attached $pid"
	read -r _ <"$3"
	tell target calls 10 >/dev/null
	expect_count "$pid" 40
	;;
killer)
	start_victim target -t 2
	pid=$last
	expect_error 1 "kills for [a-z_]*\\(2\\), .*: allow it in the profile" ubpf run malloc -p "$pid"
	tell target calls 10 >/dev/null
	;;
esac
