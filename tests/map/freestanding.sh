#!/bin/sh
# SPDX-License-Identifier: MIT
# freestanding.sh CC SOURCE_DIR FILE...: compiles what programs call as the agent is compiled, links it
# without any library, and checks that nothing is undefined, that no data needs relocating, and that no
# vector register is used.
set -eu

cc=$1
src=$2
shift 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

objects=
for file in "$@"; do
	case $file in
	*/userspace-vm/*) ;;
	*) continue ;;
	esac
	object=$dir/$(echo "$file" | tr / _).o
	"$cc" -c -std=gnu17 -O2 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -D_GNU_SOURCE \
		-I"$src/userspace-vm" -ffreestanding -nostdlib -fPIC -mgeneral-regs-only \
		-fno-jump-tables -fno-stack-protector -fno-strict-aliasing -fvisibility=hidden \
		-fno-asynchronous-unwind-tables -fcf-protection=none -o "$object" "$file"
	objects="$objects $object"
done

# shellcheck disable=SC2086
"$cc" -nostdlib -shared -Wl,--no-undefined -Wl,-Bsymbolic -Wl,-z,noexecstack -o "$dir/agent.so" $objects

fail=0
if nm -u "$dir/agent.so" | grep -v ' [wv] '; then
	echo "undefined symbols remain"
	fail=1
fi
# shellcheck disable=SC2086
if objdump -h $objects | grep -E ' \.(data|bss|tdata|tbss|data\.rel[^ ]*) +0*[1-9a-f]'; then
	echo "code that runs in targets has writable data"
	fail=1
fi
if readelf -rW "$dir/agent.so" | grep R_X86_64; then
	echo "relocations remain"
	fail=1
fi
if objdump -d "$dir/agent.so" | grep -E '%[xyz]mm'; then
	echo "vector registers are used"
	fail=1
fi
size "$dir/agent.so"
exit $fail
