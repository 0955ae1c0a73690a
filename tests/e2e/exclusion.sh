#!/bin/bash
# The backends exclude each other, site by site: whoever comes second is refused with one clear line, whoever is
# there goes on counting, and the process never notices.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
"$ubpf_run" doctor 2>/dev/null | grep -q '^kernel backend: works' ||
	skip "the kernel does not let this user load programs"

start_victim target -t 4
pid=$last
start_victim other -t 1
other=$last
tell target calls 1 >/dev/null
snapshot target "$pid"
as() { # BACKEND COMMAND...
	local which=$1
	shift
	timeout -k 5 60 "$ubpf_run" "--$which" "$@"
}
calls() { # of the one session there is
	tell target calls 10 >/dev/null
	as "$1" list | sed -nE "s/^  process $pid .*count ([0-9]+)$/\1/p" | head -n 1
}
session_on() {
	backend=$1
	load malloc
	as "$1" attach "$pid" >/dev/null || fail "attach on the $1 backend"
	[ "$(calls "$1")" = 40 ] || fail "$1: not 40 calls counted"
}
after() {
	[ "$(calls "$1")" = 80 ] || fail "$1: does not count on after the other was refused"
	end_loader INT
	tell target calls 10 >/dev/null
	no_residue target "$pid"
}

session_on userspace
expect_error 1 "userspace backend holds .*malloc in process $pid.*ubpf-run detach $pid" as kernel run malloc -p "$pid"
# Of all processes the first that is held is named.
expect_error 1 "userspace backend holds .*malloc in process [0-9]+.*ubpf-run detach [0-9]+" as kernel run malloc
# Another process may have it.
expect_status 0 as kernel run malloc -d 0.1 -p "$other"
after userspace

session_on kernel
expect_error 1 "kernel uprobe" as userspace run malloc -p "$pid"
after kernel

# Once the one has gone the other may come.
session_on userspace
end_loader INT
tell target calls 10 >/dev/null
backend=userspace
no_residue target "$pid"

# Both at once: one of them gets it, or one after the other; never both.
contend() { # BACKEND: prints how often it got the process
	local got=0
	for _ in 1 2 3 4 5 6; do
		as "$1" run malloc -d 0.05 -p "$pid" >/dev/null 2>"$tmp/contend-$1.err" && got=$((got + 1))
	done
	echo $got
}
start contend-kernel contend kernel
kernel_job=$last
start contend-userspace contend userspace
tell target calls 20000 >/dev/null
wait "$kernel_job" "$last"
[ $(($(cat "$tmp/contend-kernel.out") + $(cat "$tmp/contend-userspace.out"))) -gt 0 ] ||
	fail "neither backend ever got the process"
tell target calls 10 >/dev/null
backend=kernel
no_residue target "$pid"
kill -0 "$pid" || fail "the victim has ended"
