# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034 # used by the scripts that read this
# What the end-to-end scripts share. Every wait has an end, every process that was started is ended, and
# the run directory, thus the daemon too, is the test's own.
set -u
# What a script starts in the background ignores SIGINT, and so would all that is started here: no shell can change that.
ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' "/proc/$$/status")
((0x${ignored:-0} & 2)) && exec env --default-signal=INT "$0" "$@"
# As most people have it: other users shall run what is copied for them.
umask 022
export LC_ALL=C

build=${UBPF_BUILD:?is the build directory}
ubpf_run=$build/loader/ubpf-run
victim=$build/tests/lib/ubpf-victim
residue=$build/tests/lib/residue
backend=${1:-userspace}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/ubpf-e2e.XXXXXX")
chmod 755 "$tmp"
export UBPF_RUN_DIR=$tmp/run
mkdir -m 700 "$UBPF_RUN_DIR"
started=()

cleanup() {
	# CONT for those that a test stopped; the shell's remarks on killed jobs go nowhere.
	for pid in "${started[@]}"; do kill -KILL "$pid"; done 2>/dev/null
	for pid in "${started[@]}"; do wait "$pid"; done 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
	echo "FAILED: $*" >&2
	for file in "$tmp"/*.out "$tmp"/*.err; do
		[ -s "$file" ] && { echo "-- ${file##*/}"; tail -n 20 "$file"; } >&2
	done
	exit 1
}
skip() {
	echo "skip: $*"
	exit 77
}

# Who should read what is written here has ended.
trap 'fail "nobody reads any more"' PIPE

if [ "$backend" = kernel ]; then
	"$ubpf_run" doctor 2>/dev/null | grep -q '^kernel backend: works' ||
		skip "the kernel does not let this user load programs"
fi

# A command of ours, which ends, on this backend.
ubpf() { timeout -k 5 60 "$ubpf_run" "--$backend" "$@"; }

# until_true COMMAND...: for up to 30 s.
until_true() {
	for _ in $(seq 600); do
		"$@" && return 0
		sleep 0.05
	done
	return 1
}
has_line() { grep -qE -- "$2" "$1" 2>/dev/null; }
wait_line() { until_true has_line "$1" "$2" || fail "no line '$2' in ${1##*/}"; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
# A zombie of ours has ended too.
has_ended() { [ ! -e "/proc/$1" ] || grep -q '^State:.*[ZX]' "/proc/$1/status" 2>/dev/null; }
wait_end() { until_true has_ended "$1" || fail "process $1 does not end"; }

# start NAME COMMAND...: in the background, output in NAME.out and NAME.err; its pid in $last.
start() {
	local name=$1
	shift
	# Before the job is: nobody shall read the lines of the last one of that name.
	: >"$tmp/$name.out"
	: >"$tmp/$name.err"
	"$@" >"$tmp/$name.out" 2>"$tmp/$name.err" &
	last=$!
	started+=("$last")
}

# start_listener NAME COMMAND...: one that says "ready" and does what its input says, which descriptor $to writes to; $last
# is its pid.
start_listener() {
	local name=$1
	shift
	mkfifo "$tmp/$name.in"
	exec {to}<>"$tmp/$name.in"
	: >"$tmp/$name.out"
	"$@" <"$tmp/$name.in" >"$tmp/$name.out" 2>"$tmp/$name.err" &
	last=$!
	started+=("$last")
	wait_line "$tmp/$name.out" '^ready'
}

# start_victim NAME ARGS...: interactive; $last is its pid. tell NAME COMMAND: prints the answer.
declare -A victim_fd
start_victim() {
	start_listener "$1" "${victim_program:-$victim}" -i -q "${@:2}"
	victim_fd[$1]=$to
}
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
tell() {
	local name=$1 before
	shift
	before=$(wc -l <"$tmp/$name.out")
	echo "$*" >&"${victim_fd[$name]}"
	until_true has_lines "$tmp/$name.out" $((before + 1)) || fail "$name does not answer '$*'"
	tail -n 1 "$tmp/$name.out"
}

# load [PROGRAM [OPTION...]]: starts a session; $loader is its pid.
load() {
	start "load-${1:-malloc}" "$ubpf_run" "--$backend" -v load "${@:2}" "${1:-malloc}"
	loader=$last
	loader_out=$tmp/load-${1:-malloc}.out
	loader_err=$tmp/load-${1:-malloc}.err
	wait_line "$loader_err" 'loaded on the'
}
end_loader() { # SIGNAL
	kill "-$1" "$loader"
	wait_end "$loader"
}

# What `list` says was counted for a process, or nothing.
count_of() {
	ubpf list | sed -nE "s/^  process $1 .*count ([0-9]+)$/\1/p" | head -n 1
}
expect_count() { # PID N
	local count
	count=$(count_of "$1")
	[ "$count" = "$2" ] && return 0
	ubpf list >&2
	ubpf map dump malloc_calls >&2
	fail "process $1: ${count:-no} calls counted, $2 expected"
}

# snapshot NAME PID; no_residue NAME PID. Linux itself may keep a private page of text.
snapshot() { "$residue" snapshot "$2" >"$tmp/$1.before" || fail "cannot look at process $2"; }
is_as_before() {
	local status
	"$residue" -w 0 diff "$tmp/$1.before" "$2" >"$tmp/$1.diff"
	status=$?
	[ "$status:$backend" = 1:kernel ] || return $status
	! grep -qvE '^[-+] text .* 0 bytes differ' "$tmp/$1.diff"
}
no_residue() {
	until_true is_as_before "$1" "$2" && return 0
	cat "$tmp/$1.diff" >&2
	fail "process $2 is not what it was"
}
expect_status() { # EXPECTED COMMAND...
	local expected=$1 status
	shift
	"$@" >"$tmp/command.out" 2>"$tmp/command.err"
	status=$?
	[ $status = "$expected" ] || fail "'$*' ended with $status, $expected expected"
}
# One line on stderr that matches.
expect_error() { # STATUS REGEX COMMAND...
	local status=$1 regex=$2
	shift 2
	expect_status "$status" "$@"
	has_lines "$tmp/command.err" 1 || fail "'$*' says nothing"
	[ "$(grep -vcE 'Try |backend: ' "$tmp/command.err")" = 1 ] || fail "'$*' says more than one line"
	grep -qE -- "$regex" "$tmp/command.err" || fail "'$*' does not say '$regex'"
}
