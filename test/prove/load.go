// Goroutines that sort, allocate and call deep, so that stacks grow, system stacks run and the collector works.
package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

type node struct {
	left, right *node
	value       int
}

func build(depth int) *node {
	if depth == 0 {
		return &node{value: depth}
	}
	return &node{build(depth - 1), build(depth - 1), depth}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.left.sum() + n.right.sum() + n.value
}

func words(n int) int {
	parts := make([]string, 0, n)
	for i := 0; i < n; i++ {
		parts = append(parts, fmt.Sprintf("%d-%s", i*7919%n, strconv.Itoa(i)))
	}
	sort.Strings(parts)
	return len(strings.Join(parts, ","))
}

func main() {
	seconds, _ := strconv.Atoi(os.Args[1])
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var wait sync.WaitGroup
	for i := 0; i < 4; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			total := 0
			for time.Now().Before(end) {
				total += build(14).sum() + words(2000)
			}
			if total == 42 {
				fmt.Println(total)
			}
		}()
	}
	wait.Wait()
}
