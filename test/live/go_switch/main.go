// Asks for the system stack and does nothing there, so that many samples are taken right before and behind the change of stacks.
package main

import "time"

func nothing()
func switches(n int)

//go:noinline
func ask(n int) {
	switches(n)
}

func main() {
	start := time.Now()
	for time.Since(start) < 2*time.Second {
		ask(100000)
	}
}
