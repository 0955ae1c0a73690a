#!/bin/bash
# Bad input gets one clear line and status 1 or 2, and no process is touched.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

start_victim target -t 2
pid=$last
tell target calls 1 >/dev/null
snapshot target "$pid"

# Usage.
expect_error 2 "did you mean 'attach'" ubpf atach 1
expect_error 2 "process id" ubpf attach
expect_error 2 "process id" ubpf attach x
expect_error 2 "not a process id" ubpf detach 12x
expect_error 2 "which program" ubpf run
expect_error 2 "no command after" ubpf run malloc --
expect_error 2 "not both" ubpf run malloc -p "$pid" -- true
expect_error 2 "exclude each other" "$ubpf_run" --kernel --userspace list
expect_error 2 "not a number of seconds" ubpf run malloc -d never -p "$pid"

# Programs.
expect_error 1 "no program 'mallocc', did you mean 'malloc'" ubpf run mallocc -p "$pid"
expect_error 1 "nope.bpf.o: No such file" ubpf run ./nope.bpf.o -p "$pid"
expect_error 1 "not a BPF object file" ubpf run /proc/self/exe -p "$pid"
expect_error 1 "not a BPF object file: not even ELF" ubpf run /etc/passwd -p "$pid"
expect_error 1 "not a regular file" ubpf run /etc -p "$pid"

# Processes.
sleep 0 &
gone=$!
wait $gone
expect_error 1 "no process $gone" ubpf run malloc -p $gone
expect_error 1 "cannot run .*no-such-command" ubpf run malloc -- /no-such-command
python=$(command -v perl || true)
if [ -n "$python" ]; then
	start zombie perl -e '$p = fork; exit 0 unless $p; $| = 1; print "$p\n"; sleep 60'
	wait_line "$tmp/zombie.out" '^[0-9]+$'
	zombie=$(cat "$tmp/zombie.out")
	is_zombie() { grep -q '^State:.*Z' "/proc/$zombie/status"; }
	until_true is_zombie || fail "no zombie to be had"
	expect_error 1 "process $zombie .* is a zombie" ubpf run malloc -p "$zombie"
fi
[ "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' /proc/2/status 2>/dev/null)" != 0 ] || ! [ -e /proc/2 ] || [ -s /proc/2/cmdline ] ||
	expect_error 1 "process 2 .* is a kernel thread" ubpf run malloc -p 2

load malloc
expect_error 1 "process $loader is ubpf-run itself" ubpf attach "$loader"
thread=$(for task in /proc/"$pid"/task/*; do echo "${task##*/}"; done | grep -vx "$pid" | head -n 1)
expect_error 1 "$thread is a thread of process $pid" ubpf attach "$thread"
end_loader INT

if [ "$backend" = userspace ]; then
	# Traced by somebody else: strace-like, by our own `run`, which stops what it starts under ptrace, is too
	# quick; perl has no ptrace. gdb or strace will do, where there is one.
	tracer=$(command -v strace || command -v gdb || true)
	if [ -n "$tracer" ]; then
		case $tracer in
		*strace) start tracer strace -qq -o /dev/null -p "$pid" ;;
		*) start tracer gdb -q -nx -batch -p "$pid" -ex 'shell sleep 60' ;;
		esac
		is_traced() { ! grep -q '^TracerPid:.0$' "/proc/$pid/status"; }
		if until_true is_traced; then
			expect_error 1 "is traced already, by process" ubpf run malloc -p "$pid"
			kill -INT "$last"
			wait_end "$last"
		fi
	fi
	if [ "$(id -u)" != 0 ] && [ -e /proc/1 ]; then
		expect_error 1 "process 1 .*belongs to user root" ubpf run malloc -p 1
	fi
fi
tell target calls 1 >/dev/null
no_residue target "$pid"
