// Goroutines whose stacks grow and shrink under probed functions, are preempted and collected: the protocol of victim.h.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	goroutines = 8
	depth      = 300
)

var entered, returned atomic.Int64

//go:noinline
func next(n int) int { return n + 1 }

// Not the smallest possible function: a jump does not fit in there.
//
//go:noinline
func probed_calls(n int) int { return 2*next(n) - 1 }

// A frame of half a kilobyte: a stack doubles several times on the way down.
//
//go:noinline
func probed_grow(n int) int {
	var pad [64]int

	if n == 0 {
		return probed_calls(pad[n])
	}
	pad[n%64] = n
	return probed_grow(n-1) + pad[n%64] - n
}

//go:noinline
func probed_recovers(n int) (result int) {
	defer func() {
		recover()
		result = n
	}()
	probed_panics(n)
	return -1
}

//go:noinline
func probed_panics(n int) int {
	if n >= 0 {
		panic("as it should")
	}
	return n
}

func check(ok bool, what string) {
	if !ok {
		fmt.Fprintln(os.Stderr, what, "is wrong")
		os.Exit(1)
	}
}

// Makes garbage, and calls everything; a goroutine starts with a small stack each time.
func work() {
	var group sync.WaitGroup

	for g := 0; g < goroutines; g++ {
		group.Add(1)
		go func(g int) {
			var garbage []string

			defer group.Done()
			for i := 0; i < 5; i++ {
				entered.Add(depth + 2)
				returned.Add(depth + 2)
				check(probed_grow(depth) == 1, "probed_grow")
				entered.Add(2)
				returned.Add(1)
				check(probed_recovers(i) == i, "probed_recovers")
				garbage = append(garbage, strings.Repeat("x", 1000*g))
				runtime.Gosched()
			}
		}(g)
	}
	group.Wait()
}

func main() {
	input := bufio.NewReader(os.Stdin)

	fmt.Println("ready")
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		rounds, _ := strconv.Atoi(strings.TrimSpace(line))
		entered.Store(0)
		returned.Store(0)
		if rounds > 0 {
			for ; rounds > 0; rounds-- {
				work()
			}
		} else {
			var stop atomic.Bool

			go func() {
				input.ReadString('\n')
				stop.Store(true)
			}()
			for !stop.Load() {
				work()
			}
		}
		// Whoever finds its stack too small enters again.
		fmt.Println(entered.Load(), returned.Load(), entered.Load())
	}
}
