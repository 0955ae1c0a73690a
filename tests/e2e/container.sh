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
killer)
	start_victim target -t 2
	pid=$last
	expect_error 1 "kills for [a-z_]*\\(2\\), .*: allow it in the profile" ubpf run malloc -p "$pid"
	tell target calls 10 >/dev/null
	;;
esac
