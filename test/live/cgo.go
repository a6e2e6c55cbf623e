// C called from Go, and Go called back from there, on two stacks: for go_stacks.py.
package main

/*
#include <stdint.h>
static __attribute__((noinline)) uint64_t burn(uint64_t n) { volatile uint64_t x = n; for (uint64_t i = 0; i < 20000000; i++) x = x * 31 + i; return x; }
static __attribute__((noinline)) uint64_t c_outer(uint64_t n) { uint64_t r = burn(n); __asm__ volatile("" ::: "memory"); return r + 1; }
extern uint64_t goBack(uint64_t);
static __attribute__((noinline)) uint64_t c_calls_go(uint64_t n) { uint64_t r = goBack(n); __asm__ volatile("" ::: "memory"); return r + 1; }
*/
import "C"
import "time"

//go:noinline
func spin(n uint64) uint64 { x := n; for i := uint64(0); i < 20000000; i++ { x = x*31 + i }; return x }

//export goBack
func goBack(n C.uint64_t) C.uint64_t { return C.uint64_t(spin(uint64(n))) }

//go:noinline
func inner(n uint64) uint64 { return uint64(C.c_outer(C.uint64_t(n))) }
//go:noinline
func outer(n uint64) uint64 { return inner(n) + uint64(C.c_calls_go(C.uint64_t(n))) }

func main() {
	end := time.Now().Add(4 * time.Second)
	var x uint64
	for time.Now().Before(end) { x += outer(x) }
	go func() {}()
	_ = x
}
