// SPDX-License-Identifier: MIT
// Counts calls of a function in an array map, the way programs on cilium/ebpf do it.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	pid, err := strconv.Atoi(os.Args[3])
	check(err)
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Name: "counts", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	check(err)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "count", Type: ebpf.Kprobe, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, 0),
			asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, counts.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		},
	})
	check(err)
	exe, err := link.OpenExecutable(os.Args[1])
	check(err)
	up, err := exe.Uprobe(os.Args[2], prog, &link.UprobeOptions{PID: pid})
	check(err)
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	check(err)
	check(up.Close())
	var n uint64
	check(counts.Lookup(uint32(0), &n))
	fmt.Println("calls:", n)
}
