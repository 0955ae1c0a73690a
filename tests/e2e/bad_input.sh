#!/bin/bash
# Bad input gets one clear line and status 1 or 2, and no process is touched.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

odd=$build/tests/lib/ubpf-odd-victim
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
expect_error 1 "no program '$pid'; if that is a process id" ubpf run "$pid"
echo "int f;" >"$tmp/source.bpf.c"
expect_error 1 "source.bpf.c is not a BPF object file but source: compile it" ubpf run "$tmp/source.bpf.c" -p "$pid"

expect_error 1 "its map 'odd_map' is of type 9999, which this backend does not support" \
	ubpf run "$build/tests/e2e/bad_map.bpf.o" -p "$pid"
expect_error 1 "of section 'xdp': only uprobe, uretprobe and usdt" ubpf run "$build/tests/e2e/bad_program.bpf.o" -p "$pid"
expect_error 1 "use helper bpf_get_socket_cookie" ubpf run "$build/tests/e2e/bad_helper.bpf.o" -p "$pid"
expect_error 1 "malloc says itself where it goes" ubpf run malloc libc:free -p "$pid"
expect_error 1 "'malloc' is no argument.*libc:malloc" ubpf run funclatency malloc -p "$pid"
expect_error 1 "'$pid' is no argument.*after -p" ubpf run malloc "$pid"
expect_error 1 "no constant 'limit'" ubpf run funclatency libc:malloc limit=1 -p "$pid"

# Places.
expect_error 1 "no function 'mallocc' in .*libc.*, did you mean 'malloc'" ubpf run funclatency libc:mallocc -p "$pid"
expect_error 1 "maps no 'lbc'.* did you mean 'libc'" ubpf run funclatency lbc:malloc -p "$pid"
expect_error 1 "cannot read /nope.so.*No such file" ubpf run funclatency /nope.so:malloc -p "$pid"
expect_error 1 "not an ELF file" ubpf run funclatency /etc/passwd:malloc -p "$pid"

# Processes.
sleep 0 &
gone=$!
wait $gone
expect_error 1 "no process $gone" ubpf run malloc -p $gone
expect_error 1 "cannot run .*no-such-command" ubpf run malloc -- /no-such-command
expect_error 1 "cannot run no-such-command: command not found" ubpf run malloc -- no-such-command
start zombie "$odd" zombie
wait_line "$tmp/zombie.out" '^zombie [0-9]+$'
zombie=$(sed 's/zombie //' "$tmp/zombie.out")
expect_error 1 "process $zombie .* is a zombie" ubpf run malloc -p "$zombie"
# PF_KTHREAD; a container may have a process of its own there.
if [ -e /proc/2/stat ] && [ $(($(cut -d' ' -f9 /proc/2/stat) & 0x200000)) != 0 ]; then
	expect_error 1 "process 2 .* is a kernel thread" ubpf run malloc -p 2
fi
start bits32 "$build/tests/lib/ubpf-32-bit"
# A kernel may run no such programs.
is_ready_or_gone() { has_ended "$last" || has_line "$tmp/bits32.out" '^ready$'; }
until_true is_ready_or_gone || fail "the 32-bit process says nothing"
if ! has_ended "$last"; then
	expect_error 1 "process $last .* is a 32-bit process" ubpf run malloc -p "$last"
	kill -0 "$last" || fail "the 32-bit process has ended"
fi

# What Valgrind has in its processes; there a jump to what it does not know ends the program.
if [ "$backend" = userspace ]; then
	libm=$(ldd "$victim" | sed -nE 's,.* (/.*/)libc\.so.*,\1libm.so.6,p')
	cp "$libm" "$tmp/vgpreload_core-amd64-linux.so"
	LD_PRELOAD=$tmp/vgpreload_core-amd64-linux.so start_victim translated -t 1
	expect_error 1 "process $last runs under Valgrind, .*: probe it without" ubpf run malloc -p "$last"
fi

load malloc
expect_error 1 "process $loader is ubpf-run itself" ubpf attach "$loader"
thread=$(for task in /proc/"$pid"/task/*; do echo "${task##*/}"; done | grep -vx "$pid" | head -n 1)
expect_error 1 "$thread is a thread of process $pid" ubpf attach "$thread"
end_loader INT

if [ "$backend" = userspace ]; then
	start tracer "$build/tests/lib/ubpf-tracer" "$pid"
	wait_line "$tmp/tracer.out" '^tracing$'
	expect_error 1 "process $pid .*is traced already, by process $last \(ubpf-tracer\)" ubpf run malloc -p "$pid"
	grep -q "^TracerPid:.$last$" "/proc/$pid/status" || fail "the tracer has lost its process"
	kill -KILL "$last"
	wait_end "$last"
	if [ "$(id -u)" != 0 ]; then
		start sandboxed "$odd" sandboxed
		wait_line "$tmp/sandboxed.out" '^ready$'
		expect_error 1 "process $last .*seccomp.*root" ubpf run malloc -p "$last"
		kill -0 "$last" || fail "the sandboxed process has ended"
	fi
	if [ "$(id -u)" != 0 ] && [ -e /proc/1 ]; then
		expect_error 1 "process 1 .*belongs to user root" ubpf run malloc -p 1
	fi
fi
tell target calls 1 >/dev/null
no_residue target "$pid"
