package procs

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All that runs in the process has the priority that gives way to everything.
func TestKeepAwake(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var g Group
	defer g.Stop()
	if err := g.KeepAwake(ctx); err != nil {
		t.Fatal(err)
	}
	p := g.procs[0]
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		switch attr, err := unix.SchedGetAttr(id, 0); {
		case err != nil:
			t.Error(err)
		case attr.Policy != unix.SCHED_IDLE:
			t.Errorf("thread %d has policy %d", id, attr.Policy)
		}
	}
	for cpu := time.Duration(0); cpu < 50*time.Millisecond; { // it is at work
		if cpu, err = p.CPU(); err != nil || ctx.Err() != nil {
			t.Fatalf("used %v so far: %v, %v", cpu, err, ctx.Err())
		}
	}
}
