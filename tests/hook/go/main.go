// Goroutines that call, recurse until their stacks grow, and are preempted: a program to hook.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

//go:noinline
func Leaf(n int) int { return n + 1 }

//go:noinline
func Grow(n int) int {
	var pad [64]int
	if n == 0 {
		return Leaf(pad[n])
	}
	pad[n%64] = n
	return Grow(n-1) + pad[n%64] - n
}

type Pair struct {
	a [20]int
	b int
}

//go:noinline
func (p *Pair) B() int { return p.b }

// Follows p well inside.
//
//go:noinline
func (p *Pair) Sum(n int) int {
	if n > 1 {
		n = Leaf(n) - 1
	}
	return p.b + n
}

// Recovers from a nil pointer that @method follows, and finds that on the stack.
func nilIsCaught(method string, call func(*Pair)) (caught bool) {
	defer func() {
		var pcs [20]uintptr
		frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			caught = caught || strings.HasSuffix(frame.Function, method)
		}
		caught = recover() != nil && caught
	}()
	var p *Pair
	call(p)
	return
}

func main() {
	var group sync.WaitGroup
	stop := time.Now().Add(20 * time.Second)
	if len(os.Args) > 1 {
		go func() { // ends when its input does
			var b [1]byte
			os.Stdin.Read(b[:])
			stop = time.Now()
		}()
	}
	fmt.Println("ready")
	bad := 0
	for time.Now().Before(stop) {
		for i := 0; i < 8; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for k := 0; k < 50; k++ {
					if Grow(200) != 1 {
						bad++
					}
					if !nilIsCaught("Pair).B", func(p *Pair) { p.B() }) || (&Pair{b: 2}).B() != 2 {
						bad++
					}
					if !nilIsCaught("Pair).Sum", func(p *Pair) { p.Sum(k) }) || (&Pair{b: 2}).Sum(k) != 2+k {
						bad++
					}
					runtime.Gosched()
				}
			}()
		}
		group.Wait()
	}
	fmt.Println("bad", bad)
}
