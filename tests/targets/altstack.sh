#!/bin/bash
# altstack.sh: what takes most stack, where there is hardly any: see altstack.c.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../e2e/lib.sh"

built=$build/tests/targets
start_listener target "$built/altstack"
pid=$last
snapshot target "$pid"
start run "$ubpf_run" --userspace --json run "$built/altstack.bpf.o" -p "$pid"
loader=$last
wait_line "$tmp/run.out" '"event":"attach"'
for _ in 1 2 3; do echo >&"$to"; done
is_answered() { has_ended "$pid" || has_lines "$tmp/target.out" 4; }
until_true is_answered || fail "no answer"
! has_ended "$pid" || fail "its stack was too small"
end_loader INT
no_residue target "$pid"
used=$(sed -n 's/^used \([0-9]*\) of 2048$/\1/p' "$tmp/target.out" | sort -n | tail -n 1)
echo "$used of 2048 bytes used"
[ "$used" -gt 500 ] && [ "$used" -le 2048 ] || fail "$used bytes of stack used"
runs=$(jq -c 'select(.event == "summary").maps.runs | map([.key, .value]) | sort' "$tmp/run.out")
[ "$runs" = '[[1,3],[2,3],[3,3],[4,3]]' ] || fail "runs: $runs"
# Each record is shown, or counted as one that found no room.
shown=$(jq -c 'select(.event == "record")' "$tmp/run.out" | wc -l)
lost=$(jq 'select(.event == "summary") | .lost_ring_records // 0' "$tmp/run.out")
[ $((shown + lost)) = 12 ] || fail "$shown records shown, $lost lost"
