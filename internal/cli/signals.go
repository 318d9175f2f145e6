package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals are what the process was sent while a command runs.
type signals struct {
	came chan os.Signal
	quit context.CancelFunc

	mu sync.Mutex
	// mu guards the following.
	caught  syscall.Signal // that ended the command; 0: none
	hangups chan struct{}  // nil: SIGHUP ends the command, too
}

type signalsKey struct{}

// Hangups makes SIGHUP mean "read your configuration again", as it does for
// daemons, from now until the command ends: the channel then gets one value for it
// (one for several, if they come faster than they are taken). ctx is a command's.
func Hangups(ctx context.Context) <-chan struct{} {
	s, ok := ctx.Value(signalsKey{}).(*signals)
	if !ok {
		return nil // a test without Run: nobody is told
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hangups == nil {
		s.hangups = make(chan struct{}, 1)
		signal.Notify(s.came, syscall.SIGHUP)
	}
	return s.hangups
}

// untilSignal returns a context that ends with a signal to end, and a func that
// says which one came (0: none). Its goroutine ends with stop.
func untilSignal(parent context.Context) (ctx context.Context, caught func() syscall.Signal, stop func()) {
	inner, cancel := context.WithCancel(parent)
	s := &signals{came: make(chan os.Signal, 1), quit: cancel}
	signal.Notify(s.came, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.came, syscall.SIGHUP)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watch(inner)
	}()
	return context.WithValue(inner, signalsKey{}, s), s.ended, func() { cancel(); signal.Stop(s.came); <-done }
}

// watch waits for the signal that ends the command.
func (s *signals) watch(ctx context.Context) {
	for {
		select {
		case sig := <-s.came:
			if s.take(sig) {
				signal.Stop(s.came) // the next one has its default effect
				s.quit()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// take says whether sig ends the command.
func (s *signals) take(sig os.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == syscall.SIGHUP && s.hangups != nil {
		select {
		case s.hangups <- struct{}{}:
		default: // one is told already
		}
		return false
	}
	s.caught, _ = sig.(syscall.Signal)
	return true
}

func (s *signals) ended() syscall.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caught
}
