#!/bin/bash
# SPDX-License-Identifier: MIT
# Each helper on each backend: the same programs in the same process, the same results. On the kernel as root; under
# `ubpf-run exec` as an ordinary user where there is a choice. UBPF_BUILD: where the build is.
set -u
umask 022 # others shall run what is copied for them
export LC_ALL=C

build=${UBPF_BUILD:?is the build directory}
here=$(cd "$(dirname "$0")" && pwd)
user=12345
dir=$(mktemp -d "${TMPDIR:-/tmp}/ubpf-both.XXXXXX") || exit 1
# The process may wait for a tool that never came.
trap 'kill "$victim" 2>/dev/null; remove_groups; rm -rf "$dir"' EXIT
victim=
export UBPF_RUN_DIR=$dir/run

# Control groups for the process, where some may be made: the whole hierarchy, the process's parent, its own, another. The
# process runs in the third; without them BOTH_GROUPS is the hierarchy, if there is one.
make_groups() {
	local root
	root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	BOTH_GROUPS=$root
	own_group=
	if [ -n "$root" ] && mkdir "$root/${dir##*/}" 2>/dev/null; then
		groups=("$root/${dir##*/}" "$root/${dir##*/}/own" "$root/${dir##*/}/other")
		mkdir "${groups[1]}" "${groups[2]}"
		BOTH_GROUPS="$root ${groups[*]}"
		own_group=${groups[1]}
	fi
	export BOTH_GROUPS
}
groups=()
# A group is busy for a moment after its last process died.
remove_groups() {
	local i try
	for ((i = ${#groups[@]} - 1; i >= 0; i--)); do
		for ((try = 0; try < 600; try++)); do
			rmdir "${groups[i]}" 2>/dev/null && break
			sleep 0.05
		done
	done
}

fail() {
	echo "FAILED: $*"
	exit 1
}

# The build may lie where an ordinary user can't go.
cp "$build/loader/ubpf-run" "$build/tests/helper/both_runner" "$build/tests/helper/both_victim" \
	"$build"/tests/helper/*.bpf.o "$dir" || exit 1
chmod -R a+rX "$dir"
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
	case $object in
	refused.bpf.o | configured.bpf.o) ;;
	*) objects+=("$object") ;;
	esac
done
apart=() # a command that runs the process in a pid namespace of its own, as its child
# run NAME TOOL... OBJECT...: a process and the tool, which speaks with it and prints into NAME.
run() {
	local name=$1
	shift
	"${apart[@]}" "${as_user[@]}" ./both_victim <in >out &
	victim=$!
	[ "${#apart[@]}" = 0 ] || export BOTH_PARENT=$victim
	[ -z "$own_group" ] || echo "$victim" >"$own_group/cgroup.procs" || fail "moving the process"
	"$@" >"$name" 2>errors ||
		fail "$name: status $?: $(grep -E '^[A-Za-z/]' errors | tail -n 20; grep NOT "$name")"
	wait "$victim"
	victim=
}
make_groups
exec_as_user=("${as_user[@]}" timeout -k 5 100 ./ubpf-run exec -- ./both_runner)
as_root=(timeout -k 5 100 ./both_runner)
meet=(./both_victim in out)
run ours "${exec_as_user[@]}" "${meet[@]}" "${objects[@]}"
# What this machine's kernel may be without: compared with what one does that has it.
run ours.configured "${exec_as_user[@]}" "${meet[@]}" configured.bpf.o
diff "$here/configured.expected" ours.configured || fail "< is expected, > ours"
"${exec_as_user[@]}" --refused refused.bpf.o >refused 2>&1 || fail "what can't be had: $(cat refused)"
./ubpf-run doctor 2>/dev/null | grep -q '^kernel backend: works' || {
	echo "compared with nothing: the kernel does not let this user load programs"
	exit 0
}
run kernel "${as_root[@]}" "${meet[@]}" "${objects[@]}"
diff kernel ours || fail "< is the kernel's, > ours"
if ./both_runner --loads configured.bpf.o; then
	run kernel.configured "${as_root[@]}" "${meet[@]}" configured.bpf.o
	diff "$here/configured.expected" kernel.configured || fail "< is expected, > the kernel's"
fi
if [ "$(id -u)" = 0 ] && unshare --pid --fork true 2>/dev/null; then
	apart=(unshare --pid --fork --kill-child)
	run ours.apart "${exec_as_user[@]}" "${meet[@]}" identity.bpf.o
	run kernel.apart "${as_root[@]}" "${meet[@]}" identity.bpf.o
	# But for what the client calls a child of the process, of whom only its own namespace knows the number here.
	sed -i /^get_current_pid_tgid/d ours.apart kernel.apart
	diff kernel.apart ours.apart || fail "in a pid namespace: < is the kernel's, > ours"
	cat kernel.apart >>kernel
fi
echo "$(grep -c = kernel) results are the same"
