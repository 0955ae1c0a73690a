#!/bin/bash
# SPDX-License-Identifier: MIT
# Unmodified tools under `ubpf-run exec`, as an ordinary user, beside the same tool on the kernel: same
# workload, same output.
#
#   tools.sh NAME     UBPF_BUILD, UBPF_SOURCE: where the build and the source are. preload_NAME: with
#                     the preloaded library in the place of the seccomp listener
set -u
# What a script starts in the background ignores SIGINT, and so would all that is started here: no shell can change that.
ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' "/proc/$$/status")
((0x${ignored:-0} & 2)) && exec env --default-signal=INT "$0" "$@"
umask 022 # others shall run what is copied for them
export LC_ALL=C

name=${1#preload_}
exec_options=()
[ "$name" = "$1" ] || exec_options=(--preload)
user=12345
dir=$(mktemp -d "${TMPDIR:-/tmp}/ubpf-tools-XXXXXX") || exit 1
pids=()

skip() { echo "skip: $*"; exit 77; }
fail() {
	echo "FAILED: $*"
	for file in "$dir"/*.out "$dir"/*.err "$dir"/run/*.log; do
		[ -s "$file" ] && echo "--- $file" && head -50 "$file"
	done
	exit 1
}

clean_up() {
	for pid in "${pids[@]}"; do
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}
trap clean_up EXIT
# Who should read what is written here has ended.
trap 'fail "nobody reads any more"' PIPE

# until_true COMMAND...: waits, at most a minute
until_true() {
	for _ in $(seq 1200); do
		"$@" && return 0
		sleep 0.05
	done
	return 1
}

[ "$(id -u)" = 0 ] || skip "needs root, to compare with the kernel and to become another user"
command -v setpriv >/dev/null || skip "no setpriv (util-linux)"
ubpf_run=$UBPF_BUILD/loader/ubpf-run
[ -x "$ubpf_run" ] || skip "no ubpf-run in this build"

# The build may lie where an ordinary user can't go.
cp "$ubpf_run" "$UBPF_BUILD/loader/libubpf-preload.so" \
	"$UBPF_BUILD/tests/daemon/tools/tool_victim" "$UBPF_BUILD/tests/daemon/tools/tool_self" "$dir"
chmod -R a+rX "$dir"
ubpf_run=$dir/ubpf-run
victim=$dir/tool_victim
mkdir "$dir/run" "$dir/home"
chmod 700 "$dir/run" "$dir/home"
chown "$user" "$dir/run" "$dir/home"
export UBPF_RUN_DIR=$dir/run

as_user() {
	exec setpriv --reuid=$user --regid=$user --clear-groups --bounding-set=-all \
		--inh-caps=-all env HOME="$dir/home" "$@"
}

# start_victim CALLS: victim_pid, and go() has it make its calls and waits for them
start_victim() {
	rm -f "$dir/victim.in"
	mkfifo "$dir/victim.in"
	: >"$dir/victim.out"
	(as_user "$victim" "$1" <"$dir/victim.in" >"$dir/victim.out") &
	victim_pid=$!
	pids+=("$victim_pid")
	exec 7>"$dir/victim.in"
	until_true grep -q ready "$dir/victim.out" || fail "the victim does not start"
}

make_calls() {
	local before
	before=$(grep -c "done" "$dir/victim.out")
	echo go >&7
	until_true eval '[ "$(grep -c done "$dir/victim.out")" -gt '"$before"' ]' ||
		fail "the victim hangs"
}

end_victim() {
	exec 7>&-
	wait "$victim_pid" || fail "the victim died: $?"
}

# on BACKEND COMMAND...: runs it to its end, its output in $dir/on-BACKEND.out
on() {
	local backend=$1
	shift
	if [ "$backend" = userspace ]; then
		(as_user timeout 100 "$ubpf_run" exec "${exec_options[@]}" -- "$@")
	else
		timeout 100 "$@"
	fi >"$dir/on-$backend.out" 2>&1 || fail "$backend: $*: exit status $?"
}

# tool BACKEND COMMAND...: tool_pid; its output in $dir/tool-BACKEND.{out,err}
tool() {
	local backend=$1
	shift
	# Its own input, open for as long as we want; a job of its own, so that SIGINT is not ignored.
	rm -f "$dir/tool.in"
	mkfifo "$dir/tool.in"
	set -m
	if [ "$backend" = userspace ]; then
		(as_user "$ubpf_run" exec "${exec_options[@]}" -p "$victim_pid" -- "$@") <"$dir/tool.in" \
			>"$dir/tool-$backend.out" 2>"$dir/tool-$backend.err" &
	else
		"$@" <"$dir/tool.in" >"$dir/tool-$backend.out" 2>"$dir/tool-$backend.err" &
	fi
	tool_pid=$!
	set +m
	pids+=("$tool_pid")
	exec 8>"$dir/tool.in"
}

# tool_says BACKEND REGEX
tool_says() {
	until_true grep -q "$2" "$dir/tool-$1.out" || fail "$1: the tool does not get ready"
}

# bpftrace 0.17 forgets a SIGINT that does not interrupt its epoll_wait: ask again until it has ended. Not at once: it
# dies of a second one while it looks for symbols.
end_tool() {
	local i=0
	until_true ask_to_end || fail "the tool does not end"
	wait "$tool_pid"
	tool_status=$?
	exec 8>&-
}

ask_to_end() {
	ended "$tool_pid" && return 0
	[ $((i++ % 40)) = 0 ] && kill -INT "$tool_pid" 2>/dev/null
	return 1
}

# ended PID: it is a zombie, or was waited for
ended() {
	! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null
}

# Nothing of ours in the victim any more.
clean_victim() {
	until_true eval '! grep -q ubpf-run /proc/'"$victim_pid"'/maps' ||
		fail "something is left in the victim"
}

same() {
	cmp -s "$dir/kernel.txt" "$dir/userspace.txt" && [ -s "$dir/kernel.txt" ] && return 0
	diff "$dir/kernel.txt" "$dir/userspace.txt"
	fail "kernel (<) and userspace (>) differ"
}

# --- bpftrace -------------------------------------------------------------------------------------

# compare_bpftrace PROGRAM [LINES]: what it prints, sorted (maps are printed in any order). LINES: how many
# to wait for before it is ended, as it leaves unread what came just before.
compare_bpftrace() {
	local program="BEGIN { printf(\"ready\\n\"); } $1" backend
	command -v bpftrace >/dev/null || skip "no bpftrace"
	for backend in kernel userspace; do
		start_victim 1000
		tool $backend bpftrace -B line -p "$victim_pid" -e "$program"
		tool_says $backend ready
		make_calls
		until_true eval '[ "$(wc -l <"'"$dir/tool-$backend.out"'")" -ge '"${2:-0}"' ]' ||
			fail "$backend: lines are missing"
		end_tool
		[ $tool_status = 0 ] || fail "$backend: exit status $tool_status"
		[ $backend = userspace ] && clean_victim
		end_victim
		grep -v '^Attaching\|^ready\|^$' "$dir/tool-$backend.out" | sort >"$dir/$backend.txt"
	done
	${3:-same}
}

# The kernel's stacks lack the caller when the probe is at a function's entry, where the frame does not
# stand yet, and end where code has no frame pointers: all of its lines must be there, and the others are.
same_but_caller() {
	local more
	[ -s "$dir/kernel.txt" ] || fail "the kernel shows nothing"
	# An address without a symbol differs from process to process.
	for file in "$dir/kernel.txt" "$dir/userspace.txt"; do
		sed -E 's/0x[0-9a-f]+/address/' "$file" | sort -o "$file"
	done
	comm -23 "$dir/kernel.txt" "$dir/userspace.txt" >"$dir/missing.txt"
	more=$(comm -13 "$dir/kernel.txt" "$dir/userspace.txt" | grep -cE '^ *(outer|__libc_start_main|_start)\+[0-9]+$')
	[ ! -s "$dir/missing.txt" ] && [ "$more" -ge 2 ] && return 0
	diff "$dir/kernel.txt" "$dir/userspace.txt"
	fail "stacks differ"
}

test_bpftrace_count() { compare_bpftrace "uprobe:$victim:work { @ = count(); }"; }
test_bpftrace_str() { compare_bpftrace "uprobe:$victim:work { @[str(arg0), arg1] = count(); }"; }
test_bpftrace_hist() { compare_bpftrace "uprobe:$victim:outer { @ = hist(arg1); }"; }
test_bpftrace_uretprobe() { compare_bpftrace "uretprobe:$victim:outer { @ = lhist(retval, 0, 20, 1); }"; }
test_bpftrace_ustack() {
	compare_bpftrace "uprobe:$victim:work { @[ustack] = count(); }" 0 same_but_caller
}
test_bpftrace_usdt() {
	compare_bpftrace "usdt:$victim:victim:step { @[str(arg0), arg1] = count(); }"
}
test_bpftrace_printf() {
	compare_bpftrace "uprobe:$victim:work { printf(\"%s %d %s\\n\", str(arg0), arg1, comm); }
		END { printf(\"end\\n\"); }" 1000
}

# Time goes by: how often it fires differs, what comes of it does not.
test_bpftrace_interval() {
	local backend
	command -v bpftrace >/dev/null || skip "no bpftrace"
	for backend in kernel userspace; do
		start_victim 1
		tool $backend bpftrace -B line -e 'interval:s:1 { printf("tick\n"); @++; }
			interval:ms:500 { if (@ > 2) { exit(); } } END { printf("end\n"); clear(@); }'
		wait "$tool_pid" || fail "$backend: exit status $?"
		end_victim
		[ "$(grep -c tick "$dir/tool-$backend.out")" -ge 3 ] || fail "$backend: no ticks"
		grep -v '^$' "$dir/tool-$backend.out" | uniq >"$dir/$backend.txt"
	done
	same
}

# A sampling timer on every CPU; a CPU that idles may be left out by Linux, so none does of those that are ours.
test_bpftrace_profile() {
	local backend cpu cpus every=0 sampled
	command -v bpftrace >/dev/null || skip "no bpftrace"
	cpus=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
	for cpu in $cpus; do
		every=$((every | 1 << cpu))
		taskset -c "$cpu" nice sh -c 'while :; do :; done' &
		pids+=($!)
	done
	for backend in kernel userspace; do
		start_victim 1
		# Until every CPU was seen, which may take a busy one a while, but at most 30 s.
		tool $backend bpftrace -B line -e 'profile:hz:50 { @seen[cpu] = count(); @cpus = @cpus | (1 << cpu); }
			interval:ms:200 { @rounds++; if ((@cpus & '$every') == '$every' || @rounds > 150) { exit(); } }
			END { clear(@cpus); clear(@rounds); }'
		wait "$tool_pid" || fail "$backend: exit status $?"
		end_victim
		sampled=$(sed -n 's/^@seen\[\([0-9]*\)\]: [1-9][0-9]*$/\1/p' "$dir/tool-$backend.out")
		for cpu in $cpus; do
			grep -qx "$cpu" <<<"$sampled" || fail "$backend: CPU $cpu was not sampled"
		done
	done
}

# --- libbpf-tools ---------------------------------------------------------------------------------

# The victim's nap takes 70 ms and somewhat more: the same rows up to where it can begin, the same number of
# calls from there on.
test_funclatency() {
	local backend
	command -v funclatency >/dev/null || skip "no funclatency (libbpf-tools)"
	for backend in kernel userspace; do
		start_victim 1
		tool $backend stdbuf -oL funclatency -m -p "$victim_pid" ":nap"
		tool_says $backend Tracing
		make_calls
		make_calls
		end_tool
		[ $tool_status = 0 ] || fail "$backend: exit status $tool_status"
		[ $backend = userspace ] && clean_victim
		end_victim
		sed -n '/msec/,$p' "$dir/tool-$backend.out" | awk '
			/->/ && $1 < 64 { print; next }
			/->/ { n += $5 }
			/msec/ { print }
			END { print "64 and more:", n }' >"$dir/$backend.txt"
	done
	same
	grep -qx '64 and more: 6' "$dir/kernel.txt" || fail "not 6 calls"
}

test_gethostlatency() {
	local backend
	command -v gethostlatency >/dev/null || skip "no gethostlatency (libbpf-tools)"
	for backend in kernel userspace; do
		start_victim 1
		tool $backend stdbuf -oL gethostlatency -p "$victim_pid"
		tool_says $backend LATms
		make_calls
		until_true eval '[ "$(grep -c 127.0.0.1 "'"$dir/tool-$backend.out"'")" -ge 5 ]' ||
			fail "$backend: events are missing"
		end_tool
		[ $backend = userspace ] && clean_victim
		end_victim
		awk '/127/ { print $3, $NF }' "$dir/tool-$backend.out" >"$dir/$backend.txt"
	done
	same
}

# Reaches a shell that is started after it, by the census.
test_bashreadline() {
	local backend
	command -v bashreadline >/dev/null || skip "no bashreadline (libbpf-tools)"
	command -v script >/dev/null || skip "no script (util-linux)"
	for backend in kernel userspace; do
		start_victim 1
		rm -f "$dir/shell.in"
		mkfifo "$dir/shell.in"
		set -m
		if [ $backend = userspace ]; then
			(as_user "$ubpf_run" exec -- stdbuf -oL bashreadline) \
				>"$dir/tool-$backend.out" 2>"$dir/tool-$backend.err" &
		else
			stdbuf -oL bashreadline >"$dir/tool-$backend.out" 2>"$dir/tool-$backend.err" &
		fi
		tool_pid=$!
		set +m
		pids+=("$tool_pid")
		tool_says $backend COMMAND
		(as_user script -qfc "bash --norc --noprofile -i" /dev/null) <"$dir/shell.in" \
			>"$dir/shell.out" 2>&1 &
		pids+=($!)
		exec 9>"$dir/shell.in"
		# The shell may run a little before it is found: a word that does not count.
		until_true eval 'echo : warm >&9; sleep 0.3; grep -q warm "'"$dir/tool-$backend.out"'"' ||
			fail "$backend: the shell is not found"
		for word in one two three; do
			echo ": $word" >&9
		done
		until_true grep -q three "$dir/tool-$backend.out" || fail "$backend: lines are missing"
		echo exit >&9
		exec 9>&-
		kill -INT "$tool_pid"
		wait "$tool_pid"
		end_victim
		[ $backend = kernel ] || grep -q 'attached to [1-9]' "$dir/tool-userspace.err" ||
			fail "it is not said what was attached to"
		awk '/: (one|two|three)/ { print $3, $4 }' "$dir/tool-$backend.out" >"$dir/$backend.txt"
	done
	same
}

# --- bpftool --------------------------------------------------------------------------------------

# What does not depend on which kernel it is: no ids, sizes, addresses and times, no rewritten instructions.
view() {
	case $* in
	*"prog show"*) jq -c '{type, name, tag, gpl_compatible, jited, maps: (.map_ids | length), btf: (.btf_id > 0)}' ;;
	*"map show"*) jq -c '{type, name, flags, bytes_key, bytes_value, max_entries, frozen, btf: (.btf_id > 0),
		memlock: (.bytes_memlock > 0)}' ;;
	*"link show"*) jq -c ".[] | select(.prog_id == $prog_id) | {type}" ;;
	*"btf show"*) jq -c '.[] | {name, size, maps: (.map_ids | length), progs: (.prog_ids | length)}' ;;
	"-j map dump"*) jq -c '.[] | .value, .formatted' ;;
	*"prog dump xlated"*) grep -v '^[0-9]*: kprobe\|^ *[0-9]*: ' | uniq ;;
	*) cat ;;
	esac | sed "s/$victim_pid/PID/; s/\"id\":[0-9]*/\"id\":N/"
}

# find_objects BACKEND: map_id, prog_id and btf_id of the session on the victim; others may have their like
find_objects() {
	local id
	on "$1" bpftool -j map show
	mv "$dir/on-$1.out" "$dir/maps.out"
	for id in $(jq '.[] | select(.name == "malloc_calls") | .id' "$dir/maps.out"); do
		on "$1" bpftool map dump id "$id"
		grep -q "\"key\": $victim_pid" "$dir/on-$1.out" && map_id=$id
	done
	btf_id=$(jq ".[] | select(.id == $map_id) | .btf_id" "$dir/maps.out")
	on "$1" bpftool -j prog show
	prog_id=$(jq ".[] | select(.map_ids // [] | index($map_id)) | .id" "$dir/on-$1.out")
}

# A second terminal's view of a session, and of the same on the kernel.
test_bpftool() {
	local backend what map_id prog_id btf_id
	command -v bpftool >/dev/null || skip "no bpftool"
	command -v jq >/dev/null || skip "no jq"
	for backend in kernel userspace; do
		start_victim 10
		if [ $backend = userspace ]; then
			(as_user "$ubpf_run" --userspace run malloc -p "$victim_pid") >"$dir/tool-run.out" 2>&1 &
		else
			UBPF_RUN_DIR=$dir/run-root "$ubpf_run" --kernel run malloc -p "$victim_pid" \
				>"$dir/tool-run.out" 2>&1 &
		fi
		tool_pid=$!
		pids+=("$tool_pid")
		until_true grep -q attached "$dir/tool-run.out" || fail "not attached"
		make_calls
		until_true grep -q 'malloc calls: [1-9]' "$dir/tool-run.out" || fail "nothing counted"
		find_objects $backend
		: >"$dir/$backend.txt"
		for what in "-j prog show id $prog_id" "-j map show id $map_id" "-j link show" "-j btf show id $btf_id" \
			"map dump id $map_id" "btf dump map id $map_id" "prog dump xlated id $prog_id" \
			"-j map dump id $map_id"; do
			# shellcheck disable=SC2086
			on $backend bpftool $what
			echo "--- ${what/ id */}" >>"$dir/$backend.txt"
			view "$what" <"$dir/on-$backend.out" >>"$dir/$backend.txt"
		done
		kill -INT "$tool_pid"
		wait "$tool_pid"
		[ $backend = userspace ] && clean_victim
		end_victim
	done
	same
	grep -q '"key": PID' "$dir/kernel.txt" || fail "no calls"
	grep -q 'return bpf_get_current_pid_tgid' "$dir/kernel.txt" || fail "no source lines"
}

# Pins are names of the session's own; on the kernel they are files.
test_pin() {
	local backend pin=/sys/fs/bpf/ubpf-test-$$
	command -v bpftool >/dev/null || skip "no bpftool"
	for backend in kernel userspace; do
		on $backend sh -ec "
			bpftool map create $pin type hash key 4 value 8 entries 4 name pinned
			bpftool map update pinned $pin key 1 0 0 0 value 7 0 0 0 0 0 0 0
			bpftool map update pinned $pin key 2 0 0 0 value 9 0 0 0 0 0 0 0 noexist
			bpftool map update pinned $pin key 2 0 0 0 value 9 0 0 0 0 0 0 0 noexist || echo refused
			bpftool map dump pinned $pin
			bpftool map lookup pinned $pin key 1 0 0 0
			bpftool map create $pin type array key 4 value 8 entries 4 name again || echo taken
			bpftool map dump pinned $pin-not || echo none"
		[ $backend = kernel ] && rm "$pin"
		sort "$dir/on-$backend.out" >"$dir/$backend.txt"
	done
	same
	[ ! -e "$pin" ] || fail "a file was made"
}

# A tool whose target is itself, and what poll, select and epoll say of its ring buffer.
test_self() {
	local backend
	for backend in kernel userspace; do
		on $backend "$dir/tool_self" 5
		mv "$dir/on-$backend.out" "$dir/$backend.txt"
	done
	same
}

# A tool that always has a call out, which nothing can stop before its reply, is a target of other tools, and goes on
# all the while.
test_busy() {
	start_victim 1
	tool userspace "$dir/tool_self" --busy
	tool_says userspace busy
	for _ in 1 2 3 4 5; do
		rm -f "$dir/reader.out"
		(as_user "$ubpf_run" exec -- "$dir/tool_self" --attach "$tool_pid") \
			>"$dir/reader.out" 2>"$dir/reader.err" &
		pids+=($!)
		until_true grep -qs reading "$dir/reader.out" || fail "not attached"
		kill -KILL $!
		wait $! 2>/dev/null
		until_true eval '! grep -q ubpf-run /proc/'"$tool_pid"'/maps' ||
			fail "something is left in the tool"
		ended "$tool_pid" && fail "the tool ended"
	done
	kill -KILL "$tool_pid"
	wait "$tool_pid" 2>/dev/null
	exec 8>&-
	end_victim
}

# Two tools attach to each other at once, again and again: each has a call out that waits for the other's.
test_cross() {
	local name tools=()
	start_victim 1
	for name in one other; do
		tool userspace "$dir/tool_self" --cross
		tool_says userspace ready
		mv "$dir/tool-userspace.out" "$dir/$name.out"
		mv "$dir/tool-userspace.err" "$dir/$name.err"
		tools+=("$tool_pid")
		[ $name = one ] && exec 6>&8
	done
	echo "${tools[1]}" >&6
	echo "${tools[0]}" >&8
	for name in one other; do
		until_true grep -q "^done" "$dir/$name.out" || fail "$name is not done"
	done
	for name in "${tools[@]}"; do
		until_true eval '! grep -q ubpf-run /proc/'"$name"'/maps' || fail "something is left in a tool"
	done
	exec 6>&- 8>&-
	wait "${tools[@]}" || fail "a tool ended with $?"
	end_victim
}

# What one tool prints with bpf_trace_printk() another reads from trace_pipe.
test_tracelog() {
	local backend command
	command -v bpftool >/dev/null || skip "no bpftool"
	unshare -m true || skip "no mount namespace for Linux's bpftool (the root directory is no mount, as in a chroot)"
	for backend in kernel userspace; do
		start_victim 1
		command=(bpftool prog tracelog)
		# In a mount namespace of its own: bpftool leaves tracefs mounted.
		[ $backend = kernel ] && command=(unshare -m "${command[@]}")
		tool $backend "${command[@]}"
		# Until the reader is there, which does not say so.
		for _ in $(seq 100); do
			on $backend "$dir/tool_self" 4242
			grep -q "own 4242" "$dir/tool-$backend.out" && break
		done
		grep -q "own 4242" "$dir/tool-$backend.out" || fail "$backend: nothing in trace_pipe"
		kill -KILL "$tool_pid"
		wait "$tool_pid" 2>/dev/null
		exec 8>&-
		end_victim
		grep -m 1 'own 4242' "$dir/tool-$backend.out" |
			sed -E 's/-[0-9]+ +/-PID /; s/\[[0-9]+\] [^ ]+ +[0-9.]+:/[CPU] FLAGS TIME:/' >"$dir/$backend.txt"
	done
	same
}

# Which way tools are placed under the userspace kernel.
test_doctor() {
	(as_user "$ubpf_run" doctor) >"$dir/doctor.out" 2>&1
	grep -q '^tools (exec): works, by a seccomp listener' "$dir/doctor.out" || fail "doctor: no listener"
	# Within exec there is a listener already.
	on userspace "$ubpf_run" doctor
	grep -q '^tools (exec): works, by a preloaded library.*another seccomp listener' "$dir/on-userspace.out" ||
		fail "doctor: no preload"
}

# --- the terminal ---------------------------------------------------------------------------------

# terminal_says REGEX
terminal_says() {
	until_true grep -aq "$1" "$dir/terminal.out" || fail "the terminal does not say $1 ($backend)"
}

# Exit status, Ctrl-C, Ctrl-Z and fg in an interactive shell, as if the tool were run directly; also in a tool
# that makes one system call after the other.
test_terminal() {
	local backend run
	command -v script >/dev/null || skip "no script (util-linux)"
	for backend in kernel userspace; do
		start_victim 1
		run=
		[ $backend = userspace ] && run="$ubpf_run exec --"
		rm -f "$dir/terminal.in"
		mkfifo "$dir/terminal.in"
		# A job of its own, so that SIGINT is not ignored.
		set -m
		if [ $backend = userspace ]; then
			(as_user script -qfc "bash --norc --noprofile -i" /dev/null) <"$dir/terminal.in" \
				>"$dir/terminal.out" 2>&1 &
		else
			HOME=$dir/home script -qfc "bash --norc --noprofile -i" /dev/null <"$dir/terminal.in" \
				>"$dir/terminal.out" 2>&1 &
		fi
		pids+=($!)
		set +m
		exec 9>"$dir/terminal.in"
		# shellcheck disable=SC2016
		echo 'stty -echo; PS1= HISTFILE= PROMPT_COMMAND="echo prompt-\$((++n))"' >&9
		terminal_says prompt-1
		echo "$run sh -c 'exit 7'; echo exit=\$?" >&9
		terminal_says prompt-2
		echo "$run sh -c 'kill -TERM \$\$'; echo term=\$?" >&9
		terminal_says prompt-3
		echo "$run sh -c 'echo one; sleep 1000'" >&9
		terminal_says '^one'
		printf '\003' >&9
		terminal_says prompt-4
		echo "echo interrupted=\$?" >&9
		terminal_says prompt-5
		echo "$run $dir/tool_self --attach $victim_pid" >&9
		terminal_says '^reading'
		printf '\032' >&9
		terminal_says prompt-6
		echo "echo stopped=\$?; fg >/dev/null" >&9
		terminal_says stopped=
		until_true eval 'grep -q "^State:.[RS]" /proc/"$(pgrep -f "tool_self --attach $victim_pid" | head -1)"/status' ||
			fail "not in the foreground again ($backend)"
		printf '\003' >&9
		terminal_says prompt-7
		echo "echo again=\$?" >&9
		terminal_says prompt-8
		echo exit >&9
		exec 9>&-
		[ $backend = userspace ] && clean_victim
		end_victim
		grep -ao '\(exit\|term\|interrupted\|stopped\|again\)=[0-9]*' "$dir/terminal.out" >"$dir/$backend.txt"
	done
	same
	printf 'exit=7\nterm=143\ninterrupted=130\nstopped=148\nagain=130\n' | cmp -s - "$dir/kernel.txt" ||
		fail "not as a shell has it: $(cat "$dir/kernel.txt")"
}

# --- several sessions -----------------------------------------------------------------------------

# Three tools on one process; out of one session, then out of all.
test_sessions() {
	local i tools=() lines
	command -v bpftrace >/dev/null || skip "no bpftrace"
	command -v jq >/dev/null || skip "no jq"
	start_victim 100
	for i in 1 2 3; do
		tool userspace bpftrace -B line -e "BEGIN { printf(\"ready\\n\"); }
			uprobe:$victim:work { @tool$i = count(); }"
		tool_says userspace ready
		mv "$dir/tool-userspace.out" "$dir/tool-$i.out"
		tools+=("$tool_pid")
	done
	make_calls
	(as_user "$ubpf_run" --json list) >"$dir/list.out" 2>&1
	lines=$(jq -r 'select(.session) | .session' "$dir/list.out" 2>/dev/null | sort -u | wc -l)
	[ "$lines" = 3 ] || fail "list shows $lines sessions: $(cat "$dir/list.out")"
	(as_user "$ubpf_run" detach --session="${tools[0]}" "$victim_pid") >"$dir/detach.out" 2>&1 ||
		fail "detach from one: $(cat "$dir/detach.out")"
	make_calls
	(as_user "$ubpf_run" detach "$victim_pid") >"$dir/detach.out" 2>&1 ||
		fail "detach: $(cat "$dir/detach.out")"
	clean_victim
	make_calls
	for i in 1 2 3; do
		tool_pid=${tools[i - 1]}
		end_tool
		[ $tool_status = 0 ] || fail "tool $i: exit status $tool_status"
	done
	grep -h '^@tool' "$dir"/tool-[123].out | sort >"$dir/userspace.txt"
	printf '@tool1: 100\n@tool2: 200\n@tool3: 200\n' >"$dir/kernel.txt"
	same
	end_victim
}

# --- Go -------------------------------------------------------------------------------------------

# cilium/ebpf, linked statically: raw system calls, a runtime that interrupts itself with signals.
test_go() {
	local backend
	command -v go >/dev/null || skip "no go"
	[ -d /usr/share/gocode/src/github.com/cilium/ebpf ] || skip "no golang-github-cilium-ebpf-dev"
	GO111MODULE=off GOPATH=/usr/share/gocode CGO_ENABLED=0 GOCACHE=$dir/cache HOME=$dir \
		go build -o "$dir/gocount" "$UBPF_SOURCE/tests/daemon/tools/gocount/main.go" ||
		fail "go build"
	for backend in kernel userspace; do
		start_victim 1000
		tool $backend "$dir/gocount" "$victim" work "$victim_pid"
		tool_says $backend ready
		make_calls
		echo >&8
		wait "$tool_pid" || fail "$backend: exit status $?"
		exec 8>&-
		[ $backend = userspace ] && clean_victim
		end_victim
		grep calls "$dir/tool-$backend.out" >"$dir/$backend.txt"
	done
	same
}

"test_$name"
echo "$1: ok"
