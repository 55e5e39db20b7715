// Goroutines and garbage collection, then an HTTP server at the port that is the argument.
package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"
)

func main() {
	var wait sync.WaitGroup
	numbers := make(chan int, 10)
	for i := 0; i < 1000; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			time.Sleep(time.Millisecond)
			numbers <- i
		}(i)
	}
	go func() {
		wait.Wait()
		close(numbers)
	}()
	sum := 0
	for n := range numbers {
		sum += n
		_ = make([]byte, 100_000)
	}
	runtime.GC()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "sum %d\n", sum)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+os.Args[1], nil))
}
