#!/bin/bash
# SPDX-License-Identifier: MIT
# Each helper on each backend: the same programs in the same process, the same results. On the kernel as root; under
# `ubpf-run exec` as an ordinary user where there is a choice. UBPF_BUILD: where the build is.
set -u

build=${UBPF_BUILD:?is the build directory}
user=12345
dir=$(mktemp -d "${TMPDIR:-/tmp}/ubpf-both.XXXXXX") || exit 1
# The process may wait for a tool that never came.
trap 'kill "$victim" 2>/dev/null; rm -rf "$dir"' EXIT
victim=
export UBPF_RUN_DIR=$dir/run

fail() {
	echo "FAILED: $*"
	exit 1
}

# The build may lie where an ordinary user can't go.
cp "$build/loader/ubpf-run" "$build/tests/helper/both_runner" "$build/tests/helper/both_victim" \
	"$build"/tests/helper/*.bpf.o "$dir" || exit 1
chmod 755 "$dir"
mkdir -m 700 "$UBPF_RUN_DIR"
cd "$dir" || exit 1
mkfifo in out
as_user=()
if [ "$(id -u)" = 0 ]; then
	chown "$user" "$UBPF_RUN_DIR" in out
	as_user=(setpriv --reuid="$user" --regid="$user" --clear-groups --bounding-set=-all --inh-caps=-all)
fi
"${as_user[@]}" ./both_runner >/dev/null 2>&1
[ $? = 2 ] || { echo "skip: programs can't be run from $dir by an ordinary user"; exit 77; }

objects=()
for object in *.bpf.o; do
	[ "$object" = refused.bpf.o ] || objects+=("$object")
done
# run NAME TIMEOUT-AND-TOOL...: a process and the tool, which speaks with it and prints into NAME.
run() {
	local name=$1
	shift
	"${as_user[@]}" ./both_victim <in >out &
	victim=$!
	"$@" ./both_victim in out "${objects[@]}" >"$name" 2>errors ||
		fail "$name: status $?: $(grep -E '^[A-Za-z/]' errors | tail -n 20; grep NOT "$name")"
	wait "$victim"
	victim=
}
run ours "${as_user[@]}" timeout -k 5 100 ./ubpf-run exec -- ./both_runner
"${as_user[@]}" timeout -k 5 100 ./ubpf-run exec -- ./both_runner --refused refused.bpf.o >refused 2>&1 ||
	fail "what can't be had: $(cat refused)"
./ubpf-run doctor 2>/dev/null | grep -q '^kernel backend: works' || {
	echo "compared with nothing: the kernel does not let this user load programs"
	exit 0
}
run kernel timeout -k 5 100 ./both_runner
diff kernel ours || fail "< is the kernel's, > ours"
echo "$(grep -c = kernel) results are the same"
