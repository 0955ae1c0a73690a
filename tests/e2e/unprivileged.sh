#!/bin/bash
# unprivileged.sh SCRIPT: a story on the userspace backend as an ordinary user without any capability.
set -u
umask 022
here=$(cd "$(dirname "$0")" && pwd)
build=${UBPF_BUILD:?is the build directory}
[ "$(id -u)" = 0 ] || exec "$here/$1" userspace

# The checkout may be where only root comes: take what is needed along.
for base in "${TMPDIR:-/tmp}" /var/tmp /dev/shm; do
	dir=$(mktemp -d "$base/ubpf-user.XXXXXX") || continue
	mkdir -p "$dir/build/loader" "$dir/build/tests/lib" "$dir/build/tests/e2e" "$dir/e2e" "$dir/tmp"
	cp "$build/loader/ubpf-run" "$dir/build/loader/"
	cp "$build"/tests/lib/ubpf-* "$build/tests/lib/residue" "$dir/build/tests/lib/"
	cp "$build"/tests/e2e/*.bpf.o "$dir/build/tests/e2e/"
	cp "$here"/*.sh "$dir/e2e/"
	chmod -R a+rX "$dir"
	chmod 1777 "$dir/tmp"
	"$dir/build/tests/lib/ubpf-victim" -q -t 1 -n 1 >/dev/null 2>&1 && break
	rm -rf "$dir"
	dir=
done
[ -n "$dir" ] || { echo "skip: no directory that programs of an ordinary user can run from"; exit 77; }
trap 'rm -rf "$dir"' EXIT

cd "$dir" || exit 1
setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
	env -u XDG_RUNTIME_DIR -u SUDO_USER HOME="$dir/tmp" TMPDIR="$dir/tmp" UBPF_BUILD="$dir/build" \
	bash "$dir/e2e/$1" userspace
