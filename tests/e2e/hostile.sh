#!/bin/bash
# Sessions that are stopped, asked nonsense, or bereft of their daemon or their reader; processes that somebody
# else holds. Each ends in one clear line, and nothing is left.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

start_victim target -t 2
pid=$last
tell target calls 1 >/dev/null
snapshot target "$pid"

# Requests that are no requests: the session lives on.
load malloc
for request in '{"cmd":null}' '{"cmd":5}' '{"cmd":"detach","pids":5}' '{"cmd":"attach","pid":"x"}' '{"cmd":"attach"}' '[]' '{'; do
	command -v perl >/dev/null || break
	perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ARGV[0])) or die;
		syswrite(S, "$ARGV[1]\n"); shutdown(S, 1); alarm 30; 1 while sysread(S, $x, 4096)' \
		"$UBPF_RUN_DIR/session-$loader" "$request" || fail "no connection for '$request'"
	has_ended "$loader" && fail "'$request' ends the session"
done

# A session that is stopped keeps nobody waiting.
kill -STOP "$loader"
is_stopped() { grep -q '^State:.*T' "/proc/$loader/status"; }
until_true is_stopped || fail "the session does not stop"
ubpf list >"$tmp/list.out" 2>"$tmp/list.err" || fail "list beside a stopped session"
has_line "$tmp/list.err" "session $loader is stopped" || fail "list does not tell of the stopped session"
kill -CONT "$loader"
ubpf attach "$pid" >/dev/null || fail "attach after CONT"

if [ "$backend" = userspace ]; then
	# A kernel uprobe on a site that is patched would crash the process.
	if [ "$(id -u)" = 0 ] && "$ubpf_run" doctor 2>/dev/null | grep -q '^kernel backend: works'; then
		expect_error 1 "userspace backend holds" \
			timeout -k 5 60 "$ubpf_run" --kernel run malloc -d 1 -p "$pid"
	fi
	# Another user's or run directory's session: says who is there, leaves it alone.
	mkdir -m 700 "$tmp/other"
	UBPF_RUN_DIR=$tmp/other expect_error 1 "somebody else patched it|belongs to a running ubpf-run" ubpf run malloc -d 1 -p "$pid"
	tell target calls 10 >/dev/null
	expect_count "$pid" 20

	# The daemon is killed: the session says so and ends, the process is clean, a new attach works. The user
	# of a tool, which sees nothing but that its calls fail, is told too.
	start tool "$ubpf_run" exec -- sleep 1000
	tool=$last
	is_tool() { [ "$(cat "/proc/$1/comm")" = "$2" ]; }
	until_true is_tool "$tool" sleep || fail "the tool does not start"
	daemon=$(for comm in /proc/[0-9]*/comm; do
		[ "$(cat "$comm" 2>/dev/null)" = ubpf-daemon ] || continue
		tr '\0' '\n' 2>/dev/null <"${comm%comm}environ" | grep -qxF "UBPF_RUN_DIR=$UBPF_RUN_DIR" &&
			basename "${comm%/comm}"
	done)
	[ -n "$daemon" ] || fail "no daemon"
	kill -KILL "$daemon"
	wait_end "$loader"
	wait_line "$loader_err" "daemon has ended"
	wait_line "$tmp/tool.err" "daemon has ended.*bpf calls of sleep fail from now on: start it again"
	kill -KILL "$tool"
	load malloc
	ubpf attach "$pid" >/dev/null || fail "attach after the daemon's death"
	tell target calls 10 >/dev/null
	expect_count "$pid" 20
fi
end_loader INT

# The reader goes away: so does the session.
"$ubpf_run" "--$backend" run malloc -p "$pid" 2>"$tmp/head.err" | head -n 1 >/dev/null &
last=$!
started+=("$last")
wait_end "$last"
no_sessions() { ! compgen -G "$UBPF_RUN_DIR/session-*" >/dev/null; }
until_true no_sessions || fail "a session that nobody reads goes on"

# A command that does not end when told to is killed.
expect_status 0 ubpf run malloc -d 1 -- bash -c 'trap "" TERM; while :; do sleep 0.1; done'

tell target calls 1 >/dev/null
no_residue target "$pid"
