// Goroutines that call, recurse until their stacks grow, and are preempted: a program to hook.
package main

import (
	"fmt"
	"os"
	"runtime"
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
					runtime.Gosched()
				}
			}()
		}
		group.Wait()
	}
	fmt.Println("bad", bad)
}
