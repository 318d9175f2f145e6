package procs

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// awake is the role of the process that KeepAwake starts.
const awake = "awake"

// KeepAwake keeps every processor at work, at a priority that gives way to all else at
// once, until g is stopped. An idle virtual processor goes back to the hypervisor,
// which may lend it to others and be milliseconds late to return it: with many short
// wake-ups that is what a benchmark of waiting would measure. What is left of it then
// is like hardware, where a wake-up takes microseconds.
func (g *Group) KeepAwake(ctx context.Context) error {
	_, err := g.Role(ctx, awake)
	return err
}

// stayAwake is that process.
func stayAwake(ctx context.Context) error {
	ctx, _ = Told(ctx)
	if err := idlePriority(); err != nil {
		return err
	}
	fmt.Println("ready")
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil { // the work itself
			}
		})
	}
	wg.Wait()
	return nil
}

// idlePriority gives all threads of this process what the processors have left over;
// threads that they start inherit it.
func idlePriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
			return fmt.Errorf("give thread %d idle priority (AWAKE=no does without): %w", id, err)
		}
	}
	return nil
}
