#!/bin/sh
# ubpf-run vm: programs as hex on stdin, r0 in hex on stdout. $1 = the ubpf-run binary.
run=$1
# expect runs in subshells: what failed is remembered in a file.
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# expect NAME STATUS OUTPUT ARGUMENTS... : stdin is the program
expect() {
	name=$1 status=$2 output=$3
	shift 3
	got=$("$run" vm "$@" 2>&1)
	code=$?
	case $got in
	*"$output"*) ;;
	*) code="$code, '$got'" ;;
	esac
	if [ "$code" != "$status" ]; then
		echo "FAIL $name: $code; expected $status with '$output'"
		: >"$dir/failed"
	fi
}

answer="b70000002a000000 9500000000000000"	# r0 = 42; exit
load="7110010000000000 9500000000000000"	# r0 = *(u8 *)(r1 + 1); exit
length="bf20000000000000 9500000000000000"	# r0 = r2; exit
wild="7910000000000000 9500000000000000"	# r0 = *(u64 *)(r1 + 0); exit

for engine in --interpret --jit; do
	echo "$answer" | expect "answer $engine" 0 2a $engine
	echo "$load" | expect "load $engine" 0 bb $engine aabbcc
	echo "$length" | expect "length $engine" 0 3 $engine "aa bb cc"
	echo "b700000000000000" | expect "no exit $engine" 1 "insn 0: last insn is not an exit or jmp" $engine
	echo "ff00000000000000 9500000000000000" | expect "opcode $engine" 1 "insn 0: unknown opcode ff" $engine
	echo "b700" | expect "truncated $engine" 1 "truncated" $engine
	echo "xyz" | expect "no hex $engine" 1 "not a hex digit" $engine
	expect "empty $engine" 1 "no instructions" $engine </dev/null
done
echo "$answer" | expect "default engine" 0 2a
echo "$wild" | expect "out of bounds" 1 "insn 0: read of 8 bytes at 0x0 is out of bounds" --interpret
echo "$wild" | expect "crash" 1 "the program crashed" --jit
for engine in --interpret --jit; do	# a helper that is given an address of nobody's
	echo "b701000000000100 8500000001000000 9500000000000000" |
		expect "wild helper $engine" 1 "the program crashed" $engine
done
recursion="85100000ffffffff 9500000000000000"
echo "$recursion" | expect "recursion" 1 "insn 0: more than 8 frames deep" --interpret
echo "$recursion" | expect "recursion, compiled" 1 "the program crashed" --jit
echo "$answer" | expect "dump" 0 "mov eax" --dump-jit
echo "$answer" | expect "disassemble" 0 "0: (b7) r0 = 42" --disassemble
printf 'b700\0' | expect "no text" 1 'not a hex digit: \x00'
echo "$answer" | expect "unknown option" 2 "unrecognized option" --foo
echo "0500ff7f00000000 9500000000000000" | expect "far jump" 1 "insn 0: jump out of range"
echo "0500010000000000 180000000100000000000000 00000000 9500000000000000" |
	expect "into an immediate" 1 "insn 0: jump into the middle of ldimm64 insn 2"
echo "$answer" | expect "two memories" 2 "only one MEMORY_HEX" 00 11
if [ -e /dev/full ] && echo "$answer" | "$run" vm >/dev/full 2>"$dir/full"; then
	echo "FAIL a result that could not be written is a success"
	: >"$dir/failed"
fi

clang=$(command -v clang-19 || command -v clang-14 || command -v clang)
if [ -n "$clang" ]; then
	object=$dir/object.o
	printf '%s\n' 'static __attribute__((noinline)) unsigned long twice(unsigned long x) { return 2 * x; }' \
		'unsigned long entry(unsigned char *memory) { return twice(memory[0]) + 1; }' |
		"$clang" -O1 -target bpf -mcpu=v3 -x c -c -o "$object" - || exit 1
	for engine in --interpret --jit; do
		od -An -v -tx1 "$object" | tr -d ' \n' | expect "elf $engine" 0 b $engine --elf 05
	done
fi
[ -e "$dir/failed" ] && exit 1
echo "all as expected"
