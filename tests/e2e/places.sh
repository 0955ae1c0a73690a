#!/bin/bash
# Where processes are and what they may: libraries that come and go, mount and pid namespaces, other users, programs with
# rights of their own, limits.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

# setpriv itself still has capabilities when it executes.
as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'exec "$0" "$@"')
is_root() { [ "$(id -u)" = 0 ]; }

# counts NAME: calls counted so far by the run called NAME, as its last line with maps says.
counts() {
	grep '"maps":' "$tmp/$1.out" | tail -n 1 |
		jq -rn 'last(inputs | .maps).calls // [] | map(.value) | add // 0' 2>/dev/null || echo 0
}
counts_is() { [ "$(counts "$1")" = "$2" ]; }
# counting NAME PLACE PID: starts such a run; $last is its pid.
counting() {
	start "$1" "$ubpf_run" "--$backend" --json run -i 0.1 "$build/tests/e2e/calls.bpf.o" "$2" -p "$3"
	wait_line "$tmp/$1.out" '"event":"attach"'
}
stop() { # NAME PID
	kill -INT "$2"
	wait_end "$2"
}

libraries() {
	local libm pid run seen made=0
	libm=$(ldconfig -p 2>/dev/null | sed -n 's/.*libm\.so\.6 .*x86-64.* => //p' | head -n 1)
	[ -n "$libm" ] || libm=/lib/x86_64-linux-gnu/libm.so.6
	start_listener libraries "$build/tests/lib/ubpf-odd-victim" libraries
	pid=$last
	ask() { # WORD: answered by itself
		local lines
		lines=$(wc -l <"$tmp/libraries.out")
		echo "$1" >&"$to"
		until_true has_lines "$tmp/libraries.out" $((lines + 1)) || fail "libraries does not $1"
	}
	call() { # ten times
		ask call
		made=$((made + 10))
	}
	more_than() { [ "$(counts libm)" -gt "$1" ]; }
	# What is shown comes late, so some of it is of the round before.
	call_and_look() {
		call
		more_than $((seen + 100))
	}
	snapshot libraries "$pid"
	counting libm "$libm:cbrt" "$pid"
	run=$last
	# Loaded after the attach; unloaded; loaded again.
	for round in 1 2 3; do
		seen=$(counts libm)
		ask open
		until_true call_and_look || fail "round $round: $(counts libm) calls counted, $seen before"
		ask close
	done
	stop libm "$run"
	[ "$(counts libm)" -le $made ] || fail "$(counts libm) of $made calls counted"
	# What Linux steps displaced instructions in stays until the process ends.
	[ "$backend" = kernel ] || no_residue libraries "$pid"
	exec {to}>&-
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || : # killed
}

# victim_is_counted NAME COMMAND...: a victim that COMMAND starts, perhaps as its grandchild, is.
last_descendant() {
	local pid=$1 child
	while child=$(cut -d' ' -f1 "/proc/$pid/task/$pid/children" 2>/dev/null) && [ -n "$child" ]; do
		pid=$child
	done
	echo "$pid"
}
is_counted() { [ "$(counts "$1")" -gt 100 ]; }
victim_is_counted() {
	local name=$1 starter pid run
	shift
	start "$name-victim" "$@" -t 2 -d 1000
	starter=$last
	wait_line "$tmp/$name-victim.out" '^ready'
	pid=$(last_descendant "$starter")
	snapshot "$name" "$pid"
	counting "$name" libc:malloc "$pid"
	run=$last
	until_true is_counted "$name" || fail "$name: not counted"
	stop "$name" "$run"
	no_residue "$name" "$pid"
	kill -KILL "$pid"
	wait_end "$starter"
	wait "$starter" 2>/dev/null || :
}

namespaces() {
	local root=$tmp/root file options=(-mpf --kill-child)
	is_root || options+=(-Ur)
	unshare "${options[@]}" true 2>/dev/null || {
		echo "no namespaces to be had here"
		return
	}
	victim_is_counted namespaces unshare "${options[@]}" "$victim"
	# None of our files, and a root directory that Linux does not show paths from.
	mkdir -p "$root/bin"
	cp "$victim" "$root/bin/victim"
	for file in $(ldd "$victim" | grep -o '/[^ ]*'); do
		mkdir -p "$root${file%/*}"
		cp -L "$file" "$root$file"
	done
	victim_is_counted container unshare "${options[@]}" chroot "$root" /bin/victim
}

# refused_to_nobody NAME REGEX PID
refused_to_nobody() {
	expect_error 1 "$2" timeout -k 5 60 "${as_nobody[@]}" env UBPF_RUN_DIR="$tmp/nobody" HOME="$tmp/nobody" \
		"$tmp/bin/ubpf-run" "--$backend" run malloc -d 1 -p "$3"
}

