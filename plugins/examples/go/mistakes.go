// Unintended failures of Go code. The host's tests check the error message of each.
package export_tidemill_job_job

import (
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
)

type stockError struct{ left int }

func (e stockError) Error() string { return fmt.Sprintf("%d bolts left", e.left) }

func makeMistake(name string) result {
	switch name {
	case "nil-map":
		var bolts map[string]int
		bolts["m4"] = 1
	case "nil-pointer":
		var stock *stockError
		stock.left++
	case "index":
		return resolved(fmt.Sprint([]int{}[len(name)]))
	case "divide":
		return resolved(fmt.Sprint(1 / (len(name) - 6)))
	case "text":
		panic("no bolts left")
	case "error":
		panic(errors.New("no bolts left"))
	case "own-error":
		panic(stockError{0})
	case "two-lines":
		panic("first line\nsecond line")
	case "wrapped":
		panic(fmt.Errorf("cannot order: %w", stockError{0}))
	case "again":
		defer func() { panic(fmt.Sprint("while recovering from: ", recover())) }()
		panic("no bolts left")
	case "log":
		log.Fatal("no bolts left")
	case "exit":
		fmt.Fprintln(os.Stderr, "out of paper")
		os.Exit(3)
	case "deadlock":
		var waits sync.WaitGroup
		waits.Add(1)
		waits.Wait()
	case "recursion":
		return makeMistake(name)
	}
	panic("no mistake is called " + name)
}
