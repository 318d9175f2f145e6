package exec

import (
	"context"
	"runtime"
)

// Run forks on behalf of Handle until ctx ends. Linux ties the parent-death signal
// to the thread that forked, so that thread must live as long as the worker: this
// goroutine never leaves it.
func (s *Service) Run(ctx context.Context) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for {
		select {
		case st := <-s.starts:
			st.done <- st.cmd.Start()
		case <-ctx.Done():
			return nil
		}
	}
}
