package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// round stands in for a test, for what the tests' own tools start and clean up. What
// it does not define must not be called.
type round struct {
	testing.TB
	name   string
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // guards the following
	cleanups []func()
	text     string // why it failed
}

func begin(name string) *round {
	r := &round{name: name}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// sub is a round whose processes are found by the name of this one, too.
func (r *round) sub(name string) *round { return begin(r.name + "/" + name) }

// try runs f, which may give up by Fatal, and returns why it did.
func (r *round) try(f func()) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	return r.why()
}

// why is what the round failed of, or nothing.
func (r *round) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}

// measure is one round from its beginning to its end.
func (r *round) measure(provoke func(*round) []float64) (values []float64, text string) {
	defer r.end()
	text = r.try(func() { values = provoke(r) })
	return values, text
}

// end cleans up, the latest first.
func (r *round) end() {
	r.cancel()
	r.try(func() {
		for {
			r.mu.Lock()
			n := len(r.cleanups)
			if n == 0 {
				r.mu.Unlock()
				return
			}
			last := r.cleanups[n-1]
			r.cleanups = r.cleanups[:n-1]
			r.mu.Unlock()
			last()
		}
	})
}

// The following are what package testing promises of them.

func (r *round) Name() string             { return r.name }
func (r *round) Helper()                  {}
func (r *round) Context() context.Context { return r.ctx }
func (r *round) Log(...any)               {}
func (r *round) Logf(string, ...any)      {}

func (r *round) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *round) Failed() bool { return r.why() != "" }

func (r *round) Error(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.text == "" {
		r.text = fmt.Sprint(args...)
	}
}

func (r *round) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }

func (r *round) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *round) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }
