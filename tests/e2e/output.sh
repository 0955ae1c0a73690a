#!/bin/bash
# What every command prints: help, JSON that is JSON, hits that are true or not claimed, and a status that tells
# when the output got lost.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

all_json() { # each line of a file, and there is one
	[ -s "$1" ] || fail "no JSON in ${1##*/}"
	perl -MJSON::PP -ne 'eval { decode_json($_) }; die "no JSON: $_" if $@' "$1" 2>"$tmp/perl.err" ||
		fail "${1##*/}: $(cat "$tmp/perl.err")"
}
json_of() { # COMMAND...: its output is JSON, and is in $tmp/command.out
	expect_status 0 ubpf --json "$@"
	all_json "$tmp/command.out"
}
perl -MJSON::PP -e 1 2>/dev/null || skip "no perl with JSON::PP to check JSON with"

for command in run load attach detach list exec compare map prog doctor vm; do
	expect_status 0 "$ubpf_run" $command --help
	grep -qE "^Usage: ubpf-run $command" "$tmp/command.out" || fail "$command --help does not say how to use it"
	[ ! -s "$tmp/command.err" ] || fail "$command --help says something on stderr"
	grep -qE "^  $command +[a-z]" <("$ubpf_run" --help) || fail "--help does not name $command"
	expect_error 2 "ubpf-run $command: unrecognized option" "$ubpf_run" $command --no-such-option
done
expect_status 0 "$ubpf_run" --version

expect_status 0 ubpf list
grep -qx "no session is running" "$tmp/command.out" || fail "list without a session"
expect_error 2 "takes no argument" ubpf list something

start_victim target -t 2
pid=$last
load malloc
ubpf attach "$pid" >/dev/null || fail "attach"
tell target calls 100 >/dev/null
json_of list
json_of map
json_of prog
json_of map dump malloc_calls
grep -q "\"key\":$pid,\"value\":200" "$tmp/command.out" || fail "map dump: $(cat "$tmp/command.out")"
expect_error 1 "no session has a map 'calls'" ubpf map dump calls
expect_status 0 ubpf list
if [ "$backend" = userspace ] || [ "$(cat /proc/sys/kernel/bpf_stats_enabled)" = 1 ]; then
	hits=$(sed -nE 's/^  program .* ([0-9]+) hits, ([0-9]+) misses$/\1 \2/p' "$tmp/command.out")
	[ "$hits" = "200 0" ] || fail "hits and misses: ${hits:-none}, not 200 and 0"
else
	grep -q "hits not counted (sysctl kernel.bpf_stats_enabled" "$tmp/command.out" || fail "hits that nobody counted"
fi
for command in list map prog doctor --help "run --help"; do
	# shellcheck disable=SC2086 # words
	"$ubpf_run" $command >/dev/full 2>"$tmp/full.err"
	[ $? = 1 ] || fail "'$command' into a full device: status 0"
	grep -q "cannot write to standard output: No space left" "$tmp/full.err" || fail "'$command' into a full device is silent"
done
json_of detach "$pid"
json_of detach "$pid"
grep -q '"result":"was not attached"' "$tmp/command.out" || fail "second detach: $(cat "$tmp/command.out")"
end_loader INT

json_of run malloc -d 0.3 -i 0.1 -p "$pid"
"$ubpf_run" "--$backend" run malloc -d 0.3 -i 0.1 -p "$pid" >/dev/full 2>"$tmp/full.err"
[ $? = 1 ] || fail "a session into a full device: status 0"
# A reader that goes away is no failure.
"$ubpf_run" "--$backend" run malloc -d 20 -i 0.1 -p "$pid" 2>"$tmp/head.err" | head -n 1 >/dev/null
[ "${PIPESTATUS[0]}" = 0 ] || fail "a reader that goes away: status not 0"
json_of doctor