users() {
	is_root || return 0
	mkdir "$tmp/bin"
	install -d -o 65534 -g 65534 -m 700 "$tmp/nobody"
	install -m 755 "$ubpf_run" "$victim" "$tmp/bin"
	mv "$tmp/bin/ubpf-victim" "$tmp/bin/victim"
	"${as_nobody[@]}" "$tmp/bin/victim" -q -t 1 -n 1 >/dev/null 2>&1 || {
		echo "no programs of other users in $tmp"
		return
	}
	victim_is_counted user "${as_nobody[@]}" "$tmp/bin/victim"
	for mode in 4755 2755; do
		install -o 1 -g 1 -m $mode "$victim" "$tmp/bin/rights-$mode"
		victim_is_counted rights-$mode "${as_nobody[@]}" "$tmp/bin/rights-$mode"
	done
	[ "$backend" = userspace ] || return 0
	start other setpriv --reuid 1 --regid 1 --clear-groups "$tmp/bin/victim" -t 1 -d 1000
	wait_line "$tmp/other.out" '^ready'
	refused_to_nobody other "process $last .*belongs to user .*uid 1.*as that user or as root" "$last"
	for mode in 4755 2755; do
		start rights "${as_nobody[@]}" "$tmp/bin/rights-$mode" -t 1 -d 1000
		wait_line "$tmp/rights.out" '^ready'
		case $(sed -nE 's/^[UG]id:\t([0-9]+)\t([0-9]+).*/\1 \2/p' "/proc/$last/status" | tr '\n' ' ') in
		"65534 1 "* | *" 65534 1 ") refused_to_nobody rights "process $last .*runs a set-.*-id program.*1\)?; run ubpf-run as root" "$last" ;;
		*) echo "no set-user-id programs in $tmp" ;;
		esac
	done
	install -m 711 "$victim" "$tmp/bin/unreadable"
	start unreadable "${as_nobody[@]}" "$tmp/bin/unreadable" -t 1 -d 1000
	wait_line "$tmp/unreadable.out" '^ready'
	refused_to_nobody unreadable "process $last .*not dumpable.*run ubpf-run as root" "$last"
}

limits() {
	local pid size
	[ "$backend" = userspace ] || return 0
	for limit in as data nofile nproc fsize; do
		start limited "$victim" -t 2 -d 1000
		pid=$last
		wait_line "$tmp/limited.out" '^ready'
		size=$(($(sed -n 's/^VmSize:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status") * 1024))
		[ $limit = as ] || size=0
		prlimit --pid "$pid" "--$limit=$size" || fail "prlimit --$limit"
		case $limit in
		as | data) expect_error 1 "process $pid may not map .*prlimit --as, --data" ubpf run malloc -d 1 -p "$pid" ;;
		nofile) expect_error 1 "process $pid has no free file descriptors.*prlimit --nofile" ubpf run malloc -d 1 -p "$pid" ;;
		*)
			# Root is not held to the number of processes.
			if [ $limit = nproc ] && ! is_root; then
				expect_error 1 "process $pid may not have one process more.*ulimit -u" ubpf run malloc -d 1 -p "$pid"
			else
				expect_status 0 ubpf run malloc -d 1 -p "$pid"
			fi
			;;
		esac
		! has_ended "$pid" || fail "the process with a limit ($limit) has ended"
		kill -KILL "$pid"
		wait "$pid" 2>/dev/null || : # killed
	done
}

# A process that goes on while its program and its C library are upgraded: what it runs has no name any more.
upgraded() {
	local dir=$tmp/upgraded pid run libc file
	libc=$(ldd "$victim" | sed -n 's/.*libc\.so\.6 => \([^ ]*\).*/\1/p')
	mkdir "$dir"
	cp "$victim" "$dir/victim"
	cp -L "$libc" "$dir/libc.so.6"
	start upgraded-victim env LD_LIBRARY_PATH="$dir" "$dir/victim" -t 2 -d 1000
	pid=$last
	wait_line "$tmp/upgraded-victim.out" '^ready'
	for file in victim libc.so.6; do
		cp "$dir/$file" "$dir/new"
		mv "$dir/new" "$dir/$file"
	done
	snapshot upgraded "$pid"
	if is_root; then
		counting upgraded libc:malloc "$pid"
		run=$last
		until_true is_counted upgraded || fail "upgraded: not counted"
		stop upgraded "$run"
	else
		expect_error 1 "libc.so.6 .deleted. of process $pid: .*as root" ubpf run malloc -d 1 -p "$pid"
	fi
	no_residue upgraded "$pid"
	counting program :main "$pid"
	stop program "$last"
	no_residue upgraded "$pid"
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || : # killed
}

# In a paused container. Where the control groups are mounted nobody else sees.
frozen() {
	is_root && [ "$backend" = userspace ] || return 0
	unshare -m --propagation private "$0" userspace frozen_here || fail "frozen"
}
frozen_here() {
	local pid run
	[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null || return 0
	group=/sys/fs/cgroup/ubpf-e2e.$$
	mkdir "$group" 2>/dev/null || return 0
	trap 'cleanup; until_true rmdir "$group" 2>/dev/null' EXIT
	freeze() {
		echo "$1" >"$group/cgroup.freeze"
		until_true has_line "$group/cgroup.events" "^frozen $1"
	}
	start frozen-victim "$victim" -t 2 -d 1000
	pid=$last
	wait_line "$tmp/frozen-victim.out" '^ready'
	echo "$pid" >"$group/cgroup.procs" && freeze 1 || return 0
	snapshot frozen "$pid"
	expect_error 1 "process $pid .*frozen.*thaw" ubpf run malloc -d 1 -p "$pid"
	freeze 0
	counting frozen libc:malloc "$pid"
	run=$last
	until_true is_counted frozen || fail "frozen: not counted"
	freeze 1
	stop frozen "$run"
	has_line "$tmp/frozen.out" '"result":"mapping left"' || fail "taken out of a frozen process"
	freeze 0
	is_clean() { ! grep -q ubpf-run: "/proc/$pid/maps"; }
	until_true is_clean || fail "thawed, and still probed"
	no_residue frozen "$pid"
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || : # killed
}

for part in ${2:-libraries namespaces users limits upgraded frozen}; do
	$part
done
exit 0
