#!/bin/bash
# leaver.sh: handlers that leave probed code by siglongjmp() cost no map its elements: see leaver.c.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../e2e/lib.sh"

built=$build/tests/targets
mkfifo "$tmp/target.in"
exec {to}<>"$tmp/target.in"
"$built/leaver" "${1:-4000}" <"$tmp/target.in" >"$tmp/target.out" 2>"$tmp/target.err" &
pid=$!
started+=("$pid")
wait_line "$tmp/target.out" '^ready$'
snapshot target "$pid"
start run "$ubpf_run" --userspace --json run "$built/leaver.bpf.o" -p "$pid"
loader=$last
wait_line "$tmp/run.out" '"event":"attach"'
echo >&"$to"
is_answered() { has_ended "$pid" || has_lines "$tmp/target.out" 2; }
until_true is_answered || fail "no answer"
[ "$(tail -n 1 "$tmp/target.out")" = full ] || fail "$(tail -n 1 "$tmp/target.out")"
end_loader INT
no_residue target "$pid"
kept=$(jq -c 'select(.event == "summary").maps.kept | map(select(.key >= 1000)) | length' "$tmp/run.out")
[ "$kept" = 64 ] || fail "$kept elements are kept"
