package exec

import (
	"context"
	"runtime"
	"sync"
)

// Run forks on behalf of Handle, and keeps the programs that stay, until ctx ends.
// Linux ties the parent-death signal to the thread that forked, so that thread must
// live as long as the worker: this goroutine never leaves it.
func (s *Service) Run(ctx context.Context) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	over := make(chan struct{})
	var places sync.WaitGroup
	if s.cfg.Persistent {
		for range s.cfg.Children {
			places.Go(func() { s.keep(ctx) })
		}
	}
	go func() {
		<-ctx.Done()
		places.Wait()
		close(over)
	}()
	for {
		select {
		case st := <-s.starts:
			st.done <- st.cmd.Start()
		case <-over:
			return nil
		}
	}
}
