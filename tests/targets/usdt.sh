#!/bin/bash
# usdt.sh BACKEND RUNTIME: the USDT probes that libstdc++, CPython and HotSpot bring along, on a program that says
# itself how often each is passed and with what.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../e2e/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
built=$build/tests/targets
runtime=$2

# has_probes FILE PROVIDER
has_probes() { readelf -n "$1" 2>/dev/null | grep -q "Provider: $2$"; }

case $runtime in
cpp)
	command=("$built/usdt-cpp")
	file=$(ldd "${command[0]}" | sed -n 's/.*libstdc++.* => \([^ ]*\) .*/\1/p')
	has_probes "$file" libstdcxx || skip "$file was built without USDT probes"
	;;
python)
	command=(/usr/bin/python3 -IS "$here/usdt.py")
	has_probes /usr/bin/python3 python || skip "/usr/bin/python3 was built without USDT probes"
	;;
java)
	[ -e "$built/java/UsdtJava.class" ] || skip "no javac when this was built"
	file=$(dirname "$(readlink -f "$(command -v java)")")/../lib/server/libjvm.so
	has_probes "$file" hotspot || skip "$file was built without USDT probes"
	# One collector that does as it is told; probes that cost something are off by default.
	command=(java -cp "$built/java" -Xshare:auto -Xmx256m -XX:+UseSerialGC -XX:-DoEscapeAnalysis -XX:+DTraceAllocProbes
		-XX:+DTraceMethodProbes -XX:+DTraceMonitorProbes UsdtJava)
	;;
esac

start_listener target "${command[@]}"
pid=$last
snapshot target "$pid"
start run "$ubpf_run" "--$backend" --json run "$built/usdt_$runtime.bpf.o" -p "$pid"
loader=$last
wait_line "$tmp/run.out" '"event":"attach"'
echo >&"$to"
wait_line "$tmp/target.out" '^done$'
end_loader INT
# Memory and threads are the program's own affair.
"$residue" -w 2000 diff "$tmp/target.before" "$pid" >"$tmp/target.diff"
allowed='^$'
[ "$backend" = kernel ] && allowed=' 0 bytes differ$'
grep -E '^[+] text|ubpf' "$tmp/target.diff" | grep -vE "$allowed" && fail "process $pid is not what it was"
echo >&"$to"
wait "$pid" || fail "the target ended with status $?"

sed -n 's/^expect //p' "$tmp/target.out" | sort >"$tmp/expected.out"
jq -r 'select(.event == "summary").maps.passes[]
	| "\(.key.probe) \(.key.text | gsub(" "; "_") | if . == "" then "-" else . end) \(.value.nr) \(.value.sum)"' \
	"$tmp/run.out" | sort >"$tmp/counted.out"
diff "$tmp/expected.out" "$tmp/counted.out" >"$tmp/diff.out" || fail "not what was expected (<)"
cat "$tmp/counted.out"
