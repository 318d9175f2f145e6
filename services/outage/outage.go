// Package outage says in a log that something a service needs has failed and, later,
// that it works again: each once, however many requests notice.
//
// Start at Outage.
package outage

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Outage is one thing that may fail. Any goroutine may use it.
type Outage struct {
	log          hclog.Logger
	fails, works string

	mu    sync.Mutex
	since time.Time // zero: all is well; guarded by mu
}

// New returns an Outage that says fails, with the error, when it begins, and works,
// with how long it took, when it is over.
func New(log hclog.Logger, fails, works string) *Outage {
	return &Outage{log: log, fails: fails, works: works}
}

// Began notes a failure.
func (o *Outage) Began(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.log.Warn(o.fails, "error", err)
	}
}

// Over notes a success.
func (o *Outage) Over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.log.Info(o.works, "after", time.Since(o.since))
		o.since = time.Time{}
	}
}
