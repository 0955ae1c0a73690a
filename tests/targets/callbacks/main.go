// C threads that come to Go's code without a goroutine, by callbacks and by signals.
package main

/*
#cgo CFLAGS: -O2
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

extern long next(long);
static volatile int ends;

static void *call(void *arg)
{
	long sum = 0;

	for (long i = 0; i < 50; i++)
		sum += next(i);
	return (void *)sum;
}

static void *spin(void *arg)
{
	while (!ends)
		;
	return arg;
}

static long callbacks(void)
{
	pthread_t threads[4];
	void *sum;
	long all = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, call, 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &sum);
		all += (long)sum;
	}
	return all;
}

static void signals(int number)
{
	pthread_t thread;

	ends = 0;
	pthread_create(&thread, 0, spin, 0);
	for (int i = 0; i < 200; i++) {
		pthread_kill(thread, number);
		usleep(20);
	}
	ends = 1;
	pthread_join(thread, 0);
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

//export next
func next(n C.long) C.long { return n + 1 }

func main() {
	received := make(chan os.Signal, 1000)
	signal.Notify(received, syscall.SIGUSR1)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		for i := 0; i < 5; i++ {
			fmt.Println(C.callbacks())
		}
		for _, number := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGPROF, syscall.SIGURG} {
			C.signals(C.int(number))
		}
		<-received
		fmt.Println("done")
	}
}
