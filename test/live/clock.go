// Goroutines that look at the clock all the time, which calls the vDSO on a stack of its own, while signals come.
package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

//go:noinline
func clock(n int) (sum int64) {
	for i := 0; i < n; i++ {
		sum += time.Now().UnixNano()
	}
	return sum
}

//go:noinline
func since(start time.Time, n int) (sum time.Duration) {
	for i := 0; i < n; i++ {
		sum += time.Since(start)
	}
	return sum
}

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
		}
	}()
	go func() {
		for {
			for i := 0; i < 200; i++ {
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	start := time.Now()
	for time.Since(start) < 3*time.Second {
		clock(1000)
		since(start, 1000)
	}
}
