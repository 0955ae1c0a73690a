#!/bin/bash
# Counts are exact: what the process says it called is what was counted, with 1 and 8 threads, dynamic and static.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

for threads in 1 8; do
	start_victim "threads$threads" -t $threads
	pid=$last
	start run "$ubpf_run" "--$backend" run malloc -p "$pid"
	wait_line "$tmp/run.err" "^ubpf-run: attached malloc to process $pid "
	tell "threads$threads" calls 5000 >/dev/null
	kill -INT "$last"
	wait "$last" || fail "run: status $?"
	grep -q "^	pid=$pid      malloc calls: $((threads * 5000))$" "$tmp/run.out" ||
		fail "$threads threads: $(tail -n 1 "$tmp/run.out")"
done

# From main() on: all calls that the program makes, and those of its own start.
expect_status 0 ubpf run malloc -- "$victim" -t 8 -n 1000
pid=$(sed -n 's/^ready pid=//p' "$tmp/command.out")
counted=$(sed -nE "s/^	pid=$pid      malloc calls: ([0-9]+)$/\1/p" "$tmp/command.out")
if [ "${counted:-0}" -lt 8000 ] || [ "$counted" -gt 8100 ]; then fail "run -- CMD: ${counted:-nothing} of 8000 counted"; fi

# A static program has a malloc of its own.
victim_program=$victim-static
start_victim static -t 4
pid=$last
load malloc
ubpf attach "$pid" >/dev/null || fail "static: attach"
tell static calls 1000 >/dev/null
expect_count "$pid" 4000

# After exec it goes on. The old image's calls stay counted under the same pid.
victim_program=$victim
start_victim again -t 1
pid=$last
ubpf attach "$pid" >/dev/null || fail "attach before exec"
tell again calls 10 >/dev/null
expect_count "$pid" 10
tell again exec >/dev/null
counts_again() {
	before=$(count_of "$pid")
	tell again calls 10 >/dev/null
	after=$(count_of "$pid")
	[ "${before:-none}" != none ] && [ $((after - before)) = 10 ]
}
until_true counts_again || fail "nothing counts after exec"
counts_again || fail "counts after exec are not exact: ${before:-none}, and after ten calls ${after:-none}"
